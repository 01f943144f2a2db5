/* SPDX-License-Identifier: Apache-2.0 */
/* vk_loader.h - libvulkan's functions, found at run time, and the calls that fail told in words. */
#ifndef CN_GPU_VK_LOADER_H
#define CN_GPU_VK_LOADER_H

#include "base/base.h"

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

/* Those of an instance, then those of a device. */
#define CN_VK_INSTANCE_LIST(X)                \
    X(DestroyInstance)                        \
    X(EnumeratePhysicalDevices)               \
    X(EnumerateDeviceExtensionProperties)     \
    X(GetPhysicalDeviceProperties2)           \
    X(GetPhysicalDeviceFeatures2)             \
    X(GetPhysicalDeviceMemoryProperties2)     \
    X(GetPhysicalDeviceQueueFamilyProperties) \
    X(CreateDevice)                           \
    X(GetDeviceProcAddr)

#define CN_VK_DEVICE_LIST(X)       \
    X(DestroyDevice)               \
    X(GetDeviceQueue)              \
    X(CreateCommandPool)           \
    X(DestroyCommandPool)          \
    X(AllocateCommandBuffers)      \
    X(FreeCommandBuffers)          \
    X(CmdExecuteCommands)          \
    X(BeginCommandBuffer)          \
    X(EndCommandBuffer)            \
    X(CmdBindPipeline)             \
    X(CmdPushConstants)            \
    X(CmdDispatch)                 \
    X(CmdPipelineBarrier)          \
    X(CmdCopyBuffer)               \
    X(CmdFillBuffer)               \
    X(CmdWriteTimestamp)           \
    X(CmdResetQueryPool)           \
    X(CreateQueryPool)             \
    X(DestroyQueryPool)            \
    X(GetQueryPoolResults)         \
    X(QueueSubmit)                 \
    X(CreateFence)                 \
    X(DestroyFence)                \
    X(WaitForFences)               \
    X(ResetFences)                 \
    X(DeviceWaitIdle)              \
    X(CreateBuffer)                \
    X(DestroyBuffer)               \
    X(GetBufferMemoryRequirements) \
    X(GetBufferDeviceAddress)      \
    X(AllocateMemory)              \
    X(FreeMemory)                  \
    X(BindBufferMemory)            \
    X(MapMemory)                   \
    X(CreateShaderModule)          \
    X(DestroyShaderModule)         \
    X(CreatePipelineLayout)        \
    X(DestroyPipelineLayout)       \
    X(CreateComputePipelines)      \
    X(CreatePipelineCache)         \
    X(DestroyPipelineCache)        \
    X(GetPipelineCacheData)        \
    X(DestroyPipeline)

typedef struct cn_vk {
    void *library;
    VkInstance instance;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define CN_VK_FIELD(name) PFN_vk##name name;
    CN_VK_INSTANCE_LIST(CN_VK_FIELD)
    CN_VK_DEVICE_LIST(CN_VK_FIELD)
#undef CN_VK_FIELD
} cn_vk;

/* Opens libvulkan and an instance. CN_EIO with one line where either isn't there. */
cn_status cn_vk_open(cn_ctx *ctx, cn_vk *vk) CN_CHECKED;
/* The device's functions. */
cn_status cn_vk_load_device(cn_ctx *ctx, cn_vk *vk, VkDevice device) CN_CHECKED;
bool cn_vk_has_extension(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, const char *name);
void cn_vk_close(cn_vk *vk);
/* CN_OK for VK_SUCCESS; else a line: "Vulkan: cannot WHAT: reason". */
cn_status cn_vk_check(cn_ctx *ctx, VkResult result, const char *what) CN_CHECKED;

#endif
