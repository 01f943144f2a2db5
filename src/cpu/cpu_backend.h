/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_backend.h - what the files of the CPU backend share. */
#ifndef CN_CPU_CPU_BACKEND_H
#define CN_CPU_CPU_BACKEND_H

#include "cpu/cpu.h"
#include "cpu/kernels/bf16/bf16.h"
#include "cpu/onednn.h"

typedef struct cpu_backend {
    cn_backend base;
    cn_dnnl *dnnl;
    const cn_kernels *k;
    cn_bf16_level bf16;
    int threads;
} cpu_backend;

static inline int64_t rows_of(const cn_node *x)
{
    return cn_node_elements(x) / cn_channels(x);
}

/* The kernels for x's storage type. */
static inline const cn_stored_kernels *cn_cpu_stored(const cpu_backend *b, const cn_node *x)
{
    return b->k->stored[x->dtype == CN_BF16 ? CN_STORED_BF16 : CN_STORED_F32];
}

/* Convolutions and matrix products, forward and both gradients (product.c). */
cn_status cn_cpu_conv_prepare(cpu_backend *b, cn_ctx *ctx, cn_step *st);
cn_status cn_cpu_linear_prepare(cpu_backend *b, cn_ctx *ctx, cn_step *st);
cn_status cn_cpu_product_run(cpu_backend *b, cn_ctx *ctx, const cn_step *st);
void cn_cpu_product_release(cn_step *st);

/* Attention and its gradient (attention.c). */
cn_status cn_cpu_attention_prepare(cpu_backend *b, cn_step *st);
cn_status cn_cpu_attention_run(cpu_backend *b, const cn_step *st);

#endif
