/* SPDX-License-Identifier: Apache-2.0 */
/* winograd_tiles.h - tiles of pictures under Winograd's F(4x4,3x3), in vectors of channels: what
 * the convolution and the gradient of its weights share. */
#ifndef CN_CPU_KERNELS_CONV_WINOGRAD_TILES_H
#define CN_CPU_KERNELS_CONV_WINOGRAD_TILES_H

#include "cpu/kernels/vectors.h"
#include "cpu/kernels/conv/winograd.h"

enum { SIDE = CN_WINO_SIDE, OUT = CN_WINO_OUT, PLACES = CN_WINO_PLACES };
enum { TAPS = 9, K = 3 };

/* The points 0, +-A, +-B and infinity, and what follows from them. */
#define A    0.625f
#define B    1.5f
#define AA   (A * A)
#define BB   (B * B)
#define OF_0 (1.0f / (AA * BB)) /* 1 / product of the differences to the other points */
#define OF_A (1.0f / (2.0f * AA * (AA - BB))) /* at A and -A */
#define OF_B (1.0f / (2.0f * BB * (BB - AA)))

/* --- inputs ----------------------------------------------------------------------------------- */

/* v = B' d, six elements that stand `from` and `to` apart. */
static inline void line_of_inputs(const vec *d, int from, vec *v, int to)
{
    const vec d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from],
              d5 = d[5 * from];
    const vec even_a = d4 - BB * d2, odd_a = d3 - BB * d1;
    const vec even_b = d4 - AA * d2, odd_b = d3 - AA * d1;
    v[0] = AA * BB * d0 + (d4 - (AA + BB) * d2);
    v[to] = even_a + A * odd_a;
    v[2 * to] = even_a - A * odd_a;
    v[3 * to] = even_b + B * odd_b;
    v[4 * to] = even_b - B * odd_b;
    v[5 * to] = AA * BB * d1 + (d5 - (AA + BB) * d3);
}

/* The 36 places of LANES channels, each at v + place * stride. */
static inline void transform_inputs(const vec *d, float *v, int64_t stride)
{
    vec rows[PLACES], row[SIDE];
#pragma GCC unroll 6
    for (int x = 0; x < SIDE; x++) line_of_inputs(d + x, SIDE, rows + x, SIDE);
#pragma GCC unroll 6
    for (int y = 0; y < SIDE; y++) {
        line_of_inputs(rows + y * SIDE, 1, row, 1);
#pragma GCC unroll 6
        for (int x = 0; x < SIDE; x++) store(v + (y * SIDE + x) * stride, row[x]);
    }
}

typedef struct tile {
    int64_t n, y, x; /* image and the first output position */
} tile;

static tile tile_at(const cn_wino_size *s, int64_t t)
{
    const int64_t each = s->down * s->across, in_image = t % each;
    return (tile){t / each, in_image / s->across * OUT, in_image % s->across * OUT};
}

typedef struct picture {
    const void *x;
    cn_dtype type;
    int64_t H, W, C;
} picture;

/* The places of a tile from v on, `stride` apart, from its elements. */
typedef void transformation(const vec *elements, float *v, int64_t stride);

/* gather_tile_as() from its channel c on, where the picture's edge crosses the tile or channels
 * don't fill vectors. */
static inline __attribute__((always_inline)) void
gather_edge_as(const picture *p, cn_dtype type, tile at, int side, transformation *transform,
               int64_t first, int64_t c, int64_t n, float *v, int64_t stride)
{
    const size_t each = cn_dtype_bytes(type);
    const char *from[PLACES];
    for (int i = 0; i < side * side; i++) {
        const int64_t y = at.y + i / side, x = at.x + i % side;
        const bool inside = y >= 0 && y < p->H && x >= 0 && x < p->W;
        const int64_t pixel = (at.n * p->H + y) * p->W + x;
        from[i] = inside ? (const char *)p->x + (size_t)(pixel * p->C + first) * each : NULL;
    }
    vec d[PLACES];
    for (; c < whole_groups(n); c += LANES) {
        const int64_t left = CN_MIN(LANES, n - c);
        for (int i = 0; i < side * side; i++)
            d[i] =
                left > 0 && from[i] ? load_some(type, from[i] + (size_t)c * each, left) : (vec){0};
        transform(d, v + c, stride);
    }
}

/* Channels first .. first+n of the side x side elements of image at.n that begin at (at.y, at.x),
 * transformed, padded to whole groups. Outside the picture there are zeros. */
static inline __attribute__((always_inline)) void
gather_tile_as(const picture *p, cn_dtype type, tile at, int side, transformation *transform,
               int64_t first, int64_t n, float *v, int64_t stride)
{
    const int64_t each = (int64_t)cn_dtype_bytes(type), pixel = p->C * each, row = p->W * pixel;
    const bool whole = at.y >= 0 && at.y + side <= p->H && at.x >= 0 && at.x + side <= p->W;
    const char *from =
        (const char *)p->x + (at.n * p->H + at.y) * row + at.x * pixel + first * each;
    int64_t c = 0;
    for (; whole && c + LANES <= n; c += LANES, from += LANES * each) {
        vec d[PLACES];
#pragma GCC unroll 36
        for (int i = 0; i < side * side; i++)
            d[i] = load_as(type, from + i / side * row + i % side * pixel);
        transform(d, v + c, stride);
    }
    if (c < whole_groups(n)) gather_edge_as(p, type, at, side, transform, first, c, n, v, stride);
}

static inline __attribute__((always_inline)) void gather_tile(const picture *p, tile at, int side,
                                                              transformation *transform,
                                                              int64_t first, int64_t n, float *v,
                                                              int64_t stride)
{
    if (p->type == CN_BF16)
        gather_tile_as(p, CN_BF16, at, side, transform, first, n, v, stride);
    else
        gather_tile_as(p, CN_F32, at, side, transform, first, n, v, stride);
}

/* The 36 inputs of tile t. */
static inline void tile_inputs(const cn_conv_args *a, tile t, int64_t first, int64_t n, float *v,
                               int64_t stride)
{
    const picture x = {a->x, a->type, a->H, a->W, a->I};
    gather_tile(&x, (tile){t.n, t.y - a->top, t.x - a->left}, SIDE, transform_inputs, first, n, v,
                stride);
}

#endif
