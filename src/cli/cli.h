/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the commands share: options, the context with its Ctrl-C, progress lines.
 *
 * Commands stand on controlnet.h alone. A command is int cmd_NAME(int argc, char **argv), argv[0]
 * being its name, and returns the program's exit status.
 */
#ifndef CN_CLI_H
#define CN_CLI_H

#include "controlnet.h"

#include <stdarg.h>
#include <stdio.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_GO = -1 /* on: no exit status yet */ };

/* --- options.c -------------------------------------------------------------------------------- */

/* A table of options and the struct whose fields they fill. */
typedef struct cli_part {
    const cn_option *rows;
    void *target;
} cli_part;

/* Another program's value for an option: taken as `instead`, and named as an idle option is. */
typedef struct cli_idle_value {
    const char *name, *value, *instead;
} cli_idle_value;

/* An option of the command line. */
typedef struct cli_setting {
    const cli_part *part;
    const cn_option *row;
    const char *value; /* NULL: a switch */
    const char *idle;  /* what stood there, where `value` is taken instead; NULL */
} cli_setting;

typedef struct cli_settings {
    cli_setting *list;
    int n;
} cli_settings;

typedef struct cli_parser {
    const char *command;  /* "generate" */
    const char *synopsis; /* lines of the help: what follows "controlnet " */
    const char *about;    /* printed behind the options; NULL: nothing */
    /* The command's tables, up to one of no rows. Of rows with the same name the first counts, so
     * that a command's own row can stand before the library's. */
    const cli_part *parts;
    /* Other programs' options, which aren't in the help: those that are taken and named by
     * cli_print_idle, and those that can't be left out, where `help` says what to do instead. */
    cli_part idle, refused;
    const cli_idle_value *idle_values; /* up to one without a name; NULL: none */
    /* How many words that are no options there must be; else `words_wanted` is said. Where there
     * may be none, an option that takes a list takes all values that follow it. */
    int min_words, max_words;
    const char *words_wanted;
    int argc;
    char **argv;
    /* set by cli_parse */
    cn_ctx *ctx; /* of messages */
    cli_settings settings;
    const char **words;
    int n_words;
    const char **lists; /* memory of the values that lists point to */
} cli_parser;

/* Reads the command line into the targets, over their defaults. CLI_GO, or the exit status: of
 * --help (-h, unless a row has it), which was printed, or after a message. cli_parser_free in
 * either case; lists in the targets go with it. */
int cli_read(cli_parser *p);
/* Its two halves: which options and words were given, their names checked; their values, to the
 * targets. */
int cli_parse(cli_parser *p);
int cli_fill(cli_parser *p);
/* Parts of the latter: */
/* the defaults of all rows whose part has a target, */
void cli_preset(const cli_parser *p);
/* an option's value, false after a message; not for lists, */
bool cli_set(const cli_parser *p, const cli_setting *g);
/* each of which is all values of its option, */
bool cli_set_lists(cli_parser *p);
/* the number of words, and the options that must be given. */
int cli_check(const cli_parser *p);
void cli_parser_free(cli_parser *p);
/* One line on stderr that names what was given and has no effect here; none where nothing was. */
void cli_print_idle(const cli_parser *p);

/* The option of a long name; false: there is none. */
bool cli_find(const cli_parser *p, const char *name, cli_setting *out);
/* The last time this option was given; NULL: it wasn't. */
const cli_setting *cli_find_setting(const cli_parser *p, const char *name);
/* "controlnet COMMAND: message" on stderr and where the help is; returns CLI_USAGE. */
int cli_usage_error(const cli_parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Rows that several commands have. */
#define CLI_THREADS(options)                                                   \
    {                                                                          \
        "threads", 't', "worker threads", CN_FIELD(options, threads), 1, 1024, \
            .unset = "one per core"                                            \
    }
#define CLI_MAX_PIXELS(options)                                                            \
    {                                                                                      \
        "max-pixels", 0, "pictures of more are refused", CN_FIELD(options, max_pixels), 1, \
            1 << 30, .unset = "178956970, as Pillow's"                                     \
    }
#define CLI_JSON(options, help)                  \
    {                                            \
        "json", 0, help, CN_FIELD(options, json) \
    }

/* --- cli_help.c ------------------------------------------------------------------------------- */

void cli_print_help(const cli_parser *p);

/* --- cli_print.c ------------------------------------------------------------------------------ */

double cli_gib(size_t bytes);
/* A JSON string on standard output; what isn't plain ASCII goes through as it is. */
void cli_print_quoted(const char *text);
/* Whether it is UTF-8, as JSON's strings are. */
bool cli_is_text(const char *text);
/* Text for people that may come from anywhere (file names, data, weights): what a terminal would
 * act upon, line ends among it, and bytes that are no UTF-8 are written as \xHH. */
void cli_put(FILE *f, const char *text);
/* The same, line by line. */
void cli_put_lines(FILE *f, const char *text);
/* vfprintf, put so. */
void cli_vsay(FILE *f, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));

/* --- context.c -------------------------------------------------------------------------------- */

/* A context that logs to stderr and whose running call the first Ctrl-C (or SIGTERM) stops; the
 * second ends the program. NULL after a message. One at a time. */
cn_ctx *cli_context_create(const char *command, int threads);
void cli_context_destroy(cn_ctx *ctx);
/* Of a command that has nothing to save: what doesn't end within a second of the first signal is
 * ended. */
void cli_context_end_within_second(void);
/* "controlnet COMMAND: the error" on stderr; returns CLI_FAILED. */
int cli_failed(const cn_ctx *ctx, const char *command);
/* On standard output what a call of the library made, which had the status s: JSON as it is, lines
 * for people as cli_put_lines does; of a failure its message. CLI_DONE or CLI_FAILED. */
int cli_put_text(cn_ctx *ctx, const char *command, cn_status s, const char *text, bool json);
/* The same with a message of the command's own. */
int cli_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A file can be made (or replaced) at path: its folder is there and writable. Said before long
 * work; false after a message. */
bool cli_can_write(const char *command, const char *path);
/* Where "-" writes to: standard output; any other path as it is. */
const char *cli_output_path(const char *path);

/* --- cli_processes.c -------------------------------------------------------------------------- */

/* How many of this program mpirun (or srun with PMIx) started, 1: it is alone; *rank: which of them
 * this is, from 0. */
int cli_processes(int *rank);

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

/* What can't be used of a data set, on stderr: the first fault, or each, a line. */
typedef struct cli_problems {
    cli_progress *progress; /* interrupted by the lines */
    int64_t seen, shown;
    bool all;
} cli_problems;
void cli_problem_show(void *problems, const char *text);
/* How many weren't shown. */
void cli_problems_end(const cli_problems *p);

/* Seconds from a steady clock. */
double cli_now_s(void);
/* Seconds since the program was started, to a hundredth; 0 where the system doesn't say. */
double cli_running_s(void);

#endif
