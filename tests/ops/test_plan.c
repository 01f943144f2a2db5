/* SPDX-License-Identifier: Apache-2.0 */
/* test_plan.c - buffers that share memory keep their values apart; stable values are computed
 * once. */
#include "../support/env.h"
#include "../support/values.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 2, H = 7, W = 6, C = 9, LAYERS = 24, ELEMENTS = N * H * W * C };

static double silu(double x)
{
    return x / (1 + exp(-x));
}

/* x -> x + 0.5 silu(x) again and again, with every fourth value added in once more much later: a
 * long chain with long and short lifetimes. */
static cn_node *chain(cn_graph *g, cn_node *x)
{
    cn_node *kept[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        x = cn_add(g, x, cn_scale(g, cn_silu(g, x), 0.5f));
        kept[i] = x;
        if (i >= 8 && i % 4 == 0) x = cn_scale(g, cn_add(g, x, kept[i - 7]), 0.5f);
    }
    return x;
}

static double chain_value(double x)
{
    double kept[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        x = x + 0.5 * silu(x);
        kept[i] = x;
        if (i >= 8 && i % 4 == 0) x = (x + kept[i - 7]) * 0.5;
    }
    return x;
}

/* All results that kernels write, were none to share. */
static size_t sum_of_buffers(const cn_graph *g)
{
    size_t sum = 0;
    for (int i = 0; i < cn_graph_size(g); i++) {
        const cn_node *x = cn_graph_node(g, i);
        if (x->op != CN_OP_PARAM && x->op != CN_OP_VIEW)
            sum += (size_t)cn_node_elements(x) * sizeof(float);
    }
    return sum;
}

static void long_chain_in_little_memory(void **state)
{
    (void)state;
    test_env e;
    assert_true(test_env_open(&e, 2));
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    assert_int_equal(cn_graph_create(e.ctx, &g), CN_OK);
    cn_node *x = cn_input4(g, "x", N, H, W, C), *y = chain(g, x);
    assert_int_equal(cn_plan_create(e.ctx, g, e.backend, &y, 1, false, &plan), CN_OK);
    cn_plan_info info;
    cn_plan_info_get(plan, &info);
    assert_true(info.arena_bytes < sum_of_buffers(g) / 4);
    float in[ELEMENTS];
    for (int run = 0; run < 3; run++) {
        cn_seed_tensor(run == 1 ? "second" : "first", 0, 1, in, ELEMENTS);
        assert_int_equal(cn_plan_set(plan, x, in), CN_OK);
        assert_int_equal(cn_plan_run(plan), CN_OK);
        double want[ELEMENTS];
        for (int i = 0; i < ELEMENTS; i++) want[i] = chain_value((double)in[i]);
        /* 24 layers of f32 rounding */
        assert_true(test_relative(test_compare(cn_plan_data(plan, y), want, ELEMENTS)) < 1e-5);
        assert_memory_equal(cn_plan_data(plan, x), in, sizeof in); /* inputs stay */
    }
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    test_env_close(&e);
}

/* A small network with every kind of lifetime, backward included, planned with all its results as
 * outputs (nothing shares) and with the loss alone: the same bytes. */
static cn_node *network(cn_graph *g, cn_params *p, cn_node *x, cn_node *t, cn_node **taps, int *n)
{
    cn_graph_use(g, p);
    cn_node *h = cn_conv2d(g, "in", x, 16, 3, 1, 1), *skip = h;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "block%d", i);
        cn_scope_push(g, name);
        cn_node *r = cn_group_norm(g, "norm", h, 4, 1e-5f, CN_ACT_SILU);
        taps[(*n)++] = r = cn_conv2d(g, "conv", r, 16, 3, 1, 1);
        taps[(*n)++] = h = cn_add(g, h, r);
        cn_node *s = cn_view(g, h, 3, (int64_t[]){N, H * W, 16});
        cn_node *q = cn_linear(g, "q", cn_layer_norm(g, "norm2", s, 1e-5f), 16, false);
        cn_node *a = cn_attention(g, q, cn_linear(g, "k", s, 16, false), s, 2, false, 0);
        taps[(*n)++] = s = cn_add(g, s, cn_geglu(g, cn_linear(g, "ff", a, 32, true)));
        h = cn_view(g, s, 4, (int64_t[]){N, H, W, 16});
        cn_scope_pop(g);
    }
    taps[(*n)++] = h = cn_concat(g, h, skip);
    return cn_loss_node(g, CN_LOSS_MSE, cn_conv2d(g, "out", h, C, 3, 1, 1), t);
}

typedef struct result {
    float loss;
    float *gradients[64];
    int64_t n[64];
} result;

static result run_network(test_env *e, cn_params *p, bool all)
{
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_node *outputs[16];
    int n = 1;
    assert_int_equal(cn_graph_create(e->ctx, &g), CN_OK);
    cn_node *x = cn_input4(g, "x", N, H, W, C), *t = cn_input4(g, "t", N, H, W, C);
    outputs[0] = network(g, p, x, t, outputs, &n);
    result r = {0};
    assert_int_equal(cn_graph_status(g), CN_OK);
    if (!outputs[0]->needs_grad) { /* the first time only declares */
        cn_graph_destroy(g);
        return r;
    }
    assert_int_equal(cn_graph_backward(g, outputs[0]), CN_OK);
    assert_int_equal(cn_plan_create(e->ctx, g, e->backend, outputs, all ? n : 1, true, &plan),
                     CN_OK);
    assert_int_equal(test_fill_params(e, p, "", 0, 0.25f), CN_OK);
    float in[ELEMENTS];
    cn_seed_tensor("x", 0, 1, in, ELEMENTS);
    assert_int_equal(cn_plan_set(plan, x, in), CN_OK);
    cn_seed_tensor("t", 0, 1, in, ELEMENTS);
    assert_int_equal(cn_plan_set(plan, t, in), CN_OK);
    for (int k = 0; k < 2; k++) assert_int_equal(cn_plan_run(plan), CN_OK);
    r.loss = *(const float *)cn_plan_data(plan, outputs[0]);
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        r.gradients[i] = test_gradient_of(e, plan, g, cn_params_at(p, i));
        r.n[i] = cn_param_elements(cn_params_at(p, i));
        assert_non_null(r.gradients[i]);
    }
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    return r;
}

static void sharing_changes_nothing(void **state)
{
    (void)state;
    test_env e;
    assert_true(test_env_open(&e, 2));
    cn_params *p = NULL;
    assert_int_equal(cn_params_create(e.ctx, "net", &p), CN_OK);
    run_network(&e, p, false);
    assert_true(cn_params_count(p) <= 64);
    cn_params_set_trainable(p, true);
    result shared = run_network(&e, p, false), apart = run_network(&e, p, true);
    assert_true(isfinite(shared.loss));
    assert_true(fabsf(shared.loss - apart.loss) <= 1e-6f * apart.loss);
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        /* a fused and an unfused kernel may round differently */
        test_error err = test_compare_f32(shared.gradients[i], apart.gradients[i], shared.n[i]);
        if (test_relative(err) > 1e-4 && err.max_err > 1e-7)
            fail_msg("%s: gradient differs by %.3g of %.3g", cn_params_at(p, i)->ldm_name,
                     err.max_err, err.max_want);
        free(shared.gradients[i]);
        free(apart.gradients[i]);
    }
    cn_params_destroy(p);
    test_env_close(&e);
}

/* --- stable values ---------------------------------------------------------------------------- */

typedef struct stable_net {
    test_env e;
    cn_params *p;
    cn_graph *g;
    cn_plan *plan;
    cn_node *x, *c, *y;
    cn_param *w;
    float xs[6], cs[6];
} stable_net;

/* y = x + silu(w * c): c seldom changes. */
static void stable_open(stable_net *s)
{
    *s = (stable_net){0};
    assert_true(test_env_open(&s->e, 1));
    assert_int_equal(cn_params_create(s->e.ctx, "net", &s->p), CN_OK);
    assert_int_equal(cn_graph_create(s->e.ctx, &s->g), CN_OK);
    cn_graph_use(s->g, s->p);
    s->x = cn_input(s->g, "x", CN_F32, 2, (int64_t[]){2, 3}, false);
    s->c = cn_input(s->g, "c", CN_F32, 2, (int64_t[]){2, 3}, true);
    cn_node *h = cn_silu(s->g, cn_linear(s->g, "w", s->c, 3, false));
    assert_true(h->stable);
    s->y = cn_add(s->g, h, s->x);
    assert_false(s->y->stable);
    assert_int_equal(cn_plan_create(s->e.ctx, s->g, s->e.backend, &s->y, 1, false, &s->plan),
                     CN_OK);
    s->w = cn_params_find(s->p, "w.weight");
    float identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    assert_int_equal(cn_param_set(s->e.backend, s->e.ctx, s->w, identity), CN_OK);
    cn_seed_tensor("x", 0, 1, s->xs, 6);
    cn_seed_tensor("c", 0, 1, s->cs, 6);
}

static void stable_close(stable_net *s)
{
    cn_plan_destroy(s->plan);
    cn_graph_destroy(s->g);
    cn_params_destroy(s->p);
    test_env_close(&s->e);
}

static void expect_stable(stable_net *s, const float *c, double factor)
{
    assert_int_equal(cn_plan_run(s->plan), CN_OK);
    double want[6];
    for (int i = 0; i < 6; i++) want[i] = (double)s->xs[i] + silu(factor * (double)c[i]);
    assert_true(test_relative(test_compare(cn_plan_data(s->plan, s->y), want, 6)) < 1e-6);
}

static void stable_follows_its_input(void **state)
{
    (void)state;
    stable_net s;
    stable_open(&s);
    assert_int_equal(cn_plan_set(s.plan, s.x, s.xs), CN_OK);
    assert_int_equal(cn_plan_set(s.plan, s.c, s.cs), CN_OK);
    expect_stable(&s, s.cs, 1);
    cn_seed_tensor("x2", 0, 1, s.xs, 6);
    assert_int_equal(cn_plan_set(s.plan, s.x, s.xs), CN_OK);
    expect_stable(&s, s.cs, 1);
    cn_seed_tensor("c2", 0, 1, s.cs, 6);
    assert_int_equal(cn_plan_set(s.plan, s.c, s.cs), CN_OK);
    expect_stable(&s, s.cs, 1);
    stable_close(&s);
}

/* What follows from stable inputs alone is not computed again by itself: new weights show only
 * after cn_plan_touch or a changed stable input. */
static void stable_is_computed_once(void **state)
{
    (void)state;
    stable_net s;
    stable_open(&s);
    assert_int_equal(cn_plan_set(s.plan, s.x, s.xs), CN_OK);
    assert_int_equal(cn_plan_set(s.plan, s.c, s.cs), CN_OK);
    expect_stable(&s, s.cs, 1);
    float twice[9] = {2, 0, 0, 0, 2, 0, 0, 0, 2};
    assert_int_equal(cn_param_set(s.e.backend, s.e.ctx, s.w, twice), CN_OK);
    assert_int_equal(cn_plan_set(s.plan, s.c, s.cs), CN_OK); /* the same values */
    expect_stable(&s, s.cs, 1);
    cn_plan_touch(s.plan);
    expect_stable(&s, s.cs, 2);
    stable_close(&s);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void missing_values_are_reported(void **state)
{
    (void)state;
    test_env e;
    assert_true(test_env_open(&e, 1));
    cn_params *p = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    assert_int_equal(cn_params_create(e.ctx, "net", &p), CN_OK);
    assert_int_equal(cn_graph_create(e.ctx, &g), CN_OK);
    cn_graph_use(g, p);
    cn_node *x = cn_input4(g, "x", 1, 4, 4, 3), *y = cn_conv2d(g, "conv", x, 5, 3, 1, 1);
    assert_int_equal(cn_plan_create(e.ctx, g, e.backend, &y, 1, false, &plan), CN_OK);
    assert_int_not_equal(cn_plan_run(plan), CN_OK);
    assert_non_null(strstr(cn_error(e.ctx), "conv.weight"));
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(p);
    test_env_close(&e);
}

/* Convolutions and products whose channels fill blocks of a layout or don't. */
static cn_node *various_layers(cn_graph *g)
{
    cn_node *x = cn_conv2d(g, "conv", cn_input4(g, "x", 1, 5, 4, 7), 19, 3, 1, 1);
    x = cn_conv2d(g, "even", x, 70, 3, 1, 1);
    x = cn_conv2d(g, "wide", x, 32, 5, 1, 2);
    x = cn_conv2d(g, "strided", x, 131, 3, 2, 1);
    x = cn_linear(g, "linear", x, 21, true);
    return cn_linear(g, "last", x, 80, true);
}

/* What q keeps of `values` as its type has them. */
static void assert_kept(test_env *e, const cn_param *q, float *values)
{
    const size_t n = (size_t)cn_param_elements(q);
    void *stored = test_alloc(n * sizeof *values);
    float *got = test_alloc(n * sizeof *got);
    cn_from_f32(q->dtype, values, stored, n);
    cn_to_f32(q->dtype, stored, values, n);
    assert_int_equal(cn_param_get(e->backend, e->ctx, q, got), CN_OK);
    assert_memory_equal(got, values, n * sizeof *values);
    free(stored);
    free(got);
}

static void keep_their_values(cn_dtype compute, cn_dtype storage, bool before)
{
    test_env e;
    assert_true(test_env_open(&e, 2));
    cn_params *p = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    if (!e.backend->computes(e.backend, compute)) {
        test_env_close(&e);
        return;
    }
    assert_int_equal(cn_params_create(e.ctx, "net", &p), CN_OK);
    cn_params_set_compute(p, compute);
    cn_params_set_storage(p, storage);
    assert_int_equal(cn_graph_create(e.ctx, &g), CN_OK);
    cn_graph_use(g, p);
    cn_node *y = various_layers(g);
    if (before) assert_int_equal(test_fill_params(&e, p, "p.", 0, 1), CN_OK);
    assert_int_equal(cn_plan_create(e.ctx, g, e.backend, &y, 1, false, &plan), CN_OK);
    if (!before) assert_int_equal(test_fill_params(&e, p, "p.", 0, 1), CN_OK);
    assert_int_equal(cn_plan_run(plan), CN_OK);
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        char key[2 * CN_NAME_MAX];
        snprintf(key, sizeof key, "p.%s", q->diffusers_name);
        float *want = test_alloc((size_t)cn_param_elements(q) * sizeof *want);
        cn_seed_tensor(key, 0, 1, want, cn_param_elements(q));
        assert_kept(&e, q, want);
        free(want);
    }
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(p);
    test_env_close(&e);
}

/* Through the layout that a plan chooses, filled before it or after. */
static void parameters_keep_their_values(void **state)
{
    (void)state;
    static const cn_dtype types[][2] = {{CN_F32, CN_F32},
                                        {CN_F32, CN_F16},
                                        {CN_F32, CN_BF16},
                                        {CN_BF16, CN_BF16},
                                        {CN_BF16, CN_F32}};
    for (size_t i = 0; i < CN_COUNT(types); i++)
        for (int before = 0; before < 2; before++)
            keep_their_values(types[i][0], types[i][1], before);
}

typedef struct parted {
    cn_plan *plan;
    cn_node *x, *s, *m, *y;
} parted;

/* y of x, [2,C], where the part acts by the factor m. */
static const float *run_parted(const parted *f, float x, float m, bool on)
{
    float values[2 * C], factors[2] = {m, m};
    for (int i = 0; i < 2 * C; i++) values[i] = x;
    cn_plan_part(f->plan, 1, on);
    assert_int_equal(cn_plan_set(f->plan, f->x, values), CN_OK);
    assert_int_equal(cn_plan_set(f->plan, f->m, factors), CN_OK);
    assert_int_equal(cn_plan_run(f->plan), CN_OK);
    return cn_plan_data(f->plan, f->y);
}

/* y = x + m (silu(x) + silu(s)), s stable, what is in parentheses a part. */
static void a_part_can_be_left_out(void **state)
{
    (void)state;
    test_env e;
    cn_graph *g = NULL;
    parted f = {0};
    float two[2 * C];
    for (int i = 0; i < 2 * C; i++) two[i] = 2;
    assert_true(test_env_open(&e, 1));
    assert_int_equal(cn_graph_create(e.ctx, &g), CN_OK);
    f.x = cn_input(g, "x", CN_F32, 2, (int64_t[]){2, C}, false);
    f.s = cn_input(g, "s", CN_F32, 2, (int64_t[]){2, C}, true);
    f.m = cn_input(g, "m", CN_F32, 2, (int64_t[]){2, 1}, false);
    cn_graph_part(g, 1);
    cn_node *sum = cn_add(g, cn_silu(g, f.x), cn_silu(g, f.s));
    cn_graph_part(g, 0);
    f.y = cn_add(g, f.x, cn_gate(g, sum, f.m));
    assert_int_equal(cn_plan_create(e.ctx, g, e.backend, &f.y, 1, false, &f.plan), CN_OK);
    assert_int_equal(cn_plan_set(f.plan, f.s, two), CN_OK);
    for (int turn = 0; turn < 2; turn++) {
        assert_true(run_parted(&f, 3, 0, false)[2 * C - 1] == 3);
        /* switched on, what is stable of it has its value */
        const double want = 3 + 0.5 * (silu(3) + silu(2));
        assert_true(fabs((double)run_parted(&f, 3, 0.5f, true)[C] - want) < 1e-5);
        assert_true(isnan(run_parted(&f, NAN, 1, true)[0]));
        assert_true(run_parted(&f, 1, 0, false)[0] == 1); /* what it left behind isn't read */
    }
    cn_plan_destroy(f.plan);
    cn_graph_destroy(g);
    test_env_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_can_be_left_out),
        cmocka_unit_test(long_chain_in_little_memory),
        cmocka_unit_test(sharing_changes_nothing),
        cmocka_unit_test(stable_follows_its_input),
        cmocka_unit_test(stable_is_computed_once),
        cmocka_unit_test(missing_values_are_reported),
        cmocka_unit_test(parameters_keep_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
