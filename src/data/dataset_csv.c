/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_csv.c - pairs named by the records of metadata.csv, whose first line names the columns.
 */
#include "data/dataset_layouts.h"
#include "io/csv.h"

#include <string.h>

static cn_status take_field(cn_ctx *ctx, const char *where, const cn_csv_record *r, int at,
                            const char *key, bool is_path, char **out)
{
    if (at >= r->n)
        return cn_fail(ctx, CN_EFORMAT, "%s: %d fields, \"%s\" is field %d", where, r->n, key,
                       at + 1);
    return cn_dataset_take_text(ctx, where, key, r->fields[at], strlen(r->fields[at]), is_path,
                                out);
}

static cn_status item_from_csv(cn_ctx *ctx, const cn_dataset_list *l, const char *where,
                               const cn_csv_record *r, cn_dataset_item *item)
{
    const cn_dataset_columns *c = &l->names;
    CN_TRY(take_field(ctx, where, r, l->condition_at, c->condition, true, &item->condition.path));
    CN_TRY(take_field(ctx, where, r, l->target_at, c->target, true, &item->target.path));
    return take_field(ctx, where, r, l->prompt_at, c->prompt, false, &item->prompt);
}

static int find_field(const cn_csv_record *head, const char *name, const char *other)
{
    char long_name[CN_DATASET_COLUMN_BYTES + 16];
    snprintf(long_name, sizeof long_name, "%s_file_name", name);
    for (int i = 0; i < head->n; i++)
        if (!strcmp(head->fields[i], name)) return i;
    for (int i = 0; i < head->n; i++)
        if (!strcmp(head->fields[i], long_name) || (other && !strcmp(head->fields[i], other)))
            return i;
    return -1;
}

static cn_status read_head(cn_ctx *ctx, const cn_dataset *d, cn_dataset_list *l,
                           const cn_csv_record *head)
{
    cn_str have = {0};
    const cn_dataset_columns *c = &l->names;
    l->condition_at = find_field(head, c->condition, NULL);
    l->target_at = find_field(head, c->target, c->target_other);
    l->prompt_at = find_field(head, c->prompt, NULL);
    if (l->condition_at >= 0 && l->target_at >= 0 && l->prompt_at >= 0) return CN_OK;
    for (int i = 0; i < head->n; i++) cn_str_addf(&have, "%s%s", i ? ", " : "", head->fields[i]);
    const cn_status s = cn_fail(
        ctx, CN_EINVAL,
        "%s: its first line names \"%s\"; columns %s (or file_name), %s and %s are expected "
        "(--image-column, --conditioning-image-column, --caption-column say others)",
        d->list, have.data ? have.data : "", c->target, c->condition, c->prompt);
    cn_str_free(&have);
    return s;
}

static cn_status scan(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *f)
{
    cn_dataset_list *l = d->own;
    cn_csv *file = NULL;
    cn_csv_record *r = cn_alloc0(ctx, sizeof *r);
    if (!r) return CN_ENOMEM;
    cn_status s = cn_csv_open(ctx, d->list, &file);
    if (s == CN_OK) s = cn_csv_next(ctx, file, r);
    if (s == CN_OK) s = read_head(ctx, d, l, r);
    while (s == CN_OK) {
        char where[CN_PATH_BYTES + 32];
        cn_dataset_place place;
        cn_dataset_item item = {0};
        s = cn_csv_next(ctx, file, r);
        if (s == CN_OK && !r->n) break;
        cn_csv_span(file, &place.begin, &place.bytes);
        place.number = cn_csv_line(file);
        if (s == CN_OK) s = cn_dataset_list_where(ctx, d, place.number, where);
        if (s == CN_OK) s = item_from_csv(ctx, l, where, r, &item);
        s = cn_dataset_list_take(ctx, d, f, &place, s, &item);
    }
    cn_csv_close(file);
    cn_csv_record_free(r);
    cn_free(r);
    return s;
}

static cn_status parse(cn_ctx *ctx, const cn_dataset_list *l, const char *where, const char *bytes,
                       size_t n, cn_dataset_item *out)
{
    cn_csv_record *r = cn_alloc0(ctx, sizeof *r);
    if (!r) return CN_ENOMEM;
    cn_status s = cn_csv_parse(ctx, where, bytes, n, r);
    if (s == CN_OK) s = item_from_csv(ctx, l, where, r, out);
    cn_csv_record_free(r);
    cn_free(r);
    return s;
}

const cn_dataset_layout cn_dataset_csv = {
    .name = "csv",
    .expected = "metadata.csv (the same columns)",
    .lists = {"metadata.csv"},
    .columns = {"conditioning_image", "image", "text", "file_name"},
    .before_number = ":",
    .scan = scan,
    .parse = parse,
    .open = cn_dataset_list_open,
    .get = cn_dataset_list_get,
    .close = cn_dataset_list_close};
