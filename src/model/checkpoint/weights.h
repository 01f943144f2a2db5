/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - between files and parameters: loading, saving and describing checkpoints.
 *
 * A base model is a diffusers folder or a single file; a ControlNet a diffusers folder, a
 * control-only file (with or without "control_model."), or a whole SD+control file. All detected by
 * content.
 */
#ifndef CN_MODEL_CHECKPOINT_WEIGHTS_H
#define CN_MODEL_CHECKPOINT_WEIGHTS_H

#include "graph/backend.h"
#include "io/tensors.h"
#include "model/checkpoint/family.h"
#include "model/checkpoint/lora.h"
#include "model/checkpoint/model_base.h"
#include "model/checkpoint/ranges.h"
#include "model/nets/nets.h"
#include "model/text/tokenizer.h"

/* vae: a VAE's file or folder, or another base model, whose VAE is used instead of the model's own,
 * which may then be absent; NULL. */
cn_status cn_base_open_with(cn_ctx *ctx, const char *path, const char *vae,
                            cn_base **out) CN_CHECKED;
/* The same with the model's own VAE. */
cn_status cn_base_open(cn_ctx *ctx, const char *path, cn_base **out) CN_CHECKED;
void cn_base_close(cn_base *b);
/* "epsilon", "v", "v_prediction" (the same); NULL at the end. */
extern const char *const cn_prediction_words[];
/* Says what the UNet predicts, whatever the files say; CN_EINVAL for another word. */
cn_status cn_base_set_prediction(cn_ctx *ctx, cn_base *b, const char *prediction) CN_CHECKED;
/* Finds out what the UNet of a single file predicts where nothing in it says so (SD 2.x): reads
 * its weights and looks at one output, as stable-diffusion-webui does. Does nothing where it is
 * known. */
cn_status cn_base_settle_prediction(cn_ctx *ctx, cn_base *b, cn_backend *be) CN_CHECKED;
/* The tokenizer of the base's k-th text encoder: its own folder's, or tokenizer_dir when given (a
 * single file has none). */
cn_status cn_base_tokenizer(cn_ctx *ctx, const cn_base *b, int k, const char *tokenizer_dir,
                            cn_tokenizer **out) CN_CHECKED;
/* CN_EMISMATCH unless the text encoders' features side by side are what the UNet attends to. */
cn_status cn_base_check_context(cn_ctx *ctx, const cn_base *b) CN_CHECKED;
/* The type that most of a network's values have in the base's files: F32, F16 or BF16. */
cn_status cn_base_dtype(cn_ctx *ctx, const cn_base *b, cn_net net, cn_dtype *out) CN_CHECKED;
/* Tells the file that a network's weights come from apart from others: by path, length and time of
 * change. */
cn_status cn_base_identity(cn_ctx *ctx, const cn_base *b, cn_net net, uint64_t *out) CN_CHECKED;
/* Tells a network from others by its family and its weights' values: the same of a folder and a
 * single file, wherever they lie, and of other element types that hold the same values. Reads
 * them all. */
cn_status cn_base_fingerprint(cn_ctx *ctx, const cn_base *b, cn_net net, uint64_t *out) CN_CHECKED;
/* How a network that isn't trained keeps its weights: BF16 where it computes in it, since that is
 * what its products read anyway, else as its file has them. */
cn_dtype cn_locked_type(cn_dtype compute, cn_dtype in_file);
/* Of p, a network of the base without values, those weights stay F32 that have values beyond the
 * range of its storage type. */
cn_status cn_base_keep_ranges(cn_ctx *ctx, const cn_base *b, cn_params *p) CN_CHECKED;
/* The parameters of one of the base's networks, to be locked; *out: cn_params_destroy. */
cn_status cn_base_params_create(cn_ctx *ctx, const cn_base *b, cn_net net, cn_dtype compute,
                                cn_params **out) CN_CHECKED;
/* The same with its weights kept in another type. */
cn_status cn_base_params_create_as(cn_ctx *ctx, const cn_base *b, cn_net net, cn_dtype compute,
                                   cn_dtype storage, cn_params **out) CN_CHECKED;
/* Fills every declared parameter of p, a set of one of the base's networks. */
cn_status cn_base_load(cn_ctx *ctx, const cn_base *b, cn_backend *be, cn_params *p) CN_CHECKED;

typedef struct cn_control_file {
    char path[CN_PATH_BYTES];
    char name[128]; /* of the file or folder, lower case, '_' for all but letters and digits */
    cn_tensors *file;
    int form; /* CN_CONTROL_DIFFUSERS, ... */
    cn_controlnet_config config;
    bool guessed;    /* from shapes alone, which don't say how many heads there are */
    bool difference; /* the weights are what is to be added to those of the UNet of `base` */
    bool low_rank;   /* Control-LoRA: so are products of two narrow matrices each; the
                        configuration is the base's */
    const cn_control_kind *kind; /* what it is; `config` is a ControlNet's */
    cn_adapter_config adapter;   /* a T2I-Adapter's */
    cn_lllite_config *lllite;    /* a ControlNet-LLLite's, owned; else NULL */
    cn_ip_config ip;             /* an IP-Adapter's */
    const cn_base *base;         /* set by cn_control_join; NULL before */
    cn_ranges *ranges;           /* looked up as they are asked for; owned */
} cn_control_file;
#define CN_CONTROL_NO_BASE \
    "stored as a difference from its base model, without which it can't be used"
enum { CN_CONTROL_DIFFUSERS, CN_CONTROL_ONLY, CN_CONTROL_PREFIXED, CN_CONTROL_WHOLE };

/* Any network that a drawing can be steered with. */
cn_status cn_control_open_any(cn_ctx *ctx, const char *path, cn_control_file **out) CN_CHECKED;
/* A ControlNet or ControlNet Union that is whole by itself, but for one stored as a difference:
 * CN_EMISMATCH for other kinds. */
cn_status cn_control_open(cn_ctx *ctx, const char *path, cn_control_file **out) CN_CHECKED;
/* The configuration that its kind's functions take. */
const void *cn_control_config(const cn_control_file *c);
void cn_control_close(cn_control_file *c);
/* Sets c->name from the path that it was given by. */
void cn_control_take_name(cn_control_file *c, const char *path);
/* Whether it is called so: "canny", "lineart_anime" between '_', as the published files are. */
bool cn_control_named(const cn_control_file *c, const char *words);
cn_status cn_control_load(cn_ctx *ctx, const cn_control_file *c, cn_backend *be,
                          cn_params *p) CN_CHECKED;
/* The type that most of its values have in the file: F32, F16 or BF16. */
cn_dtype cn_control_dtype(const cn_control_file *c);
/* As cn_base_keep_ranges. */
cn_status cn_control_keep_ranges(cn_ctx *ctx, const cn_control_file *c, cn_params *p) CN_CHECKED;
/* CN_EMISMATCH with one line when the ControlNet's widths don't fit the base's UNet. */
cn_status cn_control_fits(cn_ctx *ctx, const cn_controlnet_config *c,
                          const cn_unet_config *base) CN_CHECKED;
/* The same for a file that is to work beside this base: what its shapes leave open it takes over
 * from the base, whose encoder it is a copy of. The base must outlive it. */
cn_status cn_control_join(cn_ctx *ctx, cn_control_file *c, const cn_base *base) CN_CHECKED;
/* A fresh ControlNet: every parameter that the UNet has under the same name is copied (encoder,
 * middle, time embedding); zero convolutions at 0; the hint network initialised from seed. */
cn_status cn_control_init_from_unet(cn_ctx *ctx, cn_backend *be, const cn_params *unet,
                                    cn_params *control, uint64_t seed) CN_CHECKED;
/* The same from the base's file, whatever precision the UNet is kept in. */
cn_status cn_control_init_from_base(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                                    cn_params *control, uint64_t seed) CN_CHECKED;
/* Starts every parameter of p as training from scratch does (cn_param.init), from seed. */
cn_status cn_params_init(cn_ctx *ctx, cn_backend *be, cn_params *p, uint64_t seed) CN_CHECKED;

/* Saving. All atomic, per file. dtype F32, F16 or BF16. more: further metadata of a safetensors
 * file, key, value, ..., NULL; or NULL. */
cn_status cn_control_save_folder(cn_ctx *ctx, cn_backend *be, const cn_controlnet_config *c,
                                 const cn_params *p, cn_dtype dtype, const char *dir,
                                 const char *const *more) CN_CHECKED;
cn_status cn_control_save_single(cn_ctx *ctx, cn_backend *be, const cn_controlnet_config *c,
                                 const cn_params *p, cn_dtype dtype, const char *file,
                                 const char *const *more) CN_CHECKED;
/* Any network's parameters in one safetensors file, by their diffusers names. */
cn_status cn_params_save(cn_ctx *ctx, cn_backend *be, const cn_params *p, cn_dtype dtype,
                         const char *file) CN_CHECKED;
/* Where and how a base model is saved. */
typedef struct cn_base_target {
    const char *path;
    bool single; /* one file with the original names; else a diffusers folder */
    cn_dtype dtype;
    const char *tokenizer_dir; /* of a folder: its tokenizer's files are copied from there; NULL */
    const char *const *more;   /* of a single file: further metadata; NULL */
} cn_base_target;
/* A base model as a folder: those of its networks that are given, scheduler, model_index.json. */
cn_status cn_base_save_folder(cn_ctx *ctx, cn_backend *be, const cn_base *config,
                              const cn_params *const *networks, int n,
                              const cn_base_target *to) CN_CHECKED;
/* The whole base model with this UNet instead of its own (NULL: with its own); a folder gets the
 * tokenizer of the base's own where it has one. */
cn_status cn_base_save(cn_ctx *ctx, cn_backend *be, const cn_base *b, const cn_params *unet,
                       const cn_base_target *to) CN_CHECKED;
/* Bytes of that file. */
cn_status cn_base_save_bytes(cn_ctx *ctx, const cn_base *b, size_t *bytes) CN_CHECKED;
/* Fills unet from such a file. */
cn_status cn_base_load_saved(cn_ctx *ctx, const char *file, cn_backend *be,
                             cn_params *unet) CN_CHECKED;

/* What `inspect` prints and `convert` does, working on any checkpoint. */
cn_status cn_weights_inspect(cn_ctx *ctx, const char *path, bool json, cn_str *out) CN_CHECKED;
/* As cn_convert_options. */
typedef struct cn_convert_job {
    const char *in, *out;
    bool single; /* file; else a diffusers folder */
    cn_dtype dtype;
    bool refuse_out_of_range;
    const char *from_base, *to_base;
    const char *vae; /* as cn_base_open's */
} cn_convert_job;
cn_status cn_weights_convert(cn_ctx *ctx, cn_backend *be, const cn_convert_job *c) CN_CHECKED;

#endif
