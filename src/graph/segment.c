/* SPDX-License-Identifier: Apache-2.0 */
/* segment.c - which segments of a graph are worth computing again.
 *
 * What a segment frees is estimated by the results inside it that a gradient passes through, what
 * it costs by its multiplications; only the order that follows from both is used, the bytes that a
 * choice really needs are the plan's.
 */
#include "graph/graph.h"

#include <stdlib.h>

typedef struct segment {
    int number;
    double bytes, flops;
} segment;

static double flops_of(const cn_node *y)
{
    const cn_op_def *def = cn_op_def_of(y->op);
    return def->flops ? def->flops(y) : 4 * (double)cn_node_elements(y);
}

/* Most bytes per operation first; at equal worth the order of building. */
static int by_worth(const void *a, const void *b)
{
    const segment *x = a, *y = b;
    const double left = x->bytes * y->flops, right = y->bytes * x->flops;
    if (left != right) return left > right ? -1 : 1;
    return x->number - y->number;
}

int cn_graph_checkpoint_best(cn_graph *g, int count)
{
    const int n = cn_graph_segments(g);
    if (cn_poisoned(g) || n == 0) return 0;
    segment *all = cn_alloc0(NULL, (size_t)n * sizeof *all);
    if (!all) {
        cn_poison(g, "out of memory for the graph");
        return 0;
    }
    for (int i = 0; i < n; i++) all[i].number = i + 1;
    for (int id = 0; id < cn_graph_size(g); id++) {
        const cn_node *y = cn_graph_node(g, id);
        if (!y->segment || !y->needs_grad || y->op == CN_OP_PARAM) continue;
        segment *s = &all[y->segment - 1];
        s->flops += flops_of(y);
        if (y->op != CN_OP_VIEW)
            s->bytes += (double)cn_node_elements(y) * (double)cn_dtype_bytes(y->dtype);
    }
    int useful = 0;
    for (int i = 0; i < n; i++)
        if (all[i].bytes > 0) all[useful++] = all[i];
    qsort(all, (size_t)useful, sizeof *all, by_worth);
    for (int i = 0; i < useful && i < count; i++) cn_graph_checkpoint(g, all[i].number);
    cn_free(all);
    return useful;
}
