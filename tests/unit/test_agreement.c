/* test_agreement.c - the edge F1 on maps small enough to count by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "annotate/agreement.h"

enum { W = 8, H = 4 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_map_agrees),
        cmocka_unit_test(an_empty_map_meets_nothing),
        cmocka_unit_test(tolerance_counts_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
