/* SPDX-License-Identifier: Apache-2.0 */
/* vk_cache.h - what a driver made of the kernels, kept from run to run.
 *
 * A file for each device and driver in the user's cache folder. One that is missing, damaged or of
 * other kernels, and a folder that can't be written, cost the time of compiling and nothing else:
 * nobody is told.
 */
#ifndef CN_GPU_VK_CACHE_H
#define CN_GPU_VK_CACHE_H

#include "gpu/vk_devices.h"

typedef struct cn_vk_cache {
    VkPipelineCache cache;    /* VK_NULL_HANDLE: the driver keeps none */
    char path[CN_PATH_BYTES]; /* "": there is no folder for it */
    uint64_t hash;            /* of what was read; 0: nothing was */
} cn_vk_cache;

void cn_vk_cache_open(const cn_vk_device *d, cn_vk_cache *out);
/* Where it isn't what was read any more it is written. */
void cn_vk_cache_save(const cn_vk_device *d, const cn_vk_cache *c);
void cn_vk_cache_close(const cn_vk_device *d, cn_vk_cache *c);

#endif
