/* SPDX-License-Identifier: Apache-2.0 */
/* labels.c - label maps and normals of data sets as pictures. */
#include "annotate/labels.h"

#include "annotate/kinds.h"
#include "annotate/midas.h"

#include <math.h>
#include <string.h>

cn_status cn_ade20k_colors(cn_ctx *ctx, const cn_image *labels, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, labels->width, labels->height, &image));
    for (int64_t i = 0; i < labels->width * labels->height; i++) {
        const uint8_t *p = labels->rgb + 3 * i;
        if (p[0] != p[1] || p[0] != p[2]) {
            cn_image_destroy(image);
            return cn_fail(
                ctx, CN_EINVAL,
                "ADE20K labels: the pixel at %lld, %lld is coloured: a label map is grey, 0 to 150 "
                "(the scene parsing benchmark's; the full ADE20K's _seg files are not read)",
                (long long)(i % labels->width), (long long)(i / labels->width));
        }
        if (p[0] >= 1 && p[0] <= CN_ADE20K_CLASSES)
            memcpy(image->rgb + 3 * i, cn_ade20k_palette[p[0] - 1], 3);
    }
    *out = image;
    return CN_OK;
}

/* --- arrays ----------------------------------------------------------------------------------- */

/* [height, width, channels], where a single channel may be left out. */
static cn_status check_array(cn_ctx *ctx, const cn_npy *a, int64_t channels, const char *what)
{
    const bool flat = a->ndim == 2 && channels == 1;
    if (flat || (a->ndim == 3 && a->shape[2] == channels))
        return cn_image_check_size(ctx, a->shape[1], a->shape[0]);
    cn_str shape = {0};
    for (int d = 0; d < a->ndim; d++)
        cn_str_addf(&shape, "%s%lld", d ? ", " : "", (long long)a->shape[d]);
    cn_status s = cn_fail(ctx, CN_EFORMAT, "%s of shape [%s]; [height, width, %lld] is expected",
                          what, shape.data ? shape.data : "", (long long)channels);
    cn_str_free(&shape);
    return s;
}

static cn_status check_mask(cn_ctx *ctx, const cn_npy *a, const cn_npy *valid)
{
    if (!valid) return CN_OK;
    CN_TRY(check_array(ctx, valid, 1, "a mask"));
    if (valid->shape[0] == a->shape[0] && valid->shape[1] == a->shape[1]) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "a mask of %lld x %lld for an array of %lld x %lld",
                   (long long)valid->shape[1], (long long)valid->shape[0], (long long)a->shape[1],
                   (long long)a->shape[0]);
}

/* trunc(127.5 n + 127.5) in the array's own precision, as numpy computes it. */
static uint8_t normal_byte(double n, bool single)
{
    const double v = single ? (double)((float)n * 127.5f + 127.5f) : n * 127.5 + 127.5;
    return (uint8_t)fmax(0, fmin(255, v));
}

cn_status cn_normals_colors(cn_ctx *ctx, const cn_npy *normals, const cn_npy *valid, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(check_array(ctx, normals, 3, "normals"));
    CN_TRY(check_mask(ctx, normals, valid));
    CN_TRY(cn_image_create(ctx, normals->shape[1], normals->shape[0], &image));
    for (int64_t i = 0; i < image->width * image->height; i++) {
        const double *n = normals->values + 3 * i;
        const bool hole = (valid && valid->values[i] == 0) || !isfinite(n[0] + n[1] + n[2]);
        for (int c = 0; c < 3; c++)
            image->rgb[3 * i + c] = normal_byte(hole ? 0 : n[c], normals->single);
    }
    *out = image;
    return CN_OK;
}

/* 1/d of every valid pixel, 0 at holes; [height, width], cn_free it. */
static cn_status inverse_depth(cn_ctx *ctx, const cn_npy *depth, const cn_npy *valid, double **out)
{
    CN_TRY(check_array(ctx, depth, 1, "depth"));
    CN_TRY(check_mask(ctx, depth, valid));
    double *near = cn_alloc_array(ctx, (size_t)depth->elements, sizeof *near);
    if (!near) return CN_ENOMEM;
    for (int64_t i = 0; i < depth->elements; i++) {
        const double d = depth->values[i];
        const bool hole = (valid && valid->values[i] == 0) || !(d > 0) || !isfinite(1 / d);
        near[i] = hole ? 0 : 1 / d; /* 0 at infinity too */
    }
    *out = near;
    return CN_OK;
}

static void range_of(const double *near, int64_t n, double *least, double *most)
{
    *least = INFINITY;
    *most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (near[i] <= 0) continue;
        *least = fmin(*least, near[i]);
        *most = fmax(*most, near[i]);
    }
}

cn_status cn_metric_depth_map(cn_ctx *ctx, const cn_npy *depth, const cn_npy *valid, cn_image **out)
{
    double *near = NULL, least, most;
    cn_image *image = NULL;
    CN_TRY(inverse_depth(ctx, depth, valid, &near));
    cn_status s = cn_image_create(ctx, depth->shape[1], depth->shape[0], &image);
    range_of(near, depth->elements, &least, &most);
    for (int64_t i = 0; s == CN_OK && most > least && i < depth->elements; i++)
        if (near[i] > 0)
            memset(image->rgb + 3 * i, (int)(255 * ((near[i] - least) / (most - least))), 3);
    cn_free(near);
    if (s == CN_OK) *out = image;
    return s;
}

cn_status cn_metric_normals(cn_ctx *ctx, const cn_npy *depth, const cn_npy *valid, double reach,
                            double a, double bg_threshold, cn_image **out)
{
    double *near = NULL, least, most;
    CN_TRY(inverse_depth(ctx, depth, valid, &near));
    range_of(near, depth->elements, &least, &most);
    float *scaled = cn_alloc_array(ctx, (size_t)depth->elements, sizeof *scaled);
    for (int64_t i = 0; scaled && i < depth->elements; i++)
        scaled[i] = most > 0 ? (float)(near[i] / most * reach) : 0;
    cn_status s = scaled ? cn_normal_picture(ctx, scaled, depth->shape[0], depth->shape[1], a,
                                             bg_threshold, out)
                         : CN_ENOMEM;
    cn_free(near);
    cn_free(scaled);
    return s;
}

/* --- the kinds -------------------------------------------------------------------------------- */

static cn_status run_seg_ade(cn_session *s, const cn_image *in, cn_image **out)
{
    /* A resized label map would hold classes that are in between. */
    if (cn_session_args(s)->resolution || cn_session_args(s)->detect_resolution)
        return cn_fail(cn_session_ctx(s), CN_EINVAL,
                       "seg_ade takes label maps as they are: leave out the resolution");
    return cn_ade20k_colors(cn_session_ctx(s), in, out);
}

const cn_kind cn_kind_seg_ade = {
    .name = "seg_ade",
    .title = "an ADE20K label map (grey, 0 to 150) in the colours of its classes",
    .run = run_seg_ade,
    .takes = CN_TAKES_LABELS,
    .from_picture = "seg",
    .mirror = CN_MIRROR_PLAIN};

/* data/coco.h makes the pictures. */
static const cn_kind_option coco_options[] = {
    {"skip_crowd", "groups drawn as one (iscrowd) are left out", CN_OPTION_BOOL, 0, 1, 0},
};

const cn_kind cn_kind_seg_coco = {
    .name = "seg_coco",
    .title = "COCO's polygons and run lengths in the colours of their categories",
    CN_KIND_OPTIONS(coco_options),
    .takes = CN_TAKES_COCO,
    .mirror = CN_MIRROR_PLAIN};

static cn_status run_normals(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                             const cn_npy *valid, cn_image **out)
{
    (void)args;
    return cn_normals_colors(ctx, array, valid, out);
}

const cn_kind cn_kind_normal_diode = {.name = "normal_diode",
                                      .title = "DIODE's normals (_normal.npy) as red, green, blue",
                                      .run_array = run_normals,
                                      .takes = CN_TAKES_ARRAY,
                                      .suffix = "_normal.npy",
                                      .mirror = CN_MIRROR_NORMALS};

static cn_status run_metric_depth(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                                  const cn_npy *valid, cn_image **out)
{
    (void)args;
    return cn_metric_depth_map(ctx, array, valid, out);
}

const cn_kind cn_kind_depth_diode = {
    .name = "depth_diode",
    .title = "depth in metres (_depth.npy) as a depth map, near is white",
    .run_array = run_metric_depth,
    .takes = CN_TAKES_ARRAY,
    .suffix = "_depth.npy",
    .from_picture = "depth",
    .mirror = CN_MIRROR_PLAIN};

static const cn_kind_option metric_normal_options[] = {
    {"bg_threshold", "where the inverse depth, 0 far to 1 near, is below this there is no slope",
     CN_OPTION_NUMBER, 0, 1, 0.4},
    {"alpha", "how far normals lean towards the viewer", CN_OPTION_NUMBER, 0.1, 20, 2 * M_PI},
    {"reach", "inverse depth of the nearest point, in MiDaS's units", CN_OPTION_NUMBER, 1, 100000,
     1500},
};

static cn_status run_metric_normal(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                                   const cn_npy *valid, cn_image **out)
{
    const double *v = args->values;
    return cn_metric_normals(ctx, array, valid, v[2], v[1], v[0], out);
}

const cn_kind cn_kind_normal_from_depth = {
    .name = "normal_from_depth",
    .title = "depth in metres (_depth.npy) as normals, as ControlNet 1.0 makes them from MiDaS's",
    CN_KIND_OPTIONS(metric_normal_options),
    .run_array = run_metric_normal,
    .takes = CN_TAKES_ARRAY,
    .suffix = "_depth.npy",
    .from_picture = "normal",
    .mirror = CN_MIRROR_NORMALS};
