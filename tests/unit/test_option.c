/* SPDX-License-Identifier: Apache-2.0 */
/* test_option.c - tables of options: each is sound, defaults are those that the documents name,
 * values are refused alike from text and in the struct. */
#include "base/option.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static cn_ctx *ctx;

static const struct {
    const char *name;
    const cn_option *rows;
    size_t bytes; /* of the struct */
} tables[] = {
    {"pretrain", cn_pretrain_option_rows, sizeof(cn_pretrain_options)},
    {"evaluate", cn_pretrain_evaluate_option_rows, sizeof(cn_pretrain_evaluate_options)},
    {"train", cn_train_option_rows, sizeof(cn_train_options)},
    {"circles", cn_circles_option_rows, sizeof(cn_scenes_options)},
    {"scenes", cn_scenes_option_rows, sizeof(cn_scenes_options)},
    {"data set", cn_dataset_option_rows, sizeof(cn_dataset_options)},
    {"check", cn_dataset_check_option_rows, sizeof(cn_dataset_check_options)},
    {"prepare", cn_prepare_option_rows, sizeof(cn_prepare_options)},
    {"pipeline", cn_pipeline_option_rows, sizeof(cn_pipeline_options)},
    {"control", cn_control_option_rows, sizeof(cn_control_options)},
    {"generate", cn_generate_option_rows, sizeof(cn_generate_options)},
    {"convert", cn_convert_option_rows, sizeof(cn_convert_options)},
    {"annotate", cn_annotate_option_rows, sizeof(cn_annotate_folder_options)},
};

static bool is_end(const cn_option *row)
{
    return !row->name && !row->help;
}

static bool is_ranged(const cn_option *row)
{
    return row->type == CN_FIELD_INT || row->type == CN_FIELD_INT64 ||
           row->type == CN_FIELD_INT64S || row->type == CN_FIELD_NUMBER;
}

static const cn_option *find(const cn_option *rows, const char *name)
{
    for (; !is_end(rows); rows++)
        if (rows->name && strcmp(rows->name, name) == 0) return rows;
    fail_msg("no option %s", name);
    return NULL;
}

/* What makes the row useless or the program's help wrong; NULL: nothing. */
static const char *fault_of(const cn_option *row, size_t bytes)
{
    _Alignas(16) char options[1024] = {0};
    const bool is_switch = row->type == CN_FIELD_ON || row->type == CN_FIELD_OFF;
    if (row->offset >= bytes || bytes > sizeof options) return "fills no field of its struct";
    if (is_ranged(row) && !(row->min < row->max)) return "has no range";
    if (!is_ranged(row) && (row->min != 0 || row->max != 0)) return "has a range";
    const bool has_words = row->type == CN_FIELD_EITHER;
    if (row->words && row->type != CN_FIELD_TEXT && !has_words) return "has words and is no text";
    if (has_words && !(row->words && row->words[0] && row->words[1] && !row->words[2]))
        return "is the one or the other, and has no two words";
    if (row->name_at && row->type != CN_FIELD_TEXT) return "lists names and is no text";
    if (row->preset && row->unset) return "has two defaults";
    if (row->required && !row->arg) return "is required, and its value has no name";
    if (strchr(row->name, '_')) return "has a _ in its name";
    if (row->help && strchr(row->help, '\n')) return "has lines in its help; it is wrapped";
    if (!row->preset || is_switch) return NULL;
    return cn_option_set(ctx, row, row->preset, options) == CN_OK ? NULL : cn_error(ctx);
}

/* Whether one of a's names, which have spaces between, is among b's. */
static bool share_name(const char *a, const char *b)
{
    char names[256], *rest = names, *name;
    snprintf(names, sizeof names, "%s", a);
    while ((name = strsep(&rest, " "))) {
        const size_t n = strlen(name);
        for (const char *at = b; n && (at = strstr(at, name)); at += n)
            if ((at == b || at[-1] == ' ') && (!at[n] || at[n] == ' ')) return true;
    }
    return false;
}

static bool clash(const cn_option *a, const cn_option *b)
{
    char a_names[256], b_names[256];
    if (!a->name) return false;
    snprintf(a_names, sizeof a_names, "%s %s", a->name, a->also ? a->also : "");
    snprintf(b_names, sizeof b_names, "%s %s", b->name, b->also ? b->also : "");
    return share_name(a_names, b_names) || (a->letter && a->letter == b->letter);
}

static void test_tables_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < CN_COUNT(tables); i++) {
        assert_null(tables[i].rows[0].name); /* a heading */
        for (const cn_option *row = tables[i].rows; !is_end(row); row++) {
            if (!row->name) continue;
            const char *fault = fault_of(row, tables[i].bytes);
            if (fault) fail_msg("%s: --%s %s", tables[i].name, row->name, fault);
            for (const cn_option *other = tables[i].rows; other != row; other++)
                if (clash(other, row))
                    fail_msg("%s: --%s and --%s have a name in common", tables[i].name, other->name,
                             row->name);
        }
    }
}

/* diffusers' train_controlnet.py, and docs/training.md for what it doesn't have. */
static void test_defaults_of_training(void **state)
{
    cn_train_options o;
    (void)state;
    cn_train_options_default(&o);
    assert_int_equal(o.resolution, 512);
    assert_int_equal(o.train_batch_size, 4);
    assert_int_equal(o.num_train_epochs, 0); /* 1, as no minutes bound the run */
    assert_true(o.max_train_minutes == 0 && o.lr_decay_steps == 0.2);
    assert_int_equal(o.max_train_steps, 0);
    assert_int_equal(o.checkpointing_steps, 500);
    assert_int_equal(o.gradient_accumulation_steps, 1);
    assert_true(o.lr_warmup_steps == -1); /* 500, where the run has 5000 steps or more */
    assert_int_equal(o.validation_steps, 100);
    assert_true(o.learning_rate == 5e-6 && o.adam_beta1 == 0.9 && o.adam_beta2 == 0.999);
    assert_true(o.adam_weight_decay == 1e-2 && o.adam_epsilon == 1e-8 && o.max_grad_norm == 1);
    assert_true(o.lr_power == 1 && o.lr_num_cycles == 1 && o.proportion_empty_prompts == 0.5);
    assert_true(o.huber_c == 0.1 && o.ema_decay == 0.9999 && o.validation_guidance_scale == 7.5);
    assert_string_equal(o.lr_scheduler, "constant");
    assert_string_equal(o.mixed_precision, "no");
    assert_true(o.cache_latents && o.cache_text && !o.random_crop && !o.use_ema);
    assert_null(o.prediction);
    assert_null(o.model);
}

static void test_defaults_of_drawing(void **state)
{
    cn_generate_options o;
    (void)state;
    cn_generate_defaults(&o);
    assert_int_equal(o.steps, 20);
    assert_int_equal(o.batch, 1);
    assert_true(o.cfg_scale == 7.5 && o.strength == 0 && o.hires_scale == 0);
    assert_string_equal(o.sampler, "ddim");
    assert_string_equal(o.prompt, "");
}

typedef struct text_case {
    const char *name, *text;
    const char *error; /* NULL: it is taken */
} text_case;

static void test_values_from_text(void **state)
{
    static const text_case cases[] = {
        {"resolution", "512", NULL},
        {"resolution", "512px", "--resolution 512px: must be a whole number from 8 to 8192"},
        {"resolution", "7", "--resolution 7: must be a whole number from 8 to 8192"},
        {"resolution", "8193", "--resolution 8193: must be a whole number from 8 to 8192"},
        {"resolution", "", "--resolution : must be a whole number from 8 to 8192"},
        {"resolution", "99999999999999999999",
         "--resolution 99999999999999999999: must be a whole number from 8 to 8192"},
        {"adam-beta1", "0.9999999", NULL},
        {"adam-beta1", "1", "--adam-beta1 1: must be a number from 0 to 0.9999999"},
        {"adam-beta1", "nan", "--adam-beta1 nan: must be a number from 0 to 0.9999999"},
        {"adam-beta1", "-0.1", "--adam-beta1 -0.1: must be a number from 0 to 0.9999999"},
        {"max-train-steps", "0",
         "--max-train-steps 0: must be a whole number from 1 to 1000000000000"},
        {"seed", "18446744073709551615", NULL},
        {"seed", "-1", "--seed -1: must be a whole number from 0 to 18446744073709551615"},
        {"unlock", "decoder", NULL},
        {"unlock", "some", "--unlock some: must be none, decoder or all"},
        {"report-to", "", "--report-to : must be none or tensorboard"},
        {"max-memory", "1.5g", NULL},
        {"max-memory", "8", NULL},
        {"max-memory", "0", "--max-memory 0: a size such as 8G or 500M is expected"},
        {"max-memory", "8GB", "--max-memory 8GB: a size such as 8G or 500M is expected"},
        {"max-memory", "nan", "--max-memory nan: a size such as 8G or 500M is expected"},
    };
    cn_train_options o = {0};
    (void)state;
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        const text_case *c = &cases[i];
        const cn_status s = cn_option_set(ctx, find(cn_train_option_rows, c->name), c->text, &o);
        assert_int_equal(s, c->error ? CN_EINVAL : CN_OK);
        if (c->error) assert_string_equal(cn_error(ctx), c->error);
    }
    assert_int_equal(o.resolution, 512);
    assert_true(o.adam_beta1 == 0.9999999 && o.seed == UINT64_MAX);
    assert_string_equal(o.unlock, "decoder");
    assert_int_equal(o.max_memory_bytes, 8);
    assert_int_equal(cn_option_set(ctx, find(cn_train_option_rows, "max-memory"), "1.5T", &o),
                     CN_OK);
    assert_true(o.max_memory_bytes == (size_t)3 << 39);
}

static void test_switches(void **state)
{
    cn_train_options o;
    (void)state;
    cn_train_options_default(&o);
    const char *const on[] = {"random-crop", "use-ema"}, *const off[] = {"no-cache-text"};
    for (size_t i = 0; i < CN_COUNT(on); i++)
        assert_int_equal(cn_option_set(ctx, find(cn_train_option_rows, on[i]), NULL, &o), CN_OK);
    assert_int_equal(cn_option_set(ctx, find(cn_train_option_rows, off[0]), NULL, &o), CN_OK);
    assert_true(o.random_crop && o.use_ema && !o.cache_text && o.cache_latents);
    assert_int_equal(cn_option_set(ctx, find(cn_train_option_rows, "center-crop"), NULL, &o),
                     CN_OK);
    assert_false(o.random_crop);
}

static void test_lists_of_numbers(void **state)
{
    cn_pretrain_options o;
    (void)state;
    cn_pretrain_options_default(&o);
    assert_true(o.vae_widths[0] == 16 && o.vae_widths[3] == 96 && o.unet_widths[2] == 160);
    const cn_option *row = find(cn_pretrain_option_rows, "unet-widths");
    assert_int_equal(cn_option_set(ctx, row, "32,64,4096", &o), CN_OK);
    assert_true(o.unet_widths[0] == 32 && o.unet_widths[1] == 64 && o.unet_widths[2] == 4096);
    static const char *const wrong[] = {"", "32,64", "32,64,96,128", "32,64,4097", "32;64;96"};
    for (size_t i = 0; i < CN_COUNT(wrong); i++) {
        assert_int_equal(cn_option_set(ctx, row, wrong[i], &o), CN_EINVAL);
        assert_non_null(
            strstr(cn_error(ctx), "must be 3 whole numbers from 1 to 4096 with commas between"));
    }
    assert_int_equal(o.unet_widths[2], 4096);
    o.unet_widths[1] = 0;
    assert_int_equal(cn_options_check(ctx, cn_pretrain_option_rows, &o), CN_EINVAL);
}

static void test_one_of_two_words(void **state)
{
    cn_pretrain_options o;
    (void)state;
    cn_pretrain_options_default(&o);
    assert_true(o.v_prediction && !o.bf16);
    const cn_option *row = find(cn_pretrain_option_rows, "prediction-type");
    assert_int_equal(cn_option_set(ctx, row, "epsilon", &o), CN_OK);
    assert_false(o.v_prediction);
    assert_int_equal(cn_option_set(ctx, row, "x0", &o), CN_EINVAL);
    assert_string_equal(cn_error(ctx), "--prediction-type x0: must be epsilon or v_prediction");
}

/* Where 0 says that nothing was given, it can't be given. */
static void test_share_above_0(void **state)
{
    cn_generate_options o = {0};
    (void)state;
    const cn_option *row = find(cn_generate_option_rows, "strength");
    assert_int_equal(cn_option_set(ctx, row, "0", &o), CN_EINVAL);
    assert_string_equal(cn_error(ctx), "--strength 0: must be a number from 0 to 1, and above 0");
    assert_int_equal(cn_option_set(ctx, row, "1", &o), CN_OK);
    assert_true(o.strength == 1);
}

static void refuse(const void *o, const cn_option *rows, const char *error)
{
    assert_int_equal(cn_options_check(ctx, rows, o), CN_EINVAL);
    assert_string_equal(cn_error(ctx), error);
}

static void test_values_in_a_struct(void **state)
{
    cn_train_options o;
    cn_generate_options g;
    (void)state;
    cn_train_options_default(&o);
    refuse(&o, cn_train_option_rows, "--model is missing");
    o.model = o.train_data_dir = o.output_dir = "x";
    assert_int_equal(cn_options_check(ctx, cn_train_option_rows, &o), CN_OK);
    o.resolution = 7;
    refuse(&o, cn_train_option_rows, "--resolution 7: must be a whole number from 8 to 8192");
    o.resolution = 8;
    o.adam_beta2 = (double)NAN;
    refuse(&o, cn_train_option_rows, "--adam-beta2 nan: must be a number from 0 to 0.9999999");
    o.adam_beta2 = 0;
    o.max_timestep = -1;
    refuse(&o, cn_train_option_rows, "--max-timestep -1: must be a whole number from 1 to 100000");
    o.max_timestep = 0; /* all */
    o.lr_scheduler = "sine";
    refuse(&o, cn_train_option_rows,
           "--lr-scheduler sine: must be constant, constant_with_warmup, linear, cosine, "
           "cosine_with_restarts, polynomial or warmup_stable_decay");
    o.lr_scheduler = NULL;
    assert_int_equal(cn_options_check(ctx, cn_train_option_rows, &o), CN_OK);

    cn_generate_defaults(&g);
    assert_int_equal(cn_options_check(ctx, cn_generate_option_rows, &g), CN_OK);
    g.hires_scale = 0.5;
    refuse(&g, cn_generate_option_rows, "--hires-scale 0.5: must be a number from 1 to 8");
    g.hires_scale = 0;
    g.batch = 1025;
    refuse(&g, cn_generate_option_rows,
           "--batch-count 1025: must be a whole number from 1 to 1024");
}

static int create(void **state)
{
    (void)state;
    return (ctx = cn_ctx_create(1)) ? 0 : -1;
}

static int destroy(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_are_sound),
        cmocka_unit_test(test_defaults_of_training),
        cmocka_unit_test(test_defaults_of_drawing),
        cmocka_unit_test(test_values_from_text),
        cmocka_unit_test(test_switches),
        cmocka_unit_test(test_share_above_0),
        cmocka_unit_test(test_values_in_a_struct),
        cmocka_unit_test(test_lists_of_numbers),
        cmocka_unit_test(test_one_of_two_words),
    };
    return cmocka_run_group_tests(tests, create, destroy);
}
