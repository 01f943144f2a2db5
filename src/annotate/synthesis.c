/* SPDX-License-Identifier: Apache-2.0 */
/* synthesis.c - see synthesis.h. The draws come in a fixed order whatever the picture holds, but
 * for one per piece of stroke. */
#include "annotate/synthesis.h"

#include "annotate/kinds.h"
#include "annotate/strokes.h"

#include <math.h>
#include <string.h>

enum { CELL_MIN = 24, CELL_MAX = 160 };
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
typedef struct pieces {
    map left;
    uint16_t *column, *row; /* the grid's cell of each x and y */
    uint32_t *stack;        /* [w * h] */
} pieces;

static bool same_cell(const pieces *p, int64_t x, int64_t y, int64_t x2, int64_t y2)
{
    return p->column[x] == p->column[x2] && p->row[y] == p->row[y2];
}

/* Takes the piece that (i % w, i / w) belongs to out of what is left, its pixels into the stack's
 * first n. */
static size_t remove_piece(pieces *p, size_t i)
{
    const int64_t w = p->left.w, h = p->left.h;
    size_t n = 0, done = 0;
    p->left.at[i] = 0;
    p->stack[n++] = (uint32_t)i;
    while (done < n) {
        const uint32_t at = p->stack[done++];
        const int64_t x = at % (uint32_t)w, y = at / (uint32_t)w;
        for (int64_t v = CN_MAX(y - 1, 0); v <= CN_MIN(y + 1, h - 1); v++)
            for (int64_t u = CN_MAX(x - 1, 0); u <= CN_MIN(x + 1, w - 1); u++) {
                const int64_t k = v * w + u;
                if (!p->left.at[k] || !same_cell(p, x, y, u, v)) continue;
                p->left.at[k] = 0;
                p->stack[n++] = (uint32_t)k;
            }
    }
    return n;
}

/* Each piece is dropped by chance, in the order of its first pixel. */
static void drop_pieces(cn_rng *r, double drop, pieces *p, map *m)
{
    const uint8_t *from = p->left.at, *const end = from + m->w * m->h;
    while ((from = memchr(from, 255, (size_t)(end - from)))) {
        const size_t n = remove_piece(p, (size_t)(from - p->left.at));
        if ((double)cn_rng_uniform(r) >= drop) continue;
        for (size_t k = 0; k < n; k++) m->at[p->stack[k]] = 0;
    }
}

static void fill_cells(uint16_t *cells, int64_t n, int64_t cell, int64_t offset)
{
    for (int64_t i = 0; i < n; i++) cells[i] = (uint16_t)((i + offset) / cell);
}

static cn_status mask_pieces(cn_ctx *ctx, cn_rng *r, double share, map *m)
{
    const size_t pixels = (size_t)(m->w * m->h);
    const int64_t cell = CELL_MIN + cn_rng_below(r, CELL_MAX - CELL_MIN + 1),
                  x = cn_rng_below(r, CELL_MAX), y = cn_rng_below(r, CELL_MAX);
    const double drop = between(r, 0, share);
    pieces p = {.left = {m->w, m->h, cn_alloc(ctx, pixels)},
                .column = cn_alloc_array(ctx, (size_t)m->w, sizeof *p.column),
                .row = cn_alloc_array(ctx, (size_t)m->h, sizeof *p.row),
                .stack = cn_alloc_array(ctx, pixels, sizeof *p.stack)};
    const cn_status s = p.left.at && p.column && p.row && p.stack ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        memcpy(p.left.at, m->at, pixels);
        fill_cells(p.column, m->w, cell, x);
        fill_cells(p.row, m->h, cell, y);
        drop_pieces(r, drop, &p, m);
    }
    cn_free(p.left.at);
    cn_free(p.column);
    cn_free(p.row);
    cn_free(p.stack);
    return s;
}

/* --- morphology ------------------------------------------------------------------------------- */

/* Runs of `value` in a row, made longer by `reach` at both ends. */
static void widen_runs(const uint8_t *row, int64_t n, int reach, uint8_t value, uint8_t *out)
{
    for (int64_t x = 0; x < n;) {
        const uint8_t *first = memchr(row + x, value, (size_t)(n - x));
        if (!first) break;
        const int64_t begin = first - row;
        const uint8_t *behind = memchr(first, value ^ 255, (size_t)(n - begin));
        const int64_t end = behind ? behind - row : n;
        const int64_t from = CN_MAX(begin - reach, 0), to = CN_MIN(end + reach, n);
        memset(out + from, value, (size_t)(to - from));
        x = end;
    }
}

/* Every pixel within `radius` of one that has `value` gets it: widens with 255, narrows with 0.
 * Outside of the picture there is nothing of either. */
static cn_status spread(cn_ctx *ctx, map *m, int radius, uint8_t value)
{
    const size_t pixels = (size_t)(m->w * m->h);
    if (radius == 0) return CN_OK;
    uint8_t *from = cn_alloc(ctx, pixels);
    if (!from) return CN_ENOMEM;
    memcpy(from, m->at, pixels);
    for (int dy = -radius; dy <= radius; dy++) {
        const int reach = (int)sqrt((double)(radius * radius - dy * dy));
        const int64_t begin = dy < 0 ? -dy : 0, end = dy > 0 ? m->h - dy : m->h;
        for (int64_t y = begin; y < end; y++)
            widen_runs(from + (y + dy) * m->w, m->w, reach, value, m->at + y * m->w);
    }
    cn_free(from);
    return CN_OK;
}

/* A pixel stays where those to its right, below and between them are white too: lines become one
 * pixel narrower, and those of one pixel break. By more, lines of two pixels would be gone, and
 * with them whole things. */
static void narrow(map *m)
{
    const int64_t w = m->w;
    for (int64_t y = 0; y + 1 < m->h; y++) {
        uint8_t *row = m->at + y * w;
        for (int64_t x = 0; x + 1 < w; x++) row[x] &= row[x + 1] & row[x + w] & row[x + w + 1];
    }
}

/* Widened; widened and narrowed again, which closes gaps; or narrowed first, which breaks thin
 * lines. */
static cn_status change_shape(cn_ctx *ctx, cn_rng *r, int width, bool is_thin, map *m)
{
    const int radius = (int)cn_rng_below(r, width + 1), form = (int)cn_rng_below(r, 3);
    if (form == 2 && !is_thin) narrow(m);
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
        CN_TRY(cn_edge_thin(ctx, edges, m->w, m->h, threshold, sigma, m->at));
    else
        for (int64_t i = 0; i < m->w * m->h; i++) m->at[i] = edges[i] > threshold ? 255 : 0;
    CN_TRY(mask_pieces(ctx, r, rules->share, m));
    return change_shape(ctx, r, rules->width, is_thin, m);
}

cn_status cn_scribble_map(cn_ctx *ctx, const uint8_t *edges, int64_t width, int64_t height,
                          const cn_synthesis_rules *rules, uint64_t seed, uint8_t *out)
{
    cn_rng r;
    map m = {width, height, out};
    cn_rng_seed(&r, seed);
    return synthesise(ctx, rules, &r, edges, &m);
}

cn_status cn_scribble_synthesis(cn_ctx *ctx, const cn_image *edges, const cn_synthesis_rules *rules,
                                uint64_t seed, cn_image **out)
{
    const size_t n = (size_t)(edges->width * edges->height);
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, edges->width, edges->height, &image));
    uint8_t *source = cn_alloc(ctx, n), *made = cn_alloc(ctx, n);
    cn_status s = source && made ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) source[i] = edges->rgb[3 * i];
    if (s == CN_OK)
        s = cn_scribble_map(ctx, source, edges->width, edges->height, rules, seed, made);
    for (size_t i = 0; s == CN_OK && i < n; i++) memset(image->rgb + 3 * i, made[i], 3);
    cn_free(source);
    cn_free(made);
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
