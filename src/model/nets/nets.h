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

/* What the UNet computes from, and a ControlNet, which is a copy of its encoder. A family whose
 * networks take more (SDXL's sizes and pooled text) has it here. */
typedef struct cn_unet_inputs {
    cn_node *x;                    /* [N,h,w,in_channels] */
    cn_node *t;                    /* [N] */
    cn_node *context;              /* [N,L,D] */
    cn_node *added;                /* [N,added_dim] where the network has it (diffuse/added.h) */
    const cn_residuals *residuals; /* the UNet's alone; NULL: none */
} cn_unet_inputs;

/* Noise (or v) prediction [N,h,w,out_channels]. */
cn_node *cn_unet_build(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in);
/* The condition image [N,H,W,3] in [0,1] to hint features [N,h,w,channels[0]]. */
cn_node *cn_controlnet_hint_build(cn_graph *g, const cn_controlnet_config *c, cn_node *condition);
/* The 13 residuals of SD 1.5 (in general 1 + levels*(layers+1) - 1, and the middle). */
void cn_controlnet_build(cn_graph *g, const cn_controlnet_config *c, const cn_unet_inputs *in,
                         cn_node *hint, cn_residuals *out);

/* One of the ControlNets that act on a UNet. */
typedef struct cn_control_unit {
    const cn_controlnet_config *config;
    cn_params *params;
    cn_unet_inputs in; /* of the n samples that it acts on */
    int64_t first;     /* of the UNet's samples, the first of them */
    cn_node *hint;     /* [n,h,w,channels[0]] */
    bool only_mid;     /* its other residuals aren't used; alike in all units */
    int part;          /* of the graph that it is (cn_graph_part); its gates aren't */
    /* Each position of each residual is multiplied by a factor: strength, region, weight of the
     * residual; 0 where the part is off. */
    bool gated;
    cn_node *gate[CN_MAX_RESIDUALS + 1]; /* filled in: inputs [n,h_i,w_i,1], the middle's last */
    int n_gates;
} cn_control_unit;

/* The UNet of parameters `unet` with n units' residuals, added up in their order. Chooses each
 * network's parameters itself. */
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
/* Layers that features never come from: what is left of them may be skipped, all but one. */
int cn_clip_unused_layers(const cn_clip_config *c);

#endif
