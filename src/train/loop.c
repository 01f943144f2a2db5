/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - the training loop: forward, backward, step, and what happens between steps. */
#include "train/run_progress.h"

#include <math.h>
#include <string.h>

cn_checkpoint cn_run_checkpoint(const cn_run_setup *r, const cn_run_nets *n)
{
    return (cn_checkpoint){.ctx = r->save_ctx,
                           .be = r->be,
                           .output_dir = r->o.output_dir,
                           .net = &r->net,
                           .control = n->control,
                           .base = r->base,
                           .unet = n->phase.unlock == CN_UNLOCK_NONE ? NULL : n->unet,
                           .tokenizer_dir = r->o.tokenizer,
                           .adamw = n->adamw,
                           .ranks = r->ranks};
}

/* --- what the last steps came to -------------------------------------------------------------- */

static void remember(cn_run_progress *p, const cn_step_result *step)
{
    p->recent[p->n_recent++ % (int64_t)CN_COUNT(p->recent)] = *step;
}

/* The mean of each of the remembered steps' numbers. */
static cn_step_result recent_mean(const cn_run_progress *p)
{
    const int64_t n = CN_MIN(p->n_recent, (int64_t)CN_COUNT(p->recent));
    cn_step_result mean = {0};
    for (int64_t i = 0; i < n; i++) {
        mean.loss += p->recent[i].loss;
        mean.seconds += p->recent[i].seconds;
        mean.waited += p->recent[i].waited;
        mean.encoded += p->recent[i].encoded;
    }
    const double count = n ? (double)n : 1;
    mean.loss /= count;
    mean.seconds /= count;
    mean.waited /= count;
    mean.encoded /= count;
    return mean;
}

double cn_run_mean_loss(const cn_run_progress *p)
{
    return recent_mean(p).loss;
}

/* --- a step ----------------------------------------------------------------------------------- */

/* Puts the next pass into the step of its size. */
static cn_status feed(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                      cn_step_result *step)
{
    cn_pass *pass = NULL;
    double waited = 0;
    CN_TRY(cn_loader_next(d->loader, &pass, &waited));
    const double start = cn_now_s();
    cn_status s = cn_run_nets_use_size(r, pass->bucket, n);
    if (s == CN_OK) s = cn_run_nets_encode_pass(d, n, pass);
    if (cn_train_encodes(&r->o)) step->encoded += cn_now_s() - start;
    if (s == CN_OK) cn_stepgraph_put_pass(n->step, pass);
    cn_loader_done(d->loader);
    step->waited += waited;
    return s;
}

/* One forward and backward pass over the next train_batch_size samples of every rank. */
static cn_status run_pass(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n, double scale,
                          cn_step_result *step, double *loss)
{
    n->order.next = 0;
    CN_TRY(feed(r, d, n, step));
    if (n->step->scale) *(float *)cn_plan_data(n->step->plan, n->step->scale) = (float)scale;
    CN_TRY(cn_plan_run(n->step->plan));
    *loss = *(const float *)cn_plan_data(n->step->plan, n->step->loss);
    return CN_OK;
}

static cn_status check_loss(const cn_run_setup *r, int64_t step, double loss)
{
    if (isfinite(loss) || r->ranks) return CN_OK; /* ranks stop together, by the gradient's norm */
    return cn_fail(r->ctx, CN_EINVAL,
                   "training diverged: the loss is not finite at step %lld; a smaller "
                   "--learning-rate may help",
                   (long long)step);
}

/* The passes of a step that aren't done yet. One that is cut short leaves what those before it
 * summed. */
static cn_status run_passes(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                            cn_train_state *state, cn_step_result *step)
{
    const int64_t passes = r->o.gradient_accumulation_steps;
    for (int64_t k = state->passes; k < passes; k++) {
        double loss = 0;
        n->order.last_pass = k + 1 == passes;
        cn_status s = run_pass(r, d, n, state->scale.value, step, &loss);
        if (s == CN_OK) s = check_loss(r, state->step + 1, loss);
        if (s == CN_OK && k + 1 < passes) s = cn_adamw_accumulate(n->adamw, n->grads);
        if (s != CN_OK) return s;
        state->samples += cn_run_pass_samples(r);
        state->loss_sum += loss;
        if (k + 1 < passes) state->passes = k + 1;
    }
    n->order.last_pass = false;
    step->loss = state->loss_sum / (double)passes;
    return CN_OK;
}

/* The run's last step by this process's clock, while it takes the step behind state.step: that one
 * where the minutes are over, else as many as they allow at the pace so far. */
static int64_t end_by_clock(const cn_run_setup *r, const cn_run_progress *p)
{
    const int64_t this_step = p->state.step + 1;
    if (r->o.max_train_minutes == 0) return r->total_steps;
    const double now = cn_now_s(), left = 60 * r->o.max_train_minutes - (now - r->begun_s);
    if (left <= 0) return this_step;
    const double pace = (now - p->loop_begun_s) / (double)(this_step - p->first_step);
    const double more = left / fmax(pace, 1e-9);
    return more < (double)(r->total_steps - this_step) ? this_step + (int64_t)more : r->total_steps;
}

/* The mean of the ranks' losses. With it they tell each other who was asked to stop: whoever starts
 * them need not hand a signal on to all; and rank 0 when the run will end. */
static cn_status sum_over_ranks(const cn_run_setup *r, cn_run_progress *p, double *loss)
{
    const int rank = cn_ranks_rank(r->ranks);
    const bool requested = r->ranks && cn_cancel_requested(r->ctx);
    const double end = rank ? 0 : (double)end_by_clock(r, p);
    double sums[] = {*loss, requested, requested ? rank : 0, end};
    CN_TRY(cn_ranks_sum(r->ranks, sums, CN_COUNT(sums)));
    *loss = sums[0] / cn_ranks_count(r->ranks);
    p->stop_requests = (int)sums[1];
    p->stop_rank = (int)sums[2];
    p->end_step = (int64_t)sums[3];
    return CN_OK;
}

/* --- the loss scale --------------------------------------------------------------------------- */

static void begin_scale(const cn_run_setup *r, cn_adamw *adamw, cn_loss_scale *scale)
{
    if (!r->halves) return;
    cn_loss_scale_begin(scale);
    cn_adamw_set_loss_scale(adamw, scale->value);
}

/* What a step's status is to the run: an infinite gradient is no failure, the step isn't taken. */
static cn_status follow_scale(const cn_run_setup *r, cn_status s, cn_step_result *step,
                              cn_adamw *adamw, cn_loss_scale *scale)
{
    step->skipped = r->halves && s == CN_EINVAL && !isfinite(step->grad_norm);
    if (!r->halves || (s != CN_OK && !step->skipped)) return s;
    if (step->skipped) cn_adamw_skip(adamw);
    return cn_loss_scale_follow(scale, step->skipped) ? CN_OK : s;
}

static cn_status run_step(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                          cn_run_progress *p, cn_step_result *step)
{
    const double start = cn_now_s();
    const cn_lr lr = cn_run_setup_lr(r, p->end_step);
    *step = (cn_step_result){.lr = cn_lr_at(&lr, p->state.step)};
    begin_scale(r, n->adamw, &p->state.scale);
    CN_TRY(run_passes(r, d, n, &p->state, step));
    CN_TRY(sum_over_ranks(r, p, &step->loss));
    step->loss_scale = p->state.scale.value;
    const cn_status s =
        cn_adamw_run(n->adamw, n->grads, step->lr, r->o.max_grad_norm, &step->grad_norm);
    CN_TRY(follow_scale(r, s, step, n->adamw, &p->state.scale));
    p->state.passes = 0;
    p->state.loss_sum = 0;
    p->state.step++;
    step->seconds = cn_now_s() - start;
    return CN_OK;
}

/* --- telling of it ---------------------------------------------------------------------------- */

static cn_status write_metrics(const cn_run_setup *r, cn_phase phase, const cn_run_progress *p,
                               const cn_step_result *step)
{
    cn_metrics *m = p->metrics;
    const cn_train_options *o = &r->o;
    cn_metrics_begin(m);
    cn_metrics_int(m, "step", p->state.step);
    cn_metrics_int(m, "epoch", (p->state.samples - 1) / p->state.items);
    cn_metrics_number(m, "loss", step->loss);
    cn_metrics_number(m, "lr", step->lr);
    if (o->unlock_learning_rate > 0 && phase.unlock != CN_UNLOCK_NONE)
        cn_metrics_number(m, "unlock_lr", step->lr * o->unlock_learning_rate / o->learning_rate);
    if (!step->skipped) cn_metrics_number(m, "grad_norm", step->grad_norm);
    if (r->halves) {
        cn_metrics_number(m, "loss_scale", step->loss_scale);
        cn_metrics_int(m, "skipped_steps", p->state.scale.skipped);
    }
    cn_metrics_number(m, "seconds", step->seconds);
    cn_metrics_number(m, "data_wait_seconds", step->waited);
    if (cn_train_encodes(o)) cn_metrics_number(m, "encode_seconds", step->encoded);
    cn_metrics_number(m, "images_per_s",
                      (double)cn_run_step_samples(r) / fmax(step->seconds, 1e-9));
    cn_metrics_int(m, "resident_bytes", (int64_t)cn_resident_bytes());
    if (!r->be->addressable) {
        cn_backend_memory memory;
        r->be->memory(r->be, &memory);
        cn_metrics_int(m, "device_bytes", (int64_t)memory.taken);
    }
    return cn_metrics_end(m);
}

static void tell_step(const cn_run_setup *r, const cn_run_progress *p, const cn_step_result *step)
{
    const cn_step_result mean = recent_mean(p);
    if (!r->callbacks.progress) return;
    r->callbacks.progress(
        r->callbacks.user,
        &(cn_train_progress){
            .stage = "train",
            .done = p->state.step,
            .total = p->end_step,
            .loss = step->loss,
            .loss_mean = mean.loss,
            .lr = step->lr,
            .grad_norm = step->grad_norm,
            .step_seconds = mean.seconds,
            .data_wait_seconds = mean.waited,
            .encode_seconds = mean.encoded,
            .images_per_second = (double)cn_run_step_samples(r) / fmax(mean.seconds, 1e-9),
            .eta_seconds = mean.seconds * (double)(p->end_step - p->state.step),
            .resident_bytes = cn_resident_bytes()});
}

static cn_status report_step(const cn_run_setup *r, cn_phase phase, const cn_run_progress *p,
                             const cn_step_result *step)
{
    if (!p->metrics) return CN_OK; /* rank 0 tells */
    CN_TRY(write_metrics(r, phase, p, step));
    tell_step(r, p, step);
    return CN_OK;
}

static void report_phase(cn_ctx *ctx, int64_t step, cn_phase before, cn_phase now)
{
    if (before.only_mid && !now.only_mid)
        cn_log(ctx, CN_LOG_INFO, "step %lld: the decoder's links join", (long long)step);
    if (before.unlock != now.unlock)
        cn_log(ctx, CN_LOG_INFO, "step %lld: the base is unlocked (%s)", (long long)step,
               cn_unlock_word(now.unlock));
}

/* --- between steps ---------------------------------------------------------------------------- */

cn_status cn_run_saved(const cn_run_setup *r, cn_status status, const char *path)
{
    /* of a rank that was lost, or of another rank, the run's own context tells */
    if (status != CN_OK && !cn_error(r->save_ctx)[0]) return status;
    if (status != CN_OK) return cn_fail(r->ctx, status, "%s", cn_error(r->save_ctx));
    if (r->callbacks.saved) r->callbacks.saved(r->callbacks.user, path);
    return CN_OK;
}

static cn_status save_checkpoint(const cn_run_setup *r, cn_run_nets *n, cn_run_progress *p)
{
    char path[CN_PATH_BYTES];
    const cn_checkpoint c = cn_run_checkpoint(r, n);
    cn_plan_drop(n->step->plan);
    p->state.phase = n->phase;
    const cn_status s = cn_checkpoint_save(&c, &p->state, r->o.checkpoints_total_limit, path);
    if (path[0]) p->saved_step = p->state.step;
    return cn_run_saved(r, s, path);
}

static bool due(int64_t every, int64_t step)
{
    return every > 0 && step > 0 && step % every == 0;
}

/* Saves what is there and says how to go on. */
static cn_status stop(const cn_run_setup *r, cn_run_nets *n, cn_run_progress *p)
{
    const cn_train_state *state = &p->state;
    char part[64] = "", who[CN_RANKS_NAME_BYTES + 8] = "";
    if (!state->step && !state->passes)
        return cn_fail(r->ctx, CN_ECANCELLED, "stopped before the first step; nothing to save");
    if (state->passes || !due(r->o.checkpointing_steps, state->step))
        CN_TRY(save_checkpoint(r, n, p));
    if (state->passes)
        snprintf(part, sizeof part, " and %lld of %lld passes of the next",
                 (long long)state->passes, (long long)r->o.gradient_accumulation_steps);
    if (p->stop_requests == 1) {
        memcpy(who, " by ", 5);
        cn_ranks_describe(r->ranks, p->stop_rank, who + 4);
    }
    return cn_fail(r->ctx, CN_ECANCELLED,
                   "stopped%s after step %lld%s, saved as %s/checkpoint-%lld; "
                   "--resume-from-checkpoint latest goes on from there",
                   who, (long long)state->step, part, r->o.output_dir, (long long)state->step);
}

/* Rank 0 measures and draws; with a mean of the weights the others have a part in exchanging the
 * two. It stops at once when asked to meanwhile, since the others only wait for it. */
static cn_status validate(const cn_run_setup *r, cn_adamw *adamw, cn_run_progress *p)
{
    cn_status s = CN_OK;
    if (p->held_out) {
        cn_cancel_hold(r->ctx, false);
        s = cn_held_out_validate(p->held_out, p->end_step, &p->state, &p->result);
        cn_cancel_hold(r->ctx, r->ranks != NULL);
    } else {
        s = cn_adamw_swap_ema(adamw);
        if (s == CN_OK) s = cn_adamw_swap_ema(adamw);
    }
    return cn_ranks_agree(r->ranks, s);
}

/* The checkpoint comes before the validation: a run killed while drawing loses nothing. */
static cn_status after_step(const cn_run_setup *r, bool validates, cn_run_nets *n,
                            cn_run_progress *p)
{
    const int64_t step = p->state.step;
    if (due(r->o.checkpointing_steps, step)) CN_TRY(save_checkpoint(r, n, p));
    if (validates && (due(r->o.validation_steps, step) || step == p->end_step))
        return validate(r, n->adamw, p);
    return CN_OK;
}

/* The step that comes next is of another phase than the last. */
static cn_status begin_phase(const cn_run_setup *r, const cn_buckets *buckets, int64_t step,
                             cn_run_nets *n)
{
    const cn_phase before = n->phase, phase = cn_phase_at(&r->o, step);
    if (cn_phase_same(phase, before)) return CN_OK;
    CN_TRY(cn_run_nets_switch_phase(r, buckets, phase, n));
    report_phase(r->ctx, step, before, phase);
    return CN_OK;
}

/* Of a step that diverged: only what training has changed can, and before this run's first step
 * nothing has. What isn't finite in a file is said instead. */
static cn_status find_nonfinite_file(const cn_run_nets *n, const cn_run_progress *p)
{
    return cn_plan_blame(n->step->plan, p->n_recent > 0);
}

static cn_status loop(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                      cn_run_progress *p)
{
    while (p->state.step < p->end_step) {
        cn_step_result step;
        if (p->stop_requests || cn_cancelled(r->ctx)) return stop(r, n, p);
        CN_TRY(begin_phase(r, d->buckets, p->state.step, n));
        cn_status s = run_step(r, d, n, p, &step);
        if (s == CN_ECANCELLED) return stop(r, n, p);
        if (s == CN_EINVAL) CN_TRY(find_nonfinite_file(n, p));
        if (s != CN_OK) return s;
        remember(p, &step);
        CN_TRY(report_step(r, n->phase, p, &step));
        s = after_step(r, d->n_held > 0, n, p);
        if (s == CN_ECANCELLED) return stop(r, n, p);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

/* Inside a step and a save ranks don't look whether they are asked to stop: they end together. */
cn_status cn_run_loop(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                      cn_run_progress *p)
{
    p->first_step = p->state.step;
    p->loop_begun_s = cn_now_s();
    p->end_step = r->total_steps;
    cn_cancel_hold(r->ctx, r->ranks != NULL);
    const cn_status s = loop(r, d, n, p);
    cn_cancel_hold(r->ctx, false);
    return s;
}
