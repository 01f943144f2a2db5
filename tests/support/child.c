/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - see child.h. */
#include "child.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool find_self(char path[PATH_MAX])
{
    const ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0;
}

bool test_find_controlnet(const char *given, char path[PATH_MAX])
{
    char beside[PATH_MAX + 32];
    if (!given && find_self(path)) {
        snprintf(beside, sizeof beside, "%.*s/../controlnet", (int)(strrchr(path, '/') - path),
                 path);
        given = beside;
    }
    if (given && realpath(given, path) && access(path, X_OK) == 0) return true;
    fprintf(stderr, "%s: %s\n", given ? given : "controlnet", strerror(errno));
    return false;
}

bool test_run_self(char *const *args)
{
    char self[PATH_MAX];
    pid_t child;
    int status = -1;
    return find_self(self) && posix_spawn(&child, self, NULL, NULL, args, environ) == 0 &&
           waitpid(child, &status, 0) == child && status == 0;
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
