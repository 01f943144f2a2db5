/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain_unet.c - the small text encoder and UNet, trained together on the encoded scenes.
 *
 * Latents of all scenes are encoded once and kept on disk; captions are told anew at each visit,
 * one in ten left empty so that guidance has its other half. Half of the timesteps are drawn
 * uniformly, half from a logistic-normal about the middle, where shapes and places are decided.
 */
#include "pretrain/pretrain.h"

#include "diffuse/sampling.h"
#include "diffuse/text.h"
#include "diffuse/schedule.h"
#include "model/text/bpe.h"
#include "scene/scene.h"

#include <math.h>
#include <string.h>

enum { CAPTIONS = 20000, SHEET = 8, SHEET_STEPS = 20, ENCODE_BATCH = 8 };
static const float EMPTY_PROMPTS = 0.1f;
static const double SHEET_GUIDANCE = 4.0;

typedef struct unet_stage {
    cn_graph *g;
    cn_plan *plan;
    cn_node *x, *t, *ids, *noise, *loss;
    cn_learner *learner;
    cn_tokenizer *tokenizer;
    cn_schedule *schedule;
    char tokenizer_dir[4200];
    float *latents; /* [scenes, latent], scaled */
    int64_t latent; /* values in one */
    float *noisy, *draws, *times;
    int32_t *tokens;
    cn_rng rng;
} unet_stage;

/* --- vocabulary ------------------------------------------------------------------------------- */

static cn_status make_vocabulary(cn_pretrain_run *r, const char *dir)
{
    enum { ROOM = 256 };
    char *all = cn_alloc(r->ctx, (size_t)CAPTIONS * ROOM);
    const char **texts = cn_alloc_array(r->ctx, CAPTIONS, sizeof *texts);
    cn_status s = all && texts ? CN_OK : CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < CAPTIONS; i++) {
        cn_scene scene;
        cn_scene_generate(r->o->seed, (uint64_t)i, &scene);
        cn_scene_caption(&scene, i, all + (size_t)i * ROOM, ROOM);
        texts[i] = all + (size_t)i * ROOM;
    }
    if (s == CN_OK)
        s = cn_bpe_train(r->ctx, texts, CAPTIONS, CN_TINY_VOCABULARY, r->base->clip.max_positions,
                         dir);
    cn_free(texts);
    cn_free(all);
    return s;
}

static cn_status open_vocabulary(cn_pretrain_run *r, unet_stage *u)
{
    char path[4300];
    CN_TRY(cn_format(r->ctx, u->tokenizer_dir, sizeof u->tokenizer_dir, "%s/tokenizer",
                     r->o->output_dir));
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/vocab.json", u->tokenizer_dir));
    if (!cn_file_exists(path)) CN_TRY(make_vocabulary(r, u->tokenizer_dir));
    CN_TRY(cn_tokenizer_open(r->ctx, u->tokenizer_dir, &u->tokenizer));
    r->base->clip.vocabulary = cn_tokenizer_size(u->tokenizer);
    return CN_OK;
}

/* --- latents ---------------------------------------------------------------------------------- */

static cn_status encode_batch(cn_pretrain_run *r, unet_stage *u, cn_plan *plan,
                              const cn_node *image, const cn_node *moments, uint8_t *rgb,
                              float *pixels, int64_t first)
{
    int64_t P = r->o->size_px, n = ENCODE_BATCH * P * P * 3, C = r->base->vae.latent_channels;
    cn_scene scenes[ENCODE_BATCH];
    for (int64_t i = 0; i < ENCODE_BATCH; i++)
        cn_scene_generate(r->o->seed, (uint64_t)(first + i), &scenes[i]);
    cn_scene_maps maps = {.rgb = rgb};
    CN_TRY(cn_scene_render_batch(r->ctx, scenes, ENCODE_BATCH, P, &maps));
    for (int64_t i = 0; i < n; i++) pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
    CN_TRY(cn_plan_set(plan, image, pixels));
    CN_TRY(cn_plan_run(plan));
    const float *q = cn_plan_data(plan, moments);
    float *out = u->latents + first * u->latent;
    int64_t room = CN_MIN(ENCODE_BATCH, r->o->scenes - first) * u->latent;
    for (int64_t i = 0; i < room; i++)
        out[i] = q[i / C * 2 * C + i % C] * r->base->vae.scaling_factor;
    return CN_OK;
}

static cn_status encode_scenes(cn_pretrain_run *r, unet_stage *u)
{
    int64_t P = r->o->size_px;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    uint8_t *rgb = cn_alloc(r->ctx, (size_t)(ENCODE_BATCH * P * P * 3));
    float *pixels = cn_alloc_array(r->ctx, (size_t)(ENCODE_BATCH * P * P * 3), sizeof *pixels);
    cn_status s = rgb && pixels ? cn_graph_create(r->ctx, &g) : CN_ENOMEM;
    if (s == CN_OK) s = cn_pretrain_read_vae_config(r);
    if (s != CN_OK) goto done;
    cn_params_set_trainable(r->vae, false);
    cn_graph_use(g, r->vae);
    cn_node *image = cn_input4(g, "image", ENCODE_BATCH, P, P, 3);
    cn_node *moments = cn_vae_encode_build(g, &r->base->vae, image);
    cn_vae_decode_build(g, &r->base->vae,
                        cn_slice(g, moments, 0, r->base->vae.latent_channels)); /* declares */
    if ((s = cn_plan_create(r->ctx, g, r->be, &moments, 1, false, &plan)) != CN_OK) goto done;
    if ((s = cn_pretrain_load_vae(r)) != CN_OK) goto done;
    for (int64_t i = 0; i < r->o->scenes; i += ENCODE_BATCH) {
        if (cn_cancelled(r->ctx)) s = cn_fail(r->ctx, CN_ECANCELLED, "stopped while encoding");
        if (s == CN_OK) s = encode_batch(r, u, plan, image, moments, rgb, pixels, i);
        if (s != CN_OK) break;
        cn_pretrain_progress(r, "encode", CN_MIN(i + ENCODE_BATCH, r->o->scenes), r->o->scenes, 0);
    }
done:
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_free(rgb);
    cn_free(pixels);
    return s;
}

/* --- the network ------------------------------------------------------------------------------ */

static cn_status build(cn_pretrain_run *r, unet_stage *u)
{
    int64_t B = r->o->unet_batch, p = r->base->unet.sample_size;
    const cn_clip_config *clip = &r->base->clip;
    cn_params_set_trainable(r->unet, true);
    cn_params_set_trainable(r->text, true);
    CN_TRY(cn_graph_create(r->ctx, &u->g));
    u->ids = cn_input(u->g, "ids", CN_I32, 2, (int64_t[]){B, clip->max_positions}, false);
    u->t = cn_input(u->g, "t", CN_F32, 1, &B, false);
    u->x = cn_input4(u->g, "x", B, p, p, r->base->unet.in_channels);
    u->noise = cn_input4(u->g, "noise", B, p, p, r->base->unet.out_channels);
    cn_graph_use(u->g, r->text);
    cn_node *context = cn_clip_build(u->g, clip, u->ids, 0);
    cn_graph_use(u->g, r->unet);
    cn_node *eps = cn_unet_build(u->g, &r->base->unet, u->x, u->t, context, NULL);
    u->loss = cn_loss_node(u->g, CN_LOSS_MSE, eps, u->noise);
    CN_TRY(cn_graph_backward(u->g, u->loss));
    return cn_plan_create(r->ctx, u->g, r->be, &u->loss, 1, true, &u->plan);
}

static cn_status allocate(cn_pretrain_run *r, unet_stage *u)
{
    int64_t p = r->base->unet.sample_size;
    u->latent = p * p * r->base->unet.in_channels;
    u->latents = cn_alloc_array(r->ctx, (size_t)(r->o->scenes * u->latent), sizeof(float));
    return u->latents ? CN_OK : CN_ENOMEM;
}

static cn_status allocate_batch(cn_pretrain_run *r, unet_stage *u)
{
    size_t B = (size_t)r->o->unet_batch;
    u->noisy = cn_alloc_array(r->ctx, B * (size_t)u->latent, sizeof(float));
    u->draws = cn_alloc_array(r->ctx, B * (size_t)u->latent, sizeof(float));
    u->times = cn_alloc_array(r->ctx, B, sizeof(float));
    u->tokens = cn_alloc_array(r->ctx, B * (size_t)r->base->clip.max_positions, sizeof(int32_t));
    return u->noisy && u->draws && u->times && u->tokens ? CN_OK : CN_ENOMEM;
}

static int draw_timestep(unet_stage *u)
{
    int n = u->schedule->n;
    if (cn_rng_uniform(&u->rng) < 0.5f) return (int)cn_rng_below(&u->rng, n);
    float z;
    cn_rng_normal(&u->rng, &z, 1);
    return (int)CN_MIN((double)n - 1, (double)n / (1 + exp(-(double)z)));
}

static cn_status fill_batch(cn_pretrain_run *r, unet_stage *u)
{
    int64_t L = r->base->clip.max_positions, untruncated;
    cn_rng_normal(&u->rng, u->draws, r->o->unet_batch * u->latent);
    for (int64_t b = 0; b < r->o->unet_batch; b++) {
        int64_t index = cn_rng_below(&u->rng, r->o->scenes);
        int form = (int)cn_rng_below(&u->rng, cn_scene_caption_count());
        bool empty = cn_rng_uniform(&u->rng) < EMPTY_PROMPTS;
        cn_scene scene;
        char caption[256] = "";
        cn_scene_generate(r->o->seed, (uint64_t)index, &scene);
        if (!empty) cn_scene_caption(&scene, form, caption, sizeof caption);
        CN_TRY(
            cn_tokenizer_encode(r->ctx, u->tokenizer, caption, u->tokens + b * L, L, &untruncated));
        int t = draw_timestep(u);
        u->times[b] = (float)t;
        cn_schedule_add_noise(u->schedule, t, u->latents + index * u->latent,
                              u->draws + b * u->latent, u->noisy + b * u->latent, u->latent);
    }
    CN_TRY(cn_plan_set(u->plan, u->ids, u->tokens));
    CN_TRY(cn_plan_set(u->plan, u->t, u->times));
    CN_TRY(cn_plan_set(u->plan, u->x, u->noisy));
    return cn_plan_set(u->plan, u->noise, u->draws);
}

/* --- looking at it ---------------------------------------------------------------------------- */

static cn_status draw_sheet(cn_pretrain_run *r, unet_stage *u, cn_draw *draw, cn_decode *decode,
                            int64_t step)
{
    int64_t P = r->o->size_px, p = P / 8, L = r->base->clip.max_positions;
    const char *prompts[2 * SHEET];
    cn_scene scenes[SHEET];
    float *context = NULL, *latents = NULL, *pixels = NULL;
    uint8_t *rgb = NULL;
    cn_sampler *sampler = NULL;
    for (int i = 0; i < SHEET; i++) {
        cn_scene_generate(r->o->seed, ((uint64_t)1 << 30) + (uint64_t)i, &scenes[i]);
        prompts[i] = "";
        prompts[SHEET + i] = scenes[i].caption;
    }
    cn_text_spec text = {.clip = &r->base->clip, .params = r->text, .tokenizer = u->tokenizer};
    cn_status s = cn_text_encode(r->ctx, r->be, &text, prompts, 2 * SHEET, &context);
    if (s == CN_OK)
        s = cn_sampler_create(r->ctx, "ddim", &r->base->schedule, SHEET_STEPS, &sampler);
    latents = cn_alloc_array(r->ctx, (size_t)(p * p * 4), sizeof *latents);
    pixels = cn_alloc_array(r->ctx, (size_t)(SHEET * P * P * 3), sizeof *pixels);
    rgb = cn_alloc(r->ctx, (size_t)(P * P * 3));
    if (s == CN_OK && (!latents || !pixels || !rgb)) s = CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < SHEET; i++) {
        cn_rng rng;
        cn_rng_seed(&rng, (uint64_t)i);
        cn_rng_normal(&rng, latents, p * p * 4);
        cn_draw_args a = {.uncond = context,
                          .cond = context + (SHEET + i) * L * r->base->clip.hidden,
                          .cfg_scale = SHEET_GUIDANCE,
                          .latents = latents,
                          .rng = &rng};
        if ((s = cn_draw_run(draw, sampler, &a)) != CN_OK) break;
        if ((s = cn_decode_run(decode, latents, rgb)) != CN_OK) break;
        for (int64_t k = 0; k < P * P * 3; k++)
            pixels[i * P * P * 3 + k] = (float)rgb[k] / 127.5f - 1.0f;
    }
    char path[4200];
    if (s == CN_OK)
        s = cn_format(r->ctx, path, sizeof path, "%s/unet_%06lld.png", r->state_dir,
                      (long long)step);
    if (s == CN_OK) s = cn_pretrain_sheet(r, path, pixels, SHEET, SHEET / 2, P);
    cn_sampler_destroy(sampler);
    cn_free(context);
    cn_free(latents);
    cn_free(pixels);
    cn_free(rgb);
    return s;
}

static cn_status sheet(cn_pretrain_run *r, unet_stage *u, int64_t step)
{
    int64_t p = r->o->size_px / 8;
    cn_draw *draw = NULL;
    cn_decode *decode = NULL;
    cn_draw_spec spec = {.unet = &r->base->unet,
                         .unet_params = r->unet,
                         .batch = 1,
                         .latent_h = p,
                         .latent_w = p,
                         .context_length = r->base->clip.max_positions,
                         .guidance = true};
    cn_status s = cn_draw_create(r->ctx, r->be, &spec, &draw);
    cn_vae_spec vae = {.config = &r->base->vae, .params = r->vae, .latent_h = p, .latent_w = p};
    if (s == CN_OK) s = cn_decode_create(r->ctx, r->be, &vae, &decode);
    if (s == CN_OK) s = draw_sheet(r, u, draw, decode, step);
    cn_draw_destroy(draw);
    cn_decode_destroy(decode);
    return s;
}

static cn_status train(cn_pretrain_run *r, unet_stage *u)
{
    double norm = 0, mean = 0;
    cn_learner *l = u->learner;
    while (l->step < r->o->unet_steps) {
        cn_rng_seed(&u->rng, r->o->seed * 7000003u + (uint64_t)l->step);
        CN_TRY(fill_batch(r, u));
        cn_status s = cn_plan_run(u->plan);
        if (s == CN_ECANCELLED) return cn_learner_stop(l, r->state_dir, "unet");
        if (s != CN_OK) return s;
        double loss = (double)*(const float *)cn_plan_data(u->plan, u->loss);
        CN_TRY(cn_learner_step(l, &norm));
        mean = mean == 0 ? loss : 0.98 * mean + 0.02 * loss;
        cn_pretrain_progress(r, "unet", l->step, r->o->unet_steps, mean);
        if (l->step % 50 == 0)
            CN_TRY(cn_pretrain_note(
                r,
                "{\"stage\":\"unet\",\"step\":%lld,\"loss\":%.5f,\"grad_norm\":%.4f,"
                "\"seconds\":%.0f}",
                (long long)l->step, mean, norm, cn_now_s() - r->started_s));
        if (l->step % r->o->save_steps && l->step != r->o->unet_steps) continue;
        CN_TRY(cn_learner_save(l, r->state_dir, "unet"));
        cn_learner_swap_ema(l);
        s = sheet(r, u, l->step);
        if (s == CN_OK)
            s = cn_base_save_folder(r->ctx, r->be, r->base, r->unet, r->vae, r->text,
                                    u->tokenizer_dir, CN_F16, r->o->output_dir);
        cn_learner_swap_ema(l);
        CN_TRY(s);
    }
    return CN_OK;
}

cn_status cn_pretrain_unet(cn_pretrain_run *r)
{
    unet_stage u = {0};
    bool found;
    cn_learner_options o = {.lr = r->o->unet_lr,
                            .weight_decay = 1e-2,
                            .ema = 0.999,
                            .beta2 = 0.99f,
                            .steps = r->o->unet_steps,
                            .warmup_steps = 300};
    cn_status s = open_vocabulary(r, &u);
    if (s == CN_OK) s = cn_schedule_create(r->ctx, &r->base->schedule, &u.schedule);
    if (s == CN_OK) s = allocate(r, &u);
    if (s == CN_OK) s = encode_scenes(r, &u);
    if (s == CN_OK) s = build(r, &u);
    if (s == CN_OK) s = allocate_batch(r, &u);
    if (s == CN_OK) s = cn_params_init(r->ctx, r->be, r->text, r->o->seed + 1);
    if (s == CN_OK) s = cn_params_init(r->ctx, r->be, r->unet, r->o->seed + 2);
    if (s == CN_OK)
        s = cn_learner_create(r->ctx, r->be, u.g, u.plan, (cn_params *[]){r->text, r->unet}, 2, &o,
                              &u.learner);
    if (s == CN_OK) s = cn_learner_load(u.learner, r->state_dir, "unet", &found);
    if (s == CN_OK) s = train(r, &u);
    cn_learner_destroy(u.learner);
    cn_plan_destroy(u.plan);
    cn_graph_destroy(u.g);
    cn_tokenizer_close(u.tokenizer);
    cn_schedule_destroy(u.schedule);
    cn_free(u.latents);
    cn_free(u.noisy);
    cn_free(u.draws);
    cn_free(u.times);
    cn_free(u.tokens);
    return s;
}
