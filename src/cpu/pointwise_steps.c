/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise_steps.c - steps that go element by element, and sums over rows. */
#include "cpu/cpu_ops.h"

#include <string.h>

static cn_status run_fill(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->fill(n->alpha, st->out, cn_node_elements(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_fill = {.run = run_fill};

static cn_status run_cast(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    b->k->convert(n->in[0]->dtype, st->in[0], n->dtype, st->out, cn_node_elements(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_cast = {.run = run_cast};

static cn_status run_act(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->act(n->act, n->alpha, st->in[0], st->out, cn_node_elements(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_act = {.run = run_act};

static cn_status run_act_dx(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->act_dx(n->act, n->alpha, st->in[0], st->in[1], st->out,
                                cn_node_elements(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_act_dx = {.run = run_act_dx};

static cn_status run_geglu(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->geglu(st->in[0], st->out, rows_of(n), cn_channels(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_geglu = {.run = run_geglu};

static cn_status run_geglu_dx(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->geglu_dx(st->in[0], st->in[1], st->out, rows_of(n), cn_channels(n) / 2);
    return CN_OK;
}

const cn_cpu_op cn_cpu_geglu_dx = {.run = run_geglu_dx};

/* The sum of a parameter's gradients has as many elements as its physical layout. */
static cn_status prepare_add(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    const cn_param *p = st->node->param;
    (void)b, (void)ctx;
    if (p) st->out_bytes = (size_t)cn_param_physical(p) * sizeof(float);
    return CN_OK;
}

/* Copies a's samples around those that b is added to, unless a's buffer is the result's. */
static void add_samples(cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node;
    const int64_t each = cn_node_elements(n) / n->shape[0],
                  size = (int64_t)cn_dtype_bytes(n->dtype);
    const int64_t from = n->offset, to = from + n->in[1]->shape[0], all = n->shape[0];
    const char *a = st->in[0];
    char *y = st->out;
    if (y != a) {
        cn_cpu_stored(b, n)->copy_channels(a, each, y, each, each, from);
        cn_cpu_stored(b, n)->copy_channels(a + to * each * size, each, y + to * each * size, each,
                                           each, all - to);
    }
    cn_cpu_stored(b, n)->add(a + from * each * size, st->in[1], y + from * each * size,
                             (to - from) * each);
}

static cn_status run_add(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    if (n->in[0]->shape[0] != n->in[1]->shape[0]) {
        add_samples(b, st);
        return CN_OK;
    }
    const int64_t elements = (int64_t)(st->out_bytes / cn_dtype_bytes(n->dtype));
    cn_cpu_stored(b, n)->add(st->in[0], st->in[1], st->out, elements);
    return CN_OK;
}

const cn_cpu_op cn_cpu_add = {.prepare = prepare_add, .run = run_add};

static cn_status run_scale(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->scale(st->in[0], n->alpha, st->out, cn_node_elements(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_scale = {.run = run_scale};

static cn_status run_gate(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->gate(st->in[0], st->in[1], st->out, rows_of(n), cn_channels(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_gate = {.run = run_gate};

static cn_status run_add_channel(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->add_channel(st->in[0], st->in[1], st->out, n->shape[0],
                                     cn_cpu_positions(n), cn_channels(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_add_channel = {.run = run_add_channel};

static cn_status prepare_sum_channel(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)ctx;
    st->scratch_bytes = (size_t)b->threads * (size_t)cn_channels(st->node) * sizeof(float);
    return CN_OK;
}

static cn_status run_sum_channel(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node, *x = n->in[0];
    cn_cpu_stored(b, x)->sum_rows(st->in[0], st->out, n->shape[0], cn_cpu_positions(x),
                                  cn_channels(n), st->scratch);
    return CN_OK;
}

const cn_cpu_op cn_cpu_sum_channel = {.prepare = prepare_sum_channel, .run = run_sum_channel};

static cn_status run_add_rows(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->add_rows(st->in[0], st->in[1], st->out, n->shape[0],
                                  cn_node_elements(n) / n->shape[0]);
    return CN_OK;
}

const cn_cpu_op cn_cpu_add_rows = {.run = run_add_rows};

/* The table may have more rows than there are tokens. */
static cn_status run_sum_batch(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node, *x = n->in[0];
    const int64_t each = cn_node_elements(x) / x->shape[0], rest = cn_node_elements(n) - each;
    cn_cpu_stored(b, n)->sum_batch(st->in[0], st->out, x->shape[0], each);
    memset((float *)st->out + each, 0, (size_t)rest * sizeof(float));
    return CN_OK;
}

const cn_cpu_op cn_cpu_sum_batch = {.run = run_sum_batch};
