/* SPDX-License-Identifier: Apache-2.0 */
/* control_parts.c - see control_parts.h. A Control-LoRA's weights: ComfyUI's comfy/controlnet.py
 * (ControlLoraOps). */
#include "model/checkpoint/control_parts.h"

#include "model/checkpoint/averages.h"
#include "model/checkpoint/family.h"

#include <string.h>

/* --- T2I-Adapter ------------------------------------------------------------------------------ */

cn_status cn_adapter_fits(cn_ctx *ctx, const cn_adapter_config *c, const cn_unet_config *base)
{
    /* The first level's features lie before its downsampling where it has attention. */
    const int64_t shrink = base->attention[0] ? 8 : 16;
    bool fits = c->levels <= base->levels + 1;
    for (int i = 0; fits && i < c->levels; i++)
        fits = c->channels[i] == base->channels[CN_MIN(i, base->levels - 1)];
    if (fits && c->shrink == shrink) return CN_OK;
    cn_str a = {0}, b = {0};
    for (int i = 0; i < c->levels; i++)
        cn_str_addf(&a, "%s%lld", i ? " " : "", (long long)c->channels[i]);
    for (int i = 0; i < base->levels; i++)
        cn_str_addf(&b, "%s%lld", i ? " " : "", (long long)base->channels[i]);
    const cn_status s = cn_fail(
        ctx, CN_EMISMATCH,
        "the T2I-Adapter's widths (%s, pictures shrunk %lld times) don't fit the base "
        "model's (%s, %lld times)",
        a.data ? a.data : "?", (long long)c->shrink, b.data ? b.data : "?", (long long)shrink);
    cn_str_free(&a);
    cn_str_free(&b);
    return s;
}

/* The widths are the levels', the last one's again for the middle block where features go in behind
 * the downsampling. */
cn_status cn_adapter_config_make(cn_ctx *ctx, const cn_unet_config *base, cn_adapter_config *out)
{
    const bool xl = !base->attention[0];
    cn_adapter_config c = {.form = xl ? CN_ADAPTER_XL : CN_ADAPTER_FULL,
                           .image_channels = 3,
                           .shrink = xl ? 16 : 8,
                           .levels = base->levels + xl,
                           .blocks = 2};
    if (c.levels >= CN_MAX_LEVELS)
        return cn_fail(ctx, CN_EMISMATCH, "a T2I-Adapter of %d levels is impossible", c.levels);
    for (int i = 0; i < c.levels; i++) c.channels[i] = base->channels[CN_MIN(i, base->levels - 1)];
    *out = c;
    return CN_OK;
}

/* --- ControlNet-LLLite ------------------------------------------------------------------------ */

/* The UNet's linear layer that the module stands before; NULL: none. */
static const cn_param *layer_of(const cn_params *unet, const cn_lllite_module *m)
{
    static const char weight[] = ".weight";
    char name[CN_NAME_MAX + 16];
    for (int64_t i = 0; i < cn_params_count(unet); i++) {
        const cn_param *q = cn_params_at(unet, i);
        const size_t n = strlen(q->ldm_name), k = sizeof weight - 1;
        if (q->ndim != 2 || n <= k || strcmp(q->ldm_name + n - k, weight) != 0) continue;
        snprintf(name, sizeof name, "lllite_unet_%.*s", (int)(n - k), q->ldm_name);
        for (char *p = name; *p; p++)
            if (*p == '.') *p = '_';
        if (!strcmp(name, m->name)) return q;
    }
    return NULL;
}

cn_status cn_lllite_fits(cn_ctx *ctx, const cn_lllite_config *c, const cn_unet_config *base)
{
    cn_params *unet = NULL;
    cn_status s = CN_OK;
    CN_TRY(cn_net_declare(ctx, CN_NET_UNET, base, &unet));
    for (int i = 0; s == CN_OK && i < c->n; i++) {
        const cn_lllite_module *m = &c->modules[i];
        const cn_param *q = layer_of(unet, m);
        if (!q || !strstr(m->name, "_attn"))
            s = cn_fail(ctx, CN_EMISMATCH,
                        "the ControlNet-LLLite's module %s stands before no layer of this base "
                        "model: it belongs to another",
                        m->name);
        else if (q->shape[1] != m->features)
            s = cn_fail(ctx, CN_EMISMATCH,
                        "the ControlNet-LLLite's module %s is for layers of width %lld, the base "
                        "model's is %lld",
                        m->name, (long long)m->features, (long long)q->shape[1]);
    }
    cn_params_destroy(unet);
    return s;
}

/* The level of a layer that gets a module; -1: it gets none. */
static int module_level(const cn_param *q, int levels)
{
    static const char *const layers[] = {".attn1.to_q.weight", ".attn1.to_k.weight",
                                         ".attn1.to_v.weight", ".attn2.to_q.weight"};
    const char *name = q->diffusers_name;
    bool any = false;
    for (size_t i = 0; i < CN_COUNT(layers) && !any; i++) any = strstr(name, layers[i]) != NULL;
    if (any && !strncmp(name, "mid_block.", 10)) return levels - 1;
    return any && !strncmp(name, "down_blocks.", 12) ? name[12] - '0' : -1;
}

/* Convolutions that shrink the picture to the level's size, 4 x 4 pixels to one first. */
static cn_status make_module(cn_ctx *ctx, const cn_param *q, int level, int64_t emb, int64_t hidden,
                             cn_lllite_module *m)
{
    int64_t left = (int64_t)8 << level;
    *m = (cn_lllite_module){.features = q->shape[1], .hidden = hidden};
    CN_TRY(cn_format(ctx, m->name, sizeof m->name, "lllite_unet_%.*s",
                     (int)(strlen(q->ldm_name) - strlen(".weight")), q->ldm_name));
    for (char *p = m->name; *p; p++)
        if (*p == '.') *p = '_';
    for (; left > 1 && m->convs < CN_LLLITE_CONVS; m->convs++) {
        const int kernel = left >= 4 ? 4 : 2;
        m->kernels[m->convs] = kernel;
        left /= kernel;
        m->widths[m->convs] = left > 1 ? emb / 2 : emb;
    }
    if (left == 1) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH,
                   "%s: a ControlNet-LLLite's modules are known for 4 levels, this is at level %d",
                   q->ldm_name, level + 1);
}

cn_status cn_lllite_config_make(cn_ctx *ctx, const cn_unet_config *base, int64_t emb,
                                int64_t hidden, cn_lllite_config **out)
{
    cn_params *unet = NULL;
    CN_TRY(cn_net_declare(ctx, CN_NET_UNET, base, &unet));
    const size_t most = (size_t)cn_params_count(unet);
    cn_lllite_config *c = cn_alloc0(ctx, sizeof *c + most * sizeof *c->modules);
    cn_status s = c ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < (int64_t)most; i++) {
        const cn_param *q = cn_params_at(unet, i);
        const int level = module_level(q, base->levels);
        if (level >= 0) s = make_module(ctx, q, level, emb, hidden, &c->modules[c->n++]);
    }
    if (s == CN_OK && !c->n)
        s = cn_fail(ctx, CN_EMISMATCH, "a base model without attention takes no ControlNet-LLLite");
    cn_params_destroy(unet);
    if (s == CN_OK)
        *out = c;
    else
        cn_free(c);
    return s;
}

/* --- IP-Adapter ------------------------------------------------------------------------------- */

/* The width that the file's i-th keys have; 0: it has none. */
static int64_t keys_width(const cn_tensors *t, int i)
{
    char name[64];
    snprintf(name, sizeof name, "ip_adapter.%d.to_k_ip.weight", 2 * i + 1);
    const cn_tensor_info *k = cn_tensors_find(t, name);
    return k && k->ndim == 2 ? k->shape[0] : 0;
}

cn_status cn_ip_fits(cn_ctx *ctx, const cn_tensors *t, const cn_ip_config *c,
                     const cn_unet_config *base)
{
    int n = 0;
    if (c->context_dim != base->context_dim)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the IP-Adapter's tokens have width %lld (%s), the base model's text %lld "
                       "(%s)",
                       (long long)c->context_dim, cn_family_by_context(c->context_dim),
                       (long long)base->context_dim, cn_family_by_context(base->context_dim));
    while (cn_ip_layer_width(base, n)) n++;
    if (c->pairs != n)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the IP-Adapter has keys for %d cross-attention layers, the base model has "
                       "%d of them",
                       c->pairs, n);
    for (int i = 0; i < n; i++)
        if (keys_width(t, i) != cn_ip_layer_width(base, i))
            return cn_fail(ctx, CN_EMISMATCH,
                           "the IP-Adapter's ip_adapter.%d.to_k_ip is for a layer of width %lld, "
                           "the base model's is %lld",
                           2 * i + 1, (long long)keys_width(t, i),
                           (long long)cn_ip_layer_width(base, i));
    return CN_OK;
}

/* --- Control-LoRA ----------------------------------------------------------------------------- */

/* NAME.up or NAME.down of parameter NAME.weight; NULL: none. */
static const cn_tensor_info *factor_of(const cn_source *s, const cn_param *q, const char *which)
{
    char name[CN_NAME_MAX + 8];
    const size_t n = strlen(q->ldm_name), k = strlen(".weight");
    if (n <= k || strcmp(q->ldm_name + n - k, ".weight") != 0) return NULL;
    snprintf(name, sizeof name, "%.*s.%s", (int)(n - k), q->ldm_name, which);
    return cn_tensors_find_in(s->file, s->prefix, name);
}

/* out [O,I] += up [O,r] down [r,I]. */
static void add_product(const float *up, const float *down, int64_t O, int64_t r, int64_t I,
                        float *out)
{
    for (int64_t o = 0; o < O; o++)
        for (int64_t k = 0; k < r; k++)
            for (int64_t i = 0; i < I; i++) out[o * I + i] += up[o * r + k] * down[k * I + i];
}

static cn_status misfit(cn_ctx *ctx, const cn_source *s, const cn_tensor_info *t)
{
    return cn_fail(ctx, CN_EMISMATCH,
                   "%s: %s has a shape that doesn't fit the base model's weight: the Control-LoRA "
                   "belongs to another base, or is damaged",
                   s->path, t->name);
}

static cn_status merge(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const cn_tensor_info *up = factor_of(s, q, "up"), *down = factor_of(s, q, "down");
    const cn_place at = cn_source_find(s->base, CN_NET_UNET, q);
    const int64_t O = q->shape[0], I = cn_param_elements(q) / O;
    const int64_t r = up && up->ndim >= 2 ? up->shape[1] : 0;
    if (!at.tensor || !cn_place_fits(&at, q))
        return cn_fail(ctx, CN_EMISMATCH, "%s: has no %s of the Control-LoRA's shape",
                       s->base->path, q->ldm_name);
    if (r < 1 || up->elements != O * r) return misfit(ctx, s, up);
    if (!down || down->ndim < 2 || down->shape[0] != r || down->elements != r * I)
        return misfit(ctx, s, down ? down : up);
    float *a = cn_alloc_array(ctx, (size_t)up->elements, sizeof *a);
    float *b = cn_alloc_array(ctx, (size_t)down->elements, sizeof *b);
    cn_status status = a && b ? cn_place_read(ctx, s->base, &at, out) : CN_ENOMEM;
    if (status == CN_OK) status = cn_tensors_read(ctx, s->file, up, a);
    if (status == CN_OK) status = cn_tensors_read(ctx, s->file, down, b);
    if (status == CN_OK) add_product(a, b, O, r, I, out);
    cn_free(a);
    cn_free(b);
    return status;
}

static bool has_parameter(const cn_source *s, const cn_param *q)
{
    const cn_tensor_info *up = factor_of(s, q, "up"), *down = factor_of(s, q, "down");
    const cn_place at = cn_source_find(s, CN_NET_CONTROL, q);
    if (!up) return at.tensor && cn_place_fits(&at, q);
    const int64_t O = q->shape[0], I = cn_param_elements(q) / O,
                  r = up->ndim >= 2 ? up->shape[1] : 0;
    return r > 0 && up->elements == O * r && down && down->ndim >= 2 && down->shape[0] == r &&
           down->elements == r * I;
}

cn_status cn_low_rank_fits(cn_ctx *ctx, const cn_source *s, const cn_controlnet_config *c)
{
    cn_params *p = NULL;
    cn_status status = CN_OK;
    CN_TRY(cn_net_declare(ctx, CN_NET_CONTROL, c, &p));
    for (int64_t i = 0; status == CN_OK && i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        if (!has_parameter(s, q))
            status = cn_fail(ctx, CN_EMISMATCH,
                             "the Control-LoRA has nothing that fits the base model's %s: it was "
                             "made for another base, or is damaged",
                             q->ldm_name);
    }
    cn_params_destroy(p);
    return status;
}

cn_status cn_low_rank_derive(cn_ctx *ctx, const cn_source *s, cn_params *p)
{
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        if (q->derived || !factor_of(s, q, "up")) continue;
        q->derived = cn_alloc0(ctx, sizeof *q->derived);
        if (!q->derived) return CN_ENOMEM;
        q->derived->make = merge;
    }
    return CN_OK;
}
