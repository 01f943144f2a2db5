/* SPDX-License-Identifier: Apache-2.0 */
/* loss_kernels.c - mean errors, KL divergence, reparametrisation. Sums in double, blocks in fixed
 * order. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/math.h"

enum { BLOCK = 4096 };

/* 2 (sqrt(d^2 + c^2) - c), without the difference's cancellation. */
static inline float huber(float d, float c)
{
    return 2 * d * d / (__builtin_sqrtf(d * d + c * c) + c);
}

static float block_loss(cn_loss kind, float c, const float *a, const float *b, int64_t n)
{
    float s = 0;
    switch (kind) {
    case CN_LOSS_MSE:
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < n; i++) s += (a[i] - b[i]) * (a[i] - b[i]);
        break;
    case CN_LOSS_L1:
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < n; i++) s += __builtin_fabsf(a[i] - b[i]);
        break;
    case CN_LOSS_HUBER:
    case CN_LOSS_SMOOTH_L1:
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < n; i++) s += huber(a[i] - b[i], c);
        if (kind == CN_LOSS_HUBER) s *= c;
    }
    return s;
}

double CN_K(loss)(cn_loss kind, float c, const float *a, const float *b, int64_t n)
{
    double total = 0;
    for (int64_t k = 0; k < n; k += BLOCK)
        total += (double)block_loss(kind, c, a + k, b + k, CN_MIN(BLOCK, n - k));
    return total / (double)n;
}

void CN_K(loss_dx)(cn_loss kind, float c, const float *a, const float *b, float dy, float *dx,
                   int64_t n)
{
    float k = dy / (float)n;
    switch (kind) {
    case CN_LOSS_MSE:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = 2.0f * k * (a[i] - b[i]);
        break;
    case CN_LOSS_L1:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = a[i] > b[i] ? k : a[i] < b[i] ? -k : 0.0f;
        break;
    case CN_LOSS_HUBER:
    case CN_LOSS_SMOOTH_L1: k *= kind == CN_LOSS_HUBER ? 2 * c : 2;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float d = a[i] - b[i];
            dx[i] = k * d / __builtin_sqrtf(d * d + c * c);
        }
    }
}

static inline float held(float logvar)
{
    return logvar < -30 ? -30 : logvar > 20 ? 20 : logvar;
}

double CN_K(kl)(const float *moments, int64_t rows, int64_t C)
{
    double total = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float *mean = moments + r * 2 * C, *logvar = mean + C;
        float s = 0;
        for (int64_t c = 0; c < C; c++)
            s += mean[c] * mean[c] + fast_exp(held(logvar[c])) - 1.0f - held(logvar[c]);
        total += 0.5 * (double)s;
    }
    return total;
}

void CN_K(kl_dx)(const float *moments, float dy, float *dx, int64_t rows, int64_t C)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c++) {
            int64_t i = r * 2 * C + c, j = i + C;
            float lv = moments[j];
            dx[i] = dy * moments[i];
            dx[j] = lv > -30 && lv < 20 ? 0.5f * dy * (fast_exp(lv) - 1.0f) : 0.0f;
        }
}

void CN_K(gauss)(const float *moments, const float *noise, float *z, int64_t rows, int64_t C)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c++)
            z[r * C + c] = moments[r * 2 * C + c] +
                           fast_exp(0.5f * held(moments[r * 2 * C + C + c])) * noise[r * C + c];
}

void CN_K(gauss_dx)(const float *moments, const float *noise, const float *dz, float *dx,
                    int64_t rows, int64_t C)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c++) {
            int64_t i = r * 2 * C + c, j = i + C, k = r * C + c;
            float lv = moments[j];
            dx[i] = dz[k];
            dx[j] = lv > -30 && lv < 20 ? 0.5f * fast_exp(0.5f * lv) * noise[k] * dz[k] : 0.0f;
        }
}
