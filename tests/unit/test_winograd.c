/* SPDX-License-Identifier: Apache-2.0 */
/* test_winograd.c - the kernels of Winograd's convolution and of its weights' gradient in every
 * variant that the processor runs: against a naive sum in double, for every order of weights and
 * every type that they are stored in, with sums and activations, by one to five threads, with the
 * same bytes at every run. And which convolutions are computed by it. */
#include "cpu/isa.h"
#include "cpu/conv_algo.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TAPS = 9, RUN = 16 };

typedef struct shape {
    int64_t N, H, W, I, O;
    int top, left, bottom, right;
    cn_weight_runs runs;
    cn_dtype type;
    bool sums; /* residual and shift */
    cn_act act;
    cn_dtype in, out; /* of the pictures */
} shape;

typedef struct work {
    cn_conv_args a;
    int64_t *places;
    float *x, *w, *bias, *residual, *shift, *wanted; /* what the stored ones are worth */
    void *stored_x, *stored_w, *stored_residual, *stored_shift, *y;
} work;

static float *noise(const char *key, float scale, int64_t n)
{
    float *x = cn_alloc_array(NULL, (size_t)n, sizeof *x);
    assert_non_null(x);
    cn_seed_tensor(key, 0, scale, x, n);
    return x;
}

/* x in elements of a type, and x as these are worth. */
static void *stored_as(cn_dtype type, float *x, int64_t n)
{
    void *stored = cn_alloc_array(NULL, (size_t)n, cn_dtype_bytes(type));
    assert_non_null(stored);
    cn_from_f32(type, x, stored, (size_t)n);
    cn_to_f32(type, stored, x, (size_t)n);
    return stored;
}

/* [run / 16][tap][pair of other][16][2]: what oneDNN's products of bfloat16 want of (run, other) =
 * (outputs, inputs). */
static void place_pairs(int64_t *runs, int64_t n_runs, int64_t *others, int64_t n_others,
                        int64_t *tap)
{
    const int64_t others_up = (n_others + 1) / 2 * 2, each = RUN * others_up;
    for (int64_t i = 0; i < n_runs; i++) runs[i] = i / RUN * TAPS * each + i % RUN * 2;
    for (int64_t i = 0; i < n_others; i++) others[i] = i / 2 * 2 * RUN + i % 2;
    for (int k = 0; k < TAPS; k++) tap[k] = k * each;
}

/* Runs of 16 outputs or inputs with a stride of 32, pairs, or the published order. */
static void place_weights(work *t, cn_weight_runs runs)
{
    cn_conv_args *a = &t->a;
    const int64_t I = a->I, O = a->O, run = 2 * RUN;
    int64_t *out = t->places, *in = out + O, *tap = in + I;
    a->at_out = out;
    a->at_in = in;
    a->at_tap = tap;
    a->runs = runs;
    if (runs == CN_PAIRS_OUT) {
        place_pairs(out, O, in, I, tap);
        return;
    }
    if (runs == CN_PAIRS_IN) {
        place_pairs(in, I, out, O, tap);
        return;
    }
    for (int k = 0; k < TAPS; k++)
        tap[k] = runs == CN_RUNS_OUT ? k * I * run : runs == CN_RUNS_IN ? k * O * run : k;
    for (int64_t o = 0; o < O; o++)
        out[o] = runs == CN_RUNS_OUT  ? o / run * (TAPS * I * run) + o % run
                 : runs == CN_RUNS_IN ? o * run
                                      : o * I * TAPS;
    for (int64_t i = 0; i < I; i++)
        in[i] = runs == CN_RUNS_OUT  ? i * run
                : runs == CN_RUNS_IN ? i / run * (TAPS * O * run) + i % run
                                     : i * TAPS;
}

static int64_t outputs_of(const cn_conv_args *a)
{
    return a->N * a->h * a->w * a->O;
}

/* Whole runs at the ends included. */
static int64_t weights_of(const shape *s)
{
    return TAPS * (s->I + 32) * (s->O + 32);
}

static void set_up(const shape *s, work *t)
{
    cn_conv_args *a = &t->a;
    *a = (cn_conv_args){.N = s->N,
                        .H = s->H,
                        .W = s->W,
                        .I = s->I,
                        .h = s->H + s->top + s->bottom - 2,
                        .w = s->W + s->left + s->right - 2,
                        .O = s->O,
                        .O_apart = s->O,
                        .top = s->top,
                        .left = s->left,
                        .type = s->in,
                        .result = s->out,
                        .weight_type = s->type,
                        .act = s->act,
                        .act_alpha = 0.2f};
    const int64_t outputs = outputs_of(a);
    const int64_t weights = weights_of(s);
    t->places = cn_alloc_array(NULL, (size_t)(s->I + s->O + TAPS), sizeof *t->places);
    assert_non_null(t->places);
    place_weights(t, s->runs);
    const int64_t inputs = a->N * a->H * a->W * a->I;
    t->x = noise("x", 1, inputs);
    t->w = noise("w", 1 / sqrtf((float)(TAPS * s->I)), weights);
    t->bias = noise("bias", 1, a->O);
    t->residual = noise("residual", 1, outputs);
    t->shift = noise("shift", 1, a->N * a->O);
    t->wanted = noise("y", 1, outputs);
    t->y = cn_alloc_array(NULL, (size_t)outputs, cn_dtype_bytes(s->out));
    assert_non_null(t->y);
    a->x = t->stored_x = stored_as(s->in, t->x, inputs);
    a->weights = t->stored_w = stored_as(s->type, t->w, weights);
    t->stored_residual = stored_as(s->out, t->residual, outputs);
    t->stored_shift = stored_as(s->out, t->shift, a->N * a->O);
    a->bias = t->bias;
    a->residual = s->sums ? t->stored_residual : NULL;
    a->shift = s->sums ? t->stored_shift : NULL;
    a->y = t->y;
}

static void tear_down(work *t)
{
    void *all[] = {t->places,       t->x,      t->w,        t->bias,     t->residual,
                   t->shift,        t->wanted, t->stored_x, t->stored_w, t->stored_residual,
                   t->stored_shift, t->y};
    for (size_t i = 0; i < CN_COUNT(all); i++) cn_free(all[i]);
}

static double naive_sum(const work *t, int64_t n, int64_t y, int64_t x, int64_t o)
{
    const cn_conv_args *a = &t->a;
    double sum = 0;
    for (int k = 0; k < TAPS; k++) {
        const int64_t row = y - a->top + k / 3, column = x - a->left + k % 3;
        if (row < 0 || row >= a->H || column < 0 || column >= a->W) continue;
        const float *pixel = t->x + ((n * a->H + row) * a->W + column) * a->I;
        for (int64_t i = 0; i < a->I; i++)
            sum += (double)pixel[i] * (double)t->w[a->at_out[o] + a->at_in[i] + a->at_tap[k]];
    }
    return sum;
}

static double naive_act(const cn_conv_args *a, double v)
{
    if (a->act == CN_ACT_RELU) return v > 0 ? v : 0;
    if (a->act == CN_ACT_RELU6) return fmin(fmax(v, 0), 6);
    if (a->act == CN_ACT_LEAKY_RELU) return v > 0 ? v : (double)a->act_alpha * v;
    return v;
}

static void naive(work *t)
{
    const cn_conv_args *a = &t->a;
    int64_t at = 0;
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t y = 0; y < a->h; y++)
            for (int64_t x = 0; x < a->w; x++)
                for (int64_t o = 0; o < a->O; o++, at++) {
                    double v = naive_sum(t, n, y, x, o) + (double)a->bias[o];
                    if (a->residual) v += (double)t->residual[at];
                    if (a->shift) v += (double)t->shift[n * a->O + o];
                    t->wanted[at] = (float)naive_act(a, v);
                }
}

static size_t result_bytes(const cn_conv_args *a)
{
    return (size_t)outputs_of(a) * cn_dtype_bytes(a->result);
}

static void run(const cn_kernels *k, work *t, int threads)
{
    t->a.threads = threads;
    omp_set_num_threads(threads);
    const cn_wino_size s = cn_wino_size_of(&t->a);
    const size_t floats = s.shared_floats + s.thread_floats * (size_t)threads;
    float *scratch = cn_alloc_array(NULL, floats, sizeof *scratch);
    assert_non_null(scratch);
    memset(scratch, 0xff, floats * sizeof *scratch); /* NaN: nothing unwritten is read */
    t->a.scratch = (char *)scratch;
    memset(t->y, 0xff, result_bytes(&t->a));
    k->winograd(&t->a);
    cn_free(scratch);
}

/* Sums of 9 I products in f32 behind transformations that take another bit or two: 1e-5 of the
 * largest. A result in bfloat16 is rounded once more, by 2^-8 of itself at most. */
static void compare(const work *t, const char *isa, int threads)
{
    const int64_t n = outputs_of(&t->a);
    float *y = cn_alloc_array(NULL, (size_t)n, sizeof *y);
    assert_non_null(y);
    cn_to_f32(t->a.result, t->y, y, (size_t)n);
    double most = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        const double want = fabs((double)t->wanted[i]);
        double e = fabs((double)y[i] - (double)t->wanted[i]);
        if (t->a.result == CN_BF16) e -= want / 256;
        most = fmax(most, want);
        if (!(e <= off)) off = e;
    }
    cn_free(y);
    if (!(off <= 1e-5 * most))
        fail_msg("%s, %d threads, %lldx%lldx%lld to %lld: %g off, largest %g", isa, threads,
                 (long long)t->a.H, (long long)t->a.W, (long long)t->a.I, (long long)t->a.O, off,
                 most);
}

static void check(const cn_kernels *k, const shape *s)
{
    work t;
    set_up(s, &t);
    naive(&t);
    const size_t bytes = result_bytes(&t.a);
    void *before = cn_alloc(NULL, bytes);
    assert_non_null(before);
    for (int threads = 1; threads <= 5; threads++) {
        run(k, &t, threads);
        compare(&t, k->isa, threads);
        memcpy(before, t.y, bytes);
        run(k, &t, threads);
        assert_memory_equal(before, t.y, bytes);
    }
    cn_free(before);
    tear_down(&t);
}

/* The gradient of weight (i, o) at position k. */
static double naive_gradient(const work *t, const float *dy, int64_t i, int64_t o, int k)
{
    const cn_conv_args *a = &t->a;
    double sum = 0;
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t y = 0; y < a->h; y++)
            for (int64_t x = 0; x < a->w; x++) {
                const int64_t row = y - a->top + k / 3, column = x - a->left + k % 3;
                if (row < 0 || row >= a->H || column < 0 || column >= a->W) continue;
                sum += (double)t->x[((n * a->H + row) * a->W + column) * a->I + i] *
                       (double)dy[((n * a->h + y) * a->w + x) * a->O + o];
            }
    return sum;
}

/* In f32 as the convolution: 1e-5 of the largest. */
static void compare_gradient(const work *t, const float *wanted, const char *isa)
{
    const cn_conv_args *a = &t->a;
    double most = 0, off = 0;
    for (int64_t i = 0; i < a->I; i++)
        for (int64_t o = 0; o < a->O; o++)
            for (int k = 0; k < TAPS; k++) {
                const int64_t at = a->at_in[i] + a->at_out[o] + a->at_tap[k];
                const double e = fabs((double)a->dw[at] - (double)wanted[at]);
                most = fmax(most, fabs((double)wanted[at]));
                if (!(e <= off)) off = e;
            }
    if (!(off <= 1e-5 * most))
        fail_msg("%s, %d threads, gradient of %lldx%lldx%lld to %lld: %g off, largest %g", isa,
                 a->threads, (long long)a->H, (long long)a->W, (long long)a->I, (long long)a->O,
                 off, most);
}

static void run_gradient(const cn_kernels *k, work *t, int threads, size_t bytes)
{
    t->a.threads = threads;
    omp_set_num_threads(threads);
    const cn_wino_size s = cn_wino_dw_size_of(&t->a);
    const size_t scratch = (s.shared_floats + s.thread_floats * (size_t)threads) * sizeof(float);
    t->a.scratch = cn_alloc(NULL, scratch);
    assert_non_null(t->a.scratch);
    memset(t->a.scratch, 0xff, scratch);
    memset(t->a.dw, 0xff, bytes);
    k->winograd_dw(&t->a);
    cn_free(t->a.scratch);
}

static void check_gradient(const cn_kernels *k, const shape *s)
{
    work t;
    set_up(s, &t);
    const int64_t weights = weights_of(s), outputs = outputs_of(&t.a);
    const size_t bytes = (size_t)weights * sizeof(float);
    float *dy = noise("dy", 1, outputs), *wanted = noise("wanted", 1, weights);
    float *dw = noise("dw", 1, weights), *before = noise("before", 1, weights);
    void *stored_dy = stored_as(s->in, dy, outputs);
    t.a.dy = stored_dy;
    t.a.dw = dw;
    for (int64_t i = 0; i < s->I; i++)
        for (int64_t o = 0; o < s->O; o++)
            for (int n = 0; n < TAPS; n++)
                wanted[t.a.at_in[i] + t.a.at_out[o] + t.a.at_tap[n]] =
                    (float)naive_gradient(&t, dy, i, o, n);
    for (int threads = 1; threads <= 5; threads++) {
        run_gradient(k, &t, threads, bytes);
        compare_gradient(&t, wanted, k->isa);
        memcpy(before, dw, bytes);
        run_gradient(k, &t, threads, bytes);
        assert_memory_equal(before, dw, bytes);
    }
    void *all[] = {dy, wanted, dw, before, stored_dy};
    for (size_t i = 0; i < CN_COUNT(all); i++) cn_free(all[i]);
    tear_down(&t);
}

static const shape shapes[] = {
    {1, 8, 8, 64, 64, 1, 1, 1, 1, CN_RUNS_OUT, CN_F32, false, CN_ACT_NONE, CN_F32, CN_F32},
    {2, 5, 7, 19, 37, 1, 1, 1, 1, CN_RUNS_OUT, CN_F32, true, CN_ACT_NONE, CN_F32, CN_F32},
    {1, 9, 6, 80, 100, 0, 2, 1, 1, CN_RUNS_OUT, CN_F16, true, CN_ACT_RELU, CN_F32, CN_F32},
    {3, 4, 4, 16, 16, 2, 2, 2, 2, CN_RUNS_IN, CN_F32, true, CN_ACT_LEAKY_RELU, CN_F32, CN_F32},
    {1, 11, 13, 130, 48, 1, 1, 1, 1, CN_RUNS_IN, CN_BF16, false, CN_ACT_RELU6, CN_F32, CN_F32},
    {1, 3, 3, 5, 3, 1, 1, 1, 1, CN_NO_RUNS, CN_F16, true, CN_ACT_NONE, CN_F32, CN_F32},
    {1, 7, 5, 33, 17, 0, 0, 0, 0, CN_NO_RUNS, CN_F32, false, CN_ACT_NONE, CN_F32, CN_F32},
    {1, 50, 47, 8, 12, 1, 1, 1, 1, CN_RUNS_OUT, CN_F32, true, CN_ACT_NONE, CN_F32, CN_F32},
    /* two blocks of tiles before; of bfloat16 from here */
    {1, 8, 9, 64, 48, 1, 1, 1, 1, CN_PAIRS_OUT, CN_BF16, true, CN_ACT_NONE, CN_BF16, CN_F32},
    {2, 5, 7, 19, 37, 1, 1, 1, 1, CN_PAIRS_OUT, CN_F32, true, CN_ACT_RELU, CN_BF16, CN_BF16},
    {1, 9, 6, 50, 100, 0, 2, 1, 1, CN_PAIRS_IN, CN_BF16, false, CN_ACT_NONE, CN_BF16, CN_F32},
    {1, 6, 6, 35, 33, 1, 1, 1, 1, CN_PAIRS_IN, CN_F32, true, CN_ACT_NONE, CN_BF16, CN_BF16},
    {1, 7, 5, 33, 17, 0, 0, 0, 0, CN_NO_RUNS, CN_F16, true, CN_ACT_NONE, CN_F32, CN_BF16},
};

static void test_every_variant_against_naive_sums(void **state)
{
    (void)state;
    cn_cpu_cap_generated();
    for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++)
        for (size_t i = 0; i < CN_COUNT(shapes); i++) {
            check(cn_cpu_kernels((cn_isa)isa), &shapes[i]);
            check_gradient(cn_cpu_kernels((cn_isa)isa), &shapes[i]);
        }
}

static cn_dnnl_conv_shape picture(int64_t N, int64_t H, int64_t W, int64_t I, int64_t O, int pad)
{
    return (cn_dnnl_conv_shape){.N = N,
                                .H = H,
                                .W = W,
                                .I = I,
                                .O = O,
                                .h = H + 2 * pad - 2,
                                .w = W + 2 * pad - 2,
                                .kernel_h = 3,
                                .kernel_w = 3,
                                .stride = 1,
                                .dilation = 1,
                                .groups = 1,
                                .pad = {pad, pad, pad, pad}};
}

static bool by_winograd(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16)
{
    return cn_conv_algo_choose(kind, c, bf16, 2) == CN_CONV_WINOGRAD;
}

/* Forward and gradient, on a processor with AVX512_BF16. */
static bool pays(cn_dnnl_conv_shape c)
{
    return by_winograd(CN_DNNL_CONV, &c, CN_BF16_AVX512) &&
           by_winograd(CN_DNNL_CONV_DX, &c, CN_BF16_AVX512);
}

static void test_which_convolutions(void **state)
{
    (void)state;
    /* tests/ops/test_conv.c's */
    assert_true(pays(picture(2, 13, 11, 50, 70, 1)));
    assert_true(pays(picture(1, 16, 22, 64, 130, 1)));
    assert_true(pays(picture(3, 12, 9, 100, 33, 1)));
    assert_true(pays(picture(1, 20, 22, 66, 48, 0)));
    assert_true(pays(picture(1, 50, 50, 32, 32, 1)));
    /* SD 1.5's levels */
    assert_true(pays(picture(1, 64, 64, 320, 320, 1)));
    assert_true(pays(picture(1, 16, 16, 1280, 1280, 1)));
    assert_true(pays(picture(1, 512, 512, 128, 128, 1)));
    /* too few tiles or channels to pay for the transformations */
    assert_false(pays(picture(1, 4, 4, 1280, 1280, 1)));
    assert_false(pays(picture(1, 64, 64, 4, 320, 1)));
    const cn_dnnl_conv_shape good = picture(1, 64, 64, 320, 320, 1);
    assert_true(by_winograd(CN_DNNL_CONV_DW, &good, CN_BF16_AVX512));
    /* direct products of bfloat16 are twice as fast, by AMX far more */
    cn_dnnl_conv_shape c = good;
    c.type = CN_BF16;
    assert_true(pays(c));
    assert_false(by_winograd(CN_DNNL_CONV, &c, CN_BF16_AMX));
    assert_false(by_winograd(CN_DNNL_CONV_DW, &c, CN_BF16_AMX));
    c = picture(1, 8, 8, 1280, 1280, 1);
    c.type = CN_BF16;
    assert_false(by_winograd(CN_DNNL_CONV, &c, CN_BF16_AVX512));
    assert_false(by_winograd(CN_DNNL_CONV_DX, &c, CN_BF16_AVX512));
    assert_false(by_winograd(CN_DNNL_CONV_DW, &c, CN_BF16_AVX512));
    c = good;
    c.stride = 2;
    assert_false(pays(c));
    c = good;
    c.dilation = 2;
    assert_false(pays(c));
    c = good;
    c.groups = 320;
    assert_false(pays(c));
    c = good;
    c.kernel_w = 1;
    assert_false(pays(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant_against_naive_sums),
        cmocka_unit_test(test_which_convolutions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
