/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset_prepare.c - controlnet dataset prepare PHOTOS: a training set from a folder of
 * pictures. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdbool.h>

typedef struct prepare_request {
    cn_prepare_options o;
    bool json;
    int threads;
    int64_t max_pixels;
    cli_progress progress;
} prepare_request;

static const cn_option rows[] = {
    {.help = "Options"},
    CLI_JSON(prepare_request, "the result as a JSON line"),
    CLI_THREADS(prepare_request),
    CLI_MAX_PIXELS(prepare_request),
    {0},
};

static void show_stage(void *user, const char *stage, int64_t done, int64_t total)
{
    prepare_request *r = user;
    cli_progress_show(&r->progress, stage, (int)done, (int)total);
}

static void show_failure(void *user, const char *text)
{
    prepare_request *r = user;
    cli_progress_end(&r->progress);
    cli_error("dataset", "%s", text);
}

static void print_prepared(const prepare_request *r, const cn_prepare_result *n)
{
    if (r->json)
        printf("{\"pictures\": %lld, \"pairs\": %lld, \"without_caption\": %lld, \"made\": %lld, "
               "\"kept\": %lld, \"failed\": %lld}\n",
               (long long)n->pictures, (long long)n->pairs, (long long)n->without_caption,
               (long long)n->made, (long long)n->kept, (long long)n->failed);
    else
        printf(
            "%s: %lld pairs of %lld pictures (%lld without a caption); conditions: %lld made, %lld "
            "kept, %lld failed\n",
            r->o.output_dir, (long long)n->pairs, (long long)n->pictures,
            (long long)n->without_caption, (long long)n->made, (long long)n->kept,
            (long long)n->failed);
}

static int run_prepare(prepare_request *r)
{
    cn_prepare_result result;
    cn_ctx *ctx = cli_context_create("dataset", r->threads);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    cli_context_end_within_second();
    cli_progress_init(&r->progress, false);
    r->o.progress = show_stage;
    r->o.problem = show_failure;
    r->o.user = r;
    const cn_status s = cn_dataset_prepare(ctx, &r->o, &result);
    cli_progress_end(&r->progress);
    if (result.pairs) print_prepared(r, &result);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "dataset");
    cli_context_destroy(ctx);
    return status;
}

int cmd_dataset_prepare(int argc, char **argv)
{
    prepare_request r = {0};
    const cli_part parts[] = {{cn_prepare_option_rows, &r.o}, {rows, &r}, {0}};
    cli_parser p = {.command = "dataset prepare",
                    .synopsis = "dataset prepare PHOTOS --condition KIND -o DIR [options]",
                    .about = "A training set from a folder of pictures: DIR/target, DIR/source, "
                             "DIR/prompt.json. An\ninterrupted run goes on from where it was.",
                    .parts = parts,
                    .min_words = 1,
                    .max_words = 1,
                    .words_wanted = "one folder of pictures is expected",
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) {
        const cli_setting *detect = cli_find_setting(&p, "detect-resolution");
        if (detect && !r.o.detect_resolution) r.o.detect_resolution = -1;
        r.o.photos = p.words[0];
        status = run_prepare(&r);
    }
    cli_parser_free(&p);
    return status;
}
