/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_matrices.c - products of F16 on matrix units beside those of the kernels without, of
 * the same operands: results and both gradients. Skipped where no device has such units; Mesa's
 * software Vulkan from 24 on has (tools/fetch-vulkan.sh). tests/ops compares with references. */
#include "../support/unit/unit.h"

#include "device/device.h"
#include "gpu/gpu.h"
#include "graph/plan.h"
#include "model/checkpoint/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Both add the same products of F16 in F32, in another order. */
static const double TOLERANCE = 1e-5;

/* A layer from C to O channels; linear where kernel is 0, H rows then. */
typedef struct layer {
    int64_t N, H, W, C, O;
    int kernel, stride, pad;
    bool more; /* an activation and a residual behind it */
} layer;

static const layer layers[] = {
    {1, 9, 1, 10, 12, 0, 0, 0, false},   /* less than a matrix's depth, and than a tile */
    {1, 130, 1, 70, 65, 0, 0, 0, true},  /* odd rests of tiles in each direction */
    {1, 64, 1, 64, 64, 0, 0, 0, false},  /* a whole tile */
    {2, 7, 9, 5, 67, 3, 1, 1, false},    /* a depth of 45 */
    {1, 11, 8, 33, 40, 3, 2, 1, false},  /* a data gradient with holes */
    {1, 6, 6, 40, 40, 3, 1, 1, true},    /* what is behind a product */
    {1, 40, 40, 24, 24, 3, 1, 1, false}, /* a weight gradient of several parts */
    {2, 5, 5, 130, 3, 1, 1, 0, false},   /* three columns */
};

typedef struct values {
    float *data[3]; /* the result, gradients of x and of the weight */
    int64_t n[3];
} values;

static bool open_device(cn_backend **b)
{
    cn_gpu_device all[CN_GPU_MAX_DEVICES];
    int n = 0;
    bool any = false;
    char name[32] = "";
    if (cn_gpu_devices(ctx, all, &n) != CN_OK) n = 0;
    for (int i = n - 1; i >= 0; i--) {
        if (!all[i].matrix[0] || all[i].missing) continue;
        snprintf(name, sizeof name, "vulkan:%d", i);
        any = true;
    }
    if (!any) {
        print_message("SKIP no device has matrix units here\n");
        return false;
    }
    must(cn_backend_create(ctx, name, b));
    assert_true((*b)->multiply_in(*b, CN_F16));
    return true;
}

static cn_node *build(cn_graph *g, const layer *l, cn_node **loss, cn_node **target)
{
    const int64_t flat[] = {l->H, l->C}, image[] = {l->N, l->H, l->W, l->C};
    cn_node *x =
        cn_param_node(g, "x", l->kernel ? 4 : 2, l->kernel ? image : flat, CN_INIT_FAN_IN, 1);
    cn_node *y = l->kernel ? cn_conv2d(g, "layer", x, l->O, l->kernel, l->stride, l->pad)
                           : cn_linear(g, "layer", x, l->O, true);
    if (l->more) {
        y = cn_silu(g, y);
        cn_node *z = l->kernel ? cn_conv2d(g, "behind", y, l->O, 1, 1, 0)
                               : cn_linear(g, "behind", y, l->O, true);
        y = cn_add(g, y, z);
    }
    *target = cn_input(g, "target", CN_F32, y->ndim, y->shape, false);
    *loss = cn_loss_node(g, CN_LOSS_L1, y, *target);
    return y;
}

static void keep(values *v, int i, int64_t n, float **to)
{
    v->n[i] = n;
    *to = v->data[i] = malloc((size_t)n * sizeof **to);
    assert_non_null(*to);
}

/* The loss's slope is 1 or -1 by the target's sign, whatever y is: both ways have the same one. */
static void compute(const layer *l, bool matrices, values *out)
{
    cn_backend *b = NULL;
    cn_params *params = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_node *loss = NULL, *target = NULL;
    float *to;
    assert_true(open_device(&b));
    if (!matrices) cn_gpu_without_matrices(b);
    must(cn_params_create(ctx, "layer", &params));
    for (int declared = 0; declared < 2; declared++) {
        cn_graph_destroy(g);
        must(cn_graph_create(ctx, &g));
        cn_graph_use(g, params);
        cn_node *y = build(g, l, &loss, &target);
        must(cn_graph_status(g));
        cn_params_set_trainable(params, true);
        if (!declared) continue;
        must(cn_graph_backward(g, loss));
        cn_node *outputs[] = {y, loss};
        must(cn_plan_create(ctx, g, b, outputs, 2, true, &plan));
        must(cn_params_init(ctx, b, params, 7));
        keep(out, 0, cn_node_elements(y), &to);
        for (int64_t i = 0; i < out->n[0]; i++) to[i] = i % 7 % 3 ? 1000.0f : -1000.0f;
        must(cn_plan_set(plan, target, to));
        must(cn_plan_run(plan));
        assert_true(cn_plan_get(plan, y, to));
    }
    const char *const names[] = {"x", "layer.weight"};
    for (int i = 0; i < 2; i++) {
        const cn_param *p = cn_params_find(params, names[i]);
        assert_non_null(p);
        const float *physical = cn_plan_address(plan, cn_param_grad(g, p));
        keep(out, i + 1, cn_param_elements(p), &to);
        must(b->to_plain(b, ctx, p, CN_F32, physical, to));
    }
    cn_gpu_counts c;
    cn_gpu_counts_get(b, &c);
    assert_true(matrices ? c.matrix_dispatches >= 3 : c.matrix_dispatches == 0);
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(params);
    b->destroy(b);
}

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

static void matrices_compute_the_same(void **state)
{
    (void)state;
    cn_backend *b = NULL;
    if (!open_device(&b)) skip();
    b->destroy(b);
    for (size_t k = 0; k < CN_COUNT(layers); k++) {
        values with, without;
        compute(&layers[k], true, &with);
        compute(&layers[k], false, &without);
        for (int i = 0; i < 3; i++) {
            double most = 0, apart = 0;
            assert_int_equal(with.n[i], without.n[i]);
            for (int64_t e = 0; e < with.n[i]; e++) {
                most = fmax(most, fabs((double)without.data[i][e]));
                apart = fmax(apart, fabs((double)with.data[i][e] - (double)without.data[i][e]));
            }
            print_message("layer %zu, %s: %.2g apart, largest %.3g\n", k,
                          i == 0   ? "result"
                          : i == 1 ? "gradient of x"
                                   : "of its weight",
                          apart, most);
            assert_true(most > 0 && apart <= TOLERANCE * most);
            free(with.data[i]);
            free(without.data[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matrices_compute_the_same)};
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
