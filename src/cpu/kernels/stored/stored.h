/* SPDX-License-Identifier: Apache-2.0 */
/* stored.h - the element type of activations that this compilation is for.
 *
 * The Makefile compiles this folder once per instruction set and storage type. A kernel reads with
 * ld, computes in float and writes with st; CN_S(name) names it.
 */
#ifndef CN_STORED_H
#define CN_STORED_H

#include "cpu/kernels/kernels.h"

#include <string.h>

#ifndef CN_STORE
#define CN_STORE f32
#define CN_STORE_F32
#endif
#define CN_S3(name, isa, store) cn_k_##name##_##isa##_##store
#define CN_S2(name, isa, store) CN_S3(name, isa, store)
#define CN_S(name)              CN_S2(name, CN_ISA, CN_STORE)

#define CN_KERNEL_DECLARE(result, name, arguments) result CN_S(name) arguments;
CN_STORED_LIST(CN_KERNEL_DECLARE)
#undef CN_KERNEL_DECLARE

#ifdef CN_STORE_F32
typedef float act_t;

static inline float ld(act_t x)
{
    return x;
}
static inline act_t st(float x)
{
    return x;
}
#else
typedef uint16_t act_t; /* bfloat16: a float's upper half */

static inline float ld(act_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* To nearest, ties to even; NaN stays NaN. */
static inline act_t st(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (act_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
#endif

#endif
