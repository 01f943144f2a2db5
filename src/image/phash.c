/* SPDX-License-Identifier: Apache-2.0 */
/* phash.c - see phash.h. */
#include "image/phash.h"

#include "image/resize.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 32, LOW = 8, BITS = LOW * LOW };

/* The first LOW coefficients of each row's DCT-II, transposed, so that twice is both directions;
 * its scale doesn't matter to a comparison with the median. */
static void transform(const double *in, int rows, double *out)
{
    for (int y = 0; y < rows; y++)
        for (int k = 0; k < LOW; k++) {
            double sum = 0;
            for (int x = 0; x < SIDE; x++)
                sum += in[y * SIDE + x] * cos(M_PI * k * (2 * x + 1) / (2.0 * SIDE));
            out[k * rows + y] = sum;
        }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t compare(const double *low)
{
    double sorted[BITS];
    uint64_t hash = 0;
    for (int i = 0; i < BITS; i++) sorted[i] = low[i];
    qsort(sorted, BITS, sizeof *sorted, by_value);
    const double median = (sorted[BITS / 2 - 1] + sorted[BITS / 2]) / 2;
    for (int i = 0; i < BITS; i++) hash = hash << 1 | (low[i] > median);
    return hash;
}

cn_status cn_image_phash(cn_ctx *ctx, const cn_image *image, uint64_t *out)
{
    cn_image *small = NULL;
    double grey[SIDE * SIDE], half[LOW * SIDE], low[BITS];
    CN_TRY(cn_image_resize(ctx, image, SIDE, SIDE, CN_FILTER_AREA, &small));
    for (int i = 0; i < SIDE * SIDE; i++)
        grey[i] = 0.299 * small->rgb[3 * i] + 0.587 * small->rgb[3 * i + 1] +
                  0.114 * small->rgb[3 * i + 2];
    cn_image_destroy(small);
    transform(grey, SIDE, half);
    transform(half, LOW, low);
    *out = compare(low);
    return CN_OK;
}
