/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain.h - what the stages of training a small base model from procedural scenes share.
 *
 * A stage is a list of parameter sets under AdamW with warm-up and cosine decay and, for drawing,
 * an exponential moving average (EMA) of the weights. Its whole state goes into one safetensors
 * file now and then, so that a stopped run goes on where it was.
 */
#ifndef CN_PRETRAIN_H
#define CN_PRETRAIN_H

#include "graph/plan.h"
#include "model/nets/nets.h"
#include "model/checkpoint/weights.h"
#include "train/optimizer.h"

typedef struct cn_learner_options {
    double lr, weight_decay, ema; /* ema 0: none */
    float beta2;
    int64_t steps, warmup_steps;
} cn_learner_options;

typedef struct cn_learner {
    cn_ctx *ctx, *save_ctx; /* saving has its own, so that a cancel can't cut it short */
    cn_backend *be;
    cn_learner_options o;
    cn_param **params;
    float **ema;
    const float **grads;
    cn_node **grad_nodes;
    int64_t n, step;
    cn_adamw *adamw;
} cn_learner;

/* Over every trainable parameter of the sets; plan holds their gradients. */
cn_status cn_learner_create(cn_ctx *ctx, cn_backend *be, cn_graph *g, cn_plan *plan,
                            cn_params *const *sets, int n_sets, const cn_learner_options *o,
                            cn_learner **out) CN_CHECKED;
void cn_learner_destroy(cn_learner *l);
/* After a run of the plan: one optimizer step. */
cn_status cn_learner_step(cn_learner *l, double *grad_norm) CN_CHECKED;
/* Exchanges weights and their average (again: back). */
void cn_learner_swap_ema(cn_learner *l);
cn_status cn_learner_save(cn_learner *l, const char *dir, const char *name) CN_CHECKED;
/* After a cancel: saves the last whole step; CN_ECANCELLED with what to do next. */
cn_status cn_learner_stop(cn_learner *l, const char *dir, const char *name) CN_CHECKED;
/* False in *found when there is nothing to go on from. */
cn_status cn_learner_load(cn_learner *l, const char *dir, const char *name, bool *found) CN_CHECKED;

/* The sizes of the model that ships. */
enum { CN_TINY_VOCABULARY = 700 };
void cn_tiny_configs(cn_base *base);

typedef struct cn_pretrain_run {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_pretrain_options *o;
    cn_base *base;
    cn_params *unet, *vae, *text;
    char state_dir[4096];
    double started_s;
} cn_pretrain_run;

cn_status cn_pretrain_vae(cn_pretrain_run *r) CN_CHECKED;
/* The decoder of the finished autoencoder alone. */
cn_status cn_pretrain_decoder(cn_pretrain_run *r) CN_CHECKED;
/* Of the finished autoencoder in the output folder: sizes and scaling factor; weights, once
 * declared. */
cn_status cn_pretrain_read_vae_config(cn_pretrain_run *r) CN_CHECKED;
cn_status cn_pretrain_load_vae(cn_pretrain_run *r) CN_CHECKED;
cn_status cn_pretrain_unet(cn_pretrain_run *r) CN_CHECKED;
/* Appends a line of JSON to OUT/training.jsonl. */
cn_status cn_pretrain_note(cn_pretrain_run *r, const char *fmt, ...) CN_PRINTF(2, 3) CN_CHECKED;
void cn_pretrain_progress(cn_pretrain_run *r, const char *stage, int64_t step, int64_t steps,
                          double loss);
/* Writes tensors as PNG: n pictures [size,size,3] in [-1,1] in rows of `columns`. */
cn_status cn_pretrain_sheet(cn_pretrain_run *r, const char *path, const float *pictures, int n,
                            int columns, int64_t size_px) CN_CHECKED;

#endif
