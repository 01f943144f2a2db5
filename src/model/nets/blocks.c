/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.c - residual blocks, spatial transformers and resampling, as the papers draw them.
 *
 * Names follow ldm/modules (single-file half) and diffusers (second half); see blocks.h. Which
 * level has which block stands in unet.c, vae.c and controlnet.c.
 */
#include "model/nets/blocks.h"

#include <stdio.h>

/* Group norm's epsilon differs: torch's default in residual blocks, 1e-6 where LDM's Normalize()
 * is. */
static const float EPS_RESBLOCK = 1e-5f, EPS_NORMALIZE = 1e-6f, EPS_LAYER_NORM = 1e-5f;

/* SDXL's pooled text and sizes. */
static cn_node *added_embedding(cn_graph *g, const cn_unet_config *c, cn_node *added)
{
    if (!added) return cn_poison(g, "unet: its added embedding has no input");
    if (!cn_poisoned(g) && cn_channels(added) != c->added_dim)
        return cn_poison(g, "unet: an added embedding of %lld values, wants %lld",
                         (long long)cn_channels(added), (long long)c->added_dim);
    const int64_t C = 4 * c->channels[0];
    cn_scope_push(g, "label_emb.0|add_embedding");
    cn_node *h = cn_silu(g, cn_linear(g, "0|linear_1", added, C, true));
    return cn_scope_return(g, cn_linear(g, "2|linear_2", h, C, true));
}

/* A ControlNet Union's types. */
static cn_node *types_embedding(cn_graph *g, const cn_unet_config *c, cn_node *types)
{
    const int64_t C = 4 * c->channels[0];
    cn_scope_push(g, "control_add_embedding");
    cn_node *h = cn_silu(g, cn_linear(g, "linear_1", types, C, true));
    return cn_scope_return(g, cn_linear(g, "linear_2", h, C, true));
}

cn_node *cn_time_embed(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in)
{
    const int64_t dim = c->channels[0];
    cn_node *h = cn_timestep_embedding(g, in->t, dim);
    cn_scope_push(g, "time_embed|time_embedding");
    if (c->guidance_dim) {
        const int64_t shape[2] = {in->t->shape[0], c->guidance_dim};
        cn_scope_push(g, "guidance");
        cn_node *w = cn_scope_return(g, cn_input(g, "guidance", CN_F32, 2, shape, true));
        h = cn_add(g, h, cn_linear(g, "cond_proj", w, dim, false));
    }
    h = cn_silu(g, cn_linear(g, "0|linear_1", h, 4 * dim, true));
    h = cn_scope_return(g, cn_linear(g, "2|linear_2", h, 4 * dim, true));
    if (in->types) h = cn_add(g, h, types_embedding(g, c, in->types));
    if (c->added_dim) h = cn_add(g, h, added_embedding(g, c, in->added));
    return cn_silu(g, h);
}

cn_node *cn_resblock(cn_graph *g, const char *name, cn_node *x, cn_node *emb, int64_t C, int groups)
{
    cn_scope_push(g, name);
    cn_segment_begin(g);
    cn_node *h = cn_group_norm(g, "in_layers.0|norm1", x, groups, EPS_RESBLOCK, CN_ACT_SILU);
    h = cn_conv2d(g, "in_layers.2|conv1", h, C, 3, 1, 1);
    h = cn_add_channel(g, h, cn_linear(g, "emb_layers.1|time_emb_proj", emb, C, true));
    h = cn_group_norm(g, "out_layers.0|norm2", h, groups, EPS_RESBLOCK, CN_ACT_SILU);
    h = cn_conv2d(g, "out_layers.3|conv2", h, C, 3, 1, 1);
    if (cn_channels(x) != C) x = cn_conv2d(g, "skip_connection|conv_shortcut", x, C, 1, 1, 0);
    x = cn_add(g, x, h);
    cn_segment_end(g);
    return cn_scope_return(g, x);
}

/* [N,H,W,C] -> [N,HW,C]; the same bytes. */
static cn_node *tokens(cn_graph *g, cn_node *x)
{
    return cn_view(g, x, 3, (int64_t[]){x->shape[0], x->shape[1] * x->shape[2], cn_channels(x)});
}

/* A linear layer behind what changes its input. */
static cn_node *projection(cn_graph *g, const cn_unet_inputs *in, const char *name, cn_node *x,
                           int64_t C)
{
    for (int i = 0; i < in->n_patches; i++)
        if (in->patches[i]->kind->patch)
            x = in->patches[i]->kind->patch(g, in->patches[i], name, x);
    return cn_output_compute_type(g, cn_linear(g, name, x, C, false));
}

/* Queries from x [N,L,C], keys and values from context [N,M,D]. */
static cn_node *attention(cn_graph *g, const cn_unet_inputs *in, const char *name, cn_node *x,
                          cn_node *context, int heads)
{
    int64_t C = cn_channels(x);
    cn_scope_push(g, name);
    cn_node *q = projection(g, in, "to_q", x, C);
    cn_node *k = projection(g, in, "to_k", context, C);
    cn_node *v = projection(g, in, "to_v", context, C);
    cn_node *y = in->reference && context == x
                     ? cn_reference_attention(g, in->reference, q, k, v, heads)
                     : cn_attention(g, q, k, v, heads, false, 0);
    for (int i = 0; context != x && i < in->n_patches; i++)
        if (in->patches[i]->kind->attend)
            y = in->patches[i]->kind->attend(g, in->patches[i], q, heads, y);
    y = cn_linear(g, "to_out.0", y, C, true);
    cn_scope_pop(g);
    return y;
}

static cn_node *feed_forward(cn_graph *g, cn_node *x)
{
    int64_t C = cn_channels(x);
    cn_node *h =
        cn_geglu(g, cn_output_compute_type(g, cn_linear(g, "ff.net.0.proj", x, 8 * C, true)));
    return cn_linear(g, "ff.net.2", h, C, true);
}

static cn_node *transformer_block(cn_graph *g, const char *name, cn_node *x,
                                  const cn_unet_inputs *in, int heads)
{
    cn_scope_push(g, name);
    cn_node *h = cn_layer_norm(g, "norm1", x, EPS_LAYER_NORM);
    x = cn_add(g, x, attention(g, in, "attn1", h, h, heads));
    h = cn_layer_norm(g, "norm2", x, EPS_LAYER_NORM);
    x = cn_add(g, x, attention(g, in, "attn2", h, in->context, heads));
    h = cn_layer_norm(g, "norm3", x, EPS_LAYER_NORM);
    x = cn_add(g, x, feed_forward(g, h));
    cn_scope_pop(g);
    return x;
}

cn_node *cn_spatial_transformer(cn_graph *g, const char *name, const cn_unet_config *c, int level,
                                cn_node *x, const cn_unet_inputs *in)
{
    const bool linear = c->linear_projection;
    int64_t C = cn_channels(x);
    char block[32];
    cn_scope_push(g, name);
    cn_segment_begin(g);
    cn_node *h = cn_group_norm(g, "norm", x, c->norm_groups, EPS_NORMALIZE, CN_ACT_NONE);
    if (linear)
        h = cn_linear(g, "proj_in", tokens(g, h), C, true);
    else
        h = tokens(g, cn_conv2d(g, "proj_in", h, C, 1, 1, 0));
    for (int i = 0; i < c->transformer_layers[level]; i++) {
        if (i) {
            cn_segment_end(g);
            cn_segment_begin(g);
        }
        snprintf(block, sizeof block, "transformer_blocks.%d", i);
        h = transformer_block(g, block, h, in, c->heads[level]);
    }
    if (linear) h = cn_linear(g, "proj_out", h, C, true);
    h = cn_view(g, h, 4, x->shape);
    if (!linear) h = cn_conv2d(g, "proj_out", h, C, 1, 1, 0);
    x = cn_add(g, x, h);
    cn_segment_end(g);
    return cn_scope_return(g, x);
}

cn_node *cn_downsample(cn_graph *g, const char *name, cn_node *x)
{
    cn_scope_push(g, name);
    return cn_scope_return(g, cn_conv2d(g, "op|conv", x, cn_channels(x), 3, 2, 1));
}

cn_node *cn_upsample(cn_graph *g, const char *name, cn_node *x, int64_t H, int64_t W)
{
    cn_scope_push(g, name);
    x = cn_upsample_to(g, cn_compute(g, x), H, W); /* rounded before, while there is less of it */
    return cn_scope_return(g, cn_conv2d(g, "conv", x, cn_channels(x), 3, 1, 1));
}

cn_node *cn_vae_resblock(cn_graph *g, const char *name, cn_node *x, int64_t C, int groups)
{
    cn_scope_push(g, name);
    cn_node *h = cn_group_norm(g, "norm1", x, groups, EPS_NORMALIZE, CN_ACT_SILU);
    h = cn_conv2d(g, "conv1", h, C, 3, 1, 1);
    h = cn_group_norm(g, "norm2", h, groups, EPS_NORMALIZE, CN_ACT_SILU);
    h = cn_conv2d(g, "conv2", h, C, 3, 1, 1);
    if (cn_channels(x) != C) x = cn_conv2d(g, "nin_shortcut|conv_shortcut", x, C, 1, 1, 0);
    return cn_scope_return(g, cn_add(g, x, h));
}

cn_node *cn_vae_attention(cn_graph *g, const char *name, cn_node *x, int groups)
{
    int64_t C = cn_channels(x);
    cn_scope_push(g, name);
    cn_node *h = cn_group_norm(g, "norm|group_norm", x, groups, EPS_NORMALIZE, CN_ACT_NONE);
    h = tokens(g, h);
    cn_node *q = cn_output_compute_type(g, cn_linear_ldm_conv(g, "q|to_q", h, C));
    cn_node *k = cn_output_compute_type(g, cn_linear_ldm_conv(g, "k|to_k", h, C));
    cn_node *v = cn_output_compute_type(g, cn_linear_ldm_conv(g, "v|to_v", h, C));
    h = cn_attention(g, q, k, v, 1, false, 0);
    h = cn_linear_ldm_conv(g, "proj_out|to_out.0", h, C);
    return cn_scope_return(g, cn_add(g, x, cn_view(g, h, 4, x->shape)));
}

cn_node *cn_vae_downsample(cn_graph *g, const char *name, cn_node *x)
{
    static const int right_bottom[4] = {0, 0, 1, 1};
    cn_scope_push(g, name);
    return cn_scope_return(
        g, cn_conv2d_ex(g, "conv", x, cn_channels(x), 3, 2, right_bottom, CN_INIT_FAN_IN));
}
