/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain_unet.c - the small text encoder and UNet, trained together on the encoded scenes.
 *
 * Scenes are encoded once each: some before the first step, the others one after another during the
 * first half of the steps. Captions are told anew at each visit, one in ten left empty so that
 * guidance has its other half. Half of the timesteps are drawn uniformly, half from a
 * logistic-normal about the middle, where shapes and places are decided.
 */
#include "pretrain/pretrain.h"

#include "diffuse/objective.h"
#include "diffuse/sampling.h"
#include "diffuse/schedule.h"
#include "diffuse/text.h"
#include "model/checkpoint/base_parts.h"
#include "model/text/bpe.h"
#include "pretrain/latents.h"
#include "scene/scene.h"

#include <math.h>
#include <string.h>

enum { CAPTIONS = 20000, SHEET = 8, SHEET_STEPS = 20, CAPTION_BYTES = 512 };
static const float EMPTY_PROMPTS = 0.1f;
static const double SHEET_GUIDANCE = 4.0;

typedef struct unet_stage {
    cn_graph *g;
    cn_plan *plan;
    cn_node *x, *t, *ids, *target, *per, *loss;
    cn_learner *learner;
    cn_tokenizer *tokenizer;
    cn_schedule *schedule;
    cn_objective objective;
    char tokenizer_dir[4200];
    cn_latents *latents;
    int64_t latent; /* values in one */
    float *clean, *noisy, *draws, *targets, *times, *weights;
    int32_t *tokens;
    cn_rng rng;
} unet_stage;

/* --- vocabulary ------------------------------------------------------------------------------- */

static cn_status make_vocabulary(cn_pretrain_run *r, const char *dir)
{
    char *all = cn_alloc(r->ctx, (size_t)CAPTIONS * CAPTION_BYTES);
    const char **texts = cn_alloc_array(r->ctx, CAPTIONS, sizeof *texts);
    cn_status s = all && texts ? CN_OK : CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < CAPTIONS; i++) {
        cn_scene scene;
        cn_scene_generate(r->o->seed, (uint64_t)i, &scene);
        cn_scene_caption(&scene, i, all + (size_t)i * CAPTION_BYTES, CAPTION_BYTES);
        texts[i] = all + (size_t)i * CAPTION_BYTES;
    }
    if (s == CN_OK)
        s = cn_bpe_train(r->ctx, texts, CAPTIONS, r->o->vocabulary, r->base->text[0].max_positions,
                         dir);
    cn_free(texts);
    cn_free(all);
    return s;
}

/* Weights that training starts from go with their own tokens; a folder without (a VAE's) leaves
 * them to be learned from captions. */
static cn_status begin_vocabulary(cn_pretrain_run *r, const char *dir)
{
    char from[CN_PATH_BYTES];
    if (r->o->start_from) {
        CN_TRY(cn_format(r->ctx, from, sizeof from, "%s/tokenizer", r->o->start_from));
        if (cn_dir_exists(from))
            return cn_tokenizer_copy(r->ctx, from, r->o->output_dir, "tokenizer",
                                     r->base->text[0].max_positions);
    }
    return make_vocabulary(r, dir);
}

static cn_status open_vocabulary(cn_pretrain_run *r, unet_stage *u)
{
    char path[4300];
    CN_TRY(cn_format(r->ctx, u->tokenizer_dir, sizeof u->tokenizer_dir, "%s/tokenizer",
                     r->o->output_dir));
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/vocab.json", u->tokenizer_dir));
    if (!cn_file_exists(path)) CN_TRY(begin_vocabulary(r, u->tokenizer_dir));
    CN_TRY(cn_tokenizer_open(r->ctx, u->tokenizer_dir, &u->tokenizer));
    r->base->text[0].vocabulary = cn_tokenizer_size(u->tokenizer);
    return CN_OK;
}

/* --- the network ------------------------------------------------------------------------------ */

static cn_status build(cn_pretrain_run *r, unet_stage *u)
{
    int64_t B = r->o->unet_batch, p = r->base->unet.sample_size;
    const cn_clip_config *clip = &r->base->text[0];
    cn_params_set_trainable(r->unet, true);
    cn_params_set_trainable(r->text, true);
    CN_TRY(cn_graph_create(r->ctx, &u->g));
    u->ids = cn_input(u->g, "ids", CN_I32, 2, (int64_t[]){B, clip->max_positions}, false);
    u->t = cn_input(u->g, "t", CN_F32, 1, &B, false);
    u->x = cn_input4(u->g, "x", B, p, p, r->base->unet.in_channels);
    u->target = cn_input4(u->g, "target", B, p, p, r->base->unet.out_channels);
    u->per = cn_input(u->g, "weights", CN_F32, 2, (int64_t[]){B, 2}, false);
    cn_graph_use(u->g, r->text);
    cn_node *context = cn_clip_build(u->g, clip, u->ids, 0);
    cn_graph_use(u->g, r->unet);
    const cn_unet_inputs in = {.x = u->x, .t = u->t, .context = context};
    cn_node *y = cn_unet_build(u->g, &r->base->unet, &in);
    u->loss = cn_loss_weighted(u->g, CN_LOSS_MSE, y, u->target, u->per);
    CN_TRY(cn_graph_backward(u->g, u->loss));
    return cn_plan_create(r->ctx, u->g, r->be, &u->loss, 1, true, &u->plan);
}

static cn_status allocate(cn_pretrain_run *r, unet_stage *u)
{
    const size_t B = (size_t)r->o->unet_batch, n = B * (size_t)u->latent;
    u->clean = cn_alloc_array(r->ctx, (size_t)u->latent, sizeof(float));
    u->noisy = cn_alloc_array(r->ctx, n, sizeof(float));
    u->draws = cn_alloc_array(r->ctx, n, sizeof(float));
    u->targets = cn_alloc_array(r->ctx, n, sizeof(float));
    u->times = cn_alloc_array(r->ctx, B, sizeof(float));
    u->weights = cn_alloc_array(r->ctx, 2 * B, sizeof(float));
    u->tokens = cn_alloc_array(r->ctx, B * (size_t)r->base->text[0].max_positions, sizeof(int32_t));
    return u->clean && u->noisy && u->draws && u->targets && u->times && u->weights && u->tokens
               ? CN_OK
               : CN_ENOMEM;
}

/* --- batches ---------------------------------------------------------------------------------- */

static int draw_timestep(unet_stage *u)
{
    int n = u->schedule->n;
    if (cn_rng_uniform(&u->rng) < 0.5f) return (int)cn_rng_below(&u->rng, n);
    float z;
    cn_rng_normal(&u->rng, &z, 1);
    return (int)CN_MIN((double)n - 1, (double)n / (1 + exp(-(double)z)));
}

/* Latents of scene `index` with noise of timestep t, as row b of the batch. */
static void fill_latent(unet_stage *u, int64_t b, int64_t index, int t)
{
    const int64_t n = u->latent;
    float *draws = u->draws + b * n, *target = u->targets + b * n;
    cn_latents_get(u->latents, index, u->clean);
    cn_schedule_add_noise(u->schedule, t, u->clean, draws, u->noisy + b * n, n);
    if (u->schedule->config.v_prediction)
        cn_schedule_velocity(u->schedule, t, u->clean, draws, target, n);
    else
        memcpy(target, draws, (size_t)n * sizeof *target);
    u->times[b] = (float)t;
    cn_objective_weigh(&u->objective, u->schedule, t, u->weights + 2 * b);
}

/* How many scenes the steps from `step` on choose from. */
static int64_t scenes_at(const cn_pretrain_options *o, int64_t step)
{
    const int64_t ahead = CN_MIN(CN_MAX(o->scenes_ahead, o->unet_batch), o->scenes);
    const double part = 2 * (double)step / (double)o->unet_steps;
    return ahead + (int64_t)((double)(o->scenes - ahead) * CN_MIN(part, 1));
}

static cn_status fill_batch(cn_pretrain_run *r, unet_stage *u, int64_t scenes)
{
    int64_t L = r->base->text[0].max_positions, untruncated;
    CN_TRY(cn_latents_reach(u->latents, scenes));
    cn_rng_normal(&u->rng, u->draws, r->o->unet_batch * u->latent);
    for (int64_t b = 0; b < r->o->unet_batch; b++) {
        int64_t index = cn_rng_below(&u->rng, scenes);
        int form = (int)cn_rng_below(&u->rng, cn_scene_caption_count());
        bool empty = cn_rng_uniform(&u->rng) < EMPTY_PROMPTS;
        cn_scene scene;
        char caption[CAPTION_BYTES] = "";
        cn_scene_generate(r->o->seed, (uint64_t)index, &scene);
        if (!empty) cn_scene_caption(&scene, form, caption, sizeof caption);
        CN_TRY(
            cn_tokenizer_encode(r->ctx, u->tokenizer, caption, u->tokens + b * L, L, &untruncated));
        fill_latent(u, b, index, draw_timestep(u));
    }
    CN_TRY(cn_plan_set(u->plan, u->ids, u->tokens));
    CN_TRY(cn_plan_set(u->plan, u->t, u->times));
    CN_TRY(cn_plan_set(u->plan, u->x, u->noisy));
    CN_TRY(cn_plan_set(u->plan, u->per, u->weights));
    return cn_plan_set(u->plan, u->target, u->targets);
}

/* --- looking at it ---------------------------------------------------------------------------- */

static cn_status draw_sheet(cn_pretrain_run *r, unet_stage *u, cn_draw *draw, cn_decode *decode,
                            int64_t step)
{
    int64_t P = r->o->size_px, L = r->base->text[0].max_positions;
    const int64_t latent = u->latent;
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
    cn_text_spec text = {
        .encoders = {{.clip = &r->base->text[0], .params = r->text, .tokenizer = u->tokenizer}},
        .n = 1};
    cn_status s = cn_text_encode(r->ctx, r->be, &text, prompts, 2 * SHEET, &context);
    if (s == CN_OK)
        s = cn_sampler_create(r->ctx, "ddim", &r->base->schedule, SHEET_STEPS, &sampler);
    latents = cn_alloc_array(r->ctx, (size_t)latent, sizeof *latents);
    pixels = cn_alloc_array(r->ctx, (size_t)(SHEET * P * P * 3), sizeof *pixels);
    rgb = cn_alloc(r->ctx, (size_t)(P * P * 3));
    if (s == CN_OK && (!latents || !pixels || !rgb)) s = CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < SHEET; i++) {
        cn_rng rng;
        cn_rng_seed(&rng, (uint64_t)i);
        cn_rng_normal(&rng, latents, latent);
        cn_draw_args a = {.uncond = context,
                          .cond = context + (SHEET + i) * L * r->base->text[0].hidden,
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
    int64_t p = r->base->unet.sample_size;
    cn_draw *draw = NULL;
    cn_decode *decode = NULL;
    cn_draw_spec spec = {.unet = &r->base->unet,
                         .unet_params = r->unet,
                         .batch = 1,
                         .latent_h = p,
                         .latent_w = p,
                         .context_length = r->base->text[0].max_positions,
                         .guidance = true};
    cn_status s = cn_draw_create(r->ctx, r->be, &spec, &draw);
    cn_vae_spec vae = {.config = &r->base->vae, .params = r->vae, .latent_h = p, .latent_w = p};
    if (s == CN_OK) s = cn_decode_create(r->ctx, r->be, &vae, &decode);
    if (s == CN_OK) s = draw_sheet(r, u, draw, decode, step);
    cn_draw_destroy(draw);
    cn_decode_destroy(decode);
    return s;
}

/* By the weights' mean: a sheet of drawings, and the whole model as it is now. */
static cn_status check_and_write(cn_pretrain_run *r, unet_stage *u)
{
    CN_TRY(cn_learner_swap_ema(u->learner));
    cn_status s = sheet(r, u, u->learner->step);
    const cn_base_target to = {
        .path = r->o->output_dir, .dtype = CN_F16, .tokenizer_dir = u->tokenizer_dir};
    if (s == CN_OK)
        s = cn_base_save_folder(r->ctx, r->be, r->base,
                                (const cn_params *const[]){r->unet, r->vae, r->text}, 3, &to);
    CN_TRY(cn_learner_swap_ema(u->learner));
    return s;
}

/* --- training --------------------------------------------------------------------------------- */

/* The passes of a step but the optimizer's part; *loss: the last one's. */
static cn_status run_passes(cn_pretrain_run *r, unet_stage *u, double *loss)
{
    cn_learner *l = u->learner;
    for (int64_t pass = cn_learner_passes(l); pass < l->o.passes; pass++) {
        cn_rng_seed(&u->rng, r->o->seed * 7000003u + (uint64_t)(l->step * l->o.passes + pass));
        CN_TRY(fill_batch(r, u, scenes_at(r->o, l->step)));
        CN_TRY(cn_plan_run(u->plan));
        *loss = (double)*(const float *)cn_plan_data(u->plan, u->loss);
        if (pass + 1 < l->o.passes) CN_TRY(cn_learner_add_pass(l));
    }
    return CN_OK;
}

static cn_status train(cn_pretrain_run *r, unet_stage *u)
{
    double norm = 0, mean = 0, now = 0;
    cn_learner *l = u->learner;
    while (l->step < r->o->unet_steps) {
        cn_status s = run_passes(r, u, &now);
        if (s == CN_ECANCELLED) return cn_learner_stop(l, r->state_dir, "unet");
        if (s != CN_OK) return s;
        CN_TRY(cn_learner_step(l, &norm));
        mean = mean == 0 ? now : 0.98 * mean + 0.02 * now;
        cn_pretrain_progress(r, "unet", l->step, r->o->unet_steps, mean);
        if (l->step % 50 == 0)
            CN_TRY(cn_pretrain_note(
                r,
                "{\"stage\":\"unet\",\"step\":%lld,\"loss\":%.5f,\"grad_norm\":%.4f,"
                "\"seconds\":%.0f}",
                (long long)l->step, mean, norm, cn_now_s() - r->started_s));
        const bool due = l->step % r->o->save_steps == 0, last = l->step == r->o->unet_steps;
        if (due || last || cn_learner_unsaved_s(l) > CN_LEARNER_MOST_UNSAVED_S)
            CN_TRY(cn_learner_save(l, r->state_dir, "unet"));
        if (due && !last) s = check_and_write(r, u);
        if (s == CN_ECANCELLED) return cn_learner_stop(l, r->state_dir, "unet");
        CN_TRY(s);
    }
    return CN_OK;
}

static cn_status prepare(cn_pretrain_run *r, unet_stage *u)
{
    const cn_learner_options o = {.lr = r->o->unet_lr,
                                  .weight_decay = 1e-2,
                                  .ema = r->o->unet_ema,
                                  .beta2 = 0.99f,
                                  .muon = r->o->muon,
                                  .max_grad_norm = r->o->max_grad_norm,
                                  .steps = r->o->unet_steps,
                                  .warmup_steps = CN_MIN(300, r->o->unet_steps / 10),
                                  .decay_part = r->o->decay_part,
                                  .passes = r->o->unet_passes};
    bool found;
    CN_TRY(open_vocabulary(r, u));
    CN_TRY(cn_schedule_create(r->ctx, &r->base->schedule, &u->schedule));
    u->objective = (cn_objective){.loss = CN_LOSS_MSE, .snr_gamma = r->o->snr_gamma};
    CN_TRY(cn_latents_open(r, r->o->scenes, &u->latents));
    u->latent = cn_latents_size(u->latents);
    r->base->unet.in_channels = r->base->unet.out_channels = r->base->vae.latent_channels;
    CN_TRY(build(r, u));
    CN_TRY(allocate(r, u));
    CN_TRY(cn_params_init(r->ctx, r->be, r->text, r->o->seed + 1));
    CN_TRY(cn_params_init(r->ctx, r->be, r->unet, r->o->seed + 2));
    if (r->o->start_from) {
        CN_TRY(cn_pretrain_load(r, r->o->start_from, "text_encoder", r->text));
        CN_TRY(cn_pretrain_load(r, r->o->start_from, "unet", r->unet));
    }
    CN_TRY(cn_learner_create(r->ctx, r->be, u->g, u->plan, (cn_params *[]){r->text, r->unet}, 2, &o,
                             &u->learner));
    return cn_learner_load(u->learner, r->state_dir, "unet", &found);
}

cn_status cn_pretrain_unet(cn_pretrain_run *r)
{
    unet_stage u = {0};
    cn_status s = prepare(r, &u);
    if (s == CN_OK) s = train(r, &u);
    if (s == CN_OK) s = check_and_write(r, &u);
    cn_learner_destroy(u.learner);
    cn_plan_destroy(u.plan);
    cn_graph_destroy(u.g);
    cn_tokenizer_close(u.tokenizer);
    cn_schedule_destroy(u.schedule);
    cn_latents_close(u.latents);
    cn_free(u.clean);
    cn_free(u.noisy);
    cn_free(u.draws);
    cn_free(u.targets);
    cn_free(u.times);
    cn_free(u.weights);
    cn_free(u.tokens);
    return s;
}
