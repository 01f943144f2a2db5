/* SPDX-License-Identifier: Apache-2.0 */
/* vit.c - see vit.h. */
#include "annotate/vit.h"

/* Queries, keys and values stand one behind the other in one tensor. */
static cn_node *attention(cn_graph *g, cn_node *x, int heads)
{
    const int64_t C = cn_channels(x);
    cn_scope_push(g, "attn");
    cn_node *q = cn_linear_named(g, "qkv.weight[0:3]", "qkv.bias[0:3]", x, C);
    cn_node *k = cn_linear_named(g, "qkv.weight[1:3]", "qkv.bias[1:3]", x, C);
    cn_node *v = cn_linear_named(g, "qkv.weight[2:3]", "qkv.bias[2:3]", x, C);
    x = cn_attention(g, cn_output_compute_type(g, q), cn_output_compute_type(g, k),
                     cn_output_compute_type(g, v), heads, false, 0);
    x = cn_linear(g, "proj", x, C, true);
    cn_scope_pop(g);
    return x;
}

cn_node *cn_vit_mlp(cn_graph *g, cn_node *x)
{
    const int64_t C = cn_channels(x);
    cn_scope_push(g, "mlp");
    x = cn_activation(g, cn_output_compute_type(g, cn_linear(g, "fc1", x, 4 * C, true)),
                      CN_ACT_GELU);
    x = cn_linear(g, "fc2", x, C, true);
    cn_scope_pop(g);
    return x;
}

cn_node *cn_vit_block(cn_graph *g, cn_node *x, int heads, float eps)
{
    x = cn_add(g, x, attention(g, cn_layer_norm(g, "norm1", x, eps), heads));
    return cn_add(g, x, cn_vit_mlp(g, cn_layer_norm(g, "norm2", x, eps)));
}
