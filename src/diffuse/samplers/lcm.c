/* SPDX-License-Identifier: Apache-2.0 */
/* lcm.c - Luo, Tan, Huang, Li and Zhao, "Latent Consistency Models": each step estimates the
 * picture and puts the next timestep's noise on it anew.
 *
 * As diffusers' LCMScheduler.
 */
#include "diffuse/samplers/samplers.h"

#include <math.h>

static const double SIGMA_DATA = 0.5;

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sampler_prepare_distilled(ctx, s, (cn_level){1, 0});
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, 1, n));
    const cn_estimate e = cn_sampler_estimate(s, s->levels[i]);
    const cn_level next = s->levels[i + 1];
    double t = s->timesteps[i] * s->schedule->config.lcm_timestep_scaling;
    double skip = SIGMA_DATA * SIGMA_DATA / (t * t + SIGMA_DATA * SIGMA_DATA);
    double out = t / sqrt(t * t + SIGMA_DATA * SIGMA_DATA);
    bool draws = i + 1 < s->n;
    if (draws) cn_sampler_noise(s, rng, s->slots[0], n);
    for (int64_t k = 0; k < n; k++) {
        double v = (double)x[k];
        double x0 = cn_sampler_clip(s, e.x0_x * v + e.x0_m * (double)model_out[k]);
        double clean = out * x0 + skip * v;
        x[k] = (float)(draws ? next.signal * clean + next.noise * (double)s->slots[0][k] : clean);
    }
    return CN_OK;
}

const cn_sampler_kind cn_sampler_lcm = {.name = "lcm",
                                        .title = "LCM",
                                        .class = "LCMScheduler",
                                        .spacing = CN_SPACING_LEADING,
                                        .prepare = prepare,
                                        .step = step};
