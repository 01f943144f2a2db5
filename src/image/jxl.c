/* SPDX-License-Identifier: Apache-2.0 */
/* jxl.c - libjxl: still pictures to RGB; the library turns them upright.
 *
 * The input is never closed, so that a file that ends early is a file that wants more: of what it
 * takes for a fault Debian's libjxl writes lines of its own on stderr.
 */
#include "image/image_internal.h"

#include <jxl/decode.h>

#define CALLS(X)                       \
    X(JxlDecoderGetBasicInfo)          \
    X(JxlDecoderImageOutBufferSize)    \
    X(JxlDecoderSetImageOutBuffer)     \
    X(JxlDecoderProcessInput)          \
    X(JxlDecoderCreate)                \
    X(JxlDecoderSubscribeEvents)       \
    X(JxlDecoderSetUnpremultiplyAlpha) \
    X(JxlDecoderSetInput)              \
    X(JxlDecoderDestroy)
CN_LIBRARY_CALLS(jxl, CALLS);
CN_LIBRARY(static, jxl, CALLS, CN_SONAME_JXL, "JPEG XL pictures are not read");

typedef struct reader {
    cn_ctx *ctx;
    JxlDecoder *decoder;
    JxlBasicInfo info;
    cn_image *image; /* NULL: the size alone is wanted */
} reader;

static const JxlPixelFormat format = {4, JXL_TYPE_UINT8, JXL_NATIVE_ENDIAN, 0};

static cn_status fail(const reader *r, const char *why)
{
    return cn_fail(r->ctx, CN_EFORMAT, "damaged JPEG XL: %s", why);
}

static cn_status read_info(reader *r)
{
    if (jxl.JxlDecoderGetBasicInfo(r->decoder, &r->info) != JXL_DEC_SUCCESS)
        return fail(r, "its header is wrong");
    CN_TRY(cn_image_check_size(r->ctx, r->info.xsize, r->info.ysize));
    if (!r->info.have_animation) return CN_OK;
    return cn_fail(r->ctx, CN_EFORMAT, "an animated JPEG XL; save one frame as a still picture");
}

static cn_status give_buffer(reader *r)
{
    size_t n = 0;
    if (jxl.JxlDecoderImageOutBufferSize(r->decoder, &format, &n) != JXL_DEC_SUCCESS ||
        n != (size_t)r->info.xsize * r->info.ysize * 4)
        return fail(r, "its picture is of another size than said");
    CN_TRY(cn_image_alloc(r->ctx, r->info.xsize, r->info.ysize, 4, &r->image));
    if (jxl.JxlDecoderSetImageOutBuffer(r->decoder, &format, r->image->rgb, n) != JXL_DEC_SUCCESS)
        return fail(r, "its data is wrong");
    return CN_OK;
}

/* What the decoder reports, until it has what was subscribed to. */
static cn_status process(reader *r, JxlDecoderStatus last)
{
    for (;;) {
        const JxlDecoderStatus status = jxl.JxlDecoderProcessInput(r->decoder);
        cn_status s = CN_OK;
        if (status == JXL_DEC_BASIC_INFO)
            s = read_info(r);
        else if (status == JXL_DEC_NEED_IMAGE_OUT_BUFFER)
            s = give_buffer(r);
        else if (status != JXL_DEC_FULL_IMAGE)
            s = fail(r, status == JXL_DEC_NEED_MORE_INPUT ? "the file is truncated"
                                                          : "its data is wrong");
        if (s != CN_OK || status == last) return s;
    }
}

static cn_status open_reader(cn_ctx *ctx, const uint8_t *bytes, size_t n, int events, reader *r)
{
    *r = (reader){.ctx = ctx, .decoder = jxl.JxlDecoderCreate(NULL)};
    if (!r->decoder) return cn_fail(ctx, CN_ENOMEM, "no memory for libjxl");
    if (jxl.JxlDecoderSubscribeEvents(r->decoder, events) != JXL_DEC_SUCCESS ||
        jxl.JxlDecoderSetUnpremultiplyAlpha(r->decoder, JXL_TRUE) != JXL_DEC_SUCCESS ||
        jxl.JxlDecoderSetInput(r->decoder, bytes, n) != JXL_DEC_SUCCESS)
        return cn_fail(ctx, CN_EINTERNAL, "libjxl doesn't take its settings");
    return CN_OK;
}

static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    reader r;
    cn_status s = open_reader(ctx, bytes, n, JXL_DEC_BASIC_INFO, &r);
    if (s == CN_OK) s = process(&r, JXL_DEC_BASIC_INFO);
    if (s == CN_OK) *out = (cn_picture_size){r.info.xsize, r.info.ysize, 1};
    if (r.decoder) jxl.JxlDecoderDestroy(r.decoder);
    return s;
}

static cn_status decode(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha, cn_image **out)
{
    reader r;
    cn_status s = open_reader(ctx, bytes, n, JXL_DEC_BASIC_INFO | JXL_DEC_FULL_IMAGE, &r);
    if (s == CN_OK) s = process(&r, JXL_DEC_FULL_IMAGE);
    if (s == CN_OK && !r.image) s = fail(&r, "no picture in it");
    if (r.decoder) jxl.JxlDecoderDestroy(r.decoder);
    if (s != CN_OK) {
        cn_image_destroy(r.image);
        return s;
    }
    cn_image_flatten_alpha(r.image, alpha);
    *out = r.image;
    return CN_OK;
}

const cn_picture_format cn_picture_jxl = {
    .name = "JPEG XL", .library = &jxl_library, .size = size, .decode = decode};
