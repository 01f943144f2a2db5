/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - see child.h. */
#include "child.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static bool find_self(char path[PATH_MAX])
{
    const ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0;
}

static bool find_program(const char *given, char path[PATH_MAX])
{
    if (realpath(given, path) && access(path, X_OK) == 0) return true;
    fprintf(stderr, "%s: %s\n", given, strerror(errno));
    return false;
}

bool test_find_beside(const char *name, char path[PATH_MAX])
{
    char beside[PATH_MAX + 64];
    if (!find_self(path)) return find_program(name, path);
    snprintf(beside, sizeof beside, "%.*s/%s", (int)(strrchr(path, '/') - path), path, name);
    return find_program(beside, path);
}

bool test_find_controlnet(const char *given, char path[PATH_MAX])
{
    return given ? find_program(given, path) : test_find_beside("../controlnet", path);
}

pid_t test_start(char *const *argv, int output)
{
    fflush(stdout);
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (output >= 0 && (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0))
        _exit(126);
    execvp(argv[0], argv);
    _exit(127);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int test_wait(pid_t pid, double seconds)
{
    const double end = now_s() + seconds;
    int status = 0;
    pid_t got = 0;
    if (pid < 0) return 126;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 && now_s() < end)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    if (got == 0) {
        kill(pid, SIGKILL);
        got = waitpid(pid, &status, 0);
    }
    if (got != pid) return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int test_read(pid_t pid, int fd, double seconds, char *said, size_t size)
{
    const double end = now_s() + seconds;
    size_t n = 0;
    for (;;) {
        char more[256]; /* beyond what `said` holds: read, so that the program can go on */
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const double left = end - now_s();
        const int ready = left > 0 ? poll(&p, 1, (int)(left * 1e3) + 1) : 0;
        if (ready < 0 && errno == EINTR) continue;
        const bool full = n + 1 >= size;
        const ssize_t got =
            ready > 0 ? read(fd, full ? more : said + n, full ? sizeof more : size - 1 - n) : 0;
        if (got <= 0) break;
        if (!full) n += (size_t)got;
    }
    said[n] = 0;
    return test_wait(pid, end - now_s());
}

bool test_run_self(char *const *args)
{
    char self[PATH_MAX], *argv[16];
    int n = 1;
    if (!find_self(self)) return false;
    argv[0] = self;
    while (n < 15 && args[n]) {
        argv[n] = args[n];
        n++;
    }
    argv[n] = NULL;
    return test_wait(test_start(argv, -1), TEST_CHILD_SECONDS) == 0;
}

int test_write_plan(const char *path, size_t planned_bytes, size_t real_bytes)
{
    FILE *f = fopen(path, "w");
    if (!f) return 1;
    fprintf(f, "%zu %zu\n", planned_bytes, real_bytes);
    return fclose(f) == 0 ? 0 : 1;
}

bool test_near_plan(const char *what, const char *path)
{
    size_t planned = 0, real = 0;
    FILE *f = fopen(path, "r");
    const int n = f ? fscanf(f, "%zu %zu", &planned, &real) : 0;
    if (f) fclose(f);
    printf("%s: planned %zu MB, real %zu MB\n", what, planned >> 20, real >> 20);
    return n == 2 && fabs((double)real - (double)planned) < 0.03 * (double)planned;
}
