/* draw.h - the inner loop of drawing: UNet and ControlNets as one graph, the VAE's decoder.
 *
 * These stand on parameter sets that the caller owns, so that the trainer draws with the weights it is
 * training and a program loads a model once for many pictures. The sets must outlive what was created
 * from them. Creating declares the parameters and plans every buffer; the values may be loaded before or
 * after (after is better: the kernels' layouts are then known). Guidance runs both halves as one batch, the
 * unconditional one first, as diffusers does.
 *
 * Latents here are [B,C,h,w] as published files and torch's noise have them; h = H/8, w = W/8.
 */
#ifndef CN_DIFFUSE_DRAW_H
#define CN_DIFFUSE_DRAW_H

#include "diffuse/sampler.h"
#include "graph/plan.h"
#include "model/nets.h"

enum { CN_MAX_CONTROLS = 8 };

/* --- noise to latents ------------------------------------------------------------------------------- */

typedef struct cn_draw_control {
    const cn_controlnet_config *config;
    cn_params *params;
} cn_draw_control;

typedef struct cn_draw_spec {
    const cn_unet_config *unet;
    cn_params *unet_params;
    cn_draw_control controls[CN_MAX_CONTROLS];
    int n_controls;
    int64_t batch;
    int64_t latent_h, latent_w;
    int64_t context_length; /* tokens */
    bool guidance;          /* both halves; else the conditional one alone */
} cn_draw_spec;

/* One ControlNet's part in a run. It acts on step i of n unless i/n < start or (i+1)/n > end. */
typedef struct cn_draw_hint {
    const float *image; /* [H,W,3] in [0,1], the same for the whole batch; H and W of the picture */
    double strength, start, end;
} cn_draw_hint;

/* Text features that change while sampling: n of them, the i-th for the steps up to and with until[i]. */
typedef struct cn_draw_stages {
    const int *until;
    int n; /* 0: one for all steps */
} cn_draw_stages;

typedef struct cn_draw_args {
    const float *uncond, *cond; /* [stages,L,D]; uncond unused without guidance */
    cn_draw_stages uncond_stages, cond_stages;
    cn_draw_hint hints[CN_MAX_CONTROLS];
    double cfg_scale;
    float *latents; /* [B,C,h,w]: noise times init_noise_sigma before, the result after */
    cn_rng *rng;    /* for samplers that draw noise */
    void (*progress)(void *user, int done, int steps); /* may be NULL */
    void *user;
} cn_draw_args;

typedef struct cn_draw cn_draw;

cn_status cn_draw_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec,
                         cn_draw **out) CN_CHECKED;
void cn_draw_destroy(cn_draw *d);
/* Size in bytes of everything but the weights; work of one step in floating-point operations. */
void cn_draw_info(const cn_draw *d, cn_plan_info *info);
/* One call of the networks: x [B,C,h,w] already scaled, the prediction with guidance in `out`. */
cn_status cn_draw_predict(cn_draw *d, const cn_draw_args *a, int i, int n, double timestep,
                          const float *x, float *out) CN_CHECKED;
/* Every step of the sampler. CN_ECANCELLED between steps after cn_cancel. */
cn_status cn_draw_run(cn_draw *d, cn_sampler *sampler, const cn_draw_args *a) CN_CHECKED;

/* --- latents to pictures ---------------------------------------------------------------------------- */

typedef struct cn_decode cn_decode;

/* Decodes one picture at a time. */
cn_status cn_decode_create(cn_ctx *ctx, cn_backend *be, const cn_vae_config *c, cn_params *params,
                           int64_t latent_h, int64_t latent_w, cn_decode **out) CN_CHECKED;
void cn_decode_destroy(cn_decode *d);
void cn_decode_info(const cn_decode *d, cn_plan_info *info);
/* latents [C,h,w], scaled as the UNet has them; rgb gets [H,W,3] bytes, halves rounded to even. */
cn_status cn_decode_run(cn_decode *d, const float *latents, uint8_t *rgb) CN_CHECKED;
/* Pixels a latent covers, in each direction: 8. */
int64_t cn_vae_factor(const cn_vae_config *c);

#endif
