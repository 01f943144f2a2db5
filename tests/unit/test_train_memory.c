/* SPDX-License-Identifier: Apache-2.0 */
/* test_train_memory.c - what a run takes is known before, fits a limit, and doesn't change what is
 * learned.
 *
 * The measured peak is that of a process of its own: the program runs itself with "child".
 */
#include "../support/unit/tiny_run.h"
#include "io/tensors.h"
#include "../support/child.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PX = 64, BATCH = 8 }; /* far more activations than weights */

static bool has_bf16;

static cn_train_options options_for(const char *output)
{
    cn_train_options o = tiny_options(output);
    o.resolution = PX;
    o.train_batch_size = BATCH;
    o.max_train_steps = 3;
    return o;
}

static void keep_plan(void *user, const cn_train_plan *p)
{
    *(cn_train_plan *)user = *p;
}

static cn_train_plan plan_of(cn_train_options o, cn_status want)
{
    cn_train_plan p = {0};
    const cn_train_callbacks c = {.user = &p, .planned = keep_plan};
    o.dry_run = true;
    const cn_status s = cn_train(ctx, &o, &c, NULL);
    if (s != want) fail_msg("%s: %s", cn_status_name(s), cn_error(ctx));
    return p;
}

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(2) != 0) return -1;
    cn_train_options o = options_for("/tmp");
    o.mixed_precision = "bf16";
    o.dry_run = true;
    has_bf16 = cn_train(ctx, &o, NULL, NULL) == CN_OK;
    if (!has_bf16) assert_non_null(strstr(cn_error(ctx), "no bfloat16"));
    return 0;
}

static void assert_same_weights(const char *dir_a, const char *dir_b)
{
    assert_true(same_file(dir_a, dir_b, "diffusion_pytorch_model.safetensors"));
}

/* --- plans ------------------------------------------------------------------------------------ */

static void parts_add_up_and_nothing_is_written(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "dry");
    cn_train_options o = options_for(out);
    const cn_train_plan p = plan_of(o, CN_OK);
    assert_int_equal(p.process_bytes + p.data_bytes + p.base_bytes + p.control_bytes +
                         p.optimizer_bytes + p.gradient_bytes + p.activation_bytes,
                     p.training_bytes);
    assert_int_equal(p.peak_bytes, CN_MAX(p.training_bytes, p.encoding_bytes));
    assert_int_equal(p.validation_bytes, 0);
    assert_string_equal(p.base_type, "f32");
    assert_string_equal(p.compute_type, "f32");
    assert_true(p.optimizer_bytes >= 2 * p.control_bytes);
    assert_true(p.gradient_bytes >= p.control_bytes);
    assert_true(p.trained > 1000 && p.blocks > 4 && p.recomputed_blocks == 0);
    assert_true(p.steps == 3 && p.step_seconds > 0);
    assert_int_equal(access(out, F_OK), -1);
    o.train_batch_size = 2 * BATCH;
    assert_true(plan_of(o, CN_OK).activation_bytes > p.activation_bytes * 9 / 5);
    o = options_for(out);
    o.gradient_accumulation_steps = 2;
    assert_int_equal(plan_of(o, CN_OK).optimizer_bytes, p.optimizer_bytes + p.gradient_bytes);
    o = options_for(out);
    o.validation_steps = 1;
    o.validation_count = 2;
    assert_true(plan_of(o, CN_OK).validation_bytes > 0);
    assert_int_equal(access(out, F_OK), -1);
}

static void checkpointing_fits_a_limit_and_learns_the_same(void **state)
{
    (void)state;
    char a[256], b[256], c[256];
    path_in(a, "free");
    path_in(b, "limited");
    path_in(c, "least");
    cn_train_options o = options_for(a);
    const cn_train_plan whole = plan_of(o, CN_OK);
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = c;
    o.gradient_checkpointing = true;
    const cn_train_plan least = plan_of(o, CN_OK);
    assert_int_equal(least.recomputed_blocks, least.blocks);
    assert_true(least.activation_bytes < whole.activation_bytes * 3 / 4);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_same_weights(a, c);
    o.output_dir = b;
    o.gradient_checkpointing = false;
    /* between both, whatever the process itself has by now */
    o.max_memory_bytes = plan_of(options_for(b), CN_OK).peak_bytes -
                         (whole.activation_bytes - least.activation_bytes) / 2;
    const cn_train_plan some = plan_of(o, CN_OK);
    assert_in_range(some.recomputed_blocks, 1, some.blocks - 1);
    assert_true(some.peak_bytes <= o.max_memory_bytes);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_same_weights(a, b);
}

static void what_would_fit_is_said(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "none");
    cn_train_options o = options_for(out);
    o.train_batch_size = 64; /* so that training takes more than encoding */
    o.gradient_checkpointing = true;
    const cn_train_plan least = plan_of(o, CN_OK);
    o.gradient_checkpointing = false;
    o.max_memory_bytes = least.peak_bytes - least.activation_bytes / 2;
    plan_of(o, CN_ENOMEM);
    assert_non_null(strstr(cn_error(ctx), "This would fit: "));
    assert_non_null(strstr(cn_error(ctx), "--train-batch-size 1 ("));
    o.max_memory_bytes = 1000;
    plan_of(o, CN_ENOMEM);
    assert_non_null(strstr(cn_error(ctx), "a smaller --resolution than 64"));
    assert_int_equal(access(out, F_OK), -1);
}

/* --- bf16 ------------------------------------------------------------------------------------- */

static double final_loss(cn_train_options *o)
{
    cn_train_result r;
    must(cn_train(ctx, o, NULL, &r));
    return r.final_loss;
}

static void bf16_learns_alike_and_resumes_exactly(void **state)
{
    (void)state;
    if (!has_bf16) {
        print_message("skipped: this processor has no bfloat16 products\n");
        skip();
    }
    char a[256], b[256], c[256];
    path_in(a, "f32");
    path_in(b, "bf16");
    path_in(c, "bf16-resumed");
    cn_train_options o = options_for(a);
    const double full = final_loss(&o);
    o.output_dir = b;
    o.mixed_precision = "bf16";
    const cn_train_plan p = plan_of(o, CN_OK);
    assert_string_equal(p.base_type, "bf16");
    const double half = final_loss(&o);
    assert_true(fabs(half - full) < 0.02 * full);
    o.output_dir = c;
    o.checkpointing_steps = 2;
    o.max_train_steps = 2;
    final_loss(&o);
    o.max_train_steps = 3;
    o.resume_from_checkpoint = "latest";
    final_loss(&o);
    assert_same_weights(b, c);
}

/* --- the peak --------------------------------------------------------------------------------- */

static int run_child(char **a)
{
    cn_ctx *c = cn_ctx_create(2);
    cn_train_plan p = {0};
    cn_train_result r;
    const cn_train_callbacks callbacks = {.user = &p, .planned = keep_plan};
    snprintf(model, sizeof model, "%s", a[0]);
    snprintf(scenes, sizeof scenes, "%s", a[1]);
    cn_train_options o = options_for(a[2]);
    o.train_batch_size = 56; /* some MB that a run adds to the process mustn't count */
    o.mixed_precision = a[3];
    o.max_train_steps = 2;
    o.validation_steps = 2;
    o.validation_count = 2;
    o.validation_sampling_steps = 2;
    o.checkpointing_steps = 1;
    if (cn_train(c, &o, &callbacks, &r) != CN_OK) {
        fprintf(stderr, "%s\n", cn_error(c));
        return 1;
    }
    cn_ctx_destroy(c);
    return test_write_plan(a[4], p.peak_bytes, r.peak_resident_bytes);
}

static void the_peak_is_the_planned_one(void **state)
{
    (void)state;
    char out[256], numbers[256];
    for (int k = 0; k < (has_bf16 ? 2 : 1); k++) {
        char *type = k ? "bf16" : "no";
        path_in(out, k ? "peak-bf16" : "peak-f32");
        path_in(numbers, "numbers");
        assert_true(
            test_run_self((char *[]){"test", "child", model, scenes, out, type, numbers, NULL}));
        assert_true(test_near_plan(type, numbers));
    }
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "child") == 0) return run_child(argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_add_up_and_nothing_is_written),
        cmocka_unit_test(checkpointing_fits_a_limit_and_learns_the_same),
        cmocka_unit_test(what_would_fit_is_said),
        cmocka_unit_test(bf16_learns_alike_and_resumes_exactly),
        cmocka_unit_test(the_peak_is_the_planned_one),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
