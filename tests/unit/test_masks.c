/* SPDX-License-Identifier: Apache-2.0 */
/* test_masks.c - masks in every form a picture has, against what stable-diffusion-webui takes from
 * the same files (tools/make-file-fixtures.py, by Pillow). */
#include "../support/unit/unit.h"
#include "../support/values.h"
#include "image/inpaint.h"
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

/* As PIL's "L" counts it. */
static int luminance(const uint8_t *p)
{
    return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16;
}

static void masks_are_what_webui_takes(void **state)
{
    (void)state;
    json_t *cases = NULL, *c;
    size_t i;
    must(cn_json_load_file(ctx, "tests/golden/files/masks.json", &cases));
    assert_true(json_array_size(cases) > 15);
    json_array_foreach(cases, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        size_t n, m;
        uint8_t *file = test_hex(json_string_value(json_object_get(c, "file")), &n);
        uint8_t *want = test_hex(json_string_value(json_object_get(c, "mask")), &m);
        cn_image *mask = NULL;
        must(cn_mask_load_memory(ctx, file, n, &mask));
        assert_int_equal(mask->width, json_integer_value(json_object_get(c, "width")));
        assert_int_equal(mask->height, json_integer_value(json_object_get(c, "height")));
        for (size_t k = 0; k < m; k++)
            if (luminance(mask->rgb + 3 * k) != want[k])
                fail_msg("%s: pixel %zu is %d, wanted %d", name, k, luminance(mask->rgb + 3 * k),
                         want[k]);
        cn_image_destroy(mask);
        free(file);
        free(want);
    }
    json_decref(cases);
}

/* Condition pictures are put on white as before. */
static void pictures_are_put_on_white(void **state)
{
    (void)state;
    json_t *cases = NULL;
    must(cn_json_load_file(ctx, "tests/golden/files/masks.json", &cases));
    const json_t *c = json_array_get(cases, 1);
    assert_string_equal(json_string_value(json_object_get(c, "name")),
                        "black on transparent ground");
    size_t n;
    uint8_t *file = test_hex(json_string_value(json_object_get(c, "file")), &n);
    cn_image *image = NULL;
    must(cn_image_load_memory(ctx, file, n, &image));
    assert_int_equal(image->rgb[0], 255);
    assert_int_equal(image->rgb[3 * 6 * 2], 0);
    cn_image_destroy(image);
    free(file);
    json_decref(cases);
}

/* --- drawing under a mask --------------------------------------------------------------------- */

static void same_bytes(const json_t *c, const char *key, const uint8_t *have)
{
    size_t n;
    uint8_t *want = test_hex(json_string_value(json_object_get(c, key)), &n);
    for (size_t k = 0; k < n; k++)
        if (have[k] != want[k])
            fail_msg("%s: %s: byte %zu is %d, wanted %d",
                     json_string_value(json_object_get(c, "name")), key, k, have[k], want[k]);
    free(want);
}

static cn_image *picture_of(const json_t *c, const char *key)
{
    size_t n;
    cn_image *image = NULL;
    uint8_t *rgb = test_hex(json_string_value(json_object_get(c, key)), &n);
    must(cn_image_create(ctx, json_integer_value(json_object_get(c, "width")),
                         json_integer_value(json_object_get(c, "height")), &image));
    assert_int_equal(n, image->width * image->height * 3);
    memcpy(image->rgb, rgb, n);
    free(rgb);
    return image;
}

static int64_t number(const json_t *list, size_t i)
{
    return json_integer_value(json_array_get(list, i));
}

static void check_area(const json_t *c, const uint8_t *soft, int64_t w, int64_t h)
{
    const json_t *draw = json_object_get(c, "draw"), *want = json_object_get(c, "area");
    cn_area area;
    assert_true(cn_mask_area(soft, w, h, json_integer_value(json_object_get(c, "padding")),
                             number(draw, 0), number(draw, 1), &area));
    assert_int_equal(area.x, number(want, 0));
    assert_int_equal(area.y, number(want, 1));
    assert_int_equal(area.width, number(want, 2));
    assert_int_equal(area.height, number(want, 3));
}

static void check_latents(const json_t *c, const uint8_t *soft, int64_t w, int64_t h)
{
    float latents[64];
    uint8_t bytes[64];
    const int64_t n = (w / 8) * (h / 8);
    assert_true(n <= 64);
    must(cn_mask_latents(ctx, soft, w, h, 8, latents));
    for (int64_t i = 0; i < n; i++) bytes[i] = (uint8_t)latents[i];
    same_bytes(c, "latents", bytes);
}

static void inpainting_is_webuis(void **state)
{
    (void)state;
    json_t *cases = NULL, *c;
    size_t i, n;
    must(cn_json_load_file(ctx, "tests/golden/files/inpaint.json", &cases));
    assert_true(json_array_size(cases) > 5);
    json_array_foreach(cases, i, c)
    {
        cn_image *image = picture_of(c, "image"), *drawn = picture_of(c, "drawn");
        const int64_t w = image->width, h = image->height;
        uint8_t *mask = test_hex(json_string_value(json_object_get(c, "mask")), &n);
        const int blur = (int)json_integer_value(json_object_get(c, "blur"));
        must(cn_mask_soften(ctx, mask, w, h, blur));
        same_bytes(c, "soft", mask);
        check_area(c, mask, w, h);
        check_latents(c, mask, w, h);
        cn_inpaint_overlay(drawn, image, mask);
        same_bytes(c, "over", drawn->rgb);
        must(cn_inpaint_fill(ctx, image, mask));
        same_bytes(c, "filled", image->rgb);
        cn_image_destroy(image);
        cn_image_destroy(drawn);
        free(mask);
    }
    json_decref(cases);
}

static void a_black_mask_has_no_area(void **state)
{
    (void)state;
    static const uint8_t black[6 * 4];
    cn_area area;
    assert_false(cn_mask_area(black, 6, 4, 3, 64, 64, &area));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_what_webui_takes),
        cmocka_unit_test(pictures_are_put_on_white),
        cmocka_unit_test(inpainting_is_webuis),
        cmocka_unit_test(a_black_mask_has_no_area),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
