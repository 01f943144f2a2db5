/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c - T2I-Adapter (Mou et al., "T2I-Adapter: Learning Adapters to Dig out More Controllable
 * Ability for Text-to-Image Diffusion Models"): a small network of the condition alone, whose
 * features are added to the UNet's encoder. It runs once a picture.
 *
 * A single file of TencentARC's numbers a full adapter's residual blocks through. Sources:
 * diffusers' models/adapter.py, TencentARC/T2I-Adapter ldm/modules/encoders/adapter.py.
 */
#include "model/nets/nets.h"

#include <math.h>
#include <stdio.h>

static bool halves(const cn_adapter_config *c, int level)
{
    return c->form == CN_ADAPTER_XL ? level == 2 : level > 0;
}

/* Means of 2 x 2 pixels. */
static cn_node *half_size(cn_graph *g, cn_node *x)
{
    if (cn_poisoned(g)) return x;
    if (x->shape[1] % 2 || x->shape[2] % 2)
        return cn_poison(g,
                         "T2I-Adapter: %lld x %lld features can't be halved; the picture's sides "
                         "must be larger multiples of 8",
                         (long long)x->shape[2], (long long)x->shape[1]);
    return cn_mean_pool_to(g, x, x->shape[1] / 2, x->shape[2] / 2);
}

static cn_node *resblock(cn_graph *g, const cn_adapter_config *c, int level, int i, cn_node *x)
{
    char name[CN_NAME_MAX];
    const bool light = c->form == CN_ADAPTER_LIGHT;
    const int64_t C = cn_channels(x);
    if (light)
        snprintf(name, sizeof name, "body.%d.body.%d|adapter.body.%d.resnets.%d", level, i, level,
                 i);
    else
        snprintf(name, sizeof name, "body.%d|adapter.body.%d.resnets.%d", level * c->blocks + i,
                 level, i);
    cn_scope_push(g, name);
    cn_node *h = cn_activation(g, cn_conv2d(g, "block1", x, C, 3, 1, 1), CN_ACT_RELU);
    h = light ? cn_conv2d(g, "block2", h, C, 3, 1, 1) : cn_conv2d(g, "block2", h, C, 1, 1, 0);
    cn_scope_pop(g);
    return cn_add(g, x, h);
}

/* A 1x1 convolution at the level's beginning or end. */
static cn_node *project(cn_graph *g, const cn_adapter_config *c, int level, const char *which,
                        cn_node *x, int64_t C)
{
    char name[CN_NAME_MAX];
    snprintf(name, sizeof name, "body.%d.%s|adapter.body.%d.%s",
             c->form == CN_ADAPTER_LIGHT ? level : level * c->blocks, which, level, which);
    return cn_conv2d(g, name, x, C, 1, 1, 0);
}

void cn_adapter_build(cn_graph *g, const cn_adapter_config *c, cn_node *image,
                      cn_node *out[CN_MAX_FEATURES])
{
    const bool light = c->form == CN_ADAPTER_LIGHT;
    char tap[32];
    cn_node *h = image;
    if (!light) h = cn_conv2d(g, "conv_in|adapter.conv_in", h, c->channels[0], 3, 1, 1);
    for (int level = 0; level < c->levels; level++) {
        const int64_t C = c->channels[level], width = light ? C / 4 : C;
        if (halves(c, level)) h = half_size(g, h);
        if (light || (!cn_poisoned(g) && cn_channels(h) != C))
            h = project(g, c, level, "in_conv", h, width);
        for (int i = 0; i < c->blocks; i++) h = resblock(g, c, level, i, h);
        if (light) h = project(g, c, level, "out_conv", h, C);
        snprintf(tap, sizeof tap, "body.%d|adapter.body.%d", level, level);
        cn_scope_push(g, tap);
        out[level] = cn_scope_return(g, h);
    }
}

/* --- the kind --------------------------------------------------------------------------------- */

static int levels(const void *config)
{
    return ((const cn_adapter_config *)config)->levels;
}

static void hints(cn_graph *g, const void *config, const cn_condition_spec *s, cn_hints *out)
{
    const cn_adapter_config *c = config;
    const int64_t by = c->shrink / 8; /* of the latents */
    if (s->h % by || s->w % by) {
        cn_poison(g, "T2I-Adapter: the picture's sides must be multiples of %lld",
                  (long long)c->shrink);
        return;
    }
    out->image[out->n_images++] = cn_input4(g, "condition", CN_MAX(s->batch, 1), s->h / by,
                                            s->w / by, c->image_channels * c->shrink * c->shrink);
    cn_adapter_build(g, c, out->image[0], out->out);
    out->n = c->levels;
}

/* PIL's "L". */
static float grey(const float *rgb)
{
    const long r = lrintf(255 * rgb[0]), gr = lrintf(255 * rgb[1]), b = lrintf(255 * rgb[2]);
    return (float)((r * 19595 + gr * 38470 + b * 7471 + 0x8000) >> 16) / 255.0f;
}

/* torch's pixel_unshuffle: channel, row and column in the square. */
static void fill(const void *config, const float *rgb, int64_t H, int64_t W, float *to)
{
    const cn_adapter_config *c = config;
    const int64_t n = c->shrink, C = c->image_channels;
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++) {
            const float *p = rgb + 3 * (y * W + x);
            float *square = to + ((y / n) * (W / n) + x / n) * C * n * n;
            for (int64_t k = 0; k < C; k++)
                square[(k * n + y % n) * n + x % n] = C == 1 ? grey(p) : p[k];
        }
}

static void build(cn_graph *g, cn_control_unit *u, cn_steering *to)
{
    const cn_adapter_config *c = u->config;
    cn_features *f = &to->features[to->n_features++];
    *f = (cn_features){.n = c->levels, .first = u->first};
    for (int i = 0; i < c->levels; i++)
        f->of[i] = u->gated ? cn_control_gate(g, u, u->hints[i]) : u->hints[i];
}

const cn_control_kind cn_control_kind_adapter = {.network = "t2i_adapter",
                                                 .title = "T2I-Adapter",
                                                 .count = levels,
                                                 .places = levels,
                                                 .hints = hints,
                                                 .fill = fill,
                                                 .build = build,
                                                 .small = true};
