/* SPDX-License-Identifier: Apache-2.0 */
/* op_loss.c - what training minimises: mean errors, the VAE's KL divergence and its
 * reparametrisation. */
#include "graph/ops.h"

static cn_node *build(cn_graph *g, cn_loss kind, cn_node *a, cn_node *b, cn_node *per)
{
    if (cn_poisoned(g)) return a;
    a = cn_cast(g, a, CN_F32);
    if (cn_node_elements(a) != cn_node_elements(b))
        return cn_poison(g, "a loss compares %lld elements with %lld",
                         (long long)cn_node_elements(a), (long long)cn_node_elements(b));
    cn_node *y = cn_emit(g, CN_OP_LOSS, CN_F32, 1, (int64_t[]){1}, 3, (cn_node *[]){a, b, per});
    if (!cn_poisoned(g)) y->loss = kind;
    return y;
}

cn_node *cn_loss_node(cn_graph *g, cn_loss kind, cn_node *a, cn_node *b)
{
    if (kind == CN_LOSS_HUBER || kind == CN_LOSS_SMOOTH_L1)
        return cn_poison(g, "this loss needs each sample's c");
    return build(g, kind, a, b, NULL);
}

cn_node *cn_loss_weighted(cn_graph *g, cn_loss kind, cn_node *a, cn_node *b, cn_node *per)
{
    if (!cn_poisoned(g) && cn_node_elements(per) != 2 * a->shape[0])
        return cn_poison(g, "%lld values weigh the loss of %lld samples; two each are expected",
                         (long long)cn_node_elements(per), (long long)a->shape[0]);
    return build(g, kind, a, b, per);
}

static void loss_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *a = y->in[0];
    if (!a->needs_grad) {
        cn_poison(g, "the loss's second operand is a target and gets no gradient");
        return;
    }
    cn_node *d = cn_emit_like(g, CN_OP_LOSS_DX, a, 4, (cn_node *[]){a, y->in[1], dy, y->in[2]});
    if (cn_poisoned(g)) return;
    d->loss = y->loss;
    cn_grad_add(g, a, d);
}

const cn_op_def cn_op_loss = {.name = "loss", .grad = loss_grad};
const cn_op_def cn_op_loss_dx = {.name = "loss_dx"};

cn_node *cn_kl(cn_graph *g, cn_node *moments)
{
    if (cn_poisoned(g)) return moments;
    moments = cn_cast(g, moments, CN_F32);
    if (cn_channels(moments) % 2) return cn_poison(g, "moments have an even number of channels");
    return cn_emit(g, CN_OP_KL, CN_F32, 1, (int64_t[]){1}, 1, &moments);
}

static void kl_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *m = y->in[0];
    cn_grad_add(g, m, cn_emit_like(g, CN_OP_KL_DX, m, 2, (cn_node *[]){m, dy}));
}

const cn_op_def cn_op_kl = {.name = "kl", .grad = kl_grad};
const cn_op_def cn_op_kl_dx = {.name = "kl_dx"};

cn_node *cn_gauss_sample(cn_graph *g, cn_node *moments, cn_node *noise)
{
    if (cn_poisoned(g)) return moments;
    moments = cn_cast(g, moments, CN_F32);
    if (cn_node_elements(moments) != 2 * cn_node_elements(noise) ||
        cn_channels(moments) != 2 * cn_channels(noise))
        return cn_poison(g, "the noise has half as many channels as the moments");
    return cn_emit_like(g, CN_OP_GAUSS, noise, 2, (cn_node *[]){moments, noise});
}

static void gauss_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *m = y->in[0];
    if (m->needs_grad)
        cn_grad_add(g, m, cn_emit_like(g, CN_OP_GAUSS_DX, m, 3, (cn_node *[]){m, y->in[1], dy}));
}

const cn_op_def cn_op_gauss = {.name = "gauss", .grad = gauss_grad};
const cn_op_def cn_op_gauss_dx = {.name = "gauss_dx"};
