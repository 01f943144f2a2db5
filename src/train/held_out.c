/* SPDX-License-Identifier: Apache-2.0 */
/* held_out.c - what a validation (eval/validate.h) asks of a run: the held-out loss, drawings of
 * the held-out conditions on fixed seeds, the zero convolutions' weights.
 */
#include "train/held_out.h"

#include "diffuse/added.h"

#include <math.h>
#include <string.h>

struct cn_held_out {
    const cn_run_setup *run;
    const cn_run_data *data;
    const cn_run_nets *nets;
    cn_validator *validator;
    cn_batcher *batcher; /* of the held-out pairs */
};

/* --- held-out loss ---------------------------------------------------------------------------- */

/* Held-out pictures have the resolution's size, whatever the step's is. */
cn_stepgraph_options cn_held_out_measure_options(const cn_run_setup *r, const cn_stepgraph *step)
{
    cn_stepgraph_options o = step->o;
    o.width = o.height = r->o.resolution;
    o.latent_w = o.latent_h = r->o.resolution / cn_vae_factor(&r->base->vae);
    o.gradients = o.scaled = false;
    o.loss = CN_LOSS_MSE;
    o.weighted = false;
    return o;
}

/* Measurement k: item k / CN_TRAIN_BANDS at its fixed timestep, with its prompt and noise of
 * its own. */
static cn_sample fixed_sample(const cn_held_out *h, int64_t k)
{
    const int64_t band = k % CN_TRAIN_BANDS, timesteps = h->run->schedule->n;
    return (cn_sample){.item = h->data->held_first + k / CN_TRAIN_BANDS,
                       .timestep = (int)((2 * band + 1) * timesteps / (2 * CN_TRAIN_BANDS)),
                       .noise_seed = 0x7e57u + (uint64_t)k};
}

static double squared_error(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
    return sum / (double)n;
}

static cn_status measure_with(const cn_held_out *h, cn_stepgraph *g, double *loss,
                              double band[CN_TRAIN_BANDS])
{
    cn_ctx *ctx = h->run->ctx;
    const int64_t n_held = h->data->n_held;
    const int64_t batch = g->o.batch, count = n_held * CN_TRAIN_BANDS;
    const int64_t each = cn_node_elements(g->target) / batch;
    memset(loss, 0, (size_t)n_held * sizeof *loss);
    memset(band, 0, CN_TRAIN_BANDS * sizeof *band);
    for (int64_t at = 0; at < count; at += batch) {
        if (cn_cancelled(ctx)) return cn_fail(ctx, CN_ECANCELLED, "interrupted");
        for (int64_t i = 0; i < batch; i++) { /* the last batch repeats its last measurement */
            const cn_sample sample = fixed_sample(h, CN_MIN(at + i, count - 1));
            const cn_pass *one = NULL;
            CN_TRY(cn_batcher_one(h->batcher, &sample, &one));
            cn_stepgraph_put(g, i, one, 0);
        }
        CN_TRY(cn_plan_run(g->plan));
        CN_TRY(cn_plan_expect_finite(g->plan, g->prediction));
        const float *y = cn_plan_data(g->plan, g->prediction);
        const float *target = cn_plan_data(g->plan, g->target);
        for (int64_t i = 0; i < batch && at + i < count; i++) {
            const double error = squared_error(y + i * each, target + i * each, each);
            loss[(at + i) / CN_TRAIN_BANDS] += error / (double)CN_TRAIN_BANDS;
            band[(at + i) % CN_TRAIN_BANDS] += error / (double)n_held;
        }
    }
    return CN_OK;
}

static cn_status measure(void *user, bool control, double *loss, double band[CN_TRAIN_BANDS])
{
    const cn_held_out *h = user;
    const cn_run_setup *r = h->run;
    const cn_run_nets *n = h->nets;
    cn_stepgraph_options o = cn_held_out_measure_options(r, n->step);
    cn_stepgraph *g = NULL;
    o.control = control;
    o.batch = CN_MIN(o.batch, h->data->n_held * CN_TRAIN_BANDS);
    const cn_draw_control trained = cn_trained_control(&r->net, n->control);
    CN_TRY(cn_stepgraph_create(r->ctx, r->be, &r->base->unet, n->unet, &trained, &o, &g));
    const cn_status s = measure_with(h, g, loss, band);
    cn_stepgraph_destroy(g);
    return s;
}

/* --- zero convolutions ------------------------------------------------------------------------ */

static bool is_zero_conv(const cn_param *q)
{
    return q->ndim == 4 && (strncmp(q->diffusers_name, "controlnet_down_blocks.", 23) == 0 ||
                            strncmp(q->diffusers_name, "controlnet_mid_block.", 21) == 0);
}

static int64_t zero_convs(void *user, double rms[CN_MAX_RESIDUALS + 1])
{
    const cn_held_out *h = user;
    const cn_params *control = h->nets->control;
    cn_backend *be = h->run->be;
    int64_t n = 0;
    for (int64_t i = 0; i < cn_params_count(control) && n <= CN_MAX_RESIDUALS; i++) {
        const cn_param *q = cn_params_at(control, i);
        if (!is_zero_conv(q)) continue;
        double squares = 0;
        const cn_floats weights = {q->data, cn_param_physical(q)};
        if (be->sum_squares(be, h->run->ctx, &weights, 1, &squares) != CN_OK) squares = NAN;
        rms[n++] = sqrt(squares / (double)cn_param_elements(q));
    }
    return n;
}

/* --- drawings --------------------------------------------------------------------------------- */

cn_draw_spec cn_held_out_draw_spec(const cn_run_setup *r, cn_params *unet, cn_params *control)
{
    const int64_t side = r->o.resolution / cn_vae_factor(&r->base->vae);
    cn_draw_spec spec = {.unet = &r->base->unet,
                         .unet_params = unet,
                         .batch = 1,
                         .latent_h = side,
                         .latent_w = side,
                         .context_length = cn_base_context_length(r->base),
                         .guidance = r->o.validation_guidance_scale != 1};
    if (control) spec.controls[spec.n_controls++] = cn_trained_control(&r->net, control);
    return spec;
}

cn_status cn_held_out_decode_create(const cn_run_setup *r, cn_params **vae, cn_decode **out)
{
    const int64_t side = r->o.resolution / cn_vae_factor(&r->base->vae);
    CN_TRY(cn_base_params_create(r->ctx, r->base, CN_NET_VAE, CN_F32, vae));
    const cn_vae_spec spec = {
        .config = &r->base->vae, .params = *vae, .latent_h = side, .latent_w = side};
    return cn_decode_create(r->ctx, r->be, &spec, out);
}

/* What one series of drawings needs. */
typedef struct series {
    cn_draw *draw;
    cn_sampler *sampler;
    float *hint, *cond, *uncond;
    float *cond_added, *uncond_added; /* of SDXL; NULL */
} series;

static void series_close(series *s)
{
    cn_draw_destroy(s->draw);
    cn_sampler_destroy(s->sampler);
    cn_free(s->hint);
    cn_free(s->cond);
    cn_free(s->uncond);
    cn_free(s->cond_added);
    cn_free(s->uncond_added);
}

/* The added embedding of a text as it is kept, for pictures of the resolution; *out is made where
 * it is NULL. */
static cn_status make_added(const cn_run_setup *r, const float *text, float **out)
{
    const cn_unet_config *u = &r->base->unet;
    const int64_t pooled = cn_base_pooled_dim(r->base), side = r->o.resolution;
    const cn_picture_sizes sizes = {
        .original_w = side, .original_h = side, .target_w = side, .target_h = side};
    float numbers[CN_ADDED_NUMBERS];
    if (!u->added_dim) return CN_OK;
    if (!*out) *out = cn_alloc_array(r->ctx, (size_t)u->added_dim, sizeof **out);
    if (!*out) return CN_ENOMEM;
    cn_added_numbers(&sizes, numbers);
    cn_added_embed(text + cn_base_text_elements(r->base) - pooled, pooled, numbers,
                   CN_ADDED_NUMBERS, u->added_number_dim, *out);
    return CN_OK;
}

static cn_status series_open(const cn_held_out *h, bool control, series *s)
{
    const cn_run_setup *r = h->run;
    const cn_run_nets *n = h->nets;
    const cn_cache *c = h->data->held_cache;
    const cn_draw_spec spec = cn_held_out_draw_spec(r, n->unet, control ? n->control : NULL);
    CN_TRY(cn_draw_create(r->ctx, r->be, &spec, &s->draw));
    CN_TRY(cn_sampler_create(r->ctx, "ddim", &r->base->schedule,
                             (int)r->o.validation_sampling_steps, &s->sampler));
    const size_t context = (size_t)c->text * sizeof(float);
    s->hint = cn_alloc_array(r->ctx, (size_t)(c->width * c->height * 3), sizeof(float));
    s->cond = cn_alloc(r->ctx, context);
    s->uncond = cn_alloc(r->ctx, context);
    if (!s->hint || !s->cond || !s->uncond) return CN_ENOMEM;
    CN_TRY(cn_cache_context(c, r->ctx, -1, s->uncond));
    return make_added(r, s->uncond, &s->uncond_added);
}

/* Drawing i's pair, in its data set and in its cache. */
typedef struct drawing {
    const cn_dataset *data;
    const cn_cache *cache;
    int64_t item; /* of both */
} drawing;

static drawing drawing_of(const cn_run_setup *r, const cn_run_data *d, int64_t i)
{
    const cn_batcher_options o = cn_run_data_held_options(r, d);
    if (i >= d->n_held) return (drawing){d->own.data, d->own.cache, i - d->n_held};
    return (drawing){o.data, o.cache, cn_batcher_item(&o, o.first + i)};
}

/* Drawing i's latents, from the same noise at every validation. */
static cn_status draw_one(const cn_held_out *h, series *s, int64_t i, const uint8_t *conditions,
                          float *latents)
{
    const cn_cache *c = h->data->held_cache;
    const int64_t n_held = h->data->n_held;
    const int64_t n = c->latent_h * c->latent_w * c->latent_c, pixels = c->width * c->height;
    cn_rng rng;
    cn_rng_seed(&rng, (uint64_t)(i < n_held ? i : i - n_held));
    cn_rng_normal(&rng, latents, n);
    const float sigma = (float)cn_sampler_init_noise_sigma(s->sampler);
    for (int64_t k = 0; k < n; k++) latents[k] *= sigma;
    for (int64_t k = 0; k < 3 * pixels; k++)
        s->hint[k] = (float)conditions[3 * pixels * i + k] / 255.0f;
    const drawing d = drawing_of(h->run, h->data, i);
    CN_TRY(cn_cache_context(d.cache, h->run->ctx, d.item, s->cond));
    CN_TRY(make_added(h->run, s->cond, &s->cond_added));
    const cn_draw_args args = {.uncond = s->uncond,
                               .cond = s->cond,
                               .cond_added = s->cond_added,
                               .uncond_added = s->uncond_added,
                               .hints = {{.image = s->hint, .strength = 1, .end = 1}},
                               .cfg_scale = h->run->o.validation_guidance_scale,
                               .latents = latents,
                               .rng = &rng};
    return cn_draw_run(s->draw, s->sampler, &args);
}

static cn_status draw_all(const cn_held_out *h, bool control, const uint8_t *conditions,
                          float *latents, int64_t each)
{
    series s = {0};
    const int64_t n = cn_run_data_drawings(h->data);
    cn_status status = series_open(h, control, &s);
    for (int64_t i = 0; i < n && status == CN_OK; i++) {
        status = draw_one(h, &s, i, conditions, latents + i * each);
        if (status == CN_OK) cn_run_report_stage(h->run, "validation", i + 1, n);
    }
    series_close(&s);
    return status;
}

static cn_status decode_all(const cn_held_out *h, const float *latents, int64_t each, uint8_t *rgb)
{
    const cn_run_setup *r = h->run;
    const cn_cache *c = h->data->held_cache;
    const int64_t n = cn_run_data_drawings(h->data);
    cn_params *vae = NULL;
    cn_decode *decode = NULL;
    cn_status s = cn_held_out_decode_create(r, &vae, &decode);
    if (s == CN_OK) s = cn_base_load(r->ctx, r->base, r->be, vae);
    for (int64_t i = 0; i < n && s == CN_OK; i++)
        s = cn_decode_run(decode, latents + i * each, rgb + 3 * c->width * c->height * i);
    cn_decode_destroy(decode);
    cn_params_destroy(vae);
    return s;
}

/* Everything is drawn before anything is decoded: the UNet's buffers and the VAE are never there at
 * once. */
static cn_status draw(void *user, bool control, const uint8_t *conditions, uint8_t *rgb)
{
    const cn_held_out *h = user;
    const cn_cache *c = h->data->held_cache;
    const int64_t each = c->latent_h * c->latent_w * c->latent_c;
    float *latents = cn_alloc_array(h->run->ctx, (size_t)(cn_run_data_drawings(h->data) * each),
                                    sizeof *latents);
    if (!latents) return CN_ENOMEM;
    cn_status s = draw_all(h, control, conditions, latents, each);
    if (s == CN_OK) s = decode_all(h, latents, each, rgb);
    cn_free(latents);
    return s;
}

/* --- the validator ---------------------------------------------------------------------------- */

static void report_stage(void *user, const char *stage, int64_t done, int64_t total)
{
    const cn_held_out *h = user;
    cn_run_report_stage(h->run, stage, done, total);
}

static void validated(void *user, const cn_train_validation *v)
{
    const cn_train_callbacks *c = &((const cn_held_out *)user)->run->callbacks;
    if (c->validated) c->validated(c->user, v);
}

void cn_held_out_destroy(cn_held_out *h)
{
    if (!h) return;
    cn_validator_destroy(h->validator);
    cn_batcher_destroy(h->batcher);
    cn_free(h);
}

static cn_status create_validator(cn_held_out *h, cn_metrics *metrics)
{
    const cn_run_setup *r = h->run;
    const cn_run_data *d = h->data;
    const int64_t n = cn_run_data_drawings(d);
    cn_validation_item *items = cn_alloc_array(r->ctx, (size_t)n, sizeof *items);
    if (!items) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const drawing one = drawing_of(r, d, i);
        items[i] = (cn_validation_item){one.data, one.item};
    }
    const cn_validator_options o = {.train = &r->o,
                                    .calls = {.user = h,
                                              .measure = measure,
                                              .draw = draw,
                                              .zero_convs = zero_convs,
                                              .progress = report_stage,
                                              .validated = validated},
                                    .links = r->net.kind->links,
                                    .be = r->be,
                                    .metrics = metrics,
                                    .comparison = &r->comparison,
                                    .items = items,
                                    .n_held = d->n_held,
                                    .n_items = n,
                                    .width = d->held_cache->width,
                                    .height = d->held_cache->height,
                                    .timesteps = r->schedule->n};
    const cn_status s = cn_validator_create(r->ctx, &o, &h->validator);
    cn_free(items);
    return s;
}

cn_status cn_held_out_create(const cn_run_setup *r, const cn_run_data *d, const cn_run_nets *n,
                             cn_metrics *metrics, cn_held_out **out)
{
    const cn_batcher_options held = cn_run_data_held_options(r, d);
    cn_held_out *h = cn_alloc0(r->ctx, sizeof *h);
    if (!h) return CN_ENOMEM;
    *h = (cn_held_out){.run = r, .data = d, .nets = n};
    cn_status s = cn_batcher_create(r->ctx, &held, &h->batcher);
    if (s == CN_OK) s = create_validator(h, metrics);
    if (s == CN_OK)
        *out = h;
    else
        cn_held_out_destroy(h);
    return s;
}

cn_status cn_held_out_validate(cn_held_out *h, int64_t end_step, cn_train_state *state,
                               cn_train_result *result)
{
    const cn_run_nets *n = h->nets;
    cn_train_validation v = {0};
    cn_plan_drop(n->step->plan); /* the step's values are done with; drawing needs the room */
    CN_TRY(cn_adamw_swap_ema(n->adamw));
    const cn_status s =
        cn_validator_run(h->validator, state->step, end_step, n->phase.unlock != CN_UNLOCK_NONE,
                         &state->learned_at_step, &v);
    CN_TRY(cn_adamw_swap_ema(n->adamw));
    CN_TRY(s);
    result->has_agreement = v.has_agreement;
    result->agreement_with_control = v.agreement_with.score;
    result->agreement_without_control = v.agreement_without.score;
    return CN_OK;
}
