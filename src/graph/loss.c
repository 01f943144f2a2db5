/* loss.c - what training minimises: mean errors, the VAE's KL divergence and its reparametrisation. */
#include "graph/ops.h"

cn_node *cn_loss_node(cn_graph *g, cn_loss kind, cn_node *a, cn_node *b)
{
    if (cn_poisoned(g)) return a;
    a = cn_cast(g, a, CN_F32);
    if (cn_node_elements(a) != cn_node_elements(b))
        return cn_poison(g, "a loss compares %lld elements with %lld",
                         (long long)cn_node_elements(a), (long long)cn_node_elements(b));
    cn_node *y = cn_emit(g, CN_OP_LOSS, CN_F32, 1, (int64_t[]){1}, 2, (cn_node *[]){a, b});
    if (!cn_poisoned(g)) y->loss = kind;
    return y;
}

void cn_loss_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *a = y->in[0];
    if (!a->needs_grad) {
        cn_poison(g, "the loss's second operand is a target and gets no gradient");
        return;
    }
    cn_node *d = cn_emit_like(g, CN_OP_LOSS_DX, a, 3, (cn_node *[]){a, y->in[1], dy});
    if (cn_poisoned(g)) return;
    d->loss = y->loss;
    cn_grad_add(g, a, d);
}

cn_node *cn_kl(cn_graph *g, cn_node *moments)
{
    if (cn_poisoned(g)) return moments;
    moments = cn_cast(g, moments, CN_F32);
    if (cn_channels(moments) % 2) return cn_poison(g, "moments have an even number of channels");
    return cn_emit(g, CN_OP_KL, CN_F32, 1, (int64_t[]){1}, 1, &moments);
}

void cn_kl_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *m = y->in[0];
    cn_grad_add(g, m, cn_emit_like(g, CN_OP_KL_DX, m, 2, (cn_node *[]){m, dy}));
}

cn_node *cn_gauss_sample(cn_graph *g, cn_node *moments, cn_node *noise)
{
    if (cn_poisoned(g)) return moments;
    moments = cn_cast(g, moments, CN_F32);
    if (cn_node_elements(moments) != 2 * cn_node_elements(noise) ||
        cn_channels(moments) != 2 * cn_channels(noise))
        return cn_poison(g, "the noise has half as many channels as the moments");
    return cn_emit_like(g, CN_OP_GAUSS, noise, 2, (cn_node *[]){moments, noise});
}

void cn_gauss_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *m = y->in[0];
    if (m->needs_grad)
        cn_grad_add(g, m, cn_emit_like(g, CN_OP_GAUSS_DX, m, 3, (cn_node *[]){m, y->in[1], dy}));
}
