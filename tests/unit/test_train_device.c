/* SPDX-License-Identifier: Apache-2.0 */
/* test_train_device.c - whole small runs on the device that suits best: the CPU's losses, the same
 * bytes after a resume, after a kill too. Without a device all is skipped. */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 4 };

static bool found;

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(2) != 0) return -1;
    found = unit_device_found();
    return 0;
}

static cn_train_options options_for(const char *device, const char *output)
{
    cn_train_options o = tiny_options(output);
    o.device = device;
    o.max_train_steps = STEPS;
    return o;
}

/* All that the optimizer keeps, and blocks computed again. */
static void ask_all(cn_train_options *o)
{
    o->use_8bit_adam = true;
    o->use_ema = true;
    o->gradient_accumulation_steps = 2;
    o->gradient_checkpointing = true;
    o->unlock = "decoder";
    o->unlock_learning_rate = 1e-4;
}

static void assert_close(const char *a, const char *b, const char *key, int n, double tolerance)
{
    double x[16], y[16];
    assert_int_equal(tiny_metrics(a, key, x, 16), n);
    assert_int_equal(tiny_metrics(b, key, y, 16), n);
    for (int i = 0; i < n; i++)
        if (!(fabs(x[i] - y[i]) <= tolerance * fabs(x[i])))
            fail_msg("%s %d: %.9g, %.9g on the device", key, i, x[i], y[i]);
}

/* Losses on other kernels, their roundings amplified by a few steps. Pictures and texts are encoded
 * in their step, and a validation draws. */
static void losses_are_the_cpus(void **state)
{
    (void)state;
    char a[256], b[256];
    if (!found) skip();
    path_in(a, "on-cpu");
    path_in(b, "on-device");
    for (int k = 0; k < 2; k++) {
        cn_train_options o = options_for(k ? "vulkan" : "cpu", k ? b : a);
        ask_all(&o);
        o.cache_latents = false;
        o.cache_text = false;
        o.validation_steps = STEPS;
        o.validation_count = 1;
        o.validation_sampling_steps = 1;
        must(cn_train(ctx, &o, NULL, NULL));
    }
    assert_close(a, b, "loss", STEPS, 1e-3);
    assert_close(a, b, "grad_norm", STEPS, 1e-3);
    assert_close(a, b, "loss_with_control", 1, 1e-3);
}

/* Products of F16 under a loss scale learn what F32 does. */
static void f16_learns_alike(void **state)
{
    (void)state;
    char a[256], b[256], c[256];
    double scale[2 * STEPS];
    if (!found) skip();
    path_in(a, "f32");
    path_in(b, "f16");
    path_in(c, "f16-parts");
    cn_train_options o = options_for("vulkan", a);
    must(cn_train(ctx, &o, NULL, NULL));
    o.mixed_precision = "fp16";
    o.output_dir = b;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_close(a, b, "loss", STEPS, 1e-2); /* an operand has 11 bits */
    assert_close(a, b, "grad_norm", STEPS, 1e-1);
    assert_false(same_file(a, b, "control.safetensors"));
    assert_int_equal(tiny_metrics(b, "loss_scale", scale, STEPS), STEPS);
    assert_true(scale[0] == 65536);
    o.output_dir = c;
    o.max_train_steps = 2;
    o.checkpointing_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    o.max_train_steps = STEPS;
    o.resume_from_checkpoint = "latest";
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(b, c, "control.safetensors"));
}

/* --- going on --------------------------------------------------------------------------------- */

static void compare(const char *whole, const char *parts)
{
    static const char *const files[] = {"control.safetensors", "base.safetensors",
                                        "ema/control.safetensors",
                                        "checkpoint-4/optimizer.safetensors"};
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", whole, files[i]);
        if (cn_file_exists(path) && !same_tensors(whole, parts, files[i]))
            fail_msg("%s differs", files[i]);
    }
}

static void resuming_gives_the_same_bytes(void **state)
{
    (void)state;
    char whole[256], parts[256];
    if (!found) skip();
    path_in(whole, "whole");
    path_in(parts, "parts");
    cn_train_options o = options_for("vulkan", whole);
    ask_all(&o);
    o.checkpointing_steps = STEPS;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = parts;
    o.checkpointing_steps = 2;
    o.max_train_steps = 2;
    must(cn_train(ctx, &o, NULL, NULL));
    o.max_train_steps = STEPS;
    o.resume_from_checkpoint = "latest";
    must(cn_train(ctx, &o, NULL, NULL));
    compare(whole, parts);
}

static int child(char **argv)
{
    ctx = cn_ctx_create(1);
    if (!ctx) return 2;
    snprintf(model, sizeof model, "%s", argv[2]);
    snprintf(scenes, sizeof scenes, "%s", argv[3]);
    cn_train_options o = options_for("vulkan", argv[4]);
    o.checkpointing_steps = 1;
    o.resume_from_checkpoint = "latest";
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

/* Killed as soon as the first checkpoint is there, which is in the middle of the second step or of
 * its save. */
static void a_killed_run_goes_on_with_the_same_bytes(void **state)
{
    (void)state;
    char whole[256], broken[256], first[512];
    if (!found) skip();
    path_in(whole, "unkilled");
    path_in(broken, "killed");
    snprintf(first, sizeof first, "%s/checkpoint-1", broken);
    assert_int_equal(test_wait(start(whole), TEST_CHILD_SECONDS), 0);
    const pid_t pid = start(broken);
    for (double begun = cn_now_s(); !cn_dir_exists(first) && cn_now_s() < begun + 120;)
        usleep(1000);
    kill(pid, SIGKILL);
    (void)test_wait(pid, TEST_CHILD_SECONDS);
    assert_int_equal(test_wait(start(broken), TEST_CHILD_SECONDS), 0);
    compare(whole, broken);
}

/* --- failing ---------------------------------------------------------------------------------- */

/* Runs the program whose calls fail (tests/faults); what it says. */
static int run_failing(const char *fault, const char *output, char said[4096])
{
    char program[PATH_MAX];
    int ends[2];
    assert_true(test_find_beside("controlnet-faults", program));
    char *const argv[] = {program,
                          "train",
                          "-m",
                          model,
                          "--device",
                          "vulkan",
                          "-b",
                          "2",
                          "--resolution",
                          "16",
                          "-o",
                          (char *)output,
                          "--train-data-dir",
                          scenes,
                          "--max-train-steps",
                          "4",
                          "--validation-steps",
                          "0",
                          "--learning-rate",
                          "1e-3",
                          "--checkpointing-steps",
                          "1",
                          "--resume-from-checkpoint",
                          "latest",
                          NULL};
    fault ? setenv("CN_FAIL", fault, 1) : unsetenv("CN_FAIL");
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = test_start(argv, ends[1]);
    unsetenv("CN_FAIL");
    close(ends[1]);
    const int status = test_read(pid, ends[0], TEST_CHILD_SECONDS, said, 4096);
    close(ends[0]);
    return status;
}

/* A device that is lost or has no memory left ends a run in a line that says how to go on, which
 * gives the bytes of a run without. */
static void a_lost_device_loses_nothing(void **state)
{
    (void)state;
    char whole[256], broken[256], told[256], fault[64], said[4096], *text = NULL;
    size_t n = 0;
    if (!found) skip();
    path_in(whole, "kept");
    path_in(broken, "lost");
    path_in(told, "told");
    setenv("CN_FAIL_TOLD", told, 1);
    assert_int_equal(run_failing(NULL, whole, said), 0);
    unsetenv("CN_FAIL_TOLD");
    must(cn_file_read(ctx, told, 4096, &text, &n));
    const char *count = strstr(text, "devicerun ");
    const long runs = count ? strtol(count + 10, NULL, 10) : 0;
    cn_free(text);
    assert_true(runs > 100);
    assert_int_equal(run_failing("devicerun:1:EIO", broken, said), 1);
    if (!strstr(said, "the device was lost")) fail_msg("%s", said);
    assert_int_equal(run_failing("devicememory:2:ENOMEM", broken, said), 1);
    if (!strstr(said, "out of device memory")) fail_msg("%s", said);
    snprintf(fault, sizeof fault, "devicerun:%ld:EIO", runs * 3 / 4); /* behind the second save */
    assert_int_equal(run_failing(fault, broken, said), 1);
    if (!strstr(said, "is whole, --resume-from-checkpoint latest goes on")) fail_msg("%s", said);
    assert_int_equal(run_failing(NULL, broken, said), 0);
    compare(whole, broken);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void keep_plan(void *user, const cn_train_plan *p)
{
    *(cn_train_plan *)user = *p;
}

/* Far more activations than weights. */
static cn_train_options large(const char *output)
{
    cn_train_options o = options_for("vulkan", output);
    o.resolution = 32;
    o.train_batch_size = 4;
    o.max_train_steps = 1;
    return o;
}

static cn_train_plan train_planned(const cn_train_options *o, cn_status want, cn_train_result *r)
{
    cn_train_plan p = {0};
    const cn_train_callbacks c = {.user = &p, .planned = keep_plan};
    const cn_status s = cn_train(ctx, o, &c, r);
    if (s != want) fail_msg("%s: %s", cn_status_name(s), cn_error(ctx));
    return p;
}

/* What was asked of the driver, to 3 % of what was planned. Under a limit as few blocks as needed
 * are computed again, and the same is learned to the byte. */
static void memory_is_planned_and_limited(void **state)
{
    (void)state;
    char whole[256], least[256], some[256];
    cn_train_result r;
    if (!found) skip();
    path_in(whole, "planned");
    path_in(least, "least");
    path_in(some, "limited");
    cn_train_options o = large(whole);
    const cn_train_plan p = train_planned(&o, CN_OK, &r);
    print_message("planned %zu, taken %zu of the device's bytes\n", p.device_bytes,
                  r.peak_device_bytes);
    assert_int_equal(p.device_bytes, CN_MAX(p.device_encoding_bytes, p.device_training_bytes));
    assert_int_equal(p.training_bytes, p.process_bytes + p.data_bytes);
    assert_true(fabs((double)r.peak_device_bytes - (double)p.device_bytes) <=
                0.03 * (double)p.device_bytes);
    o = large(least);
    o.gradient_checkpointing = true;
    const cn_train_plan q = train_planned(&o, CN_OK, NULL);
    assert_true(q.device_training_bytes < p.device_training_bytes);
    o = large(some);
    o.max_memory_bytes =
        CN_MAX(q.device_encoding_bytes, (p.device_training_bytes + q.device_training_bytes) / 2);
    const cn_train_plan m = train_planned(&o, CN_OK, NULL);
    assert_in_range(m.recomputed_blocks, 1, m.blocks);
    assert_true(m.device_bytes <= o.max_memory_bytes);
    assert_true(same_file(whole, some, "diffusion_pytorch_model.safetensors"));
    path_in(some, "refused");
    o.max_memory_bytes = q.device_training_bytes / 2;
    train_planned(&o, CN_ENOMEM, NULL);
    assert_non_null(strstr(cn_error(ctx), "--max-memory allows"));
    assert_false(cn_dir_exists(some));
}

/* --- what isn't there ------------------------------------------------------------------------- */

static void what_it_cannot_is_refused(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "refused");
    cn_train_options o = options_for("gpu", out);
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--device gpu: auto, cpu, vulkan");
    if (!found) skip();
    o = options_for("vulkan", out);
    o.mixed_precision = "bf16";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "a device has fp16");
    assert_false(cn_dir_exists(out));
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "child") == 0) return child(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_the_cpus),
        cmocka_unit_test(f16_learns_alike),
        cmocka_unit_test(resuming_gives_the_same_bytes),
        cmocka_unit_test(a_killed_run_goes_on_with_the_same_bytes),
        cmocka_unit_test(a_lost_device_loses_nothing),
        cmocka_unit_test(memory_is_planned_and_limited),
        cmocka_unit_test(what_it_cannot_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
