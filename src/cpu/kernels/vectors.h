/* SPDX-License-Identifier: Apache-2.0 */
/* vectors.h - channels of pictures in vectors of the instruction set that a file is compiled
 * for. */
#ifndef CN_VECTORS_H
#define CN_VECTORS_H

#include "cpu/kernels/conv/conv_args.h"

#include "base/dtype.h"

#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
enum { GROUP = CN_CONV_GROUP };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t bits_of_vec __attribute__((vector_size(4 * LANES)));
typedef uint16_t half_vec __attribute__((vector_size(2 * LANES)));
typedef uint16_t half_at __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

static inline vec load(const float *p)
{
    return *(const vec_at *)p;
}

static inline void store(float *p, vec v)
{
    *(vec_at *)p = v;
}

/* Past the caches where whole lines are written, which are complete for others after an sfence. */
static inline void store_away(float *p, vec v)
{
#ifdef __AVX512F__
    if ((uintptr_t)p % sizeof v == 0) {
        _mm512_stream_ps(p, (__m512)v);
        return;
    }
#endif
    store(p, v);
}

/* LANES elements of a picture; those of bfloat16 are floats' upper halves. */
static inline vec load_as(cn_dtype type, const void *p)
{
    if (type == CN_F32) return load(p);
    return (vec)(__builtin_convertvector(*(const half_at *)p, bits_of_vec) << 16);
}

/* To nearest, ties to even; NaN stays NaN. */
static inline void store_as(cn_dtype type, void *p, vec v)
{
    if (type == CN_F32) {
        store(p, v);
        return;
    }
    const bits_of_vec bits = (bits_of_vec)v, nan = (bits_of_vec)(v != v);
    const bits_of_vec rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    *(half_at *)p = __builtin_convertvector((nan & 0x7fc0) | (~nan & rounded), half_vec);
}

/* The first n <= LANES, zeros behind them. */
static inline vec load_some(cn_dtype type, const void *p, int64_t n)
{
    if (n == LANES) return load_as(type, p);
    char some[sizeof(vec)] = {0};
    memcpy(some, p, (size_t)n * cn_dtype_bytes(type));
    return load_as(type, some);
}

static inline void store_some(cn_dtype type, void *p, vec v, int64_t n)
{
    if (n == LANES) {
        store_as(type, p, v);
        return;
    }
    char some[sizeof(vec)];
    store_as(type, some, v);
    memcpy(p, some, (size_t)n * cn_dtype_bytes(type));
}

static inline int64_t whole_groups(int64_t n)
{
    return (n + GROUP - 1) / GROUP * GROUP;
}

#endif
