/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate.c - controlnet generate: its options.
 *
 * They are collected first, because --from puts a picture's options before those of the command
 * line. What makes the picture is kept as a recipe (cli_recipe.c), which goes into the file.
 */
#include "cli/cli_generate.h"
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    OPT_H_MODEL,
    OPT_MODEL,
    OPT_TOKENIZER,
    OPT_PREDICTION,
    OPT_PRECISION,
    OPT_WEIGHT_TYPE,
    OPT_LORA,
    OPT_LORA_DIR,
    OPT_EMBEDDING,
    OPT_EMBEDDINGS_DIR,
    OPT_H_CONTROL,
    OPT_CONTROL_NET,
    OPT_CONTROL_IMAGE,
    OPT_CONTROL_STRENGTH,
    OPT_CONTROL_START,
    OPT_CONTROL_END,
    OPT_CONTROL_PREPROCESSOR,
    OPT_CONTROL_PREPROCESSOR_MODEL,
    OPT_CONTROL_MODE,
    OPT_CONTROL_WEIGHTS,
    OPT_CONTROL_MASK,
    OPT_H_PICTURE,
    OPT_PROMPT,
    OPT_NEGATIVE,
    OPT_PROMPT_STYLE,
    OPT_STEPS,
    OPT_CFG,
    OPT_GUIDANCE_RESCALE,
    OPT_SAMPLER,
    OPT_SCHEDULER,
    OPT_SPACING,
    OPT_ZERO_SNR,
    OPT_SEED,
    OPT_WIDTH,
    OPT_HEIGHT,
    OPT_BATCH,
    OPT_CLIP_SKIP,
    OPT_GUESS_MODE,
    OPT_INIT_IMG,
    OPT_STRENGTH,
    OPT_MASK,
    OPT_HIRES_SCALE,
    OPT_HIRES_STEPS,
    OPT_HIRES_STRENGTH,
    OPT_HIRES_UPSCALER,
    OPT_VAE_TILING,
    OPT_VAE_TILE_SIZE,
    OPT_INIT_LATENTS,
    OPT_SAVE_LATENTS,
    OPT_H_REST,
    OPT_FROM,
    OPT_OUTPUT,
    OPT_GRID,
    OPT_MEMORY,
    OPT_DRY_RUN,
    OPT_PREVIEW,
    OPT_PREVIEW_PATH,
    OPT_PREVIEW_INTERVAL,
    OPT_THREADS,
    OPT_VERBOSE,
    OPT_JSON
};

static const cli_option options[] = {
    [OPT_H_MODEL] = {NULL, 0, NULL, "Model"},
    [OPT_MODEL] = {"model", 'm', "MODEL",
                   "diffusers folder or single file (.safetensors, .ckpt, .pth)"},
    [OPT_TOKENIZER] = {"tokenizer", 0, "DIR", "for a model without one: vocab.json and merges.txt"},
    [OPT_PREDICTION] = {"prediction", 0, "KIND",
                        "epsilon or v: what the UNet was trained to give, where the\n"
                        "model doesn't say it or says it wrongly"},
    [OPT_PRECISION] = {"precision", 0, "TYPE",
                       "what the networks compute in: f32 (default); bf16, faster and\n"
                       "less exact, where the processor can; auto: bf16 where it can"},
    [OPT_WEIGHT_TYPE] = {"weight-type", 0, "TYPE",
                         "how weights are kept in memory: f32, f16, bf16 or q8 (8 bits,\n"
                         "a quarter of f32, a little less exact); auto\n"
                         "(default): as their file has them, bf16 under --precision bf16"},
    [OPT_LORA] = {"lora", 0, "FILE[:WEIGHT]",
                  "a file, or peft's or diffusers' folder, merged into the\n"
                  "weights (WEIGHT 1). May be given several times"},
    [OPT_LORA_DIR] = {"lora-dir", 0, "DIR",
                      "a folder in which <lora:NAME:WEIGHT> in a prompt finds\nits file"},
    [OPT_EMBEDDING] = {"embedding", 0, "FILE",
                       "textual inversion; its word in a prompt is the file's name.\n"
                       "May be given several times"},
    [OPT_EMBEDDINGS_DIR] = {"embeddings-dir", 0, "DIR", "a folder of such files"},
    [OPT_H_CONTROL] = {NULL, 0, NULL, "Control; repeat the group for several ControlNets at once"},
    [OPT_CONTROL_NET] = {"control-net", 0, "FILE|DIR", "the ControlNet"},
    [OPT_CONTROL_IMAGE] = {"control-image", 0, "IMG", "its condition image (PNG, JPEG, WebP)"},
    [OPT_CONTROL_STRENGTH] = {"control-strength", 0, "X", "how strongly it acts (1)"},
    [OPT_CONTROL_START] = {"control-start", 0, "X", "part of the steps after which it begins (0)"},
    [OPT_CONTROL_END] = {"control-end", 0, "X", "part of the steps after which it ends (1)"},
    [OPT_CONTROL_PREPROCESSOR] = {"control-preprocessor", 0, "KIND",
                                  "makes the condition from the image: none (default), or a\n"
                                  "kind of `controlnet annotate`, with settings where wanted:\n"
                                  "\"canny low=50\""},
    [OPT_CONTROL_PREPROCESSOR_MODEL] = {"control-preprocessor-model", 0, "WEIGHTS",
                                        "its network's weights: a file, or a folder of files as\n"
                                        "published"},
    [OPT_CONTROL_MODE] = {"control-mode", 0, "MODE",
                          "balanced (default); prompt: the prompt counts more;\n"
                          "controlnet: the control counts more"},
    [OPT_CONTROL_WEIGHTS] = {"control-weights", 0, "W,...,W",
                             "a factor for each of the ControlNet's residuals (13), from\n"
                             "the first block's to the middle's, instead of the mode's"},
    [OPT_CONTROL_MASK] = {"control-mask", 0, "IMG",
                          "it acts where this is white, or opaque in a picture with\n"
                          "transparency"},
    [OPT_H_PICTURE] = {NULL, 0, NULL, "Picture"},
    [OPT_PROMPT] = {"prompt", 'p', "TEXT", "what to draw"},
    [OPT_NEGATIVE] = {"negative-prompt", 'n', "TEXT", "what to keep away from"},
    [OPT_PROMPT_STYLE] = {"prompt-style", 0, "STYLE",
                          "plain (default): as diffusers, 75 tokens at most; webui: with\n"
                          "(word:1.2), [word], BREAK, [from:to:when], [a|b], any length"},
    [OPT_STEPS] = {"steps", 0, "N", "sampling steps (20)"},
    [OPT_CFG] = {"cfg-scale", 0, "X", "guidance scale (7.5); 1 or less: without guidance"},
    [OPT_GUIDANCE_RESCALE] = {"guidance-rescale", 0, "X",
                              "brings guided predictions back to the prompt's own spread, 0\n"
                              "(default) to 1; 0.7 for models with zero terminal SNR"},
    [OPT_SAMPLER] = {"sampling-method", 0, "NAME",
                     "ddim (default), pndm, ddpm, euler, euler_a, heun, lms, dpm++2m,\n"
                     "dpm++2m_sde, unipc or lcm; names of diffusers and\n"
                     "stable-diffusion-webui do too: \"DPM++ 2M Karras\""},
    [OPT_SCHEDULER] = {"scheduler", 0, "NAME",
                       "noise levels of the samplers from euler to unipc: default (as\n"
                       "the model says), discrete, karras or exponential"},
    [OPT_SPACING] = {"timestep-spacing", 0, "NAME",
                     "leading, trailing or linspace (as the model says, else the\n"
                     "sampling method's own)"},
    [OPT_ZERO_SNR] = {"rescale-betas-zero-snr", 0, NULL,
                      "sampling starts from noise alone, for v models trained so that\n"
                      "don't say it; with --timestep-spacing trailing or linspace"},
    [OPT_SEED] = {"seed", 's', "N", "of the noise; without it a new one, which is printed"},
    [OPT_WIDTH] = {"width", 'W', "PX", "multiple of 8 (the condition image's, or the model's)"},
    [OPT_HEIGHT] = {"height", 'H', "PX", "multiple of 8"},
    [OPT_BATCH] = {"batch-count", 'b', "N", "pictures at once (1)"},
    [OPT_CLIP_SKIP] = {"clip-skip", 0, "N",
                       "which of the text encoder's last layers to use\n"
                       "(1: the last, 2: the one before)"},
    [OPT_GUESS_MODE] = {"guess-mode", 0, "FORM",
                        "control without a prompt: lllyasviel or diffusers, two ways to\n"
                        "weigh the ControlNet's blocks; the negative half has no control"},
    [OPT_INIT_IMG] = {"init-img", 'i', "IMG", "draws over this picture instead of from noise"},
    [OPT_STRENGTH] = {"strength", 0, "X",
                      "how much of the initial picture is drawn over: the part of\n"
                      "the steps that is made, above 0 to 1 (0.75; 1 with --mask)"},
    [OPT_MASK] = {"mask", 0, "IMG",
                  "what of the initial picture is drawn anew: the white part,\n"
                  "or the opaque one of a picture with transparency"},
    [OPT_HIRES_SCALE] = {"hires-scale", 0, "X", "a second pass at X times the size (up to 8)"},
    [OPT_HIRES_STEPS] = {"hires-steps", 0, "N", "its steps (as many as the first pass's)"},
    [OPT_HIRES_STRENGTH] = {"hires-strength", 0, "X", "the part of them that is made (0.7)"},
    [OPT_HIRES_UPSCALER] = {"hires-upscaler", 0, "KIND",
                            "between the passes: latent (default), or pixel: decoded,\n"
                            "enlarged by Lanczos, encoded"},
    [OPT_VAE_TILING] = {"vae-tiling", 0, NULL,
                        "the VAE works in overlapping tiles: less memory for large\n"
                        "pictures"},
    [OPT_VAE_TILE_SIZE] = {"vae-tile-size", 0, "PX", "their side (the model's own size)"},
    [OPT_INIT_LATENTS] = {"init-latents", 0, "FILE", "safetensors with the noise to start from"},
    [OPT_SAVE_LATENTS] = {"save-latents", 0, "FILE", "safetensors that gets the final latents"},
    [OPT_H_REST] = {NULL, 0, NULL, "Rest"},
    [OPT_FROM] = {"from", 0, "PICTURE.png",
                  "begins with the options that a picture was drawn with; those given\n"
                  "here come on top, and the first --control-net given replaces all\n"
                  "of the picture's (so do --lora and --embedding)"},
    [OPT_OUTPUT] = {"output", 'o', "OUT.png",
                    "(output.png); OUT_0.png, OUT_1.png, ... for several pictures"},
    [OPT_GRID] = {"grid", 0, NULL, "OUT_grid.png too: the batch side by side"},
    [OPT_MEMORY] = {"max-memory", 0, "SIZE",
                    "stay below it (3G, 800M), at a cost in time, then quality:\n"
                    "guidance's halves in turn, smaller weights, the VAE in tiles"},
    [OPT_DRY_RUN] = {"dry-run", 0, NULL, "say what the drawing takes in memory; draw nothing"},
    [OPT_PREVIEW] = {"preview", 0, "KIND",
                     "vae: a picture of how far the drawing is, while it is drawn;\n"
                     "none (default)"},
    [OPT_PREVIEW_PATH] = {"preview-path", 0, "FILE.png", "where it goes (preview.png)"},
    [OPT_PREVIEW_INTERVAL] = {"preview-interval", 0, "N", "every N steps (1)"},
    [OPT_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
    [OPT_VERBOSE] = {"verbose", 'v', NULL, "what was done with the prompts"},
    [OPT_JSON] = {"json", 0, NULL, "results as JSON lines"},
};

/* --- options ---------------------------------------------------------------------------------- */

/* The group that a control option belongs to: that of the last --control-net. */
static control *group_of(const cli_parser *p, request *r)
{
    if (r->n_controls) return &r->controls[r->n_controls - 1];
    cli_usage_error(p, "%s", "--control-net comes before the options that belong to it");
    return NULL;
}

static bool parse_weights(const cli_parser *p, control *c)
{
    const char *at = p->value;
    c->n_weights = 0;
    while (c->n_weights < MAX_WEIGHTS) {
        char *end;
        float w = strtof(at, &end);
        if (end == at || !(w >= -100 && w <= 100)) break;
        c->weights[c->n_weights++] = w;
        if (!*end) return true;
        if (*end != ',') break;
        at = end + 1;
    }
    cli_usage_error(p, "--control-weights %s: numbers from -100 to 100 with commas are expected",
                    p->value);
    return false;
}

static bool parse_control(const cli_parser *p, int id, request *r)
{
    if (id == OPT_CONTROL_NET) {
        if (r->n_controls == MAX_CONTROLS) {
            cli_usage_error(p, "at most %d ControlNets at once", (int)MAX_CONTROLS);
            return false;
        }
        r->controls[r->n_controls++] = (control){.net = p->value, .strength = 1, .end = 1};
        return true;
    }
    control *c = group_of(p, r);
    if (!c) return false;
    switch (id) {
    case OPT_CONTROL_IMAGE: c->image = p->value; return true;
    case OPT_CONTROL_PREPROCESSOR: c->preprocessor = p->value; return true;
    case OPT_CONTROL_PREPROCESSOR_MODEL: c->preprocessor_weights[0] = p->value; return true;
    case OPT_CONTROL_STRENGTH: return cli_number(p, id, -100, 100, &c->strength);
    case OPT_CONTROL_START: return cli_number(p, id, 0, 1, &c->start);
    case OPT_CONTROL_END: return cli_number(p, id, 0, 1, &c->end);
    case OPT_CONTROL_MODE:
        c->mode = p->value;
        return cli_one_of(p, id, (const char *const[]){"balanced", "prompt", "controlnet", NULL});
    case OPT_CONTROL_WEIGHTS: return parse_weights(p, c);
    case OPT_CONTROL_MASK: c->mask = p->value; return true;
    default: return false;
    }
}

static bool parse_int(const cli_parser *p, int id, int64_t min, int64_t max, int *out)
{
    int64_t v;
    if (!cli_int(p, id, min, max, &v)) return false;
    *out = (int)v;
    return true;
}

/* -1 asks for a random one, as stable-diffusion.cpp's does. */
static bool parse_seed(const cli_parser *p, int id, request *r)
{
    int64_t v;
    if (!cli_int(p, id, -1, INT64_MAX, &v)) return false;
    r->has_seed = v >= 0;
    r->generate.seed = r->has_seed ? (uint64_t)v : 0;
    return true;
}

static bool parse_style(const cli_parser *p, int id, cn_generate_options *g)
{
    g->prompt_style = p->value;
    return cli_one_of(p, id, (const char *const[]){"plain", "webui", NULL});
}

static bool parse_prediction(const cli_parser *p, request *r)
{
    r->pipeline.prediction = p->value;
    if (strcmp(p->value, "epsilon") == 0 || strcmp(p->value, "v") == 0) return true;
    cli_usage_error(p, "--prediction %s: there is epsilon and v", p->value);
    return false;
}

/* FILE or FILE:WEIGHT; a colon that no number follows belongs to the name. */
static bool parse_lora(const cli_parser *p, request *r)
{
    if (r->pipeline.n_loras == MAX_FILES) {
        cli_usage_error(p, "at most %d LoRAs", (int)MAX_FILES);
        return false;
    }
    cn_lora_option *l = &r->loras[r->pipeline.n_loras++];
    char *value = (char *)(uintptr_t)p->value; /* of argv, which may be changed */
    char *colon = strrchr(value, ':'), *end = NULL;
    *l = (cn_lora_option){value, 1};
    if (!colon || !colon[1]) return true;
    double weight = strtod(colon + 1, &end);
    if (*end) return true;
    if (!(weight >= -100 && weight <= 100)) {
        cli_usage_error(p, "--lora %s: the weight must lie between -100 and 100", value);
        return false;
    }
    *colon = 0;
    l->weight = weight;
    return true;
}

static bool parse_embedding(const cli_parser *p, request *r)
{
    if (r->pipeline.n_embeddings == MAX_FILES) {
        cli_usage_error(p, "at most %d embeddings; --embeddings-dir takes any number",
                        (int)MAX_FILES);
        return false;
    }
    r->embeddings[r->pipeline.n_embeddings++] = p->value;
    return true;
}

/* Above 0: a share of the steps. */
static bool parse_share(const cli_parser *p, int id, double *out)
{
    if (!cli_number(p, id, 0, 1, out)) return false;
    if (*out > 0) return true;
    cli_usage_error(p, "--%s %s: above 0 and at most 1 is expected", options[id].name, p->value);
    return false;
}

/* What the drawing starts from, its second pass and the VAE. */
static bool parse_start(const cli_parser *p, int id, request *r)
{
    cn_generate_options *g = &r->generate;
    switch (id) {
    case OPT_INIT_IMG: r->init = p->value; return true;
    case OPT_STRENGTH: return parse_share(p, id, &g->strength);
    case OPT_MASK: r->mask = p->value; return true;
    case OPT_HIRES_SCALE: return cli_number(p, id, 1, 8, &g->hires_scale);
    case OPT_HIRES_STEPS: return parse_int(p, id, 1, 1000, &g->hires_steps);
    case OPT_HIRES_STRENGTH: return parse_share(p, id, &g->hires_strength);
    case OPT_HIRES_UPSCALER:
        g->hires_pixels = strcmp(p->value, "pixel") == 0;
        return cli_one_of(p, id, (const char *const[]){"latent", "pixel", NULL});
    case OPT_VAE_TILING: return g->vae_tiling = true;
    case OPT_VAE_TILE_SIZE: return cli_int(p, id, 8, 32768, &g->vae_tile_size);
    default: return false;
    }
}

static bool known_scheduler(const cli_parser *p, int id)
{
    const char *names[16] = {NULL};
    for (size_t i = 0; i + 1 < sizeof names / sizeof *names && cn_generate_scheduler((int)i); i++)
        names[i] = cn_generate_scheduler((int)i);
    return cli_one_of(p, id, names);
}

static bool parse_picture(const cli_parser *p, int id, request *r)
{
    cn_generate_options *g = &r->generate;
    switch (id) {
    case OPT_PROMPT: g->prompt = p->value; return true;
    case OPT_NEGATIVE: g->negative_prompt = p->value; return true;
    case OPT_PROMPT_STYLE: return parse_style(p, id, g);
    case OPT_STEPS: return parse_int(p, id, 1, 1000, &g->steps);
    case OPT_CFG: return cli_number(p, id, -1000, 1000, &g->cfg_scale);
    case OPT_GUIDANCE_RESCALE: return cli_number(p, id, 0, 1, &g->guidance_rescale);
    case OPT_SAMPLER: g->sampler = p->value; return true;
    case OPT_SCHEDULER: g->scheduler = p->value; return known_scheduler(p, id);
    case OPT_SPACING:
        g->timestep_spacing = p->value;
        return cli_one_of(p, id, (const char *const[]){"leading", "trailing", "linspace", NULL});
    case OPT_ZERO_SNR: return g->rescale_betas_zero_snr = true;
    case OPT_SEED: return parse_seed(p, id, r);
    case OPT_WIDTH: return cli_int(p, id, 1, 32768, &g->width);
    case OPT_HEIGHT: return cli_int(p, id, 1, 32768, &g->height);
    case OPT_BATCH: return parse_int(p, id, 1, MAX_BATCH, &g->batch);
    case OPT_CLIP_SKIP:
        if (!parse_int(p, id, 1, 1000, &g->clip_skip)) return false;
        g->clip_skip--;
        return true;
    case OPT_GUESS_MODE:
        g->guess_mode = p->value;
        return cli_one_of(p, id, (const char *const[]){"lllyasviel", "diffusers", NULL});
    case OPT_INIT_LATENTS: g->init_latents = p->value; return true;
    case OPT_SAVE_LATENTS: g->save_latents = p->value; return true;
    default: return parse_start(p, id, r);
    }
}

static bool parse_one(const cli_parser *p, int id, request *r)
{
    if (id > OPT_H_CONTROL && id < OPT_H_PICTURE) return parse_control(p, id, r);
    if (id > OPT_H_PICTURE && id < OPT_H_REST) return parse_picture(p, id, r);
    switch (id) {
    case OPT_MODEL: r->pipeline.model = p->value; return true;
    case OPT_TOKENIZER: r->pipeline.tokenizer = p->value; return true;
    case OPT_PREDICTION: return parse_prediction(p, r);
    case OPT_PRECISION:
        r->pipeline.precision = p->value;
        return cli_one_of(p, id, (const char *const[]){"auto", "f32", "bf16", NULL});
    case OPT_WEIGHT_TYPE:
        r->pipeline.weight_type = p->value;
        return cli_one_of(p, id, (const char *const[]){"auto", "f32", "f16", "bf16", "q8", NULL});
    case OPT_LORA: return parse_lora(p, r);
    case OPT_LORA_DIR: r->pipeline.lora_dir = p->value; return true;
    case OPT_EMBEDDING: return parse_embedding(p, r);
    case OPT_EMBEDDINGS_DIR: r->pipeline.embeddings_dir = p->value; return true;
    case OPT_VERBOSE: return r->verbose = true;
    case OPT_OUTPUT: r->output = p->value; return true;
    case OPT_MEMORY: return cli_size(p, id, &r->pipeline.max_memory_bytes);
    case OPT_DRY_RUN: r->dry_run = true; return true;
    case OPT_GRID: return r->grid = true;
    case OPT_PREVIEW:
        r->preview = strcmp(p->value, "vae") == 0;
        return cli_one_of(p, id, (const char *const[]){"none", "vae", NULL});
    case OPT_PREVIEW_PATH: r->preview_path = p->value; return true;
    case OPT_PREVIEW_INTERVAL: return parse_int(p, id, 1, 1000, &r->generate.preview_interval);
    case OPT_THREADS: return parse_int(p, id, 1, 1024, &r->threads);
    case OPT_JSON: return r->json = true;
    default: return false;
    }
}

static bool known_sampler(const cli_parser *p, const char *name)
{
    char list[256] = "";
    if (cn_generate_sampler_named(name)) return true;
    for (int i = 0; cn_generate_sampler(i); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", cn_generate_sampler(i));
    }
    cli_usage_error(p, "--sampling-method %s: there is %s", name, list);
    return false;
}

static bool check_request(const cli_parser *p, const request *r)
{
    char **rest;
    if (cli_positional(p, &rest) > 0)
        return cli_usage_error(p, "unexpected argument \"%s\"", rest[0]), false;
    if (!r->pipeline.model) return cli_usage_error(p, "%s", "-m MODEL is missing"), false;
    if (!r->generate.prompt) return cli_usage_error(p, "%s", "-p PROMPT is missing"), false;
    for (int k = 0; k < r->n_controls; k++) {
        const control *c = &r->controls[k];
        if (!c->image)
            return cli_usage_error(p, "--control-net %s needs --control-image", c->net), false;
        if (c->start >= c->end)
            return cli_usage_error(p, "--control-start %g is not before --control-end %g", c->start,
                                   c->end),
                   false;
    }
    if (r->mask && !r->init)
        return cli_usage_error(p, "%s", "--mask needs --init-img, the picture it belongs to"),
               false;
    if (r->generate.strength > 0 && !r->init)
        return cli_usage_error(p, "%s", "--strength needs --init-img"), false;
    return known_sampler(p, r->generate.sampler);
}

/* --- the command ------------------------------------------------------------------------------ */

/* Ids from `first` to `last` are groups or lists: what the command line gives replaces the
 * picture's. */
static const struct {
    int first, last, begins;
} lists[] = {{OPT_CONTROL_NET, OPT_CONTROL_MASK, OPT_CONTROL_NET},
             {OPT_LORA, OPT_LORA, OPT_LORA},
             {OPT_EMBEDDING, OPT_EMBEDDING, OPT_EMBEDDING}};
enum { LISTS = sizeof lists / sizeof lists[0] };

/* What says where files go or how to work, not what is drawn. */
static bool makes_picture(int id)
{
    return id != OPT_SAVE_LATENTS && id < OPT_H_REST;
}

/* Puts what was given over what the picture holds. */
static bool merge(const recipe *given, recipe *whole)
{
    bool replaced[LISTS] = {false};
    for (int i = 0; i < given->n; i++) {
        const recipe_entry *e = &given->list[i];
        int list = -1;
        for (int k = 0; k < LISTS; k++)
            if (e->id >= lists[k].first && e->id <= lists[k].last) list = k;
        if (!makes_picture(e->id)) continue;
        if (list >= 0 && e->id == lists[list].begins) {
            if (!replaced[list]) recipe_drop(whole, lists[list].first, lists[list].last);
            replaced[list] = true;
            if (!recipe_add(whole, e->id, e->value)) return false;
        } else if (!recipe_set(whole, e->id, e->value, list >= 0 ? lists[list].begins : -1)) {
            return false;
        }
    }
    return true;
}

static bool collect(cli_parser *p, recipe *given, const char **from, int *end)
{
    int id;
    while ((id = cli_next(p)) >= 0) {
        if (id == OPT_FROM) *from = p->value;
        if (id != OPT_FROM && !recipe_add(given, id, p->value)) {
            *end = CLI_WRONG;
            return false;
        }
    }
    *end = id;
    return id == CLI_END;
}

static bool parse_list(cli_parser *p, const recipe *list, bool picture, request *r)
{
    for (int i = 0; i < list->n; i++) {
        if (makes_picture(list->list[i].id) != picture) continue;
        p->value = list->list[i].value;
        if (!parse_one(p, list->list[i].id, r)) return false;
    }
    return true;
}

static bool choose_seed(request *r, recipe *whole)
{
    uint32_t seed;
    char text[16];
    if (r->has_seed) return true;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        cli_error("generate", "no random seed: %s", strerror(errno));
        return false;
    }
    r->generate.seed = seed;
    fprintf(stderr, "seed %u\n", (unsigned)seed);
    snprintf(text, sizeof text, "%u", (unsigned)seed);
    return recipe_set(whole, OPT_SEED, text, -1);
}

/* given: of the command line. parsed is a second copy of whole, since parsing may write into
 * values. */
static int generate(cli_parser *p, const recipe *given, recipe *whole, recipe *parsed)
{
    request r = {.output = "output.png", .preview_path = "preview.png"};
    cn_generate_defaults(&r.generate);
    r.generate.preview_interval = 1;
    r.generate.prompt = NULL;
    if (!merge(given, whole)) return CLI_FAILED;
    for (int i = 0; i < whole->n; i++)
        if (!recipe_add(parsed, whole->list[i].id, whole->list[i].value)) return CLI_FAILED;
    if (!parse_list(p, parsed, true, &r) || !parse_list(p, given, false, &r)) return CLI_USAGE;
    if (!check_request(p, &r)) return CLI_USAGE;
    if (r.dry_run) return generate_run(&r);
    if (!generate_can_write(&r) || !choose_seed(&r, whole)) return CLI_FAILED;
    char *text = recipe_text(p, whole);
    r.recipe = text;
    int status = generate_run(&r);
    free(text);
    return status;
}

int cmd_generate(int argc, char **argv)
{
    cli_parser p = {.command = "generate",
                    .synopsis = "generate -m MODEL -p PROMPT [options] -o OUT.png",
                    .options = options,
                    .n_options = sizeof options / sizeof options[0],
                    .argc = argc,
                    .argv = argv};
    recipe given = {0}, whole = {0}, parsed = {0};
    const char *from = NULL;
    int end, status;
    if (!collect(&p, &given, &from, &end))
        status = cli_exit_status(end);
    else if (from && !recipe_read(&p, from, &whole))
        status = CLI_FAILED;
    else
        status = generate(&p, &given, &whole, &parsed);
    recipe_free(&given);
    recipe_free(&whole);
    recipe_free(&parsed);
    return status;
}
