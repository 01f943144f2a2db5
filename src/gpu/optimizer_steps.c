/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer_steps.c - what AdamW asks of the device. All is recorded; only the sum of squares is
 * waited for. */
#include "gpu/gpu_ops.h"

enum { SQUARES = 3, SHARE = 4096, MOST_GROUPS = 1023 };

/* Of kernels/adamw.k and adamw8.k, which has two scales and the codes' meaning behind the moments.
 */
typedef struct adamw_numbers {
    int n;
    float scale, keep, step, inv2, beta1, beta2, eps;
} adamw_numbers;

typedef struct adamw_args {
    VkDeviceAddress weights, grad, m, v;
    adamw_numbers numbers;
} adamw_args;

typedef struct adamw8_args {
    VkDeviceAddress weights, grad, m, v, m_scales, v_scales, codes;
    adamw_numbers numbers;
} adamw8_args;

static adamw_numbers numbers_of(const cn_adamw_step *s)
{
    return (adamw_numbers){.n = cn_gpu_int(s->n),
                           .scale = s->grad_scale,
                           .keep = 1.0f - s->lr * s->decay,
                           .step = s->lr / s->correct1,
                           .inv2 = 1.0f / s->correct2,
                           .beta1 = s->beta1,
                           .beta2 = s->beta2,
                           .eps = s->eps};
}

/* --- moments in bytes ------------------------------------------------------------------------- */

enum { VALUES = 256, BORDERS = 257, MAP = VALUES + BORDERS };

/* Of both maps the values, then the borders. */
static cn_status send_codes(gpu_backend *b, cn_ctx *ctx, const cn_quant8 *m, const cn_quant8 *v)
{
    float both[2 * MAP];
    if (b->codes) return CN_OK;
    for (int k = 0; k < 2; k++) {
        const cn_quant8 *q = k ? v : m;
        for (int i = 0; i < VALUES; i++) both[k * MAP + i] = q->value[i];
        for (int i = 0; i < BORDERS; i++) both[k * MAP + VALUES + i] = q->above[i];
    }
    if (!(b->codes = cn_vk_reserve(ctx, &b->queue, sizeof both, true))) return CN_ENOMEM;
    return cn_vk_write(ctx, &b->queue, b->codes, both, sizeof both);
}

static cn_status adamw8(gpu_backend *b, cn_ctx *ctx, const cn_adamw_step *s)
{
    cn_vk_queue *q = &b->queue;
    const int64_t blocks = (s->n + CN_QUANT8_BLOCK - 1) / CN_QUANT8_BLOCK;
    const size_t codes = ((size_t)s->n + 3) & ~(size_t)3, scales = (size_t)blocks * sizeof(float);
    CN_TRY(send_codes(b, ctx, s->m.map, s->v.map));
    const adamw8_args a = {.weights = cn_gpu_at(b, ctx, s->weights),
                           .grad = cn_gpu_at(b, ctx, s->grad),
                           .m = cn_gpu_at(b, ctx, s->m.codes),
                           .v = cn_gpu_at(b, ctx, s->v.codes),
                           .m_scales = cn_gpu_at(b, ctx, s->m.scales),
                           .v_scales = cn_gpu_at(b, ctx, s->v.scales),
                           .codes = cn_gpu_at(b, ctx, b->codes),
                           .numbers = numbers_of(s)};
    cn_vk_uses(q, s->grad, (size_t)s->n * sizeof(float), false);
    cn_vk_uses(q, s->weights, (size_t)s->n * sizeof(float), true);
    cn_vk_uses(q, s->m.codes, codes, true);
    cn_vk_uses(q, s->v.codes, codes, true);
    cn_vk_uses(q, s->m.scales, scales, true);
    cn_vk_uses(q, s->v.scales, scales, true);
    cn_vk_uses(q, b->codes, 2 * MAP * sizeof(float), false);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_adamw8, &a, sizeof a, blocks);
}

cn_status cn_gpu_adamw(cn_backend *base, cn_ctx *ctx, const cn_adamw_step *s)
{
    gpu_backend *b = (gpu_backend *)base;
    const size_t bytes = (size_t)s->n * sizeof(float);
    if (s->m.codes) return adamw8(b, ctx, s);
    const adamw_args a = {.weights = cn_gpu_at(b, ctx, s->weights),
                          .grad = cn_gpu_at(b, ctx, s->grad),
                          .m = cn_gpu_at(b, ctx, s->m.f32),
                          .v = cn_gpu_at(b, ctx, s->v.f32),
                          .numbers = numbers_of(s)};
    cn_vk_uses(&b->queue, s->grad, bytes, false);
    cn_vk_uses(&b->queue, s->weights, bytes, true);
    cn_vk_uses(&b->queue, s->m.f32, bytes, true);
    cn_vk_uses(&b->queue, s->v.f32, bytes, true);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_adamw, &a, sizeof a, (s->n + 63) / 64);
}

/* --- the norm --------------------------------------------------------------------------------- */

static int groups_of(const cn_floats *x)
{
    return (int)CN_MIN((x->n + SHARE - 1) / SHARE, MOST_GROUPS);
}

/* Room for so many floats; what was there before is in nobody's use. */
static cn_status make_room(gpu_backend *b, cn_ctx *ctx, size_t bytes)
{
    if (b->squares_bytes >= bytes) return CN_OK;
    cn_vk_release(&b->queue, b->squares);
    b->squares_bytes = 0;
    if (!(b->squares = cn_vk_reserve(ctx, &b->queue, bytes, true))) return CN_ENOMEM;
    b->squares_bytes = bytes;
    return CN_OK;
}

/* One pass of kernels/total.k, in `groups` groups. */
static cn_status add_up(gpu_backend *b, cn_ctx *ctx, const cn_floats *x, int what, int groups,
                        float *to)
{
    const cn_gpu_total_args a = {.a = cn_gpu_at(b, ctx, x->x),
                                 .y = cn_gpu_at(b, ctx, to),
                                 .n = cn_gpu_int(x->n),
                                 .what = what,
                                 .share = cn_gpu_int((x->n + groups - 1) / groups),
                                 .C = 1,
                                 .each = 1,
                                 .alpha = 1};
    cn_vk_uses(&b->queue, x->x, (size_t)x->n * sizeof(float), false);
    cn_vk_uses(&b->queue, to, (size_t)groups * sizeof(float), true);
    return cn_gpu_go(b, ctx, CN_GPU_KERNEL_total, &a, sizeof a, groups, 1, 1);
}

/* All arrays' sums of shares, one array's behind another's, then the totals behind them. */
cn_status cn_gpu_sum_squares(cn_backend *base, cn_ctx *ctx, const cn_floats *list, int64_t n,
                             double *out)
{
    gpu_backend *b = (gpu_backend *)base;
    int64_t shares = 0, at = 0;
    *out = 0;
    for (int64_t i = 0; i < n; i++) shares += groups_of(&list[i]);
    if (!shares) return CN_OK;
    float *totals = cn_alloc_array(ctx, (size_t)n, sizeof *totals);
    cn_status s = totals ? make_room(b, ctx, (size_t)(shares + n) * sizeof(float)) : CN_ENOMEM;
    for (int64_t i = 0; i < n && s == CN_OK; at += groups_of(&list[i++]))
        if (list[i].n) s = add_up(b, ctx, &list[i], SQUARES, groups_of(&list[i]), b->squares + at);
    at = 0;
    for (int64_t i = 0; i < n && s == CN_OK; at += groups_of(&list[i++]))
        s = add_up(b, ctx, &(cn_floats){b->squares + at, groups_of(&list[i])}, 0, 1,
                   b->squares + shares + i);
    if (s == CN_OK)
        s = cn_vk_read(ctx, &b->queue, totals, b->squares + shares, (size_t)n * sizeof *totals);
    for (int64_t i = 0; i < n && s == CN_OK; i++) *out += (double)totals[i];
    cn_free(totals);
    return s;
}

/* --- element by element ----------------------------------------------------------------------- */

static cn_status go(gpu_backend *b, cn_ctx *ctx, float *y, float *x, int64_t n, bool writes_x,
                    const cn_gpu_map_args *a)
{
    cn_gpu_map_args args = *a;
    args.y = cn_gpu_at(b, ctx, y);
    args.n = cn_gpu_int(n);
    cn_vk_uses(&b->queue, x, (size_t)n * sizeof *x, writes_x);
    cn_vk_uses(&b->queue, y, (size_t)n * sizeof *y, true);
    return cn_gpu_go_map(b, ctx, &args);
}

cn_status cn_gpu_accumulate(cn_backend *base, cn_ctx *ctx, float *sum, const float *x, int64_t n)
{
    gpu_backend *b = (gpu_backend *)base;
    return go(b, ctx, sum, (float *)(uintptr_t)x, n, false,
              &(cn_gpu_map_args){.what = CN_GPU_MAP_ADD,
                                 .a = cn_gpu_at(b, ctx, sum),
                                 .b = cn_gpu_at(b, ctx, x),
                                 .to = cn_gpu_int(n)});
}

cn_status cn_gpu_average(cn_backend *base, cn_ctx *ctx, float *mean, const float *x, float keep,
                         int64_t n)
{
    gpu_backend *b = (gpu_backend *)base;
    return go(b, ctx, mean, (float *)(uintptr_t)x, n, false,
              &(cn_gpu_map_args){
                  .what = CN_GPU_MAP_FOLLOW, .a = cn_gpu_at(b, ctx, x), .alpha = 1.0f - keep});
}

cn_status cn_gpu_exchange(cn_backend *base, cn_ctx *ctx, float *x, float *y, int64_t n)
{
    gpu_backend *b = (gpu_backend *)base;
    return go(b, ctx, y, x, n, true,
              &(cn_gpu_map_args){.what = CN_GPU_MAP_EXCHANGE, .a = cn_gpu_at(b, ctx, x)});
}
