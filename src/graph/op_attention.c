/* SPDX-License-Identifier: Apache-2.0 */
/* op_attention.c - softmax(q k^T * scale) v, per head, as one operation.
 *
 * The [L,M] matrix never exists as a whole: the forward keeps the softmax's log-sum per row
 * (further result 0, [N,heads,L]) only when the gradient reads it, and the gradient computes tiles
 * again.
 */
#include "graph/ops.h"

#include <math.h>

cn_node *cn_attention(cn_graph *g, cn_node *q, cn_node *k, cn_node *v, int heads, bool causal,
                      float scale)
{
    if (cn_poisoned(g)) return q;
    if (k->dtype != q->dtype || v->dtype != q->dtype)
        return cn_poison(g, "attention: q, k and v of different types");
    if (q->ndim != 3 || k->ndim != 3 || v->ndim != 3 || k->shape[0] != q->shape[0] ||
        v->shape[0] != q->shape[0] || k->shape[1] != v->shape[1] || k->shape[2] != q->shape[2] ||
        v->shape[2] != q->shape[2])
        return cn_poison(g, "attention: q [%lld,%lld,%lld], k [%lld,%lld,%lld] and v don't fit",
                         (long long)q->shape[0], (long long)q->shape[1], (long long)q->shape[2],
                         (long long)k->shape[0], (long long)k->shape[1], (long long)k->shape[2]);
    if (heads < 1 || q->shape[2] % heads != 0)
        return cn_poison(g, "attention: %lld channels can't be split into %d heads",
                         (long long)q->shape[2], heads);
    if (causal && q->shape[1] != k->shape[1])
        return cn_poison(g, "attention: a causal mask wants as many keys as queries");
    cn_node *y = cn_emit_like(g, CN_OP_ATTENTION, q, 3, (cn_node *[]){q, k, v});
    if (cn_poisoned(g)) return y;
    y->heads = heads;
    y->causal = causal;
    y->alpha = scale > 0 ? scale : 1.0f / sqrtf((float)(q->shape[2] / heads));
    return y;
}

/* in: dy, q, k, v, y, log-sums; result dq, further results dk and dv. */
static void attention_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *q = y->in[0], *k = y->in[1], *v = y->in[2];
    cn_node *lse = cn_emit_aux(g, y, 0, CN_F32, 3, (int64_t[]){q->shape[0], y->heads, q->shape[1]});
    cn_node *d = cn_emit_like(g, CN_OP_ATTENTION_GRAD, q, 6, (cn_node *[]){dy, q, k, v, y, lse});
    if (cn_poisoned(g)) return;
    d->heads = y->heads;
    d->causal = y->causal;
    d->alpha = y->alpha;
    if (k->needs_grad) cn_grad_add(g, k, cn_emit_aux(g, d, 0, k->dtype, 3, k->shape));
    if (v->needs_grad) cn_grad_add(g, v, cn_emit_aux(g, d, 1, v->dtype, 3, v->shape));
    if (q->needs_grad) cn_grad_add(g, q, d);
}

static double attention_flops(const cn_node *y)
{
    return 4 * (double)cn_node_elements(y) * (double)y->in[1]->shape[1];
}

const cn_op_def cn_op_attention = {
    .name = "attention", .grad = attention_grad, .flops = attention_flops};
const cn_op_def cn_op_attention_grad = {.name = "attention_grad"};
