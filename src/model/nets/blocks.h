/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.h - the parts that the networks of nets.h are made of.
 *
 * Every function takes the scope `name` ("single-file|diffusers") its parameters stand under. All
 * activations are NHWC; C is the number of output channels, `groups` the groups of every group
 * norm. Shapes that don't fit poison the graph (graph.h).
 */
#ifndef CN_MODEL_NETS_BLOCKS_H
#define CN_MODEL_NETS_BLOCKS_H

#include "model/nets/nets.h"

/* The embedded timesteps after their last SiLU, [N,4*channels[0]]: every residual block starts from
 * them, so the SiLU that LDM writes into each block is computed once. With guidance_dim an input
 * [N,guidance_dim] of the guidance scale's embedding is added, the tap "time_embedding.guidance";
 * with added_dim the embedding of in->added.
 */
cn_node *cn_time_embed(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in);
/* x [N,H,W,I], emb from cn_time_embed -> [N,H,W,C]. */
cn_node *cn_resblock(cn_graph *g, const char *name, cn_node *x, cn_node *emb, int64_t C,
                     int groups);
/* x [N,H,W,C] attends to itself, then to in->context, in each of the level's transformer blocks; ->
 * x's shape. */
cn_node *cn_spatial_transformer(cn_graph *g, const char *name, const cn_unet_config *c, int level,
                                cn_node *x, const cn_unet_inputs *in);
/* [N,H,W,C] -> [N,H/2,W/2,C], padded on all sides. */
cn_node *cn_downsample(cn_graph *g, const char *name, cn_node *x);
/* [N,H,W,C] -> [N,2H,2W,C]: nearest, then a convolution. */
cn_node *cn_upsample(cn_graph *g, const char *name, cn_node *x, int64_t H, int64_t W);

/* The VAE's: no timestep, epsilon 1e-6, one head; downsampling pads right and bottom only. */
cn_node *cn_vae_resblock(cn_graph *g, const char *name, cn_node *x, int64_t C, int groups);
cn_node *cn_vae_attention(cn_graph *g, const char *name, cn_node *x, int groups);
cn_node *cn_vae_downsample(cn_graph *g, const char *name, cn_node *x);

/* --- taesd.c: what the parts of vae.c are where c->tiny ----------------------------------------
 */

cn_node *cn_taesd_down_build(cn_graph *g, const cn_vae_config *c, cn_node *image);
cn_node *cn_taesd_encode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *h);
cn_node *cn_taesd_decode_middle_build(cn_graph *g, const cn_vae_config *c, cn_node *z);
cn_node *cn_taesd_up_build(cn_graph *g, const cn_vae_config *c, cn_node *h);

/* --- clip.c: what text and image encoders share ------------------------------------------------
 */

/* Layer i of x [N,L,hidden]; causal: a token attends to those before it alone. */
cn_node *cn_clip_layer(cn_graph *g, const cn_clip_config *c, int i, cn_node *x, bool causal);

/* --- unet.c: the encoder, which the UNet and the ControlNet share ----------------------------- */

typedef struct cn_encoder {
    int n;                          /* levels * (layers_per_block + 1) */
    cn_node *out[CN_MAX_RESIDUALS]; /* conv_in first, then every block and downsampling */
    cn_node *mid;                   /* after the middle block */
    cn_node *emb;                   /* cn_time_embed's */
} cn_encoder;

/* hint [N,h,w,channels[0]] is added after the first convolution; NULL in the UNet. False when the
 * configuration or x's shape is impossible: the graph is poisoned and *e not written. */
bool cn_encoder_build(cn_graph *g, const cn_unet_config *c, const cn_unet_inputs *in, cn_node *hint,
                      cn_encoder *e);

#endif
