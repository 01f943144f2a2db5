/* SPDX-License-Identifier: Apache-2.0 */
/* small_net.h - what the small networks that measure drawings share: blocks, how they see a
 * picture, and their training. They are trained from scenes within minutes; the same seed, steps,
 * threads and machine give the same network. */
#ifndef CN_PRETRAIN_SMALL_NET_H
#define CN_PRETRAIN_SMALL_NET_H

#include "graph/plan.h"

enum { CN_SMALL_NET_PX = 64 }; /* width and height of what they see */

/* 3x3 convolution to O channels, group norm with 8 groups, SiLU; parameters NAME.conv, NAME.norm.
 */
cn_node *cn_small_net_block(cn_graph *g, const char *name, cn_node *x, int64_t O, int stride);
/* [px,px,3] bytes, px a multiple of CN_SMALL_NET_PX, to means of squares in [-1,1]. */
void cn_small_net_see(const uint8_t *rgb, int64_t px, float *out);
/* n pictures of CN_SMALL_NET_PX to [-1,1] with noise of deviation 0.04, so that what an autoencoder
 * leaves doesn't matter. noise: room for as many values. */
void cn_small_net_see_noisy(const uint8_t *rgb, int64_t n, cn_rng *rng, float *noise, float *out);

typedef struct cn_small_net_options {
    uint64_t seed;
    int64_t steps;
    void (*progress)(void *user, int64_t step, int64_t steps); /* NULL: none */
    void *user;
} cn_small_net_options;

typedef struct cn_small_net_training {
    cn_graph *g;
    cn_plan *plan; /* of the loss */
    cn_params *params;
    const cn_small_net_options *o;
    /* Sets the plan's inputs for a step, which rng alone may make differ. */
    cn_status (*fill)(void *user, cn_rng *rng, int64_t step);
    void *fill_user;
} cn_small_net_training;

/* AdamW with a rate that falls by a cosine. CN_ECANCELLED when the context is cancelled. */
cn_status cn_small_net_learn(cn_ctx *ctx, cn_backend *be,
                             const cn_small_net_training *t) CN_CHECKED;

#endif
