/* SPDX-License-Identifier: Apache-2.0 */
/* run_setup.h - what a training run is set to: options, files of models, backend, the other ranks.
 *
 * A run has four parts. This one is settled before the first step and only read from then on; the
 * others are its data (run_data.h), its networks and plans (run_nets.h) and how far it is
 * (run_progress.h). A function takes those parts that it needs, as const where it only reads.
 *
 * Parts are made in the order of need: files are checked before networks are built, networks are
 * planned (so memory is known) before the data set is encoded, and nothing but output_dir is
 * written before the first step.
 */
#ifndef CN_TRAIN_RUN_SETUP_H
#define CN_TRAIN_RUN_SETUP_H

#include "data/tags.h"
#include "diffuse/objective.h"
#include "dist/ranks.h"
#include "eval/validate.h"
#include "model/checkpoint/weights.h"
#include "train/lr.h"
#include "train/trained_kinds.h"

typedef struct cn_run_setup {
    cn_ctx *ctx;
    cn_ctx *save_ctx; /* never cancelled: a save that has begun is finished */
    cn_backend *be;
    bool halves;     /* products of F16, under a loss scale */
    bool muon;       /* as --optimizer-type */
    cn_ranks *ranks; /* NULL: one process */
    cn_train_options o;
    cn_train_callbacks callbacks;
    char cache_dir[CN_PATH_BYTES]; /* of o, where none was given */
    cn_base *base;
    cn_trained_net net;
    cn_comparison comparison; /* of drawings and conditions */
    cn_schedule *schedule;
    cn_objective objective;
    cn_lr_kind lr_kind;
    int64_t total_steps; /* at most, where minutes bound the run */
    double begun_s;
} cn_run_setup;

/* --- train_options.c -------------------------------------------------------------------------- */

/* CN_EINVAL for a value that is out of its range, and for options that don't go together. */
cn_status cn_train_options_check(cn_ctx *ctx, const cn_train_options *o) CN_CHECKED;
/* What is done to captions that are lists of tags. */
cn_tag_rules cn_train_tag_rules(const cn_train_options *o);
/* Whether matrices learn by Muon. */
bool cn_train_by_muon(const cn_train_options *o);
/* Whether pictures or texts are encoded in their step. */
bool cn_train_encodes(const cn_train_options *o);

/* --- run_setup.c ------------------------------------------------------------------------------ */

/* Opens base, ControlNet and backend. ctx, o, callbacks and ranks are there; the rest is empty and
 * closed after a failure too. */
cn_status cn_run_setup_open(cn_run_setup *r) CN_CHECKED;
/* What drawings are compared by, what the base predicts, noise schedule and objective. May run the
 * base's UNet once. */
cn_status cn_run_setup_settle(cn_run_setup *r) CN_CHECKED;
/* total_steps, from the samples of an epoch. */
void cn_run_setup_count_steps(cn_run_setup *r, int64_t epoch_samples);
/* The learning rate's schedule of a run that ends with step `end`. */
cn_lr cn_run_setup_lr(const cn_run_setup *r, int64_t end);
void cn_run_setup_close(cn_run_setup *r);
/* Says how far a stage other than training is. */
void cn_run_report_stage(const cn_run_setup *r, const char *stage, int64_t done, int64_t total);
/* The same as a callback; user: the const cn_run_setup. */
void cn_run_on_stage(void *user, const char *stage, int64_t done, int64_t total);
void *cn_run_stage_user(const cn_run_setup *r);

/* --- distributed.c ---------------------------------------------------------------------------- */

/* Joins the other processes of a distributed run. */
cn_status cn_run_join(cn_run_setup *r) CN_CHECKED;
/* Leaves them; a failure's message is kept where it is to be told. saved_step: of the last
 * checkpoint, 0 without one. */
void cn_run_part(cn_run_setup *r, int64_t saved_step, cn_status s);
/* Samples that a pass takes, of all ranks; that an optimizer step takes. */
int64_t cn_run_pass_samples(const cn_run_setup *r);
int64_t cn_run_step_samples(const cn_run_setup *r);

#endif
