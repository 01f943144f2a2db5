/* SPDX-License-Identifier: Apache-2.0 */
/* controlled_unet.c - the place where UNet and ControlNets are joined, in training and in drawing:
 * each ControlNet's residuals, times their factors, are added up and handed to the UNet.
 *
 * A unit may act on a part of the UNet's samples, guidance's conditional half; the others' values
 * stay what they are without it.
 */
#include "model/nets/nets.h"

#include <stdio.h>

/* y times a factor for each position, which is a new input. */
static cn_node *gate(cn_graph *g, cn_control_unit *u, cn_node *y)
{
    char name[32];
    if (cn_poisoned(g)) return y;
    snprintf(name, sizeof name, "gate%d", u->n_gates);
    cn_node *m = cn_input4(g, name, y->shape[0], y->shape[1], y->shape[2], 1);
    u->gate[u->n_gates++] = m;
    return cn_gate(g, y, m);
}

static void build_unit(cn_graph *g, cn_control_unit *u, cn_residuals *out)
{
    cn_graph_use(g, u->params);
    cn_graph_part(g, u->part);
    cn_controlnet_build(g, u->config, &u->in, u->hint, out);
    cn_graph_part(g, 0);
    out->first = u->first;
    for (int i = 0; u->only_mid && i < out->n; i++) out->down[i] = NULL;
    if (!u->gated) return;
    for (int i = 0; i < out->n; i++) out->down[i] = gate(g, u, out->down[i]);
    if (out->mid) out->mid = gate(g, u, out->mid);
}

/* The one of fewer samples is added to the other. */
static void add(cn_graph *g, cn_residuals *sum, const cn_residuals *r)
{
    if (cn_poisoned(g)) return;
    if (r->n != sum->n) {
        cn_poison(g, "the ControlNets give %d and %d residuals; one base's give the same",
                  sum->n + 1, r->n + 1);
        return;
    }
    const cn_residuals *all = r->mid->shape[0] > sum->mid->shape[0] ? r : sum;
    const cn_residuals *some = all == r ? sum : r;
    cn_residuals y = {.n = sum->n, .first = all->first};
    const int64_t first = some->first - all->first;
    for (int i = 0; i < sum->n; i++)
        if (all->down[i]) y.down[i] = cn_add_samples(g, all->down[i], some->down[i], first);
    y.mid = cn_add_samples(g, all->mid, some->mid, first);
    *sum = y;
}

cn_node *cn_controlled_unet_build(cn_graph *g, const cn_unet_config *c, cn_params *unet,
                                  const cn_unet_inputs *in, cn_control_unit *units, int n)
{
    cn_residuals sum = {0};
    for (int k = 0; k < n; k++) {
        cn_residuals r;
        build_unit(g, &units[k], &r);
        if (k)
            add(g, &sum, &r);
        else
            sum = r;
    }
    cn_unet_inputs with = *in;
    with.residuals = n ? &sum : NULL;
    cn_graph_use(g, unet);
    return cn_unet_build(g, c, &with);
}
