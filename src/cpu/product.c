/* SPDX-License-Identifier: Apache-2.0 */
/* product.c - convolutions and matrix products as steps: y = x w^T + b, dx = dy w, dw = dy^T x.
 *
 * They compute in the type of their activations. Weights stored in another type (locked ones in
 * F16, BF16 or Q8 under F32, trainable F32 ones under BF16) are expanded to the start of the step's
 * scratch before each run; gradients of parameters are F32. Sums that the plan fused are the
 * primitive's own where it can, else a pass of their own after it.
 */
#include "cpu/cpu_ops.h"
#include "cpu/conv_algo.h"

typedef struct product {
    cn_dnnl_prim *prim;
    cn_conv_algo *own; /* instead, with all sums; it reads F32, F16 and BF16 as they are stored */
    bool add_residual, add_shift; /* after the primitive */
    cn_act act;                   /* after these */
    size_t expanded_bytes; /* of the weights, at the start of scratch; 0 when they are used as
                              stored */
} product;

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* Room for w's elements in `type` at the start of scratch. */
static void expand_first(cn_step *st, product *p, const cn_param *w, cn_dtype type)
{
    p->expanded_bytes = aligned(cn_dtype_size(type, cn_param_physical(w)));
    st->scratch_bytes += p->expanded_bytes;
}

/* Keeps the primitive; w: the weights it reads, NULL for a weight gradient. */
static cn_status keep(cn_ctx *ctx, cn_step *st, cn_dnnl_prim *prim, const cn_param *w,
                      cn_dtype type)
{
    product *p = cn_alloc0(ctx, sizeof *p);
    if (!p) {
        cn_dnnl_prim_destroy(prim);
        return CN_ENOMEM;
    }
    p->prim = prim;
    if (w && w->dtype != type) expand_first(st, p, w, type);
    st->state = p;
    return CN_OK;
}

/* What of the step's sums the primitive doesn't make. */
static void sums_left(cn_step *st, bool residual, bool shift, cn_act act)
{
    product *p = st->state;
    p->act = act ? CN_ACT_NONE : st->act;
    p->add_residual = st->residual && !residual;
    p->add_shift = st->shift && !shift;
}

void cn_cpu_product_release(cn_step *st)
{
    product *p = st->state;
    if (!p) return;
    cn_dnnl_prim_destroy(p->prim);
    cn_conv_algo_destroy(p->own);
    cn_free(p);
    st->state = NULL;
}

static cn_dnnl_conv_shape conv_shape(const cn_node *attributes, const cn_node *x, const cn_node *y,
                                     bool bias)
{
    const cn_node *a = attributes;
    return (cn_dnnl_conv_shape){.N = x->shape[0],
                                .H = x->shape[1],
                                .W = x->shape[2],
                                .I = x->shape[3],
                                .wanted = a->wanted,
                                .O = y->shape[3],
                                .h = y->shape[1],
                                .w = y->shape[2],
                                .kernel_h = a->kernel_h,
                                .kernel_w = a->kernel_w,
                                .stride = a->stride,
                                .dilation = a->dilation,
                                .groups = a->groups,
                                .pad = {a->pad[0], a->pad[1], a->pad[2], a->pad[3]},
                                .bias = bias,
                                .type = a->in[0]->dtype,
                                .result = a->dtype};
}

static cn_status prepare_own(cpu_backend *b, cn_ctx *ctx, cn_conv_algo_kind way,
                             cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_param *w,
                             cn_step *st)
{
    product *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    const cn_status s = cn_conv_algo_prepare(b, ctx, way, kind, c, w, &p->own, &st->scratch_bytes);
    if (s != CN_OK) {
        cn_free(p);
        return s;
    }
    if (kind == CN_DNNL_CONV_DW)
        st->out_bytes = (size_t)cn_param_physical(w) * sizeof(float);
    else if (w->dtype == CN_Q8)
        expand_first(st, p, w, c->type);
    st->state = p;
    return CN_OK;
}

static cn_status prepare_conv(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    const cn_node *n = st->node;
    cn_dnnl_conv_kind kind = n->op == CN_OP_CONV2D      ? CN_DNNL_CONV
                             : n->op == CN_OP_CONV2D_DX ? CN_DNNL_CONV_DX
                                                        : CN_DNNL_CONV_DW;
    const cn_node *x = kind == CN_DNNL_CONV_DX ? n : n->in[0];
    const cn_node *y = kind == CN_DNNL_CONV ? n : n->in[kind == CN_DNNL_CONV_DX ? 0 : 1];
    cn_param *w = kind == CN_DNNL_CONV_DW ? n->param : n->in[1]->param;
    bool bias = kind == CN_DNNL_CONV && n->in[2];
    cn_dnnl_conv_shape c = conv_shape(n, x, y, bias);
    st->flops =
        2.0 * (double)cn_node_elements(y) * (double)(c.I / c.groups * c.kernel_h * c.kernel_w);
    c.expand = kind != CN_DNNL_CONV_DW && w->dtype != c.type;
    const cn_conv_algo_kind way = cn_conv_algo_choose(kind, &c, b->bf16, b->threads);
    if (way != CN_CONV_ONEDNN) {
        if (c.wanted) st->flops *= (double)c.wanted / (double)c.I;
        CN_TRY(cn_dnnl_conv_claim(ctx, b->dnnl, &c, w));
        return prepare_own(b, ctx, way, kind, &c, w, st);
    }
    cn_dnnl_prim *p = NULL;
    c.residual = st->residual != NULL;
    c.shift = st->shift && c.N == 1;
    c.act = c.shift || !st->shift ? st->act : CN_ACT_NONE;
    c.act_alpha = st->act_alpha;
    cn_status s = cn_dnnl_conv_prepare(ctx, b->dnnl, kind, &c, w, &p, &st->scratch_bytes);
    if (s == CN_EMISMATCH) {
        c.residual = c.shift = false;
        c.act = CN_ACT_NONE;
        s = cn_dnnl_conv_prepare(ctx, b->dnnl, kind, &c, w, &p, &st->scratch_bytes);
    }
    if (s != CN_OK) return s;
    if (kind == CN_DNNL_CONV_DW) st->out_bytes = (size_t)cn_param_physical(w) * sizeof(float);
    CN_TRY(keep(ctx, st, p, kind == CN_DNNL_CONV_DW ? NULL : w, c.type));
    sums_left(st, c.residual, c.shift, c.act);
    return CN_OK;
}

/* Weights are packed where only forward products read them, in later phases of training too. A data
 * gradient loses more by packed weights than the forward gains; a weight gradient would have to be
 * brought into their layout. */
static bool packing_pays(const cn_node *x, const cn_param *w)
{
    return !w->learns && !x->needs_grad;
}

/* The product as a 1x1 convolution. */
static cn_dnnl_conv_shape conv_of(const cn_dnnl_product *m, int64_t N)
{
    return (cn_dnnl_conv_shape){.N = N,
                                .H = 1,
                                .W = m->R / N,
                                .I = m->I,
                                .O = m->O,
                                .h = 1,
                                .w = m->R / N,
                                .kernel_h = 1,
                                .kernel_w = 1,
                                .stride = 1,
                                .dilation = 1,
                                .groups = 1,
                                .bias = m->bias,
                                .type = m->type,
                                .result = m->result};
}

/* Its way. Over patches: where weights are stored plain, in another type; else they suit oneDNN as
 * they are. */
static cn_conv_algo_kind product_algo(const cpu_backend *b, cn_dnnl_conv_kind kind,
                                      const cn_dnnl_conv_shape *c, bool pack, const cn_param *w)
{
    const cn_conv_algo_kind way = cn_conv_algo_choose(kind, c, b->bf16, b->threads);
    const bool plain = !pack && w->dtype != CN_Q8 && cn_dnnl_is_plain(w);
    if (way == CN_CONV_STREAM || (way == CN_CONV_PATCHES && c->expand && plain)) return way;
    return CN_CONV_ONEDNN;
}

static cn_status prepare_linear(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    const cn_node *n = st->node;
    const bool forward = n->op == CN_OP_LINEAR, dw = n->op == CN_OP_LINEAR_DW;
    const cn_node *x = n->op == CN_OP_LINEAR_DX ? n : n->in[0];
    const cn_node *y = forward ? n : n->in[dw ? 1 : 0];
    cn_param *w = dw ? n->param : n->in[1]->param;
    cn_dnnl_product m = {.R = rows_of(x),
                         .I = cn_channels(x),
                         .O = cn_channels(y),
                         .type = n->in[0]->dtype,
                         .result = n->dtype};
    cn_dnnl_prim *p = NULL;
    cn_status s;
    st->flops = 2.0 * (double)m.R * (double)m.I * (double)m.O;
    m.bias = forward && n->in[2];
    m.pack = forward && packing_pays(x, w);
    const cn_dnnl_conv_kind kind = forward ? CN_DNNL_CONV : dw ? CN_DNNL_CONV_DW : CN_DNNL_CONV_DX;
    cn_dnnl_conv_shape c = conv_of(&m, x->shape[0]);
    c.expand = !dw && w->dtype != m.type;
    const cn_conv_algo_kind way = product_algo(b, kind, &c, m.pack, w);
    if (way != CN_CONV_ONEDNN) {
        CN_TRY(cn_dnnl_linear_claim(ctx, b->dnnl, &m, w));
        return prepare_own(b, ctx, way, kind, &c, w, st);
    }
    if (forward) {
        m.residual = st->residual != NULL;
        m.shift = st->shift && x->shape[0] == 1;
        m.act = m.shift || !st->shift ? st->act : CN_ACT_NONE;
        m.act_alpha = st->act_alpha;
        s = cn_dnnl_linear_prepare(ctx, b->dnnl, &m, w, &p, &st->scratch_bytes);
        if (s == CN_EMISMATCH) {
            m.residual = m.shift = false;
            m.act = CN_ACT_NONE;
            s = cn_dnnl_linear_prepare(ctx, b->dnnl, &m, w, &p, &st->scratch_bytes);
        }
    } else {
        s = cn_dnnl_linear_gradient_prepare(ctx, b->dnnl, &m, dw, w, &p, &st->scratch_bytes);
    }
    if (s != CN_OK) return s;
    if (dw) st->out_bytes = (size_t)cn_param_physical(w) * sizeof(float);
    CN_TRY(keep(ctx, st, p, dw ? NULL : w, m.type));
    sums_left(st, m.residual, m.shift, m.act);
    return CN_OK;
}

static cn_status run_product(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const product *p = st->state;
    const void *x = st->in[0], *w = st->in[1];
    char *scratch = st->scratch;
    if (p->expanded_bytes) {
        const cn_param *q = n->in[1]->param;
        cn_dtype type = n->in[0]->dtype;
        b->k->convert(q->dtype, w, type, scratch, cn_param_physical(q));
        w = scratch;
        scratch += p->expanded_bytes;
    }
    if (p->own) {
        cn_conv_algo_run(b, p->own, st, w, scratch);
        return CN_OK;
    }
    const bool forward = n->op == CN_OP_CONV2D || n->op == CN_OP_LINEAR;
    cn_dnnl_args g = {.a = x,
                      .b = w,
                      .bias = forward ? st->in[2] : NULL,
                      .residual = st->residual_data,
                      .shift = st->shift_data,
                      .c = st->out,
                      .scratch = scratch};
    CN_TRY(cn_dnnl_run(ctx, b->dnnl, p->prim, &g));
    const cn_stored_kernels *k = cn_cpu_stored(b, n);
    const int64_t elements = cn_node_elements(n), C = cn_channels(n), N = n->shape[0];
    if (p->add_shift) k->add_channel(st->out, st->shift_data, st->out, N, elements / N / C, C);
    if (p->add_residual) k->add(st->out, st->residual_data, st->out, elements);
    if (p->act) k->act(p->act, st->act_alpha, st->out, st->out, elements);
    return CN_OK;
}

const cn_cpu_op cn_cpu_conv2d = {prepare_conv, run_product};
const cn_cpu_op cn_cpu_conv2d_dx = {prepare_conv, run_product};
const cn_cpu_op cn_cpu_conv2d_dw = {prepare_conv, run_product};
const cn_cpu_op cn_cpu_linear = {prepare_linear, run_product};
const cn_cpu_op cn_cpu_linear_dx = {prepare_linear, run_product};
const cn_cpu_op cn_cpu_linear_dw = {prepare_linear, run_product};
