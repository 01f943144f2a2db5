/* SPDX-License-Identifier: Apache-2.0 */
/* sigmas.h - noise levels of the samplers that count in sigma = noise / signal. */
#ifndef CN_DIFFUSE_SAMPLERS_SIGMAS_H
#define CN_DIFFUSE_SAMPLERS_SIGMAS_H

#include "diffuse/samplers/sampler.h"

/* k-diffusion's, of Euler and Heun: signal 1, fractional timesteps from the schedule's last to its
 * first. And the solvers', of DPM-Solver++ and UniPC: signal^2 + noise^2 = 1, whole timesteps, the
 * first left out. */
typedef enum cn_sigma_family { CN_SIGMAS_K, CN_SIGMAS_SOLVER } cn_sigma_family;

/* Fills timesteps and levels for s->steps calls, spread as s->sigma_schedule says. Behind the last
 * stands a clean level, or timestep 0's if the schedule ends_at_sigma_min. */
cn_status cn_sigmas_prepare(cn_ctx *ctx, cn_sampler *s, cn_sigma_family family) CN_CHECKED;

/* The timestep that has this sigma, linear in its logarithm between whole ones. */
double cn_sigmas_timestep(const cn_schedule *schedule, double sigma);
/* The sigma of a timestep, by the same rule, as k-diffusion and ComfyUI have it. */
double cn_sigmas_at(const cn_schedule *schedule, double timestep);

#endif
