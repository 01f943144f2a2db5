/* SPDX-License-Identifier: Apache-2.0 */
/* control_parts.h - what control_file.c asks of the kinds of networks that steer a UNet beside
 * ControlNets: whether they fit a base, and a Control-LoRA's weights. */
#ifndef CN_MODEL_CHECKPOINT_CONTROL_PARTS_H
#define CN_MODEL_CHECKPOINT_CONTROL_PARTS_H

#include "model/checkpoint/source.h"
#include "model/nets/nets.h"

/* CN_EMISMATCH with one line where the features' widths, or the size of the first, aren't those of
 * the base's levels. */
cn_status cn_adapter_fits(cn_ctx *ctx, const cn_adapter_config *c,
                          const cn_unet_config *base) CN_CHECKED;
/* A new full adapter for this base, of RGB pictures. */
cn_status cn_adapter_config_make(cn_ctx *ctx, const cn_unet_config *base,
                                 cn_adapter_config *out) CN_CHECKED;
/* The same where a module stands before no layer of the base, or before one of another width. */
cn_status cn_lllite_fits(cn_ctx *ctx, const cn_lllite_config *c,
                         const cn_unet_config *base) CN_CHECKED;
/* A new one for this base with kohya's modules: before queries, keys and values of self-attention
 * and queries of cross-attention, in encoder and middle block. emb: of what a module makes of the
 * condition; hidden: of its own layers. *out: cn_free. */
cn_status cn_lllite_config_make(cn_ctx *ctx, const cn_unet_config *base, int64_t emb,
                                int64_t hidden, cn_lllite_config **out) CN_CHECKED;
/* The same where an IP-Adapter's keys aren't those of the base's cross-attention layers, one by
 * one. */
cn_status cn_ip_fits(cn_ctx *ctx, const cn_tensors *t, const cn_ip_config *c,
                     const cn_unet_config *base) CN_CHECKED;
/* CN_EMISMATCH where a parameter of this configuration, the base's encoder, is in a Control-LoRA's
 * file neither whole nor as two matrices of its shape. */
cn_status cn_low_rank_fits(cn_ctx *ctx, const cn_source *s,
                           const cn_controlnet_config *c) CN_CHECKED;
/* Every parameter of p for which s has NAME.up and NAME.down becomes one that loading makes of
 * them and of s->base's weight. */
cn_status cn_low_rank_derive(cn_ctx *ctx, const cn_source *s, cn_params *p) CN_CHECKED;

#endif
