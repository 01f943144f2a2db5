/* SPDX-License-Identifier: Apache-2.0 */
/* half.h - F16 to F32, one value, for where no vector of them is at hand. */
#ifndef CN_BASE_HALF_H
#define CN_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float cn_bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t cn_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float cn_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t rest = (uint32_t)(h & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) { /* infinity or NaN */
        uint32_t quiet = rest > 0x0f800000u ? 0x00400000u : 0;
        return cn_bits_float(sign | 0x70000000u | rest | quiet);
    }
    /* 2^112 moves the exponent from bias 15 to bias 127 and normalises denormals on the way. */
    return cn_bits_float(sign | cn_float_bits(cn_bits_float(rest) * 0x1p112f));
}

#endif
