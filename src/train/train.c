/* SPDX-License-Identifier: Apache-2.0 */
/* train.c - cn_train: checks what it was given, sets a run up, lets it loop, saves. */
#include "train/trainer.h"

#include "cpu/cpu.h"
#include "diffuse/sampling.h"

#include <math.h>
#include <string.h>

/* --- checks ----------------------------------------------------------------------------------- */

/* What the base must be for this trainer. */
static cn_status check_base(cn_ctx *ctx, const cn_base *b, const cn_train_options *o)
{
    const int64_t factor = cn_vae_factor(&b->vae);
    if (b->unet.in_channels != b->vae.latent_channels ||
        b->unet.out_channels != b->vae.latent_channels)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: its UNet takes %lld channels and gives %lld, the VAE's latents have "
                       "%lld; a plain text-to-image model is expected",
                       b->path, (long long)b->unet.in_channels, (long long)b->unet.out_channels,
                       (long long)b->vae.latent_channels);
    CN_TRY(cn_base_check_context(ctx, b));
    if (o->resolution % factor)
        return cn_fail(ctx, CN_EINVAL, "--resolution %lld: a multiple of %lld is expected",
                       (long long)o->resolution, (long long)factor);
    if (o->enable_bucket && o->bucket_reso_steps % factor)
        return cn_fail(ctx, CN_EINVAL, "--bucket-reso-steps %lld: a multiple of %lld is expected",
                       (long long)o->bucket_reso_steps, (long long)factor);
    return CN_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

/* The widths of a ControlNet that starts from this base: diffusers' hint network, which shrinks the
 * condition as the VAE does the picture. */
static cn_status fresh_config(cn_ctx *ctx, const cn_base *b, cn_controlnet_config *c)
{
    static const int64_t hint[] = {16, 32, 96, 256};
    const int levels = b->vae.levels;
    if (levels < 2 || levels > (int)CN_COUNT(hint))
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: its VAE has %d levels; a ControlNet's hint network is known for 2 to "
                       "%d of them",
                       b->path, levels, (int)CN_COUNT(hint));
    *c = (cn_controlnet_config){.encoder = b->unet, .condition_channels = 3, .hint_levels = levels};
    for (int i = 0; i < levels; i++) c->hint_channels[i] = hint[i];
    return CN_OK;
}

static cn_status given_config(cn_trainer *t)
{
    cn_ctx *ctx = t->ctx;
    CN_TRY(cn_control_open(ctx, t->o.controlnet, &t->start));
    const cn_controlnet_config *c = &t->start->config;
    cn_status s = cn_control_join(ctx, t->start, &t->base->unet);
    if (s == CN_OK && c->hint_levels != t->base->vae.levels)
        s = cn_fail(ctx, CN_EMISMATCH, "its hint network has %d levels, the base's VAE %d",
                    c->hint_levels, t->base->vae.levels);
    if (s == CN_OK && c->condition_channels != 3)
        s = cn_fail(ctx, CN_EMISMATCH, "its condition has %lld channels; RGB (3) is expected",
                    (long long)c->condition_channels);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", t->o.controlnet);
    t->config = *c;
    return CN_OK;
}

/* Before anything in the folder is looked at: what another run writes there would change meanwhile.
 * A folder that isn't there yet is made when nothing is left to refuse. */
static cn_status lock_dir(cn_trainer *t)
{
    if (t->lock || t->o.dry_run || cn_ranks_rank(t->ranks) > 0) return CN_OK;
    return cn_checkpoint_lock(t->ctx, t->o.output_dir, &t->lock);
}

/* A checkpoint goes on in the phase it was made in; the loop sees what comes next. */
static cn_status choose_phase(cn_trainer *t)
{
    const cn_phase next = cn_phase_at(&t->o, t->state.step);
    t->phase = t->resume_path[0] ? t->state.phase : next;
    const cn_status s = cn_phase_follows(t->ctx, t->phase, next);
    return s == CN_OK ? CN_OK : cn_fail_prefix(t->ctx, s, "%s", t->resume_path);
}

static cn_status open_files(cn_trainer *t)
{
    const cn_tag_rules tags = cn_train_tag_rules(&t->o);
    CN_TRY(cn_lr_kind_find(t->ctx, t->o.lr_scheduler, &t->lr.kind));
    CN_TRY(cn_base_open(t->ctx, t->o.model, &t->base));
    CN_TRY(check_base(t->ctx, t->base, &t->o));
    CN_TRY(cn_prompter_open(t->ctx, t->base, t->o.tokenizer, &tags, &t->prompter));
    CN_TRY(t->o.controlnet ? given_config(t) : fresh_config(t->ctx, t->base, &t->config));
    CN_TRY(cn_trainer_open_data(t));
    CN_TRY(cn_backend_cpu_create(t->ctx, &t->be));
    CN_TRY(cn_comparison_choose(t->ctx, t->be, &t->o, &t->comparison));
    if (t->o.prediction) CN_TRY(cn_base_set_prediction(t->ctx, t->base, t->o.prediction));
    CN_TRY(cn_base_settle_prediction(t->ctx, t->base, t->be));
    if (t->o.rescale_betas_zero_snr) t->base->schedule.zero_snr = true;
    CN_TRY(cn_schedule_create(t->ctx, &t->base->schedule, &t->schedule));
    CN_TRY(cn_objective_find(t->ctx, &t->o, t->schedule, &t->objective));
    if (cn_dir_exists(t->o.output_dir)) CN_TRY(lock_dir(t));
    if (t->o.resume_from_checkpoint) {
        CN_TRY(cn_checkpoint_find(t->ctx, t->o.output_dir, t->o.resume_from_checkpoint,
                                  t->resume_path, &t->state));
        if (!t->resume_path[0])
            cn_log(t->ctx, CN_LOG_WARN, "%s: no checkpoint to resume from; training starts anew",
                   t->o.output_dir);
    }
    return choose_phase(t);
}

/* --- networks --------------------------------------------------------------------------------- */

/* With the middle's link alone the decoder's links must be silent for whoever uses the result. */
static cn_status silence_links(cn_trainer *t)
{
    for (int64_t i = 0; i < cn_params_count(t->control); i++) {
        cn_param *q = cn_params_at(t->control, i);
        if (strncmp(q->diffusers_name, "controlnet_down_blocks.", 23) != 0) continue;
        float *zeros = cn_alloc0(t->ctx, (size_t)cn_param_elements(q) * sizeof(float));
        if (!zeros) return CN_ENOMEM;
        const cn_status s = cn_param_set(t->be, t->ctx, q, zeros);
        cn_free(zeros);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

static cn_status load_weights(cn_trainer *t)
{
    CN_TRY(cn_base_load(t->ctx, t->base, t->be, t->unet));
    if (t->vae) CN_TRY(cn_base_load(t->ctx, t->base, t->be, t->vae));
    CN_TRY(cn_text_params_load(t->ctx, t->base, t->be, t->text));
    if (t->start)
        CN_TRY(cn_control_load(t->ctx, t->start, t->be, t->control));
    else
        CN_TRY(cn_control_init_from_base(t->ctx, t->be, t->base, t->control, t->o.seed));
    return t->o.only_mid_control ? silence_links(t) : CN_OK;
}

/* --- the run ---------------------------------------------------------------------------------- */

static void count_steps(cn_trainer *t)
{
    const int64_t images = cn_trainer_images(t);
    const int64_t per_epoch =
        (cn_buckets_epoch(t->buckets, cn_trainer_unit(t)) + images - 1) / images;
    t->total_steps =
        t->o.max_train_steps ? t->o.max_train_steps : per_epoch * t->o.num_train_epochs;
    t->lr = (cn_lr){t->lr.kind,     t->o.learning_rate, t->o.lr_warmup_steps,
                    t->total_steps, t->o.lr_num_cycles, t->o.lr_power};
}

static cn_status resume(cn_trainer *t)
{
    const int64_t unit = cn_trainer_unit(t);
    cn_train_state now = {.seed = t->o.seed,
                          .items = cn_buckets_epoch(t->buckets, unit),
                          .unit = unit,
                          .learned_at_step = -1};
    if (!t->state.run_id[0]) CN_TRY(cn_run_id_create(t->ctx, t->state.run_id));
    if (!t->resume_path[0]) {
        memcpy(now.run_id, t->state.run_id, sizeof now.run_id);
        t->state = now;
        return CN_OK;
    }
    cn_checkpoint c = cn_trainer_checkpoint(t);
    c.ctx = t->ctx;
    if (t->state.passes >= t->o.gradient_accumulation_steps)
        return cn_fail(t->ctx, CN_EINVAL,
                       "%s: was stopped after %lld passes of a step; "
                       "--gradient-accumulation-steps %lld or more is expected",
                       t->resume_path, (long long)t->state.passes, (long long)t->state.passes + 1);
    CN_TRY(cn_checkpoint_load(&c, t->resume_path));
    if (t->state.seed != now.seed || t->state.items != now.items)
        cn_log(t->ctx, CN_LOG_WARN,
               "%s: was made with seed %llu and %lld pairs, this run has seed %llu and %lld; it "
               "goes on, but not as the first run would have",
               t->resume_path, (unsigned long long)t->state.seed, (long long)t->state.items,
               (unsigned long long)now.seed, (long long)now.items);
    else if (t->buckets->rules.enabled && t->state.unit != unit)
        cn_log(t->ctx, CN_LOG_WARN,
               "%s: was made with passes of %lld pairs, this run has %lld; with --enable-bucket it "
               "goes on, but not as the first run would have",
               t->resume_path, (long long)t->state.unit, (long long)unit);
    if (t->buckets->rules.enabled) /* passes of another size may have ended inside one of these */
        t->state.samples = (t->state.samples + unit - 1) / unit * unit;
    t->state.seed = now.seed;
    t->state.items = now.items;
    t->state.unit = unit;
    cn_log(t->ctx, CN_LOG_INFO, "resumed from %s after step %lld", t->resume_path,
           (long long)t->state.step);
    return CN_OK;
}

static cn_status save_result(cn_trainer *t)
{
    char ema[4096];
    const cn_checkpoint c = cn_trainer_checkpoint(t);
    cn_plan_drop(t->step->plan); /* saving needs a little room of its own */
    const bool writes = cn_ranks_rank(t->ranks) == 0;
    CN_TRY(cn_format(t->ctx, ema, sizeof ema, "%s/ema", t->o.output_dir));
    cn_status s = writes ? cn_checkpoint_save_result(&c, t->o.output_dir) : CN_OK;
    CN_TRY(cn_adamw_swap_ema(t->adamw));
    if (s == CN_OK && t->o.use_ema && writes) s = cn_checkpoint_save_result(&c, ema);
    CN_TRY(cn_adamw_swap_ema(t->adamw));
    return cn_trainer_saved(t, cn_ranks_agree(t->ranks, s), t->o.output_dir);
}

/* Everything that can be refused without reading weights or writing a file. */
static cn_status prepare(cn_trainer *t)
{
    CN_TRY(cn_train_options_check(t->ctx, &t->o));
    if (!(t->save_ctx = cn_ctx_create(cn_threads(t->ctx))))
        return cn_fail(t->ctx, CN_ENOMEM, "out of memory at the start of training");
    CN_TRY(open_files(t));
    count_steps(t);
    CN_TRY(cn_trainer_plan(t));
    t->plan.steps = t->total_steps;
    t->plan.buckets = t->buckets->list;
    t->plan.n_buckets = t->buckets->n;
    return CN_OK;
}

static void tell_plan(const cn_trainer *t)
{
    if (t->callbacks.planned) t->callbacks.planned(t->callbacks.user, &t->plan);
}

static bool wants_tensorboard(const cn_train_options *o)
{
    return o->report_to && strcmp(o->report_to, "tensorboard") == 0;
}

static cn_status try_dir(cn_trainer *t)
{
    size_t base = 0;
    if (cn_ranks_rank(t->ranks) > 0) return CN_OK;
    cn_checkpoint c = cn_trainer_checkpoint(t);
    if (t->o.unlock && strcmp(t->o.unlock, "none") != 0)
        CN_TRY(cn_base_save_bytes(t->ctx, t->base, &base));
    CN_TRY(lock_dir(t));
    CN_TRY(cn_checkpoint_try_dir(t->ctx, t->o.output_dir,
                                 cn_checkpoint_bytes(&c) + 2 * base + t->plan.optimizer_bytes));
    /* "latest" looked for the newest itself, and named what it passed over */
    const bool latest = t->resume_path[0] && strcmp(t->o.resume_from_checkpoint, "latest") == 0;
    if (t->o.overwrite || latest) return CN_OK;
    return cn_checkpoint_refuse_occupied(t->ctx, t->o.output_dir, &t->state);
}

/* The folder becomes this run's, once nothing is left that could refuse it. */
static cn_status claim_dir(cn_trainer *t, bool anew)
{
    if (t->o.overwrite)
        CN_TRY(cn_checkpoint_clear(t->ctx, t->o.output_dir, anew ? -1 : t->state.step));
    return cn_checkpoint_claim(t->ctx, t->o.output_dir, t->state.run_id);
}

/* Everything before the first step. */
static cn_status begin(cn_trainer *t)
{
    const bool anew = !t->state.run_id[0];
    CN_TRY(load_weights(t));
    CN_TRY(cn_trainer_create_optimizer(t, NULL));
    CN_TRY(resume(t));
    if (cn_ranks_rank(t->ranks) == 0) {
        CN_TRY(claim_dir(t, anew));
        CN_TRY(cn_metrics_open(t->ctx, t->o.output_dir, t->resume_path[0] ? t->state.step : -1,
                               wants_tensorboard(&t->o), &t->metrics));
        if (t->n_held) CN_TRY(cn_trainer_create_validator(t));
    }
    return cn_trainer_start_loader(t);
}

static cn_status train(cn_trainer *t)
{
    CN_TRY(cn_ranks_agree(t->ranks, try_dir(t)));
    CN_TRY(cn_ranks_agree(t->ranks, cn_trainer_encode_data(t)));
    CN_TRY(cn_ranks_agree(t->ranks, begin(t)));
    CN_TRY(cn_trainer_loop(t));
    return save_result(t);
}

/* Faults of the data come last: memory and time are of use all the same. */
static cn_status dry_run(cn_trainer *t)
{
    const cn_status lint = cn_trainer_lint(t);
    if (lint != CN_OK && lint != CN_EFORMAT) return lint;
    char faults[1024];
    snprintf(faults, sizeof faults, "%s", cn_error(t->ctx));
    CN_TRY(cn_trainer_time_encoding(t));
    CN_TRY(load_weights(t));
    CN_TRY(cn_trainer_create_optimizer(t, NULL));
    CN_TRY(cn_trainer_time_run(t));
    cn_trainer_time_validations(t);
    tell_plan(t);
    return lint == CN_OK ? CN_OK : cn_fail(t->ctx, lint, "%s", faults);
}

static cn_status run(cn_trainer *t)
{
    CN_TRY(cn_trainer_join(t));
    CN_TRY(cn_ranks_agree(t->ranks, prepare(t)));
    if (!t->o.dry_run) {
        tell_plan(t);
        return train(t);
    }
    return dry_run(t);
}

static void trainer_close(cn_trainer *t)
{
    cn_validator_destroy(t->validator);
    cn_batcher_destroy(t->held_batcher);
    cn_metrics_close(t->metrics);
    cn_loader_destroy(t->loader);
    cn_batcher_destroy(t->mixer);
    cn_cache_destroy(t->own.cache);
    if (t->held_cache != t->cache) cn_cache_destroy(t->held_cache);
    cn_cache_destroy(t->cache);
    cn_schedule_destroy(t->schedule);
    cn_adamw_destroy(t->adamw);
    cn_free(t->turns);
    cn_sizes_destroy(&t->sizes);
    cn_params_destroy(t->vae);
    cn_text_params_destroy(t->text);
    cn_params_destroy(t->control);
    cn_params_destroy(t->unet);
    if (t->be) t->be->destroy(t->be);
    cn_buckets_destroy(t->buckets);
    cn_buckets_destroy(t->held_sizes);
    cn_prompt_list_destroy(t->prompts);
    cn_prompt_list_destroy(t->held_prompts);
    cn_buckets_destroy(t->own.sizes);
    cn_prompt_list_destroy(t->own.prompts);
    cn_dataset_close(t->own.data);
    cn_prompter_close(t->prompter);
    if (t->held_data != &t->held_view) cn_dataset_close(t->held_data);
    cn_dataset_close(t->data);
    cn_control_close(t->start);
    cn_base_close(t->base);
    cn_dir_lock_drop(t->lock);
    cn_ctx_destroy(t->save_ctx);
    cn_free(t);
}

cn_status cn_train(cn_ctx *ctx, const cn_train_options *options,
                   const cn_train_callbacks *callbacks, cn_train_result *out)
{
    const double start = cn_now_s();
    cn_trainer *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    t->ctx = ctx;
    t->o = *options;
    if (callbacks) t->callbacks = *callbacks;
    t->state.learned_at_step = -1;
    cn_status s = run(t);
    t->result.steps = t->state.step;
    t->result.seconds = cn_now_s() - start;
    t->result.silent = cn_ranks_rank(t->ranks) > 0;
    t->result.final_loss = cn_trainer_mean_loss(t);
    t->result.learned_at_step = t->state.learned_at_step;
    t->result.peak_resident_bytes = cn_peak_resident_bytes();
    cn_trainer_part(t, s);
    if (out) *out = t->result;
    trainer_close(t);
    return s;
}
