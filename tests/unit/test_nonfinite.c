/* SPDX-License-Identifier: Apache-2.0 */
/* test_nonfinite.c - a NaN or an overflow in any network gives no picture and no training, and one
 * line that names the network, its file and the first weight or node. */
#include "../support/unit/tiny_run.h"

#include "image/image.h"
#include "io/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char control[256];

/* --- one number of a file, changed in place --------------------------------------------------- */

typedef struct change {
    char path[256];
    long at;
    float was;
} change;

static void put_float(const char *path, long at, float v)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(&v, sizeof v, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* The first element of an F32 tensor of a safetensors file. */
static change poke(const char *path, const char *tensor, float value)
{
    change c = {.at = 0};
    char *data, quoted[256];
    size_t n;
    uint64_t header;
    snprintf(c.path, sizeof c.path, "%s", path);
    snprintf(quoted, sizeof quoted, "\"%s\":{", tensor);
    must(cn_file_read(ctx, path, 1 << 28, &data, &n));
    memcpy(&header, data, sizeof header);
    const char *entry = strstr(data + 8, quoted);
    if (!entry) fail_msg("%s: no %s", path, tensor);
    assert_true(strncmp(strstr(entry, "\"dtype\":") + 8, "\"F32\"", 5) == 0);
    const char *offsets = strstr(entry, "\"data_offsets\":[");
    assert_non_null(offsets);
    c.at = 8 + (long)header + strtol(offsets + 16, NULL, 10);
    memcpy(&c.was, data + c.at, sizeof c.was);
    cn_free(data);
    put_float(path, c.at, value);
    return c;
}

static change poke_model(const char *file, const char *tensor, float value)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", model, file);
    return poke(path, tensor, value);
}

static void undo(const change *c)
{
    put_float(c->path, c->at, c->was);
}

/* --- drawing ---------------------------------------------------------------------------------- */

static int previews;

static void count_preview(void *user, int done, int total, cn_image *const *images, int count)
{
    (void)user, (void)done, (void)total, (void)images, (void)count;
    previews++;
}

typedef struct drawing {
    const char *control, *lora;
    double lora_weight;
    bool from_picture, preview, tiled;
} drawing;

static cn_status draw(const drawing *d)
{
    const cn_lora_option lora = {.path = d->lora, .weight = d->lora_weight};
    const cn_pipeline_options po = {.model = model,
                                    .controls = &d->control,
                                    .n_controls = d->control != NULL,
                                    .loras = &lora,
                                    .n_loras = d->lora != NULL};
    cn_generate_options o;
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_image *image = NULL;
    cn_generate_defaults(&o);
    must(cn_image_create(ctx, 2 * TINY_PX, 2 * TINY_PX, &image));
    memset(image->rgb, 128, (size_t)(image->width * image->height * 3));
    const cn_control_options condition = {.image = image, .strength = 1, .end = 1};
    o.prompt = "a red cube";
    o.steps = 3;
    o.width = o.height = 2 * TINY_PX;
    if (d->control) o.controls = &condition;
    if (d->from_picture) o.init_image = image;
    if (d->preview) {
        o.preview = count_preview;
        o.preview_interval = 1;
    }
    o.vae_tiling = d->tiled;
    o.vae_tile_size = d->tiled ? TINY_PX : 0;
    cn_status s = cn_pipeline_create(ctx, &po, &p);
    if (s == CN_OK) s = cn_generate(p, &o, &g);
    assert_true((s == CN_OK) == (g != NULL));
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
    cn_image_destroy(image);
    return s;
}

static void expect_words(const char *what, const char *a, const char *b)
{
    if (!strstr(cn_error(ctx), a) || !strstr(cn_error(ctx), b))
        fail_msg("%s: \"%s\" lacks \"%s\" or \"%s\"", what, cn_error(ctx), a, b);
    if (strchr(cn_error(ctx), '\n')) fail_msg("more than a line: %s", cn_error(ctx));
}

static void refuses(const drawing *d, const change *c, const char *words)
{
    const cn_status s = draw(d);
    undo(c);
    if (s != CN_EFORMAT) fail_msg("%s: status %d, %s", words, (int)s, cn_error(ctx));
    expect_words(c->path, c->path, words);
    must(draw(d)); /* it was that alone */
}

static void a_weight_is_named_with_its_file(void **state)
{
    (void)state;
    static const struct {
        const char *file, *tensor, *network;
        float value;
        drawing d;
    } cases[] = {
        {"vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", "vae", NAN, {0}},
        {"vae/diffusion_pytorch_model.safetensors",
         "decoder.conv_out.bias",
         "vae",
         INFINITY,
         {.tiled = true}},
        {"vae/diffusion_pytorch_model.safetensors",
         "decoder.up_blocks.0.resnets.0.conv1.weight",
         "vae",
         NAN,
         {.preview = true}},
        {"vae/diffusion_pytorch_model.safetensors",
         "encoder.conv_in.weight",
         "vae",
         NAN,
         {.from_picture = true}},
        {"unet/diffusion_pytorch_model.safetensors",
         "down_blocks.0.resnets.0.conv1.weight",
         "unet",
         NAN,
         {0}},
        {"unet/diffusion_pytorch_model.safetensors",
         "conv_out.bias",
         "unet",
         -INFINITY,
         {.preview = true}},
        {"text_encoder/model.safetensors",
         "text_model.final_layer_norm.weight",
         "text_encoder",
         INFINITY,
         {0}},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char words[256];
        snprintf(words, sizeof words, "%s: the weight %s has %s", cases[i].network, cases[i].tensor,
                 isnan(cases[i].value) ? "NaN"
                 : cases[i].value < 0  ? "-Inf"
                                       : "Inf");
        const change c = poke_model(cases[i].file, cases[i].tensor, cases[i].value);
        previews = 0;
        const bool broken_preview = strstr(cases[i].tensor, "conv1") || cases[i].d.preview;
        if (broken_preview) {
            assert_int_equal(draw(&cases[i].d), CN_EFORMAT);
            assert_int_equal(previews, 0);
        }
        refuses(&cases[i].d, &c, words);
    }
}

/* A ControlNet's own file: in the hint network, in the copy of the encoder, in a zero
 * convolution. */
static void a_controlnet_is_named(void **state)
{
    (void)state;
    static const char *const tensors[] = {"control_model.input_hint_block.0.weight",
                                          "control_model.input_blocks.1.0.in_layers.2.weight",
                                          "control_model.zero_convs.1.0.bias"};
    const drawing d = {.control = control};
    must(draw(&d));
    for (size_t i = 0; i < CN_COUNT(tensors); i++) {
        char words[256];
        snprintf(words, sizeof words, "controlnet: the weight %s has NaN at [0", tensors[i]);
        const change c = poke(control, tensors[i], NAN);
        refuses(&d, &c, words);
    }
}

/* All weights are finite; what they make isn't. */
static void an_overflow_names_the_node(void **state)
{
    (void)state;
    const drawing d = {0};
    change c = poke_model("unet/diffusion_pytorch_model.safetensors", "conv_in.weight", 3e38f);
    refuses(&d, &c, "unet: node ");
    c = poke_model("vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", 3e38f);
    refuses(&d, &c, "vae: node decoder.");
    assert_int_equal(draw(&d), CN_OK);
}

/* --- LoRA ------------------------------------------------------------------------------------- */

static void write_lora(const char *path, float up, float down)
{
    static const char name[] =
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    char names[2][128];
    float values[2][8];
    for (int i = 0; i < 8; i++) {
        values[0][i] = up;
        values[1][i] = down;
    }
    snprintf(names[0], sizeof names[0], "%s.lora_up.weight", name);
    snprintf(names[1], sizeof names[1], "%s.lora_down.weight", name);
    const cn_tensor_out list[] = {
        {.name = names[0], .dtype = CN_F32, .ndim = 2, .shape = {8, 1}, .data = values[0]},
        {.name = names[1], .dtype = CN_F32, .ndim = 2, .shape = {1, 8}, .data = values[1]}};
    must(cn_safetensors_write(ctx, path, list, 2, NULL, NULL, NULL));
}

static void a_lora_is_named_not_the_base(void **state)
{
    (void)state;
    char path[256];
    path_in(path, "lora.safetensors");
    const drawing d = {.lora = path, .lora_weight = 1};
    write_lora(path, 0.1f, 0.1f);
    must(draw(&d));
    write_lora(path, NAN, 0.1f);
    assert_int_equal(draw(&d), CN_EFORMAT);
    expect_words("NaN", path, "lora_up.weight has a value that is no number");
    write_lora(path, 3e38f, 3e38f);
    assert_int_equal(draw(&d), CN_EFORMAT);
    expect_words("overflow", path, "attn1.to_q.weight isn't finite; this LoRA is damaged");
}

/* --- training --------------------------------------------------------------------------------- */

static void training_refuses(const cn_train_options *o, const change *c, cn_status want,
                             const char *words)
{
    const cn_status s = cn_train(ctx, o, NULL, NULL);
    undo(c);
    if (s != want) fail_msg("%s: status %d, %s", words, (int)s, cn_error(ctx));
    expect_words(c->path, c->path, words);
    assert_null(strstr(cn_error(ctx), "diverged at"));
    assert_null(strstr(cn_error(ctx), "smaller"));
}

static void training_names_the_file(void **state)
{
    (void)state;
    static const struct {
        const char *file, *tensor, *words;
        float value;
    } cases[] = {
        /* read before the first step */
        {"vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.weight",
         "vae: the weight encoder.conv_in.weight has NaN", NAN},
        {"text_encoder/model.safetensors", "text_model.encoder.layers.0.mlp.fc1.weight",
         "text_encoder: the weight text_model.encoder.layers.0.mlp.fc1.weight has NaN", NAN},
        {"unet/diffusion_pytorch_model.safetensors", "up_blocks.0.resnets.0.conv1.weight",
         "unet: the weight up_blocks.0.resnets.0.conv1.weight has NaN", NAN},
        {"unet/diffusion_pytorch_model.safetensors", "conv_out.weight", "unet: node ", 3e38f},
    };
    char out[256];
    path_in(out, "broken");
    cn_train_options o = tiny_options(out);
    o.max_train_steps = 3;
    for (size_t i = 0; i < CN_COUNT(cases); i++)
        for (int live = 0; live < 2; live++) {
            o.cache_latents = o.cache_text = !live;
            const change c = poke_model(cases[i].file, cases[i].tensor, cases[i].value);
            training_refuses(&o, &c, CN_EFORMAT, cases[i].words);
            if (i == 0 && !live) expect_words("picture", scenes, "its latents aren't finite");
        }
    must(cn_train(ctx, &o, NULL, NULL));
}

static void a_controlnet_to_start_from_is_named(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "started");
    cn_train_options o = tiny_options(out);
    o.max_train_steps = 2;
    o.controlnet = control;
    const change c = poke(control, "control_model.zero_convs.0.0.weight", NAN);
    training_refuses(&o, &c, CN_EFORMAT,
                     "controlnet: the weight control_model.zero_convs.0.0.weight has NaN");
}

static int set_up(void **state)
{
    (void)state;
    char out[256];
    if (tiny_open(1) != 0) return -1;
    path_in(out, "control");
    cn_train_options o = tiny_options(out);
    o.max_train_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    path_in(control, "control/control.safetensors");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_is_named_with_its_file),
        cmocka_unit_test(a_controlnet_is_named),
        cmocka_unit_test(an_overflow_names_the_node),
        cmocka_unit_test(a_lora_is_named_not_the_base),
        cmocka_unit_test(training_names_the_file),
        cmocka_unit_test(a_controlnet_to_start_from_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
