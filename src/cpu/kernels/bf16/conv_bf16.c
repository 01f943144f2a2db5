/* SPDX-License-Identifier: Apache-2.0 */
/* conv_bf16.c - convolutions of any kernel, stride and dilation on bfloat16 as products of weights
 * and patches, NHWC; also matrix products, which are convolutions with one tap.
 *
 * As kernels/patches.c, but what is multiplied are pairs: a block of positions at a time, whose
 * patches are brought into scratch that all threads read. A job takes a block of output channels
 * and a part of the positions and goes through inputs and taps; each time it brings a few of the
 * weights, from whatever type they are stored in, into a buffer that stays in the first-level
 * cache, and adds one product. The division follows from sizes and the number of threads, so
 * results repeat.
 */
#include "cpu/kernels/bf16/conv_bf16.h"
#include "cpu/kernels/bf16/pairs_product.h"
#include "cpu/kernels/bf16/pixels_bf16.h"
#include "cpu/kernels/bf16/weights_bf16.h"
#include "cpu/kernels/conv/patches_out.h"

#include <omp.h>

enum { OUTS = CN_CONV16_OUTS };

/* One grid's: what a block of inputs is, and a product. */
typedef struct steps {
    int64_t channels; /* of a block of inputs */
    int taps;         /* of a product */
    bool left;        /* weights are */
} steps;

static steps steps_of(const cn_conv_args *a, const cn_conv_grid *g)
{
    const int products = (g->taps + CN_CONV16_TAPS - 1) / CN_CONV16_TAPS;
    const int taps = products ? (g->taps + products - 1) / products : 1;
    return (steps){CN_CONV16_DEPTH / taps / GROUP * GROUP, taps, cn_conv16_left(a)};
}

cn_conv16_size cn_conv16_size_of(const cn_conv_args *a)
{
    int64_t taps = 0, most = 0;
    for (int i = 0; i < a->n_grids; i++) {
        taps = CN_MAX(taps, a->grids[i].taps);
        most = CN_MAX(most, cn_grid_positions(a, &a->grids[i]));
    }
    cn_conv16_size s = {.block = CN_MIN(most, CN_CONV16_POSITIONS),
                        .out_blocks = cn_conv16_up(a->O, OUTS) / OUTS};
    s.room = cn_conv16_up(s.block, GROUP);
    s.parts = s.out_blocks % a->threads ? a->threads : 1;
    s.part = cn_conv16_up((s.block + s.parts - 1) / s.parts, GROUP);
    s.inputs = whole_groups(a->I) * taps * s.room;
    s.shared_bytes = cn_conv16_up(s.inputs * (int64_t)sizeof(uint16_t), 64);
    s.thread_bytes = (size_t)(OUTS * CN_CONV16_DEPTH) * sizeof(uint16_t) +
                     (size_t)(2 * s.part * OUTS) * sizeof(float);
    return s;
}

/* --- patches ---------------------------------------------------------------------------------- */

/* Channels in .. in+n, a multiple of 16, of GROUP pixels, zeros where there is none: rows `apart`
 * from each other; or, where weights are the left operand, pairs of `apart` positions. */
static void gather_pixels(const uint16_t *const x[GROUP], int64_t I, int64_t in, int64_t n,
                          bool pairs, uint16_t *to, int64_t apart)
{
    for (int64_t c = 0; c < n; c += 2 * GROUP) {
        const int64_t wide = CN_MIN(2 * GROUP, n - c);
        const __mmask32 there = first32(I - in - c);
        __m512i v[GROUP];
        for (int i = 0; i < GROUP; i++)
            v[i] = x[i] ? _mm512_maskz_loadu_epi16(there, x[i] + in + c) : _mm512_setzero_si512();
        if (pairs) turn16(v);
        for (int i = 0; i < (pairs ? wide / 2 : GROUP); i++)
            if (pairs)
                _mm512_storeu_si512(to + (c / 2 + i) * 2 * apart, v[i]);
            else
                _mm512_mask_storeu_epi16(to + i * apart + c, first32(wide), v[i]);
    }
}

/* What tap t of a grid reads for GROUP positions from p on of the block that begins at `block`. */
static void gather_patches(const cn_conv_args *a, const cn_conv_grid *g, const cn_conv16_size *s,
                           int64_t block, int64_t p, int t, uint16_t *patches)
{
    const steps st = steps_of(a, g);
    const uint16_t *x[GROUP];
    pixels_at(a, g, block + p, a->taps[g->first + t], x);
    for (int64_t in = 0; in < a->I; in += st.channels) {
        const int64_t rows = whole_groups(CN_MIN(st.channels, a->I - in));
        uint16_t *to = patches + in * g->taps * s->room;
        if (st.left)
            gather_pixels(x, a->I, in, rows, true, to + t * rows * s->room + 2 * p, s->room);
        else
            gather_pixels(x, a->I, in, rows, false, to + (p * g->taps + t) * rows, rows * g->taps);
    }
}

/* --- a block of outputs ----------------------------------------------------------------------- */

/* Weights of some taps from some inputs to a block of outputs, as one operand of a product. */
typedef struct piece {
    int64_t in, rows, out, width;
    int tap, taps; /* from all grids' first on */
} piece;

static inline __attribute__((always_inline)) void gather_piece(const cn_conv_args *a,
                                                               const piece *p, cn_dtype type,
                                                               bool in_pairs, bool left,
                                                               uint16_t *u)
{
    const int64_t depth = p->taps * p->rows;
    for (int64_t o = 0; o < p->width; o += GROUP)
        for (int64_t i = 0; i < p->rows; i += GROUP)
            for (int k = 0; k < p->taps; k++) {
                const int64_t d = k * p->rows + i;
                gather_group(a, type, in_pairs, p->in + i, p->out + o, p->tap + k, left,
                             left ? u + o * depth + d : u + d * p->width + 2 * o,
                             left ? depth : p->width);
            }
}

static inline __attribute__((always_inline)) void
gather_piece_of(const cn_conv_args *a, const piece *p, cn_dtype type, uint16_t *u)
{
    switch (a->runs) {
    case CN_RUNS_IN: gather_piece(a, p, type, false, true, u); break;
    case CN_PAIRS_IN: gather_piece(a, p, type, true, true, u); break;
    case CN_PAIRS_OUT: gather_piece(a, p, type, true, false, u); break;
    default: gather_piece(a, p, type, false, false, u);
    }
}

static void gather_weights(const cn_conv_args *a, const piece *p, uint16_t *u)
{
    switch (a->weight_type) {
    case CN_BF16: gather_piece_of(a, p, CN_BF16, u); break;
    case CN_F16: gather_piece_of(a, p, CN_F16, u); break;
    default: gather_piece_of(a, p, CN_F32, u);
    }
}

static void prefetch_weights_of(const cn_conv_args *a, const piece *p, cn_prefetch *s)
{
    for (int64_t o = 0; o < p->width; o += GROUP)
        for (int64_t i = 0; i < p->rows; i += GROUP)
            for (int k = 0; k < p->taps; k++)
                prefetch_group(a, p->in + i, p->out + o, p->tap + k, s);
}

/* The piece behind p of a block of outputs; false: p is the last. */
static bool next_piece(const cn_conv_args *a, const cn_conv_grid *g, const steps *st, piece *p)
{
    p->tap += p->taps;
    if (p->tap == g->first + g->taps) {
        p->tap = g->first;
        p->in += p->rows;
    }
    p->taps = CN_MIN(st->taps, g->first + g->taps - p->tap);
    p->rows = whole_groups(CN_MIN(st->channels, a->I - p->in));
    return p->in < a->I;
}

/* Sums to outputs; of left weights they come transposed, `part` positions a row. */
static void put_outputs(const cn_conv_args *a, const cn_conv_grid *g, int64_t first, int64_t n,
                        int64_t out, int64_t width, bool left, float *sums, int64_t part)
{
    const int64_t outs = CN_MIN(OUTS, a->O - out);
    if (left) {
        float *rows = sums + part * OUTS;
        transpose(sums, part, width, cn_conv16_up(n, GROUP), 1, rows, width);
        sums = rows;
    }
    put_positions(a, g, first, n, out, outs, sums, width);
}

/* Compiled once, for an s that is there. */
static __attribute__((noinline, nonnull)) void product(int64_t m, int64_t n, int64_t k,
                                                       const uint16_t *a, int64_t lda,
                                                       const uint16_t *b, int64_t ldb, float *c,
                                                       int64_t ldc, bool add, cn_prefetch *s)
{
    pairs_product(m, n, k, a, lda, b, ldb, c, ldc, add, s);
}

/* One block of output channels for positions first .. first+n of the block that begins at
 * `block`. */
static void run_job(const cn_conv_args *a, const cn_conv_grid *g, const cn_conv16_size *s,
                    const uint16_t *patches, int64_t block, int64_t first, int64_t n, int64_t out,
                    uint16_t *u)
{
    const steps st = steps_of(a, g);
    const int64_t width = whole_groups(CN_MIN(OUTS, a->O - out)), whole = cn_conv16_up(n, GROUP);
    float *sums = (float *)(void *)(u + OUTS * CN_CONV16_DEPTH);
    piece p = {.out = out, .width = width, .tap = g->first}, next = p;
    cn_prefetch next_weights;
    if (g->taps == 0) memset(sums, 0, (size_t)(s->part * OUTS) * sizeof *sums);
    for (bool more = g->taps > 0 && next_piece(a, g, &st, &next); more;) {
        p = next;
        more = next_piece(a, g, &st, &next);
        prefetch_none(a, &next_weights);
        if (more) prefetch_weights_of(a, &next, &next_weights);
        const int64_t all = p.rows * g->taps, depth = p.rows * p.taps;
        const int64_t at = p.rows * (p.tap - g->first);
        const uint16_t *x = patches + p.in * g->taps * s->room;
        const bool add = p.in > 0 || p.tap > g->first;
        gather_weights(a, &p, u);
        if (st.left)
            product(width, whole, depth, u, depth, x + at * s->room + 2 * first, s->room, sums,
                    s->part, add, &next_weights);
        else
            product(n, width, depth, x + first * all + at, all, u, width, sums, width, add,
                    &next_weights);
    }
    put_outputs(a, g, block + first, n, out, width, st.left, sums, s->part);
}

static void run_grid(const cn_conv_args *a, const cn_conv_grid *g, const cn_conv16_size *s,
                     uint16_t *patches, uint16_t *own)
{
    const int64_t all = cn_grid_positions(a, g);
    for (int64_t block = 0; block < all; block += s->block) {
        const int64_t positions = CN_MIN(s->block, all - block);
#pragma omp for collapse(2) schedule(static)
        for (int t = 0; t < g->taps; t++)
            for (int64_t p = 0; p < s->room; p += GROUP)
                gather_patches(a, g, s, block, p, t, patches);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t o = 0; o < s->out_blocks; o++)
            for (int64_t first = 0; first < s->block; first += s->part)
                if (first < positions)
                    run_job(a, g, s, patches, block, first, CN_MIN(s->part, positions - first),
                            o * OUTS, own);
    }
}

void cn_conv16(const cn_conv_args *a)
{
    const cn_conv16_size s = cn_conv16_size_of(a);
#pragma omp parallel
    for (int i = 0; i < a->n_grids; i++)
        run_grid(a, &a->grids[i], &s, (uint16_t *)(void *)a->scratch,
                 (uint16_t *)(void *)(a->scratch + s.shared_bytes +
                                      (size_t)omp_get_thread_num() * s.thread_bytes));
}
