/* SPDX-License-Identifier: Apache-2.0 */
/* cli_pretrain.c - controlnet pretrain: a small base model from procedural scenes, and how good one
 * is. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_STEPS (INT64_C(1) << 30)

enum {
    OPT_H_TRAIN,
    OPT_OUTPUT,
    OPT_STAGE,
    OPT_SAVE,
    OPT_PRECISION,
    OPT_DECAY,
    OPT_CLIP,
    OPT_H_SIZES,
    OPT_SIZE,
    OPT_LATENT,
    OPT_VAE_WIDTHS,
    OPT_UNET_WIDTHS,
    OPT_VAE_GROUPS,
    OPT_UNET_GROUPS,
    OPT_TEXT_WIDTH,
    OPT_POSITIONS,
    OPT_VOCABULARY,
    OPT_H_VAE,
    OPT_VAE_STEPS,
    OPT_VAE_BATCH,
    OPT_VAE_PASSES,
    OPT_CROP,
    OPT_FULL,
    OPT_VAE_LR,
    OPT_VAE_EMA,
    OPT_MSE,
    OPT_EDGES,
    OPT_KL,
    OPT_H_UNET,
    OPT_UNET_STEPS,
    OPT_UNET_BATCH,
    OPT_UNET_PASSES,
    OPT_UNET_LR,
    OPT_UNET_EMA,
    OPT_SCENES,
    OPT_AHEAD,
    OPT_PREDICTION,
    OPT_ZERO_SNR,
    OPT_SNR_GAMMA,
    OPT_H_EVALUATE,
    OPT_EVALUATE,
    OPT_HELD_OUT,
    OPT_PROMPTS,
    OPT_PICTURES,
    OPT_PAIRS,
    OPT_CONTROL,
    OPT_CONDITION,
    OPT_SIMPLE,
    OPT_CLASSIFIER,
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
    [OPT_SAVE] = {"save-steps", 0, "N", "state, model and sheet of pictures every N steps (500)"},
    [OPT_PRECISION] = {"mixed-precision", 0, "no|bf16",
                       "what text encoder and UNet compute in (no)"},
    [OPT_DECAY] = {"decay-part", 0, "X",
                   "last part of the steps, over which the learning\n"
                   "rate falls (0.2); it stays until then"},
    [OPT_CLIP] = {"max-grad-norm", 0, "X", "longer gradients are clipped; 0: none are (1)"},
    [OPT_H_SIZES] = {NULL, 0, NULL, "Sizes (a stopped run keeps its own)"},
    [OPT_SIZE] = {"size", 0, "PX", "width and height, multiple of 32 (128)"},
    [OPT_LATENT] = {"latent-channels", 0, "N", "(8)"},
    [OPT_VAE_WIDTHS] = {"vae-widths", 0, "A,B,C,D", "channels, finest first (16,32,64,96)"},
    [OPT_UNET_WIDTHS] = {"unet-widths", 0, "A,B,C", "(96,128,160)"},
    [OPT_VAE_GROUPS] = {"vae-groups", 0, "N", "of its norms (4)"},
    [OPT_UNET_GROUPS] = {"unet-groups", 0, "N", "(16)"},
    [OPT_TEXT_WIDTH] = {"text-width", 0, "N", "of the text encoder (128)"},
    [OPT_POSITIONS] = {"text-positions", 0, "N", "tokens of a prompt (32)"},
    [OPT_VOCABULARY] = {"vocabulary", 0, "N", "tokens to learn from captions, at most (800)"},
    [OPT_H_VAE] = {NULL, 0, NULL, "VAE"},
    [OPT_VAE_STEPS] = {"vae-steps", 0, "N", "(40000)"},
    [OPT_VAE_BATCH] = {"vae-batch", 0, "N", "whole pictures per pass; twice as many crops (8)"},
    [OPT_VAE_PASSES] = {"vae-accumulation", 0, "N", "passes per step (1)"},
    [OPT_CROP] = {"crop", 0, "PX", "side of the crops that most steps see (64)"},
    [OPT_FULL] = {"full-part", 0, "X", "last part of the steps, on whole pictures (0.1)"},
    [OPT_VAE_LR] = {"vae-lr", 0, "X", "learning rate after the warm-up (1e-3)"},
    [OPT_VAE_EMA] = {"vae-ema", 0, "X", "decay of the weights' mean (0.999)"},
    [OPT_MSE] = {"mse-weight", 0, "X", "squared error beside the absolute one (1)"},
    [OPT_EDGES] = {"edge-weight", 0, "X", "error of differences between pixels (0.5)"},
    [OPT_KL] = {"kl-weight", 0, "X", "per latent value (1e-4)"},
    [OPT_H_UNET] = {NULL, 0, NULL, "Text encoder and UNet"},
    [OPT_UNET_STEPS] = {"unet-steps", 0, "N", "(60000)"},
    [OPT_UNET_BATCH] = {"unet-batch", 0, "N", "pictures per pass (32)"},
    [OPT_UNET_PASSES] = {"unet-accumulation", 0, "N", "passes per step (1)"},
    [OPT_UNET_LR] = {"unet-lr", 0, "X", "(8e-4)"},
    [OPT_UNET_EMA] = {"unet-ema", 0, "X", "(0.9995)"},
    [OPT_SCENES] = {"scenes", 0, "N", "to train on (60000)"},
    [OPT_AHEAD] = {"scenes-ahead", 0, "N",
                   "of these encoded before the first step; the others\n"
                   "join over the first half of the steps (8000)"},
    [OPT_PREDICTION] = {"prediction-type", 0, "v_prediction|epsilon", "(v_prediction)"},
    [OPT_ZERO_SNR] = {"rescale-betas-zero-snr", 0, NULL, "the last timestep is noise alone"},
    [OPT_SNR_GAMMA] = {"snr-gamma", 0, "X", "min-SNR weighting, often 5; 0: none (0)"},
    [OPT_H_EVALUATE] = {NULL, 0, NULL, "Evaluation"},
    [OPT_EVALUATE] = {"evaluate", 0, "DIR", "measure this model in place of training"},
    [OPT_HELD_OUT] = {"held-out", 0, "N", "scenes to reconstruct (500)"},
    [OPT_PROMPTS] = {"prompts", 0, "N", "prompts of one object to draw (200)"},
    [OPT_PICTURES] = {"pictures", 0, "N", "pictures of the Frechet distance (2000)"},
    [OPT_PAIRS] = {"pairs", 0, "N", "scenes of two objects drawn with control (200)"},
    [OPT_CONTROL] = {"control-net", 0, "DIR",
                     "the ControlNet for these; without one none is drawn"},
    [OPT_CONDITION] = {"condition", 0, "KIND",
                       "its scenes' condition: edges, depth, normal or\n"
                       "segmentation (segmentation)"},
    [OPT_SIMPLE] = {"simple-scenes", 0, NULL, "six solids of plain colours, in one wording"},
    [OPT_CLASSIFIER] = {"classifier-steps", 0, "N",
                        "that the classifier of shapes is trained; 0: no\n"
                        "shapes, no distance (3000)"},
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

/* "16,32,64" to exactly n widths. */
static bool parse_widths(const cli_parser *p, int id, int n, int64_t *out)
{
    const char *at = p->value;
    for (int i = 0; i < n; i++) {
        char *end;
        const long long value = strtoll(at, &end, 10);
        if (end == at || *end != (i + 1 < n ? ',' : 0) || value < 1 || value > 4096) {
            cli_usage_error(p, "--%s %s: %d numbers from 1 to 4096 with commas between them",
                            options[id].name, p->value, n);
            return false;
        }
        out[i] = value;
        at = end + 1;
    }
    return true;
}

static bool parse_sizes(const cli_parser *p, int id, cn_pretrain_options *o)
{
    switch (id) {
    case OPT_SIZE: return cli_int(p, id, 64, 1024, &o->size_px);
    case OPT_LATENT: return cli_int(p, id, 1, 64, &o->latent_channels);
    case OPT_VAE_WIDTHS: return parse_widths(p, id, CN_PRETRAIN_VAE_LEVELS, o->vae_widths);
    case OPT_UNET_WIDTHS: return parse_widths(p, id, CN_PRETRAIN_UNET_LEVELS, o->unet_widths);
    case OPT_VAE_GROUPS: return cli_int(p, id, 1, 4096, &o->vae_groups);
    case OPT_UNET_GROUPS: return cli_int(p, id, 1, 4096, &o->unet_groups);
    case OPT_TEXT_WIDTH: return cli_int(p, id, 64, 4096, &o->text_width);
    case OPT_POSITIONS: return cli_int(p, id, 8, 77, &o->text_positions);
    case OPT_VOCABULARY: return cli_int(p, id, 514, 65536, &o->vocabulary);
    default: return false;
    }
}

static bool parse_vae(const cli_parser *p, int id, cn_pretrain_options *o)
{
    switch (id) {
    case OPT_VAE_STEPS: return cli_int(p, id, 1, MOST_STEPS, &o->vae_steps);
    case OPT_VAE_BATCH: return cli_int(p, id, 1, 4096, &o->vae_batch);
    case OPT_VAE_PASSES: return cli_int(p, id, 1, 4096, &o->vae_passes);
    case OPT_CROP: return cli_int(p, id, 32, 1024, &o->crop_px);
    case OPT_FULL: return cli_number(p, id, 0, 1, &o->full_part);
    case OPT_VAE_LR: return cli_number(p, id, 0, 1, &o->vae_lr);
    case OPT_VAE_EMA: return cli_number(p, id, 0, 0.99999, &o->vae_ema);
    case OPT_MSE: return cli_number(p, id, 0, 1000, &o->mse_weight);
    case OPT_EDGES: return cli_number(p, id, 0, 1000, &o->edge_weight);
    case OPT_KL: return cli_number(p, id, 0, 1000, &o->kl_weight);
    default: return false;
    }
}

static bool parse_unet(const cli_parser *p, int id, cn_pretrain_options *o)
{
    static const char *const predictions[] = {"v_prediction", "epsilon", NULL};
    switch (id) {
    case OPT_UNET_STEPS: return cli_int(p, id, 1, MOST_STEPS, &o->unet_steps);
    case OPT_UNET_BATCH: return cli_int(p, id, 1, 4096, &o->unet_batch);
    case OPT_UNET_PASSES: return cli_int(p, id, 1, 4096, &o->unet_passes);
    case OPT_UNET_LR: return cli_number(p, id, 0, 1, &o->unet_lr);
    case OPT_UNET_EMA: return cli_number(p, id, 0, 0.99999, &o->unet_ema);
    case OPT_SCENES: return cli_int(p, id, 1, MOST_STEPS, &o->scenes);
    case OPT_AHEAD: return cli_int(p, id, 1, MOST_STEPS, &o->scenes_ahead);
    case OPT_PREDICTION:
        o->v_prediction = strcmp(p->value, predictions[0]) == 0;
        return cli_one_of(p, id, predictions);
    case OPT_ZERO_SNR: return o->zero_snr = true;
    case OPT_SNR_GAMMA: return cli_number(p, id, 0, 1000, &o->snr_gamma);
    default: return false;
    }
}

static bool parse_train(const cli_parser *p, int id, cn_pretrain_options *o)
{
    static const char *const stages[] = {"vae", "unet", "decoder", NULL};
    static const char *const precisions[] = {"no", "bf16", NULL};
    if (id > OPT_H_UNET) return parse_unet(p, id, o);
    if (id > OPT_H_VAE) return parse_vae(p, id, o);
    if (id > OPT_H_SIZES) return parse_sizes(p, id, o);
    switch (id) {
    case OPT_OUTPUT: o->output_dir = p->value; return true;
    case OPT_STAGE: o->stage = p->value; return cli_one_of(p, id, stages);
    case OPT_SAVE: return cli_int(p, id, 1, MOST_STEPS, &o->save_steps);
    case OPT_PRECISION:
        o->bf16 = strcmp(p->value, precisions[1]) == 0;
        return cli_one_of(p, id, precisions);
    case OPT_DECAY: return cli_number(p, id, 0, 1, &o->decay_part);
    case OPT_CLIP: return cli_number(p, id, 0, 1e6, &o->max_grad_norm);
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
    case OPT_PICTURES: return cli_int(p, id, 0, 1000000, &o->pictures);
    case OPT_PAIRS: return cli_int(p, id, 0, 1000000, &o->pairs);
    case OPT_CONTROL: o->control_net = p->value; return true;
    case OPT_CONDITION: o->condition = p->value; return true;
    case OPT_SIMPLE: return o->simple_scenes = true;
    case OPT_CLASSIFIER: return cli_int(p, id, 0, 1000000, &o->classifier_steps);
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
    if (!e->pairs) return;
    print_share("both colours", e->pairs_right, e->pairs, "scenes of two objects with control");
    print_share("colour", e->pair_colours_right, 2 * e->pairs, "of their objects");
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
