/* SPDX-License-Identifier: Apache-2.0 */
/* test_pretrain.c - the stages of training a small base from scenes: what each leaves as it was,
 * exact resume, a base with eight latent channels in everything that uses one. */
#include "../support/child.h"
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"

#include "controlnet.h"
#include "image/image.h"
#include "io/tensors.h"
#include "pretrain/frechet.h"
#include "pretrain/learner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char vae_weights[] = "vae/diffusion_pytorch_model.safetensors";
static const char unet_weights[] = "unet/diffusion_pytorch_model.safetensors";
static const char text_weights[] = "text_encoder/model.safetensors";

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

/* Networks of some ten thousand weights; steps of every stage. */
static cn_pretrain_options small(const char *dir, const char *stage, int64_t steps)
{
    cn_pretrain_options o;
    cn_pretrain_options_default(&o);
    o.output_dir = dir;
    o.stage = stage;
    o.size_px = 64;
    o.crop_px = 32;
    o.vae_steps = o.unet_steps = steps;
    o.vae_batch = 1;
    o.unet_batch = 2;
    o.scenes = 48;
    o.scenes_ahead = 16;
    o.full_part = 0.5;
    for (int i = 0; i < CN_PRETRAIN_VAE_LEVELS; i++) o.vae_widths[i] = 16;
    for (int i = 0; i < CN_PRETRAIN_UNET_LEVELS; i++) o.unet_widths[i] = 32;
    o.text_width = 64;
    o.vocabulary = 600;
    return o;
}

/* How many of the file's tensors whose name begins with `with` have the same values in both. */
static void count_same(const char *dir_a, const char *dir_b, const char *with, int64_t *same,
                       int64_t *all)
{
    char path[512];
    cn_tensors *t[2];
    snprintf(path, sizeof path, "%s/%s", dir_a, vae_weights);
    must(cn_tensors_open(ctx, path, &t[0]));
    snprintf(path, sizeof path, "%s/%s", dir_b, vae_weights);
    must(cn_tensors_open(ctx, path, &t[1]));
    *same = *all = 0;
    for (int64_t i = 0; i < cn_tensors_count(t[0]); i++) {
        const cn_tensor_info *a = cn_tensors_at(t[0], i), *b = cn_tensors_find(t[1], a->name);
        if (strncmp(a->name, with, strlen(with)) != 0) continue;
        assert_non_null(b);
        assert_int_equal(a->elements, b->elements);
        float *x = malloc((size_t)a->elements * sizeof *x), *y = malloc((size_t)a->elements * 4);
        must(cn_tensors_read(ctx, t[0], a, x));
        must(cn_tensors_read(ctx, t[1], b, y));
        int64_t equal = 0; /* a zero may change its sign where nothing is learned */
        for (int64_t k = 0; k < a->elements; k++) equal += x[k] == y[k];
        *same += equal == a->elements;
        (*all)++;
        free(x);
        free(y);
    }
    cn_tensors_close(t[0]);
    cn_tensors_close(t[1]);
}

static void run(const cn_pretrain_options *o)
{
    must(cn_pretrain(ctx, o));
}

/* A trained autoencoder, the same each time. */
static void begin(const char *dir)
{
    char made[256], to[256];
    path_in(made, "made");
    snprintf(to, sizeof to, "%s", dir);
    if (access(made, F_OK) != 0) {
        const cn_pretrain_options o = small(made, "vae", 4);
        run(&o);
    }
    assert_int_equal(test_wait(test_start((char *[]){"/bin/cp", "-r", made, to, NULL}, -1), 60), 0);
}

static void cancel_at_two(void *user, const char *stage, int64_t step, int64_t steps, double loss,
                          double seconds)
{
    (void)steps, (void)loss, (void)seconds;
    if (step == 2 && strcmp(stage, "encode") != 0) cn_cancel(user);
}

/* Stops it behind its second step, then lets it go on to the end. */
static void run_in_two(cn_pretrain_options o)
{
    o.progress = cancel_at_two;
    o.user = cn_ctx_create(1);
    assert_non_null(o.user);
    assert_int_equal(cn_pretrain(o.user, &o), CN_ECANCELLED);
    assert_non_null(strstr(cn_error(o.user), "goes on"));
    cn_ctx_destroy(o.user);
    o.progress = NULL;
    run(&o);
}

static void a_stage_starts_from_a_folder_s_weights(void **state)
{
    (void)state;
    char from[256], to[256];
    int64_t same, all;
    path_in(from, "start-from");
    path_in(to, "start-to");
    begin(from);
    cn_pretrain_options o = small(to, "vae", 1);
    o.start_from = from;
    o.vae_lr = 0; /* nothing is learned */
    run(&o);
    count_same(from, to, "", &same, &all);
    if (all <= 0 || same != all) fail_msg("%d of %d tensors are the same", (int)same, (int)all);
    o.output_dir = from; /* whose state it goes on from */
    o.start_from = "/nowhere";
    o.vae_widths[0] = 32;
    assert_int_not_equal(cn_pretrain(ctx, &o), CN_OK);
    path_in(to, "start-other");
    o.output_dir = to;
    o.start_from = from; /* of other widths */
    assert_int_equal(cn_pretrain(ctx, &o), CN_EMISMATCH);
}

static float *read_tensor(const char *dir, const char *name, int64_t *n)
{
    char path[512];
    cn_tensors *t = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, vae_weights);
    must(cn_tensors_open(ctx, path, &t));
    const cn_tensor_info *info = cn_tensors_find(t, name);
    assert_non_null(info);
    float *x = malloc((size_t)info->elements * sizeof *x);
    assert_non_null(x);
    must(cn_tensors_read(ctx, t, info, x));
    *n = info->elements;
    cn_tensors_close(t);
    return x;
}

/* Residual blocks and attention add nothing but the constants before the closing norms; latents
 * have little noise. */
static void the_vae_begins_nearly_linear(void **state)
{
    (void)state;
    static const char *const zero[] = {"encoder.down_blocks.2.resnets.0.conv2.weight",
                                       "encoder.mid_block.attentions.0.to_out.0.weight",
                                       "decoder.up_blocks.3.resnets.1.conv2.weight",
                                       "decoder.up_blocks.3.resnets.0.conv2.bias"};
    char dir[256];
    path_in(dir, "vae-begun");
    cn_pretrain_options o = small(dir, "vae", 1);
    o.vae_lr = 0;
    int64_t n;
    run(&o);
    for (size_t k = 0; k < CN_COUNT(zero); k++) {
        float *x = read_tensor(dir, zero[k], &n);
        for (int64_t i = 0; i < n; i++) assert_true(x[i] == 0);
        free(x);
    }
    /* 16 channels in 4 groups: deviation of the constants in each is 2 */
    float *constant = read_tensor(dir, "decoder.up_blocks.3.resnets.1.conv2.bias", &n);
    assert_int_equal(n, 16);
    for (int64_t i = 0; i < n; i++) {
        const float expected = i % 4 == 0 ? sqrtf(8) : i % 4 == 1 ? -sqrtf(8) : 0;
        assert_true(fabsf(constant[i] - expected) < 2e-3f); /* F16 */
    }
    float *bias = read_tensor(dir, "quant_conv.bias", &n);
    for (int64_t i = n / 2; i < n; i++) assert_true(bias[i] == -6);
    free(constant);
    free(bias);
}

static void the_vae_goes_on_where_it_stopped(void **state)
{
    (void)state;
    char straight[256], stopped[256];
    path_in(straight, "vae-straight");
    path_in(stopped, "vae-stopped");
    cn_pretrain_options o = small(straight, "vae", 5);
    o.vae_passes = 2;
    o.save_steps = 1;
    o.muon = true;
    run(&o);
    o.output_dir = stopped;
    run_in_two(o);
    assert_true(same_file(straight, stopped, vae_weights));
    assert_true(same_file(straight, stopped, "vae/config.json"));
    /* a network of other sizes can't go on from there */
    o.vae_widths[0] = 32;
    refused(cn_pretrain(ctx, &o), CN_EMISMATCH, "sizes must be those that it was begun with");
}

static void the_unet_goes_on_where_it_stopped(void **state)
{
    (void)state;
    char straight[256], stopped[256];
    path_in(straight, "unet-straight");
    path_in(stopped, "unet-stopped");
    begin(straight);
    begin(stopped);
    cn_pretrain_options o = small(straight, "unet", 5);
    o.unet_passes = 2;
    run(&o);
    o.output_dir = stopped;
    run_in_two(o);
    assert_true(same_file(straight, stopped, unet_weights));
    assert_true(same_file(straight, stopped, text_weights));
}

/* Another seed's captions would give other tokens, which the weights don't know. */
static void a_unet_starts_with_its_own_tokens(void **state)
{
    (void)state;
    char from[256], to[256];
    path_in(from, "tokens-from");
    path_in(to, "tokens-to");
    begin(from);
    begin(to);
    cn_pretrain_options o = small(from, "unet", 1);
    run(&o);
    o.output_dir = to;
    o.seed = 9;
    o.start_from = from;
    o.unet_lr = 0; /* nothing is learned */
    run(&o);
    assert_true(same_file(from, to, "tokenizer/vocab.json"));
    assert_true(same_file(from, to, "tokenizer/merges.txt"));
    assert_true(same_file(from, to, text_weights));
    assert_true(same_file(from, to, unet_weights));
}

static void the_decoder_alone_learns_and_goes_on_where_it_stopped(void **state)
{
    (void)state;
    char begun[256], straight[256], stopped[256];
    int64_t same, all;
    path_in(begun, "begun");
    path_in(straight, "straight");
    path_in(stopped, "stopped");
    begin(begun);
    begin(straight);
    begin(stopped);
    cn_pretrain_options o = small(straight, "decoder", 4);
    run(&o);
    o.output_dir = stopped;
    run_in_two(o);
    assert_true(same_file(straight, stopped, vae_weights));
    assert_true(same_file(begun, straight, "vae/config.json"));
    count_same(begun, straight, "encoder.", &same, &all);
    assert_true(all > 0);
    assert_int_equal(same, all);
    count_same(begun, straight, "quant_conv.", &same, &all);
    assert_int_equal(all, 2);
    assert_int_equal(same, all);
    count_same(begun, straight, "decoder.", &same, &all);
    assert_true(same < all / 2);
}

/* --- on a device ------------------------------------------------------------------------------ */

typedef struct losses {
    cn_ctx *ctx;
    double list[4];
    int n;
} losses;

/* Two steps; what is looked at behind the last one would take most of the time. */
static void note_loss(void *user, const char *stage, int64_t step, int64_t steps, double loss,
                      double seconds)
{
    losses *l = user;
    (void)steps, (void)seconds;
    if (!strcmp(stage, "encode")) return;
    if (l->n < (int)CN_COUNT(l->list)) l->list[l->n++] = loss;
    if (step == 2) cn_cancel(l->ctx);
}

/* Both stages on the device that suits best: the CPU's losses but for roundings, which a step or
 * two amplify; what it can't do is refused. */
static void a_device_learns_as_the_cpu(void **state)
{
    (void)state;
    losses seen[2] = {0};
    char dir[2][256], name[16], *text = NULL;
    if (cn_devices(ctx, false, &text) != CN_OK) {
        print_message("SKIP %s\n", cn_error(ctx));
        skip();
    }
    cn_free(text);
    for (int k = 0; k < 4; k++) {
        const char *stage = k < 2 ? "vae" : "unet";
        snprintf(name, sizeof name, "%s-%s", k % 2 ? "device" : "cpu", stage);
        path_in(dir[k % 2], name);
        if (k >= 2) begin(dir[k % 2]);
        cn_pretrain_options o = small(dir[k % 2], stage, 4);
        o.device = k % 2 ? "vulkan" : "cpu";
        o.progress = note_loss;
        o.user = &seen[k % 2];
        assert_non_null(seen[k % 2].ctx = cn_ctx_create(1));
        assert_int_equal(cn_pretrain(seen[k % 2].ctx, &o), CN_ECANCELLED);
        cn_ctx_destroy(seen[k % 2].ctx);
    }
    assert_int_equal(seen[0].n, 4);
    assert_int_equal(seen[1].n, 4);
    for (int i = 0; i < 4; i++)
        if (!(fabs(seen[0].list[i] - seen[1].list[i]) <= 1e-3 * fabs(seen[0].list[i])))
            fail_msg("loss %d: %.9g, %.9g on the device", i, seen[0].list[i], seen[1].list[i]);
    assert_false(same_file(dir[0], dir[1], "state/unet.0.safetensors")); /* it was the device */
    path_in(dir[0], "device-refused");
    cn_pretrain_options o = small(dir[0], "vae", 1);
    o.device = "vulkan";
    o.muon = true;
    refused(cn_pretrain(ctx, &o), CN_EINVAL, "Muon doesn't run on this device (vulkan)");
    o.muon = false;
    o.bf16 = true;
    refused(cn_pretrain(ctx, &o), CN_EINVAL, "the device doesn't multiply bfloat16");
    o.device = "gpu";
    refused(cn_pretrain(ctx, &o), CN_EINVAL, "--device gpu");
}

static void a_decoder_needs_a_finished_vae(void **state)
{
    (void)state;
    char dir[256];
    path_in(dir, "none");
    cn_pretrain_options o = small(dir, "decoder", 4);
    refused(cn_pretrain(ctx, &o), CN_EIO, "vae/config.json");
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char dir[256];
    path_in(dir, "refused");
    cn_pretrain_options o = small(dir, NULL, 4);
    o.unet_widths[1] = 40;
    refused(cn_pretrain(ctx, &o), CN_EINVAL, "multiples of 16");
    o = small(dir, NULL, 4);
    o.crop_px = 128;
    refused(cn_pretrain(ctx, &o), CN_EINVAL, "--crop 128: must be a multiple of 8");
    o = small(dir, NULL, 4);
    o.v_prediction = false;
    o.zero_snr = true;
    refused(cn_pretrain(ctx, &o), CN_EINVAL, "zero terminal SNR");
}

/* --- eight latent channels -------------------------------------------------------------------- */

typedef struct previewed {
    int calls;
    int64_t width;
} previewed;

static void preview(void *user, int done, int total, cn_image *const *images, int count)
{
    (void)done, (void)total;
    previewed *p = user;
    p->calls += count;
    p->width = images[0]->width;
}

static void draw(const char *model, const char *control, const cn_image *condition)
{
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    previewed seen = {0};
    const cn_pipeline_options po = {.model = model, .controls = &control, .n_controls = 1};
    const cn_control_options co = {.image = condition, .strength = 1, .end = 1};
    cn_generate_options o;
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.controls = &co;
    o.width = o.height = 64;
    o.steps = 3;
    o.preview = preview;
    o.preview_interval = 1;
    o.user = &seen;
    must(cn_pipeline_create(ctx, &po, &p));
    must(cn_generate(p, &o, &g));
    assert_int_equal(g->images[0]->width, 64);
    assert_true(seen.calls > 0);
    assert_int_equal(seen.width, 64);
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
}

static void train_control(const char *model, const char *data, const char *out)
{
    cn_train_options o;
    cn_train_options_default(&o);
    o.model = model;
    o.train_data_dir = data;
    o.output_dir = out;
    o.resolution = 64;
    o.train_batch_size = 2;
    o.max_train_steps = 2;
    o.validation_steps = 0;
    must(cn_train(ctx, &o, NULL, NULL));
}

/* Eight latent channels, no transformers at the finest level, two in a row at the next: trained,
 * looked into, drawn with under control, previewed, made one file, evaluated. */
static void other_sizes_work_everywhere(void **state)
{
    (void)state;
    char model[256], data[256], control[256], single[256], back[256];
    path_in(model, "eight");
    path_in(data, "eight-data");
    path_in(control, "eight-control");
    path_in(single, "eight.safetensors");
    path_in(back, "eight-back");
    cn_pretrain_options o = small(model, NULL, 6);
    o.latent_channels = 8;
    memcpy(o.unet_transformers, (int64_t[]){0, 2, 1}, sizeof o.unet_transformers);
    run(&o);
    char *text = NULL;
    must(cn_inspect(ctx, model, false, &text));
    assert_non_null(strstr(text, "8 latent channels"));
    cn_free(text);
    must(cn_convert(ctx, model, single, &(cn_convert_options){.to_single_file = true}));
    must(cn_convert(ctx, single, back, NULL));
    assert_true(same_file(model, back, unet_weights));
    assert_true(same_file(model, back, vae_weights));
    assert_true(same_file(model, back, "unet/config.json"));
    must(cn_dataset_scenes(
        ctx, &(cn_scenes_options){
                 .output_dir = data, .count = 4, .seed = 3, .size_px = 64, .condition = "edges"}));
    train_control(model, data, control);
    cn_image *condition = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s/source/0.png", data);
    must(cn_image_load(ctx, path, &condition));
    draw(model, control, condition);
    cn_image_destroy(condition);
    cn_pretrain_evaluate_options e;
    cn_pretrain_evaluation found;
    cn_pretrain_evaluate_defaults(&e);
    e.model = model;
    e.control_nets = (const char *const[]){control, NULL};
    e.conditions = (const char *const[]){"edges", NULL};
    e.control_scenes = 2;
    e.reader_steps = 2;
    e.scenes = 9;
    e.prompts = 3;
    e.pictures = 4;
    e.pairs = 2;
    e.classifier_steps = 3;
    e.steps = 2;
    must(cn_pretrain_evaluate(ctx, &e, &found));
    assert_int_equal(found.size_px, 64);
    assert_true(found.scenes == 9 && found.prompts == 3 && found.pictures == 4 && found.pairs == 2);
    assert_true(found.psnr_db > 3 && found.psnr_db < 60);
    assert_true(found.edge_f1 >= 0 && found.edge_f1 <= 1);
    assert_true(found.classified && found.n_shapes > 0);
    assert_true(isfinite(found.frechet) && found.frechet >= 0 && found.frechet_floor >= 0);
    assert_true(found.pairs_right <= 2 && found.pair_colours_right <= 4);
    assert_true(found.control_scenes == 2 && found.n_follow == 1);
    assert_string_equal(found.follow[0].measure, "edge F1");
    assert_true(found.follow[0].scenes <= 2 && found.follow[0].with <= 1 &&
                found.follow[0].truth <= 1);
    /* an annotator's condition, and the scene's own picture has exactly that one */
    e.conditions = (const char *const[]){"canny low=50", NULL};
    e.prompts = e.pictures = e.scenes = 0;
    must(cn_pretrain_evaluate(ctx, &e, &found));
    assert_true(found.pairs == 0 && found.n_follow == 1 && found.follow[0].scenes == 2);
    assert_true(found.follow[0].truth == 1);
    e.conditions = (const char *const[]){"canny", "depth", NULL};
    assert_int_equal(cn_pretrain_evaluate(ctx, &e, &found), CN_EINVAL);
    e.conditions = (const char *const[]){"edges", NULL};
    e.control_scenes = 0;
    e.prompts = 3;
    e.pictures = 4;
    /* without a classifier there are neither shapes nor a distance */
    e.simple_scenes = true;
    e.classifier_steps = 0;
    e.scenes = 0;
    must(cn_pretrain_evaluate(ctx, &e, &found));
    assert_true(found.scenes == 0 && found.prompts == 3 && found.pictures == 0 && found.pairs == 2);
    assert_false(found.classified);
}

/* --- parts ------------------------------------------------------------------------------------ */

static void the_rate_rises_stays_and_falls(void **state)
{
    (void)state;
    cn_learner_options o = {.lr = 2, .steps = 100, .warmup_steps = 10, .decay_part = 0.2};
    assert_true(fabs(cn_learner_rate(&o, 0) - 0.2) < 1e-12);
    assert_true(fabs(cn_learner_rate(&o, 9) - 2) < 1e-12);
    assert_true(fabs(cn_learner_rate(&o, 80) - 2) < 1e-12);
    assert_true(fabs(cn_learner_rate(&o, 90) - 2 * (0.01 + 0.99 * 0.5)) < 1e-9);
    assert_true(fabs(cn_learner_rate(&o, 100) - 0.02) < 1e-9);
    /* more steps change nothing before the fall */
    o.steps = 200;
    assert_true(fabs(cn_learner_rate(&o, 80) - 2) < 1e-12);
}

static void keep_loss(void *user, const char *stage, int64_t step, int64_t steps, double loss,
                      double seconds)
{
    (void)stage, (void)steps, (void)seconds;
    if (step == 1) *(double *)user = loss;
}

/* Its weight counts what it says, on crops and whole pictures; sizes that latents of half the size
 * don't divide don't exist: they are multiples of 32. */
static void half_size_errors_count_by_their_weight(void **state)
{
    (void)state;
    double loss[3];
    for (int k = 0; k < 3; k++) {
        char dir[300];
        snprintf(dir, sizeof dir, "%s/half_%d", root, k);
        cn_pretrain_options o = small(dir, "vae", 2);
        o.half_size_weight = k;
        o.progress = keep_loss;
        o.user = &loss[k];
        must(cn_pretrain(ctx, &o));
    }
    assert_true(loss[1] > loss[0] + 0.1);
    assert_true(fabs(loss[2] - loss[1] - (loss[1] - loss[0])) < 1e-4 * loss[2]);
}

/* Independent features: sum of (m1 - m2)^2 + (s1 - s2)^2, by hand from the sets' own moments. */
static void the_frechet_distance_is_that_of_the_formula(void **state)
{
    (void)state;
    /* two features at the corners of rectangles: no covariance */
    static const float a[][2] = {{-1, -2}, {1, -2}, {-1, 2}, {1, 2}};
    static const float b[][2] = {{2, -1}, {8, -1}, {2, 1}, {8, 1}};
    cn_moments m[2];
    double d;
    for (int k = 0; k < 2; k++) {
        must(cn_moments_create(ctx, 2, &m[k]));
        for (int i = 0; i < 4; i++) cn_moments_add(&m[k], k ? b[i] : a[i]);
    }
    must(cn_frechet_distance(ctx, &m[0], &m[1], &d));
    /* deviations sqrt(4/3) times (1, 2) and (3, 1); means (0, 0) and (5, 0) */
    assert_true(fabs(d - (25 + 4.0 / 3 * (4 + 1))) < 1e-9);
    must(cn_frechet_distance(ctx, &m[0], &m[0], &d));
    assert_true(fabs(d) < 1e-9);
    /* turned by 45 degrees both: the same distance, now with covariances */
    cn_moments t[2];
    for (int k = 0; k < 2; k++) {
        must(cn_moments_create(ctx, 2, &t[k]));
        for (int i = 0; i < 4; i++) {
            const float *p = k ? b[i] : a[i], r = sqrtf(0.5f);
            cn_moments_add(&t[k], (float[]){r * (p[0] - p[1]), r * (p[0] + p[1])});
        }
    }
    must(cn_frechet_distance(ctx, &t[0], &t[1], &d));
    assert_true(fabs(d - (25 + 4.0 / 3 * (4 + 1))) < 1e-4);
    for (int k = 0; k < 2; k++) {
        cn_moments_destroy(&m[k]);
        cn_moments_destroy(&t[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stage_starts_from_a_folder_s_weights),
        cmocka_unit_test(the_vae_begins_nearly_linear),
        cmocka_unit_test(the_vae_goes_on_where_it_stopped),
        cmocka_unit_test(the_unet_goes_on_where_it_stopped),
        cmocka_unit_test(a_unet_starts_with_its_own_tokens),
        cmocka_unit_test(the_decoder_alone_learns_and_goes_on_where_it_stopped),
        cmocka_unit_test(a_device_learns_as_the_cpu),
        cmocka_unit_test(a_decoder_needs_a_finished_vae),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(other_sizes_work_everywhere),
        cmocka_unit_test(half_size_errors_count_by_their_weight),
        cmocka_unit_test(the_rate_rises_stays_and_falls),
        cmocka_unit_test(the_frechet_distance_is_that_of_the_formula),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
