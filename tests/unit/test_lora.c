/* SPDX-License-Identifier: Apache-2.0 */
/* test_lora.c - what LoRA files of every naming and form change, and what is refused.
 *
 * Expected changes: tools/make-prompt-fixtures.py, one of every 37 values of each weight's change,
 * by LyCORIS' formulas, and for the file that peft and diffusers wrote by what they fuse.
 */
#include "../support/env.h"
#include "../support/tiny_model.h"
#include "../support/values.h"

#include "model/checkpoint/base_parts.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/prompts/"

static test_env env;
static char root[] = "/tmp/controlnet-lora-XXXXXX";
static cn_base *base;
static cn_params *unet, *text;
static cn_str log_lines;

static const char *path_of(const char *name)
{
    static char path[CN_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static cn_status add_file(cn_lora_set *set, const char *path, double weight)
{
    return cn_lora_add(env.ctx, set, path, weight, weight, (const cn_params *const[]){unet, text},
                       2);
}

/* The change of a parameter, from zeros, at every 37th value. */
static void check_change(const cn_lora_set *set, const char *network, const char *module,
                         const cn_tensors *file, const cn_tensor_info *want)
{
    enum { STRIDE = 37 };
    char name[320];
    bool bare = !strcmp(network, "text_encoder") && strncmp(module, "text_model.", 11) != 0;
    snprintf(name, sizeof name, "%s%s.weight", bare ? "text_model." : "", module);
    const cn_params *set_of = strcmp(network, "unet") ? text : unet;
    cn_param *q = cn_params_find(set_of, name);
    if (!q) fail_msg("no parameter %s", name);
    float *plain = cn_alloc0(env.ctx, (size_t)cn_param_elements(q) * sizeof *plain);
    float *expected = test_alloc((size_t)want->elements * sizeof *expected);
    float *got = test_alloc((size_t)want->elements * sizeof *got);
    assert_int_equal(cn_lora_merge(env.ctx, set, cn_params_net(set_of), q, plain), CN_OK);
    assert_int_equal(cn_tensors_read(env.ctx, file, want, expected), CN_OK);
    for (int64_t i = 0; i < want->elements; i++) got[i] = plain[i * STRIDE];
    /* f32 sums of a few products, against a difference of two f32 weights for what peft fused */
    double error = test_relative(test_compare_f32(got, expected, want->elements));
    if (error > 2e-6 + (strstr(want->name, "peft") || strstr(want->name, "older") ? 2e-5 : 0))
        fail_msg("%s: error %g", want->name, error);
    free(expected);
    free(got);
    cn_free(plain);
}

static void test_changes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int modules;
    } files[] = {{"kohya", 8}, {"lycoris", 5}, {"peft", 7}, {"older", 7}};
    cn_tensors *want = NULL;
    assert_int_equal(cn_tensors_open(env.ctx, GOLDEN "lora_changes.safetensors", &want), CN_OK);
    for (size_t f = 0; f < CN_COUNT(files); f++) {
        char path[256], file[64], network[64], module[256];
        int seen = 0;
        cn_lora_set set = {0};
        snprintf(path, sizeof path, GOLDEN "%s.safetensors", files[f].name);
        if (add_file(&set, path, 1) != CN_OK) fail_msg("%s", cn_error(env.ctx));
        for (int64_t i = 0; i < cn_tensors_count(want); i++) {
            const cn_tensor_info *t = cn_tensors_at(want, i);
            if (sscanf(t->name, "%63s %63s %255s", file, network, module) != 3) continue;
            if (strcmp(file, files[f].name) != 0) continue;
            check_change(&set, network, module, want, t);
            seen++;
        }
        assert_true(seen > 0);
        assert_int_equal(cn_lora_modules(&set), seen);
        cn_lora_set_free(&set);
    }
    cn_tensors_close(want);
}

/* Twice the file at half the weight is once the file; nothing else in the network changes. */
static void test_weights_add(void **state)
{
    (void)state;
    cn_lora_set once = {0}, twice = {0};
    assert_int_equal(add_file(&once, GOLDEN "kohya.safetensors", 1), CN_OK);
    assert_int_equal(add_file(&twice, GOLDEN "kohya.safetensors", 1.5), CN_OK);
    assert_int_equal(add_file(&twice, GOLDEN "kohya.safetensors", -0.5), CN_OK);
    int changed = 0;
    for (int64_t i = 0; i < cn_params_count(unet); i++) {
        const cn_param *q = cn_params_at(unet, i);
        int64_t n = cn_param_elements(q);
        float *a = cn_alloc0(env.ctx, (size_t)n * sizeof *a);
        float *b = cn_alloc0(env.ctx, (size_t)n * sizeof *b);
        assert_int_equal(cn_lora_merge(env.ctx, &once, CN_NET_UNET, q, a), CN_OK);
        assert_int_equal(cn_lora_merge(env.ctx, &twice, CN_NET_UNET, q, b), CN_OK);
        bool any = false;
        for (int64_t k = 0; k < n; k++) any = any || a[k] != 0;
        changed += any;
        if (any) assert_true(test_relative(test_compare_f32(b, a, n)) < 1e-6);
        cn_free(a);
        cn_free(b);
    }
    assert_int_equal(changed, 6);
    cn_lora_set_truncate(&twice, 1);
    assert_int_equal(twice.n, 1);
    cn_lora_set_free(&once);
    cn_lora_set_free(&twice);
}

static void test_unmatched_is_logged(void **state)
{
    (void)state;
    cn_lora_set set = {0};
    cn_str_free(&log_lines);
    assert_int_equal(add_file(&set, GOLDEN "kohya.safetensors", 1), CN_OK);
    assert_non_null(log_lines.data);
    assert_non_null(strstr(log_lines.data, "1 of 9 modules"));
    assert_non_null(strstr(log_lines.data, "no_such_module"));
    cn_lora_set_free(&set);
    cn_str_free(&log_lines);
    assert_int_equal(add_file(&set, GOLDEN "peft.safetensors", 1), CN_OK);
    assert_null(log_lines.data);
    cn_lora_set_free(&set);
}

/* Names of the single-file layout's blocks. */
static void test_single_file_names(void **state)
{
    (void)state;
    static const float up[] = {1, 0, 0, 0, 0, 0, 0, 0}, down[] = {2, 0, 0, 0};
    cn_lora_set set = {0};
    cn_param *q =
        cn_params_find(unet, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight");
    assert_non_null(q);
    float *u = cn_alloc0(env.ctx, (size_t)q->shape[0] * sizeof *u);
    float *d = cn_alloc0(env.ctx, (size_t)q->shape[1] * sizeof *d);
    memcpy(u, up, sizeof up);
    memcpy(d, down, sizeof down);
#define KEY "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    cn_tensor_out list[] = {{.name = KEY ".lora_down.weight",
                             .dtype = CN_F32,
                             .ndim = 2,
                             .shape = {1, q->shape[1]},
                             .data = d},
                            {.name = KEY ".lora_up.weight",
                             .dtype = CN_F32,
                             .ndim = 2,
                             .shape = {q->shape[0], 1},
                             .data = u}};
#undef KEY
    assert_int_equal(
        cn_safetensors_write(env.ctx, path_of("ldm.safetensors"), list, 2, NULL, NULL, NULL),
        CN_OK);
    if (add_file(&set, path_of("ldm.safetensors"), 0.5) != CN_OK) fail_msg("%s", cn_error(env.ctx));
    float *plain = cn_alloc0(env.ctx, (size_t)cn_param_elements(q) * sizeof *plain);
    assert_int_equal(cn_lora_merge(env.ctx, &set, CN_NET_UNET, q, plain), CN_OK);
    assert_true(plain[0] == 1 && plain[1] == 0 && plain[q->shape[1]] == 0);
    cn_free(plain);
    cn_free(u);
    cn_free(d);
    cn_lora_set_free(&set);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void expect_refused(const char *name, int64_t rows, int64_t columns, cn_status want,
                           const char *says)
{
    cn_lora_set set = {0};
    static float zeros[4096];
    cn_tensor_out list[] = {{.dtype = CN_F32, .ndim = 2, .shape = {rows, columns}, .data = zeros},
                            {.dtype = CN_F32, .ndim = 2, .shape = {columns, rows}, .data = zeros}};
    char up[256], down[256];
    snprintf(up, sizeof up, "%s.lora_up.weight", name);
    snprintf(down, sizeof down, "%s.lora_down.weight", name);
    list[0].name = strchr(name, '/') ? name : up;
    list[1].name = down;
    assert_int_equal(cn_safetensors_write(env.ctx, path_of("bad.safetensors"), list,
                                          strchr(name, '/') ? 1 : 2, NULL, NULL, NULL),
                     CN_OK);
    cn_status got = add_file(&set, path_of("bad.safetensors"), 1);
    if (got != want || !strstr(cn_error(env.ctx), says) ||
        !strstr(cn_error(env.ctx), "bad.safetensors"))
        fail_msg("%s: %s", name, cn_error(env.ctx));
    assert_int_equal(set.n, 0);
    cn_lora_set_free(&set);
}

static void test_refused(void **state)
{
    (void)state;
    static const char to_q[] =
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    expect_refused("lora_unet_double_blocks_0_img_attn", 8, 2, CN_EMISMATCH,
                   "none of its 1 modules");
    expect_refused("lora_te2_text_model_encoder_layers_0_mlp_fc1", 8, 2, CN_EMISMATCH,
                   "none of its 1 modules");
    expect_refused(to_q, 24, 2, CN_EMISMATCH, "another base model");
    expect_refused("some/thing", 8, 2, CN_EMISMATCH, "a LoRA is expected");
    expect_refused("x/lora_unet_conv_in.oft_blocks", 8, 2, CN_EFORMAT, "isn't supported");
    cn_lora_set set = {0};
    assert_int_equal(add_file(&set, path_of("model.safetensors"), 1), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(env.ctx), "Stable Diffusion base model"));
    assert_int_equal(add_file(&set, path_of("none.safetensors"), 1), CN_EIO);
    cn_lora_set_free(&set);
}

static void keep_line(void *user, cn_log_level level, const char *line)
{
    (void)user;
    if (level == CN_LOG_WARN) cn_str_addf(&log_lines, "%s\n", line);
}

static int setup(void **state)
{
    (void)state;
    char model[CN_PATH_BYTES];
    if (!test_env_open(&env, 0) || !mkdtemp(root)) return -1;
    snprintf(model, sizeof model, "%s/model", root);
    cn_status s =
        tiny_model_write(env.ctx, "tests/golden/core", "tests/golden/pipelines/merges.json", root);
    if (s == CN_OK) s = cn_base_open(env.ctx, model, &base);
    if (s == CN_OK) s = cn_net_declare(env.ctx, CN_NET_UNET, &base->unet, &unet);
    if (s == CN_OK) s = cn_net_declare(env.ctx, CN_NET_TEXT, &base->text[0], &text);
    if (s != CN_OK) printf("%s\n", cn_error(env.ctx));
    cn_ctx_set_log(env.ctx, keep_line, NULL);
    return s == CN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_str_free(&log_lines);
    cn_params_destroy(unet);
    cn_params_destroy(text);
    cn_base_close(base);
    tiny_model_remove(root);
    test_env_close(&env);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_weights_add),
        cmocka_unit_test(test_unmatched_is_logged),
        cmocka_unit_test(test_single_file_names),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
