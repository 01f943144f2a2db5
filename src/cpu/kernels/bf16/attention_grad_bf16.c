/* SPDX-License-Identifier: Apache-2.0 */
/* attention_grad_bf16.c - the gradient of softmax(q k^T scale) v on bfloat16, sums in float. */
#include "cpu/kernels/bf16/attention_bf16_internal.h"

#include <omp.h>

/* Queries of a tile; keys of a block. */
enum { GQ = 128, TK = 128 };

/* A block of keys for the queries of one tile. `up`: as they are multiplied. */
typedef struct block {
    int64_t q0, k0, rows, rows_up, keys, keys_up, depth;
    bool causal, amx;
    float factor;
    const uint16_t *q, *dy; /* left operands, `stride` apart */
    int64_t stride;
    int64_t next;      /* where the next block begins */
    int64_t next_rows; /* in the last block: of the next tile */
} block;

/* A worker's room. Per head: k and v transposed in pairs, k in pairs of keys, dk and dv transposed;
 * per tile of queries: q and dy as left operands, transposed and not, and blocks [GQ][TK]. */
typedef struct grad_room {
    uint16_t *kt, *vt, *k, *q, *dy, *qt, *dyt, *p, *ds, *ds_rows;
    float *dk, *dv, *s, *dp, *dq, *low, *dot;
} grad_room;

static size_t transposed_floats(const sizes *s)
{
    return (size_t)(s->blocks * TK * s->D_rows);
}

static grad_room grad_room_of(char *start, const sizes *s, size_t *bytes)
{
    const int64_t keys = s->blocks * TK;
    grad_room r;
    char *at = start;
    r.kt = take(&at, (size_t)(keys * s->D_in) * 2);
    r.vt = take(&at, (size_t)(keys * s->D_in) * 2);
    r.k = take(&at, (size_t)(keys * s->D_lanes + PACK_MORE) * 2);
    r.dk = take(&at, transposed_floats(s) * 4);
    r.dv = take(&at, transposed_floats(s) * 4);
    r.q = take(&at, (size_t)(GQ * s->D_in) * 2);
    r.dy = take(&at, (size_t)(GQ * s->D_in) * 2);
    r.qt = take(&at, (size_t)(s->D_rows * GQ) * 2);
    r.dyt = take(&at, (size_t)(s->D_rows * GQ) * 2);
    r.p = take(&at, (size_t)GQ * TK * 2);
    r.ds = take(&at, (size_t)GQ * TK * 2);
    r.ds_rows = take(&at, (size_t)GQ * TK * 2);
    r.s = take(&at, s->amx ? (size_t)GQ * TK * 4 : 0);
    r.dp = take(&at, s->amx ? (size_t)GQ * TK * 4 : 0);
    r.dq = take(&at, (size_t)(GQ * s->D_lanes) * 4);
    r.low = take(&at, GQ * 4);
    r.dot = take(&at, GQ * 4);
    *bytes = (size_t)(at - start);
    return r;
}

static sizes grad_sizes(const cn_attention_args *a)
{
    sizes s = common_sizes(a, TK);
    grad_room_of(NULL, &s, &s.worker_bytes);
    return s;
}

/* Copies of dk and dv per head and part, where heads have parts. */
static size_t copies_bytes(const sizes *s, int64_t parts)
{
    return parts > 1 ? align64((size_t)(s->heads * parts * 2) * transposed_floats(s) * 4) : 0;
}

size_t cn_attention16_grad_scratch_bytes(const cn_attention_args *a)
{
    const sizes s = grad_sizes(a);
    return copies_bytes(&s, head_parts(s.heads, (a->L + GQ - 1) / GQ, a->threads)) +
           (size_t)a->threads * s.worker_bytes;
}

typedef struct head_job {
    const uint16_t *q, *k, *v, *y, *dy;
    const float *lse;
    uint16_t *dq;
    float *dk, *dv; /* sums, NULL where nobody wants them */
} head_job;

/* The share of step i of `steps` in asking for the block of keys from k0 on. */
static void prefetch_block(const sizes *s, const head_job *j, int64_t k0, int64_t i, int64_t steps,
                           const grad_room *r)
{
    prefetch_share(r->kt + k0 * s->D_in, TK * s->D_in / 2, i, steps);
    prefetch_share(r->vt + k0 * s->D_in, TK * s->D_in / 2, i, steps);
    prefetch_share(r->k + k0 * s->D_lanes, TK * s->D_lanes / 2, i, steps);
    if (j->dk) prefetch_share(j->dk + k0 * s->D_rows, TK * s->D_rows, i, steps);
    if (j->dv) prefetch_share(j->dv + k0 * s->D_rows, TK * s->D_rows, i, steps);
}

/* The same of the tile behind this one. */
static void prefetch_tile(const sizes *s, const head_job *j, const block *b, int64_t i,
                          int64_t steps)
{
    const size_t row_bytes = (size_t)s->D * sizeof *j->q;
    for (int64_t r = b->next_rows * i / steps; r < b->next_rows * (i + 1) / steps; r++) {
        const int64_t at = (b->q0 + GQ + r) * s->W;
        prefetch_row(j->q + at, row_bytes);
        prefetch_row(j->dy + at, row_bytes);
        prefetch_row(j->y + at, row_bytes);
        if (j->dq) prefetch_row(j->dq + at, row_bytes);
    }
}

/* A few rows' products with the block's keys or values: those that AMX has made, or made here. */
static inline __attribute__((always_inline)) void products(int rows, int vectors, const float *made,
                                                           int64_t depth, const uint16_t *left,
                                                           int64_t stride, const uint16_t *right,
                                                           __m512 sum[SUM_ROWS][SUM_VECTORS])
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = made ? _mm512_loadu_ps(made + r * TK + 16 * v) : _mm512_setzero_ps();
    if (!made) add_products(rows, vectors, false, depth, left, stride, right, TK, sum);
}

/* Of query i the block's keys that it sees. */
static inline int64_t seen_by(const block *b, int64_t i)
{
    if (i >= b->rows) return 0;
    return b->causal ? CN_MIN(b->keys, b->q0 + i + 1 - b->k0) : b->keys;
}

/* p and ds of an even number of queries from i and 16 times `vectors` keys from j: in pairs of
 * queries, ds in rows too. */
static inline __attribute__((always_inline)) void grad_rows(int rows, int vectors, const block *b,
                                                            const head_job *job, int64_t i,
                                                            int64_t j, const grad_room *r)
{
    __m512 s[SUM_ROWS][SUM_VECTORS], dp[SUM_ROWS][SUM_VECTORS];
    const int64_t at = i * TK + j, row = i * b->stride;
    const uint16_t *kt = r->kt + b->k0 * b->depth + 2 * j, *vt = r->vt + b->k0 * b->depth + 2 * j;
    products(rows, vectors, b->amx ? r->s + at : NULL, b->depth, b->q + row, b->stride, kt, s);
    products(rows, vectors, b->amx ? r->dp + at : NULL, b->depth, b->dy + row, b->stride, vt, dp);
    const power_table *c = powers();
    const __m512i half = _mm512_set1_epi32(HALF);
    const __m512 factor = _mm512_set1_ps(b->factor);
#pragma GCC unroll 3
    for (int g = 0; g < rows; g += 2) {
        __m512i p[2][2], ds[2][2];
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m512 low = _mm512_set1_ps(r->low[i + g + h]);
            const __m512 dot = _mm512_set1_ps(r->dot[i + g + h]);
            const int64_t seen = seen_by(b, i + g + h) - j;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                const __m512i e = _mm512_maskz_mov_epi32(
                    first16(seen - 16 * v),
                    power_bits(c, _mm512_fmsub_ps(s[g + h][v], factor, low)));
                p[h][v] = _mm512_add_epi32(e, half);
                ds[h][v] = _mm512_add_epi32(
                    (__m512i)_mm512_mul_ps((__m512)e, _mm512_sub_ps(dp[g + h][v], dot)), half);
            }
        }
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const int64_t pair = at + g * TK + 32 * v;
            if (job->dv) _mm512_storeu_si512(r->p + pair + j, upper_halves(p[1][v], p[0][v]));
            if (job->dk) _mm512_storeu_si512(r->ds + pair + j, upper_halves(ds[1][v], ds[0][v]));
        }
        if (!job->dq) continue;
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            uint16_t *to = r->ds_rows + at + (g + h) * TK;
            if (vectors == 2)
                _mm512_storeu_si512(to, upper_halves_behind(ds[h][1], ds[h][0]));
            else
                _mm256_storeu_si256((__m256i *)(void *)to,
                                    _mm512_cvtepi32_epi16(_mm512_srli_epi32(ds[h][0], 16)));
        }
    }
}

/* The same of all queries. */
static inline __attribute__((always_inline)) void grad_columns(int vectors, const block *b,
                                                               const sizes *s, const head_job *job,
                                                               int64_t j, const grad_room *r)
{
    const int64_t steps = (b->rows_up + SUM_ROWS - 1) / SUM_ROWS;
    for (int64_t i = 0; i < b->rows_up; i += SUM_ROWS) {
        const int64_t step = j / 32 * steps + i / SUM_ROWS, all = (b->keys_up + 31) / 32 * steps;
        if (s->blocks > 1) prefetch_block(s, job, b->next, step, all, r);
        prefetch_tile(s, job, b, step, all);
        switch (CN_MIN(b->rows_up - i, (int64_t)SUM_ROWS)) {
        case 2: grad_rows(2, vectors, b, job, i, j, r); break;
        case 4: grad_rows(4, vectors, b, job, i, j, r); break;
        default: grad_rows(SUM_ROWS, vectors, b, job, i, j, r);
        }
    }
}

static void grad_block(const block *b, const sizes *s, const head_job *job, const grad_room *r)
{
    if (b->amx) {
        cn_tiles_product(true, b->rows_up, b->keys_up, b->depth, b->q, b->stride,
                         r->kt + b->k0 * b->depth, TK, r->s, TK, false);
        cn_tiles_product(true, b->rows_up, b->keys_up, b->depth, b->dy, b->stride,
                         r->vt + b->k0 * b->depth, TK, r->dp, TK, false);
    }
    int64_t j = 0;
    for (; j + 32 <= b->keys_up; j += 32) grad_columns(2, b, s, job, j, r);
    if (j < b->keys_up) grad_columns(1, b, s, job, j, r);
}

static float dot(const uint16_t *a, const uint16_t *b, int64_t n)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 32) {
        const __mmask32 m = first32(n - i);
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(m, a + i),
                               (__m512bh)_mm512_maskz_loadu_epi16(m, b + i));
    }
    return _mm512_reduce_add_ps(sum);
}

/* What a tile of queries is to all blocks of keys. */
static block take_queries(const cn_attention_args *a, const sizes *s, const head_job *j, int64_t q0,
                          const grad_room *r)
{
    const cn_rows q = rows_from(j->q, a, q0, a->L, GQ), dy = rows_from(j->dy, a, q0, a->L, GQ);
    const int64_t rows_up = up(q.count, s->unit);
    const bool in_place = !a->amx && s->D_in == a->D && rows_up == q.count;
    if (!in_place) {
        pack_left(&q, rows_up, s->D_in, r->q);
        pack_left(&dy, rows_up, s->D_in, r->dy);
    }
    if (j->dk) pack_left_transposed(&q, s->D_rows, GQ, r->qt);
    if (j->dv) pack_left_transposed(&dy, s->D_rows, GQ, r->dyt);
    for (int64_t i = 0; i < rows_up; i++) {
        const bool there = i < q.count;
        r->dot[i] = there ? dot(dy.x + i * s->W, j->y + (q0 + i) * s->W, a->D) : 0;
        r->low[i] = there ? j->lse[q0 + i] * LOG2E_STEPS : 0;
    }
    return (block){.q0 = q0,
                   .rows = q.count,
                   .rows_up = rows_up,
                   .depth = s->D_in,
                   .causal = a->causal,
                   .amx = a->amx,
                   .factor = a->scale * LOG2E_STEPS,
                   .q = in_place ? q.x : r->q,
                   .dy = in_place ? dy.x : r->dy,
                   .stride = in_place ? s->W : s->D_in};
}

static void grad_queries(const cn_attention_args *a, const sizes *s, const head_job *j, int64_t q0,
                         const grad_room *r)
{
    block b = take_queries(a, s, j, q0, r);
    const int64_t rows = b.rows, rows_up = b.rows_up;
    const int64_t end = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    for (int64_t k0 = 0; k0 < end; k0 += TK) {
        const int64_t keys = CN_MIN((int64_t)TK, end - k0), n = up(keys, CN_MAX(16, s->unit));
        const bool last = k0 + TK >= end;
        b.k0 = k0;
        b.keys = keys;
        b.keys_up = n;
        b.next = last ? 0 : k0 + TK;
        b.next_rows = last ? CN_MIN((int64_t)GQ, a->L - q0 - rows) : 0;
        grad_block(&b, s, j, r);
        if (j->dv)
            cn_tiles_product(a->amx, s->D_rows, n, rows_up, r->dyt, GQ, r->p, TK,
                             j->dv + k0 * s->D_rows, TK, true);
        if (j->dk)
            cn_tiles_product(a->amx, s->D_rows, n, rows_up, r->qt, GQ, r->ds, TK,
                             j->dk + k0 * s->D_rows, TK, true);
        if (j->dq)
            cn_tiles_product(a->amx, rows_up, s->D_lanes, n, r->ds_rows, TK, r->k + k0 * s->D_lanes,
                             s->D_lanes, r->dq, s->D_lanes, k0 > 0);
    }
    for (int64_t i = 0; j->dq && i < rows; i++)
        narrow_row(r->dq + i * s->D_lanes, a->D, a->scale, j->dq + (q0 + i) * s->W);
}

static void grad_head(const cn_attention_args *a, const sizes *s, const head_job *j, int64_t first,
                      int64_t end, const grad_room *r)
{
    for (int64_t k0 = 0; k0 < a->M; k0 += TK) {
        const cn_rows k = rows_from(j->k, a, k0, a->M, TK), v = rows_from(j->v, a, k0, a->M, TK);
        pack_right_transposed(&k, TK, s->D_in, r->kt + k0 * s->D_in);
        pack_right_transposed(&v, TK, s->D_in, r->vt + k0 * s->D_in);
        pack_right(&k, up(k.count, 32), s->D_lanes, r->k + k0 * s->D_lanes);
    }
    if (j->dk) memset(j->dk, 0, transposed_floats(s) * sizeof *j->dk);
    if (j->dv) memset(j->dv, 0, transposed_floats(s) * sizeof *j->dv);
    for (int64_t i = first; i < end; i++) grad_queries(a, s, j, i * GQ, r);
}

/* A head's dk or dv, from its transposed sums, to `out` on. */
static void store_transposed_sums(const cn_attention_args *a, const float *sums, int64_t D_rows,
                                  float scale, uint16_t *out)
{
    const int64_t W = a->heads * a->D;
    for (int64_t k0 = 0; k0 < a->M && out; k0 += TK)
        store_transposed(sums + k0 * D_rows, TK, NULL, scale, CN_MIN(TK, a->M - k0), a->D,
                         out + k0 * W, W);
}

static void put_sums(const void *args, int64_t h, const float *dk, const float *dv)
{
    const cn_attention_args *a = args;
    const sizes s = common_sizes(a, TK);
    store_transposed_sums(a, dk, s.D_rows, a->scale, head_at(a->dk, a, h, a->M));
    store_transposed_sums(a, dv, s.D_rows, 1, head_at(a->dv, a, h, a->M));
}

void cn_attention16_grad(const cn_attention_args *a)
{
    const sizes s = grad_sizes(a);
    const int64_t tiles = (a->L + GQ - 1) / GQ, parts = head_parts(s.heads, tiles, a->threads);
    const int64_t per_part = (tiles + parts - 1) / parts;
    const int64_t sums = (int64_t)transposed_floats(&s);
    float *copies = (float *)(void *)a->scratch;
    char *workers = a->scratch + copies_bytes(&s, parts);
#pragma omp parallel
    {
        cn_tiles state;
        size_t bytes;
        cn_tiles_begin(a->amx, &state);
        const grad_room r =
            grad_room_of(workers + (size_t)omp_get_thread_num() * s.worker_bytes, &s, &bytes);
#pragma omp for schedule(static, 1)
        for (int64_t t = 0; t < s.heads * parts; t++) {
            const int64_t h = t / parts, part = t % parts;
            float *dk = parts > 1 ? copies + t * 2 * sums : r.dk;
            float *dv = parts > 1 ? dk + sums : r.dv;
            const head_job j = {.q = head_at(a->q, a, h, a->L),
                                .k = head_at(a->k, a, h, a->M),
                                .v = head_at(a->v, a, h, a->M),
                                .y = head_at(a->y, a, h, a->L),
                                .dy = head_at(a->dy, a, h, a->L),
                                .lse = a->lse + h * a->L,
                                .dq = head_at(a->dq, a, h, a->L),
                                .dk = a->dk ? dk : NULL,
                                .dv = a->dv ? dv : NULL};
            grad_head(a, &s, &j, part * per_part, CN_MIN(tiles, (part + 1) * per_part), &r);
            if (parts == 1) put_sums(a, h, dk, dv);
        }
        cn_tiles_end(a->amx, &state);
    }
    if (parts > 1) join_parts(copies, s.heads, parts, sums, put_sums, a);
}
