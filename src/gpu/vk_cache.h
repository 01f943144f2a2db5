/* SPDX-License-Identifier: Apache-2.0 */
/* vk_cache.h - what a driver made of the kernels, kept from run to run in a file (vk_files.h). */
#ifndef CN_GPU_VK_CACHE_H
#define CN_GPU_VK_CACHE_H

#include "gpu/vk_files.h"

typedef struct cn_vk_cache {
    VkPipelineCache cache; /* VK_NULL_HANDLE: the driver keeps none */
    cn_vk_file file;
} cn_vk_cache;

void cn_vk_cache_open(const cn_vk_device *d, cn_vk_cache *out);
/* Where it isn't what was read any more it is written. */
void cn_vk_cache_save(const cn_vk_device *d, const cn_vk_cache *c);
void cn_vk_cache_close(const cn_vk_device *d, cn_vk_cache *c);

#endif
