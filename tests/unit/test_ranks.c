/* SPDX-License-Identifier: Apache-2.0 */
/* test_ranks.c - runs of several processes: the losses of one process with as large a batch,
 * checkpoints that any number of them go on from, saving when mpirun is told to stop, and one clear
 * line when a process dies.
 *
 * mpirun starts this program again with "child". Without mpirun, or built without MPI, all is
 * skipped.
 */
#include "../support/unit/tiny_run.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { GLOBAL_BATCH = 6, MAX_STEPS = 16 };

static char mixed[160], self[4096];

/* What a run is asked for, handed to the child as words. */
typedef struct job {
    int batch, passes, steps, checkpointing;
    bool use_8bit_adam, ema, resume, die, crops; /* crops: of pictures in several sizes */
    bool draws;                                  /* validations go on for long */
    bool words;                                  /* of captions are shuffled and left out */
} job;

static cn_train_options options_for(const char *output, const job *j)
{
    cn_train_options o = tiny_options(output);
    o.train_batch_size = j->batch;
    o.gradient_accumulation_steps = j->passes;
    o.max_train_steps = j->steps;
    o.checkpointing_steps = j->checkpointing;
    o.use_8bit_adam = j->use_8bit_adam;
    o.use_ema = j->ema;
    o.validation_steps = 3;
    o.validation_count = 2;
    o.validation_sampling_steps = j->draws ? 1000 : 1;
    if (j->draws) o.validation_count = 4;
    if (j->resume) o.resume_from_checkpoint = "latest";
    if (j->words) {
        o.cache_text = false;
        o.shuffle_caption = true;
        o.caption_tag_dropout_rate = 0.2;
        o.caption_separator = " ";
        o.proportion_empty_prompts = 0.2;
    }
    if (!j->crops) return o;
    o.train_data_dir = mixed;
    o.enable_bucket = true;
    o.bucket_reso_steps = 8;
    o.random_crop = true;
    o.cache_latents = false;
    return o;
}

/* --- the child -------------------------------------------------------------------------------- */

static char awaited[4096];

/* Dies as by a fault, once the third checkpoint is there. */
static void *die_later(void *user)
{
    while (!cn_dir_exists(awaited)) nanosleep(&(struct timespec){0, 1000000}, NULL);
    kill(getpid(), SIGKILL);
    return user;
}

/* As the program does; without, mpirun's SIGTERM after a rank's death would end the others before
 * they speak. */
static void on_signal(int number)
{
    (void)number;
    cn_cancel(ctx);
}

static int child(char **argv)
{
    job j = {0};
    int flags = 0;
    pthread_t thread;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    snprintf(model, sizeof model, "%s", argv[2]);
    snprintf(scenes, sizeof scenes, "%s", argv[3]);
    snprintf(mixed, sizeof mixed, "%s-mixed", scenes);
    if (sscanf(argv[5], "%d %d %d %d %d", &j.batch, &j.passes, &j.steps, &j.checkpointing,
               &flags) != 5)
        return 2;
    j.use_8bit_adam = flags & 1;
    j.ema = flags & 2;
    j.resume = flags & 4;
    j.die = flags & 8;
    j.crops = flags & 16;
    j.draws = flags & 32;
    j.words = flags & 64;
    if (j.die && rank && strcmp(rank, "1") == 0) {
        snprintf(awaited, sizeof awaited, "%s/checkpoint-3", argv[4]);
        if (pthread_create(&thread, NULL, die_later, NULL) != 0) return 2;
    }
    if (!(ctx = cn_ctx_create(1))) return 2;
    signal(SIGTERM, on_signal);
    signal(SIGUSR1, on_signal);
    cn_train_options o = options_for(argv[4], &j);
    o.distributed = true;
    const cn_status s = cn_train(ctx, &o, NULL, NULL);
    if (s != CN_OK && cn_error(ctx)[0]) fprintf(stderr, "child: %s\n", cn_error(ctx));
    cn_ctx_destroy(ctx);
    return s == CN_OK ? 0 : 1;
}

/* --- starting --------------------------------------------------------------------------------- */

/* What mpirun is sent once a folder is there; number 0: nothing. */
typedef struct stopping {
    int number;
    char awaited[512];
} stopping;

static void send_later(const stopping *s, pid_t pid)
{
    const double begun = cn_now_s();
    while (!cn_dir_exists(s->awaited) && cn_now_s() - begun < 120)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    kill(pid, s->number);
}

/* Runs mpirun with these words, all it says in `said`; its exit status, -1: there is no mpirun. */
static int run_mpi(char *const *argv, const stopping *stop, char said[8192])
{
    int ends[2], status = 0;
    pid_t pid = 0;
    size_t n = 0;
    posix_spawn_file_actions_t actions;
    assert_int_equal(pipe(ends), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    const int spawned = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!spawned && stop && stop->number) send_later(stop, pid);
    for (ssize_t k; !spawned && n < 8191 && (k = read(ends[0], said + n, 8191 - n)) > 0;)
        n += (size_t)k;
    said[n] = 0;
    close(ends[0]);
    if (spawned) return -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Runs the job on so many ranks. */
static int run_ranks_until(int ranks, const char *output, const job *j, const stopping *stop,
                           char said[8192])
{
    char count[16], words[128];
    const int flags = j->use_8bit_adam + 2 * j->ema + 4 * j->resume + 8 * j->die + 16 * j->crops +
                      32 * j->draws + 64 * j->words;
    snprintf(count, sizeof count, "%d", ranks);
    snprintf(words, sizeof words, "%d %d %d %d %d", j->batch, j->passes, j->steps, j->checkpointing,
             flags);
    char *const argv[] = {"mpirun", "-n",   count,          self,  "child",
                          model,    scenes, (char *)output, words, NULL};
    return run_mpi(argv, stop, said);
}

static int run_ranks(int ranks, const char *output, const job *j, char said[8192])
{
    return run_ranks_until(ranks, output, j, NULL, said);
}

static void must_run(int ranks, const char *output, const job *j)
{
    char said[8192];
    const int status = run_ranks(ranks, output, j, said);
    if (status != 0) fail_msg("%d ranks: exit status %d: %s", ranks, status, said);
}

static int set_up(void **state)
{
    (void)state;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0 || tiny_open(1) != 0) return -1;
    self[n] = 0;
    snprintf(mixed, sizeof mixed, "%s-mixed", scenes);
    must(tiny_mixed_write(ctx, mixed, 24));
    /* tests share their machine, containers run as root */
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
    return 0;
}

/* Whether there are ranks to test; says why not. */
static bool have_ranks(void)
{
    static const job one = {.batch = 2, .passes = 1, .steps = 1};
    char out[256], said[8192];
    snprintf(out, sizeof out, "%s/probe", root);
    const int status = run_ranks(1, out, &one, said);
    if (status == 0) return true;
    if (status < 0) {
        print_message("SKIP: mpirun isn't installed\n");
        return false;
    }
    if (!strstr(said, "built without MPI")) fail_msg("%s", said);
    print_message("SKIP: built without MPI\n");
    return false;
}

/* --- what it learned -------------------------------------------------------------------------- */

static void assert_close(const char *dir_a, const char *dir_b, const char *key, int steps,
                         double tolerance)
{
    double a[MAX_STEPS], b[MAX_STEPS];
    assert_int_equal(tiny_metrics(dir_a, key, a, MAX_STEPS), steps);
    assert_int_equal(tiny_metrics(dir_b, key, b, MAX_STEPS), steps);
    for (int i = 0; i < steps; i++)
        if (!(fabs(a[i] - b[i]) <= tolerance * fabs(a[i])))
            fail_msg("%s at step %d: %.9g and %.9g", key, i + 1, a[i], b[i]);
}

/* Sums over ranks are added in another order than those over a batch: 1e-5, and a little more in
 * the norm. */
static void ranks_give_the_losses_of_one(void **state)
{
    (void)state;
    char one[256], out[256];
    if (!have_ranks()) skip();
    for (int variant = 0; variant < 4; variant++) {
        job j = {.batch = GLOBAL_BATCH,
                 .passes = variant == 1 ? 2 : 1,
                 .steps = 6,
                 .ema = variant == 1,
                 .crops = variant == 2,
                 .words = variant == 3};
        cn_train_options o;
        snprintf(one, sizeof one, "%s/one-%d", root, variant);
        o = options_for(one, &j);
        must(cn_train(ctx, &o, NULL, NULL));
        for (int ranks = 2; ranks <= 3; ranks++) {
            snprintf(out, sizeof out, "%s/ranks-%d-%d", root, ranks, variant);
            j.batch = GLOBAL_BATCH / ranks;
            must_run(ranks, out, &j);
            assert_close(one, out, "loss", j.steps, 1e-5);
            assert_close(one, out, "grad_norm", j.steps, 1e-4);
        }
    }
}

static void ranks_resume_what_others_saved(void **state)
{
    (void)state;
    char whole[256], broken[256], one[256];
    if (!have_ranks()) skip();
    job j = {.batch = 3, .passes = 1, .steps = 6, .checkpointing = 2, .use_8bit_adam = true};
    path_in(whole, "ranks-whole");
    path_in(broken, "ranks-broken");
    path_in(one, "ranks-then-one");
    must_run(2, whole, &j);
    j.steps = 4;
    must_run(2, broken, &j);
    must_run(2, one, &j);
    assert_true(same_file(whole, broken, "checkpoint-4/optimizer.safetensors"));
    j.steps = 6;
    j.resume = true;
    must_run(2, broken, &j);
    assert_true(same_file(whole, broken, "control.safetensors"));
    assert_true(same_file(whole, broken, "checkpoint-6/optimizer.safetensors"));
    j.batch = GLOBAL_BATCH; /* one process goes on from what two had */
    cn_train_options o = options_for(one, &j);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_close(whole, one, "loss", j.steps, 1e-5);
}

static int count_lines(const char *text, const char *words)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, words)); p += strlen(words)) n++;
    return n;
}

/* How many seconds mpirun waits between SIGTERM and SIGKILL; one by itself, which a busy machine
 * uses up. */
static void mpirun_waits(const char *seconds)
{
    if (seconds)
        setenv("OMPI_MCA_odls_base_sigkill_timeout", seconds, 1);
    else
        unsetenv("OMPI_MCA_odls_base_sigkill_timeout");
}

/* mpirun hands SIGUSR1 on and waits. After SIGTERM and SIGINT it ends its processes, by SIGTERM
 * first. Ranks save in either case, in a validation too. */
static void mpirun_is_told_to_stop(void **state)
{
    (void)state;
    static const struct {
        int number;
        bool draws;
        const char *name, *awaited;
    } ways[] = {{SIGUSR1, false, "stop-usr1", "checkpoint-3"},
                {SIGTERM, false, "stop-term", "checkpoint-3"},
                {SIGINT, false, "stop-int", "checkpoint-3"},
                {SIGUSR1, true, "stop-drawing", "checkpoint-3"}};
    char out[256], said[8192];
    if (!have_ranks()) skip();
    mpirun_waits("5");
    for (size_t i = 0; i < CN_COUNT(ways); i++) {
        job j = {
            .batch = 2, .passes = 1, .steps = 100000, .checkpointing = 3, .draws = ways[i].draws};
        stopping stop = {.number = ways[i].number};
        path_in(out, ways[i].name);
        snprintf(stop.awaited, sizeof stop.awaited, "%s/%s", out, ways[i].awaited);
        if (run_ranks_until(2, out, &j, &stop, said) == 0) fail_msg("it ended well: %s", said);
        if (count_lines(said, "child: ") != 1 || !strstr(said, "stopped after step") ||
            !strstr(said, "--resume-from-checkpoint latest"))
            fail_msg("%s: %s", ways[i].name, said);
        j.resume = true;
        j.draws = false;
        j.steps = 1; /* nothing is left to do: the checkpoint is looked at, and loaded */
        must_run(2, out, &j);
    }
    mpirun_waits(NULL);
}

static void a_dead_rank_ends_the_run_in_one_line(void **state)
{
    (void)state;
    char out[256], said[8192];
    if (!have_ranks()) skip();
    mpirun_waits("3");
    for (int drawing = 0; drawing < 2; drawing++) { /* in a step or a save; while rank 0 draws */
        job j = {.batch = 2,
                 .passes = 1,
                 .steps = 100000,
                 .checkpointing = drawing ? 3 : 1,
                 .die = true,
                 .draws = drawing};
        path_in(out, drawing ? "dead-drawing" : "dead");
        if (run_ranks(3, out, &j, said) == 0) fail_msg("the run ended well: %s", said);
        if (count_lines(said, "child: ") != 1 || !strstr(said, "rank 1 of 3") ||
            !strstr(said, "--resume-from-checkpoint latest"))
            fail_msg("%s", said);
        j.die = j.draws = false;
        j.resume = true;
        j.steps = 1; /* nothing is left to do: the checkpoint is looked at, and loaded */
        must_run(3, out, &j);
    }
    mpirun_waits(NULL);
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "child") == 0) return child(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_give_the_losses_of_one),
        cmocka_unit_test(ranks_resume_what_others_saved),
        cmocka_unit_test(mpirun_is_told_to_stop),
        cmocka_unit_test(a_dead_rank_ends_the_run_in_one_line),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
