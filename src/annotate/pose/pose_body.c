/* SPDX-License-Identifier: Apache-2.0 */
/* pose_body.c - peaks of the part maps, limbs between them by the part affinity fields, people from
 * limbs.
 *
 * The reference's greedy grouping, kept in its order: which of two equal candidates wins follows
 * from it.
 */
#include "annotate/pose/pose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LIMBS = 19, SAMPLES = 10, NEW_PEOPLE_UNTIL = 17 };

/* The two parts of each limb, and the first of the two channels of its field. */
static const struct {
    int a, b, field;
} limbs[LIMBS] = {{1, 2, 12},  {1, 5, 20},   {2, 3, 14},  {3, 4, 16},  {5, 6, 22},
                  {6, 7, 24},  {1, 8, 0},    {8, 9, 2},   {9, 10, 4},  {1, 11, 6},
                  {11, 12, 8}, {12, 13, 10}, {1, 0, 28},  {0, 14, 30}, {14, 16, 34},
                  {0, 15, 32}, {15, 17, 36}, {2, 16, 18}, {5, 17, 26}};

typedef struct connection {
    int64_t a, b; /* peaks */
    double score;
    int64_t order;
} connection;

/* --- growing lists ---------------------------------------------------------------------------- */

/* Room for one more item behind n in *items, doubled when n is a power of two. */
static cn_status grow(cn_ctx *ctx, void **items, int64_t n, size_t size)
{
    if (n & (n - 1)) return CN_OK;
    const size_t old = (size_t)n * size;
    void *more = cn_regrow(ctx, *items, old, n ? 2 * old : size);
    if (!more) return CN_ENOMEM;
    *items = more;
    return CN_OK;
}

/* --- peaks ------------------------------------------------------------------------------------ */

static bool is_peak(const double *g, int64_t height, int64_t width, int64_t x, int64_t y)
{
    const double *p = g + y * width + x;
    return *p > 0.1 && *p >= (x > 0 ? p[-1] : 0) && *p >= (x + 1 < width ? p[1] : 0) &&
           *p >= (y > 0 ? p[-width] : 0) && *p >= (y + 1 < height ? p[width] : 0);
}

/* The part maps as planes, smoothed. rows: a plane per part. */
static void smooth_parts(cn_ctx *ctx, const float *heat, int64_t H, int64_t W, double *planes,
                         double *rows)
{
#pragma omp parallel for num_threads(cn_threads(ctx)) schedule(static)
    for (int c = 0; c < CN_POSE_PARTS; c++) {
        double *plane = planes + c * H * W;
        for (int64_t i = 0; i < H * W; i++) plane[i] = (double)heat[i * CN_POSE_HEATS + c];
        cn_pose_smooth(plane, H, W, rows + c * H * W);
    }
}

/* first[i]: index of part i's first peak; first[CN_POSE_PARTS]: how many there are. */
static cn_status find_peaks(cn_ctx *ctx, const float *heat, cn_pose *pose, int64_t *first)
{
    const int64_t H = pose->height, W = pose->width;
    const size_t pixels = (size_t)(H * W);
    double *smooth = cn_alloc_array(ctx, CN_POSE_PARTS * pixels, sizeof *smooth);
    double *rows = cn_alloc_array(ctx, CN_POSE_PARTS * pixels, sizeof *rows);
    cn_status s = smooth && rows ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) smooth_parts(ctx, heat, H, W, smooth, rows);
    for (int c = 0; s == CN_OK && c < CN_POSE_PARTS; c++) {
        const double *g = smooth + (size_t)c * pixels;
        first[c] = pose->n_peaks;
        for (int64_t i = 0; s == CN_OK && i < H * W; i++) {
            if (!is_peak(g, H, W, i % W, i / W)) continue;
            s = grow(ctx, (void **)&pose->peaks, pose->n_peaks, sizeof *pose->peaks);
            if (s == CN_OK)
                pose->peaks[pose->n_peaks++] =
                    (cn_pose_peak){i % W, i / W, (double)heat[i * CN_POSE_HEATS + c]};
        }
    }
    first[CN_POSE_PARTS] = pose->n_peaks;
    cn_free(smooth);
    cn_free(rows);
    return s;
}

/* --- limbs ------------------------------------------------------------------------------------ */

/* How well the field points from a to b: the mean over ten points of the way, less for limbs longer
 * than half the picture's height. False when it doesn't. */
static bool limb_score(const float *fields, const cn_pose *pose, int field, const cn_pose_peak *a,
                       const cn_pose_peak *b, double *score)
{
    const double dx = (double)(b->x - a->x), dy = (double)(b->y - a->y);
    const double norm = fmax(0.001, sqrt(dx * dx + dy * dy));
    const double step_x = dx / (SAMPLES - 1), step_y = dy / (SAMPLES - 1);
    double sum = 0;
    int along = 0;
    for (int i = 0; i < SAMPLES; i++) {
        const int64_t x = llrint(i * step_x + (double)a->x), y = llrint(i * step_y + (double)a->y);
        const float *f = fields + (y * pose->width + x) * CN_POSE_FIELDS + field;
        const double dot = (double)f[0] * (dx / norm) + (double)f[1] * (dy / norm);
        sum += dot;
        along += dot > 0.05;
    }
    *score = sum / SAMPLES + fmin(0.5 * (double)pose->height / norm - 1, 0);
    return along > 8 && *score > 0;
}

static int by_score(const void *p, const void *q)
{
    const connection *a = p, *b = q;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* Keeps, best first, connections whose peaks are both still free; taken: n_peaks marks, left 0
 * again. */
static int64_t keep_best(connection *list, int64_t n, bool *taken)
{
    int64_t kept = 0;
    qsort(list, (size_t)n, sizeof *list, by_score);
    for (int64_t i = 0; i < n; i++)
        if (!taken[list[i].a] && !taken[list[i].b]) {
            taken[list[i].a] = taken[list[i].b] = true;
            list[kept++] = list[i];
        }
    for (int64_t i = 0; i < kept; i++) taken[list[i].a] = taken[list[i].b] = false;
    return kept;
}

/* --- people ----------------------------------------------------------------------------------- */

static void merge(cn_pose *pose, int64_t to, int64_t from, double score)
{
    cn_pose_person *p = &pose->people[to];
    const cn_pose_person *q = &pose->people[from];
    for (int i = 0; i < CN_POSE_PARTS; i++) p->part[i] += q->part[i] + 1;
    p->score += q->score + score;
    p->count += q->count;
    memmove(&pose->people[from], &pose->people[from + 1],
            (size_t)(pose->n_people - from - 1) * sizeof *p);
    pose->n_people--;
}

static bool share_a_part(const cn_pose_person *p, const cn_pose_person *q)
{
    for (int i = 0; i < CN_POSE_PARTS; i++)
        if (p->part[i] >= 0 && q->part[i] >= 0) return true;
    return false;
}

static cn_status new_person(cn_ctx *ctx, cn_pose *pose, int limb, const connection *c)
{
    CN_TRY(grow(ctx, (void **)&pose->people, pose->n_people, sizeof *pose->people));
    cn_pose_person *p = &pose->people[pose->n_people++];
    for (int i = 0; i < CN_POSE_PARTS; i++) p->part[i] = -1;
    p->part[limbs[limb].a] = c->a;
    p->part[limbs[limb].b] = c->b;
    p->score = pose->peaks[c->a].score + pose->peaks[c->b].score + c->score;
    p->count = 2;
    return CN_OK;
}

/* Of more than two people with an end of the limb the first two count. */
static cn_status join(cn_ctx *ctx, cn_pose *pose, int limb, const connection *c)
{
    const int A = limbs[limb].a, B = limbs[limb].b;
    int64_t who[2] = {-1, -1};
    int found = 0;
    for (int64_t i = 0; i < pose->n_people && found < 2; i++)
        if (pose->people[i].part[A] == c->a || pose->people[i].part[B] == c->b) who[found++] = i;
    if (found == 0) return limb < NEW_PEOPLE_UNTIL ? new_person(ctx, pose, limb, c) : CN_OK;
    cn_pose_person *p = &pose->people[who[0]];
    if (found == 2 && !share_a_part(p, &pose->people[who[1]])) {
        merge(pose, who[0], who[1], c->score);
    } else if (found == 2 || p->part[B] != c->b) {
        p->part[B] = c->b;
        p->count++;
        p->score += pose->peaks[c->b].score + c->score;
    }
    return CN_OK;
}

/* All connections of one limb, then joined to people. */
static cn_status add_limb(cn_ctx *ctx, const float *fields, cn_pose *pose, const int64_t *first,
                          int limb, bool *taken)
{
    const int A = limbs[limb].a, B = limbs[limb].b;
    connection *list = NULL;
    int64_t n = 0;
    cn_status s = CN_OK;
    for (int64_t a = first[A]; s == CN_OK && a < first[A + 1]; a++)
        for (int64_t b = first[B]; s == CN_OK && b < first[B + 1]; b++) {
            connection c = {.a = a, .b = b, .order = n};
            if (!limb_score(fields, pose, limbs[limb].field, &pose->peaks[a], &pose->peaks[b],
                            &c.score))
                continue;
            s = grow(ctx, (void **)&list, n, sizeof *list);
            if (s == CN_OK) list[n++] = c;
        }
    if (s == CN_OK && n) n = keep_best(list, n, taken);
    for (int64_t i = 0; s == CN_OK && i < n; i++) s = join(ctx, pose, limb, &list[i]);
    cn_free(list);
    return s;
}

static void drop_weak(cn_pose *pose)
{
    int64_t n = 0;
    for (int64_t i = 0; i < pose->n_people; i++) {
        const cn_pose_person *p = &pose->people[i];
        if (p->count >= 4 && p->score / (double)p->count >= 0.4) pose->people[n++] = *p;
    }
    pose->n_people = n;
}

cn_status cn_pose_decode(cn_ctx *ctx, const float *heat, const float *fields, int64_t height,
                         int64_t width, cn_pose *out)
{
    cn_pose pose = {.height = height, .width = width};
    int64_t first[CN_POSE_PARTS + 1];
    bool *taken = NULL;
    cn_status s = find_peaks(ctx, heat, &pose, first);
    if (s == CN_OK) {
        taken = cn_alloc0(ctx, (size_t)CN_MAX(pose.n_peaks, 1) * sizeof *taken);
        if (!taken) s = CN_ENOMEM;
    }
    for (int i = 0; s == CN_OK && i < LIMBS; i++) s = add_limb(ctx, fields, &pose, first, i, taken);
    cn_free(taken);
    if (s != CN_OK) {
        cn_pose_free(&pose);
        return s;
    }
    drop_weak(&pose);
    *out = pose;
    return CN_OK;
}

void cn_pose_free(cn_pose *pose)
{
    cn_free(pose->peaks);
    cn_free(pose->people);
    *pose = (cn_pose){0};
}
