/* SPDX-License-Identifier: Apache-2.0 */
/* sources.c - see sources_internal.h. */
#include "pipeline/sources_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_WEIGHT = 1000 };

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

/* The next of a list "1,0.5,2", which ends with the last source. */
static cn_status take_weight(cn_ctx *ctx, const char *list, const char **rest, bool last, double *x)
{
    char *end = NULL;
    *x = **rest ? strtod(*rest, &end) : 0;
    const bool number = end && end != *rest && *x > 0 && *x <= MAX_WEIGHT;
    if (!number || *end != (last ? 0 : ','))
        return cn_fail(ctx, CN_EINVAL,
                       "source weights \"%s\": a number above 0, %d at most, is expected for each "
                       "source (1,0.5,2)",
                       list, MAX_WEIGHT);
    *rest = last ? end : end + 1;
    return CN_OK;
}

static cn_status weigh(cn_ctx *ctx, const cn_prepare_options *o, cn_sources *out)
{
    const char *rest = o->source_weights;
    out->n = 0;
    for (int k = 0; k < out->count; k++) {
        cn_source *s = &out->list[k];
        double x = 1;
        if (rest) CN_TRY(take_weight(ctx, o->source_weights, &rest, k + 1 == out->count, &x));
        s->taken = s->n ? CN_MAX(1, __builtin_llrint((double)s->n * x)) : 0;
        out->n += s->taken;
    }
    return CN_OK;
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
        s = open_source(ctx, o, *text, &out->list[out->count++]);
    }
    if (s == CN_OK && !out->count)
        s = cn_fail(ctx, CN_EINVAL,
                    "no source of pictures: a folder, tar shards, \"scenes:N\" or \"circles:N\" is "
                    "expected");
    if (s == CN_OK) s = weigh(ctx, o, out);
    if (s != CN_OK) cn_sources_close(out);
    return s;
}

void cn_sources_close(cn_sources *s)
{
    for (int i = 0; i < s->count; i++) s->list[i].kind->close(&s->list[i]);
    *s = (cn_sources){0};
}

cn_source_place cn_sources_find(const cn_sources *s, int64_t i)
{
    int k = 0;
    while (k + 1 < s->count && i >= s->list[k].taken) i -= s->list[k++].taken;
    const cn_source *from = &s->list[k];
    /* of some of its pictures those that lie evenly between the others */
    const int64_t number = from->taken < from->n
                               ? (int64_t)((double)i * (double)from->n / (double)from->taken)
                               : i % from->n;
    return (cn_source_place){from, number, i / from->n};
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
