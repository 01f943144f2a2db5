/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.c - conversion between element types.
 *
 * Sources may have any alignment, so every load goes through memcpy (one instruction after
 * compilation). Half precision takes F16C where the processor has it and bit arithmetic elsewhere;
 * both round to nearest even, keep infinities and denormals, and turn every NaN into a quiet one of
 * the same sign.
 */
#include "base/dtype.h"

#include "base/ggml_blocks.h"
#include "base/half.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_F16C_PATH 1
#else
#define HAVE_F16C_PATH 0
#endif

/* Elements one thread converts at a time; below PARALLEL_MIN a team costs more than it saves. */
enum { BLOCK = 1 << 16, PARALLEL_MIN = 1 << 20 };

static const struct {
    const char *name;
    size_t bytes;
} dtypes[CN_DTYPE_COUNT] = {
    [CN_F32] = {"F32", 4},   [CN_F16] = {"F16", 2},         [CN_BF16] = {"BF16", 2},
    [CN_F64] = {"F64", 8},   [CN_I64] = {"I64", 8},         [CN_I32] = {"I32", 4},
    [CN_I16] = {"I16", 2},   [CN_I8] = {"I8", 1},           [CN_U8] = {"U8", 1},
    [CN_BOOL] = {"BOOL", 1}, [CN_F8_E4M3] = {"F8_E4M3", 1}, [CN_F8_E5M2] = {"F8_E5M2", 1},
};

static const cn_block_type *block_type_of(cn_dtype t)
{
    return t >= CN_Q8 && t < CN_ANY_DTYPE_COUNT ? &cn_block_types[t - CN_Q8] : NULL;
}

int cn_dtype_block(cn_dtype t)
{
    const cn_block_type *b = block_type_of(t);
    return b ? b->elements : 1;
}

size_t cn_dtype_bytes(cn_dtype t)
{
    return (unsigned)t < CN_DTYPE_COUNT ? dtypes[t].bytes : 0;
}

size_t cn_dtype_size(cn_dtype t, int64_t n)
{
    const cn_block_type *b = block_type_of(t);
    if (!b) return (size_t)n * cn_dtype_bytes(t);
    return ((size_t)n + (size_t)b->elements - 1) / (size_t)b->elements * (size_t)b->bytes;
}

const char *cn_dtype_name(cn_dtype t)
{
    const cn_block_type *b = block_type_of(t);
    if (b) return b->name;
    return (unsigned)t < CN_DTYPE_COUNT ? dtypes[t].name : "unknown";
}

static const char *const weight_types[] = {[CN_F32] = "f32", [CN_F16] = "f16", [CN_BF16] = "bf16"};

bool cn_weight_type_find(const char *word, cn_dtype *out)
{
    for (size_t i = 0; i < CN_COUNT(weight_types); i++)
        if (strcasecmp(weight_types[i], word) == 0) {
            *out = (cn_dtype)i;
            return true;
        }
    return false;
}

bool cn_storage_type_find(const char *word, cn_dtype *out)
{
    if (strcasecmp(word, "q8") != 0 && strcasecmp(word, "q8_0") != 0)
        return cn_weight_type_find(word, out);
    *out = CN_Q8;
    return true;
}

const char *cn_weight_type_word(cn_dtype t)
{
    if (t == CN_Q8) return "q8";
    return (size_t)t < CN_COUNT(weight_types) ? weight_types[t] : cn_dtype_name(t);
}

/* OCP 8-bit Floating Point Specification: all ones but the sign is NaN, there is no infinity, and
 * an exponent of 0 means denormals of 2^-9. */
static float e4m3_to_float(uint8_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x80u) << 24, rest = x & 0x7fu;
    if (rest == 0x7fu) return cn_bits_float(sign | 0x7fc00000u);
    return cn_bits_float(sign | cn_float_bits(cn_bits_float(rest << 20) * 0x1p120f));
}

static uint16_t float_to_half(float f)
{
    uint32_t u = cn_float_bits(f);
    uint32_t sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((u >> 13) & 0x3ffu));
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
    if (u < 0x38800000u) { /* below 2^-14: adding 0.5 lets the processor round at 2^-24 */
        uint32_t r = cn_float_bits(cn_bits_float(u) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | r);
    }
    uint32_t odd = (u >> 13) & 1u;
    return (uint16_t)(sign | ((u - 0x38000000u + 0xfffu + odd) >> 13));
}

/* Both cases are computed, so that loops become vector instructions. */
static uint16_t float_to_bf16(float f)
{
    const uint32_t u = cn_float_bits(f);
    const uint32_t nan = u >> 16 | 0x40u, rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

#if HAVE_F16C_PATH
__attribute__((target("avx,f16c"))) static size_t halves_to_f32(const unsigned char *src,
                                                                float *dst, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(src + 2 * i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(h));
    }
    return i;
}

__attribute__((target("avx,f16c"))) static size_t f32_to_halves(const float *src,
                                                                unsigned char *dst, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(void *)(dst + 2 * i), h);
    }
    return i;
}

/* clang 14 can't be asked for f16c; every processor with AVX2 has it, and the system saves its
 * registers. */
static bool has_f16c(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}
#else
static size_t halves_to_f32(const unsigned char *src, float *dst, size_t n)
{
    (void)src, (void)dst, (void)n;
    return 0;
}

static size_t f32_to_halves(const float *src, unsigned char *dst, size_t n)
{
    (void)src, (void)dst, (void)n;
    return 0;
}

static bool has_f16c(void)
{
    return false;
}
#endif

static void f32_to_q8(const float *src, unsigned char *dst, size_t n)
{
    for (size_t i = 0; i < n; i += CN_Q8_BLOCK, dst += CN_Q8_BYTES) {
        const size_t count = CN_MIN((size_t)CN_Q8_BLOCK, n - i);
        float most = 0;
        for (size_t k = 0; k < count; k++) {
            const float x = fabsf(src[i + k]);
            most = x > most ? x : most;
        }
        const uint16_t half = float_to_half(fminf(most / 127, 65504));
        const float scale = cn_half_to_float(half), inverse = scale > 0 ? 1 / scale : 0;
        memcpy(dst, &half, sizeof half);
        float values[CN_Q8_BLOCK] = {0};
        for (size_t k = 0; k < count; k++) values[k] = src[i + k] * inverse;
        for (size_t k = 0; k < CN_Q8_BLOCK; k++) { /* comparisons become vector instructions */
            float x = values[k] < 127 ? values[k] : 127;
            x = x > -127 ? x : -127;
            dst[sizeof half + k] = (unsigned char)(int8_t)(int)rintf(x);
        }
    }
}

/* The last block may be needed in part. */
static void blocks_to_f32(const cn_block_type *b, const unsigned char *src, float *dst, size_t n)
{
    float values[CN_BLOCK_MAX];
    if (!b) return; /* no type of blocks */
    const size_t each = (size_t)b->elements;
    for (size_t i = 0; i < n; i += each, src += b->bytes) {
        if (n - i >= each) {
            b->expand(src, dst + i);
            continue;
        }
        b->expand(src, values);
        memcpy(dst + i, values, (n - i) * sizeof *dst);
    }
}

/* One loop per integer or float type: load, convert by value, store. */
#define CONVERT_LOOP(type)                        \
    for (size_t i = 0; i < n; i++) {              \
        type v;                                   \
        memcpy(&v, src + i * sizeof v, sizeof v); \
        dst[i] = (float)v;                        \
    }                                             \
    break

static void block_to_f32(cn_dtype from, const unsigned char *src, float *dst, size_t n)
{
    size_t done = 0;
    switch (from) {
    case CN_F32: memcpy(dst, src, n * sizeof *dst); break;
    case CN_F16:
        if (has_f16c()) done = halves_to_f32(src, dst, n);
        for (size_t i = done; i < n; i++) {
            uint16_t h;
            memcpy(&h, src + 2 * i, sizeof h);
            dst[i] = cn_half_to_float(h);
        }
        break;
    case CN_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, src + 2 * i, sizeof h);
            dst[i] = cn_bits_float((uint32_t)h << 16);
        }
        break;
    case CN_F64: CONVERT_LOOP(double);
    case CN_I64: CONVERT_LOOP(int64_t);
    case CN_I32: CONVERT_LOOP(int32_t);
    case CN_I16: CONVERT_LOOP(int16_t);
    case CN_I8: CONVERT_LOOP(int8_t);
    case CN_U8: CONVERT_LOOP(uint8_t);
    case CN_BOOL:
        for (size_t i = 0; i < n; i++) dst[i] = src[i] ? 1.0f : 0.0f;
        break;
    case CN_F8_E4M3:
        for (size_t i = 0; i < n; i++) dst[i] = e4m3_to_float(src[i]);
        break;
    case CN_F8_E5M2:
        for (size_t i = 0; i < n; i++) dst[i] = cn_half_to_float((uint16_t)(src[i] << 8));
        break;
    default: blocks_to_f32(block_type_of(from), src, dst, n); break;
    }
}

static void block_from_f32(cn_dtype to, const float *src, unsigned char *dst, size_t n)
{
    size_t done = 0;
    if (to == CN_F32) {
        memcpy(dst, src, n * sizeof *src);
    } else if (to == CN_F16) {
        if (has_f16c()) done = f32_to_halves(src, dst, n);
        for (size_t i = done; i < n; i++) {
            uint16_t h = float_to_half(src[i]);
            memcpy(dst + 2 * i, &h, sizeof h);
        }
    } else if (to == CN_BF16) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            uint16_t h = float_to_bf16(src[i]);
            memcpy(dst + 2 * i, &h, sizeof h);
        }
    } else if (to == CN_Q8) {
        f32_to_q8(src, dst, n);
    }
}

void cn_to_f32(cn_dtype from, const void *src, float *dst, size_t n)
{
    const unsigned char *s = src;
    if (n < PARALLEL_MIN) { /* a team of one, which "if" would make, costs more than some thousand
                               elements */
        block_to_f32(from, s, dst, n);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += BLOCK)
        block_to_f32(from, s + cn_dtype_size(from, (int64_t)i), dst + i,
                     CN_MIN((size_t)BLOCK, n - i));
}

void cn_from_f32(cn_dtype to, const float *src, void *dst, size_t n)
{
    unsigned char *d = dst;
    if (n < PARALLEL_MIN) {
        block_from_f32(to, src, d, n);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += BLOCK)
        block_from_f32(to, src + i, d + cn_dtype_size(to, (int64_t)i),
                       CN_MIN((size_t)BLOCK, n - i));
}

float cn_dtype_limit(cn_dtype t)
{
    switch (t) {
    case CN_F16: return 65520;                               /* halfway from 65504 to 2^16 */
    case CN_BF16: return cn_bits_float(0x7f7f8000u);         /* halfway from its largest to 2^128 */
    case CN_Q8: return nextafterf(127 * 65504.0f, INFINITY); /* F16 scales of 127 steps */
    default: return INFINITY;
    }
}

/* Magnitudes compare as their bits do; those of infinities and NaNs count as 0. */
static uint32_t largest_bits(const unsigned char *src, size_t n)
{
    uint32_t most = 0;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, src + i * sizeof u, sizeof u);
        u &= 0x7fffffffu;
        u = u < 0x7f800000u ? u : 0;
        most = u > most ? u : most;
    }
    return most;
}

static uint32_t block_largest(cn_dtype from, const unsigned char *src, size_t n)
{
    enum { CHUNK = 1024 };
    float values[CHUNK];
    uint32_t most = 0;
    if (from == CN_F32) return largest_bits(src, n);
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = CN_MIN((size_t)CHUNK, n - i);
        block_to_f32(from, src + cn_dtype_size(from, (int64_t)i), values, m);
        const uint32_t u = largest_bits((const unsigned char *)values, m);
        most = u > most ? u : most;
    }
    return most;
}

float cn_largest(cn_dtype from, const void *src, size_t n)
{
    const unsigned char *s = src;
    uint32_t most = 0;
    if (n < PARALLEL_MIN) return cn_bits_float(block_largest(from, s, n));
#pragma omp parallel for schedule(static) reduction(max : most)
    for (size_t i = 0; i < n; i += BLOCK) {
        const uint32_t u =
            block_largest(from, s + cn_dtype_size(from, (int64_t)i), CN_MIN((size_t)BLOCK, n - i));
        most = u > most ? u : most;
    }
    return cn_bits_float(most);
}

float cn_largest_bound(cn_dtype from, const void *src, size_t n)
{
    const cn_block_type *b = block_type_of(from);
    const unsigned char *s = src;
    float most = 0;
    if (!b) return INFINITY;
    for (size_t i = 0; i < n; i += (size_t)b->elements, s += b->bytes) {
        uint16_t scale, min;
        memcpy(&scale, s + b->scale_at, sizeof scale);
        memcpy(&min, s + b->min_at, sizeof min);
        const float here = fabsf(cn_half_to_float(scale)) * (float)b->most_scale +
                           (b->most_min ? fabsf(cn_half_to_float(min)) * (float)b->most_min : 0);
        if (!(here <= most)) most = isnan(here) ? INFINITY : here;
    }
    return most;
}

static bool any_nonfinite(const float *v, size_t n)
{
    uint32_t most = 0;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, v + i, sizeof u);
        u &= 0x7f800000u;
        most = u > most ? u : most;
    }
    return most == 0x7f800000u;
}

int64_t cn_first_nonfinite(cn_dtype from, const void *src, size_t n)
{
    enum { CHUNK = 1024 };
    float values[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = CN_MIN((size_t)CHUNK, n - i);
        block_to_f32(from, (const unsigned char *)src + cn_dtype_size(from, (int64_t)i), values, m);
        if (!any_nonfinite(values, m)) continue;
        for (size_t k = 0; k < m; k++)
            if (!isfinite(values[k])) return (int64_t)(i + k);
    }
    return -1;
}
