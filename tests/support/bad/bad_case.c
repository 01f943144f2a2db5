/* SPDX-License-Identifier: Apache-2.0 */
/* bad_case.c - the work folder is made in /tmp; a run is bounded in time and processor time. */
#include "bad_case.h"

#include "../child.h"
#include "../made_files.h"
#include "../tiny_base.h"

#include "image/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STDERR_BYTES = 16384, CPU_SECONDS = 30, WALL_SECONDS = 120 };

cn_ctx *ctx;
test_report report;
char program[PATH_MAX], root[64];

bool bad_open(int argc, char **argv)
{
    if (!test_find_controlnet(argc > 1 ? argv[1] : NULL, program)) return false;
    ctx = cn_ctx_create(1);
    if (!ctx) return false;
    setenv("OMP_NUM_THREADS", "1", 1);
    must(tiny_dir_make(root), "a work folder");
    return true;
}

int bad_close(void)
{
    tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return report_end(&report);
}

/* --- files ------------------------------------------------------------------------------------ */

const char *in_root(const char *name)
{
    static char paths[96][192];
    char path[192];
    int i = 0;
    snprintf(path, sizeof path, "%s/%s", root, name);
    while (i < (int)CN_COUNT(paths) - 1 && paths[i][0] && strcmp(paths[i], path) != 0) i++;
    snprintf(paths[i], sizeof paths[i], "%s", path);
    return paths[i];
}

void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "badinput: %s: %s (%s)\n", what, strerror(errno), cn_error(ctx));
    tiny_dir_remove(root);
    exit(1);
}

void put(const char *name, const void *bytes, size_t n)
{
    must(cn_file_write(ctx, in_root(name), bytes, n) == CN_OK, name);
}

void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

void put_part(const char *to, const char *from, size_t part, size_t of)
{
    char *data;
    size_t n;
    must(cn_file_read(ctx, in_root(from), 1 << 28, &data, &n) == CN_OK, from);
    put(to, data, n * part / of);
    cn_free(data);
}

static void put_made(const char *name, cn_str *s)
{
    put(name, s->data, s->len);
    cn_str_free(s);
}

void put_safetensors(const char *name, uint64_t header_bytes, const char *header, size_t data_bytes)
{
    cn_str s = {0};
    make_safetensors(&s, header_bytes, header, data_bytes);
    put_made(name, &s);
}

void put_png(const char *name, uint32_t width, uint32_t height)
{
    cn_str s = {0};
    make_png(&s, width, height);
    put_made(name, &s);
}

void put_torch_zip(const char *name, const char *pickle, size_t n)
{
    cn_str s = {0};
    make_torch_zip(&s, pickle, n);
    put_made(name, &s);
}

void put_black(const char *name)
{
    cn_image *image = NULL;
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &image) == CN_OK &&
             cn_image_save_png(ctx, in_root(name), image, NULL) == CN_OK,
         name);
    cn_image_destroy(image);
}

/* --- what the work folder holds --------------------------------------------------------------- */

/* Adds a line per file, in the order of names: path, size, hash of the content. Folders without
 * files are not there for it. */
static void list_files(const char *dir, cn_str *out)
{
    struct dirent **entries;
    const int n = scandir(dir, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX], *data;
        size_t bytes;
        struct stat st;
        const char *name = entries[i]->d_name;
        snprintf(path, sizeof path, "%s/%s", dir, name);
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || lstat(path, &st) != 0) {
            /* nothing to list */
        } else if (S_ISDIR(st.st_mode)) {
            list_files(path, out);
        } else if (S_ISREG(st.st_mode) &&
                   cn_file_read(ctx, path, 1 << 28, &data, &bytes) == CN_OK) {
            cn_str_addf(out, "%s %zu %016llx\n", path, bytes,
                        (unsigned long long)cn_hash64(data, bytes));
            cn_free(data);
        } else {
            cn_str_addf(out, "%s\n", path);
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

/* --- running ---------------------------------------------------------------------------------- */

static void child(const bad_case *c, int err)
{
    char *argv[MAX_ARGS + 2] = {program};
    for (int i = 0; i < MAX_ARGS && c->args[i]; i++) argv[i + 1] = (char *)(uintptr_t)c->args[i];
    const int in = open("/dev/null", O_RDONLY);
    const int out = open(c->output ? c->output : "/dev/null", O_WRONLY);
    const struct rlimit cpu = {CPU_SECONDS, CPU_SECONDS}, file = {c->file_bytes, c->file_bytes};
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    setrlimit(RLIMIT_CPU, &cpu);
    if (c->file_bytes) {
        signal(SIGXFSZ, SIG_IGN); /* write() then says EFBIG, as it says ENOSPC on a full disk */
        setrlimit(RLIMIT_FSIZE, &file);
    }
    execv(program, argv);
    _exit(127);
}

/* Its exit status, 128 + a signal's number; what came on stderr in `text`. */
static int run(const bad_case *c, char text[STDERR_BYTES])
{
    int ends[2];
    must(pipe(ends) == 0, "a pipe");
    const pid_t pid = fork();
    must(pid >= 0, "a process");
    if (pid == 0) {
        close(ends[0]);
        child(c, ends[1]);
    }
    close(ends[1]);
    const int status = test_read(pid, ends[0], WALL_SECONDS, text, STDERR_BYTES);
    close(ends[0]);
    return status;
}

/* "LABEL  3/20 ...", and what a command says about itself on the way. */
static bool is_progress(const char *line)
{
    static const char *const begins[] = {"warning: ", "seed ",  "step ",         "saved ",
                                         "memory: ",  "data: ", "validation at "};
    for (size_t i = 0; i < CN_COUNT(begins); i++)
        if (strncmp(line, begins[i], strlen(begins[i])) == 0) return true;
    const size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyz ");
    return n > 0 && strspn(line + n, "0123456789") > 0 && strchr(line + n, '/');
}

/* Cuts `text` into lines. The error, or NULL with what is wrong about the output in `fault`. */
static const char *find_error(char *text, cn_str *fault)
{
    const char *error = NULL;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (is_progress(line)) continue;
        if (error || strncmp(line, "controlnet", 10) != 0)
            cn_str_addf(fault, " unexpected line \"%s\";", line);
        else
            error = line;
    }
    if (!error) cn_str_adds(fault, " no error line on stderr;");
    return error;
}

static void check_files(const bad_case *c, const cn_str *before, cn_str *fault)
{
    cn_str after = {0};
    list_files(root, &after);
    const bool same = after.len == before->len && !memcmp(after.data, before->data, after.len);
    if (!same && !c->may_write) cn_str_adds(fault, " the work folder changed;");
    if (strstr(after.data, ".tmp")) cn_str_adds(fault, " a temporary file is left;");
    if (access(in_root("pwned"), F_OK) == 0) cn_str_adds(fault, " the file's code was run;");
    cn_str_free(&after);
}

void check(const bad_case *c)
{
    static char text[STDERR_BYTES];
    cn_str before = {0}, fault = {0};
    list_files(root, &before);
    const int status = run(c, text);
    if (status > 128)
        cn_str_addf(&fault, " ended by signal %d;", status - 128);
    else if (status != c->status)
        cn_str_addf(&fault, " exit status %d, not %d;", status, c->status);
    const char *error = find_error(text, &fault);
    for (size_t i = 0; error && i < CN_COUNT(c->words) && c->words[i]; i++)
        if (!strstr(error, c->words[i])) cn_str_addf(&fault, " doesn't say \"%s\";", c->words[i]);
    check_files(c, &before, &fault);
    report_check(&report, !fault.len, "%s%s%s", c->name, fault.len ? ":" : "",
                 fault.len ? fault.data : "");
    printf("     %s\n", error ? error : "");
    cn_str_free(&before);
    cn_str_free(&fault);
}

void prepare(const char *const *args)
{
    static char text[STDERR_BYTES];
    bad_case c = {0};
    for (int i = 0; args[i]; i++) c.args[i] = args[i];
    if (run(&c, text) == 0) return;
    fprintf(stderr, "badinput: cannot prepare:\n%s", text);
    tiny_dir_remove(root);
    exit(1);
}
