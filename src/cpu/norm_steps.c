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

/* What both directions of a group norm know of it. */
static cn_norm_args group_of(const cn_step *st)
{
    const cn_node *n = st->node;
    return (cn_norm_args){.N = n->shape[0],
                          .P = cn_cpu_positions(n),
                          .C = cn_channels(n),
                          .groups = n->groups,
                          .eps = n->eps,
                          .silu = n->act == CN_ACT_SILU,
                          .scratch = st->scratch};
}

static cn_status run_group_norm(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    cn_norm_args a = group_of(st);
    a.x = st->in[0];
    a.gamma = st->in[1];
    a.beta = st->in[2];
    a.given = st->node->n_in > 3 ? st->in[3] : NULL;
    a.y = st->out;
    a.stats = st->aux[0];
    cn_cpu_stored(b, st->node)->group_norm(&a);
    return CN_OK;
}

const cn_cpu_op cn_cpu_group_norm = {.prepare = prepare_group, .run = run_group_norm};

static cn_status run_group_norm_grad(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    cn_norm_args a = group_of(st);
    a.dy = st->in[0];
    a.x = st->in[1];
    a.given = st->in[2];
    a.gamma = st->in[3];
    a.beta = st->in[4];
    a.dx = st->out;
    a.dgamma = st->aux[0];
    a.dbeta = st->aux[1];
    cn_cpu_stored(b, st->node->in[0])->group_norm_grad(&a);
    return CN_OK;
}

const cn_cpu_op cn_cpu_group_norm_grad = {.prepare = prepare_group, .run = run_group_norm_grad};

static cn_status run_layer_norm(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    const cn_norm_args a = {.N = rows_of(n),
                            .C = cn_channels(n),
                            .eps = n->eps,
                            .x = st->in[0],
                            .gamma = st->in[1],
                            .beta = st->in[2],
                            .y = st->out,
                            .stats = st->aux[0]};
    cn_cpu_stored(b, n)->layer_norm(&a);
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
    const cn_norm_args a = {.N = rows_of(n),
                            .C = cn_channels(n),
                            .dy = st->in[0],
                            .x = st->in[1],
                            .given = st->in[2],
                            .gamma = st->in[3],
                            .dx = st->out,
                            .dgamma = st->aux[0],
                            .dbeta = st->aux[1],
                            .scratch = st->scratch};
    cn_cpu_stored(b, n->in[0])->layer_norm_grad(&a);
    return CN_OK;
}

const cn_cpu_op cn_cpu_layer_norm_grad = {.prepare = prepare_layer_grad,
                                          .run = run_layer_norm_grad};
