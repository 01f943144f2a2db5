/* convert.c - between F32, F16 and BF16, and from Q8, in parallel and in vectors: what expands stored weights before a
 * product and casts activations. Values are those of base/dtype.c. */
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

static void narrow(const float *x, cn_dtype to, void *y, int64_t n)
{
    if (to == CN_BF16)
        f32_to_bf16(x, y, n);
    else
        cn_from_f32(to, x, y, (size_t)n);
}

void CN_K(convert)(cn_dtype from, const void *x, cn_dtype to, void *y, int64_t n)
{
    const size_t out = cn_dtype_bytes(to);
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t count = CN_MIN((int64_t)BLOCK, n - at);
        const char *source = (const char *)x + cn_dtype_size(from, at);
        void *target = (char *)y + (size_t)at * out;
        if (to == CN_F32) {
            widen(from, source, target, count);
        } else if (from == CN_F32) {
            narrow((const float *)(const void *)source, to, target, count);
        } else {
            float block[BLOCK];
            widen(from, source, block, count);
            narrow(block, to, target, count);
        }
    }
}
