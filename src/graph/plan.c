/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - from nodes to steps, from lifetimes to offsets in one arena.
 *
 * Order: steps that follow from stable inputs alone come first and run only after a change; the
 * rest in the order of building. A buffer lives from the step that writes it to the last step that
 * reads it; views share their source's buffer, in-place operations their dying input's. Largest
 * buffers are placed first, each at the lowest offset where nothing alive at the same time lies.
 * Scratch is a buffer that lives for one step.
 */
#include "graph/plan.h"
#include "graph/plan_run.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static bool has_step(const cn_node *x)
{
    return x->op != CN_OP_INPUT && x->op != CN_OP_PARAM && x->op != CN_OP_AUX &&
           x->op != CN_OP_VIEW;
}

/* The node whose kernel writes x's bytes. */
static const cn_node *owner(const cn_node *x)
{
    while (x->op == CN_OP_VIEW) x = x->in[0];
    return x;
}

/* Inputs come before their readers, so one pass from the last node down marks all. */
static void mark_needed(cn_plan *p, cn_node *const *outputs, int n)
{
    for (int i = 0; i < n; i++)
        if (outputs[i]) p->needed[outputs[i]->id] = true;
    for (int id = p->n_nodes - 1; id >= 0; id--) {
        if (!p->needed[id]) continue;
        const cn_node *x = cn_graph_node(p->g, id);
        for (int i = 0; i < x->n_in; i++)
            if (x->in[i]) p->needed[x->in[i]->id] = true;
    }
}

static cn_status list_steps(cn_plan *p)
{
    int n = 0;
    for (int id = 0; id < p->n_nodes; id++)
        if (p->needed[id] && has_step(cn_graph_node(p->g, id)) && !p->fusions[id].absorbed) n++;
    p->steps = cn_alloc0(p->ctx, (size_t)CN_MAX(n, 1) * sizeof *p->steps);
    if (!p->steps) return CN_ENOMEM;
    for (int pass = 0; pass < 2; pass++) {
        for (int id = 0; id < p->n_nodes; id++) {
            cn_node *x = cn_graph_node(p->g, id);
            const cn_fusion *f = &p->fusions[id];
            if (!p->needed[id] || !has_step(x) || f->absorbed || x->stable != (pass == 0)) continue;
            p->step_of[id] = p->n_steps;
            p->steps[p->n_steps++] = (cn_step){.node = f->node ? f->node : x,
                                               .result = x,
                                               .residual = f->residual,
                                               .shift = f->shift,
                                               .act = f->act ? f->act->act : CN_ACT_NONE,
                                               .act_alpha = f->act ? f->act->alpha : 0};
        }
        if (pass == 0) p->n_stable = p->n_steps;
    }
    return CN_OK;
}

static size_t node_bytes(const cn_node *x)
{
    return (size_t)cn_node_elements(x) * cn_dtype_bytes(x->dtype);
}

static cn_status prepare_steps(cn_plan *p)
{
    for (int s = 0; s < p->n_steps; s++) {
        cn_step *st = &p->steps[s];
        st->out_bytes = node_bytes(st->result);
        CN_TRY(p->backend->prepare(p->backend, p->ctx, st));
    }
    return CN_OK;
}

/* One buffer per step result, further result, input and scratch, with its lifetime in steps. */
static cn_status make_buffers(cn_plan *p)
{
    size_t cap = (size_t)p->n_nodes + (size_t)p->n_steps;
    p->buffers = cn_alloc0(p->ctx, CN_MAX(cap, 1) * sizeof *p->buffers);
    if (!p->buffers) return CN_ENOMEM;
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *x = cn_graph_node(p->g, id);
        p->buffer_of[id] = -1;
        if (!p->needed[id] || x->op == CN_OP_PARAM || x->op == CN_OP_VIEW ||
            p->fusions[id].absorbed)
            continue;
        cn_buffer *b = &p->buffers[p->n_buffers];
        if (x->op == CN_OP_INPUT) {
            *b =
                (cn_buffer){.bytes = node_bytes(x), .first = 0, .last = p->n_steps, .pinned = true};
        } else {
            int s = p->step_of[owner(x->op == CN_OP_AUX ? x->in[0] : x)->id];
            size_t bytes = x->op == CN_OP_AUX ? node_bytes(x) : p->steps[s].out_bytes;
            *b = (cn_buffer){.bytes = bytes, .first = s, .last = s};
        }
        p->buffer_of[id] = p->n_buffers++;
    }
    for (int s = 0; s < p->n_steps; s++) {
        p->scratch_of[s] = -1;
        if (!p->steps[s].scratch_bytes) continue;
        p->buffers[p->n_buffers] =
            (cn_buffer){.bytes = p->steps[s].scratch_bytes, .first = s, .last = s};
        p->scratch_of[s] = p->n_buffers++;
    }
    return CN_OK;
}

int cn_plan_buffer(const cn_plan *p, const cn_node *x)
{
    return p->buffer_of[owner(x)->id];
}

static void extend(cn_plan *p, const cn_node *x, int step)
{
    int b = cn_plan_buffer(p, x);
    if (b >= 0 && p->buffers[b].last < step) p->buffers[b].last = step;
}

/* Step s reads x. A main step's stable operand must outlive every run. */
static void read_at(cn_plan *p, const cn_node *x, int s)
{
    if (!x) return;
    bool keep = s >= p->n_stable && owner(x)->stable;
    extend(p, x, keep ? p->n_steps : s);
    if (keep && cn_plan_buffer(p, x) >= 0) p->buffers[cn_plan_buffer(p, x)].pinned = true;
}

static void find_lifetimes(cn_plan *p, cn_node *const *outputs, int n_outputs)
{
    for (int s = 0; s < p->n_steps; s++) {
        const cn_step *st = &p->steps[s];
        for (int i = 0; i < st->node->n_in; i++) read_at(p, st->node->in[i], s);
        read_at(p, st->residual, s);
        read_at(p, st->shift, s);
    }
    for (int i = 0; i < n_outputs; i++) {
        if (!outputs[i]) continue;
        extend(p, outputs[i], p->n_steps);
        int b = cn_plan_buffer(p, outputs[i]);
        if (b >= 0 && outputs[i]->stable) p->buffers[b].pinned = true;
        if (b >= 0) p->buffers[b].output = true;
    }
}

static bool take_buffer(cn_plan *p, int s, int input)
{
    cn_step *st = &p->steps[s];
    const cn_node *x = st->node->in[input];
    if (!x || owner(x)->op == CN_OP_PARAM) return false;
    int from = cn_plan_buffer(p, x), to = p->buffer_of[st->result->id];
    if (from < 0 || from == to) return false;
    cn_buffer *b = &p->buffers[from];
    if (b->pinned || b->output || b->last != s || b->bytes < p->buffers[to].bytes) return false;
    if (x->dtype != st->result->dtype) return false; /* elements would move while others are read */
    for (int i = 0; i < st->node->n_in; i++)         /* the same bytes read a second time */
        if (i != input && st->node->in[i] && cn_plan_buffer(p, st->node->in[i]) == from)
            return false;
    b->last = p->buffers[to].last;
    b->output = p->buffers[to].output;
    b->pinned = p->buffers[to].pinned;
    p->buffers[to].bytes = 0;
    p->buffer_of[st->result->id] = from;
    return true;
}

static void share_in_place(cn_plan *p)
{
    for (int s = 0; s < p->n_steps; s++) {
        const cn_node *y = p->steps[s].node;
        int in_place = cn_op_def_of(y->op)->in_place;
        if (!in_place) continue;
        if (!take_buffer(p, s, in_place - 1) && y->op == CN_OP_ADD) take_buffer(p, s, 1);
    }
}

typedef struct sized {
    size_t bytes;
    int buffer;
} sized;

static int by_size(const void *a, const void *b)
{
    const sized *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->buffer - y->buffer;
}

/* The first offset from `at` on at which so many bytes lie across no multiple of `limit`. */
static size_t within(size_t at, size_t bytes, size_t limit)
{
    return limit && at / limit != (at + bytes - 1) / limit ? (at / limit + 1) * limit : at;
}

/* Lowest offset at which b fits between the buffers alive at the same time; placed is in order of
 * offset. */
static size_t find_gap(const cn_plan *p, const cn_buffer *b, const int *placed, int n)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const cn_buffer *o = &p->buffers[placed[i]];
        bool together = o->first <= b->last && b->first <= o->last;
        if (!together || o->offset + o->bytes <= at) continue;
        if (o->offset >= at + b->bytes) break;
        at = within(aligned(o->offset + o->bytes), b->bytes, p->backend->limit);
    }
    return at;
}

static cn_status check_limit(const cn_plan *p)
{
    size_t most = 0;
    for (int i = 0; i < p->n_buffers; i++) most = CN_MAX(most, p->buffers[i].bytes);
    if (!p->backend->limit || most <= p->backend->limit) return CN_OK;
    return cn_fail(p->ctx, CN_ENOMEM, "the device gives at most %.2f GiB at once, %.2f are needed",
                   cn_gib(p->backend->limit), cn_gib(most));
}

static cn_status place_buffers(cn_plan *p)
{
    int n = p->n_buffers, n_placed = 0;
    sized *order = cn_alloc_array(p->ctx, (size_t)n + 1, sizeof *order);
    int *placed = cn_alloc_array(p->ctx, (size_t)n + 1, sizeof *placed);
    if (!order || !placed) {
        cn_free(order);
        cn_free(placed);
        return CN_ENOMEM;
    }
    for (int i = 0; i < n; i++) order[i] = (sized){p->buffers[i].bytes, i};
    qsort(order, (size_t)n, sizeof *order, by_size);
    for (int i = 0; i < n && order[i].bytes; i++) {
        cn_buffer *b = &p->buffers[order[i].buffer];
        b->offset = find_gap(p, b, placed, n_placed);
        p->arena_bytes = CN_MAX(p->arena_bytes, aligned(b->offset + b->bytes));
        int k = n_placed++;
        for (; k > 0 && p->buffers[placed[k - 1]].offset > b->offset; k--)
            placed[k] = placed[k - 1];
        placed[k] = order[i].buffer;
    }
    cn_free(order);
    cn_free(placed);
    return CN_OK;
}

static cn_status create_arrays(cn_plan *p)
{
    size_t n = (size_t)CN_MAX(p->n_nodes, 1);
    p->needed = cn_alloc0(p->ctx, n * sizeof *p->needed);
    p->fusions = cn_alloc0(p->ctx, n * sizeof *p->fusions);
    p->step_of = cn_alloc0(p->ctx, n * sizeof *p->step_of);
    p->buffer_of = cn_alloc0(p->ctx, n * sizeof *p->buffer_of);
    p->scratch_of = cn_alloc0(p->ctx, n * sizeof *p->scratch_of);
    return p->needed && p->fusions && p->step_of && p->buffer_of && p->scratch_of ? CN_OK
                                                                                  : CN_ENOMEM;
}

/* The first n_read are wanted by the host, the others by the backend's optimizer. */
static cn_status plan_outputs(cn_plan *p, cn_node *const *outputs, int n, int n_read)
{
    mark_needed(p, outputs, n);
    CN_TRY(cn_plan_fuse(p, outputs, n));
    CN_TRY(list_steps(p));
    CN_TRY(prepare_steps(p));
    CN_TRY(make_buffers(p));
    find_lifetimes(p, outputs, n);
    share_in_place(p);
    CN_TRY(check_limit(p));
    CN_TRY(place_buffers(p));
    CN_TRY(cn_plan_host_create(p, outputs, n_read));
    p->arena = p->backend->reserve(p->backend, p->ctx, p->arena_bytes);
    if (!p->arena) return CN_ENOMEM;
    cn_plan_bind(p);
    return CN_OK;
}

cn_status cn_plan_create(cn_ctx *ctx, cn_graph *g, cn_backend *b, cn_node *const *outputs,
                         int n_outputs, bool with_grads, cn_plan **out)
{
    CN_TRY(cn_graph_status(g));
    cn_status s = CN_ENOMEM;
    cn_node **all = NULL;
    int n = 0;
    cn_plan *p = cn_alloc0(ctx, sizeof *p);
    if (!p) goto fail;
    p->ctx = ctx;
    p->g = g;
    p->backend = b;
    p->n_nodes = cn_graph_size(g);
    p->dirty = true;
    p->debug = cn_debug_get();
    if ((s = create_arrays(p)) != CN_OK) goto fail;
    s = CN_ENOMEM;
    if (!(all = cn_alloc_array(ctx, (size_t)(n_outputs + p->n_nodes), sizeof(cn_node *))))
        goto fail;
    for (int i = 0; i < n_outputs; i++) all[n++] = outputs[i];
    for (int i = 0; with_grads && i < p->n_nodes; i++) {
        cn_node *w = cn_graph_node(g, i);
        if (w->op == CN_OP_PARAM && w->param->trainable && w->grad) all[n++] = w->grad;
    }
    if ((s = plan_outputs(p, all, n, n_outputs)) != CN_OK) goto fail;
    cn_free(all);
    *out = p;
    return CN_OK;
fail:
    cn_free(all);
    cn_plan_destroy(p);
    return s;
}

/* Under CN_PROFILE=1 a plan says at its end where its time went. */
static void report_profile(const cn_plan *p)
{
    cn_str text = {0};
    cn_plan_profile(p, &text);
    if (!text.failed && text.data) cn_log_lines(p->ctx, CN_LOG_INFO, text.data);
    cn_str_free(&text);
}

void cn_plan_destroy(cn_plan *p)
{
    if (!p) return;
    if (p->debug.profile) report_profile(p);
    cn_plan_forget(p);
    for (int s = 0; s < p->n_steps; s++) p->backend->release(p->backend, &p->steps[s]);
    cn_free(p->steps);
    cn_free(p->needed);
    cn_free(p->fusions);
    cn_free(p->step_of);
    cn_free(p->buffer_of);
    cn_free(p->scratch_of);
    cn_free(p->buffers);
    cn_plan_host_free(p);
    if (!p->lender) p->backend->release_reserved(p->backend, p->arena, p->arena_bytes);
    cn_free(p);
}
