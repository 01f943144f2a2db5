/* SPDX-License-Identifier: Apache-2.0 */
/* winograd_dw.c - the gradient of a 3x3 convolution's weights by the transposed steps of
 * winograd.c's forward:
 *
 *   dg = G' [sum over tiles of (B' d B) . (A dy A')] G
 *
 * A block of tiles at a time: inputs and gradients are transformed into scratch that all threads
 * read. A job then owns a block of input and output channels: 36 products over the tiles, 16 input
 * channels at a time so that the sums stay in the second-level cache, and what they give is added
 * to the weights' gradient in its own order.
 *
 * Where all channels are one block, tiles are divided instead: each thread transforms and
 * multiplies its own, and in the end the threads' sums are added. The division follows from sizes
 * and the number of threads, so results repeat.
 */
#include "cpu/kernels/conv/conv_weights.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/conv/outer_products.h"
#include "cpu/kernels/conv/winograd_tiles.h"

#include <omp.h>

/* --- gradients in ----------------------------------------------------------------------------- */

/* z = A y: four elements to six. */
static inline void line_of_gradients(const vec *y, int from, vec *z, int to)
{
    const vec y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
    const vec even_a = y0 + AA * y2, odd_a = A * (y1 + AA * y3);
    const vec even_b = y0 + BB * y2, odd_b = B * (y1 + BB * y3);
    z[0] = y0;
    z[to] = even_a + odd_a;
    z[2 * to] = even_a - odd_a;
    z[3 * to] = even_b + odd_b;
    z[4 * to] = even_b - odd_b;
    z[5 * to] = y3;
}

static inline void transform_gradients(const vec *y, float *z, int64_t stride)
{
    vec rows[SIDE * OUT], row[SIDE];
    for (int x = 0; x < OUT; x++) line_of_gradients(y + x, OUT, rows + x, OUT);
    for (int i = 0; i < SIDE; i++) {
        line_of_gradients(rows + i * OUT, 1, row, 1);
        for (int x = 0; x < SIDE; x++) store(z + (i * SIDE + x) * stride, row[x]);
    }
}

static void tile_gradients(const cn_conv_args *a, tile t, int64_t first, int64_t n, float *z,
                           int64_t stride)
{
    const picture dy = {a->dy, a->type, a->h, a->w, a->O};
    gather_tile(&dy, t, OUT, transform_gradients, first, n, z, stride);
}

/* --- gradients out ---------------------------------------------------------------------------- */

/* g = G' u: six elements to three. */
static inline void line_of_sums(const vec *u, int from, vec *g, int to)
{
    const vec even_a = u[from] + u[2 * from], odd_a = u[from] - u[2 * from];
    const vec even_b = u[3 * from] + u[4 * from], odd_b = u[3 * from] - u[4 * from];
    g[0] = OF_0 * u[0] + (OF_A * even_a + OF_B * even_b);
    g[to] = OF_A * A * odd_a + OF_B * B * odd_b;
    g[2 * to] = OF_A * AA * even_a + (OF_B * BB * even_b + u[5 * from]);
}

/* Nine taps, each at g + tap * GROUP * GROUP, from 36 sums. */
static void transform_sums(const float *m, int64_t stride, float *g)
{
    vec columns[SIDE * K], column[SIDE], row[K];
    for (int x = 0; x < SIDE; x++) {
        for (int i = 0; i < SIDE; i++) column[i] = load(m + (i * SIDE + x) * stride);
        line_of_sums(column, 1, columns + x, SIDE);
    }
    for (int y = 0; y < K; y++) {
        line_of_sums(columns + y * SIDE, 1, row, 1);
        for (int x = 0; x < K; x++) store(g + (y * K + x) * GROUP * GROUP, row[x]);
    }
}

/* --- the work --------------------------------------------------------------------------------- */

/* Channels of block k as they are padded. */
static int64_t width_of(int64_t channels, int64_t k)
{
    return whole_groups(CN_MIN(CN_WINO_I, channels - k * CN_WINO_I));
}

/* Block k of tile t's channels, those of inputs before those of gradients, to the t-th place of
 * `blocks`. */
static void gather_block(const cn_conv_args *a, const cn_wino_size *s, int64_t k, int64_t block,
                         int64_t t, float *blocks)
{
    const bool in = k < s->in_blocks;
    const int64_t channels = in ? a->I : a->O, at = in ? k : k - s->in_blocks;
    const int64_t first = at * CN_WINO_I, n = CN_MIN(CN_WINO_I, channels - first);
    float *to = blocks + k * PLACES * s->inputs + t * whole_groups(n);
    (in ? tile_inputs : tile_gradients)(a, tile_at(s, block + t), first, n, to, s->inputs);
}

/* m [place][GROUP][width] = (add: +=) the 36 products of a group of a block's inputs, v
 * [place][tile][rows], and a block of gradients, z [place][tile][width]. */
static void multiply(const cn_wino_size *s, int64_t tiles, const float *v, int64_t rows,
                     const float *z, int64_t width, bool add, float *m)
{
    for (int p = 0; p < PLACES; p++)
        add_products(tiles, v + p * s->inputs, rows, z + p * s->inputs, width, add,
                     m + p * s->sums);
}

/* What m is worth, to the weights of the group of inputs from `in` and the block of outputs from
 * `out` on. */
static void put_sums(const cn_conv_args *a, const cn_wino_size *s, const float *m, int64_t in,
                     int64_t out, int64_t width, bool add)
{
    float g[TAPS * GROUP * GROUP];
    for (int64_t o = 0; o < width; o += GROUP) {
        for (int i = 0; i < GROUP; i++)
            for (int l = 0; l < GROUP; l += LANES)
                transform_sums(m + i * width + o + l, s->sums, g + i * GROUP + l);
        for (int tap = 0; tap < TAPS; tap++)
            write_weights(a, in, out + o, tap, g + tap * GROUP * GROUP, GROUP, add);
    }
}

/* Block i of inputs and block o of outputs, over `tiles` tiles. */
static void run_job(const cn_conv_args *a, const cn_wino_size *s, const float *blocks,
                    int64_t tiles, int64_t i, int64_t o, bool add, float *m)
{
    const float *v = blocks + i * PLACES * s->inputs;
    const float *z = blocks + (s->in_blocks + o) * PLACES * s->inputs;
    const int64_t rows = width_of(a->I, i), width = width_of(a->O, o);
    const int64_t in = i * CN_WINO_I, out = o * CN_WINO_O;
    for (int64_t r = 0; r < rows; r += GROUP) {
        multiply(s, tiles, v + r, rows, z, width, false, m);
        put_sums(a, s, m, in + r, out, width, add);
    }
}

/* By all threads together; own: a thread's scratch. */
static void run_by_channels(const cn_conv_args *a, const cn_wino_size *s, float *blocks, float *own)
{
    for (int64_t block = 0; block < s->tiles; block += s->block) {
        const int64_t tiles = CN_MIN(s->block, s->tiles - block);
#pragma omp for collapse(2) schedule(static)
        for (int64_t k = 0; k < s->in_blocks + s->out_blocks; k++)
            for (int64_t t = 0; t < tiles; t++) gather_block(a, s, k, block, t, blocks);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t o = 0; o < s->out_blocks; o++)
            for (int64_t i = 0; i < s->in_blocks; i++)
                run_job(a, s, blocks, tiles, i, o, block > 0, own);
    }
}

/* Sums [group of inputs][place] of one of the shares that tiles are divided into; own: blocks, and
 * behind them sums. */
static void run_share(const cn_conv_args *a, const cn_wino_size *s, int64_t share, float *own)
{
    const int64_t first = s->tiles * share / s->shares, end = s->tiles * (share + 1) / s->shares;
    const int64_t rows = whole_groups(a->I), width = whole_groups(a->O);
    const float *gradients = own + PLACES * s->inputs;
    float *sums = own + 2 * PLACES * s->inputs;
    for (int64_t block = first; block < end; block += s->block) {
        const int64_t tiles = CN_MIN(s->block, end - block);
        for (int64_t t = 0; t < tiles; t++)
            for (int64_t k = 0; k < 2; k++) gather_block(a, s, k, block, t, own);
        for (int64_t r = 0; r < rows; r += GROUP)
            multiply(s, tiles, own + r, rows, gradients, width, block > first,
                     sums + r / GROUP * PLACES * s->sums);
    }
}

/* By all threads together; `all`: the shares' scratch. */
static void run_by_tiles(const cn_conv_args *a, const cn_wino_size *s, float *all)
{
    const int64_t each = (int64_t)s->thread_floats, group = PLACES * s->sums;
    float *sums = all + 2 * PLACES * s->inputs;
#pragma omp for schedule(static, 1)
    for (int64_t i = 0; i < s->shares; i++) run_share(a, s, i, all + i * each);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < a->I; r += GROUP) {
        float *m = sums + r / GROUP * group;
        for (int64_t i = 1; i < s->shares; i++) put(m, m + i * each, group, true);
        put_sums(a, s, m, r, 0, whole_groups(a->O), false);
    }
}

void CN_K(winograd_dw)(const cn_conv_args *a)
{
    const cn_wino_size s = cn_wino_dw_size_of(a);
    float *scratch = (float *)(void *)a->scratch, *own = scratch + s.shared_floats;
#pragma omp parallel
    if (s.shares)
        run_by_tiles(a, &s, scratch);
    else
        run_by_channels(a, &s, scratch, own + (size_t)omp_get_thread_num() * s.thread_floats);
}
