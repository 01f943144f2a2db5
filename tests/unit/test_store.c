/* SPDX-License-Identifier: Apache-2.0 */
/* test_store.c - files of records that stay: found again, torn, damaged, shared, of something
 * else. */
#include "../support/unit/unit.h"
#include "data/store.h"

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

/* Puts another byte into a file and its time of change back to what it was: damage that nobody
 * notices. */
static void damage_unnoticed(const char *file, int64_t at)
{
    struct stat st;
    const int fd = open(file, O_RDWR);
    char byte = 0;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    const struct timespec times[] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void count_read(void *user, const char *what, int64_t done, int64_t total)
{
    (void)what, (void)done, (void)total;
    (*(int *)user)++;
}

/* Opens the file's first n records; how often that told how much it had read. */
static int open_watched(int64_t n, cn_store **out)
{
    int told = 0;
    uint64_t *keys = cn_alloc_array(ctx, (size_t)n, sizeof *keys);
    assert_non_null(keys);
    for (int64_t i = 0; i < n; i++) keys[i] = 100 + (uint64_t)i;
    must(cn_store_open(ctx,
                       &(cn_store_file){.path = path,
                                        .identity = 7,
                                        .record_bytes = RECORD,
                                        .n = n,
                                        .keys = keys,
                                        .progress = count_read,
                                        .progress_user = &told},
                       out));
    return told;
}

/* The note is believed until a record shows that it mustn't be. */
static void damage_without_a_trace_is_met_by_reading(void **state)
{
    (void)state;
    cn_store *s = NULL;
    char got[RECORD];
    assert_int_equal(open_watched(4, &s), 0);
    damage_unnoticed(path, HEAD + SLOT + 20); /* record 0 */
    assert_true(cn_store_has(s, 0));
    cn_store_destroy(s);
    assert_int_equal(open_watched(4, &s), 0);
    assert_true(cn_store_has(s, 0) && !cn_store_damaged(s, 0));
    assert_int_equal(cn_store_read(s, ctx, 0, got), CN_EFORMAT);
    assert_record(s, 2);
    cn_store_destroy(s);
    assert_int_equal(open_watched(4, &s), 1);
    assert_true(cn_store_damaged(s, 0));
    cn_store_destroy(s);
    assert_int_equal(open_watched(4, &s), 0); /* that it is damaged is noted too */
    assert_true(cn_store_damaged(s, 0));
    write_record(s, 0);
    cn_store_destroy(s);
    assert_int_equal(open_watched(4, &s), 0);
    assert_record(s, 0);
    cn_store_destroy(s);
}

/* A note that is cut short, of another kind or gone means reading, no more. */
static void notes_may_be_damaged(void **state)
{
    (void)state;
    char note[160];
    cn_store *s = NULL;
    snprintf(note, sizeof note, "%s.index", path);
    for (int k = 0; k < 3; k++) {
        if (k == 0) assert_int_equal(truncate(note, 50), 0);
        if (k == 1) must(cn_file_write(ctx, note, "note", 4));
        if (k == 2) assert_int_equal(unlink(note), 0);
        assert_int_equal(open_watched(4, &s), 1);
        assert_record(s, 0);
        cn_store_destroy(s);
        assert_int_equal(open_watched(4, &s), 0);
        cn_store_destroy(s);
    }
    damage_unnoticed(note, 40); /* a key: its record counts as absent */
    must(open_records(4, 7, &s));
    assert_int_equal(cn_store_has(s, 0) + cn_store_has(s, 1) + cn_store_has(s, 2), 2);
    cn_store_destroy(s);
    assert_int_equal(unlink(note), 0);
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
    assert_int_equal(open_watched(6, &a), 0); /* both kept the note up to date */
    for (int64_t i = 0; i < 6; i++) assert_record(a, i);
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
        cmocka_unit_test(damage_without_a_trace_is_met_by_reading),
        cmocka_unit_test(notes_may_be_damaged),
        cmocka_unit_test(processes_share_a_file),
        cmocka_unit_test(files_of_something_else_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
