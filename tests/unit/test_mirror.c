/* SPDX-License-Identifier: Apache-2.0 */
/* test_mirror.c - flips that know what they do: pictures, normals, poses, and runs with them. */
#include "../support/unit/tiny_run.h"
#include "data/mirror.h"

#include <string.h>
#include <unistd.h>

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

static void pictures_and_normals_are_mirrored(void **state)
{
    (void)state;
    static const uint8_t rgb[] = {1, 2, 3, 40, 50, 60, 255, 128, 0};
    static const uint8_t plain[] = {255, 128, 0, 40, 50, 60, 1, 2, 3};
    static const uint8_t normal[] = {0, 128, 0, 215, 50, 60, 254, 2, 3};
    static const uint8_t bgr[] = {255, 128, 255, 40, 50, 195, 1, 2, 252};
    cn_image *image = NULL;
    must(cn_image_create(ctx, 3, 1, &image));
    memcpy(image->rgb, rgb, sizeof rgb);
    cn_mirror_condition(CN_MIRROR_PLAIN, image);
    assert_memory_equal(image->rgb, plain, sizeof plain);
    memcpy(image->rgb, rgb, sizeof rgb);
    cn_mirror_condition(CN_MIRROR_NORMALS, image);
    assert_memory_equal(image->rgb, normal, sizeof normal);
    memcpy(image->rgb, rgb, sizeof rgb);
    cn_mirror_condition(CN_MIRROR_NORMALS_BGR, image);
    assert_memory_equal(image->rgb, bgr, sizeof bgr);
    cn_image_destroy(image);
}

/* What each row must say: kinds that aren't here flip plainly. */
static const struct {
    const char *text;
    cn_mirror mirror; /* OFF: refused */
} mirrors[] = {
    {"normal", CN_MIRROR_NORMALS},
    {"normal bgr=1", CN_MIRROR_NORMALS_BGR},
    {"normal_midas bgr", CN_MIRROR_NORMALS_BGR},
    {"normal_diode", CN_MIRROR_NORMALS},
    {"normal_from_depth", CN_MIRROR_NORMALS},
    {"openpose", CN_MIRROR_OFF},
    {"pose", CN_MIRROR_OFF},
    {"openpose_full", CN_MIRROR_OFF},
    {"openpose_faceonly", CN_MIRROR_PLAIN}, /* white points */
    {"openpose body=0 hand", CN_MIRROR_PLAIN},
    {"face", CN_MIRROR_OFF},
    {"mask", CN_MIRROR_PLAIN},
    {"edges", CN_MIRROR_PLAIN},
    {"segmentation", CN_MIRROR_PLAIN},
    {"softedge", CN_MIRROR_PLAIN},
    {"canny low=50 high=100", CN_MIRROR_PLAIN},
    {"canny, low=50", CN_MIRROR_PLAIN},
    /* as a data set's maker notes it */
    {"canny low=100 high=200 l2=0 resolution=512 random-thresholds seed=7", CN_MIRROR_PLAIN},
    {"normal bg_threshold=0.4 alpha=6.28 bgr=1 weights=dpt_hybrid.pt (9 bytes)",
     CN_MIRROR_NORMALS_BGR},
    {"pidinet safe=0 filter=0 | scribble_synthesis low=40 seed=1 weights=a|b", CN_MIRROR_PLAIN},
    {"normal | invert", CN_MIRROR_NORMALS},
    {"normal bgr=1 | invert | none", CN_MIRROR_NORMALS_BGR},
    {"normal | canny", CN_MIRROR_PLAIN},
    {"openpose | invert", CN_MIRROR_OFF},
    {"openpose | canny", CN_MIRROR_OFF},
};

static void check_mirror(const char *text, cn_mirror wanted)
{
    cn_mirror how = CN_MIRROR_OFF;
    const cn_status s = cn_mirror_find(ctx, text, &how);
    if (s != (wanted == CN_MIRROR_OFF ? CN_EINVAL : CN_OK) || how != wanted)
        fail_msg("%s: %d instead of %d: %s", text, (int)how, (int)wanted, s ? cn_error(ctx) : "");
    if (wanted == CN_MIRROR_OFF) assert_non_null(strstr(cn_error(ctx), "drawn anew"));
}

static bool is_listed(const char *name)
{
    for (size_t i = 0; i < CN_COUNT(mirrors); i++)
        if (!strcmp(mirrors[i].text, name)) return true;
    return false;
}

static void every_kind_says_how_it_flips(void **state)
{
    (void)state;
    const char *alias, *stands_for;
    for (size_t i = 0; i < CN_COUNT(mirrors); i++) check_mirror(mirrors[i].text, mirrors[i].mirror);
    for (int i = 0; i < cn_kind_count(); i++)
        if (!is_listed(cn_kind_at(i)->name)) check_mirror(cn_kind_at(i)->name, CN_MIRROR_PLAIN);
    for (int i = 0; cn_kind_alias_at(i, &alias, &stands_for); i++) {
        cn_mirror how = CN_MIRROR_OFF, same = CN_MIRROR_OFF;
        assert_int_equal(cn_mirror_find(ctx, alias, &how), cn_mirror_find(ctx, stands_for, &same));
        assert_int_equal(how, same);
    }
}

static void unknown_kinds_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "can", "", "|", "canny | can", "canny |", "canny | canny | canny | canny | canny"};
    cn_mirror how = CN_MIRROR_OFF;
    for (size_t i = 0; i < CN_COUNT(texts); i++)
        assert_int_equal(cn_mirror_find(ctx, texts[i], &how), CN_EINVAL);
    assert_int_equal(cn_mirror_find(ctx, "can", &how), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "seg_ade"));
    assert_non_null(strstr(cn_error(ctx), "colour"));
    assert_int_equal(how, CN_MIRROR_OFF);
}

/* A condition of the flipped picture is the flipped condition, for each kind that makes one of a
 * picture alone and looks at both sides alike. */
static void flipped_pictures_have_flipped_conditions(void **state)
{
    (void)state;
    enum { PX = 48 };
    for (int i = 0; i < cn_kind_count(); i++) {
        const cn_kind *kind = cn_kind_at(i);
        if (kind->takes != CN_TAKES_PICTURE || kind->networks[0].net || kind->seeded) continue;
        cn_annotate_args args;
        cn_image *picture = NULL, *condition = NULL, *flipped = NULL;
        must(cn_image_create(ctx, PX, PX, &picture));
        for (int k = 0; k < PX * PX; k++) {
            const int x = k % PX, y = k / PX;
            const bool disk = (x - 17) * (x - 17) + (y - 25) * (y - 25) < 120;
            memset(picture->rgb + 3 * k, disk ? 230 : 20 + 2 * y, 3);
        }
        cn_annotate_defaults(kind, &args);
        must(cn_annotate(ctx, &args, picture, &condition));
        cn_mirror_picture(picture);
        must(cn_annotate(ctx, &args, picture, &flipped));
        cn_mirror how = CN_MIRROR_OFF;
        must(cn_mirror_find(ctx, kind->name, &how));
        cn_mirror_condition(how, condition);
        int other = 0;
        for (int k = 0; k < 3 * PX * PX; k++) other += condition->rgb[k] != flipped->rgb[k];
        if (other > 3 * PX * PX / 100) fail_msg("%s: %d bytes differ", kind->name, other);
        cn_image_destroy(picture);
        cn_image_destroy(condition);
        cn_image_destroy(flipped);
    }
}

static cn_train_options options_for(const char *output)
{
    cn_train_options o = tiny_options(output);
    o.max_train_steps = 3;
    return o;
}

static void take_warning(void *user, cn_log_level level, const char *line)
{
    if (level == CN_LOG_WARN) snprintf(user, 512, "%s", line);
}

static void train_into(char dir[256], const char *name, bool flip, const char *kind,
                       char warning[512])
{
    warning[0] = 0;
    snprintf(dir, 256, "%s/%s", root, name);
    cn_train_options o = options_for(dir);
    o.random_flip = flip;
    o.conditioning_kind = kind;
    cn_ctx_set_log(ctx, take_warning, warning);
    must(cn_train(ctx, &o, NULL, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
}

/* The data set's maker says that the conditions are of this kind. */
static void note_condition(const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/scenes.txt", scenes);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "condition %s\n", text);
    assert_int_equal(fclose(f), 0);
}

static void runs_flip_where_it_is_known_how(void **state)
{
    (void)state;
    char plain[256], told[256], normals[256], unknown[256], warning[512], notes[256];
    train_into(plain, "plain", false, NULL, warning);
    train_into(told, "told", true, NULL, warning); /* scenes.txt says canny */
    assert_string_equal(warning, "");
    assert_false(same_file(plain, told, "control.safetensors"));
    train_into(normals, "normals", true, "normal", warning);
    assert_false(
        same_file(told, normals, "control.safetensors")); /* the same draws, other conditions */
    cn_train_options o = options_for(told);
    o.random_flip = true;
    o.conditioning_kind = "pose";
    assert_int_equal(cn_train(ctx, &o, NULL, NULL), CN_EINVAL);
    /* a kind with colours of its own, noted by the data set's maker */
    note_condition("openpose");
    train_into(plain, "straight", false, "none", warning);
    train_into(unknown, "pose", true, NULL, warning);
    assert_non_null(strstr(warning, "--random-flip is off"));
    assert_non_null(strstr(warning, "drawn anew"));
    assert_true(same_file(plain, unknown, "control.safetensors"));
    /* one that only its row describes */
    note_condition("lineart_coarse dark_lines=0 resolution=64 weights=sk_model2.pth (9 bytes)");
    train_into(unknown, "lines", true, NULL, warning);
    assert_string_equal(warning, "");
    assert_true(same_file(told, unknown, "control.safetensors"));
    /* a data set that nobody has described, with coloured conditions */
    snprintf(notes, sizeof notes, "%s/scenes.txt", scenes);
    assert_int_equal(unlink(notes), 0);
    must(cn_dataset_scenes(ctx, &(cn_scenes_options){.output_dir = scenes,
                                                     .count = 16,
                                                     .start = 16,
                                                     .size_px = TINY_PX,
                                                     .condition = "normal"}));
    assert_int_equal(unlink(notes), 0);
    train_into(plain, "coloured", false, NULL, warning);
    train_into(unknown, "unknown", true, NULL, warning);
    assert_non_null(strstr(warning, "--random-flip is off"));
    assert_true(same_file(plain, unknown, "control.safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_and_normals_are_mirrored),
        cmocka_unit_test(every_kind_says_how_it_flips),
        cmocka_unit_test(unknown_kinds_are_refused),
        cmocka_unit_test(flipped_pictures_have_flipped_conditions),
        cmocka_unit_test(runs_flip_where_it_is_known_how),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
