/* SPDX-License-Identifier: Apache-2.0 */
/* taesd.c - the tiny autoencoder of madebyollin/taesd: 3x3 convolutions with residual blocks and no
 * norms, distilled from Stable Diffusion's VAE. Its latents are already scaled as the UNet has
 * them.
 *
 * Source: taesd.py. That file numbers a half's layers with the decoder's clamp as layer 0;
 * diffusers' AutoencoderTiny without it, hence two numbers for each layer. The latents' spread
 * isn't learned: moments get the smallest variance that counts.
 */
#include "model/nets/blocks.h"

#include <stdio.h>

/* The layers of a half, counted. */
typedef struct layers {
    cn_graph *g;
    int next, ahead; /* of diffusers; by how many the published file is ahead */
} layers;

static const char *layer(const layers *l, const char *rest, char name[CN_NAME_MAX])
{
    snprintf(name, CN_NAME_MAX, "%d%s|layers.%d%s", l->next + l->ahead, rest, l->next, rest);
    return name;
}

static cn_node *conv(layers *l, cn_node *x, int64_t O, int stride, bool bias)
{
    char name[CN_NAME_MAX];
    const cn_conv_spec spec = {.O = O,
                               .kernel_h = 3,
                               .kernel_w = 3,
                               .stride = stride,
                               .dilation = 1,
                               .groups = 1,
                               .pad = {1, 1, 1, 1},
                               .no_bias = !bias};
    cn_node *y = cn_convolution(l->g, layer(l, "", name), x, &spec);
    l->next++;
    return y;
}

static cn_node *relu(cn_graph *g, cn_node *x)
{
    return cn_activation(g, x, CN_ACT_RELU);
}

static cn_node *block(layers *l, cn_node *x)
{
    static const char *const parts[] = {".conv.0", ".conv.2", ".conv.4"};
    char name[CN_NAME_MAX];
    const int64_t C = cn_channels(x);
    cn_node *h = x;
    for (int i = 0; i < 3; i++) {
        h = cn_conv2d(l->g, layer(l, parts[i], name), h, C, 3, 1, 1);
        if (i < 2) h = relu(l->g, h);
    }
    l->next++;
    return relu(l->g, cn_add(l->g, h, x));
}

/* x * by + to */
static cn_node *affine(cn_graph *g, cn_node *x, float by, float to)
{
    cn_node *constant = cn_emit(g, CN_OP_FILL, x->dtype, x->ndim, x->shape, 0, NULL);
    constant->alpha = to;
    return cn_add(g, cn_scale(g, x, by), constant);
}

cn_node *cn_taesd_down_build(cn_graph *g, const cn_vae_config *c, cn_node *image)
{
    layers l = {g, 0, 0};
    if (cn_poisoned(g)) return image;
    cn_scope_push(g, "encoder");
    cn_node *h = conv(&l, affine(g, image, 0.5f, 0.5f), c->channels[0], 1, true);
    h = block(&l, h);
    for (int i = 1; i < c->levels; i++) {
        h = conv(&l, h, c->channels[i], 2, false);
        for (int j = 0; j < c->layers_per_block; j++) h = block(&l, h);
    }
    return cn_scope_return(g, h);
}

cn_node *cn_taesd_encode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *h)
{
    layers l = {g, 2 + (c->levels - 1) * (1 + c->layers_per_block), 0};
    if (cn_poisoned(g)) return h;
    cn_scope_push(g, "encoder");
    h = cn_scope_return(g, conv(&l, h, c->latent_channels, 1, true));
    h = cn_cast(g, h, CN_F32);
    return cn_concat(g, h, affine(g, h, 0, -30));
}

cn_node *cn_taesd_decode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *z)
{
    layers l = {g, 0, 1};
    if (cn_poisoned(g)) return z;
    cn_scope_push(g, "decoder");
    cn_node *h = cn_activation(g, cn_scale(g, z, 1.0f / 3), CN_ACT_TANH);
    h = relu(g, conv(&l, cn_scale(g, h, 3), c->channels[c->levels - 1], 1, true));
    return cn_scope_return(g, h);
}

cn_node *cn_taesd_up_build(cn_graph *g, const cn_vae_config *c, cn_node *h)
{
    layers l = {g, 2, 1};
    if (cn_poisoned(g)) return h;
    cn_scope_push(g, "decoder");
    for (int i = c->levels; i-- > 1;) {
        for (int j = 0; j < c->layers_per_block; j++) h = block(&l, h);
        h = cn_upsample2(g, h);
        l.next++; /* the upsampling is a layer too */
        h = conv(&l, h, c->channels[i - 1], 1, false);
    }
    h = block(&l, h);
    h = cn_scope_return(g, conv(&l, h, c->image_channels, 1, true));
    return affine(g, cn_cast(g, h, CN_F32), 2, -1);
}
