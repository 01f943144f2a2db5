/* SPDX-License-Identifier: Apache-2.0 */
/* test_faults.c - what a run survives: SIGKILL at any moment, a full disk, damaged caches, pictures
 * and checkpoints.
 *
 * Runs that are killed are processes of their own: the program runs itself with "child".
 */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"
#include "io/checksum.h"
#include "io/json.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 12, KILLS = 20 };

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

static cn_train_options options_for(const char *output)
{
    cn_train_options o = tiny_options(output);
    o.gradient_accumulation_steps = 2;
    o.max_train_steps = STEPS;
    o.validation_steps = 4;
    o.validation_count = 2;
    o.validation_sampling_steps = 1;
    o.checkpointing_steps = 1;
    o.checkpoints_total_limit = 2;
    return o;
}

/* Whether a name in the folder contains `words`. */
static bool holds(const char *dir, const char *words)
{
    bool found = false;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) found |= strstr(e->d_name, words) != NULL;
    if (d) closedir(d);
    return found;
}

/* Changes one byte in the middle of a file, or cuts it there. */
static void damage(const char *dir, const char *name, bool cut)
{
    char path[512], byte = 0;
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    if (cut) {
        assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
    } else {
        assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    }
    close(fd);
}

typedef struct warnings {
    int n;
    char last[1024];
} warnings;

static void take_warning(void *user, cn_log_level level, const char *line)
{
    warnings *w = user;
    if (level != CN_LOG_WARN) return;
    w->n++;
    snprintf(w->last, sizeof w->last, "%s", line);
}

/* --- killed ----------------------------------------------------------------------------------- */

static int child(char **argv)
{
    ctx = cn_ctx_create(1);
    if (!ctx) return 2;
    snprintf(model, sizeof model, "%s", argv[2]);
    snprintf(scenes, sizeof scenes, "%s", argv[3]);
    cn_train_options o = options_for(argv[4]);
    o.resume_from_checkpoint = "latest";
    char cache[512];
    snprintf(cache, sizeof cache, "%s/cache", argv[4]);
    o.cache_dir = cache;
    const cn_status s = cn_train(ctx, &o, NULL, NULL);
    if (s != CN_OK) fprintf(stderr, "child: %s\n", cn_error(ctx));
    cn_ctx_destroy(ctx);
    return s == CN_OK ? 0 : 1;
}

static pid_t start(const char *output)
{
    char *argv[] = {"/proc/self/exe", "child", model, scenes, (char *)output, NULL};
    const pid_t pid = test_start(argv, -1);
    assert_true(pid > 0);
    return pid;
}

/* Kills the run after `seconds`; true when it was done before. */
static bool kill_after(pid_t pid, double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
    kill(pid, SIGKILL);
    const int status = test_wait(pid, TEST_CHILD_SECONDS);
    if (status != 128 + SIGKILL) assert_int_equal(status, 0);
    return status == 0;
}

static double run_unbroken(const char *output)
{
    const double begin = cn_now_s();
    assert_int_equal(test_wait(start(output), TEST_CHILD_SECONDS), 0);
    return cn_now_s() - begin;
}

/* With a checkpoint at every step most of the time is spent saving; the first kills fall into the
 * building of the cache. Whoever is done early begins again in an empty folder, so that every one
 * of the kills hits a run. */
static void killed_runs_give_the_same_bytes(void **state)
{
    (void)state;
    char whole[256], broken[256];
    cn_rng rng;
    path_in(whole, "unkilled");
    const double seconds = run_unbroken(whole);
    const uint64_t seed = (uint64_t)time(NULL);
    cn_rng_seed(&rng, seed);
    int folder = 0;
    for (int kills = 0; kills < KILLS;) {
        snprintf(broken, sizeof broken, "%s/killed-%d", root, folder);
        const double share = kills % 5 ? 0.7 : 0.2;
        const bool done = kill_after(start(broken), seconds * share * (double)cn_rng_uniform(&rng));
        kills += !done;
        folder += done;
        if (done) assert_true(same_file(whole, broken, "control.safetensors"));
    }
    run_unbroken(broken);
    static const char *const files[] = {"control.safetensors",
                                        "checkpoint-12/optimizer.safetensors",
                                        "checkpoint-11/control.safetensors"};
    for (size_t i = 0; i < CN_COUNT(files); i++)
        if (!same_tensors(whole, broken, files[i]))
            fail_msg("%s differs after kills (seed %llu)", files[i], (unsigned long long)seed);
    assert_false(holds(broken, "tmp-"));
    assert_false(holds(broken, "saving-"));
    assert_false(holds(broken, "checkpoint-10"));
}

/* --- stopped within a step -------------------------------------------------------------------- */

static void *cancel_soon(void *user)
{
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    cn_cancel(user);
    return NULL;
}

typedef struct canceller {
    pthread_t thread;
    bool begun;
} canceller;

static void begin_cancelling(void *user, const cn_train_progress *p)
{
    canceller *c = user;
    if (strcmp(p->stage, "train") != 0 || c->begun) return;
    c->begun = pthread_create(&c->thread, NULL, cancel_soon, ctx) == 0;
}

/* Cancelled from a thread, while the second step runs: where that came between two steps, once
 * more. */
static bool cut_short(cn_train_options *o)
{
    canceller k = {0};
    cn_ctx *shared = ctx; /* a context can't be un-cancelled */
    ctx = cn_ctx_create(1);
    const cn_train_callbacks c = {.user = &k, .progress = begin_cancelling};
    const cn_status s = cn_train(ctx, o, &c, NULL);
    const bool within = strstr(cn_error(ctx), "passes of the next") != NULL;
    if (k.begun) pthread_join(k.thread, NULL);
    cn_ctx_destroy(ctx);
    ctx = shared;
    return s == CN_ECANCELLED && within;
}

/* What the passes of a step have summed when it is cut short counts when the run goes on. */
static void partial_sums_go_on(void **state)
{
    (void)state;
    enum { TRIES = 8 };
    char whole[256], out[256];
    bool within = false;
    path_in(whole, "summed");
    cn_train_options o = options_for(whole);
    o.gradient_accumulation_steps = 400;
    o.train_batch_size = 1;
    o.max_train_steps = 2;
    o.validation_steps = 0;
    o.checkpointing_steps = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    for (int i = 0; i < TRIES && !within; i++) {
        snprintf(out, sizeof out, "%s/summed-in-parts-%d", root, i);
        o.output_dir = out;
        within = cut_short(&o);
    }
    assert_true(within);
    o.resume_from_checkpoint = "latest";
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(whole, out, "control.safetensors"));
}

/* --- caches ----------------------------------------------------------------------------------- */

typedef struct stages {
    int text, latents, reading;
} stages;

static void count_stage(void *user, const cn_train_progress *p)
{
    stages *s = user;
    s->text += strcmp(p->stage, "text") == 0;
    s->latents += strcmp(p->stage, "latents") == 0;
    s->reading += strcmp(p->stage, "reading the cache") == 0;
}

/* The one cache of `dir` whose name begins so. */
static void find_file(const char *dir, const char *begin, char out[512])
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    out[0] = 0;
    for (struct dirent *e; (e = readdir(d));)
        if (!strncmp(e->d_name, begin, strlen(begin)) && !strstr(e->d_name, ".index"))
            snprintf(out, 512, "%s", e->d_name);
    closedir(d);
    assert_true(out[0]);
}

static void caches_stay_and_are_found_again(void **state)
{
    (void)state;
    char whole[256], out[256], cache[256], vae[512], picture[256], *bytes = NULL;
    size_t n = 0;
    warnings w = {0};
    path_in(whole, "uncached");
    path_in(out, "cached");
    path_in(cache, "cache");
    cn_train_options o = options_for(whole);
    o.validation_steps = 0;
    o.checkpointing_steps = 0;
    o.dataloader_num_workers = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = out;
    o.cache_dir = cache;
    o.dataloader_num_workers = 3;
    stages s = {0};
    const cn_train_callbacks c = {.user = &s, .progress = count_stage};
    must(cn_train(ctx, &o, &c, NULL));
    assert_true(same_file(whole, out, "control.safetensors"));
    assert_true(s.text && s.latents && !s.reading);
    s = (stages){0};
    must(cn_train(ctx, &o, &c, NULL)); /* nothing is encoded again, nor read before it is needed */
    assert_true(same_file(whole, out, "control.safetensors"));
    assert_true(!s.text && !s.latents && !s.reading);

    find_file(cache, "vae-16x16-", vae);
    damage(cache, vae, false);
    s = (stages){0};
    cn_ctx_set_log(ctx, take_warning, &w);
    must(cn_train(ctx, &o, &c, NULL));
    assert_int_equal(w.n, 1);
    assert_non_null(strstr(w.last, "prompt.json:"));
    assert_non_null(strstr(w.last, "damaged"));
    assert_true(s.latents == 1 && s.reading);
    assert_true(same_file(whole, out, "control.safetensors"));
    s = (stages){0};
    must(cn_train(ctx, &o, &c, NULL)); /* made whole for good */
    assert_true(w.n == 1 && !s.latents && !s.reading);
    cn_ctx_set_log(ctx, NULL, NULL);

    path_in(picture, "scenes/target/3.png"); /* written anew: another time of change */
    must(cn_file_read(ctx, picture, 1 << 20, &bytes, &n));
    must(cn_file_write(ctx, picture, bytes, n));
    cn_free(bytes);
    s = (stages){0};
    must(cn_train(ctx, &o, &c, NULL));
    assert_int_equal(s.latents, 1);
    o.resolution = 2 * TINY_PX; /* other files beside the first */
    s = (stages){0};
    must(cn_train(ctx, &o, &c, NULL));
    assert_true(s.latents > 0 && !s.text);
    assert_true(holds(cache, "vae-32x32-"));
}

typedef struct foretold {
    int reports, plans;
    cn_dataset_report report;
    cn_train_plan plan;
} foretold;

static void take_report(void *user, const cn_dataset_report *r)
{
    foretold *f = user;
    f->reports++;
    f->report = *r;
}

static void take_plan(void *user, const cn_train_plan *p)
{
    foretold *f = user;
    f->plans++;
    f->plan = *p;
}

static void a_dry_run_looks_at_the_data(void **state)
{
    (void)state;
    char out[256], data[256];
    foretold f = {0};
    warnings w = {0};
    const cn_train_callbacks c = {.user = &f, .checked = take_report, .planned = take_plan};
    path_in(out, "dry");
    path_in(data, "dry-scenes");
    must(tiny_scenes_write(ctx, data, 12));
    cn_train_options o = options_for(out);
    o.train_data_dir = data;
    o.dry_run = true;
    must(cn_train(ctx, &o, &c, NULL));
    assert_true(f.reports == 1 && f.plans == 1);
    assert_int_equal(f.report.looked_at, 12);
    assert_true(f.plan.encoding_seconds > 0 && f.plan.validation_seconds > 0);
    assert_true(f.plan.run_seconds > 0);
    damage(data, "source/4.png", true);
    f = (foretold){0};
    cn_ctx_set_log(ctx, take_warning, &w);
    refused(cn_train(ctx, &o, &c, NULL), CN_EFORMAT, "1 of its pairs");
    assert_non_null(strstr(w.last, "prompt.json:5"));
    assert_true(f.reports == 1 && f.plans == 1); /* memory and time are told all the same */
    o.skip_bad_data = true;
    must(cn_train(ctx, &o, &c, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
    assert_false(cn_dir_exists(out));
}

static void bad_pairs_stop_the_run_or_are_left_out(void **state)
{
    (void)state;
    char out[256], data[256], other[256];
    warnings w = {0};
    path_in(out, "bad");
    path_in(data, "bad-scenes");
    path_in(other, "bad-cache");
    must(tiny_scenes_write(ctx, data, 12));
    damage(data, "target/2.png", true);
    cn_train_options o = options_for(out);
    o.train_data_dir = data;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "prompt.json:3");
    o.skip_bad_data = true;
    o.cache_dir = other;
    cn_ctx_set_log(ctx, take_warning, &w);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_int_equal(w.n, 1);
    assert_non_null(strstr(w.last, "prompt.json:3"));
    assert_non_null(strstr(w.last, "left out"));
    /* a condition that breaks once its picture is encoded shows while training */
    damage(data, "source/5.png", true);
    w = (warnings){0};
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(w.n >= 2);
    assert_non_null(strstr(w.last, "prompt.json:6"));
    assert_non_null(strstr(w.last, "the next pair takes its place"));
    cn_ctx_set_log(ctx, NULL, NULL);
    o.skip_bad_data = false;
    o.train_data_dir = data;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "prompt.json:");
}

/* --- a full disk ------------------------------------------------------------------------------ */

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    char out[256], whole[256], file[512];
    struct rlimit before;
    struct stat st;
    path_in(whole, "roomy");
    path_in(out, "full");
    cn_train_options o = options_for(whole);
    o.max_train_steps = 4;
    o.validation_steps = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = out;
    o.max_train_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    /* files may grow to a byte less than the optimizer's: weights can be saved, its state can't */
    snprintf(file, sizeof file, "%s/checkpoint-2/optimizer.safetensors", out);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = (rlim_t)st.st_size - 1, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    o.max_train_steps = 4;
    o.resume_from_checkpoint = "latest";
    const cn_status s = cn_train(ctx, &o, NULL, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    refused(s, CN_EIO, "optimizer.safetensors");
    assert_false(holds(out, "checkpoint-3"));
    assert_false(holds(out, "saving-"));
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(whole, out, "control.safetensors"));
}

/* --- damaged checkpoints ---------------------------------------------------------------------- */

static void damaged_checkpoints_are_named_and_passed_over(void **state)
{
    (void)state;
    char out[256], whole[256];
    warnings w = {0};
    path_in(whole, "undamaged");
    path_in(out, "damaged");
    cn_train_options o = options_for(whole);
    o.max_train_steps = 6;
    o.validation_steps = 0;
    o.checkpoints_total_limit = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = out;
    o.max_train_steps = 4;
    must(cn_train(ctx, &o, NULL, NULL));
    o.max_train_steps = 6;
    o.resume_from_checkpoint = "latest";
    damage(out, "checkpoint-4/optimizer.safetensors", false);
    damage(out, "checkpoint-3/diffusion_pytorch_model.safetensors", true);
    cn_ctx_set_log(ctx, take_warning, &w);
    must(cn_train(ctx, &o, NULL, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
    assert_int_equal(w.n, 2);
    assert_non_null(strstr(w.last, "checkpoint-3/diffusion_pytorch_model.safetensors: damaged"));
    assert_true(same_file(whole, out, "control.safetensors"));
    assert_true(same_tensors(whole, out, "checkpoint-4/optimizer.safetensors")); /* made again */
    damage(out, "checkpoint-5/trainer_state.json", true);
    o.resume_from_checkpoint = "checkpoint-5"; /* asked for by name: no other will do */
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "checkpoint-5/trainer_state.json");
}

/* Puts `value` (NULL: nothing) under a key of the state; with `whole` the file's sum fits. Takes
 * `value` over. */
static void edit_state(const char *checkpoint, const char *key, json_t *value, bool whole)
{
    char path[512];
    json_t *json = NULL;
    snprintf(path, sizeof path, "%s/trainer_state.json", checkpoint);
    must(cn_json_load_file(ctx, path, &json));
    json_object_del(json, key);
    if (value) assert_int_equal(json_object_set_new(json, key, value), 0);
    json_t *sum = json_incref(json_object_get(json, "crc32"));
    json_object_del(json, "crc32");
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    if (whole) {
        json_decref(sum);
        sum = json_integer(cn_crc32(text, strlen(text)));
    }
    free(text);
    assert_int_equal(json_object_set_new(json, "crc32", sum), 0);
    must(cn_json_save_file(ctx, path, json));
    json_decref(json);
}

/* A number that changed, also beyond what may be, a list of files cut short, another version: each
 * is named, and nothing is gone on from. */
static void the_state_is_checked_itself(void **state)
{
    (void)state;
    char out[256], checkpoint[300], file[400];
    char *text = NULL;
    size_t n = 0;
    json_t *json = NULL;
    path_in(out, "state");
    cn_train_options o = options_for(out);
    o.max_train_steps = 2;
    o.validation_steps = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-2", out);
    snprintf(file, sizeof file, "%s/trainer_state.json", checkpoint);
    must(cn_json_load_file(ctx, file, &json));
    json_t *cut = json_deep_copy(json_object_get(json, "files"));
    json_object_del(cut, "optimizer.safetensors");
    json_decref(json);
    const struct {
        const char *key;
        json_t *value;
        bool whole;
        const char *words;
    } edits[] = {
        {"samples", json_integer(9), false, "trainer_state.json: damaged"},
        {"loss_sum", json_real(0.5), false, "trainer_state.json: damaged"},
        {"files", NULL, false, "trainer_state.json: damaged"},
        {"format", json_integer(4), true, "a checkpoint of format 4"},
        {"format", NULL, true, "\"format\""},
        {"format", json_integer(2), false, "trainer_state.json: damaged"}, /* it has a sum */
        {"samples", json_integer(INT64_MAX), true, "\"samples\" is 9223372036854775807"},
        {"step", json_integer(-1), true, "\"step\" is -1"},
        {"items", json_integer(0), true, "\"items\" is 0"},
        {"files", NULL, true, "\"files\" lacks control.safetensors"},
        {"files", cut, true, "\"files\" lacks optimizer.safetensors"},
        {"run_id", NULL, true, "16 hexadecimal digits"},
        {"run_id", json_string("0123456789abcdef"), true, "of run 0123456789abcdef at step 2"},
        {"passes", json_integer(2), true, "--gradient-accumulation-steps 3 or more"},
    };
    must(cn_file_read(ctx, file, 1 << 20, &text, &n));
    o.resume_from_checkpoint = "checkpoint-2";
    o.max_train_steps = 3;
    for (size_t i = 0; i < CN_COUNT(edits); i++) {
        must(cn_file_write(ctx, file, text, n));
        edit_state(checkpoint, edits[i].key, edits[i].value, edits[i].whole);
        const cn_status s = cn_train(ctx, &o, NULL, NULL);
        if (s == CN_OK || !strstr(cn_error(ctx), edits[i].words))
            fail_msg("%s: %s (wanted \"%s\")", edits[i].key, s == CN_OK ? "taken" : cn_error(ctx),
                     edits[i].words);
    }
    must(cn_file_write(ctx, file, text, n));
    must(cn_train(ctx, &o, NULL, NULL));
    cn_free(text);
}

/* As an earlier version wrote it: without sum and run. */
static void make_old(const char *out, const char *name)
{
    char path[512];
    json_t *json = NULL;
    snprintf(path, sizeof path, "%s/%s/trainer_state.json", out, name);
    must(cn_json_load_file(ctx, path, &json));
    json_object_del(json, "crc32");
    json_object_del(json, "run_id");
    json_object_del(json, "pass_samples");
    assert_int_equal(json_object_set_new(json, "format", json_integer(2)), 0);
    must(cn_json_save_file(ctx, path, json));
    json_decref(json);
}

static void checkpoints_of_before_go_on(void **state)
{
    (void)state;
    char out[256], whole[256], run[400];
    warnings w = {0};
    path_in(whole, "new");
    path_in(out, "old");
    cn_train_options o = options_for(whole);
    o.max_train_steps = 4;
    o.checkpoints_total_limit = 0;
    o.validation_steps = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = out;
    o.max_train_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    make_old(out, "checkpoint-2");
    snprintf(run, sizeof run, "%s/run.json", out);
    assert_int_equal(unlink(run), 0);
    o.max_train_steps = 3;
    o.resume_from_checkpoint = "latest";
    cn_ctx_set_log(ctx, take_warning, &w);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_int_equal(w.n, 1);
    assert_non_null(strstr(w.last, "checkpoint-2/trainer_state.json: of format 2"));
    /* also by its name, in the folder that is a run's by now */
    o.resume_from_checkpoint = "checkpoint-2";
    o.overwrite = true;
    o.max_train_steps = 4;
    must(cn_train(ctx, &o, NULL, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
    assert_true(same_file(whole, out, "control.safetensors"));
    /* its other files are checked as ever */
    damage(out, "checkpoint-2/optimizer.safetensors", false);
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "optimizer.safetensors: damaged");
}

static void without_a_whole_checkpoint_nothing_starts(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "hopeless");
    cn_train_options o = options_for(out);
    o.max_train_steps = 2;
    o.validation_steps = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    damage(out, "checkpoint-2/control.safetensors", false);
    damage(out, "checkpoint-1/control.safetensors", false);
    o.resume_from_checkpoint = "latest";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "no older checkpoint");
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "child") == 0) return child(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_runs_give_the_same_bytes),
        cmocka_unit_test(partial_sums_go_on),
        cmocka_unit_test(caches_stay_and_are_found_again),
        cmocka_unit_test(a_dry_run_looks_at_the_data),
        cmocka_unit_test(bad_pairs_stop_the_run_or_are_left_out),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(damaged_checkpoints_are_named_and_passed_over),
        cmocka_unit_test(the_state_is_checked_itself),
        cmocka_unit_test(checkpoints_of_before_go_on),
        cmocka_unit_test(without_a_whole_checkpoint_nothing_starts),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
