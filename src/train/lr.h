/* SPDX-License-Identifier: Apache-2.0 */
/* lr.h - learning-rate schedules, with the names and curves of diffusers' get_scheduler, and
 * warmup_stable_decay of transformers' (get_wsd_schedule). */
#ifndef CN_TRAIN_LR_H
#define CN_TRAIN_LR_H

#include "base/base.h"

typedef enum cn_lr_kind {
    CN_LR_CONSTANT,
    CN_LR_CONSTANT_WITH_WARMUP,
    CN_LR_LINEAR,
    CN_LR_COSINE,
    CN_LR_COSINE_WITH_RESTARTS,
    CN_LR_POLYNOMIAL,
    CN_LR_WARMUP_STABLE_DECAY,
    CN_LR_COUNT
} cn_lr_kind;

typedef struct cn_lr {
    cn_lr_kind kind;
    double base;          /* the learning rate at its highest */
    int64_t warmup_steps; /* from 0 up to base; "constant" has none */
    int64_t decay_steps;  /* of warmup_stable_decay: the last, from base down to 0 */
    int64_t total_steps;
    double cycles; /* of cosine_with_restarts */
    double power;  /* of polynomial, which ends at 1e-7 */
} cn_lr;

/* By cn_lr_kind; NULL at the end. */
extern const char *const cn_lr_words[CN_LR_COUNT + 1];
/* CN_EINVAL with the names there are. */
cn_status cn_lr_kind_find(cn_ctx *ctx, const char *name, cn_lr_kind *out) CN_CHECKED;
/* The warm-up's steps. asked: them; a part of the run where it is below 1, as kohya's scripts have
 * it; where it is below 0, 500 or a tenth of the run, whichever is less. */
int64_t cn_lr_warmup(double asked, int64_t total_steps);
/* The decay's steps. asked: them, or a part of the run where it is below 1. */
int64_t cn_lr_decay(double asked, int64_t total_steps);
/* The highest learning rate of steps 0 to total_steps - 1: below `base` where the warm-up is as
 * long as the run, or longer. */
double cn_lr_highest(const cn_lr *lr);
/* The learning rate of optimizer step `step`, counted from 0. */
double cn_lr_at(const cn_lr *lr, int64_t step);

#endif
