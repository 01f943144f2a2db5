/* SPDX-License-Identifier: Apache-2.0 */
/* pairs_product.h - cn_tiles_product by AVX512_BF16. It can prefetch what the next product
 * reads, a few lines at a time as it goes: weights that are read once come as fast as memory gives
 * them, and nothing waits. */
#ifndef CN_BF16_PAIRS_PRODUCT_H
#define CN_BF16_PAIRS_PRODUCT_H

#include "cpu/kernels/bf16/register_sums.h"
#include "cpu/kernels/conv/weight_prefetch.h"

/* Up to 6 rows by up to 64 columns. half: 8 columns more; s: NULL where nothing is prefetched. */
static inline __attribute__((always_inline)) void
pairs_block(int rows, int vectors, bool half, int64_t k, const uint16_t *a, int64_t lda,
            const uint16_t *b, int64_t ldb, float *c, int64_t ldc, bool add, cn_prefetch *s)
{
    const int64_t depth = s ? PREFETCH_DEPTH : k;
    __m512 sum[SUM_ROWS][SUM_VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        const float *from = c + r * ldc;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[r][v] = add ? _mm512_loadu_ps(from + 16 * v) : _mm512_setzero_ps();
        if (half)
            sum[r][vectors] = add ? _mm512_castps256_ps512(_mm256_loadu_ps(from + 16 * vectors))
                                  : _mm512_setzero_ps();
    }
    for (int64_t p = 0; p < k; p += depth) {
        if (s) prefetch_next(s);
        add_products(rows, vectors, half, CN_MIN(depth, k - p), a + p, lda, b + p * ldb, ldb, sum);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        float *to = c + r * ldc;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(to + 16 * v, sum[r][v]);
        if (half) _mm256_storeu_ps(to + 16 * vectors, _mm512_castps512_ps256(sum[r][vectors]));
    }
}

/* All rows of up to 64 columns. */
static inline __attribute__((always_inline)) void
pairs_columns(int vectors, bool half, int64_t m, int64_t k, const uint16_t *a, int64_t lda,
              const uint16_t *b, int64_t ldb, float *c, int64_t ldc, bool add, cn_prefetch *s)
{
    int64_t i = 0;
    for (; i + SUM_ROWS <= m; i += SUM_ROWS)
        pairs_block(SUM_ROWS, vectors, half, k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add, s);
    a += i * lda;
    c += i * ldc;
    switch (m - i) {
    case 5: pairs_block(5, vectors, half, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 4: pairs_block(4, vectors, half, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 3: pairs_block(3, vectors, half, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 2: pairs_block(2, vectors, half, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 1: pairs_block(1, vectors, half, k, a, lda, b, ldb, c, ldc, add, s); break;
    default: break;
    }
}

static inline __attribute__((always_inline)) void
pairs_product(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
              int64_t ldb, float *c, int64_t ldc, bool add, cn_prefetch *s)
{
    const int64_t turns = (n + 63) / 64 * ((m + SUM_ROWS - 1) / SUM_ROWS);
    if (s) prefetch_evenly(s, turns * ((k + PREFETCH_DEPTH - 1) / PREFETCH_DEPTH));
    for (; n >= 64; n -= 64, b += 128, c += 64)
        pairs_columns(4, false, m, k, a, lda, b, ldb, c, ldc, add, s);
    switch (n / 8) {
    case 1: pairs_columns(0, true, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 2: pairs_columns(1, false, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 3: pairs_columns(1, true, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 4: pairs_columns(2, false, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 5: pairs_columns(2, true, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 6: pairs_columns(3, false, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 7: pairs_columns(3, true, m, k, a, lda, b, ldb, c, ldc, add, s); break;
    default: break;
    }
}

#endif
