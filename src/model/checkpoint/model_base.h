/* SPDX-License-Identifier: Apache-2.0 */
/* model_base.h - an opened base model: configurations known, no weights read yet. weights.h opens
 * it. */
#ifndef CN_MODEL_CHECKPOINT_MODEL_BASE_H
#define CN_MODEL_CHECKPOINT_MODEL_BASE_H

#include "io/tensors.h"
#include "model/checkpoint/config.h"

typedef struct cn_base {
    char path[CN_PATH_BYTES];
    bool single_file;
    cn_tensors *file; /* single file; NULL for a folder */
    cn_unet_config unet;
    cn_vae_config vae;
    cn_clip_config text[CN_MAX_TEXT_ENCODERS]; /* as many as its family has (family.h) */
    cn_schedule_config schedule;
    /* Merged into what cn_base_load reads; NULL: none. Not owned. */
    const struct cn_lora_set *loras;
    struct cn_vae_file *other_vae; /* instead of the model's own; NULL; owned */
    bool zeros_for_no_negative;    /* as cn_family has it, or model_index.json */
    bool prediction_unknown;       /* a single file that doesn't say whether it predicts v */
    struct cn_ranges *ranges;      /* looked up as they are asked for; owned */
} cn_base;

#endif
