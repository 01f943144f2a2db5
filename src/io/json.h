/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - jansson with this project's errors: file, line and what is wrong in one line.
 *
 * Getters come in two kinds: cn_json_* take a default and never fail (a value of another type
 * counts as absent); cn_json_need_* fail with the key's name. Duplicate keys in an object are an
 * error.
 */
#ifndef CN_IO_JSON_H
#define CN_IO_JSON_H

#include "base/base.h"
#include "io/json_text.h"

/* Largest JSON file read whole. */
enum { CN_JSON_MAX_BYTES = 256 * 1024 * 1024 };

/* *out: json_decref it. */
cn_status cn_json_load_file(cn_ctx *ctx, const char *path, json_t **out) CN_CHECKED;
/* `what` names the source in errors ("scheduler_config.json", "request"). */
cn_status cn_json_load_memory(cn_ctx *ctx, const char *what, const char *text, size_t n,
                              json_t **out) CN_CHECKED;
/* Writes `value` indented by 2, keys in their order, a newline at the end; atomic. */
cn_status cn_json_save_file(cn_ctx *ctx, const char *path, const json_t *value) CN_CHECKED;

/* Whether a text is UTF-8 (RFC 3629), as JSON's strings must be: jansson makes no string of any
 * other, nor where memory is out. */
bool cn_json_is_text(const char *text);
/* Why a text couldn't be parsed: jansson says nothing when it is out of memory. */
const char *cn_json_reason(const json_error_t *error);

int64_t cn_json_int(const json_t *object, const char *key, int64_t otherwise);
double cn_json_number(const json_t *object, const char *key, double otherwise);
/* Valid as long as the object. */
const char *cn_json_str(const json_t *object, const char *key, const char *otherwise);
bool cn_json_bool(const json_t *object, const char *key, bool otherwise);

cn_status cn_json_need_int(cn_ctx *ctx, const json_t *object, const char *key,
                           int64_t *out) CN_CHECKED;
cn_status cn_json_need_number(cn_ctx *ctx, const json_t *object, const char *key,
                              double *out) CN_CHECKED;
cn_status cn_json_need_str(cn_ctx *ctx, const json_t *object, const char *key,
                           const char **out) CN_CHECKED;

/* One JSON object per line; blank lines are passed over, a BOM at the start and CRLF are
 * accepted. */
typedef struct cn_jsonl cn_jsonl;
cn_status cn_jsonl_open(cn_ctx *ctx, const char *path, cn_jsonl **out) CN_CHECKED;
/* The next line's object (json_decref it), *out NULL at the end; where the file has grown by the
 * next call, that one goes on. A bad line is CN_EFORMAT with "path:line: ..."; the call after it
 * goes on with the line behind. */
cn_status cn_jsonl_next(cn_ctx *ctx, cn_jsonl *j, json_t **out) CN_CHECKED;
/* Number (from 1) of the line that the last cn_jsonl_next took. */
int64_t cn_jsonl_line(const cn_jsonl *j);
/* Where that line lies in the file, its newline counted. */
void cn_jsonl_span(const cn_jsonl *j, int64_t *begin, int64_t *bytes);
void cn_jsonl_close(cn_jsonl *j);

#endif
