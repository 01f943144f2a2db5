/* SPDX-License-Identifier: Apache-2.0 */
/* embedding.c - token table look-ups and the sinusoidal timestep embedding. */
#include "cpu/kernels/kernels.h"

#include <math.h>
#include <string.h>

void CN_K(embed)(const float *table, const int32_t *ids, float *y, int64_t n, int64_t C)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * C, table + (int64_t)ids[i] * C, (size_t)C * sizeof *y);
}

void CN_K(embed_dw)(const int32_t *ids, const float *dy, float *dtable, int64_t n, int64_t V,
                    int64_t C)
{
    memset(dtable, 0, (size_t)(V * C) * sizeof *dtable);
    for (int64_t i = 0; i < n; i++) {
        float *o = dtable + (int64_t)ids[i] * C;
        for (int64_t c = 0; c < C; c++) o[c] += dy[i * C + c];
    }
}

/* As the reference's timestep_embedding: the cosine half first. */
void CN_K(timestep)(const float *t, float *y, int64_t N, int64_t dim)
{
    int64_t half = dim / 2;
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < half; i++) {
            float frequency = expf(-logf(10000.0f) * (float)i / (float)half);
            y[n * dim + i] = cosf(t[n] * frequency);
            y[n * dim + half + i] = sinf(t[n] * frequency);
        }
}
