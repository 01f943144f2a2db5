/* SPDX-License-Identifier: Apache-2.0 */
/* test_limits.c - a full disk, a picture of too many pixels, a mapped file that is cut, a signal in
 * the middle of a large picture: each ends soon, in one line. Runs the program itself. */
#include "../support/child.h"
#include "../support/unit/unit.h"

#include "image/image.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { RUN_SECONDS = 60, LARGE_PX = 7000 };

static char program[PATH_MAX], failing[PATH_MAX], said[8192];

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0 || !test_find_controlnet(NULL, program)) return -1;
    return test_find_beside("controlnet-faults", failing) ? 0 : -1;
}

static pid_t start(char *const *argv, int *output)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    *output = ends[0];
    return pid;
}

static int finish(pid_t pid, int output)
{
    const int status = test_read(pid, output, RUN_SECONDS, said, sizeof said);
    close(output);
    return status;
}

static int lines(void)
{
    int n = 0;
    for (const char *p = said; (p = strchr(p, '\n')); p++) n++;
    return n;
}

static void put_picture(const char *name, int64_t px)
{
    char path[256];
    cn_image *image = NULL;
    path_in(path, name);
    must(cn_image_create(ctx, px, px, &image));
    must(cn_image_save_png(ctx, path, image, NULL));
    cn_image_destroy(image);
}

/* Every copy fails from the tenth write on: that is said once, not once a picture. */
static void a_full_disk_is_one_line(void **state)
{
    (void)state;
    char photos[256], out[256], name[64];
    int output;
    path_in(photos, "photos");
    path_in(out, "set");
    must(cn_dir_make(ctx, photos));
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "photos/%d.png", i);
        put_picture(name, 16);
    }
    char *const argv[] = {failing, "dataset", "prepare", photos, "--condition",
                          "canny", "-o",      out,       NULL};
    setenv("CN_FAIL", "write:10+:ENOSPC", 1);
    const pid_t pid = start(argv, &output);
    unsetenv("CN_FAIL");
    assert_int_equal(finish(pid, output), 1);
    if (lines() != 1 || !strstr(said, "No space left on device")) fail_msg("%s", said);
    const pid_t again = start(argv, &output);
    assert_int_equal(finish(again, output), 0);
}

/* A header that says 1 bit x 16384 x 12288, and as many bytes as that takes at least. */
static void pictures_of_too_many_pixels(void **state)
{
    (void)state;
    static uint8_t file[33 + 12 + 32768 + 12] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x40\0\0\0\x30\0\1";
    char path[256], out[256];
    int output;
    const uint32_t crc = (uint32_t)crc32(0, file + 12, 17), length = 32768;
    for (int i = 0; i < 4; i++) {
        file[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
        file[33 + i] = (uint8_t)(length >> (24 - 8 * i));
    }
    memcpy(file + 37, "IDAT", 4);
    memcpy(file + 33 + 12 + 32768 + 4, "IEND", 4);
    path_in(path, "vast.png");
    path_in(out, "vast-out.png");
    must(cn_file_write(ctx, path, file, sizeof file));
    char *const argv[] = {program, "annotate", "canny", path, "-o", out, NULL};
    pid_t pid = start(argv, &output);
    assert_int_equal(finish(pid, output), 1);
    if (!strstr(said, "at most 178956970 px in all are allowed (--max-pixels)"))
        fail_msg("%s", said);
    char *const more[] = {program, "annotate",     "canny",     path, "-o",
                          out,     "--max-pixels", "300000000", NULL};
    pid = start(more, &output);
    assert_int_equal(finish(pid, output), 1);
    if (!strstr(said, "damaged PNG")) fail_msg("%s", said);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void a_large_picture_ends_within_a_second(void **state)
{
    (void)state;
    char path[256], out[256];
    int output;
    put_picture("large.png", LARGE_PX);
    path_in(path, "large.png");
    path_in(out, "large-out.png");
    char *const argv[] = {program, "annotate", "canny", path, "-o", out, "--threads", "1", NULL};
    const pid_t pid = start(argv, &output);
    nanosleep(&(struct timespec){.tv_nsec = 600000000}, NULL);
    kill(pid, SIGTERM);
    const double from = now();
    assert_int_equal(finish(pid, output), 1);
    assert_true(now() - from < 2.0); /* one, and what a busy machine adds */
    if (lines() != 1 || !strstr(said, "interrupted")) fail_msg("%s", said);
    assert_false(cn_file_exists(out));
}

/* Comes to whoever reads what is gone of a mapped file. */
static void a_bus_error_is_one_line(void **state)
{
    (void)state;
    char fifo[256], path[256];
    int output;
    put_picture("small.png", 16);
    path_in(path, "small.png");
    path_in(fifo, "waits");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    char *const argv[] = {program, "annotate", "canny", path, "-o", fifo, NULL};
    const pid_t pid = start(argv, &output);
    nanosleep(&(struct timespec){.tv_nsec = 800000000}, NULL);
    kill(pid, SIGBUS);
    assert_int_equal(finish(pid, output), 1);
    if (lines() != 1 || !strstr(said, "cut short while it was read")) fail_msg("%s", said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_one_line),
        cmocka_unit_test(pictures_of_too_many_pixels),
        cmocka_unit_test(a_large_picture_ends_within_a_second),
        cmocka_unit_test(a_bus_error_is_one_line),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
