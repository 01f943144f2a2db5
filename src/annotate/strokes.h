/* SPDX-License-Identifier: Apache-2.0 */
/* strokes.h - scribbles made from soft edge maps, as the reference makes its fake scribbles. */
#ifndef CN_ANNOTATE_STROKES_H
#define CN_ANNOTATE_STROKES_H

#include "base/base.h"
#include "image/image.h"

/* The reference's nms(x, t, sigma) of height x width bytes: 255 where the blurred map is at least
 * as large as both neighbours in one of four directions and above threshold, else 0. */
cn_status cn_edge_nms(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                      double threshold, double sigma, uint8_t *out) CN_CHECKED;

/* The same, and also where the line itself is above the threshold, which thin lines aren't any more
 * when they are blurred. */
cn_status cn_edge_thin(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                       double threshold, double sigma, uint8_t *out) CN_CHECKED;

typedef struct cn_stroke_rules {
    double nms_threshold, nms_sigma; /* the reference: 127, 3 */
    double blur_sigma;               /* 3: thickens the thinned edges */
    double level;                    /* 4: what is brighter after the blur is a stroke */
} cn_stroke_rules;

/* edges: white on black, its first channel counts. *out: 255 on strokes, 0 elsewhere, of edges'
 * size. */
cn_status cn_strokes(cn_ctx *ctx, const cn_image *edges, const cn_stroke_rules *rules,
                     cn_image **out) CN_CHECKED;

/* The reference's safe_step of an edge strength 0..1: 0, 0.5, 1 (and 1.5 at exactly 1). */
float cn_safe_step(float x);

#endif
