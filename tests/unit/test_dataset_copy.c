/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets converted, merged, sampled and split: the pairs are those of before. */
#include "../support/tiny_base.h"

#include "controlnet.h"
#include "data/dataset.h"
#include "io/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 20 };

static char folder[] = "/tmp/cn-copy-XXXXXX";
static cn_ctx *ctx;

static const char *at(int slot, const char *name)
{
    static char path[6][512];
    snprintf(path[slot], sizeof path[slot], "%s/%s", folder, name);
    return path[slot];
}

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(2);
    if (!ctx || !mkdtemp(folder)) return -1;
    const cn_scenes_options a = {.output_dir = at(0, "a"), .count = N, .seed = 3, .size_px = 32},
                            b = {.output_dir = at(1, "b"), .count = 5, .seed = 4, .size_px = 32};
    return cn_dataset_circles(ctx, &a) == CN_OK && cn_dataset_circles(ctx, &b) == CN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    tiny_dir_remove(folder);
    return 0;
}

static cn_dataset *open_set(const char *name)
{
    char path[512];
    cn_dataset *d = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const cn_dataset_options o = {.dir = path};
    if (cn_dataset_open(ctx, &o, &d) != CN_OK) fail_msg("%s", cn_error(ctx));
    return d;
}

/* Pair i of a and j of b: the same bytes and words. */
static bool same_pair(const cn_dataset *a, int64_t i, const cn_dataset *b, int64_t j)
{
    cn_dataset_item x = {0}, y = {0};
    bool same = true;
    assert_int_equal(cn_dataset_get(ctx, a, i, true, &x), CN_OK);
    assert_int_equal(cn_dataset_get(ctx, b, j, true, &y), CN_OK);
    const cn_dataset_file *files[2][2] = {{&x.condition, &y.condition}, {&x.target, &y.target}};
    for (int k = 0; k < 2; k++) {
        char *p = NULL, *q = NULL;
        size_t n = 0, m = 0;
        assert_int_equal(cn_dataset_read(ctx, files[k][0], &p, &n), CN_OK);
        assert_int_equal(cn_dataset_read(ctx, files[k][1], &q, &m), CN_OK);
        same = same && n == m && memcmp(p, q, n) == 0;
        cn_free(p);
        cn_free(q);
    }
    same = same && strcmp(x.prompt, y.prompt) == 0;
    cn_dataset_item_free(&x);
    cn_dataset_item_free(&y);
    return same;
}

static int64_t copy(cn_dataset_copy_options o, const char *from, const char *second,
                    const char *out)
{
    const char *const dirs[] = {at(2, from), second ? at(3, second) : NULL, NULL};
    cn_dataset_copy_result r;
    o.dirs = dirs;
    o.output_dir = at(4, out);
    if (cn_dataset_copy(ctx, &o, &r) != CN_OK) fail_msg("%s", cn_error(ctx));
    return r.pairs;
}

static void expect_same(const char *a, const char *b)
{
    cn_dataset *x = open_set(a), *y = open_set(b);
    assert_int_equal(x->n, y->n);
    for (int64_t i = 0; i < x->n; i++) assert_true(same_pair(x, i, y, i));
    cn_dataset_close(x);
    cn_dataset_close(y);
}

static void through_every_layout(void **state)
{
    (void)state;
    assert_int_equal(copy((cn_dataset_copy_options){.layout = "webdataset", .shard_size = 9000},
                          "a", NULL, "shards"),
                     N);
    assert_true(cn_file_exists(at(5, "shards/00002.tar")));
    assert_int_equal(copy((cn_dataset_copy_options){.layout = "imagefolder"}, "shards", NULL, "hf"),
                     N);
    assert_true(cn_file_exists(at(5, "hf/metadata.jsonl")));
    assert_int_equal(copy((cn_dataset_copy_options){0}, "hf", NULL, "back"), N);
    expect_same("a", "shards");
    expect_same("a", "hf");
    expect_same("a", "back");
}

static void two_become_one(void **state)
{
    (void)state;
    assert_int_equal(copy((cn_dataset_copy_options){.layout = "webdataset"}, "shards", "b", "both"),
                     N + 5);
    cn_dataset *both = open_set("both"), *b = open_set("b");
    for (int64_t i = 0; i < 5; i++) assert_true(same_pair(both, N + i, b, i));
    cn_dataset_close(both);
    cn_dataset_close(b);
}

/* Some of them, in order, the same ones for a seed. */
static void some_are_drawn(void **state)
{
    (void)state;
    assert_int_equal(copy((cn_dataset_copy_options){.count = 7, .seed = 1}, "a", NULL, "some"), 7);
    assert_int_equal(copy((cn_dataset_copy_options){.count = 7, .seed = 1}, "a", NULL, "again"), 7);
    assert_int_equal(copy((cn_dataset_copy_options){.count = 7, .seed = 2}, "a", NULL, "other"), 7);
    expect_same("some", "again");
    cn_dataset *a = open_set("a"), *some = open_set("some"), *other = open_set("other");
    int64_t at_a = 0, differ = 0;
    for (int64_t i = 0; i < 7; i++, at_a++) {
        while (at_a < N && !same_pair(some, i, a, at_a)) at_a++;
        assert_true(at_a < N);
        differ += !same_pair(some, i, other, i);
    }
    assert_true(differ > 0);
    cn_dataset_close(a);
    cn_dataset_close(some);
    cn_dataset_close(other);
}

/* A set whose pictures stand in two pairs each: both on one side, nothing lost. */
static void sides_share_no_picture(void **state)
{
    (void)state;
    cn_str list = {0};
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++)
            cn_str_addf(&list,
                        "{\"source\": \"source/%d.png\", \"target\": \"target/%d.png\", "
                        "\"prompt\": \"%d %d\"}\n",
                        i, i, i, k);
    assert_int_equal(cn_file_write(ctx, at(0, "a/prompt.json"), list.data, list.len), CN_OK);
    cn_str_free(&list);
    const char *const dirs[] = {at(2, "a"), NULL};
    cn_dataset_copy_options o = {
        .dirs = dirs, .output_dir = at(4, "split"), .validation = 0.3, .seed = 5};
    cn_dataset_copy_result r;
    if (cn_dataset_copy(ctx, &o, &r) != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(r.pairs, 2 * N);
    assert_true(r.validation > 0 && r.validation < N && r.validation % 2 == 0);
    cn_dataset *train = open_set("split/train"), *held = open_set("split/validation");
    assert_int_equal(train->n + held->n, 2 * N);
    assert_int_equal(held->n, r.validation);
    for (int64_t i = 0; i < held->n; i++) {
        cn_dataset_item x = {0};
        int picture = -1;
        assert_int_equal(cn_dataset_get(ctx, held, i, true, &x), CN_OK);
        assert_int_equal(sscanf(x.prompt, "%d", &picture), 1);
        cn_dataset_item_free(&x);
        for (int64_t j = 0; j < train->n; j++) {
            int other = -1;
            assert_int_equal(cn_dataset_get(ctx, train, j, true, &x), CN_OK);
            assert_int_equal(sscanf(x.prompt, "%d", &other), 1);
            cn_dataset_item_free(&x);
            assert_int_not_equal(picture, other);
        }
    }
    /* The same sides where the set lies elsewhere. */
    const char *const moved[] = {at(3, "moved"), NULL};
    assert_int_equal(rename(dirs[0], moved[0]), 0);
    o.dirs = moved;
    o.output_dir = at(5, "again");
    if (cn_dataset_copy(ctx, &o, NULL) != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(rename(moved[0], dirs[0]), 0);
    expect_same("split/validation", "again/validation");
    cn_dataset_close(train);
    cn_dataset_close(held);
}

static void end_at(void *user, int64_t done, int64_t total)
{
    (void)total;
    if (done == *(int64_t *)user) _exit(9);
}

static void goes_on_after_a_kill(void **state)
{
    (void)state;
    const char *const dirs[] = {at(2, "hf"), NULL};
    for (int64_t kill = 3; kill <= N; kill += 4) {
        int status = 0;
        cn_dataset_copy_options o = {.dirs = dirs,
                                     .output_dir = at(4, "killed"),
                                     .layout = "webdataset",
                                     .shard_size = 9000,
                                     .progress = end_at,
                                     .user = &kill};
        assert_int_equal(cn_dir_remove(ctx, at(4, "killed")), CN_OK);
        const pid_t child = fork();
        if (child == 0) {
            cn_ctx *own = cn_ctx_create(1);
            if (cn_dataset_copy(own, &o, NULL) != CN_OK) _exit(8);
            _exit(7);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 9);
        o.progress = NULL;
        cn_dataset_copy_result r;
        if (cn_dataset_copy(ctx, &o, &r) != CN_OK) fail_msg("%s", cn_error(ctx));
        assert_int_equal(r.pairs, N);
        expect_same("hf", "killed");
    }
}

static void refused(void **state)
{
    (void)state;
    const char *const dirs[] = {at(2, "b"), NULL}, *const none[] = {NULL};
    const struct {
        const char *const *dirs;
        cn_dataset_copy_options o;
        const char *message;
    } cases[] = {
        {none, {0}, "no data set"},
        {dirs, {.count = 6}, "6 pairs of 5"},
        {dirs, {.layout = "webdataset"}, "another folder is expected"},
        {dirs, {.layout = "zip"}, "must be fill50k, imagefolder or webdataset"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_dataset_copy_options o = cases[i].o;
        o.dirs = cases[i].dirs;
        o.output_dir = at(4, "both");
        assert_int_not_equal(cn_dataset_copy(ctx, &o, NULL), CN_OK);
        if (!strstr(cn_error(ctx), cases[i].message))
            fail_msg("'%s' is not in '%s'", cases[i].message, cn_error(ctx));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_every_layout), cmocka_unit_test(two_become_one),
        cmocka_unit_test(some_are_drawn),       cmocka_unit_test(sides_share_no_picture),
        cmocka_unit_test(goes_on_after_a_kill), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
