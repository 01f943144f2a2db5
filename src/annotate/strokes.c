/* SPDX-License-Identifier: Apache-2.0 */
/* strokes.c - thinning by non-maximum suppression, then a blur and a threshold that give the lines
 * width. */
#include "annotate/strokes.h"

#include "image/blur.h"

#include <math.h>
#include <string.h>

static float inside_or_least(const float *b, int64_t width, int64_t height, int64_t x, int64_t y)
{
    return x < 0 || y < 0 || x >= width || y >= height ? -INFINITY : b[y * width + x];
}

static bool is_maximum(const float *b, int64_t width, int64_t height, int64_t x, int64_t y)
{
    static const int directions[4][2] = {{1, 0}, {0, 1}, {1, 1}, {1, -1}};
    float here = b[y * width + x];
    for (int i = 0; i < 4; i++) {
        int64_t dx = directions[i][0], dy = directions[i][1];
        if (here >= inside_or_least(b, width, height, x + dx, y + dy) &&
            here >= inside_or_least(b, width, height, x - dx, y - dy))
            return true;
    }
    return false;
}

/* Ridges of the blurred map where it is above the threshold, or, with `own`, the line itself is. */
static cn_status ridges(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                        double threshold, double sigma, bool own, uint8_t *out)
{
    size_t n = (size_t)(width * height);
    float *map = cn_alloc(ctx, n * sizeof *map), *blurred = cn_alloc(ctx, n * sizeof *map);
    cn_status s = map && blurred ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) map[i] = in[i];
    if (s == CN_OK) s = cn_gaussian_blur_f32(ctx, map, width, height, 1, sigma, blurred);
    for (int64_t y = 0; s == CN_OK && y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            int64_t i = y * width + x;
            bool strong = (double)blurred[i] > threshold || (own && in[i] > threshold);
            out[i] = strong && is_maximum(blurred, width, height, x, y) ? 255 : 0;
        }
    cn_free(map);
    cn_free(blurred);
    return s;
}

cn_status cn_edge_nms(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                      double threshold, double sigma, uint8_t *out)
{
    return ridges(ctx, in, width, height, threshold, sigma, false, out);
}

cn_status cn_edge_thin(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                       double threshold, double sigma, uint8_t *out)
{
    return ridges(ctx, in, width, height, threshold, sigma, true, out);
}

cn_status cn_strokes(cn_ctx *ctx, const cn_image *edges, const cn_stroke_rules *rules,
                     cn_image **out)
{
    int64_t w = edges->width, h = edges->height;
    size_t n = (size_t)(w * h);
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, w, h, &image));
    uint8_t *map = cn_alloc(ctx, n), *thin = cn_alloc(ctx, n);
    cn_status s = map && thin ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) map[i] = edges->rgb[3 * i];
    if (s == CN_OK) s = cn_edge_nms(ctx, map, w, h, rules->nms_threshold, rules->nms_sigma, thin);
    if (s == CN_OK) s = cn_gaussian_blur_u8(ctx, thin, w, h, 1, rules->blur_sigma, map);
    if (s == CN_OK) {
        for (size_t i = 0; i < n; i++)
            memset(image->rgb + 3 * i, (double)map[i] > rules->level ? 255 : 0, 3);
        *out = image;
    } else {
        cn_image_destroy(image);
    }
    cn_free(map);
    cn_free(thin);
    return s;
}

float cn_safe_step(float x)
{
    return truncf(x * 3.0f) / 2.0f;
}
