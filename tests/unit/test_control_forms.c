/* SPDX-License-Identifier: Apache-2.0 */
/* test_control_forms.c - ControlNets' files in the field: what follows from their published names,
 * differences from a base, and files of other kinds, named as what they are.
 */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static cn_backend *backend;
static char control[256]; /* a ControlNet's single file, without metadata */
static cn_str told;

static void take_line(void *user, cn_log_level level, const char *line)
{
    (void)user, (void)level;
    cn_str_addf(&told, "%s\n", line);
}

static void write_control(const char *path, bool pooled, bool folder)
{
    char dir[256];
    cn_base *b = NULL;
    cn_params *p = NULL;
    path_in(dir, "base");
    must(cn_base_open(ctx, dir, &b));
    cn_controlnet_config c = {.encoder = b->unet,
                              .condition_channels = 3,
                              .hint_levels = b->vae.levels,
                              .hint_channels = {16, 32},
                              .global_pool = pooled};
    must(cn_net_declare(ctx, CN_NET_CONTROL, &c, &p));
    must(cn_params_init(ctx, backend, p, 3));
    if (folder)
        must(cn_control_save_folder(ctx, backend, &c, p, CN_F16, path, NULL));
    else
        must(cn_control_save_single(ctx, backend, &c, p, CN_F16, path, NULL));
    cn_params_destroy(p);
    cn_base_close(b);
}

static int set_up(void **state)
{
    char dir[256], said[256];
    (void)state;
    if (unit_open(1) != 0 || cn_backend_cpu_create(ctx, &backend) != CN_OK) return -1;
    cn_ctx_set_log(ctx, take_line, NULL);
    path_in(dir, "base");
    path_in(said, "said.safetensors");
    path_in(control, "control.safetensors");
    must(tiny_base_write(ctx, dir, 8));
    write_control(said, false, false);
    copy_tensors(said, control, NULL);
    return 0;
}

static int tear_down(void **state)
{
    backend->destroy(backend);
    cn_str_free(&told);
    return unit_close(state);
}

/* --- Shuffle ---------------------------------------------------------------------------------- */

static void check_pooling(const char *name, bool pooled, const char *says)
{
    char path[256];
    cn_control_file *c = NULL;
    path_in(path, name);
    cn_str_free(&told);
    must(cn_control_open(ctx, path, &c));
    if (c->config.global_pool != pooled) fail_msg("%s: %d", name, c->config.global_pool);
    const char *text = told.data ? told.data : "";
    if (says ? !strstr(text, says) : text[0]) fail_msg("%s: \"%s\"", name, text);
    cn_control_close(c);
}

static void shuffle_is_known_by_config_metadata_or_name(void **state)
{
    (void)state;
    static const char *const copies[] = {"control_v11e_sd15_shuffle.safetensors",
                                         "control-v11e-sd15-Shuffle_fp16.safetensors",
                                         "unshuffled.safetensors", "other.safetensors"};
    char path[256], yaml[256];
    for (size_t i = 0; i < CN_COUNT(copies); i++) {
        path_in(path, copies[i]);
        copy_tensors(control, path, NULL);
    }
    check_pooling(copies[0], true, "a Shuffle ControlNet by its name");
    check_pooling(copies[1], true, "a Shuffle ControlNet by its name");
    check_pooling(copies[2], false, NULL);
    check_pooling(copies[3], false, NULL);
    path_in(yaml, "other.yaml");
#define YAML "    params:\n      global_average_pooling: %s\n      target: cldm.cldm.ControlNet\n"
    static const char *const words[] = {"False", "True"};
    for (int i = 0; i < 2; i++) {
        char text[128];
        snprintf(text, sizeof text, YAML, words[i]);
        must(cn_file_write(ctx, yaml, text, strlen(text)));
        check_pooling(copies[3], i, i ? "by its yaml" : NULL);
    }
    path_in(path, "pooled.safetensors");
    write_control(path, true, false);
    check_pooling("pooled.safetensors", true, NULL);
    path_in(path, "folder");
    write_control(path, true, true);
    check_pooling("folder", true, NULL);
    /* What says its configuration is believed. */
    path_in(path, "plain_shuffle.safetensors");
    write_control(path, false, false);
    check_pooling("plain_shuffle.safetensors", false, NULL);
}

static void names_are_told_apart_by_words(void **state)
{
    (void)state;
    static const struct {
        const char *file, *words;
        bool has;
    } cases[] = {
        {"control_v11p_sd15_canny.pth", "canny", true},
        {"control_v11p_sd15s2_lineart_anime_fp16.safetensors", "lineart_anime", true},
        {"control_v11p_sd15_normalbae.pth", "normal", false},
        {"control_v11f1p_sd15_depth.pth", "depth", true},
        {"control_v11p_sd15_seg.pth", "seg", true},
        {"control_segment.pth", "seg", false},
        {"lllyasviel/control_v11p_sd15_softedge/", "softedge", true},
        {"sd-controlnet-hed/diffusion_pytorch_model.fp16.safetensors", "hed", true},
        {"models--lllyasviel--control_v11f1e_sd15_tile/snapshots/"
         "3f877705c37010b7221c3d10743307d6b5b6efac",
         "tile", true},
        {"canny/my-own.safetensors", "canny", false},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_control_file c = {.file = NULL};
        cn_control_take_name(&c, cases[i].file);
        if (cn_control_named(&c, cases[i].words) != cases[i].has)
            fail_msg("%s: %s", cases[i].file, c.name);
    }
}

/* --- differences ------------------------------------------------------------------------------ */

static float *values_of(const cn_param *q)
{
    float *v = malloc((size_t)cn_param_elements(q) * sizeof *v);
    assert_non_null(v);
    must(cn_param_get(backend, ctx, q, v));
    return v;
}

static void differences_are_added_to_the_base(void **state)
{
    (void)state;
    char dir[256], plain[256], path[256];
    cn_base *b = NULL;
    cn_params *unet = NULL, *p = NULL, *back = NULL;
    cn_control_file *c = NULL;
    int shared = 0;
    path_in(dir, "base");
    path_in(plain, "diff-said.safetensors");
    path_in(path, "diff_control_sd15.safetensors");
    must(cn_base_open(ctx, dir, &b));
    must(cn_net_declare(ctx, CN_NET_UNET, &b->unet, &unet));
    must(cn_base_load(ctx, b, backend, unet));
    must(cn_control_open(ctx, control, &c));
    must(cn_control_join(ctx, c, b));
    const cn_controlnet_config config = c->config;
    must(cn_net_declare(ctx, CN_NET_CONTROL, &config, &p));
    must(cn_control_load(ctx, c, backend, p));
    cn_control_close(c);
    float **want = calloc((size_t)cn_params_count(p), sizeof *want);
    assert_non_null(want);
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        const cn_param *u = cn_params_find(unet, q->diffusers_name);
        want[i] = values_of(q);
        if (!u) continue;
        float *of_base = values_of(u), *difference = values_of(q);
        for (int64_t k = 0; k < cn_param_elements(q); k++) difference[k] -= of_base[k];
        must(cn_param_set(backend, ctx, q, difference));
        free(of_base);
        free(difference);
        shared++;
    }
    assert_true(shared > 10 && shared < cn_params_count(p));
    must(cn_control_save_single(ctx, backend, &config, p, CN_F32, plain, NULL));
    copy_tensors(plain, path, "difference");
    must(cn_control_open(ctx, path, &c));
    assert_true(c->difference && c->form == CN_CONTROL_PREFIXED);
    must(cn_net_declare(ctx, CN_NET_CONTROL, &config, &back));
    refused(cn_control_load(ctx, c, backend, back), CN_EMISMATCH, "difference from its base model");
    cn_str_free(&told);
    must(cn_control_join(ctx, c, b));
    assert_non_null(strstr(told.data ? told.data : "", "stored as a difference"));
    must(cn_control_load(ctx, c, backend, back));
    for (int64_t i = 0; i < cn_params_count(back); i++) {
        float *got = values_of(cn_params_at(back, i));
        for (int64_t k = 0; k < cn_param_elements(cn_params_at(back, i)); k++)
            assert_true(fabsf(got[k] - want[i][k]) <= 1e-6f * (1 + fabsf(want[i][k])));
        free(got);
        free(want[i]);
    }
    free(want);
    cn_control_close(c);
    refused(cn_convert(ctx, path, dir, NULL), CN_EMISMATCH, "difference from its base model");
    cn_params_destroy(back);
    cn_params_destroy(p);
    cn_params_destroy(unet);
    cn_base_close(b);
}

/* --- other kinds of files --------------------------------------------------------------------- */

static void other_kinds_are_named(void **state)
{
    (void)state;
    /* A tensor of each as its author publishes it. */
    static const struct {
        const char *tensor, *name;
        bool read; /* though no ControlNet that is whole by itself */
    } cases[] = {
        {"lora_controlnet", "a Control-LoRA", true},
        {"adapter.body.0.resnets.0.block1.weight", "a T2I-Adapter", true},
        {"body.0.block1.weight", "a T2I-Adapter", true},
        {"body.0.in_conv.weight", "a T2I-Adapter", true},
        {"style_embedding", "a T2I style adapter", false},
        {"task_embedding", "a CoAdapter fuser", false},
        {"ip_adapter.1.to_k_ip.weight", "an IP-Adapter", true},
        {"image_proj.proj.weight", "an IP-Adapter", true},
        {"lllite_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_k.conditioning1.0.weight",
         "a ControlNet-LLLite", true},
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",
         "an AnimateDiff motion module", false},
        {"vision_model.embeddings.class_embedding", "a CLIP vision encoder", true},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char path[256], says[128];
        cn_control_file *c = NULL;
        cn_base *b = NULL;
        cn_str text = {0};
        const float one = 1;
        const cn_tensor_out list[] = {
            {.name = cases[i].tensor, .dtype = CN_F32, .ndim = 1, .shape = {1}, .data = &one},
            {.name = "input_blocks.0.0.weight", .ndim = 1, .shape = {1}, .data = &one}};
        path_in(path, "other-kind.safetensors");
        /* A Control-LoRA has names of a ControlNet beside its own. */
        must(cn_safetensors_write(ctx, path, list, i == 0 ? 2 : 1, NULL, NULL, NULL));
        const char *note = cases[i].read ? "" : " (not supported yet)";
        snprintf(says, sizeof says, "holds %s%s, a ", cases[i].name, note);
        if (!cases[i].read) refused(cn_control_open(ctx, path, &c), CN_EMISMATCH, says);
        refused(cn_base_open(ctx, path, &b), CN_EMISMATCH, says);
        must(cn_weights_inspect(ctx, path, false, &text));
        snprintf(says, sizeof says, "%s%s, safetensors", cases[i].name, note);
        if (!strstr(text.data, says)) fail_msg("%s", text.data);
        cn_str_free(&text);
    }
}

/* docs/files.md has the table of kinds as the program has it. */
static void the_documented_kinds_are_these(void **state)
{
    (void)state;
    char *doc = NULL;
    size_t n = 0;
    must(cn_file_read(ctx, "docs/files.md", 1 << 20, &doc, &n));
    for (int i = 1; cn_content_kind_at(i); i++) {
        const cn_content_kind *k = cn_content_kind_at(i);
        cn_str row = {0};
        cn_str_addf(&row, "\n| %s | %s | %s |%s%s |%s%s |\n", k->name, k->by, k->read,
                    k->written[0] ? " " : "", k->written, k->since[0] ? " " : "", k->since);
        if (!strstr(doc, row.data)) fail_msg("docs/files.md lacks %s", row.data);
        cn_str_free(&row);
    }
    cn_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffle_is_known_by_config_metadata_or_name),
        cmocka_unit_test(names_are_told_apart_by_words),
        cmocka_unit_test(differences_are_added_to_the_base),
        cmocka_unit_test(other_kinds_are_named),
        cmocka_unit_test(the_documented_kinds_are_these),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
