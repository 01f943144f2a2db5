/* SPDX-License-Identifier: Apache-2.0 */
/* cli_dataset_prepare.c - controlnet dataset prepare PHOTOS: a training set from a folder of
 * pictures. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdbool.h>

enum {
    PREPARE_HEAD,
    PREPARE_OUTPUT,
    PREPARE_CONDITION,
    PREPARE_MODEL,
    PREPARE_LABELS,
    PREPARE_CAPTIONS,
    PREPARE_ALL_CAPTIONS,
    PREPARE_CAPTION,
    PREPARE_RESOLUTION,
    PREPARE_DETECT,
    PREPARE_RANDOM,
    PREPARE_SEED,
    PREPARE_RECURSIVE,
    PREPARE_NO_COPY,
    PREPARE_LAYOUT,
    PREPARE_JSON,
    PREPARE_THREADS
};

static const cli_option prepare_options[] = {
    [PREPARE_HEAD] = {NULL, 0, NULL, "Options"},
    [PREPARE_OUTPUT] = {"output", 'o', "DIR", "the training set"},
    [PREPARE_CONDITION] = {"condition", 0, "KIND",
                           "canny, \"canny low=50\", \"pidinet | scribble_synthesis\", seg_coco,\n"
                           "... (controlnet annotate --list). Several make a pair each"},
    [PREPARE_MODEL] = {"model", 'm', "WEIGHTS",
                       "of kinds with networks; may be given several times"},
    [PREPARE_LABELS] = {"labels", 0, "PATH",
                        "COCO's instances_*.json, or a folder of label maps or .npy\n"
                        "files named as the pictures (found by itself in COCO's,\n"
                        "ADE20K's and DIODE's folders)"},
    [PREPARE_CAPTIONS] =
        {"captions", 0, "FILE",
         "COCO's captions_*.json (else metadata.jsonl or .csv in\nPHOTOS, or .txt or "
         ".caption beside each picture)"},
    [PREPARE_ALL_CAPTIONS] = {"all-captions", 0, NULL, "a pair for each of COCO's captions"},
    [PREPARE_CAPTION] = {"caption", 0, "TEXT", "of pictures that have none"},
    [PREPARE_RESOLUTION] = {"resolution", 0, "PX",
                            "larger pictures are shrunk to this shorter side"},
    [PREPARE_DETECT] = {"detect-resolution", 0, "PX", "as for annotate"},
    [PREPARE_RANDOM] = {"random-thresholds", 0, NULL, "as for annotate"},
    [PREPARE_SEED] = {"seed", 0, "S", "of what is drawn at random (0)"},
    [PREPARE_RECURSIVE] = {"recursive", 'r', NULL, "folders in PHOTOS too"},
    [PREPARE_NO_COPY] = {"no-copy", 0, NULL, "pairs name the pictures where they are"},
    [PREPARE_LAYOUT] = {"layout", 0, "NAME", "fill50k (default) or imagefolder"},
    [PREPARE_JSON] = {"json", 0, NULL, "the result as a JSON line"},
    [PREPARE_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
};

enum { MAX_LIST = 16 };

typedef struct prepare_request {
    cn_prepare_options o;
    const char *conditions[MAX_LIST + 1], *weights[MAX_LIST + 1];
    int n_conditions, n_weights;
    bool json;
    int64_t threads;
    cli_progress progress;
} prepare_request;

static bool parse_prepare(const cli_parser *p, int id, prepare_request *r)
{
    static const char *const layouts[] = {"fill50k", "imagefolder", NULL};
    cn_prepare_options *o = &r->o;
    switch (id) {
    case PREPARE_OUTPUT: o->output_dir = p->value; return true;
    case PREPARE_CONDITION: return cli_add_word(p, r->conditions, MAX_LIST, &r->n_conditions);
    case PREPARE_MODEL: return cli_add_word(p, r->weights, MAX_LIST, &r->n_weights);
    case PREPARE_LABELS: o->labels = p->value; return true;
    case PREPARE_CAPTIONS: o->captions = p->value; return true;
    case PREPARE_ALL_CAPTIONS: return o->all_captions = true;
    case PREPARE_CAPTION: o->caption = p->value; return true;
    case PREPARE_RESOLUTION: return cli_int(p, id, 64, 32768, &o->resolution);
    case PREPARE_DETECT: return cli_int(p, id, 64, 32768, &o->detect_resolution);
    case PREPARE_RANDOM: return o->random_thresholds = true;
    case PREPARE_SEED: return cli_uint64(p, id, &o->seed);
    case PREPARE_RECURSIVE: return o->recursive = true;
    case PREPARE_NO_COPY: return o->refer = true;
    case PREPARE_LAYOUT: o->layout = p->value; return cli_one_of(p, id, layouts);
    case PREPARE_JSON: return r->json = true;
    case PREPARE_THREADS: return cli_int(p, id, 1, 1024, &r->threads);
    default: return false;
    }
}

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
    cn_ctx *ctx = cli_context_create("dataset", (int)r->threads);
    if (!ctx) return CLI_FAILED;
    cli_progress_init(&r->progress, false);
    r->o.conditions = r->conditions;
    r->o.weights = r->weights;
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
    cli_parser p = {.command = "dataset prepare",
                    .synopsis = "dataset prepare PHOTOS --condition KIND -o DIR [options]",
                    .about = "A training set from a folder of pictures: DIR/target, DIR/source, "
                             "DIR/prompt.json. An\ninterrupted run goes on from where it was.",
                    .options = prepare_options,
                    .n_options = (int)(sizeof prepare_options / sizeof prepare_options[0]),
                    .argc = argc,
                    .argv = argv};
    prepare_request r = {0};
    char **rest;
    int id;
    while ((id = cli_next(&p)) >= 0)
        if (!parse_prepare(&p, id, &r)) return CLI_USAGE;
    if (id != CLI_END) return cli_exit_status(id);
    if (cli_positional(&p, &rest) != 1)
        return cli_usage_error(&p, "%s", "one folder of pictures is expected");
    if (!r.o.output_dir) return cli_usage_error(&p, "%s", "-o DIR is missing");
    if (!r.n_conditions) return cli_usage_error(&p, "%s", "--condition KIND is missing");
    r.o.photos = rest[0];
    return run_prepare(&r);
}
