/* SPDX-License-Identifier: Apache-2.0 */
/* test_train_sdxl.c - whole small runs on a base of Stable Diffusion XL's family: pooled text kept
 * with the cached one or encoded in its step, validated, gone on from, drawn with. Gradients are
 * the reference's in golden.
 */
#include "../support/unit/tiny_run.h"
#include "image/image.h"
#include "io/json.h"
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <string.h>

static char sdxl[256];

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0) return -1;
    path_in(sdxl, "sdxl");
    must(tiny_sdxl_write(ctx, sdxl));
    return 0;
}

static cn_train_options options(const char *output)
{
    cn_train_options o = tiny_options(output);
    o.model = sdxl;
    o.max_train_steps = 3;
    o.proportion_empty_prompts = 0.5;
    return o;
}

/* Texts are encoded several at a time or few, and sums are rounded otherwise. */
static void same_losses(const char *a, const char *b)
{
    double x[3], y[3];
    assert_int_equal(tiny_metrics(a, "loss", x, 3), 3);
    assert_int_equal(tiny_metrics(b, "loss", y, 3), 3);
    for (int i = 0; i < 3; i++) assert_true(fabs(x[i] - y[i]) <= 1e-3 * x[i]);
}

static void cached_or_encoded_in_the_step(void **state)
{
    (void)state;
    char a[256], b[256];
    path_in(a, "cached");
    path_in(b, "encoded");
    cn_train_options o = options(a);
    must(cn_train(ctx, &o, NULL, NULL));
    o = options(b);
    o.cache_text = o.cache_latents = false;
    must(cn_train(ctx, &o, NULL, NULL));
    same_losses(a, b);
}

static void batches_by_accumulation(void **state)
{
    (void)state;
    char a[256], b[256];
    path_in(a, "whole");
    path_in(b, "parts");
    cn_train_options o = options(a);
    must(cn_train(ctx, &o, NULL, NULL));
    o = options(b);
    o.train_batch_size = 1;
    o.gradient_accumulation_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    same_losses(a, b);
}

static void validated_and_drawn_with(void **state)
{
    (void)state;
    char dir[256], path[512];
    json_t *json = NULL;
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_image *condition = NULL;
    cn_generate_options o;
    path_in(dir, "validated");
    cn_train_options t = options(dir);
    t.validation_steps = 3;
    t.validation_sampling_steps = 2;
    must(cn_train(ctx, &t, NULL, NULL));
    snprintf(path, sizeof path, "%s", dir);
    must(cn_config_load(ctx, path, "config.json", &json));
    assert_string_equal(cn_json_str(json, "addition_embed_type", ""), "text_time");
    assert_int_equal(cn_json_int(json, "addition_time_embed_dim", 0), 4);
    assert_int_equal(cn_json_int(json, "projection_class_embeddings_input_dim", 0),
                     TINY_POOLED + 24);
    assert_int_equal(json_array_size(json_object_get(json, "transformer_layers_per_block")), 3);
    json_decref(json);
    snprintf(path, sizeof path, "%s/control.safetensors", dir);
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &condition));
    const char *const nets[] = {path};
    const cn_control_options c = {.image = condition, .strength = 1, .end = 1};
    const cn_pipeline_options po = {.model = sdxl, .controls = nets, .n_controls = 1};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.steps = 2;
    o.controls = &c;
    must(cn_generate(p, &o, &g));
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
    cn_image_destroy(condition);
}

static void a_controlnet_of_another_family(void **state)
{
    (void)state;
    char dir[256], path[512];
    path_in(dir, "family");
    cn_train_options o = tiny_options(dir);
    o.max_train_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    snprintf(path, sizeof path, "%s/control.safetensors", dir);
    path_in(dir, "family-sdxl");
    o = options(dir);
    o.controlnet = path;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, "text encoder of width 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_or_encoded_in_the_step),
        cmocka_unit_test(batches_by_accumulation),
        cmocka_unit_test(validated_and_drawn_with),
        cmocka_unit_test(a_controlnet_of_another_family),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
