/* SPDX-License-Identifier: Apache-2.0 */
/* base_parts.h - the networks of an opened base or ControlNet one by one: where a file has their
 * parameters, and writing them. Shared by what loads, saves, converts and inspects.
 */
#ifndef CN_MODEL_CHECKPOINT_BASE_PARTS_H
#define CN_MODEL_CHECKPOINT_BASE_PARTS_H

#include "model/checkpoint/source.h"
#include "model/checkpoint/weights.h"

/* A ControlNet file's. */
cn_source cn_control_source(const cn_control_file *c);
/* The parts of one network of a base: opens the folder's file (*opened, to be closed by the caller)
 * or takes the single file's (*opened NULL). path holds the name for messages and must outlive
 * *out. */
cn_status cn_base_source(cn_ctx *ctx, const cn_base *b, cn_net net, char path[CN_PATH_BYTES],
                         cn_tensors **opened, cn_source *out) CN_CHECKED;

/* --- parameters to a file --------------------------------------------------------------------- */

typedef struct cn_part {
    const cn_params *params;
    const char *prefix; /* before each name */
} cn_part;

enum { CN_MAX_MARKS = 2 };

/* What a file says beside its parameters. */
typedef struct cn_remarks {
    const char *const *metadata;     /* as cn_safetensors_write's; NULL: the format alone */
    const char *const *more;         /* further ones, likewise; NULL */
    const char *marks[CN_MAX_MARKS]; /* names of empty tensors; NULL: none */
} cn_remarks;

/* The values that a file is to have, and their type there: fill(user, i, out) gives parameter i of
 * all that is written, the sets taken together. */
typedef struct cn_values {
    cn_dtype dtype; /* F32, F16 or BF16 */
    cn_tensor_fill fill;
    void *user;
} cn_values;

/* Writes the sets one behind the other into one safetensors file in `layout`'s names and shapes.
 * remarks NULL: the format alone. */
cn_status cn_parts_write(cn_ctx *ctx, const char *path, const cn_part *parts, int n_parts,
                         cn_layout layout, const cn_remarks *remarks,
                         const cn_values *values) CN_CHECKED;
/* p's values, without a prefix, in one safetensors file. */
cn_status cn_params_write(cn_ctx *ctx, cn_backend *be, const cn_params *p, cn_layout layout,
                          cn_dtype dtype, const cn_remarks *remarks, const char *path) CN_CHECKED;
/* A ControlNet's single file, which says its configuration; in the original names, a Union's in
 * diffusers', the only ones it has. more: further metadata (cn_remarks). */
cn_status cn_control_single_write(cn_ctx *ctx, const char *path, const cn_controlnet_config *c,
                                  const cn_params *p, const char *const *more,
                                  const cn_values *values) CN_CHECKED;
/* The same of a base's networks, in the order of its family. */
cn_status cn_base_single_write(cn_ctx *ctx, const char *path, const cn_base *b,
                               const cn_params *const *networks, const char *const *more,
                               const cn_values *values) CN_CHECKED;
/* dtype must be F32, F16 or BF16. */
cn_status cn_save_dtype_check(cn_ctx *ctx, cn_dtype dtype) CN_CHECKED;
/* Writes json (taken; NULL counts as out of memory) as dir/name. */
cn_status cn_config_save(cn_ctx *ctx, const char *dir, const char *name, json_t *json) CN_CHECKED;
/* dir/name as a folder, made. */
cn_status cn_subdir(cn_ctx *ctx, const char *dir, const char *name,
                    char out[CN_PATH_BYTES]) CN_CHECKED;
/* What stands in the config.json of one of a base's networks; NULL when memory is out. */
json_t *cn_base_network_json(const cn_base *b, cn_net net);
/* One network of a base, weights and config.json, as dir/NETWORK. */
cn_status cn_base_network_write(cn_ctx *ctx, const cn_base *c, const cn_params *p,
                                const cn_values *values, const char *dir) CN_CHECKED;
/* Scheduler, tokenizers (NULL: none) and model_index.json. */
cn_status cn_base_write_configs(cn_ctx *ctx, const cn_base *c, const char *tokenizer_dir,
                                const char *dir) CN_CHECKED;
/* The tokenizer's files of folder `from` to dir/NAME; or CLIP's vocabulary file by itself. */
cn_status cn_tokenizer_copy(cn_ctx *ctx, const char *from, const char *dir, const char *name,
                            int64_t max_length) CN_CHECKED;
#endif
