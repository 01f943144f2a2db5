/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - reads config.json of diffusers' and transformers' model folders.
 *
 * A key that asks for something the networks here don't do is refused by name; an absent key has
 * the default of the class that wrote it. Dropout and the like, which don't change what a trained
 * network computes, are passed over.
 */
#include "model/checkpoint/config_io.h"

#include "graph/graph.h"
#include "io/json_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 65536, MAX_LAYERS = 16, MAX_TRANSFORMERS = 64, MAX_RESIDUALS = 40 };

/* --- keys that must have one value ------------------------------------------------------------ */

typedef enum rule_kind { IS_OFF, IS_ON, IS_TEXT, IS_NUMBER } rule_kind;

typedef struct rule {
    const char *key;
    rule_kind kind; /* IS_OFF: null, false, or a list of these */
    const char *text;
    double number;
} rule;

static const rule unet_rules[] = {
    {"act_fn", IS_TEXT, "silu", 0},
    {"attention_type", IS_TEXT, "default", 0},
    {"center_input_sample", IS_OFF, NULL, 0},
    {"class_embed_type", IS_OFF, NULL, 0},
    {"class_embeddings_concat", IS_OFF, NULL, 0},
    {"controlnet_conditioning_channel_order", IS_TEXT, "rgb", 0},
    {"conv_in_kernel", IS_NUMBER, NULL, 3},
    {"conv_out_kernel", IS_NUMBER, NULL, 3},
    {"cross_attention_norm", IS_OFF, NULL, 0},
    {"downsample_padding", IS_NUMBER, NULL, 1},
    {"dual_cross_attention", IS_OFF, NULL, 0},
    {"encoder_hid_dim", IS_OFF, NULL, 0},
    {"encoder_hid_dim_type", IS_OFF, NULL, 0},
    {"flip_sin_to_cos", IS_ON, NULL, 0},
    {"freq_shift", IS_NUMBER, NULL, 0},
    {"mid_block_only_cross_attention", IS_OFF, NULL, 0},
    {"mid_block_scale_factor", IS_NUMBER, NULL, 1},
    {"mid_block_type", IS_TEXT, "UNetMidBlock2DCrossAttn", 0},
    {"norm_eps", IS_NUMBER, NULL, 1e-5},
    {"num_class_embeds", IS_OFF, NULL, 0},
    {"only_cross_attention", IS_OFF, NULL, 0},
    {"resnet_out_scale_factor", IS_NUMBER, NULL, 1},
    {"resnet_skip_time_act", IS_OFF, NULL, 0},
    {"resnet_time_scale_shift", IS_TEXT, "default", 0},
    {"reverse_transformer_layers_per_block", IS_OFF, NULL, 0},
    {"time_embedding_act_fn", IS_OFF, NULL, 0},
    {"time_embedding_dim", IS_OFF, NULL, 0},
    {"time_embedding_type", IS_TEXT, "positional", 0},
    {"timestep_post_act", IS_OFF, NULL, 0},
};

static const rule vae_rules[] = {
    {"act_fn", IS_TEXT, "silu", 0},     {"latents_mean", IS_OFF, NULL, 0},
    {"latents_std", IS_OFF, NULL, 0},   {"mid_block_add_attention", IS_ON, NULL, 0},
    {"shift_factor", IS_OFF, NULL, 0},  {"use_post_quant_conv", IS_ON, NULL, 0},
    {"use_quant_conv", IS_ON, NULL, 0},
};

static const rule schedule_rules[] = {
    {"disable_corrector", IS_OFF, NULL, 0}, {"predict_x0", IS_ON, NULL, 0},
    {"thresholding", IS_OFF, NULL, 0},      {"trained_betas", IS_OFF, NULL, 0},
    {"use_flow_sigmas", IS_OFF, NULL, 0},   {"use_lu_lambdas", IS_OFF, NULL, 0},
};

static bool is_off(const json_t *v)
{
    return json_is_null(v) || json_is_false(v);
}

static bool is_number(const json_t *v, double number)
{
    return json_is_number(v) && fabs(json_number_value(v) - number) <= 1e-9 * (1 + fabs(number));
}

static bool rule_holds(const rule *r, const json_t *v)
{
    if (json_is_array(v) && r->kind != IS_TEXT) {
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!rule_holds(r, json_array_get(v, i))) return false;
        return true;
    }
    switch (r->kind) {
    case IS_OFF: return is_off(v);
    case IS_ON: return json_is_true(v);
    case IS_TEXT: return json_is_string(v) && !strcmp(json_string_value(v), r->text);
    case IS_NUMBER: return is_number(v, r->number);
    }
    return false;
}

static cn_status refuse(cn_ctx *ctx, const rule *r, const json_t *v)
{
    char *given = cn_json_text(v, JSON_ENCODE_ANY | JSON_COMPACT);
    char right[64];
    if (r->kind == IS_NUMBER)
        snprintf(right, sizeof right, "%g", r->number);
    else
        snprintf(right, sizeof right, "%s",
                 r->kind == IS_TEXT ? r->text
                 : r->kind == IS_ON ? "true"
                                    : "null or false");
    cn_status s = cn_fail(ctx, CN_EFORMAT, "\"%s\": %.100s is not supported, only %s", r->key,
                          given ? given : "?", right);
    free(given);
    return s;
}

static cn_status check_rules(cn_ctx *ctx, const json_t *json, const rule *rules, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(json, rules[i].key);
        if (v && !rule_holds(&rules[i], v)) return refuse(ctx, &rules[i], v);
    }
    return CN_OK;
}

/* --- small getters ---------------------------------------------------------------------------- */

static cn_status check_object(cn_ctx *ctx, const json_t *json)
{
    if (json_is_object(json)) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "a JSON object is expected");
}

static cn_status check_class(cn_ctx *ctx, const json_t *json, const char *want)
{
    const char *is = cn_json_str(json, "_class_name", want);
    if (!strcmp(is, want)) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH, "describes a %s, a %s is expected", is, want);
}

/* An integer from 1 to max; absent or null: `otherwise` (0: it must be there). */
static cn_status get_dim(cn_ctx *ctx, const json_t *json, const char *key, int64_t otherwise,
                         int64_t max, int64_t *out)
{
    const json_t *v = json_object_get(json, key);
    if ((!v || json_is_null(v)) && otherwise > 0) {
        *out = otherwise;
        return CN_OK;
    }
    if (!v) return cn_fail(ctx, CN_EFORMAT, "\"%s\" is missing", key);
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)
        return cn_fail(ctx, CN_EFORMAT, "\"%s\" must be a whole number from 1 to %lld", key,
                       (long long)max);
    *out = json_integer_value(v);
    return CN_OK;
}

static cn_status get_int(cn_ctx *ctx, const json_t *json, const char *key, int otherwise, int max,
                         int *out)
{
    int64_t v = 0;
    CN_TRY(get_dim(ctx, json, key, otherwise, max, &v));
    *out = (int)v;
    return CN_OK;
}

/* A list of widths; absent: def[0..n_def). */
static cn_status get_widths(cn_ctx *ctx, const json_t *json, const char *key, const int64_t *def,
                            int n_def, int64_t *out, int *n)
{
    const json_t *v = json_object_get(json, key);
    if (!v && def) {
        memcpy(out, def, (size_t)n_def * sizeof *def);
        *n = n_def;
        return CN_OK;
    }
    if (!json_is_array(v) || json_array_size(v) < 1 || json_array_size(v) > CN_MAX_LEVELS)
        return cn_fail(ctx, CN_EFORMAT, "\"%s\" must be a list of 1 to %d widths", key,
                       CN_MAX_LEVELS);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *e = json_array_get(v, i);
        if (!json_is_integer(e) || json_integer_value(e) < 1 || json_integer_value(e) > MAX_WIDTH)
            return cn_fail(ctx, CN_EFORMAT, "\"%s\": entry %zu must be a width from 1 to %d", key,
                           i, MAX_WIDTH);
        out[i] = json_integer_value(e);
    }
    *n = (int)json_array_size(v);
    return CN_OK;
}

/* An integer, or a list of one integer per level; all must be equal when `one` is set. */
static cn_status get_per_level(cn_ctx *ctx, const json_t *json, const char *key, int levels,
                               int64_t otherwise, bool one, int64_t *out)
{
    const json_t *v = json_object_get(json, key);
    if (!json_is_array(v)) {
        CN_TRY(get_dim(ctx, json, key, otherwise, MAX_WIDTH, &out[0]));
        for (int i = 1; i < levels; i++) out[i] = out[0];
        return CN_OK;
    }
    if (json_array_size(v) != (size_t)levels)
        return cn_fail(ctx, CN_EFORMAT, "\"%s\" has %zu entries for %d levels", key,
                       json_array_size(v), levels);
    for (int i = 0; i < levels; i++) {
        const json_t *e = json_array_get(v, (size_t)i);
        if (!json_is_integer(e) || json_integer_value(e) < 1 || json_integer_value(e) > MAX_WIDTH)
            return cn_fail(ctx, CN_EFORMAT, "\"%s\": entry %d must be a positive whole number", key,
                           i);
        out[i] = json_integer_value(e);
        if (one && out[i] != out[0])
            return cn_fail(ctx, CN_EFORMAT, "\"%s\": values that differ by level are not supported",
                           key);
    }
    return CN_OK;
}

/* Every entry of a list of block types must be plain or attn; flags (may be NULL) say which. */
static cn_status get_blocks(cn_ctx *ctx, const json_t *json, const char *key, int levels,
                            const char *plain, const char *attn, bool *flags)
{
    const json_t *v = json_object_get(json, key);
    if (!v) return CN_OK;
    if (!json_is_array(v) || json_array_size(v) != (size_t)levels)
        return cn_fail(ctx, CN_EFORMAT, "\"%s\" must be a list of %d block types", key, levels);
    for (int i = 0; i < levels; i++) {
        const char *type = json_string_value(json_array_get(v, (size_t)i));
        bool is_plain = type && !strcmp(type, plain);
        bool is_attn = type && attn && !strcmp(type, attn);
        if (!is_plain && !is_attn)
            return cn_fail(ctx, CN_EFORMAT,
                           "\"%s\": block type \"%s\" is not supported, only %s%s%s", key,
                           type ? type : "?", plain, attn ? " and " : "", attn ? attn : "");
        if (flags) flags[i] = is_attn;
    }
    return CN_OK;
}

/* --- UNet and ControlNet ---------------------------------------------------------------------- */

static const int64_t sd_widths[] = {320, 640, 1280, 1280};

/* diffusers calls the number of heads "attention_head_dim" and keeps the name for old files'
 * sake. */
static cn_status read_heads(cn_ctx *ctx, const json_t *json, cn_unet_config *c)
{
    const json_t *n = json_object_get(json, "num_attention_heads");
    const char *key = n && !json_is_null(n) ? "num_attention_heads" : "attention_head_dim";
    int64_t heads[CN_MAX_LEVELS];
    CN_TRY(get_per_level(ctx, json, key, c->levels, 8, false, heads));
    for (int i = 0; i < c->levels; i++) c->heads[i] = (int)heads[i];
    return CN_OK;
}

static cn_status read_attention(cn_ctx *ctx, const json_t *json, cn_unet_config *c)
{
    for (int i = 0; i < c->levels; i++) c->attention[i] = i < c->levels - 1;
    CN_TRY(get_blocks(ctx, json, "down_block_types", c->levels, "DownBlock2D",
                      "CrossAttnDownBlock2D", c->attention));
    bool up[CN_MAX_LEVELS];
    for (int i = 0; i < c->levels; i++) up[i] = c->attention[c->levels - 1 - i];
    CN_TRY(
        get_blocks(ctx, json, "up_block_types", c->levels, "UpBlock2D", "CrossAttnUpBlock2D", up));
    for (int i = 0; i < c->levels; i++)
        if (up[i] != c->attention[c->levels - 1 - i])
            return cn_fail(ctx, CN_EFORMAT,
                           "\"up_block_types\" is not the mirror image of \"down_block_types\"");
    return CN_OK;
}

/* One number, or a list with one for each level; the middle block's are the last level's, and
 * without attention there may be none. */
static cn_status read_transformer_layers(cn_ctx *ctx, const json_t *json, cn_unet_config *c)
{
    static const char key[] = "transformer_layers_per_block";
    const json_t *v = json_object_get(json, key);
    if (json_is_array(v) && json_array_size(v) != (size_t)c->levels)
        return cn_fail(ctx, CN_EFORMAT, "\"%s\" has %zu entries for %d levels", key,
                       json_array_size(v), c->levels);
    for (int i = 0; i < c->levels; i++) {
        const json_t *e = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        const json_int_t n = e ? json_integer_value(e) : 1;
        if ((e && !json_is_integer(e)) || n < (c->attention[i] ? 1 : 0) || n > MAX_TRANSFORMERS)
            return cn_fail(ctx, CN_EFORMAT,
                           "\"%s\": level %d must have a whole number from %d to %d", key, i,
                           c->attention[i] ? 1 : 0, MAX_TRANSFORMERS);
        c->transformer_layers[i] = (int)n;
    }
    return CN_OK;
}

static cn_status read_added(cn_ctx *ctx, const json_t *json, cn_unet_config *c)
{
    static const rule only = {"addition_embed_type", IS_TEXT, "text_time", 0};
    const json_t *type = json_object_get(json, only.key);
    if (!type || is_off(type)) return CN_OK;
    if (!rule_holds(&only, type)) return refuse(ctx, &only, type);
    CN_TRY(get_dim(ctx, json, "addition_time_embed_dim", 0, MAX_WIDTH, &c->added_number_dim));
    return get_dim(ctx, json, "projection_class_embeddings_input_dim", 0, 16 * MAX_WIDTH,
                   &c->added_dim);
}

/* What UNet2DConditionModel and ControlNetModel have in common. */
static cn_status read_encoder(cn_ctx *ctx, const json_t *json, cn_unet_config *c)
{
    int64_t per_level[CN_MAX_LEVELS];
    CN_TRY(check_rules(ctx, json, unet_rules, CN_COUNT(unet_rules)));
    CN_TRY(get_dim(ctx, json, "in_channels", 4, MAX_WIDTH, &c->in_channels));
    CN_TRY(get_dim(ctx, json, "out_channels", 4, MAX_WIDTH, &c->out_channels));
    CN_TRY(get_widths(ctx, json, "block_out_channels", sd_widths, 4, c->channels, &c->levels));
    CN_TRY(read_attention(ctx, json, c));
    CN_TRY(read_transformer_layers(ctx, json, c));
    CN_TRY(read_heads(ctx, json, c));
    CN_TRY(read_added(ctx, json, c));
    CN_TRY(get_per_level(ctx, json, "layers_per_block", c->levels, 2, true, per_level));
    c->layers_per_block = (int)per_level[0];
    CN_TRY(get_per_level(ctx, json, "cross_attention_dim", c->levels, 1280, true, per_level));
    c->context_dim = per_level[0];
    c->linear_projection = cn_json_bool(json, "use_linear_projection", false);
    CN_TRY(get_int(ctx, json, "norm_num_groups", 32, MAX_WIDTH, &c->norm_groups));
    CN_TRY(get_dim(ctx, json, "sample_size", 64, MAX_WIDTH, &c->sample_size));
    return cn_unet_config_check(ctx, c);
}

cn_status cn_unet_config_read(cn_ctx *ctx, const json_t *json, cn_unet_config *out)
{
    cn_unet_config c = {0};
    CN_TRY(check_object(ctx, json));
    CN_TRY(check_class(ctx, json, "UNet2DConditionModel"));
    CN_TRY(read_encoder(ctx, json, &c));
    const json_t *guidance = json_object_get(json, "time_cond_proj_dim");
    if (guidance && !is_off(guidance))
        CN_TRY(get_dim(ctx, json, "time_cond_proj_dim", 0, MAX_WIDTH, &c.guidance_dim));
    *out = c;
    return CN_OK;
}

/* Of ControlNetUnionModel. */
static cn_status read_union(cn_ctx *ctx, const json_t *json, cn_controlnet_config *c)
{
    static const char *const widths[] = {"num_trans_channel", "num_proj_channel"};
    int64_t width = 0;
    CN_TRY(get_int(ctx, json, "num_control_type", 6, MAX_WIDTH, &c->union_types));
    CN_TRY(get_int(ctx, json, "num_trans_layer", 1, MAX_TRANSFORMERS, &c->union_layers));
    CN_TRY(get_int(ctx, json, "num_trans_head", 8, MAX_WIDTH, &c->union_heads));
    if (!c->encoder.added_dim) /* of SD 1.x: its types are numbers of this width all the same */
        CN_TRY(get_dim(ctx, json, "addition_time_embed_dim", 0, MAX_WIDTH,
                       &c->encoder.added_number_dim));
    for (size_t i = 0; i < CN_COUNT(widths); i++) {
        CN_TRY(get_dim(ctx, json, widths[i], 320, MAX_WIDTH, &width));
        if (width != c->encoder.channels[0])
            return cn_fail(ctx, CN_EFORMAT, "\"%s\": %lld is not supported, only the first width",
                           widths[i], (long long)width);
    }
    return CN_OK;
}

cn_status cn_controlnet_config_read(cn_ctx *ctx, const json_t *json, cn_controlnet_config *out)
{
    static const int64_t hint[] = {16, 32, 96, 256};
    cn_controlnet_config c = {0};
    CN_TRY(check_object(ctx, json));
    const bool union_class = !strcmp(cn_json_str(json, "_class_name", ""), "ControlNetUnionModel");
    const bool many = union_class || json_object_get(json, "num_control_type");
    if (!union_class) CN_TRY(check_class(ctx, json, "ControlNetModel"));
    CN_TRY(read_encoder(ctx, json, &c.encoder));
    if (many) CN_TRY(read_union(ctx, json, &c));
    c.encoder.out_channels = c.encoder.in_channels;
    CN_TRY(get_dim(ctx, json, "conditioning_channels", 3, MAX_WIDTH, &c.condition_channels));
    CN_TRY(get_widths(ctx, json, "conditioning_embedding_out_channels", hint, 4, c.hint_channels,
                      &c.hint_levels));
    c.global_pool = cn_json_bool(json, "global_pool_conditions", false);
    CN_TRY(cn_controlnet_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

/* --- VAE, CLIP, scheduler --------------------------------------------------------------------- */

/* A list of one number for each level: 1 where `one` says, else *blocks, which the first sets. */
static cn_status get_tiny_blocks(cn_ctx *ctx, const json_t *json, const char *key, int levels,
                                 int one, int *blocks)
{
    static const int64_t three[] = {1, 3, 3, 3}, back[] = {3, 3, 3, 1};
    int64_t list[CN_MAX_LEVELS];
    int n = 0;
    CN_TRY(get_widths(ctx, json, key, one ? back : three, 4, list, &n));
    for (int i = 0; i < n; i++) {
        if (i != one && *blocks == 0) *blocks = (int)CN_MIN(list[i], (int64_t)MAX_LAYERS);
        if (n != levels || list[i] != (i == one ? 1 : *blocks))
            return cn_fail(
                ctx, CN_EFORMAT,
                "\"%s\": only TAESD's form is supported, 1 at the picture's size and one "
                "number elsewhere, for %d levels",
                key, levels);
    }
    return CN_OK;
}

/* diffusers' AutoencoderTiny. */
static cn_status read_tiny(cn_ctx *ctx, const json_t *json, cn_vae_config *c)
{
    static const rule rules[] = {{"act_fn", IS_TEXT, "relu", 0},
                                 {"upsampling_scaling_factor", IS_NUMBER, NULL, 2},
                                 {"shift_factor", IS_NUMBER, NULL, 0},
                                 {"force_upcast", IS_OFF, NULL, 0}};
    static const int64_t widths[] = {64, 64, 64, 64};
    static const char *const keys[] = {"encoder_block_out_channels", "decoder_block_out_channels"};
    CN_TRY(check_rules(ctx, json, rules, CN_COUNT(rules)));
    c->tiny = true;
    c->norm_groups = 1;
    for (int k = 0; k < 2; k++) {
        CN_TRY(get_widths(ctx, json, keys[k], widths, 4, c->channels, &c->levels));
        for (int i = 1; i < c->levels; i++)
            if (c->channels[i] != c->channels[0])
                return cn_fail(ctx, CN_EFORMAT, "\"%s\": all widths must be alike", keys[k]);
    }
    CN_TRY(get_tiny_blocks(ctx, json, "num_encoder_blocks", c->levels, 0, &c->layers_per_block));
    CN_TRY(get_tiny_blocks(ctx, json, "num_decoder_blocks", c->levels, c->levels - 1,
                           &c->layers_per_block));
    c->scaling_factor = (float)cn_json_number(json, "scaling_factor", 1);
    return cn_vae_config_check(ctx, c);
}

cn_status cn_vae_config_read(cn_ctx *ctx, const json_t *json, cn_vae_config *out)
{
    static const int64_t one_level[] = {64};
    cn_vae_config c = {0};
    int64_t rgb = 3;
    CN_TRY(check_object(ctx, json));
    const bool tiny = !strcmp(cn_json_str(json, "_class_name", ""), "AutoencoderTiny");
    if (!tiny) CN_TRY(check_class(ctx, json, "AutoencoderKL"));
    if (!tiny) CN_TRY(check_rules(ctx, json, vae_rules, CN_COUNT(vae_rules)));
    CN_TRY(get_dim(ctx, json, "in_channels", 3, 64, &c.image_channels));
    CN_TRY(get_dim(ctx, json, "out_channels", 3, 64, &rgb));
    if (rgb != c.image_channels)
        return cn_fail(ctx, CN_EFORMAT, "\"out_channels\" must be equal to \"in_channels\"");
    CN_TRY(get_dim(ctx, json, "latent_channels", 4, 1024, &c.latent_channels));
    if (tiny) {
        CN_TRY(read_tiny(ctx, json, &c));
        *out = c;
        return CN_OK;
    }
    CN_TRY(get_widths(ctx, json, "block_out_channels", one_level, 1, c.channels, &c.levels));
    CN_TRY(get_blocks(ctx, json, "down_block_types", c.levels, "DownEncoderBlock2D", NULL, NULL));
    CN_TRY(get_blocks(ctx, json, "up_block_types", c.levels, "UpDecoderBlock2D", NULL, NULL));
    CN_TRY(get_int(ctx, json, "layers_per_block", 1, MAX_LAYERS, &c.layers_per_block));
    CN_TRY(get_int(ctx, json, "norm_num_groups", 32, MAX_WIDTH, &c.norm_groups));
    c.scaling_factor = (float)cn_json_number(json, "scaling_factor", (double)CN_SD_SCALING_FACTOR);
    CN_TRY(cn_vae_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

cn_status cn_clip_config_read(cn_ctx *ctx, const json_t *json, cn_clip_config *out)
{
    cn_clip_config c = {0};
    CN_TRY(check_object(ctx, json));
    const char *type = cn_json_str(json, "model_type", "clip_text_model");
    if (strcmp(type, "clip_text_model"))
        return cn_fail(ctx, CN_EFORMAT,
                       "\"model_type\": \"%s\" is not supported, only clip_text_model", type);
    CN_TRY(get_dim(ctx, json, "vocab_size", 49408, 1 << 24, &c.vocabulary));
    CN_TRY(get_dim(ctx, json, "hidden_size", 512, MAX_WIDTH, &c.hidden));
    CN_TRY(get_dim(ctx, json, "intermediate_size", 2048, 4 * MAX_WIDTH, &c.intermediate));
    CN_TRY(get_dim(ctx, json, "max_position_embeddings", 77, 1 << 20, &c.max_positions));
    CN_TRY(get_int(ctx, json, "num_hidden_layers", 12, 256, &c.layers));
    CN_TRY(get_int(ctx, json, "num_attention_heads", 8, MAX_WIDTH, &c.heads));
    CN_TRY(get_dim(ctx, json, "projection_dim", 512, MAX_WIDTH, &c.projection));
    c.layer_norm_eps = (float)cn_json_number(json, "layer_norm_eps", 1e-5);
    const char *act = cn_json_str(json, "hidden_act", "quick_gelu");
    if (!strcmp(act, "quick_gelu"))
        c.act = CN_ACT_QUICK_GELU;
    else if (!strcmp(act, "gelu"))
        c.act = CN_ACT_GELU;
    else
        return cn_fail(ctx, CN_EFORMAT,
                       "\"hidden_act\": \"%s\" is not supported, only quick_gelu and gelu", act);
    /* Of the published encoders only OpenCLIP's, in SD 2.x and SDXL, have the exact GELU. */
    c.open_clip = c.act == CN_ACT_GELU;
    CN_TRY(cn_clip_config_check(ctx, &c));
    *out = c;
    return CN_OK;
}

void cn_schedule_config_default(cn_schedule_config *out)
{
    *out = (cn_schedule_config){.train_timesteps = 1000,
                                .beta_start = 0.00085,
                                .beta_end = 0.012,
                                .scaled_linear = true,
                                .steps_offset = 1,
                                .clip_range = 1,
                                .solver_order = 2,
                                .lcm_steps = 50,
                                .lcm_timestep_scaling = 10};
}

/* Either of two words for a key. */
static cn_status get_choice(cn_ctx *ctx, const json_t *json, const char *key, const char *no,
                            const char *yes, bool *out)
{
    const char *v = cn_json_str(json, key, no);
    if (strcmp(v, no) && strcmp(v, yes))
        return cn_fail(ctx, CN_EFORMAT, "\"%s\": \"%s\" is not supported, only %s and %s", key, v,
                       no, yes);
    *out = !strcmp(v, yes);
    return CN_OK;
}

static const char *const spacings[] = {[CN_SPACING_LEADING] = "leading",
                                       [CN_SPACING_TRAILING] = "trailing",
                                       [CN_SPACING_LINSPACE] = "linspace"};

bool cn_spacing_find(const char *name, cn_spacing *out)
{
    for (size_t i = CN_SPACING_LEADING; i < CN_COUNT(spacings); i++)
        if (!strcmp(name, spacings[i])) {
            *out = (cn_spacing)i;
            return true;
        }
    return false;
}

/* A spacing that is the default of the class that wrote the file says nothing: diffusers writes it
 * in any case, and its other classes have their own defaults (the rows of diffuse/samplers). */
static cn_status read_spacing(cn_ctx *ctx, const json_t *json, cn_spacing *out)
{
    static const char *const leading[] = {"DDIMScheduler", "DDPMScheduler", "PNDMScheduler",
                                          "LCMScheduler", "TCDScheduler"};
    const char *class = cn_json_str(json, "_class_name", NULL);
    const char *said = cn_json_str(json, "timestep_spacing", NULL);
    cn_spacing own = class ? CN_SPACING_LINSPACE : CN_SPACING_OWN;
    for (size_t i = 0; class && i < CN_COUNT(leading); i++)
        if (!strcmp(class, leading[i])) own = CN_SPACING_LEADING;
    *out = CN_SPACING_OWN;
    if (!said) return CN_OK;
    if (!cn_spacing_find(said, out))
        return cn_fail(ctx, CN_EFORMAT,
                       "\"timestep_spacing\": \"%s\" is not supported, only leading, trailing and "
                       "linspace",
                       said);
    if (*out == own) *out = CN_SPACING_OWN;
    return CN_OK;
}

/* "use_karras_sigmas": true says karras; which names there are, the samplers know. */
static void read_sigma_schedule(const json_t *json, char *out, size_t cap)
{
    static const char begin[] = "use_", end[] = "_sigmas";
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        const size_t n = strlen(key), around = sizeof begin - 1 + sizeof end - 1;
        if (!json_is_true(value) || n <= around || strncmp(key, begin, sizeof begin - 1) != 0 ||
            strcmp(key + n - (sizeof end - 1), end) != 0)
            continue;
        snprintf(out, cap, "%.*s", (int)(n - around), key + sizeof begin - 1);
    }
}

/* Settings of single samplers; a sampler takes those that it has. */
static cn_status read_solver(cn_ctx *ctx, const json_t *json, cn_schedule_config *c)
{
    const char *type = cn_json_str(json, "solver_type", "");
    CN_TRY(get_choice(ctx, json, "final_sigmas_type", "zero", "sigma_min", &c->ends_at_sigma_min));
    CN_TRY(get_int(ctx, json, "solver_order", 2, 3, &c->solver_order));
    CN_TRY(get_int(ctx, json, "original_inference_steps", 50, c->train_timesteps, &c->lcm_steps));
    read_sigma_schedule(json, c->sigma_schedule, sizeof c->sigma_schedule);
    c->full_order_final = !cn_json_bool(json, "lower_order_final", true);
    c->euler_at_final = cn_json_bool(json, "euler_at_final", false);
    c->heun_solver = !strcmp(type, "heun");
    c->bh1_solver = !strcmp(type, "bh1");
    c->large_variance = !strcmp(cn_json_str(json, "variance_type", ""), "fixed_large");
    c->lcm_timestep_scaling = cn_json_number(json, "timestep_scaling", 10);
    c->clip_range = cn_json_number(json, "clip_sample_range", 1);
    c->tcd_eta = cn_json_number(json, "eta", 0.3);
    if (!(c->tcd_eta >= 0 && c->tcd_eta <= 1))
        return cn_fail(ctx, CN_EFORMAT, "\"eta\" must lie between 0 and 1");
    if (!(c->lcm_timestep_scaling > 0) || !(c->clip_range > 0))
        return cn_fail(ctx, CN_EFORMAT,
                       "\"timestep_scaling\" and \"clip_sample_range\" must be above 0");
    return CN_OK;
}

cn_status cn_schedule_config_read(cn_ctx *ctx, const json_t *json, cn_schedule_config *out)
{
    cn_schedule_config c = {0};
    CN_TRY(check_object(ctx, json));
    CN_TRY(check_rules(ctx, json, schedule_rules, CN_COUNT(schedule_rules)));
    const char *class = cn_json_str(json, "_class_name", "");
    bool ddim = !strcmp(class, "DDIMScheduler"), ddpm = !strcmp(class, "DDPMScheduler");
    bool lcm = !strcmp(class, "LCMScheduler");
    CN_TRY(get_int(ctx, json, "num_train_timesteps", 1000, 100000, &c.train_timesteps));
    c.beta_start = cn_json_number(json, "beta_start", 0.0001);
    c.beta_end = cn_json_number(json, "beta_end", 0.02);
    if (!(c.beta_start > 0 && c.beta_start <= c.beta_end && c.beta_end < 1))
        return cn_fail(ctx, CN_EFORMAT, "0 < \"beta_start\" <= \"beta_end\" < 1 is expected");
    CN_TRY(get_choice(ctx, json, "beta_schedule", "linear", "scaled_linear", &c.scaled_linear));
    CN_TRY(get_choice(ctx, json, "prediction_type", "epsilon", "v_prediction", &c.v_prediction));
    int64_t offset = cn_json_int(json, "steps_offset", 0);
    if (offset < 0 || offset >= c.train_timesteps)
        return cn_fail(ctx, CN_EFORMAT, "\"steps_offset\": %lld is out of range",
                       (long long)offset);
    c.steps_offset = (int)offset;
    c.set_alpha_to_one = cn_json_bool(json, "set_alpha_to_one", ddim || lcm);
    c.clip_sample = cn_json_bool(json, "clip_sample", ddim || ddpm);
    c.zero_snr = cn_json_bool(json, "rescale_betas_zero_snr", false);
    CN_TRY(read_spacing(ctx, json, &c.spacing));
    CN_TRY(read_solver(ctx, json, &c));
    *out = c;
    return CN_OK;
}

/* --- checks ----------------------------------------------------------------------------------- */

static cn_status check_widths(cn_ctx *ctx, const char *what, const int64_t *channels, int levels,
                              int groups)
{
    if (levels < 1 || levels > CN_MAX_LEVELS)
        return cn_fail(ctx, CN_EFORMAT, "%s: %d levels, 1 to %d are expected", what, levels,
                       CN_MAX_LEVELS);
    for (int i = 0; i < levels; i++)
        if (channels[i] < 1 || channels[i] > MAX_WIDTH || channels[i] % groups)
            return cn_fail(ctx, CN_EFORMAT,
                           "%s: width %lld of level %d is no multiple of %d groups", what,
                           (long long)channels[i], i, groups);
    return CN_OK;
}

bool cn_unet_attends(const cn_unet_config *c)
{
    for (int i = 0; i < c->levels; i++)
        if ((c->attention[i] || i == c->levels - 1) && c->transformer_layers[i]) return true;
    return false;
}

cn_status cn_unet_config_check(cn_ctx *ctx, const cn_unet_config *c)
{
    CN_TRY(check_widths(ctx, "unet", c->channels, c->levels, c->norm_groups));
    for (int i = 0; i < c->levels; i++) {
        /* the last level's heads are the middle block's too */
        bool used = c->attention[i] || i == c->levels - 1;
        if (used && (c->heads[i] < 1 || c->channels[i] % c->heads[i]))
            return cn_fail(ctx, CN_EFORMAT,
                           "unet: width %lld of level %d doesn't divide by %d heads",
                           (long long)c->channels[i], i, c->heads[i]);
    }
    if (c->channels[0] % 2)
        return cn_fail(ctx, CN_EFORMAT, "unet: the first width %lld must be even",
                       (long long)c->channels[0]);
    if (c->layers_per_block < 1 || c->layers_per_block > MAX_LAYERS ||
        c->levels * (c->layers_per_block + 1) > MAX_RESIDUALS - 1)
        return cn_fail(ctx, CN_EFORMAT, "unet: %d layers in %d levels are too many",
                       c->layers_per_block, c->levels);
    if (c->context_dim < (cn_unet_attends(c) ? 1 : 0) || c->context_dim > MAX_WIDTH ||
        c->in_channels < 1 || c->in_channels > MAX_WIDTH || c->out_channels < 1 ||
        c->out_channels > MAX_WIDTH)
        return cn_fail(ctx, CN_EFORMAT, "unet: channels or context width out of range");
    if (c->added_dim < 0 || c->added_number_dim < 0 || c->added_number_dim % 2 ||
        (c->added_dim && c->added_number_dim > c->added_dim))
        return cn_fail(ctx, CN_EFORMAT, "unet: an added embedding of %lld of %lld is impossible",
                       (long long)c->added_number_dim, (long long)c->added_dim);
    return CN_OK;
}

cn_status cn_controlnet_config_check(cn_ctx *ctx, const cn_controlnet_config *c)
{
    CN_TRY(cn_unet_config_check(ctx, &c->encoder));
    if (c->union_types && (c->union_heads < 1 || c->encoder.channels[0] % c->union_heads))
        return cn_fail(ctx, CN_EFORMAT, "union: width %lld doesn't divide by %d heads",
                       (long long)c->encoder.channels[0], c->union_heads);
    return check_widths(ctx, "hint network", c->hint_channels, c->hint_levels, 1);
}

cn_status cn_vae_config_check(cn_ctx *ctx, const cn_vae_config *c)
{
    CN_TRY(check_widths(ctx, "vae", c->channels, c->levels, c->norm_groups));
    if (!(c->scaling_factor > 0) || !isfinite(c->scaling_factor))
        return cn_fail(ctx, CN_EFORMAT, "\"scaling_factor\" must be a positive number");
    if (c->layers_per_block < 1 || c->layers_per_block > MAX_LAYERS || c->latent_channels < 1)
        return cn_fail(ctx, CN_EFORMAT, "vae: layers or latent channels out of range");
    return CN_OK;
}

cn_status cn_clip_config_check(cn_ctx *ctx, const cn_clip_config *c)
{
    if (c->heads < 1 || c->hidden < 1 || c->hidden > MAX_WIDTH || c->hidden % c->heads)
        return cn_fail(ctx, CN_EFORMAT, "text encoder: width %lld doesn't divide by %d heads",
                       (long long)c->hidden, c->heads);
    if (c->layers < 1 || c->layers > 256 || c->vocabulary < 1 || c->max_positions < 2 ||
        c->intermediate < 1)
        return cn_fail(ctx, CN_EFORMAT, "text encoder: layers or sizes out of range");
    if (!(c->layer_norm_eps > 0) || !(c->layer_norm_eps < 1))
        return cn_fail(ctx, CN_EFORMAT, "\"layer_norm_eps\" must lie between 0 and 1");
    return CN_OK;
}
