/* SPDX-License-Identifier: Apache-2.0 */
/* grad.c - derives the backward pass of a scalar, node by node from the last to the first.
 *
 * Only nodes that a trainable parameter reaches are derived, so a locked encoder gets no backward
 * at all and a locked decoder data gradients only. A gradient rule reads the forward values it
 * needs; what no rule reads is not kept by the plan.
 */
#include "graph/graph_internal.h"
#include "graph/ops.h"

#include <string.h>

#define ROW(op, name) [op] = &cn_op_##name,
static const cn_op_def *const rows[CN_OP_COUNT] = {CN_OP_STRUCTURE_LIST(ROW) CN_OP_LIST(ROW)};
#undef ROW

const cn_op_def *cn_op_def_of(cn_op op)
{
    return rows[op];
}
const char *cn_op_name(cn_op op)
{
    return rows[op]->name;
}

void cn_grad_add(cn_graph *g, cn_node *x, cn_node *dx)
{
    if (cn_poisoned(g)) return;
    if (!x->grad) {
        x->grad = dx;
        return;
    }
    x->grad = cn_emit_like(g, CN_OP_ADD, x, 2, (cn_node *[]){x->grad, dx});
    if (!cn_poisoned(g)) x->grad->param = x->param; /* summed in the parameter's physical layout */
}

/* What the backward pass adds belongs to the layer that it is derived from; a name that there is no
 * memory for stays empty. */
static void name_new_nodes(cn_graph *g, int first, const cn_node *layer)
{
    for (int k = first; k < cn_graph_size(g); k++) {
        cn_node *d = cn_graph_node(g, k);
        d->set = layer->set;
        if (!d->name[0]) (void)cn_node_rename(NULL, d, layer->name, layer->diffusers_name);
    }
}

/* Emits the nodes of the segment that ends with node `last` once more; again[i] is node i's
 * copy. Nodes are in the order of building, so a segment is a range of them (with parameters in
 * between). */
static void compute_again(cn_graph *g, int last, cn_node **again)
{
    const int segment = cn_graph_node(g, last)->segment;
    int first = last;
    while (first > 0 && (cn_graph_node(g, first - 1)->segment == segment)) first--;
    for (int i = first; i <= last && !cn_poisoned(g); i++) {
        const cn_node *y = cn_graph_node(g, i);
        if (y->stable || y->op == CN_OP_PARAM || y->op == CN_OP_INPUT || y->op == CN_OP_AUX)
            continue;
        cn_node *in[CN_MAX_INPUTS] = {0};
        for (int k = 0; k < y->n_in; k++)
            in[k] = y->in[k] && again[y->in[k]->id] ? again[y->in[k]->id] : y->in[k];
        const int before = cn_graph_size(g);
        again[i] = cn_emit_again(g, y, in);
        name_new_nodes(g, before, y);
    }
}

/* Applies y's gradient rule, or its copy's where the segment is computed again: the copy's inputs
 * are then what the rule reads. */
static void derive(cn_graph *g, cn_node *y, cn_node *copy)
{
    if (copy && y->grad) cn_grad_add(g, copy, y->grad);
    if (copy) y = copy;
    if (cn_poisoned(g) || !y->grad || !y->needs_grad) return;
    const cn_op_def *def = cn_op_def_of(y->op);
    if (!def->grad) {
        cn_poison(g, "%s (%s) has no gradient rule", y->name, def->name);
        return;
    }
    const int first = cn_graph_size(g);
    def->grad(g, y, y->grad);
    name_new_nodes(g, first, y);
}

cn_status cn_graph_backward(cn_graph *g, cn_node *loss)
{
    return cn_graph_backward_scaled(g, loss, NULL);
}

cn_status cn_graph_backward_scaled(cn_graph *g, cn_node *loss, cn_node *scale)
{
    if (!cn_poisoned(g) && cn_node_elements(loss) != 1)
        cn_poison(g, "the loss has %lld elements; a gradient starts from one",
                  (long long)cn_node_elements(loss));
    if (!cn_poisoned(g) && !loss->needs_grad)
        cn_poison(g, "nothing to learn: the loss depends on no trainable parameter");
    CN_TRY(cn_graph_status(g));
    const int last = loss->id;
    cn_node **again = cn_alloc0(NULL, (size_t)(last + 1) * sizeof *again);
    if (!again) cn_poison(g, "out of memory for the backward pass");
    cn_node *one = scale ? NULL : cn_emit(g, CN_OP_FILL, CN_F32, 1, (int64_t[]){1}, 0, NULL);
    if (!cn_poisoned(g)) {
        if (one) one->alpha = 1;
        loss->grad = scale ? scale : one;
    }
    int seen = 0; /* the segment that was computed again last */
    for (int i = last; i >= 0 && !cn_poisoned(g); i--) {
        cn_node *y = cn_graph_node(g, i);
        if (y->op == CN_OP_PARAM || y->op == CN_OP_AUX) continue;
        if (y->segment && y->segment != seen && y->needs_grad &&
            cn_graph_checkpointed(g, y->segment)) {
            compute_again(g, i, again);
            seen = y->segment;
        }
        derive(g, y, again[i]);
    }
    cn_free(again);
    return cn_graph_status(g);
}

cn_node *cn_param_grad(const cn_graph *g, const cn_param *p)
{
    for (int i = 0; i < cn_graph_size(g); i++) {
        const cn_node *w = cn_graph_node(g, i);
        if (w->op == CN_OP_PARAM && w->param == p) return w->grad;
    }
    return NULL;
}
