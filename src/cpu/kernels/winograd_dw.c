/* winograd_dw.c - the gradient of a 3x3 convolution's weights by the transposed steps of winograd.c's forward:
 *
 *   dg = G' [sum over tiles of (B' d B) . (A dy A')] G
 *
 * A block of tiles at a time: inputs and gradients are transformed into scratch that all threads read. A job then
 * owns a block of input and output channels: 36 products over the tiles, 16 input channels at a time so that the sums
 * stay in the second-level cache, and what they give is added to the weights' gradient in its own order. The division
 * follows from sizes alone, so results repeat.
 */
#include "cpu/kernels/conv_weights.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/outer_products.h"
#include "cpu/kernels/winograd_tiles.h"

#include <omp.h>

/* --- gradients in -------------------------------------------------------------------------------------- */

/* z = A y: four elements to six. */
static inline void line_of_gradients(const vec *y, int from, vec *z, int to)
{
    const vec y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
    const vec even_a = y0 + AA * y2, odd_a = A * (y1 + AA * y3);
    const vec even_b = y0 + BB * y2, odd_b = B * (y1 + BB * y3);
    z[0] = y0;
    z[to] = even_a + odd_a;
    z[2 * to] = even_a - odd_a;
    z[3 * to] = even_b + odd_b;
    z[4 * to] = even_b - odd_b;
    z[5 * to] = y3;
}

static inline void transform_gradients(const vec *y, float *z, int64_t stride)
{
    vec rows[SIDE * OUT], row[SIDE];
    for (int x = 0; x < OUT; x++) line_of_gradients(y + x, OUT, rows + x, OUT);
    for (int i = 0; i < SIDE; i++) {
        line_of_gradients(rows + i * OUT, 1, row, 1);
        for (int x = 0; x < SIDE; x++) store(z + (i * SIDE + x) * stride, row[x]);
    }
}

static void tile_gradients(const cn_conv_args *a, tile t, int64_t first, int64_t n, float *z,
                           int64_t stride)
{
    const picture dy = {a->dy, a->type, a->h, a->w, a->O};
    take_tile(&dy, t, OUT, transform_gradients, first, n, z, stride);
}

/* --- gradients out ------------------------------------------------------------------------------------- */

/* g = G' u: six elements to three. */
static inline void line_of_sums(const vec *u, int from, vec *g, int to)
{
    const vec even_a = u[from] + u[2 * from], odd_a = u[from] - u[2 * from];
    const vec even_b = u[3 * from] + u[4 * from], odd_b = u[3 * from] - u[4 * from];
    g[0] = OF_0 * u[0] + (OF_A * even_a + OF_B * even_b);
    g[to] = OF_A * A * odd_a + OF_B * B * odd_b;
    g[2 * to] = OF_A * AA * even_a + (OF_B * BB * even_b + u[5 * from]);
}

/* Nine taps, each at g + tap * GROUP * GROUP, from 36 sums. */
static void transform_sums(const float *m, int64_t stride, float *g)
{
    vec columns[SIDE * K], column[SIDE], row[K];
    for (int x = 0; x < SIDE; x++) {
        for (int i = 0; i < SIDE; i++) column[i] = load(m + (i * SIDE + x) * stride);
        line_of_sums(column, 1, columns + x, SIDE);
    }
    for (int y = 0; y < K; y++) {
        line_of_sums(columns + y * SIDE, 1, row, 1);
        for (int x = 0; x < K; x++) store(g + (y * K + x) * GROUP * GROUP, row[x]);
    }
}

/* --- the work ----------------------------------------------------------------------------------------- */

/* Channels in .. and out .. of one block each, over `tiles` tiles; v and z are the blocks' own. */
static void run_job(const cn_conv_args *a, const cn_wino_size *s, const float *v, const float *z,
                    int64_t tiles, int64_t in, int64_t out, bool add, float *m)
{
    const int64_t rows = whole_groups(CN_MIN(CN_WINO_I, a->I - in));
    const int64_t width = whole_groups(CN_MIN(CN_WINO_O, a->O - out));
    float g[TAPS * GROUP * GROUP];
    for (int64_t r = 0; r < rows; r += GROUP) {
        for (int64_t o = 0; o < width; o += GROUP)
            for (int tap = 0; tap < TAPS; tap++) expect_weights(a, in + r, out + o, tap);
        for (int p = 0; p < PLACES; p++)
            products(tiles, v + p * s->inputs + r, rows, z + p * s->inputs, width, m + p * s->sums);
        for (int64_t o = 0; o < width; o += GROUP) {
            for (int i = 0; i < GROUP; i++)
                for (int l = 0; l < GROUP; l += LANES)
                    transform_sums(m + i * width + o + l, s->sums, g + i * GROUP + l);
            for (int tap = 0; tap < TAPS; tap++)
                write_weights(a, in + r, out + o, tap, g + tap * GROUP * GROUP, GROUP, add);
        }
    }
}

void CN_K(winograd_dw)(const cn_conv_args *a)
{
    const cn_wino_size s = cn_wino_dw_size_of(a);
    const int64_t each = PLACES * s.inputs;
    float *inputs = (float *)(void *)a->scratch, *gradients = inputs + s.in_blocks * each;
    float *own = inputs + s.shared_floats;
#pragma omp parallel
    for (int64_t block = 0; block < s.tiles; block += s.block) {
        const int64_t tiles = CN_MIN(s.block, s.tiles - block);
#pragma omp for collapse(2) schedule(static)
        for (int64_t k = 0; k < s.in_blocks + s.out_blocks; k++)
            for (int64_t t = 0; t < tiles; t++) {
                const bool in = k < s.in_blocks;
                const int64_t first = (in ? k : k - s.in_blocks) * CN_WINO_I;
                const int64_t n = CN_MIN(CN_WINO_I, (in ? a->I : a->O) - first);
                float *to = inputs + k * each + t * whole_groups(n);
                (in ? tile_inputs : tile_gradients)(a, tile_at(&s, block + t), first, n, to,
                                                    s.inputs);
            }
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t o = 0; o < s.out_blocks; o++)
            for (int64_t i = 0; i < s.in_blocks; i++)
                run_job(a, &s, inputs + i * each, gradients + o * each, tiles, i * CN_WINO_I,
                        o * CN_WINO_O, block > 0,
                        own + (size_t)omp_get_thread_num() * s.thread_floats);
    }
}
