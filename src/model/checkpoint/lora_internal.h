/* SPDX-License-Identifier: Apache-2.0 */
/* lora_internal.h - what the files behind lora.h share: lora_names.c (tensors' names), lora_peft.c
 * (peft's configuration), lora.c (modules and the parameters they change), lora_merge.c
 * (arithmetic). */
#ifndef CN_MODEL_CHECKPOINT_LORA_INTERNAL_H
#define CN_MODEL_CHECKPOINT_LORA_INTERNAL_H

#include "io/json.h"
#include "io/tensors.h"
#include "model/checkpoint/lora.h"

/* The tensors that a module may have. R is the rank; for a convolution I stands for I kh kw where
 * no middle factor takes kh and kw over. */
typedef enum cn_lora_part {
    CN_LORA_UP,    /* [O,R] */
    CN_LORA_DOWN,  /* [R,I] */
    CN_LORA_MID,   /* [R,R,kh,kw] */
    CN_LORA_ALPHA, /* the result is scaled by alpha / R; without it by 1 */
    CN_LORA_SCALE, /* the scale itself, instead of alpha / R */
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
    CN_LORA_DIFF,       /* whole differences, of norms too */
    CN_LORA_DIFF_BIAS,  /* of the bias */
    CN_LORA_WHOLE,      /* peft's modules_to_save: the weight that takes the base's place */
    CN_LORA_WHOLE_BIAS, /* the same of the bias */
    CN_LORA_UP_BIAS,    /* the same, scaled as the product of up and down */
    CN_LORA_IA3,        /* LyCORIS: each output's, or input's, weights grow by this share */
    CN_LORA_IA3_INPUT,  /* one number: 1 where CN_LORA_IA3 is of inputs */
    CN_LORA_IA3_FACTOR, /* peft: each output's, or input's, weights are multiplied by this */
    CN_LORA_DORA,       /* the norms that the sum's rows [O,1] or columns [1,I] are brought to */
    CN_LORA_MAGNITUDE,  /* the same of rows, peft's; [O] in any shape */
    CN_LORA_PARTS
} cn_lora_part;

typedef struct cn_lora_module {
    char *key;  /* the module's name with '_' for '.', without the network's prefix */
    char *name; /* as the file has it, without the prefix */
    cn_net net; /* CN_NETS: its name doesn't say */
    const cn_tensor_info *part[CN_LORA_PARTS];
    double scale;     /* where there is no alpha tensor: 1, or what peft's configuration says */
    bool feedforward; /* peft's IA3: of inputs */
    const char *weight, *bias; /* diffusers names of what it changes; NULL: nothing. Owned. */
} cn_lora_module;

struct cn_lora {
    char *path;
    cn_tensors *file;
    double unet_weight, text_weight;
    cn_lora_module *modules;
    int64_t n, cap;
    int64_t unknown; /* tensors of no module's form; the first one's name */
    const char *first_unknown;
};

#define CN_LORA_PEFT "base_model.model." /* before all of peft's names */

/* --- lora_names.c ----------------------------------------------------------------------------- */

/* What a tensor's name says. */
typedef struct cn_lora_name {
    char key[CN_NAME_MAX], name[CN_NAME_MAX]; /* as the module's */
    cn_net net;
    cn_lora_part part;
} cn_lora_name;

/* False for a name of no known form. ia3: the file has LyCORIS' IA3, whose ".weight" means nothing
 * elsewhere. */
bool cn_lora_name_read(const char *tensor, bool ia3, cn_lora_name *out);
/* Whether a file's tensors are those of LyCORIS' IA3. */
bool cn_lora_has_ia3(const cn_tensors *t);
/* The kind, in words, of a tensor without which the rest gives another model than was trained, and
 * that isn't read here; NULL for any other tensor. */
const char *cn_lora_unsupported(const char *tensor);
/* A module's name to its key; false when it is longer than any name here. */
bool cn_lora_make_key(const char *name, size_t n, char key[CN_NAME_MAX]);
bool cn_lora_ends_with(const char *name, size_t n, const char *ending);

/* --- lora_peft.c ------------------------------------------------------------------------------ */

/* The scales of modules that say none themselves: from the file's metadata, where diffusers writes
 * peft's configuration, or from adapter_config.json beside it. */
cn_status cn_lora_read_peft(cn_ctx *ctx, cn_lora *l) CN_CHECKED;

/* --- lora_merge.c ----------------------------------------------------------------------------- */

/* Whether there is more than a bias and scales. */
bool cn_lora_changes_weight(const cn_lora_module *m);
/* CN_EMISMATCH when the module's parts don't make a change of shape[0..ndim), or are incomplete. */
cn_status cn_lora_check(cn_ctx *ctx, const cn_lora_module *m, int ndim,
                        const int64_t *shape) CN_CHECKED;
/* Whether peft's IA3 multiplies the inputs' weights: its tensors are [O,1] and [1,I], but [1,n,1,1]
 * of convolutions, where that and then the configuration (m->feedforward) tell. */
bool cn_lora_share_of_inputs(const cn_lora_module *m, int ndim, const int64_t *shape);
/* plain += weight * what the module's factors make. */
cn_status cn_lora_add_module(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             const cn_param *q, double weight, float *plain) CN_CHECKED;

#endif
