/* SPDX-License-Identifier: Apache-2.0 */
/* denoise.h - one call of the networks in a drawing: UNet and ControlNets as one plan.
 *
 * Each ControlNet is a part of the plan that is off where it doesn't act: on the steps outside its
 * window, and on the unconditional half where guidance's halves take turns.
 */
#ifndef CN_DIFFUSE_DENOISE_H
#define CN_DIFFUSE_DENOISE_H

#include "diffuse/draw_spec.h"
#include "graph/plan.h"

typedef struct cn_denoiser cn_denoiser;

/* What is fed, NHWC: R samples of a reference (cn_draw_references), then N of the drawing. */
typedef struct cn_denoise_input {
    const float *x;       /* [R+N,h,w,in_channels] */
    const float *latents; /* [R+N,h,w,out_channels]: x without what only an inpainting UNet takes */
    const float *times;   /* [R+N] */
    const float *context; /* [R+N,L,D] */
    const float *added;   /* [R+N,added_dim], where the networks have it */
    const float
        *scale; /* [R+N,guidance_dim]: the guidance scale's embedding, where the UNet has it */
    int64_t
        unconditional; /* so many of the drawing's, the first, are guidance's unconditional half */
} cn_denoise_input;

/* Of N samples a call: one of guidance's halves, or both. */
cn_status cn_denoiser_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int64_t N,
                             cn_denoiser **out) CN_CHECKED;
void cn_denoiser_destroy(cn_denoiser *d);
void cn_denoiser_info(const cn_denoiser *d, cn_plan_info *info);
/* A run follows, whose conditions are looked at again. */
void cn_denoiser_begin(cn_denoiser *d);
/* Whether ControlNet k, with this part in the run, changes anything at step i of n. */
bool cn_denoiser_acts(const cn_denoiser *d, int k, const cn_draw_hint *h, int i, int n);
/* Whether its condition counts then; else it acts without one. */
bool cn_denoiser_sees(const cn_denoiser *d, int k, const cn_draw_hint *h, int i, int n);
/* acting, seeing: bit k for control network k. *y: the prediction [N,h,w,out_channels], valid until
 * the next call. */
cn_status cn_denoiser_run(cn_denoiser *d, unsigned acting, unsigned seeing,
                          const cn_draw_hint *hints, const cn_denoise_input *in,
                          const float **y) CN_CHECKED;

#endif
