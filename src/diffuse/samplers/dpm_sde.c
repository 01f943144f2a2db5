/* SPDX-License-Identifier: Apache-2.0 */
/* dpm_sde.c - DPM-Solver++ as a stochastic equation in k-diffusion's forms: sample_dpmpp_sde, of
 * second order in two calls of the networks a step, and sample_dpmpp_3m_sde, of third order by what
 * the last two steps left. Both with eta 1.
 *
 * lambda is -log(sigma). The noise is drawn anew at each place as torch's generator draws it, where
 * those programs take it from a Brownian path.
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <math.h>
#include <string.h>

/* --- two calls a step ------------------------------------------------------------------------- */

enum { CLEAN, BEGIN, DRAWN, SDE_SLOTS };

/* Every step but the last has a second call in the middle of its lambda. */
static cn_status prepare_sde(cn_ctx *ctx, cn_sampler *s)
{
    CN_TRY(cn_sigmas_prepare(ctx, s, CN_SIGMAS_K));
    double *timesteps = s->timesteps;
    cn_level *levels = s->levels;
    cn_status status = cn_sampler_allocate(ctx, s, 2 * s->steps - 1);
    for (int i = 0; status == CN_OK && i < s->n; i++) {
        const int k = i / 2;
        s->timesteps[i] = timesteps[k];
        s->levels[i] = levels[k];
        if (i % 2 == 0) continue;
        s->levels[i].noise = sqrt(levels[k].noise * levels[k + 1].noise);
        s->timesteps[i] = cn_sigmas_timestep(s->schedule, s->levels[i].noise);
    }
    if (status == CN_OK) s->levels[s->n] = levels[s->steps];
    cn_free(timesteps);
    cn_free(levels);
    return status;
}

/* From `begin` at sigma `from` to sigma `to` by the estimate in slots[CLEAN], with fresh noise:
 * down to `down`, `up` of noise. */
static void go_ancestral(cn_sampler *s, double from, double to, float *x, int64_t n, cn_rng *rng)
{
    const double up = CN_MIN(to, sqrt(to * to * (from * from - to * to) / (from * from)));
    const double down = sqrt(to * to - up * up);
    cn_sampler_noise(s, rng, s->slots[DRAWN], n);
    const cn_term terms[] = {
        {down / from, s->slots[BEGIN]}, {1 - down / from, s->slots[CLEAN]}, {up, s->slots[DRAWN]}};
    cn_sampler_sum(terms, 3, x, n);
}

static cn_status step_sde(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                          cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, SDE_SLOTS, n));
    float *clean = s->slots[CLEAN];
    const double now = s->levels[i].noise, next = s->levels[i + 1].noise;
    if (i + 1 == s->n) { /* Euler's */
        cn_sampler_denoise(s, i, model_out, x, clean, n);
        cn_sampler_sum((const cn_term[]){{next / now, x}, {1 - next / now, clean}}, 2, x, n);
        return CN_OK;
    }
    if (i % 2 == 0) {
        memcpy(s->slots[BEGIN], x, (size_t)n * sizeof *x);
        cn_sampler_denoise(s, i, model_out, x, clean, n);
        go_ancestral(s, now, next, x, n, rng);
        return CN_OK;
    }
    /* With the middle at half the step the first estimate gets no weight. */
    cn_sampler_denoise(s, i, model_out, x, clean, n);
    go_ancestral(s, s->levels[i - 1].noise, next, x, n, rng);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_dpmpp_sde = {.name = "dpm++sde",
                                              .title = "DPM++ SDE",
                                              .class = "DPMSolverSDEScheduler",
                                              .aliases = {"kdpmppsde"},
                                              .spacing = CN_SPACING_LINSPACE,
                                              .prepare = prepare_sde,
                                              .step = step_sde,
                                              .order = 2,
                                              .sigma_schedule = true};

/* --- three steps' estimates ------------------------------------------------------------------- */

enum { ESTIMATES = 3, NOISE = ESTIMATES, MULTI_SLOTS };

static cn_status prepare_multi(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sigmas_prepare(ctx, s, CN_SIGMAS_K);
}

/* Weights of the estimates, the newest first, for a step of h in lambda after ones of h1 and h2 (0:
 * there is none). */
static void weigh(double h, double h1, double h2, double w[ESTIMATES])
{
    const double k = 2 * h, phi2 = expm1(-k) / k + 1, phi3 = phi2 / k - 0.5;
    w[0] = -expm1(-k);
    w[1] = w[2] = 0;
    if (h1 == 0) return;
    const double r0 = h1 / h;
    if (h2 == 0) {
        w[0] += phi2 / r0;
        w[1] = -phi2 / r0;
        return;
    }
    /* Of the slopes (m0 - m1) / r0 and (m1 - m2) / r1. */
    const double r1 = h2 / h, near = phi2 * (1 + r0 / (r0 + r1)) - phi3 / (r0 + r1);
    const double far = -phi2 * r0 / (r0 + r1) + phi3 / (r0 + r1);
    w[0] += near / r0;
    w[1] = -near / r0 + far / r1;
    w[2] = -far / r1;
}

/* The step in lambda that step i of this run makes; 0 before its first. */
static double width(const cn_sampler *s, int i)
{
    return i < s->first ? 0 : log(s->levels[i].noise / s->levels[i + 1].noise);
}

static cn_status step_multi(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                            cn_rng *rng)
{
    CN_TRY(cn_sampler_remember(s, MULTI_SLOTS, n));
    const double next = s->levels[i + 1].noise, h = next > 0 ? width(s, i) : 0;
    double w[ESTIMATES];
    cn_sampler_rotate(s, ESTIMATES);
    cn_sampler_denoise(s, i, model_out, x, s->slots[0], n);
    if (next == 0) {
        memcpy(x, s->slots[0], (size_t)n * sizeof *x);
        return CN_OK;
    }
    weigh(h, width(s, i - 1), width(s, i - 2), w);
    cn_term terms[ESTIMATES + 2] = {{exp(-2 * h), x}};
    int n_terms = 1;
    for (int k = 0; k < ESTIMATES; k++)
        if (w[k] != 0) terms[n_terms++] = (cn_term){w[k], s->slots[k]};
    cn_sampler_noise(s, rng, s->slots[NOISE], n);
    terms[n_terms++] = (cn_term){next * sqrt(-expm1(-2 * h)), s->slots[NOISE]};
    cn_sampler_sum(terms, n_terms, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_dpmpp_3m_sde = {.name = "dpm++3m_sde",
                                                 .title = "DPM++ 3M SDE",
                                                 .class = "sample_dpmpp_3m_sde",
                                                 .aliases = {"kdpmpp3msde"},
                                                 .spacing = CN_SPACING_LINSPACE,
                                                 .prepare = prepare_multi,
                                                 .step = step_multi,
                                                 .sigma_schedule = true};
