/* SPDX-License-Identifier: Apache-2.0 */
/* ddpm.c - Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models": a draw from the
 * posterior of the next timestep, formulas 6 and 7. As diffusers' DDPMScheduler. */
#include "diffuse/samplers/samplers.h"

#include <math.h>

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sampler_prepare_discrete(ctx, s, (cn_level){1, 0});
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, 1, n));
    const cn_level a = s->levels[i], b = s->levels[i + 1];
    const cn_estimate e = cn_sampler_estimate(s, a);
    double kept = a.signal / b.signal, beta = 1 - kept * kept; /* of this step */
    double of_all = b.noise * b.noise / (a.noise * a.noise);
    double variance = s->schedule->config.large_variance ? beta : CN_MAX(of_all * beta, 1e-20);
    double to_x0 = b.signal * beta / (a.noise * a.noise), to_x = kept * of_all, deviation = 0;
    if (s->timesteps[i] > 0) {
        deviation = sqrt(variance);
        cn_sampler_noise(s, rng, s->slots[0], n);
    }
    for (int64_t k = 0; k < n; k++) {
        double v = (double)x[k];
        double x0 = cn_sampler_clip(s, e.x0_x * v + e.x0_m * (double)model_out[k]);
        double drawn = deviation > 0 ? deviation * (double)s->slots[0][k] : 0;
        x[k] = (float)(to_x0 * x0 + to_x * v + drawn);
    }
    return CN_OK;
}

const cn_sampler_kind cn_sampler_ddpm = {.name = "ddpm",
                                         .title = "DDPM",
                                         .class = "DDPMScheduler",
                                         .spacing = CN_SPACING_LEADING,
                                         .prepare = prepare,
                                         .step = step};
