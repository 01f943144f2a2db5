/* SPDX-License-Identifier: Apache-2.0 */
/* vk_cache.c - see vk_cache.h. */
#include "gpu/vk_cache.h"

void cn_vk_cache_open(const cn_vk_device *d, cn_vk_cache *out)
{
    size_t n = 0;
    char *data = cn_vk_file_read(d, "cache", &out->file, &n);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = n,
                                      .pInitialData = data};
    if (d->vk.CreatePipelineCache(d->device, &info, NULL, &out->cache) != VK_SUCCESS)
        out->cache = VK_NULL_HANDLE;
    cn_free(data);
}

void cn_vk_cache_save(const cn_vk_device *d, const cn_vk_cache *c)
{
    size_t n = 0;
    if (!c->cache || d->vk.GetPipelineCacheData(d->device, c->cache, &n, NULL) != VK_SUCCESS || !n)
        return;
    char *data = cn_alloc(NULL, n);
    if (data && d->vk.GetPipelineCacheData(d->device, c->cache, &n, data) == VK_SUCCESS)
        cn_vk_file_save(&c->file, data, n);
    cn_free(data);
}

void cn_vk_cache_close(const cn_vk_device *d, cn_vk_cache *c)
{
    if (c->cache) d->vk.DestroyPipelineCache(d->device, c->cache, NULL);
    *c = (cn_vk_cache){.cache = VK_NULL_HANDLE};
}
