/* SPDX-License-Identifier: Apache-2.0 */
/* sources.c - see sources_internal.h. */
#include "pipeline/sources_internal.h"

#include <string.h>

/* In the order in which they are looked for; the last one takes whatever is left. */
static const cn_source_kind *const kinds[] = {&cn_source_scenes, &cn_source_circles,
                                              &cn_source_tars, &cn_source_folder};

void cn_entry_free(cn_entry *e)
{
    cn_free(e->name);
    cn_free(e->where);
    cn_free(e->caption);
    cn_free(e->bytes);
    cn_image_destroy(e->image);
    json_decref(e->json);
    *e = (cn_entry){0};
}

static const cn_source_kind *find_kind(const char *text)
{
    size_t i = 0;
    while (i + 1 < CN_COUNT(kinds) && !kinds[i]->detect(text)) i++;
    return kinds[i];
}

bool cn_source_is_folder(const char *text)
{
    return find_kind(text) == &cn_source_folder;
}

static cn_status open_source(cn_ctx *ctx, const cn_prepare_options *o, const char *text,
                             cn_source *s)
{
    s->kind = find_kind(text);
    CN_TRY(cn_format(ctx, s->text, sizeof s->text, "%s", text));
    return s->kind->open(ctx, o, s);
}

cn_status cn_sources_open(cn_ctx *ctx, const cn_prepare_options *o, cn_sources *out)
{
    cn_status s = CN_OK;
    *out = (cn_sources){0};
    for (const char *const *text = o->sources; s == CN_OK && text && *text; text++) {
        if (out->count == CN_MAX_SOURCES) {
            s = cn_fail(ctx, CN_EINVAL, "more than %d sources", CN_MAX_SOURCES);
            break;
        }
        s = open_source(ctx, o, *text, &out->list[out->count]);
        out->n += out->list[out->count++].n;
    }
    if (s == CN_OK && !out->count)
        s = cn_fail(ctx, CN_EINVAL,
                    "no source of pictures: a folder, tar shards, \"scenes:N\" or \"circles:N\" is "
                    "expected");
    if (s != CN_OK) cn_sources_close(out);
    return s;
}

void cn_sources_close(cn_sources *s)
{
    for (int i = 0; i < s->count; i++) s->list[i].kind->close(&s->list[i]);
    *s = (cn_sources){0};
}

const cn_source *cn_sources_find(const cn_sources *s, int64_t i, int64_t *within)
{
    int k = 0;
    while (k + 1 < s->count && i >= s->list[k].n) i -= s->list[k++].n;
    *within = i;
    return &s->list[k];
}

int cn_sources_exact(const cn_sources *s, const char *name)
{
    int found = -1;
    for (int k = 0; k < s->count; k++) {
        const cn_source_kind *kind = s->list[k].kind;
        if (kind != s->list[0].kind || !kind->find_exact) return -1;
        found = kind->find_exact(name);
    }
    return found;
}
