/* SPDX-License-Identifier: Apache-2.0 */
/* validate.h - does it work yet? Held-out loss, agreement of drawings, the verdict and its page.
 *
 * The run that is validated is known by what it does when asked: it measures a loss and draws
 * pictures. Everything here follows from those, from the data set and from the conditions'
 * annotator.
 */
#ifndef CN_EVAL_VALIDATE_H
#define CN_EVAL_VALIDATE_H

#include "annotate/annotate.h"
#include "data/dataset.h"
#include "eval/metrics.h"
#include "model/nets/nets.h"

typedef struct cn_validator cn_validator;

/* A pair that is drawn: held out from training, or a condition of the user's own (without a
 * target). */
typedef struct cn_validation_item {
    const cn_dataset *data;
    int64_t item;
} cn_validation_item;

/* What turns drawings into conditions again, to compare them. */
typedef struct cn_comparison {
    cn_annotate_args annotate; /* kind NULL: none is known yet */
    bool settled;              /* the user or the data says what it is, or that there is none */
    cn_session_cost cost;      /* of its network, in memory and operations */
} cn_comparison;

/* The annotator that options or data ask for, with its network's weights looked at and counted. */
cn_status cn_comparison_choose(cn_ctx *ctx, cn_backend *be, const cn_train_options *o,
                               cn_comparison *out) CN_CHECKED;

/* What the run does for its validation. */
typedef struct cn_validation_calls {
    void *user;
    /* Loss of the held-out pairs at fixed timesteps and noise, with control or by the base alone:
     * loss [n_held] mean over the timesteps, band: mean over the pairs in each band of them. */
    cn_status (*measure)(void *user, bool control, double *loss, double band[CN_TRAIN_BANDS]);
    /* Draws every item on fixed seeds. conditions, rgb [n_items,H,W,3]. */
    cn_status (*draw)(void *user, bool control, const uint8_t *conditions, uint8_t *rgb);
    /* Root mean square of each zero convolution's weights, the middle's last; how many. */
    int64_t (*zero_convs)(void *user, double rms[CN_MAX_RESIDUALS + 1]);
    void (*progress)(void *user, const char *stage, int64_t done, int64_t total);
    void (*validated)(void *user, const cn_train_validation *v);
} cn_validation_calls;

/* All pointers but `items` must outlive the validator. */
typedef struct cn_validator_options {
    const cn_train_options *train; /* where results go, and what may be advised */
    bool links;                    /* what is trained has links that can be left out */
    cn_validation_calls calls;
    cn_backend *be;
    cn_metrics *metrics;
    const cn_comparison *comparison;
    const cn_validation_item *items; /* [n_items], copied: those held out come first */
    int64_t n_held, n_items;
    int64_t width, height; /* pixels, of every drawing */
    int timesteps;         /* of the noise schedule */
} cn_validator_options;

cn_status cn_validator_create(cn_ctx *ctx, const cn_validator_options *options,
                              cn_validator **out) CN_CHECKED;
void cn_validator_destroy(cn_validator *v);
/* Measures, draws, judges, writes output_dir/validation/step_N/, report.html and a line of
 * metrics.jsonl. base_trained: what is drawn without control changes too. *learned_at_step: -1, or
 * the first step at which control was learned; set when that is this one. end_step: the run's last,
 * as far as is known. out: texts aside. */
cn_status cn_validator_run(cn_validator *v, int64_t step, int64_t end_step, bool base_trained,
                           int64_t *learned_at_step, cn_train_validation *out) CN_CHECKED;

#endif
