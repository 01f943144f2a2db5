/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h. Source: diffusers' pipeline_controlnet.py (windows, guess mode), the
 * webui extension's hook.py (weights per block, region masks: bilinear to each residual's size). */
#include "diffuse/control.h"

#include "image/resize.h"

#include <string.h>

struct cn_control {
    cn_ctx *ctx;
    int64_t n; /* batch of its plan */
    struct {
        cn_graph *graph;
        cn_plan *plan;
        cn_node *image, *y;
    } hint;
    cn_graph *graph;
    cn_plan *plan;
    cn_node *x, *t, *context, *features;
    cn_node *y[CN_MAX_CONTROL_OUTPUTS]; /* the middle's last */
    int n_y;
    float *feature_values; /* the hint network's result for one picture */
    float *mask;           /* the region at each residual's size, one behind the other */
    bool hinted;           /* feature_values and mask belong to this run */
};

static cn_status build_hint(cn_control *u, const cn_draw_spec *s, const cn_draw_control *c)
{
    int64_t factor = (int64_t)1 << (c->config->hint_levels - 1);
    CN_TRY(cn_graph_create(u->ctx, &u->hint.graph));
    cn_graph *g = u->hint.graph;
    u->hint.image = cn_input4(g, "condition", 1, s->latent_h * factor, s->latent_w * factor,
                              c->config->condition_channels);
    cn_graph_use(g, c->params);
    u->hint.y = cn_controlnet_hint_build(g, c->config, u->hint.image);
    return cn_graph_status(g);
}

static cn_status build_encoder(cn_control *u, const cn_draw_spec *s, const cn_draw_control *c)
{
    CN_TRY(cn_graph_create(u->ctx, &u->graph));
    cn_graph *g = u->graph;
    int64_t context_shape[3] = {u->n, s->context_length, c->config->encoder.context_dim};
    u->x = cn_input4(g, "x", u->n, s->latent_h, s->latent_w, c->config->encoder.in_channels);
    u->t = cn_input(g, "t", CN_F32, 1, &u->n, false);
    u->context = cn_input(g, "context", CN_F32, 3, context_shape, true);
    u->features = cn_input4(g, "hint", u->n, s->latent_h, s->latent_w, cn_channels(u->hint.y));
    cn_graph_use(g, c->params);
    cn_residuals r;
    cn_controlnet_build(g, c->config, u->x, u->t, u->context, u->features, &r);
    CN_TRY(cn_graph_status(g));
    for (int i = 0; i < r.n; i++) u->y[i] = r.down[i];
    u->y[r.n] = r.mid;
    u->n_y = r.n + 1;
    return CN_OK;
}

static int64_t pixels_of(const cn_node *y)
{
    return y->shape[1] * y->shape[2];
}

static cn_status allocate(cn_control *u)
{
    int64_t mask = 0;
    for (int i = 0; i < u->n_y; i++) mask += pixels_of(u->y[i]);
    size_t features = (size_t)cn_node_elements(u->hint.y);
    u->feature_values = cn_alloc_array(u->ctx, features, sizeof(float));
    u->mask = cn_alloc_array(u->ctx, (size_t)mask, sizeof(float));
    return u->feature_values && u->mask ? CN_OK : CN_ENOMEM;
}

cn_status cn_control_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int k,
                            cn_control **out)
{
    const cn_draw_control *c = &spec->controls[k];
    cn_control *u = cn_alloc0(ctx, sizeof *u);
    if (!u) return CN_ENOMEM;
    u->ctx = ctx;
    u->n = spec->batch * (spec->guidance && !spec->halves_in_turn && !c->cond_only ? 2 : 1);
    cn_status s = build_hint(u, spec, c);
    if (s == CN_OK) s = cn_plan_create(ctx, u->hint.graph, be, &u->hint.y, 1, false, &u->hint.plan);
    if (s == CN_OK) s = build_encoder(u, spec, c);
    if (s == CN_OK) s = cn_plan_create(ctx, u->graph, be, u->y, u->n_y, false, &u->plan);
    if (s == CN_OK) s = allocate(u);
    if (s != CN_OK) {
        cn_control_destroy(u);
        return s;
    }
    *out = u;
    return CN_OK;
}

void cn_control_destroy(cn_control *u)
{
    if (!u) return;
    cn_plan_destroy(u->hint.plan);
    cn_graph_destroy(u->hint.graph);
    cn_plan_destroy(u->plan);
    cn_graph_destroy(u->graph);
    cn_free(u->feature_values);
    cn_free(u->mask);
    cn_free(u);
}

int cn_control_outputs(const cn_control *u)
{
    return u->n_y;
}

const int64_t *cn_control_shape(const cn_control *u, int i)
{
    return u->y[i]->shape;
}

void cn_control_info(const cn_control *u, cn_plan_info *info)
{
    cn_plan_info hint;
    cn_plan_info_get(u->plan, info);
    cn_plan_info_get(u->hint.plan, &hint);
    /* The hint network's memory is given back before the other's is taken. */
    info->arena_bytes = CN_MAX(info->arena_bytes, hint.arena_bytes) +
                        (size_t)cn_node_elements(u->hint.y) * sizeof(float);
}

void cn_control_begin(cn_control *u)
{
    u->hinted = false;
}

bool cn_control_acts(const cn_draw_hint *h, int n_outputs, int i, int n)
{
    bool any = !h->weights;
    for (int k = 0; k < n_outputs && !any; k++) any = h->weights[k] != 0;
    return any && h->strength != 0 && !((double)i / n < h->start || (double)(i + 1) / n > h->end);
}

/* The region at residual y's size, bilinear without smoothing. */
static cn_status shrink_mask(cn_control *u, const float *mask, const cn_node *y, float *out)
{
    const int64_t *image = u->hint.image->shape;
    cn_resize_spec spec = {.filter = CN_FILTER_LINEAR,
                           .in_h = image[1],
                           .in_w = image[2],
                           .out_h = y->shape[1],
                           .out_w = y->shape[2],
                           .channels = 1};
    return cn_resize_f32(u->ctx, &spec, mask, out);
}

/* The hint network's features and the region at each size, once per run. */
static cn_status prepare(cn_control *u, const cn_draw_hint *h)
{
    if (u->hinted) return CN_OK;
    CN_TRY(cn_plan_set(u->hint.plan, u->hint.image, h->image));
    CN_TRY(cn_plan_run(u->hint.plan));
    if (!cn_plan_get(u->hint.plan, u->hint.y, u->feature_values))
        return cn_fail(u->ctx, CN_EINTERNAL, "the hint network's result was not kept");
    cn_plan_drop(u->hint.plan);
    float *to = cn_plan_data(u->plan, u->features);
    size_t one = (size_t)cn_node_elements(u->hint.y);
    for (int64_t i = 0; to && i < u->n; i++)
        memcpy(to + (size_t)i * one, u->feature_values, one * sizeof(float));
    float *mask = u->mask;
    for (int i = 0; h->mask && i < u->n_y; i++) {
        CN_TRY(shrink_mask(u, h->mask, u->y[i], mask));
        mask += pixels_of(u->y[i]);
    }
    u->hinted = true;
    return CN_OK;
}

/* to += scale * mask * from; mask [pixels] or NULL. */
static void add_scaled(const cn_node *y, const float *from, float scale, const float *mask,
                       float *to)
{
    int64_t N = y->shape[0], pixels = pixels_of(y), C = cn_channels(y);
    for (int64_t i = 0; i < N * pixels; i++) {
        float by = mask ? scale * mask[i % pixels] : scale;
        for (int64_t c = 0; c < C; c++) to[i * C + c] += by * from[i * C + c];
    }
}

cn_status cn_control_add(cn_control *u, const cn_draw_hint *h, const cn_control_input *in,
                         const cn_control_sums *sums)
{
    CN_TRY(prepare(u, h));
    CN_TRY(cn_plan_set(u->plan, u->x, in->x));
    CN_TRY(cn_plan_set(u->plan, u->t, in->times));
    CN_TRY(cn_plan_set(u->plan, u->context, in->context));
    CN_TRY(cn_plan_run(u->plan));
    const float *mask = h->mask ? u->mask : NULL;
    for (int i = 0; i < u->n_y; i++) {
        const cn_node *y = u->y[i];
        const float *from = cn_plan_data(u->plan, y);
        float scale = (float)h->strength * (h->weights ? h->weights[i] : 1);
        if (!from) return cn_fail(u->ctx, CN_EINTERNAL, "a control residual was not kept");
        if (scale != 0) add_scaled(y, from, scale, mask, sums->data[i]);
        if (mask) mask += pixels_of(y);
    }
    return CN_OK;
}
