/* attention.c - softmax(q k^T scale) v and its gradient in tiles that stay in the second-level cache.
 *
 * Row-major q [L,D] times k [M,D]^T is, seen column-major as libxsmm does, K^T (keys fastest) times Q: so
 * K is transposed once per head into scratch and both products of the forward run without moving data
 * again. The running maximum and sum per query give the softmax while key tiles pass by. The gradient
 * computes the transposed tile P^T [keys, queries], from which all three gradients follow; a worker owns
 * one head, so no sum crosses workers; with fewer heads than workers, workers take parts of the queries
 * and dk, dv are summed from per-worker copies.
 */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/math.h"
#include "cpu/kernels/small_product.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { TQ = CN_TILE_Q, TK = CN_TILE_K };

/* exp(x) = 2^(x LOG2E) */
static const float LOG2E = 1.44269504088896341f, LN2 = 0.693147180559945309f;

static size_t align16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

/* dst [D][rows] = src [rows][D] with a row stride. */
static void transpose(const float *src, int64_t stride, int64_t rows, int64_t D, float *dst,
                      int64_t dst_stride)
{
    for (int64_t r0 = 0; r0 < rows; r0 += 16)
        for (int64_t d = 0; d < D; d++)
            for (int64_t r = r0; r < CN_MIN(r0 + 16, rows); r++)
                dst[d * dst_stride + r] = src[r * stride + d];
}

/* Floats of one head's K^T: tiles of TK keys, each [D][TK], so that a tile's rows follow each other. With
 * a row per d over all keys, rows of a power-of-two length would fall into the same cache sets. */
static int64_t kt_head_floats(int64_t M, int64_t D)
{
    return (M + TK - 1) / TK * TK * D;
}

static void tile_keys(const float *k, int64_t stride, int64_t M, int64_t D, float *kt)
{
    for (int64_t k0 = 0; k0 < M; k0 += TK)
        transpose(k + k0 * stride, stride, CN_MIN(TK, M - k0), D, kt + k0 * D, TK);
}

/* One tile of queries against all keys. kt as tile_keys() lays it. */
static void forward_tile(const cn_attention_args *a, const float *q, const float *kt,
                         const float *v, float *y, float *lse, int64_t q0, int64_t rows,
                         float *tile, float *maximum, float *total)
{
    int64_t W = a->heads * a->D;
    float scale = a->scale * LOG2E; /* maximum and scores are exponents of 2 */
    for (int64_t i = 0; i < rows; i++) {
        maximum[i] = -INFINITY;
        total[i] = 0;
        memset(y + i * W, 0, (size_t)a->D * sizeof *y);
    }
    int64_t keys = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    for (int64_t k0 = 0; k0 < keys; k0 += TK) {
        int64_t n = CN_MIN(TK, keys - k0);
        small_product(n, rows, a->D, kt + k0 * a->D, TK, q, W, false, tile, TK);
        for (int64_t i = 0; i < rows; i++) {
            float *s = tile + i * TK, top = maximum[i], sum = 0;
            int64_t seen = a->causal ? CN_MAX(0, CN_MIN(n, q0 + i + 1 - k0)) : n;
#pragma omp simd reduction(max : top)
            for (int64_t j = 0; j < seen; j++) top = s[j] * scale > top ? s[j] * scale : top;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < seen; j++) {
                s[j] = fast_exp2(s[j] * scale - top);
                sum += s[j];
            }
            for (int64_t j = seen; j < n; j++) s[j] = 0;
            float fade = maximum[i] == top ? 1.0f : exp2f(maximum[i] - top);
            if (fade != 1.0f)
                for (int64_t d = 0; d < a->D; d++) y[i * W + d] *= fade;
            total[i] = total[i] * fade + sum;
            maximum[i] = top;
        }
        small_product(a->D, rows, n, v + k0 * W, W, tile, TK, true, y, W);
    }
    for (int64_t i = 0; i < rows; i++) {
        float inverse = 1.0f / total[i];
        for (int64_t d = 0; d < a->D; d++) y[i * W + d] *= inverse;
        if (lse) lse[i] = maximum[i] * LN2 + logf(total[i]);
    }
}

static size_t forward_worker_floats(void)
{
    return align16((size_t)TQ * TK + 2 * TQ);
}

void CN_K(attention)(const cn_attention_args *a)
{
    int64_t W = a->heads * a->D, heads = a->N * a->heads, tiles = (a->L + TQ - 1) / TQ;
    float *kt = (float *)a->scratch;
    int64_t kt_head = kt_head_floats(a->M, a->D);
    size_t kt_floats = align16((size_t)(heads * kt_head));
#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < heads; h++)
        tile_keys(a->k + (h / a->heads) * a->M * W + h % a->heads * a->D, W, a->M, a->D,
                  kt + h * kt_head);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < heads * tiles; t++) {
        int64_t h = t / tiles, q0 = t % tiles * TQ, n = h / a->heads, rows = CN_MIN(TQ, a->L - q0);
        int64_t at = (n * a->L + q0) * W + h % a->heads * a->D;
        float *tile = kt + kt_floats + (size_t)omp_get_thread_num() * forward_worker_floats();
        forward_tile(a, a->q + at, kt + h * kt_head, a->v + n * a->M * W + h % a->heads * a->D,
                     a->y + at, a->lse ? a->lse + h * a->L + q0 : NULL, q0, rows, tile,
                     tile + TQ * TK, tile + TQ * TK + TQ);
    }
}

/* --- gradient ------------------------------------------------------------------------------------ */

/* A worker's room: P^T and dS^T tiles [TK][TQ], dS [TQ][TK], Q^T and dY^T [D][TQ], row sums [TQ]. */
static size_t grad_worker_floats(int64_t D)
{
    return align16(3 * (size_t)TQ * TK + 2 * (size_t)(D * TQ) + TQ);
}

/* How many parts the queries of a head are cut into, so that all workers have something to do. */
static int64_t grad_parts(int64_t heads, int64_t L, int threads)
{
    if (heads >= threads) return 1;
    return CN_MIN((threads + heads - 1) / heads, (L + TQ - 1) / TQ);
}

typedef struct head_job {
    const float *q, *k, *v, *y, *dy, *lse;
    float *dq, *dk, *dv; /* dk and dv with stride dk_stride */
    int64_t q_first, q_end, dk_stride;
} head_job;

/* P^T and dS^T of one tile pair. */
static void grad_tile(const cn_attention_args *a, const head_job *j, int64_t q0, int64_t rows,
                      int64_t k0, int64_t n, const float *qt, const float *dyt, const float *dot,
                      float *p, float *ds)
{
    int64_t W = a->heads * a->D;
    small_product(rows, n, a->D, qt, TQ, j->k + k0 * W, W, false, p, TQ);
    small_product(rows, n, a->D, dyt, TQ, j->v + k0 * W, W, false, ds, TQ);
    const float *lse = j->lse + q0;
    for (int64_t c = 0; c < n; c++) {
        float *pc = p + c * TQ, *dc = ds + c * TQ;
        int64_t hidden = a->causal ? CN_MAX(0, CN_MIN(rows, k0 + c - q0)) : 0;
        for (int64_t i = 0; i < hidden; i++) pc[i] = dc[i] = 0;
#pragma omp simd
        for (int64_t i = hidden; i < rows; i++) {
            float e = fast_exp2((pc[i] * a->scale - lse[i]) * LOG2E);
            pc[i] = e;
            dc[i] = e * (dc[i] - dot[i]) * a->scale;
        }
    }
}

static void grad_queries(const cn_attention_args *a, const head_job *j, int64_t q0, float *room)
{
    int64_t W = a->heads * a->D, rows = CN_MIN(TQ, j->q_end - q0), D = a->D;
    float *p = room, *ds = p + TQ * TK, *dst = ds + TQ * TK, *qt = dst + TQ * TK,
          *dyt = qt + D * TQ;
    float *dot = dyt + D * TQ;
    const float *q = j->q + q0 * W, *dy = j->dy + q0 * W, *y = j->y + q0 * W;
    transpose(q, W, rows, D, qt, TQ);
    transpose(dy, W, rows, D, dyt, TQ);
    for (int64_t i = 0; i < rows; i++) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t d = 0; d < D; d++) s += dy[i * W + d] * y[i * W + d];
        dot[i] = s;
        if (j->dq) memset(j->dq + (q0 + i) * W, 0, (size_t)D * sizeof(float));
    }
    int64_t keys = a->causal ? CN_MIN(a->M, q0 + rows) : a->M;
    for (int64_t k0 = 0; k0 < keys; k0 += TK) {
        int64_t n = CN_MIN(TK, keys - k0);
        grad_tile(a, j, q0, rows, k0, n, qt, dyt, dot, p, ds);
        if (j->dv)
            small_product(D, n, rows, dy, W, p, TQ, true, j->dv + k0 * j->dk_stride, j->dk_stride);
        if (j->dk)
            small_product(D, n, rows, q, W, ds, TQ, true, j->dk + k0 * j->dk_stride, j->dk_stride);
        if (j->dq) {
            transpose(ds, TQ, n, rows, dst, TK); /* [keys][queries] -> [queries][keys] */
            small_product(D, rows, n, j->k + k0 * W, W, dst, TK, true, j->dq + q0 * W, W);
        }
    }
}

static void clear_rows(float *x, int64_t stride, int64_t rows, int64_t D)
{
    for (int64_t r = 0; x && r < rows; r++) memset(x + r * stride, 0, (size_t)D * sizeof *x);
}

/* dk and dv of a head from its parts' copies. */
static void sum_parts(const float *copies, int64_t parts, int64_t part_stride, int64_t rows,
                      int64_t D, float *out, int64_t out_stride)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < D; d++) {
            float s = 0;
            for (int64_t p = 0; p < parts; p++) s += copies[p * part_stride + r * D + d];
            out[r * out_stride + d] = s;
        }
}

void CN_K(attention_grad)(const cn_attention_args *a)
{
    int64_t W = a->heads * a->D, heads = a->N * a->heads;
    int64_t parts = grad_parts(heads, a->L, a->threads);
    int64_t tiles = (a->L + TQ - 1) / TQ, tiles_per_part = (tiles + parts - 1) / parts;
    float *copies = (float *)a->scratch;
    int64_t copy = a->M * a->D; /* per head and part: dk, then dv */
    size_t copies_floats = parts > 1 ? align16((size_t)(heads * parts * 2 * copy)) : 0;
#pragma omp parallel for schedule(static, 1)
    for (int64_t t = 0; t < heads * parts; t++) {
        int64_t h = t / parts, part = t % parts, n = h / a->heads, at = h % a->heads * a->D;
        int64_t qo = n * a->L * W + at, ko = n * a->M * W + at;
        float *own = copies + t * 2 * copy;
        head_job j = {.q = a->q + qo,
                      .k = a->k + ko,
                      .v = a->v + ko,
                      .y = a->y + qo,
                      .dy = a->dy + qo,
                      .lse = a->lse + h * a->L,
                      .dq = a->dq ? a->dq + qo : NULL,
                      .dk = !a->dk      ? NULL
                            : parts > 1 ? own
                                        : a->dk + ko,
                      .dv = !a->dv      ? NULL
                            : parts > 1 ? own + copy
                                        : a->dv + ko,
                      .q_end = a->L,
                      .dk_stride = parts > 1 ? a->D : W};
        clear_rows(j.dk, j.dk_stride, a->M, a->D);
        clear_rows(j.dv, j.dk_stride, a->M, a->D);
        float *room =
            copies + copies_floats + (size_t)omp_get_thread_num() * grad_worker_floats(a->D);
        int64_t first = part * tiles_per_part, end = CN_MIN(tiles, first + tiles_per_part);
        for (int64_t i = first; i < end; i++) grad_queries(a, &j, i * TQ, room);
    }
    if (parts == 1) return;
#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < heads; h++) {
        int64_t ko = h / a->heads * a->M * W + h % a->heads * a->D;
        float *own = copies + h * parts * 2 * copy;
        if (a->dk) sum_parts(own, parts, 2 * copy, a->M, a->D, a->dk + ko, W);
        if (a->dv) sum_parts(own + copy, parts, 2 * copy, a->M, a->D, a->dv + ko, W);
    }
}
