/* SPDX-License-Identifier: Apache-2.0 */
/* clip.c - CLIP's text encoder: pre-norm transformer layers with a causal mask.
 *
 * Both layouts of SD 1.x name it alike (text_model.*). Single files of SD 2.x, and of SDXL's second
 * encoder, have OpenCLIP's names, where queries, keys and values are one tensor and the projection
 * of the pooled output is transposed. Leaving out the last layers ("clip skip") keeps the final
 * layer norm, but SDXL's features never have it. Token ids come from the tokenizer.
 */
#include "model/nets/blocks.h"

#include <stdio.h>

/* Queries (i = 0), keys or values. */
static cn_node *projection(cn_graph *g, const cn_clip_config *c, int i, cn_node *x)
{
    static const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    if (!c->open_clip) return cn_linear(g, names[i], x, c->hidden, true);
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "in_proj_weight[%d:3]|%s.weight", i, names[i]);
    snprintf(bias, sizeof bias, "in_proj_bias[%d:3]|%s.bias", i, names[i]);
    return cn_linear_named(g, weight, bias, x, c->hidden);
}

static cn_node *self_attention(cn_graph *g, const cn_clip_config *c, cn_node *x, bool causal)
{
    cn_scope_push(g, c->open_clip ? "attn|self_attn" : "self_attn");
    cn_node *q = projection(g, c, 0, x);
    cn_node *k = projection(g, c, 1, x);
    cn_node *v = projection(g, c, 2, x);
    cn_node *y = cn_attention(g, q, k, v, c->heads, causal, 0);
    y = cn_linear(g, "out_proj", y, c->hidden, true);
    cn_scope_pop(g);
    return y;
}

cn_node *cn_clip_layer(cn_graph *g, const cn_clip_config *c, int i, cn_node *x, bool causal)
{
    char name[CN_NAME_MAX];
    bool o = c->open_clip;
    snprintf(name, sizeof name,
             o ? "transformer.resblocks.%d|encoder.layers.%d" : "encoder.layers.%d", i, i);
    cn_scope_push(g, name);
    cn_node *h = cn_layer_norm(g, o ? "ln_1|layer_norm1" : "layer_norm1", x, c->layer_norm_eps);
    x = cn_add(g, x, self_attention(g, c, h, causal));
    h = cn_layer_norm(g, o ? "ln_2|layer_norm2" : "layer_norm2", x, c->layer_norm_eps);
    h = cn_linear(g, o ? "mlp.c_fc|mlp.fc1" : "mlp.fc1", h, c->intermediate, true);
    h = cn_linear(g, o ? "mlp.c_proj|mlp.fc2" : "mlp.fc2", cn_activation(g, h, (cn_act)c->act),
                  c->hidden, true);
    return cn_scope_return(g, cn_add(g, x, h));
}

cn_node *cn_clip_embed_build(cn_graph *g, const cn_clip_config *c, cn_node *ids)
{
    cn_scope_push(g, c->open_clip ? "|text_model" : "text_model");
    cn_node *h = cn_embedding(
        g,
        c->open_clip ? "token_embedding|embeddings.token_embedding" : "embeddings.token_embedding",
        ids, c->vocabulary, c->hidden);
    cn_scope_pop(g);
    return h;
}

static cn_node *final_norm(cn_graph *g, const cn_clip_config *c, cn_node *h)
{
    cn_precise_begin(g);
    h = cn_layer_norm(g, c->open_clip ? "ln_final|final_layer_norm" : "final_layer_norm", h,
                      c->layer_norm_eps);
    cn_precise_end(g);
    return h;
}

/* The row where `end` is 1, of [N,L,C]: the others are multiplied by 0, and the mean is the sum
 * over L. */
static cn_node *row_at(cn_graph *g, cn_node *h, cn_node *end)
{
    if (cn_poisoned(g)) return h;
    const int64_t N = h->shape[0], L = h->shape[1], C = cn_channels(h);
    h = cn_view(g, cn_gate(g, h, end), 4, (int64_t[]){N, L, 1, C});
    h = cn_view(g, cn_mean_pool_to(g, h, 1, 1), 2, (int64_t[]){N, C});
    return cn_scale(g, h, (float)L);
}

cn_node *cn_clip_pooled_build(cn_graph *g, const cn_clip_config *c, cn_node *rows, int skip,
                              cn_node *end, cn_node **pooled)
{
    const int used = c->layers - (c->penultimate ? 1 : 0);
    if (skip < 0 || skip >= c->layers)
        return cn_poison(g, "text encoder: %d layers left out of %d; 0 to %d are possible", skip,
                         c->layers, c->layers - 1);
    if (!cn_poisoned(g) && (rows->ndim != 3 || rows->shape[1] > c->max_positions))
        return cn_poison(g, "text encoder: tokens must be [N,L] with L up to %lld",
                         (long long)c->max_positions);
    cn_scope_push(g, c->open_clip ? "|text_model" : "text_model");
    cn_node *h = cn_position_embedding(
        g,
        c->open_clip ? "positional_embedding|embeddings.position_embedding.weight"
                     : "embeddings.position_embedding.weight",
        rows, c->max_positions);
    for (int i = 0; i < used - skip; i++) h = cn_clip_layer(g, c, i, h, true);
    cn_node *features = c->penultimate ? h : final_norm(g, c, h);
    if (end) {
        for (int i = used - skip; i < c->layers; i++) h = cn_clip_layer(g, c, i, h, true);
        h = row_at(g, final_norm(g, c, h), end);
    }
    features = cn_scope_return(g, features);
    if (end)
        *pooled =
            cn_linear_named(g, "text_projection[T]|text_projection.weight", NULL, h, c->projection);
    return features;
}

cn_node *cn_clip_layers_build(cn_graph *g, const cn_clip_config *c, cn_node *rows, int skip)
{
    return cn_clip_pooled_build(g, c, rows, skip, NULL, NULL);
}

cn_node *cn_clip_build(cn_graph *g, const cn_clip_config *c, cn_node *ids, int skip)
{
    return cn_clip_layers_build(g, c, cn_clip_embed_build(g, c, ids), skip);
}
