/* SPDX-License-Identifier: Apache-2.0 */
/* op_linear.c - y = x w^T + b: x [...,I], w [O,I] (or [O,I,1,1]), y [...,O]. */
#include "graph/ops.h"

/* `bias` NULL: none. */
static cn_node *linear(cn_graph *g, const char *weight, const char *bias, cn_node *x, int64_t O,
                       cn_init init)
{
    if (cn_poisoned(g)) return x;
    x = cn_compute(g, x);
    const int64_t I = cn_channels(x), matrix[] = {O, I};
    cn_node *base = cn_base_weight(g, 2, matrix, I);
    cn_node *w = base ? base : cn_param_node(g, weight, 2, matrix, init, I);
    cn_node *b = bias ? cn_param_node(g, bias, 1, &O, init, I) : NULL;
    int64_t shape[CN_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = O;
    cn_node *y = cn_emit(g, CN_OP_LINEAR, CN_F32, x->ndim, shape, 3, (cn_node *[]){x, w, b});
    return base && !cn_poisoned(g) ? cn_low_rank_sum(g, y) : y;
}

static cn_node *scoped(cn_graph *g, const char *name, cn_node *x, int64_t O, bool bias,
                       cn_init init)
{
    cn_scope_push(g, name);
    cn_node *y = linear(g, "weight", bias ? "bias" : NULL, x, O, init);
    cn_scope_pop(g);
    return y;
}

cn_node *cn_linear(cn_graph *g, const char *name, cn_node *x, int64_t O, bool bias)
{
    return scoped(g, name, x, O, bias, CN_INIT_FAN_IN);
}

cn_node *cn_zero_linear(cn_graph *g, const char *name, cn_node *x, int64_t O)
{
    return scoped(g, name, x, O, true, CN_INIT_ZERO);
}

cn_node *cn_linear_ldm_conv(cn_graph *g, const char *name, cn_node *x, int64_t O)
{
    cn_node *y = cn_linear(g, name, x, O, true);
    if (!cn_poisoned(g) && y->op == CN_OP_LINEAR) y->in[1]->param->ldm_conv = true;
    return y;
}

cn_node *cn_linear_named(cn_graph *g, const char *weight, const char *bias, cn_node *x, int64_t O)
{
    return linear(g, weight, bias, x, O, CN_INIT_FAN_IN);
}

cn_node *cn_bias_grad(cn_graph *g, const cn_node *b, cn_node *dy)
{
    int64_t O = b->shape[0], rows = cn_node_elements(dy) / O;
    cn_node *all = cn_view(g, dy, 3, (int64_t[]){1, rows, O});
    cn_node *sum = cn_emit(g, CN_OP_SUM_CHANNEL, CN_F32, 2, (int64_t[]){1, O}, 1, &all);
    return cn_view(g, sum, 1, &O);
}

static void linear_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0], *w = y->in[1], *b = y->in[2];
    if (b && b->needs_grad) cn_grad_add(g, b, cn_bias_grad(g, b, dy));
    dy = cn_cast(g, dy, x->dtype);
    if (w->needs_grad) {
        cn_node *dw = cn_emit_like(g, CN_OP_LINEAR_DW, w, 2, (cn_node *[]){x, dy});
        if (cn_poisoned(g)) return;
        dw->param = w->param;
        cn_grad_add(g, w, dw);
    }
    if (x->needs_grad)
        cn_grad_add(g, x, cn_emit_like(g, CN_OP_LINEAR_DX, x, 2, (cn_node *[]){dy, w}));
}

static double linear_flops(const cn_node *y)
{
    return 2 * (double)cn_node_elements(y) * (double)cn_channels(y->in[0]);
}

const cn_op_def cn_op_linear = {
    .name = "linear", .grad = linear_grad, .flops = linear_flops, .product = true};
const cn_op_def cn_op_linear_dx = {.name = "linear_dx"};
const cn_op_def cn_op_linear_dw = {.name = "linear_dw"};
const cn_op_def cn_op_sum_channel = {.name = "sum_channel"};
