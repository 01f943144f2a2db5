/* winograd.c - see winograd.h. */
#include "cpu/winograd.h"

#include "cpu/cpu_backend.h"

#include <string.h>

enum { TAPS = 9, LANES = CN_WINO_LANES };

struct cn_winograd {
    cn_winograd_args args;
    int64_t *places; /* at_out, at_in, at_tap */
};

static int64_t groups_of(int64_t channels)
{
    return (channels + LANES - 1) / LANES;
}

/* Sizes as the kernel sees them: the data gradient convolves dy with the kernel turned by half a turn. */
static cn_winograd_args shape_of(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, int threads)
{
    cn_winograd_args a = {.N = c->N, .type = c->type, .result = c->result, .threads = threads};
    if (kind != CN_DNNL_CONV_DX) {
        a.H = c->H, a.W = c->W, a.I = c->I;
        a.h = c->h, a.w = c->w, a.O = c->O;
        a.top = c->pad[0], a.left = c->pad[1];
    } else {
        a.H = c->h, a.W = c->w, a.I = c->O;
        a.h = c->H, a.w = c->W, a.O = c->I;
        a.top = 2 - c->pad[0], a.left = 2 - c->pad[1];
    }
    return a;
}

/* Multiplications of the direct way in the time of one vector's here; 0: too many to compete. */
static int direct_rate(cn_dnnl_conv_kind kind, cn_dtype type, cn_bf16_level bf16)
{
    if (type == CN_F32) return 1;
    if (bf16 != CN_BF16_AVX512) return 0;
    return kind == CN_DNNL_CONV_DW ? 1 : 2;
}

/* In vectors' multiplications, as the direct way's count below. */
static double cost_of(cn_dnnl_conv_kind kind, const cn_winograd_args *a)
{
    const cn_wino_size s = cn_wino_size_of(a);
    const double in = (double)groups_of(a->I), out = (double)groups_of(a->O);
    const double tiles = (double)s.tiles, vectors = in * LANES * out;
    if (kind == CN_DNNL_CONV_DW) {
        const int64_t jobs = s.in_blocks * s.out_blocks;
        const int64_t rounds = (jobs + a->threads - 1) / a->threads;
        const double idle = (double)(rounds * a->threads) / (double)jobs;
        const double blocks = (double)((s.tiles + s.block - 1) / s.block);
        return vectors * idle * (tiles * CN_WINO_TILE_COST + blocks * CN_WINO_DW_COST) +
               tiles * (in + out) * CN_WINO_IN_COST;
    }
    const double parts = (double)((s.tiles + s.part - 1) / s.part);
    return vectors * (tiles * CN_WINO_TILE_COST + parts * CN_WINO_WEIGHT_COST) +
           tiles * (in * CN_WINO_IN_COST + out * CN_WINO_OUT_COST);
}

bool cn_winograd_pays(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16,
                      int threads)
{
    const int rate = direct_rate(kind, c->type, bf16);
    if (!rate || c->kernel_h != 3 || c->kernel_w != 3 || c->stride != 1 || c->dilation != 1 ||
        c->groups != 1)
        return false;
    const cn_winograd_args a = shape_of(kind, c, threads);
    return cost_of(kind, &a) * rate <
           (double)(a.N * a.h * a.w) * TAPS * (double)a.I * (double)groups_of(a.O);
}

static void find_places(const cn_param *w, bool gradient, cn_winograd *p)
{
    cn_winograd_args *a = &p->args;
    int64_t *out = p->places, *in = out + a->O, *tap = in + a->I, y[3], x[3];
    cn_dnnl_places(w, gradient ? 1 : 0, out);
    cn_dnnl_places(w, gradient ? 0 : 1, in);
    cn_dnnl_places(w, 2, y);
    cn_dnnl_places(w, 3, x);
    for (int i = 0; i < TAPS; i++) tap[gradient ? TAPS - 1 - i : i] = y[i / 3] + x[i % 3];
    a->at_out = out;
    a->at_in = in;
    a->at_tap = tap;
}

/* Whether whole groups of `run` of a dimension's elements stand `apart`. */
static bool in_runs(const int64_t *places, int64_t n, int64_t run, int64_t apart)
{
    for (int64_t i = 0; i < n / run * run; i++)
        if (places[i] != places[i / run * run] + i % run * apart) return false;
    return n >= run;
}

static cn_wino_runs runs_of(const cn_winograd_args *a)
{
    if (in_runs(a->at_out, a->O, LANES, 1)) return CN_WINO_RUNS_OUT;
    if (in_runs(a->at_in, a->I, LANES, 1)) return CN_WINO_RUNS_IN;
    if (in_runs(a->at_out, a->O, LANES, 2) && in_runs(a->at_in, a->I, 2, 1))
        return CN_WINO_PAIRS_OUT;
    if (in_runs(a->at_in, a->I, LANES, 2) && in_runs(a->at_out, a->O, 2, 1))
        return CN_WINO_PAIRS_IN;
    return CN_WINO_NO_RUNS;
}

cn_status cn_winograd_prepare(cpu_backend *b, cn_ctx *ctx, cn_dnnl_conv_kind kind,
                              const cn_dnnl_conv_shape *c, cn_param *w, cn_winograd **out,
                              size_t *scratch_bytes)
{
    CN_TRY(cn_dnnl_conv_claim(ctx, b->dnnl, c, w));
    cn_winograd *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->args = shape_of(kind, c, b->threads);
    cn_winograd_args *a = &p->args;
    if (!(p->places = cn_alloc_array(ctx, (size_t)(a->I + a->O + TAPS), sizeof *p->places))) {
        cn_winograd_destroy(p);
        return CN_ENOMEM;
    }
    find_places(w, kind == CN_DNNL_CONV_DX, p);
    a->weight_type = w->dtype == CN_Q8 ? c->type : w->dtype; /* Q8 comes expanded */
    a->runs = runs_of(a);
    const cn_wino_size s = kind == CN_DNNL_CONV_DW ? cn_wino_dw_size_of(a) : cn_wino_size_of(a);
    *scratch_bytes = (s.shared_floats + s.thread_floats * (size_t)b->threads) * sizeof(float);
    *out = p;
    return CN_OK;
}

void cn_winograd_run(const cpu_backend *b, const cn_winograd *p, const cn_step *st,
                     const void *weights, void *scratch)
{
    const cn_node *n = st->node;
    cn_winograd_args a = p->args;
    a.scratch = scratch;
    a.x = st->in[0];
    if (n->op == CN_OP_CONV2D_DW) {
        a.dy = st->in[1];
        a.dw = st->out;
        /* what only fills whole blocks up is zero */
        if (st->out_bytes > (size_t)(TAPS * a.I * a.O) * sizeof *a.dw)
            memset(a.dw, 0, st->out_bytes);
        b->k->winograd_dw(&a);
        return;
    }
    a.weights = weights;
    a.bias = n->op == CN_OP_CONV2D && n->in[2] ? st->in[2] : NULL;
    a.residual = st->residual_data;
    a.shift = st->shift_data;
    a.act = st->act;
    a.act_alpha = st->act_alpha;
    a.y = st->out;
    b->k->winograd(&a);
}

void cn_winograd_destroy(cn_winograd *p)
{
    if (!p) return;
    cn_free(p->places);
    cn_free(p);
}
