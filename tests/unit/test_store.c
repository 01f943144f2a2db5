/* test_store.c - files of records that stay: found again, torn, damaged, shared, of something else. */
#include "../support/unit/unit.h"
#include "train/store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD = 24, SLOT = 16 + RECORD, HEAD = 64 };

static char path[128];

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0) return -1;
    snprintf(path, sizeof path, "%s/records", root);
    return 0;
}

/* n records whose keys are 100, 101, ... */
static cn_status open_records(int64_t n, uint64_t identity, cn_store **out)
{
    uint64_t *keys = cn_alloc_array(ctx, (size_t)n, sizeof *keys);
    assert_non_null(keys);
    for (int64_t i = 0; i < n; i++) keys[i] = 100 + (uint64_t)i;
    return cn_store_open(
        ctx,
        &(cn_store_file){
            .path = path, .identity = identity, .record_bytes = RECORD, .n = n, .keys = keys},
        out);
}

static void write_record(cn_store *s, int64_t i)
{
    char record[RECORD];
    memset(record, 'a' + (int)i, sizeof record);
    must(cn_store_write(s, i, record));
}

static void assert_record(cn_store *s, int64_t i)
{
    char record[RECORD], got[RECORD];
    memset(record, 'a' + (int)i, sizeof record);
    must(cn_store_read(s, ctx, i, got));
    assert_memory_equal(record, got, sizeof got);
}

static int64_t file_bytes(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void records_are_found_again(void **state)
{
    (void)state;
    cn_store *s = NULL;
    must(open_records(4, 7, &s));
    for (int64_t i = 0; i < 4; i++) assert_false(cn_store_has(s, i));
    write_record(s, 2);
    write_record(s, 0);
    cn_store_destroy(s);
    must(open_records(4, 7, &s));
    assert_true(cn_store_has(s, 0) && !cn_store_has(s, 1));
    assert_true(cn_store_has(s, 2) && !cn_store_has(s, 3));
    assert_record(s, 0);
    assert_record(s, 2);
    cn_store_destroy(s);
}

static void torn_ends_are_cut_off(void **state)
{
    (void)state;
    cn_store *s = NULL;
    const int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "torn", 4), 4);
    close(fd);
    must(open_records(4, 7, &s));
    assert_int_equal(file_bytes(), HEAD + 2 * SLOT);
    write_record(s, 1);
    assert_int_equal(file_bytes(), HEAD + 3 * SLOT);
    assert_record(s, 0);
    cn_store_destroy(s);
}

static void damaged_records_are_absent_and_replaced(void **state)
{
    (void)state;
    cn_store *s = NULL, *reader = NULL;
    must(open_records(4, 7, &reader));
    const int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, HEAD + SLOT + 20), 1); /* the second slot holds record 0 */
    close(fd);
    char got[RECORD];
    assert_int_equal(cn_store_read(reader, ctx, 0, got), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), path));
    must(open_records(4, 7, &s));
    assert_true(cn_store_damaged(s, 0) && !cn_store_has(s, 0));
    assert_true(cn_store_has(s, 2) && !cn_store_damaged(s, 2));
    write_record(s, 0);
    assert_int_equal(file_bytes(), HEAD + 3 * SLOT); /* in the same place */
    assert_record(s, 0);
    assert_record(reader, 0);
    cn_store_destroy(s);
    cn_store_destroy(reader);
}

static void processes_share_a_file(void **state)
{
    (void)state;
    cn_store *a = NULL, *b = NULL;
    must(open_records(6, 7, &a));
    must(open_records(6, 7, &b));
    write_record(a, 4);
    write_record(b, 5);
    write_record(a, 3);
    assert_false(cn_store_has(a, 5));
    must(cn_store_refresh(a));
    must(cn_store_refresh(b));
    for (int64_t i = 0; i < 6; i++) {
        assert_record(a, i);
        assert_record(b, i);
    }
    cn_store_destroy(a);
    cn_store_destroy(b);
}

static void files_of_something_else_are_refused(void **state)
{
    (void)state;
    cn_store *s = NULL;
    assert_int_equal(open_records(4, 8, &s), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "--cache-dir"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_found_again),
        cmocka_unit_test(torn_ends_are_cut_off),
        cmocka_unit_test(damaged_records_are_absent_and_replaced),
        cmocka_unit_test(processes_share_a_file),
        cmocka_unit_test(files_of_something_else_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
