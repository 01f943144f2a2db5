/* SPDX-License-Identifier: Apache-2.0 */
/* test_demo_judge.c - when `controlnet demo` says that control is above chance. Expected values
 * are counted by hand, or in another way. */
#include "../support/unit/unit.h"
#include "cli/cli_demo.h"

#include <math.h>
#include <string.h>

static demo d;

/* gains[i]: agreement with control less that without, which is 0.25 everywhere */
static void judge(const double *gains, int n)
{
    memset(&d, 0, sizeof d);
    d.n_held = n;
    for (int i = 0; i < n; i++) {
        d.drawings[i].agreement_without = 0.25;
        d.drawings[i].agreement_with = 0.25 + gains[i];
    }
    demo_judge(&d);
}

static void test_by_hand(void **state)
{
    (void)state;
    /* all the same way: only the order as it is does as well */
    judge((const double[]){0.5, 0.1, 0.2, 0.3, 0.1, 0.6, 0.2, 0.4}, 8);
    assert_true(fabs(d.p_value - 1.0 / 256) < 1e-12);
    assert_true(fabs(d.agreement_with - 0.55) < 1e-12);
    assert_true(fabs(d.agreement_without - 0.25) < 1e-12);
    assert_true(demo_above_chance(&d));
    /* 3 - 1: of the four ways 2, -2, 4 and -4, two are as large */
    judge((const double[]){0.3, -0.1}, 2);
    assert_true(fabs(d.p_value - 0.5) < 1e-12);
    assert_false(demo_above_chance(&d));
    /* nothing gained: every way is as good */
    judge((const double[16]){0}, 16);
    assert_true(fabs(d.p_value - 1) < 1e-12);
    assert_false(demo_above_chance(&d));
    /* few scenes can't tell, however large the gain: 1 of 64 */
    judge((const double[]){0.7, 0.7, 0.7, 0.7, 0.7, 0.7}, 6);
    assert_true(fabs(d.p_value - 1.0 / 64) < 1e-12);
    assert_false(demo_above_chance(&d));
    /* all worse */
    judge((const double[]){-0.1, -0.1, -0.1, -0.1, -0.2, -0.2, -0.1, -0.1}, 8);
    assert_true(fabs(d.p_value - 1) < 1e-12);
    assert_false(demo_above_chance(&d));
}

/* Sums of gains in units of 0.01, by dynamic programming: how many ways give each sum. */
static double chance(const int *gains, int n)
{
    enum { MOST = 2000 };
    static double ways[2 * MOST + 1], next[2 * MOST + 1];
    int sum = 0;
    double as_large = 0, all = 0;
    memset(ways, 0, sizeof ways);
    ways[MOST] = 1;
    for (int i = 0; i < n; i++) {
        memset(next, 0, sizeof next);
        for (int at = 0; at <= 2 * MOST; at++)
            for (int sign = -1; sign <= 1 && ways[at] > 0; sign += 2)
                next[at + sign * gains[i]] += ways[at];
        memcpy(ways, next, sizeof ways);
        sum += gains[i];
    }
    for (int at = 0; at <= 2 * MOST; at++) {
        all += ways[at];
        if (at - MOST >= sum) as_large += ways[at];
    }
    return as_large / all;
}

static void test_against_counting(void **state)
{
    (void)state;
    uint64_t seed = 1;
    bool seen[2] = {false, false};
    for (int round = 0; round < 20; round++) {
        int whole[DEMO_HELD];
        double gains[DEMO_HELD];
        for (int i = 0; i < DEMO_HELD; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            whole[i] = (int)(seed >> 33) % 41 - 20 + round;
            gains[i] = whole[i] / 100.0;
        }
        judge(gains, DEMO_HELD);
        const double expected = chance(whole, DEMO_HELD);
        assert_true(fabs(d.p_value - expected) < 1e-12);
        assert_int_equal(demo_above_chance(&d), expected < 0.01);
        seen[demo_above_chance(&d)] = true;
    }
    assert_true(seen[0] && seen[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand),
                                       cmocka_unit_test(test_against_counting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
