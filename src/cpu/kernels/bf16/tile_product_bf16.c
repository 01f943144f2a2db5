/* SPDX-License-Identifier: Apache-2.0 */
/* tile_product_bf16.c - the product under attention: bfloat16 in, float out, by AMX or by
 * AVX512_BF16. */
#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/bf16/pairs_product.h"

/* --- AMX: 16 x 16 results from 16 x 32 by 32 x 16; two by two results at a time --------------- */

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} tile_config;

/* The intrinsics tell the compiler of the first 8 of 64 bytes only. */
static void all_of(const void *config)
{
    __asm__ volatile("" : : "r"(config) : "memory");
}

void cn_tiles_begin(bool amx, cn_tiles *t)
{
    if (!amx) return;
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.colsb[i] = 64;
        c.rows[i] = 16;
    }
    _tile_storeconfig(t->saved);
    all_of(t->saved);
    all_of(&c);
    _tile_loadconfig(&c);
}

void cn_tiles_end(bool amx, const cn_tiles *t)
{
    if (!amx) return;
    all_of(t->saved);
    if (t->saved[0])
        _tile_loadconfig(t->saved);
    else
        _tile_release();
}

/* Results in tiles 0 to 3 (row-wise), a's rows in 4 and 5, b's columns in 6 and 7. */
static inline __attribute__((always_inline)) void amx_block(int rows, int columns, int64_t k,
                                                            const uint16_t *a, int64_t lda,
                                                            const uint16_t *b, int64_t ldb,
                                                            float *c, int64_t ldc, bool add)
{
    const int64_t as = 2 * lda, bs = 4 * ldb, cs = 4 * ldc;
    if (add) {
        _tile_loadd(0, c, cs);
        if (columns == 2) _tile_loadd(1, c + 16, cs);
        if (rows == 2) _tile_loadd(2, c + 16 * ldc, cs);
        if (rows == 2 && columns == 2) _tile_loadd(3, c + 16 * ldc + 16, cs);
    } else {
        _tile_zero(0);
        if (columns == 2) _tile_zero(1);
        if (rows == 2) _tile_zero(2);
        if (rows == 2 && columns == 2) _tile_zero(3);
    }
    for (int64_t p = 0; p < k; p += 32) {
        _tile_loadd(4, a + p, as);
        _tile_loadd(6, b + p * ldb, bs);
        _tile_dpbf16ps(0, 4, 6);
        if (columns == 2) {
            _tile_loadd(7, b + p * ldb + 32, bs);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (rows == 2) {
            _tile_loadd(5, a + 16 * lda + p, as);
            _tile_dpbf16ps(2, 5, 6);
            if (columns == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, cs);
    if (columns == 2) _tile_stored(1, c + 16, cs);
    if (rows == 2) _tile_stored(2, c + 16 * ldc, cs);
    if (rows == 2 && columns == 2) _tile_stored(3, c + 16 * ldc + 16, cs);
}

static void amx_product(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                        const uint16_t *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    for (int64_t j = 0; j < n; j += 32)
        for (int64_t i = 0; i < m; i += 32) {
            const uint16_t *ai = a + i * lda, *bj = b + 2 * j;
            float *cij = c + i * ldc + j;
            const bool two_rows = i + 16 < m, two_columns = j + 16 < n;
            if (two_rows && two_columns)
                amx_block(2, 2, k, ai, lda, bj, ldb, cij, ldc, add);
            else if (two_rows)
                amx_block(2, 1, k, ai, lda, bj, ldb, cij, ldc, add);
            else if (two_columns)
                amx_block(1, 2, k, ai, lda, bj, ldb, cij, ldc, add);
            else
                amx_block(1, 1, k, ai, lda, bj, ldb, cij, ldc, add);
        }
}

void cn_tiles_product(bool amx, int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                      const uint16_t *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    if (amx)
        amx_product(m, n, k, a, lda, b, ldb, c, ldc, add);
    else
        pairs_product(m, n, k, a, lda, b, ldb, c, ldc, add, NULL);
}
