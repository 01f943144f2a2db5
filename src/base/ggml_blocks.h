/* SPDX-License-Identifier: Apache-2.0 */
/* ggml_blocks.h - GGML's block types: elements that follow each other share a scale, and most types
 * a minimum. Files hold them (io/gguf.c); they are read, not made. */
#ifndef CN_BASE_BLOCKS_H
#define CN_BASE_BLOCKS_H

#include "base/base.h"

enum { CN_BLOCK_MAX = 256, CN_BLOCK_TYPES = 10 };

typedef struct cn_block_type {
    const char *name; /* as GGML spells it: "Q4_K" */
    int elements, bytes;
    void (*expand)(const unsigned char *block, float *out);
    /* No magnitude in a block exceeds most_scale * |F16 at scale_at| + most_min * |F16 at min_at|.
     */
    int scale_at, most_scale, min_at, most_min;
} cn_block_type;

/* In the order of cn_dtype, from CN_Q8 on. */
extern const cn_block_type cn_block_types[CN_BLOCK_TYPES];

#endif
