/* SPDX-License-Identifier: Apache-2.0 */
/* maps.h - between pictures and the floats that annotators' networks take and give. */
#ifndef CN_ANNOTATE_MAPS_H
#define CN_ANNOTATE_MAPS_H

#include "annotate/network.h"

typedef struct cn_feed {
    bool bgr;    /* blue first */
    float scale; /* x = byte * scale - subtract[c], c in the order of x; 0 counts as 1 */
    float subtract[3];
} cn_feed;

/* [H,W,3] of a picture; cn_free it; NULL when memory is out. */
float *cn_feed_image(cn_ctx *ctx, const cn_image *in, const cn_feed *feed);
/* The network of role 0 over a picture: feeds it and runs it at the picture's size. */
cn_status cn_session_run_image(cn_session *s, const cn_image *in, const cn_feed *feed,
                               cn_network_values *out) CN_CHECKED;

/* A grey pixel: v held to 0..255, its fraction dropped, as the reference goes from floats to bytes;
 * NaN is 0. */
static inline void cn_put_gray(uint8_t rgb[3], double v)
{
    rgb[0] = rgb[1] = rgb[2] = v >= 255 ? 255 : v > 0 ? (uint8_t)v : 0;
}

#endif
