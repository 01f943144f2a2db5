/* SPDX-License-Identifier: Apache-2.0 */
/* patches.c - convolutions of any kernel, stride and dilation as products of weights and patches,
 * NHWC; the data gradient of a strided one as one such convolution per grid of the pixels that the
 * same taps reach.
 *
 * A block of positions at a time: their patches are brought into scratch that all threads read. A
 * job then takes a block of output channels and a part of the positions, goes through the blocks of
 * input channels, brings each one's weights into a buffer that stays in the second-level cache,
 * adds one product over taps and channels, and writes its outputs with bias, residual, shift and
 * activation. The division follows from sizes and the number of threads, so results repeat.
 */
#include "cpu/kernels/conv/conv_weights.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/conv/patches_out.h"
#include "cpu/kernels/conv/weight_prefetch.h"

#include <omp.h>

/* Sums that stay in registers. */
#if defined(__AVX512F__)
enum { ROWS = 4, VECTORS = 4 };
#else
enum { ROWS = 4, VECTORS = 2 };
#endif

/* v [tap][channel] of one position, channels in .. in+n. */
static void gather_patch(const cn_conv_args *a, const cn_conv_grid *g, int64_t p, int64_t in,
                         int64_t n, float *v)
{
    const position at = position_at(g, p);
    for (int t = 0; t < g->taps; t++, v += whole_groups(n))
        gather_channels(a->type, input_at(a, at, a->taps[g->first + t]), in, n, v);
}

/* u [tap][in][out] of rows x width channels. */
static void gather_weights(const cn_conv_args *a, const cn_conv_grid *g, int64_t in, int64_t rows,
                           int64_t out, int64_t width, float *u)
{
    for (int64_t i = 0; i < rows; i += GROUP)
        for (int64_t o = 0; o < width; o += GROUP)
            for (int t = 0; t < g->taps; t++)
                read_weights(a, in + i, out + o, g->first + t, u + (t * rows + i) * width + o,
                             width);
}

static void prefetch_weights_of(const cn_conv_args *a, const cn_conv_grid *g, int64_t in,
                                int64_t out, int64_t width, cn_prefetch *s)
{
    prefetch_none(a, s);
    if (in >= a->I) return;
    const int64_t rows = whole_groups(CN_MIN(CN_PATCH_CHANNELS, a->I - in));
    for (int64_t i = 0; i < rows; i += GROUP)
        for (int64_t o = 0; o < width; o += GROUP)
            for (int t = 0; t < g->taps; t++) prefetch_group(a, in + i, out + o, g->first + t, s);
}

/* sums [rows][stride] = (add: +=) v [rows][depth] u [depth][stride], that many vectors of it. */
static inline __attribute__((always_inline)) void
add_products(int rows, int vectors, int64_t depth, const float *v, const float *u, int64_t stride,
             bool add, float *sums, cn_prefetch *next_weights)
{
    vec sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            sum[r][c] = add ? load(sums + r * stride + c * LANES) : (vec){0};
    for (int64_t d = 0; d < depth; d += PREFETCH_DEPTH) {
        prefetch_next(next_weights);
        for (int64_t e = d; e < d + PREFETCH_DEPTH; e++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
                for (int c = 0; c < vectors; c++)
                    sum[r][c] += v[r * depth + e] * load(u + e * stride + c * LANES);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++) store(sums + r * stride + c * LANES, sum[r][c]);
}

/* All n rows of so many vectors. */
static inline __attribute__((always_inline)) void
product_columns(int vectors, int64_t n, int64_t depth, const float *v, const float *u,
                int64_t stride, bool add, float *sums, cn_prefetch *next_weights)
{
    int64_t p = 0;
    for (; p + ROWS <= n; p += ROWS)
        add_products(ROWS, vectors, depth, v + p * depth, u, stride, add, sums + p * stride,
                     next_weights);
    for (; p < n; p++)
        add_products(1, vectors, depth, v + p * depth, u, stride, add, sums + p * stride,
                     next_weights);
}

/* All of width columns, which are whole groups. */
static void product(int64_t width, int64_t n, int64_t depth, const float *v, const float *u,
                    bool add, float *sums, cn_prefetch *next_weights)
{
    const int64_t turns = (width / LANES + VECTORS - 1) / VECTORS * ((n + ROWS - 1) / ROWS);
    int64_t c = 0;
    prefetch_evenly(next_weights, turns * (depth / PREFETCH_DEPTH));
    for (; c + VECTORS * LANES <= width; c += VECTORS * LANES)
        product_columns(VECTORS, n, depth, v, u + c, width, add, sums + c, next_weights);
    for (; c < width; c += LANES)
        product_columns(1, n, depth, v, u + c, width, add, sums + c, next_weights);
}

/* One block of output channels for positions first .. first+n of the block that begins at
 * `block`. */
static void run_job(const cn_conv_args *a, const cn_conv_grid *g, const cn_patches_size *s,
                    const float *patches, int64_t block, int64_t first, int64_t n, int64_t out,
                    float *u)
{
    const int64_t outs = CN_MIN(CN_PATCH_CHANNELS, a->O - out), width = whole_groups(outs);
    float *sums = u + s->weights;
    cn_prefetch next_weights;
    if (g->taps == 0) memset(sums, 0, (size_t)(n * width) * sizeof *sums);
    for (int64_t k = 0; k < s->in_blocks && g->taps > 0; k++) {
        const int64_t in = k * CN_PATCH_CHANNELS;
        const int64_t rows = whole_groups(CN_MIN(CN_PATCH_CHANNELS, a->I - in));
        const int64_t depth = rows * g->taps;
        gather_weights(a, g, in, rows, out, width, u);
        prefetch_weights_of(a, g, in + CN_PATCH_CHANNELS, out, width, &next_weights);
        product(width, n, depth, patches + k * s->inputs + first * depth, u, k > 0, sums,
                &next_weights);
    }
    put_positions(a, g, block + first, n, out, outs, sums, width);
}

static void run_grid(const cn_conv_args *a, const cn_conv_grid *g, const cn_patches_size *s,
                     float *patches, float *own)
{
    const int64_t all = cn_grid_positions(a, g);
    for (int64_t block = 0; block < all; block += s->block) {
        const int64_t positions = CN_MIN(s->block, all - block);
#pragma omp for collapse(2) schedule(static)
        for (int64_t k = 0; k < s->in_blocks; k++)
            for (int64_t p = 0; p < positions; p++) {
                const int64_t in = k * CN_PATCH_CHANNELS, n = CN_MIN(CN_PATCH_CHANNELS, a->I - in);
                gather_patch(a, g, block + p, in, n,
                             patches + k * s->inputs + p * whole_groups(n) * g->taps);
            }
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t o = 0; o < s->out_blocks; o++)
            for (int64_t first = 0; first < s->block; first += s->part)
                if (first < positions)
                    run_job(a, g, s, patches, block, first, CN_MIN(s->part, positions - first),
                            o * CN_PATCH_CHANNELS, own);
    }
}

void CN_K(patches)(const cn_conv_args *a)
{
    const cn_patches_size s = cn_patches_size_of(a);
    float *patches = (float *)(void *)a->scratch;
#pragma omp parallel
    for (int i = 0; i < a->n_grids; i++)
        run_grid(a, &a->grids[i], &s, patches,
                 patches + s.shared_floats + (size_t)omp_get_thread_num() * s.thread_floats);
}
