/* SPDX-License-Identifier: Apache-2.0 */
/* vision_file.h - CLIP's image encoder, by which IP-Adapters see image prompts. */
#ifndef CN_MODEL_CHECKPOINT_VISION_FILE_H
#define CN_MODEL_CHECKPOINT_VISION_FILE_H

#include "model/checkpoint/ranges.h"
#include "model/checkpoint/source.h"

typedef struct cn_vision_file {
    char path[CN_PATH_BYTES];
    cn_tensors *file;
    cn_vision_config config;
    cn_ranges *ranges;
} cn_vision_file;

/* path: transformers' folder (config.json and weights; preprocessor_config.json where it says other
 * means than CLIP's), a folder that has this one as image_encoder/, or the weights' file, beside
 * which a config.json counts. *out: cn_vision_file_close. */
cn_status cn_vision_file_open(cn_ctx *ctx, const char *path, cn_vision_file **out) CN_CHECKED;
void cn_vision_file_close(cn_vision_file *v);
/* The type that most of its values have in the file. */
cn_dtype cn_vision_file_dtype(const cn_vision_file *v);
/* As cn_base_keep_ranges. */
cn_status cn_vision_file_keep_ranges(cn_ctx *ctx, const cn_vision_file *v, cn_params *p) CN_CHECKED;
/* Fills every declared parameter of p. */
cn_status cn_vision_file_load(cn_ctx *ctx, const cn_vision_file *v, cn_backend *be,
                              cn_params *p) CN_CHECKED;

#endif
