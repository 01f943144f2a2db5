/* optimizer.c - AdamW and the gradient's norm. Bound by memory. */
#include "cpu/kernels/kernels.h"

enum { BLOCK = 4096, PARALLEL_FROM = 32768 };

void CN_K(adamw)(float *w, float *m, float *v, const float *grad, int64_t n, float grad_scale,
                 float lr, float beta1, float beta2, float eps, float decay, float correct1,
                 float correct2)
{
    float keep = 1.0f - lr * decay, step = lr / correct1, inv2 = 1.0f / correct2;
#pragma omp parallel for simd schedule(static) if (n > PARALLEL_FROM)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * grad_scale;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        w[i] = w[i] * keep - step * m[i] / (__builtin_sqrtf(v[i] * inv2) + eps);
    }
}

double CN_K(sum_squares)(const float *x, int64_t n)
{
    double total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total) if (n > PARALLEL_FROM)
    for (int64_t b = 0; b < n; b += BLOCK) {
        int64_t e = CN_MIN(b + BLOCK, n);
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = b; i < e; i++) s += x[i] * x[i];
        total += (double)s;
    }
    return total;
}
