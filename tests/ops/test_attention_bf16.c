/* SPDX-License-Identifier: Apache-2.0 */
/* test_attention_bf16.c - attention on bfloat16, forward and gradient, by each instruction set that
 * this processor has, against double precision on the same rounded operands.
 *
 * Tolerances, of the largest expected value: probabilities are rounded to bfloat16 (2^-9) before
 * they meet the values, and results once more; gradients pass one more such product. 1e-2 and 2e-2
 * leave room for the few roundings that fall together.
 */
#include "../support/env.h"
#include "../support/values.h"

#include "cpu/kernels/bf16/bf16.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const double FORWARD = 1e-2, GRADIENT = 2e-2;

typedef struct shape {
    int64_t N, L, M, D;
    int heads;
    bool causal;
    float q, k_first, k_last; /* added to queries and keys: scores far from 0, and rising or falling
                                 along the keys */
} shape;

static const shape SHAPES[] = {
    {1, 1, 1, 8, 1, false, 0, 0, 0},      {2, 16, 77, 8, 8, false, 0, 0, 0},
    {1, 130, 130, 40, 2, false, 0, 0, 0}, {1, 77, 77, 64, 2, true, 0, 0, 0},
    {1, 65, 65, 80, 2, false, 0, 0, 0},   {1, 33, 77, 160, 2, false, 0, 0, 0},
    {1, 70, 70, 512, 1, false, 0, 0, 0},  {2, 5, 3, 5, 3, false, 0, 0, 0},
    {1, 257, 257, 12, 1, true, 0, 0, 0},  {3, 64, 300, 40, 1, false, 0, 0, 0},
    {1, 600, 31, 16, 4, false, 0, 0, 0},  {1, 9, 513, 33, 3, false, 0, 0, 0},
    {1, 390, 390, 40, 1, true, 0, 0, 0},  {1, 191, 290, 7, 2, false, 0, 0, 0},
    {2, 1, 200, 40, 2, false, 0, 0, 0},   {1, 70, 300, 40, 2, false, -8, 2, 2},
    {1, 70, 300, 40, 2, false, 8, 2, 2},  {1, 70, 300, 40, 2, false, 8, 0, 4},
    {1, 70, 300, 40, 2, false, 8, -4, 4}, {1, 70, 300, 40, 2, false, 8, 4, -4},
    {1, 130, 77, 40, 2, false, -8, 2, 2}, {1, 130, 130, 24, 2, true, 8, -4, 4},
};

enum { Q, K, V, DY, Y, DQ, DK, DV, ARRAYS };

typedef struct problem {
    const shape *s;
    uint16_t *low[ARRAYS];
    double *x[ARRAYS]; /* operands as rounded; results as they should be */
    float *lse;
} problem;

static int64_t length(const shape *s, int i)
{
    const bool keys = i == K || i == V || i == DK || i == DV;
    return s->N * (keys ? s->M : s->L) * s->heads * s->D;
}

/* n elements of bfloat16 with NaN around them, which spoils results of who reads too far. */
enum { GUARD = 1024 };
static uint16_t *guarded(int64_t n)
{
    const size_t bytes = (size_t)(n + 2 * GUARD) * sizeof(uint16_t);
    uint16_t *x = test_alloc(bytes);
    memset(x, 0xff, bytes);
    return x + GUARD;
}

static void lift(const shape *s, int i, float *x)
{
    const int64_t W = s->heads * s->D, keys = length(s, K);
    for (int64_t e = 0; i == Q && e < length(s, Q); e++) x[e] += s->q;
    for (int64_t e = 0; i == K && e < keys; e++)
        x[e] += s->k_first + (s->k_last - s->k_first) * (float)(e / W % s->M) / (float)s->M;
}

static void problem_open(problem *p, const shape *s)
{
    p->s = s;
    for (int i = 0; i < ARRAYS; i++) {
        const int64_t n = length(s, i);
        float *f = test_alloc((size_t)n * sizeof *f);
        char key[16];
        snprintf(key, sizeof key, "operand %d", i);
        cn_seed_tensor(key, 0, 1.5f, f, n);
        lift(s, i, f);
        p->low[i] = guarded(n);
        p->x[i] = test_alloc((size_t)n * sizeof(double));
        cn_from_f32(CN_BF16, f, p->low[i], (size_t)n);
        cn_to_f32(CN_BF16, p->low[i], f, (size_t)n);
        for (int64_t k = 0; k < n; k++) p->x[i][k] = i <= DY ? (double)f[k] : 0;
        free(f);
    }
    p->lse = test_alloc((size_t)(s->N * s->heads * s->L) * sizeof *p->lse);
}

static void problem_close(problem *p)
{
    for (int i = 0; i < ARRAYS; i++) {
        free(p->low[i] - GUARD);
        free(p->x[i]);
    }
    free(p->lse);
}

/* One query: its result and what it adds to the gradients. Offsets of its row and of its head's
 * keys. */
static void query(problem *p, int64_t row, int64_t keys, int64_t seen, double *w)
{
    const shape *s = p->s;
    const int64_t D = s->D, W = s->heads * D;
    const double scale = 1 / sqrt((double)D);
    double top = -INFINITY, sum = 0, dot = 0;
    for (int64_t j = 0; j < seen; j++) {
        w[j] = 0;
        for (int64_t d = 0; d < D; d++) w[j] += p->x[Q][row + d] * p->x[K][keys + j * W + d];
        top = fmax(top, w[j] *= scale);
    }
    for (int64_t j = 0; j < seen; j++) sum += w[j] = exp(w[j] - top);
    for (int64_t j = 0; j < seen; j++)
        for (int64_t d = 0; d < D; d++)
            p->x[Y][row + d] += (w[j] /= d ? 1 : sum) * p->x[V][keys + j * W + d];
    for (int64_t d = 0; d < D; d++) dot += p->x[DY][row + d] * p->x[Y][row + d];
    for (int64_t j = 0; j < seen; j++) {
        double dp = 0;
        for (int64_t d = 0; d < D; d++) dp += p->x[DY][row + d] * p->x[V][keys + j * W + d];
        const double ds = w[j] * (dp - dot) * scale;
        for (int64_t d = 0; d < D; d++) {
            p->x[DV][keys + j * W + d] += w[j] * p->x[DY][row + d];
            p->x[DK][keys + j * W + d] += ds * p->x[Q][row + d];
            p->x[DQ][row + d] += ds * p->x[K][keys + j * W + d];
        }
    }
}

static void solve(problem *p)
{
    const shape *s = p->s;
    const int64_t W = s->heads * s->D;
    double *w = test_alloc((size_t)s->M * sizeof *w);
    for (int64_t n = 0; n < s->N; n++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t i = 0; i < s->L; i++)
                query(p, (n * s->L + i) * W + h * s->D, n * s->M * W + h * s->D,
                      s->causal ? i + 1 : s->M, w);
    free(w);
}

static void expect(const problem *p, int i, const char *what, double tolerance)
{
    const int64_t n = length(p->s, i);
    float *got = test_alloc((size_t)n * sizeof *got), *want = test_alloc((size_t)n * sizeof *want);
    cn_to_f32(CN_BF16, p->low[i], got, (size_t)n);
    for (int64_t k = 0; k < n; k++) want[k] = (float)p->x[i][k];
    const test_error e = test_compare_f32(got, want, n);
    /* a gradient that is 0 (one key) has only its rounding */
    const double largest = fmax(e.max_want, 1e-2);
    if (!(e.max_err <= tolerance * largest))
        fail_msg("%s of [%lld,%lld,%lld] x %d: %g of %g at %lld", what, (long long)p->s->L,
                 (long long)p->s->M, (long long)p->s->D, p->s->heads, e.max_err, e.max_want,
                 (long long)e.at);
    free(got);
    free(want);
}

static void run(problem *p, bool amx, int threads)
{
    const shape *s = p->s;
    cn_attention_args a = {.N = s->N,
                           .L = s->L,
                           .M = s->M,
                           .D = s->D,
                           .heads = s->heads,
                           .causal = s->causal,
                           .scale = 1 / sqrtf((float)s->D),
                           .threads = threads,
                           .amx = amx,
                           .q = p->low[Q],
                           .k = p->low[K],
                           .v = p->low[V],
                           .y = p->low[Y],
                           .lse = p->lse,
                           .dy = p->low[DY],
                           .dq = p->low[DQ],
                           .dk = p->low[DK],
                           .dv = p->low[DV]};
    for (int grad = 0; grad < 2; grad++) {
        const size_t bytes =
            grad ? cn_attention16_grad_scratch_bytes(&a) : cn_attention16_scratch_bytes(&a);
        char *scratch = cn_alloc(NULL, bytes + 64);
        assert_non_null(scratch);
        memset(scratch, 0xff, bytes + 64); /* NaN: nothing may be read before it is written */
        a.scratch = scratch;
        if (grad)
            cn_attention16_grad(&a);
        else
            cn_attention16(&a);
        for (size_t i = bytes; i < bytes + 64; i++) assert_int_equal((uint8_t)scratch[i], 0xff);
        cn_free(scratch);
    }
    expect(p, Y, "y", FORWARD);
    expect(p, DQ, "dq", GRADIENT);
    expect(p, DK, "dk", GRADIENT);
    expect(p, DV, "dv", GRADIENT);
}

static void each_shape(cn_bf16_level level)
{
    test_env env;
    if (cn_bf16_support() < level) {
        print_message("SKIP this processor has no %s\n",
                      level == CN_BF16_AMX ? "AMX" : "AVX512_BF16");
        skip();
    }
    for (int threads = 1; threads <= 3; threads++) {
        assert_true(test_env_open(&env, threads));
        omp_set_num_threads(threads);
        for (size_t i = 0; i < CN_COUNT(SHAPES); i++) {
            problem p;
            problem_open(&p, &SHAPES[i]);
            solve(&p);
            run(&p, level == CN_BF16_AMX, threads);
            problem_close(&p);
        }
        test_env_close(&env);
    }
}

static void by_avx512(void **state)
{
    (void)state;
    each_shape(CN_BF16_AVX512);
}

static void by_amx(void **state)
{
    (void)state;
    each_shape(CN_BF16_AMX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_avx512), cmocka_unit_test(by_amx)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
