/* SPDX-License-Identifier: Apache-2.0 */
/* clip_image.c - CLIP's image encoder (transformers' CLIPVisionModelWithProjection): patches of the
 * picture and one token for all of it through the layers that clip.c's text encoder has, without a
 * mask. IP-Adapters read it in two places (diffusers' encode_image): the projected output, and what
 * enters the last layer.
 */
#include "model/nets/blocks.h"

/* The token for the whole picture, then one for each patch. */
static cn_node *embed(cn_graph *g, const cn_vision_config *c, cn_node *image)
{
    const int64_t C = c->clip.hidden, N = image->shape[0], tokens = c->clip.max_positions;
    const int side = (int)c->patch;
    const cn_conv_spec patches = {
        .O = C, .kernel_h = side, .kernel_w = side, .stride = side, .no_bias = true};
    cn_scope_push(g, "embeddings");
    cn_node *x = cn_convolution(g, "patch_embedding", image, &patches);
    cn_node *whole = cn_emit(g, CN_OP_FILL, CN_F32, 2, (int64_t[]){N, C}, 0, NULL); /* zeros */
    whole = cn_add_parameter(g, "class_embedding", whole, 1, &C);
    if (!cn_poisoned(g)) {
        x = cn_concat(g, whole, cn_view(g, x, 2, (int64_t[]){N, (tokens - 1) * C}));
        x = cn_view(g, x, 3, (int64_t[]){N, tokens, C});
    }
    x = cn_position_embedding(g, "position_embedding.weight", x, tokens);
    cn_scope_pop(g);
    return x;
}

cn_node *cn_vision_build(cn_graph *g, const cn_vision_config *c, cn_node *image,
                         cn_node **projected)
{
    const cn_clip_config *e = &c->clip;
    const int64_t S = c->image_size, C = e->hidden;
    if (!cn_poisoned(g) && (image->ndim != 4 || image->shape[1] != S || image->shape[2] != S))
        return cn_poison(g, "image encoder: pictures must be [N,%lld,%lld,3]", (long long)S,
                         (long long)S);
    cn_scope_push(g, "vision_model");
    cn_node *x = embed(g, c, image);
    x = cn_layer_norm(g, "pre_layrnorm", x, e->layer_norm_eps); /* spelt so in the files */
    x = cn_cast(g, x, CN_F32);                                  /* the residual stream */
    for (int i = 0; i < e->layers - 1; i++) x = cn_clip_layer(g, e, i, x, false);
    cn_node *before = x;
    if (projected && !cn_poisoned(g)) {
        const int64_t N = x->shape[0];
        x = cn_clip_layer(g, e, e->layers - 1, x, false);
        if (!cn_poisoned(g)) x = cn_view(g, x, 2, (int64_t[]){N, e->max_positions * C});
        x = cn_slice(g, x, 0, C); /* the whole picture's token */
        x = cn_layer_norm(g, "post_layernorm", x, e->layer_norm_eps);
    }
    cn_scope_pop(g);
    if (projected && !cn_poisoned(g)) {
        x = cn_linear(g, "visual_projection", x, e->projection, false);
        *projected = cn_view(g, x, 3, (int64_t[]){image->shape[0], 1, e->projection});
    }
    return before;
}
