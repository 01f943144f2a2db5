/* SPDX-License-Identifier: Apache-2.0 */
/* refine.c - the last steps of a drawing by another model, SDXL's refiner.
 *
 * The latents go from one UNet to the other as they are, in the midst of the noise: the base ends
 * where diffusers' denoising_end says, the refiner begins where denoising_start does, with the
 * prompts by its own text encoder. It decodes nothing: its VAE is the base's.
 */
#include "pipeline/pipeline_internal.h"

static cn_status check_latents(const cn_pipeline *p)
{
    const cn_base *a = p->base, *b = p->refiner->base;
    if (b->unet.in_channels != b->unet.out_channels)
        return cn_fail(p->ctx, CN_EMISMATCH, "%s: an inpainting model can't be a refiner", b->path);
    if (cn_family_of(a)->scaling_factor == cn_family_of(b)->scaling_factor) return CN_OK;
    return cn_fail(p->ctx, CN_EMISMATCH,
                   "%s: a model of %s can't go on with latents of %s: a refiner of the same is "
                   "expected",
                   b->path, cn_family_of(b)->name, cn_family_of(a)->name);
}

cn_status cn_pipeline_open_refiner(cn_pipeline *p, const cn_pipeline_options *o)
{
    cn_pipeline_options r = *o;
    if (!o->refiner) return CN_OK;
    r.model = o->refiner;
    r.vae = o->vae ? o->vae : o->model;
    r.refiner = r.preview_model = r.prediction = r.lora_dir = r.image_encoder = NULL;
    r.n_controls = r.n_loras = 0;
    r.max_memory_bytes = 0;
    CN_TRY(cn_pipeline_create(p->ctx, &r, &p->refiner));
    return check_latents(p);
}

/* The drawing's, without what the base does alone. */
static cn_generate_options options_of(const cn_generate_options *o)
{
    cn_generate_options r = *o;
    r.controls = NULL;
    r.init_image = r.mask = r.reference = NULL;
    r.guess_mode = NULL;
    r.prompt_2 = r.negative_prompt_2 = NULL;
    r.init_latents = r.save_latents = NULL;
    r.hires_scale = 0;
    return r;
}

static cn_status check_options(const cn_job *j)
{
    const char *what = j->o->mask              ? "a mask (--mask)"
                       : j->o->hires_scale > 1 ? "a second pass (--hires-scale)"
                                               : NULL;
    if (!what) return CN_OK;
    return cn_fail(j->p->ctx, CN_EINVAL,
                   "%s doesn't go with a refiner; leave it out, or --refiner-start 1", what);
}

static cn_status open_part(cn_job *j, cn_job *r)
{
    const cn_generate_options *o = r->o;
    const double start = o->refiner_start;
    r->guidance = o->cfg_scale > 1 && !r->p->base->unet.guidance_dim;
    r->refines = true;
    r->strength = r->hires_strength = 1;
    r->prompt = j->prompt;
    r->fit = cn_job_fit_asked(r);
    CN_TRY(cn_base_settle_prediction(r->p->ctx, r->p->base, r->p->backend));
    CN_TRY(cn_pass_open(r, j->pass.width, j->pass.height, o->steps, 1, &r->pass));
    CN_TRY(cn_sampler_start_behind(r->pass.sampler, start, &r->pass.first));
    j->last = cn_sampler_before(j->pass.sampler, start);
    if (j->last <= j->pass.first)
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "--refiner-start %g of %d steps leaves the base model no step", start,
                       o->steps);
    r->behind = CN_MAX(0, r->pass.first - j->pass.first);
    const cn_prompt_job prompt = cn_job_prompt(r, NULL);
    return cn_prompts_read(r->p->ctx, &prompt, &r->prompts);
}

cn_status cn_job_open_refiner(cn_job *j)
{
    if (!j->p->refiner || j->o->refiner_start >= 1) return CN_OK;
    CN_TRY(check_options(j));
    cn_refinement *r = cn_alloc0(j->p->ctx, sizeof *r);
    if (!r) return CN_ENOMEM;
    j->refinement = r;
    r->options = options_of(j->o);
    r->job.p = j->p->refiner;
    r->job.o = &r->options;
    return open_part(j, &r->job);
}

void cn_job_close_refiner(cn_job *j)
{
    if (!j->refinement) return;
    cn_job *r = &j->refinement->job;
    cn_pass_close(&r->pass);
    cn_prompts_destroy(r->prompts);
    cn_pictured_text_free(&r->text);
    cn_free(j->refinement);
    j->refinement = NULL;
}

cn_status cn_job_refine(cn_job *j)
{
    if (!j->refinement) return CN_OK;
    cn_job *r = &j->refinement->job;
    r->rngs = j->rngs; /* the job's own, which go on */
    cn_status s = cn_job_encode_text(r);
    r->pass.latents = j->pass.latents;
    if (s == CN_OK) s = cn_job_sample(r, "refining");
    r->pass.latents = NULL; /* the job's own */
    j->text_s += r->text_s;
    j->sampling_s += r->sampling_s;
    return s;
}
