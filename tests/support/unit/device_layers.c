/* SPDX-License-Identifier: Apache-2.0 */
/* device_layers.c - see device_layers.h. */
#include "device_layers.h"

#include "graph/plan.h"
#include "model/checkpoint/weights.h"
#include "unit.h"

#include <stdlib.h>

const device_layer device_layers[DEVICE_LAYERS] = {
    {1, 9, 1, 10, 12, 0, 0, 0, false},   /* less than a matrix's depth, and than a tile */
    {1, 130, 1, 70, 65, 0, 0, 0, true},  /* odd rests of tiles in each direction */
    {1, 64, 1, 64, 64, 0, 0, 0, false},  /* a whole tile */
    {2, 7, 9, 5, 67, 3, 1, 1, false},    /* a depth of 45 */
    {1, 11, 8, 33, 40, 3, 2, 1, false},  /* a data gradient with holes */
    {1, 6, 6, 40, 40, 3, 1, 1, true},    /* what is behind a product */
    {1, 40, 40, 24, 24, 3, 1, 1, false}, /* a weight gradient of several parts */
    {2, 5, 5, 130, 3, 1, 1, 0, false},   /* three columns */
};

static cn_node *build(cn_graph *g, const device_layer *l, cn_node **loss, cn_node **target)
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

static void keep(device_values *v, int i, int64_t n, float **to)
{
    v->n[i] = n;
    *to = v->data[i] = malloc((size_t)n * sizeof **to);
    assert_non_null(*to);
}

/* The loss's slope is 1 or -1 by the target's sign, whatever y is: all ways have the same one. */
void device_layer_run(cn_backend *b, const device_layer *l, int runs, device_values *out)
{
    cn_params *params = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_node *loss = NULL, *target = NULL;
    float *to;
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
        for (int run = 0; run < runs; run++) {
            must(cn_plan_run(plan));
            must(b->finish(b, ctx));
        }
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
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(params);
}

void device_values_free(device_values *v)
{
    for (int i = 0; i < 3; i++) free(v->data[i]);
}
