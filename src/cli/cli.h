/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the commands share: options, the context with its Ctrl-C, progress lines.
 *
 * Commands stand on controlnet.h alone. A command is int cmd_NAME(int argc, char **argv), argv[0]
 * being its name, and returns the program's exit status.
 */
#ifndef CN_CLI_H
#define CN_CLI_H

#include "controlnet.h"

#include <stdio.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* --- options.c -------------------------------------------------------------------------------- */

/* One option; its index in the command's table is what cli_next returns. */
typedef struct cli_option {
    const char
        *name;   /* long name with '-'; '_' is accepted too. NULL: a heading in the help, `help` */
    char letter; /* 0: none */
    const char *arg;  /* the argument's name in the help; NULL: a switch */
    const char *help; /* NULL: an alias that the help leaves out */
} cli_option;

typedef struct cli_parser {
    const char *command;  /* "generate" */
    const char *synopsis; /* lines of the help: what follows "controlnet " */
    const char *about;    /* printed behind the options; NULL: nothing */
    const cli_option *options;
    int n_options;
    int argc;
    char **argv;
    /* set by cli_next */
    const char *value; /* the option's argument */
    bool started;
} cli_parser;

enum { CLI_END = -1, CLI_WRONG = -2, CLI_HELP = -3 };

/* The next option's index, CLI_END behind the last, CLI_HELP once --help (-h, unless the table has
 * it) was printed, CLI_WRONG once a wrong one was reported. */
int cli_next(cli_parser *p);
/* The exit status for what ended the loop: CLI_DONE after CLI_HELP, else CLI_USAGE. */
int cli_exit_status(int end);
/* After CLI_END: the arguments that are no options. */
int cli_positional(const cli_parser *p, char ***list);
/* "controlnet COMMAND: message" on stderr and where the help is; returns CLI_USAGE. */
int cli_usage_error(const cli_parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* p->value as a number of the option at index i; false after reporting a wrong one. Bounds
 * included. */
bool cli_int(const cli_parser *p, int i, int64_t min, int64_t max, int64_t *out);
bool cli_number(const cli_parser *p, int i, double min, double max, double *out);
bool cli_uint64(const cli_parser *p, int i, uint64_t *out);
/* A number of bytes above 0, with K, M, G or T (of 1024) behind it: "8G", "1.5G". */
bool cli_size(const cli_parser *p, int i, size_t *out);
double cli_gib(size_t bytes);
/* Whether p->value is one of these (NULL at the end); false after reporting a wrong one. */
bool cli_one_of(const cli_parser *p, int i, const char *const *names);
/* Appends p->value to a list of room for `most` and a NULL behind; false after reporting one too
 * many. */
bool cli_add_word(const cli_parser *p, const char **list, int most, int *n);

/* A JSON string on standard output; what isn't plain ASCII goes through as it is. */
void cli_print_quoted(const char *text);

/* --- context.c -------------------------------------------------------------------------------- */

/* A context that logs to stderr and whose running call the first Ctrl-C (or SIGTERM) stops; the
 * second ends the program. NULL after a message. One at a time. */
cn_ctx *cli_context_create(const char *command, int threads);
void cli_context_destroy(cn_ctx *ctx);
/* "controlnet COMMAND: the error" on stderr; returns CLI_FAILED. */
int cli_failed(const cn_ctx *ctx, const char *command);
/* The same with a message of the command's own. */
int cli_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A file can be made (or replaced) at path: its folder is there and writable. Said before long
 * work; false after a message. */
bool cli_can_write(const char *command, const char *path);

/* --- cli_report.c ----------------------------------------------------------------------------- */

/* What was found in a data set, for people. */
void cli_report_print(FILE *f, const cn_dataset_report *r);

/* --- progress.c ------------------------------------------------------------------------------- */

/* One line on stderr: rewritten in place on a terminal, else a line every few seconds. */
typedef struct cli_progress {
    char label[64];
    double begun_s, shown_s;
    int done, total;
    bool terminal, quiet, open;
} cli_progress;

void cli_progress_init(cli_progress *p, bool quiet);
/* done of total of what `label` names; a new label begins a new line. */
void cli_progress_show(cli_progress *p, const char *label, int done, int total);
void cli_progress_end(cli_progress *p);
/* Seconds from a steady clock. */
double cli_now_s(void);
/* Seconds since the program was started, to a hundredth; 0 where the system doesn't say. */
double cli_running_s(void);

#endif
