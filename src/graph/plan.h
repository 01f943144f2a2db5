/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - every buffer's place fixed before anything runs, then running.
 *
 * A plan covers the nodes that its outputs need. Buffers with disjoint lifetimes share bytes of one
 * arena; inputs, outputs and what follows from stable inputs keep theirs from run to run. Planning
 * reserves addresses only: memory is taken by the first run, so a plan may be made to learn what it
 * would need.
 */
#ifndef CN_PLAN_H
#define CN_PLAN_H

#include "graph/backend.h"

typedef struct cn_plan cn_plan;

typedef struct cn_plan_info {
    int64_t steps;
    size_t arena_bytes;    /* activations, gradients, scratch */
    size_t scratch_bytes;  /* of these, the largest kernel's scratch */
    size_t gradient_bytes; /* of these, gradients of parameters */
    double flops;          /* per run, matmul-like work */
} cn_plan_info;

/* outputs: nodes whose values are wanted after a run; with_grads adds every parameter gradient. */
cn_status cn_plan_create(cn_ctx *ctx, cn_graph *g, cn_backend *b, cn_node *const *outputs,
                         int n_outputs, bool with_grads, cn_plan **out) CN_CHECKED;
void cn_plan_destroy(cn_plan *p);
void cn_plan_info_get(const cn_plan *p, cn_plan_info *info);
/* An input's or output's bytes in the host's memory, of the node's type; NULL for a node the plan
 * doesn't keep. What is written to an input's goes into the next run; an output's are the last
 * run's. Gradients are no outputs of this kind where the backend has memory of its own. */
void *cn_plan_data(cn_plan *p, const cn_node *x);
/* Where the backend has the same, and gradients: for functions of the backend. NULL likewise. */
void *cn_plan_address(cn_plan *p, const cn_node *x);
/* The same as F32, copied to out. False for a node the plan doesn't keep. */
bool cn_plan_get(cn_plan *p, const cn_node *x, float *out);
/* Copies elements into an input. A stable input is compared first: unchanged costs nothing more. */
cn_status cn_plan_set(cn_plan *p, const cn_node *x, const void *data) CN_CHECKED;
/* Stable inputs or locked parameters changed: what follows from them is computed again. */
void cn_plan_touch(cn_plan *p);
/* Whether runs include this part of the graph (cn_graph_part), as they do at the start. */
void cn_plan_part(cn_plan *p, int part, bool on);
cn_status cn_plan_run(cn_plan *p) CN_CHECKED;
/* CN_OK where y, an output that was just computed, has finite values alone: a look at each. Else as
 * cn_plan_blame, and CN_EFORMAT in any case. */
cn_status cn_plan_expect_finite(cn_plan *p, const cn_node *y) CN_CHECKED;
/* What it was that made the last run's values NaN or infinite: CN_EFORMAT with one line that names
 * network, file, and the first weight that isn't finite or, where all weights are and only_locked
 * is false, the first input or node, which is found by a second run. only_locked: of the weights
 * that aren't trained alone. CN_OK: none of these. */
cn_status cn_plan_blame(cn_plan *p, bool only_locked) CN_CHECKED;
/* The step of a run behind which x has its value; -1 for a node the plan doesn't compute. */
int cn_plan_step_of(const cn_plan *p, const cn_node *x);
/* fn(user, step) is called behind every step of a run; a failure of it ends the run. NULL: nothing
 * is. */
void cn_plan_watch(cn_plan *p, cn_status (*fn)(void *user, int step), void *user);
/* The plan computes in the arena of `lender`, which is as large and outlives it, instead of its
 * own. One of those that share an arena at a time has values: before another runs its inputs are
 * put in and it is touched. */
cn_status cn_plan_borrow(cn_plan *p, cn_plan *lender) CN_CHECKED;
/* Gives the arena's memory back until the next run; values in it, inputs too, are lost. */
void cn_plan_drop(cn_plan *p);
/* Time and GFLOP/s per operation kind as text (CN_PROFILE=1 collects it). */
void cn_plan_profile(const cn_plan *p, cn_str *out);

#endif
