/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - see reader.h. An encoder and a decoder with links (Ronneberger et al., "U-Net") that
 * answers by least squares, a channel a map.
 */
#include "pretrain/reader.h"

#include "model/checkpoint/source.h"
#include "model/checkpoint/weights.h"
#include "pretrain/reader_truth.h"

enum { PX = CN_READER_PX, BATCH = 8, WITH_PERSON = 2 }; /* scenes of a batch that have somebody */

typedef struct net {
    cn_graph *g;
    cn_plan *plan;
    cn_node *image, *target, *maps, *loss;
} net;

struct cn_reader {
    cn_ctx *ctx;
    cn_backend *be;
    cn_params *params;
    net train, run;
    cn_reader_truth *truth;
    cn_scene scenes[BATCH];
    uint8_t *rgb;
    float *pixels, *noise, *wanted;
    uint64_t seed;
};

/* --- the network ------------------------------------------------------------------------------ */

static cn_node *join(cn_graph *g, const char *name, cn_node *coarse, cn_node *fine, int64_t O)
{
    return cn_small_net_block(g, name, cn_concat(g, cn_upsample2(g, coarse), fine), O, 1);
}

/* Image [N,64,64,3] to maps [N,64,64,CN_READER_CHANNELS]. */
static cn_node *build_layers(cn_graph *g, cn_node *image)
{
    cn_node *a = cn_small_net_block(g, "in", image, 32, 1);
    cn_node *b = cn_small_net_block(g, "down1", a, 64, 2);
    b = cn_small_net_block(g, "wide1", b, 64, 1);
    cn_node *c = cn_small_net_block(g, "down2", b, 96, 2);
    c = cn_small_net_block(g, "wide2", c, 96, 1);
    cn_node *d = cn_small_net_block(g, "down3", c, 128, 2);
    d = cn_small_net_block(g, "wide3", d, 128, 1);
    cn_node *x = join(g, "up3", d, c, 96);
    x = join(g, "up2", x, b, 64);
    x = join(g, "up1", x, a, 32);
    return cn_conv2d(g, "out", x, CN_READER_CHANNELS, 3, 1, 1);
}

static cn_status build(cn_reader *r, net *n, bool trained)
{
    const int64_t N = trained ? BATCH : 1;
    cn_params_set_trainable(r->params, trained);
    CN_TRY(cn_graph_create(r->ctx, &n->g));
    cn_graph_use(n->g, r->params);
    n->image = cn_input4(n->g, "image", N, PX, PX, 3);
    n->maps = build_layers(n->g, n->image);
    if (!trained) return cn_plan_create(r->ctx, n->g, r->be, &n->maps, 1, false, &n->plan);
    n->target = cn_input4(n->g, "target", N, PX, PX, CN_READER_CHANNELS);
    n->loss = cn_loss_node(n->g, CN_LOSS_MSE, n->maps, n->target);
    CN_TRY(cn_graph_backward(n->g, n->loss));
    return cn_plan_create(r->ctx, n->g, r->be, &n->loss, 1, true, &n->plan);
}

static cn_status create(cn_ctx *ctx, cn_backend *be, uint64_t seed, cn_reader **out)
{
    const size_t n = (size_t)BATCH * PX * PX;
    cn_reader *r = cn_alloc0(ctx, sizeof *r);
    if (!r) return CN_ENOMEM;
    r->ctx = ctx;
    r->be = be;
    r->seed = seed;
    r->rgb = cn_alloc(ctx, 3 * n);
    r->pixels = cn_alloc_array(ctx, 3 * n, sizeof *r->pixels);
    r->noise = cn_alloc_array(ctx, 3 * n, sizeof *r->noise);
    r->wanted = cn_alloc_array(ctx, CN_READER_CHANNELS * n, sizeof *r->wanted);
    cn_status s = r->rgb && r->pixels && r->noise && r->wanted ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_reader_truth_create(ctx, &r->truth);
    if (s == CN_OK) s = cn_params_create(ctx, "reader", &r->params);
    if (s != CN_OK) {
        cn_reader_destroy(r);
        return s;
    }
    *out = r;
    return CN_OK;
}

void cn_reader_destroy(cn_reader *r)
{
    if (!r) return;
    cn_plan_destroy(r->train.plan);
    cn_graph_destroy(r->train.g);
    cn_plan_destroy(r->run.plan);
    cn_graph_destroy(r->run.g);
    cn_params_destroy(r->params);
    cn_reader_truth_destroy(r->truth);
    cn_free(r->rgb);
    cn_free(r->pixels);
    cn_free(r->noise);
    cn_free(r->wanted);
    cn_free(r);
}

/* --- training --------------------------------------------------------------------------------- */

static cn_status fill(void *user, cn_rng *rng, int64_t step)
{
    cn_reader *r = user;
    for (int i = 0; i < BATCH; i++) {
        const uint64_t at = (uint64_t)(step * BATCH + i);
        if (i < WITH_PERSON)
            cn_scene_generate_with(r->seed, at, CN_SHAPE_PERSON, &r->scenes[i]);
        else
            cn_scene_generate(r->seed, at, &r->scenes[i]);
        CN_TRY(cn_reader_truth_find(r->truth, &r->scenes[i]));
        cn_reader_truth_maps(r->truth, r->wanted + (int64_t)i * PX * PX * CN_READER_CHANNELS);
    }
    const cn_scene_maps maps = {.rgb = r->rgb};
    CN_TRY(cn_scene_render_batch(r->ctx, r->scenes, BATCH, PX, &maps));
    cn_small_net_see_noisy(r->rgb, BATCH, rng, r->noise, r->pixels);
    CN_TRY(cn_plan_set(r->train.plan, r->train.image, r->pixels));
    return cn_plan_set(r->train.plan, r->train.target, r->wanted);
}

static cn_status train(cn_reader *r, const cn_small_net_options *o)
{
    CN_TRY(build(r, &r->train, true));
    CN_TRY(cn_params_init(r->ctx, r->be, r->params, o->seed));
    const cn_small_net_training t = {.g = r->train.g,
                                     .plan = r->train.plan,
                                     .params = r->params,
                                     .o = o,
                                     .fill = fill,
                                     .fill_user = r};
    CN_TRY(cn_small_net_learn(r->ctx, r->be, &t));
    return build(r, &r->run, false);
}

cn_status cn_reader_train(cn_ctx *ctx, cn_backend *be, const cn_small_net_options *o,
                          cn_reader **out)
{
    cn_reader *r;
    CN_TRY(create(ctx, be, o->seed, &r));
    const cn_status s = train(r, o);
    if (s != CN_OK) {
        cn_reader_destroy(r);
        return s;
    }
    *out = r;
    return CN_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

cn_status cn_reader_save(const cn_reader *r, const char *path)
{
    return cn_params_save(r->ctx, r->be, r->params, CN_F32, path);
}

static cn_status load(cn_reader *r, const char *path)
{
    cn_tensors *file = NULL;
    CN_TRY(build(r, &r->run, false));
    CN_TRY(cn_tensors_open(r->ctx, path, &file));
    const cn_source from = {
        .file = file, .path = path, .prefix = "", .layout = CN_LAYOUT_DIFFUSERS};
    const cn_status s = cn_source_load(r->ctx, &from, r->be, r->params);
    cn_tensors_close(file);
    return s;
}

cn_status cn_reader_load(cn_ctx *ctx, cn_backend *be, const char *path, cn_reader **out)
{
    cn_reader *r;
    CN_TRY(create(ctx, be, 0, &r));
    const cn_status s = load(r, path);
    if (s != CN_OK) {
        cn_reader_destroy(r);
        return s;
    }
    *out = r;
    return CN_OK;
}

/* --- agreement -------------------------------------------------------------------------------- */

const char *cn_reader_measure(cn_scene_condition condition)
{
    return cn_reader_truth_measure(condition);
}

cn_status cn_reader_agreement(cn_reader *r, const uint8_t *rgb, int64_t px, const cn_scene *scene,
                              cn_scene_condition condition, bool *applies, double *score)
{
    if (px < PX || px % PX)
        return cn_fail(r->ctx, CN_EINVAL, "the reader sees multiples of %d px, not %lld", PX,
                       (long long)px);
    cn_small_net_see(rgb, px, r->pixels);
    CN_TRY(cn_reader_truth_find(r->truth, scene));
    CN_TRY(cn_plan_set(r->run.plan, r->run.image, r->pixels));
    CN_TRY(cn_plan_run(r->run.plan));
    return cn_reader_truth_agreement(r->truth, cn_plan_data(r->run.plan, r->run.maps), condition,
                                     applies, score);
}
