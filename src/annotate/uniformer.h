/* SPDX-License-Identifier: Apache-2.0 */
/* uniformer.h - segmentation into the 150 classes of ADE20K by UniFormer-S with an UPerNet head. */
#ifndef CN_ANNOTATE_UNIFORMER_H
#define CN_ANNOTATE_UNIFORMER_H

#include "annotate/network.h"

/* x: [1,H,W,3], see cn_seg_input. out[0]: a score per class [1,H/4,W/4,150], sizes rounded down. */
extern const cn_network cn_uniformer;

/* The size at which the network sees a picture: as large as fits into 2048 x 512 in either
 * direction. */
void cn_seg_size(int64_t height, int64_t width, int64_t *h, int64_t *w);
/* out: h x w x 3 floats. The reference takes RGB for BGR and exchanges the channels, so the network
 * sees blue, green, red normalised by the statistics of red, green, blue. */
cn_status cn_seg_input(cn_ctx *ctx, const cn_image *in, int64_t h, int64_t w,
                       float *out) CN_CHECKED;
/* The network's output, and the size at which it saw the picture. */
typedef struct cn_seg_scores {
    const float *scores; /* [h,w,classes] */
    int64_t h, w, classes;
    int64_t net_h, net_w;
} cn_seg_scores;

/* Each pixel's best class: scores brought to net_h x net_w and from there to height x width.
 * labels: height x width, from 0. */
cn_status cn_seg_labels(cn_ctx *ctx, const cn_seg_scores *s, int64_t height, int64_t width,
                        uint8_t *labels) CN_CHECKED;

#endif
