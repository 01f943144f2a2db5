/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.c - see estimate.h.
 *
 * Encoding is measured on the first few pairs, a step on noise; what a validation takes follows
 * from its operations at the speed that the step had.
 */
#include "train/estimate.h"

#include <math.h>
#include <string.h>

enum { LOOK_AT = 1000, GROUPS = 3, ENOUGH_PX = 512 * 512 };

/* --- data ------------------------------------------------------------------------------------- */

/* The first faults; the error counts them all. */
typedef struct teller {
    cn_ctx *ctx;
    int told;
} teller;

static void warn_of_problem(void *user, const char *text)
{
    enum { MOST = 3 };
    teller *to = user;
    if (to->told++ < MOST) cn_log(to->ctx, CN_LOG_WARN, "%s", text);
}

cn_status cn_estimate_data(const cn_run_setup *r)
{
    cn_dataset_options o = cn_run_dataset_options(&r->o);
    cn_dataset_report report = {0};
    teller to = {r->ctx, 0};
    const cn_dataset_check_options check = {
        .resolution = r->o.resolution,
        .max_pairs = LOOK_AT,
    };
    o.problem = warn_of_problem;
    o.problem_user = &to;
    const cn_status s = cn_dataset_check(r->ctx, &o, &check, &report);
    if (report.layout && r->callbacks.checked) r->callbacks.checked(r->callbacks.user, &report);
    return s == CN_EFORMAT && r->o.skip_bad_data ? CN_OK : s;
}

/* --- encoding --------------------------------------------------------------------------------- */

/* When a stage had done how much, the first and the last time that it said so. */
typedef struct stage_clock {
    double begun_s, first_s, last_s;
    int64_t first, last;
} stage_clock;

typedef struct clocks {
    stage_clock text, latents;
} clocks;

static void note(void *user, const char *what, int64_t done, int64_t total)
{
    (void)total;
    clocks *c = user;
    stage_clock *k = strcmp(what, "text") == 0 ? &c->text : &c->latents;
    k->last_s = cn_now_s();
    k->last = done;
    if (k->first) return;
    k->first_s = k->last_s;
    k->first = done;
}

/* Seconds for one more; the first group, which loads weights and touches memory, counts where it is
 * alone. */
static double each(const stage_clock *k)
{
    if (k->last > k->first) return (k->last_s - k->first_s) / (double)(k->last - k->first);
    return k->last ? (k->last_s - k->begun_s) / (double)k->last : 0;
}

/* How many pairs are encoded to see how long it takes. */
static int64_t pairs_to_encode(int64_t side, int64_t all)
{
    const int64_t group = CN_MIN(CN_ENCODE_MAX_PICTURES, ENOUGH_PX / (side * side));
    return CN_MIN(all, GROUPS * CN_MAX(1, group));
}

static cn_status encode_few(const cn_run_setup *r, const cn_run_data *d, clocks *c)
{
    cn_cache *cache = NULL;
    cn_buckets *one = NULL;
    cn_prompt_list *prompts = NULL;
    const int64_t side = r->o.resolution;
    const cn_dataset few = cn_dataset_slice(d->data, 0, pairs_to_encode(side, d->data->n));
    cn_cache_options o = cn_run_data_cache_options(r, d);
    o.cache_dir = NULL;
    o.ready = (cn_cache_ready){0};
    o.ranks = NULL;
    o.skip_bad = true;
    o.progress = note;
    o.progress_user = c;
    o.pictures = true;
    cn_status s = cn_prompt_list_create(r->ctx, &few, true, &prompts);
    o.prompts = prompts;
    if (s == CN_OK) s = cn_buckets_create_one(r->ctx, side, side, few.n, &one);
    o.buckets = one;
    if (s == CN_OK) s = cn_cache_build(r->ctx, r->be, r->base, &few, &o, &cache);
    cn_cache_destroy(cache);
    cn_buckets_destroy(one);
    cn_prompt_list_destroy(prompts);
    return s;
}

static int64_t count_prompts(const cn_prompt_list *p)
{
    return p ? p->n : 0;
}

cn_status cn_estimate_encoding(const cn_run_setup *r, const cn_run_data *d, double *seconds)
{
    const double now = cn_now_s();
    clocks c = {.text.begun_s = now, .latents.begun_s = now};
    CN_TRY(encode_few(r, d, &c));
    const bool apart = d->held_data != NULL;
    const int64_t cached = r->o.cache_latents && !d->ready.pictures ? d->n_train : 0;
    const int64_t records = d->mirror == CN_MIRROR_OFF ? cached : 2 * cached;
    const int64_t held = (apart ? d->held_ready : d->ready).pictures ? 0 : d->n_held;
    const int64_t texts = (d->ready.texts ? 0 : count_prompts(d->prompts)) +
                          (d->held_ready.texts ? 0 : count_prompts(d->held_prompts)) +
                          count_prompts(d->own.prompts);
    *seconds = each(&c.latents) * (double)(records + held) + each(&c.text) * (double)texts;
    return CN_OK;
}

/* --- steps ------------------------------------------------------------------------------------ */

static void fill_noise(cn_plan *plan, const cn_node *x, cn_rng *rng)
{
    if (x) cn_rng_normal(rng, cn_plan_data(plan, x), cn_node_elements(x));
}

static void fill_inputs(const cn_stepgraph *g, cn_rng *rng)
{
    fill_noise(g->plan, g->x, rng);
    fill_noise(g->plan, g->context, rng);
    fill_noise(g->plan, g->added, rng);
    fill_noise(g->plan, g->condition, rng);
    fill_noise(g->plan, g->target, rng);
    for (int64_t i = 0; i < g->o.batch; i++) ((float *)cn_plan_data(g->plan, g->t))[i] = 500;
    if (g->scale) *(float *)cn_plan_data(g->plan, g->scale) = 1;
    for (int64_t i = 0; g->per && i < 2 * g->o.batch; i++)
        ((float *)cn_plan_data(g->plan, g->per))[i] = 1;
}

/* Runs the size's encoders as often as a pass does; the step's inputs are made anew then. */
static cn_status encode_noise(const cn_run_nets *n, int bucket, cn_rng *rng)
{
    const int64_t batch = n->step->o.batch;
    const cn_encoder *e = n->sizes.encoders ? &n->sizes.encoders[bucket] : NULL;
    const cn_encoder *text = &n->sizes.text;
    for (int64_t at = 0; e && at < batch; at += e->batch) {
        fill_noise(e->plan, e->in, rng);
        CN_TRY(cn_plan_run(e->plan));
    }
    for (int64_t at = 0; text->plan && at < batch; at += text->batch) {
        for (int k = 0; k < CN_MAX_TEXT_ENCODERS && text->ids[k]; k++)
            memset(cn_plan_data(text->plan, text->ids[k]), 0,
                   (size_t)cn_node_elements(text->ids[k]) * sizeof(int32_t));
        CN_TRY(cn_plan_run(text->plan));
    }
    fill_inputs(n->step, rng);
    return CN_OK;
}

static cn_status step_on_noise(const cn_run_setup *r, int bucket, cn_run_nets *n)
{
    const int64_t passes = r->o.gradient_accumulation_steps;
    cn_rng rng;
    double norm;
    cn_rng_seed(&rng, r->o.seed);
    fill_inputs(n->step, &rng);
    for (int64_t k = 0; k < passes; k++) {
        if (cn_cancelled(r->ctx)) return cn_fail(r->ctx, CN_ECANCELLED, "interrupted");
        if (cn_train_encodes(&r->o)) CN_TRY(encode_noise(n, bucket, &rng));
        CN_TRY(cn_plan_run(n->step->plan));
        if (k + 1 < passes) CN_TRY(cn_adamw_accumulate(n->adamw, n->grads));
    }
    return cn_adamw_run(n->adamw, n->grads, 0, r->o.max_grad_norm, &norm);
}

/* The size of most passes is measured; the mean follows from all sizes' operations. */
static cn_status time_step(const cn_run_setup *r, const cn_buckets *buckets, cn_run_nets *n,
                           double *seconds)
{
    enum { RUNS = 2 }; /* behind a first one, which touches the memory */
    const int64_t unit = cn_run_pass_samples(r);
    int bucket = 0;
    double mean_flops = 0;
    for (int k = 0; k < n->sizes.n; k++) {
        mean_flops += cn_sizes_share(buckets, unit, k) * cn_sizes_flops(&n->sizes, k);
        if (cn_sizes_share(buckets, unit, k) > cn_sizes_share(buckets, unit, bucket)) bucket = k;
    }
    CN_TRY(cn_run_nets_use_size(r, bucket, n));
    for (int i = 0; i <= RUNS; i++) {
        const double start = cn_now_s();
        CN_TRY(step_on_noise(r, bucket, n));
        const double taken = cn_now_s() - start;
        *seconds = i <= 1 ? taken : fmin(*seconds, taken);
    }
    *seconds *= mean_flops / cn_sizes_flops(&n->sizes, bucket);
    return CN_OK;
}

cn_status cn_estimate_steps(const cn_run_setup *r, const cn_buckets *buckets, int64_t first_step,
                            cn_run_nets *n)
{
    cn_phase_start list[CN_MAX_PHASES];
    const int count = cn_phase_list(&r->o, first_step, r->total_steps, list);
    for (int i = 0; i < count; i++) {
        double seconds = 0;
        const int64_t end = i + 1 < count ? list[i + 1].step : r->total_steps;
        if (!cn_phase_same(list[i].phase, n->phase))
            CN_TRY(cn_run_nets_switch_phase(r, buckets, list[i].phase, n));
        CN_TRY(time_step(r, buckets, n, &seconds));
        if (i == 0) n->plan.step_seconds = seconds;
        n->plan.run_seconds += seconds * (double)(end - list[i].step);
    }
    return CN_OK;
}

/* --- validation ------------------------------------------------------------------------------- */

void cn_estimate_validations(const cn_run_setup *r, int64_t first_step, cn_run_nets *n)
{
    const cn_train_options *o = &r->o;
    const double flops = n->plan.gflop_per_pass * 1e9 * (double)o->gradient_accumulation_steps;
    if (!o->validation_steps || !(flops > 0)) return;
    const double once = n->validation_flops / flops * n->plan.step_seconds;
    const int64_t left = n->plan.steps - first_step;
    /* the first one measures without control too */
    n->plan.validation_seconds =
        once * (double)((left + o->validation_steps - 1) / o->validation_steps + 1);
}

void cn_estimate_end(const cn_run_setup *r, int64_t first_step, cn_train_plan *plan)
{
    const double all = plan->run_seconds + plan->validation_seconds;
    const double left = fmax(60 * r->o.max_train_minutes - plan->encoding_seconds, 0);
    if (r->o.max_train_minutes == 0 || all <= left) return;
    const double part = left / all;
    plan->steps = first_step + (int64_t)ceil(part * (double)(plan->steps - first_step));
    plan->run_seconds *= part;
    plan->validation_seconds *= part;
}
