/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset_copy.c - controlnet dataset convert | merge | sample | split: pairs of data sets to
 * new ones. Each command is one way to call the library, and asks for the option that makes it. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdbool.h>
#include <string.h>

enum { MAX_SETS = 256 };

typedef struct copy_request {
    cn_dataset_copy_options o;
    int64_t max_pixels;
    cli_progress progress;
} copy_request;

static const cn_option rows[] = {
    {.help = "Options"},
    CLI_MAX_PIXELS(copy_request),
    {0},
};

static const struct {
    const char *name, *synopsis, *about, *needs;
    int max_words;
} commands[] = {
    {"convert", "dataset convert DIR -o OUT --layout NAME [options]",
     "The pairs of a data set in another layout.", "layout", 1},
    {"merge", "dataset merge DIR DIR... -o OUT [options]",
     "The pairs of several data sets, one behind the other.", NULL, MAX_SETS},
    {"sample", "dataset sample DIR -n COUNT -o OUT [options]",
     "So many pairs, drawn at random, in their order.", "count", 1},
    {"split", "dataset split DIR --validation SHARE -o OUT [options]",
     "OUT/train and OUT/validation. All pairs of one picture are in the same.", "validation", 1},
};

static void show_count(void *user, int64_t done, int64_t total)
{
    cli_progress_show(user, "pairs", (int)done, (int)total);
}

static void print_result(const copy_request *r, const cn_dataset_copy_result *n)
{
    if (r->o.validation > 0)
        printf("%s: %lld pairs in train, %lld in validation\n", r->o.output_dir,
               (long long)(n->pairs - n->validation), (long long)n->validation);
    else
        printf("%s: %lld pairs\n", r->o.output_dir, (long long)n->pairs);
    if (n->encodings_left_out)
        printf("encoded pictures and captions of %lld pairs are left out: %s\n",
               (long long)n->encodings_left_out,
               r->o.data.image_column ? "--image-column names another picture"
                                      : "--layout webdataset keeps them");
}

static int run(copy_request *r)
{
    cn_dataset_copy_result n;
    cn_ctx *ctx = cli_context_create("dataset", 1);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    cli_context_end_within_second();
    cli_progress_init(&r->progress, false);
    cli_problems problems = {.progress = &r->progress};
    r->o.data.problem = cli_problem_show;
    r->o.data.problem_user = &problems;
    r->o.progress = show_count;
    r->o.user = &r->progress;
    const cn_status s = cn_dataset_copy(ctx, &r->o, &n);
    cli_progress_end(&r->progress);
    cli_problems_end(&problems);
    if (s == CN_OK) print_result(r, &n);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "dataset");
    cli_context_destroy(ctx);
    return status;
}

static int read_and_run(cli_parser *p, copy_request *r, const char *needs)
{
    const char *dirs[MAX_SETS + 1] = {NULL};
    const int status = cli_read(p);
    if (status != CLI_GO) return status;
    if (needs && !cli_find_setting(p, needs)) return cli_usage_error(p, "--%s is needed", needs);
    for (int i = 0; i < p->n_words; i++) dirs[i] = p->words[i];
    r->o.dirs = dirs;
    const int done = run(r);
    r->o.dirs = NULL;
    return done;
}

bool cmd_dataset_copies(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0) return true;
    return false;
}

int cmd_dataset_copy(int argc, char **argv)
{
    char command[32];
    copy_request r = {0};
    size_t i = 0;
    while (strcmp(commands[i].name, argv[0]) != 0) i++;
    snprintf(command, sizeof command, "dataset %s", commands[i].name);
    const cli_part parts[] = {
        {cn_dataset_copy_option_rows, &r.o}, {cn_dataset_option_rows, &r.o.data}, {rows, &r}, {0}};
    cli_parser p = {.command = command,
                    .synopsis = commands[i].synopsis,
                    .about = commands[i].about,
                    .parts = parts,
                    .min_words = 1,
                    .max_words = commands[i].max_words,
                    .words_wanted = commands[i].max_words > 1 ? "data sets are expected"
                                                              : "one data set is expected",
                    .argc = argc,
                    .argv = argv};
    const int status = read_and_run(&p, &r, commands[i].needs);
    cli_parser_free(&p);
    return status;
}
