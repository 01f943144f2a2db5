/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bf16.c - softmax(q k^T scale) v on bfloat16, sums in float.
 *
 * A tile of queries passes over the keys block by block, with a sum per query of weights relative
 * to 2^top. Any top will do that neither lets weights overflow nor all of them vanish; 0 does
 * nearly always. So weights are made from scores while these are in registers, and only where a sum
 * shows that top was a bad guess, or with AMX or causality, a block's scores are written and their
 * largest is found first.
 */
#include "cpu/kernels/bf16/attention_bf16_internal.h"

#include <math.h>
#include <omp.h>

/* Queries of a tile; keys of a block. */
enum { TQ = 64, TK = 96, VECTORS = TQ / 16 };

/* A worker's room: q in pairs, scores [TK][TQ], weights in pairs of keys, result [D][TQ]. */
typedef struct forward_room {
    uint16_t *q, *p;
    float *s, *o, *top, *total, *fade;
} forward_room;

static forward_room forward_room_of(char *start, const sizes *s, size_t *bytes)
{
    forward_room r;
    char *at = start;
    r.q = take(&at, (size_t)(TQ * s->D_in) * 2);
    r.s = take(&at, (size_t)TQ * TK * 4);
    r.p = take(&at, (size_t)TQ * TK * 2);
    r.o = take(&at, (size_t)(s->D_rows * TQ) * 4);
    r.top = take(&at, 3 * TQ * 4);
    r.total = r.top + TQ;
    r.fade = r.total + TQ;
    *bytes = (size_t)(at - start);
    return r;
}

/* Of a head: keys as left operand, then values transposed, block by block. */
static sizes forward_sizes(const cn_attention_args *a)
{
    sizes s = common_sizes(a, TK);
    s.head_bytes = align64((size_t)(s.blocks * TK * (s.D_in + s.D_rows)) * 2);
    forward_room_of(NULL, &s, &s.worker_bytes);
    return s;
}

/* A tile of one head's queries, from q0 on, and of which the keys are. */
typedef struct tile {
    int64_t q0, rows;
    const uint16_t *q, *keys;
    uint16_t *y;
    float *lse; /* or NULL */
} tile;

/* A block of keys for the queries of one tile. */
typedef struct block {
    int64_t q0, k0, keys, keys_up;
    bool causal;
    float factor;
    const tile *next; /* whose rows are prefetched meanwhile, or NULL */
} block;

/* Of 16 queries from q0, those that see this key. */
static inline __mmask16 seen_by(bool causal, int64_t q0, int64_t key)
{
    const int64_t hidden = causal ? key - q0 : 0;
    return (__mmask16)(hidden <= 0 ? 0xffff : hidden >= 16 ? 0 : 0xffffu << hidden);
}

/* Scores of `vectors` times 16 queries from i to weights 2^(s factor - top) in pairs of keys; fade:
 * what the sums of before count now. */
static inline __attribute__((always_inline)) void weigh(const block *b, const forward_room *r,
                                                        bool causal, int64_t i, int vectors)
{
    const __m512 factor = _mm512_set1_ps(b->factor), zero = _mm512_setzero_ps();
    __m512 top[VECTORS], sum[VECTORS];
    for (int v = 0; v < vectors; v++) top[v] = _mm512_set1_ps(-INFINITY);
    for (int64_t j = 0; j < b->keys; j++)
        for (int v = 0; v < vectors; v++)
            top[v] = _mm512_mask_max_ps(top[v], seen_by(causal, b->q0 + i + 16 * v, b->k0 + j),
                                        top[v], _mm512_loadu_ps(r->s + j * TQ + i + 16 * v));
    for (int v = 0; v < vectors; v++) {
        const __m512 before = _mm512_loadu_ps(r->top + i + 16 * v);
        top[v] = _mm512_max_ps(before, _mm512_mul_ps(top[v], factor));
        const __m512 fade = power_of_two(_mm512_sub_ps(before, top[v]));
        _mm512_storeu_ps(r->top + i + 16 * v, top[v]);
        _mm512_storeu_ps(r->fade + i + 16 * v, fade);
        sum[v] = _mm512_mul_ps(_mm512_loadu_ps(r->total + i + 16 * v), fade);
    }
    for (int64_t j = 0; j < b->keys_up; j += 2)
        for (int v = 0; v < vectors; v++) {
            const float *s = r->s + j * TQ + i + 16 * v;
            __m512 e[2] = {zero, zero};
            for (int h = 0; h < 2 && j + h < b->keys; h++)
                e[h] = _mm512_maskz_mov_ps(
                    seen_by(causal, b->q0 + i + 16 * v, b->k0 + j + h),
                    power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(s + h * TQ), factor, top[v])));
            sum[v] = _mm512_add_ps(sum[v], _mm512_add_ps(e[0], e[1]));
            _mm512_storeu_si512(r->p + j * TQ + 2 * (i + 16 * v),
                                side_by_side((__m512i)_mm512_cvtne2ps_pbh(e[1], e[0])));
        }
    for (int v = 0; v < vectors; v++) _mm512_storeu_ps(r->total + i + 16 * v, sum[v]);
}

static void fade_sums(const forward_room *r, int64_t D, int64_t lanes)
{
    for (int64_t i = 0; i < lanes; i += 16) {
        const __m512 fade = _mm512_loadu_ps(r->fade + i);
        if (_mm512_cmpneq_ps_mask(fade, _mm512_set1_ps(1)) == 0) continue;
        for (int64_t d = 0; d < D; d++)
            _mm512_storeu_ps(r->o + d * TQ + i,
                             _mm512_mul_ps(_mm512_loadu_ps(r->o + d * TQ + i), fade));
    }
}

/* Weights of `rows` keys for 16 times `vectors` queries, in pairs of keys, from keys as left
 * operand and queries as right one. */
static inline __attribute__((always_inline)) void weigh_rows(int rows, int vectors, int64_t depth,
                                                             const uint16_t *k, const uint16_t *q,
                                                             float factor, const float *top,
                                                             float *total, uint16_t *p)
{
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    __m512 s[SUM_ROWS][SUM_VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) s[r][v] = _mm512_setzero_ps();
    add_products(rows, vectors, false, depth, k, depth, q, TQ, s);
    const power_table *c = powers();
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const __m512 from = _mm512_loadu_ps(top + 16 * v), by = _mm512_set1_ps(factor);
        __m512 sum = _mm512_loadu_ps(total + 16 * v);
#pragma GCC unroll 3
        for (int r = 0; r < rows; r += 2) {
            const __m512i first = power_cut(c, _mm512_fmsub_ps(s[r][v], by, from));
            const __m512i second = r + 1 < rows
                                       ? power_cut(c, _mm512_fmsub_ps(s[r + 1][v], by, from))
                                       : _mm512_setzero_si512();
            const __m512i both = upper_halves(second, first);
            sum = _mm512_dpbf16_ps(sum, (__m512bh)both, ones);
            _mm512_storeu_si512(p + r * TQ + 32 * v, both);
        }
        _mm512_storeu_ps(total + 16 * v, sum);
    }
}

/* The share of keys j to `end` of a block in asking for the tile behind this one. */
static void prefetch_tile(const block *b, const sizes *s, int64_t j, int64_t end)
{
    const size_t row_bytes = (size_t)s->D * sizeof *b->next->q;
    const int64_t rows = b->next ? b->next->rows : 0;
    for (int64_t i = rows * j / b->keys; i < rows * end / b->keys; i++) {
        prefetch_row(b->next->q + i * s->W, row_bytes);
        prefetch_row(b->next->y + i * s->W, row_bytes);
    }
}

static inline __attribute__((always_inline)) void weigh_columns(const block *b, const sizes *s,
                                                                int vectors, const uint16_t *k,
                                                                int64_t i, const forward_room *r)
{
    const uint16_t *q = r->q + 2 * i;
    const float *top = r->top + i;
    float *total = r->total + i;
    uint16_t *p = r->p + 2 * i;
    const int64_t depth = s->D_in;
    int64_t j = 0;
    for (; j + SUM_ROWS <= b->keys; j += SUM_ROWS) {
        prefetch_tile(b, s, j, j + SUM_ROWS);
        weigh_rows(SUM_ROWS, vectors, depth, k + j * depth, q, b->factor, top, total, p + j * TQ);
    }
    prefetch_tile(b, s, j, b->keys);
    k += j * depth;
    p += j * TQ;
    switch (b->keys - j) {
    case 5: weigh_rows(5, vectors, depth, k, q, b->factor, top, total, p); break;
    case 4: weigh_rows(4, vectors, depth, k, q, b->factor, top, total, p); break;
    case 3: weigh_rows(3, vectors, depth, k, q, b->factor, top, total, p); break;
    case 2: weigh_rows(2, vectors, depth, k, q, b->factor, top, total, p); break;
    case 1: weigh_rows(1, vectors, depth, k, q, b->factor, top, total, p); break;
    default: break;
    }
}

/* Weights relative to the top that is there; false, and sums as before, where it isn't one to go on
 * with. */
static bool weigh_at_once(const block *b, const sizes *s, const uint16_t *k, int64_t lanes,
                          const forward_room *r)
{
    const __m512 least = _mm512_set1_ps(0x1p-60f), most = _mm512_set1_ps(0x1p60f);
    memcpy(r->fade, r->total, (size_t)lanes * sizeof *r->total);
    int64_t i = 0;
    for (; i + TQ <= lanes; i += TQ) weigh_columns(b, s, VECTORS, k, i, r);
    for (; i < lanes; i += 16) weigh_columns(b, s, 1, k, i, r);
    bool good = true;
    for (i = 0; i < lanes; i += 16) {
        const __m512 sum = _mm512_loadu_ps(r->total + i);
        good = good && _mm512_cmple_ps_mask(least, sum) == 0xffff &&
               _mm512_cmple_ps_mask(sum, most) == 0xffff;
    }
    if (!good) memcpy(r->total, r->fade, (size_t)lanes * sizeof *r->total);
    return good;
}

/* A tile of queries over all keys. */
static void forward_tile(const cn_attention_args *a, const sizes *s, const tile *t,
                         const tile *next, const forward_room *r)
{
    const uint16_t *values = t->keys + s->blocks * TK * s->D_in;
    const int64_t lanes = up(t->rows, 16);
    const int64_t end = a->causal ? CN_MIN(a->M, t->q0 + t->rows) : a->M;
    const cn_rows q = {t->q, s->W, t->rows, a->D};
    pack_right_transposed(&q, TQ, s->D_in, r->q);
    for (int64_t i = 0; i < lanes; i++) r->top[i] = r->total[i] = 0;
    for (int64_t k0 = 0; k0 < end; k0 += TK) {
        const int64_t n = CN_MIN((int64_t)TK, end - k0);
        const uint16_t *keys = t->keys + k0 * s->D_in;
        const block b = {.q0 = t->q0,
                         .k0 = k0,
                         .keys = n,
                         .keys_up = up(n, s->unit),
                         .causal = a->causal,
                         .factor = a->scale * LOG2E_STEPS,
                         .next = k0 + TK < end ? NULL : next};
        if (a->amx || a->causal || !weigh_at_once(&b, s, keys, lanes, r)) {
            for (int64_t i = 0; k0 == 0 && i < lanes; i++) r->top[i] = -INFINITY;
            cn_tiles_product(a->amx, b.keys_up, lanes, s->D_in, keys, s->D_in, r->q, TQ, r->s, TQ,
                             false);
            if (lanes == TQ && !a->causal)
                weigh(&b, r, false, 0, VECTORS);
            else
                for (int64_t i = 0; i < lanes; i += 16) weigh(&b, r, a->causal, i, 1);
            if (k0 > 0) fade_sums(r, s->D_rows, lanes);
        }
        cn_tiles_product(a->amx, s->D_rows, lanes, b.keys_up, values + k0 * s->D_rows, TK, r->p, TQ,
                         r->o, TQ, k0 > 0);
    }
    for (int64_t i = 0; i < lanes; i += 16) {
        const __m512 total = _mm512_loadu_ps(r->total + i), top = _mm512_loadu_ps(r->top + i);
        const __m512 low = _mm512_fmadd_ps(top, _mm512_set1_ps(STEP), log_of_two(total));
        if (t->lse)
            _mm512_mask_storeu_ps(t->lse + i, first16(t->rows - i),
                                  _mm512_mul_ps(low, _mm512_set1_ps(LN2)));
        _mm512_storeu_ps(r->total + i, _mm512_div_ps(_mm512_set1_ps(1), total));
    }
    store_transposed(r->o, TQ, r->total, 1, t->rows, a->D, t->y, s->W);
}

/* Where a head's packed keys are, its values behind them. */
static uint16_t *keys_of(const cn_attention_args *a, const sizes *s, int64_t h)
{
    return (uint16_t *)(void *)(a->scratch + (size_t)h * s->head_bytes);
}

static void pack_head(const cn_attention_args *a, const sizes *s, int64_t h)
{
    uint16_t *keys = keys_of(a, s, h);
    uint16_t *values = keys + s->blocks * TK * s->D_in;
    const cn_rows k = rows_from(head_at(a->k, a, h, a->M), a, 0, a->M, a->M);
    pack_left(&k, up(a->M, s->unit), s->D_in, keys);
    for (int64_t k0 = 0; k0 < a->M; k0 += TK) {
        const cn_rows v = rows_from(head_at(a->v, a, h, a->M), a, k0, a->M, TK);
        pack_left_transposed(&v, s->D_rows, TK, values + k0 * s->D_rows);
    }
}

static tile tile_at(const cn_attention_args *a, const sizes *s, int64_t t)
{
    const int64_t tiles = (a->L + TQ - 1) / TQ, h = t / tiles, q0 = t % tiles * TQ;
    return (tile){.q0 = q0,
                  .rows = CN_MIN((int64_t)TQ, a->L - q0),
                  .q = head_at(a->q, a, h, a->L) + q0 * s->W,
                  .keys = keys_of(a, s, h),
                  .y = head_at(a->y, a, h, a->L) + q0 * s->W,
                  .lse = a->lse ? a->lse + h * a->L + q0 : NULL};
}

size_t cn_attention16_scratch_bytes(const cn_attention_args *a)
{
    const sizes s = forward_sizes(a);
    return (size_t)s.heads * s.head_bytes + (size_t)a->threads * s.worker_bytes;
}

void cn_attention16(const cn_attention_args *a)
{
    const sizes s = forward_sizes(a);
    const int64_t tiles = s.heads * ((a->L + TQ - 1) / TQ);
    char *workers = a->scratch + (size_t)s.heads * s.head_bytes;
#pragma omp parallel
    {
        cn_tiles state;
        size_t bytes;
        cn_tiles_begin(a->amx, &state);
        const forward_room r =
            forward_room_of(workers + (size_t)omp_get_thread_num() * s.worker_bytes, &s, &bytes);
#pragma omp for schedule(static)
        for (int64_t h = 0; h < s.heads; h++) pack_head(a, &s, h);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < tiles; i++) {
            /* workers take tiles in turn, more or less */
            const tile t = tile_at(a, &s, i),
                       next = tile_at(a, &s, CN_MIN(i + a->threads, tiles - 1));
            forward_tile(a, &s, &t, &next, &r);
        }
        cn_tiles_end(a->amx, &state);
    }
}
