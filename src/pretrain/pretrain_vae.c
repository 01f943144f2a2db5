/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain_vae.c - the small autoencoder, on fresh scenes at every step.
 *
 * It learns from absolute and squared errors of pixels, the absolute error of differences between
 * pixels 1, 2 and 4 apart, which counts edges more than flat ground, and a little KL.
 *
 * Most steps see crops (the networks are convolutions; a crop of half the side is a quarter of the
 * work), the last ones whole pictures, so that norms and the middle's attention meet the size they
 * will be used at.
 *
 * A picture's border counts more than the rest: an autoencoder with group norms likes to keep a
 * mark in a corner, where it costs little (the droplets of Karras et al., "Analyzing and Improving
 * the Image Quality of StyleGAN").
 *
 * The decoder alone can be trained further, on whole pictures, beside an encoder that stays as it
 * is: latents keep their meaning, so the UNet that was trained on them stays right (as Stability
 * AI's sd-vae-ft-mse was made).
 */
#include "pretrain/pretrain.h"

#include "io/json.h"
#include "model/checkpoint/source.h"
#include "scene/scene.h"

#include <math.h>
#include <string.h>

/* Held-out pictures that are looked at, in no more passes than these. */
enum { SHEET = 8, CHECK = 64, CHECK_PASSES = 16 };
/* The border's part of a whole picture's side, and the weight of its pixels' absolute errors,
 * squared in corners. Crops show more of their borders as they are. */
enum { BORDER = 8 };
static const float BORDER_WEIGHT = 2;
/* Held-out scenes start here in the sequence; training stays below. */
enum { HELD_OUT = 1 << 30 };
/* How far apart the pixels are whose differences are compared. */
static const int64_t REACH[] = {1, 2, 4};

typedef struct vae_stage {
    const char *name;   /* of its notes and its state */
    int64_t B, px;      /* batch, side of what is seen */
    int64_t until;      /* last step */
    bool decoder, last; /* trained alone; writes the finished network */
    cn_graph *g;
    cn_plan *plan;
    cn_node *image, *noise, *weight, *moments, *latents, *out, *loss;
    cn_learner *learner;
    cn_scene *scenes;
    uint8_t *rgb;
    float *pixels, *draws;
    cn_rng rng;
} vae_stage;

static bool in_decoder(const char *diffusers_name)
{
    return strncmp(diffusers_name, "decoder.", 8) == 0 ||
           strncmp(diffusers_name, "post_quant_conv.", 16) == 0;
}

cn_status cn_pretrain_read_vae_config(cn_pretrain_run *r)
{
    char path[4200];
    json_t *json = NULL;
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/vae/config.json", r->o->output_dir));
    CN_TRY(cn_json_load_file(r->ctx, path, &json));
    cn_status s = cn_vae_config_read(r->ctx, json, &r->base->vae);
    json_decref(json);
    return s;
}

cn_status cn_pretrain_load(cn_pretrain_run *r, const char *dir, const char *folder, cn_params *p)
{
    char at[CN_PATH_BYTES], path[CN_PATH_BYTES];
    cn_tensors *file = NULL;
    CN_TRY(cn_format(r->ctx, at, sizeof at, "%s/%s", dir, folder));
    CN_TRY(cn_weights_open(r->ctx, at, path, &file));
    const cn_source from = {
        .file = file, .path = path, .prefix = "", .layout = CN_LAYOUT_DIFFUSERS};
    const cn_status s = cn_source_load(r->ctx, &from, r->be, p);
    cn_tensors_close(file);
    return s;
}

cn_status cn_pretrain_load_vae(cn_pretrain_run *r)
{
    return cn_pretrain_load(r, r->o->output_dir, "vae", r->vae);
}

/* --- the loss --------------------------------------------------------------------------------- */

/* x [N,H,W,C] as [N,rows,length]: what lies `apart` elements further on, less what lies here. */
static cn_node *difference(cn_graph *g, cn_node *x, int64_t rows, int64_t apart)
{
    const int64_t length = cn_node_elements(x) / x->shape[0] / rows;
    x = cn_view(g, x, 3, (int64_t[]){x->shape[0], rows, length});
    cn_node *here = cn_slice(g, x, 0, length - apart);
    return cn_add(g, cn_slice(g, x, apart, length - apart), cn_scale(g, here, -1));
}

/* Mean absolute error of y's differences against x's, along rows and along columns, summed over the
 * reaches. */
static cn_node *edge_loss(cn_graph *g, cn_node *y, cn_node *x)
{
    const int64_t H = x->shape[1], C = x->shape[3], W = x->shape[2];
    cn_node *sum = NULL;
    for (size_t i = 0; i < CN_COUNT(REACH); i++) {
        const int64_t rows[] = {H, 1}, apart[] = {REACH[i] * C, REACH[i] * W * C};
        for (int k = 0; k < 2; k++) {
            cn_node *l = cn_loss_node(g, CN_LOSS_L1, difference(g, y, rows[k], apart[k]),
                                      difference(g, x, rows[k], apart[k]));
            sum = sum ? cn_add(g, sum, l) : l;
        }
    }
    return sum;
}

static cn_node *scaled(cn_graph *g, cn_node *l, double weight)
{
    return cn_scale(g, l, (float)weight);
}

/* Of y against x: absolute, squared and of edges. */
static cn_node *errors(const cn_pretrain_options *o, cn_graph *g, cn_node *y, cn_node *x,
                       cn_node *weight)
{
    cn_node *sum = cn_loss_node(g, CN_LOSS_L1, weight ? cn_gate(g, y, weight) : y,
                                weight ? cn_gate(g, x, weight) : x);
    sum = cn_add(g, sum, scaled(g, cn_loss_node(g, CN_LOSS_MSE, y, x), o->mse_weight));
    return o->edge_weight > 0 ? cn_add(g, sum, scaled(g, edge_loss(g, y, x), o->edge_weight)) : sum;
}

/* Latents of half the size are to be those of the picture of half the size: what changes from one
 * latent to the next without showing in their mean is dear then, and a UNet has less to learn
 * (Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025). */
static cn_node *half_size_errors(cn_pretrain_run *r, vae_stage *v)
{
    cn_graph *g = v->g;
    const int64_t p = v->latents->shape[1] / 2, P = v->px / 2;
    cn_node *y = cn_vae_decode_build(g, &r->base->vae, cn_mean_pool_to(g, v->latents, p, p));
    return errors(r->o, g, y, cn_mean_pool_to(g, v->image, P, P), NULL);
}

static cn_node *loss(cn_pretrain_run *r, vae_stage *v)
{
    const cn_pretrain_options *o = r->o;
    const double latent = (double)(cn_node_elements(v->noise) / v->B);
    cn_graph *g = v->g;
    cn_node *sum = errors(o, g, v->out, v->image, v->weight);
    if (o->half_size_weight > 0)
        sum = cn_add(g, sum, scaled(g, half_size_errors(r, v), o->half_size_weight));
    return cn_add(g, sum, scaled(g, cn_kl(g, v->moments), o->kl_weight / latent));
}

static cn_status build(cn_pretrain_run *r, vae_stage *v)
{
    const cn_vae_config *c = &r->base->vae;
    int64_t B = v->B, P = v->px, p = P >> (c->levels - 1);
    cn_params_set_part(r->vae, v->decoder ? in_decoder : NULL);
    cn_params_set_trainable(r->vae, true);
    CN_TRY(cn_graph_create(r->ctx, &v->g));
    cn_graph_use(v->g, r->vae);
    v->image = cn_input4(v->g, "image", B, P, P, 3);
    v->noise = cn_input4(v->g, "noise", B, p, p, c->latent_channels);
    v->weight = cn_input4(v->g, "weight", B, P, P, 1);
    v->moments = cn_vae_encode_build(v->g, c, v->image);
    v->latents = cn_gauss_sample(v->g, v->moments, v->noise);
    v->out = cn_vae_decode_build(v->g, c, v->latents);
    v->loss = loss(r, v);
    CN_TRY(cn_graph_backward(v->g, v->loss));
    return cn_plan_create(r->ctx, v->g, r->be, (cn_node *[]){v->loss, v->out, v->moments}, 3, true,
                          &v->plan);
}

/* The pixels' weights, which stay. */
static cn_status weigh(cn_pretrain_run *r, vae_stage *v)
{
    const int64_t px = v->px, edge = px == r->o->size_px ? px / BORDER : 0;
    float *w = cn_alloc_array(r->ctx, (size_t)(v->B * px * px), sizeof *w);
    if (!w) return CN_ENOMEM;
    for (int64_t i = 0; i < v->B * px * px; i++) {
        const int64_t y = i / px % px, x = i % px;
        const bool in_y = y >= edge && y < px - edge, in_x = x >= edge && x < px - edge;
        w[i] = (in_y ? 1 : BORDER_WEIGHT) * (in_x ? 1 : BORDER_WEIGHT);
    }
    const cn_status s = cn_plan_set(v->plan, v->weight, w);
    cn_free(w);
    return s;
}

/* --- batches ---------------------------------------------------------------------------------- */

/* Scenes from `first` on, each cropped at random, into v->pixels, [-1,1]. */
static cn_status render(cn_pretrain_run *r, vae_stage *v, uint64_t first)
{
    int64_t P = r->o->size_px, px = v->px, room = P - px + 1;
    for (int64_t i = 0; i < v->B; i++)
        cn_scene_generate(r->o->seed, first + (uint64_t)i, &v->scenes[i]);
    cn_scene_maps maps = {.rgb = v->rgb};
    CN_TRY(cn_scene_render_batch(r->ctx, v->scenes, v->B, P, &maps));
    for (int64_t i = 0; i < v->B; i++) {
        int64_t top = cn_rng_below(&v->rng, room);
        int64_t left = cn_rng_below(&v->rng, room);
        for (int64_t y = 0; y < px; y++) {
            const uint8_t *from = v->rgb + ((i * P + top + y) * P + left) * 3;
            float *to = v->pixels + (i * px + y) * px * 3;
            for (int64_t k = 0; k < px * 3; k++) to[k] = (float)from[k] / 127.5f - 1.0f;
        }
    }
    return CN_OK;
}

static cn_status run_batch(cn_pretrain_run *r, vae_stage *v, uint64_t first, bool sampled)
{
    CN_TRY(render(r, v, first));
    CN_TRY(cn_plan_set(v->plan, v->image, v->pixels));
    int64_t n = cn_node_elements(v->noise);
    if (sampled)
        cn_rng_normal(&v->rng, v->draws, n);
    else
        memset(v->draws, 0, (size_t)n * sizeof *v->draws);
    CN_TRY(cn_plan_set(v->plan, v->noise, v->draws));
    return cn_plan_run(v->plan);
}

/* --- looking at it ---------------------------------------------------------------------------- */

/* Reconstruction of held-out scenes without noise: PSNR over all of them, latent deviation, a
 * sheet. */
static cn_status check(cn_pretrain_run *r, vae_stage *v, int64_t step, double *deviation)
{
    int64_t n = cn_node_elements(v->out), m = cn_node_elements(v->noise);
    int64_t C = cn_channels(v->noise);
    double square = 0, sum = 0, sum2 = 0;
    const int64_t batches = CN_MIN(CN_MAX(CHECK / v->B, 1), CHECK_PASSES);
    cn_rng_seed(&v->rng, 0);
    for (int64_t k = 0; k < batches; k++) {
        CN_TRY(run_batch(r, v, HELD_OUT + (uint64_t)(k * v->B), false));
        const float *y = cn_plan_data(v->plan, v->out), *q = cn_plan_data(v->plan, v->moments);
        for (int64_t i = 0; i < n; i++) {
            double a = (double)CN_MIN(1, CN_MAX(-1, y[i]));
            square += (a - (double)v->pixels[i]) * (a - (double)v->pixels[i]);
        }
        for (int64_t i = 0; i < m; i++) {
            double z = (double)q[i / C * 2 * C + i % C];
            sum += z;
            sum2 += z * z;
        }
    }
    double count = (double)(m * batches), mse = square / (double)(n * batches) / 4;
    *deviation = sqrt(CN_MAX(sum2 / count - sum / count * (sum / count), 1e-12));
    char path[4200];
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/%s_%06lld.png", r->state_dir, v->name,
                     (long long)step));
    CN_TRY(cn_pretrain_sheet(r, path, cn_plan_data(v->plan, v->out), (int)CN_MIN(v->B, SHEET),
                             (int)CN_MIN(v->B, SHEET), v->px));
    return cn_pretrain_note(r,
                            "{\"stage\":\"%s\",\"step\":%lld,\"held_out_psnr_db\":%.2f,"
                            "\"side_px\":%lld,\"latent_deviation\":%.4f,\"seconds\":%.0f}",
                            v->name, (long long)step, -10 * log10(mse), (long long)v->px,
                            *deviation, cn_now_s() - r->started_s);
}

/* By the weights' mean. A whole autoencoder's folder can be used from the first check on. */
static cn_status check_and_write(cn_pretrain_run *r, vae_stage *v)
{
    double deviation = 1;
    CN_TRY(cn_learner_swap_ema(v->learner));
    cn_status s = check(r, v, v->learner->step, &deviation);
    if (!v->decoder)
        r->base->vae.scaling_factor = (float)(1.0 / deviation); /* latents of unit deviation */
    if (s == CN_OK && (!v->decoder || v->learner->step == v->until))
        s = cn_base_save_folder(r->ctx, r->be, r->base, (const cn_params *const[]){r->vae}, 1,
                                &(cn_base_target){.path = r->o->output_dir, .dtype = CN_F16});
    CN_TRY(cn_learner_swap_ema(v->learner));
    return s;
}

/* --- training --------------------------------------------------------------------------------- */

static cn_status allocate(cn_pretrain_run *r, vae_stage *v)
{
    const size_t rendered = (size_t)(v->B * r->o->size_px * r->o->size_px * 3);
    v->scenes = cn_alloc_array(r->ctx, (size_t)v->B, sizeof *v->scenes);
    v->rgb = cn_alloc(r->ctx, rendered);
    v->pixels = cn_alloc_array(r->ctx, (size_t)cn_node_elements(v->image), sizeof *v->pixels);
    v->draws = cn_alloc_array(r->ctx, (size_t)cn_node_elements(v->noise), sizeof *v->draws);
    return v->scenes && v->rgb && v->pixels && v->draws ? CN_OK : CN_ENOMEM;
}

/* The passes of a step but the optimizer's part; *mean: their losses'. */
static cn_status run_passes(cn_pretrain_run *r, vae_stage *v, double *mean)
{
    cn_learner *l = v->learner;
    *mean = 0;
    for (int64_t pass = cn_learner_passes(l); pass < l->o.passes; pass++) {
        const uint64_t number = (uint64_t)(l->step * l->o.passes + pass);
        cn_rng_seed(&v->rng, r->o->seed * 1000003u + number);
        CN_TRY(run_batch(r, v, number * 2 * (uint64_t)r->o->vae_batch, true));
        *mean = (double)*(const float *)cn_plan_data(v->plan, v->loss);
        if (pass + 1 < l->o.passes) CN_TRY(cn_learner_add_pass(l));
    }
    return CN_OK;
}

static cn_status train(cn_pretrain_run *r, vae_stage *v)
{
    double norm = 0, mean = 0, now;
    cn_learner *l = v->learner;
    while (l->step < v->until) {
        cn_status s = run_passes(r, v, &now);
        if (s == CN_ECANCELLED) return cn_learner_stop(l, r->state_dir, v->name);
        if (s != CN_OK) return s;
        CN_TRY(cn_learner_step(l, &norm));
        mean = mean == 0 ? now : 0.98 * mean + 0.02 * now;
        cn_pretrain_progress(r, v->name, l->step, r->o->vae_steps, mean);
        if (l->step % 50 == 0)
            CN_TRY(cn_pretrain_note(
                r, "{\"stage\":\"%s\",\"step\":%lld,\"loss\":%.5f,\"grad_norm\":%.4f}", v->name,
                (long long)l->step, mean, norm));
        const bool due = l->step % r->o->save_steps == 0, last = l->step == v->until;
        if (due || last || cn_learner_unsaved_s(l) > CN_LEARNER_MOST_UNSAVED_S)
            CN_TRY(cn_learner_save(l, r->state_dir, v->name));
        if (due && !last) s = check_and_write(r, v);
        if (s == CN_ECANCELLED) return cn_learner_stop(l, r->state_dir, v->name);
        CN_TRY(s);
    }
    return CN_OK;
}

/* The network as it begins: from scratch, or as a folder has it. */
static cn_status take_weights(cn_pretrain_run *r, const vae_stage *v)
{
    if (v->decoder) return cn_pretrain_load_vae(r);
    CN_TRY(cn_pretrain_begin_vae(r));
    return r->o->start_from ? cn_pretrain_load(r, r->o->start_from, "vae", r->vae) : CN_OK;
}

static cn_status phase(cn_pretrain_run *r, vae_stage v)
{
    bool found;
    const cn_learner_options o = {.lr = r->o->vae_lr,
                                  .weight_decay = 1e-4,
                                  .ema = r->o->vae_ema,
                                  .beta2 = 0.99f,
                                  .muon = r->o->muon,
                                  .max_grad_norm = r->o->max_grad_norm,
                                  .steps = r->o->vae_steps,
                                  .warmup_steps = CN_MIN(300, r->o->vae_steps / 10),
                                  .decay_part = r->o->decay_part,
                                  .passes = r->o->vae_passes};
    cn_status s = build(r, &v);
    if (s == CN_OK) s = allocate(r, &v);
    if (s == CN_OK) s = weigh(r, &v);
    if (s == CN_OK) s = take_weights(r, &v);
    if (s == CN_OK) s = cn_learner_create(r->ctx, r->be, v.g, v.plan, &r->vae, 1, &o, &v.learner);
    if (s == CN_OK) s = cn_learner_load(v.learner, r->state_dir, v.name, &found);
    if (s == CN_OK) s = train(r, &v);
    if (s == CN_OK && v.last) s = check_and_write(r, &v);
    cn_learner_destroy(v.learner);
    cn_plan_destroy(v.plan);
    cn_graph_destroy(v.g);
    cn_free(v.scenes);
    cn_free(v.rgb);
    cn_free(v.pixels);
    cn_free(v.draws);
    return s;
}

cn_status cn_pretrain_vae(cn_pretrain_run *r)
{
    const cn_pretrain_options *o = r->o;
    CN_TRY(phase(
        r, (vae_stage){.name = "vae",
                       .px = o->crop_px,
                       .B = 2 * o->vae_batch,
                       .until = o->vae_steps - (int64_t)(o->full_part * (double)o->vae_steps)}));
    CN_TRY(phase(r, (vae_stage){.name = "vae",
                                .px = o->size_px,
                                .B = o->vae_batch,
                                .until = o->vae_steps,
                                .last = true}));
    cn_params_set_trainable(r->vae, false);
    return CN_OK;
}

cn_status cn_pretrain_decoder(cn_pretrain_run *r)
{
    const cn_pretrain_options *o = r->o;
    CN_TRY(cn_pretrain_read_vae_config(r));
    return phase(r, (vae_stage){.name = "decoder",
                                .px = o->size_px,
                                .B = o->vae_batch,
                                .until = o->vae_steps,
                                .decoder = true,
                                .last = true});
}
