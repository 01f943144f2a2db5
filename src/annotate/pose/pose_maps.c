/* SPDX-License-Identifier: Apache-2.0 */
/* pose_maps.c - what goes into OpenPose's networks and what their maps become at the picture's
 * size.
 *
 * Version 1.0 resizes with cubic filters; version 1.1 by area where that shrinks, else by lanczos4.
 */
#include "annotate/pose/pose.h"

#include "image/resize.h"

#include <math.h>
#include <string.h>

enum { BOX = 368, RADIUS = 12 };

static int64_t padded(int64_t n)
{
    return (n + CN_POSE_STRIDE - 1) / CN_POSE_STRIDE * CN_POSE_STRIDE;
}

static cn_pose_input sized(int64_t h, int64_t w, double factor)
{
    h = CN_MAX(h, 1), w = CN_MAX(w, 1);
    return (cn_pose_input){
        .h = h, .w = w, .padded_h = padded(h), .padded_w = padded(w), .factor = factor};
}

static cn_pose_input scaled(int64_t height, int64_t width, double factor)
{
    return sized(llrint((double)height * factor), llrint((double)width * factor), factor);
}

cn_pose_input cn_pose_body_input(cn_pose_version version, int64_t height, int64_t width)
{
    const double factor = 0.5 * BOX / (double)height;
    if (version == CN_POSE_V10) return scaled(height, width, factor);
    return sized((int64_t)((double)height * factor), (int64_t)((double)width * factor), 0);
}

cn_pose_input cn_pose_hand_input(cn_pose_version version, int64_t height, int64_t width, int scale)
{
    const double size = 0.5 * (scale + 1) * BOX;
    if (version == CN_POSE_V10) return scaled(height, width, size / (double)height);
    return sized((int64_t)size, (int64_t)size, 0);
}

/* The filter for sizes of h x w becoming H x W. */
static cn_filter filter_of(cn_pose_version version, int64_t h, int64_t w, int64_t H, int64_t W)
{
    if (version == CN_POSE_V10) return CN_FILTER_CUBIC;
    return H + W < h + w ? CN_FILTER_AREA : CN_FILTER_LANCZOS4;
}

cn_status cn_pose_input_fill(cn_ctx *ctx, cn_pose_version version, const cn_pose_input *in,
                             const cn_image *picture, float *out)
{
    const cn_resize_spec spec = {
        .filter = filter_of(version, picture->height, picture->width, in->h, in->w),
        .in_h = picture->height,
        .in_w = picture->width,
        .out_h = in->h,
        .out_w = in->w,
        .channels = 3,
        .factor = in->factor};
    uint8_t *small = cn_alloc_array(ctx, (size_t)(in->h * in->w), 3);
    cn_status s = small ? cn_resize_u8(ctx, &spec, picture->rgb, small) : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < in->padded_h * in->padded_w; i++) {
        const int64_t y = i / in->padded_w, x = i % in->padded_w;
        const bool inside = y < in->h && x < in->w;
        for (int c = 0; c < 3; c++)
            out[3 * i + c] =
                inside ? (float)small[3 * (y * in->w + x) + 2 - c] / 256.0f - 0.5f : 0.0f;
    }
    cn_free(small);
    return s;
}

cn_status cn_pose_enlarge(cn_ctx *ctx, cn_pose_version version, const cn_pose_input *in,
                          const float *maps, int64_t C, int64_t height, int64_t width, float *out)
{
    const int64_t h = in->padded_h / CN_POSE_STRIDE, w = in->padded_w / CN_POSE_STRIDE;
    const cn_resize_spec up = {
        .filter = version == CN_POSE_V10 ? CN_FILTER_CUBIC : CN_FILTER_LANCZOS4,
        .in_h = h,
        .in_w = w,
        .out_h = in->padded_h,
        .out_w = in->padded_w,
        .channels = C,
        .factor = CN_POSE_STRIDE};
    const cn_resize_spec fit = {.filter = filter_of(version, in->h, in->w, height, width),
                                .in_h = in->h,
                                .in_w = in->w,
                                .out_h = height,
                                .out_w = width,
                                .channels = C};
    float *large = cn_alloc_array(ctx, (size_t)(in->padded_h * in->padded_w * C), sizeof *large);
    cn_status s = large ? cn_resize_f32(ctx, &up, maps, large) : CN_ENOMEM;
    for (int64_t y = 0; s == CN_OK && y < in->h; y++) /* the padding falls away */
        memmove(large + y * in->w * C, large + y * in->padded_w * C,
                (size_t)(in->w * C) * sizeof *large);
    if (s == CN_OK) s = cn_resize_f32(ctx, &fit, large, out);
    cn_free(large);
    return s;
}

cn_status cn_pose_hand_add(cn_ctx *ctx, cn_pose_version version, const cn_pose_input *in,
                           const float *maps, int64_t height, int64_t width, float *work,
                           double *mean)
{
    CN_TRY(cn_pose_enlarge(ctx, version, in, maps, CN_POSE_HAND_MAPS, height, width, work));
    for (int64_t i = 0; i < height * width * CN_POSE_HAND_MAPS; i++)
        mean[i] += (double)(work[i] / (float)CN_POSE_HAND_SCALES);
    return CN_OK;
}

/* Index -1 is 0, n is n - 1. */
static int64_t mirrored(int64_t i, int64_t n)
{
    while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
    return i;
}

/* Pairs are added from the outermost to the centre's neighbours, as scipy does. */
void cn_pose_smooth(double *plane, int64_t height, int64_t width, double *rows)
{
    double k[RADIUS + 1], sum = 0;
    for (int i = -RADIUS; i <= RADIUS; i++) sum += exp(-0.5 / 9.0 * i * i);
    for (int i = 0; i <= RADIUS; i++) k[i] = exp(-0.5 / 9.0 * i * i) / sum;
    for (int64_t y = 0; y < height; y++) {
        double *row = rows + y * width;
        for (int64_t x = 0; x < width; x++) row[x] = plane[y * width + x] * k[0];
        for (int64_t i = RADIUS; i > 0; i--) {
            const double *above = plane + mirrored(y - i, height) * width;
            const double *below = plane + mirrored(y + i, height) * width;
            for (int64_t x = 0; x < width; x++) row[x] += (above[x] + below[x]) * k[i];
        }
    }
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            const double *row = rows + y * width;
            double v = row[x] * k[0];
            for (int64_t i = RADIUS; i > 0; i--)
                v += (row[mirrored(x - i, width)] + row[mirrored(x + i, width)]) * k[i];
            plane[y * width + x] = v;
        }
}
