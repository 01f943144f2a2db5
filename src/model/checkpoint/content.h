/* SPDX-License-Identifier: Apache-2.0 */
/* content.h - what kind of model a file of tensors holds, told by its tensors. */
#ifndef CN_MODEL_CHECKPOINT_CONTENT_H
#define CN_MODEL_CHECKPOINT_CONTENT_H

#include "io/tensors.h"

/* What stands before a network's names in a single file. */
#define CN_PREFIX_UNET    "model.diffusion_model."
#define CN_PREFIX_VAE     "first_stage_model."
#define CN_PREFIX_TEXT    "cond_stage_model.transformer."
#define CN_PREFIX_OPEN    "cond_stage_model.model." /* OpenCLIP's text encoder, SD 2.x */
#define CN_PREFIX_CONTROL "control_model."

typedef enum cn_content {
    CN_HOLDS_UNKNOWN,
    CN_HOLDS_BASE,  /* single-file Stable Diffusion */
    CN_HOLDS_WHOLE, /* the same with a ControlNet */
    CN_HOLDS_CONTROL_DIFFUSERS,
    CN_HOLDS_CONTROL,
    CN_HOLDS_CONTROL_PREFIXED,
    CN_HOLDS_CONTROL_DIFFERENCE,
    CN_HOLDS_UNET_DIFFUSERS,
    CN_HOLDS_UNET,
    CN_HOLDS_VAE_DIFFUSERS,
    CN_HOLDS_VAE,
    CN_HOLDS_TEXT,
    CN_HOLDS_LORA,
    CN_HOLDS_LLLITE,
    CN_HOLDS_ADAPTER,
    CN_HOLDS_EMBEDDING,
    CN_HOLDS_SDXL,
    CN_HOLDS_NOT_SD
} cn_content;

cn_content cn_content_of(const cn_tensors *t);
/* "a LoRA", for messages. */
const char *cn_content_name(cn_content c);
/* Averages over training (EMA) of the UNet's weights, in files from training: the name without
 * dots behind this. */
#define CN_PREFIX_EMA "model_ema.diffusion_model"
/* Whether the file has the UNet's averages and not the weights themselves, so that these are its
 * weights. */
bool cn_tensors_ema_only(const cn_tensors *t);
/* The tensor prefix + name, of a UNet also by its average's name where the file has no other;
 * NULL. */
const cn_tensor_info *cn_tensors_find_in(const cn_tensors *t, const char *prefix, const char *name);
/* Whether a tensor's name belongs to the network behind this prefix. */
bool cn_tensor_is_in(const cn_tensors *t, const char *prefix, const char *name);

#endif
