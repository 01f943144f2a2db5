/* SPDX-License-Identifier: Apache-2.0 */
/* agreement.c - the measures by their names, and edge maps compared with a tolerance; edges are
 * sparse, so each looks around itself. */
#include "annotate/agreement.h"

/* --- edges ------------------------------------------------------------------------------------ */

static bool met(const uint8_t *map, int64_t width, int64_t height, int64_t x, int64_t y, int64_t r)
{
    int64_t y1 = CN_MIN(y + r, height - 1), x1 = CN_MIN(x + r, width - 1);
    for (int64_t j = CN_MAX(y - r, 0); j <= y1; j++)
        for (int64_t i = CN_MAX(x - r, 0); i <= x1; i++)
            if (map[j * width + i]) return true;
    return false;
}

/* Edge pixels of a, and how many of them b has nearby. */
static void count_met(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height, int64_t r,
                      int64_t *all, int64_t *hit)
{
    *all = *hit = 0;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            if (!a[y * width + x]) continue;
            ++*all;
            *hit += met(b, width, height, x, y, r);
        }
}

double cn_edge_f1(const uint8_t *found, const uint8_t *wanted, int64_t width, int64_t height,
                  int tolerance_px, double *precision, double *recall)
{
    int64_t n_found, n_wanted, right, covered, r = CN_MAX(tolerance_px, 0);
    count_met(found, wanted, width, height, r, &n_found, &right);
    count_met(wanted, found, width, height, r, &n_wanted, &covered);
    bool empty = n_found == 0 && n_wanted == 0;
    double p = n_found ? (double)right / (double)n_found : empty;
    double c = n_wanted ? (double)covered / (double)n_wanted : empty;
    if (precision) *precision = p;
    if (recall) *recall = c;
    return p + c > 0 ? 2 * p * c / (p + c) : 0.0;
}

/* 255 where a channel is above the middle. */
static void edge_mask(const cn_image *image, uint8_t *out)
{
    const uint8_t *p = image->rgb;
    for (int64_t i = 0; i < image->width * image->height; i++, p += 3)
        out[i] = CN_MAX(p[0], CN_MAX(p[1], p[2])) > 127 ? 255 : 0;
}

static cn_status edge_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                                double *score)
{
    enum { TOLERANCE_PX = 1 };
    const int64_t w = wanted->width, h = wanted->height;
    uint8_t *masks = cn_alloc_array(ctx, (size_t)(w * h), 2);
    if (!masks) return CN_ENOMEM;
    edge_mask(found, masks);
    edge_mask(wanted, masks + w * h);
    *score = cn_edge_f1(masks, masks + w * h, w, h, TOLERANCE_PX, NULL, NULL);
    cn_free(masks);
    return CN_OK;
}

/* --- measures --------------------------------------------------------------------------------- */

static const cn_agreement named[] = {
    [CN_MEASURE_EDGES] = {.measure = "edge F1"},
    [CN_MEASURE_CLASSES] = {.measure = "mean IoU"},
    [CN_MEASURE_DEPTH] = {.measure = "depth R2", .unit = "RMSE of depth in %"},
    [CN_MEASURE_NORMALS] = {.measure = "angular similarity", .unit = "angle of normals in degrees"},
    [CN_MEASURE_POSE] = {.measure = "key point similarity"},
};

cn_status cn_measure_run(cn_ctx *ctx, cn_measure measure, const cn_image *found,
                         const cn_image *wanted, cn_agreement *out)
{
    cn_agreement a = named[measure];
    cn_status s = CN_OK;
    if (found->width != wanted->width || found->height != wanted->height)
        return cn_fail(ctx, CN_EINVAL,
                       "conditions of %lld x %lld and %lld x %lld: one size is expected",
                       (long long)found->width, (long long)found->height, (long long)wanted->width,
                       (long long)wanted->height);
    switch (measure) {
    case CN_MEASURE_EDGES: s = edge_agreement(ctx, found, wanted, &a.score); break;
    case CN_MEASURE_CLASSES: a.score = cn_mean_iou(found, wanted); break;
    case CN_MEASURE_DEPTH: a.score = cn_depth_agreement(found, wanted, &a.error); break;
    case CN_MEASURE_NORMALS: a.score = cn_normal_agreement(found, wanted, &a.error); break;
    case CN_MEASURE_POSE: s = cn_pose_agreement(ctx, found, wanted, &a.score); break;
    case CN_MEASURE_NONE: return cn_fail(ctx, CN_EINVAL, "no measure compares these conditions");
    }
    if (s == CN_OK) *out = a;
    return s;
}
