/* draw.c - UNet and ControlNets planned as one graph, and the loop of sampling around it.
 *
 * Condition images and the text's features are stable inputs: the hint networks and the cross-attention's
 * keys and values run once per picture. Strengths are inputs, so the control's window costs no second
 * plan.
 */
#include "diffuse/draw.h"

#include <string.h>

struct cn_draw {
    cn_ctx *ctx;
    cn_graph *graph;
    cn_plan *plan;
    cn_draw_spec spec;
    int64_t n; /* batch of the graph: one or two halves */
    cn_node *x, *t, *context, *image[CN_MAX_CONTROLS], *strength[CN_MAX_CONTROLS], *y;
    float *input;              /* x as the graph wants it */
    float *times;              /* [n] */
    float *features;           /* context */
    float *tile;               /* a condition image, once per batch element */
    float *prediction, *model; /* [B,C,h,w] of run: the guided prediction and the scaled latents */
};

static void to_nhwc(const float *in, float *out, int64_t N, int64_t C, int64_t pixels)
{
    for (int64_t i = 0; i < N; i++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < C; c++)
                out[(i * pixels + p) * C + c] = in[(i * C + c) * pixels + p];
}

static int64_t pixels_of(const cn_draw *d)
{
    return d->spec.latent_h * d->spec.latent_w;
}

static int64_t latent_elements(const cn_draw *d)
{
    return d->spec.batch * d->spec.unet->in_channels * pixels_of(d);
}

/* Adds b to a, residual by residual. */
static void residuals_add(cn_graph *g, cn_residuals *a, const cn_residuals *b)
{
    for (int i = 0; i < b->n; i++)
        a->down[i] = a->down[i] ? cn_add(g, a->down[i], b->down[i]) : b->down[i];
    a->mid = a->mid ? cn_add(g, a->mid, b->mid) : b->mid;
    a->n = b->n;
}

static void build_control(cn_draw *d, int k, cn_residuals *sum)
{
    cn_graph *g = d->graph;
    const cn_controlnet_config *c = d->spec.controls[k].config;
    int64_t factor = (int64_t)1 << (c->hint_levels - 1), one = 1;
    int64_t shape[4] = {d->n, d->spec.latent_h * factor, d->spec.latent_w * factor,
                        c->condition_channels};
    char name[64];
    snprintf(name, sizeof name, "condition%d", k);
    d->image[k] = cn_input(g, name, CN_F32, 4, shape, true);
    snprintf(name, sizeof name, "strength%d", k);
    d->strength[k] = cn_input(g, name, CN_F32, 1, &one, false);
    cn_graph_use(g, d->spec.controls[k].params);
    cn_node *hint = cn_controlnet_hint_build(g, c, d->image[k]);
    cn_residuals r;
    cn_controlnet_build(g, c, d->x, d->t, d->context, hint, &r);
    for (int i = 0; i < r.n; i++) r.down[i] = cn_scale_by(g, r.down[i], d->strength[k]);
    if (r.mid) r.mid = cn_scale_by(g, r.mid, d->strength[k]);
    residuals_add(g, sum, &r);
}

static void build(cn_draw *d)
{
    const cn_draw_spec *s = &d->spec;
    int64_t x_shape[4] = {d->n, s->latent_h, s->latent_w, s->unet->in_channels};
    int64_t context_shape[3] = {d->n, s->context_length, s->unet->context_dim};
    d->x = cn_input(d->graph, "x", CN_F32, 4, x_shape, false);
    d->t = cn_input(d->graph, "t", CN_F32, 1, &d->n, false);
    d->context = cn_input(d->graph, "context", CN_F32, 3, context_shape, true);
    cn_residuals sum = {0};
    for (int k = 0; k < s->n_controls; k++) build_control(d, k, &sum);
    cn_graph_use(d->graph, s->unet_params);
    d->y = cn_unet_build(d->graph, s->unet, d->x, d->t, d->context, s->n_controls ? &sum : NULL);
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
    if (s->unet->in_channels != s->unet->out_channels)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the UNet takes %lld channels and gives %lld: an inpainting or editing "
                       "model; one that takes what it gives is expected",
                       (long long)s->unet->in_channels, (long long)s->unet->out_channels);
    for (int k = 0; k < s->n_controls; k++)
        if (s->controls[k].config->condition_channels != 3)
            return cn_fail(ctx, CN_EMISMATCH,
                           "the ControlNet's condition has %lld channels; 3 (RGB) are expected",
                           (long long)s->controls[k].config->condition_channels);
    return CN_OK;
}

static cn_status allocate(cn_draw *d)
{
    size_t latents = (size_t)latent_elements(d) * sizeof(float);
    size_t image = 0;
    for (int k = 0; k < d->spec.n_controls; k++)
        image = CN_MAX(image, (size_t)cn_node_elements(d->image[k]) * sizeof(float));
    d->input = cn_alloc(d->ctx, (size_t)cn_node_elements(d->x) * sizeof(float));
    d->times = cn_alloc(d->ctx, (size_t)d->n * sizeof(float));
    d->features = cn_alloc(d->ctx, (size_t)cn_node_elements(d->context) * sizeof(float));
    d->prediction = cn_alloc(d->ctx, latents);
    d->model = cn_alloc(d->ctx, latents);
    if (image && !(d->tile = cn_alloc(d->ctx, image))) return CN_ENOMEM;
    bool all = d->input && d->times && d->features && d->prediction && d->model;
    return all ? CN_OK : CN_ENOMEM;
}

cn_status cn_draw_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, cn_draw **out)
{
    CN_TRY(check(ctx, spec));
    cn_draw *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    d->ctx = ctx;
    d->spec = *spec;
    d->n = spec->batch * (spec->guidance ? 2 : 1);
    cn_status s = cn_graph_create(ctx, &d->graph);
    if (s == CN_OK) {
        build(d);
        s = cn_graph_status(d->graph);
    }
    if (s == CN_OK) s = cn_plan_create(ctx, d->graph, be, &d->y, 1, false, &d->plan);
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
    cn_plan_destroy(d->plan);
    cn_graph_destroy(d->graph);
    cn_free(d->input);
    cn_free(d->times);
    cn_free(d->features);
    cn_free(d->tile);
    cn_free(d->prediction);
    cn_free(d->model);
    cn_free(d);
}

void cn_draw_info(const cn_draw *d, cn_plan_info *info)
{
    cn_plan_info_get(d->plan, info);
}

static int stage_at(const cn_draw_stages *s, int step)
{
    int k = 0;
    while (k + 1 < s->n && step > s->until[k]) k++;
    return k;
}

static cn_status set_stable(cn_draw *d, const cn_draw_args *a, int step)
{
    int64_t batch = d->spec.batch, row = cn_node_elements(d->context) / d->n;
    const float *cond = a->cond + stage_at(&a->cond_stages, step) * row, *uncond = NULL;
    if (d->spec.guidance) uncond = a->uncond + stage_at(&a->uncond_stages, step) * row;
    for (int64_t i = 0; i < d->n; i++)
        memcpy(d->features + i * row, uncond && i < batch ? uncond : cond,
               (size_t)row * sizeof(float));
    CN_TRY(cn_plan_set(d->plan, d->context, d->features));
    for (int k = 0; k < d->spec.n_controls; k++) {
        int64_t one = cn_node_elements(d->image[k]) / d->n;
        for (int64_t i = 0; i < d->n; i++)
            memcpy(d->tile + i * one, a->hints[k].image, (size_t)one * sizeof(float));
        CN_TRY(cn_plan_set(d->plan, d->image[k], d->tile));
    }
    return CN_OK;
}

/* The two halves' predictions, NHWC, to one in NCHW: u + scale (c - u). */
static void guide(const cn_draw *d, double cfg_scale, const float *y, float *out)
{
    int64_t C = d->spec.unet->out_channels, pixels = pixels_of(d), n = latent_elements(d);
    float scale = (float)cfg_scale;
    for (int64_t i = 0; i < d->spec.batch; i++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < C; c++) {
                const float *u = y + (i * pixels + p) * C + c;
                out[(i * C + c) * pixels + p] = d->spec.guidance ? *u + scale * (u[n] - *u) : *u;
            }
}

cn_status cn_draw_predict(cn_draw *d, const cn_draw_args *a, int i, int n, double timestep,
                          const float *x, float *out)
{
    CN_TRY(set_stable(d, a, i));
    int64_t elements = latent_elements(d);
    to_nhwc(x, d->input, d->spec.batch, d->spec.unet->in_channels, pixels_of(d));
    if (d->spec.guidance) memcpy(d->input + elements, d->input, (size_t)elements * sizeof(float));
    CN_TRY(cn_plan_set(d->plan, d->x, d->input));
    for (int64_t k = 0; k < d->n; k++) d->times[k] = (float)timestep;
    CN_TRY(cn_plan_set(d->plan, d->t, d->times));
    for (int k = 0; k < d->spec.n_controls; k++) {
        const cn_draw_hint *h = &a->hints[k];
        bool off = (double)i / n < h->start || (double)(i + 1) / n > h->end;
        float strength = off ? 0 : (float)h->strength;
        CN_TRY(cn_plan_set(d->plan, d->strength[k], &strength));
    }
    CN_TRY(cn_plan_run(d->plan));
    guide(d, a->cfg_scale, cn_plan_data(d->plan, d->y), out);
    return CN_OK;
}

cn_status cn_draw_run(cn_draw *d, cn_sampler *sampler, const cn_draw_args *a)
{
    int steps = cn_sampler_steps(sampler);
    int64_t n = latent_elements(d);
    for (int i = 0; i < steps; i++) {
        if (cn_cancelled(d->ctx)) return cn_fail(d->ctx, CN_ECANCELLED, "interrupted");
        cn_sampler_scale_input(sampler, i, a->latents, d->model, n);
        CN_TRY(cn_draw_predict(d, a, i, steps, cn_sampler_timestep(sampler, i), d->model,
                               d->prediction));
        CN_TRY(cn_sampler_step(sampler, i, d->prediction, a->latents, n, a->rng));
        if (a->progress) a->progress(a->user, i + 1, steps);
    }
    return CN_OK;
}
