/* SPDX-License-Identifier: Apache-2.0 */
/* controlnet.h - ControlNet in C: the only public header.
 *
 * A context (cn_ctx) carries the last error, the number of threads and where log lines go. Every
 * call that can fail returns cn_status; the message is in cn_error(ctx): what was wrong, where, and
 * what would be right. The library never prints, exits or aborts on input. Images are RGB, 8 bits,
 * rows from the top, H x W x 3. Sizes in bytes are size_t, dimensions int64_t.
 *
 * It stays one file, long as it is, so that a program takes one header and a reader finds the whole
 * interface in one place. A section is about one thing: options, pretraining, training, data
 * sets, images, reports, drawing, conditions, checkpoints.
 */
#ifndef CONTROLNET_H
#define CONTROLNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CN_VERSION "0.1.0"

typedef enum cn_status {
    CN_OK = 0,
    CN_EINVAL,     /* an argument or a combination of them is wrong */
    CN_EIO,        /* the system said no: file missing, disk full, permission */
    CN_EFORMAT,    /* a file's content is not what it claims to be */
    CN_ENOMEM,     /* out of memory, or over the limit that was set */
    CN_EMISMATCH,  /* two things don't fit together: weights and network, ControlNet and base */
    CN_ECANCELLED, /* cn_cancel was called */
    CN_EINTERNAL   /* a bug here or in a library beneath */
} cn_status;

enum { CN_PATH_BYTES = 4096 }; /* room for a path, its end counted: Linux's PATH_MAX */

typedef enum cn_log_level { CN_LOG_INFO, CN_LOG_WARN } cn_log_level;

typedef struct cn_ctx cn_ctx;

/* threads: 0 = one per core. NULL when memory is out. */
cn_ctx *cn_ctx_create(int threads);
void cn_ctx_destroy(cn_ctx *ctx);
/* The last failed call's message, "" if none. Valid until the next call on ctx. */
const char *cn_error(const cn_ctx *ctx);
const char *cn_status_name(cn_status status);
/* Pictures of more pixels are refused before memory is taken for them; CN_MAX_PIXELS_DEFAULT, as
 * Pillow's, until something else is set. */
#define CN_MAX_PIXELS_DEFAULT INT64_C(178956970)
void cn_ctx_set_max_pixels(cn_ctx *ctx, int64_t pixels);
/* Log lines (no newline at the end) go to fn; without one they are dropped. */
void cn_ctx_set_log(cn_ctx *ctx, void (*fn)(void *user, cn_log_level level, const char *line),
                    void *user);
/* Asks a running call to stop soon with CN_ECANCELLED. Safe from a signal handler. */
void cn_cancel(cn_ctx *ctx);
/* Takes that back, so that ctx serves further calls: between two of them. */
void cn_cancel_reset(cn_ctx *ctx);

/* --- options ---------------------------------------------------------------------------------- */

/* The C type of a field that an option fills. */
typedef enum cn_field_type {
    CN_FIELD_ON,     /* bool, true once the option is given */
    CN_FIELD_OFF,    /* bool, false once it is */
    CN_FIELD_EITHER, /* bool, by one of two words, of which the second is true */
    CN_FIELD_INT,    /* int */
    CN_FIELD_INT64,  /* int64_t */
    CN_FIELD_INT64S, /* int64_t[values]: "16,32,64" */
    CN_FIELD_UINT64, /* uint64_t, all of them */
    CN_FIELD_NUMBER, /* double */
    CN_FIELD_BYTES,  /* size_t above 0: "500M", "8G" */
    CN_FIELD_TEXT,   /* const char * */
    CN_FIELD_LIST    /* const char *const *, NULL at the end */
} cn_field_type;

/* One option: which field of a struct of options it fills, what may stand there, what stands there
 * else, and what it is for. Each struct of options below has a table of such rows; its defaults,
 * its checks, the program's command line and help are made from them. A table ends with a row of
 * zeros; a row without a name is a heading for those behind it, which `help` says. */
typedef struct cn_option {
    const char *name; /* "learning-rate" */
    char letter;      /* of the short form; 0: none */
    const char *help; /* what it is for, without range and default; may be NULL */
    size_t offset;    /* of the field: CN_FIELD and its kin set offset and type */
    cn_field_type type;
    double min, max;          /* of INT, INT64, INT64S and NUMBER, both included */
    const char *const *words; /* EITHER, or TEXT that must be one of these, NULL at the end */
    /* Of TEXT: names for the help, NULL behind the last; whoever takes the value says what else it
     * may be. */
    const char *(*name_at)(int i);
    const char *preset; /* the default, written as the option's value is; NULL: 0 or NULL */
    /* 0 or NULL in the field says that nothing was given, and this what is done then; a NUMBER
     * can't be given as 0. */
    const char *unset;
    const char *arg;  /* the value's name in the help; NULL, where it isn't required: by type */
    const char *also; /* other names, with a space between */
    bool required;    /* on the command line; in the struct where there is no preset */
    int values;       /* of INT64S; of a LIST that takes exactly so many at once, 0: one or more */
} cn_option;

/* `offset` and `type` of a row for a member of a struct. */
#define CN_FIELD_AS(t, options, member) .offset = offsetof(options, member), .type = (t)
#define CN_FIELD(options, member) \
    CN_FIELD_AS(_Generic(((options *)0)->member, \
        bool: CN_FIELD_ON,                   \
        int: CN_FIELD_INT,                   \
        int64_t: CN_FIELD_INT64,             \
        int64_t *: CN_FIELD_INT64S,          \
        uint64_t: CN_FIELD_UINT64,           \
        double: CN_FIELD_NUMBER,             \
        const char *: CN_FIELD_TEXT,         \
        const char *const *: CN_FIELD_LIST), \
                options, member)

/* Reads a value into the field of `options` that the row is about; a switch takes NULL. The text is
 * kept where the field is one. CN_EINVAL with what would be right; not for lists. */
cn_status cn_option_set(cn_ctx *ctx, const cn_option *row, const char *text, void *options);
/* Writes the defaults of a table's rows; fields without one stay as they are. */
void cn_options_preset(const cn_option *rows, void *options);

/* --- pretrain: a small base model from procedural scenes alone -------------------------------- */

enum { CN_PRETRAIN_VAE_LEVELS = 4, CN_PRETRAIN_UNET_LEVELS = 3 };

typedef struct cn_pretrain_options {
    const char *output_dir; /* becomes a diffusers folder */
    /* "vae", "unet" or NULL for both in turn; "decoder": the decoder of output_dir's VAE alone, by
     * the VAE's options, beside the encoder as it is. A stopped stage goes on. */
    const char *stage;
    /* A diffusers folder of the same sizes whose weights the stage begins with, where output_dir
     * has no state of it; NULL: from scratch. */
    const char *start_from;
    uint64_t seed;
    int64_t save_steps; /* state on disk every so many steps */
    bool bf16; /* text encoder and UNet compute in BF16; the VAE is slower in it at such widths */
    bool muon; /* weights of convolutions and linear layers learn by Muon, the others by AdamW */
    double decay_part;    /* of a stage's steps, the last, over which the learning rate falls */
    double max_grad_norm; /* 0: no clipping */
    const char *device;   /* what computes, as cn_pipeline_options.device */

    /* sizes, which a stopped run can't change */
    int64_t size_px, latent_channels;
    int64_t vae_widths[CN_PRETRAIN_VAE_LEVELS], unet_widths[CN_PRETRAIN_UNET_LEVELS];
    int64_t vae_groups, unet_groups; /* of their group norms */
    /* transformers in a row after each residual block of a level; 0: none */
    int64_t unet_transformers[CN_PRETRAIN_UNET_LEVELS];
    int64_t text_width, text_positions, vocabulary;

    /* the VAE: steps see crops, twice vae_batch of them, and from the last full_part on whole
     * pictures */
    int64_t vae_steps, vae_batch, vae_passes; /* passes: batches that a step takes the mean of */
    int64_t crop_px;
    double full_part;
    double vae_lr, vae_ema;
    double mse_weight, edge_weight, kl_weight; /* beside the absolute error's 1 */
    double half_size_weight; /* of pictures of half the size, decoded from latents of half the size:
                              * latents that a UNet learns sooner */

    /* text encoder and UNet */
    int64_t unet_steps, unet_batch, unet_passes;
    int64_t scenes;       /* they are trained on */
    int64_t scenes_ahead; /* of these encoded before the first step; the others join over half of
                             the steps */
    double unet_lr, unet_ema;
    bool v_prediction, zero_snr;
    double snr_gamma; /* of min-SNR weighting; 0: every timestep counts alike */

    void (*progress)(void *user, const char *stage, int64_t step, int64_t steps, double loss,
                     double seconds);
    void *user;
} cn_pretrain_options;

extern const cn_option cn_pretrain_option_rows[];
void cn_pretrain_options_default(cn_pretrain_options *o);
/* Trains a VAE, then a text encoder (with its own vocabulary) and a UNet together, and writes the
 * diffusers folder in F16. Curves go to OUT/training.jsonl, sheets of pictures to OUT/state/. */
cn_status cn_pretrain(cn_ctx *ctx, const cn_pretrain_options *o);

enum { CN_EVALUATE_COLOURS = 10, CN_EVALUATE_MAX_SHAPES = 32, CN_EVALUATE_MAX_CONTROLS = 4 };

typedef struct cn_pretrain_evaluate_options {
    const char *model; /* what cn_pretrain wrote, or any base model: folder or single file */
    /* Of the held-out scenes, the prompts, their noise and the classifier. Whichever the model was
     * trained with: training stays below the held-out scenes. */
    uint64_t seed;
    const char *device; /* what computes, as cn_pipeline_options.device */
    /* How many of each are measured; 0: none. */
    int64_t scenes;   /* reconstructed by the VAE */
    int64_t prompts;  /* of one object, drawn */
    int64_t pictures; /* drawn from held-out scenes' captions for the Frechet distance */
    int64_t pairs;    /* scenes of two objects drawn with control, where there is one */
    /* Spheres, cubes, cylinders, cones, rings and pyramids of one colour each and no relations,
     * told in one wording: what a model of before 2026-12 knows. */
    bool simple_scenes;
    int64_t classifier_steps; /* that the classifier is trained; 0: none, so no shapes and no
                                 distance */
    /* ControlNets and the condition of each, NULL at the end; NULL: none. Pairs take one. */
    const char *const *control_nets;
    /* An exact map of the scene ("edges", "depth", ...), or a kind of annotator, settings may
     * follow: "canny low=50". NULL: "segmentation". */
    const char *const *conditions;
    int64_t control_scenes; /* drawn with all of them and without, see cn_pretrain_follow */
    const char *const *annotator_weights; /* of annotators with networks; NULL */
    /* Exact maps are read from drawings by a small network, trained for reader_steps of 8 scenes,
     * and kept in this file, which is read where it is there; NULL: not kept. */
    const char *reader;
    int64_t reader_steps;
    const char *control_sheet; /* PNG that gets the first 8 of control_scenes; NULL */
    int steps;                 /* of each drawing, with ddim */
    double cfg_scale;
    const char *sheet; /* PNG that gets the first 40 drawings; NULL */
    /* stage: "reconstruction", "classifier", "drawing", "distance", "pairs", "reader", "control".
     * May be NULL. */
    void (*progress)(void *user, const char *stage, int64_t done, int64_t total);
    void *user;
} cn_pretrain_evaluate_options;

/* How well pictures follow a condition, by its own measure: means over the scenes that have
 * anything of the kind (a straight line, somebody). */
typedef struct cn_pretrain_follow {
    const char *condition, *measure; /* "edge F1" */
    int64_t scenes;
    double with, without; /* drawings with all controls; with none, of the same noise */
    double autoencoder;   /* the scenes behind the VAE and back: the most that drawings can reach */
    double truth;         /* the scenes themselves: the most that can be measured */
} cn_pretrain_follow;

typedef struct cn_pretrain_evaluation {
    int64_t size_px;
    int64_t scenes, prompts, pictures, pairs; /* measured */
    double psnr_db;        /* mean of the held-out scenes' PSNR after the VAE and back */
    double psnr_of_mse_db; /* PSNR of their mean squared error */
    double edge_f1;    /* mean F1 of Canny edges (100, 200) of reconstruction and scene, a pixel of
                          tolerance */
    int64_t right;     /* drawings whose object has the colour that was asked for */
    int64_t undecided; /* of the others, those in which no colour stands out */
    const char *colours[CN_EVALUATE_COLOURS]; /* names */
    /* drawings [colour asked for][colour seen], the last column for none */
    int64_t seen[CN_EVALUATE_COLOURS][CN_EVALUATE_COLOURS + 1];
    bool classified; /* the following six are there */
    double classifier_shape,
        classifier_colour; /* its own share of held-out scenes of one object told right */
    int64_t shape_right;   /* drawings whose object is of the shape asked for */
    int n_shapes;
    const char *shapes[CN_EVALUATE_MAX_SHAPES];                         /* names */
    int64_t shape_seen[CN_EVALUATE_MAX_SHAPES][CN_EVALUATE_MAX_SHAPES]; /* [asked for][seen] */
    double frechet; /* of pictures drawn from captions to scenes, in the classifier's features */
    double frechet_floor;       /* of as many other scenes to the same scenes */
    int64_t pairs_right;        /* scenes in which both objects have their colour */
    int64_t pair_colours_right; /* of 2 * pairs objects */
    int64_t control_scenes;     /* drawn */
    int n_follow;               /* one for each ControlNet */
    cn_pretrain_follow follow[CN_EVALUATE_MAX_CONTROLS];
} cn_pretrain_evaluation;

extern const cn_option cn_pretrain_evaluate_option_rows[];
void cn_pretrain_evaluate_defaults(cn_pretrain_evaluate_options *o);
/* How good a base model is at scenes: reconstruction of scenes it never saw, and prompts of one
 * object, colours and shapes in equal shares, judged by the colour in the drawing. */
cn_status cn_pretrain_evaluate(cn_ctx *ctx, const cn_pretrain_evaluate_options *o,
                               cn_pretrain_evaluation *out);

/* --- training --------------------------------------------------------------------------------- */

/* Defaults (diffusers') and ranges stand in cn_train_option_rows; `controlnet train --help` prints
 * them. */
typedef struct cn_train_options {
    const char *model;      /* the base: a diffusers folder or a single file */
    const char *tokenizer;  /* folder; NULL: the base's own */
    const char *vae;        /* as cn_pipeline_options.vae */
    const char *controlnet; /* starts from this control network; NULL: from the base */
    /* "controlnet", "controlnet-mid", "controlnet-small", "control-lora", "lllite", "t2i-adapter"
     * or "union"; NULL: "controlnet", or what the one to start from is. */
    const char *control_kind;
    const char *control_type; /* of a union's conditions, a name of cn_control_type; NULL */
    /* Of a new Control-LoRA or LLLite the width of its narrow layers, 0: 128 or 64; of an LLLite
     * the width of what its modules make of the condition. */
    int64_t network_dim, cond_emb_dim;
    const char *train_data_dir;        /* a data set in any of the layouts of cn_dataset_check */
    const char *conditioning_data_dir; /* kohya's twin folder of conditions; NULL */
    /* Names other than the layout's own (of WebDataset: endings), NULL: those. */
    const char *image_column, *conditioning_image_column, *caption_column;
    const char *caption_extension; /* of twin folders; NULL: .txt, then .caption */
    const char *output_dir;
    int64_t resolution;                  /* px, multiple of 8 */
    int64_t train_batch_size;            /* pairs per pass */
    int64_t gradient_accumulation_steps; /* backward passes per step */
    int64_t max_train_steps;             /* 0: num_train_epochs decides */
    int64_t num_train_epochs;            /* 0: 1, or as many as max_train_minutes allows */
    /* Minutes from the call of cn_train after which the run ends as if its steps were done, and
     * learning-rate schedules with it; 0: no limit. Counted anew when a run is resumed. */
    double max_train_minutes;
    int64_t max_train_samples; /* the data set's first pairs alone; 0: all */
    double learning_rate;
    bool scale_lr; /* learning_rate times the samples of a step, those of all processes */
    const char *lr_scheduler; /* NULL: "constant" */
    /* Below 1: that part of the run; -1: 500, at most a tenth of the run. "constant" has none. */
    double lr_warmup_steps;
    double lr_decay_steps; /* of warmup_stable_decay, its end; below 1: that part of the run */
    double lr_num_cycles, lr_power;
    double adam_beta1, adam_beta2, adam_epsilon, adam_weight_decay;
    /* Adam's moments in one byte each, block-wise, as bitsandbytes keeps them: 2 bytes a weight,
     * not 8. */
    bool use_8bit_adam;
    /* "AdamW" (NULL), "AdamW8bit", which is use_8bit_adam, or "Muon": weights of convolutions and
     * linear layers learn by Muon (Jordan et al., 2024; its steps as long as AdamW's), the others
     * by AdamW. One moment a weight, not two; orthogonalizing costs time by the network's size
     * alone, whatever the batch. */
    const char *optimizer_type;
    double max_grad_norm; /* 0: no clipping */
    double proportion_empty_prompts;
    /* The paper's small-scale strategy: the middle block's link alone, the decoder's links stay 0,
     * until they join after reconnect_after steps (0: never). */
    bool only_mid_control;
    int64_t reconnect_after;
    /* The paper's large-scale strategy: after unlock_after steps the base's UNet is trained too,
     * "all" of it or its "decoder" (output blocks and out, as the reference's sd_locked=False);
     * "none" or NULL: locked. */
    const char *unlock;
    int64_t unlock_after;
    double unlock_learning_rate; /* of the unlocked UNet, by the same schedule; 0: learning_rate */
    /* What is minimised and what noise is added, by diffusers' and kohya's names. */
    const char *loss_type;      /* NULL: "l2" */
    const char *huber_schedule; /* of huber's and smooth_l1's c; NULL: "snr" */
    double huber_c;
    double snr_gamma;    /* min-SNR weighting, 5 in its paper; 0: none */
    double noise_offset; /* each channel's noise is shifted by as much times a normal value */
    const char
        *prediction; /* "epsilon" or "v", what the base was trained to give; NULL: found out */
    bool rescale_betas_zero_snr;        /* the last timestep is noise alone */
    int64_t min_timestep, max_timestep; /* drawn from min to below max; 0 and 0: all */
    bool use_ema;     /* a mean of the weights over time is kept, drawn with and saved as OUT/ema */
    double ema_decay; /* at most; lower in the first steps, as diffusers' */
    uint64_t seed;
    int64_t checkpointing_steps;     /* 0: none */
    int64_t checkpoints_total_limit; /* 0: all are kept */
    /* Checkpoints and drawings of an earlier run in output_dir are removed; without, a folder that
     * holds any is refused, unless the run goes on from them. */
    bool overwrite;
    const char *resume_from_checkpoint; /* "latest" or a checkpoint folder; NULL: from the start */
    int64_t validation_steps;           /* 0: no validation, nothing held out */
    int64_t validation_count;           /* held out from the data set's end */
    const char *validation_data_dir;    /* held-out pairs of their own; NULL: from the data set */
    /* How drawings are turned back into conditions: "canny", "canny low=50 high=100", "depth", ...,
     * "none"; NULL: as conditioning_kind, scenes.txt or annotate.jsonl in the data set say, else
     * canny where the conditions are black and white. A kind with a network wants its weights, as
     * in cn_annotate_options. */
    const char *validation_annotator;
    const char *const *validation_annotator_weights;
    /* Conditions without a picture that are drawn at each validation too, into
     * validation/step_N/given_I.png and the report; they have no part in the verdict. Lists end
     * with NULL; as many of each, or one of either. */
    const char *const *validation_images, *const *validation_prompts;
    int64_t validation_sampling_steps;
    double validation_guidance_scale; /* 1: no guidance */
    const char *report_to;            /* "tensorboard": event files in OUT/logs; "none" or NULL */
    const char *device; /* what computes, as cn_pipeline_options.device; of "vulkan" each of several
                           processes takes the next one */
    /* "no": F32 throughout; "bf16": products in bfloat16 where the processor has it, while the
     * trained weights, their optimizer and all sums stay F32; "fp16": on a device products of F16
     * under a loss scale, which follows the gradients as torch's GradScaler does; elsewhere bf16
     * where the processor has it, else F32, as a warning says. NULL: "no". */
    const char *mixed_precision;
    /* How the base's locked weights are kept: "f32", "f16", "bf16" or "q8", 8 bits and a scale for
     * 32 of them; "auto" or NULL: as in its file, "bf16" with that precision. */
    const char *weight_type;
    bool gradient_checkpointing; /* every block is computed again in the backward pass */
    /* 0: no limit. Else as few blocks as fit are computed again in the backward pass; where not
     * even all of them make it fit, nothing starts and the error says what would. Of a device's
     * memory, of which never more is taken than is free. */
    size_t max_memory_bytes;
    bool dry_run; /* look at the data, plan, measure, tell `checked` and `planned`, write nothing */
    /* Pictures keep about their proportions: sizes of at most resolution^2 pixels with sides in
     * steps, from min to max px, each picture in the nearest; every pass holds one size. As kohya's
     * scripts. */
    bool enable_bucket;
    int64_t min_bucket_reso;   /* 0: 256, or half the resolution where that is less */
    int64_t max_bucket_reso;   /* 0: 1024, or twice the resolution where that is more */
    int64_t bucket_reso_steps; /* a multiple of the VAE's factor */
    bool bucket_no_upscale;    /* pictures are shrunk at most, and sizes follow from theirs */
    /* Every sample shows a part of its picture by chance, its condition the same part; else the
     * middle. Not with cache_latents. */
    bool random_crop;
    bool cache_latents; /* true: encoded once before the first step; else each pass's pictures in
                           their step */
    bool cache_text; /* true: each prompt is encoded once before the first step; else in their step
                      */
    /* Captions as lists of tags, varied by chance from sample to sample as kohya's scripts do; not
     * with cache_text. Held out they stay in their order. */
    bool shuffle_caption;
    double caption_tag_dropout_rate; /* how likely a tag is left out */
    int64_t keep_tokens;             /* so many first tags stay where they are */
    const char
        *keep_tokens_separator; /* "|||", say: those before it and behind a second one stay; NULL */
    const char *caption_separator; /* between tags; NULL: "," */
    /* Every other sample, by chance, is mirrored, as its condition's kind wants it: the x of
     * "normal" changes its sign, "pose" is refused. conditioning_kind NULL: told from the data; off
     * where that isn't possible. */
    bool random_flip;
    const char *conditioning_kind;
    /* Encoded pictures and prompts stay in this folder for later runs; NULL: they go with the
     * run. */
    const char *cache_dir;
    int64_t dataloader_num_workers; /* threads that make the data ready; 0: the step does */
    /* Pairs that can't be read are named in the log and left out; else the run stops. */
    bool skip_bad_data;
    /* One of several processes that mpirun or srun started: they train together, each on
     * train_batch_size pairs a pass; rank 0 tells, validates and saves. Once in a process. */
    bool distributed;
} cn_train_options;

extern const cn_option cn_train_option_rows[];
void cn_train_options_default(cn_train_options *o);

/* Pictures of one size; without enable_bucket all are. */
typedef struct cn_train_bucket {
    int64_t width, height; /* px */
    int64_t count;         /* training pairs */
} cn_train_bucket;

/* What a run takes, known before weights are read or pictures encoded. Stages follow one another,
 * so the peak is the largest of three. */
typedef struct cn_train_plan {
    /* parts of `training_bytes` */
    size_t process_bytes;    /* the program with its libraries, the data set's index */
    size_t data_bytes;       /* encoded pictures and texts, validation's pictures */
    size_t base_bytes;       /* the locked UNet's weights */
    size_t control_bytes;    /* the ControlNet's weights */
    size_t encoder_bytes;    /* of what pictures and texts are encoded with in their step */
    size_t optimizer_bytes;  /* AdamW's moments, sums over accumulated passes */
    size_t gradient_bytes;   /* of the ControlNet's weights */
    size_t activation_bytes; /* what the step computes on its way, and scratch */
    /* stages, everything counted */
    size_t encoding_bytes, training_bytes, validation_bytes; /* validation 0: there is none */
    size_t peak_bytes;
    /* The same of a device's memory, which then has all of those parts but the first two, and what
     * goes between it and the host; 0 where the CPU computes. */
    size_t device_encoding_bytes, device_training_bytes, device_validation_bytes, device_bytes;
    const char *base_type, *compute_type; /* "f32", "f16", "bf16": as stored, as multiplied */
    int recomputed_blocks, blocks;        /* in the backward pass */
    int64_t trained;                      /* elements of trained weights */
    double gflop_per_pass;
    int64_t steps;       /* of the whole run */
    double step_seconds; /* of the first steps, measured by a dry run, else 0 */
    double encoding_seconds, validation_seconds; /* foretold by a dry run, of the whole run */
    double run_seconds;             /* of all steps; strategies change what a step takes */
    const cn_train_bucket *buckets; /* [n_buckets], those that have pictures */
    int n_buckets;
} cn_train_plan;

typedef struct cn_train_progress {
    const char *stage; /* "sizes", "text", "latents", "reading the cache", "train", "validation" */
    int64_t done, total; /* of the stage */
    /* the rest in "train" only */
    double loss;      /* this step's */
    double loss_mean; /* of the last 100 steps at most */
    double lr, grad_norm;
    double step_seconds;      /* mean of the last steps */
    double data_wait_seconds; /* of these, spent waiting for data */
    double encode_seconds;    /* and spent encoding pictures and texts */
    double images_per_second;
    double eta_seconds;
    size_t resident_bytes; /* memory of the process now */
} cn_train_progress;

enum { CN_TRAIN_BANDS = 4 };

/* How well one condition agrees with another. */
typedef struct cn_agreement {
    const char *measure; /* "edge F1", "mean IoU", "depth R2", ... */
    double score;        /* 0 to 1: the same */
    const char *unit;    /* of `error`, 0: the same; NULL: the measure has none */
    double error;
} cn_agreement;

typedef struct cn_train_validation {
    int64_t step;
    double loss_with, loss_without; /* held-out pictures at fixed (t, noise) */
    /* the same by equal bands of timesteps, from little noise to much */
    double band_with[CN_TRAIN_BANDS], band_without[CN_TRAIN_BANDS];
    bool has_agreement; /* the condition's annotator is known */
    /* Means over the drawings: of their annotations and the conditions. */
    cn_agreement agreement_with, agreement_without;
    double zero_conv_rms;    /* mean over the zero convolutions; 0: the network has none */
    bool learned;            /* the rule (see `rule`) holds at this step */
    int64_t learned_at_step; /* first step at which it held, -1 for none */
    const char *rule;        /* in words */
    const char *sheet;       /* PNG: condition, with control, without, target */
    const char *advice;      /* what may help while control isn't learned; NULL */
} cn_train_validation;

typedef struct cn_dataset_report cn_dataset_report;

typedef struct cn_train_callbacks {
    void *user;                                              /* given to each; any may be NULL */
    void (*checked)(void *user, const cn_dataset_report *r); /* by a dry run, of its data */
    void (*progress)(void *user, const cn_train_progress *p);
    void (*validated)(void *user, const cn_train_validation *v);
    void (*saved)(void *user, const char *path);
    void (*planned)(void *user, const cn_train_plan *p); /* before anything is read or written */
} cn_train_callbacks;

typedef struct cn_train_result {
    int64_t steps;
    double seconds;    /* wall clock of this call, encoding included */
    double final_loss; /* mean of the last 100 steps at most */
    bool has_agreement;
    double agreement_with_control, agreement_without_control; /* scores at the last validation */
    int64_t learned_at_step;                                  /* -1: not yet, or not measured */
    size_t peak_resident_bytes; /* the most memory that the process ever had */
    size_t peak_device_bytes;   /* and that was taken of the device's; 0: the CPU computed */
    bool silent;                /* of a distributed run's ranks the first tells the result */
} cn_train_result;

/* Trains a ControlNet. output_dir gets config.json and diffusion_pytorch_model.safetensors
 * (diffusers), control.safetensors (single-file names), metrics.jsonl, validation/step_N/, and
 * checkpoint-N/ with the optimizer's state. Stop and resume gives the weights of a run that never
 * stopped. Nothing is written before data set, base and folder have been checked; a dry run writes
 * nothing at all. After cn_cancel the last whole step is saved as a checkpoint and the status is
 * CN_ECANCELLED. *out is filled in either case; it may be NULL, as callbacks. */
cn_status cn_train(cn_ctx *ctx, const cn_train_options *options,
                   const cn_train_callbacks *callbacks, cn_train_result *out);

/* --- data sets -------------------------------------------------------------------------------- */

typedef struct cn_scenes_options {
    const char *output_dir;
    int64_t count, start; /* pictures start .. start + count - 1 of the sequence `seed` */
    uint64_t seed;
    int64_t size_px; /* 0: 128 of scenes, 512 of circles */
    /* Exact ones: "edges", "depth", "normal", "segmentation" (ADE20K's colours), "lines",
     * "softedge", "scribble", "pose" (OpenPose's colours), "cartoon", "toon"; or as in
     * cn_annotate_folder: "canny low=50 high=100", "pidinet | scribble_synthesis" */
    const char *condition;
    bool random_thresholds; /* as cn_annotate_folder_options: of canny, by seed and picture */
    /* "person", "torus knot", ...: another sequence, whose scenes all have one. NULL: any; with
     * "pose" a person. */
    const char *with;
    bool simple; /* six solids of plain colours, apart from each other, in one wording */
    const char *const *weights;                                /* as cn_annotate_options.weights */
    void (*progress)(void *user, int64_t done, int64_t total); /* may be NULL */
    void *user;
} cn_scenes_options;

/* What scenes and circles have in common; what scenes have besides. */
extern const cn_option cn_circles_option_rows[], cn_scenes_option_rows[];

/* Writes procedural scenes as training pairs in Fill50K's layout. Pictures already there are
 * kept. */
cn_status cn_dataset_scenes(cn_ctx *ctx, const cn_scenes_options *options);
/* The same with Fill50K's pictures: a circle's outline as the condition, the circle filled on a
 * plain ground as the picture, named CSS colours in the prompt. `condition` isn't looked at. */
cn_status cn_dataset_circles(cn_ctx *ctx, const cn_scenes_options *options);

/* Where training pairs are. All but dir may be NULL or 0. Layouts, told by content:
 *   fill50k      prompt.json, JSON lines {"source", "target", "prompt"}
 *   json         prompt.json, one JSON list of the same
 *   imagefolder  metadata.jsonl or train.jsonl, {"image" or "file_name", "conditioning_image",
 *                "text"}
 *   csv          metadata.csv with these columns
 *   folders      kohya's twin folders: pictures and captions in dir, conditions in conditioning_dir
 *   webdataset   tar shards of members KEY.jpg, KEY.cond.png, KEY.txt or KEY.json */
typedef struct cn_dataset_options {
    const char *dir; /* a folder, a tar file, or a pattern such as "shard-{000..099}.tar" */
    const char *conditioning_dir;
    const char *image_column, *conditioning_image_column, *caption_column; /* of tars: endings */
    const char *caption_extension;                 /* of twin folders; NULL: .txt, then .caption */
    bool skip_bad;                                 /* leave faulty pairs out instead of failing */
    void (*problem)(void *user, const char *text); /* told every fault: "WHERE: what is wrong" */
    void *problem_user;
} cn_dataset_options;

extern const cn_option cn_dataset_option_rows[];

/* Something that can be trained on but may not be meant; `first` names the first pair that has
 * it. */
typedef struct cn_dataset_finding {
    const char *name;   /* "blank_conditions" */
    const char *advice; /* what it means and what to do */
    int64_t count;
    char first[512];
} cn_dataset_finding;

enum { CN_DATASET_FINDINGS = 11 };

struct cn_dataset_report {
    const char *layout; /* "fill50k", "imagefolder", "csv", "folders", "webdataset" */
    char found[1024];   /* what was found and how it is read, in a line */
    int64_t pairs, looked_at, problems;
    int64_t distinct_prompts;
    int64_t min_width, min_height, max_width, max_height; /* of the targets */
    cn_dataset_finding findings[CN_DATASET_FINDINGS];     /* with counts of 0 too */
};

typedef struct cn_dataset_check_options {
    int64_t resolution; /* pictures with a smaller side are counted; 0: none */
    int64_t max_pairs;  /* decode at most so many, evenly spread; 0: all */
    /* Another data set, told as options->dir is: pairs whose picture looks like one of its are
     * found. NULL: none. */
    const char *against;
    void (*progress)(void *user, int64_t done, int64_t total); /* may be NULL */
    void *user;
} cn_dataset_check_options;

extern const cn_option cn_dataset_check_option_rows[];

/* Reads every line and decodes the pictures; check may be NULL. Each fault goes to
 * options->problem; with any the status is CN_EFORMAT. *out is filled as far as the list could be
 * read. */
cn_status cn_dataset_check(cn_ctx *ctx, const cn_dataset_options *options,
                           const cn_dataset_check_options *check, cn_dataset_report *out);

/* What a data set is like: sizes, captions, colours, how much the conditions show. */
typedef struct cn_dataset_stats_options {
    int64_t max_pairs;  /* look at at most so many, evenly spread; 0: all */
    const char *report; /* gets an HTML page that stands alone, with a contact sheet; NULL */
    void (*progress)(void *user, int64_t done, int64_t total); /* may be NULL */
    void *user;
} cn_dataset_stats_options;

extern const cn_option cn_dataset_stats_option_rows[];

/* *text: a JSON object, or lines for people (cn_free it). */
cn_status cn_dataset_stats(cn_ctx *ctx, const cn_dataset_options *options,
                           const cn_dataset_stats_options *stats, bool json, char **text);
/* Pair `index` of a data set: where it stands, its sizes and its prompt, in *text as above. png,
 * unless NULL, gets condition and picture beside each other. */
cn_status cn_dataset_show(cn_ctx *ctx, const cn_dataset_options *options, int64_t index,
                          const char *png, bool json, char **text);

/* A training set from pictures. Sources, one behind the other:
 *   a folder       captions by COCO's captions_*.json, metadata.jsonl or metadata.csv in it
 *                  (file_name, text), or STEM.txt or STEM.caption beside a picture
 *   tar shards     KEY.jpg, KEY.txt, KEY.json, as img2dataset writes them; a folder, a file or a
 *                  pattern "NAME-{000..099}.tar"
 *   "scenes:N?seed=S&size=PX", "circles:N?seed=S&size=PX"   drawn; of scenes the exact maps of
 *                  cn_scenes_options.condition are conditions too */
typedef struct cn_prepare_options {
    const char *const *sources; /* NULL at the end */
    /* Of webdataset: how often each source's pictures are taken, "1,0.5,2": half of them, spread
     * evenly, or all of them twice, each time with other draws. NULL: once. */
    const char *source_weights;
    const char *output_dir;
    const char *const *conditions; /* "canny low=50", "hed | scribble_synthesis"; NULL at the end */
    const char *const *weights;    /* as cn_annotate_options.weights */
    /* Where labels are, for kinds that are made from them: COCO's instances_*.json, or a folder of
     * label maps or .npy files named as the pictures. NULL: COCO's annotations/ beside the folder,
     * ADE20K's annotations/ for images/, DIODE's files beside the pictures. */
    const char *labels;
    const char
        *captions; /* COCO's captions_*.json; NULL: its annotations/ beside the folder, or others */
    const char *caption; /* of pictures that have none; NULL: "" */
    bool all_captions;   /* a pair for each of COCO's captions, else the first */
    const char *layout;  /* "fill50k" (NULL), "imagefolder" or "webdataset" */
    int64_t resolution; /* larger pictures are shrunk to this shorter side; 0: copied as they are */
    int64_t detect_resolution; /* as cn_annotate_options.detect_resolution */
    bool refer;                /* pairs name the pictures where they are; nothing is copied */
    bool recursive, random_thresholds; /* as cn_annotate_folder_options */
    uint64_t seed;
    /* Of webdataset: about so many bytes a shard (0: 1 GiB); the part of the shards that this call
     * makes, "2/3" the second of three; pictures that aren't copied as JPEG of this quality, 0: as
     * PNG; what a picture that can't be used means: "fail" (NULL) ends with CN_EFORMAT once all
     * others are done, "skip" doesn't, "stop" ends at once. */
    size_t shard_size;
    const char *part;
    int64_t quality;
    const char *on_bad;
    /* Of webdataset, what is left out, each counted by its reason: a shorter side below min_size;
     * longer than max_aspect times the shorter side; captions of other lengths in characters;
     * scores of KEY.json out of range, "similarity=0.28:"; black and white conditions by the share
     * of white, with a min_density those of one colour too. 0: no limit. */
    int64_t min_size;
    double max_aspect;
    int64_t min_caption, max_caption;
    const char *const *scores; /* NULL at the end */
    double min_density, max_density;
    /* Pictures that look like an earlier one: "keep" (NULL), or left out where their 64-bit
     * perceptual hashes are "equal" or "near" (5 bits). All are hashed before the first shard. */
    const char *duplicates;
    /* Of webdataset: a base model, whose encoders' output for the pictures, fitted to `resolution`,
     * and captions stands in the shards; training on it then has nothing to encode. NULL: none. */
    const char *encode;
    const char *vae; /* of `encode`, as cn_train_options.vae: the one to train with */
    /* Of webdataset: pictures are resized and cropped to sizes of about `resolution`'s area, as
     * training with the fields of these names does it (bucket_reso_steps 0: 64). */
    bool enable_bucket, bucket_no_upscale;
    int64_t min_bucket_reso, max_bucket_reso, bucket_reso_steps;
    /* Of webdataset: how hard PNG files are compressed, 1 (fast) to 9 (small), zlib's levels; 0: as
     * everywhere else, 6. */
    int64_t png_level;
    /* Of webdataset: nothing is written; a sample of entries tells in the result what all of them
     * would take. */
    bool dry_run;
    /* stage: "pictures", then each kind; of webdataset "samples". May be NULL. */
    void (*progress)(void *user, const char *stage, int64_t done, int64_t total);
    void (*problem)(void *user, const char *text);
    void *user;
} cn_prepare_options;

extern const cn_option cn_prepare_option_rows[];

enum { CN_PREPARE_REASONS = 16, CN_PREPARE_STAGES = 4 };

typedef struct cn_prepare_result {
    int64_t pictures, pairs, without_caption;
    int64_t made, kept, failed; /* conditions; of webdataset samples, failed: pictures */
    /* Of webdataset: shards of this part, those that were finished before; what was left out, with
     * failed pictures; the seconds that threads spent in each stage ("decode", "annotate",
     * "encode", "write"), of all threads together, and the time that passed. */
    int64_t shards, shards_kept;
    struct {
        char reason[32];
        int64_t count;
    } left_out[CN_PREPARE_REASONS]; /* an empty reason at the end */
    struct {
        const char *name;
        double seconds;
    } stages[CN_PREPARE_STAGES];
    double seconds;
    int threads;
    int64_t bytes;   /* of the shards of this part; of a dry run those of all, estimated */
    int64_t sampled; /* entries that a dry run looked at: counts are theirs, seconds those of all */
    size_t encoder_bytes; /* memory that the encoders of `encode` take */
} cn_prepare_result;

/* Several conditions give a pair each; of webdataset a sample has all of them. Goes on where it was
 * interrupted, as cn_annotate_folder; the list of pairs is written last. A picture that fails is
 * told, counted and left out; then the status is CN_EFORMAT. Shards are the same bytes whatever the
 * threads and parts, and after an interruption. */
cn_status cn_dataset_prepare(cn_ctx *ctx, const cn_prepare_options *options,
                             cn_prepare_result *result);

/* Pairs of data sets in any layout, in their order, to a new one; pictures keep their bytes. */
typedef struct cn_dataset_copy_options {
    const char *const *dirs; /* NULL at the end; one behind the other */
    cn_dataset_options data; /* of all of them; its dir isn't looked at */
    const char *output_dir;
    const char *layout; /* "fill50k" (NULL), "imagefolder" or "webdataset" */
    size_t shard_size;  /* of webdataset: a shard ends with the pair that reaches it; 0: 1 GiB */
    int64_t count;      /* so many of them, drawn by the seed; 0: all */
    /* This share, drawn by the seed, goes to OUT/validation, the others to OUT/train; all pairs of
     * one picture to the same. 0: all to OUT. */
    double validation;
    uint64_t seed;
    void (*progress)(void *user, int64_t done, int64_t total); /* may be NULL */
    void *user;
} cn_dataset_copy_options;

typedef struct cn_dataset_copy_result {
    int64_t pairs, validation; /* written in all, and of these to OUT/validation */
    /* Pairs whose encoded picture or caption (cn_prepare_options.encode) isn't written: the layout
     * has no place for it, or data.image_column names another picture than the encoded one. */
    int64_t encodings_left_out;
} cn_dataset_copy_result;

extern const cn_option cn_dataset_copy_option_rows[];

/* Goes on where it was stopped; a folder that was made with other settings is refused. Shards that
 * are copied to shards keep their encoded pictures and captions. *out may be NULL. */
cn_status cn_dataset_copy(cn_ctx *ctx, const cn_dataset_copy_options *options,
                          cn_dataset_copy_result *out);

/* Frees a string that the library handed out. NULL is fine. */
void cn_free(void *p);

/* --- images ----------------------------------------------------------------------------------- */

typedef struct cn_image cn_image;

/* A black image. */
cn_status cn_image_create(cn_ctx *ctx, int64_t width, int64_t height, cn_image **out);
/* PNG, JPEG, WebP, BMP, and GIF, TIFF, AVIF and JPEG XL where the library was built with them; told
 * by content; alpha is put on white. */
cn_status cn_image_load(cn_ctx *ctx, const char *path, cn_image **out);
cn_status cn_image_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_image **out);
/* A mask: where the picture has any transparency its alpha, as a grey image (as
 * stable-diffusion-webui takes it), else the picture. */
cn_status cn_mask_load(cn_ctx *ctx, const char *path, cn_image **out);
cn_status cn_mask_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_image **out);
/* text: key, value, ..., NULL for the PNG's text chunks, or NULL. Atomic. */
cn_status cn_image_save_png(cn_ctx *ctx, const char *path, const cn_image *image,
                            const char *const *text);
/* The same into memory: *out is to be freed with cn_free. */
cn_status cn_png_encode(cn_ctx *ctx, const cn_image *image, const char *const *text, uint8_t **out,
                        size_t *out_bytes);
/* The text of a PNG file under `key` (cn_free it), *out NULL when the file has none. */
cn_status cn_png_text(cn_ctx *ctx, const char *path, const char *key, char **out);
cn_status cn_png_text_memory(cn_ctx *ctx, const void *bytes, size_t n, const char *key, char **out);
void cn_image_destroy(cn_image *image);
int64_t cn_image_width(const cn_image *image);
int64_t cn_image_height(const cn_image *image);
/* height x width x 3 bytes, valid as long as the image. */
uint8_t *cn_image_rgb(cn_image *image);

/* --- reports ---------------------------------------------------------------------------------- */

/* A picture and the line under it (NULL: none). */
typedef struct cn_report_picture {
    const cn_image *image;
    const char *caption;
} cn_report_picture;

/* Pictures side by side under a line of text (NULL: none). */
typedef struct cn_report_row {
    const char *caption;
    const cn_report_picture *pictures;
    int n_pictures; /* at most 12 */
} cn_report_row;

typedef struct cn_report_number {
    const char *label, *value;
} cn_report_number;

/* In this order; every part may be absent. */
typedef struct cn_report_section {
    const char *title;
    const char *text; /* an empty line begins a new paragraph */
    const cn_report_row *rows;
    int n_rows;
    const char *metrics; /* a run's metrics.jsonl as curves; damaged lines are named, not drawn */
    const cn_report_number *numbers; /* a table */
    int n_numbers;
} cn_report_section;

typedef struct cn_report_options {
    const char *path; /* FILE.html */
    const char *title, *text;
    const cn_report_number *numbers; /* the few that count, in large type */
    int n_numbers;
    const cn_report_section *sections;
    int n_sections;
} cn_report_options;

/* One HTML file that needs nothing besides: pictures are PNG in it, curves are SVG, there is no
 * script. All text is plain text in UTF-8. Atomic. CN_EIO for a metrics file that is missing. */
cn_status cn_report_write(cn_ctx *ctx, const cn_report_options *options);

/* --- drawing ---------------------------------------------------------------------------------- */

/* A base model with its ControlNets and tokenizer, opened and checked against each other. */
typedef struct cn_pipeline cn_pipeline;

/* A LoRA file and how strongly it acts (1: as trained). */
typedef struct cn_lora_option {
    const char *path;
    double weight;
} cn_lora_option;

typedef struct cn_pipeline_options {
    const char *model;     /* diffusers folder or single file */
    const char *tokenizer; /* folder or file; NULL: the model folder's own */
    const char *vae; /* instead of the model's own: a VAE's file or folder, or another base model;
                        NULL: the model's, which must have one then */
    /* The model that draws the last steps instead (SDXL's refiner, or another base with latents of
     * the same kind); as `model`. NULL: none. */
    const char *refiner;
    const char *preview_model; /* TAESD's file or folder, for previews by it; NULL */
    const char
        *prediction; /* what the UNet was trained to give, "epsilon" or "v"; NULL: found out */
    const char *const *controls;
    int n_controls;
    /* By which IP-Adapters see their images: a folder or file of CLIPVisionModelWithProjection;
     * NULL: image_encoder/ of the model's folder. */
    const char *image_encoder;
    const cn_lora_option *loras; /* n_loras of them, merged into the weights in this order */
    int n_loras;
    const char *lora_dir;          /* where <lora:name:weight> in a prompt finds its file; NULL */
    const char *const *embeddings; /* textual inversion files, n_embeddings of them */
    int n_embeddings;
    const char *embeddings_dir; /* folder of such files; NULL */
    /* What the networks are computed on: "cpu"; "vulkan", the device that suits best; "vulkan:N",
     * number N of cn_devices; "auto" (NULL): the CPU. */
    const char *device;
    /* What the networks compute in: "f32" (NULL); "bf16", faster and less exact, where the
     * processor can (CN_EINVAL elsewhere); "f16": products of F16 with sums in F32, on a device;
     * "auto": bf16 where it can. */
    const char *precision;
    /* How large weights are kept in memory: "f32", "f16", "bf16", "q8" (8 bits and a scale per
     * 32 of them; the VAE's 16); "auto" (NULL): bf16 where the networks
     * compute in it, else the type that most of a network's weights have in its file. */
    const char *weight_type;
    bool keep_loaded; /* weights stay in memory from picture to picture; else each network only
                         while used */
    /* 0: no limit. Else a drawing does what it needs to stay below it: keeps nothing loaded,
     * guidance's halves in turn, weights in fewer bits unless weight_type is given, the VAE in
     * tiles. CN_ENOMEM where nothing suffices, before anything is read; the error says what
     * would. */
    size_t max_memory_bytes;
} cn_pipeline_options;

extern const cn_option cn_pipeline_option_rows[];

/* Reads configurations, no weights. The pipeline belongs to ctx, one thread at a time. */
cn_status cn_pipeline_create(cn_ctx *ctx, const cn_pipeline_options *options, cn_pipeline **out);
void cn_pipeline_destroy(cn_pipeline *p);
/* The ControlNets of the drawings that follow, n of them, instead of those there are. With
 * keep_loaded the base stays loaded, and of ControlNets that were in use the last few stay open
 * beside it, as they were when they were first opened. On failure there are none. */
cn_status cn_pipeline_set_controls(cn_pipeline *p, const char *const *controls, int n);
/* Pixels a side of the pictures that the model was trained on. */
int64_t cn_pipeline_size_px(const cn_pipeline *p);
/* What its networks hold in memory now, in bytes: weights, and the buffers of the last drawing's
 * plan. */
size_t cn_pipeline_loaded_bytes(const cn_pipeline *p);
/* The networks of other pipelines hold so much of the process's memory, 0 until this is called: it
 * counts under max_memory_bytes. */
void cn_pipeline_share_memory(cn_pipeline *p, size_t others_bytes);

/* What one ControlNet gets. */
typedef struct cn_control_options {
    /* Brought to the picture's size as `resize` says. Of an IP-Adapter the image prompt, whatever
     * its size: its shorter side goes to the image encoder's, its middle counts. */
    const cn_image *image;
    bool image_prompt; /* it must be an IP-Adapter then */
    /* A kind of annotator, settings may follow: "canny low=50"; NULL or "none": the image is the
     * condition; "inpaint": the image (NULL: the initial image) with -1 where the drawing's mask
     * is; "auto": what the name of a published ControlNet says, which is told. */
    const char *preprocessor;
    const char *const *preprocessor_weights; /* as cn_annotate_options.weights; NULL */
    double strength;
    double start, end; /* part of the steps it acts on */
    /* Of a ControlNet Union: what the image shows, a name of cn_control_type; NULL: what its
     * preprocessor makes. n_more further conditions, of which image, preprocessor, strength, resize
     * and type count; NULL. Of an IP-Adapter: further images, which count alike. And what the
     * conditions attend to: "batch" (NULL), each for itself, as in diffusers; "conditions-only",
     * each other, as in ComfyUI. */
    const char *type;
    const struct cn_control_options *more;
    int n_more;
    const char *union_attention;
    /* How the image and the mask come to the picture's size: "crop" (NULL): cropped around the
     * centre; "stretch": without regard to proportions; "fill": whole, with its border's median
     * colour beside it. */
    const char *resize;
    /* "balanced" (NULL); "prompt": residual i of 0..12 counts 0.825^(12-i), so the prompt decides
     * more; "controlnet": the same, and the guidance's unconditional half is drawn without it. */
    const char *mode;
    /* n_weights factors on the strength instead of the mode's, one per residual from the first
     * convolution's to the middle's (13); NULL */
    const float *weights;
    int n_weights;
    const cn_image
        *mask; /* it acts where this is white; brought to size as `image`; NULL: everywhere */
    const char *pass; /* where there is a second one: "both" (NULL), "first", "second" */
} cn_control_options;

extern const cn_option cn_control_option_rows[]; /* of numbers and words */

typedef struct cn_generate_options {
    /* negative_prompt NULL: none at all, which SDXL takes for zeros instead of an empty text. */
    const char *prompt, *negative_prompt;
    /* What SDXL's second text encoder gets instead; NULL or "": the same. */
    const char *prompt_2, *negative_prompt_2;
    /* "plain" (NULL): as diffusers, 75 tokens, the rest is cut off. "webui": as
     * stable-diffusion-webui, with (word:1.2), [word], BREAK, [from:to:when], [a|b] and any
     * length. */
    const char *prompt_style;
    const cn_control_options *controls; /* as many as the pipeline has ControlNets */
    /* NULL; "diffusers" or "lllyasviel": the conditional half alone is controlled, with the
     * residuals' factors from 0.1 to 1 (logarithmic) or 0.825^(12-i). */
    const char *guess_mode;
    int64_t width, height; /* pixels, rounded to multiples of 8; 0: the initial image's size, else
                              the first condition image's, else the model's own */
    /* What SDXL's networks are told of the picture, "WIDTHxHEIGHT" and "LEFT,TOP" in pixels: the
     * size it was made smaller from, the size it is to have, and where it was cropped. NULL: the
     * picture's own size, and 0,0. The negative ones are for guidance's unconditional half; NULL:
     * the same. As in diffusers, sizes count there where both are given, or an initial image. */
    const char *original_size, *target_size, *crop;
    const char *negative_original_size, *negative_target_size, *negative_crop;
    int batch;
    int steps;
    double cfg_scale; /* 1 or less: without guidance */
    /* How far the guided prediction is brought back to the spread of the prompt's own, 0 to 1 (Lin
     * et al., section 3.4; diffusers' guidance_rescale). */
    double guidance_rescale;
    /* The part of the steps that is made with guidance, as a ControlNet's start and end; without it
     * a step takes half the time. 0 and 0: all. */
    double guidance_start, guidance_end;
    const char *sampler; /* as cn_generate_sampler_named has it */
    /* Where the pipeline has a refiner: the part of the noise's timesteps behind which it draws, as
     * diffusers' denoising_end and denoising_start; 1: it doesn't. And the aesthetic scores that
     * SDXL's refiner is told of the picture and of guidance's unconditional half. */
    double refiner_start;
    double aesthetic_score, negative_aesthetic_score;
    double eta; /* of tcd: how much of a step's noise is drawn anew, 0 to 1 */
    /* Its noise levels, one of cn_generate_scheduler's: "default" (NULL) as the model says, even
     * timesteps for most; "discrete": these; or another's name, which also a sampler's may say
     * ("DPM++ 2M Karras"). */
    const char *scheduler;
    /* "leading", "trailing", "linspace"; NULL: as the model says, else as the sampler's class in
     * diffusers */
    const char *timestep_spacing;
    bool rescale_betas_zero_snr; /* the last timestep is noise alone, also where the model doesn't
                                    say so */
    uint64_t seed; /* the batch's noise is one draw, as torch's CPU generator makes it */
    /* Or `batch` seeds, not with an initial image: each picture has the noise that it has alone,
     * and its parameters say so. NULL: `seed`. */
    const uint64_t *seeds;
    int clip_skip; /* last layers of the text encoder left out */
    const cn_image
        *init_image; /* drawn over, brought to size as init_resize says; NULL: from noise */
    /* How the initial image, its mask and what lies over the drawing come to size: "crop" (NULL):
     * cropped around the centre; "stretch": without regard to proportions; "fill": whole, its edges
     * drawn out; "latent": encoded at its own size, its latents stretched, not with a mask. */
    const char *init_resize;
    double
        strength; /* with init_image: part of the steps made, above 0 to 1; 0: 0.75, with mask 1 */
    const cn_image *mask; /* of init_image: what is white is drawn anew; NULL: all */
    /* "webui" (NULL): as stable-diffusion-webui, pixels that the mask keeps are the initial
     * image's, with a soft edge between. "diffusers": latents are kept instead, half white or more
     * is drawn, and every pixel goes through the VAE; the members below then have no part in it. */
    const char *mask_style;
    bool mask_invert; /* the black part is drawn */
    int mask_blur;    /* pixels of the mask: the edge's deviation, 0 to 64 */
    /* Only the part around the mask is drawn, at width x height (0: the model's own size), and put
     * into the initial image, whose size the pictures have. */
    bool inpaint_full_res;
    int inpaint_padding; /* pixels around the mask that are drawn along with it */
    /* What is under the mask to begin with: "original" (NULL), "fill" (colours from around),
     * "latent-noise", "latent-nothing". */
    const char *inpainting_fill;
    /* A picture that the drawing takes its looks from, cropped around its centre to the drawing's
     * size ("reference-only" of sd-webui-controlnet): the drawing's self-attentions see its keys
     * and values. NULL: none. Not with IP-Adapters and ControlNet-LLLite. */
    const cn_image *reference;
    double reference_strength; /* part of the UNet's blocks where it is seen, the widest first */
    /* How far guidance's unconditional half is drawn without it: 1 is the most like it, 0 leaves
     * the prompt the most. */
    double style_fidelity;
    /* A second pass at hires_scale times the size, of the last hires_strength of hires_steps steps
     * (0: as many as the first's), from the first one's latents, or from its picture with
     * hires_pixels. */
    double hires_scale; /* 0 or 1: none */
    int hires_steps;
    double hires_strength; /* 0: 0.7 */
    bool hires_pixels;
    bool vae_tiling; /* the VAE works in overlapping tiles: less memory */
    int64_t
        vae_tile_size; /* pixels a side, a multiple of 8; 0: the size the model was trained at */
    const char
        *init_latents; /* .safetensors with [batch,4,h,w] of noise instead of drawn noise; NULL */
    const char *save_latents; /* .safetensors that gets the final latents [batch,4,h,w]; NULL */
    /* stage: "text", "image prompts", "encoding", "sampling", "second pass", "refining",
     * "decoding". May be NULL. */
    void (*progress)(void *user, const char *stage, int done, int total);
    /* What the networks take the pictures for, after every preview_interval (above 0) calls of them
     * but the last: `count` pictures that live as long as the call. NULL: none. */
    void (*preview)(void *user, int done, int total, cn_image *const *images, int count);
    int preview_interval;
    /* By what: "vae" (NULL), the model's own, which is kept in memory meanwhile; "taesd", the
     * pipeline's preview_model; "latent", a linear map of the latents, which costs nothing. */
    const char *preview_by;
    void *user;
} cn_generate_options;

/* The heading of options that say where files go and how to work: the picture is the same without
 * them. */
#define CN_OPTIONS_ASIDE "Output and machine"
extern const cn_option cn_generate_option_rows[];
/* Those of the rows; everything else 0 or NULL. */
void cn_generate_defaults(cn_generate_options *options);

/* A stage of a drawing and what is in memory then. */
typedef struct cn_generate_stage {
    /* "text", "image prompts", "encoding", "sampling", "second pass", "refiner's text", "refining",
     * "decoding" */
    const char *name;
    size_t weight_bytes;     /* of the networks at hand */
    size_t activation_bytes; /* what they compute on their way, and the result */
    size_t scratch_bytes;    /* of the kernel that wants the most */
    size_t total_bytes;      /* these, the process, pictures and features */
} cn_generate_stage;

enum { CN_GENERATE_STAGES = 9 };

/* What a drawing takes. Stages follow one another, so the peak is that of the largest. Where a
 * device computes, stages and peak are of its memory. */
typedef struct cn_generate_plan {
    /* The program with its libraries, pictures given, and what other pipelines hold. */
    size_t process_bytes;
    size_t host_bytes; /* where a device computes: what the process takes at most; else 0 */
    cn_generate_stage stages[CN_GENERATE_STAGES];
    int n_stages; /* text, the drawing's, the VAE's */
    size_t peak_bytes;
    const char *compute_type; /* "f32", "bf16" */
    const char *text_type, *unet_type,
        *vae_type; /* as most weights are kept: "f32", "f16", "bf16", "q8" */
    bool keeps_loaded, sequential_guidance; /* halves of guidance */
    int64_t vae_tile;                       /* pixels a side; 0: whole */
} cn_generate_plan;

/* How much of the text encoder a prompt takes. */
typedef struct cn_prompt_usage {
    int64_t tokens; /* BOS and EOS not counted; an embedding counts its vectors */
    int64_t cut;    /* how many of them are left out */
    int chunks;     /* of 75 tokens */
    int stages; /* 1, or more when the prompt changes while sampling; the numbers are the longest
                   one's */
    char *cut_text; /* what was left out; NULL: nothing */
} cn_prompt_usage;

typedef struct cn_generated {
    int count;
    int64_t width, height;
    cn_image **images; /* count of them */
    char **parameters; /* per picture, as stable-diffusion-webui writes PNG's "parameters" */
    /* The condition of each ControlNet as it got it, where the preprocessor "inpaint" marked pixels
     * black; n_conditions of them. */
    cn_image **conditions;
    int n_conditions;
    /* Seconds: of the whole call, in the steps of both passes, and in the stages beside them (their
     * weights' reading counted in). */
    double total_s, sampling_s, text_s, encoding_s, decoding_s;
    cn_prompt_usage prompt, negative; /* negative: all 0 without guidance */
    size_t planned_bytes;             /* under max_memory_bytes, and on a device: the peak that was
                                         planned; else 0 */
    size_t peak_resident_bytes;       /* the most memory that the process ever had */
    size_t peak_device_bytes;         /* and that was taken of the device's; 0: the CPU computed */
} cn_generated;

/* *out: cn_generated_destroy it. Nothing is written on failure. */
cn_status cn_generate(cn_pipeline *p, const cn_generate_options *options, cn_generated **out);
void cn_generated_destroy(cn_generated *g);
/* What cn_generate would take with these options, and do under max_memory_bytes. Reads no weights,
 * unless what the UNet predicts has to be found out from them. */
cn_status cn_generate_dry_run(cn_pipeline *p, const cn_generate_options *options,
                              cn_generate_plan *out);
/* Sampling method i, NULL behind the last. */
const char *cn_generate_sampler(int i);
/* Name i of a type of conditions that a ControlNet Union tells apart, NULL behind the last. Several
 * names may stand for one type. */
const char *cn_control_type(int i);
/* Schedule i of noise levels, "default" first; NULL behind the last. */
const char *cn_generate_scheduler(int i);
/* The method that a name stands for in stable-diffusion.cpp, diffusers (its class),
 * stable-diffusion-webui or ComfyUI, whatever its case and separators; NULL: none. */
const char *cn_generate_sampler_named(const char *name);

/* --- conditions ------------------------------------------------------------------------------- */

typedef struct cn_annotate_options {
    const char *const *settings; /* "name=value" ..., NULL at the end; or NULL */
    int64_t
        resolution; /* the shorter side first goes to this, sides to multiples of 64; 0: as it is */
    /* The annotator sees the picture at this resolution, and what it makes is brought to the size
     * above; -1: it sees that size. 0: what the kind prefers, 384 for depth and normals, 512 for
     * poses and segmentation, else that size. */
    int64_t detect_resolution;
    /* For kinds with networks: the files as published or converted (.pth, .pt, .bin, .safetensors),
     * told by content, or folders that hold them under their published names; NULL at the end; or
     * NULL. */
    const char *const *weights;
    /* What networks are computed on, as cn_pipeline_options.device; a kind without a network takes
     * the CPU alone. */
    const char *device;
} cn_annotate_options;

/* An annotator for many pictures: weights are opened and checked once, and read with the first
 * picture. Belongs to ctx, one thread at a time. options may be NULL. kind: a kind's name or one of
 * its other names, settings may follow it: "canny low=50". CN_EMISMATCH for a file that holds
 * another network, which the message names. */
typedef struct cn_annotator cn_annotator;
cn_status cn_annotator_create(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                              cn_annotator **out);
/* *out: cn_image_destroy it. */
cn_status cn_annotator_run(cn_annotator *a, const cn_image *in, cn_image **out);
/* Image file to PNG. */
cn_status cn_annotator_run_file(cn_annotator *a, const char *in, const char *out);
void cn_annotator_destroy(cn_annotator *a);

/* The same for one picture. */
cn_status cn_annotate_image(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                            const cn_image *in, cn_image **out);
cn_status cn_annotate_file(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                           const char *in, const char *out);

typedef struct cn_annotate_folder_options {
    cn_annotate_options annotate;
    bool recursive; /* folders in the folder too */
    /* canny: thresholds drawn per picture, 1 <= low < high <= 255, by seed and the picture's
     * name */
    bool random_thresholds;
    uint64_t seed;
    /* Pixel perfect: the resolution is cn_pixel_perfect_resolution's for a drawing of this size; 0:
     * not. */
    int64_t fit_width, fit_height;
    bool fit_outer;
    void (*progress)(void *user, int64_t done,
                     int64_t total);               /* of those not there yet; may be NULL */
    void (*problem)(void *user, const char *text); /* told of every picture that fails */
    void *user;
} cn_annotate_folder_options;

extern const cn_option cn_annotate_option_rows[]; /* of cn_annotate_folder_options */

typedef struct cn_annotate_result {
    int64_t pictures, made, kept, failed;
} cn_annotate_result;

/* A picture to a PNG, or all pictures of a folder to PNGs of the same names in another, several at
 * a time. kind may be several behind each other: "pidinet | scribble_synthesis". Kinds that take
 * .npy files or a COCO instances file are given those. A folder gets annotate.jsonl, a line per
 * picture (what was drawn at random, for one), and goes on where it was interrupted: what was made
 * with the same options is kept. A picture that fails is told, counted and passed over; then the
 * status is CN_EFORMAT. *result may be NULL. */
cn_status cn_annotate_folder(cn_ctx *ctx, const char *kind,
                             const cn_annotate_folder_options *options, const char *in,
                             const char *out, cn_annotate_result *result);
/* As stable-diffusion-webui's extension: what the shorter side of width x height becomes when the
 * picture fills fit_width x fit_height, or with `outer` fits into it. */
int64_t cn_pixel_perfect_resolution(int64_t width, int64_t height, int64_t fit_width,
                                    int64_t fit_height, bool outer);

/* Entry i of a palette ("ade20k", "coco"): a category's number, name and RGB; false behind the
 * last. */
typedef struct cn_palette_entry {
    int id;
    const char *name;
    uint8_t rgb[3];
} cn_palette_entry;
bool cn_palette_entry_at(const char *palette, int i, cn_palette_entry *out);
/* Palette i's name, NULL behind the last. */
const char *cn_palette_name(int i);

/* What kind makes its conditions from, in words; NULL for an unknown one. */
const char *cn_annotate_takes(const char *kind);

/* Kind i's name, NULL behind the last; *title (may be NULL) says what it makes. */
const char *cn_annotate_kind(int i, const char **title);
/* The kind that a name stands for, '-' and '_' being the same; NULL for an unknown one. */
const char *cn_annotate_find(const char *name);
/* Other name i, as users of other programs know it; *stands_for (may be NULL): the kind and its
 * settings, "hed safe=1". NULL behind the last. */
const char *cn_annotate_alias(int i, const char **stands_for);
/* Networks of one role do the same work, one of them is wanted; role 0 is always needed. */
typedef struct cn_annotate_network {
    const char *name, *file, *url; /* file: as published at url */
    int role;
} cn_annotate_network;
/* Network i of a kind; false behind the last and for an unknown kind. */
bool cn_annotate_network_at(const char *kind, int i, cn_annotate_network *out);
typedef struct cn_annotate_setting {
    const char *name, *help;
    bool is_switch, whole; /* 0 or 1; a whole number */
    double min, max, otherwise;
} cn_annotate_setting;
/* Setting i of a kind; false behind the last and for an unknown kind. */
bool cn_annotate_setting_at(const char *kind, int i, cn_annotate_setting *out);

/* Compares what was found in a drawing with the condition that was wanted, of one size;
 * docs/training.md says how each kind is measured. kind: "canny", "depth", ...; CN_EINVAL for a
 * kind that isn't compared. */
cn_status cn_condition_agreement(cn_ctx *ctx, const char *kind, const cn_image *found,
                                 const cn_image *wanted, cn_agreement *out);

/* --- devices ---------------------------------------------------------------------------------- */

/* The devices that Vulkan knows, as lines of text or one line of JSON. *text: cn_free it. CN_EIO
 * with a line that says why where there is none. */
cn_status cn_devices(cn_ctx *ctx, bool json, char **text);

/* --- checkpoints ------------------------------------------------------------------------------ */

/* What is in a file or folder, as lines of text or one line of JSON. *text: cn_free it. */
cn_status cn_inspect(cn_ctx *ctx, const char *path, bool json, char **text);

typedef struct cn_convert_options {
    bool
        to_single_file; /* one .safetensors file with the original names; else a diffusers folder */
    const char *dtype;  /* "f32", "f16" (NULL) or "bf16" */
    /* Tensors with values beyond dtype's range are written as F32, and the log names them. With
     * this nothing is written, CN_EMISMATCH, and the error names them. */
    bool refuse_out_of_range;
    /* `in`, a ControlNet that was trained beside from_base, becomes one for to_base: what it copied
     * from its base moves by the difference of the two (the reference's tool_transfer_control.py).
     * All of the same widths, else CN_EMISMATCH. Both or neither. */
    const char *from_base, *to_base;
    const char *vae; /* as cn_pipeline_options.vae; for a base model */
} cn_convert_options;

extern const cn_option cn_convert_option_rows[];

/* in: folder or file, a base model or a ControlNet. out: the folder's or file's name. options NULL:
 * all 0. */
cn_status cn_convert(cn_ctx *ctx, const char *in, const char *out,
                     const cn_convert_options *options);

#ifdef __cplusplus
}
#endif
#endif
