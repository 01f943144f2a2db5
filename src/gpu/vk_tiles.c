/* SPDX-License-Identifier: Apache-2.0 */
/* vk_tiles.c - see vk_tiles.h. */
#include "gpu/vk_tiles.h"

#include <string.h>

enum {
    SAMPLES = 2,        /* of a tile: the first may find memory and caches cold */
    MOST_CHOICES = 4096 /* in a file; a network has some dozens */
};
/* Another tile than the first must be faster by this: clocks and neighbours vary. */
static const float BETTER = 0.97f;

const cn_vk_tile cn_vk_tiles[CN_VK_TILES] = {{64, 64}, {32, 64}, {64, 32}, {32, 32}};

static bool is_valid(const cn_vk_choice *c)
{
    return c->shape.kernel >= 0 && c->shape.kernel < CN_GPU_KERNELS && c->chosen >= 0 &&
           c->chosen < CN_VK_TILES;
}

void cn_vk_tiles_open(const cn_vk_device *d, cn_vk_chooser *out)
{
    size_t bytes = 0;
    *out = (cn_vk_chooser){.fixed = d->tick_bits ? -1 : 0};
    cn_vk_choice *read = (cn_vk_choice *)(void *)cn_vk_file_read(d, "tiles", &out->file, &bytes);
    const int n = (int)CN_MIN(bytes / sizeof *read, MOST_CHOICES);
    bool valid = read && bytes % sizeof *read == 0;
    for (int i = 0; valid && i < n; i++) valid = is_valid(&read[i]);
    if (valid) {
        out->list = read;
        out->n = out->cap = n;
    } else {
        cn_free(read);
    }
}

void cn_vk_tiles_close(cn_vk_chooser *c)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (c->list[i].chosen >= 0 && n < MOST_CHOICES) c->list[n++] = c->list[i];
    if (c->changed && n) cn_vk_file_save(&c->file, c->list, (size_t)n * sizeof *c->list);
    cn_free(c->list);
    *c = (cn_vk_chooser){.fixed = 0};
}

static cn_status find(cn_ctx *ctx, cn_vk_chooser *c, const cn_vk_shape *s, int *at)
{
    for (*at = 0; *at < c->n; ++*at)
        if (!memcmp(&c->list[*at].shape, s, sizeof *s)) return CN_OK;
    if (c->n == c->cap) {
        const int cap = c->cap ? 2 * c->cap : 64;
        cn_vk_choice *more =
            cn_regrow(ctx, c->list, (size_t)c->n * sizeof *more, (size_t)cap * sizeof *more);
        if (!more) return CN_ENOMEM;
        c->list = more;
        c->cap = cap;
    }
    c->list[c->n++] = (cn_vk_choice){.shape = *s, .chosen = -1};
    return CN_OK;
}

cn_status cn_vk_tiles_choose(cn_ctx *ctx, cn_vk_chooser *c, const cn_vk_shape *s, int *tile,
                             int *trial)
{
    int at = 0;
    *trial = -1;
    *tile = CN_MAX(c->fixed, 0);
    if (c->fixed >= 0) return CN_OK;
    CN_TRY(find(ctx, c, s, &at));
    cn_vk_choice *l = &c->list[at];
    *tile = CN_MAX(l->chosen, 0);
    if (l->chosen >= 0) return CN_OK;
    c->undecided++;
    if (!c->trying) return CN_OK;
    *tile = l->asked++ % CN_VK_TILES;
    *trial = at;
    return CN_OK;
}

void cn_vk_tiles_took(cn_vk_chooser *c, int trial, int tile, double seconds)
{
    cn_vk_choice *l = &c->list[trial];
    int best = 0;
    if (!l->samples[tile] || seconds < l->seconds[tile]) l->seconds[tile] = (float)seconds;
    l->samples[tile]++;
    for (int t = 0; t < CN_VK_TILES; t++)
        if (l->samples[t] < SAMPLES) return;
    for (int t = 1; t < CN_VK_TILES; t++)
        if (l->seconds[t] < l->seconds[best] * (best ? 1 : BETTER)) best = t;
    c->changed |= l->chosen < 0;
    if (l->chosen < 0) l->chosen = best;
}
