/* narrow.c - convolutions to at most four channels, of any kernel, stride and dilation, NHWC.
 *
 * With so few outputs, vectors of them would be mostly empty. So vectors are of input channels: each output is a sum of
 * products of vectors over taps and channels, whose elements are added at the end. Several pixels of a row share what is
 * read of the weights, and a tile of outputs goes down a few pixels of each row, which stay in the caches.
 */
#include "cpu/kernels/conv_outputs.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/narrow.h"
#include "cpu/kernels/patches_in.h"
#include "cpu/kernels/transpose.h"
#include "cpu/kernels/widen.h"

enum { PIXELS = LANES == 16 ? 4 : 2, SUMS = PIXELS * CN_NARROW_OUT, TILE = 32 };

/* u [tap][out][in], inputs padded with zeros to whole groups. */
static void take_weights(const cn_conv_args *a, int tap, float *u)
{
    const size_t each = cn_dtype_bytes(a->weight_type);
    const int64_t depth = whole_groups(a->I);
    for (int64_t o = 0; o < a->O; o++, u += depth)
        for (int64_t i = 0; i < depth; i++) {
            const int64_t at = i < a->I ? a->at_out[o] + a->at_in[i] + a->at_tap[tap] : 0;
            u[i] = 0;
            if (i < a->I)
                widen(a->weight_type, (const char *)a->weights + (size_t)at * each, u + i, 1);
        }
}

/* sum += LANES channels of each pixel times those of each output's weights. */
static inline __attribute__((always_inline)) void add_vectors(int outs, const vec x[PIXELS],
                                                              const float *u, int64_t depth,
                                                              vec sum[PIXELS][CN_NARROW_OUT])
{
    for (int o = 0; o < outs; o++) {
        const vec w = load(u + o * depth);
        for (int p = 0; p < PIXELS; p++) sum[p][o] += x[p] * w;
    }
}

/* What the elements of each vector are together. */
static inline void add_elements(vec sum[PIXELS][CN_NARROW_OUT], float totals[SUMS])
{
    float rows[SUMS * LANES], columns[LANES * SUMS];
    for (int i = 0; i < SUMS; i++)
        store(rows + i * LANES, sum[i / CN_NARROW_OUT][i % CN_NARROW_OUT]);
    transpose(rows, LANES, SUMS, LANES, 1, columns, SUMS);
    for (int i = 0; i < SUMS; i++) totals[i] = columns[i];
    for (int l = 1; l < LANES; l++)
        for (int i = 0; i < SUMS; i++) totals[i] += columns[l * SUMS + i];
}

/* Up to PIXELS outputs of a row from position `at` on, of which `count` are there. */
static inline __attribute__((always_inline)) void run_pixels(const cn_conv_args *a, cn_dtype type,
                                                             int outs, position at, int64_t count,
                                                             const float *u, const void *nothing)
{
    const size_t each = cn_dtype_bytes(type);
    const int64_t whole = a->I / LANES * LANES, depth = whole_groups(a->I);
    vec sum[PIXELS][CN_NARROW_OUT] = {0}, x[PIXELS];
    const cn_conv_tap last = a->taps[a->n_taps - 1];
    const int64_t y = (at.i + 1) * a->in_step + last.y, left = at.j * a->in_step + last.x;
    const char *next =
        (const char *)a->x + ((at.n * a->H + y) * a->W + left) * a->I * (int64_t)each;
    for (int t = 0; t < a->n_taps; t++, u += outs * depth) {
        const char *from[PIXELS];
        for (int p = 0; p < PIXELS; p++) {
            const position there = {at.n, at.i, at.j + p};
            const void *input = p < count ? input_at(a, there, a->taps[t]) : NULL;
            from[p] = input ? input : nothing;
        }
        for (int64_t c = 0; c < whole; c += LANES) {
            for (int p = 0; p < PIXELS; p++) x[p] = load_as(type, from[p] + (size_t)c * each);
            add_vectors(outs, x, u + c, depth, sum);
        }
        if (whole == a->I) continue;
        for (int p = 0; p < PIXELS; p++)
            x[p] = load_some(type, from[p] + (size_t)whole * each, a->I - whole);
        add_vectors(outs, x, u + whole, depth, sum);
    }
    for (int64_t c = 0; c < PIXELS * a->I * (int64_t)each; c += 64)
        __builtin_prefetch(next + c, 0, 2);
    float totals[SUMS];
    add_elements(sum, totals);
    for (int p = 0; p < count; p++) {
        const int64_t pixel = (at.n * a->h + at.i) * a->w + at.j + p;
        const vec bias = a->bias ? load_some(CN_F32, a->bias, outs) : (vec){0};
        const vec v = bias + load_some(CN_F32, totals + p * CN_NARROW_OUT, outs);
        if (a->result == CN_BF16)
            put_output(a, CN_BF16, at.n, pixel, 0, outs, v);
        else
            put_output(a, CN_F32, at.n, pixel, 0, outs, v);
    }
}

/* The tile of outputs from `first` on. */
static inline __attribute__((always_inline)) void
run_tile(const cn_conv_args *a, int outs, position first, const float *u, const void *nothing)
{
    const int64_t end = CN_MIN(first.j + TILE, a->w);
    for (int64_t i = first.i; i < CN_MIN(first.i + TILE, a->h); i++)
        for (int64_t j = first.j; j < end; j += PIXELS) {
            const position at = {first.n, i, j};
            if (a->type == CN_BF16)
                run_pixels(a, CN_BF16, outs, at, CN_MIN(PIXELS, end - j), u, nothing);
            else
                run_pixels(a, CN_F32, outs, at, CN_MIN(PIXELS, end - j), u, nothing);
        }
}

void CN_K(narrow)(const cn_conv_args *a)
{
    float *nothing = (float *)(void *)a->scratch, *u = nothing + whole_groups(a->I);
    const int64_t down = (a->h + TILE - 1) / TILE, across = (a->w + TILE - 1) / TILE;
    memset(nothing, 0, (size_t)whole_groups(a->I) * sizeof *nothing);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int t = 0; t < a->n_taps; t++) take_weights(a, t, u + t * a->O * whole_groups(a->I));
#pragma omp for schedule(static)
        for (int64_t t = 0; t < a->N * down * across; t++) {
            const position first = {t / (down * across), t / across % down * TILE,
                                    t % across * TILE};
            switch (a->O) {
            case 1: run_tile(a, 1, first, u, nothing); break;
            case 2: run_tile(a, 2, first, u, nothing); break;
            case 3: run_tile(a, 3, first, u, nothing); break;
            default: run_tile(a, CN_NARROW_OUT, first, u, nothing);
            }
        }
    }
}
