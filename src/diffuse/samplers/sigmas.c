/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas.c - see sigmas.h. Source: diffusers' EulerDiscreteScheduler and
 * DPMSolverMultistepScheduler. */
#include "diffuse/samplers/sigmas.h"

#include "diffuse/samplers/samplers.h"

#include <math.h>

/* What a timestep of noise alone counts as, so that its sigma is finite: diffusers' value. */
static const float LEAST_ALPHA = 0x1p-24f;

static float sigma_at(const cn_schedule *sc, int t)
{
    float a = CN_MAX(sc->alphas_cumprod[t], LEAST_ALPHA);
    return sqrtf((1 - a) / a);
}

/* Between two whole timesteps, linear. */
static double sigma_between(const cn_schedule *sc, double t)
{
    int low = CN_MIN((int)t, sc->n - 1), high = CN_MIN(low + 1, sc->n - 1);
    double a = (double)sigma_at(sc, low), b = (double)sigma_at(sc, high);
    return a + (b - a) * (t - low);
}

double cn_sigmas_at(const cn_schedule *sc, double t)
{
    const int low = CN_MAX(0, CN_MIN((int)t, sc->n - 1)), high = CN_MIN(low + 1, sc->n - 1);
    const double a = log((double)sigma_at(sc, low)), b = log((double)sigma_at(sc, high));
    return exp(a + (b - a) * (t - low));
}

double cn_sigmas_timestep(const cn_schedule *sc, double sigma)
{
    double wanted = log(CN_MAX(sigma, 1e-10));
    int low = 0;
    while (low + 2 < sc->n && log((double)sigma_at(sc, low + 1)) <= wanted) low++;
    if (sc->n < 2) return 0;
    double a = log((double)sigma_at(sc, low)), b = log((double)sigma_at(sc, low + 1));
    double w = CN_MAX(0, CN_MIN(1, (a - wanted) / (a - b)));
    return low + w;
}

static cn_level level_of(cn_sigma_family family, double sigma)
{
    double noise = (double)(float)sigma;
    if (family == CN_SIGMAS_K) return (cn_level){1, noise};
    double signal = 1 / sqrt(1 + noise * noise);
    return (cn_level){signal, noise * signal};
}

/* With every timestep visited and the first left out, two would be the same. */
static cn_status check_steps(cn_ctx *ctx, const cn_sampler *s)
{
    if (s->steps < s->schedule->n) return CN_OK;
    return cn_fail(ctx, CN_EINVAL,
                   "%d steps of %s: 1 to %d are possible with this model's schedule", s->steps,
                   s->kind->name, s->schedule->n - 1);
}

/* The schedule's sigmas, and with them timesteps other than those that the spacing gave. */
static cn_status spread(cn_ctx *ctx, cn_sampler *s, bool solver)
{
    const cn_schedule *sc = s->schedule;
    double most = sigma_between(sc, solver ? sc->n - 1 : s->timesteps[0]);
    double least = sigma_between(sc, solver ? 0 : s->timesteps[s->n - 1]);
    double *sigmas = cn_alloc_array(ctx, (size_t)s->n, sizeof *sigmas);
    if (!sigmas) return CN_ENOMEM;
    s->sigma_schedule->fill(sc, most, least, s->n, sigmas);
    for (int i = 0; i < s->n; i++) {
        const double t = cn_sigmas_timestep(sc, sigmas[i]);
        s->levels[i].noise = sigmas[i];
        s->timesteps[i] = solver ? rint(t) : t;
    }
    cn_free(sigmas);
    return CN_OK;
}

cn_status cn_sigmas_prepare(cn_ctx *ctx, cn_sampler *s, cn_sigma_family family)
{
    const cn_schedule *sc = s->schedule;
    bool solver = family == CN_SIGMAS_SOLVER;
    if (solver) CN_TRY(check_steps(ctx, s));
    CN_TRY(cn_sampler_allocate(ctx, s, s->steps));
    cn_schedule_timesteps(sc, s->spacing, s->steps, solver, s->timesteps);
    for (int i = 0; solver && i < s->n; i++) s->timesteps[i] = rint(s->timesteps[i]);
    for (int i = 0; i < s->n; i++) s->levels[i].noise = sigma_between(sc, s->timesteps[i]);
    if (s->sigma_schedule->fill) CN_TRY(spread(ctx, s, solver));
    for (int i = 0; i < s->n; i++) s->levels[i] = level_of(family, s->levels[i].noise);
    s->levels[s->n] = level_of(family, sc->config.ends_at_sigma_min ? (double)sigma_at(sc, 0) : 0);
    if (solver) return CN_OK;
    double first = s->levels[0].noise;
    s->init_noise_sigma = s->spacing == CN_SPACING_LEADING ? sqrt(first * first + 1) : first;
    return CN_OK;
}

const cn_sigma_schedule cn_sigmas_discrete = {.name = "discrete", .title = "Uniform"};
