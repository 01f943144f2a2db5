/* SPDX-License-Identifier: Apache-2.0 */
/* cli_context.c - the context of a command: log lines and errors on stderr, Ctrl-C and other
 * signals as a request to stop. */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A signal handler gets no argument, so the context it stops has to be found from here. */
static cn_ctx *volatile running;

static void stop(int signal_number)
{
    (void)signal_number;
    if (running) cn_cancel(running);
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
    /* a file over the limit and a pipe without a reader are errors of writing, not the end: what is
     * being computed is saved all the same */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return ctx;
}

void cli_context_destroy(cn_ctx *ctx)
{
    on_signals(SIG_DFL);
    running = NULL;
    cn_ctx_destroy(ctx);
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

bool cli_can_write(const char *command, const char *path)
{
    struct stat st;
    char dir[4096];
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
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        cli_error(command, "cannot write \"%s\": it is a folder, a file's name is expected", path);
    else if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        cli_error(command, "cannot write \"%s\": \"%s\" is no folder", path, dir);
    else if (access(dir, W_OK | X_OK) != 0)
        cli_error(command, "cannot write \"%s\": folder \"%s\": %s", path, dir, strerror(errno));
    else
        return true;
    return false;
}
