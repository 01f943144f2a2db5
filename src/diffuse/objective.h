/* SPDX-License-Identifier: Apache-2.0 */
/* objective.h - what a step is to learn: which difference counts how much, which timesteps and
 * noise are drawn.
 *
 * Names and formulas are those of diffusers' and kohya's training scripts; the sources stand at
 * each.
 */
#ifndef CN_DIFFUSE_OBJECTIVE_H
#define CN_DIFFUSE_OBJECTIVE_H

#include "diffuse/schedule.h"
#include "graph/graph.h"

typedef enum cn_huber_schedule {
    CN_HUBER_SNR,
    CN_HUBER_EXPONENTIAL,
    CN_HUBER_CONSTANT
} cn_huber_schedule;

typedef struct cn_objective {
    cn_loss loss;
    cn_huber_schedule huber_schedule;
    double huber_c, snr_gamma, noise_offset;
    int first_timestep, timesteps; /* drawn from first_timestep on, so many of them */
} cn_objective;

/* What may be said for loss_type and huber_schedule; NULL at the end. */
extern const char *const cn_objective_losses[], *const cn_objective_huber_schedules[];
/* From a run's options; CN_EINVAL for unknown words and for what doesn't go with this schedule. */
cn_status cn_objective_find(cn_ctx *ctx, const cn_train_options *o, const cn_schedule *schedule,
                            cn_objective *out) CN_CHECKED;
/* Whether samples count differently, so that the graph's loss needs `per`. */
bool cn_objective_weighs(const cn_objective *o);
/* A sample's weight and Huber c at its timestep. */
void cn_objective_weigh(const cn_objective *o, const cn_schedule *schedule, int timestep,
                        float per[2]);
/* Shifts the noise [rows,C] of a sample by a normal value per channel times noise_offset. */
void cn_objective_shift(const cn_objective *o, cn_rng *rng, float *noise, int64_t rows, int64_t C);

#endif
