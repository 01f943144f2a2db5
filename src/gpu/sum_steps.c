/* SPDX-License-Identifier: Apache-2.0 */
/* sum_steps.c - steps that sum over many elements: norms, attention, channels, losses; and the
 * gradients of losses, which are no sums. */
#include "gpu/gpu_ops.h"

#define ADDRESS(x) cn_gpu_at(b, ctx, x)

/* --- norms ------------------------------------------------------------------------------------ */

typedef struct norm_args {
    VkDeviceAddress x, gamma, beta, given, y, stats;
    int N, P, C, groups, flags;
    float eps;
} norm_args;

typedef struct norm_grad_args {
    VkDeviceAddress dy, x, stats, gamma, beta, dx, dgamma, dbeta;
    int N, P, C, groups, flags;
} norm_grad_args;

enum {
    HAS_GAMMA = 1,
    HAS_GIVEN = 2,
    WANTS_STATS = 4,
    SILU = 8,
    WANTS_DGAMMA = 16,
    WANTS_DBETA = 32
};

static bool is_layer(const cn_node *n)
{
    return n->op == CN_OP_LAYER_NORM || n->op == CN_OP_LAYER_NORM_GRAD;
}

static cn_status run_norm(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const bool layer = is_layer(n);
    const int64_t rows = cn_gpu_rows(n);
    const norm_args a = {
        .x = ADDRESS(st->in[0]),
        .gamma = ADDRESS(st->in[1]),
        .beta = ADDRESS(st->in[2]),
        .given = n->n_in > 3 ? ADDRESS(st->in[3]) : 0,
        .y = ADDRESS(st->out),
        .stats = ADDRESS(st->aux[0]),
        .N = cn_gpu_int(layer ? rows : n->shape[0]),
        .P = cn_gpu_int(layer ? 1 : rows / n->shape[0]),
        .C = cn_gpu_int(cn_channels(n)),
        .groups = layer ? 1 : n->groups,
        .flags = (st->in[1] ? HAS_GAMMA : 0) | (n->n_in > 3 && st->in[3] ? HAS_GIVEN : 0) |
                 (st->aux[0] ? WANTS_STATS : 0) | (n->act == CN_ACT_SILU ? SILU : 0),
        .eps = n->eps};
    cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_OUT | CN_GPU_AUX0);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_norm, &a, sizeof a, (int64_t)a.N * a.groups);
}

const cn_gpu_op cn_gpu_group_norm = {.run = run_norm};
const cn_gpu_op cn_gpu_layer_norm = {.run = run_norm};

/* dgamma and dbeta first: dx may take dy's memory. */
static cn_status run_norm_grad(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const bool layer = is_layer(n);
    const int64_t rows = cn_gpu_rows(n);
    const norm_grad_args a = {.dy = ADDRESS(st->in[0]),
                              .x = ADDRESS(st->in[1]),
                              .stats = ADDRESS(st->in[2]),
                              .gamma = ADDRESS(st->in[3]),
                              .beta = ADDRESS(st->in[4]),
                              .dx = ADDRESS(st->out),
                              .dgamma = ADDRESS(st->aux[0]),
                              .dbeta = ADDRESS(st->aux[1]),
                              .N = cn_gpu_int(layer ? rows : n->shape[0]),
                              .P = cn_gpu_int(layer ? 1 : rows / n->shape[0]),
                              .C = cn_gpu_int(cn_channels(n)),
                              .groups = layer ? 1 : n->groups,
                              .flags = (n->act == CN_ACT_SILU ? SILU : 0) |
                                       (st->aux[0] ? WANTS_DGAMMA : 0) |
                                       (st->aux[1] ? WANTS_DBETA : 0)};
    if (st->aux[0] || st->aux[1]) {
        cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_AUX0 | CN_GPU_AUX1);
        CN_TRY(cn_gpu_go(b, ctx, CN_GPU_KERNEL_norm_dgamma, &a, sizeof a, a.C, 1, 1));
    }
    cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_OUT);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_norm_dx, &a, sizeof a, (int64_t)a.N * a.groups);
}

const cn_gpu_op cn_gpu_group_norm_grad = {.run = run_norm_grad};
const cn_gpu_op cn_gpu_layer_norm_grad = {.run = run_norm_grad};

/* --- attention -------------------------------------------------------------------------------- */

typedef struct attention_args {
    VkDeviceAddress q, k, v, y, lse, dy, delta, out;
    int N, L, M, D, heads, causal;
    float scale;
} attention_args;

static attention_args attention_sizes(gpu_backend *b, cn_ctx *ctx, const cn_step *st, int first)
{
    const cn_node *n = st->node, *q = n->in[first], *k = n->in[first + 1];
    return (attention_args){.q = ADDRESS(st->in[first]),
                            .k = ADDRESS(st->in[first + 1]),
                            .v = ADDRESS(st->in[first + 2]),
                            .N = cn_gpu_int(q->shape[0]),
                            .L = cn_gpu_int(q->shape[1]),
                            .M = cn_gpu_int(k->shape[1]),
                            .D = cn_gpu_int(cn_channels(q) / n->heads),
                            .heads = n->heads,
                            .causal = n->causal,
                            .scale = n->alpha};
}

/* Tiles of 32 rows, blocks of 64 channels; a head of an image each. */
static cn_status go_tiles(gpu_backend *b, cn_ctx *ctx, cn_gpu_kernel kernel,
                          const attention_args *a, int rows, bool channels)
{
    return cn_gpu_go(b, ctx, kernel, a, sizeof *a, (rows + 31) / 32,
                     channels ? (a->D + 63) / 64 : 1, (int64_t)a->N * a->heads);
}

static size_t row_values(const cn_node *q, int heads)
{
    return (size_t)(q->shape[0] * heads * q->shape[1]) * sizeof(float);
}

/* The rows' logarithms, where no gradient asks for them; of a gradient, delta. */
static cn_status prepare_attention(gpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)b, (void)ctx;
    const cn_node *n = st->node;
    const bool grad = n->op == CN_OP_ATTENTION_GRAD;
    const cn_node *q = n->in[grad ? 1 : 0], *k = n->in[grad ? 2 : 1];
    int products = grad ? 3 : 2;
    for (int i = 0; grad && i < 2; i++) products += n->aux[i] != NULL;
    st->flops = 2.0 * products * (double)cn_node_elements(q) * (double)k->shape[1] *
                (n->causal ? 0.5 : 1.0);
    if (grad || !n->aux[0]) st->scratch_bytes = row_values(q, n->heads);
    return CN_OK;
}

static cn_status run_attention(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    attention_args a = attention_sizes(b, ctx, st, 0);
    const void *lse = st->aux[0] ? st->aux[0] : st->scratch;
    a.out = a.lse = ADDRESS(lse);
    cn_gpu_touch(b, st, CN_GPU_IN0 | CN_GPU_IN1, CN_GPU_AUX0 | CN_GPU_SCRATCH);
    CN_TRY(go_tiles(b, ctx, CN_GPU_KERNEL_attention_lse, &a, a.L, false));
    a.out = ADDRESS(st->out);
    cn_gpu_touch(b, st, CN_GPU_INPUTS | CN_GPU_AUX0 | CN_GPU_SCRATCH, CN_GPU_OUT);
    return go_tiles(b, ctx, CN_GPU_KERNEL_attention_out, &a, a.L, true);
}

static cn_status run_attention_grad(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    attention_args a = attention_sizes(b, ctx, st, 1);
    a.dy = ADDRESS(st->in[0]);
    a.y = ADDRESS(st->in[4]);
    a.lse = ADDRESS(st->in[5]);
    a.out = a.delta = ADDRESS(st->scratch);
    cn_gpu_touch(b, st, CN_GPU_IN0 | CN_GPU_IN4, CN_GPU_SCRATCH);
    CN_TRY(cn_gpu_go(b, ctx, CN_GPU_KERNEL_attention_delta, &a, sizeof a, (a.L + 63) / 64, 1,
                     (int64_t)a.N * a.heads));
    const unsigned reads = CN_GPU_INPUTS | CN_GPU_SCRATCH;
    a.out = ADDRESS(st->out);
    cn_gpu_touch(b, st, reads, CN_GPU_OUT);
    CN_TRY(go_tiles(b, ctx, CN_GPU_KERNEL_attention_dq, &a, a.L, true));
    if (st->aux[0]) {
        a.out = ADDRESS(st->aux[0]);
        cn_gpu_touch(b, st, reads, CN_GPU_AUX0);
        CN_TRY(go_tiles(b, ctx, CN_GPU_KERNEL_attention_dk, &a, a.M, true));
    }
    if (!st->aux[1]) return CN_OK;
    a.out = ADDRESS(st->aux[1]);
    cn_gpu_touch(b, st, reads, CN_GPU_AUX1);
    return go_tiles(b, ctx, CN_GPU_KERNEL_attention_dv, &a, a.M, true);
}

const cn_gpu_op cn_gpu_attention = {prepare_attention, run_attention};
const cn_gpu_op cn_gpu_attention_grad = {prepare_attention, run_attention_grad};

/* --- channels --------------------------------------------------------------------------------- */

typedef struct sum_rows_args {
    VkDeviceAddress x, y;
    int N, P, C, share;
} sum_rows_args;

enum { ROWS_SHARE = 64, MOST_ROW_PARTS = 64 };

static int row_parts(const cn_node *n)
{
    const int64_t P = cn_gpu_rows(n->in[0]) / n->shape[0];
    return (int)CN_MAX(CN_MIN(P / ROWS_SHARE, MOST_ROW_PARTS), 1);
}

static cn_status prepare_sum_channel(gpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)b, (void)ctx;
    const int parts = row_parts(st->node);
    if (parts > 1) st->scratch_bytes = (size_t)parts * st->out_bytes;
    return CN_OK;
}

static cn_status run_sum_channel(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const int parts = row_parts(n), all = cn_gpu_int(cn_node_elements(n));
    const int P = cn_gpu_int(cn_gpu_rows(n->in[0]) / n->shape[0]);
    const sum_rows_args a = {.x = ADDRESS(st->in[0]),
                             .y = ADDRESS(parts > 1 ? st->scratch : st->out),
                             .N = cn_gpu_int(n->shape[0]),
                             .P = P,
                             .C = cn_gpu_int(cn_channels(n)),
                             .share = (P + parts - 1) / parts};
    cn_gpu_touch(b, st, CN_GPU_IN0, parts > 1 ? CN_GPU_SCRATCH : CN_GPU_OUT);
    CN_TRY(cn_gpu_go(b, ctx, CN_GPU_KERNEL_sum_rows, &a, sizeof a, (a.C + 63) / 64, parts, a.N));
    if (parts == 1) return CN_OK;
    cn_gpu_touch(b, st, CN_GPU_SCRATCH, CN_GPU_OUT);
    return cn_gpu_go_map(b, ctx,
                         &(cn_gpu_map_args){.a = a.y,
                                            .y = ADDRESS(st->out),
                                            .what = CN_GPU_MAP_SUM_PARTS,
                                            .n = all,
                                            .C = parts,
                                            .P = all});
}

const cn_gpu_op cn_gpu_sum_channel = {prepare_sum_channel, run_sum_channel};

/* --- losses ----------------------------------------------------------------------------------- */

typedef struct loss_map_args {
    VkDeviceAddress a, b, dy, per, y;
    int n, what, loss, each, C, weighted;
    float alpha;
} loss_map_args;

enum { OF_ELEMENTS, OF_LOSSES, OF_DIVERGENCES };
enum { LOSS_SLOPE, KL_SLOPE, GAUSS, GAUSS_SLOPE };
enum { TOTAL_SHARE = 4096, MOST_TOTAL_GROUPS = 1024 };

static int total_groups(int64_t n)
{
    return (int)CN_MIN((n + TOTAL_SHARE - 1) / TOTAL_SHARE, MOST_TOTAL_GROUPS);
}

static cn_status prepare_total(gpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)b, (void)ctx;
    st->scratch_bytes = (size_t)total_groups(cn_node_elements(st->node->in[0])) * sizeof(float);
    return CN_OK;
}

/* Each group's share into scratch, then these. */
static cn_status go_total(gpu_backend *b, cn_ctx *ctx, const cn_step *st, cn_gpu_total_args *a)
{
    const int groups = total_groups(a->n);
    a->a = ADDRESS(st->in[0]);
    a->b = ADDRESS(st->in[1]);
    a->y = ADDRESS(st->scratch);
    a->share = (a->n + groups - 1) / groups;
    cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_SCRATCH);
    CN_TRY(cn_gpu_go(b, ctx, CN_GPU_KERNEL_total, a, sizeof *a, groups, 1, 1));
    const cn_gpu_total_args all = {.a = a->y,
                                   .y = ADDRESS(st->out),
                                   .n = groups,
                                   .what = OF_ELEMENTS,
                                   .share = groups,
                                   .C = 1,
                                   .each = 1,
                                   .alpha = 1};
    cn_gpu_touch(b, st, CN_GPU_SCRATCH, CN_GPU_OUT);
    return cn_gpu_go(b, ctx, CN_GPU_KERNEL_total, &all, sizeof all, 1, 1, 1);
}

static cn_status run_loss(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node, *x = n->in[0];
    const int64_t all = cn_node_elements(x);
    cn_gpu_total_args a = {.per = ADDRESS(st->in[2]),
                           .n = cn_gpu_int(all),
                           .what = OF_LOSSES,
                           .loss = (int)n->loss,
                           .each = cn_gpu_int(all / x->shape[0]),
                           .C = 1,
                           .weighted = st->in[2] != NULL,
                           .alpha = 1 / (float)all};
    return go_total(b, ctx, st, &a);
}

static cn_status run_kl(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *x = st->node->in[0];
    cn_gpu_total_args a = {.n = cn_gpu_int(cn_node_elements(x) / 2),
                           .what = OF_DIVERGENCES,
                           .C = cn_gpu_int(cn_channels(x) / 2),
                           .each = 1,
                           .alpha = 1 / (float)x->shape[0]};
    return go_total(b, ctx, st, &a);
}

const cn_gpu_op cn_gpu_loss = {prepare_total, run_loss};
const cn_gpu_op cn_gpu_kl = {prepare_total, run_kl};

static cn_status go_loss_map(gpu_backend *b, cn_ctx *ctx, const cn_step *st, const loss_map_args *a)
{
    cn_gpu_touch(b, st, CN_GPU_INPUTS, CN_GPU_OUT);
    return cn_gpu_go_flat(b, ctx, CN_GPU_KERNEL_loss_map, a, sizeof *a, ((int64_t)a->n + 63) / 64);
}

/* in: a, b, dy [1] and, of a weighted one, per. */
static cn_status run_loss_dx(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    const int64_t all = cn_node_elements(n);
    return go_loss_map(b, ctx, st,
                       &(loss_map_args){.a = ADDRESS(st->in[0]),
                                        .b = ADDRESS(st->in[1]),
                                        .dy = ADDRESS(st->in[2]),
                                        .per = ADDRESS(st->in[3]),
                                        .y = ADDRESS(st->out),
                                        .n = cn_gpu_int(all),
                                        .what = LOSS_SLOPE,
                                        .loss = (int)n->loss,
                                        .each = cn_gpu_int(all / n->shape[0]),
                                        .C = 1,
                                        .weighted = st->in[3] != NULL,
                                        .alpha = 1 / (float)all});
}

static cn_status run_kl_dx(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *x = st->node->in[0];
    return go_loss_map(b, ctx, st,
                       &(loss_map_args){.a = ADDRESS(st->in[0]),
                                        .dy = ADDRESS(st->in[1]),
                                        .y = ADDRESS(st->out),
                                        .n = cn_gpu_int(cn_node_elements(x) / 2),
                                        .what = KL_SLOPE,
                                        .C = cn_gpu_int(cn_channels(x) / 2),
                                        .alpha = 1 / (float)x->shape[0]});
}

static cn_status run_gauss(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    return go_loss_map(b, ctx, st,
                       &(loss_map_args){.a = ADDRESS(st->in[0]),
                                        .b = ADDRESS(st->in[1]),
                                        .y = ADDRESS(st->out),
                                        .n = cn_gpu_int(cn_node_elements(n)),
                                        .what = GAUSS,
                                        .C = cn_gpu_int(cn_channels(n))});
}

/* in: moments, noise, dz. */
static cn_status run_gauss_dx(gpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const cn_node *n = st->node;
    return go_loss_map(b, ctx, st,
                       &(loss_map_args){.a = ADDRESS(st->in[0]),
                                        .b = ADDRESS(st->in[1]),
                                        .dy = ADDRESS(st->in[2]),
                                        .y = ADDRESS(st->out),
                                        .n = cn_gpu_int(cn_node_elements(n) / 2),
                                        .what = GAUSS_SLOPE,
                                        .C = cn_gpu_int(cn_channels(n) / 2)});
}

const cn_gpu_op cn_gpu_loss_dx = {.run = run_loss_dx};
const cn_gpu_op cn_gpu_kl_dx = {.run = run_kl_dx};
const cn_gpu_op cn_gpu_gauss = {.run = run_gauss};
const cn_gpu_op cn_gpu_gauss_dx = {.run = run_gauss_dx};
