/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_none.c - in a build without Vulkan, instead of the other files of this folder. */
#include "gpu/gpu.h"

static cn_status refuse(cn_ctx *ctx)
{
    return cn_fail(ctx, CN_EINVAL,
                   "this build has no Vulkan: install libvulkan-dev and glslang-tools, and build "
                   "again");
}

cn_status cn_gpu_devices(cn_ctx *ctx, cn_gpu_device *out, int *n)
{
    (void)out, (void)n;
    return refuse(ctx);
}

cn_status cn_backend_vulkan_create(cn_ctx *ctx, int index, int turn, cn_backend **out)
{
    (void)index, (void)turn, (void)out;
    return refuse(ctx);
}

void cn_gpu_limit(cn_backend *b, size_t bytes)
{
    (void)b, (void)bytes;
}

void cn_gpu_tile(cn_backend *b, int tile)
{
    (void)b, (void)tile;
}

void cn_gpu_without_matrices(cn_backend *b)
{
    (void)b;
}

void cn_gpu_counts_get(const cn_backend *b, cn_gpu_counts *out)
{
    (void)b;
    *out = (cn_gpu_counts){0};
}
