/* SPDX-License-Identifier: Apache-2.0 */
/* test_strategies.c - the paper's ways of training as whole small runs: the middle link alone,
 * links joined later, a base unlocked in part or whole, and what moves to another base. */
#include "../support/unit/tiny_run.h"
#include "io/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static const char folder_file[] = "diffusion_pytorch_model.safetensors";
static const char unet_file[] = "base/unet/diffusion_pytorch_model.safetensors";

/* A tensor's values, *n of them; free them. */
static float *values_of(const char *dir, const char *file, const char *name, int64_t *n)
{
    char path[512];
    cn_tensors *t = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    must(cn_tensors_open(ctx, path, &t));
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!info) fail_msg("%s has no %s", path, name);
    float *x = malloc((size_t)info->elements * sizeof *x);
    must(cn_tensors_read(ctx, t, info, x));
    *n = info->elements;
    cn_tensors_close(t);
    return x;
}

/* Sum of the magnitudes of a tensor's values. */
static double magnitude(const char *dir, const char *file, const char *name)
{
    int64_t n;
    double sum = 0;
    float *x = values_of(dir, file, name, &n);
    for (int64_t i = 0; i < n; i++) sum += (double)fabsf(x[i]);
    free(x);
    return sum;
}

static void only_mid_leaves_the_links_silent(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "mid");
    cn_train_options o = options_for(out);
    o.only_mid_control = true;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(magnitude(out, folder_file, "controlnet_mid_block.weight") > 0);
    assert_true(magnitude(out, folder_file, "controlnet_down_blocks.0.weight") == 0);
}

/* The links join with weights of 0 and learn from then on; the border may fall on a checkpoint. */
static void links_join_in_the_same_run(void **state)
{
    (void)state;
    char whole[256];
    for (int64_t after = 3; after <= 5; after++) {
        char name[32];
        snprintf(name, sizeof name, "reconnect-%d", (int)after);
        cn_train_options o = options_for(NULL);
        o.only_mid_control = true;
        o.reconnect_after = after;
        tiny_resumes(name, o, whole);
        assert_true(magnitude(whole, folder_file, "controlnet_down_blocks.0.weight") > 0);
    }
    char early[256];
    path_in(early, "reconnect-late");
    cn_train_options o = options_for(early);
    o.only_mid_control = true;
    o.reconnect_after = 100;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(magnitude(early, folder_file, "controlnet_down_blocks.0.weight") == 0);
    o.only_mid_control = false;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--only-mid-control");
}

/* Whether a tensor of the saved base is that of the base that training began with. */
static bool kept(const char *out, const char *tensor)
{
    return magnitude(out, unet_file, tensor) ==
           magnitude(model, "unet/diffusion_pytorch_model.safetensors", tensor);
}

static void the_base_is_unlocked_and_saved(void **state)
{
    (void)state;
    static const char in[] = "conv_in.weight", up[] = "up_blocks.1.resnets.0.conv1.weight",
                      out[] = "conv_out.weight";
    char whole[256], path[512];
    cn_train_options o = options_for(NULL);
    o.unlock = "decoder";
    for (o.unlock_after = 3; o.unlock_after <= 4; o.unlock_after++) {
        tiny_resumes(o.unlock_after == 3 ? "decoder-3" : "decoder-4", o, whole);
        assert_true(kept(whole, in));
        assert_false(kept(whole, up));
        assert_false(kept(whole, out));
    }
    o.unlock = "all";
    o.unlock_after = 0;
    o.use_ema = true;
    tiny_resumes("all", o, whole);
    assert_false(kept(whole, in));
    assert_false(kept(whole, up));
    assert_true(magnitude(whole, folder_file, in) !=
                magnitude(whole, "ema/diffusion_pytorch_model.safetensors", in));
    /* what was saved is a base and a ControlNet to go on with */
    cn_train_options next = options_for(path);
    char saved[300];
    path_in(path, "after-unlock");
    snprintf(saved, sizeof saved, "%s/base", whole);
    next.model = saved;
    next.controlnet = whole;
    must(cn_train(ctx, &next, NULL, NULL));
    /* as one file too, which says its 2 heads and 4 groups itself */
    char file[300], tokenizer[300], again[256];
    snprintf(file, sizeof file, "%s/base.safetensors", whole);
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer", model);
    path_in(again, "after-unlock-file");
    next.model = file;
    next.tokenizer = tokenizer;
    next.output_dir = again;
    must(cn_train(ctx, &next, NULL, NULL));
    assert_true(same_file(path, again, "control.safetensors"));
    /* and a run can't lock it again */
    o.output_dir = whole;
    o.checkpointing_steps = 7;
    o.max_train_steps = 7;
    must(cn_train(ctx, &o, NULL, NULL));
    o.resume_from_checkpoint = "latest";
    o.max_train_steps = 8;
    o.unlock = "none";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--unlock all");
}

/* How far a run's tensor is from the base's in sum. */
static double moved(const char *out, const char *tensor)
{
    int64_t n;
    float *is = values_of(out, unet_file, tensor, &n);
    float *was = values_of(model, "unet/diffusion_pytorch_model.safetensors", tensor, &n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)fabsf(is[i] - was[i]);
    free(is);
    free(was);
    return sum;
}

static void the_base_learns_at_its_own_rate(void **state)
{
    (void)state;
    static const char up[] = "up_blocks.1.resnets.0.conv1.weight";
    static const char *const names[] = {"rate-none", "rate-same", "rate-low"};
    const double rates[] = {0, 1e-3, 1e-5};
    double distance[3], told;
    char out[3][256];
    for (int i = 0; i < 3; i++) {
        path_in(out[i], names[i]);
        cn_train_options o = options_for(out[i]);
        o.unlock = "decoder";
        o.learning_rate = 1e-3;
        o.unlock_learning_rate = rates[i];
        must(cn_train(ctx, &o, NULL, NULL));
        distance[i] = moved(out[i], up);
    }
    assert_true(distance[0] == distance[1]);
    /* Adam's steps follow the rate; gradients differ a little once the weights do */
    assert_true(distance[2] > 0.5e-2 * distance[0] && distance[2] < 2e-2 * distance[0]);
    assert_int_equal(tiny_metrics(out[2], "unlock_lr", &told, 1), 1);
    assert_true(fabs(told - 1e-5) < 1e-12);
    cn_train_options o = options_for(out[0]);
    o.unlock_learning_rate = 1e-5;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--unlock decoder");
}

/* tool_transfer_control.py's sum, for what the ControlNet copied; the rest stays. */
static void a_controlnet_moves_to_another_base(void **state)
{
    (void)state;
    static const char in[] = "conv_in.weight", zero[] = "controlnet_mid_block.weight";
    char out[256], base[300], moved[300];
    int64_t n;
    path_in(out, "for-transfer");
    cn_train_options o = options_for(out);
    o.unlock = "all";
    o.learning_rate = 1e-2;
    must(cn_train(ctx, &o, NULL, NULL));
    snprintf(base, sizeof base, "%s/base", out);
    snprintf(moved, sizeof moved, "%s/moved", out);
    const cn_convert_options transfer = {.dtype = "f32", .from_base = model, .to_base = base};
    must(cn_convert(ctx, out, moved, &transfer));
    float *was = values_of(out, folder_file, in, &n), *is = values_of(moved, folder_file, in, &n);
    float *to = values_of(out, unet_file, in, &n);
    float *from = values_of(model, "unet/diffusion_pytorch_model.safetensors", in, &n);
    double change = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(is[i] == was[i] + to[i] - from[i]);
        change += (double)fabsf(is[i] - was[i]);
    }
    assert_true(change > 0);
    assert_true(magnitude(moved, folder_file, zero) == magnitude(out, folder_file, zero));
    free(was);
    free(is);
    free(to);
    free(from);
    path_in(base, "transfer-wider");
    must(tiny_base_write(ctx, base, 16));
    refused(cn_convert(ctx, out, moved, &transfer), CN_EMISMATCH, "widths");
}

/* A locked run with a late unlocking is the locked run up to there. */
static void unlocking_later_changes_nothing_before(void **state)
{
    (void)state;
    char a[256], b[256];
    path_in(a, "stays-locked");
    path_in(b, "unlocks-late");
    cn_train_options o = options_for(a);
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = b;
    o.unlock = "all";
    o.unlock_after = 4;
    o.max_train_steps = 5;
    o.checkpointing_steps = 4;
    must(cn_train(ctx, &o, NULL, NULL));
    snprintf(b, sizeof b, "%s/unlocks-late/checkpoint-4", root);
    assert_true(same_tensors(a, b, "control.safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_mid_leaves_the_links_silent),
        cmocka_unit_test(links_join_in_the_same_run),
        cmocka_unit_test(the_base_is_unlocked_and_saved),
        cmocka_unit_test(the_base_learns_at_its_own_rate),
        cmocka_unit_test(a_controlnet_moves_to_another_base),
        cmocka_unit_test(unlocking_later_changes_nothing_before),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
