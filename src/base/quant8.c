/* SPDX-License-Identifier: Apache-2.0 */
/* quant8.c - the tables of the dynamic map. */
#include "base/quant8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DECADES = 7 };

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int parts_of(bool is_signed, int decade)
{
    return 1 << (is_signed ? decade : decade + 1);
}

/* Magnitudes above 0 but the 1, ascending: the middles of each decade's equal parts. */
static int magnitudes(bool is_signed, float *out)
{
    int n = 0;
    for (int d = 0; d < DECADES; d++) {
        const int parts = parts_of(is_signed, d);
        for (int i = 0; i < parts; i++)
            out[n++] = (float)(pow(10, d + 1 - DECADES) * (0.1 + 0.9 * (i + 0.5) / parts));
    }
    return n;
}

/* Decades for vectors. Half way between the values i and i + 1 of a decade of `parts` is where
 * 0.1 + 0.9 (i + 1) / parts is of its power of ten.
 *
 * A size is rounded twice before it is compared with a border, each time by 2^-24 of itself at
 * most. Borders are moved by twice that, up so that sizes beside one are in the lower decade, and
 * the 1's down: by less than half a step. Behind its last size a decade's line is whole again at
 * its border, so what is beside it is doubtful. */
static void init_decades(cn_quant8 *q)
{
    const int low = !q->is_signed; /* the first two borders are `above` it and its next */
    int first = 1;
    for (int d = 0; d < DECADES; d++) {
        const int parts = parts_of(q->is_signed, d), row = (q->is_signed ? d + 7 : d) % 8;
        const double per = 0.9 * pow(10, d + 1 - DECADES) / parts;
        q->offset[row] = q->is_signed ? 16 - 9.0f / (float)parts : 9;
        q->unit[row] = (float)(20 * parts * pow(10, DECADES - 1 - d));
        q->slope[d] = (float)(1 / per) * CN_QUANT8_STEPS;
        q->start[d] = (float)(first - parts / 9.0) * CN_QUANT8_STEPS;
        first += parts;
        q->border[d] = q->above[first - 1] * (1 + ldexpf(d + 1 < DECADES ? 1 : -1, -22));
    }
    const int row = q->is_signed ? 6 : 7, power = q->is_signed ? 128 : 256;
    q->offset[row] = q->is_signed ? 16 - 9.0f / (float)power : -2;
    q->unit[row] = (float)(q->is_signed ? 2 * power + 9 : 2 * power - 2);
    q->slope[0] = CN_QUANT8_STEPS / (q->above[low + 1] - q->above[low]);
    q->start[0] = (float)(low + 1) * CN_QUANT8_STEPS - q->above[low] * q->slope[0];
    /* the 1: a half where it is, whole at its border */
    const float slope = 0.5f / (1 - q->above[first - 1]);
    q->slope[DECADES] = slope * CN_QUANT8_STEPS;
    q->start[DECADES] = ((float)first + 0.5f - slope) * CN_QUANT8_STEPS;
    q->border[DECADES] = INFINITY;
}

void cn_quant8_init(cn_quant8 *q, bool is_signed)
{
    float m[256] = {0}; /* magnitudes from 0 to 1 */
    const int n = magnitudes(is_signed, m + 1) + 1;
    m[n] = 1;
    *q = (cn_quant8){.is_signed = is_signed, .zero = is_signed ? n - 1 : 0};
    memcpy(q->value, m, (size_t)(n + 1) * sizeof *m);
    for (int i = 1; is_signed && i < n; i++) q->value[n + i] = -m[i];
    qsort(q->value, 256, sizeof *q->value, ascending);
    for (int i = 0; i < (int)CN_COUNT(q->above); i++)
        q->above[i] = i < n ? 0.5f * (m[i] + m[i + 1]) : INFINITY;
    if (!is_signed) q->above[0] = 0;
    for (int bin = 1, k = 0; bin < CN_QUANT8_BINS; bin++) {
        const uint32_t bits = (uint32_t)(bin + CN_QUANT8_LOWEST) << 16;
        float low;
        memcpy(&low, &bits, sizeof low);
        while (low > q->above[k]) k++;
        q->first[bin] = k;
    }
    init_decades(q);
}

int cn_quant8_code(const cn_quant8 *q, float x)
{
    const float size = fminf(fabsf(x), 1);
    uint32_t bits;
    memcpy(&bits, &size, sizeof bits);
    int k = q->first[CN_MAX((int)(bits >> 16), (int)CN_QUANT8_LOWEST) - CN_QUANT8_LOWEST];
    k += size > q->above[k];
    return x < 0 ? q->zero - CN_MIN(k, q->zero) : q->zero + k;
}
