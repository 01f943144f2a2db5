/* SPDX-License-Identifier: Apache-2.0 */
/* vk_loader.c - see vk_loader.h. */
#include "gpu/vk_loader.h"

#include <dlfcn.h>
#include <string.h>

static const char *reason(VkResult r)
{
    switch (r) {
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
    case VK_ERROR_DEVICE_LOST: return "the device was lost: its driver gave it up or it is gone";
    case VK_ERROR_INITIALIZATION_FAILED: return "the driver doesn't start";
    case VK_ERROR_INCOMPATIBLE_DRIVER: return "no driver of a device is installed";
    case VK_ERROR_EXTENSION_NOT_PRESENT: return "an extension is missing";
    case VK_ERROR_FEATURE_NOT_PRESENT: return "a feature is missing";
    case VK_ERROR_TOO_MANY_OBJECTS: return "too many objects";
    case VK_ERROR_MEMORY_MAP_FAILED: return "memory can't be mapped";
    case VK_TIMEOUT: return "it takes too long";
    default: return NULL;
    }
}

cn_status cn_vk_check(cn_ctx *ctx, VkResult r, const char *what)
{
    if (r == VK_SUCCESS) return CN_OK;
    const bool memory = r == VK_ERROR_OUT_OF_HOST_MEMORY || r == VK_ERROR_OUT_OF_DEVICE_MEMORY;
    const cn_status s = memory ? CN_ENOMEM : CN_EIO;
    return reason(r) ? cn_fail(ctx, s, "Vulkan: cannot %s: %s", what, reason(r))
                     : cn_fail(ctx, s, "Vulkan: cannot %s: error %d", what, (int)r);
}

#define INSTANCE_FUNCTION(name)                                                        \
    if (!(vk->name = (PFN_vk##name)vk->GetInstanceProcAddr(vk->instance, "vk" #name))) \
        return cn_fail(ctx, CN_EIO, "Vulkan: this libvulkan has no vk%s", #name);
#define DEVICE_FUNCTION(name)                                                  \
    if (!(vk->name = (PFN_vk##name)vk->GetDeviceProcAddr(device, "vk" #name))) \
        return cn_fail(ctx, CN_EIO, "Vulkan: the driver has no vk%s", #name);

static cn_status create_instance(cn_ctx *ctx, cn_vk *vk)
{
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "controlnet",
                                   .apiVersion = VK_API_VERSION_1_2};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pApplicationInfo = &app};
    PFN_vkCreateInstance create =
        (PFN_vkCreateInstance)vk->GetInstanceProcAddr(NULL, "vkCreateInstance");
    if (!create) return cn_fail(ctx, CN_EIO, "Vulkan: libvulkan has no vkCreateInstance");
    CN_TRY(cn_vk_check(ctx, create(&info, NULL, &vk->instance), "start"));
    CN_VK_INSTANCE_LIST(INSTANCE_FUNCTION)
    return CN_OK;
}

cn_status cn_vk_open(cn_ctx *ctx, cn_vk *vk)
{
    *vk = (cn_vk){.library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL)};
    if (!vk->library)
        return cn_fail(ctx, CN_EIO,
                       "Vulkan: libvulkan.so.1 is not there; install libvulkan1 and the driver of "
                       "the device (mesa-vulkan-drivers or its maker's)");
    vk->GetInstanceProcAddr =
        (PFN_vkGetInstanceProcAddr)dlsym(vk->library, "vkGetInstanceProcAddr");
    cn_status s = vk->GetInstanceProcAddr
                      ? create_instance(ctx, vk)
                      : cn_fail(ctx, CN_EIO, "Vulkan: libvulkan.so.1 is something else");
    if (s != CN_OK) cn_vk_close(vk);
    return s;
}

cn_status cn_vk_load_device(cn_ctx *ctx, cn_vk *vk, VkDevice device)
{
    CN_VK_DEVICE_LIST(DEVICE_FUNCTION)
    return CN_OK;
}

bool cn_vk_has_extension(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, const char *name)
{
    uint32_t n = 0;
    bool found = false;
    if (vk->EnumerateDeviceExtensionProperties(d, NULL, &n, NULL) != VK_SUCCESS) return false;
    VkExtensionProperties *list = cn_alloc_array(ctx, (size_t)n + 1, sizeof *list);
    if (!list) return false;
    if (vk->EnumerateDeviceExtensionProperties(d, NULL, &n, list) != VK_SUCCESS) n = 0;
    for (uint32_t i = 0; i < n && !found; i++) found = !strcmp(list[i].extensionName, name);
    cn_free(list);
    return found;
}

void cn_vk_close(cn_vk *vk)
{
    if (vk->instance && vk->DestroyInstance) vk->DestroyInstance(vk->instance, NULL);
    if (vk->library) dlclose(vk->library);
    *vk = (cn_vk){0};
}
