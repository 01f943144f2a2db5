/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - what a file of tensors holds, and where in it a network's parameters are.
 *
 * The networks of a base, a ControlNet's and the annotators' load the same way.
 */
#ifndef CN_MODEL_CHECKPOINT_SOURCE_H
#define CN_MODEL_CHECKPOINT_SOURCE_H

#include "graph/backend.h"
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/content.h"
#include "model/checkpoint/lora.h"
#include "model/checkpoint/network_kinds.h"

/* A safetensors file's metadata: what the UNet predicts, "epsilon" or "v" (Stability AI's
 * ModelSpec). */
#define CN_META_PREDICTION "modelspec.prediction_type"
/* What this program's single files say of their networks, JSON text: for each network's name what
 * stands in config.json of its folder, for "scheduler" in scheduler_config.json. Shapes tell
 * neither the numbers of heads and groups nor the noise schedule. Other programs pass over it. */
#define CN_META_CONFIG "controlnet_c.config"
/* Empty tensors by which other programs' files, and for their sake ours, say that the UNet predicts
 * v and that the last timestep is noise alone. */
#define CN_MARK_V        "v_pred"
#define CN_MARK_ZERO_SNR "ztsnr"

/* --- files ------------------------------------------------------------------------------------ */

/* Opens the weights in a diffusers or transformers network folder: safetensors before pickles, one
 * file or several with an index. path gets the file's name (the index's for several). */
cn_status cn_weights_open(cn_ctx *ctx, const char *dir, char path[CN_PATH_BYTES],
                          cn_tensors **out) CN_CHECKED;
/* dir/name as JSON; *out: json_decref. */
cn_status cn_config_load(cn_ctx *ctx, const char *dir, const char *name, json_t **out) CN_CHECKED;
/* dir/name through a reader, whose message gets the path in front. */
cn_status cn_config_read_in(cn_ctx *ctx, const char *dir, const char *name, cn_config_reader *read,
                            void *out) CN_CHECKED;
bool cn_file_in(const char *dir, const char *name);
/* What a file says under CN_META_CONFIG, *out NULL where it says nothing; json_decref. */
cn_status cn_said_config(cn_ctx *ctx, const cn_tensors *t, json_t **out) CN_CHECKED;

/* --- parameters in a file --------------------------------------------------------------------- */

typedef struct cn_source {
    const cn_tensors *file;
    const char *path; /* for messages */
    const char *prefix;
    cn_layout layout;
    const cn_lora_set *loras; /* merged by cn_source_load; NULL: none */
    /* A UNet whose tensors of the same names are added by cn_source_load (a ControlNet that is
     * stored as a difference from it); NULL: none. */
    const struct cn_source *plus;
    /* The UNet that derived parameters start from (a Control-LoRA's); NULL: none. */
    const struct cn_source *base;
} cn_source;

/* How a derived parameter's values are made (derived.h hangs it at the parameter);
 * out: q's elements, in the order of its shape. */
typedef cn_status (*cn_derive_rule)(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out);

typedef struct cn_derived {
    cn_derive_rule make;
    char other[CN_NAME_MAX]; /* whole name of the scope of further tensors (a norm); "" for none */
    float eps;
    int64_t inputs; /* channels of a norm before the layer */
} cn_derived;

/* Where one parameter's values are: a tensor, the part-th of `parts` equal parts of it, or its
 * transposed matrix. */
typedef struct cn_place {
    const cn_tensor_info *tensor;
    int part, parts;
    bool transposed;
} cn_place;

/* "NAME[i:n]" or "NAME[T]" (graph.h) to the length of NAME and the rest of *at; a plain name is
 * part 0 of 1. */
size_t cn_name_place(const char *name, cn_place *at);
/* in [rows,columns] to out [columns,rows]. */
void cn_transpose(const float *in, int64_t rows, int64_t columns, float *out);
/* Parameter q of a network under any of its published names; tensor NULL: none. */
cn_place cn_source_find(const cn_source *s, cn_net net, const cn_param *q);
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

#endif
