/* SPDX-License-Identifier: Apache-2.0 */
/* attention_heads.h - where attention's heads are and how its gradient is divided among workers, in
 * float32 and bfloat16 alike.
 *
 * A worker owns a head, so that no sum crosses workers. With fewer heads than workers, workers take
 * parts of a head's queries, each with sums of its own for the gradients of keys and values,
 * transposed ([D][keys], dk before dv), which are added in a fixed order.
 */
#ifndef CN_CPU_KERNELS_ATTENTION_HEADS_H
#define CN_CPU_KERNELS_ATTENTION_HEADS_H

#include "base/base.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/prefetch.h"

#include <stdint.h>

/* Where head h of all in the batch begins in rows of `tokens` each, of elements of so many bytes;
 * NULL stays NULL. */
static inline void *head_in(const void *x, const cn_attention_args *a, int64_t h, int64_t tokens,
                            size_t element_bytes)
{
    const int64_t at = (h / a->heads * tokens * a->heads + h % a->heads) * a->D;
    return x ? (char *)(uintptr_t)x + (size_t)at * element_bytes : NULL;
}

/* How many parts the queries of a head, in tiles, are cut into, so that all workers have something
 * to do. */
static inline int64_t head_parts(int64_t heads, int64_t tiles, int threads)
{
    return heads >= threads ? 1 : CN_MIN((threads + heads - 1) / heads, tiles);
}

/* What is to be done with head h's sums. */
typedef void put_head(const void *args, int64_t h, const float *dk, const float *dv);

/* The parts' copies of each head, `floats` of dk and of dv, to the first, and that to put. */
static inline void join_parts(float *copies, int64_t heads, int64_t parts, int64_t floats,
                              put_head *put, const void *args)
{
#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < heads; h++) {
        float *restrict own = copies + h * parts * 2 * floats;
        for (int64_t p = 1; p < parts; p++) {
            const float *restrict other = own + p * 2 * floats;
#pragma omp simd
            for (int64_t i = 0; i < 2 * floats; i++) own[i] += other[i];
        }
        put(args, h, own, own + floats);
    }
}

/* The share of step i of `steps` in asking for n floats' worth of memory, wanted after these steps:
 * a head's keys, values and their gradients are more than the second-level cache holds, and come
 * block by block. */
static inline void prefetch_share(const void *x, int64_t floats, int64_t i, int64_t steps)
{
    enum { LINE = 16 };
    const int64_t lines = floats / LINE;
    const float *at = x;
    for (int64_t l = lines * i / steps; l < lines * (i + 1) / steps; l++)
        prefetch_line(at + l * LINE);
}

/* Asks for a row, which may begin and end within lines. */
static inline void prefetch_row(const void *x, size_t bytes)
{
    enum { LINE_BYTES = 64 };
    const char *at = x;
    for (size_t i = 0; i < bytes; i += LINE_BYTES) prefetch_line(at + i);
    prefetch_line(at + bytes - 1);
}

#endif
