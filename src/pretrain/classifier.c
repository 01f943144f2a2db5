/* SPDX-License-Identifier: Apache-2.0 */
/* classifier.c - see classifier.h. */
#include "pretrain/classifier.h"

#include "model/checkpoint/weights.h"
#include "pretrain/small_net.h"

#include <string.h>

enum {
    PX = CN_SMALL_NET_PX,
    BATCH = 32,
    SHAPES = 0, /* where each kind of answer begins */
    COLOURS = SHAPES + CN_SHAPE_COUNT,
    GROUNDS = COLOURS + CN_COLOUR_COUNT,
    SKIES = GROUNDS + CN_GROUND_COUNT,
    COUNTS = SKIES + CN_SKY_COUNT,
    ANSWERS = COUNTS + CN_SCENE_MAX_OBJECTS,
    ONE_IN = 2 /* scenes that have a single object */
};
typedef struct net {
    cn_graph *g;
    cn_plan *plan;
    cn_node *image, *target, *features, *answers, *loss;
} net;

struct cn_classifier {
    cn_ctx *ctx;
    cn_backend *be;
    cn_params *params;
    net train, run;
    cn_scene scenes[BATCH];
    uint8_t *rgb;
    float *pixels, *noise, *wanted;
    uint64_t seed;
};

/* Image [N,64,64,3] to features [N,64] and answers. */
static void build_layers(cn_graph *g, net *n)
{
    cn_node *x = cn_small_net_block(g, "1", n->image, 24, 2);
    x = cn_small_net_block(g, "2", x, 48, 2);
    x = cn_small_net_block(g, "3", x, 64, 1);
    x = cn_small_net_block(g, "4", x, 96, 2);
    x = cn_small_net_block(g, "5", x, 96, 1);
    x = cn_small_net_block(g, "6", x, 96, 2);
    x = cn_view(g, x, 2, (int64_t[]){BATCH, cn_node_elements(x) / BATCH});
    x = cn_linear(g, "features", x, CN_CLASSIFIER_FEATURES, true);
    n->features = cn_silu(g, x);
    n->answers = cn_linear(g, "answers", n->features, ANSWERS, true);
}

static cn_status build(cn_classifier *c, net *n, bool trained)
{
    cn_params_set_trainable(c->params, trained);
    CN_TRY(cn_graph_create(c->ctx, &n->g));
    cn_graph_use(n->g, c->params);
    n->image = cn_input4(n->g, "image", BATCH, PX, PX, 3);
    build_layers(n->g, n);
    if (!trained)
        return cn_plan_create(c->ctx, n->g, c->be, (cn_node *[]){n->features, n->answers}, 2, false,
                              &n->plan);
    n->target = cn_input(n->g, "target", CN_F32, 2, (int64_t[]){BATCH, ANSWERS}, false);
    n->loss = cn_loss_node(n->g, CN_LOSS_MSE, n->answers, n->target);
    CN_TRY(cn_graph_backward(n->g, n->loss));
    return cn_plan_create(c->ctx, n->g, c->be, &n->loss, 1, true, &n->plan);
}

static void want(const cn_scene *s, float *out)
{
    memset(out, 0, ANSWERS * sizeof *out);
    for (int i = 0; i < s->n_objects; i++) {
        out[SHAPES + s->objects[i].shape] = 1;
        out[COLOURS + s->objects[i].colour] = 1;
        if (s->objects[i].shape == CN_SHAPE_PERSON) out[COLOURS + s->objects[i].trousers] = 1;
    }
    out[GROUNDS + s->ground] = 1;
    out[SKIES + s->sky] = 1;
    out[COUNTS + s->n_objects - 1] = 1;
}

static cn_status fill(cn_classifier *c, cn_rng *rng, uint64_t first)
{
    for (uint64_t i = 0; i < BATCH; i++) {
        if (i % ONE_IN)
            cn_scene_generate(c->seed, first + i, &c->scenes[i]);
        else
            cn_scene_generate_n(c->seed, first + i, 1, &c->scenes[i]);
        want(&c->scenes[i], c->wanted + i * ANSWERS);
    }
    const cn_scene_maps maps = {.rgb = c->rgb};
    CN_TRY(cn_scene_render_batch(c->ctx, c->scenes, BATCH, PX, &maps));
    cn_small_net_see_noisy(c->rgb, BATCH, rng, c->noise, c->pixels);
    CN_TRY(cn_plan_set(c->train.plan, c->train.image, c->pixels));
    return cn_plan_set(c->train.plan, c->train.target, c->wanted);
}

static cn_status fill_step(void *user, cn_rng *rng, int64_t step)
{
    return fill(user, rng, (uint64_t)step * BATCH);
}

static cn_status learn(cn_classifier *c, const cn_small_net_options *o)
{
    const cn_small_net_training t = {.g = c->train.g,
                                     .plan = c->train.plan,
                                     .params = c->params,
                                     .o = o,
                                     .fill = fill_step,
                                     .fill_user = c};
    return cn_small_net_learn(c->ctx, c->be, &t);
}

static cn_status create(cn_classifier *c)
{
    const size_t n = (size_t)BATCH * PX * PX * 3;
    CN_TRY(cn_params_create(c->ctx, "classifier", &c->params));
    CN_TRY(build(c, &c->train, true));
    CN_TRY(cn_params_init(c->ctx, c->be, c->params, c->seed));
    c->rgb = cn_alloc(c->ctx, n);
    c->pixels = cn_alloc_array(c->ctx, n, sizeof *c->pixels);
    c->noise = cn_alloc_array(c->ctx, n, sizeof *c->noise);
    c->wanted = cn_alloc_array(c->ctx, BATCH * ANSWERS, sizeof *c->wanted);
    return c->rgb && c->pixels && c->noise && c->wanted ? CN_OK : CN_ENOMEM;
}

cn_status cn_classifier_train(cn_ctx *ctx, cn_backend *be, const cn_small_net_options *o,
                              cn_classifier **out)
{
    cn_classifier *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    c->ctx = ctx;
    c->be = be;
    c->seed = o->seed;
    cn_status s = create(c);
    if (s == CN_OK) s = learn(c, o);
    if (s == CN_OK) s = build(c, &c->run, false);
    if (s != CN_OK) {
        cn_classifier_destroy(c);
        return s;
    }
    *out = c;
    return CN_OK;
}

void cn_classifier_destroy(cn_classifier *c)
{
    if (!c) return;
    cn_plan_destroy(c->train.plan);
    cn_graph_destroy(c->train.g);
    cn_plan_destroy(c->run.plan);
    cn_graph_destroy(c->run.g);
    cn_params_destroy(c->params);
    cn_free(c->rgb);
    cn_free(c->pixels);
    cn_free(c->noise);
    cn_free(c->wanted);
    cn_free(c);
}

/* --- telling ---------------------------------------------------------------------------------- */

static int best(const float *answers, int n)
{
    int k = 0;
    for (int i = 1; i < n; i++)
        if (answers[i] > answers[k]) k = i;
    return k;
}

cn_status cn_classifier_run(cn_classifier *c, const uint8_t *rgb, int64_t n, int64_t px,
                            cn_classified *out)
{
    const int64_t one = (int64_t)PX * PX * 3;
    if (px < PX || px % PX)
        return cn_fail(c->ctx, CN_EINVAL, "the classifier sees multiples of %d px, not %lld", PX,
                       (long long)px);
    for (int64_t first = 0; first < n; first += BATCH) {
        const int64_t here = CN_MIN(BATCH, n - first);
        memset(c->pixels, 0, (size_t)(BATCH * one) * sizeof *c->pixels);
        for (int64_t i = 0; i < here; i++)
            cn_small_net_see(rgb + (first + i) * px * px * 3, px, c->pixels + i * one);
        CN_TRY(cn_plan_set(c->run.plan, c->run.image, c->pixels));
        CN_TRY(cn_plan_run(c->run.plan));
        const float *f = cn_plan_data(c->run.plan, c->run.features);
        const float *a = cn_plan_data(c->run.plan, c->run.answers);
        for (int64_t i = 0; i < here; i++) {
            cn_classified *o = &out[first + i];
            memcpy(o->features, f + i * CN_CLASSIFIER_FEATURES, sizeof o->features);
            o->shape = best(a + i * ANSWERS + SHAPES, CN_SHAPE_COUNT);
            o->colour = best(a + i * ANSWERS + COLOURS, CN_COLOUR_COUNT);
        }
    }
    return CN_OK;
}

cn_status cn_classifier_accuracy(cn_classifier *c, uint64_t first, int64_t n, int64_t px,
                                 double *shape, double *colour)
{
    cn_classified told[BATCH];
    int64_t shapes = 0, colours = 0, coloured = 0;
    uint8_t *rgb = cn_alloc(c->ctx, (size_t)(BATCH * px * px * 3));
    if (!rgb) return CN_ENOMEM;
    cn_status s = CN_OK;
    for (int64_t i = 0; s == CN_OK && i < n; i += BATCH) {
        const int64_t here = CN_MIN(BATCH, n - i);
        for (int64_t k = 0; k < here; k++)
            cn_scene_generate_n(c->seed, first + (uint64_t)(i + k), 1, &c->scenes[k]);
        const cn_scene_maps maps = {.rgb = rgb};
        s = cn_scene_render_batch(c->ctx, c->scenes, here, px, &maps);
        if (s == CN_OK) s = cn_classifier_run(c, rgb, here, px, told);
        for (int64_t k = 0; s == CN_OK && k < here; k++) {
            const cn_scene_object *o = &c->scenes[k].objects[0];
            shapes += told[k].shape == o->shape;
            if (o->shape == CN_SHAPE_PERSON) continue;
            colours += told[k].colour == o->colour;
            coloured++;
        }
    }
    cn_free(rgb);
    if (s != CN_OK) return s;
    *shape = (double)shapes / (double)CN_MAX(n, 1);
    *colour = (double)colours / (double)CN_MAX(coloured, 1);
    return CN_OK;
}
