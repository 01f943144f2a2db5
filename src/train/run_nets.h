/* SPDX-License-Identifier: Apache-2.0 */
/* run_nets.h - a run's networks, the steps that compute with them and what a step trains.
 *
 * Phases change what is trained (phase.h): sizes and optimizer are then made anew over the same
 * parameters.
 */
#ifndef CN_TRAIN_RUN_NETS_H
#define CN_TRAIN_RUN_NETS_H

#include "data/encode.h"
#include "train/checkpoint.h"
#include "train/run_data.h"
#include "train/stepgraph.h"

/* The steps of a phase, one for each size of the run's pictures. */
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

/* Behind which step of a plan a parameter's gradient is final. */
typedef struct cn_gradient_ready {
    int step;
    int64_t param;
} cn_gradient_ready;

/* Gradients in the order in which a backward pass finishes them: several processes add them up
 * while it still runs. */
typedef struct cn_gradient_order {
    cn_ranks *ranks; /* NULL: one process, and an empty list */
    cn_adamw *adamw;
    const float **grads;
    cn_gradient_ready *list; /* [n] */
    int64_t n, next;
    bool last_pass; /* of a step: its gradients may be taken */
} cn_gradient_order;

typedef struct cn_run_nets {
    cn_params *unet, *control;
    cn_low_rank low; /* of control, where its kind has it */
    /* Of pictures and texts that are encoded in their step; NULL. */
    cn_params *vae, *text[CN_MAX_TEXT_ENCODERS];
    cn_phase phase; /* what is trained now */
    cn_sizes sizes; /* of this phase */
    cn_train_plan plan;
    double validation_flops; /* of one validation with control, 0: there is none */
    cn_adamw *adamw;
    cn_stepgraph *step;  /* of the size at hand */
    const float **grads; /* of adamw's parameters, by `step` */
    cn_gradient_order order;
} cn_run_nets;

void cn_run_nets_close(cn_run_nets *n);

/* --- size_steps.c ----------------------------------------------------------------------------- */

/* Plans the steps of n->phase over its parameter sets, as many blocks computed again. n->sizes is
 * empty. */
cn_status cn_run_nets_make_sizes(const cn_run_setup *r, const cn_buckets *buckets, int recomputed,
                                 cn_run_nets *n) CN_CHECKED;
void cn_sizes_destroy(cn_sizes *z);
/* How much of the run's passes, of so many samples, are of this size; operations of one, its
 * encoding counted in. */
double cn_sizes_share(const cn_buckets *b, int64_t pass_samples, int bucket);
double cn_sizes_flops(const cn_sizes *z, int bucket);
/* The step of this size becomes n->step. */
cn_status cn_run_nets_use_size(const cn_run_setup *r, int bucket, cn_run_nets *n) CN_CHECKED;
/* Encodes a pass's pictures, if it has them, and mixes their latents with noise; encodes its texts,
 * if it has tokens. */
cn_status cn_run_nets_encode_pass(const cn_run_data *d, cn_run_nets *n, cn_pass *p) CN_CHECKED;

/* --- train_memory.c --------------------------------------------------------------------------- */

/* Declares the networks and plans every phase from first_step on so that the run fits
 * max_memory_bytes. n->phase is set, all else empty; afterwards unet, control, sizes (of n->phase)
 * and plan are there, and of what isn't cached vae and text. CN_ENOMEM when nothing fits, with what
 * would. Weights come later. */
cn_status cn_run_nets_plan(const cn_run_setup *r, const cn_run_data *d, int64_t first_step,
                           cn_run_nets *n) CN_CHECKED;
/* Fills the parameters in: from the base, and the control network's as its kind starts. */
cn_status cn_run_nets_load(const cn_run_setup *r, cn_run_nets *n) CN_CHECKED;

/* --- run_nets.c, from phase to phase -----------------------------------------------------------
 */

cn_adamw_options cn_run_adamw_options(const cn_run_setup *r);
/* The optimizer over what the step trains, taking over what `before` (NULL: none) has. */
cn_status cn_run_nets_create_optimizer(const cn_run_setup *r, cn_adamw *before,
                                       cn_run_nets *n) CN_CHECKED;
/* Makes sizes and optimizer anew for the phase that begins; moments of what goes on are kept. */
cn_status cn_run_nets_switch_phase(const cn_run_setup *r, const cn_buckets *buckets, cn_phase phase,
                                   cn_run_nets *n) CN_CHECKED;

/* --- distributed.c ---------------------------------------------------------------------------- */

/* Lets the ranks add up the gradients of n->step while it runs. */
cn_status cn_run_nets_follow(const cn_run_setup *r, cn_run_nets *n) CN_CHECKED;

/* --- loop.c ----------------------------------------------------------------------------------- */

/* For saving: its context is save_ctx, so a failure goes through cn_run_saved. */
cn_checkpoint cn_run_checkpoint(const cn_run_setup *r, const cn_run_nets *n);

#endif
