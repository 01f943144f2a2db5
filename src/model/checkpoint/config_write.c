/* SPDX-License-Identifier: Apache-2.0 */
/* config_write.c - config.json as diffusers and transformers write it.
 *
 * Every key that decides the network's form is written, also where it has the class's default, so
 * that a later change of defaults doesn't change what the file means.
 */
#include "model/checkpoint/config_io.h"

#include "graph/graph.h"

#include <math.h>
#include <stdlib.h>

/* The format of config.json that is followed; diffusers logs it and nothing more. */
static const char diffusers_version[] = "0.31.0";

/* A list of n integers. */
static json_t *int_list(const int64_t *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_integer(v[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* Block types by level; reverse for the decoder's order. */
static json_t *type_list(const char *plain, const char *attn, const bool *flags, int n,
                         bool reverse)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++) {
        bool with = flags && flags[reverse ? n - 1 - i : i];
        if (json_array_append_new(list, json_string(with ? attn : plain)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* A float as the shortest decimal that reads back as the same float (0.18215, not
 * 0.182150006...). */
static json_t *short_real(float v)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    return json_real(strtod(text, NULL));
}

/* One number where all levels agree, else a list: what diffusers' configs hold. */
static json_t *levels_value(const cn_unet_config *c, const int *values)
{
    int64_t list[CN_MAX_LEVELS];
    bool same = true;
    for (int i = 0; i < c->levels; i++) {
        list[i] = values[i];
        same = same && list[i] == list[0];
    }
    return same ? json_integer(list[0]) : int_list(list, c->levels);
}

/* Of a level without attention, whose number counts for nothing, 0 where the middle has none. */
static json_t *transformers_value(const cn_unet_config *c)
{
    int layers[CN_MAX_LEVELS];
    const int last = c->levels - 1, none = c->transformer_layers[last] ? 1 : 0;
    for (int i = 0; i < c->levels; i++)
        layers[i] = c->attention[i] || i == last ? c->transformer_layers[i] : none;
    return levels_value(c, layers);
}

/* null for 0. */
static json_t *width_value(int64_t width)
{
    return width ? json_integer((json_int_t)width) : json_null();
}

/* Keys that UNet2DConditionModel and ControlNetModel share. */
static json_t *encoder_json(const cn_unet_config *c, const char *class)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:n, s:I, s:o, s:i, s:n, s:n, s:b, s:i, s:I, "
        "s:i, s:i, s:s, s:f, s:i, s:n, s:n, s:b, s:o, s:s, s:o, s:b, s:b}",
        "_class_name", class, "_diffusers_version", diffusers_version, "act_fn", "silu",
        "addition_embed_type", c->added_dim ? json_string("text_time") : json_null(),
        "addition_time_embed_dim", width_value(c->added_number_dim), "attention_head_dim",
        levels_value(c, c->heads), "block_out_channels", int_list(c->channels, c->levels),
        "class_embed_type", "cross_attention_dim", (json_int_t)c->context_dim, "down_block_types",
        type_list("DownBlock2D", "CrossAttnDownBlock2D", c->attention, c->levels, false),
        "downsample_padding", 1, "encoder_hid_dim", "encoder_hid_dim_type", "flip_sin_to_cos", 1,
        "freq_shift", 0, "in_channels", (json_int_t)c->in_channels, "layers_per_block",
        c->layers_per_block, "mid_block_scale_factor", 1, "mid_block_type",
        "UNetMidBlock2DCrossAttn", "norm_eps", 1e-5, "norm_num_groups", c->norm_groups,
        "num_attention_heads", "num_class_embeds", "only_cross_attention", 0,
        "projection_class_embeddings_input_dim", width_value(c->added_dim),
        "resnet_time_scale_shift", "default", "transformer_layers_per_block", transformers_value(c),
        "upcast_attention", 0, "use_linear_projection", (int)c->linear_projection);
}

/* Adds extra's keys to json; takes both; NULL when either is. */
static json_t *merged(json_t *json, json_t *extra)
{
    if (json && extra && json_object_update(json, extra) == 0) {
        json_decref(extra);
        return json;
    }
    json_decref(json);
    json_decref(extra);
    return NULL;
}

json_t *cn_unet_config_json(const cn_unet_config *c)
{
    json_t *extra =
        json_pack("{s:b, s:i, s:i, s:b, s:I, s:I, s:s, s:o, s:o, s:n}", "center_input_sample", 0,
                  "conv_in_kernel", 3, "conv_out_kernel", 3, "dual_cross_attention", 0,
                  "out_channels", (json_int_t)c->out_channels, "sample_size",
                  (json_int_t)c->sample_size, "time_embedding_type", "positional", "up_block_types",
                  type_list("UpBlock2D", "CrossAttnUpBlock2D", c->attention, c->levels, true),
                  "time_cond_proj_dim", width_value(c->guidance_dim), "timestep_post_act");
    return merged(encoder_json(c, "UNet2DConditionModel"), extra);
}

json_t *cn_controlnet_config_json(const cn_controlnet_config *c)
{
    json_t *extra = json_pack(
        "{s:I, s:o, s:s, s:b}", "conditioning_channels", (json_int_t)c->condition_channels,
        "conditioning_embedding_out_channels", int_list(c->hint_channels, c->hint_levels),
        "controlnet_conditioning_channel_order", "rgb", "global_pool_conditions", c->global_pool);
    if (!c->union_types) return merged(encoder_json(&c->encoder, "ControlNetModel"), extra);
    const json_int_t width = (json_int_t)c->encoder.channels[0];
    json_t *own = json_pack("{s:i, s:i, s:i, s:I, s:I}", "num_control_type", c->union_types,
                            "num_trans_head", c->union_heads, "num_trans_layer", c->union_layers,
                            "num_trans_channel", width, "num_proj_channel", width);
    return merged(encoder_json(&c->encoder, "ControlNetUnionModel"), merged(extra, own));
}

json_t *cn_adapter_config_json(const cn_adapter_config *c)
{
    const int light = c->form == CN_ADAPTER_LIGHT; /* whose last width counts twice */
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:I, s:I, s:i}", "_class_name", "T2IAdapter", "_diffusers_version",
        diffusers_version, "adapter_type", cn_adapter_form_words[c->form], "channels",
        int_list(c->channels, c->levels - light), "downscale_factor", (json_int_t)c->shrink,
        "in_channels", (json_int_t)c->image_channels, "num_res_blocks", c->blocks);
}

json_t *cn_vae_config_json(const cn_vae_config *c, int64_t sample_size_px)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:b, s:I, s:I, s:n, s:n, s:i, s:b, s:i, s:I, s:I, "
        "s:o, s:n, s:o, s:b, s:b}",
        "_class_name", "AutoencoderKL", "_diffusers_version", diffusers_version, "act_fn", "silu",
        "block_out_channels", int_list(c->channels, c->levels), "down_block_types",
        type_list("DownEncoderBlock2D", NULL, NULL, c->levels, false), "force_upcast", 1,
        "in_channels", (json_int_t)c->image_channels, "latent_channels",
        (json_int_t)c->latent_channels, "latents_mean", "latents_std", "layers_per_block",
        c->layers_per_block, "mid_block_add_attention", 1, "norm_num_groups", c->norm_groups,
        "out_channels", (json_int_t)c->image_channels, "sample_size", (json_int_t)sample_size_px,
        "scaling_factor", short_real(c->scaling_factor), "shift_factor", "up_block_types",
        type_list("UpDecoderBlock2D", NULL, NULL, c->levels, false), "use_post_quant_conv", 1,
        "use_quant_conv", 1);
}

json_t *cn_clip_config_json(const cn_clip_config *c)
{
    return json_pack(
        "{s:[s], s:f, s:I, s:I, s:s, s:I, s:f, s:f, s:I, s:o, s:I, s:s, s:i, s:i, "
        "s:I, s:I, s:I}",
        "architectures", c->projection ? "CLIPTextModelWithProjection" : "CLIPTextModel",
        "attention_dropout", 0.0, "bos_token_id", (json_int_t)(c->vocabulary - 2), "eos_token_id",
        (json_int_t)(c->vocabulary - 1), "hidden_act",
        c->act == CN_ACT_GELU ? "gelu" : "quick_gelu", "hidden_size", (json_int_t)c->hidden,
        "initializer_factor", 1.0, "initializer_range", 0.02, "intermediate_size",
        (json_int_t)c->intermediate, "layer_norm_eps", short_real(c->layer_norm_eps),
        "max_position_embeddings", (json_int_t)c->max_positions, "model_type", "clip_text_model",
        "num_attention_heads", c->heads, "num_hidden_layers", c->layers, "pad_token_id",
        (json_int_t)(c->vocabulary - 1), "projection_dim",
        (json_int_t)(c->projection ? c->projection : c->hidden), "vocab_size",
        (json_int_t)c->vocabulary);
}

json_t *cn_schedule_config_json(const cn_schedule_config *c)
{
    static const char *const spacings[] = {"leading", "leading", "trailing", "linspace"};
    return json_pack(
        "{s:s, s:s, s:f, s:s, s:f, s:b, s:f, s:i, s:s, s:b, s:b, s:i, s:b, s:s, s:n}",
        "_class_name", "DDIMScheduler", "_diffusers_version", diffusers_version, "beta_end",
        c->beta_end, "beta_schedule", c->scaled_linear ? "scaled_linear" : "linear", "beta_start",
        c->beta_start, "clip_sample", (int)c->clip_sample, "clip_sample_range", c->clip_range,
        "num_train_timesteps", c->train_timesteps, "prediction_type",
        c->v_prediction ? "v_prediction" : "epsilon", "rescale_betas_zero_snr", (int)c->zero_snr,
        "set_alpha_to_one", (int)c->set_alpha_to_one, "steps_offset", c->steps_offset,
        "thresholding", 0, "timestep_spacing", spacings[c->spacing], "trained_betas");
}
