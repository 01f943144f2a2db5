/* narrow.c - convolutions to few channels with sums and products in float32. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/vectors.h"

enum { CHANNELS = LANES };
typedef float factor;
typedef vec factors;

static inline factor factor_of(float w)
{
    return w;
}

static inline factors inputs_at(cn_dtype type, const char *p)
{
    return load_as(type, p);
}

static inline factors weights_at(const factor *u)
{
    return load(u);
}

static inline vec add_products(vec sum, factors x, factors w)
{
    return sum + x * w;
}

#include "cpu/kernels/narrow_tiles.h"

void CN_K(narrow)(const cn_conv_args *a)
{
    narrow(a);
}
