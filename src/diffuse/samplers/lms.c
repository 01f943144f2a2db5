/* SPDX-License-Identifier: Apache-2.0 */
/* lms.c - the linear multistep method (Adams-Bashforth) in sigma: the slopes of the last steps are
 * taken for values of a polynomial, which is integrated over the step exactly.
 *
 * As k-diffusion's sample_lms and diffusers' LMSDiscreteScheduler with order 4. A run that starts
 * later begins with order 1, as k-diffusion's does; diffusers' takes the weights of a full order
 * for the slopes that there are, so that its first steps fall short.
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

enum { MOST_ORDER = 4 };

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sigmas_prepare(ctx, s, CN_SIGMAS_K);
}

/* The polynomial that is 1 at the sigma of step i - k and 0 at the others' of i - order + 1 .. i,
 * integrated from the sigma of step i to the next. */
static double weight(const cn_sampler *s, int i, int order, int k)
{
    const double begin = s->levels[i].noise, end = s->levels[i + 1].noise - begin;
    double a[MOST_ORDER] = {1}; /* by powers of sigma - begin */
    for (int j = 0, degree = 0; j < order; j++) {
        if (j == k) continue;
        const double root = s->levels[i - j].noise - begin;
        const double apart = s->levels[i - k].noise - s->levels[i - j].noise;
        for (int p = ++degree; p >= 0; p--)
            a[p] = ((p ? a[p - 1] : 0) - root * (p < degree ? a[p] : 0)) / apart;
    }
    double sum = 0, power = end;
    for (int p = 0; p < order; p++, power *= end) sum += a[p] * power / (p + 1);
    return sum;
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    CN_TRY(cn_sampler_remember(s, MOST_ORDER, n));
    const cn_estimate e = cn_sampler_estimate(s, s->levels[i]);
    const int order = CN_MIN(i - s->first + 1, MOST_ORDER);
    cn_term terms[MOST_ORDER + 1] = {{1, x}};
    cn_sampler_rotate(s, MOST_ORDER);
    cn_sampler_sum((const cn_term[]){{e.e_x, x}, {e.e_m, model_out}}, 2, s->slots[0], n);
    for (int k = 0; k < order; k++) terms[k + 1] = (cn_term){weight(s, i, order, k), s->slots[k]};
    cn_sampler_sum(terms, order + 1, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_lms = {.name = "lms",
                                        .title = "LMS",
                                        .class = "LMSDiscreteScheduler",
                                        .aliases = {"klms"},
                                        .spacing = CN_SPACING_LINSPACE,
                                        .prepare = prepare,
                                        .step = step,
                                        .sigma_schedule = true};
