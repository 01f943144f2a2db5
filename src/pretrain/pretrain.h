/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain.h - what the stages of training a small base model from procedural scenes share. */
#ifndef CN_PRETRAIN_H
#define CN_PRETRAIN_H

#include "model/nets/nets.h"
#include "model/checkpoint/weights.h"
#include "pretrain/learner.h"

/* The networks' sizes by a run's options. */
void cn_pretrain_configs(const cn_pretrain_options *o, cn_base *base);

typedef struct cn_pretrain_run {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_pretrain_options *o;
    cn_base *base;
    cn_params *unet, *vae, *text;
    char state_dir[CN_PATH_BYTES];
    double started_s;
} cn_pretrain_run;

cn_status cn_pretrain_vae(cn_pretrain_run *r) CN_CHECKED;
/* The autoencoder's weights from which training goes well (vae_begin.c). */
cn_status cn_pretrain_begin_vae(cn_pretrain_run *r) CN_CHECKED;
/* The decoder of the finished autoencoder alone. */
cn_status cn_pretrain_decoder(cn_pretrain_run *r) CN_CHECKED;
/* Of the finished autoencoder in the output folder: sizes and scaling factor; weights, once
 * declared. */
cn_status cn_pretrain_read_vae_config(cn_pretrain_run *r) CN_CHECKED;
cn_status cn_pretrain_load_vae(cn_pretrain_run *r) CN_CHECKED;
/* Fills p from a network's folder, "vae", of a diffusers folder. */
cn_status cn_pretrain_load(cn_pretrain_run *r, const char *dir, const char *folder,
                           cn_params *p) CN_CHECKED;
cn_status cn_pretrain_unet(cn_pretrain_run *r) CN_CHECKED;
/* Appends a line of JSON to OUT/training.jsonl. */
cn_status cn_pretrain_note(cn_pretrain_run *r, const char *fmt, ...) CN_PRINTF(2, 3) CN_CHECKED;
void cn_pretrain_progress(cn_pretrain_run *r, const char *stage, int64_t step, int64_t steps,
                          double loss);
/* Writes tensors as PNG: n pictures [size,size,3] in [-1,1] in rows of `columns`. */
cn_status cn_pretrain_sheet(cn_pretrain_run *r, const char *path, const float *pictures, int n,
                            int columns, int64_t size_px) CN_CHECKED;

#endif
