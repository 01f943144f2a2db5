/* SPDX-License-Identifier: Apache-2.0 */
/* test_debug.c - CN_DUMP writes the values that its pattern asks for, CN_CHECK names the first
 * node that gives a value which isn't finite. */
#include "../support/env.h"
#include "../support/unit/unit.h"

#include "graph/plan.h"
#include "io/npy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 2, C = 3, O = 5 };

/* Two networks with a scope of the same name: y = a(x) + b(x), each a linear layer with a SiLU
 * behind it and the sum of both layers' results. */
typedef struct fixture {
    test_env env;
    cn_graph *g;
    cn_plan *plan;
    cn_params *sets[2];
    cn_node *x, *y;
    float in[N * C];
} fixture;

static cn_node *layer(fixture *f, int k)
{
    cn_graph_use(f->g, f->sets[k]);
    cn_scope_push(f->g, "block.0|down.0");
    cn_node *y = cn_linear(f->g, "in|first", f->x, O, true);
    y = cn_add(f->g, cn_linear(f->g, "out|second", cn_silu(f->g, y), O, true), y);
    cn_scope_pop(f->g);
    return y;
}

static cn_param *weight(const fixture *f, int k, const char *name)
{
    cn_param *q = cn_params_find(f->sets[k], name);
    assert_non_null(q);
    return q;
}

static void open_plan(fixture *f)
{
    memset(f, 0, sizeof *f);
    assert_true(test_env_open(&f->env, 1));
    must(cn_graph_create(f->env.ctx, &f->g));
    must(cn_params_create(f->env.ctx, "unet", &f->sets[0]));
    must(cn_params_create(f->env.ctx, "controlnet", &f->sets[1]));
    f->x = cn_input(f->g, "x", CN_F32, 2, (int64_t[]){N, C}, false);
    cn_node *a = layer(f, 0);
    f->y = cn_add(f->g, layer(f, 1), a);
    must(cn_plan_create(f->env.ctx, f->g, f->env.backend, &f->y, 1, false, &f->plan));
    for (int k = 0; k < 2; k++)
        assert_int_equal(test_fill_params(&f->env, f->sets[k], k ? "b." : "a.", 0, 1), CN_OK);
    cn_seed_tensor("x", 0, 1, f->in, N * C);
    must(cn_plan_set(f->plan, f->x, f->in));
}

static void close_plan(fixture *f)
{
    cn_plan_destroy(f->plan);
    cn_graph_destroy(f->g);
    for (int k = 0; k < 2; k++) cn_params_destroy(f->sets[k]);
    test_env_close(&f->env);
}

static void set_weight(const fixture *f, int k, const char *name, float value)
{
    cn_param *q = weight(f, k, name);
    float v[O * O];
    must(cn_param_get(f->env.backend, f->env.ctx, q, v));
    v[cn_param_elements(q) - 1] = value;
    must(cn_param_set(f->env.backend, f->env.ctx, q, v));
}

/* x W^T + b of a network's first layer, in double. */
static void first_layer(const fixture *f, int k, double out[N * O])
{
    float w[O * C], b[O];
    must(cn_param_get(f->env.backend, f->env.ctx, weight(f, k, "block.0.in.weight"), w));
    must(cn_param_get(f->env.backend, f->env.ctx, weight(f, k, "block.0.in.bias"), b));
    for (int i = 0; i < N * O; i++) {
        out[i] = (double)b[i % O];
        for (int c = 0; c < C; c++)
            out[i] += (double)f->in[i / O * C + c] * (double)w[i % O * C + c];
    }
}

static void expect_dump(const char *name, const double *want, int n)
{
    cn_npy *a = NULL;
    must(cn_npy_load(ctx, name, &a));
    assert_int_equal(a->elements, n);
    for (int i = 0; want && i < n; i++) assert_true(fabs(a->values[i] - want[i]) < 1e-5);
    cn_npy_free(a);
}

static void run_dumping(const char *pattern, int runs, fixture *f)
{
    assert_int_equal(setenv("CN_DUMP", pattern, 1), 0);
    open_plan(f);
    assert_int_equal(unsetenv("CN_DUMP"), 0);
    for (int i = 0; i < runs; i++) must(cn_plan_run(f->plan));
}

/* The first layer's sum with what follows is fused elsewhere: asked for, it has its own value. */
static void networks_and_runs_have_files_of_their_own(void **state)
{
    (void)state;
    fixture f;
    double want[N * O];
    run_dumping("*.block.0.in", 2, &f);
    for (int k = 0; k < 2; k++) {
        first_layer(&f, k, want);
        expect_dump(k ? "controlnet.block.0.in.linear.0.npy" : "unet.block.0.in.linear.0.npy", want,
                    N * O);
        expect_dump(k ? "controlnet.block.0.in.linear.1.npy" : "unet.block.0.in.linear.1.npy", want,
                    N * O);
    }
    close_plan(&f);
}

static void names_in_either_layout_with_or_without_network(void **state)
{
    (void)state;
    static const char *const patterns[] = {"unet.down.0.second", "down.0.second"};
    fixture f;
    for (size_t i = 0; i < CN_COUNT(patterns); i++) {
        run_dumping(patterns[i], 1, &f);
        expect_dump("unet.down.0.second.linear.0.npy", NULL, N * O);
        assert_int_equal(unlink("unet.down.0.second.linear.0.npy"), 0);
        assert_int_equal(unlink("controlnet.down.0.second.linear.0.npy"), i == 0 ? -1 : 0);
        close_plan(&f);
    }
}

static void a_label_tells_two_sets_of_one_network_apart(void **state)
{
    (void)state;
    fixture f;
    open_plan(&f);
    assert_string_equal(cn_params_label(f.sets[1]), "controlnet");
    must(cn_params_set_label(f.sets[1], "controlnet2"));
    assert_string_equal(cn_params_label(f.sets[1]), "controlnet2");
    assert_string_equal(cn_params_network(f.sets[1]), "controlnet");
    close_plan(&f);
}

static void open_checked(fixture *f)
{
    assert_int_equal(setenv("CN_CHECK", "1", 1), 0);
    open_plan(f);
    assert_int_equal(unsetenv("CN_CHECK"), 0);
}

static void expect_stop(fixture *f, const char *words)
{
    assert_int_equal(cn_plan_run(f->plan), CN_EFORMAT);
    if (!strstr(cn_error(f->env.ctx), words))
        fail_msg("\"%s\" lacks \"%s\"", cn_error(f->env.ctx), words);
    close_plan(f);
}

static void the_first_node_is_named(void **state)
{
    (void)state;
    fixture f;
    open_checked(&f);
    must(cn_plan_run(f.plan));
    for (int i = 0; i < N * C; i++) f.in[i] = 1e30f;
    must(cn_plan_set(f.plan, f.x, f.in));
    set_weight(&f, 0, "block.0.in.weight", 3e38f);
    expect_stop(&f, "unet: node block.0.in (linear) gave Inf at [0,4] of 2x5 at step 1");
}

static void a_weight_is_named_before_nodes(void **state)
{
    (void)state;
    fixture f;
    open_checked(&f);
    set_weight(&f, 1, "block.0.out.weight", NAN);
    expect_stop(&f, "controlnet: the weight block.0.out.weight has NaN at [4,4] of 5x5");
}

static void an_input_is_named(void **state)
{
    (void)state;
    fixture f;
    open_checked(&f);
    f.in[4] = -INFINITY;
    must(cn_plan_set(f.plan, f.x, f.in));
    expect_stop(&f, "node x (input) is given -Inf at [1,1] of 2x3 at step 0");
}

/* What the seams of networks do: without CN_CHECK, after a run. */
static void expect_blame(fixture *f, const char *words)
{
    must(cn_plan_run(f->plan));
    assert_int_equal(cn_plan_expect_finite(f->plan, f->y), CN_EFORMAT);
    if (!strstr(cn_error(f->env.ctx), words))
        fail_msg("\"%s\" lacks \"%s\"", cn_error(f->env.ctx), words);
}

static void a_bad_weight_is_blamed_on_its_file(void **state)
{
    (void)state;
    fixture f;
    open_plan(&f);
    must(cn_plan_run(f.plan));
    must(cn_plan_expect_finite(f.plan, f.y));
    must(cn_params_set_source(f.sets[1], "/models/control.safetensors", "control_model.", false));
    set_weight(&f, 1, "block.0.in.bias", INFINITY);
    expect_blame(&f, "/models/control.safetensors: controlnet: the weight "
                     "control_model.block.0.in.bias has Inf at [4] of 5; the file is damaged");
    weight(&f, 1, "block.0.in.bias")->trainable = true;
    must(cn_plan_blame(f.plan, true)); /* may have become so by training */
    close_plan(&f);
}

static void an_overflow_is_blamed_on_its_node(void **state)
{
    (void)state;
    fixture f;
    open_plan(&f);
    must(cn_params_set_source(f.sets[0], "base.safetensors", "", true));
    for (int i = 0; i < N * C; i++) f.in[i] = 1e30f;
    must(cn_plan_set(f.plan, f.x, f.in));
    set_weight(&f, 0, "block.0.in.weight", -3e38f);
    expect_blame(&f, "base.safetensors: unet: node down.0.first (linear) gave -Inf at [0,4] of 2x5 "
                     "at step 0, though all weights are finite");
    must(cn_plan_blame(f.plan, true));
    close_plan(&f);
}

/* Dumps go to the working folder. */
static int set_up(void **state)
{
    (void)state;
    return unit_open(1) || chdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_and_runs_have_files_of_their_own),
        cmocka_unit_test(names_in_either_layout_with_or_without_network),
        cmocka_unit_test(a_label_tells_two_sets_of_one_network_apart),
        cmocka_unit_test(the_first_node_is_named),
        cmocka_unit_test(a_weight_is_named_before_nodes),
        cmocka_unit_test(an_input_is_named),
        cmocka_unit_test(a_bad_weight_is_blamed_on_its_file),
        cmocka_unit_test(an_overflow_is_blamed_on_its_node),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
