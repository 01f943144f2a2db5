/* SPDX-License-Identifier: Apache-2.0 */
/* vk_memory.c - ranges of device memory, and copies from and to the host through staging memory
 * that both see. Copies to the device are recorded like kernels; the staging memory is used from
 * its start again once they have ended. */
#include "gpu/vk_queue_internal.h"

#include "base/sys.h"

#include <string.h>
#include <sys/mman.h>

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

static void give_back(cn_vk_queue *q, cn_vk_chunk *c)
{
    const cn_vk *vk = &q->d.vk;
    if (c->buffer) vk->DestroyBuffer(q->d.device, c->buffer, NULL);
    if (c->memory) vk->FreeMemory(q->d.device, c->memory, NULL);
    q->counts.memory_bytes -= c->taken;
    if (c->taken) q->generation++;
    *c = (cn_vk_chunk){0};
}

static cn_status allocate(cn_ctx *ctx, cn_vk_queue *q, cn_vk_chunk *c, VkMemoryPropertyFlags wanted)
{
    const cn_vk *vk = &q->d.vk;
    VkMemoryRequirements need;
    vk->GetBufferMemoryRequirements(q->d.device, c->buffer, &need);
    const int type = memory_type(q, need.memoryTypeBits, wanted);
    if (type < 0) return cn_fail(ctx, CN_ENOMEM, "Vulkan: the device has no memory of this kind");
    const VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                             .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = &flags,
                                       .allocationSize = need.size,
                                       .memoryTypeIndex = (uint32_t)type};
    const VkResult result =
        cn_sys_before(&(cn_sys_call){.kind = CN_SYS_DEVICE_MEMORY, .n = need.size})
            ? vk->AllocateMemory(q->d.device, &info, NULL, &c->memory)
            : VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY)
        return cn_fail(
            ctx, CN_ENOMEM,
            "out of device memory: %zu bytes were asked for, %zu are taken of %llu on %s",
            (size_t)need.size, q->counts.memory_bytes, (unsigned long long)q->d.about.memory_bytes,
            q->d.about.name);
    CN_TRY(cn_vk_check(ctx, result, "allocate memory"));
    c->taken = need.size;
    q->counts.memory_bytes += c->taken;
    q->counts.most_bytes = CN_MAX(q->counts.most_bytes, q->counts.memory_bytes);
    return cn_vk_check(ctx, vk->BindBufferMemory(q->d.device, c->buffer, c->memory, 0),
                       "bind memory");
}

/* Memory of so many bytes, where there is none yet. */
static cn_status take(cn_ctx *ctx, cn_vk_queue *q, cn_vk_chunk *c, size_t bytes,
                      VkMemoryPropertyFlags wanted)
{
    const cn_vk *vk = &q->d.vk;
    if (c->buffer) return CN_OK;
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = CN_MAX(bytes, 4), .usage = USAGE};
    cn_status s =
        cn_vk_check(ctx, vk->CreateBuffer(q->d.device, &info, NULL, &c->buffer), "create a buffer");
    if (s == CN_OK) s = allocate(ctx, q, c, wanted);
    if (s != CN_OK) {
        give_back(q, c);
        return s;
    }
    const VkBufferDeviceAddressInfo where = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                             .buffer = c->buffer};
    c->address = vk->GetBufferDeviceAddress(q->d.device, &where);
    return CN_OK;
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

static cn_status take_chunk(cn_ctx *ctx, cn_vk_queue *q, cn_vk_range *r, int k)
{
    const size_t from = (size_t)k * q->limit;
    return take(ctx, q, &r->chunks[k], CN_MIN(q->limit, r->bytes - from),
                VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
}

static bool reserve(cn_ctx *ctx, cn_vk_queue *q, cn_vk_range *r)
{
    r->n_chunks = (int)CN_MAX((r->bytes + q->limit - 1) / q->limit, 1);
    r->chunks = cn_alloc0(ctx, (size_t)r->n_chunks * sizeof *r->chunks);
    if (!r->chunks) return false;
    if ((r->at = cn_reserve(ctx, r->bytes)) &&
        mprotect(r->at, CN_MAX(r->bytes, 1), PROT_NONE) == 0 && insert(ctx, q, r))
        return true;
    if (r->at) cn_reserve_free(r->at, r->bytes);
    cn_free(r->chunks);
    return false;
}

void *cn_vk_reserve(cn_ctx *ctx, cn_vk_queue *q, size_t bytes, bool take)
{
    cn_vk_range r = {.bytes = bytes};
    if (take && bytes > q->limit) {
        (void)cn_fail(ctx, CN_ENOMEM, "%s gives at most %zu bytes at once; %zu were asked for",
                      q->d.about.name, q->limit, bytes);
        return NULL;
    }
    if (!reserve(ctx, q, &r)) return NULL;
    if (take && take_chunk(ctx, q, &r, 0) != CN_OK) {
        cn_vk_release(q, r.at);
        return NULL;
    }
    return r.at;
}

void cn_vk_drop(cn_vk_queue *q, void *at)
{
    cn_vk_range *r = at ? find(q, at) : NULL;
    bool taken = false;
    for (int k = 0; r && k < r->n_chunks; k++) taken = taken || r->chunks[k].buffer;
    if (!taken) return;
    if (q->recording && cn_vk_finish(NULL, q) != CN_OK) q->recording = false; /* it is lost */
    for (int k = 0; k < r->n_chunks; k++) give_back(q, &r->chunks[k]);
}

void cn_vk_release(cn_vk_queue *q, void *at)
{
    cn_vk_range *r = at ? find(q, at) : NULL;
    if (!r) return;
    cn_vk_drop(q, at);
    cn_reserve_free(r->at, r->bytes);
    cn_free(r->chunks);
    const int k = (int)(r - q->ranges);
    memmove(r, r + 1, (size_t)(q->n_ranges - k - 1) * sizeof *r);
    q->n_ranges--;
}

/* What lies at an address: *from bytes into *chunk, whose other bytes behind it are *left. */
typedef struct place {
    const cn_vk_chunk *chunk;
    size_t from, left;
} place;

static cn_status find_place(cn_ctx *ctx, cn_vk_queue *q, const void *at, place *out)
{
    cn_vk_range *r = find(q, at);
    if (!r) return cn_fail(ctx, CN_EINTERNAL, "an address that is none of the device's");
    const size_t offset = (size_t)((const char *)at - r->at);
    const int k = (int)(offset / q->limit);
    *out = (place){.chunk = &r->chunks[k],
                   .from = offset % q->limit,
                   .left = CN_MIN(q->limit - offset % q->limit, CN_MAX(r->bytes, 1) - offset)};
    return take_chunk(ctx, q, r, k);
}

cn_status cn_vk_address(cn_ctx *ctx, cn_vk_queue *q, const void *at, VkDeviceAddress *out)
{
    place p;
    *out = 0;
    if (!at) return CN_OK;
    CN_TRY(find_place(ctx, q, at, &p));
    *out = p.chunk->address + p.from;
    return CN_OK;
}

/* --- copies ----------------------------------------------------------------------------------- */

cn_status cn_vk_staging_open(cn_ctx *ctx, cn_vk_queue *q)
{
    CN_TRY(take(ctx, q, &q->staging, CN_VK_STAGING_BYTES,
                VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT));
    void *mapped = NULL;
    CN_TRY(cn_vk_check(
        ctx, q->d.vk.MapMemory(q->d.device, q->staging.memory, 0, VK_WHOLE_SIZE, 0, &mapped),
        "map memory"));
    q->mapped = mapped;
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
    q->d.vk.CmdCopyBuffer(cn_vk_target(q), from, to, 1, &part);
    return cn_vk_profile_ended(ctx, q, CN_VK_COPY, -1, 0);
}

cn_status cn_vk_write(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        place p;
        CN_TRY(find_place(ctx, q, (char *)to + at, &p));
        if (q->staged == CN_VK_STAGING_BYTES) CN_TRY(cn_vk_finish(ctx, q));
        const size_t n = CN_MIN(CN_MIN(bytes - at, p.left), CN_VK_STAGING_BYTES - q->staged);
        memcpy(q->mapped + q->staged, (const char *)from + at, n);
        cn_vk_uses(q, (char *)to + at, n, true);
        CN_TRY(record_copy(ctx, q, p.chunk->buffer, p.from, q->staging.buffer, q->staged, n));
        q->staged = CN_MIN((q->staged + n + 63) & ~(size_t)63, (size_t)CN_VK_STAGING_BYTES);
        at += n;
    }
    return CN_OK;
}

cn_status cn_vk_copy(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        place a, b;
        CN_TRY(find_place(ctx, q, (char *)to + at, &a));
        CN_TRY(find_place(ctx, q, (const char *)from + at, &b));
        const size_t n = CN_MIN(bytes - at, CN_MIN(a.left, b.left));
        cn_vk_uses(q, (const char *)from + at, n, false);
        cn_vk_uses(q, (char *)to + at, n, true);
        CN_TRY(record_copy(ctx, q, a.chunk->buffer, a.from, b.chunk->buffer, b.from, n));
        at += n;
    }
    return CN_OK;
}

cn_status cn_vk_read(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        place p;
        CN_TRY(find_place(ctx, q, (const char *)from + at, &p));
        if (q->staged == CN_VK_STAGING_BYTES) CN_TRY(cn_vk_finish(ctx, q));
        /* behind what is on its way to the device: both go with one submission */
        const size_t behind = q->staged;
        const size_t n = CN_MIN(CN_MIN(bytes - at, p.left), CN_VK_STAGING_BYTES - behind);
        cn_vk_uses(q, (const char *)from + at, n, false);
        CN_TRY(record_copy(ctx, q, q->staging.buffer, behind, p.chunk->buffer, p.from, n));
        CN_TRY(cn_vk_finish(ctx, q));
        memcpy((char *)to + at, q->mapped + behind, n);
        at += n;
    }
    return CN_OK;
}
