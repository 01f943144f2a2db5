/* SPDX-License-Identifier: Apache-2.0 */
/* sampling.c - guidance, and the loop of sampling around the networks (denoise.h).
 *
 * The text's features are stable inputs: the cross-attention's keys and values are computed once
 * per picture.
 */
#include "diffuse/denoise.h"
#include "diffuse/sampling.h"

#include <math.h>
#include <string.h>

struct cn_draw {
    cn_ctx *ctx;
    cn_draw_spec spec;
    cn_denoiser *networks;
    int64_t n;          /* samples of a call: one or two halves */
    int64_t references; /* samples before them (cn_draw_references) */
    float *reference;   /* [2,C,h,w]: noise, and its latents of this step, scaled; NULL: none */
    int turns;          /* calls a step: 2 where guidance's halves take turns */
    /* of references + n samples */
    float *latents; /* x of the ControlNets, NHWC */
    float *input;   /* x of the UNet, which may take more channels */
    float *times;
    float *features; /* context */
    float *added;    /* [..,added_dim]; NULL: not taken */
    float *scale;    /* the guidance scale's embedding, [..,guidance_dim]; NULL: not taken */
    float *halves;   /* what each of two turns gave, NHWC; NULL with one */
    float *prediction, *model; /* [B,C,h,w] of run: the guided prediction and the scaled latents */
};

static int64_t pixels_of(const cn_draw *d)
{
    return d->spec.latent_h * d->spec.latent_w;
}

/* Of a sample's text features. */
static int64_t context_elements(const cn_draw *d)
{
    return d->spec.context_length * d->spec.unet->context_dim;
}

static int64_t latent_elements(const cn_draw *d)
{
    return d->spec.batch * d->spec.unet->out_channels * pixels_of(d);
}

/* --- creating --------------------------------------------------------------------------------- */

static cn_status check_control(cn_ctx *ctx, const cn_controlnet_config *c, const cn_unet_config *u)
{
    if (c->condition_channels != 3)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the ControlNet's condition has %lld channels; 3 (RGB) are expected",
                       (long long)c->condition_channels);
    if (c->encoder.in_channels != u->out_channels)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the ControlNet takes latents of %lld channels, the base model's have %lld",
                       (long long)c->encoder.in_channels, (long long)u->out_channels);
    return CN_OK;
}

static cn_status check(cn_ctx *ctx, const cn_draw_spec *s)
{
    if (s->batch < 1 || s->batch > 1024)
        return cn_fail(ctx, CN_EINVAL, "a batch of %lld: 1 to 1024 are possible",
                       (long long)s->batch);
    if (s->latent_h < 1 || s->latent_w < 1 || s->latent_h > 4096 || s->latent_w > 4096)
        return cn_fail(ctx, CN_EINVAL, "latents of %lld x %lld: 1 to 4096 a side are possible",
                       (long long)s->latent_w, (long long)s->latent_h);
    if (s->n_controls < 0 || s->n_controls > CN_MAX_CONTROLS)
        return cn_fail(ctx, CN_EINVAL, "%d ControlNets at once: at most %d are possible",
                       s->n_controls, CN_MAX_CONTROLS);
    if (s->unet->in_channels < s->unet->out_channels)
        return cn_fail(ctx, CN_EMISMATCH, "the UNet takes %lld channels and gives %lld",
                       (long long)s->unet->in_channels, (long long)s->unet->out_channels);
    for (int k = 0; k < s->n_controls; k++)
        if (s->controls[k].kind->residuals)
            CN_TRY(check_control(ctx, s->controls[k].config, s->unet));
    for (int k = 0; s->reference && k < s->n_controls; k++)
        if (s->controls[k].kind->whole)
            return cn_fail(ctx, CN_EINVAL, "a reference picture beside %s isn't possible",
                           s->controls[k].kind->title);
    return CN_OK;
}

static cn_status allocate(cn_draw *d)
{
    const size_t n = (size_t)(d->references + d->n);
    const size_t one = (size_t)(d->spec.unet->out_channels * pixels_of(d)) * sizeof(float);
    const size_t latents = (size_t)d->spec.batch * one;
    const size_t input = (size_t)(d->spec.unet->in_channels * pixels_of(d)) * sizeof(float);
    d->latents = cn_alloc_array(d->ctx, n, one);
    if (d->references) d->reference = cn_alloc_array(d->ctx, 2, one);
    d->input = cn_alloc_array(d->ctx, n, input);
    d->times = cn_alloc_array(d->ctx, n, sizeof(float));
    d->features = cn_alloc_array(d->ctx, n, (size_t)context_elements(d) * sizeof(float));
    if (d->spec.unet->added_dim)
        d->added = cn_alloc_array(d->ctx, n, (size_t)d->spec.unet->added_dim * sizeof(float));
    if (d->turns > 1) d->halves = cn_alloc(d->ctx, 2 * latents);
    if (d->spec.unet->guidance_dim)
        d->scale = cn_alloc0(d->ctx, n * (size_t)d->spec.unet->guidance_dim * sizeof(float));
    d->prediction = cn_alloc(d->ctx, latents);
    d->model = cn_alloc(d->ctx, latents);
    bool all = d->latents && d->input && d->times && d->features && d->prediction && d->model &&
               (d->halves || d->turns == 1) && (d->scale || !d->spec.unet->guidance_dim) &&
               (d->added || !d->spec.unet->added_dim) && (d->reference || !d->references);
    return all ? CN_OK : CN_ENOMEM;
}

cn_status cn_draw_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, cn_draw **out)
{
    CN_TRY(check(ctx, spec));
    cn_draw *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    d->ctx = ctx;
    d->spec = *spec;
    d->turns = spec->guidance && spec->sequential_guidance && !spec->reference ? 2 : 1;
    d->references = cn_draw_references(spec);
    d->n = spec->batch * (spec->guidance && d->turns == 1 ? 2 : 1);
    cn_status s = cn_denoiser_create(ctx, be, spec, d->n, &d->networks);
    if (s == CN_OK) s = allocate(d);
    if (s != CN_OK) {
        cn_draw_destroy(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

void cn_draw_destroy(cn_draw *d)
{
    if (!d) return;
    cn_denoiser_destroy(d->networks);
    cn_free(d->reference);
    cn_free(d->latents);
    cn_free(d->input);
    cn_free(d->times);
    cn_free(d->features);
    cn_free(d->added);
    cn_free(d->halves);
    cn_free(d->scale);
    cn_free(d->prediction);
    cn_free(d->model);
    cn_free(d);
}

void cn_draw_info(const cn_draw *d, cn_plan_info *info)
{
    cn_denoiser_info(d->networks, info);
}

/* --- one step --------------------------------------------------------------------------------- */

/* How many of this turn's samples, the first, are the unconditional half. */
static int64_t unconditional_samples(const cn_draw *d, int turn)
{
    return d->spec.guidance && turn == 0 ? d->spec.batch : 0;
}

static bool unconditional(const cn_draw *d, int turn, int64_t i)
{
    return i < unconditional_samples(d, turn);
}

/* The embedding of guidance scale - 1, as consistency models are told it (Luo et al., "Latent
 * Consistency Models"; diffusers' get_guidance_scale_embedding). */
static void embed_scale(cn_draw *d, double cfg_scale)
{
    const int64_t dim = d->spec.unet->guidance_dim, half = dim / 2;
    for (int64_t k = 0; k < half; k++) {
        const double w = 1000 * (cfg_scale - 1);
        const double angle = w * exp(-log(10000.0) * (double)k / (double)CN_MAX(1, half - 1));
        for (int64_t i = 0; i < d->references + d->n; i++) {
            d->scale[i * dim + k] = (float)sin(angle);
            d->scale[i * dim + half + k] = (float)cos(angle);
        }
    }
}

cn_status cn_draw_begin(cn_draw *d, const cn_draw_args *a)
{
    cn_denoiser_begin(d->networks);
    if (d->spec.unet->in_channels > d->spec.unet->out_channels && !a->extra)
        return cn_fail(d->ctx, CN_EINVAL,
                       "the UNet takes %lld channels beside the latents: mask and masked picture",
                       (long long)(d->spec.unet->in_channels - d->spec.unet->out_channels));
    if (d->added && (!a->cond_added || (d->spec.guidance && !a->uncond_added)))
        return cn_fail(d->ctx, CN_EINVAL, "the UNet takes pooled text and sizes beside the text");
    if (d->references && !a->reference)
        return cn_fail(d->ctx, CN_EINVAL, "the latents of a reference picture are expected");
    embed_scale(d, a->cfg_scale);
    return CN_OK;
}

static int stage_at(const cn_draw_stages *s, int step)
{
    int k = 0;
    while (k + 1 < s->n && step > s->until[k]) k++;
    return k;
}

/* The text of this step, as every half has it. */
static void set_context(const cn_draw *d, const cn_draw_args *a, int step, int turn)
{
    const int64_t row = context_elements(d), extra = d->spec.unet->added_dim;
    const int cond = stage_at(&a->cond_stages, step), uncond = stage_at(&a->uncond_stages, step);
    for (int64_t i = 0; i < d->references + d->n; i++) {
        /* a reference is told what the sample that sees it is */
        const int64_t of = i < d->references ? d->n - d->references + i : i - d->references;
        const bool without = unconditional(d, turn, of);
        memcpy(d->features + i * row, without ? a->uncond + uncond * row : a->cond + cond * row,
               (size_t)row * sizeof(float));
        if (extra)
            memcpy(d->added + i * extra,
                   without ? a->uncond_added + uncond * extra : a->cond_added + cond * extra,
                   (size_t)extra * sizeof(float));
    }
}

/* Planes [C,pixels] to channels from..from+C of rows [pixels,row]. */
static void to_rows(const float *in, int64_t C, int64_t pixels, float *out, int64_t row,
                    int64_t from)
{
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < C; c++) out[p * row + from + c] = in[c * pixels + p];
}

/* x to the networks' inputs, once per half. */
static void set_latents(cn_draw *d, const cn_draw_args *a, const float *x)
{
    int64_t in = d->spec.unet->in_channels, C = d->spec.unet->out_channels, pixels = pixels_of(d);
    for (int64_t i = 0; i < d->references + d->n; i++) {
        const float *from = i < d->references
                                ? d->reference + C * pixels
                                : x + (i - d->references) % d->spec.batch * C * pixels;
        to_rows(from, C, pixels, d->latents + i * C * pixels, C, 0);
        to_rows(from, C, pixels, d->input + i * in * pixels, in, 0);
        if (in > C) to_rows(a->extra, in - C, pixels, d->input + i * in * pixels, in, C);
    }
}

/* The ControlNets that act at step i of n, in this turn. */
static unsigned acting(const cn_draw *d, const cn_draw_args *a, int i, int n, int turn)
{
    unsigned bits = 0;
    for (int k = 0; k < d->spec.n_controls; k++) {
        if (d->turns > 1 && d->spec.controls[k].cond_only && turn == 0) continue;
        if (cn_denoiser_acts(d->networks, k, &a->hints[k], i, n)) bits |= 1u << k;
    }
    return bits;
}

/* Those whose condition counts. */
static unsigned seeing(const cn_draw *d, const cn_draw_args *a, int i, int n)
{
    unsigned bits = 0;
    for (int k = 0; k < d->spec.n_controls; k++)
        if (cn_denoiser_sees(d->networks, k, &a->hints[k], i, n)) bits |= 1u << k;
    return bits;
}

static double deviation(const float *v, int64_t n)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)v[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += ((double)v[i] - mean) * ((double)v[i] - mean);
    return sqrt(squares / (double)n);
}

/* Each guided prediction back to the deviation of the conditional one, by the part `rescale`. */
static void rescale_guided(const cn_draw *d, double rescale, const float *cond, float *out)
{
    int64_t n = latent_elements(d) / d->spec.batch;
    for (int64_t i = 0; i < d->spec.batch; i++) {
        double guided = deviation(out + i * n, n);
        if (guided == 0) continue;
        float factor = (float)(rescale * deviation(cond + i * n, n) / guided + 1 - rescale);
        for (int64_t k = i * n; k < (i + 1) * n; k++) out[k] *= factor;
    }
}

static bool is_guided(const cn_draw *d, const cn_draw_args *a, int i, int n)
{
    const double end = a->guidance_end > 0 ? a->guidance_end : 1;
    return d->spec.guidance && (double)i / n >= a->guidance_start && (double)(i + 1) / n <= end;
}

/* The two halves' predictions, NHWC, to one in NCHW: u + scale (c - u), or c without guidance. */
static void guide(const cn_draw *d, const cn_draw_args *a, bool guided, const float *y, float *out)
{
    const int64_t cond = d->spec.guidance ? latent_elements(d) : 0;
    int64_t C = d->spec.unet->out_channels, pixels = pixels_of(d), n = latent_elements(d);
    float scale = (float)a->cfg_scale;
    for (int64_t i = 0; i < d->spec.batch; i++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < C; c++) {
                const float *u = y + (i * pixels + p) * C + c;
                out[(i * C + c) * pixels + p] = guided ? *u + scale * (u[n] - *u) : u[cond];
            }
    if (guided && a->guidance_rescale > 0) rescale_guided(d, a->guidance_rescale, y + n, out);
}

/* One run of the networks; *y: what the UNet gave. */
static cn_status run_turn(cn_draw *d, const cn_draw_args *a, int i, int n, int turn,
                          const float **y)
{
    const cn_denoise_input in = {.x = d->input,
                                 .latents = d->latents,
                                 .times = d->times,
                                 .context = d->features,
                                 .added = d->added,
                                 .scale = d->scale,
                                 .unconditional = unconditional_samples(d, turn)};
    set_context(d, a, i, turn);
    CN_TRY(cn_denoiser_run(d->networks, acting(d, a, i, n, turn), seeing(d, a, i, n), a->hints, &in,
                           y));
    if (d->turns == 1) return CN_OK;
    memcpy(d->halves + turn * latent_elements(d), *y, (size_t)latent_elements(d) * sizeof **y);
    *y = d->halves;
    return CN_OK;
}

cn_status cn_draw_predict(cn_draw *d, const cn_draw_args *a, int i, int n, double timestep,
                          const float *x, float *out)
{
    const float *y = NULL;
    set_latents(d, a, x);
    for (int64_t k = 0; k < d->references + d->n; k++) d->times[k] = (float)timestep;
    const bool guided = is_guided(d, a, i, n);
    const int first = d->turns > 1 && !guided ? 1 : 0; /* the unconditional half comes first */
    for (int turn = first; turn < d->turns; turn++) CN_TRY(run_turn(d, a, i, n, turn, &y));
    guide(d, a, guided, y, out);
    return CN_OK;
}

/* --- every step ------------------------------------------------------------------------------- */

/* Where the mask keeps the picture, x becomes the picture's latents at timestep i's noise (clean
 * behind the last), as diffusers' inpainting does with a UNet that knows no mask. */
static void keep_picture(cn_draw *d, const cn_draw_args *a, const cn_sampler *sampler, int i,
                         float *latents)
{
    const cn_draw_keep *k = &a->keep;
    if (!k->mask || (k->estimate && i < cn_sampler_steps(sampler))) return;
    int64_t pixels = pixels_of(d), one = d->spec.unet->out_channels * pixels;
    for (int64_t b = 0; b < d->spec.batch; b++) {
        const float *at = k->latents;
        float *x = latents + b * one;
        if (i < cn_sampler_steps(sampler)) {
            cn_sampler_add_noise(sampler, i, k->latents, k->noise + b * one, d->model, one);
            at = d->model;
        }
        for (int64_t e = 0; e < one; e++) {
            float m = k->mask[e % pixels];
            x[e] = (1 - m) * at[e] + m * x[e];
        }
    }
}

/* Where the mask keeps the picture, the prediction becomes the one whose estimate it is. */
static void keep_estimate(cn_draw *d, const cn_draw_args *a, const cn_sampler *sampler, int i)
{
    const cn_draw_keep *k = &a->keep;
    if (!k->mask || !k->estimate) return;
    const cn_estimate e = cn_sampler_estimate(sampler, sampler->levels[i]);
    const int64_t pixels = pixels_of(d), one = d->spec.unet->out_channels * pixels;
    for (int64_t v = 0; v < d->spec.batch * one; v++) {
        const double m = (double)k->mask[v % pixels], x = (double)a->latents[v];
        const double wanted = ((double)k->latents[v % one] - e.x0_x * x) / e.x0_m;
        d->prediction[v] = (float)(m * (double)d->prediction[v] + (1 - m) * wanted);
    }
}

/* The reference with the noise of step i, drawn anew for each and alike for every picture. */
static void noise_reference(cn_draw *d, const cn_draw_args *a, const cn_sampler *sampler, int i)
{
    const int64_t one = d->spec.unet->out_channels * pixels_of(d);
    float *noise = d->reference, *scaled = d->reference + one;
    cn_rng rng;
    if (!d->references) return;
    cn_rng_seed(&rng, (uint64_t)i);
    cn_rng_normal(&rng, noise, one);
    cn_sampler_add_noise(sampler, i, a->reference, noise, d->model, one);
    cn_sampler_scale_input(sampler, i, d->model, scaled, one);
}

/* Before step i of `last`, whose prediction is there. */
static cn_status preview(cn_draw *d, const cn_sampler *sampler, const cn_draw_args *a, int i)
{
    int last = cn_sampler_steps(sampler), done = i + 1 - a->first;
    if (!a->preview || a->preview_interval < 1 || done % a->preview_interval || i + 1 == last)
        return CN_OK;
    cn_sampler_denoise(sampler, i, d->prediction, a->latents, d->model, latent_elements(d));
    keep_picture(d, a, sampler, last, d->model);
    return a->preview(a->user, done, last - a->first, d->model);
}

cn_status cn_draw_run(cn_draw *d, cn_sampler *sampler, const cn_draw_args *a)
{
    const int steps = cn_sampler_steps(sampler) - a->first;
    const int last = a->last ? a->last : cn_sampler_steps(sampler);
    int64_t n = latent_elements(d);
    CN_TRY(cn_draw_begin(d, a));
    for (int i = a->first; i < last; i++) {
        if (cn_cancelled(d->ctx)) return cn_fail(d->ctx, CN_ECANCELLED, "interrupted");
        noise_reference(d, a, sampler, i);
        cn_sampler_scale_input(sampler, i, a->latents, d->model, n);
        CN_TRY(cn_draw_predict(d, a, i - a->first + a->behind, steps + a->behind,
                               cn_sampler_timestep(sampler, i), d->model, d->prediction));
        keep_estimate(d, a, sampler, i);
        CN_TRY(preview(d, sampler, a, i));
        CN_TRY(cn_sampler_step(sampler, i, d->prediction, a->latents, n, a->rng));
        keep_picture(d, a, sampler, i + 1, a->latents);
        if (a->progress) a->progress(a->user, i + 1 - a->first, last - a->first);
    }
    return CN_OK;
}
