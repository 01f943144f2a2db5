/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise.c - copy, inversion and the threshold that turns a drawing into a scribble
 * condition. */
#include "annotate/pointwise.h"

#include <string.h>

enum { SCRIBBLE_LEVEL = 127 };

static size_t image_bytes(const cn_image *image)
{
    return (size_t)image->width * (size_t)image->height * 3;
}

cn_status cn_image_copy(cn_ctx *ctx, const cn_image *in, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    memcpy(image->rgb, in->rgb, image_bytes(in));
    *out = image;
    return CN_OK;
}

cn_status cn_image_invert(cn_ctx *ctx, const cn_image *in, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    for (size_t i = 0, n = image_bytes(in); i < n; i++) image->rgb[i] = (uint8_t)(255 - in->rgb[i]);
    *out = image;
    return CN_OK;
}

/* White where min(R, G, B) is above the level, or with `below` under it. */
static cn_status cut(cn_ctx *ctx, const cn_image *in, double level, bool below, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    for (size_t i = 0, n = image_bytes(in); i < n; i += 3) {
        const uint8_t *p = in->rgb + i;
        const double least = CN_MIN(p[0], CN_MIN(p[1], p[2]));
        memset(image->rgb + i, (below ? least < level : least > level) ? 255 : 0, 3);
    }
    *out = image;
    return CN_OK;
}

cn_status cn_scribble(cn_ctx *ctx, const cn_image *in, bool mask, cn_image **out)
{
    return cut(ctx, in, SCRIBBLE_LEVEL, !mask, out);
}

cn_status cn_threshold(cn_ctx *ctx, const cn_image *in, double level, cn_image **out)
{
    return cut(ctx, in, level, false, out);
}

bool cn_is_light_on_dark(const cn_image *in)
{
    int64_t dark = 0, light = 0;
    for (size_t i = 0, n = image_bytes(in); i < n; i += 3) {
        const uint8_t *p = in->rgb + i;
        dark += CN_MAX(p[0], CN_MAX(p[1], p[2])) <= SCRIBBLE_LEVEL;
        light += CN_MIN(p[0], CN_MIN(p[1], p[2])) >= SCRIBBLE_LEVEL;
    }
    return dark > light;
}
