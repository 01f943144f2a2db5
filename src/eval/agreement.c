/* SPDX-License-Identifier: Apache-2.0 */
/* agreement.c - the measures by their names, and edge maps compared with a tolerance; edges are
 * sparse, so each looks around itself. */
#include "eval/agreement.h"

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
                                cn_agreement *out)
{
    enum { TOLERANCE_PX = 1 };
    const int64_t w = wanted->width, h = wanted->height;
    uint8_t *masks = cn_alloc_array(ctx, (size_t)(w * h), 2);
    if (!masks) return CN_ENOMEM;
    edge_mask(found, masks);
    edge_mask(wanted, masks + w * h);
    out->score = cn_edge_f1(masks, masks + w * h, w, h, TOLERANCE_PX, NULL, NULL);
    cn_free(masks);
    return CN_OK;
}

/* --- measures --------------------------------------------------------------------------------- */

static cn_status class_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                                 cn_agreement *out)
{
    (void)ctx;
    out->score = cn_mean_iou(found, wanted);
    return CN_OK;
}

static cn_status depth_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                                 cn_agreement *out)
{
    (void)ctx;
    out->score = cn_depth_agreement(found, wanted, &out->error);
    return CN_OK;
}

static cn_status normal_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                                  cn_agreement *out)
{
    (void)ctx;
    out->score = cn_normal_agreement(found, wanted, &out->error);
    return CN_OK;
}

static cn_status pose_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                                cn_agreement *out)
{
    return cn_pose_agreement(ctx, found, wanted, &out->score);
}

typedef struct measure {
    const char *name, *unit; /* unit: of the error, NULL where there is none */
    cn_status (*run)(cn_ctx *ctx, const cn_image *found, const cn_image *wanted, cn_agreement *out);
} measure;

static const measure measures[] = {
    [CN_MEASURE_EDGES] = {"edge F1", NULL, edge_agreement},
    [CN_MEASURE_CLASSES] = {"mean IoU", NULL, class_agreement},
    [CN_MEASURE_DEPTH] = {"depth R2", "RMSE of depth in %", depth_agreement},
    [CN_MEASURE_NORMALS] = {"angular similarity", "angle of normals in degrees", normal_agreement},
    [CN_MEASURE_POSE] = {"key point similarity", NULL, pose_agreement},
};

const char *cn_measure_name(cn_measure which)
{
    return measures[which].name;
}

cn_status cn_measure_run(cn_ctx *ctx, cn_measure which, const cn_image *found,
                         const cn_image *wanted, cn_agreement *out)
{
    const measure *m = &measures[which];
    if (!m->run) return cn_fail(ctx, CN_EINVAL, "no measure compares these conditions");
    if (found->width != wanted->width || found->height != wanted->height)
        return cn_fail(ctx, CN_EINVAL,
                       "conditions of %lld x %lld and %lld x %lld: one size is expected",
                       (long long)found->width, (long long)found->height, (long long)wanted->width,
                       (long long)wanted->height);
    cn_agreement a = {.measure = m->name, .unit = m->unit};
    CN_TRY(m->run(ctx, found, wanted, &a));
    *out = a;
    return CN_OK;
}
