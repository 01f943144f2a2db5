/* SPDX-License-Identifier: Apache-2.0 */
/* test_canny.c - sizes, arguments, and the interface of the annotators; tests/e2e/annotators.c
 * compares with OpenCV. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "annotate/annotate.h"
#include "annotate/canny.h"

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

static void every_small_size_stays_inside(void **state)
{
    for (int64_t h = 1; h <= 6; h++)
        for (int64_t w = 1; w <= 6; w++) {
            size_t n = (size_t)(w * h);
            uint8_t *in = malloc(3 * n), *edges = malloc(n);
            assert_true(in && edges);
            for (size_t i = 0; i < 3 * n; i++) in[i] = (uint8_t)(i * 2654435761u >> 13);
            for (int l2 = 0; l2 < 2; l2++)
                assert_int_equal(cn_canny_u8(*state, in, w, h, 3, 10, 20, l2, edges), CN_OK);
            for (size_t i = 0; i < n; i++) assert_true(edges[i] == 0 || edges[i] == 255);
            free(in);
            free(edges);
        }
}

static void bad_arguments_are_refused(void **state)
{
    uint8_t in[4] = {0}, edges[1];
    assert_int_equal(cn_canny_u8(*state, in, 0, 1, 3, 1, 2, false, edges), CN_EINVAL);
    assert_int_equal(cn_canny_u8(*state, in, 1, INT64_MAX, 3, 1, 2, false, edges), CN_EINVAL);
    assert_int_equal(cn_canny_u8(*state, in, 1, 1, 4, 1, 2, false, edges), CN_EINVAL);
    assert_non_null(strstr(cn_error(*state), "1 or 3"));
}

static void options_have_ranges(void **state)
{
    cn_annotate_args args;
    const cn_kind *kind = NULL;
    assert_int_equal(cn_kind_need(*state, "canny", &kind), CN_OK);
    cn_annotate_defaults(kind, &args);
    assert_true(args.values[0] == 100 && args.values[1] == 200 && args.values[2] == 0);
    assert_int_equal(cn_annotate_parse(*state, &args, "low=50.5"), CN_OK);
    assert_int_equal(cn_annotate_parse(*state, &args, "l2"), CN_OK);
    assert_int_equal(cn_annotate_set(*state, &args, "high", "99"), CN_OK);
    assert_true(args.values[0] == 50.5 && args.values[1] == 99 && args.values[2] == 1);
    static const char *const wrong[] = {"low=-1",   "low=2041", "low=",    "low=5x", "low",
                                        "low=nan",  "l2=2",     "lo=5",    "=5",     "",
                                        "lowest=5", "high=1e9", "l2=true "};
    for (size_t i = 0; i < CN_COUNT(wrong); i++)
        assert_int_equal(cn_annotate_parse(*state, &args, wrong[i]), CN_EINVAL);
    assert_int_equal(cn_annotate_parse(*state, &args, "low=3000"), CN_EINVAL);
    assert_string_equal(cn_error(*state), "canny: low=3000: must be a number from 0 to 2040");
    assert_true(args.values[0] == 50.5);
}

static void kinds_are_found_by_name(void **state)
{
    const cn_kind *kind = NULL;
    for (int i = 0; i < cn_kind_count(); i++) {
        kind = cn_kind_at(i);
        assert_ptr_equal(cn_kind_find(kind->name), kind);
        assert_true(kind->n_options <= CN_ANNOTATE_MAX_OPTIONS);
    }
    assert_null(cn_kind_at(-1));
    assert_null(cn_kind_at(cn_kind_count()));
    assert_null(cn_kind_find("can"));
    assert_int_equal(cn_kind_need(*state, "cannyy", &kind), CN_EINVAL);
    assert_non_null(strstr(cn_error(*state), "none, canny"));
}

static void kinds_run(void **state)
{
    cn_image *in = NULL, *out = NULL;
    assert_int_equal(cn_image_create(*state, 40, 20, &in), CN_OK);
    memset(in->rgb, 30, 40 * 20 * 3);
    cn_annotate_args args;
    cn_annotate_defaults(cn_kind_find("invert"), &args);
    assert_int_equal(cn_annotate(*state, &args, in, &out), CN_OK);
    assert_int_equal(out->rgb[0], 225);
    cn_image_destroy(out);
    cn_annotate_defaults(cn_kind_find("scribble"), &args);
    args.resolution = 64;
    assert_int_equal(cn_annotate_set(*state, &args, "dark", "1"), CN_OK);
    assert_int_equal(cn_annotate(*state, &args, in, &out), CN_OK);
    assert_true(out->width == 128 && out->height == 64 && out->rgb[0] == 255);
    cn_image_destroy(out);
    args.weights = (const char *const[]){"file.pth", NULL};
    assert_int_equal(cn_annotate(*state, &args, in, &out), CN_EINVAL);
    cn_image_destroy(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_size_stays_inside),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(options_have_ranges),
        cmocka_unit_test(kinds_are_found_by_name),
        cmocka_unit_test(kinds_run),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
