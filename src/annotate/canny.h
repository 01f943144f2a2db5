/* SPDX-License-Identifier: Apache-2.0 */
/* canny.h - edges after Canny, byte for byte cv2.Canny with aperture 3. */
#ifndef CN_ANNOTATE_CANNY_H
#define CN_ANNOTATE_CANNY_H

#include "base/base.h"
#include "image/image.h"

/* in: height x width x channels bytes, channels 1 or 3 (of colour the channel with the largest
 * gradient counts, pixel by pixel). edges: height x width bytes, 0 or 255. Thresholds are compared
 * with
 * |dx| + |dy| (at most 2040), or with l2 with the length of the gradient; swapped when low > high.
 */
cn_status cn_canny_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height, int channels,
                      double low, double high, bool l2, uint8_t *edges) CN_CHECKED;

/* The same as a white-on-black image. */
cn_status cn_canny(cn_ctx *ctx, const cn_image *in, double low, double high, bool l2,
                   cn_image **out) CN_CHECKED;

#endif
