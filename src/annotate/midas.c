/* SPDX-License-Identifier: Apache-2.0 */
/* midas.c - see midas.h: what becomes of the depth. All in float, as the reference. */
#include "annotate/midas.h"

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

cn_status cn_depth(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_network_values v;
    CN_TRY(run(s, in, &v));
    return cn_depth_picture(cn_session_ctx(s), v.data[0], in->height, in->width, out);
}

cn_status cn_normal(cn_session *s, const cn_image *in, double a, double bg_threshold, bool bgr,
                    cn_image **out)
{
    cn_network_values v;
    CN_TRY(run(s, in, &v));
    CN_TRY(cn_normal_picture(cn_session_ctx(s), v.data[0], in->height, in->width, a, bg_threshold,
                             out));
    uint8_t *rgb = (*out)->rgb;
    for (int64_t i = 0; bgr && i < 3 * in->width * in->height; i += 3) {
        const uint8_t red = rgb[i];
        rgb[i] = rgb[i + 2];
        rgb[i + 2] = red;
    }
    return CN_OK;
}
