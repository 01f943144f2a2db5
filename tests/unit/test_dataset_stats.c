/* SPDX-License-Identifier: Apache-2.0 */
/* What a data set is like, one of its pairs, words counted, and leaks between two sets. */
#include "../support/tiny_base.h"

#include "controlnet.h"
#include "data/words.h"
#include "image/image.h"
#include "io/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/cn-stats-XXXXXX";
static cn_ctx *ctx;

static const char *at(int slot, const char *name)
{
    static char path[4][512];
    snprintf(path[slot], sizeof path[slot], "%s/%s", folder, name);
    return path[slot];
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    tiny_dir_remove(folder);
    return 0;
}

/* Grey of a value, white from column `from` on. */
static void put(const char *name, int64_t width, int64_t height, uint8_t grey, int64_t from)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, width, height, &image), CN_OK);
    for (int64_t i = 0; i < width * height; i++)
        memset(image->rgb + 3 * i, i % width >= from ? 255 : grey, 3);
    assert_int_equal(cn_image_save_png(ctx, at(0, name), image, NULL), CN_OK);
    cn_image_destroy(image);
}

/* Two pairs: 40 x 20 of grey 100, a condition with a quarter of white; 20 x 20 of grey 50, one with
 * three quarters. */
static int setup(void **state)
{
    (void)state;
    static const char list[] =
        "{\"source\": \"c0.png\", \"target\": \"t0.png\", \"prompt\": \"A red cube, a Cube\"}\n"
        "{\"source\": \"c1.png\", \"target\": \"t1.png\", \"prompt\": \"\"}\n";
    ctx = cn_ctx_create(2);
    if (!ctx || !mkdtemp(folder)) return -1;
    put("t0.png", 40, 20, 100, 40);
    put("c0.png", 40, 20, 0, 30);
    put("t1.png", 20, 20, 50, 20);
    put("c1.png", 20, 20, 0, 5);
    return cn_file_write(ctx, at(0, "prompt.json"), list, strlen(list)) == CN_OK ? 0 : -1;
}

static double number(const json_t *object, const char *key, const char *below)
{
    const json_t *v = json_object_get(object, key);
    if (below) v = json_object_get(v, below);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static void numbers_of_a_set(void **state)
{
    (void)state;
    char *text = NULL;
    json_t *o = NULL;
    const cn_dataset_options d = {.dir = folder};
    const cn_dataset_stats_options how = {.report = at(1, "report.html")};
    if (cn_dataset_stats(ctx, &d, &how, true, &text) != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(cn_json_load_memory(ctx, "stats", text, strlen(text), &o), CN_OK);
    cn_free(text);
    assert_int_equal((int)number(o, "pairs", NULL), 2);
    assert_int_equal((int)number(o, "width", "mean"), 30);
    assert_int_equal((int)number(o, "width", "least"), 20);
    assert_int_equal((int)number(o, "height", "greatest"), 20);
    assert_int_equal((int)number(o, "landscape", NULL), 1);
    assert_int_equal((int)number(o, "square", NULL), 1);
    assert_int_equal((int)number(o, "empty_captions", NULL), 1);
    assert_true(number(o, "white_share", "least") == 0.25);
    assert_true(number(o, "white_share", "greatest") == 0.75);
    assert_true(number(o, "caption_words", "mean") == 2.5);
    assert_int_equal((int)number(o, "caption_characters", "greatest"), 18);
    assert_true(json_number_value(json_array_get(json_object_get(o, "mean_rgb"), 2)) == 75);
    assert_int_equal((int)number(o, "frequent_words", "cube"), 2);
    assert_int_equal((int)number(o, "distinct_words", NULL), 3);
    json_decref(o);
    size_t n = 0;
    assert_int_equal(cn_file_read(ctx, at(1, "report.html"), 1 << 20, &text, &n), CN_OK);
    assert_non_null(strstr(text, "data:image/png;base64,"));
    assert_non_null(strstr(text, "A red cube, a Cube"));
    cn_free(text);
}

static void one_pair(void **state)
{
    (void)state;
    char *text = NULL;
    cn_image *both = NULL;
    const cn_dataset_options d = {.dir = folder};
    if (cn_dataset_show(ctx, &d, 0, at(1, "both.png"), false, &text) != CN_OK)
        fail_msg("%s", cn_error(ctx));
    assert_non_null(strstr(text, "picture 40 x 20, condition 40 x 20\nA red cube, a Cube\n"));
    cn_free(text);
    assert_int_equal(cn_image_load(ctx, at(1, "both.png"), &both), CN_OK);
    assert_int_equal(both->width, 80);
    assert_int_equal(both->rgb[0], 0);
    assert_int_equal(both->rgb[3 * 40], 100);
    cn_image_destroy(both);
    assert_int_equal(cn_dataset_show(ctx, &d, 2, NULL, false, &text), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "pair 2: 0 to 1 are there"));
}

static void words_are_counted(void **state)
{
    (void)state;
    cn_words *w = NULL;
    cn_word_count top[3];
    assert_int_equal(cn_words_create(ctx, &w), CN_OK);
    assert_int_equal(cn_words_add(w, "b a, B;c\xc3\xa9 a"), 5);
    assert_int_equal(cn_words_add(w, "  "), 0);
    assert_int_equal(cn_words_add(w, "abcdefghijklmnopqrstuvwxyz0123456789"), 1);
    assert_int_equal(cn_words_top(w, top, 3), 3);
    assert_string_equal(top[0].word, "a");
    assert_string_equal(top[1].word, "b");
    assert_string_equal(top[2].word, "abcdefghijklmnopqrstuvw");
    assert_int_equal(top[1].n, 2);
    assert_int_equal(cn_words_distinct(w), 4);
    cn_words_destroy(w);
}

static int64_t leaks(const char *dir, const char *against)
{
    cn_dataset_report r;
    const cn_dataset_options d = {.dir = at(2, dir)};
    const cn_dataset_check_options c = {.against = at(3, against)};
    if (cn_dataset_check(ctx, &d, &c, &r) != CN_OK) fail_msg("%s", cn_error(ctx));
    for (int i = 0; i < CN_DATASET_FINDINGS; i++)
        if (strcmp(r.findings[i].name, "leaks") == 0) return r.findings[i].count;
    return -1;
}

/* Scenes 0 to 19, and 15 to 24 of the same sequence: five are in both. */
static void pictures_of_two_sets(void **state)
{
    (void)state;
    const cn_scenes_options one = {.output_dir = at(1, "one"),
                                   .count = 20,
                                   .seed = 8,
                                   .size_px = 64,
                                   .condition = "edges"},
                            two = {.output_dir = at(2, "two"),
                                   .count = 10,
                                   .start = 15,
                                   .seed = 8,
                                   .size_px = 64,
                                   .condition = "edges"};
    assert_int_equal(cn_dataset_scenes(ctx, &one), CN_OK);
    assert_int_equal(cn_dataset_scenes(ctx, &two), CN_OK);
    assert_int_equal(leaks("one", "two"), 5);
    assert_int_equal(leaks("two", "one"), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_a_set),
        cmocka_unit_test(one_pair),
        cmocka_unit_test(words_are_counted),
        cmocka_unit_test(pictures_of_two_sets),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
