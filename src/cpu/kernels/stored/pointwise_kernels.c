/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise_kernels.c - element-wise kernels, channel sums, copies, up-sampling. Bound by
 * memory. */
#include "cpu/kernels/math.h"
#include "cpu/kernels/stored/stored.h"

#include <omp.h>
#include <string.h>

enum { BLOCK = 4096, PARALLEL_FROM = 32768, SLICE = 256 };

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

void CN_S(act)(cn_act act, float alpha, const void *in, void *out, int64_t n)
{
    const act_t *x = in;
    act_t *y = out;
    switch (act) {
    case CN_ACT_NONE: EACH(n, y[i] = x[i]); break;
    case CN_ACT_SILU: EACH(n, float v = ld(x[i]); y[i] = st(v * fast_sigmoid(v))); break;
    case CN_ACT_GELU: EACH(n, y[i] = st(gelu(ld(x[i])))); break;
    case CN_ACT_QUICK_GELU:
        EACH(n, float v = ld(x[i]); y[i] = st(v * fast_sigmoid(1.702f * v)));
        break;
    case CN_ACT_RELU: EACH(n, float v = ld(x[i]); y[i] = st(v > 0 ? v : 0)); break;
    case CN_ACT_RELU6:
        EACH(n, float v = ld(x[i]); v = v > 0 ? v : 0; y[i] = st(v < 6 ? v : 6));
        break;
    case CN_ACT_LEAKY_RELU: EACH(n, float v = ld(x[i]); y[i] = st(v > 0 ? v : alpha * v)); break;
    case CN_ACT_SIGMOID: EACH(n, y[i] = st(fast_sigmoid(ld(x[i])))); break;
    case CN_ACT_TANH: EACH(n, y[i] = st(fast_tanh(ld(x[i])))); break;
    }
}

static inline float silu_slope(float x, float k)
{
    float s = fast_sigmoid(k * x);
    return s * (1.0f + k * x * (1.0f - s));
}

void CN_S(act_dx)(cn_act act, float alpha, const void *in, const void *gradient, void *out,
                  int64_t n)
{
    const act_t *x = in, *dy = gradient;
    act_t *dx = out;
    switch (act) {
    case CN_ACT_NONE: EACH(n, dx[i] = dy[i]); break;
    case CN_ACT_SILU: EACH(n, dx[i] = st(ld(dy[i]) * silu_slope(ld(x[i]), 1.0f))); break;
    case CN_ACT_GELU: EACH(n, dx[i] = st(ld(dy[i]) * gelu_slope(ld(x[i])))); break;
    case CN_ACT_QUICK_GELU: EACH(n, dx[i] = st(ld(dy[i]) * silu_slope(ld(x[i]), 1.702f))); break;
    case CN_ACT_RELU: EACH(n, dx[i] = st(ld(x[i]) > 0 ? ld(dy[i]) : 0)); break;
    case CN_ACT_RELU6:
        EACH(n, float v = ld(x[i]); float d = v > 0 ? ld(dy[i]) : 0; dx[i] = st(v < 6 ? d : 0));
        break;
    case CN_ACT_LEAKY_RELU:
        EACH(n, float d = ld(dy[i]); dx[i] = st(ld(x[i]) > 0 ? d : alpha * d));
        break;
    case CN_ACT_SIGMOID:
        EACH(n, float s = fast_sigmoid(ld(x[i])); dx[i] = st(ld(dy[i]) * s * (1.0f - s)));
        break;
    case CN_ACT_TANH:
        EACH(n, float t = fast_tanh(ld(x[i])); dx[i] = st(ld(dy[i]) * (1.0f - t * t)));
        break;
    }
}

void CN_S(geglu)(const void *in, void *out, int64_t rows, int64_t F)
{
    const act_t *x = in;
    act_t *y = out;
#pragma omp parallel for schedule(static) if (rows * F > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++) {
        const act_t *a = x + r * 2 * F, *b = a + F;
        act_t *o = y + r * F;
#pragma omp simd
        for (int64_t i = 0; i < F; i++) o[i] = st(ld(a[i]) * gelu(ld(b[i])));
    }
}

void CN_S(geglu_dx)(const void *in, const void *gradient, void *out, int64_t rows, int64_t F)
{
    const act_t *x = in, *dy = gradient;
    act_t *dx = out;
#pragma omp parallel for schedule(static) if (rows * F > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++) {
        const act_t *a = x + r * 2 * F, *b = a + F, *d = dy + r * F;
        act_t *da = dx + r * 2 * F, *db = da + F;
#pragma omp simd
        for (int64_t i = 0; i < F; i++) {
            float g = ld(d[i]), gate = ld(b[i]);
            da[i] = st(g * gelu(gate));
            db[i] = st(g * ld(a[i]) * gelu_slope(gate));
        }
    }
}

void CN_S(add)(const void *left, const void *right, void *out, int64_t n)
{
    const act_t *a = left, *b = right;
    act_t *y = out;
    EACH(n, y[i] = st(ld(a[i]) + ld(b[i])));
}

void CN_S(scale)(const void *in, float alpha, void *out, int64_t n)
{
    const act_t *x = in;
    act_t *y = out;
    EACH(n, y[i] = st(ld(x[i]) * alpha));
}

void CN_S(fill)(float value, void *out, int64_t n)
{
    act_t *y = out;
    EACH(n, y[i] = st(value));
}

void CN_S(gate)(const void *in, const void *each, void *out, int64_t rows, int64_t C)
{
    const act_t *x = in, *m = each;
    act_t *y = out;
#pragma omp parallel for schedule(static) if (rows * C > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++) {
        const float factor = ld(m[r]);
        if (factor == 0) { /* x may be what nobody wrote */
            memset(y + r * C, 0, (size_t)C * sizeof *y);
            continue;
        }
#pragma omp simd
        for (int64_t c = 0; c < C; c++) y[r * C + c] = st(ld(x[r * C + c]) * factor);
    }
}

void CN_S(add_channel)(const void *in, const void *each, void *out, int64_t N, int64_t P, int64_t C)
{
    const act_t *x = in, *e = each;
    act_t *y = out;
#pragma omp parallel for schedule(static) if (N * P * C > PARALLEL_FROM)
    for (int64_t r = 0; r < N * P; r++) {
        const act_t *a = x + r * C, *b = e + r / P * C;
        act_t *o = y + r * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) o[c] = st(ld(a[c]) + ld(b[c]));
    }
}

/* y[n,c] = sum over p of x[n,p,c], in float. scratch: threads * C floats, used when N is less than
 * the threads. */
void CN_S(sum_rows)(const void *in, float *y, int64_t N, int64_t P, int64_t C, float *scratch)
{
    const act_t *x = in;
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
                const act_t *a = x + (n * P + p) * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) sum[c] += ld(a[c]);
            }
        }
        if (parts == 1) continue;
        memcpy(y + first * C, scratch, (size_t)C * sizeof *y);
        for (int j = 1; j < parts; j++)
            for (int64_t c = 0; c < C; c++) y[first * C + c] += scratch[j * C + c];
    }
}

void CN_S(add_rows)(const void *in, const void *t, void *out, int64_t N, int64_t n)
{
    const act_t *x = in;
    act_t *y = out;
    for (int64_t k = 0; k < N; k++) CN_S(add)(x + k * n, t, y + k * n, n);
}

void CN_S(sum_batch)(const void *in, void *out, int64_t N, int64_t n)
{
    const act_t *x = in;
    act_t *y = out;
    memcpy(y, x, (size_t)n * sizeof *y);
    for (int64_t k = 1; k < N; k++) CN_S(add)(y, x + k * n, y, n);
}

void CN_S(copy_channels)(const void *in, int64_t x_stride, void *out, int64_t y_stride, int64_t C,
                         int64_t rows)
{
    const act_t *x = in;
    act_t *y = out;
#pragma omp parallel for schedule(static) if (rows * C > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * y_stride, x + r * x_stride, (size_t)C * sizeof *y);
}

void CN_S(upsample)(const cn_window *s, const void *in, void *out)
{
    const int64_t N = s->N, h = s->h, w = s->w, H = s->H, W = s->W, C = s->C;
    const act_t *x = in;
    act_t *y = out;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * H; r++) {
        const act_t *row = x + (r / H * h + r % H * h / H) * w * C;
        for (int64_t j = 0; j < W; j++)
            memcpy(y + (r * W + j) * C, row + j * w / W * C, (size_t)C * sizeof *y);
    }
}

void CN_S(upsample_dx)(const cn_window *s, const void *gradient, void *out)
{
    const int64_t N = s->N, h = s->h, w = s->w, H = s->H, W = s->W, C = s->C;
    const act_t *dy = gradient;
    act_t *dx = out;
/* A position gathers from the rows and columns that came from it, so sums are made in float. */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * h * w; r++) {
        int64_t n = r / (h * w), i = r / w % h, j = r % w;
        int64_t I0 = (i * H + h - 1) / h, J0 = (j * W + w - 1) / w, I1 = I0, J1 = J0;
        while (I1 < H && I1 * h / H == i) I1++;
        while (J1 < W && J1 * w / W == j) J1++;
        act_t *o = dx + r * C;
        for (int64_t c0 = 0; c0 < C; c0 += SLICE) {
            int64_t m = CN_MIN((int64_t)SLICE, C - c0);
            float sum[SLICE] = {0};
            for (int64_t k = 0; k < (I1 - I0) * (J1 - J0); k++) {
                int64_t I = I0 + k / (J1 - J0), J = J0 + k % (J1 - J0);
                const act_t *d = dy + ((n * H + I) * W + J) * C + c0;
#pragma omp simd
                for (int64_t c = 0; c < m; c++) sum[c] += ld(d[c]);
            }
            for (int64_t c = 0; c < m; c++) o[c0 + c] = st(sum[c]);
        }
    }
}
