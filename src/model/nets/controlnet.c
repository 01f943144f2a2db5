/* SPDX-License-Identifier: Apache-2.0 */
/* controlnet.c - the network of the paper: a trainable copy of the encoder and the middle block,
 * behind zero convolutions.
 *
 * Every layer through which control reaches the UNet starts at 0, so the first step of training
 * sees the base model's own output. Source: lllyasviel/ControlNet cldm/cldm.py.
 */
#include "model/nets/blocks.h"

#include <stdio.h>

static const int hint_pad[4] = {1, 1, 1, 1};

/* One layer of the hint network: its place in the single file's list, which counts the SiLUs
 * too. The paper starts these layers with Gaussian weights. With torch's default each would shrink
 * a signal to about a third, and edges would take much longer to be seen. */
static cn_node *hint_conv(cn_graph *g, int block, cn_node *x, int64_t C, int stride)
{
    char name[CN_NAME_MAX];
    snprintf(name, sizeof name, "%d|blocks.%d", 2 + 2 * block, block);
    return cn_silu(g, cn_output_compute_type(
                          g, cn_conv2d_ex(g, name, x, C, 3, stride, hint_pad, CN_INIT_GAUSS)));
}

cn_node *cn_controlnet_hint_build(cn_graph *g, const cn_controlnet_config *c, cn_node *condition)
{
    char name[CN_NAME_MAX];
    if (c->hint_levels < 1 || c->hint_levels > CN_MAX_LEVELS)
        return cn_poison(g, "controlnet: %d levels in the hint network; 1 to %d are possible",
                         c->hint_levels, CN_MAX_LEVELS);
    int64_t multiple = (int64_t)1 << (c->hint_levels - 1);
    if (!cn_poisoned(g) &&
        (condition->ndim != 4 || cn_channels(condition) != c->condition_channels))
        return cn_poison(
            g, "controlnet: the condition must be [N,H,W,%lld], not %d-d with %lld channels",
            (long long)c->condition_channels, condition->ndim, (long long)cn_channels(condition));
    if (!cn_poisoned(g) && (condition->shape[1] % multiple || condition->shape[2] % multiple))
        return cn_poison(g,
                         "controlnet: a condition of %lld x %lld; height and width must be "
                         "multiples of %lld",
                         (long long)condition->shape[1], (long long)condition->shape[2],
                         (long long)multiple);
    cn_scope_push(g, "input_hint_block|controlnet_cond_embedding");
    cn_segment_begin(g);
    cn_node *h =
        cn_conv2d_ex(g, "0|conv_in", condition, c->hint_channels[0], 3, 1, hint_pad, CN_INIT_GAUSS);
    h = cn_silu(g, cn_output_compute_type(g, h));
    int block = 0;
    for (int i = 0; i + 1 < c->hint_levels; i++) {
        h = hint_conv(g, block++, h, c->hint_channels[i], 1);
        h = hint_conv(g, block++, h, c->hint_channels[i + 1], 2);
    }
    snprintf(name, sizeof name, "%d|conv_out", 2 + 2 * block);
    h = cn_conv2d_ex(g, name, h, c->encoder.channels[0], 3, 1, hint_pad, CN_INIT_ZERO);
    cn_segment_end(g);
    return cn_scope_return(g, h);
}

/* A residual, or each channel's average over the picture in its place (diffusers'
 * global_pool_conditions). Has no gradient then. */
static cn_node *pooled(cn_graph *g, const cn_controlnet_config *c, cn_node *r)
{
    if (!c->global_pool || cn_poisoned(g)) return r;
    return cn_upsample_to(g, cn_mean_pool_to(g, r, 1, 1), r->shape[1], r->shape[2]);
}

void cn_controlnet_build(cn_graph *g, const cn_controlnet_config *c, const cn_unet_inputs *in,
                         cn_node *hint, cn_residuals *out)
{
    char name[CN_NAME_MAX];
    cn_encoder e;
    *out = (cn_residuals){0};
    if (!cn_encoder_build(g, &c->encoder, in, hint, &e)) return;
    for (int i = 0; i < e.n; i++) {
        snprintf(name, sizeof name, "zero_convs.%d.0|controlnet_down_blocks.%d", i, i);
        out->down[i] = pooled(g, c, cn_zero_conv(g, name, e.out[i], cn_channels(e.out[i])));
    }
    out->n = e.n;
    out->mid = pooled(
        g, c,
        cn_zero_conv(g, "middle_block_out.0|controlnet_mid_block", e.mid, cn_channels(e.mid)));
}
