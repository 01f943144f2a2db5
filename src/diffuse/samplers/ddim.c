/* SPDX-License-Identifier: Apache-2.0 */
/* ddim.c - Song, Meng and Ermon, "Denoising Diffusion Implicit Models", with eta 0: no noise is
 * drawn.
 *
 * Timesteps and the last step's alpha as diffusers' DDIMScheduler with the model's
 * scheduler_config.json. A step goes down by n / steps timesteps, whatever the next timestep is.
 */
#include "diffuse/samplers/samplers.h"

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sampler_prepare_discrete(ctx, s, cn_sampler_last_level(s));
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    int below = (int)s->timesteps[i] - s->schedule->n / s->steps;
    const cn_level to = below >= 0 ? cn_sampler_level_at(s, below) : cn_sampler_last_level(s);
    const cn_estimate e = cn_sampler_estimate(s, s->levels[i]);
    for (int64_t k = 0; k < n; k++) {
        double m = (double)model_out[k], v = (double)x[k];
        double x0 = cn_sampler_clip(s, e.x0_x * v + e.x0_m * m);
        x[k] = (float)(to.signal * x0 + to.noise * (e.e_x * v + e.e_m * m));
    }
    return CN_OK;
}

const cn_sampler_kind cn_sampler_ddim = {.name = "ddim",
                                         .title = "DDIM",
                                         .class = "DDIMScheduler",
                                         .spacing = CN_SPACING_LEADING,
                                         .prepare = prepare,
                                         .step = step};
