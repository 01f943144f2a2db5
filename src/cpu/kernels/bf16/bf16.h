/* SPDX-License-Identifier: Apache-2.0 */
/* bf16.h - attention, convolutions to few channels and products of many rows on processors that
 * multiply bfloat16: AVX512_BF16, with AMX's tiles where they are.
 *
 * This folder is compiled once, for AVX-512 with both extensions; nothing in it may be called
 * before cn_bf16_support has said what the processor and the system allow.
 */
#ifndef CN_KERNEL_BF16_H
#define CN_KERNEL_BF16_H

#include "cpu/kernels/kernels.h"

typedef enum cn_bf16_level { CN_BF16_NONE, CN_BF16_AVX512, CN_BF16_AMX } cn_bf16_level;

/* The most that may be used here; calls the system for AMX's registers. In cpu/isa.c, plain code.
 */
cn_bf16_level cn_bf16_support(void);

size_t cn_attention16_scratch_bytes(const cn_attention_args *a);
size_t cn_attention16_grad_scratch_bytes(const cn_attention_args *a);
void cn_attention16(const cn_attention_args *a);
void cn_attention16_grad(const cn_attention_args *a);

/* kernels.h's few_outputs() and stream() for pictures in bfloat16; weights are rounded to it. */
void cn_few_outputs_bf16(const cn_conv_args *a);
void cn_stream16(const cn_conv_args *a);

/* c [m,n] = (add: +=) a [m,k] b, in float from bfloat16: a row-major, b in pairs of its rows,
 * [k/2][ldb][2]; n a multiple of 8, k of 2. Leading dimensions in elements (b: columns). With amx m
 * and n multiples of 16, k of 32, and between cn_tiles_begin and cn_tiles_end. */
void cn_tiles_product(bool amx, int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                      const uint16_t *b, int64_t ldb, float *c, int64_t ldc, bool add);

/* A thread's tile registers: configured for cn_tiles_product, then as they were (oneDNN keeps its
 * own configuration there and looks at it only when it changes). */
typedef struct cn_tiles {
    _Alignas(64) uint8_t saved[64];
} cn_tiles;
void cn_tiles_begin(bool amx, cn_tiles *t);
void cn_tiles_end(bool amx, const cn_tiles *t);

#endif
