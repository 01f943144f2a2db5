/* attention.c - softmax(q k^T scale) v and its gradient on bfloat16, sums in float.
 *
 * The products want vectors of results, and the head width 40 is not whole vectors. So results are laid out with
 * queries (forward) or keys (gradient) fastest, [D][queries] and [D][keys], as in the float kernel, and the head width is
 * rows of a left operand or the inner dimension, which AVX512_BF16 takes at any length. AMX wants both in whole tiles;
 * what is missing is filled with zeros. Only dq has the head width in vectors. Forward: a tile of queries passes over
 * the keys block by block with a running maximum and sum per query (in powers of two).
 */
#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/bf16/pack.h"
#include "cpu/kernels/heads.h"

#include <math.h>
#include <omp.h>

/* Queries of a tile, forward and gradient; keys of a block. */
enum { TQ = 64, GQ = 128, TK = 128, VECTORS = TQ / 16 };

static const float LOG2E = 1.44269504088896341f, LN2 = 0.69314718055994531f;

/* 2^t for t <= 0 to 4e-6, far below bfloat16's step; t below -126 counts as that. */
static inline __m512 power_of_two(__m512 t)
{
    t = _mm512_max_ps(t, _mm512_set1_ps(-126));
    const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(t, n);
    __m512 p = _mm512_set1_ps(9.6778113e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5503324e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022462e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

/* b's and a's halves to pairs: elements of both rows in turn. */
static inline __m512i side_by_side(__m512i rows)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, rows);
}

typedef struct sizes {
    int64_t W, heads, blocks;      /* blocks of keys */
    int64_t unit;                  /* inner dimensions and a left operand's rows are whole units */
    int64_t D_in, D_rows, D_lanes; /* head width as inner dimension, as rows, as columns */
    size_t head_bytes, worker_bytes;
} sizes;

static size_t align64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += align64(bytes);
    return p;
}

static sizes common_sizes(const cn_attention16_args *a)
{
    const int64_t unit = a->amx ? 32 : 2;
    return (sizes){.W = a->heads * a->D,
                   .heads = a->N * a->heads,
                   .blocks = (a->M + TK - 1) / TK,
                   .unit = unit,
                   .D_in = up(a->D, unit),
                   .D_rows = up(a->D, a->amx ? 16 : 1),
                   .D_lanes = up(a->D, 16)};
}

/* Rows of q, k or v from `first`, at most `most` of `all`. */
static cn_rows rows_from(const uint16_t *x, const cn_attention16_args *a, int64_t first,
                         int64_t all, int64_t most)
{
    const int64_t W = a->heads * a->D;
    return (cn_rows){x + first * W, W, CN_MIN(most, all - first), a->D};
}

/* --- forward ------------------------------------------------------------------------------------- */

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

/* Of a head: keys as left operand, then values turned, block by block. */
static sizes forward_sizes(const cn_attention16_args *a)
{
    sizes s = common_sizes(a);
    s.head_bytes = align64((size_t)(s.blocks * TK * (s.D_in + s.D_rows)) * 2);
    forward_room_of(NULL, &s, &s.worker_bytes);
    return s;
}

/* A block of keys for the queries of one tile. */
typedef struct block {
    int64_t q0, k0, keys, keys_up;
    bool causal;
    float factor;
    int64_t next; /* gradient: where the next block begins */
} block;

/* Of 16 queries from q0, those that see this key. */
static inline __mmask16 seen_by(bool causal, int64_t q0, int64_t key)
{
    const int64_t hidden = causal ? key - q0 : 0;
    return (__mmask16)(hidden <= 0 ? 0xffff : hidden >= 16 ? 0 : 0xffffu << hidden);
}

/* Scores of `vectors` times 16 queries from i to weights 2^(s factor - top) in pairs of keys; fade: what the sums of
 * before count now. */
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

/* A tile of queries, from q0 on, over all keys. */
static void forward_tile(const cn_attention16_args *a, const sizes *s, const uint16_t *keys,
                         const cn_rows *q, int64_t q0, uint16_t *y, float *lse,
                         const forward_room *r)
{
    const uint16_t *values = keys + s->blocks * TK * s->D_in;
    const int64_t rows = q->count, lanes = up(rows, 16);
    const int64_t end = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    pack_right_turned(q, TQ, s->D_in, r->q);
    for (int64_t i = 0; i < lanes; i++) {
        r->top[i] = -INFINITY;
        r->total[i] = 0;
    }
    for (int64_t k0 = 0; k0 < end; k0 += TK) {
        const int64_t n = CN_MIN((int64_t)TK, end - k0);
        const block b = {q0, k0, n, up(n, s->unit), a->causal, a->scale * LOG2E, 0};
        cn_tiles_product(a->amx, b.keys_up, lanes, s->D_in, keys + k0 * s->D_in, s->D_in, r->q, TQ,
                         r->s, TQ, false);
        if (lanes == TQ && !a->causal)
            weigh(&b, r, false, 0, VECTORS);
        else
            for (int64_t i = 0; i < lanes; i += 16) weigh(&b, r, a->causal, i, 1);
        if (k0 > 0) fade_sums(r, s->D_rows, lanes);
        cn_tiles_product(a->amx, s->D_rows, lanes, b.keys_up, values + k0 * s->D_rows, TK, r->p, TQ,
                         r->o, TQ, k0 > 0);
    }
    for (int64_t i = 0; lse && i < rows; i++) lse[i] = (r->top[i] + log2f(r->total[i])) * LN2;
    for (int64_t i = 0; i < lanes; i++) r->total[i] = 1 / r->total[i];
    put_turned(r->o, TQ, r->total, rows, a->D, y, s->W);
}

static void pack_head(const cn_attention16_args *a, const sizes *s, int64_t at, uint16_t *keys)
{
    uint16_t *values = keys + s->blocks * TK * s->D_in;
    const cn_rows k = rows_from(a->k + at, a, 0, a->M, a->M);
    pack_left(&k, up(a->M, s->unit), s->D_in, keys);
    for (int64_t k0 = 0; k0 < a->M; k0 += TK) {
        const cn_rows v = rows_from(a->v + at, a, k0, a->M, TK);
        pack_left_turned(&v, s->D_rows, TK, values + k0 * s->D_rows);
    }
}

void cn_attention16(const cn_attention16_args *a)
{
    const sizes s = forward_sizes(a);
    const int64_t tiles = (a->L + TQ - 1) / TQ;
    char *workers = a->scratch + (size_t)s.heads * s.head_bytes;
#pragma omp parallel
    {
        cn_tiles state;
        size_t bytes;
        cn_tiles_begin(a->amx, &state);
        const forward_room r =
            forward_room_of(workers + (size_t)omp_get_thread_num() * s.worker_bytes, &s, &bytes);
#pragma omp for schedule(static)
        for (int64_t h = 0; h < s.heads; h++)
            pack_head(a, &s, h / a->heads * a->M * s.W + h % a->heads * a->D,
                      (uint16_t *)(void *)(a->scratch + (size_t)h * s.head_bytes));
#pragma omp for schedule(dynamic, 1)
        for (int64_t t = 0; t < s.heads * tiles; t++) {
            const int64_t h = t / tiles, q0 = t % tiles * TQ;
            const int64_t at = h / a->heads * a->L * s.W + h % a->heads * a->D;
            const cn_rows q = rows_from(a->q + at, a, q0, a->L, TQ);
            forward_tile(a, &s,
                         (const uint16_t *)(const void *)(a->scratch + (size_t)h * s.head_bytes),
                         &q, q0, a->y + at + q0 * s.W, a->lse ? a->lse + h * a->L + q0 : NULL, &r);
        }
        cn_tiles_end(a->amx, &state);
    }
}

/* --- gradient ------------------------------------------------------------------------------------ */

/* A worker's room. Per head: k and v turned in pairs, k in pairs of keys, dk and dv turned; per tile of queries: q
 * and dy as left operands, turned and not, and blocks [GQ][TK]. */
typedef struct grad_room {
    uint16_t *kt, *vt, *k, *q, *dy, *qt, *dyt, *p, *ds, *ds_rows;
    float *dk, *dv, *s, *dp, *dq, *low, *dot;
} grad_room;

static size_t turned_floats(const sizes *s)
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
    r.k = take(&at, (size_t)(keys * s->D_lanes) * 2);
    r.dk = take(&at, turned_floats(s) * 4);
    r.dv = take(&at, turned_floats(s) * 4);
    r.q = take(&at, (size_t)(GQ * s->D_in) * 2);
    r.dy = take(&at, (size_t)(GQ * s->D_in) * 2);
    r.qt = take(&at, (size_t)(s->D_rows * GQ) * 2);
    r.dyt = take(&at, (size_t)(s->D_rows * GQ) * 2);
    r.p = take(&at, (size_t)GQ * TK * 2);
    r.ds = take(&at, (size_t)GQ * TK * 2);
    r.ds_rows = take(&at, (size_t)GQ * TK * 2);
    r.s = take(&at, (size_t)GQ * TK * 4);
    r.dp = take(&at, (size_t)GQ * TK * 4);
    r.dq = take(&at, (size_t)(GQ * s->D_lanes) * 4);
    r.low = take(&at, GQ * 4);
    r.dot = take(&at, GQ * 4);
    *bytes = (size_t)(at - start);
    return r;
}

static sizes grad_sizes(const cn_attention16_args *a)
{
    sizes s = common_sizes(a);
    grad_room_of(NULL, &s, &s.worker_bytes);
    return s;
}

/* Copies of dk and dv per head and part, where heads have parts. */
static size_t copies_bytes(const sizes *s, int64_t parts)
{
    return parts > 1 ? align64((size_t)(s->heads * parts * 2) * turned_floats(s) * 4) : 0;
}

size_t cn_attention16_scratch_bytes(const cn_attention16_args *a, bool grad)
{
    if (!grad) {
        const sizes s = forward_sizes(a);
        return (size_t)s.heads * s.head_bytes + (size_t)a->threads * s.worker_bytes;
    }
    const sizes s = grad_sizes(a);
    return copies_bytes(&s, head_parts(s.heads, (a->L + GQ - 1) / GQ, a->threads)) +
           (size_t)a->threads * s.worker_bytes;
}

/* 16 keys of query i, of which the first `seen` count: p and ds. */
static inline void grad_vector(const grad_room *r, int64_t i, int64_t j, int64_t seen, float scale,
                               __m512 *p, __m512 *ds)
{
    const __m512 s = _mm512_loadu_ps(r->s + i * TK + j), dp = _mm512_loadu_ps(r->dp + i * TK + j);
    const __m512 t = _mm512_fmsub_ps(s, _mm512_set1_ps(scale * LOG2E), _mm512_set1_ps(r->low[i]));
    *p =
        _mm512_maskz_mov_ps(first16(seen - j), power_of_two(_mm512_min_ps(t, _mm512_setzero_ps())));
    *ds = _mm512_mul_ps(_mm512_mul_ps(*p, _mm512_set1_ps(scale)),
                        _mm512_sub_ps(dp, _mm512_set1_ps(r->dot[i])));
}

typedef struct head_job {
    const uint16_t *q, *k, *v, *y, *dy;
    const float *lse;
    uint16_t *dq;
    float *dk, *dv; /* sums, NULL where nobody wants them */
} head_job;

/* The share of rows i and i+1 of `rows` in asking for the block of keys from k0 on. */
static void ask_for_block(const sizes *s, const head_job *j, int64_t k0, int64_t i, int64_t rows,
                          const grad_room *r)
{
    ask_for(r->kt + k0 * s->D_in, TK * s->D_in / 2, i / 2, rows / 2);
    ask_for(r->vt + k0 * s->D_in, TK * s->D_in / 2, i / 2, rows / 2);
    ask_for(r->k + k0 * s->D_lanes, TK * s->D_lanes / 2, i / 2, rows / 2);
    if (j->dk) ask_for(j->dk + k0 * s->D_rows, TK * s->D_rows, i / 2, rows / 2);
    if (j->dv) ask_for(j->dv + k0 * s->D_rows, TK * s->D_rows, i / 2, rows / 2);
}

/* Blocks p and ds in pairs of queries, and ds in rows, from s and dp. rows: queries that are there. */
static void grad_block(const block *b, const sizes *s, const head_job *job, float scale,
                       int64_t rows, int64_t rows_up, const grad_room *r)
{
    for (int64_t i = 0; i < rows_up; i += 2) {
        if (s->blocks > 1) ask_for_block(s, job, b->next, i, rows_up, r);
        int64_t seen[2];
        for (int h = 0; h < 2; h++)
            seen[h] = i + h >= rows ? 0
                      : b->causal   ? CN_MIN(b->keys, b->q0 + i + h + 1 - b->k0)
                                    : b->keys;
        for (int64_t j = 0; j < b->keys_up; j += 16) {
            __m512 p[2], ds[2];
            for (int h = 0; h < 2; h++) grad_vector(r, i + h, j, seen[h], scale, &p[h], &ds[h]);
            const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(ds[1], ds[0]);
            _mm512_storeu_si512(r->p + i * TK + 2 * j,
                                side_by_side((__m512i)_mm512_cvtne2ps_pbh(p[1], p[0])));
            _mm512_storeu_si512(r->ds + i * TK + 2 * j, side_by_side(both));
            _mm256_storeu_si256((__m256i *)(void *)(r->ds_rows + i * TK + j),
                                _mm512_castsi512_si256(both));
            _mm256_storeu_si256((__m256i *)(void *)(r->ds_rows + (i + 1) * TK + j),
                                _mm512_extracti64x4_epi64(both, 1));
        }
    }
}

static float dot(const uint16_t *a, const uint16_t *b, int64_t n)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = first16(n - i);
        const __m512i x = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, a + i));
        const __m512i y = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, b + i));
        sum = _mm512_fmadd_ps((__m512)_mm512_slli_epi32(x, 16), (__m512)_mm512_slli_epi32(y, 16),
                              sum);
    }
    return _mm512_reduce_add_ps(sum);
}

static void take_queries(const cn_attention16_args *a, const sizes *s, const head_job *j,
                         int64_t q0, const grad_room *r)
{
    const cn_rows q = rows_from(j->q, a, q0, a->L, GQ), dy = rows_from(j->dy, a, q0, a->L, GQ);
    const int64_t rows_up = up(q.count, s->unit);
    pack_left(&q, rows_up, s->D_in, r->q);
    pack_left(&dy, rows_up, s->D_in, r->dy);
    if (j->dk) pack_left_turned(&q, s->D_rows, GQ, r->qt);
    if (j->dv) pack_left_turned(&dy, s->D_rows, GQ, r->dyt);
    for (int64_t i = 0; i < rows_up; i++) {
        const bool there = i < q.count;
        r->dot[i] = there ? dot(dy.x + i * s->W, j->y + (q0 + i) * s->W, a->D) : 0;
        r->low[i] = there ? j->lse[q0 + i] * LOG2E : 0;
    }
}

static void grad_queries(const cn_attention16_args *a, const sizes *s, const head_job *j,
                         int64_t q0, const grad_room *r)
{
    const int64_t rows = CN_MIN((int64_t)GQ, a->L - q0), rows_up = up(rows, s->unit);
    const int64_t end = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    take_queries(a, s, j, q0, r);
    for (int64_t k0 = 0; k0 < end; k0 += TK) {
        const int64_t keys = CN_MIN((int64_t)TK, end - k0), n = up(keys, CN_MAX(16, s->unit));
        const int64_t next = k0 + TK < end ? k0 + TK : 0;
        const block b = {q0, k0, keys, n, a->causal, 0, next};
        cn_tiles_product(a->amx, rows_up, n, s->D_in, r->q, s->D_in, r->kt + k0 * s->D_in, TK, r->s,
                         TK, false);
        cn_tiles_product(a->amx, rows_up, n, s->D_in, r->dy, s->D_in, r->vt + k0 * s->D_in, TK,
                         r->dp, TK, false);
        grad_block(&b, s, j, a->scale, rows, rows_up, r);
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
        narrow_row(r->dq + i * s->D_lanes, a->D, j->dq + (q0 + i) * s->W);
}

static void grad_head(const cn_attention16_args *a, const sizes *s, const head_job *j,
                      int64_t first, int64_t end, const grad_room *r)
{
    for (int64_t k0 = 0; k0 < a->M; k0 += TK) {
        const cn_rows k = rows_from(j->k, a, k0, a->M, TK), v = rows_from(j->v, a, k0, a->M, TK);
        pack_right_turned(&k, TK, s->D_in, r->kt + k0 * s->D_in);
        pack_right_turned(&v, TK, s->D_in, r->vt + k0 * s->D_in);
        pack_right(&k, up(k.count, 32), s->D_lanes, r->k + k0 * s->D_lanes);
    }
    if (j->dk) memset(j->dk, 0, turned_floats(s) * sizeof *j->dk);
    if (j->dv) memset(j->dv, 0, turned_floats(s) * sizeof *j->dv);
    for (int64_t i = first; i < end; i++) grad_queries(a, s, j, i * GQ, r);
}

/* A head's dk or dv, from its turned sums, to `out` on. */
static void put_turned_sums(const cn_attention16_args *a, const float *sums, int64_t D_rows,
                            uint16_t *out)
{
    const int64_t W = a->heads * a->D;
    for (int64_t k0 = 0; k0 < a->M && out; k0 += TK)
        put_turned(sums + k0 * D_rows, TK, NULL, CN_MIN(TK, a->M - k0), a->D, out + k0 * W, W);
}

static void put_sums(const void *args, int64_t h, const float *dk, const float *dv)
{
    const cn_attention16_args *a = args;
    const sizes s = common_sizes(a);
    const int64_t at = h / a->heads * a->M * s.W + h % a->heads * a->D;
    put_turned_sums(a, dk, s.D_rows, a->dk ? a->dk + at : NULL);
    put_turned_sums(a, dv, s.D_rows, a->dv ? a->dv + at : NULL);
}

void cn_attention16_grad(const cn_attention16_args *a)
{
    const sizes s = grad_sizes(a);
    const int64_t tiles = (a->L + GQ - 1) / GQ, parts = head_parts(s.heads, tiles, a->threads);
    const int64_t per_part = (tiles + parts - 1) / parts;
    const int64_t sums = (int64_t)turned_floats(&s);
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
            const int64_t h = t / parts, part = t % parts, at = h % a->heads * a->D;
            const int64_t qo = h / a->heads * a->L * s.W + at, ko = h / a->heads * a->M * s.W + at;
            float *dk = parts > 1 ? copies + t * 2 * sums : r.dk;
            float *dv = parts > 1 ? dk + sums : r.dv;
            const head_job j = {.q = a->q + qo,
                                .k = a->k + ko,
                                .v = a->v + ko,
                                .y = a->y + qo,
                                .dy = a->dy + qo,
                                .lse = a->lse + h * a->L,
                                .dq = a->dq ? a->dq + qo : NULL,
                                .dk = a->dk ? dk : NULL,
                                .dv = a->dv ? dv : NULL};
            grad_head(a, &s, &j, part * per_part, CN_MIN(tiles, (part + 1) * per_part), &r);
            if (parts == 1) put_sums(a, h, dk, dv);
        }
        cn_tiles_end(a->amx, &state);
    }
    if (parts > 1) join_parts(copies, s.heads, parts, sums, put_sums, a);
}
