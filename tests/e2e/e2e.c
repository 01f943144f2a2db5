/* SPDX-License-Identifier: Apache-2.0 */
/* e2e.c - `e2e DIR [--controlnet PROGRAM] [--precision f32|bf16|f16]
 * [--weight-type f32|f16|bf16|q8] [--case NAME]`: the program against the published pipelines'
 * pictures.
 *
 * Every case of DIR/cases.json is drawn by PROGRAM (controlnet of the same build) from the model as
 * a folder and again from the same as a single file (the case's own "model" and "model_single", or
 * those that DIR has), and compared with DIR/NAME.png (at least 60 dB: 40 let a wrong timestep or a
 * missing embedding pass) and with the final latents in DIR/cases.safetensors (1e-3 of the
 * largest). With --precision bf16 or --weight-type the cases are drawn so and 30 or 35 dB are
 * enough, of pictures and of latents. On the device that CN_DEVICE names 40 dB are enough (latents:
 * 1e-2 of the largest), 30 with --precision f16. Where DIR holds no model, it is written from
 * DIR/../core's manifests (with what DIR/unet.json says of its UNet, if any). DIR/tokens.json goes
 * through the tokenizers.
 */
#include "../support/child.h"
#include "../support/report.h"
#include "../support/tiny_model.h"
#include "../support/values.h"

#include "cpu/cpu.h"
#include "image/image.h"
#include "io/json.h"
#include "io/tensors.h"
#include "model/text/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 128, PATH_BYTES = 4096 };
static const double latent_tolerance = 1e-3;

typedef struct suite {
    cn_ctx *ctx;
    test_report report;
    const char *dir, *program;
    const char *precision;   /* --precision of the cases; NULL: none is given */
    const char *weight_type; /* and --weight-type */
    const char *device;      /* and --device, from CN_DEVICE */
    const char *only;        /* the one case to draw, or what its name begins with; NULL: all */
    bool own_models;         /* the cases say which model each is drawn with */
    double min_psnr_db;
    char temp[PATH_BYTES];   /* this run's own folder */
    char models[PATH_BYTES]; /* where the model and the ControlNets are: dir or temp */
    json_t *unet;            /* what differs in its UNet's configuration; NULL: nothing */
    json_t *cases;
    cn_tensors *latents; /* NULL: DIR has none */
} suite;

/* --- running the program ---------------------------------------------------------------------- */

typedef struct command {
    const char *args[MAX_ARGS];
    char text[MAX_ARGS][PATH_BYTES];
    int n;
} command;

static void add(command *c, const char *fmt, ...) CN_PRINTF(2, 3);
static void add(command *c, const char *fmt, ...)
{
    if (c->n >= MAX_ARGS - 1) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->text[c->n], PATH_BYTES, fmt, ap);
    va_end(ap);
    c->args[c->n] = c->text[c->n];
    c->n++;
}

/* Its exit status, 128 + the signal that ended it; stdout and stderr go to the file. */
static int run(const command *c, const char *output)
{
    const int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return 125;
    const int status = test_wait(test_start((char *const *)c->args, fd), TEST_CHILD_SECONDS);
    close(fd);
    return status;
}

static command *new_command(const suite *s, const char *name)
{
    command *c = test_alloc(sizeof *c);
    memset(c, 0, sizeof *c);
    add(c, "%s", s->program);
    add(c, "%s", name);
    return c;
}

static char *text_of(const suite *s, const char *path)
{
    char *text = NULL;
    size_t n = 0;
    return cn_file_read(s->ctx, path, 1 << 24, &text, &n) == CN_OK ? text : NULL;
}

/* --- one case --------------------------------------------------------------------------------- */

/* A path of cases.json: beside it, or a network that was written. */
static void add_path(const suite *s, command *c, const char *name)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.2000s/%.1000s", s->models, name);
    if (cn_file_exists(path) || cn_dir_exists(path))
        add(c, "%s", path);
    else
        add(c, "%.2000s/%.1000s", s->dir, name);
}

/* A number for every ControlNet, or a list with one for each. */
static double number_of(const json_t *entry, const char *key, size_t k, double otherwise)
{
    const json_t *v = json_object_get(entry, key);
    if (json_is_array(v)) v = json_array_get(v, k);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

/* Control mode, weights and region of ControlNet k, where the case has them. */
static void add_steering(const suite *s, command *c, const json_t *entry, size_t k)
{
    const json_t *mode = json_array_get(json_object_get(entry, "control_mode"), k);
    const json_t *weights = json_array_get(json_object_get(entry, "control_weights"), k);
    const json_t *mask = json_array_get(json_object_get(entry, "control_mask"), k);
    if (json_is_string(mode)) add(c, "--control-mode=%s", json_string_value(mode));
    if (json_is_string(mask)) {
        add(c, "--control-mask");
        add_path(s, c, json_string_value(mask));
    }
    if (!json_is_array(weights)) return;
    cn_str list = {0};
    for (size_t i = 0; i < json_array_size(weights); i++)
        cn_str_addf(&list, "%s%.9g", i ? "," : "", json_number_value(json_array_get(weights, i)));
    add(c, "--control-weights=%s", list.data ? list.data : "");
    cn_str_free(&list);
}

/* The value itself, or a list's entry. */
static const json_t *entry_of(const json_t *v, size_t i)
{
    return json_is_array(v) ? json_array_get(v, i) : v;
}

/* A Union's types, each with its picture and strength. */
static void add_conditions(const suite *s, command *c, const json_t *entry, size_t k)
{
    const json_t *types = json_object_get(entry, "control_type");
    const json_t *images = entry_of(json_object_get(entry, "image"), k);
    const json_t *scales = entry_of(json_object_get(entry, "scale"), k);
    add(c, "--union-attention=%s",
        strcmp(cn_json_str(entry, "attention_axis", ""), "batch") ? "conditions-only" : "batch");
    for (size_t i = 0; i < json_array_size(types); i++) {
        add(c, "--control-type=%s", json_string_value(json_array_get(types, i)));
        add(c, "--control-image");
        add_path(s, c, json_string_value(entry_of(images, i)));
        add(c, "--control_strength");
        add(c, "%.9g", json_number_value(entry_of(scales, i)));
    }
}

static void add_controls(const suite *s, command *c, const json_t *entry)
{
    const json_t *nets = json_object_get(entry, "controlnet");
    for (size_t k = 0; k < json_array_size(nets); k++) {
        add(c, "--control-net");
        add_path(s, c, json_string_value(json_array_get(nets, k)));
        if (json_object_get(entry, "control_type")) {
            add(c, "--control-start=%.9g", number_of(entry, "start", k, 0));
            add(c, "--control-end=%.9g", number_of(entry, "end", k, 1));
            add_conditions(s, c, entry, k);
            continue;
        }
        add(c, "--control-image");
        add_path(s, c, json_string_value(json_array_get(json_object_get(entry, "image"), k)));
        add(c, "--control_strength");
        add(c, "%.9g", number_of(entry, "scale", k, 1));
        add(c, "--control-start=%.9g", number_of(entry, "start", k, 0));
        add(c, "--control-end=%.9g", number_of(entry, "end", k, 1));
        add_steering(s, c, entry, k);
    }
}

static void add_sampling(command *c, const json_t *entry)
{
    const char *sampler = cn_json_str(entry, "sampler", ""), *end = strstr(sampler, "_karras");
    add(c, "--sampling-method");
    add(c, "%.*s", end ? (int)(end - sampler) : 64, sampler);
    if (end) add(c, "--scheduler=karras");
    add(c, "--steps");
    add(c, "%lld", (long long)cn_json_int(entry, "steps", 20));
    add(c, "--cfg-scale");
    add(c, "%.9g", cn_json_number(entry, "cfg_scale", 7.5));
    add(c, "--seed");
    add(c, "%lld", (long long)cn_json_int(entry, "seed", 0));
    add(c, "-W%lld", (long long)cn_json_int(entry, "width", 0));
    add(c, "-H%lld", (long long)cn_json_int(entry, "height", 0));
    add(c, "-b%lld", (long long)cn_json_int(entry, "batch", 1));
    if (json_object_get(entry, "clip_skip"))
        add(c, "--clip-skip=%lld", (long long)cn_json_int(entry, "clip_skip", 0) + 1);
}

static void add_rest(const suite *s, command *c, const json_t *entry)
{
    const char *init = cn_json_str(entry, "init", NULL), *mask = cn_json_str(entry, "mask", NULL);
    /* diffusers' own argument is a bool */
    const char *guess = json_is_true(json_object_get(entry, "guess_mode"))
                            ? "diffusers"
                            : cn_json_str(entry, "guess_mode", NULL);
    if (guess) add(c, "--guess-mode=%s", guess);
    if (init) {
        add(c, "-i");
        add_path(s, c, init);
        add(c, "--strength=%.9g", cn_json_number(entry, "strength", 1));
    }
    if (mask) {
        add(c, "--mask-style=diffusers");
        add(c, "--mask");
        add_path(s, c, mask);
    }
    if (json_object_get(entry, "guidance_rescale"))
        add(c, "--guidance-rescale=%.9g", cn_json_number(entry, "guidance_rescale", 0));
    if (json_object_get(entry, "timestep_spacing"))
        add(c, "--timestep-spacing=%s", cn_json_str(entry, "timestep_spacing", ""));
    if (cn_json_bool(entry, "rescale_betas_zero_snr", false)) add(c, "--rescale-betas-zero-snr");
    if (cn_json_bool(entry, "v_prediction", false)) add(c, "--prediction=v");
    if (json_object_get(entry, "hires_scale")) {
        add(c, "--hires-scale=%.9g", cn_json_number(entry, "hires_scale", 1));
        add(c, "--hires-steps=%lld", (long long)cn_json_int(entry, "hires_steps", 0));
        add(c, "--hires-strength=%.9g", cn_json_number(entry, "hires_strength", 0));
        add(c, "--hires-upscaler=%s", cn_json_str(entry, "hires_upscaler", "latent"));
    }
}

static void add_pair(command *c, const json_t *entry, const char *key, const char *option,
                     const char *between)
{
    const json_t *v = json_object_get(entry, key);
    if (!json_is_array(v)) return;
    /* height, or top, comes first in diffusers */
    add(c, "--%s=%lld%s%lld", option, (long long)json_integer_value(json_array_get(v, 1)), between,
        (long long)json_integer_value(json_array_get(v, 0)));
}

/* What SDXL is told beside the prompt. */
static void add_sdxl(command *c, const json_t *entry)
{
    if (json_object_get(entry, "prompt_2"))
        add(c, "--prompt-2=%s", cn_json_str(entry, "prompt_2", ""));
    if (json_object_get(entry, "negative_prompt_2"))
        add(c, "--negative-prompt-2=%s", cn_json_str(entry, "negative_prompt_2", ""));
    if (json_object_get(entry, "eta")) add(c, "--eta=%.9g", cn_json_number(entry, "eta", 0));
    add_pair(c, entry, "original_size", "original-size", "x");
    add_pair(c, entry, "target_size", "target-size", "x");
    add_pair(c, entry, "crops_coords_top_left", "crop", ",");
    add_pair(c, entry, "negative_original_size", "negative-original-size", "x");
    add_pair(c, entry, "negative_target_size", "negative-target-size", "x");
    add_pair(c, entry, "negative_crops_coords_top_left", "negative-crop", ",");
}

/* The case's own "arguments"; what begins with '@' is a path in the folder of the cases. */
static void add_arguments(const suite *s, command *c, const json_t *entry)
{
    const json_t *list = json_object_get(entry, "arguments");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text[0] == '@')
            add(c, "%.2000s/%.1000s", s->dir, text + 1);
        else
            add(c, "%s", text);
    }
}

static double psnr_db(const cn_image *a, const cn_image *b)
{
    double sum = 0;
    int64_t n = a->width * a->height * 3;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a->rgb[i] - b->rgb[i];
        sum += d * d;
    }
    return sum > 0 ? 10 * log10(255.0 * 255.0 * (double)n / sum) : INFINITY;
}

static void compare_image(suite *s, const char *label, const char *got, const char *want,
                          double min_psnr_db)
{
    cn_image *a = NULL, *b = NULL;
    cn_status status = cn_image_load(s->ctx, got, &a);
    if (status == CN_OK) status = cn_image_load(s->ctx, want, &b);
    if (status != CN_OK)
        report_check(&s->report, false, "%s: %s", label, cn_error(s->ctx));
    else if (a->width != b->width || a->height != b->height)
        report_check(&s->report, false, "%s: %lld x %lld, should be %lld x %lld", label,
                     (long long)a->width, (long long)a->height, (long long)b->width,
                     (long long)b->height);
    else {
        double db = psnr_db(a, b);
        report_check(&s->report, db >= min_psnr_db, "%-40s %.1f dB, at least %.0f", label, db,
                     min_psnr_db);
    }
    cn_image_destroy(a);
    cn_image_destroy(b);
}

/* Each latent in F32; otherwise their mean square, in dB of the largest: single ones are lost by
 * rounding where a sampler divides by a small alpha. (diffusers' own float16 puts one of
 * lcm_image's off by 0.028 of the largest, 0.0073 in the mean square; bfloat16: 0.052, 0.016.) */
static void check_latents(suite *s, const char *title, const float *got, const float *want,
                          int64_t n)
{
    if (s->min_psnr_db >= 40) {
        report_close(&s->report, title, got, want, n,
                     s->device ? pow(10, -s->min_psnr_db / 20) : latent_tolerance);
        return;
    }
    double sum = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)got[i] - want[i];
        sum += d * d;
        largest = fmax(largest, fabs(want[i]));
    }
    double db = sum > 0 ? 10 * log10(largest * largest * (double)n / sum) : INFINITY;
    report_check(&s->report, db >= s->min_psnr_db, "%-40s %.1f dB, at least %.0f", title, db,
                 s->min_psnr_db);
}

static void compare_latents(suite *s, const char *label, const char *got, const char *name)
{
    const cn_tensor_info *want = s->latents ? cn_tensors_find(s->latents, name) : NULL;
    cn_tensors *file = NULL;
    if (!want) return;
    if (cn_tensors_open(s->ctx, got, &file) != CN_OK) {
        report_check(&s->report, false, "%s latents: %s", label, cn_error(s->ctx));
        return;
    }
    const cn_tensor_info *t = cn_tensors_at(file, 0);
    if (!t || t->elements != want->elements) {
        report_check(&s->report, false, "%s latents: of another size", label);
    } else {
        float *a = test_alloc((size_t)t->elements * sizeof *a);
        float *b = test_alloc((size_t)t->elements * sizeof *b);
        char title[256];
        snprintf(title, sizeof title, "%s latents", label);
        if (cn_tensors_read(s->ctx, file, t, a) == CN_OK &&
            cn_tensors_read(s->ctx, s->latents, want, b) == CN_OK)
            check_latents(s, title, a, b, t->elements);
        else
            report_check(&s->report, false, "%s: %s", title, cn_error(s->ctx));
        free(a);
        free(b);
    }
    cn_tensors_close(file);
}

/* The reference code's own two cases: it cuts off to bytes where diffusers rounds. */
static double least_psnr_db(const suite *s, const char *name)
{
    static const char *const cut_off[] = {"official_ddim", "guess_lllyasviel"};
    for (size_t i = 0; i < CN_COUNT(cut_off); i++)
        if (!strcmp(name, cut_off[i])) return fmin(s->min_psnr_db, 50);
    return s->min_psnr_db;
}

static void compare_case(suite *s, const char *label, const char *name, const json_t *entry)
{
    char got[PATH_BYTES], want[PATH_BYTES], title[256];
    int batch = (int)cn_json_int(entry, "batch", 1), seen = 0;
    for (int i = 0; i < batch; i++) {
        char number[16] = "";
        if (batch > 1) snprintf(number, sizeof number, "_%d", i);
        snprintf(got, sizeof got, "%.2000s/out%s.png", s->temp, number);
        snprintf(want, sizeof want, "%.2000s/%.200s%s.png", s->dir, name, number);
        snprintf(title, sizeof title, "%s%s", label, number);
        if (!cn_file_exists(want)) continue;
        compare_image(s, title, got, want, least_psnr_db(s, name));
        seen++;
    }
    snprintf(got, sizeof got, "%.2000s/out.safetensors", s->temp);
    compare_latents(s, label, got, name);
    if (!seen && !(s->latents && cn_tensors_find(s->latents, name)))
        report_check(&s->report, false, "%s: nothing to compare with", label);
}

static void run_case(suite *s, const char *model, const char *name, const json_t *entry)
{
    char label[200], log[PATH_BYTES];
    snprintf(label, sizeof label, "%s %s", name, model);
    if (!strcmp(cn_json_str(entry, "attention_axis", ""), "conditions")) {
        report_skip(&s->report, "%s: no program draws so, and this one doesn't either", label);
        return;
    }
    snprintf(log, sizeof log, "%.2000s/log", s->temp);
    command *c = new_command(s, "generate");
    add(c, "-m");
    add(c, "%s/%s", s->models, model);
    if (strchr(model, '.')) {
        add(c, "--tokenizer");
        add(c, "%s/%s/tokenizer", s->models, cn_json_str(entry, "model", "model"));
    }
    add(c, "-p");
    add(c, "%s", cn_json_str(entry, "prompt", ""));
    if (!json_is_null(json_object_get(entry, "negative_prompt"))) {
        add(c, "-n");
        add(c, "%s", cn_json_str(entry, "negative_prompt", ""));
    }
    add_controls(s, c, entry);
    add_sampling(c, entry);
    add_rest(s, c, entry);
    add_sdxl(c, entry);
    add_arguments(s, c, entry);
    if (s->precision) add(c, "--precision=%s", s->precision);
    if (s->weight_type) add(c, "--weight-type=%s", s->weight_type);
    if (s->device) add(c, "--device=%s", s->device);
    add(c, "--save_latents");
    add(c, "%s/out.safetensors", s->temp);
    add(c, "-o");
    add(c, "%s/out.png", s->temp);
    int status = run(c, log);
    free(c);
    if (status == 0) {
        compare_case(s, label, name, entry);
        return;
    }
    char *text = text_of(s, log);
    report_check(&s->report, false, "%s: exit status %d: %s", label, status, text ? text : "");
    cn_free(text);
}

/* --- the command line ------------------------------------------------------------------------- */

/* Runs `PROGRAM generate` with the words and expects an exit status and one line holding `says`. */
static void expect_refusal(suite *s, int status, const char *says, const char *const *words)
{
    char log[PATH_BYTES];
    snprintf(log, sizeof log, "%.2000s/log", s->temp);
    command *c = new_command(s, "generate");
    for (; *words; words++) add(c, "%s", *words);
    int got = run(c, log);
    char *text = text_of(s, log);
    const char *end = text ? strchr(text, '\n') : NULL;
    bool one_line = end && !end[1];
    report_check(&s->report, got == status && one_line && strstr(text, says),
                 "refused, exit %d, naming \"%s\"%s%s", status, says,
                 got == status && one_line ? "" : ": ", got == status && one_line ? "" : text);
    cn_free(text);
    free(c);
}

static void check_refusals(suite *s)
{
    char model[PATH_BYTES], out[PATH_BYTES];
    snprintf(model, sizeof model, "%.2000s/model", s->models);
    snprintf(out, sizeof out, "%.2000s/no/such/out.png", s->temp);
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
    expect_refusal(s, 2, "--no-such", WORDS("-m", model, "-p", "", "--no-such", "1"));
    expect_refusal(s, 2, "--step", WORDS("-m", model, "-p", "", "--step", "4"));
    expect_refusal(s, 2, "--steps", WORDS("-m", model, "-p", "", "--steps", "four"));
    expect_refusal(s, 2, "MODEL", WORDS("-p", ""));
    expect_refusal(s, 2, "ddim", WORDS("-m", model, "-p", "", "--sampling-method", "magic"));
    expect_refusal(s, 2, "--control-net", WORDS("-m", model, "-p", "", "--control-image", "x.png"));
    expect_refusal(s, 1, "no/such", WORDS("-m", model, "-p", "", "-o", out));
    snprintf(out, sizeof out, "%.2000s/none", s->temp);
    expect_refusal(s, 1, "none", WORDS("-m", out, "-p", "", "--seed", "1"));
    expect_refusal(
        s, 1, "none",
        WORDS("-m", model, "-p", "", "-s1", "--control-net", out, "--control-image", out));
#undef WORDS
}

static bool same_bytes(suite *s, const char *one, const char *other)
{
    char *a = NULL, *b = NULL;
    size_t n = 0, m = 0;
    bool same = cn_file_read(s->ctx, one, 1 << 24, &a, &n) == CN_OK &&
                cn_file_read(s->ctx, other, 1 << 24, &b, &m) == CN_OK && n == m &&
                memcmp(a, b, n) == 0;
    cn_free(a);
    cn_free(b);
    return same;
}

/* The same request twice gives the same bytes, and the picture says how it was made. */
static void check_description(suite *s, const char *model)
{
    char out[PATH_BYTES], log[PATH_BYTES], *text = NULL;
    snprintf(log, sizeof log, "%.2000s/log", s->temp);
    snprintf(out, sizeof out, "%.2000s/same0.png", s->temp);
    for (int i = 0; i < 2; i++) {
        command *c = new_command(s, "generate");
        add(c, "-m%s/%s", s->models, model);
        for (const char *const *w =
                 (const char *const[]){"-pdog", "-nbad", "--steps=2", "-s5", "-W60", "-H64", NULL};
             *w; w++)
            add(c, "%s", *w);
        add(c, "-o%.2000s/same%d.png", s->temp, i);
        int status = run(c, log);
        free(c);
        report_check(&s->report, status == 0, "60 x 64 drawn as 64 x 64");
    }
    if (cn_png_text(s->ctx, out, "parameters", &text) != CN_OK) text = NULL;
    const char *want = "dog\nNegative prompt: bad\nSteps: 2, Sampler: DDIM, CFG scale: 7.5, Seed: "
                       "5, Size: 64x64, Model: model";
    report_check(&s->report, text && strncmp(text, want, strlen(want)) == 0, "PNG parameters");
    cn_free(text);
    char other[PATH_BYTES];
    snprintf(other, sizeof other, "%.2000s/same1.png", s->temp);
    report_check(&s->report, same_bytes(s, out, other), "the same seed gives the same bytes");
}

static void draw_words(suite *s, const char *const *words, const char *out)
{
    char log[PATH_BYTES];
    snprintf(log, sizeof log, "%.2000s/log", s->temp);
    command *c = new_command(s, "generate");
    for (; *words; words++) add(c, "%s", *words);
    add(c, "-o%.2000s/%s", s->temp, out);
    int status = run(c, log);
    free(c);
    char *text = status ? text_of(s, log) : NULL;
    report_check(&s->report, status == 0, "%s drawn%s%s", out, text ? ": " : "", text ? text : "");
    cn_free(text);
}

/* A picture's own options make its bytes again; others may be put over them. */
static void check_recipe(suite *s, const char *model)
{
    char from[PATH_BYTES], net[PATH_BYTES], image[PATH_BYTES], one[PATH_BYTES], other[PATH_BYTES];
    snprintf(one, sizeof one, "%.2000s/%.200s", s->models, model);
    snprintf(net, sizeof net, "%.2000s/controlnet_a", s->models);
    snprintf(image, sizeof image, "%.2000s/same0.png", s->temp);
    snprintf(from, sizeof from, "--from=%.2000s/first_1.png", s->temp);
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
    draw_words(
        s,
        WORDS("-m", one, "-p", "a \"d\u00f6g\"\n, (x)", "--steps=2", "-b2", "-W64", "-H64",
              "--grid", "--control-net", net, "--control-image", image, "--control-strength=0.6",
              "--seed=-1", "--vae_tiling", "--vae-tile-size=32", "--sampling-method=DPM++ 2M SDE",
              "--scheduler=karras", "--guidance_rescale=0.5", "--timestep-spacing=trailing",
              "--rescale-betas-zero-snr"),
        "first.png");
    draw_words(s, WORDS(from, "--grid"), "again.png");
    draw_words(s, WORDS(from, "--control-strength=0.1"), "weaker.png");
    draw_words(s, WORDS(from, "--control-net", net, "--control-image", image, "-b1"), "other.png");
    draw_words(s, WORDS(from, "--sampling-method=euler_a"), "sampled.png");
#undef WORDS
    static const char *const names[] = {"_0", "_1", "_grid"};
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        snprintf(one, sizeof one, "%.2000s/first%s.png", s->temp, names[i]);
        snprintf(other, sizeof other, "%.2000s/again%s.png", s->temp, names[i]);
        report_check(&s->report, same_bytes(s, one, other), "--from makes picture %s's bytes again",
                     names[i]);
    }
    snprintf(one, sizeof one, "%.2000s/first_0.png", s->temp);
    snprintf(other, sizeof other, "%.2000s/weaker_0.png", s->temp);
    report_check(&s->report, cn_file_exists(other) && !same_bytes(s, one, other),
                 "an option over a picture's own");
    char *text = NULL;
    snprintf(other, sizeof other, "%.2000s/sampled_1.png", s->temp);
    if (cn_png_text(s->ctx, other, "parameters", &text) != CN_OK) text = NULL;
    report_check(&s->report,
                 text && strstr(text, "Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5"),
                 "another sampler over a picture's own");
    cn_free(text);
    cn_image *grid = NULL, *half = NULL;
    snprintf(other, sizeof other, "%.2000s/first_grid.png", s->temp);
    bool good = cn_image_load(s->ctx, other, &grid) == CN_OK &&
                cn_image_load(s->ctx, one, &half) == CN_OK && grid->width == 128 &&
                grid->height == 64;
    for (int64_t y = 0; good && y < 64; y++)
        good = memcmp(grid->rgb + y * 128 * 3, half->rgb + y * 64 * 3, 64 * 3) == 0;
    report_check(&s->report, good, "two pictures in a grid");
    cn_image_destroy(grid);
    cn_image_destroy(half);
}

/* Looking at a drawing changes nothing in it; two pictures stand side by side. */
static void check_preview(suite *s, const char *by)
{
    char kind[64];
    snprintf(kind, sizeof kind, "--preview=%s", by);
    char from[PATH_BYTES], path[PATH_BYTES], one[PATH_BYTES], other[PATH_BYTES];
    snprintf(from, sizeof from, "--from=%.2000s/first_1.png", s->temp);
    snprintf(path, sizeof path, "--preview-path=%.2000s/look.png", s->temp);
    draw_words(
        s,
        (const char *const[]){from, kind, path, "--preview-model=tests/golden/files/taesd", NULL},
        "looked.png");
    snprintf(one, sizeof one, "%.2000s/first_1.png", s->temp);
    snprintf(other, sizeof other, "%.2000s/looked_1.png", s->temp);
    report_check(&s->report, same_bytes(s, one, other),
                 "a preview by %s leaves the drawing as it is", by);
    cn_image *look = NULL;
    snprintf(other, sizeof other, "%.2000s/look.png", s->temp);
    bool good =
        cn_image_load(s->ctx, other, &look) == CN_OK && look->width == 128 && look->height == 64;
    report_check(&s->report, good, "a preview of two pictures by %s", by);
    cn_image_destroy(look);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static bool token_case(suite *s, const cn_tokenizer *t, const json_t *entry, const char *key)
{
    const json_t *text = json_object_get(entry, "text"), *want = json_object_get(entry, key);
    int64_t n = (int64_t)json_array_size(want), all = 0;
    int32_t *ids = NULL;
    bool same = cn_tokenizer_encode_bytes(s->ctx, t, json_string_value(text),
                                          json_string_length(text), &ids, &all) == CN_OK;
    int32_t *fit = test_alloc((size_t)(n + 2) * sizeof *fit);
    if (same) cn_tokenizer_fit(t, ids, all, fit, n);
    for (int64_t i = 0; same && i < n; i++)
        same = fit[i] == json_integer_value(json_array_get(want, (size_t)i));
    const json_t *whole = json_object_get(entry, "untruncated");
    if (same && whole) same = all == (int64_t)json_array_size(whole);
    for (int64_t i = 0; same && whole && i < all; i++)
        same = ids[i] == json_integer_value(json_array_get(whole, (size_t)i));
    free(fit);
    cn_free(ids);
    return same;
}

/* `key` of every text, by one of the model's tokenizers. */
static void check_tokenizer(suite *s, const json_t *list, const char *name, const char *key)
{
    char path[PATH_BYTES];
    cn_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%.2000s/model/%s", s->models, name);
    if (report_status(&s->report, name, s->ctx, cn_tokenizer_open(s->ctx, path, &t)))
        for (size_t i = 0; i < json_array_size(list); i++)
            report_check(&s->report, token_case(s, t, json_array_get(list, i), key),
                         "%s of text %d by %s", key, (int)i, name);
    cn_tokenizer_close(t);
}

static void check_tokens(suite *s)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.2000s/tokens.json", s->dir);
    if (!cn_file_exists(path)) return;
    /* Texts with \u0000 in them are among the cases. */
    json_t *list = json_load_file(path, JSON_ALLOW_NUL, NULL);
    report_check(&s->report, list != NULL, "tokens.json");
    check_tokenizer(s, list, "tokenizer", "ids");
    if (json_object_get(json_array_get(list, 0), "ids_2"))
        check_tokenizer(s, list, "tokenizer_2", "ids_2");
    json_decref(list);
}

/* --- all of it -------------------------------------------------------------------------------- */

/* controlnet_a as controlnet_pooled, with global average pooling. */
static cn_status write_pooled(suite *s)
{
    static const char *const names[] = {"controlnet_a", "controlnet_pooled"};
    static const char weights[] = "diffusion_pytorch_model.safetensors";
    char path[2][PATH_BYTES], *bytes = NULL;
    json_t *config = NULL;
    size_t n = 0;
    for (int i = 0; i < 2; i++)
        snprintf(path[i], PATH_BYTES, "%.2000s/%s/config.json", s->models, names[i]);
    CN_TRY(cn_json_load_file(s->ctx, path[0], &config));
    json_object_set_new(config, "global_pool_conditions", json_true());
    snprintf(path[0], PATH_BYTES, "%.2000s/%s", s->models, names[1]);
    cn_status status = cn_dir_make(s->ctx, path[0]);
    if (status == CN_OK) status = cn_json_save_file(s->ctx, path[1], config);
    json_decref(config);
    CN_TRY(status);
    for (int i = 0; i < 2; i++)
        snprintf(path[i], PATH_BYTES, "%.2000s/%s/%s", s->models, names[i], weights);
    CN_TRY(cn_file_read(s->ctx, path[0], 1 << 28, &bytes, &n));
    status = cn_file_write(s->ctx, path[1], bytes, n);
    cn_free(bytes);
    return status;
}

static cn_status find_models(suite *s)
{
    char path[PATH_BYTES], merges[PATH_BYTES];
    snprintf(path, sizeof path, "%.2000s/model", s->dir);
    bool there = cn_dir_exists(path);
    snprintf(s->models, sizeof s->models, "%.2000s", there ? s->dir : s->temp);
    if (there) return CN_OK;
    snprintf(path, sizeof path, "%.2000s/unet.json", s->dir);
    if (cn_file_exists(path)) CN_TRY(cn_json_load_file(s->ctx, path, &s->unet));
    snprintf(path, sizeof path, "%.2000s/../core", s->dir);
    snprintf(merges, sizeof merges, "%.2000s/merges.json", s->dir);
    if (!cn_file_exists(merges))
        snprintf(merges, sizeof merges, "%.2000s/../pipelines/merges.json", s->dir);
    CN_TRY(tiny_model_write_unet(s->ctx, path, merges, s->unet, s->temp));
    return write_pooled(s);
}

static cn_status prepare(suite *s)
{
    char path[PATH_BYTES];
    const char *base = getenv("TMPDIR");
    snprintf(s->temp, sizeof s->temp, "%.2000s/controlnet-e2e-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(s->temp)) return cn_fail(s->ctx, CN_EIO, "%s: %s", s->temp, strerror(errno));
    snprintf(path, sizeof path, "%.2000s/cases.json", s->dir);
    CN_TRY(cn_json_load_file(s->ctx, path, &s->cases));
    snprintf(path, sizeof path, "%.2000s/cases.safetensors", s->dir);
    if (cn_file_exists(path)) CN_TRY(cn_tensors_open(s->ctx, path, &s->latents));
    return find_models(s);
}

/* The picture same0.png (check_description) with other weights in memory. */
static void check_weight_types(suite *s, const char *model)
{
    static const struct {
        const char *type;
        double db;
    } rows[] = {{"f16", 45}, {"bf16", 30}};
    char one[PATH_BYTES], type[64], name[64], out[PATH_BYTES], want[PATH_BYTES];
    snprintf(one, sizeof one, "%.2000s/%.200s", s->models, model);
    snprintf(want, sizeof want, "%.2000s/same0.png", s->temp);
    for (size_t i = 0; i < CN_COUNT(rows); i++) {
        snprintf(type, sizeof type, "--weight-type=%s", rows[i].type);
        snprintf(name, sizeof name, "%s.png", rows[i].type);
        snprintf(out, sizeof out, "%.2000s/%s", s->temp, name);
        draw_words(s,
                   (const char *const[]){"-m", one, "-pdog", "-nbad", "--steps=2", "-s5", "-W60",
                                         "-H64", type, NULL},
                   name);
        compare_image(s, type, out, want, rows[i].db);
    }
    setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
    expect_refusal(s, 1, "bfloat16",
                   (const char *const[]){"-m", one, "-p", "", "-s1", "--precision=bf16", NULL});
    unsetenv("ONEDNN_MAX_CPU_ISA");
}

static void run_all(suite *s)
{
    static const char *const forms[] = {"model", "model.ckpt", "model.safetensors"};
    const char *name;
    json_t *entry;
    json_object_foreach(s->cases, name, entry)
    {
        s->own_models = s->own_models || json_object_get(entry, "model");
    }
    for (size_t f = 0; f < CN_COUNT(forms); f++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%.2000s/%s", s->models, forms[f]);
        if (!cn_file_exists(path) && !cn_dir_exists(path)) continue;
        json_object_foreach(s->cases, name, entry)
        {
            if (s->only && strncmp(name, s->only, strlen(s->only)) != 0) continue;
            const char *own = cn_json_str(entry, f ? "model_single" : "model", NULL);
            if (!json_object_get(entry, "model"))
                run_case(s, forms[f], name, entry);
            else if (own)
                run_case(s, own, name, entry);
        }
        if (s->weight_type || s->device)
            return; /* once is enough; the rest has to do with other options */
    }
    if (s->only) return;
    if (!s->unet && !s->own_models) {
        check_description(s, forms[0]);
        check_recipe(s, forms[0]);
        check_preview(s, "vae");
        check_preview(s, "taesd");
        check_preview(s, "latent");
        check_weight_types(s, forms[0]);
        check_refusals(s);
    }
    check_tokens(s);
}

static bool computes_bf16(cn_ctx *ctx)
{
    cn_backend *be = NULL;
    bool can = cn_backend_cpu_create(ctx, &be) == CN_OK && be->computes(be, CN_BF16);
    if (be) be->destroy(be);
    return can;
}

int main(int argc, char **argv)
{
    char program[PATH_MAX];
    suite s = {.program = program, .min_psnr_db = 60};
    const char *given = NULL;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--controlnet") == 0 && i + 1 < argc)
            given = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0 && i + 1 < argc)
            s.precision = argv[++i];
        else if (strcmp(argv[i], "--weight-type") == 0 && i + 1 < argc)
            s.weight_type = argv[++i];
        else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc)
            s.only = argv[++i];
        else
            s.dir = argv[i];
    bool bf16 = s.precision && strcmp(s.precision, "bf16") == 0;
    if (s.weight_type && strcmp(s.weight_type, "f32") != 0) s.min_psnr_db = 35;
    s.device = getenv("CN_DEVICE");
    if (s.device) s.min_psnr_db = fmin(s.min_psnr_db, 40);
    if (bf16 || (s.precision && strcmp(s.precision, "f16") == 0)) s.min_psnr_db = 30;
    if (bf16 && !computes_bf16(s.ctx)) {
        printf("SKIP --precision bf16: this processor has no bfloat16 arithmetic\n"
               "0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    if (!s.dir || !(s.ctx = cn_ctx_create(0))) {
        fprintf(stderr, "usage: e2e DIR [--controlnet PROGRAM] [--precision f32|bf16|f16] "
                        "[--weight-type f32|f16|bf16|q8] [--case NAME]\n");
        return 2;
    }
    if (!test_find_controlnet(given, program)) return 1;
    if (report_status(&s.report, "preparing", s.ctx, prepare(&s))) run_all(&s);
    if (s.temp[0]) tiny_model_remove(s.temp);
    cn_tensors_close(s.latents);
    json_decref(s.cases);
    json_decref(s.unet);
    cn_ctx_destroy(s.ctx);
    return report_end(&s.report);
}
