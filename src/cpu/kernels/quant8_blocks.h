/* SPDX-License-Identifier: Apache-2.0 */
/* quant8_blocks.h - blocks of moments in bytes to floats and back; codes are those of
 * base/quant8.c. */
#ifndef CN_CPU_KERNELS_QUANT8_BLOCKS_H
#define CN_CPU_KERNELS_QUANT8_BLOCKS_H

#include "base/quant8.h"

#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#include <math.h>

/* So near the border of two magnitudes, in their distance, rounding may have moved a size across:
 * it is a hundredth of this. */
#define DOUBT (1.0f / 1024)

static inline __m512 of_decade(const float table[CN_QUANT8_DECADES], __m512i decade)
{
    return _mm512_permutexvar_ps(decade, _mm512_loadu_ps(table));
}

static inline int decode_vectors(const cn_quant8 *q, const uint8_t *codes, float scale, float *x,
                                 int n)
{
    const __m512i zero = _mm512_set1_epi32(q->zero), one = _mm512_set1_epi32(1),
                  minus = _mm512_set1_epi32(INT32_MIN),
                  bias = _mm512_set1_epi32(q->is_signed ? 126 : 127);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(codes + i))),
                      from_zero = _mm512_sub_epi32(code, zero),
                      number =
                          q->is_signed ? _mm512_abs_epi32(from_zero) : _mm512_add_epi32(code, one);
        const __m512 k = _mm512_cvtepi32_ps(number);
        const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(k), 23),
                      decade = _mm512_subs_epu16(exponent, bias);
        const __m512 coarse = _mm512_fmadd_ps(of_decade(q->per[0], decade), k,
                                              of_decade(q->base[0], decade)),
                     fine = _mm512_fmadd_ps(of_decade(q->per[1], decade), k,
                                            of_decade(q->base[1], decade));
        const __m512 size = _mm512_mul_ps(_mm512_add_ps(coarse, fine), _mm512_set1_ps(scale));
        const __m512i sign = _mm512_and_epi32(from_zero, minus);
        _mm512_storeu_ps(x + i,
                         _mm512_castsi512_ps(_mm512_or_epi32(_mm512_castps_si512(size), sign)));
    }
    return i;
}

/* Numbers of the magnitudes nearest to sizes of [0,1], but for the doubtful. */
static inline __m512i numbers_of(const cn_quant8 *q, __m512 size, __mmask16 *doubtful)
{
    const __m512i lowest = _mm512_set1_epi32(CN_QUANT8_LOWEST >> 7), one = _mm512_set1_epi32(1);
    const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(size), 23),
                  power = _mm512_subs_epu16(exponent, lowest);
    const __m512 border =
        _mm512_permutex2var_ps(_mm512_loadu_ps(q->border), power, _mm512_loadu_ps(q->border + 16));
    __m512i decade = _mm512_permutex2var_epi32(_mm512_loadu_si512(q->decade), power,
                                               _mm512_loadu_si512(q->decade + 16));
    const __mmask16 beyond = _mm512_cmp_ps_mask(size, border, _CMP_GT_OQ);
    decade = _mm512_mask_add_epi32(decade, beyond, decade, one);
    const __m512 at =
        _mm512_fmadd_ps(of_decade(q->slope, decade), size, of_decade(q->start, decade));
    const __m512 off = _mm512_abs_ps(_mm512_reduce_ps(at, 0)); /* to the nearest whole number */
    *doubtful = _mm512_cmp_ps_mask(off, _mm512_set1_ps(DOUBT), _CMP_LT_OQ);
    const __m512i last = _mm512_permutexvar_epi32(decade, _mm512_loadu_si512(q->last));
    const __m512i number = _mm512_min_epi32(_mm512_cvttps_epi32(at), last);
    return _mm512_max_epi32(number, _mm512_min_epi32(decade, one));
}

static inline int encode_vectors(const cn_quant8 *q, const float *x, float scale, uint8_t *codes,
                                 int n)
{
    const __m512i zero = _mm512_set1_epi32(q->zero), none = _mm512_setzero_si512();
    const float inverse = 1 / scale;
    int i = 0;
    for (; isfinite(inverse) && i + 16 <= n; i += 16) {
        const __m512 from = _mm512_loadu_ps(x + i);
        const __m512 ratio = _mm512_mul_ps(_mm512_abs_ps(from), _mm512_set1_ps(inverse));
        __mmask16 doubtful;
        __m512i k = numbers_of(q, _mm512_min_ps(ratio, _mm512_set1_ps(1)), &doubtful);
        if (q->is_signed) {
            const __mmask16 minus = _mm512_movepi32_mask(_mm512_castps_si512(from));
            const __m512i negated = _mm512_mask_sub_epi32(k, minus, none, k);
            k = _mm512_max_epi32(_mm512_add_epi32(zero, negated), none);
        }
        _mm_storeu_si128((void *)(codes + i), _mm512_cvtepi32_epi8(k));
        for (unsigned left = doubtful; left; left &= left - 1) {
            const int lane = i + __builtin_ctz(left);
            codes[lane] = (uint8_t)cn_quant8_code(q, x[lane] / scale);
        }
    }
    return i;
}
#else
static inline int decode_vectors(const cn_quant8 *q, const uint8_t *codes, float scale, float *x,
                                 int n)
{
    (void)q, (void)codes, (void)scale, (void)x, (void)n;
    return 0;
}

/* From the tables; in two loops, whose types the compiler can vectorise. */
static inline int encode_vectors(const cn_quant8 *q, const float *x, float scale,
                                 uint8_t *restrict codes, int n)
{
    float sizes[CN_QUANT8_BLOCK];
    int32_t bits[CN_QUANT8_BLOCK];
    const float *above = q->above;
    const int32_t *first = q->first;
    const int32_t zero = q->zero;
#pragma omp simd
    for (int i = 0; i < n; i++) {
        const float y = __builtin_fabsf(x[i] / scale);
        sizes[i] = y < 1.0f ? y : 1.0f;
    }
    memcpy(bits, sizes, (size_t)n * sizeof *bits);
#pragma omp simd
    for (int i = 0; i < n; i++) {
        const int32_t over = (bits[i] >> 16) - CN_QUANT8_LOWEST, bin = over < 0 ? 0 : over;
        int32_t k = first[bin];
        k += sizes[i] > above[k] ? 1 : 0;
        const int32_t below = zero - k < 0 ? 0 : zero - k, code = x[i] < 0 ? below : zero + k;
        codes[i] = (uint8_t)code;
    }
    return n;
}
#endif

/* x = value * scale. */
static inline void decode(const cn_quant8 *q, const uint8_t *codes, float scale, float *x, int n)
{
    const int done = decode_vectors(q, codes, scale, x, n);
    for (int i = done; i < n; i++) x[i] = q->value[codes[i]] * scale;
}

/* The codes of x / scale, n of one block at most. */
static inline void encode(const cn_quant8 *q, const float *x, float scale, uint8_t *codes, int n)
{
    if (!(scale > 0)) {
        memset(codes, q->zero, (size_t)n);
        return;
    }
    const int done = encode_vectors(q, x, scale, codes, n);
    for (int i = done; i < n; i++) codes[i] = (uint8_t)cn_quant8_code(q, x[i] / scale);
}

#endif
