/* SPDX-License-Identifier: Apache-2.0 */
/* bench_model.c - a base model and a ControlNet of the benchmark's sizes as diffusers folders, so
 * that whole commands can be measured without a download: OUT/base and OUT/control, seeded weights
 * in the type of --weights. What they draw is noise; the vocabulary is that of models/tiny-sd. */
#include "bench.h"

#include "diffuse/sampling.h"
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/weights.h"

enum { LATENT = 8 }; /* any size declares the same parameters */

typedef struct model_work {
    cn_params *unet, *control, *vae, *text;
} model_work;

static void model_close(model_work *w)
{
    cn_params_destroy(w->unet);
    cn_params_destroy(w->control);
    cn_params_destroy(w->vae);
    cn_params_destroy(w->text);
}

static cn_status declare_drawing(bench *b, model_work *w)
{
    cn_draw *draw = NULL;
    const cn_draw_spec spec = {
        .unet = &b->unet,
        .unet_params = w->unet,
        .controls = {{.kind = &cn_control_kind_net, .config = &b->control, .params = w->control}},
        .n_controls = 1,
        .batch = 1,
        .latent_h = LATENT,
        .latent_w = LATENT,
        .context_length = b->clip.max_positions};
    const cn_status s = cn_draw_create(b->ctx, b->backend, &spec, &draw);
    cn_draw_destroy(draw);
    return s;
}

static cn_status declare_rest(bench *b, model_work *w)
{
    cn_graph *g = NULL;
    const int64_t px = LATENT * cn_vae_factor(&b->vae), ids[2] = {1, b->clip.max_positions};
    cn_status s = cn_graph_create(b->ctx, &g);
    if (s != CN_OK) return s;
    cn_graph_use(g, w->vae);
    cn_vae_encode_build(g, &b->vae, cn_input4(g, "image", 1, px, px, b->vae.image_channels));
    cn_vae_decode_build(g, &b->vae, cn_input4(g, "z", 1, LATENT, LATENT, b->vae.latent_channels));
    cn_graph_use(g, w->text);
    cn_clip_build(g, &b->clip, cn_input(g, "ids", CN_I32, 2, ids, false), 0);
    s = cn_graph_status(g);
    cn_graph_destroy(g);
    return s;
}

static cn_status save(bench *b, model_work *w)
{
    char dir[CN_PATH_BYTES];
    cn_base base = {.unet = b->unet, .vae = b->vae, .text = {b->clip}};
    cn_schedule_config_default(&base.schedule);
    CN_TRY(cn_format(b->ctx, dir, sizeof dir, "%s/base", b->out));
    const cn_base_target to = {
        .path = dir, .dtype = b->storage, .tokenizer_dir = "models/tiny-sd/tokenizer"};
    CN_TRY(cn_base_save_folder(b->ctx, b->backend, &base,
                               (const cn_params *const[]){w->unet, w->vae, w->text}, 3, &to));
    CN_TRY(cn_format(b->ctx, dir, sizeof dir, "%s/control", b->out));
    return cn_control_save_folder(b->ctx, b->backend, &b->control, w->control, b->storage, dir,
                                  NULL);
}

static cn_status make(bench *b, model_work *w)
{
    cn_params **const sets[] = {&w->unet, &w->control, &w->vae, &w->text};
    static const cn_net kinds[] = {CN_NET_UNET, CN_NET_CONTROL, CN_NET_VAE, CN_NET_TEXT};
    for (size_t i = 0; i < CN_COUNT(sets); i++) CN_TRY(cn_net_params(b->ctx, kinds[i], sets[i]));
    CN_TRY(declare_drawing(b, w));
    CN_TRY(declare_rest(b, w));
    for (size_t i = 0; i < CN_COUNT(sets); i++) CN_TRY(bench_fill(b, *sets[i]));
    return save(b, w);
}

cn_status bench_model(bench *b)
{
    model_work w = {0};
    if (!b->out) return cn_fail(b->ctx, CN_EINVAL, "model: the folder to write is missing");
    const cn_status s = make(b, &w);
    model_close(&w);
    return s;
}
