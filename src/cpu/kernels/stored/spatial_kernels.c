/* SPDX-License-Identifier: Apache-2.0 */
/* spatial_kernels.c - pooling, bilinear resizing and padding between picture sizes. Bound by
 * memory. */
#include "cpu/kernels/stored/stored.h"

#include <math.h>
#include <string.h>

enum { PART = 256 }; /* channels summed at once */

/* Where the window of output index i lies: [*a, *e), inside [0,n). */
static void window(int64_t i, int stride, int before, int kernel, int64_t n, int64_t *a, int64_t *e)
{
    int64_t first = i * stride - before;
    *a = CN_MAX(first, 0);
    *e = CN_MIN(first + kernel, n);
}

void CN_S(max_pool)(const cn_window *k, const void *in, void *out)
{
    const act_t *x = in;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < k->N * k->H; r++) {
        int64_t i0, i1, j0, j1, C = k->C;
        window(r % k->H, k->stride, k->top, k->kernel, k->h, &i0, &i1);
        for (int64_t j = 0; j < k->W; j++) {
            act_t *y = (act_t *)out + (r * k->W + j) * C;
            window(j, k->stride, k->left, k->kernel, k->w, &j0, &j1);
            const act_t *image = x + r / k->H * k->h * k->w * C;
            memcpy(y, image + (i0 * k->w + j0) * C, (size_t)C * sizeof *y);
            for (int64_t p = 1; p < (i1 - i0) * (j1 - j0); p++) {
                const act_t *v = image + ((i0 + p / (j1 - j0)) * k->w + j0 + p % (j1 - j0)) * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) y[c] = ld(v[c]) > ld(y[c]) ? v[c] : y[c];
            }
        }
    }
}

void CN_S(mean_pool)(const cn_window *k, const void *in, void *out)
{
    const act_t *x = in;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < k->N * k->H * k->W; r++) {
        const int64_t n = r / (k->H * k->W), i = r / k->W % k->H, j = r % k->W;
        const int64_t i0 = i * k->h / k->H, i1 = ((i + 1) * k->h + k->H - 1) / k->H;
        const int64_t j0 = j * k->w / k->W, j1 = ((j + 1) * k->w + k->W - 1) / k->W;
        const float share = 1.0f / (float)((i1 - i0) * (j1 - j0));
        for (int64_t c0 = 0; c0 < k->C; c0 += PART) {
            const int64_t m = CN_MIN((int64_t)PART, k->C - c0);
            float sum[PART] = {0};
            for (int64_t p = 0; p < (i1 - i0) * (j1 - j0); p++) {
                const int64_t I = i0 + p / (j1 - j0), J = j0 + p % (j1 - j0);
                const act_t *v = x + ((n * k->h + I) * k->w + J) * k->C + c0;
#pragma omp simd
                for (int64_t c = 0; c < m; c++) sum[c] += ld(v[c]);
            }
            act_t *y = (act_t *)out + r * k->C + c0;
            for (int64_t c = 0; c < m; c++) y[c] = st(sum[c] * share);
        }
    }
}

/* The two source indices of output i and the second one's weight, in float as torch computes
 * them. */
static inline float taps(int64_t i, int64_t n, int64_t N, bool corners, int64_t *a, int64_t *b)
{
    float at;
    if (corners) {
        at = N > 1 ? (float)(n - 1) / (float)(N - 1) * (float)i : 0;
    } else {
        at = (float)n / (float)N * ((float)i + 0.5f) - 0.5f;
        at = at > 0 ? at : 0;
    }
    *a = CN_MIN((int64_t)at, n - 1);
    *b = CN_MIN(*a + 1, n - 1);
    float t = at - (float)*a;
    return t < 1 ? t : 1;
}

void CN_S(resize)(const cn_window *k, bool align_corners, const void *in, void *out)
{
    const int64_t C = k->C;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < k->N * k->H; r++) {
        int64_t i0, i1, j0, j1;
        const float v = taps(r % k->H, k->h, k->H, align_corners, &i0, &i1);
        const act_t *image = (const act_t *)in + r / k->H * k->h * k->w * C;
        const act_t *top = image + i0 * k->w * C, *bottom = image + i1 * k->w * C;
        for (int64_t j = 0; j < k->W; j++) {
            const float u = taps(j, k->w, k->W, align_corners, &j0, &j1);
            const act_t *a = top + j0 * C, *b = top + j1 * C;
            const act_t *d = bottom + j0 * C, *e = bottom + j1 * C;
            act_t *y = (act_t *)out + (r * k->W + j) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++)
                y[c] = st((1 - v) * ((1 - u) * ld(a[c]) + u * ld(b[c])) +
                          v * ((1 - u) * ld(d[c]) + u * ld(e[c])));
        }
    }
}

static int64_t mirrored(int64_t i, int64_t n)
{
    if (i < 0) i = -i;
    return i < n ? i : 2 * (n - 1) - i;
}

void CN_S(pad)(const cn_window *k, bool reflect, const void *in, void *out)
{
    const int64_t C = k->C;
    const size_t pixel = (size_t)C * sizeof(act_t);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < k->N * k->H; r++) {
        int64_t i = r % k->H - k->top;
        act_t *y = (act_t *)out + r * k->W * C;
        if (reflect) i = mirrored(i, k->h);
        if (i < 0 || i >= k->h) {
            memset(y, 0, (size_t)k->W * pixel);
            continue;
        }
        const act_t *row = (const act_t *)in + (r / k->H * k->h + i) * k->w * C;
        const int64_t a = CN_MAX((int64_t)k->left, 0), e = CN_MIN(k->left + k->w, k->W);
        if (e > a) memcpy(y + a * C, row + (a - k->left) * C, (size_t)(e - a) * pixel);
        for (int64_t j = 0; j < k->W; j++) {
            if (j >= a && j < e) continue;
            if (reflect)
                memcpy(y + j * C, row + mirrored(j - k->left, k->w) * C, pixel);
            else
                memset(y + j * C, 0, pixel);
        }
    }
}
