/* SPDX-License-Identifier: Apache-2.0 */
/* conv_algo.h - convolutions, and products as 1x1 ones, by own kernels: which are faster that way,
 * and their steps. */
#ifndef CN_CPU_CONV_ALGO_H
#define CN_CPU_CONV_ALGO_H

#include "cpu/kernels/bf16/bf16.h"
#include "cpu/onednn.h"

struct cpu_backend;
typedef struct cn_conv_algo cn_conv_algo; /* a prepared step */

/* In kernels/conv/winograd.c; conv/patches.c and bf16/conv_bf16.c; conv/few_outputs.c;
 * streamed_product.c. */
typedef enum cn_conv_algo_kind {
    CN_CONV_ONEDNN,
    CN_CONV_WINOGRAD,
    CN_CONV_PATCHES,
    CN_CONV_FEW_OUTPUTS,
    CN_CONV_STREAM
} cn_conv_algo_kind;

/* The fastest way to a convolution or one of its gradients, beside direct ones at the rate of the
 * processor's products. */
cn_conv_algo_kind cn_conv_algo_choose(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c,
                                      cn_bf16_level bf16, int threads);
/* By one of the own ways, w's layout being claimed; counts scratch. Weights are read as they are
 * stored, Q8 excepted: a run gets those in x's type. */
cn_status cn_conv_algo_prepare(struct cpu_backend *b, cn_ctx *ctx, cn_conv_algo_kind way,
                               cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_param *w,
                               cn_conv_algo **out, size_t *scratch_bytes) CN_CHECKED;
/* With the step's sums and activation. weights and scratch stand for the step's own. */
void cn_conv_algo_run(const struct cpu_backend *b, const cn_conv_algo *p, const cn_step *st,
                      const void *weights, void *scratch);
void cn_conv_algo_destroy(cn_conv_algo *p);

#endif
