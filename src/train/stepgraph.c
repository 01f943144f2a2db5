/* SPDX-License-Identifier: Apache-2.0 */
/* stepgraph.c - builds, derives and plans the graph of a training step. */
#include "train/stepgraph.h"

#include "diffuse/added.h"

#include <string.h>

void cn_stepgraph_destroy(cn_stepgraph *s)
{
    if (!s) return;
    cn_plan_destroy(s->plan);
    cn_graph_destroy(s->g);
    cn_free(s->hints.out);
    cn_free(s->rgb);
    cn_free(s);
}

static void make_inputs(cn_stepgraph *s, const cn_unet_config *u)
{
    const cn_stepgraph_options *o = &s->o;
    cn_graph *g = s->g;
    s->x = cn_input4(g, "noisy", o->batch, o->latent_h, o->latent_w, u->in_channels);
    s->t = cn_input(g, "timestep", CN_F32, 1, &o->batch, false);
    s->context =
        cn_input(g, "context", CN_F32, 3, (int64_t[]){o->batch, o->tokens, u->context_dim}, false);
    s->number_dim = u->added_number_dim;
    if (u->added_dim)
        s->added = cn_input(g, "added", CN_F32, 2, (int64_t[]){o->batch, u->added_dim}, false);
    s->target = cn_input4(g, "target", o->batch, o->latent_h, o->latent_w, u->out_channels);
    if (o->weighted) s->per = cn_input(g, "weights", CN_F32, 2, (int64_t[]){o->batch, 2}, false);
}

/* What follows from the condition alone, its inputs, and a Union's types. */
static cn_status make_hints(cn_stepgraph *s)
{
    const cn_stepgraph_options *o = &s->o;
    const cn_draw_control *c = &s->control;
    cn_ctx *ctx = cn_graph_ctx(s->g);
    cn_condition_spec spec = c->condition;
    spec.h = o->latent_h;
    spec.w = o->latent_w;
    spec.batch = o->batch;
    spec.n = 1;
    s->hints.out = cn_alloc0(ctx, (size_t)c->kind->count(c->config) * sizeof(cn_node *));
    if (c->kind->fill)
        s->rgb = cn_alloc_array(ctx, (size_t)(3 * o->width * o->height), sizeof *s->rgb);
    if (!s->hints.out || (c->kind->fill && !s->rgb)) return CN_ENOMEM;
    cn_graph_use(s->g, c->params);
    c->kind->hints(s->g, c->config, &spec, &s->hints);
    s->condition = s->hints.image[0];
    const cn_controlnet_config *net = c->kind->residuals ? c->config : NULL;
    if (!net || !net->union_types) return CN_OK;
    s->types =
        cn_input(s->g, "types", CN_F32, 2,
                 (int64_t[]){o->batch, net->union_types * net->encoder.added_number_dim}, false);
    return CN_OK;
}

static cn_status build(cn_stepgraph *s, const cn_unet_config *u, cn_params *unet)
{
    cn_graph *g = s->g;
    make_inputs(s, u);
    if (s->o.control) CN_TRY(make_hints(s));
    const cn_unet_inputs in = {.x = s->x, .t = s->t, .context = s->context, .added = s->added};
    cn_control_unit unit = {.kind = s->control.kind,
                            .config = s->control.config,
                            .params = s->control.params,
                            .in = in,
                            .hints = s->hints.out,
                            .only_mid = s->o.only_mid};
    unit.in.types = s->types;
    s->prediction = cn_controlled_unet_build(g, u, unet, &in, &unit, s->o.control ? 1 : 0);
    s->loss = s->per ? cn_loss_weighted(g, s->o.loss, s->prediction, s->target, s->per)
                     : cn_loss_node(g, s->o.loss, s->prediction, s->target);
    if (s->o.gradients) s->segments = cn_graph_checkpoint_best(g, s->o.checkpointed);
    if (!s->o.gradients) return cn_graph_status(g);
    if (!s->o.scaled) return cn_graph_backward(g, s->loss);
    s->scale = cn_input(g, "loss scale", CN_F32, 1, (int64_t[]){1}, false);
    return cn_graph_backward_scaled(g, s->loss, s->scale);
}

cn_status cn_stepgraph_create(cn_ctx *ctx, cn_backend *be, const cn_unet_config *unet_config,
                              cn_params *unet, const cn_draw_control *control,
                              const cn_stepgraph_options *options, cn_stepgraph **out)
{
    cn_stepgraph *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    s->o = *options;
    if (s->o.control) s->control = *control;
    cn_status status = cn_graph_create(ctx, &s->g);
    if (status == CN_OK) status = build(s, unet_config, unet);
    if (status == CN_OK)
        status = cn_plan_create(ctx, s->g, be, (cn_node *[]){s->loss, s->prediction}, 2,
                                s->o.gradients, &s->plan);
    if (status != CN_OK) {
        cn_stepgraph_destroy(s);
        return status;
    }
    *out = s;
    return CN_OK;
}

static const float *gradient(const cn_stepgraph *s, const cn_param *q)
{
    const cn_node *grad = cn_param_grad(s->g, q);
    return grad ? cn_plan_address(s->plan, grad) : NULL;
}

cn_status cn_stepgraph_trained(cn_ctx *ctx, const cn_stepgraph *s, const cn_params *control,
                               const cn_params *unet, cn_param ***params, const float ***grads,
                               int64_t *n)
{
    const cn_params *const sets[] = {control, unet};
    const int64_t most = cn_params_count(control) + cn_params_count(unet) + 1;
    cn_param **list = *params = cn_alloc_array(ctx, (size_t)most, sizeof *list);
    const float **from = *grads = cn_alloc_array(ctx, (size_t)most, sizeof *from);
    *n = 0;
    if (!list || !from) return CN_ENOMEM;
    for (size_t k = 0; k < CN_COUNT(sets); k++)
        for (int64_t i = 0; i < cn_params_count(sets[k]); i++) {
            cn_param *q = cn_params_at(sets[k], i);
            if (!(from[*n] = gradient(s, q))) continue;
            list[(*n)++] = q;
        }
    return CN_OK;
}

/* --- inputs ----------------------------------------------------------------------------------- */

static void put(cn_stepgraph *g, const cn_node *input, const float *from, int64_t i, int64_t to)
{
    const int64_t n = cn_node_elements(input) / g->o.batch;
    float *data = cn_plan_data(g->plan, input);
    if (data) memcpy(data + to * n, from + i * n, (size_t)n * sizeof *from);
}

/* Sample i's context and, behind it, pooled text, which goes with the size: as
 * train_controlnet_sdxl has it, what is trained on counts as uncropped and of its own size. */
static void put_text(cn_stepgraph *g, const float *texts, int64_t i, int64_t to)
{
    const int64_t context = cn_node_elements(g->context) / g->o.batch;
    if (!g->added) {
        put(g, g->context, texts, i, to);
        return;
    }
    const int64_t D = cn_channels(g->added), pooled = D - CN_ADDED_NUMBERS * g->number_dim;
    const float *text = texts + i * (context + pooled);
    float *data = cn_plan_data(g->plan, g->context), *added = cn_plan_data(g->plan, g->added);
    const cn_picture_sizes sizes = {.original_w = g->o.width,
                                    .original_h = g->o.height,
                                    .target_w = g->o.width,
                                    .target_h = g->o.height};
    float numbers[CN_ADDED_NUMBERS];
    if (data) memcpy(data + to * context, text, (size_t)context * sizeof *data);
    if (!added) return;
    cn_added_numbers(&sizes, numbers);
    cn_added_embed(text + context, pooled, numbers, CN_ADDED_NUMBERS, g->number_dim,
                   added + to * D);
}

/* 8-bit values to numbers in [0,1], in the form that the network takes them in. */
static void put_condition(cn_stepgraph *g, const cn_pass *p, int64_t from, int64_t to)
{
    float *all = g->condition ? cn_plan_data(g->plan, g->condition) : NULL;
    if (!all) return;
    const int64_t pixels = 3 * g->o.width * g->o.height;
    float *out = all + to * (cn_node_elements(g->condition) / g->o.batch);
    float *rgb = g->rgb ? g->rgb : out;
    for (int64_t k = 0; k < pixels; k++) rgb[k] = (float)p->condition[from * pixels + k] / 255.0f;
    if (!g->rgb) return;
    g->control.kind->fill(g->control.config, rgb, g->o.height, g->o.width, out);
}

/* A Union's type is the data set's: 1 for it, 0 for the others, each as a number of the added
 * embedding is taken. */
static void put_types(cn_stepgraph *g, int64_t to)
{
    const cn_controlnet_config *c = g->control.config;
    float *values = g->types ? cn_plan_data(g->plan, g->types) : NULL;
    for (int i = 0; values && i < c->union_types; i++) {
        const float given = i == g->control.condition.types[0] ? 1 : 0;
        const int64_t dim = c->encoder.added_number_dim;
        cn_added_embed(NULL, 0, &given, 1, dim, values + to * cn_channels(g->types) + i * dim);
    }
}

void cn_stepgraph_put(cn_stepgraph *g, int64_t to, const cn_pass *p, int64_t from)
{
    put(g, g->x, p->x, from, to);
    put(g, g->target, p->target, from, to);
    put(g, g->t, p->t, from, to);
    if (g->per) put(g, g->per, p->per, from, to);
    put_text(g, p->context, from, to);
    put_types(g, to);
    put_condition(g, p, from, to);
}

void cn_stepgraph_put_pass(cn_stepgraph *g, const cn_pass *p)
{
    for (int64_t i = 0; i < p->batch; i++) cn_stepgraph_put(g, i, p, i);
}
