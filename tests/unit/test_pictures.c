/* SPDX-License-Identifier: Apache-2.0 */
/* test_pictures.c - picture files of every format but PNG, JPEG and WebP (test_image.c has these)
 * against what Pillow reads (tools/make-file-fixtures.py), and what is left out or damaged. */
#include "../support/unit/unit.h"
#include "../support/values.h"
#include "image/image.h"
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

/* Exact, but where another decoder rounds differently: YCbCr to RGB in AVIF and JPEG, XYB to RGB in
 * JPEG XL, colours that libtiff has multiplied by their alpha. */
static int tolerance(const char *name)
{
    if (strstr(name, "lossy") || strstr(name, "half the colours")) return 6;
    return strstr(name, "AVIF") || strstr(name, "JPEG") || strstr(name, "alpha") ? 2 : 0;
}

/* Whether this build reads it; where not, the message names kind and library. */
static bool is_read(const uint8_t *file, size_t n, const char *name, cn_image **image)
{
    const cn_status s = cn_image_load_memory(ctx, file, n, image);
    if (s == CN_OK) return true;
    if (!strstr(cn_error(ctx), "made without")) fail_msg("%s: %s", name, cn_error(ctx));
    return false;
}

static void check_size(const uint8_t *file, size_t n, const cn_image *image, const char *name)
{
    int64_t w = 0, h = 0;
    for (size_t k = 0; k <= n; k++) { /* from a part of the file, or not at all */
        if (cn_image_size_memory(ctx, file, k, &w, &h) != CN_OK) {
            if (k == n) fail_msg("%s: size: %s", name, cn_error(ctx));
            continue;
        }
        if (w != image->width || h != image->height)
            fail_msg("%s: %lld x %lld by %zu bytes", name, (long long)w, (long long)h, k);
    }
}

static void check_pixels(const json_t *c, const cn_image *image, const char *name)
{
    size_t n;
    uint8_t *want = test_hex(json_string_value(json_object_get(c, "rgb")), &n);
    assert_int_equal(image->width, json_integer_value(json_object_get(c, "width")));
    assert_int_equal(image->height, json_integer_value(json_object_get(c, "height")));
    for (size_t k = 0; k < n; k++)
        if (abs(image->rgb[k] - want[k]) > tolerance(name))
            fail_msg("%s: byte %zu is %d, wanted %d", name, k, image->rgb[k], want[k]);
    free(want);
}

static void pictures_are_what_pillow_reads(void **state)
{
    (void)state;
    json_t *cases = NULL, *c;
    size_t i, read = 0;
    must(cn_json_load_file(ctx, "tests/golden/files/pictures.json", &cases));
    json_array_foreach(cases, i, c)
    {
        size_t n;
        cn_image *image = NULL;
        const char *name = json_string_value(json_object_get(c, "name"));
        uint8_t *file = test_hex(json_string_value(json_object_get(c, "file")), &n);
        if (is_read(file, n, name, &image)) {
            check_pixels(c, image, name);
            check_size(file, n, image, name);
            read++;
        }
        cn_image_destroy(image);
        free(file);
    }
    print_message("%zu of %zu read\n", read, json_array_size(cases));
    assert_true(json_array_size(cases) > 35 && read >= 5);
    json_decref(cases);
}

/* Cut anywhere, or with any byte changed, a file is read or refused; never more. */
static void damaged_pictures_end_in_one_message(void **state)
{
    (void)state;
    json_t *cases = NULL, *c;
    size_t i, refused = 0;
    must(cn_json_load_file(ctx, "tests/golden/files/pictures.json", &cases));
    json_array_foreach(cases, i, c)
    {
        size_t n;
        uint8_t *file = test_hex(json_string_value(json_object_get(c, "file")), &n);
        for (size_t k = 0; k < n; k += 7) {
            cn_image *image = NULL;
            file[k] ^= 0x55;
            refused += cn_image_load_memory(ctx, file, n, &image) != CN_OK;
            cn_image_destroy(image);
            image = NULL;
            file[k] ^= 0x55;
            refused += cn_image_load_memory(ctx, file, k, &image) != CN_OK;
            cn_image_destroy(image);
        }
        free(file);
    }
    assert_true(refused > 500);
    json_decref(cases);
}

static void refuse(const char *bytes, size_t n, const char *says)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_load_memory(ctx, bytes, n, &image), CN_EFORMAT);
    if (!strstr(cn_error(ctx), says)) fail_msg("\"%s\" lacks \"%s\"", cn_error(ctx), says);
}

static void other_files_are_named(void **state)
{
    (void)state;
    refuse("", 0, "the file is empty");
    refuse("some text", 9, "PNG, JPEG, WebP");
    refuse("\0\0\0\x18"
           "ftypheic\0\0\0\0",
           16, "a HEIC image; PNG");
    refuse("8BPS\0\1", 6, "a Photoshop file");
    refuse("PAR1....", 8, "a Parquet file");
    /* pixels that a few bytes can't hold */
    refuse("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\x10\0\0\0\x10\0\0\1\0\x18\0\0\0\0\0\0\0\0\0\0"
           "\0\0\0"
           "\0\0\0\0\0\0\0\0\0\0\0\0",
           54, "damaged BMP: the file is truncated");
}

/* Run lengths by hand: 4 x 2, a run of three and a literal of... (Microsoft's "Bitmap Compression",
 * RLE8), from the lower line up. */
static void run_lengths_are_read(void **state)
{
    (void)state;
    static const uint8_t head[] = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 62, 0, 0, 0, /* file */
                                   40,  0,   0, 0, 4, 0, 0, 0, 2, 0, 0,  0, 1, 0,
                                   8,   0,   1, 0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0,
                                   0,   0,   0, 0, 2, 0, 0, 0, 0, 0, 0,  0, /* two colours */
                                   0,   0,   0, 0, 1, 2, 3, 0};
    static const uint8_t pixels[] = {3, 1, 0, 0,              /* 1 1 1 and the line's end */
                                     0, 4, 0, 1, 0, 1, 0, 1}; /* as they are; the end */
    static const uint8_t want[8] = {0, 1, 0, 1, 1, 1, 1, 0};
    uint8_t file[sizeof head + sizeof pixels];
    cn_image *image = NULL;
    memcpy(file, head, sizeof head);
    memcpy(file + sizeof head, pixels, sizeof pixels);
    must(cn_image_load_memory(ctx, file, sizeof file, &image));
    assert_true(image->width == 4 && image->height == 2);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(image->rgb[3 * i], want[i] ? 3 : 0);
        assert_int_equal(image->rgb[3 * i + 2], want[i]);
    }
    cn_image_destroy(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_what_pillow_reads),
        cmocka_unit_test(damaged_pictures_end_in_one_message),
        cmocka_unit_test(other_files_are_named),
        cmocka_unit_test(run_lengths_are_read),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
