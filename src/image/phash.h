/* SPDX-License-Identifier: Apache-2.0 */
/* phash.h - perceptual hashes: pictures that look alike have hashes that differ in few bits. */
#ifndef CN_IMAGE_PHASH_H
#define CN_IMAGE_PHASH_H

#include "image/image.h"

/* 64 bits of the lowest frequencies: grey (Rec. 601), brought to 32 x 32 by areas, its DCT-II's
 * first 8 x 8 coefficients, a bit each, set above their median; row by row from the highest bit.
 * As "pHash" in ImageHash, but for the way of shrinking. */
cn_status cn_image_phash(cn_ctx *ctx, const cn_image *image, uint64_t *out) CN_CHECKED;

#endif
