/* SPDX-License-Identifier: Apache-2.0 */
/* test_rng.c - the generator against torch's CPU generator, and weights that follow from a name.
 *
 * tests/golden/core/torch_cpu_rng.json: "randn seed=S n=N" holds the first 40 and the last 8 of N
 * draws, "randint1000 seed=S n=16" 16 integers, all from torch.Generator().manual_seed(S).
 */
#include "base/base.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *load_fixture(void)
{
    json_error_t error;
    json_t *root = json_load_file("tests/golden/core/torch_cpu_rng.json", 0, &error);
    if (!root) fail_msg("torch_cpu_rng.json: %s", error.text);
    return root;
}

/* f32: torch's vector code has a logarithm, sine and cosine of its own, off from the C library's by
 * a unit in the last place: 2.4e-7 for the values from 2 to 4.5 that occur here. Tolerance 5e-7. */
static void check_draws(const char *name, const json_t *want, const float *got, long n)
{
    size_t count = json_array_size(want);
    size_t head = n < 40 ? (size_t)n : 40, tail = n < 8 ? (size_t)n : 8;
    assert_int_equal(count, head + tail);
    for (size_t i = 0; i < count; i++) {
        double w = json_number_value(json_array_get(want, i));
        double g = got[i < head ? i : (size_t)n - count + i];
        if (!(fabs(w - g) <= 5e-7)) fail_msg("%s, value %zu: %.9g, torch has %.9g", name, i, g, w);
    }
}

static void test_randn_is_torchs(void **state)
{
    (void)state;
    json_t *root = load_fixture(), *want;
    const char *name;
    int checked = 0;
    json_object_foreach(root, name, want)
    {
        unsigned long long seed;
        long n;
        if (sscanf(name, "randn seed=%llu n=%ld", &seed, &n) != 2) continue;
        float *got = cn_alloc_array(NULL, (size_t)n, sizeof *got);
        assert_non_null(got);
        cn_rng rng;
        cn_rng_seed(&rng, seed);
        cn_rng_normal(&rng, got, n);
        check_draws(name, want, got, n);
        cn_free(got);
        checked++;
    }
    json_decref(root);
    assert_true(checked >= 32);
}

static void test_randint_is_torchs(void **state)
{
    (void)state;
    json_t *root = load_fixture(), *want;
    const char *name;
    int checked = 0;
    json_object_foreach(root, name, want)
    {
        unsigned long long seed;
        if (sscanf(name, "randint1000 seed=%llu n=16", &seed) != 1) continue;
        cn_rng rng;
        cn_rng_seed(&rng, seed);
        assert_int_equal(json_array_size(want), 16);
        for (size_t i = 0; i < 16; i++)
            assert_int_equal(cn_rng_below(&rng, 1000), json_integer_value(json_array_get(want, i)));
        checked++;
    }
    json_decref(root);
    assert_true(checked >= 4);
}

/* The 10000th output of mt19937 seeded with 5489 is fixed by the C++ standard ([rand.predef]). */
static void test_mt19937_10000th(void **state)
{
    (void)state;
    cn_rng rng;
    cn_rng_seed(&rng, 5489);
    uint32_t x = 0;
    for (int i = 0; i < 10000; i++) x = cn_rng_u32(&rng);
    assert_int_equal(x, 4123659995u);
}

static void test_u64_takes_the_high_half_first(void **state)
{
    (void)state;
    cn_rng a, b;
    cn_rng_seed(&a, 7);
    cn_rng_seed(&b, 7);
    uint64_t high = cn_rng_u32(&a), low = cn_rng_u32(&a);
    assert_true(cn_rng_u64(&b) == (high << 32 | low));
}

static void test_small_draws_share_a_pair(void **state)
{
    (void)state;
    cn_rng a, b;
    float one[5], whole[5];
    cn_rng_seed(&a, 3);
    cn_rng_seed(&b, 3);
    for (int i = 0; i < 5; i++) cn_rng_normal(&a, &one[i], 1);
    cn_rng_normal(&b, whole, 5);
    assert_memory_equal(one, whole, sizeof one);
}

static void test_ranges(void **state)
{
    (void)state;
    cn_rng rng;
    cn_rng_seed(&rng, 11);
    for (int i = 0; i < 1000; i++) {
        float u = cn_rng_uniform(&rng);
        assert_true(u >= 0 && u < 1);
        int64_t k = cn_rng_below(&rng, 3);
        assert_true(k >= 0 && k < 3);
        k = cn_rng_below(&rng, INT64_C(1) << 40);
        assert_true(k >= 0 && k < INT64_C(1) << 40);
    }
    assert_int_equal(cn_rng_below(&rng, 0), 0);
    float untouched = 5;
    cn_rng_normal(&rng, &untouched, 0);
    assert_true(untouched == 5);
}

static void test_hash64(void **state)
{
    (void)state;
    assert_true(cn_hash64("", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(cn_hash64("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(cn_hash64("foobar", 6) == UINT64_C(0x85944171f73967e8));
}

/* Element by element from the definition, no vector code. */
static float seeded(const char *key, int64_t i, float offset, float scale)
{
    uint64_t x = cn_hash64(key, strlen(key)) + (uint64_t)(i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    float u = (float)(x >> 40) * 0x1p-23f - 1.0f;
    return offset + scale * u;
}

static void test_seed_tensor(void **state)
{
    (void)state;
    enum { N = 100003 };
    float *got = cn_alloc_array(NULL, N, sizeof *got);
    assert_non_null(got);
    cn_seed_tensor("conv_in.weight", 1.0f, 0.1f, got, N);
    for (int64_t i = 0; i < N; i++) assert_true(got[i] == seeded("conv_in.weight", i, 1.0f, 0.1f));
    cn_seed_tensor("conv_in.weight", 0.0f, 1.0f, got, 17);
    for (int64_t i = 0; i < 17; i++) assert_true(got[i] >= -1 && got[i] < 1);
    cn_free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_randn_is_torchs),
        cmocka_unit_test(test_randint_is_torchs),
        cmocka_unit_test(test_mt19937_10000th),
        cmocka_unit_test(test_u64_takes_the_high_half_first),
        cmocka_unit_test(test_small_draws_share_a_pair),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_hash64),
        cmocka_unit_test(test_seed_tensor),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
