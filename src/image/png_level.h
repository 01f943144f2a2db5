/* SPDX-License-Identifier: Apache-2.0 */
/* png_level.h - PNG files compressed harder, or sooner, than everywhere else. */
#ifndef CN_IMAGE_PNG_LEVEL_H
#define CN_IMAGE_PNG_LEVEL_H

#include "image/image.h"

/* cn_png_encode with zlib's level, 1 (fast) to 9 (small); 0: as everywhere else. */
cn_status cn_png_encode_level(cn_ctx *ctx, const cn_image *image, int level, uint8_t **out,
                              size_t *out_bytes) CN_CHECKED;

#endif
