/* SPDX-License-Identifier: Apache-2.0 */
/* streamed_product_rows.h - products of many rows with few weights, y [R,O] = x [R,I] w + sums, for
 * one kind of factors.
 *
 * Here memory is what has to be waited for: rows pass by once while the weights stay in the
 * second-level cache. So what the next rows read, and where these will be written and have their
 * sums, is prefetched little by little between products. A block of outputs by a few rows has its
 * sums in registers. Results don't depend on the division.
 */
#include "cpu/kernels/conv/conv_outputs.h"
#include "cpu/kernels/multiply_add.h"
#include "cpu/kernels/streamed_product.h"
#include "cpu/kernels/widen.h"

enum { ROWS = 6, VECTORS = LANES == 16 ? 4 : 2, WIDTH = VECTORS * LANES, LINE = 64 };

/* u [WIDTH][DEPTH]: those of inputs i .. and outputs out .. */
static void gather_weights(const cn_conv_args *a, int64_t out, int64_t i, factor *u)
{
    const size_t each = cn_dtype_bytes(a->weight_type);
    for (int64_t o = out; o < out + WIDTH; o++)
        for (int64_t d = 0; d < DEPTH; d++, u++) {
            float w = 0;
            if (o < a->O) {
                const int64_t at = a->at_out[o] + a->at_in[i + d] + a->at_tap[0];
                widen(a->weight_type, (const char *)a->weights + (size_t)at * each, &w, 1);
            }
            *u = factor_of(w);
        }
}

/* Asks for what some rows read, or begin with and write in one block of outputs, at one of their
 * steps. */
static inline __attribute__((always_inline)) void expect(const cn_conv_args *a, int rows,
                                                         int64_t row, int64_t out, int64_t step)
{
    const int64_t in = a->I * (a->type == CN_BF16 ? 2 : 4);
    const int64_t each = a->result == CN_BF16 ? 2 : 4;
    if (out == 0)
        for (int r = 0; r < rows; r++)
            __builtin_prefetch((const char *)a->x + (row + rows + r) * in + step * LINE, 0, 2);
    if (step >= rows) return;
    const int64_t at = ((row + step) * a->O + out) * each;
    for (int64_t c = 0; c < WIDTH * each; c += LINE) {
        __builtin_prefetch((const char *)a->y + at + c, 1, 2);
        if (a->residual) __builtin_prefetch((const char *)a->residual + at + c, 0, 2);
    }
}

static inline __attribute__((always_inline)) void
put_rows(const cn_conv_args *a, cn_dtype type, int rows, int64_t row, int64_t out, const vec *sum)
{
    for (int v = 0; v < VECTORS && out + v * LANES < a->O; v++) {
        const int64_t o = out + v * LANES, n = CN_MIN(LANES, a->O - o);
        const vec bias = a->bias ? load_some(CN_F32, a->bias + o, n) : (vec){0};
        for (int r = 0; r < rows; r++) {
            const int64_t image = a->shift ? (row + r) / (a->h * a->w) : 0;
            put_output(a, type, image, row + r, o, n, sum[r * VECTORS + v] + bias);
        }
    }
}

/* Rows row .. and a block of outputs from `out` on. */
static inline __attribute__((always_inline)) void
run_block(const cn_conv_args *a, int rows, int64_t row, int64_t out, const factor *u)
{
    const int64_t bytes = a->I * (a->type == CN_BF16 ? 2 : 4);
    const char *x = (const char *)a->x + row * bytes;
    vec sum[ROWS * VECTORS] = {0};
    for (int64_t step = 0; step < bytes / LINE; step++) {
        expect(a, rows, row, out, step);
        for (int k = 0; k < LINE; k += 4, x += 4, u += WIDTH * DEPTH) {
            factors w[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) w[v] = factors_at(u + v * LANES * DEPTH);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const factors left = kept(spread(x + r * bytes));
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sum[r * VECTORS + v] = add_products(sum[r * VECTORS + v], left, w[v]);
            }
        }
    }
    if (a->result == CN_BF16)
        put_rows(a, CN_BF16, rows, row, out, sum);
    else
        put_rows(a, CN_F32, rows, row, out, sum);
}

/* All outputs of rows row .. */
static inline __attribute__((always_inline)) void run_rows(const cn_conv_args *a, int rows,
                                                           int64_t row, const factor *u)
{
    for (int64_t out = 0; out < a->O; out += WIDTH) run_block(a, rows, row, out, u + out * a->I);
}

static void stream(const cn_conv_args *a)
{
    const int64_t all = a->N * a->h * a->w;
    factor *u = (factor *)(void *)a->scratch;
#pragma omp parallel
    {
#pragma omp for collapse(2) schedule(static)
        for (int64_t out = 0; out < a->O; out += WIDTH)
            for (int64_t i = 0; i < a->I; i += DEPTH)
                gather_weights(a, out, i, u + out * a->I + i * WIDTH);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < all; row += ROWS) switch (CN_MIN(ROWS, all - row)) {
            case 1: run_rows(a, 1, row, u); break;
            case 2: run_rows(a, 2, row, u); break;
            case 3: run_rows(a, 3, row, u); break;
            case 4: run_rows(a, 4, row, u); break;
            case 5: run_rows(a, 5, row, u); break;
            default: run_rows(a, ROWS, row, u);
            }
    }
}
