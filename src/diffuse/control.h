/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - what a control network's condition gives in a drawing: the features that follow from
 * it alone, and the factors that what it adds is multiplied by.
 *
 * What makes the features (a ControlNet's hint network, a whole T2I-Adapter) is a plan of its own
 * for one picture, run once per run; its memory goes back at once. The rest of the network is part
 * of the denoiser's plan (denoise.h).
 */
#ifndef CN_DIFFUSE_CONTROL_H
#define CN_DIFFUSE_CONTROL_H

#include "diffuse/draw_spec.h"
#include "graph/plan.h"

typedef struct cn_control cn_control;

/* ControlNet k of the spec. */
cn_status cn_control_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int k,
                            cn_control **out) CN_CHECKED;
void cn_control_destroy(cn_control *u);
/* Arena and work of the hint network; bytes of the features that are kept. */
void cn_control_info(const cn_control *u, cn_plan_info *info, size_t *kept_bytes);

/* A new run: its condition is looked at again. */
void cn_control_begin(cn_control *u);
/* Whether the features of this run are still to be computed. */
bool cn_control_waits(const cn_control *u);
/* Whether the unit changes anything at step i of n. */
bool cn_control_acts(const cn_control *u, const cn_draw_hint *h, int i, int n);
/* Whether its condition counts there, or its features are 0. */
bool cn_control_sees(const cn_control *u, const cn_draw_hint *h, int i, int n);
/* What its condition becomes: how many arrays of features, and nodes [1,h_i,w_i,C_i] of their
 * shapes. */
int cn_control_hints(const cn_control *u, cn_node *const **out);
/* The i-th of h's condition, [N,h_i,w_i,C_i], the same for every sample of `to`; of an image prompt
 * the first `unconditional` samples have their own. */
cn_status cn_control_features(cn_control *u, const cn_draw_hint *h, int i, int64_t N,
                              int64_t unconditional, float *to) CN_CHECKED;
/* The factors of place i, [N,height,width]: strength, the place's weight, the region. */
cn_status cn_control_factors(const cn_control *u, const cn_draw_hint *h, int i,
                             const int64_t shape[3], float *to) CN_CHECKED;

#endif
