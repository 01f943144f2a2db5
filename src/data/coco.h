/* SPDX-License-Identifier: Apache-2.0 */
/* coco.h - data sets in COCO's form: instances_*.json with its polygons and run lengths,
 * captions_*.json.
 *
 * What stays in memory is a picture's name and size and where its annotations lie in the mapped
 * file (24 bytes an annotation); masks are made when a picture is asked for. After opening, any
 * number of threads may ask, each with a context of its own.
 */
#ifndef CN_DATA_COCO_H
#define CN_DATA_COCO_H

#include "base/base.h"
#include "image/image.h"

typedef struct cn_coco cn_coco;

/* captions: captions_*.json, or NULL. CN_EFORMAT, naming the file, where "images" or "annotations"
 * are missing or an annotation belongs to no picture. */
cn_status cn_coco_open(cn_ctx *ctx, const char *instances, const char *captions,
                       cn_coco **out) CN_CHECKED;
/* The same over bytes that stay the caller's (names of files in errors: "instances",
 * "captions"). */
cn_status cn_coco_open_memory(cn_ctx *ctx, const char *instances, size_t instances_bytes,
                              const char *captions, size_t captions_bytes,
                              cn_coco **out) CN_CHECKED;
void cn_coco_close(cn_coco *c);

/* Pictures, in the file's order. */
int64_t cn_coco_count(const cn_coco *c);
/* Pixels of picture i. */
int64_t cn_coco_size(const cn_coco *c, int64_t i);
/* Picture i's "file_name"; valid as long as c. */
const char *cn_coco_file_name(const cn_coco *c, int64_t i);
/* The picture of this file name (its folders left out), or -1. */
int64_t cn_coco_find(const cn_coco *c, const char *file_name);

/* Category ids of picture i, columns[x * height + y], 0 where there is none (*columns: cn_free it).
 * Large masks are painted first, so that what is small stays visible; of equal ones the first in
 * the file. Without `crowd`, annotations of whole groups (iscrowd) are left out. */
cn_status cn_coco_categories(cn_ctx *ctx, const cn_coco *c, int64_t i, bool crowd, int64_t *width,
                             int64_t *height, int32_t **columns) CN_CHECKED;
/* The same in the categories' colours, black where there is none. */
cn_status cn_coco_colors(cn_ctx *ctx, const cn_coco *c, int64_t i, bool crowd,
                         cn_image **out) CN_CHECKED;

/* Captions of picture i, and one of them (*text: cn_free it). */
int64_t cn_coco_captions(const cn_coco *c, int64_t i);
cn_status cn_coco_caption(cn_ctx *ctx, const cn_coco *c, int64_t i, int64_t k,
                          char **text) CN_CHECKED;

#endif
