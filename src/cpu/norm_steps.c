/* SPDX-License-Identifier: Apache-2.0 */
/* norm_steps.c - steps of group and layer norms, forward and gradient. */
#include "cpu/cpu_ops.h"

static cn_status prepare_group(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    const cn_node *n = st->node;
    (void)ctx;
    st->scratch_bytes = cn_norm_scratch_bytes(n->shape[0], cn_channels(n), b->threads);
    return CN_OK;
}

static cn_status run_group_norm(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->group_norm(st->in[0], st->in[1], st->in[2], n->n_in > 3 ? st->in[3] : NULL,
                                    st->out, st->aux[0], n->shape[0], cn_cpu_positions(n),
                                    cn_channels(n), n->groups, n->eps, n->act == CN_ACT_SILU,
                                    st->scratch);
    return CN_OK;
}

const cn_cpu_op cn_cpu_group_norm = {.prepare = prepare_group, .run = run_group_norm};

static cn_status run_group_norm_grad(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n->in[0])
        ->group_norm_grad(st->in[0], st->in[1], st->in[2], st->in[3], st->in[4], st->out,
                          st->aux[0], st->aux[1], n->shape[0], cn_cpu_positions(n), cn_channels(n),
                          n->groups, n->act == CN_ACT_SILU, st->scratch);
    return CN_OK;
}

const cn_cpu_op cn_cpu_group_norm_grad = {.prepare = prepare_group, .run = run_group_norm_grad};

static cn_status run_layer_norm(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n)->layer_norm(st->in[0], st->in[1], st->in[2], st->out, st->aux[0],
                                    rows_of(n), cn_channels(n), n->eps);
    return CN_OK;
}

const cn_cpu_op cn_cpu_layer_norm = {.run = run_layer_norm};

static cn_status prepare_layer_grad(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)ctx;
    st->scratch_bytes = (size_t)b->threads * 2 * (size_t)cn_channels(st->node) * sizeof(float);
    return CN_OK;
}

static cn_status run_layer_norm_grad(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    cn_cpu_stored(b, n->in[0])
        ->layer_norm_grad(st->in[0], st->in[1], st->in[2], st->in[3], st->out, st->aux[0],
                          st->aux[1], rows_of(n), cn_channels(n), st->scratch);
    return CN_OK;
}

const cn_cpu_op cn_cpu_layer_norm_grad = {.prepare = prepare_layer_grad,
                                          .run = run_layer_norm_grad};
