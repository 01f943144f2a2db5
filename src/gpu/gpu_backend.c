/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_backend.c - a Vulkan device behind the seam of graph/backend.h. */
#include "gpu/gpu_ops.h"

#include <limits.h>
#include <string.h>

#define ROW(op, name) [op] = &cn_gpu_##name,
static const cn_gpu_op *const ops[CN_OP_COUNT] = {CN_OP_LIST(ROW)};
#undef ROW

/* --- what steps share ------------------------------------------------------------------------- */

static size_t bytes_of(const cn_node *x)
{
    while (x->op == CN_OP_VIEW) x = x->in[0];
    return x->op == CN_OP_PARAM ? x->param->data_bytes
                                : (size_t)cn_node_elements(x) * cn_dtype_bytes(x->dtype);
}

void cn_gpu_touch(gpu_backend *b, const cn_step *st, unsigned reads, unsigned writes)
{
    const cn_node *n = st->node;
    const unsigned all = reads | writes;
    cn_vk_queue *q = &b->queue;
    for (int i = 0; i < n->n_in; i++)
        if (all >> i & 1 && n->in[i]) cn_vk_uses(q, st->in[i], bytes_of(n->in[i]), writes >> i & 1);
    if (all & CN_GPU_RESIDUAL && st->residual)
        cn_vk_uses(q, st->residual_data, bytes_of(st->residual), false);
    if (all & CN_GPU_SHIFT && st->shift) cn_vk_uses(q, st->shift_data, bytes_of(st->shift), false);
    if (all & CN_GPU_OUT) cn_vk_uses(q, st->out, st->out_bytes, (writes & CN_GPU_OUT) != 0);
    for (int i = 0; i < CN_MAX_AUX; i++)
        if (all & (unsigned)CN_GPU_AUX0 << i && st->aux[i])
            cn_vk_uses(q, st->aux[i], bytes_of(n->aux[i]),
                       (writes & (unsigned)CN_GPU_AUX0 << i) != 0);
    if (all & CN_GPU_SCRATCH)
        cn_vk_uses(q, st->scratch, st->scratch_bytes, (writes & CN_GPU_SCRATCH) != 0);
}

VkDeviceAddress cn_gpu_at(gpu_backend *b, cn_ctx *ctx, const void *at)
{
    VkDeviceAddress a = 0;
    const cn_status s = cn_vk_address(ctx, &b->queue, at, &a);
    if (b->failed == CN_OK) b->failed = s;
    return a;
}

cn_status cn_gpu_call(gpu_backend *b, cn_ctx *ctx, const cn_vk_call *c)
{
    const cn_status s = b->failed;
    b->failed = CN_OK;
    return s == CN_OK ? cn_vk_dispatch(ctx, &b->queue, c) : s;
}

cn_status cn_gpu_go(gpu_backend *b, cn_ctx *ctx, cn_gpu_kernel kernel, const void *arguments,
                    size_t bytes, int64_t x, int64_t y, int64_t z)
{
    return cn_gpu_call(b, ctx,
                       &(cn_vk_call){.kernel = kernel,
                                     .trial = -1,
                                     .arguments = arguments,
                                     .bytes = bytes,
                                     .x = (uint32_t)x,
                                     .y = (uint32_t)y,
                                     .z = (uint32_t)z});
}

cn_status cn_gpu_go_flat(gpu_backend *b, cn_ctx *ctx, cn_gpu_kernel kernel, const void *arguments,
                         size_t bytes, int64_t groups)
{
    const int64_t x = CN_MIN(groups, 32768);
    return cn_gpu_go(b, ctx, kernel, arguments, bytes, x, (groups + x - 1) / x, 1);
}

cn_status cn_gpu_go_map(gpu_backend *b, cn_ctx *ctx, const cn_gpu_map_args *a)
{
    cn_gpu_map_args args = *a;
    args.C = CN_MAX(args.C, 1);
    args.ids = args.what == CN_GPU_MAP_EMBED ? args.b : args.a;
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_map, &args, sizeof args, ((int64_t)a->n + 63) / 64);
}

/* --- steps ------------------------------------------------------------------------------------ */

static cn_status check_node(cn_ctx *ctx, const cn_node *y, const cn_node *x)
{
    if (x->dtype != CN_F32 && x->dtype != CN_I32 && x->op != CN_OP_PARAM)
        return cn_fail(ctx, CN_EINVAL, "%s (%s): Vulkan computes in F32 alone, not in %s", y->name,
                       cn_op_name(y->op), cn_dtype_name(x->dtype));
    if (cn_node_elements(x) > INT_MAX / 2)
        return cn_fail(ctx, CN_EINVAL, "%s (%s): %lld elements are too many for a Vulkan kernel",
                       y->name, cn_op_name(y->op), (long long)cn_node_elements(x));
    return CN_OK;
}

static cn_status prepare(cn_backend *base, cn_ctx *ctx, cn_step *st)
{
    const cn_node *n = st->node;
    const cn_gpu_op *op = ops[n->op];
    CN_TRY(check_node(ctx, n, n));
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) CN_TRY(check_node(ctx, n, n->in[i]));
    return op->prepare ? op->prepare((gpu_backend *)base, ctx, st) : CN_OK;
}

static cn_status run(cn_backend *base, cn_ctx *ctx, const cn_step *st)
{
    return ops[st->node->op]->run((gpu_backend *)base, ctx, st);
}

static void release(cn_backend *base, cn_step *st)
{
    (void)base, (void)st;
}

/* --- parameters ------------------------------------------------------------------------------- */

/* A weight that a convolution reads lies as [O,kh,kw,I]; its published order is [O,I,kh,kw]. */
static bool reordered(const cn_param *q)
{
    return q->layout != NULL;
}

static void reorder(const cn_param *q, const float *from, float *to, bool to_plain)
{
    const int64_t O = q->shape[0], I = q->shape[1], area = q->shape[2] * q->shape[3];
    for (int64_t o = 0; o < O; o++)
        for (int64_t i = 0; i < I; i++)
            for (int64_t k = 0; k < area; k++) {
                const int64_t plain = (o * I + i) * area + k, physical = (o * area + k) * I + i;
                to[to_plain ? plain : physical] = from[to_plain ? physical : plain];
            }
}

static cn_status from_plain(cn_backend *base, cn_ctx *ctx, const cn_param *q, cn_dtype plain_type,
                            const void *plain, cn_dtype dtype, void *physical)
{
    cn_vk_queue *queue = &((gpu_backend *)base)->queue;
    const int64_t n = cn_param_elements(q);
    if (plain_type == dtype && !reordered(q))
        return cn_vk_write(ctx, queue, physical, plain, cn_dtype_size(dtype, n));
    cn_status s = CN_ENOMEM;
    float *values = cn_alloc_array(ctx, (size_t)n, sizeof *values);
    float *moved = cn_alloc_array(ctx, (size_t)n, sizeof *moved);
    if (values && moved) {
        cn_to_f32(plain_type, plain, values, (size_t)n);
        if (reordered(q)) reorder(q, values, moved, false);
        float *ordered = reordered(q) ? moved : values, *left = reordered(q) ? values : moved;
        /* an element's F32 is as large as its other types' at least */
        if (dtype != CN_F32) cn_from_f32(dtype, ordered, left, (size_t)n);
        s = cn_vk_write(ctx, queue, physical, dtype == CN_F32 ? ordered : left,
                        cn_dtype_size(dtype, n));
    }
    cn_free(values);
    cn_free(moved);
    return s;
}

static cn_status to_plain(cn_backend *base, cn_ctx *ctx, const cn_param *q, cn_dtype dtype,
                          const void *physical, float *plain)
{
    cn_vk_queue *queue = &((gpu_backend *)base)->queue;
    const int64_t n = cn_param_elements(q);
    if (dtype == CN_F32 && !reordered(q))
        return cn_vk_read(ctx, queue, plain, physical, (size_t)n * sizeof(float));
    void *stored = cn_alloc(ctx, cn_dtype_size(dtype, n));
    float *values = cn_alloc_array(ctx, (size_t)n, sizeof *values);
    cn_status s = stored && values
                      ? cn_vk_read(ctx, queue, stored, physical, cn_dtype_size(dtype, n))
                      : CN_ENOMEM;
    if (s == CN_OK) {
        cn_to_f32(dtype, stored, reordered(q) ? values : plain, (size_t)n);
        if (reordered(q)) reorder(q, values, plain, true);
    }
    cn_free(stored);
    cn_free(values);
    return s;
}

cn_status cn_gpu_claim_order(gpu_backend *b, cn_ctx *ctx, cn_param *q)
{
    static const char order[] = "OHWI";
    const int64_t n = cn_param_elements(q);
    if (q->layout || q->ndim != 4 || q->shape[2] * q->shape[3] == 1) return CN_OK;
    float *plain = q->loaded ? cn_alloc_array(ctx, (size_t)n, sizeof *plain) : NULL;
    char *layout = cn_alloc(ctx, sizeof order);
    cn_status s = layout && (plain || !q->loaded) ? CN_OK : CN_ENOMEM;
    if (s == CN_OK && plain) s = to_plain(&b->base, ctx, q, q->dtype, q->data, plain);
    if (s == CN_OK) {
        memcpy(layout, order, sizeof order);
        q->layout = layout;
        q->layout_bytes = sizeof order;
        q->laid_elements = n;
        if (plain) s = from_plain(&b->base, ctx, q, CN_F32, plain, q->dtype, q->data);
    } else {
        cn_free(layout);
    }
    cn_free(plain);
    return s;
}

/* --- the seam --------------------------------------------------------------------------------- */

static void *alloc_block(cn_backend *base, cn_ctx *ctx, size_t bytes)
{
    return cn_vk_reserve(ctx, &((gpu_backend *)base)->queue, bytes, true);
}

static void *reserve(cn_backend *base, cn_ctx *ctx, size_t bytes)
{
    return cn_vk_reserve(ctx, &((gpu_backend *)base)->queue, bytes, false);
}

static void drop(cn_backend *base, void *at, size_t bytes)
{
    (void)bytes;
    cn_vk_drop(&((gpu_backend *)base)->queue, at);
}

static void release_range(cn_backend *base, void *at, size_t bytes)
{
    (void)bytes;
    cn_vk_release(&((gpu_backend *)base)->queue, at);
}

static cn_status write_bytes(cn_backend *base, cn_ctx *ctx, void *to, const void *from,
                             size_t bytes)
{
    return cn_vk_write(ctx, &((gpu_backend *)base)->queue, to, from, bytes);
}

static cn_status read_bytes(cn_backend *base, cn_ctx *ctx, void *to, const void *from, size_t bytes)
{
    return cn_vk_read(ctx, &((gpu_backend *)base)->queue, to, from, bytes);
}

static cn_status copy_bytes(cn_backend *base, cn_ctx *ctx, void *to, const void *from, size_t bytes)
{
    return cn_vk_copy(ctx, &((gpu_backend *)base)->queue, to, from, bytes);
}

static cn_status finish(cn_backend *base, cn_ctx *ctx)
{
    return cn_vk_finish(ctx, &((gpu_backend *)base)->queue);
}

static void memory(cn_backend *base, cn_backend_memory *out)
{
    const cn_vk_queue *q = &((gpu_backend *)base)->queue;
    *out = (cn_backend_memory){.total = (size_t)q->d.about.memory_bytes,
                               .free = cn_vk_device_free(&q->d),
                               .own = CN_VK_STAGING_BYTES,
                               .taken = q->counts.memory_bytes,
                               .most = q->counts.most_bytes};
}

static bool computes(cn_backend *base, cn_dtype type)
{
    (void)base;
    return type == CN_F32;
}

static cn_status record(cn_backend *base, cn_ctx *ctx, void **kept, uint32_t key, bool *replayed)
{
    cn_vk_kept *k = *kept;
    const cn_status s = cn_vk_keep_begin(ctx, &((gpu_backend *)base)->queue, &k, key, replayed);
    *kept = k;
    return s;
}

static cn_status recorded(cn_backend *base, cn_ctx *ctx, bool ran)
{
    return cn_vk_keep_end(ctx, &((gpu_backend *)base)->queue, ran);
}

static void forget(cn_backend *base, void *kept)
{
    cn_vk_keep_free(&((gpu_backend *)base)->queue, kept);
}

static bool multiply_in(cn_backend *base, cn_dtype type)
{
    ((gpu_backend *)base)->halves = type == CN_F16;
    ((gpu_backend *)base)->queue.generation++;
    return type == CN_F32 || type == CN_F16;
}

static void time_steps(cn_backend *base, double *seconds)
{
    ((gpu_backend *)base)->queue.profile.seconds = seconds;
}

static void report_profile(const gpu_backend *b)
{
    cn_str text = {0};
    cn_vk_profile_text(&b->queue, &text);
    if (!text.failed && text.data) cn_log_lines(b->ctx, CN_LOG_INFO, text.data);
    cn_str_free(&text);
}

static void destroy(cn_backend *base)
{
    if (!base) return;
    gpu_backend *b = (gpu_backend *)base;
    report_profile(b);
    cn_vk_queue_close(&b->queue);
    cn_free(b);
}

void cn_gpu_counts_get(const cn_backend *b, cn_gpu_counts *out)
{
    *out = ((const gpu_backend *)b)->queue.counts;
}

void cn_gpu_limit(cn_backend *b, size_t bytes)
{
    b->limit = ((gpu_backend *)b)->queue.limit = bytes;
}

void cn_gpu_tile(cn_backend *b, int tile)
{
    ((gpu_backend *)b)->queue.chooser.fixed = tile;
    ((gpu_backend *)b)->queue.generation++;
}

void cn_gpu_without_matrices(cn_backend *b)
{
    cn_gpu_device *about = &((gpu_backend *)b)->queue.d.about;
    about->matrix[0] = about->matrix[1] = about->matrix[2] = 0;
}

cn_status cn_backend_vulkan_create(cn_ctx *ctx, int index, int turn, cn_backend **out)
{
    gpu_backend *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    const cn_status s = cn_vk_queue_open(ctx, index, turn, &b->queue);
    if (s != CN_OK) {
        cn_free(b);
        return s;
    }
    b->ctx = ctx;
    b->base = (cn_backend){.name = "vulkan",
                           .limit = b->queue.limit,
                           .memory = memory,
                           .alloc = alloc_block,
                           .free = release_range,
                           .reserve = reserve,
                           .drop = drop,
                           .release_reserved = release_range,
                           .write = write_bytes,
                           .read = read_bytes,
                           .copy = copy_bytes,
                           .finish = finish,
                           .prepare = prepare,
                           .run = run,
                           .release = release,
                           .record = record,
                           .recorded = recorded,
                           .forget = forget,
                           .from_plain = from_plain,
                           .to_plain = to_plain,
                           .adamw = cn_gpu_adamw,
                           .sum_squares = cn_gpu_sum_squares,
                           .accumulate = cn_gpu_accumulate,
                           .average = cn_gpu_average,
                           .exchange = cn_gpu_exchange,
                           .computes = computes,
                           .multiply_in = multiply_in,
                           .time = b->queue.profile.told ? time_steps : NULL,
                           .destroy = destroy};
    *out = &b->base;
    return CN_OK;
}
