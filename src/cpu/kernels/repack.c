/* SPDX-License-Identifier: Apache-2.0 */
/* repack.c - a tile of a weight's rows to where a blocked layout has them, on the calling thread.
 *
 * Layouts keep 16 or more outputs side by side, or pairs of inputs of each; the published order has
 * a row an output. So a few columns of 16 rows are transposed in the caches and written as whole
 * stretches of the layout.
 */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/transpose.h"

#include <emmintrin.h>
#include <string.h>

enum { ROWS = CN_REPACK_ROWS, PIECE = 8 /* columns transposed at a time */ };

/* Past the caches where nobody reads it soon; writes of whole lines then needn't read them
 * first. */
static inline void put(void *to, const void *from, size_t bytes, bool away)
{
    const size_t each = sizeof(__m128i);
    if (!away || (uintptr_t)to % each) {
        memcpy(to, from, bytes);
        return;
    }
    for (size_t at = 0; at < bytes; at += each)
        _mm_stream_si128((void *)((char *)to + at),
                         _mm_loadu_si128((const void *)((const char *)from + at)));
}

/* Elements of 16 rows that belong to one input, or side by side with those of the next, b. */
#define WRITE(type)                                                                      \
    static void write_##type(const cn_repack *l, const type *a, const type *b, type *to) \
    {                                                                                    \
        type pairs[2 * ROWS];                                                            \
        if (l->step == 1) {                                                              \
            put(to, a, ROWS * sizeof *to, l->away);                                      \
            return;                                                                      \
        }                                                                                \
        for (int o = 0; o < ROWS; o++) {                                                 \
            pairs[2 * o] = a[o];                                                         \
            pairs[2 * o + 1] = b[o];                                                     \
        }                                                                                \
        put(to, pairs, sizeof pairs, l->away);                                           \
    }
WRITE(uint16_t)
WRITE(float)

/* transposed [columns of the piece x area][ROWS] to the layout. */
#define SPREAD(type)                                                                         \
    static void spread_##type(const cn_repack *l, int64_t from, int64_t columns,             \
                              const type *transposed)                                        \
    {                                                                                        \
        for (int64_t k = 0; k < l->area; k++)                                                \
            for (int64_t i = 0; i < columns; i += l->step) {                                 \
                const type *a = transposed + (i * l->area + k) * ROWS;                       \
                const type *b = a + (l->step - 1) * l->area * ROWS;                          \
                write_##type(l, a, b, (type *)l->to + l->column[from + i] + l->position[k]); \
            }                                                                                \
    }
SPREAD(uint16_t)
SPREAD(float)

/* Eight rows of eight elements of 16 bits; strides in elements. */
static void transpose_eight(const uint16_t *from, int64_t stride, uint16_t *to, int64_t to_stride)
{
    __m128i x[8], y[8];
    for (int r = 0; r < 8; r++) x[r] = _mm_loadu_si128((const void *)(from + r * stride));
    for (int r = 0; r < 4; r++) {
        y[2 * r] = _mm_unpacklo_epi16(x[2 * r], x[2 * r + 1]);
        y[2 * r + 1] = _mm_unpackhi_epi16(x[2 * r], x[2 * r + 1]);
    }
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 2; r++) {
            x[4 * h + 2 * r] = _mm_unpacklo_epi32(y[4 * h + r], y[4 * h + 2 + r]);
            x[4 * h + 2 * r + 1] = _mm_unpackhi_epi32(y[4 * h + r], y[4 * h + 2 + r]);
        }
    for (int r = 0; r < 4; r++) {
        _mm_storeu_si128((void *)(to + 2 * r * to_stride), _mm_unpacklo_epi64(x[r], x[4 + r]));
        _mm_storeu_si128((void *)(to + (2 * r + 1) * to_stride),
                         _mm_unpackhi_epi64(x[r], x[4 + r]));
    }
}

static void repack_halves(const cn_repack *l)
{
    uint16_t transposed[PIECE * CN_REPACK_AREA * ROWS];
    for (int64_t i = 0; i < l->columns; i += PIECE) {
        const uint16_t *rows = (const uint16_t *)l->rows + i * l->area;
        const int64_t columns = CN_MIN((int64_t)PIECE, l->columns - i);
        for (int64_t c = 0; c < columns * l->area; c += 8)
            for (int o = 0; o < ROWS; o += 8)
                transpose_eight(rows + o * l->stride + c, l->stride, transposed + c * ROWS + o,
                                ROWS);
        spread_uint16_t(l, i, columns, transposed);
    }
}

static void repack_floats(const cn_repack *l)
{
    float transposed[PIECE * CN_REPACK_AREA * ROWS];
    for (int64_t i = 0; i < l->columns; i += PIECE) {
        const float *rows = (const float *)l->rows + i * l->area;
        const int64_t columns = CN_MIN((int64_t)PIECE, l->columns - i);
        transpose(rows, l->stride, ROWS, columns * l->area, 1, transposed, ROWS);
        spread_float(l, i, columns, transposed);
    }
}

void CN_K(repack)(const cn_repack *l)
{
    if (l->bytes == sizeof(uint16_t))
        repack_halves(l);
    else
        repack_floats(l);
    if (l->away) _mm_sfence();
}
