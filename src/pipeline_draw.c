/* pipeline_draw.c - cn_pipeline and cn_generate: from options to pictures.
 *
 * The three networks' stages follow one another (text, sampling, decoding), and unless keep_loaded is
 * set each one's weights are freed before the next one's are read, so the peak is that of the largest.
 * Whatever can be wrong with the options is found before the first weight is read.
 */
#include "annotate/resize.h"
#include "cpu/cpu.h"
#include "diffuse/draw.h"
#include "io/tensors.h"
#include "model/weights.h"
#include "pipeline_lora.h"
#include "pipeline_prompt.h"
#include "pipeline_text.h"

#include <math.h>
#include <string.h>

struct cn_pipeline {
    cn_ctx *ctx;
    cn_backend *backend;
    cn_base *base;
    cn_tokenizer *tokenizer;
    cn_inversions embeddings;
    cn_pipeline_loras loras;
    cn_control_file *controls[CN_MAX_CONTROLS];
    int n_controls;
    bool keep_loaded;
    /* NULL while not loaded */
    cn_params *text, *unet, *vae, *control[CN_MAX_CONTROLS];
    cn_draw *draw; /* over unet and control; kept for the next picture of the same sizes */
    cn_draw_spec drawn;
};

/* What cn_generate works out on its way; everything in it is freed at the end. */
typedef struct job {
    cn_pipeline *p;
    const cn_generate_options *o;
    int64_t width, height, latent_h, latent_w, latent_elements;
    bool guidance;
    cn_sampler *sampler;
    cn_rng rng;
    float *hints[CN_MAX_CONTROLS];
    char *prompt; /* without LoRAs' tags */
    cn_pictured_text text;
    float *latents;
    double sampling_s;
} job;

/* --- the pipeline ----------------------------------------------------------------------------------- */

static void unload_drawing(cn_pipeline *p)
{
    cn_draw_destroy(p->draw);
    p->draw = NULL;
    cn_params_destroy(p->unet);
    p->unet = NULL;
    for (int k = 0; k < CN_MAX_CONTROLS; k++) {
        cn_params_destroy(p->control[k]);
        p->control[k] = NULL;
    }
}

static void unload(cn_params **params)
{
    cn_params_destroy(*params);
    *params = NULL;
}

void cn_pipeline_destroy(cn_pipeline *p)
{
    if (!p) return;
    unload_drawing(p);
    unload(&p->text);
    unload(&p->vae);
    for (int k = 0; k < p->n_controls; k++) cn_control_close(p->controls[k]);
    cn_inversions_free(&p->embeddings);
    cn_pipeline_loras_close(&p->loras);
    cn_tokenizer_close(p->tokenizer);
    cn_base_close(p->base);
    if (p->backend) p->backend->destroy(p->backend);
    cn_free(p);
}

static cn_status check_base(cn_ctx *ctx, const cn_base *b)
{
    if (b->clip.hidden != b->unet.context_dim)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: the text encoder's features are %lld wide, the UNet expects %lld",
                       b->path, (long long)b->clip.hidden, (long long)b->unet.context_dim);
    if (b->unet.in_channels != b->vae.latent_channels)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: the UNet takes %lld channels, the VAE's latents have %lld; an "
                       "inpainting or editing model cannot draw from noise alone",
                       b->path, (long long)b->unet.in_channels, (long long)b->vae.latent_channels);
    return CN_OK;
}

static cn_status open_controls(cn_pipeline *p, const cn_pipeline_options *o)
{
    if (o->n_controls < 0 || o->n_controls > CN_MAX_CONTROLS)
        return cn_fail(p->ctx, CN_EINVAL, "%d ControlNets at once: at most %d are possible",
                       o->n_controls, CN_MAX_CONTROLS);
    int64_t factor = cn_vae_factor(&p->base->vae);
    for (int k = 0; k < o->n_controls; k++) {
        CN_TRY(cn_control_open(p->ctx, o->controls[k], &p->controls[k]));
        p->n_controls = k + 1;
        const cn_controlnet_config *c = &p->controls[k]->config;
        cn_status s = cn_control_fits(p->ctx, c, &p->base->unet);
        if (s != CN_OK) return cn_fail_prefix(p->ctx, s, "%s", o->controls[k]);
        if ((int64_t)1 << (c->hint_levels - 1) != factor)
            return cn_fail(p->ctx, CN_EMISMATCH,
                           "%s: its hint network shrinks the condition %lld times, the VAE's "
                           "latents need %lld times",
                           o->controls[k], (long long)1 << (c->hint_levels - 1), (long long)factor);
    }
    return CN_OK;
}

static cn_status open_embeddings(cn_pipeline *p, const cn_pipeline_options *o)
{
    int64_t width = p->base->clip.hidden;
    for (int i = 0; i < o->n_embeddings; i++)
        CN_TRY(cn_inversions_add(p->ctx, &p->embeddings, p->tokenizer, o->embeddings[i], width));
    if (!o->embeddings_dir) return CN_OK;
    return cn_inversions_add_dir(p->ctx, &p->embeddings, p->tokenizer, o->embeddings_dir, width);
}

cn_status cn_pipeline_create(cn_ctx *ctx, const cn_pipeline_options *o, cn_pipeline **out)
{
    if (!o->model) return cn_fail(ctx, CN_EINVAL, "no model was given");
    cn_pipeline *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->ctx = ctx;
    p->keep_loaded = o->keep_loaded;
    cn_status s = cn_backend_cpu_create(ctx, &p->backend);
    if (s == CN_OK) s = cn_base_open(ctx, o->model, &p->base);
    if (s == CN_OK && o->prediction) s = cn_base_set_prediction(ctx, p->base, o->prediction);
    if (s == CN_OK) s = check_base(ctx, p->base);
    if (s == CN_OK) s = cn_base_tokenizer(ctx, p->base, o->tokenizer, &p->tokenizer);
    if (s == CN_OK) s = open_embeddings(p, o);
    if (s == CN_OK) s = cn_pipeline_loras_open(ctx, p->base, o, &p->loras);
    if (s == CN_OK) s = open_controls(p, o);
    if (s != CN_OK) {
        cn_pipeline_destroy(p);
        return s;
    }
    *out = p;
    return CN_OK;
}

/* --- options ---------------------------------------------------------------------------------------- */

void cn_generate_defaults(cn_generate_options *o)
{
    *o = (cn_generate_options){
        .prompt = "", .negative_prompt = "", .batch = 1, .steps = 20, .cfg_scale = 7.5};
    o->sampler = cn_sampler_name(0);
}

const char *cn_generate_sampler(int i)
{
    return cn_sampler_name(i);
}

static cn_status check_options(const job *j)
{
    const cn_generate_options *o = j->o;
    cn_ctx *ctx = j->p->ctx;
    if (o->batch < 1 || o->batch > 1024)
        return cn_fail(ctx, CN_EINVAL, "a batch of %d: 1 to 1024 are possible", o->batch);
    if (!isfinite(o->cfg_scale))
        return cn_fail(ctx, CN_EINVAL, "guidance scale %g: a number is expected", o->cfg_scale);
    if (o->clip_skip < 0 || o->clip_skip >= j->p->base->clip.layers)
        return cn_fail(
            ctx, CN_EINVAL,
            "clip skip: %d of the text encoder's %d layers left out; 0 to %d are possible",
            o->clip_skip, j->p->base->clip.layers, j->p->base->clip.layers - 1);
    for (int k = 0; k < j->p->n_controls; k++) {
        const cn_control_options *c = &o->controls[k];
        if (!c->image)
            return cn_fail(ctx, CN_EINVAL, "%s: has no condition image", j->p->controls[k]->path);
        if (!isfinite(c->strength) || !(c->start >= 0 && c->end <= 1 && c->start <= c->end))
            return cn_fail(ctx, CN_EINVAL,
                           "control strength %g from %g to %g: the strength must be a number, 0 <= "
                           "start <= end <= 1",
                           c->strength, c->start, c->end);
    }
    return CN_OK;
}

static int64_t round_to(int64_t px, int64_t multiple)
{
    return CN_MAX(multiple, (px + multiple / 2) / multiple * multiple);
}

static cn_status choose_size(job *j)
{
    const cn_generate_options *o = j->o;
    const cn_base *b = j->p->base;
    int64_t factor = cn_vae_factor(&b->vae), w = o->width, h = o->height;
    if (w < 0 || h < 0 || w > CN_IMAGE_MAX_SIDE || h > CN_IMAGE_MAX_SIDE)
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "a picture of %lld x %lld: sides of 1 to %d pixels are possible",
                       (long long)w, (long long)h, (int)CN_IMAGE_MAX_SIDE);
    if (j->p->n_controls && (!w || !h)) {
        /* The condition's size; with one side given, its proportions. */
        const cn_image *c = o->controls[0].image;
        if (!w && !h) {
            w = c->width;
            h = c->height;
        } else if (!w)
            w = CN_MAX(1, (c->width * h + c->height / 2) / c->height);
        else
            h = CN_MAX(1, (c->height * w + c->width / 2) / c->width);
    }
    if (!w) w = b->unet.sample_size * factor;
    if (!h) h = b->unet.sample_size * factor;
    j->width = round_to(w, factor);
    j->height = round_to(h, factor);
    CN_TRY(cn_image_check_size(j->p->ctx, j->width, j->height));
    if (j->width != w || j->height != h)
        cn_log(j->p->ctx, CN_LOG_INFO, "%lld x %lld becomes %lld x %lld: sides are multiples of %d",
               (long long)w, (long long)h, (long long)j->width, (long long)j->height, (int)factor);
    j->latent_h = j->height / factor;
    j->latent_w = j->width / factor;
    j->latent_elements = o->batch * b->unet.in_channels * j->latent_h * j->latent_w;
    return CN_OK;
}

static cn_status prepare_hint(job *j, int k)
{
    const cn_control_options *c = &j->o->controls[k];
    cn_ctx *ctx = j->p->ctx;
    cn_image *sized = NULL, *made = NULL;
    const cn_image *image = c->image;
    cn_status s = CN_OK;
    if (image->width != j->width || image->height != j->height) {
        cn_log(ctx, CN_LOG_INFO,
               "condition image: %lld x %lld resized and cropped around its centre to %lld x %lld",
               (long long)image->width, (long long)image->height, (long long)j->width,
               (long long)j->height);
        s = cn_image_resize_cover(ctx, image, j->width, j->height, &sized);
        image = sized;
    }
    if (s == CN_OK && c->preprocessor && strcmp(c->preprocessor, "none") != 0) {
        s = cn_annotate_image(ctx, c->preprocessor, NULL, image, &made);
        image = made;
    }
    size_t n = (size_t)j->width * (size_t)j->height * 3;
    if (s == CN_OK && !(j->hints[k] = cn_alloc_array(ctx, n, sizeof(float)))) s = CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) j->hints[k][i] = (float)image->rgb[i] / 255.0f;
    cn_image_destroy(sized);
    cn_image_destroy(made);
    return s;
}

/* --- latents in and out ----------------------------------------------------------------------------- */

static cn_status read_latents(job *j, const cn_tensors *file)
{
    const char *path = j->o->init_latents;
    int64_t want[4] = {j->o->batch, j->p->base->unet.in_channels, j->latent_h, j->latent_w};
    const cn_tensor_info *t = cn_tensors_find(file, "latents");
    if (!t && cn_tensors_count(file) == 1) t = cn_tensors_at(file, 0);
    if (!t)
        return cn_fail(j->p->ctx, CN_EFORMAT,
                       "%s: holds %lld tensors and none is called \"latents\"", path,
                       (long long)cn_tensors_count(file));
    bool fits = t->ndim == 4;
    for (int i = 0; fits && i < 4; i++) fits = t->shape[i] == want[i];
    if (!fits)
        return cn_fail(
            j->p->ctx, CN_EMISMATCH,
            "%s: %s has %lld elements in %d dimensions; [%lld,%lld,%lld,%lld] is expected", path,
            t->name, (long long)t->elements, t->ndim, (long long)want[0], (long long)want[1],
            (long long)want[2], (long long)want[3]);
    return cn_tensors_read(j->p->ctx, file, t, j->latents);
}

/* The noise to start from. Generators of stochastic samplers go on where this draw ends. */
static cn_status start_latents(job *j)
{
    j->latents = cn_alloc_array(j->p->ctx, (size_t)j->latent_elements, sizeof(float));
    if (!j->latents) return CN_ENOMEM;
    cn_rng_seed(&j->rng, j->o->seed);
    if (j->o->init_latents) {
        cn_tensors *file = NULL;
        CN_TRY(cn_tensors_open(j->p->ctx, j->o->init_latents, &file));
        cn_status s = read_latents(j, file);
        cn_tensors_close(file);
        CN_TRY(s);
    } else {
        cn_rng_normal(&j->rng, j->latents, j->latent_elements);
    }
    float sigma = (float)cn_sampler_init_noise_sigma(j->sampler);
    for (int64_t i = 0; i < j->latent_elements; i++) j->latents[i] *= sigma;
    return CN_OK;
}

static cn_status save_latents(const job *j)
{
    cn_tensor_out t = {
        .name = "latents",
        .dtype = CN_F32,
        .ndim = 4,
        .shape = {j->o->batch, j->p->base->unet.in_channels, j->latent_h, j->latent_w},
        .data = j->latents};
    return cn_safetensors_write(j->p->ctx, j->o->save_latents, &t, 1, NULL, NULL, NULL);
}

/* --- stages ----------------------------------------------------------------------------------------- */

static void report(const job *j, const char *stage, int done, int total)
{
    if (j->o->progress) j->o->progress(j->o->user, stage, done, total);
}

static cn_status load_text(void *user, cn_params *params)
{
    cn_pipeline *p = user;
    return cn_base_load(p->ctx, p->base, p->backend, params);
}

static cn_status encode_text(job *j)
{
    cn_pipeline *p = j->p;
    report(j, "text", 0, 1);
    if (!p->text) CN_TRY(cn_params_create(p->ctx, "text_encoder", &p->text));
    cn_prompt_job prompts = {.options = j->o,
                             .prompt = j->prompt,
                             .guidance = j->guidance,
                             .embeddings = &p->embeddings,
                             .text = {.clip = &p->base->clip,
                                      .params = p->text,
                                      .tokenizer = p->tokenizer,
                                      .load = load_text,
                                      .user = p}};
    cn_status s = cn_prompts_encode(p->ctx, p->backend, &prompts, &j->text);
    if (!p->keep_loaded || s != CN_OK) unload(&p->text);
    if (s == CN_OK) report(j, "text", 1, 1);
    return s;
}

static bool same_drawing(const cn_draw_spec *a, const cn_draw_spec *b)
{
    return a->batch == b->batch && a->latent_h == b->latent_h && a->latent_w == b->latent_w &&
           a->guidance == b->guidance && a->context_length == b->context_length;
}

/* Plans for this picture's sizes; reads the weights unless they are there. */
static cn_status load_drawing(job *j)
{
    cn_pipeline *p = j->p;
    bool fresh = !p->unet;
    cn_draw_spec spec = {.unet = &p->base->unet,
                         .n_controls = p->n_controls,
                         .batch = j->o->batch,
                         .latent_h = j->latent_h,
                         .latent_w = j->latent_w,
                         .context_length = j->text.length,
                         .guidance = j->guidance};
    if (p->draw && same_drawing(&p->drawn, &spec)) return CN_OK;
    cn_draw_destroy(p->draw);
    p->draw = NULL;
    if (fresh) CN_TRY(cn_params_create(p->ctx, "unet", &p->unet));
    for (int k = 0; k < p->n_controls; k++) {
        if (fresh) CN_TRY(cn_params_create(p->ctx, "controlnet", &p->control[k]));
        spec.controls[k] = (cn_draw_control){&p->controls[k]->config, p->control[k]};
    }
    spec.unet_params = p->unet;
    CN_TRY(cn_draw_create(p->ctx, p->backend, &spec, &p->draw));
    p->drawn = spec;
    if (!fresh) return CN_OK;
    CN_TRY(cn_base_load(p->ctx, p->base, p->backend, p->unet));
    for (int k = 0; k < p->n_controls; k++)
        CN_TRY(cn_control_load(p->ctx, p->controls[k], p->backend, p->control[k]));
    return CN_OK;
}

static void report_step(void *user, int done, int steps)
{
    report(user, "sampling", done, steps);
}

static cn_status check_latents(const job *j)
{
    for (int64_t i = 0; i < j->latent_elements; i++)
        if (!isfinite(j->latents[i]))
            return cn_fail(j->p->ctx, CN_EFORMAT,
                           "%s: sampling ended in values that are no numbers; the weights of the "
                           "model or the ControlNet are damaged",
                           j->p->base->path);
    return CN_OK;
}

static cn_status sample(job *j)
{
    cn_pipeline *p = j->p;
    cn_draw_args a = {.cond = j->text.cond.features,
                      .uncond = j->text.uncond.features,
                      .cond_stages = {j->text.cond.until, j->text.cond.n},
                      .uncond_stages = {j->text.uncond.until, j->text.uncond.n},
                      .cfg_scale = j->o->cfg_scale,
                      .latents = j->latents,
                      .rng = &j->rng,
                      .progress = report_step,
                      .user = j};
    for (int k = 0; k < p->n_controls; k++) {
        const cn_control_options *c = &j->o->controls[k];
        a.hints[k] = (cn_draw_hint){j->hints[k], c->strength, c->start, c->end};
    }
    cn_status s = load_drawing(j);
    if (s == CN_OK) {
        report(j, "sampling", 0, cn_sampler_steps(j->sampler));
        double begun = cn_now_s();
        s = cn_draw_run(p->draw, j->sampler, &a);
        j->sampling_s = cn_now_s() - begun;
    }
    if (s == CN_OK) s = check_latents(j);
    if (!p->keep_loaded || s != CN_OK) unload_drawing(p);
    return s;
}

static cn_status decode_all(job *j, cn_decode *d, cn_generated *g)
{
    int64_t one = j->latent_elements / j->o->batch;
    for (int i = 0; i < g->count; i++) {
        report(j, "decoding", i, g->count);
        CN_TRY(cn_image_create(j->p->ctx, j->width, j->height, &g->images[i]));
        CN_TRY(cn_decode_run(d, j->latents + i * one, g->images[i]->rgb));
    }
    report(j, "decoding", g->count, g->count);
    return CN_OK;
}

static cn_status decode(job *j, cn_generated *g)
{
    cn_pipeline *p = j->p;
    cn_decode *d = NULL;
    bool fresh = !p->vae;
    if (fresh) CN_TRY(cn_params_create(p->ctx, "vae", &p->vae));
    cn_status s =
        cn_decode_create(p->ctx, p->backend, &p->base->vae, p->vae, j->latent_h, j->latent_w, &d);
    if (s == CN_OK && fresh) s = cn_base_load(p->ctx, p->base, p->backend, p->vae);
    if (s == CN_OK) s = decode_all(j, d, g);
    cn_decode_destroy(d);
    if (!p->keep_loaded || s != CN_OK) unload(&p->vae);
    return s;
}

/* The LoRAs that the prompt names; weights with others merged in are let go. */
static cn_status choose_loras(job *j, bool webui)
{
    cn_pipeline *p = j->p;
    bool changed = false;
    CN_TRY(cn_pipeline_loras_choose(p->ctx, p->base, &p->loras, j->o->prompt ? j->o->prompt : "",
                                    webui, &j->prompt, &changed));
    if (!changed) return CN_OK;
    unload_drawing(p);
    unload(&p->text);
    return CN_OK;
}

/* --- all of it -------------------------------------------------------------------------------------- */

static cn_status prepare(job *j)
{
    cn_pipeline *p = j->p;
    cn_prompt_style style;
    CN_TRY(check_options(j));
    CN_TRY(cn_prompt_style_find(p->ctx, j->o->prompt_style, &style));
    CN_TRY(choose_loras(j, style == CN_PROMPT_WEBUI));
    CN_TRY(cn_base_settle_prediction(p->ctx, p->base, p->backend));
    CN_TRY(choose_size(j));
    CN_TRY(cn_sampler_create(p->ctx, j->o->sampler, &p->base->schedule, j->o->steps, &j->sampler));
    CN_TRY(start_latents(j));
    for (int k = 0; k < p->n_controls; k++) CN_TRY(prepare_hint(j, k));
    return CN_OK;
}

static cn_status make_result(job *j, cn_generated *g)
{
    cn_ctx *ctx = j->p->ctx;
    size_t n = (size_t)j->o->batch;
    g->width = j->width;
    g->height = j->height;
    g->sampling_s = j->sampling_s;
    g->prompt = j->text.prompt;
    g->negative = j->text.negative;
    j->text.prompt.cut_text = j->text.negative.cut_text = NULL; /* they go with the result */
    g->images = cn_alloc0(ctx, n * sizeof *g->images);
    g->parameters = cn_alloc0(ctx, n * sizeof *g->parameters);
    if (!g->images || !g->parameters) return CN_ENOMEM;
    g->count = j->o->batch;
    const char *controls[CN_MAX_CONTROLS];
    for (int k = 0; k < j->p->n_controls; k++) controls[k] = j->p->controls[k]->path;
    for (int i = 0; i < g->count; i++) {
        cn_parameters_text t = {.options = j->o,
                                .model = j->p->base->path,
                                .controls = controls,
                                .n_controls = j->p->n_controls,
                                .width = j->width,
                                .height = j->height,
                                .index = i};
        CN_TRY(cn_parameters_write(ctx, &t, &g->parameters[i]));
    }
    return decode(j, g);
}

static void job_free(job *j)
{
    cn_sampler_destroy(j->sampler);
    for (int k = 0; k < CN_MAX_CONTROLS; k++) cn_free(j->hints[k]);
    cn_pictured_text_free(&j->text);
    cn_free(j->prompt);
    cn_free(j->latents);
}

cn_status cn_generate(cn_pipeline *p, const cn_generate_options *options, cn_generated **out)
{
    job j = {.p = p, .o = options, .guidance = options->cfg_scale > 1};
    cn_generated *g = cn_alloc0(p->ctx, sizeof *g);
    cn_status s = g ? prepare(&j) : CN_ENOMEM;
    if (s == CN_OK) s = encode_text(&j);
    if (s == CN_OK) s = sample(&j);
    if (s == CN_OK) s = make_result(&j, g);
    if (s == CN_OK && options->save_latents) s = save_latents(&j);
    job_free(&j);
    if (s != CN_OK) {
        cn_generated_destroy(g);
        return s;
    }
    *out = g;
    return CN_OK;
}

void cn_generated_destroy(cn_generated *g)
{
    if (!g) return;
    for (int i = 0; i < g->count; i++) {
        cn_image_destroy(g->images[i]);
        cn_free(g->parameters[i]);
    }
    cn_free(g->images);
    cn_free(g->parameters);
    cn_free(g->prompt.cut_text);
    cn_free(g->negative.cut_text);
    cn_free(g);
}
