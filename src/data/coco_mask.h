/* SPDX-License-Identifier: Apache-2.0 */
/* coco_mask.h - the masks of COCO's annotations, pixel for pixel as the COCO API makes them. */
#ifndef CN_DATA_COCO_MASK_H
#define CN_DATA_COCO_MASK_H

#include "base/base.h"

#include <jansson.h>

/* Run lengths down the columns, from the left: alternately outside and inside, outside first; their
 * sum is width * height. */
typedef struct cn_coco_mask {
    int64_t width, height, area; /* pixels; area: of what is inside */
    uint32_t *runs;
    size_t n;
} cn_coco_mask;

/* segmentation: a list of polygons [x, y, x, y, ...] in pixels (their union; fewer than three
 * points hold nothing), or {"size": [height, width], "counts": [...]}, or the same with counts as
 * the API's compressed string. CN_EFORMAT for anything else, and for counts that don't fill the
 * picture. */
cn_status cn_coco_mask_parse(cn_ctx *ctx, const json_t *segmentation, int64_t width, int64_t height,
                             cn_coco_mask *out) CN_CHECKED;
void cn_coco_mask_free(cn_coco_mask *mask);
/* Writes `value` where the mask is to columns[x * height + y]. */
void cn_coco_mask_paint(const cn_coco_mask *mask, int32_t value, int32_t *columns);

#endif
