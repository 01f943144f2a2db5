/* SPDX-License-Identifier: Apache-2.0 */
/* gif.c - giflib: still pictures to RGB. What the frame doesn't cover is transparent. */
#include "image/image_internal.h"

#include <gif_lib.h>
#include <string.h>

#define CALLS(X)            \
    X(GifErrorString)       \
    X(DGifGetExtension)     \
    X(DGifExtensionToGCB)   \
    X(DGifGetExtensionNext) \
    X(DGifGetRecordType)    \
    X(DGifGetLine)          \
    X(DGifGetImageDesc)     \
    X(DGifOpen)             \
    X(DGifCloseFile)
CN_LIBRARY_CALLS(gif_lib, CALLS);
CN_LIBRARY(static, gif_lib, CALLS, CN_SONAME_GIF, "GIF pictures are not read");

/* A code of LZW's 12 bits stands for 4096 pixels at most. */
enum { MAX_PX_PER_BYTE = 4096 };

typedef struct reader {
    const uint8_t *p;
    size_t left;
} reader;

static int read_bytes(GifFileType *gif, GifByteType *out, int n)
{
    reader *r = gif->UserData;
    const size_t k = CN_MIN((size_t)CN_MAX(0, n), r->left);
    memcpy(out, r->p, k);
    r->p += k;
    r->left -= k;
    return (int)k;
}

static cn_status fail(cn_ctx *ctx, int code)
{
    const char *why = code == D_GIF_SUCCEEDED ? NULL : gif_lib.GifErrorString(code);
    return cn_fail(ctx, CN_EFORMAT, "damaged GIF: %s", why ? why : "the file is truncated");
}

/* The screen's size stands behind the signature. */
static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    if (n < 10) return fail(ctx, D_GIF_SUCCEEDED);
    *out = (cn_picture_size){bytes[6] | bytes[7] << 8, bytes[8] | bytes[9] << 8, 1};
    return cn_image_check_size(ctx, out->width, out->height);
}

/* An extension's blocks; of a graphic control the transparent colour, else -1 stays. */
static cn_status skip_extension(cn_ctx *ctx, GifFileType *gif, int *transparent)
{
    GifByteType *block = NULL;
    int code = 0;
    GraphicsControlBlock control;
    if (gif_lib.DGifGetExtension(gif, &code, &block) == GIF_ERROR) return fail(ctx, gif->Error);
    if (block && code == GRAPHICS_EXT_FUNC_CODE &&
        gif_lib.DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK)
        *transparent = control.TransparentColor;
    while (block)
        if (gif_lib.DGifGetExtensionNext(gif, &block) == GIF_ERROR) return fail(ctx, gif->Error);
    return CN_OK;
}

/* Up to the next frame; *found false at the end. */
static cn_status next_frame(cn_ctx *ctx, GifFileType *gif, int *transparent, bool *found)
{
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    for (;;) {
        if (gif_lib.DGifGetRecordType(gif, &type) == GIF_ERROR) return fail(ctx, gif->Error);
        *found = type == IMAGE_DESC_RECORD_TYPE;
        if (type != EXTENSION_RECORD_TYPE) return CN_OK;
        CN_TRY(skip_extension(ctx, gif, transparent));
    }
}

static cn_status read_row(cn_ctx *ctx, GifFileType *gif, int transparent, GifPixelType *line,
                          cn_image *image, int64_t y)
{
    const GifImageDesc *frame = &gif->Image;
    const ColorMapObject *map = frame->ColorMap ? frame->ColorMap : gif->SColorMap;
    if (gif_lib.DGifGetLine(gif, line, frame->Width) == GIF_ERROR) return fail(ctx, gif->Error);
    for (int64_t k = 0; k < frame->Width; k++) {
        const int64_t x = frame->Left + k;
        if (y >= image->height || x >= image->width || line[k] == transparent) continue;
        if (line[k] >= map->ColorCount) return fail(ctx, D_GIF_ERR_NO_COLOR_MAP);
        const GifColorType c = map->Colors[line[k]];
        memcpy(image->rgb + 4 * (y * image->width + x),
               (const uint8_t[]){c.Red, c.Green, c.Blue, 255}, 4);
    }
    return CN_OK;
}

static cn_status read_frame(cn_ctx *ctx, GifFileType *gif, int transparent, cn_image *image)
{
    static const int first[] = {0, 4, 2, 1}, apart[] = {8, 8, 4, 2};
    const GifImageDesc *frame = &gif->Image;
    if (!frame->ColorMap && !gif->SColorMap) return fail(ctx, D_GIF_ERR_NO_COLOR_MAP);
    GifPixelType *line = cn_alloc(ctx, (size_t)CN_MAX(1, frame->Width));
    cn_status s = line ? CN_OK : CN_ENOMEM;
    for (int pass = 0; s == CN_OK && pass < (frame->Interlace ? 4 : 1); pass++) {
        const int step = frame->Interlace ? apart[pass] : 1;
        for (int y = first[pass]; s == CN_OK && y < frame->Height; y += step)
            s = read_row(ctx, gif, transparent, line, image, frame->Top + y);
    }
    cn_free(line);
    return s;
}

static cn_status read_still(cn_ctx *ctx, GifFileType *gif, cn_image *image)
{
    int transparent = NO_TRANSPARENT_COLOR;
    bool found = false;
    CN_TRY(next_frame(ctx, gif, &transparent, &found));
    if (!found) return cn_fail(ctx, CN_EFORMAT, "damaged GIF: no picture in it");
    if (gif_lib.DGifGetImageDesc(gif) == GIF_ERROR) return fail(ctx, gif->Error);
    memset(image->rgb, 0, (size_t)image->width * (size_t)image->height * 4);
    CN_TRY(read_frame(ctx, gif, transparent, image));
    CN_TRY(next_frame(ctx, gif, &transparent, &found));
    if (found)
        return cn_fail(ctx, CN_EFORMAT, "an animated GIF; save one frame as a still picture");
    return CN_OK;
}

static cn_status decode(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha, cn_image **out)
{
    reader r = {bytes, n};
    int code = D_GIF_SUCCEEDED;
    cn_picture_size whole = {0};
    cn_image *image = NULL;
    CN_TRY(size(ctx, bytes, n, &whole));
    if ((uint64_t)(whole.width * whole.height) / MAX_PX_PER_BYTE > n)
        return cn_fail(ctx, CN_EFORMAT, "damaged GIF: %zu bytes can't hold %lld x %lld px", n,
                       (long long)whole.width, (long long)whole.height);
    GifFileType *gif = gif_lib.DGifOpen(&r, read_bytes, &code);
    if (!gif) return fail(ctx, code);
    cn_status s = cn_image_alloc(ctx, whole.width, whole.height, 4, &image);
    if (s == CN_OK) s = read_still(ctx, gif, image);
    (void)gif_lib.DGifCloseFile(gif, &code);
    if (s != CN_OK) {
        cn_image_destroy(image);
        return s;
    }
    cn_image_flatten_alpha(image, alpha);
    *out = image;
    return CN_OK;
}

const cn_picture_format cn_picture_gif = {
    .name = "GIF", .library = &gif_lib_library, .size = size, .decode = decode};
