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

/* Magnitudes above 0 but the 1, ascending: the middles of each decade's equal parts. */
static int magnitudes(bool is_signed, float *out)
{
    int n = 0;
    for (int d = 0; d < DECADES; d++) {
        const int parts = 1 << (is_signed ? d : d + 1);
        for (int i = 0; i < parts; i++)
            out[n++] = (float)(pow(10, d + 1 - DECADES) * (0.1 + 0.9 * (i + 0.5) / parts));
    }
    return n;
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
