/* SPDX-License-Identifier: Apache-2.0 */
/* test_serve_others.c - the interfaces of other programs that `controlnet serve` has:
 * stable-diffusion-webui's with its ControlNet extension, and OpenAI's. */
#include "../support/unit/serving.h"

#include "../support/child.h"
#include "image/image.h"
#include "io/tensors.h"
#include "server/base64.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_WIDTH = 16 }; /* of tiny_base.h's encoder */

static json_t *post(const char *path, json_t *body)
{
    json_t *value = ask_json(&server, "POST", path, body, 200);
    json_decref(body);
    return value;
}

static json_t *get(const char *path)
{
    return ask_json(&server, "GET", path, NULL, 200);
}

static bool has_text(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), text)) return true;
    return false;
}

/* --- stable-diffusion-webui ------------------------------------------------------------------- */

static void test_txt2img(void **state)
{
    (void)state;
    need_server();
    char out[256];
    path_in(out, "drawn.png");
    RUN("generate", "-m", model, "-p", "a (red:1.2) cube", "-n", "blue", "--prompt-style", "webui",
        "-s", "9", "--steps", "3", "--sampling-method", "dpm++2m", "--scheduler", "karras",
        "--cfg-scale", "6", "-t", "1", "-o", out);
    json_t *value =
        post("/sdapi/v1/txt2img",
             json_pack("{s:s, s:s, s:i, s:i, s:s, s:s, s:f, s:i, s:b, s:[], s:n}", "prompt",
                       "a (red:1.2) cube", "negative_prompt", "blue", "seed", 9, "steps", 3,
                       "sampler_name", "DPM++ 2M", "scheduler", "Karras", "cfg_scale", 6.0,
                       "n_iter", 2, "restore_faces", 0, "styles", "script_name"));
    const json_t *images = json_object_get(value, "images");
    assert_int_equal(json_array_size(images), 2);
    assert_base64_like_file(json_array_get(images, 0), out);
    json_t *info = json_loads(text_of(value, "info"), 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(info, "seed")), 9);
    const json_t *seeds = json_object_get(info, "all_seeds");
    assert_int_equal(json_integer_value(json_array_get(seeds, 1)), 10);
    assert_string_equal(text_of(info, "prompt"), "a (red:1.2) cube");
    json_decref(info);
    json_decref(value);
}

static void test_units(void **state)
{
    (void)state;
    need_server();
    char out[256], a_png[256], a_mask[256], b_png[256], b_mask[256];
    path_in(out, "drawn.png");
    json_t *a = picture("a.png", 1, a_png), *mask = picture("am.png", 2, a_mask);
    json_t *b = picture("b.png", 3, b_png), *other_mask = picture("bm.png", 4, b_mask);
    RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9", "--steps",
        "4", "--sampling-method", "euler", "--cfg-scale", "7", "--control-net", net_a,
        "--control-image", a_png, "--control-mask", a_mask, "--control-strength", "0.6",
        "--control-start", "0.1", "--control-end", "0.9", "--control-preprocessor",
        "canny low=30 high=60", "--control-net", net_b, "--control-image", b_png, "--control-mask",
        b_mask, "--control-mode=controlnet", "--control-resize=stretch", "-W", "24", "-H", "16",
        "-t", "1", "-o", out);
    json_t *units = json_pack(
        "[{s:s, s:s, s:{s:O, s:O}, s:f, s:f, s:f, s:s, s:i, s:i, s:b}, {s:s, s:s, s:O, s:O, s:s, "
        "s:i, s:b}, {s:b}]",
        "module", "canny", "model", "a", "image", "image", a, "mask", mask, "weight", 0.6,
        "guidance_start", 0.1, "guidance_end", 0.9, "resize_mode", "Crop and Resize", "threshold_a",
        30, "threshold_b", 60, "pixel_perfect", 1, "module", "none", "model", "B", "input_image", b,
        "mask_image", other_mask, "control_mode", "ControlNet is more important", "resize_mode", 0,
        "save_detected_map", 0, "enabled", 0);
    json_t *value =
        post("/sdapi/v1/txt2img", json_pack("{s:s, s:i, s:i, s:i, s:i, s:{s:{s:o}}}", "prompt",
                                            "a cube", "seed", 9, "steps", 4, "width", 24, "height",
                                            16, "alwayson_scripts", "ControlNet", "args", units));
    const json_t *images = json_object_get(value, "images");
    assert_int_equal(json_array_size(images), 2); /* the drawing and the first unit's map */
    assert_base64_like_file(json_array_get(images, 0), out);
    json_decref(value);
    json_decref(a);
    json_decref(b);
    json_decref(mask);
    json_decref(other_mask);
}

/* Not a control, but options of the drawing. */
static void test_reference_unit(void **state)
{
    (void)state;
    need_server();
    char out[256], seen[256];
    path_in(out, "drawn.png");
    json_t *i = picture("r.png", 1, seen);
    RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9", "--steps",
        "4", "--sampling-method", "euler", "--cfg-scale", "7", "--reference", seen,
        "--reference-strength", "0.7", "--style-fidelity", "0.25", "-t", "1", "-o", out);
    json_t *unit = json_pack("{s:s, s:O, s:f, s:f}", "module", "reference_only", "image", i,
                             "weight", 0.7, "threshold_a", 0.25);
    json_t *value = post("/sdapi/v1/txt2img",
                         json_pack("{s:s, s:i, s:i, s:{s:{s:[o]}}}", "prompt", "a cube", "seed", 9,
                                   "steps", 4, "alwayson_scripts", "controlnet", "args", unit));
    const json_t *images = json_object_get(value, "images");
    assert_int_equal(json_array_size(images), 1);
    assert_base64_like_file(json_array_get(images, 0), out);
    json_decref(value);
    json_decref(i);
}

static void test_inpaint(void **state)
{
    (void)state;
    need_server();
    char out[256], init[256], mask[256];
    path_in(out, "drawn.png");
    json_t *i = picture("i.png", 1, init), *m = picture("m.png", 2, mask);
    RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9", "--steps",
        "4", "--sampling-method", "euler", "--cfg-scale", "7", "-i", init, "--mask", mask,
        "--strength", "0.6", "--mask-blur", "2", "--inpainting-fill", "latent-noise",
        "--inpainting-mask-invert", "-t", "1", "-o", out);
    json_t *value = post("/sdapi/v1/img2img",
                         json_pack("{s:s, s:i, s:i, s:[o], s:o, s:f, s:i, s:i, s:i, s:b}", "prompt",
                                   "a cube", "seed", 9, "steps", 4, "init_images", i, "mask", m,
                                   "denoising_strength", 0.6, "mask_blur", 2, "inpainting_fill", 2,
                                   "inpainting_mask_invert", 1, "inpaint_full_res", 0));
    assert_base64_like_file(json_array_get(json_object_get(value, "images"), 0), out);
    json_decref(value);
}

/* The extension's own preprocessor for it: the initial picture without what is drawn anew. */
static void test_inpaint_unit(void **state)
{
    (void)state;
    need_server();
    char out[256], init[256], mask[256];
    path_in(out, "drawn.png");
    json_t *i = picture("i.png", 1, init), *m = picture("m.png", 2, mask);
    RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9", "--steps",
        "4", "--sampling-method", "euler", "--cfg-scale", "7", "-i", init, "--mask", mask,
        "--strength", "0.6", "--mask-blur", "2", "--control-net", net_a, "--control-preprocessor",
        "inpaint", "--control-resize", "fill", "-t", "1", "-o", out);
    json_t *unit = json_pack("{s:s, s:s, s:s}", "module", "inpaint_only", "model", "a",
                             "resize_mode", "Outer Fit (Shrink to Fit)");
    json_t *value =
        post("/sdapi/v1/img2img",
             json_pack("{s:s, s:i, s:i, s:[o], s:o, s:f, s:i, s:i, s:b, s:{s:{s:[o]}}}", "prompt",
                       "a cube", "seed", 9, "steps", 4, "init_images", i, "mask", m,
                       "denoising_strength", 0.6, "mask_blur", 2, "inpainting_fill", 1,
                       "inpaint_full_res", 0, "alwayson_scripts", "controlnet", "args", unit));
    assert_base64_like_file(json_array_get(json_object_get(value, "images"), 0), out);
    json_decref(value);
}

/* A picture of other proportions, by each of webui's ways. */
static void test_resize_modes(void **state)
{
    (void)state;
    need_server();
    static const char *const modes[] = {"stretch", "crop", "fill", "latent"};
    char out[256], init[256], option[64];
    json_t *i = picture("i.png", 1, init);
    path_in(out, "drawn.png");
    for (int mode = 0; mode < 4; mode++) {
        snprintf(option, sizeof option, "--init-resize=%s", modes[mode]);
        RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9",
            "--steps", "4", "--sampling-method", "euler", "--cfg-scale", "7", "-i", init,
            "--strength", "0.6", option, "-W", "32", "-H", "16", "-t", "1", "-o", out);
        json_t *value =
            post("/sdapi/v1/img2img",
                 json_pack("{s:s, s:i, s:i, s:[O], s:f, s:i, s:i, s:i}", "prompt", "a cube", "seed",
                           9, "steps", 4, "init_images", i, "denoising_strength", 0.6,
                           "resize_mode", mode, "width", 32, "height", 16));
        assert_base64_like_file(json_array_get(json_object_get(value, "images"), 0), out);
        json_decref(value);
    }
    json_decref(i);
}

static void test_second_pass(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *option, *value;
    } cases[] = {{"Both", "--control-pass=both"},
                 {"low res only", "--control-pass=first"},
                 {"High res only", "--control-pass=second"}};
    char out[256], a_png[256];
    json_t *a = picture("a.png", 1, a_png);
    path_in(out, "drawn.png");
    for (size_t k = 0; k < CN_COUNT(cases); k++) {
        RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9",
            "--steps", "4", "--sampling-method", "euler", "--cfg-scale", "7", "--control-net",
            net_a, "--control-image", a_png, cases[k].value, "--hires-scale", "1.5",
            "--hires-strength", "0.5", "-W", "16", "-H", "16", "-t", "1", "-o", out);
        json_t *value =
            post("/sdapi/v1/txt2img",
                 json_pack("{s:s, s:i, s:i, s:i, s:i, s:b, s:f, s:f, s:{s:{s:[{s:s, s:O, s:s}]}}}",
                           "prompt", "a cube", "seed", 9, "steps", 4, "width", 16, "height", 16,
                           "enable_hr", 1, "hr_scale", 1.5, "denoising_strength", 0.5,
                           "alwayson_scripts", "controlnet", "args", "model", "a", "image", a,
                           "hr_option", cases[k].option));
        assert_base64_like_file(json_array_get(json_object_get(value, "images"), 0), out);
        json_decref(value);
    }
    json_decref(a);
}

static bool is_loaded(const serve_child *s, const char *name)
{
    json_t *value = ask_json(s, "GET", "/sdapi/v1/embeddings", NULL, 200);
    const bool listed = json_object_get(json_object_get(value, "loaded"), name) != NULL;
    json_decref(value);
    return listed;
}

static void write_embedding(const char *path, int64_t vectors, int64_t width)
{
    float *values = calloc((size_t)(vectors * width), sizeof *values);
    const cn_tensor_out t = {.name = "emb_params",
                             .dtype = CN_F32,
                             .ndim = 2,
                             .shape = {vectors, width},
                             .data = values};
    must(cn_safetensors_write(ctx, path, &t, 1, NULL, NULL, NULL));
    free(values);
}

/* The prompt's tokens of a drawing. */
static json_int_t tokens_of(const serve_child *s, const char *prompt)
{
    char id[64];
    post_job(s, json_pack("{s:s, s:i}", "prompt", prompt, "steps", 1), id);
    json_t *value = wait_job(s, id);
    const json_t *usage = json_object_get(json_object_get(value, "result"), "prompt_tokens");
    const json_int_t n = json_integer_value(json_object_get(usage, "tokens"));
    json_decref(value);
    return n;
}

/* An embedding of three vectors that comes while the server runs. */
static void test_refresh(void **state)
{
    (void)state;
    need_server();
    static const char *const lists[] = {"checkpoints", "loras", "vae", "embeddings"};
    serve_child other;
    char dir[256], path[300];
    path_in(dir, "embeddings");
    mkdir(dir, 0777);
    assert_true(START(&other, "--embeddings-dir", dir, "-t", "1"));
    const json_int_t before = tokens_of(&other, "zzword");
    snprintf(path, sizeof path, "%s/zzword.safetensors", dir);
    write_embedding(path, 3, TEXT_WIDTH);
    assert_true(is_loaded(&other, "zzword"));
    assert_int_equal(tokens_of(&other, "zzword"), before);
    for (size_t i = 0; i < CN_COUNT(lists); i++) {
        char route[64];
        snprintf(route, sizeof route, "/sdapi/v1/refresh-%s", lists[i]);
        json_decref(ask_json(&other, "POST", route, NULL, 200));
    }
    assert_int_equal(tokens_of(&other, "zzword"), 3);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

/* What a server wrote to its log while it took a request with a prompt. */
static void log_of(const char *option, char out[4096])
{
    char path[256], id[64];
    path_in(path, "log");
    char *argv[] = {
        program, "serve", "-m", model, "--port", "0", "-t", "1", (char *)(uintptr_t)option, NULL};
    const int log = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    serve_child other = {.pid = test_start(argv, log)};
    ssize_t n = 0;
    for (int i = 0; i < 100 * HTTP_SECONDS && !other.port; i++) {
        n = pread(log, out, 4095, 0);
        out[n > 0 ? n : 0] = 0;
        const char *at = strstr(out, "http://127.0.0.1:");
        if (at && strchr(at, '\n')) other.port = (int)strtol(at + 17, NULL, 10);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    post_job(&other,
             json_pack("{s:s, s:s, s:i}", "prompt", "a \"secret\" cube", "negative_prompt",
                       "hidden ball", "steps", 1),
             id);
    json_decref(wait_job(&other, id));
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
    n = pread(log, out, 4095, 0);
    out[n > 0 ? n : 0] = 0;
    close(log);
}

static void test_log_prompts(void **state)
{
    (void)state;
    need_server();
    char text[4096];
    log_of(NULL, text);
    assert_non_null(strstr(text, "\"path\":\"/v1/jobs\""));
    assert_null(strstr(text, "secret"));
    log_of("--log-prompts", text);
    assert_non_null(strstr(text, "\"prompt\":\"a \\\"secret\\\" cube\""));
    assert_non_null(strstr(text, "\"negative_prompt\":\"hidden ball\""));
}

static void test_png_info(void **state)
{
    (void)state;
    need_server();
    json_t *value =
        post("/sdapi/v1/txt2img", json_pack("{s:s, s:s, s:i, s:i}", "prompt", "a cube,\nred",
                                            "negative_prompt", "blue", "steps", 1, "seed", 4));
    json_t *image = json_incref(json_array_get(json_object_get(value, "images"), 0));
    json_decref(value);
    value = post("/sdapi/v1/png-info", json_pack("{s:o}", "image", image));
    const json_t *fields = json_object_get(value, "parameters");
    assert_string_equal(text_of(fields, "Prompt"), "a cube,\nred");
    assert_string_equal(text_of(fields, "Negative prompt"), "blue");
    assert_string_equal(text_of(fields, "Seed"), "4");
    assert_string_equal(text_of(fields, "Sampler"), "Euler");
    assert_null(json_object_get(value, "request"));
    json_decref(value);
    /* the server's own, where it is asked for */
    http_answer a = draw(
        &server, json_pack("{s:s, s:i, s:b}", "prompt", "a cube,\nred", "steps", 1, "recipe", 1));
    char *text = base64_encode(a.body, a.bytes, NULL);
    value = post("/sdapi/v1/png-info", json_pack("{s:s}", "image", text));
    assert_string_equal(text_of(json_object_get(value, "request"), "prompt"), "a cube,\nred");
    json_decref(value);
    free(text);
    http_free(&a);
}

static void test_lists(void **state)
{
    (void)state;
    need_server();
    static const char *const paths[] = {"/sdapi/v1/sd-models",
                                        "/sdapi/v1/samplers",
                                        "/sdapi/v1/schedulers",
                                        "/sdapi/v1/upscalers",
                                        "/sdapi/v1/loras",
                                        "/sdapi/v1/embeddings",
                                        "/sdapi/v1/memory",
                                        "/sdapi/v1/cmd-flags",
                                        "/sdapi/v1/options",
                                        "/sdapi/v1/progress",
                                        "/controlnet/settings",
                                        "/controlnet/control_types",
                                        "/controlnet/version",
                                        "/v1/models",
                                        "/v1/models/model",
                                        "/openapi.json",
                                        "/v1/info",
                                        "/v1/control-nets",
                                        "/v1/preprocessors",
                                        "/controlnet/model_list"};
    for (size_t i = 0; i < CN_COUNT(paths); i++) json_decref(get(paths[i]));
    json_t *value = get("/controlnet/module_list");
    const json_t *modules = json_object_get(value, "module_list");
    assert_true(has_text(modules, "canny"));
    assert_true(has_text(modules, "none"));
    assert_true(has_text(modules, "reference_only"));
    assert_false(has_text(modules, "hed")); /* its network isn't here */
    json_decref(value);
    http_answer a = http_ask(&server, "GET", "/docs", NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "guidance_rescale"));
    http_free(&a);
}

static void test_detect(void **state)
{
    (void)state;
    need_server();
    char in[256], out[256];
    json_t *image = picture("p.png", 3, in);
    path_in(out, "edges.png");
    RUN("annotate", "canny", in, "-o", out, "--low", "10", "--high", "20", "--resolution", "64");
    json_t *value = post("/controlnet/detect",
                         json_pack("{s:s, s:[o], s:i, s:i, s:i}", "controlnet_module", "canny",
                                   "controlnet_input_images", image, "controlnet_processor_res", 64,
                                   "controlnet_threshold_a", 10, "controlnet_threshold_b", 20));
    cn_image *want = NULL;
    must(cn_image_load(ctx, out, &want));
    assert_int_equal(want->width, 64);
    cn_image_destroy(want);
    assert_int_equal(json_array_size(json_object_get(value, "images")), 1);
    json_decref(value);
}

static void test_options(void **state)
{
    (void)state;
    need_server();
    json_decref(post("/sdapi/v1/options", json_pack("{s:i, s:s}", "CLIP_stop_at_last_layers", 2,
                                                    "sd_model_checkpoint", "model")));
    json_t *value = get("/sdapi/v1/options");
    const json_t *layers = json_object_get(value, "CLIP_stop_at_last_layers");
    assert_int_equal(json_integer_value(layers), 2);
    json_decref(value);
    json_decref(post("/sdapi/v1/options", json_pack("{s:i}", "CLIP_stop_at_last_layers", 1)));
}

static void test_refused(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *path, *body, *words;
    } cases[] = {
        {"/sdapi/v1/txt2img", "{\"restore_faces\":true}", "restore_faces"},
        {"/sdapi/v1/txt2img", "{\"steps\":\"4\"}", "steps"},
        {"/sdapi/v1/txt2img", "{\"steps\":0}", "from 1 to 1000"},
        {"/sdapi/v1/txt2img", "{\"sampler_name\":\"best\"}", "there are ddim"},
        {"/sdapi/v1/txt2img", "{\"alwayson_scripts\":{\"ADetailer\":{\"args\":[{}]}}}",
         "controlnet"},
        {"/sdapi/v1/txt2img",
         "{\"alwayson_scripts\":{\"controlnet\":{\"args\":[{\"model\":\"x\"}]}}}",
         "there are: a ["},
        {"/sdapi/v1/txt2img",
         "{\"alwayson_scripts\":{\"controlnet\":{\"args\":[{\"model\":\"a\",\"module\":\"zz\"}]}}}",
         "there are none, canny"},
        {"/sdapi/v1/txt2img",
         "{\"alwayson_scripts\":{\"controlnet\":{\"args\":[{\"control_mode\":3}]}}}",
         "control_mode"},
        {"/sdapi/v1/txt2img",
         "{\"alwayson_scripts\":{\"controlnet\":{\"args\":[{\"module\":\"reference_only\"}]}}}",
         "reference_only needs one"},
        {"/sdapi/v1/txt2img", "{\"enable_hr\":true,\"hr_upscaler\":\"ESRGAN\"}", "Lanczos"},
        {"/sdapi/v1/img2img", "{}", "init_images"},
        {"/sdapi/v1/img2img", "{\"init_images\":[\"x\"]}", "base64"},
        {"/sdapi/v1/options", "{\"sd_model_checkpoint\":\"other\"}", "there are: model ["},
        {"/sdapi/v1/txt2img",
         "{\"alwayson_scripts\":{\"controlnet\":{\"args\":[{\"hr_option\":\"None\"}]}}}",
         "Low res only"},
        {"/sdapi/v1/img2img", "{\"init_images\":[\"x\"],\"resize_mode\":4}", "resize_mode"},
        {"/sdapi/v1/options", "{\"samples_save\":true}", "samples_save"},
        {"/sdapi/v1/png-info", "{\"image\":\"R0lGODlh\"}", "PNG"},
        {"/controlnet/detect", "{\"controlnet_module\":\"canny\"}", "1 to 16"},
        {"/controlnet/detect", "{\"controlnet_module\":\"x\",\"controlnet_input_images\":[\"\"]}",
         "there are none"},
        {"/v1/images/generations", "{}", "prompt is missing"},
        {"/v1/images/generations", "{\"prompt\":\"x\",\"size\":\"big\"}", "512x512"},
        {"/v1/images/edits", "{\"prompt\":\"x\"}", "multipart/form-data"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++)
        refuse("POST", cases[i].path, NULL, cases[i].body, 422, cases[i].words);
}

/* What was done before an interruption is the answer. */
static void test_interrupt(void **state)
{
    (void)state;
    need_server();
    char id[64];
    post_job(&server,
             json_pack("{s:s, s:i, s:i, s:i}", "prompt", "a cube", "steps", 150, "width", 256,
                       "height", 256),
             id);
    json_t *value = NULL;
    for (int i = 0; i < 100 * RUN_SECONDS && !value; i++) {
        json_t *progress = get("/sdapi/v1/progress");
        if (json_number_value(json_object_get(progress, "progress")) > 0) value = progress;
        if (!value) json_decref(progress);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    assert_string_equal(text_of(json_object_get(value, "state"), "job"), id);
    json_decref(value);
    json_decref(post("/sdapi/v1/interrupt", json_object()));
    value = wait_job(&server, id);
    assert_string_equal(text_of(value, "state"), "cancelled");
    json_decref(value);
}

/* The first batch of two is left out as soon as it samples; how many pictures came of it. */
static size_t draw_with_skip(void)
{
    char id[64], path[128];
    post_job(&server,
             json_pack("{s:s, s:i, s:i, s:i, s:i}", "prompt", "a cube", "steps", 30, "width", 64,
                       "height", 64, "iterations", 2),
             id);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    for (int i = 0; i < 100 * RUN_SECONDS; i++) {
        json_t *job = get(path);
        const bool samples = !strcmp(text_of(job, "stage"), "sampling");
        json_decref(job);
        if (samples) break;
    }
    json_decref(post("/sdapi/v1/skip", json_object()));
    json_t *value = wait_job(&server, id);
    assert_string_equal(text_of(value, "state"), "done");
    const json_t *images = json_object_get(json_object_get(value, "result"), "images");
    const size_t n = json_array_size(images);
    json_decref(value);
    return n;
}

/* On a busy machine the batch may end before it is asked to: then once more. */
static void test_skip(void **state)
{
    (void)state;
    need_server();
    size_t n = 2;
    for (int i = 0; i < 20 && n == 2; i++) n = draw_with_skip();
    assert_int_equal(n, 1);
}

/* --- OpenAI ----------------------------------------------------------------------------------- */

static void test_generations(void **state)
{
    (void)state;
    need_server();
    char out[256];
    path_in(out, "drawn.png");
    RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9", "--steps",
        "3", "-W", "24", "-H", "16", "-t", "1", "-o", out);
    json_t *value = post(
        "/v1/images/generations",
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "prompt", "a cube", "model", "dall-e-2",
                  "size", "24x16", "n", 2, "seed", 9, "steps", 3, "response_format", "b64_json"));
    const json_t *data = json_object_get(value, "data");
    assert_int_equal(json_array_size(data), 2);
    assert_base64_like_file(json_object_get(json_array_get(data, 0), "b64_json"), out);
    json_decref(value);
}

static void add_file(FILE *f, const char *name, const char *path)
{
    char *bytes = NULL;
    size_t n = 0;
    must(cn_file_read(ctx, path, 1 << 20, &bytes, &n));
    fprintf(f,
            "--x y\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"f.png\"\r\n"
            "Content-Type: image/png\r\n\r\n",
            name);
    fwrite(bytes, 1, n, f);
    fputs("\r\n", f);
    cn_free(bytes);
}

static void test_edits(void **state)
{
    (void)state;
    need_server();
    char out[256], init[256], mask[256], *body = NULL;
    size_t n = 0;
    path_in(out, "drawn.png");
    json_decref(picture("i.png", 1, init));
    json_decref(picture("m.png", 2, mask));
    RUN("generate", "-m", model, "-p", "a cube", "--prompt-style", "webui", "-s", "9", "--steps",
        "3", "-i", init, "--mask", mask, "--inpainting-mask-invert", "-t", "1", "-o", out);
    FILE *f = open_memstream(&body, &n);
    assert_non_null(f);
    add_file(f, "image", init);
    add_file(f, "mask", mask);
    fputs("--x y\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na cube\r\n"
          "--x y\r\nContent-Disposition: form-data; name=\"seed\"\r\n\r\n9\r\n"
          "--x y\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\n\r\n"
          "--x y\r\nContent-Disposition: form-data; name=\"steps\"\r\n\r\n3\r\n--x y--\r\n",
          f);
    fclose(f);
    http_answer a = http_ask(&server, "POST", "/v1/images/edits",
                             "Content-Type: multipart/form-data; boundary=\"x y\"\r\n", body, n);
    if (a.status != 200) fail_msg("%d: %s", a.status, a.body);
    json_t *value = json_loads(a.body, 0, NULL);
    const json_t *data = json_object_get(value, "data");
    assert_base64_like_file(json_object_get(json_array_get(data, 0), "b64_json"), out);
    json_decref(value);
    http_free(&a);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_txt2img),        cmocka_unit_test(test_units),
        cmocka_unit_test(test_reference_unit), cmocka_unit_test(test_inpaint),
        cmocka_unit_test(test_inpaint_unit),   cmocka_unit_test(test_png_info),
        cmocka_unit_test(test_lists),          cmocka_unit_test(test_detect),
        cmocka_unit_test(test_options),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_interrupt),      cmocka_unit_test(test_skip),
        cmocka_unit_test(test_generations),    cmocka_unit_test(test_edits),
        cmocka_unit_test(test_resize_modes),   cmocka_unit_test(test_second_pass),
        cmocka_unit_test(test_refresh),        cmocka_unit_test(test_log_prompts),
    };
    return cmocka_run_group_tests(tests, serving_open, serving_close);
}
