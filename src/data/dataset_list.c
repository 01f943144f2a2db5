/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_list.c - pairs named by the lines of a file: prompt.json, metadata.jsonl, metadata.csv.
 *
 * Index: where a line begins in the file; its number (40 bits) and its bytes (24 bits above). A
 * line is read and parsed again whenever its pair is fetched.
 */
#include "io/csv.h"
#include "io/json.h"
#include "data/dataset_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BITS = 40, MAX_LINE_BYTES = (1 << 24) - 1, COLUMN_BYTES = 128 };

/* Names of the columns; each picture's may also stand as NAME_file_name, the target's as
 * file_name. */
typedef struct columns {
    const char *condition, *target, *prompt;
    const char *target_other; /* NULL: none */
} columns;

typedef struct list {
    int fd;
    char condition[COLUMN_BYTES], target[COLUMN_BYTES], prompt[COLUMN_BYTES];
    columns names;
    int condition_at, target_at, prompt_at; /* CSV: field numbers */
} list;

/* --- one JSON line ---------------------------------------------------------------------------- */

/* The value under key, key_file_name or other. */
static const json_t *find_value(const json_t *object, const char *key, const char *other)
{
    char long_key[COLUMN_BYTES + 16];
    const json_t *value = json_object_get(object, key);
    snprintf(long_key, sizeof long_key, "%s_file_name", key);
    if (!value) value = json_object_get(object, long_key);
    return !value && other ? json_object_get(object, other) : value;
}

/* A copy of a string, checked. */
static cn_status take_text(cn_ctx *ctx, const char *where, const char *key, const char *text,
                           size_t n, bool is_path, char **out)
{
    if (is_path && (n == 0 || n >= CN_DATASET_PATH_BYTES / 2))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" is %s, a file's path is expected", where, key,
                       n ? "too long" : "empty");
    if (n > CN_DATASET_PROMPT_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" has %zu bytes, at most %d are possible", where,
                       key, n, CN_DATASET_PROMPT_BYTES);
    return (*out = cn_strdup(ctx, text)) ? CN_OK : CN_ENOMEM;
}

static cn_status take_string(cn_ctx *ctx, const char *where, const json_t *object, const char *key,
                             const char *other, bool is_path, char **out)
{
    const json_t *value = find_value(object, key, is_path ? other : NULL);
    if (!is_path && json_is_array(value)) value = json_array_get(value, 0); /* several captions */
    if (!json_is_string(value))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\"%s%s%s %s", where, key, other ? " or \"" : "",
                       other ? other : "", other ? "\"" : "",
                       value ? "is not a string" : "is missing");
    return take_text(ctx, where, key, json_string_value(value), json_string_length(value), is_path,
                     out);
}

static cn_status item_from_json(cn_ctx *ctx, const columns *c, const char *where,
                                const json_t *object, cn_dataset_item *item)
{
    CN_TRY(take_string(ctx, where, object, c->condition, NULL, true, &item->condition.path));
    CN_TRY(take_string(ctx, where, object, c->target, c->target_other, true, &item->target.path));
    return take_string(ctx, where, object, c->prompt, NULL, false, &item->prompt);
}

static cn_status item_from_line(cn_ctx *ctx, const columns *c, const char *where, const char *json,
                                size_t n, cn_dataset_item *item)
{
    json_t *object = NULL;
    CN_TRY(cn_json_load_memory(ctx, where, json, n, &object));
    const cn_status s =
        json_is_object(object)
            ? item_from_json(ctx, c, where, object, item)
            : cn_fail(ctx, CN_EFORMAT, "%s: no JSON object; each line holds one", where);
    json_decref(object);
    return s;
}

static columns usual_columns(bool fill50k)
{
    return fill50k ? (columns){"source", "target", "prompt", NULL}
                   : (columns){"conditioning_image", "image", "text", "file_name"};
}

cn_status cn_dataset_line_parse(cn_ctx *ctx, bool fill50k, const char *where, const char *json,
                                size_t n, cn_dataset_item *out)
{
    const columns c = usual_columns(fill50k);
    cn_dataset_item item = {.condition.position = -1, .target.position = -1};
    const cn_status s = item_from_line(ctx, &c, where, json, n, &item);
    if (s == CN_OK)
        *out = item;
    else
        cn_dataset_item_free(&item);
    return s;
}

/* --- one CSV record --------------------------------------------------------------------------- */

static cn_status take_field(cn_ctx *ctx, const char *where, const cn_csv_record *r, int at,
                            const char *key, bool is_path, char **out)
{
    if (at >= r->n)
        return cn_fail(ctx, CN_EFORMAT, "%s: %d fields, \"%s\" is field %d", where, r->n, key,
                       at + 1);
    return take_text(ctx, where, key, r->fields[at], strlen(r->fields[at]), is_path, out);
}

static cn_status item_from_csv(cn_ctx *ctx, const list *l, const char *where,
                               const cn_csv_record *r, cn_dataset_item *item)
{
    const columns *c = &l->names;
    CN_TRY(take_field(ctx, where, r, l->condition_at, c->condition, true, &item->condition.path));
    CN_TRY(take_field(ctx, where, r, l->target_at, c->target, true, &item->target.path));
    return take_field(ctx, where, r, l->prompt_at, c->prompt, false, &item->prompt);
}

static int find_field(const cn_csv_record *head, const char *name, const char *other)
{
    char long_name[COLUMN_BYTES + 16];
    snprintf(long_name, sizeof long_name, "%s_file_name", name);
    for (int i = 0; i < head->n; i++)
        if (!strcmp(head->fields[i], name)) return i;
    for (int i = 0; i < head->n; i++)
        if (!strcmp(head->fields[i], long_name) || (other && !strcmp(head->fields[i], other)))
            return i;
    return -1;
}

static cn_status read_head(cn_ctx *ctx, const cn_dataset *d, list *l, const cn_csv_record *head)
{
    cn_str have = {0};
    const columns *c = &l->names;
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

/* --- the file --------------------------------------------------------------------------------- */

/* Relative names to paths. */
static cn_status absolute(cn_ctx *ctx, const cn_dataset *d, cn_dataset_file *file)
{
    char path[CN_DATASET_PATH_BYTES];
    CN_TRY(cn_dataset_path(ctx, d->dir, file->path, path));
    cn_free(file->path);
    return (file->path = cn_strdup(ctx, path)) ? CN_OK : CN_ENOMEM;
}

static cn_status need_file(cn_ctx *ctx, const cn_dataset *d, const char *where, const char *name)
{
    char path[CN_DATASET_PATH_BYTES];
    CN_TRY(cn_dataset_path(ctx, d->dir, name, path));
    if (cn_file_exists(path)) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "%s: %s is missing (%s)", where, name, path);
}

/* A parsed line enters the index when both its pictures are there. */
static cn_status take_item(cn_ctx *ctx, cn_dataset *d, const char *where,
                           const cn_dataset_item *item, int64_t line, int64_t begin, int64_t bytes)
{
    if (bytes > MAX_LINE_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "%s: a line of more than %d MB", where,
                       MAX_LINE_BYTES >> 20);
    CN_TRY(need_file(ctx, d, where, item->condition.path));
    CN_TRY(need_file(ctx, d, where, item->target.path));
    return cn_dataset_add(
        ctx, d, (uint64_t[]){(uint64_t)begin, (uint64_t)line | (uint64_t)bytes << LINE_BITS});
}

static cn_status read_json_lines(cn_ctx *ctx, cn_dataset *d, const list *l, cn_dataset_faults *f)
{
    cn_jsonl *lines = NULL;
    CN_TRY(cn_jsonl_open(ctx, d->list, &lines));
    cn_status s = CN_OK;
    while (s == CN_OK) {
        char where[CN_DATASET_PATH_BYTES + 32];
        int64_t begin = 0, bytes = 0;
        json_t *object = NULL;
        cn_dataset_item item = {0};
        s = cn_jsonl_next(ctx, lines, &object);
        if (s == CN_OK && !object) break;
        cn_jsonl_span(lines, &begin, &bytes);
        const int64_t line = cn_jsonl_line(lines);
        if (s == CN_OK)
            s = cn_format(ctx, where, sizeof where, "%s:%lld", d->list, (long long)line);
        if (s == CN_OK) s = item_from_json(ctx, &l->names, where, object, &item);
        if (s == CN_OK) s = take_item(ctx, d, where, &item, line, begin, bytes);
        cn_dataset_item_free(&item);
        json_decref(object);
        s = cn_dataset_fault(ctx, f, s);
    }
    cn_jsonl_close(lines);
    return s;
}

static cn_status read_csv_records(cn_ctx *ctx, cn_dataset *d, list *l, cn_dataset_faults *f)
{
    cn_csv *file = NULL;
    cn_csv_record *r = cn_alloc0(ctx, sizeof *r);
    if (!r) return CN_ENOMEM;
    cn_status s = cn_csv_open(ctx, d->list, &file);
    if (s == CN_OK) s = cn_csv_next(ctx, file, r);
    if (s == CN_OK) s = read_head(ctx, d, l, r);
    while (s == CN_OK) {
        char where[CN_DATASET_PATH_BYTES + 32];
        int64_t begin = 0, bytes = 0;
        cn_dataset_item item = {0};
        s = cn_csv_next(ctx, file, r);
        if (s == CN_OK && !r->n) break;
        cn_csv_span(file, &begin, &bytes);
        const int64_t line = cn_csv_line(file);
        if (s == CN_OK)
            s = cn_format(ctx, where, sizeof where, "%s:%lld", d->list, (long long)line);
        if (s == CN_OK) s = item_from_csv(ctx, l, where, r, &item);
        if (s == CN_OK) s = take_item(ctx, d, where, &item, line, begin, bytes);
        cn_dataset_item_free(&item);
        s = cn_dataset_fault(ctx, f, s);
    }
    cn_csv_close(file);
    cn_csv_record_free(r);
    cn_free(r);
    return s;
}

static cn_status copy_name(cn_ctx *ctx, const char *given, const char *usual,
                           char out[COLUMN_BYTES], const char **name)
{
    *name = out;
    return cn_format(ctx, out, COLUMN_BYTES, "%s", given && *given ? given : usual);
}

static cn_status name_columns(cn_ctx *ctx, const cn_dataset *d, const cn_dataset_options *o,
                              list *l)
{
    const columns usual = usual_columns(d->layout == CN_DATASET_FILL50K);
    CN_TRY(copy_name(ctx, o->conditioning_image_column, usual.condition, l->condition,
                     &l->names.condition));
    CN_TRY(copy_name(ctx, o->image_column, usual.target, l->target, &l->names.target));
    CN_TRY(copy_name(ctx, o->caption_column, usual.prompt, l->prompt, &l->names.prompt));
    l->names.target_other = usual.target_other;
    return CN_OK;
}

static cn_status open_list(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                           cn_dataset_faults *f)
{
    list *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    d->own = l;
    d->words = 2;
    l->fd = open(d->list, O_RDONLY | O_CLOEXEC);
    if (l->fd < 0) return cn_fail(ctx, CN_EIO, "%s: can't open it", d->list);
    CN_TRY(name_columns(ctx, d, o, l));
    CN_TRY(d->layout == CN_DATASET_CSV ? read_csv_records(ctx, d, l, f)
                                       : read_json_lines(ctx, d, l, f));
    snprintf(d->found, sizeof d->found,
             "%lld pairs (%s) from %.500s: pictures \"%s\"%s, conditions \"%s\", "
             "prompts \"%s\"",
             (long long)d->n, cn_dataset_layout_name(d->layout), d->list, l->names.target,
             l->names.target_other ? " or \"file_name\"" : "", l->names.condition, l->names.prompt);
    return CN_OK;
}

static void close_list(cn_dataset *d)
{
    list *l = d->own;
    if (!l) return;
    if (l->fd >= 0) close(l->fd);
    cn_free(l);
}

/* --- a pair ----------------------------------------------------------------------------------- */

static cn_status read_span(cn_ctx *ctx, const list *l, const char *where, uint64_t begin,
                           size_t bytes, char *out)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t k = pread(l->fd, out + done, bytes - done, (off_t)(begin + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return cn_fail(ctx, CN_EIO, "%s: can't read it again; has it changed?", where);
        done += (size_t)k;
    }
    return CN_OK;
}

static cn_status parse_record(cn_ctx *ctx, const list *l, const char *where, const char *bytes,
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

static cn_status get_line(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                          cn_dataset_item *out)
{
    const list *l = d->own;
    const size_t n = (size_t)(words[1] >> LINE_BITS);
    char where[CN_DATASET_PATH_BYTES + 32];
    (void)prompt; /* the line holds it anyway */
    CN_TRY(cn_format(ctx, where, sizeof where, "%s:%lld", d->list,
                     (long long)(words[1] & ((UINT64_C(1) << LINE_BITS) - 1))));
    if (!(out->where = cn_strdup(ctx, where))) return CN_ENOMEM;
    char *bytes = cn_alloc(ctx, n + 1);
    if (!bytes) return CN_ENOMEM;
    cn_status s = read_span(ctx, l, where, words[0], n, bytes);
    if (s == CN_OK)
        s = d->layout == CN_DATASET_CSV ? parse_record(ctx, l, where, bytes, n, out)
                                        : item_from_line(ctx, &l->names, where, bytes, n, out);
    cn_free(bytes);
    if (s == CN_OK) s = absolute(ctx, d, &out->condition);
    if (s == CN_OK) s = absolute(ctx, d, &out->target);
    return s;
}

const cn_dataset_reader cn_dataset_lists = {open_list, get_line, close_list};
