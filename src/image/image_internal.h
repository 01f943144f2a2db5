/* SPDX-License-Identifier: Apache-2.0 */
/* image_internal.h - what the decoders behind image.h share. Only src/image includes it. */
#ifndef CN_IMAGE_IMAGE_INTERNAL_H
#define CN_IMAGE_IMAGE_INTERNAL_H

#include "base/library.h"
#include "image/image.h"

/* What becomes of alpha. */
typedef enum cn_alpha { CN_ALPHA_ON_WHITE, CN_ALPHA_IS_MASK } cn_alpha;

/* The image's struct around pixels of `channels` bytes each, uninitialised; sizes checked. */
cn_status cn_image_alloc(cn_ctx *ctx, int64_t width, int64_t height, int channels,
                         cn_image **out) CN_CHECKED;
/* RGBA in image->rgb to RGB in place. On white, as HWC3: trunc(c a + 255 (1 - a)) in float. As a
 * mask: where any pixel isn't opaque, each becomes its alpha's grey; else the colours stay. */
void cn_image_flatten_alpha(cn_image *image, cn_alpha alpha);

/* The orientation (1 to 8) in EXIF data's first directory, a JPEG segment's or bare; 1 when there
 * is none. */
int cn_exif_orientation(const uint8_t *p, size_t n);
/* EXIF orientations: 2 mirrored, 3 turned by 180, 4 flipped, 5 to 8 with the axes exchanged.
 * Replaces *image, RGB; on failure it is as it was. */
cn_status cn_image_orient(cn_ctx *ctx, cn_image **image, int orientation) CN_CHECKED;

/* As a header has it, before the picture is turned upright. */
typedef struct cn_picture_size {
    int64_t width, height;
    int orientation;
} cn_picture_size;

/* The text of a PNG file's key (UTF-8, cn_free), of whole chunks; NULL where none has it. */
cn_status cn_png_find_text(cn_ctx *ctx, const uint8_t *bytes, size_t n, const char *key,
                           char **out) CN_CHECKED;
static inline uint32_t cn_png_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* --- formats: a row each. To add one, write its file, which defines `const cn_picture_format
 * cn_picture_NAME`, list it here, and what it begins with in formats.c. GIF, TIFF, AVIF and JPEG XL
 * need libraries that a build may lack (the Makefile finds out); then their files are left out, and
 * such a picture is refused by name. --------------------------------------------------------- */

typedef struct cn_picture_format {
    const char *name;    /* "TIFF" */
    const char *ending;  /* "jpg" of a format that other programs read too; else NULL */
    cn_library *library; /* that its functions need open; NULL */
    /* Each is given bytes that begin as the format does. decode's picture is upright; size is told
     * by a file's first n bytes, CN_EFORMAT when these don't tell. */
    cn_status (*size)(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out);
    cn_status (*decode)(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha,
                        cn_image **out);
} cn_picture_format;

#define CN_PICTURE_LIST(X) \
    X(png)                 \
    X(jpeg)                \
    X(webp)                \
    X(bmp)                 \
    X(gif)                 \
    X(tiff)                \
    X(avif)                \
    X(jxl)

#define CN_PICTURE_DECLARE(name) extern const cn_picture_format cn_picture_##name;
CN_PICTURE_LIST(CN_PICTURE_DECLARE)
#undef CN_PICTURE_DECLARE

/* The format that a file begins as, ready to be read; CN_EFORMAT with a message that says what it
 * is, where that is known, for one that isn't read. */
cn_status cn_picture_format_of(cn_ctx *ctx, const uint8_t *bytes, size_t n,
                               const cn_picture_format **out) CN_CHECKED;

#endif
