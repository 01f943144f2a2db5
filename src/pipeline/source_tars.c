/* SPDX-License-Identifier: Apache-2.0 */
/* source_tars.c - tar shards of pictures as a source, as img2dataset writes them: KEY.jpg with
 * KEY.txt and KEY.json. Shards that end early give what stands before; a key without a picture is
 * no entry. */
#include "pipeline/sources_internal.h"

#include "io/json.h"
#include "io/tar.h"
#include "data/dataset.h"

#include <string.h>

enum { MAX_PICTURE_BYTES = 1 << 30, MAX_JSON_BYTES = 4 << 20 };

typedef struct tars {
    cn_dataset *d;
    char caption[1024]; /* of pictures without */
} tars;

static cn_status open_tars(cn_ctx *ctx, const cn_prepare_options *o, cn_source *s)
{
    tars *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    s->own = t;
    CN_TRY(cn_format(ctx, t->caption, sizeof t->caption, "%s", o->caption ? o->caption : ""));
    const cn_dataset_options d = {.dir = s->text,
                                  .conditioning_image_column = "",
                                  .skip_bad = true,
                                  .problem = o->problem,
                                  .problem_user = o->user};
    CN_TRY(cn_dataset_open(ctx, &d, &t->d));
    s->n = t->d->n;
    return CN_OK;
}

static void close_tars(cn_source *s)
{
    tars *t = s->own;
    if (t) cn_dataset_close(t->d);
    cn_free(t);
    s->own = NULL;
}

/* Up to the first dot behind the last '/'. */
static void cut_ending(char *name)
{
    char *slash = strrchr(name, '/');
    char *dot = strchr(slash ? slash + 1 : name, '.');
    if (dot) *dot = 0;
}

static cn_status read_json(cn_ctx *ctx, const cn_dataset_file *file, cn_entry *out)
{
    char *text = NULL;
    size_t n = 0;
    if (!file->path) return CN_OK;
    CN_TRY(cn_tar_read(ctx, file->path, file->position, MAX_JSON_BYTES, NULL, &text, &n));
    const cn_status s = cn_json_load_memory(ctx, "its .json member", text, n, &out->json);
    cn_free(text);
    return s;
}

/* The .txt member, else what the .json says, else the caption for those without. */
static cn_status set_caption(cn_ctx *ctx, const tars *t, char *prompt, cn_entry *out)
{
    const char *text = prompt && *prompt ? prompt : NULL;
    if (!text) text = cn_json_str(out->json, "caption", NULL);
    if (!text) text = cn_json_str(out->json, "text", NULL);
    out->captioned = text != NULL;
    return (out->caption = cn_strdup(ctx, text ? text : t->caption)) ? CN_OK : CN_ENOMEM;
}

static cn_status read_members(cn_ctx *ctx, const tars *t, cn_dataset_item *item, cn_entry *out)
{
    CN_TRY(cn_tar_read(ctx, item->target.path, item->target.position, MAX_PICTURE_BYTES, &out->name,
                       &out->bytes, &out->n_bytes));
    cut_ending(out->name);
    out->stem = strlen(out->name);
    CN_TRY(read_json(ctx, &item->condition, out));
    return set_caption(ctx, t, item->prompt, out);
}

static cn_status get_member(cn_ctx *ctx, const cn_source *s, int64_t i, cn_entry *out)
{
    const tars *t = s->own;
    cn_dataset_item item = {0};
    CN_TRY(cn_dataset_get(ctx, t->d, i, true, &item));
    out->where = cn_strdup(ctx, item.where);
    const cn_status status = out->where ? read_members(ctx, t, &item, out) : CN_ENOMEM;
    cn_dataset_item_free(&item);
    return status;
}

const cn_source_kind cn_source_tars = {.name = "webdataset",
                                       .detect = cn_dataset_is_shards,
                                       .open = open_tars,
                                       .get = get_member,
                                       .close = close_tars};
