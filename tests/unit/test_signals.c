/* SPDX-License-Identifier: Apache-2.0 */
/* test_signals.c - a training whose terminal goes away: SIGHUP saves and stops, unless it is
 * ignored; a reader of its output that ends doesn't end it. Runs the program itself. Within this
 * process: handlers of signals run on their thread's stack, whatever is being computed. */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RUN_SECONDS = 60 };

static char program[PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1) == 0 && test_find_controlnet(NULL, program) ? 0 : -1;
}

/* The program in training, its output on a pipe. */
typedef struct training {
    char out[256];
    pid_t pid;
    int output; /* the pipe's end to read from */
} training;

static training start(const char *name, const char *steps, const char *checkpointing)
{
    training t;
    int ends[2];
    path_in(t.out, name);
    char resolution[16];
    snprintf(resolution, sizeof resolution, "%d", TINY_PX);
    char *const argv[] = {program,
                          "train",
                          "-m",
                          model,
                          "--train-data-dir",
                          scenes,
                          "--output-dir",
                          t.out,
                          "--resolution",
                          resolution,
                          "--train-batch-size=2",
                          "--validation-steps=0",
                          "--max-train-steps",
                          (char *)(uintptr_t)steps,
                          "--checkpointing-steps",
                          (char *)(uintptr_t)checkpointing,
                          "--threads=1",
                          "--json",
                          NULL};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    t.pid = test_start(argv, ends[1]);
    close(ends[1]);
    assert_true(t.pid > 0);
    t.output = ends[0];
    return t;
}

static void await(const training *t, const char *name)
{
    char path[300];
    const double end = cn_now_s() + RUN_SECONDS;
    snprintf(path, sizeof path, "%s/%s", t->out, name);
    while (!cn_dir_exists(path) && cn_now_s() < end)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    if (!cn_dir_exists(path)) fail_msg("%s didn't come", path);
}

static int end(training *t, char said[8192])
{
    const int status = test_read(t->pid, t->output, RUN_SECONDS, said, 8192);
    close(t->output);
    return status;
}

static bool saved(const training *t, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", t->out, name);
    return cn_file_exists(path);
}

/* As often as shell and system send it. */
static void a_hangup_saves_and_stops(void **state)
{
    (void)state;
    char said[8192];
    training t = start("hangup", "100000", "2");
    await(&t, "checkpoint-2");
    kill(t.pid, SIGHUP);
    kill(t.pid, SIGHUP);
    const int status = end(&t, said);
    if (status != 1 || !strstr(said, "stopped after step "))
        fail_msg("status %d: %s", status, said);
}

static void an_ignored_hangup_is_ignored(void **state)
{
    (void)state;
    char said[8192];
    signal(SIGHUP, SIG_IGN); /* as nohup does; the program keeps it */
    training t = start("nohup", "40", "2");
    signal(SIGHUP, SIG_DFL);
    await(&t, "checkpoint-2");
    kill(t.pid, SIGHUP);
    const int status = end(&t, said);
    if (status != 0 || !saved(&t, "control.safetensors")) fail_msg("status %d: %s", status, said);
}

/* Exit status 1: the result's line found no reader. */
static void nobody_reads_and_it_trains_on(void **state)
{
    (void)state;
    training t = start("unread", "40", "2");
    await(&t, "checkpoint-2");
    close(t.output);
    assert_int_equal(test_wait(t.pid, RUN_SECONDS), 1);
    assert_true(saved(&t, "control.safetensors"));
    assert_true(saved(&t, "checkpoint-40/trainer_state.json"));
}

static pthread_t computes;
static char *stack;
static size_t stack_bytes;
static volatile sig_atomic_t handled, astray;
static volatile bool trained;

static void note_the_stack(int number)
{
    char here;
    (void)number;
    handled++;
    if (pthread_equal(pthread_self(), computes) && (&here < stack || &here >= stack + stack_bytes))
        astray++;
}

static void *interrupt(void *user)
{
    (void)user;
    while (!trained) {
        pthread_kill(computes, SIGUSR2);
        nanosleep(&(struct timespec){0, 20000}, NULL);
    }
    return NULL;
}

/* A handler elsewhere writes over somebody's memory: oneDNN's gemm (issue 4845 there). */
static void handlers_run_on_the_stack(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "interrupted");
    cn_train_options o = tiny_options(out);
    o.max_train_steps = 60;
    pthread_attr_t attr;
    pthread_t other;
    void *low = NULL;
    computes = pthread_self();
    assert_int_equal(pthread_getattr_np(computes, &attr), 0);
    pthread_attr_getstack(&attr, &low, &stack_bytes);
    pthread_attr_destroy(&attr);
    stack = low;
    signal(SIGUSR2, note_the_stack);
    assert_int_equal(pthread_create(&other, NULL, interrupt, NULL), 0);
    const cn_status s = cn_train(ctx, &o, NULL, NULL);
    trained = true;
    pthread_join(other, NULL);
    signal(SIGUSR2, SIG_DFL);
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_true(handled > 0);
    assert_int_equal(astray, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hangup_saves_and_stops),
        cmocka_unit_test(an_ignored_hangup_is_ignored),
        cmocka_unit_test(nobody_reads_and_it_trains_on),
        cmocka_unit_test(handlers_run_on_the_stack),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
