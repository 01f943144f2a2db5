/* SPDX-License-Identifier: Apache-2.0 */
/* vk_memory.c - ranges of device memory, and copies from and to the host through staging memory
 * that both see. Copies to the device are recorded like kernels; the staging memory is used from
 * its start again once they have ended. */
#include "gpu/vk_queue_internal.h"

#include <string.h>
#include <sys/mman.h>

enum { STAGING_BYTES = 16 << 20 };

static const VkBufferUsageFlags USAGE =
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
    VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;

/* -1: none. */
static int memory_type(const cn_vk_queue *q, uint32_t allowed, VkMemoryPropertyFlags wanted)
{
    const VkPhysicalDeviceMemoryProperties *m = &q->d.memory;
    for (uint32_t i = 0; i < m->memoryTypeCount; i++)
        if (allowed >> i & 1 && (m->memoryTypes[i].propertyFlags & wanted) == wanted) return (int)i;
    return -1;
}

static void give_back(cn_vk_queue *q, cn_vk_range *r)
{
    const cn_vk *vk = &q->d.vk;
    if (r->buffer) vk->DestroyBuffer(q->d.device, r->buffer, NULL);
    if (r->memory) vk->FreeMemory(q->d.device, r->memory, NULL);
    q->counts.memory_bytes -= r->taken;
    r->buffer = VK_NULL_HANDLE;
    r->memory = VK_NULL_HANDLE;
    r->taken = 0;
}

static cn_status allocate(cn_ctx *ctx, cn_vk_queue *q, cn_vk_range *r, VkMemoryPropertyFlags wanted)
{
    const cn_vk *vk = &q->d.vk;
    VkMemoryRequirements need;
    vk->GetBufferMemoryRequirements(q->d.device, r->buffer, &need);
    const int type = memory_type(q, need.memoryTypeBits, wanted);
    if (type < 0) return cn_fail(ctx, CN_ENOMEM, "Vulkan: the device has no memory of this kind");
    const VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                             .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = &flags,
                                       .allocationSize = need.size,
                                       .memoryTypeIndex = (uint32_t)type};
    const VkResult result = vk->AllocateMemory(q->d.device, &info, NULL, &r->memory);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY)
        return cn_fail(
            ctx, CN_ENOMEM,
            "out of device memory: %zu bytes were asked for, %zu are taken of %llu on %s",
            (size_t)need.size, q->counts.memory_bytes, (unsigned long long)q->d.about.memory_bytes,
            q->d.about.name);
    CN_TRY(cn_vk_check(ctx, result, "allocate memory"));
    r->taken = need.size;
    q->counts.memory_bytes += r->taken;
    q->counts.most_bytes = CN_MAX(q->counts.most_bytes, q->counts.memory_bytes);
    return cn_vk_check(ctx, vk->BindBufferMemory(q->d.device, r->buffer, r->memory, 0),
                       "bind memory");
}

/* The range's memory, where it has none. */
static cn_status take(cn_ctx *ctx, cn_vk_queue *q, cn_vk_range *r, VkMemoryPropertyFlags wanted)
{
    const cn_vk *vk = &q->d.vk;
    if (r->buffer) return CN_OK;
    if (r->bytes > q->d.about.largest_bytes)
        return cn_fail(ctx, CN_ENOMEM, "%s gives at most %llu bytes at once; %zu were asked for",
                       q->d.about.name, (unsigned long long)q->d.about.largest_bytes, r->bytes);
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = CN_MAX(r->bytes, 4), .usage = USAGE};
    cn_status s =
        cn_vk_check(ctx, vk->CreateBuffer(q->d.device, &info, NULL, &r->buffer), "create a buffer");
    if (s == CN_OK) s = allocate(ctx, q, r, wanted);
    if (s != CN_OK) {
        give_back(q, r);
        return s;
    }
    const VkBufferDeviceAddressInfo where = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                             .buffer = r->buffer};
    r->address = vk->GetBufferDeviceAddress(q->d.device, &where);
    return CN_OK;
}

static cn_status take_device(cn_ctx *ctx, cn_vk_queue *q, cn_vk_range *r)
{
    return take(ctx, q, r, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
}

/* --- ranges ----------------------------------------------------------------------------------- */

/* How many ranges begin at or before `at`. */
static int count_before(const cn_vk_queue *q, const char *at)
{
    int low = 0, high = q->n_ranges;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (q->ranges[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static cn_vk_range *find(const cn_vk_queue *q, const void *at)
{
    const int k = count_before(q, at) - 1;
    if (k < 0) return NULL;
    cn_vk_range *r = &q->ranges[k];
    return (const char *)at < r->at + CN_MAX(r->bytes, 1) ? r : NULL;
}

static bool insert(cn_ctx *ctx, cn_vk_queue *q, const cn_vk_range *r)
{
    if (q->n_ranges == q->cap_ranges) {
        const int cap = CN_MAX(2 * q->cap_ranges, 64);
        cn_vk_range *more = cn_regrow(ctx, q->ranges, (size_t)q->n_ranges * sizeof *more,
                                      (size_t)cap * sizeof *more);
        if (!more) return false;
        q->ranges = more;
        q->cap_ranges = cap;
    }
    const int k = count_before(q, r->at);
    memmove(q->ranges + k + 1, q->ranges + k, (size_t)(q->n_ranges - k) * sizeof *q->ranges);
    q->ranges[k] = *r;
    q->n_ranges++;
    return true;
}

void *cn_vk_reserve(cn_ctx *ctx, cn_vk_queue *q, size_t bytes, bool take)
{
    cn_vk_range r = {.bytes = bytes, .at = cn_reserve(ctx, bytes)};
    if (!r.at) return NULL;
    if (mprotect(r.at, CN_MAX(bytes, 1), PROT_NONE) != 0 || !insert(ctx, q, &r)) {
        cn_reserve_free(r.at, bytes);
        return NULL;
    }
    if (take && take_device(ctx, q, find(q, r.at)) != CN_OK) {
        cn_vk_release(q, r.at);
        return NULL;
    }
    return r.at;
}

void cn_vk_drop(cn_vk_queue *q, void *at)
{
    cn_vk_range *r = at ? find(q, at) : NULL;
    if (!r || !r->buffer) return;
    if (q->recording && cn_vk_finish(NULL, q) != CN_OK) q->recording = false; /* it is lost */
    give_back(q, r);
}

void cn_vk_release(cn_vk_queue *q, void *at)
{
    cn_vk_range *r = at ? find(q, at) : NULL;
    if (!r) return;
    cn_vk_drop(q, at);
    cn_reserve_free(r->at, r->bytes);
    const int k = (int)(r - q->ranges);
    memmove(r, r + 1, (size_t)(q->n_ranges - k - 1) * sizeof *r);
    q->n_ranges--;
}

static cn_status find_taken(cn_ctx *ctx, cn_vk_queue *q, const void *at, cn_vk_range **out)
{
    if (!(*out = find(q, at)))
        return cn_fail(ctx, CN_EINTERNAL, "an address that is none of the device's");
    return take_device(ctx, q, *out);
}

cn_status cn_vk_address(cn_ctx *ctx, cn_vk_queue *q, const void *at, VkDeviceAddress *out)
{
    cn_vk_range *r;
    *out = 0;
    if (!at) return CN_OK;
    CN_TRY(find_taken(ctx, q, at, &r));
    *out = r->address + (VkDeviceAddress)((const char *)at - r->at);
    return CN_OK;
}

/* --- copies ----------------------------------------------------------------------------------- */

cn_status cn_vk_staging_open(cn_ctx *ctx, cn_vk_queue *q)
{
    cn_vk_range *r = &q->staging;
    r->bytes = STAGING_BYTES;
    CN_TRY(take(ctx, q, r,
                VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT));
    void *mapped = NULL;
    CN_TRY(cn_vk_check(ctx, q->d.vk.MapMemory(q->d.device, r->memory, 0, VK_WHOLE_SIZE, 0, &mapped),
                       "map memory"));
    r->at = mapped;
    return CN_OK;
}

void cn_vk_memory_close(cn_vk_queue *q)
{
    give_back(q, &q->staging);
    while (q->n_ranges) cn_vk_release(q, q->ranges[q->n_ranges - 1].at);
    cn_free(q->ranges);
}

static cn_status record_copy(cn_ctx *ctx, cn_vk_queue *q, VkBuffer to, size_t to_at, VkBuffer from,
                             size_t from_at, size_t bytes)
{
    CN_TRY(cn_vk_record(ctx, q));
    const VkBufferCopy part = {.srcOffset = from_at, .dstOffset = to_at, .size = bytes};
    q->d.vk.CmdCopyBuffer(q->commands, from, to, 1, &part);
    return CN_OK;
}

cn_status cn_vk_write(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from, size_t bytes)
{
    cn_vk_range *r;
    CN_TRY(find_taken(ctx, q, to, &r));
    for (size_t at = 0; at < bytes;) {
        if (q->staged == STAGING_BYTES) CN_TRY(cn_vk_finish(ctx, q));
        const size_t n = CN_MIN(bytes - at, STAGING_BYTES - q->staged);
        memcpy(q->staging.at + q->staged, (const char *)from + at, n);
        cn_vk_uses(q, (char *)to + at, n, true);
        CN_TRY(record_copy(ctx, q, r->buffer, (size_t)((char *)to - r->at) + at, q->staging.buffer,
                           q->staged, n));
        q->staged = CN_MIN((q->staged + n + 63) & ~(size_t)63, (size_t)STAGING_BYTES);
        at += n;
    }
    return CN_OK;
}

cn_status cn_vk_copy(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from, size_t bytes)
{
    cn_vk_range *r, *s;
    if (!bytes) return CN_OK;
    CN_TRY(find_taken(ctx, q, to, &r));
    CN_TRY(find_taken(ctx, q, from, &s));
    cn_vk_uses(q, from, bytes, false);
    cn_vk_uses(q, to, bytes, true);
    return record_copy(ctx, q, r->buffer, (size_t)((char *)to - r->at), s->buffer,
                       (size_t)((const char *)from - s->at), bytes);
}

cn_status cn_vk_read(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from, size_t bytes)
{
    cn_vk_range *r;
    CN_TRY(find_taken(ctx, q, from, &r));
    for (size_t at = 0; at < bytes;) {
        const size_t n = CN_MIN(bytes - at, (size_t)STAGING_BYTES);
        if (q->staged) CN_TRY(cn_vk_finish(ctx, q));
        cn_vk_uses(q, (const char *)from + at, n, false);
        CN_TRY(record_copy(ctx, q, q->staging.buffer, 0, r->buffer,
                           (size_t)((const char *)from - r->at) + at, n));
        CN_TRY(cn_vk_finish(ctx, q));
        memcpy((char *)to + at, q->staging.at, n);
        at += n;
    }
    return CN_OK;
}
