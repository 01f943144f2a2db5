/* SPDX-License-Identifier: Apache-2.0 */
/* conv_dw_bf16.c - the gradient of a convolution's weights on bfloat16, of any kernel, stride and
 * dilation: for each tap the sum over positions of inputs times gradients. A matrix product's is
 * the same with one tap.
 *
 * As kernels/patches_dw.c: a block of positions at a time, whose inputs at each tap and gradients
 * are brought into scratch that all threads read, pairs of positions beside each other. A job owns
 * a group of one and a block of the other, and what its positions give is written to, or added to,
 * the weights' gradient in its own order: rows are inputs and columns outputs, or the opposite, as
 * runs of the gradient go (conv_bf16.h). The division follows from sizes alone, so results repeat.
 */
#include "cpu/kernels/bf16/conv_bf16.h"
#include "cpu/kernels/bf16/pixels_bf16.h"
#include "cpu/kernels/conv/conv_weights.h"

#include <omp.h>

enum { COLUMNS = CN_CONV16_OUTS };

cn_conv16_size cn_conv16_dw_size_of(const cn_conv_args *a)
{
    cn_conv16_size s = {.block = CN_MIN(cn_grid_positions(a, a->grids), CN_CONV16_POSITIONS)};
    s.room = cn_conv16_up(s.block, 2 * GROUP);
    s.inputs = cn_conv16_up(a->I, COLUMNS) * a->n_taps * s.room;
    s.gradients = cn_conv16_up(a->O, COLUMNS) * s.room;
    s.shared_bytes = (size_t)(s.inputs + s.gradients) * sizeof(uint16_t);
    s.thread_bytes = (size_t)(CN_CONV16_TAPS * GROUP * COLUMNS) * sizeof(float);
    return s;
}

/* Channels c .. of two pixels, of `all`, side by side. */
static inline __m512i two_pixels(const uint16_t *x, const uint16_t *y, int64_t c, int64_t all)
{
    const __mmask16 there = first16(all - c);
    const __m256i none = _mm256_setzero_si256();
    const __m256i a = x ? _mm256_maskz_loadu_epi16(there, x + c) : none;
    const __m256i b = y ? _mm256_maskz_loadu_epi16(there, y + c) : none;
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

/* All channels of 32 positions from p on, x the pixels. Rows: to[group][tap][channel][room], else
 * pairs to [block][tap][room/2][COLUMNS][2]; `taps` of them. */
static void gather_pixels(const uint16_t *const x[2 * GROUP], int64_t channels, int64_t p,
                          int64_t room, int t, int taps, bool rows, uint16_t *to)
{
    for (int64_t c = 0; c < channels; c += GROUP) {
        __m512i v[GROUP];
        for (int i = 0; i < GROUP; i++) v[i] = two_pixels(x[2 * i], x[2 * i + 1], c, channels);
        if (rows) {
            uint16_t *at = to + (c * taps + t * GROUP) * room + p;
            turn16(v);
            for (int i = 0; i < GROUP; i++) _mm512_storeu_si512(at + i * room, v[i]);
        } else {
            uint16_t *at =
                to + (c / COLUMNS * taps + t) * COLUMNS * room + p * COLUMNS + 2 * (c % COLUMNS);
            for (int i = 0; i < GROUP; i++) _mm512_storeu_si512(at + 2 * i * COLUMNS, v[i]);
        }
    }
}

/* 32 positions from p on of the block that begins at `block`: inputs at tap t, or with t = n_taps
 * gradients. */
static void gather_positions(const cn_conv_args *a, const cn_conv16_size *s, int64_t block,
                             int64_t p, int t, uint16_t *inputs)
{
    const bool left = cn_conv16_left(a); /* gradients are */
    const uint16_t *x[2 * GROUP];
    if (t < a->n_taps) {
        pixels_at(a, a->grids, block + p, a->taps[t], x);
        pixels_at(a, a->grids, block + p + GROUP, a->taps[t], x + GROUP);
        gather_pixels(x, a->I, p, s->room, t, a->n_taps, !left, inputs);
        return;
    }
    const int64_t all = cn_grid_positions(a, a->grids);
    for (int64_t i = 0; i < 2 * GROUP; i++)
        x[i] = block + p + i < all ? (const uint16_t *)a->dy + (block + p + i) * a->O : NULL;
    gather_pixels(x, a->O, p, s->room, 0, 1, left, inputs + s->inputs);
}

/* One group of rows from r on by one block of columns from c on, at all taps. Where rows are
 * inputs, those of a few taps are a product's. */
static void run_job(const cn_conv_args *a, const cn_conv16_size *s, const uint16_t *inputs,
                    int64_t r, int64_t c, bool add, float *m)
{
    const bool left = cn_conv16_left(a);
    const int64_t columns = whole_groups(CN_MIN(COLUMNS, (left ? a->I : a->O) - c));
    const uint16_t *gradients = inputs + s->inputs;
    for (int t = 0, taps; t < a->n_taps; t += taps) {
        taps = left ? 1 : CN_MIN(CN_CONV16_TAPS, a->n_taps - t);
        const int64_t at = left ? (c * a->n_taps + t * COLUMNS) : (r * a->n_taps + t * GROUP);
        const uint16_t *x = inputs + at * s->room, *z = gradients + (left ? r : c) * s->room;
        cn_tiles_product(false, taps * GROUP, columns, s->room, left ? z : x, s->room, left ? x : z,
                         COLUMNS, m, COLUMNS, false);
        for (int64_t k = 0; k < columns; k += GROUP)
            for (int i = 0; i < taps; i++)
                if (left)
                    write_transposed(a, c + k, r, t, m + k, COLUMNS, add);
                else
                    write_weights(a, r, c + k, t + i, m + i * GROUP * COLUMNS + k, COLUMNS, add);
    }
    _mm_sfence();
}

void cn_conv16_dw(const cn_conv_args *a)
{
    const cn_conv16_size s = cn_conv16_dw_size_of(a);
    const bool left = cn_conv16_left(a);
    const int64_t rows = left ? a->O : a->I, columns = left ? a->I : a->O;
    const int64_t all = cn_grid_positions(a, a->grids);
    uint16_t *inputs = (uint16_t *)(void *)a->scratch;
#pragma omp parallel
    for (int64_t block = 0; block < all; block += s.block) {
#pragma omp for collapse(2) schedule(static)
        for (int t = 0; t <= a->n_taps; t++)
            for (int64_t p = 0; p < s.room; p += 2 * GROUP)
                gather_positions(a, &s, block, p, t, inputs);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t r = 0; r < rows; r += GROUP)
            for (int64_t c = 0; c < columns; c += COLUMNS)
                run_job(a, &s, inputs, r, c, block > 0,
                        (float *)(void *)(a->scratch + s.shared_bytes +
                                          (size_t)omp_get_thread_num() * s.thread_bytes));
    }
}
