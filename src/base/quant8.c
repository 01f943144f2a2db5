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

/* x in two floats, the first so coarse that sums of a decade's firsts are exact: multiples of 2^-24
 * of a power of two above all of its values. */
static void split(double x, int decade, float *first, float *second)
{
    const double unit = ldexp(1, (int)ceil(log2(pow(10, decade + 1 - DECADES))) - 24);
    const double coarse = nearbyint(x / unit) * unit;
    *first = (float)coarse;
    *second = (float)(x - coarse);
}

/* Half way between the values i and i + 1 of a decade is where 0.1 + 0.9 (i + 1) / parts is of its
 * power of ten. */
static void init_decades(cn_quant8 *q, float borders[DECADES + 1])
{
    int first = 1;
    for (int d = 0; d < DECADES; d++) {
        const int parts = parts_of(q->is_signed, d), n = d + 1;
        const double top = pow(10, d + 1 - DECADES), per = 0.9 * top / parts;
        borders[d] = q->above[first - 1];
        q->slope[n] = (float)(1 / per);
        q->start[n] = (float)(first - parts / 9.0);
        split(per, d, &q->per[0][n], &q->per[1][n]);
        split(0.1 * top + per * (0.5 - parts), d, &q->base[0][n], &q->base[1][n]);
        first += parts;
        q->last[n] = first - 1;
    }
    borders[DECADES] = q->above[first - 1];
    q->last[DECADES + 1] = first;
    q->base[0][DECADES + 1] = 1;
    /* 0 and 1: a half where they are, whole at their borders */
    q->start[0] = 0.5f;
    q->slope[0] = borders[0] > 0 ? 0.5f / borders[0] : 0;
    q->slope[DECADES + 1] = 0.5f / (1 - borders[DECADES]);
    q->start[DECADES + 1] = (float)first + 0.5f - q->slope[DECADES + 1];
}

/* Borders are a little higher than they are, so that rounded sizes beside one are in the lower
 * decade, where they are doubtful; that of the 1 is lower, since it is where they are. */
static void init_powers(cn_quant8 *q, const float borders[DECADES + 1])
{
    for (int d = 0; d < CN_QUANT8_DECADES; d++)
        q->border[d] =
            d > DECADES ? INFINITY : borders[d] * (1 + ldexpf(d < DECADES ? 1 : -1, -19));
    for (int power = 0; power < CN_QUANT8_POWERS; power++) {
        const float low = power ? ldexpf(1, power - 24) : 0;
        while (q->decade[power] <= DECADES && borders[q->decade[power]] < low) q->decade[power]++;
    }
}

/* A size is rounded twice before it is compared with a border, each time by 2^-24 of itself at
 * most. Borders are moved by twice that, to the side where init_powers moves them: by less than
 * half a step. Behind its last size a decade's line is whole again at its border, so what is beside
 * it is doubtful. */
static void init_eight(cn_quant8 *q, const float borders[DECADES + 1])
{
    const int low = !q->is_signed; /* the first two borders are `above` it and its next */
    for (int d = 0; d <= DECADES; d++) {
        const int parts = parts_of(q->is_signed, d), row = (q->is_signed ? d + 7 : d) % 8;
        const float moved = 1 + ldexpf(d + 1 < DECADES ? 1 : -1, -22);
        q->eight.offset[row] = q->is_signed ? 16 - 9.0f / (float)parts : 9;
        q->eight.unit[row] = (float)(20 * parts * pow(10, DECADES - 1 - d));
        q->eight.border[d] = d < DECADES ? borders[d + 1] * moved : INFINITY;
        q->eight.slope[d] = q->slope[d + 1] * CN_QUANT8_STEPS;
        q->eight.start[d] = q->start[d + 1] * CN_QUANT8_STEPS;
    }
    const int row = q->is_signed ? 6 : 7, power = q->is_signed ? 128 : 256;
    if (!q->is_signed) q->eight.offset[row] = -2;
    q->eight.unit[row] = (float)(q->is_signed ? 2 * power + 9 : 2 * power - 2);
    q->eight.slope[0] = CN_QUANT8_STEPS / (q->above[low + 1] - q->above[low]);
    q->eight.start[0] = (float)(low + 1) * CN_QUANT8_STEPS - q->above[low] * q->eight.slope[0];
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
    float borders[DECADES + 1];
    init_decades(q, borders);
    init_powers(q, borders);
    init_eight(q, borders);
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
