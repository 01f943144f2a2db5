/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer_steps.c - what AdamW asks of the device. These functions have no status: what fails of
 * them is told by the next dispatch or read. */
#include "gpu/gpu_ops.h"

#include <math.h>

enum { SQUARES = 3, SHARE = 4096, MOST_GROUPS = 1023 };

typedef struct adamw_args {
    VkDeviceAddress weights, grad, m, v;
    int n;
    float scale, keep, step, inv2, beta1, beta2, eps;
} adamw_args;

static void keep_failure(gpu_backend *b, cn_status s)
{
    if (b->failed == CN_OK) b->failed = s;
}

void cn_gpu_adamw(cn_backend *base, const cn_adamw_step *s)
{
    gpu_backend *b = (gpu_backend *)base;
    const size_t bytes = (size_t)s->n * sizeof(float);
    const adamw_args a = {.weights = cn_gpu_at(b, NULL, s->weights),
                          .grad = cn_gpu_at(b, NULL, s->grad),
                          .m = cn_gpu_at(b, NULL, s->m.f32),
                          .v = cn_gpu_at(b, NULL, s->v.f32),
                          .n = cn_gpu_int(s->n),
                          .scale = s->grad_scale,
                          .keep = 1.0f - s->lr * s->decay,
                          .step = s->lr / s->correct1,
                          .inv2 = 1.0f / s->correct2,
                          .beta1 = s->beta1,
                          .beta2 = s->beta2,
                          .eps = s->eps};
    cn_vk_uses(&b->queue, s->grad, bytes, false);
    cn_vk_uses(&b->queue, s->weights, bytes, true);
    cn_vk_uses(&b->queue, s->m.f32, bytes, true);
    cn_vk_uses(&b->queue, s->v.f32, bytes, true);
    keep_failure(b, cn_gpu_go_flat(b, NULL, CN_GPU_KERNEL_adamw, &a, sizeof a, (s->n + 63) / 64));
}

/* The sums of each group's share at the scratch's start, their total behind them. */
static cn_status squares(gpu_backend *b, const float *x, int64_t n, float *out)
{
    const int groups = (int)CN_MIN((n + SHARE - 1) / SHARE, MOST_GROUPS);
    if (!b->squares &&
        !(b->squares = cn_vk_reserve(NULL, &b->queue, (MOST_GROUPS + 1) * sizeof(float), true)))
        return CN_ENOMEM;
    float *total = b->squares + MOST_GROUPS;
    const cn_gpu_total_args parts = {.a = cn_gpu_at(b, NULL, x),
                                     .y = cn_gpu_at(b, NULL, b->squares),
                                     .n = cn_gpu_int(n),
                                     .what = SQUARES,
                                     .share = cn_gpu_int((n + groups - 1) / groups),
                                     .C = 1,
                                     .each = 1,
                                     .alpha = 1};
    cn_vk_uses(&b->queue, x, (size_t)n * sizeof(float), false);
    cn_vk_uses(&b->queue, b->squares, (size_t)groups * sizeof(float), true);
    CN_TRY(cn_gpu_go(b, NULL, CN_GPU_KERNEL_total, &parts, sizeof parts, groups, 1, 1));
    cn_gpu_total_args all = parts;
    all.a = parts.y;
    all.y = cn_gpu_at(b, NULL, total);
    all.n = all.share = groups;
    all.what = 0;
    cn_vk_uses(&b->queue, b->squares, (size_t)groups * sizeof(float), false);
    cn_vk_uses(&b->queue, total, sizeof *total, true);
    CN_TRY(cn_gpu_go(b, NULL, CN_GPU_KERNEL_total, &all, sizeof all, 1, 1, 1));
    return cn_vk_read(NULL, &b->queue, out, total, sizeof *out);
}

/* NaN where it failed, which the optimizer refuses to step by. */
double cn_gpu_sum_squares(cn_backend *base, const float *x, int64_t n)
{
    float sum = 0;
    const cn_status s = squares((gpu_backend *)base, x, n, &sum);
    return s == CN_OK ? (double)sum : (double)NAN;
}
