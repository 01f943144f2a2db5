/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_backend.c - the CPU behind the seam of graph/backend.h: which kernel runs a node, with what
 * scratch. */
#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/layout.h"

#include <omp.h>
#include <string.h>

#define ROW(op, name) [op] = &cn_cpu_##name,
static const cn_cpu_op *const ops[CN_OP_COUNT] = {CN_OP_LIST(ROW)};
#undef ROW

static cn_status prepare(cn_backend *base, cn_ctx *ctx, cn_step *st)
{
    const cn_cpu_op *op = ops[st->node->op];
    return op && op->prepare ? op->prepare((cpu_backend *)base, ctx, st) : CN_OK;
}

static void release(cn_backend *base, cn_step *st)
{
    (void)base;
    cn_cpu_product_release(st);
}

static cn_status run(cn_backend *base, cn_ctx *ctx, const cn_step *st)
{
    cpu_backend *b = (cpu_backend *)base;
    const cn_cpu_op *op = ops[st->node->op];
    /* scratch was counted for this many; another context or calling thread may have set others */
    if (omp_get_max_threads() != b->threads) omp_set_num_threads(b->threads);
    if (!op) return cn_fail(ctx, CN_EINTERNAL, "%s has no kernel", cn_op_name(st->node->op));
    return op->run(b, ctx, st);
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

/* --- memory ----------------------------------------------------------------------------------- */

static void *alloc_block(cn_backend *base, cn_ctx *ctx, size_t bytes)
{
    (void)base;
    return cn_alloc(ctx, bytes);
}

static void free_block(cn_backend *base, void *at, size_t bytes)
{
    (void)base, (void)bytes;
    cn_free(at);
}

static void *reserve(cn_backend *base, cn_ctx *ctx, size_t bytes)
{
    (void)base;
    return cn_reserve(ctx, bytes);
}

static void drop(cn_backend *base, void *at, size_t bytes)
{
    (void)base;
    cn_reserve_drop(at, bytes);
}

static void release_reserved(cn_backend *base, void *at, size_t bytes)
{
    (void)base;
    cn_reserve_free(at, bytes);
}

static void memory(cn_backend *base, cn_backend_memory *out)
{
    (void)base;
    *out = (cn_backend_memory){0};
}

static cn_status copy_bytes(cn_backend *base, cn_ctx *ctx, void *to, const void *from, size_t bytes)
{
    (void)base, (void)ctx;
    memcpy(to, from, bytes);
    return CN_OK;
}

/* Steps have ended when `run` returns. */
static cn_status finish(cn_backend *base, cn_ctx *ctx)
{
    (void)base, (void)ctx;
    return CN_OK;
}

static void destroy(cn_backend *base)
{
    if (!base) return;
    cpu_backend *b = (cpu_backend *)base;
    cn_dnnl_destroy(b->dnnl);
    cn_free(b);
}

/* --- the optimizer ---------------------------------------------------------------------------- */

static cn_status adamw(cn_backend *base, cn_ctx *ctx, const cn_adamw_step *s)
{
    (void)ctx;
    ((cpu_backend *)base)->k->adamw(s);
    return CN_OK;
}

static cn_status sum_squares(cn_backend *base, cn_ctx *ctx, const cn_floats *list, int64_t n,
                             double *out)
{
    (void)ctx;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((cpu_backend *)base)->k->sum_squares(list[i].x, list[i].n);
    *out = sum;
    return CN_OK;
}

static cn_status accumulate(cn_backend *base, cn_ctx *ctx, float *sum, const float *x, int64_t n)
{
    (void)ctx;
    ((cpu_backend *)base)->k->stored[CN_STORED_F32]->add(sum, x, sum, n);
    return CN_OK;
}

static cn_status average(cn_backend *base, cn_ctx *ctx, float *mean, const float *x, float keep,
                         int64_t n)
{
    (void)ctx;
    ((cpu_backend *)base)->k->average(mean, x, keep, n);
    return CN_OK;
}

static cn_status orthogonalize(cn_backend *base, cn_ctx *ctx, float *x, int64_t rows,
                               int64_t columns)
{
    float *scratch = cn_alloc(ctx, cn_orthogonalize_bytes(rows, columns));
    if (!scratch) return CN_ENOMEM;
    ((cpu_backend *)base)->k->orthogonalize(x, rows, columns, scratch);
    cn_free(scratch);
    return CN_OK;
}

static cn_status exchange(cn_backend *base, cn_ctx *ctx, float *x, float *y, int64_t n)
{
    (void)base, (void)ctx;
    for (int64_t i = 0; i < n; i++) {
        const float kept = x[i];
        x[i] = y[i];
        y[i] = kept;
    }
    return CN_OK;
}

static bool computes(cn_backend *base, cn_dtype type)
{
    return type == CN_F32 || (type == CN_BF16 && ((cpu_backend *)base)->bf16 != CN_BF16_NONE);
}

static bool multiply_in(cn_backend *base, cn_dtype type)
{
    (void)base;
    return type == CN_F32;
}

cn_status cn_backend_cpu_create(cn_ctx *ctx, cn_backend **out)
{
    cpu_backend *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    cn_status s = cn_dnnl_create(ctx, &b->base, cn_layout_put, &b->dnnl);
    if (s != CN_OK) {
        cn_free(b);
        return s;
    }
    cn_cpu_cap_generated();
    b->threads = cn_threads(ctx);
    b->bf16 = cn_bf16_support();
    b->k = cn_cpu_kernels(cn_cpu_isa());
    b->base = (cn_backend){.name = "cpu",
                           .addressable = true,
                           .memory = memory,
                           .alloc = alloc_block,
                           .free = free_block,
                           .reserve = reserve,
                           .drop = drop,
                           .release_reserved = release_reserved,
                           .write = copy_bytes,
                           .read = copy_bytes,
                           .copy = copy_bytes,
                           .finish = finish,
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
                           .orthogonalize = orthogonalize,
                           .exchange = exchange,
                           .computes = computes,
                           .multiply_in = multiply_in};
    *out = &b->base;
    return CN_OK;
}
