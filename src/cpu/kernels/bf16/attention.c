/* attention.c - softmax(q k^T scale) v and its gradient on bfloat16, sums in float.
 *
 * Keys and values are packed once per head into the pairs that the products want, padded with zeros to
 * whole tiles, so tails need no code of their own. Forward: a tile of queries passes over the keys block by
 * block with a running maximum and sum per query (in powers of two). Gradient: transposed blocks
 * P^T [keys, queries] serve dv and dk as they are; dq is gathered transposed. A worker owns a head; with
 * fewer heads than workers, workers take parts of the queries and dk, dv are summed from their copies in
 * a fixed order.
 */
#include "cpu/kernels/bf16/bf16.h"

#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { TQ = 64, TK = 256 };

static const float LOG2E = 1.44269504088896341f, LN2 = 0.69314718055994531f;

static int64_t up(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static float wide(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

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

/* --- packing -------------------------------------------------------------------------------------- */

/* Rows of x (stride W) as the right operand that their transpose is: to[p][row][2] = x[row][2p, 2p+1],
 * zeros to `rows_up` rows and `width` columns. */
static void pack_transposed(const uint16_t *x, int64_t W, int64_t rows, int64_t D, int64_t rows_up,
                            int64_t width, uint16_t *to)
{
    for (int64_t p = 0; p < width / 2; p++) {
        uint16_t *row = to + p * 2 * rows_up;
        for (int64_t r = 0; r < rows_up; r++) {
            row[2 * r] = r < rows && 2 * p < D ? x[r * W + 2 * p] : 0;
            row[2 * r + 1] = r < rows && 2 * p + 1 < D ? x[r * W + 2 * p + 1] : 0;
        }
    }
}

/* Rows of x as a right operand: to[r/2][d][2] = x[r, r+1][d]. */
static void pack_rows(const uint16_t *x, int64_t W, int64_t rows, int64_t D, int64_t rows_up,
                      int64_t width, uint16_t *to)
{
    for (int64_t r = 0; r < rows_up; r += 2) {
        uint16_t *row = to + r * width;
        for (int64_t d = 0; d < width; d++) {
            row[2 * d] = r < rows && d < D ? x[r * W + d] : 0;
            row[2 * d + 1] = r + 1 < rows && d < D ? x[(r + 1) * W + d] : 0;
        }
    }
}

/* Rows of x as a left operand, padded with zeros. */
static void copy_padded(const uint16_t *x, int64_t W, int64_t rows, int64_t D, int64_t rows_up,
                        int64_t width, uint16_t *to)
{
    for (int64_t r = 0; r < rows_up; r++) {
        uint16_t *row = to + r * width;
        const int64_t n = r < rows ? D : 0;
        if (n) memcpy(row, x + r * W, (size_t)n * sizeof *row);
        memset(row + n, 0, (size_t)(width - n) * sizeof *row);
    }
}

/* Row of floats to bfloat16. */
static void narrow_row(const float *x, float factor, int64_t n, uint16_t *to)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(factor));
        _mm256_mask_storeu_epi16(to + i, m, (__m256i)_mm512_cvtneps_pbh(v));
    }
}

/* --- forward ------------------------------------------------------------------------------------- */

typedef struct sizes {
    int64_t W, heads, M, D_in, D_out; /* keys padded; width as inner and as outer dimension */
    size_t head_bytes, worker_bytes;
} sizes;

static size_t align64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static sizes forward_sizes(const cn_attention16_args *a)
{
    sizes s = {.W = a->heads * a->D,
               .heads = a->N * a->heads,
               .M = up(a->M, 32),
               .D_in = up(a->D, 32),
               .D_out = up(a->D, 16)};
    s.head_bytes = align64((size_t)(s.M * (s.D_in + s.D_out)) * 2);
    s.worker_bytes = align64((size_t)(TQ * s.D_in) * 2) + align64((size_t)TQ * TK * 4) +
                     align64((size_t)TQ * TK * 2) + align64((size_t)(TQ * s.D_out) * 4) +
                     align64(2 * TQ * 4);
    return s;
}

typedef struct forward_room {
    uint16_t *q, *p;
    float *s, *o, *top, *total;
} forward_room;

static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += align64(bytes);
    return p;
}

static forward_room forward_room_of(char *at, const sizes *s)
{
    forward_room r;
    r.q = take(&at, (size_t)(TQ * s->D_in) * 2);
    r.s = take(&at, (size_t)TQ * TK * 4);
    r.p = take(&at, (size_t)TQ * TK * 2);
    r.o = take(&at, (size_t)(TQ * s->D_out) * 4);
    r.top = take(&at, 2 * TQ * 4);
    r.total = r.top + TQ;
    return r;
}

/* One row of a block: s [width] to p = 2^(s factor - top), `seen` of them, the rest 0. */
static void softmax_row(const float *s, int64_t seen, int64_t width, float factor, float *top,
                        float *total, float *o, int64_t D, uint16_t *p)
{
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    int64_t j = 0;
    for (; j + 16 <= seen; j += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(s + j));
    const __mmask16 tail = (__mmask16)((1u << (seen - j)) - 1);
    if (tail) most = _mm512_mask_max_ps(most, tail, most, _mm512_loadu_ps(s + j));
    const float now = CN_MAX(*top, _mm512_reduce_max_ps(most) * factor);
    if (now > *top) {
        const float fade = exp2f(*top - now);
        for (int64_t d = 0; d < D; d += 16)
            _mm512_storeu_ps(o + d, _mm512_mul_ps(_mm512_loadu_ps(o + d), _mm512_set1_ps(fade)));
        *total *= fade;
        *top = now;
    }
    const __m512 f = _mm512_set1_ps(factor), low = _mm512_set1_ps(now);
    for (j = 0; j < width; j += 32) {
        __m512 e[2];
        for (int h = 0; h < 2; h++) {
            const int64_t left = seen - j - 16 * h;
            const __mmask16 m = (__mmask16)(left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0);
            e[h] = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(s + j + 16 * h), f, low));
            e[h] = _mm512_maskz_mov_ps(m, e[h]);
            sum = _mm512_add_ps(sum, e[h]);
        }
        _mm512_storeu_si512(p + j, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
    }
    *total += _mm512_reduce_add_ps(sum);
}

static void forward_tile(const cn_attention16_args *a, const sizes *s, const uint16_t *keys,
                         const uint16_t *values, const uint16_t *q, uint16_t *y, float *lse,
                         int64_t q0, int64_t rows, const forward_room *r)
{
    const int64_t rows_up = up(rows, 16);
    const int64_t end = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    copy_padded(q, s->W, rows, a->D, rows_up, s->D_in, r->q);
    memset(r->o, 0, (size_t)(rows_up * s->D_out) * sizeof *r->o);
    memset(r->p, 0, (size_t)(rows_up * TK) * sizeof *r->p); /* rows that only pad stay 0 */
    for (int64_t i = 0; i < rows; i++) {
        r->top[i] = -INFINITY;
        r->total[i] = 0;
    }
    for (int64_t k0 = 0; k0 < end; k0 += TK) {
        const int64_t n = CN_MIN((int64_t)TK, end - k0), width = up(n, 32);
        cn_tiles_product(a->amx, rows_up, width, s->D_in, r->q, s->D_in, keys + 2 * k0, s->M, r->s,
                         TK, false);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t seen = a->causal ? CN_MAX(0, CN_MIN(n, q0 + i + 1 - k0)) : n;
            if (seen)
                softmax_row(r->s + i * TK, seen, width, a->scale * LOG2E, &r->top[i], &r->total[i],
                            r->o + i * s->D_out, s->D_out, r->p + i * TK);
            else
                memset(r->p + i * TK, 0, (size_t)width * sizeof *r->p);
        }
        cn_tiles_product(a->amx, rows_up, s->D_out, width, r->p, TK, values + k0 * s->D_out,
                         s->D_out, r->o, s->D_out, true);
    }
    for (int64_t i = 0; i < rows; i++) {
        narrow_row(r->o + i * s->D_out, 1 / r->total[i], a->D, y + i * s->W);
        if (lse) lse[i] = (r->top[i] + log2f(r->total[i])) * LN2;
    }
}

void cn_attention16(const cn_attention16_args *a)
{
    const sizes s = forward_sizes(a);
    const int64_t tiles = (a->L + TQ - 1) / TQ;
    char *workers = a->scratch + (size_t)s.heads * s.head_bytes;
#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < s.heads; h++) {
        const int64_t at = h / a->heads * a->M * s.W + h % a->heads * a->D;
        uint16_t *keys = (uint16_t *)(void *)(a->scratch + (size_t)h * s.head_bytes);
        pack_transposed(a->k + at, s.W, a->M, a->D, s.M, s.D_in, keys);
        pack_rows(a->v + at, s.W, a->M, a->D, s.M, s.D_out, keys + s.M * s.D_in);
    }
#pragma omp parallel
    {
        cn_tiles state;
        cn_tiles_begin(a->amx, &state);
        const forward_room r =
            forward_room_of(workers + (size_t)omp_get_thread_num() * s.worker_bytes, &s);
#pragma omp for schedule(dynamic, 1)
        for (int64_t t = 0; t < s.heads * tiles; t++) {
            const int64_t h = t / tiles, q0 = t % tiles * TQ, n = h / a->heads;
            const int64_t at = (n * a->L + q0) * s.W + h % a->heads * a->D;
            const uint16_t *keys =
                (const uint16_t *)(const void *)(a->scratch + (size_t)h * s.head_bytes);
            forward_tile(a, &s, keys, keys + s.M * s.D_in, a->q + at, a->y + at,
                         a->lse ? a->lse + h * a->L + q0 : NULL, q0, CN_MIN(TQ, a->L - q0), &r);
        }
        cn_tiles_end(a->amx, &state);
    }
}

/* --- gradient ------------------------------------------------------------------------------------ */

/* A worker's room. Per head: k and v as left operands, k transposed as one, dk and dv in float; per tile of
 * queries: q and dy as right operands, transposed and not, the blocks. */
typedef struct grad_room {
    uint16_t *k, *v, *kt, *qt, *dyt, *q, *dy, *p, *ds, *ds_pairs;
    float *dk, *dv, *s, *dp, *dqt, *low, *dot;
} grad_room;

static grad_room grad_room_of(char *start, const sizes *s, size_t *bytes)
{
    grad_room r;
    char *at = start;
    r.k = take(&at, (size_t)(s->M * s->D_in) * 2);
    r.v = take(&at, (size_t)(s->M * s->D_in) * 2);
    r.kt = take(&at, (size_t)(s->D_out * s->M) * 2);
    r.dk = take(&at, (size_t)(s->M * s->D_out) * 4);
    r.dv = take(&at, (size_t)(s->M * s->D_out) * 4);
    r.qt = take(&at, (size_t)(s->D_in * TQ) * 2);
    r.dyt = take(&at, (size_t)(s->D_in * TQ) * 2);
    r.q = take(&at, (size_t)(TQ * s->D_out) * 2);
    r.dy = take(&at, (size_t)(TQ * s->D_out) * 2);
    r.p = take(&at, (size_t)TK * TQ * 2);
    r.ds = take(&at, (size_t)TK * TQ * 2);
    r.ds_pairs = take(&at, (size_t)TK * TQ * 2);
    r.s = take(&at, (size_t)TK * TQ * 4);
    r.dp = take(&at, (size_t)TK * TQ * 4);
    r.dqt = take(&at, (size_t)(s->D_out * TQ) * 4);
    r.low = take(&at, TQ * 4);
    r.dot = take(&at, TQ * 4);
    *bytes = (size_t)(at - start);
    return r;
}

static sizes grad_sizes(const cn_attention16_args *a)
{
    sizes s = {.W = a->heads * a->D,
               .heads = a->N * a->heads,
               .M = up(a->M, 32),
               .D_in = up(a->D, 32),
               .D_out = up(a->D, 16)};
    grad_room_of(NULL, &s, &s.worker_bytes);
    return s;
}

/* How many parts the queries of a head are cut into, so that all workers have something to do. */
static int64_t grad_parts(int64_t heads, int64_t L, int threads)
{
    if (heads >= threads) return 1;
    return CN_MIN((threads + heads - 1) / heads, (L + TQ - 1) / TQ);
}

size_t cn_attention16_scratch_bytes(const cn_attention16_args *a, bool grad)
{
    if (!grad) {
        const sizes s = forward_sizes(a);
        return (size_t)s.heads * s.head_bytes + (size_t)a->threads * s.worker_bytes;
    }
    const sizes s = grad_sizes(a);
    const int64_t parts = grad_parts(s.heads, a->L, a->threads);
    const size_t copies = parts > 1 ? align64((size_t)(s.heads * parts * 2 * a->M * a->D) * 4) : 0;
    return copies + (size_t)a->threads * s.worker_bytes;
}

/* 16 queries of one key: p and ds. */
static inline void grad_vector(const float *s, const float *dp, const float *low, const float *dot,
                               __m512 factor, __m512 scale, __mmask16 seen, __m512 *p, __m512 *ds)
{
    const __m512 t = _mm512_fmsub_ps(_mm512_loadu_ps(s), factor, _mm512_loadu_ps(low));
    *p = _mm512_maskz_mov_ps(seen, power_of_two(_mm512_min_ps(t, _mm512_setzero_ps())));
    const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(dp), _mm512_loadu_ps(dot));
    *ds = _mm512_mul_ps(_mm512_mul_ps(*p, d), scale);
}

/* Of 16 queries from q0, those that see this key. */
static __mmask16 seen_by(bool causal, int64_t q0, int64_t key)
{
    const int64_t hidden = causal ? key - q0 : 0;
    return (__mmask16)(hidden <= 0 ? 0xffff : hidden >= 16 ? 0 : 0xffffu << hidden);
}

/* Blocks p, ds (keys by queries) and ds in pairs of keys from s and dp. */
static void grad_block(const cn_attention16_args *a, const grad_room *r, int64_t q0, int64_t k0,
                       int64_t keys)
{
    const __m512 factor = _mm512_set1_ps(a->scale * LOG2E), scale = _mm512_set1_ps(a->scale);
    for (int64_t c = 0; c < keys; c += 2)
        for (int64_t i = 0; i < TQ; i += 16) {
            __m256i half[2];
            for (int e = 0; e < 2; e++) {
                const int64_t at = (c + e) * TQ + i;
                __m512 p, ds;
                grad_vector(r->s + at, r->dp + at, r->low + i, r->dot + i, factor, scale,
                            seen_by(a->causal, q0 + i, k0 + c + e), &p, &ds);
                half[e] = (__m256i)_mm512_cvtneps_pbh(ds);
                _mm256_storeu_si256((__m256i *)(void *)(r->p + at), (__m256i)_mm512_cvtneps_pbh(p));
                _mm256_storeu_si256((__m256i *)(void *)(r->ds + at), half[e]);
            }
            const __m512i two =
                _mm512_or_si512(_mm512_cvtepu16_epi32(half[0]),
                                _mm512_slli_epi32(_mm512_cvtepu16_epi32(half[1]), 16));
            _mm512_storeu_si512(r->ds_pairs + c * TQ + 2 * i, two);
        }
}

typedef struct head_job {
    const uint16_t *q, *k, *v, *y, *dy;
    const float *lse;
    uint16_t *dq;
    bool want_dk, want_dv;
} head_job;

static void grad_queries(const cn_attention16_args *a, const sizes *s, const head_job *j,
                         int64_t q0, const grad_room *r)
{
    const int64_t rows = CN_MIN(TQ, a->L - q0), D = a->D, W = s->W;
    const uint16_t *q = j->q + q0 * W, *dy = j->dy + q0 * W, *y = j->y + q0 * W;
    pack_transposed(q, W, rows, D, TQ, s->D_in, r->qt);
    pack_transposed(dy, W, rows, D, TQ, s->D_in, r->dyt);
    if (j->want_dk) pack_rows(q, W, rows, D, TQ, s->D_out, r->q);
    if (j->want_dv) pack_rows(dy, W, rows, D, TQ, s->D_out, r->dy);
    for (int64_t i = 0; i < TQ; i++) {
        float dot = 0;
        for (int64_t d = 0; i < rows && d < D; d++) dot += wide(dy[i * W + d]) * wide(y[i * W + d]);
        r->dot[i] = dot;
        r->low[i] = i < rows ? j->lse[q0 + i] * LOG2E : INFINITY; /* p is 0 where no query is */
    }
    memset(r->dqt, 0, (size_t)(s->D_out * TQ) * sizeof *r->dqt);
    const int64_t end = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    for (int64_t k0 = 0; k0 < end; k0 += TK) {
        const int64_t n = up(CN_MIN((int64_t)TK, end - k0), 32);
        cn_tiles_product(a->amx, n, TQ, s->D_in, r->k + k0 * s->D_in, s->D_in, r->qt, TQ, r->s, TQ,
                         false);
        cn_tiles_product(a->amx, n, TQ, s->D_in, r->v + k0 * s->D_in, s->D_in, r->dyt, TQ, r->dp,
                         TQ, false);
        grad_block(a, r, q0, k0, n);
        if (j->want_dv)
            cn_tiles_product(a->amx, n, s->D_out, TQ, r->p, TQ, r->dy, s->D_out,
                             r->dv + k0 * s->D_out, s->D_out, true);
        if (j->want_dk)
            cn_tiles_product(a->amx, n, s->D_out, TQ, r->ds, TQ, r->q, s->D_out,
                             r->dk + k0 * s->D_out, s->D_out, true);
        if (j->dq)
            cn_tiles_product(a->amx, s->D_out, TQ, n, r->kt + k0, s->M, r->ds_pairs, TQ, r->dqt, TQ,
                             true);
    }
    for (int64_t i = 0; j->dq && i < rows; i++) {
        float row[16];
        for (int64_t d0 = 0; d0 < D; d0 += 16) {
            const int64_t n = CN_MIN((int64_t)16, D - d0);
            for (int64_t d = 0; d < n; d++) row[d] = r->dqt[(d0 + d) * TQ + i];
            narrow_row(row, 1, n, j->dq + (q0 + i) * W + d0);
        }
    }
}

static void grad_head(const cn_attention16_args *a, const sizes *s, const head_job *j,
                      int64_t first, int64_t end, const grad_room *r)
{
    copy_padded(j->k, s->W, a->M, a->D, s->M, s->D_in, r->k);
    copy_padded(j->v, s->W, a->M, a->D, s->M, s->D_in, r->v);
    for (int64_t d = 0; d < s->D_out; d++)
        for (int64_t m = 0; m < s->M; m++)
            r->kt[d * s->M + m] = d < a->D && m < a->M ? j->k[m * s->W + d] : 0;
    memset(r->dk, 0, (size_t)(s->M * s->D_out) * sizeof *r->dk);
    memset(r->dv, 0, (size_t)(s->M * s->D_out) * sizeof *r->dv);
    for (int64_t i = first; i < end; i++) grad_queries(a, s, j, i * TQ, r);
}

/* The head's dk or dv: to its place, or as one part's copy. */
static void put(const float *sum, const cn_attention16_args *a, const sizes *s, float *copy,
                uint16_t *out)
{
    for (int64_t m = 0; m < a->M; m++) {
        if (copy)
            memcpy(copy + m * a->D, sum + m * s->D_out, (size_t)a->D * sizeof *copy);
        else
            narrow_row(sum + m * s->D_out, 1, a->D, out + m * s->W);
    }
}

static void sum_parts(const float *copies, int64_t parts, int64_t stride,
                      const cn_attention16_args *a, const sizes *s, uint16_t *out)
{
    for (int64_t m = 0; m < a->M; m++)
        for (int64_t d0 = 0; d0 < a->D; d0 += 16) {
            const int64_t n = CN_MIN((int64_t)16, a->D - d0);
            float row[16] = {0};
            for (int64_t p = 0; p < parts; p++)
                for (int64_t d = 0; d < n; d++) row[d] += copies[p * stride + m * a->D + d0 + d];
            narrow_row(row, 1, n, out + m * s->W + d0);
        }
}

void cn_attention16_grad(const cn_attention16_args *a)
{
    const sizes s = grad_sizes(a);
    const int64_t parts = grad_parts(s.heads, a->L, a->threads);
    const int64_t tiles = (a->L + TQ - 1) / TQ, per_part = (tiles + parts - 1) / parts;
    const int64_t copy = a->M * a->D; /* per head and part: dk, then dv */
    float *copies = (float *)(void *)a->scratch;
    char *workers = a->scratch;
    if (parts > 1) workers += align64((size_t)(s.heads * parts * 2 * copy) * sizeof *copies);
#pragma omp parallel
    {
        cn_tiles state;
        size_t bytes;
        cn_tiles_begin(a->amx, &state);
        const grad_room r =
            grad_room_of(workers + (size_t)omp_get_thread_num() * s.worker_bytes, &s, &bytes);
#pragma omp for schedule(static, 1)
        for (int64_t t = 0; t < s.heads * parts; t++) {
            const int64_t h = t / parts, part = t % parts, n = h / a->heads;
            const int64_t at = h % a->heads * a->D, qo = n * a->L * s.W + at,
                          ko = n * a->M * s.W + at;
            const head_job j = {a->q + qo,
                                a->k + ko,
                                a->v + ko,
                                a->y + qo,
                                a->dy + qo,
                                a->lse + h * a->L,
                                a->dq ? a->dq + qo : NULL,
                                a->dk != NULL,
                                a->dv != NULL};
            float *own = parts > 1 ? copies + t * 2 * copy : NULL;
            grad_head(a, &s, &j, part * per_part, CN_MIN(tiles, (part + 1) * per_part), &r);
            if (a->dk) put(r.dk, a, &s, own, a->dk + ko);
            if (a->dv) put(r.dv, a, &s, own ? own + copy : NULL, a->dv + ko);
        }
        cn_tiles_end(a->amx, &state);
    }
    if (parts == 1) return;
#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < s.heads; h++) {
        const int64_t ko = h / a->heads * a->M * s.W + h % a->heads * a->D;
        const float *own = copies + h * parts * 2 * copy;
        if (a->dk) sum_parts(own, parts, 2 * copy, a, &s, a->dk + ko);
        if (a->dv) sum_parts(own + copy, parts, 2 * copy, a, &s, a->dv + ko);
    }
}
