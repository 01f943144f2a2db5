/* SPDX-License-Identifier: Apache-2.0 */
/* drawing_memory.c - what a drawing takes, known before weights are read, and how it is made to fit
 * a limit.
 *
 * Each stage's networks are declared and planned, which reserves addresses only, and let go again.
 * Where a group of networks (text, drawing, VAE) exceeds the limit in one of its stages, it goes
 * down a ladder, what costs time before what costs quality, until it fits. Where a ladder ends, the
 * plan is made again for what the user could ask for instead, so that the error can say what would
 * fit.
 */
#include "pipeline/pipeline_internal.h"

#include "base/memory.h"

#include <string.h>

/* What is planned: the job as asked for, or otherwise. */
typedef struct planner {
    cn_job *job;
    int batch;
    bool guidance;
    double scale;         /* of the picture's sides; 1: as asked for */
    bool own_tiles;       /* their size was asked for */
    cn_fit fit;           /* where the ladders stand */
    bool apart;           /* networks are in a device's memory */
    size_t always_bytes;  /* in every stage: the process, pictures, features */
    size_t host_bytes;    /* where networks are apart: these, always_bytes are the device's own */
    size_t reading_bytes; /* and what reading weights takes beside them, at most */
    size_t weights[CN_GROUPS];
    size_t draw_arena; /* stays behind the drawing where weights are kept */
    size_t refiner_weights;
    cn_fit refiner_fit;
    cn_generate_plan plan;
} planner;

/* --- one stage -------------------------------------------------------------------------------- */

static cn_generate_stage *new_stage(planner *m, const char *name)
{
    cn_generate_stage *s = &m->plan.stages[m->plan.n_stages++];
    *s = (cn_generate_stage){.name = name};
    return s;
}

/* While weights are read the arena isn't used yet, but the largest tensor's pages of its file are
 * in memory beside them, and floats of what becomes Q8. */
static size_t reading_bytes(const cn_params *p)
{
    size_t most = 0;
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        const cn_param *q = cn_params_at(p, i);
        const size_t each = q->dtype == CN_Q8 ? 2 * sizeof(float) : cn_dtype_bytes(q->dtype);
        most = CN_MAX(most, (size_t)cn_param_elements(q) * each);
    }
    return most;
}

static void count_stage(planner *m, cn_generate_stage *s, const cn_plan_info *info,
                        cn_params *const *sets, int n)
{
    size_t reading = 0;
    for (int i = 0; i < n; i++) {
        s->weight_bytes += cn_params_bytes(sets[i]);
        reading = CN_MAX(reading, reading_bytes(sets[i]));
    }
    s->scratch_bytes = info->scratch_bytes;
    s->activation_bytes = info->arena_bytes - info->scratch_bytes;
    if (m->apart) /* elements in F32, and again in their order */
        m->reading_bytes = CN_MAX(m->reading_bytes, 2 * reading);
    else
        s->activation_bytes = CN_MAX(info->arena_bytes, reading) - info->scratch_bytes;
}

static cn_status plan_text(planner *m)
{
    cn_pipeline *p = m->job->p;
    cn_params *text[CN_MAX_TEXT_ENCODERS] = {NULL};
    const int n = cn_family_of(p->base)->n_text;
    cn_plan_info info;
    cn_status s = CN_OK;
    cn_generate_stage *stage = new_stage(m, "text");
    for (int k = 0; s == CN_OK && k < n; k++)
        s = cn_pipeline_network(p, &m->fit, cn_net_text(k), 0, &text[k]);
    cn_prompt_job prompt = cn_job_prompt(m->job, text);
    if (s == CN_OK) s = cn_prompts_plan(p->ctx, p->backend, &prompt, m->job->prompts, &info);
    if (s == CN_OK) {
        count_stage(m, stage, &info, text, n);
        m->weights[CN_GROUP_TEXT] = stage->weight_bytes;
        m->plan.text_type = cn_weight_type_word(cn_params_storage(text[0]));
    }
    for (int k = 0; k < n; k++) cn_params_destroy(text[k]);
    return s;
}

static cn_status plan_images(planner *m)
{
    cn_pipeline *p = m->job->p;
    cn_params *vision = NULL;
    cn_plan_info info;
    bool none = true;
    if (!p->vision) return CN_OK;
    cn_status s = cn_pipeline_network(p, &m->fit, CN_NET_VISION, 0, &vision);
    if (s == CN_OK) s = cn_job_plan_images(m->job, vision, &none, &info);
    if (s == CN_OK && !none) {
        cn_generate_stage *stage = new_stage(m, "image prompts");
        count_stage(m, stage, &info, &vision, 1);
        m->weights[CN_GROUP_IMAGE] = stage->weight_bytes;
    }
    cn_params_destroy(vision);
    return s;
}

static int64_t scaled(const planner *m, int64_t latents)
{
    return CN_MAX(1, (int64_t)((double)latents * m->scale));
}

/* sets: the UNet's parameters, then the ControlNets'. */
static cn_status plan_networks(planner *m, const cn_pass *pass, cn_params **sets, cn_plan_info *out)
{
    cn_pipeline *p = m->job->p;
    cn_draw *draw = NULL;
    CN_TRY(cn_pipeline_network(p, &m->fit, CN_NET_UNET, 0, &sets[0]));
    for (int k = 0; k < p->n_controls; k++)
        CN_TRY(cn_pipeline_network(p, &m->fit, CN_NET_CONTROL, k, &sets[k + 1]));
    cn_draw_spec spec = cn_job_draw_spec(m->job, sets[0], sets + 1);
    spec.latent_h = scaled(m, pass->latent_h);
    spec.latent_w = scaled(m, pass->latent_w);
    spec.batch = m->batch;
    spec.guidance = m->guidance;
    spec.sequential_guidance = m->fit.sequential_guidance;
    CN_TRY(cn_draw_create(p->ctx, p->backend, &spec, &draw));
    cn_draw_info(draw, out);
    cn_draw_destroy(draw);
    return CN_OK;
}

static cn_status plan_drawing(planner *m, const cn_pass *pass, const char *name)
{
    cn_params *sets[1 + CN_MAX_CONTROLS] = {NULL};
    cn_plan_info info;
    const int n = 1 + m->job->p->n_controls;
    cn_generate_stage *stage = new_stage(m, name);
    cn_status s = plan_networks(m, pass, sets, &info);
    if (s == CN_OK) {
        count_stage(m, stage, &info, sets, n);
        m->weights[CN_GROUP_DRAWING] = stage->weight_bytes;
        m->draw_arena = info.arena_bytes;
        m->plan.unet_type = cn_weight_type_word(cn_params_storage(sets[0]));
    }
    for (int i = 0; i < n; i++) cn_params_destroy(sets[i]);
    return s;
}

static cn_status plan_half(planner *m, const cn_vae_spec *spec, bool decoder, cn_plan_info *info)
{
    cn_pipeline *p = m->job->p;
    cn_decode *d = NULL;
    cn_encode *e = NULL;
    if (decoder) {
        CN_TRY(cn_decode_create(p->ctx, p->backend, spec, &d));
        cn_decode_info(d, info);
        cn_decode_destroy(d);
    } else {
        CN_TRY(cn_encode_create(p->ctx, p->backend, spec, &e));
        cn_encode_info(e, info);
        cn_encode_destroy(e);
    }
    return CN_OK;
}

static cn_status plan_vae(planner *m, const cn_pass *pass, bool decoder)
{
    cn_pipeline *p = m->job->p;
    cn_params *vae = NULL;
    cn_plan_info info;
    cn_generate_stage *stage = new_stage(m, decoder ? "decoding" : "encoding");
    CN_TRY(cn_pipeline_network(p, &m->fit, CN_NET_VAE, 0, &vae));
    cn_vae_spec spec = cn_job_vae_spec(m->job, pass, vae);
    spec.latent_h = scaled(m, pass->latent_h);
    spec.latent_w = scaled(m, pass->latent_w);
    if (!decoder) cn_vae_spec_of_image(m->job, pass, &spec);
    spec.tile = m->fit.vae_tile;
    cn_status s = plan_half(m, &spec, decoder, &info);
    if (s == CN_OK) {
        const int64_t factor = cn_vae_factor(spec.config);
        const int64_t bytes = spec.latent_h * spec.latent_w * factor * factor * 3;
        count_stage(m, stage, &info, &vae, 1);
        /* the pictures */
        if (decoder)
            *(m->apart ? &m->host_bytes : &stage->activation_bytes) += (size_t)(bytes * m->batch);
        m->weights[CN_GROUP_VAE] = CN_MAX(m->weights[CN_GROUP_VAE], stage->weight_bytes);
        m->plan.vae_type = cn_weight_type_word(cn_params_storage(vae));
    }
    cn_params_destroy(vae);
    return s;
}

/* --- groups and their ladders ----------------------------------------------------------------- */

/* The second pass's sizes; false: there is none. */
static bool second_pass(const planner *m, cn_pass *out)
{
    const int64_t factor = cn_vae_factor(&m->job->p->base->vae);
    int64_t width, height;
    if (m->job->o->hires_scale <= 1) return false;
    cn_job_enlarged(m->job, &width, &height);
    *out = (cn_pass){
        .width = width, .height = height, .latent_w = width / factor, .latent_h = height / factor};
    return true;
}

static cn_status plan_group(planner *m, int group)
{
    const cn_pass *first = &m->job->pass;
    cn_pass second;
    const bool twice = second_pass(m, &second);
    switch (group) {
    case CN_GROUP_TEXT: return plan_text(m);
    case CN_GROUP_IMAGE: return plan_images(m);
    case CN_GROUP_DRAWING:
        CN_TRY(plan_drawing(m, first, "sampling"));
        return twice ? plan_drawing(m, &second, "second pass") : CN_OK;
    default:
        if (first->image || first->reference_image) CN_TRY(plan_vae(m, first, false));
        if (twice && (m->job->o->hires_pixels || m->job->o->reference))
            CN_TRY(plan_vae(m, &second, false));
        return plan_vae(m, twice ? &second : first, true);
    }
}

static bool smaller_tiles(planner *m)
{
    static const int64_t sides[] = {96, 64, 48, 32, 24, 16}; /* latents */
    cn_pass second;
    const cn_pass *last = second_pass(m, &second) ? &second : &m->job->pass;
    int64_t now = CN_MAX(scaled(m, last->latent_h), scaled(m, last->latent_w));
    if (m->fit.vae_tile) now = CN_MIN(now, m->fit.vae_tile);
    if (m->own_tiles) return false;
    for (size_t i = 0; i < CN_COUNT(sides); i++) {
        if (sides[i] >= now) continue;
        m->fit.vae_tile = sides[i];
        return true;
    }
    return false;
}

static bool fewer_bits(planner *m, int group)
{
    static const int least[CN_GROUPS] = {
        [CN_GROUP_TEXT] = 8, [CN_GROUP_IMAGE] = 8, [CN_GROUP_DRAWING] = 8, [CN_GROUP_VAE] = 16};
    if (!m->fit.storage_auto || m->fit.bits[group] <= least[group]) return false;
    m->fit.bits[group] /= 2;
    return true;
}

/* One step down a group's ladder; false at its end. */
static bool step_down(planner *m, int group)
{
    cn_fit *f = &m->fit;
    switch (group) {
    case CN_GROUP_TEXT:
    case CN_GROUP_IMAGE: return fewer_bits(m, group);
    case CN_GROUP_DRAWING:
        if (m->guidance && !f->sequential_guidance && !m->job->o->reference)
            return f->sequential_guidance = true;
        if (!fewer_bits(m, group)) return false;
        f->sequential_guidance = false;
        return true;
    default: return fewer_bits(m, group) || smaller_tiles(m);
    }
}

static size_t count_total(const planner *m, cn_generate_stage *s)
{
    return s->total_bytes =
               m->always_bytes + s->weight_bytes + s->activation_bytes + s->scratch_bytes;
}

/* Plans a group as high on its ladder as fits the limit (0: none), or at its end. */
static cn_status fit_group(planner *m, int group, size_t limit)
{
    const int first = m->plan.n_stages;
    for (;;) {
        size_t most = 0;
        m->plan.n_stages = first;
        CN_TRY(plan_group(m, group));
        for (int i = first; i < m->plan.n_stages; i++)
            most = CN_MAX(most, count_total(m, &m->plan.stages[i]));
        if (!limit || most <= limit || !step_down(m, group)) return CN_OK;
    }
}

static planner planner_of(cn_job *j);

/* The refiner's text and steps, on the ladders of their own. */
static cn_status fit_refiner(planner *m, size_t limit)
{
    cn_generate_plan *p = &m->plan;
    if (!m->job->refinement) return CN_OK;
    planner r = planner_of(&m->job->refinement->job);
    r.always_bytes = m->always_bytes;
    r.batch = m->batch;
    r.scale = m->scale;
    r.fit.keep = m->fit.keep;
    r.fit.compute = m->fit.compute;
    CN_TRY(fit_group(&r, CN_GROUP_TEXT, limit));
    CN_TRY(fit_group(&r, CN_GROUP_DRAWING, limit));
    for (int i = 0; i < r.plan.n_stages; i++) {
        r.plan.stages[i].name = i ? "refining" : "refiner's text";
        p->stages[p->n_stages++] = r.plan.stages[i];
    }
    m->refiner_weights = r.weights[CN_GROUP_TEXT] + r.weights[CN_GROUP_DRAWING];
    m->draw_arena += r.draw_arena;
    m->refiner_fit = r.fit;
    return CN_OK;
}

/* --- a plan ----------------------------------------------------------------------------------- */

static size_t second_hints(const planner *m)
{
    cn_pass second;
    size_t floats = 0;
    if (!second_pass(m, &second)) return 0;
    for (int k = 0; k < m->job->p->n_controls; k++)
        floats += (size_t)(second.width * second.height) *
                  ((m->job->o->controls[k].mask ? 1 : 0) +
                   (cn_pipeline_takes_prompt(m->job->p, k) ? 0 : 3));
    return floats * sizeof(float);
}

/* What every stage has: the process, with the pictures read so far, other pipelines' networks,
 * features, latents, a second pass's hints. */
static void count_always(planner *m)
{
    enum { LATENT_COPIES = 8 };
    cn_pipeline *p = m->job->p;
    const cn_pass *pass = &m->job->pass;
    const bool loaded = p->text[0] || p->unet || p->vae;
    /* of other pipelines' networks, in the process's memory or in the device's */
    const size_t others = p->others_bytes, here = m->apart ? 0 : others;
    if (!loaded || !p->process_bytes) {
        const size_t all = cn_process_bytes();
        p->process_bytes = all - CN_MIN(all, here);
    }
    const int64_t features =
        2 * cn_prompts_length(m->job->prompts, p->base) * cn_base_context_dim(p->base);
    m->plan.process_bytes = p->process_bytes + here;
    m->always_bytes = m->plan.process_bytes + second_hints(m) +
                      (size_t)(features + LATENT_COPIES * m->batch * pass->one) * sizeof(float);
    if (!m->apart) return;
    cn_backend_memory device;
    p->backend->memory(p->backend, &device);
    m->host_bytes = m->always_bytes;
    m->always_bytes = device.own + others;
    m->reading_bytes = 0;
}

static bool draws(const cn_generate_stage *s)
{
    return !strcmp(s->name, "sampling") || !strcmp(s->name, "second pass") ||
           !strcmp(s->name, "refining");
}

/* Previews decode beside the drawing; decoding, the last stage, is planned at the larger size. */
static void count_preview(planner *m)
{
    const cn_generate_stage *decoding = &m->plan.stages[m->plan.n_stages - 1];
    for (int i = 0; i < m->plan.n_stages; i++) {
        cn_generate_stage *s = &m->plan.stages[i];
        if (!draws(s)) continue;
        if (!m->fit.keep) s->weight_bytes += decoding->weight_bytes;
        s->activation_bytes += decoding->activation_bytes + decoding->scratch_bytes;
        count_total(m, s);
    }
}

/* Weights that stay are in every stage; behind the drawing so is its arena. */
static void count_kept(planner *m)
{
    size_t weights = m->refiner_weights;
    bool drawn = false;
    for (int i = 0; i < CN_GROUPS; i++) weights += m->weights[i];
    for (int i = 0; i < m->plan.n_stages; i++) {
        cn_generate_stage *s = &m->plan.stages[i];
        s->weight_bytes = weights;
        if (drawn && !draws(s)) s->activation_bytes += m->draw_arena;
        count_total(m, s);
        drawn = drawn || draws(s);
    }
}

static const cn_generate_stage *largest(const cn_generate_plan *p)
{
    const cn_generate_stage *most = &p->stages[0];
    for (int i = 1; i < p->n_stages; i++)
        if (p->stages[i].total_bytes > most->total_bytes) most = &p->stages[i];
    return most;
}

static cn_status make_plan_once(planner *m, size_t limit)
{
    m->plan = (cn_generate_plan){0};
    count_always(m);
    for (int group = 0; group < CN_GROUPS; group++) {
        if (group == CN_GROUP_VAE) CN_TRY(fit_refiner(m, limit));
        CN_TRY(fit_group(m, group, limit));
    }
    if (m->job->o->preview && cn_preview_is_own(m->job->o)) count_preview(m);
    if (m->fit.keep) count_kept(m);
    m->plan.peak_bytes = largest(&m->plan)->total_bytes;
    if (m->apart) m->plan.host_bytes = m->host_bytes + m->reading_bytes;
    m->plan.compute_type = cn_weight_type_word(m->job->p->halves ? CN_F16 : m->fit.compute);
    m->plan.keeps_loaded = m->fit.keep;
    m->plan.sequential_guidance = m->fit.sequential_guidance;
    m->plan.vae_tile = m->fit.vae_tile * cn_vae_factor(&m->job->p->base->vae);
    return CN_OK;
}

/* Everything kept loaded if that was asked for and fits. */
static cn_status make_plan(planner *m, size_t limit)
{
    if (!m->fit.keep) return make_plan_once(m, limit);
    CN_TRY(make_plan_once(m, 0));
    if (!limit || m->plan.peak_bytes <= limit) return CN_OK;
    m->fit.keep = false;
    return make_plan_once(m, limit);
}

static planner planner_of(cn_job *j)
{
    return (planner){.job = j,
                     .apart = !j->p->backend->addressable,
                     .batch = j->o->batch,
                     .guidance = j->guidance,
                     .scale = 1,
                     .own_tiles = j->o->vae_tile_size > 0,
                     .fit = cn_job_fit_asked(j)};
}

/* --- what would fit --------------------------------------------------------------------------- */

/* What else a user could ask for, cheapest in quality and time first. */
static const struct offer {
    const char *text; /* NULL: a smaller picture */
    bool any_type, any_tiles, bf16, one;
    double scale;
} offers[] = {
    {.text = "--weight-type auto", .any_type = true},
    {.text = "no --vae-tile-size", .any_tiles = true},
    {.text = "--precision bf16", .bf16 = true},
    {.text = "--batch-count 1", .one = true},
    {.scale = 0.75},
    {.scale = 0.5},
    {.text = "--weight-type auto --batch-count 1", .any_type = true, .one = true},
    {.text = "--precision bf16 --batch-count 1", .bf16 = true, .one = true},
    {.scale = 0.25},
};

/* False where the offer changes nothing or can't be had. */
static bool take(const struct offer *f, planner *m)
{
    cn_backend *be = m->job->p->backend;
    cn_fit *fit = &m->fit;
    if ((f->any_type && fit->storage_auto) || (f->any_tiles && !m->own_tiles) ||
        (f->bf16 && (fit->compute == CN_BF16 || !be->computes(be, CN_BF16))) ||
        (f->one && m->batch == 1))
        return false;
    if (f->any_type) fit->storage_auto = true;
    if (f->any_tiles) m->own_tiles = false;
    if (f->bf16) fit->compute = CN_BF16;
    if (f->one) m->batch = 1;
    if (f->scale != 0) m->scale = f->scale;
    return true;
}

static cn_status offer_text(const planner *m, const struct offer *f, char *out, size_t cap)
{
    const cn_pass *pass = &m->job->pass;
    const int64_t factor = cn_vae_factor(&m->job->p->base->vae);
    if (f->text) return cn_format(m->job->p->ctx, out, cap, "%s", f->text);
    return cn_format(m->job->p->ctx, out, cap, "-W %lld -H %lld",
                     (long long)(scaled(m, pass->latent_w) * factor),
                     (long long)(scaled(m, pass->latent_h) * factor));
}

/* The memory that is limited: as asked for, a device's to what is free; 0: none is. */
static size_t limit_of(const cn_pipeline *p)
{
    cn_backend_memory device;
    if (p->backend->addressable) return p->max_memory_bytes;
    p->backend->memory(p->backend, &device);
    const size_t may = device.free + device.taken;
    return p->max_memory_bytes ? CN_MIN(p->max_memory_bytes, may) : may;
}

/* Nothing fits as asked: says what would. */
static cn_status refuse(cn_job *j, size_t limit, const cn_generate_stage *most)
{
    cn_ctx *ctx = j->p->ctx;
    char text[128];
    cn_offers fits = {0};
    cn_status s = CN_OK;
    for (size_t i = 0; i < CN_COUNT(offers) && !cn_offers_enough(&fits) && s == CN_OK; i++) {
        planner m = planner_of(j);
        if (!take(&offers[i], &m)) continue;
        s = make_plan(&m, limit);
        if (s != CN_OK || m.plan.peak_bytes > limit) continue;
        s = offer_text(&m, &offers[i], text, sizeof text);
        if (s == CN_OK) cn_offers_add(&fits, text, m.plan.peak_bytes);
    }
    if (s == CN_OK)
        s = cn_fail(
            ctx, CN_ENOMEM, "%s %.2f GiB; %s takes %.2f GiB at least, %.2f of them weights. %s%s",
            limit == j->p->max_memory_bytes ? "--max-memory allows"
                                            : "what is free of the device's memory is",
            cn_gib(limit), most->name, cn_gib(most->total_bytes), cn_gib(most->weight_bytes),
            fits.n ? "This would fit: " : "No other option suffices",
            fits.text.data ? fits.text.data : "");
    cn_offers_free(&fits);
    return s;
}

/* --- the interface ---------------------------------------------------------------------------- */

cn_fit cn_job_fit_asked(const cn_job *j)
{
    const cn_generate_options *o = j->o;
    const cn_base *b = j->p->base;
    cn_fit fit = j->p->asked;
    if (o->vae_tiling)
        fit.vae_tile =
            o->vae_tile_size ? o->vae_tile_size / cn_vae_factor(&b->vae) : b->unet.sample_size;
    return fit;
}

/* Says what a limit cost. */
static void report(const cn_job *j, const cn_generate_plan *p)
{
    char tiles[64] = "";
    if (j->fit.vae_tile != cn_job_fit_asked(j).vae_tile)
        snprintf(tiles, sizeof tiles, ", the VAE in tiles of %lld pixels", (long long)p->vae_tile);
    cn_log(j->p->ctx, CN_LOG_INFO,
           "memory: %.2f GiB at most, %s; weights of UNet and ControlNets in %s, the VAE's in "
           "%s%s%s",
           cn_gib(p->peak_bytes), largest(p)->name, p->unet_type, p->vae_type,
           p->sequential_guidance ? ", guidance's halves in turn" : "", tiles);
}

cn_status cn_job_plan(cn_job *j, cn_generate_plan *out)
{
    planner m = planner_of(j);
    const size_t limit = limit_of(j->p);
    const bool asked = j->p->max_memory_bytes > 0;
    CN_TRY(make_plan(&m, asked ? limit : 0));
    const bool fits = !limit || m.plan.peak_bytes <= limit;
    if (!asked && !fits) {
        m = planner_of(j);
        CN_TRY(make_plan(&m, limit));
    }
    if (limit && m.plan.peak_bytes > limit) return refuse(j, limit, largest(&m.plan));
    j->fit = m.fit;
    if (j->refinement) j->refinement->job.fit = m.refiner_fit;
    j->planned_bytes = m.plan.peak_bytes;
    if (asked || !fits) report(j, &m.plan);
    *out = m.plan;
    return CN_OK;
}
