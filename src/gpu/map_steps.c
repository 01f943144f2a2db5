/* SPDX-License-Identifier: Apache-2.0 */
/* map_steps.c - steps that make each result of a few elements: element by element, of channels
 * joined and cut out, of tables. */
#include "gpu/gpu_ops.h"

#define ADDRESS(x) cn_gpu_at(b, ctx, x)

/* y and as many inputs as there are, touched. */
static cn_status go(gpu_backend *b, cn_ctx *ctx, const cn_step *st, const cn_gpu_map_args *a)
{
    cn_gpu_map_args args = *a;
    args.a = ADDRESS(st->in[0]);
    args.b = ADDRESS(st->in[1]);
    args.y = ADDRESS(st->out);
    cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_OUT);
    return cn_gpu_go_map(b, ctx, &args);
}

static int elements(const cn_node *n)
{
    return cn_gpu_int(cn_node_elements(n));
}

#define MAP_STEP(name, ...)                                                       \
    static cn_status run_##name(gpu_backend *b, cn_ctx *ctx, const cn_step *st)   \
    {                                                                             \
        const cn_node *n = st->node;                                              \
        return go(b, ctx, st, &(cn_gpu_map_args){.n = elements(n), __VA_ARGS__}); \
    }                                                                             \
    const cn_gpu_op cn_gpu_##name = {.run = run_##name};

MAP_STEP(fill, .what = CN_GPU_MAP_FILL, .alpha = n->alpha)
MAP_STEP(act, .what = CN_GPU_MAP_ACT, .offset = (int)n->act, .alpha = n->alpha)
MAP_STEP(act_dx, .what = CN_GPU_MAP_ACT_DX, .offset = (int)n->act, .alpha = n->alpha)
MAP_STEP(scale, .what = CN_GPU_MAP_SCALE, .alpha = n->alpha)
MAP_STEP(gate, .what = CN_GPU_MAP_GATE, .C = cn_gpu_int(cn_channels(n)))
MAP_STEP(add_channel, .what = CN_GPU_MAP_ADD_CHANNEL, .C = cn_gpu_int(cn_channels(n)),
         .P = cn_gpu_int(cn_gpu_rows(n) / n->shape[0]))
MAP_STEP(add_rows, .what = CN_GPU_MAP_ADD_ROWS, .P = cn_gpu_int(cn_node_elements(n) / n->shape[0]))
MAP_STEP(geglu, .what = CN_GPU_MAP_GEGLU, .C = cn_gpu_int(cn_channels(n)))
MAP_STEP(timestep, .what = CN_GPU_MAP_TIMESTEP, .C = cn_gpu_int(n->shape[1]))
MAP_STEP(embed, .what = CN_GPU_MAP_EMBED, .C = cn_gpu_int(cn_channels(n)),
         .P = cn_gpu_int(n->in[0]->shape[0]))
MAP_STEP(embed_dw, .what = CN_GPU_MAP_EMBED_DW, .C = cn_gpu_int(cn_channels(n)),
         .P = elements(n->in[0]))
MAP_STEP(slice, .what = CN_GPU_MAP_COPY, .C = cn_gpu_int(cn_channels(n)),
         .P = cn_gpu_int(n->offset), .from = cn_gpu_int(cn_channels(n->in[0])),
         .to = cn_gpu_int(cn_channels(n)))
/* The table may have more rows than there are tokens. */
MAP_STEP(sum_batch, .what = CN_GPU_MAP_SUM_PARTS, .C = cn_gpu_int(n->in[0]->shape[0]),
         .P = cn_gpu_int(cn_node_elements(n->in[0]) / n->in[0]->shape[0]))

/* b may be a part of a's samples. */
static cn_status run_add(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const bool part = n->in[0]->shape[0] != n->in[1]->shape[0];
    const int64_t from = part ? n->offset * (cn_node_elements(n) / n->shape[0]) : 0;
    return go(b, ctx, st,
              &(cn_gpu_map_args){.what = CN_GPU_MAP_ADD,
                                 .n = elements(n),
                                 .from = cn_gpu_int(from),
                                 .to = cn_gpu_int(from + cn_node_elements(n->in[1]))});
}

const cn_gpu_op cn_gpu_add = {.run = run_add};

/* x [rows,2C] and dy [rows,C] give dx [rows,2C], an item for each element of dy. */
static cn_status run_geglu_dx(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    return go(b, ctx, st,
              &(cn_gpu_map_args){.what = CN_GPU_MAP_GEGLU_DX,
                                 .n = elements(n) / 2,
                                 .C = cn_gpu_int(cn_channels(n) / 2)});
}

const cn_gpu_op cn_gpu_geglu_dx = {.run = run_geglu_dx};

/* One copy for each of two inputs, which meet nowhere: what both touch is said before the first, so
 * that no barrier comes between them. */
static cn_status run_concat(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const int64_t C = cn_channels(n), first = cn_channels(n->in[0]);
    cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_OUT);
    for (int i = 0; i < 2; i++) {
        const int64_t own = i ? C - first : first;
        CN_TRY(cn_gpu_go_map(b, ctx,
                             &(cn_gpu_map_args){.a = ADDRESS(st->in[i]),
                                                .y = ADDRESS(st->out),
                                                .what = CN_GPU_MAP_COPY,
                                                .n = elements(n->in[i]),
                                                .C = cn_gpu_int(own),
                                                .from = cn_gpu_int(own),
                                                .to = cn_gpu_int(C),
                                                .offset = cn_gpu_int(i ? first : 0)}));
    }
    return CN_OK;
}

const cn_gpu_op cn_gpu_concat = {.run = run_concat};

/* F32 is all there is. */
static cn_status refuse_cast(gpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)b;
    return cn_fail(ctx, CN_EINVAL, "%s: Vulkan computes in F32 alone", st->node->name);
}

static cn_status run_cast(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)b, (void)st;
    return cn_fail(ctx, CN_EINTERNAL, "a cast was planned");
}

const cn_gpu_op cn_gpu_cast = {refuse_cast, run_cast};

/* --- picture sizes ---------------------------------------------------------------------------- */

typedef struct picture_args {
    VkDeviceAddress x, y;
    int n, what, h, w, H, W, C, kernel, stride, top, left, flag;
} picture_args;

static cn_status go_picture(gpu_backend *b, cn_ctx *ctx, const cn_step *st, int what, bool flag)
{
    const cn_node *n = st->node, *x = n->in[0];
    const picture_args a = {.x = ADDRESS(st->in[0]),
                            .y = ADDRESS(st->out),
                            .n = elements(n),
                            .what = what,
                            .h = cn_gpu_int(x->shape[1]),
                            .w = cn_gpu_int(x->shape[2]),
                            .H = cn_gpu_int(n->shape[1]),
                            .W = cn_gpu_int(n->shape[2]),
                            .C = cn_gpu_int(n->shape[3]),
                            .kernel = n->kernel_h,
                            .stride = n->stride,
                            .top = n->pad[0],
                            .left = n->pad[1],
                            .flag = flag};
    cn_gpu_touch(b, st, CN_GPU_IN0, CN_GPU_OUT);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_picture, &a, sizeof a, ((int64_t)a.n + 63) / 64);
}

#define PICTURE_STEP(name, what, flag)                                          \
    static cn_status run_##name(gpu_backend *b, cn_ctx *ctx, const cn_step *st) \
    {                                                                           \
        return go_picture(b, ctx, st, what, flag);                              \
    }                                                                           \
    const cn_gpu_op cn_gpu_##name = {.run = run_##name};

PICTURE_STEP(upsample, 0, false)
PICTURE_STEP(upsample_dx, 1, false)
PICTURE_STEP(max_pool, 2, false)
PICTURE_STEP(mean_pool, 3, false)
PICTURE_STEP(resize, 4, st->node->align_corners)
PICTURE_STEP(pad, 5, st->node->reflect)
