/* SPDX-License-Identifier: Apache-2.0 */
/* outer_products.h - sums over tiles or positions of what each has of one operand times what it has
 * of another. */
#ifndef CN_CPU_KERNELS_CONV_OUTER_PRODUCTS_H
#define CN_CPU_KERNELS_CONV_OUTER_PRODUCTS_H

#include "cpu/kernels/vectors.h"

/* Sums that stay in registers at a time, and vectors of these at most that a row has. */
#if defined(__AVX512F__)
enum { SUMS = 16, VECTORS = 4 };
#else
enum { SUMS = 8, VECTORS = 2 };
#endif

/* m [rows][width] = (add: +=) the sum over tiles of v [tile][rows]' z [tile][width], SUMS vectors
 * of it. */
static inline __attribute__((always_inline)) void product_block(int vectors, int64_t tiles,
                                                                const float *v, int64_t v_stride,
                                                                const float *z, int64_t width,
                                                                bool add, float *m)
{
    const int rows = SUMS / vectors;
    vec sum[SUMS] = {0};
    for (int64_t t = 0; t < tiles; t++, v += v_stride, z += width)
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++) sum[r * vectors + c] += v[r] * load(z + c * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++) {
        float *to = m + i / vectors * width + i % vectors * LANES;
        store(to, add ? load(to) + sum[i] : sum[i]);
    }
}

/* All rows of a group, so many vectors wide. */
static inline __attribute__((always_inline)) void product_columns(int vectors, int64_t tiles,
                                                                  const float *v, int64_t v_stride,
                                                                  const float *z, int64_t width,
                                                                  bool add, float *m)
{
    for (int64_t r = 0; r < GROUP; r += SUMS / vectors)
        product_block(vectors, tiles, v + r, v_stride, z, width, add, m + r * width);
}

/* GROUP rows of one place, the columns' block in the first-level cache. */
static inline void add_products(int64_t tiles, const float *v, int64_t v_stride, const float *z,
                                int64_t width, bool add, float *m)
{
    int64_t c = 0;
    for (; c + VECTORS * LANES <= width; c += VECTORS * LANES)
        product_columns(VECTORS, tiles, v, v_stride, z + c, width, add, m + c);
    for (; c + 2 * LANES <= width; c += 2 * LANES)
        product_columns(2, tiles, v, v_stride, z + c, width, add, m + c);
    for (; c < width; c += LANES) product_columns(1, tiles, v, v_stride, z + c, width, add, m + c);
}

static inline void products(int64_t tiles, const float *v, int64_t v_stride, const float *z,
                            int64_t width, float *m)
{
    add_products(tiles, v, v_stride, z, width, false, m);
}

#endif
