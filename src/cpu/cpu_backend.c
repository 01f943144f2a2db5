/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_backend.c - the CPU behind the seam of graph/backend.h: which kernel runs a node, with what
 * scratch. */
#include "cpu/cpu_backend.h"
#include "cpu/isa.h"
#include "cpu/layout.h"

#include <omp.h>
#include <string.h>

/* Positions of one image or sequence. */
static int64_t positions(const cn_node *x)
{
    return rows_of(x) / x->shape[0];
}

static cn_status prepare(cn_backend *base, cn_ctx *ctx, cn_step *st)
{
    cpu_backend *b = (cpu_backend *)base;
    const cn_node *n = st->node;
    switch (n->op) {
    case CN_OP_CONV2D:
    case CN_OP_CONV2D_DX:
    case CN_OP_CONV2D_DW: return cn_cpu_conv_prepare(b, ctx, st);
    case CN_OP_LINEAR:
    case CN_OP_LINEAR_DX:
    case CN_OP_LINEAR_DW: return cn_cpu_linear_prepare(b, ctx, st);
    case CN_OP_GROUP_NORM:
    case CN_OP_GROUP_NORM_GRAD:
        st->scratch_bytes = cn_norm_scratch_bytes(n->shape[0], cn_channels(n), b->threads);
        return CN_OK;
    case CN_OP_LAYER_NORM_GRAD:
        st->scratch_bytes = (size_t)b->threads * 2 * (size_t)cn_channels(n) * sizeof(float);
        return CN_OK;
    case CN_OP_SUM_CHANNEL:
        st->scratch_bytes = (size_t)b->threads * (size_t)cn_channels(n) * sizeof(float);
        return CN_OK;
    case CN_OP_ATTENTION:
    case CN_OP_ATTENTION_GRAD: return cn_cpu_attention_prepare(b, st);
    case CN_OP_ADD: /* of a parameter's gradients: as many elements as its physical layout has */
        if (n->param) st->out_bytes = (size_t)cn_param_physical(n->param) * sizeof(float);
        return CN_OK;
    default: return CN_OK;
    }
}

static void release(cn_backend *base, cn_step *st)
{
    (void)base;
    cn_cpu_product_release(st);
}

static cn_status run_norm(cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node;
    int64_t N = n->shape[0], C = cn_channels(n);
    bool silu = n->act == CN_ACT_SILU;
    const bool grad = n->op == CN_OP_GROUP_NORM_GRAD || n->op == CN_OP_LAYER_NORM_GRAD;
    const cn_stored_kernels *k = cn_cpu_stored(b, grad ? n->in[0] : n); /* y or dy */
    switch (n->op) {
    case CN_OP_GROUP_NORM:
        k->group_norm(st->in[0], st->in[1], st->in[2], n->n_in > 3 ? st->in[3] : NULL, st->out,
                      st->aux[0], N, positions(n), C, n->groups, n->eps, silu, st->scratch);
        break;
    case CN_OP_GROUP_NORM_GRAD:
        k->group_norm_grad(st->in[0], st->in[1], st->in[2], st->in[3], st->in[4], st->out,
                           st->aux[0], st->aux[1], N, positions(n), C, n->groups, silu,
                           st->scratch);
        break;
    case CN_OP_LAYER_NORM:
        k->layer_norm(st->in[0], st->in[1], st->in[2], st->out, st->aux[0], rows_of(n), C, n->eps);
        break;
    default: /* CN_OP_LAYER_NORM_GRAD */
        k->layer_norm_grad(st->in[0], st->in[1], st->in[2], st->in[3], st->out, st->aux[0],
                           st->aux[1], rows_of(n), C, st->scratch);
    }
    return CN_OK;
}

static cn_status check_ids(cn_ctx *ctx, const cn_node *ids, const int32_t *v, int64_t V)
{
    for (int64_t i = 0; i < cn_node_elements(ids); i++)
        if (v[i] < 0 || v[i] >= V)
            return cn_fail(ctx, CN_EINVAL, "token %d is outside the vocabulary of %lld", v[i],
                           (long long)V);
    return CN_OK;
}

/* Of all elements alike, or sample by sample with its weight and c. */
static float loss(const cpu_backend *b, const cn_step *st)
{
    const cn_node *x = st->node->in[0];
    const float *per = st->in[2], *a = st->in[0], *target = st->in[1];
    const int64_t samples = per ? x->shape[0] : 1, each = cn_node_elements(x) / samples;
    double sum = 0;
    for (int64_t i = 0; i < samples; i++) {
        const double weight = per ? (double)per[2 * i] : 1;
        sum += weight * b->k->loss(st->node->loss, per ? per[2 * i + 1] : 0, a + i * each,
                                   target + i * each, each);
    }
    return (float)(sum / (double)samples);
}

static void loss_dx(const cpu_backend *b, const cn_step *st)
{
    const cn_node *x = st->node->in[0];
    const float *per = st->in[3], *a = st->in[0], *target = st->in[1];
    const int64_t samples = per ? x->shape[0] : 1, each = cn_node_elements(x) / samples;
    const float dy = *(const float *)st->in[2];
    float *dx = st->out;
    for (int64_t i = 0; i < samples; i++)
        b->k->loss_dx(st->node->loss, per ? per[2 * i + 1] : 0, a + i * each, target + i * each,
                      per ? dy * per[2 * i] / (float)samples : dy, dx + i * each, each);
}

static cn_status run_loss(cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node, *x = n->in[0];
    float *out = st->out;
    switch (n->op) {
    case CN_OP_LOSS: *out = loss(b, st); break;
    case CN_OP_LOSS_DX: loss_dx(b, st); break;
    case CN_OP_KL:
        *out = (float)(b->k->kl(st->in[0], rows_of(x), cn_channels(x) / 2) / (double)x->shape[0]);
        break;
    case CN_OP_KL_DX:
        b->k->kl_dx(st->in[0], *(const float *)st->in[1] / (float)x->shape[0], out, rows_of(x),
                    cn_channels(x) / 2);
        break;
    case CN_OP_GAUSS: b->k->gauss(st->in[0], st->in[1], out, rows_of(n), cn_channels(n)); break;
    default: /* CN_OP_GAUSS_DX */
        b->k->gauss_dx(st->in[0], st->in[1], st->in[2], out, rows_of(n), cn_channels(n) / 2);
    }
    return CN_OK;
}

static cn_status run_shape(cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node, *x = n->in[0];
    int64_t C = cn_channels(n);
    size_t each = cn_dtype_bytes(n->dtype);
    const cn_stored_kernels *k = cn_cpu_stored(b, n);
    switch (n->op) {
    case CN_OP_CONCAT: {
        int64_t A = cn_channels(x), B = C - A;
        k->copy_channels(st->in[0], A, st->out, C, A, rows_of(n));
        k->copy_channels(st->in[1], B, (char *)st->out + (size_t)A * each, C, B, rows_of(n));
        break;
    }
    case CN_OP_SLICE:
        k->copy_channels((const char *)st->in[0] + (size_t)n->offset * each, cn_channels(x),
                         st->out, C, C, rows_of(n));
        break;
    case CN_OP_UPSAMPLE:
        k->upsample(st->in[0], st->out, n->shape[0], x->shape[1], x->shape[2], n->shape[1],
                    n->shape[2], C);
        break;
    default: /* CN_OP_UPSAMPLE_DX */
        k->upsample_dx(st->in[0], st->out, n->shape[0], n->shape[1], n->shape[2], x->shape[1],
                       x->shape[2], C);
    }
    return CN_OK;
}

static cn_status run_spatial(cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node, *x = n->in[0];
    const cn_window w = {.N = n->shape[0],
                         .h = x->shape[1],
                         .w = x->shape[2],
                         .H = n->shape[1],
                         .W = n->shape[2],
                         .C = n->shape[3],
                         .kernel = n->kernel_h,
                         .stride = n->stride,
                         .top = n->pad[0],
                         .left = n->pad[1]};
    const cn_stored_kernels *k = cn_cpu_stored(b, n);
    switch (n->op) {
    case CN_OP_MAX_POOL: k->max_pool(&w, st->in[0], st->out); break;
    case CN_OP_MEAN_POOL: k->mean_pool(&w, st->in[0], st->out); break;
    case CN_OP_RESIZE: k->resize(&w, n->align_corners, st->in[0], st->out); break;
    default: /* CN_OP_PAD */ k->pad(&w, n->reflect, st->in[0], st->out);
    }
    return CN_OK;
}

static cn_status run_pointwise(cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node;
    int64_t elements = cn_node_elements(n), N = n->shape[0];
    const void *x = st->in[0], *z = st->in[1];
    const cn_stored_kernels *k = cn_cpu_stored(b, n->op == CN_OP_SUM_CHANNEL ? n->in[0] : n);
    switch (n->op) {
    case CN_OP_FILL: k->fill(n->alpha, st->out, elements); break;
    case CN_OP_CAST: b->k->convert(n->in[0]->dtype, x, n->dtype, st->out, elements); break;
    case CN_OP_ACT: k->act(n->act, n->alpha, x, st->out, elements); break;
    case CN_OP_ACT_DX: k->act_dx(n->act, n->alpha, x, z, st->out, elements); break;
    case CN_OP_GEGLU: k->geglu(x, st->out, rows_of(n), cn_channels(n)); break;
    case CN_OP_GEGLU_DX: k->geglu_dx(x, z, st->out, rows_of(n), cn_channels(n) / 2); break;
    case CN_OP_ADD:
        k->add(x, z, st->out, (int64_t)(st->out_bytes / cn_dtype_bytes(n->dtype)));
        break;
    case CN_OP_SCALE: k->scale(x, n->alpha, st->out, elements); break;
    case CN_OP_SCALE_BY: k->scale(x, *(const float *)z, st->out, elements); break;
    case CN_OP_GATE: k->gate(x, z, st->out, rows_of(n), cn_channels(n)); break;
    case CN_OP_ADD_CHANNEL: k->add_channel(x, z, st->out, N, positions(n), cn_channels(n)); break;
    case CN_OP_SUM_CHANNEL:
        k->sum_rows(x, st->out, N, positions(n->in[0]), cn_channels(n), st->scratch);
        break;
    case CN_OP_ADD_ROWS: k->add_rows(x, z, st->out, N, elements / N); break;
    default: { /* CN_OP_SUM_BATCH: the table may have more rows than tokens */
        int64_t each = cn_node_elements(n->in[0]) / n->in[0]->shape[0];
        k->sum_batch(x, st->out, n->in[0]->shape[0], each);
        memset((float *)st->out + each, 0, (size_t)(elements - each) * sizeof(float));
    }
    }
    return CN_OK;
}

static cn_status run(cn_backend *base, cn_ctx *ctx, const cn_step *st)
{
    cpu_backend *b = (cpu_backend *)base;
    const cn_node *n = st->node;
    /* scratch was counted for this many; another context or calling thread may have set others */
    if (omp_get_max_threads() != b->threads) omp_set_num_threads(b->threads);
    switch (n->op) {
    case CN_OP_CONV2D:
    case CN_OP_CONV2D_DX:
    case CN_OP_CONV2D_DW:
    case CN_OP_LINEAR:
    case CN_OP_LINEAR_DX:
    case CN_OP_LINEAR_DW: return cn_cpu_product_run(b, ctx, st);
    case CN_OP_GROUP_NORM:
    case CN_OP_GROUP_NORM_GRAD:
    case CN_OP_LAYER_NORM:
    case CN_OP_LAYER_NORM_GRAD: return run_norm(b, st);
    case CN_OP_ATTENTION:
    case CN_OP_ATTENTION_GRAD: return cn_cpu_attention_run(b, st);
    case CN_OP_CONCAT:
    case CN_OP_SLICE:
    case CN_OP_UPSAMPLE:
    case CN_OP_UPSAMPLE_DX: return run_shape(b, st);
    case CN_OP_MAX_POOL:
    case CN_OP_MEAN_POOL:
    case CN_OP_RESIZE:
    case CN_OP_PAD: return run_spatial(b, st);
    case CN_OP_LOSS:
    case CN_OP_LOSS_DX:
    case CN_OP_KL:
    case CN_OP_KL_DX:
    case CN_OP_GAUSS:
    case CN_OP_GAUSS_DX: return run_loss(b, st);
    case CN_OP_EMBED:
        CN_TRY(check_ids(ctx, n->in[1], st->in[1], n->in[0]->shape[0]));
        b->k->embed(st->in[0], st->in[1], st->out, rows_of(n), cn_channels(n));
        return CN_OK;
    case CN_OP_EMBED_DW:
        b->k->embed_dw(st->in[0], st->in[1], st->out, cn_node_elements(n->in[0]), n->shape[0],
                       n->shape[1]);
        return CN_OK;
    case CN_OP_TIMESTEP: b->k->timestep(st->in[0], st->out, n->shape[0], n->shape[1]); return CN_OK;
    case CN_OP_INPUT:
    case CN_OP_PARAM:
    case CN_OP_AUX:
    case CN_OP_VIEW:
    case CN_OP_COUNT: return cn_fail(ctx, CN_EINTERNAL, "%s has no kernel", cn_op_name(n->op));
    default: return run_pointwise(b, st);
    }
}

static cn_status from_plain(cn_backend *base, cn_ctx *ctx, const cn_param *p, cn_dtype plain_type,
                            const void *plain, cn_dtype dtype, void *physical)
{
    (void)base;
    return cn_layout_put(ctx, p, plain_type, plain, dtype, physical);
}

static cn_status to_plain(cn_backend *base, cn_ctx *ctx, const cn_param *p, cn_dtype dtype,
                          const void *physical, float *plain)
{
    (void)base;
    return cn_layout_get(ctx, p, dtype, physical, plain);
}

static void destroy(cn_backend *base)
{
    if (!base) return;
    cpu_backend *b = (cpu_backend *)base;
    cn_dnnl_destroy(b->dnnl);
    cn_free(b);
}

static void adamw(cn_backend *base, const cn_adamw_step *s)
{
    ((cpu_backend *)base)->k->adamw(s);
}

static double sum_squares(cn_backend *base, const float *x, int64_t n)
{
    return ((cpu_backend *)base)->k->sum_squares(x, n);
}

static void accumulate(cn_backend *base, float *sum, const float *x, int64_t n)
{
    ((cpu_backend *)base)->k->stored[CN_STORED_F32]->add(sum, x, sum, n);
}

static void average(cn_backend *base, float *mean, const float *x, float keep, int64_t n)
{
    ((cpu_backend *)base)->k->average(mean, x, keep, n);
}

static bool computes(cn_backend *base, cn_dtype type)
{
    return type == CN_F32 || (type == CN_BF16 && ((cpu_backend *)base)->bf16 != CN_BF16_NONE);
}

cn_status cn_backend_cpu_create(cn_ctx *ctx, cn_backend **out)
{
    cpu_backend *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    cn_status s = cn_dnnl_create(ctx, cn_layout_put, &b->dnnl);
    if (s != CN_OK) {
        cn_free(b);
        return s;
    }
    cn_cpu_cap_generated();
    b->threads = cn_threads(ctx);
    b->bf16 = cn_bf16_support();
    b->k = cn_cpu_kernels(cn_cpu_isa());
    b->base = (cn_backend){.name = "cpu",
                           .prepare = prepare,
                           .run = run,
                           .release = release,
                           .from_plain = from_plain,
                           .to_plain = to_plain,
                           .destroy = destroy,
                           .adamw = adamw,
                           .sum_squares = sum_squares,
                           .accumulate = accumulate,
                           .average = average,
                           .computes = computes};
    *out = &b->base;
    return CN_OK;
}
