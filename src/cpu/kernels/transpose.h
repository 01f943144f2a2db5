/* SPDX-License-Identifier: Apache-2.0 */
/* transpose.h - a matrix transposed in the caches, sixteen by sixteen where vectors are that long,
 * else four by four. */
#ifndef CN_TRANSPOSE_H
#define CN_TRANSPOSE_H

#include <immintrin.h>
#include <stdint.h>

#ifdef __AVX512F__
/* 16 x 16 elements of 32 bits transposed. */
static inline __attribute__((always_inline)) void turn16(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            r[i + 2 * h] = _mm512_unpacklo_epi64(t[i + h], t[i + 2 + h]);
            r[i + 2 * h + 1] = _mm512_unpackhi_epi64(t[i + h], t[i + 2 + h]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int c = 0; c < 4; c++) {
            t[i + c] = _mm512_shuffle_i32x4(r[i + c], r[i + 4 + c], 0x88);
            t[i + 4 + c] = _mm512_shuffle_i32x4(r[i + c], r[i + 4 + c], 0xdd);
        }
    for (int c = 0; c < 8; c++) {
        r[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
        r[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xdd);
    }
}
#endif

/* The same of 4 x 4, with a factor. */
static inline void turn4(const float *from, int64_t from_stride, __m128 scale, float *to,
                         int64_t to_stride)
{
    __m128 r[4];
    for (int i = 0; i < 4; i++) r[i] = _mm_mul_ps(scale, _mm_loadu_ps(from + i * from_stride));
    _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]);
    for (int i = 0; i < 4; i++) _mm_storeu_ps(to + i * to_stride, r[i]);
}

/* 16 x 16 of them. */
static inline void turn16_at(const float *from, int64_t from_stride, float scale, float *to,
                             int64_t to_stride)
{
#ifdef __AVX512F__
    __m512i r[16];
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_castps_si512(
            _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(from + i * from_stride)));
    turn16(r);
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * to_stride, r[i]);
#else
    for (int j = 0; j < 16; j += 4)
        for (int i = 0; i < 16; i += 4)
            turn4(from + i * from_stride + j, from_stride, _mm_set1_ps(scale),
                  to + j * to_stride + i, to_stride);
#endif
}

/* to [columns][rows] = scale * from [rows][columns]; strides are between rows of each, in
 * floats. */
static inline void transpose(const float *from, int64_t from_stride, int64_t rows, int64_t columns,
                             float scale, float *to, int64_t to_stride)
{
    const __m128 s = _mm_set1_ps(scale);
    const int64_t tall = rows & ~(int64_t)15, broad = columns & ~(int64_t)15;
    const int64_t whole = rows & ~(int64_t)3, wide = columns & ~(int64_t)3;
    for (int64_t j = 0; j < broad; j += 16)
        for (int64_t i = 0; i < tall; i += 16)
            turn16_at(from + i * from_stride + j, from_stride, scale, to + j * to_stride + i,
                      to_stride);
    for (int64_t j = 0; j < wide; j += 4)
        for (int64_t i = j < broad ? tall : 0; i < whole; i += 4)
            turn4(from + i * from_stride + j, from_stride, s, to + j * to_stride + i, to_stride);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i < whole ? wide : 0; j < columns; j++)
            to[j * to_stride + i] = scale * from[i * from_stride + j];
}

#endif
