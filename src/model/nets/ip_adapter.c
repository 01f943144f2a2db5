/* SPDX-License-Identifier: Apache-2.0 */
/* ip_adapter.c - IP-Adapter (Ye et al., "IP-Adapter: Text Compatible Image Prompt Adapter for
 * Text-to-Image Diffusion Models"): an image's features become a few tokens, once a picture, to
 * which the UNet's cross-attention attends by keys and values of their own, beside the text's.
 *
 * Files number the pairs of keys and values 1, 3, 5, ... in the order in which diffusers lists the
 * UNet's attention layers: encoder, decoder, middle. Sources: diffusers' models/embeddings.py
 * (ImageProjection, IPAdapterFullImageProjection, IPAdapterPlusImageProjection) and
 * models/attention_processor.py; tencent-ailab/IP-Adapter, ip_adapter/resampler.py for the names.
 */
#include "model/nets/nets.h"

#include <stdio.h>
#include <string.h>

static const float EPS = 1e-5f;

/* --- an image's tokens ------------------------------------------------------------------------ */

/* Rows of a, then those of b, sample by sample: [N,L,C], [N,M,C] -> [N,L+M,C]. */
static cn_node *join_rows(cn_graph *g, cn_node *a, cn_node *b)
{
    if (cn_poisoned(g)) return a;
    const int64_t N = a->shape[0], L = a->shape[1], M = b->shape[1], C = cn_channels(a);
    a = cn_view(g, a, 2, (int64_t[]){N, L * C});
    b = cn_view(g, b, 2, (int64_t[]){N, M * C});
    return cn_view(g, cn_concat(g, a, b), 3, (int64_t[]){N, L + M, C});
}

/* Queries x [N,tokens,hidden] attend to the features and to themselves. */
static cn_node *resampler_attention(cn_graph *g, const cn_ip_config *c, cn_node *x,
                                    cn_node *features)
{
    cn_scope_push(g, "0");
    features = cn_cast(g, cn_layer_norm(g, "norm1", features, EPS), CN_F32);
    x = cn_cast(g, cn_layer_norm(g, "norm2", x, EPS), CN_F32);
    cn_node *q = cn_linear(g, "to_q", x, c->inner, false);
    cn_node *kv = cn_linear(g, "to_kv", join_rows(g, features, x), 2 * c->inner, false);
    x = cn_attention(g, q, cn_slice(g, kv, 0, c->inner), cn_slice(g, kv, c->inner, c->inner),
                     (int)(c->inner / CN_IP_HEAD), false, 0);
    x = cn_linear(g, "to_out", x, c->hidden, false);
    cn_scope_pop(g);
    return x;
}

static cn_node *resampler(cn_graph *g, const cn_ip_config *c, cn_node *features)
{
    char name[32];
    if (cn_poisoned(g)) return features;
    const int64_t shape[] = {1, c->tokens, c->hidden}, N = features->shape[0];
    cn_node *x = cn_emit(g, CN_OP_FILL, CN_F32, 3, (int64_t[]){N, c->tokens, c->hidden}, 0, NULL);
    x = cn_add_parameter(g, "latents", x, 3, shape);
    features = cn_linear(g, "proj_in", features, c->hidden, true);
    for (int i = 0; i < c->layers; i++) {
        snprintf(name, sizeof name, "layers.%d", i);
        cn_scope_push(g, name);
        x = cn_add(g, x, resampler_attention(g, c, x, features));
        cn_node *h = cn_linear(g, "1.1", cn_layer_norm(g, "1.0", x, EPS), c->feed_forward, false);
        h = cn_linear(g, "1.3", cn_activation(g, h, CN_ACT_GELU), c->hidden, false);
        x = cn_add(g, x, h);
        cn_scope_pop(g);
    }
    x = cn_linear(g, "proj_out", x, c->context_dim, true);
    return cn_layer_norm(g, "norm_out", x, EPS);
}

cn_node *cn_ip_tokens_build(cn_graph *g, const cn_ip_config *c, cn_node *features)
{
    if (cn_poisoned(g)) return features;
    const int64_t n = features->shape[0];
    cn_node *x = features;
    cn_scope_push(g, "image_proj");
    switch (c->form) {
    case CN_IP_PLUS: x = resampler(g, c, x); break;
    case CN_IP_FULL:
        x = cn_activation(g, cn_linear(g, "proj.0", x, c->hidden, true), CN_ACT_GELU);
        x = cn_layer_norm(g, "proj.3", cn_linear(g, "proj.2", x, c->context_dim, true), EPS);
        break;
    default:
        x = cn_linear(g, "proj", x, c->tokens * c->context_dim, true);
        x = cn_view(g, x, 3, (int64_t[]){n, c->tokens, c->context_dim});
        x = cn_layer_norm(g, "norm", x, EPS);
    }
    cn_scope_pop(g);
    return cn_cast(g, x, CN_F32);
}

/* --- the UNet's layers ------------------------------------------------------------------------ */

/* Spatial transformers' layers at block b of the decoder, times how many transformers it has. */
static int layers_up(const cn_unet_config *c, int b)
{
    const int level = c->levels - 1 - b;
    return c->attention[level] ? (c->layers_per_block + 1) * c->transformer_layers[level] : 0;
}

static int layers_down(const cn_unet_config *c, int b)
{
    return c->attention[b] ? c->layers_per_block * c->transformer_layers[b] : 0;
}

int64_t cn_ip_layer_width(const cn_unet_config *c, int i)
{
    const int last = c->levels - 1;
    for (int b = 0; b < c->levels; b++) {
        if (i < layers_down(c, b)) return c->channels[b];
        i -= layers_down(c, b);
    }
    for (int b = 0; b < c->levels; b++) {
        if (i < layers_up(c, b)) return c->channels[last - b];
        i -= layers_up(c, b);
    }
    return i < c->transformer_layers[last] ? c->channels[last] : 0;
}

/* The number of the cross-attention layer with this diffusers name; -1: it has none. */
static int number_of(const cn_unet_config *c, const char *name)
{
    int b = 0, j = 0, k = 0, n = 0;
    const bool down =
        sscanf(name, "down_blocks.%d.attentions.%d.transformer_blocks.%d.", &b, &j, &k) == 3;
    const bool up =
        !down && sscanf(name, "up_blocks.%d.attentions.%d.transformer_blocks.%d.", &b, &j, &k) == 3;
    if (b < 0 || b >= c->levels) return -1;
    for (int i = 0; i < (down ? b : c->levels); i++) n += layers_down(c, i);
    if (down) return n + j * c->transformer_layers[b] + k;
    for (int i = 0; i < (up ? b : c->levels); i++) n += layers_up(c, i);
    if (up) return n + j * c->transformer_layers[c->levels - 1 - b] + k;
    return sscanf(name, "mid_block.attentions.0.transformer_blocks.%d.", &k) == 1 ? n + k : -1;
}

/* --- the kind --------------------------------------------------------------------------------- */

static int one(const void *config)
{
    (void)config;
    return 1;
}

/* A factor for each size of cross-attention, the largest first. */
static int sizes(const void *config)
{
    const cn_unet_config *c = &((const cn_ip_config *)config)->unet;
    int n = 0;
    for (int i = 0; i < c->levels; i++) n += c->attention[i];
    return n + !c->attention[c->levels - 1]; /* the middle's */
}

static void hints(cn_graph *g, const void *config, const cn_condition_spec *s, cn_hints *out)
{
    const cn_ip_config *c = config;
    cn_node *in = cn_input4(g, "features", 1, s->images, s->rows, c->features);
    out->image[out->n_images++] = in;
    cn_node *x =
        cn_ip_tokens_build(g, c, cn_view(g, in, 3, (int64_t[]){s->images, s->rows, c->features}));
    if (!cn_poisoned(g))
        x = cn_view(g, x, 4, (int64_t[]){1, 1, s->images * x->shape[1], c->context_dim});
    out->out[out->n++] = x;
}

static void build(cn_graph *g, cn_control_unit *u, cn_steering *to)
{
    (void)g;
    to->patches[to->n_patches++] = u;
}

/* The gate for a layer of so many positions, which all layers there share. */
static cn_node *gated(cn_graph *g, cn_control_unit *u, cn_node *y)
{
    if (!u->gated || cn_poisoned(g)) return y;
    int64_t h = u->in.x->shape[1], w = u->in.x->shape[2];
    while (h * w > y->shape[1]) {
        h = (h + 1) / 2;
        w = (w + 1) / 2;
    }
    int k = 0;
    while (k < u->n_gates && (u->gate[k]->shape[1] != h || u->gate[k]->shape[2] != w)) k++;
    cn_node *square = cn_view(g, y, 4, (int64_t[]){y->shape[0], h, w, cn_channels(y)});
    square = k < u->n_gates ? cn_gate(g, square, u->gate[k]) : cn_control_gate(g, u, square);
    return cn_view(g, square, 3, y->shape);
}

static cn_node *attend(cn_graph *g, cn_control_unit *u, cn_node *q, int heads, cn_node *y)
{
    const cn_ip_config *c = u->config;
    cn_scope_saved outer;
    char name[48];
    if (cn_poisoned(g)) return y;
    cn_scope_suspend(g, &outer);
    const int i = number_of(&c->unet, outer.diffusers);
    if (i < 0 || i >= c->pairs)
        cn_poison(g, "IP-Adapter: it has no keys for the layer %s", outer.diffusers);
    cn_graph_use(g, u->params);
    cn_graph_part(g, u->part);
    cn_node *x = u->hints[0];
    x = cn_view(g, x, 3, (int64_t[]){x->shape[0], x->shape[1] * x->shape[2], cn_channels(x)});
    snprintf(name, sizeof name, "ip_adapter.%d.to_k_ip", 2 * i + 1);
    cn_node *k = cn_output_compute_type(g, cn_linear(g, name, x, cn_channels(q), false));
    snprintf(name, sizeof name, "ip_adapter.%d.to_v_ip", 2 * i + 1);
    cn_node *v = cn_output_compute_type(g, cn_linear(g, name, x, cn_channels(q), false));
    cn_node *z = cn_cast(g, cn_attention(g, q, k, v, heads, false, 0), CN_F32);
    cn_graph_part(g, 0);
    z = gated(g, u, z);
    cn_scope_resume(g, &outer);
    return cn_poisoned(g) ? y : cn_add(g, y, cn_cast(g, z, y->dtype));
}

const cn_control_kind cn_control_kind_ip = {.network = "ip_adapter",
                                            .title = "IP-Adapter",
                                            .count = one,
                                            .places = sizes,
                                            .hints = hints,
                                            .build = build,
                                            .attend = attend,
                                            .whole = true};
