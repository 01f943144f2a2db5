/* SPDX-License-Identifier: Apache-2.0 */
/* test_compare.c - validation's drawings compared with their conditions by annotators with
 * networks: which one is chosen, what it takes in memory, what is told; and data sets that such
 * annotators make.
 *
 * M-LSD has seeded weights; M-LSD and PiDiNet with those that their authors published are in
 * CN_SHARED.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/seeded_file.h"
#include "../support/tiny_base.h"
#include "image/image.h"
#include "io/json.h"
#include "data/condition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_ctx *ctx;
static char root[64], model[128], mlsd[128], said[4096];

static void must(cn_status s)
{
    if (s != CN_OK) fail_msg("%s: %s", cn_status_name(s), cn_error(ctx));
}

static void refused(cn_status s, const char *words)
{
    if (s != CN_EINVAL || !strstr(cn_error(ctx), words))
        fail_msg("%s: %s (wanted \"%s\")", cn_status_name(s), cn_error(ctx), words);
}

static void keep_log(void *user, cn_log_level level, const char *line)
{
    (void)user, (void)level;
    const size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", line);
}

static int set_up(void **state)
{
    (void)state;
    json_t *manifest = NULL;
    ctx = cn_ctx_create(1);
    if (!ctx || !tiny_dir_make(root)) return -1;
    cn_ctx_set_log(ctx, keep_log, NULL);
    snprintf(model, sizeof model, "%s/model", root);
    snprintf(mlsd, sizeof mlsd, "%s/mlsd_tiny_512_fp32.safetensors", root);
    must(tiny_base_write(ctx, model, 8));
    must(cn_json_load_file(ctx, "tests/golden/annotators/mlsd/tiny_manifest.json", &manifest));
    must(seeded_file_write(ctx, manifest, "", CN_F32, mlsd));
    json_decref(manifest);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return 0;
}

/* A file in CN_SHARED/annotators; false, with a line, where it is absent. */
static bool shared(char out[512], const char *rest)
{
    const char *folder = getenv("CN_SHARED");
    snprintf(out, 512, "%s/annotators/%s", folder ? folder : "../shared", rest);
    if (cn_file_exists(out)) return true;
    print_message("skipped: %s is absent\n", out);
    return false;
}

/* --- scenes ----------------------------------------------------------------------------------- */

static cn_status write_scenes(const char *dir, int64_t px, const char *condition,
                              const char *weights)
{
    const char *const list[] = {weights, NULL};
    return cn_dataset_scenes(ctx, &(cn_scenes_options){.output_dir = dir,
                                                       .count = 16,
                                                       .seed = 3,
                                                       .size_px = px,
                                                       .condition = condition,
                                                       .weights = list});
}

/* A condition is what the annotator finds in its picture. */
static void check_scenes(const char *dir, const char *kind, const char *weights)
{
    char path[256];
    const char *const list[] = {weights, NULL};
    const cn_annotate_options o = {.weights = list};
    cn_image *condition = NULL, *picture = NULL, *found = NULL;
    cn_agreement a;
    snprintf(path, sizeof path, "%s/source/5.png", dir);
    must(cn_image_load(ctx, path, &condition));
    snprintf(path, sizeof path, "%s/target/5.png", dir);
    must(cn_image_load(ctx, path, &picture));
    must(cn_annotate_image(ctx, kind, &o, picture, &found));
    assert_memory_equal(found->rgb, condition->rgb, (size_t)(found->width * found->height * 3));
    must(cn_condition_agreement(ctx, kind, found, condition, &a));
    assert_true(a.score == 1);
    cn_image_destroy(condition);
    cn_image_destroy(picture);
    cn_image_destroy(found);
}

static void scenes_are_annotated_by_networks(void **state)
{
    (void)state;
    char dir[256], other[256];
    snprintf(dir, sizeof dir, "%s/by-mlsd", root);
    snprintf(other, sizeof other, "%s/none", root);
    must(write_scenes(dir, 32, "mlsd value_threshold=0.01", mlsd));
    check_scenes(dir, "mlsd value_threshold=0.01", mlsd);
    must(write_scenes(dir, 32, "mlsd value_threshold=0.01", mlsd)); /* goes on */
    assert_int_equal(write_scenes(dir, 32, "mlsd", mlsd), CN_EMISMATCH);
    refused(write_scenes(other, 32, "mlsd", NULL), "mlsd_large_512_fp32.pth");
    refused(write_scenes(other, 32, "canny", mlsd), "takes no weights");
    refused(write_scenes(other, 32, "depth", mlsd), "takes no weights");
    assert_false(cn_dir_exists(other));
    snprintf(dir, sizeof dir, "%s/chain", root);
    must(write_scenes(dir, 32, "canny | invert", NULL));
}

/* --- which annotator -------------------------------------------------------------------------- */

static cn_annotate_args chosen(const char *file, const char *text, cn_train_options o, bool *told)
{
    char dir[128], path[256];
    cn_annotate_args args;
    snprintf(dir, sizeof dir, "%s/noted-%s", root, file ? file : "nothing");
    must(cn_dir_make(ctx, dir));
    snprintf(path, sizeof path, "%s/%s", dir, file ? file : "nothing");
    must(cn_file_write(ctx, path, text, strlen(text)));
    o.train_data_dir = dir;
    must(cn_condition_find(ctx, &o, &args, told));
    return args;
}

static void a_data_sets_notes_choose_the_annotator(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *kind; /* NULL: none, but told */
        double first;
    } noted[] = {
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition canny low=7 high=100 l2=0\n", "canny",
         7},
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition edges\n", "canny", 100},
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition depth\n", "depth", 0},
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition normal\n", NULL, 0},
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition segmentation\n", NULL, 0},
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition hed safe=1 weights=/x y (3 bytes)\n",
         "hed", 1},
        {"scenes.txt", "scenes 1, seed 3, 16 px, condition hed safe=0 | scribble_synthesis\n", NULL,
         0},
        {"annotate.jsonl",
         "{\"settings\": \"canny low=9 high=20 l2=0 random-thresholds seed=4\"}\n", "canny", 9},
        {"annotate.jsonl", "{\"settings\": \"seg_ade labels=/a\"}\n{\"picture\": \"1\"}\n", "seg",
         0},
        {"annotate.jsonl", "{\"settings\": \"normal_from_depth bg_threshold=0.4\"}\n", "normal",
         0.4},
        {"annotate.jsonl", "{\"settings\": \"seg_coco skip_crowd=0 labels=/a\"}\n", NULL, 0},
        {"annotate.jsonl", "{\"settings\": \"unheard of\"}\n", NULL, 0},
    };
    bool told = false;
    for (size_t i = 0; i < CN_COUNT(noted); i++) {
        cn_annotate_args a = chosen(noted[i].file, noted[i].text, (cn_train_options){0}, &told);
        if (!told || (a.kind != NULL) != (noted[i].kind != NULL) ||
            (a.kind && (strcmp(a.kind->name, noted[i].kind) != 0 || a.values[0] != noted[i].first)))
            fail_msg("%s: %s", noted[i].text, a.kind ? a.kind->name : "none");
    }
    /* what is asked for comes before what is noted */
    cn_train_options o = {.conditioning_kind = "segmentation"};
    cn_annotate_args a = chosen(noted[0].file, noted[0].text, o, &told);
    assert_string_equal(a.kind->name, "seg");
    o.validation_annotator = "openpose_full";
    a = chosen(noted[0].file, noted[0].text, o, &told);
    assert_string_equal(a.kind->name, "openpose");
    o.validation_annotator = "none";
    a = chosen(noted[0].file, noted[0].text, o, &told);
    assert_true(told && !a.kind);
    a = chosen(NULL, "", (cn_train_options){0}, &told);
    assert_true(!told && !a.kind);
    o.validation_annotator = "invert";
    refused(cn_condition_find(ctx, &o, &a, &told), "canny, mlsd");
    o.validation_annotator = "canny low=x";
    refused(cn_condition_find(ctx, &o, &a, &told), "low=x");
}

/* --- runs ------------------------------------------------------------------------------------- */

static cn_train_options options_for(const char *data, const char *output, int64_t px)
{
    cn_train_options o;
    cn_train_options_default(&o);
    o.overwrite = true;
    o.model = model;
    o.train_data_dir = data;
    o.output_dir = output;
    o.resolution = px;
    o.train_batch_size = 2;
    o.learning_rate = 1e-3;
    o.max_train_steps = 2;
    o.checkpointing_steps = 0;
    o.validation_steps = 2;
    o.validation_count = 3;
    o.validation_sampling_steps = 1;
    return o;
}

typedef struct seen {
    cn_train_validation last;
    cn_train_plan plan;
    char measure[64];
    int compared;
} seen;

static void see(void *user, const cn_train_validation *v)
{
    seen *s = user;
    s->last = *v;
    if (v->has_agreement) snprintf(s->measure, sizeof s->measure, "%s", v->agreement_with.measure);
}

static void see_plan(void *user, const cn_train_plan *p)
{
    ((seen *)user)->plan = *p;
}

static void see_progress(void *user, const cn_train_progress *p)
{
    ((seen *)user)->compared += strcmp(p->stage, "comparing") == 0;
}

static seen train(const cn_train_options *o)
{
    seen s = {0};
    const cn_train_callbacks c = {
        .user = &s, .validated = see, .planned = see_plan, .progress = see_progress};
    said[0] = 0;
    must(cn_train(ctx, o, &c, NULL));
    return s;
}

static void assert_told(const char *output, const char *measure)
{
    static const char *const files[] = {"metrics.jsonl", "report.html"};
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        char path[300], *text = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, "%s/%s", output, files[i]);
        must(cn_file_read(ctx, path, 1 << 26, &text, &n));
        if (!strstr(text, measure)) fail_msg("%s says nothing of %s", path, measure);
        cn_free(text);
    }
}

static void a_network_compares_drawings(void **state)
{
    (void)state;
    char data[128], out[128];
    const char *const weights[] = {mlsd, NULL};
    snprintf(data, sizeof data, "%s/compared-data", root);
    snprintf(out, sizeof out, "%s/compared", root);
    must(write_scenes(data, TINY_PX, "mlsd value_threshold=0.01", mlsd));
    cn_train_options o = options_for(data, out, TINY_PX);
    seen s = train(&o);
    assert_false(s.last.has_agreement); /* noted, but its weights aren't given */
    assert_non_null(strstr(said, "--validation-annotator-model"));
    const size_t without = s.plan.validation_bytes - s.plan.process_bytes;
    o.validation_annotator_weights = weights;
    s = train(&o);
    assert_true(s.last.has_agreement);
    assert_string_equal(s.measure, "edge F1");
    assert_int_equal(s.compared, 2 * 3); /* with control and without */
    assert_told(out, "edge F1");
    /* the network takes more than everything else that so small a validation does */
    assert_true(s.plan.validation_bytes - s.plan.process_bytes > without + (1 << 19));
    o.validation_annotator = "mlsd";
    assert_true(train(&o).last.has_agreement);
    o.validation_annotator = "none";
    o.validation_annotator_weights = NULL;
    assert_false(train(&o).last.has_agreement);
}

static void wrong_annotators_are_refused(void **state)
{
    (void)state;
    char data[128], out[128];
    const char *const weights[] = {mlsd, NULL};
    snprintf(data, sizeof data, "%s/refused-data", root);
    snprintf(out, sizeof out, "%s/refused", root);
    must(tiny_scenes_write(ctx, data, 16));
    cn_train_options o = options_for(data, out, TINY_PX);
    o.validation_annotator = "mlsd";
    refused(cn_train(ctx, &o, NULL, NULL), "mlsd needs its network's weights");
    o.validation_annotator_weights = weights;
    o.validation_annotator = "canny";
    refused(cn_train(ctx, &o, NULL, NULL), "canny has no network");
    o.validation_annotator = "none";
    refused(cn_train(ctx, &o, NULL, NULL), "--validation-annotator KIND");
    o.validation_annotator = "hed";
    assert_int_equal(cn_train(ctx, &o, NULL, NULL), CN_EMISMATCH);
    o.validation_annotator = "strokes";
    refused(cn_train(ctx, &o, NULL, NULL), "can't be compared");
    o.dry_run = true;
    refused(cn_train(ctx, &o, NULL, NULL), "can't be compared");
    assert_false(cn_dir_exists(out));
}

/* Published weights: conditions, drawings compared with them and the plan. */
static void real_networks_compare_drawings(void **state)
{
    (void)state;
    static const char *const kinds[] = {"pidinet", "mlsd"}, *const files[] = {
                                                                "pidinet/table5_pidinet.pth",
                                                                "mlsd/mlsd_tiny_512_fp32.pth"};
    for (size_t i = 0; i < CN_COUNT(kinds); i++) {
        char path[512], data[128], out[128];
        const char *const weights[] = {path, NULL};
        if (!shared(path, files[i])) skip();
        snprintf(data, sizeof data, "%s/real-%s-data", root, kinds[i]);
        snprintf(out, sizeof out, "%s/real-%s", root, kinds[i]);
        must(write_scenes(data, 64, kinds[i], path));
        check_scenes(data, kinds[i], path);
        cn_train_options o = options_for(data, out, 64);
        o.validation_annotator_weights = weights;
        const seen s = train(&o);
        assert_true(s.last.has_agreement);
        assert_true(s.last.agreement_with.score >= 0 && s.last.agreement_with.score <= 1);
        assert_told(out, "edge F1");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scenes_are_annotated_by_networks),
        cmocka_unit_test(a_data_sets_notes_choose_the_annotator),
        cmocka_unit_test(a_network_compares_drawings),
        cmocka_unit_test(wrong_annotators_are_refused),
        cmocka_unit_test(real_networks_compare_drawings),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
