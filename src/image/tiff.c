/* SPDX-License-Identifier: Apache-2.0 */
/* tiff.c - libtiff: the first picture of a file to RGB, upright; 16 bits keep the high byte. Left
 * out, as in libtiff's own conversion: samples in floating point.
 *
 * A TIFF file is read by its places, not from front to back, so its size may stand at its end.
 */
#include "image/image_internal.h"

#include <stdarg.h>
#include <string.h>
#include <tiffio.h>

#define CALLS(X)                            \
    X(TIFFClientOpenExt)                    \
    X(TIFFClose)                            \
    X(TIFFGetField)                         \
    X(TIFFGetFieldDefaulted)                \
    X(TIFFOpenOptionsAlloc)                 \
    X(TIFFOpenOptionsFree)                  \
    X(TIFFOpenOptionsSetErrorHandlerExtR)   \
    X(TIFFOpenOptionsSetMaxSingleMemAlloc)  \
    X(TIFFOpenOptionsSetWarningHandlerExtR) \
    X(TIFFRGBAImageBegin)                   \
    X(TIFFRGBAImageEnd)                     \
    X(TIFFRGBAImageGet)
CN_LIBRARY_CALLS(tiff_lib, CALLS);
CN_LIBRARY(static, tiff_lib, CALLS, CN_SONAME_TIFF, "TIFF pictures are not read");

/* A white line of fax data takes a bit. */
enum { MAX_PX_PER_BYTE = 1 << 18, MAX_ALLOCATION = 1 << 30 };

typedef struct source {
    const uint8_t *bytes;
    uint64_t n, at;
    char message[256]; /* the first */
} source;

static tsize_t read_bytes(thandle_t handle, tdata_t out, tsize_t n)
{
    source *s = handle;
    const uint64_t k = CN_MIN((uint64_t)CN_MAX(0, n), s->n - s->at);
    memcpy(out, s->bytes + s->at, k);
    s->at += k;
    return (tsize_t)k;
}

static tsize_t write_bytes(thandle_t handle, tdata_t in, tsize_t n)
{
    (void)handle, (void)in, (void)n;
    return -1;
}

static toff_t seek(thandle_t handle, toff_t offset, int from)
{
    source *s = handle;
    const uint64_t base = from == SEEK_CUR ? s->at : from == SEEK_END ? s->n : 0;
    s->at = CN_MIN(base + offset, s->n);
    return s->at;
}

static int close_source(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t source_size(thandle_t handle)
{
    return ((source *)handle)->n;
}

static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    source *s = user;
    (void)tiff, (void)module;
    if (!s->message[0]) vsnprintf(s->message, sizeof s->message, format, args);
    return 1;
}

static int on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    (void)tiff, (void)user, (void)module, (void)format, (void)args;
    return 1;
}

static cn_status fail(cn_ctx *ctx, const source *s)
{
    return cn_fail(ctx, CN_EFORMAT, "damaged TIFF: %s",
                   s->message[0] ? s->message : "it is truncated or its data is wrong");
}

/* Close with TIFFClose. */
static cn_status open_source(cn_ctx *ctx, source *s, TIFF **out)
{
    TIFFOpenOptions *options = tiff_lib.TIFFOpenOptionsAlloc();
    if (!options) return cn_fail(ctx, CN_ENOMEM, "no memory for libtiff");
    tiff_lib.TIFFOpenOptionsSetMaxSingleMemAlloc(options, MAX_ALLOCATION);
    tiff_lib.TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, s);
    tiff_lib.TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, s);
    *out = tiff_lib.TIFFClientOpenExt("picture", "rm", s, read_bytes, write_bytes, seek,
                                      close_source, source_size, NULL, NULL, options);
    tiff_lib.TIFFOpenOptionsFree(options);
    return *out ? CN_OK : fail(ctx, s);
}

static cn_status read_size(cn_ctx *ctx, TIFF *tiff, const source *s, cn_picture_size *out)
{
    uint32_t width = 0, height = 0;
    uint16_t orientation = 1;
    if (!tiff_lib.TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width) ||
        !tiff_lib.TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height))
        return fail(ctx, s);
    (void)tiff_lib.TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &orientation);
    *out = (cn_picture_size){width, height, orientation >= 1 && orientation <= 8 ? orientation : 1};
    return cn_image_check_size(ctx, out->width, out->height);
}

static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    source s = {.bytes = bytes, .n = n};
    TIFF *tiff = NULL;
    CN_TRY(open_source(ctx, &s, &tiff));
    const cn_status status = read_size(ctx, tiff, &s, out);
    tiff_lib.TIFFClose(tiff);
    return status;
}

/* Colours that libtiff multiplied by their alpha, back. */
static void unmultiply(uint8_t *px, uint32_t v)
{
    const uint32_t alpha = TIFFGetA(v), c[3] = {TIFFGetR(v), TIFFGetG(v), TIFFGetB(v)};
    for (int k = 0; k < 3; k++)
        px[k] = (uint8_t)(alpha ? CN_MIN(255, (c[k] * 255 + alpha / 2) / alpha) : c[k]);
    px[3] = (uint8_t)alpha;
}

static cn_status read_pixels(cn_ctx *ctx, TIFF *tiff, source *s, const cn_picture_size *size,
                             cn_image *image)
{
    TIFFRGBAImage reader;
    char why[1024] = "";
    const size_t n = (size_t)(size->width * size->height);
    uint32_t *raster = cn_alloc_array(ctx, n, sizeof *raster);
    if (!raster) return CN_ENOMEM;
    memset(raster, 0, n * sizeof *raster);
    cn_status status = CN_OK;
    if (!tiff_lib.TIFFRGBAImageBegin(&reader, tiff, 1, why)) {
        status =
            cn_fail(ctx, CN_EFORMAT, "a TIFF image that isn't read: %s", why[0] ? why : s->message);
    } else {
        /* as stored: turning comes later */
        reader.req_orientation = reader.orientation = ORIENTATION_TOPLEFT;
        if (!tiff_lib.TIFFRGBAImageGet(&reader, raster, (uint32_t)size->width,
                                       (uint32_t)size->height))
            status = fail(ctx, s);
        tiff_lib.TIFFRGBAImageEnd(&reader);
    }
    for (size_t i = 0; status == CN_OK && i < n; i++) unmultiply(image->rgb + 4 * i, raster[i]);
    cn_free(raster);
    return status;
}

static cn_status decode_open(cn_ctx *ctx, TIFF *tiff, source *s, cn_alpha alpha, cn_image **out)
{
    cn_picture_size size = {0};
    cn_image *image = NULL;
    CN_TRY(read_size(ctx, tiff, s, &size));
    if ((uint64_t)(size.width * size.height) / MAX_PX_PER_BYTE > s->n)
        return cn_fail(ctx, CN_EFORMAT, "damaged TIFF: %llu bytes can't hold %lld x %lld px",
                       (unsigned long long)s->n, (long long)size.width, (long long)size.height);
    CN_TRY(cn_image_alloc(ctx, size.width, size.height, 4, &image));
    cn_status status = read_pixels(ctx, tiff, s, &size, image);
    if (status == CN_OK) {
        cn_image_flatten_alpha(image, alpha);
        status = cn_image_orient(ctx, &image, size.orientation);
    }
    if (status == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return status;
}

static cn_status decode(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha, cn_image **out)
{
    source s = {.bytes = bytes, .n = n};
    TIFF *tiff = NULL;
    CN_TRY(open_source(ctx, &s, &tiff));
    const cn_status status = decode_open(ctx, tiff, &s, alpha, out);
    tiff_lib.TIFFClose(tiff);
    return status;
}

const cn_picture_format cn_picture_tiff = {
    .name = "TIFF", .library = &tiff_lib_library, .size = size, .decode = decode};
