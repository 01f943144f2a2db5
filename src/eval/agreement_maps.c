/* SPDX-License-Identifier: Apache-2.0 */
/* agreement_maps.c - classes, depth and normals compared pixel by pixel. */
#include "eval/agreement.h"

#include "annotate/labels.h"

#include <math.h>
#include <stdlib.h>

/* --- classes ---------------------------------------------------------------------------------- */

enum { CLASS_TOLERANCE = 8, FEWEST = 1000 }; /* levels of a channel; pixels per one of a class */

static bool near_color(const uint8_t *a, const uint8_t *b)
{
    for (int c = 0; c < 3; c++)
        if (abs(a[c] - b[c]) > CLASS_TOLERANCE) return false;
    return true;
}

static int distance(const uint8_t *a, const uint8_t *b)
{
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) + abs(a[2] - b[2]);
}

/* The class whose colour is nearest, -1: none is near. Two classes have one colour; the first
 * stands for both. */
static int class_of(const uint8_t *rgb)
{
    int best = -1;
    for (int k = 0; k < CN_ADE20K_CLASSES; k++)
        if (near_color(rgb, cn_ade20k_palette[k]) &&
            (best < 0 ||
             distance(rgb, cn_ade20k_palette[k]) < distance(rgb, cn_ade20k_palette[best])))
            best = k;
    return best;
}

/* Neighbours are mostly of one class. */
typedef struct memory {
    uint8_t rgb[3];
    int class;
} memory;

static int class_at(const cn_image *image, int64_t i, memory *last)
{
    const uint8_t *p = image->rgb + 3 * i;
    if (p[0] != last->rgb[0] || p[1] != last->rgb[1] || p[2] != last->rgb[2]) {
        for (int c = 0; c < 3; c++) last->rgb[c] = p[c];
        last->class = class_of(p);
    }
    return last->class;
}

double cn_mean_iou(const cn_image *found, const cn_image *wanted)
{
    int64_t both[CN_ADE20K_CLASSES] = {0}, in_found[CN_ADE20K_CLASSES] = {0},
            in_wanted[CN_ADE20K_CLASSES] = {0};
    const int64_t n = wanted->width * wanted->height;
    memory f = {.class = -1}, w = f; /* black is no class's */
    for (int64_t i = 0; i < n; i++) {
        const int want = class_at(wanted, i, &w), have = class_at(found, i, &f);
        if (want < 0) continue;
        in_wanted[want]++;
        if (have >= 0) in_found[have]++;
        if (have == want) both[want]++;
    }
    double sum = 0;
    int classes = 0;
    for (int k = 0; k < CN_ADE20K_CLASSES; k++) {
        if (!in_wanted[k] || in_wanted[k] < n / FEWEST) continue;
        sum += (double)both[k] / (double)(in_found[k] + in_wanted[k] - both[k]);
        classes++;
    }
    return classes ? sum / classes : 1;
}

/* --- depth ------------------------------------------------------------------------------------ */

static double grey(const cn_image *image, int64_t i)
{
    const uint8_t *p = image->rgb + 3 * i;
    return (p[0] + p[1] + p[2]) / 3.0;
}

typedef struct moments {
    double found, wanted, product; /* variances, covariance */
} moments;

static moments moments_of(const cn_image *found, const cn_image *wanted, int64_t n)
{
    double f_mean = 0, w_mean = 0;
    moments m = {0};
    for (int64_t i = 0; i < n; i++) {
        f_mean += grey(found, i) / (double)n;
        w_mean += grey(wanted, i) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        const double f = grey(found, i) - f_mean, w = grey(wanted, i) - w_mean;
        m.found += f * f / (double)n;
        m.wanted += w * w / (double)n;
        m.product += f * w / (double)n;
    }
    return m;
}

double cn_depth_agreement(const cn_image *found, const cn_image *wanted, double *rmse)
{
    const double flat = 1e-6; /* variance that rounding alone leaves */
    const moments m = moments_of(found, wanted, wanted->width * wanted->height);
    const double scale = m.found > flat ? fmax(m.product / m.found, 0) : 0;
    const double left = fmax(m.wanted - scale * m.product, 0);
    *rmse = 100 * sqrt(left) / 255;
    if (m.wanted <= flat) return m.found <= flat;
    return 1 - left / m.wanted;
}

/* --- normals ---------------------------------------------------------------------------------- */

/* False where there is no direction. */
static bool direction(const cn_image *image, int64_t i, double n[3])
{
    double squares = 0;
    for (int c = 0; c < 3; c++) {
        n[c] = image->rgb[3 * i + c] / 127.5 - 1;
        squares += n[c] * n[c];
    }
    for (int c = 0; c < 3 && squares > 0; c++) n[c] /= sqrt(squares);
    return squares > 0.25;
}

double cn_normal_agreement(const cn_image *found, const cn_image *wanted, double *degrees)
{
    double sum = 0, a[3], b[3];
    int64_t n = 0;
    for (int64_t i = 0; i < wanted->width * wanted->height; i++) {
        if (!direction(wanted, i, a)) continue;
        const bool is = direction(found, i, b); /* a hole counts as a right angle */
        const double cosine = is ? a[0] * b[0] + a[1] * b[1] + a[2] * b[2] : 0;
        sum += acos(fmax(-1, fmin(1, cosine)));
        n++;
    }
    *degrees = n ? sum / (double)n * 180 / M_PI : 0;
    return 1 - *degrees / 180;
}
