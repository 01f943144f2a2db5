/* SPDX-License-Identifier: Apache-2.0 */
/* test_library.c - shared libraries opened on demand: what is there works, what isn't is named. */
#include "../support/unit/unit.h"

#include "base/library.h"

#include <zlib.h>

#define CALLS(X) X(crc32) X(zlibVersion)
CN_LIBRARY_CALLS(zlib, CALLS);
CN_LIBRARY(static, zlib, CALLS, "libz.so.1", "sums are not made");
CN_LIBRARY_CALLS(absent, CALLS);
CN_LIBRARY(static, absent, CALLS, "libnowhere.so.9", "sums are not made");
CN_LIBRARY_CALLS(foreign, CALLS);
CN_LIBRARY(static, foreign, CALLS, "libm.so.6", "sums are not made");

static void opens_once_and_calls(void **state)
{
    (void)state;
    assert_int_equal(cn_library_open(ctx, &zlib_library), CN_OK);
    assert_string_equal(zlib.zlibVersion(), zlibVersion());
    /* The check value of CRC-32: that of "123456789". */
    assert_int_equal(zlib.crc32(0, (const Bytef *)"123456789", 9), 0xcbf43926);
    assert_int_equal(cn_library_open(ctx, &zlib_library), CN_OK);
}

static void names_what_is_missing(void **state)
{
    (void)state;
    assert_int_equal(cn_library_open(ctx, &absent_library), CN_EIO);
    assert_string_equal(cn_error(ctx), "libnowhere.so.9 isn't there: sums are not made");
    assert_int_equal(cn_library_open(ctx, &foreign_library), CN_EIO);
    assert_string_equal(cn_error(ctx), "libm.so.6 has no crc32: sums are not made");
    assert_false(foreign_library.open);
}

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(opens_once_and_calls),
                                       cmocka_unit_test(names_what_is_missing)};
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
