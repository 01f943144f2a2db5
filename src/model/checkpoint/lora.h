/* SPDX-License-Identifier: Apache-2.0 */
/* lora.h - LoRA files: small changes of a base model's weights, merged into them while they are
 * read.
 *
 * Names: kohya's and LyCORIS' (lora_unet_down_blocks_0_..., also with single-file block names),
 * diffusers' and peft's (unet.down_blocks.0...lora_A.weight), diffusers' older ones
 * (...processor.to_q_lora.down.weight). Forms: LoRA of linear layers and convolutions, the latter
 * also with a middle factor (lora_mid), LoHa (hada_*), LoKr (lokr_*), whole differences of weights,
 * biases and norms (diff, diff_b, w_norm, b_norm), IA3, and DoRA over rows or columns on top of any
 * sum. Kinds that aren't known here (OFT, GLoRA) are refused by name, since the rest of such a file
 * gives another model than was trained; single tensors of no known form are counted and named.
 * Merging is done in F32 in the published layout.
 */
#ifndef CN_MODEL_CHECKPOINT_LORA_H
#define CN_MODEL_CHECKPOINT_LORA_H

#include "io/tensors.h"
#include "model/checkpoint/network_kinds.h"

/* Before the names of the textual inversion embeddings that a LoRA's file may hold. */
#define CN_LORA_BUNDLE "bundle_emb."

typedef struct cn_lora cn_lora;

/* In the order merged. Part of a cn_base (weights.h). */
typedef struct cn_lora_set {
    cn_lora **list;
    int n;
} cn_lora_set;

/* Opens a file, or the files of a folder that peft or diffusers wrote, and finds what each module
 * changes of the n networks, the base's UNet and text encoders: they are declared, values are not
 * needed. The weights scale the UNet's and the text encoders' part. Modules of none of them are
 * left out and their number logged. CN_EMISMATCH when there are no others, or when a shape doesn't
 * fit; CN_EFORMAT for a value that isn't finite. */
cn_status cn_lora_add(cn_ctx *ctx, cn_lora_set *set, const char *path, double unet_weight,
                      double text_weight, const cn_params *const *networks, int n) CN_CHECKED;
void cn_lora_set_free(cn_lora_set *set);
/* Closes all but the first n. */
void cn_lora_set_truncate(cn_lora_set *set, int n);
/* File i of the set's n, valid as long as it is in the set. */
const cn_tensors *cn_lora_file(const cn_lora_set *set, int i, const char **path);
/* Adds what the set changes in parameter q of the network to its values, [shape of q] in the
 * published layout. */
cn_status cn_lora_merge(cn_ctx *ctx, const cn_lora_set *set, cn_net net, const cn_param *q,
                        float *plain) CN_CHECKED;
/* Whether the set changes it. */
bool cn_lora_changes(const cn_lora_set *set, cn_net net, const cn_param *q);
/* How many of the set's modules change something. */
int64_t cn_lora_modules(const cn_lora_set *set);

#endif
