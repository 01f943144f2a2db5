/* SPDX-License-Identifier: Apache-2.0 */
/* csv.h - comma separated values with a header line (RFC 4180), one record at a time.
 *
 * Fields may be quoted; in quotes a comma, a line's end and "" (one quote) are text. LF and CRLF
 * end a record; a BOM at the start is passed over, and so are empty lines. Left out: other
 * separators.
 */
#ifndef CN_IO_CSV_H
#define CN_IO_CSV_H

#include "base/base.h"

enum { CN_CSV_MAX_FIELDS = 256, CN_CSV_MAX_RECORD_BYTES = 16 << 20 };

/* One record's fields: pointers into `text`, valid until it is parsed into again. */
typedef struct cn_csv_record {
    cn_str text;
    char *fields[CN_CSV_MAX_FIELDS];
    int n;
} cn_csv_record;

/* n bytes of one record. CN_EFORMAT, with `where` in front, for a quote that isn't closed, text
 * behind a closing quote or too many fields. */
cn_status cn_csv_parse(cn_ctx *ctx, const char *where, const char *bytes, size_t n,
                       cn_csv_record *out) CN_CHECKED;
void cn_csv_record_free(cn_csv_record *r);

typedef struct cn_csv cn_csv;
cn_status cn_csv_open(cn_ctx *ctx, const char *path, cn_csv **out) CN_CHECKED;
/* The next record; out->n is 0 at the end. After a bad record (CN_EFORMAT, "path:line: ...") the
 * next call goes on behind it. */
cn_status cn_csv_next(cn_ctx *ctx, cn_csv *c, cn_csv_record *out) CN_CHECKED;
/* First line (from 1) of the last record, and where it lies in the file. */
int64_t cn_csv_line(const cn_csv *c);
void cn_csv_span(const cn_csv *c, int64_t *begin, int64_t *bytes);
void cn_csv_close(cn_csv *c);

#endif
