/* SPDX-License-Identifier: Apache-2.0 */
/* test_ranks.c - runs of several processes: the losses of one process with as large a batch,
 * checkpoints that any number of them go on from, saving when one of them is asked to stop, and one
 * clear line when a process dies.
 *
 * mpirun starts this program again with "child". Without mpirun, or built without MPI, all is
 * skipped. Nothing is asked of mpirun but to start processes and to end: with PoCL installed it
 * does no more.
 */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"
#include "train/trained_kinds.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GLOBAL_BATCH = 6, MAX_STEPS = 16 };
/* A run takes a few seconds, one on a device begins with compiling kernels; one that hasn't ended
 * by then never will. */
enum { RUN_SECONDS = 240, AWAIT_SECONDS = 60 };

static char mixed[160], eight[160], self[4096];

/* What a run is asked for, handed to the child as words. */
typedef struct job {
    int batch, passes, steps, checkpointing;
    bool use_8bit_adam, ema, resume, crops; /* crops: of pictures in several sizes */
    bool draws;                             /* validations go on for long */
    bool words;                             /* of captions are shuffled and left out */
    bool device;                            /* what computes is Vulkan's */
    bool minutes;                           /* the clock ends it, at a rate that falls */
    bool muon;                              /* for matrices */
    int kind; /* of cn_trained_kind_words, beside a base with a VAE as published; 0: the first,
                 beside the other */
} job;

static cn_train_options options_for(const char *output, const job *j)
{
    cn_train_options o = tiny_options(output);
    o.train_batch_size = j->batch;
    o.gradient_accumulation_steps = j->passes;
    o.max_train_steps = j->steps;
    o.checkpointing_steps = j->checkpointing;
    o.use_8bit_adam = j->use_8bit_adam;
    if (j->muon) o.optimizer_type = "Muon";
    o.use_ema = j->ema;
    o.validation_steps = 3;
    o.validation_count = 2;
    o.validation_sampling_steps = j->draws ? 1000 : 1;
    if (j->draws) o.validation_count = 4;
    if (j->resume) o.resume_from_checkpoint = "latest";
    if (j->device) o.device = "vulkan";
    if (j->device || j->minutes) o.validation_steps = 0;
    if (j->minutes) {
        o.max_train_minutes = 2 / 60.0;
        o.lr_scheduler = "warmup_stable_decay";
        o.lr_warmup_steps = 0;
        o.lr_decay_steps = 0.5;
    }
    if (j->words) {
        o.cache_text = false;
        o.shuffle_caption = true;
        o.caption_tag_dropout_rate = 0.2;
        o.caption_separator = " ";
        o.proportion_empty_prompts = 0.2;
    }
    if (j->kind) {
        o.model = eight;
        o.resolution = TINY_EIGHT_PX;
        o.control_kind = cn_trained_kind_words[j->kind];
        if (!strcmp(o.control_kind, "union")) o.control_type = "canny";
        /* Adam's first step goes by the gradient's sign: what is nought but for rounding would move
         * as far as the rest. */
        o.adam_epsilon = 1e-2;
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

/* As the program does. Without, the SIGTERM that mpirun sends after a rank's death would end the
 * others before they speak. */
static void on_signal(int number)
{
    (void)number;
    cn_cancel(ctx);
}

/* Where a rank of a run says which process it is. */
static void pid_file(char path[512], const char *output, int rank)
{
    snprintf(path, 512, "%s.rank-%d", output, rank);
}

static int child(char **argv)
{
    job j = {0};
    int flags = 0;
    char path[512], pid[16];
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    alarm(RUN_SECONDS); /* also where mpirun was killed and nobody ends its processes */
    snprintf(model, sizeof model, "%s", argv[2]);
    snprintf(scenes, sizeof scenes, "%s", argv[3]);
    snprintf(mixed, sizeof mixed, "%s-mixed", scenes);
    snprintf(eight, sizeof eight, "%s-eight", scenes);
    if (sscanf(argv[5], "%d %d %d %d %d", &j.batch, &j.passes, &j.steps, &j.checkpointing,
               &flags) != 5)
        return 2;
    j.use_8bit_adam = flags & 1;
    j.ema = flags & 2;
    j.resume = flags & 4;
    j.crops = flags & 8;
    j.draws = flags & 16;
    j.words = flags & 32;
    j.device = flags & 64;
    j.minutes = flags & 128;
    j.muon = flags & 256;
    j.kind = flags / 512;
    if (!(ctx = cn_ctx_create(1))) return 2;
    signal(SIGTERM, on_signal);
    signal(SIGUSR1, on_signal);
    signal(SIGINT, on_signal);
    pid_file(path, argv[4], rank ? (int)strtol(rank, NULL, 10) : 0);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (cn_file_write(ctx, path, pid, strlen(pid)) != CN_OK) return 2;
    cn_train_options o = options_for(argv[4], &j);
    o.distributed = true;
    const cn_status s = cn_train(ctx, &o, NULL, NULL);
    if (s != CN_OK && cn_error(ctx)[0])
        fprintf(stderr, "child: %s\n", cn_error(ctx));
    else if (s !=
             CN_OK) /* mpirun ends the others when the first is gone: that mustn't be this one */
        nanosleep(&(struct timespec){0, 300000000}, NULL);
    cn_ctx_destroy(ctx);
    return s == CN_OK ? 0 : 1;
}

/* --- starting --------------------------------------------------------------------------------- */

enum { ALL = -1 };

/* A signal to a rank (ALL: to every one) once a folder is there. */
typedef struct stopping {
    int number, rank;
    bool halts; /* mpirun doesn't see what becomes of it until rank 0 has ended */
    char awaited[512];
} stopping;

static pid_t pid_of(const char *output, int rank)
{
    char path[512], *text = NULL;
    size_t n = 0;
    pid_file(path, output, rank);
    must(cn_file_read(ctx, path, 32, &text, &n));
    const pid_t pid = (pid_t)strtol(text, NULL, 10);
    cn_free(text);
    return pid;
}

/* Whether a process has ended; its parent may not have waited for it. */
static bool has_ended(pid_t pid)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    const bool there = f && fgets(line, sizeof line, f);
    if (f) fclose(f);
    return !there || strstr(line, ") Z ");
}

static void send_later(const stopping *s, const char *output, int ranks, pid_t mpirun)
{
    const struct timespec nap = {0, 1000000};
    const double end = cn_now_s() + AWAIT_SECONDS;
    while (!cn_dir_exists(s->awaited) && cn_now_s() < end) nanosleep(&nap, NULL);
    if (!cn_dir_exists(s->awaited)) return; /* the run's exit status says the rest */
    if (s->halts) kill(mpirun, SIGSTOP);
    for (int i = 0; i < ranks; i++)
        if (s->rank == ALL || s->rank == i) kill(pid_of(output, i), s->number);
    if (!s->halts) return;
    const pid_t first = pid_of(output, 0);
    while (!has_ended(first) && cn_now_s() < end) nanosleep(&nap, NULL);
    const bool ended = has_ended(first);
    kill(mpirun, SIGCONT);
    assert_true(ended);
}

/* Runs the job on so many ranks, all they say in `said`; mpirun's exit status, 127 without one. */
static int run_ranks_until(int ranks, const char *output, const job *j, const stopping *stop,
                           char said[8192])
{
    int ends[2];
    char count[16], words[128];
    const int flags = j->use_8bit_adam + 2 * j->ema + 4 * j->resume + 8 * j->crops + 16 * j->draws +
                      32 * j->words + 64 * j->device + 128 * j->minutes + 256 * j->muon +
                      512 * j->kind;
    snprintf(count, sizeof count, "%d", ranks);
    snprintf(words, sizeof words, "%d %d %d %d %d", j->batch, j->passes, j->steps, j->checkpointing,
             flags);
    char *const argv[] = {"mpirun", "-n",   count,          self,  "child",
                          model,    scenes, (char *)output, words, NULL};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    if (pid > 0 && stop) send_later(stop, output, ranks, pid);
    const int status = test_read(pid, ends[0], RUN_SECONDS, said, 8192);
    close(ends[0]);
    return status;
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
    snprintf(eight, sizeof eight, "%s-eight", scenes);
    must(tiny_mixed_write(ctx, mixed, 24));
    must(tiny_eight_write(ctx, eight, true));
    /* tests share their machine, containers run as root */
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
    return 0;
}

/* Whether there are ranks to test; says why not. Looked at once. */
static bool have_ranks(void)
{
    static const job one = {.batch = 2, .passes = 1, .steps = 1};
    static int status = -1;
    static char said[8192];
    char out[256];
    snprintf(out, sizeof out, "%s/probe", root);
    if (status < 0) status = run_ranks(1, out, &one, said);
    if (status == 0) return true;
    if (status == 127) {
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

/* Two samples on one process, one on each of two. */
static void ranks_train_every_kind(void **state)
{
    (void)state;
    char one[256], out[256];
    if (!have_ranks()) skip();
    for (int kind = 1; cn_trained_kind_words[kind]; kind++) {
        job j = {.batch = 2, .passes = 1, .steps = 2, .kind = kind};
        snprintf(one, sizeof one, "%s/kind-%d", root, kind);
        snprintf(out, sizeof out, "%s/kind-ranks-%d", root, kind);
        cn_train_options o = options_for(one, &j);
        must(cn_train(ctx, &o, NULL, NULL));
        j.batch = 1;
        must_run(2, out, &j);
        assert_close(one, out, "loss", j.steps, 1e-5);
        assert_close(one, out, "grad_norm", j.steps, 1e-4);
    }
}

/* Gradients, weights and means go through the host's memory. */
static void ranks_on_a_device_give_the_losses_of_one(void **state)
{
    (void)state;
    char one[256], out[256], *text = NULL;
    job j = {.batch = 2, .passes = 2, .steps = 3, .ema = true, .device = true};
    if (!have_ranks()) skip();
    if (cn_devices(ctx, false, &text) != CN_OK) {
        print_message("SKIP %s\n", cn_error(ctx));
        skip();
    }
    cn_free(text);
    path_in(one, "device-one");
    path_in(out, "device-ranks");
    cn_train_options o = options_for(one, &j);
    must(cn_train(ctx, &o, NULL, NULL));
    j.batch = 1;
    must_run(2, out, &j);
    assert_close(one, out, "loss", j.steps, 1e-5);
    assert_close(one, out, "grad_norm", j.steps, 1e-4);
}

static void check_resumed_by_ranks(const char *name, job j)
{
    char whole[256], broken[256], one[256], path[64];
    snprintf(path, sizeof path, "ranks-%s-whole", name);
    path_in(whole, path);
    snprintf(path, sizeof path, "ranks-%s-broken", name);
    path_in(broken, path);
    snprintf(path, sizeof path, "ranks-%s-then-one", name);
    path_in(one, path);
    must_run(2, whole, &j);
    j.steps = 4;
    must_run(2, broken, &j);
    must_run(2, one, &j);
    assert_true(same_tensors(whole, broken, "checkpoint-4/optimizer.safetensors"));
    j.steps = 6;
    j.resume = true;
    must_run(2, broken, &j);
    assert_true(same_file(whole, broken, "control.safetensors"));
    assert_true(same_tensors(whole, broken, "checkpoint-6/optimizer.safetensors"));
    j.batch = GLOBAL_BATCH; /* one process goes on from what two had */
    cn_train_options o = options_for(one, &j);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_close(whole, one, "loss", j.steps, 1e-5);
}

static void ranks_resume_what_others_saved(void **state)
{
    (void)state;
    const job j = {.batch = 3, .passes = 1, .steps = 6, .checkpointing = 2};
    job bytes = j, muon = j;
    if (!have_ranks()) skip();
    bytes.use_8bit_adam = true;
    check_resumed_by_ranks("8bit", bytes);
    muon.muon = true;
    check_resumed_by_ranks("muon", muon);
}

/* All ranks take the same number of steps, or some would wait for ever. */
static void ranks_end_by_the_clock_of_one(void **state)
{
    (void)state;
    static double rates[100000];
    const job j = {.batch = 1, .passes = 1, .checkpointing = 100000, .minutes = true};
    char out[256];
    if (!have_ranks()) skip();
    path_in(out, "ranks-minutes");
    const double begun = cn_now_s();
    must_run(2, out, &j);
    assert_true(cn_now_s() - begun > 2);
    const int n = tiny_metrics(out, "lr", rates, CN_COUNT(rates));
    assert_in_range(n, 3, CN_COUNT(rates) - 1);
    assert_true(rates[n - 1] < rates[0]); /* a busy machine may stop far from 0 */
}

static int count_lines(const char *text, const char *words)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, words)); p += strlen(words)) n++;
    return n;
}

/* Nothing is left to do: the last checkpoint is looked at, and loaded. */
static void can_be_resumed(const char *output)
{
    const job j = {.batch = GLOBAL_BATCH, .passes = 1, .steps = 1, .resume = true};
    const cn_train_options o = options_for(output, &j);
    must(cn_train(ctx, &o, NULL, NULL));
}

/* How many seconds mpirun waits before it sends a rank's survivors SIGTERM, and again before
 * SIGKILL: one by itself. */
static void mpirun_waits(const char *seconds)
{
    setenv("OMPI_MCA_odls_base_sigkill_timeout", seconds, 1);
}

/* Any one rank that is asked to stop takes the others with it, from a validation too, and all of
 * them save. The line says which it was, unless all were asked. */
static void one_rank_stops_all(void **state)
{
    (void)state;
    static const struct {
        int number, rank;
        bool draws;
        const char *name, *who;
    } ways[] = {{SIGUSR1, 1, false, "stop-usr1", "stopped by rank 1 of 2 (process "},
                {SIGTERM, 0, false, "stop-term", "stopped "},
                {SIGINT, ALL, false, "stop-int", "stopped "},
                {SIGUSR1, 0, true, "stop-drawing", "stopped after step 3"}};
    char out[256], said[8192];
    if (!have_ranks()) skip();
    mpirun_waits("0");
    for (size_t i = 0; i < CN_COUNT(ways); i++) {
        job j = {
            .batch = 2, .passes = 1, .steps = 100000, .checkpointing = 3, .draws = ways[i].draws};
        stopping stop = {.number = ways[i].number, .rank = ways[i].rank};
        path_in(out, ways[i].name);
        snprintf(stop.awaited, sizeof stop.awaited, "%s/checkpoint-3", out);
        if (run_ranks_until(2, out, &j, &stop, said) != 1) fail_msg("%s: %s", ways[i].name, said);
        if (count_lines(said, "child: ") != 1 || !strstr(said, ways[i].who) ||
            !strstr(said, " after step ") || !strstr(said, "--resume-from-checkpoint latest"))
            fail_msg("%s: %s", ways[i].name, said);
        can_be_resumed(out);
    }
}

/* Killed in a step or a save, while rank 0 draws, and where mpirun doesn't wait for it, so that the
 * dead process stays. */
static void a_dead_rank_ends_the_run_in_one_line(void **state)
{
    (void)state;
    static const char *const names[] = {"dead", "dead-drawing", "dead-unseen"};
    char out[256], said[8192];
    if (!have_ranks()) skip();
    mpirun_waits("1");
    for (int i = 0; i < 3; i++) {
        const job j = {.batch = 2,
                       .passes = 1,
                       .steps = 100000,
                       .checkpointing = i == 1 ? 3 : 1,
                       .draws = i == 1};
        stopping stop = {.number = SIGKILL, .rank = 1, .halts = i == 2};
        path_in(out, names[i]);
        snprintf(stop.awaited, sizeof stop.awaited, "%s/checkpoint-3", out);
        if (run_ranks_until(3, out, &j, &stop, said) == 0) fail_msg("it ended well: %s", said);
        if (count_lines(said, "child: ") != 1 || !strstr(said, "rank 1 of 3") ||
            !strstr(said, "--resume-from-checkpoint latest"))
            fail_msg("%s: %s", names[i], said);
        can_be_resumed(out);
    }
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "child") == 0) return child(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_give_the_losses_of_one),
        cmocka_unit_test(ranks_train_every_kind),
        cmocka_unit_test(ranks_on_a_device_give_the_losses_of_one),
        cmocka_unit_test(ranks_resume_what_others_saved),
        cmocka_unit_test(ranks_end_by_the_clock_of_one),
        cmocka_unit_test(one_rank_stops_all),
        cmocka_unit_test(a_dead_rank_ends_the_run_in_one_line),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
