/* SPDX-License-Identifier: Apache-2.0 */
/* json_parts.h - a JSON file too large to hold as a tree: the elements of its arrays, one at a
 * time.
 *
 * The file is mapped and scanned; only strings and brackets are looked at, what is asked for is
 * parsed by itself. Errors name places in the file, not the file. For files such as COCO's
 * annotations: {"images": [{...}, ...], "annotations": [{...}, ...]}.
 */
#ifndef CN_IO_JSON_PARTS_H
#define CN_IO_JSON_PARTS_H

#include "base/base.h"

#include <jansson.h>

typedef struct cn_json_parts cn_json_parts;

cn_status cn_json_parts_open(cn_ctx *ctx, const char *path, cn_json_parts **out) CN_CHECKED;
/* Over n bytes that stay the caller's. */
cn_status cn_json_parts_open_memory(cn_ctx *ctx, const char *text, size_t n,
                                    cn_json_parts **out) CN_CHECKED;
void cn_json_parts_close(cn_json_parts *j);

/* Calls fn with each element of the top object's array `key`, or with key NULL of the array that
 * the file is, (which must be an object) and where it lies. *found (may be NULL) is false when
 * there is no such key. Anything but CN_OK from fn ends the walk. */
typedef cn_status (*cn_json_part_fn)(void *user, cn_ctx *ctx, const json_t *element,
                                     uint64_t offset, uint32_t bytes);
cn_status cn_json_parts_each(cn_ctx *ctx, const cn_json_parts *j, const char *key,
                             cn_json_part_fn fn, void *user, bool *found) CN_CHECKED;
/* The element at an offset that the walk named, parsed anew; json_decref it. Any number of
 * threads. */
cn_status cn_json_parts_at(cn_ctx *ctx, const cn_json_parts *j, uint64_t offset, uint32_t bytes,
                           json_t **out) CN_CHECKED;

#endif
