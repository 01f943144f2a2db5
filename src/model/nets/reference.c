/* SPDX-License-Identifier: Apache-2.0 */
/* reference.c - self-attention that sees other samples, see cn_reference.
 *
 * sd-webui-controlnet runs the UNet twice, writes what its self-attentions read in the first run
 * and reads it in the second (scripts/hook.py, reference_only). Here both are samples of one run,
 * which at each block have computed the same. Which blocks see it: sorted by width, widest first,
 * in the order of the network, the i-th of n where i / n is below the weight.
 */
#include "model/nets/nets.h"

void cn_reference_begin(cn_reference *r, const cn_unet_config *c)
{
    r->n_widths = r->blocks = 0;
    for (int i = 0; i < c->levels; i++) {
        const bool middle = i + 1 == c->levels;
        const int blocks = (c->attention[i] ? 2 * c->layers_per_block + 1 : 0) + (middle ? 1 : 0);
        if (!blocks) continue;
        int k = 0;
        while (k < r->n_widths && r->widths[k].channels != c->channels[i]) k++;
        if (k == r->n_widths) {
            r->widths[r->n_widths].channels = c->channels[i];
            r->widths[r->n_widths].blocks = r->widths[r->n_widths].met = 0;
            r->n_widths++;
        }
        r->widths[k].blocks += blocks * c->transformer_layers[i];
        r->blocks += blocks * c->transformer_layers[i];
    }
}

/* Whether references are seen in the next block of so many channels. */
static bool is_seen(cn_reference *r, int64_t channels)
{
    int before = 0;
    for (int k = 0; k < r->n_widths; k++) {
        if (r->widths[k].channels > channels) before += r->widths[k].blocks;
        if (r->widths[k].channels == channels) before += r->widths[k].met++;
    }
    return r->weight > (float)before / (float)CN_MAX(r->blocks, 1);
}

/* Samples first .. first + n of x [N,L,C]. */
static cn_node *samples(cn_graph *g, cn_node *x, int64_t first, int64_t n)
{
    const int64_t N = x->shape[0], L = x->shape[1], C = cn_channels(x);
    if (n == N) return x;
    cn_node *row = cn_view(g, x, 2, (int64_t[]){1, N * L * C});
    return cn_view(g, cn_slice(g, row, first * L * C, n * L * C), 3, (int64_t[]){n, L, C});
}

/* Samples of a, then those of b. */
static cn_node *join_samples(cn_graph *g, cn_node *a, cn_node *b)
{
    const int64_t L = a->shape[1], C = cn_channels(a), n = a->shape[0], m = b->shape[0];
    cn_node *rows = cn_concat(g, cn_view(g, a, 2, (int64_t[]){1, n * L * C}),
                              cn_view(g, b, 2, (int64_t[]){1, m * L * C}));
    return cn_view(g, rows, 3, (int64_t[]){n + m, L, C});
}

/* Tokens of a, then those of b, sample by sample. */
static cn_node *join_tokens(cn_graph *g, cn_node *a, cn_node *b)
{
    const int64_t n = a->shape[0], L = a->shape[1], C = cn_channels(a);
    cn_node *rows = cn_concat(g, cn_view(g, a, 2, (int64_t[]){n, L * C}),
                              cn_view(g, b, 2, (int64_t[]){n, L * C}));
    return cn_view(g, rows, 3, (int64_t[]){n, 2 * L, C});
}

cn_node *cn_reference_attention(cn_graph *g, cn_reference *r, cn_node *q, cn_node *k, cn_node *v,
                                int heads)
{
    if (cn_poisoned(g) || !is_seen(r, cn_channels(q)))
        return cn_attention(g, q, k, v, heads, false, 0);
    const int64_t n = r->n, alone = q->shape[0] - n;
    const int64_t mixed = r->fidelity > 0 ? CN_MIN(r->unconditional, n) : 0;
    cn_node *plain =
        cn_attention(g, samples(g, q, 0, alone + mixed), samples(g, k, 0, alone + mixed),
                     samples(g, v, 0, alone + mixed), heads, false, 0);
    cn_node *seeing = cn_attention(
        g, samples(g, q, alone, n), join_tokens(g, samples(g, k, alone, n), samples(g, k, 0, n)),
        join_tokens(g, samples(g, v, alone, n), samples(g, v, 0, n)), heads, false, 0);
    if (mixed == 0) return join_samples(g, plain, seeing);
    cn_node *mix = cn_add(g, cn_scale(g, samples(g, plain, alone, mixed), r->fidelity),
                          cn_scale(g, samples(g, seeing, 0, mixed), 1 - r->fidelity));
    cn_node *y = join_samples(g, samples(g, plain, 0, alone), mix);
    return mixed < n ? join_samples(g, y, samples(g, seeing, mixed, n - mixed)) : y;
}
