/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h - operands of cn_tiles_product from rows of activations, in vectors.
 *
 * A left operand's rows stand as they are; a right one has pairs of its rows side by side
 * ("pairs"). Both also come transposed. What a block has more than x is zero: products run over
 * whole units and need no tails.
 */
#ifndef CN_BF16_PACK_H
#define CN_BF16_PACK_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "base/base.h"
#include "cpu/kernels/transpose.h"

/* Rows of activations: `count` of them, `stride` apart, D wide. */
typedef struct cn_rows {
    const uint16_t *x;
    int64_t stride, count, D;
} cn_rows;

static inline int64_t up(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* The first n of a vector's elements, n below 0 too. */
static inline __mmask16 first16(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xffff : n > 0 ? (1u << n) - 1 : 0);
}

static inline __mmask32 first32(int64_t n)
{
    return n >= 32 ? 0xffffffffu : n > 0 ? (1u << n) - 1 : 0;
}

/* The lower half's elements and the upper's in turn. */
static inline __m512i side_by_side(__m512i halves)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, halves);
}

/* to[row][width], `rows` of them. */
static inline void pack_left(const cn_rows *x, int64_t rows, int64_t width, uint16_t *to)
{
    for (int64_t r = 0; r < rows; r++, to += width) {
        const int64_t n = r < x->count ? x->D : 0;
        if (n) memcpy(to, x->x + r * x->stride, (size_t)n * sizeof *to);
        memset(to + n, 0, (size_t)(width - n) * sizeof *to);
    }
}

/* to[p][rows][2]: elements 2p and 2p+1 of each row, p < depth / 2; rows a multiple of 16. */
static inline void pack_right_transposed(const cn_rows *x, int64_t rows, int64_t depth,
                                         uint16_t *to)
{
    for (int64_t r0 = 0; r0 < rows; r0 += 16)
        for (int64_t d = 0; d < depth; d += 32) {
            __m512i v[16];
            for (int i = 0; i < 16; i++)
                v[i] = r0 + i < x->count ? _mm512_maskz_loadu_epi16(first32(x->D - d),
                                                                    x->x + (r0 + i) * x->stride + d)
                                         : _mm512_setzero_si512();
            turn16(v);
            for (int p = 0; p < CN_MIN(16, (depth - d) / 2); p++)
                _mm512_storeu_si512(to + d * rows + p * 2 * rows + 2 * r0, v[p]);
        }
}

/* Elements d .. d+16 of rows r and r+1, side by side. */
static inline __m512i two_rows(const cn_rows *x, int64_t r, int64_t d)
{
    const __mmask16 m = first16(x->D - d);
    const __m256i zero = _mm256_setzero_si256();
    const uint16_t *at = x->x + r * x->stride + d;
    const __m256i a = r < x->count ? _mm256_maskz_loadu_epi16(m, at) : zero;
    const __m256i b = r + 1 < x->count ? _mm256_maskz_loadu_epi16(m, at + x->stride) : zero;
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

/* to[r/2][width][2]: rows r and r+1 side by side; rows even, width a multiple of 8. Where it isn't
 * one of 16, up to PACK_MORE elements behind them are written too. */
enum { PACK_MORE = 16 };
static inline void pack_right(const cn_rows *x, int64_t rows, int64_t width, uint16_t *to)
{
    for (int64_t r = 0; r < rows; r += 2)
        for (int64_t d = 0; d < width; d += 16)
            _mm512_storeu_si512(to + r * width + 2 * d, two_rows(x, r, d));
}

/* to[d][room], d < width, as a left operand: element d of each row; rows up to a multiple of 32. */
static inline void pack_left_transposed(const cn_rows *x, int64_t width, int64_t room, uint16_t *to)
{
    for (int64_t r0 = 0; r0 < CN_MIN(room, up(x->count, 32)); r0 += 32)
        for (int64_t d = 0; d < width; d += 16) {
            __m512i v[16];
            for (int i = 0; i < 16; i++) v[i] = two_rows(x, r0 + 2 * i, d);
            turn16(v);
            for (int e = 0; e < CN_MIN(16, width - d); e++)
                _mm512_storeu_si512(to + (d + e) * room + r0, v[e]);
        }
}

/* Sums from[d][room] as rows, times `scale` or a factor that each row has: of bfloat16, `stride`
 * apart. */
static inline void store_transposed(const float *from, int64_t room, const float *factors,
                                    float scale, int64_t rows, int64_t D, uint16_t *to,
                                    int64_t stride)
{
    for (int64_t r0 = 0; r0 < rows; r0 += 16)
        for (int64_t d = 0; d < D; d += 16) {
            const __m512 factor = factors ? _mm512_loadu_ps(factors + r0) : _mm512_set1_ps(scale);
            __m512i v[16];
            for (int e = 0; e < 16; e++)
                v[e] = d + e < D ? (__m512i)_mm512_mul_ps(
                                       _mm512_loadu_ps(from + (d + e) * room + r0), factor)
                                 : _mm512_setzero_si512();
            turn16(v);
            for (int i = 0; i < CN_MIN(16, rows - r0); i++)
                _mm256_mask_storeu_epi16(to + (r0 + i) * stride + d, first16(D - d),
                                         (__m256i)_mm512_cvtneps_pbh((__m512)v[i]));
        }
}

/* scale times n floats to bfloat16. */
static inline void narrow_row(const float *x, int64_t n, float scale, uint16_t *to)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = first16(n - i);
        const __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(scale));
        _mm256_mask_storeu_epi16(to + i, m, (__m256i)_mm512_cvtneps_pbh(y));
    }
}

#endif
