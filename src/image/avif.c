/* SPDX-License-Identifier: Apache-2.0 */
/* avif.c - libavif: still pictures to RGB, upright. */
#include "image/image_internal.h"

#include <avif/avif.h>

#define CALLS(X)               \
    X(avifResultToString)      \
    X(avifDecoderCreate)       \
    X(avifDecoderSetIOMemory)  \
    X(avifDecoderParse)        \
    X(avifDecoderDestroy)      \
    X(avifDecoderNextImage)    \
    X(avifRGBImageSetDefaults) \
    X(avifImageYUVToRGB)
CN_LIBRARY_CALLS(avif, CALLS);
CN_LIBRARY(static, avif, CALLS, CN_SONAME_AVIF, "AVIF pictures are not read");

static cn_status fail(cn_ctx *ctx, avifResult code)
{
    if (code == AVIF_RESULT_OUT_OF_MEMORY) return cn_fail(ctx, CN_ENOMEM, "no memory for libavif");
    return cn_fail(ctx, CN_EFORMAT, "damaged AVIF: %s", avif.avifResultToString(code));
}

/* Turned anticlockwise by quarters, then mirrored: as EXIF counts it. */
static int orientation_of(const avifImage *image)
{
    static const int turned[4] = {1, 8, 3, 6};
    static const int flipped[4] = {4, 5, 2, 7}, mirrored[4] = {2, 7, 4, 5};
    const int angle = image->transformFlags & AVIF_TRANSFORM_IROT ? image->irot.angle & 3 : 0;
    if (!(image->transformFlags & AVIF_TRANSFORM_IMIR)) return turned[angle];
#if AVIF_VERSION_MAJOR >= 1
    return image->imir.axis ? mirrored[angle] : flipped[angle];
#else
    return image->imir.mode ? mirrored[angle] : flipped[angle];
#endif
}

/* The file's header. avifDecoderDestroy it. */
static cn_status parse(cn_ctx *ctx, const uint8_t *bytes, size_t n, avifDecoder **out,
                       cn_picture_size *size)
{
    avifDecoder *d = avif.avifDecoderCreate();
    if (!d) return cn_fail(ctx, CN_ENOMEM, "no memory for libavif");
    d->maxThreads = 1;
    d->imageSizeLimit = (uint32_t)CN_MIN(cn_max_pixels(ctx), AVIF_DEFAULT_IMAGE_SIZE_LIMIT);
    d->imageDimensionLimit = CN_IMAGE_MAX_SIDE;
    d->ignoreExif = d->ignoreXMP = AVIF_TRUE;
    avifResult code = avif.avifDecoderSetIOMemory(d, bytes, n);
    if (code == AVIF_RESULT_OK) code = avif.avifDecoderParse(d);
    cn_status s = code == AVIF_RESULT_OK ? CN_OK : fail(ctx, code);
    if (s == CN_OK) {
        *size = (cn_picture_size){d->image->width, d->image->height, orientation_of(d->image)};
        s = cn_image_check_size(ctx, size->width, size->height);
    }
    if (s != CN_OK) {
        avif.avifDecoderDestroy(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    avifDecoder *d = NULL;
    CN_TRY(parse(ctx, bytes, n, &d, out));
    avif.avifDecoderDestroy(d);
    return CN_OK;
}

static cn_status read_pixels(cn_ctx *ctx, avifDecoder *d, cn_image *image)
{
    avifRGBImage rgba;
    avifResult code = avif.avifDecoderNextImage(d);
    if (code != AVIF_RESULT_OK) return fail(ctx, code);
    if (d->image->width != image->width || d->image->height != image->height)
        return cn_fail(ctx, CN_EFORMAT, "damaged AVIF: its picture is of another size than said");
    avif.avifRGBImageSetDefaults(&rgba, d->image);
    rgba.format = AVIF_RGB_FORMAT_RGBA;
    rgba.depth = 8;
    rgba.pixels = image->rgb;
    rgba.rowBytes = (uint32_t)image->width * 4;
    code = avif.avifImageYUVToRGB(d->image, &rgba);
    return code == AVIF_RESULT_OK ? CN_OK : fail(ctx, code);
}

static cn_status decode(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha, cn_image **out)
{
    cn_picture_size size = {0};
    avifDecoder *d = NULL;
    cn_image *image = NULL;
    CN_TRY(parse(ctx, bytes, n, &d, &size));
    cn_status s =
        d->imageCount == 1
            ? cn_image_alloc(ctx, size.width, size.height, 4, &image)
            : cn_fail(ctx, CN_EFORMAT, "an animated AVIF; save one frame as a still picture");
    if (s == CN_OK) s = read_pixels(ctx, d, image);
    avif.avifDecoderDestroy(d);
    if (s == CN_OK) {
        cn_image_flatten_alpha(image, alpha);
        s = cn_image_orient(ctx, &image, size.orientation);
    }
    if (s == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return s;
}

const cn_picture_format cn_picture_avif = {
    .name = "AVIF", .library = &avif_library, .size = size, .decode = decode};
