/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise.h - conditions that look at one pixel at a time. */
#ifndef CN_ANNOTATE_POINTWISE_H
#define CN_ANNOTATE_POINTWISE_H

#include "base/base.h"
#include "image/image.h"

cn_status cn_image_copy(cn_ctx *ctx, const cn_image *in, cn_image **out) CN_CHECKED;
/* 255 - value. */
cn_status cn_image_invert(cn_ctx *ctx, const cn_image *in, cn_image **out) CN_CHECKED;
/* A user's drawing, dark strokes on a light ground, as white on black: where min(R, G, B) < 127.
 * With `mask` the input is white on black already: where min(R, G, B) > 127. As the reference's
 * scribble apps. */
cn_status cn_scribble(cn_ctx *ctx, const cn_image *in, bool mask, cn_image **out) CN_CHECKED;
/* Whether a drawing is light on a dark ground: more of it is dark (no channel above 127) than light
 * (none below). */
bool cn_is_light_on_dark(const cn_image *in);
/* White where min(R, G, B) > level, as the extension's `threshold`. */
cn_status cn_threshold(cn_ctx *ctx, const cn_image *in, double level, cn_image **out) CN_CHECKED;

#endif
