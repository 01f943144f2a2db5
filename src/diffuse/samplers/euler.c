/* SPDX-License-Identifier: Apache-2.0 */
/* euler.c - Euler's method in sigma, and its ancestral form, which goes further down and puts noise
 * on again.
 *
 * As k-diffusion's sample_euler and sample_euler_ancestral in diffusers' EulerDiscreteScheduler
 * (without churn) and EulerAncestralDiscreteScheduler.
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <math.h>

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sigmas_prepare(ctx, s, CN_SIGMAS_K);
}

/* Along e from the level of step i to sigma `to`; drawn: NULL, or noise that gets the weight
 * `up`. */
static void go(const cn_sampler *s, int i, double to, const float *model_out, float *x,
               const float *drawn, double up, int64_t n)
{
    const cn_level from = s->levels[i];
    const cn_estimate e = cn_sampler_estimate(s, from);
    const double way = to - from.noise;
    const cn_term terms[] = {{1 + way * e.e_x, x}, {way * e.e_m, model_out}, {up, drawn}};
    cn_sampler_sum(terms, drawn ? 3 : 2, x, n);
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    go(s, i, s->levels[i + 1].noise, model_out, x, NULL, 0, n);
    return CN_OK;
}

static cn_status step_ancestral(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                                cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, 1, n));
    double from = s->levels[i].noise, to = s->levels[i + 1].noise;
    double up = sqrt(CN_MAX(0, to * to * (from * from - to * to) / (from * from)));
    double down = sqrt(to * to - up * up);
    cn_sampler_noise(s, rng, s->slots[0], n);
    go(s, i, down, model_out, x, s->slots[0], up, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_euler = {.name = "euler",
                                          .title = "Euler",
                                          .class = "EulerDiscreteScheduler",
                                          .aliases = {"keuler"},
                                          .spacing = CN_SPACING_LINSPACE,
                                          .prepare = prepare,
                                          .step = step,
                                          .sigma_schedule = true};

const cn_sampler_kind cn_sampler_euler_a = {
    .name = "euler_a",
    .title = "Euler a",
    .class = "EulerAncestralDiscreteScheduler",
    .aliases = {"eulerancestral", "keulera", "keulerancestral"},
    .spacing = CN_SPACING_LINSPACE,
    .prepare = prepare,
    .step = step_ancestral,
    .sigma_schedule = true};
