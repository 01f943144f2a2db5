/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - "sampling  7/20  1.31 s each  0:17 left" on stderr. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Between lines where stderr is no terminal. */
static const double line_every_s = 10;

double cli_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double cli_running_s(void)
{
    enum {
        START_TIME = 20
    }; /* proc_pid_stat(5): the fields that follow the command's closing bracket */
    char line[1024] = "";
    struct timespec now;
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f) return 0;
    const char *field = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    for (int i = 0; field && i < START_TIME; i++) field = strchr(field + 1, ' ');
    if (!field || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
    const double start = strtod(field, NULL) / (double)sysconf(_SC_CLK_TCK);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 - start;
}

void cli_progress_init(cli_progress *p, bool quiet)
{
    *p = (cli_progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO)};
}

static void print_line(const cli_progress *p, double now)
{
    double each = p->done ? (now - p->begun_s) / p->done : 0, left = each * (p->total - p->done);
    fprintf(stderr, "%s%s  %d/%d", p->terminal ? "\r" : "", p->label, p->done, p->total);
    if (p->done) fprintf(stderr, "  %.2f s each", each);
    if (p->done && p->done < p->total)
        fprintf(stderr, "  %d:%02d left", (int)(left / 60), (int)left % 60);
    fputs(p->terminal ? "\x1b[K" : "\n", stderr);
    fflush(stderr);
}

void cli_progress_show(cli_progress *p, const char *label, int done, int total)
{
    if (p->quiet) return;
    double now = cli_now_s();
    if (!p->open || strcmp(p->label, label) != 0) {
        cli_progress_end(p);
        snprintf(p->label, sizeof p->label, "%s", label);
        p->begun_s = p->shown_s = now;
        p->open = true;
    }
    p->done = done;
    p->total = total;
    bool due = p->terminal || now - p->shown_s >= line_every_s || (done == total && total > 1);
    if (!due) return;
    p->shown_s = now;
    print_line(p, now);
}

void cli_progress_end(cli_progress *p)
{
    if (p->open && p->terminal && !p->quiet) fputc('\n', stderr);
    p->open = false;
}

/* --- faults of a data set --------------------------------------------------------------------- */

void cli_problem_show(void *problems, const char *text)
{
    cli_problems *p = problems;
    if (p->seen++ && !p->all) return;
    p->shown++;
    cli_progress_end(p->progress);
    cli_put(stderr, text);
    fputc('\n', stderr);
}

void cli_problems_end(const cli_problems *p)
{
    const int64_t rest = p->seen - p->shown;
    if (rest)
        fprintf(stderr, "%lld more can't be used (\"dataset check --all-problems\" names each)\n",
                (long long)rest);
}
