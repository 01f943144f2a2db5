/* SPDX-License-Identifier: Apache-2.0 */
/* test_low_rank.c - layers that compute with another set's weight and a low-rank change of it
 * against the same layers with the sum as their weight: results within F32's rounding of two ways
 * to add up (1e-5 of the largest); gradients by the chain rule, d up = dW down^T and
 * d down = up^T dW, of the gradient dW of the sum, to 1e-4 of the largest. */
#include "../support/env.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A layer of x [2,6,4,I] with O outputs; kernel 0: linear. */
typedef struct layer {
    int64_t I, O, rank;
    int kernel, stride;
} layer;

static const layer layers[] = {
    {5, 8, 3, 3, 1}, {6, 4, 2, 3, 2}, {16, 24, 4, 1, 1}, {12, 10, 4, 0, 0}, {3, 7, 100, 3, 1},
};

typedef struct side {
    cn_params *params;
    cn_graph *g;
    cn_plan *plan;
    cn_node *x, *target, *y, *loss;
} side;

static cn_node *build(cn_graph *g, const layer *l, cn_node *x)
{
    if (!l->kernel) return cn_linear(g, "op", x, l->O, true);
    return cn_conv2d(g, "op", x, l->O, l->kernel, l->stride, l->kernel / 2);
}

static void make(test_env *e, const layer *l, side *s)
{
    cn_graph_destroy(s->g);
    s->g = NULL;
    assert_int_equal(cn_graph_create(e->ctx, &s->g), CN_OK);
    cn_graph_use(s->g, s->params);
    s->x = cn_input4(s->g, "x", 2, 6, 4, l->I);
    s->y = build(s->g, l, s->x);
    assert_int_equal(cn_graph_status(s->g), CN_OK);
    s->target = cn_input(s->g, "target", CN_F32, s->y->ndim, s->y->shape, false);
    s->loss = cn_loss_node(s->g, CN_LOSS_MSE, s->y, s->target);
}

static void plan(test_env *e, side *s)
{
    cn_node *wanted[] = {s->loss, s->y};
    assert_int_equal(cn_graph_backward(s->g, s->loss), CN_OK);
    assert_int_equal(cn_plan_create(e->ctx, s->g, e->backend, wanted, 2, true, &s->plan), CN_OK);
}

static void run(side *s)
{
    cn_seed_tensor("x", 0, 1, cn_plan_data(s->plan, s->x), cn_node_elements(s->x));
    cn_seed_tensor("target", 0, 1, cn_plan_data(s->plan, s->target), cn_node_elements(s->target));
    assert_int_equal(cn_plan_run(s->plan), CN_OK);
}

static void side_close(side *s)
{
    cn_plan_destroy(s->plan);
    cn_graph_destroy(s->g);
    cn_params_destroy(s->params);
}

static float *plain(test_env *e, const cn_param *q)
{
    float *out = malloc((size_t)cn_param_elements(q) * sizeof *out);
    assert_non_null(out);
    assert_int_equal(cn_param_get(e->backend, e->ctx, q, out), CN_OK);
    return out;
}

static void close_to(const float *got, const double *want, int64_t n, double tolerance)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance * largest))
            fail_msg("element %lld: %.8g, should be %.8g", (long long)i, (double)got[i], want[i]);
}

static void as_the_sum(void **state)
{
    const layer *l = *state;
    test_env e;
    side base = {0}, low = {0}, sum = {0};
    assert_true(test_env_open(&e, 2));
    assert_int_equal(cn_params_create(e.ctx, "base", &base.params), CN_OK);
    assert_int_equal(cn_params_create(e.ctx, "low", &low.params), CN_OK);
    assert_int_equal(cn_params_create(e.ctx, "sum", &sum.params), CN_OK);
    make(&e, l, &base); /* declares the weight */
    const cn_low_rank change = {.base = base.params, .rank = l->rank};
    cn_params_set_low_rank(low.params, &change);
    cn_params_set_trainable(low.params, true);
    cn_params_set_trainable(sum.params, true);
    make(&e, l, &low);
    make(&e, l, &sum);
    assert_null(cn_params_find(low.params, "op.weight"));
    plan(&e, &low);
    plan(&e, &sum);
    cn_param *w = cn_params_find(base.params, "op.weight"),
             *up = cn_params_find(low.params, "op.up"),
             *down = cn_params_find(low.params, "op.down"),
             *whole = cn_params_find(sum.params, "op.weight");
    assert_true(w && up && down && whole);
    const int64_t r = down->shape[0], n = cn_param_elements(w), columns = n / l->O;
    assert_int_equal(r, CN_MIN(l->rank, CN_MIN(l->O, columns)));
    assert_int_equal(up->init, CN_INIT_ZERO);
    assert_int_equal(test_fill_params(&e, base.params, "base.", 0, 1), CN_OK);
    assert_int_equal(test_fill_params(&e, low.params, "low.", 0, 1), CN_OK);
    assert_int_equal(test_fill_params(&e, sum.params, "low.", 0, 1), CN_OK); /* the bias */
    float *vw = plain(&e, w), *vu = plain(&e, up), *vd = plain(&e, down);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < r; k++)
            vw[i] += vu[i / columns * r + k] * vd[k * columns + i % columns];
    assert_int_equal(cn_param_set(e.backend, e.ctx, whole, vw), CN_OK);
    run(&low);
    run(&sum);
    const int64_t outputs = cn_node_elements(low.y);
    float *y = test_values_of(&e, low.plan, low.y), *of_sum = test_values_of(&e, sum.plan, sum.y);
    double *want = calloc((size_t)CN_MAX(outputs, n), sizeof *want);
    for (int64_t i = 0; i < outputs; i++) want[i] = (double)of_sum[i];
    close_to(y, want, outputs, 1e-5);
    float *dw = test_gradient_of(&e, sum.plan, sum.g, whole),
          *du = test_gradient_of(&e, low.plan, low.g, up),
          *dd = test_gradient_of(&e, low.plan, low.g, down);
    assert_null(cn_param_grad(low.g, w));
    for (int64_t o = 0; o < l->O; o++)
        for (int64_t k = 0; k < r; k++) {
            want[o * r + k] = 0;
            for (int64_t i = 0; i < columns; i++)
                want[o * r + k] += (double)dw[o * columns + i] * (double)vd[k * columns + i];
        }
    close_to(du, want, l->O * r, 1e-4);
    for (int64_t k = 0; k < r; k++)
        for (int64_t i = 0; i < columns; i++) {
            want[k * columns + i] = 0;
            for (int64_t o = 0; o < l->O; o++)
                want[k * columns + i] += (double)vu[o * r + k] * (double)dw[o * columns + i];
        }
    close_to(dd, want, r * columns, 1e-4);
    free(vw);
    free(vu);
    free(vd);
    free(y);
    free(of_sum);
    free(want);
    free(dw);
    free(du);
    free(dd);
    side_close(&low);
    side_close(&sum);
    side_close(&base);
    test_env_close(&e);
}

/* Ranks that differ from layer to layer, and a layer that the base hasn't. */
static int64_t rank_of(const void *user, const char *ldm_name)
{
    return !strcmp(ldm_name, "op") ? *(const int64_t *)user : 0;
}

static void ranks_and_layers_of_its_own(void **state)
{
    (void)state;
    const layer *l = &layers[0];
    const int64_t rank = 1;
    test_env e;
    side base = {0}, low = {0};
    assert_true(test_env_open(&e, 2));
    assert_int_equal(cn_params_create(e.ctx, "base", &base.params), CN_OK);
    assert_int_equal(cn_params_create(e.ctx, "low", &low.params), CN_OK);
    make(&e, l, &base);
    const cn_low_rank change = {.base = base.params, .rank = 3, .of = rank_of, .user = &rank};
    cn_params_set_low_rank(low.params, &change);
    make(&e, l, &low);
    cn_conv2d(low.g, "other", low.x, 4, 3, 1, 1);
    assert_int_equal(cn_params_find(low.params, "op.up")->shape[1], 1);
    assert_non_null(cn_params_find(low.params, "other.weight"));
    assert_null(cn_params_find(low.params, "other.up"));
    side_close(&low);
    side_close(&base);
    test_env_close(&e);
}

int main(void)
{
    struct CMUnitTest tests[CN_COUNT(layers) + 1];
    for (size_t i = 0; i < CN_COUNT(layers); i++)
        tests[i] = (struct CMUnitTest){.name = "as the sum",
                                       .test_func = as_the_sum,
                                       .initial_state = (void *)(uintptr_t)&layers[i]};
    tests[CN_COUNT(layers)] = (struct CMUnitTest)cmocka_unit_test(ranks_and_layers_of_its_own);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
