/* SPDX-License-Identifier: Apache-2.0 */
/* union.c - ControlNet Union (xinsir6/ControlNetPlus): several types of conditions in one network.
 *
 * Each condition's features, averaged over the picture, with a row that stands for its type, pass a
 * small transformer; what it gives is added to the features everywhere. In xinsir's code and in
 * diffusers an entry attends to the same entry of the rest of the batch; ComfyUI lets the
 * conditions attend to each other. The latent's own entry, which decides nothing in either, isn't
 * built. Source: diffusers' models/controlnets/controlnet_union.py.
 */
#include "model/nets/nets.h"

#include <stdio.h>

#include <string.h>

static const float EPS = 1e-5f;

/* --- types ------------------------------------------------------------------------------------ */

/* Six in xinsir's first network, eight in ProMax (tile and repaint behind them). */
static const struct {
    const char *name;
    int type;
} types[] = {
    {"openpose", 0}, {"depth", 1}, {"softedge", 2}, {"hed", 2},     {"pidinet", 2},
    {"scribble", 2}, {"ted", 2},   {"canny", 3},    {"lineart", 3}, {"mlsd", 3},
    {"normal", 4},   {"seg", 5},   {"tile", 6},     {"repaint", 7}, {"inpaint", 7},
};

const char *cn_union_type_name(int i)
{
    return i >= 0 && i < (int)CN_COUNT(types) ? types[i].name : NULL;
}

int cn_union_type(const char *name, int known)
{
    for (size_t i = 0; i < CN_COUNT(types); i++)
        if (!strcmp(types[i].name, name) && types[i].type < known) return types[i].type;
    return -1;
}

int cn_union_type_of_kind(const char *kind, int known)
{
    for (size_t i = 0; i < CN_COUNT(types); i++)
        if (!strncmp(kind, types[i].name, strlen(types[i].name)) && types[i].type < known)
            return types[i].type;
    return -1;
}

void cn_union_types_list(int known, cn_str *out)
{
    for (size_t i = 0; i < CN_COUNT(types); i++)
        if (types[i].type < known) cn_str_addf(out, "%s%s", i ? ", " : "", types[i].name);
}

/* --- the network ------------------------------------------------------------------------------ */

/* The row of `task_embedding` for a type, [N,C]. */
static cn_node *task_row(cn_graph *g, const cn_controlnet_config *c, int type, int64_t N, int64_t C)
{
    const int64_t rows = c->union_types, shape[3] = {N, rows, C};
    if (type < 0 || type >= rows)
        return cn_poison(g, "a condition of type %d; this ControlNet Union has %lld types", type,
                         (long long)rows);
    cn_node *all = cn_emit(g, CN_OP_FILL, CN_F32, 3, shape, 0, NULL); /* zeros */
    all = cn_position_embedding(g, "task_embedding", all, rows);
    all = cn_view(g, all, 2, (int64_t[]){N, rows * C});
    return cn_slice(g, all, type * C, C);
}

/* x [N,L,C] attends along L. */
static cn_node *attention_block(cn_graph *g, const cn_controlnet_config *c, cn_node *x)
{
    if (cn_poisoned(g)) return x;
    const int64_t C = cn_channels(x);
    cn_node *h = cn_layer_norm(g, "ln_1", x, EPS);
    h = cn_linear_named(g, "attn.in_proj_weight", "attn.in_proj_bias", h, 3 * C);
    h = cn_attention(g, cn_slice(g, h, 0, C), cn_slice(g, h, C, C), cn_slice(g, h, 2 * C, C),
                     c->union_heads, false, 0);
    x = cn_add(g, x, cn_linear(g, "attn.out_proj", h, C, true));
    h = cn_linear(g, "mlp.c_fc", cn_layer_norm(g, "ln_2", x, EPS), 4 * C, true);
    h = cn_linear(g, "mlp.c_proj", cn_activation(g, h, CN_ACT_QUICK_GELU), C, true);
    return cn_add(g, x, h);
}

static cn_node *transformer(cn_graph *g, const cn_controlnet_config *c, cn_node *x)
{
    char name[32];
    for (int i = 0; i < c->union_layers; i++) {
        snprintf(name, sizeof name, "transformer_layes.%d", i); /* spelt so in the files */
        cn_scope_push(g, name);
        x = attention_block(g, c, x);
        cn_scope_pop(g);
    }
    return x;
}

/* Entries [N,C], n of them, to the same. */
static void mix(cn_graph *g, const cn_controlnet_config *c, const cn_condition_spec *s,
                cn_node **entries)
{
    if (cn_poisoned(g)) return;
    const int64_t N = entries[0]->shape[0], C = cn_channels(entries[0]);
    cn_node *all = entries[0];
    for (int i = 0; !s->among_conditions && i < s->n; i++) {
        cn_node *x = cn_view(g, entries[i], 3, (int64_t[]){1, N, C});
        entries[i] = cn_view(g, transformer(g, c, x), 2, (int64_t[]){N, C});
    }
    if (!s->among_conditions) return;
    for (int i = 1; i < s->n; i++) all = cn_concat(g, all, entries[i]);
    all = transformer(g, c, cn_view(g, all, 3, (int64_t[]){N, s->n, C}));
    all = cn_view(g, all, 2, (int64_t[]){N, s->n * C});
    for (int i = 0; i < s->n; i++) entries[i] = cn_slice(g, all, i * C, C);
}

cn_node *cn_union_hint_build(cn_graph *g, const cn_controlnet_config *c, const cn_condition_spec *s,
                             cn_node *const *conditions)
{
    cn_node *features[CN_MAX_CONDITIONS], *entries[CN_MAX_CONDITIONS], *sum = NULL;
    for (int i = 0; i < s->n; i++) {
        cn_node *f = cn_controlnet_hint_build(g, c, conditions[i]);
        if (cn_poisoned(g)) return f;
        const int64_t N = f->shape[0], C = cn_channels(f);
        cn_node *mean = cn_view(g, cn_mean_pool_to(g, f, 1, 1), 2, (int64_t[]){N, C});
        entries[i] = cn_add(g, mean, task_row(g, c, s->types[i], N, C));
        features[i] = f;
        if (s->n == 1) continue; /* its strength is a factor on the residuals */
        features[i] = cn_scale(g, f, s->scales[i]);
        entries[i] = cn_scale(g, entries[i], s->scales[i]);
    }
    mix(g, c, s, entries);
    for (int i = 0; i < s->n; i++) {
        cn_node *alpha = cn_zero_linear(g, "spatial_ch_projs", entries[i], c->encoder.channels[0]);
        if (s->n > 1) alpha = cn_scale(g, alpha, s->scales[i]);
        cn_node *one = cn_add_channel(g, features[i], alpha);
        sum = sum ? cn_add(g, sum, one) : one;
    }
    return sum;
}
