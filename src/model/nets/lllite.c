/* SPDX-License-Identifier: Apache-2.0 */
/* lllite.c - ControlNet-LLLite (kohya-ss/sd-scripts, networks/control_net_lllite.py): small modules
 * before linear layers of the UNet's attention, in encoder and middle block.
 *
 * x becomes x + up(relu(mid([e, relu(down(x))]))), where e is what the module makes of the
 * condition at the layer's size, once a picture. In training `up` starts at 0, its bias too (which
 * kohya's doesn't), so that the first step sees the base model's own output. A module is called as
 * the layer it stands before, in a single file, with '_' for '.'.
 */
#include "model/nets/nets.h"

#include <stdio.h>
#include <string.h>

static int modules(const void *config)
{
    return ((const cn_lllite_config *)config)->n;
}

/* The condition's size over the module's features'. */
static int64_t shrink_of(const cn_lllite_module *m)
{
    int64_t by = 1;
    for (int i = 0; i < m->convs; i++) by *= m->kernels[i];
    return by;
}

/* A factor for each size of features, the largest first. */
static int sizes(const void *config)
{
    const cn_lllite_config *c = config;
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        int earlier = 0;
        while (earlier < i && shrink_of(&c->modules[earlier]) != shrink_of(&c->modules[i]))
            earlier++;
        n += earlier == i;
    }
    return n;
}

/* What module m makes of the condition. */
static cn_node *embed(cn_graph *g, const cn_lllite_module *m, cn_node *image)
{
    static const int no_pad[4] = {0};
    char name[16];
    cn_node *h = image;
    cn_scope_push(g, m->name);
    cn_scope_push(g, "conditioning1");
    for (int i = 0; i < m->convs; i++) {
        snprintf(name, sizeof name, "%d", 2 * i);
        if (i) h = cn_activation(g, h, CN_ACT_RELU);
        h = cn_conv2d_ex(g, name, h, m->widths[i], m->kernels[i], m->kernels[i], no_pad,
                         CN_INIT_FAN_IN);
    }
    cn_scope_pop(g);
    cn_scope_pop(g);
    return h;
}

void cn_lllite_embed_build(cn_graph *g, const cn_lllite_config *c, cn_node *image, cn_node **out)
{
    for (int i = 0; i < c->n && !cn_poisoned(g); i++) {
        const int64_t by = shrink_of(&c->modules[i]);
        if (image->shape[1] % by || image->shape[2] % by)
            cn_poison(g, "ControlNet-LLLite: the picture's sides must be multiples of %lld",
                      (long long)by);
        out[i] = embed(g, &c->modules[i], image);
    }
}

static void hints(cn_graph *g, const void *config, const cn_condition_spec *s, cn_hints *out)
{
    const cn_lllite_config *c = config;
    cn_node *image = cn_input4(g, "condition", CN_MAX(s->batch, 1), 8 * s->h, 8 * s->w, 3);
    out->image[out->n_images++] = image;
    out->n = c->n;
    cn_lllite_embed_build(g, c, image, out->out);
}

static void fill(const void *config, const float *rgb, int64_t H, int64_t W, float *to)
{
    (void)config;
    for (int64_t i = 0; i < 3 * H * W; i++) to[i] = 2 * rgb[i] - 1;
}

static void build(cn_graph *g, cn_control_unit *u, cn_steering *to)
{
    (void)g;
    to->patches[to->n_patches++] = u;
}

/* The gate for features of this size, which all modules there share. */
static cn_node *gated(cn_graph *g, cn_control_unit *u, const cn_node *hint, cn_node *y)
{
    if (!u->gated || cn_poisoned(g)) return y;
    const int64_t h = hint->shape[1], w = hint->shape[2];
    int k = 0;
    while (k < u->n_gates && (u->gate[k]->shape[1] != h || u->gate[k]->shape[2] != w)) k++;
    cn_node *square = cn_view(g, y, 4, (int64_t[]){y->shape[0], h, w, cn_channels(y)});
    square = k < u->n_gates ? cn_gate(g, square, u->gate[k]) : cn_control_gate(g, u, square);
    return cn_view(g, square, 3, y->shape);
}

static int find_module(const cn_lllite_config *c, const char *scope, const char *name)
{
    char wanted[CN_NAME_MAX + 64];
    snprintf(wanted, sizeof wanted, "lllite_unet_%s_%s", scope, name);
    for (char *p = wanted; *p; p++)
        if (*p == '.') *p = '_';
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->modules[i].name, wanted)) return i;
    return -1;
}

static cn_node *patch(cn_graph *g, cn_control_unit *u, const char *name, cn_node *x)
{
    const cn_lllite_config *c = u->config;
    cn_scope_saved outer;
    cn_scope_suspend(g, &outer);
    const int i = find_module(c, outer.ldm, name);
    if (i < 0 || cn_poisoned(g)) {
        cn_scope_resume(g, &outer);
        return x;
    }
    const cn_lllite_module *m = &c->modules[i];
    cn_node *e = u->hints[i];
    const int64_t emb = cn_channels(e), tokens = e->shape[1] * e->shape[2];
    if (tokens != x->shape[1])
        cn_poison(g, "%s: its condition has %lld positions, the layer %lld", m->name,
                  (long long)tokens, (long long)x->shape[1]);
    cn_graph_use(g, u->params);
    cn_graph_part(g, u->part);
    cn_scope_push(g, m->name);
    cn_node *h = cn_activation(g, cn_linear(g, "down.0", x, m->hidden, true), CN_ACT_RELU);
    e = cn_view(g, e, 3, (int64_t[]){x->shape[0], tokens, emb});
    h = cn_linear(g, "mid.0", cn_concat(g, e, h), m->hidden, true);
    h = cn_zero_linear(g, "up.0", cn_activation(g, h, CN_ACT_RELU), m->features);
    cn_scope_pop(g);
    cn_graph_part(g, 0);
    h = gated(g, u, u->hints[i], h);
    cn_scope_resume(g, &outer);
    return cn_poisoned(g) ? x : cn_add(g, x, cn_cast(g, h, x->dtype));
}

const cn_control_kind cn_control_kind_lllite = {.network = "lllite",
                                                .title = "ControlNet-LLLite",
                                                .count = modules,
                                                .places = sizes,
                                                .hints = hints,
                                                .fill = fill,
                                                .build = build,
                                                .patch = patch,
                                                .whole = true,
                                                .small = true};
