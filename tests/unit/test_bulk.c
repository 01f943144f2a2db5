/* SPDX-License-Identifier: Apache-2.0 */
/* Folders' listings, and runs over many pictures: what is made, kept, made anew, and what failures
 * leave behind. */
#include "../support/tiny_base.h"

#include "annotate/bulk.h"
#include "io/json.h"
#include "io/listing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 7 };

static char folder[] = "/tmp/cn-bulk-XXXXXX";
static cn_ctx *ctx;

static const char *at(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    assert_int_equal(cn_file_write(ctx, at(name), text, strlen(text)), CN_OK);
}

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(2);
    return ctx && mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    tiny_dir_remove(folder);
    return 0;
}

/* --- listings --------------------------------------------------------------------------------- */

static void listings_are_sorted(void **state)
{
    (void)state;
    static const char *const files[] = {"l/b.JPG",       "l/a.png",     "l/a.jpg",
                                        "l/.hidden.png", "l/a b.webp",  "l/note.txt",
                                        "l/sub/z.jpeg",  "l/out/x.png", "l/sub/deep/q.png"};
    static const char *const flat[] = {"a.jpg", "a.png", "a b.webp", "b.JPG"};
    static const char *const deep[] = {"a.jpg", "a.png",          "a b.webp",
                                       "b.JPG", "sub/deep/q.png", "sub/z.jpeg"};
    char l[64], out[64];
    assert_int_equal(cn_dir_make(ctx, at("l/sub/deep")), CN_OK);
    assert_int_equal(cn_dir_make(ctx, at("l/out")), CN_OK);
    for (size_t i = 0; i < CN_COUNT(files); i++) put(files[i], "x");
    snprintf(l, sizeof l, "%s/l/", folder);
    snprintf(out, sizeof out, "%s/l/out", folder);
    for (int recursive = 0; recursive < 2; recursive++) {
        cn_listing_rules rules = {cn_picture_endings, recursive, out};
        cn_listing list = {0};
        assert_int_equal(cn_listing_read(ctx, l, &rules, &list), CN_OK);
        assert_int_equal(list.n, recursive ? CN_COUNT(deep) : CN_COUNT(flat));
        for (int64_t i = 0; i < list.n; i++)
            assert_string_equal(list.names[i], recursive ? deep[i] : flat[i]);
        cn_listing_free(&list);
    }
    cn_listing_rules rules = {cn_picture_endings, true, NULL};
    cn_listing list = {0};
    assert_int_equal(cn_listing_read(ctx, at("nowhere"), &rules, &list), CN_EIO);
}

/* --- runs ------------------------------------------------------------------------------------- */

typedef struct work {
    cn_bulk b;
    cn_bulk_item items[N];
    char in[N][128], out[N][64];
    bool fails[N];
    uint8_t value; /* of the pictures' bytes */
    int64_t cancel_at;
    int made, told, progress;
    char problem[4096];
} work;

static cn_status make(void *user, cn_ctx *own, int64_t i, json_t *note, cn_image **out)
{
    work *w = user;
    int made;
#pragma omp atomic capture
    made = ++w->made;
    if (w->fails[i]) return cn_fail(own, CN_EFORMAT, "%s: is broken", w->items[i].in);
    json_object_set_new(note, "drawn", json_integer(100 + i));
    CN_TRY(cn_image_create(own, 2, 2, out));
    memset((*out)->rgb, w->value, 12);
    if (made == w->cancel_at) cn_cancel(ctx);
    return CN_OK;
}

static void count_progress(void *user, int64_t done, int64_t total)
{
    work *w = user;
    assert_true(done <= total);
    w->progress++;
}

static void keep_problem(void *user, const char *text)
{
    work *w = user;
    w->told++;
    snprintf(w->problem, sizeof w->problem, "%s", text);
}

static void work_init(work *w, const char *dir, bool together)
{
    static char path[4096];
    *w = (work){.value = 10};
    snprintf(path, sizeof path, "%s/%s", folder, dir);
    for (int i = 0; i < N; i++) {
        snprintf(w->in[i], sizeof w->in[i], "%s/in%d.jpg", folder, i);
        snprintf(w->out[i], sizeof w->out[i], "%s%d.png", i % 2 ? "sub/" : "", i);
        w->items[i] = (cn_bulk_item){w->in[i], w->out[i]};
        assert_int_equal(cn_file_write(ctx, w->in[i], "x", 1), CN_OK);
    }
    w->b = (cn_bulk){.dir = path,
                     .record = "record.jsonl",
                     .settings = "first",
                     .items = w->items,
                     .n = N,
                     .together = together,
                     .make = make,
                     .user = w,
                     .progress = count_progress,
                     .problem = keep_problem,
                     .told = w};
}

static void expect(work *w, cn_status status, int64_t made, int64_t kept, int64_t failed)
{
    cn_bulk_result r;
    uint8_t states[N];
    w->made = w->told = w->progress = 0;
    const cn_status s = cn_bulk_run(ctx, &w->b, states, &r);
    if (s != status) fail_msg("status %d: %s", s, cn_error(ctx));
    assert_int_equal(r.made, made);
    assert_int_equal(r.kept, kept);
    assert_int_equal(r.failed, failed);
    int counts[4] = {0};
    for (int i = 0; i < N; i++) counts[states[i]]++;
    assert_int_equal(counts[CN_BULK_MADE], made);
    assert_int_equal(counts[CN_BULK_KEPT], kept);
    assert_int_equal(counts[CN_BULK_FAILED], failed);
    assert_int_equal(w->told, failed);
}

static uint8_t byte_of(const work *w, int i)
{
    char path[8192];
    cn_image *image = NULL;
    snprintf(path, sizeof path, "%s/%s", w->b.dir, w->out[i]);
    if (cn_image_load(ctx, path, &image) != CN_OK) fail_msg("%s", cn_error(ctx));
    const uint8_t v = image->rgb[0];
    cn_image_destroy(image);
    return v;
}

static void what_is_there_is_kept(void **state)
{
    (void)state;
    for (int together = 0; together < 2; together++) {
        work w;
        work_init(&w, together ? "together" : "alone", together);
        expect(&w, CN_OK, N, 0, 0);
        assert_int_equal(w.progress, N);
        assert_int_equal(byte_of(&w, 3), 10);
        w.value = 20;
        expect(&w, CN_OK, 0, N, 0);
        assert_int_equal(byte_of(&w, 3), 10);
        char path[8192];
        snprintf(path, sizeof path, "%s/%s", w.b.dir, w.out[3]);
        unlink(path);                                                      /* one is gone */
        assert_int_equal(cn_file_write(ctx, w.in[4], "longer", 6), CN_OK); /* one changed */
        expect(&w, CN_OK, 2, N - 2, 0);
        assert_int_equal(byte_of(&w, 3), 20);
        assert_int_equal(byte_of(&w, 2), 10);
        w.b.settings = "second";
        expect(&w, CN_OK, N, 0, 0);
        assert_int_equal(byte_of(&w, 2), 20);
    }
}

static void failures_cost_themselves_only(void **state)
{
    (void)state;
    work w;
    work_init(&w, "failures", true);
    w.fails[2] = w.fails[5] = true;
    expect(&w, CN_OK, N - 2, 0, 2);
    assert_non_null(strstr(w.problem, "is broken"));
    w.fails[2] = false;
    expect(&w, CN_OK, 1, N - 2, 1);
    snprintf(w.out[6], sizeof w.out[6], "%s", w.out[0]); /* both would write it */
    w.fails[5] = false;
    expect(&w, CN_OK, 1, N - 2, 1);
    assert_non_null(strstr(w.problem, "in6.jpg"));
    assert_non_null(strstr(w.problem, "same file, 0.png"));
}

static void a_torn_record_costs_one_picture(void **state)
{
    (void)state;
    work w;
    char path[8192], *text = NULL;
    size_t n;
    work_init(&w, "torn", false);
    expect(&w, CN_OK, N, 0, 0);
    snprintf(path, sizeof path, "%s/record.jsonl", w.b.dir);
    assert_int_equal(cn_file_read(ctx, path, 1 << 20, &text, &n), CN_OK);
    assert_non_null(strstr(text, "\"drawn\":103"));
    assert_int_equal(cn_file_write(ctx, path, text, n - 10), CN_OK);
    cn_free(text);
    expect(&w, CN_OK, 1, N - 1, 0);
    expect(&w, CN_OK, 0, N, 0);
    assert_int_equal(cn_file_write(ctx, path, "no JSON\n", 8), CN_OK);
    expect(&w, CN_OK, N, 0, 0);
}

static void stopped_and_resumed(void **state)
{
    (void)state;
    work w;
    work_init(&w, "stopped", false);
    w.cancel_at = 3;
    expect(&w, CN_ECANCELLED, 3, 0, 0);
    assert_non_null(strstr(cn_error(ctx), "3 of 7 pictures made"));
    cn_ctx_destroy(ctx); /* a context stays cancelled */
    ctx = cn_ctx_create(2);
    w.cancel_at = -1;
    expect(&w, CN_OK, N - 3, 3, 0);
}

static void a_place_that_cannot_be_written_ends_it(void **state)
{
    (void)state;
    work w;
    work_init(&w, "blocked", false);
    put("blocked", "a file where the folder would be");
    cn_bulk_result r;
    assert_int_equal(cn_bulk_run(ctx, &w.b, NULL, &r), CN_EIO);
    unlink(at("blocked"));
    assert_int_equal(cn_dir_make(ctx, at("blocked")), CN_OK);
    put("blocked/sub", "a file where a folder below would be");
    w.made = 0;
    assert_int_equal(cn_bulk_run(ctx, &w.b, NULL, &r), CN_EIO);
    assert_int_equal(r.made, 1); /* 0.png, then sub/1.png */
    assert_int_equal(w.made, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listings_are_sorted),
        cmocka_unit_test(what_is_there_is_kept),
        cmocka_unit_test(failures_cost_themselves_only),
        cmocka_unit_test(a_torn_record_costs_one_picture),
        cmocka_unit_test(stopped_and_resumed),
        cmocka_unit_test(a_place_that_cannot_be_written_ends_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
