/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset_look.c - controlnet dataset stats | show DIR: what a data set is like, and one of its
 * pairs. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdbool.h>

typedef struct look_request {
    cn_dataset_options data;
    cn_dataset_stats_options stats;
    const char *png;
    int64_t at;
    bool json;
    int threads;
    int64_t max_pixels;
} look_request;

static const cn_option stats_rows[] = {
    {.help = "Options"},
    CLI_JSON(look_request, "one JSON object"),
    CLI_THREADS(look_request),
    CLI_MAX_PIXELS(look_request),
    {0},
};

static const cn_option show_rows[] = {
    {.help = "Options"},
    {"at", 0, "the pair's number, from 0", CN_FIELD(look_request, at), 0, 1e15, .preset = "0",
     .arg = "N"},
    {"output", 'o', "condition and picture beside each other", CN_FIELD(look_request, png),
     .arg = "FILE.png"},
    CLI_JSON(look_request, "one JSON object"),
    CLI_MAX_PIXELS(look_request),
    {0},
};

static void show_count(void *user, int64_t done, int64_t total)
{
    cli_progress_show(user, "pictures", (int)done, (int)total);
}

static int run(look_request *r, bool stats)
{
    char *text = NULL;
    cli_progress progress;
    cn_ctx *ctx = cli_context_create("dataset", stats ? r->threads : 1);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    cli_context_end_within_second();
    cli_progress_init(&progress, false);
    cli_problems problems = {.progress = &progress};
    r->data.problem = cli_problem_show;
    r->data.problem_user = &problems;
    r->stats.progress = show_count;
    r->stats.user = &progress;
    const cn_status s = stats ? cn_dataset_stats(ctx, &r->data, &r->stats, r->json, &text)
                              : cn_dataset_show(ctx, &r->data, r->at, r->png, r->json, &text);
    cli_progress_end(&progress);
    cli_problems_end(&problems);
    if (s == CN_OK && r->json)
        fputs(text, stdout);
    else if (s == CN_OK)
        cli_put_lines(stdout, text);
    cn_free(text);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "dataset");
    cli_context_destroy(ctx);
    return status;
}

static int read_and_run(cli_parser *p, look_request *r, bool stats)
{
    p->min_words = p->max_words = 1;
    p->words_wanted = "one data set is expected";
    int status = cli_read(p);
    if (status == CLI_GO) {
        r->data.dir = p->words[0];
        status = run(r, stats);
    }
    cli_parser_free(p);
    return status;
}

int cmd_dataset_stats(int argc, char **argv)
{
    look_request r = {0};
    const cli_part parts[] = {{cn_dataset_option_rows, &r.data},
                              {cn_dataset_stats_option_rows, &r.stats},
                              {stats_rows, &r},
                              {0}};
    cli_parser p = {.command = "dataset stats",
                    .synopsis = "dataset stats DIR [options]",
                    .about = "What a data set is like: sizes, captions, colours, how much the "
                             "conditions show.",
                    .parts = parts,
                    .argc = argc,
                    .argv = argv};
    return read_and_run(&p, &r, true);
}

int cmd_dataset_show(int argc, char **argv)
{
    look_request r = {0};
    const cli_part parts[] = {{cn_dataset_option_rows, &r.data}, {show_rows, &r}, {0}};
    cli_parser p = {.command = "dataset show",
                    .synopsis = "dataset show DIR [--at N] [options]",
                    .about = "One pair: where it stands, its sizes, its prompt.",
                    .parts = parts,
                    .argc = argc,
                    .argv = argv};
    return read_and_run(&p, &r, false);
}
