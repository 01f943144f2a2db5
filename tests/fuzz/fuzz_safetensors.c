/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a safetensors file: opened, every tensor read, and taken for each network whose
 * configuration follows from names and shapes. */
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/content.h"
#include "model/checkpoint/family.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Each network where a single file of each family has it. */
static void take_for_bases(cn_ctx *ctx, const cn_tensors *t)
{
    cn_net_config config = {0};
    (void)cn_family_in_file(t, CN_NETS);
    for (int i = 0; cn_family_at(i); i++) {
        const cn_family *f = cn_family_at(i);
        for (int k = 0; k < f->n_nets; k++) {
            const cn_family_net *n = &f->nets[k];
            const cn_status s =
                cn_net_kind_of(n->net)->from_shapes(ctx, t, n->prefix, CN_LAYOUT_LDM, &config);
            (void)s;
        }
    }
}

static void take_for_networks(cn_ctx *ctx, const cn_tensors *t)
{
    static const cn_layout layouts[] = {CN_LAYOUT_DIFFUSERS, CN_LAYOUT_LDM};
    cn_unet_config unet;
    cn_controlnet_config control;
    cn_vae_config vae;
    cn_clip_config text;
    cn_adapter_config adapter;
    cn_lllite_config *lllite = NULL;
    cn_ip_config ip;
    cn_vision_config vision;
    (void)cn_content_of(t);
    for (size_t i = 0; i < CN_COUNT(layouts); i++) {
        const cn_layout l = layouts[i];
        const cn_status all[] = {cn_unet_config_from_shapes(ctx, t, "", l, &unet),
                                 cn_controlnet_config_from_shapes(ctx, t, "", l, &control),
                                 cn_vae_config_from_shapes(ctx, t, "", l, &vae),
                                 cn_adapter_config_from_shapes(ctx, t, l, &adapter)};
        (void)all;
    }
    const cn_status texts[] = {cn_clip_config_from_shapes(ctx, t, "", &text),
                               cn_open_clip_config_from_shapes(ctx, t, "", &text),
                               cn_lllite_config_from_shapes(ctx, t, &lllite),
                               cn_ip_config_from_shapes(ctx, t, &ip),
                               cn_vision_config_from_shapes(ctx, t, "", &vision)};
    (void)texts;
    cn_free(lllite);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum { MAX_READ = 1 << 20 };
    cn_ctx *ctx = cn_ctx_create(1);
    cn_tensors *t = NULL;
    if (ctx && cn_tensors_open_memory(ctx, data, n, &t) == CN_OK) {
        for (int64_t i = 0; i < cn_tensors_count(t); i++) {
            const cn_tensor_info *info = cn_tensors_at(t, i);
            float *out =
                info->elements <= MAX_READ ? cn_alloc(ctx, (size_t)info->elements * 4 + 4) : NULL;
            if (out && cn_tensors_read(ctx, t, info, out) != CN_OK) __builtin_trap();
            cn_free(out);
            if (cn_tensors_find(t, info->name) != info) __builtin_trap();
        }
        (void)cn_tensors_metadata(t, "format");
        take_for_bases(ctx, t);
        take_for_networks(ctx, t);
        cn_tensors_close(t);
    }
    cn_ctx_destroy(ctx);
    return 0;
}
