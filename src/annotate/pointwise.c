/* pointwise.c - copy, inversion and the threshold that turns a drawing into a scribble condition. */
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

cn_status cn_scribble(cn_ctx *ctx, const cn_image *in, bool mask, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    for (size_t i = 0, n = image_bytes(in); i < n; i += 3) {
        const uint8_t *p = in->rgb + i;
        uint8_t least = CN_MIN(p[0], CN_MIN(p[1], p[2]));
        bool lit = mask ? least > SCRIBBLE_LEVEL : least < SCRIBBLE_LEVEL;
        memset(image->rgb + i, lit ? 255 : 0, 3);
    }
    *out = image;
    return CN_OK;
}
