/* SPDX-License-Identifier: Apache-2.0 */
/* train_options.c - the options of a training run: their table, and which don't go together.
 *
 * Names are those of diffusers' and kohya's training scripts.
 */
#include "base/option.h"
#include "data/buckets.h"
#include "data/loader.h"
#include "device/device.h"
#include "train/run_setup.h"
#include "train/phase.h"

#include <string.h>

/* No run comes near it; as a double it is exact. */
#define MANY 1e12

#define FIELD(member)       CN_FIELD(cn_train_options, member)
#define FIELD_OFF(member)   CN_FIELD_AS(CN_FIELD_OFF, cn_train_options, member)
#define FIELD_BYTES(member) CN_FIELD_AS(CN_FIELD_BYTES, cn_train_options, member)
#define WORDS(...)                 \
    .words = (const char *const[]) \
    {                              \
        __VA_ARGS__, NULL          \
    }

const cn_option cn_train_option_rows[] = {
    {.help = "Files"},
    {"model", 'm', "the base: diffusers folder or single file", FIELD(model), .arg = "MODEL",
     .also = "pretrained-model-name-or-path", .required = true},
    {"tokenizer", 0, "for a base without one: vocab.json and merges.txt, or tokenizer.json",
     FIELD(tokenizer), .arg = "DIR", .also = "tokenizer-name"},
    {"vae", 0,
     "a VAE instead of the base's own, or of one without: its file or folder, or a base model",
     FIELD(vae), .arg = "FILE|DIR"},
    {"controlnet-model-name-or-path", 0, "start from this control network, not from the base",
     FIELD(controlnet), .arg = "FILE|DIR"},
    {"train-data-dir", 0,
     "training pairs: prompt.json (Fill50K), metadata.jsonl or .csv (Hugging Face), twin folders "
     "(kohya), or tar shards (WebDataset: a folder of them, name-{000..099}.tar)",
     FIELD(train_data_dir), .arg = "DIR", .also = "dataset-name", .required = true},
    {"conditioning-data-dir", 0, "conditions with the pictures' stems; captions beside those",
     FIELD(conditioning_data_dir), .arg = "DIR"},
    {"image-column", 0, "of the list of pairs; in shards an ending", FIELD(image_column),
     .arg = "NAME", .unset = "image, or file_name"},
    {"conditioning-image-column", 0, NULL, FIELD(conditioning_image_column), .arg = "NAME",
     .unset = "conditioning_image; in shards cond.png"},
    {"caption-column", 0, NULL, FIELD(caption_column), .arg = "NAME",
     .unset = "text; in shards txt or json's key"},
    {"caption-extension", 0, "of twin folders", FIELD(caption_extension), .arg = ".EXT",
     .unset = ".txt, .caption", .also = "caption-extention"},
    {"output-dir", 'o', "gets the ControlNet, metrics.jsonl, validation/", FIELD(output_dir),
     .arg = "OUT", .required = true},

    {.help = "Run"},
    {"resolution", 0, "pictures are fitted to PX x PX", FIELD(resolution), 8, 8192, .preset = "512",
     .arg = "PX"},
    {"train-batch-size", 'b', "pairs per pass", FIELD(train_batch_size), 1, 65536, .preset = "4"},
    {"gradient-accumulation-steps", 0, "passes per step", FIELD(gradient_accumulation_steps), 1,
     1e6, .preset = "1"},
    {"max-train-steps", 0, "steps in all", FIELD(max_train_steps), 1, MANY,
     .unset = "by --num-train-epochs"},
    {"num-train-epochs", 0, NULL, FIELD(num_train_epochs), 1, 1e9,
     .unset = "1, or as --max-train-minutes allows", .also = "max-train-epochs"},
    {"max-train-minutes", 0,
     "end after this long, even with steps left; learning-rate schedules end then too",
     FIELD(max_train_minutes), 0.01, 1e7, .unset = "no limit", .arg = "M"},
    {"max-train-samples", 0, "train on the first N pairs alone", FIELD(max_train_samples), 1, MANY,
     .unset = "all"},
    {"proportion-empty-prompts", 0, "prompts left out", FIELD(proportion_empty_prompts), 0, 1,
     .preset = "0.5", .also = "caption-dropout-rate"},

    {.help = "What is trained"},
    {"control-kind", 0,
     "a ControlNet (whole, mid-sized or small), a Control-LoRA, ControlNet-LLLite, T2I-Adapter or "
     "ControlNet Union",
     FIELD(control_kind), .words = cn_trained_kind_words,
     .unset = "controlnet, or what the network to start from is"},
    {"control-type", 0, "what a union's conditions show: openpose, depth, canny, ...",
     FIELD(control_type), .arg = "TYPE"},
    {"network-dim", 0, "width of a new control-lora's (128) or lllite's (64) narrow layers",
     FIELD(network_dim), 1, 65536, .unset = "by kind"},
    {"cond-emb-dim", 0, "width of what an lllite's modules make of the condition",
     FIELD(cond_emb_dim), 2, 65536, .preset = "32"},

    {.help = "Pictures"},
    {"enable-bucket", 0,
     "keep about their proportions: sizes of --resolution's area, one in each pass",
     FIELD(enable_bucket)},
    CN_BUCKET_MIN_ROW(cn_train_options),
    CN_BUCKET_MAX_ROW(cn_train_options),
    CN_BUCKET_STEPS_ROW(cn_train_options, preset),
    CN_BUCKET_NO_UPSCALE_ROW(cn_train_options),
    {"center-crop", 0, "crop to the middle (default)", FIELD_OFF(random_crop)},
    {"random-crop", 0,
     "crop elsewhere each time, condition and picture alike; encodes pictures in their step",
     FIELD(random_crop)},
    {"random-flip", 0, "mirror every other sample, by chance", FIELD(random_flip),
     .also = "flip-aug"},
    {"conditioning-kind", 0,
     "what the conditions are (canny, depth, normal, ...), for --random-flip and validation",
     FIELD(conditioning_kind), .arg = "KIND", .unset = "told from the data"},

    {.help = "Captions that are lists of tags"},
    {"shuffle-caption", 0, "the tags in another order for each sample; encodes texts in their step",
     FIELD(shuffle_caption)},
    {"caption-tag-dropout-rate", 0, "leave tags out by chance", FIELD(caption_tag_dropout_rate), 0,
     1, .preset = "0"},
    {"keep-tokens", 0, "so many first tags always stay in place", FIELD(keep_tokens), 0, 65536,
     .preset = "0"},
    {"keep-tokens-separator", 0, "tags before it and behind a second one stay (\"|||\")",
     FIELD(keep_tokens_separator)},
    {"caption-separator", 0, "what is between tags", FIELD(caption_separator), .unset = ","},

    {.help = "Strategy and seed"},
    {"only-mid-control", 0, "connect the middle block alone (small-scale training)",
     FIELD(only_mid_control)},
    {"reconnect-after", 0, "the decoder's links join after N steps; 0: never",
     FIELD(reconnect_after), 0, MANY, .preset = "0"},
    {"unlock", 0, "train the base's UNet too, or its decoder", FIELD(unlock),
     .words = cn_unlock_words, .preset = "none"},
    {"unlock-after", 0, "but not before N steps", FIELD(unlock_after), 0, MANY, .preset = "0"},
    {"unlock-learning-rate", 0, "at this rate, the ControlNet at --learning-rate; 0: the same",
     FIELD(unlock_learning_rate), 0, 1e3, .preset = "0"},
    {"mixed-precision", 0,
     "bf16: products in bfloat16, trained weights in F32; fp16: in F16 on a --device, else as bf16 "
     "where it can be had",
     FIELD(mixed_precision), WORDS("no", "bf16", "fp16"), .preset = "no"},
    {"weight-type", 0,
     "how the base's locked weights are kept; q8: 8 bits, a quarter of f32, a little less exact; "
     "auto: as in its file, bf16 with that precision",
     FIELD(weight_type), WORDS("auto", "f32", "f16", "bf16", "q8"), .preset = "auto"},
    {"seed", 0, NULL, FIELD(seed), .preset = "0"},

    {.help = "Loss and noise"},
    {"loss-type", 0, NULL, FIELD(loss_type), .words = cn_objective_losses, .preset = "l2"},
    {"huber-schedule", 0, "of huber's and smooth_l1's c over the timesteps", FIELD(huber_schedule),
     .words = cn_objective_huber_schedules, .preset = "snr"},
    {"huber-c", 0, "where they turn linear, at much noise", FIELD(huber_c), 1e-6, 1,
     .preset = "0.1"},
    {"snr-gamma", 0, "min-SNR weighting of timesteps, 5 in its paper; 0: none", FIELD(snr_gamma), 0,
     1e6, .preset = "0", .also = "min-snr-gamma"},
    {"noise-offset", 0, "shift each channel's noise, by 0.05 for instance", FIELD(noise_offset), 0,
     10, .preset = "0"},
    {"prediction-type", 0, "what the base was trained to give", FIELD(prediction),
     .words = cn_prediction_words, .unset = "found out"},
    {"rescale-betas-zero-snr", 0, "make the last timestep noise alone",
     FIELD(rescale_betas_zero_snr), .also = "zero-terminal-snr"},
    {"min-timestep", 0, "draw timesteps from here", FIELD(min_timestep), 0, 1e5, .preset = "0",
     .arg = "T"},
    {"max-timestep", 0, "to below here", FIELD(max_timestep), 1, 1e5, .unset = "all", .arg = "T"},

    {.help = "Optimizer"},
    {"optimizer-type", 0,
     "AdamW8bit: the same as --use-8bit-adam; Muon: for weights of convolutions and linear layers, "
     "AdamW for the others; learns small networks in fewer steps, at the same or a higher rate",
     FIELD(optimizer_type), WORDS("AdamW", "AdamW8bit", "Muon"), .preset = "AdamW"},
    {"learning-rate", 0, NULL, FIELD(learning_rate), 0, 1e3, .preset = "5e-6"},
    {"scale-lr", 0, "times batch size, accumulation and processes", FIELD(scale_lr)},
    {"lr-scheduler", 0, NULL, FIELD(lr_scheduler), .words = cn_lr_words, .preset = "constant"},
    {"lr-warmup-steps", 0,
     "from 0 up to the learning rate; below 1: that part of the run; -1: 500, but at most a tenth "
     "of it; \"constant\" has none",
     FIELD(lr_warmup_steps), -1, MANY, .preset = "-1"},
    {"lr-decay-steps", 0,
     "of warmup_stable_decay: the last steps, in which the rate falls to 0; below 1: that part of "
     "the run",
     FIELD(lr_decay_steps), 0, MANY, .preset = "0.2"},
    {"lr-num-cycles", 0, "of cosine_with_restarts", FIELD(lr_num_cycles), 0, 1e6, .preset = "1",
     .also = "lr-scheduler-num-cycles"},
    {"lr-power", 0, "of polynomial", FIELD(lr_power), 0, 100, .preset = "1",
     .also = "lr-scheduler-power"},
    {"adam-beta1", 0, NULL, FIELD(adam_beta1), 0, 0.9999999, .preset = "0.9"},
    {"adam-beta2", 0, NULL, FIELD(adam_beta2), 0, 0.9999999, .preset = "0.999"},
    {"adam-epsilon", 0, NULL, FIELD(adam_epsilon), 0, 1, .preset = "1e-8"},
    {"adam-weight-decay", 0, NULL, FIELD(adam_weight_decay), 0, 100, .preset = "1e-2"},
    {"use-8bit-adam", 0, "moments in a byte each: a quarter of their memory", FIELD(use_8bit_adam)},
    {"max-grad-norm", 0, "clip the gradient's norm; 0: never", FIELD(max_grad_norm), 0, 1e30,
     .preset = "1"},
    {"use-ema", 0, "keep a mean of the weights over time, saved as OUT/ema", FIELD(use_ema)},
    {"ema-decay", 0, "share of the old mean, at most", FIELD(ema_decay), 0, 0.9999999,
     .preset = "0.9999"},

    {.help = "Checkpoints"},
    {"checkpointing-steps", 0, "steps between them; 0: none", FIELD(checkpointing_steps), 0, MANY,
     .preset = "500", .also = "save-every-n-steps"},
    {"checkpoints-total-limit", 0, "older ones are removed; 0: all are kept",
     FIELD(checkpoints_total_limit), 0, 1e9, .preset = "0"},
    {"overwrite", 0,
     "begin anew in an OUT that holds an earlier run: its checkpoints and drawings are removed",
     FIELD(overwrite)},
    {"resume-from-checkpoint", 0, "go on exactly where it stopped", FIELD(resume_from_checkpoint),
     .arg = "latest|DIR", .also = "resume"},

    {.help = "Validation: does it work yet?"},
    {"validation-steps", 0, "steps between them; 0: none, nothing is held out",
     FIELD(validation_steps), 0, MANY, .preset = "100", .also = "sample-every-n-steps"},
    {"validation-count", 0, "held-out pairs, from the data's end", FIELD(validation_count), 1, 1e4,
     .preset = "8"},
    {"validation-data-dir", 0, "held-out pairs of their own", FIELD(validation_data_dir),
     .arg = "DIR"},
    {"validation-annotator", 0,
     "turns drawings into conditions again, to compare them: none, canny, \"canny low=50 "
     "high=100\", depth, seg, openpose, ...",
     FIELD(validation_annotator), .arg = "KIND", .unset = "told from the data"},
    {"validation-annotator-model", 0,
     "its network's file, or a folder of them; may be given several times",
     FIELD(validation_annotator_weights), .arg = "WEIGHTS"},
    {"validation-image", 0, "a condition of your own, drawn each time too; several times",
     FIELD(validation_images), .arg = "FILE"},
    {"validation-prompt", 0, "its prompt: as many as images, or one for all",
     FIELD(validation_prompts), .arg = "TEXT"},
    {"validation-sampling-steps", 0, "of each drawing", FIELD(validation_sampling_steps), 1, 1000,
     .preset = "20"},
    {"validation-guidance-scale", 0, "of each drawing; 1: no guidance",
     FIELD(validation_guidance_scale), 0, 100, .preset = "7.5"},
    {"report-to", 0, "event files for TensorBoard in OUT/logs", FIELD(report_to),
     WORDS("none", "tensorboard"), .preset = "none", .also = "log-with"},

    {.help = "Encoded pictures and texts"},
    {"cache-dir", 0, "kept there; runs may share it", FIELD(cache_dir), .arg = "DIR"},
    {"no-cache-latents", 0, "encode each pass's pictures in their step", FIELD_OFF(cache_latents),
     .preset = "on"},
    {"no-cache-text", 0, "and its texts, where they are too many to be kept", FIELD_OFF(cache_text),
     .preset = "on"},

    {.help = "Machine"},
    CN_DEVICE_ROW(cn_train_options, device),
    {"dataloader-num-workers", 0, "threads that read ahead; 0: the step reads",
     FIELD(dataloader_num_workers), 0, CN_LOADER_MAX_WORKERS, .preset = "2",
     .also = "max-data-loader-n-workers"},
    {"skip-bad-data", 0, "name pairs that can't be read and go on without them",
     FIELD(skip_bad_data)},
    {"gradient-checkpointing", 0,
     "compute blocks again for the backward pass: less memory, more time",
     FIELD(gradient_checkpointing)},
    {"max-memory", 0,
     "fit into this, 8G for instance, by as much of that as needed; or say what would fit; of "
     "--device's memory, where that isn't the CPU",
     FIELD_BYTES(max_memory_bytes)},
    {"dry-run", 0, "look at the data, say what the run takes, memory and time; write nothing",
     FIELD(dry_run)},
    {0},
};

void cn_train_options_default(cn_train_options *o)
{
    *o = (cn_train_options){0};
    cn_options_preset(cn_train_option_rows, o);
}

/* --- what goes together ----------------------------------------------------------------------- */

static cn_status check_strategy(cn_ctx *ctx, const cn_train_options *o)
{
    cn_unlock unlock;
    CN_TRY(cn_unlock_find(ctx, o->unlock, &unlock));
    if (o->reconnect_after && !o->only_mid_control)
        return cn_fail(ctx, CN_EINVAL,
                       "--reconnect-after joins the links that --only-mid-control leaves out; give "
                       "both");
    if (o->unlock_after && unlock == CN_UNLOCK_NONE)
        return cn_fail(ctx, CN_EINVAL,
                       "--unlock-after says when, --unlock decoder or all what is trained; give "
                       "both");
    if (o->unlock_learning_rate > 0 && (unlock == CN_UNLOCK_NONE || !(o->learning_rate > 0)))
        return cn_fail(ctx, CN_EINVAL,
                       "--unlock-learning-rate is for a base that --unlock decoder or all trains "
                       "beside a ControlNet whose --learning-rate is above 0");
    return CN_OK;
}

bool cn_train_by_muon(const cn_train_options *o)
{
    return o->optimizer_type && strcmp(o->optimizer_type, "Muon") == 0;
}

static cn_status check_optimizer(cn_ctx *ctx, const cn_train_options *o)
{
    if (cn_train_by_muon(o) && o->use_8bit_adam)
        return cn_fail(ctx, CN_EINVAL,
                       "--use-8bit-adam doesn't go with --optimizer-type Muon, whose one moment is "
                       "kept in F32");
    return CN_OK;
}

/* Sizes and crops of pictures. */
static cn_status check_pictures(cn_ctx *ctx, const cn_train_options *o)
{
    if (o->random_crop && o->cache_latents)
        return cn_fail(ctx, CN_EINVAL,
                       "--random-crop shows another part of a picture every time, so its latents "
                       "can't be cached; --no-cache-latents encodes them in their step");
    return cn_bucket_options_check(ctx, o);
}

cn_tag_rules cn_train_tag_rules(const cn_train_options *o)
{
    return (cn_tag_rules){.shuffle = o->shuffle_caption,
                          .dropout = o->caption_tag_dropout_rate,
                          .keep = o->keep_tokens,
                          .keep_separator = o->keep_tokens_separator,
                          .separator = o->caption_separator ? o->caption_separator : ","};
}

bool cn_train_encodes(const cn_train_options *o)
{
    return !o->cache_latents || !o->cache_text;
}

static cn_status check_captions(cn_ctx *ctx, const cn_train_options *o)
{
    const cn_tag_rules r = cn_train_tag_rules(o);
    const bool vary = cn_tags_vary(&r);
    if (!vary && (o->keep_tokens || o->keep_tokens_separator || o->caption_separator))
        return cn_fail(ctx, CN_EINVAL,
                       "--keep-tokens, --keep-tokens-separator and --caption-separator say what "
                       "--shuffle-caption and --caption-tag-dropout-rate do to tags; give one of "
                       "these two");
    if (!r.separator[0])
        return cn_fail(ctx, CN_EINVAL, "--caption-separator is empty; a comma is usual");
    if (vary && o->cache_text)
        return cn_fail(ctx, CN_EINVAL,
                       "--shuffle-caption and --caption-tag-dropout-rate make another text every "
                       "time, which can't be cached; --no-cache-text encodes texts in their step");
    return CN_OK;
}

cn_status cn_train_options_check(cn_ctx *ctx, const cn_train_options *o)
{
    CN_TRY(cn_options_check(ctx, cn_train_option_rows, o));
    if (!*o->output_dir) return cn_fail(ctx, CN_EINVAL, "--output-dir: a folder is expected");
    CN_TRY(check_strategy(ctx, o));
    CN_TRY(check_optimizer(ctx, o));
    CN_TRY(check_pictures(ctx, o));
    return check_captions(ctx, o);
}
