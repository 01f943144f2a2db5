/* SPDX-License-Identifier: Apache-2.0 */
/* tcd.c - Zheng et al., "Trajectory Consistency Distillation", strategic stochastic sampling: each
 * step goes further down the trajectory than the next timestep and puts noise on again, as much as
 * eta says (the paper's gamma).
 *
 * As diffusers' TCDScheduler. The last step ends at timestep 0, not at a clean picture.
 */
#include "diffuse/samplers/samplers.h"

#include <math.h>

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sampler_prepare_distilled(ctx, s, cn_sampler_level_at(s, 0));
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, 1, n));
    const double eta = s->schedule->config.tcd_eta;
    const bool last = i + 1 == s->n;
    const float next = last ? 0 : (float)s->timesteps[i + 1];
    const cn_level to = s->levels[i + 1];
    const cn_level below = cn_sampler_level_at(s, (int)floorf((float)(1 - eta) * next));
    const cn_estimate e = cn_sampler_estimate(s, s->levels[i]);
    double kept = 1, drawn = 0;
    if (eta > 0 && !last) {
        kept = to.signal / below.signal;
        drawn = sqrt(1 - kept * kept);
        cn_sampler_noise(s, rng, s->slots[0], n);
    }
    const cn_term terms[] = {{kept * (below.signal * e.x0_x + below.noise * e.e_x), x},
                             {kept * (below.signal * e.x0_m + below.noise * e.e_m), model_out},
                             {drawn, s->slots[0]}};
    cn_sampler_sum(terms, drawn > 0 ? 3 : 2, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_tcd = {.name = "tcd",
                                        .title = "TCD",
                                        .class = "TCDScheduler",
                                        .spacing = CN_SPACING_LEADING,
                                        .prepare = prepare,
                                        .step = step};
