/* SPDX-License-Identifier: Apache-2.0 */
/* horizontal_sum.h - the sums of vectors' elements, of as many vectors at once as one has
 * elements. */
#ifndef CN_CPU_KERNELS_HORIZONTAL_SUM_H
#define CN_CPU_KERNELS_HORIZONTAL_SUM_H

#include "cpu/kernels/vectors.h"

/* Half of each of two vectors' elements plus the other half, those of a before those of b: first
 * single elements, then pairs, then fours. */
#if defined(__AVX512F__)
#define SINGLES(a, b, i)                                                                         \
    __builtin_shufflevector(a, b, i, i + 16, i + 1, i + 17, i + 4, i + 20, i + 5, i + 21, i + 8, \
                            i + 24, i + 9, i + 25, i + 12, i + 28, i + 13, i + 29)
#define PAIRS(a, b, i)                                                                           \
    __builtin_shufflevector(a, b, i, i + 1, i + 16, i + 17, i + 4, i + 5, i + 20, i + 21, i + 8, \
                            i + 9, i + 24, i + 25, i + 12, i + 13, i + 28, i + 29)
#define FOURS(a, b, i)                                                                          \
    __builtin_shufflevector(a, b, i, i + 1, i + 2, i + 3, i + 8, i + 9, i + 10, i + 11, i + 16, \
                            i + 17, i + 18, i + 19, i + 24, i + 25, i + 26, i + 27)
#elif defined(__AVX__)
#define SINGLES(a, b, i) \
    __builtin_shufflevector(a, b, i, i + 8, i + 1, i + 9, i + 4, i + 12, i + 5, i + 13)
#define PAIRS(a, b, i) \
    __builtin_shufflevector(a, b, i, i + 1, i + 8, i + 9, i + 4, i + 5, i + 12, i + 13)
#define FOURS(a, b, i) \
    __builtin_shufflevector(a, b, i, i + 1, i + 2, i + 3, i + 8, i + 9, i + 10, i + 11)
#else
#define SINGLES(a, b, i) __builtin_shufflevector(a, b, i, i + 4, i + 1, i + 5)
#define PAIRS(a, b, i)   __builtin_shufflevector(a, b, i, i + 1, i + 4, i + 5)
#define FOURS(a, b, i)   a /* vectors have no more */
#endif

static inline vec add_halves(int level, vec a, vec b)
{
    if (level == 0) return SINGLES(a, b, 0) + SINGLES(a, b, 2);
    if (level == 1) return PAIRS(a, b, 0) + PAIRS(a, b, 2);
    return FOURS(a, b, 0) + FOURS(a, b, 4);
}

/* Element i is the sum of x[i]'s elements, zero from n on; n <= LANES. */
static inline __attribute__((always_inline)) vec horizontal_sums(const vec *x, int n)
{
    vec v[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) v[i] = i < n ? x[i] : (vec){0};
#pragma GCC unroll 4
    for (int left = LANES / 2, level = 0; left > 0; left /= 2, level++)
#pragma GCC unroll 8
        for (int i = 0; i < left; i++) v[i] = add_halves(level, v[2 * i], v[2 * i + 1]);
    return v[0];
}

#undef SINGLES
#undef PAIRS
#undef FOURS
#endif
