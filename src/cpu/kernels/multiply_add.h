/* SPDX-License-Identifier: Apache-2.0 */
/* multiply_add.h - products of vectors with sums in float32: of floats, or in bf16/, which is
 * compiled for processors that have them, of pairs of bfloat16.
 *
 * A lane of a vector of factors has DEPTH of them; what a sum's lane adds are their products.
 */
#ifndef CN_CPU_KERNELS_MULTIPLY_ADD_H
#define CN_CPU_KERNELS_MULTIPLY_ADD_H

#include "cpu/kernels/vectors.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

enum { DEPTH = 2 };
typedef uint16_t factor;
typedef __m512i factors;

static inline factor factor_of(float w)
{
    factor rounded;
    cn_from_f32(CN_BF16, &w, &rounded, 1);
    return rounded;
}

/* As many elements of a picture as a vector has. */
static inline factors inputs_at(cn_dtype type, const char *p)
{
    (void)type;
    return _mm512_loadu_si512(p);
}

static inline factors factors_at(const factor *u)
{
    return _mm512_loadu_si512(u);
}

/* DEPTH elements in every lane. */
static inline factors spread(const char *p)
{
    int32_t lane;
    memcpy(&lane, p, sizeof lane);
    return _mm512_set1_epi32(lane);
}

static inline vec add_products(vec sum, factors x, factors w)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

#else

enum { DEPTH = 1 };
typedef float factor;
typedef vec factors;

static inline factor factor_of(float w)
{
    return w;
}

static inline factors inputs_at(cn_dtype type, const char *p)
{
    return load_as(type, p);
}

static inline factors factors_at(const factor *u)
{
    return load(u);
}

static inline factors spread(const char *p)
{
    float lane;
    memcpy(&lane, p, sizeof lane);
    return lane - (vec){0}; /* adding zero would be an instruction */
}

static inline vec add_products(vec sum, factors x, factors w)
{
    return sum + x * w;
}

#endif

/* x in a register: gcc would read it again for each of its products, more than the processor can
 * read. */
static inline factors kept(factors x)
{
    __asm__("" : "+v"(x));
    return x;
}

#endif
