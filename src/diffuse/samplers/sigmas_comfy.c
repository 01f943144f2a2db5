/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas_comfy.c - ComfyUI's plain noise levels (normal, sgm_uniform and simple of
 * comfy/samplers.py): timesteps evenly from the last to the first, the same with one more that is
 * left out at the end, and whole ones counted from the last. */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

static void fill_evenly(const cn_schedule *sc, int points, int n, double *sigmas)
{
    for (int i = 0; i < n; i++)
        sigmas[i] = cn_sigmas_at(
            sc, points > 1 ? (sc->n - 1.0) * (points - 1 - i) / (points - 1) : sc->n - 1.0);
}

static void fill_normal(const cn_schedule *sc, double most, double least, int n, double *sigmas)
{
    (void)most, (void)least;
    fill_evenly(sc, n, n, sigmas);
}

static void fill_sgm(const cn_schedule *sc, double most, double least, int n, double *sigmas)
{
    (void)most, (void)least;
    fill_evenly(sc, n + 1, n, sigmas);
}

static void fill_simple(const cn_schedule *sc, double most, double least, int n, double *sigmas)
{
    (void)most, (void)least;
    for (int i = 0; i < n; i++)
        sigmas[i] = cn_sigmas_at(sc, sc->n - 1 - (int)(i * ((double)sc->n / n)));
}

const cn_sigma_schedule cn_sigmas_normal = {
    .name = "normal", .title = "Normal", .fill = fill_normal};
const cn_sigma_schedule cn_sigmas_sgm_uniform = {
    .name = "sgm_uniform", .title = "SGM Uniform", .fill = fill_sgm};
const cn_sigma_schedule cn_sigmas_simple = {
    .name = "simple", .title = "Simple", .fill = fill_simple};
