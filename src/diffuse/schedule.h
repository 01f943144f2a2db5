/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h - how much noise each timestep holds, and which timesteps a run visits.
 *
 * x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, with a_t = alphas_cumprod[t], t in 0..n-1. The betas
 * are computed in float32 as torch.linspace does, so that a_t equals diffusers' bit for bit nearly
 * everywhere. With zero_snr the last timestep is noise alone, a_t = 0 (Lin et al., "Common
 * Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).
 */
#ifndef CN_DIFFUSE_SCHEDULE_H
#define CN_DIFFUSE_SCHEDULE_H

#include "base/base.h"
#include "model/checkpoint/config.h"

typedef struct cn_schedule {
    cn_schedule_config config;
    int n; /* config.train_timesteps */
    float alphas_cumprod[];
} cn_schedule;

/* *out: cn_schedule_destroy it. CN_EINVAL for betas outside (0,1) or a length outside 1..100000. */
cn_status cn_schedule_create(cn_ctx *ctx, const cn_schedule_config *config,
                             cn_schedule **out) CN_CHECKED;
void cn_schedule_destroy(cn_schedule *s);

/* out = sqrt(a_t) x0 + sqrt(1 - a_t) noise, n values; out may be x0. */
void cn_schedule_add_noise(const cn_schedule *s, int t, const float *x0, const float *noise,
                           float *out, int64_t n);
/* What v-prediction learns: sqrt(a_t) noise - sqrt(1 - a_t) x0. */
void cn_schedule_velocity(const cn_schedule *s, int t, const float *x0, const float *noise,
                          float *out, int64_t n);

/* CN_EINVAL unless 1 <= steps <= n. */
cn_status cn_schedule_check_steps(cn_ctx *ctx, const cn_schedule *s, int steps) CN_CHECKED;

/* The `steps` timesteps of a run, largest first, as diffusers' set_timesteps gives them (`leading`
 * adds steps_offset); they may be fractions. steps as cn_schedule_check_steps wants them.
 * without_last: one more than `steps` are spaced, and the lowest is left out, as the multistep
 * solvers do. */
void cn_schedule_timesteps(const cn_schedule *s, cn_spacing spacing, int steps, bool without_last,
                           double *out);

#endif
