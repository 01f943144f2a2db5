/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas_beta.c - noise levels at the quantiles of a beta distribution, dense at both ends: Lee et
 * al., "Beta Sampling is All You Need", with alpha and beta 0.6.
 *
 * As diffusers' use_beta_sigmas and stable-diffusion-webui's Beta, which spread sigmas; ComfyUI's
 * beta spreads timesteps.
 */
#include "diffuse/samplers/samplers.h"

#include <math.h>

static const double SHAPE = 0.6; /* alpha = beta */

/* The continued fraction of the incomplete beta function (Abramowitz and Stegun, 26.5.8), by
 * Lentz's method; converges fast for x below 1/2. */
static double fraction(double x)
{
    enum { MOST_TERMS = 200 };
    const double a = SHAPE, b = SHAPE, tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    f = d;
    for (int m = 1; m < MOST_TERMS; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int k = 0; k < 2; k++) {
            const double term = k ? odd : even;
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            f *= c * d;
        }
        if (fabs(c * d - 1) < 1e-16) break;
    }
    return f;
}

/* The distribution's part below x. */
static double part_below(double x)
{
    if (x <= 0 || x >= 1) return x >= 1;
    if (x > 0.5) return 1 - part_below(1 - x); /* it is symmetric */
    const double factor = exp(lgamma(2 * SHAPE) - 2 * lgamma(SHAPE) + SHAPE * log(x * (1 - x)));
    return factor * fraction(x) / SHAPE;
}

/* Where `part` of the distribution lies below. */
static double quantile(double part)
{
    double low = 0, high = 1;
    for (int i = 0; i < 100; i++) {
        const double middle = (low + high) / 2;
        if (part_below(middle) < part)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

static void fill(const cn_schedule *schedule, double most, double least, int n, double *sigmas)
{
    (void)schedule;
    for (int i = 0; i < n; i++)
        sigmas[i] = least + quantile(n > 1 ? 1 - (double)i / (n - 1) : 1) * (most - least);
}

const cn_sigma_schedule cn_sigmas_beta = {.name = "beta", .title = "Beta", .fill = fill};
