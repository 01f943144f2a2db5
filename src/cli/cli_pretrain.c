/* SPDX-License-Identifier: Apache-2.0 */
/* cli_pretrain.c - controlnet pretrain: a small base model from procedural scenes, and how good one
 * is. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>
#include <unistd.h>

typedef struct request {
    cn_pretrain_options train;
    cn_pretrain_evaluate_options evaluate;
    int threads;
    bool json;
} request;

static const cn_option rows[] = {
    {.help = "Evaluation"},
    CLI_JSON(request, "the result as a JSON line"),
    {.help = "Both"},
    CLI_THREADS(request),
    {0},
};

static bool of_both(const cn_option *row)
{
    return !strcmp(row->name, "seed") || !strcmp(row->name, "device");
}

/* The first option given that is one of the table's own; NULL: none. */
static const cli_setting *find_of(const cli_parser *p, const cn_option *table)
{
    for (int i = 0; i < p->settings.n; i++)
        if (p->settings.list[i].part->rows == table && !of_both(p->settings.list[i].row))
            return &p->settings.list[i];
    return NULL;
}

static int check_request(const cli_parser *p, request *r)
{
    const cli_setting *train = find_of(p, cn_pretrain_option_rows);
    const cli_setting *evaluate = find_of(p, cn_pretrain_evaluate_option_rows);
    if (!evaluate && r->json) evaluate = cli_find_setting(p, "json");
    r->evaluate.seed = r->train.seed;
    r->evaluate.device = r->train.device;
    if (r->evaluate.model && train)
        return cli_usage_error(p, "--%s belongs to training, not to --evaluate", train->row->name);
    if (!r->evaluate.model && evaluate)
        return cli_usage_error(p, "--%s needs --evaluate DIR", evaluate->row->name);
    if (!r->evaluate.model && !r->train.output_dir)
        return cli_usage_error(p, "%s", "--output-dir DIR (or --evaluate DIR) is missing");
    return CLI_GO;
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
    cn_ctx *ctx = cli_context_create("pretrain", r->threads);
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

static int64_t asked_for_shape(const cn_pretrain_evaluation *e, int shape)
{
    int64_t n = 0;
    for (int k = 0; k < e->n_shapes; k++) n += e->shape_seen[shape][k];
    return n;
}

static double share(int64_t part, int64_t all)
{
    return all > 0 ? (double)part / (double)all : 0;
}

static void print_share(const char *what, int64_t part, int64_t all, const char *of)
{
    printf("%s right in %lld of %lld %s (%.1f %%)\n", what, (long long)part, (long long)all, of,
           100 * share(part, all));
}

/* "  red  19 of 20   else pink 1" from what was seen in answer to one thing asked for. */
static void print_row(const char *const *names, const int64_t *seen, int n, int asked, int64_t all)
{
    printf("  %-11s %3lld of %3lld", names[asked], (long long)seen[asked], (long long)all);
    const char *between = "   else ";
    for (int k = 0; k < n; k++) {
        if (k == asked || !seen[k]) continue;
        printf("%s%s %lld", between, names[k], (long long)seen[k]);
        between = ", ";
    }
    putchar('\n');
}

static void print_prompts(const cn_pretrain_evaluation *e)
{
    const char *names[CN_EVALUATE_COLOURS + 1];
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++) names[i] = e->colours[i];
    names[CN_EVALUATE_COLOURS] = "none";
    print_share("colour", e->right, e->prompts, "drawings");
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++)
        print_row(names, e->seen[i], CN_EVALUATE_COLOURS + 1, i, asked_for(e, i));
    if (!e->classified) return;
    print_share("shape", e->shape_right, e->prompts, "drawings");
    for (int i = 0; i < e->n_shapes; i++)
        print_row(e->shapes, e->shape_seen[i], e->n_shapes, i, asked_for_shape(e, i));
}

static void print_text(const cn_pretrain_evaluation *e)
{
    if (e->scenes)
        printf("reconstruction of %lld held-out scenes at %lld px: PSNR %.2f dB (mean), %.2f dB "
               "(of the mean squared error), edge F1 %.3f\n",
               (long long)e->scenes, (long long)e->size_px, e->psnr_db, e->psnr_of_mse_db,
               e->edge_f1);
    if (e->classified)
        printf("the classifier tells %.1f %% of shapes and %.1f %% of colours of held-out scenes "
               "of one object\n",
               100 * e->classifier_shape, 100 * e->classifier_colour);
    if (e->prompts) print_prompts(e);
    if (e->pictures)
        printf("Frechet distance of %lld pictures to scenes: %.3f (of other scenes: %.3f)\n",
               (long long)e->pictures, e->frechet, e->frechet_floor);
    if (e->pairs) {
        print_share("both colours", e->pairs_right, e->pairs, "scenes of two objects with control");
        print_share("colour", e->pair_colours_right, 2 * e->pairs, "of their objects");
    }
    for (int i = 0; i < e->n_follow; i++) {
        const cn_pretrain_follow *f = &e->follow[i];
        printf("%s, %lld scenes: %s %.3f with control, %.3f without (%.3f behind the VAE, %.3f of "
               "the scenes themselves)\n",
               f->condition, (long long)f->scenes, f->measure, f->with, f->without, f->autoencoder,
               f->truth);
    }
}

/* {"red": {"asked": 20, "red": 19, "pink": 1}, ...} */
static void print_counts(const char *const *names, const int64_t *seen, int n, int asked,
                         int64_t all)
{
    printf("\"%s\": {\"asked\": %lld", names[asked], (long long)all);
    for (int k = 0; k < n; k++)
        if (seen[k]) printf(", \"%s\": %lld", names[k], (long long)seen[k]);
    putchar('}');
}

static void print_json_prompts(const cn_pretrain_evaluation *e)
{
    const char *names[CN_EVALUATE_COLOURS + 1];
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++) names[i] = e->colours[i];
    names[CN_EVALUATE_COLOURS] = "none";
    printf(", \"colour_right\": %lld, \"colour_right_share\": %.4f, \"undecided\": %lld, "
           "\"colours\": {",
           (long long)e->right, share(e->right, e->prompts), (long long)e->undecided);
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++) {
        if (i) printf(", ");
        print_counts(names, e->seen[i], CN_EVALUATE_COLOURS + 1, i, asked_for(e, i));
    }
    putchar('}');
    if (!e->classified) return;
    printf(", \"shape_right\": %lld, \"shape_right_share\": %.4f, \"shapes\": {",
           (long long)e->shape_right, share(e->shape_right, e->prompts));
    for (int i = 0; i < e->n_shapes; i++) {
        if (i) printf(", ");
        print_counts(e->shapes, e->shape_seen[i], e->n_shapes, i, asked_for_shape(e, i));
    }
    putchar('}');
}

static void print_json_follow(const cn_pretrain_evaluation *e)
{
    printf(", \"control_scenes\": %lld, \"controls\": [", (long long)e->control_scenes);
    for (int i = 0; i < e->n_follow; i++) {
        const cn_pretrain_follow *f = &e->follow[i];
        printf("%s{\"condition\": ", i ? ", " : "");
        cli_print_quoted(f->condition);
        printf(", \"measure\": \"%s\", \"scenes\": %lld, \"with\": %.4f, \"without\": %.4f, "
               "\"autoencoder\": %.4f, \"truth\": %.4f}",
               f->measure, (long long)f->scenes, f->with, f->without, f->autoencoder, f->truth);
    }
    putchar(']');
}

static void print_json(const cn_pretrain_evaluation *e)
{
    printf("{\"size_px\": %lld, \"scenes\": %lld, \"prompts\": %lld, \"pictures\": %lld, "
           "\"pairs\": %lld",
           (long long)e->size_px, (long long)e->scenes, (long long)e->prompts,
           (long long)e->pictures, (long long)e->pairs);
    if (e->scenes)
        printf(", \"psnr_db\": %.4f, \"psnr_of_mse_db\": %.4f, \"edge_f1\": %.4f", e->psnr_db,
               e->psnr_of_mse_db, e->edge_f1);
    if (e->classified)
        printf(", \"classifier_shape_accuracy\": %.4f, \"classifier_colour_accuracy\": %.4f",
               e->classifier_shape, e->classifier_colour);
    if (e->prompts) print_json_prompts(e);
    if (e->pictures)
        printf(", \"frechet\": %.4f, \"frechet_of_scenes\": %.4f", e->frechet, e->frechet_floor);
    if (e->pairs)
        printf(", \"pairs_right\": %lld, \"pairs_right_share\": %.4f, "
               "\"pair_colours_right_share\": %.4f",
               (long long)e->pairs_right, share(e->pairs_right, e->pairs),
               share(e->pair_colours_right, 2 * e->pairs));
    if (e->n_follow) print_json_follow(e);
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
    const char *const written[] = {r->evaluate.sheet, r->evaluate.control_sheet};
    for (int i = 0; i < (int)(sizeof written / sizeof *written); i++)
        if (written[i] && !cli_can_write("pretrain", written[i])) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("pretrain", r->threads);
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
    request r = {0};
    const cli_part parts[] = {{cn_pretrain_option_rows, &r.train},
                              {cn_pretrain_evaluate_option_rows, &r.evaluate},
                              {rows, &r},
                              {0}};
    cli_parser p = {.command = "pretrain",
                    .synopsis = "pretrain --output-dir DIR [options]\n"
                                "       controlnet pretrain --evaluate DIR [options]",
                    .about = "Trains a VAE, then a text encoder and a UNet, from procedural scenes "
                             "alone. Ctrl-C\nsaves and stops; the same command goes on.",
                    .parts = parts,
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) status = check_request(&p, &r);
    if (status == CLI_GO) status = r.evaluate.model ? evaluate(&r) : train(&r);
    cli_parser_free(&p);
    return status;
}
