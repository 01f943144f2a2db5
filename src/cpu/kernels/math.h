/* SPDX-License-Identifier: Apache-2.0 */
/* math.h - exp and erf that the compiler can vectorise; errors stated beside each. */
#ifndef CN_KERNEL_MATH_H
#define CN_KERNEL_MATH_H

#include <stdint.h>
#include <string.h>

/* x held to [-87.3, 87.3], NaN too. On the bits of |x|, which order as integers do: written with
 * floats, the compiler computes the bounds' results on a path of their own, and their products with
 * denormal numbers cost a hundred cycles each. */
static inline float bounded(float x)
{
    uint32_t bits, most = 0x42ae999au; /* 87.3 */
    memcpy(&bits, &x, 4);
    uint32_t size = bits & 0x7fffffffu;
    bits = (bits & 0x80000000u) | (size < most ? size : most);
    memcpy(&x, &bits, 4);
    return x;
}

/* e^x, relative error below 2e-7 (range reduction by ln 2 in two parts, degree 6); x beyond +-87.3
 * counts as that, so the result is never 0, denormal or infinite. */
static inline float fast_exp(float x)
{
    x = bounded(x);
    float n = x * 1.44269504088896341f;
    n = (n + 12582912.0f) - 12582912.0f; /* to nearest */
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* 2^n in two factors, so that n = 128 doesn't overflow the exponent field */
    int32_t k = (int32_t)n, k1 = k >> 1, k2 = k - k1;
    uint32_t i1 = (uint32_t)(k1 + 127) << 23, i2 = (uint32_t)(k2 + 127) << 23;
    float f1, f2;
    memcpy(&f1, &i1, 4);
    memcpy(&f2, &i2, 4);
    return p * f1 * f2;
}

/* 2^x for x up to 127, relative error below 4e-7; below -126 it is 2^-126, a weight of no effect
 * beside one of 1. The polynomial interpolates 2^r at the Chebyshev points of [-0.5, 0.5]. */
static inline float fast_exp2(float x)
{
    x = x < -126.0f ? -126.0f : x;
    float n = (x + 12582912.0f) - 12582912.0f; /* to nearest */
    float r = x - n;
    float p = 1.339086336e-03f;
    p = p * r + 9.676031918e-03f;
    p = p * r + 5.550357114e-02f;
    p = p * r + 2.402210749e-01f;
    p = p * r + 6.931471880e-01f;
    p = p * r + 1.000000075e+00f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float f;
    memcpy(&f, &bits, 4);
    return p * f;
}

static inline float fast_sigmoid(float x)
{
    return 1.0f / (1.0f + fast_exp(-x));
}

/* Absolute error below 3e-7. */
static inline float fast_tanh(float x)
{
    return 2.0f * fast_sigmoid(2.0f * x) - 1.0f;
}

/* erf(x), absolute error below 1.5e-7 (Abramowitz and Stegun 7.1.26) plus rounding. */
static inline float fast_erf(float x)
{
    float a = x < 0 ? -x : x;
    float t = 1.0f / (1.0f + 0.3275911f * a);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    float e = 1.0f - p * t * fast_exp(-a * a);
    return x < 0 ? -e : e;
}

static inline float gelu(float x)
{
    return 0.5f * x * (1.0f + fast_erf(x * 0.70710678118654752f));
}

static inline float gelu_slope(float x)
{
    float cdf = 0.5f * (1.0f + fast_erf(x * 0.70710678118654752f));
    return cdf + x * 0.39894228040143268f * fast_exp(-0.5f * x * x);
}

#endif
