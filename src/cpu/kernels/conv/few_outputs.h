/* SPDX-License-Identifier: Apache-2.0 */
/* few_outputs.h - convolutions to few channels: how few, and their scratch. */
#ifndef CN_CPU_KERNELS_CONV_FEW_OUTPUTS_H
#define CN_CPU_KERNELS_CONV_FEW_OUTPUTS_H

#include "cpu/kernels/conv/conv_args.h"

enum {
    CN_NARROW_OUT = 4,
    CN_NARROW_SUMS = 24,         /* at most together: pixels times outputs */
    CN_NARROW_UNIT = 32,         /* inputs are padded to whole units */
    CN_NARROW_READING_BYTES = 24 /* where a tap reads */
};

static inline int64_t cn_few_outputs_depth(const cn_conv_args *a)
{
    return (a->I + CN_NARROW_UNIT - 1) / CN_NARROW_UNIT * CN_NARROW_UNIT;
}

static inline size_t cn_few_outputs_weight_bytes(const cn_conv_args *a)
{
    return (size_t)(a->n_taps * a->O * cn_few_outputs_depth(a)) * sizeof(float);
}

static inline size_t cn_few_outputs_reading_bytes(const cn_conv_args *a)
{
    return ((size_t)a->n_taps * CN_NARROW_READING_BYTES + 63) / 64 * 64;
}

/* With pixels that are copied for every tap. */
static inline size_t cn_few_outputs_thread_bytes(const cn_conv_args *a)
{
    const int64_t pixels = CN_NARROW_SUMS / a->O;
    return cn_few_outputs_reading_bytes(a) +
           (size_t)(a->n_taps * pixels * cn_few_outputs_depth(a)) * sizeof(float);
}

static inline size_t cn_few_outputs_bytes(const cn_conv_args *a)
{
    return cn_few_outputs_weight_bytes(a) + cn_few_outputs_reading_bytes(a) +
           (size_t)a->threads * cn_few_outputs_thread_bytes(a);
}

#endif
