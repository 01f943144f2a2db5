/* SPDX-License-Identifier: Apache-2.0 */
/* test_agreement.c - each kind's measure on conditions small enough to count by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "annotate/labels.h"
#include "annotate/pose/pose.h"
#include "eval/agreement.h"

#include <string.h>

enum { W = 8, H = 4 };

static cn_ctx *ctx;

static void the_same_map_agrees(void **state)
{
    (void)state;
    uint8_t a[W * H] = {0};
    double p = -1, r = -1;
    assert_true(cn_edge_f1(a, a, W, H, 1, &p, &r) == 1.0 && p == 1.0 && r == 1.0);
    a[0] = a[W * H - 1] = 255;
    assert_true(cn_edge_f1(a, a, W, H, 0, &p, &r) == 1.0 && p == 1.0 && r == 1.0);
    assert_true(cn_edge_f1(a, a, W, H, 100, NULL, NULL) == 1.0);
}

static void an_empty_map_meets_nothing(void **state)
{
    (void)state;
    uint8_t a[W * H] = {0}, none[W * H] = {0};
    a[5] = 255;
    double p = -1, r = -1;
    assert_true(cn_edge_f1(a, none, W, H, 2, &p, &r) == 0.0 && p == 0.0 && r == 0.0);
    assert_true(cn_edge_f1(none, a, W, H, 2, &p, &r) == 0.0 && p == 0.0 && r == 0.0);
}

static void tolerance_counts_both_ways(void **state)
{
    (void)state;
    uint8_t found[W * H] = {0}, wanted[W * H] = {0};
    double p, r;
    found[1 * W + 2] = 255; /* one down and right of a wanted pixel */
    found[3 * W + 7] = 255; /* far from all */
    wanted[0 * W + 1] = 255;
    wanted[0 * W + 0] = 255; /* two columns away */
    assert_true(cn_edge_f1(found, wanted, W, H, 0, &p, &r) == 0.0);
    assert_true(cn_edge_f1(found, wanted, W, H, 1, &p, &r) == 0.5 && p == 0.5 && r == 0.5);
    double f = cn_edge_f1(found, wanted, W, H, 2, &p, &r);
    assert_true(p == 0.5 && r == 1.0 && fabs(f - 2.0 / 3) < 1e-12);
}

/* --- whole conditions ------------------------------------------------------------------------- */

static cn_image *picture(int64_t width, int64_t height)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, width, height, &image), CN_OK);
    return image;
}

static void assert_near(double is, double want, double tolerance)
{
    if (!(fabs(is - want) <= tolerance)) fail_msg("%.9g, wanted %.9g", is, want);
}

static void paint(cn_image *image, int64_t x0, int64_t x1, const uint8_t *rgb)
{
    for (int64_t i = 0; i < image->width * image->height; i++)
        if (i % image->width >= x0 && i % image->width < x1) memcpy(image->rgb + 3 * i, rgb, 3);
}

static cn_agreement compared(const char *kind, const cn_image *found, const cn_image *wanted)
{
    cn_agreement a;
    assert_int_equal(cn_condition_agreement(ctx, kind, found, wanted, &a), CN_OK);
    assert_true(a.score >= 0 && a.score <= 1 && a.error >= 0);
    return a;
}

static void classes_are_counted_by_union(void **state)
{
    (void)state;
    const uint8_t *const wall = cn_ade20k_palette[0], *const sky = cn_ade20k_palette[2],
                         *const tree = cn_ade20k_palette[4];
    cn_image *wanted = picture(40, 10), *found = picture(40, 10);
    paint(wanted, 0, 20, wall);
    paint(wanted, 20, 30, sky); /* the last quarter is not labelled */
    paint(found, 0, 15, wall);
    paint(found, 15, 30, sky);
    paint(found, 30, 40, wall); /* so this isn't punished */
    /* wall 15 of 20, sky 10 of 15 */
    assert_near(compared("seg", found, wanted).score, (15.0 / 20 + 10.0 / 15) / 2, 1e-9);
    assert_near(compared("seg", wanted, wanted).score, 1, 1e-9);
    paint(found, 0, 40, tree);
    assert_near(compared("seg", found, wanted).score, 0, 1e-9);
    /* what is no class's colour isn't labelled either, a shade beside one is */
    paint(wanted, 30, 40, (const uint8_t[]){60, 60, 200});
    paint(found, 0, 15, (const uint8_t[]){117, 123, 120});
    paint(found, 15, 30, sky);
    assert_near(compared("seg", found, wanted).score, (15.0 / 20 + 10.0 / 15) / 2, 1e-9);
    paint(wanted, 0, 40, (const uint8_t[]){0, 0, 0});
    assert_near(compared("seg", found, wanted).score, 1, 1e-9); /* nothing was wanted */
    cn_image_destroy(wanted);
    cn_image_destroy(found);
}

/* A pixel of mixed colours that happens to be a third class's counts no more than it is large. */
static void specks_are_no_class(void **state)
{
    (void)state;
    cn_image *wanted = picture(64, 64), *found = picture(64, 64);
    paint(wanted, 0, 64, cn_ade20k_palette[0]);
    memcpy(wanted->rgb, cn_ade20k_palette[7], 3);
    paint(found, 0, 64, cn_ade20k_palette[0]);
    assert_true(compared("seg", found, wanted).score > 0.999);
    cn_image_destroy(wanted);
    cn_image_destroy(found);
}

static void depth_may_be_scaled_and_shifted(void **state)
{
    (void)state;
    cn_image *wanted = picture(60, 4), *found = picture(60, 4);
    for (int64_t i = 0; i < 240; i++) {
        memset(wanted->rgb + 3 * i, (int)(4 * (i % 60)), 3);
        memset(found->rgb + 3 * i, (int)(30 + 2 * (i % 60)), 3);
    }
    cn_agreement a = compared("depth", found, wanted);
    assert_string_equal(a.measure, "depth R2");
    assert_true(a.score > 1 - 1e-9 && a.error < 1e-4 && a.unit);
    for (int64_t i = 0; i < 720; i++) found->rgb[i] = (uint8_t)(255 - found->rgb[i]);
    a = compared("depth", found, wanted); /* far and near exchanged: nothing of it is right */
    assert_true(a.score == 0);
    assert_near(a.error, 100 * 4 * sqrt((60.0 * 60 - 1) / 12) / 255, 1e-6);
    memset(found->rgb, 100, 720);
    assert_true(compared("depth", found, wanted).score == 0);
    memset(wanted->rgb, 7, 720);
    assert_true(compared("depth", found, wanted).score == 1); /* both flat */
    /* half of the variance explained: two steps of the same height, one of them found */
    for (int64_t i = 0; i < 240; i++) {
        memset(wanted->rgb + 3 * i, (i % 60 < 30 ? 0 : 100) + (i / 60 < 2 ? 0 : 100), 3);
        memset(found->rgb + 3 * i, i % 60 < 30 ? 0 : 50, 3);
    }
    a = compared("depth", found, wanted);
    assert_near(a.score, 0.5, 1e-9);
    assert_near(a.error, 100 * 50.0 / 255, 1e-6);
    cn_image_destroy(wanted);
    cn_image_destroy(found);
}

static void normals_differ_by_angles(void **state)
{
    (void)state;
    cn_image *wanted = picture(20, 4), *found = picture(20, 4);
    paint(wanted, 0, 20, (const uint8_t[]){127, 127, 255}); /* towards the viewer */
    paint(found, 0, 10, (const uint8_t[]){127, 127, 255});
    paint(found, 10, 20, (const uint8_t[]){218, 127, 218}); /* 45 degrees to the right */
    cn_agreement a = compared("normal", found, wanted);
    assert_near(a.error, 22.5, 0.5);
    assert_near(a.score, 1 - a.error / 180, 1e-9);
    paint(wanted, 10, 20, (const uint8_t[]){127, 127, 127}); /* holes */
    assert_true(compared("normal", found, wanted).error < 0.5);
    paint(found, 0, 10, (const uint8_t[]){127, 127, 0});
    assert_near(compared("normal", found, wanted).error, 180, 1); /* a byte's rounding */
    cn_image_destroy(wanted);
    cn_image_destroy(found);
}

/* A figure with all 18 points, moved by so much; shrink < 1 brings it together. */
static void stand(cn_pose_peak *peaks, cn_pose_person *person, int64_t first, int64_t x, int64_t y)
{
    static const int64_t place[CN_POSE_PARTS][2] = {
        {50, 20},  {50, 40},  {30, 40}, {22, 65},  {18, 90},  {70, 40},
        {78, 65},  {82, 90},  {40, 95}, {38, 130}, {36, 165}, {60, 95},
        {62, 130}, {64, 165}, {44, 12}, {56, 12},  {36, 16},  {64, 16}};
    for (int k = 0; k < CN_POSE_PARTS; k++) {
        peaks[first + k] = (cn_pose_peak){x + place[k][0], y + place[k][1], 1};
        person->part[k] = first + k;
    }
    person->count = CN_POSE_PARTS;
}

static cn_image *people(cn_pose_version version, int n, const int64_t (*at)[2])
{
    cn_pose_peak peaks[4 * CN_POSE_PARTS];
    cn_pose_person persons[4];
    cn_image *made = NULL;
    for (int i = 0; i < n; i++)
        stand(peaks, &persons[i], (int64_t)i * CN_POSE_PARTS, at[i][0], at[i][1]);
    const cn_pose pose = {200, 400, peaks, (int64_t)n * CN_POSE_PARTS, persons, n};
    const cn_pose_drawing d = {.version = version, .pose = &pose};
    assert_int_equal(cn_pose_draw(ctx, &d, &made), CN_OK);
    return made;
}

static double poses(cn_pose_version v, int n_found, const int64_t (*found)[2], int n_wanted,
                    const int64_t (*wanted)[2])
{
    cn_image *f = people(v, n_found, found), *w = people(v, n_wanted, wanted);
    const double score = compared("openpose", f, w).score;
    cn_image_destroy(f);
    cn_image_destroy(w);
    return score;
}

static void people_are_compared_point_by_point(void **state)
{
    (void)state;
    static const int64_t here[][2] = {{20, 10}, {220, 10}}, beside[][2] = {{23, 12}, {223, 12}},
                         away[][2] = {{60, 10}}, right[][2] = {{220, 10}};
    for (int v = CN_POSE_V10; v <= CN_POSE_V11; v++) {
        assert_true(poses(v, 0, NULL, 0, NULL) == 1);
        assert_true(poses(v, 2, here, 2, here) == 1);
        assert_true(poses(v, 0, NULL, 2, here) == 0); /* everybody is missing */
        assert_true(poses(v, 1, here, 0, NULL) == 0); /* nobody was asked for */
        const double close = poses(v, 2, beside, 2, here), one = poses(v, 1, right, 2, here),
                     far = poses(v, 1, away, 1, here);
        assert_true(close > 0.8 && close < 0.99);
        assert_near(one, 2.0 / 3, 0.01); /* one of two: 18 of 36 found, none too many */
        assert_true(far < 0.2);
    }
}

/* COCO's formula by hand: a nose 10 px away in a figure of 64 x 153 px. */
static void a_points_similarity_is_cocos(void **state)
{
    (void)state;
    static const int64_t here[][2] = {{20, 10}};
    cn_image *wanted = people(CN_POSE_V11, 1, here), *found = people(CN_POSE_V11, 1, here);
    const uint8_t red[3] = {255, 0, 0};
    for (int64_t y = 0; y < 200; y++) /* the nose's disk moves down, all else stays */
        for (int64_t x = 0; x < 400; x++) {
            uint8_t *p = found->rgb + 3 * (y * 400 + x);
            if (memcmp(p, red, 3) == 0) memset(p, 100, 3);
        }
    for (int64_t y = 0; y < 200; y++)
        for (int64_t x = 0; x < 400; x++)
            if (memcmp(wanted->rgb + 3 * (y * 400 + x), red, 3) == 0)
                memcpy(found->rgb + 3 * ((y + 10) * 400 + x), red, 3);
    const double nose = exp(-100 / (2 * (64.0 * 153) * 0.052 * 0.052));
    assert_near(compared("openpose", found, wanted).score, (17 + nose) / 18, 0.004);
    cn_image_destroy(wanted);
    cn_image_destroy(found);
}

static void every_kind_that_draws_has_a_measure(void **state)
{
    (void)state;
    static const char *const none[] = {"none", "scribble", "strokes", "scribble_synthesis",
                                       "invert"};
    for (int i = 0; i < cn_kind_count(); i++) {
        const cn_kind *kind = cn_kind_at(i);
        bool exempt = kind->takes != CN_TAKES_PICTURE;
        for (size_t k = 0; k < CN_COUNT(none); k++) exempt |= strcmp(kind->name, none[k]) == 0;
        if (exempt != (kind->measure == CN_MEASURE_NONE)) fail_msg("%s", kind->name);
        if (kind->from_picture) assert_non_null(cn_kind_find(kind->from_picture));
    }
}

static int set_up(void **state)
{
    (void)state;
    return (ctx = cn_ctx_create(1)) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_map_agrees),
        cmocka_unit_test(an_empty_map_meets_nothing),
        cmocka_unit_test(tolerance_counts_both_ways),
        cmocka_unit_test(classes_are_counted_by_union),
        cmocka_unit_test(specks_are_no_class),
        cmocka_unit_test(depth_may_be_scaled_and_shifted),
        cmocka_unit_test(normals_differ_by_angles),
        cmocka_unit_test(people_are_compared_point_by_point),
        cmocka_unit_test(a_points_similarity_is_cocos),
        cmocka_unit_test(every_kind_that_draws_has_a_measure),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
