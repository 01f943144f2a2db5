/* SPDX-License-Identifier: Apache-2.0 */
/* functions.h - functions of one number, in the words of words.glsl.h. What GLSL promises of its
 * own sines is too little for a timestep's, and it has no erf. */
PLAIN(float, sigmoid, float x)
{
    return 1.0f / (1.0f + exp(-x));
}

/* Press et al., Numerical Recipes (2nd edition), 6.2: relative error of erfc below 1.2e-7. */
PLAIN(float, erfc_of, float x)
{
    const float z = abs(x), t = 1.0f / (1.0f + 0.5f * z);
    float s = 0.17087277f;
    s = -0.82215223f + t * s;
    s = 1.48851587f + t * s;
    s = -1.13520398f + t * s;
    s = 0.27886807f + t * s;
    s = -0.18628806f + t * s;
    s = 0.09678418f + t * s;
    s = 0.37409196f + t * s;
    s = 1.00002368f + t * s;
    const float r = t * exp(-z * z - 1.26551223f + t * s);
    return x >= 0.0f ? r : 2.0f - r;
}

/* The normal distribution's integral, and the exact GELU with its slope. */
PLAIN(float, normal_below, float x)
{
    return 0.5f * erfc_of(-0.70710678f * x);
}
PLAIN(float, gelu, float x)
{
    return x * normal_below(x);
}
PLAIN(float, gelu_slope, float x)
{
    return normal_below(x) + x * 0.39894228f * exp(-0.5f * x * x);
}

PLAIN(float, tanh_of, float x)
{
    const float e = exp(-2.0f * abs(x)), r = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -r : r;
}

/* x less whole quarters of a turn, pi/2 in three parts of few digits so that none of x's is lost up
 * to some thousands (Cephes' sinf); then Taylor's series on [-pi/4, pi/4]. turn 0: cosine, 1: sine.
 */
PLAIN(float, wave, float x, int turn)
{
    const float k = floor(x * 0.63661977f + 0.5f);
    float r = x - k * 1.5703125f;
    r = r - k * 4.837512969970703e-4f;
    r = r - k * 7.54978995489188e-8f;
    const float q = r * r;
    const int quarter = (int(k) + (turn == 1 ? 3 : 0)) & 3; /* sine: a quarter back */
    float c = 1.0f + q * (-0.5f + q * (4.1666667e-2f + q * (-1.3888889e-3f + q * 2.4801587e-5f)));
    float s = r * (1.0f + q * (-1.6666667e-1f +
                               q * (8.3333333e-3f + q * (-1.9841270e-4f + q * 2.7557319e-6f))));
    if (quarter == 0) return c;
    if (quarter == 1) return -s;
    return quarter == 2 ? -c : s;
}

/* The activations by number, as cn_act has them. */
PLAIN(float, activate, int act, float alpha, float x)
{
    if (act == 1) return x * sigmoid(x);
    if (act == 2) return gelu(x);
    if (act == 3) return x * sigmoid(1.702f * x);
    if (act == 4) return max(x, 0.0f);
    if (act == 5) return min(max(x, 0.0f), 6.0f);
    if (act == 6) return x > 0.0f ? x : alpha * x;
    if (act == 7) return sigmoid(x);
    if (act == 8) return tanh_of(x);
    return x;
}

PLAIN(float, silu_slope, float x, float k)
{
    const float s = sigmoid(k * x);
    return s * (1.0f + k * x * (1.0f - s));
}

PLAIN(float, slope_of, int act, float alpha, float x)
{
    if (act == 1) return silu_slope(x, 1.0f);
    if (act == 2) return gelu_slope(x);
    if (act == 3) return silu_slope(x, 1.702f);
    if (act == 4) return x > 0.0f ? 1.0f : 0.0f;
    if (act == 5) return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
    if (act == 6) return x > 0.0f ? 1.0f : alpha;
    if (act == 7) return sigmoid(x) * (1.0f - sigmoid(x));
    if (act == 8) return 1.0f - tanh_of(x) * tanh_of(x);
    return 1.0f;
}
