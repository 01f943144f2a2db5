/* SPDX-License-Identifier: Apache-2.0 */
/* layout.c - see layout.h.
 *
 * A blocked layout places the element (o,i,y,x) at the sum of one offset per dimension, so a table
 * for each says where everything goes. Tiles of rows o and columns i are moved, since neighbours in
 * the layout are of several rows; nothing but one tile is held in between. Whole tiles go by a
 * kernel (kernels/repack.c). Blocks of Q8 run through the layout's order, so they are made panel by
 * panel, of rows that fill a stretch of it.
 */
#include "cpu/layout.h"

#include "cpu/isa.h"
#include "cpu/onednn.h"

#include <omp.h>
#include <string.h>

enum { BLOCK = 4096 /* elements converted at a time; whole blocks of Q8 */ };
/* A tile has TILE_ROW elements of each row at a time, a little apart for the sake of the cache. */
enum {
    TILE_ROWS = CN_REPACK_ROWS,
    TILE_ROW = 1024,
    TILE_STRIDE = TILE_ROW + 16,
    TILE = TILE_ROWS * TILE_STRIDE
};

/* at[0] and at[1] of rows and columns, at[2] of the kernel's positions. */
typedef struct places {
    const cn_kernels *k;
    int64_t rows, columns, area;
    int64_t *at[3];
    int64_t *table;
} places;

static cn_status find_places(cn_ctx *ctx, const cn_param *w, places *p)
{
    int64_t h = w->ndim > 2 ? w->shape[2] : 1, width = w->ndim > 2 ? w->shape[3] : 1;
    *p = (places){.k = cn_cpu_kernels(cn_cpu_isa()),
                  .rows = w->shape[0],
                  .columns = w->shape[1],
                  .area = h * width};
    if (p->area > TILE_ROW)
        return cn_fail(ctx, CN_EMISMATCH, "%s: a kernel of %lld x %lld is too large", w->ldm_name,
                       (long long)h, (long long)width);
    size_t n = (size_t)(p->rows + p->columns + p->area + h + width);
    if (!(p->table = cn_alloc_array(ctx, n, sizeof *p->table))) return CN_ENOMEM;
    p->at[0] = p->table;
    p->at[1] = p->at[0] + p->rows;
    p->at[2] = p->at[1] + p->columns;
    int64_t *y = p->at[2] + p->area, *x = y + h;
    cn_dnnl_places(w, 0, p->at[0]);
    cn_dnnl_places(w, 1, p->at[1]);
    cn_dnnl_places(w, 2, y);
    cn_dnnl_places(w, 3, x);
    for (int64_t k = 0; k < p->area; k++) p->at[2][k] = y[k / width] + x[k % width];
    return CN_OK;
}

static void convert(const cn_kernels *k, cn_dtype from, const void *src, cn_dtype to, void *dst,
                    int64_t n)
{
    if (from == to)
        memcpy(dst, src, cn_dtype_size(to, n));
    else
        k->convert_alone(from, src, to, dst, n);
}

static void convert_all(cn_ctx *ctx, cn_dtype from, const void *src, cn_dtype to, void *dst,
                        int64_t n)
{
    const cn_kernels *k = cn_cpu_kernels(cn_cpu_isa());
    const char *s = src;
    char *d = dst;
#pragma omp parallel for num_threads(cn_threads(ctx)) schedule(static) if (n > 4 * BLOCK)
    for (int64_t i = 0; i < n; i += BLOCK)
        convert(k, from, s + cn_dtype_size(from, i), to, d + cn_dtype_size(to, i),
                CN_MIN(BLOCK, n - i));
}

/* The tile's rows o .. o+rows and columns i .. i+columns, between `tile` and the layout, from
 * `base` on. */
typedef struct area {
    int64_t o, rows, i, columns, base;
    bool panel; /* of the layout alone, in the caches */
} area;

#define MOVE(type, to, from)                                                             \
    for (int64_t i = 0; i < t->columns; i++)                                             \
        for (int64_t k = 0; k < p->area; k++) {                                          \
            type *there = (type *)physical + p->at[1][t->i + i] + p->at[2][k] - t->base; \
            type *here = (type *)tile + i * p->area + k;                                 \
            const int64_t *at = p->at[0] + t->o;                                         \
            for (int64_t o = 0; o < t->rows; o++) to = from;                             \
        }

/* Whether the tile's rows are neighbours in the layout, one by one (1) or beside another column's
 * (2). */
static int step_of(const places *p, const area *t)
{
    const int64_t *at = p->at[0] + t->o, *column = p->at[1] + t->i, step = at[1] - at[0];
    for (int64_t o = 2; o < TILE_ROWS; o++)
        if (at[o] - at[o - 1] != step) return 0;
    if (step == 1) return 1;
    if (step != 2 || t->columns % 2) return 0;
    for (int64_t i = 0; i < t->columns; i += 2)
        if (column[i + 1] - column[i] != 1) return 0;
    return 2;
}

static bool scatter_whole(const places *p, size_t bytes, const area *t, const void *tile,
                          void *physical)
{
    const int step = t->rows == TILE_ROWS && p->area <= CN_REPACK_AREA ? step_of(p, t) : 0;
    if (!step) return false;
    p->k->repack(
        &(cn_repack){.bytes = bytes,
                     .rows = tile,
                     .stride = TILE_STRIDE,
                     .columns = t->columns,
                     .area = p->area,
                     .step = step,
                     .away = !t->panel,
                     .column = p->at[1] + t->i,
                     .position = p->at[2],
                     .to = (char *)physical + (p->at[0][t->o] - t->base) * (int64_t)bytes});
    return true;
}

static void scatter(const places *p, size_t bytes, const area *t, void *tile, void *physical)
{
    if (scatter_whole(p, bytes, t, tile, physical)) return;
    if (bytes == sizeof(uint16_t))
        MOVE(uint16_t, there[at[o]], here[o * TILE_STRIDE])
    else
        MOVE(float, there[at[o]], here[o * TILE_STRIDE])
}

static void gather(const places *p, size_t bytes, const area *t, void *tile, void *physical)
{
    if (bytes == sizeof(uint16_t))
        MOVE(uint16_t, here[o * TILE_STRIDE], there[at[o]])
    else
        MOVE(float, here[o * TILE_STRIDE], there[at[o]])
}

/* Rows o .. o+rows, at most TILE_ROWS, both ways: type `plain_type` in the published order, `type`
 * in the layout. */
static void move_rows(const places *p, bool put, cn_dtype plain_type, void *plain, cn_dtype type,
                      void *physical, area t)
{
    const size_t bytes = cn_dtype_bytes(type), plain_bytes = cn_dtype_bytes(plain_type);
    const int64_t most = TILE_ROW / p->area, step = most > TILE_ROWS ? most & ~(int64_t)7 : most;
    float tile[TILE];
    for (t.i = 0; t.i < p->columns; t.i += step) {
        t.columns = CN_MIN(step, p->columns - t.i);
        if (!put) gather(p, bytes, &t, tile, physical);
        for (int64_t o = 0; o < t.rows; o++) {
            const int64_t at = ((t.o + o) * p->columns + t.i) * p->area, n = t.columns * p->area;
            char *there = (char *)plain + (size_t)at * plain_bytes;
            char *here = (char *)tile + (size_t)(o * TILE_STRIDE) * bytes;
            if (put)
                convert(p->k, plain_type, there, type, here, n);
            else
                convert(p->k, type, here, plain_type, there, n);
        }
        if (put) scatter(p, bytes, &t, tile, physical);
    }
}

static void move(cn_ctx *ctx, const places *p, bool put, cn_dtype plain_type, void *plain,
                 cn_dtype type, void *physical)
{
#pragma omp parallel for num_threads(cn_threads(ctx)) schedule(static)
    for (int64_t o = 0; o < p->rows; o += TILE_ROWS)
        move_rows(p, put, plain_type, plain, type, physical,
                  (area){.o = o, .rows = CN_MIN(TILE_ROWS, p->rows - o)});
}

/* Rows of a panel: the fewest that fill one of equal parts of the layout's n elements, in whole
 * blocks of Q8; else all rows. */
static int64_t panel_rows(const places *p, int64_t n)
{
    for (int64_t rows = 1; rows < p->rows; rows++) {
        const int64_t panels = (p->rows + rows - 1) / rows, each = p->at[0][rows] - p->at[0][0];
        if (each * panels == n && each % CN_Q8_BLOCK == 0) return rows;
    }
    return p->rows;
}

static cn_status put_q8(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *plain,
                        void *physical)
{
    places p;
    CN_TRY(find_places(ctx, w, &p));
    const int64_t n = cn_param_physical(w), rows = panel_rows(&p, n);
    const int64_t panels = (p.rows + rows - 1) / rows, each = n / panels;
    const int threads = (int)CN_MIN((int64_t)cn_threads(ctx), panels);
    const bool padded = n > cn_param_elements(w);
    float *laid = cn_alloc_array(ctx, (size_t)(threads * each), sizeof *laid);
    if (laid) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t panel = 0; panel < panels; panel++) {
            float *values = laid + omp_get_thread_num() * each;
            const int64_t end = CN_MIN(p.rows, (panel + 1) * rows);
            if (padded) memset(values, 0, (size_t)each * sizeof *values);
            for (int64_t o = panel * rows; o < end; o += TILE_ROWS)
                move_rows(&p, true, from, (void *)(uintptr_t)plain, CN_F32, values,
                          (area){.o = o,
                                 .rows = CN_MIN(TILE_ROWS, end - o),
                                 .base = panel * each,
                                 .panel = true});
            p.k->convert_alone(CN_F32, values, CN_Q8,
                               (char *)physical + cn_dtype_size(CN_Q8, panel * each), each);
        }
    }
    cn_free(p.table);
    cn_free(laid);
    return laid ? CN_OK : CN_ENOMEM;
}

/* Of all of a tensor's floats. */
static cn_status put_from_q8(cn_ctx *ctx, const cn_param *w, const void *plain, cn_dtype to,
                             void *physical)
{
    const size_t elements = (size_t)cn_param_elements(w);
    float *values = cn_alloc_array(ctx, elements, sizeof *values);
    if (!values) return CN_ENOMEM;
    cn_to_f32(CN_Q8, plain, values, elements);
    const cn_status s = cn_layout_put(ctx, w, CN_F32, values, to, physical);
    cn_free(values);
    return s;
}

static cn_status get_by_floats(cn_ctx *ctx, const cn_param *w, const void *physical, float *plain)
{
    const size_t n = (size_t)cn_param_physical(w);
    float *laid = cn_alloc_array(ctx, n, sizeof *laid);
    if (!laid) return CN_ENOMEM;
    cn_to_f32(CN_Q8, physical, laid, n);
    const cn_status s = cn_layout_get(ctx, w, CN_F32, laid, plain);
    cn_free(laid);
    return s;
}

cn_status cn_layout_put(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *plain,
                        cn_dtype to, void *physical)
{
    places p;
    if (from == CN_Q8) return put_from_q8(ctx, w, plain, to, physical);
    if (to == CN_Q8 && !cn_dnnl_is_plain(w)) return put_q8(ctx, w, from, plain, physical);
    if (cn_dnnl_is_plain(w)) {
        convert_all(ctx, from, plain, to, physical, cn_param_elements(w));
        return CN_OK;
    }
    CN_TRY(find_places(ctx, w, &p));
    int64_t n = cn_param_physical(w);
    if (n > cn_param_elements(w)) memset(physical, 0, (size_t)n * cn_dtype_bytes(to));
    move(ctx, &p, true, from, (void *)(uintptr_t)plain, to, physical);
    cn_free(p.table);
    return CN_OK;
}

cn_status cn_layout_get(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *physical,
                        float *plain)
{
    places p;
    if (from == CN_Q8) return get_by_floats(ctx, w, physical, plain);
    if (cn_dnnl_is_plain(w)) {
        convert_all(ctx, from, physical, CN_F32, plain, cn_param_elements(w));
        return CN_OK;
    }
    CN_TRY(find_places(ctx, w, &p));
    move(ctx, &p, false, CN_F32, plain, from, (void *)(uintptr_t)physical);
    cn_free(p.table);
    return CN_OK;
}
