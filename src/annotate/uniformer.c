/* SPDX-License-Identifier: Apache-2.0 */
/* uniformer.c - see uniformer.h. The scores at the picture's size would take 150 floats a pixel, so
 * they are made row by row. */
#include "annotate/uniformer.h"

#include "annotate/kinds.h"
#include "annotate/labels.h"
#include "image/bilinear.h"

#include <math.h>
#include <string.h>

enum { LONG_SIDE = 2048, SHORT_SIDE = 512, LEAST_SIDE = 32 };

void cn_seg_size(int64_t height, int64_t width, int64_t *h, int64_t *w)
{
    const double f =
        fmin(LONG_SIDE / (double)CN_MAX(height, width), SHORT_SIDE / (double)CN_MIN(height, width));
    *h = CN_MAX((int64_t)((double)height * f + 0.5), 1);
    *w = CN_MAX((int64_t)((double)width * f + 0.5), 1);
}

cn_status cn_seg_input(cn_ctx *ctx, const cn_image *in, int64_t h, int64_t w, float *out)
{
    static const float mean[3] = {123.675f, 116.28f, 103.53f},
                       deviation[3] = {58.395f, 57.12f, 57.375f};
    cn_image *sized = NULL;
    CN_TRY(cn_image_resize(ctx, in, w, h, CN_FILTER_LINEAR, &sized));
    for (int64_t i = 0; i < 3 * h * w; i++)
        out[i] = ((float)sized->rgb[i - i % 3 + 2 - i % 3] - mean[i % 3]) / deviation[i % 3];
    cn_image_destroy(sized);
    return CN_OK;
}

/* A row of scores at the network's size. */
static void net_row(const cn_seg_scores *s, int64_t y, float *out)
{
    const cn_tap t = cn_bilinear_tap(y, s->h, s->net_h, false);
    const int64_t row = s->w * s->classes;
    cn_bilinear_row(s->scores + t.a * row, s->scores + t.b * row, t.t, s->w, s->classes, s->net_w,
                    false, out);
}

/* A picture's row y of labels. work: two rows at the network's size, and one at the picture's. */
static void label_row(const cn_seg_scores *s, int64_t height, int64_t width, int64_t y, float *work,
                      uint8_t *labels)
{
    const cn_tap t = cn_bilinear_tap(y, s->net_h, height, false);
    const int64_t C = s->classes;
    float *above = work, *below = above + s->net_w * C, *row = below + s->net_w * C;
    net_row(s, t.a, above);
    if (t.t > 0) net_row(s, t.b, below);
    cn_bilinear_row(above, t.t > 0 ? below : above, t.t, s->net_w, C, width, false, row);
    for (int64_t x = 0; x < width; x++) {
        const float *p = row + x * C;
        int64_t best = 0;
        for (int64_t c = 1; c < C; c++)
            if (p[c] > p[best]) best = c;
        labels[x] = (uint8_t)best;
    }
}

cn_status cn_seg_labels(cn_ctx *ctx, const cn_seg_scores *s, int64_t height, int64_t width,
                        uint8_t *labels)
{
    const int threads = cn_threads(ctx);
    const size_t each = (size_t)((2 * s->net_w + width) * s->classes);
    float *work = cn_alloc_array(ctx, each * (size_t)threads, sizeof *work);
    if (!work) return CN_ENOMEM;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        for (int64_t y = height * part / threads; y < height * (part + 1) / threads; y++)
            label_row(s, height, width, y, work + each * (size_t)part, labels + y * width);
    cn_free(work);
    return CN_OK;
}

/* labels: room for every pixel. */
static cn_status find_labels(cn_session *s, const cn_image *in, uint8_t *labels)
{
    cn_ctx *ctx = cn_session_ctx(s);
    cn_network_values v;
    int64_t h, w;
    cn_seg_size(in->height, in->width, &h, &w);
    if (CN_MIN(h, w) < LEAST_SIDE)
        return cn_fail(ctx, CN_EINVAL,
                       "%s sees %lldx%lld of a picture of %lldx%lld px: sides must be %d at least, "
                       "so that none is more than %d times the other",
                       cn_uniformer.name, (long long)w, (long long)h, (long long)in->width,
                       (long long)in->height, LEAST_SIDE, LONG_SIDE / LEAST_SIDE);
    float *x = cn_alloc_array(ctx, (size_t)(h * w), 3 * sizeof *x);
    cn_status status = x ? cn_seg_input(ctx, in, h, w, x) : CN_ENOMEM;
    if (status == CN_OK) status = cn_session_run(s, &cn_uniformer, h, w, x, &v);
    cn_free(x);
    if (status != CN_OK) return status;
    const cn_seg_scores scores = {v.data[0], v.shape[0][1], v.shape[0][2], v.shape[0][3], h, w};
    return cn_seg_labels(ctx, &scores, in->height, in->width, labels);
}

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const int64_t n = in->width * in->height;
    cn_image *image = NULL;
    uint8_t *labels = cn_alloc(ctx, (size_t)n);
    cn_status status = labels ? find_labels(s, in, labels) : CN_ENOMEM;
    if (status == CN_OK) status = cn_image_create(ctx, in->width, in->height, &image);
    for (int64_t i = 0; status == CN_OK && i < n; i++)
        memcpy(image->rgb + 3 * i, cn_ade20k_palette[labels[i]], 3);
    cn_free(labels);
    if (status == CN_OK) *out = image;
    return status;
}

const cn_kind cn_kind_seg = {.name = "seg",
                             .title = "what is where, in ADE20K's colours (UniFormer)",
                             .aliases = {{"seg_ufade20k", "seg"}, {"segmentation", "seg"}},
                             .run = run,
                             .networks = {{&cn_uniformer, 0}},
                             .map_filter = CN_FILTER_NEAREST,
                             .detect_px = 512,
                             .measure = CN_MEASURE_CLASSES,
                             .mirror = CN_MIRROR_PLAIN};
