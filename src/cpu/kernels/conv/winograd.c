/* SPDX-License-Identifier: Apache-2.0 */
/* winograd.c - 3x3 convolution with stride 1 by Winograd's F(4x4,3x3) (Lavin and Gray, "Fast
 * Algorithms for Convolutional Neural Networks"), NHWC. Pictures are float32 or bfloat16, sums
 * float32.
 *
 * y = A' [(G g G') . (B' d B)] A, with the interpolation points 0, +-5/8, +-3/2 and infinity: all
 * coefficients of A and B are exact in binary, and errors are half those of the usual 0, +-1, +-2.
 *
 * A block of tiles at a time: its inputs are transformed into scratch that all threads read. A job
 * then takes a block of output channels and a part of the tiles, goes through the blocks of input
 * channels, transforms each one's weights into a buffer that stays in the second-level cache, adds
 * the 36 products, and writes its outputs with bias, residual, shift and activation. Transformed
 * weights are never kept: they would be four times the weights, and trained ones change at every
 * step. Where all channels are one block, each thread takes a share of all tiles with scratch and
 * weights of its own. The division follows from sizes and the number of threads, so results repeat,
 * whichever thread takes a job.
 *
 * Input channels are padded with zeros to whole groups of 16, outputs beyond the last are computed
 * and dropped.
 */
#include "cpu/kernels/conv/winograd.h"
#include "cpu/kernels/conv/conv_outputs.h"
#include "cpu/kernels/conv/conv_weights.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/small_product.h"
#include "cpu/kernels/conv/winograd_tiles.h"

#include <omp.h>
#include <string.h>

/* --- weights ---------------------------------------------------------------------------------- */

/* u = G g: three elements to six. */
static inline void line_of_weights(const vec *g, int from, vec *u, int to)
{
    const vec g0 = g[0], g1 = g[from], g2 = g[2 * from];
    const vec even_a = OF_A * g0 + OF_A * AA * g2, even_b = OF_B * g0 + OF_B * BB * g2;
    u[0] = OF_0 * g0;
    u[to] = even_a + OF_A * A * g1;
    u[2 * to] = even_a - OF_A * A * g1;
    u[3 * to] = even_b + OF_B * B * g1;
    u[4 * to] = even_b - OF_B * B * g1;
    u[5 * to] = g2;
}

static void transform_weights(const float *g, int64_t tap, float *u, int64_t stride)
{
    vec taps[TAPS], rows[SIDE * K], row[SIDE];
    for (int i = 0; i < TAPS; i++) taps[i] = load(g + i * tap);
    for (int x = 0; x < K; x++) line_of_weights(taps + x, K, rows + x, K);
    for (int y = 0; y < SIDE; y++) {
        line_of_weights(rows + y * K, 1, row, 1);
        for (int x = 0; x < SIDE; x++) store(u + (y * SIDE + x) * stride, row[x]);
    }
}

/* u [place][in][out], `width` outputs a row, of rows x width channels. */
static void block_of_weights(const cn_conv_args *a, int64_t in, int64_t rows, int64_t out,
                             int64_t width, float *u, int64_t stride)
{
    float g[TAPS * GROUP * GROUP];
    for (int64_t i = 0; i < rows; i += GROUP)
        for (int64_t o = 0; o < width; o += GROUP) {
            for (int tap = 0; tap < TAPS; tap++)
                read_weights(a, in + i, out + o, tap, g + tap * GROUP * GROUP, GROUP);
            for (int r = 0; r < GROUP; r++)
                for (int l = 0; l < GROUP; l += LANES)
                    transform_weights(g + r * GROUP + l, GROUP * GROUP, u + (i + r) * width + o + l,
                                      stride);
        }
}

/* --- outputs ---------------------------------------------------------------------------------- */

/* y = A' m: six sums to four. */
static inline void line_of_outputs(const vec *m, int from, vec *y, int to)
{
    const vec even_a = m[from] + m[2 * from], odd_a = m[from] - m[2 * from];
    const vec even_b = m[3 * from] + m[4 * from], odd_b = m[3 * from] - m[4 * from];
    y[0] = m[0] + (even_a + even_b);
    y[to] = A * odd_a + B * odd_b;
    y[2 * to] = AA * even_a + BB * even_b;
    y[3 * to] = A * AA * odd_a + (B * BB * odd_b + m[5 * from]);
}

static inline void transform_sums(const float *m, int64_t stride, vec y[OUT * OUT])
{
    vec columns[SIDE * OUT], column[SIDE];
    for (int x = 0; x < SIDE; x++) {
        for (int i = 0; i < SIDE; i++) column[i] = load(m + (i * SIDE + x) * stride);
        line_of_outputs(column, 1, columns + x, SIDE);
    }
    for (int i = 0; i < OUT; i++) line_of_outputs(columns + i * SIDE, 1, y + i * OUT, 1);
}

/* The outputs of tile t, channels o .. o+n with n <= LANES. */
static inline __attribute__((always_inline)) void tile_outputs_as(const cn_conv_args *a,
                                                                  cn_dtype type, tile t, int64_t o,
                                                                  int64_t n, const float *m,
                                                                  int64_t stride)
{
    vec y[OUT * OUT], bias = a->bias ? load_some(CN_F32, a->bias + o, n) : (vec){0};
    transform_sums(m, stride, y);
    for (int64_t i = 0; i < CN_MIN(OUT, a->h - t.y); i++)
        for (int64_t j = 0; j < CN_MIN(OUT, a->w - t.x); j++) {
            const int64_t pixel = (t.n * a->h + t.y + i) * a->w + t.x + j;
            put_output(a, type, t.n, pixel, o, n, y[i * OUT + j] + bias);
        }
}

static void tile_outputs(const cn_conv_args *a, tile t, int64_t o, int64_t n, const float *m,
                         int64_t stride)
{
    if (a->result == CN_BF16)
        tile_outputs_as(a, CN_BF16, t, o, n, m, stride);
    else
        tile_outputs_as(a, CN_F32, t, o, n, m, stride);
}

/* --- the work --------------------------------------------------------------------------------- */

/* sums [place][tile][width] = (add: +=) inputs v [place][tile][rows] of n tiles times weights u
 * [place][rows][width]. */
static void multiply(const cn_wino_size *s, int64_t n, const float *v, int64_t rows, const float *u,
                     int64_t width, bool add, float *sums)
{
    for (int p = 0; p < PLACES; p++)
        small_product(width, n, rows, u + p * s->weights, width, v + p * s->inputs, rows, add,
                      sums + p * s->sums, width);
}

/* Outputs out .. of `outs` channels of n tiles from tile `first` on. */
static void put_tiles(const cn_conv_args *a, const cn_wino_size *s, int64_t first, int64_t n,
                      int64_t out, int64_t outs, const float *sums)
{
    for (int64_t t = 0; t < n; t++) {
        const tile at = tile_at(s, first + t);
        for (int64_t o = 0; o < outs; o += LANES)
            tile_outputs(a, at, out + o, CN_MIN(LANES, outs - o), sums + t * whole_groups(outs) + o,
                         s->sums);
    }
}

/* One block of output channels for tiles first .. first+n of the block that begins at tile
 * `block`. */
static void run_job(const cn_conv_args *a, const cn_wino_size *s, const float *inputs,
                    int64_t block, int64_t first, int64_t n, int64_t out, float *u)
{
    const int64_t outs = CN_MIN(CN_WINO_O, a->O - out), width = whole_groups(outs);
    float *sums = u + s->weights * PLACES;
    for (int64_t k = 0; k < s->in_blocks; k++) {
        const int64_t in = k * CN_WINO_I, rows = whole_groups(CN_MIN(CN_WINO_I, a->I - in));
        const float *v = inputs + k * PLACES * s->inputs + first * rows;
        block_of_weights(a, in, rows, out, width, u, s->weights);
        multiply(s, n, v, rows, u, width, k > 0, sums);
    }
    put_tiles(a, s, block + first, n, out, outs, sums);
}

/* By all threads together; own: a thread's scratch. */
static void run_by_channels(const cn_conv_args *a, const cn_wino_size *s, float *inputs, float *own)
{
    for (int64_t block = 0; block < s->tiles; block += s->block) {
        const int64_t tiles = CN_MIN(s->block, s->tiles - block);
#pragma omp for collapse(2) schedule(static)
        for (int64_t k = 0; k < s->in_blocks; k++)
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t in = k * CN_WINO_I, n = CN_MIN(CN_WINO_I, a->I - in);
                tile_inputs(a, tile_at(s, block + t), in, n,
                            inputs + k * PLACES * s->inputs + t * whole_groups(n), s->inputs);
            }
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t o = 0; o < s->out_blocks; o++)
            for (int64_t first = 0; first < s->block; first += s->part)
                if (first < tiles)
                    run_job(a, s, inputs, block, first, CN_MIN(s->part, tiles - first),
                            o * CN_WINO_O, own);
    }
}

/* One of the shares that tiles are divided into; own: weights, inputs and sums. */
static void run_share(const cn_conv_args *a, const cn_wino_size *s, int64_t share, float *own)
{
    const int64_t first = s->tiles * share / s->shares, end = s->tiles * (share + 1) / s->shares;
    const int64_t rows = whole_groups(a->I), width = whole_groups(a->O);
    float *inputs = own + PLACES * s->weights, *sums = inputs + PLACES * s->inputs;
    block_of_weights(a, 0, rows, 0, width, own, s->weights);
    for (int64_t block = first; block < end; block += s->block) {
        const int64_t tiles = CN_MIN(s->block, end - block);
        for (int64_t t = 0; t < tiles; t++)
            tile_inputs(a, tile_at(s, block + t), 0, a->I, inputs + t * rows, s->inputs);
        multiply(s, tiles, inputs, rows, own, width, false, sums);
        put_tiles(a, s, block, tiles, 0, a->O, sums);
    }
}

void CN_K(winograd)(const cn_conv_args *a)
{
    const cn_wino_size s = cn_wino_size_of(a);
    float *scratch = (float *)(void *)a->scratch, *others = scratch + s.shared_floats;
#pragma omp parallel
    if (s.shares) {
#pragma omp for schedule(static, 1)
        for (int64_t i = 0; i < s.shares; i++)
            run_share(a, &s, i, scratch + i * (int64_t)s.thread_floats);
    } else {
        run_by_channels(a, &s, scratch, others + (size_t)omp_get_thread_num() * s.thread_floats);
    }
}
