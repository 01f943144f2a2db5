/* SPDX-License-Identifier: Apache-2.0 */
/* blur.h - Gaussian blur as OpenCV (without IPP) computes it. */
#ifndef CN_IMAGE_BLUR_H
#define CN_IMAGE_BLUR_H

#include "base/base.h"

/* in, out: height x width x channels, not the same buffer; borders are reflected without repeating
 * the edge (dcb|abcd|cba). sigma: 0.1..64 pixels, else CN_EINVAL. The kernel has round(8 sigma + 1)
 * taps, made odd. */
cn_status cn_gaussian_blur_f32(cn_ctx *ctx, const float *in, int64_t width, int64_t height,
                               int64_t channels, double sigma, float *out) CN_CHECKED;
/* Byte for byte cv2.GaussianBlur: round(6 sigma + 1) taps, made odd, with integer weights in
 * 1/256. */
cn_status cn_gaussian_blur_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                              int64_t channels, double sigma, uint8_t *out) CN_CHECKED;
/* The same along one axis alone, with `taps` (odd, at most 515) weights; sigma: 0.1..64 pixels. */
cn_status cn_gaussian_blur_axis_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height,
                                   int64_t channels, double sigma, int64_t taps, bool vertical,
                                   uint8_t *out) CN_CHECKED;

#endif
