/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas_kl_optimal.c - noise levels whose arcus tangents are evenly spaced, as ComfyUI's and
 * stable-diffusion-webui's kl_optimal (Sabour, Fidler and Kreis, "Align Your Steps", theorem 3.1).
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <math.h>

static void fill(const cn_schedule *schedule, double most, double least, int n, double *sigmas)
{
    const double a = atan(cn_sigmas_at(schedule, schedule->n - 1)),
                 b = atan(cn_sigmas_at(schedule, 0));
    (void)most, (void)least;
    for (int i = 0; i < n; i++) sigmas[i] = tan(n > 1 ? a + (b - a) * i / (n - 1) : a);
}

const cn_sigma_schedule cn_sigmas_kl_optimal = {
    .name = "kl_optimal", .title = "KL Optimal", .fill = fill};
