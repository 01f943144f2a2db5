/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_codes.c - the kernels' SPIR-V, of which the Makefile makes one header. */
#include "gpu/kernel_list.h"

#include "gpu/kernel_words.h"

#define ROW(name) {#name, cn_spv_##name, sizeof cn_spv_##name},
const cn_gpu_code cn_gpu_codes[CN_GPU_KERNELS] = {CN_GPU_KERNEL_LIST(ROW)};
