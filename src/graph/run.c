/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - runs a plan; nothing is allocated here. */
#include "graph/plan_run.h"

#include <string.h>

static void *address(const cn_plan *p, const cn_node *x)
{
    while (x->op == CN_OP_VIEW) x = x->in[0];
    if (x->op == CN_OP_PARAM) return x->param->data;
    int b = cn_plan_buffer(p, x);
    return b < 0 ? NULL : p->arena + p->buffers[b].offset;
}

const cn_param *cn_plan_param(const cn_node *x)
{
    while (x->op == CN_OP_VIEW) x = x->in[0];
    return x->param && x->op == CN_OP_PARAM ? x->param : NULL;
}

void cn_plan_bind(cn_plan *p)
{
    for (int s = 0; s < p->n_steps; s++) {
        cn_step *st = &p->steps[s];
        const cn_node *y = st->node;
        for (int i = 0; i < y->n_in; i++) st->in[i] = y->in[i] ? address(p, y->in[i]) : NULL;
        for (int i = 0; i < CN_MAX_AUX; i++)
            st->aux[i] = y->aux[i] && p->needed[y->aux[i]->id] ? address(p, y->aux[i]) : NULL;
        st->residual_data = st->residual ? address(p, st->residual) : NULL;
        st->shift_data = st->shift ? address(p, st->shift) : NULL;
        st->out = address(p, st->result);
        st->scratch = p->scratch_of[s] < 0 ? NULL : p->arena + p->buffers[p->scratch_of[s]].offset;
    }
}

void cn_plan_info_get(const cn_plan *p, cn_plan_info *info)
{
    *info = (cn_plan_info){.steps = p->n_steps, .arena_bytes = p->arena_bytes};
    for (int s = 0; s < p->n_steps; s++) {
        info->scratch_bytes = CN_MAX(info->scratch_bytes, p->steps[s].scratch_bytes);
        if (s >= p->n_stable) info->flops += p->steps[s].flops;
    }
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *w = cn_graph_node(p->g, id);
        if (w->op != CN_OP_PARAM || !w->grad || !p->needed[w->grad->id]) continue;
        int b = cn_plan_buffer(p, w->grad);
        if (b >= 0 && p->buffers[b].output) info->gradient_bytes += p->buffers[b].bytes;
    }
}

/* The buffer of an input or output, -1 for a node whose values don't stay. */
static int kept_buffer(const cn_plan *p, const cn_node *x)
{
    const int b = p->needed[x->id] ? cn_plan_buffer(p, x) : -1;
    return b >= 0 && (p->buffers[b].pinned || p->buffers[b].output) ? b : -1;
}

void *cn_plan_address(cn_plan *p, const cn_node *x)
{
    const cn_param *q = p->needed[x->id] ? cn_plan_param(x) : NULL;
    if (q) return q->data;
    const int b = kept_buffer(p, x);
    return b < 0 ? NULL : p->arena + p->buffers[b].offset;
}

void *cn_plan_data(cn_plan *p, const cn_node *x)
{
    return p->host ? cn_plan_host_data(p, kept_buffer(p, x), cn_plan_param(x))
                   : cn_plan_address(p, x);
}

bool cn_plan_get(cn_plan *p, const cn_node *x, float *out)
{
    const void *data = cn_plan_data(p, x);
    if (data) cn_to_f32(x->dtype, data, out, (size_t)cn_node_elements(x));
    return data != NULL;
}

cn_status cn_plan_set(cn_plan *p, const cn_node *x, const void *data)
{
    if (x->op != CN_OP_INPUT) return cn_fail(p->ctx, CN_EINTERNAL, "%s is no input", x->name);
    void *to = cn_plan_data(p, x);
    if (!to) return CN_OK; /* nothing reads it */
    size_t n = (size_t)cn_node_elements(x) * cn_dtype_bytes(x->dtype);
    if (x->stable && !p->dirty && memcmp(to, data, n) == 0) return CN_OK;
    memcpy(to, data, n);
    if (x->stable) p->dirty = true;
    return CN_OK;
}

void cn_plan_touch(cn_plan *p)
{
    p->dirty = true;
}

void cn_plan_part(cn_plan *p, int part, bool on)
{
    const uint32_t bit = (uint32_t)1 << part;
    if (on && p->off & bit) p->dirty = true; /* what of it is stable may never have run */
    p->off = on ? p->off & ~bit : p->off | bit;
}

/* Parameters may be filled after planning; the first run makes sure that all are. */
static cn_status check_params(cn_plan *p)
{
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *x = cn_graph_node(p->g, id);
        if (!p->needed[id] || x->op != CN_OP_PARAM || x->param->loaded) continue;
        return cn_fail(p->ctx, CN_EINTERNAL, "%s has no values", x->param->ldm_name);
    }
    p->complete = true;
    cn_plan_forget(p);
    cn_plan_bind(p);
    return CN_OK;
}

void cn_plan_forget(cn_plan *p)
{
    for (int i = 0; i < 2; i++) {
        if (p->kept[i]) p->backend->forget(p->backend, p->kept[i]);
        p->kept[i] = NULL;
    }
}

cn_status cn_plan_borrow(cn_plan *p, cn_plan *lender)
{
    if (p == lender) return CN_OK;
    if (lender->lender || lender->arena_bytes < p->arena_bytes)
        return cn_fail(p->ctx, CN_EINTERNAL, "a plan can't lend what it hasn't got");
    if (!p->lender) p->backend->release_reserved(p->backend, p->arena, p->arena_bytes);
    cn_plan_forget(p);
    p->lender = lender;
    p->arena = lender->arena;
    p->dirty = true;
    cn_plan_host_lost(p);
    cn_plan_bind(p);
    return CN_OK;
}

void cn_plan_drop(cn_plan *p)
{
    if (!p) return;
    const cn_plan *owner = p->lender ? p->lender : p;
    p->backend->drop(p->backend, owner->arena, owner->arena_bytes);
    p->dirty = true;
    cn_plan_host_lost(p);
}

int cn_plan_step_of(const cn_plan *p, const cn_node *x)
{
    while (x->op == CN_OP_VIEW || x->op == CN_OP_AUX) x = x->in[0];
    return p->needed[x->id] && x->op != CN_OP_INPUT && x->op != CN_OP_PARAM ? p->step_of[x->id]
                                                                            : -1;
}

void cn_plan_watch(cn_plan *p, cn_status (*fn)(void *user, int step), void *user)
{
    p->watch = fn;
    p->watch_user = user;
}

static cn_status run_steps(cn_plan *p)
{
    const cn_debug *debug = &p->debug;
    cn_backend *be = p->backend;
    const bool told = debug->profile && !debug->trace && be->time;
    const bool timed = (debug->trace || debug->profile) && !told;
    for (int s = p->dirty ? 0 : p->n_stable; s < p->n_steps; s++) {
        cn_step *st = &p->steps[s];
        if (p->off >> st->result->part & 1) continue;
        if (cn_cancelled(p->ctx)) return cn_fail(p->ctx, CN_ECANCELLED, "stopped");
        double start = timed ? cn_now_s() : 0;
        if (told) be->time(be, &st->seconds);
        CN_TRY(be->run(be, p->ctx, st));
        if (told) st->runs++;
        if (timed || p->watch) CN_TRY(be->finish(be, p->ctx));
        if (timed) {
            double seconds = cn_now_s() - start;
            st->seconds += seconds;
            st->runs++;
            if (debug->trace) cn_plan_trace(p, st, seconds);
        }
        if (p->watch) CN_TRY(p->watch(p->watch_user, s));
        if (debug->dump && cn_plan_dumps(p, st->result)) CN_TRY(cn_plan_dump(p, st));
        if (debug->check) CN_TRY(cn_plan_check_step(p, st));
    }
    return CN_OK;
}

/* Timed by the backend, whose times are there when it was waited for; however the run ends, none is
 * told later on. */
static cn_status run_told(cn_plan *p)
{
    cn_backend *be = p->backend;
    const cn_status s = run_steps(p);
    be->time(be, NULL);
    const cn_status end = be->finish(be, p->ctx);
    return s == CN_OK ? end : s;
}

/* All steps at once, by a backend that keeps them from an earlier run. */
static cn_status run_kept(cn_plan *p)
{
    cn_backend *be = p->backend;
    bool replayed = false;
    CN_TRY(be->record(be, p->ctx, &p->kept[p->dirty], p->off, &replayed));
    if (replayed) return CN_OK;
    const cn_status s = run_steps(p);
    const cn_status end = be->recorded(be, p->ctx, s == CN_OK);
    return s == CN_OK ? end : s;
}

cn_status cn_plan_run(cn_plan *p)
{
    const cn_debug *debug = &p->debug;
    const bool looked_at =
        debug->trace || debug->profile || debug->check || debug->dump || p->watch;
    if (!p->complete) CN_TRY(check_params(p));
    if (debug->check && p->runs == 0) CN_TRY(cn_plan_check_params(p, false));
    CN_TRY(cn_plan_host_send(p));
    if (debug->check) CN_TRY(cn_plan_check_inputs(p));
    if (cn_cancelled(p->ctx)) return cn_fail(p->ctx, CN_ECANCELLED, "stopped");
    if (p->backend->record && !looked_at)
        CN_TRY(run_kept(p));
    else
        CN_TRY(debug->profile && p->backend->time ? run_told(p) : run_steps(p));
    CN_TRY(cn_plan_host_fetch(p));
    p->dirty = false;
    p->runs++;
    return CN_OK;
}

void cn_plan_profile(const cn_plan *p, cn_str *out)
{
    struct {
        double seconds, flops;
        int64_t runs;
    } by_op[CN_OP_COUNT] = {0};
    double total = 0;
    for (int s = 0; s < p->n_steps; s++) {
        const cn_step *st = &p->steps[s];
        by_op[st->node->op].seconds += st->seconds;
        by_op[st->node->op].flops += st->flops * (double)st->runs;
        by_op[st->node->op].runs += st->runs;
        total += st->seconds;
    }
    cn_str_addf(out, "%-18s %9s %10s %7s %9s\n", "operation", "runs", "seconds", "share",
                "GFLOP/s");
    for (int shown = 0; shown < CN_OP_COUNT; shown++) {
        int best = -1;
        for (int i = 0; i < CN_OP_COUNT; i++)
            if (by_op[i].runs && (best < 0 || by_op[i].seconds > by_op[best].seconds)) best = i;
        if (best < 0) break;
        cn_str_addf(out, "%-18s %9lld %10.3f %6.1f%% %9.1f\n", cn_op_name((cn_op)best),
                    (long long)by_op[best].runs, by_op[best].seconds,
                    100 * by_op[best].seconds / CN_MAX(total, 1e-12),
                    by_op[best].flops / CN_MAX(by_op[best].seconds, 1e-12) / 1e9);
        by_op[best].runs = 0;
    }
    cn_str_addf(out, "%-18s %9s %10.3f\n", "all", "", total);
}
