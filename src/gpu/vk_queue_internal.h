/* SPDX-License-Identifier: Apache-2.0 */
/* vk_queue_internal.h - what vk_memory.c and vk_queue.c share. */
#ifndef CN_GPU_VK_QUEUE_INTERNAL_H
#define CN_GPU_VK_QUEUE_INTERNAL_H

#include "gpu/vk_queue.h"

cn_status cn_vk_staging_open(cn_ctx *ctx, cn_vk_queue *q) CN_CHECKED;
/* All ranges go, with their memory. */
void cn_vk_memory_close(cn_vk_queue *q);
/* The command buffer that is recorded into. */
static inline VkCommandBuffer cn_vk_target(const cn_vk_queue *q)
{
    return q->keeping ? q->keeping->commands : q->commands;
}
/* The command buffer is open and what comes next may be recorded: behind a barrier, if what was
 * said of it needs one. */
cn_status cn_vk_record(cn_ctx *ctx, cn_vk_queue *q) CN_CHECKED;

/* --- vk_profile.c; nothing is recorded where nothing is timed --------------------------------- */

cn_status cn_vk_profile_open(cn_ctx *ctx, cn_vk_queue *q) CN_CHECKED;
void cn_vk_profile_close(cn_vk_queue *q);
/* Whether what is recorded from here on is timed without CN_PROFILE too; nothing is being recorded.
 */
cn_status cn_vk_profile_turn(cn_ctx *ctx, cn_vk_queue *q, bool on) CN_CHECKED;
/* The queue's own command buffer was opened. */
void cn_vk_profile_begin(cn_vk_queue *q);
/* A dispatch or copy of this kind was recorded; trial, tile: of cn_vk_call. */
cn_status cn_vk_profile_ended(cn_ctx *ctx, cn_vk_queue *q, int kind, int trial,
                              int tile) CN_CHECKED;
/* All that was recorded has ended. */
cn_status cn_vk_profile_collect(cn_ctx *ctx, cn_vk_queue *q) CN_CHECKED;

#endif
