/* SPDX-License-Identifier: Apache-2.0 */
/* content.c - detection goes by tensors that only one kind of file has; a file's name says
 * nothing.
 */
#include "model/checkpoint/content.h"

#include "model/checkpoint/averages.h"
#include "model/checkpoint/family.h"

#include <string.h>

static const cn_content_kind kinds[] = {
    [CN_HOLDS_UNKNOWN] = {"tensors of no known layout", "", "", "", ""},
    [CN_HOLDS_BASE] = {"a Stable Diffusion base model (single file)",
                       "CompVis, Stability AI, trainers", "`--model`", "`convert`", "0.1"},
    [CN_HOLDS_WHOLE] = {"a Stable Diffusion base model with a ControlNet (single file)",
                        "ControlNet's author", "`--model`, `--control-net`", "", "0.1"},
    [CN_HOLDS_CONTROL_DIFFUSERS] = {"a ControlNet (diffusers names)", "diffusers",
                                    "`--control-net`", "`train`, `convert`", "0.1"},
    [CN_HOLDS_CONTROL] = {"a ControlNet (single-file names)", "ControlNet 1.1, kohya",
                          "`--control-net`", "", "0.1"},
    [CN_HOLDS_CONTROL_PREFIXED] = {"a ControlNet (single-file names, control_model.)",
                                   "ControlNet 1.1, the webui extension", "`--control-net`",
                                   "`convert`", "0.1"},
    [CN_HOLDS_CONTROL_DIFFERENCE] = {"a ControlNet stored as a difference from its base", "kohya",
                                     "`--control-net`, added to the base", "", "0.1"},
    [CN_HOLDS_CONTROL_LORA] = {"a Control-LoRA", "Stability AI",
                               "`--control-net`, added to the base", "`train`", "0.1"},
    [CN_HOLDS_CONTROL_UNION] = {"a union ControlNet (several conditions in one)", "xinsir",
                                "`--control-net`", "`train`, `convert`", "0.1"},
    [CN_HOLDS_LLLITE] = {"a ControlNet-LLLite", "kohya", "`--control-net`", "`train`", "0.1"},
    [CN_HOLDS_ADAPTER] = {"a T2I-Adapter", "TencentARC, diffusers", "`--control-net`", "`train`",
                          "0.1"},
    [CN_HOLDS_STYLE] = {"a T2I style adapter", "TencentARC", CN_CONTENT_NOT_YET, "", ""},
    [CN_HOLDS_FUSER] = {"a CoAdapter fuser", "TencentARC", CN_CONTENT_NOT_YET, "", ""},
    [CN_HOLDS_IP_ADAPTER] = {"an IP-Adapter", "tencent-ailab", "`--ip-adapter`", "", "0.1"},
    [CN_HOLDS_MOTION] = {"an AnimateDiff motion module", "guoyww", CN_CONTENT_NOT_YET, "", ""},
    [CN_HOLDS_VISION] = {"a CLIP vision encoder", "OpenAI, OpenCLIP", "`--image-encoder`", "",
                         "0.1"},
    [CN_HOLDS_UNET_DIFFUSERS] = {"a UNet alone (diffusers names)", "diffusers",
                                 "as `unet/` of a folder", "`convert`", "0.1"},
    [CN_HOLDS_UNET] = {"a UNet alone (single-file names)", "ComfyUI", CN_CONTENT_NOT_YET, "", ""},
    [CN_HOLDS_VAE_DIFFUSERS] = {"a VAE alone (diffusers names)", "diffusers", "`--vae`",
                                "`convert`", "0.1"},
    [CN_HOLDS_VAE] = {"a VAE alone (single-file names)", "Stability AI, stable-diffusion-webui",
                      "`--vae`", "", "0.1"},
    [CN_HOLDS_TAESD] = {"a tiny VAE (diffusers names)", "diffusers", "`--vae`, `--preview-model`",
                        "", "0.1"},
    [CN_HOLDS_TAESD_DECODER] = {"TAESD's decoder", "madebyollin", "`--vae`, `--preview-model`", "",
                                "0.1"},
    [CN_HOLDS_TAESD_ENCODER] = {"TAESD's encoder", "madebyollin", "`--vae`", "", "0.1"},
    [CN_HOLDS_TEXT] = {"a CLIP text encoder alone", "transformers, ComfyUI",
                       "as `text_encoder/` of a folder", "`convert`", "0.1"},
    [CN_HOLDS_LORA] = {"a LoRA", "kohya, LyCORIS, diffusers, peft", "`--lora`", "", "0.1"},
    [CN_HOLDS_EMBEDDING] = {"a textual inversion embedding", "stable-diffusion-webui, diffusers",
                            "`--embedding`", "", "0.1"},
    [CN_HOLDS_SDXL] = {"a part of an SDXL model", "Stability AI", "no", "", ""},
    [CN_HOLDS_NOT_SD] = {"a model that is not Stable Diffusion 1.x, 2.x or XL", "others", "no", "",
                         ""},
};

const char *cn_content_name(cn_content c)
{
    return kinds[c].name;
}

const cn_content_kind *cn_content_kind_at(int i)
{
    return i >= 0 && i < (int)CN_COUNT(kinds) ? &kinds[i] : NULL;
}

const char *cn_content_note(cn_content c)
{
    return !strcmp(kinds[c].read, CN_CONTENT_NOT_YET) ? " (not supported yet)" : "";
}

/* Calls see(name, user) for every tensor, read or skipped, until it returns true. */
static bool any_name(const cn_tensors *t, bool (*see)(const char *name, const void *user),
                     const void *user)
{
    for (int64_t i = 0; i < cn_tensors_count(t); i++)
        if (see(cn_tensors_at(t, i)->name, user)) return true;
    for (int64_t i = 0; i < cn_tensors_skipped(t); i++)
        if (see(cn_tensors_skipped_at(t, i), user)) return true;
    return false;
}

static bool contains(const char *name, const void *what)
{
    return strstr(name, what) != NULL;
}

/* The first of these tensors that a file has decides. '*' at the end: any name that starts so; at
 * the beginning: any that contains the rest. */
static const struct {
    const char *pattern;
    cn_content content;
} signs[] = {
    {"*lllite", CN_HOLDS_LLLITE},
    {CN_MARK_CONTROL_LORA, CN_HOLDS_CONTROL_LORA},
    {"ip_adapter.*", CN_HOLDS_IP_ADAPTER},
    {"image_proj.*", CN_HOLDS_IP_ADAPTER},
    {"*.to_k_ip.", CN_HOLDS_IP_ADAPTER},
    {"*spatial_ch_projs.", CN_HOLDS_CONTROL_UNION},
    {"*motion_modules.", CN_HOLDS_MOTION},
    {"*lora_down", CN_HOLDS_LORA},
    {"*lora_A", CN_HOLDS_LORA},
    {"*lora.down", CN_HOLDS_LORA},
    {"*lora_linear_layer", CN_HOLDS_LORA},
    {"*hada_w1", CN_HOLDS_LORA},
    {"*lokr_w", CN_HOLDS_LORA},
    {"*.w_norm", CN_HOLDS_LORA},
    {"*.on_input", CN_HOLDS_LORA},
    {"*.ia3_l", CN_HOLDS_LORA},
    {"*.oft_blocks", CN_HOLDS_LORA},
    {"lora_unet_*", CN_HOLDS_LORA},
    {"lora_te_*", CN_HOLDS_LORA},
    {"conditioner.embedders.*", CN_HOLDS_SDXL},
    {"model.diffusion_model.label_emb.*", CN_HOLDS_SDXL},
    {"difference", CN_HOLDS_CONTROL_DIFFERENCE},
    {"control_model.difference", CN_HOLDS_CONTROL_DIFFERENCE},
    {"control_model.input_hint_block.0.weight", CN_HOLDS_CONTROL_PREFIXED},
    {"model.diffusion_model.input_blocks.0.0.weight", CN_HOLDS_BASE},
    {CN_PREFIX_EMA "input_blocks00weight", CN_HOLDS_BASE},
    {"input_hint_block.0.weight", CN_HOLDS_CONTROL},
    {"controlnet_cond_embedding.conv_in.weight", CN_HOLDS_CONTROL_DIFFUSERS},
    {"input_blocks.0.0.weight", CN_HOLDS_UNET},
    {"down_blocks.0.resnets.0.time_emb_proj.weight", CN_HOLDS_UNET_DIFFUSERS},
    {"encoder.down_blocks.0.resnets.0.conv1.weight", CN_HOLDS_VAE_DIFFUSERS},
    {"encoder.down.0.block.0.conv1.weight", CN_HOLDS_VAE},
    {"first_stage_model.*", CN_HOLDS_VAE},
    {"text_model.embeddings.token_embedding.weight", CN_HOLDS_TEXT},
    {"embeddings.token_embedding.weight", CN_HOLDS_TEXT},
    {"cond_stage_model.*", CN_HOLDS_TEXT},
    {"style_embedding", CN_HOLDS_STYLE},
    {"task_embedding", CN_HOLDS_FUSER},
    {"adapter.*", CN_HOLDS_ADAPTER},
    {"body.0.*", CN_HOLDS_ADAPTER},
    {"vision_model.*", CN_HOLDS_VISION},
    {"visual.*", CN_HOLDS_VISION},
    {"decoder.layers.17.conv.0.weight", CN_HOLDS_TAESD},
    {"encoder.layers.14.weight", CN_HOLDS_TAESD},
    {"18.conv.0.weight", CN_HOLDS_TAESD_DECODER},
    {"13.conv.0.weight", CN_HOLDS_TAESD_ENCODER},
    {"emb_params", CN_HOLDS_EMBEDDING},
    {"string_to_param.*", CN_HOLDS_EMBEDDING},
    {"model.diffusion_model.*", CN_HOLDS_NOT_SD},
    {"double_blocks.*", CN_HOLDS_NOT_SD},
    {"transformer_blocks.*", CN_HOLDS_NOT_SD},
};

static bool has_sign(const cn_tensors *t, const char *pattern)
{
    size_t n = strlen(pattern);
    if (pattern[0] == '*') return any_name(t, contains, pattern + 1);
    if (pattern[n - 1] != '*')
        return cn_tensors_find(t, pattern) || cn_tensors_skipped_why(t, pattern);
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%.*s", (int)(n - 1), pattern);
    return cn_tensors_have_prefix(t, prefix);
}

static bool holds(const cn_tensors *t, cn_content content)
{
    for (size_t i = 0; i < CN_COUNT(signs); i++)
        if (signs[i].content == content && has_sign(t, signs[i].pattern)) return true;
    return false;
}

cn_content cn_content_of(const cn_tensors *t)
{
    const bool known = cn_family_in_file(t, CN_NET_VAE) != NULL;
    for (size_t i = 0; i < CN_COUNT(signs); i++) {
        const cn_content content = signs[i].content;
        if (!has_sign(t, signs[i].pattern)) continue;
        /* A family that knows all of the file's networks (the VAE may be elsewhere) overrules what
         * looks like another model. */
        if (known && (content == CN_HOLDS_SDXL || content == CN_HOLDS_NOT_SD)) continue;
        return content == CN_HOLDS_CONTROL_PREFIXED && holds(t, CN_HOLDS_BASE) ? CN_HOLDS_WHOLE
                                                                               : content;
    }
    return CN_HOLDS_UNKNOWN;
}
