/* SPDX-License-Identifier: Apache-2.0 */
/* test_stored.c - weights kept in other types, 8 bits above all: their values, the kernels that
 * make and expand them, layers that read them. */
#include "../support/unit/unit_env.h"
#include "cpu/isa.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 5000 };

/* Every error is at most half a step of its block, and F16's rounding of the step. */
static void assert_near(const float *want, const float *got, int64_t n)
{
    for (int64_t at = 0; at < n; at += CN_Q8_BLOCK) {
        const int64_t end = CN_MIN(n, at + CN_Q8_BLOCK);
        float most = 0;
        for (int64_t i = at; i < end; i++) most = fmaxf(most, fabsf(want[i]));
        for (int64_t i = at; i < end; i++)
            assert_true(fabsf(want[i] - got[i]) <= most * (0.5f / 127 + 1.0f / 1024));
    }
}

static void values_come_back(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 31, 32, 33, 1000, MOST};
    static float x[MOST], y[MOST];
    static unsigned char stored[2 * MOST];
    cn_seed_tensor("values", 0, 3, x, MOST);
    memset(x + 64, 0, 32 * sizeof *x);
    for (size_t i = 0; i < CN_COUNT(sizes); i++) {
        const size_t bytes = cn_dtype_size(CN_Q8, sizes[i]);
        assert_int_equal(bytes, (sizes[i] + 31) / 32 * 34);
        memset(stored, 0xee, sizeof stored);
        cn_from_f32(CN_Q8, x, stored, (size_t)sizes[i]);
        assert_int_equal(stored[bytes], 0xee);
        cn_to_f32(CN_Q8, stored, y, (size_t)sizes[i]);
        assert_near(x, y, sizes[i]);
    }
    for (int i = 64; i < 96; i++) assert_true(y[i] == 0);
}

static void kernels_expand_as_the_base(void **state)
{
    (void)state;
    static float x[MOST], want[MOST], got[MOST];
    static uint16_t want_half[MOST], got_half[MOST];
    static unsigned char stored[2 * MOST];
    cn_seed_tensor("values", 0, 3, x, MOST);
    cn_from_f32(CN_Q8, x, stored, MOST);
    for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++) {
        const cn_kernels *k = cn_cpu_kernels((cn_isa)isa);
        for (int64_t n = 1; n <= MOST; n = n * 3 + 1) {
            cn_to_f32(CN_Q8, stored, want, (size_t)n);
            cn_from_f32(CN_BF16, want, want_half, (size_t)n);
            k->convert(CN_Q8, stored, CN_F32, got, n);
            k->convert(CN_Q8, stored, CN_BF16, got_half, n);
            assert_memory_equal(want, got, (size_t)n * sizeof *got);
            assert_memory_equal(want_half, got_half, (size_t)n * sizeof *got_half);
        }
    }
}

/* From any address, infinities and what is no number among them. */
static void kernels_make_as_the_base(void **state)
{
    (void)state;
    static const cn_dtype from[] = {CN_F32, CN_F16, CN_BF16};
    static const cn_dtype to[] = {CN_F32, CN_F16, CN_BF16, CN_Q8};
    static float x[MOST], read[MOST];
    static unsigned char source[4 * MOST + 1], want[4 * MOST], got[4 * MOST];
    cn_seed_tensor("values", 0, 3, x, MOST);
    memset(x + 64, 0, 32 * sizeof *x);
    x[200] = NAN;
    x[700] = INFINITY;
    x[1500] = 3e38f;
    x[1501] = -1e-40f;
    for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++)
        for (size_t f = 0; f < CN_COUNT(from); f++)
            for (size_t t = 0; t < CN_COUNT(to); t++)
                for (int64_t n = 1; n <= MOST; n = n * 3 + 1) {
                    cn_from_f32(from[f], x, source + 1, (size_t)n);
                    cn_to_f32(from[f], source + 1, read, (size_t)n);
                    cn_from_f32(to[t], read, want, (size_t)n);
                    memset(got, 0xee, sizeof got);
                    cn_cpu_kernels((cn_isa)isa)->convert_alone(from[f], source + 1, to[t], got, n);
                    const size_t bytes = cn_dtype_size(to[t], n);
                    assert_memory_equal(want, got, bytes);
                    if (bytes < sizeof got) assert_int_equal(got[bytes], 0xee);
                }
}

/* A convolution that Winograd takes, two that it doesn't, and a product, all of odd sizes. */
static cn_node *build(cn_graph *g, cn_params *p)
{
    cn_graph_use(g, p);
    cn_node *x = cn_conv2d(g, "a", cn_input4(g, "x", 1, 30, 34, 19), 37, 3, 1, 1);
    x = cn_conv2d(g, "b", x, 45, 3, 1, 1);
    x = cn_conv2d(g, "c", x, 21, 3, 2, 1);
    return cn_linear(g, "d", x, 11, true);
}

/* The network's result with weights kept in `storage`, filled before or after planning; in a new
 * array. */
static float *result_of(cn_params *p, cn_dtype storage, bool planned_first, const cn_params *like)
{
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_params_set_storage(p, storage);
    must(cn_graph_create(env.ctx, &g));
    cn_node *y = build(g, p);
    if (planned_first) must(cn_plan_create(env.ctx, g, env.backend, &y, 1, false, &plan));
    if (!like) must(test_fill_params(&env, p, "w.", 0, 0.3f));
    for (int64_t i = 0; like && i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        float *plain = malloc((size_t)cn_param_elements(q) * sizeof *plain);
        assert_non_null(plain);
        must(cn_param_get(env.backend, env.ctx, cn_params_at(like, i), plain));
        must(cn_param_set(env.backend, env.ctx, q, plain));
        free(plain);
    }
    if (!planned_first) must(cn_plan_create(env.ctx, g, env.backend, &y, 1, false, &plan));
    const cn_node *x = cn_graph_node(g, 0);
    float *values = malloc((size_t)cn_node_elements(x) * sizeof *values);
    assert_non_null(values);
    cn_seed_tensor("x", 0, 1, values, cn_node_elements(x));
    must(cn_plan_set(plan, x, values));
    must(cn_plan_run(plan));
    free(values);
    float *out = test_values_of(&env, plan, y);
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    return out;
}

static void layers_read_them(void **state)
{
    (void)state;
    enum { N = 15 * 17 * 11 };
    for (int order = 0; order < 2; order++) {
        cn_params *small = NULL, *same = NULL;
        must(cn_params_create(env.ctx, "net", &small));
        must(cn_params_create(env.ctx, "net", &same));
        float *got = result_of(small, CN_Q8, order, NULL);
        float *want = result_of(same, CN_F32, true, small); /* the very weights that are stored */
        float most = 0;
        assert_int_equal(cn_params_at(small, 0)->dtype, CN_Q8);
        assert_true(cn_params_bytes(small) < cn_params_bytes(same) * 3 / 10);
        for (int i = 0; i < N; i++) most = fmaxf(most, fabsf(want[i]));
        for (int i = 0; i < N; i++) assert_true(fabsf(got[i] - want[i]) <= 1e-5f * most);
        free(got);
        free(want);
        cn_params_destroy(small);
        cn_params_destroy(same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(kernels_expand_as_the_base),
        cmocka_unit_test(kernels_make_as_the_base),
        cmocka_unit_test(layers_read_them),
    };
    return cmocka_run_group_tests(tests, unit_env_open, unit_env_close);
}
