/* SPDX-License-Identifier: Apache-2.0 */
/* vk_files.c - see vk_files.h. A file has a head of its own, since not every driver looks closely
 * at what it is given: data whose length or hash is another isn't used. */
#include "gpu/vk_files.h"

#include "base/log.h"
#include "gpu/kernel_list.h"

#include <string.h>
#include <sys/stat.h>

enum { MOST_BYTES = 256 << 20 };
static const char magic[8] = "CNVKPC1";

typedef struct head {
    char magic[8];
    uint64_t kernels; /* hash of their codes: what is of other programs would only take room */
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
static cn_status name_file(const cn_vk_device *d, const char *kind, char path[CN_PATH_BYTES])
{
    char dir[CN_PATH_BYTES];
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    d->vk.GetPhysicalDeviceProperties2(d->physical, &p);
    uint32_t key[3 + VK_UUID_SIZE / 4] = {p.properties.vendorID, p.properties.deviceID,
                                          p.properties.driverVersion};
    memcpy(key + 3, p.properties.pipelineCacheUUID, VK_UUID_SIZE);
    CN_TRY(cn_cache_dir(dir));
    return cn_format(NULL, path, CN_PATH_BYTES, "%s/controlnet/vulkan-%016llx.%s", dir,
                     (unsigned long long)cn_hash64(key, sizeof key), kind);
}

/* Whether a file's bytes are whole, and of these kernels. */
static bool is_whole(const char *file, size_t n, head *h)
{
    if (n < sizeof *h) return false;
    memcpy(h, file, sizeof *h);
    return !memcmp(h->magic, magic, sizeof magic) && h->kernels == kernels_hash() &&
           h->bytes == n - sizeof *h && h->hash == cn_hash64(file + sizeof *h, h->bytes);
}

char *cn_vk_file_read(const cn_vk_device *d, const char *kind, cn_vk_file *out, size_t *bytes)
{
    char *file = NULL;
    size_t n = 0;
    head h = {.bytes = 0};
    *out = (cn_vk_file){.hash = 0};
    *bytes = 0;
    if (name_file(d, kind, out->path) != CN_OK) out->path[0] = 0;
    if (!out->path[0] || cn_file_read(NULL, out->path, MOST_BYTES, &file, &n) != CN_OK) return NULL;
    if (!is_whole(file, n, &h)) {
        cn_free(file);
        return NULL;
    }
    out->hash = h.hash;
    *bytes = h.bytes;
    memmove(file, file + sizeof h, h.bytes);
    return file;
}

/* Nothing but a file is replaced: writing into a pipe would wait for its reader. */
static bool may_write(const char *path)
{
    struct stat st;
    return stat(path, &st) != 0 || S_ISREG(st.st_mode);
}

void cn_vk_file_save(const cn_vk_file *f, const void *data, size_t bytes)
{
    char dir[CN_PATH_BYTES];
    head h = {.kernels = kernels_hash(), .bytes = bytes, .hash = cn_hash64(data, bytes)};
    if (!f->path[0] || h.hash == f->hash || bytes > MOST_BYTES - sizeof h || !may_write(f->path))
        return;
    char *file = cn_alloc(NULL, sizeof h + bytes);
    if (!file) return;
    memcpy(h.magic, magic, sizeof magic);
    memcpy(file, &h, sizeof h);
    memcpy(file + sizeof h, data, bytes);
    memcpy(dir, f->path, sizeof dir);
    *strrchr(dir, '/') = 0;
    cn_status s = cn_dir_make(NULL, dir);
    if (s == CN_OK) s = cn_file_write(NULL, f->path, file, sizeof h + bytes);
    (void)s; /* the next run learns it again */
    cn_free(file);
}
