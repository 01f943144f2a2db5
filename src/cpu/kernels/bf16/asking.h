/* asking.h - a product that asks memory for what the next one reads, a few lines at a time as it goes: weights that are
 * read once come as fast as memory gives them, and nothing waits. */
#ifndef CN_BF16_ASKING_H
#define CN_BF16_ASKING_H

#include "cpu/kernels/bf16/sums.h"
#include "cpu/kernels/soon.h"

/* cn_tiles_product's, by up to 64 columns, without half vectors. */
static inline __attribute__((always_inline)) void
asking_rows(int rows, int vectors, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
            int64_t ldb, float *c, int64_t ldc, bool add, cn_soon *s)
{
    __m512 sum[SUM_ROWS][SUM_VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[r][v] = add ? _mm512_loadu_ps(c + r * ldc + 16 * v) : _mm512_setzero_ps();
    for (int64_t p = 0; p < k; p += ASK_DEPTH) {
        ask(s);
        add_products(rows, vectors, false, CN_MIN(ASK_DEPTH, k - p), a + p, lda, b + p * ldb, ldb,
                     sum);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(c + r * ldc + 16 * v, sum[r][v]);
}

static inline __attribute__((always_inline)) void
asking_columns(int vectors, int64_t m, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
               int64_t ldb, float *c, int64_t ldc, bool add, cn_soon *s)
{
    int64_t i = 0;
    for (; i + SUM_ROWS <= m; i += SUM_ROWS)
        asking_rows(SUM_ROWS, vectors, k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add, s);
    a += i * lda;
    c += i * ldc;
    switch (m - i) {
    case 5: asking_rows(5, vectors, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 4: asking_rows(4, vectors, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 3: asking_rows(3, vectors, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 2: asking_rows(2, vectors, k, a, lda, b, ldb, c, ldc, add, s); break;
    case 1: asking_rows(1, vectors, k, a, lda, b, ldb, c, ldc, add, s); break;
    default: break;
    }
}

/* cn_tiles_product() without AMX. */
static void asking_product(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                           const uint16_t *b, int64_t ldb, float *c, int64_t ldc, bool add,
                           cn_soon *s)
{
    const int64_t turns = (n + 63) / 64 * ((m + SUM_ROWS - 1) / SUM_ROWS);
    ask_evenly(s, turns * ((k + ASK_DEPTH - 1) / ASK_DEPTH));
    for (int64_t j = 0; j < n; j += 64, b += 128, c += 64)
        switch (CN_MIN((n - j) / 16, (int64_t)SUM_VECTORS)) {
        case 1: asking_columns(1, m, k, a, lda, b, ldb, c, ldc, add, s); break;
        case 2: asking_columns(2, m, k, a, lda, b, ldb, c, ldc, add, s); break;
        case 3: asking_columns(3, m, k, a, lda, b, ldb, c, ldc, add, s); break;
        default: asking_columns(4, m, k, a, lda, b, ldb, c, ldc, add, s);
        }
}

#endif
