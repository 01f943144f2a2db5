/* SPDX-License-Identifier: Apache-2.0 */
/* inpaint.c - see inpaint.h. */
#include "image/inpaint.h"

#include "image/blur.h"

#include <math.h>
#include <string.h>

cn_status cn_mask_soften(cn_ctx *ctx, uint8_t *mask, int64_t width, int64_t height, int blur)
{
    if (blur == 0) return CN_OK;
    const int64_t taps = 2 * (int64_t)(2.5 * blur + 0.5) + 1;
    uint8_t *half = cn_alloc_array(ctx, (size_t)width, (size_t)height);
    if (!half) return CN_ENOMEM;
    cn_status s = cn_gaussian_blur_axis_u8(ctx, mask, width, height, 1, blur, taps, false, half);
    if (s == CN_OK)
        s = cn_gaussian_blur_axis_u8(ctx, half, width, height, 1, blur, taps, true, mask);
    cn_free(half);
    return s;
}

/* --- only masked ------------------------------------------------------------------------------ */

/* Makes begin..end as long as `wanted`, moved back inside 0..limit where it leaves it. */
static void widen(int64_t *begin, int64_t *end, double wanted, int64_t limit)
{
    const int64_t more = (int64_t)(wanted - (double)(*end - *begin));
    *begin -= more / 2;
    *end += more - more / 2;
    if (*end >= limit) {
        *begin -= *end - limit;
        *end = limit;
    }
    if (*begin < 0) {
        *end -= *begin;
        *begin = 0;
    }
    *end = CN_MIN(*end, limit);
}

bool cn_mask_area(const uint8_t *mask, int64_t width, int64_t height, int64_t padding,
                  int64_t draw_w, int64_t draw_h, cn_area *out)
{
    int64_t x1 = width, y1 = height, x2 = 0, y2 = 0;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            if (mask[y * width + x]) {
                x1 = CN_MIN(x1, x);
                x2 = CN_MAX(x2, x + 1);
                y1 = CN_MIN(y1, y);
                y2 = y + 1;
            }
    if (x2 == 0) return false;
    x1 = CN_MAX(0, x1 - padding);
    y1 = CN_MAX(0, y1 - padding);
    x2 = CN_MIN(width, x2 + padding);
    y2 = CN_MIN(height, y2 + padding);
    const double ratio = (double)draw_w / (double)draw_h;
    if ((double)(x2 - x1) / (double)(y2 - y1) > ratio)
        widen(&y1, &y2, (double)(x2 - x1) / ratio, height);
    else
        widen(&x1, &x2, (double)(y2 - y1) * ratio, width);
    *out = (cn_area){x1, y1, x2 - x1, y2 - y1};
    return true;
}

/* --- latents: Pillow's BICUBIC, which smooths where it shrinks -------------------------------- */

enum { WEIGHT_BITS = 22 };

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* One line of n values, `stride` apart, to n / factor values in `out`, `out_stride` apart. */
static void shrink_line(const uint8_t *in, int64_t n, int64_t stride, int64_t factor, double *w,
                        uint8_t *out, int64_t out_stride)
{
    for (int64_t i = 0; i < n / factor; i++) {
        const double scale = (double)n / (double)(n / factor), center = ((double)i + 0.5) * scale;
        const int64_t first = (int64_t)CN_MAX(0, center - 2 * scale + 0.5);
        const int64_t last = CN_MIN(n, (int64_t)(center + 2 * scale + 0.5));
        double sum = 0;
        int64_t value = INT64_C(1) << (WEIGHT_BITS - 1);
        for (int64_t k = first; k < last; k++)
            sum += w[k - first] = bicubic(((double)k - center + 0.5) / scale);
        for (int64_t k = first; k < last; k++)
            value += llrint(ldexp(w[k - first] / sum, WEIGHT_BITS)) * in[k * stride];
        out[i * out_stride] = (uint8_t)CN_MAX(0, CN_MIN(value >> WEIGHT_BITS, 255));
    }
}

cn_status cn_mask_latents(cn_ctx *ctx, const uint8_t *mask, int64_t width, int64_t height,
                          int64_t factor, float *out)
{
    const int64_t w = width / factor, h = height / factor;
    uint8_t *rows = cn_alloc_array(ctx, (size_t)w, (size_t)height);
    uint8_t *small = cn_alloc_array(ctx, (size_t)w, (size_t)h);
    double *weights = cn_alloc_array(ctx, (size_t)(5 * factor + 4), sizeof *weights);
    const cn_status s = rows && small && weights ? CN_OK : CN_ENOMEM;
    for (int64_t y = 0; s == CN_OK && y < height; y++)
        shrink_line(mask + y * width, width, 1, factor, weights, rows + y * w, 1);
    for (int64_t x = 0; s == CN_OK && x < w; x++)
        shrink_line(rows + x, height, w, factor, weights, small + x, w);
    for (int64_t i = 0; s == CN_OK && i < w * h; i++) out[i] = small[i] > 127;
    cn_free(rows);
    cn_free(small);
    cn_free(weights);
    return s;
}

/* --- Pillow's arithmetic with alpha ----------------------------------------------------------- */

/* a / 255, rounded, for a up to 255 * 255. */
static uint8_t div255(uint32_t a)
{
    a += 128;
    return (uint8_t)((a + (a >> 8)) >> 8);
}

/* The colour that, times alpha, is c. */
static uint8_t unmultiply(uint8_t c, uint8_t alpha)
{
    if (alpha == 0 || alpha == 255) return c;
    return (uint8_t)CN_MIN(255, 255 * c / alpha);
}

/* RGBA src over RGBA dst, in place. */
static void composite(uint8_t *dst, const uint8_t *src)
{
    enum { BITS = 7 };
    if (src[3] == 0) return;
    const uint32_t below = dst[3] * (255u - src[3]), alpha = src[3] * 255u + below;
    const uint32_t by_src = src[3] * 255u * 255u * (1u << BITS) / alpha;
    const uint32_t by_dst = 255u * (1u << BITS) - by_src;
    for (int c = 0; c < 3; c++) {
        const uint32_t v = src[c] * by_src + dst[c] * by_dst + (0x80u << BITS);
        dst[c] = (uint8_t)((((v >> 8) + v) >> 8) >> BITS);
    }
    dst[3] = div255(alpha);
}

/* The picture's RGB times what the mask leaves of it, that beside them as alpha. */
static void keep_outside(const uint8_t *rgb, uint8_t mask, uint8_t *out)
{
    const uint8_t kept = 255 - mask;
    for (int c = 0; c < 3; c++) out[c] = div255((uint32_t)rgb[c] * kept);
    out[3] = kept;
}

void cn_inpaint_overlay(cn_image *drawn, const cn_image *original, const uint8_t *mask)
{
    const int64_t n = drawn->width * drawn->height;
    for (int64_t i = 0; i < n; i++) {
        uint8_t over[4], px[4];
        keep_outside(original->rgb + 3 * i, mask[i], over);
        for (int c = 0; c < 3; c++) over[c] = unmultiply(over[c], over[3]);
        memcpy(px, drawn->rgb + 3 * i, 3);
        px[3] = 255;
        composite(px, over);
        memcpy(drawn->rgb + 3 * i, px, 3);
    }
}

/* --- filling ---------------------------------------------------------------------------------- */

enum { BOX_PASSES = 3, BOX_BITS = 24 };

/* The radius of the box that, applied BOX_PASSES times, blurs as a Gaussian does (Gwosdek et al.,
 * "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering"). */
static float box_radius(float deviation)
{
    const float square = deviation * deviation / BOX_PASSES;
    const float length = (float)sqrt(12.0 * (double)square + 1.0);
    const float whole = (float)floor(((double)length - 1.0) / 2.0);
    float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * square);
    part /= 6 * (square - (whole + 1) * (whole + 1));
    return whole + part;
}

/* A line of n RGBA pixels, `step` bytes apart: each the mean of those within the radius, the two
 * beyond it by the radius' fraction; the line goes on with its first and last pixel. */
static void box_line(const uint8_t *in, uint8_t *out, int64_t n, float radius)
{
    const int64_t r = (int64_t)radius, last = n - 1;
    const uint32_t inner = (uint32_t)((float)(1 << BOX_BITS) / (radius * 2 + 1));
    const uint32_t outer = ((1u << BOX_BITS) - (uint32_t)(2 * r + 1) * inner) / 2;
    for (int c = 0; c < 4; c++) {
        uint32_t sum = 0;
#define AT(i) in[4 * CN_MAX(0, CN_MIN((i), last)) + c]
        for (int64_t k = -r - 1; k < r; k++) sum += AT(k);
        for (int64_t x = 0; x < n; x++) {
            sum += (uint32_t)AT(x + r) - AT(x - r - 1);
            const uint32_t far = (uint32_t)AT(x - r - 1) + AT(x + r + 1);
            out[4 * x + c] =
                (uint8_t)((sum * inner + far * outer + (1u << (BOX_BITS - 1))) >> BOX_BITS);
        }
#undef AT
    }
}

/* The line at `px` (pixels `step` bytes apart) through all passes; a, b: room for it. */
static void blur_line(uint8_t *px, int64_t n, int64_t step, float radius, uint8_t *a, uint8_t *b)
{
    for (int64_t i = 0; i < n; i++) memcpy(a + 4 * i, px + i * step, 4);
    for (int pass = 0; pass < BOX_PASSES; pass++) {
        box_line(a, b, n, radius);
        uint8_t *swap = a;
        a = b;
        b = swap;
    }
    for (int64_t i = 0; i < n; i++) memcpy(px + i * step, a + 4 * i, 4);
}

static void blur_rgba(uint8_t *px, int64_t w, int64_t h, float deviation, uint8_t *a, uint8_t *b)
{
    const float radius = box_radius(deviation);
    for (int64_t y = 0; y < h; y++) blur_line(px + 4 * y * w, w, 4, radius, a, b);
    for (int64_t x = 0; x < w; x++) blur_line(px + 4 * x, h, 4 * w, radius, a, b);
}

cn_status cn_inpaint_fill(cn_ctx *ctx, cn_image *image, const uint8_t *mask)
{
    static const struct {
        float deviation;
        int times;
    } layers[] = {{256, 1}, {64, 1}, {16, 2}, {4, 4}, {2, 2}, {0, 1}};
    const int64_t w = image->width, h = image->height, n = w * h;
    uint8_t *kept = cn_alloc_array(ctx, (size_t)n, 4), *layer = cn_alloc_array(ctx, (size_t)n, 4);
    uint8_t *out = cn_alloc0(ctx, (size_t)n * 4);
    uint8_t *lines = cn_alloc_array(ctx, (size_t)CN_MAX(w, h), 8);
    const cn_status s = kept && layer && out && lines ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < n; i++)
        keep_outside(image->rgb + 3 * i, mask[i], kept + 4 * i);
    for (size_t k = 0; s == CN_OK && k < CN_COUNT(layers); k++) {
        memcpy(layer, kept, (size_t)n * 4);
        if (layers[k].deviation > 0)
            blur_rgba(layer, w, h, layers[k].deviation, lines, lines + 4 * CN_MAX(w, h));
        for (int64_t i = 0; i < n; i++) {
            uint8_t *p = layer + 4 * i;
            for (int c = 0; c < 3; c++) p[c] = unmultiply(p[c], p[3]);
            for (int t = 0; t < layers[k].times; t++) composite(out + 4 * i, p);
        }
    }
    for (int64_t i = 0; s == CN_OK && i < n; i++) memcpy(image->rgb + 3 * i, out + 4 * i, 3);
    cn_free(kept);
    cn_free(layer);
    cn_free(out);
    cn_free(lines);
    return s;
}
