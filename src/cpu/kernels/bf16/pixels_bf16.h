/* SPDX-License-Identifier: Apache-2.0 */
/* pixels_bf16.h - the pixels that a tap reads, sixteen positions at a time. */
#ifndef CN_CPU_KERNELS_BF16_PIXELS_BF16_H
#define CN_CPU_KERNELS_BF16_PIXELS_BF16_H

#include "cpu/kernels/bf16/pack.h"
#include "cpu/kernels/conv/patches_in.h"

/* What a tap reads for GROUP positions from p on, NULL where there is nothing. */
static inline void pixels_at(const cn_conv_args *a, const cn_conv_grid *g, int64_t p, cn_conv_tap t,
                             const uint16_t *x[GROUP])
{
    const int64_t all = cn_grid_positions(a, g);
    for (int64_t i = 0; i < GROUP; i++)
        x[i] = p + i < all ? input_at(a, position_at(g, p + i), t) : NULL;
}

#endif
