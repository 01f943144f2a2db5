/* SPDX-License-Identifier: Apache-2.0 */
/* torture.c - makes the n-th call of each kind fail, over whole commands, as curl's tests do: n =
 * 1, 2, 3, ... until none fails.
 *
 *   torture --all [NAME]              every call of every kind (of one command), hours; of
 *                                     allocations, of which a training makes 40,000, the first and
 *                                     the last of each place in the code with its callers
 *   torture --every [NAME]            every allocation too, days
 *   torture [--seconds N] [--seed N]  calls drawn by chance, for so long (30)
 *   --kind KIND                       of one kind alone
 *
 * Whatever fails, the program ends by itself with a reason; what it says it saved is there; the
 * same command goes on to the result of an undisturbed run; a file is whole or isn't there, and
 * nothing half-written is left.
 */
#include "../support/child.h"
#include "../support/tiny_base.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUN_SECONDS = 60, SAID = 1 << 16, MAX_ARGS = 40, PATH = 512 };

typedef struct fault_kind {
    const char *kind, *error;
} fault_kind;

/* What each kind of call fails with. */
static const fault_kind faults[] = {
    {"open", "EMFILE"},  {"open", "EACCES"},  {"read", "EIO"},     {"read", "EINTR"},
    {"write", "ENOSPC"}, {"write", "EIO"},    {"rename", "EIO"},   {"rename", "EINVAL"},
    {"fsync", "EIO"},    {"readdir", "EIO"},  {"mmap", "ENOMEM"},  {"lock", "ENOLCK"},
    {"lock", "EIO"},     {"truncate", "EIO"}, {"mkdir", "EACCES"}, {"unlink", "EACCES"},
    {"alloc", "ENOMEM"},
};

typedef struct scene {
    const char *name;
    /* the command; @M model, @S scenes, @P photos, @C a trained ControlNet, @O what it makes */
    const char *command;
    const char *again;   /* what goes on from what it left; NULL: it makes one file */
    const char *before;  /* run first, undisturbed; NULL */
    const char *results; /* names in @O that must be as an undisturbed run's, "" @O itself */
} scene;

#define TRAIN                                                                                   \
    "train -m @M --train-data-dir @S -o @O --resolution 16 --train-batch-size 2 "               \
    "--validation-steps 0 "                                                                     \
    "--checkpointing-steps 1 --checkpoints-total-limit 2 --seed 1 --threads 1 --learning-rate " \
    "1e-3 "

#define SHARDS                                                                                  \
    "dataset prepare @P --condition canny --resolution 12 --layout webdataset --shard-size 6K " \
    "--duplicates equal --threads 1 -o @O"

static const scene scenarios[] = {
    {"train", TRAIN "--max-train-steps 3",
     TRAIN "--max-train-steps 3 --resume-from-checkpoint latest", NULL,
     "control.safetensors diffusion_pytorch_model.safetensors config.json"},
    {"resume", TRAIN "--max-train-steps 3 --resume-from-checkpoint latest",
     TRAIN "--max-train-steps 3 --resume-from-checkpoint latest", TRAIN "--max-train-steps 2",
     "control.safetensors diffusion_pytorch_model.safetensors config.json"},
    {"generate",
     "generate -m @M --control-net @C --control-image @P/0.png -p x --steps 1 -W 16 -H 16 -s 1 "
     "--threads 1 "
     "-o @O",
     NULL, NULL, ""},
    {"prepare", "dataset prepare @P --condition canny --resolution 12 --threads 1 -o @O",
     "dataset prepare @P --condition canny --resolution 12 --threads 1 -o @O", NULL,
     "prompt.json source/0.png source/3.png target/0.png target/3.png"},
    {"shards", SHARDS, SHARDS, NULL,
     "00000.tar 00000.idx 00000_stats.json 00001.tar 00001.idx shards.json lookalikes.bin"},
    {"convert", "convert @M @O --to single-file", NULL, NULL, ""},
    {"annotate", "annotate canny @P --threads 1 -o @O", "annotate canny @P --threads 1 -o @O", NULL,
     "0.png 1.png 3.png"},
};

static char program[PATH_MAX], root[64], said[SAID];
static const char *kind; /* the only one that fails; NULL: all */
static bool every;       /* allocation, not some of each place */
static int bad, runs;

/* --- running ---------------------------------------------------------------------------------- */

static const char *named(char c)
{
    return c == 'M' ? "model" : c == 'S' ? "scenes" : c == 'P' ? "scenes/target" : "control";
}

/* Runs a command, its output into `said`. fault: CN_FAIL's value, NULL: none. Exit status. */
static int run(const char *command, const char *out, const char *fault)
{
    char room[8192], told[PATH], *argv[MAX_ARGS] = {program};
    size_t at = 0;
    int n = 1, ends[2];
    for (const char *c = command; *c && n + 1 < MAX_ARGS;) {
        argv[n++] = room + at;
        for (; *c && *c != ' '; c++) {
            int k = 1;
            if (*c != '@')
                room[at] = *c;
            else if (*++c == 'O')
                k = snprintf(room + at, sizeof room - at, "%s", out);
            else
                k = snprintf(room + at, sizeof room - at, "%s/%s", root, named(*c));
            at += (size_t)k;
        }
        room[at++] = 0;
        while (*c == ' ') c++;
    }
    snprintf(told, sizeof told, "%s/told", root);
    unlink(told);
    setenv("CN_FAIL_TOLD", told, 1);
    if (fault)
        setenv("CN_FAIL", fault, 1);
    else
        unsetenv("CN_FAIL");
    if (pipe(ends) != 0) return 126;
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    const int status = test_read(pid, ends[0], RUN_SECONDS, said, sizeof said);
    close(ends[0]);
    return status;
}

/* How many calls of a kind the last run made; *failed: whether the failure came. */
static long calls(const char *of, bool *failed)
{
    char path[PATH], line[64], name[32];
    long n = 0, found = 0;
    snprintf(path, sizeof path, "%s/told", root);
    *failed = false;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "failed", 6) == 0) *failed = true;
        if (sscanf(line, "%31s %ld", name, &n) == 2 && strcmp(name, of) == 0) found = n;
    }
    if (f) fclose(f);
    return found;
}

static void complain(const char *scenario, const char *fault, const char *what)
{
    bad++;
    printf("FAIL %s, %s: %s\n%s\n", scenario, fault, what, said);
    fflush(stdout);
}

/* --- what it left ----------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
    char *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    const bool read = cn_file_read(NULL, a, 1 << 28, &x, &n) == CN_OK &&
                      cn_file_read(NULL, b, 1 << 28, &y, &m) == CN_OK;
    const bool equal = read && n == m && memcmp(x, y, n) == 0;
    cn_free(x);
    cn_free(y);
    return equal;
}

/* Whether all results are those of the undisturbed run; *wrong: the first that isn't. */
static bool complete(const scene *s, const char *out, char wrong[PATH])
{
    char a[PATH + 64], b[PATH + 64];
    for (const char *name = s->results;;) {
        const size_t n = strcspn(name, " ");
        snprintf(wrong, PATH, "%.*s", (int)n, name);
        snprintf(a, sizeof a, "%s%s%.*s", out, n ? "/" : "", (int)n, name);
        snprintf(b, sizeof b, "%s/reference-%s%s%.*s", root, s->name, n ? "/" : "", (int)n, name);
        if (!same(a, b)) return false;
        if (!name[n]) return true;
        name += n + 1;
    }
}

static bool leftovers(const char *dir, const char *mark, char found[PATH])
{
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    bool any = false;
    if (cn_dir_open(NULL, dir, &d) != CN_OK) return false;
    while (!any && cn_dir_next(d, &e) == CN_OK && e) {
        char path[PATH + 300];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        any = strstr(e->d_name, mark) != NULL;
        if (any)
            snprintf(found, PATH, "%.400s is left", path);
        else if (e->d_type == DT_DIR)
            any = leftovers(path, mark, found);
    }
    cn_dir_close(d);
    return any;
}

/* The largest N that is told behind `words`, up to which the number's name leads. */
static long told_number(const char *words, const char *name)
{
    long most = -1;
    for (const char *p = said; (p = strstr(p, words)); p++) {
        const char *end = strchr(p, '\n'), *at = strstr(p, name);
        if (at && (!end || at < end)) most = CN_MAX(most, strtol(at + strlen(name), NULL, 10));
    }
    return most;
}

/* A reason is the last thing that is said, and isn't empty. */
static bool has_reason(void)
{
    const char *at = strstr(said, "controlnet");
    size_t n = strlen(said);
    while (n && said[n - 1] == '\n') said[--n] = 0;
    return at && n > 2 && said[n - 1] != ':' && said[n - 1] != ' ';
}

/* --- one fault -------------------------------------------------------------------------------- */

static void go_on(const scene *s, const char *out, const char *fault, long saved)
{
    char wrong[PATH] = "";
    const int status = run(s->again, out, NULL);
    const long from = told_number("resumed from", "checkpoint-");
    if (status != 0)
        complain(s->name, fault, "the same command doesn't go on afterwards");
    else if (from < saved)
        complain(s->name, fault, "what was told as saved isn't gone on from");
    else if (!complete(s, out, wrong))
        complain(s->name, fault, wrong);
    else if (leftovers(out, ".tmp-", wrong) || leftovers(out, ".saving-", wrong) ||
             leftovers(out, ".old-", wrong) || leftovers(out, "controlnet-lock", wrong))
        complain(s->name, fault, wrong);
}

/* Where a run writes, with nothing there but what the run before left. */
static bool begin(const scene *s, char out[PATH])
{
    snprintf(out, PATH, "%s/out%s", root, s->again ? "" : ".safetensors");
    if (cn_dir_exists(out)) tiny_dir_remove(out);
    unlink(out);
    return !s->before || run(s->before, out, NULL) == 0;
}

/* False: there is no n-th call. */
static bool try_fault(const scene *s, const fault_kind *f, long n, bool all)
{
    char out[PATH], fault[96], wrong[PATH] = "";
    bool failed = false;
    snprintf(fault, sizeof fault, "%s:%ld%s:%s", f->kind, n, all ? "+" : "", f->error);
    if (!begin(s, out)) {
        complain(s->name, fault, "the run before fails");
        return false;
    }
    const int status = run(s->command, out, fault);
    (void)calls(f->kind, &failed);
    if (status == 0 && !failed) return false;
    runs++;
    const long saved = told_number("saved ", "checkpoint-");
    if (status != 0 && status != 1)
        complain(s->name, fault, "it doesn't end with exit status 0 or 1");
    else if (status == 1 && !has_reason())
        complain(s->name, fault, "no reason is told");
    else if (status == 0 && !complete(s, out, wrong))
        complain(s->name, fault, "exit status 0, but the result isn't there");
    else if (!s->again && status == 1 && cn_file_exists(out) && !complete(s, out, wrong))
        complain(s->name, fault, "half a file is left");
    else if (s->again)
        go_on(s, out, fault, saved);
    return true;
}

/* --- all of them, or some --------------------------------------------------------------------- */

static bool make_reference(const scene *s)
{
    char out[PATH];
    snprintf(out, sizeof out, "%s/reference-%s", root, s->name);
    if (s->before && run(s->before, out, NULL) != 0) return false;
    return run(s->command, out, NULL) == 0;
}

static bool set_up(const char *only)
{
    char path[PATH];
    cn_ctx *ctx = cn_ctx_create(1);
    snprintf(path, sizeof path, "%s/model", root);
    bool good = ctx && tiny_base_write(ctx, path, 8) == CN_OK;
    snprintf(path, sizeof path, "%s/scenes", root);
    good = good && tiny_scenes_write(ctx, path, 4) == CN_OK;
    cn_ctx_destroy(ctx);
    snprintf(path, sizeof path, "%s/control", root);
    good = good && run(TRAIN "--max-train-steps 1", path, NULL) == 0;
    for (size_t i = 0; good && i < CN_COUNT(scenarios); i++)
        good = (only && strcmp(only, scenarios[i].name) != 0) || make_reference(&scenarios[i]);
    if (!good) printf("FAIL: an undisturbed run fails\n%s\n", said);
    return good;
}

static bool is_wanted(const fault_kind *f)
{
    return !kind || strcmp(kind, f->kind) == 0;
}

/* A signal interrupts a call, and not the next ones for ever. */
static bool can_last(const fault_kind *f)
{
    return strcmp(f->error, "EINTR") != 0;
}

static int ascending(const void *a, const void *b)
{
    const long x = *(const long *)a, y = *(const long *)b;
    return x < y ? -1 : x > y;
}

/* The first and the last allocation of each place that an undisturbed run of the command comes by;
 * how many there are. */
static int find_places(const scene *s, long *out, int most)
{
    char path[PATH], line[64];
    int n = 0, kept = 0;
    if (!begin(s, path)) return 0;
    setenv("CN_FAIL_PLACES", "alloc", 1);
    const int status = run(s->command, path, NULL);
    unsetenv("CN_FAIL_PLACES");
    snprintf(path, sizeof path, "%s/told", root);
    FILE *f = fopen(path, "r");
    while (f && status == 0 && n + 2 <= most && fgets(line, sizeof line, f))
        n += sscanf(line, "place %ld %ld", &out[n], &out[n + 1]) == 2 ? 2 : 0;
    if (f) fclose(f);
    qsort(out, (size_t)n, sizeof *out, ascending);
    for (int i = 0; i < n; i++)
        if (i == 0 || out[i] != out[i - 1]) out[kept++] = out[i];
    return kept;
}

static void try_places(const scene *s, const fault_kind *f, bool all)
{
    static long places[1 << 17];
    const int n = find_places(s, places, CN_COUNT(places));
    if (n == 0) complain(s->name, f->kind, "no place that allocates is found");
    for (int i = 0; i < n; i++) (void)try_fault(s, f, places[i], all);
    printf("%s, %s%s %s: %d calls of all\n", s->name, f->kind, all ? "+" : "", f->error, n);
}

static void try_each(const scene *s, const fault_kind *f, bool all)
{
    long n = 1;
    while (try_fault(s, f, n, all)) n++;
    printf("%s, %s%s %s: %ld calls\n", s->name, f->kind, all ? "+" : "", f->error, n - 1);
}

static void try_all(const scene *s)
{
    for (size_t k = 0; k < CN_COUNT(faults); k++)
        for (int all = 0; is_wanted(&faults[k]) && all < 1 + can_last(&faults[k]); all++) {
            const bool some = !every && strcmp(faults[k].kind, "alloc") == 0;
            (some ? try_places : try_each)(s, &faults[k], all);
            fflush(stdout);
        }
}

/* Of each kind evenly, and of its calls, whose numbers the undisturbed run tells. */
static void try_some(double seconds, uint64_t seed)
{
    const double end = cn_now_s() + seconds;
    long most[CN_COUNT(scenarios)][CN_COUNT(faults)];
    bool failed;
    cn_rng rng;
    cn_rng_seed(&rng, seed);
    for (size_t i = 0; i < CN_COUNT(scenarios); i++) {
        char out[PATH];
        snprintf(out, sizeof out, "%s/again-%s", root, scenarios[i].name);
        if (scenarios[i].before) (void)run(scenarios[i].before, out, NULL);
        (void)run(scenarios[i].command, out, NULL);
        for (size_t k = 0; k < CN_COUNT(faults); k++) most[i][k] = calls(faults[k].kind, &failed);
    }
    while (cn_now_s() < end) {
        const size_t i = (size_t)cn_rng_below(&rng, CN_COUNT(scenarios));
        const size_t k = (size_t)cn_rng_below(&rng, CN_COUNT(faults));
        const bool all = cn_rng_below(&rng, 2) == 0 && can_last(&faults[k]);
        if (most[i][k] < 1 || !is_wanted(&faults[k])) continue;
        (void)try_fault(&scenarios[i], &faults[k], 1 + (long)cn_rng_below(&rng, most[i][k]), all);
    }
}

int main(int argc, char **argv)
{
    double seconds = 30;
    uint64_t seed = 1;
    const char *only = NULL;
    bool all = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--all") == 0 || strcmp(argv[i], "--every") == 0)
            all = true, every = argv[i][2] == 'e';
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--kind") == 0 && i + 1 < argc)
            kind = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            only = argv[i];
    if (!test_find_beside("controlnet-faults", program) || !tiny_dir_make(root)) return 1;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    if (set_up(only)) {
        for (size_t i = 0; all && i < CN_COUNT(scenarios); i++)
            if (!only || strcmp(only, scenarios[i].name) == 0) try_all(&scenarios[i]);
        if (!all) try_some(seconds, seed);
    } else {
        bad++;
    }
    tiny_dir_remove(root);
    printf("%d passed, %d failed\n", CN_MAX(runs - bad, 0), bad);
    return bad != 0;
}
