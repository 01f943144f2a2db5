/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.c - what a dry run says beyond memory: is the data sound, and how long will it all take?
 *
 * Encoding is measured on the first few pairs, a step on noise (loop.c); what a validation takes
 * follows from its operations at the speed that the step had.
 */
#include "train/trainer.h"

#include <string.h>

enum { LOOK_AT = 1000, GROUPS = 3, ENOUGH_PX = 512 * 512 };

/* --- data ------------------------------------------------------------------------------------- */

static void tell_problem(void *user, const char *text)
{
    const cn_trainer *t = user;
    cn_log(t->ctx, CN_LOG_WARN, "%s", text);
}

cn_status cn_trainer_lint(cn_trainer *t)
{
    cn_dataset_options o = cn_trainer_data_options(t);
    cn_dataset_report report = {0};
    const cn_dataset_check_options check = {
        .resolution = t->o.resolution,
        .max_pairs = LOOK_AT,
    };
    o.problem = tell_problem;
    o.problem_user = t;
    const cn_status s = cn_dataset_check(t->ctx, &o, &check, &report);
    if (report.layout && t->callbacks.checked) t->callbacks.checked(t->callbacks.user, &report);
    return s == CN_EFORMAT && t->o.skip_bad_data ? CN_OK : s;
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

cn_status cn_trainer_time_encoding(cn_trainer *t)
{
    cn_cache *cache = NULL;
    cn_buckets *one = NULL;
    cn_prompt_list *prompts = NULL;
    const int64_t side = t->o.resolution, group = ENOUGH_PX / (side * side);
    const int64_t count =
        CN_MIN(t->data->n, GROUPS * CN_MAX(1, CN_MIN(CN_ENCODE_MAX_PICTURES, group)));
    const cn_dataset few = cn_dataset_slice(t->data, 0, count);
    const double now = cn_now_s();
    clocks c = {.text.begun_s = now, .latents.begun_s = now};
    cn_cache_options o = cn_trainer_cache_options(t);
    o.cache_dir = NULL;
    o.ranks = NULL;
    o.skip_bad = true;
    o.progress = note;
    o.progress_user = &c;
    o.pictures = true;
    cn_status s = cn_prompt_list_create(t->ctx, &few, true, &prompts);
    o.prompts = prompts;
    if (s == CN_OK) s = cn_buckets_create_one(t->ctx, side, side, few.n, &one);
    o.buckets = one;
    if (s == CN_OK) s = cn_cache_build(t->ctx, t->be, t->base, &few, &o, &cache);
    cn_cache_destroy(cache);
    cn_buckets_destroy(one);
    cn_prompt_list_destroy(prompts);
    const int64_t cached = t->o.cache_latents ? t->n_train : 0;
    const int64_t records = t->mirror == CN_MIRROR_OFF ? cached : 2 * cached;
    const int64_t texts = (t->prompts ? t->prompts->n : 0) +
                          (t->held_prompts ? t->held_prompts->n : 0) +
                          (t->own.prompts ? t->own.prompts->n : 0);
    t->plan.encoding_seconds =
        each(&c.latents) * (double)(records + t->n_held) + each(&c.text) * (double)texts;
    return s;
}

/* --- validation ------------------------------------------------------------------------------- */

void cn_trainer_time_validations(cn_trainer *t)
{
    const cn_train_options *o = &t->o;
    const double flops = t->plan.gflop_per_pass * 1e9 * (double)o->gradient_accumulation_steps;
    if (!t->n_held || !o->validation_steps || !(flops > 0)) return;
    const double once = t->validation_flops / flops * t->plan.step_seconds;
    const int64_t left = t->total_steps - t->state.step;
    /* the first one measures without control too */
    t->plan.validation_seconds =
        once * (double)((left + o->validation_steps - 1) / o->validation_steps + 1);
}
