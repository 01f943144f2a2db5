/* SPDX-License-Identifier: Apache-2.0 */
/* distributed.c - a run by several processes: how they begin and end, and gradients that are added
 * up while the backward pass still runs.
 *
 * Rank r takes samples r b .. r b + b - 1 of every pass's n b, so what is drawn doesn't depend on
 * how many there are. Rank 0 logs, validates and saves.
 */
#include "train/trainer.h"

#include <stdlib.h>

cn_status cn_trainer_join(cn_trainer *t)
{
    if (!t->o.distributed) return CN_OK;
    CN_TRY(cn_ranks_open(t->ctx, &t->ranks));
    if (cn_ranks_rank(t->ranks) > 0) {
        t->callbacks = (cn_train_callbacks){0};
        cn_ctx_set_log(t->ctx, NULL, NULL);
    }
    if (t->o.cache_dir) return CN_OK;
    t->o.cache_dir = t->cache_dir; /* through which they share what each of them encodes */
    return cn_format(t->ctx, t->cache_dir, sizeof t->cache_dir, "%s/cache", t->o.output_dir);
}

/* What is left to do after a failure that one rank alone may have seen. */
static void tell_end(cn_trainer *t, cn_status s)
{
    char why[1024];
    snprintf(why, sizeof why, "%s", cn_error(t->ctx));
    if (!cn_ranks_lost(t->ranks)) {
        /* all of them stop: the first one says so */
        if (s == CN_ECANCELLED && cn_ranks_rank(t->ranks) > 0) (void)cn_fail(t->ctx, s, "%s", "");
    } else if (!cn_ranks_reports(t->ranks)) {
        (void)cn_fail(t->ctx, s, "%s", "");
    } else if (t->saved_step > 0) {
        (void)cn_fail(t->ctx, s,
                      "%s; %s/checkpoint-%lld is whole, --resume-from-checkpoint latest goes on",
                      why, t->o.output_dir, (long long)t->saved_step);
    } else {
        (void)cn_fail(t->ctx, s, "%s; nothing was saved yet", why);
    }
}

void cn_trainer_part(cn_trainer *t, cn_status s)
{
    if (!t->ranks) return;
    if (s != CN_OK) tell_end(t, s);
    cn_ranks_close(t->ranks, s == CN_OK || s == CN_ECANCELLED);
    t->ranks = NULL;
}

int64_t cn_trainer_unit(const cn_trainer *t)
{
    return t->o.train_batch_size * cn_ranks_count(t->ranks);
}

int64_t cn_trainer_images(const cn_trainer *t)
{
    return cn_trainer_unit(t) * t->o.gradient_accumulation_steps;
}

/* --- gradients as they become final ----------------------------------------------------------- */

static int by_step(const void *a, const void *b)
{
    const cn_gradient_ready *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    return x->param < y->param ? -1 : x->param > y->param;
}

static cn_status on_step(void *user, int step)
{
    cn_trainer *t = user;
    for (; t->last_pass && t->next_ready < t->n_ready; t->next_ready++) {
        const cn_gradient_ready *turn = &t->turns[t->next_ready];
        if (turn->step > step) break;
        CN_TRY(cn_adamw_take(t->adamw, turn->param, t->grads[turn->param]));
    }
    return cn_ranks_advance(t->ranks);
}

cn_status cn_trainer_follow(cn_trainer *t, cn_param *const *params, int64_t n)
{
    cn_free(t->turns);
    t->turns = NULL;
    t->n_ready = 0;
    if (!t->ranks) return CN_OK;
    t->turns = cn_alloc_array(t->ctx, (size_t)CN_MAX(n, 1), sizeof *t->turns);
    if (!t->turns) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        t->turns[i] = (cn_gradient_ready){
            cn_plan_step_of(t->step->plan, cn_param_grad(t->step->g, params[i])), i};
    qsort(t->turns, (size_t)n, sizeof *t->turns, by_step);
    t->n_ready = n;
    cn_plan_watch(t->step->plan, on_step, t);
    return CN_OK;
}
