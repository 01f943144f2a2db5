/* blur.c - separable Gaussian blur: rows into a plane of sums, then columns of that plane.
 *
 * Bytes use integer weights that add up to 256, so the result doesn't depend on the order of the sums.
 * Floats are added along x from left to right, along y from the centre outwards in pairs, with fused
 * multiply-adds as OpenCV does on AVX2: what follows (thinning) compares neighbours for >=.
 */
#include "annotate/blur.h"

#include <math.h>

enum { SIGMA_MAX = 64, TAPS_MAX = 8 * SIGMA_MAX + 3 };

/* Taps 0..2 * radius; symmetric. */
typedef struct kernel {
    int64_t radius;
    double k[TAPS_MAX];
} kernel;

static cn_status make_kernel(cn_ctx *ctx, double sigma, double span, kernel *out)
{
    if (!(sigma >= 0.1 && sigma <= SIGMA_MAX))
        return cn_fail(ctx, CN_EINVAL, "blur: sigma %g, must be 0.1 to %d", sigma, SIGMA_MAX);
    int64_t n = (int64_t)rint(span * sigma + 1) | 1;
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

/* Index -1 is 1, n is n - 2; repeated for kernels wider than the picture. */
static int64_t reflect(int64_t i, int64_t n)
{
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * n - 2 - i;
    return i;
}

/* Rounds to 1/256; each rounding error is carried to the next tap inwards, the centre takes the rest. */
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

cn_status cn_gaussian_blur_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                              int64_t channels, double sigma, uint8_t *out)
{
    kernel k;
    int32_t w[TAPS_MAX];
    CN_TRY(make_kernel(ctx, sigma, 6, &k));
    integer_weights(&k, w);
    const int64_t row = width * channels, taps = 2 * k.radius + 1;
    int32_t *rows = cn_alloc(ctx, (size_t)(row * height) * sizeof *rows);
    if (!rows) return CN_ENOMEM;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < row; x++) {
            int32_t sum = 0;
            for (int64_t j = 0; j < taps; j++) {
                int64_t at = reflect(x / channels + j - k.radius, width);
                sum += w[j] * in[y * row + at * channels + x % channels];
            }
            rows[y * row + x] = sum;
        }
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < row; x++) {
            int32_t sum = 0;
            for (int64_t j = 0; j < taps; j++)
                sum += w[j] * rows[reflect(y + j - k.radius, height) * row + x];
            sum = (sum + (1 << 15)) >> 16;
            out[y * row + x] = (uint8_t)CN_MAX(0, CN_MIN(sum, 255));
        }
    cn_free(rows);
    return CN_OK;
}

cn_status cn_gaussian_blur_f32(cn_ctx *ctx, const float *in, int64_t width, int64_t height,
                               int64_t channels, double sigma, float *out)
{
    kernel k;
    CN_TRY(make_kernel(ctx, sigma, 8, &k));
    const int64_t row = width * channels, taps = 2 * k.radius + 1;
    float *rows = cn_alloc(ctx, (size_t)(row * height) * sizeof *rows);
    if (!rows) return CN_ENOMEM;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < row; x++) {
            float sum = 0;
            for (int64_t j = 0; j < taps; j++) {
                int64_t at = reflect(x / channels + j - k.radius, width);
                sum = fmaf((float)k.k[j], in[y * row + at * channels + x % channels], sum);
            }
            rows[y * row + x] = sum;
        }
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < row; x++) {
            float sum = (float)k.k[k.radius] * rows[y * row + x];
            for (int64_t j = 1; j <= k.radius; j++)
                sum = fmaf(
                    (float)k.k[k.radius + j],
                    rows[reflect(y - j, height) * row + x] + rows[reflect(y + j, height) * row + x],
                    sum);
            out[y * row + x] = sum;
        }
    cn_free(rows);
    return CN_OK;
}
