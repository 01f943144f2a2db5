/* SPDX-License-Identifier: Apache-2.0 */
/* xdog.c - see xdog.h. */
#include "annotate/xdog.h"

#include "annotate/kinds.h"
#include "image/blur.h"

#include <math.h>
#include <string.h>

static const double fine_sigma = 0.5, coarse_sigma = 5;

/* A channel at a time, so that large pictures take little memory. */
static cn_status least_difference(cn_ctx *ctx, const cn_image *in, float *least)
{
    const int64_t w = in->width, h = in->height;
    const size_t n = (size_t)(w * h);
    float *source = cn_alloc_array(ctx, n, sizeof *source);
    float *fine = cn_alloc_array(ctx, n, sizeof *fine);
    float *coarse = cn_alloc_array(ctx, n, sizeof *coarse);
    cn_status s = source && fine && coarse ? CN_OK : CN_ENOMEM;
    for (size_t c = 0; s == CN_OK && c < 3; c++) {
        for (size_t i = 0; i < n; i++) source[i] = in->rgb[3 * i + c];
        s = cn_gaussian_blur_f32(ctx, source, w, h, 1, fine_sigma, fine);
        if (s == CN_OK) s = cn_gaussian_blur_f32(ctx, source, w, h, 1, coarse_sigma, coarse);
        for (size_t i = 0; s == CN_OK && i < n; i++) {
            const float difference = coarse[i] - fine[i];
            least[i] = c ? fminf(least[i], difference) : difference;
        }
    }
    cn_free(source);
    cn_free(fine);
    cn_free(coarse);
    return s;
}

cn_status cn_scribble_xdog(cn_ctx *ctx, const cn_image *in, double threshold, cn_image **out)
{
    const size_t n = (size_t)(in->width * in->height);
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    float *least = cn_alloc_array(ctx, n, sizeof *least);
    cn_status s = least ? least_difference(ctx, in, least) : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) {
        const uint8_t light = (uint8_t)fmaxf(0, fminf(255, 255 - least[i]));
        const uint8_t twice = (uint8_t)(2 * (255 - light));
        memset(image->rgb + 3 * i, (double)twice > threshold ? 255 : 0, 3);
    }
    cn_free(least);
    if (s == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return s;
}

/* --- the kind --------------------------------------------------------------------------------- */

static const cn_kind_option options[] = {
    {"threshold", "how much darker than its surroundings a stroke is", CN_OPTION_NUMBER, 1, 64, 32},
};

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_scribble_xdog(cn_session_ctx(s), in, cn_session_args(s)->values[0], out);
}

const cn_kind cn_kind_scribble_xdog = {
    .name = "scribble_xdog",
    .title = "a photograph as a scribble, by differences of Gaussians",
    CN_KIND_OPTIONS(options),
    .run = run,
    .measure = CN_MEASURE_EDGES,
    .mirror = CN_MIRROR_PLAIN};
