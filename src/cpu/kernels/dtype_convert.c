/* SPDX-License-Identifier: Apache-2.0 */
/* dtype_convert.c - between F32, F16, BF16 and Q8, in parallel and in vectors: what expands stored
 * weights before a product, casts activations and makes stored weights of a file's. Values are
 * those of base/dtype.c. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/widen.h"

enum { BLOCK = 2048 };

/* To nearest, ties to even; NaN stays NaN, its sign and payload kept as cn_from_f32 does. */
static void f32_to_bf16(const float *x, uint16_t *y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        y[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded);
    }
}

static float largest(const float *x)
{
    float most = 0;
#pragma omp simd reduction(max : most)
    for (int i = 0; i < CN_Q8_BLOCK; i++) {
        const float size = __builtin_fabsf(x[i]);
        most = size > most ? size : most;
    }
    return most;
}

static void block_to_q8(const float *x, float scale, signed char *codes)
{
    const float inverse = scale > 0 ? 1 / scale : 0;
#pragma omp simd
    for (int i = 0; i < CN_Q8_BLOCK; i++) {
        float value = x[i] * inverse;
        value = value < 127 ? value : 127;
        value = value > -127 ? value : -127;
        codes[i] = (signed char)(int)__builtin_rintf(value);
    }
}

/* Whole blocks, whose scales are rounded to halves many at a time; what is left is the caller's.
 * Returns how many elements were done. */
static int64_t f32_to_q8(const float *x, unsigned char *y, int64_t n)
{
    enum { GROUP = 64 };
    const int64_t whole = n / CN_Q8_BLOCK;
    for (int64_t at = 0; at < whole; at += GROUP) {
        uint16_t halves[GROUP];
        float scales[GROUP];
        const int64_t blocks = CN_MIN((int64_t)GROUP, whole - at);
        for (int64_t b = 0; b < blocks; b++) {
            const float scale = largest(x + (at + b) * CN_Q8_BLOCK) / 127;
            scales[b] = scale < 65504 ? scale : 65504;
        }
        cn_from_f32(CN_F16, scales, halves, (size_t)blocks);
        cn_to_f32(CN_F16, halves, scales, (size_t)blocks);
        for (int64_t b = 0; b < blocks; b++) {
            unsigned char *to = y + (at + b) * CN_Q8_BYTES;
            memcpy(to, &halves[b], sizeof *halves);
            block_to_q8(x + (at + b) * CN_Q8_BLOCK, scales[b], (signed char *)to + sizeof *halves);
        }
    }
    return whole * CN_Q8_BLOCK;
}

static void narrow(const float *x, cn_dtype to, void *y, int64_t n)
{
    if (to == CN_BF16) {
        f32_to_bf16(x, y, n);
        return;
    }
    const int64_t done = to == CN_Q8 ? f32_to_q8(x, y, n) : 0;
    if (done < n)
        cn_from_f32(to, x + done, (char *)y + cn_dtype_size(to, done), (size_t)(n - done));
}

void CN_K(convert_alone)(cn_dtype from, const void *x, cn_dtype to, void *y, int64_t n)
{
    if (to == CN_F32) {
        widen(from, x, y, n);
        return;
    }
    if (from == CN_F32 && (uintptr_t)x % sizeof(float) == 0) {
        narrow(x, to, y, n);
        return;
    }
    for (int64_t at = 0; at < n; at += BLOCK) {
        float block[BLOCK];
        const int64_t count = CN_MIN((int64_t)BLOCK, n - at);
        widen(from, (const char *)x + cn_dtype_size(from, at), block, count);
        narrow(block, to, (char *)y + cn_dtype_size(to, at), count);
    }
}

void CN_K(convert)(cn_dtype from, const void *x, cn_dtype to, void *y, int64_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (int64_t at = 0; at < n; at += BLOCK) {
        const char *source = (const char *)x + cn_dtype_size(from, at);
        char *target = (char *)y + cn_dtype_size(to, at);
        CN_K(convert_alone)(from, source, to, target, CN_MIN((int64_t)BLOCK, n - at));
    }
}
