/* SPDX-License-Identifier: Apache-2.0 */
/* vk_matrices.c - see vk_matrices.h. Headers of Vulkan before 1.3.255 don't declare the extension,
 * so what is used of it is declared here, in the words of its specification. */
#include "gpu/vk_matrices.h"

#define COOPERATIVE_MATRIX "VK_KHR_cooperative_matrix"
enum {
    FEATURES_TYPE = 1000506000,
    PROPERTIES_TYPE = 1000506001, /* of a shape */
    DEVICE_PROPERTIES_TYPE = 1000506002,
    F16 = 0, /* VkComponentTypeKHR */
    F32 = 1,
    SUBGROUP_SCOPE = 3, /* VkScopeKHR */
    MOST_SHAPES = 256,
    SUBGROUPS = 4,       /* of a group */
    SIDE = 32,           /* of a subgroup's results, and of a tile's depth */
    MOST_RESULTS = 256,  /* of a matrix: what its part of shared memory holds */
    SHARED_BYTES = 14336 /* of a group */
};

typedef struct shape {
    VkStructureType sType;
    void *pNext;
    uint32_t m, n, k;
    int a, b, c, result;
    VkBool32 saturating;
    int scope;
} shape;

typedef struct device_properties {
    VkStructureType sType;
    void *pNext;
    VkShaderStageFlags stages;
} device_properties;

typedef VkResult(VKAPI_PTR *list_shapes)(VkPhysicalDevice, uint32_t *, shape *);

static bool fits(const shape *s)
{
    return s->a == F16 && s->b == F16 && s->c == F32 && s->result == F32 && !s->saturating &&
           s->scope == SUBGROUP_SCOPE && s->m && s->n && s->k && SIDE % s->m == 0 &&
           SIDE % s->n == 0 && SIDE % s->k == 0 && s->m * s->n <= MOST_RESULTS;
}

static void choose_shape(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, cn_gpu_device *out)
{
    list_shapes list = (list_shapes)vk->GetInstanceProcAddr(
        vk->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t n = 0, most = 0;
    if (!list || list(d, &n, NULL) != VK_SUCCESS || !n || n > MOST_SHAPES) return;
    shape *all = cn_alloc_array(ctx, n, sizeof *all);
    if (!all) return;
    for (uint32_t i = 0; i < n; i++) all[i] = (shape){.sType = (VkStructureType)PROPERTIES_TYPE};
    if (list(d, &n, all) != VK_SUCCESS) n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const shape *s = &all[i];
        if (!fits(s) || s->m * s->n * s->k <= most) continue;
        most = s->m * s->n * s->k;
        out->matrix[0] = s->m;
        out->matrix[1] = s->n;
        out->matrix[2] = s->k;
    }
    cn_free(all);
}

static bool has_features(const cn_vk *vk, VkPhysicalDevice d)
{
    cn_vk_matrix_features f = {
        .sizes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT},
        .cooperative = {.sType = (VkStructureType)FEATURES_TYPE, .pNext = &f.sizes}};
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &f.cooperative};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &f12};
    vk->GetPhysicalDeviceFeatures2(d, &all);
    return f12.shaderFloat16 && f12.vulkanMemoryModel && f.sizes.subgroupSizeControl &&
           f.sizes.computeFullSubgroups && f.cooperative.cooperativeMatrix;
}

static bool has_limits(const cn_vk *vk, VkPhysicalDevice d, uint32_t subgroup)
{
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT};
    device_properties matrices = {.sType = (VkStructureType)DEVICE_PROPERTIES_TYPE,
                                  .pNext = &sizes};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &matrices};
    vk->GetPhysicalDeviceProperties2(d, &p);
    const VkPhysicalDeviceLimits *l = &p.properties.limits;
    return matrices.stages & VK_SHADER_STAGE_COMPUTE_BIT &&
           sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT &&
           subgroup >= sizes.minSubgroupSize && subgroup <= sizes.maxSubgroupSize &&
           sizes.maxComputeWorkgroupSubgroups >= SUBGROUPS &&
           SUBGROUPS * subgroup <= l->maxComputeWorkGroupInvocations &&
           SUBGROUPS * subgroup <= l->maxComputeWorkGroupSize[0] &&
           l->maxComputeSharedMemorySize >= SHARED_BYTES;
}

void cn_vk_matrices_ask(const cn_vk *vk, cn_ctx *ctx, VkPhysicalDevice d, cn_gpu_device *out)
{
    if (cn_vk_has_extension(vk, ctx, d, COOPERATIVE_MATRIX) &&
        cn_vk_has_extension(vk, ctx, d, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME) &&
        has_features(vk, d) && has_limits(vk, d, out->subgroup))
        choose_shape(vk, ctx, d, out);
}

void cn_vk_matrices_enable(const cn_gpu_device *about, VkPhysicalDeviceVulkan12Features *f12,
                           cn_vk_matrix_features *f, const char **names, uint32_t *n_names)
{
    if (!about->matrix[0]) return;
    *f = (cn_vk_matrix_features){
        .sizes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
                  .pNext = f12->pNext,
                  .subgroupSizeControl = VK_TRUE,
                  .computeFullSubgroups = VK_TRUE},
        .cooperative = {.sType = (VkStructureType)FEATURES_TYPE,
                        .pNext = &f->sizes,
                        .cooperativeMatrix = VK_TRUE}};
    f12->pNext = &f->cooperative;
    f12->shaderFloat16 = VK_TRUE;
    f12->vulkanMemoryModel = VK_TRUE;
    names[(*n_names)++] = COOPERATIVE_MATRIX;
    names[(*n_names)++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
}

void cn_vk_matrices_stage(const cn_gpu_device *about, cn_vk_matrix_stage *m,
                          VkPipelineShaderStageCreateInfo *stage)
{
    const uint32_t *mnk = about->matrix;
    *m = (cn_vk_matrix_stage){
        .values = {about->subgroup, mnk[0], mnk[1], mnk[2], SUBGROUPS * about->subgroup},
        .constants = {.mapEntryCount = CN_COUNT(m->entries),
                      .pMapEntries = m->entries,
                      .dataSize = sizeof m->values,
                      .pData = m->values},
        .size = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
            .requiredSubgroupSize = about->subgroup}};
    for (uint32_t i = 0; i < CN_COUNT(m->entries); i++)
        m->entries[i] = (VkSpecializationMapEntry){i, i * sizeof *m->values, sizeof *m->values};
    stage->pSpecializationInfo = &m->constants;
    stage->flags |= VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT;
    stage->pNext = &m->size;
}

cn_gpu_kernel cn_vk_matrix_kernel(cn_gpu_kernel k)
{
    switch ((int)k) {
    case CN_GPU_KERNEL_product_forward: return CN_GPU_KERNEL_product_forward_matrix;
    case CN_GPU_KERNEL_product_dx: return CN_GPU_KERNEL_product_dx_matrix;
    case CN_GPU_KERNEL_product_dw: return CN_GPU_KERNEL_product_dw_matrix;
    default: return CN_GPU_KERNELS;
    }
}

bool cn_vk_is_matrix_kernel(cn_gpu_kernel k)
{
    return k == CN_GPU_KERNEL_product_forward_matrix || k == CN_GPU_KERNEL_product_dx_matrix ||
           k == CN_GPU_KERNEL_product_dw_matrix;
}
