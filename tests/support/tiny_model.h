/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_model.h - writes the small random model of reference/make_pipelines.py from its manifests.
 *
 * Weights follow from their names (cn_seed_tensor), rounded to F16 as the published folder holds
 * them:
 *   OUT/model               diffusers folder, OUT/model.safetensors the same as one file
 *   OUT/controlnet_a, _b    ControlNet folders, keys salted with "a." and "b."
 * The tokenizer has CLIP's ids for the words whose merges are in MERGES (a JSON list of [rank,
 * "left right"]); every other id is a filler, since CLIP's own vocabulary is not part of this
 * repository.
 */
#ifndef TEST_TINY_MODEL_H
#define TEST_TINY_MODEL_H

#include "base/base.h"

#include <jansson.h>

/* core: the folder with the manifests. */
cn_status tiny_model_write(cn_ctx *ctx, const char *core, const char *merges,
                           const char *out) CN_CHECKED;
/* The same with a UNet whose configuration has another in_channels (inpainting: 9) or a
 * time_cond_proj_dim; NULL: the manifest's. */
cn_status tiny_model_write_unet(cn_ctx *ctx, const char *core, const char *merges,
                                const json_t *unet, const char *out) CN_CHECKED;
/* Removes a folder and what is in it. */
void tiny_model_remove(const char *dir);

#endif
