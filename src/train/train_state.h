/* SPDX-License-Identifier: Apache-2.0 */
/* train_state.h - where a run stands, and the file of a checkpoint that says so.
 *
 * DIR/trainer_state.json is the last file of a checkpoint to be written. It has a format number,
 * the length and CRC-32 of every other file, and a CRC-32 of itself, so that a digit that changed
 * is seen as a lost file is. Nothing in it is believed unchecked: a number outside its bounds, a
 * list of files that lacks one and a format of another version are refused by name.
 * Every safetensors file says which run and step it is of: files of two runs are no checkpoint.
 */
#ifndef CN_TRAIN_TRAIN_STATE_H
#define CN_TRAIN_TRAIN_STATE_H

#include "train/loss_scale.h"
#include "train/phase.h"

#define CN_TRAINED_FILE         "control.safetensors"   /* of every checkpoint and result */
#define CN_TRAIN_BASE_FILE      "base.safetensors"      /* of a checkpoint with a trained base */
#define CN_TRAIN_OPTIMIZER_FILE "optimizer.safetensors" /* of every checkpoint */

enum { CN_RUN_ID_BYTES = 17 };

/* Everything random follows from seed and samples (batch.h). */
typedef struct cn_train_state {
    char run_id[CN_RUN_ID_BYTES]; /* 16 hexadecimal digits that no other run has */
    int64_t step;                 /* optimizer steps taken */
    int64_t samples;              /* samples seen */
    uint64_t seed;
    int64_t items; /* samples of an epoch: training pairs, with buckets filled up to whole passes */
    int64_t unit;  /* samples of a pass; with buckets the order of an epoch depends on it */
    int64_t learned_at_step; /* -1: control isn't learned yet */
    cn_phase phase;          /* in which the last step was taken */
    /* of the next step: passes whose gradients the optimizer has summed, and their losses */
    int64_t passes;
    double loss_sum;
    cn_loss_scale scale; /* of a run in F16 */
} cn_train_state;

cn_status cn_run_id_create(cn_ctx *ctx, char out[CN_RUN_ID_BYTES]) CN_CHECKED;

/* What a file of the checkpoint says about itself, as metadata for cn_safetensors_write. */
typedef struct cn_run_mark {
    char step[24];
    const char *metadata[5];
} cn_run_mark;
/* It points into `state` and `out`. */
void cn_run_mark_fill(const cn_train_state *state, cn_run_mark *out);

/* Writes dir/trainer_state.json over the files that the folder has by now. */
cn_status cn_train_state_save(cn_ctx *ctx, const char *dir, const cn_train_state *state) CN_CHECKED;
/* The state of the checkpoint in `dir`, once all its files were seen to be whole; CN_EFORMAT names
 * the file that isn't. run_id "": of format 2, as the log says, where nothing checks the state. */
cn_status cn_train_state_read(cn_ctx *ctx, const char *dir, cn_train_state *out) CN_CHECKED;

#endif
