/* xdog.c - see xdog.h. */
#include "annotate/xdog.h"

#include "annotate/blur.h"

#include <math.h>
#include <string.h>

static const double fine_sigma = 0.5, coarse_sigma = 5;

cn_status cn_scribble_xdog(cn_ctx *ctx, const cn_image *in, double threshold, cn_image **out)
{
    const int64_t w = in->width, h = in->height;
    const size_t n = (size_t)(w * h), bytes = 3 * n * sizeof(float);
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, w, h, &image));
    float *source = cn_alloc(ctx, bytes), *fine = cn_alloc(ctx, bytes),
          *coarse = cn_alloc(ctx, bytes);
    cn_status s = source && fine && coarse ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < 3 * n; i++) source[i] = in->rgb[i];
    if (s == CN_OK) s = cn_gaussian_blur_f32(ctx, source, w, h, 3, fine_sigma, fine);
    if (s == CN_OK) s = cn_gaussian_blur_f32(ctx, source, w, h, 3, coarse_sigma, coarse);
    for (size_t i = 0; s == CN_OK && i < 3 * n; i += 3) {
        const float r = coarse[i] - fine[i], g = coarse[i + 1] - fine[i + 1];
        const float least = fminf(fminf(r, g), coarse[i + 2] - fine[i + 2]);
        const uint8_t light = (uint8_t)fmaxf(0, fminf(255, 255 - least));
        const uint8_t twice = (uint8_t)(2 * (255 - light));
        memset(image->rgb + i, (double)twice > threshold ? 255 : 0, 3);
    }
    cn_free(source);
    cn_free(fine);
    cn_free(coarse);
    if (s == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return s;
}
