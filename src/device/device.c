/* SPDX-License-Identifier: Apache-2.0 */
/* device.c - see device.h. */
#include "device/device.h"

#include "cpu/cpu.h"
#include "gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

/* The number behind "vulkan:"; -1: none is named. */
static bool vulkan_index(const char *word, int *out)
{
    static const char name[] = "vulkan";
    if (strncmp(word, name, sizeof name - 1) != 0) return false;
    word += sizeof name - 1;
    *out = -1;
    if (!*word) return true;
    if (*word++ != ':' || !*word) return false;
    char *end;
    const long n = strtol(word, &end, 10);
    if (*end || *word < '0' || *word > '9' || n >= CN_GPU_MAX_DEVICES) return false;
    *out = (int)n;
    return true;
}

bool cn_device_is_cpu(const char *device)
{
    return !device || !strcmp(device, "auto") || !strcmp(device, "cpu");
}

cn_status cn_backend_create(cn_ctx *ctx, const char *device, cn_backend **out)
{
    return cn_backend_create_for_rank(ctx, device, 0, out);
}

cn_status cn_backend_create_for_rank(cn_ctx *ctx, const char *device, int rank, cn_backend **out)
{
    int index;
    if (cn_device_is_cpu(device)) return cn_backend_cpu_create(ctx, out);
    if (vulkan_index(device, &index)) return cn_backend_vulkan_create(ctx, index, rank, out);
    return cn_fail(ctx, CN_EINVAL,
                   "--device %s: auto, cpu, vulkan or vulkan:N, N as controlnet devices numbers "
                   "them",
                   device);
}
