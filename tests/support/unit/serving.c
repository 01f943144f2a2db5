/* SPDX-License-Identifier: Apache-2.0 */
/* serving.c - see serving.h. */
#include "serving.h"

#include "../child.h"
#include "image/image.h"
#include "server/base64.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

char program[PATH_MAX], nets[256], net_a[256], net_b[256], saved[256];
serve_child server;
static bool without_server;

/* --- the server ------------------------------------------------------------------------------- */

int serving_open(void **state)
{
    (void)state;
    if (tiny_open(1) != 0 || !test_find_controlnet(NULL, program)) return -1;
    path_in(nets, "nets");
    path_in(net_a, "nets/a");
    path_in(net_b, "nets/b");
    path_in(saved, "saved");
    mkdir(nets, 0777);
    mkdir(saved, 0777);
    for (int i = 0; i < 2; i++) {
        cn_train_options o = tiny_options(i ? net_b : net_a);
        o.max_train_steps = 2 + i;
        o.learning_rate = 0.1;
        must(cn_train(ctx, &o, NULL, NULL));
    }
    const bool good = START(&server, "--control-nets", nets, "--save", saved, "-t", "1",
                            "--max-body", "1M", "--max-pixels", "65536", "--preview", "vae");
    without_server = strstr(server.said, "libmicrohttpd") != NULL;
    return good || without_server ? 0 : -1;
}

int serving_close(void **state)
{
    if (!without_server) assert_int_equal(serve_stop(&server, SIGTERM), 0);
    return unit_close(state);
}

void need_server(void)
{
    if (!without_server) return;
    printf("SKIP  built without libmicrohttpd\n");
    skip();
}

json_t *ask_json(const serve_child *s, const char *method, const char *path, const json_t *body,
                 int status)
{
    char *text = body ? json_dumps(body, 0) : NULL;
    http_answer a = http_ask(s, method, path, NULL, text, text ? strlen(text) : 0);
    if (a.status != status)
        fail_msg("%s %s: %d instead of %d: %s", method, path, a.status, status,
                 a.body ? a.body : "");
    json_t *value = json_loads(a.body, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    http_free(&a);
    free(text);
    return value;
}

const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

void post_job(const serve_child *s, json_t *request, char id[64])
{
    json_t *state = ask_json(s, "POST", "/v1/jobs", request, 202);
    snprintf(id, 64, "%s", text_of(state, "id"));
    json_decref(state);
    json_decref(request);
}

/* Its state once it has ended. */
json_t *wait_job(const serve_child *s, const char *id)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    for (int i = 0; i < 100 * RUN_SECONDS; i++) {
        json_t *state = ask_json(s, "GET", path, NULL, 200);
        const char *name = text_of(state, "state");
        if (strcmp(name, "queued") != 0 && strcmp(name, "running") != 0) return state;
        json_decref(state);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fail_msg("job %s doesn't end", id);
    return NULL;
}

/* The request's first picture as PNG bytes. */
http_answer draw(const serve_child *s, json_t *request)
{
    char id[64], path[128];
    post_job(s, request, id);
    json_t *state = wait_job(s, id);
    if (strcmp(text_of(state, "state"), "done") != 0) fail_msg("%s", text_of(state, "error"));
    json_decref(state);
    snprintf(path, sizeof path, "/v1/jobs/%s/pictures/0", id);
    http_answer a = http_ask(s, "GET", path, NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    return a;
}

/* --- as the command line draws ---------------------------------------------------------------- */

void run(const char *const *args)
{
    char *argv[64] = {program};
    int n = 1;
    for (; args[n - 1]; n++) argv[n] = (char *)(uintptr_t)args[n - 1];
    /* the server writes none either unless it is asked to */
    if (!strcmp(args[0], "generate")) argv[n] = (char *)(uintptr_t) "--no-recipe";
    const int log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(test_wait(test_start(argv, log), RUN_SECONDS), 0);
    close(log);
}

void assert_like_file(const void *png, size_t n, const char *file)
{
    cn_image *got = NULL, *want = NULL;
    char *got_text = NULL, *want_text = NULL, *whole = NULL;
    size_t bytes = 0;
    must(cn_image_load_memory(ctx, png, n, &got));
    must(cn_image_load(ctx, file, &want));
    assert_int_equal(got->width, want->width);
    assert_int_equal(got->height, want->height);
    assert_memory_equal(got->rgb, want->rgb, (size_t)(3 * got->width * got->height));
    must(cn_png_text_memory(ctx, png, n, "parameters", &got_text));
    must(cn_png_text(ctx, file, "parameters", &want_text));
    assert_string_equal(got_text, want_text);
    must(cn_file_read(ctx, file, 1 << 24, &whole, &bytes));
    assert_int_equal(n, bytes);
    assert_memory_equal(png, whole, n);
    cn_free(whole);
    cn_free(got_text);
    cn_free(want_text);
    cn_image_destroy(got);
    cn_image_destroy(want);
}

void assert_base64_like_file(const json_t *text, const char *file)
{
    size_t n = 0;
    assert_true(json_is_string(text));
    char *png = base64_decode(json_string_value(text), json_string_length(text), &n);
    assert_non_null(png);
    assert_like_file(png, n, file);
    free(png);
}

void refuse(const char *method, const char *path, const char *headers, const char *body, int status,
            const char *words)
{
    http_answer a = http_ask(&server, method, path, headers, body, body ? strlen(body) : 0);
    if (a.status != status || !a.body || !strstr(a.body, words))
        fail_msg("%s %s %.100s: %d, %.300s", method, path, body ? body : "", a.status,
                 a.body ? a.body : "");
    http_free(&a);
}

/* A picture as a file and as base64. */
json_t *picture(const char *name, int phase, char file[256])
{
    cn_image *image = NULL;
    uint8_t *png = NULL;
    size_t n = 0;
    path_in(file, name);
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &image));
    for (int i = 0; i < 3 * TINY_PX * TINY_PX; i++)
        image->rgb[i] = i / 3 % TINY_PX < 5 + phase ? 255 : (uint8_t)(phase * i);
    must(cn_image_save_png(ctx, file, image, NULL));
    must(cn_png_encode(ctx, image, NULL, &png, &n));
    char *text = base64_encode(png, n, NULL);
    json_t *value = json_string(text);
    free(text);
    cn_free(png);
    cn_image_destroy(image);
    return value;
}
