/* SPDX-License-Identifier: Apache-2.0 */
/* test_serve.c - `controlnet serve` over its sockets: pictures as the command line draws them, jobs
 * and their events, limits, keys, what survives kill -9. */
#include "../support/unit/serving.h"

#include "image/image.h"
#include "server/base64.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- as the command line draws ---------------------------------------------------------------- */

static void test_samplers(void **state)
{
    (void)state;
    need_server();
    char out[256];
    path_in(out, "drawn.png");
    for (int i = 0; cn_generate_sampler(i); i++) {
        const char *name = cn_generate_sampler(i);
        RUN("generate", "-m", model, "-p", "a red cube", "-n", "blue", "-s", "7", "--steps", "4",
            "--sampling-method", name, "-t", "1", "-o", out);
        http_answer a = draw(&server, json_pack("{s:s, s:s, s:i, s:i, s:s}", "prompt", "a red cube",
                                                "negative_prompt", "blue", "seed", 7, "steps", 4,
                                                "sampling_method", name));
        assert_like_file(a.body, a.bytes, out);
        http_free(&a);
    }
}

static void test_two_controls(void **state)
{
    (void)state;
    need_server();
    char out[256], a_png[256], a_mask[256], b_png[256], b_mask[256], init[256], mask[256];
    json_t *controls =
        json_pack("[{s:s, s:o, s:o, s:f, s:f, s:s}, {s:s, s:o, s:o, s:s, s:s}]", "model", "a",
                  "image", picture("a.png", 1, a_png), "mask", picture("am.png", 2, a_mask),
                  "strength", 0.7, "end", 0.8, "preprocessor", "canny low=10 high=20", "model", "B",
                  "image", picture("b.png", 3, b_png), "mask", picture("bm.png", 4, b_mask), "mode",
                  "prompt", "resize", "fill");
    json_t *request =
        json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:f, s:i}", "prompt", "a (red:1.2) cube", "seed",
                  3, "steps", 4, "controls", controls, "init_image", picture("i.png", 5, init),
                  "mask", picture("m.png", 2, mask), "strength", 0.8, "mask_blur", 2);
    json_object_set_new(request, "prompt_style", json_string("webui"));
    path_in(out, "drawn.png");
    RUN("generate", "-m", model, "-p", "a (red:1.2) cube", "--prompt-style", "webui", "-s", "3",
        "--steps", "4", "-i", init, "--mask", mask, "--strength", "0.8", "--mask-blur", "2",
        "--control-net", net_a, "--control-image", a_png, "--control-mask", a_mask,
        "--control-strength", "0.7", "--control-end", "0.8", "--control-preprocessor",
        "canny low=10 high=20", "--control-net", net_b, "--control-image", b_png, "-t", "1", "-o",
        out, "--control-mask", b_mask, "--control-mode=prompt", "--control-resize=fill");
    http_answer a = draw(&server, request);
    assert_like_file(a.body, a.bytes, out);
    http_free(&a);
}

static void test_annotate(void **state)
{
    (void)state;
    need_server();
    char in[256], out[256];
    json_t *request = json_pack("{s:s, s:s, s:o}", "type", "annotate", "kind",
                                "canny low=10 high=20", "image", picture("p.png", 3, in));
    path_in(out, "edges.png");
    RUN("annotate", "canny", in, "-o", out, "--low", "10", "--high", "20");
    cn_image *got = NULL, *want = NULL;
    http_answer a = draw(&server, request);
    must(cn_image_load_memory(ctx, a.body, a.bytes, &got));
    must(cn_image_load(ctx, out, &want));
    assert_memory_equal(got->rgb, want->rgb, 3 * TINY_PX * TINY_PX);
    cn_image_destroy(got);
    cn_image_destroy(want);
    http_free(&a);
}

/* --- jobs ------------------------------------------------------------------------------------- */

static json_t *long_request(void)
{
    return json_pack("{s:s, s:i, s:i, s:i}", "prompt", "a cube", "steps", 150, "width", 256,
                     "height", 256);
}

static void test_cancel(void **state)
{
    (void)state;
    need_server();
    char running[64], waiting[64], path[128];
    post_job(&server, long_request(), running);
    post_job(&server, long_request(), waiting);
    snprintf(path, sizeof path, "/v1/jobs/%s", waiting);
    json_t *value = ask_json(&server, "DELETE", path, NULL, 200);
    assert_string_equal(text_of(value, "state"), "cancelled");
    json_decref(value);
    snprintf(path, sizeof path, "/v1/jobs/%s", running);
    json_decref(ask_json(&server, "DELETE", path, NULL, 200));
    value = wait_job(&server, running);
    assert_string_equal(text_of(value, "state"), "cancelled");
    assert_true(json_number_value(json_object_get(value, "run_seconds")) < RUN_SECONDS);
    json_decref(value);
}

static void test_events(void **state)
{
    (void)state;
    need_server();
    char id[64], path[128];
    post_job(&server,
             json_pack("{s:s, s:i, s:i}", "prompt", "a cube", "steps", 6, "preview_interval", 1),
             id);
    snprintf(path, sizeof path, "/v1/jobs/%s/events", id);
    http_answer a = http_ask(&server, "GET", path, NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "text/event-stream"));
    const char *result = strstr(a.body, "event: result\ndata: {");
    assert_non_null(result);
    assert_null(strstr(result + 1, "event: "));
    assert_non_null(strstr(result, "\"state\":\"done\""));
    http_free(&a);
    /* whoever asks later gets the end alone */
    a = http_ask(&server, "GET", path, NULL, NULL, 0);
    assert_memory_equal(a.body, "event: result\n", 14);
    http_free(&a);
}

static void test_batch(void **state)
{
    (void)state;
    need_server();
    char id[64], path[512];
    post_job(&server,
             json_pack("{s:s, s:i, s:i, s:i, s:i}", "prompt", "a cube", "steps", 2, "batch_count",
                       2, "iterations", 2, "seed", 5),
             id);
    json_t *value = wait_job(&server, id);
    const json_t *result = json_object_get(value, "result");
    assert_int_equal(json_array_size(json_object_get(result, "images")), 4);
    const json_t *texts = json_object_get(result, "parameters");
    assert_non_null(strstr(json_string_value(json_array_get(texts, 0)), "Seed: 5,"));
    assert_non_null(strstr(json_string_value(json_array_get(texts, 3)), "Seed: 7,"));
    json_decref(value);
    snprintf(path, sizeof path, "%s/%s_3.png", saved, id);
    assert_int_equal(access(path, R_OK), 0);
}

/* The state's picture; a step of 8 bits apart from another is what sums in another order make. */
static void assert_alike(const serve_child *s, const char *id, const http_answer *alone)
{
    char path[512], *got_text = NULL, *want_text = NULL;
    cn_image *got = NULL, *want = NULL;
    snprintf(path, sizeof path, "/v1/jobs/%s/pictures/0", id);
    http_answer a = http_ask(s, "GET", path, NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    must(cn_image_load_memory(ctx, a.body, a.bytes, &got));
    must(cn_image_load_memory(ctx, alone->body, alone->bytes, &want));
    for (int64_t i = 0; i < 3 * want->width * want->height; i++)
        assert_in_range(got->rgb[i] + 1 - want->rgb[i], 0, 2);
    must(cn_png_text_memory(ctx, a.body, a.bytes, "parameters", &got_text));
    must(cn_png_text_memory(ctx, alone->body, alone->bytes, "parameters", &want_text));
    assert_string_equal(got_text, want_text);
    cn_free(got_text);
    cn_free(want_text);
    cn_image_destroy(got);
    cn_image_destroy(want);
    http_free(&a);
}

static json_t *equal_request(int seed)
{
    return json_pack("{s:s, s:i, s:i, s:s}", "prompt", "a cube", "steps", 3, "seed", seed,
                     "sampling_method", "euler_a");
}

/* Five that differ in their seeds wait, one of them is cancelled, and one is another. */
static void test_batch_jobs(void **state)
{
    (void)state;
    need_server();
    enum { JOBS = 5 };
    serve_child other;
    char first[64], ids[JOBS][64], odd[64], path[128];
    assert_true(START(&other, "--batch-jobs", "8", "-t", "1"));
    post_job(&other, long_request(), first);
    for (int i = 0; i < JOBS; i++) post_job(&other, equal_request(i + 1), ids[i]);
    post_job(&other, json_pack("{s:s, s:i, s:i}", "prompt", "a ball", "steps", 3, "seed", 1), odd);
    snprintf(path, sizeof path, "/v1/jobs/%s", ids[2]);
    json_decref(ask_json(&other, "DELETE", path, NULL, 200));
    snprintf(path, sizeof path, "/v1/jobs/%s", first);
    json_decref(ask_json(&other, "DELETE", path, NULL, 200));
    for (int i = 0; i < JOBS; i++) {
        json_t *value = wait_job(&other, ids[i]);
        assert_string_equal(text_of(value, "state"), i == 2 ? "cancelled" : "done");
        const json_t *result = json_object_get(value, "result");
        if (i != 2) {
            assert_int_equal(json_integer_value(json_object_get(result, "together")), JOBS - 1);
            assert_int_equal(json_integer_value(json_object_get(result, "seed")), i + 1);
            http_answer alone = draw(&server, equal_request(i + 1));
            assert_alike(&other, ids[i], &alone);
            http_free(&alone);
        }
        json_decref(value);
    }
    json_t *value = wait_job(&other, odd);
    assert_null(json_object_get(json_object_get(value, "result"), "together"));
    json_decref(value);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

/* One of several that run is cancelled, and then the others. */
static void test_cancel_some(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char first[64], ids[2][64], path[128];
    assert_true(START(&other, "--batch-jobs", "8", "-t", "1"));
    json_t *value = long_request();
    post_job(&other, json_incref(value), first);
    json_object_set_new(value, "steps", json_integer(100));
    for (int i = 0; i < 2; i++) {
        json_object_set_new(value, "seed", json_integer(i));
        post_job(&other, json_incref(value), ids[i]);
    }
    json_decref(value);
    snprintf(path, sizeof path, "/v1/jobs/%s", first);
    json_decref(ask_json(&other, "DELETE", path, NULL, 200));
    snprintf(path, sizeof path, "/v1/jobs/%s", ids[0]);
    for (int i = 0; i < 100 * RUN_SECONDS; i++) {
        json_t *job = ask_json(&other, "GET", path, NULL, 200);
        const bool samples = !strcmp(text_of(job, "stage"), "sampling");
        json_decref(job);
        if (samples) break;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    json_decref(ask_json(&other, "DELETE", path, NULL, 200));
    snprintf(path, sizeof path, "/v1/jobs/%s", ids[1]);
    value = ask_json(&other, "GET", path, NULL, 200);
    assert_string_equal(text_of(value, "state"), "running");
    json_decref(value);
    json_decref(ask_json(&other, "DELETE", path, NULL, 200));
    for (int i = 0; i < 2; i++) {
        value = wait_job(&other, ids[i]);
        assert_string_equal(text_of(value, "state"), "cancelled");
        json_decref(value);
    }
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_metrics(void **state)
{
    (void)state;
    need_server();
    http_answer a = http_ask(&server, "GET", "/metrics", NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "text/plain; version=0.0.4"));
    assert_non_null(strstr(a.body, "# TYPE controlnet_jobs_done_total counter\n"));
    assert_non_null(strstr(a.body, "\ncontrolnet_jobs_running 0\n"));
    const char *drawn = strstr(a.body, "\ncontrolnet_pictures_total ");
    assert_non_null(drawn);
    assert_true(strtod(strchr(drawn + 1, ' '), NULL) >= 4); /* of the tests before */
    http_free(&a);
}

/* From taking a job to its first step, as the server tells it: a size that was drawn before is
 * planned and loaded. The best of five, since the machine has other work too. */
static void test_second_is_ready(void **state)
{
    (void)state;
    need_server();
    double least = 1e9;
    for (int i = 0; i < 6; i++) {
        char id[64];
        post_job(&server,
                 json_pack("{s:s, s:i, s:i, s:i, s:i}", "prompt", "a cube", "steps", 2, "seed", i,
                           "width", 24, "height", 32),
                 id);
        json_t *value = wait_job(&server, id);
        const double ready = json_number_value(json_object_get(value, "ready_seconds"));
        assert_true(ready > 0);
        if (i && ready < least) least = ready;
        json_decref(value);
    }
    assert_true(least < 0.05);
}

/* The request goes into the picture where it is asked for, and nothing else than webui's text where
 * it isn't. */
static void test_recipe(void **state)
{
    (void)state;
    need_server();
    for (int wanted = 0; wanted < 2; wanted++) {
        char *text = NULL;
        http_answer a = draw(&server, json_pack("{s:s, s:i, s:i, s:b}", "prompt", "a cube", "steps",
                                                2, "seed", 5, "recipe", wanted));
        must(cn_png_text_memory(ctx, a.body, a.bytes, "controlnet.c request", &text));
        assert_int_equal(text != NULL, wanted);
        if (wanted) assert_non_null(strstr(text, "\"seed\":5"));
        cn_free(text);
        http_free(&a);
    }
}

/* The page is whole and says what it may load. */
static void test_page(void **state)
{
    (void)state;
    need_server();
    static const char *const files[] = {"/",         "/style.css",   "/app.js",
                                        "/api.js",   "/controls.js", "/gallery.js",
                                        "/paint.js", "/train.js",    "/icon.svg"};
    size_t bytes = 0;
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        http_answer a = http_ask(&server, "GET", files[i], NULL, NULL, 0);
        assert_int_equal(a.status, 200);
        assert_non_null(strstr(a.head, "Content-Security-Policy: default-src 'none'"));
        assert_null(strstr(a.body, "https://"));
        bytes += a.bytes;
        http_free(&a);
    }
    assert_in_range(bytes, 10000, 150000);
    refuse("GET", "/../controlnet.h", NULL, NULL, 404, "/docs");
}

/* --- refusals --------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *body;
        int status;
        const char *words;
    } cases[] = {
        {"", 400, "no JSON"},
        {"[1]", 400, "object is expected"},
        {"{\"prompt\":\"\\ud800\"}", 400, "no JSON"},
        {"{\"prompt\":\"x\",\"prompt\":\"y\"}", 400, "no JSON"},
        {"{\"prompt\":1}", 422, "prompt: a string"},
        {"{\"prompt\":\"x\",\"stepz\":1}", 422, "stepz"},
        {"{\"prompt\":\"x\",\"steps\":0}", 422, "from 1 to 1000"},
        {"{\"prompt\":\"x\",\"steps\":1.5}", 422, "whole number"},
        {"{\"prompt\":\"x\",\"steps\":151}", 422, "more than this server's 150"},
        {"{\"prompt\":\"x\",\"steps\":\"1\"}", 422, "a number is expected"},
        {"{\"prompt\":\"x\",\"vae_tiling\":1}", 422, "true or false"},
        {"{\"prompt\":\"x\",\"batch_count\":17}", 422, "pictures in all"},
        {"{\"prompt\":\"x\",\"width\":1024,\"height\":1024}", 422, "pixels"},
        {"{\"prompt\":\"x\",\"width\":128,\"height\":128,\"hires_scale\":8}", 422, "pixels"},
        {"{\"prompt\":\"x\",\"seed\":-2}", 422, "seed"},
        {"{\"prompt\":\"x\",\"sampling_method\":\"best\"}", 422, "there are ddim"},
        {"{\"prompt\":\"x\",\"scheduler\":\"best\"}", 422, "there are default"},
        {"{\"prompt\":\"x\",\"init_latents\":\"/etc/passwd\"}", 422, "no such member"},
        {"{\"prompt\":\"x\",\"save_latents\":\"/tmp/x\"}", 422, "no such member"},
        {"{\"prompt\":\"x\",\"init_image\":\"!\"}", 422, "base64"},
        {"{\"prompt\":\"x\",\"init_image\":\"aGVsbG8=\"}", 422, "init_image"},
        {"{\"prompt\":\"x\",\"mask\":\"aGVsbG8=\"}", 422, "mask"},
        {"{\"prompt\":\"x\",\"strength\":0.5}", 422, "init_image is missing"},
        {"{\"prompt\":\"x\",\"controls\":{}}", 422, "a list"},
        {"{\"prompt\":\"x\",\"controls\":[1]}", 422, "controls[0]"},
        {"{\"prompt\":\"x\",\"controls\":[{\"model\":\"../a\"}]}", 422, "there are: a ["},
        {"{\"prompt\":\"x\",\"controls\":[{\"model\":\"a\"}]}", 422, "condition image"},
        {"{\"prompt\":\"x\",\"controls\":[{\"model\":\"a\",\"preprocessor\":\"zz\"}]}", 422,
         "canny"},
        {"{\"prompt\":\"x\",\"controls\":[{\"model\":\"a\",\"preprocessor\":\"hed\"}]}", 422,
         "--annotators"},
        {"{\"prompt\":\"x\",\"controls\":[{\"model\":\"a\",\"weights\":[\"x\"]}]}", 422, "weights"},
        {"{\"type\":\"annotate\",\"kind\":\"canny\"}", 422, "image is missing"},
        {"{\"type\":\"annotate\",\"image\":\"\"}", 422, "kind is missing"},
        {"{\"type\":\"annotate\",\"kind\":\"canny\",\"x\":1}", 422, "no such member"},
        {"{\"type\":\"x\"}", 422, "there are generate"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++)
        refuse("POST", "/v1/jobs", NULL, cases[i].body, cases[i].status, cases[i].words);
    refuse("GET", "/nothing", NULL, NULL, 404, "/docs");
    refuse("PUT", "/v1/jobs", NULL, "{}", 405, "POST, GET");
    refuse("GET", "/v1/jobs/0", NULL, NULL, 404, "no job");
    refuse("GET", "/healthz", "Host: evil.example\r\n", NULL, 403, "Host");
    refuse("GET", "/healthz", "Host: 127.0.0.1.evil.example\r\n", NULL, 403, "Host");
    refuse("POST", "/v1/jobs", "Origin: http://evil.example\r\n", "{}", 403, "origin");
    refuse("POST", "/v1/jobs", "Origin: null\r\n", "{}", 403, "origin");
}

/* Each within --max-pixels (65536), all five of them beyond four times as much. */
static void test_pictures_in_all(void **state)
{
    (void)state;
    need_server();
    cn_image *image = NULL;
    uint8_t *png = NULL;
    size_t n = 0;
    must(cn_image_create(ctx, 256, 256, &image));
    must(cn_png_encode(ctx, image, NULL, &png, &n));
    char *text = base64_encode(png, n, NULL);
    json_t *control = json_pack("{s:s, s:s, s:s}", "model", "a", "image", text, "mask", text);
    json_t *request = json_pack("{s:s, s:i, s:s, s:[O, O]}", "prompt", "x", "steps", 1,
                                "init_image", text, "controls", control, control);
    json_t *value = ask_json(&server, "POST", "/v1/jobs", request, 422);
    assert_non_null(strstr(text_of(value, "detail"), "pixels in all"));
    json_decref(value);
    json_object_del(request, "init_image");
    char id[64];
    post_job(&server, request, id);
    json_decref(wait_job(&server, id));
    json_decref(control);
    free(text);
    cn_free(png);
    cn_image_destroy(image);
}

/* What a prompt names is looked for in the folder of LoRAs alone; errors of the drawing come to the
 * job. */
static void test_lora_names(void **state)
{
    (void)state;
    need_server();
    static const char *const names[] = {"..", ".", "../nets/a", "/etc/passwd"};
    serve_child other;
    assert_true(START(&other, "--lora-dir", nets, "-t", "1"));
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        char prompt[64], id[64];
        snprintf(prompt, sizeof prompt, "a cube <lora:%s:1>", names[i]);
        post_job(&other, json_pack("{s:s, s:i}", "prompt", prompt, "steps", 1), id);
        json_t *value = wait_job(&other, id);
        assert_string_equal(text_of(value, "state"), "failed");
        assert_non_null(strstr(text_of(value, "error"), "holds no LoRA"));
        json_decref(value);
    }
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_large_bodies(void **state)
{
    (void)state;
    need_server();
    const size_t n = 3 << 20;
    char *body = malloc(n + 1), *deep = malloc(4097);
    memset(body, ' ', n);
    body[n] = 0;
    http_answer a = http_ask(&server, "POST", "/v1/jobs", NULL, body, n);
    assert_true(a.status == 413 || a.status == 0); /* or cut off while it was sent */
    http_free(&a);
    /* without a length: chunks */
    static const char head[] = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n200000\r\n";
    memcpy(body, head, sizeof head - 1);
    memcpy(body + sizeof head - 1 + 0x200000, "\r\n0\r\n\r\n", 7);
    a = http_send(&server, body, sizeof head - 1 + 0x200000 + 7);
    assert_int_equal(a.status, 413);
    http_free(&a);
    memset(deep, '[', 4096);
    deep[4096] = 0;
    refuse("POST", "/v1/jobs", NULL, deep, 400, "nested deeper");
    free(body);
    free(deep);
}

static double resident_of(const serve_child *s)
{
    http_answer a = http_ask(s, "GET", "/metrics", NULL, NULL, 0);
    const char *at = strstr(a.body, "\ncontrolnet_resident_memory_bytes ");
    assert_non_null(at);
    const double value = strtod(strchr(at + 1, ' '), NULL);
    http_free(&a);
    return value;
}

/* 100 MB, told beforehand or not: the first are refused by their head, the others before they take
 * the server's memory. */
static void test_hundred_megabytes(void **state)
{
    (void)state;
    need_server();
    enum { MIB = 1 << 20, PARTS = 100 };
    static const char *const heads[] = {
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"};
    char *part = malloc(MIB), answer[16] = "";
    const double before = resident_of(&server);
    memset(part, ' ', MIB);
    for (int chunked = 0; chunked < 2; chunked++) {
        const int fd = http_connect(&server);
        bool open = send(fd, heads[chunked], strlen(heads[chunked]), MSG_NOSIGNAL) > 0;
        for (int i = 0; i < PARTS && open; i++) {
            if (chunked) open = send(fd, "100000\r\n", 8, MSG_NOSIGNAL) == 8;
            for (ssize_t sent = 0, n; open && sent < MIB; sent += n) {
                n = send(fd, part + sent, (size_t)(MIB - sent), MSG_NOSIGNAL);
                open = n > 0;
                if (!open) break;
            }
            if (open && chunked) open = send(fd, "\r\n", 2, MSG_NOSIGNAL) == 2;
        }
        if (open && chunked) (void)send(fd, "0\r\n\r\n", 5, MSG_NOSIGNAL);
        /* or it was cut off while it was sent */
        if (recv(fd, answer, sizeof answer - 1, 0) > 12) assert_memory_equal(answer + 9, "413", 3);
        close(fd);
    }
    free(part);
    assert_true(resident_of(&server) < before + 8 * MIB);
    json_decref(ask_json(&server, "GET", "/healthz", NULL, 200));
}

static bool closes_within(int fd, double seconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c;
    return poll(&p, 1, (int)(1000 * seconds)) > 0 && recv(fd, &c, 1, 0) <= 0;
}

/* A head that never ends, and one whose bytes come one by one. */
static void test_slow_clients(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    assert_true(START(&other, "--header-timeout", "1", "--body-timeout", "1", "-t", "1"));
    const int quiet = http_connect(&other), body = http_connect(&other),
              slow = http_connect(&other);
    static const char half[] =
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
    assert_int_equal(send(body, half, sizeof half - 1, MSG_NOSIGNAL), sizeof half - 1);
    bool cut = false;
    for (int i = 0; i < 50 && !cut; i++) {
        nanosleep(&(struct timespec){0, 100000000}, NULL);
        cut = send(slow, "G", 1, MSG_NOSIGNAL) < 0 || closes_within(slow, 0);
    }
    assert_true(cut);
    assert_true(closes_within(quiet, 10));
    assert_true(closes_within(body, 10));
    close(quiet);
    close(body);
    close(slow);
    json_decref(ask_json(&other, "GET", "/healthz", NULL, 200));
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_full_queue(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char id[64];
    json_t *request = long_request();
    assert_true(START(&other, "--queue", "1", "-t", "1"));
    post_job(&other, json_incref(request), id);
    int full = 0;
    for (int i = 0; i < 3; i++) {
        char *text = json_dumps(request, 0);
        http_answer a = http_ask(&other, "POST", "/v1/jobs", NULL, text, strlen(text));
        full += a.status == 429 && strstr(a.head, "Retry-After") && strstr(a.body, "queue");
        http_free(&a);
        free(text);
    }
    assert_true(full >= 2);
    json_decref(request);
    assert_int_equal(serve_stop(&other, SIGTERM), 0); /* in the middle of a job */
}

static void test_job_timeout(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char id[64];
    json_t *request = long_request();
    json_object_set_new(request, "iterations", json_integer(16));
    assert_true(START(&other, "--job-timeout", "1", "-t", "1"));
    post_job(&other, request, id);
    json_t *value = wait_job(&other, id);
    assert_string_equal(text_of(value, "state"), "failed");
    assert_non_null(strstr(text_of(value, "error"), "--job-timeout"));
    json_decref(value);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

/* --- who may ask ------------------------------------------------------------------------------ */

static int status_of(const serve_child *s, const char *path, const char *headers)
{
    http_answer a = http_ask(s, "GET", path, headers, NULL, 0);
    const int status = a.status;
    http_free(&a);
    return status;
}

static void test_key(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    assert_true(START(&other, "--api-key", "secret", "--cors", "https://app.example", "-t", "1"));
    assert_int_equal(status_of(&other, "/v1/info", NULL), 401);
    assert_int_equal(status_of(&other, "/v1/info", "Authorization: Bearer secre\r\n"), 401);
    assert_int_equal(status_of(&other, "/v1/info", "Authorization: Bearer secret2\r\n"), 401);
    assert_int_equal(status_of(&other, "/v1/info", "Authorization: Bearer secret\r\n"), 200);
    assert_int_equal(status_of(&other, "/v1/info", "X-API-Key: secret\r\n"), 200);
    /* user:secret */
    assert_int_equal(status_of(&other, "/v1/info", "Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
                     200);
    assert_int_equal(status_of(&other, "/v1/info", "Authorization: Basic dXNlcjpzZWNyZQ==\r\n"),
                     401);
    assert_int_equal(status_of(&other, "/healthz", NULL), 200);
    http_answer a =
        http_ask(&other, "OPTIONS", "/v1/jobs", "Origin: https://app.example\r\n", NULL, 0);
    assert_non_null(strstr(a.head, "Access-Control-Allow-Origin: https://app.example"));
    http_free(&a);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

static void test_key_file(void **state)
{
    (void)state;
    need_server();
    static const char *const texts[] = {"secret\r\nmore\n", "secret"};
    serve_child other;
    char path[256];
    path_in(path, "key");
    for (size_t i = 0; i < CN_COUNT(texts); i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(texts[i], f);
        fclose(f);
        assert_true(START(&other, "--api-key-file", path, "-t", "1"));
        assert_int_equal(status_of(&other, "/v1/info", NULL), 401);
        assert_int_equal(status_of(&other, "/v1/info", "X-API-Key: secret\r\n"), 200);
        assert_int_equal(serve_stop(&other, SIGTERM), 0);
    }
    truncate(path, 0);
    assert_false(START(&other, "--api-key-file", path, "-t", "1"));
    if (!strstr(other.said, "first line")) fail_msg("%s", other.said);
    assert_int_equal(serve_stop(&other, 0), 2);
    assert_false(START(&other, "--api-key-file", path, "--api-key", "x"));
    if (!strstr(other.said, "both")) fail_msg("%s", other.said);
    assert_int_equal(serve_stop(&other, 0), 2);
}

static void test_unix_socket(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    char host[300];
    snprintf(host, sizeof host, "unix:%s/socket", root);
    for (int i = 0; i < 2; i++) { /* the second finds the file that kill -9 left */
        assert_true(START(&other, "--host", host, "-t", "1"));
        json_decref(ask_json(&other, "GET", "/v1/info", NULL, 200));
        serve_stop(&other, i ? SIGTERM : SIGKILL);
    }
    assert_int_not_equal(access(host + 5, F_OK), 0);
}

static void test_wrong_usage(void **state)
{
    (void)state;
    need_server();
    serve_child other;
    static const struct {
        const char *option, *value, *words;
    } cases[] = {{"--host", "0.0.0.0", "--api-key"},
                 {"--host", "example.com", "an address"},
                 {"--state", "/nonexistent", "--state"},
                 {"--save", "/nonexistent", "--save"},
                 {"--host", "unix:", "path"},
                 {"--api-key-file", "/nonexistent", "--api-key-file /nonexistent"},
                 {"--preview", "taesd", "--preview-model"},
                 {"--vae", "/nonexistent", "nonexistent"}};
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        assert_false(START(&other, cases[i].option, cases[i].value));
        if (!strstr(other.said, cases[i].words)) fail_msg("%s", other.said);
        assert_in_range(serve_stop(&other, 0), 1, 2);
    }
}

/* --- what survives ---------------------------------------------------------------------------- */

static void test_state(void **state)
{
    (void)state;
    need_server();
    enum { JOBS = 6 };
    serve_child other;
    char dir[256], ids[JOBS][64];
    path_in(dir, "state");
    mkdir(dir, 0777);
    assert_true(START(&other, "--state", dir, "--control-nets", nets, "-t", "1"));
    for (int i = 0; i < JOBS; i++)
        post_job(&other,
                 json_pack("{s:s, s:i, s:i}", "prompt", "a cube", "steps", i ? 2 : 150, "seed", i),
                 ids[i]);
    serve_stop(&other, SIGKILL);
    assert_true(START(&other, "--state", dir, "--control-nets", nets, "-t", "1"));
    for (int i = 0; i < JOBS; i++) {
        json_t *value = wait_job(&other, ids[i]);
        assert_string_equal(text_of(value, "state"), "done");
        const json_t *seed = json_object_get(json_object_get(value, "result"), "seed");
        assert_int_equal(json_integer_value(seed), i);
        json_decref(value);
    }
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
    /* nothing is left to be done twice */
    assert_true(START(&other, "--state", dir, "-t", "1"));
    json_t *value = ask_json(&other, "GET", "/v1/jobs", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(value, "jobs")), 0);
    json_decref(value);
    assert_int_equal(serve_stop(&other, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samplers),
        cmocka_unit_test(test_two_controls),
        cmocka_unit_test(test_annotate),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_batch_jobs),
        cmocka_unit_test(test_cancel_some),
        cmocka_unit_test(test_recipe),
        cmocka_unit_test(test_second_is_ready),
        cmocka_unit_test(test_hundred_megabytes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_pictures_in_all),
        cmocka_unit_test(test_lora_names),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_slow_clients),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_job_timeout),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_key_file),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_wrong_usage),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests(tests, serving_open, serving_close);
}
