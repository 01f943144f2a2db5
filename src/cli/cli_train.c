/* SPDX-License-Identifier: Apache-2.0 */
/* cli_train.c - controlnet train: a base model and training pairs to a ControlNet. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    OPT_H_FILES,
    OPT_MODEL,
    OPT_MODEL_ALIAS,
    OPT_TOKENIZER,
    OPT_CONTROLNET,
    OPT_DATA,
    OPT_CONDITIONING,
    OPT_IMAGE_COLUMN,
    OPT_CONDITIONING_COLUMN,
    OPT_CAPTION_COLUMN,
    OPT_CAPTION_EXTENSION,
    OPT_OUTPUT,
    OPT_H_RUN,
    OPT_RESOLUTION,
    OPT_BATCH,
    OPT_ACCUMULATION,
    OPT_STEPS,
    OPT_EPOCHS,
    OPT_EMPTY,
    OPT_EMPTY_ALIAS,
    OPT_H_PICTURES,
    OPT_BUCKET,
    OPT_MIN_BUCKET,
    OPT_MAX_BUCKET,
    OPT_BUCKET_STEPS,
    OPT_NO_UPSCALE,
    OPT_CENTER_CROP,
    OPT_RANDOM_CROP,
    OPT_FLIP,
    OPT_KIND,
    OPT_H_CAPTIONS,
    OPT_SHUFFLE,
    OPT_TAG_DROPOUT,
    OPT_KEEP,
    OPT_KEEP_SEPARATOR,
    OPT_SEPARATOR,
    OPT_H_STRATEGY,
    OPT_ONLY_MID,
    OPT_RECONNECT,
    OPT_UNLOCK,
    OPT_UNLOCK_AFTER,
    OPT_UNLOCK_LR,
    OPT_PRECISION,
    OPT_SEED,
    OPT_H_OBJECTIVE,
    OPT_LOSS,
    OPT_HUBER_SCHEDULE,
    OPT_HUBER_C,
    OPT_SNR_GAMMA,
    OPT_SNR_ALIAS,
    OPT_NOISE_OFFSET,
    OPT_PREDICTION,
    OPT_ZERO_SNR,
    OPT_ZERO_SNR_ALIAS,
    OPT_MIN_TIMESTEP,
    OPT_MAX_TIMESTEP,
    OPT_H_OPTIMIZER,
    OPT_LR,
    OPT_SCHEDULER,
    OPT_WARMUP,
    OPT_CYCLES,
    OPT_POWER,
    OPT_BETA1,
    OPT_BETA2,
    OPT_EPSILON,
    OPT_DECAY,
    OPT_8BIT,
    OPT_NORM,
    OPT_EMA,
    OPT_EMA_DECAY,
    OPT_H_SAVE,
    OPT_CHECKPOINTING,
    OPT_LIMIT,
    OPT_RESUME,
    OPT_OVERWRITE,
    OPT_H_VALIDATION,
    OPT_VALIDATION,
    OPT_COUNT,
    OPT_VALIDATION_DATA,
    OPT_ANNOTATOR,
    OPT_ANNOTATOR_MODEL,
    OPT_VALIDATION_IMAGE,
    OPT_VALIDATION_PROMPT,
    OPT_SAMPLING,
    OPT_GUIDANCE,
    OPT_REPORT,
    OPT_H_MACHINE,
    OPT_CACHE,
    OPT_CACHE_TO_DISK,
    OPT_CACHE_DIR,
    OPT_NO_CACHE,
    OPT_NO_CACHE_TEXT,
    OPT_WORKERS,
    OPT_SKIP_BAD,
    OPT_CHECKPOINT,
    OPT_MEMORY,
    OPT_DRY_RUN,
    OPT_THREADS,
    OPT_JSON
};

static const cli_option options[] = {
    [OPT_H_FILES] = {NULL, 0, NULL, "Files"},
    [OPT_MODEL] = {"model", 'm', "MODEL", "the base: diffusers folder or single file"},
    [OPT_MODEL_ALIAS] = {"pretrained-model-name-or-path", 0, "MODEL", NULL},
    [OPT_TOKENIZER] = {"tokenizer", 0, "DIR", "for a base without one: vocab.json and merges.txt"},
    [OPT_CONTROLNET] = {"controlnet-model-name-or-path", 0, "FILE|DIR",
                        "start from this ControlNet, not from the base's encoder"},
    [OPT_DATA] = {"train-data-dir", 0, "DIR",
                  "training pairs: prompt.json (Fill50K), metadata.jsonl or\n"
                  ".csv (Hugging Face), twin folders (kohya), or tar shards\n"
                  "(WebDataset: a folder of them, name-{000..099}.tar)"},
    [OPT_CONDITIONING] = {"conditioning-data-dir", 0, "DIR",
                          "conditions with the pictures' stems; captions beside those"},
    [OPT_IMAGE_COLUMN] = {"image-column", 0, "NAME", "(image, or file_name); in shards an ending"},
    [OPT_CONDITIONING_COLUMN] = {"conditioning-image-column", 0, "NAME",
                                 "(conditioning_image; in shards cond.png)"},
    [OPT_CAPTION_COLUMN] = {"caption-column", 0, "NAME", "(text; in shards txt or json's key)"},
    [OPT_CAPTION_EXTENSION] = {"caption-extension", 0, ".EXT", "of twin folders (.txt, .caption)"},
    [OPT_OUTPUT] = {"output-dir", 'o', "OUT", "gets the ControlNet, metrics.jsonl, validation/"},
    [OPT_H_RUN] = {NULL, 0, NULL, "Run"},
    [OPT_RESOLUTION] = {"resolution", 0, "PX", "pictures are fitted to PX x PX (512)"},
    [OPT_BATCH] = {"train-batch-size", 'b', "N", "pairs per pass (4)"},
    [OPT_ACCUMULATION] = {"gradient-accumulation-steps", 0, "N", "passes per step (1)"},
    [OPT_STEPS] = {"max-train-steps", 0, "N", "steps in all; without it epochs count"},
    [OPT_EPOCHS] = {"num-train-epochs", 0, "N", "(1)"},
    [OPT_EMPTY] = {"proportion-empty-prompts", 0, "X", "prompts left out, 0 to 1 (0.5)"},
    [OPT_EMPTY_ALIAS] = {"caption-dropout-rate", 0, "X", NULL},
    [OPT_H_PICTURES] = {NULL, 0, NULL, "Pictures"},
    [OPT_BUCKET] =
        {"enable-bucket", 0, NULL,
         "keep about their proportions: sizes of --resolution's\narea, one in each pass"},
    [OPT_MIN_BUCKET] = {"min-bucket-reso", 0, "PX", "least side (256, or half of --resolution)"},
    [OPT_MAX_BUCKET] = {"max-bucket-reso", 0, "PX", "largest side (1024, or twice --resolution)"},
    [OPT_BUCKET_STEPS] = {"bucket-reso-steps", 0, "PX", "sides are multiples of it (64)"},
    [OPT_NO_UPSCALE] = {"bucket-no-upscale", 0, NULL,
                        "never enlarge: sizes follow from the pictures'"},
    [OPT_CENTER_CROP] = {"center-crop", 0, NULL, "crop to the middle (default)"},
    [OPT_RANDOM_CROP] = {"random-crop", 0, NULL,
                         "crop elsewhere each time, condition and picture alike;\n"
                         "encodes pictures in their step"},
    [OPT_FLIP] = {"random-flip", 0, NULL, "mirror every other sample, by chance"},
    [OPT_KIND] = {"conditioning-kind", 0, "KIND",
                  "what the conditions are (canny, depth, normal, ...), for\n--random-flip and "
                  "validation; default: told from the data"},
    [OPT_H_CAPTIONS] = {NULL, 0, NULL, "Captions that are lists of tags"},
    [OPT_SHUFFLE] = {"shuffle-caption", 0, NULL,
                     "the tags in another order for each sample; encodes texts\nin their step"},
    [OPT_TAG_DROPOUT] = {"caption-tag-dropout-rate", 0, "X",
                         "leave tags out by chance, 0 to 1 (0)"},
    [OPT_KEEP] = {"keep-tokens", 0, "N", "so many first tags always stay in place (0)"},
    [OPT_KEEP_SEPARATOR] = {"keep-tokens-separator", 0, "TEXT",
                            "tags before it and behind a second one stay (\"|||\")"},
    [OPT_SEPARATOR] = {"caption-separator", 0, "TEXT", "what is between tags (,)"},
    [OPT_H_STRATEGY] = {NULL, 0, NULL, "Strategy and seed"},
    [OPT_ONLY_MID] = {"only-mid-control", 0, NULL,
                      "connect the middle block alone (small-scale training)"},
    [OPT_RECONNECT] = {"reconnect-after", 0, "N", "the decoder's links join after N steps"},
    [OPT_UNLOCK] = {"unlock", 0, "none|decoder|all",
                    "train the base's UNet too, or its decoder (none)"},
    [OPT_UNLOCK_AFTER] = {"unlock-after", 0, "N", "but not before N steps (0)"},
    [OPT_UNLOCK_LR] = {"unlock-learning-rate", 0, "X",
                       "at this rate, the ControlNet at --learning-rate (the same)"},
    [OPT_PRECISION] = {"mixed-precision", 0, "no|bf16",
                       "bf16: products in bfloat16, trained weights in F32 (no)"},
    [OPT_SEED] = {"seed", 0, "N", "(0)"},
    [OPT_H_OBJECTIVE] = {NULL, 0, NULL, "Loss and noise"},
    [OPT_LOSS] = {"loss-type", 0, "NAME", "l2, l1, huber or smooth_l1 (l2)"},
    [OPT_HUBER_SCHEDULE] =
        {"huber-schedule", 0, "NAME",
         "of the last two's c over the timesteps: snr,\nexponential, constant (snr)"},
    [OPT_HUBER_C] = {"huber-c", 0, "X", "where they turn linear, at much noise (0.1)"},
    [OPT_SNR_GAMMA] = {"snr-gamma", 0, "X", "min-SNR weighting of timesteps, 5 in its paper"},
    [OPT_SNR_ALIAS] = {"min-snr-gamma", 0, "X", NULL},
    [OPT_NOISE_OFFSET] = {"noise-offset", 0, "X",
                          "shift each channel's noise, by 0.05 for instance"},
    [OPT_PREDICTION] = {"prediction-type", 0, "NAME",
                        "epsilon or v_prediction (what the base was trained for)"},
    [OPT_ZERO_SNR] = {"rescale-betas-zero-snr", 0, NULL, "make the last timestep noise alone"},
    [OPT_ZERO_SNR_ALIAS] = {"zero-terminal-snr", 0, NULL, NULL},
    [OPT_MIN_TIMESTEP] = {"min-timestep", 0, "T", "draw timesteps from here (0)"},
    [OPT_MAX_TIMESTEP] = {"max-timestep", 0, "T", "to below here (all)"},
    [OPT_H_OPTIMIZER] = {NULL, 0, NULL, "Optimizer (AdamW)"},
    [OPT_LR] = {"learning-rate", 0, "X", "(5e-6)"},
    [OPT_SCHEDULER] = {"lr-scheduler", 0, "NAME",
                       "constant (default), constant_with_warmup, linear,\n"
                       "cosine, cosine_with_restarts, polynomial"},
    [OPT_WARMUP] = {"lr-warmup-steps", 0, "N", "(500; \"constant\" has none)"},
    [OPT_CYCLES] = {"lr-num-cycles", 0, "N", "of cosine_with_restarts (1)"},
    [OPT_POWER] = {"lr-power", 0, "X", "of polynomial (1)"},
    [OPT_BETA1] = {"adam-beta1", 0, "X", "(0.9)"},
    [OPT_BETA2] = {"adam-beta2", 0, "X", "(0.999)"},
    [OPT_EPSILON] = {"adam-epsilon", 0, "X", "(1e-8)"},
    [OPT_DECAY] = {"adam-weight-decay", 0, "X", "(0.01)"},
    [OPT_8BIT] = {"use-8bit-adam", 0, NULL, "moments in a byte each: a quarter of their memory"},
    [OPT_NORM] = {"max-grad-norm", 0, "X", "clip the gradient's norm (1); 0: never"},
    [OPT_EMA] = {"use-ema", 0, NULL, "keep a mean of the weights over time, saved as OUT/ema"},
    [OPT_EMA_DECAY] = {"ema-decay", 0, "X", "share of the old mean, at most (0.9999)"},
    [OPT_H_SAVE] = {NULL, 0, NULL, "Checkpoints"},
    [OPT_CHECKPOINTING] = {"checkpointing-steps", 0, "N", "(500); 0: none"},
    [OPT_LIMIT] = {"checkpoints-total-limit", 0, "N", "older ones are removed; 0: all are kept"},
    [OPT_OVERWRITE] =
        {"overwrite", 0, NULL,
         "begin anew in an OUT that holds an earlier run: its\ncheckpoints and drawings "
         "are removed"},
    [OPT_RESUME] = {"resume-from-checkpoint", 0, "latest|DIR", "go on exactly where it stopped"},
    [OPT_H_VALIDATION] = {NULL, 0, NULL, "Validation: does it work yet?"},
    [OPT_VALIDATION] = {"validation-steps", 0, "N", "(100); 0: none, nothing is held out"},
    [OPT_COUNT] = {"validation-count", 0, "N", "held-out pairs, from the data's end (8)"},
    [OPT_VALIDATION_DATA] = {"validation-data-dir", 0, "DIR", "held-out pairs of their own"},
    [OPT_ANNOTATOR] = {"validation-annotator", 0, "KIND",
                       "turns drawings into conditions again, to compare them:\n"
                       "none, canny, \"canny low=50 high=100\", depth, seg, openpose,\n"
                       "... (default: told from the data)"},
    [OPT_ANNOTATOR_MODEL] = {"validation-annotator-model", 0, "WEIGHTS",
                             "its network's file, or a folder of them; may be given\n"
                             "several times"},
    [OPT_VALIDATION_IMAGE] = {"validation-image", 0, "FILE",
                              "a condition of your own, drawn each time too; several times"},
    [OPT_VALIDATION_PROMPT] = {"validation-prompt", 0, "TEXT",
                               "its prompt: as many as images, or one for all"},
    [OPT_SAMPLING] = {"validation-sampling-steps", 0, "N", "of each drawing (20)"},
    [OPT_GUIDANCE] = {"validation-guidance-scale", 0, "X", "of each drawing (7.5)"},
    [OPT_REPORT] = {"report-to", 0, "tensorboard", "event files for TensorBoard in OUT/logs"},
    [OPT_H_MACHINE] = {NULL, 0, NULL, "Machine"},
    [OPT_CACHE] = {"cache-latents", 0, NULL,
                   "encode pictures once, before the first step (default)"},
    [OPT_CACHE_TO_DISK] = {"cache-latents-to-disk", 0, NULL,
                           "and kept for later runs, in OUT/cache"},
    [OPT_CACHE_DIR] = {"cache-dir", 0, "DIR", "kept there; runs may share it"},
    [OPT_NO_CACHE] = {"no-cache-latents", 0, NULL, "encode each pass's pictures in their step"},
    [OPT_NO_CACHE_TEXT] = {"no-cache-text", 0, NULL,
                           "and its texts, where they are too many to be kept"},
    [OPT_WORKERS] = {"dataloader-num-workers", 0, "N",
                     "threads that read ahead (2); 0: the step reads"},
    [OPT_SKIP_BAD] = {"skip-bad-data", 0, NULL,
                      "name pairs that can't be read and go on without them"},
    [OPT_CHECKPOINT] = {"gradient-checkpointing", 0, NULL,
                        "compute blocks again for the backward pass: less\nmemory, more time"},
    [OPT_MEMORY] =
        {"max-memory", 0, "SIZE",
         "fit into this, 8G for instance, by as much of that as\nneeded; or say what would fit"},
    [OPT_DRY_RUN] = {"dry-run", 0, NULL,
                     "look at the data, say what the run takes, memory and\ntime; write nothing"},
    [OPT_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
    [OPT_JSON] = {"json", 0, NULL, "validations and the result as JSON lines"},
};

enum { MAX_WEIGHTS = 8, MAX_GIVEN = 64 };

typedef struct request {
    cn_train_options o;
    int threads;
    bool json, cache_to_disk, cache_latents; /* the latter: asked for */
    char cache_dir[4096];                    /* OUT/cache */
    const char *weights[MAX_WEIGHTS + 1];
    int n_weights;
    const char *images[MAX_GIVEN + 1], *prompts[MAX_GIVEN + 1]; /* for validations */
    int n_images, n_prompts;
} request;

/* --- options ---------------------------------------------------------------------------------- */

static bool parse_file(const cli_parser *p, int id, cn_train_options *o)
{
    switch (id) {
    case OPT_MODEL:
    case OPT_MODEL_ALIAS: o->model = p->value; return true;
    case OPT_TOKENIZER: o->tokenizer = p->value; return true;
    case OPT_CONTROLNET: o->controlnet = p->value; return true;
    case OPT_DATA: o->train_data_dir = p->value; return true;
    case OPT_CONDITIONING: o->conditioning_data_dir = p->value; return true;
    case OPT_IMAGE_COLUMN: o->image_column = p->value; return true;
    case OPT_CONDITIONING_COLUMN: o->conditioning_image_column = p->value; return true;
    case OPT_CAPTION_COLUMN: o->caption_column = p->value; return true;
    case OPT_CAPTION_EXTENSION: o->caption_extension = p->value; return true;
    case OPT_OUTPUT: o->output_dir = p->value; return true;
    case OPT_SCHEDULER: o->lr_scheduler = p->value; return true;
    case OPT_RESUME: o->resume_from_checkpoint = p->value; return true;
    case OPT_VALIDATION_DATA: o->validation_data_dir = p->value; return true;
    case OPT_KIND: o->conditioning_kind = p->value; return true;
    case OPT_CACHE_DIR: o->cache_dir = p->value; return true;
    case OPT_ANNOTATOR: o->validation_annotator = p->value; return true;
    case OPT_KEEP_SEPARATOR: o->keep_tokens_separator = p->value; return true;
    case OPT_SEPARATOR: o->caption_separator = p->value; return true;
    default: return false;
    }
}

/* Ranges here only keep nonsense out; the library's are narrower and say so. */
static bool parse_number(const cli_parser *p, int id, cn_train_options *o)
{
    const int64_t most = INT64_C(1) << 40;
    switch (id) {
    case OPT_RESOLUTION: return cli_int(p, id, 8, 8192, &o->resolution);
    case OPT_BATCH: return cli_int(p, id, 1, 65536, &o->train_batch_size);
    case OPT_ACCUMULATION: return cli_int(p, id, 1, 1000000, &o->gradient_accumulation_steps);
    case OPT_STEPS: return cli_int(p, id, 1, most, &o->max_train_steps);
    case OPT_EPOCHS: return cli_int(p, id, 1, 1000000000, &o->num_train_epochs);
    case OPT_RECONNECT: return cli_int(p, id, 0, most, &o->reconnect_after);
    case OPT_UNLOCK_AFTER: return cli_int(p, id, 0, most, &o->unlock_after);
    case OPT_HUBER_C: return cli_number(p, id, 1e-6, 1, &o->huber_c);
    case OPT_SNR_GAMMA:
    case OPT_SNR_ALIAS: return cli_number(p, id, 0, 1e6, &o->snr_gamma);
    case OPT_NOISE_OFFSET: return cli_number(p, id, 0, 10, &o->noise_offset);
    case OPT_MIN_TIMESTEP: return cli_int(p, id, 0, 100000, &o->min_timestep);
    case OPT_MAX_TIMESTEP: return cli_int(p, id, 1, 100000, &o->max_timestep);
    case OPT_KEEP: return cli_int(p, id, 0, 65536, &o->keep_tokens);
    case OPT_TAG_DROPOUT: return cli_number(p, id, 0, 1, &o->caption_tag_dropout_rate);
    case OPT_EMPTY:
    case OPT_EMPTY_ALIAS: return cli_number(p, id, 0, 1, &o->proportion_empty_prompts);
    case OPT_SEED: return cli_uint64(p, id, &o->seed);
    case OPT_UNLOCK_LR: return cli_number(p, id, 0, 1000, &o->unlock_learning_rate);
    case OPT_LR: return cli_number(p, id, 0, 1000, &o->learning_rate);
    case OPT_WARMUP: return cli_int(p, id, 0, most, &o->lr_warmup_steps);
    case OPT_CYCLES: return cli_number(p, id, 0, 1e6, &o->lr_num_cycles);
    case OPT_POWER: return cli_number(p, id, 0, 100, &o->lr_power);
    case OPT_BETA1: return cli_number(p, id, 0, 0.9999999, &o->adam_beta1);
    case OPT_BETA2: return cli_number(p, id, 0, 0.9999999, &o->adam_beta2);
    case OPT_EPSILON: return cli_number(p, id, 0, 1, &o->adam_epsilon);
    case OPT_DECAY: return cli_number(p, id, 0, 100, &o->adam_weight_decay);
    case OPT_EMA_DECAY: return cli_number(p, id, 0, 0.9999999, &o->ema_decay);
    case OPT_NORM: return cli_number(p, id, 0, 1e30, &o->max_grad_norm);
    case OPT_CHECKPOINTING: return cli_int(p, id, 0, most, &o->checkpointing_steps);
    case OPT_LIMIT: return cli_int(p, id, 0, 1000000000, &o->checkpoints_total_limit);
    case OPT_VALIDATION: return cli_int(p, id, 0, most, &o->validation_steps);
    case OPT_COUNT: return cli_int(p, id, 1, 10000, &o->validation_count);
    case OPT_SAMPLING: return cli_int(p, id, 1, 1000, &o->validation_sampling_steps);
    case OPT_GUIDANCE: return cli_number(p, id, 0, 100, &o->validation_guidance_scale);
    case OPT_MIN_BUCKET: return cli_int(p, id, 1, 8192, &o->min_bucket_reso);
    case OPT_MAX_BUCKET: return cli_int(p, id, 1, 8192, &o->max_bucket_reso);
    case OPT_BUCKET_STEPS: return cli_int(p, id, 1, 8192, &o->bucket_reso_steps);
    case OPT_WORKERS: return cli_int(p, id, 0, 64, &o->dataloader_num_workers);
    case OPT_MEMORY: return cli_size(p, id, &o->max_memory_bytes);
    default: return false;
    }
}

static bool parse_one(const cli_parser *p, int id, request *r)
{
    int64_t n = 0;
    switch (id) {
    case OPT_ONLY_MID: r->o.only_mid_control = true; return true;
    case OPT_LOSS:
        r->o.loss_type = p->value;
        return cli_one_of(p, id, (const char *const[]){"l2", "l1", "huber", "smooth_l1", NULL});
    case OPT_HUBER_SCHEDULE:
        r->o.huber_schedule = p->value;
        return cli_one_of(p, id, (const char *const[]){"snr", "exponential", "constant", NULL});
    case OPT_PREDICTION:
        r->o.prediction = p->value[0] == 'v' ? "v" : "epsilon";
        return cli_one_of(p, id, (const char *const[]){"epsilon", "v_prediction", "v", NULL});
    case OPT_ZERO_SNR:
    case OPT_ZERO_SNR_ALIAS: r->o.rescale_betas_zero_snr = true; return true;
    case OPT_REPORT:
        r->o.report_to = p->value;
        return cli_one_of(p, id, (const char *const[]){"none", "tensorboard", NULL});
    case OPT_EMA: r->o.use_ema = true; return true;
    case OPT_8BIT: r->o.use_8bit_adam = true; return true;
    case OPT_CENTER_CROP: r->o.random_crop = false; return true;
    case OPT_RANDOM_CROP: r->o.random_crop = true; return true;
    case OPT_BUCKET: r->o.enable_bucket = true; return true;
    case OPT_NO_UPSCALE: r->o.bucket_no_upscale = true; return true;
    case OPT_CACHE: r->cache_latents = true; return true;
    case OPT_NO_CACHE: r->o.cache_latents = false; return true;
    case OPT_NO_CACHE_TEXT: r->o.cache_text = false; return true;
    case OPT_SHUFFLE: r->o.shuffle_caption = true; return true;
    case OPT_FLIP: r->o.random_flip = true; return true;
    case OPT_CACHE_TO_DISK: r->cache_to_disk = true; return true;
    case OPT_OVERWRITE: r->o.overwrite = true; return true;
    case OPT_SKIP_BAD: r->o.skip_bad_data = true; return true;
    case OPT_ANNOTATOR_MODEL:
        r->o.validation_annotator_weights = r->weights;
        return cli_add_word(p, r->weights, MAX_WEIGHTS, &r->n_weights);
    case OPT_VALIDATION_IMAGE:
        r->o.validation_images = r->images;
        return cli_add_word(p, r->images, MAX_GIVEN, &r->n_images);
    case OPT_VALIDATION_PROMPT:
        r->o.validation_prompts = r->prompts;
        return cli_add_word(p, r->prompts, MAX_GIVEN, &r->n_prompts);
    case OPT_JSON: r->json = true; return true;
    case OPT_UNLOCK:
        r->o.unlock = p->value;
        return cli_one_of(p, id, (const char *const[]){"none", "decoder", "all", NULL});
    case OPT_PRECISION:
        r->o.mixed_precision = p->value;
        return cli_one_of(p, id, (const char *const[]){"no", "bf16", NULL});
    case OPT_CHECKPOINT: r->o.gradient_checkpointing = true; return true;
    case OPT_DRY_RUN: r->o.dry_run = true; return true;
    case OPT_THREADS:
        if (!cli_int(p, id, 1, 1024, &n)) return false;
        r->threads = (int)n;
        return true;
    default: return parse_file(p, id, &r->o) || parse_number(p, id, &r->o);
    }
}

/* Random crops aren't cached unless that is asked for, which is refused; tags that vary never are.
 * --cache-latents-to-disk alone keeps the cache with the result. */
static bool settle_cache(const cli_parser *p, request *r, int *status)
{
    const bool wanted = r->cache_latents || r->cache_to_disk;
    if (wanted && !r->o.cache_latents) {
        *status = cli_usage_error(p, "%s", "--no-cache-latents contradicts --cache-latents");
        return false;
    }
    if (r->o.random_crop && !wanted) r->o.cache_latents = false;
    if (r->o.shuffle_caption || r->o.caption_tag_dropout_rate > 0) r->o.cache_text = false;
    if (!r->cache_to_disk || r->o.cache_dir) return true;
    r->o.cache_dir = r->cache_dir;
    if (snprintf(r->cache_dir, sizeof r->cache_dir, "%s/cache", r->o.output_dir) <
        (int)sizeof r->cache_dir)
        return true;
    *status = cli_usage_error(p, "%s", "--output-dir is too long");
    return false;
}

/* CLI_DONE, or the exit status in *status with false. */
static bool parse(cli_parser *p, request *r, int *status)
{
    char **rest;
    int id;
    cn_train_options_default(&r->o);
    while ((id = cli_next(p)) >= 0)
        if (!parse_one(p, id, r)) {
            *status = CLI_USAGE;
            return false;
        }
    if (id != CLI_END) {
        *status = cli_exit_status(id);
        return false;
    }
    if (cli_positional(p, &rest) > 0)
        *status = cli_usage_error(p, "\"%s\" is no option", rest[0]);
    else if (!r->o.model)
        *status = cli_usage_error(p, "%s", "-m MODEL is missing");
    else if (!r->o.train_data_dir)
        *status = cli_usage_error(p, "%s", "--train-data-dir DIR is missing");
    else if (!r->o.output_dir)
        *status = cli_usage_error(p, "%s", "--output-dir OUT is missing");
    else
        return settle_cache(p, r, status);
    return false;
}

/* --- while it runs ---------------------------------------------------------------------------- */

typedef struct display {
    cli_progress other; /* stages besides "train" */
    double shown_s;
    bool terminal, line_open, json, dry_run;
} display;

static void end_line(display *d)
{
    cli_progress_end(&d->other);
    if (d->line_open) fputc('\n', stderr);
    d->line_open = false;
}

static void print_step(display *d, const cn_train_progress *p)
{
    const long eta = (long)p->eta_seconds;
    char encoding[48] = "";
    if (p->encode_seconds > 0)
        snprintf(encoding, sizeof encoding, ", %.1f ms encoding", 1e3 * p->encode_seconds);
    fprintf(stderr,
            "%sstep %lld/%lld  loss %.4f (mean %.4f)  lr %.2g  %.2f s/step (%.1f ms for data%s)  "
            "%.1f images/s  %.2f GiB  %ld:%02ld:%02ld left%s",
            d->terminal ? "\r" : "", (long long)p->done, (long long)p->total, p->loss, p->loss_mean,
            p->lr, p->step_seconds, 1e3 * p->data_wait_seconds, encoding, p->images_per_second,
            cli_gib(p->resident_bytes), eta / 3600, eta / 60 % 60, eta % 60,
            d->terminal ? "\x1b[K" : "\n");
    d->line_open = d->terminal;
    fflush(stderr);
}

static void show_progress(void *user, const cn_train_progress *p)
{
    display *d = user;
    if (strcmp(p->stage, "train") != 0) {
        if (d->line_open) end_line(d);
        cli_progress_show(&d->other, p->stage, (int)p->done, (int)p->total);
        return;
    }
    const double now = cli_now_s();
    const bool due = d->terminal || now - d->shown_s >= 10 || p->done == p->total || p->done == 1;
    if (!due) return;
    cli_progress_end(&d->other);
    d->shown_s = now;
    print_step(d, p);
}

static void show_validation(void *user, const cn_train_validation *v)
{
    display *d = user;
    end_line(d);
    fprintf(stderr,
            "validation at step %lld: held-out loss %.4f with control, %.4f without (%+.4f)",
            (long long)v->step, v->loss_with, v->loss_without, v->loss_with - v->loss_without);
    if (v->has_agreement)
        fprintf(stderr, "; %s %.3f with, %.3f without", v->agreement_with.measure,
                v->agreement_with.score, v->agreement_without.score);
    if (v->has_agreement && v->agreement_with.unit)
        fprintf(stderr, "; %s: %.1f with, %.1f without", v->agreement_with.unit,
                v->agreement_with.error, v->agreement_without.error);
    fprintf(stderr, "; zero convolutions %.2e; %s\n", v->zero_conv_rms, v->sheet);
    if (v->learned && v->learned_at_step == v->step)
        fprintf(stderr, "control learned at step %lld (%s)\n", (long long)v->step, v->rule);
    if (!d->json) return;
    printf("{\"event\": \"validation\", \"step\": %lld, \"loss_with_control\": %.9g, "
           "\"loss_without_control\": %.9g",
           (long long)v->step, v->loss_with, v->loss_without);
    if (v->has_agreement)
        printf(", \"agreement_measure\": \"%s\", \"agreement_with_control\": %.9g, "
               "\"agreement_without_control\": %.9g",
               v->agreement_with.measure, v->agreement_with.score, v->agreement_without.score);
    if (v->has_agreement && v->agreement_with.unit)
        printf(", \"error_unit\": \"%s\", \"error_with_control\": %.9g, "
               "\"error_without_control\": %.9g",
               v->agreement_with.unit, v->agreement_with.error, v->agreement_without.error);
    printf(", \"zero_conv_rms\": %.9g, \"learned_at_step\": %lld}\n", v->zero_conv_rms,
           (long long)v->learned_at_step);
    fflush(stdout);
}

static void print_plan(const cn_train_plan *p)
{
    const struct {
        const char *what, *note;
        size_t bytes;
    } parts[] = {
        {"program and libraries", "", p->process_bytes},
        {"encoded data set", "", p->data_bytes},
        {"base weights", p->base_type, p->base_bytes},
        {"ControlNet's weights", "f32", p->control_bytes},
        {"encoders in the step", "", p->encoder_bytes},
        {"AdamW", "", p->optimizer_bytes},
        {"gradients", "f32", p->gradient_bytes},
        {"activations and scratch", p->compute_type, p->activation_bytes},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].bytes)
            fprintf(stderr, "  %-24s %8.3f GiB  %s\n", parts[i].what, cli_gib(parts[i].bytes),
                    parts[i].note);
    fprintf(stderr, "  %-24s %8.3f GiB\n", "while encoding", cli_gib(p->encoding_bytes));
    fprintf(stderr, "  %-24s %8.3f GiB\n", "while training", cli_gib(p->training_bytes));
    if (p->validation_bytes)
        fprintf(stderr, "  %-24s %8.3f GiB\n", "while validating", cli_gib(p->validation_bytes));
}

static void print_part(const char *what, double seconds)
{
    const long s = (long)(seconds + 0.5);
    fprintf(stderr, "  %-24s %4ld:%02ld:%02ld\n", what, s / 3600, s / 60 % 60, s % 60);
}

static void print_time(const cn_train_plan *p)
{
    const double seconds = p->encoding_seconds + p->run_seconds + p->validation_seconds;
    const time_t end = time(NULL) + (time_t)(seconds + 0.5);
    char when[64] = "";
    struct tm local;
    if (localtime_r(&end, &local)) strftime(when, sizeof when, "%A %H:%M", &local);
    fprintf(stderr, "time: %.2f s per step, %lld steps\n", p->step_seconds, (long long)p->steps);
    print_part("encoding the data", p->encoding_seconds);
    print_part("training", p->run_seconds);
    if (p->validation_seconds > 0) print_part("validations", p->validation_seconds);
    print_part("in all", seconds);
    fprintf(stderr, "  begun now, done %s\n", when);
}

static void show_plan(void *user, const cn_train_plan *p)
{
    display *d = user;
    end_line(d);
    fprintf(stderr,
            "memory: %.2f GiB at most (%lld million trained weights, %d of %d blocks computed "
            "again, %.0f GFLOP per pass)\n",
            cli_gib(p->peak_bytes), (long long)(p->trained / 1000000), p->recomputed_blocks,
            p->blocks, p->gflop_per_pass);
    if (d->dry_run) print_plan(p);
    if (d->dry_run) print_time(p);
    if (!d->json) return;
    printf("{\"event\": \"plan\", \"peak_bytes\": %zu, \"encoding_bytes\": %zu, "
           "\"training_bytes\": %zu, \"validation_bytes\": %zu, \"process_bytes\": %zu, "
           "\"data_bytes\": %zu, \"base_bytes\": %zu, \"control_bytes\": %zu, "
           "\"optimizer_bytes\": %zu, \"gradient_bytes\": %zu, \"activation_bytes\": %zu, "
           "\"base_type\": \"%s\", \"compute_type\": \"%s\", \"recomputed_blocks\": %d, "
           "\"blocks\": %d, \"steps\": %lld, \"step_seconds\": %.4f, \"run_seconds\": %.1f, "
           "\"encoding_seconds\": %.1f, \"validation_seconds\": %.1f, \"encoder_bytes\": %zu, "
           "\"buckets\": [",
           p->peak_bytes, p->encoding_bytes, p->training_bytes, p->validation_bytes,
           p->process_bytes, p->data_bytes, p->base_bytes, p->control_bytes, p->optimizer_bytes,
           p->gradient_bytes, p->activation_bytes, p->base_type, p->compute_type,
           p->recomputed_blocks, p->blocks, (long long)p->steps, p->step_seconds, p->run_seconds,
           p->encoding_seconds, p->validation_seconds, p->encoder_bytes);
    for (int k = 0; k < p->n_buckets; k++)
        printf("%s{\"width\": %lld, \"height\": %lld, \"count\": %lld}", k ? ", " : "",
               (long long)p->buckets[k].width, (long long)p->buckets[k].height,
               (long long)p->buckets[k].count);
    printf("]}\n");
    fflush(stdout);
}

static void show_checked(void *user, const cn_dataset_report *r)
{
    end_line(user);
    cli_report_print(stderr, r);
}

static void show_saved(void *user, const char *path)
{
    display *d = user;
    end_line(d);
    fprintf(stderr, "saved %s\n", path);
}

static void print_result(const request *r, const cn_train_result *result)
{
    if (r->json) {
        printf("{\"event\": \"done\", \"steps\": %lld, \"seconds\": %.3f, \"final_loss\": %.9g",
               (long long)result->steps, result->seconds, result->final_loss);
        if (result->has_agreement)
            printf(", \"agreement_with_control\": %.9g, \"agreement_without_control\": %.9g",
                   result->agreement_with_control, result->agreement_without_control);
        printf(", \"learned_at_step\": %lld, \"peak_resident_bytes\": %zu}\n",
               (long long)result->learned_at_step, result->peak_resident_bytes);
        return;
    }
    printf("%lld steps in %.1f s, %.2f GiB, loss %.4f", (long long)result->steps, result->seconds,
           cli_gib(result->peak_resident_bytes), result->final_loss);
    if (result->has_agreement)
        printf(", agreement %.3f with control, %.3f without", result->agreement_with_control,
               result->agreement_without_control);
    if (result->learned_at_step >= 0)
        printf(", control learned at step %lld", (long long)result->learned_at_step);
    else if (r->o.validation_steps)
        printf(", control not learned yet");
    putchar('\n');
}

/* Whether mpirun, or srun with PMIx, started several of us. */
static bool is_one_of_several(void)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size && getenv("PMIX_RANK")) size = getenv("SLURM_NTASKS");
    return size && strtol(size, NULL, 10) > 1;
}

/* A signal to one rank stops all, after a save. mpirun may not hand SIGUSR1 on, and after SIGTERM
 * and Ctrl-C it gives its processes a second, which saving may not do with. */
static void print_how_to_stop(void)
{
    char host[64] = "";
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMIX_RANK");
    if (!rank || strcmp(rank, "0") != 0) return;
    if (gethostname(host, sizeof host - 1) != 0) host[0] = 0;
    fprintf(stderr, "to save and stop: kill -USR1 %d (on %s)\n", (int)getpid(), host);
}

int cmd_train(int argc, char **argv)
{
    cli_parser p = {.command = "train",
                    .synopsis = "train -m MODEL --train-data-dir DIR --output-dir OUT [options]",
                    .about =
                        "OUT gets config.json and diffusion_pytorch_model.safetensors (diffusers) "
                        "and\ncontrol.safetensors (single-file names); base/ and "
                        "base.safetensors with --unlock.\nCtrl-C saves a checkpoint and "
                        "stops;\nSIGUSR1 does too, to one process of several as well.",
                    .options = options,
                    .n_options = (int)(sizeof options / sizeof options[0]),
                    .argc = argc,
                    .argv = argv};
    request r = {0};
    int status = CLI_DONE;
    if (!parse(&p, &r, &status)) return status;
    cn_ctx *ctx = cli_context_create("train", r.threads);
    if (!ctx) return CLI_FAILED;
    display d = {.terminal = isatty(STDERR_FILENO), .json = r.json, .dry_run = r.o.dry_run};
    cli_progress_init(&d.other, false);
    const cn_train_callbacks callbacks = {.user = &d,
                                          .progress = show_progress,
                                          .validated = show_validation,
                                          .saved = show_saved,
                                          .checked = show_checked,
                                          .planned = show_plan};
    r.o.distributed = is_one_of_several();
    if (r.o.distributed && !r.o.dry_run) print_how_to_stop();
    cn_train_result result;
    const cn_status s = cn_train(ctx, &r.o, &callbacks, &result);
    end_line(&d);
    if (s == CN_OK && !r.o.dry_run && !result.silent)
        print_result(&r, &result);
    else if (s != CN_OK) /* without a message another process tells */
        status = cn_error(ctx)[0] ? cli_failed(ctx, "train") : CLI_FAILED;
    cli_context_destroy(ctx);
    return status;
}
