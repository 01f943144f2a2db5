/* SPDX-License-Identifier: Apache-2.0 */
/* embed_steps.c - steps of tables read by number, and of the timesteps' sines. */
#include "cpu/cpu_ops.h"

static cn_status check_ids(cn_ctx *ctx, const cn_node *ids, const int32_t *v, int64_t V)
{
    for (int64_t i = 0; i < cn_node_elements(ids); i++)
        if (v[i] < 0 || v[i] >= V)
            return cn_fail(ctx, CN_EINVAL, "token %d is outside the vocabulary of %lld", v[i],
                           (long long)V);
    return CN_OK;
}

static cn_status run_embed(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    CN_TRY(check_ids(ctx, n->in[1], st->in[1], n->in[0]->shape[0]));
    b->k->embed(st->in[0], st->in[1], st->out, rows_of(n), cn_channels(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_embed = {.run = run_embed};

static cn_status run_embed_dw(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    b->k->embed_dw(st->in[0], st->in[1], st->out, cn_node_elements(n->in[0]), n->shape[0],
                   n->shape[1]);
    return CN_OK;
}

const cn_cpu_op cn_cpu_embed_dw = {.run = run_embed_dw};

static cn_status run_timestep(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    b->k->timestep(st->in[0], st->out, n->shape[0], n->shape[1]);
    return CN_OK;
}

const cn_cpu_op cn_cpu_timestep = {.run = run_timestep};
