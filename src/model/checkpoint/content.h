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
    CN_HOLDS_CONTROL_LORA,
    CN_HOLDS_CONTROL_UNION,
    CN_HOLDS_LLLITE,
    CN_HOLDS_ADAPTER,
    CN_HOLDS_STYLE,
    CN_HOLDS_FUSER,
    CN_HOLDS_IP_ADAPTER,
    CN_HOLDS_MOTION,
    CN_HOLDS_VISION,
    CN_HOLDS_UNET_DIFFUSERS,
    CN_HOLDS_UNET,
    CN_HOLDS_VAE_DIFFUSERS,
    CN_HOLDS_VAE,
    CN_HOLDS_TAESD,
    CN_HOLDS_TAESD_DECODER,
    CN_HOLDS_TAESD_ENCODER,
    CN_HOLDS_TEXT,
    CN_HOLDS_LORA,
    CN_HOLDS_EMBEDDING,
    CN_HOLDS_SDXL,
    CN_HOLDS_NOT_SD
} cn_content;

/* An empty tensor that every Control-LoRA has. */
#define CN_MARK_CONTROL_LORA "lora_controlnet"

cn_content cn_content_of(const cn_tensors *t);
/* What a kind of file is called in messages, who writes it, what reads it here and what writes it
 * ("" nothing), and the version that was the first to. docs/files.md has these as a table. */
typedef struct cn_content_kind {
    const char *name, *by, *read, *written, *since;
} cn_content_kind;

#define CN_CONTENT_NOT_YET "not yet" /* as .read */

/* NULL behind the last; the first is what isn't known. */
const cn_content_kind *cn_content_kind_at(int i);
/* "a LoRA", for messages. */
const char *cn_content_name(cn_content c);
/* What to say behind the name: " (not supported yet)", or "". */
const char *cn_content_note(cn_content c);

#endif
