/* SPDX-License-Identifier: Apache-2.0 */
/* train.c - cn_train: checks what it was given, sets a run up, lets it loop, saves. */
#include "train/estimate.h"
#include "train/run_progress.h"

#include <string.h>

/* The parts of a run. */
typedef struct trainer {
    cn_run_setup run;
    cn_run_data data;
    cn_run_nets nets;
    cn_run_progress progress;
} trainer;

/* --- where it begins -------------------------------------------------------------------------- */

/* Before anything in the folder is looked at: what another run writes there would change meanwhile.
 * A folder that isn't there yet is made when nothing is left to refuse. */
static cn_status lock_dir(const cn_run_setup *r, cn_run_progress *p)
{
    if (p->lock || r->o.dry_run || cn_ranks_rank(r->ranks) > 0) return CN_OK;
    return cn_checkpoint_lock(r->ctx, r->o.output_dir, &p->lock);
}

static cn_status find_checkpoint(const cn_run_setup *r, cn_run_progress *p)
{
    if (cn_dir_exists(r->o.output_dir)) CN_TRY(lock_dir(r, p));
    if (!r->o.resume_from_checkpoint) return CN_OK;
    CN_TRY(cn_checkpoint_find(r->ctx, r->o.output_dir, r->o.resume_from_checkpoint, p->resume_path,
                              &p->state));
    if (!p->resume_path[0])
        cn_log(r->ctx, CN_LOG_WARN, "%s: no checkpoint to resume from; training starts anew",
               r->o.output_dir);
    return CN_OK;
}

/* A checkpoint goes on in the phase it was made in; the loop sees what comes next. */
static cn_status choose_phase(const cn_run_setup *r, const cn_run_progress *p, cn_phase *out)
{
    const cn_phase next = cn_phase_at(&r->o, p->state.step);
    *out = p->resume_path[0] ? p->state.phase : next;
    const cn_status s = cn_phase_follows(r->ctx, *out, next);
    return s == CN_OK ? CN_OK : cn_fail_prefix(r->ctx, s, "%s", p->resume_path);
}

/* Says where this run's samples aren't the ones that the checkpoint's run would have gone on
 * with. */
static void compare_states(cn_ctx *ctx, const char *path, const cn_train_state *before,
                           const cn_train_state *now, bool buckets)
{
    if (before->seed != now->seed || before->items != now->items)
        cn_log(ctx, CN_LOG_WARN,
               "%s: was made with seed %llu and %lld pairs, this run has seed %llu and %lld; it "
               "goes on, but not as the first run would have",
               path, (unsigned long long)before->seed, (long long)before->items,
               (unsigned long long)now->seed, (long long)now->items);
    else if (buckets && before->unit != now->unit)
        cn_log(ctx, CN_LOG_WARN,
               "%s: was made with passes of %lld pairs, this run has %lld; with --enable-bucket it "
               "goes on, but not as the first run would have",
               path, (long long)before->unit, (long long)now->unit);
}

/* The state to begin with; from a checkpoint weights and optimizer too. */
static cn_status resume(const cn_run_setup *r, const cn_buckets *buckets, const cn_run_nets *n,
                        cn_run_progress *p)
{
    const int64_t unit = cn_run_pass_samples(r);
    cn_train_state *state = &p->state;
    cn_train_state now = {.seed = r->o.seed,
                          .items = cn_buckets_epoch(buckets, unit),
                          .unit = unit,
                          .learned_at_step = -1};
    if (!state->run_id[0]) CN_TRY(cn_run_id_create(r->ctx, state->run_id));
    if (!p->resume_path[0]) {
        memcpy(now.run_id, state->run_id, sizeof now.run_id);
        *state = now;
        return CN_OK;
    }
    cn_checkpoint c = cn_run_checkpoint(r, n);
    c.ctx = r->ctx;
    if (state->passes >= r->o.gradient_accumulation_steps)
        return cn_fail(r->ctx, CN_EINVAL,
                       "%s: was stopped after %lld passes of a step; "
                       "--gradient-accumulation-steps %lld or more is expected",
                       p->resume_path, (long long)state->passes, (long long)state->passes + 1);
    CN_TRY(cn_checkpoint_load(&c, p->resume_path));
    compare_states(r->ctx, p->resume_path, state, &now, buckets->rules.enabled);
    if (buckets->rules.enabled) /* passes of another size may have ended inside one of these */
        state->samples = (state->samples + unit - 1) / unit * unit;
    if (state->passes && r->halves != (state->scale.value > 0))
        return cn_fail(
            r->ctx, CN_EINVAL,
            "%s: was stopped between two passes of a step; --mixed-precision fp16 begins "
            "and ends with a step: go on once more as before",
            p->resume_path);
    if (!r->halves) state->scale = (cn_loss_scale){0};
    state->seed = now.seed;
    state->items = now.items;
    state->unit = unit;
    cn_log(r->ctx, CN_LOG_INFO, "resumed from %s after step %lld", p->resume_path,
           (long long)state->step);
    return CN_OK;
}

/* --- the folder ------------------------------------------------------------------------------- */

/* The folder is this run's alone, has room for a save, and nothing that it would overwrite. */
static cn_status try_dir(const cn_run_setup *r, const cn_run_nets *n, cn_run_progress *p)
{
    size_t base = 0;
    if (cn_ranks_rank(r->ranks) > 0) return CN_OK;
    const cn_checkpoint c = cn_run_checkpoint(r, n);
    if (r->o.unlock && strcmp(r->o.unlock, "none") != 0)
        CN_TRY(cn_base_save_bytes(r->ctx, r->base, &base));
    CN_TRY(lock_dir(r, p));
    CN_TRY(cn_checkpoint_try_dir(r->ctx, r->o.output_dir,
                                 cn_checkpoint_bytes(&c) + 2 * base + n->plan.optimizer_bytes));
    /* "latest" looked for the newest itself, and named what it passed over */
    const bool latest = p->resume_path[0] && strcmp(r->o.resume_from_checkpoint, "latest") == 0;
    if (r->o.overwrite || latest) return CN_OK;
    return cn_checkpoint_refuse_occupied(r->ctx, r->o.output_dir, &p->state);
}

/* The folder becomes this run's, once nothing is left that could refuse it. */
static cn_status claim_dir(cn_ctx *ctx, const cn_train_options *o, const cn_train_state *state,
                           bool anew)
{
    if (o->overwrite) CN_TRY(cn_checkpoint_clear(ctx, o->output_dir, anew ? -1 : state->step));
    return cn_checkpoint_claim(ctx, o->output_dir, state->run_id);
}

static cn_status save_result(const cn_run_setup *r, cn_run_nets *n)
{
    char ema[CN_PATH_BYTES];
    const cn_checkpoint c = cn_run_checkpoint(r, n);
    cn_plan_drop(n->step->plan); /* saving needs a little room of its own */
    const bool writes = cn_ranks_rank(r->ranks) == 0;
    CN_TRY(cn_format(r->ctx, ema, sizeof ema, "%s/ema", r->o.output_dir));
    cn_status s = writes ? cn_checkpoint_save_result(&c, r->o.output_dir) : CN_OK;
    CN_TRY(cn_adamw_swap_ema(n->adamw));
    if (s == CN_OK && r->o.use_ema && writes) s = cn_checkpoint_save_result(&c, ema);
    CN_TRY(cn_adamw_swap_ema(n->adamw));
    return cn_run_saved(r, cn_ranks_agree(r->ranks, s), r->o.output_dir);
}

/* --- the run ---------------------------------------------------------------------------------- */

/* Everything that can be refused without reading weights or writing a file. */
static cn_status prepare(trainer *t)
{
    cn_run_setup *r = &t->run;
    CN_TRY(cn_train_options_check(r->ctx, &r->o));
    CN_TRY(cn_run_setup_open(r));
    CN_TRY(cn_run_data_open(r, &t->data));
    CN_TRY(cn_run_setup_settle(r));
    CN_TRY(find_checkpoint(r, &t->progress));
    CN_TRY(choose_phase(r, &t->progress, &t->nets.phase));
    cn_run_setup_count_steps(r, cn_buckets_epoch(t->data.buckets, cn_run_pass_samples(r)));
    CN_TRY(cn_run_nets_plan(r, &t->data, t->progress.state.step, &t->nets));
    t->nets.plan.steps = r->total_steps;
    t->nets.plan.buckets = t->data.buckets->list;
    t->nets.plan.n_buckets = t->data.buckets->n;
    return CN_OK;
}

static void report_plan(const cn_train_callbacks *c, const cn_train_plan *plan)
{
    if (c->planned) c->planned(c->user, plan);
}

static bool wants_tensorboard(const cn_train_options *o)
{
    return o->report_to && strcmp(o->report_to, "tensorboard") == 0;
}

/* What rank 0 alone writes. */
static cn_status open_outputs(const trainer *t, bool anew, cn_run_progress *p)
{
    const cn_run_setup *r = &t->run;
    CN_TRY(claim_dir(r->ctx, &r->o, &p->state, anew));
    CN_TRY(cn_metrics_open(r->ctx, r->o.output_dir, p->resume_path[0] ? p->state.step : -1,
                           wants_tensorboard(&r->o), &p->metrics));
    if (!t->data.n_held) return CN_OK;
    return cn_held_out_create(r, &t->data, &t->nets, p->metrics, &p->held_out);
}

/* Everything before the first step. */
static cn_status begin(trainer *t)
{
    const cn_run_setup *r = &t->run;
    const bool anew = !t->progress.state.run_id[0];
    CN_TRY(cn_run_nets_load(r, &t->nets));
    CN_TRY(cn_run_nets_create_optimizer(r, NULL, &t->nets));
    CN_TRY(resume(r, t->data.buckets, &t->nets, &t->progress));
    if (cn_ranks_rank(r->ranks) == 0) CN_TRY(open_outputs(t, anew, &t->progress));
    return cn_run_data_start_loader(r, t->progress.state.samples, &t->data);
}

static cn_status train(trainer *t)
{
    const cn_run_setup *r = &t->run;
    CN_TRY(cn_ranks_agree(r->ranks, try_dir(r, &t->nets, &t->progress)));
    CN_TRY(cn_ranks_agree(r->ranks, cn_run_data_encode(r, &t->data)));
    CN_TRY(cn_ranks_agree(r->ranks, begin(t)));
    CN_TRY(cn_run_loop(r, &t->data, &t->nets, &t->progress));
    return save_result(r, &t->nets);
}

/* Faults of the data come last: memory and time are of use all the same. */
static cn_status dry_run(trainer *t)
{
    const cn_run_setup *r = &t->run;
    const int64_t first_step = t->progress.state.step;
    const cn_status lint = cn_estimate_data(r);
    if (lint != CN_OK && lint != CN_EFORMAT) return lint;
    char faults[1024];
    snprintf(faults, sizeof faults, "%s", cn_error(r->ctx));
    CN_TRY(cn_estimate_encoding(r, &t->data, &t->nets.plan.encoding_seconds));
    CN_TRY(cn_run_nets_load(r, &t->nets));
    CN_TRY(cn_run_nets_create_optimizer(r, NULL, &t->nets));
    CN_TRY(cn_estimate_steps(r, t->data.buckets, first_step, &t->nets));
    if (t->data.n_held) cn_estimate_validations(r, first_step, &t->nets);
    cn_estimate_end(r, first_step, &t->nets.plan);
    report_plan(&r->callbacks, &t->nets.plan);
    return lint == CN_OK ? CN_OK : cn_fail(r->ctx, lint, "%s", faults);
}

static cn_status run(trainer *t)
{
    CN_TRY(cn_run_join(&t->run));
    CN_TRY(cn_ranks_agree(t->run.ranks, prepare(t)));
    if (t->run.o.dry_run) return dry_run(t);
    report_plan(&t->run.callbacks, &t->nets.plan);
    return train(t);
}

static void trainer_close(trainer *t)
{
    cn_held_out_destroy(t->progress.held_out);
    cn_metrics_close(t->progress.metrics);
    cn_run_nets_close(&t->nets);
    cn_run_data_close(&t->data);
    cn_dir_lock_drop(t->progress.lock);
    cn_run_setup_close(&t->run);
    cn_free(t);
}

/* A device that fails takes no more than the steps since the last save. */
static cn_status tell_saved(const cn_run_setup *r, int64_t saved_step, cn_status s)
{
    char why[1024];
    const bool failed = s == CN_EIO || s == CN_ENOMEM;
    if (!failed || r->ranks || !r->be || r->be->addressable || saved_step <= 0) return s;
    snprintf(why, sizeof why, "%s", cn_error(r->ctx));
    return cn_fail(r->ctx, s,
                   "%s; %s/checkpoint-%lld is whole, --resume-from-checkpoint latest goes on", why,
                   r->o.output_dir, (long long)saved_step);
}

static size_t most_of_device(const cn_run_setup *r)
{
    cn_backend_memory memory = {0};
    if (r->be) r->be->memory(r->be, &memory);
    return memory.most;
}

cn_status cn_train(cn_ctx *ctx, const cn_train_options *options,
                   const cn_train_callbacks *callbacks, cn_train_result *out)
{
    const double start = cn_now_s();
    trainer *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    cn_run_progress *p = &t->progress;
    t->run.ctx = ctx;
    t->run.o = *options;
    t->run.begun_s = start;
    if (callbacks) t->run.callbacks = *callbacks;
    p->state.learned_at_step = -1;
    const cn_status s = tell_saved(&t->run, p->saved_step, run(t));
    p->result.steps = p->state.step;
    p->result.seconds = cn_now_s() - start;
    p->result.silent = cn_ranks_rank(t->run.ranks) > 0;
    p->result.final_loss = cn_run_mean_loss(p);
    p->result.learned_at_step = p->state.learned_at_step;
    p->result.peak_resident_bytes = cn_peak_resident_bytes();
    p->result.peak_device_bytes = most_of_device(&t->run);
    cn_run_part(&t->run, p->saved_step, s);
    if (out) *out = p->result;
    trainer_close(t);
    return s;
}
