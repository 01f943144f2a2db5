/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - the training loop: forward, backward, step, and what happens between steps. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

cn_checkpoint cn_trainer_checkpoint(cn_trainer *t)
{
    return (cn_checkpoint){.ctx = t->save_ctx,
                           .be = t->be,
                           .output_dir = t->o.output_dir,
                           .config = &t->config,
                           .control = t->control,
                           .base = t->base,
                           .unet = t->phase.unlock == CN_UNLOCK_NONE ? NULL : t->unet,
                           .tokenizer_dir = t->o.tokenizer,
                           .adamw = t->adamw,
                           .ranks = t->ranks};
}

static double mean(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return n ? sum / (double)n : 0;
}

double cn_trainer_mean_loss(const cn_trainer *t)
{
    return mean(t->recent_loss, CN_MIN(t->n_recent, (int64_t)CN_COUNT(t->recent_loss)));
}

static void remember(cn_trainer *t, double loss, double seconds)
{
    const int64_t at = t->n_recent++ % (int64_t)CN_COUNT(t->recent_loss);
    t->recent_loss[at] = loss;
    t->recent_seconds[at] = seconds;
    t->recent_wait[at] = t->waited;
    t->recent_encode[at] = t->encoded;
}

/* Puts the next pass into the step of its size. */
static cn_status feed(cn_trainer *t)
{
    cn_pass *pass = NULL;
    double waited = 0;
    CN_TRY(cn_loader_next(t->loader, &pass, &waited));
    const double start = cn_now_s();
    cn_status s = cn_trainer_use_size(t, pass->bucket);
    if (s == CN_OK) s = cn_trainer_encode_pass(t, pass);
    if (cn_trainer_encodes(t)) t->encoded += cn_now_s() - start;
    if (s == CN_OK) cn_stepgraph_put_pass(t->step, pass);
    cn_loader_done(t->loader);
    t->waited += waited;
    return s;
}

/* One forward and backward pass over the next train_batch_size samples of every rank. */
static cn_status run_pass(cn_trainer *t, bool last, double *loss)
{
    t->last_pass = last;
    t->next_ready = 0;
    CN_TRY(feed(t));
    CN_TRY(cn_plan_run(t->step->plan));
    *loss = *(const float *)cn_plan_data(t->step->plan, t->step->loss);
    t->state.samples += cn_trainer_unit(t);
    if (isfinite(*loss) || t->ranks) return CN_OK; /* ranks stop together, by the gradient's norm */
    return cn_fail(t->ctx, CN_EINVAL,
                   "training diverged: the loss is not finite at step %lld; a smaller "
                   "--learning-rate may help",
                   (long long)(t->state.step + 1));
}

/* The passes of a step that aren't done yet. One that is cut short leaves what those before it
 * summed. */
static cn_status run_passes(cn_trainer *t, double *loss)
{
    const int64_t passes = t->o.gradient_accumulation_steps;
    cn_train_state *state = &t->state;
    for (int64_t k = state->passes; k < passes; k++) {
        const int64_t samples = state->samples;
        double part = 0;
        cn_status s = run_pass(t, k + 1 == passes, &part);
        if (s == CN_OK && k + 1 < passes) s = cn_adamw_accumulate(t->adamw, t->grads);
        if (s != CN_OK) {
            state->samples = samples;
            return s;
        }
        state->loss_sum += part;
        if (k + 1 < passes) state->passes = k + 1;
    }
    *loss = state->loss_sum / (double)passes;
    return CN_OK;
}

/* The mean of the ranks' losses. With it they tell each other who was asked to stop: whoever starts
 * them need not hand a signal on to all. */
static cn_status sum_over_ranks(cn_trainer *t, double *loss)
{
    const int rank = cn_ranks_rank(t->ranks);
    const bool requested = t->ranks && cn_cancel_requested(t->ctx);
    double sums[] = {*loss, requested, requested ? rank : 0};
    CN_TRY(cn_ranks_sum(t->ranks, sums, CN_COUNT(sums)));
    *loss = sums[0] / cn_ranks_count(t->ranks);
    t->stop_requests = (int)sums[1];
    t->stop_rank = (int)sums[2];
    return CN_OK;
}

static cn_status run_step(cn_trainer *t, double *loss, double *norm, double *lr)
{
    t->waited = t->encoded = 0;
    *lr = cn_lr_at(&t->lr, t->state.step);
    CN_TRY(run_passes(t, loss));
    t->last_pass = false;
    CN_TRY(sum_over_ranks(t, loss));
    CN_TRY(cn_adamw_run(t->adamw, t->grads, *lr, t->o.max_grad_norm, norm));
    t->state.passes = 0;
    t->state.loss_sum = 0;
    t->state.step++;
    return CN_OK;
}

static void fill_noise(cn_plan *plan, const cn_node *x, cn_rng *rng)
{
    if (x) cn_rng_normal(rng, cn_plan_data(plan, x), cn_node_elements(x));
}

static void fill_inputs(cn_trainer *t, cn_rng *rng)
{
    const cn_stepgraph *g = t->step;
    fill_noise(g->plan, g->x, rng);
    fill_noise(g->plan, g->context, rng);
    fill_noise(g->plan, g->condition, rng);
    fill_noise(g->plan, g->target, rng);
    for (int64_t i = 0; i < g->o.batch; i++) ((float *)cn_plan_data(g->plan, g->t))[i] = 500;
    for (int64_t i = 0; g->per && i < 2 * g->o.batch; i++)
        ((float *)cn_plan_data(g->plan, g->per))[i] = 1;
}

/* Runs the size's encoders as often as a pass does; the step's inputs are made anew then. */
static cn_status encode_noise(cn_trainer *t, int bucket, cn_rng *rng)
{
    const int64_t batch = t->o.train_batch_size;
    const cn_encoder *e = t->vae ? &t->sizes.encoders[bucket] : NULL, *text = &t->sizes.text;
    for (int64_t at = 0; e && at < batch; at += e->batch) {
        fill_noise(e->plan, e->in, rng);
        CN_TRY(cn_plan_run(e->plan));
    }
    for (int64_t at = 0; t->text[0] && at < batch; at += text->batch) {
        for (int k = 0; k < CN_MAX_TEXT_ENCODERS && text->ids[k]; k++)
            memset(cn_plan_data(text->plan, text->ids[k]), 0,
                   (size_t)cn_node_elements(text->ids[k]) * sizeof(int32_t));
        CN_TRY(cn_plan_run(text->plan));
    }
    fill_inputs(t, rng);
    return CN_OK;
}

static cn_status step_on_noise(cn_trainer *t, int bucket)
{
    const int64_t passes = t->o.gradient_accumulation_steps;
    cn_rng rng;
    double norm;
    cn_rng_seed(&rng, t->o.seed);
    fill_inputs(t, &rng);
    for (int64_t k = 0; k < passes; k++) {
        if (cn_cancelled(t->ctx)) return cn_fail(t->ctx, CN_ECANCELLED, "interrupted");
        if (cn_trainer_encodes(t)) CN_TRY(encode_noise(t, bucket, &rng));
        CN_TRY(cn_plan_run(t->step->plan));
        if (k + 1 < passes) CN_TRY(cn_adamw_accumulate(t->adamw, t->grads));
    }
    return cn_adamw_run(t->adamw, t->grads, 0, t->o.max_grad_norm, &norm);
}

/* The size of most passes is measured; the mean follows from all sizes' operations. */
static cn_status time_step(cn_trainer *t, double *seconds)
{
    enum { RUNS = 2 }; /* behind a first one, which touches the memory */
    int bucket = 0;
    double mean_flops = 0;
    for (int k = 0; k < t->sizes.n; k++) {
        mean_flops += cn_sizes_share(t, k) * cn_sizes_flops(&t->sizes, k);
        if (cn_sizes_share(t, k) > cn_sizes_share(t, bucket)) bucket = k;
    }
    CN_TRY(cn_trainer_use_size(t, bucket));
    for (int i = 0; i <= RUNS; i++) {
        const double start = cn_now_s();
        CN_TRY(step_on_noise(t, bucket));
        const double taken = cn_now_s() - start;
        *seconds = i <= 1 ? taken : fmin(*seconds, taken);
    }
    *seconds *= mean_flops / cn_sizes_flops(&t->sizes, bucket);
    return CN_OK;
}

cn_status cn_trainer_time_run(cn_trainer *t)
{
    cn_phase_start list[CN_MAX_PHASES];
    const int n = cn_phase_list(&t->o, t->state.step, t->total_steps, list);
    for (int i = 0; i < n; i++) {
        double seconds = 0;
        const int64_t end = i + 1 < n ? list[i + 1].step : t->total_steps;
        if (!cn_phase_same(list[i].phase, t->phase))
            CN_TRY(cn_trainer_switch_phase(t, list[i].phase));
        CN_TRY(time_step(t, &seconds));
        if (i == 0) t->plan.step_seconds = seconds;
        t->plan.run_seconds += seconds * (double)(end - list[i].step);
    }
    return CN_OK;
}

static cn_status report_step(cn_trainer *t, double loss, double norm, double lr, double seconds)
{
    const int64_t images = cn_trainer_images(t);
    cn_metrics *m = t->metrics;
    if (!m) return CN_OK; /* rank 0 tells */
    cn_metrics_begin(m);
    cn_metrics_int(m, "step", t->state.step);
    cn_metrics_int(m, "epoch", (t->state.samples - 1) / t->state.items);
    cn_metrics_number(m, "loss", loss);
    cn_metrics_number(m, "lr", lr);
    if (t->o.unlock_learning_rate > 0 && t->phase.unlock != CN_UNLOCK_NONE)
        cn_metrics_number(m, "unlock_lr", lr * t->o.unlock_learning_rate / t->o.learning_rate);
    cn_metrics_number(m, "grad_norm", norm);
    cn_metrics_number(m, "seconds", seconds);
    cn_metrics_number(m, "data_wait_seconds", t->waited);
    if (cn_trainer_encodes(t)) cn_metrics_number(m, "encode_seconds", t->encoded);
    cn_metrics_number(m, "images_per_s", (double)images / fmax(seconds, 1e-9));
    cn_metrics_int(m, "resident_bytes", (int64_t)cn_resident_bytes());
    CN_TRY(cn_metrics_end(m));
    if (!t->callbacks.progress) return CN_OK;
    const int64_t n = CN_MIN(t->n_recent, (int64_t)CN_COUNT(t->recent_seconds));
    const double step_seconds = mean(t->recent_seconds, n);
    t->callbacks.progress(
        t->callbacks.user,
        &(cn_train_progress){.stage = "train",
                             .done = t->state.step,
                             .total = t->total_steps,
                             .loss = loss,
                             .loss_mean = cn_trainer_mean_loss(t),
                             .lr = lr,
                             .grad_norm = norm,
                             .step_seconds = step_seconds,
                             .data_wait_seconds = mean(t->recent_wait, n),
                             .encode_seconds = mean(t->recent_encode, n),
                             .images_per_second = (double)images / fmax(step_seconds, 1e-9),
                             .eta_seconds = step_seconds * (double)(t->total_steps - t->state.step),
                             .resident_bytes = cn_resident_bytes()});
    return CN_OK;
}

void cn_trainer_report_stage(const cn_trainer *t, const char *stage, int64_t done, int64_t total)
{
    if (t->callbacks.progress)
        t->callbacks.progress(t->callbacks.user,
                              &(cn_train_progress){.stage = stage, .done = done, .total = total});
}

cn_status cn_trainer_saved(cn_trainer *t, cn_status status, const char *path)
{
    /* of a rank that was lost, or of another rank, the run's own context tells */
    if (status != CN_OK && !cn_error(t->save_ctx)[0]) return status;
    if (status != CN_OK) return cn_fail(t->ctx, status, "%s", cn_error(t->save_ctx));
    if (t->callbacks.saved) t->callbacks.saved(t->callbacks.user, path);
    return CN_OK;
}

static cn_status save_checkpoint(cn_trainer *t)
{
    char path[4096];
    const cn_checkpoint c = cn_trainer_checkpoint(t);
    cn_plan_drop(t->step->plan);
    t->state.phase = t->phase;
    const cn_status s = cn_checkpoint_save(&c, &t->state, t->o.checkpoints_total_limit, path);
    if (path[0]) t->saved_step = t->state.step;
    return cn_trainer_saved(t, s, path);
}

static bool due(int64_t every, int64_t step)
{
    return every > 0 && step > 0 && step % every == 0;
}

/* Saves what is there and says how to go on. */
static cn_status stop(cn_trainer *t)
{
    const cn_train_state *state = &t->state;
    char part[64] = "", who[CN_RANKS_NAME_BYTES + 8] = "";
    if (!state->step && !state->passes)
        return cn_fail(t->ctx, CN_ECANCELLED, "stopped before the first step; nothing to save");
    if (state->passes || !due(t->o.checkpointing_steps, state->step)) CN_TRY(save_checkpoint(t));
    if (state->passes)
        snprintf(part, sizeof part, " and %lld of %lld passes of the next",
                 (long long)state->passes, (long long)t->o.gradient_accumulation_steps);
    if (t->stop_requests == 1) {
        memcpy(who, " by ", 5);
        cn_ranks_describe(t->ranks, t->stop_rank, who + 4);
    }
    return cn_fail(t->ctx, CN_ECANCELLED,
                   "stopped%s after step %lld%s, saved as %s/checkpoint-%lld; "
                   "--resume-from-checkpoint latest goes on from there",
                   who, (long long)state->step, part, t->o.output_dir, (long long)state->step);
}

/* Rank 0 measures and draws; with a mean of the weights the others have a part in exchanging the
 * two. It stops at once when asked to meanwhile, since the others only wait for it. */
static cn_status validate(cn_trainer *t)
{
    cn_status s = CN_OK;
    if (t->validator) {
        cn_cancel_hold(t->ctx, false);
        s = cn_trainer_validate(t);
        cn_cancel_hold(t->ctx, t->ranks != NULL);
    } else {
        s = cn_adamw_swap_ema(t->adamw);
        if (s == CN_OK) s = cn_adamw_swap_ema(t->adamw);
    }
    return cn_ranks_agree(t->ranks, s);
}

/* The checkpoint comes before the validation: a run killed while drawing loses nothing. */
static cn_status after_step(cn_trainer *t)
{
    const int64_t step = t->state.step;
    if (due(t->o.checkpointing_steps, step)) CN_TRY(save_checkpoint(t));
    if (t->n_held && (due(t->o.validation_steps, step) || step == t->total_steps))
        return validate(t);
    return CN_OK;
}

static cn_status loop(cn_trainer *t)
{
    while (t->state.step < t->total_steps) {
        double loss = 0, norm = 0, lr = 0;
        const cn_phase phase = cn_phase_at(&t->o, t->state.step);
        if (t->stop_requests || cn_cancelled(t->ctx)) return stop(t);
        if (!cn_phase_same(phase, t->phase)) CN_TRY(cn_trainer_switch_phase(t, phase));
        const double start = cn_now_s();
        cn_status s = run_step(t, &loss, &norm, &lr);
        if (s == CN_ECANCELLED) return stop(t);
        if (s != CN_OK) return s;
        const double seconds = cn_now_s() - start;
        remember(t, loss, seconds);
        CN_TRY(report_step(t, loss, norm, lr, seconds));
        s = after_step(t);
        if (s == CN_ECANCELLED) return stop(t);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

/* Inside a step and a save ranks don't look whether they are asked to stop: they end together. */
cn_status cn_trainer_loop(cn_trainer *t)
{
    cn_cancel_hold(t->ctx, t->ranks != NULL);
    const cn_status s = loop(t);
    cn_cancel_hold(t->ctx, false);
    return s;
}
