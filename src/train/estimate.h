/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.h - what a dry run says beyond memory: is the data sound, and how long will it all
 * take? */
#ifndef CN_TRAIN_ESTIMATE_H
#define CN_TRAIN_ESTIMATE_H

#include "train/run_nets.h"

/* Looks the data over and tells callbacks.checked; CN_EFORMAT when pairs can't be used and must
 * be. */
cn_status cn_estimate_data(const cn_run_setup *r) CN_CHECKED;
/* Seconds that encoding takes before the first step, from a few pairs. */
cn_status cn_estimate_encoding(const cn_run_setup *r, const cn_run_data *d,
                               double *seconds) CN_CHECKED;
/* Seconds of an optimizer step of every phase from first_step on, measured on noise, to n->plan;
 * weights and optimizer are of no use afterwards. */
cn_status cn_estimate_steps(const cn_run_setup *r, const cn_buckets *buckets, int64_t first_step,
                            cn_run_nets *n) CN_CHECKED;
/* n->plan.validation_seconds, from its step_seconds. */
void cn_estimate_validations(const cn_run_setup *r, int64_t first_step, cn_run_nets *n);
/* Of a run that its minutes end before its steps: how far it comes. */
void cn_estimate_end(const cn_run_setup *r, int64_t first_step, cn_train_plan *plan);

#endif
