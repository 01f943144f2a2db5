/* SPDX-License-Identifier: Apache-2.0 */
/* lineart_standard.c - dark lines on a light ground as white lines on black, without a network: how
 * much darker a pixel is than its surroundings, scaled so that the usual line becomes half white.
 *
 * As lineart_standard of stable-diffusion-webui's ControlNet extension and controlnet_aux's
 * LineartStandardDetector, in float32 as they compute.
 */
#include "annotate/kinds.h"
#include "image/blur.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIGMA, THRESHOLD };

/* A usual line is taken for at least so dark, so that a picture without lines stays black. */
static const float LEAST_USUAL = 16;

static const cn_kind_option options[] = {
    {"sigma", "blur in pixels that makes the surroundings", CN_OPTION_NUMBER, 0.1, 64, 6},
    {"threshold", "what is darker by more than this counts when the usual line is looked for",
     CN_OPTION_NUMBER, 0, 255, 8},
};

/* The least over the channels of (blurred - value), held to 0..255. One channel at a time, so that
 * large pictures take little memory. */
static cn_status darkness_of(cn_ctx *ctx, const cn_image *in, double sigma, float *darkness)
{
    const int64_t w = in->width, h = in->height;
    const size_t n = (size_t)(w * h);
    float *values = cn_alloc_array(ctx, n, sizeof *values);
    float *blurred = cn_alloc_array(ctx, n, sizeof *blurred);
    cn_status s = values && blurred ? CN_OK : CN_ENOMEM;
    for (size_t c = 0; s == CN_OK && c < 3; c++) {
        for (size_t i = 0; i < n; i++) values[i] = in->rgb[3 * i + c];
        s = cn_gaussian_blur_f32(ctx, values, w, h, 1, sigma, blurred);
        for (size_t i = 0; s == CN_OK && i < n; i++) {
            const float difference = blurred[i] - values[i];
            darkness[i] = c ? fminf(darkness[i], difference) : difference;
        }
    }
    for (size_t i = 0; s == CN_OK && i < n; i++) darkness[i] = fminf(255, fmaxf(0, darkness[i]));
    cn_free(values);
    cn_free(blurred);
    return s;
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median of what is above the threshold; of an even number the mean of the middle two. */
static cn_status usual_line(cn_ctx *ctx, const float *darkness, size_t n, double threshold,
                            float *out)
{
    size_t above = 0;
    float *list = cn_alloc_array(ctx, n, sizeof *list);
    if (!list) return CN_ENOMEM;
    for (size_t i = 0; i < n; i++)
        if ((double)darkness[i] > threshold) list[above++] = darkness[i];
    *out = LEAST_USUAL;
    if (above) {
        qsort(list, above, sizeof *list, ascending);
        *out = fmaxf(*out, (list[(above - 1) / 2] + list[above / 2]) / 2);
    }
    cn_free(list);
    return CN_OK;
}

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const double *v = cn_session_args(s)->values;
    const size_t n = (size_t)(in->width * in->height);
    cn_image *image = NULL;
    float usual = LEAST_USUAL, *darkness = cn_alloc_array(ctx, n, sizeof *darkness);
    cn_status status = darkness ? darkness_of(ctx, in, v[SIGMA], darkness) : CN_ENOMEM;
    if (status == CN_OK) status = usual_line(ctx, darkness, n, v[THRESHOLD], &usual);
    if (status == CN_OK) status = cn_image_create(ctx, in->width, in->height, &image);
    for (size_t i = 0; status == CN_OK && i < n; i++)
        memset(image->rgb + 3 * i, (int)fminf(255, darkness[i] / usual * 127), 3);
    cn_free(darkness);
    if (status == CN_OK) *out = image;
    return status;
}

const cn_kind cn_kind_lineart_standard = {
    .name = "lineart_standard",
    .title = "dark lines on light as white on black, without a network",
    CN_KIND_OPTIONS(options),
    .run = run,
    .measure = CN_MEASURE_EDGES,
    .mirror = CN_MIRROR_PLAIN};
