/* SPDX-License-Identifier: Apache-2.0 */
/* vk_queue.h - the device's memory under addresses of the host's, and work recorded for it.
 *
 * Every allocation is a range of addresses that the host reserves and can't read, so pointers into
 * it can be added to and compared as the plan does, and one read by mistake is a fault. A range's
 * memory, a buffer for as much as the device gives at once, is taken when work first uses it; no
 * value lies in two of them.
 *
 * Work is recorded into one command buffer until somebody waits; a barrier goes in front of a
 * dispatch or copy that touches what recorded work has written, or writes what it reads.
 */
#ifndef CN_GPU_VK_QUEUE_H
#define CN_GPU_VK_QUEUE_H

#include "gpu/hazards.h"
#include "gpu/kernel_list.h"
#include "gpu/vk_cache.h"
#include "gpu/vk_devices.h"
#include "gpu/vk_tiles.h"

/* Memory with a buffer over all of it. */
typedef struct cn_vk_chunk {
    VkBuffer buffer; /* VK_NULL_HANDLE: no memory yet */
    VkDeviceMemory memory;
    VkDeviceAddress address;
    size_t taken; /* of memory */
} cn_vk_chunk;

typedef struct cn_vk_range {
    char *at;
    size_t bytes;
    cn_vk_chunk *chunks; /* of `limit` bytes each, the last one of what is left */
    int n_chunks;
} cn_vk_range;

/* Work that is kept to be run again: a command buffer of its own, which addresses of before
 * `generation` mustn't be in. */
typedef struct cn_vk_kept {
    VkCommandBuffer commands;
    uint64_t generation;
    uint32_t key;
    bool whole;
    bool decided; /* no product in it waits for its tile's choice */
} cn_vk_kept;

/* What is timed: a kernel, or copies. */
enum { CN_VK_COPY = CN_GPU_KERNELS, CN_VK_KINDS };

/* The device's clock behind what `kind` is; a step's seconds, NULL: it belongs to none. */
typedef struct cn_vk_timestamp {
    int kind;
    double *seconds;
    int trial, tile; /* of cn_vk_tiles_took; -1: none */
} cn_vk_timestamp;

/* Under CN_PROFILE, and while tiles are tried (vk_profile.c). */
typedef struct cn_vk_profile {
    bool told;             /* CN_PROFILE: `kinds` are for its table */
    bool on;               /* what is recorded is timed */
    VkQueryPool pool;      /* VK_NULL_HANDLE: nothing was timed yet */
    cn_vk_timestamp *list; /* n of them since the work was begun, the first at its start */
    int n;
    double *seconds; /* of what is recorded next */
    struct {
        double seconds;
        int64_t calls;
    } kinds[CN_VK_KINDS];
} cn_vk_profile;

typedef struct cn_vk_queue {
    cn_vk_device d;
    cn_vk_range *ranges; /* in order of `at` */
    int n_ranges, cap_ranges;
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkFence fence;
    bool recording;
    cn_vk_kept *keeping; /* what is recorded is kept there; NULL: it is run once */
    cn_vk_kept *trying;  /* while its products' tiles are tried, none of which is kept */
    uint64_t generation; /* counts whatever makes kept work wrong */
    cn_hazards hazards, kept_hazards;
    size_t limit;        /* of one allocation */
    cn_vk_chunk staging; /* memory that the host sees */
    char *mapped;        /* where it does */
    size_t staged;       /* bytes of it that recorded copies read */
    VkPipelineLayout layout;
    VkPipeline pipelines[CN_GPU_KERNELS][CN_VK_TILES];
    cn_vk_cache cache; /* what compiling them takes from, and adds to */
    bool compiled;     /* one of them was */
    cn_vk_chooser chooser;
    cn_gpu_counts counts;
    cn_vk_profile profile;
} cn_vk_queue;

/* Bytes that a kernel's arguments may take: what every device allows. */
enum { CN_VK_ARGUMENT_BYTES = 128 };
/* Memory through which the host's values go and come. */
enum { CN_VK_STAGING_BYTES = 16 << 20 };

cn_status cn_vk_queue_open(cn_ctx *ctx, int index, int turn, cn_vk_queue *q) CN_CHECKED;
void cn_vk_queue_close(cn_vk_queue *q);

/* A range; NULL with a message where there are no addresses. take: its memory too, now. */
void *cn_vk_reserve(cn_ctx *ctx, cn_vk_queue *q, size_t bytes, bool take);
/* Its memory goes back; what was recorded ends first. */
void cn_vk_drop(cn_vk_queue *q, void *at);
void cn_vk_release(cn_vk_queue *q, void *at);
/* The device's address of a host's; takes the range's memory where it has none. NULL is 0. */
cn_status cn_vk_address(cn_ctx *ctx, cn_vk_queue *q, const void *at,
                        VkDeviceAddress *out) CN_CHECKED;

cn_status cn_vk_write(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from,
                      size_t bytes) CN_CHECKED;
cn_status cn_vk_read(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from,
                     size_t bytes) CN_CHECKED;
/* From one place of the device's memory to another. */
cn_status cn_vk_copy(cn_ctx *ctx, cn_vk_queue *q, void *to, const void *from,
                     size_t bytes) CN_CHECKED;

/* Before a dispatch, once for each range of bytes that it reads or writes; NULL: none. */
void cn_vk_uses(cn_vk_queue *q, const void *at, size_t bytes, bool writes);
/* Records a barrier if what was said since the last dispatch needs one, then a kernel of x * y * z
 * groups; its arguments are at most CN_VK_ARGUMENT_BYTES. tile: of cn_vk_tiles, 0 for all but
 * products; trial: as cn_vk_tiles_choose gave it, else -1. */
typedef struct cn_vk_call {
    cn_gpu_kernel kernel;
    int tile, trial;
    const void *arguments;
    size_t bytes;
    uint32_t x, y, z;
} cn_vk_call;
cn_status cn_vk_dispatch(cn_ctx *ctx, cn_vk_queue *q, const cn_vk_call *c) CN_CHECKED;
/* What is recorded from here on is kept, until cn_vk_keep_end runs it. *replayed: *kept has been
 * recorded under the same key, nothing that it uses has moved since, and it is run again instead.
 * Where products of it have no tile chosen yet it is recorded to be run once, and they are timed.
 */
cn_status cn_vk_keep_begin(cn_ctx *ctx, cn_vk_queue *q, cn_vk_kept **kept, uint32_t key,
                           bool *replayed) CN_CHECKED;
cn_status cn_vk_keep_end(cn_ctx *ctx, cn_vk_queue *q, bool whole) CN_CHECKED;
void cn_vk_keep_free(cn_vk_queue *q, cn_vk_kept *kept);
/* A table of kernels' seconds and calls, then counts; empty where nothing is timed. */
void cn_vk_profile_text(const cn_vk_queue *q, cn_str *out);
/* Sends what was recorded and waits for its end. */
cn_status cn_vk_finish(cn_ctx *ctx, cn_vk_queue *q) CN_CHECKED;

#endif
