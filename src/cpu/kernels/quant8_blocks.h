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
/* So near the border of two magnitudes, in their distance, rounding may have moved a size across:
 * it is a hundredth of this. */
#define DOUBT (1.0f / 1024)

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
/* Tables of eight are looked up in a register, by the lowest three bits: elsewhere in memory it
 * takes twice as long (Zen 3). */
static inline __m256 by_exponent(__m256 table, __m256 number)
{
    return _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(_mm256_castps_si256(number), 23));
}

static inline int decode_vectors(const cn_quant8 *q, bool is_signed, const uint8_t *codes,
                                 float scale, float *x, int n)
{
    const __m256 offset = _mm256_loadu_ps(q->eight.offset), unit = _mm256_loadu_ps(q->eight.unit),
                 upper = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN >> 8)),
                 factor = _mm256_set1_ps(scale);
    const __m256i first = _mm256_set1_epi32(is_signed ? -q->zero : 1);
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(codes + i)));
        const __m256 k = _mm256_cvtepi32_ps(_mm256_add_epi32(code, first)),
                     times18 = _mm256_mul_ps(k, _mm256_set1_ps(18)),
                     power = _mm256_and_ps(k, upper), off = by_exponent(offset, k);
        const __m256 part =
            is_signed ? _mm256_fnmadd_ps(off, power, times18)
                      : _mm256_add_ps(times18, _mm256_fnmadd_ps(_mm256_set1_ps(16), power, off));
        const __m256 value = _mm256_div_ps(part, by_exponent(unit, k));
        _mm256_storeu_ps(x + i, _mm256_mul_ps(value, factor));
    }
    return i;
}

typedef struct encoding {
    __m256 border, slope, start, inverse;
} encoding;

static inline encoding encoding_of(const cn_quant8 *q, float scale)
{
    return (encoding){_mm256_loadu_ps(q->eight.border), _mm256_loadu_ps(q->eight.slope),
                      _mm256_loadu_ps(q->eight.start), _mm256_set1_ps(1 / scale)};
}

enum { VECTORS = 4, WIDTH = 8 * VECTORS };
#define EACH for (int j = 0; j < VECTORS; j++)

/* Numbers of the magnitudes nearest to WIDTH sizes, but for those whose fraction is 0: they are
 * doubtful. In steps of all vectors, so that the processor has several chains at once.
 *
 * A decade is estimated from the upper half of the bits, about a logarithm: 128 an octave, 425 or
 * 65536 / 154 a decade. It changes in the middle of decades, so a border is between it and the next
 * one. Second moments have no sign. */
static inline void numbers_of(const encoding *t, bool is_signed, const float *x, __m256i k[VECTORS],
                              __m256i fraction[VECTORS])
{
    const __m256 border = t->border, slope = t->slope, start = t->start, inverse = t->inverse;
    const __m256i low = _mm256_set1_epi32(13523), per_decade = _mm256_set1_epi32(154),
                  parts = _mm256_set1_epi32(is_signed ? 2 : 4), /* of the next decade's */
        before = _mm256_set1_epi32(is_signed ? -1 : -2);
    __m256 size[VECTORS], at[VECTORS];
    __m256i decade[VECTORS], steps[VECTORS];
    EACH
    {
        const __m256 from = _mm256_loadu_ps(x + 8 * j),
                     positive = is_signed ? _mm256_andnot_ps(_mm256_set1_ps(-0.0f), from) : from;
        size[j] = _mm256_min_ps(_mm256_mul_ps(positive, inverse), _mm256_set1_ps(1));
    }
    EACH decade[j] = _mm256_srli_epi32(_mm256_castps_si256(size[j]), 16);
    EACH decade[j] = _mm256_mulhi_epu16(_mm256_subs_epu16(decade[j], low), per_decade);
    EACH at[j] = _mm256_permutevar8x32_ps(border, decade[j]);
    EACH at[j] = _mm256_cmp_ps(size[j], at[j], _CMP_GT_OQ);
    EACH decade[j] = _mm256_sub_epi32(decade[j], _mm256_castps_si256(at[j]));
    EACH at[j] = _mm256_fmadd_ps(size[j], _mm256_permutevar8x32_ps(slope, decade[j]),
                                 _mm256_permutevar8x32_ps(start, decade[j]));
    EACH steps[j] = _mm256_cvtps_epi32(at[j]);
    EACH fraction[j] = _mm256_and_si256(steps[j], _mm256_set1_epi32(CN_QUANT8_STEPS - 1));
    EACH k[j] = _mm256_min_epi32(_mm256_srli_epi32(steps[j], CN_QUANT8_STEP_BITS),
                                 _mm256_add_epi32(_mm256_sllv_epi32(parts, decade[j]), before));
    if (!is_signed) /* only 0 itself has the code 0 */
        EACH k[j] = _mm256_min_epu32(k[j], _mm256_castps_si256(size[j]));
}

static inline unsigned zeros_of(__m256i x)
{
    const __m256i zero = _mm256_cmpeq_epi32(x, _mm256_setzero_si256());
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(zero));
}

/* Out of the way of the loop's registers. */
static __attribute__((noinline)) void settle(const cn_quant8 *q, bool is_signed, const float *x,
                                             float scale, uint8_t *codes)
{
    const encoding t = encoding_of(q, scale);
    __m256i k[VECTORS], fraction[VECTORS];
    numbers_of(&t, is_signed, x, k, fraction);
    EACH encode_doubtful(q, zeros_of(fraction[j]), x + 8 * j, scale, codes + 8 * j);
}

static inline int encode_vectors(const cn_quant8 *q, bool is_signed, const float *x, float scale,
                                 uint8_t *codes, int n)
{
    const encoding t = encoding_of(q, scale);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7),
                  zero = _mm256_set1_epi32(q->zero);
    int i = 0;
    for (; isnormal(1 / scale) && i + WIDTH <= n; i += WIDTH) {
        __m256i k[VECTORS], f[VECTORS];
        numbers_of(&t, is_signed, x + i, k, f);
        if (is_signed) /* a 0's k is 0; where -1 is, the packing makes it a 0 */
            EACH
            {
                const __m256i sign = _mm256_loadu_si256((const void *)(x + i + 8 * j));
                k[j] = _mm256_add_epi32(zero, _mm256_sign_epi32(k[j], sign));
            }
        const __m256i bytes =
            _mm256_packus_epi16(_mm256_packus_epi32(k[0], k[1]), _mm256_packus_epi32(k[2], k[3]));
        _mm256_storeu_si256((void *)(codes + i), _mm256_permutevar8x32_epi32(bytes, order));
        const __m256i least =
            _mm256_min_epu32(_mm256_min_epu32(f[0], f[1]), _mm256_min_epu32(f[2], f[3]));
        if (__builtin_expect(zeros_of(least) != 0, 0))
            settle(q, is_signed, x + i, scale, codes + i);
    }
    return i;
}
#undef EACH
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
