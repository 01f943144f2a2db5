/* SPDX-License-Identifier: Apache-2.0 */
/* network_kinds.c - see network_kinds.h. The rows stand at the end, each kind's functions before
 * them. */
#include "model/checkpoint/network_kinds.h"

#include "model/nets/nets.h"

#include <stddef.h>
#include <string.h>

/* The smallest latent that a network of so many levels takes. */
static int64_t smallest(int levels)
{
    return (int64_t)1 << (levels - 1);
}

static void add_list(cn_str *s, const int64_t *v, int n)
{
    for (int i = 0; i < n; i++) cn_str_addf(s, "%s%lld", i ? " " : "", (long long)v[i]);
}

/* --- UNet ------------------------------------------------------------------------------------- */

static cn_status read_unet(cn_ctx *ctx, const json_t *json, void *config)
{
    return cn_unet_config_read(ctx, json, config);
}

static cn_status unet_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                  cn_layout layout, void *config)
{
    return cn_unet_config_from_shapes(ctx, t, prefix, layout, config);
}

static json_t *write_unet(const cn_base *b, const void *config)
{
    (void)b;
    return cn_unet_config_json(config);
}

static cn_unet_inputs smallest_inputs(cn_graph *g, const cn_unet_config *c)
{
    const int64_t hw = smallest(c->levels), one[] = {1}, added[] = {1, c->added_dim};
    const int64_t context[] = {1, 1, CN_MAX(c->context_dim, 1)};
    return (cn_unet_inputs){
        .x = cn_input4(g, "x", 1, hw, hw, c->in_channels),
        .t = cn_input(g, "t", CN_F32, 1, one, false),
        .context = cn_input(g, "context", CN_F32, 3, context, false),
        .added = c->added_dim ? cn_input(g, "added", CN_F32, 2, added, false) : NULL};
}

static void declare_unet(cn_graph *g, const void *config)
{
    const cn_unet_inputs in = smallest_inputs(g, config);
    cn_unet_build(g, config, &in);
}

/* By level, where they aren't one everywhere. */
static void add_transformers(cn_str *s, const cn_unet_config *c)
{
    bool one = true;
    for (int i = 0; i < c->levels; i++)
        one = one && c->transformer_layers[i] ==
                         (c->attention[i] || i == c->levels - 1 ? 1 : c->transformer_layers[i]);
    if (one) return;
    cn_str_adds(s, ", transformer layers");
    for (int i = 0; i < c->levels; i++)
        cn_str_addf(s, " %d", c->attention[i] ? c->transformer_layers[i] : 0);
    cn_str_addf(s, ", middle %d", c->transformer_layers[c->levels - 1]);
}

static void describe_unet(cn_str *s, const void *config)
{
    const cn_unet_config *c = config;
    cn_str_adds(s, "widths ");
    add_list(s, c->channels, c->levels);
    cn_str_addf(s, ", %d layers per block, ", c->layers_per_block);
    if (c->context_dim) cn_str_addf(s, "context %lld, ", (long long)c->context_dim);
    cn_str_addf(s, "%lld latent channels", (long long)c->in_channels);
    if (c->added_dim) cn_str_addf(s, ", added embedding %lld", (long long)c->added_dim);
    add_transformers(s, c);
    if (c->linear_projection) cn_str_adds(s, ", linear projections");
}

/* --- ControlNet ------------------------------------------------------------------------------- */

static cn_status read_control(cn_ctx *ctx, const json_t *json, void *config)
{
    return cn_controlnet_config_read(ctx, json, config);
}

static cn_status control_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                     cn_layout layout, void *config)
{
    return cn_controlnet_config_from_shapes(ctx, t, prefix, layout, config);
}

static json_t *write_control(const cn_base *b, const void *config)
{
    (void)b;
    return cn_controlnet_config_json(config);
}

static void declare_control(cn_graph *g, const void *config)
{
    const cn_controlnet_config *c = config;
    const int64_t px = smallest(c->encoder.levels) * smallest(c->hint_levels);
    cn_residuals r;
    cn_node *image = cn_input4(g, "condition", 1, px, px, c->condition_channels);
    const cn_condition_spec one = {.n = 1};
    cn_node *hint = c->union_types ? cn_union_hint_build(g, c, &one, &image)
                                   : cn_controlnet_hint_build(g, c, image);
    cn_unet_inputs in = smallest_inputs(g, &c->encoder);
    if (c->union_types) {
        const int64_t types[] = {1, c->union_types * CN_MAX(c->encoder.added_number_dim, 1)};
        in.types = cn_input(g, "types", CN_F32, 2, types, false);
    }
    cn_controlnet_build(g, c, &in, hint, &r);
}

static void describe_control(cn_str *s, const void *config)
{
    const cn_controlnet_config *c = config;
    describe_unet(s, &c->encoder);
    cn_str_adds(s, ", hint ");
    add_list(s, c->hint_channels, c->hint_levels);
    if (c->union_types) cn_str_addf(s, ", %d types of conditions", c->union_types);
}

/* --- VAE -------------------------------------------------------------------------------------- */

static cn_status read_vae(cn_ctx *ctx, const json_t *json, void *config)
{
    return cn_vae_config_read(ctx, json, config);
}

static cn_status vae_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                 cn_layout layout, void *config)
{
    return cn_vae_config_from_shapes(ctx, t, prefix, layout, config);
}

static json_t *write_vae(const cn_base *b, const void *config)
{
    const cn_vae_config *c = config;
    return cn_vae_config_json(c, b->unet.sample_size << (c->levels - 1));
}

static void declare_vae(cn_graph *g, const void *config)
{
    const cn_vae_config *c = config;
    int64_t px = smallest(c->levels);
    cn_vae_encode_build(g, c, cn_input4(g, "image", 1, px, px, c->image_channels));
    cn_vae_decode_build(g, c, cn_input4(g, "z", 1, 1, 1, c->latent_channels));
}

static void describe_vae(cn_str *s, const void *config)
{
    const cn_vae_config *c = config;
    cn_str_adds(s, "widths ");
    add_list(s, c->channels, c->levels);
    cn_str_addf(s, ", %d layers per block, %lld latent channels", c->layers_per_block,
                (long long)c->latent_channels);
}

/* Old diffusers called the attention's layers query, key, value and proj_attn. */
static bool rename_vae(const char *name, cn_layout layout, char other[CN_NAME_MAX])
{
    static const char *const pairs[][2] = {{".to_q.", ".query."},
                                           {".to_k.", ".key."},
                                           {".to_v.", ".value."},
                                           {".to_out.0.", ".proj_attn."}};
    for (size_t i = 0; layout == CN_LAYOUT_DIFFUSERS && i < CN_COUNT(pairs); i++) {
        const char *at = strstr(name, pairs[i][0]);
        if (!at) continue;
        const int n = snprintf(other, CN_NAME_MAX, "%.*s%s%s", (int)(at - name), name, pairs[i][1],
                               at + strlen(pairs[i][0]));
        return n > 0 && n < CN_NAME_MAX;
    }
    return false;
}

/* --- text encoder ----------------------------------------------------------------------------- */

static cn_status read_text(cn_ctx *ctx, const json_t *json, void *config)
{
    return cn_clip_config_read(ctx, json, config);
}

static bool has_open_clip_names(const cn_tensors *t, const char *prefix)
{
    char layers[128];
    const int n = snprintf(layers, sizeof layers, "%stransformer.resblocks.", prefix);
    return n > 0 && (size_t)n < sizeof layers && cn_tensors_have_prefix(t, layers);
}

static void look_text(const cn_tensors *t, const char *prefix, void *config)
{
    cn_clip_config *c = config;
    c->open_clip = has_open_clip_names(t, prefix);
}

static cn_status text_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                  cn_layout layout, void *config)
{
    (void)layout; /* transformers' names are the same in both */
    return has_open_clip_names(t, prefix) ? cn_open_clip_config_from_shapes(ctx, t, prefix, config)
                                          : cn_clip_config_from_shapes(ctx, t, prefix, config);
}

static json_t *write_text(const cn_base *b, const void *config)
{
    (void)b;
    return cn_clip_config_json(config);
}

/* With layers and the final norm that features may never come from. */
static void declare_text(cn_graph *g, const void *config)
{
    const int64_t shape[] = {1, 2}, one[] = {1, 2, 1};
    cn_clip_config whole = *(const cn_clip_config *)config;
    cn_node *end = NULL, *pooled, *ids = cn_input(g, "ids", CN_I32, 2, shape, true);
    whole.penultimate = false;
    if (whole.projection) end = cn_input(g, "end", CN_F32, 3, one, false);
    cn_clip_pooled_build(g, &whole, cn_clip_embed_build(g, &whole, ids), 0, end, &pooled);
}

static void describe_text(cn_str *s, const void *config)
{
    const cn_clip_config *c = config;
    cn_str_addf(s, "width %lld, %d layers, %lld tokens, length %lld", (long long)c->hidden,
                c->layers, (long long)c->vocabulary, (long long)c->max_positions);
}

/* transformers 5 dropped "text_model.". */
static bool rename_text(const char *name, cn_layout layout, char other[CN_NAME_MAX])
{
    static const char text_model[] = "text_model.";
    const size_t k = sizeof text_model - 1;
    const bool has = !strncmp(name, text_model, k);
    (void)layout;
    const int n = snprintf(other, CN_NAME_MAX, "%s%s", has ? "" : text_model, name + (has ? k : 0));
    return n > 0 && n < CN_NAME_MAX;
}

/* --- image encoder ---------------------------------------------------------------------------- */

static cn_status read_vision(cn_ctx *ctx, const json_t *json, void *config)
{
    return cn_vision_config_read(ctx, json, config);
}

static cn_status vision_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                    cn_layout layout, void *config)
{
    (void)layout; /* transformers' names alone */
    return cn_vision_config_from_shapes(ctx, t, prefix, config);
}

static void declare_vision(cn_graph *g, const void *config)
{
    const cn_vision_config *c = config;
    cn_node *projected;
    cn_vision_build(g, c, cn_input4(g, "image", 1, c->image_size, c->image_size, 3), &projected);
}

static void describe_vision(cn_str *s, const void *config)
{
    const cn_vision_config *c = config;
    cn_str_addf(s,
                "width %lld, %d layers, pictures of %lld pixels in patches of %lld, projected to "
                "%lld",
                (long long)c->clip.hidden, c->clip.layers, (long long)c->image_size,
                (long long)c->patch, (long long)c->clip.projection);
}

/* --- the table -------------------------------------------------------------------------------- */

/* A base's k-th text encoder, whose folders' names end in `suffix`. */
#define TEXT_ENCODER(suffix, transformers_class, k)                                        \
    {                                                                                      \
        .name = "text_encoder" suffix, .title = "text encoder", .library = "transformers", \
        .class = transformers_class, .weights = "model.safetensors",                       \
        .tokenizer = "tokenizer" suffix, .config_offset = offsetof(cn_base, text[k]),      \
        .read = read_text, .from_shapes = text_from_shapes, .look = look_text,             \
        .write = write_text, .declare = declare_text, .describe = describe_text,           \
        .renamed = rename_text                                                             \
    }

static const cn_net_kind networks[CN_NETS] = {
    [CN_NET_UNET] = {.name = "unet",
                     .title = "UNet",
                     .library = "diffusers",
                     .class = "UNet2DConditionModel",
                     .weights = "diffusion_pytorch_model.safetensors",
                     .config_offset = offsetof(cn_base, unet),
                     .read = read_unet,
                     .from_shapes = unet_from_shapes,
                     .write = write_unet,
                     .declare = declare_unet,
                     .describe = describe_unet},
    [CN_NET_VAE] = {.name = "vae",
                    .title = "VAE",
                    .library = "diffusers",
                    .class = "AutoencoderKL",
                    .weights = "diffusion_pytorch_model.safetensors",
                    .config_offset = offsetof(cn_base, vae),
                    .read = read_vae,
                    .from_shapes = vae_from_shapes,
                    .write = write_vae,
                    .declare = declare_vae,
                    .describe = describe_vae,
                    .renamed = rename_vae},
    [CN_NET_CONTROL] = {.name = "controlnet",
                        .title = "ControlNet",
                        .library = "diffusers",
                        .class = "ControlNetModel",
                        .weights = "diffusion_pytorch_model.safetensors",
                        .read = read_control,
                        .from_shapes = control_from_shapes,
                        .write = write_control,
                        .declare = declare_control,
                        .describe = describe_control},
    [CN_NET_VISION] = {.name = "image_encoder",
                       .title = "image encoder",
                       .library = "transformers",
                       .class = "CLIPVisionModelWithProjection",
                       .weights = "model.safetensors",
                       .read = read_vision,
                       .from_shapes = vision_from_shapes,
                       .declare = declare_vision,
                       .describe = describe_vision},
    [CN_NET_TEXT] = TEXT_ENCODER("", "CLIPTextModel", 0),
    [CN_NET_TEXT + 1] = TEXT_ENCODER("_2", "CLIPTextModelWithProjection", 1),
};

const cn_net_kind *cn_net_kind_of(cn_net net)
{
    return &networks[net];
}

bool cn_net_renamed(cn_net net, const char *name, cn_layout layout, char other[CN_NAME_MAX])
{
    return net < CN_NETS && networks[net].renamed && networks[net].renamed(name, layout, other);
}

cn_net cn_params_net(const cn_params *p)
{
    int net = 0;
    while (net < CN_NETS && strcmp(networks[net].name, cn_params_network(p))) net++;
    return (cn_net)net;
}

cn_status cn_net_params(cn_ctx *ctx, cn_net net, cn_params **out)
{
    return cn_params_create(ctx, networks[net].name, out);
}

cn_status cn_net_declare_into(cn_ctx *ctx, cn_net net, const void *config, cn_params *p)
{
    cn_graph *g = NULL;
    CN_TRY(cn_graph_create(ctx, &g));
    cn_graph_use(g, p);
    networks[net].declare(g, config);
    const cn_status s = cn_graph_status(g);
    cn_graph_destroy(g);
    return s;
}

cn_status cn_net_declare(cn_ctx *ctx, cn_net net, const void *config, cn_params **out)
{
    cn_params *p = NULL;
    CN_TRY(cn_net_params(ctx, net, &p));
    const cn_status s = cn_net_declare_into(ctx, net, config, p);
    if (s == CN_OK)
        *out = p;
    else
        cn_params_destroy(p);
    return s;
}

bool cn_net_in_base(cn_net net)
{
    return net != CN_NET_CONTROL && net != CN_NET_VISION;
}

void *cn_base_config(cn_base *b, cn_net net)
{
    return (char *)b + networks[net].config_offset;
}

const void *cn_base_config_of(const cn_base *b, cn_net net)
{
    return (const char *)b + networks[net].config_offset;
}
