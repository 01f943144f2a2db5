/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_base.h - a base model of a few thousand weights with random values, and scenes to train
 * on. */
#ifndef TEST_TINY_BASE_H
#define TEST_TINY_BASE_H

#include "base/base.h"

enum { TINY_PX = 16, TINY_POOLED = 8 }; /* pictures; latents are 8 x 8 */
enum { TINY_EIGHT_PX = 64 };            /* the same of a VAE that makes 8 pixels a side one */

/* Writes a diffusers folder (unet, vae, text_encoder, tokenizer, scheduler). width: channels of the
 * UNet's first level, a multiple of 8. */
cn_status tiny_base_write(cn_ctx *ctx, const char *dir, int64_t width) CN_CHECKED;
/* The same of Stable Diffusion XL's family, with text_encoder_2 and tokenizer_2; its pooled output
 * is TINY_POOLED wide. */
cn_status tiny_sdxl_write(cn_ctx *ctx, const char *dir) CN_CHECKED;
/* Either of them with a VAE of 8 pixels a side to one, as those that are published. */
cn_status tiny_eight_write(cn_ctx *ctx, const char *dir, bool sdxl) CN_CHECKED;
/* Its refiner, with text_encoder_2 and tokenizer_2 alone. */
cn_status tiny_refiner_write(cn_ctx *ctx, const char *dir) CN_CHECKED;
/* n scenes of TINY_PX in Fill50K's layout. */
cn_status tiny_scenes_write(cn_ctx *ctx, const char *dir, int64_t n) CN_CHECKED;
/* n pairs in Fill50K's layout whose pictures have, in turn, 16 x 16, 30 x 12 and 9 x 30 px. A
 * condition is the brightness of its picture. */
cn_status tiny_mixed_write(cn_ctx *ctx, const char *dir, int64_t n) CN_CHECKED;
/* A new empty folder; false when there can't be one. Removed with all in it by tiny_dir_remove. */
bool tiny_dir_make(char path[64]);
void tiny_dir_remove(const char *path);

#endif
