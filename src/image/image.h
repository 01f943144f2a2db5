/* SPDX-License-Identifier: Apache-2.0 */
/* image.h - picture files to 8-bit RGB, and RGB to PNG.
 *
 * The format is told by content, never by name. Every picture becomes H x W x 3, rows from the top:
 * grey is repeated, 16 bits keep the high byte, CMYK is converted, EXIF's orientation is applied,
 * and alpha is composited on white as the reference's HWC3 does, but for masks. Sizes are checked
 * from the header, before anything is allocated. Left out: colour profiles and gamma (used as
 * stored), animations.
 */
#ifndef CN_IMAGE_IMAGE_H
#define CN_IMAGE_IMAGE_H

#include "base/base.h"

enum { CN_IMAGE_MAX_SIDE = 32768 };

typedef struct cn_image {
    int64_t width, height; /* pixels, >= 1 */
    uint8_t *rgb;          /* height x width x 3, no row padding */
} cn_image;

/* A black image. CN_EINVAL beyond the limits above. */
cn_status cn_image_create(cn_ctx *ctx, int64_t width, int64_t height, cn_image **out) CN_CHECKED;
void cn_image_destroy(cn_image *image);
/* CN_EINVAL unless 1..CN_IMAGE_MAX_SIDE a side and at most cn_max_pixels in all. */
cn_status cn_image_check_size(cn_ctx *ctx, int64_t width, int64_t height) CN_CHECKED;

/* A truncated or damaged file is CN_EFORMAT, a missing one CN_EIO. */
cn_status cn_image_load(cn_ctx *ctx, const char *path, cn_image **out) CN_CHECKED;
cn_status cn_image_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_image **out) CN_CHECKED;
/* A mask, which is an image's luminance: of a picture with any transparency it is the alpha, as
 * stable-diffusion-webui has it, since people paint masks on transparent ground; such an image is
 * grey. Other pictures are as cn_image_load has them. */
cn_status cn_mask_load(cn_ctx *ctx, const char *path, cn_image **out) CN_CHECKED;
cn_status cn_mask_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_image **out) CN_CHECKED;

/* The upright picture's size from a file's first bytes; CN_EFORMAT also when these are too few to
 * tell. */
cn_status cn_image_size_memory(cn_ctx *ctx, const void *bytes, size_t n, int64_t *width,
                               int64_t *height) CN_CHECKED;

/* How a file of these bytes ends where it is JPEG, PNG or WebP, "jpg", which every program reads;
 * NULL: another format, or none. */
const char *cn_image_ending_memory(const void *bytes, size_t n);

/* JPEG of this quality (1 to 100), colours at full resolution; *out: cn_free it. */
cn_status cn_jpeg_encode(cn_ctx *ctx, const cn_image *image, int quality, uint8_t **out,
                         size_t *n) CN_CHECKED;

/* text: key, value, ..., NULL (UTF-8; keys of 1..79 Latin-1 characters), or NULL. Values beyond
 * ASCII go into iTXt chunks, others into tEXt. Saving is atomic. */
cn_status cn_image_save_png(cn_ctx *ctx, const char *path, const cn_image *image,
                            const char *const *text) CN_CHECKED;

#endif
