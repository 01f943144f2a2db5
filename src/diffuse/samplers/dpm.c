/* SPDX-License-Identifier: Apache-2.0 */
/* dpm.c - Lu, Zhou, Bao, Chen, Li and Zhu, "DPM-Solver++: Fast Solver for Guided Sampling of
 * Diffusion Probabilistic Models": the multistep method on the picture, as an ordinary and as a
 * stochastic equation.
 *
 * As diffusers' DPMSolverMultistepScheduler: order 2 unless the model's scheduler_config.json says
 * otherwise, lower ones in the first steps and, in runs of less than 15 steps, in the last ones.
 * lambda is log(signal/noise).
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <math.h>

enum { MOST_ORDER = 3, NOISE = MOST_ORDER, SLOTS, FEW_STEPS = 15 };

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sigmas_prepare(ctx, s, CN_SIGMAS_SOLVER);
}

/* How many of the last estimates step i uses. */
static int order_of(const cn_sampler *s, int i)
{
    const cn_schedule_config *c = &s->schedule->config;
    int left = s->n - 1 - i;
    bool careful = !c->full_order_final && s->n < FEW_STEPS;
    if (left == 0 && (c->euler_at_final || careful || !c->ends_at_sigma_min)) return 1;
    int order = CN_MIN(c->solver_order, i - s->first + 1);
    return left == 1 && careful ? CN_MIN(order, 2) : order;
}

static double lambda(const cn_sampler *s, int i)
{
    return log(s->levels[i].signal / s->levels[i].noise);
}

/* Weights of the last estimates, the newest first. h: the step in lambda, of the stochastic
 * equation twice that in k. Without the differences the estimate counts signal (1 - exp(-k)). */
static void weigh(const cn_sampler *s, int i, int order, double h, bool sde, double w[MOST_ORDER])
{
    const cn_schedule_config *c = &s->schedule->config;
    double k = sde ? 2 * h : h, signal = s->levels[i + 1].signal, whole = -signal * expm1(-k);
    w[0] = whole;
    if (order < 2) return;
    double r0 = (lambda(s, i) - lambda(s, i - 1)) / h, curved = signal * (expm1(-k) / k + 1);
    if (order == 2) {
        double slope = (c->heun_solver ? curved : whole / 2) / r0;
        w[0] += slope;
        w[1] = -slope;
        return;
    }
    double r1 = (lambda(s, i - 1) - lambda(s, i - 2)) / h;
    /* Of the two equations diffusers has the constant's sign differ. */
    double bent = -signal * ((expm1(-k) + k) / (k * k) + (sde ? 0.5 : -0.5));
    double near = curved * (1 + r0 / (r0 + r1)) + bent / (r0 + r1); /* of (m0 - m1) / r0 */
    double far = -(curved * r0 / (r0 + r1) + bent / (r0 + r1));     /* of (m1 - m2) / r1 */
    w[0] += near / r0;
    w[1] = -near / r0 + far / r1;
    w[2] = -far / r1;
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, SLOTS, n));
    const cn_level now = s->levels[i], next = s->levels[i + 1];
    int order = order_of(s, i);
    bool sde = s->kind == &cn_sampler_dpmpp_2m_sde;
    double w[MOST_ORDER] = {0}, h = lambda(s, i + 1) - lambda(s, i);
    double kept = next.noise / now.noise * (sde ? exp(-h) : 1), drawn = 0;
    cn_sampler_rotate(s, MOST_ORDER);
    cn_sampler_denoise(s, i, model_out, x, s->slots[0], n);
    weigh(s, i, order, h, sde, w);
    cn_term terms[MOST_ORDER + 2] = {{kept, x}};
    int n_terms = 1;
    for (int k = 0; k < order; k++) terms[n_terms++] = (cn_term){w[k], s->slots[k]};
    if (sde) {
        drawn = next.noise * sqrt(-expm1(-2 * h));
        cn_sampler_noise(s, rng, s->slots[NOISE], n);
        terms[n_terms++] = (cn_term){drawn, s->slots[NOISE]};
    }
    cn_sampler_sum(terms, n_terms, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_dpmpp_2m = {.name = "dpm++2m",
                                             .title = "DPM++ 2M",
                                             .class = "DPMSolverMultistepScheduler",
                                             .aliases = {"kdpmpp2m"},
                                             .spacing = CN_SPACING_LINSPACE,
                                             .prepare = prepare,
                                             .step = step,
                                             .sigma_schedule = true};

const cn_sampler_kind cn_sampler_dpmpp_2m_sde = {.name = "dpm++2m_sde",
                                                 .title = "DPM++ 2M SDE",
                                                 .class = "DPMSolverMultistepScheduler",
                                                 .aliases = {"kdpmpp2msde"},
                                                 .spacing = CN_SPACING_LINSPACE,
                                                 .prepare = prepare,
                                                 .step = step,
                                                 .sigma_schedule = true};
