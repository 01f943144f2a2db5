/* SPDX-License-Identifier: Apache-2.0 */
/* register_sums.h - products by AVX512_BF16 that stay in registers: up to 6 rows by up to 64
 * columns. */
#ifndef CN_CPU_KERNELS_BF16_REGISTER_SUMS_H
#define CN_CPU_KERNELS_BF16_REGISTER_SUMS_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { SUM_ROWS = 6, SUM_VECTORS = 4 };

/* sum += a [rows,k] b [k,16*vectors], operands as cn_tiles_product's. half: 8 columns more, in the
 * lower half of the vector behind. */
static inline __attribute__((always_inline)) void
add_products(int rows, int vectors, bool half, int64_t k, const uint16_t *a, int64_t lda,
             const uint16_t *b, int64_t ldb, __m512 sum[SUM_ROWS][SUM_VECTORS])
{
    for (int64_t p = 0; p < k; p += 2) {
        __m512bh right[SUM_VECTORS];
        __m256bh last;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(b + p * ldb + 32 * v);
        if (half)
            last = (__m256bh)_mm256_loadu_si256(
                (const __m256i *)(const void *)(b + p * ldb + 32 * vectors));
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, a + r * lda + p, sizeof two);
            const __m512i left = _mm512_set1_epi32(two);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)left, right[v]);
            if (half)
                sum[r][vectors] = _mm512_castps256_ps512(
                    _mm256_dpbf16_ps(_mm512_castps512_ps256(sum[r][vectors]),
                                     (__m256bh)_mm512_castsi512_si256(left), last));
        }
    }
}

#endif
