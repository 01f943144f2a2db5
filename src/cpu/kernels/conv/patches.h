/* SPDX-License-Identifier: Apache-2.0 */
/* patches.h - how the convolution over patches divides its work.
 *
 * The inputs that one output is made of, of all taps, stand behind each other: a patch. Scratch
 * holds the patches of a block of positions, shared, and a block of weights and sums for each
 * thread.
 */
#ifndef CN_CPU_KERNELS_CONV_PATCHES_H
#define CN_CPU_KERNELS_CONV_PATCHES_H

#include "cpu/kernels/conv/conv_args.h"

enum {
    CN_PATCH_CHANNELS = 64, /* of a block of inputs and of outputs */
    CN_PATCH_POSITIONS = 128,
    CN_PATCH_DW_POSITIONS =
        256,            /* of the gradient of weights, which goes through these for each block */
    CN_PATCH_APART = 16 /* floats between taps' sums, or all would fall into the same cache sets */
};

typedef struct cn_patches_size {
    int64_t block, parts, part;    /* positions at a time; parts of these that jobs take */
    int64_t in_blocks, out_blocks; /* of CN_PATCH_CHANNELS */
    int64_t inputs; /* floats of one block of inputs, or of gradients, at all positions and taps */
    int64_t weights;
    size_t shared_floats, thread_floats;
} cn_patches_size;

static inline int64_t cn_patch_blocks(int64_t channels)
{
    return (channels + CN_PATCH_CHANNELS - 1) / CN_PATCH_CHANNELS;
}

static inline int64_t cn_grid_positions(const cn_conv_args *a, const cn_conv_grid *g)
{
    return a->N * g->h * g->w;
}

static inline cn_patches_size cn_patches_of(const cn_conv_args *a, int64_t positions)
{
    int64_t taps = 0, most = 0;
    for (int i = 0; i < a->n_grids; i++) {
        taps = CN_MAX(taps, a->grids[i].taps);
        most = CN_MAX(most, cn_grid_positions(a, &a->grids[i]));
    }
    cn_patches_size s = {.block = CN_MIN(most, positions),
                         .in_blocks = cn_patch_blocks(a->I),
                         .out_blocks = cn_patch_blocks(a->O)};
    s.inputs = s.block * taps * CN_PATCH_CHANNELS;
    s.weights = taps * CN_PATCH_CHANNELS * CN_PATCH_CHANNELS;
    s.shared_floats = (size_t)(s.in_blocks * s.inputs);
    return s;
}

/* Positions are divided where there are too few blocks of outputs for all threads. */
static inline cn_patches_size cn_patches_size_of(const cn_conv_args *a)
{
    cn_patches_size s = cn_patches_of(a, CN_PATCH_POSITIONS);
    s.parts = s.out_blocks % a->threads ? CN_MIN(a->threads, s.block) : 1;
    s.part = (s.block + s.parts - 1) / s.parts;
    s.thread_floats = (size_t)(s.weights + s.part * CN_PATCH_CHANNELS);
    return s;
}

/* The same for the gradient of weights: gradients of outputs too, sums of one group of inputs. */
static inline cn_patches_size cn_patches_dw_size_of(const cn_conv_args *a)
{
    cn_patches_size s = cn_patches_of(a, CN_PATCH_DW_POSITIONS);
    const int64_t sums = CN_CONV_GROUP * CN_PATCH_CHANNELS + CN_PATCH_APART;
    s.shared_floats += (size_t)(s.out_blocks * s.block * CN_PATCH_CHANNELS);
    s.thread_floats = (size_t)(a->n_taps * sums);
    return s;
}

#endif
