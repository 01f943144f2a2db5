/* SPDX-License-Identifier: Apache-2.0 */
/* agreement_pose.c - the key points of two pose drawings, read from their colours and compared. */
#include "eval/agreement.h"

#include "annotate/pose/pose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLOR_TOLERANCE = 32, LIT = 24, MAX_POINTS = 1024, SMALLEST = 8 };

/* Twice COCO's deviations per key point (its evaluation's sigmas), in OpenPose's order. */
static const double constants[CN_POSE_PARTS] = {0.052, 0.158, 0.158, 0.144, 0.124, 0.158,
                                                0.144, 0.124, 0.214, 0.174, 0.178, 0.214,
                                                0.174, 0.178, 0.050, 0.050, 0.070, 0.070};

typedef struct point {
    cn_key_point at;
    int32_t figure; /* a connected drawing: mostly a person */
    int64_t pixels;
} point;

typedef struct drawing {
    int64_t width, height;
    int8_t *part;           /* [pixels] whose colour it is, -1: none's */
    int8_t *lit;            /* [pixels] */
    int32_t *figure, *blob; /* [pixels] 0: not reached yet */
    int64_t *stack;         /* [pixels] */
    point *points;          /* [MAX_POINTS] */
    int n;
} drawing;

/* --- reading ---------------------------------------------------------------------------------- */

static int part_of(const uint8_t *rgb)
{
    for (int k = 0; k < CN_POSE_PARTS; k++) {
        const uint8_t *c = cn_pose_colors[k];
        if (abs(rgb[0] - c[0]) <= COLOR_TOLERANCE && abs(rgb[1] - c[1]) <= COLOR_TOLERANCE &&
            abs(rgb[2] - c[2]) <= COLOR_TOLERANCE)
            return k;
    }
    return -1;
}

static void drawing_free(drawing *d)
{
    cn_free(d->part);
    cn_free(d->lit);
    cn_free(d->figure);
    cn_free(d->blob);
    cn_free(d->stack);
    cn_free(d->points);
}

static cn_status drawing_create(cn_ctx *ctx, const cn_image *image, drawing *d)
{
    const size_t n = (size_t)(image->width * image->height);
    *d = (drawing){.width = image->width, .height = image->height};
    d->part = cn_alloc(ctx, n);
    d->lit = cn_alloc(ctx, n);
    d->figure = cn_alloc0(ctx, n * sizeof *d->figure);
    d->blob = cn_alloc0(ctx, n * sizeof *d->blob);
    d->stack = cn_alloc_array(ctx, n, sizeof *d->stack);
    d->points = cn_alloc_array(ctx, MAX_POINTS, sizeof *d->points);
    if (!d->part || !d->lit || !d->figure || !d->blob || !d->stack || !d->points) {
        drawing_free(d);
        return CN_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = image->rgb + 3 * i;
        d->part[i] = (int8_t)part_of(p);
        d->lit[i] = CN_MAX(p[0], CN_MAX(p[1], p[2])) > LIT;
    }
    return CN_OK;
}

/* Numbers the pixels that hang together with `start` and have its key; what they are: number and
 * mean place. */
static point flood(drawing *d, const int8_t *key, int32_t *mark, int64_t start, int32_t number)
{
    point sum = {0};
    int64_t n = 0;
    mark[start] = number;
    d->stack[n++] = start;
    while (n) {
        const int64_t at = d->stack[--n], x = at % d->width, y = at / d->width;
        sum.pixels++;
        sum.at.x += (double)x;
        sum.at.y += (double)y;
        for (int64_t j = CN_MAX(y - 1, 0); j <= CN_MIN(y + 1, d->height - 1); j++)
            for (int64_t i = CN_MAX(x - 1, 0); i <= CN_MIN(x + 1, d->width - 1); i++) {
                const int64_t next = j * d->width + i;
                if (mark[next] || key[next] != key[start]) continue;
                mark[next] = number;
                d->stack[n++] = next;
            }
    }
    sum.at.x /= (double)sum.pixels;
    sum.at.y /= (double)sum.pixels;
    return sum;
}

/* Specks of colour, as compression leaves them, aren't disks. */
static void drop_specks(drawing *d)
{
    int64_t largest = 0;
    int kept = 0;
    for (int i = 0; i < d->n; i++) largest = CN_MAX(largest, d->points[i].pixels);
    for (int i = 0; i < d->n; i++)
        if (d->points[i].pixels * SMALLEST >= largest) d->points[kept++] = d->points[i];
    d->n = kept;
}

/* The box of each figure's points, for which COCO takes the person's mask. A figure of little more
 * than a point counts as a twentieth of the picture's side. */
static void size_figures(drawing *d)
{
    const double least = (double)(d->width * d->height) / 400;
    for (int i = 0; i < d->n; i++) {
        double x0 = d->points[i].at.x, x1 = x0, y0 = d->points[i].at.y, y1 = y0;
        for (int k = 0; k < d->n; k++) {
            const point *p = &d->points[k];
            if (p->figure != d->points[i].figure) continue;
            x0 = fmin(x0, p->at.x);
            x1 = fmax(x1, p->at.x);
            y0 = fmin(y0, p->at.y);
            y1 = fmax(y1, p->at.y);
        }
        d->points[i].at.squared_size = fmax((x1 - x0) * (y1 - y0), least);
    }
}

static void read_points(drawing *d)
{
    int32_t figures = 0;
    for (int64_t i = 0; i < d->width * d->height && d->n < MAX_POINTS; i++) {
        if (!d->lit[i]) continue;
        if (!d->figure[i]) (void)flood(d, d->lit, d->figure, i, ++figures);
        if (d->part[i] < 0 || d->blob[i]) continue;
        point p = flood(d, d->part, d->blob, i, d->n + 1);
        p.at.part = d->part[i];
        p.figure = d->figure[i];
        d->points[d->n++] = p;
    }
    drop_specks(d);
    size_figures(d);
}

/* --- comparing -------------------------------------------------------------------------------- */

static double similarity(const cn_key_point *wanted, const cn_key_point *found)
{
    const double dx = wanted->x - found->x, dy = wanted->y - found->y;
    const double k = constants[wanted->part];
    return exp(-(dx * dx + dy * dy) / (2 * wanted->squared_size * k * k));
}

typedef struct pair {
    int wanted, found;
    double similarity;
} pair;

static int best_first(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->similarity != y->similarity) return x->similarity > y->similarity ? -1 : 1;
    return x->wanted != y->wanted ? x->wanted - y->wanted : x->found - y->found;
}

/* All pairs of one part, room for n_found * n_wanted; their number. */
static size_t list_pairs(const cn_key_point *found, int n_found, const cn_key_point *wanted,
                         int n_wanted, pair *pairs)
{
    size_t n = 0;
    for (int i = 0; i < n_wanted; i++)
        for (int k = 0; k < n_found; k++)
            if (wanted[i].part == found[k].part)
                pairs[n++] = (pair){i, k, similarity(&wanted[i], &found[k])};
    return n;
}

/* The nearest pairs of all are taken first, so that a person who is there isn't taken for one who
 * is missing. */
cn_status cn_key_point_agreement(cn_ctx *ctx, const cn_key_point *found, int n_found,
                                 const cn_key_point *wanted, int n_wanted, double *score)
{
    const size_t most = (size_t)n_found * (size_t)n_wanted;
    double sum = 0;
    if (n_found + n_wanted == 0) {
        *score = 1;
        return CN_OK;
    }
    pair *pairs = cn_alloc_array(ctx, CN_MAX(most, 1), sizeof *pairs);
    bool *met = cn_alloc0(ctx, (size_t)(n_found + n_wanted) * sizeof *met);
    if (pairs && met) {
        const size_t n = list_pairs(found, n_found, wanted, n_wanted, pairs);
        qsort(pairs, n, sizeof *pairs, best_first);
        for (size_t i = 0; i < n; i++) {
            bool *f = met + pairs[i].found, *w = met + n_found + pairs[i].wanted;
            if (*f || *w) continue;
            *f = *w = true;
            sum += pairs[i].similarity;
        }
        *score = 2 * sum / (n_found + n_wanted);
    }
    const cn_status s = pairs && met ? CN_OK : CN_ENOMEM;
    cn_free(pairs);
    cn_free(met);
    return s;
}

/* The key points of a drawing, at most MAX_POINTS. */
static cn_status key_points_of(cn_ctx *ctx, const cn_image *image, cn_key_point *out, int *n)
{
    drawing d;
    CN_TRY(drawing_create(ctx, image, &d));
    read_points(&d);
    for (int i = 0; i < d.n; i++) out[i] = d.points[i].at;
    *n = d.n;
    drawing_free(&d);
    return CN_OK;
}

cn_status cn_pose_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                            double *score)
{
    int n_found, n_wanted;
    cn_key_point *points = cn_alloc_array(ctx, 2 * MAX_POINTS, sizeof *points);
    if (!points) return CN_ENOMEM;
    cn_status s = key_points_of(ctx, found, points, &n_found);
    if (s == CN_OK) s = key_points_of(ctx, wanted, points + MAX_POINTS, &n_wanted);
    if (s == CN_OK)
        s = cn_key_point_agreement(ctx, points, n_found, points + MAX_POINTS, n_wanted, score);
    cn_free(points);
    return s;
}
