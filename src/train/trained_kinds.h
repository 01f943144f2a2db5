/* SPDX-License-Identifier: Apache-2.0 */
/* trained_kinds.h - the kinds of control networks that can be trained, as a table: how each is made
 * from the base, which parameters learn, how it joins the UNet, how it is saved.
 *
 * All parameters of the network's own set learn. A Control-LoRA's set has narrow matrices in the
 * place of the weights that it takes from the base's (graph.h, cn_low_rank).
 */
#ifndef CN_TRAIN_TRAINED_KINDS_H
#define CN_TRAIN_TRAINED_KINDS_H

#include "diffuse/draw_spec.h"
#include "model/checkpoint/weights.h"
#include "train/train_state.h"

typedef struct cn_trained_kind cn_trained_kind;

/* A control network to be trained: its kind, what its kind's functions take, where it starts. */
typedef struct cn_trained_net {
    const cn_trained_kind *kind;
    cn_controlnet_config net;  /* of ControlNets, Unions and Control-LoRAs */
    cn_adapter_config adapter; /* of T2I-Adapters */
    cn_lllite_config *lllite;  /* of ControlNet-LLLites, owned; else NULL */
    int type;                  /* of the conditions, for a Union */
    int64_t rank;              /* of a Control-LoRA that is made anew */
    cn_control_file *start;    /* NULL: from the base; owned */
} cn_trained_net;

struct cn_trained_kind {
    const char *name;  /* of --control-kind */
    const char *title; /* in messages */
    const cn_control_kind *joins;
    /* The configuration of a new one for this base. */
    cn_status (*make)(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                      cn_trained_net *out);
    /* Whether a file, whose configuration is known, is one for this base. */
    bool (*is)(cn_ctx *ctx, const cn_base *b, const cn_control_file *file);
    /* Values of a new one: copies of the base's where it has them. False: all by their own rules
     * (cn_param.init). */
    bool copies;
    bool low_rank;  /* it computes with the base's weights and changes of its own */
    int64_t narrow; /* default of --network-dim; 0: it has no use for it */
    bool links;     /* to the decoder's skips, one by one, beside the middle's */
    /* Writes `file`, from which it is gone on, and where it is published as a folder too, that into
     * dir. */
    cn_status (*save)(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t, const cn_params *p,
                      const char *dir, const char *file, const char *const *more);
};

/* --control-kind's, NULL at the end. */
extern const char *const cn_trained_kind_words[];

/* What the options ask for, for this base: of the kind that they or the file to start from name.
 * Refuses what has no meaning for the kind. *out: cn_trained_close, after a failure too. */
cn_status cn_trained_open(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                          cn_trained_net *out) CN_CHECKED;
void cn_trained_close(cn_trained_net *t);
/* As a step's graph and drawings take it. */
cn_draw_control cn_trained_control(const cn_trained_net *t, cn_params *p);
/* Its empty parameter set, to learn. unet: the base's, with all its parameters declared for a kind
 * of low rank; *low is filled in then, and must outlive the set, as must unet. */
cn_status cn_trained_params(cn_ctx *ctx, const cn_trained_net *t, cn_params *unet, cn_dtype compute,
                            cn_low_rank *low, cn_params **out) CN_CHECKED;
/* The values it starts from, for the declared parameters of its set. */
cn_status cn_trained_init(cn_ctx *ctx, const cn_trained_net *t, const cn_base *b, cn_backend *be,
                          cn_params *p, uint64_t seed) CN_CHECKED;
/* Into dir, in F32, in the layouts that its kind is published in. more: further metadata of each
 * file (cn_remarks); NULL. */
cn_status cn_trained_save(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t, const cn_params *p,
                          const char *dir, const char *const *more) CN_CHECKED;
/* Fills p from such a folder. */
cn_status cn_trained_load(cn_ctx *ctx, const cn_trained_net *t, const cn_base *b, cn_backend *be,
                          const char *dir, cn_params *p) CN_CHECKED;

#endif
