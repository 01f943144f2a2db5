/* SPDX-License-Identifier: Apache-2.0 */
/* lora.h - LoRA files: small changes of a base model's weights, merged into them while they are
 * read.
 *
 * Names: kohya's and LyCORIS' (lora_unet_down_blocks_0_..., also with single-file block names),
 * diffusers' and peft's (unet.down_blocks.0...lora_A.weight), diffusers' older ones
 * (...processor.to_q_lora.down.weight). Forms: LoRA of linear layers and convolutions, the latter
 * also with a middle factor (lora_mid), LoHa (hada_*), LoKr (lokr_*), and whole differences (diff,
 * diff_b). What a file holds besides (DoRA's scales) is refused by name. Merging is done in F32 in
 * the published layout.
 */
#ifndef CN_MODEL_CHECKPOINT_LORA_H
#define CN_MODEL_CHECKPOINT_LORA_H

#include "graph/graph.h"

typedef struct cn_lora cn_lora;

/* In the order merged. Part of a cn_base (weights.h). */
typedef struct cn_lora_set {
    cn_lora **list;
    int n;
} cn_lora_set;

/* Opens the file and finds what each of its modules changes: unet and text are declared, values are
 * not needed. The weights scale the UNet's and the text encoder's part. Modules of neither network
 * are left out and their number logged. CN_EMISMATCH when there are no others, or when a shape
 * doesn't fit. */
cn_status cn_lora_add(cn_ctx *ctx, cn_lora_set *set, const char *path, double unet_weight,
                      double text_weight, const cn_params *unet, const cn_params *text) CN_CHECKED;
void cn_lora_set_free(cn_lora_set *set);
/* Closes all but the first n. */
void cn_lora_set_truncate(cn_lora_set *set, int n);
/* Adds what the set changes in parameter q of the network to its values, [shape of q] in the
 * published layout. */
cn_status cn_lora_merge(cn_ctx *ctx, const cn_lora_set *set, const char *network, const cn_param *q,
                        float *plain) CN_CHECKED;
/* Whether the set changes it. */
bool cn_lora_changes(const cn_lora_set *set, const char *network, const cn_param *q);
/* How many of the set's modules change something. */
int64_t cn_lora_modules(const cn_lora_set *set);

#endif
