/* SPDX-License-Identifier: Apache-2.0 */
/* resize_pillow.c - bicubic resizing as Pillow computes it, which CLIP's image encoders were
 * trained on: a = -0.5, the filter as wide as the step between output pixels where that shrinks,
 * along x first, bytes between, weights of 22 bits behind the point. Source: Pillow's
 * src/libImaging/Resample.c.
 */
#include "image/resize.h"

#include <math.h>
#include <string.h>

enum { WEIGHT_BITS = 22 };

/* For each output position the first source position, how many, and their weights. */
typedef struct taps {
    int64_t *first, *count;
    int32_t *weight; /* [n][most] */
    int64_t most;
} taps;

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static void taps_free(taps *t)
{
    cn_free(t->first);
    cn_free(t->count);
    cn_free(t->weight);
}

static cn_status taps_init(cn_ctx *ctx, int64_t in, int64_t out, taps *t)
{
    const double scale = (double)in / (double)out, wide = fmax(scale, 1), support = 2 * wide;
    t->most = 2 * (int64_t)ceil(support) + 1;
    double *w = cn_alloc_array(ctx, (size_t)t->most, sizeof *w);
    t->first = cn_alloc_array(ctx, (size_t)out, sizeof *t->first);
    t->count = cn_alloc_array(ctx, (size_t)out, sizeof *t->count);
    t->weight = cn_alloc_array(ctx, (size_t)out * (size_t)t->most, sizeof *t->weight);
    const bool room = w && t->first && t->count && t->weight;
    for (int64_t i = 0; room && i < out; i++) {
        const double centre = ((double)i + 0.5) * scale;
        const int64_t begin = CN_MAX((int64_t)(centre - support + 0.5), 0);
        const int64_t n = CN_MIN((int64_t)(centre + support + 0.5), in) - begin;
        double sum = 0;
        for (int64_t k = 0; k < n; k++)
            sum += w[k] = cubic(((double)(k + begin) - centre + 0.5) / wide);
        for (int64_t k = 0; k < n; k++)
            t->weight[i * t->most + k] = (int32_t)round(w[k] / sum * (1 << WEIGHT_BITS));
        t->first[i] = begin;
        t->count[i] = n;
    }
    cn_free(w);
    return room ? CN_OK : CN_ENOMEM;
}

static uint8_t weigh(const uint8_t *at, int64_t step, const int32_t *weight, int64_t n)
{
    int64_t sum = (int64_t)1 << (WEIGHT_BITS - 1);
    for (int64_t k = 0; k < n; k++) sum += (int64_t)weight[k] * at[k * step];
    sum >>= WEIGHT_BITS;
    return (uint8_t)CN_MAX(0, CN_MIN(sum, 255));
}

static cn_status resize_x(cn_ctx *ctx, const cn_image *in, cn_image *out)
{
    taps t = {0};
    const cn_status s = taps_init(ctx, in->width, out->width, &t);
    for (int64_t y = 0; s == CN_OK && y < out->height; y++)
        for (int64_t x = 0; x < out->width; x++)
            for (int64_t c = 0; c < 3; c++)
                out->rgb[3 * (y * out->width + x) + c] =
                    weigh(in->rgb + 3 * (y * in->width + t.first[x]) + c, 3, t.weight + x * t.most,
                          t.count[x]);
    taps_free(&t);
    return s;
}

static cn_status resize_y(cn_ctx *ctx, const cn_image *in, cn_image *out)
{
    taps t = {0};
    const cn_status s = taps_init(ctx, in->height, out->height, &t);
    const int64_t row = 3 * in->width;
    for (int64_t y = 0; s == CN_OK && y < out->height; y++)
        for (int64_t x = 0; x < row; x++)
            out->rgb[y * row + x] =
                weigh(in->rgb + t.first[y] * row + x, row, t.weight + y * t.most, t.count[y]);
    taps_free(&t);
    return s;
}

cn_status cn_image_resize_bicubic(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                  cn_image **out)
{
    cn_image *wide = NULL, *whole = NULL;
    CN_TRY(cn_image_check_size(ctx, width, height));
    CN_TRY(cn_image_create(ctx, width, in->height, &wide));
    cn_status s = cn_image_create(ctx, width, height, &whole);
    if (s == CN_OK) s = resize_x(ctx, in, wide);
    if (s == CN_OK) s = resize_y(ctx, wide, whole);
    cn_image_destroy(wide);
    if (s != CN_OK) {
        cn_image_destroy(whole);
        return s;
    }
    *out = whole;
    return CN_OK;
}
