/* SPDX-License-Identifier: Apache-2.0 */
/* attention_f32.c - softmax(q k^T scale) v and its gradient in tiles that stay in the second-level
 * cache.
 *
 * libxsmm's products are fastest where the dimension that follows itself in memory is whole
 * vectors, and the head width 40 isn't. So tiles of scores and sums are laid out with queries
 * (forward) or keys (gradient) fastest, and the operands of the products that want it are
 * transposed once: V^T per head in the forward; K^T and V^T per head in the gradient, whose dK and
 * dV are summed as [D][keys] and transposed at the end. No tile of scores is ever transposed. The
 * running maximum and sum per query give the softmax while key tiles pass by, vectors of queries at
 * a time; the gradient recomputes it from the sum's logarithm.
 */
#include "cpu/kernels/attention_heads.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/math.h"
#include "cpu/kernels/small_product.h"
#include "cpu/kernels/transpose.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { TQ = CN_TILE_Q, TK = CN_TILE_K };

/* exp(x) = 2^(x LOG2E) */
static const float LOG2E = 1.44269504088896341f, LN2 = 0.693147180559945309f;
static const float LOWEST = -1e30f; /* below any score */

static size_t align16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

/* Floats of one head's keys or values, transposed: tiles of TK keys, each [D][TK], so that a tile's
 * rows follow each other. With a row per d over all keys, rows of a power-of-two length would fall
 * into the same cache sets. */
static int64_t transposed_floats(int64_t M, int64_t D)
{
    return (M + TK - 1) / TK * TK * D;
}

/* Products run over whole vectors of keys; those that aren't there are 0. */
static int64_t whole_vectors(int64_t keys)
{
    return (keys + 15) & ~(int64_t)15;
}

static void transpose_keys(const float *k, int64_t stride, int64_t M, int64_t D, float *transposed)
{
    for (int64_t k0 = 0; k0 < M; k0 += TK) {
        const int64_t n = CN_MIN(TK, M - k0);
        float *to = transposed + k0 * D;
        transpose(k + k0 * stride, stride, n, D, 1, to, TK);
        for (int64_t d = 0; d < D && n < whole_vectors(n); d++)
            memset(to + d * TK + n, 0, (size_t)(whole_vectors(n) - n) * sizeof *to);
    }
}

static float *head_at(const void *x, const cn_attention_args *a, int64_t h, int64_t tokens)
{
    return head_in(x, a, h, tokens, sizeof(float));
}

/* --- forward ---------------------------------------------------------------------------------- */

/* A worker's room. */
typedef struct forward_room {
    float *scores;                 /* [TK][TQ], then weights */
    float *qt, *yt;                /* [D][TQ] */
    float *maximum, *total, *fade; /* [TQ] */
} forward_room;

static size_t forward_worker_floats(int64_t D)
{
    return align16((size_t)(TQ * TK + 2 * D * TQ + 3 * TQ));
}

static forward_room forward_room_at(float *at, int64_t D)
{
    float *qt = at + TQ * TK, *yt = qt + D * TQ, *maximum = yt + D * TQ;
    return (forward_room){at, qt, yt, maximum, maximum + TQ, maximum + 2 * TQ};
}

/* A tile of a head's queries. */
typedef struct tile {
    int64_t h, q0, rows;
    const float *q;
    float *y;
} tile;

static tile tile_at(const cn_attention_args *a, int64_t t)
{
    const int64_t tiles = (a->L + TQ - 1) / TQ, h = t / tiles, q0 = t % tiles * TQ;
    const int64_t W = a->heads * a->D;
    return (tile){h, q0, CN_MIN(TQ, a->L - q0), head_at(a->q, a, h, a->L) + q0 * W,
                  head_at(a->y, a, h, a->L) + q0 * W};
}

static void prefetch_queries(const cn_attention_args *a, const tile *t)
{
    const int64_t W = a->heads * a->D;
    for (int64_t i = 0; i < t->rows; i++) {
        prefetch_row(t->q + i * W, (size_t)a->D * sizeof(float));
        prefetch_row(t->y + i * W, (size_t)a->D * sizeof(float));
    }
}

/* Scores of n keys to weights, exponents of 2, for `lanes` queries. */
static void weigh(const forward_room *r, int64_t n, int64_t lanes)
{
    float *restrict s = r->scores, *restrict top = r->maximum, *restrict sum = r->total,
                    *restrict fade = r->fade;
    memcpy(fade, top, (size_t)lanes * sizeof *fade);
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++)
            top[i] = s[j * TQ + i] > top[i] ? s[j * TQ + i] : top[i];
#pragma omp simd
    for (int64_t i = 0; i < lanes; i++) {
        fade[i] = fast_exp2(fade[i] - top[i]);
        sum[i] *= fade[i];
    }
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) {
            const float e = fast_exp2(s[j * TQ + i] - top[i]);
            s[j * TQ + i] = e;
            sum[i] += e;
        }
}

/* The same where query q0+i sees keys up to its own place alone, one query at a time. */
static void weigh_causal(const forward_room *r, int64_t n, int64_t lanes, int64_t q0, int64_t k0)
{
    for (int64_t i = 0; i < lanes; i++) {
        const int64_t seen = CN_MAX(0, CN_MIN(n, q0 + i + 1 - k0));
        float *s = r->scores + i, top = r->maximum[i], sum = 0;
        for (int64_t j = 0; j < seen; j++) top = s[j * TQ] > top ? s[j * TQ] : top;
        for (int64_t j = 0; j < n; j++) {
            s[j * TQ] = j < seen ? fast_exp2(s[j * TQ] - top) : 0;
            sum += s[j * TQ];
        }
        r->fade[i] = fast_exp2(r->maximum[i] - top);
        r->total[i] = r->total[i] * r->fade[i] + sum;
        r->maximum[i] = top;
    }
}

/* One tile of queries against all keys. vt as transpose_keys() lays it. */
static void forward_tile(const cn_attention_args *a, const tile *t, const tile *next,
                         const float *vt, const forward_room *r)
{
    const int64_t q0 = t->q0, rows = t->rows;
    const float *k = head_at(a->k, a, t->h, a->M);
    float *lse = a->lse ? a->lse + t->h * a->L + q0 : NULL;
    const int64_t W = a->heads * a->D, D = a->D, lanes = (rows + 15) & ~(int64_t)15;
    if (rows < lanes) memset(r->qt, 0, (size_t)(D * TQ) * sizeof *r->qt);
    transpose(t->q, W, rows, D, a->scale * LOG2E, r->qt, TQ); /* scores are exponents of 2 */
    for (int64_t i = 0; i < lanes; i++) {
        r->maximum[i] = LOWEST;
        r->total[i] = 0;
    }
    const int64_t keys = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    for (int64_t k0 = 0; k0 < keys; k0 += TK) {
        const int64_t n = CN_MIN(TK, keys - k0);
        small_product(lanes, n, D, r->qt, TQ, k + k0 * W, W, false, r->scores, TQ);
        if (k0 + TK >= keys) prefetch_queries(a, next);
        if (a->causal)
            weigh_causal(r, n, lanes, q0, k0);
        else
            weigh(r, n, lanes);
        for (int64_t d = 0; d < D && k0 > 0; d++)
#pragma omp simd
            for (int64_t i = 0; i < lanes; i++) r->yt[d * TQ + i] *= r->fade[i];
        small_product(lanes, D, n, r->scores, TQ, vt + k0 * D, TK, k0 > 0, r->yt, TQ);
    }
    for (int64_t i = 0; i < rows; i++)
        if (lse) lse[i] = r->maximum[i] * LN2 + logf(r->total[i]);
    for (int64_t i = 0; i < lanes; i++) r->total[i] = 1.0f / r->total[i];
    for (int64_t d = 0; d < D; d++)
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) r->yt[d * TQ + i] *= r->total[i];
    transpose(r->yt, TQ, D, rows, 1, t->y, W);
}

void CN_K(attention)(const cn_attention_args *a)
{
    int64_t W = a->heads * a->D, heads = a->N * a->heads, tiles = heads * ((a->L + TQ - 1) / TQ);
    float *vt = (float *)(void *)a->scratch;
    int64_t vt_head = transposed_floats(a->M, a->D);
    float *rooms = vt + align16((size_t)(heads * vt_head));
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t h = 0; h < heads; h++)
            transpose_keys(head_at(a->v, a, h, a->M), W, a->M, a->D, vt + h * vt_head);
        const forward_room room = forward_room_at(
            rooms + (size_t)omp_get_thread_num() * forward_worker_floats(a->D), a->D);
#pragma omp for schedule(dynamic, 1)
        for (int64_t t = 0; t < tiles; t++) {
            /* workers take tiles in turn, more or less */
            const tile own = tile_at(a, t), next = tile_at(a, CN_MIN(t + a->threads, tiles - 1));
            forward_tile(a, &own, &next, vt + own.h * vt_head, &room);
        }
    }
}

/* --- gradient --------------------------------------------------------------------------------- */

/* A worker's room. */
typedef struct grad_room {
    float *p, *ds;              /* [TQ][TK] */
    float *qt, *dyt;            /* [D][TQ] */
    float *dot;                 /* [TQ]: dy y */
    float *kt, *vt, *dkt, *dvt; /* of a head, transposed */
} grad_room;

static size_t grad_worker_floats(int64_t M, int64_t D)
{
    return align16((size_t)(2 * TQ * TK + 2 * D * TQ + TQ + 4 * transposed_floats(M, D)));
}

static grad_room grad_room_at(float *at, int64_t M, int64_t D)
{
    const int64_t head = transposed_floats(M, D);
    float *qt = at + 2 * TQ * TK, *dot = qt + 2 * D * TQ, *kt = dot + TQ;
    return (grad_room){at,        at + TQ * TK,  qt,           qt + D * TQ, dot, kt,
                       kt + head, kt + 2 * head, kt + 3 * head};
}

typedef struct head_job {
    const float *q, *k, *v, *y, *dy, *lse;
    float *dq;
    bool dk, dv; /* wanted */
    int64_t q_first, q_end;
} head_job;

/* Of one row of scores and of dP = dy v^T: the weights, and dS but for its scale. */
static void grad_row(float *restrict p, float *restrict ds, int64_t seen, int64_t n, float scale,
                     float lse, float dot)
{
#pragma omp simd
    for (int64_t j = 0; j < whole_vectors(seen); j++) {
        const float e = fast_exp2(p[j] * scale - lse);
        p[j] = e;
        ds[j] = e * (ds[j] - dot);
    }
    for (int64_t j = seen; j < n; j++) p[j] = ds[j] = 0;
}

/* The share of row i of `rows` in asking for the tile of keys from k0 on. */
static void prefetch_tile(const head_job *j, int64_t k0, int64_t D, int64_t i, int64_t rows,
                          const grad_room *r)
{
    prefetch_share(r->kt + k0 * D, D * TK, i, rows);
    prefetch_share(r->vt + k0 * D, D * TK, i, rows);
    if (j->dk) prefetch_share(r->dkt + k0 * D, D * TK, i, rows);
    if (j->dv) prefetch_share(r->dvt + k0 * D, D * TK, i, rows);
}

/* The share of row i of this tile in asking for the tile behind it. */
static void prefetch_next_row(const cn_attention_args *a, const head_job *j, int64_t q0, int64_t i)
{
    const int64_t at = (q0 + TQ + i) * a->heads * a->D;
    const size_t row_bytes = (size_t)a->D * sizeof(float);
    if (q0 + TQ + i >= j->q_end) return;
    prefetch_row(j->q + at, row_bytes);
    prefetch_row(j->dy + at, row_bytes);
    prefetch_row(j->y + at, row_bytes);
    if (j->dq) prefetch_row(j->dq + at, row_bytes);
}

static void grad_queries(const cn_attention_args *a, const head_job *j, int64_t q0,
                         const grad_room *r)
{
    const int64_t W = a->heads * a->D, rows = CN_MIN(TQ, j->q_end - q0), D = a->D;
    const float *q = j->q + q0 * W, *dy = j->dy + q0 * W, *y = j->y + q0 * W;
    float *dq = j->dq ? j->dq + q0 * W : NULL;
    if (j->dk) transpose(q, W, rows, D, 1, r->qt, TQ);
    if (j->dv) transpose(dy, W, rows, D, 1, r->dyt, TQ);
    for (int64_t i = 0; i < rows; i++) {
        double s = 0; /* its rounding is in all of the row, and all that is there with one key */
#pragma omp simd reduction(+ : s)
        for (int64_t d = 0; d < D; d++) s += (double)dy[i * W + d] * (double)y[i * W + d];
        r->dot[i] = (float)s;
    }
    const int64_t keys = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    for (int64_t k0 = 0; k0 < keys; k0 += TK) {
        const int64_t n = CN_MIN(TK, keys - k0), n_up = whole_vectors(n);
        const int64_t next = k0 + TK < keys ? k0 + TK : 0;
        small_product(n_up, rows, D, r->kt + k0 * D, TK, q, W, false, r->p, TK);
        small_product(n_up, rows, D, r->vt + k0 * D, TK, dy, W, false, r->ds, TK);
        for (int64_t i = 0; i < rows; i++) {
            grad_row(r->p + i * TK, r->ds + i * TK,
                     a->causal ? CN_MAX(0, CN_MIN(n, q0 + i + 1 - k0)) : n, n_up, a->scale * LOG2E,
                     j->lse[q0 + i] * LOG2E, r->dot[i]);
            if (keys > TK) prefetch_tile(j, next, D, i, rows, r);
            if (k0 + TK >= keys) prefetch_next_row(a, j, q0, i);
        }
        if (j->dv) small_product(n_up, D, rows, r->p, TK, r->dyt, TQ, true, r->dvt + k0 * D, TK);
        if (j->dk) small_product(n_up, D, rows, r->ds, TK, r->qt, TQ, true, r->dkt + k0 * D, TK);
        if (dq) small_product(D, rows, n, j->k + k0 * W, W, r->ds, TK, k0 > 0, dq, W);
    }
    for (int64_t i = 0; i < rows && dq; i++)
#pragma omp simd
        for (int64_t d = 0; d < D; d++) dq[i * W + d] *= a->scale;
}

/* A head's dk or dv from its transposed sums. */
static void transpose_back(const float *transposed, int64_t M, int64_t D, float scale, float *out,
                           int64_t stride)
{
    for (int64_t k0 = 0; k0 < M && out; k0 += TK)
        transpose(transposed + k0 * D, TK, D, CN_MIN(TK, M - k0), scale, out + k0 * stride, stride);
}

static void put_sums(const void *args, int64_t h, const float *dk, const float *dv)
{
    const cn_attention_args *a = args;
    const int64_t W = a->heads * a->D;
    transpose_back(dk, a->M, a->D, a->scale, head_at(a->dk, a, h, a->M), W);
    transpose_back(dv, a->M, a->D, 1, head_at(a->dv, a, h, a->M), W);
}

static void grad_head(const cn_attention_args *a, const head_job *j, const grad_room *r)
{
    const int64_t W = a->heads * a->D, M = a->M, D = a->D, head = transposed_floats(M, D);
    transpose_keys(j->k, W, M, D, r->kt);
    transpose_keys(j->v, W, M, D, r->vt);
    memset(r->dkt, 0, 2 * (size_t)head * sizeof *r->dkt); /* and dvt */
    for (int64_t q0 = j->q_first; q0 < j->q_end; q0 += TQ) grad_queries(a, j, q0, r);
}

void CN_K(attention_grad)(const cn_attention_args *a)
{
    const int64_t heads = a->N * a->heads, sums = transposed_floats(a->M, a->D);
    const int64_t tiles = (a->L + TQ - 1) / TQ, parts = head_parts(heads, tiles, a->threads);
    const int64_t per_part = (tiles + parts - 1) / parts;
    float *copies = (float *)(void *)a->scratch;
    float *rooms = copies + (parts > 1 ? align16((size_t)(heads * parts * 2 * sums)) : 0);
#pragma omp parallel for schedule(static, 1)
    for (int64_t t = 0; t < heads * parts; t++) {
        const int64_t h = t / parts, part = t % parts;
        const head_job j = {.q = head_at(a->q, a, h, a->L),
                            .k = head_at(a->k, a, h, a->M),
                            .v = head_at(a->v, a, h, a->M),
                            .y = head_at(a->y, a, h, a->L),
                            .dy = head_at(a->dy, a, h, a->L),
                            .lse = a->lse + h * a->L,
                            .dq = head_at(a->dq, a, h, a->L),
                            .dk = a->dk != NULL,
                            .dv = a->dv != NULL,
                            .q_first = part * per_part * TQ,
                            .q_end = CN_MIN(a->L, (part + 1) * per_part * TQ)};
        grad_room room = grad_room_at(
            rooms + (size_t)omp_get_thread_num() * grad_worker_floats(a->M, a->D), a->M, a->D);
        if (parts > 1) {
            room.dkt = copies + t * 2 * sums;
            room.dvt = room.dkt + sums;
        }
        grad_head(a, &j, &room);
        if (parts == 1) put_sums(a, h, room.dkt, room.dvt);
    }
    if (parts > 1) join_parts(copies, heads, parts, sums, put_sums, a);
}
