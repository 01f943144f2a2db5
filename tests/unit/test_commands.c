/* SPDX-License-Identifier: Apache-2.0 */
/* test_commands.c - commands of other programs' training scripts, as their documentation shows
 * them, run as dry runs of `controlnet train`: every option is taken. Further, what the help lists.
 *
 * Words in capitals stand for paths, PX for a resolution that takes no time. Each row is one
 * command's options behind the name of its script.
 */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { RUN_SECONDS = 120, MOST_WORDS = 48 };

static char program[PATH_MAX], first[256], second[256];

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0 || !test_find_controlnet(NULL, program)) return -1;
    snprintf(first, sizeof first, "%s/source/0.png", scenes);
    snprintf(second, sizeof second, "%s/source/1.png", scenes);
    return 0;
}

typedef struct command {
    const char *words[MOST_WORDS];
    const char *note; /* what is said to be without effect; NULL: nothing */
    const char *also; /* what is said besides; NULL */
} command;

/* What diffusers' commands have in common. */
#define MODEL_AND_OUT "--pretrained_model_name_or_path=MODEL", "--output_dir=OUT"
#define IMAGES_AND_PROMPTS                                             \
    "--validation_image", "IMAGE_1", "IMAGE_2", "--validation_prompt", \
        "red circle with blue background",                             \
        "cyan circle with brown floral "                               \
        "background"
#define DATA_BY_NAME MODEL_AND_OUT, "--dataset_name=DATA", "--resolution=PX"

static const command commands[] = {
    /* diffusers, examples/controlnet/README.md */
    {{DATA_BY_NAME, "--learning_rate=1e-5", IMAGES_AND_PROMPTS, "--train_batch_size=4"},
     NULL,
     NULL},
    {{DATA_BY_NAME, "--learning_rate=1e-5", IMAGES_AND_PROMPTS, "--train_batch_size=4",
      "--report_to", "wandb"},
     "--report-to wandb",
     NULL},
    {{DATA_BY_NAME, "--learning_rate=1e-5", IMAGES_AND_PROMPTS, "--train_batch_size=1",
      "--gradient_accumulation_steps=4"},
     NULL,
     NULL},
    {{DATA_BY_NAME, "--learning_rate=1e-5", IMAGES_AND_PROMPTS, "--train_batch_size=1",
      "--gradient_accumulation_steps=4", "--gradient_checkpointing", "--use_8bit_adam"},
     NULL,
     NULL},
    {{DATA_BY_NAME, "--learning_rate=1e-5", IMAGES_AND_PROMPTS, "--train_batch_size=1",
      "--gradient_accumulation_steps=4", "--gradient_checkpointing", "--use_8bit_adam",
      "--enable_xformers_memory_efficient_attention", "--set_grads_to_none"},
     "--enable-xformers-memory-efficient-attention, --set-grads-to-none",
     NULL},
    {{DATA_BY_NAME, IMAGES_AND_PROMPTS, "--train_batch_size=1", "--gradient_accumulation_steps=4",
      "--gradient_checkpointing", "--enable_xformers_memory_efficient_attention",
      "--set_grads_to_none", "--mixed_precision", "fp16"},
     "--enable-xformers-memory-efficient-attention, --set-grads-to-none",
     "--mixed-precision fp16: "},
    /* its Flax commands */
    {{DATA_BY_NAME, "--learning_rate=1e-5", IMAGES_AND_PROMPTS, "--validation_steps=1000",
      "--train_batch_size=2", "--revision=non-ema", "--from_pt", "--report_to=wandb",
      "--tracker_project_name=NAME", "--num_train_epochs=11", "--push_to_hub",
      "--hub_model_id=NAME"},
     "--revision, --from-pt, --report-to wandb, --tracker-project-name, --push-to-hub, "
     "--hub-model-id",
     NULL},
    {{MODEL_AND_OUT, "--dataset_name=DATA", "--streaming", "--conditioning_image_column=source",
      "--image_column=target", "--caption_column=prompt", "--resolution=PX", "--max_train_samples",
      "9", "--learning_rate=1e-5", "--train_batch_size=1", "--revision=flax", "--report_to=wandb",
      "--tracker_project_name=NAME", "--snr_gamma=5.0", "--checkpointing_steps=500"},
     "--streaming, --revision, --report-to wandb, --tracker-project-name",
     NULL},
    /* diffusers, docs/source/en/training/controlnet.md: several processes, the launcher's too */
    {{"--mixed_precision=fp16", "--multi_gpu", DATA_BY_NAME, "--learning_rate=1e-5",
      IMAGES_AND_PROMPTS, "--train_batch_size=4", "--mixed_precision=fp16",
      "--tracker_project_name=controlnet-demo", "--report_to=wandb", "--push_to_hub"},
     "--multi-gpu, --tracker-project-name, --report-to wandb, --push-to-hub",
     "--mixed-precision fp16: "},
    /* every other option of train_controlnet.py */
    {{MODEL_AND_OUT,
      "--train_data_dir",
      "DATA",
      "--revision",
      "main",
      "--variant",
      "fp16",
      "--seed",
      "0",
      "--resolution",
      "PX",
      "--num_train_epochs",
      "2",
      "--max_train_steps",
      "20",
      "--checkpoints_total_limit",
      "3",
      "--scale_lr",
      "--lr_scheduler",
      "cosine",
      "--lr_warmup_steps",
      "0",
      "--lr_num_cycles",
      "1",
      "--lr_power",
      "1.0",
      "--dataloader_num_workers",
      "2",
      "--hub_token",
      "t",
      "--logging_dir",
      "logs",
      "--allow_tf32",
      "--report_to",
      "all",
      "--dataset_config_name",
      "default",
      "--proportion_empty_prompts",
      "0",
      "--num_validation_images",
      "4",
      "--cache_dir",
      "CACHE"},
     "--revision, --variant, --hub-token, --logging-dir, --allow-tf32, --report-to all, "
     "--dataset-config-name, --num-validation-images",
     "--scale-lr: learning rate 2e-05 for 4 samples a step"},
    /* kohya's train_controlnet.py */
    {{"--num_cpu_threads_per_process",
      "1",
      "--pretrained_model_name_or_path=MODEL",
      "--train_data_dir=TARGETS",
      "--conditioning_data_dir=SOURCES",
      "--output_dir=OUT",
      "--output_name=circles",
      "--save_model_as=safetensors",
      "--resolution=PX,PX",
      "--train_batch_size=2",
      "--learning_rate=1e-5",
      "--max_train_epochs=2",
      "--xformers",
      "--cache_latents",
      "--mixed_precision=fp16",
      "--save_every_n_epochs=1",
      "--seed=42",
      "--optimizer_type=AdamW8bit",
      "--lr_scheduler=cosine",
      "--caption_extension=.txt"},
     "--num-cpu-threads-per-process, --output-name, --save-model-as, --xformers, "
     "--save-every-n-epochs",
     "--mixed-precision fp16: "},
    {{"--pretrained_model_name_or_path=MODEL",
      "--train_data_dir=TARGETS",
      "--conditioning_data_dir=SOURCES",
      "--output_dir=OUT",
      "--resolution=PX",
      "--enable_bucket",
      "--min_bucket_reso=8",
      "--max_bucket_reso=32",
      "--bucket_reso_steps=8",
      "--bucket_no_upscale",
      "--sdpa",
      "--logging_dir=logs",
      "--log_with=tensorboard",
      "--save_every_n_steps=200",
      "--save_precision=fp16",
      "--max_train_steps=20",
      "--max_data_loader_n_workers=1",
      "--persistent_data_loader_workers",
      "--lr_scheduler=polynomial",
      "--lr_scheduler_power=2",
      "--lr_scheduler_num_cycles=1",
      "--lr_warmup_steps=5",
      "--max_grad_norm=1.0",
      "--min_snr_gamma=5",
      "--noise_offset=0.05",
      "--loss_type=huber",
      "--huber_c=0.1",
      "--caption_dropout_rate=0.1",
      "--save_state",
      "--sample_every_n_steps=100",
      "--sample_sampler=ddim",
      "--vae_batch_size=1",
      "--v2"},
     "--sdpa, --logging-dir, --save-precision, --persistent-data-loader-workers, --save-state, "
     "--sample-sampler, --vae-batch-size, --v2",
     NULL},
};

/* A word with what its capitals stand for. */
static void fill_in(const char *word, char out[512])
{
    char side[8], targets[300], sources[300], output[300], cache[300];
    snprintf(side, sizeof side, "%d", TINY_PX);
    snprintf(targets, sizeof targets, "%s/target", scenes);
    snprintf(sources, sizeof sources, "%s/source", scenes);
    snprintf(output, sizeof output, "%s/out", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    const char *const places[][2] = {
        {"MODEL", model},     {"OUT", output},      {"DATA", scenes},   {"CACHE", cache},
        {"TARGETS", targets}, {"SOURCES", sources}, {"IMAGE_1", first}, {"IMAGE_2", second},
        {"PX,PX", "16,16"},   {"PX", side},
    };
    const char *equals = strchr(word, '=');
    const char *value = equals ? equals + 1 : word;
    for (size_t i = 0; i < CN_COUNT(places); i++)
        if (strcmp(value, places[i][0]) == 0) value = places[i][1];
    snprintf(out, 512, "%.*s%s", equals ? (int)(equals + 1 - word) : 0, word, value);
}

/* Its exit status and what it says. */
static int run(const command *c, char *said, size_t size)
{
    static char words[MOST_WORDS][512];
    char *argv[MOST_WORDS + 6] = {program, "train", "--dry-run", "--threads=1"};
    int n = 4, ends[2];
    for (int i = 0; i < MOST_WORDS && c->words[i]; i++) {
        fill_in(c->words[i], words[i]);
        argv[n++] = words[i];
    }
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    assert_true(pid > 0);
    const int status = test_read(pid, ends[0], RUN_SECONDS, said, size);
    close(ends[0]);
    return status;
}

static void check(size_t i)
{
    static const char mark[] = "note: without effect here: ";
    char said[16384], note[512] = "";
    const command *c = &commands[i];
    const int status = run(c, said, sizeof said);
    if (status != 0) fail_msg("command %zu: exit status %d\n%s", i, status, said);
    const char *at = strstr(said, mark);
    if (at) sscanf(at + strlen(mark), "%511[^\n]", note);
    if (strcmp(note, c->note ? c->note : "") != 0) fail_msg("command %zu noted: %s", i, note);
    if (at && strstr(at + 1, mark)) fail_msg("command %zu noted twice", i);
    if (c->also && !strstr(said, c->also)) fail_msg("command %zu said:\n%s", i, said);
}

static void diffusers_commands_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i + 2 < CN_COUNT(commands); i++) check(i);
}

/* Pictures and their captions stand beside each other in kohya's folders. */
static void kohyas_commands_are_taken(void **state)
{
    char path[300];
    (void)state;
    for (int i = 0; i < 16; i++) {
        snprintf(path, sizeof path, "%s/target/%d.txt", scenes, i);
        must(cn_file_write(ctx, path, "a circle", 8));
    }
    for (size_t i = CN_COUNT(commands) - 2; i < CN_COUNT(commands); i++) check(i);
}

/* What is listed is what there is: both follow from one table. */
static void help_lists_every_sampler(void **state)
{
    char *argv[] = {program, "generate", "--help", NULL};
    static const struct {
        const char *option;
        const char *(*name_at)(int i);
    } lists[] = {{"--sampling-method NAME", cn_generate_sampler},
                 {"--scheduler NAME", cn_generate_scheduler}};
    char said[32768], want[512];
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    assert_int_equal(test_read(pid, ends[0], RUN_SECONDS, said, sizeof said), 0);
    close(ends[0]);
    for (char *at = said; *at; at++) /* lines are wrapped */
        while (isspace((unsigned char)at[0]) && isspace((unsigned char)at[1]))
            memmove(at, at + 1, strlen(at));
    for (char *at = said; *at; at++)
        if (*at == '\n') *at = ' ';
    for (size_t i = 0; i < CN_COUNT(lists); i++) {
        size_t n = (size_t)snprintf(want, sizeof want, "%s ", lists[i].option);
        for (int k = 0; lists[i].name_at(k); k++)
            n += (size_t)snprintf(want + n, sizeof want - n, "%s%s",
                                  !k                        ? ""
                                  : lists[i].name_at(k + 1) ? ", "
                                                            : " or ",
                                  lists[i].name_at(k));
        if (!strstr(said, want)) fail_msg("not in the help: %s", want);
    }
}

/* What would change the result and can't be had isn't passed over. */
static void what_cannot_be_had_is_refused(void **state)
{
    static const struct {
        command c;
        const char *why;
    } refused[] = {
        {{{DATA_BY_NAME, "--dataset_config=data.toml"}, NULL, NULL}, "TOML files aren't read"},
        {{{DATA_BY_NAME, "--optimizer_type=Lion"}, NULL, NULL}, "must be AdamW, AdamW8bit or Muon"},
        {{{DATA_BY_NAME, "--optimizer_args", "weight_decay=0.01", "betas=.9,.99"}, NULL, NULL},
         "--adam-weight-decay"},
        {{{DATA_BY_NAME, "--mixed_precision=fp8"}, NULL, NULL}, "must be no, bf16 or fp16"},
        {{{DATA_BY_NAME, "--masked_loss"}, NULL, NULL}, "unknown option --masked-loss"},
        {{{MODEL_AND_OUT, "--dataset_name=DATA", "--resolution=16,24"}, NULL, NULL},
         "--resolution 16,24: must be a whole number"},
    };
    char said[4096];
    (void)state;
    for (size_t i = 0; i < CN_COUNT(refused); i++) {
        assert_int_equal(run(&refused[i].c, said, sizeof said), 2);
        if (!strstr(said, refused[i].why)) fail_msg("%zu: %s", i, said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(diffusers_commands_are_taken),
        cmocka_unit_test(kohyas_commands_are_taken),
        cmocka_unit_test(what_cannot_be_had_is_refused),
        cmocka_unit_test(help_lists_every_sampler),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
