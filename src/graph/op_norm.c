/* SPDX-License-Identifier: Apache-2.0 */
/* op_norm.c - group norm (with the activation that follows it) and layer norm.
 *
 * x is F32, y of the network's computing type. The statistics (mean, 1/deviation) are a further
 * result, kept only when a gradient reads them. The gradients need x, not y.
 */
#include "graph/ops.h"

static cn_node *norm(cn_graph *g, cn_op op, const char *name, cn_node *x, float eps, cn_node *given)
{
    int64_t C = cn_channels(x);
    cn_scope_push(g, name);
    cn_node *gamma = cn_param_node(g, "weight", 1, &C, CN_INIT_ONE, C);
    cn_node *beta = cn_param_node(g, "bias", 1, &C, CN_INIT_ZERO, C);
    x = cn_cast(g, x, CN_F32);
    cn_node *y = cn_emit(g, op, cn_compute_type(g), x->ndim, x->shape, given ? 4 : 3,
                         (cn_node *[]){x, gamma, beta, given});
    cn_scope_pop(g);
    if (!cn_poisoned(g)) y->eps = eps;
    return y;
}

cn_node *cn_group_norm(cn_graph *g, const char *name, cn_node *x, int groups, float eps, cn_act act)
{
    if (cn_poisoned(g)) return x;
    if (x->ndim < 3 || groups < 1 || cn_channels(x) % groups != 0)
        return cn_poison(g, "%s: %lld channels can't be split into %d groups", name,
                         (long long)cn_channels(x), groups);
    if (act != CN_ACT_NONE && act != CN_ACT_SILU)
        return cn_poison(g, "%s: group norm fuses with SiLU only", name);
    int64_t shape[3] = {x->shape[0], groups, 2};
    cn_node *given = NULL;
    if (cn_graph_shares_stats(g)) given = cn_input(g, "statistics", CN_F32, 3, shape, false);
    cn_node *y = norm(g, CN_OP_GROUP_NORM, name, x, eps, given);
    if (given) cn_emit_aux(g, y, 0, CN_F32, 3, shape);
    if (cn_poisoned(g)) return y;
    y->groups = groups;
    y->act = act;
    return y;
}

cn_node *cn_instance_norm(cn_graph *g, cn_node *x, float eps)
{
    if (cn_poisoned(g)) return x;
    if (x->ndim < 3) return cn_poison(g, "instance norm of %d dimensions, wants 3 or 4", x->ndim);
    x = cn_cast(g, x, CN_F32);
    cn_node *y = cn_emit(g, CN_OP_GROUP_NORM, cn_compute_type(g), x->ndim, x->shape, 3,
                         (cn_node *[]){x, NULL, NULL});
    if (cn_poisoned(g)) return y;
    y->groups = (int)cn_channels(x);
    y->eps = eps;
    return y;
}

cn_node *cn_layer_norm(cn_graph *g, const char *name, cn_node *x, float eps)
{
    if (cn_poisoned(g)) return x;
    return norm(g, CN_OP_LAYER_NORM, name, x, eps, NULL);
}

/* One kernel gives dx and, where asked, dgamma and dbeta. in: dy, x, stats, gamma, beta. */
static void norm_grad(cn_graph *g, cn_op op, cn_node *y, cn_node *dy, int stats_ndim,
                      const int64_t *stats_shape)
{
    cn_node *x = y->in[0], *gamma = y->in[1], *beta = y->in[2];
    if (!gamma) {
        cn_poison(g, "instance norm has no gradient rule");
        return;
    }
    cn_node *stats = cn_emit_aux(g, y, 0, CN_F32, stats_ndim, stats_shape);
    cn_node *d = cn_emit_like(g, op, x, 5, (cn_node *[]){dy, x, stats, gamma, beta});
    if (cn_poisoned(g)) return;
    d->eps = y->eps;
    d->groups = y->groups;
    d->act = y->act;
    if (gamma->needs_grad) cn_grad_add(g, gamma, cn_emit_aux(g, d, 0, CN_F32, 1, gamma->shape));
    if (beta->needs_grad) cn_grad_add(g, beta, cn_emit_aux(g, d, 1, CN_F32, 1, beta->shape));
    if (x->needs_grad) cn_grad_add(g, x, d);
}

static void group_norm_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    norm_grad(g, CN_OP_GROUP_NORM_GRAD, y, dy, 3, (int64_t[]){y->shape[0], y->groups, 2});
}

const cn_op_def cn_op_group_norm = {.name = "group_norm", .grad = group_norm_grad, .in_place = 1};
const cn_op_def cn_op_group_norm_grad = {.name = "group_norm_grad", .in_place = 1};

static void layer_norm_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    int64_t rows = cn_node_elements(y) / cn_channels(y);
    norm_grad(g, CN_OP_LAYER_NORM_GRAD, y, dy, 2, (int64_t[]){rows, 2});
}

const cn_op_def cn_op_layer_norm = {.name = "layer_norm", .grad = layer_norm_grad, .in_place = 1};
const cn_op_def cn_op_layer_norm_grad = {.name = "layer_norm_grad", .in_place = 1};
