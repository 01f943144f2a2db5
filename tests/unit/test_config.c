/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - configurations from JSON, from shapes, and back to JSON. */
#include "graph/graph.h"
#include "model/checkpoint/config_io.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static cn_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    return ctx ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return 0;
}

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static cn_status read_unet(const char *text, cn_unet_config *c)
{
    json_t *json = parse(text);
    cn_status s = cn_unet_config_read(ctx, json, c);
    json_decref(json);
    return s;
}

static void unet_defaults_are_stable_diffusion(void **state)
{
    (void)state;
    cn_unet_config c;
    assert_int_equal(read_unet("{\"cross_attention_dim\": 768}", &c), CN_OK);
    assert_int_equal(c.levels, 4);
    assert_int_equal(c.channels[0], 320);
    assert_int_equal(c.channels[3], 1280);
    assert_true(c.attention[0] && c.attention[2] && !c.attention[3]);
    assert_int_equal(c.heads[0], 8);
    assert_int_equal(c.layers_per_block, 2);
    assert_int_equal(c.context_dim, 768);
    assert_int_equal(c.norm_groups, 32);
    assert_int_equal(c.sample_size, 64);
    assert_false(c.linear_projection);
}

static void heads_are_a_number_or_a_list(void **state)
{
    (void)state;
    cn_unet_config c;
    assert_int_equal(read_unet("{\"attention_head_dim\": [5, 10, 20, 20],"
                               "\"use_linear_projection\": true}",
                               &c),
                     CN_OK);
    assert_int_equal(c.heads[0], 5);
    assert_int_equal(c.heads[2], 20);
    assert_true(c.linear_projection);
    assert_int_equal(read_unet("{\"attention_head_dim\": 8, \"num_attention_heads\": 4}", &c),
                     CN_OK);
    assert_int_equal(c.heads[1], 4);
    assert_int_equal(read_unet("{\"attention_head_dim\": [8, 8]}", &c), CN_EFORMAT);
    assert_int_equal(read_unet("{\"attention_head_dim\": 7}", &c), CN_EFORMAT);
}

static void unsupported_features_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {"{\"class_embed_type\": \"timestep\"}", "class_embed_type"},
        {"{\"addition_embed_type\": \"text_image\"}", "addition_embed_type"},
        {"{\"addition_embed_type\": \"text_time\"}", "addition_time_embed_dim"},
        {"{\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 33,"
         "\"projection_class_embeddings_input_dim\": 240}",
         "33"},
        {"{\"dual_cross_attention\": true}", "dual_cross_attention"},
        {"{\"transformer_layers_per_block\": 0}", "transformer_layers_per_block"},
        {"{\"transformer_layers_per_block\": [1, 2, 10]}", "transformer_layers_per_block"},
        {"{\"act_fn\": \"gelu\"}", "act_fn"},
        {"{\"only_cross_attention\": [true, true, true, false]}", "only_cross_attention"},
        {"{\"time_cond_proj_dim\": -1}", "time_cond_proj_dim"},
        {"{\"mid_block_type\": null}", "mid_block_type"},
        {"{\"conv_in_kernel\": 1}", "conv_in_kernel"},
        {"{\"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\", \"DownBlock2D\","
         "\"DownBlock2D\"]}",
         "AttnDownBlock2D"},
        {"{\"block_out_channels\": []}", "block_out_channels"},
        {"{\"block_out_channels\": [320, 641, 1280, 1280]}", "641"},
        {"{\"block_out_channels\": [320, -1, 1280, 1280]}", "block_out_channels"},
        {"{\"block_out_channels\": [9223372036854775807]}", "block_out_channels"},
        {"{\"layers_per_block\": 99999}", "layers"},
        {"{\"in_channels\": \"4\"}", "in_channels"},
        {"{\"norm_num_groups\": 0}", "norm_num_groups"},
        {"{\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"DownBlock2D\","
         "\"DownBlock2D\"], \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\","
         "\"UpBlock2D\", \"UpBlock2D\"]}",
         "mirror"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_unet_config c;
        assert_int_equal(read_unet(cases[i].json, &c), CN_EFORMAT);
        if (!strstr(cn_error(ctx), cases[i].named))
            fail_msg("\"%s\" isn't named in: %s", cases[i].named, cn_error(ctx));
    }
    cn_unet_config c;
    assert_int_equal(read_unet("{\"_class_name\": \"ControlNetModel\"}", &c), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(ctx), "ControlNetModel"));
}

static void other_networks_refuse_by_name(void **state)
{
    (void)state;
    cn_vae_config v;
    cn_clip_config k;
    cn_schedule_config d;
    cn_controlnet_config c;
    json_t *json = parse("{\"use_quant_conv\": false}");
    assert_int_equal(cn_vae_config_read(ctx, json, &v), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "use_quant_conv"));
    json_decref(json);
    json = parse("{\"hidden_act\": \"relu\"}");
    assert_int_equal(cn_clip_config_read(ctx, json, &k), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "relu"));
    json_decref(json);
    json = parse("{\"model_type\": \"t5\"}");
    assert_int_equal(cn_clip_config_read(ctx, json, &k), CN_EFORMAT);
    json_decref(json);
    json = parse("{\"beta_schedule\": \"squaredcos_cap_v2\"}");
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "squaredcos_cap_v2"));
    json_decref(json);
    json = parse("{\"prediction_type\": \"sample\"}");
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_EFORMAT);
    json_decref(json);
    json = parse("{\"controlnet_conditioning_channel_order\": \"bgr\"}");
    assert_int_equal(cn_controlnet_config_read(ctx, json, &c), CN_EFORMAT);
    json_decref(json);
    json = parse("[]");
    assert_int_equal(cn_controlnet_config_read(ctx, json, &c), CN_EFORMAT);
    json_decref(json);
}

static void schedule_defaults_follow_the_class(void **state)
{
    (void)state;
    cn_schedule_config d;
    json_t *json =
        parse("{\"_class_name\": \"PNDMScheduler\", \"beta_schedule\": \"scaled_linear\","
              "\"beta_start\": 0.00085, \"beta_end\": 0.012, \"steps_offset\": 1}");
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_OK);
    assert_false(d.set_alpha_to_one);
    assert_false(d.clip_sample);
    assert_true(d.spacing == CN_SPACING_OWN && d.scaled_linear);
    assert_int_equal(d.steps_offset, 1);
    json_decref(json);
    json = parse("{\"_class_name\": \"DDIMScheduler\", \"prediction_type\": \"v_prediction\"}");
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_OK);
    assert_true(d.set_alpha_to_one && d.clip_sample && d.v_prediction);
    json_decref(json);
}

static cn_schedule_config schedule_of(const char *text)
{
    cn_schedule_config d;
    json_t *json = parse(text);
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_OK);
    json_decref(json);
    return d;
}

/* Only a spacing that its class hasn't by default was chosen. */
static void spacing_counts_where_it_was_chosen(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        cn_spacing spacing;
    } cases[] = {
        {"{\"_class_name\": \"DDIMScheduler\", \"timestep_spacing\": \"leading\"}", CN_SPACING_OWN},
        {"{\"_class_name\": \"DDIMScheduler\", \"timestep_spacing\": \"trailing\"}",
         CN_SPACING_TRAILING},
        {"{\"_class_name\": \"EulerDiscreteScheduler\", \"timestep_spacing\": \"linspace\"}",
         CN_SPACING_OWN},
        {"{\"_class_name\": \"EulerDiscreteScheduler\", \"timestep_spacing\": \"leading\"}",
         CN_SPACING_LEADING},
        {"{\"timestep_spacing\": \"linspace\"}", CN_SPACING_LINSPACE},
        {"{\"_class_name\": \"EulerDiscreteScheduler\"}", CN_SPACING_OWN},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++)
        assert_int_equal(schedule_of(cases[i].text).spacing, cases[i].spacing);
    cn_schedule_config d;
    json_t *json = parse("{\"timestep_spacing\": \"uneven\"}");
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "uneven"));
    json_decref(json);
}

static void solver_settings_are_read(void **state)
{
    (void)state;
    cn_schedule_config d = schedule_of("{\"_class_name\": \"DPMSolverMultistepScheduler\"}");
    assert_true(d.solver_order == 2 && !d.full_order_final && !d.euler_at_final && !d.heun_solver);
    assert_true(!d.sigma_schedule[0] && !d.ends_at_sigma_min && !d.zero_snr && d.lcm_steps == 50);
    d = schedule_of("{\"solver_order\": 3, \"solver_type\": \"heun\", \"lower_order_final\": false,"
                    "\"euler_at_final\": true, \"use_karras_sigmas\": true,"
                    "\"final_sigmas_type\": \"sigma_min\", \"rescale_betas_zero_snr\": true,"
                    "\"original_inference_steps\": 40, \"timestep_scaling\": 8}");
    assert_true(d.solver_order == 3 && d.full_order_final && d.euler_at_final && d.heun_solver);
    assert_string_equal(d.sigma_schedule, "karras");
    assert_true(d.ends_at_sigma_min && d.zero_snr);
    assert_true(d.lcm_steps == 40 && d.lcm_timestep_scaling == 8);
}

/* --- there and back --------------------------------------------------------------------------- */

static const cn_unet_config small = {.in_channels = 4,
                                     .out_channels = 4,
                                     .levels = 3,
                                     .channels = {32, 64, 128},
                                     .attention = {true, false, true},
                                     .heads = {2, 4, 8},
                                     .transformer_layers = {2, 1, 3},
                                     .layers_per_block = 1,
                                     .context_dim = 48,
                                     .linear_projection = true,
                                     .norm_groups = 16,
                                     .sample_size = 24,
                                     .added_dim = 240,
                                     .added_number_dim = 32};

static void assert_unet_equal(const cn_unet_config *a, const cn_unet_config *b)
{
    assert_int_equal(a->in_channels, b->in_channels);
    assert_int_equal(a->out_channels, b->out_channels);
    assert_int_equal(a->levels, b->levels);
    for (int i = 0; i < a->levels; i++) {
        assert_int_equal(a->channels[i], b->channels[i]);
        assert_int_equal(a->attention[i], b->attention[i]);
        assert_int_equal(a->heads[i], b->heads[i]);
        assert_int_equal(a->transformer_layers[i], b->transformer_layers[i]);
    }
    assert_int_equal(a->added_dim, b->added_dim);
    assert_int_equal(a->added_number_dim, b->added_number_dim);
    assert_int_equal(a->layers_per_block, b->layers_per_block);
    assert_int_equal(a->context_dim, b->context_dim);
    assert_int_equal(a->linear_projection, b->linear_projection);
    assert_int_equal(a->norm_groups, b->norm_groups);
}

static void written_configs_read_back(void **state)
{
    (void)state;
    cn_unet_config u;
    json_t *json = cn_unet_config_json(&small);
    assert_non_null(json);
    assert_int_equal(cn_unet_config_read(ctx, json, &u), CN_OK);
    assert_unet_equal(&u, &small);
    assert_int_equal(u.sample_size, 24);
    json_decref(json);

    cn_controlnet_config c = {.encoder = small,
                              .condition_channels = 3,
                              .hint_levels = 4,
                              .hint_channels = {16, 32, 96, 256}},
                         c2;
    json = cn_controlnet_config_json(&c);
    assert_non_null(json);
    assert_int_equal(cn_controlnet_config_read(ctx, json, &c2), CN_OK);
    assert_unet_equal(&c2.encoder, &small);
    assert_int_equal(c2.hint_levels, 4);
    assert_memory_equal(c2.hint_channels, c.hint_channels, 4 * sizeof(int64_t));
    json_decref(json);

    cn_vae_config v = {.image_channels = 3,
                       .latent_channels = 4,
                       .levels = 2,
                       .channels = {32, 64},
                       .layers_per_block = 2,
                       .norm_groups = 32,
                       .scaling_factor = 0.18215f},
                  v2;
    json = cn_vae_config_json(&v, 128);
    assert_non_null(json);
    assert_int_equal(cn_vae_config_read(ctx, json, &v2), CN_OK);
    assert_memory_equal(&v.channels, &v2.channels, sizeof v.channels);
    assert_true(v2.scaling_factor == v.scaling_factor && v2.layers_per_block == 2);
    json_decref(json);

    cn_clip_config k = {49408, 32, 64, 77, 3, 4, CN_ACT_GELU, 1e-5f, true, 48, false}, k2;
    json = cn_clip_config_json(&k);
    assert_non_null(json);
    assert_int_equal(cn_clip_config_read(ctx, json, &k2), CN_OK);
    assert_int_equal(k2.act, CN_ACT_GELU);
    assert_true(k2.open_clip);
    assert_int_equal(k2.hidden, 32);
    assert_int_equal(k2.heads, 4);
    assert_int_equal(k2.projection, 48);
    assert_true(k2.layer_norm_eps == k.layer_norm_eps);
    json_decref(json);

    cn_schedule_config d, d2;
    cn_schedule_config_default(&d);
    json = cn_schedule_config_json(&d);
    assert_non_null(json);
    assert_int_equal(cn_schedule_config_read(ctx, json, &d2), CN_OK);
    assert_true(d2.beta_start == d.beta_start && d2.beta_end == d.beta_end && d2.scaled_linear);
    assert_int_equal(d2.steps_offset, 1);
    assert_true(d2.spacing == CN_SPACING_OWN && !d2.set_alpha_to_one && !d2.clip_sample &&
                !d2.v_prediction);
    json_decref(json);
}

/* --- from shapes ------------------------------------------------------------------------------ */

typedef struct entry {
    const char *name;
    int ndim;
    int64_t shape[4];
} entry;

/* A file of zeros with these shapes, opened. */
static cn_tensors *make_file(const entry *list, size_t n)
{
    char path[] = "/tmp/cn-test-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    static const uint16_t zeros[1 << 16];
    cn_tensor_out out[64];
    assert_true(n <= CN_COUNT(out));
    for (size_t i = 0; i < n; i++) {
        out[i] = (cn_tensor_out){.name = list[i].name, .dtype = CN_F16, .ndim = list[i].ndim};
        memcpy(out[i].shape, list[i].shape, sizeof out[i].shape);
        out[i].raw = zeros;
    }
    cn_tensors *t = NULL;
    assert_int_equal(cn_safetensors_write(ctx, path, out, (int64_t)n, NULL, NULL, NULL), CN_OK);
    assert_int_equal(cn_tensors_open(ctx, path, &t), CN_OK);
    unlink(path);
    return t;
}

static void shapes_of_a_small_controlnet(void **state)
{
    (void)state;
    static const entry list[] = {
        {"input_blocks.0.0.weight", 4, {32, 4, 3, 3}},
        {"input_blocks.1.0.in_layers.2.weight", 4, {32, 32, 3, 3}},
        {"input_blocks.1.1.norm.weight", 1, {32}},
        {"input_blocks.2.0.op.weight", 4, {32, 32, 3, 3}},
        {"input_blocks.3.0.in_layers.2.weight", 4, {64, 32, 3, 3}},
        {"middle_block.1.proj_in.weight", 2, {64, 64}},
        {"middle_block.1.transformer_blocks.0.attn2.to_k.weight", 2, {64, 24}},
        {"input_hint_block.0.weight", 4, {8, 3, 3, 3}},
        {"input_hint_block.4.weight", 4, {12, 8, 3, 3}},
        {"input_hint_block.6.weight", 4, {32, 12, 3, 3}},
    };
    cn_controlnet_config c;
    cn_tensors *t = make_file(list, CN_COUNT(list));
    assert_int_equal(cn_controlnet_config_from_shapes(ctx, t, "", CN_LAYOUT_LDM, &c), CN_OK);
    assert_int_equal(c.encoder.levels, 2);
    assert_int_equal(c.encoder.layers_per_block, 1);
    assert_int_equal(c.encoder.channels[1], 64);
    assert_true(c.encoder.attention[0] && !c.encoder.attention[1]);
    assert_int_equal(c.encoder.context_dim, 24);
    assert_true(c.encoder.linear_projection);
    assert_int_equal(c.encoder.heads[1], 1);
    assert_int_equal(c.condition_channels, 3);
    assert_int_equal(c.hint_levels, 2);
    assert_int_equal(c.hint_channels[1], 12);
    cn_unet_config u;
    assert_int_equal(cn_unet_config_from_shapes(ctx, t, "", CN_LAYOUT_LDM, &u), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "out.2.weight"));
    cn_tensors_close(t);
}

static void shapes_that_are_refused(void **state)
{
    (void)state;
    static const entry video[] = {
        {"input_blocks.0.0.weight", 4, {32, 4, 3, 3}},
        {"input_blocks.1.1.time_pos_embed.0.weight", 2, {8, 8}},
    };
    static const entry flat[] = {{"input_blocks.0.0.weight", 1, {32}}};
    cn_unet_config u;
    cn_tensors *t = make_file(video, CN_COUNT(video));
    assert_int_equal(cn_unet_config_from_shapes(ctx, t, "", CN_LAYOUT_LDM, &u), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "video"));
    assert_int_equal(cn_unet_config_from_shapes(ctx, t, "p.", CN_LAYOUT_LDM, &u), CN_EFORMAT);
    cn_tensors_close(t);
    t = make_file(flat, CN_COUNT(flat));
    assert_int_equal(cn_unet_config_from_shapes(ctx, t, "", CN_LAYOUT_LDM, &u), CN_EFORMAT);
    cn_tensors_close(t);
}

static void heads_of_clip_follow_its_width(void **state)
{
    (void)state;
    entry list[] = {
        {"text_model.embeddings.token_embedding.weight", 2, {50, 32}},
        {"text_model.embeddings.position_embedding.weight", 2, {77, 32}},
        {"text_model.encoder.layers.0.mlp.fc1.weight", 2, {64, 32}},
        {"text_model.encoder.layers.1.mlp.fc1.weight", 2, {64, 32}},
    };
    cn_clip_config k;
    cn_tensors *t = make_file(list, CN_COUNT(list));
    assert_int_equal(cn_clip_config_from_shapes(ctx, t, "", &k), CN_OK);
    assert_int_equal(k.heads, 4);
    assert_int_equal(k.layers, 2);
    assert_int_equal(k.intermediate, 64);
    assert_int_equal(k.act, CN_ACT_QUICK_GELU);
    cn_tensors_close(t);
    list[0].shape[1] = 128;
    t = make_file(list, CN_COUNT(list));
    assert_int_equal(cn_clip_config_from_shapes(ctx, t, "", &k), CN_OK);
    assert_int_equal(k.heads, 2);
    cn_tensors_close(t);
}

/* --- the reference folder --------------------------------------------------------------------- */

static bool shared(char *out, size_t cap, const char *rest)
{
    const char *root = getenv("CN_SHARED");
    snprintf(out, cap, "%s/reference/pipelines/%s", root ? root : "../shared", rest);
    return access(out, R_OK) == 0;
}

static json_t *load_shared(const char *rest)
{
    char path[4096];
    json_t *json = NULL;
    assert_true(shared(path, sizeof path, rest));
    assert_int_equal(cn_json_load_file(ctx, path, &json), CN_OK);
    return json;
}

static cn_tensors *open_shared(const char *rest)
{
    char path[4096];
    cn_tensors *t = NULL;
    assert_true(shared(path, sizeof path, rest));
    assert_int_equal(cn_tensors_open(ctx, path, &t), CN_OK);
    return t;
}

static void published_files_agree(void **state)
{
    (void)state;
    char path[4096];
    if (!shared(path, sizeof path, "model.ckpt")) {
        print_message("skipped: %s is absent\n", path);
        skip();
    }
    cn_unet_config u, u2;
    cn_vae_config v, v2;
    cn_clip_config k, k2;
    cn_controlnet_config c, c2;
    cn_tensors *t = open_shared("model.ckpt");
    json_t *json = load_shared("model/unet/config.json");
    assert_int_equal(cn_unet_config_read(ctx, json, &u), CN_OK);
    assert_int_equal(
        cn_unet_config_from_shapes(ctx, t, "model.diffusion_model.", CN_LAYOUT_LDM, &u2), CN_OK);
    assert_unet_equal(&u, &u2);
    json_decref(json);
    json = load_shared("model/vae/config.json");
    assert_int_equal(cn_vae_config_read(ctx, json, &v), CN_OK);
    assert_int_equal(cn_vae_config_from_shapes(ctx, t, "first_stage_model.", CN_LAYOUT_LDM, &v2),
                     CN_OK);
    assert_int_equal(v.levels, v2.levels);
    assert_memory_equal(v.channels, v2.channels, sizeof v.channels);
    assert_int_equal(v.layers_per_block, v2.layers_per_block);
    assert_int_equal(v.latent_channels, v2.latent_channels);
    assert_true(v.scaling_factor == v2.scaling_factor);
    json_decref(json);
    json = load_shared("model/text_encoder/config.json");
    assert_int_equal(cn_clip_config_read(ctx, json, &k), CN_OK);
    assert_int_equal(cn_clip_config_from_shapes(ctx, t, "cond_stage_model.transformer.", &k2),
                     CN_OK);
    k2.projection = k.projection; /* not in this file, and not used */
    assert_memory_equal(&k, &k2, sizeof k);
    json_decref(json);
    cn_tensors_close(t);

    json = load_shared("controlnet_a/config.json");
    assert_int_equal(cn_controlnet_config_read(ctx, json, &c), CN_OK);
    json_decref(json);
    t = open_shared("controlnet_a/diffusion_pytorch_model.safetensors");
    assert_int_equal(cn_controlnet_config_from_shapes(ctx, t, "", CN_LAYOUT_DIFFUSERS, &c2), CN_OK);
    assert_unet_equal(&c.encoder, &c2.encoder);
    assert_memory_equal(c.hint_channels, c2.hint_channels, sizeof c.hint_channels);
    cn_tensors_close(t);
    t = open_shared("controlnet_b.pth");
    assert_int_equal(cn_controlnet_config_from_shapes(ctx, t, "control_model.", CN_LAYOUT_LDM, &c2),
                     CN_OK);
    assert_unet_equal(&c.encoder, &c2.encoder);
    assert_int_equal(c2.hint_levels, 4);
    cn_tensors_close(t);
    json = load_shared("model/scheduler/scheduler_config.json");
    cn_schedule_config d, d2;
    assert_int_equal(cn_schedule_config_read(ctx, json, &d), CN_OK);
    cn_schedule_config_default(&d2);
    assert_true(d.beta_start == d2.beta_start && d.beta_end == d2.beta_end);
    assert_true(d.steps_offset == d2.steps_offset && d.spacing == d2.spacing);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unet_defaults_are_stable_diffusion),
        cmocka_unit_test(heads_are_a_number_or_a_list),
        cmocka_unit_test(unsupported_features_are_named),
        cmocka_unit_test(other_networks_refuse_by_name),
        cmocka_unit_test(schedule_defaults_follow_the_class),
        cmocka_unit_test(spacing_counts_where_it_was_chosen),
        cmocka_unit_test(solver_settings_are_read),
        cmocka_unit_test(written_configs_read_back),
        cmocka_unit_test(shapes_of_a_small_controlnet),
        cmocka_unit_test(shapes_that_are_refused),
        cmocka_unit_test(heads_of_clip_follow_its_width),
        cmocka_unit_test(published_files_agree),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
