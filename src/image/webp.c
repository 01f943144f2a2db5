/* SPDX-License-Identifier: Apache-2.0 */
/* webp.c - libwebp: still pictures, lossy and lossless, to RGB. */
#include "image/image_internal.h"

#include <webp/decode.h>
#include <webp/demux.h>

static const char *reason(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA: return "the file is truncated";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "it uses a feature that libwebp doesn't read";
    case VP8_STATUS_OUT_OF_MEMORY: return "no memory";
    default: return "its data is damaged";
    }
}

static int find_orientation(const uint8_t *bytes, size_t n)
{
    const WebPData data = {bytes, n};
    WebPChunkIterator chunk;
    WebPDemuxer *d = WebPDemux(&data);
    int orientation = 1;
    if (d && WebPDemuxGetChunk(d, "EXIF", 1, &chunk)) {
        orientation = cn_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(d);
    return orientation;
}

/* Bytes of the whole file, as it says itself, where EXIF data stands behind the pixels; else of any
 * head. */
static size_t bytes_needed(const uint8_t *p, size_t n)
{
    const bool has_exif = n >= 21 && memcmp(p + 12, "VP8X", 4) == 0 && (p[20] & 8);
    const uint32_t riff = p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 24;
    return has_exif ? (size_t)riff + 8 : 0;
}

static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    WebPBitstreamFeatures f;
    const VP8StatusCode code = WebPGetFeatures(bytes, n, &f);
    if (code != VP8_STATUS_OK) return cn_fail(ctx, CN_EFORMAT, "damaged WebP: %s", reason(code));
    if (n < bytes_needed(bytes, n))
        return cn_fail(ctx, CN_EFORMAT, "damaged WebP: the file is truncated");
    CN_TRY(cn_image_check_size(ctx, f.width, f.height));
    *out = (cn_picture_size){f.width, f.height, find_orientation(bytes, n)};
    return CN_OK;
}

static cn_status decode_file(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha,
                             cn_image **out)
{
    WebPBitstreamFeatures f;
    cn_image *image = NULL;
    VP8StatusCode code = WebPGetFeatures(bytes, n, &f);
    if (code != VP8_STATUS_OK) return cn_fail(ctx, CN_EFORMAT, "damaged WebP: %s", reason(code));
    if (f.has_animation)
        return cn_fail(ctx, CN_EFORMAT, "an animated WebP; save one frame as a still picture");
    int channels = f.has_alpha ? 4 : 3;
    CN_TRY(cn_image_alloc(ctx, f.width, f.height, channels, &image));
    size_t bytes_out = (size_t)f.width * (size_t)f.height * (size_t)channels;
    int stride = f.width * channels;
    const uint8_t *done = f.has_alpha ? WebPDecodeRGBAInto(bytes, n, image->rgb, bytes_out, stride)
                                      : WebPDecodeRGBInto(bytes, n, image->rgb, bytes_out, stride);
    if (!done) {
        cn_image_destroy(image);
        return cn_fail(ctx, CN_EFORMAT, "damaged WebP: it is truncated or its data is wrong");
    }
    if (f.has_alpha) cn_image_flatten_alpha(image, alpha);
    cn_status s = cn_image_orient(ctx, &image, find_orientation(bytes, n));
    if (s == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return s;
}

const cn_picture_format cn_picture_webp = {
    .name = "WebP", .ending = "webp", .size = size, .decode = decode_file};
