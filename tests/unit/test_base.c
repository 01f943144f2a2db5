/* SPDX-License-Identifier: Apache-2.0 */
/* test_base.c - context, memory, strings and files. */
#include "base/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int make_ctx(void **state)
{
    *state = cn_ctx_create(2);
    return *state ? 0 : -1;
}

static int drop_ctx(void **state)
{
    cn_ctx_destroy(*state);
    return 0;
}

/* --- context ---------------------------------------------------------------------------------- */

static void test_messages(void **state)
{
    cn_ctx *ctx = *state;
    assert_string_equal(cn_error(ctx), "");
    assert_int_equal(cn_fail(ctx, CN_EFORMAT, "width is %d", 7), CN_EFORMAT);
    assert_string_equal(cn_error(ctx), "width is 7");
    assert_int_equal(cn_fail_prefix(ctx, CN_EFORMAT, "a%s", ".png"), CN_EFORMAT);
    assert_string_equal(cn_error(ctx), "a.png: width is 7");
    cn_fail(ctx, CN_EIO, "again: %s", cn_error(ctx));
    assert_string_equal(cn_error(ctx), "again: a.png: width is 7");
}

static void test_long_messages_are_cut(void **state)
{
    cn_ctx *ctx = *state;
    char text[6000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    cn_fail(ctx, CN_EINVAL, "%s", text);
    size_t n = strlen(cn_error(ctx));
    assert_true(n > 500 && n < sizeof text);
    cn_fail_prefix(ctx, CN_EINVAL, "file");
    assert_true(strlen(cn_error(ctx)) == n);
    assert_memory_equal(cn_error(ctx), "file: xxx", 9);
    cn_fail_prefix(ctx, CN_EINVAL, "%s", text);
    assert_true(strlen(cn_error(ctx)) == n);
}

static void test_null_context(void **state)
{
    (void)state;
    assert_int_equal(cn_fail(NULL, CN_EIO, "x"), CN_EIO);
    assert_int_equal(cn_fail_prefix(NULL, CN_EIO, "x"), CN_EIO);
    assert_string_equal(cn_error(NULL), "");
    cn_log(NULL, CN_LOG_INFO, "x");
    cn_cancel(NULL);
    assert_false(cn_cancelled(NULL));
    assert_int_equal(cn_threads(NULL), 1);
    cn_ctx_destroy(NULL);
    void *p = cn_alloc(NULL, 1);
    assert_non_null(p);
    cn_free(p);
}

static void test_threads_and_cancel(void **state)
{
    cn_ctx *ctx = *state;
    assert_int_equal(cn_threads(ctx), 2);
    cn_ctx *all = cn_ctx_create(0);
    assert_non_null(all);
    assert_true(cn_threads(all) >= 1);
    cn_ctx_destroy(all);
    assert_false(cn_cancelled(ctx));
    cn_cancel(ctx);
    assert_true(cn_cancelled(ctx));
}

static void test_status_names(void **state)
{
    (void)state;
    for (int s = CN_OK; s <= CN_EINTERNAL; s++)
        for (int t = CN_OK; t < s; t++)
            assert_string_not_equal(cn_status_name((cn_status)s), cn_status_name((cn_status)t));
}

static void keep_line(void *user, cn_log_level level, const char *line)
{
    char *kept = user;
    snprintf(kept, 64, "%d %s", (int)level, line);
}

static void test_log(void **state)
{
    cn_ctx *ctx = *state;
    char kept[64] = "";
    cn_log(ctx, CN_LOG_WARN, "dropped");
    cn_ctx_set_log(ctx, keep_line, kept);
    cn_log(ctx, CN_LOG_WARN, "step %d", 3);
    assert_string_equal(kept, "1 step 3");
}

static void test_clock_goes_forward(void **state)
{
    (void)state;
    double a = cn_now_s(), b = cn_now_s();
    assert_true(b >= a);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void test_alignment_and_zero(void **state)
{
    cn_ctx *ctx = *state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < CN_COUNT(sizes); i++) {
        unsigned char *p = cn_alloc0(ctx, sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++) assert_int_equal(p[k], 0);
        cn_free(p);
    }
}

static void test_sizes_that_overflow(void **state)
{
    cn_ctx *ctx = *state;
    size_t n = 5;
    assert_true(cn_mul_size(3, 4, &n));
    assert_int_equal(n, 12);
    assert_false(cn_mul_size(SIZE_MAX / 2, 3, &n));
    assert_int_equal(n, 12);
    assert_null(cn_alloc_array(ctx, SIZE_MAX / 2, 3));
    assert_non_null(strstr(cn_error(ctx), "out of memory"));
    assert_null(cn_alloc(ctx, SIZE_MAX));
    assert_null(cn_alloc(ctx, SIZE_MAX - 32));
    assert_null(cn_alloc0(ctx, (size_t)PTRDIFF_MAX));
}

static void test_regrow_keeps_bytes(void **state)
{
    cn_ctx *ctx = *state;
    char *p = cn_regrow(ctx, NULL, 0, 4);
    assert_non_null(p);
    memcpy(p, "abc", 4);
    p = cn_regrow(ctx, p, 4, 5000);
    assert_non_null(p);
    assert_string_equal(p, "abc");
    assert_int_equal((uintptr_t)p % 64, 0);
    cn_ctx_fail_alloc_after(ctx, 0);
    assert_null(cn_regrow(ctx, p, 5000, 9000));
    assert_string_equal(p, "abc");
    cn_free(p);
}

static void test_nth_allocation_fails(void **state)
{
    cn_ctx *ctx = *state;
    cn_ctx_fail_alloc_after(ctx, 2);
    char *a = cn_strdup(ctx, "one"), *b = cn_strdup(ctx, "two");
    assert_string_equal(a, "one");
    assert_string_equal(b, "two");
    assert_null(cn_alloc(ctx, 8));
    assert_null(cn_strdup(ctx, "three"));
    assert_string_not_equal(cn_error(ctx), "");
    cn_ctx_fail_alloc_after(ctx, -1);
    char *c = cn_strdup(ctx, "three");
    assert_string_equal(c, "three");
    cn_free(a);
    cn_free(b);
    cn_free(c);
    cn_free(NULL);
}

/* --- strings ---------------------------------------------------------------------------------- */

static void test_string_grows(void **state)
{
    (void)state;
    cn_str s = {0};
    cn_str_add(&s, "", 0);
    assert_string_equal(s.data, "");
    cn_str_adds(&s, "ab");
    cn_str_add(&s, "c\0d", 3);
    cn_str_addf(&s, "%s-%03d", "x", 7);
    assert_int_equal(s.len, 10);
    assert_memory_equal(s.data, "abc\0dx-007", 11);
    for (int i = 0; i < 5000; i++) cn_str_addf(&s, "%d,", i % 10);
    assert_int_equal(s.len, 10010);
    assert_string_equal(s.data + 10000, "5,6,7,8,9,");
    assert_false(s.failed);
    cn_str_free(&s);
    assert_null(s.data);
    cn_str_free(&s);
}

static void test_string_failure_is_sticky(void **state)
{
    (void)state;
    cn_str s = {0};
    cn_str_adds(&s, "kept");
    cn_str_add(&s, "x", SIZE_MAX - 1);
    assert_true(s.failed);
    cn_str_adds(&s, "more");
    assert_string_equal(s.data, "kept");
    cn_str_free(&s);
}

static void test_format_reports_truncation(void **state)
{
    cn_ctx *ctx = *state;
    char out[8];
    assert_int_equal(cn_format(ctx, out, sizeof out, "%d", 1234567), CN_OK);
    assert_string_equal(out, "1234567");
    assert_int_equal(cn_format(ctx, out, sizeof out, "%d", 12345678), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "too long"));
}

/* --- files ------------------------------------------------------------------------------------ */

typedef struct folder {
    cn_ctx *ctx;
    char dir[64], path[128];
} folder;

static int make_folder(void **state)
{
    folder *f = calloc(1, sizeof *f);
    if (!f) return -1;
    f->ctx = cn_ctx_create(1);
    snprintf(f->dir, sizeof f->dir, "/tmp/cn-base-XXXXXX");
    if (!f->ctx || !mkdtemp(f->dir)) return -1;
    snprintf(f->path, sizeof f->path, "%s/file", f->dir);
    *state = f;
    return 0;
}

static int drop_folder(void **state)
{
    folder *f = *state;
    unlink(f->path);
    rmdir(f->dir);
    cn_ctx_destroy(f->ctx);
    free(f);
    return 0;
}

static int count_entries(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_write_and_read_back(void **state)
{
    folder *f = *state;
    char *data = NULL;
    size_t n = 0;
    assert_int_equal(cn_file_write(f->ctx, f->path, "a\0b", 3), CN_OK);
    assert_int_equal(cn_file_write(f->ctx, f->path, "hello", 5), CN_OK);
    assert_true(cn_file_exists(f->path));
    assert_false(cn_file_exists(f->dir));
    assert_int_equal(cn_file_read(f->ctx, f->path, 5, &data, &n), CN_OK);
    assert_int_equal(n, 5);
    assert_string_equal(data, "hello");
    cn_free(data);
    assert_int_equal(cn_file_write(f->ctx, f->path, NULL, 0), CN_OK);
    assert_int_equal(cn_file_read(f->ctx, f->path, 0, &data, &n), CN_OK);
    assert_int_equal(n, 0);
    assert_string_equal(data, "");
    cn_free(data);
    assert_int_equal(count_entries(f->dir), 1);
}

static void test_links_are_followed_and_modes_stay(void **state)
{
    folder *f = *state;
    char link[160], dangling[160], missing[160];
    struct stat st;
    snprintf(link, sizeof link, "%s/link", f->dir);
    snprintf(dangling, sizeof dangling, "%s/dangling", f->dir);
    snprintf(missing, sizeof missing, "%s/missing", f->dir);
    assert_int_equal(cn_file_write(f->ctx, f->path, "old", 3), CN_OK);
    assert_int_equal(chmod(f->path, 0640), 0);
    assert_int_equal(symlink("file", link), 0);
    assert_int_equal(symlink("missing", dangling), 0);
    assert_int_equal(cn_file_write(f->ctx, link, "new", 3), CN_OK);
    assert_int_equal(cn_file_write(f->ctx, dangling, "made", 4), CN_OK);
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(lstat(dangling, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(lstat(f->path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(lstat(missing, &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(count_entries(f->dir), 4);
    assert_int_equal(unlink(link) | unlink(dangling) | unlink(missing), 0);
    assert_int_equal(symlink("link", link), 0);
    assert_int_equal(cn_file_write(f->ctx, link, "new", 3), CN_EIO); /* a link to itself */
    assert_int_equal(unlink(link), 0);
}

static void test_a_pipe_is_written_into(void **state)
{
    folder *f = *state;
    char got[8] = {0};
    struct stat st;
    assert_int_equal(mkfifo(f->path, 0600), 0);
    const int fd = open(f->path, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(cn_file_write(f->ctx, f->path, "hello", 5), CN_OK);
    assert_int_equal(read(fd, got, sizeof got), 5);
    assert_string_equal(got, "hello");
    close(fd);
    cn_cancel(f->ctx); /* nobody reads it now */
    assert_int_equal(cn_file_write(f->ctx, f->path, "hello", 5), CN_ECANCELLED);
    assert_int_equal(lstat(f->path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(count_entries(f->dir), 1);
}

/* Another process with this one's number (in a container of its own) may be writing beside it. */
static void test_two_writers_of_one_file(void **state)
{
    folder *f = *state;
    char *data = NULL;
    size_t n = 0;
    cn_file_writer a, b;
    assert_int_equal(cn_writer_open(f->ctx, f->path, &a), CN_OK);
    assert_int_equal(cn_writer_open(f->ctx, f->path, &b), CN_OK);
    fputs("of a", a.f);
    fputs("b's", b.f);
    assert_int_equal(cn_writer_commit(f->ctx, &a), CN_OK);
    assert_int_equal(cn_file_read(f->ctx, f->path, 9, &data, &n), CN_OK);
    assert_string_equal(data, "of a");
    cn_free(data);
    assert_int_equal(cn_writer_commit(f->ctx, &b), CN_OK);
    assert_int_equal(cn_file_read(f->ctx, f->path, 9, &data, &n), CN_OK);
    assert_string_equal(data, "b's");
    cn_free(data);
    assert_int_equal(count_entries(f->dir), 1);
}

static void test_read_refuses(void **state)
{
    folder *f = *state;
    char *data = NULL;
    size_t n = 9;
    assert_int_equal(cn_file_read(f->ctx, f->path, 100, &data, &n), CN_EIO);
    assert_non_null(strstr(cn_error(f->ctx), f->path));
    assert_int_equal(cn_file_read(f->ctx, f->dir, 100, &data, &n), CN_EIO);
    assert_non_null(strstr(cn_error(f->ctx), "folder"));
    assert_int_equal(cn_file_write(f->ctx, f->path, "hello", 5), CN_OK);
    assert_int_equal(cn_file_read(f->ctx, f->path, 4, &data, &n), CN_EFORMAT);
    cn_ctx_fail_alloc_after(f->ctx, 0);
    assert_int_equal(cn_file_read(f->ctx, f->path, 5, &data, &n), CN_ENOMEM);
    assert_null(data);
    assert_int_equal(n, 9);
}

/* Their size is 0 until they are read. */
static void test_read_of_unknown_size(void **state)
{
    folder *f = *state;
    char *data = NULL;
    size_t n = 0;
    if (!cn_file_exists("/proc/self/status")) {
        print_message("skipped: /proc is not mounted here\n");
        skip();
    }
    assert_int_equal(cn_file_read(f->ctx, "/proc/self/status", 1 << 20, &data, &n), CN_OK);
    assert_true(n > 0 && strlen(data) == n);
    cn_free(data);
    assert_int_equal(cn_file_read(f->ctx, "/proc/self/status", 10, &data, &n), CN_EFORMAT);
}

/* What data may name must not be waited for: a pipe that nobody writes, a device without end. */
static void test_only_files_are_read(void **state)
{
    folder *f = *state;
    char *data = NULL;
    size_t n = 9;
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(cn_file_read(f->ctx, f->path, 100, &data, &n), CN_EIO);
    assert_non_null(strstr(cn_error(f->ctx), "pipe"));
    assert_int_equal(cn_file_read_head(f->ctx, f->path, 100, &data, &n), CN_EIO);
    assert_int_equal(cn_file_read(f->ctx, "/dev/zero", 100, &data, &n), CN_EIO);
    assert_non_null(strstr(cn_error(f->ctx), "device"));
    assert_null(data);
    assert_int_equal(n, 9);
}

static void test_abort_leaves_the_old_file(void **state)
{
    folder *f = *state;
    cn_file_writer w;
    assert_int_equal(cn_file_write(f->ctx, f->path, "old", 3), CN_OK);
    assert_int_equal(cn_writer_open(f->ctx, f->path, &w), CN_OK);
    assert_true(fputs("new", w.f) >= 0);
    assert_int_equal(count_entries(f->dir), 2);
    cn_writer_abort(&w);
    cn_writer_abort(&w);
    assert_int_equal(count_entries(f->dir), 1);
    char *data = NULL;
    size_t n = 0;
    assert_int_equal(cn_file_read(f->ctx, f->path, 10, &data, &n), CN_OK);
    assert_string_equal(data, "old");
    cn_free(data);
}

static void test_failed_write_cleans_up(void **state)
{
    folder *f = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/none/file", f->dir);
    assert_int_equal(cn_file_write(f->ctx, path, "x", 1), CN_EIO);
    assert_non_null(strstr(cn_error(f->ctx), path));
    /* A folder stands where the file should go: the rename fails. */
    assert_int_equal(mkdir(f->path, 0777), 0);
    assert_int_equal(cn_file_write(f->ctx, f->path, "x", 1), CN_EIO);
    assert_int_equal(count_entries(f->dir), 1);
    rmdir(f->path);
    char wide[5000];
    memset(wide, 'a', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    assert_int_equal(cn_file_write(f->ctx, wide, "x", 1), CN_EINVAL);
}

static void test_full_disk_is_an_error(void **state)
{
    folder *f = *state;
    if (access("/dev/full", W_OK) != 0) {
        print_message("skipped: there is no /dev/full here\n");
        skip();
    }
    cn_file_writer w;
    assert_int_equal(cn_writer_open(f->ctx, f->path, &w), CN_OK);
    const int full = open("/dev/full", O_WRONLY);
    assert_true(full >= 0 && dup2(full, w.fd) == w.fd);
    close(full);
    fputs("x", w.f);
    assert_int_equal(cn_writer_commit(f->ctx, &w), CN_EIO);
    assert_int_equal(count_entries(f->dir), 0);
}

static void test_dir_make(void **state)
{
    folder *f = *state;
    char path[300], inner[256];
    snprintf(inner, sizeof inner, "%s/x", f->dir);
    snprintf(path, sizeof path, "%s//y/", inner);
    assert_int_equal(cn_dir_make(f->ctx, path), CN_OK);
    assert_int_equal(cn_dir_make(f->ctx, path), CN_OK);
    assert_true(cn_dir_exists(path));
    rmdir(path);
    rmdir(inner);
    assert_int_equal(cn_file_write(f->ctx, f->path, "x", 1), CN_OK);
    snprintf(path, sizeof path, "%s/z", f->path);
    assert_int_equal(cn_dir_make(f->ctx, path), CN_EIO);
    assert_int_equal(cn_dir_make(f->ctx, ""), CN_EINVAL);
}

#define WITH_CTX(t)    cmocka_unit_test_setup_teardown(t, make_ctx, drop_ctx)
#define WITH_FOLDER(t) cmocka_unit_test_setup_teardown(t, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CTX(test_messages),
        WITH_CTX(test_long_messages_are_cut),
        cmocka_unit_test(test_null_context),
        WITH_CTX(test_threads_and_cancel),
        cmocka_unit_test(test_status_names),
        WITH_CTX(test_log),
        cmocka_unit_test(test_clock_goes_forward),
        WITH_CTX(test_alignment_and_zero),
        WITH_CTX(test_sizes_that_overflow),
        WITH_CTX(test_regrow_keeps_bytes),
        WITH_CTX(test_nth_allocation_fails),
        cmocka_unit_test(test_string_grows),
        cmocka_unit_test(test_string_failure_is_sticky),
        WITH_CTX(test_format_reports_truncation),
        WITH_FOLDER(test_write_and_read_back),
        WITH_FOLDER(test_links_are_followed_and_modes_stay),
        WITH_FOLDER(test_a_pipe_is_written_into),
        WITH_FOLDER(test_two_writers_of_one_file),
        WITH_FOLDER(test_read_refuses),
        WITH_FOLDER(test_read_of_unknown_size),
        WITH_FOLDER(test_only_files_are_read),
        WITH_FOLDER(test_abort_leaves_the_old_file),
        WITH_FOLDER(test_failed_write_cleans_up),
        WITH_FOLDER(test_full_disk_is_an_error),
        WITH_FOLDER(test_dir_make),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
