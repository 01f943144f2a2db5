/* SPDX-License-Identifier: Apache-2.0 */
/* cli_pretrain.c - controlnet pretrain: a small base model from procedural scenes, and how good one
 * is. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>
#include <unistd.h>

enum {
    OPT_H_TRAIN,
    OPT_OUTPUT,
    OPT_STAGE,
    OPT_VAE_STEPS,
    OPT_UNET_STEPS,
    OPT_VAE_BATCH,
    OPT_UNET_BATCH,
    OPT_VAE_LR,
    OPT_UNET_LR,
    OPT_SCENES,
    OPT_SIZE,
    OPT_SAVE,
    OPT_H_EVALUATE,
    OPT_EVALUATE,
    OPT_HELD_OUT,
    OPT_PROMPTS,
    OPT_SAMPLING,
    OPT_GUIDANCE,
    OPT_SHEET,
    OPT_JSON,
    OPT_H_BOTH,
    OPT_SEED,
    OPT_THREADS
};

static const cli_option options[] = {
    [OPT_H_TRAIN] = {NULL, 0, NULL, "Training"},
    [OPT_OUTPUT] = {"output-dir", 'o', "DIR", "becomes a diffusers folder; state in DIR/state"},
    [OPT_STAGE] = {"stage", 0, "vae|unet|decoder",
                   "one stage alone (vae and unet in turn);\n"
                   "decoder: goes on with the finished VAE's,\n"
                   "by --vae-steps, -batch and -lr"},
    [OPT_VAE_STEPS] = {"vae-steps", 0, "N", "(6000)"},
    [OPT_UNET_STEPS] = {"unet-steps", 0, "N", "(20000)"},
    [OPT_VAE_BATCH] = {"vae-batch", 0, "N", "whole pictures per step; crops count half (8)"},
    [OPT_UNET_BATCH] = {"unet-batch", 0, "N", "pictures per step (32)"},
    [OPT_VAE_LR] = {"vae-lr", 0, "X", "learning rate after the warm-up (8e-4)"},
    [OPT_UNET_LR] = {"unet-lr", 0, "X", "(8e-4)"},
    [OPT_SCENES] = {"scenes", 0, "N", "that the UNet is trained on (24000)"},
    [OPT_SIZE] = {"size", 0, "PX", "width and height, multiple of 32 (128)"},
    [OPT_SAVE] = {"save-steps", 0, "N", "state and sheet of pictures every N steps (500)"},
    [OPT_H_EVALUATE] = {NULL, 0, NULL, "Evaluation"},
    [OPT_EVALUATE] = {"evaluate", 0, "DIR", "measure this model in place of training"},
    [OPT_HELD_OUT] = {"held-out", 0, "N", "scenes to reconstruct (500)"},
    [OPT_PROMPTS] = {"prompts", 0, "N", "prompts to draw (200)"},
    [OPT_SAMPLING] = {"steps", 0, "N", "of each drawing (20)"},
    [OPT_GUIDANCE] = {"cfg-scale", 0, "X", "of each drawing (5)"},
    [OPT_SHEET] = {"sheet", 0, "FILE.png", "gets the first 40 drawings"},
    [OPT_JSON] = {"json", 0, NULL, "the result as a JSON line"},
    [OPT_H_BOTH] = {NULL, 0, NULL, "Both"},
    [OPT_SEED] = {"seed", 's', "N", "of training and its sequence of scenes (1)"},
    [OPT_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
};

typedef struct request {
    cn_pretrain_options train;
    cn_pretrain_evaluate_options evaluate;
    int64_t threads;
    bool json;
    int train_option, evaluate_option; /* given, index in the table; -1 for none */
} request;

/* --- options ---------------------------------------------------------------------------------- */

static bool parse_train(const cli_parser *p, int id, cn_pretrain_options *o)
{
    const int64_t most = INT64_C(1) << 30;
    switch (id) {
    case OPT_OUTPUT: o->output_dir = p->value; return true;
    case OPT_STAGE:
        o->stage = p->value;
        if (strcmp(p->value, "vae") == 0 || strcmp(p->value, "unet") == 0 ||
            strcmp(p->value, "decoder") == 0)
            return true;
        cli_usage_error(p, "--stage %s: vae, unet or decoder is expected", p->value);
        return false;
    case OPT_VAE_STEPS: return cli_int(p, id, 1, most, &o->vae_steps);
    case OPT_UNET_STEPS: return cli_int(p, id, 1, most, &o->unet_steps);
    case OPT_VAE_BATCH: return cli_int(p, id, 1, 4096, &o->vae_batch);
    case OPT_UNET_BATCH: return cli_int(p, id, 1, 4096, &o->unet_batch);
    case OPT_VAE_LR: return cli_number(p, id, 0, 1, &o->vae_lr);
    case OPT_UNET_LR: return cli_number(p, id, 0, 1, &o->unet_lr);
    case OPT_SCENES: return cli_int(p, id, 1, most, &o->scenes);
    case OPT_SIZE: return cli_int(p, id, 64, 1024, &o->size_px);
    case OPT_SAVE: return cli_int(p, id, 1, most, &o->save_steps);
    default: return false;
    }
}

static bool parse_evaluate(const cli_parser *p, int id, request *r)
{
    cn_pretrain_evaluate_options *o = &r->evaluate;
    int64_t n;
    switch (id) {
    case OPT_EVALUATE: o->model = p->value; return true;
    case OPT_HELD_OUT: return cli_int(p, id, 0, 1000000, &o->scenes);
    case OPT_PROMPTS: return cli_int(p, id, 0, 1000000, &o->prompts);
    case OPT_SAMPLING:
        if (!cli_int(p, id, 1, 1000, &n)) return false;
        o->steps = (int)n;
        return true;
    case OPT_GUIDANCE: return cli_number(p, id, -1000, 1000, &o->cfg_scale);
    case OPT_SHEET: o->sheet = p->value; return true;
    case OPT_JSON: return r->json = true;
    default: return false;
    }
}

static bool parse_one(const cli_parser *p, int id, request *r)
{
    if (id == OPT_SEED) {
        if (!cli_uint64(p, id, &r->train.seed)) return false;
        r->evaluate.seed = r->train.seed;
        return true;
    }
    if (id == OPT_THREADS) return cli_int(p, id, 1, 1024, &r->threads);
    if (id < OPT_H_EVALUATE) {
        r->train_option = id;
        return parse_train(p, id, &r->train);
    }
    if (id != OPT_EVALUATE) r->evaluate_option = id;
    return parse_evaluate(p, id, r);
}

/* CLI_DONE when there is something to run. */
static int check_request(const cli_parser *p, const request *r)
{
    char **rest;
    if (cli_positional(p, &rest) > 0)
        return cli_usage_error(p, "unexpected argument \"%s\"", rest[0]);
    if (r->evaluate.model && r->train_option >= 0)
        return cli_usage_error(p, "--%s belongs to training, not to --evaluate",
                               options[r->train_option].name);
    if (!r->evaluate.model && r->evaluate_option >= 0)
        return cli_usage_error(p, "--%s needs --evaluate DIR", options[r->evaluate_option].name);
    if (!r->evaluate.model && !r->train.output_dir)
        return cli_usage_error(p, "%s", "--output-dir DIR (or --evaluate DIR) is missing");
    return CLI_DONE;
}

/* --- training --------------------------------------------------------------------------------- */

typedef struct display {
    char stage[16];
    double begun_s, shown_s;
    int64_t first; /* step of this stage that was reported first */
    bool terminal, line_open;
} display;

static void end_line(display *d)
{
    if (d->line_open) fputc('\n', stderr);
    d->line_open = false;
}

static void show_step(void *user, const char *stage, int64_t step, int64_t steps, double loss,
                      double seconds)
{
    display *d = user;
    const double now = cli_now_s();
    const bool fresh = strcmp(d->stage, stage) != 0;
    if (fresh) {
        end_line(d);
        snprintf(d->stage, sizeof d->stage, "%s", stage);
        d->begun_s = now;
        d->first = step;
    }
    if (!fresh && !d->terminal && now - d->shown_s < 10 && step != steps) return;
    d->shown_s = now;
    const bool known = step > d->first;
    const double each = known ? (now - d->begun_s) / (double)(step - d->first) : 0;
    const long left = (long)(each * (double)(steps - step));
    fprintf(stderr, "%s%s  %lld/%lld", d->terminal ? "\r" : "", stage, (long long)step,
            (long long)steps);
    if (strcmp(stage, "encode") != 0) fprintf(stderr, "  loss %.5f", loss);
    fprintf(stderr, "  %.0f s", seconds);
    if (known)
        fprintf(stderr, "  %.3f s each  %ld:%02ld:%02ld left", each, left / 3600, left / 60 % 60,
                left % 60);
    fputs(d->terminal ? "\x1b[K" : "\n", stderr);
    d->line_open = d->terminal;
    fflush(stderr);
}

static int train(request *r)
{
    display d = {.terminal = isatty(STDERR_FILENO)};
    cn_ctx *ctx = cli_context_create("pretrain", (int)r->threads);
    if (!ctx) return CLI_FAILED;
    r->train.progress = show_step;
    r->train.user = &d;
    const cn_status s = cn_pretrain(ctx, &r->train);
    end_line(&d);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "pretrain");
    if (s == CN_OK) printf("%s\n", r->train.output_dir);
    cli_context_destroy(ctx);
    return status;
}

/* --- evaluation ------------------------------------------------------------------------------- */

static int64_t asked_for(const cn_pretrain_evaluation *e, int colour)
{
    int64_t n = 0;
    for (int k = 0; k <= CN_EVALUATE_COLOURS; k++) n += e->seen[colour][k];
    return n;
}

static void print_text(const cn_pretrain_evaluation *e)
{
    if (e->scenes)
        printf("reconstruction of %lld held-out scenes at %lld px: PSNR %.2f dB (mean), %.2f dB "
               "(of the mean squared error)\n",
               (long long)e->scenes, (long long)e->size_px, e->psnr_db, e->psnr_of_mse_db);
    if (!e->prompts) return;
    printf("colour right in %lld of %lld drawings (%.1f %%), none seen in %lld\n",
           (long long)e->right, (long long)e->prompts, 100 * (double)e->right / (double)e->prompts,
           (long long)e->undecided);
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++) {
        printf("  %-7s %3lld of %3lld", e->colours[i], (long long)e->seen[i][i],
               (long long)asked_for(e, i));
        const char *between = "   else ";
        for (int k = 0; k <= CN_EVALUATE_COLOURS; k++) {
            if (k == i || !e->seen[i][k]) continue;
            printf("%s%s %lld", between, k < CN_EVALUATE_COLOURS ? e->colours[k] : "none",
                   (long long)e->seen[i][k]);
            between = ", ";
        }
        putchar('\n');
    }
}

static void print_json(const cn_pretrain_evaluation *e)
{
    printf("{\"size_px\": %lld, \"scenes\": %lld, \"prompts\": %lld", (long long)e->size_px,
           (long long)e->scenes, (long long)e->prompts);
    if (e->scenes)
        printf(", \"psnr_db\": %.4f, \"psnr_of_mse_db\": %.4f", e->psnr_db, e->psnr_of_mse_db);
    if (e->prompts) {
        printf(", \"colour_right\": %lld, \"colour_right_share\": %.4f, \"undecided\": %lld, "
               "\"colours\": {",
               (long long)e->right, (double)e->right / (double)e->prompts, (long long)e->undecided);
        for (int i = 0; i < CN_EVALUATE_COLOURS; i++) {
            printf("%s\"%s\": {\"prompts\": %lld", i ? ", " : "", e->colours[i],
                   (long long)asked_for(e, i));
            for (int k = 0; k <= CN_EVALUATE_COLOURS; k++)
                if (e->seen[i][k])
                    printf(", \"%s\": %lld", k < CN_EVALUATE_COLOURS ? e->colours[k] : "none",
                           (long long)e->seen[i][k]);
            putchar('}');
        }
        putchar('}');
    }
    puts("}");
}

static void show_evaluation(void *user, const char *stage, int64_t done, int64_t total)
{
    cli_progress_show(user, stage, (int)done, (int)total);
}

static int evaluate(request *r)
{
    cli_progress progress;
    cn_pretrain_evaluation e;
    if (r->evaluate.sheet && !cli_can_write("pretrain", r->evaluate.sheet)) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("pretrain", (int)r->threads);
    if (!ctx) return CLI_FAILED;
    cli_progress_init(&progress, false);
    r->evaluate.progress = show_evaluation;
    r->evaluate.user = &progress;
    const cn_status s = cn_pretrain_evaluate(ctx, &r->evaluate, &e);
    cli_progress_end(&progress);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "pretrain");
    if (s == CN_OK && r->json)
        print_json(&e);
    else if (s == CN_OK)
        print_text(&e);
    cli_context_destroy(ctx);
    return status;
}

/* --- the command ------------------------------------------------------------------------------ */

int cmd_pretrain(int argc, char **argv)
{
    cli_parser p = {.command = "pretrain",
                    .synopsis = "pretrain --output-dir DIR [options]\n"
                                "       controlnet pretrain --evaluate DIR [options]",
                    .about = "Trains a VAE, then a text encoder and a UNet, from procedural scenes "
                             "alone. Ctrl-C\nsaves and stops; the same command goes on.",
                    .options = options,
                    .n_options = (int)(sizeof options / sizeof options[0]),
                    .argc = argc,
                    .argv = argv};
    request r = {.train_option = -1, .evaluate_option = -1};
    int id;
    cn_pretrain_options_default(&r.train);
    cn_pretrain_evaluate_defaults(&r.evaluate);
    while ((id = cli_next(&p)) >= 0)
        if (!parse_one(&p, id, &r)) return CLI_USAGE;
    if (id != CLI_END) return cli_exit_status(id);
    const int status = check_request(&p, &r);
    if (status != CLI_DONE) return status;
    return r.evaluate.model ? evaluate(&r) : train(&r);
}
