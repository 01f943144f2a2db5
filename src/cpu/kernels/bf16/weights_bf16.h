/* SPDX-License-Identifier: Apache-2.0 */
/* weights_bf16.h - stored weights to operands of cn_tiles_product, 16 inputs by 16 outputs of a tap
 * at a time. */
#ifndef CN_CPU_KERNELS_BF16_WEIGHTS_BF16_H
#define CN_CPU_KERNELS_BF16_WEIGHTS_BF16_H

#include "cpu/kernels/bf16/conv_bf16.h"
#include "cpu/kernels/bf16/pack.h"
#include "cpu/kernels/conv/conv_weights.h"

/* Sixteen weights at p and sixteen at q. */
static inline __attribute__((always_inline)) __m512i sixteens(cn_dtype type, const char *p,
                                                              const char *q)
{
    if (type == CN_BF16)
        return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)p)),
                                  _mm256_loadu_si256((const void *)q), 1);
    if (type == CN_F16)
        return (__m512i)_mm512_cvtne2ps_pbh(_mm512_cvtph_ps(_mm256_loadu_si256((const void *)q)),
                                            _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)));
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(q), _mm512_loadu_ps(p));
}

/* Even elements, then odd ones. */
static inline __m512i taken_apart(__m512i v)
{
    const __m512i order =
        _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24,
                         22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return _mm512_permutexvar_epi16(order, v);
}

/* Runs of GROUP rows, each at `first` plus its own place; in_pairs: elements of two rows in turn in
 * each of GROUP / 2. Left: to rows of u; else to pairs of them. */
static inline __attribute__((always_inline)) void gather_runs(cn_dtype type, bool in_pairs,
                                                              const char *first,
                                                              const int64_t *places, bool left,
                                                              uint16_t *u, int64_t stride)
{
    const int64_t each = type == CN_F32 ? 4 : 2;
    for (int i = 0; i < GROUP; i += 2, u += 2 * stride) {
        const char *p = first + places[i] * each;
        const char *q = in_pairs ? p + GROUP * each : first + places[i + 1] * each;
        __m512i v = sixteens(type, p, q);
        if (!in_pairs && !left) v = side_by_side(v);
        if (in_pairs && left) v = taken_apart(v);
        if (left) {
            _mm256_storeu_si256((void *)u, _mm512_castsi512_si256(v));
            _mm256_storeu_si256((void *)(u + stride), _mm512_extracti64x4_epi64(v, 1));
        } else {
            _mm512_storeu_si512(u, v);
        }
    }
}

/* A group that ends before it is whole, or whose weights don't stand in runs. */
static __attribute__((noinline)) void gather_scattered(const cn_conv_args *a, int64_t in,
                                                       int64_t out, int tap, bool left, uint16_t *u,
                                                       int64_t stride)
{
    float g[GROUP * GROUP], transposed[GROUP * GROUP];
    int64_t places[GROUP];
    for (int i = 0; i < GROUP; i++) places[i] = i * GROUP;
    gather(a, in, out, tap, g, GROUP);
    if (left) transpose(g, GROUP, GROUP, GROUP, 1, transposed, GROUP);
    gather_runs(CN_F32, false, (const char *)(left ? transposed : g), places, left, u, stride);
}

/* Weights of a tap from inputs in .. in+16 to outputs out .. out+16: left u [out][stride] by
 * inputs, else u [in/2][stride][2] by outputs. type and in_pairs are a's, known to the compiler. */
static inline __attribute__((always_inline)) void gather_group(const cn_conv_args *a, cn_dtype type,
                                                               bool in_pairs, int64_t in,
                                                               int64_t out, int tap, bool left,
                                                               uint16_t *u, int64_t stride)
{
    const runs_at r = find_runs(a, in, out, tap);
    if (r.whole)
        gather_runs(type, in_pairs, r.first, r.places, left, u, stride);
    else
        gather_scattered(a, in, out, tap, left, u, stride);
}

#endif
