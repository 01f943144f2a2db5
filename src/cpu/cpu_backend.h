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

/* Positions of one image or sequence. */
static inline int64_t cn_cpu_positions(const cn_node *x)
{
    return rows_of(x) / x->shape[0];
}

/* Frees what a product's prepare left in the step; nothing for other operations (product.c). */
void cn_cpu_product_release(cn_step *st);

#endif
