/* SPDX-License-Identifier: Apache-2.0 */
/* csv.c - records of a CSV file; a record ends at the first line's end outside quotes. */
#include "io/csv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cn_csv {
    FILE *f;
    char path[CN_PATH_BYTES];
    char *line; /* getline's */
    size_t line_cap;
    cn_str record;
    int64_t lines, first_line; /* lines read so far; the last record's first, from 1 */
    int64_t begin, taken;      /* bytes of the file before the last record, and up to its end */
};

void cn_csv_record_free(cn_csv_record *r)
{
    cn_str_free(&r->text);
    r->n = 0;
}

/* --- one record ------------------------------------------------------------------------------- */

/* A quoted field at *from, its quotes taken out in place from *to on; false when it isn't
 * closed. */
static bool take_quoted(char **from, char **to, const char *end)
{
    for (char *p = *from + 1; p < end; p++) {
        if (*p == '"' && (p + 1 == end || p[1] != '"')) {
            *from = p + 1;
            return true;
        }
        if (*p == '"') p++;
        *(*to)++ = *p;
    }
    return false;
}

/* Fields are shortened where they stand: what is written never overtakes what is read. */
static const char *split(cn_csv_record *r, char *from, const char *end)
{
    for (;;) {
        char *field = from, *to = from;
        if (r->n == CN_CSV_MAX_FIELDS) return "too many fields";
        if (from < end && *from == '"') {
            if (!take_quoted(&from, &to, end)) return "a quote that isn't closed";
            if (from < end && *from != ',') return "text behind a closing quote";
        } else {
            while (from < end && *from != ',') from++;
            to = from;
        }
        const bool more = from < end;
        from++;
        *to = 0;
        r->fields[r->n++] = field;
        if (!more) return NULL;
    }
}

cn_status cn_csv_parse(cn_ctx *ctx, const char *where, const char *bytes, size_t n,
                       cn_csv_record *out)
{
    while (n && (bytes[n - 1] == '\n' || bytes[n - 1] == '\r')) n--;
    out->n = 0;
    out->text.len = 0;
    if (memchr(bytes, 0, n)) return cn_fail(ctx, CN_EFORMAT, "%s: a zero byte in text", where);
    cn_str_add(&out->text, bytes, n);
    if (out->text.failed) return cn_fail(ctx, CN_ENOMEM, "%s: no memory for a record", where);
    const char *fault = split(out, out->text.data, out->text.data + n);
    if (!fault) return CN_OK;
    out->n = 0;
    return cn_fail(ctx, CN_EFORMAT, "%s: not valid CSV: %s", where, fault);
}

/* --- a file ----------------------------------------------------------------------------------- */

cn_status cn_csv_open(cn_ctx *ctx, const char *path, cn_csv **out)
{
    cn_csv *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    cn_status s = cn_format(ctx, c->path, sizeof c->path, "%s", path);
    if (s == CN_OK) s = cn_file_open_stream(ctx, path, &c->f);
    if (s != CN_OK) {
        cn_csv_close(c);
        return s;
    }
    *out = c;
    return CN_OK;
}

void cn_csv_close(cn_csv *c)
{
    if (!c) return;
    if (c->f) fclose(c->f);
    free(c->line);
    cn_str_free(&c->record);
    cn_free(c);
}

/* Lines up to one that leaves no quote open. */
static cn_status read_record(cn_ctx *ctx, cn_csv *c)
{
    bool open = false;
    c->record.len = 0;
    c->begin = c->taken;
    c->first_line = c->lines + 1;
    do {
        const ssize_t n = getline(&c->line, &c->line_cap, c->f);
        if (n < 0 && ferror(c->f))
            return cn_fail(ctx, CN_EIO, "%s: can't read it: %s", c->path, strerror(errno));
        if (n < 0) return CN_OK;
        c->lines++;
        c->taken += n;
        for (ssize_t i = 0; i < n; i++) open ^= c->line[i] == '"';
        cn_str_add(&c->record, c->line, (size_t)n);
        if (c->record.failed) return cn_fail(ctx, CN_ENOMEM, "%s: no memory for it", c->path);
    } while (open && c->record.len <= CN_CSV_MAX_RECORD_BYTES);
    return CN_OK;
}

cn_status cn_csv_next(cn_ctx *ctx, cn_csv *c, cn_csv_record *out)
{
    char where[4128];
    size_t skip = 0;
    do {
        CN_TRY(read_record(ctx, c));
        skip = c->begin == 0 && c->record.len >= 3 && !memcmp(c->record.data, "\xef\xbb\xbf", 3);
        skip *= 3;
    } while (c->record.len && strspn(c->record.data, " \t\r\n") == c->record.len);
    out->n = 0;
    if (!c->record.len) return CN_OK;
    CN_TRY(cn_format(ctx, where, sizeof where, "%s:%lld", c->path, (long long)c->first_line));
    if (c->record.len > CN_CSV_MAX_RECORD_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "%s: a record of more than %d MB; a quote may be missing",
                       where, CN_CSV_MAX_RECORD_BYTES >> 20);
    return cn_csv_parse(ctx, where, c->record.data + skip, c->record.len - skip, out);
}

int64_t cn_csv_line(const cn_csv *c)
{
    return c->first_line;
}

void cn_csv_span(const cn_csv *c, int64_t *begin, int64_t *bytes)
{
    *begin = c->begin;
    *bytes = c->taken - c->begin;
}
