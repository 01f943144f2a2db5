/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline_internal.h - what the files of drawing share: the opened pipeline and one drawing's
 * work.
 *
 *   pipeline.c  opens a pipeline; cn_generate
 *   inputs.c    options checked; sizes, conditions, masks and latents made ready
 *   control_set.c  ControlNets in use and kept, preprocessors kept
 *   masked.c    a mask as stable-diffusion-webui has it
 *   image_prompts.c  image prompts and the encoder that IP-Adapters see them by
 *   networks.c  networks' parameters: what they compute in and are kept as
 *   drawing_memory.c  what a drawing takes, and how it is made to fit a limit
 *   refine.c    the last steps by another model
 *   sizes.c     what SDXL is told of the picture's size
 *   stages.c    text, encoding, sampling, decoding
 */
#ifndef CN_PIPELINE_PIPELINE_INTERNAL_H
#define CN_PIPELINE_PIPELINE_INTERNAL_H

#include "base/option.h"
#include "diffuse/sampling.h"
#include "image/inpaint.h"
#include "model/checkpoint/vae_file.h"
#include "model/checkpoint/vision_file.h"
#include "model/checkpoint/weights.h"
#include "pipeline/lora_choice.h"
#include "pipeline/prompt_features.h"

/* Groups of networks, one of which is in memory at a time unless weights are kept loaded. */
enum { CN_GROUP_TEXT, CN_GROUP_IMAGE, CN_GROUP_DRAWING, CN_GROUP_VAE, CN_GROUPS };

/* What networks compute in, how weights are kept, and what else makes a drawing's stages take less
 * memory. */
typedef struct cn_fit {
    cn_dtype compute;
    cn_dtype storage; /* of weights, unless storage_auto */
    bool storage_auto;
    int bits[CN_GROUPS];      /* of a weight at most, under storage_auto; 32: as without a limit */
    bool keep;                /* weights stay from stage to stage and to the next picture */
    bool sequential_guidance; /* of guidance */
    int64_t vae_tile;         /* latents a side; 0: whole */
} cn_fit;

/* A ControlNet that isn't in use now; params NULL while not loaded. */
typedef struct cn_kept_control {
    cn_control_file *file;
    cn_params *params;
    char *path; /* that it was asked for by */
} cn_kept_control;

/* A preprocessor, its weights' path NULL where there is none. */
typedef struct cn_kept_annotator {
    char *kind, *weights;
    cn_annotator *annotator;
} cn_kept_annotator;

enum { CN_KEPT_ANNOTATORS = 4 };

struct cn_pipeline {
    cn_ctx *ctx;
    cn_backend *backend;
    cn_base *base;
    /* As many as the base has text encoders. */
    cn_tokenizer *tokenizers[CN_MAX_TEXT_ENCODERS];
    /* The pipeline's own n_own_embeddings, then those of a prompt's LoRAs. */
    cn_inversions embeddings[CN_MAX_TEXT_ENCODERS];
    int n_own_embeddings[CN_MAX_TEXT_ENCODERS];
    cn_pipeline_loras loras;
    cn_control_file *controls[CN_MAX_CONTROLS];
    char *control_paths[CN_MAX_CONTROLS]; /* as they were asked for */
    int n_controls;
    size_t max_memory_bytes; /* 0: no limit */
    bool halves;             /* products of F16 */
    size_t process_bytes;    /* without networks, as last measured */
    size_t others_bytes;     /* of other pipelines' networks */
    cn_fit asked;            /* by the options, without regard to memory */
    /* NULL while not loaded */
    cn_params *text[CN_MAX_TEXT_ENCODERS], *unet, *vae, *control[CN_MAX_CONTROLS];
    cn_params *vision_params;
    cn_vision_file *vision; /* the image encoder; NULL: none was given or needed */
    cn_draw *draw;          /* over unet and control; kept for the next picture of the same sizes */
    cn_draw_spec drawn;
    cn_vae_file *preview_vae; /* NULL: none was given */
    cn_pipeline *refiner;     /* NULL: none */
    /* Not in use now, the last used first; empty ones behind them. */
    cn_kept_control kept_controls[CN_MAX_CONTROLS];
    cn_kept_annotator annotators[CN_KEPT_ANNOTATORS];
};

/* One run of a sampler at one size. */
typedef struct cn_pass {
    int number; /* 0; 1: the larger second one */
    int64_t width, height, latent_h, latent_w;
    int64_t one, elements; /* of a picture's latents, of the batch's */
    cn_sampler *sampler;
    int first;                                              /* timestep to begin with */
    float *hints[CN_MAX_CONTROLS];                          /* [H,W,3] */
    float *further[CN_MAX_CONTROLS][CN_MAX_CONDITIONS - 1]; /* a Union's other conditions */
    float *regions[CN_MAX_CONTROLS];                        /* [H,W], NULL: everywhere */
    float weights[CN_MAX_CONTROLS][CN_MAX_CONTROL_OUTPUTS];
    /* [image_h,image_w,3] in [-1,1] to begin with, the pass's size unless latents are resized;
     * NULL: from noise */
    float *image;
    int64_t image_w, image_h;
    float *reference_image; /* [H,W,3] in [-1,1]; NULL: none */
    float *reference;       /* [C,h,w], its latents */
    float *mask;            /* [H,W], 1 where it is drawn anew; NULL: everywhere */
    float *latents;         /* [B,C,h,w] */
    float *noise;           /* [B,C,h,w] that the latents began with */
    float *picture;         /* [B,C,h,w] of the image or images to begin with; NULL: not needed */
    uint8_t *soft_mask;     /* [H,W] as webui has it: 255 drawn, 0 kept; NULL in diffusers' style */
    float *small_mask;      /* [h,w] */
    float *extra;           /* an inpainting UNet's mask and masked picture, [1+C,h,w] */
} cn_pass;

/* What the image encoder gives of an image prompt's images, [images,rows,features]. */
typedef struct cn_image_prompt {
    float *image, *without; /* without: for guidance's unconditional half; NULL: there is none */
} cn_image_prompt;

/* What cn_generate works out on its way; everything in it is freed at the end. */
typedef struct cn_job {
    cn_pipeline *p;
    const cn_generate_options *o;
    bool guidance;
    bool from_noise; /* nothing of the initial image is in the first latents */
    double strength, hires_strength;
    cn_rng *rngs; /* one, or one for each picture of the batch */
    char *prompt; /* without LoRAs' tags */
    cn_prompts *prompts;
    cn_pictured_text text;
    cn_fit fit;
    size_t planned_bytes; /* 0: no plan was made */
    cn_area area;         /* what of the initial image is drawn; width 0: all */
    uint8_t *soft_mask;   /* of the initial image's size; NULL: no mask, or diffusers' style */
    cn_pass pass;
    double sampling_s, text_s, encoding_s, decoding_s;
    cn_condition_spec conditions[CN_MAX_CONTROLS];
    cn_image_prompt image_prompts[CN_MAX_CONTROLS]; /* of those controls that take one */
    const char *kinds[CN_MAX_CONTROLS]; /* of the conditions' annotators: never NULL or "auto" */
    struct cn_refinement *refinement;   /* the refiner's part; NULL: there is none */
    bool refines;                       /* it is the refiner's part of another job */
    int last;   /* the timestep before which this model's part ends; 0: it has all */
    int behind; /* timesteps that another model made before */
} cn_job;

/* The refiner's part of a job, as a job of the refiner's pipeline. */
typedef struct cn_refinement {
    cn_generate_options options;
    cn_job job;
} cn_refinement;

/* Instead of an annotator's kind: the picture with -1 where the mask is (ControlNet 1.1's inpaint,
 * diffusers' make_inpaint_condition). */
#define CN_INPAINT_CONDITION "inpaint"

static inline bool cn_job_inpaints(const cn_job *j)
{
    return j->p->base->unet.in_channels > j->p->base->unet.out_channels;
}

/* Whether the initial image's latents are brought to size instead of its pixels. */
bool cn_job_resizes_latents(const cn_job *j);

/* Whether a mask is taken as stable-diffusion-webui does. */
bool cn_job_keeps_pixels(const cn_job *j);

/* --- masked.c ----------------------------------------------------------------------------------
 */

/* The initial image's soft mask, and the area to be drawn at width x height. */
cn_status cn_job_mask(cn_job *j, int64_t width, int64_t height) CN_CHECKED;
/* The pass's mask, and `image`, the initial one at the pass's size, with what is under the mask to
 * begin with. */
cn_status cn_pass_soften(cn_job *j, cn_pass *pass, cn_image *image) CN_CHECKED;
/* What of the latents is kept, and what is under the mask, once picture and noise are there. */
cn_status cn_pass_keep(cn_job *j, cn_pass *pass) CN_CHECKED;
/* Puts what the mask keeps over the drawn pictures; of an area, puts them into the initial one. */
cn_status cn_job_overlay(cn_job *j, cn_image **images) CN_CHECKED;

/* --- control_kind.c --------------------------------------------------------------------------- */

/* What each ControlNet's condition is made by: j->kinds, told where a name decided it. */
cn_status cn_job_choose_kinds(cn_job *j) CN_CHECKED;

/* --- union_types.c ---------------------------------------------------------------------------- */

/* How many conditions control network k has, and a Union's types: j->conditions[k]. */
cn_status cn_job_choose_types(cn_job *j, int k) CN_CHECKED;

/* --- image_prompts.c -------------------------------------------------------------------------- */

/* Whether control k takes an image prompt instead of a condition. */
static inline bool cn_pipeline_takes_prompt(const cn_pipeline *p, int k)
{
    return p->controls[k]->kind->attend != NULL;
}

/* CN_EMISMATCH unless there is an image encoder, which gives what the IP-Adapter takes. Opens the
 * model folder's own where none was given. */
cn_status cn_pipeline_check_ip(cn_pipeline *p, const cn_control_file *c) CN_CHECKED;
/* How many images the prompt of control k has: j->conditions[k]. */
cn_status cn_job_count_images(cn_job *j, int k) CN_CHECKED;
/* All image prompts: j->image_prompts. */
cn_status cn_job_encode_images(cn_job *j) CN_CHECKED;
void cn_job_free_images(cn_job *j);
/* Declares the encoder's parameters and tells what encoding takes beside them. *none: there is no
 * image prompt. */
cn_status cn_job_plan_images(const cn_job *j, cn_params *params, bool *none,
                             cn_plan_info *out) CN_CHECKED;

/* --- inputs.c --------------------------------------------------------------------------------- */

/* Everything that can be wrong with the options and needs no file to be read. */
cn_status cn_job_check(const cn_job *j) CN_CHECKED;
/* The size of the first pass from the options. */
cn_status cn_job_size(cn_job *j, int64_t *width, int64_t *height) CN_CHECKED;
/* An empty pass of this size with its sampler, conditions and regions. */
cn_status cn_pass_open(cn_job *j, int64_t width, int64_t height, int steps, double strength,
                       cn_pass *pass) CN_CHECKED;
void cn_pass_close(cn_pass *pass);
/* `image` at the pass's size, of an area its part: itself, or a new one that goes to *made too.
 * what: for the log. */
cn_status cn_pass_fit(cn_job *j, const cn_pass *pass, const char *what, const cn_image *image,
                      cn_image **made, const cn_image **out) CN_CHECKED;
/* The same, resized as cn_control_options.resize says; NULL: "crop". */
cn_status cn_pass_fit_as(cn_job *j, const cn_pass *pass, const char *what, const cn_image *image,
                         const char *resize, cn_image **made, const cn_image **out) CN_CHECKED;
/* Pictures of the conditions that the pass's hints hold. */
cn_status cn_pass_conditions(const cn_job *j, cn_generated *g) CN_CHECKED;
/* The initial image and its mask, as values at the pass's size. */
cn_status cn_pass_image(cn_job *j, cn_pass *pass) CN_CHECKED;
/* The noise to begin with: drawn or read. */
cn_status cn_pass_noise(cn_job *j, cn_pass *pass) CN_CHECKED;
cn_status cn_job_save_latents(const cn_job *j) CN_CHECKED;
/* 8-bit RGB, n values, to [-1,1]. */
void cn_signed_values(const uint8_t *rgb, float *out, int64_t n);

/* --- refine.c --------------------------------------------------------------------------------- */

/* The pipeline's refiner by these options of the pipeline; none without one. */
cn_status cn_pipeline_open_refiner(cn_pipeline *p, const cn_pipeline_options *o) CN_CHECKED;
/* The refiner's part of a job whose pass is open: j->refinement and j->last. */
cn_status cn_job_open_refiner(cn_job *j) CN_CHECKED;
void cn_job_close_refiner(cn_job *j);
/* The pass's latents go on to the end. */
cn_status cn_job_refine(cn_job *j) CN_CHECKED;

/* --- sizes.c ---------------------------------------------------------------------------------- */

struct cn_picture_sizes;
/* Whether the options' sizes can be read, and the model takes any. */
cn_status cn_job_check_sizes(const cn_job *j) CN_CHECKED;
/* Those of one side of guidance (CN_COND, CN_UNCOND) in a picture of this size. */
cn_status cn_job_sizes(const cn_job *j, int64_t width, int64_t height, int side,
                       struct cn_picture_sizes *out) CN_CHECKED;
/* The side's added embeddings, one for each of its stages; *out: cn_free. NULL where the model has
 * none, or there is no such side. */
cn_status cn_job_added(const cn_job *j, const cn_pass *pass, const cn_staged_text *t, int side,
                       float **out) CN_CHECKED;

/* --- preview.c -------------------------------------------------------------------------------- */

/* What makes a run's previews, from the first one on. */
typedef struct cn_preview {
    cn_decode *decoder;
    cn_params *params;
} cn_preview;

/* Whether previews go through the model's own VAE, which isn't preview.c's. */
bool cn_preview_is_own(const cn_generate_options *o);
/* The VAE for previews; path NULL: none, *out stays. */
cn_status cn_preview_open(cn_ctx *ctx, const cn_base *b, const char *path,
                          cn_vae_file **out) CN_CHECKED;
/* A picture of each of the batch's clean latents, created here. */
cn_status cn_preview_images(cn_job *j, cn_preview *v, const float *clean,
                            cn_image **images) CN_CHECKED;
void cn_preview_close(cn_preview *v);

/* --- control_set.c ---------------------------------------------------------------------------- */

void cn_pipeline_close_controls(cn_pipeline *p);
/* The weights of those that aren't in use go. */
void cn_pipeline_unload_kept(cn_pipeline *p);
/* As cn_annotate_image, by a preprocessor that is kept. */
cn_status cn_pipeline_annotate(cn_pipeline *p, const char *kind, const char *const *weights,
                               const cn_image *in, cn_image **out) CN_CHECKED;
void cn_pipeline_drop_annotators(cn_pipeline *p);

/* --- networks.c ------------------------------------------------------------------------------- */

void cn_params_unload(cn_params **params);
/* Whether all of a network's parameters have values that a plan has declared so far. */
bool cn_params_loaded(const cn_params *params);
/* Precision and weight type as the options name them. */
cn_status cn_pipeline_precision(cn_pipeline *p, const cn_pipeline_options *o) CN_CHECKED;
/* An empty parameter set for one of the base's networks, or for ControlNet k. */
cn_status cn_pipeline_network(cn_pipeline *p, const cn_fit *fit, cn_net net, int k,
                              cn_params **out) CN_CHECKED;

/* --- memory.c --------------------------------------------------------------------------------- */

/* As the options ask for it. */
cn_fit cn_job_fit_asked(const cn_job *j);
/* Plans the prepared job's stages: j->fit and *out. CN_ENOMEM, with what would fit, where nothing
 * does. */
cn_status cn_job_plan(cn_job *j, cn_generate_plan *out) CN_CHECKED;

/* --- stages.c --------------------------------------------------------------------------------- */

void cn_job_report(const cn_job *j, const char *stage, int done, int total);
/* Weights and plans go. */
void cn_pipeline_unload(cn_pipeline *p);
void cn_pipeline_unload_text(cn_pipeline *p);

/* What the files of drawing ask of text encoder, UNet with ControlNets, and VAE, for the job's own
 * sizes. */
cn_prompt_job cn_job_prompt(const cn_job *j, cn_params *const *text);
cn_draw_spec cn_job_draw_spec(const cn_job *j, cn_params *unet, cn_params *const *control);
cn_vae_spec cn_job_vae_spec(const cn_job *j, const cn_pass *pass, cn_params *vae);
/* The sizes at which the pass's image is encoded, where they aren't the pass's. */
void cn_vae_spec_of_image(const cn_job *j, const cn_pass *pass, cn_vae_spec *spec);
/* The second pass's size. */
void cn_job_enlarged(const cn_job *j, int64_t *width, int64_t *height);

cn_status cn_job_encode_text(cn_job *j) CN_CHECKED;
/* The pass's first latents, from noise and the initial image. */
cn_status cn_job_begin(cn_job *j) CN_CHECKED;
cn_status cn_job_sample(cn_job *j, const char *stage) CN_CHECKED;
/* The pass's latents to pictures: batch of them, created here. */
cn_status cn_job_decode(cn_job *j, cn_image **images) CN_CHECKED;
/* A larger pass begins where this one ended. */
cn_status cn_job_enlarge(cn_job *j) CN_CHECKED;

#endif
