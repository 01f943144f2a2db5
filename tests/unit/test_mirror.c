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
    cn_image *image = NULL;
    must(cn_image_create(ctx, 3, 1, &image));
    memcpy(image->rgb, rgb, sizeof rgb);
    cn_mirror_condition(CN_MIRROR_PLAIN, image);
    assert_memory_equal(image->rgb, plain, sizeof plain);
    memcpy(image->rgb, rgb, sizeof rgb);
    cn_mirror_condition(CN_MIRROR_NORMALS, image);
    assert_memory_equal(image->rgb, normal, sizeof normal);
    cn_image_destroy(image);
}

static void kinds_are_known_refused_or_unknown(void **state)
{
    (void)state;
    cn_mirror how = CN_MIRROR_OFF;
    must(cn_mirror_find(ctx, "canny low=50 high=100", &how));
    assert_int_equal(how, CN_MIRROR_PLAIN);
    must(cn_mirror_find(ctx, "normal", &how));
    assert_int_equal(how, CN_MIRROR_NORMALS);
    assert_int_equal(cn_mirror_find(ctx, "openpose", &how), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "drawn anew"));
    assert_int_equal(cn_mirror_find(ctx, "can", &how), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "segmentation"));
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
        cmocka_unit_test(kinds_are_known_refused_or_unknown),
        cmocka_unit_test(runs_flip_where_it_is_known_how),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
