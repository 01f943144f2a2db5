/* SPDX-License-Identifier: Apache-2.0 */
/* config_image.c - configurations of image prompts' networks: CLIP's image encoder by config.json
 * or shapes, IP-Adapters by shapes. */
#include "model/checkpoint/config_io.h"

#include "graph/graph.h"
#include "model/checkpoint/averages.h"

#include <string.h>

enum { MAX_WIDTH = 65536, MAX_LAYERS = 256, MAX_SIDE = 4096, MAX_TOKENS = 4096 };

/* --- the image encoder ------------------------------------------------------------------------ */

/* OpenAI's pictures' mean and deviation, which all published CLIP encoders take. */
static void set_defaults(cn_vision_config *c)
{
    static const float mean[] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float deviation[] = {0.26862954f, 0.26130258f, 0.27577711f};
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->deviation, deviation, sizeof deviation);
    c->clip.layer_norm_eps = 1e-5f;
}

static cn_status check_vision(cn_ctx *ctx, const cn_vision_config *c)
{
    const cn_clip_config *e = &c->clip;
    if (e->hidden < 1 || e->hidden > MAX_WIDTH || e->intermediate < 1 ||
        e->intermediate > 4 * MAX_WIDTH || e->layers < 2 || e->layers > MAX_LAYERS ||
        e->projection < 1 || e->projection > MAX_WIDTH)
        return cn_fail(ctx, CN_EFORMAT,
                       "image encoder: width %lld, inner width %lld, %d layers and a projection to "
                       "%lld are impossible; widths from 1 and at least 2 layers are expected",
                       (long long)e->hidden, (long long)e->intermediate, e->layers,
                       (long long)e->projection);
    if (e->heads < 1 || e->hidden % e->heads)
        return cn_fail(ctx, CN_EFORMAT, "image encoder: width %lld can't be split into %d heads",
                       (long long)e->hidden, e->heads);
    if (c->patch < 1 || c->image_size < c->patch || c->image_size > MAX_SIDE ||
        e->max_positions > MAX_TOKENS)
        return cn_fail(ctx, CN_EFORMAT,
                       "image encoder: pictures of %lld pixels a side in patches of %lld are "
                       "impossible",
                       (long long)c->image_size, (long long)c->patch);
    return CN_OK;
}

static void count_positions(cn_vision_config *c)
{
    const int64_t side = c->patch > 0 ? c->image_size / c->patch : 0;
    c->clip.max_positions = side > 0 && side <= MAX_SIDE ? side * side + 1 : 0;
}

cn_status cn_vision_config_read(cn_ctx *ctx, const json_t *json, cn_vision_config *out)
{
    cn_vision_config c = {0};
    const json_t *own = json_object_get(json, "vision_config"); /* of a whole CLIP model */
    const char *type = cn_json_str(own ? own : json, "model_type", "clip_vision_model");
    const char *act = cn_json_str(own ? own : json, "hidden_act", "quick_gelu");
    const int64_t projection = cn_json_int(json, "projection_dim", 512);
    const char *class = cn_json_str(json, "_class_name", NULL); /* diffusers' */
    if (own) json = own;
    if (!json_is_object(json)) return cn_fail(ctx, CN_EFORMAT, "a JSON object is expected");
    if (class)
        return cn_fail(ctx, CN_EMISMATCH,
                       "describes a %s, an image encoder (CLIPVisionModelWithProjection) is "
                       "expected",
                       class);
    if (strcmp(type, "clip_vision_model"))
        return cn_fail(ctx, CN_EFORMAT,
                       "\"model_type\": \"%s\" is not supported, only clip_vision_model", type);
    if (strcmp(act, "quick_gelu") && strcmp(act, "gelu"))
        return cn_fail(ctx, CN_EFORMAT,
                       "\"hidden_act\": \"%s\" is not supported, only quick_gelu and gelu", act);
    if (cn_json_int(json, "num_channels", 3) != 3)
        return cn_fail(ctx, CN_EFORMAT, "\"num_channels\" must be 3");
    set_defaults(&c);
    c.clip.act = !strcmp(act, "gelu") ? CN_ACT_GELU : CN_ACT_QUICK_GELU;
    c.clip.hidden = cn_json_int(json, "hidden_size", 768);
    c.clip.intermediate = cn_json_int(json, "intermediate_size", 3072);
    c.clip.layers = (int)CN_MIN(cn_json_int(json, "num_hidden_layers", 12), (int64_t)MAX_WIDTH);
    c.clip.heads = (int)CN_MIN(cn_json_int(json, "num_attention_heads", 12), (int64_t)MAX_WIDTH);
    c.clip.layer_norm_eps = (float)cn_json_number(json, "layer_norm_eps", 1e-5);
    c.clip.projection = projection;
    c.image_size = cn_json_int(json, "image_size", 224);
    c.patch = cn_json_int(json, "patch_size", 32);
    count_positions(&c);
    CN_TRY(check_vision(ctx, &c));
    *out = c;
    return CN_OK;
}

static cn_status read_three(cn_ctx *ctx, const json_t *json, const char *key, float *out)
{
    const json_t *list = json_object_get(json, key);
    if (!list) return CN_OK;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        if (json_array_size(list) != 3 || !json_is_number(v))
            return cn_fail(ctx, CN_EFORMAT, "\"%s\" must be a list of three numbers", key);
        out[i] = (float)json_number_value(v);
    }
    return CN_OK;
}

cn_status cn_vision_preprocessor_read(cn_ctx *ctx, const json_t *json, cn_vision_config *c)
{
    CN_TRY(read_three(ctx, json, "image_mean", c->mean));
    CN_TRY(read_three(ctx, json, "image_std", c->deviation));
    for (int i = 0; i < 3; i++)
        if (!(c->deviation[i] > 0))
            return cn_fail(ctx, CN_EFORMAT, "\"image_std\" must be above 0");
    return CN_OK;
}

static const cn_tensor_info *named(const cn_tensors *t, const char *prefix, const char *fmt, int i)
{
    char name[160];
    snprintf(name, sizeof name, fmt, i);
    return cn_tensors_find_in(t, prefix, name);
}

/* Dimension i of a weight of so many dimensions. */
static cn_status dim(cn_ctx *ctx, const cn_tensors *t, const char *prefix, const char *name,
                     int ndim, int i, int64_t *out)
{
    const cn_tensor_info *w = cn_tensors_find_in(t, prefix, name);
    if (!w) return cn_fail(ctx, CN_EFORMAT, "tensor %s%s is missing", prefix, name);
    if (w->ndim != ndim || w->shape[i] < 1 || w->shape[i] > 4 * MAX_WIDTH)
        return cn_fail(ctx, CN_EFORMAT, "tensor %s: %d dimensions of 1 to %d are expected", w->name,
                       ndim, 4 * MAX_WIDTH);
    *out = w->shape[i];
    return CN_OK;
}

static int vision_heads(int64_t hidden)
{
    if (hidden >= 1024) return 16;
    return hidden >= 64 && hidden % 64 == 0 ? (int)(hidden / 64) : 4;
}

cn_status cn_vision_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                       cn_vision_config *out)
{
    static const char layer[] = "vision_model.encoder.layers.%d.mlp.fc1.weight";
    static const char first[] = "vision_model.encoder.layers.0.mlp.fc1.weight";
    static const char patches[] = "vision_model.embeddings.patch_embedding.weight";
    static const char positions[] = "vision_model.embeddings.position_embedding.weight";
    cn_vision_config c = {0};
    int64_t side = 1;
    set_defaults(&c);
    CN_TRY(dim(ctx, t, prefix, patches, 4, 0, &c.clip.hidden));
    CN_TRY(dim(ctx, t, prefix, patches, 4, 2, &c.patch));
    CN_TRY(dim(ctx, t, prefix, positions, 2, 0, &c.clip.max_positions));
    CN_TRY(dim(ctx, t, prefix, first, 2, 0, &c.clip.intermediate));
    CN_TRY(dim(ctx, t, prefix, "visual_projection.weight", 2, 0, &c.clip.projection));
    while (c.clip.layers <= MAX_LAYERS && named(t, prefix, layer, c.clip.layers)) c.clip.layers++;
    while (side < MAX_SIDE && side * side + 1 < c.clip.max_positions) side++;
    if (side * side + 1 != c.clip.max_positions)
        return cn_fail(ctx, CN_EFORMAT,
                       "tensor %s%s: %lld positions are no square's and one for the whole picture",
                       prefix, positions, (long long)c.clip.max_positions);
    c.image_size = side * c.patch;
    c.clip.heads = vision_heads(c.clip.hidden);
    c.clip.act = c.clip.layers >= 32 ? CN_ACT_GELU : CN_ACT_QUICK_GELU;
    CN_TRY(check_vision(ctx, &c));
    *out = c;
    return CN_OK;
}

/* --- IP-Adapter ------------------------------------------------------------------------------- */

static cn_status read_plain(cn_ctx *ctx, const cn_tensors *t, cn_ip_config *c)
{
    int64_t rows = 0;
    CN_TRY(dim(ctx, t, "image_proj.", "proj.weight", 2, 0, &rows));
    CN_TRY(dim(ctx, t, "image_proj.", "proj.weight", 2, 1, &c->features));
    if (rows % c->context_dim)
        return cn_fail(ctx, CN_EFORMAT,
                       "IP-Adapter: its projection gives %lld values, no multiple of the keys' "
                       "width %lld",
                       (long long)rows, (long long)c->context_dim);
    c->tokens = rows / c->context_dim;
    return CN_OK;
}

static cn_status read_full(cn_ctx *ctx, const cn_tensors *t, cn_ip_config *c)
{
    CN_TRY(dim(ctx, t, "image_proj.", "proj.0.weight", 2, 0, &c->hidden));
    return dim(ctx, t, "image_proj.", "proj.0.weight", 2, 1, &c->features);
}

static cn_status read_resampler(cn_ctx *ctx, const cn_tensors *t, cn_ip_config *c)
{
    CN_TRY(dim(ctx, t, "image_proj.", "latents", 3, 1, &c->tokens));
    CN_TRY(dim(ctx, t, "image_proj.", "proj_in.weight", 2, 0, &c->hidden));
    CN_TRY(dim(ctx, t, "image_proj.", "proj_in.weight", 2, 1, &c->features));
    CN_TRY(dim(ctx, t, "image_proj.", "layers.0.0.to_q.weight", 2, 0, &c->inner));
    CN_TRY(dim(ctx, t, "image_proj.", "layers.0.1.1.weight", 2, 0, &c->feed_forward));
    while (c->layers <= MAX_LAYERS && named(t, "image_proj.", "layers.%d.0.to_q.weight", c->layers))
        c->layers++;
    if (c->inner % CN_IP_HEAD || c->layers > MAX_LAYERS)
        return cn_fail(ctx, CN_EFORMAT,
                       "IP-Adapter: %d layers of width %lld in its resampler; a multiple of %d is "
                       "expected",
                       c->layers, (long long)c->inner, (int)CN_IP_HEAD);
    return CN_OK;
}

cn_status cn_ip_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_ip_config *out)
{
    cn_ip_config c = {0};
    CN_TRY(dim(ctx, t, "ip_adapter.", "1.to_k_ip.weight", 2, 1, &c.context_dim));
    while (c.pairs < MAX_TOKENS && named(t, "ip_adapter.", "%d.to_k_ip.weight", 2 * c.pairs + 1))
        c.pairs++;
    if (cn_tensors_find(t, "image_proj.latents"))
        c.form = CN_IP_PLUS;
    else if (cn_tensors_find(t, "image_proj.proj.3.weight"))
        c.form = CN_IP_FULL;
    else if (!cn_tensors_find(t, "image_proj.proj.weight"))
        return cn_fail(ctx, CN_EMISMATCH,
                       "an IP-Adapter of another kind (FaceID): plain, plus and full-face ones, "
                       "which take a CLIP image encoder's features, are supported");
    CN_TRY(c.form == CN_IP_PLUS   ? read_resampler(ctx, t, &c)
           : c.form == CN_IP_FULL ? read_full(ctx, t, &c)
                                  : read_plain(ctx, t, &c));
    if (c.tokens > MAX_TOKENS)
        return cn_fail(ctx, CN_EFORMAT, "IP-Adapter: %lld tokens of an image; at most %d",
                       (long long)c.tokens, (int)MAX_TOKENS);
    *out = c;
    return CN_OK;
}
