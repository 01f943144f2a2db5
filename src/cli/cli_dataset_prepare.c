/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset_prepare.c - controlnet dataset prepare SOURCE...: a training set from pictures. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <malloc.h>
#include <stdbool.h>

typedef struct prepare_request {
    cn_prepare_options o;
    bool json;
    int threads;
    int64_t max_pixels;
    cli_progress progress;
    char part[32];
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

static void print_json(const cn_prepare_result *n)
{
    printf("{\"pictures\": %lld, \"pairs\": %lld, \"without_caption\": %lld, \"made\": %lld, "
           "\"kept\": %lld, \"failed\": %lld, \"shards\": %lld, \"shards_kept\": %lld, "
           "\"bytes\": %lld, \"sampled\": %lld, \"encoder_bytes\": %zu, \"left_out\": {",
           (long long)n->pictures, (long long)n->pairs, (long long)n->without_caption,
           (long long)n->made, (long long)n->kept, (long long)n->failed, (long long)n->shards,
           (long long)n->shards_kept, (long long)n->bytes, (long long)n->sampled, n->encoder_bytes);
    for (int i = 0; n->left_out[i].reason[0]; i++)
        printf("%s\"%s\": %lld", i ? ", " : "", n->left_out[i].reason,
               (long long)n->left_out[i].count);
    printf("}, \"seconds\": %.3f, \"threads\": %d, \"thread_seconds\": {", n->seconds, n->threads);
    for (int i = 0; i < CN_PREPARE_STAGES && n->stages[i].name; i++)
        printf("%s\"%s\": %.3f", i ? ", " : "", n->stages[i].name, n->stages[i].seconds);
    printf("}}\n");
}

static void print_folder(const prepare_request *r, const cn_prepare_result *n)
{
    printf("%s: %lld pairs of %lld pictures (%lld without a caption); conditions: %lld made, %lld "
           "kept, %lld failed\n",
           r->o.output_dir, (long long)n->pairs, (long long)n->pictures,
           (long long)n->without_caption, (long long)n->made, (long long)n->kept,
           (long long)n->failed);
}

/* What the threads did with their time; what is left of it they waited for each other. */
static void print_stages(const cn_prepare_result *n)
{
    const double all = n->seconds * n->threads;
    double busy = 0;
    if (!n->made || all <= 0) return;
    printf("%.1f pictures a second on %d thread%s:", (double)n->made / n->seconds, n->threads,
           n->threads > 1 ? "s" : "");
    for (int i = 0; i < CN_PREPARE_STAGES; i++) {
        busy += n->stages[i].seconds;
        printf(" %s %.0f %%,", n->stages[i].name, 100 * n->stages[i].seconds / all);
    }
    printf(" waiting %.0f %%\n", busy < all ? 100 * (all - busy) / all : 0);
}

static void print_left_out(const cn_prepare_result *n)
{
    for (int i = 0; n->left_out[i].reason[0]; i++)
        printf("%s%s %lld%s", i ? ", " : "left out: ", n->left_out[i].reason,
               (long long)n->left_out[i].count, n->left_out[i + 1].reason[0] ? "" : "\n");
}

static void print_forecast(const cn_prepare_result *n)
{
    printf("about %.2f GiB in %lld shard%s, %.0f s; by %lld pictures, of which %lld are left out\n",
           cli_gib((size_t)n->bytes), (long long)n->shards, n->shards == 1 ? "" : "s", n->seconds,
           (long long)n->sampled, (long long)(n->sampled - n->pairs));
    if (n->encoder_bytes)
        printf("the model's encoders take %.2f GiB of memory\n", cli_gib(n->encoder_bytes));
    print_left_out(n);
}

static void print_shards(const prepare_request *r, const cn_prepare_result *n)
{
    printf("%s: %lld samples of %lld pictures in %lld shard%s (%lld made, %lld kept)\n",
           r->o.output_dir, (long long)n->pairs, (long long)n->pictures, (long long)n->shards,
           n->shards == 1 ? "" : "s", (long long)n->made, (long long)n->kept);
    print_left_out(n);
    print_stages(n);
}

static void print_prepared(const prepare_request *r, const cn_prepare_result *n)
{
    if (r->json)
        print_json(n);
    else if (r->o.dry_run)
        print_forecast(n);
    else if (n->shards)
        print_shards(r, n);
    else
        print_folder(r, n);
}

/* Pictures come and go by the thousand: memory that goes back to the system between two of them
 * has to be cleared for the next, a quarter of the time where pictures are small. */
static void keep_freed_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
    mallopt(M_TRIM_THRESHOLD, 32 << 20);
#endif
}

static int run_prepare(prepare_request *r)
{
    keep_freed_memory();
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
    if (result.pairs || (s == CN_OK && result.shards)) print_prepared(r, &result);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "dataset");
    cli_context_destroy(ctx);
    return status;
}

/* Each of several processes makes a part. */
static void choose_part(prepare_request *r)
{
    int rank;
    const int n = cli_processes(&rank);
    if (n == 1 || r->o.part) return;
    snprintf(r->part, sizeof r->part, "%d/%d", rank + 1, n);
    r->o.part = r->part;
}

int cmd_dataset_prepare(int argc, char **argv)
{
    prepare_request r = {0};
    const cli_part parts[] = {{cn_prepare_option_rows, &r.o}, {rows, &r}, {0}};
    cli_parser p = {.command = "dataset prepare",
                    .synopsis = "dataset prepare SOURCE... --condition KIND -o DIR [options]",
                    .about = "A training set from a folder of pictures: DIR/target, DIR/source, "
                             "DIR/prompt.json. With\n--layout webdataset, tar shards from any of "
                             "these: a folder, tar shards as img2dataset\nwrites them, "
                             "\"scenes:N?seed=S&size=PX\", \"circles:N?seed=S&size=PX\". An "
                             "interrupted run\ngoes on from where it was.",
                    .parts = parts,
                    .min_words = 1,
                    .max_words = 64,
                    .words_wanted = "a folder of pictures, or another source, is expected",
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) {
        const cli_setting *detect = cli_find_setting(&p, "detect-resolution");
        if (detect && !r.o.detect_resolution) r.o.detect_resolution = -1;
        const char *sources[65] = {NULL};
        for (int i = 0; i < p.n_words; i++) sources[i] = p.words[i];
        r.o.sources = sources;
        choose_part(&r);
        status = run_prepare(&r);
    }
    cli_parser_free(&p);
    return status;
}
