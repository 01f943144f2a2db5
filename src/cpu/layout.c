/* layout.c - see layout.h.
 *
 * A blocked layout places the element (o,i,y,x) at the sum of one offset per dimension, so a table for each says
 * where everything goes. Tiles of rows o and columns i are moved so that the lines they share in the layout stay
 * in the cache; nothing but one tile's row is ever held in between.
 */
#include "cpu/layout.h"

#include "cpu/onednn.h"

#include <omp.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE = 4096 /* elements of a row at a time */ };

/* at[0] and at[1] of rows and columns, at[2] of the kernel's positions. */
typedef struct places {
    int64_t rows, columns, area;
    int64_t *at[3];
    int64_t *table;
} places;

static cn_status find_places(cn_ctx *ctx, const cn_param *w, places *p)
{
    int64_t h = w->shape[2], width = w->shape[3];
    *p = (places){.rows = w->shape[0], .columns = w->shape[1], .area = h * width};
    if (p->area > TILE)
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

static void convert(cn_dtype from, const void *src, cn_dtype to, void *dst, int64_t n)
{
    float values[TILE];
    if (from == to) {
        memcpy(dst, src, (size_t)n * cn_dtype_bytes(to));
    } else if (to == CN_F32) {
        cn_to_f32(from, src, dst, (size_t)n);
    } else {
        cn_to_f32(from, src, values, (size_t)n); /* floats in a file may be unaligned */
        cn_from_f32(to, values, dst, (size_t)n);
    }
}

static void convert_all(cn_ctx *ctx, cn_dtype from, const void *src, cn_dtype to, void *dst,
                        int64_t n)
{
    const char *s = src;
    char *d = dst;
    size_t in = cn_dtype_bytes(from), out = cn_dtype_bytes(to);
#pragma omp parallel for num_threads(cn_threads(ctx)) schedule(static) if (n > 4 * TILE)
    for (int64_t i = 0; i < n; i += TILE)
        convert(from, s + (size_t)i * in, to, d + (size_t)i * out, CN_MIN(TILE, n - i));
}

/* One row's columns first .. first+n, between `tile` and the layout. */
#define MOVE(type, to, from)                                                          \
    for (int64_t i = 0; i < n; i++)                                                   \
        for (int64_t k = 0; k < p->area; k++) {                                       \
            type *there = (type *)physical + row + p->at[1][first + i] + p->at[2][k]; \
            type *here = (type *)tile + i * p->area + k;                              \
            *(to) = *(from);                                                          \
        }

static void scatter(const places *p, size_t bytes, void *tile, int64_t row, int64_t first,
                    int64_t n, void *physical)
{
    if (bytes == sizeof(uint16_t))
        MOVE(uint16_t, there, here)
    else
        MOVE(float, there, here)
}

static void gather(const places *p, size_t bytes, void *tile, int64_t row, int64_t first, int64_t n,
                   void *physical)
{
    if (bytes == sizeof(uint16_t))
        MOVE(uint16_t, here, there)
    else
        MOVE(float, here, there)
}

/* Both ways: type `plain_type` in the published order, `type` in the layout. */
static void move(cn_ctx *ctx, const places *p, bool put, cn_dtype plain_type, void *plain,
                 cn_dtype type, void *physical)
{
    const size_t bytes = cn_dtype_bytes(type), plain_bytes = cn_dtype_bytes(plain_type);
    const int64_t step = TILE / p->area;
#pragma omp parallel for num_threads(cn_threads(ctx)) schedule(static)
    for (int64_t block = 0; block < p->rows; block += TILE_ROWS) {
        float tile[TILE];
        for (int64_t i = 0; i < p->columns; i += step)
            for (int64_t o = block; o < CN_MIN(p->rows, block + TILE_ROWS); o++) {
                int64_t n = CN_MIN(step, p->columns - i);
                char *row = (char *)plain + (size_t)((o * p->columns + i) * p->area) * plain_bytes;
                if (put) {
                    convert(plain_type, row, type, tile, n * p->area);
                    scatter(p, bytes, tile, p->at[0][o], i, n, physical);
                } else {
                    gather(p, bytes, tile, p->at[0][o], i, n, physical);
                    convert(type, tile, plain_type, row, n * p->area);
                }
            }
    }
}

/* Blocks of Q8 run through the layout's order, so they are made of, and give, all of a tensor's floats. */
static cn_status put_by_floats(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *plain,
                               cn_dtype to, void *physical)
{
    const size_t elements = (size_t)cn_param_elements(w);
    const size_t n = w->layout ? (size_t)cn_dnnl_physical(w) : elements;
    float *values = NULL, *laid = NULL;
    cn_status s = CN_OK;
    if (from == CN_Q8) {
        if (!(values = cn_alloc_array(ctx, elements, sizeof *values))) return CN_ENOMEM;
        cn_to_f32(from, plain, values, elements);
        plain = values;
        from = CN_F32;
    }
    if (to == CN_Q8 && !(laid = cn_alloc_array(ctx, n, sizeof *laid))) s = CN_ENOMEM;
    if (s == CN_OK)
        s = cn_layout_put(ctx, w, from, plain, laid ? CN_F32 : to, laid ? laid : physical);
    if (s == CN_OK && laid) cn_from_f32(to, laid, physical, n);
    cn_free(values);
    cn_free(laid);
    return s;
}

static cn_status get_by_floats(cn_ctx *ctx, const cn_param *w, const void *physical, float *plain)
{
    const size_t n = (size_t)(w->layout ? cn_dnnl_physical(w) : cn_param_elements(w));
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
    if (from == CN_Q8 || to == CN_Q8) return put_by_floats(ctx, w, from, plain, to, physical);
    if (!w->layout) {
        convert_all(ctx, from, plain, to, physical, cn_param_elements(w));
        return CN_OK;
    }
    CN_TRY(find_places(ctx, w, &p));
    int64_t n = cn_dnnl_physical(w);
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
    if (!w->layout) {
        convert_all(ctx, from, physical, CN_F32, plain, cn_param_elements(w));
        return CN_OK;
    }
    CN_TRY(find_places(ctx, w, &p));
    move(ctx, &p, false, CN_F32, plain, from, (void *)(uintptr_t)physical);
    cn_free(p.table);
    return CN_OK;
}
