/* SPDX-License-Identifier: Apache-2.0 */
/* content.h - what kind of model a file of tensors holds, told by its tensors. */
#ifndef CN_MODEL_CHECKPOINT_CONTENT_H
#define CN_MODEL_CHECKPOINT_CONTENT_H

#include "io/tensors.h"

#define CN_PREFIX_CONTROL "control_model." /* before a ControlNet's names in a single file */

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

#endif
