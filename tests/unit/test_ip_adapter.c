/* SPDX-License-Identifier: Apache-2.0 */
/* test_ip_adapter.c - CLIP's image encoder and IP-Adapters against transformers' and diffusers'
 * values (tools/make-ip-adapter-fixtures.py); what they are told apart and refused by; guidance's
 * halves as one batch and in turn. What is drawn with them is tested in e2e.
 */
#include "../support/fixture.h"
#include "../support/golden_sdxl.h"
#include "../support/tiny_base.h"
#include "../support/unit/unit_env.h"
#include "../support/values.h"

#include "diffuse/sampling.h"
#include "image/resize.h"
#include "model/checkpoint/vision_file.h"
#include "model/checkpoint/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIR "tests/golden/ip_adapter"
/* F32 against F32, sums in another order. */
static const double TOLERANCE = 2e-4;

static cn_tensors *golden;

static int set_up(void **state)
{
    if (unit_env_open(state) != 0) return -1;
    must(cn_tensors_open(ctx, DIR "/golden.safetensors", &golden));
    return 0;
}

static int tear_down(void **state)
{
    cn_tensors_close(golden);
    return unit_env_close(state);
}

/* A tensor's values; free. */
static float *wanted(const cn_tensors *file, const char *name)
{
    const cn_tensor_info *t = cn_tensors_find(file, name);
    if (!t) fail_msg("no %s", name);
    float *v = test_alloc((size_t)t->elements * sizeof *v);
    must(cn_tensors_read(ctx, file, t, v));
    return v;
}

static void expect(cn_plan *plan, const cn_node *y, const cn_tensors *file, const char *name)
{
    float *got = test_values_of(&env, plan, y), *want = wanted(file, name);
    assert_non_null(got);
    assert_int_equal(cn_node_elements(y), cn_tensors_find(file, name)->elements);
    const double error = test_relative(test_compare_f32(got, want, cn_node_elements(y)));
    if (!(error <= TOLERANCE)) fail_msg("%s: %.2g from the wanted", name, error);
    free(got);
    free(want);
}

/* --- pictures --------------------------------------------------------------------------------- */

static void resized_as_by_pillow(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"one", "one_88x56"}, {"two", "two_56x85"}};
    for (int i = 0; i < 2; i++) {
        char path[256];
        cn_image *in = NULL, *want = NULL, *got = NULL;
        snprintf(path, sizeof path, DIR "/%s.png", files[i][0]);
        must(cn_image_load(ctx, path, &in));
        snprintf(path, sizeof path, DIR "/%s.png", files[i][1]);
        must(cn_image_load(ctx, path, &want));
        must(cn_image_resize_bicubic(ctx, in, want->width, want->height, &got));
        assert_memory_equal(got->rgb, want->rgb, (size_t)(3 * want->width * want->height));
        cn_image_destroy(in);
        cn_image_destroy(want);
        cn_image_destroy(got);
    }
}

/* --- the encoder ------------------------------------------------------------------------------ */

static void sees_as_transformers(void **state)
{
    (void)state;
    cn_vision_file *v = NULL;
    cn_params *p = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_node *projected = NULL;
    must(cn_vision_file_open(ctx, DIR, &v)); /* by image_encoder/ in it */
    must(cn_net_params(ctx, CN_NET_VISION, &p));
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, p);
    const int64_t S = v->config.image_size;
    cn_node *image = cn_input4(g, "image", 1, S, S, 3);
    cn_node *before = cn_vision_build(g, &v->config, image, &projected);
    must(cn_graph_status(g));
    cn_node *outputs[] = {before, projected};
    must(cn_plan_create(ctx, g, env.backend, outputs, 2, false, &plan));
    must(cn_vision_file_load(ctx, v, env.backend, p));
    fixture f = {.dir = DIR, .env = env};
    must(fixture_set(&f, plan, image, golden, "pixels"));
    must(cn_plan_run(plan));
    expect(plan, before, golden, "before");
    expect(plan, projected, golden, "projected");
    memset(cn_plan_data(plan, image), 0, (size_t)cn_node_elements(image) * sizeof(float));
    must(cn_plan_run(plan));
    expect(plan, before, golden, "before_zeros");
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(p);
    cn_vision_file_close(v);
}

/* A file by itself, whose shapes don't say the number of heads. */
static void told_by_shapes(void **state)
{
    (void)state;
    char path[256];
    cn_vision_file *v = NULL;
    path_in(path, "encoder.safetensors");
    copy_tensors(DIR "/image_encoder/model.safetensors", path, NULL);
    must(cn_vision_file_open(ctx, path, &v));
    const cn_vision_config *c = &v->config;
    assert_true(c->image_size == 56 && c->patch == 14 && c->clip.hidden == 32);
    assert_true(c->clip.layers == 3 && c->clip.max_positions == 17 && c->clip.projection == 24);
    assert_true(c->clip.intermediate == 64 && c->clip.act == CN_ACT_QUICK_GELU);
    cn_vision_file_close(v);
    must(cn_vision_file_open(ctx, DIR "/image_encoder/model.safetensors", &v)); /* config beside */
    assert_true(v->config.clip.heads == 2 && v->config.clip.act == CN_ACT_GELU);
    cn_vision_file_close(v);
    refused(cn_vision_file_open(ctx, DIR "/plain.safetensors", &v), CN_EMISMATCH,
            "holds an IP-Adapter, a CLIP vision encoder is expected");
}

static void means_come_from_the_preprocessor(void **state)
{
    (void)state;
    static const char text[] = "{\"image_mean\": [0.5, 0.25, 0.125], \"image_std\": [1, 2, 0]}";
    json_t *json = json_loads(text, 0, NULL);
    cn_vision_config c = {.deviation = {1, 1, 1}};
    refused(cn_vision_preprocessor_read(ctx, json, &c), CN_EFORMAT, "\"image_std\" must be above");
    json_array_set_new(json_object_get(json, "image_std"), 2, json_real(0.5));
    must(cn_vision_preprocessor_read(ctx, json, &c));
    assert_true(c.mean[1] == 0.25f && c.deviation[2] == 0.5f);
    json_decref(json);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static void tokens_as_diffusers(void **state)
{
    (void)state;
    static const char *const files[] = {"plain.safetensors", "plus.safetensors", "full.bin"};
    static const cn_ip_form forms[] = {CN_IP_PLAIN, CN_IP_PLUS, CN_IP_FULL};
    for (int i = 0; i < 3; i++) {
        char path[256], name[64];
        cn_control_file *c = NULL;
        cn_params *p = NULL;
        cn_graph *g = NULL;
        cn_plan *plan = NULL;
        snprintf(path, sizeof path, DIR "/%s", files[i]);
        snprintf(name, sizeof name, "tokens.%s", files[i]);
        must(cn_control_open_any(ctx, path, &c));
        assert_ptr_equal(c->kind, &cn_control_kind_ip);
        assert_int_equal(c->ip.form, forms[i]);
        assert_int_equal(c->ip.pairs, 16);
        const int64_t rows = i ? 17 : 1;
        must(cn_params_create(ctx, c->kind->network, &p));
        must(cn_graph_create(ctx, &g));
        cn_graph_use(g, p);
        cn_node *in = cn_input(g, "in", CN_F32, 3, (int64_t[]){1, rows, c->ip.features}, false);
        cn_node *y = cn_ip_tokens_build(g, &c->ip, in);
        must(cn_graph_status(g));
        must(cn_plan_create(ctx, g, env.backend, &y, 1, false, &plan));
        must(cn_control_load(ctx, c, env.backend, p));
        float *values = wanted(golden, i ? "before" : "projected");
        must(cn_plan_set(plan, in, values));
        must(cn_plan_run(plan));
        expect(plan, y, golden, name);
        free(values);
        cn_plan_destroy(plan);
        cn_graph_destroy(g);
        cn_params_destroy(p);
        cn_control_close(c);
    }
}

/* --- SDXL's layers ---------------------------------------------------------------------------- */

/* Gates of 0.7 everywhere. */
static void set_strength(cn_plan *plan, const cn_control_unit *u)
{
    for (int i = 0; i < u->n_gates; i++) {
        float *to = cn_plan_data(plan, u->gate[i]);
        for (int64_t k = 0; k < cn_node_elements(u->gate[i]); k++) to[k] = 0.7f;
    }
}

static void layers_in_diffusers_order(void **state)
{
    (void)state;
    fixture f = {.dir = DIR, .env = env};
    cn_tensors *file = NULL;
    json_t *manifest = NULL;
    cn_unet_config config;
    cn_control_file *c = NULL;
    cn_params *unet = NULL, *p = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    must(fixture_manifest(&f, "xl", &manifest));
    must(fixture_tensors(&f, "xl_golden", &file));
    must(cn_unet_config_read(ctx, json_object_get(manifest, "config"), &config));
    must(cn_control_open_any(ctx, DIR "/xl.safetensors", &c));
    c->ip.unet = config;
    must(cn_net_params(ctx, CN_NET_UNET, &unet));
    must(cn_params_create(ctx, c->kind->network, &p));
    must(cn_graph_create(ctx, &g));
    const int64_t two = 2;
    cn_node *features =
        cn_input(g, "features", CN_F32, 3, (int64_t[]){2, 1, c->ip.features}, false);
    const cn_unet_inputs in = {
        .x = cn_input4(g, "x", 2, 8, 12, 4),
        .t = cn_input(g, "t", CN_F32, 1, &two, false),
        .context = cn_input(g, "context", CN_F32, 3, (int64_t[]){2, 5, 24}, false),
        .added = cn_input(g, "added", CN_F32, 2, (int64_t[]){2, 40}, false)};
    cn_graph_use(g, p);
    cn_node *tokens = cn_ip_tokens_build(g, &c->ip, features);
    tokens = cn_view(g, tokens, 4, (int64_t[]){2, 1, c->ip.tokens, c->ip.context_dim});
    cn_control_unit unit = {.kind = c->kind,
                            .config = cn_control_config(c),
                            .params = p,
                            .in = in,
                            .hints = &tokens,
                            .gated = true};
    cn_node *y = cn_controlled_unet_build(g, &config, unet, &in, &unit, 1);
    must(cn_graph_status(g));
    assert_int_equal(unit.n_gates, unit.kind->places(unit.config));
    must(cn_plan_create(ctx, g, env.backend, &y, 1, false, &plan));
    must(fixture_fill(&f, manifest, unet, NULL));
    must(cn_control_load(ctx, c, env.backend, p));
    must(fixture_set(&f, plan, in.x, file, "x"));
    must(fixture_set(&f, plan, in.t, file, "t"));
    must(fixture_set(&f, plan, in.context, file, "context"));
    must(fixture_set(&f, plan, features, file, "image_embeds"));
    must(golden_sdxl_set_added(&f, plan, in.added, file, 4));
    set_strength(plan, &unit);
    must(cn_plan_run(plan));
    float *got = test_values_of(&env, plan, y), *want = fixture_want(&f, file, "out_ip_0.7", y);
    assert_true(got && want);
    const double error = test_relative(test_compare_f32(got, want, cn_node_elements(y)));
    if (!(error <= TOLERANCE)) fail_msg("%.2g from the wanted", error);
    free(got);
    free(want);
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(unet);
    cn_params_destroy(p);
    cn_control_close(c);
    cn_tensors_close(file);
    json_decref(manifest);
}

/* --- guidance --------------------------------------------------------------------------------- */

enum { LATENT = 8, TOKENS = 6, FEATURES = 5, IMAGES = 2 };

static const cn_unet_config small = {.in_channels = 4,
                                     .out_channels = 4,
                                     .levels = 2,
                                     .channels = {16, 32},
                                     .attention = {true, false},
                                     .heads = {2, 2},
                                     .transformer_layers = {1, 1},
                                     .layers_per_block = 1,
                                     .context_dim = 12,
                                     .norm_groups = 4,
                                     .sample_size = LATENT};

/* The prediction of the second of two steps, before which the image isn't looked at if `late`. */
static void predict(bool in_turn, double strength, bool late, float out[4 * LATENT * LATENT])
{
    const cn_ip_config config = {
        .features = FEATURES, .tokens = 2, .context_dim = 12, .pairs = 4, .unet = small};
    cn_params *unet = NULL, *p = NULL;
    cn_draw *draw = NULL;
    must(cn_net_params(ctx, CN_NET_UNET, &unet));
    must(cn_params_create(ctx, "ip_adapter", &p));
    const cn_draw_spec spec = {.unet = &small,
                               .unet_params = unet,
                               .controls = {{.kind = &cn_control_kind_ip,
                                             .config = &config,
                                             .params = p,
                                             .condition = {.n = 1, .images = IMAGES, .rows = 1}}},
                               .n_controls = 1,
                               .batch = 1,
                               .latent_h = LATENT,
                               .latent_w = LATENT,
                               .context_length = TOKENS,
                               .guidance = true,
                               .sequential_guidance = in_turn};
    must(cn_draw_create(ctx, env.backend, &spec, &draw));
    must(test_fill_params(&env, unet, "u.", 0, 0.2f));
    must(test_fill_params(&env, p, "p.", 0, 0.5f));
    float text[2 * TOKENS * 12], image[IMAGES * FEATURES], without[IMAGES * FEATURES];
    float x[4 * LATENT * LATENT];
    cn_seed_tensor("text", 0, 1, text, (int64_t)CN_COUNT(text));
    cn_seed_tensor("image", 0, 1, image, (int64_t)CN_COUNT(image));
    cn_seed_tensor("without", 0, 1, without, (int64_t)CN_COUNT(without));
    cn_seed_tensor("x", 0, 1, x, (int64_t)CN_COUNT(x));
    cn_draw_args args = {.cond = text, .uncond = text + TOKENS * 12, .cfg_scale = 5};
    args.hints[0] = (cn_draw_hint){.image = image,
                                   .without = without,
                                   .strength = strength,
                                   .start = late ? 0.5 : 0,
                                   .end = 1};
    must(cn_draw_begin(draw, &args));
    for (int i = 0; i < 2; i++) must(cn_draw_predict(draw, &args, i, 2, 500 - i, x, out));
    cn_draw_destroy(draw);
    cn_params_destroy(unet);
    cn_params_destroy(p);
}

static double distance(const float *a, const float *b)
{
    return test_relative(test_compare_f32(a, b, 4 * LATENT * LATENT));
}

static void halves_have_their_own_tokens(void **state)
{
    (void)state;
    float batch[4 * LATENT * LATENT], turns[4 * LATENT * LATENT], other[4 * LATENT * LATENT];
    predict(false, 1, false, batch);
    predict(true, 1, false, turns);
    assert_true(distance(batch, turns) < 1e-5);
    predict(true, 1, true, turns);
    assert_true(distance(batch, turns) < 1e-5);
    predict(false, 1, true, turns);
    assert_true(distance(batch, turns) < 1e-5);
    predict(false, 0, false, other);
    assert_true(distance(batch, other) > 1e-2);
}

/* --- what is refused -------------------------------------------------------------------------- */

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char base[256], face[256];
    const char *controls[] = {DIR "/plain.safetensors"};
    cn_pipeline *p = NULL;
    path_in(base, "base");
    must(tiny_base_write(ctx, base, 8));
    cn_pipeline_options o = {.model = base, .controls = controls, .n_controls = 1};
    refused(cn_pipeline_create(ctx, &o, &p), CN_EMISMATCH, "the IP-Adapter's tokens have width 32");
    path_in(face, "face.safetensors");
    const float values[64] = {0};
    const cn_tensor_out list[] = {{.name = "image_proj.norm.weight",
                                   .dtype = CN_F32,
                                   .ndim = 1,
                                   .shape = {8},
                                   .data = values},
                                  {.name = "ip_adapter.1.to_k_ip.weight",
                                   .dtype = CN_F32,
                                   .ndim = 2,
                                   .shape = {8, 8},
                                   .data = values}};
    must(cn_safetensors_write(ctx, face, list, 2, NULL, NULL, NULL));
    controls[0] = face;
    refused(cn_pipeline_create(ctx, &o, &p), CN_EMISMATCH, "another kind (FaceID)");
    o.image_encoder = DIR "/plain.safetensors";
    refused(cn_pipeline_create(ctx, &o, &p), CN_EMISMATCH, "a CLIP vision encoder is expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resized_as_by_pillow),
        cmocka_unit_test(sees_as_transformers),
        cmocka_unit_test(told_by_shapes),
        cmocka_unit_test(means_come_from_the_preprocessor),
        cmocka_unit_test(tokens_as_diffusers),
        cmocka_unit_test(layers_in_diffusers_order),
        cmocka_unit_test(halves_have_their_own_tokens),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
