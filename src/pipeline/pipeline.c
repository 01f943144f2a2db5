/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline.c - cn_pipeline and cn_generate: from options to pictures.
 *
 * The three networks' stages follow one another (text, sampling, decoding), and unless keep_loaded
 * is set each one's weights are freed before the next one's are read, so the peak is that of the
 * largest. Whatever can be wrong with the options is found before the first weight is read.
 */
#include "pipeline/pipeline_internal.h"

#include "base/option.h"
#include "device/device.h"
#include "pipeline/infotext.h"

/* --- the pipeline ----------------------------------------------------------------------------- */

static void unload_all(cn_pipeline *p)
{
    cn_pipeline_unload(p);
    cn_pipeline_unload_text(p);
    cn_params_unload(&p->vae);
    cn_params_unload(&p->vision_params);
}

int64_t cn_pipeline_size_px(const cn_pipeline *p)
{
    return p->base->unet.sample_size * cn_vae_factor(&p->base->vae);
}

size_t cn_pipeline_loaded_bytes(const cn_pipeline *p)
{
    const cn_params *sets[3 + CN_MAX_TEXT_ENCODERS + 2 * CN_MAX_CONTROLS] = {p->unet, p->vae,
                                                                             p->vision_params};
    size_t bytes = 0;
    int n = 3;
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) sets[n++] = p->text[k];
    for (int k = 0; k < CN_MAX_CONTROLS; k++) {
        sets[n++] = p->control[k];
        sets[n++] = p->kept_controls[k].params;
    }
    for (int i = 0; i < n; i++) bytes += sets[i] ? cn_params_bytes(sets[i]) : 0;
    if (p->draw) {
        cn_plan_info info;
        cn_draw_info(p->draw, &info);
        bytes += info.arena_bytes;
    }
    return bytes;
}

void cn_pipeline_share_memory(cn_pipeline *p, size_t others_bytes)
{
    p->others_bytes = others_bytes;
}

void cn_pipeline_destroy(cn_pipeline *p)
{
    if (!p) return;
    cn_pipeline_destroy(p->refiner);
    unload_all(p);
    cn_pipeline_close_controls(p);
    cn_pipeline_drop_annotators(p);
    cn_pipeline_loras_close(&p->loras);
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) {
        cn_inversions_free(&p->embeddings[k]);
        cn_tokenizer_close(p->tokenizers[k]);
    }
    cn_vae_file_close(p->preview_vae);
    cn_vision_file_close(p->vision);
    cn_base_close(p->base);
    if (p->backend) p->backend->destroy(p->backend);
    cn_free(p);
}

static cn_status check_base(cn_ctx *ctx, const cn_base *b)
{
    CN_TRY(cn_base_check_context(ctx, b));
    int64_t in = b->unet.in_channels, latent = b->vae.latent_channels;
    if (b->unet.out_channels != latent || (in != latent && in != 2 * latent + 1))
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: the UNet takes %lld channels and gives %lld, the VAE's latents have "
                       "%lld: neither a model that draws from noise nor an inpainting model",
                       b->path, (long long)in, (long long)b->unet.out_channels, (long long)latent);
    return CN_OK;
}

/* The tokenizer of text encoder k and the words that are added to it. */
static cn_status open_text(cn_pipeline *p, const cn_pipeline_options *o, int k)
{
    const int64_t width = p->base->text[k].hidden;
    const char *part = cn_family_find(cn_family_of(p->base), cn_net_text(k))->embedding;
    CN_TRY(cn_base_tokenizer(p->ctx, p->base, k, o->tokenizer, &p->tokenizers[k]));
    for (int i = 0; i < o->n_embeddings; i++)
        CN_TRY(cn_inversions_add(p->ctx, &p->embeddings[k], p->tokenizers[k], o->embeddings[i],
                                 part, width));
    if (!o->embeddings_dir) return CN_OK;
    return cn_inversions_add_dir(p->ctx, &p->embeddings[k], p->tokenizers[k], o->embeddings_dir,
                                 part, width);
}

/* The words that LoRAs from number `first` on bring along. */
static cn_status add_bundled(cn_pipeline *p, int first)
{
    for (int k = 0; k < cn_family_of(p->base)->n_text; k++)
        for (int i = first; i < p->loras.set.n; i++) {
            const char *path;
            const cn_tensors *file = cn_lora_file(&p->loras.set, i, &path);
            CN_TRY(cn_inversions_add_bundled(p->ctx, &p->embeddings[k], p->tokenizers[k], file,
                                             path, p->base->text[k].hidden));
        }
    return CN_OK;
}

cn_status cn_pipeline_create(cn_ctx *ctx, const cn_pipeline_options *o, cn_pipeline **out)
{
    CN_TRY(cn_options_check(ctx, cn_pipeline_option_rows, o));
    cn_pipeline *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->ctx = ctx;
    p->max_memory_bytes = o->max_memory_bytes;
    cn_status s = cn_backend_create(ctx, o->device, &p->backend);
    if (s == CN_OK) s = cn_pipeline_precision(p, o);
    if (s == CN_OK) s = cn_base_open_with(ctx, o->model, o->vae, &p->base);
    if (s == CN_OK && o->prediction) s = cn_base_set_prediction(ctx, p->base, o->prediction);
    if (s == CN_OK) s = check_base(ctx, p->base);
    if (s == CN_OK) s = cn_preview_open(ctx, p->base, o->preview_model, &p->preview_vae);
    if (s == CN_OK && o->image_encoder) s = cn_vision_file_open(ctx, o->image_encoder, &p->vision);
    for (int k = 0; s == CN_OK && k < cn_family_of(p->base)->n_text; k++) s = open_text(p, o, k);
    if (s == CN_OK) s = cn_pipeline_loras_open(ctx, p->base, o, &p->loras);
    if (s == CN_OK) s = add_bundled(p, 0);
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) p->n_own_embeddings[k] = p->embeddings[k].n;
    if (s == CN_OK) s = cn_pipeline_set_controls(p, o->controls, o->n_controls);
    if (s == CN_OK) s = cn_pipeline_open_refiner(p, o);
    if (s != CN_OK) {
        cn_pipeline_destroy(p);
        return s;
    }
    *out = p;
    return CN_OK;
}

/* --- samplers --------------------------------------------------------------------------------- */

const char *cn_generate_sampler(int i)
{
    const cn_sampler_kind *kind = cn_sampler_kind_at(i);
    return kind ? kind->name : NULL;
}

const char *cn_generate_scheduler(int i)
{
    const cn_sigma_schedule *schedule = cn_sigma_schedule_at(i - 1);
    return i == 0 ? "default" : schedule ? schedule->name : NULL;
}

const char *cn_generate_sampler_named(const char *name)
{
    const cn_sampler_kind *kind = cn_sampler_find(name, NULL);
    return kind ? kind->name : NULL;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* The LoRAs that the prompt names; weights with others merged in are let go. */
static cn_status choose_loras(cn_job *j, bool webui)
{
    cn_pipeline *p = j->p;
    bool changed = false;
    CN_TRY(cn_pipeline_loras_choose(p->ctx, p->base, &p->loras, j->o->prompt ? j->o->prompt : "",
                                    webui, &j->prompt, &changed));
    if (!changed) return CN_OK;
    cn_pipeline_unload(p);
    cn_pipeline_unload_text(p);
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++)
        cn_inversions_truncate(&p->embeddings[k], p->n_own_embeddings[k]);
    return add_bundled(p, p->loras.n_fixed);
}

static cn_status seed_job(cn_job *j)
{
    const int n = j->o->seeds ? j->o->batch : 1;
    j->rngs = cn_alloc_array(j->p->ctx, (size_t)n, sizeof *j->rngs);
    for (int i = 0; j->rngs && i < n; i++)
        cn_rng_seed(&j->rngs[i], j->o->seeds ? j->o->seeds[i] : j->o->seed);
    return j->rngs ? CN_OK : CN_ENOMEM;
}

static cn_status prepare(cn_job *j)
{
    cn_pipeline *p = j->p;
    cn_prompt_style style;
    int64_t width, height;
    j->fit = cn_job_fit_asked(j);
    CN_TRY(cn_job_choose_kinds(j));
    CN_TRY(cn_job_check(j));
    CN_TRY(seed_job(j));
    CN_TRY(cn_prompt_style_find(p->ctx, j->o->prompt_style, &style));
    CN_TRY(choose_loras(j, style == CN_PROMPT_WEBUI));
    CN_TRY(cn_base_settle_prediction(p->ctx, p->base, p->backend));
    CN_TRY(cn_job_size(j, &width, &height));
    CN_TRY(cn_job_mask(j, width, height));
    CN_TRY(cn_pass_open(j, width, height, j->o->steps, j->strength, &j->pass));
    CN_TRY(cn_pass_image(j, &j->pass));
    if (j->o->init_latents) CN_TRY(cn_pass_noise(j, &j->pass));
    const cn_prompt_job prompt = cn_job_prompt(j, NULL);
    CN_TRY(cn_prompts_read(p->ctx, &prompt, &j->prompts));
    return cn_job_open_refiner(j);
}

static cn_status describe(const cn_job *j, cn_generated *g)
{
    const char *controls[CN_MAX_CONTROLS];
    for (int k = 0; k < j->p->n_controls; k++) controls[k] = j->p->controls[k]->path;
    const cn_sigma_schedule *sigmas = j->pass.sampler->sigma_schedule;
    const cn_vae_file *vae = j->p->base->other_vae;
    for (int i = 0; i < g->count; i++) {
        cn_generate_options alone = *j->o;
        if (alone.seeds) {
            alone.seed = alone.seeds[i];
            alone.batch = 1;
        }
        cn_parameters_text t = {.options = &alone,
                                .model = j->p->base->path,
                                .vae = vae ? vae->path : NULL,
                                .refiner = j->refinement ? j->p->refiner->base->path : NULL,
                                .controls = controls,
                                .preprocessors = j->kinds,
                                .n_controls = j->p->n_controls,
                                .width = j->pass.width,
                                .height = j->pass.height,
                                .schedule_type = sigmas ? sigmas->title : NULL,
                                .strength = j->o->init_image ? j->strength : j->hires_strength,
                                .index = i};
        CN_TRY(cn_parameters_write(j->p->ctx, &t, &g->parameters[i]));
    }
    return CN_OK;
}

static cn_status open_result(cn_job *j, cn_generated *g)
{
    size_t n = (size_t)j->o->batch;
    g->images = cn_alloc0(j->p->ctx, n * sizeof *g->images);
    g->parameters = cn_alloc0(j->p->ctx, n * sizeof *g->parameters);
    if (!g->images || !g->parameters) return CN_ENOMEM;
    g->count = j->o->batch;
    return describe(j, g);
}

/* Under a limit, which a device's memory always is; says what had to be given up for it. */
static cn_status fit_memory(cn_job *j)
{
    cn_generate_plan plan;
    if (!j->p->max_memory_bytes && j->p->backend->addressable) return CN_OK;
    CN_TRY(cn_job_plan(j, &plan));
    if (!j->fit.keep) unload_all(j->p);
    if (!j->fit.keep && j->p->refiner) unload_all(j->p->refiner);
    return CN_OK;
}

static cn_status draw(cn_job *j, cn_generated *g)
{
    CN_TRY(prepare(j));
    CN_TRY(fit_memory(j));
    CN_TRY(open_result(j, g));
    CN_TRY(cn_job_encode_text(j));
    CN_TRY(cn_job_encode_images(j));
    CN_TRY(cn_job_begin(j));
    CN_TRY(cn_job_sample(j, "sampling"));
    CN_TRY(cn_job_refine(j));
    if (j->o->hires_scale > 1) {
        CN_TRY(cn_job_enlarge(j));
        CN_TRY(cn_job_sample(j, "second pass"));
    }
    CN_TRY(cn_job_decode(j, g->images));
    CN_TRY(cn_job_overlay(j, g->images));
    CN_TRY(cn_pass_conditions(j, g));
    return j->o->save_latents ? cn_job_save_latents(j) : CN_OK;
}

static void take_result(cn_job *j, double begun, cn_generated *g)
{
    g->width = g->images[0]->width;
    g->height = g->images[0]->height;
    g->sampling_s = j->sampling_s;
    g->text_s = j->text_s;
    g->encoding_s = j->encoding_s;
    g->decoding_s = j->decoding_s;
    g->total_s = cn_now_s() - begun;
    g->planned_bytes = j->planned_bytes;
    g->peak_resident_bytes = cn_peak_resident_bytes();
    cn_backend_memory memory;
    j->p->backend->memory(j->p->backend, &memory);
    g->peak_device_bytes = memory.most;
    g->prompt = j->text.prompt;
    g->negative = j->text.negative;
    j->text.prompt.cut_text = j->text.negative.cut_text = NULL; /* they go with the result */
}

static cn_job job_of(cn_pipeline *p, const cn_generate_options *o)
{
    cn_job j = {
        .p = p, .o = o, .guidance = o->cfg_scale > 1 && !p->base->unet.guidance_dim, .strength = 1};
    if (o->init_image) j.strength = o->strength != 0 ? o->strength : o->mask ? 1 : 0.75;
    j.hires_strength = o->hires_strength > 0 ? o->hires_strength : 0.7;
    j.from_noise = !o->init_image || (o->mask && !cn_job_keeps_pixels(&j) && j.strength == 1);
    return j;
}

static void job_close(cn_job *j)
{
    cn_job_close_refiner(j);
    cn_pass_close(&j->pass);
    cn_prompts_destroy(j->prompts);
    cn_pictured_text_free(&j->text);
    cn_job_free_images(j);
    cn_free(j->soft_mask);
    cn_free(j->rngs);
    cn_free(j->prompt);
}

cn_status cn_generate(cn_pipeline *p, const cn_generate_options *options, cn_generated **out)
{
    double begun = cn_now_s();
    cn_job j = job_of(p, options);
    cn_generated *g = cn_alloc0(p->ctx, sizeof *g);
    cn_status s = g ? draw(&j, g) : CN_ENOMEM;
    if (s == CN_OK) take_result(&j, begun, g);
    job_close(&j);
    if (s != CN_OK) {
        cn_generated_destroy(g);
        return s;
    }
    *out = g;
    return CN_OK;
}

cn_status cn_generate_dry_run(cn_pipeline *p, const cn_generate_options *options,
                              cn_generate_plan *out)
{
    cn_job j = job_of(p, options);
    cn_status s = prepare(&j);
    if (s == CN_OK) s = cn_job_plan(&j, out);
    job_close(&j);
    return s;
}

void cn_generated_destroy(cn_generated *g)
{
    if (!g) return;
    for (int i = 0; i < g->count; i++) {
        cn_image_destroy(g->images[i]);
        cn_free(g->parameters[i]);
    }
    for (int k = 0; k < g->n_conditions; k++) cn_image_destroy(g->conditions[k]);
    cn_free(g->conditions);
    cn_free(g->images);
    cn_free(g->parameters);
    cn_free(g->prompt.cut_text);
    cn_free(g->negative.cut_text);
    cn_free(g);
}
