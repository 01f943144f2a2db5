/* SPDX-License-Identifier: Apache-2.0 */
/* conv_outputs.h - what a convolution does with its sums: residual, value per channel,
 * activation. */
#ifndef CN_CPU_KERNELS_CONV_CONV_OUTPUTS_H
#define CN_CPU_KERNELS_CONV_CONV_OUTPUTS_H

#include "cpu/kernels/vectors.h"

/* a where mask's bits are set, else b. */
static inline vec chosen(bits_of_vec mask, vec a, vec b)
{
    return (vec)((mask & (bits_of_vec)a) | (~mask & (bits_of_vec)b));
}

static inline vec activated(const cn_conv_args *a, vec v)
{
    const vec low = a->act == CN_ACT_LEAKY_RELU ? a->act_alpha * v : (vec){0}, most = (vec){0} + 6;
    v = chosen((bits_of_vec)(v > 0), v, low);
    return a->act == CN_ACT_RELU6 ? chosen((bits_of_vec)(v > most), most, v) : v;
}

/* Channels o .. o+count with count <= LANES of a pixel (counted over the batch) of image n, v with
 * its bias. */
static inline __attribute__((always_inline)) void put_output(const cn_conv_args *a, cn_dtype type,
                                                             int64_t n, int64_t pixel, int64_t o,
                                                             int64_t count, vec v)
{
    const size_t each = cn_dtype_bytes(type), at = (size_t)(pixel * a->O_apart + o) * each;
    const char *residual = a->residual, *shift = a->shift;
    if (residual) v += load_some(type, residual + at, count);
    if (shift) v += load_some(type, shift + (size_t)(n * a->O + o) * each, count);
    if (a->act) v = activated(a, v);
    store_some(type, (char *)a->y + at, v, count);
}

#endif
