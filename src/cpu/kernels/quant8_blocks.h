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

/* What the two instruction sets call by other names. Tables have CN_QUANT8_DECADES rows,
 * eight. */
#if defined(__AVX512F__)
enum { LANES = 16 };
typedef __m512 reals;
typedef __m512i ints;
#define V(name) _mm512_##name

static inline reals table_of(const float rows[CN_QUANT8_DECADES])
{
    return _mm512_broadcast_f32x8(_mm256_loadu_ps(rows));
}

static inline reals look_up(reals table, ints row)
{
    return _mm512_permutexvar_ps(row, table);
}

static inline ints ints_of(const uint8_t *codes)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)codes));
}

static inline ints one_more_above(ints x, reals size, reals border)
{
    const __mmask16 above = _mm512_cmp_ps_mask(size, border, _CMP_GT_OQ);
    return _mm512_mask_add_epi32(x, above, x, _mm512_set1_epi32(1));
}

static inline ints signed_as(ints x, reals like)
{
    const __mmask16 minus = _mm512_movepi32_mask(_mm512_castps_si512(like));
    return _mm512_mask_sub_epi32(x, minus, _mm512_setzero_si512(), x);
}

static inline unsigned zeros_of(ints x)
{
    return _mm512_testn_epi32_mask(x, x);
}

/* Packing goes by 128 bits. */
static inline ints packed_order(void)
{
    return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

static inline void store_bytes(uint8_t *codes, ints bytes)
{
    _mm512_storeu_si512((void *)codes, _mm512_permutexvar_epi32(packed_order(), bytes));
}
#define AS_INTS(x)  _mm512_castps_si512(x)
#define AS_REALS(x) _mm512_castsi512_ps(x)
#else
enum { LANES = 8 };
typedef __m256 reals;
typedef __m256i ints;
#define V(name)     _mm256_##name

static inline reals table_of(const float rows[CN_QUANT8_DECADES])
{
    return _mm256_loadu_ps(rows);
}

static inline reals look_up(reals table, ints row)
{
    return _mm256_permutevar8x32_ps(table, row);
}

static inline ints ints_of(const uint8_t *codes)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)codes));
}

static inline ints one_more_above(ints x, reals size, reals border)
{
    return _mm256_sub_epi32(x, _mm256_castps_si256(_mm256_cmp_ps(size, border, _CMP_GT_OQ)));
}

static inline ints signed_as(ints x, reals like)
{
    return _mm256_sign_epi32(x, _mm256_castps_si256(like));
}

static inline unsigned zeros_of(ints x)
{
    const __m256i zero = _mm256_cmpeq_epi32(x, _mm256_setzero_si256());
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(zero));
}

static inline void store_bytes(uint8_t *codes, ints bytes)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((void *)codes, _mm256_permutevar8x32_epi32(bytes, order));
}
#define AS_INTS(x)  _mm256_castps_si256(x)
#define AS_REALS(x) _mm256_castsi256_ps(x)
#endif

/* By the lowest three bits of a number's exponent as a float, in a register: tables in memory take
 * twice as long (Zen 3). */
static inline reals by_exponent(reals table, reals number)
{
    return look_up(table, V(srli_epi32)(AS_INTS(number), 23));
}

static inline int decode_vectors(const cn_quant8 *q, bool is_signed, const uint8_t *codes,
                                 float scale, float *x, int n)
{
    const reals offset = table_of(q->offset), unit = table_of(q->unit),
                upper = AS_REALS(V(set1_epi32)(INT32_MIN >> 8)), factor = V(set1_ps)(scale);
    const ints first = V(set1_epi32)(is_signed ? -q->zero : 1);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        const reals k = V(cvtepi32_ps)(V(add_epi32)(ints_of(codes + i), first)),
                    times18 = V(mul_ps)(k, V(set1_ps)(18)), power = V(and_ps)(k, upper),
                    off = by_exponent(offset, k);
        const reals part = is_signed ? V(fnmadd_ps)(off, power, times18)
                                     : V(add_ps)(times18, V(fnmadd_ps)(V(set1_ps)(16), power, off));
        const reals value = V(div_ps)(part, by_exponent(unit, k));
        V(storeu_ps)(x + i, V(mul_ps)(value, factor));
    }
    return i;
}

typedef struct encoding {
    reals border, slope, start, inverse;
} encoding;

static inline encoding encoding_of(const cn_quant8 *q, float scale)
{
    return (encoding){table_of(q->border), table_of(q->slope), table_of(q->start),
                      V(set1_ps)(1 / scale)};
}

enum { VECTORS = 4, WIDTH = LANES * VECTORS };
#define EACH for (int j = 0; j < VECTORS; j++)

/* Numbers of the magnitudes nearest to WIDTH sizes, but for those whose fraction is 0: they are
 * doubtful. In steps of all vectors, so that the processor has several chains at once.
 *
 * A decade is estimated from the upper half of the bits, about a logarithm: 128 an octave, 425 or
 * 65536 / 154 a decade. It changes in the middle of decades, so a border is between it and the next
 * one. Second moments have no sign. */
static inline void numbers_of(const encoding *t, bool is_signed, const float *x, ints k[VECTORS],
                              ints fraction[VECTORS])
{
    const reals border = t->border, slope = t->slope, start = t->start, inverse = t->inverse;
    const ints low = V(set1_epi32)(13523), per_decade = V(set1_epi32)(154),
               parts = V(set1_epi32)(is_signed ? 2 : 4), /* of the next decade's */
        before = V(set1_epi32)(is_signed ? -1 : -2), rest = V(set1_epi32)(CN_QUANT8_STEPS - 1);
    reals size[VECTORS], at[VECTORS];
    ints decade[VECTORS], steps[VECTORS];
    EACH
    {
        const reals from = V(loadu_ps)(x + LANES * j),
                    positive = is_signed ? V(andnot_ps)(V(set1_ps)(-0.0f), from) : from;
        size[j] = V(min_ps)(V(mul_ps)(positive, inverse), V(set1_ps)(1));
    }
    EACH decade[j] = V(srli_epi32)(AS_INTS(size[j]), 16);
    EACH decade[j] = V(mulhi_epu16)(V(subs_epu16)(decade[j], low), per_decade);
    EACH decade[j] = one_more_above(decade[j], size[j], look_up(border, decade[j]));
    EACH at[j] = V(fmadd_ps)(size[j], look_up(slope, decade[j]), look_up(start, decade[j]));
    EACH steps[j] = V(cvtps_epi32)(at[j]);
    EACH fraction[j] = steps[j] & rest;
    EACH k[j] = V(min_epi32)(V(srli_epi32)(steps[j], CN_QUANT8_STEP_BITS),
                             V(add_epi32)(V(sllv_epi32)(parts, decade[j]), before));
    if (!is_signed) /* only 0 itself has the code 0 */
        EACH k[j] = V(min_epu32)(k[j], AS_INTS(size[j]));
}

/* Out of the way of the loop's registers. */
static __attribute__((noinline)) void settle(const cn_quant8 *q, bool is_signed, const float *x,
                                             float scale, uint8_t *codes)
{
    const encoding t = encoding_of(q, scale);
    ints k[VECTORS], fraction[VECTORS];
    numbers_of(&t, is_signed, x, k, fraction);
    EACH for (unsigned left = zeros_of(fraction[j]); left; left &= left - 1)
    {
        const int i = LANES * j + __builtin_ctz(left);
        codes[i] = (uint8_t)cn_quant8_code(q, x[i] / scale);
    }
}

static inline int encode_vectors(const cn_quant8 *q, bool is_signed, const float *x, float scale,
                                 uint8_t *codes, int n)
{
    const encoding t = encoding_of(q, scale);
    const ints zero = V(set1_epi32)(q->zero);
    int i = 0;
    for (; isnormal(1 / scale) && i + WIDTH <= n; i += WIDTH) {
        ints k[VECTORS], f[VECTORS];
        numbers_of(&t, is_signed, x + i, k, f);
        if (is_signed) /* a 0's k is 0; where -1 is, the packing makes it a 0 */
            EACH
            {
                const reals like = V(loadu_ps)(x + i + LANES * j);
                k[j] = V(add_epi32)(zero, signed_as(k[j], like));
            }
        store_bytes(codes + i,
                    V(packus_epi16)(V(packus_epi32)(k[0], k[1]), V(packus_epi32)(k[2], k[3])));
        const ints least = V(min_epu32)(V(min_epu32)(f[0], f[1]), V(min_epu32)(f[2], f[3]));
        if (__builtin_expect(zeros_of(least) != 0, 0))
            settle(q, is_signed, x + i, scale, codes + i);
    }
    return i;
}
#undef EACH
#undef V
#undef AS_INTS
#undef AS_REALS
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
