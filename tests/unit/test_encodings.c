/* SPDX-License-Identifier: Apache-2.0 */
/* Shards with encoded pictures and captions: what stands in them, the same bytes whatever the parts
 * and interruptions, training that takes them or says why not, and copies that keep them. */
#include "../support/unit/tiny_run.h"

#include "data/shard_encodings.h"
#include "diffuse/sampling.h"
#include "io/npy.h"
#include "io/tar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SCENES = 17, MIXED = 6, STEPS = 6 };

static char sources_text[128], told[16384];
static const char *sources[] = {"scenes:17?seed=5&size=32", sources_text, NULL};
static const char *const canny[] = {"canny", NULL};

static void keep_log(void *user, cn_log_level level, const char *text)
{
    (void)user, (void)level;
    const size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%s\n", text);
}

static int set_up(void **state)
{
    (void)state;
    char mixed[256];
    if (tiny_open(2) != 0) return -1;
    cn_ctx_set_log(ctx, keep_log, NULL);
    path_in(mixed, "mixed");
    must(tiny_mixed_write(ctx, mixed, MIXED));
    snprintf(sources_text, sizeof sources_text, "%s/mixed/target", root);
    return 0;
}

/* Scenes that are shrunk and become JPEG, and pictures of other proportions. */
static cn_prepare_options prepare(const char *out, const char *with)
{
    return (cn_prepare_options){.sources = sources,
                                .conditions = canny,
                                .output_dir = out,
                                .layout = "webdataset",
                                .caption = "a picture",
                                .resolution = TINY_PX,
                                .quality = 80,
                                .encode = with,
                                .shard_size = 60000};
}

static cn_prepare_result make(cn_ctx *use, const cn_prepare_options *o)
{
    cn_prepare_result r;
    if (cn_dataset_prepare(use, o, &r) != CN_OK) fail_msg("%s", cn_error(use));
    return r;
}

static int train(const char *data, const char *out, cn_train_options o, double loss[STEPS])
{
    o.train_data_dir = data;
    o.output_dir = out;
    o.max_train_steps = STEPS;
    told[0] = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    return tiny_metrics(out, "loss", loss, STEPS);
}

static void must_say(const char *words)
{
    if (!strstr(told, words)) fail_msg("\"%s\" wasn't said: %s", words, told);
}

static void must_not_say(const char *words)
{
    if (strstr(told, words)) fail_msg("\"%s\" was said: %s", words, told);
}

/* --- what is written -------------------------------------------------------------------------- */

typedef struct found {
    int moments, texts, tokens;
    int64_t positions[3];
    char names[3][128];
} found;

static cn_status take(void *user, const cn_tar_entry *e)
{
    found *f = user;
    const char *const parts[] = {".vae-16x16-", ".text-", ".tokens.npy"};
    int *const counts[] = {&f->moments, &f->texts, &f->tokens};
    for (int k = 0; k < 3; k++) {
        if (!strstr(e->name, parts[k])) continue;
        ++*counts[k];
        f->positions[k] = e->position;
        snprintf(f->names[k], sizeof f->names[k], "%s", e->name);
    }
    return CN_OK;
}

static void expect_shape(const char *tar, int64_t position, int ndim, const int64_t *shape)
{
    char *data = NULL;
    size_t n = 0;
    cn_npy *a = NULL;
    must(cn_tar_read(ctx, tar, position, 1 << 26, NULL, &data, &n));
    must(cn_npy_load_memory(ctx, data, n, &a));
    assert_int_equal(a->ndim, ndim);
    for (int i = 0; i < ndim; i++) assert_int_equal(a->shape[i], shape[i]);
    cn_npy_free(a);
    cn_free(data);
}

static void a_sample_has_its_encodings(void **state)
{
    (void)state;
    char out[256], tar[300];
    found f = {0};
    cn_base *base = NULL;
    path_in(out, "members");
    snprintf(tar, sizeof tar, "%s/00000.tar", out);
    cn_prepare_options o = prepare(out, model);
    o.shard_size = 0;
    const cn_prepare_result r = make(ctx, &o);
    assert_int_equal(r.pairs, SCENES + MIXED);
    assert_true(r.encoder_bytes > 0);
    must(cn_tar_scan(ctx, tar, take, &f));
    assert_int_equal(f.moments, SCENES + MIXED);
    assert_int_equal(f.texts, SCENES + MIXED);
    assert_int_equal(f.tokens, SCENES + MIXED);
    must(cn_base_open(ctx, model, &base));
    const int64_t L = cn_base_context_length(base), D = cn_base_context_dim(base);
    const int64_t side = TINY_PX / cn_vae_factor(&base->vae);
    expect_shape(tar, f.positions[0], 3, (int64_t[]){side, side, 2 * base->vae.latent_channels});
    expect_shape(tar, f.positions[1], 2, (int64_t[]){L, D});
    expect_shape(tar, f.positions[2], 1, (int64_t[]){L});
    cn_base_close(base);
}

/* --- the same bytes --------------------------------------------------------------------------- */

static void expect_same(const char *a, const char *b, int64_t shards)
{
    for (int64_t i = 0; i < shards; i++) {
        char name[32];
        snprintf(name, sizeof name, "%05d.tar", (int)i);
        if (!same_file(a, b, name)) fail_msg("%s differs in %s and %s", name, a, b);
    }
}

static void stop_at(void *user, const char *stage, int64_t done, int64_t total)
{
    (void)stage, (void)total;
    if (done >= 7) cn_cancel(user);
}

static void parts_and_interruptions_give_the_same_bytes(void **state)
{
    (void)state;
    char whole[256], parts[256], stopped[256];
    path_in(whole, "whole");
    path_in(parts, "parts");
    path_in(stopped, "stopped");
    cn_prepare_options o = prepare(whole, model);
    const cn_prepare_result r = make(ctx, &o);
    assert_true(r.shards > 1);
    o = prepare(parts, model);
    o.part = "2/2";
    make(ctx, &o);
    o.part = "1/2";
    make(ctx, &o);
    expect_same(whole, parts, r.shards);
    o = prepare(stopped, model);
    cn_ctx *other = cn_ctx_create(2);
    o.progress = stop_at;
    o.user = other;
    assert_int_equal(cn_dataset_prepare(other, &o, NULL), CN_ECANCELLED);
    cn_ctx_destroy(other);
    o.progress = NULL;
    make(ctx, &o);
    expect_same(whole, stopped, r.shards);
    o = prepare(whole, NULL);
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EMISMATCH);
}

static void a_dry_run_counts_them(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "dry");
    cn_prepare_options o = prepare(out, NULL);
    o.dry_run = true;
    const cn_prepare_result plain = make(ctx, &o);
    o.encode = model;
    const cn_prepare_result more = make(ctx, &o);
    assert_true(more.bytes > plain.bytes + (SCENES + MIXED) * 3 * 1024);
    assert_false(cn_dir_exists(out));
}

/* --- training --------------------------------------------------------------------------------- */

static void check_losses(const char *name, const char *with, cn_train_options o)
{
    char plain[256], full[256], out[2][256], file[64];
    double a[STEPS], b[STEPS];
    snprintf(file, sizeof file, "%s-plain", name);
    path_in(plain, file);
    snprintf(file, sizeof file, "%s-full", name);
    path_in(full, file);
    snprintf(file, sizeof file, "%s-out0", name);
    path_in(out[0], file);
    snprintf(file, sizeof file, "%s-out1", name);
    path_in(out[1], file);
    cn_prepare_options p = prepare(plain, NULL);
    p.enable_bucket = o.enable_bucket;
    p.bucket_no_upscale = o.bucket_no_upscale;
    p.bucket_reso_steps = o.enable_bucket ? o.bucket_reso_steps : 0;
    make(ctx, &p);
    p.output_dir = full;
    p.encode = with;
    p.vae = o.vae;
    make(ctx, &p);
    o.model = with;
    const int n = train(plain, out[0], o, a);
    assert_int_equal(n, STEPS);
    must_not_say("encoded pictures");
    assert_int_equal(train(full, out[1], o, b), n);
    must_say("the shards' encoded pictures are taken");
    must_say("the shards' encoded captions are taken");
    /* F32: a caption at a time and eight of them may add in another order */
    for (int i = 0; i < n; i++)
        if (fabs(a[i] - b[i]) > 1e-5 * fabs(a[i])) fail_msg("step %d: %g, %g", i, a[i], b[i]);
}

static void losses_are_those_of_encoding(void **state)
{
    (void)state;
    check_losses("sd", model, tiny_options(NULL));
}

static void losses_with_a_validation(void **state)
{
    (void)state;
    cn_train_options o = tiny_options(NULL);
    o.validation_steps = 3;
    o.validation_count = 3;
    o.validation_sampling_steps = 2;
    o.dataloader_num_workers = 2;
    check_losses("validated", model, o);
    o.enable_bucket = true; /* held-out pairs are apart */
    o.bucket_reso_steps = 8;
    char full[256], out[256];
    double loss[STEPS];
    path_in(full, "validated-full");
    path_in(out, "apart");
    train(full, out, o, loss);
    must_say("the shards' encoded captions are taken");
    must_say("encoded pictures aren't taken");
}

/* Scenes are shrunk, the others have sizes of their own; some of these are enlarged. */
static void losses_with_buckets(void **state)
{
    (void)state;
    char full[256], out[256];
    double loss[STEPS];
    cn_train_options o = tiny_options(NULL);
    o.enable_bucket = true;
    o.bucket_reso_steps = 4;
    check_losses("buckets", model, o);
    path_in(full, "buckets-full");
    path_in(out, "buckets-other");
    o.bucket_reso_steps = 8;
    train(full, out, o, loss);
    must_say("have no .vae-");
    must_say("the shards' encoded captions are taken");
    o.enable_bucket = false;
    train(full, out, o, loss);
    must_say("4 of 23 have no .vae-16x16-");
    o.enable_bucket = o.bucket_no_upscale = true;
    o.bucket_reso_steps = 4;
    check_losses("not-enlarged", model, o);
}

/* Pictures that were fitted to a square aren't what no_upscale crops. */
static void no_upscale_asks_for_its_own(void **state)
{
    (void)state;
    char full[256], out[256];
    double loss[STEPS];
    path_in(full, "square");
    path_in(out, "square-out");
    cn_prepare_options p = prepare(full, model);
    make(ctx, &p);
    cn_train_options o = tiny_options(NULL);
    o.enable_bucket = o.bucket_no_upscale = true;
    o.bucket_reso_steps = 4;
    train(full, out, o, loss);
    must_say("--bucket-no-upscale crops in another way");
}

static void parts_with_buckets_give_the_same_bytes(void **state)
{
    (void)state;
    char whole[256], parts[256];
    path_in(whole, "bucketed");
    path_in(parts, "bucketed-parts");
    cn_prepare_options o = prepare(whole, model);
    o.enable_bucket = true;
    o.bucket_reso_steps = 2; /* more sizes than encoders are kept for */
    const cn_prepare_result r = make(ctx, &o);
    assert_true(r.shards > 1);
    o.output_dir = parts;
    o.part = "2/2";
    make(ctx, &o);
    o.part = "1/2";
    make(ctx, &o);
    expect_same(whole, parts, r.shards);
    o.part = NULL;
    o.bucket_reso_steps = 4;
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EMISMATCH);
}

static void losses_with_another_vae(void **state)
{
    (void)state;
    char other[256], full[256], out[256];
    double loss[STEPS];
    path_in(other, "sdxl-vae");
    must(tiny_sdxl_write(ctx, other));
    cn_train_options o = tiny_options(NULL);
    o.vae = other;
    check_losses("vae", model, o);
    path_in(full, "vae-full");
    path_in(out, "vae-none");
    o.vae = NULL;
    train(full, out, o, loss);
    must_say("encoded pictures aren't taken, but made anew: 23 of 23 have no .vae-16x16-");
    must_say(", of another VAE");
    must_say("the shards' encoded captions are taken");
    cn_prepare_options p = prepare(full, model);
    assert_int_equal(cn_dataset_prepare(ctx, &p, NULL), CN_EMISMATCH);
}

static void losses_of_sdxl(void **state)
{
    (void)state;
    char sdxl[256];
    path_in(sdxl, "sdxl");
    must(tiny_sdxl_write(ctx, sdxl));
    cn_train_options o = tiny_options(NULL);
    o.learning_rate = 1e-8; /* Adam's steps have the gradient's sign, which rounding decides at 0 */
    check_losses("sdxl", sdxl, o);
}

static void others_are_not_taken(void **state)
{
    (void)state;
    char full[256], out[256], sdxl[256], empty[CN_PATH_BYTES];
    double loss[STEPS];
    path_in(full, "refused");
    path_in(out, "refused-out");
    path_in(sdxl, "sdxl");
    cn_prepare_options p = prepare(full, sdxl);
    make(ctx, &p);
    train(full, out, tiny_options(NULL), loss);
    must_say("encoded pictures aren't taken, but made anew: 23 of 23 have no .vae-16x16-");
    must_say("encoded captions aren't taken");
    cn_train_options o = tiny_options(NULL);
    o.model = sdxl;
    o.resolution = 32;
    train(full, out, o, loss);
    must_say("23 of 23 have no .vae-32x32-");
    must_say("the shards' encoded captions are taken");
    o.resolution = TINY_PX;
    o.random_flip = true;
    train(full, out, o, loss);
    must_say("--random-flip");
    cn_encoder_hashes h;
    cn_base *base = NULL;
    must(cn_base_open(ctx, sdxl, &base));
    must(cn_encoder_hashes_of(ctx, base, &h));
    cn_base_close(base);
    must(cn_shard_empty_path(ctx, full, &h, empty));
    assert_int_equal(remove(empty), 0);
    train(full, out, o, loss);
    must_say("there is no empty.text-");
}

/* --- copies ----------------------------------------------------------------------------------- */

static void stop_copy(void *user, int64_t done, int64_t total)
{
    (void)total;
    if (done == 9) cn_cancel(user);
}

static cn_dataset_copy_result copy(const char *from, const char *out, cn_dataset_copy_options o)
{
    const char *const dirs[] = {from, NULL};
    cn_dataset_copy_result r;
    o.dirs = dirs;
    o.output_dir = out;
    must(cn_dataset_copy(ctx, &o, &r));
    return r;
}

typedef struct values {
    cn_dataset *data;
    cn_shard_encodings *encodings;
} values;

static values values_of(const char *dir, const cn_base *base)
{
    values v = {0};
    const cn_dataset_options o = {.dir = dir};
    must(cn_dataset_open(ctx, &o, &v.data));
    must(cn_shard_encodings_open(ctx, v.data, base, &v.encodings));
    assert_non_null(v.encodings);
    return v;
}

/* Pair i of both: the same moments and text. */
static void expect_values(const values *a, const values *b, int64_t i, const cn_base *base)
{
    const int64_t side = TINY_PX / cn_vae_factor(&base->vae),
                  n[2] = {side * side * 2 * base->vae.latent_channels,
                          cn_base_context_length(base) * cn_base_context_dim(base)};
    cn_status (*const read[])(const cn_shard_encodings *e, cn_ctx *c, const cn_dataset *d,
                              int64_t pair, int64_t count,
                              float *out) = {cn_shard_encodings_moments, cn_shard_encodings_text};
    for (int k = 0; k < 2; k++) {
        float *x = calloc((size_t)n[k], sizeof *x), *y = calloc((size_t)n[k], sizeof *y);
        must(read[k](a->encodings, ctx, a->data, i, n[k], x));
        must(read[k](b->encodings, ctx, b->data, i, n[k], y));
        assert_memory_equal(x, y, (size_t)n[k] * sizeof *x);
        free(x);
        free(y);
    }
}

static void copies_keep_them(void **state)
{
    (void)state;
    char from[256], out[256], stopped[256], run[2][256];
    double a[STEPS], b[STEPS];
    cn_base *base = NULL;
    path_in(from, "copied");
    path_in(out, "copy");
    path_in(stopped, "copy-stopped");
    path_in(run[0], "copied-out");
    path_in(run[1], "copy-out");
    cn_prepare_options p = prepare(from, model);
    make(ctx, &p);
    cn_dataset_copy_options o = {.layout = "webdataset", .shard_size = 60000};
    const cn_dataset_copy_result r = copy(from, out, o);
    assert_int_equal(r.pairs, SCENES + MIXED);
    assert_int_equal(r.encodings_left_out, 0);
    must(cn_base_open(ctx, model, &base));
    values x = values_of(from, base), y = values_of(out, base);
    assert_int_equal(x.data->n, y.data->n);
    for (int64_t i = 0; i < x.data->n; i++) expect_values(&x, &y, i, base);
    cn_shard_encodings_close(x.encodings);
    cn_shard_encodings_close(y.encodings);
    cn_dataset_close(x.data);
    cn_dataset_close(y.data);
    cn_base_close(base);
    assert_int_equal(train(from, run[0], tiny_options(NULL), a), STEPS);
    train(out, run[1], tiny_options(NULL), b);
    must_say("the shards' encoded pictures are taken");
    must_say("the shards' encoded captions are taken");
    for (int i = 0; i < STEPS; i++) assert_true(a[i] == b[i]);
    /* gone on with */
    const char *const dirs[] = {from, NULL};
    cn_ctx *other = cn_ctx_create(1);
    o.dirs = dirs;
    o.output_dir = stopped;
    o.progress = stop_copy;
    o.user = other;
    assert_int_equal(cn_dataset_copy(other, &o, NULL), CN_ECANCELLED);
    cn_ctx_destroy(other);
    o.progress = NULL;
    must(cn_dataset_copy(ctx, &o, NULL));
    expect_same(out, stopped, 2);
}

/* Both sides of a split, drawn ones of a split's, and two sets behind each other. */
static void parts_of_a_set_keep_them(void **state)
{
    (void)state;
    char from[256], split[256], side[280], some[256], both[256], run[256];
    double loss[STEPS];
    path_in(from, "copied");
    path_in(split, "split");
    path_in(some, "some");
    path_in(both, "both");
    path_in(run, "parts-out");
    const cn_dataset_copy_result r =
        copy(from, split,
             (cn_dataset_copy_options){.layout = "webdataset", .validation = 0.3, .seed = 1});
    assert_in_range(r.validation, 4, SCENES + MIXED - 4);
    snprintf(side, sizeof side, "%s/validation", split);
    train(side, run, tiny_options(NULL), loss);
    must_say("the shards' encoded pictures are taken");
    must_say("the shards' encoded captions are taken");
    snprintf(side, sizeof side, "%s/train", split);
    copy(side, some, (cn_dataset_copy_options){.layout = "webdataset", .count = 5});
    train(some, run, tiny_options(NULL), loss);
    must_say("the shards' encoded pictures are taken");
    const char *const dirs[] = {scenes, some, NULL};
    cn_dataset_copy_options o = {.dirs = dirs, .output_dir = both, .layout = "webdataset"};
    must(cn_dataset_copy(ctx, &o, NULL));
    train(both, run, tiny_options(NULL), loss);
    must_say("16 of 21 have no .vae-16x16-");
}

static void copies_without_a_place_for_them_count(void **state)
{
    (void)state;
    char from[256], out[256];
    path_in(from, "copied");
    path_in(out, "folder");
    cn_dataset_copy_options o = {0};
    assert_int_equal(copy(from, out, o).encodings_left_out, SCENES + MIXED);
    o.count = 3;
    path_in(out, "three");
    assert_int_equal(copy(from, out, o).encodings_left_out, 3);
    /* of another picture than the encoded one */
    o = (cn_dataset_copy_options){
        .layout = "webdataset",
        .data = {.image_column = "cond.png", .conditioning_image_column = "jpg;png"}};
    path_in(out, "other-picture");
    assert_int_equal(copy(from, out, o).encodings_left_out, SCENES + MIXED);
    const cn_dataset_options d = {.dir = out};
    cn_dataset *data = NULL;
    cn_shard_encodings *e = NULL;
    must(cn_dataset_open(ctx, &d, &data));
    must(cn_shard_encodings_open(ctx, data, NULL, &e));
    assert_null(e);
    cn_dataset_close(data);
}

static void options_that_dont_fit_are_refused(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "none");
    cn_prepare_options o = prepare(out, model);
    o.resolution = 0;
    refused(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL, "--resolution");
    o.resolution = TINY_PX + 1;
    refused(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL, "multiple of 2");
    o.enable_bucket = true;
    o.bucket_reso_steps = 3;
    refused(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL, "--bucket-reso-steps 3");
    o.vae = scenes;
    assert_int_not_equal(cn_dataset_prepare(ctx, &o, NULL), CN_OK);
    o.vae = model;
    o.encode = NULL;
    refused(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL, "--vae is of --encode");
    o = prepare(out, scenes);
    assert_int_not_equal(cn_dataset_prepare(ctx, &o, NULL), CN_OK);
    o = prepare(out, model);
    o.layout = NULL;
    o.shard_size = 0;
    o.quality = 0;
    refused(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL, "--encode");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_has_its_encodings),
        cmocka_unit_test(parts_and_interruptions_give_the_same_bytes),
        cmocka_unit_test(a_dry_run_counts_them),
        cmocka_unit_test(losses_are_those_of_encoding),
        cmocka_unit_test(losses_with_a_validation),
        cmocka_unit_test(losses_with_buckets),
        cmocka_unit_test(no_upscale_asks_for_its_own),
        cmocka_unit_test(parts_with_buckets_give_the_same_bytes),
        cmocka_unit_test(losses_with_another_vae),
        cmocka_unit_test(losses_of_sdxl),
        cmocka_unit_test(others_are_not_taken),
        cmocka_unit_test(copies_keep_them),
        cmocka_unit_test(parts_of_a_set_keep_them),
        cmocka_unit_test(copies_without_a_place_for_them_count),
        cmocka_unit_test(options_that_dont_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
