/* SPDX-License-Identifier: Apache-2.0 */
/* vk_profile.c - what kernels take, by timestamps that the device writes behind each of them: under
 * CN_PROFILE, and while products' tiles are tried.
 *
 * A barrier stands before every dispatch and copy then, or one that runs beside its neighbours
 * would be charged for them; else nothing of this is recorded. Timestamps are read when somebody
 * waits for the device anyway, or when there is room for no more of them.
 */
#include "gpu/vk_queue_internal.h"

#include "base/log.h"

enum { TIMESTAMPS = 4096 };

static cn_status create_pool(cn_ctx *ctx, cn_vk_queue *q)
{
    VkQueryPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = TIMESTAMPS};
    cn_vk_profile *p = &q->profile;
    p->list = cn_alloc_array(ctx, TIMESTAMPS, sizeof *p->list);
    if (!p->list) return CN_ENOMEM;
    return cn_vk_check(ctx, q->d.vk.CreateQueryPool(q->d.device, &pool, NULL, &p->pool),
                       "create a query pool");
}

cn_status cn_vk_profile_turn(cn_ctx *ctx, cn_vk_queue *q, bool on)
{
    cn_vk_profile *p = &q->profile;
    if (on && !p->pool) CN_TRY(create_pool(ctx, q));
    p->on = on || p->told;
    return CN_OK;
}

cn_status cn_vk_profile_open(cn_ctx *ctx, cn_vk_queue *q)
{
    q->profile.told = cn_debug_get().profile && q->d.tick_bits;
    return cn_vk_profile_turn(ctx, q, q->profile.told);
}

void cn_vk_profile_close(cn_vk_queue *q)
{
    if (q->profile.pool) q->d.vk.DestroyQueryPool(q->d.device, q->profile.pool, NULL);
    cn_free(q->profile.list);
    q->profile = (cn_vk_profile){.pool = VK_NULL_HANDLE};
}

static void write_timestamp(cn_vk_queue *q, int kind, int trial, int tile)
{
    cn_vk_profile *p = &q->profile;
    p->list[p->n] =
        (cn_vk_timestamp){.kind = kind, .seconds = p->seconds, .trial = trial, .tile = tile};
    q->d.vk.CmdWriteTimestamp(q->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, p->pool,
                              (uint32_t)p->n++);
}

void cn_vk_profile_begin(cn_vk_queue *q)
{
    if (!q->profile.on) return;
    q->profile.n = 0;
    q->d.vk.CmdResetQueryPool(q->commands, q->profile.pool, 0, TIMESTAMPS);
    write_timestamp(q, 0, -1, 0);
}

cn_status cn_vk_profile_ended(cn_ctx *ctx, cn_vk_queue *q, int kind, int trial, int tile)
{
    if (!q->profile.on || q->keeping) return CN_OK;
    write_timestamp(q, kind, trial, tile);
    return q->profile.n < TIMESTAMPS ? CN_OK : cn_vk_finish(ctx, q);
}

cn_status cn_vk_profile_collect(cn_ctx *ctx, cn_vk_queue *q)
{
    cn_vk_profile *p = &q->profile;
    const int n = p->n;
    uint64_t *ticks = n ? cn_alloc_array(ctx, (size_t)n, sizeof *ticks) : NULL;
    p->n = 0;
    if (!n) return CN_OK;
    if (!ticks) return CN_ENOMEM;
    const cn_status s =
        cn_vk_check(ctx,
                    q->d.vk.GetQueryPoolResults(q->d.device, p->pool, 0, (uint32_t)n,
                                                (size_t)n * sizeof *ticks, ticks, sizeof *ticks,
                                                VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
                    "read timestamps");
    for (int i = 1; s == CN_OK && i < n; i++) {
        const uint64_t mask =
            q->d.tick_bits < 64 ? ((uint64_t)1 << q->d.tick_bits) - 1 : UINT64_MAX;
        const double seconds = (double)((ticks[i] - ticks[i - 1]) & mask) * q->d.tick_s;
        const cn_vk_timestamp *t = &p->list[i];
        p->kinds[t->kind].seconds += seconds;
        p->kinds[t->kind].calls++;
        if (t->seconds) *t->seconds += seconds;
        if (t->trial >= 0) cn_vk_tiles_took(&q->chooser, t->trial, t->tile, seconds);
    }
    cn_free(ticks);
    return s;
}

void cn_vk_profile_text(const cn_vk_queue *q, cn_str *out)
{
    const cn_vk_profile *p = &q->profile;
    bool shown[CN_VK_KINDS] = {0};
    double total = 0;
    if (!p->told) return;
    for (int k = 0; k < CN_VK_KINDS; k++) total += p->kinds[k].seconds;
    cn_str_addf(out, "%-18s %9s %10s %7s\n", "kernel", "calls", "seconds", "share");
    for (;;) {
        int most = -1;
        for (int k = 0; k < CN_VK_KINDS; k++)
            if (p->kinds[k].calls && !shown[k] &&
                (most < 0 || p->kinds[k].seconds > p->kinds[most].seconds))
                most = k;
        if (most < 0) break;
        shown[most] = true;
        cn_str_addf(out, "%-18s %9lld %10.3f %6.1f%%\n",
                    most == CN_VK_COPY ? "copy" : cn_gpu_codes[most].name,
                    (long long)p->kinds[most].calls, p->kinds[most].seconds,
                    100 * p->kinds[most].seconds / CN_MAX(total, 1e-12));
    }
    cn_str_addf(out, "%-18s %9s %10.3f\n", "all kernels", "", total);
    cn_str_addf(out, "%s: %lld dispatches, %lld barriers, %lld submissions\n", q->d.about.name,
                (long long)q->counts.dispatches, (long long)q->counts.barriers,
                (long long)q->counts.submissions);
}
