/* SPDX-License-Identifier: Apache-2.0 */
/* test_read_ahead.c - shards on a disk far away, each read of which takes 60 ms: workers wait for
 * it side by side, within a batch too, and what is trained stays the same. Runs the program itself.
 */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW "read:60"
enum { RUN_SECONDS = 120, STEPS = 6 };

static char failing[PATH_MAX], shards[256];

static void run(char *const *argv, const char *delay)
{
    char said[8192];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    if (delay) setenv("CN_DELAY", delay, 1);
    const pid_t pid = test_start(argv, ends[1]);
    unsetenv("CN_DELAY");
    close(ends[1]);
    if (test_read(pid, ends[0], RUN_SECONDS, said, sizeof said) != 0) fail_msg("%s", said);
    close(ends[0]);
}

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0 || !test_find_beside("controlnet-faults", failing)) return -1;
    path_in(shards, "shards");
    run((char *const[]){failing, "dataset", "convert", scenes, "--layout", "webdataset", "-o",
                        shards, NULL},
        NULL);
    return 0;
}

/* Trains on batches of 8 and returns the seconds that steps waited for data. */
static double train(const char *name, const char *workers, const char *delay)
{
    char out[256];
    double waited[STEPS], sum = 0;
    path_in(out, name);
    run((char *const[]){failing,
                        "train",
                        "-m",
                        model,
                        "--train-data-dir",
                        shards,
                        "-o",
                        out,
                        "--resolution",
                        "16",
                        "--train-batch-size",
                        "8",
                        "--max-train-steps",
                        "6",
                        "--dataloader-num-workers",
                        (char *)workers,
                        "--validation-steps",
                        "0",
                        "--seed",
                        "1",
                        "--threads",
                        "1",
                        "--learning-rate",
                        "1e-3",
                        NULL},
        delay);
    assert_int_equal(tiny_metrics(out, "data_wait_seconds", waited, STEPS), STEPS);
    for (int i = 0; i < STEPS; i++) sum += waited[i];
    return sum;
}

static void assert_same_result(const char *a, const char *b)
{
    char path[256], *one = NULL, *other = NULL;
    size_t n = 0, m = 0;
    const char *const dirs[] = {a, b};
    for (int k = 0; k < 2; k++) {
        char dir[256];
        path_in(dir, dirs[k]);
        snprintf(path, sizeof path, "%.200s/diffusion_pytorch_model.safetensors", dir);
        must(cn_file_read(ctx, path, 1 << 26, k ? &other : &one, k ? &m : &n));
    }
    assert_int_equal(n, m);
    assert_memory_equal(one, other, n);
    cn_free(one);
    cn_free(other);
}

/* One worker reads a batch's samples one after another, eight read them side by side. */
static void workers_wait_side_by_side(void **state)
{
    (void)state;
    const double one = train("one", "1", SLOW), eight = train("eight", "8", SLOW);
    print_message("steps waited %.2f s for one worker, %.2f s for eight\n", one, eight);
    assert_true(one > 8 * 0.060); /* nothing is computed before the first batch */
    assert_true(eight < one / 3);
    (void)train("near", "8", NULL);
    assert_same_result("one", "near");
    assert_same_result("eight", "near");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(workers_wait_side_by_side)};
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
