/* SPDX-License-Identifier: Apache-2.0 */
/* reader_truth.c - see reader_truth.h.
 *
 * Channels are answered by least squares. What is sparse (edges, points) is asked for in larger
 * values, so that a small part of the pixels isn't worth leaving out; a pixel counts as an edge
 * from a share of that value on.
 */
#include "pretrain/reader_truth.h"

#include "eval/agreement.h"
#include "image/image.h"

#include <math.h>
#include <string.h>

enum { PX = CN_READER_PX, PIXELS = PX * PX, CHANNELS = CN_READER_CHANNELS, TOLERANCE_PX = 1 };
enum { MOST_POINTS = 128, FEWEST_PIXELS = 4 };
/* Values of what is there, and of a point at its centre. */
static const float EDGE = 3, DEPTH = 3, CLASS = 1.5f, POINT = 20;
/* Shares of these from which on something is found. */
static const float EDGE_FROM = 0.4f, POINT_FROM = 0.3f;
static const float POINT_RADIUS = 1.2f; /* deviation of a point's Gauss bell, in pixels */

struct cn_reader_truth {
    cn_ctx *ctx;
    cn_scene scene;
    float *depth, *normal; /* of cn_scene_render */
    uint8_t *segments, *edges, *lines, *rgb;
    cn_scene_figure figures[CN_SCENE_MAX_OBJECTS];
    int n_figures;
    cn_image *found, *wanted; /* to compare */
};

cn_status cn_reader_truth_create(cn_ctx *ctx, cn_reader_truth **out)
{
    cn_reader_truth *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    t->ctx = ctx;
    t->depth = cn_alloc_array(ctx, PIXELS, sizeof *t->depth);
    t->normal = cn_alloc_array(ctx, 3 * PIXELS, sizeof *t->normal);
    t->segments = cn_alloc(ctx, PIXELS);
    t->edges = cn_alloc(ctx, PIXELS);
    t->lines = cn_alloc(ctx, PIXELS);
    t->rgb = cn_alloc(ctx, 3 * PIXELS);
    cn_status s =
        t->depth && t->normal && t->segments && t->edges && t->lines && t->rgb ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_image_create(ctx, PX, PX, &t->found);
    if (s == CN_OK) s = cn_image_create(ctx, PX, PX, &t->wanted);
    if (s != CN_OK) {
        cn_reader_truth_destroy(t);
        return s;
    }
    *out = t;
    return CN_OK;
}

void cn_reader_truth_destroy(cn_reader_truth *t)
{
    if (!t) return;
    cn_free(t->depth);
    cn_free(t->normal);
    cn_free(t->segments);
    cn_free(t->edges);
    cn_free(t->lines);
    cn_free(t->rgb);
    cn_image_destroy(t->found);
    cn_image_destroy(t->wanted);
    cn_free(t);
}

cn_status cn_reader_truth_find(cn_reader_truth *t, const cn_scene *scene)
{
    const cn_scene_maps maps = {
        .depth = t->depth, .normal = t->normal, .segmentation = t->segments, .edges = t->edges};
    t->scene = *scene;
    t->n_figures = 0;
    CN_TRY(cn_scene_render(t->ctx, scene, PX, &maps));
    CN_TRY(cn_scene_condition_render(t->ctx, scene, PX, CN_CONDITION_LINES, NULL, t->rgb));
    for (int64_t i = 0; i < PIXELS; i++) t->lines[i] = t->rgb[3 * i];
    return cn_scene_key_points(t->ctx, scene, PX, t->figures, &t->n_figures);
}

/* Near is large, the sky 0, as the depth condition has it. */
static float nearest_depth(const cn_reader_truth *t)
{
    float nearest = INFINITY;
    for (int64_t i = 0; i < PIXELS; i++) nearest = fminf(nearest, t->depth[i]);
    return nearest;
}

static float nearness(const cn_reader_truth *t, float nearest, int64_t i)
{
    return t->depth[i] < INFINITY ? nearest / t->depth[i] : 0;
}

/* --- what is asked for ------------------------------------------------------------------------ */

static void add_point(float x, float y, int channel, float *out)
{
    for (int j = 0; j < PX; j++)
        for (int i = 0; i < PX; i++) {
            const float dx = (float)i + 0.5f - x, dy = (float)j + 0.5f - y;
            const float square = (dx * dx + dy * dy) / (2 * POINT_RADIUS * POINT_RADIUS);
            float *at = out + ((int64_t)j * PX + i) * CHANNELS + channel;
            if (square < 8) *at = fmaxf(*at, POINT * expf(-square));
        }
}

void cn_reader_truth_maps(const cn_reader_truth *t, float *out)
{
    const float nearest = nearest_depth(t);
    memset(out, 0, (size_t)PIXELS * CHANNELS * sizeof *out);
    for (int64_t i = 0; i < PIXELS; i++) {
        float *at = out + i * CHANNELS;
        at[CN_READER_EDGES] = t->edges[i] ? EDGE : 0;
        at[CN_READER_LINES] = t->lines[i] ? EDGE : 0;
        at[CN_READER_DEPTH] = DEPTH * nearness(t, nearest, i);
        for (int c = 0; c < 3; c++) at[CN_READER_NORMAL + c] = t->normal[3 * i + c];
        at[CN_READER_CLASSES + cn_scene_class(&t->scene, t->segments[i])] = CLASS;
    }
    for (int f = 0; f < t->n_figures; f++)
        for (int k = 0; k < CN_SCENE_KEY_POINTS; k++)
            if (t->figures[f].seen[k])
                add_point(t->figures[f].x[k], t->figures[f].y[k], CN_READER_POINTS + k, out);
}

/* --- comparing -------------------------------------------------------------------------------- */

static cn_status compare_edges(cn_reader_truth *t, const float *answer, int channel,
                               const uint8_t *wanted, bool *applies, double *score)
{
    uint8_t *found = t->rgb;
    int64_t n = 0;
    for (int64_t i = 0; i < PIXELS; i++) {
        found[i] = answer[i * CHANNELS + channel] > EDGE_FROM * EDGE;
        n += wanted[i] != 0;
    }
    *applies = n >= FEWEST_PIXELS;
    *score = cn_edge_f1(found, wanted, PX, PX, TOLERANCE_PX, NULL, NULL);
    return CN_OK;
}

static uint8_t byte_of(float x)
{
    return (uint8_t)lrintf(fmaxf(0, fminf(1, x)) * 255);
}

static void set_pixel(cn_image *image, int64_t i, uint8_t r, uint8_t g, uint8_t b)
{
    uint8_t *p = image->rgb + 3 * i;
    p[0] = r;
    p[1] = g;
    p[2] = b;
}

static cn_status compare_maps(cn_reader_truth *t, cn_measure measure, double *score)
{
    cn_agreement a;
    CN_TRY(cn_measure_run(t->ctx, measure, t->found, t->wanted, &a));
    *score = a.score;
    return CN_OK;
}

static cn_status compare_depth(cn_reader_truth *t, const float *answer, double *score)
{
    const float nearest = nearest_depth(t);
    for (int64_t i = 0; i < PIXELS; i++) {
        const uint8_t f = byte_of(answer[i * CHANNELS + CN_READER_DEPTH] / DEPTH);
        const uint8_t w = byte_of(nearness(t, nearest, i));
        set_pixel(t->found, i, f, f, f);
        set_pixel(t->wanted, i, w, w, w);
    }
    return compare_maps(t, CN_MEASURE_DEPTH, score);
}

/* n is a direction in [-1,1], of any length. */
static void set_direction(cn_image *image, int64_t i, const float *n)
{
    const float length = sqrtf(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
    const float scale = length > 0.25f ? 1 / length : 0;
    set_pixel(image, i, byte_of(n[0] * scale / 2 + 0.5f), byte_of(n[1] * scale / 2 + 0.5f),
              byte_of(n[2] * scale / 2 + 0.5f));
}

static cn_status compare_normals(cn_reader_truth *t, const float *answer, double *score)
{
    for (int64_t i = 0; i < PIXELS; i++) {
        set_direction(t->found, i, answer + i * CHANNELS + CN_READER_NORMAL);
        set_direction(t->wanted, i, t->normal + 3 * i);
    }
    return compare_maps(t, CN_MEASURE_NORMALS, score);
}

static cn_status compare_classes(cn_reader_truth *t, const float *answer, double *score)
{
    for (int64_t i = 0; i < PIXELS; i++) {
        const float *of = answer + i * CHANNELS + CN_READER_CLASSES;
        int best = 0;
        for (int k = 1; k < CN_SCENE_CLASSES; k++)
            if (of[k] > of[best]) best = k;
        cn_scene_class_rgb(best, t->found->rgb + 3 * i);
        cn_scene_class_rgb(cn_scene_class(&t->scene, t->segments[i]), t->wanted->rgb + 3 * i);
    }
    return compare_maps(t, CN_MEASURE_CLASSES, score);
}

static bool is_peak(const float *answer, int channel, int x, int y)
{
    const float here = answer[((int64_t)y * PX + x) * CHANNELS + channel];
    if (here < POINT_FROM * POINT) return false;
    for (int j = CN_MAX(0, y - 1); j <= CN_MIN(PX - 1, y + 1); j++)
        for (int i = CN_MAX(0, x - 1); i <= CN_MIN(PX - 1, x + 1); i++) {
            const float other = answer[((int64_t)j * PX + i) * CHANNELS + channel];
            const bool before = j < y || (j == y && i < x);
            if ((i != x || j != y) && (before ? other >= here : other > here)) return false;
        }
    return true;
}

static int find_points(const float *answer, cn_key_point *out)
{
    int n = 0;
    for (int k = 0; k < CN_SCENE_KEY_POINTS; k++)
        for (int y = 0; y < PX; y++)
            for (int x = 0; x < PX && n < MOST_POINTS; x++)
                if (is_peak(answer, CN_READER_POINTS + k, x, y))
                    out[n++] = (cn_key_point){.part = k, .x = x + 0.5, .y = y + 0.5};
    return n;
}

/* Of one figure, whose size is the box of its points, at least a twentieth of the picture's side.
 */
static int figure_points(const cn_scene_figure *f, cn_key_point *out)
{
    double x0 = PX, x1 = 0, y0 = PX, y1 = 0;
    int n = 0;
    for (int k = 0; k < CN_SCENE_KEY_POINTS; k++) {
        if (!f->seen[k]) continue;
        out[n++] = (cn_key_point){.part = k, .x = (double)f->x[k], .y = (double)f->y[k]};
        x0 = fmin(x0, (double)f->x[k]);
        x1 = fmax(x1, (double)f->x[k]);
        y0 = fmin(y0, (double)f->y[k]);
        y1 = fmax(y1, (double)f->y[k]);
    }
    for (int i = 0; i < n; i++) out[i].squared_size = fmax((x1 - x0) * (y1 - y0), PIXELS / 400.0);
    return n;
}

static cn_status compare_points(cn_reader_truth *t, const float *answer, bool *applies,
                                double *score)
{
    cn_key_point found[MOST_POINTS], wanted[CN_SCENE_MAX_OBJECTS * CN_SCENE_KEY_POINTS];
    const int n = find_points(answer, found);
    int n_wanted = 0;
    for (int f = 0; f < t->n_figures; f++)
        n_wanted += figure_points(&t->figures[f], wanted + n_wanted);
    *applies = n_wanted > 0;
    return cn_key_point_agreement(t->ctx, found, n, wanted, n_wanted, score);
}

static const cn_measure measures[CN_CONDITION_COUNT] = {
    [CN_CONDITION_EDGES] = CN_MEASURE_EDGES,    [CN_CONDITION_DEPTH] = CN_MEASURE_DEPTH,
    [CN_CONDITION_NORMAL] = CN_MEASURE_NORMALS, [CN_CONDITION_SEGMENTATION] = CN_MEASURE_CLASSES,
    [CN_CONDITION_LINES] = CN_MEASURE_EDGES,    [CN_CONDITION_SOFTEDGE] = CN_MEASURE_EDGES,
    [CN_CONDITION_SCRIBBLE] = CN_MEASURE_EDGES, [CN_CONDITION_POSE] = CN_MEASURE_POSE,
    [CN_CONDITION_CARTOON] = CN_MEASURE_EDGES,  [CN_CONDITION_TOON] = CN_MEASURE_EDGES,
};

const char *cn_reader_truth_measure(cn_scene_condition condition)
{
    return condition == CN_CONDITION_LINES ? "line F1" : cn_measure_name(measures[condition]);
}

cn_status cn_reader_truth_agreement(cn_reader_truth *t, const float *answer,
                                    cn_scene_condition condition, bool *applies, double *score)
{
    const bool lines = condition == CN_CONDITION_LINES;
    *applies = true;
    *score = 0;
    switch (measures[condition]) {
    case CN_MEASURE_DEPTH: return compare_depth(t, answer, score);
    case CN_MEASURE_NORMALS: return compare_normals(t, answer, score);
    case CN_MEASURE_CLASSES: return compare_classes(t, answer, score);
    case CN_MEASURE_POSE: return compare_points(t, answer, applies, score);
    default:
        return compare_edges(t, answer, lines ? CN_READER_LINES : CN_READER_EDGES,
                             lines ? t->lines : t->edges, applies, score);
    }
}
