/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas_karras.c - Karras, Aittala, Aila and Laine, "Elucidating the Design Space of
 * Diffusion-Based Generative Models", formula 5 with rho 7. */
#include "diffuse/samplers/samplers.h"

#include <math.h>

static const double RHO = 7;

static void fill(const cn_schedule *schedule, double most, double least, int n, double *sigmas)
{
    const double a = pow(most, 1 / RHO), b = pow(least, 1 / RHO);
    (void)schedule;
    for (int i = 0; i < n; i++) sigmas[i] = pow(n > 1 ? a + (b - a) * i / (n - 1) : a, RHO);
}

const cn_sigma_schedule cn_sigmas_karras = {.name = "karras", .title = "Karras", .fill = fill};
