/* SPDX-License-Identifier: Apache-2.0 */
/* unet.c - the denoising UNet: encoder and middle block (the ControlNet's too), and decoder.
 *
 * A single file numbers its blocks through: level i, block j is input_blocks.{i(n+1)+j+1} with n
 * layers per block, i's downsampling the one after them; the decoder has n+1 blocks per level, from
 * the deepest up, and writes a level's upsampling into its last block, after the attention if any.
 */
#include "model/nets/blocks.h"

#include <stdio.h>

static bool config_ok(cn_graph *g, const cn_unet_config *c, const cn_node *x)
{
    if (c->levels < 1 || c->levels > CN_MAX_LEVELS || c->layers_per_block < 1 ||
        c->layers_per_block > CN_MAX_RESIDUALS / c->levels - 1) {
        cn_poison(g,
                  "unet: %d levels with %d layers per block; 1 to %d levels and at most %d encoder "
                  "outputs are possible",
                  c->levels, c->layers_per_block, CN_MAX_LEVELS, CN_MAX_RESIDUALS);
        return false;
    }
    for (int i = 0; i < c->levels; i++) {
        if (c->channels[i] >= 1 && c->heads[i] >= 1) continue;
        cn_poison(g, "unet: level %d has %lld channels and %d heads; both must be at least 1", i,
                  (long long)c->channels[i], c->heads[i]);
        return false;
    }
    if (!cn_poisoned(g) && x->ndim != 4) {
        cn_poison(g, "unet: a latent of %d dimensions, wants [N,h,w,C]", x->ndim);
        return false;
    }
    return true;
}

/* A residual block and, where the level has it, a spatial transformer. `at` is the block's place in
 * the single file ("input_blocks.1"), `side` and `j` its place in diffusers ("down_blocks.0"). */
static cn_node *layer(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in,
                      const char *at, const char *side, int j, cn_node *x, cn_node *emb, int level)
{
    char name[CN_NAME_MAX];
    snprintf(name, sizeof name, "%s.0|%s.resnets.%d", at, side, j);
    x = cn_resblock(g, name, x, emb, c->channels[level], c->norm_groups);
    if (!c->attention[level]) return x;
    snprintf(name, sizeof name, "%s.1|%s.attentions.%d", at, side, j);
    return cn_spatial_transformer(g, name, c, level, x, in);
}

static cn_node *middle(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in, cn_node *x,
                       cn_node *emb)
{
    int last = c->levels - 1;
    int64_t C = c->channels[last];
    x = cn_resblock(g, "middle_block.0|mid_block.resnets.0", x, emb, C, c->norm_groups);
    x = cn_spatial_transformer(g, "middle_block.1|mid_block.attentions.0", c, last, x, in);
    return cn_resblock(g, "middle_block.2|mid_block.resnets.1", x, emb, C, c->norm_groups);
}

/* x with the adapters' k-th features. */
static cn_node *add_feature(cn_graph *g, const cn_unet_inputs *in, int k, cn_node *x)
{
    for (int i = 0; i < in->n_features; i++) {
        const cn_features *f = &in->features[i];
        if (k >= f->n || cn_poisoned(g)) continue;
        const cn_node *y = f->of[k];
        if (y->shape[1] != x->shape[1] || y->shape[2] != x->shape[2] ||
            cn_channels(y) != cn_channels(x))
            return cn_poison(g,
                             "T2I-Adapter: its features %d are %lld x %lld x %lld, the UNet's "
                             "%lld x %lld x %lld",
                             k, (long long)y->shape[1], (long long)y->shape[2],
                             (long long)cn_channels(y), (long long)x->shape[1],
                             (long long)x->shape[2], (long long)cn_channels(x));
        x = cn_add_samples(g, x, f->of[k], f->first);
    }
    return x;
}

bool cn_encoder_build(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in, cn_node *hint,
                      cn_encoder *e)
{
    if (!config_ok(g, c, in->x)) return false;
    char at[32], side[32], name[CN_NAME_MAX];
    cn_precise_begin(g);
    cn_node *emb = cn_time_embed(g, c, in);
    cn_node *h = cn_conv2d(g, "input_blocks.0.0|conv_in", in->x, c->channels[0], 3, 1, 1);
    cn_precise_end(g);
    if (hint) h = cn_add(g, h, hint);
    int n = 0, used = 0; /* features of adapters */
    e->out[n++] = h;
    for (int i = 0; i < c->levels; i++) {
        snprintf(side, sizeof side, "down_blocks.%d", i);
        for (int j = 0; j < c->layers_per_block; j++) {
            snprintf(at, sizeof at, "input_blocks.%d", n);
            e->out[n++] = h = layer(g, c, in, at, side, j, h, emb, i);
        }
        if (c->attention[i]) e->out[n - 1] = h = add_feature(g, in, used++, h);
        if (i + 1 < c->levels) {
            snprintf(name, sizeof name, "input_blocks.%d.0|%s.downsamplers.0", n, side);
            e->out[n++] = h = cn_downsample(g, name, h);
        }
        if (!c->attention[i]) e->out[n - 1] = h = add_feature(g, in, used++, h);
    }
    e->n = n;
    e->emb = emb;
    e->mid = add_feature(g, in, used, middle(g, c, in, h, emb));
    return true;
}

/* From the middle block's output x up; a block's skip is the encoder's output that is next from the
 * end. Returns the last level's features. */
static cn_node *decoder(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in,
                        const cn_encoder *e, cn_node *x)
{
    const cn_residuals *r = in->residuals;
    char at[32], side[32], name[CN_NAME_MAX];
    int block = 0;
    for (int i = 0; i < c->levels; i++) {
        int level = c->levels - 1 - i;
        snprintf(side, sizeof side, "up_blocks.%d", i);
        for (int j = 0; j <= c->layers_per_block; j++, block++) {
            int k = e->n - 1 - block;
            cn_node *skip = e->out[k];
            if (r && r->down[k]) skip = cn_add_samples(g, skip, r->down[k], r->first);
            snprintf(at, sizeof at, "output_blocks.%d", block);
            x = layer(g, c, in, at, side, j, cn_concat(g, x, skip), e->emb, level);
        }
        if (level == 0) break;
        snprintf(name, sizeof name, "%s.%d|%s.upsamplers.0", at, c->attention[level] ? 2 : 1, side);
        const cn_node *next =
            e->out[e->n - 1 - block]; /* an odd side shrank to its half, rounded up */
        x = cn_upsample(g, name, x, next->shape[1], next->shape[2]);
    }
    return x;
}

cn_node *cn_unet_build(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in)
{
    const cn_residuals *r = in->residuals;
    cn_encoder e;
    if (!cn_encoder_build(g, c, in, NULL, &e)) return cn_poison(g, "unet: no encoder");
    if (r && r->n != e.n)
        return cn_poison(g, "unet: %d control residuals for %d encoder outputs", r->n, e.n);
    cn_node *h = e.mid;
    if (r && r->mid) h = cn_add_samples(g, h, r->mid, r->first);
    h = decoder(g, c, in, &e, h);
    cn_precise_begin(g);
    h = cn_group_norm(g, "out.0|conv_norm_out", h, c->norm_groups, 1e-5f, CN_ACT_SILU);
    h = cn_conv2d(g, "out.2|conv_out", h, c->out_channels, 3, 1, 1);
    cn_precise_end(g);
    return h;
}
