/* SPDX-License-Identifier: Apache-2.0 */
/* COCO's masks against the COCO API's (tests/golden/coco, or the file that CN_COCO_CASES names),
 * files of annotations, and what is wrong with them. */
#include "data/coco.h"
#include "data/coco_mask.h"
#include "annotate/labels.h"
#include "io/json.h"

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

static int32_t *painted(cn_ctx *ctx, const json_t *segmentation, int64_t w, int64_t h,
                        int64_t *area)
{
    cn_coco_mask mask = {0};
    int32_t *columns = cn_alloc0(ctx, (size_t)(w * h) * sizeof *columns);
    assert_non_null(columns);
    if (cn_coco_mask_parse(ctx, segmentation, w, h, &mask) != CN_OK) fail_msg("%s", cn_error(ctx));
    cn_coco_mask_paint(&mask, 1, columns);
    *area = mask.area;
    cn_coco_mask_free(&mask);
    return columns;
}

static void masks_as_the_api_makes_them(void **state)
{
    cn_ctx *ctx = *state;
    const char *given = getenv("CN_COCO_CASES");
    json_t *cases = NULL;
    size_t i;
    const json_t *c;
    if (cn_json_load_file(ctx, given ? given : "tests/golden/coco/masks.json", &cases) != CN_OK)
        fail_msg("%s", cn_error(ctx));
    json_array_foreach(cases, i, c)
    {
        const int64_t w = cn_json_int(c, "width", 0), h = cn_json_int(c, "height", 0);
        int64_t area = 0, wanted_area = 0;
        json_t *packed = json_pack("{s:[II],s:O}", "size", (json_int_t)h, (json_int_t)w, "counts",
                                   json_object_get(c, "mask"));
        int32_t *made = painted(ctx, json_object_get(c, "segmentation"), w, h, &area);
        int32_t *wanted = painted(ctx, packed, w, h, &wanted_area);
        if (memcmp(made, wanted, (size_t)(w * h) * sizeof *made) != 0)
            fail_msg("case %zu: other pixels than the API's", i);
        assert_int_equal(area, cn_json_int(c, "area", -1));
        assert_int_equal(wanted_area, area);
        cn_free(made);
        cn_free(wanted);
        json_decref(packed);
    }
    assert_true(i > 0);
    json_decref(cases);
}

static const char instances[] =
    "{\"info\": {\"note\": \"a \\\"]}\\\" in a string\\\\\"}, \"licenses\": [[{}], []],\n"
    " \"annotations\": [\n"
    "  {\"id\": 1, \"image_id\": 7, \"category_id\": 1, \"iscrowd\": 0, \"segmentation\": [[1, 1, "
    "3, 1, 3, 3, 1, 3]]},\n"
    "  {\"id\": 2, \"image_id\": 7, \"category_id\": 18, \"segmentation\": {\"size\": [4, 6], "
    "\"counts\": [0, 24]}},\n"
    "  {\"id\": 3, \"image_id\": 9, \"category_id\": 1, \"iscrowd\": 1, \"segmentation\": "
    "{\"size\": [2, 2], \"counts\": \"04\"}},\n"
    "  {\"id\": 4, \"image_id\": 9, \"category_id\": 5000}],\n"
    " \"images\": [{\"id\": 9, \"width\": 2, \"height\": 2, \"file_name\": \"b.jpg\"},\n"
    "  {\"id\": 7, \"width\": 6, \"height\": 4, \"file_name\": \"train/a.jpg\"}]}";

static const char captions[] =
    "{\"annotations\": [{\"image_id\": 7, \"id\": 1, \"caption\": \" A dog\\non a sofa. \\n\"},\n"
    "  {\"image_id\": 4, \"id\": 2, \"caption\": \"of another set\"},\n"
    "  {\"image_id\": 7, \"id\": 3, \"caption\": \"Second\"}]}";

static void large_masks_lie_below(void **state)
{
    cn_coco *c = NULL;
    cn_image *image = NULL;
    char *text = NULL;
    assert_int_equal(cn_coco_open_memory(*state, instances, sizeof instances - 1, captions,
                                         sizeof captions - 1, &c),
                     CN_OK);
    assert_int_equal(cn_coco_count(c), 2);
    assert_int_equal(cn_coco_find(c, "photos/a.jpg"), 1);
    assert_int_equal(cn_coco_find(c, "c.jpg"), -1);
    assert_int_equal(cn_coco_colors(*state, c, 1, true, &image), CN_OK);
    assert_int_equal(image->width, 6);
    assert_memory_equal(image->rgb, cn_coco_color(18), 3);
    assert_memory_equal(image->rgb + 3 * (1 * 6 + 1), cn_coco_color(1), 3);
    cn_image_destroy(image);
    assert_int_equal(cn_coco_captions(c, 1), 2);
    assert_int_equal(cn_coco_captions(c, 0), 0);
    assert_int_equal(cn_coco_caption(*state, c, 1, 0, &text), CN_OK);
    assert_string_equal(text, "A dog on a sofa.");
    cn_free(text);
    static const uint8_t black[3] = {0};
    for (int crowd = 0; crowd < 2; crowd++) {
        assert_int_equal(cn_coco_colors(*state, c, 0, crowd, &image), CN_OK);
        assert_memory_equal(image->rgb, crowd ? cn_coco_color(1) : black, 3);
        cn_image_destroy(image);
    }
    cn_coco_close(c);
}

static void categories_have_colours(void **state)
{
    (void)state;
    static const uint8_t person[3] = {220, 20, 60};
    assert_memory_equal(cn_coco_color(1), person, 3);
    assert_memory_equal(cn_coco_color(12), cn_ade20k_palette[11], 3); /* COCO left 12 out */
    assert_non_null(cn_coco_color(INT32_MAX));
    for (int i = 0; cn_palette_at(i); i++) {
        const cn_palette *p = cn_palette_at(i);
        assert_ptr_equal(cn_palette_find(p->name), p);
        for (int k = 0; k < p->n; k++) assert_non_null(p->names[k]);
        for (int k = 1; k < p->n; k++) assert_true(cn_palette_id(p, k) > cn_palette_id(p, k - 1));
    }
}

static void bad_segmentations(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[[1, 2, 3]]", "pairs of x and y"},
        {"[[1, 2, 3, 4, \"5\", 6]]", "coordinate 4"},
        {"[[1, 2, 3, 4, 1e300, 6]]", "coordinate 4"},
        {"[5]", "pairs of x and y"},
        {"7", "list of polygons or run lengths"},
        {"{\"counts\": [24]}", "a mask of 0 x 0"},
        {"{\"size\": [6, 4], \"counts\": [24]}", "a mask of 4 x 6 for a picture of 6 x 4"},
        {"{\"size\": [4, 6], \"counts\": [20]}", "4 px before"},
        {"{\"size\": [4, 6], \"counts\": [20, 5]}", "5 px, 4 are left"},
        {"{\"size\": [4, 6], \"counts\": [-1, 25]}", "run 0"},
        {"{\"size\": [4, 6], \"counts\": [1.5]}", "whole number"},
        {"{\"size\": [4, 6], \"counts\": 4}", "list or a string"},
        {"{\"size\": [4, 6], \"counts\": \"~~\"}", "damaged run-length string"},
        {"{\"size\": [4, 6], \"counts\": \"PPPPPPPPPPPP0\"}", "damaged run-length string"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_coco_mask mask = {0};
        json_t *s = json_loads(cases[i].text, JSON_DECODE_ANY, NULL);
        assert_non_null(s);
        assert_int_equal(cn_coco_mask_parse(*state, s, 6, 4, &mask), CN_EFORMAT);
        if (!strstr(cn_error(*state), cases[i].message))
            fail_msg("%s: '%s'", cases[i].text, cn_error(*state));
        json_decref(s);
    }
}

static void bad_files(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "an object {...} expected"},
        {"[1]", "an object {...} expected"},
        {"{\"images\": []}", "its list of images is empty"},
        {"{\"annotations\": []}", "no \"images\""},
        {"{\"images\": [{\"id\": 1, \"width\": 4, \"height\": 4}]}", "\"file_name\" is missing"},
        {"{\"images\": [{\"id\": 1, \"width\": 0, \"height\": 4, \"file_name\": \"a\"}]}",
         "an image of 0 x 4"},
        {"{\"images\": [{\"id\": 1, \"width\": 4, \"height\": 4, \"file_name\": \"a\"}]}",
         "no \"annotations\""},
        {"{\"images\": [{\"id\": 1, \"width\": 4, \"height\": 4, \"file_name\": \"a\"},"
         "{\"id\": 1, \"width\": 4, \"height\": 4, \"file_name\": \"b\"}], \"annotations\": []}",
         "two pictures"},
        {"{\"images\": [{\"id\": 1, \"width\": 4, \"height\": 4, \"file_name\": \"a\"}],"
         " \"annotations\": [{\"image_id\": 2}]}",
         "isn't listed"},
        {"{\"images\": [{\"id\": 1, \"width\": 4, ", "doesn't end"},
        {"{\"images\": [7]}", "an object {...} expected"},
        {"{\"images\": [{\"id\" 1}]}", "not valid JSON"},
        {"{\"info\": \"\\", "doesn't end"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_coco *c = NULL;
        assert_int_equal(
            cn_coco_open_memory(*state, cases[i].text, strlen(cases[i].text), NULL, 0, &c),
            CN_EFORMAT);
        if (!strstr(cn_error(*state), cases[i].message))
            fail_msg("%s: '%s'", cases[i].text, cn_error(*state));
    }
}

static void nothing_leaks_without_memory(void **state)
{
    for (int64_t n = 0;; n++) {
        cn_coco *c = NULL;
        cn_image *image = NULL;
        cn_ctx_fail_alloc_after(*state, n);
        cn_status s = cn_coco_open_memory(*state, instances, sizeof instances - 1, captions,
                                          sizeof captions - 1, &c);
        if (s == CN_OK) s = cn_coco_colors(*state, c, 1, true, &image);
        cn_ctx_fail_alloc_after(*state, -1);
        cn_image_destroy(image);
        cn_coco_close(c);
        if (s == CN_OK) break;
        assert_int_equal(s, CN_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_as_the_api_makes_them),
        cmocka_unit_test(large_masks_lie_below),
        cmocka_unit_test(categories_have_colours),
        cmocka_unit_test(bad_segmentations),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(nothing_leaks_without_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
