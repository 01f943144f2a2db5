/* SPDX-License-Identifier: Apache-2.0 */
/* few_outputs_tiles.h - convolutions to at most four channels, of any kernel, stride and dilation,
 * NHWC, for one kind of factors.
 *
 * With so few outputs, vectors of them would be mostly empty. So vectors are of input channels:
 * each output is a sum of products of vectors over taps and channels, whose elements are added at
 * the end. As many pixels of a row as there are registers for sums share what is read of the
 * weights. A tile of outputs is a few such groups wide, so that the rows of inputs that it goes
 * down stay in the second-level cache.
 */
#include "cpu/kernels/conv/conv_outputs.h"
#include "cpu/kernels/multiply_add.h"
#include "cpu/kernels/horizontal_sum.h"
#include "cpu/kernels/conv/few_outputs.h"
#include "cpu/kernels/conv/patches_in.h"
#include "cpu/kernels/widen.h"

#include <omp.h>

enum { CHANNELS = LANES * DEPTH };
enum { SUMS = LANES == 16 ? 24 : 12, VECTORS = (SUMS + LANES - 1) / LANES };
enum { GROUPS = 8, TILE = 16 /* groups across, rows down */ };

/* u [depth / CHANNELS][out][CHANNELS] of one tap, inputs padded with zeros. */
static void gather_weights(const cn_conv_args *a, int tap, factor *u)
{
    const size_t each = cn_dtype_bytes(a->weight_type);
    for (int64_t c = 0; c < cn_few_outputs_depth(a); c += CHANNELS)
        for (int64_t o = 0; o < a->O; o++)
            for (int64_t i = c; i < c + CHANNELS; i++, u++) {
                float w = 0;
                const int64_t at = i < a->I ? a->at_out[o] + a->at_in[i] + a->at_tap[tap] : 0;
                if (i < a->I)
                    widen(a->weight_type, (const char *)a->weights + (size_t)at * each, &w, 1);
                *u = factor_of(w);
            }
}

/* Pixels x, x + in_step, ... of the row that begins at pixel `row`, zeros for those outside it and
 * behind the last channel. */
static void copy_pixels(const cn_conv_args *a, int64_t row, int64_t x, int pixels, char *to)
{
    const size_t each = cn_dtype_bytes(a->type), bytes = (size_t)a->I * each;
    const size_t apart = (size_t)cn_few_outputs_depth(a) * each;
    memset(to, 0, (size_t)pixels * apart);
    for (int p = 0; p < pixels; p++, x += a->in_step, to += apart)
        if (x >= 0 && x < a->W) memcpy(to, (const char *)a->x + (size_t)(row + x) * bytes, bytes);
}

/* Where a tap reads the pixels of a group, `apart` bytes from each to the next, and the tap's
 * weights. */
typedef struct reading {
    const char *x;
    int64_t apart;
    const factor *u;
} reading;

/* What a thread works with: the readings of a group at the very first position, as if all its
 * pixels were there; those of a group at an edge, and copies of its pixels. */
typedef struct work {
    const reading *inner;
    reading *edge;
    char *copies;
} work;

/* Where position (i, j) reads a tap's pixel, counted from the first of image n. */
static inline int64_t bytes_to(const cn_conv_args *a, position p, cn_conv_tap t)
{
    const int64_t y = p.i * a->in_step + t.y, x = p.j * a->in_step + t.x;
    return ((p.n * a->H + y) * a->W + x) * a->I * (a->type == CN_BF16 ? 2 : 4);
}

static void find_inner(const cn_conv_args *a, const factor *u, reading *r)
{
    const int64_t apart = bytes_to(a, (position){0, 0, 1}, (cn_conv_tap){0, 0});
    for (int t = 0; t < a->n_taps; t++, u += a->O * cn_few_outputs_depth(a))
        r[t] = (reading){(const char *)a->x + bytes_to(a, (position){0}, a->taps[t]), apart, u};
}

/* Whether the picture has all pixels of the group from p on, in whole vectors: at the first tap and
 * at the last. */
static inline bool is_inner(const cn_conv_args *a, position p, int pixels)
{
    const cn_conv_tap first = a->taps[0], last = a->taps[a->n_taps - 1];
    const int64_t y = p.i * a->in_step, x = p.j * a->in_step;
    return a->I % CHANNELS == 0 && y + first.y >= 0 && y + last.y < a->H && x + first.x >= 0 &&
           x + (pixels - 1) * a->in_step + last.x < a->W;
}

/* The readings of a group at an edge: of copies, from the taps whose row is in the picture. Returns
 * how many. */
static int find_edge(const cn_conv_args *a, position p, int pixels, const work *own)
{
    const int64_t depth = cn_few_outputs_depth(a), apart = depth * (int64_t)cn_dtype_bytes(a->type);
    char *to = own->copies;
    int n = 0;
    for (int t = 0; t < a->n_taps; t++) {
        const int64_t y = p.i * a->in_step + a->taps[t].y, x = p.j * a->in_step + a->taps[t].x;
        if (y < 0 || y >= a->H) continue;
        copy_pixels(a, (p.n * a->H + y) * a->W, x, pixels, to);
        own->edge[n++] = (reading){to, apart, own->inner[t].u};
        to += pixels * apart;
    }
    return n;
}

/* Sums from element `at` of y on, of which `count` are there. */
static inline __attribute__((always_inline)) void
put_sums(const cn_conv_args *a, cn_dtype type, int64_t at, int64_t count, const vec v[VECTORS])
{
    const size_t each = cn_dtype_bytes(type);
    for (int i = 0; i < VECTORS && i * LANES < count; i++) {
        const int64_t n = CN_MIN(LANES, count - i * LANES);
        const size_t place = (size_t)(at + i * LANES) * each;
        vec sum = v[i];
        if (a->residual) sum += load_some(type, (const char *)a->residual + place, n);
        if (a->act) sum = activated(a, sum);
        store_some(type, (char *)a->y + place, sum, n);
    }
}

/* A group: outputs of a row from position `at` on, of which `count` are there. start: what each sum
 * begins with. All places are found before sums begin, which are to stay in registers; what only
 * the row below will read is prefetched little by little. */
static inline __attribute__((always_inline)) void run_group(const cn_conv_args *a, cn_dtype type,
                                                            int outs, position at, int64_t count,
                                                            const vec *start, const work *own)
{
    const int pixels = SUMS / outs;
    const int64_t each = type == CN_BF16 ? 2 : 4;
    const bool inner = is_inner(a, at, pixels);
    const int n = inner ? a->n_taps : find_edge(a, at, pixels, own);
    const reading *readings = inner ? own->inner : own->edge;
    const int64_t moved = inner ? bytes_to(a, at, (cn_conv_tap){0, 0}) : 0;
    const position below = {at.n, at.i + 1, at.j};
    const char *ahead = (const char *)a->x + bytes_to(a, below, a->taps[a->n_taps - 1]);
    vec sum[SUMS] = {0}, total[VECTORS];
    for (const reading *r = readings; r < readings + n; r++) {
        const char *x = r->x + moved;
        const factor *u = r->u;
        for (int64_t c = 0; c < a->I; c += CHANNELS, x += CHANNELS * each) {
            factors w[CN_NARROW_OUT];
            __builtin_prefetch(ahead, 0, 2);
            ahead += 64;
#pragma GCC unroll 4
            for (int o = 0; o < outs; o++, u += CHANNELS) w[o] = factors_at(u);
#pragma GCC unroll 24
            for (int p = 0; p < pixels; p++) {
                const factors pixel = kept(inputs_at(type, x + p * r->apart));
#pragma GCC unroll 4
                for (int o = 0; o < outs; o++)
                    sum[p * outs + o] = add_products(sum[p * outs + o], pixel, w[o]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; i++)
        total[i] = start[i] + horizontal_sums(sum + i * LANES, CN_MIN(LANES, SUMS - i * LANES));
    const int64_t first = ((at.n * a->h + at.i) * a->w + at.j) * outs;
    if (a->result == CN_BF16)
        put_sums(a, CN_BF16, first, count * outs, total);
    else if (count < pixels)
        put_sums(a, CN_F32, first, count * outs, total);
    else
        put_sums(a, CN_F32, first, SUMS, total);
}

/* Bias and shift of image n, for every sum of a group. */
static inline void find_start(const cn_conv_args *a, int64_t n, vec start[VECTORS])
{
    const size_t each = cn_dtype_bytes(a->result);
    for (int i = 0; i < VECTORS * LANES; i++) {
        const int64_t o = i % a->O;
        float v = a->bias ? a->bias[o] : 0;
        if (a->shift)
            v += load_some(a->result, (const char *)a->shift + (size_t)(n * a->O + o) * each, 1)[0];
        start[i / LANES][i % LANES] = v;
    }
}

/* The tile of outputs from `first` on. */
static inline __attribute__((always_inline)) void run_tile(const cn_conv_args *a, int outs,
                                                           position first, const work *own)
{
    const int pixels = SUMS / outs;
    const int64_t end = CN_MIN(first.j + GROUPS * pixels, a->w);
    vec start[VECTORS];
    find_start(a, first.n, start);
    for (int64_t i = first.i; i < CN_MIN(first.i + TILE, a->h); i++)
        for (int64_t j = first.j; j < end; j += pixels) {
            const position at = {first.n, i, j};
            if (a->type == CN_BF16)
                run_group(a, CN_BF16, outs, at, CN_MIN(pixels, end - j), start, own);
            else
                run_group(a, CN_F32, outs, at, CN_MIN(pixels, end - j), start, own);
        }
}

/* Scratch: weights, inner readings, then each thread's own. */
static void few_outputs(const cn_conv_args *a)
{
    const int64_t depth = cn_few_outputs_depth(a), wide = GROUPS * (SUMS / a->O);
    const int64_t down = (a->h + TILE - 1) / TILE, across = (a->w + wide - 1) / wide;
    const size_t reading_bytes = cn_few_outputs_reading_bytes(a);
    factor *u = (factor *)(void *)a->scratch;
    char *after = a->scratch + cn_few_outputs_weight_bytes(a), *others = after + reading_bytes;
    reading *inner = (reading *)(void *)after;
    find_inner(a, u, inner);
#pragma omp parallel
    {
        char *mine = others + (size_t)omp_get_thread_num() * cn_few_outputs_thread_bytes(a);
        const work own = {inner, (reading *)(void *)mine, mine + reading_bytes};
#pragma omp for schedule(static)
        for (int t = 0; t < a->n_taps; t++) gather_weights(a, t, u + t * a->O * depth);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < a->N * down * across; t++) {
            const position first = {t / (down * across), t / across % down * TILE,
                                    t % across * wide};
            switch (a->O) {
            case 1: run_tile(a, 1, first, &own); break;
            case 2: run_tile(a, 2, first, &own); break;
            case 3: run_tile(a, 3, first, &own); break;
            default: run_tile(a, CN_NARROW_OUT, first, &own);
            }
        }
    }
}
