/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - what the works of the benchmark share. */
#ifndef BENCH_H
#define BENCH_H

#include "graph/plan.h"
#include "model/checkpoint/model_base.h"

enum { BENCH_MAX_RUNS = 100 };

typedef struct bench {
    cn_ctx *ctx;
    cn_backend *backend;
    const char *model; /* "sd15" */
    cn_base base;      /* configurations alone */
    cn_controlnet_config control;
    int64_t px, batch;
    int runs;
    cn_dtype dtype, storage; /* computing; locked weights */
    bool halves;             /* products of F16, on a device */
    bool no_control, guidance, checkpointing, use_8bit_adam, only_mid, table;
    const char *only,
        *picture;    /* annotators: one network; Canny's picture. ops: rows' text. NULL */
    const char *out; /* model: a folder; NULL: none given */
} bench;

/* Computing and storage types, for a set of which nothing is declared yet. */
void bench_types(const bench *b, cn_params *p);
/* Gives every parameter of p seeded values of the right magnitude, whatever its layout. */
cn_status bench_fill(bench *b, cn_params *p) CN_CHECKED;

/* Seconds of b->runs runs, behind one that isn't counted: it touches the memory and computes what
 * stays the same from run to run. */
typedef struct bench_times {
    double seconds[BENCH_MAX_RUNS]; /* in order of size */
    int n;
} bench_times;
cn_status bench_measure(bench *b, cn_status (*run)(void *user), void *user,
                        bench_times *out) CN_CHECKED;
/* One line of JSON on stdout. */
void bench_report(const bench *b, const char *work, const bench_times *t, const cn_plan_info *info);

/* A ControlNet's training step with latents and text at hand: forward, backward, AdamW. */
cn_status bench_train(bench *b) CN_CHECKED;
/* The same of the UNet itself, without a ControlNet. */
cn_status bench_finetune(bench *b) CN_CHECKED;
/* Every convolution, product and attention above 1 GFLOP of drawing, decoding and training. */
cn_status bench_ops(bench *b) CN_CHECKED;
/* Writes the networks as folders. */
cn_status bench_model(bench *b) CN_CHECKED;
/* The optimizer's passes over memory. */
cn_status bench_optimizer(bench *b) CN_CHECKED;

/* Every network of the annotators. */
cn_status bench_annotators(bench *b) CN_CHECKED;

#endif
