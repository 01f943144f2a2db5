/* narrow.h - convolutions to few channels: how few, and their scratch. */
#ifndef CN_NARROW_H
#define CN_NARROW_H

#include "cpu/kernels/conv.h"

enum { CN_NARROW_OUT = 4 };

/* A row of zeros and the weights. */
static inline size_t cn_narrow_floats(const cn_conv_args *a)
{
    const int64_t depth = (a->I + CN_CONV_GROUP - 1) / CN_CONV_GROUP * CN_CONV_GROUP;
    return (size_t)(depth * (1 + a->n_taps * a->O));
}

#endif
