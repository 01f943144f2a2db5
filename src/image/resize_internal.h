/* SPDX-License-Identifier: Apache-2.0 */
/* resize_internal.h - what resize.c hands to its filters. Sizes are already checked. */
#ifndef CN_IMAGE_RESIZE_INTERNAL_H
#define CN_IMAGE_RESIZE_INTERNAL_H

#include "image/resize.h"

typedef struct cn_resize_job {
    int64_t in_h, in_w, out_h, out_w, channels;
    double scale_x, scale_y; /* source pixels per output pixel */
    cn_filter filter;
    bool is_f32; /* else bytes */
} cn_resize_job;

/* linear, cubic, lanczos4, and area where a direction enlarges. */
cn_status cn_resize_taps(cn_ctx *ctx, const cn_resize_job *job, const void *in,
                         void *out) CN_CHECKED;
/* The box average; both scales are >= 1. */
cn_status cn_resize_area(cn_ctx *ctx, const cn_resize_job *job, const void *in,
                         void *out) CN_CHECKED;

#endif
