/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_jsonl.c - pairs named by JSON lines: Fill50K's prompt.json, and Hugging Face's
 * metadata.jsonl or train.jsonl. */
#include "data/dataset_layouts.h"
#include "io/json.h"

static cn_status scan(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *f)
{
    const cn_dataset_list *l = d->own;
    cn_jsonl *lines = NULL;
    CN_TRY(cn_jsonl_open(ctx, d->list, &lines));
    cn_status s = CN_OK;
    while (s == CN_OK) {
        char where[CN_PATH_BYTES + 32];
        cn_dataset_place place;
        json_t *object = NULL;
        cn_dataset_item item = {0};
        s = cn_jsonl_next(ctx, lines, &object);
        if (s == CN_OK && !object) break;
        cn_jsonl_span(lines, &place.begin, &place.bytes);
        place.number = cn_jsonl_line(lines);
        if (s == CN_OK) s = cn_dataset_list_where(ctx, d, place.number, where);
        if (s == CN_OK) s = cn_dataset_item_from_json(ctx, &l->names, where, object, &item);
        json_decref(object);
        s = cn_dataset_list_take(ctx, d, f, &place, s, &item);
    }
    cn_jsonl_close(lines);
    return s;
}

const cn_dataset_layout cn_dataset_fill50k = {.name = "fill50k",
                                              .expected = "prompt.json (lines of these)",
                                              .lists = {"prompt.json"},
                                              .columns = {"source", "target", "prompt", NULL},
                                              .before_number = ":",
                                              .scan = scan,
                                              .parse = cn_dataset_parse_json,
                                              .open = cn_dataset_list_open,
                                              .get = cn_dataset_list_get,
                                              .close = cn_dataset_list_close};

const cn_dataset_layout cn_dataset_imagefolder = {
    .name = "imagefolder",
    .expected = "metadata.jsonl (image, conditioning_image, text)",
    .lists = {"metadata.jsonl", "train.jsonl"},
    .columns = {"conditioning_image", "image", "text", "file_name"},
    .before_number = ":",
    .scan = scan,
    .parse = cn_dataset_parse_json,
    .open = cn_dataset_list_open,
    .get = cn_dataset_list_get,
    .close = cn_dataset_list_close};

cn_status cn_dataset_line_parse(cn_ctx *ctx, bool fill50k, const char *where, const char *json,
                                size_t n, cn_dataset_item *out)
{
    const cn_dataset_list l = {.names = fill50k ? cn_dataset_fill50k.columns
                                                : cn_dataset_imagefolder.columns};
    cn_dataset_item item = {.condition.position = -1, .target.position = -1};
    const cn_status s = cn_dataset_parse_json(ctx, &l, where, json, n, &item);
    if (s == CN_OK)
        *out = item;
    else
        cn_dataset_item_free(&item);
    return s;
}
