/* SPDX-License-Identifier: Apache-2.0 */
/* test_train_data.c - whole small runs over pictures of several sizes, random crops, pictures
 * encoded in their step. */
#include "../support/unit/tiny_run.h"
#include "image/image.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char mixed[128];
static char told[16384]; /* the log of the last run */

enum { PAIRS = 20 };

static void keep_log(void *user, cn_log_level level, const char *text)
{
    (void)user, (void)level;
    const size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%s\n", text);
}

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0) return -1;
    cn_ctx_set_log(ctx, keep_log, NULL);
    snprintf(mixed, sizeof mixed, "%s/mixed", root);
    must(tiny_mixed_write(ctx, mixed, PAIRS));
    return 0;
}

static cn_train_options options_for(const char *output)
{
    cn_train_options o = tiny_options(output);
    o.train_data_dir = mixed;
    o.train_batch_size = 3;
    o.max_train_steps = 5;
    o.bucket_reso_steps = 8;
    o.enable_bucket = true;
    return o;
}

static cn_status train(const cn_train_options *o)
{
    told[0] = 0;
    return cn_train(ctx, o, NULL, NULL);
}

static void must_say(const char *words)
{
    if (!strstr(told, words)) fail_msg("\"%s\" wasn't said: %s", words, told);
}

/* Eleven steps at once, and the same in parts that end in the middle of an epoch: the same
 * bytes. */
static void check_resuming(const char *name, cn_train_options o, char whole[256])
{
    char parts[256];
    snprintf(whole, 256, "%s/%s-whole", root, name);
    snprintf(parts, sizeof parts, "%s/%s-parts", root, name);
    o.output_dir = whole;
    o.max_train_steps = 11;
    must(train(&o));
    o.output_dir = parts;
    o.resume_from_checkpoint = "latest";
    o.checkpointing_steps = 1;
    for (o.max_train_steps = 2; o.max_train_steps <= 11; o.max_train_steps += 3) must(train(&o));
    if (!same_file(whole, parts, "control.safetensors"))
        fail_msg("%s: control.safetensors differs after resuming", name);
}

/* --- buckets ---------------------------------------------------------------------------------- */

typedef struct seen {
    cn_train_bucket list[8];
    int n;
    size_t training, activations;
} seen;

static void keep_plan(void *user, const cn_train_plan *p)
{
    seen *s = user;
    s->n = CN_MIN(p->n_buckets, (int)CN_COUNT(s->list));
    memcpy(s->list, p->buckets, (size_t)s->n * sizeof *s->list);
    /* without what the program itself takes by now, which isn't planned */
    s->training = p->training_bytes - p->process_bytes;
    s->activations = p->activation_bytes + p->gradient_bytes;
}

static void plan_of(cn_train_options *o, seen *s)
{
    o->dry_run = true;
    must(cn_train(ctx, o, &(cn_train_callbacks){.user = s, .planned = keep_plan}, NULL));
    o->dry_run = false;
}

static void a_dry_run_names_the_buckets(void **state)
{
    (void)state;
    static const int64_t want[][3] = {{8, 24, 6}, {16, 16, 7}, {24, 8, 7}};
    char out[256];
    seen s = {0};
    path_in(out, "dry");
    cn_train_options o = options_for(out);
    told[0] = 0;
    plan_of(&o, &s);
    assert_int_equal(s.n, CN_COUNT(want));
    for (size_t i = 0; i < CN_COUNT(want); i++)
        assert_true(s.list[i].width == want[i][0] && s.list[i].height == want[i][1] &&
                    s.list[i].count == want[i][2]);
    must_say("buckets: 8 x 24 (6), 16 x 16 (7), 24 x 8 (7)");
    o.enable_bucket = false;
    plan_of(&o, &s);
    assert_int_equal(s.n, 1);
    assert_true(s.list[0].width == TINY_PX && s.list[0].count == PAIRS);
}

/* All sizes compute in one arena, as large as that of the largest. */
static void the_largest_bucket_is_what_is_planned(void **state)
{
    (void)state;
    char out[256];
    seen square = {0}, all = {0};
    path_in(out, "planned");
    cn_train_options o = options_for(out);
    plan_of(&o, &all);
    o.enable_bucket = false;
    plan_of(&o, &square);
    assert_true(all.activations >= square.activations);
    assert_true(all.activations < square.activations + square.activations / 4);
    o.enable_bucket = true;
    o.max_memory_bytes = 1 << 20;
    refused(train(&o), CN_ENOMEM, "--max-memory allows");
}

static void buckets_resume_in_the_middle_of_an_epoch(void **state)
{
    (void)state;
    char whole[256], other[256], square[256];
    cn_train_options o = options_for(NULL);
    check_resuming("bucket", o, whole);
    o.gradient_accumulation_steps = 2;
    o.bucket_no_upscale = true;
    check_resuming("bucket-shrunk", o, other);
    o = options_for(square);
    path_in(square, "square");
    o.enable_bucket = false;
    o.max_train_steps = 11;
    must(train(&o));
    assert_false(same_file(whole, square, "control.safetensors"));
}

/* Passes of another size begin at a whole one of theirs, with a warning. */
static void other_passes_go_on_with_a_warning(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "other-passes");
    cn_train_options o = options_for(out);
    o.checkpointing_steps = 1;
    must(train(&o));
    o.resume_from_checkpoint = "latest";
    o.train_batch_size = 2;
    o.max_train_steps = 7;
    must(train(&o));
    must_say("but not as the first run would have");
}

static void nothing_grows_from_pass_to_pass(void **state)
{
    (void)state;
    if (getenv("ASAN_OPTIONS")) {
        print_message("SKIP: what AddressSanitizer keeps of freed memory would be measured\n");
        skip();
    }
    enum { STEPS = 120 };
    double bytes[STEPS];
    char out[256];
    path_in(out, "steady");
    cn_train_options o = options_for(out);
    o.max_train_steps = STEPS;
    must(train(&o));
    assert_int_equal(tiny_metrics(out, "resident_bytes", bytes, STEPS), STEPS);
    assert_true(bytes[STEPS - 1] - bytes[20] < 4 << 20);
}

static void validation_keeps_its_own_size(void **state)
{
    (void)state;
    char out[256], sheet[300];
    double loss[4];
    cn_image *image = NULL;
    path_in(out, "validated");
    cn_train_options o = options_for(out);
    o.validation_steps = 3;
    o.validation_count = 3;
    o.validation_sampling_steps = 2;
    o.max_train_steps = 6;
    must(train(&o));
    assert_int_equal(tiny_metrics(out, "loss_with_control", loss, 4), 2);
    assert_true(isfinite(loss[0]) && isfinite(loss[1]));
    snprintf(sheet, sizeof sheet, "%s/validation/step_6/0.png", out);
    must(cn_image_load(ctx, sheet, &image));
    assert_true(image->width == TINY_PX && image->height == TINY_PX);
    cn_image_destroy(image);
}

/* --- crops, and pictures encoded in their step ------------------------------------------------ */

static void encoding_in_the_step_changes_nothing(void **state)
{
    (void)state;
    double a[8], b[8], spent[8];
    char cached[256], fresh[256];
    for (int buckets = 0; buckets < 2; buckets++) {
        path_in(cached, buckets ? "cached-buckets" : "cached");
        path_in(fresh, buckets ? "fresh-buckets" : "fresh");
        cn_train_options o = options_for(cached);
        o.enable_bucket = buckets;
        must(train(&o));
        o.output_dir = fresh;
        o.cache_latents = false;
        must(train(&o));
        assert_int_equal(tiny_metrics(cached, "loss", a, 8), 5);
        assert_int_equal(tiny_metrics(fresh, "loss", b, 8), 5);
        for (int i = 0; i < 5; i++) assert_true(fabs(a[i] - b[i]) <= 1e-5 * fabs(a[i]));
        assert_int_equal(tiny_metrics(fresh, "encode_seconds", spent, 8), 5);
        assert_true(spent[0] > 0);
        assert_int_equal(tiny_metrics(cached, "encode_seconds", spent, 8), 0);
    }
}

static void random_crops_are_drawn_anew_and_resume(void **state)
{
    (void)state;
    char middle[256], crops[256], validated[256];
    cn_train_options o = options_for(NULL);
    o.enable_bucket = false;
    o.cache_latents = false;
    check_resuming("middle", o, middle);
    o.random_crop = true;
    check_resuming("crops", o, crops);
    assert_false(same_file(middle, crops, "control.safetensors"));
    o.enable_bucket = true;
    o.random_flip = true;
    o.conditioning_kind = "depth";
    o.gradient_accumulation_steps = 2;
    check_resuming("crops-buckets", o, crops);
    path_in(validated, "crops-validated");
    o.output_dir = validated;
    o.validation_steps = 2;
    o.validation_count = 3;
    o.validation_sampling_steps = 2;
    must(train(&o));
    o.cache_latents = true;
    refused(train(&o), CN_EINVAL, "--random-crop");
}

static void what_is_encoded_in_the_step_is_planned(void **state)
{
    (void)state;
    char out[256];
    seen cached = {0}, fresh = {0};
    path_in(out, "planned-fresh");
    cn_train_options o = options_for(out);
    plan_of(&o, &cached);
    o.cache_latents = false;
    plan_of(&o, &fresh);
    assert_true(fresh.activations >= cached.activations);
    assert_true(fresh.training > cached.training);
}

/* --- what is broken --------------------------------------------------------------------------- */

/* Writes a data set of its own, one picture's file replaced by so many of its first bytes. */
static void write_broken(char dir[256], const char *name, const char *file, size_t bytes)
{
    char path[300], *data = NULL;
    size_t n = 0;
    path_in(dir, name);
    must(tiny_mixed_write(ctx, dir, PAIRS));
    snprintf(path, sizeof path, "%s/%s", dir, file);
    must(cn_file_read(ctx, path, 1 << 20, &data, &n));
    must(cn_file_write(ctx, path, data, CN_MIN(n, bytes)));
    cn_free(data);
}

/* A broken head, a broken body, a broken condition: each is named, and stops the run or is left
 * out. */
static void broken_pairs_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        size_t bytes;
    } cases[] = {{"target/4.png", 20}, {"target/7.png", 100}, {"source/8.png", 60}};
    for (size_t i = 0; i < CN_COUNT(cases); i++)
        for (int cached = 0; cached < 2; cached++) {
            char dir[256], out[300], name[32];
            snprintf(name, sizeof name, "broken-%d-%d", (int)i, cached);
            write_broken(dir, name, cases[i].file, cases[i].bytes);
            snprintf(out, sizeof out, "%s/out", dir);
            cn_train_options o = options_for(out);
            o.train_data_dir = dir;
            o.cache_latents = cached;
            o.max_train_steps = 8; /* an epoch has seven */
            refused(train(&o), CN_EFORMAT, cases[i].file);
            o.skip_bad_data = true;
            must(train(&o));
            must_say(cases[i].file);
        }
}

/* Breaks a byte in the middle of each cache file in the folder. */
static int break_caches(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512], *data = NULL;
        size_t bytes = 0;
        if (strncmp(e->d_name, "vae-", 4) != 0 || strstr(e->d_name, ".index")) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        must(cn_file_read(ctx, path, 1 << 26, &data, &bytes));
        data[bytes / 2] ^= 1;
        must(cn_file_write(ctx, path, data, bytes));
        cn_free(data);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void broken_caches_are_named_and_made_again(void **state)
{
    (void)state;
    char whole[256], again[256], cache[256];
    path_in(whole, "cache-whole");
    path_in(again, "cache-again");
    path_in(cache, "cache");
    cn_train_options o = options_for(whole);
    o.cache_dir = cache;
    must(train(&o));
    assert_int_equal(break_caches(cache), 3); /* one for each size */
    o.output_dir = again;
    must(train(&o));
    must_say("its entry in the cache is damaged");
    assert_true(same_file(whole, again, "control.safetensors"));
}

static void options_that_contradict_are_refused(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "refused");
    cn_train_options o = options_for(out);
    o.bucket_reso_steps = 3;
    refused(train(&o), CN_EINVAL, "--bucket-reso-steps 3");
    o.bucket_reso_steps = 64;
    refused(train(&o), CN_EINVAL, "--bucket-reso-steps 64");
    o.bucket_reso_steps = 8;
    o.min_bucket_reso = 24;
    refused(train(&o), CN_EINVAL, "--min-bucket-reso 24");
    o.min_bucket_reso = 8;
    o.enable_bucket = false;
    refused(train(&o), CN_EINVAL, "--enable-bucket");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dry_run_names_the_buckets),
        cmocka_unit_test(the_largest_bucket_is_what_is_planned),
        cmocka_unit_test(buckets_resume_in_the_middle_of_an_epoch),
        cmocka_unit_test(other_passes_go_on_with_a_warning),
        cmocka_unit_test(nothing_grows_from_pass_to_pass),
        cmocka_unit_test(validation_keeps_its_own_size),
        cmocka_unit_test(encoding_in_the_step_changes_nothing),
        cmocka_unit_test(random_crops_are_drawn_anew_and_resume),
        cmocka_unit_test(what_is_encoded_in_the_step_is_planned),
        cmocka_unit_test(broken_pairs_are_named),
        cmocka_unit_test(broken_caches_are_named_and_made_again),
        cmocka_unit_test(options_that_contradict_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
