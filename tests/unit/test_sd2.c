/* SPDX-License-Identifier: Apache-2.0 */
/* test_sd2.c - Stable Diffusion 2.x's forms: OpenCLIP's names in a single file, a whole OpenCLIP
 * encoder, what an unmarked file predicts, weights in several files, and what is refused.
 *
 * Works on the small model of tests/golden/sd2, written once. The published names stand here in
 * full, so that they don't follow from the builders that they check.
 */
#include "../support/env.h"
#include "../support/tiny_model.h"

#include "model/nets/nets.h"
#include "model/checkpoint/base_parts.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static test_env env;
static char root[] = "/tmp/controlnet-sd2-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[4][CN_PATH_BYTES];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", root, name);
    return path[at];
}

static cn_tensors *open_tensors(const char *name)
{
    cn_tensors *t = NULL;
    if (cn_tensors_open(env.ctx, path_of(name), &t) != CN_OK) fail_msg("%s", cn_error(env.ctx));
    return t;
}

static float *read_all(const cn_tensors *t, const char *name, int64_t *n)
{
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!info) fail_msg("%s is missing", name);
    float *v = cn_alloc_array(env.ctx, (size_t)info->elements, sizeof *v);
    assert_int_equal(cn_tensors_read(env.ctx, t, info, v), CN_OK);
    *n = info->elements;
    return v;
}

/* Writes the single file again as another program might, without a mark for v: tensors named in
 * `extra` (NULL at the end) are added as copies of resblock 2's of the same name, text_projection
 * as a square matrix, others empty. */
static void rewrite(const char *out, const char *const *extra, bool metadata, float out_bias)
{
    static const char *const meta[] = {"format", "pt", CN_META_PREDICTION, "epsilon", NULL};
    static float bias[4];
    cn_tensors *t = open_tensors("model.safetensors");
    int64_t n = cn_tensors_count(t), k = 0;
    cn_tensor_out *list = cn_alloc0(env.ctx, (size_t)(n + 32) * sizeof *list);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i);
        if (!strcmp(a->name, CN_MARK_V)) continue;
        list[k] = (cn_tensor_out){.name = a->name, .dtype = a->dtype, .ndim = a->ndim};
        memcpy(list[k].shape, a->shape, sizeof a->shape);
        list[k++].raw = a->data;
        if (out_bias != 0 && !strcmp(a->name, "model.diffusion_model.out.2.bias")) {
            for (int c = 0; c < 4; c++) bias[c] = out_bias;
            list[k - 1].dtype = CN_F32;
            list[k - 1].raw = bias;
        }
    }
    for (; *extra; extra++) {
        char like[256];
        snprintf(like, sizeof like, "%s", *extra);
        char *at = strstr(like, "resblocks.3");
        if (at) at[10] = '2';
        const cn_tensor_info *a =
            cn_tensors_find(t, at ? like : "cond_stage_model.model.ln_final.weight");
        assert_non_null(a);
        list[k] = (cn_tensor_out){.name = *extra, .dtype = a->dtype, .ndim = a->ndim};
        memcpy(list[k].shape, a->shape, sizeof a->shape);
        list[k++].raw = a->data;
    }
    if (cn_safetensors_write(env.ctx, path_of(out), list, k, NULL, NULL, metadata ? meta : NULL) !=
        CN_OK)
        fail_msg("%s", cn_error(env.ctx));
    cn_free(list);
    cn_tensors_close(t);
}

static cn_base *open_base(const char *name)
{
    cn_base *b = NULL;
    if (cn_base_open(env.ctx, path_of(name), &b) != CN_OK) fail_msg("%s", cn_error(env.ctx));
    return b;
}

static void test_single_file_names(void **state)
{
    (void)state;
    static const char *const names[] = {"token_embedding.weight",
                                        "positional_embedding",
                                        "transformer.resblocks.0.ln_1.weight",
                                        "transformer.resblocks.1.ln_2.bias",
                                        "transformer.resblocks.2.attn.in_proj_weight",
                                        "transformer.resblocks.2.attn.in_proj_bias",
                                        "transformer.resblocks.0.attn.out_proj.weight",
                                        "transformer.resblocks.0.mlp.c_fc.weight",
                                        "transformer.resblocks.0.mlp.c_proj.bias",
                                        "ln_final.weight",
                                        "ln_final.bias"};
    cn_tensors *t = open_tensors("model.safetensors");
    int64_t count = 0;
    for (int64_t i = 0; i < cn_tensors_count(t); i++)
        count += !strncmp(cn_tensors_at(t, i)->name, "cond_stage_model.", 17);
    assert_int_equal(count, 4 + 3 * 12);
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        char full[256];
        snprintf(full, sizeof full, "cond_stage_model.model.%s", names[i]);
        if (!cn_tensors_find(t, full)) fail_msg("%s is missing", full);
    }
    assert_string_equal(cn_tensors_metadata(t, "modelspec.prediction_type"), "v");
    cn_tensors_close(t);
}

static void test_fused_projections(void **state)
{
    (void)state;
    static const char *const parts[] = {"q_proj", "k_proj", "v_proj"};
    static const char *const kinds[] = {"weight", "bias"};
    cn_tensors *one = open_tensors("model.safetensors");
    cn_tensors *text = open_tensors("model/text_encoder/model.safetensors");
    for (size_t k = 0; k < CN_COUNT(kinds); k++) {
        char name[256];
        int64_t n, m;
        snprintf(name, sizeof name,
                 "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_%s", kinds[k]);
        float *all = read_all(one, name, &n);
        for (size_t i = 0; i < CN_COUNT(parts); i++) {
            snprintf(name, sizeof name, "text_model.encoder.layers.1.self_attn.%s.%s", parts[i],
                     kinds[k]);
            float *part = read_all(text, name, &m);
            assert_int_equal(3 * m, n);
            assert_memory_equal(all + (int64_t)i * m, part, (size_t)m * sizeof *part);
            cn_free(part);
        }
        cn_free(all);
    }
    cn_tensors_close(text);
    cn_tensors_close(one);
}

/* The single file as a folder again has every tensor of the folder it came from. */
static void test_back_to_folder(void **state)
{
    (void)state;
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "vae/diffusion_pytorch_model.safetensors",
                                        "text_encoder/model.safetensors"};
    char from[CN_PATH_BYTES];
    snprintf(from, sizeof from, "%s", path_of("model.safetensors"));
    if (cn_convert(env.ctx, from, path_of("back"), NULL) != CN_OK)
        fail_msg("%s", cn_error(env.ctx));
    for (size_t f = 0; f < CN_COUNT(files); f++) {
        char name[256];
        snprintf(name, sizeof name, "model/%s", files[f]);
        cn_tensors *want = open_tensors(name);
        snprintf(name, sizeof name, "back/%s", files[f]);
        cn_tensors *got = open_tensors(name);
        assert_int_equal(cn_tensors_count(got), cn_tensors_count(want));
        for (int64_t i = 0; i < cn_tensors_count(want); i++) {
            int64_t n, m;
            float *a = read_all(want, cn_tensors_at(want, i)->name, &n);
            float *b = read_all(got, cn_tensors_at(want, i)->name, &m);
            assert_int_equal(n, m);
            assert_memory_equal(a, b, (size_t)n * sizeof *a);
            cn_free(a);
            cn_free(b);
        }
        cn_tensors_close(got);
        cn_tensors_close(want);
    }
    cn_base *b = open_base("back");
    assert_true(b->schedule.v_prediction && b->text[0].open_clip && b->unet.linear_projection);
    assert_ptr_equal(cn_family_of(b), &cn_family_sd2);
    cn_base_close(b);
}

/* A whole encoder has one layer more than is used. */
static void test_whole_encoder(void **state)
{
    (void)state;
#define LAYER "cond_stage_model.model.transformer.resblocks.3."
    static const char *const extra[] = {LAYER "ln_1.weight",
                                        LAYER "ln_1.bias",
                                        LAYER "ln_2.weight",
                                        LAYER "ln_2.bias",
                                        LAYER "attn.in_proj_weight",
                                        LAYER "attn.in_proj_bias",
                                        LAYER "attn.out_proj.weight",
                                        LAYER "attn.out_proj.bias",
                                        LAYER "mlp.c_fc.weight",
                                        LAYER "mlp.c_fc.bias",
                                        LAYER "mlp.c_proj.weight",
                                        LAYER "mlp.c_proj.bias",
                                        "cond_stage_model.model.text_projection",
                                        "cond_stage_model.model.logit_scale",
                                        NULL};
#undef LAYER
    rewrite("whole.safetensors", extra, true, 0);
    cn_base *b = open_base("whole.safetensors");
    assert_ptr_equal(cn_family_in_file(b->file, CN_NETS), &cn_family_sd2);
    assert_ptr_equal(cn_family_of(b), &cn_family_sd2);
    assert_int_equal(b->text[0].layers, 3);
    assert_int_equal(b->text[0].act, CN_ACT_GELU);
    assert_int_equal(b->text[0].heads, 1);
    assert_true(b->unet.linear_projection);
    assert_int_equal(b->unet.heads[3], 2);
    cn_base_close(b);
    b = open_base("model.safetensors");
    assert_int_equal(b->text[0].layers, 3);
    cn_base_close(b);
}

/* The single file with a text encoder under transformers' names, whose width says that it is
 * OpenCLIP's; only what its configuration follows from. */
static void write_transformers_names(const char *out)
{
#define TEXT "cond_stage_model.transformer.text_model."
    static const struct {
        const char *name;
        int64_t rows, columns;
    } text[] = {{TEXT "embeddings.token_embedding.weight", 300, 1024},
                {TEXT "embeddings.position_embedding.weight", 77, 1024},
                {TEXT "encoder.layers.0.mlp.fc1.weight", 64, 1024}};
#undef TEXT
    static float zeros[300 * 1024];
    cn_tensors *t = open_tensors("model.safetensors");
    const int64_t n = cn_tensors_count(t);
    int64_t k = 0;
    cn_tensor_out *list = cn_alloc0(env.ctx, (size_t)(n + 3) * sizeof *list);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i);
        if (!strcmp(a->name, CN_MARK_V) || !strncmp(a->name, "cond_stage_model.", 17)) continue;
        list[k] = (cn_tensor_out){.name = a->name, .dtype = a->dtype, .ndim = a->ndim};
        memcpy(list[k].shape, a->shape, sizeof a->shape);
        list[k++].raw = a->data;
    }
    for (size_t i = 0; i < CN_COUNT(text); i++)
        list[k++] = (cn_tensor_out){.name = text[i].name,
                                    .dtype = CN_F16,
                                    .ndim = 2,
                                    .shape = {text[i].rows, text[i].columns},
                                    .data = zeros};
    if (cn_safetensors_write(env.ctx, path_of(out), list, k, NULL, NULL, NULL) != CN_OK)
        fail_msg("%s", cn_error(env.ctx));
    cn_free(list);
    cn_tensors_close(t);
}

/* Prompts are padded with token 0 and the prediction is open, as for OpenCLIP's names. */
static void test_transformers_names(void **state)
{
    (void)state;
    cn_tokenizer *t = NULL;
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_source s;
    write_transformers_names("hf.safetensors");
    cn_base *b = open_base("hf.safetensors");
    assert_ptr_equal(cn_family_of(b), &cn_family_sd2_hf);
    assert_true(b->text[0].act == CN_ACT_GELU && !b->text[0].open_clip && b->prediction_unknown);
    if (cn_base_tokenizer(env.ctx, b, 0, path_of("model/tokenizer"), &t) != CN_OK)
        fail_msg("%s", cn_error(env.ctx));
    assert_int_equal(cn_tokenizer_pad(t), 0);
    cn_tokenizer_close(t);
    assert_int_equal(cn_base_source(env.ctx, b, CN_NET_TEXT, path, &opened, &s), CN_OK);
    assert_string_equal(s.prefix, "cond_stage_model.transformer.");
    cn_base_close(b);
}

static void test_prediction(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    static const struct {
        bool metadata;
        float bias;
        bool unknown, v;
    } cases[] = {{true, 0, false, false}, {false, 0, true, false}, {false, -4, true, true}};
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        rewrite("marked.safetensors", none, cases[i].metadata, cases[i].bias);
        cn_base *b = open_base("marked.safetensors");
        assert_int_equal(b->prediction_unknown, cases[i].unknown);
        if (cn_base_settle_prediction(env.ctx, b, env.backend) != CN_OK)
            fail_msg("%s", cn_error(env.ctx));
        assert_false(b->prediction_unknown);
        assert_int_equal(b->schedule.v_prediction, cases[i].v);
        assert_int_equal(b->unet.sample_size, cases[i].v ? 96 : 64);
        cn_base_close(b);
    }
    static const char *const marker[] = {"v_pred", NULL};
    rewrite("marked.safetensors", marker, false, 0);
    cn_base *b = open_base("marked.safetensors");
    assert_true(b->schedule.v_prediction && !b->prediction_unknown);
    cn_base_close(b);
    b = open_base("model");
    assert_true(b->schedule.v_prediction && !b->prediction_unknown);
    assert_int_equal(cn_base_set_prediction(env.ctx, b, "epsilon"), CN_OK);
    assert_false(b->schedule.v_prediction);
    assert_int_equal(cn_base_set_prediction(env.ctx, b, "x0"), CN_EINVAL);
    cn_base_close(b);
}

/* --- weights in several files ----------------------------------------------------------------- */

static void write_some(const cn_tensors *t, const char *out, int64_t from, int64_t to,
                       cn_str *index)
{
    cn_tensor_out *list = cn_alloc0(env.ctx, (size_t)(to - from + 1) * sizeof *list);
    for (int64_t i = from; i < to; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i);
        cn_tensor_out *o = &list[i - from];
        *o = (cn_tensor_out){.name = a->name, .dtype = a->dtype, .ndim = a->ndim, .raw = a->data};
        memcpy(o->shape, a->shape, sizeof a->shape);
        cn_str_addf(index, "%s\"%s\": \"%s\"", index->len ? ", " : "", a->name,
                    strrchr(out, '/') + 1);
    }
    assert_int_equal(cn_safetensors_write(env.ctx, path_of(out), list, to - from, NULL, NULL, NULL),
                     CN_OK);
    cn_free(list);
}

static void save_index(const char *map)
{
    cn_str s = {0};
    cn_str_addf(&s, "{\"metadata\": {}, \"weight_map\": {%s}}", map);
    assert_int_equal(
        cn_file_write(env.ctx, path_of("parts/diffusion_pytorch_model.safetensors.index.json"),
                      s.data, s.len),
        CN_OK);
    cn_str_free(&s);
}

static void expect_refused(const char *map, const char *says)
{
    char path[CN_PATH_BYTES];
    cn_tensors *t = NULL;
    save_index(map);
    assert_int_not_equal(cn_weights_open(env.ctx, path_of("parts"), path, &t), CN_OK);
    if (!strstr(cn_error(env.ctx), says)) fail_msg("%s", cn_error(env.ctx));
}

static void test_shards(void **state)
{
    (void)state;
    char path[CN_PATH_BYTES];
    cn_str map = {0};
    cn_tensors *whole = open_tensors("model/unet/diffusion_pytorch_model.safetensors"), *t = NULL;
    int64_t n = cn_tensors_count(whole);
    assert_int_equal(cn_dir_make(env.ctx, path_of("parts")), CN_OK);
    write_some(whole, "parts/a.safetensors", 0, n / 3, &map);
    write_some(whole, "parts/b.safetensors", n / 3, n, &map);
    save_index(map.data);
    if (cn_weights_open(env.ctx, path_of("parts"), path, &t) != CN_OK)
        fail_msg("%s", cn_error(env.ctx));
    assert_int_equal(cn_tensors_count(t), n);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *a = cn_tensors_at(whole, i), *b = cn_tensors_at(t, i);
        int64_t count;
        assert_string_equal(a->name, b->name);
        float *x = read_all(whole, a->name, &count), *y = read_all(t, a->name, &count);
        assert_memory_equal(x, y, (size_t)count * sizeof *x);
        cn_free(x);
        cn_free(y);
    }
    cn_tensors_close(t);
    cn_str_free(&map);
    cn_tensors_close(whole);
    expect_refused("\"x\": \"a.safetensors\", \"y\": \"c.safetensors\"", "c.safetensors");
    expect_refused("\"x\": \"../model.safetensors\"", "same folder");
    expect_refused("\"x\": 1", "same folder");
    expect_refused("", "weight_map");
    char *bytes = NULL;
    size_t size;
    assert_int_equal(cn_file_read(env.ctx, path_of("parts/a.safetensors"), 1 << 28, &bytes, &size),
                     CN_OK);
    assert_int_equal(cn_file_write(env.ctx, path_of("parts/c.safetensors"), bytes, size), CN_OK);
    cn_free(bytes);
    expect_refused("\"x\": \"a.safetensors\", \"y\": \"c.safetensors\"", "two tensors");
}

/* --- refusals --------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *tensor, *says;
    } cases[] = {{"depth_model.model.x", "depth"}, {"embedder.model.ln_final.weight", "unCLIP"}};
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        const char *extra[] = {cases[i].tensor, NULL};
        cn_base *b = NULL;
        rewrite("other.safetensors", extra, true, 0);
        assert_int_equal(cn_base_open(env.ctx, path_of("other.safetensors"), &b), CN_EFORMAT);
        if (!strstr(cn_error(env.ctx), cases[i].says)) fail_msg("%s", cn_error(env.ctx));
    }
}

static void test_control_of_another_base(void **state)
{
    (void)state;
    cn_control_file *c = NULL;
    cn_base *b = open_base("model");
    assert_int_equal(cn_control_open(env.ctx, path_of("controlnet_a"), &c), CN_OK);
    assert_int_equal(cn_control_fits(env.ctx, &c->config, &b->unet), CN_OK);
    c->config.encoder.context_dim = 1024;
    b->unet.context_dim = 768;
    assert_int_equal(cn_control_fits(env.ctx, &c->config, &b->unet), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(env.ctx), "Stable Diffusion 2.x"));
    assert_non_null(strstr(cn_error(env.ctx), "Stable Diffusion 1.x"));
    cn_control_close(c);
    cn_base_close(b);
}

static int setup(void **state)
{
    (void)state;
    if (!test_env_open(&env, 0) || !mkdtemp(root)) return -1;
    cn_status s = tiny_model_write(env.ctx, "tests/golden/sd2/core",
                                   "tests/golden/sd2/pipelines/merges.json", root);
    if (s != CN_OK) printf("%s\n", cn_error(env.ctx));
    return s == CN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    tiny_model_remove(root);
    test_env_close(&env);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_file_names),
        cmocka_unit_test(test_fused_projections),
        cmocka_unit_test(test_back_to_folder),
        cmocka_unit_test(test_whole_encoder),
        cmocka_unit_test(test_transformers_names),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_control_of_another_base),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
