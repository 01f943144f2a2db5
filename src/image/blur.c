/* SPDX-License-Identifier: Apache-2.0 */
/* blur.c - separable Gaussian blur: rows into a plane of sums, then columns of that plane.
 *
 * Bytes use integer weights that add up to 256, so the result doesn't depend on the order of the
 * sums. Floats are added along x from left to right, along y from the centre outwards in pairs,
 * with fused multiply-adds as OpenCV does on AVX2: what follows (thinning) compares neighbours for
 * >=.
 */
#include "image/blur.h"

#include <math.h>

enum { SIGMA_MAX = 64, TAPS_MAX = 8 * SIGMA_MAX + 3 };

/* Taps 0..2 * radius; symmetric. */
typedef struct kernel {
    int64_t radius;
    double k[TAPS_MAX];
} kernel;

static cn_status make_kernel(cn_ctx *ctx, double sigma, int64_t n, kernel *out)
{
    if (!(sigma >= 0.1 && sigma <= SIGMA_MAX) || n < 1 || n % 2 == 0 || n > TAPS_MAX)
        return cn_fail(ctx, CN_EINVAL, "blur: sigma %g and %lld taps, must be 0.1 to %d, 1 to %d",
                       sigma, (long long)n, SIGMA_MAX, TAPS_MAX);
    double sum = 0;
    out->radius = n / 2;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)(i - out->radius);
        out->k[i] = exp(-x * x / (2 * sigma * sigma));
        sum += out->k[i];
    }
    for (int64_t i = 0; i < n; i++) out->k[i] /= sum;
    return CN_OK;
}

/* As many taps as cv2 takes where none are said: span * sigma + 1, made odd. */
static int64_t usual_taps(double sigma, double span)
{
    return sigma <= SIGMA_MAX ? (int64_t)rint(span * sigma + 1) | 1 : 1;
}

/* Index -1 is 1, n is n - 2; repeated for kernels wider than the picture. */
static int64_t reflect(int64_t i, int64_t n)
{
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * n - 2 - i;
    return i;
}

/* Rounds to 1/256; each rounding error is carried to the next tap inwards, the centre takes the
 * rest. */
static void integer_weights(const kernel *k, int32_t *weights)
{
    double error = 0;
    int32_t rest = 256;
    for (int64_t i = 0; i < k->radius; i++) {
        double exact = 256 * k->k[i] + error;
        int32_t w = (int32_t)rint(exact);
        error = exact - w;
        weights[i] = weights[2 * k->radius - i] = w;
        rest -= 2 * w;
    }
    weights[k->radius] = rest;
}

/* --- rows at a time: whole rows are multiplied and added tap by tap, so that compilers can use
 * vectors  */

/* sum[i] = fma(k, a[i] + b[i], sum[i]), b NULL: fma(k, a[i], sum[i]). */
static inline __attribute__((always_inline)) void add_row_body(float *restrict sum, const float *a,
                                                               const float *b, float k, int64_t n)
{
    if (b)
        for (int64_t i = 0; i < n; i++) sum[i] = fmaf(k, a[i] + b[i], sum[i]);
    else
        for (int64_t i = 0; i < n; i++) sum[i] = fmaf(k, a[i], sum[i]);
}

static void add_row_any(float *sum, const float *a, const float *b, float k, int64_t n)
{
    add_row_body(sum, a, b, k, n);
}

typedef void (*add_row_fn)(float *sum, const float *a, const float *b, float k, int64_t n);

#ifdef __x86_64__
/* The same numbers; without the instruction a fused multiply-add is a call. */
__attribute__((target("avx2,fma"))) static void add_row_fma(float *sum, const float *a,
                                                            const float *b, float k, int64_t n)
{
    add_row_body(sum, a, b, k, n);
}

static add_row_fn choose_add_row(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? add_row_fma
                                                                           : add_row_any;
}
#else
static add_row_fn choose_add_row(void)
{
    return add_row_any;
}
#endif

/* kx along rows, ky along columns. */
static cn_status blur_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                         int64_t channels, const kernel *kx, const kernel *ky, uint8_t *out)
{
    int32_t wx[TAPS_MAX], wy[TAPS_MAX];
    integer_weights(kx, wx);
    integer_weights(ky, wy);
    const int64_t row = width * channels, margin = kx->radius * channels;
    int32_t *rows = cn_alloc0(ctx, (size_t)(row * height) * sizeof *rows);
    int32_t *sum = cn_alloc(ctx, (size_t)row * sizeof *sum);
    uint8_t *padded = cn_alloc(ctx, (size_t)(row + 2 * margin));
    cn_status s = rows && sum && padded ? CN_OK : CN_ENOMEM;
    for (int64_t y = 0; s == CN_OK && y < height; y++) {
        int32_t *restrict to = rows + y * row;
        for (int64_t x = 0; x < row + 2 * margin; x++)
            padded[x] =
                in[y * row + reflect(x / channels - kx->radius, width) * channels + x % channels];
        for (int64_t j = 0; j <= 2 * kx->radius; j++)
            for (int64_t x = 0; x < row; x++) to[x] += wx[j] * padded[x + j * channels];
    }
    for (int64_t y = 0; s == CN_OK && y < height; y++) {
        for (int64_t x = 0; x < row; x++) sum[x] = 1 << 15;
        for (int64_t j = 0; j <= 2 * ky->radius; j++) {
            const int32_t *from = rows + reflect(y + j - ky->radius, height) * row;
            for (int64_t x = 0; x < row; x++) sum[x] += wy[j] * from[x];
        }
        for (int64_t x = 0; x < row; x++)
            out[y * row + x] = (uint8_t)CN_MAX(0, CN_MIN(sum[x] >> 16, 255));
    }
    cn_free(rows);
    cn_free(sum);
    cn_free(padded);
    return s;
}

cn_status cn_gaussian_blur_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                              int64_t channels, double sigma, uint8_t *out)
{
    kernel k;
    CN_TRY(make_kernel(ctx, sigma, usual_taps(sigma, 6), &k));
    return blur_u8(ctx, in, width, height, channels, &k, &k, out);
}

cn_status cn_gaussian_blur_axis_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                                   int64_t channels, double sigma, int64_t taps, bool vertical,
                                   uint8_t *out)
{
    kernel along, across;
    CN_TRY(make_kernel(ctx, sigma, taps, &along));
    CN_TRY(make_kernel(ctx, sigma, 1, &across));
    return blur_u8(ctx, in, width, height, channels, vertical ? &across : &along,
                   vertical ? &along : &across, out);
}

cn_status cn_gaussian_blur_f32(cn_ctx *ctx, const float *in, int64_t width, int64_t height,
                               int64_t channels, double sigma, float *out)
{
    kernel k;
    CN_TRY(make_kernel(ctx, sigma, usual_taps(sigma, 8), &k));
    const add_row_fn add_row = choose_add_row();
    const int64_t row = width * channels, taps = 2 * k.radius + 1, margin = k.radius * channels;
    float *rows = cn_alloc0(ctx, (size_t)(row * height) * sizeof *rows);
    float *padded = cn_alloc(ctx, (size_t)(row + 2 * margin) * sizeof *padded);
    cn_status s = rows && padded ? CN_OK : CN_ENOMEM;
    for (int64_t y = 0; s == CN_OK && y < height; y++) {
        for (int64_t x = 0; x < row + 2 * margin; x++)
            padded[x] =
                in[y * row + reflect(x / channels - k.radius, width) * channels + x % channels];
        for (int64_t j = 0; j < taps; j++)
            add_row(rows + y * row, padded + j * channels, NULL, (float)k.k[j], row);
    }
    for (int64_t y = 0; s == CN_OK && y < height; y++) {
        float *to = out + y * row;
        for (int64_t x = 0; x < row; x++) to[x] = (float)k.k[k.radius] * rows[y * row + x];
        for (int64_t j = 1; j <= k.radius; j++)
            add_row(to, rows + reflect(y - j, height) * row, rows + reflect(y + j, height) * row,
                    (float)k.k[k.radius + j], row);
    }
    cn_free(rows);
    cn_free(padded);
    return s;
}
