/* SPDX-License-Identifier: Apache-2.0 */
/* vk_matrices.h - KHR cooperative matrices: the shape of them that products use, and what a device
 * and its pipelines are created with for them. */
#ifndef CN_GPU_VK_MATRICES_H
#define CN_GPU_VK_MATRICES_H

#include "gpu/gpu.h"
#include "gpu/kernel_list.h"
#include "gpu/vk_loader.h"

/* out->matrix: the largest M x N x K, of F16 with sums in F32, that fits the kernels' tiles; left
 * as it is where the device has none, or can't run full subgroups of the size that it names. */
void cn_vk_matrices_ask(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, cn_gpu_device *out);

/* What vkCreateDevice is told: of a device that has such matrices. */
typedef struct cn_vk_matrix_features {
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sizes;
    struct cn_vk_cooperative_features {
        VkStructureType sType;
        void *pNext;
        VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
    } cooperative;
} cn_vk_matrix_features;
/* Adds to what f12 asks for, and to the names of extensions; *f lives as long as f12 is used. */
void cn_vk_matrices_enable(const cn_gpu_device *about, VkPhysicalDeviceVulkan12Features *f12,
                           cn_vk_matrix_features *f, const char **names, uint32_t *n_names);

/* What a pipeline of such a kernel is created with: constants, and the subgroups' size. */
typedef struct cn_vk_matrix_stage {
    uint32_t values[5]; /* of matrix/prelude_matrix.glsl, then the items of a group */
    VkSpecializationMapEntry entries[5];
    VkSpecializationInfo constants;
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size;
} cn_vk_matrix_stage;
void cn_vk_matrices_stage(const cn_gpu_device *about, cn_vk_matrix_stage *m,
                          VkPipelineShaderStageCreateInfo *stage);

/* The kernel that computes the same by matrices; CN_GPU_KERNELS: there is none. */
cn_gpu_kernel cn_vk_matrix_kernel(cn_gpu_kernel k);
bool cn_vk_is_matrix_kernel(cn_gpu_kernel k);

#endif
