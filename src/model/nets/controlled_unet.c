/* SPDX-License-Identifier: Apache-2.0 */
/* controlled_unet.c - the place where UNet and control networks are joined, in training and in
 * drawing: ControlNets' residuals, times their factors, are added up and handed to the UNet, as are
 * T2I-Adapters' features and the units that change layers' inputs.
 *
 * A unit may act on a part of the UNet's samples, guidance's conditional half; the others' values
 * stay what they are without it.
 */
#include "model/nets/nets.h"

#include <stdio.h>

cn_node *cn_control_gate(cn_graph *g, cn_control_unit *u, cn_node *y)
{
    char name[32];
    if (cn_poisoned(g)) return y;
    snprintf(name, sizeof name, "gate%d", u->n_gates);
    cn_node *m = cn_input4(g, name, y->shape[0], y->shape[1], y->shape[2], 1);
    u->gate[u->n_gates++] = m;
    return cn_gate(g, y, m);
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

/* --- ControlNet ------------------------------------------------------------------------------- */

static int one(const void *config)
{
    (void)config;
    return 1;
}

static int net_places(const void *config)
{
    const cn_unet_config *e = &((const cn_controlnet_config *)config)->encoder;
    return e->levels * (e->layers_per_block + 1) + 1;
}

static void net_hints(cn_graph *g, const void *config, const cn_condition_spec *s, cn_hints *out)
{
    const cn_controlnet_config *c = config;
    const int64_t factor = (int64_t)1 << (c->hint_levels - 1), N = CN_MAX(s->batch, 1);
    for (int i = 0; i < CN_MAX(s->n, 1); i++)
        out->image[out->n_images++] =
            cn_input4(g, "condition", N, s->h * factor, s->w * factor, c->condition_channels);
    out->out[out->n++] = c->union_types ? cn_union_hint_build(g, c, s, out->image)
                                        : cn_controlnet_hint_build(g, c, out->image[0]);
}

static void net_build(cn_graph *g, cn_control_unit *u, cn_steering *to)
{
    cn_residuals r;
    cn_graph_use(g, u->params);
    cn_graph_part(g, u->part);
    cn_controlnet_build(g, u->config, &u->in, u->hints[0], &r);
    cn_graph_part(g, 0);
    r.first = u->first;
    for (int i = 0; u->only_mid && i < r.n; i++) r.down[i] = NULL;
    for (int i = 0; u->gated && i < r.n; i++) r.down[i] = cn_control_gate(g, u, r.down[i]);
    if (u->gated && r.mid) r.mid = cn_control_gate(g, u, r.mid);
    if (to->has_residuals)
        add(g, &to->residuals, &r);
    else
        to->residuals = r;
    to->has_residuals = true;
}

const cn_control_kind cn_control_kind_net = {.network = "controlnet",
                                             .title = "ControlNet",
                                             .count = one,
                                             .places = net_places,
                                             .hints = net_hints,
                                             .build = net_build,
                                             .residuals = true};

/* --- all of them ------------------------------------------------------------------------------ */

cn_node *cn_controlled_unet_build(cn_graph *g, const cn_unet_config *c, cn_params *unet,
                                  const cn_unet_inputs *in, cn_control_unit *units, int n)
{
    cn_steering all = {.has_residuals = false};
    if (n > CN_MAX_UNITS)
        return cn_poison(g, "%d control networks: at most %d are possible", n, (int)CN_MAX_UNITS);
    for (int k = 0; k < n; k++) units[k].kind->build(g, &units[k], &all);
    cn_unet_inputs with = *in;
    with.residuals = all.has_residuals ? &all.residuals : NULL;
    with.features = all.features;
    with.n_features = all.n_features;
    with.patches = all.patches;
    with.n_patches = all.n_patches;
    cn_graph_use(g, unet);
    return cn_unet_build(g, c, &with);
}
