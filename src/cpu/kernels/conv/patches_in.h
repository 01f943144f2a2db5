/* SPDX-License-Identifier: Apache-2.0 */
/* patches_in.h - positions of a grid and the inputs at their taps. */
#ifndef CN_CPU_KERNELS_CONV_PATCHES_IN_H
#define CN_CPU_KERNELS_CONV_PATCHES_IN_H

#include "cpu/kernels/conv/patches.h"
#include "cpu/kernels/vectors.h"

typedef struct position {
    int64_t n, i, j; /* image and place in the grid */
} position;

static inline position position_at(const cn_conv_grid *g, int64_t p)
{
    const int64_t each = g->h * g->w, in_image = p % each;
    return (position){p / each, in_image / g->w, in_image % g->w};
}

/* The first channel that tap t reads for a position, NULL outside the picture. */
static inline const void *input_at(const cn_conv_args *a, position p, cn_conv_tap t)
{
    const int64_t y = p.i * a->in_step + t.y, x = p.j * a->in_step + t.x;
    if (y < 0 || y >= a->H || x < 0 || x >= a->W) return NULL;
    return (const char *)a->x + ((p.n * a->H + y) * a->W + x) * a->I * (a->type == CN_BF16 ? 2 : 4);
}

/* n channels from x on as floats, padded with zeros to whole groups; NULL: all zeros. */
static inline __attribute__((always_inline)) void gather_channels_as(cn_dtype type, const char *x,
                                                                     int64_t n, float *to)
{
    const int64_t each = type == CN_BF16 ? 2 : 4, whole = x ? n / LANES * LANES : 0;
    for (int64_t c = 0; c < whole; c += LANES) store(to + c, load_as(type, x + c * each));
    for (int64_t c = whole; c < whole_groups(n); c += LANES)
        store(to + c, x && c < n ? load_some(type, x + c * each, n - c) : (vec){0});
}

/* The same, n of a picture's channels from `first` on. */
static inline void gather_channels(cn_dtype type, const void *pixel, int64_t first, int64_t n,
                                   float *to)
{
    if (type == CN_BF16)
        gather_channels_as(CN_BF16, pixel ? (const char *)pixel + 2 * first : NULL, n, to);
    else
        gather_channels_as(CN_F32, pixel ? (const char *)pixel + 4 * first : NULL, n, to);
}

#endif
