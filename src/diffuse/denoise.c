/* SPDX-License-Identifier: Apache-2.0 */
/* denoise.c - see denoise.h. */
#include "diffuse/denoise.h"

#include "diffuse/added.h"
#include "diffuse/control.h"

#include <string.h>

struct cn_denoiser {
    cn_ctx *ctx;
    cn_draw_spec spec;
    int64_t n, references; /* samples of the drawing, and those before them */
    cn_reference reference;
    cn_control *controls[CN_MAX_CONTROLS];
    cn_graph *graph;
    cn_plan *plan;
    cn_unet_inputs in;   /* the UNet's */
    cn_unet_inputs both; /* of ControlNets for all samples; in's, but for an inpainting UNet's x */
    cn_unet_inputs cond; /* of those for the conditional half */
    cn_control_unit units[CN_MAX_CONTROLS];
    cn_node **hints[CN_MAX_CONTROLS]; /* n_hints inputs of each unit; owned */
    int n_hints[CN_MAX_CONTROLS];
    bool sees[CN_MAX_CONTROLS]; /* the unit's features are in the plan, not 0 */
    bool fed[CN_MAX_CONTROLS];  /* features and factors of this run are in the plan, which are 0 of
                                   a unit that is off */
    unsigned acting;            /* parts that are on */
    int64_t unconditional;      /* of the samples, those that the fed features are for */
    cn_node *scale;             /* the guidance scale's embedding; NULL unless the UNet takes it */
    cn_node *y;
};

/* --- creating --------------------------------------------------------------------------------- */

static cn_unet_inputs make_inputs(const cn_denoiser *d, int64_t n, int64_t channels)
{
    const cn_draw_spec *s = &d->spec;
    const int64_t context[3] = {n, s->context_length, s->unet->context_dim};
    const int64_t added[2] = {n, s->unet->added_dim};
    return (cn_unet_inputs){
        .x = cn_input4(d->graph, "x", n, s->latent_h, s->latent_w, channels),
        .t = cn_input(d->graph, "t", CN_F32, 1, &n, false),
        .context = cn_input(d->graph, "context", CN_F32, 3, context, true),
        .added = added[1] ? cn_input(d->graph, "added", CN_F32, 2, added, true) : NULL};
}

/* Of both of guidance's halves in one call, it sees the conditional one alone, the second. */
static bool sees_half(const cn_denoiser *d, int k)
{
    return d->n > d->spec.batch && d->spec.controls[k].cond_only;
}

/* Inputs for the unit's features, of n samples. */
static cn_status make_hints(cn_denoiser *d, int k, int64_t n)
{
    cn_node *const *shapes;
    d->n_hints[k] = cn_control_hints(d->controls[k], &shapes);
    d->hints[k] = cn_alloc0(d->ctx, (size_t)d->n_hints[k] * sizeof(cn_node *));
    if (!d->hints[k]) return CN_ENOMEM;
    for (int i = 0; i < d->n_hints[k]; i++) {
        const int64_t *shape = shapes[i]->shape;
        /* An image prompt's keys and values follow from it alone. */
        d->hints[k][i] =
            cn_input(d->graph, "hint", CN_F32, 4, (int64_t[]){n, shape[1], shape[2], shape[3]},
                     d->spec.controls[k].kind->attend != NULL);
    }
    return CN_OK;
}

/* A Union's types, for n samples. */
static cn_node *make_types(cn_denoiser *d, const cn_draw_control *c, int64_t n)
{
    const cn_controlnet_config *config = c->config;
    if (!c->kind->residuals || !config->union_types) return NULL;
    const int64_t shape[2] = {n, config->union_types * config->encoder.added_number_dim};
    return cn_input(d->graph, "types", CN_F32, 2, shape, true);
}

static cn_status make_unit(cn_denoiser *d, int k)
{
    const cn_draw_spec *s = &d->spec;
    const cn_draw_control *c = &s->controls[k];
    const bool half = sees_half(d, k) && !c->kind->whole;
    const int64_t n = half ? s->batch : d->n, latent = s->unet->out_channels;
    if (half && !d->cond.x) d->cond = make_inputs(d, n, latent);
    if (!half && !d->both.x && d->references) d->both = make_inputs(d, n, latent);
    if (!half && !d->both.x) {
        d->both = d->in;
        if (s->unet->in_channels != latent)
            d->both.x = cn_input4(d->graph, "latents", n, s->latent_h, s->latent_w, latent);
    }
    CN_TRY(make_hints(d, k, n));
    d->units[k] = (cn_control_unit){.kind = c->kind,
                                    .config = c->config,
                                    .params = c->params,
                                    .in = half ? d->cond : d->both,
                                    .first = d->references + d->n - n,
                                    .hints = d->hints[k],
                                    .part = k + 1,
                                    .gated = true};
    d->units[k].in.types = make_types(d, c, n);
    return CN_OK;
}

static cn_status build(cn_denoiser *d)
{
    const cn_draw_spec *s = &d->spec;
    CN_TRY(cn_graph_create(d->ctx, &d->graph));
    d->in = make_inputs(d, d->references + d->n, s->unet->in_channels);
    if (d->references) {
        d->reference = (cn_reference){.n = d->references,
                                      .unconditional = d->references - s->batch,
                                      .fidelity = s->style_fidelity,
                                      .weight = s->reference_weight};
        cn_reference_begin(&d->reference, s->unet);
        d->in.reference = &d->reference;
    }
    for (int k = 0; k < s->n_controls; k++) CN_TRY(make_unit(d, k));
    d->y = cn_controlled_unet_build(d->graph, s->unet, s->unet_params, &d->in, d->units,
                                    s->n_controls);
    if (s->unet->guidance_dim)
        d->scale =
            cn_graph_tap(d->graph, cn_params_network(s->unet_params), "time_embedding.guidance");
    return cn_graph_status(d->graph);
}

cn_status cn_denoiser_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int64_t N,
                             cn_denoiser **out)
{
    cn_status s = CN_OK;
    cn_denoiser *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    d->ctx = ctx;
    d->spec = *spec;
    d->n = N;
    d->references = cn_draw_references(spec);
    for (int k = 0; s == CN_OK && k < spec->n_controls; k++)
        s = cn_control_create(ctx, be, spec, k, &d->controls[k]);
    if (s == CN_OK) s = build(d);
    if (s == CN_OK) s = cn_plan_create(ctx, d->graph, be, &d->y, 1, false, &d->plan);
    if (s != CN_OK) {
        cn_denoiser_destroy(d);
        return s;
    }
    d->acting = (1u << spec->n_controls) - 1; /* as plans begin */
    *out = d;
    return CN_OK;
}

void cn_denoiser_destroy(cn_denoiser *d)
{
    if (!d) return;
    cn_plan_destroy(d->plan);
    cn_graph_destroy(d->graph);
    for (int k = 0; k < CN_MAX_CONTROLS; k++) {
        cn_control_destroy(d->controls[k]);
        cn_free(d->hints[k]);
    }
    cn_free(d);
}

/* A hint network's arena goes back before the call that it works for. */
void cn_denoiser_info(const cn_denoiser *d, cn_plan_info *info)
{
    size_t all_kept = 0;
    cn_plan_info_get(d->plan, info);
    for (int k = 0; k < d->spec.n_controls; k++) {
        cn_plan_info hint;
        size_t kept;
        cn_control_info(d->controls[k], &hint, &kept);
        info->arena_bytes = CN_MAX(info->arena_bytes, hint.arena_bytes);
        all_kept += kept;
    }
    info->arena_bytes += all_kept;
}

void cn_denoiser_begin(cn_denoiser *d)
{
    for (int k = 0; k < d->spec.n_controls; k++) {
        cn_control_begin(d->controls[k]);
        d->fed[k] = false;
    }
}

bool cn_denoiser_acts(const cn_denoiser *d, int k, const cn_draw_hint *h, int i, int n)
{
    return cn_control_acts(d->controls[k], h, i, n);
}

bool cn_denoiser_sees(const cn_denoiser *d, int k, const cn_draw_hint *h, int i, int n)
{
    return cn_control_sees(d->controls[k], h, i, n);
}

/* --- a call ----------------------------------------------------------------------------------- */

/* The factors of place r; all 0 where the unit is off, and for guidance's unconditional half where
 * it acts on the other alone. */
static cn_status feed_gate(cn_denoiser *d, int k, const cn_draw_hint *h, int r, bool acts)
{
    const cn_control_unit *u = &d->units[k];
    const cn_node *gate = u->gate[r];
    const size_t bytes = (size_t)cn_node_elements(gate) * sizeof(float);
    float *to = cn_plan_data(d->plan, gate);
    if (acts)
        CN_TRY(cn_control_factors(d->controls[k], h, r, gate->shape, to));
    else
        memset(to, 0, bytes);
    if (u->kind->whole && sees_half(d, k)) memset(to, 0, bytes / 2);
    return CN_OK;
}

/* The types of a Union's conditions: 1 for those there are, each as a number of the added embedding
 * is taken. */
static cn_status feed_types(cn_denoiser *d, int k)
{
    const cn_draw_control *c = &d->spec.controls[k];
    const cn_controlnet_config *config = c->config;
    const cn_node *types = d->units[k].in.types;
    const int64_t row = cn_channels(types), dim = config->encoder.added_number_dim;
    float *given = cn_alloc0(d->ctx, (size_t)config->union_types * sizeof *given);
    float *values = cn_alloc_array(d->ctx, (size_t)cn_node_elements(types), sizeof *values);
    cn_status s = given && values ? CN_OK : CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < c->condition.n; i++) given[c->condition.types[i]] = 1;
    for (int64_t n = 0; s == CN_OK && n < types->shape[0]; n++)
        cn_added_embed(NULL, 0, given, config->union_types, dim, values + n * row);
    if (s == CN_OK) s = cn_plan_set(d->plan, types, values);
    cn_free(given);
    cn_free(values);
    return s;
}

/* What stays while a unit acts: hint features and factors; or, while it doesn't, factors of 0. */
static cn_status feed_unit(cn_denoiser *d, int k, const cn_draw_hint *h)
{
    const cn_control_unit *u = &d->units[k];
    const bool acts = d->acting >> k & 1;
    for (int i = 0; acts && i < d->n_hints[k]; i++) {
        const cn_node *x = u->hints[i];
        float *to = cn_plan_data(d->plan, x);
        CN_TRY(cn_control_features(d->controls[k], h, i, x->shape[0], d->unconditional, to));
        if (!d->sees[k]) memset(to, 0, (size_t)cn_node_elements(x) * sizeof *to);
        if (x->stable) cn_plan_touch(d->plan);
    }
    for (int r = 0; r < u->n_gates; r++) CN_TRY(feed_gate(d, k, h, r, acts));
    if (u->in.types) CN_TRY(feed_types(d, k));
    d->fed[k] = true;
    return CN_OK;
}

/* Switches units on and off. One that comes in later needs room for its hint network, and what
 * follows from the text: the others are fed again. */
static cn_status feed(cn_denoiser *d, unsigned acting, unsigned seeing, const cn_draw_hint *hints)
{
    const unsigned changed = acting ^ d->acting, comes = acting & changed;
    d->acting = acting;
    for (int k = 0; k < d->spec.n_controls; k++) {
        const bool sees = seeing >> k & 1;
        if (sees != d->sees[k]) d->fed[k] = false;
        d->sees[k] = sees;
    }
    for (int k = 0; k < d->spec.n_controls; k++) {
        if (!(changed >> k & 1)) continue;
        cn_plan_part(d->plan, k + 1, acting >> k & 1);
        d->fed[k] = false;
        if (!(comes >> k & 1) || !cn_control_waits(d->controls[k])) continue;
        cn_plan_drop(d->plan);
        memset(d->fed, 0, sizeof d->fed);
    }
    for (int k = 0; k < d->spec.n_controls; k++)
        if (!d->fed[k]) CN_TRY(feed_unit(d, k, &hints[k]));
    return CN_OK;
}

/* Samples from `first` on. */
static cn_status set_inputs(const cn_denoiser *d, const cn_unet_inputs *to, const float *x,
                            const cn_denoise_input *in, int64_t first)
{
    const cn_node *c = to->context;
    if (!to->x) return CN_OK;
    CN_TRY(cn_plan_set(d->plan, to->x, x + first * (cn_node_elements(to->x) / to->x->shape[0])));
    CN_TRY(cn_plan_set(d->plan, to->t, in->times + first));
    if (to->added)
        CN_TRY(cn_plan_set(d->plan, to->added, in->added + first * cn_channels(to->added)));
    return cn_plan_set(d->plan, c, in->context + first * (cn_node_elements(c) / c->shape[0]));
}

cn_status cn_denoiser_run(cn_denoiser *d, unsigned acting, unsigned seeing,
                          const cn_draw_hint *hints, const cn_denoise_input *in, const float **y)
{
    for (int k = 0; k < d->spec.n_controls && in->unconditional != d->unconditional; k++)
        if (d->spec.controls[k].kind->attend) d->fed[k] = false;
    d->unconditional = in->unconditional;
    CN_TRY(feed(d, acting, seeing, hints));
    CN_TRY(set_inputs(d, &d->in, in->x, in, 0));
    if (d->scale) CN_TRY(cn_plan_set(d->plan, d->scale, in->scale));
    if (d->references)
        CN_TRY(set_inputs(d, &d->both, in->latents, in, d->references));
    else if (d->both.x && d->both.x != d->in.x)
        CN_TRY(cn_plan_set(d->plan, d->both.x, in->latents));
    CN_TRY(set_inputs(d, &d->cond, in->latents, in, d->references + d->n - d->spec.batch));
    CN_TRY(cn_plan_run(d->plan));
    CN_TRY(cn_plan_expect_finite(d->plan, d->y));
    *y = (const float *)cn_plan_data(d->plan, d->y) +
         d->references * (cn_node_elements(d->y) / d->y->shape[0]);
    return CN_OK;
}
