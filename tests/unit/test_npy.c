/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays of every type, order and byte order that numpy writes, damaged ones, and normals and depth
 * as pictures. */
#include "annotate/labels.h"
#include "io/npy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = cn_ctx_create(1);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    cn_ctx_destroy(*state);
    return 0;
}

/* A file of version 1 (or 2) with this dictionary and these bytes behind it. */
static size_t make(uint8_t *out, int version, const char *dictionary, const void *values, size_t n)
{
    const size_t header = strlen(dictionary), begin = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)version;
    out[7] = 0;
    for (size_t i = 0; i < begin - 8; i++) out[8 + i] = (uint8_t)(header >> 8 * i);
    memcpy(out + begin, dictionary, header);
    if (n) memcpy(out + begin + header, values, n);
    return begin + header + n;
}

static void every_type_and_order(void **state)
{
    static const struct {
        const char *type, *bytes;
        size_t each;
        bool single;
    } cases[] = {
        {"<f8",
         "\0\0\0\0\0\0\xf0\x3f"
         "\0\0\0\0\0\0\0\xc0",
         8, false},
        {">f8",
         "\x3f\xf0\0\0\0\0\0\0"
         "\xc0\0\0\0\0\0\0\0",
         8, false},
        {"<f4",
         "\0\0\x80\x3f"
         "\0\0\0\xc0",
         4, true},
        {">f4",
         "\x3f\x80\0\0"
         "\xc0\0\0\0",
         4, true},
        {"<f2",
         "\0\x3c"
         "\0\xc0",
         2, true},
        {"|i1",
         "\1"
         "\xfe",
         1, false},
        {"<i2",
         "\1\0"
         "\xfe\xff",
         2, false},
        {">i4",
         "\0\0\0\1"
         "\xff\xff\xff\xfe",
         4, false},
        {"<i8",
         "\1\0\0\0\0\0\0\0"
         "\xfe\xff\xff\xff\xff\xff\xff\xff",
         8, false},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char text[128];
        uint8_t file[256];
        cn_npy *a = NULL;
        snprintf(text, sizeof text,
                 "{'descr': '%s', 'fortran_order': False, 'shape': (2, 1), }   \n", cases[i].type);
        const size_t n = make(file, 1 + (int)(i % 3), text, cases[i].bytes, 2 * cases[i].each);
        if (cn_npy_load_memory(*state, file, n, &a) != CN_OK) fail_msg("%s", cn_error(*state));
        assert_int_equal(a->ndim, 2);
        assert_int_equal(a->shape[0], 2);
        assert_true(a->values[0] == 1 && a->values[1] == -2);
        assert_int_equal(a->single, cases[i].single);
        cn_npy_free(a);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(cn_npy_load_memory(*state, file, k, &a), CN_EFORMAT);
    }
}

static void fortran_order_becomes_c_order(void **state)
{
    uint8_t file[256], values[2 * 3 * 4];
    cn_npy *a = NULL;
    for (int x = 0; x < 2; x++)
        for (int y = 0; y < 3; y++)
            for (int z = 0; z < 4; z++)
                values[x + 2 * (y + 3 * z)] = (uint8_t)(100 * x + 10 * y + z);
    size_t n = make(file, 1, "{'fortran_order': True, 'shape': (2, 3, 4), 'descr': '|u1'}", values,
                    sizeof values);
    assert_int_equal(cn_npy_load_memory(*state, file, n, &a), CN_OK);
    for (int x = 0; x < 2; x++)
        for (int y = 0; y < 3; y++)
            for (int z = 0; z < 4; z++)
                assert_true(a->values[(x * 3 + y) * 4 + z] == 100 * x + 10 * y + z);
    cn_npy_free(a);
    n = make(file, 1, "{'descr': '|b1', 'fortran_order': False, 'shape': ()}", "\7", 1);
    assert_int_equal(cn_npy_load_memory(*state, file, n, &a), CN_OK);
    assert_int_equal(a->elements, 1);
    assert_true(a->values[0] == 1);
    cn_npy_free(a);
}

static void small_halves(void **state)
{
    static const uint8_t bits[] = {1, 0, 0xff, 3, 0, 0x7c, 1, 0x7c};
    uint8_t file[256];
    cn_npy *a = NULL;
    const size_t n =
        make(file, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (4,)}", bits, sizeof bits);
    assert_int_equal(cn_npy_load_memory(*state, file, n, &a), CN_OK);
    assert_true(a->values[0] == ldexp(1, -24) && a->values[1] == ldexp(1023, -24));
    assert_true(isinf(a->values[2]) && isnan(a->values[3]));
    cn_npy_free(a);
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", "type '<c8'"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "type '|O'"},
        {"{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", "type '<f3'"},
        {"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}", "records"},
        {"{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", "fortran_order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,-1)}", "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1)}", "more than 4"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999,99999999)}", "elements"},
        {"{'descr': '<f4', 'fortran_order': False}", "are expected"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}", "unknown key"},
        {"['descr']", "no dictionary"},
        {"", "no dictionary"},
    };
    uint8_t file[256];
    cn_npy *a = NULL;
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        const size_t n = make(file, 1, cases[i].text, "\0\0\0\0", 4);
        assert_int_equal(cn_npy_load_memory(*state, file, n, &a), CN_EFORMAT);
        if (!strstr(cn_error(*state), cases[i].message))
            fail_msg("%s: '%s'", cases[i].text, cn_error(*state));
    }
    assert_int_equal(cn_npy_load_memory(*state, "\x93NUMPY\4\0abcdefgh", 16, &a), CN_EFORMAT);
    assert_int_equal(cn_npy_load(*state, "/nonexistent/a.npy", &a), CN_EIO);
}

static void normals_and_their_holes(void **state)
{
    double n[5][3] = {{0, 0, 1}, {0, 0, 0}, {-1, 0.5, 2}, {NAN, 1, 1}, {1, 1, 1}};
    double mask[5] = {1, 1, 1, 1, 0};
    cn_npy a = {.ndim = 3, .shape = {1, 5, 3}, .elements = 15, .values = n[0]};
    cn_npy valid = {.ndim = 2, .shape = {1, 5}, .elements = 5, .values = mask};
    cn_image *image = NULL;
    static const uint8_t wanted[15] = {127, 127, 255, 127, 127, 127, 0,  191,
                                       255, 127, 127, 127, 127, 127, 127};
    assert_int_equal(cn_normals_colors(*state, &a, &valid, &image), CN_OK);
    assert_memory_equal(image->rgb, wanted, sizeof wanted);
    cn_image_destroy(image);
    valid.shape[1] = 4;
    assert_int_equal(cn_normals_colors(*state, &a, &valid, &image), CN_EFORMAT);
    a.ndim = 2;
    assert_int_equal(cn_normals_colors(*state, &a, NULL, &image), CN_EFORMAT);
    assert_non_null(strstr(cn_error(*state), "[1, 5]; [height, width, 3] is expected"));
}

static void depth_near_is_bright(void **state)
{
    double d[6] = {1, 2, 0, INFINITY, 4, 0.5}, mask[6] = {1, 1, 1, 1, 1, 0};
    cn_npy a = {.ndim = 3, .shape = {2, 3, 1}, .elements = 6, .values = d};
    cn_npy valid = {.ndim = 2, .shape = {2, 3}, .elements = 6, .values = mask};
    cn_image *image = NULL;
    static const uint8_t wanted[6] = {255, 85, 0, 0, 0, 0};
    assert_int_equal(cn_metric_depth_map(*state, &a, &valid, &image), CN_OK);
    for (int i = 0; i < 6; i++) assert_int_equal(image->rgb[3 * i], wanted[i]);
    cn_image_destroy(image);
    for (int i = 0; i < 6; i++) d[i] = 3; /* flat */
    assert_int_equal(cn_metric_depth_map(*state, &a, NULL, &image), CN_OK);
    assert_int_equal(image->rgb[0], 0);
    cn_image_destroy(image);
}

/* A plane that recedes to the right leans the same way everywhere but at its rim; holes and flat
 * walls face us. */
static void normals_from_depth(void **state)
{
    enum { W = 32, H = 16 };
    double d[W * H];
    cn_npy a = {.ndim = 2, .shape = {H, W}, .elements = W * H, .values = d};
    cn_image *image = NULL;
    for (int i = 0; i < W * H; i++) d[i] = 1 / (1 - 0.5 * (i % W) / W);
    assert_int_equal(cn_metric_normals(*state, &a, NULL, 1500, 6.25, 0, &image), CN_OK);
    /* Sobel: 8 times the slope of 1500 (1 - x / 64), a quarter of which 6.25 is small against */
    const double slope = -8 * 1500.0 / 64, length = sqrt(slope * slope + 6.25 * 6.25);
    const uint8_t wanted[3] = {(uint8_t)(slope / length * 127.5 + 127.5), 127,
                               (uint8_t)(6.25 / length * 127.5 + 127.5)};
    for (int y = 0; y < H; y++)
        for (int x = 1; x + 1 < W; x++)
            for (int c = 0; c < 3; c++)
                assert_in_range(image->rgb[3 * (y * W + x) + c] + 1 - wanted[c], 0, 2);
    cn_image_destroy(image);
    for (int i = 0; i < W * H; i++) d[i] = i < 8 ? 0 : 3;
    d[8] = NAN;
    assert_int_equal(cn_metric_normals(*state, &a, NULL, 1500, 6.25, 0.4, &image), CN_OK);
    const uint8_t facing[3] = {127, 127, 255};
    assert_memory_equal(image->rgb, facing, 3);
    assert_memory_equal(image->rgb + 3 * (W * H - 1), facing, 3);
    cn_image_destroy(image);
    a.ndim = 1;
    assert_int_equal(cn_metric_normals(*state, &a, NULL, 1500, 6.25, 0, &image), CN_EFORMAT);
}

static void normals_as_opencv_computes_them(void **state)
{
    cn_npy *depth = NULL;
    cn_image *wanted = NULL, *made = NULL;
    assert_int_equal(cn_npy_load(*state, "tests/golden/opencv/depth.npy", &depth), CN_OK);
    assert_int_equal(cn_image_load(*state, "tests/golden/opencv/normals.png", &wanted), CN_OK);
    assert_int_equal(cn_metric_normals(*state, depth, NULL, 40, 6.25, 0.3, &made), CN_OK);
    assert_true(made->width == wanted->width && made->height == wanted->height);
    assert_memory_equal(made->rgb, wanted->rgb, (size_t)(3 * wanted->width * wanted->height));
    cn_image_destroy(made);
    cn_image_destroy(wanted);
    cn_npy_free(depth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_order),
        cmocka_unit_test(fortran_order_becomes_c_order),
        cmocka_unit_test(small_halves),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(normals_and_their_holes),
        cmocka_unit_test(depth_near_is_bright),
        cmocka_unit_test(normals_from_depth),
        cmocka_unit_test(normals_as_opencv_computes_them),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
