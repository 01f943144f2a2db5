/* SPDX-License-Identifier: Apache-2.0 */
/* resize.h - pictures of other sizes, byte for byte as OpenCV (without IPP) makes them.
 *
 * The condition images of published ControlNets were resized by cv2.resize, so the filters here
 * follow its arithmetic, roundings included: fixed point with 11-bit weights for 8-bit data,
 * float32 sums in a fixed order for the area filter. Buffers are H x W x C, rows from the top,
 * without padding.
 */
#ifndef CN_IMAGE_RESIZE_H
#define CN_IMAGE_RESIZE_H

#include "base/base.h"
#include "image/image.h"

typedef enum cn_filter {
    CN_FILTER_NEAREST,
    CN_FILTER_LINEAR,
    CN_FILTER_CUBIC,    /* a = -0.75 */
    CN_FILTER_LANCZOS4, /* eight taps */
    CN_FILTER_AREA      /* box average when both directions shrink, else a linear variant */
} cn_filter;

/* One resize. in and out have the same number of channels. */
typedef struct cn_resize_spec {
    cn_filter filter;
    int64_t in_h, in_w, out_h, out_w, channels;
    double factor; /* 0: the scale follows from the sizes; else cv2's fx = fy (out = round(in *
                      factor)) */
} cn_resize_spec;

/* out_h x out_w x channels bytes or floats go to `out`, which the caller owns. */
cn_status cn_resize_u8(cn_ctx *ctx, const cn_resize_spec *spec, const uint8_t *in,
                       uint8_t *out) CN_CHECKED;
cn_status cn_resize_f32(cn_ctx *ctx, const cn_resize_spec *spec, const float *in,
                        float *out) CN_CHECKED;

/* A new image of width x height. */
cn_status cn_image_resize(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                          cn_filter filter, cn_image **out) CN_CHECKED;
/* The reference's resize_image: the shorter side goes to `resolution`, both sides to the nearest
 * multiple of 64 (halves to the even one); lanczos4 when that enlarges, else area. Refuses pictures
 * so narrow that a side would become 0. */
cn_status cn_image_resize_64(cn_ctx *ctx, const cn_image *in, int64_t resolution,
                             cn_image **out) CN_CHECKED;
/* The size that it gives. */
cn_status cn_resize_64_size(cn_ctx *ctx, const cn_image *in, int64_t resolution, int64_t *width,
                            int64_t *height) CN_CHECKED;
/* Fills width x height, aspect kept: the centre of `in` with the target's proportions (to the
 * nearest source pixel), resized by area when shrinking and lanczos4 when enlarging. */
cn_status cn_image_resize_cover(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                cn_image **out) CN_CHECKED;

/* All of `in` at width x height as Pillow's BICUBIC makes it, which isn't OpenCV's: a = -0.5,
 * smoothed where it shrinks. */
cn_status cn_image_resize_bicubic(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                  cn_image **out) CN_CHECKED;

/* All of `in` at width x height, whatever its proportions; filters as above. */
cn_status cn_image_resize_stretch(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                  cn_image **out) CN_CHECKED;
/* All of `in` in the middle, aspect kept, and the median colour of its border beside it. */
cn_status cn_image_resize_fill(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                               cn_image **out) CN_CHECKED;

/* The same, with what is at its edges beside it, as stable-diffusion-webui's "Resize and fill". */
cn_status cn_image_resize_extend(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                 cn_image **out) CN_CHECKED;

/* Which part of a picture fills a size. */
typedef struct cn_crop {
    double x, y; /* where it lies in what is left over: 0 left or top, 0.5 the middle, 1 right or
                    bottom */
    double
        zoom; /* its sides, as a share of those of the largest part with the size's proportions */
} cn_crop;
/* The same of another part. */
cn_status cn_image_resize_crop(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                               cn_crop crop, cn_image **out) CN_CHECKED;
/* That part of labels, whose colours aren't mixed: the nearest pixels. */
cn_status cn_image_resize_crop_labels(cn_ctx *ctx, const cn_image *in, int64_t width,
                                      int64_t height, cn_crop crop, cn_image **out) CN_CHECKED;

/* HWC3: pixels of 1 (gray), 3 (RGB) or 4 (RGBA, put on white) channels -> RGB. rgb holds 3 * pixels
 * bytes. */
cn_status cn_hwc3(cn_ctx *ctx, const uint8_t *in, int channels, size_t pixels,
                  uint8_t *rgb) CN_CHECKED;

#endif
