/* SPDX-License-Identifier: Apache-2.0 */
/* test_serve_train.c - training through `controlnet serve`: the same weights as cn_train's, also of
 * a run that was stopped in between; what a dry run tells; where it may read and write. */
#include "../support/unit/serving.h"

#include "server/base64.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 40 };

static serve_child trainer;
static char data[256];

static int set_up(void **state)
{
    char link[300];
    if (serving_open(state) != 0) return -1;
    path_in(data, "data");
    mkdir(data, 0777);
    snprintf(link, sizeof link, "%s/scenes", data);
    if (rename(scenes, link) != 0) return -1;
    snprintf(scenes, sizeof scenes, "%.120s", link);
    snprintf(link, sizeof link, "%s/away", data);
    if (symlink(root, link) != 0) return -1;
    /* a program without a server is skipped by each test */
    (void)START(&trainer, "--control-nets", nets, "--data", data, "-t", "1");
    return 0;
}

static int tear_down(void **state)
{
    serve_stop(&trainer, SIGTERM);
    return serving_close(state);
}

static json_t *request(const char *name, int steps)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:f, s:i, s:i}", "type", "train", "name", name,
                     "data", "scenes", "resolution", TINY_PX, "train_batch_size", 2,
                     "max_train_steps", steps, "learning_rate", 1e-3, "validation_steps", 0,
                     "checkpointing_steps", 0);
}

static void train_here(const char *dir)
{
    cn_train_options o = tiny_options(dir);
    o.train_data_dir = scenes;
    o.max_train_steps = STEPS;
    must(cn_train(ctx, &o, NULL, NULL));
}

static void test_same_weights(void **state)
{
    (void)state;
    need_server();
    char id[64], want[256], got[256];
    path_in(want, "want");
    path_in(got, "nets/got");
    train_here(want);
    post_job(&trainer, request("got", STEPS), id);
    json_t *value = wait_job(&trainer, id);
    assert_string_equal(text_of(value, "state"), "done");
    const json_t *result = json_object_get(value, "result");
    assert_int_equal(json_integer_value(json_object_get(result, "steps")), STEPS);
    assert_int_equal(json_array_size(json_object_get(value, "curve")), STEPS);
    json_decref(value);
    assert_true(same_tensors(got, want, "control.safetensors"));
    /* and it can be drawn with */
    value = ask_json(&trainer, "GET", "/v1/control-nets", NULL, 200);
    char *text = json_dumps(value, 0);
    assert_non_null(strstr(text, "\"got [") ? text : NULL);
    free(text);
    json_decref(value);
}

/* Stopped as soon as it has made a step; what goes on ends as if it hadn't been. */
static void test_stop_and_resume(void **state)
{
    (void)state;
    need_server();
    char id[64], path[128], want[256], got[256];
    path_in(want, "want");
    path_in(got, "nets/stopped");
    post_job(&trainer, request("stopped", STEPS), id);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    for (int i = 0; i < 100 * RUN_SECONDS; i++) {
        json_t *now = ask_json(&trainer, "GET", path, NULL, 200);
        const bool steps = json_array_size(json_object_get(now, "curve")) > 0;
        json_decref(now);
        if (steps) break;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    json_decref(ask_json(&trainer, "DELETE", path, NULL, 200));
    json_t *value = wait_job(&trainer, id);
    const bool stopped = !strcmp(text_of(value, "state"), "cancelled");
    json_decref(value);
    if (!stopped) return; /* it was faster */
    json_t *again = request("stopped", STEPS);
    json_object_set_new(again, "resume", json_true());
    post_job(&trainer, again, id);
    value = wait_job(&trainer, id);
    if (strcmp(text_of(value, "state"), "done") != 0) fail_msg("%s", text_of(value, "error"));
    json_decref(value);
    assert_true(same_tensors(got, want, "control.safetensors"));
}

/* Four of the 16 pairs, evenly spread: condition and picture beside each other. */
static void assert_samples(const json_t *result)
{
    const json_t *images = json_object_get(result, "images");
    const json_t *samples = json_object_get(result, "samples");
    assert_int_equal(json_array_size(images), 4);
    assert_int_equal(json_array_size(samples), 4);
    for (size_t i = 0; i < 4; i++) {
        size_t n = 0;
        cn_image *image = NULL;
        char *png = base64_decode(json_string_value(json_array_get(images, i)),
                                  strlen(json_string_value(json_array_get(images, i))), &n);
        must(cn_image_load_memory(ctx, png, n, &image));
        assert_int_equal(cn_image_width(image), 2 * cn_image_height(image));
        const json_t *pair = json_object_get(json_array_get(samples, i), "pair");
        assert_int_equal(json_integer_value(pair), 4 * i);
        assert_null(json_object_get(json_array_get(samples, i), "where"));
        assert_true(*text_of(json_array_get(samples, i), "prompt"));
        cn_image_destroy(image);
        free(png);
    }
}

static void test_dry_run(void **state)
{
    (void)state;
    need_server();
    char id[64], made[256];
    json_t *r = request("dry", 8);
    json_object_set_new(r, "dry_run", json_true());
    post_job(&trainer, r, id);
    json_t *value = wait_job(&trainer, id);
    const json_t *result = json_object_get(value, "result");
    const json_t *found = json_object_get(result, "data"), *plan = json_object_get(result, "plan");
    assert_int_equal(json_integer_value(json_object_get(found, "pairs")), 16);
    assert_int_equal(json_integer_value(json_object_get(plan, "steps")), 8);
    assert_true(json_integer_value(json_object_get(plan, "peak_bytes")) > 1 << 20);
    assert_samples(result);
    json_decref(value);
    path_in(made, "nets/dry");
    assert_int_not_equal(access(made, F_OK), 0);
}

static void refuse_train(const serve_child *s, const char *key, json_t *set, const char *words)
{
    json_t *r = request("x", 1);
    json_object_set_new(r, key, set);
    json_t *value = ask_json(s, "POST", "/v1/jobs", r, 422);
    if (!strstr(text_of(value, "detail"), words)) fail_msg("%s", text_of(value, "detail"));
    json_decref(value);
    json_decref(r);
}

static void test_refused(void **state)
{
    (void)state;
    need_server();
    static const char *const names[] = {"", "..", "../x", ".x", "a/b", "-x", "x\n"};
    static const char *const folders[] = {"..", "../", "/etc", "away", "scenes/../..", "none"};
    for (size_t i = 0; i < CN_COUNT(names); i++)
        refuse_train(&trainer, "name", json_string(names[i]), "name: 1 to 64");
    for (size_t i = 0; i < CN_COUNT(folders); i++)
        refuse_train(&trainer, "data", json_string(folders[i]), "no such folder under --data");
    refuse_train(&trainer, "data", json_string(""), "one of /v1/datasets");
    refuse_train(&trainer, "data", json_null(), "one of /v1/datasets");
    refuse_train(&trainer, "output_dir", json_string("/tmp/x"), "no such member");
    refuse_train(&trainer, "cache_dir", json_string("/tmp/x"), "no such member");
    refuse_train(&trainer, "overwrite", json_true(), "no such member");
    refuse_train(&trainer, "max_train_steps", json_integer(-1), "whole number");
    refuse_train(&server, "name", json_string("x"), "--data"); /* started without */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_weights),
        cmocka_unit_test(test_stop_and_resume),
        cmocka_unit_test(test_dry_run),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
