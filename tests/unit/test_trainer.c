/* SPDX-License-Identifier: Apache-2.0 */
/* test_trainer.c - whole small runs: what they learn, save, resume and refuse. */
#include "../support/unit/tiny_run.h"
#include "image/image.h"
#include "io/json.h"
#include "io/tensors.h"
#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

static cn_train_options options_for(const char *output)
{
    cn_train_options o = tiny_options(output);
    o.max_train_steps = 4;
    return o;
}

/* Lines of metrics.jsonl, and the last value of `key` in them. */
static int64_t metrics(const char *dir, const char *key, double *last)
{
    char path[512];
    cn_jsonl *lines = NULL;
    int64_t n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    must(cn_jsonl_open(ctx, path, &lines));
    for (json_t *object;; n++) {
        must(cn_jsonl_next(ctx, lines, &object));
        if (!object) break;
        if (last) *last = cn_json_number(object, key, *last);
        json_decref(object);
    }
    cn_jsonl_close(lines);
    return n;
}

static void a_run_saves_both_layouts(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "plain");
    cn_train_options o = options_for(out);
    cn_train_result r;
    must(cn_train(ctx, &o, NULL, &r));
    assert_int_equal(r.steps, 4);
    assert_true(isfinite(r.final_loss) && r.final_loss > 0);
    assert_int_equal(r.learned_at_step, -1);
    double norm = 0;
    assert_int_equal(metrics(out, "grad_norm", &norm), 4);
    assert_true(norm > 0);
    char path[512];
    cn_tensors *folder = NULL, *single = NULL;
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", out);
    must(cn_tensors_open(ctx, path, &folder));
    snprintf(path, sizeof path, "%s/control.safetensors", out);
    must(cn_tensors_open(ctx, path, &single));
    assert_int_equal(cn_tensors_count(folder), cn_tensors_count(single));
    const cn_tensor_info *zero = cn_tensors_find(folder, "controlnet_mid_block.weight");
    assert_non_null(zero);
    float w[16 * 16];
    assert_int_equal(zero->elements, CN_COUNT(w));
    must(cn_tensors_read(ctx, folder, zero, w));
    assert_true(fabsf(w[0]) > 0 && fabsf(w[0]) < 0.01f); /* zero convolutions moved */
    cn_tensors_close(folder);
    cn_tensors_close(single);
}

static void the_loss_falls(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "falls");
    cn_train_options o = options_for(out);
    o.max_train_steps = 1;
    o.learning_rate = 3e-3;
    cn_train_result r;
    double first = NAN;
    must(cn_train(ctx, &o, NULL, &r));
    metrics(out, "loss", &first);
    o.max_train_steps = 120;
    must(cn_train(ctx, &o, NULL, &r));
    assert_true(r.final_loss < 0.97 * first);
}

/* The rate's decay ends where the minutes do, whatever number of steps that is. */
static void minutes_end_a_run(void **state)
{
    (void)state;
    char out[256];
    double lr = 1;
    path_in(out, "minutes");
    cn_train_options o = options_for(out);
    o.max_train_steps = 0;
    o.max_train_minutes = 2 / 60.0;
    o.lr_scheduler = "warmup_stable_decay";
    o.lr_warmup_steps = 0;
    o.lr_decay_steps = 0.5;
    o.overwrite = true;
    cn_train_result r;
    must(cn_train(ctx, &o, NULL, &r));
    assert_true(r.steps >= 1);
    assert_true(r.seconds + r.seconds / (double)r.steps >= 2); /* no other step had its time */
    assert_int_equal(metrics(out, "lr", &lr), r.steps);
    /* A busy machine may stop far from 0, or before the rate can fall. */
    assert_true(r.steps > 3 ? lr < o.learning_rate : lr <= o.learning_rate);
    assert_true(same_file(out, out, "control.safetensors")); /* saved as one that ends by steps */
    o.max_train_steps = 2;
    o.max_train_minutes = 1e6;
    must(cn_train(ctx, &o, NULL, &r));
    assert_int_equal(r.steps, 2);
}

static void the_same_seed_gives_the_same_bytes(void **state)
{
    (void)state;
    char a[256], b[256];
    path_in(a, "same-a");
    path_in(b, "same-b");
    cn_train_options o = options_for(a);
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = b;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(a, b, "control.safetensors"));
    o.seed = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_false(same_file(a, b, "control.safetensors"));
}

static void accumulation_is_a_larger_batch(void **state)
{
    (void)state;
    char a[256], b[256];
    double whole = 0, parts = 0;
    path_in(a, "whole");
    path_in(b, "parts");
    cn_train_options o = options_for(a);
    o.train_batch_size = 4;
    o.max_train_steps = 3;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = b;
    o.train_batch_size = 2;
    o.gradient_accumulation_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    metrics(a, "loss", &whole);
    metrics(b, "loss", &parts);
    assert_true(fabs(whole - parts) < 1e-5 * whole);
    metrics(a, "grad_norm", &whole);
    metrics(b, "grad_norm", &parts);
    assert_true(fabs(whole - parts) < 1e-4 * whole);
}

static void resuming_gives_the_same_bytes(void **state)
{
    (void)state;
    char whole[256], bytes[256], gone[512];
    double step = 0;
    cn_train_options o = options_for(NULL);
    o.lr_scheduler = "constant_with_warmup";
    o.lr_warmup_steps = 3;
    tiny_resumes("plain", o, whole);
    snprintf(gone, sizeof gone, "%s/plain-parts", root);
    assert_int_equal(metrics(gone, "step", &step), 7);
    assert_true(step == 7);
    snprintf(gone, sizeof gone, "%s/plain-parts/checkpoint-2", root);
    assert_false(cn_dir_exists(gone)); /* 4 and 6 are left */
    o.use_8bit_adam = true;
    tiny_resumes("8bit", o, bytes);
    assert_false(same_file(whole, bytes, "control.safetensors"));
    o = options_for(NULL);
    o.optimizer_type = "Muon";
    tiny_resumes("muon", o, bytes);
    assert_false(same_file(whole, bytes, "control.safetensors"));
    o = options_for(whole);
    o.resume_from_checkpoint = "checkpoint-99";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "no such folder");
}

static void optimizers_dont_take_each_others_states(void **state)
{
    (void)state;
    static const char *const types[] = {"AdamW", "Muon"};
    static const char *const why[] = {"is missing; the checkpoint is of another",
                                      "is AdamW's; this run learns by Muon"};
    char out[256];
    for (int i = 0; i < 2; i++) {
        path_in(out, i ? "begun-by-adamw" : "begun-by-muon");
        cn_train_options o = options_for(out);
        o.optimizer_type = types[1 - i];
        o.checkpointing_steps = 2;
        must(cn_train(ctx, &o, NULL, NULL));
        o.optimizer_type = types[i];
        o.max_train_steps += 2;
        o.resume_from_checkpoint = "latest";
        refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, why[i]);
        o.resume_from_checkpoint = NULL;
        o.use_8bit_adam = o.overwrite = true;
        if (i) refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--use-8bit-adam doesn't go with");
    }
}

/* Loss and noise change what is learned, and resuming stays exact. */
static void objectives_resume_exactly(void **state)
{
    (void)state;
    char plain[256], whole[256];
    tiny_resumes("plain-l2", options_for(NULL), plain);
    cn_train_options o = options_for(NULL);
    o.loss_type = "huber";
    o.snr_gamma = 5;
    o.noise_offset = 0.1;
    o.min_timestep = 100;
    o.use_ema = true;
    o.gradient_accumulation_steps = 2;
    tiny_resumes("huber", o, whole);
    assert_false(same_file(plain, whole, "control.safetensors"));
    o = options_for(NULL);
    o.loss_type = "l1";
    o.prediction = "v";
    o.rescale_betas_zero_snr = true;
    tiny_resumes("v-zero-snr", o, whole);
    assert_false(same_file(plain, whole, "control.safetensors"));
}

/* --- a folder that is used again -------------------------------------------------------------- */

static bool has_checkpoint(const char *out, int step)
{
    char path[300];
    snprintf(path, sizeof path, "%s/checkpoint-%d", out, step);
    return cn_dir_exists(path);
}

/* What an earlier run left is replaced when that is asked for, and then nothing of it is gone on
 * from. */
static void a_finished_folder_is_refused_or_overwritten(void **state)
{
    (void)state;
    char out[256], plain[256], kept[300];
    path_in(out, "finished");
    path_in(plain, "finished-plain");
    path_in(kept, "finished-kept");
    cn_train_options o = options_for(out);
    o.overwrite = false;
    o.checkpointing_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    must(cn_dir_make(ctx, kept));
    char from[300], to[400];
    snprintf(from, sizeof from, "%s/control.safetensors", out);
    snprintf(to, sizeof to, "%s/control.safetensors", kept);
    assert_int_equal(link(from, to), 0);
    o.seed = 7;
    o.max_train_steps = 3;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "holds checkpoint-4 of an earlier run");
    assert_non_null(strstr(cn_error(ctx), "--overwrite"));
    assert_true(same_file(out, kept, "control.safetensors"));
    assert_int_equal(metrics(out, "loss", NULL), 4);
    o.resume_from_checkpoint = "checkpoint-2"; /* the same run, from before its end */
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "from behind step 2");
    assert_true(has_checkpoint(out, 4));
    o.resume_from_checkpoint = NULL;
    o.overwrite = true;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(has_checkpoint(out, 2) && !has_checkpoint(out, 4));
    assert_false(same_file(out, kept, "control.safetensors"));
    o.overwrite = false;
    o.resume_from_checkpoint = "latest";
    o.max_train_steps = 4;
    must(cn_train(ctx, &o, NULL, NULL)); /* goes on from the new checkpoint-2 */
    o.overwrite = true;
    o.resume_from_checkpoint = "checkpoint-2";
    o.max_train_steps = 3;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(has_checkpoint(out, 2) && !has_checkpoint(out, 4));
    o = options_for(plain); /* a result without checkpoints */
    must(cn_train(ctx, &o, NULL, NULL));
    o.overwrite = false;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "the ControlNet of an earlier run");
    o.resume_from_checkpoint = "latest"; /* there is none */
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "the ControlNet of an earlier run");
}

static void keep_warning(void *user, cn_log_level level, const char *line)
{
    if (level == CN_LOG_WARN) snprintf(user, 512, "%s", line);
}

static void latest_is_of_this_run(void **state)
{
    (void)state;
    char a[256], b[256], whole[256], from[300], to[300], warning[512] = "";
    path_in(a, "run-a");
    path_in(b, "run-b");
    path_in(whole, "run-b-whole");
    cn_train_options o = options_for(a);
    o.checkpointing_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    o.seed = 7;
    o.output_dir = whole;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = b;
    o.max_train_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    snprintf(from, sizeof from, "%s/checkpoint-4", a);
    snprintf(to, sizeof to, "%s/checkpoint-4", b);
    assert_int_equal(rename(from, to), 0);
    o.max_train_steps = 4;
    o.resume_from_checkpoint = "latest";
    cn_ctx_set_log(ctx, keep_warning, warning);
    must(cn_train(ctx, &o, NULL, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
    if (!strstr(warning, "checkpoint-4: of run ")) fail_msg("warned: %s", warning);
    assert_true(same_file(whole, b, "control.safetensors"));
    /* asked for by its path, another run's checkpoint begins a run of this folder's own */
    char c[256];
    path_in(c, "run-c");
    snprintf(from, sizeof from, "%s/checkpoint-2", b);
    o.output_dir = c;
    o.resume_from_checkpoint = from;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(whole, c, "control.safetensors"));
    assert_false(same_file(b, c, "run.json"));
}

typedef struct warnings {
    int n;
    char last[512];
} warnings;

static void count_warning(void *user, cn_log_level level, const char *line)
{
    warnings *w = user;
    if (level != CN_LOG_WARN) return;
    w->n++;
    snprintf(w->last, sizeof w->last, "%s", line);
}

/* The rate of each of a run's 20 steps, with this warm-up, and what it warned of. */
static void rates_with(double warmup, double out[20], warnings *warned)
{
    char dir[256];
    path_in(dir, "warm-up");
    cn_train_options o = options_for(dir);
    o.lr_scheduler = "constant_with_warmup";
    o.max_train_steps = 20;
    o.lr_warmup_steps = warmup;
    *warned = (warnings){0};
    cn_ctx_set_log(ctx, count_warning, warned);
    must(cn_train(ctx, &o, NULL, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
    assert_int_equal(tiny_metrics(dir, "lr", out, 20), 20);
}

/* Nobody who left the warm-up alone trains at a rate that never arrives. */
static void a_warm_up_leaves_room(void **state)
{
    (void)state;
    double lr[20];
    warnings warned;
    cn_train_options o;
    cn_train_options_default(&o);
    rates_with(o.lr_warmup_steps, lr, &warned); /* 2 steps, a tenth */
    assert_true(lr[0] == 0 && fabs(lr[1] - 5e-4) < 1e-9 && fabs(lr[2] - 1e-3) < 1e-9);
    assert_int_equal(warned.n, 0);
    rates_with(0.2, lr, &warned); /* 4 steps */
    assert_true(fabs(lr[3] - 7.5e-4) < 1e-9 && fabs(lr[4] - 1e-3) < 1e-9);
    assert_int_equal(warned.n, 0);
    rates_with(19, lr, &warned);
    assert_true(fabs(lr[19] - 1e-3) < 1e-9);
    assert_int_equal(warned.n, 0);
    rates_with(100, lr, &warned); /* 19 / 100 of it at the last step */
    assert_true(fabs(lr[19] - 1.9e-4) < 1e-9);
    assert_int_equal(warned.n, 1);
    if (!strstr(warned.last, "--lr-warmup-steps 100: the run has 20 steps") ||
        !strstr(warned.last, "reaches 0.00019 at most"))
        fail_msg("warned: %s", warned.last);
    rates_with(20, lr, &warned);
    assert_int_equal(warned.n, 1);
    rates_with(0, lr, &warned);
    assert_true(fabs(lr[0] - 1e-3) < 1e-9);
}

/* diffusers: the rate times accumulation, batch and processes. Steps follow from the samples. */
static void scaled_rates_and_fewer_samples(void **state)
{
    (void)state;
    char dir[256];
    double lr[8];
    path_in(dir, "scaled");
    cn_train_options o = options_for(dir);
    o.scale_lr = true;
    o.gradient_accumulation_steps = 3;
    o.max_train_steps = 0;
    o.max_train_samples = 12; /* two steps of 3 passes with 2 pairs */
    must(cn_train(ctx, &o, NULL, NULL));
    assert_int_equal(tiny_metrics(dir, "lr", lr, 8), 2);
    assert_true(fabs(lr[0] - 6e-3) < 1e-9 && fabs(lr[1] - 6e-3) < 1e-9);
}

typedef struct seen_plan {
    cn_train_plan plan;
} seen_plan;

static void keep_plan(void *user, const cn_train_plan *p)
{
    ((seen_plan *)user)->plan = *p;
}

static cn_train_plan plan_of(cn_train_options o)
{
    seen_plan s = {0};
    const cn_train_callbacks c = {.user = &s, .planned = keep_plan};
    o.dry_run = true;
    must(cn_train(ctx, &o, &c, NULL));
    return s.plan;
}

/* Without the process, which is measured. */
static size_t own_bytes(const cn_train_plan *p)
{
    return p->training_bytes - p->process_bytes;
}

/* AdamW8bit is another name; of Muon the plan has one moment for matrices. */
static void optimizers_are_named(void **state)
{
    (void)state;
    static const char *const types[] = {NULL, "AdamW", "AdamW8bit", "Muon"};
    size_t bytes[CN_COUNT(types)];
    cn_train_options o = options_for("/tmp");
    for (size_t i = 0; i < CN_COUNT(types); i++) {
        o.optimizer_type = types[i];
        bytes[i] = plan_of(o).optimizer_bytes;
    }
    assert_true(bytes[0] == bytes[1] && bytes[2] < bytes[1] && bytes[3] < bytes[1]);
    o.optimizer_type = "Lion";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "must be AdamW, AdamW8bit or Muon");
}

/* What a strategy takes is known before: fewer gradients and operations without the links, more
 * with the base. */
static void plans_know_the_strategies(void **state)
{
    (void)state;
    cn_train_options o = options_for("/tmp");
    const cn_train_plan plain = plan_of(o);
    o.only_mid_control = true;
    const cn_train_plan mid = plan_of(o);
    o.reconnect_after = 2;
    const cn_train_plan joined = plan_of(o);
    o = options_for("/tmp");
    o.unlock = "decoder";
    const cn_train_plan decoder = plan_of(o);
    o.unlock = "all";
    o.unlock_after = 2;
    const cn_train_plan all = plan_of(o);
    assert_true(mid.trained < plain.trained && mid.gflop_per_pass < plain.gflop_per_pass);
    assert_true(own_bytes(&mid) < own_bytes(&plain));
    assert_int_equal(joined.trained, plain.trained);
    assert_int_equal(own_bytes(&joined), own_bytes(&plain));
    assert_true(plain.trained < decoder.trained && decoder.trained < all.trained);
    assert_true(plain.optimizer_bytes < decoder.optimizer_bytes &&
                decoder.optimizer_bytes < all.optimizer_bytes);
    assert_true(all.run_seconds > 0);
}

typedef struct stopper {
    int64_t at, last;
    int saves;
} stopper;

static void stop_at(void *user, const cn_train_progress *p)
{
    stopper *s = user;
    if (strcmp(p->stage, "train") != 0) return;
    s->last = p->done;
    if (p->done == s->at) cn_cancel(ctx);
}

static void count_save(void *user, const char *path)
{
    stopper *s = user;
    s->saves += path[0] != 0;
}

/* A context can't be un-cancelled, so this run has one of its own. */
static void cancelling_saves_first(void **state)
{
    (void)state;
    char out[256], whole[256], path[512];
    path_in(out, "cancelled");
    path_in(whole, "not-cancelled");
    cn_train_options o = options_for(whole);
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = out;
    cn_ctx *shared = ctx;
    ctx = cn_ctx_create(1);
    stopper s = {.at = 2};
    const cn_train_callbacks c = {.user = &s, .progress = stop_at, .saved = count_save};
    cn_train_result r;
    const cn_status status = cn_train(ctx, &o, &c, &r);
    refused(status, CN_ECANCELLED, "checkpoint-2");
    cn_ctx_destroy(ctx);
    ctx = shared;
    assert_int_equal(r.steps, 2);
    assert_int_equal(s.last, 2);
    assert_int_equal(s.saves, 1);
    snprintf(path, sizeof path, "%s/checkpoint-2/trainer_state.json", out);
    assert_true(cn_file_exists(path));
    o.resume_from_checkpoint = "latest";
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(whole, out, "control.safetensors"));
}

typedef struct seen {
    int n;
    cn_train_validation last;
} seen;

static void see(void *user, const cn_train_validation *v)
{
    seen *s = user;
    double with = 0, without = 0;
    for (int k = 0; k < CN_TRAIN_BANDS; k++) {
        with += v->band_with[k] / CN_TRAIN_BANDS;
        without += v->band_without[k] / CN_TRAIN_BANDS;
    }
    assert_true(fabs(with - v->loss_with) < 1e-9 && fabs(without - v->loss_without) < 1e-9);
    assert_true((v->advice != NULL) == (v->learned_at_step < 0));
    s->n++;
    s->last = *v;
}

static void validation_measures_and_draws(void **state)
{
    (void)state;
    char out[256], path[512];
    path_in(out, "validated");
    cn_train_options o = options_for(out);
    o.validation_steps = 2;
    o.validation_count = 3;
    o.validation_sampling_steps = 2;
    seen s = {0};
    const cn_train_callbacks c = {.user = &s, .validated = see};
    cn_train_result r;
    must(cn_train(ctx, &o, &c, &r));
    assert_int_equal(s.n, 2);
    assert_int_equal(s.last.step, 4);
    assert_true(s.last.has_agreement && r.has_agreement);
    assert_true(s.last.loss_with > 0 && s.last.loss_without > 0);
    assert_true(s.last.loss_with != s.last.loss_without);
    const double agreement = s.last.agreement_with.score;
    assert_true(agreement >= 0 && agreement <= 1);
    assert_true(s.last.zero_conv_rms > 0);
    cn_image *sheet = NULL;
    snprintf(path, sizeof path, "%s/validation/step_4/sheet.png", out);
    must(cn_image_load(ctx, path, &sheet));
    assert_int_equal(sheet->width, 4 * TINY_PX);
    assert_int_equal(sheet->height, 3 * TINY_PX);
    cn_image_destroy(sheet);
    snprintf(path, sizeof path, "%s/validation/step_2/2.png", out);
    assert_true(cn_file_exists(path));
    char *page = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/report.html", out);
    must(cn_file_read(ctx, path, 1 << 26, &page, &n));
    assert_non_null(strstr(page, "Drawings over time"));
    assert_non_null(strstr(page, "step 2</figcaption>"));
    assert_non_null(strstr(page, "step 4</figcaption>"));
    assert_non_null(strstr(page, "middle block"));
    cn_free(page);
    double gain = NAN;
    assert_int_equal(metrics(out, "loss_with_control", &gain), 6);
    assert_true(isfinite(gain));
}

/* What is asked for beside the held-out pairs: one of those and its prompt comes out the same, and
 * another one. */
static void conditions_of_ones_own_are_drawn(void **state)
{
    (void)state;
    char plain[256], out[256], path[512], page_path[512], *page = NULL;
    size_t n = 0;
    cn_dataset *d = NULL;
    cn_dataset_item item, first;
    path_in(plain, "not-asked");
    path_in(out, "asked");
    must(cn_dataset_open(ctx, &(cn_dataset_options){.dir = scenes}, &d));
    must(cn_dataset_get(ctx, d, d->n - 2, true, &item));
    must(cn_dataset_get(ctx, d, 0, true, &first));
    cn_train_options o = options_for(plain);
    o.validation_steps = 4;
    o.validation_count = 2;
    o.validation_sampling_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    const char *images[] = {item.condition.path, first.condition.path, NULL};
    const char *prompts[] = {item.prompt, "<a> tower", NULL};
    o.output_dir = out;
    o.validation_images = images;
    o.validation_prompts = prompts;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(plain, out, "control.safetensors"));
    assert_true(same_file(plain, out, "validation/step_4/0.png"));
    assert_true(same_file(plain, out, "validation/step_4/sheet.png"));
    cn_image *held = NULL, *given = NULL, *sheet = NULL;
    snprintf(path, sizeof path, "%s/validation/step_4/0.png", out);
    must(cn_image_load(ctx, path, &held));
    snprintf(path, sizeof path, "%s/validation/step_4/given_0.png", out);
    must(cn_image_load(ctx, path, &given));
    assert_memory_equal(held->rgb, given->rgb, TINY_PX * TINY_PX * 3);
    cn_image_destroy(given);
    snprintf(path, sizeof path, "%s/validation/step_4/given_1.png", out);
    must(cn_image_load(ctx, path, &given));
    assert_memory_not_equal(held->rgb, given->rgb, TINY_PX * TINY_PX * 3);
    snprintf(path, sizeof path, "%s/validation/step_4/given.png", out);
    must(cn_image_load(ctx, path, &sheet));
    assert_int_equal(sheet->width, 3 * TINY_PX);
    assert_int_equal(sheet->height, 2 * TINY_PX);
    snprintf(page_path, sizeof page_path, "%s/report.html", out);
    must(cn_file_read(ctx, page_path, 1 << 26, &page, &n));
    assert_non_null(strstr(page, "&lt;a&gt; tower"));
    prompts[1] = NULL; /* one for all */
    o.max_train_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    cn_free(page);
    cn_image_destroy(held);
    cn_image_destroy(given);
    cn_image_destroy(sheet);
    cn_dataset_item_free(&item);
    cn_dataset_item_free(&first);
    cn_dataset_close(d);
}

static void given_conditions_are_checked(void **state)
{
    (void)state;
    char out[256], note[300];
    path_in(out, "refused-conditions");
    path_in(note, "note.png");
    must(cn_file_write(ctx, note, "no picture", 10));
    const char *images[4] = {note}, *prompts[4] = {"a", "b", "c"};
    cn_train_options o = options_for(out);
    o.validation_images = images;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--validation-steps is 0");
    o.validation_steps = 2;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "the prompt is missing");
    o.validation_prompts = prompts;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "note.png");
    images[0] = "nowhere.png";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EIO, "nowhere.png");
    images[1] = "other.png";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "2 times --validation-image and 3 times");
    assert_false(cn_dir_exists(out));
}

static void a_given_controlnet_goes_on(void **state)
{
    (void)state;
    char first[256], out[256], other[256], control[256];
    path_in(first, "given");
    path_in(out, "goes-on");
    cn_train_options o = options_for(first);
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = out;
    o.controlnet = first;
    o.learning_rate = 0;
    o.adam_weight_decay = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(first, out, "control.safetensors")); /* nothing learned, nothing lost */
    path_in(control, "given/control.safetensors");
    o.controlnet = control;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(first, out, "control.safetensors"));
    assert_true(same_file(first, out, "config.json"));
    path_in(other, "wider");
    must(tiny_base_write(ctx, other, 16));
    o.model = other;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, "widths");
}

static void impossible_runs_are_refused(void **state)
{
    (void)state;
    char out[256], file[256];
    path_in(out, "refused");
    cn_train_options o = options_for(out);
    o.resolution = TINY_PX + 1;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "multiple of 2");
    o = options_for(out);
    o.lr_scheduler = "steep";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "constant_with_warmup");
    o = options_for(out);
    o.learning_rate = NAN;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "learning-rate");
    o = options_for(out);
    o.max_memory_bytes = 1000;
    refused(cn_train(ctx, &o, NULL, NULL), CN_ENOMEM, "--max-memory");
    o = options_for(out);
    o.train_data_dir = model;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EIO, "prompt.json");
    o = options_for("/proc/nowhere");
    refused(cn_train(ctx, &o, NULL, NULL), CN_EIO, "/proc/nowhere");
    path_in(file, "a-file");
    must(cn_file_write(ctx, file, "x", 1));
    o = options_for(file);
    refused(cn_train(ctx, &o, NULL, NULL), CN_EIO, "a-file");
    o = options_for(out);
    o.learning_rate = 1000; /* far too large: the run ends, nothing claims success */
    o.max_train_steps = 200;
    o.max_grad_norm = 0;
    const cn_status s = cn_train(ctx, &o, NULL, NULL);
    if (s != CN_OK) refused(s, CN_EINVAL, "diverged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_saves_both_layouts),
        cmocka_unit_test(the_loss_falls),
        cmocka_unit_test(minutes_end_a_run),
        cmocka_unit_test(the_same_seed_gives_the_same_bytes),
        cmocka_unit_test(accumulation_is_a_larger_batch),
        cmocka_unit_test(resuming_gives_the_same_bytes),
        cmocka_unit_test(optimizers_dont_take_each_others_states),
        cmocka_unit_test(optimizers_are_named),
        cmocka_unit_test(objectives_resume_exactly),
        cmocka_unit_test(a_finished_folder_is_refused_or_overwritten),
        cmocka_unit_test(latest_is_of_this_run),
        cmocka_unit_test(a_warm_up_leaves_room),
        cmocka_unit_test(scaled_rates_and_fewer_samples),
        cmocka_unit_test(plans_know_the_strategies),
        cmocka_unit_test(cancelling_saves_first),
        cmocka_unit_test(validation_measures_and_draws),
        cmocka_unit_test(conditions_of_ones_own_are_drawn),
        cmocka_unit_test(given_conditions_are_checked),
        cmocka_unit_test(a_given_controlnet_goes_on),
        cmocka_unit_test(impossible_runs_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
