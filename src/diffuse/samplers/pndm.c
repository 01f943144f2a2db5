/* SPDX-License-Identifier: Apache-2.0 */
/* pndm.c - Liu, Ren, Lin and Zhao, "Pseudo Numerical Methods for Diffusion Models on Manifolds":
 * the linear multistep method on the noise, PLMS.
 *
 * As diffusers' PNDMScheduler with skip_prk_steps, which is how Stable Diffusion is published: the
 * first step is made twice, from the noise at its beginning and from the mean of that and the noise
 * at its end. So there is a timestep more than steps. A run that starts later makes its own first
 * step twice, as diffusers does.
 */
#include "diffuse/samplers/samplers.h"

#include <math.h>
#include <string.h>

enum { PAST = 4, BEGIN = PAST, MEAN, SLOTS };

/* The second timestep stands twice. */
static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    int steps = s->steps, extra = steps > 1;
    CN_TRY(cn_sampler_allocate(ctx, s, steps + extra));
    cn_schedule_timesteps(s->schedule, s->spacing, steps, false, s->timesteps);
    if (extra)
        memmove(s->timesteps + 2, s->timesteps + 1, (size_t)(steps - 1) * sizeof *s->timesteps);
    for (int i = 0; i < s->n; i++) {
        s->timesteps[i] = rint(s->timesteps[i]);
        s->levels[i] = cn_sampler_level_at(s, (int)s->timesteps[i]);
    }
    s->levels[s->n] = cn_sampler_last_level(s);
    if (s->levels[0].signal > 0) return CN_OK;
    return cn_fail(
        ctx, CN_EINVAL,
        "timestep %g is noise alone (zero terminal SNR), which pndm can't start from: another "
        "sampling method or leading timesteps are expected",
        s->timesteps[0]);
}

/* The prediction that step `made` (from 0) of a run goes by, from slots 0.. of the last ones. */
static void mean_prediction(const cn_sampler *s, int made, const float *model_out, int64_t n)
{
    static const double weights[][PAST] = {{1},
                                           {1},
                                           {3 / 2.0, -1 / 2.0},
                                           {23 / 12.0, -16 / 12.0, 5 / 12.0},
                                           {55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0}};
    float *const *past = s->slots;
    cn_term terms[PAST];
    int order = CN_MIN(made, PAST);
    if (made == 1) {
        cn_sampler_sum((const cn_term[]){{0.5, model_out}, {0.5, past[0]}}, 2, s->slots[MEAN], n);
        return;
    }
    for (int k = 0; k < PAST; k++) terms[k] = (cn_term){weights[order][k], past[k]};
    cn_sampler_sum(terms, CN_MAX(1, order), s->slots[MEAN], n);
}

/* The paper's formula 9, from level a to level b. */
static void transfer(const cn_sampler *s, cn_level a, cn_level b, const float *x, float *out,
                     int64_t n)
{
    const cn_estimate e = cn_sampler_estimate(s, a);
    double below = a.signal * (a.signal * b.noise + a.noise * b.signal);
    double by = -(b.signal * b.signal - a.signal * a.signal) / below;
    const cn_term terms[] = {{b.signal / a.signal + by * e.e_x, x}, {by * e.e_m, s->slots[MEAN]}};
    cn_sampler_sum(terms, 2, out, n);
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    CN_TRY(cn_sampler_remember(s, SLOTS, n));
    int made = i - s->first, ratio = s->schedule->n / s->steps, t = (int)s->timesteps[i];
    int from = made == 1 ? CN_MIN(t + ratio, s->schedule->n - 1) : t;
    int to = made == 1 ? t : t - ratio;
    if (made != 1) {
        cn_sampler_rotate(s, PAST);
        memcpy(s->slots[0], model_out, (size_t)n * sizeof *model_out);
    }
    if (made == 0) memcpy(s->slots[BEGIN], x, (size_t)n * sizeof *x);
    mean_prediction(s, made, model_out, n);
    transfer(s, cn_sampler_level_at(s, from),
             to >= 0 ? cn_sampler_level_at(s, to) : cn_sampler_last_level(s),
             made == 1 ? s->slots[BEGIN] : x, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_pndm = {.name = "pndm",
                                         .title = "PLMS",
                                         .class = "PNDMScheduler",
                                         .aliases = {"plms"},
                                         .spacing = CN_SPACING_LEADING,
                                         .prepare = prepare,
                                         .step = step};
