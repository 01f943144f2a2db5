/* SPDX-License-Identifier: Apache-2.0 */
/* cli_train_foreign.c - options of diffusers' train_controlnet.py (and its Flax twin), of kohya's
 * train_controlnet.py and of accelerate's launcher that have no effect here or can't be had.
 *
 * Those that mean the same as an option of ours are its other names (train_options.c). What changes
 * neither the result nor how it is used is taken, so that a command can be copied; what would
 * change the result stays unknown, or is refused with what to do instead.
 */
#include "cli/cli_train.h"

#define SWITCH     .type = CN_FIELD_ON
#define ONE_VALUE  .type = CN_FIELD_TEXT
#define ALL_VALUES .type = CN_FIELD_LIST

const cn_option train_idle_rows[] = {
    /* attention, compilation and numbers of a GPU */
    {"enable-xformers-memory-efficient-attention", SWITCH},
    {"xformers", SWITCH},
    {"sdpa", SWITCH},
    {"mem-eff-attn", SWITCH},
    {"allow-tf32", SWITCH},
    {"set-grads-to-none", SWITCH},
    {"torch-compile", SWITCH},
    {"dynamo-backend", ONE_VALUE},
    {"ccache", ONE_VALUE},
    {"lowram", SWITCH},
    {"highvram", SWITCH},
    {"vae-batch-size", ONE_VALUE},
    {"full-fp16", SWITCH},
    {"full-bf16", SWITCH},
    {"fp8-base", SWITCH},
    /* the Hub, and how its models and data sets are found */
    {"push-to-hub", SWITCH},
    {"hub-token", ONE_VALUE},
    {"hub-model-id", ONE_VALUE},
    {"revision", ONE_VALUE},
    {"controlnet-revision", ONE_VALUE},
    {"variant", ONE_VALUE},
    {"from-pt", SWITCH},
    {"controlnet-from-pt", SWITCH},
    {"dataset-config-name", ONE_VALUE},
    {"streaming", SWITCH},
    {"tokenizer-cache-dir", ONE_VALUE},
    {"huggingface-repo-id", ONE_VALUE},
    {"huggingface-repo-type", ONE_VALUE},
    {"huggingface-path-in-repo", ONE_VALUE},
    {"huggingface-token", ONE_VALUE},
    {"huggingface-repo-visibility", ONE_VALUE},
    {"save-state-to-huggingface", SWITCH},
    {"async-upload", SWITCH},
    /* what is told, and where */
    {"tracker-project-name", ONE_VALUE},
    {"wandb-entity", ONE_VALUE},
    {"wandb-run-name", ONE_VALUE},
    {"wandb-api-key", ONE_VALUE},
    {"logging-dir", ONE_VALUE},
    {"logging-steps", ONE_VALUE},
    {"log-prefix", ONE_VALUE},
    {"log-tracker-name", ONE_VALUE},
    {"log-tracker-config", ONE_VALUE},
    {"log-config", SWITCH},
    {"console-log-level", ONE_VALUE},
    {"console-log-file", ONE_VALUE},
    {"console-log-simple", SWITCH},
    {"profile-steps", ONE_VALUE},
    {"profile-validation", SWITCH},
    {"profile-memory", SWITCH},
    /* the form and the rhythm of what is saved and drawn */
    {"output-name", ONE_VALUE},
    {"save-model-as", ONE_VALUE},
    {"save-precision", ONE_VALUE},
    {"save-every-n-epochs", ONE_VALUE},
    {"save-n-epoch-ratio", ONE_VALUE},
    {"save-last-n-epochs", ONE_VALUE},
    {"save-last-n-epochs-state", ONE_VALUE},
    {"save-last-n-steps", ONE_VALUE},
    {"save-last-n-steps-state", ONE_VALUE},
    {"save-state", SWITCH},
    {"save-state-on-train-end", SWITCH},
    {"num-validation-images", ONE_VALUE},
    {"sample-every-n-epochs", ONE_VALUE},
    {"sample-at-first", SWITCH},
    {"sample-prompts", ONE_VALUE},
    {"sample-sampler", ONE_VALUE},
    /* what is found out: SD 2 by its tensors */
    {"v2", SWITCH},
    /* data loading */
    {"persistent-data-loader-workers", SWITCH},
    {"cache-info", SWITCH},
    {"skip-cache-check", SWITCH},
    {"prior-loss-weight", ONE_VALUE}, /* of regularisation images, which a ControlNet has none of */
    /* how accelerate and torch run several processes */
    {"num-cpu-threads-per-process", ONE_VALUE},
    {"num-processes", ONE_VALUE},
    {"num-machines", ONE_VALUE},
    {"multi-gpu", SWITCH},
    {"gpu-ids", ONE_VALUE},
    {"local-rank", ONE_VALUE},
    {"ddp-timeout", ONE_VALUE},
    {"ddp-gradient-as-bucket-view", SWITCH},
    {"ddp-static-graph", SWITCH},
    {"deepspeed", SWITCH},
    {"zero-stage", ONE_VALUE},
    {"offload-optimizer-device", ONE_VALUE},
    {"offload-optimizer-nvme-path", ONE_VALUE},
    {"offload-param-device", ONE_VALUE},
    {"offload-param-nvme-path", ONE_VALUE},
    {"zero3-init-flag", SWITCH},
    {"zero3-save-16bit-model", SWITCH},
    {"fp16-master-weights-and-gradients", SWITCH},
    {0},
};

const cn_option train_refused_rows[] = {
    {"dataset-config",
     .help = "TOML files aren't read; --train-data-dir and --conditioning-data-dir "
             "name the folders, --resolution, --train-batch-size, "
             "--enable-bucket and --shuffle-caption say the rest",
     ONE_VALUE},
    {"config-file", .help = "TOML files aren't read; give its lines as options", ONE_VALUE},
    {"resume-from-huggingface",
     .help = "nothing is downloaded; --resume-from-checkpoint names a "
             "folder",
     SWITCH},
    {"load-from-disk", .help = "Arrow files aren't read; docs/training.md lists the layouts",
     SWITCH},
    {"optimizer-args",
     .help = "--adam-weight-decay, --adam-beta1, --adam-beta2 and --adam-epsilon "
             "say the same",
     ALL_VALUES},
    {"use-lion-optimizer", .help = "--optimizer-type has AdamW, AdamW8bit and Muon", SWITCH},
    {0},
};

const cli_idle_value train_idle_values[] = {
    {"report-to", "wandb", "none"},
    {"report-to", "comet_ml", "none"},
    {"report-to", "all", "tensorboard"},
    {0},
};
