/* SPDX-License-Identifier: Apache-2.0 */
/* uniformer_net.c - UniFormer-S, whose first two stages mix by convolutions and last two by
 * attention, and UPerNet, which joins the four stages and averages over the whole picture.
 *
 * Every batch norm is part of the convolution beside it. Source: Li et al., "UniFormer: Unifying
 * Convolution and Self-attention for Visual Recognition"; Sense-X/UniFormer; Xiao et al., "Unified
 * Perceptual Parsing".
 */
#include "annotate/uniformer.h"
#include "annotate/vit.h"
#include "model/checkpoint/derived.h"

#include <stdio.h>

enum { STAGES = 4, HEAD_WIDTH = 64, WIDTH = 512, CLASSES = 150 };
#define PATCH_NORM_EPS 1e-5f
#define LAYER_NORM_EPS 1e-6f
#define BATCH_NORM_EPS 1e-5f

/* --- the backbone ----------------------------------------------------------------------------- */

/* Each channel by a kernel of its own. */
static cn_node *depthwise(cn_graph *g, const char *name, cn_node *x, int kernel)
{
    const int64_t C = cn_channels(x);
    const int pad = kernel / 2;
    return cn_convolution(g, name, x,
                          &(cn_conv_spec){.O = C,
                                          .kernel_h = kernel,
                                          .kernel_w = kernel,
                                          .groups = (int)C,
                                          .pad = {pad, pad, pad, pad}});
}

/* 1x1 convolution of the batch norm NORM of x. */
static cn_node *norm_conv(cn_graph *g, const char *norm, const char *conv, cn_node *x, int64_t O)
{
    return cn_derive_batch_norm_before(g, cn_conv2d(g, conv, x, O, 1, 1, 0), norm, BATCH_NORM_EPS);
}

static cn_node *conv_block(cn_graph *g, cn_node *x)
{
    const int64_t C = cn_channels(x);
    x = cn_add(g, x, depthwise(g, "pos_embed", x, 3));
    cn_node *h = norm_conv(g, "norm1", "conv1", x, C);
    h = cn_conv2d(g, "conv2", depthwise(g, "attn", h, 5), C, 1, 1, 0);
    x = cn_add(g, x, h);
    h = cn_activation(g, norm_conv(g, "norm2", "mlp.fc1", x, 4 * C), CN_ACT_GELU);
    return cn_add(g, x, cn_conv2d(g, "mlp.fc2", h, C, 1, 1, 0));
}

static cn_node *attention_block(cn_graph *g, cn_node *x)
{
    x = cn_add(g, x, depthwise(g, "pos_embed", x, 3));
    if (cn_poisoned(g)) return x;
    const int64_t h = x->shape[1], w = x->shape[2], C = cn_channels(x);
    cn_node *tokens = cn_view(g, x, 3, (int64_t[]){1, h * w, C});
    tokens = cn_vit_block(g, tokens, (int)(C / HEAD_WIDTH), LAYER_NORM_EPS);
    return cn_view(g, tokens, 4, (int64_t[]){1, h, w, C});
}

/* levels[i]: stage i's result after a norm that the head alone sees. */
static void backbone(cn_graph *g, cn_node *x, cn_node *levels[STAGES])
{
    static const int depth[STAGES] = {3, 4, 8, 3}, channels[STAGES] = {64, 128, 320, 512};
    char name[32];
    cn_scope_push(g, "backbone");
    for (int i = 0; i < STAGES; i++) {
        const int patch = i ? 2 : 4;
        snprintf(name, sizeof name, "patch_embed%d", i + 1);
        cn_scope_push(g, name);
        x = cn_conv2d(g, "proj", x, channels[i], patch, patch, 0);
        x = cn_layer_norm(g, "norm", x, PATCH_NORM_EPS);
        cn_scope_pop(g);
        for (int k = 0; k < depth[i]; k++) {
            snprintf(name, sizeof name, "blocks%d.%d", i + 1, k);
            cn_scope_push(g, name);
            x = i < 2 ? conv_block(g, x) : attention_block(g, x);
            cn_scope_pop(g);
        }
        snprintf(name, sizeof name, "norm%d", i + 1);
        levels[i] = cn_layer_norm(g, name, x, LAYER_NORM_EPS);
    }
    cn_scope_pop(g);
}

/* --- the head --------------------------------------------------------------------------------- */

/* Convolution, batch norm, ReLU: NAME.conv and NAME.bn. */
static cn_node *conv_norm_relu(cn_graph *g, const char *name, cn_node *x, int kernel)
{
    cn_scope_push(g, name);
    x = cn_conv2d(g, "conv", x, WIDTH, kernel, 1, kernel / 2);
    x = cn_derive_batch_norm(g, x, "bn", BATCH_NORM_EPS);
    cn_scope_pop(g);
    return cn_activation(g, x, CN_ACT_RELU);
}

static cn_node *numbered(cn_graph *g, const char *format, int i, cn_node *x, int kernel)
{
    char name[32];
    snprintf(name, sizeof name, format, i);
    return conv_norm_relu(g, name, x, kernel);
}

static cn_node *to_size_of(cn_graph *g, cn_node *x, const cn_node *like)
{
    return cn_poisoned(g) ? x : cn_resize_to(g, x, like->shape[1], like->shape[2], false);
}

/* The last level beside its means over 1, 4, 9 and 36 parts of the picture. */
static cn_node *pyramid(cn_graph *g, cn_node *x)
{
    static const int parts[] = {1, 2, 3, 6};
    cn_node *all = x;
    for (int i = 0; i < 4; i++) {
        cn_node *mean = cn_mean_pool_to(g, x, parts[i], parts[i]);
        mean = numbered(g, "psp_modules.%d.1", i, mean, 1);
        all = cn_concat(g, all, to_size_of(g, mean, x));
    }
    return conv_norm_relu(g, "bottleneck", all, 3);
}

static cn_node *head(cn_graph *g, cn_node *levels[STAGES])
{
    cn_node *l[STAGES];
    cn_scope_push(g, "decode_head");
    for (int i = 0; i < STAGES - 1; i++) l[i] = numbered(g, "lateral_convs.%d", i, levels[i], 1);
    l[STAGES - 1] = pyramid(g, levels[STAGES - 1]);
    for (int i = STAGES - 1; i > 0; i--)
        l[i - 1] = cn_add(g, l[i - 1], to_size_of(g, l[i], l[i - 1]));
    for (int i = 0; i < STAGES - 1; i++) l[i] = numbered(g, "fpn_convs.%d", i, l[i], 3);
    cn_node *all = l[0];
    for (int i = 1; i < STAGES; i++) all = cn_concat(g, all, to_size_of(g, l[i], l[0]));
    all = conv_norm_relu(g, "fpn_bottleneck", all, 3);
    all = cn_conv2d(g, "conv_seg", all, CLASSES, 1, 1, 0);
    cn_scope_pop(g);
    return all;
}

static void build(cn_graph *g, cn_node *x, cn_node **out)
{
    cn_node *levels[STAGES];
    backbone(g, x, levels);
    out[0] = head(g, levels);
}

const cn_network cn_uniformer = {
    .name = "UniFormer-S with UPerNet",
    .file = "upernet_global_small.pth",
    .url = "https://github.com/Sense-X/UniFormer",
    .signs = {{"decode_head.conv_seg.weight", CLASSES}, {"backbone.patch_embed1.proj.weight", 64}},
    .channels = 3,
    .build = build};
