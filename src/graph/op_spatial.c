/* SPDX-License-Identifier: Apache-2.0 */
/* op_spatial.c - pooling, bilinear resizing and padding: what annotators' networks have beside
 * convolutions.
 *
 * For inference, the mean over equal windows aside: a gradient asked of them is an error.
 */
#include "graph/ops.h"

static bool is_image(cn_graph *g, const char *what, const cn_node *x)
{
    if (x->ndim == 4) return true;
    cn_poison(g, "%s of %d dimensions, wants [N,H,W,C]", what, x->ndim);
    return false;
}

cn_node *cn_max_pool(cn_graph *g, cn_node *x, int kernel, int stride, const int pad[4])
{
    if (cn_poisoned(g) || !is_image(g, "pooling", x)) return x;
    int64_t shape[4] = {x->shape[0], 0, 0, x->shape[3]};
    for (int i = 0; i < 2; i++) {
        if (pad[i] < 0 || pad[i + 2] < 0 || pad[i] >= kernel || pad[i + 2] >= kernel)
            return cn_poison(g, "pooling over %d with a padding of %d and %d", kernel, pad[i],
                             pad[i + 2]);
        int64_t rest = x->shape[1 + i] + pad[i] + pad[i + 2] - kernel;
        if (rest < 0)
            return cn_poison(g, "pooling over %d of %lldx%lld", kernel, (long long)x->shape[1],
                             (long long)x->shape[2]);
        shape[1 + i] = rest / stride + 1;
    }
    cn_node *y = cn_emit(g, CN_OP_MAX_POOL, x->dtype, 4, shape, 1, &x);
    if (cn_poisoned(g)) return y;
    y->kernel_h = y->kernel_w = kernel;
    y->stride = stride;
    for (int i = 0; i < 4; i++) y->pad[i] = pad[i];
    return y;
}

/* `op` to a given size. */
static cn_node *to_size(cn_graph *g, cn_op op, const char *what, cn_node *x, int64_t H, int64_t W)
{
    if (cn_poisoned(g) || !is_image(g, what, x)) return x;
    if (H < 1 || W < 1) return cn_poison(g, "%s to %lldx%lld", what, (long long)H, (long long)W);
    int64_t shape[4] = {x->shape[0], H, W, x->shape[3]};
    return cn_emit(g, op, x->dtype, 4, shape, 1, &x);
}

cn_node *cn_mean_pool_to(cn_graph *g, cn_node *x, int64_t H, int64_t W)
{
    return to_size(g, CN_OP_MEAN_POOL, "pooling", x, H, W);
}

/* Each element of a window has an equal share. Windows that overlap have no gradient. */
static void mean_pool_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0];
    const int64_t H = x->shape[1], W = x->shape[2], area = H / y->shape[1] * (W / y->shape[2]);
    if (H % y->shape[1] || W % y->shape[2]) {
        cn_poison(g, "no gradient of the mean of %lldx%lld to %lldx%lld: windows of one size only",
                  (long long)H, (long long)W, (long long)y->shape[1], (long long)y->shape[2]);
        return;
    }
    cn_grad_add(g, x, cn_upsample_to(g, cn_scale(g, dy, 1.0f / (float)area), H, W));
}

cn_node *cn_resize_to(cn_graph *g, cn_node *x, int64_t H, int64_t W, bool align_corners)
{
    if (!cn_poisoned(g) && x->ndim == 4 && x->shape[1] == H && x->shape[2] == W) return x;
    cn_node *y = to_size(g, CN_OP_RESIZE, "resizing", x, H, W);
    if (!cn_poisoned(g)) y->align_corners = align_corners;
    return y;
}

cn_node *cn_pad(cn_graph *g, cn_node *x, const int pad[4], bool reflect)
{
    if (cn_poisoned(g) || !is_image(g, "padding", x)) return x;
    const int64_t H = x->shape[1], W = x->shape[2];
    for (int i = 0; reflect && i < 4; i++)
        if (pad[i] >= (i % 2 ? W : H))
            return cn_poison(g, "%lldx%lld can't be mirrored over %d pixels", (long long)H,
                             (long long)W, pad[i]);
    cn_node *y = to_size(g, CN_OP_PAD, "padding", x, H + pad[0] + pad[2], W + pad[1] + pad[3]);
    if (cn_poisoned(g)) return y;
    for (int i = 0; i < 4; i++) y->pad[i] = pad[i];
    y->reflect = reflect;
    return y;
}

const cn_op_def cn_op_max_pool = {.name = "max_pool"};
const cn_op_def cn_op_mean_pool = {.name = "mean_pool", .grad = mean_pool_grad};
const cn_op_def cn_op_resize = {.name = "resize"};
const cn_op_def cn_op_pad = {.name = "pad"};
