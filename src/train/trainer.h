/* SPDX-License-Identifier: Apache-2.0 */
/* trainer.h - the parts of a run, shared by setup (train.c), data (feed.c), loop (loop.c) and
 * validation (validate.c).
 *
 * Order of creation is order of need: files are checked before networks are built, networks are
 * planned (so memory is known) before the data set is encoded, and nothing but output_dir is
 * written before the first step.
 */
#ifndef CN_TRAIN_TRAINER_H
#define CN_TRAIN_TRAINER_H

#include "base/lock.h"
#include "annotate/annotate.h"
#include "diffuse/sampling.h"
#include "train/checkpoint.h"
#include "data/encode.h"
#include "data/loader.h"
#include "train/lr.h"
#include "eval/metrics.h"
#include "eval/validate.h"
#include "train/phase.h"
#include "train/stepgraph.h"

/* Behind which step of a run a parameter's gradient is final. */
typedef struct cn_gradient_ready {
    int step;
    int64_t param;
} cn_gradient_ready;

/* The steps of a run, one for each size of its pictures. */
typedef struct cn_sizes {
    int n;
    cn_stepgraph **steps; /* [n] */
    cn_encoder *encoders; /* [n] of pictures that aren't cached; NULL */
    cn_encoder text;      /* of texts that aren't; empty */
    const float ***grads; /* [n] where each step's gradients of `trained` lie */
    cn_param **trained;   /* [n_trained] */
    int64_t n_trained;
    size_t arena_bytes; /* which all of them share */
} cn_sizes;

/* What --validation-image and --validation-prompt want drawn. */
typedef struct cn_validation_prompts {
    cn_dataset *data; /* NULL: nothing */
    cn_buckets *sizes;
    cn_prompt_list *prompts;
    cn_cache *cache; /* of the prompts alone */
} cn_validation_prompts;

typedef struct cn_trainer {
    cn_ctx *ctx;
    cn_ctx *save_ctx; /* never cancelled: a save that has begun is finished */
    cn_backend *be;
    cn_ranks *ranks; /* NULL: one process */
    /* ranks that were asked to stop when the last step's losses were added up; the sum of their
     * numbers: which one it was, where it was one alone */
    int stop_requests;
    int stop_rank;
    cn_train_options o;
    cn_train_callbacks callbacks;
    /* files */
    cn_base *base;
    cn_control_file *start;           /* NULL: from the base's encoder */
    cn_dataset *data, *held_data;     /* held_data NULL: the last n_held items of data */
    cn_dataset train_view, held_view; /* data's parts; held_data may be the latter */
    int64_t n_train, n_held;
    cn_buckets *buckets;    /* of the n_train pictures */
    cn_buckets *held_sizes; /* of held_data's, one size */
    cn_prompter *prompter;
    cn_prompt_list *prompts, *held_prompts; /* prompts NULL: texts are encoded in their step */
    cn_validation_prompts own;              /* the user's own conditions */
    cn_mirror mirror;                       /* what --random-flip does to conditions */
    cn_comparison comparison;               /* of drawings and conditions */
    /* networks */
    cn_controlnet_config config;
    cn_params *unet, *control;
    cn_phase phase; /* what is trained now */
    /* Of pictures and texts that are encoded in their step; NULL. */
    cn_params *vae, *text[CN_MAX_TEXT_ENCODERS];
    cn_sizes sizes;     /* of this phase */
    cn_stepgraph *step; /* of the size at hand */
    cn_train_plan plan;
    double validation_flops; /* of one validation with control, 0: there is none */
    const float **grads;     /* of adamw's parameters, by `step` */
    cn_adamw *adamw;
    /* what a step is fed */
    cn_schedule *schedule;
    cn_objective objective;
    cn_cache *cache, *held_cache; /* held_cache may be cache */
    int64_t held_first;           /* first held-out item in held_cache */
    cn_loader *loader;
    cn_batcher *mixer; /* of passes whose pictures are encoded in their step */
    cn_lr lr;
    int64_t total_steps;
    /* progress */
    cn_train_state state;
    cn_dir_lock *lock; /* of output_dir; NULL: a dry run, or another rank holds it */
    cn_metrics *metrics;
    cn_validator *validator;  /* NULL: no validation */
    cn_batcher *held_batcher; /* of its pairs */
    double recent_loss[100], recent_seconds[100], recent_wait[100], recent_encode[100];
    double waited, encoded; /* seconds that this step waited for its data, that it encoded pictures
                               and texts */
    int64_t n_recent;
    char resume_path[4096]; /* "" : from the start */
    int64_t saved_step;     /* of the last checkpoint, 0: none */
    /* several processes: gradients in the order in which they become final */
    cn_gradient_ready *turns;
    int64_t n_ready, next_ready;
    bool last_pass;       /* of a step: its gradients may be taken */
    char cache_dir[4096]; /* when none was given */
    cn_train_result result;
} cn_trainer;

/* --- train_options.c -------------------------------------------------------------------------- */

/* CN_EINVAL for a value that is out of its range, and for options that don't go together. */
cn_status cn_train_options_check(cn_ctx *ctx, const cn_train_options *o) CN_CHECKED;
/* What is done to captions that are lists of tags. */
cn_tag_rules cn_train_tag_rules(const cn_train_options *o);

/* --- feed.c ----------------------------------------------------------------------------------- */

/* Where training pairs are. */
cn_dataset_options cn_trainer_data_options(const cn_trainer *t);
/* Opens the data sets and decides what is held out. */
cn_status cn_trainer_open_data(cn_trainer *t) CN_CHECKED;
/* Encodes what is to be encoded before the first step. */
cn_status cn_trainer_encode_data(cn_trainer *t) CN_CHECKED;
/* Starts the threads that make passes ready, from state.samples on. */
cn_status cn_trainer_start_loader(cn_trainer *t) CN_CHECKED;
/* Memory of those passes and of validation's. */
size_t cn_trainer_loader_bytes(const cn_trainer *t, const cn_train_options *o);
/* How validation's batcher gets held-out pairs. */
cn_batcher_options cn_trainer_held_options(const cn_trainer *t);
/* The caches' options: sizes, limits, where they tell their progress; of held_data when there is
 * one. */
cn_cache_options cn_trainer_cache_options(cn_trainer *t);
cn_cache_options cn_trainer_held_cache_options(cn_trainer *t);
cn_cache_options cn_trainer_prompts_cache_options(cn_trainer *t);
/* What the cache is of: all pairs, or those that aren't held out. */
const cn_dataset *cn_trainer_cached_data(const cn_trainer *t);

/* How many pictures a validation draws: those held out, then those given. */
int64_t cn_trainer_drawings(const cn_trainer *t);

/* --- sizes.c ---------------------------------------------------------------------------------- */

/* Plans the steps of a phase over parameter sets that stay the caller's. */
cn_status cn_sizes_create(cn_trainer *t, const cn_train_options *o, cn_phase phase, int recomputed,
                          cn_params *unet, cn_params *control, cn_sizes *out) CN_CHECKED;
void cn_sizes_destroy(cn_sizes *z);
/* How much of the run's passes are of this size; operations of one, its encoding counted in. */
double cn_sizes_share(const cn_trainer *t, int bucket);
double cn_sizes_flops(const cn_sizes *z, int bucket);
/* Whether pictures or texts are encoded in their step. */
bool cn_trainer_encodes(const cn_trainer *t);
/* The step of this size becomes t->step. */
cn_status cn_trainer_use_size(cn_trainer *t, int bucket) CN_CHECKED;
/* Encodes a pass's pictures, if it has them, and mixes their latents with noise; encodes its texts,
 * if it has tokens. */
cn_status cn_trainer_encode_pass(cn_trainer *t, cn_pass *p) CN_CHECKED;

/* --- memory.c --------------------------------------------------------------------------------- */

cn_adamw_options cn_trainer_adamw_options(const cn_trainer *t, const cn_train_options *o);
/* What validation measures held-out loss with; gradients and loss aside as the step. */
cn_stepgraph_options cn_trainer_measure_options(const cn_trainer *t, const cn_stepgraph *step);
/* Declares the networks and plans every phase so that the run fits max_memory_bytes: t->unet,
 * control, sizes (of t->phase), plan. CN_ENOMEM when nothing fits, with what would. Weights come
 * later. */
cn_status cn_trainer_plan(cn_trainer *t) CN_CHECKED;

/* --- enter.c ---------------------------------------------------------------------------------- */

/* The optimizer over what the step trains, taking over what `before` (NULL: none) has. */
cn_status cn_trainer_create_optimizer(cn_trainer *t, cn_adamw *before) CN_CHECKED;
/* Makes graph and optimizer anew for the phase that begins; moments of what goes on are kept. */
cn_status cn_trainer_switch_phase(cn_trainer *t, cn_phase phase) CN_CHECKED;

/* --- foretell.c ------------------------------------------------------------------------------- */

/* Looks the data over and tells callbacks.checked; CN_EFORMAT when pairs can't be used and must
 * be. */
cn_status cn_trainer_lint(cn_trainer *t) CN_CHECKED;
/* plan.encoding_seconds, from a few pairs. */
cn_status cn_trainer_time_encoding(cn_trainer *t) CN_CHECKED;
/* plan.validation_seconds, from plan.step_seconds. */
void cn_trainer_time_validations(cn_trainer *t);

/* --- together.c ------------------------------------------------------------------------------- */

/* Joins the other processes of a distributed run. */
cn_status cn_trainer_join(cn_trainer *t) CN_CHECKED;
/* Leaves them; a failure's message is kept where it is to be told. */
void cn_trainer_part(cn_trainer *t, cn_status s);
/* Lets the ranks add up the gradients of the optimizer's parameters while the step runs. */
cn_status cn_trainer_follow(cn_trainer *t, cn_param *const *params, int64_t n) CN_CHECKED;
/* Samples that a pass takes, of all ranks; that an optimizer step takes. */
int64_t cn_trainer_unit(const cn_trainer *t);
int64_t cn_trainer_images(const cn_trainer *t);

/* --- loop.c ----------------------------------------------------------------------------------- */

/* From state.step to total_steps, with validations and checkpoints. CN_ECANCELLED after cn_cancel,
 * with the last whole step saved. */
cn_status cn_trainer_loop(cn_trainer *t) CN_CHECKED;
/* For saving: its context is save_ctx, so a failure goes through cn_trainer_saved. */
cn_checkpoint cn_trainer_checkpoint(cn_trainer *t);
/* Puts a failed save's message into the run's context; tells the callback of one that worked. */
cn_status cn_trainer_saved(cn_trainer *t, cn_status status, const char *path) CN_CHECKED;
/* Seconds of an optimizer step of every phase, measured on noise, to t->plan; weights and optimizer
 * are of no use afterwards. */
cn_status cn_trainer_time_run(cn_trainer *t) CN_CHECKED;
double cn_trainer_mean_loss(const cn_trainer *t);
/* Says how far a stage other than training is. */
void cn_trainer_report_stage(const cn_trainer *t, const char *stage, int64_t done, int64_t total);

/* --- held_out.c ------------------------------------------------------------------------------- */

/* How a held-out condition is drawn with these networks; control NULL: by the base alone. */
cn_draw_spec cn_trainer_draw_spec(const cn_trainer *t, cn_params *unet, cn_params *control);
/* The VAE's decoder for drawings of the run's size, without its values (cn_base_load). Both are to
 * be destroyed, after a failure too. */
cn_status cn_trainer_decode_create(const cn_trainer *t, cn_params **vae,
                                   cn_decode **out) CN_CHECKED;
/* The validator over the held-out pairs and the user's own conditions. */
cn_status cn_trainer_create_validator(cn_trainer *t) CN_CHECKED;
/* A validation at this step, with the mean of the weights where one is kept. */
cn_status cn_trainer_validate(cn_trainer *t) CN_CHECKED;

#endif
