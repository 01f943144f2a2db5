/* test_dataset.c - both layouts of training pairs, every kind of hole in them, and the records' store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/tiny_base.h"
#include "train/condition.h"
#include "train/dataset.h"
#include "train/store.h"

#include <string.h>

static cn_ctx *ctx;
static char root[64];

static void must(cn_status s)
{
    if (s != CN_OK) fail_msg("%s: %s", cn_status_name(s), cn_error(ctx));
}

static void refused(cn_status s, cn_status want, const char *words)
{
    if (s != want || !strstr(cn_error(ctx), words))
        fail_msg("%s: %s (wanted %s with \"%s\")", cn_status_name(s), cn_error(ctx),
                 cn_status_name(want), words);
}

static int set_up(void **state)
{
    (void)state;
    ctx = cn_ctx_create(2);
    return ctx && tiny_dir_make(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return 0;
}

/* A folder root/name with the list and two pictures, a.png of w x h and b.png of 8 x 8. */
static const char *folder(const char *name, const char *list, const char *text, int64_t w,
                          int64_t h)
{
    static char dir[128];
    char path[256];
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    must(cn_dir_make(ctx, dir));
    snprintf(path, sizeof path, "%s/%s", dir, list);
    must(cn_file_write(ctx, path, text, strlen(text)));
    for (int i = 0; i < 2; i++) {
        cn_image *image = NULL;
        must(cn_image_create(ctx, i ? 8 : w, i ? 8 : h, &image));
        image->rgb[0] = 200;
        snprintf(path, sizeof path, "%s/%c.png", dir, 'a' + i);
        must(cn_image_save_png(ctx, path, image, NULL));
        cn_image_destroy(image);
    }
    return dir;
}

static void both_layouts_are_read(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    must(cn_dataset_open(
        ctx,
        folder("fill", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "\n{\"source\": \"b.png\", \"target\": \"a.png\", \"prompt\": \"\"}\n",
               16, 8),
        NULL, NULL, &d));
    assert_int_equal(d->layout, CN_DATASET_FILL50K);
    assert_int_equal(d->n, 2);
    assert_string_equal(d->items[0].condition, "a.png");
    assert_string_equal(d->items[0].prompt, "x");
    assert_int_equal(d->items[1].line, 3);
    cn_image *condition = NULL, *target = NULL;
    must(cn_dataset_load(ctx, d, 0, 4, 4, &condition, &target));
    assert_true(condition->width == 4 && condition->height == 4 && target->width == 4);
    cn_image_destroy(condition);
    cn_image_destroy(target);
    cn_dataset_close(d);
    must(cn_dataset_open(
        ctx,
        folder(
            "face", "metadata.jsonl",
            "{\"file_name\": \"b.png\", \"conditioning_image\": \"a.png\", \"text\": \"y\"}\n"
            "{\"image\": \"a.png\", \"conditioning_image\": \"b.png\", \"text\": \"z\", \"k\": 1}",
            8, 8),
        NULL, NULL, &d));
    assert_int_equal(d->layout, CN_DATASET_HUGGINGFACE);
    assert_int_equal(d->n, 2);
    assert_string_equal(d->items[0].target, "b.png");
    assert_string_equal(d->items[1].prompt, "z");
    cn_dataset_close(d);
}

static void count(void *user, const char *text)
{
    int *n = user;
    *n += strstr(text, "prompt.json:") != NULL;
}

static void every_hole_is_named(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    int n = 0;
    const char *dir =
        folder("holes", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "not json\n"
               "{\"source\": \"gone.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "{\"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "{\"source\": 5, \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "[1, 2]\n"
               "{\"source\": \"\", \"target\": \"b.png\", \"prompt\": \"x\"}\n",
               8, 8);
    refused(cn_dataset_open(ctx, dir, count, &n, &d), CN_EFORMAT, "prompt.json:2:");
    assert_non_null(strstr(cn_error(ctx), "5 more"));
    assert_int_equal(n, 6);
    dir =
        folder("gone", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"sub/gone.png\", \"prompt\": \"x\"}\n", 8, 8);
    refused(cn_dataset_open(ctx, dir, NULL, NULL, &d), CN_EFORMAT, "sub/gone.png is missing");
    dir = folder("none", "prompt.json", "\n\n", 8, 8);
    refused(cn_dataset_open(ctx, dir, NULL, NULL, &d), CN_EFORMAT, "no training pairs");
    dir = folder("other", "captions.txt", "x", 8, 8);
    refused(cn_dataset_open(ctx, dir, NULL, NULL, &d), CN_EIO, "metadata.jsonl");
    refused(cn_dataset_open(ctx, "/nonexistent", NULL, NULL, &d), CN_EIO, "no such folder");
    folder("both", "prompt.json", "{}", 8, 8);
    dir = folder("both", "metadata.jsonl", "{}", 8, 8);
    refused(cn_dataset_open(ctx, dir, NULL, NULL, &d), CN_EINVAL, "only one");
}

static void a_damaged_picture_is_named(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    cn_image *image = NULL;
    char path[256];
    const char *dir =
        folder("damaged", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n", 8, 8);
    snprintf(path, sizeof path, "%s/a.png", dir);
    must(cn_file_write(ctx, path, "no picture", 10));
    must(cn_dataset_open(ctx, dir, NULL, NULL, &d));
    refused(cn_dataset_load(ctx, d, 0, 8, 8, &image, NULL), CN_EFORMAT, "prompt.json:1");
    assert_null(image);
    cn_dataset_close(d);
    cn_dataset_report r;
    refused(cn_dataset_check(ctx, dir, NULL, NULL, &r), CN_EFORMAT, "1 pictures");
    assert_int_equal(r.problems, 1);
}

static void scenes_pass_the_check(void **state)
{
    (void)state;
    char dir[128];
    cn_dataset_report r;
    cn_annotate_args args;
    snprintf(dir, sizeof dir, "%s/scenes", root);
    must(tiny_scenes_write(ctx, dir, 6));
    must(cn_dataset_check(ctx, dir, NULL, NULL, &r));
    assert_string_equal(r.layout, "fill50k");
    assert_true(r.pairs == 6 && r.problems == 0 && r.unequal_sizes == 0);
    assert_true(r.min_width == TINY_PX && r.max_height == TINY_PX);
    must(cn_condition_find(ctx, NULL, dir, false, &args));
    assert_string_equal(args.kind->name, "canny");
    assert_true(args.values[0] == 100 && args.values[1] == 200);
}

static void conditions_know_their_annotator(void **state)
{
    (void)state;
    cn_annotate_args args;
    const uint8_t bw[] = {0, 0, 0, 255, 255, 255}, colour[] = {0, 0, 0, 255, 0, 255};
    uint8_t mask[2];
    assert_true(cn_condition_black_and_white(bw, 2));
    assert_false(cn_condition_black_and_white(bw, 1));
    assert_false(cn_condition_black_and_white(colour, 2));
    cn_condition_mask(colour, 2, mask);
    assert_true(mask[0] == 0 && mask[1] == 255);
    must(cn_condition_find(ctx, "canny low=50 high=60", root, false, &args));
    assert_true(args.values[0] == 50 && args.values[1] == 60);
    must(cn_condition_find(ctx, "none", root, true, &args));
    assert_null(args.kind);
    must(cn_condition_find(ctx, NULL, root, true, &args));
    assert_non_null(args.kind);
    must(cn_condition_find(ctx, NULL, root, false, &args));
    assert_null(args.kind);
    refused(cn_condition_find(ctx, "cubist", root, false, &args), CN_EINVAL, "cubist");
    refused(cn_condition_find(ctx, "canny low=x", root, false, &args), CN_EINVAL, "low");
}

static void records_come_back(void **state)
{
    (void)state;
    for (size_t limit = 0; limit <= 1000; limit += 1000) { /* in a file, in memory */
        cn_store *s = NULL;
        char record[10], got[10];
        must(cn_store_create(ctx, 5, sizeof record, limit, root, &s));
        for (int i = 4; i >= 0; i--) {
            memset(record, 'a' + i, sizeof record);
            must(cn_store_write(s, i, record));
        }
        for (int i = 0; i < 5; i++) {
            memset(record, 'a' + i, sizeof record);
            must(cn_store_read(s, i, got));
            assert_memory_equal(record, got, sizeof got);
        }
        cn_store_destroy(s);
    }
    cn_store *s = NULL;
    refused(cn_store_create(ctx, 5, 10, 0, "/nonexistent", &s), CN_EIO, "/nonexistent");
    refused(cn_store_create(ctx, INT64_MAX, 1 << 20, 0, root, &s), CN_ENOMEM, "too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_layouts_are_read),           cmocka_unit_test(every_hole_is_named),
        cmocka_unit_test(a_damaged_picture_is_named),      cmocka_unit_test(scenes_pass_the_check),
        cmocka_unit_test(conditions_know_their_annotator), cmocka_unit_test(records_come_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
