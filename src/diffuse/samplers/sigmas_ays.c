/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas_ays.c - Sabour, Fidler and Kreis, "Align Your Steps: Optimizing Sampling Schedules in
 * Diffusion Models": the levels published for Stable Diffusion 1.5 and ten steps, between them
 * linear in the logarithm.
 *
 * As ComfyUI's AlignYourStepsScheduler: the lowest level is where the last step would begin that
 * the clean picture stands for.
 */
#include "diffuse/samplers/samplers.h"

#include <math.h>

enum { PUBLISHED = 11 };

static void fill(const cn_schedule *schedule, double most, double least, int n, double *sigmas)
{
    static const double levels[PUBLISHED] = {
        14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
        0.9642583904,  0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582};
    (void)schedule, (void)most, (void)least;
    for (int i = 0; i < n; i++) {
        const double at = (PUBLISHED - 1.0) * i / n;
        const int low = CN_MIN((int)at, PUBLISHED - 2);
        const double a = log(levels[low]), b = log(levels[low + 1]);
        sigmas[i] = exp(a + (b - a) * (at - low));
    }
}

const cn_sigma_schedule cn_sigmas_ays = {.name = "ays", .title = "Align Your Steps", .fill = fill};
