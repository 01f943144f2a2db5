/* SPDX-License-Identifier: Apache-2.0 */
/* learner.h - what is trained from scenes: parameter sets under AdamW, and the state that a stopped
 * run goes on from.
 *
 * The learning rate rises linearly, stays, and falls by half a cosine over the last part of the
 * steps, so a run can be made longer before the fall begins without any of its steps becoming
 * another one.
 *
 * A state is two files, weights and the optimizer's moments with the weights' mean (EMA), in one of
 * two slots by turns: whenever the process is killed, one slot is whole.
 */
#ifndef CN_PRETRAIN_LEARNER_H
#define CN_PRETRAIN_LEARNER_H

#include "graph/plan.h"
#include "train/optimizer.h"

typedef struct cn_learner_options {
    double lr, weight_decay, ema; /* ema 0: none */
    float beta2;
    bool muon;            /* for matrices, see cn_adamw_options */
    double max_grad_norm; /* 0: no clipping */
    int64_t steps, warmup_steps;
    double
        decay_part; /* of the steps, over which the rate falls to a hundredth; 1: from the start */
    int64_t passes; /* whose gradients a step takes the mean of */
} cn_learner_options;

typedef struct cn_learner {
    cn_ctx *ctx, *save_ctx; /* saving has its own, so that a cancel can't cut it short */
    cn_backend *be;
    cn_plan *plan;
    cn_learner_options o;
    cn_param **params;
    const float **grads;
    int64_t n, step;
    int slot;       /* that the next state goes to */
    double saved_s; /* when a state was written last, or the learner made */
    cn_adamw *adamw;
} cn_learner;

/* Over every trainable parameter of the sets; plan holds their gradients and stays the caller's. */
cn_status cn_learner_create(cn_ctx *ctx, cn_backend *be, cn_graph *g, cn_plan *plan,
                            cn_params *const *sets, int n_sets, const cn_learner_options *o,
                            cn_learner **out) CN_CHECKED;
void cn_learner_destroy(cn_learner *l);
/* The learning rate of step `step`, counted from 0. */
double cn_learner_rate(const cn_learner_options *o, int64_t step);
/* Passes that were added for the step to come. */
int64_t cn_learner_passes(const cn_learner *l);
/* After a run of the plan that isn't the step's last: its gradients join the step's mean. */
cn_status cn_learner_add_pass(cn_learner *l) CN_CHECKED;
/* After a step's last run of the plan: one optimizer step. grad_norm: before clipping. */
cn_status cn_learner_step(cn_learner *l, double *grad_norm) CN_CHECKED;
/* Exchanges weights and their mean (again: back). */
cn_status cn_learner_swap_ema(cn_learner *l) CN_CHECKED;
cn_status cn_learner_save(cn_learner *l, const char *dir, const char *name) CN_CHECKED;
/* Seconds since the last state was written: what a killed run loses. */
double cn_learner_unsaved_s(const cn_learner *l);
enum { CN_LEARNER_MOST_UNSAVED_S = 300 };
/* After a cancel: saves the last whole step; CN_ECANCELLED with what to do next. */
cn_status cn_learner_stop(cn_learner *l, const char *dir, const char *name) CN_CHECKED;
/* False in *found when there is nothing to go on from. CN_EMISMATCH for a state of other sizes. */
cn_status cn_learner_load(cn_learner *l, const char *dir, const char *name, bool *found) CN_CHECKED;

#endif
