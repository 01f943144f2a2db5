/* SPDX-License-Identifier: Apache-2.0 */
/* op_shape.c - views, joining and cutting channels, nearest up-sampling. */
#include "graph/ops.h"

cn_node *cn_view(cn_graph *g, cn_node *x, int ndim, const int64_t *shape)
{
    if (cn_poisoned(g)) return x;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    if (n != cn_node_elements(x))
        return cn_poison(g, "view of %lld elements as %lld", (long long)cn_node_elements(x),
                         (long long)n);
    return cn_emit(g, CN_OP_VIEW, x->dtype, ndim, shape, 1, &x);
}

static void view_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_grad_add(g, y->in[0], cn_view(g, dy, y->in[0]->ndim, y->in[0]->shape));
}

const cn_op_def cn_op_view = {.name = "view", .grad = view_grad};

cn_node *cn_concat(cn_graph *g, cn_node *a, cn_node *b)
{
    if (cn_poisoned(g)) return a;
    bool fits = a->ndim == b->ndim && a->dtype == b->dtype;
    for (int i = 0; fits && i < a->ndim - 1; i++) fits = a->shape[i] == b->shape[i];
    if (!fits)
        return cn_poison(g, "channels of tensors of different sizes or types can't be joined");
    int64_t shape[CN_MAX_DIMS];
    for (int i = 0; i < a->ndim; i++) shape[i] = a->shape[i];
    shape[a->ndim - 1] += cn_channels(b);
    return cn_emit(g, CN_OP_CONCAT, a->dtype, a->ndim, shape, 2, (cn_node *[]){a, b});
}

static void concat_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *a = y->in[0], *b = y->in[1];
    if (a->needs_grad) cn_grad_add(g, a, cn_slice(g, dy, 0, cn_channels(a)));
    if (b->needs_grad) cn_grad_add(g, b, cn_slice(g, dy, cn_channels(a), cn_channels(b)));
}

const cn_op_def cn_op_concat = {.name = "concat", .grad = concat_grad};

cn_node *cn_slice(cn_graph *g, cn_node *x, int64_t offset, int64_t count)
{
    if (cn_poisoned(g)) return x;
    if (offset < 0 || count < 1 || offset > cn_channels(x) - count)
        return cn_poison(g, "channels %lld to %lld of %lld", (long long)offset,
                         (long long)(offset + count), (long long)cn_channels(x));
    int64_t shape[CN_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = count;
    cn_node *y = cn_emit(g, CN_OP_SLICE, x->dtype, x->ndim, shape, 1, &x);
    if (!cn_poisoned(g)) y->offset = offset;
    return y;
}

/* The cut-out channels' gradient with zeros around: joined from constants. */
static void slice_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0];
    int64_t shape[CN_MAX_DIMS], after = cn_channels(x) - y->offset - cn_channels(y);
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    if (y->offset > 0) {
        shape[x->ndim - 1] = y->offset;
        dy = cn_concat(g, cn_emit(g, CN_OP_FILL, x->dtype, x->ndim, shape, 0, NULL), dy);
    }
    if (after > 0) {
        shape[x->ndim - 1] = after;
        dy = cn_concat(g, dy, cn_emit(g, CN_OP_FILL, x->dtype, x->ndim, shape, 0, NULL));
    }
    cn_grad_add(g, x, dy);
}

const cn_op_def cn_op_slice = {.name = "slice", .grad = slice_grad};

cn_node *cn_upsample_to(cn_graph *g, cn_node *x, int64_t H, int64_t W)
{
    if (cn_poisoned(g)) return x;
    if (x->ndim != 4 || H < x->shape[1] || W < x->shape[2])
        return cn_poison(g, "up-sampling wants [N,H,W,C] and a size that is no smaller");
    int64_t shape[4] = {x->shape[0], H, W, x->shape[3]};
    return cn_emit(g, CN_OP_UPSAMPLE, x->dtype, 4, shape, 1, &x);
}

cn_node *cn_upsample2(cn_graph *g, cn_node *x)
{
    return cn_upsample_to(g, x, 2 * x->shape[1], 2 * x->shape[2]);
}

static void upsample_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_grad_add(g, y->in[0], cn_emit_like(g, CN_OP_UPSAMPLE_DX, y->in[0], 1, &dy));
}

const cn_op_def cn_op_upsample = {.name = "upsample", .grad = upsample_grad};
const cn_op_def cn_op_upsample_dx = {.name = "upsample_dx"};
