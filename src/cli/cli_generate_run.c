/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate_run.c - controlnet generate at work: pictures in, the drawing, PNG files and results
 * out. */
#include "cli/cli_generate.h"

#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* --- output ----------------------------------------------------------------------------------- */

/* OUT.png with what names one file of several, "_3", before its ending. */
static bool output_name(const request *r, const char *mark, char *out, size_t cap)
{
    const char *dot = strrchr(r->output, '.'), *slash = strrchr(r->output, '/');
    if (!dot || (slash && dot < slash) || dot == r->output) dot = r->output + strlen(r->output);
    int n = snprintf(out, cap, "%.*s%s%s", (int)(dot - r->output), r->output, mark, dot);
    if (n >= 0 && (size_t)n < cap) return true;
    cli_error("generate", "the output's name is too long");
    return false;
}

static bool is_stdout(const request *r)
{
    return strcmp(r->output, "-") == 0;
}

/* OUT.png, or OUT_3.png for one of several. */
static bool picture_name(const request *r, int i, char *out, size_t cap)
{
    char mark[16] = "";
    if (is_stdout(r)) return snprintf(out, cap, "%s", cli_output_path(r->output)) > 0;
    if (r->generate.batch > 1) snprintf(mark, sizeof mark, "_%d", i);
    return output_name(r, mark, out, cap);
}

static bool is_previewed(const request *r)
{
    return strcmp(r->preview, "none") != 0;
}

bool generate_can_write(const request *r)
{
    char file[CN_PATH_BYTES];
    if (is_stdout(r) && (r->json || r->grid || r->generate.batch > 1)) {
        cli_error("generate", "-o - writes one picture to standard output: neither --json, --grid "
                              "nor --batch-size goes with it");
        return false;
    }
    for (int i = 0; i < r->generate.batch; i++)
        if (!picture_name(r, i, file, sizeof file) || !cli_can_write("generate", file))
            return false;
    if (r->grid &&
        (!output_name(r, "_grid", file, sizeof file) || !cli_can_write("generate", file)))
        return false;
    if (is_previewed(r) && !cli_can_write("generate", r->preview_path)) return false;
    return !r->generate.save_latents || cli_can_write("generate", r->generate.save_latents);
}

static void show_usage(const char *what, const cn_prompt_usage *u)
{
    if (!u->chunks) return;
    fprintf(stderr, "%s: %lld tokens in %d chunk%s", what, (long long)u->tokens, u->chunks,
            u->chunks == 1 ? "" : "s");
    if (u->stages > 1) fprintf(stderr, ", %d stages while sampling", u->stages);
    if (u->cut) fprintf(stderr, ", %lld left out: \"", (long long)u->cut);
    if (u->cut) cli_put(stderr, u->cut_text ? u->cut_text : "");
    fputs(u->cut ? "\"\n" : "\n", stderr);
}

static json_t *usage_json(const cn_prompt_usage *u)
{
    json_t *o = json_pack("{s:I, s:i, s:i, s:I}", "tokens", (json_int_t)u->tokens, "chunks",
                          u->chunks, "stages", u->stages, "left_out", (json_int_t)u->cut);
    if (o && u->cut_text) json_object_set_new(o, "left_out_text", json_string(u->cut_text));
    return o;
}

static void print_result(const request *r, const cn_generated *g, double ready_s, int i,
                         const char *file)
{
    if (is_stdout(r)) return;
    if (!r->json) {
        printf("%s\n", file);
        return;
    }
    const cn_generate_options *o = &r->generate;
    json_t *line = json_pack("{s:s, s:I, s:i, s:I, s:I, s:i, s:s, s:s, s:f}", "file", file, "seed",
                             (json_int_t)o->seed, "index", i, "width", (json_int_t)g->width,
                             "height", (json_int_t)g->height, "steps", o->steps, "sampling_method",
                             cn_generate_sampler_named(o->sampler), "scheduler",
                             o->scheduler ? o->scheduler : "default", "cfg_scale", o->cfg_scale);
    json_t *times =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "ready_seconds", ready_s, "text_seconds",
                  g->text_s, "encoding_seconds", g->encoding_s, "sampling_seconds", g->sampling_s,
                  "decoding_seconds", g->decoding_s, "total_seconds", g->total_s);
    if (line) json_object_update(line, times);
    json_decref(times);
    if (line && g->planned_bytes)
        json_object_set_new(line, "planned_bytes", json_integer((json_int_t)g->planned_bytes));
    if (line)
        json_object_set_new(line, "peak_resident_bytes",
                            json_integer((json_int_t)g->peak_resident_bytes));
    if (line && g->peak_device_bytes)
        json_object_set_new(line, "peak_device_bytes",
                            json_integer((json_int_t)g->peak_device_bytes));
    if (line) json_object_set_new(line, "prompt", usage_json(&g->prompt));
    if (line && g->negative.chunks)
        json_object_set_new(line, "negative_prompt", usage_json(&g->negative));
    char *text = cn_json_text(line, JSON_COMPACT);
    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(line);
}

/* The batch in rows, as near to a square as it goes, on black. */
static cn_status make_grid(cn_ctx *ctx, cn_image *const *images, int count, cn_image **out)
{
    int columns = 1;
    while (columns * columns < count) columns++;
    int rows = (count + columns - 1) / columns;
    int64_t width = cn_image_width(images[0]), height = cn_image_height(images[0]);
    cn_image *grid = NULL;
    cn_status s = cn_image_create(ctx, columns * width, rows * height, &grid);
    if (s != CN_OK) return s;
    size_t row = (size_t)width * 3;
    for (int i = 0; i < count; i++)
        for (int64_t y = 0; y < height; y++) {
            size_t at = (size_t)((i / columns * height + y) * columns + i % columns) * row;
            const uint8_t *from = cn_image_rgb(images[i]);
            memcpy(cn_image_rgb(grid) + at, from + (size_t)y * row, row);
        }
    *out = grid;
    return CN_OK;
}

static int save_grid(cn_ctx *ctx, const request *r, const cn_generated *g, const char *const *text)
{
    char file[CN_PATH_BYTES];
    cn_image *grid = NULL;
    if (!output_name(r, "_grid", file, sizeof file)) return CLI_FAILED;
    cn_status s = make_grid(ctx, g->images, g->count, &grid);
    if (s == CN_OK) s = cn_image_save_png(ctx, file, grid, text);
    cn_image_destroy(grid);
    if (s != CN_OK) return cli_failed(ctx, "generate");
    if (!r->json) printf("%s\n", file);
    return CLI_DONE;
}

static int save_all(cn_ctx *ctx, const request *r, const cn_generated *g, double ready_s)
{
    char file[CN_PATH_BYTES];
    const char *text[] = {"parameters", NULL, r->recipe ? recipe_key : NULL, r->recipe, NULL};
    if (r->verbose) {
        show_usage("prompt", &g->prompt);
        show_usage("negative prompt", &g->negative);
    }
    for (int i = 0; i < g->count; i++) {
        text[1] = g->parameters[i];
        if (!picture_name(r, i, file, sizeof file)) return CLI_FAILED;
        if (cn_image_save_png(ctx, file, g->images[i], text) != CN_OK)
            return cli_failed(ctx, "generate");
        print_result(r, g, ready_s, i, file);
    }
    text[1] = g->parameters[0];
    return r->grid ? save_grid(ctx, r, g, text) : CLI_DONE;
}

/* --- a plan ----------------------------------------------------------------------------------- */

static json_t *stage_json(const cn_generate_stage *s)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "stage", s->name, "weight_bytes",
                     (json_int_t)s->weight_bytes, "activation_bytes",
                     (json_int_t)s->activation_bytes, "scratch_bytes", (json_int_t)s->scratch_bytes,
                     "total_bytes", (json_int_t)s->total_bytes);
}

static void print_plan_json(const cn_generate_plan *p)
{
    json_t *line = json_pack(
        "{s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:b, s:I}", "event", "plan", "peak_bytes",
        (json_int_t)p->peak_bytes, "process_bytes", (json_int_t)p->process_bytes, "host_bytes",
        (json_int_t)p->host_bytes, "compute_type", p->compute_type, "text_type", p->text_type,
        "unet_type", p->unet_type, "vae_type", p->vae_type, "sequential_guidance",
        p->sequential_guidance, "vae_tile_px", (json_int_t)p->vae_tile);
    json_t *stages = json_array();
    for (int i = 0; i < p->n_stages; i++) json_array_append_new(stages, stage_json(&p->stages[i]));
    if (line) json_object_set_new(line, "stages", stages);
    char *text = cn_json_text(line, JSON_COMPACT);
    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(line);
}

static void print_plan(const cn_generate_plan *p)
{
    if (p->host_bytes)
        printf("memory: %.3f GiB of the device's at most, %.3f GiB beside them\n",
               cli_gib(p->peak_bytes), cli_gib(p->host_bytes));
    else
        printf("memory: %.3f GiB at most, %.3f of them program, libraries and pictures\n",
               cli_gib(p->peak_bytes), cli_gib(p->process_bytes));
    printf("  %-12s %9s %12s %9s %9s   GiB\n", "stage", "weights", "activations", "scratch",
           "in all");
    for (int i = 0; i < p->n_stages; i++) {
        const cn_generate_stage *s = &p->stages[i];
        printf("  %-12s %9.3f %12.3f %9.3f %9.3f\n", s->name, cli_gib(s->weight_bytes),
               cli_gib(s->activation_bytes), cli_gib(s->scratch_bytes), cli_gib(s->total_bytes));
    }
    printf("computed in %s; weights kept in %s (text encoder), %s (UNet, ControlNets), %s (VAE)\n",
           p->compute_type, p->text_type, p->unet_type, p->vae_type);
    if (p->sequential_guidance) puts("guidance's halves in turn");
    if (p->vae_tile) printf("the VAE in tiles of %lld pixels\n", (long long)p->vae_tile);
}

/* --- the command ------------------------------------------------------------------------------ */

/* What the library's calls while drawing need. */
typedef struct drawing {
    cn_ctx *ctx;
    const request *request;
    cli_progress progress;
    double ready_s; /* from the program's start to the first step; 0 before it */
} drawing;

static void show_progress(void *user, const char *stage, int done, int total)
{
    drawing *d = user;
    if (!d->ready_s && strcmp(stage, "sampling") == 0) {
        d->ready_s = cli_running_s();
        cli_progress_end(&d->progress);
        if (d->request->verbose || d->progress.terminal)
            fprintf(stderr, "first step after %.2f s\n", d->ready_s);
    }
    cli_progress_show(&d->progress, stage, done, total);
}

/* One that can't be written is no reason to stop drawing; the folder was seen to be writable. */
static void save_preview(void *user, int done, int total, cn_image *const *images, int count)
{
    drawing *d = user;
    cn_image *grid = NULL;
    (void)done;
    (void)total;
    if (make_grid(d->ctx, images, count, &grid) != CN_OK ||
        cn_image_save_png(d->ctx, d->request->preview_path, grid, NULL) != CN_OK)
        cli_failed(d->ctx, "generate");
    cn_image_destroy(grid);
}

static int plan(cn_ctx *ctx, const request *r)
{
    cn_pipeline *pipeline = NULL;
    cn_generate_plan p;
    int status = CLI_DONE;
    if (cn_pipeline_create(ctx, &r->pipeline, &pipeline) != CN_OK ||
        cn_generate_dry_run(pipeline, &r->generate, &p) != CN_OK)
        status = cli_failed(ctx, "generate");
    else if (r->json)
        print_plan_json(&p);
    else
        print_plan(&p);
    cn_pipeline_destroy(pipeline);
    return status;
}

static int draw(cn_ctx *ctx, request *r)
{
    cn_pipeline *pipeline = NULL;
    cn_generated *result = NULL;
    drawing work = {.ctx = ctx, .request = r};
    cli_progress_init(&work.progress, false);
    r->generate.progress = show_progress;
    r->generate.user = &work;
    int status = CLI_DONE;
    if (cn_pipeline_create(ctx, &r->pipeline, &pipeline) != CN_OK ||
        cn_generate(pipeline, &r->generate, &result) != CN_OK) {
        cli_progress_end(&work.progress);
        status = cli_failed(ctx, "generate");
    } else {
        cli_progress_end(&work.progress);
        status = save_all(ctx, r, result, work.ready_s);
    }
    cn_generated_destroy(result);
    cn_pipeline_destroy(pipeline);
    return status;
}

/* The request's pictures. */
typedef struct pictures {
    cn_image *control[MAX_CONTROLS], *region[MAX_CONTROLS], *init, *mask, *reference;
} pictures;

static bool load(cn_ctx *ctx, const char *path, cn_image **out)
{
    return !path || cn_image_load(ctx, path, out) == CN_OK;
}

static bool load_mask(cn_ctx *ctx, const char *path, cn_image **out)
{
    return !path || cn_mask_load(ctx, path, out) == CN_OK;
}

static bool load_pictures(cn_ctx *ctx, const request *r, pictures *in)
{
    bool good = load(ctx, r->init, &in->init) && load_mask(ctx, r->mask, &in->mask) &&
                load(ctx, r->reference, &in->reference);
    for (int k = 0; good && k < r->n_controls; k++)
        good = load(ctx, r->controls[k].image, &in->control[k]) &&
               load_mask(ctx, r->controls[k].mask, &in->region[k]);
    return good;
}

static void free_pictures(pictures *in)
{
    for (int k = 0; k < MAX_CONTROLS; k++) {
        cn_image_destroy(in->control[k]);
        cn_image_destroy(in->region[k]);
    }
    cn_image_destroy(in->init);
    cn_image_destroy(in->mask);
    cn_image_destroy(in->reference);
}

/* Every control group's options with its pictures, in `all`, and those of the networks, which point
 * to their further conditions. */
static void join_controls(const request *r, const pictures *in, cn_control_options *all,
                          cn_control_options *controls)
{
    int n = 0;
    for (int k = 0; k < r->n_controls; k++) {
        all[k] = r->controls[k].o;
        all[k].image = in->control[k];
        all[k].mask = in->region[k];
        all[k].image_prompt = r->controls[k].ip_adapter != NULL;
    }
    for (int k = 0; k < r->n_controls; k++) {
        if (r->controls[k].net || r->controls[k].ip_adapter) {
            controls[n++] = all[k];
            continue;
        }
        cn_control_options *c = &controls[n - 1];
        if (!c->n_more++) c->more = &all[k];
    }
}

static int draw_with_images(cn_ctx *ctx, request *r)
{
    const char *nets[MAX_CONTROLS];
    cn_control_options all[MAX_CONTROLS], controls[MAX_CONTROLS];
    pictures in = {0};
    r->pipeline.loras = r->loras;
    r->pipeline.embeddings = r->embeddings;
    r->pipeline.controls = nets;
    r->pipeline.n_controls = 0;
    for (int k = 0; k < r->n_controls; k++) {
        const char *net = r->controls[k].net ? r->controls[k].net : r->controls[k].ip_adapter;
        if (net) nets[r->pipeline.n_controls++] = net;
    }
    int status = CLI_FAILED;
    if (load_pictures(ctx, r, &in)) {
        join_controls(r, &in, all, controls);
        r->generate.controls = controls;
        r->generate.init_image = in.init;
        r->generate.mask = in.mask;
        r->generate.reference = in.reference;
        if (is_previewed(r)) r->generate.preview = save_preview;
        r->generate.preview_by = r->preview;
        status = r->dry_run ? plan(ctx, r) : draw(ctx, r);
    } else {
        status = cli_failed(ctx, "generate");
    }
    free_pictures(&in);
    return status;
}

int generate_run(request *r)
{
    cn_ctx *ctx = cli_context_create("generate", r->threads);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    int status = draw_with_images(ctx, r);
    cli_context_destroy(ctx);
    return status;
}
