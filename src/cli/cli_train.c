/* SPDX-License-Identifier: Apache-2.0 */
/* cli_train.c - controlnet train: a base model and training pairs to a ControlNet. Its options are
 * the library's (train_options.c) and the few below. */
#include "cli/cli_train.h"
#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct request {
    cn_train_options o;
    int threads;
    int64_t max_pixels;
    bool json, cache_to_disk, cache_latents; /* the latter: asked for */
    bool v_parameterization;
    char cache_dir[CN_PATH_BYTES]; /* OUT/cache */
    char resolution[24];           /* its side, where it was given as "W,H" */
} request;

#define FIELD(member) CN_FIELD(request, member)

static const cn_option rows[] = {
    {.help = "Loss and noise"},
    {"v-parameterization", 0, "the same as --prediction-type v_prediction",
     FIELD(v_parameterization)},
    {.help = "Encoded pictures and texts"},
    {"cache-latents", 0, "encode pictures once, before the first step (default)",
     FIELD(cache_latents)},
    {"cache-latents-to-disk", 0, "and kept for later runs, in OUT/cache", FIELD(cache_to_disk)},
    {.help = "Machine"},
    CLI_THREADS(request),
    CLI_MAX_PIXELS(request),
    CLI_JSON(request, "validations and the result as JSON lines"),
    {0},
};

/* kohya's "512,512" becomes "512"; other sides are refused as no number. */
static void read_square_size(const cli_parser *p, request *r)
{
    for (int i = 0; i < p->settings.n; i++) {
        cli_setting *g = &p->settings.list[i];
        const char *comma = g->value ? strchr(g->value, ',') : NULL;
        if (!comma || strcmp(g->row->name, "resolution") != 0) continue;
        const size_t n = (size_t)(comma - g->value);
        if (n >= sizeof r->resolution || strlen(comma + 1) != n ||
            memcmp(g->value, comma + 1, n) != 0)
            continue;
        memcpy(r->resolution, g->value, n);
        g->value = r->resolution;
    }
}

/* Random crops aren't cached unless that is asked for, which is refused; tags that vary never are.
 * --cache-latents-to-disk alone keeps the cache with the result. */
static int choose_cache(const cli_parser *p, request *r)
{
    const bool wanted = r->cache_latents || r->cache_to_disk;
    if (wanted && !r->o.cache_latents)
        return cli_usage_error(p, "%s", "--no-cache-latents contradicts --cache-latents");
    if (r->o.random_crop && !wanted) r->o.cache_latents = false;
    if (r->o.shuffle_caption || r->o.caption_tag_dropout_rate > 0) r->o.cache_text = false;
    if (!r->cache_to_disk || r->o.cache_dir) return CLI_GO;
    r->o.cache_dir = r->cache_dir;
    const int n = snprintf(r->cache_dir, sizeof r->cache_dir, "%s/cache", r->o.output_dir);
    if (n < (int)sizeof r->cache_dir) return CLI_GO;
    return cli_usage_error(p, "%s", "--output-dir is too long");
}

/* --- the command ------------------------------------------------------------------------------ */

static bool is_first(void)
{
    int rank;
    (void)cli_processes(&rank);
    return rank == 0;
}

/* A signal to one rank stops all, after a save. mpirun may not hand SIGUSR1 on, and after SIGTERM
 * and Ctrl-C it gives its processes a second, which saving may not do with. */
static void print_how_to_stop(void)
{
    char host[64] = "";
    if (gethostname(host, sizeof host - 1) != 0) host[0] = 0;
    fprintf(stderr, "to save and stop: kill -USR1 %d (on %s)\n", (int)getpid(), host);
}

static int train(request *r)
{
    train_display d = {.terminal = isatty(STDERR_FILENO),
                       .json = r->json,
                       .dry_run = r->o.dry_run,
                       .validates = r->o.validation_steps > 0};
    const cn_train_callbacks callbacks = train_callbacks(&d);
    cn_train_result result;
    int status = CLI_DONE;
    cn_ctx *ctx = cli_context_create("train", r->threads);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    cli_progress_init(&d.other, false);
    int rank;
    r->o.distributed = cli_processes(&rank) > 1;
    if (r->o.distributed && rank == 0 && !r->o.dry_run) print_how_to_stop();
    const cn_status s = cn_train(ctx, &r->o, &callbacks, &result);
    train_end_line(&d);
    if (s == CN_OK && !r->o.dry_run && !result.silent)
        train_show_result(&d, &result);
    else if (s != CN_OK) /* without a message another process tells */
        status = cn_error(ctx)[0] ? cli_failed(ctx, "train") : CLI_FAILED;
    cli_context_destroy(ctx);
    return status;
}

int cmd_train(int argc, char **argv)
{
    request r = {0};
    const cli_part parts[] = {{cn_train_option_rows, &r.o}, {rows, &r}, {0}};
    cli_parser p = {.command = "train",
                    .synopsis = "train -m MODEL --train-data-dir DIR --output-dir OUT [options]",
                    .about =
                        "OUT gets control.safetensors (single-file names) and, of kinds that "
                        "diffusers reads,\nconfig.json and diffusion_pytorch_model.safetensors; "
                        "base/ and base.safetensors with --unlock.\nCtrl-C saves a checkpoint and "
                        "stops;\nSIGUSR1 does too, to one process of several as well.",
                    .parts = parts,
                    .idle = {train_idle_rows, NULL},
                    .refused = {train_refused_rows, NULL},
                    .idle_values = train_idle_values,
                    .argc = argc,
                    .argv = argv};
    int status = cli_parse(&p);
    if (status == CLI_GO) read_square_size(&p, &r);
    if (status == CLI_GO) status = cli_fill(&p);
    if (status == CLI_GO) status = choose_cache(&p, &r);
    if (status == CLI_GO) {
        if (r.v_parameterization && !r.o.prediction) r.o.prediction = "v_prediction";
        if (is_first()) cli_print_idle(&p);
        status = train(&r);
    }
    cli_parser_free(&p);
    return status;
}
