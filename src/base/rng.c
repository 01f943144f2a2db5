/* SPDX-License-Identifier: Apache-2.0 */
/* rng.c - random numbers as torch's CPU generator draws them, and weights that follow from a name.
 *
 * Source: ATen/core/MT19937RNGEngine.h, ATen/core/DistributionsHelper.h and
 * ATen/native/cpu/DistributionTemplates.h (normal_fill). Below 16 elements a normal draw is made in
 * double, from 16 on in float. Torch's AVX2 code has its own logarithm, sine and cosine: about one
 * value in six differs from ours in its last bit.
 */
#include "base/base.h"

#include <math.h>

enum { MT_N = 624, MT_M = 397, BLOCK = 16 };

void cn_rng_seed(cn_rng *r, uint64_t seed)
{
    uint32_t x = (uint32_t)seed;
    r->state[0] = x;
    for (uint32_t i = 1; i < MT_N; i++) {
        x = 1812433253u * (x ^ x >> 30) + i;
        r->state[i] = x;
    }
    r->index = MT_N;
    r->has_gauss = false;
    r->gauss = 0;
}

static uint32_t twist(uint32_t u, uint32_t v)
{
    return ((u & 0x80000000u) | (v & 0x7fffffffu)) >> 1 ^ (v & 1 ? 0x9908b0dfu : 0);
}

static void next_state(cn_rng *r)
{
    uint32_t *s = r->state;
    for (int i = 0; i < MT_N - MT_M; i++) s[i] = s[i + MT_M] ^ twist(s[i], s[i + 1]);
    for (int i = MT_N - MT_M; i < MT_N - 1; i++) s[i] = s[i + MT_M - MT_N] ^ twist(s[i], s[i + 1]);
    s[MT_N - 1] = s[MT_M - 1] ^ twist(s[MT_N - 1], s[0]);
    r->index = 0;
}

uint32_t cn_rng_u32(cn_rng *r)
{
    if (r->index >= MT_N) next_state(r);
    uint32_t y = r->state[r->index++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint64_t cn_rng_u64(cn_rng *r)
{
    uint64_t high = cn_rng_u32(r);
    return high << 32 | cn_rng_u32(r);
}

float cn_rng_uniform(cn_rng *r)
{
    return (float)(cn_rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

static double uniform_double(cn_rng *r)
{
    return (double)(cn_rng_u64(r) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

int64_t cn_rng_below(cn_rng *r, int64_t n)
{
    if (n <= 0) return 0;
    uint64_t range = (uint64_t)n;
    return (int64_t)(range >> 32 ? cn_rng_u64(r) % range : cn_rng_u32(r) % range);
}

/* Box-Muller makes two draws; torch keeps the sine for the next call. */
static double normal_double(cn_rng *r)
{
    if (r->has_gauss) {
        r->has_gauss = false;
        return r->gauss;
    }
    double theta = 2 * M_PI * uniform_double(r);
    double radius = sqrt(-2 * log1p(-uniform_double(r)));
    r->gauss = radius * sin(theta);
    r->has_gauss = true;
    return radius * cos(theta);
}

/* 16 uniform values in place to 16 normal ones; j and j + 8 make a pair. */
static void normal_block(float *data)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        float u1 = 1.0f - data[j]; /* (0,1]: a logarithm's argument */
        float radius = sqrtf(-2.0f * logf(u1));
        /* Rounded as torch rounds it: through double, theta differs enough to show (1e-6). */
        float theta = (float)(2 * M_PI) * data[j + 8];
        data[j] = radius * cosf(theta);
        data[j + 8] = radius * sinf(theta);
    }
}

void cn_rng_normal(cn_rng *r, float *out, int64_t n)
{
    if (n < BLOCK) {
        for (int64_t i = 0; i < n; i++) out[i] = (float)normal_double(r);
        return;
    }
    for (int64_t i = 0; i < n; i++) out[i] = cn_rng_uniform(r);
    for (int64_t i = 0; i + BLOCK <= n; i += BLOCK) normal_block(out + i);
    if (n % BLOCK == 0) return;
    /* The rest: torch draws the last 16 anew, over values that the last whole block has made. */
    float *last = out + n - BLOCK;
    for (int i = 0; i < BLOCK; i++) last[i] = cn_rng_uniform(r);
    normal_block(last);
}

uint64_t cn_hash64(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* The finaliser of splitmix64. */
static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

void cn_seed_tensor(const char *key, float offset, float scale, float *out, int64_t n)
{
    size_t length = 0;
    while (key[length]) length++;
    uint64_t h = cn_hash64(key, length);
#pragma omp parallel for simd schedule(static) if (parallel : n > 65536)
    for (int64_t i = 0; i < n; i++) {
        uint64_t x = mix64(h + (uint64_t)(i + 1) * UINT64_C(0x9e3779b97f4a7c15));
        float u = (float)(int32_t)(x >> 40) * 0x1p-23f - 1.0f;
        out[i] = offset + scale * u;
    }
}
