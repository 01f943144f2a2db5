/* outer_products.h - sums over tiles or positions of what each has of one operand times what it has of another. */
#ifndef CN_OUTER_PRODUCTS_H
#define CN_OUTER_PRODUCTS_H

#include "cpu/kernels/vectors.h"

/* Rows and vectors of sums that stay in registers. */
#if defined(__AVX512F__)
enum { ROWS = 4, VECTORS = 4 };
#else
enum { ROWS = 4, VECTORS = 2 };
#endif

/* m [rows][width] = the sum over tiles of v [tile][rows]' z [tile][width], ROWS by VECTORS of it. */
static inline void product_block(int64_t tiles, const float *v, int64_t v_stride, const float *z,
                                 int64_t width, float *m)
{
    vec sum[ROWS][VECTORS] = {0};
    for (int64_t t = 0; t < tiles; t++, v += v_stride, z += width)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < VECTORS; c++) sum[r][c] += v[r] * load(z + c * LANES);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < VECTORS; c++) store(m + r * width + c * LANES, sum[r][c]);
}

/* The same, one vector wide. */
static inline void product_column(int64_t tiles, const float *v, int64_t v_stride, const float *z,
                                  int64_t width, float *m)
{
    vec sum[ROWS] = {0};
    for (int64_t t = 0; t < tiles; t++, v += v_stride, z += width)
        for (int r = 0; r < ROWS; r++) sum[r] += v[r] * load(z);
    for (int r = 0; r < ROWS; r++) store(m + r * width, sum[r]);
}

/* GROUP rows of one place, the columns' block in the first-level cache. */
static inline void products(int64_t tiles, const float *v, int64_t v_stride, const float *z,
                            int64_t width, float *m)
{
    int64_t c = 0;
    for (; c + VECTORS * LANES <= width; c += VECTORS * LANES)
        for (int64_t r = 0; r < GROUP; r += ROWS)
            product_block(tiles, v + r, v_stride, z + c, width, m + r * width + c);
    for (; c < width; c += LANES)
        for (int64_t r = 0; r < GROUP; r += ROWS)
            product_column(tiles, v + r, v_stride, z + c, width, m + r * width + c);
}

#endif
