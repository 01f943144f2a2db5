/* SPDX-License-Identifier: Apache-2.0 */
/* heun.c - Heun's method in sigma: each step but the last is made with the mean of the slopes at
 * its two ends.
 *
 * As k-diffusion's sample_heun in diffusers' HeunDiscreteScheduler (without churn). Every timestep
 * but the first stands twice: for the end of one step and the beginning of the next.
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <string.h>

enum { SLOPE, BEGIN, SLOTS };

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    CN_TRY(cn_sigmas_prepare(ctx, s, CN_SIGMAS_K));
    double *timesteps = s->timesteps;
    cn_level *levels = s->levels;
    cn_status status = cn_sampler_allocate(ctx, s, 2 * s->steps - 1);
    for (int i = 0; status == CN_OK && i < s->n; i++) {
        s->timesteps[i] = timesteps[(i + 1) / 2];
        s->levels[i] = levels[(i + 1) / 2];
    }
    if (status == CN_OK) s->levels[s->n] = levels[s->steps];
    cn_free(timesteps);
    cn_free(levels);
    return status;
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    CN_TRY(cn_sampler_remember(s, SLOTS, n));
    bool corrects = (i - s->first) % 2;
    const cn_level now = s->levels[i];
    const cn_estimate e = cn_sampler_estimate(s, now);
    float *slope = s->slots[SLOPE];
    double way = corrects ? now.noise - s->levels[i - 1].noise : s->levels[i + 1].noise - now.noise;
    if (!corrects) memcpy(s->slots[BEGIN], x, (size_t)n * sizeof *x);
    for (int64_t k = 0; k < n; k++) {
        double v = (double)x[k], m = (double)model_out[k], here = e.e_x * v + e.e_m * m;
        if (s->schedule->config.clip_sample)
            here = (v - cn_sampler_clip(s, e.x0_x * v + e.x0_m * m)) / now.noise;
        if (corrects) here = ((double)slope[k] + here) / 2;
        slope[k] = (float)here;
        x[k] = (float)((double)s->slots[BEGIN][k] + way * here);
    }
    return CN_OK;
}

const cn_sampler_kind cn_sampler_heun = {.name = "heun",
                                         .title = "Heun",
                                         .class = "HeunDiscreteScheduler",
                                         .aliases = {"kheun"},
                                         .spacing = CN_SPACING_LINSPACE,
                                         .prepare = prepare,
                                         .step = step,
                                         .order = 2,
                                         .sigma_schedule = true};
