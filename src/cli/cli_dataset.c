/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset.c - controlnet dataset scenes | circles OUT, check DIR: training pairs made and
 * looked over. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdbool.h>
#include <string.h>

static void show_count(void *user, int64_t done, int64_t total)
{
    cli_progress_show(user, "pictures", (int)done, (int)total);
}

/* --- scenes and circles ----------------------------------------------------------------------- */

enum {
    DRAWN_HEAD,
    DRAWN_COUNT,
    DRAWN_SEED,
    DRAWN_SIZE,
    DRAWN_START,
    DRAWN_THREADS,
    DRAWN_CONDITION, /* these are of scenes alone */
    DRAWN_RANDOM,
    DRAWN_WITH,
    DRAWN_MODEL,
    DRAWN_OPTIONS
};

static const cli_option drawn_table[] = {
    [DRAWN_HEAD] = {NULL, 0, NULL, "Options"},
    [DRAWN_COUNT] = {"count", 'n', "N", "pictures (1000)"},
    [DRAWN_SEED] = {"seed", 0, "S", "of the sequence of pictures (0)"},
    [DRAWN_SIZE] = {"size", 0, "PX", "width and height (scenes 128, circles 512)"},
    [DRAWN_START] = {"start", 0, "INDEX", "first picture of the sequence (0)"},
    [DRAWN_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
    [DRAWN_CONDITION] = {"condition", 0, "KIND",
                         "canny (default), \"canny low=50 high=100\", pidinet, ...\n"
                         "(controlnet annotate --list); exact: edges, depth, normal,\n"
                         "segmentation, lines, softedge, scribble, pose, cartoon, toon"},
    [DRAWN_RANDOM] = {"random-thresholds", 0, NULL, "canny: drawn for each picture, by the seed"},
    [DRAWN_WITH] = {"with", 0, "SHAPE",
                    "scenes that all have one: person (default of pose), cube, ..."},
    [DRAWN_MODEL] = {"model", 'm', "WEIGHTS", "of kinds with networks; may be given several times"},
};

enum { MAX_WEIGHTS = 16 };

typedef struct drawn_request {
    cn_scenes_options o;
    const char *weights[MAX_WEIGHTS + 1];
    int n_weights;
    int64_t threads;
} drawn_request;

static bool parse_drawn(const cli_parser *p, int id, drawn_request *r)
{
    cn_scenes_options *o = &r->o;
    switch (id) {
    case DRAWN_COUNT: return cli_int(p, id, 1, 100000000, &o->count);
    case DRAWN_SEED: return cli_uint64(p, id, &o->seed);
    case DRAWN_CONDITION: o->condition = p->value; return true;
    case DRAWN_SIZE: return cli_int(p, id, 16, 4096, &o->size_px);
    case DRAWN_RANDOM: return o->random_thresholds = true;
    case DRAWN_WITH: o->with = p->value; return true;
    case DRAWN_START: return cli_int(p, id, 0, INT64_C(1) << 40, &o->start);
    case DRAWN_MODEL:
        o->weights = r->weights;
        return cli_add_word(p, r->weights, MAX_WEIGHTS, &r->n_weights);
    case DRAWN_THREADS: return cli_int(p, id, 1, 1024, &r->threads);
    default: return false;
    }
}

typedef cn_status (*draw_fn)(cn_ctx *ctx, const cn_scenes_options *o);

static int run_drawn(draw_fn draw, const cn_scenes_options *wanted, int threads)
{
    cn_scenes_options o = *wanted;
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

static int drawn(cli_parser *p, draw_fn draw, int64_t size_px)
{
    drawn_request r = {.o = {.count = 1000, .size_px = size_px, .condition = "canny"}};
    char **rest;
    int id;
    while ((id = cli_next(p)) >= 0)
        if (!parse_drawn(p, id, &r)) return CLI_USAGE;
    if (id != CLI_END) return cli_exit_status(id);
    if (cli_positional(p, &rest) != 1) return cli_usage_error(p, "%s", "one folder is expected");
    r.o.output_dir = rest[0];
    return run_drawn(draw, &r.o, (int)r.threads);
}

static int scenes(int argc, char **argv)
{
    cli_parser p = {.command = "dataset scenes",
                    .synopsis = "dataset scenes OUT [options]",
                    .about = "Writes Fill50K's layout: OUT/source (conditions), OUT/target, "
                             "OUT/prompt.json.",
                    .options = drawn_table,
                    .n_options = DRAWN_OPTIONS,
                    .argc = argc,
                    .argv = argv};
    return drawn(&p, cn_dataset_scenes, 128);
}

static int circles(int argc, char **argv)
{
    cli_parser p = {.command = "dataset circles",
                    .synopsis = "dataset circles OUT [options]",
                    .about =
                        "Writes pictures as Fill50K has them, in its layout: OUT/source (a "
                        "circle's outline),\nOUT/target (the circle filled), OUT/prompt.json "
                        "(\"pale golden rod circle with old lace\nbackground\"). Pictures that "
                        "are there are kept.",
                    .options = drawn_table,
                    .n_options = DRAWN_CONDITION,
                    .argc = argc,
                    .argv = argv};
    return drawn(&p, cn_dataset_circles, 512);
}

/* --- check ------------------------------------------------------------------------------------ */

enum {
    CHECK_HEAD,
    CHECK_CONDITIONING,
    CHECK_IMAGE_COLUMN,
    CHECK_CONDITIONING_COLUMN,
    CHECK_CAPTION_COLUMN,
    CHECK_CAPTION_EXTENSION,
    CHECK_RESOLUTION,
    CHECK_LIMIT,
    CHECK_JSON,
    CHECK_THREADS
};

static const cli_option check_options[] = {
    [CHECK_HEAD] = {NULL, 0, NULL, "Options"},
    [CHECK_CONDITIONING] = {"conditioning-data-dir", 0, "DIR", "conditions of DIR's pictures"},
    [CHECK_IMAGE_COLUMN] = {"image-column", 0, "NAME", "as for train"},
    [CHECK_CONDITIONING_COLUMN] = {"conditioning-image-column", 0, "NAME", "as for train"},
    [CHECK_CAPTION_COLUMN] = {"caption-column", 0, "NAME", "as for train"},
    [CHECK_CAPTION_EXTENSION] = {"caption-extension", 0, ".EXT", "as for train"},
    [CHECK_RESOLUTION] = {"resolution", 0, "PX", "count pictures that are smaller"},
    [CHECK_LIMIT] = {"limit", 'n', "N", "decode N pairs, evenly spread (all)"},
    [CHECK_JSON] = {"json", 0, NULL, "the report as a JSON line"},
    [CHECK_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
};

typedef struct check_request {
    cn_dataset_options data;
    cn_dataset_check_options check;
    bool json;
    int64_t threads;
} check_request;

static bool parse_check(const cli_parser *p, int id, check_request *r)
{
    switch (id) {
    case CHECK_CONDITIONING: r->data.conditioning_dir = p->value; return true;
    case CHECK_IMAGE_COLUMN: r->data.image_column = p->value; return true;
    case CHECK_CONDITIONING_COLUMN: r->data.conditioning_image_column = p->value; return true;
    case CHECK_CAPTION_COLUMN: r->data.caption_column = p->value; return true;
    case CHECK_CAPTION_EXTENSION: r->data.caption_extension = p->value; return true;
    case CHECK_RESOLUTION: return cli_int(p, id, 1, 32768, &r->check.resolution);
    case CHECK_LIMIT: return cli_int(p, id, 1, INT64_C(1) << 40, &r->check.max_pairs);
    case CHECK_JSON: r->json = true; return true;
    case CHECK_THREADS: return cli_int(p, id, 1, 1024, &r->threads);
    default: return false;
    }
}

static void print_problem(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "%s\n", text);
}

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
    cn_ctx *ctx = cli_context_create("dataset", (int)r->threads);
    if (!ctx) return CLI_FAILED;
    cli_progress_init(&progress, false);
    r->data.problem = print_problem;
    r->check.progress = show_count;
    r->check.user = &progress;
    const cn_status s = cn_dataset_check(ctx, &r->data, &r->check, &report);
    cli_progress_end(&progress);
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
    cli_parser p = {.command = "dataset check",
                    .synopsis = "dataset check DIR [options]",
                    .about = "Reads every line and decodes every picture: what can't be used (exit "
                             "status 1), and\nwhat is suspicious: blank, inverted or copied "
                             "conditions, exchanged channels, duplicates,\nempty or too long "
                             "captions. DIR is a data set in any layout that train takes.",
                    .options = check_options,
                    .n_options = (int)(sizeof check_options / sizeof check_options[0]),
                    .argc = argc,
                    .argv = argv};
    check_request r = {0};
    char **rest;
    int id;
    while ((id = cli_next(&p)) >= 0)
        if (!parse_check(&p, id, &r)) return CLI_USAGE;
    if (id != CLI_END) return cli_exit_status(id);
    if (cli_positional(&p, &rest) != 1) return cli_usage_error(&p, "%s", "one folder is expected");
    r.data.dir = rest[0];
    return run_check(&r);
}

/* --- the command ------------------------------------------------------------------------------ */

static void print_usage(FILE *f)
{
    fputs(
        "usage: controlnet dataset scenes OUT [options]      procedural scenes as training pairs\n"
        "       controlnet dataset circles OUT [options]     circles as Fill50K has them\n"
        "       controlnet dataset prepare PHOTOS [options]  pairs from a folder of pictures\n"
        "       controlnet dataset check DIR [options]       looks every pair over\n"
        "\ncontrolnet dataset scenes --help lists its options.\n",
        f);
}

int cmd_dataset(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "scenes") == 0) return scenes(argc - 1, argv + 1);
    if (strcmp(name, "circles") == 0) return circles(argc - 1, argv + 1);
    if (strcmp(name, "prepare") == 0) return cmd_dataset_prepare(argc - 1, argv + 1);
    if (strcmp(name, "check") == 0) return check(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return CLI_DONE;
    }
    if (*name)
        fprintf(stderr, "controlnet dataset: \"%s\" is none of scenes, circles, prepare, check\n",
                name);
    print_usage(stderr);
    return CLI_USAGE;
}
