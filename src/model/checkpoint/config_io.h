/* SPDX-License-Identifier: Apache-2.0 */
/* config_io.h - configurations between config.json, tensors' shapes and the structs of config.h.
 *
 * Readers refuse, by name, whatever the networks here don't do; what they accept has been checked,
 * so a builder can rely on it (levels, widths divisible by groups and heads, residual count).
 */
#ifndef CN_MODEL_CHECKPOINT_CONFIG_IO_H
#define CN_MODEL_CHECKPOINT_CONFIG_IO_H

#include "io/json.h"
#include "io/tensors.h"
#include "model/checkpoint/config.h"

/* --- config.c: the content of config.json. Messages name the key; the caller adds the path. --- */

/* What these are behind a pointer: *out gets what the JSON says. */
typedef cn_status cn_config_reader(cn_ctx *ctx, const json_t *json, void *out);

cn_status cn_unet_config_read(cn_ctx *ctx, const json_t *json, cn_unet_config *out) CN_CHECKED;
cn_status cn_controlnet_config_read(cn_ctx *ctx, const json_t *json,
                                    cn_controlnet_config *out) CN_CHECKED;
/* "adapter_type", by form. */
extern const char *const cn_adapter_form_words[CN_ADAPTER_FORMS];
cn_status cn_adapter_config_read(cn_ctx *ctx, const json_t *json,
                                 cn_adapter_config *out) CN_CHECKED;
cn_status cn_vae_config_read(cn_ctx *ctx, const json_t *json, cn_vae_config *out) CN_CHECKED;
cn_status cn_clip_config_read(cn_ctx *ctx, const json_t *json, cn_clip_config *out) CN_CHECKED;
cn_status cn_vision_config_read(cn_ctx *ctx, const json_t *json, cn_vision_config *out) CN_CHECKED;
/* What preprocessor_config.json says of the pictures that the encoder takes, over *c. */
cn_status cn_vision_preprocessor_read(cn_ctx *ctx, const json_t *json,
                                      cn_vision_config *c) CN_CHECKED;
cn_status cn_schedule_config_read(cn_ctx *ctx, const json_t *json,
                                  cn_schedule_config *out) CN_CHECKED;

/* Whether any layer attends to the context; else its width may be unknown, 0. */
bool cn_unet_attends(const cn_unet_config *c);
/* CN_EFORMAT with the first thing wrong. */
cn_status cn_unet_config_check(cn_ctx *ctx, const cn_unet_config *c) CN_CHECKED;
cn_status cn_controlnet_config_check(cn_ctx *ctx, const cn_controlnet_config *c) CN_CHECKED;
cn_status cn_vae_config_check(cn_ctx *ctx, const cn_vae_config *c) CN_CHECKED;
cn_status cn_clip_config_check(cn_ctx *ctx, const cn_clip_config *c) CN_CHECKED;

/* Stable Diffusion 1.x's schedule, which most single files don't state. */
void cn_schedule_config_default(cn_schedule_config *out);

/* --- config_shapes.c: from tensors whose names start with `prefix` ("" for none) -------------- */

typedef enum cn_layout { CN_LAYOUT_DIFFUSERS, CN_LAYOUT_LDM } cn_layout;

/* Not in the shapes, hence assumed: 32 groups (of a ControlNet the largest power of two up to it
 * that its widths allow: it takes them over from its base, see cn_control_join); 8 heads (a Union's
 * transformer has 8 too), or heads
 * of width 64 with linear projections; for CLIP heads of width 64, or 4 heads below that (no
 * published encoder is narrower); quick GELU; a sample size of 64; the scaling factor 0.18215.
 * Unknown (0) stay the context's width where nothing attends to it, and added_number_dim. */
cn_status cn_unet_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                     cn_layout layout, cn_unet_config *out) CN_CHECKED;
cn_status cn_controlnet_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                           cn_layout layout, cn_controlnet_config *out) CN_CHECKED;
/* The hint network alone, and a Union's own parts, into *c. */
cn_status cn_controlnet_hint_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                         cn_layout layout, cn_controlnet_config *c) CN_CHECKED;
/* What isn't in the shapes: two residual blocks at each level of a full T2I-Adapter. layout LDM:
 * TencentARC's names. */
cn_status cn_adapter_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_layout layout,
                                        cn_adapter_config *out) CN_CHECKED;
/* Single files as tencent-ailab publishes them. CN_EMISMATCH for those that take faces' features
 * (FaceID). */
cn_status cn_ip_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_ip_config *out) CN_CHECKED;
/* transformers' names. Not in the shapes: 16 heads of the published widths, from 1024 on, below
 * that heads of width 64, or 4; the exact GELU of encoders of 32 layers and more (OpenCLIP's ViT-H
 * and bigG), quick GELU else; CLIP's mean and deviation of pictures. */
cn_status cn_vision_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                       cn_vision_config *out) CN_CHECKED;
/* *out: cn_free. */
cn_status cn_lllite_config_from_shapes(cn_ctx *ctx, const cn_tensors *t,
                                       cn_lllite_config **out) CN_CHECKED;
cn_status cn_vae_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                    cn_layout layout, cn_vae_config *out) CN_CHECKED;
/* TAESD's, of either half or both, all of whose widths but the latents' are known. */
cn_status cn_taesd_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_layout layout,
                                      cn_vae_config *out) CN_CHECKED;
/* Names with or without "text_model." behind the prefix. */
cn_status cn_clip_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                     cn_clip_config *out) CN_CHECKED;
/* OpenCLIP's names. The exact GELU is assumed. All layers count that the file has
 * (cn_family_settle). */
cn_status cn_open_clip_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, const char *prefix,
                                          cn_clip_config *out) CN_CHECKED;

/* --- config_write.c: what diffusers and transformers read. NULL when memory is out; json_decref.
 */

json_t *cn_unet_config_json(const cn_unet_config *c);
json_t *cn_controlnet_config_json(const cn_controlnet_config *c);
json_t *cn_adapter_config_json(const cn_adapter_config *c);
json_t *cn_vae_config_json(const cn_vae_config *c, int64_t sample_size_px);
json_t *cn_clip_config_json(const cn_clip_config *c);
json_t *cn_schedule_config_json(const cn_schedule_config *c);

#endif
