/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - one ControlNet at work in a drawing: its two plans, and adding what it gives to the
 * UNet's residuals.
 *
 * The hint network is a plan of its own for one picture, run once per run; its memory goes back at
 * once. The copied encoder is the second plan, over both halves of guidance or over the conditional
 * half alone.
 */
#ifndef CN_DIFFUSE_CONTROL_H
#define CN_DIFFUSE_CONTROL_H

#include "diffuse/draw_spec.h"
#include "graph/plan.h"

typedef struct cn_control cn_control;

/* The UNet's side: inputs that take the sum of all units' residuals, the middle's last. */
typedef struct cn_control_sums {
    int n;
    float *data[CN_MAX_CONTROL_OUTPUTS]; /* [N,h_i,w_i,C_i] */
} cn_control_sums;

cn_status cn_control_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int k,
                            cn_control **out) CN_CHECKED;
void cn_control_destroy(cn_control *u);
/* Number of residuals, and the shape [N,h,w,C] of residual i. */
int cn_control_outputs(const cn_control *u);
const int64_t *cn_control_shape(const cn_control *u, int i);
void cn_control_info(const cn_control *u, cn_plan_info *info);

/* A new run: its condition image and region are looked at again. */
void cn_control_begin(cn_control *u);
/* Whether the unit changes anything at step i of n. */
bool cn_control_acts(const cn_draw_hint *h, int n_outputs, int i, int n);
/* Of the unit's halves, N samples in all. */
typedef struct cn_control_input {
    const float *x;       /* [N,h,w,C] */
    const float *times;   /* [N] */
    const float *context; /* [N,L,D] */
} cn_control_input;
/* Runs the unit and adds what it gives to sums. */
cn_status cn_control_add(cn_control *u, const cn_draw_hint *h, const cn_control_input *in,
                         const cn_control_sums *sums) CN_CHECKED;

#endif
