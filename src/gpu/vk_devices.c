/* SPDX-License-Identifier: Apache-2.0 */
/* vk_devices.c - see vk_devices.h. A device is asked about before it is opened, so that what it
 * lacks is told in a word instead of by a driver's error. */
#include "gpu/vk_devices.h"

#include "gpu/vk_matrices.h"

#include <stdio.h>
#include <string.h>

static const char *type_word(VkPhysicalDeviceType t)
{
    switch (t) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return "cpu";
    default: return "other";
    }
}

/* The largest heap of its own, and what of it may be taken. */
static void ask_memory(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, cn_gpu_device *out)
{
    const bool told = cn_vk_has_extension(vk, ctx, d, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = told ? &budget : NULL};
    vk->GetPhysicalDeviceMemoryProperties2(d, &m);
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *h = &m.memoryProperties.memoryHeaps[i];
        if (!(h->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) || h->size <= out->memory_bytes) continue;
        out->memory_bytes = out->free_bytes = h->size;
        if (!told) continue;
        const uint64_t all = budget.heapBudget[i], used = budget.heapUsage[i];
        out->free_bytes = CN_MIN(h->size, all > used ? all - used : 0);
    }
}

static void ask_features(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, cn_gpu_device *out)
{
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                   .pNext = &f12};
    if (out->api_major == 1 && out->api_minor < 2) {
        out->missing = "Vulkan 1.2";
        return;
    }
    vk->GetPhysicalDeviceFeatures2(d, &f);
    out->f16 = f12.shaderFloat16;
    cn_vk_matrices_ask(vk, ctx, d, out);
    out->missing = !f12.bufferDeviceAddress ? "buffer device addresses"
                   : !f12.scalarBlockLayout ? "scalar block layout"
                                            : NULL;
}

static void ask(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, cn_gpu_device *out)
{
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceMaintenance3Properties limits = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &driver};
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &limits};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &subgroup};
    vk->GetPhysicalDeviceProperties2(d, &p);
    *out = (cn_gpu_device){.type = type_word(p.properties.deviceType),
                           .api_major = (int)VK_API_VERSION_MAJOR(p.properties.apiVersion),
                           .api_minor = (int)VK_API_VERSION_MINOR(p.properties.apiVersion),
                           .largest_bytes = limits.maxMemoryAllocationSize,
                           .subgroup = subgroup.subgroupSize};
    snprintf(out->name, sizeof out->name, "%s", p.properties.deviceName);
    snprintf(out->driver, sizeof out->driver, "%s%s%s", driver.driverName,
             *driver.driverInfo ? ", " : "", driver.driverInfo);
    ask_memory(vk, ctx, d, out);
    ask_features(vk, ctx, d, out);
}

static cn_status list(cn_ctx *ctx, const cn_vk *vk, VkPhysicalDevice *physical, cn_gpu_device *out,
                      int *n)
{
    uint32_t count = CN_GPU_MAX_DEVICES;
    const VkResult r = vk->EnumeratePhysicalDevices(vk->instance, &count, physical);
    if (r != VK_INCOMPLETE) CN_TRY(cn_vk_check(ctx, r, "list the devices"));
    if (!count)
        return cn_fail(ctx, CN_EIO,
                       "Vulkan: no device has a driver here (mesa-vulkan-drivers or its maker's)");
    for (uint32_t i = 0; i < count; i++) ask(vk, ctx, physical[i], &out[i]);
    *n = (int)count;
    return CN_OK;
}

cn_status cn_gpu_devices(cn_ctx *ctx, cn_gpu_device *out, int *n)
{
    cn_vk vk;
    VkPhysicalDevice physical[CN_GPU_MAX_DEVICES];
    CN_TRY(cn_vk_open(ctx, &vk));
    const cn_status s = list(ctx, &vk, physical, out, n);
    cn_vk_close(&vk);
    return s;
}

/* --- one of them ------------------------------------------------------------------------------ */

/* Those like number `first`, turn by turn. */
static int turn_of(const cn_gpu_device *all, int n, int first, int turn)
{
    int like[CN_GPU_MAX_DEVICES] = {0}, count = 0;
    for (int i = 0; i < n; i++)
        if (!all[i].missing && !strcmp(all[i].type, all[first].type)) like[count++] = i;
    return like[turn % count];
}

static cn_status choose(cn_ctx *ctx, const cn_gpu_device *all, int n, int index, int turn, int *out)
{
    static const char *const order[] = {"discrete", "integrated", "virtual", "other", "cpu"};
    if (index >= n)
        return cn_fail(ctx, CN_EINVAL, "there is no device vulkan:%d; the last is vulkan:%d", index,
                       n - 1);
    *out = index;
    for (size_t k = 0; index < 0 && *out < 0 && k < CN_COUNT(order); k++)
        for (int i = n - 1; i >= 0; i--)
            if (!all[i].missing && !strcmp(all[i].type, order[k])) *out = i;
    const cn_gpu_device *d = &all[CN_MAX(*out, 0)];
    if (*out < 0 || d->missing)
        return cn_fail(ctx, CN_EINVAL, "%s can't be used: it lacks %s", d->name, d->missing);
    if (index < 0) *out = turn_of(all, n, *out, turn);
    return CN_OK;
}

static cn_status find_queue(cn_ctx *ctx, cn_vk_device *d)
{
    VkQueueFamilyProperties families[32];
    uint32_t n = CN_COUNT(families);
    d->vk.GetPhysicalDeviceQueueFamilyProperties(d->physical, &n, families);
    for (d->family = 0; d->family < n; d->family++)
        if (families[d->family].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            d->tick_bits = families[d->family].timestampValidBits;
            return CN_OK;
        }
    return cn_fail(ctx, CN_EINVAL, "%s can't be used: it computes nothing", d->about.name);
}

static cn_status create(cn_ctx *ctx, cn_vk_device *d)
{
    const float priority = 1;
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .bufferDeviceAddress = VK_TRUE,
        .scalarBlockLayout = VK_TRUE};
    cn_vk_matrix_features matrices;
    const char *extensions[2];
    uint32_t n_extensions = 0;
    CN_TRY(find_queue(ctx, d));
    cn_vk_matrices_enable(&d->about, &f12, &matrices, extensions, &n_extensions);
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = d->family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = &f12,
                                     .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = n_extensions,
                                     .ppEnabledExtensionNames = extensions};
    CN_TRY(cn_vk_check(ctx, d->vk.CreateDevice(d->physical, &info, NULL, &d->device),
                       "open the device"));
    CN_TRY(cn_vk_load_device(ctx, &d->vk, d->device));
    d->vk.GetDeviceQueue(d->device, d->family, 0, &d->queue);
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    d->vk.GetPhysicalDeviceMemoryProperties2(d->physical, &m);
    d->memory = m.memoryProperties;
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    d->vk.GetPhysicalDeviceProperties2(d->physical, &p);
    d->tick_s = (double)p.properties.limits.timestampPeriod * 1e-9;
    return CN_OK;
}

cn_status cn_vk_device_open(cn_ctx *ctx, int index, int turn, cn_vk_device *out)
{
    cn_vk_device d = {0};
    cn_gpu_device all[CN_GPU_MAX_DEVICES];
    VkPhysicalDevice physical[CN_GPU_MAX_DEVICES];
    int n = 0, k = 0;
    CN_TRY(cn_vk_open(ctx, &d.vk));
    cn_status s = list(ctx, &d.vk, physical, all, &n);
    if (s == CN_OK) s = choose(ctx, all, n, index, turn, &k);
    if (s == CN_OK) {
        d.physical = physical[k];
        d.about = all[k];
        s = create(ctx, &d);
    }
    if (s != CN_OK) {
        cn_vk_device_close(&d);
        return s;
    }
    *out = d;
    return CN_OK;
}

size_t cn_vk_device_free(const cn_vk_device *d)
{
    cn_gpu_device now = {0};
    ask_memory(&d->vk, NULL, d->physical, &now);
    return (size_t)now.free_bytes;
}

void cn_vk_device_close(cn_vk_device *d)
{
    if (d->device && d->vk.DestroyDevice) d->vk.DestroyDevice(d->device, NULL);
    cn_vk_close(&d->vk);
}
