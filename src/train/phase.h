/* SPDX-License-Identifier: Apache-2.0 */
/* phase.h - what a run trains at a step: the paper's strategies as a function of the step alone.
 *
 * A phase begins when the decoder's links join (--reconnect-after) or the base is unlocked
 * (--unlock-after). Phases only ever add: what was connected stays so, what was trained goes on.
 * The trainer makes its graph and optimizer anew at the border, a checkpoint says which phase it
 * was made in.
 */
#ifndef CN_TRAIN_PHASE_H
#define CN_TRAIN_PHASE_H

#include "graph/graph.h"

typedef enum cn_unlock { CN_UNLOCK_NONE, CN_UNLOCK_DECODER, CN_UNLOCK_ALL } cn_unlock;

typedef struct cn_phase {
    bool only_mid;
    cn_unlock unlock; /* how much of the base's UNet learns now */
} cn_phase;

/* A phase and the step it begins at. */
typedef struct cn_phase_start {
    cn_phase phase;
    int64_t step;
} cn_phase_start;

enum { CN_MAX_PHASES = 3 };

/* "none" (NULL), "decoder", "all"; NULL at the end. */
extern const char *const cn_unlock_words[];
/* CN_EINVAL for another word. */
cn_status cn_unlock_find(cn_ctx *ctx, const char *word, cn_unlock *out) CN_CHECKED;
const char *cn_unlock_word(cn_unlock unlock);
/* The phase in which optimizer step `step` (from 0) is taken. The options have been checked. */
cn_phase cn_phase_at(const cn_train_options *o, int64_t step);
bool cn_phase_same(cn_phase a, cn_phase b);
/* The phases of steps first to total - 1, in their order; how many. */
int cn_phase_list(const cn_train_options *o, int64_t first, int64_t total,
                  cn_phase_start out[CN_MAX_PHASES]);
/* CN_EINVAL with the option that would be right when a run can't go from one to the other. */
cn_status cn_phase_follows(cn_ctx *ctx, cn_phase before, cn_phase after) CN_CHECKED;

/* Tells a UNet's parameters, which may have none yet, what is to be trained in the whole run (that
 * is kept in F32) and whether it learns now. */
void cn_phase_prepare(cn_params *unet, cn_unlock whole_run, cn_phase now);

#endif
