/* SPDX-License-Identifier: Apache-2.0 */
/* test_poses.c - OpenPose, depth, normals and segmentation: drawing primitives, pictures without
 * people or depth, names and sizes; tests/e2e/annotators.c compares with stored cases. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "annotate/annotate.h"
#include "image/raster.h"
#include "annotate/midas.h"
#include "annotate/pose/pose.h"
#include "annotate/uniformer.h"

static const uint8_t white[3] = {255, 255, 255};

static int setup(void **state)
{
    *state = cn_ctx_create(0);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    cn_ctx_destroy(*state);
    return 0;
}

/* --- drawing ---------------------------------------------------------------------------------- */

enum { W = 16, H = 8 };

/* rows: '#' is drawn. */
static void assert_drawn(const cn_image *image, const char *const rows[H])
{
    for (int y = 0; y < H; y++) {
        char row[W + 1] = "";
        for (int x = 0; x < W; x++) row[x] = image->rgb[3 * (y * W + x)] ? '#' : '.';
        assert_string_equal(row, rows[y]);
    }
}

static cn_image *canvas(cn_ctx *ctx)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, W, H, &image), CN_OK);
    return image;
}

/* What OpenCV 5.0 draws. */
static void lines_are_opencvs(void **state)
{
    static const char *const thin[H] = {
        "................", "................", "...........##...", "#.......###.....",
        ".#....##........", "..####..........", ".###............", "....#...........",
    };
    static const char *const wide[H] = {
        "............####", "..........######", ".......#######..", ".....######.....",
        "...######.......", "..#####.........", "...#............", "................",
    };
    cn_image *image = canvas(*state);
    cn_draw_line(image, (cn_point){1, 6}, (cn_point){12, 2}, white);
    cn_draw_line(image, (cn_point){-5, -3}, (cn_point){9, 12}, white);
    cn_draw_line(image, (cn_point){-9, 3}, (cn_point){-2, 40}, white); /* beside it */
    assert_drawn(image, thin);
    cn_image_destroy(image);
    image = canvas(*state);
    cn_draw_wide_line(image, (cn_point){3, 5}, (cn_point){25, -4}, 2, white);
    assert_drawn(image, wide);
    cn_image_destroy(image);
}

static void shapes_are_opencvs(void **state)
{
    static const char *const disk[H] = {
        "..#####.........", ".#######........", ".#######........", "#########.......",
        ".#######........", ".#######......#.", "..#####......###", "....#.........#.",
    };
    static const char *const ellipse[H] = {
        "................", ".........######.", ".......########.", ".....##########.",
        "...###########..", "..##########....", "..########......", "..######........",
    };
    cn_point corners[CN_ELLIPSE_POINTS];
    cn_image *image = canvas(*state);
    cn_draw_disk(image, (cn_point){4, 3}, 4, white);
    cn_draw_disk(image, (cn_point){14, 6}, 1, white);
    assert_drawn(image, disk);
    cn_image_destroy(image);
    image = canvas(*state);
    const int n = cn_ellipse_polygon((cn_point){8, 4}, 7, 2, -25, corners);
    cn_draw_convex(image, corners, n, white);
    assert_drawn(image, ellipse);
    cn_image_destroy(image);
}

/* Far ends must neither overflow nor take long. */
static void far_points_are_harmless(void **state)
{
    static const int64_t far[] = {INT64_MIN, -5000000, 3, 7000000, INT64_MAX};
    cn_image *image = canvas(*state);
    for (size_t i = 0; i < CN_COUNT(far); i++)
        for (size_t k = 0; k < CN_COUNT(far); k++) {
            const cn_point a = {far[i], far[k]}, b = {far[k], 2}, c = {1, far[i]};
            cn_draw_line(image, a, b, white);
            cn_draw_wide_line(image, a, c, 2, white);
            cn_draw_disk(image, a, 4, white);
            cn_draw_convex(image, (cn_point[]){a, b, c}, 3, white);
        }
    cn_image_destroy(image);
}

/* --- borders ---------------------------------------------------------------------------------- */

static void nobody_is_black(void **state)
{
    const cn_pose pose = {.height = 5, .width = 3};
    for (int v = 0; v < 2; v++) {
        const cn_pose_drawing d = {.version = v ? CN_POSE_V11 : CN_POSE_V10, .pose = &pose};
        cn_image *made = NULL;
        assert_int_equal(cn_pose_draw(*state, &d, &made), CN_OK);
        assert_true(made->width == 3 && made->height == 5);
        for (int i = 0; i < 45; i++) assert_int_equal(made->rgb[i], 0);
        cn_image_destroy(made);
    }
}

static void flat_depth_is_black(void **state)
{
    float depth[6] = {2, 2, 2, 2, 2, 2};
    cn_image *made = NULL;
    assert_int_equal(cn_depth_picture(*state, depth, 2, 3, &made), CN_OK);
    for (int i = 0; i < 18; i++) assert_int_equal(made->rgb[i], 0);
    cn_image_destroy(made);
    made = NULL;
    assert_int_equal(cn_normal_picture(*state, depth, 1, 1, 6.2, 0.4, &made), CN_OK);
    assert_true(made->rgb[0] == 127 && made->rgb[1] == 127 && made->rgb[2] == 255);
    cn_image_destroy(made);
}

static void names_stand_for_kinds(void **state)
{
    static const struct {
        const char *name, *kind;
        double hand, face;
    } names[] = {{"openpose", "openpose", 0, 0},
                 {"openpose_hand", "openpose", 1, 0},
                 {"openpose-face", "openpose", 0, 1},
                 {"openpose_full", "openpose", 1, 1}};
    cn_annotate_args args;
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        assert_int_equal(cn_annotate_read(*state, names[i].name, &args), CN_OK);
        assert_string_equal(args.kind->name, names[i].kind);
        assert_true(args.values[1] == names[i].hand && args.values[2] == names[i].face);
        assert_int_equal(args.detect_resolution, 512);
    }
    assert_int_equal(cn_annotate_read(*state, "depth_midas", &args), CN_OK);
    assert_int_equal(args.detect_resolution, 384);
    assert_int_equal(cn_annotate_read(*state, "seg_ufade20k", &args), CN_OK);
    assert_string_equal(args.kind->name, "seg");
}

static void the_network_sees_at_most_2048(void **state)
{
    int64_t h, w;
    (void)state;
    cn_seg_size(480, 640, &h, &w);
    assert_true(h == 512 && w == 683);
    cn_seg_size(100, 1000, &h, &w);
    assert_true(h == 205 && w == 2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_opencvs),
        cmocka_unit_test(shapes_are_opencvs),
        cmocka_unit_test(far_points_are_harmless),
        cmocka_unit_test(nobody_is_black),
        cmocka_unit_test(flat_depth_is_black),
        cmocka_unit_test(names_stand_for_kinds),
        cmocka_unit_test(the_network_sees_at_most_2048),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
