/* SPDX-License-Identifier: Apache-2.0 */
/* held_out.c - what a validation (eval/validate.h) asks of a run: the held-out loss, drawings of
 * the held-out conditions on fixed seeds, the zero convolutions' weights.
 */
#include "train/trainer.h"

#include "diffuse/sampling.h"

#include <math.h>
#include <string.h>

/* --- held-out loss ---------------------------------------------------------------------------- */

/* Measurement k: item k / CN_TRAIN_BANDS at its fixed timestep, with its prompt and noise of
 * its own. */
static cn_sample fixed_sample(const cn_trainer *t, int64_t k)
{
    const int64_t band = k % CN_TRAIN_BANDS;
    return (cn_sample){.item = t->held_first + k / CN_TRAIN_BANDS,
                       .timestep = (int)((2 * band + 1) * t->schedule->n / (2 * CN_TRAIN_BANDS)),
                       .noise_seed = 0x7e57u + (uint64_t)k};
}

static double squared_error(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
    return sum / (double)n;
}

static cn_status measure_with(cn_trainer *t, cn_stepgraph *g, double *loss,
                              double band[CN_TRAIN_BANDS])
{
    const int64_t batch = g->o.batch, count = t->n_held * CN_TRAIN_BANDS;
    const int64_t each = cn_node_elements(g->target) / batch;
    memset(loss, 0, (size_t)t->n_held * sizeof *loss);
    memset(band, 0, CN_TRAIN_BANDS * sizeof *band);
    for (int64_t at = 0; at < count; at += batch) {
        if (cn_cancelled(t->ctx)) return cn_fail(t->ctx, CN_ECANCELLED, "interrupted");
        for (int64_t i = 0; i < batch; i++) { /* the last batch repeats its last measurement */
            const cn_sample sample = fixed_sample(t, CN_MIN(at + i, count - 1));
            const cn_pass *one = NULL;
            CN_TRY(cn_batcher_one(t->held_batcher, &sample, &one));
            cn_stepgraph_put(g, i, one, 0);
        }
        CN_TRY(cn_plan_run(g->plan));
        const float *y = cn_plan_data(g->plan, g->prediction);
        const float *target = cn_plan_data(g->plan, g->target);
        for (int64_t i = 0; i < batch && at + i < count; i++) {
            const double error = squared_error(y + i * each, target + i * each, each);
            loss[(at + i) / CN_TRAIN_BANDS] += error / (double)CN_TRAIN_BANDS;
            band[(at + i) % CN_TRAIN_BANDS] += error / (double)t->n_held;
        }
    }
    return CN_OK;
}

static cn_status measure(void *user, bool control, double *loss, double band[CN_TRAIN_BANDS])
{
    cn_trainer *t = user;
    cn_stepgraph_options o = cn_trainer_measure_options(t, t->step);
    cn_stepgraph *g = NULL;
    o.control = control;
    o.batch = CN_MIN(o.batch, t->n_held * CN_TRAIN_BANDS);
    CN_TRY(cn_stepgraph_create(t->ctx, t->be, &t->base->unet, &t->config, t->unet, t->control, &o,
                               &g));
    const cn_status s = measure_with(t, g, loss, band);
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
    const cn_trainer *t = user;
    int64_t n = 0;
    for (int64_t i = 0; i < cn_params_count(t->control) && n <= CN_MAX_RESIDUALS; i++) {
        const cn_param *q = cn_params_at(t->control, i);
        if (!is_zero_conv(q)) continue;
        const double squares = t->be->sum_squares(t->be, q->data, cn_param_physical(q));
        rms[n++] = sqrt(squares / (double)cn_param_elements(q));
    }
    return n;
}

/* --- drawings --------------------------------------------------------------------------------- */

cn_draw_spec cn_trainer_draw_spec(const cn_trainer *t, cn_params *unet, cn_params *control)
{
    const int64_t side = t->o.resolution / cn_vae_factor(&t->base->vae);
    cn_draw_spec spec = {.unet = &t->base->unet,
                         .unet_params = unet,
                         .batch = 1,
                         .latent_h = side,
                         .latent_w = side,
                         .context_length = cn_base_context_length(t->base),
                         .guidance = t->o.validation_guidance_scale != 1};
    if (control)
        spec.controls[spec.n_controls++] =
            (cn_draw_control){.config = &t->config, .params = control};
    return spec;
}

cn_status cn_trainer_decode_create(const cn_trainer *t, cn_params **vae, cn_decode **out)
{
    const int64_t side = t->o.resolution / cn_vae_factor(&t->base->vae);
    CN_TRY(cn_base_params_create(t->ctx, t->base, CN_NET_VAE, CN_F32, vae));
    const cn_vae_spec spec = {
        .config = &t->base->vae, .params = *vae, .latent_h = side, .latent_w = side};
    return cn_decode_create(t->ctx, t->be, &spec, out);
}

/* What one series of drawings needs. */
typedef struct series {
    cn_draw *draw;
    cn_sampler *sampler;
    float *hint, *cond, *uncond;
} series;

static void series_close(series *s)
{
    cn_draw_destroy(s->draw);
    cn_sampler_destroy(s->sampler);
    cn_free(s->hint);
    cn_free(s->cond);
    cn_free(s->uncond);
}

static cn_status series_open(cn_trainer *t, bool control, series *s)
{
    const cn_cache *c = t->held_cache;
    const cn_draw_spec spec = cn_trainer_draw_spec(t, t->unet, control ? t->control : NULL);
    CN_TRY(cn_draw_create(t->ctx, t->be, &spec, &s->draw));
    CN_TRY(cn_sampler_create(t->ctx, "ddim", &t->base->schedule,
                             (int)t->o.validation_sampling_steps, &s->sampler));
    const size_t context = (size_t)(c->tokens * c->context_dim) * sizeof(float);
    s->hint = cn_alloc_array(t->ctx, (size_t)(c->width * c->height * 3), sizeof(float));
    s->cond = cn_alloc(t->ctx, context);
    s->uncond = cn_alloc(t->ctx, context);
    return s->hint && s->cond && s->uncond ? cn_cache_context(c, t->ctx, -1, s->uncond) : CN_ENOMEM;
}

/* Drawing i's pair, in its data set and in its cache. */
typedef struct drawing {
    const cn_dataset *data;
    const cn_cache *cache;
    int64_t item; /* of both */
} drawing;

static drawing drawing_of(const cn_trainer *t, int64_t i)
{
    const cn_batcher_options o = cn_trainer_held_options(t);
    if (i >= t->n_held) return (drawing){t->own.data, t->own.cache, i - t->n_held};
    return (drawing){o.data, o.cache, cn_batcher_item(&o, o.first + i)};
}

/* Drawing i's latents, from the same noise at every validation. */
static cn_status draw_one(cn_trainer *t, series *s, int64_t i, const uint8_t *conditions,
                          float *latents)
{
    const cn_cache *c = t->held_cache;
    const int64_t n = c->latent_h * c->latent_w * c->latent_c, pixels = c->width * c->height;
    cn_rng rng;
    cn_rng_seed(&rng, (uint64_t)(i < t->n_held ? i : i - t->n_held));
    cn_rng_normal(&rng, latents, n);
    const float sigma = (float)cn_sampler_init_noise_sigma(s->sampler);
    for (int64_t k = 0; k < n; k++) latents[k] *= sigma;
    for (int64_t k = 0; k < 3 * pixels; k++)
        s->hint[k] = (float)conditions[3 * pixels * i + k] / 255.0f;
    const drawing d = drawing_of(t, i);
    CN_TRY(cn_cache_context(d.cache, t->ctx, d.item, s->cond));
    const cn_draw_args args = {.uncond = s->uncond,
                               .cond = s->cond,
                               .hints = {{.image = s->hint, .strength = 1, .end = 1}},
                               .cfg_scale = t->o.validation_guidance_scale,
                               .latents = latents,
                               .rng = &rng};
    return cn_draw_run(s->draw, s->sampler, &args);
}

static cn_status draw_all(cn_trainer *t, bool control, const uint8_t *conditions, float *latents,
                          int64_t each)
{
    series s = {0};
    const int64_t n = cn_trainer_drawings(t);
    cn_status status = series_open(t, control, &s);
    for (int64_t i = 0; i < n && status == CN_OK; i++) {
        status = draw_one(t, &s, i, conditions, latents + i * each);
        if (status == CN_OK) cn_trainer_report_stage(t, "validation", i + 1, n);
    }
    series_close(&s);
    return status;
}

static cn_status decode_all(cn_trainer *t, const float *latents, int64_t each, uint8_t *rgb)
{
    const cn_cache *c = t->held_cache;
    const int64_t n = cn_trainer_drawings(t);
    cn_params *vae = NULL;
    cn_decode *decode = NULL;
    cn_status s = cn_trainer_decode_create(t, &vae, &decode);
    if (s == CN_OK) s = cn_base_load(t->ctx, t->base, t->be, vae);
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
    cn_trainer *t = user;
    const cn_cache *c = t->held_cache;
    const int64_t each = c->latent_h * c->latent_w * c->latent_c;
    float *latents =
        cn_alloc_array(t->ctx, (size_t)(cn_trainer_drawings(t) * each), sizeof *latents);
    if (!latents) return CN_ENOMEM;
    cn_status s = draw_all(t, control, conditions, latents, each);
    if (s == CN_OK) s = decode_all(t, latents, each, rgb);
    cn_free(latents);
    return s;
}

/* --- the validator ---------------------------------------------------------------------------- */

static void report_stage(void *user, const char *stage, int64_t done, int64_t total)
{
    cn_trainer_report_stage(user, stage, done, total);
}

static void validated(void *user, const cn_train_validation *v)
{
    const cn_trainer *t = user;
    if (t->callbacks.validated) t->callbacks.validated(t->callbacks.user, v);
}

cn_status cn_trainer_create_validator(cn_trainer *t)
{
    const int64_t n = cn_trainer_drawings(t);
    const cn_batcher_options held = cn_trainer_held_options(t);
    cn_validation_item *items = cn_alloc_array(t->ctx, (size_t)n, sizeof *items);
    if (!items) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const drawing d = drawing_of(t, i);
        items[i] = (cn_validation_item){d.data, d.item};
    }
    const cn_validator_options o = {.train = &t->o,
                                    .calls = {.user = t,
                                              .measure = measure,
                                              .draw = draw,
                                              .zero_convs = zero_convs,
                                              .progress = report_stage,
                                              .validated = validated},
                                    .be = t->be,
                                    .metrics = t->metrics,
                                    .comparison = &t->comparison,
                                    .items = items,
                                    .n_held = t->n_held,
                                    .n_items = n,
                                    .width = t->held_cache->width,
                                    .height = t->held_cache->height,
                                    .total_steps = t->total_steps,
                                    .timesteps = t->schedule->n};
    cn_status s = cn_batcher_create(t->ctx, &held, &t->held_batcher);
    if (s == CN_OK) s = cn_validator_create(t->ctx, &o, &t->validator);
    cn_free(items);
    return s;
}

cn_status cn_trainer_validate(cn_trainer *t)
{
    cn_train_validation r = {0};
    cn_train_state *state = &t->state;
    cn_plan_drop(t->step->plan); /* the step's values are done with; drawing needs the room */
    CN_TRY(cn_adamw_swap_ema(t->adamw));
    const cn_status s = cn_validator_run(
        t->validator, state->step, t->phase.unlock != CN_UNLOCK_NONE, &state->learned_at_step, &r);
    CN_TRY(cn_adamw_swap_ema(t->adamw));
    CN_TRY(s);
    t->result.has_agreement = r.has_agreement;
    t->result.agreement_with_control = r.agreement_with.score;
    t->result.agreement_without_control = r.agreement_without.score;
    return CN_OK;
}
