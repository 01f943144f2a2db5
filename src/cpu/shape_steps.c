/* SPDX-License-Identifier: Apache-2.0 */
/* shape_steps.c - steps that move values: channels joined and cut out, pictures enlarged, pooled,
 * resized and padded. */
#include "cpu/cpu_ops.h"

static cn_status run_concat(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    const int64_t C = cn_channels(n), A = cn_channels(n->in[0]), B = C - A;
    const cn_stored_kernels *k = cn_cpu_stored(b, n);
    k->copy_channels(st->in[0], A, st->out, C, A, rows_of(n));
    k->copy_channels(st->in[1], B, (char *)st->out + (size_t)A * cn_dtype_bytes(n->dtype), C, B,
                     rows_of(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_concat = {.run = run_concat};

static cn_status run_slice(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    const int64_t C = cn_channels(n);
    const char *first = (const char *)st->in[0] + (size_t)n->offset * cn_dtype_bytes(n->dtype);
    cn_cpu_stored(b, n)->copy_channels(first, cn_channels(n->in[0]), st->out, C, C, rows_of(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_slice = {.run = run_slice};

static cn_window window_of(const cn_node *n)
{
    const cn_node *x = n->in[0];
    return (cn_window){.N = n->shape[0],
                       .h = x->shape[1],
                       .w = x->shape[2],
                       .H = n->shape[1],
                       .W = n->shape[2],
                       .C = n->shape[3],
                       .kernel = n->kernel_h,
                       .stride = n->stride,
                       .top = n->pad[0],
                       .left = n->pad[1]};
}

static cn_status run_upsample(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_window w = window_of(st->node);
    cn_cpu_stored(b, st->node)->upsample(&w, st->in[0], st->out);
    return CN_OK;
}

const cn_cpu_op cn_cpu_upsample = {.run = run_upsample};

/* Its output is the smaller picture. */
static cn_status run_upsample_dx(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node, *x = n->in[0];
    const cn_window w = {.N = n->shape[0],
                         .h = n->shape[1],
                         .w = n->shape[2],
                         .H = x->shape[1],
                         .W = x->shape[2],
                         .C = n->shape[3]};
    cn_cpu_stored(b, n)->upsample_dx(&w, st->in[0], st->out);
    return CN_OK;
}

const cn_cpu_op cn_cpu_upsample_dx = {.run = run_upsample_dx};

static cn_status run_max_pool(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_window w = window_of(st->node);
    cn_cpu_stored(b, st->node)->max_pool(&w, st->in[0], st->out);
    return CN_OK;
}

const cn_cpu_op cn_cpu_max_pool = {.run = run_max_pool};

static cn_status run_mean_pool(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_window w = window_of(st->node);
    cn_cpu_stored(b, st->node)->mean_pool(&w, st->in[0], st->out);
    return CN_OK;
}

const cn_cpu_op cn_cpu_mean_pool = {.run = run_mean_pool};

static cn_status run_resize(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_window w = window_of(st->node);
    cn_cpu_stored(b, st->node)->resize(&w, st->node->align_corners, st->in[0], st->out);
    return CN_OK;
}

const cn_cpu_op cn_cpu_resize = {.run = run_resize};

static cn_status run_pad(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_window w = window_of(st->node);
    cn_cpu_stored(b, st->node)->pad(&w, st->node->reflect, st->in[0], st->out);
    return CN_OK;
}

const cn_cpu_op cn_cpu_pad = {.run = run_pad};
