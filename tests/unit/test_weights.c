/* SPDX-License-Identifier: Apache-2.0 */
/* test_weights.c - networks of small widths through every published form and back, and what is
 * refused.
 *
 * The backend here keeps parameters in the published layout, so values compare exactly.
 */
#include "../support/tiny_base.h"

#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --- a backend of plain layouts --------------------------------------------------------------- */

static cn_status plain_in(cn_backend *b, cn_ctx *c, const cn_param *p, cn_dtype type,
                          const void *plain, cn_dtype dtype, void *physical)
{
    (void)b;
    (void)c;
    (void)dtype;
    cn_to_f32(type, plain, physical, (size_t)cn_param_elements(p));
    return CN_OK;
}

static cn_status plain_out(cn_backend *b, cn_ctx *c, const cn_param *p, cn_dtype dtype,
                           const void *physical, float *plain)
{
    return plain_in(b, c, p, CN_F32, physical, dtype, plain);
}

static void *plain_alloc(cn_backend *b, cn_ctx *c, size_t bytes)
{
    (void)b;
    return cn_alloc(c, bytes);
}

static void plain_free(cn_backend *b, void *at, size_t bytes)
{
    (void)b;
    (void)bytes;
    cn_free(at);
}

static cn_backend plain = {.name = "plain",
                           .addressable = true,
                           .alloc = plain_alloc,
                           .free = plain_free,
                           .from_plain = plain_in,
                           .to_plain = plain_out};

/* --- networks --------------------------------------------------------------------------------- */

static const cn_base widths = {
    .unet = {.in_channels = 4,
             .out_channels = 4,
             .levels = 2,
             .channels = {32, 64},
             .attention = {true, false},
             .heads = {8, 8},
             .transformer_layers = {1, 1},
             .layers_per_block = 1,
             .context_dim = 32,
             .norm_groups = 32,
             .sample_size = 16},
    .vae = {.image_channels = 3,
            .latent_channels = 4,
            .levels = 2,
            .channels = {32, 64},
            .layers_per_block = 1,
            .norm_groups = 32,
            .scaling_factor = 0.18215f},
    .text[0] = {.vocabulary = 60,
                .hidden = 32,
                .intermediate = 64,
                .max_positions = 12,
                .layers = 2,
                .heads = 4,
                .act = CN_ACT_QUICK_GELU,
                .layer_norm_eps = 1e-5f},
    .schedule = {.train_timesteps = 1000,
                 .beta_start = 0.00085,
                 .beta_end = 0.012,
                 .scaled_linear = true,
                 .steps_offset = 1,
                 .clip_range = 1,
                 .solver_order = 2,
                 .lcm_steps = 50,
                 .lcm_timestep_scaling = 10},
};

static cn_controlnet_config control_widths(void)
{
    return (cn_controlnet_config){.encoder = widths.unet,
                                  .condition_channels = 3,
                                  .hint_levels = 2,
                                  .hint_channels = {16, 24}};
}

static cn_ctx *ctx;
static char root[64];

/* One network's parameters, declared from these configurations. */
static cn_params *declare_as(cn_net net, const cn_base *b, const cn_controlnet_config *c)
{
    cn_params *p = NULL;
    const void *config = net == CN_NET_CONTROL ? c : cn_base_config_of(b, net);
    assert_int_equal(cn_net_declare(ctx, net, config, &p), CN_OK);
    assert_true(cn_params_count(p) > 10);
    return p;
}

static cn_params *declare(cn_net net)
{
    cn_controlnet_config c = control_widths();
    return declare_as(net, &widths, &c);
}

/* The same with values that tell the parameters apart. */
static cn_params *seeded(cn_net net)
{
    cn_params *p = declare(net);
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        float *v = cn_alloc_array(ctx, (size_t)cn_param_elements(q), sizeof *v);
        assert_non_null(v);
        cn_seed_tensor(q->diffusers_name, 0.1f, 0.7f, v, cn_param_elements(q));
        assert_int_equal(cn_param_set(&plain, ctx, q, v), CN_OK);
        cn_free(v);
    }
    return p;
}

/* got == want after want went through dtype. */
static void assert_params_equal(const cn_params *got, const cn_params *want, cn_dtype dtype)
{
    assert_int_equal(cn_params_count(got), cn_params_count(want));
    for (int64_t i = 0; i < cn_params_count(want); i++) {
        const cn_param *a = cn_params_at(got, i), *b = cn_params_at(want, i);
        size_t n = (size_t)cn_param_elements(b);
        float *rounded = cn_alloc_array(ctx, n, sizeof *rounded);
        void *low = cn_alloc_array(ctx, n, sizeof(float));
        assert_non_null(rounded);
        assert_non_null(low);
        assert_true(a->loaded);
        assert_string_equal(a->diffusers_name, b->diffusers_name);
        cn_from_f32(dtype, b->data, low, n);
        cn_to_f32(dtype, low, rounded, n);
        if (memcmp(a->data, rounded, n * sizeof *rounded)) fail_msg("%s differs", b->ldm_name);
        cn_free(rounded);
        cn_free(low);
    }
}

static const char *at(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, 256, "%s/%s", root, name);
    return p;
}

/* --- writing test files ----------------------------------------------------------------------- */

typedef struct out_list {
    cn_tensor_out t[2048];
    char names[2048][256];
    int64_t n;
} out_list;

static out_list list;

static void put(const char *prefix, const char *name, const cn_param *q)
{
    cn_tensor_out *t = &list.t[list.n];
    snprintf(list.names[list.n], sizeof list.names[0], "%s%s", prefix, name);
    *t = (cn_tensor_out){.name = list.names[list.n], .dtype = CN_F32, .ndim = q->ndim};
    memcpy(t->shape, q->shape, sizeof t->shape);
    t->data = q->data;
    list.n++;
}

static void put_all(const char *prefix, const cn_params *p, bool ldm)
{
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        put(prefix, ldm ? q->ldm_name : q->diffusers_name, q);
    }
}

static void put_named(const char *name)
{
    static const float zero[4];
    list.t[list.n] = (cn_tensor_out){.dtype = CN_F32, .ndim = 1, .shape = {4}, .data = zero};
    snprintf(list.names[list.n], sizeof list.names[0], "%s", name);
    list.t[list.n].name = list.names[list.n];
    list.n++;
}

static void write_list(const char *path)
{
    assert_int_equal(cn_safetensors_write(ctx, path, list.t, list.n, NULL, NULL, NULL), CN_OK);
    list.n = 0;
}

/* --- base ------------------------------------------------------------------------------------- */

static void save_base(const char *dir, cn_dtype dtype)
{
    cn_params *p[3];
    for (int i = 0; i < 3; i++) p[i] = seeded(cn_family_sd1.nets[i].net);
    assert_int_equal(cn_base_save_folder(ctx, &plain, &widths, (const cn_params *const *)p, 3,
                                         &(cn_base_target){.path = dir, .dtype = dtype}),
                     CN_OK);
    for (int i = 0; i < 3; i++) cn_params_destroy(p[i]);
}

/* path opens as a base of these widths and holds the seeded values, rounded to dtype. */
static void check_base(const char *path, bool single, cn_dtype dtype)
{
    cn_base *b = NULL;
    cn_status s = cn_base_open(ctx, path, &b);
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(b->single_file, single);
    assert_ptr_equal(cn_family_of(b), &cn_family_sd1);
    if (single) assert_ptr_equal(cn_family_in_file(b->file, CN_NETS), &cn_family_sd1);
    assert_int_equal(b->unet.levels, 2);
    assert_int_equal(b->unet.channels[1], 64);
    assert_true(b->unet.attention[0] && !b->unet.attention[1]);
    assert_int_equal(b->unet.heads[0], 8);
    assert_int_equal(b->text[0].heads, 4);
    assert_int_equal(b->text[0].layers, 2);
    assert_int_equal(b->vae.layers_per_block, 1);
    assert_true(b->schedule.beta_end == 0.012 && b->schedule.scaled_linear);
    for (int i = 0; i < 3; i++) {
        cn_params *want = seeded(cn_family_sd1.nets[i].net),
                  *got = declare_as(cn_family_sd1.nets[i].net, b, NULL);
        s = cn_base_load(ctx, b, &plain, got);
        if (s != CN_OK) fail_msg("%s", cn_error(ctx));
        assert_params_equal(got, want, dtype);
        cn_params_destroy(got);
        cn_params_destroy(want);
    }
    cn_base_close(b);
}

static void base_folder_comes_back(void **state)
{
    (void)state;
    save_base(at("base"), CN_F32);
    check_base(at("base/"), false, CN_F32);
    save_base(at("base16"), CN_F16);
    check_base(at("base16"), false, CN_F16);
    save_base(at("baseb"), CN_BF16);
    check_base(at("baseb"), false, CN_BF16);
    assert_true(cn_file_exists(at("base/model_index.json")));
}

static cn_status convert(const char *in, const char *out, bool single, cn_dtype dtype)
{
    return cn_weights_convert(
        ctx, NULL, &(cn_convert_job){.in = in, .out = out, .single = single, .dtype = dtype});
}

static void base_converts_both_ways(void **state)
{
    (void)state;
    assert_int_equal(convert(at("base"), at("one.safetensors"), true, CN_F32), CN_OK);
    check_base(at("one.safetensors"), true, CN_F32);
    assert_int_equal(convert(at("one.safetensors"), at("two"), false, CN_F16), CN_OK);
    check_base(at("two"), false, CN_F16);
    assert_int_equal(convert(at("two"), at("three.ckpt"), true, CN_BF16), CN_OK);
    cn_tensors *t = NULL;
    assert_int_equal(cn_tensors_open(ctx, at("one.safetensors"), &t), CN_OK);
    const cn_tensor_info *q = cn_tensors_find(t, "first_stage_model.encoder.mid.attn_1.q.weight");
    assert_non_null(q);
    assert_int_equal(q->ndim, 4);
    assert_string_equal(cn_tensors_metadata(t, "format"), "pt");
    assert_non_null(
        cn_tensors_find(t, "cond_stage_model.transformer.text_model.final_layer_norm.weight"));
    assert_non_null(cn_tensors_find(t, "model.diffusion_model.output_blocks.0.0.in_layers.0.bias"));
    cn_tensors_close(t);
    assert_int_equal(convert(at("base"), at("two"), true, CN_F32), CN_EINVAL);
    assert_int_equal(convert(at("base"), at("x"), true, CN_I32), CN_EINVAL);
    assert_int_equal(convert(at("base"), at("one.safetensors"), false, CN_F32), CN_EINVAL);
}

/* Everything that shapes don't tell. */
static void set_unusual(cn_base *b)
{
    *b = widths;
    b->unet.heads[0] = b->unet.heads[1] = 4;
    b->unet.norm_groups = 16;
    b->vae.norm_groups = 8;
    b->vae.scaling_factor = 0.5f;
    b->text[0].heads = 2;
    b->schedule.beta_end = 0.02;
    b->schedule.scaled_linear = false;
    b->schedule.v_prediction = b->schedule.zero_snr = true;
}

static bool same_text(const char *dir_a, const char *dir_b, const char *name)
{
    char path[2][4096], *text[2];
    size_t n[2];
    for (int k = 0; k < 2; k++) {
        snprintf(path[k], sizeof path[k], "%s/%s", k ? dir_b : dir_a, name);
        assert_int_equal(cn_file_read(ctx, path[k], 1 << 20, &text[k], &n[k]), CN_OK);
    }
    const bool same = n[0] == n[1] && memcmp(text[0], text[1], n[0]) == 0;
    cn_free(text[0]);
    cn_free(text[1]);
    return same;
}

/* Writes a file again with other metadata; NULL: none. */
static void rewrite(const char *from, const char *to, const char *const *metadata)
{
    cn_tensors *t = NULL;
    assert_int_equal(cn_tensors_open(ctx, from, &t), CN_OK);
    const int64_t n = cn_tensors_count(t);
    cn_tensor_out *out = calloc((size_t)n, sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i);
        out[i] = (cn_tensor_out){.name = a->name, .dtype = a->dtype, .ndim = a->ndim};
        memcpy(out[i].shape, a->shape, sizeof a->shape);
        out[i].raw = a->data;
    }
    assert_int_equal(cn_safetensors_write(ctx, to, out, n, NULL, NULL, metadata), CN_OK);
    free(out);
    cn_tensors_close(t);
}

static void single_files_say_how_they_are_made(void **state)
{
    (void)state;
    static const char *const files[] = {"unet/config.json", "vae/config.json",
                                        "text_encoder/config.json",
                                        "scheduler/scheduler_config.json"};
    cn_base unusual, *b = NULL;
    cn_params *p[3];
    set_unusual(&unusual);
    for (int i = 0; i < 3; i++) p[i] = seeded(cn_family_sd1.nets[i].net);
    assert_int_equal(cn_base_save_folder(ctx, &plain, &unusual, (const cn_params *const *)p, 3,
                                         &(cn_base_target){.path = at("odd"), .dtype = CN_F32}),
                     CN_OK);
    for (int i = 0; i < 3; i++) cn_params_destroy(p[i]);
    assert_int_equal(convert(at("odd"), at("odd.safetensors"), true, CN_F32), CN_OK);
    assert_int_equal(convert(at("odd.safetensors"), at("odd2"), false, CN_F32), CN_OK);
    for (size_t i = 0; i < CN_COUNT(files); i++)
        if (!same_text(at("odd"), at("odd2"), files[i])) fail_msg("%s differs", files[i]);
    assert_int_equal(cn_base_open(ctx, at("odd.safetensors"), &b), CN_OK);
    assert_true(b->unet.heads[0] == 4 && b->unet.norm_groups == 16 && b->text[0].heads == 2);
    assert_true(b->schedule.v_prediction && b->schedule.zero_snr && !b->prediction_unknown);
    cn_base_close(b);
    /* without the metadata shapes and marks are what is left */
    rewrite(at("odd.safetensors"), at("mute.safetensors"), NULL);
    assert_int_equal(cn_base_open(ctx, at("mute.safetensors"), &b), CN_OK);
    assert_true(b->unet.heads[0] == 8 && b->unet.norm_groups == 32);
    assert_true(b->schedule.v_prediction && b->schedule.zero_snr && b->schedule.scaled_linear);
    cn_base_close(b);
}

/* What a file says of itself is as little to be trusted as the rest of it. */
static void wrong_words_in_a_file_are_named(void **state)
{
    (void)state;
    static const char *const words[] = {
        "{\"unet\"", "[]", "{\"unet\": 3}", "{\"unet\": {\"norm_num_groups\": -1}}",
        "{\"unet\": {\"block_out_channels\": [32, 64], \"attention_head_dim\": 5}}"};
    cn_base *b = NULL;
    for (size_t i = 0; i < CN_COUNT(words); i++) {
        const char *const metadata[] = {CN_META_CONFIG, words[i], NULL};
        rewrite(at("odd.safetensors"), at("wrong.safetensors"), metadata);
        assert_int_equal(cn_base_open(ctx, at("wrong.safetensors"), &b), CN_EFORMAT);
        assert_non_null(strstr(cn_error(ctx), "wrong.safetensors"));
        assert_non_null(strstr(cn_error(ctx), CN_META_CONFIG));
    }
    assert_null(b);
}

static void renamed(const char *from, const char *to, char *name)
{
    char copy[256];
    char *hit = strstr(name, from);
    if (!hit) return;
    snprintf(copy, sizeof copy, "%.*s%s%s", (int)(hit - name), name, to, hit + strlen(from));
    memcpy(name, copy, sizeof copy);
}

static void old_and_new_names_are_read(void **state)
{
    (void)state;
    save_base(at("names"), CN_F32);
    cn_params *vae = seeded(CN_NET_VAE), *text = seeded(CN_NET_TEXT);
    put_all("", vae, false);
    for (int64_t i = 0; i < list.n; i++) {
        renamed(".to_q.", ".query.", list.names[i]);
        renamed(".to_k.", ".key.", list.names[i]);
        renamed(".to_v.", ".value.", list.names[i]);
        renamed(".to_out.0.", ".proj_attn.", list.names[i]);
    }
    write_list(at("names/vae/diffusion_pytorch_model.safetensors"));
    put_all("", text, false);
    for (int64_t i = 0; i < list.n; i++) renamed("text_model.", "", list.names[i]);
    assert_null(strstr(list.names[0], "text_model."));
    write_list(at("names/text_encoder/model.safetensors"));
    check_base(at("names"), false, CN_F32);
    assert_int_equal(rename(at("names/vae/diffusion_pytorch_model.safetensors"),
                            at("names/vae/diffusion_pytorch_model.fp16.safetensors")),
                     0);
    check_base(at("names"), false, CN_F32);
    cn_params_destroy(vae);
    cn_params_destroy(text);
}

static void tokenizer_is_copied_or_asked_for(void **state)
{
    (void)state;
    cn_base *b = NULL;
    cn_tokenizer *t = NULL;
    assert_int_equal(cn_base_open(ctx, at("base"), &b), CN_OK);
    assert_int_equal(cn_base_tokenizer(ctx, b, 0, NULL, &t), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "--tokenizer"));
    assert_int_equal(cn_dir_make(ctx, at("tok")), CN_OK);
    assert_int_equal(cn_tokenizer_copy(ctx, at("tok"), at("base"), "tokenizer", 77), CN_EINVAL);
    assert_int_equal(cn_file_write(ctx, at("tok/vocab.json"), "{}", 2), CN_OK);
    assert_int_equal(cn_file_write(ctx, at("tok/merges.txt"), "#\n", 2), CN_OK);
    const cn_base_target with_tokenizer = {
        .path = at("base"), .dtype = CN_F32, .tokenizer_dir = at("tok")};
    assert_int_equal(cn_base_save_folder(ctx, &plain, b, NULL, 0, &with_tokenizer), CN_OK);
    assert_true(cn_file_exists(at("base/tokenizer/vocab.json")));
    assert_true(cn_file_exists(at("base/tokenizer/tokenizer_config.json")));
    json_t *index = NULL;
    assert_int_equal(cn_json_load_file(ctx, at("base/model_index.json"), &index), CN_OK);
    assert_non_null(json_object_get(index, "tokenizer"));
    assert_non_null(json_object_get(index, "unet"));
    json_decref(index);
    cn_base_close(b);
}

/* --- ControlNet ------------------------------------------------------------------------------- */

static void check_control(const char *path, int form, cn_dtype dtype)
{
    cn_control_file *c = NULL;
    cn_status s = cn_control_open(ctx, path, &c);
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(c->form, form);
    assert_int_equal(c->config.encoder.levels, 2);
    assert_int_equal(c->config.encoder.heads[1], 8);
    assert_int_equal(c->config.hint_levels, 2);
    assert_int_equal(c->config.hint_channels[1], 24);
    assert_int_equal(cn_control_fits(ctx, &c->config, &widths.unet), CN_OK);
    cn_params *want = seeded(CN_NET_CONTROL),
              *got = declare_as(CN_NET_CONTROL, &widths, &c->config);
    s = cn_control_load(ctx, c, &plain, got);
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_params_equal(got, want, dtype);
    cn_params_destroy(got);
    cn_params_destroy(want);
    cn_control_close(c);
}

static void control_comes_back_in_every_form(void **state)
{
    (void)state;
    cn_controlnet_config c = control_widths();
    cn_params *p = seeded(CN_NET_CONTROL), *unet = seeded(CN_NET_UNET);
    assert_int_equal(cn_control_save_folder(ctx, &plain, &c, p, CN_F32, at("cn"), NULL), CN_OK);
    check_control(at("cn"), CN_CONTROL_DIFFUSERS, CN_F32);
    check_control(at("cn/diffusion_pytorch_model.safetensors"), CN_CONTROL_DIFFUSERS, CN_F32);
    assert_int_equal(cn_control_save_single(ctx, &plain, &c, p, CN_F16, at("cn.pth"), NULL), CN_OK);
    check_control(at("cn.pth"), CN_CONTROL_PREFIXED, CN_F16);
    put_all("", p, true);
    write_list(at("bare.safetensors"));
    check_control(at("bare.safetensors"), CN_CONTROL_ONLY, CN_F32);
    put_all("", p, false);
    write_list(at("lone.safetensors"));
    check_control(at("lone.safetensors"), CN_CONTROL_DIFFUSERS, CN_F32);
    put_all("control_model.", p, true);
    put_all("model.diffusion_model.", unet, true);
    write_list(at("whole.safetensors"));
    check_control(at("whole.safetensors"), CN_CONTROL_WHOLE, CN_F32);
    assert_int_equal(convert(at("whole.safetensors"), at("cn2"), false, CN_BF16), CN_OK);
    check_control(at("cn2"), CN_CONTROL_DIFFUSERS, CN_BF16);
    assert_int_equal(convert(at("cn"), at("cn3.pth"), true, CN_F32), CN_OK);
    check_control(at("cn3.pth"), CN_CONTROL_PREFIXED, CN_F32);
    cn_control_file *file = NULL;
    c.encoder.heads[0] = c.encoder.heads[1] = 4;
    c.encoder.norm_groups = 16;
    assert_int_equal(cn_control_save_folder(ctx, &plain, &c, p, CN_F32, at("cn4"), NULL), CN_OK);
    assert_int_equal(convert(at("cn4"), at("cn4.pth"), true, CN_F32), CN_OK);
    assert_int_equal(convert(at("cn4.pth"), at("cn5"), false, CN_F32), CN_OK);
    assert_true(same_text(at("cn4"), at("cn5"), "config.json"));
    rewrite(at("cn4.pth"), at("cn6.pth"), NULL);
    assert_int_equal(cn_control_open(ctx, at("cn6.pth"), &file), CN_OK);
    assert_true(file->guessed && file->config.encoder.heads[0] == 8);
    assert_int_equal(cn_control_join(ctx, file, &(cn_base){.unet = c.encoder}), CN_OK);
    assert_true(file->config.encoder.heads[0] == 4 && file->config.encoder.norm_groups == 16);
    cn_control_close(file);
    cn_params_destroy(p);
    cn_params_destroy(unet);
}

static void control_must_fit_its_base(void **state)
{
    (void)state;
    cn_controlnet_config c = control_widths();
    c.encoder.context_dim = 1024;
    assert_int_equal(cn_control_fits(ctx, &c, &widths.unet), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(ctx), "1024"));
    c = control_widths();
    c.encoder.channels[1] = 96;
    assert_int_equal(cn_control_fits(ctx, &c, &widths.unet), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(ctx), "96"));
    c = control_widths();
    c.encoder.in_channels = 7;
    assert_int_equal(cn_control_fits(ctx, &c, &widths.unet), CN_EMISMATCH);
    cn_unet_config inpaint = widths.unet;
    inpaint.in_channels = 9;
    c = control_widths();
    assert_int_equal(cn_control_fits(ctx, &c, &inpaint), CN_OK);
}

/* --- what is refused -------------------------------------------------------------------------- */

static void expect_refusal(cn_status s, const char *one, const char *two)
{
    assert_int_equal(s, CN_EMISMATCH);
    if (!strstr(cn_error(ctx), one) || !strstr(cn_error(ctx), two) || strchr(cn_error(ctx), '\n'))
        fail_msg("\"%s\" and \"%s\" are expected in: %s", one, two, cn_error(ctx));
}

static void wrong_files_say_what_they_are(void **state)
{
    (void)state;
    cn_base *b = NULL;
    cn_control_file *c = NULL;
    expect_refusal(cn_base_open(ctx, at("cn.pth"), &b), "cn.pth", "holds a ControlNet");
    expect_refusal(cn_base_open(ctx, at("bare.safetensors"), &b), "bare", "holds a ControlNet");
    expect_refusal(cn_base_open(ctx, at("cn"), &b), "/cn", "ControlNetModel");
    expect_refusal(cn_control_open(ctx, at("base"), &c), "/base", "base model");
    expect_refusal(cn_control_open(ctx, at("one.safetensors"), &c), "one", "base model");
    expect_refusal(cn_base_open(ctx, at("base/vae/diffusion_pytorch_model.safetensors"), &b), "vae",
                   "a VAE alone");
    expect_refusal(cn_base_open(ctx, at("base/vae"), &b), "vae", "AutoencoderKL");
    expect_refusal(cn_control_open(ctx, at("base/unet"), &c), "unet", "UNet2DConditionModel");
    expect_refusal(cn_base_open(ctx, at("base/text_encoder/model.safetensors"), &b), "text_encoder",
                   "CLIP text encoder");
    put_named("lora_unet_down_blocks_0.lora_down.weight");
    write_list(at("lora.safetensors"));
    expect_refusal(cn_base_open(ctx, at("lora.safetensors"), &b), "lora", "holds a LoRA");
    expect_refusal(cn_control_open(ctx, at("lora.safetensors"), &c), "lora", "holds a LoRA");
    expect_refusal(convert(at("lora.safetensors"), at("l"), false, CN_F32), "lora", "holds a LoRA");
    put_named("fc.weight");
    write_list(at("else.safetensors"));
    expect_refusal(cn_base_open(ctx, at("else.safetensors"), &b), "fc.weight", "no known layout");
    expect_refusal(cn_control_open(ctx, at("else.safetensors"), &c), "fc.weight",
                   "no known layout");
    expect_refusal(cn_base_open(ctx, at("whole.safetensors"), &b), "whole", "no VAE");
    assert_int_equal(cn_base_open(ctx, at("absent"), &b), CN_EIO);
    assert_int_equal(cn_base_open(ctx, root, &b), CN_EFORMAT);
    assert_int_equal(cn_control_open(ctx, root, &c), CN_EFORMAT);
    assert_null(b);
    assert_null(c);
}

static void missing_tensors_are_named(void **state)
{
    (void)state;
    cn_params *p = seeded(CN_NET_CONTROL), *got = declare(CN_NET_CONTROL);
    cn_control_file *c = NULL;
    int64_t left_out = 0, first = -1;
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        bool out = strstr(q->ldm_name, "zero_convs.") != NULL;
        if (out && first < 0) first = i;
        left_out += out;
        if (!out) put("", q->ldm_name, q);
    }
    assert_true(left_out > 3);
    write_list(at("holes.safetensors"));
    assert_int_equal(cn_control_open(ctx, at("holes.safetensors"), &c), CN_OK);
    char want[128];
    snprintf(want, sizeof want, "controlnet: %d tensors missing from ", (int)left_out);
    expect_refusal(cn_control_load(ctx, c, &plain, got), want, cn_params_at(p, first)->ldm_name);
    snprintf(want, sizeof want, " and %d more", (int)left_out - 3);
    assert_non_null(strstr(cn_error(ctx), want));
    cn_control_close(c);

    put_all("", p, true);
    for (int64_t i = 0; i < list.n; i++)
        if (!strcmp(list.names[i], "middle_block_out.0.weight")) list.t[i].shape[0] = 32;
    write_list(at("bent.safetensors"));
    assert_int_equal(cn_control_open(ctx, at("bent.safetensors"), &c), CN_OK);
    expect_refusal(cn_control_load(ctx, c, &plain, got), "1 tensor of another shape in",
                   "middle_block_out.0.weight [32,64,1,1] instead of [64,64,1,1]");
    cn_control_close(c);
    cn_params_destroy(p);
    cn_params_destroy(got);
}

static void failed_allocations_leave_nothing(void **state)
{
    (void)state;
    cn_status s = CN_ENOMEM;
    for (int64_t n = 0; n < 2000 && s != CN_OK; n += n < 60 ? 1 : 97) {
        cn_base *b = NULL;
        cn_ctx_fail_alloc_after(ctx, n);
        s = cn_base_open(ctx, at("one.safetensors"), &b);
        cn_ctx_fail_alloc_after(ctx, -1);
        if (s == CN_OK)
            cn_base_close(b);
        else
            assert_int_equal(s, CN_ENOMEM);
    }
    assert_int_equal(s, CN_OK);
}

/* --- starting --------------------------------------------------------------------------------- */

static void control_starts_as_the_unets_copy(void **state)
{
    (void)state;
    cn_params *unet = seeded(CN_NET_UNET), *p = declare(CN_NET_CONTROL),
              *again = declare(CN_NET_CONTROL);
    assert_int_equal(cn_control_init_from_unet(ctx, &plain, unet, p, 7), CN_OK);
    assert_int_equal(cn_control_init_from_unet(ctx, &plain, unet, again, 7), CN_OK);
    assert_params_equal(again, p, CN_F32);
    int copied = 0, zero = 0, drawn = 0;
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        const cn_param *from = cn_params_find(unet, q->ldm_name);
        size_t bytes = (size_t)cn_param_elements(q) * sizeof(float);
        if (from) {
            assert_memory_equal(q->data, from->data, bytes);
            copied++;
            continue;
        }
        bool hint = !strncmp(q->diffusers_name, "controlnet_cond_embedding.", 26);
        bool weight = hint && q->ndim == 4 && !strstr(q->diffusers_name, "conv_out");
        double square = 0;
        const float *w = q->data;
        for (int64_t k = 0; k < cn_param_elements(q); k++) square += (double)w[k] * (double)w[k];
        bool all_zero = square == 0;
        assert_int_equal(all_zero, !weight);
        if (weight && cn_param_elements(q) > 2000) { /* deviation sqrt(2 / fan_in) */
            double part = square / (double)cn_param_elements(q) * (double)q->fan_in / 2;
            assert_true(part > 0.85 && part < 1.15); /* 4 standard errors of a variance from 2000 */
        }
        if (all_zero)
            zero++;
        else
            drawn++;
    }
    assert_true(copied > 20 && zero > 4 && drawn > 2);
    assert_int_equal(cn_control_init_from_unet(ctx, &plain, unet, again, 8), CN_OK);
    const char *hint = "controlnet_cond_embedding.conv_in.weight";
    assert_memory_not_equal(cn_params_find(again, hint)->data, cn_params_find(p, hint)->data, 64);
    cn_params *empty = declare(CN_NET_UNET);
    assert_int_equal(cn_control_init_from_unet(ctx, &plain, empty, p, 7), CN_EMISMATCH);
    cn_params_destroy(empty);
    cn_params_destroy(unet);
    cn_params_destroy(p);
    cn_params_destroy(again);
}

static void control_starts_from_the_file_whatever_the_unets_storage(void **state)
{
    (void)state;
    static const char *const paths[] = {"one.safetensors", "base"};
    for (size_t k = 0; k < CN_COUNT(paths); k++) {
        cn_base *b = NULL;
        cn_dtype stored = CN_I32;
        cn_params *unet = declare(CN_NET_UNET), *p = declare(CN_NET_CONTROL),
                  *q = declare(CN_NET_CONTROL);
        assert_int_equal(cn_base_open(ctx, at(paths[k]), &b), CN_OK);
        assert_int_equal(cn_base_load(ctx, b, &plain, unet), CN_OK);
        assert_int_equal(cn_control_init_from_unet(ctx, &plain, unet, p, 7), CN_OK);
        assert_int_equal(cn_control_init_from_base(ctx, &plain, b, q, 7), CN_OK);
        assert_params_equal(q, p, CN_F32);
        assert_int_equal(cn_base_dtype(ctx, b, CN_NET_UNET, &stored), CN_OK);
        assert_int_equal(stored, CN_F32);
        cn_base_close(b);
        cn_params_destroy(unet);
        cn_params_destroy(p);
        cn_params_destroy(q);
    }
}

static void scratch_values_follow_their_rules(void **state)
{
    (void)state;
    cn_params *p = declare(CN_NET_TEXT);
    assert_int_equal(cn_params_init(ctx, &plain, p, 3), CN_OK);
    double worst = 0;
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        double bound = 1 / sqrt((double)CN_MAX(q->fan_in, 1)), sum = 0, most = 0;
        const float *w = q->data;
        for (int64_t k = 0; k < cn_param_elements(q); k++) {
            most = CN_MAX(most, fabs((double)w[k]));
            sum += (double)w[k] * (double)w[k];
        }
        double rms = sqrt(sum / (double)cn_param_elements(q));
        if (q->init == CN_INIT_FAN_IN) {
            assert_true(most <= bound * 1.000001);
            if (cn_param_elements(q) > 500) worst = CN_MAX(worst, fabs(rms / bound - 0.57735));
        } else if (q->init == CN_INIT_NORMAL) {
            assert_true(fabs(rms - 0.02) < 0.002);
        } else {
            assert_true(most == (q->init == CN_INIT_ONE ? 1.0 : 0.0));
        }
    }
    assert_true(worst < 0.03); /* a uniform's deviation is bound / sqrt(3) */
    cn_params_destroy(p);
}

/* --- inspect ---------------------------------------------------------------------------------- */

static void inspect_counts(void **state)
{
    (void)state;
    cn_str s = {0};
    assert_int_equal(cn_weights_inspect(ctx, at("one.safetensors"), false, &s), CN_OK);
    assert_non_null(strstr(s.data, "Stable Diffusion base model (single file), safetensors"));
    assert_non_null(strstr(s.data, "widths 32 64"));
    cn_str_free(&s);
    s = (cn_str){0};
    assert_int_equal(cn_weights_inspect(ctx, at("base16"), true, &s), CN_OK);
    json_t *o = json_loads(s.data, 0, NULL);
    assert_non_null(o);
    assert_int_equal(json_array_size(json_object_get(o, "networks")), 3);
    const json_t *unet = json_array_get(json_object_get(o, "networks"), 0);
    assert_string_equal(cn_json_str(unet, "name", ""), "unet");
    assert_int_equal(cn_json_int(unet, "bytes", 0), 2 * cn_json_int(unet, "parameters", -1));
    cn_params *p = declare(CN_NET_UNET);
    assert_int_equal(cn_json_int(unet, "tensors", 0), cn_params_count(p));
    cn_params_destroy(p);
    json_decref(o);
    cn_str_free(&s);
    static const char *const others[] = {
        "cn",       "cn.pth",          "bare.safetensors", "lora.safetensors", "whole.safetensors",
        "base/vae", "else.safetensors"};
    for (size_t i = 0; i < CN_COUNT(others); i++) {
        s = (cn_str){0};
        assert_int_equal(cn_weights_inspect(ctx, at(others[i]), false, &s), CN_OK);
        assert_non_null(strstr(s.data, "total"));
        cn_str_free(&s);
    }
    assert_int_equal(cn_weights_inspect(ctx, at("absent"), false, &s), CN_EIO);
}

/* --- the reference model ---------------------------------------------------------------------- */

static bool shared(char *out, size_t cap, const char *rest)
{
    const char *folder = getenv("CN_SHARED");
    snprintf(out, cap, "%s/reference/pipelines/%s", folder ? folder : "../shared", rest);
    return access(out, R_OK) == 0;
}

static void reference_folder_equals_its_single_file(void **state)
{
    (void)state;
    char folder[4096], file[4096], path[4096];
    if (!shared(file, sizeof file, "model.ckpt") || !shared(folder, sizeof folder, "model")) {
        print_message("skipped: %s is absent\n", file);
        skip();
    }
    cn_base *a = NULL, *b = NULL;
    assert_int_equal(cn_base_open(ctx, folder, &a), CN_OK);
    assert_int_equal(cn_base_open(ctx, file, &b), CN_OK);
    for (int i = 0; i < 3; i++) {
        cn_params *p = declare_as(cn_family_sd1.nets[i].net, a, NULL),
                  *q = declare_as(cn_family_sd1.nets[i].net, b, NULL);
        assert_int_equal(cn_base_load(ctx, a, &plain, p), CN_OK);
        assert_int_equal(cn_base_load(ctx, b, &plain, q), CN_OK);
        assert_params_equal(p, q, CN_F32);
        cn_params_destroy(p);
        cn_params_destroy(q);
    }
    static const char *const controls[] = {"controlnet_a", "controlnet_b.pth"};
    for (size_t i = 0; i < CN_COUNT(controls); i++) {
        cn_control_file *c = NULL;
        assert_true(shared(path, sizeof path, controls[i]));
        assert_int_equal(cn_control_open(ctx, path, &c), CN_OK);
        assert_int_equal(cn_control_fits(ctx, &c->config, &a->unet), CN_OK);
        cn_params *p = declare_as(CN_NET_CONTROL, a, &c->config);
        assert_int_equal(cn_control_load(ctx, c, &plain, p), CN_OK);
        cn_params_destroy(p);
        cn_control_close(c);
    }
    cn_base_close(a);
    cn_base_close(b);
}

/* --- frame ------------------------------------------------------------------------------------ */

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/cn-test-weights-XXXXXX");
    if (!mkdtemp(root)) return -1;
    ctx = cn_ctx_create(1);
    return ctx ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    tiny_dir_remove(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base_folder_comes_back),
        cmocka_unit_test(base_converts_both_ways),
        cmocka_unit_test(single_files_say_how_they_are_made),
        cmocka_unit_test(wrong_words_in_a_file_are_named),
        cmocka_unit_test(old_and_new_names_are_read),
        cmocka_unit_test(control_comes_back_in_every_form),
        cmocka_unit_test(control_must_fit_its_base),
        cmocka_unit_test(wrong_files_say_what_they_are),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(failed_allocations_leave_nothing),
        cmocka_unit_test(control_starts_as_the_unets_copy),
        cmocka_unit_test(control_starts_from_the_file_whatever_the_unets_storage),
        cmocka_unit_test(scratch_values_follow_their_rules),
        cmocka_unit_test(inspect_counts),
        cmocka_unit_test(tokenizer_is_copied_or_asked_for),
        cmocka_unit_test(reference_folder_equals_its_single_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
