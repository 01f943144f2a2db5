/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bf16_internal.h - what attention's forward and gradient on bfloat16 share.
 *
 * The products want vectors of results, and the head width 40 is not whole vectors. So results are
 * laid out with queries (forward) or keys (gradient) fastest, [D][queries] and [D][keys], as in the
 * float kernel, and the head width is rows of a left operand or the inner dimension, which
 * AVX512_BF16 takes at any length. AMX wants both in whole tiles; what is missing is filled with
 * zeros. Only dq has the head width in vectors.
 */
#ifndef CN_CPU_KERNELS_BF16_ATTENTION_BF16_INTERNAL_H
#define CN_CPU_KERNELS_BF16_ATTENTION_BF16_INTERNAL_H

#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/bf16/pack.h"
#include "cpu/kernels/bf16/register_sums.h"
#include "cpu/kernels/attention_heads.h"

static const float LN2 = 0.69314718055994531f;
/* Exponents of 2 are counted in steps of 2^-23: rounded to an integer, they are a float's exponent
 * and mantissa. */
static const float LOG2E_STEPS = 1.44269504088896341f * 8388608, STEP = 1.0f / 8388608;

/* What power_bits() reads: a polynomial that is 1 at 1, highest power first. */
typedef struct power_table {
    float most, p[4];
    int32_t mantissa, one;
} power_table;

static const power_table POWERS = {
    .most = 126 * 8388608.0f,
    .p = {7.70670420e-2f, -3.55613479e-3f, 4.71027930e-1f, 4.55461163e-1f},
    .mantissa = 0x7fffff,
    .one = 0x3f800000,
};

/* POWERS, to be read anew after this call: kept in registers it would push sums of products out of
 * them. */
static inline const power_table *powers(void)
{
    const power_table *p = &POWERS;
    __asm__ volatile("" : "+r"(p));
    return p;
}

/* Added to a float's bits: of their upper half it makes the value in bfloat16, rounded. */
enum { HALF = 0x8000 };

/* 2^(t STEP) as a float's bits and `more`, to 1e-4, a twentieth of bfloat16's rounding. t beyond
 * 126 steps of 2^23 either way counts as that. */
static inline __m512i power_bits_and(const power_table *c, __m512 t, int32_t more)
{
    enum { SMALLER_WITH_SIGN = 2, A_AND_B_OR_C = 0xea, A_AND_NOT_B_OR_C = 0xba };
    const __m512i mantissa = _mm512_set1_epi32(c->mantissa);
    const __m512i bits =
        _mm512_cvtps_epi32(_mm512_range_ps(t, _mm512_set1_ps(c->most), SMALLER_WITH_SIGN));
    const __m512 m =
        (__m512)_mm512_ternarylogic_epi32(bits, mantissa, _mm512_set1_epi32(c->one), A_AND_B_OR_C);
    const __m512i exponent =
        _mm512_ternarylogic_epi32(bits, mantissa, _mm512_set1_epi32(more), A_AND_NOT_B_OR_C);
    __m512 p = _mm512_set1_ps(c->p[0]);
    for (int i = 1; i < 4; i++) p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(c->p[i]));
    return _mm512_add_epi32((__m512i)p, exponent);
}

static inline __m512i power_bits(const power_table *c, __m512 t)
{
    return power_bits_and(c, t, 0);
}

static inline __m512i power_cut(const power_table *c, __m512 t)
{
    return power_bits_and(c, t, HALF);
}

static inline __m512 power_of_two(__m512 t)
{
    return (__m512)power_bits(&POWERS, t);
}

/* log2 of x > 0 to 1e-6: a mantissa m of 0.75 to 1.5 by atanh's series in (m - 1) / (m + 1). */
static inline __m512 log_of_two(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1);
    const __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    const __m512 e = _mm512_getexp_ps(x);
    const __m512 exponent = _mm512_mask_add_ps(e, _mm512_cmplt_ps_mask(m, one), e, one);
    const __m512 z = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one));
    const __m512 zz = _mm512_mul_ps(z, z);
    __m512 p = _mm512_set1_ps(4.1219859e-1f); /* 2 / ln 2 / 7, / 5, / 3, / 1 */
    p = _mm512_fmadd_ps(p, zz, _mm512_set1_ps(5.7707802e-1f));
    p = _mm512_fmadd_ps(p, zz, _mm512_set1_ps(9.6179669e-1f));
    p = _mm512_fmadd_ps(p, zz, _mm512_set1_ps(2.8853901f));
    return _mm512_fmadd_ps(p, z, exponent);
}

/* Upper halves of b's and a's elements to pairs. */
static inline __m512i upper_halves(__m512i b, __m512i a)
{
    const __m512i order =
        _mm512_set_epi16(63, 31, 61, 29, 59, 27, 57, 25, 55, 23, 53, 21, 51, 19, 49, 17, 47, 15, 45,
                         13, 43, 11, 41, 9, 39, 7, 37, 5, 35, 3, 33, 1);
    return _mm512_permutex2var_epi16(a, order, b);
}

/* Upper halves of a's elements, b's behind them. */
static inline __m512i upper_halves_behind(__m512i b, __m512i a)
{
    const __m512i order =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27,
                         25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16(a, order, b);
}

static inline size_t align64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static inline void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += align64(bytes);
    return p;
}

static inline uint16_t *head_at(const void *x, const cn_attention_args *a, int64_t h,
                                int64_t tokens)
{
    return head_in(x, a, h, tokens, sizeof(uint16_t));
}

/* Rows of q, k or v from `first`, at most `most` of `all`. */
static inline cn_rows rows_from(const uint16_t *x, const cn_attention_args *a, int64_t first,
                                int64_t all, int64_t most)
{
    const int64_t W = a->heads * a->D;
    return (cn_rows){x + first * W, W, CN_MIN(most, all - first), a->D};
}

typedef struct sizes {
    int64_t W, D, heads, blocks; /* blocks of keys */
    bool amx;
    int64_t unit;                  /* inner dimensions and a left operand's rows are whole units */
    int64_t D_in, D_rows, D_lanes; /* head width as inner dimension, as rows, as columns */
    size_t head_bytes, worker_bytes;
} sizes;

static inline sizes common_sizes(const cn_attention_args *a, int64_t block)
{
    const int64_t unit = a->amx ? 32 : 2;
    return (sizes){.W = a->heads * a->D,
                   .D = a->D,
                   .heads = a->N * a->heads,
                   .blocks = (a->M + block - 1) / block,
                   .amx = a->amx,
                   .unit = unit,
                   .D_in = up(a->D, unit),
                   .D_rows = up(a->D, a->amx ? 16 : 1),
                   .D_lanes = up(a->D, a->amx ? 16 : 8)};
}

#endif
