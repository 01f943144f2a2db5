/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.h - what a run leaves on disk, and how it goes on from there.
 *
 *   OUT/config.json, OUT/diffusion_pytorch_model.safetensors   the ControlNet as diffusers has it
 *   OUT/control.safetensors                                    the same with single-file names;
 * what other kinds have: trained_kinds.h OUT/base/, OUT/base.safetensors the base in both layouts,
 * if it was trained OUT/ema/                                                   all of these from
 * the mean of the weights OUT/run.json                                               whose
 * checkpoints these are OUT/checkpoint-N/   ControlNet in both layouts, base.safetensors,
 * optimizer.safetensors, trainer_state.json
 *
 * A checkpoint is written into a folder of another name and renamed when all of it is on disk, so a
 * folder called checkpoint-N is whole unless something else damages it: trainer_state.json
 * (train_state.h) has the length and CRC-32 of every other file, and resuming looks. Weights and
 * moments are F32: nothing is rounded.
 */
#ifndef CN_TRAIN_CHECKPOINT_H
#define CN_TRAIN_CHECKPOINT_H

#include "base/lock.h"
#include "model/checkpoint/weights.h"
#include "train/optimizer.h"
#include "train/train_state.h"
#include "train/trained_kinds.h"

typedef struct cn_checkpoint {
    cn_ctx *ctx;
    cn_backend *be;
    const char *output_dir;
    const cn_trained_net *net;
    cn_params *control;
    const cn_base *base;
    cn_params *unet;           /* NULL: the base hasn't been trained */
    const char *tokenizer_dir; /* for a base without one; NULL */
    cn_adamw *adamw;
    cn_ranks *ranks; /* all of which save together; NULL: this process alone */
} cn_checkpoint;

/* The ControlNet, and the base if it was trained, in both layouts into `dir`, which is made. */
cn_status cn_checkpoint_save_result(const cn_checkpoint *c, const char *dir) CN_CHECKED;
/* checkpoint-STEP; then, with limit > 0, the oldest ones beyond `limit` are removed. path: its
 * folder, "" while there is none: a rank that was lost is a failure also once it is there. */
cn_status cn_checkpoint_save(const cn_checkpoint *c, const cn_train_state *state, int64_t limit,
                             char path[CN_PATH_BYTES]) CN_CHECKED;
/* "latest" or a folder, alone or within output_dir, to a path and its state, all files found whole.
 * "latest" names damaged ones, and those of another run than the folder's, in the log and takes the
 * newest of the others; CN_EFORMAT when there is none of them. path[0] = 0 when "latest" finds no
 * checkpoint at all. One outside output_dir gives a state without a run_id: what goes on from it is
 * another run. */
cn_status cn_checkpoint_find(cn_ctx *ctx, const char *output_dir, const char *which,
                             char path[CN_PATH_BYTES], cn_train_state *state) CN_CHECKED;
/* What a run that writes into `dir` would overwrite: CN_EINVAL names it. state: what it goes on
 * from; without a run_id it begins anew in this folder. */
cn_status cn_checkpoint_refuse_occupied(cn_ctx *ctx, const char *dir,
                                        const cn_train_state *state) CN_CHECKED;
/* Removes checkpoints and drawings from behind step `after` (-1: all). */
cn_status cn_checkpoint_clear(cn_ctx *ctx, const char *dir, int64_t after) CN_CHECKED;
/* dir/run.json: "latest" takes this run's checkpoints from now on. */
cn_status cn_checkpoint_claim(cn_ctx *ctx, const char *dir, const char *run_id) CN_CHECKED;
/* Weights and optimizer; the network must be planned. */
cn_status cn_checkpoint_load(const cn_checkpoint *c, const char *path) CN_CHECKED;
/* Bytes that a save of the ControlNet with its optimizer takes. */
size_t cn_checkpoint_bytes(const cn_checkpoint *c);
/* The folder becomes this process's alone (base/lock.h), and what a killed run left half-written in
 * it is cleared away. */
cn_status cn_checkpoint_lock(cn_ctx *ctx, const char *dir, cn_dir_lock **out) CN_CHECKED;
/* The folder is made and written to once; CN_EIO when that fails or less than `bytes` are free. */
cn_status cn_checkpoint_try_dir(cn_ctx *ctx, const char *dir, size_t bytes) CN_CHECKED;

#endif
