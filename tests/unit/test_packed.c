/* SPDX-License-Identifier: Apache-2.0 */
/* test_packed.c - products of locked weights, which the backend packs: in every storage type,
 * forward, through the data gradient, and when such a weight is trained after all. */
#include "../support/unit/unit_env.h"

#include <math.h>
#include <stdlib.h>

/* x [R,I] -> a (trained) [I,I] -> b [O,I] -> loss */
typedef struct net {
    cn_params *params;
    cn_graph *graph;
    cn_plan *plan;
    cn_node *x, *y, *target, *loss;
} net;

static bool only_a(const char *name)
{
    return name[0] == 'a';
}

static void create_params(net *n, cn_dtype compute, cn_dtype storage)
{
    must(cn_params_create(env.ctx, "net", &n->params));
    cn_params_set_compute(n->params, compute);
    cn_params_set_storage(n->params, storage);
}

static void build(net *n, int64_t R, int64_t I, int64_t O)
{
    must(cn_graph_create(env.ctx, &n->graph));
    cn_graph_use(n->graph, n->params);
    n->x = cn_input(n->graph, "x", CN_F32, 2, (int64_t[]){R, I}, false);
    n->y = cn_linear(n->graph, "b", cn_linear(n->graph, "a", n->x, I, true), O, true);
    n->target = cn_input(n->graph, "target", CN_F32, 2, (int64_t[]){R, O}, false);
    n->loss = cn_loss_node(n->graph, CN_LOSS_MSE, n->y, n->target);
}

static void plan(net *n, bool gradients)
{
    if (gradients) must(cn_graph_backward(n->graph, n->loss));
    must(cn_plan_create(env.ctx, n->graph, env.backend, (cn_node *[]){n->y, n->loss}, 2, gradients,
                        &n->plan));
}

static void unplan(net *n)
{
    cn_plan_destroy(n->plan);
    cn_graph_destroy(n->graph);
}

static void destroy(net *n)
{
    unplan(n);
    cn_params_destroy(n->params);
}

static void run(net *n)
{
    cn_seed_tensor("x", 0, 1, cn_plan_data(n->plan, n->x), cn_node_elements(n->x));
    cn_seed_tensor("target", 0, 1, cn_plan_data(n->plan, n->target), cn_node_elements(n->target));
    must(cn_plan_run(n->plan));
}

static cn_param *weight(const net *n, const char *name)
{
    cn_param *q = cn_params_find(n->params, name);
    assert_non_null(q);
    return q;
}

/* The values that `from` stores, in the published layout, to `to`. */
static void copy_weight(const net *from, net *to, const char *name)
{
    cn_param *q = weight(from, name);
    float *plain = malloc((size_t)cn_param_elements(q) * sizeof *plain);
    assert_non_null(plain);
    must(cn_param_get(env.backend, env.ctx, q, plain));
    must(cn_param_set(env.backend, env.ctx, weight(to, name), plain));
    free(plain);
}

/* Within `tolerance` of the largest. */
static void assert_close(const float *got, const float *want, int64_t n, float tolerance)
{
    float most = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmaxf(most, fabsf(want[i]));
        worst = fmaxf(worst, fabsf(want[i] - got[i]));
    }
    if (!(worst <= tolerance * most)) fail_msg("off by %g of %g", (double)worst, (double)most);
}

static void assert_same_gradient(const net *a, const net *b, const char *name, float tolerance)
{
    const cn_param *p = weight(a, name);
    float *got = test_gradient_of(&env, a->plan, a->graph, p);
    float *want = test_gradient_of(&env, b->plan, b->graph, weight(b, name));
    assert_non_null(got);
    assert_non_null(want);
    assert_close(got, want, cn_param_elements(p), tolerance);
    free(got);
    free(want);
}

static void assert_same_result(const net *a, const net *b, float tolerance)
{
    float *got = test_values_of(&env, a->plan, a->y), *want = test_values_of(&env, b->plan, b->y);
    assert_close(got, want, cn_node_elements(a->y), tolerance);
    free(got);
    free(want);
}

/* A locked network, then with a trained, then with b too, against the same values in one that is
 * trained from the start. Sums are in F32 in both; BF16 rounds what stands between the layers
 * (2^-9), which a different order of a sum may turn. */
static void compare(int64_t R, int64_t I, int64_t O, cn_dtype compute, cn_dtype storage,
                    bool filled_first)
{
    static const char *const names[] = {"a.weight", "a.bias", "b.weight", "b.bias"};
    const float tolerance = compute == CN_BF16 ? 4e-3f : 2e-5f;
    net packed = {0}, plain = {0};
    create_params(&packed, compute, storage);
    cn_params_set_part(packed.params, only_a);
    create_params(&plain, compute, CN_F32);
    cn_params_set_trainable(plain.params, true);
    build(&packed, R, I, O);
    build(&plain, R, I, O);
    if (!filled_first) plan(&packed, false);
    must(test_fill_params(&env, packed.params, "w.", 0, 1.7f / sqrtf((float)I)));
    if (filled_first) plan(&packed, false);
    plan(&plain, true);
    for (size_t i = 0; i < CN_COUNT(names); i++) copy_weight(&packed, &plain, names[i]);
    assert_int_equal(weight(&packed, "b.weight")->dtype, storage);
    run(&packed);
    run(&plain);
    assert_same_result(&packed, &plain, tolerance);
    for (int trained = 1; trained <= (storage == CN_F32 ? 2 : 1); trained++) {
        unplan(&packed);
        cn_params_set_part(packed.params, trained == 1 ? only_a : NULL);
        cn_params_set_trainable(packed.params, true);
        build(&packed, R, I, O);
        plan(&packed, true);
        run(&packed);
        assert_same_result(&packed, &plain, tolerance);
        assert_same_gradient(&packed, &plain, "a.weight", tolerance);
        if (trained == 2) assert_same_gradient(&packed, &plain, "b.weight", tolerance);
    }
    destroy(&packed);
    destroy(&plain);
}

static void compare_all(cn_dtype compute)
{
    static const int64_t sizes[][3] = {{1, 64, 64}, {77, 96, 320}, {9, 77, 33},  {70, 33, 150},
                                       {5, 19, 3},  {64, 1, 48},   {130, 160, 1}};
    static const cn_dtype storages[] = {CN_F32, CN_F16, CN_BF16, CN_Q8};
    for (size_t i = 0; i < CN_COUNT(sizes); i++)
        for (size_t s = 0; s < CN_COUNT(storages); s++)
            for (int order = 0; order < 2; order++)
                compare(sizes[i][0], sizes[i][1], sizes[i][2], compute, storages[s], order);
}

static void packed_as_plain_f32(void **state)
{
    (void)state;
    compare_all(CN_F32);
}

static void packed_as_plain_bf16(void **state)
{
    (void)state;
    if (!env.backend->computes(env.backend, CN_BF16)) {
        print_message("no bf16 instructions here\n");
        skip();
    }
    compare_all(CN_BF16);
}

/* Values go in and come out exactly, whatever the storage's own rounding, and a set of Q8 has the
 * bytes that the floats in its order give. */
static void layouts_hold_their_values(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{320, 320}, {77, 150}, {1, 3}, {33, 64}, {640, 2560}};
    for (size_t i = 0; i < CN_COUNT(sizes); i++) {
        net f = {0}, q = {0};
        create_params(&f, CN_F32, CN_F32);
        create_params(&q, CN_F32, CN_Q8);
        build(&f, 2, sizes[i][0], sizes[i][1]);
        build(&q, 2, sizes[i][0], sizes[i][1]);
        plan(&f, false);
        plan(&q, false);
        must(test_fill_params(&env, f.params, "w.", 0, 1));
        must(test_fill_params(&env, q.params, "w.", 0, 1));
        const cn_param *w = weight(&f, "b.weight"), *q8 = weight(&q, "b.weight");
        const size_t n = (size_t)cn_param_elements(w);
        float *plain = malloc(n * sizeof *plain), *seeded = malloc(n * sizeof *seeded);
        assert_true(plain && seeded);
        cn_seed_tensor("w.b.weight", 0, 1, seeded, (int64_t)n);
        must(cn_param_get(env.backend, env.ctx, w, plain));
        assert_memory_equal(plain, seeded, n * sizeof *plain);
        unsigned char *codes = malloc(q8->data_bytes);
        assert_non_null(codes);
        cn_from_f32(CN_Q8, w->data, codes, (size_t)cn_param_physical(w));
        assert_memory_equal(codes, q8->data, q8->data_bytes);
        free(plain);
        free(seeded);
        free(codes);
        destroy(&f);
        destroy(&q);
    }
}

/* A weight that a plan reads as it is stays so when a plan that would pack it comes. */
static void later_plans_leave_it(void **state)
{
    (void)state;
    enum { R = 9, I = 64, O = 128 };
    net first = {0};
    create_params(&first, CN_F32, CN_F32);
    cn_params_set_part(first.params, only_a);
    cn_params_set_trainable(first.params, true);
    build(&first, R, I, O);
    plan(&first, true);
    must(test_fill_params(&env, first.params, "w.", 0, 0.3f));
    run(&first);
    float *before = test_values_of(&env, first.plan, first.y);
    cn_params_set_trainable(first.params, false);
    net second = {.params = first.params};
    build(&second, R, I, O);
    plan(&second, false);
    run(&second);
    run(&first);
    float *after = test_values_of(&env, first.plan, first.y);
    float *other = test_values_of(&env, second.plan, second.y);
    assert_memory_equal(before, after, R * O * sizeof *before);
    assert_close(other, before, R * O, 2e-5f);
    free(before);
    free(after);
    free(other);
    unplan(&second);
    destroy(&first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_as_plain_f32), cmocka_unit_test(packed_as_plain_bf16),
        cmocka_unit_test(layouts_hold_their_values), cmocka_unit_test(later_plans_leave_it)};
    return cmocka_run_group_tests(tests, unit_env_open, unit_env_close);
}
