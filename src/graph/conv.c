/* conv.c - convolution: shape and gradient rules. x [N,H,W,I], w [O,I,kh,kw], bias [O], y [N,H',W',O].
 *
 * In a BF16 network x and w are BF16 and y is F32, unless cn_narrow says otherwise.
 *
 * A 1x1 convolution with stride 1 and no padding is emitted as the linear layer it is.
 */
#include "graph/ops.h"

static int64_t out_size(int64_t n, int before, int after, int kernel, int stride)
{
    return n + before + after < kernel ? 0 : (n + before + after - kernel) / stride + 1;
}

cn_node *cn_conv2d_ex(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel, int stride,
                      const int pad[4], cn_init init)
{
    if (cn_poisoned(g)) return x;
    if (x->ndim != 4)
        return cn_poison(g, "%s: convolution of %d dimensions, wants 4", name, x->ndim);
    x = cn_compute(g, x);
    int64_t I = cn_channels(x), fan_in = I * kernel * kernel;
    cn_scope_push(g, name);
    cn_node *w = cn_param_node(g, "weight", 4, (int64_t[]){O, I, kernel, kernel}, init, fan_in);
    cn_node *b = cn_param_node(g, "bias", 1, &O, init, fan_in);
    int64_t shape[4] = {x->shape[0], out_size(x->shape[1], pad[0], pad[2], kernel, stride),
                        out_size(x->shape[2], pad[1], pad[3], kernel, stride), O};
    bool pointwise = kernel == 1 && stride == 1 && !pad[0] && !pad[1] && !pad[2] && !pad[3];
    cn_node *y = cn_emit(g, pointwise ? CN_OP_LINEAR : CN_OP_CONV2D, CN_F32, 4, shape, 3,
                         (cn_node *[]){x, w, b});
    cn_scope_pop(g);
    if (cn_poisoned(g)) return y;
    y->kernel_h = y->kernel_w = kernel;
    y->stride = stride;
    for (int i = 0; i < 4; i++) y->pad[i] = pad[i];
    return y;
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

static void copy_attributes(cn_node *d, const cn_node *y)
{
    d->kernel_h = y->kernel_h;
    d->kernel_w = y->kernel_w;
    d->stride = y->stride;
    for (int i = 0; i < 4; i++) d->pad[i] = y->pad[i];
}

/* dx needs w; dw needs x; y isn't read, so its buffer may be reused by its last reader. */
void cn_conv2d_grad(cn_graph *g, cn_node *y, cn_node *dy)
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
        cn_grad_add(g, x, dx);
    }
}
