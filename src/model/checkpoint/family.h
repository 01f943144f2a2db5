/* SPDX-License-Identifier: Apache-2.0 */
/* family.h - kinds of base models as a table: Stable Diffusion 1.x, 2.x, XL.
 *
 * A family says which networks a base of it has and where they lie in a single file, how it is
 * told apart from the others, and what its files leave open. Its row and functions stand in a file
 * of their own (family_sd.c), which CN_FAMILY_LIST lists.
 */
#ifndef CN_MODEL_CHECKPOINT_FAMILY_H
#define CN_MODEL_CHECKPOINT_FAMILY_H

#include "model/checkpoint/network_kinds.h"

/* One of a family's networks. Its folder in the diffusers layout follows from its kind. */
typedef struct cn_family_net {
    cn_net net;
    const char *prefix; /* of its tensors in a single file */
    const char *note;   /* what `inspect` adds to its name; NULL: nothing */
    /* Of a text encoder. pads_with_zero: prompts are filled up with token 0, whatever token the
     * vocabulary names for that; else with the end token. leaves_last: single files of the whole
     * encoder have a layer more than is used. penultimate, pools: see cn_clip_config. */
    bool pads_with_zero, leaves_last, penultimate, pools;
    bool second; /* folders call a base's one text encoder by the second's names */
    const char
        *embedding; /* its vectors' name in textual inversions; NULL: they have one encoder's */
} cn_family_net;

enum { CN_MAX_FAMILY_NETS = 2 + CN_MAX_TEXT_ENCODERS };

typedef struct cn_family {
    const char *name;     /* in messages: "Stable Diffusion 1.x" */
    const char *pipeline; /* diffusers' class of a whole model */
    /* In the order in which they are written; the text encoders' features stand side by side in
     * the UNet's context in this order too. */
    cn_family_net nets[CN_MAX_FAMILY_NETS];
    int n_nets, n_text;
    int64_t context_dim; /* of the published models */
    /* What single files don't say, unless their metadata does. */
    float scaling_factor;  /* of the VAE */
    int64_t sample_size;   /* latent side that the model was trained on */
    int64_t sample_size_v; /* the same where it predicts v */
    bool prediction_open;  /* UNets that predict the noise and v look alike */
    /* Drawing with guidance and no negative prompt at all takes features of 0 for it, unless
     * model_index.json says otherwise. */
    bool zeros_for_no_negative;
    cn_spacing spacing; /* of the published models' timesteps */
    int added_numbers;  /* of the UNet's added embedding, behind the pooled text; 0: none */
    bool (*fits)(const cn_base *b); /* whether a base of these configurations is of it */
} cn_family;

/* Every family: to add one, write its file, which defines `const cn_family cn_family_NAME`, and
 * list it here. They are tried in this order, and the last is taken where none fits. sd2_hf: with
 * the text encoder's names of transformers in single files. */
#define CN_FAMILY_LIST(X) \
    X(sdxl)               \
    X(sdxl_refiner)       \
    X(sd1)                \
    X(sd2)                \
    X(sd2_hf)

#define CN_FAMILY_DECLARE(name) extern const cn_family cn_family_##name;
CN_FAMILY_LIST(CN_FAMILY_DECLARE)
#undef CN_FAMILY_DECLARE

/* The i-th family, NULL behind the last. */
const cn_family *cn_family_at(int i);
/* That of a base whose configurations are known. */
const cn_family *cn_family_of(const cn_base *b);
/* Completes configurations that were just read by what the family knows of them; from_shapes: they
 * come from a single file's shapes. */
void cn_family_settle(cn_base *b, bool from_shapes);
/* Width of the text encoders' pooled output; 0: none has it. */
int64_t cn_base_pooled_dim(const cn_base *b);
/* Values that training keeps of a text: the context, and behind it the pooled output. */
int64_t cn_base_text_elements(const cn_base *b);
/* The family all of whose networks the single file holds, but for `without` (CN_NETS: no
 * exception); NULL: none. */
const cn_family *cn_family_in_file(const cn_tensors *t, cn_net without);
/* The name of the family with contexts of this width; "another model" for other widths. */
const char *cn_family_by_context(int64_t context_dim);
/* Width of the text encoders' features side by side, and their tokens, the same for all. */
int64_t cn_base_context_dim(const cn_base *b);
int64_t cn_base_context_length(const cn_base *b);
/* The kind by whose names the base's folder has its network. */
const cn_net_kind *cn_base_kind_of(const cn_base *b, cn_net net);
/* NULL where bases of this family have no such network. */
const cn_family_net *cn_family_find(const cn_family *f, cn_net net);

#endif
