/* SPDX-License-Identifier: Apache-2.0 */
/* op_conv.c - convolution: shape and gradient rules. x [N,H,W,I], w [O,I,kh,kw], bias [O], y
 * [N,H',W',O].
 *
 * In a BF16 network x and w are BF16 and y is F32, unless cn_output_compute_type says otherwise.
 *
 * A 1x1 convolution with stride 1, one group and no padding is emitted as the linear layer it is. A
 * transposed convolution is the data gradient of the convolution that has its weight, w [I,O,k,k].
 */
#include "graph/ops.h"

static int64_t out_size(int64_t n, int before, int after, int kernel, int stride, int dilation)
{
    const int reach = dilation * (kernel - 1) + 1;
    return n + before + after < reach ? 0 : (n + before + after - reach) / stride + 1;
}

static bool is_pointwise(const cn_node *y)
{
    bool padded = y->pad[0] || y->pad[1] || y->pad[2] || y->pad[3];
    return y->kernel_h == 1 && y->kernel_w == 1 && y->stride == 1 && y->groups == 1 && !padded;
}

cn_node *cn_convolution(cn_graph *g, const char *name, cn_node *x, const cn_conv_spec *spec)
{
    if (cn_poisoned(g)) return x;
    const cn_conv_spec c = *spec;
    const int stride = CN_MAX(c.stride, 1), dilation = CN_MAX(c.dilation, 1),
              groups = CN_MAX(c.groups, 1);
    if (x->ndim != 4)
        return cn_poison(g, "%s: convolution of %d dimensions, wants 4", name, x->ndim);
    if (cn_channels(x) % groups || c.O % groups)
        return cn_poison(g, "%s: %lld to %lld channels can't be split into %d groups", name,
                         (long long)cn_channels(x), (long long)c.O, groups);
    x = cn_compute(g, x);
    int64_t I = cn_channels(x) / groups, fan_in = I * c.kernel_h * c.kernel_w;
    int64_t shape[4] = {
        x->shape[0], out_size(x->shape[1], c.pad[0], c.pad[2], c.kernel_h, stride, dilation),
        out_size(x->shape[2], c.pad[1], c.pad[3], c.kernel_w, stride, dilation), c.O};
    if (shape[1] < 1 || shape[2] < 1)
        return cn_poison(g, "%s: a kernel of %dx%d doesn't fit into %lldx%lld", name, c.kernel_h,
                         c.kernel_w, (long long)x->shape[1], (long long)x->shape[2]);
    cn_scope_push(g, name);
    const int64_t weight[] = {c.O, I, c.kernel_h, c.kernel_w};
    cn_node *base = cn_base_weight(g, 4, weight, fan_in);
    cn_node *w = base ? base : cn_param_node(g, "weight", 4, weight, c.init, fan_in);
    cn_node *b = c.no_bias ? NULL : cn_param_node(g, "bias", 1, &c.O, c.init, fan_in);
    cn_node *y = cn_emit(g, CN_OP_CONV2D, CN_F32, 4, shape, 3, (cn_node *[]){x, w, b});
    if (!cn_poisoned(g)) {
        y->kernel_h = c.kernel_h;
        y->kernel_w = c.kernel_w;
        y->stride = stride;
        y->dilation = dilation;
        y->groups = groups;
        for (int i = 0; i < 4; i++) y->pad[i] = c.pad[i];
        if (is_pointwise(y)) y->op = CN_OP_LINEAR;
        if (base) y = cn_low_rank_sum(g, y);
    }
    cn_scope_pop(g);
    return y;
}

cn_node *cn_conv2d_ex(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel, int stride,
                      const int pad[4], cn_init init)
{
    return cn_convolution(g, name, x,
                          &(cn_conv_spec){.O = O,
                                          .kernel_h = kernel,
                                          .kernel_w = kernel,
                                          .stride = stride,
                                          .pad = {pad[0], pad[1], pad[2], pad[3]},
                                          .init = init});
}

cn_node *cn_conv2d(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel, int stride,
                   int pad)
{
    return cn_conv2d_ex(g, name, x, O, kernel, stride, (int[4]){pad, pad, pad, pad},
                        CN_INIT_FAN_IN);
}

cn_node *cn_zero_conv(cn_graph *g, const char *name, cn_node *x, int64_t O)
{
    return cn_conv2d_ex(g, name, x, O, 1, 1, (int[4]){0, 0, 0, 0}, CN_INIT_ZERO);
}

cn_node *cn_conv_transpose2d(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel,
                             int stride, int pad, int out_pad)
{
    if (cn_poisoned(g)) return x;
    if (x->ndim != 4 || out_pad < 0 || out_pad >= stride)
        return cn_poison(g,
                         "%s: transposed convolution wants 4 dimensions and an output padding "
                         "below its stride",
                         name);
    x = cn_compute(g, x);
    int64_t I = cn_channels(x), fan_in = I * kernel * kernel, shape[4] = {x->shape[0], 0, 0, O};
    for (int i = 1; i < 3; i++) shape[i] = (x->shape[i] - 1) * stride - 2 * pad + kernel + out_pad;
    if (shape[1] < 1 || shape[2] < 1)
        return cn_poison(g, "%s: nothing is left of %lldx%lld", name, (long long)x->shape[1],
                         (long long)x->shape[2]);
    cn_scope_push(g, name);
    cn_node *w =
        cn_param_node(g, "weight", 4, (int64_t[]){I, O, kernel, kernel}, CN_INIT_FAN_IN, fan_in);
    cn_node *b = cn_param_node(g, "bias", 1, &O, CN_INIT_FAN_IN, fan_in);
    cn_node *y = cn_emit(g, CN_OP_CONV2D_DX, CN_F32, 4, shape, 2, (cn_node *[]){x, w});
    cn_scope_pop(g);
    if (cn_poisoned(g)) return y;
    y->kernel_h = y->kernel_w = kernel;
    y->stride = stride;
    y->dilation = y->groups = 1;
    y->pad[0] = y->pad[1] = pad;
    y->pad[2] = y->pad[3] = pad - out_pad; /* of the convolution whose gradient this is */
    /* one bias for all positions of all images */
    cn_node *all = cn_view(g, y, 3, (int64_t[]){1, shape[0] * shape[1] * shape[2], O});
    all = cn_add_channel(g, all, cn_view(g, b, 2, (int64_t[]){1, O}));
    return cn_view(g, all, 4, shape);
}

static void copy_attributes(cn_node *d, const cn_node *y)
{
    d->kernel_h = y->kernel_h;
    d->kernel_w = y->kernel_w;
    d->stride = y->stride;
    d->dilation = y->dilation;
    d->groups = y->groups;
    for (int i = 0; i < 4; i++) d->pad[i] = y->pad[i];
}

cn_node *cn_low_rank_sum(cn_graph *g, cn_node *y)
{
    cn_node *x = y->in[0], *w = y->in[1];
    int64_t down[4], up[4] = {w->shape[0], 0, 1, 1}, shape[CN_MAX_DIMS], columns = 1;
    for (int i = 1; i < w->ndim; i++) columns *= down[i] = w->shape[i];
    const int64_t r = up[1] = down[0] = cn_base_rank(g, w->shape[0], columns);
    for (int i = 0; i < y->ndim; i++) shape[i] = y->shape[i];
    shape[y->ndim - 1] = r;
    w = cn_param_node(g, "down", w->ndim, down, CN_INIT_FAN_IN, columns);
    cn_node *h = cn_emit(g, y->op, CN_F32, y->ndim, shape, 3, (cn_node *[]){x, w, NULL});
    if (cn_poisoned(g)) return h;
    copy_attributes(h, y);
    h = cn_output_compute_type(g, h);
    w = cn_param_node(g, "up", w->ndim, up, CN_INIT_ZERO, r);
    h = cn_emit(g, CN_OP_LINEAR, CN_F32, y->ndim, y->shape, 3, (cn_node *[]){h, w, NULL});
    return cn_add(g, y, h);
}

/* How many of x's first channels have a gradient that somebody reads: where features that learn are
 * joined with locked ones, as the decoder's with skips that no control reaches, those of the
 * former. A norm mixes whole groups. */
static int64_t wanted_channels(const cn_node *x)
{
    const int64_t C = cn_channels(x);
    if (x->op == CN_OP_CAST) return wanted_channels(x->in[0]);
    if (x->op == CN_OP_CONCAT && !x->in[1]->needs_grad) return wanted_channels(x->in[0]);
    if (x->op != CN_OP_GROUP_NORM || !x->in[1] || x->in[1]->needs_grad || x->in[2]->needs_grad)
        return C;
    const int64_t width = C / x->groups;
    return (wanted_channels(x->in[0]) + width - 1) / width * width;
}

/* dx needs w; dw needs x; y isn't read, so its buffer may be reused by its last reader. */
static void conv2d_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0], *w = y->in[1], *b = y->in[2];
    if (b && b->needs_grad) cn_grad_add(g, b, cn_bias_grad(g, b, dy));
    dy = cn_cast(g, dy, x->dtype);
    if (w->needs_grad) {
        cn_node *dw = cn_emit_like(g, CN_OP_CONV2D_DW, w, 2, (cn_node *[]){x, dy});
        if (cn_poisoned(g)) return;
        copy_attributes(dw, y);
        dw->param = w->param;
        cn_grad_add(g, w, dw);
    }
    if (x->needs_grad) {
        cn_node *dx = cn_emit_like(g, CN_OP_CONV2D_DX, x, 2, (cn_node *[]){dy, w});
        if (cn_poisoned(g)) return;
        copy_attributes(dx, y);
        dx->wanted = wanted_channels(x);
        cn_grad_add(g, x, dx);
    }
}

static double conv_flops(const cn_node *y)
{
    return 2 * (double)cn_node_elements(y) *
           (double)(cn_channels(y->in[0]) * y->kernel_h * y->kernel_w);
}

const cn_op_def cn_op_conv2d = {
    .name = "conv2d", .grad = conv2d_grad, .flops = conv_flops, .product = true};
const cn_op_def cn_op_conv2d_dx = {.name = "conv2d_dx"};
const cn_op_def cn_op_conv2d_dw = {.name = "conv2d_dw"};
