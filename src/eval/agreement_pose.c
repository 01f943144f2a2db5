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
    int part;
    int32_t figure; /* a connected drawing: mostly a person */
    int64_t pixels;
    double x, y;
    double squared_size; /* of its figure */
    bool met;
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
        sum.x += (double)x;
        sum.y += (double)y;
        for (int64_t j = CN_MAX(y - 1, 0); j <= CN_MIN(y + 1, d->height - 1); j++)
            for (int64_t i = CN_MAX(x - 1, 0); i <= CN_MIN(x + 1, d->width - 1); i++) {
                const int64_t next = j * d->width + i;
                if (mark[next] || key[next] != key[start]) continue;
                mark[next] = number;
                d->stack[n++] = next;
            }
    }
    sum.x /= (double)sum.pixels;
    sum.y /= (double)sum.pixels;
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
        double x0 = d->points[i].x, x1 = x0, y0 = d->points[i].y, y1 = y0;
        for (int k = 0; k < d->n; k++) {
            const point *p = &d->points[k];
            if (p->figure != d->points[i].figure) continue;
            x0 = fmin(x0, p->x);
            x1 = fmax(x1, p->x);
            y0 = fmin(y0, p->y);
            y1 = fmax(y1, p->y);
        }
        d->points[i].squared_size = fmax((x1 - x0) * (y1 - y0), least);
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
        p.part = d->part[i];
        p.figure = d->figure[i];
        d->points[d->n++] = p;
    }
    drop_specks(d);
    size_figures(d);
}

/* --- comparing -------------------------------------------------------------------------------- */

static double similarity(const point *wanted, const point *found)
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

/* All pairs of one part; their number. pairs may be NULL: they are only counted. */
static size_t list_pairs(const drawing *wanted, const drawing *found, pair *pairs)
{
    size_t n = 0;
    for (int i = 0; i < wanted->n; i++)
        for (int k = 0; k < found->n; k++) {
            const point *w = &wanted->points[i], *f = &found->points[k];
            if (w->part != f->part) continue;
            if (pairs) pairs[n] = (pair){i, k, similarity(w, f)};
            n++;
        }
    return n;
}

/* The nearest pairs of all are taken first, so that a person who is there isn't taken for one who
 * is missing. */
static cn_status sum_met(cn_ctx *ctx, drawing *wanted, drawing *found, double *sum)
{
    const size_t n = list_pairs(wanted, found, NULL);
    pair *pairs = cn_alloc_array(ctx, n, sizeof *pairs);
    if (!pairs) return CN_ENOMEM;
    (void)list_pairs(wanted, found, pairs);
    qsort(pairs, n, sizeof *pairs, best_first);
    *sum = 0;
    for (size_t i = 0; i < n; i++) {
        point *w = &wanted->points[pairs[i].wanted], *f = &found->points[pairs[i].found];
        if (w->met || f->met) continue;
        w->met = f->met = true;
        *sum += pairs[i].similarity;
    }
    cn_free(pairs);
    return CN_OK;
}

cn_status cn_pose_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                            double *score)
{
    drawing f, w;
    double sum = 0;
    CN_TRY(drawing_create(ctx, found, &f));
    cn_status s = drawing_create(ctx, wanted, &w);
    if (s == CN_OK) {
        read_points(&f);
        read_points(&w);
        s = sum_met(ctx, &w, &f, &sum);
        if (s == CN_OK) *score = f.n + w.n ? 2 * sum / (f.n + w.n) : 1;
        drawing_free(&w);
    }
    drawing_free(&f);
    return s;
}
