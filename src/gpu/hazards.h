/* SPDX-License-Identifier: Apache-2.0 */
/* hazards.h - which barriers recorded work needs.
 *
 * Work is a sequence of items, each with the bytes that it reads and writes. An item must wait for
 * earlier ones that wrote what it touches or read what it writes; a barrier makes all earlier ones
 * end. What was touched since the last barrier is kept as ranges, so an item that meets none of
 * them goes on side by side with those before it.
 */
#ifndef CN_GPU_HAZARDS_H
#define CN_GPU_HAZARDS_H

#include "base/base.h"

enum { CN_HAZARDS_MAX = 512 };

typedef struct cn_hazard_range {
    const char *from, *to;
    bool writes;
} cn_hazard_range;

typedef struct cn_hazards {
    cn_hazard_range before[CN_HAZARDS_MAX]; /* since the last barrier */
    int n_before;
    cn_hazard_range now[32]; /* of the item that is being described */
    int n_now;
    bool full;    /* it has more of them than there is room for, so barriers stand around it */
    bool unknown; /* the item before it had */
} cn_hazards;

/* The item that comes next reads or writes these bytes. */
void cn_hazards_use(cn_hazards *h, const void *at, size_t bytes, bool writes);
/* The item is described: whether a barrier has to stand before it. */
bool cn_hazards_next(cn_hazards *h);
/* Everything recorded has ended. */
void cn_hazards_clear(cn_hazards *h);

#endif
