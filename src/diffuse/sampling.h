/* SPDX-License-Identifier: Apache-2.0 */
/* sampling.h - the inner loop of drawing: UNet and ControlNets, and the VAE both ways.
 *
 * These stand on parameter sets that the caller owns, so that the trainer draws with the weights it
 * is training and a program loads a model once for many pictures. The sets must outlive what was
 * created from them. Creating declares the parameters and plans every buffer; the values may be
 * loaded before or after (after is better: the kernels' layouts are then known). Guidance runs both
 * halves as one batch, the unconditional one first, as diffusers does, or one after the other.
 *
 * Latents here are [B,C,h,w] as published files and torch's noise have them; h = H/8, w = W/8. C is
 * the number of channels that the UNet gives; an inpainting UNet takes more (`extra`).
 */
#ifndef CN_DIFFUSE_SAMPLING_H
#define CN_DIFFUSE_SAMPLING_H

#include "diffuse/draw_spec.h"
#include "diffuse/samplers/sampler.h"
#include "graph/plan.h"

/* --- noise to latents ------------------------------------------------------------------------- */

/* What of a given picture stays while the rest is drawn. */
typedef struct cn_draw_keep {
    const float *mask;    /* [h,w]: 1 drawn, 0 kept; NULL: nothing is kept */
    const float *latents; /* [C,h,w] of the picture */
    const float *noise;   /* [B,C,h,w] */
    /* What is kept replaces the networks' estimate of the clean picture at every step and the last
     * latents, as in stable-diffusion-webui; else the latents of every step, with their noise, as
     * in diffusers. */
    bool estimate;
} cn_draw_keep;

/* Text features that change while sampling: n of them, the i-th for the steps up to and with
 * until[i]. */
typedef struct cn_draw_stages {
    const int *until;
    int n; /* 0: one for all steps */
} cn_draw_stages;

typedef struct cn_draw_args {
    const float *uncond, *cond; /* [stages,L,D]; uncond unused without guidance */
    /* [stages,added_dim] (added.h), of a UNet that has it; else NULL. */
    const float *uncond_added, *cond_added;
    cn_draw_stages uncond_stages, cond_stages;
    cn_draw_hint hints[CN_MAX_CONTROLS];
    /* As cn_generate_options has them. A UNet with guidance_dim is told cfg_scale, without any
     * other guidance. */
    double cfg_scale, guidance_rescale;
    /* The part of the run that is guided, counted as a hint's; 0 and 0: all. Elsewhere the
     * conditional half alone is run where the halves run in turn. */
    double guidance_start, guidance_end;
    float *latents; /* [B,C,h,w]: noise times init_noise_sigma before, the result after */
    cn_rng *rng;    /* for samplers that draw noise */
    void (*progress)(void *user, int done, int steps); /* may be NULL */
    /* Every preview_interval calls but the last, with what the latents are without their noise.
     * NULL: never. */
    cn_status (*preview)(void *user, int done, int steps, const float *clean);
    int preview_interval;
    void *user;
    const float *reference; /* [C,h,w]: latents of the picture of cn_draw_spec.reference */
    const float
        *extra; /* [in - out channels,h,w] that an inpainting UNet takes behind the latents */
    cn_draw_keep keep;
    int first;  /* the timestep the run begins with (cn_sampler_start); steps count from there */
    int last;   /* the one before which it ends; 0: all are made */
    int behind; /* timesteps that another model made before; parts of the run count them too */
} cn_draw_args;

typedef struct cn_draw cn_draw;

cn_status cn_draw_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec,
                         cn_draw **out) CN_CHECKED;
void cn_draw_destroy(cn_draw *d);
/* Size in bytes of everything but the weights; work of one step, with every ControlNet, in
 * floating-point operations. */
void cn_draw_info(const cn_draw *d, cn_plan_info *info);
/* A run with these args follows: the hint networks run once after it. */
cn_status cn_draw_begin(cn_draw *d, const cn_draw_args *a) CN_CHECKED;
/* One call of the networks at step i of n: x [B,C,h,w] already scaled, the prediction with guidance
 * in `out`. After cn_draw_begin with the same args. */
cn_status cn_draw_predict(cn_draw *d, const cn_draw_args *a, int i, int n, double timestep,
                          const float *x, float *out) CN_CHECKED;
/* Begins, and makes every step of the sampler. CN_ECANCELLED between steps after cn_cancel. */
cn_status cn_draw_run(cn_draw *d, cn_sampler *sampler, const cn_draw_args *a) CN_CHECKED;

/* --- the VAE ---------------------------------------------------------------------------------- */

typedef struct cn_decode cn_decode;
typedef struct cn_encode cn_encode;

typedef struct cn_vae_spec {
    const cn_vae_config *config;
    cn_params *params;
    int64_t latent_h, latent_w;
    int64_t tile; /* latents a side: larger pictures go through in overlapping tiles; 0: whole */
} cn_vae_spec;

/* Decodes one picture at a time. */
cn_status cn_decode_create(cn_ctx *ctx, cn_backend *be, const cn_vae_spec *spec,
                           cn_decode **out) CN_CHECKED;
void cn_decode_destroy(cn_decode *d);
void cn_decode_info(const cn_decode *d, cn_plan_info *info);
/* latents [C,h,w], scaled as the UNet has them; rgb gets [H,W,3] bytes, halves rounded to even. */
cn_status cn_decode_run(cn_decode *d, const float *latents, uint8_t *rgb) CN_CHECKED;

cn_status cn_encode_create(cn_ctx *ctx, cn_backend *be, const cn_vae_spec *spec,
                           cn_encode **out) CN_CHECKED;
void cn_encode_destroy(cn_encode *e);
void cn_encode_info(const cn_encode *e, cn_plan_info *info);
/* image [H,W,3] in [-1,1] and noise [C,h,w] of variance 1 to a sample of its latents [C,h,w],
 * scaled as the UNet has them. */
cn_status cn_encode_run(cn_encode *e, const float *image, const float *noise,
                        float *latents) CN_CHECKED;

/* Pixels a latent covers, in each direction: 8. */
int64_t cn_vae_factor(const cn_vae_config *c);

#endif
