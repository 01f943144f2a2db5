/* SPDX-License-Identifier: Apache-2.0 */
/* mlsd.h - straight lines by M-LSD, the paper's "Hough lines".
 *
 * Gu, Ko, Go, Lee, Lee and Shin: "Towards Light-weight and Real-time Line Segment Detection"
 * (2022). The network gives for each cell how likely the centre of a line is and where its two ends
 * are from there.
 */
#ifndef CN_ANNOTATE_MLSD_H
#define CN_ANNOTATE_MLSD_H

#include "annotate/network.h"

enum { CN_MLSD_LINES = 200, CN_MLSD_MAPS = 9 };

/* out[0]: [1,H/2,W/2,CN_MLSD_MAPS], the centre's logit, then dx, dy of the start and of the end;
 * the rest isn't used. Sides are multiples of 16. */
extern const cn_network cn_mlsd_large, cn_mlsd_tiny;

typedef struct cn_line {
    float x1, y1, x2, y2; /* in pixels of the network's input */
    float score;
} cn_line;

/* maps: h x w cells of `channels` (5 or more) values. Of the CN_MLSD_LINES likeliest centres those
 * above value_threshold whose line is longer than distance_threshold cells, by descending score; *n
 * of them. */
cn_status cn_mlsd_decode(cn_ctx *ctx, const float *maps, int64_t h, int64_t w, int64_t channels,
                         float value_threshold, float distance_threshold,
                         cn_line lines[CN_MLSD_LINES], int *n) CN_CHECKED;
/* White lines of one pixel into a picture. */
void cn_mlsd_draw(cn_image *image, const cn_line *lines, int n);

/* The network's x: RGB and a channel of ones, about -1..1. cn_free it; NULL when memory is out. */
float *cn_mlsd_feed(cn_ctx *ctx, const cn_image *in);
#endif
