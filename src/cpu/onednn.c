/* SPDX-License-Identifier: Apache-2.0 */
/* onednn.c - every call to oneDNN (version 2.x, Debian's libdnnl).
 *
 * Activations are NHWC. Convolution weights are in the layout that the forward primitive calls for;
 * the data gradient wants another one and gets it through scratch. A product's weights are in that
 * of its forward primitive where the caller calls for it, else plain. Scratch is the caller's
 * ("user scratchpad").
 */
#include "cpu/onednn.h"

#include <dnnl.h>
#include <omp.h>
#include <signal.h>
#include <string.h>

struct cn_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    cn_dnnl_put put;
    cn_backend *backend;
};

enum { MAX_ARGS = 7 };

struct cn_dnnl_prim {
    dnnl_primitive_t prim,
        reorder; /* reorder: weights to (before) or from (after) the wanted layout */
    dnnl_exec_arg_t args[MAX_ARGS];
    int n_args;
    dnnl_memory_t reorder_from, reorder_to;
    size_t reorder_bytes; /* at the start of scratch */
    bool reorder_after;
    bool moves_stack; /* its threads' stack pointers are elsewhere while it runs */
    int arg_a, arg_b, arg_bias, arg_c, arg_residual, arg_shift; /* 0: absent */
};

static cn_status failed(cn_ctx *ctx, dnnl_status_t s, const char *what)
{
    return cn_fail(ctx, s == dnnl_out_of_memory ? CN_ENOMEM : CN_EINTERNAL,
                   "oneDNN could not %s (status %d)", what, (int)s);
}

#define DNNL_TRY(expr, what)                \
    do {                                    \
        dnnl_status_t dnnl_s_ = (expr);     \
        if (dnnl_s_ != dnnl_success) {      \
            s = failed(ctx, dnnl_s_, what); \
            goto fail;                      \
        }                                   \
    } while (0)

cn_status cn_dnnl_create(cn_ctx *ctx, cn_backend *b, cn_dnnl_put put, cn_dnnl **out)
{
    cn_status s = CN_ENOMEM;
    cn_dnnl *d = cn_alloc0(ctx, sizeof *d);
    if (!d) goto fail;
    d->put = put;
    d->backend = b;
    DNNL_TRY(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "start its CPU engine");
    DNNL_TRY(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags),
             "create a stream");
    *out = d;
    return CN_OK;
fail:
    cn_dnnl_destroy(d);
    return s;
}

void cn_dnnl_destroy(cn_dnnl *d)
{
    if (!d) return;
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    cn_free(d);
}

cn_dnnl_isa cn_dnnl_allows(void)
{
    const unsigned have = (unsigned)dnnl_get_effective_cpu_isa();
#define HAS(isa) ((have & (isa)) == (isa))
    return (cn_dnnl_isa){.avx2 = HAS(dnnl_cpu_isa_avx2),
                         .avx512 = HAS(dnnl_cpu_isa_avx512_core),
                         .bf16 = HAS(dnnl_cpu_isa_avx512_core_bf16),
                         .amx = HAS(dnnl_cpu_isa_avx512_core_amx)};
#undef HAS
}

void cn_dnnl_prim_destroy(cn_dnnl_prim *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_args; i++) dnnl_memory_destroy(p->args[i].memory);
    if (p->reorder_from) dnnl_memory_destroy(p->reorder_from);
    if (p->reorder_to) dnnl_memory_destroy(p->reorder_to);
    if (p->reorder) dnnl_primitive_destroy(p->reorder);
    if (p->prim) dnnl_primitive_destroy(p->prim);
    cn_free(p);
}

static dnnl_status_t add_arg(cn_dnnl *d, cn_dnnl_prim *p, int arg, const dnnl_memory_desc_t *md)
{
    dnnl_memory_t m = NULL;
    dnnl_status_t s = dnnl_memory_create(&m, md, d->engine, DNNL_MEMORY_NONE);
    if (s != dnnl_success) return s;
    p->args[p->n_args++] = (dnnl_exec_arg_t){arg, m};
    return dnnl_success;
}

/* Points an argument at data; NULL arguments (no bias) are absent from the list. */
static dnnl_status_t set_arg(cn_dnnl_prim *p, int arg, const void *data)
{
    for (int i = 0; i < p->n_args; i++)
        if (p->args[i].arg == arg)
            return dnnl_memory_set_data_handle(p->args[i].memory, (void *)(uintptr_t)data);
    return dnnl_success;
}

static const dnnl_memory_desc_t *md_of(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

/* --- layouts ---------------------------------------------------------------------------------- */

static dnnl_data_type_t type_of(cn_dtype t)
{
    return t == CN_BF16 ? dnnl_bf16 : dnnl_f32;
}

static int64_t place(const dnnl_memory_desc_t *md, int dim, int64_t i)
{
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    int64_t at = 0, stride = 1;
    for (int k = b->inner_nblks - 1; k >= 0; k--) {
        if (b->inner_idxs[k] == dim) {
            at += i % b->inner_blks[k] * stride;
            i /= b->inner_blks[k];
        }
        stride *= b->inner_blks[k];
    }
    return at + i * b->strides[dim];
}

/* A grouped convolution's layout has the group as a dimension of its own, before the outputs of one
 * group; that of a matrix has no dimensions for the 1x1 of a kernel. */
void cn_dnnl_places(const cn_param *w, int dim, int64_t *at)
{
    const dnnl_memory_desc_t *md = w->layout;
    const int grouped = CN_MAX(md->ndims - w->ndim, 0);
    const int64_t each = md->dims[grouped];
    if (dim >= md->ndims) {
        at[0] = 0;
        return;
    }
    for (int64_t i = 0; i < w->shape[dim]; i++) {
        if (dim > 0)
            at[i] = place(md, dim + grouped, i);
        else if (grouped)
            at[i] = md->offset0 + place(md, 0, i / each) + place(md, 1, i % each);
        else
            at[i] = md->offset0 + place(md, 0, i);
    }
}

/* The same order of elements in another type. */
static dnnl_memory_desc_t in_type(const dnnl_memory_desc_t *md, dnnl_data_type_t type)
{
    dnnl_memory_desc_t other = *md;
    other.data_type = type;
    return other;
}

/* Whether w's elements are in the published order. */
bool cn_dnnl_is_plain(const cn_param *w)
{
    const dnnl_memory_desc_t *md = w->layout;
    if (!md) return true;
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    return md->ndims == 2 && b->inner_nblks == 0 && b->strides[0] == md->dims[1] &&
           b->strides[1] == 1;
}

/* Fixes w's physical layout, an order of elements, and moves its values there, if it has any. */
static cn_status claim_layout(cn_ctx *ctx, const cn_dnnl *d, cn_param *w,
                              const dnnl_memory_desc_t *md)
{
    dnnl_memory_desc_t *order = cn_alloc(ctx, sizeof *order);
    if (!order) return CN_ENOMEM;
    *order = in_type(md, dnnl_f32);
    const int64_t elements = (int64_t)(dnnl_memory_desc_get_size(order) / sizeof(float));
    const size_t bytes = cn_dtype_size(w->dtype, elements);
    cn_param laid = *w;
    laid.layout = order;
    laid.laid_elements = elements;
    if (w->data && !cn_dnnl_is_plain(&laid)) {
        laid.data = d->backend->alloc(d->backend, ctx, bytes);
        cn_status s =
            laid.data ? d->put(ctx, &laid, w->dtype, w->data, w->dtype, laid.data) : CN_ENOMEM;
        if (s != CN_OK) {
            d->backend->free(d->backend, laid.data, bytes);
            cn_free(order);
            return s;
        }
        cn_param_give(d->backend, w, laid.data);
    }
    w->layout = order;
    w->layout_bytes = sizeof *order;
    w->laid_elements = elements;
    w->data_bytes = bytes;
    return CN_OK;
}

static dnnl_status_t append_act(dnnl_post_ops_t ops, cn_act act, float alpha)
{
    switch (act) {
    case CN_ACT_NONE: return dnnl_success;
    case CN_ACT_RELU: return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0);
    case CN_ACT_RELU6: return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_clip, 0, 6);
    case CN_ACT_LEAKY_RELU:
        return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, alpha, 0);
    default: return dnnl_unimplemented;
    }
}

/* User scratch, and what a forward primitive does with its result: first the residual (like y),
 * then the shift, then the activation. */
static dnnl_status_t make_attr(const dnnl_memory_desc_t *residual, const dnnl_memory_desc_t *shift,
                               cn_act act, float act_alpha, dnnl_primitive_attr_t *out)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success) s = dnnl_post_ops_create(&ops);
    if (s == dnnl_success && residual)
        s = dnnl_post_ops_append_binary(ops, dnnl_binary_add, residual);
    if (s == dnnl_success && shift) s = dnnl_post_ops_append_binary(ops, dnnl_binary_add, shift);
    if (s == dnnl_success) s = append_act(ops, act, act_alpha);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    if (s == dnnl_success)
        *out = attr;
    else if (attr)
        dnnl_primitive_attr_destroy(attr);
    return s;
}

static dnnl_status_t add_sums(cn_dnnl *d, cn_dnnl_prim *p, const dnnl_memory_desc_t *residual,
                              const dnnl_memory_desc_t *shift)
{
    dnnl_status_t s = dnnl_success;
    if (residual) {
        p->arg_residual = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;
        s = add_arg(d, p, p->arg_residual, residual);
    }
    if (s == dnnl_success && shift) {
        p->arg_shift = DNNL_ARG_ATTR_MULTIPLE_POST_OP(residual ? 1 : 0) | DNNL_ARG_SRC_1;
        s = add_arg(d, p, p->arg_shift, shift);
    }
    return s;
}

/* Whether oneDNN's implementation is of a kind: "ref", "gemm". */
static bool is_of_kind(const_dnnl_primitive_desc_t pd, const char *kind)
{
    const char *name = NULL;
    dnnl_status_t s = dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return s == dnnl_success && name && strstr(name, kind);
}

/* Reference implementations are far slower than others and a separate sum. */
static bool is_reference(const_dnnl_primitive_desc_t pd)
{
    return is_of_kind(pd, "ref");
}

/* --- convolution ------------------------------------------------------------------------------ */

typedef struct conv_mds {
    dnnl_memory_desc_t x, w, b, y, shift;
    dnnl_dims_t strides, dilates, pad_before, pad_after;
} conv_mds;

static dnnl_status_t describe_conv(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, conv_mds *m)
{
    const int64_t G = c->groups;
    dnnl_dims_t x = {c->N, c->I, c->H, c->W}, w = {c->O, c->I, c->kernel_h, c->kernel_w};
    dnnl_dims_t grouped = {G, c->O / G, c->I / G, c->kernel_h, c->kernel_w};
    dnnl_dims_t y = {c->N, c->O, c->h, c->w}, b = {c->O};
    m->strides[0] = m->strides[1] = c->stride;
    m->dilates[0] = m->dilates[1] = c->dilation - 1;
    m->pad_before[0] = c->pad[0];
    m->pad_before[1] = c->pad[1];
    m->pad_after[0] = c->pad[2];
    m->pad_after[1] = c->pad[3];
    const dnnl_data_type_t type = type_of(c->type), result = type_of(c->result);
    const dnnl_data_type_t x_type = kind == CN_DNNL_CONV_DX ? result : type;
    const dnnl_data_type_t y_type = kind == CN_DNNL_CONV ? result : type;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&m->x, 4, x, x_type, dnnl_nhwc);
    if (s == dnnl_success) s = dnnl_memory_desc_init_by_tag(&m->y, 4, y, y_type, dnnl_nhwc);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&m->w, G > 1 ? 5 : 4, G > 1 ? grouped : w, type,
                                         dnnl_format_tag_any);
    if (s == dnnl_success) s = dnnl_memory_desc_init_by_tag(&m->b, 1, b, dnnl_f32, dnnl_a);
    dnnl_dims_t each = {1, c->O, 1, 1};
    if (s == dnnl_success) s = dnnl_memory_desc_init_by_tag(&m->shift, 4, each, y_type, dnnl_nhwc);
    return s;
}

static dnnl_status_t conv_pd(cn_dnnl *d, cn_dnnl_conv_kind kind, const conv_mds *m,
                             const cn_dnnl_conv_shape *c, const_dnnl_primitive_desc_t hint,
                             dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t cd;
    dnnl_memory_desc_t dw = in_type(&m->w, dnnl_f32);
    dnnl_status_t s;
    if (kind == CN_DNNL_CONV)
        s = dnnl_dilated_convolution_forward_desc_init(
            &cd, dnnl_forward_training, dnnl_convolution_direct, &m->x, &m->w,
            c->bias ? &m->b : NULL, &m->y, m->strides, m->dilates, m->pad_before, m->pad_after);
    else if (kind == CN_DNNL_CONV_DX)
        s = dnnl_dilated_convolution_backward_data_desc_init(&cd, dnnl_convolution_direct, &m->x,
                                                             &m->w, &m->y, m->strides, m->dilates,
                                                             m->pad_before, m->pad_after);
    else
        s = dnnl_dilated_convolution_backward_weights_desc_init(
            &cd, dnnl_convolution_direct, &m->x, &dw, NULL, &m->y, m->strides, m->dilates,
            m->pad_before, m->pad_after);
    if (s != dnnl_success) return s;
    const bool sums = kind == CN_DNNL_CONV;
    dnnl_primitive_attr_t attr;
    s = make_attr(sums && c->residual ? &m->y : NULL, sums && c->shift ? &m->shift : NULL,
                  sums ? c->act : CN_ACT_NONE, c->act_alpha, &attr);
    if (s != dnnl_success) return s;
    s = dnnl_primitive_desc_create(out, &cd, attr, d->engine, hint);
    dnnl_primitive_attr_destroy(attr);
    return s;
}

/* Adds the re-laying of weights between `from` and `to`, its buffer at the start of scratch. */
static dnnl_status_t add_relay(cn_dnnl *d, cn_dnnl_prim *p, const dnnl_memory_desc_t *from,
                               const dnnl_memory_desc_t *to, bool after)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = dnnl_reorder_primitive_desc_create(&pd, from, d->engine, to, d->engine, NULL);
    if (s == dnnl_success) s = dnnl_primitive_create(&p->reorder, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (s == dnnl_success)
        s = dnnl_memory_create(&p->reorder_from, from, d->engine, DNNL_MEMORY_NONE);
    if (s == dnnl_success) s = dnnl_memory_create(&p->reorder_to, to, d->engine, DNNL_MEMORY_NONE);
    p->reorder_after = after;
    p->reorder_bytes = (dnnl_memory_desc_get_size(after ? from : to) + 63) & ~(size_t)63;
    return s;
}

/* Re-lays where the primitive's order of weights isn't w's; w has a layout. */
static dnnl_status_t reorder_between(cn_dnnl *d, cn_dnnl_prim *p, const cn_param *w,
                                     const dnnl_memory_desc_t *w_md, bool after)
{
    const dnnl_memory_desc_t mine = in_type(w->layout, w_md->data_type);
    if (dnnl_memory_desc_equal(w_md, &mine)) return dnnl_success;
    return add_relay(d, p, after ? w_md : &mine, after ? &mine : w_md, after);
}

/* What a primitive reads and writes; absent: NULL. */
typedef struct operands {
    const dnnl_memory_desc_t *a, *b, *c, *bias, *residual, *shift;
} operands;

static cn_status add_operands(cn_ctx *ctx, cn_dnnl *d, cn_dnnl_prim *p, const operands *o,
                              const_dnnl_primitive_desc_t pd, size_t *scratch_bytes)
{
    cn_status s = CN_OK;
    const dnnl_memory_desc_t *scratch = md_of(pd, dnnl_query_scratchpad_md);
    const size_t bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    DNNL_TRY(dnnl_primitive_create(&p->prim, pd), "make a primitive");
    p->moves_stack = is_of_kind(pd, "gemm");
    DNNL_TRY(add_arg(d, p, p->arg_a, o->a), "describe an operand");
    DNNL_TRY(add_arg(d, p, p->arg_b, o->b), "describe an operand");
    DNNL_TRY(add_arg(d, p, p->arg_c, o->c), "describe an operand");
    if (o->bias) DNNL_TRY(add_arg(d, p, p->arg_bias, o->bias), "describe a bias");
    DNNL_TRY(add_sums(d, p, o->residual, o->shift), "describe a sum");
    if (bytes) DNNL_TRY(add_arg(d, p, DNNL_ARG_SCRATCHPAD, scratch), "describe scratch");
    *scratch_bytes = p->reorder_bytes + bytes;
fail:
    return s;
}

/* The operands of a convolution whose weights are in w_md. */
static operands conv_operands(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c,
                              const conv_mds *m, const dnnl_memory_desc_t *w_md, cn_dnnl_prim *p)
{
    static const int args[3][4] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS},
                                   {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0},
                                   {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, 0}};
    const bool forward = kind == CN_DNNL_CONV;
    p->arg_a = args[kind][0];
    p->arg_b = args[kind][1];
    p->arg_c = args[kind][2];
    p->arg_bias = args[kind][3];
    return (operands){.a = kind == CN_DNNL_CONV_DX ? &m->y : &m->x,
                      .b = kind == CN_DNNL_CONV_DW ? &m->y : w_md,
                      .c = forward                   ? &m->y
                           : kind == CN_DNNL_CONV_DX ? &m->x
                                                     : w_md,
                      .bias = forward && c->bias ? &m->b : NULL,
                      .residual = forward && c->residual ? &m->y : NULL,
                      .shift = forward && c->shift ? &m->shift : NULL};
}

cn_status cn_dnnl_conv_prepare(cn_ctx *ctx, cn_dnnl *d, cn_dnnl_conv_kind kind,
                               const cn_dnnl_conv_shape *c, cn_param *w, cn_dnnl_prim **out,
                               size_t *scratch_bytes)
{
    cn_status s = CN_ENOMEM;
    dnnl_primitive_desc_t forward = NULL, pd = NULL;
    conv_mds m;
    cn_dnnl_prim *p = cn_alloc0(ctx, sizeof *p);
    if (!p) goto fail;
    DNNL_TRY(describe_conv(CN_DNNL_CONV, c, &m), "describe a convolution");
    DNNL_TRY(conv_pd(d, CN_DNNL_CONV, &m, c, NULL, &forward), "make this convolution");
    DNNL_TRY(describe_conv(kind, c, &m), "describe a convolution");
    const bool sums = c->residual || c->shift;
    /* a convolution by im2col (gemm) adds a residual at the wrong places, a depthwise one to a
     * single pixel too */
    if ((sums && c->groups > 1 && c->h * c->w == 1) ||
        ((sums || c->act) && (is_reference(forward) || is_of_kind(forward, "gemm")))) {
        s = CN_EMISMATCH;
        goto fail;
    }
    if (kind == CN_DNNL_CONV)
        pd = forward;
    else
        DNNL_TRY(conv_pd(d, kind, &m, c, forward, &pd), "derive this convolution");
    const_dnnl_primitive_desc_t first = kind == CN_DNNL_CONV_DX ? pd : forward;
    if (!w->layout && (s = claim_layout(ctx, d, w, md_of(first, dnnl_query_weights_md))) != CN_OK)
        goto fail;
    const bool dw = kind == CN_DNNL_CONV_DW;
    const dnnl_memory_desc_t *w_md =
        md_of(pd, dw ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    DNNL_TRY(reorder_between(d, p, w, w_md, dw), "reorder weights");
    const operands o = conv_operands(kind, c, &m, w_md, p);
    if ((s = add_operands(ctx, d, p, &o, pd, scratch_bytes)) != CN_OK) goto fail;
    if (pd != forward) dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_desc_destroy(forward);
    *out = p;
    return CN_OK;
fail:
    if (pd && pd != forward) dnnl_primitive_desc_destroy(pd);
    if (forward) dnnl_primitive_desc_destroy(forward);
    cn_dnnl_prim_destroy(p);
    return s;
}

cn_status cn_dnnl_conv_claim(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_conv_shape *c, cn_param *w)
{
    cn_status s = CN_OK;
    dnnl_primitive_desc_t forward = NULL;
    conv_mds m;
    if (w->layout) return CN_OK;
    DNNL_TRY(describe_conv(CN_DNNL_CONV, c, &m), "describe a convolution");
    DNNL_TRY(conv_pd(d, CN_DNNL_CONV, &m, c, NULL, &forward), "make this convolution");
    s = claim_layout(ctx, d, w, md_of(forward, dnnl_query_weights_md));
fail:
    if (forward) dnnl_primitive_desc_destroy(forward);
    return s;
}

static dnnl_status_t run_relay(cn_dnnl *d, cn_dnnl_prim *p, const void *from, void *to)
{
    dnnl_status_t s = dnnl_memory_set_data_handle(p->reorder_from, (void *)(uintptr_t)from);
    if (s == dnnl_success) s = dnnl_memory_set_data_handle(p->reorder_to, to);
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, p->reorder_from}, {DNNL_ARG_TO, p->reorder_to}};
    if (s == dnnl_success) s = dnnl_primitive_execute(p->reorder, d->stream, 2, args);
    return s;
}

/* Faults still end the program: they cannot wait. */
static void block_signals(sigset_t *before)
{
    static const int faults[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < CN_COUNT(faults); i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, before);
}

/* The generated gemm kernels of oneDNN before 3.12 keep the stack pointer in a buffer on the heap
 * (its issue 4845): a signal's frame then overwrites what lies below that buffer. So signals wait
 * for their end, and those for the process never come to the team's other threads. */
static dnnl_status_t execute(cn_dnnl *d, cn_dnnl_prim *p)
{
    if (!p->moves_stack) return dnnl_primitive_execute(p->prim, d->stream, p->n_args, p->args);
    sigset_t before;
    block_signals(&before);
#pragma omp parallel
    if (omp_get_thread_num() > 0) block_signals(NULL);
    const dnnl_status_t s = dnnl_primitive_execute(p->prim, d->stream, p->n_args, p->args);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s;
}

static dnnl_status_t run(cn_dnnl *d, cn_dnnl_prim *p, const cn_dnnl_args *g)
{
    dnnl_status_t s = set_arg(p, p->arg_a, g->a);
    if (s == dnnl_success) s = set_arg(p, p->arg_b, g->b);
    if (s == dnnl_success && p->arg_bias) s = set_arg(p, p->arg_bias, g->bias);
    if (s == dnnl_success && p->arg_residual) s = set_arg(p, p->arg_residual, g->residual);
    if (s == dnnl_success && p->arg_shift) s = set_arg(p, p->arg_shift, g->shift);
    if (s == dnnl_success) s = set_arg(p, p->arg_c, g->c);
    if (s == dnnl_success && g->scratch)
        s = set_arg(p, DNNL_ARG_SCRATCHPAD, (char *)g->scratch + p->reorder_bytes);
    return s == dnnl_success ? execute(d, p) : s;
}

cn_status cn_dnnl_run(cn_ctx *ctx, cn_dnnl *d, cn_dnnl_prim *p, const cn_dnnl_args *args)
{
    cn_status s = CN_OK;
    cn_dnnl_args g = *args;
    if (p->reorder && !p->reorder_after) {
        DNNL_TRY(run_relay(d, p, g.b, g.scratch), "reorder weights");
        g.b = g.scratch;
    }
    if (p->reorder_after) g.c = g.scratch;
    DNNL_TRY(run(d, p, &g), "run a convolution or product");
    if (p->reorder_after) DNNL_TRY(run_relay(d, p, g.scratch, args->c), "re-lay a gradient");
fail:
    return s;
}

/* --- matrix product --------------------------------------------------------------------------- */

static dnnl_status_t matrix_md(int64_t rows, int64_t columns, cn_dtype type,
                               dnnl_format_tag_t order, dnnl_memory_desc_t *md)
{
    dnnl_dims_t dims = {rows, columns};
    return dnnl_memory_desc_init_by_tag(md, 2, dims, type_of(type), order);
}

static dnnl_status_t transposed(const dnnl_memory_desc_t *md, dnnl_memory_desc_t *out)
{
    static const int order[2] = {1, 0};
    return dnnl_memory_desc_permute_axes(out, md, order);
}

static bool is_blocked(const dnnl_memory_desc_t *md)
{
    return md->format_desc.blocking.inner_nblks > 0;
}

/* x, w as [I,O], y, bias and shift of the forward. */
typedef struct product_mds {
    dnnl_memory_desc_t x, w, y, bias, shift;
} product_mds;

static dnnl_status_t describe_product(const cn_dnnl_product *m, dnnl_format_tag_t weights,
                                      product_mds *out)
{
    dnnl_status_t s = matrix_md(m->R, m->I, m->type, dnnl_ab, &out->x);
    if (s == dnnl_success) s = matrix_md(m->I, m->O, m->type, weights, &out->w);
    if (s == dnnl_success) s = matrix_md(m->R, m->O, m->result, dnnl_ab, &out->y);
    if (s == dnnl_success) s = matrix_md(1, m->O, CN_F32, dnnl_ab, &out->bias);
    if (s == dnnl_success) s = matrix_md(1, m->O, m->result, dnnl_ab, &out->shift);
    return s;
}

static dnnl_status_t product_pd(cn_dnnl *d, const cn_dnnl_product *m, dnnl_format_tag_t weights,
                                product_mds *mds, dnnl_primitive_desc_t *out)
{
    dnnl_matmul_desc_t md;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = describe_product(m, weights, mds);
    if (s == dnnl_success)
        s = dnnl_matmul_desc_init(&md, &mds->x, &mds->w, m->bias ? &mds->bias : NULL, &mds->y);
    if (s == dnnl_success)
        s = make_attr(m->residual ? &mds->y : NULL, m->shift ? &mds->shift : NULL, m->act,
                      m->act_alpha, &attr);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(out, &md, attr, d->engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

/* The operands of y = x w, w being in w_md. */
static operands product_operands(const cn_dnnl_product *m, const product_mds *mds,
                                 const dnnl_memory_desc_t *w_md, cn_dnnl_prim *p)
{
    p->arg_a = DNNL_ARG_SRC;
    p->arg_b = DNNL_ARG_WEIGHTS;
    p->arg_c = DNNL_ARG_DST;
    p->arg_bias = m->bias ? DNNL_ARG_BIAS : 0;
    return (operands){.a = &mds->x,
                      .b = w_md,
                      .c = &mds->y,
                      .bias = m->bias ? &mds->bias : NULL,
                      .residual = m->residual ? &mds->y : NULL,
                      .shift = m->shift ? &mds->shift : NULL};
}

cn_status cn_dnnl_linear_prepare(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_product *m, cn_param *w,
                                 cn_dnnl_prim **out, size_t *scratch_bytes)
{
    cn_status s = CN_ENOMEM;
    dnnl_primitive_desc_t pd = NULL;
    product_mds mds;
    bool packed = w->layout ? !cn_dnnl_is_plain(w) : m->pack;
    cn_dnnl_prim *p = cn_alloc0(ctx, sizeof *p);
    if (!p) goto fail;
    if (packed) DNNL_TRY(product_pd(d, m, dnnl_format_tag_any, &mds, &pd), "make a product");
    if (packed && !w->layout && !is_blocked(md_of(pd, dnnl_query_weights_md))) {
        packed = false;
        dnnl_primitive_desc_destroy(pd);
        pd = NULL;
    }
    if (!packed) DNNL_TRY(product_pd(d, m, dnnl_ba, &mds, &pd), "make a product");
    if ((m->residual || m->shift || m->act) && is_reference(pd)) {
        s = CN_EMISMATCH;
        goto fail;
    }
    const dnnl_memory_desc_t *w_md = md_of(pd, dnnl_query_weights_md);
    dnnl_memory_desc_t order;
    DNNL_TRY(transposed(w_md, &order), "describe a matrix");
    if (!w->layout && (s = claim_layout(ctx, d, w, &order)) != CN_OK) goto fail;
    DNNL_TRY(reorder_between(d, p, w, &order, false), "reorder weights");
    const operands o = product_operands(m, &mds, w_md, p);
    if ((s = add_operands(ctx, d, p, &o, pd, scratch_bytes)) != CN_OK) goto fail;
    dnnl_primitive_desc_destroy(pd);
    *out = p;
    return CN_OK;
fail:
    if (pd) dnnl_primitive_desc_destroy(pd);
    cn_dnnl_prim_destroy(p);
    return s;
}

cn_status cn_dnnl_linear_claim(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_product *m, cn_param *w)
{
    cn_dnnl_prim *p = NULL;
    size_t scratch_bytes = 0;
    if (w->layout) return CN_OK;
    CN_TRY(cn_dnnl_linear_prepare(ctx, d, m, w, &p, &scratch_bytes));
    cn_dnnl_prim_destroy(p);
    return CN_OK;
}

/* The inner product's gradient primitives; weights as [O,I]. */
static dnnl_status_t gradient_pd(cn_dnnl *d, const cn_dnnl_product *m, bool dw,
                                 dnnl_format_tag_t weights, product_mds *mds,
                                 dnnl_primitive_desc_t *out)
{
    dnnl_inner_product_desc_t forward, gradient;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_memory_desc_t y;
    dnnl_status_t s = describe_product(m, dnnl_ab, mds);
    if (s == dnnl_success) s = matrix_md(m->R, m->O, m->type, dnnl_ab, &y);
    if (s == dnnl_success) s = matrix_md(m->O, m->I, m->type, weights, &mds->w);
    if (s == dnnl_success)
        s = dnnl_inner_product_forward_desc_init(&forward, dnnl_forward_training, &mds->x, &mds->w,
                                                 NULL, &y);
    if (s == dnnl_success) s = make_attr(NULL, NULL, CN_ACT_NONE, 0, &attr);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(&hint, &forward, attr, d->engine, NULL);
    if (s == dnnl_success) mds->y = y;
    (dw ? &mds->w : &mds->x)->data_type = type_of(m->result);
    if (s == dnnl_success)
        s = dw ? dnnl_inner_product_backward_weights_desc_init(&gradient, &mds->x, &mds->w, NULL,
                                                               &y)
               : dnnl_inner_product_backward_data_desc_init(&gradient, &mds->x, &mds->w, &y);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(out, &gradient, attr, d->engine, hint);
    if (hint) dnnl_primitive_desc_destroy(hint);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

/* dx = dy w as a product of its own. */
static dnnl_status_t transposed_pd(cn_dnnl *d, const cn_dnnl_product *m, product_mds *mds,
                                   cn_dnnl_prim *p, operands *o, dnnl_primitive_desc_t *out)
{
    const cn_dnnl_product t = {
        .R = m->R, .I = m->O, .O = m->I, .type = m->type, .result = m->result};
    dnnl_status_t s = product_pd(d, &t, dnnl_ab, mds, out);
    if (s == dnnl_success) *o = product_operands(&t, mds, &mds->w, p);
    return s;
}

/* By the inner product's gradient primitives but for plain weights in BF16, whose data gradient is
 * faster as a product. */
cn_status cn_dnnl_linear_gradient_prepare(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_product *m,
                                          bool dw, const cn_param *w, cn_dnnl_prim **out,
                                          size_t *scratch_bytes)
{
    cn_status s = CN_ENOMEM;
    dnnl_primitive_desc_t pd = NULL;
    product_mds mds;
    operands o;
    const bool plain = cn_dnnl_is_plain(w);
    cn_dnnl_prim *p = cn_alloc0(ctx, sizeof *p);
    if (!p) goto fail;
    if (!dw && plain && m->type == CN_BF16) {
        DNNL_TRY(transposed_pd(d, m, &mds, p, &o, &pd), "derive a matrix product");
    } else {
        DNNL_TRY(gradient_pd(d, m, dw, plain ? dnnl_ab : dnnl_format_tag_any, &mds, &pd),
                 "derive a matrix product");
        const dnnl_memory_desc_t *w_md =
            md_of(pd, dw ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
        if (!plain) DNNL_TRY(reorder_between(d, p, w, w_md, dw), "reorder weights");
        p->arg_a = dw ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST;
        p->arg_b = dw ? DNNL_ARG_DIFF_DST : DNNL_ARG_WEIGHTS;
        p->arg_c = dw ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_DIFF_SRC;
        o = (operands){.a = dw ? &mds.x : &mds.y, .b = dw ? &mds.y : w_md, .c = dw ? w_md : &mds.x};
    }
    if ((s = add_operands(ctx, d, p, &o, pd, scratch_bytes)) != CN_OK) goto fail;
    dnnl_primitive_desc_destroy(pd);
    *out = p;
    return CN_OK;
fail:
    if (pd) dnnl_primitive_desc_destroy(pd);
    cn_dnnl_prim_destroy(p);
    return s;
}
