/* SPDX-License-Identifier: Apache-2.0 */
/* vk_cache.c - see vk_cache.h. The file has a head of its own, since not every driver looks closely
 * at what it is given: data whose length or hash is another isn't handed to it. */
#include "gpu/vk_cache.h"

#include "base/log.h"
#include "gpu/kernel_list.h"

#include <string.h>
#include <sys/stat.h>

enum { MOST_BYTES = 256 << 20 };
static const char magic[8] = "CNVKPC1";

typedef struct head {
    char magic[8];
    uint64_t kernels; /* hash of their codes: those of other programs would only take room */
    uint64_t bytes, hash;
} head;

static uint64_t kernels_hash(void)
{
    uint64_t each[CN_GPU_KERNELS];
    for (int k = 0; k < CN_GPU_KERNELS; k++)
        each[k] = cn_hash64(cn_gpu_codes[k].words, cn_gpu_codes[k].bytes);
    return cn_hash64(each, sizeof each);
}

/* Names device and driver as the driver does. */
static cn_status name_file(const cn_vk_device *d, char path[CN_PATH_BYTES])
{
    char dir[CN_PATH_BYTES];
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    d->vk.GetPhysicalDeviceProperties2(d->physical, &p);
    uint32_t key[3 + VK_UUID_SIZE / 4] = {p.properties.vendorID, p.properties.deviceID,
                                          p.properties.driverVersion};
    memcpy(key + 3, p.properties.pipelineCacheUUID, VK_UUID_SIZE);
    CN_TRY(cn_cache_dir(dir));
    return cn_format(NULL, path, CN_PATH_BYTES, "%s/controlnet/vulkan-%016llx.cache", dir,
                     (unsigned long long)cn_hash64(key, sizeof key));
}

/* The data in a file's bytes; NULL: it isn't whole or not of these kernels. */
static const char *data_of(const char *file, size_t n, head *h)
{
    if (n < sizeof *h) return NULL;
    memcpy(h, file, sizeof *h);
    const char *data = file + sizeof *h;
    const bool whole = !memcmp(h->magic, magic, sizeof magic) && h->kernels == kernels_hash() &&
                       h->bytes == n - sizeof *h && h->hash == cn_hash64(data, h->bytes);
    return whole ? data : NULL;
}

void cn_vk_cache_open(const cn_vk_device *d, cn_vk_cache *out)
{
    char *file = NULL;
    size_t n = 0;
    head h = {.bytes = 0};
    *out = (cn_vk_cache){.cache = VK_NULL_HANDLE};
    if (name_file(d, out->path) != CN_OK) out->path[0] = 0;
    if (out->path[0] && cn_file_read(NULL, out->path, MOST_BYTES, &file, &n) != CN_OK) n = 0;
    const char *data = data_of(file, n, &h);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = data ? h.bytes : 0,
                                      .pInitialData = data};
    if (data) out->hash = h.hash;
    if (d->vk.CreatePipelineCache(d->device, &info, NULL, &out->cache) != VK_SUCCESS)
        out->cache = VK_NULL_HANDLE;
    cn_free(file);
}

/* What the driver has now, behind a head; NULL: nothing. */
static char *compose(const cn_vk_device *d, const cn_vk_cache *c, size_t *bytes, head *h)
{
    size_t n = 0;
    if (d->vk.GetPipelineCacheData(d->device, c->cache, &n, NULL) != VK_SUCCESS || !n ||
        n > MOST_BYTES - sizeof *h)
        return NULL;
    char *file = cn_alloc(NULL, sizeof *h + n);
    if (!file) return NULL;
    if (d->vk.GetPipelineCacheData(d->device, c->cache, &n, file + sizeof *h) != VK_SUCCESS) {
        cn_free(file);
        return NULL;
    }
    *h = (head){.kernels = kernels_hash(), .bytes = n, .hash = cn_hash64(file + sizeof *h, n)};
    memcpy(h->magic, magic, sizeof magic);
    memcpy(file, h, sizeof *h);
    *bytes = sizeof *h + n;
    return file;
}

/* Nothing but a file is replaced: writing into a pipe would wait for its reader. */
static bool may_write(const char *path)
{
    struct stat st;
    return stat(path, &st) != 0 || S_ISREG(st.st_mode);
}

void cn_vk_cache_save(const cn_vk_device *d, const cn_vk_cache *c)
{
    char dir[CN_PATH_BYTES];
    size_t bytes = 0;
    head h;
    if (!c->cache || !c->path[0]) return;
    char *file = compose(d, c, &bytes, &h);
    if (!file) return;
    memcpy(dir, c->path, sizeof dir);
    *strrchr(dir, '/') = 0;
    const cn_status s = h.hash == c->hash || !may_write(c->path) || cn_dir_make(NULL, dir) != CN_OK
                            ? CN_OK
                            : cn_file_write(NULL, c->path, file, bytes);
    (void)s; /* the next run compiles */
    cn_free(file);
}

void cn_vk_cache_close(const cn_vk_device *d, cn_vk_cache *c)
{
    if (c->cache) d->vk.DestroyPipelineCache(d->device, c->cache, NULL);
    *c = (cn_vk_cache){.cache = VK_NULL_HANDLE};
}
