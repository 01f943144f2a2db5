/* SPDX-License-Identifier: Apache-2.0 */
/* bilinear.h - torch's bilinear interpolate a row at a time, for maps too large to be kept at their
 * full size. */
#ifndef CN_IMAGE_BILINEAR_H
#define CN_IMAGE_BILINEAR_H

#include "base/base.h"

/* What index i of `to` is made of, of n: `a` with 1 - t and `b` with t. */
typedef struct cn_tap {
    int64_t a, b;
    float t;
} cn_tap;

/* corners: align_corners, the outermost elements' centres stay in place; else their outer edges. */
cn_tap cn_bilinear_tap(int64_t i, int64_t n, int64_t to, bool corners);
/* A row of W x C out of two rows of w x C, of which the second counts `down`. */
void cn_bilinear_row(const float *above, const float *below, float down, int64_t w, int64_t C,
                     int64_t W, bool corners, float *out);

#endif
