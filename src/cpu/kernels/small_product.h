/* SPDX-License-Identifier: Apache-2.0 */
/* small_product.h - products of tiles in the caches, by code that libxsmm generates for the
 * processor. */
#ifndef CN_SMALL_PRODUCT_H
#define CN_SMALL_PRODUCT_H

#include <libxsmm.h>
#include <stdint.h>
#include <string.h>

/* Column-major c[m,n] (+)= a[m,k] b[k,n]. */
static inline void small_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                                 const float *b, int64_t ldb, bool add, float *c, int64_t ldc)
{
    libxsmm_blasint la = (libxsmm_blasint)lda, lb = (libxsmm_blasint)ldb, lc = (libxsmm_blasint)ldc;
    float alpha = 1, beta = add ? 1 : 0;
    libxsmm_smmfunction f =
        libxsmm_smmdispatch((libxsmm_blasint)m, (libxsmm_blasint)n, (libxsmm_blasint)k, &la, &lb,
                            &lc, &alpha, &beta, NULL, NULL);
    if (f) {
        f(a, b, c);
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        float *col = c + j * ldc;
        if (!add) memset(col, 0, (size_t)m * sizeof *col);
        for (int64_t p = 0; p < k; p++) {
            float w = b[j * ldb + p];
            const float *src = a + p * lda;
#pragma omp simd
            for (int64_t i = 0; i < m; i++) col[i] += src[i] * w;
        }
    }
}

#endif
