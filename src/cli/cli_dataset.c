/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset.c - controlnet dataset: training pairs made (scenes, circles) and looked over
 * (check); its other commands are files of their own. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdbool.h>
#include <string.h>

static void show_count(void *user, int64_t done, int64_t total)
{
    cli_progress_show(user, "pictures", (int)done, (int)total);
}

/* --- scenes and circles ----------------------------------------------------------------------- */

typedef struct drawn_request {
    cn_scenes_options o;
    int threads;
} drawn_request;

static const cn_option drawn_rows[] = {
    {.help = "Options"},
    CLI_THREADS(drawn_request),
    {0},
};

typedef cn_status (*draw_fn)(cn_ctx *ctx, const cn_scenes_options *o);

static int run_drawn(draw_fn draw, const cn_scenes_options *options, int threads)
{
    cn_scenes_options o = *options;
    cli_progress progress;
    cn_ctx *ctx = cli_context_create("dataset", threads);
    if (!ctx) return CLI_FAILED;
    cli_progress_init(&progress, false);
    o.progress = show_count;
    o.user = &progress;
    const cn_status s = draw(ctx, &o);
    cli_progress_end(&progress);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "dataset");
    if (s == CN_OK) printf("%s: %lld pairs\n", o.output_dir, (long long)o.count);
    cli_context_destroy(ctx);
    return status;
}

static int drawn(cli_parser *p, draw_fn draw, drawn_request *r)
{
    int status = cli_read(p);
    if (status == CLI_GO) {
        r->o.output_dir = p->words[0];
        status = run_drawn(draw, &r->o, r->threads);
    }
    cli_parser_free(p);
    return status;
}

static int scenes(int argc, char **argv)
{
    drawn_request r = {0};
    const cli_part parts[] = {
        {cn_circles_option_rows, &r.o}, {cn_scenes_option_rows, &r.o}, {drawn_rows, &r}, {0}};
    cli_parser p = {.command = "dataset scenes",
                    .synopsis = "dataset scenes OUT [options]",
                    .about = "Writes Fill50K's layout: OUT/source (conditions), OUT/target, "
                             "OUT/prompt.json.",
                    .parts = parts,
                    .min_words = 1,
                    .max_words = 1,
                    .words_wanted = "one folder is expected",
                    .argc = argc,
                    .argv = argv};
    return drawn(&p, cn_dataset_scenes, &r);
}

static int circles(int argc, char **argv)
{
    drawn_request r = {0};
    const cli_part parts[] = {{cn_circles_option_rows, &r.o}, {drawn_rows, &r}, {0}};
    cli_parser p = {.command = "dataset circles",
                    .synopsis = "dataset circles OUT [options]",
                    .about =
                        "Writes pictures as Fill50K has them, in its layout: OUT/source (a "
                        "circle's outline),\nOUT/target (the circle filled), OUT/prompt.json "
                        "(\"pale golden rod circle with old lace\nbackground\"). Pictures that "
                        "are there are kept.",
                    .parts = parts,
                    .min_words = 1,
                    .max_words = 1,
                    .words_wanted = "one folder is expected",
                    .argc = argc,
                    .argv = argv};
    return drawn(&p, cn_dataset_circles, &r);
}

/* --- check ------------------------------------------------------------------------------------ */

typedef struct check_request {
    cn_dataset_options data;
    cn_dataset_check_options check;
    bool json, all_problems;
    int threads;
    int64_t max_pixels;
} check_request;

static const cn_option check_rows[] = {
    {.help = "Options"},
    {"all-problems", 0, "name each pair that can't be used, not the first alone",
     CN_FIELD(check_request, all_problems)},
    CLI_JSON(check_request, "the report as a JSON line"),
    CLI_THREADS(check_request),
    CLI_MAX_PIXELS(check_request),
    {0},
};

static void print_json(const cn_dataset_report *r)
{
    printf("{\"layout\": \"%s\", \"found\": ", r->layout);
    cli_print_quoted(r->found);
    printf(", \"pairs\": %lld, \"looked_at\": %lld, \"problems\": %lld, "
           "\"distinct_prompts\": %lld, \"min_width\": %lld, \"min_height\": %lld, "
           "\"max_width\": %lld, \"max_height\": %lld, \"findings\": {",
           (long long)r->pairs, (long long)r->looked_at, (long long)r->problems,
           (long long)r->distinct_prompts, (long long)r->min_width, (long long)r->min_height,
           (long long)r->max_width, (long long)r->max_height);
    for (int k = 0; k < CN_DATASET_FINDINGS; k++) {
        printf("%s\"%s\": {\"count\": %lld, \"first\": ", k ? ", " : "", r->findings[k].name,
               (long long)r->findings[k].count);
        cli_print_quoted(r->findings[k].first);
        putchar('}');
    }
    printf("}}\n");
}

static int run_check(check_request *r)
{
    cn_dataset_report report;
    cli_progress progress;
    cn_ctx *ctx = cli_context_create("dataset", r->threads);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    cli_context_end_within_second();
    cli_progress_init(&progress, false);
    cli_problems problems = {.progress = &progress, .all = r->all_problems};
    r->data.problem = cli_problem_show;
    r->data.problem_user = &problems;
    r->check.progress = show_count;
    r->check.user = &progress;
    const cn_status s = cn_dataset_check(ctx, &r->data, &r->check, &report);
    cli_progress_end(&progress);
    cli_problems_end(&problems);
    if (report.layout && r->json)
        print_json(&report);
    else if (report.layout)
        cli_report_print(stdout, &report);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "dataset");
    cli_context_destroy(ctx);
    return status;
}

static int check(int argc, char **argv)
{
    check_request r = {0};
    const cli_part parts[] = {{cn_dataset_option_rows, &r.data},
                              {cn_dataset_check_option_rows, &r.check},
                              {check_rows, &r},
                              {0}};
    cli_parser p = {.command = "dataset check",
                    .synopsis = "dataset check DIR [options]",
                    .about = "Reads every line and decodes every picture: what can't be used (exit "
                             "status 1), and\nwhat is suspicious: blank, inverted or copied "
                             "conditions, exchanged channels, duplicates,\nempty or too long "
                             "captions. DIR is a data set in any layout that train takes.",
                    .parts = parts,
                    .min_words = 1,
                    .max_words = 1,
                    .words_wanted = "one folder is expected",
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) {
        r.data.dir = p.words[0];
        status = run_check(&r);
    }
    cli_parser_free(&p);
    return status;
}

/* --- the command ------------------------------------------------------------------------------ */

static void print_usage(FILE *f)
{
    fputs(
        "usage: controlnet dataset scenes OUT [options]      procedural scenes as training pairs\n"
        "       controlnet dataset circles OUT [options]     circles as Fill50K has them\n"
        "       controlnet dataset prepare SOURCE... [options]\n"
        "                                                    pairs from pictures\n"
        "       controlnet dataset check DIR [options]       looks every pair over\n"
        "       controlnet dataset stats DIR [options]       what it is like\n"
        "       controlnet dataset show DIR [options]        one of its pairs\n"
        "       controlnet dataset convert DIR [options]     the pairs in another layout\n"
        "       controlnet dataset merge DIR... [options]    those of several data sets\n"
        "       controlnet dataset sample DIR [options]      some of them\n"
        "       controlnet dataset split DIR [options]       for training and for validation\n"
        "\ncontrolnet dataset scenes --help lists its options.\n",
        f);
}

int cmd_dataset(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "scenes") == 0) return scenes(argc - 1, argv + 1);
    if (strcmp(name, "circles") == 0) return circles(argc - 1, argv + 1);
    if (strcmp(name, "prepare") == 0) return cmd_dataset_prepare(argc - 1, argv + 1);
    if (strcmp(name, "stats") == 0) return cmd_dataset_stats(argc - 1, argv + 1);
    if (strcmp(name, "show") == 0) return cmd_dataset_show(argc - 1, argv + 1);
    if (cmd_dataset_copies(name)) return cmd_dataset_copy(argc - 1, argv + 1);
    if (strcmp(name, "check") == 0) return check(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return CLI_DONE;
    }
    if (*name)
        cli_error("dataset",
                  "\"%s\" is none of scenes, circles, prepare, check, stats, show, convert, merge, "
                  "sample, split",
                  name);
    print_usage(stderr);
    return CLI_USAGE;
}
