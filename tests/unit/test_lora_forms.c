/* SPDX-License-Identifier: Apache-2.0 */
/* test_lora_forms.c - LoRA files as LyCORIS, peft and diffusers write them, against what these add
 * to the weights (tools/make-file-fixtures.py), and what is left out or refused.
 */
#include "../support/env.h"
#include "../support/tiny_model.h"
#include "../support/values.h"

#include "model/checkpoint/base_parts.h"
#include "model/text/inversion.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/files/lora/"
enum { STRIDE = 37 };

static test_env env;
static char root[] = "/tmp/controlnet-lora-forms-XXXXXX";
static cn_base *base;
static cn_params *unet, *text;
static cn_str log_lines;

static const char *path_of(const char *name)
{
    static char path[4][512];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

static void must(cn_status s)
{
    if (s != CN_OK) fail_msg("%s: %s", cn_status_name(s), cn_error(env.ctx));
}

static cn_status add_file(cn_lora_set *set, const char *path, double weight)
{
    return cn_lora_add(env.ctx, set, path, weight, weight, (const cn_params *const[]){unet, text},
                       2);
}

static float *values_of(const cn_param *q)
{
    float *v = test_alloc((size_t)cn_param_elements(q) * sizeof *v);
    must(cn_param_get(env.backend, env.ctx, q, v));
    return v;
}

/* What the set adds to a parameter of the UNet, in a new array. */
static float *change_of(const cn_lora_set *set, const cn_param *q)
{
    float *before = values_of(q), *after = values_of(q);
    must(cn_lora_merge(env.ctx, set, CN_NET_UNET, q, after));
    for (int64_t i = 0; i < cn_param_elements(q); i++) after[i] -= before[i];
    free(before);
    return after;
}

/* --- forms ------------------------------------------------------------------------------------ */

/* The change is a difference of weights up to about 1, here and there. */
static void check_change(const cn_lora_set *set, const char *name, const cn_tensors *file,
                         const cn_tensor_info *want)
{
    const cn_param *q = cn_params_find(unet, name);
    if (!q) fail_msg("no parameter %s", name);
    float *change = change_of(set, q), *few = test_alloc((size_t)want->elements * sizeof *few);
    float *expected = test_alloc((size_t)want->elements * sizeof *expected);
    must(cn_tensors_read(env.ctx, file, want, expected));
    for (int64_t i = 0; i < want->elements; i++) few[i] = change[i * STRIDE];
    const test_error e = test_compare_f32(few, expected, want->elements);
    if (e.max_want == 0 || e.max_err > 4e-7 + 2e-5 * e.max_want)
        fail_msg("%s: error %g of %g", want->name, e.max_err, e.max_want);
    free(change);
    free(few);
    free(expected);
}

static void check_case(const char *name, const cn_tensors *want)
{
    char path[256], of[64], network[64], parameter[256];
    cn_lora_set set = {0};
    int64_t seen = 0, changed = 0;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (!cn_dir_exists(path)) snprintf(path, sizeof path, GOLDEN "%s.safetensors", name);
    cn_str_free(&log_lines);
    must(add_file(&set, path, 1));
    if (log_lines.len) fail_msg("%s: %s", name, log_lines.data);
    for (int64_t i = 0; i < cn_tensors_count(want); i++) {
        const cn_tensor_info *t = cn_tensors_at(want, i);
        if (sscanf(t->name, "%63s %63s %255s", of, network, parameter) != 3 || strcmp(of, name))
            continue;
        assert_string_equal(network, "unet");
        check_change(&set, parameter, want, t);
        seen++;
    }
    assert_true(seen > 0);
    for (int64_t i = 0; i < cn_params_count(unet); i++)
        changed += cn_lora_changes(&set, CN_NET_UNET, cn_params_at(unet, i));
    if (changed !=
        seen) /* what changes nothing isn't listed: a square IA3 without a bias's change */
        fail_msg("%s: %lld parameters change, %lld were expected", name, (long long)changed,
                 (long long)seen);
    cn_lora_set_free(&set);
}

static void every_form_adds_what_its_author_adds(void **state)
{
    (void)state;
    static const char *const cases[] = {"locon",       "loha",      "lokr",      "dora",
                                        "norms",       "full",      "ia3",       "peft-patterns",
                                        "peft-rslora", "peft-dora", "peft-bias", "peft-loha",
                                        "peft-lokr",   "peft-ia3",  "diffusers"};
    cn_tensors *want = NULL;
    must(cn_tensors_open(env.ctx, GOLDEN "changes.safetensors", &want));
    for (size_t i = 0; i < CN_COUNT(cases); i++) check_case(cases[i], want);
    cn_tensors_close(want);
}

/* peft's modules_to_save stand in the file whole, under their own names or, in older files, with
 * the wrapper's behind; they take the base's place. */
static void saved_modules_take_the_bases_place(void **state)
{
    (void)state;
    static const char *const wrapped[] = {"", ".modules_to_save"};
    for (int k = 0; k < 2; k++) {
        const cn_param *w = cn_params_find(unet, "conv_out.weight"),
                       *b = cn_params_find(unet, "conv_out.bias");
        const int64_t n = cn_param_elements(w);
        float *whole = test_alloc((size_t)n * sizeof *whole);
        char names[2][96];
        cn_lora_set set = {0};
        for (int64_t i = 0; i < n; i++) whole[i] = 0.25f * (float)(i % 17) - 2;
        snprintf(names[0], sizeof names[0], "base_model.model.conv_out%s.weight", wrapped[k]);
        snprintf(names[1], sizeof names[1], "base_model.model.conv_out%s.bias", wrapped[k]);
        cn_tensor_out list[] = {
            {.name = names[0], .dtype = CN_F32, .ndim = w->ndim, .data = whole},
            {.name = names[1], .dtype = CN_F32, .ndim = 1, .shape = {b->shape[0]}, .data = whole}};
        memcpy(list[0].shape, w->shape, sizeof w->shape);
        must(
            cn_safetensors_write(env.ctx, path_of("saved.safetensors"), list, 2, NULL, NULL, NULL));
        cn_str_free(&log_lines);
        must(add_file(&set, path_of("saved.safetensors"), 1));
        assert_null(strstr(log_lines.data ? log_lines.data : "", "left out"));
        for (int i = 0; i < 2; i++) {
            const cn_param *q = i ? b : w;
            float *v = values_of(q);
            must(cn_lora_merge(env.ctx, &set, CN_NET_UNET, q, v));
            for (int64_t e = 0; e < cn_param_elements(q); e++)
                assert_true(fabsf(v[e] - whole[e]) < 1e-6f);
            free(v);
        }
        cn_lora_set_free(&set);
        free(whole);
    }
}

/* Half the weight is half the change, also of forms that depend on the weight itself. */
static void weights_scale_the_change(void **state)
{
    (void)state;
    static const char *const cases[] = {"dora.safetensors", "ia3.safetensors", "norms.safetensors"};
    for (size_t k = 0; k < CN_COUNT(cases); k++) {
        char path[256];
        cn_lora_set whole = {0}, half = {0};
        snprintf(path, sizeof path, GOLDEN "%s", cases[k]);
        must(add_file(&whole, path, 1));
        must(add_file(&half, path, 0.5));
        for (int64_t i = 0; i < cn_params_count(unet); i++) {
            const cn_param *q = cn_params_at(unet, i);
            if (!cn_lora_changes(&whole, CN_NET_UNET, q)) continue;
            float *a = change_of(&whole, q), *b = change_of(&half, q);
            for (int64_t e = 0; e < cn_param_elements(q); e++)
                assert_true(fabsf(b[e] - 0.5f * a[e]) < 1e-6f);
            free(a);
            free(b);
        }
        cn_lora_set_free(&whole);
        cn_lora_set_free(&half);
    }
}

/* --- files made here -------------------------------------------------------------------------- */

#define KEY "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
static const char to_q[] = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight";

/* A LoRA of rank 1 on to_q, [O,1] all 0.5 and [1,I] all 0.25, with further tensors. */
static void write_lora(const char *path, const char *key, const cn_tensor_out *more, int n_more)
{
    static float halves[4096], quarters[4096];
    const cn_param *q = cn_params_find(unet, to_q);
    char down[256], up[256];
    cn_tensor_out list[8];
    for (int i = 0; i < 4096; i++) halves[i] = 0.5f, quarters[i] = 0.25f;
    snprintf(down, sizeof down, "%s.lora_%s.weight", key, strchr(key, '.') ? "A" : "down");
    snprintf(up, sizeof up, "%s.lora_%s.weight", key, strchr(key, '.') ? "B" : "up");
    list[0] = (cn_tensor_out){
        .name = down, .dtype = CN_F32, .ndim = 2, .shape = {1, q->shape[1]}, .data = quarters};
    list[1] = (cn_tensor_out){
        .name = up, .dtype = CN_F32, .ndim = 2, .shape = {q->shape[0], 1}, .data = halves};
    for (int i = 0; i < n_more; i++) list[2 + i] = more[i];
    must(cn_safetensors_write(env.ctx, path, list, 2 + n_more, NULL, NULL, NULL));
}

static cn_tensor_out numbers(const char *name, int64_t n, const float *values)
{
    return (cn_tensor_out){.name = name, .dtype = CN_F32, .ndim = 1, .shape = {n}, .data = values};
}

static float first_change(const char *path)
{
    cn_lora_set set = {0};
    must(add_file(&set, path, 1));
    float *v = change_of(&set, cn_params_find(unet, to_q)), first = v[0];
    free(v);
    cn_lora_set_free(&set);
    return first;
}

static void scales_are_found_where_they_stand(void **state)
{
    (void)state;
    static const float two[] = {2}, third[] = {3};
    const cn_tensor_out alpha = numbers(KEY ".alpha", 1, two),
                        scale = numbers(KEY ".scale", 1, third);
    const cn_tensor_out both[] = {alpha, scale};
    write_lora(path_of("plain.safetensors"), KEY, NULL, 0);
    assert_true(fabsf(first_change(path_of("plain.safetensors")) - 0.125f) < 1e-6f);
    write_lora(path_of("alpha.safetensors"), KEY, &alpha, 1);
    assert_true(fabsf(first_change(path_of("alpha.safetensors")) - 0.25f) < 1e-6f);
    write_lora(path_of("scale.safetensors"), KEY, both, 2);
    assert_true(fabsf(first_change(path_of("scale.safetensors")) - 0.375f) < 1e-6f);
}

static void put_text(const char *name, const char *words)
{
    must(cn_file_write(env.ctx, path_of(name), words, strlen(words)));
}

#define PEFT "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
static void folders_of_pefts_are_read(void **state)
{
    (void)state;
    static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 8}";
    must(cn_dir_make(env.ctx, path_of("trained")));
    must(cn_dir_make(env.ctx, path_of("trained/unet")));
    write_lora(path_of("trained/unet/adapter_model.safetensors"), PEFT ".default", NULL, 0);
    put_text("trained/unet/adapter_config.json", config);
    assert_true(fabsf(first_change(path_of("trained")) - 1) < 1e-6f);
    assert_true(fabsf(first_change(path_of("trained/unet")) - 1) < 1e-6f);
    assert_true(fabsf(first_change(path_of("trained/unet/")) - 1) < 1e-6f);
    assert_true(fabsf(first_change(path_of("trained/unet/adapter_model.safetensors")) - 1) < 1e-6f);
    /* diffusers' folder */
    must(cn_dir_make(env.ctx, path_of("saved")));
    write_lora(path_of("saved/pytorch_lora_weights.safetensors"), KEY, NULL, 0);
    assert_true(fabsf(first_change(path_of("saved")) - 0.125f) < 1e-6f);
    /* alone, a file of peft's doesn't tell its alpha */
    cn_str_free(&log_lines);
    write_lora(path_of("alone.safetensors"), PEFT, NULL, 0);
    assert_true(fabsf(first_change(path_of("alone.safetensors")) - 0.125f) < 1e-6f);
    assert_non_null(strstr(log_lines.data, "no adapter_config.json beside it"));
}

static void refused(const char *path, cn_status want, const char *words)
{
    cn_lora_set set = {0};
    const cn_status got = add_file(&set, path, 1);
    if (got != want || !strstr(cn_error(env.ctx), words))
        fail_msg("%s: %s", path, got == CN_OK ? "taken" : cn_error(env.ctx));
    assert_int_equal(set.n, 0);
    cn_lora_set_free(&set);
}

static void what_cannot_be_read_is_named(void **state)
{
    (void)state;
    static const float nothing[] = {NAN, 1}, endless[] = {1, -INFINITY}, one[] = {1, 1};
    const cn_tensor_out nan = numbers("lora_unet_conv_in.diff_b", 2, nothing);
    const cn_tensor_out inf = numbers("lora_unet_conv_in.diff_b", 2, endless);
    const cn_tensor_out oft = numbers("lora_unet_conv_in.oft_blocks", 2, one);
    const cn_tensor_out odd[] = {numbers("lora_unet_conv_in.strange", 2, one),
                                 numbers("lora_unet_conv_in.stranger", 2, one)};
    write_lora(path_of("nan.safetensors"), KEY, &nan, 1);
    refused(path_of("nan.safetensors"), CN_EFORMAT, "conv_in.diff_b has a value that is no number");
    write_lora(path_of("inf.safetensors"), KEY, &inf, 1);
    refused(path_of("inf.safetensors"), CN_EFORMAT, "infinite; this LoRA is damaged");
    write_lora(path_of("oft.safetensors"), KEY, &oft, 1);
    refused(path_of("oft.safetensors"), CN_EFORMAT, "OFT, which isn't supported");
    cn_str_free(&log_lines);
    write_lora(path_of("odd.safetensors"), KEY, odd, 2);
    assert_true(fabsf(first_change(path_of("odd.safetensors")) - 0.125f) < 1e-6f);
    assert_non_null(strstr(log_lines.data, "2 tensors are of no known form and left out "
                                           "(lora_unet_conv_in.strange, ...)"));
    must(cn_dir_make(env.ctx, path_of("bare")));
    refused(path_of("bare"), CN_EIO, "adapter_model.safetensors");
    must(cn_dir_make(env.ctx, path_of("wild")));
    write_lora(path_of("wild/adapter_model.safetensors"), PEFT, NULL, 0);
    put_text("wild/adapter_config.json", "{\"lora_alpha\": 8, \"alpha_pattern\": {\"(to_q\": 4}}");
    refused(path_of("wild"), CN_EFORMAT, "\"(to_q\" is no regular expression");
    put_text("wild/adapter_config.json",
             "{\"lora_alpha\": 8, \"alpha_pattern\": {\"(?:\\\\w+\\\\.?)+[-!]\": 4}}");
    refused(path_of("wild"), CN_EFORMAT, "can't be matched");
    put_text("wild/adapter_config.json", "{\"lora_alpha\": 8, ");
    refused(path_of("wild"), CN_EFORMAT, "adapter_config.json");
}

/* --- words that a LoRA brings along ----------------------------------------------------------- */

static void bundled_words_are_read(void **state)
{
    (void)state;
    static float vectors[2 * 32], wide[768];
    for (int i = 0; i < 2 * 32; i++) vectors[i] = (float)i;
    const int64_t width = base->text[0].hidden;
    assert_int_equal(width, 32);
    const cn_tensor_out more[] = {{.name = "bundle_emb.cute-dog.string_to_param.*",
                                   .dtype = CN_F32,
                                   .ndim = 2,
                                   .shape = {2, 32},
                                   .data = vectors},
                                  {.name = "bundle_emb.best.emb_params",
                                   .dtype = CN_F32,
                                   .ndim = 2,
                                   .shape = {1, 32},
                                   .data = vectors},
                                  {.name = "bundle_emb.other.emb_params",
                                   .dtype = CN_F32,
                                   .ndim = 2,
                                   .shape = {1, 768},
                                   .data = wide}};
    cn_tokenizer *t = NULL;
    cn_inversions e = {0};
    cn_lora_set set = {0};
    const char *path;
    write_lora(path_of("bundle.safetensors"), KEY, more, 3);
    cn_str_free(&log_lines);
    must(add_file(&set, path_of("bundle.safetensors"), 1));
    assert_null(log_lines.data);
    must(cn_base_tokenizer(env.ctx, base, 0, NULL, &t));
    const cn_tensors *file = cn_lora_file(&set, 0, &path);
    must(cn_inversions_add_bundled(env.ctx, &e, t, file, path, width));
    assert_int_equal(e.n, 2);
    assert_string_equal(e.list[0].word, "best");
    assert_string_equal(e.list[1].word, "cute-dog");
    assert_int_equal(e.list[1].n, 2);
    assert_memory_equal(e.list[1].vectors, vectors, sizeof vectors);
    assert_non_null(strstr(log_lines.data, "bundle_emb.other.emb_params is left out"));
    cn_inversions_truncate(&e, 1);
    assert_int_equal(e.n, 1);
    cn_inversions_free(&e);
    cn_lora_set_free(&set);
    cn_tokenizer_close(t);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void keep_line(void *user, cn_log_level level, const char *line)
{
    (void)user;
    if (level == CN_LOG_WARN) cn_str_addf(&log_lines, "%s\n", line);
}

static int setup(void **state)
{
    (void)state;
    char model[512];
    if (!test_env_open(&env, 0) || !mkdtemp(root)) return -1;
    snprintf(model, sizeof model, "%s/model", root);
    cn_status s =
        tiny_model_write(env.ctx, "tests/golden/core", "tests/golden/pipelines/merges.json", root);
    if (s == CN_OK) s = cn_base_open(env.ctx, model, &base);
    if (s == CN_OK) s = cn_net_declare(env.ctx, CN_NET_UNET, &base->unet, &unet);
    if (s == CN_OK) s = cn_net_declare(env.ctx, CN_NET_TEXT, &base->text[0], &text);
    if (s == CN_OK) s = cn_base_load(env.ctx, base, env.backend, unet);
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
        cmocka_unit_test(every_form_adds_what_its_author_adds),
        cmocka_unit_test(saved_modules_take_the_bases_place),
        cmocka_unit_test(weights_scale_the_change),
        cmocka_unit_test(scales_are_found_where_they_stand),
        cmocka_unit_test(folders_of_pefts_are_read),
        cmocka_unit_test(what_cannot_be_read_is_named),
        cmocka_unit_test(bundled_words_are_read),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
