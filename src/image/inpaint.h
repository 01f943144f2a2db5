/* SPDX-License-Identifier: Apache-2.0 */
/* inpaint.h - what stable-diffusion-webui makes of a mask, and of the picture under it, byte for
 * byte.
 *
 * A mask is height x width bytes: 255 drawn anew, 0 kept, degrees between them. Sources: webui's
 * modules/processing.py and modules/masking.py, with the arithmetic of Pillow and OpenCV that they
 * stand on.
 */
#ifndef CN_IMAGE_INPAINT_H
#define CN_IMAGE_INPAINT_H

#include "image/image.h"

/* A rectangle of a picture. */
typedef struct cn_area {
    int64_t x, y, width, height;
} cn_area;

/* Softens the mask's edge in place, `blur` (0 to 64) pixels of deviation; 0: not. */
cn_status cn_mask_soften(cn_ctx *ctx, uint8_t *mask, int64_t width, int64_t height,
                         int blur) CN_CHECKED;
/* What of the picture "only masked" draws: the smallest rectangle around all that isn't 0, with
 * `padding` pixels on each side, brought to the proportions of draw_w x draw_h as far as the
 * picture goes. False: the mask is 0 everywhere. */
bool cn_mask_area(const uint8_t *mask, int64_t width, int64_t height, int64_t padding,
                  int64_t draw_w, int64_t draw_h, cn_area *out);
/* Which latents are drawn: 1, or 0 where the picture is kept; [height/factor, width/factor]. */
cn_status cn_mask_latents(cn_ctx *ctx, const uint8_t *mask, int64_t width, int64_t height,
                          int64_t factor, float *out) CN_CHECKED;
/* Replaces what is under the mask, of the image's size, by blurred colours from around it. */
cn_status cn_inpaint_fill(cn_ctx *ctx, cn_image *image, const uint8_t *mask) CN_CHECKED;
/* Puts `original` over `drawn`, of the same size, as far as the mask is below 255. */
void cn_inpaint_overlay(cn_image *drawn, const cn_image *original, const uint8_t *mask);

#endif
