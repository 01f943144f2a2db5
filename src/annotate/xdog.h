/* SPDX-License-Identifier: Apache-2.0 */
/* xdog.h - scribbles from photographs by the extended difference of Gaussians. */
#ifndef CN_ANNOTATE_XDOG_H
#define CN_ANNOTATE_XDOG_H

#include "base/base.h"
#include "image/image.h"

/* White where a pixel is darker than its surroundings: m, the least over the channels of (blur by 5
 * px - blur by half a px), rounded up to 0..255; 2 m above `threshold` (1..64 in the extension, 32)
 * is a stroke. As the scribble_xdog of stable-diffusion-webui's ControlNet extension, whose 2 m is
 * a byte: m of 128 and more begins anew at 0. *out: 0 and 255. */
cn_status cn_scribble_xdog(cn_ctx *ctx, const cn_image *in, double threshold,
                           cn_image **out) CN_CHECKED;

#endif
