/* SPDX-License-Identifier: Apache-2.0 */
/* loss_scale.c - see loss_scale.h. */
#include "train/loss_scale.h"

enum { FIRST = 65536, GROWS_AFTER = 2000 };

static const double LEAST = 1e-6, MOST = 1e9;

void cn_loss_scale_begin(cn_loss_scale *s)
{
    if (!(s->value > 0)) *s = (cn_loss_scale){.value = FIRST, .skipped = s->skipped};
}

bool cn_loss_scale_follow(cn_loss_scale *s, bool infinite)
{
    if (infinite) {
        s->value /= 2;
        s->steps = 0;
        s->skipped++;
        return s->value >= LEAST;
    }
    if (++s->steps == GROWS_AFTER) {
        if (s->value < MOST) s->value *= 2;
        s->steps = 0;
    }
    return true;
}
