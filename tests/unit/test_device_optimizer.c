/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_optimizer.c - the optimizer's part of a device, beside the CPU's: AdamW with moments
 * in F32 and in bytes, sums of squares, sums of passes, means, exchanges. Without a device all is
 * skipped. */
#include "../support/unit/unit.h"

#include "device/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Odd, and with a last block that isn't whole. */
enum { N = 20 * CN_QUANT8_BLOCK + 77, BLOCKS = N / CN_QUANT8_BLOCK + 1, STEPS = 4 };

static cn_backend *cpu, *device; /* NULL: there is no device */
static cn_quant8 maps[2];

static int set_up(void **state)
{
    (void)state;
    if (unit_open(2) != 0) return -1;
    if (cn_backend_create(ctx, "vulkan", &device) != CN_OK)
        print_message("SKIP %s\n", cn_error(ctx));
    for (int k = 0; k < 2; k++) cn_quant8_init(&maps[k], k == 0);
    return cn_backend_create(ctx, "cpu", &cpu) == CN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    if (device) device->destroy(device);
    cpu->destroy(cpu);
    return unit_close(state);
}

static void *put(cn_backend *be, const void *from, size_t bytes)
{
    void *at = be->alloc(be, ctx, bytes);
    assert_non_null(at);
    must(be->write(be, ctx, at, from, bytes));
    return at;
}

static void *take(cn_backend *be, void *at, size_t bytes)
{
    void *out = malloc(bytes);
    assert_non_null(out);
    must(be->read(be, ctx, out, at, bytes));
    be->free(be, at, bytes);
    return out;
}

/* Values of very different sizes. */
static float *values(const char *key, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    cn_seed_tensor(key, 0, 1, x, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = ldexpf(x[i] * x[i] * x[i], -(int)(i / CN_QUANT8_BLOCK % 12));
    return x;
}

/* What steps leave: weights and both moments, those in bytes with their scales. */
typedef struct outcome {
    float *w, *m, *v;
    uint8_t *codes[2];
    float *scales[2];
} outcome;

static outcome steps_on(cn_backend *be, bool bytes)
{
    const size_t room = (N + 3) & ~(size_t)3;
    float *w = values("weights", N), *zeros = calloc(N, sizeof *zeros);
    uint8_t *codes[2] = {malloc(room), malloc(room)};
    cn_adamw_step s = {.n = N,
                       .grad_scale = 0.5f,
                       .lr = 1e-2f,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .eps = 1e-8f,
                       .decay = 1e-2f};
    cn_moment *const moments[2] = {&s.m, &s.v};
    assert_non_null(zeros);
    s.weights = put(be, w, N * sizeof *w);
    for (int k = 0; k < 2; k++) {
        assert_non_null(codes[k]);
        memset(codes[k], maps[k].zero, room);
        *moments[k] = bytes ? (cn_moment){.codes = put(be, codes[k], room),
                                          .scales = put(be, zeros, BLOCKS * sizeof *zeros),
                                          .map = &maps[k]}
                            : (cn_moment){.f32 = put(be, zeros, N * sizeof *zeros)};
    }
    for (int k = 1; k <= STEPS; k++) {
        char key[16];
        snprintf(key, sizeof key, "g%d", k);
        float *g = values(key, N);
        s.grad = put(be, g, N * sizeof *g);
        s.correct1 = (float)(1 - pow(0.9, k));
        s.correct2 = (float)(1 - pow(0.999, k));
        must(be->adamw(be, ctx, &s));
        free(take(be, (void *)(uintptr_t)s.grad, N * sizeof *g));
        free(g);
    }
    outcome o = {.w = take(be, s.weights, N * sizeof *w)};
    for (int k = 0; k < 2 && bytes; k++) {
        o.codes[k] = take(be, moments[k]->codes, room);
        o.scales[k] = take(be, moments[k]->scales, BLOCKS * sizeof(float));
    }
    if (!bytes) o.m = take(be, s.m.f32, N * sizeof(float));
    if (!bytes) o.v = take(be, s.v.f32, N * sizeof(float));
    free(w);
    free(zeros);
    free(codes[0]);
    free(codes[1]);
    return o;
}

static void outcome_free(outcome *o)
{
    free(o->w);
    free(o->m);
    free(o->v);
    for (int k = 0; k < 2; k++) free(o->codes[k]);
    for (int k = 0; k < 2; k++) free(o->scales[k]);
}

/* How many differ by more than so much of their block's largest: terms of a sum may cancel. */
static int differing(const float *a, const float *b, int n, float part)
{
    int count = 0;
    for (int from = 0; from < n; from += CN_QUANT8_BLOCK) {
        const int end = CN_MIN(from + CN_QUANT8_BLOCK, n);
        float most = 0;
        for (int i = from; i < end; i++) most = fmaxf(most, fabsf(a[i]));
        for (int i = from; i < end; i++) count += !(fabsf(a[i] - b[i]) <= part * most);
    }
    return count;
}

static void steps_are_the_cpus(void **state)
{
    (void)state;
    if (!device) skip();
    outcome a = steps_on(cpu, false), b = steps_on(device, false);
    /* a few roundings of F32 a step */
    assert_int_equal(differing(a.m, b.m, N, 1e-6f), 0);
    assert_int_equal(differing(a.v, b.v, N, 1e-6f), 0);
    assert_int_equal(differing(a.w, b.w, N, 1e-5f), 0);
    outcome_free(&a);
    outcome_free(&b);
}

/* A moment half way between two codes may get the other one: one unit in its last place decides. */
static void steps_in_bytes_are_the_cpus(void **state)
{
    (void)state;
    if (!device) skip();
    outcome a = steps_on(cpu, true), b = steps_on(device, true);
    for (int k = 0; k < 2; k++) {
        int other = 0;
        for (int i = 0; i < N; i++) {
            other += a.codes[k][i] != b.codes[k][i];
            assert_in_range(abs((int)a.codes[k][i] - (int)b.codes[k][i]), 0, 1);
        }
        assert_in_range(other, 0, N / 500);
        assert_int_equal(differing(a.scales[k], b.scales[k], BLOCKS, 1e-6f), 0);
    }
    assert_in_range(differing(a.w, b.w, N, 1e-5f), 0, N / 500);
    outcome_free(&a);
    outcome_free(&b);
}

static void squares_of_many_are_one_sum(void **state)
{
    (void)state;
    if (!device) skip();
    static const int64_t sizes[] = {1, N, 0, 4096, 300000};
    cn_floats list[CN_COUNT(sizes)];
    double want = 0, got = -1;
    for (size_t k = 0; k < CN_COUNT(sizes); k++) {
        float *x = values("squares", sizes[k] + 1);
        for (int64_t i = 0; i < sizes[k]; i++) want += (double)x[i] * (double)x[i];
        list[k] = (cn_floats){put(device, x, (size_t)(sizes[k] + 1) * sizeof *x), sizes[k]};
        free(x);
    }
    for (int again = 0; again < 2; again++) {
        double sum = 0;
        must(device->sum_squares(device, ctx, list, (int64_t)CN_COUNT(list), &sum));
        assert_true(fabs(sum - want) <= 1e-6 * want);
        assert_true(again == 0 || sum == got); /* the same bytes at each run */
        got = sum;
    }
    must(device->sum_squares(device, ctx, list, 0, &got));
    assert_true(got == 0);
    for (size_t k = 0; k < CN_COUNT(sizes); k++)
        device->free(device, (void *)(uintptr_t)list[k].x, (size_t)(sizes[k] + 1) * sizeof(float));
}

static void sums_means_and_exchanges(void **state)
{
    (void)state;
    if (!device) skip();
    const size_t bytes = N * sizeof(float);
    float *x = values("x", N), *y = values("y", N);
    float *a = put(device, x, bytes), *b = put(device, y, bytes);
    float *c = put(device, y, bytes);
    must(device->accumulate(device, ctx, a, b, N));
    must(device->average(device, ctx, b, a, 0.75f, N));
    must(device->exchange(device, ctx, a, b, N));
    must(device->copy(device, ctx, c, a, bytes)); /* behind the exchange */
    float *sum = take(device, b, bytes), *mean = take(device, a, bytes);
    float *copied = take(device, c, bytes);
    assert_memory_equal(copied, mean, bytes);
    for (int i = 0; i < N; i++) {
        assert_true(sum[i] == x[i] + y[i]);
        const double want = 0.75 * (double)y[i] + 0.25 * ((double)x[i] + (double)y[i]);
        assert_true(fabs((double)mean[i] - want) <=
                    1e-6 * (fabs((double)x[i]) + fabs((double)y[i])));
    }
    free(sum);
    free(mean);
    free(copied);
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_the_cpus),
        cmocka_unit_test(steps_in_bytes_are_the_cpus),
        cmocka_unit_test(squares_of_many_are_one_sum),
        cmocka_unit_test(sums_means_and_exchanges),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
