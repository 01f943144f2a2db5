/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - the backend that a user asks for by a word. */
#ifndef CN_DEVICE_H
#define CN_DEVICE_H

#include "graph/backend.h"

/* The option of a table's structure whose `member` is that word. */
#define CN_DEVICE_ROW(structure, member)                                                        \
    {                                                                                           \
        "device", 0,                                                                            \
            "what computes: cpu, vulkan, or vulkan:N, a device that controlnet devices lists; " \
            "auto: the CPU",                                                                    \
            CN_FIELD(structure, member), .arg = "DEVICE", .preset = "auto"                      \
    }

/* Whether the word asks for the CPU. */
bool cn_device_is_cpu(const char *device);

/* Of "cpu", "vulkan" (the device that suits best), "vulkan:N" (number N of `controlnet devices`)
 * and "auto" or NULL, which is the CPU. CN_EINVAL for another word, CN_EIO where there is no
 * Vulkan. Owned by the caller: b->destroy. */
cn_status cn_backend_create(cn_ctx *ctx, const char *device, cn_backend **out) CN_CHECKED;
/* The same for one of several processes: of "vulkan" number `rank`, modulo how many there are, of
 * the devices that suit as well as the best. */
cn_status cn_backend_create_for_rank(cn_ctx *ctx, const char *device, int rank,
                                     cn_backend **out) CN_CHECKED;

#endif
