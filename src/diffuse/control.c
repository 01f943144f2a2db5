/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h. Source: diffusers' pipeline_controlnet.py (windows, guess mode), the
 * webui extension's hook.py (weights per block, region masks: bilinear to each residual's size). */
#include "diffuse/control.h"

#include "image/resize.h"

#include <string.h>

struct cn_control {
    cn_ctx *ctx;
    cn_graph *graph;
    cn_plan *plan;
    cn_node *image, *y;
    int n_residuals;
    float *features; /* y of this run */
    bool known;      /* they are */
};

static cn_status build(cn_control *u, const cn_draw_spec *s, const cn_draw_control *c)
{
    const cn_unet_config *e = &c->config->encoder;
    int64_t factor = (int64_t)1 << (c->config->hint_levels - 1);
    CN_TRY(cn_graph_create(u->ctx, &u->graph));
    u->image = cn_input4(u->graph, "condition", 1, s->latent_h * factor, s->latent_w * factor,
                         c->config->condition_channels);
    cn_graph_use(u->graph, c->params);
    u->y = cn_controlnet_hint_build(u->graph, c->config, u->image);
    u->n_residuals = e->levels * (e->layers_per_block + 1) + 1;
    return cn_graph_status(u->graph);
}

cn_status cn_control_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int k,
                            cn_control **out)
{
    cn_control *u = cn_alloc0(ctx, sizeof *u);
    if (!u) return CN_ENOMEM;
    u->ctx = ctx;
    cn_status s = build(u, spec, &spec->controls[k]);
    if (s == CN_OK) s = cn_plan_create(ctx, u->graph, be, &u->y, 1, false, &u->plan);
    if (s == CN_OK) {
        u->features = cn_alloc_array(ctx, (size_t)cn_node_elements(u->y), sizeof(float));
        if (!u->features) s = CN_ENOMEM;
    }
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
    cn_plan_destroy(u->plan);
    cn_graph_destroy(u->graph);
    cn_free(u->features);
    cn_free(u);
}

void cn_control_info(const cn_control *u, cn_plan_info *info, size_t *kept_bytes)
{
    cn_plan_info_get(u->plan, info);
    *kept_bytes = (size_t)cn_node_elements(u->y) * sizeof(float);
}

void cn_control_begin(cn_control *u)
{
    u->known = false;
}

bool cn_control_waits(const cn_control *u)
{
    return !u->known;
}

bool cn_control_acts(const cn_control *u, const cn_draw_hint *h, int i, int n)
{
    bool any = !h->weights;
    for (int k = 0; k < u->n_residuals && !any; k++) any = h->weights[k] != 0;
    return any && h->strength != 0 && !((double)i / n < h->start || (double)(i + 1) / n > h->end);
}

static cn_status run(cn_control *u, const cn_draw_hint *h)
{
    CN_TRY(cn_plan_set(u->plan, u->image, h->image));
    CN_TRY(cn_plan_run(u->plan));
    CN_TRY(cn_plan_expect_finite(u->plan, u->y));
    if (!cn_plan_get(u->plan, u->y, u->features))
        return cn_fail(u->ctx, CN_EINTERNAL, "the hint network's result was not kept");
    cn_plan_drop(u->plan);
    u->known = true;
    return CN_OK;
}

cn_status cn_control_features(cn_control *u, const cn_draw_hint *h, int64_t N, float *to)
{
    const int64_t one = cn_node_elements(u->y);
    if (!u->known) CN_TRY(run(u, h));
    for (int64_t i = 0; i < N; i++) memcpy(to + i * one, u->features, (size_t)one * sizeof *to);
    return CN_OK;
}

cn_status cn_control_factors(const cn_control *u, const cn_draw_hint *h, int i,
                             const int64_t shape[3], float *to)
{
    const int64_t *image = u->image->shape, pixels = shape[1] * shape[2];
    const float scale = (float)h->strength * (h->weights ? h->weights[i] : 1);
    const cn_resize_spec spec = {.filter = CN_FILTER_LINEAR, /* without smoothing */
                                 .in_h = image[1],
                                 .in_w = image[2],
                                 .out_h = shape[1],
                                 .out_w = shape[2],
                                 .channels = 1};
    if (h->mask) CN_TRY(cn_resize_f32(u->ctx, &spec, h->mask, to));
    for (int64_t p = 0; p < pixels; p++) to[p] = h->mask ? scale * to[p] : scale;
    for (int64_t k = 1; k < shape[0]; k++) memcpy(to + k * pixels, to, (size_t)pixels * sizeof *to);
    return CN_OK;
}
