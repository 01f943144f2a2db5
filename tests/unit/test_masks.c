/* SPDX-License-Identifier: Apache-2.0 */
/* test_masks.c - masks in every form a picture has, against what stable-diffusion-webui takes from
 * the same files (tools/make-file-fixtures.py, by Pillow). */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_what_webui_takes),
        cmocka_unit_test(pictures_are_put_on_white),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
