/* SPDX-License-Identifier: Apache-2.0 */
/* config_shapes.c - a network's configuration from its tensors' names and shapes.
 *
 * Most single files carry no configuration. Widths, depth, where attention stands and the context's
 * width follow from shapes; what doesn't is assumed (config_io.h). Nothing here reads a tensor's
 * data.
 */
#include "model/checkpoint/config_io.h"

#include "model/checkpoint/averages.h"
#include "graph/graph.h"
#include "model/checkpoint/content.h"

#include <string.h>

/* Where a network's tensors are. */
typedef struct view {
    cn_ctx *ctx;
    const cn_tensors *file;
    const char *prefix;
    cn_layout layout;
} view;

static const cn_tensor_info *find(const view *v, const char *fmt, ...) CN_PRINTF(2, 3);

static const cn_tensor_info *find(const view *v, const char *fmt, ...)
{
    char name[512];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return n > 0 && (size_t)n < sizeof name ? cn_tensors_find_in(v->file, v->prefix, name) : NULL;
}

static cn_status missing(const view *v, const char *name)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", v->prefix, name);
    const char *why = cn_tensors_skipped_why(v->file, full);
    if (why)
        return cn_fail(v->ctx, CN_EFORMAT, "tensor %s has %s, which is not read here", full, why);
    return cn_fail(v->ctx, CN_EFORMAT, "tensor %s is missing", full);
}

/* Dimension i of a weight of at least 2 dimensions. */
static cn_status dim(const view *v, const char *what, const cn_tensor_info *t, int i, int64_t *out)
{
    if (!t) return missing(v, what);
    if (t->ndim < 2 || t->shape[i] < 1)
        return cn_fail(v->ctx, CN_EFORMAT, "tensor %s has %d dimensions, a weight is expected",
                       t->name, t->ndim);
    *out = t->shape[i];
    return CN_OK;
}

static bool ldm(const view *v)
{
    return v->layout == CN_LAYOUT_LDM;
}

/* --- UNet and ControlNet ---------------------------------------------------------------------- */

static const cn_tensor_info *resnet(const view *v, const cn_unet_config *c, int level, int layer)
{
    if (ldm(v))
        return find(v, "input_blocks.%d.0.in_layers.2.weight",
                    level * (c->layers_per_block + 1) + layer + 1);
    return find(v, "down_blocks.%d.resnets.%d.conv1.weight", level, layer);
}

static const cn_tensor_info *attention(const view *v, const cn_unet_config *c, int level,
                                       const char *rest)
{
    if (ldm(v)) return find(v, "input_blocks.%d.1.%s", level * (c->layers_per_block + 1) + 1, rest);
    return find(v, "down_blocks.%d.attentions.0.%s", level, rest);
}

static const cn_tensor_info *mid_attention(const view *v, const char *rest)
{
    return find(v, ldm(v) ? "middle_block.1.%s" : "mid_block.attentions.0.%s", rest);
}

static int count_layers(const view *v)
{
    int n = 0;
    while (n < 64 && (ldm(v) ? find(v, "input_blocks.%d.0.in_layers.2.weight", n + 1)
                             : find(v, "down_blocks.0.resnets.%d.conv1.weight", n)))
        n++;
    return n;
}

static cn_status refuse_features(const view *v)
{
    static const struct {
        const char *ldm, *diffusers, *what;
    } list[] = {
        {"input_blocks.1.1.time_pos_embed.0.weight", "down_blocks.0.motion_modules.0.norm.weight",
         "has layers over time, as video models"},
    };
    for (size_t i = 0; i < CN_COUNT(list); i++)
        if (find(v, "%s", ldm(v) ? list[i].ldm : list[i].diffusers))
            return cn_fail(v->ctx, CN_EFORMAT,
                           "the network %s; Stable Diffusion 1.x's, 2.x's and XL's form is "
                           "supported",
                           list[i].what);
    return CN_OK;
}

/* At block `level`, or of the middle block. */
static int count_transformers(const view *v, const cn_unet_config *c, int level, bool middle)
{
    int n = 0;
    char rest[64];
    for (;; n++) {
        snprintf(rest, sizeof rest, "transformer_blocks.%d.attn2.to_k.weight", n);
        if (!(middle ? mid_attention(v, rest) : attention(v, c, level, rest))) return n;
    }
}

static cn_status read_levels(const view *v, cn_unet_config *c)
{
    c->layers_per_block = count_layers(v);
    if (c->layers_per_block < 1)
        return missing(v, ldm(v) ? "input_blocks.1.0.in_layers.2.weight"
                                 : "down_blocks.0.resnets.0.conv1.weight");
    for (; c->levels < CN_MAX_LEVELS && resnet(v, c, c->levels, 0); c->levels++) {
        int i = c->levels;
        CN_TRY(dim(v, "", resnet(v, c, i, 0), 0, &c->channels[i]));
        c->attention[i] = attention(v, c, i, "norm.weight") != NULL;
        c->transformer_layers[i] = CN_MAX(1, count_transformers(v, c, i, false));
    }
    const int last = c->levels - 1, middle = count_transformers(v, c, last, true);
    if (c->attention[last] && c->transformer_layers[last] != middle)
        return cn_fail(v->ctx, CN_EFORMAT,
                       "the middle block has %d transformer layers, the last level %d: they must "
                       "have equally many",
                       middle, c->transformer_layers[last]);
    c->transformer_layers[last] = middle;
    return CN_OK;
}

static cn_status read_transformers(const view *v, cn_unet_config *c)
{
    const cn_tensor_info *proj = mid_attention(v, "proj_in.weight");
    int64_t width = 0;
    CN_TRY(dim(v, "middle block's attention", proj, 0, &width));
    if (c->transformer_layers[c->levels - 1])
        CN_TRY(dim(v, "middle block's attention to the context",
                   mid_attention(v, "transformer_blocks.0.attn2.to_k.weight"), 1, &c->context_dim));
    c->linear_projection = proj->ndim == 2;
    for (int i = 0; i < c->levels; i++)
        c->heads[i] = c->linear_projection ? (int)CN_MAX(c->channels[i] / 64, 1) : 8;
    return CN_OK;
}

static cn_status read_encoder(const view *v, cn_unet_config *c)
{
    const cn_tensor_info *conv_in =
        find(v, "%s", ldm(v) ? "input_blocks.0.0.weight" : "conv_in.weight");
    CN_TRY(refuse_features(v));
    CN_TRY(
        dim(v, ldm(v) ? "input_blocks.0.0.weight" : "conv_in.weight", conv_in, 1, &c->in_channels));
    c->out_channels = c->in_channels;
    c->norm_groups = 32;
    c->sample_size = 64;
    CN_TRY(read_levels(v, c));
    const char *added = ldm(v) ? "label_emb.0.0.weight" : "add_embedding.linear_1.weight";
    if (find(v, "%s", added)) CN_TRY(dim(v, added, find(v, "%s", added), 1, &c->added_dim));
    return read_transformers(v, c);
}

cn_status cn_unet_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                     cn_layout layout, cn_unet_config *out)
{
    view v = {ctx, t, prefix, layout};
    cn_unet_config c = {0};
    CN_TRY(read_encoder(&v, &c));
    CN_TRY(cn_unet_config_check(ctx, &c));
    const char *last = ldm(&v) ? "out.2.weight" : "conv_out.weight";
    CN_TRY(dim(&v, last, find(&v, "%s", last), 0, &c.out_channels));
    const char *cond = ldm(&v) ? "time_embed.cond_proj.weight" : "time_embedding.cond_proj.weight";
    if (find(&v, "%s", cond)) CN_TRY(dim(&v, cond, find(&v, "%s", cond), 1, &c.guidance_dim));
    *out = c;
    return CN_OK;
}

/* Level k's first convolution: 0, 4, 8, ... in the single-file form, where every second entry of
 * the sequence is an activation. */
static const cn_tensor_info *hint(const view *v, int level)
{
    if (ldm(v)) return find(v, "input_hint_block.%d.weight", 4 * level);
    if (level == 0) return find(v, "controlnet_cond_embedding.conv_in.weight");
    return find(v, "controlnet_cond_embedding.blocks.%d.weight", 2 * level - 1);
}

cn_status cn_controlnet_hint_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                         cn_layout layout, cn_controlnet_config *c)
{
    view v = {ctx, t, prefix, layout};
    const cn_tensor_info *tasks = find(&v, "task_embedding");
    int64_t types = 0;
    const char *first =
        ldm(&v) ? "input_hint_block.0.weight" : "controlnet_cond_embedding.conv_in.weight";
    CN_TRY(dim(&v, first, hint(&v, 0), 1, &c->condition_channels));
    for (; c->hint_levels < CN_MAX_LEVELS && hint(&v, c->hint_levels); c->hint_levels++)
        CN_TRY(dim(&v, "", hint(&v, c->hint_levels), 0, &c->hint_channels[c->hint_levels]));
    if (!tasks) return CN_OK;
    CN_TRY(dim(&v, "", tasks, 0, &types));
    c->union_types = (int)CN_MIN(types, (int64_t)1 << 16);
    const char *numbers = "control_add_embedding.linear_1.weight";
    CN_TRY(dim(&v, numbers, find(&v, "%s", numbers), 1, &c->encoder.added_number_dim));
    c->encoder.added_number_dim /= CN_MAX(types, 1);
    c->union_heads = 8;
    while (c->union_layers < 64 &&
           find(&v, "transformer_layes.%d.attn.in_proj_weight", c->union_layers))
        c->union_layers++;
    return CN_OK;
}

cn_status cn_controlnet_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                           cn_layout layout, cn_controlnet_config *out)
{
    view v = {ctx, t, prefix, layout};
    cn_controlnet_config c = {0};
    CN_TRY(read_encoder(&v, &c.encoder));
    for (int k = 0; k < c.encoder.levels; k++)
        while (c.encoder.channels[k] % c.encoder.norm_groups) c.encoder.norm_groups /= 2;
    CN_TRY(cn_controlnet_hint_from_shapes(ctx, t, prefix, layout, &c));
    CN_TRY(cn_controlnet_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

/* --- VAE -------------------------------------------------------------------------------------- */

static const cn_tensor_info *vae_resnet(const view *v, int level, int layer)
{
    return find(v,
                ldm(v) ? "encoder.down.%d.block.%d.conv1.weight"
                       : "encoder.down_blocks.%d.resnets.%d.conv1.weight",
                level, layer);
}

cn_status cn_vae_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                    cn_layout layout, cn_vae_config *out)
{
    view v = {ctx, t, prefix, layout};
    cn_vae_config c = {.norm_groups = 32, .scaling_factor = CN_SD_SCALING_FACTOR};
    CN_TRY(dim(&v, "encoder.conv_in.weight", find(&v, "encoder.conv_in.weight"), 1,
               &c.image_channels));
    CN_TRY(dim(&v, "decoder.conv_in.weight", find(&v, "decoder.conv_in.weight"), 1,
               &c.latent_channels));
    if (!find(&v, "quant_conv.weight") || !find(&v, "post_quant_conv.weight"))
        return cn_fail(ctx, CN_EFORMAT,
                       "the VAE has no quant_conv and post_quant_conv, as Stable Diffusion's has");
    while (c.layers_per_block < 64 && vae_resnet(&v, 0, c.layers_per_block)) c.layers_per_block++;
    for (; c.levels < CN_MAX_LEVELS && vae_resnet(&v, c.levels, 0); c.levels++)
        CN_TRY(dim(&v, "", vae_resnet(&v, c.levels, 0), 0, &c.channels[c.levels]));
    CN_TRY(cn_vae_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

cn_status cn_taesd_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_layout layout,
                                      cn_vae_config *out)
{
    view v = {ctx, t, "", layout};
    cn_vae_config c = {.image_channels = 3,
                       .levels = 4,
                       .layers_per_block = 3,
                       .norm_groups = 1,
                       .scaling_factor = 1,
                       .tiny = true};
    const char *first = ldm(&v) ? "decoder.1.weight" : "decoder.layers.0.weight";
    const char *last = ldm(&v) ? "encoder.14.weight" : "encoder.layers.14.weight";
    const cn_tensor_info *in = find(&v, "%s", first), *of = find(&v, "%s", last);
    int64_t width = 0;
    CN_TRY(dim(&v, first, in ? in : of, in ? 1 : 0, &c.latent_channels));
    CN_TRY(dim(&v, first, in ? in : of, in ? 0 : 1, &width));
    for (int i = 0; i < c.levels; i++) c.channels[i] = width;
    CN_TRY(cn_vae_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

/* --- CLIP ------------------------------------------------------------------------------------- */

/* SD 2.x's text encoder, which stable-diffusion.cpp gives the names of SD 1.x's. */
enum { OPEN_CLIP_WIDTH = 1024 };

static int clip_heads(int64_t hidden)
{
    return hidden >= 64 && hidden % 64 == 0 ? (int)(hidden / 64) : 4;
}

cn_status cn_open_clip_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                          cn_clip_config *out)
{
    view v = {ctx, t, prefix, CN_LAYOUT_LDM};
    cn_clip_config c = {.act = CN_ACT_GELU, .layer_norm_eps = 1e-5f, .open_clip = true};
    const char *tokens = "token_embedding.weight", *positions = "positional_embedding";
    const char *fc = "transformer.resblocks.0.mlp.c_fc.weight";
    CN_TRY(dim(&v, tokens, find(&v, "%s", tokens), 0, &c.vocabulary));
    CN_TRY(dim(&v, tokens, find(&v, "%s", tokens), 1, &c.hidden));
    CN_TRY(dim(&v, positions, find(&v, "%s", positions), 0, &c.max_positions));
    CN_TRY(dim(&v, fc, find(&v, "%s", fc), 0, &c.intermediate));
    while (c.layers < 256 && find(&v, "transformer.resblocks.%d.mlp.c_fc.weight", c.layers))
        c.layers++;
    const cn_tensor_info *projection = find(&v, "text_projection"); /* [hidden, pooled] */
    if (projection) c.projection = projection->ndim == 2 ? projection->shape[1] : c.hidden;
    c.heads = clip_heads(c.hidden);
    CN_TRY(cn_clip_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

cn_status cn_clip_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                     cn_clip_config *out)
{
    view v = {ctx, t, prefix, CN_LAYOUT_LDM};
    cn_clip_config c = {.act = CN_ACT_QUICK_GELU, .layer_norm_eps = 1e-5f};
    char longer[512];
    CN_TRY(cn_format(ctx, longer, sizeof longer, "%stext_model.", prefix));
    if (!find(&v, "embeddings.token_embedding.weight")) v.prefix = longer;
    const char *table = "embeddings.token_embedding.weight";
    const char *fc1 = "encoder.layers.0.mlp.fc1.weight";
    CN_TRY(dim(&v, table, find(&v, "%s", table), 0, &c.vocabulary));
    CN_TRY(dim(&v, table, find(&v, "%s", table), 1, &c.hidden));
    table = "embeddings.position_embedding.weight";
    CN_TRY(dim(&v, table, find(&v, "%s", table), 0, &c.max_positions));
    CN_TRY(dim(&v, fc1, find(&v, "%s", fc1), 0, &c.intermediate));
    while (c.layers < 256 && find(&v, "encoder.layers.%d.mlp.fc1.weight", c.layers)) c.layers++;
    if (c.hidden == OPEN_CLIP_WIDTH) c.act = CN_ACT_GELU;
    c.heads = clip_heads(c.hidden);
    CN_TRY(cn_clip_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}
