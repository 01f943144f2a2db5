/* SPDX-License-Identifier: Apache-2.0 */
/* run_setup.c - see run_setup.h. */
#include "train/run_setup.h"

#include "device/device.h"
#include "diffuse/sampling.h"

#include <string.h>

/* Of a run that its minutes alone end; a checkpoint's state allows no more. */
static const int64_t MOST_STEPS = INT64_C(1000000000000);

/* --- files ------------------------------------------------------------------------------------ */

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
    if (b->unet.guidance_dim)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: its UNet takes the guidance scale as an input, as models distilled to "
                       "few steps; train on the model that it was distilled from",
                       b->path);
    CN_TRY(cn_base_check_context(ctx, b));
    if (o->resolution % factor)
        return cn_fail(ctx, CN_EINVAL, "--resolution %lld: a multiple of %lld is expected",
                       (long long)o->resolution, (long long)factor);
    if (o->enable_bucket && o->bucket_reso_steps % factor)
        return cn_fail(ctx, CN_EINVAL, "--bucket-reso-steps %lld: a multiple of %lld is expected",
                       (long long)o->bucket_reso_steps, (long long)factor);
    return CN_OK;
}

/* A device multiplies F16. On the processor it takes no less memory than bfloat16, which needs no
 * loss scale. */
static void choose_fp16(cn_run_setup *r)
{
    const char *asked = r->o.mixed_precision;
    if (!asked || strcmp(asked, "fp16") != 0) return;
    if ((r->halves = r->be->multiply_in(r->be, CN_F16))) return;
    const bool has_bf16 = r->be->computes(r->be, CN_BF16);
    r->o.mixed_precision = has_bf16 ? "bf16" : "no";
    cn_log(r->ctx, CN_LOG_WARN, "--mixed-precision fp16: %s",
           has_bf16 ? "bf16 is used instead"
                    : "F32 is used instead; this processor has no bfloat16 products");
}

static void choose_optimizer(cn_run_setup *r)
{
    cn_train_options *o = &r->o;
    r->muon = cn_train_by_muon(o);
    if (o->optimizer_type && strcmp(o->optimizer_type, "AdamW8bit") == 0) o->use_8bit_adam = true;
}

cn_status cn_run_setup_open(cn_run_setup *r)
{
    if (!(r->save_ctx = cn_ctx_create(cn_threads(r->ctx))))
        return cn_fail(r->ctx, CN_ENOMEM, "out of memory at the start of training");
    choose_optimizer(r);
    CN_TRY(cn_lr_kind_find(r->ctx, r->o.lr_scheduler, &r->lr_kind));
    CN_TRY(cn_base_open_with(r->ctx, r->o.model, r->o.vae, &r->base));
    CN_TRY(check_base(r->ctx, r->base, &r->o));
    CN_TRY(cn_trained_open(r->ctx, r->base, &r->o, &r->net));
    CN_TRY(cn_backend_create_for_rank(r->ctx, r->o.device, cn_ranks_rank(r->ranks), &r->be));
    choose_fp16(r);
    return CN_OK;
}

/* --- what is learned -------------------------------------------------------------------------- */

cn_status cn_run_setup_settle(cn_run_setup *r)
{
    CN_TRY(cn_comparison_choose(r->ctx, r->be, &r->o, &r->comparison));
    if (r->o.prediction) CN_TRY(cn_base_set_prediction(r->ctx, r->base, r->o.prediction));
    CN_TRY(cn_base_settle_prediction(r->ctx, r->base, r->be));
    if (r->o.rescale_betas_zero_snr) r->base->schedule.zero_snr = true;
    CN_TRY(cn_schedule_create(r->ctx, &r->base->schedule, &r->schedule));
    return cn_objective_find(r->ctx, &r->o, r->schedule, &r->objective);
}

cn_lr cn_run_setup_lr(const cn_run_setup *r, int64_t end)
{
    const cn_train_options *o = &r->o;
    return (cn_lr){.kind = r->lr_kind,
                   .base = o->learning_rate,
                   .warmup_steps = cn_lr_warmup(o->lr_warmup_steps, end),
                   .decay_steps = cn_lr_decay(o->lr_decay_steps, end),
                   .total_steps = end,
                   .cycles = o->lr_num_cycles,
                   .power = o->lr_power};
}

void cn_run_setup_count_steps(cn_run_setup *r, int64_t epoch_samples)
{
    cn_train_options *o = &r->o;
    const int64_t images = cn_run_step_samples(r);
    const int64_t per_epoch = (epoch_samples + images - 1) / images;
    if (o->scale_lr) {
        o->learning_rate *= (double)images;
        cn_log(r->ctx, CN_LOG_INFO, "--scale-lr: learning rate %.3g for %lld samples a step",
               o->learning_rate, (long long)images);
    }
    if (o->max_train_steps)
        r->total_steps = o->max_train_steps;
    else if (o->num_train_epochs || o->max_train_minutes == 0)
        r->total_steps = per_epoch * CN_MAX(o->num_train_epochs, 1);
    else
        r->total_steps = MOST_STEPS;
    const cn_lr lr = cn_run_setup_lr(r, r->total_steps);
    const double highest = cn_lr_highest(&lr);
    if (highest < o->learning_rate)
        cn_log(r->ctx, CN_LOG_WARN,
               "--lr-warmup-steps %g: the run has %lld steps; its learning rate reaches %.3g at "
               "most, not --learning-rate %.3g",
               o->lr_warmup_steps, (long long)r->total_steps, highest, o->learning_rate);
}

void cn_run_setup_close(cn_run_setup *r)
{
    cn_schedule_destroy(r->schedule);
    cn_trained_close(&r->net);
    cn_base_close(r->base);
    if (r->be) r->be->destroy(r->be);
    cn_ctx_destroy(r->save_ctx);
}

/* --- progress of other stages ----------------------------------------------------------------- */

void cn_run_report_stage(const cn_run_setup *r, const char *stage, int64_t done, int64_t total)
{
    if (r->callbacks.progress)
        r->callbacks.progress(r->callbacks.user,
                              &(cn_train_progress){.stage = stage, .done = done, .total = total});
}

void cn_run_on_stage(void *user, const char *stage, int64_t done, int64_t total)
{
    cn_run_report_stage(user, stage, done, total);
}

void *cn_run_stage_user(const cn_run_setup *r)
{
    return (void *)(uintptr_t)r; /* which cn_run_on_stage only reads */
}
