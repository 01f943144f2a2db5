/* SPDX-License-Identifier: Apache-2.0 */
/* patches_out.h - outputs at positions of a grid. */
#ifndef CN_CPU_KERNELS_CONV_PATCHES_OUT_H
#define CN_CPU_KERNELS_CONV_PATCHES_OUT_H

#include "cpu/kernels/conv/conv_outputs.h"
#include "cpu/kernels/conv/patches_in.h"

static inline position behind(const cn_conv_grid *g, position p)
{
    if (++p.j < g->w) return p;
    p.j = 0;
    if (++p.i < g->h) return p;
    p.i = 0;
    p.n++;
    return p;
}

/* Channels o .. o+n of `positions` from `first` on, from their sums, `stride` apart. */
static inline void put_positions(const cn_conv_args *a, const cn_conv_grid *g, int64_t first,
                                 int64_t positions, int64_t o, int64_t n, const float *sums,
                                 int64_t stride)
{
    position at = position_at(g, first);
    for (int64_t p = 0; p < positions; p++, at = behind(g, at), sums += stride) {
        const int64_t y = g->y + at.i * a->out_step, x = g->x + at.j * a->out_step;
        const int64_t pixel = (at.n * a->h + y) * a->w + x;
        for (int64_t c = 0; c < n; c += LANES) {
            const int64_t left = CN_MIN(LANES, n - c);
            vec v = load(sums + c);
            if (a->bias) v += load_some(CN_F32, a->bias + o + c, left);
            if (a->result == CN_BF16)
                put_output(a, CN_BF16, at.n, pixel, o + c, left, v);
            else
                put_output(a, CN_F32, at.n, pixel, o + c, left, v);
        }
    }
}

#endif
