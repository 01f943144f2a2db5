/* SPDX-License-Identifier: Apache-2.0 */
/* gpu.h - the backend for GPUs of any maker, by Vulkan compute.
 *
 * libvulkan is opened when a device is asked for: a program that draws on the CPU never needs it.
 * Everything is computed in F32, products of F16 on matrix units where the device has them. What
 * has no kernel here is refused when a graph is planned; no step is ever computed elsewhere.
 */
#ifndef CN_GPU_H
#define CN_GPU_H

#include "graph/backend.h"

enum { CN_GPU_MAX_DEVICES = 16 };

/* What of a device a user chooses by. */
typedef struct cn_gpu_device {
    char name[256];
    char driver[516]; /* its name, and its version as it words it; "" where it tells none */
    const char *type; /* "discrete", "integrated", "virtual", "cpu", "other" */
    int api_major, api_minor;
    uint64_t memory_bytes;  /* of its own memory, or of the memory that it shares with the host */
    uint64_t free_bytes;    /* of these, what this program may take now; memory_bytes: unknown */
    uint64_t largest_bytes; /* of one allocation */
    bool f16;               /* arithmetic in F16 */
    uint32_t matrix[3];  /* M, N, K of its matrix units that multiply F16; 0: none that will do */
    uint32_t subgroup;   /* items */
    const char *missing; /* what the backend needs and the device lacks; NULL: nothing */
} cn_gpu_device;

/* The devices that libvulkan knows, in its order, at most CN_GPU_MAX_DEVICES. CN_EIO, with a
 * line that says why, where there is no libvulkan or no driver. */
cn_status cn_gpu_devices(cn_ctx *ctx, cn_gpu_device *out, int *n) CN_CHECKED;
/* On device `index` of that list; -1: the first discrete one that will do, else the first of
 * another type than "cpu", else the first; of those of its type that will do, turn by turn, number
 * `turn`. Owned by the caller: b->destroy; ctx outlives it. */
cn_status cn_backend_vulkan_create(cn_ctx *ctx, int index, int turn, cn_backend **out) CN_CHECKED;

/* What a backend of this file has done since it was made. */
typedef struct cn_gpu_counts {
    int64_t dispatches, barriers, submissions; /* recorded */
    int64_t matrix_dispatches;                 /* those on matrix units */
    int64_t replays;                           /* of what was recorded before */
    int64_t trials;                            /* dispatches that were timed to choose a tile */
    size_t memory_bytes, most_bytes;           /* that it has allocated, now and at most */
} cn_gpu_counts;
void cn_gpu_counts_get(const cn_backend *b, cn_gpu_counts *out);
/* For tests: as if the device gave at most so many bytes at once, a multiple of 256; nothing was
 * asked of it yet. */
void cn_gpu_limit(cn_backend *b, size_t bytes);
/* For tests: products have this one of the tiles (gpu/vk_tiles.h); -1: what is measured. */
void cn_gpu_tile(cn_backend *b, int tile);
/* For tests: as if the device had no matrix units. */
void cn_gpu_without_matrices(cn_backend *b);

#endif
