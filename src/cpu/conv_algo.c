/* SPDX-License-Identifier: Apache-2.0 */
/* conv_algo.c - see conv_algo.h. */
#include "cpu/conv_algo.h"

#include "cpu/cpu_backend.h"
#include "cpu/kernels/bf16/conv_bf16.h"
#include "cpu/kernels/conv/few_outputs.h"
#include "cpu/kernels/conv/patches.h"
#include "cpu/kernels/streamed_product.h"

#include <string.h>

enum { TAPS = 9, LANES = CN_CONV_GROUP };

struct cn_conv_algo {
    cn_conv_algo_kind way;
    bool pairs; /* products of pairs of bfloat16, where a way has them */
    cn_conv_args args;
    int64_t *places; /* at_out, at_in, at_tap */
    cn_conv_tap *taps;
    cn_conv_grid *grids;
};

static int64_t groups_of(int64_t channels)
{
    return (channels + LANES - 1) / LANES;
}

/* Sizes as the kernel sees them: the data gradient convolves dy, with stride 1 by the kernel
 * rotated by half a turn. */
static cn_conv_args shape_of(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, int threads)
{
    cn_conv_args a = {.N = c->N, .type = c->type, .result = c->result, .threads = threads};
    if (kind != CN_DNNL_CONV_DX) {
        a.H = c->H, a.W = c->W, a.I = c->I;
        a.h = c->h, a.w = c->w, a.O = c->O;
        a.top = c->pad[0], a.left = c->pad[1];
    } else {
        a.H = c->h, a.W = c->w, a.I = c->O;
        a.h = c->H, a.w = c->W, a.O = c->wanted ? c->wanted : c->I;
        a.top = 2 - c->pad[0], a.left = 2 - c->pad[1];
    }
    a.O_apart = kind == CN_DNNL_CONV_DX ? c->I : c->O;
    return a;
}

/* Few positions: reading weights and bringing them into a product's form is what counts. Weights'
 * gradients: where there are enough jobs for all threads. */
static bool conv16_pays(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16,
                        int threads)
{
    if (c->type != CN_BF16 || bf16 != CN_BF16_AVX512 || c->I < LANES || c->O < LANES) return false;
    if (kind == CN_DNNL_CONV_DW)
        return groups_of(c->I) * groups_of(c->O) >= (int64_t)threads * CN_CONV16_OUTS;
    return (kind == CN_DNNL_CONV_DX || c->expand) && c->N * c->h * c->w <= CN_CONV16_FEW;
}

/* Multiplications of the direct way in the time of one vector's here; 0: too many to compete. */
static int direct_rate(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16,
                       int threads)
{
    if (c->type == CN_F32) return 1;
    if (bf16 != CN_BF16_AVX512) return 0;
    return kind == CN_DNNL_CONV_DW && !conv16_pays(kind, c, bf16, threads) ? 1 : 2;
}

/* In vectors' multiplications, as the direct way's count below. */
static double cost_of(cn_dnnl_conv_kind kind, const cn_conv_args *a)
{
    const cn_wino_size s = cn_wino_size_of(a);
    const double in = (double)groups_of(a->I), out = (double)groups_of(a->O);
    const double tiles = (double)s.tiles, vectors = in * LANES * out;
    if (kind == CN_DNNL_CONV_DW) {
        const int64_t jobs = s.in_blocks * s.out_blocks;
        const int64_t rounds = (jobs + a->threads - 1) / a->threads;
        const double idle = s.shares ? 1 : (double)(rounds * a->threads) / (double)jobs;
        const double times = (double)(s.shares ? s.shares : (s.tiles + s.block - 1) / s.block);
        return vectors * idle * (tiles * CN_WINO_TILE_COST + times * CN_WINO_DW_COST) +
               tiles * (in + out) * CN_WINO_IN_COST;
    }
    const double times = (double)(s.shares ? s.shares : (s.tiles + s.part - 1) / s.part);
    return vectors * (tiles * CN_WINO_TILE_COST + times * CN_WINO_WEIGHT_COST) +
           tiles * (in * CN_WINO_IN_COST + out * CN_WINO_OUT_COST);
}

static bool winograd_pays(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16,
                          int threads)
{
    const int rate = direct_rate(kind, c, bf16, threads);
    if (!rate || c->kernel_h != 3 || c->kernel_w != 3 || c->stride != 1 || c->dilation != 1)
        return false;
    const cn_conv_args a = shape_of(kind, c, threads);
    return cost_of(kind, &a) * rate <
           (double)(a.N * a.h * a.w) * TAPS * (double)a.I * (double)groups_of(a.O);
}

/* oneDNN reaches a quarter to three quarters of its products' rate in weight gradients of strided
 * convolutions. For data gradients it brings the weights into another layout first, which takes
 * most of the time where positions are few. */
static bool patches_pay(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, int threads)
{
    if (c->type != CN_F32 || c->stride == 1 || c->I < LANES || c->O < LANES) return false;
    if (kind == CN_DNNL_CONV_DX) return c->N * c->h * c->w <= 2 * CN_PATCH_POSITIONS;
    return kind == CN_DNNL_CONV_DW && groups_of(c->I) * cn_patch_blocks(c->O) >= threads;
}

/* oneDNN computes 16 outputs, or 8, whatever is asked for. */
static bool narrow_pays(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16)
{
    return kind == CN_DNNL_CONV && c->O <= CN_NARROW_OUT && c->I >= LANES &&
           (c->type == CN_F32 || bf16 != CN_BF16_AMX);
}

/* oneDNN waits for memory a fifth of the time where rows and what is added to them come from
 * there. */
static bool stream_pays(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16)
{
    const int64_t rows = c->N * c->h * c->w, each = (int64_t)cn_dtype_bytes(c->type);
    return kind == CN_DNNL_CONV && c->kernel_h * c->kernel_w == 1 && c->stride == 1 &&
           c->h == c->H && c->w == c->W && c->I % CN_STREAM_UNIT == 0 && c->O >= LANES &&
           c->I * c->O <= CN_STREAM_WEIGHTS && rows * (c->I + c->O) * each >= CN_STREAM_BYTES &&
           (c->type == CN_F32 || bf16 == CN_BF16_AVX512);
}

cn_conv_algo_kind cn_conv_algo_choose(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c,
                                      cn_bf16_level bf16, int threads)
{
    if (c->groups != 1) return CN_CONV_ONEDNN;
    if (narrow_pays(kind, c, bf16)) return CN_CONV_FEW_OUTPUTS;
    if (stream_pays(kind, c, bf16)) return CN_CONV_STREAM;
    if (winograd_pays(kind, c, bf16, threads)) return CN_CONV_WINOGRAD;
    return patches_pay(kind, c, threads) || conv16_pays(kind, c, bf16, threads) ? CN_CONV_PATCHES
                                                                                : CN_CONV_ONEDNN;
}

/* The grid of outputs from (y, x) on. Those of a strided convolution's data gradient are reached by
 * some of the taps alone, and by all in the opposite order. rows, columns: what a kernel position
 * adds to a weight's place. */
static void add_grid(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, const int64_t *rows,
                     const int64_t *columns, int y, int x, cn_conv_algo *p)
{
    cn_conv_args *a = &p->args;
    const bool dx = kind == CN_DNNL_CONV_DX;
    const int step = a->out_step;
    cn_conv_grid g = {.y = y,
                      .x = x,
                      .h = (a->h - y + step - 1) / step,
                      .w = (a->w - x + step - 1) / step,
                      .first = a->n_taps};
    int64_t *places = p->places + a->O_apart + a->I;
    for (int k = 0; k < c->kernel_h * c->kernel_w; k++) {
        const int at = dx ? c->kernel_h * c->kernel_w - 1 - k : k;
        const int ky = at / c->kernel_w, kx = at % c->kernel_w;
        const int down = ky * c->dilation - c->pad[0], right = kx * c->dilation - c->pad[1];
        const cn_conv_tap t = dx ? (cn_conv_tap){y - down, x - right} : (cn_conv_tap){down, right};
        if (t.y % step || t.x % step) continue;
        places[a->n_taps] = rows[ky] + columns[kx];
        p->taps[a->n_taps++] = (cn_conv_tap){t.y / step, t.x / step};
    }
    g.taps = a->n_taps - g.first;
    p->grids[a->n_grids++] = g;
}

static void find_places(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, const cn_param *w,
                        cn_conv_algo *p)
{
    cn_conv_args *a = &p->args;
    const bool dx = kind == CN_DNNL_CONV_DX;
    int64_t *out = p->places, *in = out + a->O_apart, *tap = in + a->I;
    int64_t *rows = tap + c->kernel_h * c->kernel_w, *columns = rows + c->kernel_h;
    cn_dnnl_places(w, dx ? 1 : 0, out);
    cn_dnnl_places(w, dx ? 0 : 1, in);
    cn_dnnl_places(w, 2, rows);
    cn_dnnl_places(w, 3, columns);
    a->at_out = out;
    a->at_in = in;
    a->at_tap = tap;
    a->taps = p->taps;
    a->grids = p->grids;
    a->in_step = dx ? 1 : c->stride;
    a->out_step = dx ? c->stride : 1;
    for (int y = 0; y < CN_MIN(a->out_step, a->h); y++)
        for (int x = 0; x < CN_MIN(a->out_step, a->w); x++)
            add_grid(kind, c, rows, columns, y, x, p);
}

/* Whether whole groups of `run` of a dimension's elements stand `apart`. */
static bool in_runs(const int64_t *places, int64_t n, int64_t run, int64_t apart)
{
    for (int64_t i = 0; i < n / run * run; i++)
        if (places[i] != places[i / run * run] + i % run * apart) return false;
    return n >= run;
}

static cn_weight_runs runs_of(const cn_conv_args *a)
{
    if (in_runs(a->at_out, a->O, LANES, 1)) return CN_RUNS_OUT;
    if (in_runs(a->at_in, a->I, LANES, 1)) return CN_RUNS_IN;
    if (in_runs(a->at_out, a->O, LANES, 2) && in_runs(a->at_in, a->I, 2, 1)) return CN_PAIRS_OUT;
    if (in_runs(a->at_in, a->I, LANES, 2) && in_runs(a->at_out, a->O, 2, 1)) return CN_PAIRS_IN;
    return CN_NO_RUNS;
}

static size_t scratch_bytes_of(const cn_conv_algo *p, cn_dnnl_conv_kind kind)
{
    const cn_conv_args *a = &p->args;
    const bool dw = kind == CN_DNNL_CONV_DW;
    const size_t threads = (size_t)a->threads;
    if (p->way == CN_CONV_FEW_OUTPUTS) return cn_few_outputs_bytes(a);
    if (p->way == CN_CONV_STREAM) return cn_stream_bytes(a);
    if (p->way == CN_CONV_PATCHES && p->pairs) {
        const cn_conv16_size s = dw ? cn_conv16_dw_size_of(a) : cn_conv16_size_of(a);
        return s.shared_bytes + s.thread_bytes * threads;
    }
    if (p->way == CN_CONV_PATCHES) {
        const cn_patches_size s = dw ? cn_patches_dw_size_of(a) : cn_patches_size_of(a);
        return (s.shared_floats + s.thread_floats * threads) * sizeof(float);
    }
    const cn_wino_size s = dw ? cn_wino_dw_size_of(a) : cn_wino_size_of(a);
    return (s.shared_floats + s.thread_floats * threads) * sizeof(float);
}

cn_status cn_conv_algo_prepare(cpu_backend *b, cn_ctx *ctx, cn_conv_algo_kind way,
                               cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_param *w,
                               cn_conv_algo **out, size_t *scratch_bytes)
{
    cn_conv_algo *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->way = way;
    p->pairs = c->type == CN_BF16 && b->bf16 == CN_BF16_AVX512;
    p->args = shape_of(kind, c, b->threads);
    cn_conv_args *a = &p->args;
    const size_t taps = (size_t)(c->kernel_h * c->kernel_w);
    const size_t grids = kind == CN_DNNL_CONV_DX ? (size_t)(c->stride * c->stride) : 1;
    const size_t places = (size_t)(a->I + a->O_apart + c->kernel_h + c->kernel_w) + taps;
    p->places = cn_alloc_array(ctx, places, sizeof *p->places);
    p->taps = cn_alloc_array(ctx, taps, sizeof *p->taps);
    p->grids = cn_alloc_array(ctx, grids, sizeof *p->grids);
    if (!p->places || !p->taps || !p->grids) {
        cn_conv_algo_destroy(p);
        return CN_ENOMEM;
    }
    find_places(kind, c, w, p);
    a->weight_type = w->dtype == CN_Q8 ? c->type : w->dtype; /* Q8 comes expanded */
    a->runs = runs_of(a);
    *scratch_bytes = scratch_bytes_of(p, kind);
    *out = p;
    return CN_OK;
}

static void run_dw(const cpu_backend *b, const cn_conv_algo *p, const cn_step *st, cn_conv_args *a)
{
    a->dy = st->in[1];
    a->dw = st->out;
    /* what only fills whole blocks up is zero */
    if (st->out_bytes > (size_t)(a->n_taps * a->I * a->O) * sizeof *a->dw)
        memset(a->dw, 0, st->out_bytes);
    switch (p->way) {
    case CN_CONV_PATCHES: (p->pairs ? cn_conv16_dw : b->k->patches_dw)(a); break;
    default: b->k->winograd_dw(a);
    }
}

void cn_conv_algo_run(const cpu_backend *b, const cn_conv_algo *p, const cn_step *st,
                      const void *weights, void *scratch)
{
    const cn_node *n = st->node;
    cn_conv_args a = p->args;
    a.scratch = scratch;
    a.x = st->in[0];
    if (n->op == CN_OP_CONV2D_DW) {
        run_dw(b, p, st, &a);
        return;
    }
    a.weights = weights;
    a.bias = n->op != CN_OP_CONV2D_DX && n->in[2] ? st->in[2] : NULL;
    a.residual = st->residual_data;
    a.shift = st->shift_data;
    a.act = st->act;
    a.act_alpha = st->act_alpha;
    a.y = st->out;
    switch (p->way) {
    case CN_CONV_PATCHES: (p->pairs ? cn_conv16 : b->k->patches)(&a); break;
    case CN_CONV_FEW_OUTPUTS: (p->pairs ? cn_few_outputs_bf16 : b->k->few_outputs)(&a); break;
    case CN_CONV_STREAM: (p->pairs ? cn_stream16 : b->k->stream)(&a); break;
    default: b->k->winograd(&a);
    }
}

void cn_conv_algo_destroy(cn_conv_algo *p)
{
    if (!p) return;
    cn_free(p->places);
    cn_free(p->taps);
    cn_free(p->grids);
    cn_free(p);
}
