/* SPDX-License-Identifier: Apache-2.0 */
/* run_progress.h - how far a run is, and the loop that takes it on. */
#ifndef CN_TRAIN_RUN_PROGRESS_H
#define CN_TRAIN_RUN_PROGRESS_H

#include "base/lock.h"
#include "train/held_out.h"

/* What one optimizer step came to; seconds: all of it, its wait for data, its encoding of pictures
 * and texts. */
typedef struct cn_step_result {
    double loss, grad_norm, lr;
    double seconds, waited, encoded;
    double loss_scale; /* of a run in F16 */
    bool skipped;      /* for an infinite gradient: grad_norm isn't finite */
} cn_step_result;

typedef struct cn_run_progress {
    cn_train_state state;
    char resume_path[CN_PATH_BYTES]; /* "" : from the start */
    int64_t saved_step;              /* of the last checkpoint, 0: none */
    int64_t first_step;              /* taken by this process: state.step before the loop */
    double loop_begun_s;
    /* the run's last step: total_steps, or what the minutes that are left allow at the pace so far;
     * the same on all ranks */
    int64_t end_step;
    /* ranks that were asked to stop when the last step's losses were added up; the sum of their
     * numbers: which one it was, where it was one alone */
    int stop_requests;
    int stop_rank;
    cn_step_result recent[100]; /* the last n_recent of them, in turn */
    int64_t n_recent;
    cn_dir_lock *lock;     /* of output_dir; NULL: a dry run, or another rank holds it */
    cn_metrics *metrics;   /* NULL: another rank writes them */
    cn_held_out *held_out; /* NULL: no validation */
    cn_train_result result;
} cn_run_progress;

/* From state.step to end_step, with validations and checkpoints. CN_ECANCELLED after cn_cancel,
 * with the last whole step saved. */
cn_status cn_run_loop(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                      cn_run_progress *p) CN_CHECKED;
/* Puts a failed save's message into the run's context; tells the callback of one that worked. */
cn_status cn_run_saved(const cn_run_setup *r, cn_status status, const char *path) CN_CHECKED;
/* Of the steps remembered. */
double cn_run_mean_loss(const cn_run_progress *p);

#endif
