/* SPDX-License-Identifier: Apache-2.0 */
/* vk_devices.h - what devices there are, and one of them opened. */
#ifndef CN_GPU_VK_DEVICES_H
#define CN_GPU_VK_DEVICES_H

#include "gpu/gpu.h"
#include "gpu/vk_loader.h"

typedef struct cn_vk_device {
    cn_vk vk;
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    uint32_t tick_bits; /* of a timestamp; 0: the queue writes none */
    double tick_s;
    cn_gpu_device about;
} cn_vk_device;

/* index and turn as for cn_backend_vulkan_create. */
cn_status cn_vk_device_open(cn_ctx *ctx, int index, int turn, cn_vk_device *out) CN_CHECKED;
void cn_vk_device_close(cn_vk_device *d);
/* What may be taken of its memory now. */
size_t cn_vk_device_free(const cn_vk_device *d);

#endif
