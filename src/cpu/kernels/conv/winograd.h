/* SPDX-License-Identifier: Apache-2.0 */
/* winograd.h - what the convolution by Winograd's F(4x4,3x3) is told, and how it divides its work.
 *
 * Tiles of 6x6 inputs become 36 places, 36 matrix products over the channels run on blocks of
 * tiles, and each 36 sums become 4x4 outputs: a quarter of the multiplications. Scratch holds one
 * block's inputs, shared, and a block of weights and sums for each thread; or all of these for each
 * thread, where channels are one block.
 */
#ifndef CN_CPU_KERNELS_CONV_WINOGRAD_H
#define CN_CPU_KERNELS_CONV_WINOGRAD_H

#include "cpu/kernels/conv/conv_args.h"

enum {
    CN_WINO_OUT = 4,
    CN_WINO_SIDE = 6,
    CN_WINO_PLACES = 36,
    CN_WINO_LANES = CN_CONV_GROUP,
    CN_WINO_I = 64, /* channels of a block of inputs and of outputs */
    CN_WINO_O = 64,
    CN_WINO_TILES = 128,
    CN_WINO_OWN_FLOATS = 1 << 16, /* of a thread's transformed tiles, where it has its own */
    CN_WINO_APART = 16 /* floats between places, or all would fall into the same cache sets */
};

typedef struct cn_wino_size {
    int64_t across, down, tiles; /* tiles of one image, of all */
    int64_t block, parts,
        part;       /* tiles at a time; parts of these that jobs take, tiles of a part */
    int64_t shares; /* of all tiles, that threads take whole; 0: they share blocks of channels */
    int64_t in_blocks, out_blocks; /* of CN_WINO_I and CN_WINO_O channels */
    int64_t inputs, weights, sums; /* floats of a place, CN_WINO_APART included */
    size_t shared_floats, thread_floats;
} cn_wino_size;

/* What things cost, in cycles that multiply and add one vector; measured on a Zen 4 with shapes of
 * SD 1.5: the products of a tile for one vector of weights, reading and transforming that vector,
 * and the tile's way in and out for 16 channels. */
enum {
    CN_WINO_TILE_COST = 42,
    CN_WINO_WEIGHT_COST = 370,
    CN_WINO_IN_COST = 300,
    CN_WINO_OUT_COST = 400,
    CN_WINO_DW_COST = 400 /* the gradient of a vector of weights out of its sums */
};

static inline int64_t cn_wino_padded(int64_t channels)
{
    return (channels + CN_WINO_LANES - 1) / CN_WINO_LANES * CN_WINO_LANES;
}

static inline cn_wino_size cn_wino_tiles_of(const cn_conv_args *a)
{
    cn_wino_size s = {.across = (a->w + CN_WINO_OUT - 1) / CN_WINO_OUT,
                      .down = (a->h + CN_WINO_OUT - 1) / CN_WINO_OUT,
                      .in_blocks = (a->I + CN_WINO_I - 1) / CN_WINO_I,
                      .out_blocks = (a->O + CN_WINO_O - 1) / CN_WINO_O};
    s.tiles = a->N * s.down * s.across;
    return s;
}

/* Where all channels are one block: each thread's blocks are of as many tiles as stay in its
 * second-level cache. */
static inline void cn_wino_share(const cn_conv_args *a, cn_wino_size *s)
{
    const int64_t in = cn_wino_padded(a->I), out = cn_wino_padded(a->O);
    const int64_t fit = CN_WINO_OWN_FLOATS / ((in + out) * CN_WINO_PLACES);
    s->shares = CN_MIN(a->threads, s->tiles);
    s->block = s->part = CN_MIN(s->tiles, CN_MAX(fit, CN_WINO_LANES));
    s->inputs = s->block * in + CN_WINO_APART;
    s->weights = in * out + CN_WINO_APART;
    s->sums = s->block * out + CN_WINO_APART;
    s->thread_floats = (size_t)(s->inputs + s->weights + s->sums) * CN_WINO_PLACES;
}

static inline cn_wino_size cn_wino_size_of(const cn_conv_args *a)
{
    cn_wino_size s = cn_wino_tiles_of(a);
    if (s.in_blocks * s.out_blocks == 1) {
        cn_wino_share(a, &s);
        return s;
    }
    s.block = CN_MIN(s.tiles, CN_WINO_TILES);
    int64_t least = INT64_MAX;
    for (int64_t parts = 1; parts <= CN_MIN(a->threads, s.block); parts++) {
        const int64_t rounds = (s.out_blocks * parts + a->threads - 1) / a->threads;
        const int64_t part = (s.block + parts - 1) / parts;
        const int64_t cost = rounds * (part * CN_WINO_TILE_COST + CN_WINO_WEIGHT_COST);
        if (cost >= least) continue;
        least = cost;
        s.parts = parts;
        s.part = part;
    }
    s.inputs = s.block * CN_WINO_I + CN_WINO_APART;
    s.weights = CN_WINO_I * CN_WINO_O + CN_WINO_APART;
    s.sums = s.part * CN_WINO_O + CN_WINO_APART;
    s.shared_floats = (size_t)(s.in_blocks * s.inputs) * CN_WINO_PLACES;
    s.thread_floats = (size_t)(s.weights + s.sums) * CN_WINO_PLACES;
    return s;
}

/* The same for the gradient of weights: `inputs` for gradients of outputs too, sums of
 * CN_WINO_LANES input channels. */
static inline cn_wino_size cn_wino_dw_size_of(const cn_conv_args *a)
{
    cn_wino_size s = cn_wino_size_of(a);
    if (s.shares) {
        const int64_t in = cn_wino_padded(a->I), out = cn_wino_padded(a->O);
        s.inputs = s.block * CN_MAX(in, out) + CN_WINO_APART;
        s.sums = CN_WINO_LANES * out + CN_WINO_APART;
        s.thread_floats = (size_t)(2 * s.inputs + in / CN_WINO_LANES * s.sums) * CN_WINO_PLACES;
        return s;
    }
    s.sums = CN_WINO_LANES * CN_WINO_O + CN_WINO_APART;
    s.shared_floats = (size_t)((s.in_blocks + s.out_blocks) * s.inputs) * CN_WINO_PLACES;
    s.thread_floats = (size_t)s.sums * CN_WINO_PLACES;
    return s;
}

#endif
