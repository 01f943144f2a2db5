/* SPDX-License-Identifier: Apache-2.0 */
/* test_serve_models.c - several base models in one `controlnet serve`: how requests name them,
 * which of them stay loaded under --max-memory, and what can't fit. */
#include "../support/unit/serving.h"

#include "base/base.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WIDTH = 192 }; /* of the large models: some 100 MiB each */

/* root/models/{one,two}, small; root/large/{one,two}. */
static char both[256], one[256], two[256], large[256];

static int set_up(void **state)
{
    if (serving_open(state) != 0) return -1;
    path_in(both, "models");
    path_in(one, "models/one");
    path_in(two, "models/two");
    path_in(large, "large");
    mkdir(both, 0777);
    must(tiny_base_write(ctx, one, 16));
    must(tiny_base_write(ctx, two, 24));
    return 0;
}

/* A server with the folder of both, and these options. */
#define START_BOTH(child, ...) \
    serve_start(child, program, (const char *const[]){"-m", both, "-t", "1", __VA_ARGS__, NULL})

static void draw_by_hand(const char *path, const char *out)
{
    RUN("generate", "-m", path, "-p", "a cube", "-s", "5", "--steps", "2", "--sampling-method",
        "euler", "--cfg-scale", "7", "--prompt-style", "webui", "-t", "1", "-o", out);
}

/* The first picture of webui's interface, with these settings instead of the server's. */
static void assert_webui_draws(const serve_child *s, const char *name, const char *file)
{
    json_t *body = json_pack("{s:s, s:i, s:i}", "prompt", "a cube", "seed", 5, "steps", 2);
    if (name)
        json_object_set_new(body, "override_settings",
                            json_pack("{s:s}", "sd_model_checkpoint", name));
    json_t *value = ask_json(s, "POST", "/sdapi/v1/txt2img", body, 200);
    assert_base64_like_file(json_array_get(json_object_get(value, "images"), 0), file);
    json_decref(value);
    json_decref(body);
}

static void test_names(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char drawn_one[256], drawn_two[256];
    path_in(drawn_one, "one.png");
    path_in(drawn_two, "two.png");
    draw_by_hand(one, drawn_one);
    draw_by_hand(two, drawn_two);
    assert_true(START_BOTH(&other, "--port", "0"));
    json_t *list = ask_json(&other, "GET", "/sdapi/v1/sd-models", NULL, 200);
    assert_int_equal(json_array_size(list), 2);
    const char *title = text_of(json_array_get(list, 1), "title");
    assert_memory_equal(title, "two [", 5);

    /* the first, until another one is chosen; the override is for one request */
    assert_webui_draws(&other, NULL, drawn_one);
    assert_webui_draws(&other, title, drawn_two);
    assert_webui_draws(&other, NULL, drawn_one);
    json_t *body = json_pack("{s:s}", "sd_model_checkpoint", "Two");
    json_decref(ask_json(&other, "POST", "/sdapi/v1/options", body, 200));
    json_t *options = ask_json(&other, "GET", "/sdapi/v1/options", NULL, 200);
    assert_string_equal(text_of(options, "sd_model_checkpoint"), title);
    assert_webui_draws(&other, NULL, drawn_two);
    json_decref(options);
    json_decref(body);
    json_decref(list);

    http_answer a =
        draw(&other, json_pack("{s:s, s:s, s:i, s:i, s:s, s:f, s:s}", "model", "one", "prompt",
                               "a cube", "seed", 5, "steps", 2, "sampling_method", "euler",
                               "cfg_scale", 7.0, "prompt_style", "webui"));
    assert_like_file(a.body, a.bytes, drawn_one);
    http_free(&a);
    json_t *info = ask_json(&other, "GET", "/v1/base-models/two", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(info, "size_px")), TINY_PX);
    json_decref(info);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_openai(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char out[256];
    assert_true(START_BOTH(&other, "--port", "0"));
    json_t *list = ask_json(&other, "GET", "/v1/models", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "data")), 2);
    json_decref(list);
    path_in(out, "openai.png");
    RUN("generate", "-m", two, "-p", "a cube", "-s", "5", "--steps", "2", "--prompt-style", "webui",
        "-t", "1", "-o", out);
    json_t *body = json_pack("{s:s, s:s, s:i, s:i, s:s}", "model", "two", "prompt", "a cube",
                             "seed", 5, "steps", 2, "response_format", "b64_json");
    json_t *value = ask_json(&other, "POST", "/v1/images/generations", body, 200);
    assert_base64_like_file(
        json_object_get(json_array_get(json_object_get(value, "data"), 0), "b64_json"), out);
    json_decref(value);
    json_decref(body);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_unknown(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    static const struct {
        const char *path, *body;
    } cases[] = {
        {"/v1/jobs", "{\"prompt\":\"x\",\"model\":\"three\"}"},
        {"/sdapi/v1/options", "{\"sd_model_checkpoint\":\"three\"}"},
        {"/sdapi/v1/txt2img", "{\"override_settings\":{\"sd_model_checkpoint\":\"../one\"}}"},
        {"/v1/images/generations", "{\"prompt\":\"x\",\"model\":\"three\"}"},
    };
    assert_true(START_BOTH(&other, "--port", "0"));
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        http_answer a =
            http_ask(&other, "POST", cases[i].path, NULL, cases[i].body, strlen(cases[i].body));
        if (a.status != 422 || !strstr(a.body, "there are: one [") || !strstr(a.body, "two ["))
            fail_msg("%s: %d, %s", cases[i].path, a.status, a.body);
        http_free(&a);
    }
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_wrong_path(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    assert_false(START_BOTH(&other, "-m", nets)); /* ControlNets alone */
    assert_non_null(strstr(other.said, "neither a base model nor a folder"));
    assert_int_equal(serve_stop(&other, 0), 1);
}

/* --- memory ----------------------------------------------------------------------------------- */

static double metric(const serve_child *s, const char *name)
{
    char key[64];
    http_answer a = http_ask(s, "GET", "/metrics", NULL, NULL, 0);
    snprintf(key, sizeof key, "\n%s ", name);
    const char *at = a.body ? strstr(a.body, key) : NULL;
    assert_non_null(at);
    const double value = strtod(at + strlen(key), NULL);
    http_free(&a);
    return value;
}

/* The state of a drawing by this model; its error where it failed. */
static void draw_named(const serve_child *s, const char *name, char error[512])
{
    char id[64];
    post_job(s, json_pack("{s:s, s:s, s:i}", "model", name, "prompt", "a cube", "steps", 1), id);
    json_t *value = wait_job(s, id);
    const char *said = json_string_value(json_object_get(value, "error"));
    snprintf(error, 512, "%s", said ? said : "");
    json_decref(value);
}

/* What a drawing with everything loaded takes beside the process. */
static double own_bytes(const char *path)
{
    const cn_pipeline_options po = {.model = path, .keep_loaded = true};
    cn_generate_options o;
    cn_generate_plan plan;
    cn_pipeline *p = NULL;
    cn_generate_defaults(&o);
    o.prompt = "a cube";
    must(cn_pipeline_create(ctx, &po, &p));
    must(cn_generate_dry_run(p, &o, &plan));
    cn_pipeline_destroy(p);
    return (double)plan.peak_bytes - (double)plan.process_bytes;
}

static void start_limited(serve_child *s, double bytes)
{
    char limit[32];
    snprintf(limit, sizeof limit, "%.0fM", bytes / 1048576);
    assert_true(serve_start(
        s, program, (const char *const[]){"-m", large, "-t", "1", "--max-memory", limit, NULL}));
}

/* Alternately, and how many are open then. */
static double draw_both(const serve_child *s)
{
    char error[512];
    for (int i = 0; i < 4; i++) {
        draw_named(s, i % 2 ? "two" : "one", error);
        assert_string_equal(error, "");
    }
    return metric(s, "controlnet_models_open");
}

#ifdef __has_feature /* clang; gcc has names of its own */
#define SANITIZED_BY_CLANG (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED_BY_CLANG 0
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || SANITIZED_BY_CLANG
#define SANITIZED
#endif

static void test_limit(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char path[256], error[512];
#ifdef SANITIZED
    printf("SKIP  memory isn't measured under a sanitizer\n");
    skip();
#endif
    mkdir(large, 0777);
    path_in(path, "large/one");
    must(tiny_base_write(ctx, path, WIDTH));
    path_in(path, "large/two");
    must(tiny_base_write(ctx, path, WIDTH));
    const double own = own_bytes(path);

    /* without a limit one model's networks are loaded at a time */
    assert_true(serve_start(&other, program, (const char *const[]){"-m", large, "-t", "1", NULL}));
    const double process = metric(&other, "controlnet_resident_memory_bytes");
    assert_int_equal(draw_both(&other), 1);
    assert_in_range((int64_t)metric(&other, "controlnet_networks_bytes"), (int64_t)(own / 2),
                    (int64_t)(1.1 * own));
    assert_int_equal(serve_stop(&other, SIGTERM), 0);

    start_limited(&other, process + 4 * own);
    assert_int_equal(draw_both(&other), 2);
    assert_in_range((int64_t)metric(&other, "controlnet_resident_memory_bytes"), 1,
                    (int64_t)(process + 4 * own));
    assert_int_equal(serve_stop(&other, SIGTERM), 0);

    start_limited(&other, process + 1.8 * own);
    assert_int_equal(draw_both(&other), 1);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);

    start_limited(&other, process);
    draw_named(&other, "two", error);
    if (!strstr(error, "--max-memory allows") || !strstr(error, "GiB at least"))
        fail_msg("\"%s\"", error);
    json_t *body = json_pack("{s:i}", "steps", 1);
    json_decref(ask_json(&other, "POST", "/sdapi/v1/txt2img", body, 422));
    json_decref(body);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_openai),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_wrong_path),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, set_up, serving_close);
}
