/* SPDX-License-Identifier: Apache-2.0 */
/* frechet.h - the distance between two sets of feature vectors, each taken for a Gaussian's.
 *
 * |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2), with means m and covariances S (Heusel et
 * al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium").
 */
#ifndef CN_PRETRAIN_FRECHET_H
#define CN_PRETRAIN_FRECHET_H

#include "base/base.h"

typedef struct cn_moments {
    int d;           /* features */
    int64_t n;       /* vectors added */
    double *sum;     /* [d] */
    double *product; /* [d,d] */
} cn_moments;

cn_status cn_moments_create(cn_ctx *ctx, int d, cn_moments *out) CN_CHECKED;
void cn_moments_destroy(cn_moments *m);
void cn_moments_add(cn_moments *m, const float *features);
/* Both of one d, with two vectors or more. */
cn_status cn_frechet_distance(cn_ctx *ctx, const cn_moments *a, const cn_moments *b,
                              double *out) CN_CHECKED;

#endif
