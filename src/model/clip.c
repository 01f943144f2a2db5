/* clip.c - CLIP's text encoder: pre-norm transformer layers with a causal mask.
 *
 * Both published layouts name it alike (text_model.*). Leaving out the last layers ("clip skip")
 * keeps the final layer norm. Token ids come from the tokenizer; no pooled output is built.
 */
#include "model/nets.h"

#include <stdio.h>

static cn_node *self_attention(cn_graph *g, const cn_clip_config *c, cn_node *x)
{
    cn_scope_push(g, "self_attn");
    cn_node *q = cn_linear(g, "q_proj", x, c->hidden, true);
    cn_node *k = cn_linear(g, "k_proj", x, c->hidden, true);
    cn_node *v = cn_linear(g, "v_proj", x, c->hidden, true);
    cn_node *y = cn_attention(g, q, k, v, c->heads, true, 0);
    y = cn_linear(g, "out_proj", y, c->hidden, true);
    cn_scope_pop(g);
    return y;
}

static cn_node *clip_layer(cn_graph *g, const cn_clip_config *c, int i, cn_node *x)
{
    char name[CN_NAME_MAX];
    snprintf(name, sizeof name, "encoder.layers.%d", i);
    cn_scope_push(g, name);
    cn_node *h = cn_layer_norm(g, "layer_norm1", x, c->layer_norm_eps);
    x = cn_add(g, x, self_attention(g, c, h));
    h = cn_layer_norm(g, "layer_norm2", x, c->layer_norm_eps);
    h = cn_linear(g, "mlp.fc1", h, c->intermediate, true);
    h = cn_linear(g, "mlp.fc2", cn_activation(g, h, (cn_act)c->act), c->hidden, true);
    return cn_scope_return(g, cn_add(g, x, h));
}

cn_node *cn_clip_build(cn_graph *g, const cn_clip_config *c, cn_node *ids, int skip)
{
    if (skip < 0 || skip >= c->layers)
        return cn_poison(g, "text encoder: %d layers left out of %d; 0 to %d are possible", skip,
                         c->layers, c->layers - 1);
    if (!cn_poisoned(g) && (ids->ndim != 2 || ids->shape[1] > c->max_positions))
        return cn_poison(g, "text encoder: token ids must be [N,L] with L up to %lld",
                         (long long)c->max_positions);
    cn_scope_push(g, "text_model");
    cn_node *h = cn_embedding(g, "embeddings.token_embedding", ids, c->vocabulary, c->hidden);
    h = cn_position_embedding(g, "embeddings.position_embedding", h, c->max_positions);
    for (int i = 0; i < c->layers - skip; i++) h = clip_layer(g, c, i, h);
    h = cn_layer_norm(g, "final_layer_norm", h, c->layer_norm_eps);
    return cn_scope_return(g, h);
}
