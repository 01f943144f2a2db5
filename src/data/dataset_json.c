/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_json.c - pairs named by the elements of one JSON list: a prompt.json in Fill50K's columns
 * that was written whole, [{"source": ..., "target": ..., "prompt": ...}, ...]. */
#include "data/dataset_layouts.h"
#include "io/json_parts.h"

#include <string.h>

/* Lines of objects begin with a brace, a list with a bracket. */
static bool begins_with_bracket(const char *path)
{
    char *head = NULL;
    size_t n = 0;
    if (cn_file_read_head(NULL, path, 256, &head, &n) != CN_OK) return false;
    size_t i = n >= 3 && !memcmp(head, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (i < n && head[i] && strchr(" \t\r\n", head[i])) i++;
    const bool list = i < n && head[i] == '[';
    cn_free(head);
    return list;
}

typedef struct walk {
    cn_dataset *d;
    cn_dataset_faults *faults;
    int64_t number;
} walk;

static cn_status take_element(void *user, cn_ctx *ctx, const json_t *element, uint64_t offset,
                              uint32_t bytes)
{
    walk *w = user;
    const cn_dataset_list *l = w->d->own;
    const cn_dataset_place place = {++w->number, (int64_t)offset, bytes};
    char where[CN_PATH_BYTES + 32];
    cn_dataset_item item = {0};
    cn_status s = cn_dataset_list_where(ctx, w->d, place.number, where);
    if (s == CN_OK) s = cn_dataset_item_from_json(ctx, &l->names, where, element, &item);
    return cn_dataset_list_take(ctx, w->d, w->faults, &place, s, &item);
}

static cn_status scan(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *f)
{
    cn_json_parts *parts = NULL;
    walk w = {d, f, 0};
    CN_TRY(cn_json_parts_open(ctx, d->list, &parts));
    cn_status s = cn_json_parts_each(ctx, parts, NULL, take_element, &w, NULL);
    if (s == CN_EFORMAT) s = cn_fail_prefix(ctx, s, "%s", d->list);
    cn_json_parts_close(parts);
    return s;
}

const cn_dataset_layout cn_dataset_json = {
    .name = "json",
    .expected = "prompt.json (a list of objects with source, target, prompt)",
    .lists = {"prompt.json"},
    .reads = begins_with_bracket,
    .columns = {"source", "target", "prompt", NULL},
    .before_number = ": pair ",
    .scan = scan,
    .parse = cn_dataset_parse_json,
    .open = cn_dataset_list_open,
    .get = cn_dataset_list_get,
    .close = cn_dataset_list_close};
