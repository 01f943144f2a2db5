/* SPDX-License-Identifier: Apache-2.0 */
/* test_derive.c - which gradients a graph derives, how they accumulate, and what builders
 * refuse. */
#include "../support/env.h"
#include "../support/values.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct fixture {
    test_env env;
    cn_params *locked, *free;
    cn_graph *g;
    cn_node *x, *target, *y, *loss;
} fixture;

static void open_fixture(fixture *f)
{
    *f = (fixture){0};
    assert_true(test_env_open(&f->env, 2));
    assert_int_equal(cn_params_create(f->env.ctx, "locked", &f->locked), CN_OK);
    assert_int_equal(cn_params_create(f->env.ctx, "free", &f->free), CN_OK);
    assert_int_equal(cn_graph_create(f->env.ctx, &f->g), CN_OK);
}

static void close_fixture(fixture *f)
{
    cn_graph_destroy(f->g);
    cn_params_destroy(f->locked);
    cn_params_destroy(f->free);
    test_env_close(&f->env);
}

static void new_graph(fixture *f)
{
    cn_graph_destroy(f->g);
    f->g = NULL;
    assert_int_equal(cn_graph_create(f->env.ctx, &f->g), CN_OK);
}

static int count_ops(const cn_graph *g, cn_op op)
{
    int n = 0;
    for (int i = 0; i < cn_graph_size(g); i++) n += cn_graph_node(g, i)->op == op;
    return n;
}

static int count_needed_by(const cn_graph *g, cn_op op, const cn_params *set)
{
    int n = 0;
    for (int i = 0; i < cn_graph_size(g); i++) {
        const cn_node *d = cn_graph_node(g, i);
        for (int64_t k = 0; d->op == op && d->param && k < cn_params_count(set); k++)
            n += cn_params_at(set, k) == d->param;
    }
    return n;
}

/* locked encoder -> free block -> locked decoder, as ControlNet sits in Stable Diffusion. */
static void build_sandwich(fixture *f)
{
    f->x = cn_input4(f->g, "x", 1, 6, 5, 7);
    cn_graph_use(f->g, f->locked);
    cn_node *h = cn_conv2d(f->g, "encoder", f->x, 12, 3, 1, 1);
    h = cn_group_norm(f->g, "encoder_norm", h, 4, 1e-5f, CN_ACT_SILU);
    cn_graph_use(f->g, f->free);
    cn_node *c = cn_conv2d(f->g, "block", h, 12, 3, 1, 1);
    cn_graph_use(f->g, f->locked);
    h = cn_add(f->g, h, c);
    h = cn_group_norm(f->g, "decoder_norm", h, 4, 1e-5f, CN_ACT_SILU);
    f->y = cn_conv2d(f->g, "decoder", h, 3, 3, 1, 1);
    f->target = cn_input4(f->g, "target", 1, 6, 5, 3);
    f->loss = cn_loss_node(f->g, CN_LOSS_MSE, f->y, f->target);
}

static void build_with_free_trainable(fixture *f)
{
    build_sandwich(f);
    new_graph(f);
    cn_params_set_trainable(f->free, true);
    build_sandwich(f);
    assert_int_equal(cn_graph_backward(f->g, f->loss), CN_OK);
}

static void locked_weights_get_data_gradients_only(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    build_with_free_trainable(&f);
    for (int64_t i = 0; i < cn_params_count(f.locked); i++)
        assert_null(cn_param_grad(f.g, cn_params_at(f.locked, i)));
    for (int64_t i = 0; i < cn_params_count(f.free); i++)
        assert_non_null(cn_param_grad(f.g, cn_params_at(f.free, i)));
    /* one weight gradient (the free block's), one data gradient (the decoder's); nothing reaches
     * the encoder, so its norm has no gradient either */
    assert_int_equal(count_ops(f.g, CN_OP_CONV2D_DW), 1);
    assert_int_equal(count_needed_by(f.g, CN_OP_CONV2D_DW, f.locked), 0);
    assert_int_equal(count_ops(f.g, CN_OP_CONV2D_DX), 1);
    assert_int_equal(count_ops(f.g, CN_OP_GROUP_NORM_GRAD), 1);
    close_fixture(&f);
}

static void nothing_trainable_is_refused(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    build_sandwich(&f);
    assert_int_equal(cn_graph_status(f.g), CN_OK);
    int before = cn_graph_size(f.g);
    assert_int_not_equal(cn_graph_backward(f.g, f.loss), CN_OK);
    assert_non_null(strstr(cn_error(f.env.ctx), "trainable"));
    assert_int_equal(cn_graph_size(f.g), before);
    close_fixture(&f);
}

static void gradient_starts_from_a_scalar(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    build_sandwich(&f);
    new_graph(&f);
    cn_params_set_trainable(f.free, true);
    build_sandwich(&f);
    assert_int_not_equal(cn_graph_backward(f.g, f.y), CN_OK);
    assert_non_null(strstr(cn_error(f.env.ctx), "90 elements"));
    close_fixture(&f);
}

/* Locked and trainable parameters in one layer: a locked weight with a free bias and the other
 * way. */
static void one_half_of_a_layer(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        fixture f;
        open_fixture(&f);
        build_sandwich(&f);
        new_graph(&f);
        cn_param *weight = cn_params_find(f.free, "block.weight");
        cn_param *bias = cn_params_find(f.free, "block.bias");
        (which ? bias : weight)->trainable = true;
        build_sandwich(&f);
        assert_int_equal(cn_graph_backward(f.g, f.loss), CN_OK);
        assert_non_null(cn_param_grad(f.g, which ? bias : weight));
        assert_null(cn_param_grad(f.g, which ? weight : bias));
        close_fixture(&f);
    }
}

/* --- accumulation ----------------------------------------------------------------------------- */

/* Runs f's loss with x moved along nothing and returns every gradient of f->free joined. */
static double *run_gradients(fixture *f, double *loss, int64_t *n)
{
    cn_plan *plan = NULL;
    cn_node *outputs[] = {f->loss};
    assert_int_equal(cn_plan_create(f->env.ctx, f->g, f->env.backend, outputs, 1, true, &plan),
                     CN_OK);
    float *x = test_alloc((size_t)cn_node_elements(f->x) * sizeof *x);
    float *t = test_alloc((size_t)cn_node_elements(f->target) * sizeof *t);
    cn_seed_tensor("x", 0, 1, x, cn_node_elements(f->x));
    cn_seed_tensor("target", 0, 1, t, cn_node_elements(f->target));
    assert_int_equal(cn_plan_set(plan, f->x, x), CN_OK);
    assert_int_equal(cn_plan_set(plan, f->target, t), CN_OK);
    free(x);
    free(t);
    assert_int_equal(cn_plan_run(plan), CN_OK);
    *loss = (double)*(const float *)cn_plan_data(plan, f->loss);
    int64_t total = 0;
    for (int64_t i = 0; i < cn_params_count(f->free); i++)
        total += cn_param_elements(cn_params_at(f->free, i));
    double *all = test_alloc((size_t)total * sizeof *all);
    *n = 0;
    for (int64_t i = 0; i < cn_params_count(f->free); i++) {
        cn_param *q = cn_params_at(f->free, i);
        float *d = test_gradient_of(&f->env, plan, f->g, q);
        assert_non_null(d);
        for (int64_t k = 0; k < cn_param_elements(q); k++) all[(*n)++] = (double)d[k];
        free(d);
    }
    cn_plan_destroy(plan);
    return all;
}

/* A block that learns, beside one that is locked or learns too, before a locked norm and
 * convolution. */
static void build_joined(fixture *f, cn_params *beside)
{
    f->x = cn_input4(f->g, "x", 1, 16, 22, 8);
    cn_graph_use(f->g, f->free);
    cn_node *learns = cn_conv2d(f->g, "block", f->x, 40, 3, 1, 1);
    cn_graph_use(f->g, beside);
    cn_node *skip = cn_conv2d(f->g, "skip", f->x, 56, 3, 1, 1);
    cn_graph_use(f->g, f->locked);
    cn_node *h = cn_concat(f->g, learns, skip);
    h = cn_group_norm(f->g, "norm", h, 8, 1e-5f, CN_ACT_SILU);
    f->y = cn_conv2d(f->g, "decoder", h, 40, 3, 1, 1);
    f->target = cn_input4(f->g, "target", 1, 16, 22, 40);
    f->loss = cn_loss_node(f->g, CN_LOSS_MSE, f->y, f->target);
}

/* Channels that the decoder's data gradient is wanted of. */
static int64_t wanted_of_decoder(const cn_graph *g)
{
    for (int i = 0; i < cn_graph_size(g); i++)
        if (cn_node_is(cn_graph_node(g, i), CN_OP_CONV2D_DX)) return cn_graph_node(g, i)->wanted;
    return 0;
}

/* Only the half that learns gets a data gradient, in whole groups of the norm (12 channels), and
 * the same one. */
static void what_joins_locked_features_gets_its_half(void **state)
{
    (void)state;
    fixture f;
    cn_params *beside = NULL, *sets[3];
    double loss[2], *gradients[2];
    int64_t n[2], wanted[2];
    open_fixture(&f);
    assert_int_equal(cn_params_create(f.env.ctx, "beside", &beside), CN_OK);
    sets[0] = f.free, sets[1] = f.locked, sets[2] = beside;
    cn_params_set_trainable(f.free, true);
    for (int i = 0; i < 2; i++) {
        new_graph(&f);
        cn_params_set_trainable(beside, i == 1);
        build_joined(&f, beside);
        assert_int_equal(cn_graph_backward(f.g, f.loss), CN_OK);
        for (int k = 0; i == 0 && k < 3; k++)
            assert_int_equal(test_fill_params(&f.env, sets[k], "", 0, 0.3f), CN_OK);
        wanted[i] = wanted_of_decoder(f.g);
        gradients[i] = run_gradients(&f, &loss[i], &n[i]);
    }
    assert_int_equal(wanted[0], 48);
    assert_int_equal(wanted[1], 96);
    assert_int_equal(n[0], n[1]);
    assert_true(loss[0] == loss[1]);
    assert_memory_equal(gradients[0], gradients[1], (size_t)n[0] * sizeof *gradients[0]);
    free(gradients[0]);
    free(gradients[1]);
    cn_params_destroy(beside);
    close_fixture(&f);
}

/* The same weights twice in a row, widths that no vector divides, and x joined in twice. */
static void build_shared(fixture *f)
{
    f->x = cn_input4(f->g, "x", 2, 4, 3, 5);
    cn_graph_use(f->g, f->free);
    cn_node *h = cn_silu(f->g, cn_conv2d(f->g, "conv", f->x, 5, 3, 1, 1));
    h = cn_silu(f->g, cn_conv2d(f->g, "conv", h, 5, 3, 1, 1));
    cn_node *l = cn_silu(f->g, cn_linear(f->g, "linear", h, 5, true));
    l = cn_linear(f->g, "linear", l, 5, true);
    f->y = cn_add(f->g, cn_add(f->g, h, l), h);
    f->target = cn_input4(f->g, "target", 2, 4, 3, 5);
    f->loss = cn_loss_node(f->g, CN_LOSS_MSE, f->y, f->target);
}

/* Loss with every parameter of f->free moved by h along its seeded direction. */
static double moved_loss(fixture *f, cn_plan *plan, double h)
{
    for (int64_t i = 0; i < cn_params_count(f->free); i++) {
        cn_param *q = cn_params_at(f->free, i);
        int64_t n = cn_param_elements(q);
        double *w = test_values(q->diffusers_name, 0, 0.3f, n);
        float *moved = test_alloc((size_t)n * sizeof *moved);
        double *d = test_values(q->ldm_name, 0, 1, n);
        for (int64_t k = 0; k < n; k++) moved[k] = (float)(w[k] + h * d[k]);
        assert_int_equal(cn_param_set(f->env.backend, f->env.ctx, q, moved), CN_OK);
        free(w);
        free(d);
        free(moved);
    }
    assert_int_equal(cn_plan_run(plan), CN_OK);
    return (double)*(const float *)cn_plan_data(plan, f->loss);
}

/* Gradients of weights that two layers share add up. Central difference of the f32 forward pass
 * with a step of 1e-2: truncation and rounding each stay near 1e-4, a missing term changes it by
 * far more than the 2e-2 that is asked. */
static void shared_weights_accumulate(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    build_shared(&f);
    assert_int_equal(cn_graph_status(f.g), CN_OK);
    assert_int_equal(cn_params_count(f.free), 4);
    cn_params_set_trainable(f.free, true);
    new_graph(&f);
    build_shared(&f);
    assert_int_equal(cn_graph_backward(f.g, f.loss), CN_OK);
    assert_int_equal(test_fill_params(&f.env, f.free, "", 0, 0.3f), CN_OK);
    double loss;
    int64_t n, k = 0;
    double *gradient = run_gradients(&f, &loss, &n), along = 0;
    for (int64_t i = 0; i < cn_params_count(f.free); i++) {
        cn_param *q = cn_params_at(f.free, i);
        double *d = test_values(q->ldm_name, 0, 1, cn_param_elements(q));
        for (int64_t j = 0; j < cn_param_elements(q); j++) along += gradient[k++] * d[j];
        free(d);
    }
    cn_plan *plan = NULL;
    assert_int_equal(cn_plan_create(f.env.ctx, f.g, f.env.backend, &f.loss, 1, false, &plan),
                     CN_OK);
    float *values = test_alloc(120 * sizeof *values);
    cn_seed_tensor("x", 0, 1, values, 120);
    assert_int_equal(cn_plan_set(plan, f.x, values), CN_OK);
    cn_seed_tensor("target", 0, 1, values, 120);
    assert_int_equal(cn_plan_set(plan, f.target, values), CN_OK);
    free(values);
    double h = 1e-2, want = (moved_loss(&f, plan, h) - moved_loss(&f, plan, -h)) / (2 * h);
    if (!(fabs(along - want) <= 2e-2 * fabs(want)))
        fail_msg("derivative %.6g along the direction, should be %.6g", along, want);
    cn_plan_destroy(plan);
    free(gradient);
    close_fixture(&f);
}

/* --- what builders refuse --------------------------------------------------------------------- */

typedef void (*refused)(cn_graph *g, cn_node *x);

static void bad_add(cn_graph *g, cn_node *x)
{
    cn_add(g, x, cn_input4(g, "other", 1, 4, 4, 7));
}
static void bad_concat(cn_graph *g, cn_node *x)
{
    cn_concat(g, x, cn_input4(g, "other", 1, 2, 4, 6));
}
static void bad_groups(cn_graph *g, cn_node *x)
{
    cn_group_norm(g, "norm", x, 4, 1e-5f, CN_ACT_NONE);
}
static void bad_slice(cn_graph *g, cn_node *x)
{
    cn_slice(g, x, 4, 4);
}
static void bad_view(cn_graph *g, cn_node *x)
{
    cn_view(g, x, 2, (int64_t[]){4, 25});
}
static void bad_conv_rank(cn_graph *g, cn_node *x)
{
    cn_conv2d(g, "conv", cn_view(g, x, 3, (int64_t[]){1, 16, 6}), 8, 3, 1, 1);
}
static void bad_conv_size(cn_graph *g, cn_node *x)
{
    cn_conv2d(g, "conv", x, 8, 5, 2, 0);
}
static void bad_conv_tiny(cn_graph *g, cn_node *x)
{
    cn_conv2d(g, "conv", x, 8, 7, 1, 0);
}
static void bad_heads(cn_graph *g, cn_node *x)
{
    cn_node *q = cn_view(g, x, 3, (int64_t[]){1, 16, 6});
    cn_attention(g, q, q, q, 4, false, 0);
}
static void bad_attention(cn_graph *g, cn_node *x)
{
    cn_node *q = cn_view(g, x, 3, (int64_t[]){1, 16, 6});
    cn_node *k = cn_input(g, "k", CN_F32, 3, (int64_t[]){1, 8, 4}, false);
    cn_attention(g, q, k, k, 2, false, 0);
}
static void bad_mask(cn_graph *g, cn_node *x)
{
    cn_node *q = cn_view(g, x, 3, (int64_t[]){1, 16, 6});
    cn_node *k = cn_input(g, "k", CN_F32, 3, (int64_t[]){1, 8, 6}, false);
    cn_attention(g, q, k, k, 2, true, 0);
}
static void bad_geglu(cn_graph *g, cn_node *x)
{
    cn_geglu(g, cn_slice(g, x, 0, 5));
}
static void bad_channel(cn_graph *g, cn_node *x)
{
    cn_add_channel(g, x, cn_input(g, "e", CN_F32, 2, (int64_t[]){1, 5}, false));
}
static void bad_loss(cn_graph *g, cn_node *x)
{
    cn_loss_node(g, CN_LOSS_MSE, x, cn_input4(g, "t", 1, 4, 4, 5));
}
static void bad_positions(cn_graph *g, cn_node *x)
{
    cn_position_embedding(g, "positions.weight", cn_view(g, x, 3, (int64_t[]){1, 16, 6}), 15);
}
static void bad_timestep(cn_graph *g, cn_node *x)
{
    (void)x;
    cn_timestep_embedding(g, cn_input(g, "t", CN_F32, 1, (int64_t[]){2}, false), 33);
}
static void bad_redeclared(cn_graph *g, cn_node *x)
{
    cn_conv2d(g, "conv", x, 8, 3, 1, 1);
    cn_conv2d(g, "conv", x, 9, 3, 1, 1);
}

/* The message says which layer or operation and the sizes that don't fit. */
static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    static const struct {
        refused build;
        const char *says;
    } rows[] = {
        {bad_add, "sum"},
        {bad_concat, "channels"},
        {bad_groups, "groups"},
        {bad_slice, "channels"},
        {bad_view, "100"},
        {bad_conv_rank, "conv"},
        {bad_conv_size, "conv"},
        {bad_conv_tiny, "conv"},
        {bad_heads, "heads"},
        {bad_attention, "attention"},
        {bad_mask, "causal"},
        {bad_geglu, "odd"},
        {bad_channel, "channel"},
        {bad_loss, "80"},
        {bad_positions, "15"},
        {bad_timestep, "even"},
        {bad_redeclared, "conv.weight"},
    };
    for (size_t i = 0; i < CN_COUNT(rows); i++) {
        fixture f;
        open_fixture(&f);
        cn_graph_use(f.g, f.free);
        cn_node *x = cn_input4(f.g, "x", 1, 4, 4, 6);
        rows[i].build(f.g, x);
        if (cn_graph_status(f.g) == CN_OK)
            fail_msg("row %zu (\"%s\") was accepted", i, rows[i].says);
        if (!strstr(cn_error(f.env.ctx), rows[i].says))
            fail_msg("row %zu: \"%s\" doesn't mention \"%s\"", i, cn_error(f.env.ctx),
                     rows[i].says);
        close_fixture(&f);
    }
}

/* After the first error every builder does nothing, and planning reports that first error. */
static void the_first_error_stays(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    cn_graph_use(f.g, f.free);
    cn_node *x = cn_input4(f.g, "x", 1, 4, 4, 6);
    cn_scope_push(f.g, "deep");
    cn_node *y = cn_slice(f.g, x, 4, 4);
    int n = cn_graph_size(f.g);
    y = cn_conv2d(f.g, "conv", y, 8, 3, 1, 1);
    y = cn_group_norm(f.g, "norm", y, 3, 1e-5f, CN_ACT_SILU);
    y = cn_attention(f.g, y, y, y, 2, false, 0);
    y = cn_upsample2(f.g, cn_geglu(f.g, cn_add(f.g, y, x)));
    cn_node *loss = cn_loss_node(f.g, CN_LOSS_MSE, y, x);
    assert_int_equal(cn_graph_size(f.g), n);
    assert_int_not_equal(cn_graph_backward(f.g, loss), CN_OK);
    cn_plan *plan = NULL;
    assert_int_not_equal(cn_plan_create(f.env.ctx, f.g, f.env.backend, &loss, 1, false, &plan),
                         CN_OK);
    assert_null(plan);
    assert_non_null(strstr(cn_error(f.env.ctx), "deep"));
    assert_non_null(strstr(cn_error(f.env.ctx), "channels 4"));
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locked_weights_get_data_gradients_only),
        cmocka_unit_test(nothing_trainable_is_refused),
        cmocka_unit_test(gradient_starts_from_a_scalar),
        cmocka_unit_test(one_half_of_a_layer),
        cmocka_unit_test(what_joins_locked_features_gets_its_half),
        cmocka_unit_test(shared_weights_accumulate),
        cmocka_unit_test(wrong_shapes_are_refused),
        cmocka_unit_test(the_first_error_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
