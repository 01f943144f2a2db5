/* SPDX-License-Identifier: Apache-2.0 */
/* stages.c - a drawing's stages: text, initial image to latents, sampling, a larger second pass,
 * latents to pictures.
 *
 * Each stage reads the weights it needs and, unless keep_loaded is set, lets them go at its end.
 * Random draws come in the order of diffusers' pipelines: the initial image's sample, the noise,
 * the masked image's sample.
 */
#include "image/resize.h"
#include "pipeline/pipeline_internal.h"

#include <math.h>
#include <string.h>

void cn_job_report(const cn_job *j, const char *stage, int done, int total)
{
    if (j->o->progress) j->o->progress(j->o->user, stage, done, total);
}

void cn_pipeline_unload_text(cn_pipeline *p)
{
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) cn_params_unload(&p->text[k]);
}

void cn_pipeline_unload(cn_pipeline *p)
{
    cn_draw_destroy(p->draw);
    p->draw = NULL;
    cn_params_unload(&p->unet);
    for (int k = 0; k < CN_MAX_CONTROLS; k++) cn_params_unload(&p->control[k]);
    cn_pipeline_unload_kept(p);
}

/* Whether weights are good for nothing more: none are to be kept, or the call failed. A cancel
 * leaves what was loaded as it is. */
static bool lets_go(const cn_job *j, cn_status s)
{
    return !j->fit.keep || (s != CN_OK && s != CN_ECANCELLED);
}

/* --- text ------------------------------------------------------------------------------------- */

static cn_status load_text(void *user, cn_params *params)
{
    cn_pipeline *p = user;
    return cn_base_load(p->ctx, p->base, p->backend, params);
}

cn_prompt_job cn_job_prompt(const cn_job *j, cn_params *const *text)
{
    cn_pipeline *p = j->p;
    cn_prompt_job job = {
        .options = j->o,
        .prompt = j->prompt,
        .guidance = j->guidance,
        .zeros_for_no_negative = p->base->zeros_for_no_negative,
        .text = {.n = cn_family_of(p->base)->n_text, .load = load_text, .user = p}};
    for (int k = 0; k < job.text.n; k++)
        job.text.encoders[k] = (cn_text_encoder){.clip = &p->base->text[k],
                                                 .params = text ? text[k] : NULL,
                                                 .tokenizer = p->tokenizers[k],
                                                 .embeddings = &p->embeddings[k]};
    return job;
}

cn_status cn_job_encode_text(cn_job *j)
{
    cn_pipeline *p = j->p;
    cn_status s = CN_OK;
    double begun = cn_now_s();
    cn_job_report(j, "text", 0, 1);
    for (int k = 0; s == CN_OK && k < cn_family_of(p->base)->n_text; k++)
        if (!p->text[k]) s = cn_pipeline_network(p, &j->fit, cn_net_text(k), 0, &p->text[k]);
    cn_prompt_job prompt = cn_job_prompt(j, p->text);
    if (s == CN_OK) s = cn_prompts_encode(p->ctx, p->backend, &prompt, j->prompts, &j->text);
    if (!j->fit.keep || s != CN_OK) cn_pipeline_unload_text(p);
    if (s == CN_OK) cn_job_report(j, "text", 1, 1);
    j->text_s = cn_now_s() - begun;
    return s;
}

/* --- the VAE ---------------------------------------------------------------------------------- */

cn_vae_spec cn_job_vae_spec(const cn_job *j, const cn_pass *pass, cn_params *vae)
{
    return (cn_vae_spec){.config = &j->p->base->vae,
                         .params = vae,
                         .latent_h = pass->latent_h,
                         .latent_w = pass->latent_w,
                         .tile = j->fit.vae_tile};
}

void cn_vae_spec_of_image(const cn_job *j, const cn_pass *pass, cn_vae_spec *spec)
{
    const int64_t factor = cn_vae_factor(&j->p->base->vae);
    if (!pass->image || !cn_job_resizes_latents(j)) return;
    spec->latent_h = pass->image_h / factor;
    spec->latent_w = pass->image_w / factor;
}

static cn_status vae_spec(cn_job *j, const cn_pass *pass, cn_vae_spec *out)
{
    cn_pipeline *p = j->p;
    if (!p->vae) CN_TRY(cn_pipeline_network(p, &j->fit, CN_NET_VAE, 0, &p->vae));
    *out = cn_job_vae_spec(j, pass, p->vae);
    return CN_OK;
}

/* One half may have been loaded for an earlier stage and the other not. */
static cn_status load_vae(cn_pipeline *p)
{
    return cn_params_loaded(p->vae) ? CN_OK : cn_base_load(p->ctx, p->base, p->backend, p->vae);
}

static void leave_vae(const cn_job *j, cn_status s)
{
    if (lets_go(j, s)) cn_params_unload(&j->p->vae);
}

static cn_status open_encoder(cn_job *j, const cn_pass *pass, cn_encode **out)
{
    cn_vae_spec spec;
    CN_TRY(vae_spec(j, pass, &spec));
    cn_vae_spec_of_image(j, pass, &spec);
    CN_TRY(cn_encode_create(j->p->ctx, j->p->backend, &spec, out));
    return load_vae(j->p);
}

static cn_status open_decoder(cn_job *j, cn_decode **out)
{
    cn_vae_spec spec;
    CN_TRY(vae_spec(j, &j->pass, &spec));
    CN_TRY(cn_decode_create(j->p->ctx, j->p->backend, &spec, out));
    return load_vae(j->p);
}

static cn_status decode_images(cn_job *j, cn_decode *d, cn_image **images)
{
    int n = j->o->batch;
    for (int i = 0; i < n; i++) {
        cn_job_report(j, "decoding", i, n);
        CN_TRY(cn_image_create(j->p->ctx, j->pass.width, j->pass.height, &images[i]));
        CN_TRY(cn_decode_run(d, j->pass.latents + i * j->pass.one, images[i]->rgb));
    }
    cn_job_report(j, "decoding", n, n);
    return CN_OK;
}

cn_status cn_job_decode(cn_job *j, cn_image **images)
{
    cn_decode *d = NULL;
    double begun = cn_now_s();
    cn_status s = open_decoder(j, &d);
    if (s == CN_OK) s = decode_images(j, d, images);
    cn_decode_destroy(d);
    leave_vae(j, s);
    j->decoding_s += cn_now_s() - begun;
    return s;
}

/* --- the first latents ------------------------------------------------------------------------ */

static cn_status new_floats(cn_job *j, int64_t n, float **out)
{
    *out = cn_alloc_array(j->p->ctx, (size_t)n, sizeof **out);
    return *out ? CN_OK : CN_ENOMEM;
}

/* Planes of latents to another size, bilinear without smoothing, as stable-diffusion-webui's
 * "Latent" and "Just resize (latent upscale)". */
static cn_status resize_planes(cn_job *j, cn_resize_spec size, const float *in, int64_t planes,
                               float *out)
{
    const int64_t from = size.in_h * size.in_w, to = size.out_h * size.out_w;
    size.filter = CN_FILTER_LINEAR;
    size.channels = 1;
    for (int64_t i = 0; i < planes; i++)
        CN_TRY(cn_resize_f32(j->p->ctx, &size, in + i * from, out + i * to));
    return CN_OK;
}

/* A sample of the image's latents to pass->picture, through its own size where that is another. */
static cn_status encode_image(cn_job *j, cn_pass *pass, cn_encode *e, float *sample)
{
    const int64_t factor = cn_vae_factor(&j->p->base->vae), C = j->p->base->vae.latent_channels;
    const cn_resize_spec size = {.in_h = pass->image_h / factor,
                                 .in_w = pass->image_w / factor,
                                 .out_h = pass->latent_h,
                                 .out_w = pass->latent_w};
    const int64_t own = C * size.in_h * size.in_w;
    if (!cn_job_resizes_latents(j)) {
        cn_rng_normal(j->rngs, sample, pass->one);
        return cn_encode_run(e, pass->image, sample, pass->picture);
    }
    float *noise = NULL, *latents = NULL;
    cn_status s = new_floats(j, own, &noise);
    if (s == CN_OK) s = new_floats(j, own, &latents);
    if (s == CN_OK) {
        cn_rng_normal(j->rngs, noise, own);
        s = cn_encode_run(e, pass->image, noise, latents);
    }
    if (s == CN_OK) s = resize_planes(j, size, latents, C, pass->picture);
    cn_free(noise);
    cn_free(latents);
    return s;
}

/* pass->picture: one sample of the image, the same for the whole batch. */
static cn_status encode_picture(cn_job *j, cn_pass *pass, cn_encode *e, float *sample)
{
    CN_TRY(new_floats(j, pass->elements, &pass->picture));
    CN_TRY(encode_image(j, pass, e, sample));
    for (int b = 1; b < j->o->batch; b++)
        memcpy(pass->picture + b * pass->one, pass->picture, (size_t)pass->one * sizeof(float));
    return CN_OK;
}

/* Every latent has the mask of its first pixel. */
static cn_status shrink_mask(cn_job *j, cn_pass *pass)
{
    CN_TRY(new_floats(j, pass->latent_h * pass->latent_w, &pass->small_mask));
    int64_t factor = pass->width / pass->latent_w;
    for (int64_t y = 0; y < pass->latent_h; y++)
        for (int64_t x = 0; x < pass->latent_w; x++)
            pass->small_mask[y * pass->latent_w + x] =
                pass->mask[y * factor * pass->width + x * factor];
    return CN_OK;
}

/* What an inpainting UNet sees beside the latents: mask, and the image without what is to be
 * drawn. */
static cn_status encode_masked(cn_job *j, cn_pass *pass, cn_encode *e, const float *sample)
{
    int64_t pixels = pass->width * pass->height, latents = pass->latent_h * pass->latent_w;
    CN_TRY(new_floats(j, latents + pass->one, &pass->extra));
    memcpy(pass->extra, pass->small_mask, (size_t)latents * sizeof(float));
    for (int64_t i = 0; i < 3 * pixels; i++)
        if (pass->mask[i / 3] != 0) pass->image[i] = 0;
    return cn_encode_run(e, pass->image, sample, pass->extra + latents);
}

static bool needs_picture(const cn_job *j)
{
    return j->pass.image && !(j->from_noise && cn_job_inpaints(j));
}

/* All draws, in order. e is NULL where nothing is encoded, sample has room for one picture's
 * latents. */
static cn_status draw_start(cn_job *j, cn_pass *pass, cn_encode *e, float *sample)
{
    if (needs_picture(j)) CN_TRY(encode_picture(j, pass, e, sample));
    if (!pass->noise) CN_TRY(cn_pass_noise(j, pass));
    if (!pass->mask) return CN_OK;
    CN_TRY(shrink_mask(j, pass));
    if (pass->soft_mask && !cn_job_inpaints(j)) return cn_pass_keep(j, pass);
    cn_rng_normal(j->rngs, sample, pass->one);
    if (cn_job_inpaints(j)) CN_TRY(encode_masked(j, pass, e, sample));
    return pass->soft_mask ? cn_pass_keep(j, pass) : CN_OK;
}

/* latents: noise alone, or the picture at the first step's noise. */
static cn_status mix_start(cn_job *j, cn_pass *pass)
{
    CN_TRY(new_floats(j, pass->elements, &pass->latents));
    if (pass->picture && !j->from_noise) {
        cn_sampler_add_noise(pass->sampler, pass->first, pass->picture, pass->noise, pass->latents,
                             pass->elements);
        return CN_OK;
    }
    float sigma = (float)cn_sampler_init_noise_sigma(pass->sampler);
    for (int64_t i = 0; i < pass->elements; i++) pass->latents[i] = pass->noise[i] * sigma;
    return CN_OK;
}

/* pass->reference: what is most likely the reference's latents. */
static cn_status encode_reference(cn_job *j, cn_pass *pass)
{
    cn_encode *e = NULL;
    cn_vae_spec spec;
    if (!pass->reference_image) return CN_OK;
    float *none = cn_alloc0(j->p->ctx, (size_t)pass->one * sizeof *none);
    cn_status s = none ? new_floats(j, pass->one, &pass->reference) : CN_ENOMEM;
    if (s == CN_OK) s = vae_spec(j, pass, &spec);
    if (s == CN_OK) s = cn_encode_create(j->p->ctx, j->p->backend, &spec, &e);
    if (s == CN_OK) s = load_vae(j->p);
    if (s == CN_OK) s = cn_encode_run(e, pass->reference_image, none, pass->reference);
    cn_encode_destroy(e);
    cn_free(none);
    return s;
}

cn_status cn_job_begin(cn_job *j)
{
    cn_pass *pass = &j->pass;
    cn_encode *e = NULL;
    float *sample = NULL;
    double begun = cn_now_s();
    const bool encodes = pass->image || pass->reference_image;
    cn_status s = new_floats(j, pass->one, &sample);
    if (s == CN_OK && encodes) cn_job_report(j, "encoding", 0, 1);
    if (s == CN_OK) s = encode_reference(j, pass);
    if (s == CN_OK && pass->image) s = open_encoder(j, pass, &e);
    if (s == CN_OK) s = draw_start(j, pass, e, sample);
    if (s == CN_OK && encodes) cn_job_report(j, "encoding", 1, 1);
    cn_encode_destroy(e);
    leave_vae(j, s);
    cn_free(sample);
    if (s == CN_OK) s = mix_start(j, pass);
    if (encodes) j->encoding_s += cn_now_s() - begun;
    return s;
}

/* --- sampling --------------------------------------------------------------------------------- */

static bool same_condition(const cn_condition_spec *a, const cn_condition_spec *b)
{
    bool same = a->n == b->n && a->among_conditions == b->among_conditions &&
                a->images == b->images && a->rows == b->rows;
    for (int i = 0; same && i < a->n; i++)
        same = a->types[i] == b->types[i] && (a->n == 1 || a->scales[i] == b->scales[i]);
    return same;
}

static bool same_drawing(const cn_draw_spec *a, const cn_draw_spec *b)
{
    bool same = a->batch == b->batch && a->latent_h == b->latent_h && a->latent_w == b->latent_w &&
                a->guidance == b->guidance && a->sequential_guidance == b->sequential_guidance &&
                a->context_length == b->context_length && a->reference == b->reference &&
                (!a->reference || (a->reference_weight == b->reference_weight &&
                                   a->style_fidelity == b->style_fidelity));
    for (int k = 0; k < a->n_controls; k++)
        same = same && a->controls[k].cond_only == b->controls[k].cond_only &&
               same_condition(&a->controls[k].condition, &b->controls[k].condition);
    return same;
}

static bool cond_only(const cn_job *j, int k)
{
    const char *mode = j->o->controls[k].mode;
    return j->o->guess_mode || (mode && !strcmp(mode, "controlnet")) ||
           j->p->controls[k]->config.global_pool;
}

/* What isn't loaded yet of the networks that the plans have declared. */
static cn_status load_drawing(cn_pipeline *p)
{
    if (!cn_params_loaded(p->unet)) CN_TRY(cn_base_load(p->ctx, p->base, p->backend, p->unet));
    for (int k = 0; k < p->n_controls; k++)
        if (!cn_params_loaded(p->control[k]))
            CN_TRY(cn_control_load(p->ctx, p->controls[k], p->backend, p->control[k]));
    return CN_OK;
}

/* Whether some steps are made without guidance, for which one half has to run alone. */
static bool is_windowed(const cn_job *j)
{
    const cn_generate_options *o = j->o;
    return j->guidance && (o->guidance_start > 0 || (o->guidance_end > 0 && o->guidance_end < 1));
}

cn_draw_spec cn_job_draw_spec(const cn_job *j, cn_params *unet, cn_params *const *control)
{
    const cn_pipeline *p = j->p;
    cn_draw_spec spec = {.unet = &p->base->unet,
                         .unet_params = unet,
                         .n_controls = p->n_controls,
                         .batch = j->o->batch,
                         .latent_h = j->pass.latent_h,
                         .latent_w = j->pass.latent_w,
                         .context_length = cn_prompts_length(j->prompts, p->base),
                         .guidance = j->guidance,
                         .sequential_guidance = j->fit.sequential_guidance || is_windowed(j),
                         .reference = j->o->reference != NULL,
                         .reference_weight = (float)j->o->reference_strength,
                         .style_fidelity = (float)j->o->style_fidelity};
    for (int k = 0; k < p->n_controls; k++)
        spec.controls[k] = (cn_draw_control){.kind = p->controls[k]->kind,
                                             .config = cn_control_config(p->controls[k]),
                                             .params = control[k],
                                             .cond_only = cond_only(j, k),
                                             .condition = j->conditions[k]};
    return spec;
}

/* Plans for this pass's sizes; reads the weights unless they are there. */
static cn_status prepare_drawing(cn_job *j)
{
    cn_pipeline *p = j->p;
    if (!p->unet) CN_TRY(cn_pipeline_network(p, &j->fit, CN_NET_UNET, 0, &p->unet));
    for (int k = 0; k < p->n_controls; k++)
        if (!p->control[k])
            CN_TRY(cn_pipeline_network(p, &j->fit, CN_NET_CONTROL, k, &p->control[k]));
    cn_draw_spec spec = cn_job_draw_spec(j, p->unet, p->control);
    if (!p->draw || !same_drawing(&p->drawn, &spec)) {
        cn_draw_destroy(p->draw);
        p->draw = NULL;
        CN_TRY(cn_draw_create(p->ctx, p->backend, &spec, &p->draw));
        p->drawn = spec;
    }
    return load_drawing(p);
}

typedef struct stage_report {
    cn_job *job;
    const char *stage;
    cn_decode *decoder; /* made for the first preview by the model's own VAE */
    cn_preview preview; /* of other previews */
} stage_report;

static void report_step(void *user, int done, int steps)
{
    const stage_report *r = user;
    cn_job_report(r->job, r->stage, done, steps);
}

static cn_status decode_preview(cn_job *j, cn_decode *d, const float *clean, cn_image **images)
{
    for (int i = 0; i < j->o->batch; i++) {
        CN_TRY(cn_image_create(j->p->ctx, j->pass.width, j->pass.height, &images[i]));
        CN_TRY(cn_decode_run(d, clean + i * j->pass.one, images[i]->rgb));
    }
    return CN_OK;
}

static cn_status show_preview(void *user, int done, int steps, const float *clean)
{
    stage_report *r = user;
    const cn_generate_options *o = r->job->o;
    cn_image **images = cn_alloc0(r->job->p->ctx, (size_t)o->batch * sizeof *images);
    cn_status s = images ? CN_OK : CN_ENOMEM;
    const bool own = cn_preview_is_own(o);
    if (s == CN_OK && own && !r->decoder) s = open_decoder(r->job, &r->decoder);
    if (s == CN_OK)
        s = own ? decode_preview(r->job, r->decoder, clean, images)
                : cn_preview_images(r->job, &r->preview, clean, images);
    if (s == CN_OK) o->preview(o->user, done, steps, images, o->batch);
    for (int i = 0; images && i < o->batch; i++) cn_image_destroy(images[i]);
    cn_free(images);
    return s;
}

static cn_status check_latents(const cn_job *j)
{
    for (int64_t i = 0; i < j->pass.elements; i++)
        if (!isfinite(j->pass.latents[i]))
            return cn_fail(j->p->ctx, CN_EINVAL,
                           "sampling by %s ended in values that aren't finite, though those of the "
                           "networks were; a smaller --cfg-scale may help",
                           j->pass.sampler->kind->name);
    return CN_OK;
}

static bool acts_in(const cn_control_options *c, const cn_pass *pass)
{
    const char *in = c->pass ? c->pass : "both";
    return !strcmp(in, "both") || !strcmp(in, pass->number ? "second" : "first");
}

cn_status cn_job_sample(cn_job *j, const char *stage)
{
    cn_pipeline *p = j->p;
    const cn_pass *pass = &j->pass;
    stage_report to = {.job = j, .stage = stage};
    const cn_staged_text *cond = cn_pictured_text_of(&j->text, pass->number, CN_COND);
    const cn_staged_text *uncond = cn_pictured_text_of(&j->text, pass->number, CN_UNCOND);
    cn_draw_args a = {.cond = cond->features,
                      .uncond = uncond->features,
                      .cond_stages = {cond->until, cond->n},
                      .uncond_stages = {uncond->until, uncond->n},
                      .cfg_scale = j->o->cfg_scale,
                      .guidance_rescale = j->o->guidance_rescale,
                      .guidance_start = j->o->guidance_start,
                      .guidance_end = j->o->guidance_end,
                      .latents = pass->latents,
                      .rng = j->rngs,
                      .progress = report_step,
                      .preview = j->o->preview ? show_preview : NULL,
                      .preview_interval = CN_MAX(1, j->o->preview_interval),
                      .user = &to,
                      .reference = pass->reference,
                      .extra = pass->extra,
                      .first = pass->first,
                      .last = j->last,
                      .behind = j->behind};
    if (pass->small_mask && (pass->soft_mask || !pass->extra))
        a.keep = (cn_draw_keep){pass->small_mask, pass->picture, pass->noise,
                                .estimate = pass->soft_mask != NULL};
    for (int k = 0; k < p->n_controls; k++) {
        const cn_control_options *c = &j->o->controls[k];
        const cn_image_prompt *prompt = &j->image_prompts[k];
        a.hints[k] = (cn_draw_hint){.image = prompt->image ? prompt->image : pass->hints[k],
                                    .without = prompt->without,
                                    .strength = acts_in(c, pass) ? c->strength : 0,
                                    .start = c->start,
                                    .end = c->end,
                                    .weights = pass->weights[k],
                                    .mask = pass->regions[k]};
        for (int i = 1; i < j->conditions[k].n; i++)
            a.hints[k].further[i - 1] = pass->further[k][i - 1];
    }
    float *added[CN_TEXT_SIDES] = {NULL};
    cn_status s = cn_job_added(j, pass, cond, CN_COND, &added[CN_COND]);
    if (s == CN_OK) s = cn_job_added(j, pass, uncond, CN_UNCOND, &added[CN_UNCOND]);
    a.cond_added = added[CN_COND];
    a.uncond_added = added[CN_UNCOND];
    if (s == CN_OK) s = prepare_drawing(j);
    if (s == CN_OK) {
        const int last = j->last ? j->last : cn_sampler_steps(pass->sampler);
        cn_job_report(j, stage, 0, last - pass->first);
        double begun = cn_now_s();
        s = cn_draw_run(p->draw, pass->sampler, &a);
        j->sampling_s += cn_now_s() - begun;
    }
    for (int i = 0; i < CN_TEXT_SIDES; i++) cn_free(added[i]);
    if (s == CN_OK) s = check_latents(j);
    cn_preview_close(&to.preview);
    cn_decode_destroy(to.decoder);
    if (to.decoder) leave_vae(j, s);
    if (lets_go(j, s)) cn_pipeline_unload(p);
    return s;
}

/* --- the second pass -------------------------------------------------------------------------- */

static cn_status enlarge_latents(cn_job *j, cn_pass *next)
{
    const cn_pass *pass = &j->pass;
    const cn_resize_spec size = {.in_h = pass->latent_h,
                                 .in_w = pass->latent_w,
                                 .out_h = next->latent_h,
                                 .out_w = next->latent_w};
    const int64_t planes = next->elements / (next->latent_h * next->latent_w);
    return resize_planes(j, size, pass->latents, planes, next->picture);
}

static cn_status encode_larger(cn_job *j, cn_pass *next, cn_encode *e, cn_image *const *images,
                               const float *samples, float *values)
{
    for (int i = 0; i < j->o->batch; i++) {
        cn_image *larger = NULL;
        CN_TRY(cn_image_resize(j->p->ctx, images[i], next->width, next->height, CN_FILTER_LANCZOS4,
                               &larger));
        cn_signed_values(larger->rgb, values, 3 * next->width * next->height);
        cn_image_destroy(larger);
        CN_TRY(cn_encode_run(e, values, samples + i * next->one, next->picture + i * next->one));
    }
    return CN_OK;
}

/* Through pictures: decoded, enlarged by Lanczos, encoded again. */
static cn_status enlarge_pictures(cn_job *j, cn_pass *next)
{
    cn_encode *e = NULL;
    float *samples = NULL, *values = NULL;
    cn_image **images = cn_alloc0(j->p->ctx, (size_t)j->o->batch * sizeof *images);
    cn_status s = images ? cn_job_decode(j, images) : CN_ENOMEM;
    if (s == CN_OK) s = new_floats(j, next->elements, &samples);
    if (s == CN_OK) s = new_floats(j, 3 * next->width * next->height, &values);
    double begun = cn_now_s();
    if (s == CN_OK) {
        cn_sampler_noise(next->sampler, j->rngs, samples, next->elements);
        s = open_encoder(j, next, &e);
    }
    if (s == CN_OK) s = encode_larger(j, next, e, images, samples, values);
    cn_encode_destroy(e);
    leave_vae(j, s);
    for (int i = 0; images && i < j->o->batch; i++) cn_image_destroy(images[i]);
    cn_free(images);
    cn_free(samples);
    cn_free(values);
    j->encoding_s += cn_now_s() - begun;
    return s;
}

void cn_job_enlarged(const cn_job *j, int64_t *width, int64_t *height)
{
    int64_t factor = cn_vae_factor(&j->p->base->vae);
    *width = (int64_t)llround((double)j->pass.latent_w * j->o->hires_scale) * factor;
    *height = (int64_t)llround((double)j->pass.latent_h * j->o->hires_scale) * factor;
}

cn_status cn_job_enlarge(cn_job *j)
{
    const cn_generate_options *o = j->o;
    int64_t width, height;
    cn_pass next = {0};
    cn_job_enlarged(j, &width, &height);
    CN_TRY(cn_image_check_size(j->p->ctx, width, height));
    cn_status s = cn_pass_open(j, width, height, o->hires_steps ? o->hires_steps : o->steps,
                               j->hires_strength, &next);
    if (s == CN_OK) s = new_floats(j, next.elements, &next.picture);
    if (s == CN_OK) s = o->hires_pixels ? enlarge_pictures(j, &next) : enlarge_latents(j, &next);
    if (s == CN_OK && next.reference_image) {
        const double begun = cn_now_s();
        s = encode_reference(j, &next);
        leave_vae(j, s);
        j->encoding_s += cn_now_s() - begun;
    }
    if (s == CN_OK) s = cn_pass_noise(j, &next);
    j->from_noise = false;
    if (s == CN_OK) s = mix_start(j, &next);
    if (s != CN_OK) {
        cn_pass_close(&next);
        return s;
    }
    next.number = j->pass.number + 1;
    cn_pass_close(&j->pass);
    j->pass = next;
    return CN_OK;
}
