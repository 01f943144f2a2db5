/* pointwise.c - element-wise kernels, channel sums, copies, up-sampling. Bound by memory. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/math.h"

#include <omp.h>
#include <string.h>

enum { BLOCK = 4096, PARALLEL_FROM = 32768 };

/* Runs `expression` for i in [0,n), blocks of it in parallel. */
#define EACH(n, expression)                                                                       \
    _Pragma("omp parallel for schedule(static) if (n > PARALLEL_FROM)") for (int64_t b_ = 0;      \
                                                                             b_ < n; b_ += BLOCK) \
    {                                                                                             \
        int64_t e_ = CN_MIN(b_ + BLOCK, n);                                                       \
        _Pragma("omp simd") for (int64_t i = b_; i < e_; i++)                                     \
        {                                                                                         \
            expression;                                                                           \
        }                                                                                         \
    }

void CN_K(act)(cn_act act, const float *x, float *y, int64_t n)
{
    switch (act) {
    case CN_ACT_NONE: EACH(n, y[i] = x[i]); break;
    case CN_ACT_SILU: EACH(n, y[i] = x[i] * fast_sigmoid(x[i])); break;
    case CN_ACT_GELU: EACH(n, y[i] = gelu(x[i])); break;
    case CN_ACT_QUICK_GELU: EACH(n, y[i] = x[i] * fast_sigmoid(1.702f * x[i])); break;
    case CN_ACT_RELU: EACH(n, y[i] = x[i] > 0 ? x[i] : 0); break;
    }
}

static inline float silu_slope(float x, float k)
{
    float s = fast_sigmoid(k * x);
    return s * (1.0f + k * x * (1.0f - s));
}

void CN_K(act_dx)(cn_act act, const float *x, const float *dy, float *dx, int64_t n)
{
    switch (act) {
    case CN_ACT_NONE: EACH(n, dx[i] = dy[i]); break;
    case CN_ACT_SILU: EACH(n, dx[i] = dy[i] * silu_slope(x[i], 1.0f)); break;
    case CN_ACT_GELU: EACH(n, dx[i] = dy[i] * gelu_slope(x[i])); break;
    case CN_ACT_QUICK_GELU: EACH(n, dx[i] = dy[i] * silu_slope(x[i], 1.702f)); break;
    case CN_ACT_RELU: EACH(n, dx[i] = x[i] > 0 ? dy[i] : 0); break;
    }
}

void CN_K(geglu)(const float *x, float *y, int64_t rows, int64_t F)
{
#pragma omp parallel for schedule(static) if (rows * F > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++) {
        const float *a = x + r * 2 * F, *b = a + F;
        float *o = y + r * F;
#pragma omp simd
        for (int64_t i = 0; i < F; i++) o[i] = a[i] * gelu(b[i]);
    }
}

void CN_K(geglu_dx)(const float *x, const float *dy, float *dx, int64_t rows, int64_t F)
{
#pragma omp parallel for schedule(static) if (rows * F > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++) {
        const float *a = x + r * 2 * F, *b = a + F, *d = dy + r * F;
        float *da = dx + r * 2 * F, *db = da + F;
#pragma omp simd
        for (int64_t i = 0; i < F; i++) {
            da[i] = d[i] * gelu(b[i]);
            db[i] = d[i] * a[i] * gelu_slope(b[i]);
        }
    }
}

void CN_K(add)(const float *a, const float *b, float *y, int64_t n)
{
    EACH(n, y[i] = a[i] + b[i]);
}

void CN_K(scale)(const float *x, float alpha, float *y, int64_t n)
{
    EACH(n, y[i] = x[i] * alpha);
}

void CN_K(fill)(float value, float *y, int64_t n)
{
    EACH(n, y[i] = value);
}

void CN_K(add_channel)(const float *x, const float *e, float *y, int64_t N, int64_t P, int64_t C)
{
#pragma omp parallel for schedule(static) if (N * P * C > PARALLEL_FROM)
    for (int64_t r = 0; r < N * P; r++) {
        const float *a = x + r * C, *b = e + r / P * C;
        float *o = y + r * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) o[c] = a[c] + b[c];
    }
}

/* y[n,c] = sum over p of x[n,p,c]. scratch: threads * C floats, used when N is less than the threads. */
void CN_K(sum_rows)(const float *x, float *y, int64_t N, int64_t P, int64_t C, float *scratch)
{
    int parts = cn_parts(N, omp_get_max_threads());
    int64_t step = (P + parts - 1) / parts;
    for (int64_t first = 0; first<N; first += parts> 1 ? 1 : N) {
        int64_t jobs = parts > 1 ? parts : N;
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < jobs; j++) {
            int64_t n = parts > 1 ? first : j, p0 = parts > 1 ? j * step : 0;
            int64_t p1 = parts > 1 ? CN_MIN(P, p0 + step) : P;
            float *sum = parts > 1 ? scratch + j * C : y + n * C;
            memset(sum, 0, (size_t)C * sizeof *sum);
            for (int64_t p = p0; p < p1; p++) {
                const float *a = x + (n * P + p) * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) sum[c] += a[c];
            }
        }
        if (parts == 1) continue;
        memcpy(y + first * C, scratch, (size_t)C * sizeof *y);
        for (int j = 1; j < parts; j++)
            for (int64_t c = 0; c < C; c++) y[first * C + c] += scratch[j * C + c];
    }
}

void CN_K(add_rows)(const float *x, const float *t, float *y, int64_t N, int64_t n)
{
    for (int64_t k = 0; k < N; k++) CN_K(add)(x + k * n, t, y + k * n, n);
}

void CN_K(sum_batch)(const float *x, float *y, int64_t N, int64_t n)
{
    memcpy(y, x, (size_t)n * sizeof *y);
    for (int64_t k = 1; k < N; k++) CN_K(add)(y, x + k * n, y, n);
}

void CN_K(copy_channels)(const float *x, int64_t x_stride, float *y, int64_t y_stride, int64_t C,
                         int64_t rows)
{
#pragma omp parallel for schedule(static) if (rows * C > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * y_stride, x + r * x_stride, (size_t)C * sizeof *y);
}

void CN_K(upsample)(const float *x, float *y, int64_t N, int64_t h, int64_t w, int64_t H, int64_t W,
                    int64_t C)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * H; r++) {
        const float *row = x + (r / H * h + r % H * h / H) * w * C;
        for (int64_t j = 0; j < W; j++)
            memcpy(y + (r * W + j) * C, row + j * w / W * C, (size_t)C * sizeof *y);
    }
}

void CN_K(upsample_dx)(const float *dy, float *dx, int64_t N, int64_t h, int64_t w, int64_t H,
                       int64_t W, int64_t C)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * h; r++) {
        int64_t n = r / h, i = r % h;
        float *row = dx + r * w * C;
        memset(row, 0, (size_t)(w * C) * sizeof *row);
        for (int64_t I = (i * H + h - 1) / h; I < H && I * h / H == i; I++)
            for (int64_t J = 0; J < W; J++) {
                const float *d = dy + ((n * H + I) * W + J) * C;
                float *o = row + J * w / W * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) o[c] += d[c];
            }
    }
}

void CN_K(adamw)(float *w, float *m, float *v, const float *grad, int64_t n, float grad_scale,
                 float lr, float beta1, float beta2, float eps, float decay, float correct1,
                 float correct2)
{
    float keep = 1.0f - lr * decay, step = lr / correct1, inv2 = 1.0f / correct2;
    EACH(n, float g = grad[i] * grad_scale; m[i] = beta1 * m[i] + (1.0f - beta1) * g;
         v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
         w[i] = w[i] * keep - step * m[i] / (__builtin_sqrtf(v[i] * inv2) + eps));
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
