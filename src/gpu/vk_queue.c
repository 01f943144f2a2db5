/* SPDX-License-Identifier: Apache-2.0 */
/* vk_queue.c - see vk_queue.h. */
#include "gpu/vk_queue_internal.h"

#include "base/sys.h"
#include "gpu/vk_matrices.h"

/* A step of the largest networks takes seconds on the slowest devices; this is a device that
 * stands. */
static const uint64_t LONGEST_NS = 600ull * 1000000000;

static cn_status create_objects(cn_ctx *ctx, cn_vk_queue *q)
{
    const cn_vk *vk = &q->d.vk;
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = q->d.family};
    CN_TRY(cn_vk_check(ctx, vk->CreateCommandPool(q->d.device, &pool, NULL, &q->pool),
                       "create a command pool"));
    const VkCommandBufferAllocateInfo buffer = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = q->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1};
    CN_TRY(cn_vk_check(ctx, vk->AllocateCommandBuffers(q->d.device, &buffer, &q->commands),
                       "create a command buffer"));
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    CN_TRY(
        cn_vk_check(ctx, vk->CreateFence(q->d.device, &fence, NULL, &q->fence), "create a fence"));
    const VkPushConstantRange arguments = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                           .size = CN_VK_ARGUMENT_BYTES};
    const VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &arguments};
    CN_TRY(cn_vk_check(ctx, vk->CreatePipelineLayout(q->d.device, &layout, NULL, &q->layout),
                       "create a pipeline layout"));
    cn_vk_cache_open(&q->d, &q->cache);
    cn_vk_tiles_open(&q->d, &q->chooser);
    CN_TRY(cn_vk_profile_open(ctx, q));
    return cn_vk_staging_open(ctx, q);
}

cn_status cn_vk_queue_open(cn_ctx *ctx, int index, int turn, cn_vk_queue *q)
{
    enum { PART = 256, NO_LIMIT = 40 }; /* drivers without a limit name anything */
    CN_TRY(cn_vk_device_open(ctx, index, turn, &q->d));
    q->limit = (size_t)q->d.about.largest_bytes & ~(size_t)(PART - 1);
    if (!q->limit || q->limit >> NO_LIMIT) q->limit = (size_t)1 << NO_LIMIT;
    const cn_status s = create_objects(ctx, q);
    if (s != CN_OK) cn_vk_queue_close(q);
    return s;
}

void cn_vk_queue_close(cn_vk_queue *q)
{
    const cn_vk *vk = &q->d.vk;
    VkDevice d = q->d.device;
    (void)vk->DeviceWaitIdle(d);
    q->recording = false; /* what nobody waited for isn't wanted */
    for (int k = 0; k < CN_GPU_KERNELS; k++)
        for (int t = 0; t < CN_VK_TILES; t++)
            if (q->pipelines[k][t]) vk->DestroyPipeline(d, q->pipelines[k][t], NULL);
    cn_vk_tiles_close(&q->chooser);
    if (q->compiled) cn_vk_cache_save(&q->d, &q->cache);
    cn_vk_cache_close(&q->d, &q->cache);
    cn_vk_profile_close(q);
    if (q->layout) vk->DestroyPipelineLayout(d, q->layout, NULL);
    if (q->fence) vk->DestroyFence(d, q->fence, NULL);
    if (q->pool) vk->DestroyCommandPool(d, q->pool, NULL);
    cn_vk_memory_close(q);
    cn_vk_device_close(&q->d);
}

/* --- recording -------------------------------------------------------------------------------- */

void cn_vk_uses(cn_vk_queue *q, const void *at, size_t bytes, bool writes)
{
    cn_hazards_use(&q->hazards, at, bytes, writes);
}

static void record_barrier(cn_vk_queue *q)
{
    const VkMemoryBarrier all = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                         VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
    const VkPipelineStageFlags stages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    q->d.vk.CmdPipelineBarrier(cn_vk_target(q), stages, stages, 0, 1, &all, 0, NULL, 0, NULL);
}

static cn_status open_commands(cn_ctx *ctx, cn_vk_queue *q)
{
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    if (q->recording) return CN_OK;
    CN_TRY(cn_vk_check(ctx, q->d.vk.BeginCommandBuffer(q->commands, &begin), "record work"));
    q->recording = true;
    cn_vk_profile_begin(q);
    return CN_OK;
}

cn_status cn_vk_record(cn_ctx *ctx, cn_vk_queue *q)
{
    if (!q->keeping) CN_TRY(open_commands(ctx, q));
    const bool needed = cn_hazards_next(&q->hazards);
    if (needed || q->profile.on) record_barrier(q);
    q->counts.barriers += needed;
    return CN_OK;
}

/* What an item makes of a tile: kernels/product.h's constants, which others don't look at. */
typedef struct tile_stage {
    int32_t values[2];
    VkSpecializationMapEntry entries[2];
    VkSpecializationInfo constants;
} tile_stage;

static void tile_constants(int tile, tile_stage *s, VkPipelineShaderStageCreateInfo *stage)
{
    const cn_vk_tile *t = &cn_vk_tiles[tile];
    *s = (tile_stage){.values = {t->rows / 8, t->cols / 8},
                      .entries = {{0, 0, sizeof(int32_t)}, {1, sizeof(int32_t), sizeof(int32_t)}},
                      .constants = {.mapEntryCount = CN_COUNT(s->entries),
                                    .pMapEntries = s->entries,
                                    .dataSize = sizeof s->values,
                                    .pData = s->values}};
    stage->pSpecializationInfo = &s->constants;
}

static cn_status create_pipeline(cn_ctx *ctx, cn_vk_queue *q, cn_gpu_kernel kernel, int tile)
{
    const cn_vk *vk = &q->d.vk;
    const cn_gpu_code *code = &cn_gpu_codes[kernel];
    VkShaderModule module;
    const VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                           .codeSize = code->bytes,
                                           .pCode = code->words};
    CN_TRY(cn_vk_check(ctx, vk->CreateShaderModule(q->d.device, &info, NULL, &module), code->name));
    VkComputePipelineCreateInfo pipeline = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main"},
        .layout = q->layout};
    cn_vk_matrix_stage matrices;
    tile_stage constants;
    if (cn_vk_is_matrix_kernel(kernel))
        cn_vk_matrices_stage(&q->d.about, &matrices, &pipeline.stage);
    else
        tile_constants(tile, &constants, &pipeline.stage);
    const VkResult r = vk->CreateComputePipelines(q->d.device, q->cache.cache, 1, &pipeline, NULL,
                                                  &q->pipelines[kernel][tile]);
    q->compiled = true;
    vk->DestroyShaderModule(q->d.device, module, NULL);
    return cn_vk_check(ctx, r, "compile a kernel");
}

cn_status cn_vk_dispatch(cn_ctx *ctx, cn_vk_queue *q, const cn_vk_call *c)
{
    const cn_vk *vk = &q->d.vk;
    VkPipeline *pipeline = &q->pipelines[c->kernel][c->tile];
    if (c->bytes > CN_VK_ARGUMENT_BYTES || c->x > 65535 || c->y > 65535 || c->z > 65535)
        return cn_fail(ctx, CN_EINTERNAL, "%s: %u x %u x %u groups, %zu bytes of arguments",
                       cn_gpu_codes[c->kernel].name, c->x, c->y, c->z, c->bytes);
    if (!*pipeline) CN_TRY(create_pipeline(ctx, q, c->kernel, c->tile));
    CN_TRY(cn_vk_record(ctx, q));
    VkCommandBuffer to = cn_vk_target(q);
    vk->CmdBindPipeline(to, VK_PIPELINE_BIND_POINT_COMPUTE, *pipeline);
    vk->CmdPushConstants(to, q->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, (uint32_t)c->bytes,
                         c->arguments);
    vk->CmdDispatch(to, c->x, c->y, c->z);
    q->counts.dispatches++;
    q->counts.matrix_dispatches += cn_vk_is_matrix_kernel(c->kernel);
    q->counts.trials += c->trial >= 0;
    return cn_vk_profile_ended(ctx, q, (int)c->kernel, c->trial, c->tile);
}

/* --- kept work -------------------------------------------------------------------------------- */

/* A new command buffer, or the one at hand, which nothing waits for any more. */
static cn_status open_kept(cn_ctx *ctx, cn_vk_queue *q, cn_vk_kept **kept)
{
    const VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = q->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_SECONDARY,
        .commandBufferCount = 1};
    const VkCommandBufferInheritanceInfo none = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_INHERITANCE_INFO};
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
                                            .pInheritanceInfo = &none};
    const cn_vk *vk = &q->d.vk;
    if (*kept) CN_TRY(cn_vk_finish(ctx, q));
    if (!*kept && !(*kept = cn_alloc0(ctx, sizeof **kept))) return CN_ENOMEM;
    if (!(*kept)->commands)
        CN_TRY(cn_vk_check(ctx, vk->AllocateCommandBuffers(q->d.device, &info, &(*kept)->commands),
                           "create a command buffer"));
    return cn_vk_check(ctx, vk->BeginCommandBuffer((*kept)->commands, &begin), "record work");
}

/* Behind all that was recorded before, and before all that will be. */
static cn_status run_kept(cn_ctx *ctx, cn_vk_queue *q, const cn_vk_kept *kept)
{
    CN_TRY(open_commands(ctx, q));
    record_barrier(q);
    q->counts.barriers++;
    q->d.vk.CmdExecuteCommands(q->commands, 1, &kept->commands);
    cn_hazards_clear(&q->hazards);
    q->hazards.unknown = true;
    return CN_OK;
}

/* Runs by steps of their own, timed, until every product has its tile. */
static cn_status begin_trial(cn_ctx *ctx, cn_vk_queue *q, cn_vk_kept *k)
{
    CN_TRY(cn_vk_finish(ctx, q));
    CN_TRY(cn_vk_profile_turn(ctx, q, true));
    q->trying = k;
    q->chooser.trying = true;
    q->chooser.undecided = 0;
    return CN_OK;
}

static cn_status end_trial(cn_ctx *ctx, cn_vk_queue *q)
{
    cn_vk_kept *k = q->trying;
    q->trying = NULL;
    q->chooser.trying = false;
    const cn_status s = cn_vk_finish(ctx, q);
    if (q->chooser.undecided == 0) k->whole = false; /* it is recorded anew, with what was chosen */
    const cn_status off = cn_vk_profile_turn(ctx, q, false);
    return s == CN_OK ? off : s;
}

cn_status cn_vk_keep_begin(cn_ctx *ctx, cn_vk_queue *q, cn_vk_kept **kept, uint32_t key,
                           bool *replayed)
{
    cn_vk_kept *k = *kept;
    const bool fits = k && k->whole && k->key == key && k->generation == q->generation;
    *replayed = fits && k->decided;
    if (fits && !k->decided) return begin_trial(ctx, q, k);
    if (*replayed) {
        q->counts.replays++;
        return run_kept(ctx, q, k);
    }
    CN_TRY(open_kept(ctx, q, kept));
    k = *kept;
    k->whole = false;
    k->key = key;
    k->generation = q->generation;
    q->chooser.undecided = 0;
    q->keeping = k;
    q->kept_hazards = q->hazards;
    cn_hazards_clear(&q->hazards);
    return CN_OK;
}

cn_status cn_vk_keep_end(cn_ctx *ctx, cn_vk_queue *q, bool whole)
{
    cn_vk_kept *k = q->keeping;
    if (q->trying) return end_trial(ctx, q);
    const cn_status s = cn_vk_check(ctx, q->d.vk.EndCommandBuffer(k->commands), "record work");
    q->keeping = NULL;
    q->hazards = q->kept_hazards;
    if (s != CN_OK || !whole) return s;
    k->whole = true;
    k->decided = q->chooser.undecided == 0;
    return run_kept(ctx, q, k);
}

void cn_vk_keep_free(cn_vk_queue *q, cn_vk_kept *kept)
{
    if (!kept) return;
    if (q->recording && cn_vk_finish(NULL, q) != CN_OK) q->recording = false; /* it is lost */
    if (kept->commands) q->d.vk.FreeCommandBuffers(q->d.device, q->pool, 1, &kept->commands);
    cn_free(kept);
}

cn_status cn_vk_finish(cn_ctx *ctx, cn_vk_queue *q)
{
    const cn_vk *vk = &q->d.vk;
    if (!q->recording) return CN_OK;
    q->recording = false;
    q->staged = 0;
    cn_hazards_clear(&q->hazards);
    const VkMemoryBarrier to_host = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                     .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                                     .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vk->CmdPipelineBarrier(q->commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                           0, 1, &to_host, 0, NULL, 0, NULL);
    CN_TRY(cn_vk_check(ctx, vk->EndCommandBuffer(q->commands), "record work"));
    const VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                 .commandBufferCount = 1,
                                 .pCommandBuffers = &q->commands};
    const VkResult sent = cn_sys_before(&(cn_sys_call){.kind = CN_SYS_DEVICE_RUN})
                              ? vk->QueueSubmit(q->d.queue, 1, &submit, q->fence)
                              : VK_ERROR_DEVICE_LOST;
    CN_TRY(cn_vk_check(ctx, sent, "send work"));
    q->counts.submissions++;
    CN_TRY(cn_vk_check(ctx, vk->WaitForFences(q->d.device, 1, &q->fence, VK_TRUE, LONGEST_NS),
                       "wait for the device"));
    CN_TRY(cn_vk_check(ctx, vk->ResetFences(q->d.device, 1, &q->fence), "reset a fence"));
    return cn_vk_profile_collect(ctx, q);
}
