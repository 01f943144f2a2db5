/* SPDX-License-Identifier: Apache-2.0 */
/* test_sdxl.c - a small base of Stable Diffusion XL's family: opened as a folder and as a single
 * file without metadata, converted there and back, and drawn with. What the reference draws from
 * such a model is tested in e2e.
 */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "diffuse/added.h"
#include "image/image.h"
#include "image/resize.h"
#include "io/tensors.h"
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char folder[256], single[256];

static int set_up(void **state)
{
    (void)state;
    char said[256];
    if (unit_open(1) != 0) return -1;
    path_in(folder, "base");
    path_in(said, "said.safetensors");
    path_in(single, "single.safetensors");
    must(tiny_sdxl_write(ctx, folder));
    must(cn_convert(ctx, folder, said,
                    &(cn_convert_options){.to_single_file = true, .dtype = "f32"}));
    copy_tensors(said, single, NULL);
    return 0;
}

static void check_base(const cn_base *b)
{
    assert_string_equal(cn_family_of(b)->name, "Stable Diffusion XL");
    assert_int_equal(b->unet.levels, 3);
    assert_true(!b->unet.attention[0] && b->unet.attention[1] && b->unet.attention[2]);
    assert_int_equal(b->unet.transformer_layers[1], 1);
    assert_int_equal(b->unet.transformer_layers[2], 2);
    assert_int_equal(b->unet.added_dim, TINY_POOLED + 24);
    assert_int_equal(b->unet.added_number_dim, 4);
    assert_int_equal(b->text[0].projection, 0);
    assert_int_equal(b->text[1].projection, TINY_POOLED);
    assert_int_equal(b->text[1].layers, 2);
    assert_true(b->text[0].penultimate && b->text[1].penultimate && b->zeros_for_no_negative);
    assert_int_equal(cn_base_context_dim(b), 32);
    must(cn_base_check_context(ctx, b));
}

static void both_forms_open(void **state)
{
    (void)state;
    cn_base *b = NULL;
    must(cn_base_open(ctx, folder, &b));
    check_base(b);
    cn_base_close(b);
    must(cn_base_open(ctx, single, &b));
    check_base(b);
    assert_true(b->vae.scaling_factor == 0.13025f && b->schedule.spacing == CN_SPACING_LEADING);
    cn_base_close(b);
}

/* The projection stands to the right of its input in OpenCLIP's files. */
static void the_projection_is_transposed(void **state)
{
    (void)state;
    char path[512];
    cn_tensors *a = NULL, *b = NULL;
    float x[TINY_POOLED * 16], y[TINY_POOLED * 16];
    snprintf(path, sizeof path, "%s/text_encoder_2/model.safetensors", folder);
    must(cn_tensors_open(ctx, path, &a));
    must(cn_tensors_open(ctx, single, &b));
    const cn_tensor_info *of_folder = cn_tensors_find(a, "text_projection.weight");
    const cn_tensor_info *of_file =
        cn_tensors_find(b, "conditioner.embedders.1.model.text_projection");
    assert_true(of_folder && of_file && of_file->shape[0] == 16);
    must(cn_tensors_read(ctx, a, of_folder, x));
    must(cn_tensors_read(ctx, b, of_file, y));
    for (int p = 0; p < TINY_POOLED; p++)
        for (int h = 0; h < 16; h++) assert_true(x[p * 16 + h] == y[h * TINY_POOLED + p]);
    cn_tensors_close(a);
    cn_tensors_close(b);
}

static void converted_there_and_back(void **state)
{
    (void)state;
    static const char *const files[] = {
        "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors", "text_encoder_2/model.safetensors"};
    char back[256];
    path_in(back, "back");
    must(cn_convert(ctx, single, back, &(cn_convert_options){.dtype = "f32"}));
    for (size_t i = 0; i < CN_COUNT(files); i++)
        if (!same_tensors(folder, back, files[i])) fail_msg("%s differs", files[i]);
}

/* Where height and left stand: 6 numbers of 2 values each, cosine first. */
static void numbers_are_embedded_in_order(void **state)
{
    (void)state;
    const cn_picture_sizes s = {.original_w = 1,
                                .original_h = 2,
                                .crop_left = 3,
                                .crop_top = 4,
                                .target_w = 5,
                                .target_h = 6};
    const float pooled[1] = {7}, want[CN_ADDED_NUMBERS] = {2, 1, 4, 3, 6, 5};
    float numbers[CN_ADDED_NUMBERS], out[1 + 2 * CN_ADDED_NUMBERS];
    cn_added_numbers(&s, numbers);
    assert_memory_equal(numbers, want, sizeof want);
    cn_added_embed(pooled, 1, numbers, CN_ADDED_NUMBERS, 2, out);
    assert_true(out[0] == 7);
    for (int i = 0; i < CN_ADDED_NUMBERS; i++) {
        assert_float_equal(out[1 + 2 * i], cosf(want[i]), 1e-6f);
        assert_float_equal(out[2 + 2 * i], sinf(want[i]), 1e-6f);
    }
}

/* The first bytes of a picture drawn with one change to the options. */
static void draw(const char *model, const cn_generate_options *o,
                 uint8_t rgb[3 * TINY_PX * TINY_PX])
{
    char tokenizer[512];
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer", folder);
    const cn_pipeline_options po = {.model = model, .tokenizer = tokenizer};
    must(cn_pipeline_create(ctx, &po, &p));
    must(cn_generate(p, o, &g));
    memcpy(rgb, cn_image_rgb(g->images[0]), 3 * TINY_PX * TINY_PX);
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
}

static void what_is_told_changes_the_picture(void **state)
{
    (void)state;
    enum { CASES = 8 };
    uint8_t first[3 * TINY_PX * TINY_PX], other[3 * TINY_PX * TINY_PX];
    cn_generate_options base, o[CASES];
    cn_generate_defaults(&base);
    base.prompt = "a red cube";
    base.width = base.height = TINY_PX;
    base.steps = 2;
    base.seed = 5;
    for (int i = 0; i < CASES; i++) o[i] = base;
    o[0].prompt_2 = "a blue sphere";
    o[1].negative_prompt = ""; /* zeros without one */
    o[2].negative_prompt = "";
    o[2].negative_prompt_2 = "a blue sphere";
    o[3].original_size = "64x32";
    o[4].target_size = "64x32";
    o[5].crop = "8,0";
    o[6].negative_original_size = "64x32";
    o[6].negative_target_size = "16x16";
    o[7].original_size = "32x64"; /* width first */
    draw(folder, &base, first);
    for (int i = 0; i < CASES; i++) {
        draw(folder, &o[i], other);
        if (!memcmp(first, other, sizeof first)) fail_msg("case %d changes nothing", i);
    }
    draw(folder, &o[3], first);
    assert_memory_not_equal(first, other, sizeof first);
    o[3].negative_original_size = "64x32"; /* alone it counts for nothing */
    draw(folder, &o[3], other);
    assert_memory_equal(first, other, sizeof first);
}

/* --- textual inversion and LoRA --------------------------------------------------------------- */

static void write_pair(const char *path, const char *first, const char *second, int64_t n,
                       int64_t rank, bool embedding)
{
    float values[256];
    for (int i = 0; i < 256; i++) values[i] = 0.1f * (float)(i % 5 + 1);
    const cn_tensor_out list[] = {{.name = first, .dtype = CN_F32, .ndim = 2, .data = values},
                                  {.name = second, .dtype = CN_F32, .ndim = 2, .data = values}};
    cn_tensor_out out[2] = {list[0], list[1]};
    out[0].shape[0] = embedding ? rank : n;
    out[0].shape[1] = embedding ? n : rank;
    out[1].shape[0] = rank;
    out[1].shape[1] = n;
    must(cn_safetensors_write(ctx, path, out, 2, NULL, NULL, NULL));
}

/* Draws with these options of the pipeline, and once without. */
static void changes(const cn_pipeline_options *with, const char *prompt)
{
    cn_generate_options o;
    uint8_t rgb[2][3 * TINY_PX * TINY_PX];
    cn_generate_defaults(&o);
    o.prompt = prompt;
    o.width = o.height = TINY_PX;
    o.steps = 2;
    o.seed = 5;
    for (int i = 0; i < 2; i++) {
        cn_pipeline *p = NULL;
        cn_generated *g = NULL;
        const cn_pipeline_options plain = {.model = folder};
        must(cn_pipeline_create(ctx, i ? with : &plain, &p));
        must(cn_generate(p, &o, &g));
        memcpy(rgb[i], cn_image_rgb(g->images[0]), sizeof rgb[i]);
        cn_generated_destroy(g);
        cn_pipeline_destroy(p);
    }
    assert_memory_not_equal(rgb[0], rgb[1], sizeof rgb[0]);
}

static void an_embedding_for_both_encoders(void **state)
{
    (void)state;
    char good[256], bad[256];
    cn_pipeline *p = NULL;
    path_in(good, "glow.safetensors");
    path_in(bad, "half.safetensors");
    write_pair(good, "clip_l", "clip_g", 16, 2, true);
    write_pair(bad, "clip_l", "clip_h", 16, 2, true);
    const char *const files[] = {good}, *const halves[] = {bad};
    const cn_pipeline_options with = {.model = folder, .embeddings = files, .n_embeddings = 1};
    const cn_pipeline_options half = {.model = folder, .embeddings = halves, .n_embeddings = 1};
    changes(&with, "a glow cube");
    refused(cn_pipeline_create(ctx, &half, &p), CN_EMISMATCH, "half.safetensors: has no clip_g");
}

/* kohya's names, and diffusers'. */
static void loras_of_every_network(void **state)
{
    (void)state;
    static const struct {
        const char *module, *up, *down;
        int64_t n;
    } cases[] = {
        {"lora_te1_text_model_encoder_layers_0_self_attn_v_proj", "lora_up", "lora_down", 16},
        {"lora_te2_text_model_encoder_layers_0_self_attn_v_proj", "lora_up", "lora_down", 16},
        {"lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_v", "lora_up", "lora_down", 64},
        {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_v", "lora_up",
         "lora_down", 64},
        {"text_encoder_2.text_model.encoder.layers.0.self_attn.v_proj", "lora_B", "lora_A", 16},
        {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_v", "lora_B", "lora_A", 64},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char path[256], up[160], down[160];
        path_in(path, "lora.safetensors");
        snprintf(up, sizeof up, "%s.%s.weight", cases[i].module, cases[i].up);
        snprintf(down, sizeof down, "%s.%s.weight", cases[i].module, cases[i].down);
        write_pair(path, up, down, cases[i].n, 1, false);
        const cn_lora_option lora = {path, 1};
        const cn_pipeline_options with = {.model = folder, .loras = &lora, .n_loras = 1};
        changes(&with, "a red cube");
    }
}

static void bad_words(void **state)
{
    (void)state;
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_options base;
    const cn_pipeline_options po = {.model = folder};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&base);
    base.prompt = "a red cube";
    cn_generate_options o = base;
    o.original_size = "64";
    refused(cn_generate(p, &o, &g), CN_EINVAL, "--original-size 64: WIDTHxHEIGHT");
    o = base;
    o.crop = "-1,0";
    refused(cn_generate(p, &o, &g), CN_EINVAL, "--crop -1,0: LEFT,TOP");
    o = base;
    o.negative_target_size = "0x8";
    refused(cn_generate(p, &o, &g), CN_EINVAL, "--negative-target-size");
    o = base;
    o.prompt_style = "webui";
    o.prompt_2 = "a cube";
    refused(cn_generate(p, &o, &g), CN_EINVAL, "second text encoder");
    o = base;
    o.clip_skip = 2; /* of two layers the last is never used: 1 leaves none */
    refused(cn_generate(p, &o, &g), CN_EINVAL, "clip skip: 2 of");
    cn_pipeline_destroy(p);
}

static void another_family_is_told_nothing(void **state)
{
    (void)state;
    char dir[256];
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_options o;
    path_in(dir, "sd1");
    must(tiny_base_write(ctx, dir, 8));
    const cn_pipeline_options po = {.model = dir};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.crop = "0,0";
    refused(cn_generate(p, &o, &g), CN_EINVAL, "aren't told sizes and crops");
    o.crop = NULL;
    o.prompt_2 = "a cube";
    refused(cn_generate(p, &o, &g), CN_EINVAL, "has one encoder");
    cn_pipeline_destroy(p);
}

/* --- refiner ---------------------------------------------------------------------------------- */

static void draw_refined(const char *refiner, const cn_generate_options *o,
                         uint8_t rgb[3 * TINY_PX * TINY_PX])
{
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    const cn_pipeline_options po = {.model = folder, .refiner = refiner};
    must(cn_pipeline_create(ctx, &po, &p));
    must(cn_generate(p, o, &g));
    if (refiner) assert_non_null(strstr(g->parameters[0], ", Refiner: "));
    memcpy(rgb, cn_image_rgb(g->images[0]), 3 * TINY_PX * TINY_PX);
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
}

/* Methods that remember nothing don't see where one UNet takes over from the other. */
static void a_base_refines_itself_to_the_same_picture(void **state)
{
    (void)state;
    static const char *const samplers[] = {"ddim", "euler", "euler_a"};
    uint8_t whole[3 * TINY_PX * TINY_PX], parts[3 * TINY_PX * TINY_PX];
    cn_generate_options o;
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.negative_prompt = "two cones";
    o.width = o.height = TINY_PX;
    o.steps = 5;
    o.seed = 5;
    for (size_t i = 0; i < CN_COUNT(samplers); i++) {
        o.sampler = samplers[i];
        o.refiner_start = 0.6;
        draw_refined(NULL, &o, whole);
        draw_refined(folder, &o, parts);
        if (memcmp(whole, parts, sizeof whole) != 0) fail_msg("%s differs", samplers[i]);
    }
}

static void a_refiner_is_told_a_score(void **state)
{
    (void)state;
    char refiner[256], file[256], back[256];
    uint8_t first[3 * TINY_PX * TINY_PX], other[3 * TINY_PX * TINY_PX];
    cn_base *b = NULL;
    cn_generate_options o;
    path_in(refiner, "refiner");
    path_in(file, "refiner.safetensors");
    path_in(back, "refiner-back");
    must(tiny_refiner_write(ctx, refiner));
    must(cn_base_open(ctx, refiner, &b));
    assert_string_equal(cn_family_of(b)->name, "Stable Diffusion XL's refiner");
    assert_true(b->unet.added_number_dim == 4 && !b->zeros_for_no_negative);
    must(cn_base_check_context(ctx, b));
    cn_base_close(b);
    must(cn_convert(ctx, refiner, file,
                    &(cn_convert_options){.to_single_file = true, .dtype = "f32"}));
    must(cn_convert(ctx, file, back, &(cn_convert_options){.dtype = "f32"}));
    assert_true(same_tensors(refiner, back, "text_encoder_2/model.safetensors"));
    assert_true(same_tensors(refiner, back, "unet/diffusion_pytorch_model.safetensors"));
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.width = o.height = TINY_PX;
    o.steps = 4;
    o.seed = 5;
    o.refiner_start = 0.5;
    draw_refined(refiner, &o, first);
    for (int i = 0; i < 3; i++) {
        cn_generate_options one = o;
        if (i == 0) one.aesthetic_score = 1;
        if (i == 1) one.negative_aesthetic_score = 9;
        if (i == 2) one.refiner_start = 0.9;
        draw_refined(refiner, &one, other);
        if (!memcmp(first, other, sizeof first)) fail_msg("case %d changes nothing", i);
    }
    o.refiner_start = 1;
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    must(cn_pipeline_create(ctx, &(cn_pipeline_options){.model = folder, .refiner = refiner}, &p));
    must(cn_generate(p, &o, &g));
    draw_refined(NULL, &o, other);
    assert_memory_equal(cn_image_rgb(g->images[0]), other, sizeof other);
    cn_generated_destroy(g);
    o.refiner_start = 0.01;
    refused(cn_generate(p, &o, &g), CN_EINVAL, "leaves the base model no step");
    o.refiner_start = 0.5;
    o.hires_scale = 2;
    refused(cn_generate(p, &o, &g), CN_EINVAL, "--hires-scale) doesn't go with a refiner");
    o.hires_scale = 0;
    cn_generate_plan plan;
    must(cn_generate_dry_run(p, &o, &plan));
    assert_int_equal(plan.n_stages, 5);
    assert_string_equal(plan.stages[3].name, "refining");
    cn_pipeline_destroy(p);
    char sd1[256];
    path_in(sd1, "refiner-sd1");
    must(tiny_base_write(ctx, sd1, 8));
    refused(cn_pipeline_create(ctx, &(cn_pipeline_options){.model = folder, .refiner = sd1}, &p),
            CN_EMISMATCH, "can't go on with latents of Stable Diffusion XL");
}

/* Height, width, top, left, score. */
static void the_score_is_the_last_number(void **state)
{
    (void)state;
    const cn_picture_sizes s = {.original_w = 1,
                                .original_h = 2,
                                .crop_left = 3,
                                .crop_top = 4,
                                .target_w = 5,
                                .target_h = 6};
    const float want[CN_REFINER_NUMBERS] = {2, 1, 4, 3, 2.5f};
    float numbers[CN_ADDED_NUMBERS];
    cn_refiner_numbers(&s, 2.5, numbers);
    assert_memory_equal(numbers, want, sizeof want);
}

/* --- preview ---------------------------------------------------------------------------------- */

static cn_image *shown;

static void keep_preview(void *user, int done, int total, cn_image *const *images, int count)
{
    (void)user, (void)done, (void)total, (void)count;
    cn_image_destroy(shown);
    shown = NULL;
    must(cn_image_create(ctx, images[0]->width, images[0]->height, &shown));
    memcpy(shown->rgb, images[0]->rgb, (size_t)(3 * shown->width * shown->height));
}

/* Where the mask keeps everything, what is previewed are the latents that are saved. */
static void latents_have_colours_of_their_own(void **state)
{
    (void)state;
    /* stable-diffusion-webui's, for SDXL */
    static const float colours[4][3] = {{0.3448f, 0.4168f, 0.4395f},
                                        {-0.1953f, -0.0290f, 0.0250f},
                                        {0.1074f, 0.0886f, -0.0163f},
                                        {-0.3730f, -0.2499f, -0.2088f}};
    enum { SIDE = TINY_PX / 2, N = SIDE * SIDE };
    char path[256];
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_image *picture = NULL, *mask = NULL, *small = NULL, *want = NULL;
    cn_tensors *file = NULL;
    cn_generate_options o;
    float latents[4 * N];
    path_in(path, "latents.safetensors");
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &picture));
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &mask)); /* black */
    must(cn_image_create(ctx, SIDE, SIDE, &small));
    memset(mask->rgb, 0, 3 * TINY_PX * TINY_PX);
    for (int i = 0; i < 3 * TINY_PX * TINY_PX; i++) picture->rgb[i] = (uint8_t)(i * 37);
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.steps = 3;
    o.init_image = picture;
    o.mask = mask;
    o.mask_style = "diffusers";
    o.save_latents = path;
    o.preview = keep_preview;
    o.preview_by = "latent";
    o.preview_interval = 1;
    must(cn_pipeline_create(ctx, &(cn_pipeline_options){.model = folder}, &p));
    must(cn_generate(p, &o, &g));
    must(cn_tensors_open(ctx, path, &file));
    must(cn_tensors_read(ctx, file, cn_tensors_find(file, "latents"), latents));
    for (int i = 0; i < N; i++)
        for (int c = 0; c < 3; c++) {
            float x = 0.5f;
            for (int k = 0; k < 4; k++) x += latents[k * N + i] * colours[k][c] / 2;
            small->rgb[3 * i + c] = (uint8_t)lrintf(255 * fmaxf(0, fminf(x, 1)));
        }
    must(cn_image_resize(ctx, small, TINY_PX, TINY_PX, CN_FILTER_LINEAR, &want));
    for (int i = 0; i < 3 * TINY_PX * TINY_PX; i++)
        assert_true(abs(want->rgb[i] - shown->rgb[i]) <= 1);
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
    cn_tensors_close(file);
    cn_image_destroy(picture);
    cn_image_destroy(mask);
    cn_image_destroy(small);
    cn_image_destroy(want);
    cn_image_destroy(shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_open),
        cmocka_unit_test(the_projection_is_transposed),
        cmocka_unit_test(converted_there_and_back),
        cmocka_unit_test(numbers_are_embedded_in_order),
        cmocka_unit_test(what_is_told_changes_the_picture),
        cmocka_unit_test(an_embedding_for_both_encoders),
        cmocka_unit_test(loras_of_every_network),
        cmocka_unit_test(bad_words),
        cmocka_unit_test(another_family_is_told_nothing),
        cmocka_unit_test(latents_have_colours_of_their_own),
        cmocka_unit_test(a_base_refines_itself_to_the_same_picture),
        cmocka_unit_test(a_refiner_is_told_a_score),
        cmocka_unit_test(the_score_is_the_last_number),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
