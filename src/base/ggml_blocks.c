/* SPDX-License-Identifier: Apache-2.0 */
/* ggml_blocks.c - see ggml_blocks.h. Layouts: ggml's ggml-common.h; arithmetic: dequantize_row_* of
 * its ggml-quants.c. All numbers in them are little-endian. */
#include "base/ggml_blocks.h"

#include "base/half.h"

static float half_at(const unsigned char *p)
{
    return cn_half_to_float((uint16_t)(p[0] | p[1] << 8));
}

static uint32_t bits_at(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* --- 32 elements: the low half of each byte, then the high one -----------------------------------
 */

enum { SMALL = 32 };

static void expand_q8_0(const unsigned char *b, float *out)
{
    const float d = half_at(b);
    for (int i = 0; i < SMALL; i++) out[i] = d * (float)(signed char)b[2 + i];
}

static void expand_q4_0(const unsigned char *b, float *out)
{
    const float d = half_at(b);
    for (int i = 0; i < SMALL / 2; i++) {
        out[i] = d * (float)((b[2 + i] & 15) - 8);
        out[i + SMALL / 2] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

static void expand_q4_1(const unsigned char *b, float *out)
{
    const float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < SMALL / 2; i++) {
        out[i] = d * (float)(b[4 + i] & 15) + m;
        out[i + SMALL / 2] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* The fifth bits of all 32 stand in 4 bytes before the others. */
static int five_bits(uint32_t high, const unsigned char *low, int i)
{
    const int four = i < SMALL / 2 ? low[i] & 15 : low[i - SMALL / 2] >> 4;
    return four | (int)(high >> i & 1) << 4;
}

static void expand_q5_0(const unsigned char *b, float *out)
{
    const float d = half_at(b);
    const uint32_t high = bits_at(b + 2);
    for (int i = 0; i < SMALL; i++) out[i] = d * (float)(five_bits(high, b + 6, i) - 16);
}

static void expand_q5_1(const unsigned char *b, float *out)
{
    const float d = half_at(b), m = half_at(b + 2);
    const uint32_t high = bits_at(b + 4);
    for (int i = 0; i < SMALL; i++) out[i] = d * (float)five_bits(high, b + 8, i) + m;
}

/* --- 256 elements in groups with scales of their own ------------------------------------------ */

enum { SUPER = 256 };

/* 16 scales and minima of 4 bits, 64 bytes of 2 bits, d, dmin. */
static void expand_q2_k(const unsigned char *b, float *out)
{
    const float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int i = 0; i < SUPER; i++) {
        const int at = i / 128 * 32 + i % 32, shift = i % 128 / 32 * 2, group = i / 16;
        const float dl = d * (float)(b[group] & 15), ml = dmin * (float)(b[group] >> 4);
        out[i] = dl * (float)(b[16 + at] >> shift & 3) - ml;
    }
}

/* Scale `group` of 16, 6 bits: four of them in bytes 0 to 7, two in 8 to 11. */
static int q3_scale(const unsigned char *s, int group)
{
    const int low = group < 8 ? s[group] & 15 : s[group - 8] >> 4;
    const int high = s[8 + group % 4] >> (group / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

/* 32 bytes of high bits, 64 bytes of 2 low ones, 12 bytes of scales, d. */
static void expand_q3_k(const unsigned char *b, float *out)
{
    const float d = half_at(b + 108);
    for (int i = 0; i < SUPER; i++) {
        const int at = i / 128 * 32 + i % 32, shift = i % 128 / 32 * 2;
        const int low = b[32 + at] >> shift & 3, high = b[i % 32] >> (i / 32) & 1;
        out[i] = d * (float)q3_scale(b + 96, i / 16) * (float)(low - (high ? 0 : 4));
    }
}

/* Scale and minimum `group` of 8, 6 bits each, in 12 bytes. */
static void k4_scale(const unsigned char *s, int group, int *scale, int *min)
{
    if (group < 4) {
        *scale = s[group] & 63;
        *min = s[group + 4] & 63;
    } else {
        *scale = (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
        *min = s[group + 4] >> 4 | (s[group] >> 6) << 4;
    }
}

/* d, dmin, 12 bytes of scales, 128 bytes of 4 bits: 32 low halves, then their high ones. */
static void expand_q4_k(const unsigned char *b, float *out)
{
    const float d = half_at(b), dmin = half_at(b + 2);
    for (int group = 0; group < 8; group++) {
        int scale, min;
        k4_scale(b + 4, group, &scale, &min);
        const float dl = d * (float)scale, ml = dmin * (float)min;
        const unsigned char *q = b + 16 + group / 2 * 32;
        for (int i = 0; i < 32; i++)
            out[group * 32 + i] = dl * (float)(q[i] >> (group % 2 * 4) & 15) - ml;
    }
}

/* The same with 32 bytes of fifth bits, one bit a group, before the others. */
static void expand_q5_k(const unsigned char *b, float *out)
{
    const float d = half_at(b), dmin = half_at(b + 2);
    for (int group = 0; group < 8; group++) {
        int scale, min;
        k4_scale(b + 4, group, &scale, &min);
        const float dl = d * (float)scale, ml = dmin * (float)min;
        const unsigned char *q = b + 48 + group / 2 * 32;
        for (int i = 0; i < 32; i++) {
            const int five = (q[i] >> (group % 2 * 4) & 15) | (b[16 + i] >> group & 1) << 4;
            out[group * 32 + i] = dl * (float)five - ml;
        }
    }
}

/* 128 bytes of 4 low bits, 64 bytes of 2 high ones, 16 signed scales, d. */
static void expand_q6_k(const unsigned char *b, float *out)
{
    const float d = half_at(b + 208);
    for (int i = 0; i < SUPER; i++) {
        const int half = i / 128, in = i % 128;
        const int low = b[half * 64 + in % 64] >> (in / 64 * 4) & 15;
        const int high = b[128 + half * 32 + in % 32] >> (in / 32 * 2) & 3;
        const float dl = d * (float)(signed char)b[192 + i / 16];
        out[i] = dl * (float)((low | high << 4) - 32);
    }
}

const cn_block_type cn_block_types[CN_BLOCK_TYPES] = {
    {"Q8_0", SMALL, 34, expand_q8_0, 0, 128, 0, 0},
    {"Q4_0", SMALL, 18, expand_q4_0, 0, 8, 0, 0},
    {"Q4_1", SMALL, 20, expand_q4_1, 0, 15, 2, 1},
    {"Q5_0", SMALL, 22, expand_q5_0, 0, 16, 0, 0},
    {"Q5_1", SMALL, 24, expand_q5_1, 0, 31, 2, 1},
    {"Q2_K", SUPER, 84, expand_q2_k, 80, 15 * 3, 82, 15},
    {"Q3_K", SUPER, 110, expand_q3_k, 108, 32 * 4, 0, 0},
    {"Q4_K", SUPER, 144, expand_q4_k, 0, 63 * 15, 2, 63},
    {"Q5_K", SUPER, 176, expand_q5_k, 0, 63 * 31, 2, 63},
    {"Q6_K", SUPER, 210, expand_q6_k, 208, 128 * 32, 0, 0},
};
