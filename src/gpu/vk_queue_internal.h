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

#endif
