/* transpose.h - a matrix turned over in the caches, four by four. */
#ifndef CN_TRANSPOSE_H
#define CN_TRANSPOSE_H

#include <stdint.h>
#include <xmmintrin.h>

/* to [columns][rows] = scale * from [rows][columns]; strides are between rows of each, in floats. */
static inline void transpose(const float *from, int64_t from_stride, int64_t rows, int64_t columns,
                             float scale, float *to, int64_t to_stride)
{
    const __m128 s = _mm_set1_ps(scale);
    const int64_t whole = rows & ~(int64_t)3, wide = columns & ~(int64_t)3;
    for (int64_t j = 0; j < wide; j += 4)
        for (int64_t i = 0; i < whole; i += 4) {
            const float *f = from + i * from_stride + j;
            float *t = to + j * to_stride + i;
            __m128 r0 = _mm_mul_ps(s, _mm_loadu_ps(f));
            __m128 r1 = _mm_mul_ps(s, _mm_loadu_ps(f + from_stride));
            __m128 r2 = _mm_mul_ps(s, _mm_loadu_ps(f + 2 * from_stride));
            __m128 r3 = _mm_mul_ps(s, _mm_loadu_ps(f + 3 * from_stride));
            _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
            _mm_storeu_ps(t, r0);
            _mm_storeu_ps(t + to_stride, r1);
            _mm_storeu_ps(t + 2 * to_stride, r2);
            _mm_storeu_ps(t + 3 * to_stride, r3);
        }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i < whole ? wide : 0; j < columns; j++)
            to[j * to_stride + i] = scale * from[i * from_stride + j];
}

#endif
