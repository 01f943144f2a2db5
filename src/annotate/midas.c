/* SPDX-License-Identifier: Apache-2.0 */
/* midas.c - see midas.h: what becomes of the depth. All in float, as the reference. */
#include "annotate/midas.h"

#include "annotate/kinds.h"

#include <math.h>
#include <string.h>

/* --- depth to pictures ------------------------------------------------------------------------ */

typedef struct range {
    float least, most;
} range;

static range range_of(const float *depth, int64_t n)
{
    range r = {INFINITY, -INFINITY};
    for (int64_t i = 0; i < n; i++) {
        r.least = fminf(r.least, depth[i]);
        r.most = fmaxf(r.most, depth[i]);
    }
    return r;
}

/* 0 to 1; 0 everywhere when the depth is constant. */
static float normalised(range r, float d)
{
    const float most = r.most - r.least;
    return most > 0 ? (d - r.least) / most : 0;
}

static uint8_t byte_of(float v)
{
    return (uint8_t)fmaxf(0, fminf(v, 255));
}

cn_status cn_depth_picture(cn_ctx *ctx, const float *depth, int64_t height, int64_t width,
                           cn_image **out)
{
    cn_image *image = NULL;
    const range r = range_of(depth, height * width);
    CN_TRY(cn_image_create(ctx, width, height, &image));
    for (int64_t i = 0; i < height * width; i++)
        memset(image->rgb + 3 * i, byte_of(normalised(r, depth[i]) * 255), 3);
    *out = image;
    return CN_OK;
}

/* Index -1 is 1, n is n - 2. */
static int64_t mirrored(int64_t i, int64_t n)
{
    if (n == 1) return 0;
    return i < 0 ? -i : i < n ? i : 2 * n - 2 - i;
}

/* Sobel's derivatives along x and y, added up in OpenCV's order: in another, bytes of the normals
 * differ here and there. */
static void sobel(const float *d, int64_t height, int64_t width, int64_t x, int64_t y, float *dx,
                  float *dy)
{
    const int64_t l = mirrored(x - 1, width), r = mirrored(x + 1, width);
    const float *above = d + mirrored(y - 1, height) * width, *here = d + y * width,
                *below = d + mirrored(y + 1, height) * width;
    *dx = ((above[r] - above[l]) + (below[r] - below[l])) + 2 * (here[r] - here[l]);
    *dy = ((below[l] + below[r]) + 2 * below[x]) - ((above[l] + above[r]) + 2 * above[x]);
}

cn_status cn_normal_picture(cn_ctx *ctx, const float *depth, int64_t height, int64_t width,
                            double a, double bg_threshold, cn_image **out)
{
    cn_image *image = NULL;
    const range r = range_of(depth, height * width);
    const float z = (float)a, level = (float)bg_threshold;
    CN_TRY(cn_image_create(ctx, width, height, &image));
    for (int64_t i = 0; i < height * width; i++) {
        float n[3] = {0, 0, z};
        if (!(normalised(r, depth[i]) < level))
            sobel(depth, height, width, i % width, i / width, &n[0], &n[1]);
        const float length = sqrtf(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
        for (int c = 0; c < 3; c++)
            image->rgb[3 * i + c] = byte_of(n[c] / length * 127.5f + 127.5f);
    }
    *out = image;
    return CN_OK;
}

/* --- the kinds -------------------------------------------------------------------------------- */

/* values.data[0]: [1,H,W,1] of in's size. */
static cn_status run(cn_session *s, const cn_image *in, cn_network_values *values)
{
    const size_t n = (size_t)(in->width * in->height) * 3;
    float *x = cn_alloc_array(cn_session_ctx(s), n, sizeof *x);
    if (!x) return CN_ENOMEM;
    for (size_t i = 0; i < n; i++) x[i] = (float)in->rgb[i] / 127.5f - 1.0f;
    cn_status status = cn_session_run(s, &cn_midas, in->height, in->width, x, values);
    cn_free(x);
    return status;
}

static cn_status run_depth(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_network_values v;
    CN_TRY(run(s, in, &v));
    return cn_depth_picture(cn_session_ctx(s), v.data[0], in->height, in->width, out);
}

const cn_kind cn_kind_depth = {.name = "depth",
                               .title = "depth (MiDaS), near is white",
                               .aliases = {{"depth_midas", "depth"}, {"midas", "depth"}},
                               .run = run_depth,
                               .networks = {{&cn_midas, 0}},
                               .multiple = 32,
                               .map_filter = CN_FILTER_LINEAR,
                               .detect_px = 384,
                               .measure = CN_MEASURE_DEPTH,
                               .mirror = CN_MIRROR_PLAIN};

enum { BG_THRESHOLD, ALPHA, BGR };

static const cn_kind_option normal_options[] = {
    {"bg_threshold", "where the depth, 0 far to 1 near, is below this there is no slope",
     CN_OPTION_NUMBER, 0, 1, 0.4},
    {"alpha", "how far normals lean towards the viewer", CN_OPTION_NUMBER, 0.1, 20, 2 * M_PI},
    {"bgr", "red and blue exchanged, as ControlNet 1.0's model wants it", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_normal(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *o = cn_session_args(s)->values;
    const bool bgr = o[BGR] != 0;
    cn_network_values v;
    CN_TRY(run(s, in, &v));
    CN_TRY(cn_normal_picture(cn_session_ctx(s), v.data[0], in->height, in->width, o[ALPHA],
                             o[BG_THRESHOLD], out));
    uint8_t *rgb = (*out)->rgb;
    for (int64_t i = 0; bgr && i < 3 * in->width * in->height; i += 3) {
        const uint8_t red = rgb[i];
        rgb[i] = rgb[i + 2];
        rgb[i + 2] = red;
    }
    return CN_OK;
}

static cn_mirror mirror_normal(const cn_annotate_args *args)
{
    return args->values[BGR] != 0 ? CN_MIRROR_NORMALS_BGR : CN_MIRROR_NORMALS;
}

const cn_kind cn_kind_normal = {.name = "normal",
                                .title = "surface normals from depth (MiDaS)",
                                .aliases = {{"normal_midas", "normal"}},
                                CN_KIND_OPTIONS(normal_options),
                                .run = run_normal,
                                .networks = {{&cn_midas, 0}},
                                .multiple = 32,
                                .map_filter = CN_FILTER_LINEAR,
                                .detect_px = 384,
                                .measure = CN_MEASURE_NORMALS,
                                .mirror_by = mirror_normal};
