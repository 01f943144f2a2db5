/* SPDX-License-Identifier: Apache-2.0 */
/* cli_context.c - the context of a command: log lines and errors on stderr, Ctrl-C and other
 * signals as a request to stop. */
#include "cli/cli.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A signal handler gets no argument, so the context it stops has to be found from here. */
static cn_ctx *volatile running;

static volatile sig_atomic_t ends_soon;

static void stop(int signal_number)
{
    (void)signal_number;
    if (running) cn_cancel(running);
    if (ends_soon) alarm(1);
}

/* One line and the end, from where nothing else can be called. */
static void end_with(const char *line)
{
    const ssize_t told = write(STDERR_FILENO, line, strlen(line));
    (void)told;
    _exit(CLI_FAILED);
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
    end_with("controlnet: interrupted\n");
}

/* Files of weights are mapped. What is gone when it is read is a fault of the file, not of the
 * program; SIGBUS comes to whoever reads. */
static void on_bus_error(int signal_number)
{
    (void)signal_number;
    end_with("controlnet: a file was cut short while it was read, or its disk failed\n");
}

/* C++ libraries beneath ask this when there is no memory; what they throw then nobody in a program
 * of C can catch. */
static void on_no_memory(void)
{
    end_with("controlnet: out of memory in a library (oneDNN)\n");
}

static void on_faults(void)
{
    typedef void (*handler)(void);
    /* std::set_new_handler, of whichever C++ runtime the libraries brought along */
    handler (*set)(handler) = NULL;
    void *found = dlsym(RTLD_DEFAULT, "_ZSt15set_new_handlerPFvvE");
    memcpy(&set, &found, sizeof set);
    if (set) set(on_no_memory);
    struct sigaction a = {.sa_handler = on_bus_error};
    sigemptyset(&a.sa_mask);
    sigaction(SIGBUS, &a, NULL);
    a.sa_handler = on_alarm;
    sigaction(SIGALRM, &a, NULL);
}

/* A second Ctrl-C ends the program at once. A terminal that goes away may send SIGHUP twice, from
 * the shell and from the system; under nohup it is ignored and stays so. */
static void on_signals(void (*handler)(int))
{
    struct sigaction a = {.sa_handler = handler}, was;
    sigemptyset(&a.sa_mask);
    /* no SA_RESTART: a call that waits, for a pipe's other end or a lock, ends with the signal */
    a.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGUSR1, &a, NULL); /* what Slurm sends, and what mpirun hands on */
    a.sa_flags = 0;
    if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &a, NULL);
}

static void print_log(void *user, cn_log_level level, const char *line)
{
    (void)user;
    if (level == CN_LOG_WARN) fputs("warning: ", stderr);
    cli_put(stderr, line);
    fputc('\n', stderr);
}

cn_ctx *cli_context_create(const char *command, int threads)
{
    cn_ctx *ctx = cn_ctx_create(threads);
    if (!ctx) {
        cli_error(command, "out of memory");
        return NULL;
    }
    cn_ctx_set_log(ctx, print_log, NULL);
    running = ctx;
    on_signals(stop);
    on_faults();
    /* a file over the limit and a pipe without a reader are errors of writing, not the end: what is
     * being computed is saved all the same */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return ctx;
}

void cli_context_destroy(cn_ctx *ctx)
{
    on_signals(SIG_DFL);
    alarm(0);
    ends_soon = 0;
    running = NULL;
    cn_ctx_destroy(ctx);
}

void cli_context_end_within_second(void)
{
    ends_soon = 1;
}

int cli_error(const char *command, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "controlnet %s: ", command);
    cli_vsay(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_FAILED;
}

int cli_failed(const cn_ctx *ctx, const char *command)
{
    const char *reason = cn_error(ctx);
    /* a call that needs memory to say that there is none */
    return cli_error(command, "%s", *reason ? reason : "out of memory");
}

int cli_put_text(cn_ctx *ctx, const char *command, cn_status s, const char *text, bool json)
{
    if (s != CN_OK) return cli_failed(ctx, command);
    if (json)
        fputs(text, stdout);
    else
        cli_put_lines(stdout, text);
    return CLI_DONE;
}

const char *cli_output_path(const char *path)
{
    return strcmp(path, "-") == 0 ? "/dev/stdout" : path;
}

bool cli_can_write(const char *command, const char *path)
{
    struct stat st;
    char dir[CN_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir || (slash && !slash[1]) || !*path) {
        cli_error(command, "cannot write \"%s\": a file's name is expected", path);
        return false;
    }
    if (!slash)
        memcpy(dir, ".", 2);
    else if (n == 0)
        memcpy(dir, "/", 2);
    else {
        memcpy(dir, path, n);
        dir[n] = 0;
    }
    const bool there = stat(path, &st) == 0;
    if (there && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) { /* is written into */
        if (access(path, W_OK) == 0) return true;
        cli_error(command, "cannot write \"%s\": %s", path, strerror(errno));
        return false;
    }
    if (there && S_ISDIR(st.st_mode))
        cli_error(command, "cannot write \"%s\": it is a folder, a file's name is expected", path);
    else if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        cli_error(command, "cannot write \"%s\": \"%s\" is no folder", path, dir);
    else if (access(dir, W_OK | X_OK) != 0)
        cli_error(command, "cannot write \"%s\": folder \"%s\": %s", path, dir, strerror(errno));
    else
        return true;
    return false;
}
