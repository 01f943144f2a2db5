/* SPDX-License-Identifier: Apache-2.0 */
/* tiles.c - see tiles.h. */
#include "diffuse/tiles.h"

static void weigh(const cn_tiles *t, int64_t i)
{
    int64_t n = t->tile * t->scale;
    int64_t before = i > 0 ? (t->start[i - 1] + t->tile - t->start[i]) * t->scale : 0;
    int64_t after = i + 1 < t->n ? (t->start[i] + t->tile - t->start[i + 1]) * t->scale : 0;
    for (int64_t k = 0; k < n; k++) {
        float w = 1;
        if (before) w = CN_MIN(w, ((float)k + 0.5f) / (float)before);
        if (after) w = CN_MIN(w, ((float)(n - k) - 0.5f) / (float)after);
        t->weight[i * n + k] = w;
    }
}

/* Makes the weights of all tiles at one point add up to 1. */
static void normalise(const cn_tiles *t)
{
    int64_t n = t->tile * t->scale;
    for (int64_t at = 0; at < t->size * t->scale; at++) {
        float sum = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = 0; i < t->n; i++) {
                int64_t k = at - t->start[i] * t->scale;
                if (k < 0 || k >= n) continue;
                if (pass == 0)
                    sum += t->weight[i * n + k];
                else
                    t->weight[i * n + k] /= sum;
            }
    }
}

cn_status cn_tiles_make(cn_ctx *ctx, int64_t size, int64_t tile, int64_t scale, cn_tiles *out)
{
    if (tile <= 0 || tile >= size) tile = size;
    int64_t step = CN_MAX(1, tile - (tile + 3) / 4);
    cn_tiles t = {.size = size, .tile = tile, .scale = scale};
    t.n = 1 + (size - tile + step - 1) / step;
    t.start = cn_alloc_array(ctx, (size_t)t.n, sizeof *t.start);
    t.weight = cn_alloc_array(ctx, (size_t)(t.n * tile * scale), sizeof *t.weight);
    *out = t;
    if (!t.start || !t.weight) return CN_ENOMEM;
    for (int64_t i = 0; i < t.n; i++)
        t.start[i] = t.n == 1 ? 0 : (i * (size - tile) + (t.n - 1) / 2) / (t.n - 1);
    for (int64_t i = 0; i < t.n; i++) weigh(&t, i);
    normalise(&t);
    return CN_OK;
}

void cn_tiles_free(cn_tiles *t)
{
    cn_free(t->start);
    cn_free(t->weight);
    *t = (cn_tiles){0};
}
