/* SPDX-License-Identifier: Apache-2.0 */
/* test_lock.c - one run at a time writes into a folder, whatever writes: the second is told who
 * does. A killed one leaves nothing that has to be cleared away by hand. */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"

#include "base/lock.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

/* A process that holds the folder until it is killed. */
static pid_t hold(const char *dir)
{
    int ends[2];
    char ready = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        cn_dir_lock *lock = NULL;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ready = cn_dir_lock_take(NULL, dir, &lock) == CN_OK;
        if (write(ends[1], &ready, 1) != 1) _exit(1);
        for (;;) pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &ready, 1), 1);
    close(ends[0]);
    assert_true(ready);
    return pid;
}

static void end(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void the_second_is_told_who_has_it(void **state)
{
    (void)state;
    char dir[256], file[300], words[200], host[128] = "";
    cn_dir_lock *lock = NULL, *second = NULL;
    path_in(dir, "locked");
    path_in(file, "locked/.controlnet-lock");
    const pid_t pid = hold(dir);
    gethostname(host, sizeof host - 1);
    snprintf(words, sizeof words, "locked: in use by process %ld on %s since 2", (long)pid, host);
    refused(cn_dir_lock_take(ctx, dir, &lock), CN_EIO, words);
    assert_null(lock);
    assert_true(cn_file_exists(file)); /* the other's is left to it */
    refused(cn_dir_lock_take(ctx, dir, &lock), CN_EIO, words);
    end(pid); /* by SIGKILL */
    must(cn_dir_lock_take(ctx, dir, &lock));
    refused(cn_dir_lock_take(ctx, dir, &second), CN_EIO, "locked: in use by process");
    cn_dir_lock_drop(lock);
    assert_false(cn_file_exists(file));
    must(cn_dir_lock_take(ctx, dir, &lock));
    cn_dir_lock_drop(lock);
}

static void put(const char *name)
{
    char path[256];
    path_in(path, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
}

static bool there(const char *name)
{
    char path[256];
    path_in(path, name);
    return cn_file_exists(path);
}

static void what_a_killed_process_left_is_cleared(void **state)
{
    (void)state;
    char dir[256], path[256];
    cn_dir_lock *lock = NULL;
    cn_file_writer w;
    path_in(dir, "left/target");
    must(cn_dir_make(ctx, dir));
    put("left/a.png.tmp-0123abcd");
    put("left/target/b.png.tmp-89abcdef");
    put("left/notes.tmp-2026"); /* not a name of ours */
    path_in(path, "left/c.png");
    must(cn_writer_open(ctx, path, &w)); /* a process that goes on */
    path_in(dir, "left");
    must(cn_dir_lock_take(ctx, dir, &lock));
    assert_false(there("left/a.png.tmp-0123abcd"));
    assert_false(there("left/target/b.png.tmp-89abcdef"));
    assert_true(there("left/notes.tmp-2026"));
    must(cn_writer_commit(ctx, &w));
    assert_true(there("left/c.png"));
    cn_dir_lock_drop(lock);
}

/* Without a folder's lock: who writes the same file next removes what was left of it. */
static void the_next_writer_clears_its_own(void **state)
{
    (void)state;
    char path[256], dir[256];
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    path_in(dir, "alone");
    path_in(path, "alone/x.png");
    must(cn_dir_make(ctx, dir));
    const pid_t pid = fork();
    if (pid == 0) {
        cn_file_writer w;
        const cn_status s = cn_writer_open(NULL, path, &w);
        (void)s;
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    must(cn_file_write(ctx, path, "x", 1));
    must(cn_dir_open(ctx, dir, &d));
    must(cn_dir_next(d, &e));
    assert_string_equal(e->d_name, "x.png");
    must(cn_dir_next(d, &e));
    assert_null(e);
    cn_dir_close(d);
}

/* --- whatever writes into folders ------------------------------------------------------------- */

static cn_status train(const char *dir, bool again)
{
    cn_train_options o = tiny_options(dir);
    o.max_train_steps = 1;
    o.checkpointing_steps = 1;
    if (again) o.resume_from_checkpoint = "latest";
    return cn_train(ctx, &o, NULL, NULL);
}

static cn_status annotate(const char *dir)
{
    char photos[256];
    path_in(photos, "scenes/target");
    return cn_annotate_folder(ctx, "canny", NULL, photos, dir, NULL);
}

static cn_status prepare(const char *dir)
{
    char photos[256];
    const char *const kinds[] = {"canny", NULL};
    path_in(photos, "scenes/target");
    const cn_prepare_options o = {
        .sources = (const char *const[]){photos, NULL}, .output_dir = dir, .conditions = kinds};
    return cn_dataset_prepare(ctx, &o, NULL);
}

static cn_status pretrain(const char *dir)
{
    cn_pretrain_options o;
    cn_pretrain_options_default(&o);
    o.output_dir = dir;
    o.stage = "vae";
    return cn_pretrain(ctx, &o);
}

static void nothing_writes_into_a_folder_in_use(void **state)
{
    (void)state;
    char dir[256], file[300];
    const char *words = "used: in use by process";
    path_in(dir, "used");
    must(train(dir, false));
    const pid_t pid = hold(dir);
    refused(train(dir, false), CN_EIO, words);
    refused(train(dir, true), CN_EIO, words);
    refused(annotate(dir), CN_EIO, words);
    refused(prepare(dir), CN_EIO, words);
    refused(pretrain(dir), CN_EIO, words);
    refused(tiny_scenes_write(ctx, dir, 2), CN_EIO, words);
    snprintf(file, sizeof file, "%s/annotate.jsonl", dir);
    assert_false(cn_file_exists(file));
    cn_train_options o = tiny_options(dir);
    o.dry_run = true; /* writes nothing */
    must(cn_train(ctx, &o, NULL, NULL));
    end(pid);
    must(train(dir, true));
    must(annotate(dir));
}

/* --- a file system without locks -------------------------------------------------------------- */

static char said[16384];

/* A training of the program whose locks fail as there; `steps` of it. */
static pid_t start(const char *out, const char *steps, int *output)
{
    char failing[PATH_MAX];
    int ends[2];
    assert_true(test_find_beside("controlnet-faults", failing));
    char *const argv[] = {failing,
                          "train",
                          "-m",
                          model,
                          "--train-data-dir",
                          scenes,
                          "-o",
                          (char *)(uintptr_t)out,
                          "--resolution",
                          "16",
                          "--max-train-steps",
                          (char *)(uintptr_t)steps,
                          "--checkpointing-steps",
                          "1",
                          "--validation-steps",
                          "0",
                          "--overwrite",
                          NULL};
    assert_int_equal(pipe(ends), 0);
    setenv("CN_FAIL", "lock:1+:ENOLCK", 1);
    const pid_t pid = test_start(argv, ends[1]);
    unsetenv("CN_FAIL");
    close(ends[1]);
    *output = ends[0];
    return pid;
}

static void without_locks_the_file_counts(void **state)
{
    (void)state;
    enum { SECONDS = 60 };
    char out[256], first[300], words[64];
    int output, other;
    path_in(out, "lockless");
    snprintf(first, sizeof first, "%s/checkpoint-2", out);
    const pid_t pid = start(out, "1000000", &output);
    for (int i = 0; i < 100 * SECONDS && !cn_dir_exists(first); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(cn_dir_exists(first));
    const pid_t second = start(out, "1", &other);
    assert_int_equal(test_read(second, other, SECONDS, said, sizeof said), 1);
    close(other);
    snprintf(words, sizeof words, "in use by process %ld on", (long)pid);
    if (!strstr(said, words) || !strstr(said, "can be removed")) fail_msg("%s", said);
    end(pid);
    close(output);
    const pid_t third = start(out, "1", &other);
    if (test_read(third, other, SECONDS, said, sizeof said) != 0) fail_msg("%s", said);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_is_told_who_has_it),
        cmocka_unit_test(what_a_killed_process_left_is_cleared),
        cmocka_unit_test(the_next_writer_clears_its_own),
        cmocka_unit_test(nothing_writes_into_a_folder_in_use),
        cmocka_unit_test(without_locks_the_file_counts),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
