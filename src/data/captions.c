/* SPDX-License-Identifier: Apache-2.0 */
/* captions.c - see captions.h. */
#include "data/captions.h"

#include "data/coco.h"
#include "io/csv.h"
#include "io/json.h"
#include "io/listing.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CAPTION_BYTES = 64 * 1024 };

typedef struct entry {
    size_t name, caption; /* offsets into text */
} entry;

struct cn_captions {
    char dir[CN_PATH_BYTES];
    const char *otherwise;
    cn_coco *coco;
    bool listed; /* by metadata: entries sorted by name */
    entry *entries;
    int64_t n, cap;
    cn_str text;
};

/* --- a list ----------------------------------------------------------------------------------- */

static cn_status add_entry(cn_ctx *ctx, cn_captions *c, const char *name, const char *caption)
{
    if (c->n == c->cap) {
        const int64_t cap = c->cap ? 2 * c->cap : 1024;
        entry *grown =
            cn_regrow(ctx, c->entries, (size_t)c->n * sizeof *grown, (size_t)cap * sizeof *grown);
        if (!grown) return CN_ENOMEM;
        c->entries = grown;
        c->cap = cap;
    }
    entry *e = &c->entries[c->n++];
    e->name = c->text.len;
    cn_str_add(&c->text, name, strlen(name) + 1);
    e->caption = c->text.len;
    cn_str_add(&c->text, caption, strlen(caption) + 1);
    return c->text.failed ? cn_fail(ctx, CN_ENOMEM, "no memory for captions") : CN_OK;
}

static const char *const name_keys[] = {"file_name", "image"};
static const char *const caption_keys[] = {"text", "caption", "prompt"};

static const char *first_string(const json_t *line, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *text = cn_json_str(line, keys[i], NULL);
        if (text) return text;
    }
    return NULL;
}

static cn_status read_jsonl(cn_ctx *ctx, cn_captions *c, const char *path)
{
    cn_jsonl *lines = NULL;
    CN_TRY(cn_jsonl_open(ctx, path, &lines));
    cn_status s;
    for (json_t *line = NULL; (s = cn_jsonl_next(ctx, lines, &line)) == CN_OK && line;) {
        const char *name = first_string(line, name_keys, CN_COUNT(name_keys));
        const char *caption = first_string(line, caption_keys, CN_COUNT(caption_keys));
        if (!name || !caption)
            s = cn_fail(ctx, CN_EFORMAT,
                        "%s:%lld: \"file_name\" and \"text\" (or \"caption\", \"prompt\") are "
                        "expected",
                        path, (long long)cn_jsonl_line(lines));
        else
            s = add_entry(ctx, c, name, caption);
        json_decref(line);
        line = NULL;
        if (s != CN_OK) break;
    }
    cn_jsonl_close(lines);
    return s;
}

static int find_column(const cn_csv_record *head, const char *const *keys, size_t n)
{
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < head->n; i++)
            if (strcmp(head->fields[i], keys[k]) == 0) return i;
    return -1;
}

static cn_status read_csv(cn_ctx *ctx, cn_captions *c, const char *path)
{
    cn_csv *csv = NULL;
    cn_csv_record r = {0};
    CN_TRY(cn_csv_open(ctx, path, &csv));
    cn_status s = cn_csv_next(ctx, csv, &r);
    const int name = find_column(&r, name_keys, CN_COUNT(name_keys));
    const int caption = find_column(&r, caption_keys, CN_COUNT(caption_keys));
    if (s == CN_OK && (name < 0 || caption < 0))
        s = cn_fail(ctx, CN_EFORMAT, "%s: columns file_name and text are expected", path);
    while (s == CN_OK && (s = cn_csv_next(ctx, csv, &r)) == CN_OK && r.n) {
        if (CN_MAX(name, caption) >= r.n)
            s = cn_fail(ctx, CN_EFORMAT, "%s:%lld: %d fields are too few", path,
                        (long long)cn_csv_line(csv), r.n);
        else
            s = add_entry(ctx, c, r.fields[name], r.fields[caption]);
    }
    cn_csv_record_free(&r);
    cn_csv_close(csv);
    return s;
}

static int by_name(const void *a, const void *b, void *user)
{
    const char *text = user;
    return strcmp(text + ((const entry *)a)->name, text + ((const entry *)b)->name);
}

static cn_status read_list(cn_ctx *ctx, cn_captions *c)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/metadata.jsonl", c->dir));
    if (cn_file_exists(path)) {
        CN_TRY(read_jsonl(ctx, c, path));
        c->listed = true;
    } else {
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/metadata.csv", c->dir));
        if (!cn_file_exists(path)) return CN_OK;
        CN_TRY(read_csv(ctx, c, path));
        c->listed = true;
    }
    if (c->n) qsort_r(c->entries, (size_t)c->n, sizeof *c->entries, by_name, c->text.data);
    return CN_OK;
}

static const char *find_listed(const cn_captions *c, const char *name)
{
    int64_t low = 0, high = c->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (strcmp(c->text.data + c->entries[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < c->n && strcmp(c->text.data + c->entries[low].name, name) == 0
               ? c->text.data + c->entries[low].caption
               : NULL;
}

/* --- opening ---------------------------------------------------------------------------------- */

cn_status cn_captions_open(cn_ctx *ctx, const char *dir, const char *coco, const char *otherwise,
                           cn_captions **out)
{
    cn_captions *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    c->otherwise = otherwise ? otherwise : "";
    cn_status s = cn_format(ctx, c->dir, sizeof c->dir, "%s", dir);
    if (s == CN_OK) s = coco ? cn_coco_open(ctx, coco, coco, &c->coco) : read_list(ctx, c);
    if (s == CN_OK)
        *out = c;
    else
        cn_captions_close(c);
    return s;
}

void cn_captions_close(cn_captions *c)
{
    if (!c) return;
    cn_coco_close(c->coco);
    cn_free(c->entries);
    cn_str_free(&c->text);
    cn_free(c);
}

/* --- a caption -------------------------------------------------------------------------------- */

/* The text without the blanks around it, lines joined. */
static void tidy(char *text)
{
    const char *begin = text + strspn(text, " \t\r\n");
    size_t n = strlen(begin);
    while (n && strchr(" \t\r\n", begin[n - 1])) n--;
    memmove(text, begin, n);
    text[n] = 0;
    for (char *p = text; *p; p++)
        if (strchr("\t\r\n", *p)) *p = ' ';
}

static cn_status read_beside(cn_ctx *ctx, const cn_captions *c, const char *name, char **text)
{
    static const char *const endings[] = {".txt", ".caption"};
    char path[CN_PATH_BYTES];
    size_t n = 0;
    *text = NULL;
    for (size_t i = 0; i < CN_COUNT(endings); i++) {
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/%.*s%s", c->dir, (int)cn_stem_length(name),
                         name, endings[i]));
        if (cn_file_exists(path)) return cn_file_read(ctx, path, MAX_CAPTION_BYTES, text, &n);
    }
    return CN_OK;
}

int64_t cn_captions_count(const cn_captions *c, const char *name)
{
    const int64_t i = c->coco ? cn_coco_find(c->coco, name) : -1;
    return i >= 0 ? CN_MAX(cn_coco_captions(c->coco, i), 1) : 1;
}

cn_status cn_captions_get(cn_ctx *ctx, const cn_captions *c, const char *name, int64_t k,
                          char **text, bool *found)
{
    char *made = NULL;
    if (c->coco) {
        const int64_t i = cn_coco_find(c->coco, name);
        if (i >= 0 && k < cn_coco_captions(c->coco, i))
            CN_TRY(cn_coco_caption(ctx, c->coco, i, k, &made));
    } else if (c->listed) {
        const char *listed = find_listed(c, name);
        if (listed && !(made = cn_strdup(ctx, listed))) return CN_ENOMEM;
    } else {
        CN_TRY(read_beside(ctx, c, name, &made));
    }
    *found = made != NULL;
    if (!made && !(made = cn_strdup(ctx, c->otherwise))) return CN_ENOMEM;
    tidy(made);
    *text = made;
    return CN_OK;
}
