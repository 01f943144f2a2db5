/* SPDX-License-Identifier: Apache-2.0 */
/* nets.h - the networks, each written once as a builder over graph.h.
 *
 * Latents are NHWC: x [N,h,w,4] with h = H/8, w = W/8. Context [N,L,D] is the text encoder's
 * output, t [N] F32 the timesteps. Parameters go to the set chosen with cn_graph_use; the caller
 * chooses it before each network. Sources: lllyasviel/ControlNet cldm/cldm.py and ldm/modules,
 * diffusers' UNet2DConditionModel, ControlNetModel and AutoencoderKL.
 */
#ifndef CN_MODEL_NETS_NETS_H
#define CN_MODEL_NETS_NETS_H

#include "graph/graph.h"
#include "model/checkpoint/config.h"

enum { CN_MAX_RESIDUALS = 40 };

/* What a ControlNet hands to the UNet: one residual per encoder output (conv_in first), one for the
 * middle. A NULL entry adds nothing (and costs nothing). */
typedef struct cn_residuals {
    int n;
    cn_node *down[CN_MAX_RESIDUALS];
    cn_node *mid;
    int64_t first; /* of the UNet's samples, the one that theirs begin at */
} cn_residuals;

enum { CN_MAX_FEATURES = CN_MAX_LEVELS, CN_MAX_UNITS = 8 };

/* What a T2I-Adapter gives: features [n,h_i,w_i,C_i], one for each level from the first on. They
 * are added to the encoder's value behind the last layer of a level with attention, behind a
 * level's downsampling where it has none, and a last one to the middle block's; skips have them
 * too. */
typedef struct cn_features {
    int n;
    cn_node *of[CN_MAX_FEATURES];
    int64_t first; /* as cn_residuals' */
} cn_features;

/* Pictures that a drawing takes its looks from ("reference-only" of sd-webui-controlnet): they go
 * through the UNet as samples of their own, and in its self-attentions others see their keys and
 * values beside their own. The first n of the N samples are the references'; each is seen by one of
 * the last n, in their order. */
typedef struct cn_reference {
    int64_t n;
    int64_t
        unconditional; /* of the last n, so many, the first, are guidance's unconditional half */
    float fidelity;    /* of these: the part that doesn't see them, 0 to 1 */
    float weight;      /* part of the UNet's blocks where they are seen, the widest first */
    struct {
        int64_t channels;
        int blocks, met; /* of that width; so many of them were built */
    } widths[CN_MAX_LEVELS];
    int n_widths, blocks;
} cn_reference;

/* Counts the blocks of a UNet that is built next. */
void cn_reference_begin(cn_reference *r, const cn_unet_config *c);
/* The self-attention of queries, keys and values [N,L,C]. */
cn_node *cn_reference_attention(cn_graph *g, cn_reference *r, cn_node *q, cn_node *k, cn_node *v,
                                int heads);

struct cn_control_unit;

/* What the UNet computes from, and a ControlNet, which is a copy of its encoder. A family whose
 * networks take more (SDXL's sizes and pooled text) has it here. */
typedef struct cn_unet_inputs {
    cn_node *x;                    /* [N,h,w,in_channels] */
    cn_node *t;                    /* [N] */
    cn_node *context;              /* [N,L,D] */
    cn_node *added;                /* [N,added_dim] where the network has it (diffuse/added.h) */
    cn_node *types;                /* a ControlNet Union's alone: [N,types * number_dim] */
    const cn_residuals *residuals; /* the UNet's alone, as what follows; NULL: none */
    const cn_features *features;   /* n_features of them */
    int n_features;
    struct cn_control_unit *const *patches; /* n_patches units that change layers' inputs */
    int n_patches;
    cn_reference *reference; /* NULL: none */
} cn_unet_inputs;

/* Noise (or v) prediction [N,h,w,out_channels]. */
cn_node *cn_unet_build(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in);
/* The condition image [N,H,W,3] in [0,1] to hint features [N,h,w,channels[0]]. */
cn_node *cn_controlnet_hint_build(cn_graph *g, const cn_controlnet_config *c, cn_node *condition);
/* The 13 residuals of SD 1.5 (in general 1 + levels*(layers+1) - 1, and the middle). */
void cn_controlnet_build(cn_graph *g, const cn_controlnet_config *c, const cn_unet_inputs *in,
                         cn_node *hint, cn_residuals *out);

enum { CN_MAX_CONDITIONS = 8 };

/* What is given of a control network's condition: the latents' size, how many pictures; of a Union
 * its conditions, their types and, of several, how strongly each acts; of an IP-Adapter how many
 * images, and rows of features that the image encoder gives of each. */
typedef struct cn_condition_spec {
    int64_t h, w;
    int64_t batch; /* pictures; 0: one */
    int64_t images, rows;
    int n;
    int types[CN_MAX_CONDITIONS];
    float scales[CN_MAX_CONDITIONS];
    bool among_conditions; /* they attend to each other, as in ComfyUI, else along the batch */
} cn_condition_spec;

/* A graph from a condition's images to what the network computes of them alone, once a picture. */
typedef struct cn_hints {
    cn_node *image[CN_MAX_CONDITIONS]; /* n_images inputs [batch,h_i,w_i,C_i] */
    int n_images;
    cn_node **out; /* n of them, room for cn_control_kind.count */
    int n;
} cn_hints;

/* What all units of a UNet give. */
typedef struct cn_steering {
    cn_residuals residuals;
    bool has_residuals;
    cn_features features[CN_MAX_UNITS];
    int n_features;
    struct cn_control_unit *patches[CN_MAX_UNITS];
    int n_patches;
} cn_steering;

/* A kind of networks that steer a UNet: ControlNet, T2I-Adapter, ControlNet-LLLite. `config` is the
 * kind's struct of config.h. */
typedef struct cn_control_kind {
    const char *network; /* the name of its parameter sets */
    const char *title;
    int (*count)(const void *config);  /* of the hints */
    int (*places)(const void *config); /* where it acts, each by a factor of its own */
    void (*hints)(cn_graph *g, const void *config, const cn_condition_spec *s, cn_hints *out);
    /* A picture [H,W,3] in [0,1] as the images have it; NULL: as it is. */
    void (*fill)(const void *config, const float *rgb, int64_t H, int64_t W, float *to);
    /* The unit's part of the UNet's graph. */
    void (*build)(cn_graph *g, struct cn_control_unit *u, cn_steering *to);
    /* Of units among the patches: the input x [N,L,C] of the UNet's layer `name` under the current
     * scope, changed; NULL: not. */
    cn_node *(*patch)(cn_graph *g, struct cn_control_unit *u, const char *name, cn_node *x);
    /* What queries q give besides y, that of the cross-attention of the current scope; NULL:
     * nothing. The condition is then an image prompt: what the image encoder makes of it is the
     * image of the hints, and guidance's unconditional half has hints of its own. */
    cn_node *(*attend)(cn_graph *g, struct cn_control_unit *u, cn_node *q, int heads, cn_node *y);
    bool residuals; /* it gives residuals, one for each skip and the middle */
    bool whole;     /* acts on all samples, guidance's unconditional half by factors of 0 */
    bool small;     /* so are its weights and its share of the time: they are kept in F32 */
} cn_control_kind;

extern const cn_control_kind cn_control_kind_net, cn_control_kind_adapter, cn_control_kind_lllite,
    cn_control_kind_ip;

/* One of the networks that act on a UNet. */
typedef struct cn_control_unit {
    const cn_control_kind *kind;
    const void *config;
    cn_params *params;
    cn_unet_inputs in;     /* of the n samples that it acts on */
    int64_t first;         /* of the UNet's samples, the first of them */
    cn_node *const *hints; /* of the n samples: [n,...], as cn_hints.out */
    bool only_mid;         /* its other residuals aren't used; alike in all units */
    int part;              /* of the graph that it is (cn_graph_part); its gates aren't */
    /* Each position of each residual or feature is multiplied by a factor: strength, region,
     * weight; 0 where the part is off. */
    bool gated;
    cn_node *gate[CN_MAX_RESIDUALS + 1]; /* filled in: inputs [n,h_i,w_i,1], the middle's last */
    int n_gates;
} cn_control_unit;

/* y times a factor for each position, which is a new input of the unit. */
cn_node *cn_control_gate(cn_graph *g, cn_control_unit *u, cn_node *y);

/* The width of the UNet's cross-attention layer i in diffusers' order (encoder, decoder, middle);
 * 0 behind the last. */
int64_t cn_ip_layer_width(const cn_unet_config *c, int i);
/* What the image encoder gives of images, [n,rows,features], to their tokens [n,tokens,D]. */
cn_node *cn_ip_tokens_build(cn_graph *g, const cn_ip_config *c, cn_node *features);
/* A picture [N,S,S,3], normalised, to what the image encoder gives: its last layer but one,
 * [N,positions,hidden], and where projected isn't NULL the projected output [N,1,projection]. */
cn_node *cn_vision_build(cn_graph *g, const cn_vision_config *c, cn_node *image,
                         cn_node **projected);
/* A picture [N,H,W,3] in [-1,1] to what each module makes of it, c->n features [N,h_i,w_i,C_i]. */
void cn_lllite_embed_build(cn_graph *g, const cn_lllite_config *c, cn_node *image, cn_node **out);
/* A ControlNet Union's conditions [N,H,W,3], s->n of them, to hint features [N,h,w,channels[0]]. */
cn_node *cn_union_hint_build(cn_graph *g, const cn_controlnet_config *c, const cn_condition_spec *s,
                             cn_node *const *conditions);
/* Names of types of conditions; NULL at the end. A type may have several. */
const char *cn_union_type_name(int i);
/* The type that is called so; the one that an annotator's kind makes, which begins with its name.
 * -1: none of the `known` first. */
int cn_union_type(const char *name, int known);
int cn_union_type_of_kind(const char *kind, int known);
/* The names of the known types, "openpose, depth, ...". */
void cn_union_types_list(int known, cn_str *out);
/* A picture whose squares of shrink pixels a side became channels, [N,h,w,...], to its levels'
 * features. */
void cn_adapter_build(cn_graph *g, const cn_adapter_config *c, cn_node *image,
                      cn_node *out[CN_MAX_FEATURES]);
/* The UNet of parameters `unet` with what n units give, residuals added up in their order. Chooses
 * each network's parameters itself. */
cn_node *cn_controlled_unet_build(cn_graph *g, const cn_unet_config *c, cn_params *unet,
                                  const cn_unet_inputs *in, cn_control_unit *units, int n);
/* Image [N,H,W,3] in [-1,1] to moments [N,h,w,2*latent] (mean, log variance), unscaled. */
cn_node *cn_vae_encode_build(cn_graph *g, const cn_vae_config *c, cn_node *image);
/* Latent [N,h,w,latent], already divided by the scaling factor, to image [N,H,W,3] about [-1,1]. */
cn_node *cn_vae_decode_build(cn_graph *g, const cn_vae_config *c, cn_node *z);
/* Their parts: what works at the picture's size, and what at the latents', [N,h,w,C] between
 * them. */
cn_node *cn_vae_down_build(cn_graph *g, const cn_vae_config *c, cn_node *image);
cn_node *cn_vae_encode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *h);
cn_node *cn_vae_decode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *z);
cn_node *cn_vae_up_build(cn_graph *g, const cn_vae_config *c, cn_node *h);
/* ids [N,L] I32 to the features [N,L,hidden]: after the final layer norm, or before the last layer
 * and without it (c->penultimate). skip: last layers left out beyond that (0 none). */
cn_node *cn_clip_build(cn_graph *g, const cn_clip_config *c, cn_node *ids, int skip);
/* Its two halves: ids to their rows of the token table, [N,L,hidden], which may then be replaced
 * (textual inversion); rows to features. */
cn_node *cn_clip_embed_build(cn_graph *g, const cn_clip_config *c, cn_node *ids);
cn_node *cn_clip_layers_build(cn_graph *g, const cn_clip_config *c, cn_node *rows, int skip);
/* The same with the pooled output [N,c->projection], of all layers at the end token, which is where
 * `end` [N,L,1] is 1 (elsewhere 0). Has no gradient. */
cn_node *cn_clip_pooled_build(cn_graph *g, const cn_clip_config *c, cn_node *rows, int skip,
                              cn_node *end, cn_node **pooled);

#endif
