/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.h - JSON from text and back where memory may be out. jansson 2.14 doesn't see it
 * everywhere: in the middle of a string that it reads it asserts or writes beyond its end, and of
 * an object that it writes or copies it drops a key. This header stands alone, for programs too. */
#ifndef CN_IO_JSON_TEXT_H
#define CN_IO_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* json_loadb, for which there must be memory before it begins. NULL as json_loadb; *error, which
 * isn't NULL, has no text where memory is out. */
json_t *cn_json_parse(const char *text, size_t n, size_t flags, json_error_t *error);
/* The same of a string; NULL for NULL, and for whatever reason. */
json_t *cn_json_parse_string(const char *text, size_t flags);
/* json_dumps, whole or NULL; NULL for NULL. free() it. */
char *cn_json_text(const json_t *value, size_t flags);
/* json_copy of an object, whole or NULL. */
json_t *cn_json_copy(const json_t *object);
/* Whether this thread is in cn_json_parse(); tests that let memory fail leave it alone. */
extern _Thread_local bool cn_json_parsing;

#endif
