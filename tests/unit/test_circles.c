/* SPDX-License-Identifier: Apache-2.0 */
/* test_circles.c - Fill50K's pictures: what is told is drawn, and edges find the outline again. */
#include "../support/unit/unit.h"
#include "image/image.h"
#include "scene/circles.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

static void captions_name_both_colours(void **state)
{
    (void)state;
    bool golden = false, lace = false;
    for (uint64_t i = 0; i < 2000; i++) {
        cn_circle c;
        cn_circle_generate(5, i, &c);
        const char *middle = strstr(c.caption, " circle with "),
                   *end = strstr(c.caption, " background");
        assert_non_null(middle);
        assert_non_null(end);
        assert_string_equal(end, " background");
        golden |= !strncmp(c.caption, "pale golden rod circle", 22);
        lace |= !strncmp(middle + 13, "old lace background", 19);
        assert_true(c.x - c.radius > 0 && c.x + c.radius < 1);
        assert_true(c.y - c.radius > 0 && c.y + c.radius < 1);
    }
    assert_true(golden && lace);
}

/* Inside one colour, outside the other, and canny's edges where the outline is. */
static void edges_find_the_outline(void **state)
{
    (void)state;
    for (int k = 0; k < 12; k++) {
        const int64_t size = k % 2 ? 512 : 128;
        cn_image *picture = NULL, *outline = NULL, *edges = NULL;
        cn_circle c;
        cn_agreement is;
        must(cn_image_create(ctx, size, size, &picture));
        must(cn_image_create(ctx, size, size, &outline));
        cn_circle_generate(9, (uint64_t)k, &c);
        cn_circle_render(&c, size, picture->rgb, outline->rgb);
        const int64_t x = (int64_t)(c.x * (float)size), y = (int64_t)(c.y * (float)size);
        int most = 0;
        for (int i = 0; i < 3; i++) {
            const int d = picture->rgb[3 * (y * size + x) + i] - picture->rgb[i];
            most = CN_MAX(most, d < 0 ? -d : d);
        }
        assert_true(most >= 64);
        must(cn_annotate_image(ctx, "canny", NULL, picture, &edges));
        must(cn_condition_agreement(ctx, "canny", edges, outline, &is));
        if (is.score < 0.95)
            fail_msg("circle %d at %lld px: F1 %.3f", k, (long long)size, is.score);
        cn_image_destroy(picture);
        cn_image_destroy(outline);
        cn_image_destroy(edges);
    }
}

static void folders_go_on_and_dont_mix(void **state)
{
    (void)state;
    char dir[128], path[256];
    struct stat before, after;
    cn_dataset_report report;
    snprintf(dir, sizeof dir, "%s/circles", root);
    cn_scenes_options o = {.output_dir = dir, .count = 3, .seed = 4, .size_px = 64};
    must(cn_dataset_circles(ctx, &o));
    snprintf(path, sizeof path, "%s/target/1.png", dir);
    assert_int_equal(stat(path, &before), 0);
    o.count = 20;
    must(cn_dataset_circles(ctx, &o));
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    must(cn_dataset_check(ctx, &(cn_dataset_options){.dir = dir}, NULL, &report));
    assert_string_equal(report.layout, "fill50k");
    assert_int_equal(report.pairs, 20);
    for (int i = 0; i < CN_DATASET_FINDINGS; i++) assert_int_equal(report.findings[i].count, 0);
    o.seed = 5;
    assert_int_equal(cn_dataset_circles(ctx, &o), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(ctx), "circles 1, seed 4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_name_both_colours),
        cmocka_unit_test(edges_find_the_outline),
        cmocka_unit_test(folders_go_on_and_dont_mix),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
