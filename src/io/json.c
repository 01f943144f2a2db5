/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - see json.h. */
#include "io/json.h"

#include <errno.h>
#include <string.h>

enum { MAX_LINE = 16 << 20, READ_BYTES = 1 << 16, FLAGS = JSON_REJECT_DUPLICATES };

static size_t bom_bytes(const char *text, size_t n)
{
    return n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
}

cn_status cn_json_load_memory(cn_ctx *ctx, const char *what, const char *text, size_t n,
                              json_t **out)
{
    json_error_t err;
    size_t bom = bom_bytes(text, n);
    json_t *value = cn_json_parse(text + bom, n - bom, FLAGS, &err);
    if (!value)
        return cn_fail(ctx, CN_EFORMAT, "%s:%d: not valid JSON: %s (column %d)", what,
                       CN_MAX(err.line, 1), cn_json_reason(&err), CN_MAX(err.column, 0));
    *out = value;
    return CN_OK;
}

cn_status cn_json_load_file(cn_ctx *ctx, const char *path, json_t **out)
{
    char *text = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, CN_JSON_MAX_BYTES, &text, &n));
    cn_status s = cn_json_load_memory(ctx, path, text, n, out);
    cn_free(text);
    return s;
}

cn_status cn_json_save_file(cn_ctx *ctx, const char *path, const json_t *value)
{
    cn_status s;
    char *dumped = cn_json_text(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    cn_str text = {0};
    if (dumped) cn_str_addf(&text, "%s\n", dumped);
    if (!dumped || text.failed)
        s = cn_fail(ctx, CN_ENOMEM, "%s: this value can't be written as JSON", path);
    else
        s = cn_file_write(ctx, path, text.data, text.len);
    cn_free(dumped);
    cn_str_free(&text);
    return s;
}

/* Bytes of the character that begins here; 0: none does. */
static int character_bytes(const unsigned char *c)
{
    static const struct {
        unsigned char mask, lead;
        unsigned least;
    } forms[] = {{0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (int n = 1; n <= 4; n++) {
        if ((c[0] & forms[n - 1].mask) != forms[n - 1].lead) continue;
        unsigned value = c[0] & (unsigned char)~forms[n - 1].mask;
        for (int i = 1; i < n; i++) {
            if ((c[i] & 0xc0) != 0x80) return 0;
            value = value << 6 | (c[i] & 0x3f);
        }
        const bool surrogate = value >= 0xd800 && value < 0xe000;
        return value >= forms[n - 1].least && value <= 0x10ffff && !surrogate ? n : 0;
    }
    return 0;
}

bool cn_json_is_text(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    for (int n; *c; c += n)
        if (!(n = character_bytes(c))) return false;
    return true;
}

const char *cn_json_reason(const json_error_t *error)
{
    return error->text[0] ? error->text : "out of memory";
}

int64_t cn_json_int(const json_t *object, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(object, key);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

double cn_json_number(const json_t *object, const char *key, double otherwise)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

const char *cn_json_str(const json_t *object, const char *key, const char *otherwise)
{
    const json_t *v = json_object_get(object, key);
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

bool cn_json_bool(const json_t *object, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static cn_status missing(cn_ctx *ctx, const json_t *v, const char *key, const char *type)
{
    return cn_fail(ctx, CN_EFORMAT, v ? "\"%s\" must be %s" : "\"%s\" is missing; it must be %s",
                   key, type);
}

cn_status cn_json_need_int(cn_ctx *ctx, const json_t *object, const char *key, int64_t *out)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v)) return missing(ctx, v, key, "an integer");
    *out = json_integer_value(v);
    return CN_OK;
}

cn_status cn_json_need_number(cn_ctx *ctx, const json_t *object, const char *key, double *out)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v)) return missing(ctx, v, key, "a number");
    *out = json_number_value(v);
    return CN_OK;
}

cn_status cn_json_need_str(cn_ctx *ctx, const json_t *object, const char *key, const char **out)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v)) return missing(ctx, v, key, "a string");
    *out = json_string_value(v);
    return CN_OK;
}

struct cn_jsonl {
    FILE *f;
    char path[CN_PATH_BYTES];
    char buffer[READ_BYTES];
    size_t at, end; /* unread part of buffer */
    cn_str line;
    int64_t number;
    int64_t begin, taken; /* bytes of the file before the last line, and up to its end */
};

cn_status cn_jsonl_open(cn_ctx *ctx, const char *path, cn_jsonl **out)
{
    cn_jsonl *j = cn_alloc0(ctx, sizeof *j);
    if (!j) return CN_ENOMEM;
    cn_status s = cn_format(ctx, j->path, sizeof j->path, "%s", path);
    if (s == CN_OK) s = cn_file_open_stream(ctx, path, &j->f);
    if (s != CN_OK) {
        cn_jsonl_close(j);
        return s;
    }
    *out = j;
    return CN_OK;
}

/* One line into j->line without its newline; *more false at the end. What is beyond MAX_LINE is
 * dropped and *too_long set. */
static cn_status read_line(cn_ctx *ctx, cn_jsonl *j, bool *more, bool *too_long)
{
    j->line.len = 0;
    j->begin = j->taken;
    *more = *too_long = false;
    for (;;) {
        if (j->at == j->end) {
            j->at = 0;
            j->end = fread(j->buffer, 1, sizeof j->buffer, j->f);
            if (j->end == 0 && ferror(j->f))
                return cn_fail(ctx, CN_EIO, "%s: can't read it: %s", j->path, strerror(errno));
            if (j->end == 0) { /* a file that grows may have more at the next call */
                clearerr(j->f);
                break;
            }
        }
        *more = true;
        const char *from = j->buffer + j->at, *nl = memchr(from, '\n', j->end - j->at);
        size_t n = nl ? (size_t)(nl - from) : j->end - j->at;
        if (j->line.len + n > MAX_LINE)
            *too_long = true;
        else
            cn_str_add(&j->line, from, n);
        if (j->line.failed) return cn_fail(ctx, CN_ENOMEM, "%s: no memory for a line", j->path);
        j->at += n + (nl ? 1 : 0);
        j->taken += (int64_t)n + (nl ? 1 : 0);
        if (nl) break;
    }
    if (*more) j->number++;
    return CN_OK;
}

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

cn_status cn_jsonl_next(cn_ctx *ctx, cn_jsonl *j, json_t **out)
{
    json_error_t err;
    bool more = true, too_long = false;
    const char *s;
    size_t n;
    do {
        CN_TRY(read_line(ctx, j, &more, &too_long));
        size_t bom = j->number == 1 && j->line.len ? bom_bytes(j->line.data, j->line.len) : 0;
        s = j->line.len ? j->line.data + bom : "";
        n = j->line.len - bom;
    } while (more && !too_long && is_blank(s, n));
    if (!more) {
        *out = NULL;
        return CN_OK;
    }
    if (too_long)
        return cn_fail(ctx, CN_EFORMAT, "%s:%lld: a line of more than %d MB", j->path,
                       (long long)j->number, MAX_LINE >> 20);
    json_t *value = cn_json_parse(s, n, FLAGS, &err);
    if (!value)
        return cn_fail(ctx, CN_EFORMAT, "%s:%lld: not valid JSON: %s (column %d)", j->path,
                       (long long)j->number, cn_json_reason(&err), CN_MAX(err.column, 0));
    if (!json_is_object(value)) {
        json_decref(value);
        return cn_fail(ctx, CN_EFORMAT, "%s:%lld: the line must be one JSON object {...}", j->path,
                       (long long)j->number);
    }
    *out = value;
    return CN_OK;
}

int64_t cn_jsonl_line(const cn_jsonl *j)
{
    return j->number;
}

void cn_jsonl_span(const cn_jsonl *j, int64_t *begin, int64_t *bytes)
{
    *begin = j->begin;
    *bytes = j->taken - j->begin;
}

void cn_jsonl_close(cn_jsonl *j)
{
    if (!j) return;
    if (j->f) fclose(j->f);
    cn_str_free(&j->line);
    cn_free(j);
}
