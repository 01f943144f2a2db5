/* SPDX-License-Identifier: Apache-2.0 */
/* test_resize.c - sizes and borders of resizing; tests/e2e/annotators.c compares with OpenCV. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/resize.h"

static int setup(void **state)
{
    *state = cn_ctx_create(1);
    return *state == NULL;
}

static int teardown(void **state)
{
    cn_ctx_destroy(*state);
    return 0;
}

/* A picture whose bytes say where they are: R = column, G = row. */
static cn_image *ramp(cn_ctx *ctx, int64_t w, int64_t h)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, w, h, &image), CN_OK);
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            image->rgb[(y * w + x) * 3] = (uint8_t)x;
            image->rgb[(y * w + x) * 3 + 1] = (uint8_t)y;
        }
    return image;
}

static void the_same_size_keeps_the_bytes(void **state)
{
    cn_image *in = ramp(*state, 19, 13);
    for (int f = CN_FILTER_NEAREST; f <= CN_FILTER_AREA; f++) {
        cn_image *out = NULL;
        assert_int_equal(cn_image_resize(*state, in, 19, 13, (cn_filter)f, &out), CN_OK);
        assert_memory_equal(in->rgb, out->rgb, 19 * 13 * 3);
        cn_image_destroy(out);
    }
    cn_image_destroy(in);
}

static void a_flat_picture_stays_flat(void **state)
{
    cn_image *in = NULL;
    assert_int_equal(cn_image_create(*state, 7, 5, &in), CN_OK);
    memset(in->rgb, 200, 7 * 5 * 3);
    static const int sizes[][2] = {{1, 1}, {2, 9}, {9, 2}, {14, 10}, {3, 3}, {64, 1}};
    for (int f = CN_FILTER_NEAREST; f <= CN_FILTER_AREA; f++)
        for (size_t i = 0; i < CN_COUNT(sizes); i++) {
            cn_image *out = NULL;
            int w = sizes[i][0], h = sizes[i][1];
            assert_int_equal(cn_image_resize(*state, in, w, h, (cn_filter)f, &out), CN_OK);
            for (int64_t p = 0; p < w * h * 3; p++) assert_in_range(out->rgb[p], 199, 201);
            cn_image_destroy(out);
        }
    cn_image_destroy(in);
}

static void sides_become_multiples_of_64(void **state)
{
    static const int64_t rows[][5] = {{384, 512, 256, 256, 320}, /* 341.3 / 64 = 5.33 */
                                      {100, 150, 64, 64, 128},   /* 96 / 64 = 1.5 -> 2 */
                                      {100, 250, 64, 64, 128},   /* 160 / 64 = 2.5 -> 2 */
                                      {30, 30, 100, 128, 128}};
    for (size_t i = 0; i < CN_COUNT(rows); i++) {
        cn_image *in = ramp(*state, rows[i][0], rows[i][1]), *out = NULL;
        assert_int_equal(cn_image_resize_64(*state, in, rows[i][2], &out), CN_OK);
        assert_int_equal(out->width, rows[i][3]);
        assert_int_equal(out->height, rows[i][4]);
        cn_image_destroy(in);
        cn_image_destroy(out);
    }
    cn_image *in = ramp(*state, 10, 10), *out = NULL;
    assert_int_equal(cn_image_resize_64(*state, in, 20, &out), CN_EINVAL);
    assert_int_equal(cn_image_resize_64(*state, in, 0, &out), CN_EINVAL);
    assert_int_equal(cn_image_resize_64(*state, in, INT64_MAX, &out), CN_EINVAL);
    cn_image_destroy(in);
}

static void cover_takes_the_centre(void **state)
{
    cn_image *in = ramp(*state, 100, 40), *out = NULL;
    assert_int_equal(cn_image_resize_cover(*state, in, 40, 40, &out), CN_OK);
    assert_int_equal(out->rgb[0], 30);
    assert_int_equal(out->rgb[39 * 3], 69);
    assert_int_equal(out->rgb[39 * 40 * 3 + 1], 39);
    cn_image_destroy(out);
    assert_int_equal(cn_image_resize_cover(*state, in, 20, 20, &out), CN_OK);
    assert_int_equal(out->rgb[0], 31); /* (30 + 31 + 30 + 31 + 2) >> 2 */
    cn_image_destroy(out);
    assert_int_equal(cn_image_resize_cover(*state, in, 64, 128, &out), CN_OK);
    assert_true(out->width == 64 && out->height == 128);
    cn_image_destroy(out);
    assert_int_equal(cn_image_resize_cover(*state, in, 0, 128, &out), CN_EINVAL);
    cn_image_destroy(in);
    in = ramp(*state, 1000, 1);
    assert_int_equal(cn_image_resize_cover(*state, in, 64, 64, &out), CN_OK);
    cn_image_destroy(out);
    cn_image_destroy(in);
}

static void a_factor_may_reach_past_the_edge(void **state)
{
    /* 3 * 0.5 rounds to 2: the second block has one column inside. */
    const uint8_t in[3] = {10, 20, 30};
    uint8_t out[2];
    cn_resize_spec spec = {CN_FILTER_AREA, 1, 3, 1, 2, 1, 0.5};
    assert_int_equal(cn_resize_u8(*state, &spec, in, out), CN_OK);
    assert_int_equal(out[0], 15);
    assert_int_equal(out[1], 30);
    for (int f = CN_FILTER_NEAREST; f <= CN_FILTER_AREA; f++)
        for (int64_t n = 1; n < 40; n++) {
            uint8_t many[40] = {0}, got[60];
            for (int k = 1; k < 14; k++) {
                double factor = 0.1 * k;
                cn_resize_spec any = {(cn_filter)f, 1, n, 1, 0, 1, factor};
                any.out_w = (int64_t)((double)n * factor + 0.5);
                if (any.out_w > 0) assert_int_equal(cn_resize_u8(*state, &any, many, got), CN_OK);
            }
        }
}

static void bad_sizes_are_refused(void **state)
{
    uint8_t in[3] = {0}, out[3];
    cn_resize_spec spec = {CN_FILTER_LINEAR, 1, 1, 1, 0, 3, 0};
    assert_int_equal(cn_resize_u8(*state, &spec, in, out), CN_EINVAL);
    spec = (cn_resize_spec){CN_FILTER_LINEAR, 1, 1, 1, INT64_MAX, 3, 0};
    assert_int_equal(cn_resize_u8(*state, &spec, in, out), CN_EINVAL);
    spec = (cn_resize_spec){CN_FILTER_LINEAR, 1, 1, 1, 1, 0, 0};
    assert_int_equal(cn_resize_u8(*state, &spec, in, out), CN_EINVAL);
}

static void alpha_goes_onto_white(void **state)
{
    const uint8_t rgba[12] = {10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 128}, gray[2] = {7, 9};
    uint8_t rgb[9];
    assert_int_equal(cn_hwc3(*state, rgba, 4, 3, rgb), CN_OK);
    const uint8_t wanted[9] = {10, 20, 30, 255, 255, 255, 126, 177, 227};
    assert_memory_equal(rgb, wanted, 9);
    assert_int_equal(cn_hwc3(*state, gray, 1, 2, rgb), CN_OK);
    assert_memory_equal(rgb, ((const uint8_t[]){7, 7, 7, 9, 9, 9}), 6);
    assert_int_equal(cn_hwc3(*state, gray, 2, 1, rgb), CN_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_size_keeps_the_bytes),
        cmocka_unit_test(a_flat_picture_stays_flat),
        cmocka_unit_test(sides_become_multiples_of_64),
        cmocka_unit_test(cover_takes_the_centre),
        cmocka_unit_test(a_factor_may_reach_past_the_edge),
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(alpha_goes_onto_white),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
