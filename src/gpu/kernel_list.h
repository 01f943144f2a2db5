/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_list.h - every kernel of kernels/, a row each: its file is NAME.k. The Makefile makes
 * SPIR-V of them, which kernel_codes.c embeds; that of matrix/ is kept (tools/matrix-kernels.sh).
 */
#ifndef CN_GPU_KERNEL_LIST_H
#define CN_GPU_KERNEL_LIST_H

#include "base/base.h"

#define CN_GPU_KERNEL_LIST(X) \
    X(adamw)                  \
    X(adamw8)                 \
    X(attention_delta)        \
    X(attention_dk)           \
    X(attention_dq)           \
    X(attention_dv)           \
    X(attention_lse)          \
    X(attention_out)          \
    X(grouped)                \
    X(loss_map)               \
    X(map)                    \
    X(norm)                   \
    X(norm_dgamma)            \
    X(norm_dx)                \
    X(picture)                \
    X(product_dw)             \
    X(product_dw_matrix)      \
    X(product_dx)             \
    X(product_dx_matrix)      \
    X(product_forward)        \
    X(product_forward_matrix) \
    X(sum_rows)               \
    X(total)

#define CN_GPU_KERNEL_VALUE(name) CN_GPU_KERNEL_##name,
typedef enum cn_gpu_kernel { CN_GPU_KERNEL_LIST(CN_GPU_KERNEL_VALUE) CN_GPU_KERNELS } cn_gpu_kernel;
#undef CN_GPU_KERNEL_VALUE

typedef struct cn_gpu_code {
    const char *name;
    const uint32_t *words; /* SPIR-V */
    size_t bytes;
} cn_gpu_code;
extern const cn_gpu_code cn_gpu_codes[CN_GPU_KERNELS];

#endif
