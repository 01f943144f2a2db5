/* SPDX-License-Identifier: Apache-2.0 */
/* network_kinds.h - the kinds of networks as a table: what each is called in the published layouts,
 * how its configuration is read and written, and which builder declares its parameters.
 *
 * Whoever opens, loads, saves, converts or describes a network goes by its row; no other file lists
 * the kinds again.
 */
#ifndef CN_MODEL_CHECKPOINT_NETWORK_KINDS_H
#define CN_MODEL_CHECKPOINT_NETWORK_KINDS_H

#include "graph/graph.h"
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/model_base.h"

typedef enum cn_net {
    CN_NET_UNET,
    CN_NET_VAE,
    CN_NET_CONTROL, /* a ControlNet, which is part of no base */
    CN_NET_VISION,  /* CLIP's image encoder, neither */
    CN_NET_TEXT,    /* a base's first text encoder, the others behind it: cn_net_text */
    CN_NETS = CN_NET_TEXT + CN_MAX_TEXT_ENCODERS /* also: none of them */
} cn_net;

static inline cn_net cn_net_text(int k)
{
    return (cn_net)(CN_NET_TEXT + k);
}

/* `config` points to the network's struct of config.h. */
typedef struct cn_net_kind {
    const char *name;  /* of its folder in the diffusers layout, and of its parameter sets */
    const char *title; /* in messages */
    const char *library, *class; /* as model_index.json names them */
    const char *weights;         /* its file in that folder */
    const char *tokenizer;       /* the folder of a text encoder's */
    size_t config_offset;        /* of its configuration in a cn_base */
    /* The content of config.json; messages name the key. */
    cn_config_reader *read;
    /* From tensors whose names start with `prefix`. */
    cn_status (*from_shapes)(cn_ctx *ctx, const cn_tensors *t, const char *prefix, cn_layout layout,
                             void *config);
    /* What only the tensors' names tell of a network whose configuration was read; NULL: nothing.
     */
    void (*look)(const cn_tensors *t, const char *prefix, void *config);
    /* NULL when memory is out; json_decref. b: the base it belongs to; unused by a ControlNet. */
    json_t *(*write)(const cn_base *b, const void *config);
    /* Builds it once, at the smallest size, so that every parameter is declared. */
    void (*declare)(cn_graph *g, const void *config);
    /* Widths and depths in a few words. */
    void (*describe)(cn_str *s, const void *config);
    /* What files of other ages call the tensor `name`; false: the same. NULL: always the same. */
    bool (*renamed)(const char *name, cn_layout layout, char other[CN_NAME_MAX]);
} cn_net_kind;

const cn_net_kind *cn_net_kind_of(cn_net net);
bool cn_net_renamed(cn_net net, const char *name, cn_layout layout, char other[CN_NAME_MAX]);
/* Whether bases have such a network. */
bool cn_net_in_base(cn_net net);
/* The configuration of one of the base's networks. */
void *cn_base_config(cn_base *b, cn_net net);
const void *cn_base_config_of(const cn_base *b, cn_net net);
/* The kind of parameter set p by its name; CN_NETS for sets of other networks. */
cn_net cn_params_net(const cn_params *p);
/* An empty parameter set of this kind; *out: cn_params_destroy. */
cn_status cn_net_params(cn_ctx *ctx, cn_net net, cn_params **out) CN_CHECKED;
/* The parameters of a network of this configuration, declared, without values; *out:
 * cn_params_destroy. */
cn_status cn_net_declare(cn_ctx *ctx, cn_net net, const void *config, cn_params **out) CN_CHECKED;

/* The same into p, the set of such a network. */
cn_status cn_net_declare_into(cn_ctx *ctx, cn_net net, const void *config, cn_params *p) CN_CHECKED;

/* Room for the configuration of any kind. */
typedef union cn_net_config {
    cn_unet_config unet;
    cn_controlnet_config control;
    cn_vae_config vae;
    cn_clip_config text;
    cn_vision_config vision;
} cn_net_config;

#endif
