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

/* `in` as large as fits into `made`, aspect kept: *whole; and where it begins in its middle. */
static cn_status place_whole(cn_ctx *ctx, const cn_image *in, cn_image *made, cn_image **whole,
                             int64_t *left, int64_t *top)
{
    const double k =
        CN_MIN((double)made->width / (double)in->width, (double)made->height / (double)in->height);
    const int64_t w = CN_MIN(made->width, CN_MAX(1, (int64_t)rint((double)in->width * k)));
    const int64_t h = CN_MIN(made->height, CN_MAX(1, (int64_t)rint((double)in->height * k)));
    *left = (made->width - w) / 2;
    *top = (made->height - h) / 2;
    return cn_image_resize_stretch(ctx, in, w, h, whole);
}

cn_status cn_image_resize_fill(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                               cn_image **out)
{
    cn_image *whole = NULL, *made = NULL;
    uint8_t colour[3];
    int64_t left, top;
    cn_status s = cn_image_create(ctx, width, height, &made);
    if (s == CN_OK) s = place_whole(ctx, in, made, &whole, &left, &top);
    if (s != CN_OK) {
        cn_image_destroy(made);
        return s;
    }
    border_colour(in, colour);
    for (int64_t i = 0; i < width * height; i++) memcpy(made->rgb + 3 * i, colour, 3);
    for (int64_t y = 0; y < whole->height; y++)
        memcpy(made->rgb + 3 * ((top + y) * width + left), whole->rgb + 3 * y * whole->width,
               (size_t)whole->width * 3);
    cn_image_destroy(whole);
    *out = made;
    return CN_OK;
}

cn_status cn_image_resize_extend(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                 cn_image **out)
{
    cn_image *whole = NULL, *made = NULL;
    int64_t left, top;
    cn_status s = cn_image_create(ctx, width, height, &made);
    if (s == CN_OK) s = place_whole(ctx, in, made, &whole, &left, &top);
    if (s != CN_OK) {
        cn_image_destroy(made);
        return s;
    }
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            const int64_t v = CN_MIN(CN_MAX(y - top, 0), whole->height - 1);
            const int64_t u = CN_MIN(CN_MAX(x - left, 0), whole->width - 1);
            memcpy(made->rgb + 3 * (y * width + x), whole->rgb + 3 * (v * whole->width + u), 3);
        }
    cn_image_destroy(whole);
    *out = made;
    return CN_OK;
}
