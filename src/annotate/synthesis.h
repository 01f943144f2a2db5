/* SPDX-License-Identifier: Apache-2.0 */
/* synthesis.h - scribbles for training, made from soft edge maps with chance, as the paper
 * describes it: random thresholds, random masking of a random share of the strokes, random
 * morphology, random non-maximum suppression.
 *
 * The paper gives no ranges and the reference publishes no code; the defaults here keep most
 * strokes. One seed gives one scribble.
 */
#ifndef CN_ANNOTATE_SYNTHESIS_H
#define CN_ANNOTATE_SYNTHESIS_H

#include "base/base.h"
#include "image/image.h"

typedef struct cn_synthesis_rules {
    double low, high; /* the threshold on the edges' strength is drawn between these, 0..255 */
    double
        thin; /* probability of non-maximum suppression, whose blur is drawn between 1 and 4 px */
    double share; /* of the strokes' pieces at most so many are left out: 0..1 */
    int width;    /* lines are widened by a radius drawn between 0 and this, px */
} cn_synthesis_rules;

/* edges: white on black, its first channel counts. *out: 255 on strokes, 0 elsewhere, of edges'
 * size. */
cn_status cn_scribble_synthesis(cn_ctx *ctx, const cn_image *edges, const cn_synthesis_rules *rules,
                                uint64_t seed, cn_image **out) CN_CHECKED;

/* The same of width x height bytes. */
cn_status cn_scribble_map(cn_ctx *ctx, const uint8_t *edges, int64_t width, int64_t height,
                          const cn_synthesis_rules *rules, uint64_t seed, uint8_t *out) CN_CHECKED;

#endif
