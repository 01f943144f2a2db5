/* SPDX-License-Identifier: Apache-2.0 */
/* streamed_product.h - products of many rows with few weights: which they are, and their
 * scratch. */
#ifndef CN_CPU_KERNELS_STREAMED_PRODUCT_H
#define CN_CPU_KERNELS_STREAMED_PRODUCT_H

#include "cpu/kernels/conv/conv_args.h"

enum {
    CN_STREAM_WIDTH = 64,        /* outputs are padded to whole blocks of these */
    CN_STREAM_UNIT = 32,         /* inputs come in whole units */
    CN_STREAM_WEIGHTS = 1 << 16, /* that stay in the second-level cache */
    CN_STREAM_BYTES = 1 << 25    /* of inputs and outputs, beyond the caches */
};

static inline int64_t cn_stream_padded(int64_t outputs)
{
    return (outputs + CN_STREAM_WIDTH - 1) / CN_STREAM_WIDTH * CN_STREAM_WIDTH;
}

/* The weights. */
static inline size_t cn_stream_bytes(const cn_conv_args *a)
{
    return (size_t)(a->I * cn_stream_padded(a->O)) * sizeof(float);
}

#endif
