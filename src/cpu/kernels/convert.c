/* convert.c - between F32, F16 and BF16, in parallel. */
#include "cpu/kernels/kernels.h"

enum { BLOCK = 1024 };

void CN_K(convert)(cn_dtype from, const void *x, cn_dtype to, void *y, int64_t n)
{
    const size_t in = cn_dtype_bytes(from), out = cn_dtype_bytes(to);
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < n; at += BLOCK) {
        const size_t count = (size_t)CN_MIN((int64_t)BLOCK, n - at);
        const char *source = (const char *)x + (size_t)at * in;
        char *target = (char *)y + (size_t)at * out;
        if (to == CN_F32) {
            cn_to_f32(from, source, (float *)(void *)target, count);
        } else if (from == CN_F32) {
            cn_from_f32(to, (const float *)(const void *)source, target, count);
        } else {
            float block[BLOCK];
            cn_to_f32(from, source, block, count);
            cn_from_f32(to, block, target, count);
        }
    }
}
