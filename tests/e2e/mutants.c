/* SPDX-License-Identifier: Apache-2.0 */
/* mutants.c - controlnet on files with changed bytes: mutants [PROGRAM [COUNT [SEED [SECONDS]]]].
 *
 * Each case takes a good small file of a format that the program reads, flips some of its bytes,
 * cuts it, or splices it with another one, and gives it to a command. Whatever is in it, the
 * program ends by itself with exit status 0, 1 or 2, in the last two cases with at most four lines,
 * and no sanitizer has anything to report (`make fuzz` runs it on a build with them). A case
 * follows from the seed and its number alone, so that a failing one can be made again: mutants
 * PROGRAM NUMBER+1 SEED.
 */
#include "../support/child.h"
#include "../support/report.h"
#include "../support/tiny_base.h"
#include "../support/values.h"

#include "image/image.h"
#include "io/json.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 200, MAX_WORDS = 12, MOST_LINES = 4, CASE_SECONDS = 60, SAID_BYTES = 65536 };

static cn_ctx *ctx;
static char program[PATH_MAX], root[64];

/* A good file, and the command that reads it: '@' stands for the changed one's path. */
typedef struct sample {
    char name[64];
    uint8_t *bytes;
    size_t n;
    const char *file; /* what the changed one is called in the work folder */
    const char *command[MAX_WORDS];
} sample;

static sample samples[MAX_SAMPLES];
static int n_samples;

static void must(cn_status s, const char *what)
{
    if (s == CN_OK) return;
    fprintf(stderr, "mutants: %s: %s\n", what, cn_error(ctx));
    tiny_dir_remove(root);
    exit(1);
}

static sample *add_sample(const char *name, const void *bytes, size_t n, const char *file)
{
    if (n_samples == MAX_SAMPLES || !n) return NULL;
    sample *s = &samples[n_samples++];
    snprintf(s->name, sizeof s->name, "%.63s", name);
    s->bytes = malloc(n);
    if (!s->bytes) abort();
    memcpy(s->bytes, bytes, n);
    s->n = n;
    s->file = file;
    return s;
}

#define COMMAND(s, ...)                                     \
    do {                                                    \
        const char *const words[MAX_WORDS] = {__VA_ARGS__}; \
        if (s) memcpy((s)->command, words, sizeof words);   \
    } while (0)

static void add_pictures(void)
{
    json_t *cases = NULL;
    const json_t *c;
    size_t i, n;
    must(cn_json_load_file(ctx, "tests/golden/files/pictures.json", &cases), "pictures");
    json_array_foreach(cases, i, c)
    {
        uint8_t *file = test_hex(cn_json_str(c, "file", ""), &n);
        sample *s = add_sample(cn_json_str(c, "name", ""), file, n, "picture");
        COMMAND(s, "annotate", "canny", "@", "-o", "out.png");
        free(file);
    }
    json_decref(cases);
}

/* Every file of a fuzz target's corpus. */
static void add_corpus(const char *target, const char *file, const char *first, const char *second)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", target);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *bytes = NULL;
        size_t n = 0;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", target, e->d_name);
        must(cn_file_read(ctx, path, 1 << 24, &bytes, &n), path);
        sample *s = add_sample(e->d_name, bytes, n, file);
        if (second)
            COMMAND(s, first, second, "@", "-o", "out.png");
        else
            COMMAND(s, first, "@");
        cn_free(bytes);
    }
    if (d) closedir(d);
}

/* A file of the tiny base, changed where it is. */
static void add_of_base(const char *name)
{
    static char paths[8][PATH_MAX];
    static int used;
    char *bytes = NULL;
    size_t n = 0;
    char *path = paths[used++];
    snprintf(path, PATH_MAX, "base/%s", name);
    must(cn_file_read(ctx, path, 1 << 26, &bytes, &n), path);
    sample *s = add_sample(name, bytes, n, path);
    COMMAND(s, "generate", "--dry-run", "-m", "base", "-p", "a (red:1.2) cube", "-s", "1");
    cn_free(bytes);
}

static void add_list(const char *file, const char *text)
{
    sample *s = add_sample(file, text, strlen(text), file);
    COMMAND(s, "dataset", "check", "data", "--json"); /* the report is one line */
}

static void make_data(void)
{
    cn_image *image = NULL;
    must(cn_dir_make(ctx, "data"), "data");
    must(cn_image_create(ctx, 16, 16, &image), "image");
    must(cn_image_save_png(ctx, "data/a.png", image, NULL), "a.png");
    cn_image_destroy(image);
}

static void add_lists(void)
{
    add_list("data/prompt.json",
             "{\"source\": \"a.png\", \"target\": \"a.png\", \"prompt\": \"x\"}\n"
             "{\"source\": \"a.png\", \"target\": \"a.png\", \"prompt\": \"y \\u00e9\"}\n");
    add_list("data/prompt.json",
             "[{\"source\": \"a.png\", \"target\": \"a.png\", \"prompt\": \"x\"},\n"
             " {\"source\": \".\\\\a.png\", \"target\": \"a.png\", \"prompt\": \"\"}]");
    add_list(
        "data/metadata.jsonl",
        "{\"image\": \"a.png\", \"conditioning_image\": \"a.png\", \"text\": [\"x\", \"y\"]}\n");
    add_list(
        "data/metadata.csv",
        "file_name,conditioning_image,text\r\na.png,a.png,\"x, \"\"y\"\"\"\r\na.png,a.png,z\n");
}

/* --- changes ---------------------------------------------------------------------------------- */

static size_t below(cn_rng *r, size_t n)
{
    return (size_t)(cn_rng_u64(r) % n);
}

/* A cut, flips, or the rest of another file behind a part of this one. */
static size_t mutate(cn_rng *r, const sample *s, uint8_t *out, size_t cap)
{
    size_t n = CN_MIN(s->n, cap);
    memcpy(out, s->bytes, n);
    const size_t kind = below(r, 8);
    if (kind == 0) return below(r, n); /* cut */
    if (kind == 1) {                   /* splice */
        const sample *other = &samples[below(r, (size_t)n_samples)];
        const size_t at = below(r, n), from = below(r, other->n);
        const size_t more = CN_MIN(other->n - from, cap - at);
        memcpy(out + at, other->bytes + from, more);
        return at + more;
    }
    if (kind == 2) { /* a part of it over another */
        const size_t from = below(r, n), to = below(r, n);
        const size_t k = below(r, n - CN_MAX(from, to)) + 1;
        memmove(out + to, out + from, k);
        return n;
    }
    /* mostly near the beginning, where headers are */
    const size_t flips = 1 + below(r, 8), range = kind == 3 ? n : CN_MIN(n, 16u << below(r, 6));
    for (size_t i = 0; i < flips; i++) {
        static const uint8_t often[] = {0, 0xff, 0x7f, 0x80, '"', '{', '\\', 1};
        const size_t at = below(r, range);
        if (below(r, 2))
            out[at] = often[below(r, sizeof often)];
        else
            out[at] = (uint8_t)(out[at] ^ 1u << below(r, 8));
    }
    return n;
}

/* --- running ---------------------------------------------------------------------------------- */

/* Lines that are no progress, which ends in '\r', and not libjxl's, whose build in Debian tells
 * where in its source it met a fault. */
static int count_lines(const char *said)
{
    int n = 0;
    for (const char *p = said; *p;) {
        const size_t k = strcspn(p, "\r\n");
        n += k && p[k] != '\r' && strncmp(p, "./lib/jxl/", 10) != 0;
        p += k + (p[k] != 0);
    }
    return n;
}

static int run_case(const sample *s, const char *path, char *said)
{
    char *argv[MAX_WORDS + 2] = {program};
    int ends[2];
    for (int i = 0; i < MAX_WORDS && s->command[i]; i++)
        argv[i + 1] = (char *)(uintptr_t)(strcmp(s->command[i], "@") ? s->command[i] : path);
    if (pipe(ends) != 0) return -1;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    const int status = test_read(pid, ends[0], CASE_SECONDS, said, SAID_BYTES);
    close(ends[0]);
    return status;
}

/* The good file again; a list goes, since a folder may hold one alone. */
static void restore(const sample *s)
{
    if (strncmp(s->file, "base/", 5) == 0)
        must(cn_file_write(ctx, s->file, s->bytes, s->n), s->file);
    else
        unlink(s->file);
}

/* True when the case went as it should. */
static bool try_case(uint64_t seed, int number)
{
    static char said[SAID_BYTES];
    cn_rng r;
    cn_rng_seed(&r, seed * 1000003 + (uint64_t)number);
    const sample *s = &samples[below(&r, (size_t)n_samples)];
    const size_t cap = s->n + (1 << 16);
    uint8_t *bytes = malloc(cap);
    if (!bytes) abort();
    const size_t n = mutate(&r, s, bytes, cap);
    must(cn_file_write(ctx, s->file, bytes, n), s->file);
    const int status = run_case(s, s->file, said);
    const int lines = status == 0 ? 0 : count_lines(said);
    const bool good = status >= 0 && status <= 2 && lines <= MOST_LINES &&
                      !strstr(said, "Sanitizer") && !strstr(said, "runtime error");
    if (!good)
        printf("FAIL case %d of seed %llu: %s, %zu bytes: exit %d, %d lines\n%.2000s\n", number,
               (unsigned long long)seed, s->name, n, status, lines, said);
    restore(s);
    free(bytes);
    return good;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void collect(void)
{
    static const char *const of_base[] = {"model_index.json", "unet/config.json",
                                          "scheduler/scheduler_config.json", "tokenizer/vocab.json",
                                          "tokenizer/merges.txt"};
    char here[PATH_MAX];
    add_pictures();
    add_corpus("image", "picture", "annotate", "canny");
    add_corpus("safetensors", "weights", "inspect", NULL);
    add_corpus("torchzip", "weights", "inspect", NULL);
    if (!getcwd(here, sizeof here) || chdir(root) != 0) abort();
    make_data();
    must(tiny_base_write(ctx, "base", 8), "base");
    add_lists();
    for (size_t i = 0; i < CN_COUNT(of_base); i++) add_of_base(of_base[i]);
}

int main(int argc, char **argv)
{
    const int count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 400;
    const uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    const double until = now_s() + (argc > 4 ? strtod(argv[4], NULL) : 25);
    test_report report = {0};
    int done = 0, bad = 0;
    setenv("OMP_NUM_THREADS", "1", 1);
    ctx = cn_ctx_create(1);
    if (!ctx || !test_find_controlnet(argc > 1 ? argv[1] : NULL, program) || !tiny_dir_make(root))
        return 1;
    collect();
    for (; done < count && now_s() < until && bad < 20; done++) bad += !try_case(seed, done);
    report_check(&report, bad == 0 && done > 0,
                 "%d changed files of %d kinds of %d wanted, seed %llu", done, n_samples, count,
                 (unsigned long long)seed);
    for (int i = 0; i < n_samples; i++) free(samples[i].bytes);
    if (chdir("/") != 0) return 1;
    tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return report_end(&report);
}
