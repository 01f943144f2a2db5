/* SPDX-License-Identifier: Apache-2.0 */
/* distributed.c - a run by several processes: how they begin and end, and gradients that are added
 * up while the backward pass still runs.
 *
 * Rank r takes samples r b .. r b + b - 1 of every pass's n b, so what is drawn doesn't depend on
 * how many there are. Rank 0 logs, validates and saves.
 */
#include "train/run_nets.h"

#include <stdlib.h>

cn_status cn_run_join(cn_run_setup *r)
{
    if (!r->o.distributed) return CN_OK;
    CN_TRY(cn_ranks_open(r->ctx, &r->ranks));
    if (cn_ranks_rank(r->ranks) > 0) {
        r->callbacks = (cn_train_callbacks){0};
        cn_ctx_set_log(r->ctx, NULL, NULL);
    }
    if (r->o.cache_dir) return CN_OK;
    r->o.cache_dir = r->cache_dir; /* through which they share what each of them encodes */
    return cn_format(r->ctx, r->cache_dir, sizeof r->cache_dir, "%s/cache", r->o.output_dir);
}

/* What is left to do after a failure that one rank alone may have seen. */
static void report_failure(const cn_run_setup *r, int64_t saved_step, cn_status s)
{
    char why[1024];
    snprintf(why, sizeof why, "%s", cn_error(r->ctx));
    if (!cn_ranks_lost(r->ranks)) {
        /* all of them stop: the first one says so */
        if (s == CN_ECANCELLED && cn_ranks_rank(r->ranks) > 0) (void)cn_fail(r->ctx, s, "%s", "");
    } else if (!cn_ranks_reports(r->ranks)) {
        (void)cn_fail(r->ctx, s, "%s", "");
    } else if (saved_step > 0) {
        (void)cn_fail(r->ctx, s,
                      "%s; %s/checkpoint-%lld is whole, --resume-from-checkpoint latest goes on",
                      why, r->o.output_dir, (long long)saved_step);
    } else {
        (void)cn_fail(r->ctx, s, "%s; nothing was saved yet", why);
    }
}

void cn_run_part(cn_run_setup *r, int64_t saved_step, cn_status s)
{
    if (!r->ranks) return;
    if (s != CN_OK) report_failure(r, saved_step, s);
    cn_ranks_close(r->ranks, s == CN_OK || s == CN_ECANCELLED);
    r->ranks = NULL;
}

int64_t cn_run_pass_samples(const cn_run_setup *r)
{
    return r->o.train_batch_size * cn_ranks_count(r->ranks);
}

int64_t cn_run_step_samples(const cn_run_setup *r)
{
    return cn_run_pass_samples(r) * r->o.gradient_accumulation_steps;
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
    cn_gradient_order *g = user;
    for (; g->last_pass && g->next < g->n; g->next++) {
        const cn_gradient_ready *ready = &g->list[g->next];
        if (ready->step > step) break;
        CN_TRY(cn_adamw_take(g->adamw, ready->param, g->grads[ready->param]));
    }
    return cn_ranks_advance(g->ranks);
}

cn_status cn_run_nets_follow(const cn_run_setup *r, cn_run_nets *n)
{
    const cn_sizes *z = &n->sizes;
    cn_gradient_order *g = &n->order;
    cn_free(g->list);
    *g = (cn_gradient_order){
        .ranks = r->ranks, .adamw = n->adamw, .grads = n->grads, .last_pass = g->last_pass};
    /* elsewhere what a pass computes is waited for once */
    if (!r->ranks || !r->be->addressable) return CN_OK;
    g->list = cn_alloc_array(r->ctx, (size_t)CN_MAX(z->n_trained, 1), sizeof *g->list);
    if (!g->list) return CN_ENOMEM;
    g->n = z->n_trained;
    for (int64_t i = 0; i < g->n; i++)
        g->list[i] = (cn_gradient_ready){
            cn_plan_step_of(n->step->plan, cn_param_grad(n->step->g, z->trained[i])), i};
    qsort(g->list, (size_t)g->n, sizeof *g->list, by_step);
    cn_plan_watch(n->step->plan, on_step, g);
    return CN_OK;
}
