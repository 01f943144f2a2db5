/* child.c - see child.h. */
#include "child.h"

#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

bool test_run_self(char *const *args)
{
    char self[512];
    pid_t child;
    int status = -1;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return false;
    self[n] = 0;
    return posix_spawn(&child, self, NULL, NULL, args, environ) == 0 &&
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
