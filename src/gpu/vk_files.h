/* SPDX-License-Identifier: Apache-2.0 */
/* vk_files.h - what was learned of a device, kept from run to run.
 *
 * Files of the user's cache folder, of each kind one for a device and driver. One that is missing,
 * damaged or of other kernels, and a folder that can't be written, cost the time of learning it
 * again and nothing else: nobody is told.
 */
#ifndef CN_GPU_VK_FILES_H
#define CN_GPU_VK_FILES_H

#include "gpu/vk_devices.h"

typedef struct cn_vk_file {
    char path[CN_PATH_BYTES]; /* "": there is no folder for it */
    uint64_t hash;            /* of what was read; 0: nothing was */
} cn_vk_file;

/* The file of this kind, and its data, which the caller frees; NULL: there is none that can be
 * used. */
char *cn_vk_file_read(const cn_vk_device *d, const char *kind, cn_vk_file *out, size_t *bytes);
/* Where this isn't what was read it is written. */
void cn_vk_file_save(const cn_vk_file *f, const void *data, size_t bytes);

#endif
