/* SPDX-License-Identifier: Apache-2.0 */
/* midas.h - depth by MiDaS (DPT-hybrid), and surface normals from it. */
#ifndef CN_ANNOTATE_MIDAS_H
#define CN_ANNOTATE_MIDAS_H

#include "annotate/network.h"

/* x: RGB in [-1,1], sides multiples of 32. out[0]: inverse depth [1,H,W,1], 0 and up, without a
 * fixed scale. */
extern const cn_network cn_midas;

/* Near is white: (d - least) / range, all black where the depth is constant. depth: height x
 * width. */
cn_status cn_depth_picture(cn_ctx *ctx, const float *depth, int64_t height, int64_t width,
                           cn_image **out) CN_CHECKED;
/* Normals as red, green, blue = x, y, z from [-1,1]: the depth's Sobel derivatives, 0 where the
 * normalised depth is below bg_threshold, and z = a. As ControlNet 1.0's annotator. */
cn_status cn_normal_picture(cn_ctx *ctx, const float *depth, int64_t height, int64_t width,
                            double a, double bg_threshold, cn_image **out) CN_CHECKED;

#endif
