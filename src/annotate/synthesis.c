/* SPDX-License-Identifier: Apache-2.0 */
/* synthesis.c - see synthesis.h. The draws come in a fixed order whatever the picture holds, but
 * for one per piece of stroke. */
#include "annotate/synthesis.h"

#include "annotate/kinds.h"
#include "annotate/strokes.h"

#include <math.h>
#include <string.h>

enum { CELL_MIN = 24, CELL_MAX = 160, BREAK_RADIUS = 1 };
static const double sigma_min = 1, sigma_max = 4;

typedef struct map {
    int64_t w, h;
    uint8_t *at; /* 0 or 255 */
} map;

static double between(cn_rng *r, double low, double high)
{
    return low + (high - low) * (double)cn_rng_uniform(r);
}

/* --- masking ---------------------------------------------------------------------------------- */

/* Strokes fall into pieces at the lines of a grid of random size and place, since one boundary
 * often runs through the whole picture. */
typedef struct grid {
    int64_t cell, x, y;
} grid;

static bool same_cell(const grid *g, int64_t x, int64_t y, int64_t x2, int64_t y2)
{
    return (x + g->x) / g->cell == (x2 + g->x) / g->cell &&
           (y + g->y) / g->cell == (y2 + g->y) / g->cell;
}

/* Takes the piece that (i % w, i / w) belongs to out of `left`, its pixels into stack[0..n). */
static size_t remove_piece(const map *left, const grid *g, int64_t i, int64_t *stack)
{
    size_t n = 0, done = 0;
    left->at[i] = 0;
    stack[n++] = i;
    while (done < n) {
        const int64_t x = stack[done] % left->w, y = stack[done] / left->w;
        done++;
        for (int64_t v = CN_MAX(y - 1, 0); v <= CN_MIN(y + 1, left->h - 1); v++)
            for (int64_t u = CN_MAX(x - 1, 0); u <= CN_MIN(x + 1, left->w - 1); u++) {
                const int64_t k = v * left->w + u;
                if (!left->at[k] || !same_cell(g, x, y, u, v)) continue;
                left->at[k] = 0;
                stack[n++] = k;
            }
    }
    return n;
}

static cn_status mask_pieces(cn_ctx *ctx, cn_rng *r, double share, map *m)
{
    const size_t pixels = (size_t)(m->w * m->h);
    const grid g = {CELL_MIN + cn_rng_below(r, CELL_MAX - CELL_MIN + 1), cn_rng_below(r, CELL_MAX),
                    cn_rng_below(r, CELL_MAX)};
    const double drop = between(r, 0, share);
    map left = {m->w, m->h, cn_alloc(ctx, pixels)};
    int64_t *stack = cn_alloc_array(ctx, pixels, sizeof *stack);
    cn_status s = left.at && stack ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) memcpy(left.at, m->at, pixels);
    for (size_t i = 0; s == CN_OK && i < pixels; i++) {
        if (!left.at[i]) continue;
        const size_t n = remove_piece(&left, &g, (int64_t)i, stack);
        if ((double)cn_rng_uniform(r) >= drop) continue;
        for (size_t k = 0; k < n; k++) m->at[stack[k]] = 0;
    }
    cn_free(left.at);
    cn_free(stack);
    return s;
}

/* --- morphology ------------------------------------------------------------------------------- */

/* Every pixel within `radius` of one that has `value` gets it: widens with 255, narrows with 0.
 * Outside of the picture there is nothing of either. */
static cn_status spread(cn_ctx *ctx, map *m, int radius, uint8_t value)
{
    const size_t pixels = (size_t)(m->w * m->h);
    if (radius == 0) return CN_OK;
    uint8_t *from = cn_alloc(ctx, pixels);
    if (!from) return CN_ENOMEM;
    memcpy(from, m->at, pixels);
    for (int64_t y = 0; y < m->h; y++)
        for (int dy = -radius; dy <= radius; dy++) {
            const int reach = (int)sqrt((double)(radius * radius - dy * dy));
            if (y + dy < 0 || y + dy >= m->h) continue;
            const uint8_t *row = from + (y + dy) * m->w;
            for (int64_t x = 0; x < m->w; x++) {
                if (row[x] != value) continue;
                const int64_t begin = CN_MAX(x - reach, 0), end = CN_MIN(x + reach + 1, m->w);
                memset(m->at + y * m->w + begin, value, (size_t)(end - begin));
            }
        }
    cn_free(from);
    return CN_OK;
}

/* Widened; widened and narrowed again, which closes gaps; or narrowed first, which breaks thin
 * lines. */
static cn_status change_shape(cn_ctx *ctx, cn_rng *r, int width, bool is_thin, map *m)
{
    const int radius = (int)cn_rng_below(r, width + 1), form = (int)cn_rng_below(r, 3);
    if (form == 2 && !is_thin) CN_TRY(spread(ctx, m, BREAK_RADIUS, 0));
    CN_TRY(spread(ctx, m, radius, 255));
    return form == 1 ? spread(ctx, m, radius / 2, 0) : CN_OK;
}

/* --- the whole -------------------------------------------------------------------------------- */

static cn_status synthesise(cn_ctx *ctx, const cn_synthesis_rules *rules, cn_rng *r,
                            const uint8_t *edges, map *m)
{
    const double threshold = between(r, rules->low, rules->high);
    const bool is_thin = (double)cn_rng_uniform(r) < rules->thin;
    const double sigma = between(r, sigma_min, sigma_max);
    if (is_thin)
        CN_TRY(cn_edge_nms(ctx, edges, m->w, m->h, threshold, sigma, m->at));
    else
        for (int64_t i = 0; i < m->w * m->h; i++) m->at[i] = edges[i] > threshold ? 255 : 0;
    CN_TRY(mask_pieces(ctx, r, rules->share, m));
    return change_shape(ctx, r, rules->width, is_thin, m);
}

cn_status cn_scribble_synthesis(cn_ctx *ctx, const cn_image *edges, const cn_synthesis_rules *rules,
                                uint64_t seed, cn_image **out)
{
    const size_t n = (size_t)(edges->width * edges->height);
    cn_rng r;
    cn_image *image = NULL;
    cn_rng_seed(&r, seed);
    CN_TRY(cn_image_create(ctx, edges->width, edges->height, &image));
    uint8_t *source = cn_alloc(ctx, n);
    map m = {edges->width, edges->height, cn_alloc(ctx, n)};
    cn_status s = source && m.at ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) source[i] = edges->rgb[3 * i];
    if (s == CN_OK) s = synthesise(ctx, rules, &r, source, &m);
    for (size_t i = 0; s == CN_OK && i < n; i++) memset(image->rgb + 3 * i, m.at[i], 3);
    cn_free(source);
    cn_free(m.at);
    if (s == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return s;
}

/* --- the kind --------------------------------------------------------------------------------- */

static const cn_kind_option options[] = {
    {"low", "the edges' threshold is drawn between this", CN_OPTION_NUMBER, 0, 254, 40},
    {"high", "and this", CN_OPTION_NUMBER, 0, 254, 160},
    {"thin", "probability of non-maximum suppression", CN_OPTION_NUMBER, 0, 1, 0.5},
    {"share", "at most so much of the strokes is left out", CN_OPTION_NUMBER, 0, 1, 0.6},
    {"width", "lines are widened by up to so many pixels", CN_OPTION_INT, 0, 32, 3},
};

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    const cn_annotate_args *a = cn_session_args(s);
    const double *v = a->values;
    const cn_synthesis_rules rules = {CN_MIN(v[0], v[1]), CN_MAX(v[0], v[1]), v[2], v[3],
                                      (int)v[4]};
    return cn_scribble_synthesis(cn_session_ctx(s), in, &rules, a->seed, out);
}

const cn_kind cn_kind_scribble_synthesis = {
    .name = "scribble_synthesis",
    .title = "a soft edge map as a scribble by chance, as the paper trains",
    CN_KIND_OPTIONS(options),
    .run = run,
    .seeded = true,
    .mirror = CN_MIRROR_PLAIN};
