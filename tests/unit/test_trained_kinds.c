/* SPDX-License-Identifier: Apache-2.0 */
/* test_trained_kinds.c - whole small runs of every kind of control network, beside a base of Stable
 * Diffusion 1.x and one of XL: where it starts, that it learns and is validated, what is saved,
 * that it is told by its content, gone on from and drawn with. Gradients are PyTorch's in
 * unit_kind_gradients, a low-rank layer's in ops_low_rank.
 */
#include "../support/unit/tiny_run.h"
#include "image/image.h"
#include "io/json.h"
#include "model/checkpoint/weights.h"
#include "train/trained_kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PX = TINY_EIGHT_PX };

static char bases[2][256];

/* What is known of a kind's files. */
static const struct row {
    const char *name, *type;
    const char *holds; /* as inspect has it */
    const char *class; /* of its folder; NULL: it has none */
    bool silent;       /* changes nothing before it has learned */
    const cn_control_kind *kind;
} rows[] = {
    {"controlnet", NULL, "a ControlNet (single-file names", "ControlNetModel", true,
     &cn_control_kind_net},
    {"controlnet-mid", NULL, "a ControlNet (single-file names", "ControlNetModel", true,
     &cn_control_kind_net},
    {"controlnet-small", NULL, "a ControlNet (single-file names", "ControlNetModel", true,
     &cn_control_kind_net},
    {"control-lora", NULL, "a Control-LoRA", NULL, true, &cn_control_kind_net},
    {"lllite", NULL, "a ControlNet-LLLite", NULL, true, &cn_control_kind_lllite},
    {"t2i-adapter", NULL, "a T2I-Adapter", "T2IAdapter", false, &cn_control_kind_adapter},
    {"union", "canny", "a union ControlNet", "ControlNetUnionModel", true, &cn_control_kind_net},
};

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0) return -1;
    path_in(bases[0], "eight");
    path_in(bases[1], "eight-xl");
    must(tiny_eight_write(ctx, bases[0], false));
    must(tiny_eight_write(ctx, bases[1], true));
    return 0;
}

static cn_train_options options(const struct row *k, int base, const char *output)
{
    cn_train_options o = tiny_options(output);
    o.model = bases[base];
    o.control_kind = k->name;
    o.control_type = k->type;
    o.resolution = PX;
    o.max_train_steps = 3;
    o.proportion_empty_prompts = 0.5;
    return o;
}

/* "ROOT/KIND-BASE-WHAT" */
static void name_dir(char out[256], const struct row *k, int base, const char *what)
{
    char name[128];
    snprintf(name, sizeof name, "%s-%d-%s", k->name, base, what);
    path_in(out, name);
}

static const char *file_in(const char *dir, const char *name, char out[512])
{
    snprintf(out, 512, "%s/%s", dir, name);
    return out;
}

/* The same tensors, in whatever order. */
static void same_values(const char *dir_a, const char *dir_b)
{
    char path[512];
    cn_tensors *a = NULL, *b = NULL;
    must(cn_tensors_open(ctx, file_in(dir_a, CN_TRAINED_FILE, path), &a));
    must(cn_tensors_open(ctx, file_in(dir_b, CN_TRAINED_FILE, path), &b));
    assert_int_equal(cn_tensors_count(a), cn_tensors_count(b));
    for (int64_t i = 0; i < cn_tensors_count(a); i++) {
        const cn_tensor_info *t = cn_tensors_at(a, i), *u = cn_tensors_find(b, t->name);
        assert_true(u && u->elements == t->elements);
        const size_t bytes = (size_t)t->elements * sizeof(float);
        float *x = malloc(bytes + 1), *y = malloc(bytes + 1);
        must(cn_tensors_read(ctx, a, t, x));
        must(cn_tensors_read(ctx, b, u, y));
        if (memcmp(x, y, bytes) != 0) fail_msg("%s: %s has changed", path, t->name);
        free(x);
        free(y);
    }
    cn_tensors_close(a);
    cn_tensors_close(b);
}

/* With all that a run may have, at no learning rate: a kind that starts silent leaves the loss what
 * it is without it, to the bit. */
static void starts(const struct row *k, int base)
{
    char dir[256];
    double with, without;
    name_dir(dir, k, base, "starts");
    cn_train_options o = options(k, base, dir);
    o.max_train_steps = 1;
    o.learning_rate = 0;
    o.validation_steps = 1;
    o.validation_count = 1;
    o.validation_sampling_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_int_equal(tiny_metrics(dir, "loss_with_control", &with, 1), 1);
    assert_int_equal(tiny_metrics(dir, "loss_without_control", &without, 1), 1);
    assert_true(isfinite(with));
    if (k->silent) assert_true(with == without);
    if (!k->silent) assert_true(with != without);
}

static void looks_like(const struct row *k, const char *dir)
{
    char path[512];
    cn_str text = {0};
    json_t *json = NULL;
    must(cn_weights_inspect(ctx, file_in(dir, CN_TRAINED_FILE, path), false, &text));
    if (!strstr(text.data, k->holds)) fail_msg("%s: %s", path, text.data);
    cn_str_free(&text);
    assert_int_equal(cn_file_exists(file_in(dir, "config.json", path)), k->class != NULL);
    if (!k->class) return;
    must(cn_json_load_file(ctx, path, &json));
    assert_string_equal(cn_json_str(json, "_class_name", ""), k->class);
    json_decref(json);
}

/* Draws with a file or folder, NULL: without. */
static void draw(const struct row *k, int base, const char *control, uint8_t rgb[3 * PX * PX])
{
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_image *condition = NULL;
    cn_generate_options o;
    const char *const nets[] = {control};
    must(cn_image_create(ctx, PX, PX, &condition));
    for (int i = 0; i < 3 * PX * PX; i++) condition->rgb[i] = (uint8_t)(i * 7 % 256);
    const cn_control_options c = {.image = condition, .type = k->type, .strength = 1, .end = 1};
    const cn_pipeline_options po = {
        .model = bases[base], .controls = nets, .n_controls = control ? 1 : 0};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.steps = 2;
    o.width = o.height = PX;
    o.seed = 5;
    if (control) o.controls = &c;
    must(cn_generate(p, &o, &g));
    memcpy(rgb, cn_image_rgb(g->images[0]), 3 * PX * PX);
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
    cn_image_destroy(condition);
}

/* Validated and drawn with; a file alone and a folder draw the same, and not what is drawn
 * without. */
static void learns_and_draws(const struct row *k, int base)
{
    static uint8_t plain[3 * PX * PX], by_file[3 * PX * PX], by_folder[3 * PX * PX];
    char dir[256], path[512], alone[256], name[96], *data = NULL;
    double loss[8];
    size_t n = 0;
    cn_train_result r;
    name_dir(dir, k, base, "learns");
    cn_train_options o = options(k, base, dir);
    o.learning_rate = 3e-3;
    o.max_train_steps = 6;
    o.validation_steps = 6;
    o.validation_count = 2;
    o.validation_sampling_steps = 2;
    o.use_ema = true;
    must(cn_train(ctx, &o, NULL, &r));
    assert_int_equal(r.steps, 6);
    assert_int_equal(tiny_metrics(dir, "loss", loss, 8), 6);
    for (int i = 0; i < 6; i++) assert_true(isfinite(loss[i]));
    looks_like(k, dir);
    snprintf(path, sizeof path, "%s/ema", dir);
    looks_like(k, path);
    /* away from its config.json */
    snprintf(name, sizeof name, "%s-%d.safetensors", k->name, base);
    path_in(alone, name);
    must(cn_file_read(ctx, file_in(dir, CN_TRAINED_FILE, path), 1 << 28, &data, &n));
    must(cn_file_write(ctx, alone, data, n));
    cn_free(data);
    draw(k, base, NULL, plain);
    draw(k, base, alone, by_file);
    assert_memory_not_equal(plain, by_file, sizeof plain);
    if (!k->class) return;
    draw(k, base, dir, by_folder);
    assert_memory_equal(by_file, by_folder, sizeof by_file);
}

static void goes_on(const struct row *k, int base)
{
    char whole[256], parts[256], next[256], path[512];
    name_dir(whole, k, base, "whole");
    name_dir(parts, k, base, "parts");
    name_dir(next, k, base, "next");
    cn_train_options o = options(k, base, whole);
    must(cn_train(ctx, &o, NULL, NULL));
    o = options(k, base, parts);
    o.max_train_steps = 2;
    o.checkpointing_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    o.max_train_steps = 3;
    o.overwrite = false;
    o.resume_from_checkpoint = "checkpoint-1";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "checkpoint-2");
    o.resume_from_checkpoint = "latest";
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(whole, parts, CN_TRAINED_FILE));
    /* the same with blocks computed again */
    o = options(k, base, parts);
    o.gradient_checkpointing = true;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(whole, parts, CN_TRAINED_FILE));
    /* from its file, whose kind is seen */
    file_in(whole, CN_TRAINED_FILE, path);
    o = options(k, base, next);
    o.control_kind = NULL;
    o.controlnet = path;
    o.learning_rate = 0;
    o.adam_weight_decay = 0;
    o.max_train_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    same_values(whole, next);
}

static void every_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < CN_COUNT(rows); i++)
        for (int base = 0; base < 2; base++) {
            starts(&rows[i], base);
            learns_and_draws(&rows[i], base);
            goes_on(&rows[i], base);
        }
}

static void strategies(void **state)
{
    (void)state;
    char dir[256];
    path_in(dir, "strategies");
    for (size_t i = 0; i < CN_COUNT(rows); i++) {
        const struct row *k = &rows[i];
        const bool links = k->kind == &cn_control_kind_net;
        cn_train_options o = options(k, 1, dir);
        o.only_mid_control = true;
        o.reconnect_after = 1;
        o.max_train_steps = 2;
        if (links)
            must(cn_train(ctx, &o, NULL, NULL));
        else
            refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--only-mid-control leaves out");
        o = options(k, 0, dir);
        o.unlock = "decoder";
        o.unlock_after = 1;
        o.max_train_steps = 2;
        o.use_8bit_adam = true;
        must(cn_train(ctx, &o, NULL, NULL));
        o.unlock = "all";
        if (strcmp(k->name, "control-lora") != 0)
            must(cn_train(ctx, &o, NULL, NULL));
        else
            refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--unlock decoder is possible");
    }
}

/* The plan is made with the networks that are trained: without links and copies less is trained. */
static void keep_plan(void *user, const cn_train_plan *p)
{
    *(cn_train_plan *)user = *p;
}

static void plans(void **state)
{
    (void)state;
    char dir[256];
    int64_t trained[CN_COUNT(rows)];
    path_in(dir, "plans");
    for (size_t i = 0; i < CN_COUNT(rows); i++) {
        cn_train_plan plan = {0};
        const cn_train_callbacks c = {.user = &plan, .planned = keep_plan};
        cn_train_options o = options(&rows[i], 1, dir);
        o.dry_run = true;
        o.network_dim =
            !strcmp(rows[i].name, "control-lora") || !strcmp(rows[i].name, "lllite") ? 4 : 0;
        must(cn_train(ctx, &o, &c, NULL));
        trained[i] = plan.trained;
        assert_true(plan.trained > 0 && plan.step_seconds > 0);
        assert_true(plan.peak_bytes >= plan.base_bytes + plan.control_bytes + plan.gradient_bytes);
    }
    assert_true(trained[2] < trained[1] && trained[1] < trained[0] && trained[0] < trained[6]);
    assert_true(trained[3] < trained[0] && trained[4] < trained[0]);
}

/* Losses within 1 %: a weight is rounded to 1/254 of its block's largest at most, and most of them
 * to less. The base takes 8.5 bits a weight for 32; biases and norms stay. */
static void kept_in_8_bits(void **state)
{
    (void)state;
    static const int some[] = {0, 3, 4};
    for (size_t k = 0; k < CN_COUNT(some); k++)
        for (int base = 0; base < 2; base++) {
            char whole[256], narrow[256];
            double x[3], y[3];
            cn_train_plan plans[2];
            const struct row *r = &rows[some[k]];
            name_dir(whole, r, base, "f32");
            name_dir(narrow, r, base, "q8");
            for (int q8 = 0; q8 < 2; q8++) {
                const cn_train_callbacks c = {.user = &plans[q8], .planned = keep_plan};
                cn_train_options o = options(r, base, q8 ? narrow : whole);
                o.weight_type = q8 ? "q8" : "auto";
                must(cn_train(ctx, &o, &c, NULL));
            }
            assert_string_equal(plans[0].base_type, "f32");
            assert_string_equal(plans[1].base_type, "q8");
            assert_true(plans[1].base_bytes < 0.4 * (double)plans[0].base_bytes);
            assert_int_equal(plans[1].control_bytes, plans[0].control_bytes);
            assert_int_equal(tiny_metrics(whole, "loss", x, 3), 3);
            assert_int_equal(tiny_metrics(narrow, "loss", y, 3), 3);
            for (int i = 0; i < 3; i++) {
                if (!(fabs(x[i] - y[i]) <= 0.01 * x[i]))
                    fail_msg("%s %d: loss %g, in 8 bits %g", r->name, base, x[i], y[i]);
                assert_true(x[i] != y[i]);
            }
        }
}

static void refusals(void **state)
{
    (void)state;
    char dir[256], lllite[256], path[512];
    path_in(dir, "refused");
    cn_train_options o = options(&rows[6], 1, dir);
    o.control_type = NULL;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--control-type: a ControlNet Union wants");
    o.control_type = "cats";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--control-type cats: a ControlNet Union");
    o = options(&rows[0], 1, dir);
    o.control_type = "canny";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--control-type is for --control-kind union");
    o = options(&rows[5], 1, dir);
    o.network_dim = 8;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--network-dim is the width");
    o = options(&rows[4], 0, dir);
    o.model = model;
    o.resolution = TINY_PX;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, "8 pixels a side one");
    o = options(&rows[0], 0, dir);
    o.control_kind = "lolite";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "control-kind");
    name_dir(lllite, &rows[4], 0, "whole");
    file_in(lllite, CN_TRAINED_FILE, path);
    o = options(&rows[0], 0, dir);
    o.controlnet = path;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, "holds a ControlNet-LLLite");
    o.control_kind = NULL;
    o.model = bases[1];
    refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, "belongs to another");
    name_dir(lllite, &rows[0], 0, "whole");
    file_in(lllite, CN_TRAINED_FILE, path);
    o = options(&rows[2], 0, dir);
    o.controlnet = path;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH, "--control-kind controlnet-small");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),     cmocka_unit_test(strategies), cmocka_unit_test(plans),
        cmocka_unit_test(kept_in_8_bits), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
