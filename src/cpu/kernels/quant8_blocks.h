/* SPDX-License-Identifier: Apache-2.0 */
/* quant8_blocks.h - blocks of moments in bytes to floats and back; codes are those of
 * base/quant8.c. */
#ifndef CN_CPU_KERNELS_QUANT8_BLOCKS_H
#define CN_CPU_KERNELS_QUANT8_BLOCKS_H

#include "base/quant8.h"

#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#include <math.h>

/* So near the border of two magnitudes, in their distance, rounding may have moved a size across:
 * it is a hundredth of this. */
#define DOUBT (1.0f / 1024)

/* The doubtful of the lanes that begin at x and codes. */
static inline void encode_doubtful(const cn_quant8 *q, unsigned doubtful, const float *x,
                                   float scale, uint8_t *codes)
{
    for (unsigned left = doubtful; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        codes[lane] = (uint8_t)cn_quant8_code(q, x[lane] / scale);
    }
}
#endif

#if defined(__AVX512F__)
static inline __m512 of_decade(const float table[CN_QUANT8_DECADES], __m512i decade)
{
    return _mm512_permutexvar_ps(decade, _mm512_loadu_ps(table));
}

static inline int decode_vectors(const cn_quant8 *q, bool is_signed, const uint8_t *codes,
                                 float scale, float *x, int n)
{
    const __m512i zero = _mm512_set1_epi32(q->zero), one = _mm512_set1_epi32(1),
                  minus = _mm512_set1_epi32(INT32_MIN),
                  bias = _mm512_set1_epi32(is_signed ? 126 : 127);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(codes + i))),
                      from_zero = _mm512_sub_epi32(code, zero),
                      number =
                          is_signed ? _mm512_abs_epi32(from_zero) : _mm512_add_epi32(code, one);
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
static inline __m512i numbers_of(const cn_quant8 *q, bool is_signed, __m512 size,
                                 __mmask16 *doubtful)
{
    const __m512i lowest = _mm512_set1_epi32(CN_QUANT8_LOWEST >> 7), one = _mm512_set1_epi32(1);
    const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(size), 23),
                  power = _mm512_subs_epu16(exponent, lowest);
    const __m128i *table = (const void *)q->decade;
    __m512i decade = _mm512_permutex2var_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(table)), power,
                                               _mm512_cvtepu8_epi32(_mm_loadu_si128(table + 1)));
    const __mmask16 beyond = _mm512_cmp_ps_mask(size, of_decade(q->border, decade), _CMP_GT_OQ);
    decade = _mm512_mask_add_epi32(decade, beyond, decade, one);
    const __m512 at =
        _mm512_fmadd_ps(of_decade(q->slope, decade), size, of_decade(q->start, decade));
    const __m512 off = _mm512_abs_ps(_mm512_reduce_ps(at, 0)); /* to the nearest whole number */
    *doubtful = _mm512_cmp_ps_mask(off, _mm512_set1_ps(DOUBT), _CMP_LT_OQ);
    const __m512i last = _mm512_permutexvar_epi32(decade, _mm512_loadu_si512(q->last));
    const __m512i number = _mm512_min_epi32(_mm512_cvttps_epi32(at), last);
    if (is_signed) return number;
    return _mm512_max_epi32(number, _mm512_min_epi32(decade, one));
}

static inline int encode_vectors(const cn_quant8 *q, bool is_signed, const float *x, float scale,
                                 uint8_t *codes, int n)
{
    const __m512i zero = _mm512_set1_epi32(q->zero), none = _mm512_setzero_si512();
    const float inverse = 1 / scale;
    int i = 0;
    for (; isfinite(inverse) && i + 16 <= n; i += 16) {
        const __m512 from = _mm512_loadu_ps(x + i);
        const __m512 ratio = _mm512_mul_ps(_mm512_abs_ps(from), _mm512_set1_ps(inverse));
        __mmask16 doubtful;
        __m512i k = numbers_of(q, is_signed, _mm512_min_ps(ratio, _mm512_set1_ps(1)), &doubtful);
        if (is_signed) {
            const __mmask16 minus = _mm512_movepi32_mask(_mm512_castps_si512(from));
            const __m512i negated = _mm512_mask_sub_epi32(k, minus, none, k);
            k = _mm512_max_epi32(_mm512_add_epi32(zero, negated), none);
        }
        _mm_storeu_si128((void *)(codes + i), _mm512_cvtepi32_epi8(k));
        encode_doubtful(q, doubtful, x + i, scale, codes + i);
    }
    return i;
}
#elif defined(__AVX2__)
/* Decades of 0 to CN_QUANT8_ONE: vectors of eight hold all but the last, which is blended in. */
static inline __m256 is_one(__m256i decade)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(decade, 28)); /* by its sign */
}

static inline __m256 below_one(const float table[CN_QUANT8_DECADES], __m256i decade)
{
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), decade);
}

static inline __m256 of_decade(const float table[CN_QUANT8_DECADES], __m256i decade)
{
    return _mm256_blendv_ps(below_one(table, decade), _mm256_set1_ps(table[CN_QUANT8_ONE]),
                            is_one(decade));
}

static inline int decode_vectors(const cn_quant8 *q, bool is_signed, const uint8_t *codes,
                                 float scale, float *x, int n)
{
    const __m256i zero = _mm256_set1_epi32(q->zero), one = _mm256_set1_epi32(1),
                  minus = _mm256_set1_epi32(INT32_MIN),
                  bias = _mm256_set1_epi32(is_signed ? 126 : 127);
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(codes + i))),
                      from_zero = _mm256_sub_epi32(code, zero),
                      number =
                          is_signed ? _mm256_abs_epi32(from_zero) : _mm256_add_epi32(code, one);
        const __m256 k = _mm256_cvtepi32_ps(number);
        const __m256i exponent = _mm256_srli_epi32(_mm256_castps_si256(k), 23),
                      decade = _mm256_subs_epu16(exponent, bias);
        const __m256 coarse = _mm256_fmadd_ps(below_one(q->per[0], decade), k,
                                              below_one(q->base[0], decade)),
                     fine = _mm256_fmadd_ps(below_one(q->per[1], decade), k,
                                            below_one(q->base[1], decade)),
                     value = _mm256_blendv_ps(_mm256_add_ps(coarse, fine), _mm256_set1_ps(1),
                                              is_one(decade)),
                     size = _mm256_mul_ps(value, _mm256_set1_ps(scale));
        const __m256i sign = _mm256_and_si256(from_zero, minus);
        _mm256_storeu_ps(x + i, _mm256_or_ps(size, _mm256_castsi256_ps(sign)));
    }
    return i;
}

/* Numbers of the magnitudes nearest to sizes of [0,1], but for the doubtful. */
static inline __m256i numbers_of(const cn_quant8 *q, bool is_signed, __m256 size,
                                 unsigned *doubtful)
{
    const __m256i lowest = _mm256_set1_epi32(CN_QUANT8_LOWEST >> 7);
    const __m256i exponent = _mm256_srli_epi32(_mm256_castps_si256(size), 23),
                  power = _mm256_subs_epu16(exponent, lowest);
    const __m128i *table = (const void *)q->decade;
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128(table)),
                  high = _mm256_broadcastsi128_si256(_mm_loadu_si128(table + 1));
    __m256i decade =
        _mm256_blendv_epi8(_mm256_shuffle_epi8(low, power), _mm256_shuffle_epi8(high, power),
                           _mm256_cmpgt_epi32(power, _mm256_set1_epi32(15)));
    decade = _mm256_and_si256(decade, _mm256_set1_epi32(0xff)); /* power's upper bytes are 0 */
    const __m256 beyond = _mm256_cmp_ps(size, of_decade(q->border, decade), _CMP_GT_OQ);
    decade = _mm256_sub_epi32(decade, _mm256_castps_si256(beyond));
    const __m256 at =
        _mm256_fmadd_ps(of_decade(q->slope, decade), size, of_decade(q->start, decade));
    const __m256 off =
        _mm256_andnot_ps(/* to the nearest whole number */
                         _mm256_set1_ps(-0.0f),
                         _mm256_sub_ps(at, _mm256_round_ps(
                                               at, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)));
    *doubtful = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(off, _mm256_set1_ps(DOUBT), _CMP_LT_OQ));
    const __m256i below = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const void *)q->last),
                                                      decade),
                  top = _mm256_set1_epi32(q->last[CN_QUANT8_ONE]);
    const __m256 last =
        _mm256_blendv_ps(_mm256_castsi256_ps(below), _mm256_castsi256_ps(top), is_one(decade));
    const __m256i number = _mm256_min_epi32(_mm256_cvttps_epi32(at), _mm256_castps_si256(last));
    if (is_signed) return number;
    return _mm256_max_epi32(number, _mm256_min_epi32(decade, _mm256_set1_epi32(1)));
}

static inline __m256i codes_of(const cn_quant8 *q, bool is_signed, const float *x, float inverse,
                               unsigned *doubtful)
{
    const __m256 minus = _mm256_set1_ps(-0.0f), from = _mm256_loadu_ps(x),
                 ratio = _mm256_mul_ps(_mm256_andnot_ps(minus, from), _mm256_set1_ps(inverse));
    const __m256i k = numbers_of(q, is_signed, _mm256_min_ps(ratio, _mm256_set1_ps(1)), doubtful);
    if (!is_signed) return k;
    /* a 0's k is 0; where -1 is, the packing makes it a 0 */
    return _mm256_add_epi32(_mm256_set1_epi32(q->zero),
                            _mm256_sign_epi32(k, _mm256_castps_si256(from)));
}

static inline int encode_vectors(const cn_quant8 *q, bool is_signed, const float *x, float scale,
                                 uint8_t *codes, int n)
{
    const float inverse = 1 / scale;
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int i = 0;
    for (; isfinite(inverse) && i + 32 <= n; i += 32) {
        unsigned doubtful[4];
        __m256i k[4];
        for (int j = 0; j < 4; j++)
            k[j] = codes_of(q, is_signed, x + i + 8 * j, inverse, &doubtful[j]);
        const __m256i bytes =
            _mm256_packus_epi16(_mm256_packus_epi32(k[0], k[1]), _mm256_packus_epi32(k[2], k[3]));
        _mm256_storeu_si256((void *)(codes + i), _mm256_permutevar8x32_epi32(bytes, order));
        encode_doubtful(q, doubtful[0] | doubtful[1] << 8 | doubtful[2] << 16 | doubtful[3] << 24,
                        x + i, scale, codes + i);
    }
    return i;
}
#else
static inline int decode_vectors(const cn_quant8 *q, bool is_signed, const uint8_t *codes,
                                 float scale, float *x, int n)
{
    (void)q, (void)is_signed, (void)codes, (void)scale, (void)x, (void)n;
    return 0;
}

/* From the tables; in two loops, whose types the compiler can vectorise. */
static inline int encode_vectors(const cn_quant8 *q, bool is_signed, const float *x, float scale,
                                 uint8_t *restrict codes, int n)
{
    (void)is_signed;
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

/* x = value * scale; is_signed: q's, as a constant of the caller's. */
static inline void decode(const cn_quant8 *q, bool is_signed, const uint8_t *codes, float scale,
                          float *x, int n)
{
    const int done = decode_vectors(q, is_signed, codes, scale, x, n);
    for (int i = done; i < n; i++) x[i] = q->value[codes[i]] * scale;
}

/* The codes of x / scale, n of one block at most. */
static inline void encode(const cn_quant8 *q, bool is_signed, const float *x, float scale,
                          uint8_t *codes, int n)
{
    if (!(scale > 0)) {
        memset(codes, q->zero, (size_t)n);
        return;
    }
    const int done = encode_vectors(q, is_signed, x, scale, codes, n);
    for (int i = done; i < n; i++) codes[i] = (uint8_t)cn_quant8_code(q, x[i] / scale);
}

#endif
