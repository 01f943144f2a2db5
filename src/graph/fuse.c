/* SPDX-License-Identifier: Apache-2.0 */
/* fuse.c - the peephole of the plan: sums and ReLUs that a convolution or a linear layer can write
 * itself.
 *
 * y = conv(x) + residual, y = conv(x) + shift per channel, or both, and a ReLU behind them: where
 * nothing else reads the convolution's value, its kernel does it while it has the result at hand.
 * That saves a pass over memory and, in bfloat16, a rounding. The fused step runs where the last of
 * them stood, so all operands exist.
 */
#include "graph/plan_run.h"

#include <string.h>

static const cn_node *source(const cn_node *x)
{
    while (x->op == CN_OP_VIEW) x = x->in[0];
    return x;
}

static void count_uses(const cn_plan *p, cn_node *const *outputs, int n, int *uses)
{
    for (int i = 0; i < n; i++)
        if (outputs[i]) uses[outputs[i]->id] += 2;
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *y = cn_graph_node(p->g, id);
        for (int i = 0; p->needed[id] && i < y->n_in; i++)
            if (y->in[i]) uses[y->in[i]->id]++;
    }
}

/* The node whose step could write `y` of operand x (and something else), NULL if none. */
static cn_node *writer(const cn_plan *p, const int *uses, const cn_node *y, cn_node *x)
{
    for (const cn_node *v = x; v->op == CN_OP_VIEW; v = v->in[0])
        if (uses[v->id] != 1) return NULL;
    cn_node *w = (cn_node *)(uintptr_t)source(x);
    if (p->debug.dump && cn_plan_dumps(p, w)) return NULL; /* its own value is asked for */
    const bool sums = cn_op_def_of(w->op)->product || p->fusions[w->id].node;
    return sums && w->part == y->part && !p->fusions[w->id].act && uses[w->id] == 1 &&
                   w->dtype == y->dtype && w->stable == y->stable
               ? w
               : NULL;
}

static void fuse(cn_plan *p, const cn_node *y, cn_node *w, cn_node *residual, cn_node *shift,
                 const cn_node *act)
{
    cn_fusion *from = &p->fusions[w->id], *to = &p->fusions[y->id];
    *to = (cn_fusion){.node = from->node ? from->node : w,
                      .residual = residual ? residual : from->residual,
                      .shift = shift ? shift : from->shift,
                      .act = act};
    *from = (cn_fusion){.absorbed = true};
}

/* Of two possible writers the later one, so that the other operand exists when it runs. */
static void try_sum(cn_plan *p, const int *uses, const cn_node *y)
{
    cn_node *best = NULL, *other = NULL;
    if (y->in[0]->shape[0] != y->in[1]->shape[0]) return; /* of some samples alone */
    for (int i = 0; i < 2; i++) {
        cn_node *w = writer(p, uses, y, y->in[i]);
        if (!w || p->fusions[w->id].residual || (best && w->id < best->id)) continue;
        best = w;
        other = y->in[1 - i];
    }
    if (best) fuse(p, y, best, other, NULL, NULL);
}

static bool is_relu(cn_act act)
{
    return act == CN_ACT_RELU || act == CN_ACT_RELU6 || act == CN_ACT_LEAKY_RELU;
}

cn_status cn_plan_fuse(cn_plan *p, cn_node *const *outputs, int n)
{
    int *uses = cn_alloc0(p->ctx, (size_t)CN_MAX(p->n_nodes, 1) * sizeof *uses);
    if (!uses) return CN_ENOMEM;
    count_uses(p, outputs, n, uses);
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *y = cn_graph_node(p->g, id);
        if (!p->needed[id]) continue;
        if (y->op == CN_OP_ADD) {
            try_sum(p, uses, y);
        } else if (y->op == CN_OP_ADD_CHANNEL) {
            cn_node *w = writer(p, uses, y, y->in[0]);
            if (w && !p->fusions[w->id].shift) fuse(p, y, w, NULL, y->in[1], NULL);
        } else if (y->op == CN_OP_ACT && is_relu(y->act)) {
            cn_node *w = writer(p, uses, y, y->in[0]);
            if (w) fuse(p, y, w, NULL, NULL, y);
        }
    }
    cn_free(uses);
    return CN_OK;
}
