/* SPDX-License-Identifier: Apache-2.0 */
/* phase_switch.c - from one phase of a run to the next: another graph, another list of what is
 * trained. */
#include "train/trainer.h"

#include <limits.h>

cn_status cn_trainer_create_optimizer(cn_trainer *t, cn_adamw *before)
{
    const cn_adamw_options o = cn_trainer_adamw_options(t, &t->o);
    const cn_sizes *z = &t->sizes;
    CN_TRY(cn_adamw_continue(t->ctx, t->be, z->trained, z->n_trained, &o, before, &t->adamw));
    return cn_trainer_use_size(t, 0);
}

static void tell(const cn_trainer *t, cn_phase before)
{
    if (before.only_mid && !t->phase.only_mid)
        cn_log(t->ctx, CN_LOG_INFO, "step %lld: the decoder's links join",
               (long long)t->state.step);
    if (before.unlock != t->phase.unlock)
        cn_log(t->ctx, CN_LOG_INFO, "step %lld: the base is unlocked (%s)",
               (long long)t->state.step, cn_unlock_word(t->phase.unlock));
}

cn_status cn_trainer_switch_phase(cn_trainer *t, cn_phase phase)
{
    cn_adamw *before = t->adamw;
    const cn_phase was = t->phase;
    cn_sizes_destroy(&t->sizes); /* before its successor reserves addresses */
    t->step = NULL;
    t->grads = NULL;
    t->adamw = NULL;
    t->phase = phase;
    const int recomputed = t->o.gradient_checkpointing ? INT_MAX : t->plan.recomputed_blocks;
    cn_status s = cn_sizes_create(t, &t->o, phase, recomputed, t->unet, t->control, &t->sizes);
    if (s == CN_OK) s = cn_trainer_create_optimizer(t, before);
    cn_adamw_destroy(before);
    if (s == CN_OK && !t->o.dry_run) tell(t, was);
    return s;
}
