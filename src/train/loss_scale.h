/* SPDX-License-Identifier: Apache-2.0 */
/* loss_scale.h - the factor of the loss under which gradients in F16 neither vanish nor become
 * infinite, as torch.amp.GradScaler follows it: from 65536 on it halves where a gradient is
 * infinite, whose step isn't taken, and doubles after 2000 steps without one.
 */
#ifndef CN_TRAIN_LOSS_SCALE_H
#define CN_TRAIN_LOSS_SCALE_H

#include "base/base.h"

typedef struct cn_loss_scale {
    double value;    /* 0: none yet */
    int64_t steps;   /* taken under it in a row */
    int64_t skipped; /* steps of the run that weren't taken */
} cn_loss_scale;

/* Gives one that has no value yet its first. */
void cn_loss_scale_begin(cn_loss_scale *s);
/* Behind a step. False: a gradient that is infinite under so small a scale is so without one. */
bool cn_loss_scale_follow(cn_loss_scale *s, bool infinite);

#endif
