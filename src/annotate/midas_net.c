/* SPDX-License-Identifier: Apache-2.0 */
/* midas_net.c - DPT-hybrid: a ResNet for the first 1/16, a vision transformer on its features, and
 * RefineNet's fusion of four levels to a depth at the picture's size.
 *
 * Convolutions of the ResNet are padded as TensorFlow's SAME (the smaller half first) and their
 * weights standardised. Source: Ranftl et al., "Vision Transformers for Dense Prediction";
 * isl-org/DPT, timm's ResNetV2.
 */
#include "annotate/midas.h"
#include "annotate/vit.h"
#include "model/checkpoint/derived.h"

#include <stdio.h>

enum { GROUPS = 32, WIDTH = 768, HEADS = 12, BLOCKS = 12, GRID = 24, FUSED = 256 };
#define STANDARDISE_EPS 1e-8f
#define GROUP_NORM_EPS  1e-5f
#define LAYER_NORM_EPS  1e-6f

/* --- the ResNet ------------------------------------------------------------------------------- */

/* Padding so that ceil(n / stride) results come out: pad[0], pad[2] for rows, pad[1], pad[3] for
 * columns. */
static void same_padding(const cn_node *x, int kernel, int stride, int pad[4])
{
    for (int i = 0; i < 2; i++) {
        const int64_t n = x->shape[1 + i];
        const int64_t all = CN_MAX(((n + stride - 1) / stride - 1) * stride + kernel - n, 0);
        pad[i] = (int)(all / 2);
        pad[i + 2] = (int)(all - all / 2);
    }
}

/* CONV and NORM under the current scope. */
static cn_node *conv_norm(cn_graph *g, const char *conv, const char *norm, cn_node *x, int64_t O,
                          int kernel, int stride)
{
    cn_conv_spec c = {
        .O = O, .kernel_h = kernel, .kernel_w = kernel, .stride = stride, .no_bias = true};
    if (cn_poisoned(g)) return x;
    same_padding(x, kernel, stride, c.pad);
    x = cn_derive_standardised(g, cn_convolution(g, conv, x, &c), STANDARDISE_EPS);
    return cn_group_norm(g, norm, x, GROUPS, GROUP_NORM_EPS, CN_ACT_NONE);
}

static cn_node *relu(cn_graph *g, cn_node *x)
{
    return cn_activation(g, x, CN_ACT_RELU);
}

static cn_node *bottleneck(cn_graph *g, const char *name, cn_node *x, int64_t O, int stride,
                           bool first)
{
    cn_node *shortcut = x;
    cn_scope_push(g, name);
    if (first) shortcut = conv_norm(g, "downsample.conv", "downsample.norm", x, O, 1, stride);
    x = relu(g, conv_norm(g, "conv1", "norm1", x, O / 4, 1, 1));
    x = relu(g, conv_norm(g, "conv2", "norm2", x, O / 4, 3, stride));
    x = conv_norm(g, "conv3", "norm3", x, O, 1, 1);
    cn_scope_pop(g);
    return relu(g, cn_add(g, x, shortcut));
}

/* levels[0]: 256 channels at 1/4, levels[1]: 512 at 1/8; returns 1024 at 1/16. */
static cn_node *resnet(cn_graph *g, cn_node *x, cn_node *levels[2])
{
    static const int blocks[] = {3, 4, 9};
    char name[32];
    int pad[4];
    cn_scope_push(g, "patch_embed.backbone");
    x = relu(g, conv_norm(g, "stem.conv", "stem.norm", x, 64, 7, 2));
    if (!cn_poisoned(g)) {
        same_padding(x, 3, 2, pad);
        x = cn_max_pool(g, x, 3, 2, pad);
    }
    for (int stage = 0; stage < 3; stage++) {
        for (int i = 0; i < blocks[stage]; i++) {
            snprintf(name, sizeof name, "stages.%d.blocks.%d", stage, i);
            x = bottleneck(g, name, x, 256 << stage, stage && !i ? 2 : 1, i == 0);
        }
        if (stage < 2) levels[stage] = x;
    }
    cn_scope_pop(g);
    return x;
}

/* --- the transformer -------------------------------------------------------------------------- */

/* a and b [1,n,C]: the tokens of a, then those of b. */
static cn_node *join_tokens(cn_graph *g, cn_node *a, cn_node *b)
{
    const int64_t n = cn_node_elements(a), m = cn_node_elements(b), C = cn_channels(a);
    cn_node *all =
        cn_concat(g, cn_view(g, a, 2, (int64_t[]){1, n}), cn_view(g, b, 2, (int64_t[]){1, m}));
    return cn_view(g, all, 3, (int64_t[]){1, (n + m) / C, C});
}

/* Tokens first .. first+count of x [1,n,C]. */
static cn_node *cut_tokens(cn_graph *g, cn_node *x, int64_t first, int64_t count)
{
    const int64_t C = cn_channels(x);
    cn_node *all = cn_view(g, x, 2, (int64_t[]){1, cn_node_elements(x)});
    return cn_view(g, cn_slice(g, all, first * C, count * C), 3, (int64_t[]){1, count, C});
}

/* The class token before the features' tokens, and the positions' embedding, whose grid is brought
 * to h x w. */
static cn_node *embed(cn_graph *g, cn_node *x, int64_t h, int64_t w)
{
    cn_node *class_token =
        cn_param_node(g, "cls_token", 3, (int64_t[]){1, 1, WIDTH}, CN_INIT_NORMAL, WIDTH);
    cn_node *table = cn_param_node(g, "pos_embed", 3, (int64_t[]){1, GRID * GRID + 1, WIDTH},
                                   CN_INIT_NORMAL, WIDTH);
    if (cn_poisoned(g)) return x;
    cn_node *grid = cut_tokens(g, table, 1, GRID * GRID);
    grid = cn_resize_to(g, cn_view(g, grid, 4, (int64_t[]){1, GRID, GRID, WIDTH}), h, w, false);
    grid = cn_view(g, grid, 3, (int64_t[]){1, h * w, WIDTH});
    x = cn_view(g, x, 3, (int64_t[]){1, h * w, WIDTH});
    return cn_add(g, join_tokens(g, class_token, x),
                  join_tokens(g, cut_tokens(g, table, 0, 1), grid));
}

/* --- levels for the fusion -------------------------------------------------------------------- */

/* act_postprocessN: every token beside the class token, projected, as a picture of h x w. */
static cn_node *readout(cn_graph *g, cn_node *tokens, int64_t h, int64_t w)
{
    if (cn_poisoned(g)) return tokens;
    cn_node *class_token = cn_view(g, cut_tokens(g, tokens, 0, 1), 4, (int64_t[]){1, 1, 1, WIDTH});
    cn_node *x = cn_view(g, cut_tokens(g, tokens, 1, h * w), 4, (int64_t[]){1, h, w, WIDTH});
    x = cn_concat(g, x, cn_upsample_to(g, class_token, h, w));
    x = cn_activation(g, cn_linear(g, "0.project.0", x, WIDTH, true), CN_ACT_GELU);
    return cn_conv2d(g, "3", x, WIDTH, 1, 1, 0);
}

/* resConfUnitN */
static cn_node *residual_unit(cn_graph *g, const char *name, cn_node *x)
{
    cn_scope_push(g, name);
    cn_node *h = cn_conv2d(g, "conv1", relu(g, x), FUSED, 3, 1, 1);
    h = cn_conv2d(g, "conv2", relu(g, h), FUSED, 3, 1, 1);
    cn_scope_pop(g);
    return cn_add(g, x, h);
}

/* refinenetN: what comes from the coarser level (NULL for the coarsest) and this level's own, at
 * twice the size. */
static cn_node *fuse(cn_graph *g, const char *name, cn_node *coarse, cn_node *level)
{
    cn_scope_push(g, name);
    cn_node *x = level;
    if (coarse) x = cn_add(g, coarse, residual_unit(g, "resConfUnit1", level));
    x = residual_unit(g, "resConfUnit2", x);
    if (!cn_poisoned(g)) x = cn_resize_to(g, x, 2 * x->shape[1], 2 * x->shape[2], true);
    x = cn_conv2d(g, "out_conv", x, FUSED, 1, 1, 0);
    cn_scope_pop(g);
    return x;
}

static cn_node *head(cn_graph *g, cn_node *x)
{
    cn_scope_push(g, "output_conv");
    x = cn_conv2d(g, "0", x, FUSED / 2, 3, 1, 1);
    if (!cn_poisoned(g)) x = cn_resize_to(g, x, 2 * x->shape[1], 2 * x->shape[2], true);
    x = relu(g, cn_conv2d(g, "2", x, 32, 3, 1, 1));
    x = relu(g, cn_conv2d(g, "4", x, 1, 1, 1, 0));
    cn_scope_pop(g);
    return x;
}

static void build(cn_graph *g, cn_node *x, cn_node **out)
{
    static const cn_conv_spec plain = {
        .O = FUSED, .kernel_h = 3, .kernel_w = 3, .pad = {1, 1, 1, 1}, .no_bias = true};
    const int64_t h = x->shape[1] / 16, w = x->shape[2] / 16;
    cn_node *levels[4] = {0}, *tokens[2] = {0};
    char name[32];
    if (x->shape[1] % 32 || x->shape[2] % 32) {
        out[0] = cn_poison(g, "sides must be multiples of 32");
        return;
    }
    cn_scope_push(g, "pretrained.model");
    x = cn_conv2d(g, "patch_embed.proj", resnet(g, x, levels), WIDTH, 1, 1, 0);
    x = embed(g, x, h, w);
    for (int i = 0; i < BLOCKS; i++) {
        snprintf(name, sizeof name, "blocks.%d", i);
        cn_scope_push(g, name);
        x = cn_vit_block(g, x, HEADS, LAYER_NORM_EPS);
        cn_scope_pop(g);
        if (i == 8) tokens[0] = x;
    }
    tokens[1] = x;
    cn_scope_pop(g);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "pretrained.act_postprocess%d", 3 + i);
        cn_scope_push(g, name);
        levels[2 + i] = readout(g, tokens[i], h, w);
        if (i == 1) levels[3] = cn_conv2d(g, "4", levels[3], WIDTH, 3, 2, 1);
        cn_scope_pop(g);
    }
    cn_scope_push(g, "scratch");
    x = NULL;
    for (int i = 3; i >= 0; i--) {
        snprintf(name, sizeof name, "layer%d_rn", i + 1);
        cn_node *level = cn_convolution(g, name, levels[i], &plain);
        snprintf(name, sizeof name, "refinenet%d", i + 1);
        x = fuse(g, name, x, level);
    }
    out[0] = head(g, x);
    cn_scope_pop(g);
}

const cn_network cn_midas = {
    .name = "MiDaS (DPT-hybrid)",
    .file = "dpt_hybrid-midas-501f0c75.pt",
    .url = "https://github.com/isl-org/DPT",
    .signs = {{"scratch.output_conv.4.weight", 1},
              {"pretrained.model.patch_embed.backbone.stem.conv.weight", 64}},
    .channels = 3,
    .build = build};
