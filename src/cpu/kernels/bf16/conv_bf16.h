/* SPDX-License-Identifier: Apache-2.0 */
/* conv_bf16.h - convolutions on processors that multiply bfloat16, and how they divide their work.
 *
 * They are products of weights and patches (patches.h): sums over pairs of elements, in float. Of a
 * product's two operands the left one is read row by row, the right one has pairs of rows side by
 * side. Weights are whichever their layout makes them without being transposed: right where groups
 * of outputs follow each other, left where groups of inputs do. Patches are the other.
 */
#ifndef CN_CPU_KERNELS_BF16_CONV_BF16_H
#define CN_CPU_KERNELS_BF16_CONV_BF16_H

#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/conv/conv_args.h"

enum {
    CN_CONV16_OUTS =
        64, /* channels of a block of outputs; with the weights' gradient of right operands */
    CN_CONV16_TAPS = 3,        /* at most, in one product */
    CN_CONV16_DEPTH = 192,     /* inputs times taps of one product */
    CN_CONV16_POSITIONS = 256, /* at a time */
    CN_CONV16_FEW = 128        /* more, and bringing weights into another type first costs little */
};

/* Elements of bfloat16, or floats where that is said. */
typedef struct cn_conv16_size {
    int64_t block, room;       /* positions at a time; up to whole groups */
    int64_t parts, part;       /* of these that jobs take */
    int64_t out_blocks;        /* of CN_CONV16_OUTS */
    int64_t inputs, gradients; /* all inputs at all taps of a block; gradients of its outputs */
    size_t shared_bytes, thread_bytes;
} cn_conv16_size;

static inline bool cn_conv16_left(const cn_conv_args *a)
{
    return a->runs == CN_RUNS_IN || a->runs == CN_PAIRS_IN;
}

static inline int64_t cn_conv16_up(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

cn_conv16_size cn_conv16_size_of(const cn_conv_args *a);
cn_conv16_size cn_conv16_dw_size_of(const cn_conv_args *a);
void cn_conv16(const cn_conv_args *a);
void cn_conv16_dw(const cn_conv_args *a);

#endif
