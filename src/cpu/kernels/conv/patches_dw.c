/* SPDX-License-Identifier: Apache-2.0 */
/* patches_dw.c - the gradient of a convolution's weights, of any kernel, stride and dilation: for
 * each tap the sum over positions of inputs times gradients.
 *
 * A block of positions at a time: inputs at each tap, and gradients, are brought into scratch that
 * all threads read. A job then owns a group of input channels and a block of output channels, and
 * what its positions give is added to the weights' gradient in its own order. The division follows
 * from sizes alone, so results repeat.
 */
#include "cpu/kernels/conv/conv_weights.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/conv/outer_products.h"
#include "cpu/kernels/conv/patches_in.h"

#include <omp.h>

/* Position p of a block, which has `positions`, channels in .. in+n, to v
 * [tap][position][channel]. */
static void gather_inputs(const cn_conv_args *a, int64_t block, int64_t p, int64_t positions,
                          int64_t in, int64_t n, float *v)
{
    const position at = position_at(a->grids, block + p);
    const int64_t rows = whole_groups(n);
    for (int t = 0; t < a->n_taps; t++)
        gather_channels(a->type, input_at(a, at, a->taps[t]), in, n,
                        v + (t * positions + p) * rows);
}

static void gather_gradients(const cn_conv_args *a, int64_t p, int64_t out, int64_t n, float *z)
{
    const size_t at = (size_t)(p * a->O) * cn_dtype_bytes(a->type);
    gather_channels(a->type, (const char *)a->dy + at, out, n, z);
}

/* Channels in .. of one group and out .. of one block; v their inputs, `rows` a position, z their
 * gradients. */
static void run_job(const cn_conv_args *a, int64_t positions, const float *v, int64_t rows,
                    const float *z, int64_t in, int64_t out, bool add, float *m)
{
    const int64_t width = whole_groups(CN_MIN(CN_PATCH_CHANNELS, a->O - out));
    const int64_t sums = GROUP * CN_PATCH_CHANNELS + CN_PATCH_APART;
    for (int t = 0; t < a->n_taps; t++) {
        for (int64_t o = 0; o < width; o += GROUP) prefetch_weights(a, in, out + o, t, add);
        products(positions, v + t * positions * rows, rows, z, width, m + t * sums);
    }
    for (int64_t o = 0; o < width; o += GROUP)
        for (int t = 0; t < a->n_taps; t++)
            write_weights(a, in, out + o, t, m + t * sums + o, width, add);
}

void CN_K(patches_dw)(const cn_conv_args *a)
{
    const cn_patches_size s = cn_patches_dw_size_of(a);
    const int64_t all = cn_grid_positions(a, a->grids), each = s.block * CN_PATCH_CHANNELS;
    float *inputs = (float *)(void *)a->scratch, *gradients = inputs + s.in_blocks * s.inputs;
#pragma omp parallel
    for (int64_t block = 0; block < all; block += s.block) {
        const int64_t positions = CN_MIN(s.block, all - block);
#pragma omp for collapse(2) schedule(static)
        for (int64_t k = 0; k < s.in_blocks + s.out_blocks; k++)
            for (int64_t p = 0; p < positions; p++) {
                const bool in = k < s.in_blocks;
                const int64_t b = in ? k : k - s.in_blocks, first = b * CN_PATCH_CHANNELS;
                const int64_t n = CN_MIN(CN_PATCH_CHANNELS, (in ? a->I : a->O) - first);
                if (in)
                    gather_inputs(a, block, p, positions, first, n, inputs + b * s.inputs);
                else
                    gather_gradients(a, block + p, first, n,
                                     gradients + b * each + p * whole_groups(n));
            }
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t i = 0; i < a->I;
             i += GROUP) /* outer: its inputs stay in the second-level cache */
            for (int64_t o = 0; o < s.out_blocks; o++) {
                const int64_t b = i / CN_PATCH_CHANNELS, from = i % CN_PATCH_CHANNELS;
                const int64_t n = CN_MIN(CN_PATCH_CHANNELS, a->I - b * CN_PATCH_CHANNELS);
                run_job(a, positions, inputs + b * s.inputs + from, whole_groups(n),
                        gradients + o * each, i, o * CN_PATCH_CHANNELS, block > 0,
                        inputs + s.shared_floats + (size_t)omp_get_thread_num() * s.thread_floats);
            }
    }
}
