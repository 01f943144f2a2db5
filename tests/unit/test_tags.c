/* SPDX-License-Identifier: Apache-2.0 */
/* test_tags.c - captions of tags: what is kept, shuffled and left out. */
#include "../support/unit/unit.h"
#include "data/tags.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

/* seed < 0: the tags in their order. */
static void expect(cn_tag_rules r, const char *caption, int64_t seed, const char *want)
{
    cn_rng rng;
    cn_str out = {0};
    if (!r.separator) r.separator = ",";
    if (seed >= 0) cn_rng_seed(&rng, (uint64_t)seed);
    must(cn_tags_write(ctx, &r, caption, seed < 0 ? NULL : &rng, &out));
    if (strcmp(out.data, want) != 0) fail_msg("\"%s\" became \"%s\"", caption, out.data);
    cn_str_free(&out);
}

static void captions_are_cut_into_tags(void **state)
{
    (void)state;
    const cn_tag_rules plain = {.shuffle = true};
    expect(plain, "a red fox", -1, "a red fox");
    expect(plain, "  one,two ,\tthree\n", -1, "one, two, three");
    expect(plain, "one, , two,", -1, "one, two");
    expect(plain, "", -1, "");
    expect(plain, " , ,", 5, "");
    expect((cn_tag_rules){.separator = " | "}, "a, b | c | d", -1, "a, b, c, d");
    expect((cn_tag_rules){.separator = "."}, "a.b..c", -1, "a, b, c");
    expect((cn_tag_rules){.keep_separator = "|||"}, "a, b ||| c, d ||| e", -1, "a, b, c, d, e");
    expect((cn_tag_rules){.keep_separator = "|||"}, "|||c|||", -1, "c");
    assert_false(cn_tags_vary(&(cn_tag_rules){.keep = 3}));
    assert_true(cn_tags_vary(&(cn_tag_rules){.dropout = 0.1}));
}

/* With every tag left out that may be, what stays is what is kept. */
static void some_tags_are_kept(void **state)
{
    (void)state;
    expect((cn_tag_rules){.dropout = 1}, "a, b, c", 1, "");
    expect((cn_tag_rules){.dropout = 1, .keep = 2}, "a, b, c, d", 1, "a, b");
    expect((cn_tag_rules){.dropout = 1, .keep = 9}, "a, b, c", 1, "a, b, c");
    expect((cn_tag_rules){.dropout = 1, .keep = 1, .keep_separator = "|||"}, "a, b ||| c", 1,
           "a, b"); /* the caption's own word counts */
    expect((cn_tag_rules){.dropout = 1, .keep = 1, .keep_separator = "|||"}, "a, b, c", 1, "a");
    expect((cn_tag_rules){.dropout = 1, .shuffle = true, .keep_separator = "|||"},
           "a, b ||| c, d, e ||| f, g ||| h", 1, "a, b, f, g ||| h");
}

enum { DRAWS = 6000 };

/* Every order of the three that move is as likely as another; the kept ones stand at their ends. */
static void orders_are_equally_likely(void **state)
{
    (void)state;
    static const char *const orders[] = {"k, a, b, c, z", "k, a, c, b, z", "k, b, a, c, z",
                                         "k, b, c, a, z", "k, c, a, b, z", "k, c, b, a, z"};
    const cn_tag_rules r = {.shuffle = true, .separator = ",", .keep_separator = "|"};
    int seen[CN_COUNT(orders)] = {0};
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        cn_rng rng;
        cn_str out = {0};
        size_t k = 0;
        cn_rng_seed(&rng, seed);
        must(cn_tags_write(ctx, &r, "k | a, b, c | z", &rng, &out));
        while (k < CN_COUNT(orders) && strcmp(orders[k], out.data) != 0) k++;
        if (k == CN_COUNT(orders)) fail_msg("%s", out.data);
        seen[k]++;
        cn_str_free(&out);
    }
    /* 1000 each, five standard deviations of 29 */
    for (size_t k = 0; k < CN_COUNT(orders); k++)
        if (abs(seen[k] - DRAWS / 6) > 145) fail_msg("%s: %d times", orders[k], seen[k]);
}

static void tags_are_left_out_as_often_as_told(void **state)
{
    (void)state;
    const cn_tag_rules r = {.dropout = 0.3, .keep = 1, .separator = ","};
    int with = 0, both = 0;
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        cn_rng rng;
        cn_str out = {0};
        cn_rng_seed(&rng, seed);
        must(cn_tags_write(ctx, &r, "k,a,b", &rng, &out));
        assert_int_equal(out.data[0], 'k');
        with += strchr(out.data, 'a') != NULL;
        both += strcmp(out.data, "k, a, b") == 0;
        cn_str_free(&out);
    }
    assert_true(fabs(with / (double)DRAWS - 0.7) < 0.03); /* five standard deviations of 0.006 */
    assert_true(fabs(both / (double)DRAWS - 0.49) < 0.03);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_are_cut_into_tags),
        cmocka_unit_test(some_tags_are_kept),
        cmocka_unit_test(orders_are_equally_likely),
        cmocka_unit_test(tags_are_left_out_as_often_as_told),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
