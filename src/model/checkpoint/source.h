/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - what a file of tensors holds, and where in it a network's parameters are.
 *
 * Shared by weights.c, control.c, inspect.c and convert.c, and by the annotators, whose networks
 * load the same way.
 */
#ifndef CN_MODEL_CHECKPOINT_SOURCE_H
#define CN_MODEL_CHECKPOINT_SOURCE_H

#include "model/checkpoint/config_io.h"
#include "model/checkpoint/weights.h"

#define CN_PREFIX_UNET    "model.diffusion_model."
#define CN_PREFIX_VAE     "first_stage_model."
#define CN_PREFIX_TEXT    "cond_stage_model.transformer."
#define CN_PREFIX_OPEN    "cond_stage_model.model." /* OpenCLIP's text encoder, SD 2.x */
#define CN_PREFIX_CONTROL "control_model."

/* A safetensors file's metadata: what the UNet predicts, "epsilon" or "v" (Stability AI's
 * ModelSpec). */
#define CN_META_PREDICTION "modelspec.prediction_type"
/* What this program's single files say of their networks, JSON text: for "unet", "vae",
 * "text_encoder" and "controlnet" what stands in config.json of a folder, for "scheduler" in
 * scheduler_config.json. Shapes tell neither the numbers of heads and groups nor the noise
 * schedule. Other programs pass over it. */
#define CN_META_CONFIG "controlnet_c.config"
/* Empty tensors by which other programs' files, and for their sake ours, say that the UNet predicts
 * v and that the last timestep is noise alone. */
#define CN_MARK_V        "v_pred"
#define CN_MARK_ZERO_SNR "ztsnr"
/* SD 2.x with v prediction was trained at 768 px, with the noise at 512 px. */
enum { CN_V_SAMPLE_SIZE = 96 };

/* --- content ---------------------------------------------------------------------------------- */

typedef enum cn_content {
    CN_HOLDS_UNKNOWN,
    CN_HOLDS_BASE,  /* single-file Stable Diffusion */
    CN_HOLDS_WHOLE, /* the same with a ControlNet */
    CN_HOLDS_CONTROL_DIFFUSERS,
    CN_HOLDS_CONTROL,
    CN_HOLDS_CONTROL_PREFIXED,
    CN_HOLDS_CONTROL_DIFFERENCE,
    CN_HOLDS_UNET_DIFFUSERS,
    CN_HOLDS_UNET,
    CN_HOLDS_VAE_DIFFUSERS,
    CN_HOLDS_VAE,
    CN_HOLDS_TEXT,
    CN_HOLDS_LORA,
    CN_HOLDS_LLLITE,
    CN_HOLDS_ADAPTER,
    CN_HOLDS_EMBEDDING,
    CN_HOLDS_SDXL,
    CN_HOLDS_NOT_SD
} cn_content;

cn_content cn_content_of(const cn_tensors *t);
/* "a LoRA", for messages. */
const char *cn_content_name(cn_content c);
bool cn_tensors_have_prefix(const cn_tensors *t, const char *prefix);
/* What stands before the text encoder's names in a single file. */
const char *cn_text_prefix(const cn_clip_config *c);

/* --- files ------------------------------------------------------------------------------------ */

enum { CN_PATH_BYTES = 4096 };

/* Opens the weights in a diffusers or transformers network folder: safetensors before pickles, one
 * file or several with an index. path gets the file's name (the index's for several). */
cn_status cn_weights_open(cn_ctx *ctx, const char *dir, char path[CN_PATH_BYTES],
                          cn_tensors **out) CN_CHECKED;
/* dir/name as JSON; *out: json_decref. */
cn_status cn_config_load(cn_ctx *ctx, const char *dir, const char *name, json_t **out) CN_CHECKED;
bool cn_file_in(const char *dir, const char *name);

/* --- parameters in a file --------------------------------------------------------------------- */

typedef struct cn_source {
    const cn_tensors *file;
    const char *path; /* for messages */
    const char *prefix;
    cn_layout layout;
    const cn_lora_set *loras; /* merged by cn_source_load; NULL: none */
} cn_source;

/* Where one parameter's values are: a tensor, or the part-th of `parts` equal parts of it. */
typedef struct cn_place {
    const cn_tensor_info *tensor;
    int part, parts;
} cn_place;

/* "NAME[i:n]" (graph.h) to the length of NAME, i and n; a plain name is part 0 of 1. */
size_t cn_name_part(const char *name, int *part, int *parts);
/* Parameter q of the network (cn_params_network) under any of its published names; tensor NULL:
 * none. */
cn_place cn_source_find(const cn_source *s, const char *network, const cn_param *q);
/* Whether the place's values have q's shape, up to trailing 1s. */
bool cn_place_fits(const cn_place *at, const cn_param *q);
/* The type that most of the values have, of F32, F16 and BF16. */
cn_dtype cn_source_dtype(const cn_source *s);
/* One place per parameter, shapes checked (equal up to trailing 1s); *out: cn_free. Missing and
 * misshapen tensors are CN_EMISMATCH: the first three by name, and how many more. */
cn_status cn_source_resolve(cn_ctx *ctx, const cn_source *s, const cn_params *p,
                            cn_place **out) CN_CHECKED;
/* The place's values as floats, row-major. */
cn_status cn_place_read(cn_ctx *ctx, const cn_source *s, const cn_place *at, float *out) CN_CHECKED;
cn_status cn_source_load(cn_ctx *ctx, const cn_source *s, cn_backend *be, cn_params *p) CN_CHECKED;

/* A ControlNet file's. */
cn_source cn_control_source(const cn_control_file *c);
/* The parts of one network of a base: opens the folder's file (*opened, to be closed by the caller)
 * or takes the single file's (*opened NULL). path holds the name for messages and must outlive
 * *out. */
cn_status cn_base_source(cn_ctx *ctx, const cn_base *b, const char *network,
                         char path[CN_PATH_BYTES], cn_tensors **opened, cn_source *out) CN_CHECKED;

/* The parameters of a base's network, or of a ControlNet ("controlnet", else c is NULL): declared,
 * without values. *out: cn_params_destroy. */
cn_status cn_network_declare(cn_ctx *ctx, const cn_base *b, const cn_controlnet_config *c,
                             const char *network, cn_params **out) CN_CHECKED;

/* --- parameters to a file --------------------------------------------------------------------- */

typedef struct cn_part {
    const cn_params *params;
    const char *prefix; /* before each name */
} cn_part;

enum { CN_MAX_MARKS = 2 };

/* What a file says beside its parameters. */
typedef struct cn_remarks {
    const char *const *metadata;     /* as cn_safetensors_write's */
    const char *marks[CN_MAX_MARKS]; /* names of empty tensors; NULL: none */
} cn_remarks;

/* Writes the sets one behind the other into one safetensors file in `layout`'s names and shapes;
 * fill(user, i, out) gives parameter i of the sets taken together. remarks NULL: the format
 * alone. */
cn_status cn_parts_write(cn_ctx *ctx, const char *path, const cn_part *parts, int n_parts,
                         cn_layout layout, cn_dtype dtype, const cn_remarks *remarks,
                         cn_tensor_fill fill, void *user) CN_CHECKED;
/* A ControlNet's single file, which says its configuration; fill gives its parameters. */
cn_status cn_control_single_write(cn_ctx *ctx, const char *path, const cn_controlnet_config *c,
                                  const cn_params *p, cn_dtype dtype, cn_tensor_fill fill,
                                  void *user) CN_CHECKED;
/* The same of a base's three networks. */
cn_status cn_base_single_write(cn_ctx *ctx, const char *path, const cn_base *b,
                               const cn_params *const *networks, cn_dtype dtype,
                               cn_tensor_fill fill, void *user) CN_CHECKED;
/* What a file says under CN_META_CONFIG, *out NULL where it says nothing; json_decref. */
cn_status cn_said_config(cn_ctx *ctx, const cn_tensors *t, json_t **out) CN_CHECKED;
/* dtype must be F32, F16 or BF16. */
cn_status cn_save_dtype_check(cn_ctx *ctx, cn_dtype dtype) CN_CHECKED;
/* Writes json (taken; NULL counts as out of memory) as dir/name. */
cn_status cn_config_save(cn_ctx *ctx, const char *dir, const char *name, json_t *json) CN_CHECKED;
/* dir/name as a folder, made. */
cn_status cn_subdir(cn_ctx *ctx, const char *dir, const char *name,
                    char out[CN_PATH_BYTES]) CN_CHECKED;
/* What stands in the config.json of one of a base's networks; NULL when memory is out. */
json_t *cn_base_network_json(const cn_base *b, const char *network);
/* One network of a base, weights and config.json, as dir/NETWORK. */
cn_status cn_base_network_write(cn_ctx *ctx, const cn_base *c, const cn_params *p, cn_dtype dtype,
                                cn_tensor_fill fill, void *user, const char *dir) CN_CHECKED;
/* Scheduler, tokenizer (NULL: none) and model_index.json. */
cn_status cn_base_write_configs(cn_ctx *ctx, const cn_base *c, const char *tokenizer_dir,
                                const char *dir) CN_CHECKED;
/* The tokenizer's files of folder `from` to dir/tokenizer; or CLIP's vocabulary file by itself. */
cn_status cn_tokenizer_copy(cn_ctx *ctx, const char *from, const char *dir,
                            int64_t max_length) CN_CHECKED;
/* The published file name of a network's weights in its folder. */
const char *cn_weights_name(const char *network);

#endif
