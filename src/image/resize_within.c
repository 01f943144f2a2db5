/* SPDX-License-Identifier: Apache-2.0 */
/* resize_within.c - whole pictures brought to other proportions: stretched, or with a border. */
#include "image/resize.h"

#include <math.h>
#include <string.h>

cn_status cn_image_resize_stretch(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                  cn_image **out)
{
    const bool shrinks = width * height < in->width * in->height;
    return cn_image_resize(ctx, in, width, height, shrinks ? CN_FILTER_AREA : CN_FILTER_LANCZOS4,
                           out);
}

/* The median of the outermost pixels, each channel for itself; of an even number the mean of the
 * two in the middle, cut to whole numbers, as NumPy's median becomes a byte. */
static void border_colour(const cn_image *in, uint8_t colour[3])
{
    const int64_t w = in->width, h = in->height;
    int64_t counts[3][256] = {{0}};
    int64_t n = 0;
    for (int64_t y = 0; y < h; y++) {
        const bool edge = y == 0 || y == h - 1;
        for (int64_t x = 0; x < w; x += edge || w == 1 ? 1 : w - 1, n++)
            for (int c = 0; c < 3; c++) counts[c][in->rgb[3 * (y * w + x) + c]]++;
    }
    for (int c = 0; c < 3; c++) {
        int64_t seen = 0;
        int low = -1, v = 0;
        for (; v < 256; v++) {
            seen += counts[c][v];
            if (low < 0 && seen > (n - 1) / 2) low = v;
            if (seen > n / 2) break;
        }
        colour[c] = (uint8_t)((low + v) / 2);
    }
}

/* A picture to be filled, and `in` as large as fits into its middle, aspect kept. */
typedef struct placed {
    cn_image *made, *whole;
    int64_t left, top; /* where whole begins in made */
} placed;

static cn_status place(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height, placed *p)
{
    *p = (placed){0};
    CN_TRY(cn_image_create(ctx, width, height, &p->made));
    const double k = CN_MIN((double)width / (double)in->width, (double)height / (double)in->height);
    const int64_t w = CN_MIN(width, CN_MAX(1, (int64_t)rint((double)in->width * k)));
    const int64_t h = CN_MIN(height, CN_MAX(1, (int64_t)rint((double)in->height * k)));
    p->left = (width - w) / 2;
    p->top = (height - h) / 2;
    const cn_status s = cn_image_resize_stretch(ctx, in, w, h, &p->whole);
    if (s != CN_OK) cn_image_destroy(p->made);
    return s;
}

cn_status cn_image_resize_fill(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                               cn_image **out)
{
    placed p;
    uint8_t colour[3];
    CN_TRY(place(ctx, in, width, height, &p));
    border_colour(in, colour);
    for (int64_t i = 0; i < width * height; i++) memcpy(p.made->rgb + 3 * i, colour, 3);
    for (int64_t y = 0; y < p.whole->height; y++)
        memcpy(p.made->rgb + 3 * ((p.top + y) * width + p.left),
               p.whole->rgb + 3 * y * p.whole->width, (size_t)p.whole->width * 3);
    cn_image_destroy(p.whole);
    *out = p.made;
    return CN_OK;
}

cn_status cn_image_resize_extend(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                 cn_image **out)
{
    placed p;
    CN_TRY(place(ctx, in, width, height, &p));
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            const int64_t v = CN_MIN(CN_MAX(y - p.top, 0), p.whole->height - 1);
            const int64_t u = CN_MIN(CN_MAX(x - p.left, 0), p.whole->width - 1);
            memcpy(p.made->rgb + 3 * (y * width + x), p.whole->rgb + 3 * (v * p.whole->width + u),
                   3);
        }
    cn_image_destroy(p.whole);
    *out = p.made;
    return CN_OK;
}
