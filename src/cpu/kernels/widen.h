/* SPDX-License-Identifier: Apache-2.0 */
/* widen.h - elements of stored weights to float in vectors. Values are those of base/dtype.c. */
#ifndef CN_WIDEN_H
#define CN_WIDEN_H

#include "base/dtype.h"

#include <string.h>

#ifdef __F16C__
#include <immintrin.h>
#endif

/* Elements in a file may stand at any byte. */
typedef uint16_t cn_file_u16 __attribute__((aligned(1), may_alias));

static inline void bf16_to_f32(const cn_file_u16 *x, float *y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)x[i] << 16;
        memcpy(&y[i], &bits, sizeof bits);
    }
}

/* Whole vectors; what is left is the caller's. Returns how many were done. */
static inline int64_t f16_to_f32(const cn_file_u16 *x, float *y, int64_t n)
{
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i))));
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(x + i))));
#else
    (void)x;
    (void)y;
    (void)n;
#endif
    return i;
}

/* x begins a block. */
static inline void q8_to_f32(const unsigned char *x, float *y, int64_t n)
{
    enum { BLOCKS = 16 };
    for (int64_t at = 0; at < n; at += BLOCKS * CN_Q8_BLOCK) {
        uint16_t halves[BLOCKS] = {0};
        float scales[BLOCKS];
        const int64_t blocks = CN_MIN((int64_t)BLOCKS, (n - at + CN_Q8_BLOCK - 1) / CN_Q8_BLOCK);
        const unsigned char *group = x + at / CN_Q8_BLOCK * CN_Q8_BYTES;
        for (int64_t b = 0; b < blocks; b++)
            memcpy(&halves[b], group + b * CN_Q8_BYTES, sizeof halves[b]);
        if (f16_to_f32(halves, scales, BLOCKS) < BLOCKS) cn_to_f32(CN_F16, halves, scales, BLOCKS);
        for (int64_t b = 0; b < blocks; b++) {
            const signed char *codes =
                (const signed char *)group + b * CN_Q8_BYTES + sizeof *halves;
            float *to = y + at + b * CN_Q8_BLOCK;
            const int64_t count = CN_MIN((int64_t)CN_Q8_BLOCK, n - at - b * CN_Q8_BLOCK);
            const float scale = scales[b];
            if (count == CN_Q8_BLOCK)
#pragma omp simd
                for (int64_t i = 0; i < CN_Q8_BLOCK; i++) to[i] = scale * (float)codes[i];
            else
                for (int64_t i = 0; i < count; i++) to[i] = scale * (float)codes[i];
        }
    }
}

static inline void widen(cn_dtype from, const void *x, float *y, int64_t n)
{
    if (from == CN_F32) {
        memcpy(y, x, (size_t)n * sizeof *y);
        return;
    }
    if (from == CN_BF16) {
        bf16_to_f32(x, y, n);
        return;
    }
    if (from == CN_Q8) {
        q8_to_f32(x, y, n);
        return;
    }
    const int64_t done = from == CN_F16 ? f16_to_f32(x, y, n) : 0;
    const char *rest = (const char *)x + (size_t)done * cn_dtype_bytes(from);
    if (done < n) cn_to_f32(from, rest, y + done, (size_t)(n - done));
}

#endif
