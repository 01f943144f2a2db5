/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h. Source: diffusers' pipeline_controlnet.py (windows, guess mode), the
 * webui extension's hook.py (weights per block, region masks: bilinear to each residual's size). */
#include "diffuse/control.h"

#include "image/resize.h"

#include <string.h>

struct cn_control {
    cn_ctx *ctx;
    const cn_draw_control *own; /* of the spec */
    cn_draw_control copy;
    int64_t H, W; /* the picture's */
    cn_graph *graph;
    cn_plan *plan;
    cn_hints hints;
    int n_places;
    float **features; /* of this run, one for each of hints.out */
    float **without;  /* of an image prompt, those of guidance's unconditional half; else NULL */
    bool known;       /* they are */
    float *filled;    /* room for an image as the network has it; NULL: not needed */
};

static cn_status build(cn_control *u, const cn_draw_spec *s)
{
    const cn_draw_control *c = u->own;
    const int count = c->kind->count(c->config);
    cn_condition_spec condition = c->condition;
    condition.h = s->latent_h;
    condition.w = s->latent_w;
    u->n_places = c->kind->places(c->config);
    u->hints.out = cn_alloc0(u->ctx, (size_t)count * sizeof(cn_node *));
    u->features = cn_alloc0(u->ctx, (size_t)count * sizeof *u->features);
    if (c->kind->attend) u->without = cn_alloc0(u->ctx, (size_t)count * sizeof *u->without);
    if (!u->hints.out || !u->features || (c->kind->attend && !u->without)) return CN_ENOMEM;
    CN_TRY(cn_graph_create(u->ctx, &u->graph));
    cn_graph_use(u->graph, c->params);
    c->kind->hints(u->graph, c->config, &condition, &u->hints);
    return cn_graph_status(u->graph);
}

/* That of the image; of networks that take it in another form, of a VAE with 8 pixels a latent. */
static void picture_size(cn_control *u, const cn_draw_spec *s)
{
    const int64_t *image = u->hints.image[0]->shape;
    const bool other = u->own->kind->fill || u->own->kind->attend;
    u->H = other ? 8 * s->latent_h : image[1];
    u->W = other ? 8 * s->latent_w : image[2];
}

static cn_status make_room(cn_control *u)
{
    for (int i = 0; i < u->hints.n; i++) {
        const size_t n = (size_t)cn_node_elements(u->hints.out[i]);
        if (!(u->features[i] = cn_alloc_array(u->ctx, n, sizeof(float)))) return CN_ENOMEM;
        if (u->without && !(u->without[i] = cn_alloc_array(u->ctx, n, sizeof(float))))
            return CN_ENOMEM;
    }
    if (!u->own->kind->fill) return CN_OK;
    const size_t n = (size_t)cn_node_elements(u->hints.image[0]);
    return (u->filled = cn_alloc_array(u->ctx, n, sizeof(float))) ? CN_OK : CN_ENOMEM;
}

cn_status cn_control_create(cn_ctx *ctx, cn_backend *be, const cn_draw_spec *spec, int k,
                            cn_control **out)
{
    cn_control *u = cn_alloc0(ctx, sizeof *u);
    if (!u) return CN_ENOMEM;
    u->ctx = ctx;
    u->copy = spec->controls[k];
    u->own = &u->copy;
    cn_status s = build(u, spec);
    if (s == CN_OK) picture_size(u, spec);
    if (s == CN_OK)
        s = cn_plan_create(ctx, u->graph, be, u->hints.out, u->hints.n, false, &u->plan);
    if (s == CN_OK) s = make_room(u);
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
    for (int i = 0; u->features && i < u->hints.n; i++) cn_free(u->features[i]);
    for (int i = 0; u->without && i < u->hints.n; i++) cn_free(u->without[i]);
    cn_free(u->features);
    cn_free(u->without);
    cn_free(u->hints.out);
    cn_free(u->filled);
    cn_free(u);
}

void cn_control_info(const cn_control *u, cn_plan_info *info, size_t *kept_bytes)
{
    cn_plan_info_get(u->plan, info);
    *kept_bytes = 0;
    for (int i = 0; i < u->hints.n; i++)
        *kept_bytes +=
            (size_t)cn_node_elements(u->hints.out[i]) * sizeof(float) * (u->without ? 2 : 1);
}

void cn_control_begin(cn_control *u)
{
    u->known = false;
}

bool cn_control_waits(const cn_control *u)
{
    return !u->known;
}

static bool in_window(const cn_draw_hint *h, int i, int n)
{
    return !((double)i / n < h->start || (double)(i + 1) / n > h->end);
}

/* Several conditions of a Union: their strengths are in the hints, and outside their window it goes
 * on without them, as in diffusers. */
static bool goes_on(const cn_control *u)
{
    return u->own->condition.n > 1;
}

bool cn_control_acts(const cn_control *u, const cn_draw_hint *h, int i, int n)
{
    bool any = !h->weights;
    for (int k = 0; k < u->n_places && !any; k++) any = h->weights[k] != 0;
    return any && h->strength != 0 && (goes_on(u) || in_window(h, i, n));
}

bool cn_control_sees(const cn_control *u, const cn_draw_hint *h, int i, int n)
{
    return !goes_on(u) || in_window(h, i, n);
}

static cn_status set_image(cn_control *u, int i, const float *rgb)
{
    const cn_draw_control *c = u->own;
    if (c->kind->fill) c->kind->fill(c->config, rgb, u->H, u->W, u->filled);
    return cn_plan_set(u->plan, u->hints.image[i], u->filled ? u->filled : rgb);
}

static cn_status run_once(cn_control *u, float *const *out)
{
    CN_TRY(cn_plan_run(u->plan));
    for (int i = 0; i < u->hints.n; i++) {
        CN_TRY(cn_plan_expect_finite(u->plan, u->hints.out[i]));
        if (!cn_plan_get(u->plan, u->hints.out[i], out[i]))
            return cn_fail(u->ctx, CN_EINTERNAL, "the hint network's result was not kept");
    }
    return CN_OK;
}

static cn_status run(cn_control *u, const cn_draw_hint *h)
{
    if (u->without && h->without) { /* without guidance there is no such half */
        CN_TRY(set_image(u, 0, h->without));
        CN_TRY(run_once(u, u->without));
    }
    for (int i = 0; i < u->hints.n_images; i++)
        CN_TRY(set_image(u, i, i ? h->further[i - 1] : h->image));
    CN_TRY(run_once(u, u->features));
    cn_plan_drop(u->plan);
    u->known = true;
    return CN_OK;
}

cn_status cn_control_features(cn_control *u, const cn_draw_hint *h, int i, int64_t N,
                              int64_t unconditional, float *to)
{
    const size_t one = (size_t)cn_node_elements(u->hints.out[i]);
    if (!u->known) CN_TRY(run(u, h));
    for (int64_t k = 0; k < N; k++, to += one) {
        const bool without = u->without && k < unconditional;
        memcpy(to, without ? u->without[i] : u->features[i], one * sizeof *to);
    }
    return CN_OK;
}

int cn_control_hints(const cn_control *u, cn_node *const **out)
{
    *out = u->hints.out;
    return u->hints.n;
}

cn_status cn_control_factors(const cn_control *u, const cn_draw_hint *h, int i,
                             const int64_t shape[3], float *to)
{
    const int64_t pixels = shape[1] * shape[2];
    const double strength = goes_on(u) ? 1 : h->strength;
    const float scale = (float)strength * (h->weights ? h->weights[i] : 1);
    const cn_resize_spec spec = {.filter = CN_FILTER_LINEAR, /* without smoothing */
                                 .in_h = u->H,
                                 .in_w = u->W,
                                 .out_h = shape[1],
                                 .out_w = shape[2],
                                 .channels = 1};
    if (h->mask) CN_TRY(cn_resize_f32(u->ctx, &spec, h->mask, to));
    for (int64_t p = 0; p < pixels; p++) to[p] = h->mask ? scale * to[p] : scale;
    for (int64_t k = 1; k < shape[0]; k++) memcpy(to + k * pixels, to, (size_t)pixels * sizeof *to);
    return CN_OK;
}
