/* SPDX-License-Identifier: Apache-2.0 */
/* hazards.c - see hazards.h. */
#include "gpu/hazards.h"

#include <string.h>

void cn_hazards_use(cn_hazards *h, const void *at, size_t bytes, bool writes)
{
    if (!at || !bytes) return;
    if (h->n_now == (int)CN_COUNT(h->now)) {
        h->full = true;
        return;
    }
    h->now[h->n_now++] =
        (cn_hazard_range){.from = at, .to = (const char *)at + bytes, .writes = writes};
}

static bool meets(const cn_hazards *h, const cn_hazard_range *r)
{
    for (int i = 0; i < h->n_before; i++) {
        const cn_hazard_range *o = &h->before[i];
        if ((o->writes || r->writes) && o->from < r->to && r->from < o->to) return true;
    }
    return false;
}

bool cn_hazards_next(cn_hazards *h)
{
    bool wait = h->unknown || h->full || h->n_before + h->n_now > CN_HAZARDS_MAX;
    for (int i = 0; i < h->n_now && !wait; i++) wait = meets(h, &h->now[i]);
    if (wait) h->n_before = 0;
    h->unknown = h->full;
    h->full = false;
    memcpy(h->before + h->n_before, h->now, (size_t)h->n_now * sizeof *h->now);
    h->n_before += h->n_now;
    h->n_now = 0;
    return wait;
}

void cn_hazards_clear(cn_hazards *h)
{
    h->n_before = h->n_now = 0;
    h->full = h->unknown = false;
}
