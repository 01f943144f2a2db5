/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - the part of image.h that doesn't depend on the format. */
#include "image/image_internal.h"

#include <string.h>

enum { MAX_FILE = 1 << 30 };

cn_status cn_image_check_size(cn_ctx *ctx, int64_t width, int64_t height)
{
    if (width < 1 || height < 1 || width > CN_IMAGE_MAX_SIDE || height > CN_IMAGE_MAX_SIDE ||
        width * height > cn_max_pixels(ctx))
        return cn_fail(
            ctx, CN_EINVAL,
            "an image of %lld x %lld px; 1 to %d px a side and at most %lld px in all are allowed "
            "(--max-pixels)",
            (long long)width, (long long)height, CN_IMAGE_MAX_SIDE, (long long)cn_max_pixels(ctx));
    return CN_OK;
}

cn_status cn_image_alloc(cn_ctx *ctx, int64_t width, int64_t height, int channels, cn_image **out)
{
    CN_TRY(cn_image_check_size(ctx, width, height));
    cn_image *image = cn_alloc0(ctx, sizeof *image);
    if (!image) return CN_ENOMEM;
    image->width = width;
    image->height = height;
    image->rgb = cn_alloc(ctx, (size_t)width * (size_t)height * (size_t)channels);
    if (!image->rgb) {
        cn_image_destroy(image);
        return CN_ENOMEM;
    }
    *out = image;
    return CN_OK;
}

cn_status cn_image_create(cn_ctx *ctx, int64_t width, int64_t height, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_alloc(ctx, width, height, 3, &image));
    memset(image->rgb, 0, (size_t)width * (size_t)height * 3);
    *out = image;
    return CN_OK;
}

void cn_image_destroy(cn_image *image)
{
    if (!image) return;
    cn_free(image->rgb);
    cn_free(image);
}

static bool has_transparency(const cn_image *image)
{
    const size_t n = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < n; i++)
        if (image->rgb[4 * i + 3] != 255) return true;
    return false;
}

static void put_on_white(const uint8_t *rgba, uint8_t *rgb)
{
    const float a = (float)rgba[3] / 255.0f;
    for (int c = 0; c < 3; c++) {
        const float color = (float)rgba[c] * a, white = 255.0f * (1.0f - a);
        rgb[c] = (uint8_t)CN_MIN(color + white, 255.0f);
    }
}

void cn_image_flatten_alpha(cn_image *image, cn_alpha alpha)
{
    const size_t n = (size_t)image->width * (size_t)image->height;
    const bool is_mask = alpha == CN_ALPHA_IS_MASK && has_transparency(image);
    for (size_t i = 0; i < n; i++) {
        uint8_t px[3];
        put_on_white(image->rgb + 4 * i, px);
        if (is_mask) memset(px, image->rgb[4 * i + 3], 3);
        memcpy(image->rgb + 3 * i, px, 3);
    }
}

static cn_status decode(cn_ctx *ctx, const void *bytes, size_t n, cn_alpha alpha, cn_image **out)
{
    const cn_picture_format *format = NULL;
    CN_TRY(cn_picture_format_of(ctx, bytes, n, &format));
    return format->decode(ctx, bytes, n, alpha, out);
}

cn_status cn_image_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_image **out)
{
    return decode(ctx, bytes, n, CN_ALPHA_ON_WHITE, out);
}

cn_status cn_mask_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_image **out)
{
    return decode(ctx, bytes, n, CN_ALPHA_IS_MASK, out);
}

cn_status cn_image_size_memory(cn_ctx *ctx, const void *bytes, size_t n, int64_t *width,
                               int64_t *height)
{
    cn_picture_size size = {0};
    const cn_picture_format *format = NULL;
    CN_TRY(cn_picture_format_of(ctx, bytes, n, &format));
    CN_TRY(format->size(ctx, bytes, n, &size));
    *width = size.orientation >= 5 ? size.height : size.width;
    *height = size.orientation >= 5 ? size.width : size.height;
    return CN_OK;
}

const char *cn_image_ending_memory(const void *bytes, size_t n)
{
    const cn_picture_format *format = NULL;
    return cn_picture_format_of(NULL, bytes, n, &format) == CN_OK ? format->ending : NULL;
}

static cn_status load(cn_ctx *ctx, const char *path, cn_alpha alpha, cn_image **out)
{
    char *data = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, MAX_FILE, &data, &n));
    cn_status s = decode(ctx, data, n, alpha, out);
    cn_free(data);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", path);
}

cn_status cn_image_load(cn_ctx *ctx, const char *path, cn_image **out)
{
    return load(ctx, path, CN_ALPHA_ON_WHITE, out);
}

cn_status cn_mask_load(cn_ctx *ctx, const char *path, cn_image **out)
{
    return load(ctx, path, CN_ALPHA_IS_MASK, out);
}

cn_status cn_image_save_png(cn_ctx *ctx, const char *path, const cn_image *image,
                            const char *const *text)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    CN_TRY(cn_png_encode(ctx, image, text, &bytes, &n));
    cn_status s = cn_file_write(ctx, path, bytes, n);
    cn_free(bytes);
    return s;
}

cn_status cn_png_text_memory(cn_ctx *ctx, const void *bytes, size_t n, const char *key, char **out)
{
    const cn_picture_format *format = NULL;
    CN_TRY(cn_picture_format_of(ctx, bytes, n, &format));
    if (format == &cn_picture_png) return cn_png_find_text(ctx, bytes, n, key, out);
    return cn_fail(ctx, CN_EFORMAT, "not a PNG image");
}

cn_status cn_png_text(cn_ctx *ctx, const char *path, const char *key, char **out)
{
    char *data = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, MAX_FILE, &data, &n));
    const cn_status s = cn_png_text_memory(ctx, data, n, key, out);
    cn_free(data);
    return s == CN_OK ? s : cn_fail_prefix(ctx, s, "%s", path);
}
