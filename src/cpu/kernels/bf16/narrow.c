/* narrow.c - convolutions of bfloat16 to few channels with products of pairs of channels, sums in float32. */
#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/vectors.h"

#include <immintrin.h>

enum { CHANNELS = 2 * LANES };
typedef uint16_t factor;
typedef __m512i factors;

static inline factor factor_of(float w)
{
    factor rounded;
    cn_from_f32(CN_BF16, &w, &rounded, 1);
    return rounded;
}

static inline factors inputs_at(cn_dtype type, const char *p)
{
    (void)type;
    return _mm512_loadu_si512(p);
}

static inline factors weights_at(const factor *u)
{
    return _mm512_loadu_si512(u);
}

static inline vec add_products(vec sum, factors x, factors w)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

#include "cpu/kernels/narrow_tiles.h"

void cn_narrow16(const cn_conv_args *a)
{
    narrow(a);
}
