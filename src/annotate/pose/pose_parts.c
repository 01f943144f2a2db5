/* SPDX-License-Identifier: Apache-2.0 */
/* pose_parts.c - where a body's hands and face are, and the points in them. */
#include "annotate/pose/pose.h"

#include <math.h>
#include <string.h>

enum { SIDE_MIN = 20 };

/* --- boxes ------------------------------------------------------------------------------------ */

static const cn_pose_peak *part_of(const cn_pose *pose, const cn_pose_person *p, int part)
{
    return p->part[part] < 0 ? NULL : &pose->peaks[p->part[part]];
}

static double distance(const cn_pose_peak *a, const cn_pose_peak *b)
{
    const double dx = (double)(a->x - b->x), dy = (double)(a->y - b->y);
    return sqrt(dx * dx + dy * dy);
}

/* Beyond the wrist, about as large as the arm says. shoulder: its part, elbow and wrist follow. */
static bool hand_box(const cn_pose *pose, const cn_pose_person *p, int shoulder, cn_pose_box *box)
{
    const cn_pose_peak *s = part_of(pose, p, shoulder), *e = part_of(pose, p, shoulder + 1),
                       *w = part_of(pose, p, shoulder + 2);
    if (!s || !e || !w) return false;
    double side = 1.5 * fmax(distance(w, e), 0.9 * distance(e, s));
    const double x = fmax((double)w->x + 0.33 * (double)(w->x - e->x) - side / 2, 0);
    const double y = fmax((double)w->y + 0.33 * (double)(w->y - e->y) - side / 2, 0);
    side = fmin(side, fmin((double)pose->width - x, (double)pose->height - y));
    *box = (cn_pose_box){(int64_t)x, (int64_t)y, (int64_t)side, false};
    return side >= SIDE_MIN;
}

int64_t cn_pose_hand_boxes(const cn_pose *pose, cn_pose_box *boxes)
{
    int64_t n = 0;
    for (int64_t i = 0; i < pose->n_people; i++)
        for (int right = 0; right < 2; right++)
            if (hand_box(pose, &pose->people[i], right ? 2 : 5, &boxes[n]))
                boxes[n++].left = !right;
    return n;
}

int64_t cn_pose_face_boxes(const cn_pose *pose, cn_pose_box *boxes)
{
    int64_t n = 0;
    for (int64_t i = 0; i < pose->n_people; i++) {
        const cn_pose_peak *nose = part_of(pose, &pose->people[i], 0);
        double reach = 0;
        for (int part = 14; nose && part < CN_POSE_PARTS; part++) {
            const cn_pose_peak *q = part_of(pose, &pose->people[i], part);
            if (!q) continue;
            const double d = fmax(fabs((double)(nose->x - q->x)), fabs((double)(nose->y - q->y)));
            reach = fmax(reach, d * (part < 16 ? 3 : 1.5));
        }
        if (!nose) continue;
        const double x = fmax((double)nose->x - reach, 0), y = fmax((double)nose->y - reach, 0);
        /* the reference looks whether half the side fits */
        const double w = x + reach > (double)pose->width ? (double)pose->width - x : 2 * reach;
        const double h = y + reach > (double)pose->height ? (double)pose->height - y : 2 * reach;
        const double side = fmin(w, h);
        if (side >= SIDE_MIN)
            boxes[n++] = (cn_pose_box){(int64_t)x, (int64_t)y, (int64_t)side, false};
    }
    return n;
}

/* --- hands ------------------------------------------------------------------------------------ */

/* Marks with `mark` the 8-connected pixels above the threshold around `start`, those of label 0
 * alone; the sum of `map` over them. todo: room for every pixel. */
static double fill(const double *smooth, const double *map, int64_t height, int64_t width,
                   int64_t start, int32_t mark, int32_t *labels, int64_t *todo)
{
    double sum = 0;
    int64_t n = 0;
    labels[start] = mark;
    todo[n++] = start;
    while (n > 0) {
        const int64_t at = todo[--n], x = at % width, y = at / width;
        sum += map[at];
        for (int64_t v = CN_MAX(y - 1, 0); v <= CN_MIN(y + 1, height - 1); v++)
            for (int64_t u = CN_MAX(x - 1, 0); u <= CN_MIN(x + 1, width - 1); u++) {
                const int64_t next = v * width + u;
                if (labels[next] || !(smooth[next] > 0.05)) continue;
                labels[next] = mark;
                todo[n++] = next;
            }
    }
    return sum;
}

typedef struct planes {
    double *map, *smooth, *rows;
    int32_t *labels;
    int64_t *todo;
} planes;

/* The strongest point of the component with the largest sum; 0,0 where nothing is above the
 * threshold. */
static cn_pose_point strongest(const planes *p, int64_t height, int64_t width)
{
    int32_t mark = 0, best = 0;
    double most = -INFINITY;
    memset(p->labels, 0, (size_t)(height * width) * sizeof *p->labels);
    for (int64_t i = 0; i < height * width; i++) {
        if (p->labels[i] || !(p->smooth[i] > 0.05)) continue;
        const double sum = fill(p->smooth, p->map, height, width, i, ++mark, p->labels, p->todo);
        if (sum > most) most = sum, best = mark;
    }
    int64_t at = 0;
    double peak = -INFINITY;
    for (int64_t i = 0; best && i < height * width; i++) {
        const double v = p->labels[i] == best ? p->map[i] : 0;
        if (v > peak) peak = v, at = i;
    }
    return (cn_pose_point){(double)(at % width), (double)(at / width)};
}

cn_status cn_pose_hand_points(cn_ctx *ctx, const double *mean, int64_t height, int64_t width,
                              int64_t hand_h, int64_t hand_w,
                              cn_pose_point points[CN_POSE_HAND_POINTS])
{
    const size_t pixels = (size_t)(height * width);
    planes p = {.map = cn_alloc_array(ctx, pixels, sizeof *p.map),
                .smooth = cn_alloc_array(ctx, pixels, sizeof *p.smooth),
                .rows = cn_alloc_array(ctx, pixels, sizeof *p.rows),
                .labels = cn_alloc_array(ctx, pixels, sizeof *p.labels),
                .todo = cn_alloc_array(ctx, pixels, sizeof *p.todo)};
    const bool ok = p.map && p.smooth && p.rows && p.labels && p.todo;
    for (int c = 0; ok && c < CN_POSE_HAND_POINTS; c++) {
        for (size_t i = 0; i < pixels; i++)
            p.map[i] = p.smooth[i] = mean[i * CN_POSE_HAND_MAPS + (size_t)c];
        cn_pose_smooth(p.smooth, height, width, p.rows);
        const cn_pose_point q = strongest(&p, height, width);
        points[c].x = (double)(int64_t)(q.x * (double)hand_w / (double)width);
        points[c].y = (double)(int64_t)(q.y * (double)hand_h / (double)height);
    }
    cn_free(p.map);
    cn_free(p.smooth);
    cn_free(p.rows);
    cn_free(p.labels);
    cn_free(p.todo);
    return ok ? CN_OK : CN_ENOMEM;
}

/* --- faces ------------------------------------------------------------------------------------ */

int cn_pose_face_points(const float *maps, int64_t height, int64_t width,
                        cn_pose_point points[CN_POSE_FACE_MAPS])
{
    int n = 0;
    for (int c = 0; c < CN_POSE_FACE_MAPS; c++) {
        float most = 0.05f;
        int64_t at = -1;
        for (int64_t i = 0; i < height * width; i++) {
            const float v = maps[i * CN_POSE_FACE_MAPS + c];
            if (v > most) most = v, at = i;
        }
        if (at >= 0) points[n++] = (cn_pose_point){(double)(at % width), (double)(at / width)};
    }
    return n;
}
