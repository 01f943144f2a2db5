/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas_exponential.c - noise levels at equal ratios, as k-diffusion's get_sigmas_exponential and
 * diffusers' use_exponential_sigmas. */
#include "diffuse/samplers/samplers.h"

#include <math.h>

static void fill(const cn_schedule *schedule, double most, double least, int n, double *sigmas)
{
    const double a = log(most), b = log(least);
    (void)schedule;
    for (int i = 0; i < n; i++) sigmas[i] = exp(n > 1 ? a + (b - a) * i / (n - 1) : a);
}

const cn_sigma_schedule cn_sigmas_exponential = {
    .name = "exponential", .title = "Exponential", .fill = fill};
