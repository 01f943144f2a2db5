/* SPDX-License-Identifier: Apache-2.0 */
/* orientation.c - which way up a picture is, as its EXIF data says. */
#include "image/image_internal.h"

#include <string.h>

enum { ORIENTATION_TAG = 0x0112 };

static uint32_t tiff_int(const uint8_t *p, int n, bool big)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint32_t)p[i] << 8 * (big ? n - 1 - i : i);
    return v;
}

int cn_exif_orientation(const uint8_t *p, size_t n)
{
    if (n >= 6 && memcmp(p, "Exif\0\0", 6) == 0) {
        p += 6;
        n -= 6;
    }
    if (n < 8) return 1;
    bool big = p[0] == 'M';
    uint32_t at = tiff_int(p + 4, 4, big);
    if ((p[0] != 'I' && p[0] != 'M') || p[1] != p[0] || at > n - 2) return 1;
    uint32_t count = tiff_int(p + at, 2, big);
    size_t entry = (size_t)at + 2;
    for (uint32_t i = 0; i < count && entry + 12 <= n; i++, entry += 12) {
        if (tiff_int(p + entry, 2, big) != ORIENTATION_TAG) continue;
        uint32_t value = tiff_int(p + entry + 8, 2, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

cn_status cn_image_orient(cn_ctx *ctx, cn_image **image, int orientation)
{
    cn_image *src = *image, *dst = NULL;
    int64_t W = src->width, H = src->height;
    bool swap = orientation >= 5;
    bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    if (orientation == 1) return CN_OK;
    CN_TRY(cn_image_alloc(ctx, swap ? H : W, swap ? W : H, 3, &dst));
    for (int64_t y = 0; y < dst->height; y++)
        for (int64_t x = 0; x < dst->width; x++) {
            int64_t sx = swap ? y : x, sy = swap ? x : y;
            if (mirror_x) sx = W - 1 - sx;
            if (mirror_y) sy = H - 1 - sy;
            memcpy(dst->rgb + 3 * (y * dst->width + x), src->rgb + 3 * (sy * W + sx), 3);
        }
    cn_image_destroy(src);
    *image = dst;
    return CN_OK;
}
