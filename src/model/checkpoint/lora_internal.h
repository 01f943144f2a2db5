/* SPDX-License-Identifier: Apache-2.0 */
/* lora_internal.h - what lora.c (names, shapes) and lora_merge.c (arithmetic) share. */
#ifndef CN_MODEL_CHECKPOINT_LORA_INTERNAL_H
#define CN_MODEL_CHECKPOINT_LORA_INTERNAL_H

#include "io/tensors.h"
#include "model/checkpoint/lora.h"

/* The tensors that a module may have. R is the rank; for a convolution I stands for I kh kw where
 * no middle factor takes kh and kw over. */
typedef enum cn_lora_part {
    CN_LORA_UP,    /* [O,R] */
    CN_LORA_DOWN,  /* [R,I] */
    CN_LORA_MID,   /* [R,R,kh,kw] */
    CN_LORA_ALPHA, /* the result is scaled by alpha / R; without it by 1 */
    CN_LORA_W1_A,  /* LoHa: (w1_a w1_b) * (w2_a w2_b), element by element */
    CN_LORA_W1_B,
    CN_LORA_W2_A,
    CN_LORA_W2_B,
    CN_LORA_T1, /* its middle factors; w1_a and w2_a are then [R,O] */
    CN_LORA_T2,
    CN_LORA_K1, /* LoKr: the Kronecker product of two matrices, each whole or in factors */
    CN_LORA_K1_A,
    CN_LORA_K1_B,
    CN_LORA_K2,
    CN_LORA_K2_A,
    CN_LORA_K2_B,
    CN_LORA_KT2,
    CN_LORA_DIFF,
    CN_LORA_DIFF_BIAS,
    CN_LORA_PARTS
} cn_lora_part;

typedef enum cn_lora_network { CN_LORA_UNET, CN_LORA_TEXT, CN_LORA_EITHER } cn_lora_network;

typedef struct cn_lora_module {
    char *key; /* the module's name with '_' for '.', without the network's prefix */
    cn_lora_network network;
    const cn_tensor_info *part[CN_LORA_PARTS];
    double scale; /* where there is no alpha tensor: 1, or what the file's metadata says */
    const char *weight, *bias; /* diffusers names of what it changes; NULL: nothing. Owned. */
} cn_lora_module;

struct cn_lora {
    char *path;
    cn_tensors *file;
    double weight[2]; /* of CN_LORA_UNET and CN_LORA_TEXT */
    cn_lora_module *modules;
    int64_t n, cap;
};

/* Whether there is more than a bias and alpha. */
bool cn_lora_changes_weight(const cn_lora_module *m);
/* CN_EMISMATCH when the module's parts don't make a change of shape[0..ndim), or are incomplete. */
cn_status cn_lora_check(cn_ctx *ctx, const cn_lora_module *m, int ndim,
                        const int64_t *shape) CN_CHECKED;
/* plain += weight * what the module's factors make. */
cn_status cn_lora_add_module(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             const cn_param *q, double weight, float *plain) CN_CHECKED;

#endif
