/* SPDX-License-Identifier: Apache-2.0 */
/* vae.c - the autoencoder between images and latents (AutoencoderKL), both ways; taesd.c has the
 * tiny one in its place.
 *
 * Source: ldm/modules/diffusionmodules/model.py. A single file counts the decoder's levels from the
 * finest, diffusers from the coarsest. The scaling factor is the caller's.
 */
#include "model/nets/blocks.h"

#include <stdio.h>

/* Counts must be possible; x must have `channels`, and sides that are multiples of `multiple`. */
static bool vae_ok(cn_graph *g, const cn_vae_config *c, const cn_node *x, const char *what,
                   int64_t channels, int64_t multiple)
{
    if (c->levels < 1 || c->levels > CN_MAX_LEVELS || c->layers_per_block < 1) {
        cn_poison(g,
                  "vae: %d levels with %d layers per block; 1 to %d levels of 1 or more layers "
                  "are possible",
                  c->levels, c->layers_per_block, CN_MAX_LEVELS);
        return false;
    }
    if (cn_poisoned(g)) return true;
    if (x->ndim != 4 || cn_channels(x) != channels) {
        cn_poison(g, "vae: the %s must be [N,H,W,%lld], not %d-d with %lld channels", what,
                  (long long)channels, x->ndim, (long long)cn_channels(x));
        return false;
    }
    if (x->shape[1] % multiple || x->shape[2] % multiple) {
        cn_poison(g, "vae: an %s of %lld x %lld; height and width must be multiples of %lld", what,
                  (long long)x->shape[1], (long long)x->shape[2], (long long)multiple);
        return false;
    }
    return true;
}

static cn_node *middle(cn_graph *g, const cn_vae_config *c, cn_node *x)
{
    int64_t C = c->channels[c->levels - 1];
    x = cn_vae_resblock(g, "mid.block_1|mid_block.resnets.0", x, C, c->norm_groups);
    x = cn_vae_attention(g, "mid.attn_1|mid_block.attentions.0", x, c->norm_groups);
    return cn_vae_resblock(g, "mid.block_2|mid_block.resnets.1", x, C, c->norm_groups);
}

/* Norm, SiLU and the convolution to O channels that close either half. */
static cn_node *out_layers(cn_graph *g, const cn_vae_config *c, cn_node *x, int64_t O)
{
    x = cn_group_norm(g, "norm_out|conv_norm_out", x, c->norm_groups, 1e-6f, CN_ACT_SILU);
    return cn_conv2d(g, "conv_out", x, O, 3, 1, 1);
}

cn_node *cn_vae_down_build(cn_graph *g, const cn_vae_config *c, cn_node *image)
{
    char name[CN_NAME_MAX];
    int64_t multiple = c->levels >= 1 && c->levels <= CN_MAX_LEVELS ? 1 << (c->levels - 1) : 1;
    if (!vae_ok(g, c, image, "image", c->image_channels, multiple))
        return cn_poison(g, "vae: no encoder");
    if (c->tiny) return cn_taesd_down_build(g, c, image);
    cn_scope_push(g, "encoder");
    cn_node *h = cn_conv2d(g, "conv_in", image, c->channels[0], 3, 1, 1);
    for (int i = 0; i < c->levels; i++) {
        for (int j = 0; j < c->layers_per_block; j++) {
            snprintf(name, sizeof name, "down.%d.block.%d|down_blocks.%d.resnets.%d", i, j, i, j);
            h = cn_vae_resblock(g, name, h, c->channels[i], c->norm_groups);
        }
        if (i + 1 == c->levels) break;
        snprintf(name, sizeof name, "down.%d.downsample|down_blocks.%d.downsamplers.0", i, i);
        h = cn_vae_downsample(g, name, h);
    }
    cn_scope_pop(g);
    return h;
}

cn_node *cn_vae_encode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *h)
{
    if (c->tiny) return cn_taesd_encode_middle_build(g, c, h);
    cn_scope_push(g, "encoder");
    h = out_layers(g, c, middle(g, c, h), 2 * c->latent_channels);
    h = cn_scope_return(g, h);
    return cn_conv2d(g, "quant_conv", h, 2 * c->latent_channels, 1, 1, 0);
}

cn_node *cn_vae_encode_build(cn_graph *g, const cn_vae_config *c, cn_node *image)
{
    return cn_vae_encode_middle_build(g, c, cn_vae_down_build(g, c, image));
}

cn_node *cn_vae_decode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *z)
{
    if (!vae_ok(g, c, z, "latent", c->latent_channels, 1)) return cn_poison(g, "vae: no decoder");
    if (c->tiny) return cn_taesd_decode_middle_build(g, c, z);
    cn_node *h = cn_conv2d(g, "post_quant_conv", z, c->latent_channels, 1, 1, 0);
    cn_scope_push(g, "decoder");
    h = cn_conv2d(g, "conv_in", h, c->channels[c->levels - 1], 3, 1, 1);
    h = middle(g, c, h);
    cn_scope_pop(g);
    return h;
}

cn_node *cn_vae_up_build(cn_graph *g, const cn_vae_config *c, cn_node *h)
{
    char name[CN_NAME_MAX];
    if (c->tiny) return cn_taesd_up_build(g, c, h);
    cn_scope_push(g, "decoder");
    for (int i = 0; i < c->levels; i++) {
        int level = c->levels - 1 - i;
        for (int j = 0; j <= c->layers_per_block; j++) {
            snprintf(name, sizeof name, "up.%d.block.%d|up_blocks.%d.resnets.%d", level, j, i, j);
            h = cn_vae_resblock(g, name, h, c->channels[level], c->norm_groups);
        }
        if (level == 0) break;
        snprintf(name, sizeof name, "up.%d.upsample|up_blocks.%d.upsamplers.0", level, i);
        h = cn_upsample(g, name, h, 2 * h->shape[1], 2 * h->shape[2]);
    }
    return cn_cast(g, cn_scope_return(g, out_layers(g, c, h, c->image_channels)), CN_F32);
}

cn_node *cn_vae_decode_build(cn_graph *g, const cn_vae_config *c, cn_node *z)
{
    cn_node *h = cn_vae_decode_middle_build(g, c, z);
    return cn_poisoned(g) ? h : cn_vae_up_build(g, c, h);
}
