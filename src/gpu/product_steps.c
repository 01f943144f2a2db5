/* SPDX-License-Identifier: Apache-2.0 */
/* product_steps.c - convolutions, linear layers and their gradients as steps. */
#include "gpu/gpu_ops.h"
#include "gpu/vk_matrices.h"

enum {
    TILE = 64, /* of matrix units; parts are counted by it whatever tile a product has */
    LEAST_SHARE = 512,
    MOST_PARTS = 16,
    HALVES = 512,       /* of the kernels' flags */
    MOST_GROUPS = 65535 /* in a direction, on every device */
};

/* Of kernels/product.h: a linear layer is a convolution by 1x1 over a picture of one row. */
typedef struct product_args {
    VkDeviceAddress a, b, c, bias, residual, shift;
    int rows, cols, depth, share, H, W, C, OH, OW, O, kernel, pad, flags, positions;
    float alpha;
} product_args;

typedef struct grouped_args {
    VkDeviceAddress a, b, c, bias, residual, shift;
    int n, what, N, H, W, C, OH, OW, O, kernel, pad, groups, flags, positions;
    float alpha;
} grouped_args;

/* x, y: the forward product's; w: its weight. */
typedef struct operands {
    const cn_node *x, *y;
    cn_param *w;
    int kind; /* 0 forward, 1 data gradient, 2 weight gradient */
    bool linear;
} operands;

static operands operands_of(const cn_node *n)
{
    const bool linear =
        n->op == CN_OP_LINEAR || n->op == CN_OP_LINEAR_DX || n->op == CN_OP_LINEAR_DW;
    operands o = {.linear = linear};
    o.kind = n->op == CN_OP_CONV2D || n->op == CN_OP_LINEAR         ? 0
             : n->op == CN_OP_CONV2D_DX || n->op == CN_OP_LINEAR_DX ? 1
                                                                    : 2;
    o.x = o.kind == 1 ? n : n->in[0];
    o.y = o.kind == 0 ? n : n->in[o.kind == 1 ? 0 : 1];
    o.w = o.kind == 2 ? n->param : n->in[1]->param;
    return o;
}

static int weight_type(cn_dtype t)
{
    return t == CN_F32 ? 0 : t == CN_F16 ? 1 : t == CN_BF16 ? 2 : t == CN_Q8 ? 3 : -1;
}

static int parts_of(const product_args *a)
{
    const int64_t tiles =
        ((int64_t)a->rows + TILE - 1) / TILE * (((int64_t)a->cols + TILE - 1) / TILE);
    /* as many groups as keep a large device busy, none with less than its loads are worth */
    const int64_t parts = CN_MIN(CN_MIN(256 / tiles, a->depth / LEAST_SHARE), MOST_PARTS);
    return (int)CN_MAX(parts, 1);
}

static product_args sizes_of(const cn_node *n, const operands *o)
{
    product_args a = {0};
    const int64_t rows = cn_gpu_rows(o->x);
    a.H = o->linear ? 1 : cn_gpu_int(o->x->shape[1]);
    a.W = cn_gpu_int(o->linear ? rows : o->x->shape[2]);
    a.C = cn_gpu_int(cn_channels(o->x));
    a.OH = o->linear ? 1 : cn_gpu_int(o->y->shape[1]);
    a.OW = cn_gpu_int(o->linear ? rows : o->y->shape[2]);
    a.O = cn_gpu_int(cn_channels(o->y));
    const int kh = o->linear ? 1 : n->kernel_h, kw = o->linear ? 1 : n->kernel_w;
    const unsigned stride = o->linear ? 1 : (unsigned)n->stride;
    const unsigned dilation = o->linear ? 1 : (unsigned)n->dilation;
    const int top = o->linear ? 0 : n->pad[0], left = o->linear ? 0 : n->pad[1];
    a.kernel = (int)((unsigned)kh | (unsigned)kw << 8 | stride << 16 | dilation << 24);
    a.pad = (int)((unsigned)(top + 32768) | (unsigned)(left + 32768) << 16);
    const int out_rows = cn_gpu_int(cn_gpu_rows(o->y));
    a.rows = o->kind == 0 ? out_rows : o->kind == 1 ? cn_gpu_int(rows) : a.O;
    a.cols = o->kind == 0 ? a.O : o->kind == 1 ? a.C : kh * kw * a.C;
    a.depth = o->kind == 0 ? kh * kw * a.C : o->kind == 1 ? kh * kw * a.O : out_rows;
    a.share = a.depth;
    return a;
}

static cn_status prepare(gpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    const cn_node *n = st->node;
    const operands o = operands_of(n);
    const bool grouped = !o.linear && n->groups > 1;
    if (o.kind != 2 && weight_type(o.w->dtype) < 0)
        return cn_fail(ctx, CN_EINVAL, "%s: no Vulkan kernel reads weights of %s", n->name,
                       cn_dtype_name(o.w->dtype));
    if (!o.linear &&
        (n->kernel_h > 255 || n->kernel_w > 255 || n->stride > 255 || n->dilation > 127))
        return cn_fail(ctx, CN_EINVAL, "%s: no Vulkan kernel is as large as %dx%d", n->name,
                       n->kernel_h, n->kernel_w);
    if (!o.linear) CN_TRY(cn_gpu_claim_order(b, ctx, o.w));
    const product_args a = sizes_of(n, &o);
    st->flops = 2.0 * a.rows * a.cols * a.depth / (grouped ? n->groups : 1);
    const int parts = o.kind == 2 && !grouped ? parts_of(&a) : 1;
    if (parts > 1)
        st->scratch_bytes = (size_t)parts * (size_t)a.rows * (size_t)a.cols * sizeof(float);
    return CN_OK;
}

static cn_status run_grouped(gpu_backend *b, cn_ctx *ctx, const cn_step *st, const operands *o,
                             const product_args *s)
{
    const cn_node *n = st->node;
    const grouped_args a = {
        .a = cn_gpu_at(b, ctx, st->in[0]),
        .b = cn_gpu_at(b, ctx, st->in[1]),
        .c = cn_gpu_at(b, ctx, st->out),
        .bias = s->bias,
        .residual = s->residual,
        .shift = s->shift,
        .n = cn_gpu_int(o->kind == 2 ? cn_param_elements(o->w) : cn_node_elements(n)),
        .what = o->kind,
        .N = cn_gpu_int(o->x->shape[0]),
        .H = s->H,
        .W = s->W,
        .C = s->C,
        .OH = s->OH,
        .OW = s->OW,
        .O = s->O,
        .kernel = s->kernel,
        .pad = s->pad,
        .groups = n->groups,
        .flags = s->flags,
        .positions = s->positions,
        .alpha = s->alpha};
    cn_gpu_touch(b, st, CN_GPU_INPUTS | CN_GPU_RESIDUAL | CN_GPU_SHIFT, CN_GPU_OUT);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_grouped, &a, sizeof a, ((int64_t)a.n + 63) / 64);
}

/* By matrices, where operands are halves and the device has such. */
static cn_gpu_kernel kernel_of(const gpu_backend *b, cn_gpu_kernel k)
{
    return b->halves && b->queue.d.about.matrix[0] ? cn_vk_matrix_kernel(k) : k;
}

static cn_status go(gpu_backend *b, cn_ctx *ctx, cn_gpu_kernel k, const product_args *a, int parts)
{
    cn_vk_call c = {.kernel = kernel_of(b, k), .trial = -1, .arguments = a, .bytes = sizeof *a};
    cn_vk_tile t = {TILE, TILE};
    if (c.kernel == k && a->rows <= MOST_GROUPS * (TILE / 2)) {
        const cn_vk_shape shape = {.kernel = (int32_t)k,
                                   .rows = a->rows,
                                   .cols = a->cols,
                                   .depth = a->depth,
                                   .share = a->share,
                                   .window = a->kernel,
                                   .weights = a->flags & (3 | HALVES)};
        CN_TRY(cn_vk_tiles_choose(ctx, &b->queue.chooser, &shape, &c.tile, &c.trial));
        t = cn_vk_tiles[c.tile];
    }
    c.x = (uint32_t)((a->cols + t.cols - 1) / t.cols);
    c.y = (uint32_t)((a->rows + t.rows - 1) / t.rows);
    c.z = (uint32_t)parts;
    return cn_gpu_call(b, ctx, &c);
}

/* Parts of a weight gradient go to scratch, and are added in their order. */
static cn_status run_parts(gpu_backend *b, cn_ctx *ctx, const cn_step *st, product_args *a)
{
    const int parts = parts_of(a), n = a->rows * a->cols;
    a->share = (a->depth + parts - 1) / parts;
    a->c = cn_gpu_at(b, ctx, parts > 1 ? st->scratch : st->out);
    cn_gpu_touch(b, st, CN_GPU_INPUTS, parts > 1 ? CN_GPU_SCRATCH : CN_GPU_OUT);
    CN_TRY(go(b, ctx, CN_GPU_KERNEL_product_dw, a, parts));
    if (parts == 1) return CN_OK;
    cn_gpu_touch(b, st, CN_GPU_SCRATCH, CN_GPU_OUT);
    return cn_gpu_go_map(b, ctx,
                         &(cn_gpu_map_args){.a = a->c,
                                            .y = cn_gpu_at(b, ctx, st->out),
                                            .what = CN_GPU_MAP_SUM_PARTS,
                                            .n = n,
                                            .C = parts,
                                            .P = n});
}

/* What is added to a forward product's sums. */
static void set_epilogue(gpu_backend *b, cn_ctx *ctx, const cn_step *st, const operands *o,
                         product_args *a)
{
    a->flags = (o->kind == 2 ? 0 : weight_type(o->w->dtype)) | (int)st->act << 2 |
               (b->halves ? HALVES : 0);
    a->alpha = st->act_alpha;
    a->positions = cn_gpu_int(cn_gpu_rows(o->y) / o->y->shape[0]);
    if (o->kind != 0) return;
    a->bias = cn_gpu_at(b, ctx, st->in[2]);
    a->residual = cn_gpu_at(b, ctx, st->residual_data);
    a->shift = cn_gpu_at(b, ctx, st->shift_data);
    a->flags |= (st->in[2] ? 64 : 0) | (st->shift ? 128 : 0) | (st->residual ? 256 : 0);
}

static cn_status run(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const operands o = operands_of(n);
    product_args a = sizes_of(n, &o);
    set_epilogue(b, ctx, st, &o, &a);
    if (!o.linear && n->groups > 1) return run_grouped(b, ctx, st, &o, &a);
    /* the weight gradient's kernel reads dy as a, x as b */
    a.a = cn_gpu_at(b, ctx, st->in[o.kind == 2 ? 1 : 0]);
    a.b = cn_gpu_at(b, ctx, st->in[o.kind == 2 ? 0 : 1]);
    if (o.kind == 2) return run_parts(b, ctx, st, &a);
    a.c = cn_gpu_at(b, ctx, st->out);
    cn_gpu_touch(b, st, CN_GPU_INPUTS | CN_GPU_RESIDUAL | CN_GPU_SHIFT, CN_GPU_OUT);
    return go(b, ctx, o.kind == 0 ? CN_GPU_KERNEL_product_forward : CN_GPU_KERNEL_product_dx, &a,
              1);
}

const cn_gpu_op cn_gpu_conv2d = {prepare, run};
const cn_gpu_op cn_gpu_conv2d_dx = {prepare, run};
const cn_gpu_op cn_gpu_conv2d_dw = {prepare, run};
const cn_gpu_op cn_gpu_linear = {prepare, run};
const cn_gpu_op cn_gpu_linear_dx = {prepare, run};
const cn_gpu_op cn_gpu_linear_dw = {prepare, run};
