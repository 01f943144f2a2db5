/* SPDX-License-Identifier: Apache-2.0 */
/* test_conv_algo.c - the convolutions over patches and to few channels, and products of many rows,
 * in every variant that the processor runs: both directions and weights' gradients against naive
 * sums in double, for any kernel, stride, dilation and padding, weights of every type, with sums
 * and activations, by one to three threads, with the same bytes at every run; where bfloat16 is
 * multiplied, with weights in the layouts of either type's convolutions. And which convolutions are
 * computed so. (Winograd's: test_winograd.c.) */
#include "../support/unit/unit_env.h"
#include "cpu/cpu_backend.h"
#include "cpu/isa.h"
#include "cpu/conv_algo.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { FORWARD = 1, DX = 2, DW = 4 };

typedef struct shape {
    cn_conv_algo_kind way;
    int directions;
    int64_t N, H, W, I, O;
    int kernel_h, kernel_w, stride, dilation, pad[4];
    cn_dtype weights, in, out;
    bool sums;
    cn_act act;
} shape;

/* One step: x and y are its operands, w the weights as they are worth, all in floats. */
typedef struct work {
    const shape *s;
    cn_dtype layout; /* weights lie as convolutions of this type want them */
    bool plain;      /* or as a matrix does */
    cn_dnnl_conv_shape c;
    cn_params *params;
    cn_graph *graph;
    cn_param *q;
    cn_node node;
    float *x, *y, *w, *bias, *residual, *shift;
    void *stored_x, *stored_y, *stored_residual, *stored_shift;
} work;

static void *room(size_t bytes)
{
    void *p = cn_alloc0(NULL, CN_MAX(bytes, (size_t)1));
    assert_non_null(p);
    return p;
}

static float *noise(const char *key, float scale, int64_t n)
{
    float *x = room((size_t)n * sizeof *x);
    cn_seed_tensor(key, 0, scale, x, n);
    return x;
}

/* x in elements of a type, and x as these are worth. */
static void *stored_as(cn_dtype type, float *x, int64_t n)
{
    void *stored = room(cn_dtype_size(type, n));
    cn_from_f32(type, x, stored, (size_t)n);
    cn_to_f32(type, stored, x, (size_t)n);
    return stored;
}

static int64_t out_size(int64_t in, int before, int after, int kernel, const shape *s)
{
    return (in + before + after - s->dilation * (kernel - 1) - 1) / s->stride + 1;
}

static int64_t inputs_of(const cn_dnnl_conv_shape *c)
{
    return c->N * c->H * c->W * c->I;
}

static int64_t outputs_of(const cn_dnnl_conv_shape *c)
{
    return c->N * c->h * c->w * c->O;
}

static int64_t weights_of(const cn_dnnl_conv_shape *c)
{
    return c->O * c->I * c->kernel_h * c->kernel_w;
}

static void describe(const shape *s, work *t)
{
    t->s = s;
    t->c = (cn_dnnl_conv_shape){.N = s->N,
                                .H = s->H,
                                .W = s->W,
                                .I = s->I,
                                .O = s->O,
                                .h = out_size(s->H, s->pad[0], s->pad[2], s->kernel_h, s),
                                .w = out_size(s->W, s->pad[1], s->pad[3], s->kernel_w, s),
                                .kernel_h = s->kernel_h,
                                .kernel_w = s->kernel_w,
                                .stride = s->stride,
                                .dilation = s->dilation,
                                .groups = 1,
                                .bias = true,
                                .type = s->in,
                                .result = s->out};
    memcpy(t->c.pad, s->pad, sizeof s->pad);
}

/* The parameter, of which the backend has not yet claimed a layout. */
static void declare(work *t)
{
    const shape *s = t->s;
    must(cn_params_create(ctx, "net", &t->params));
    cn_params_set_storage(t->params, s->weights);
    must(cn_graph_create(ctx, &t->graph));
    cn_graph_use(t->graph, t->params);
    cn_node *x = cn_input4(t->graph, "x", s->N, s->H, s->W, s->I);
    t->node = *cn_convolution(t->graph, "op", x,
                              &(cn_conv_spec){.O = s->O,
                                              .kernel_h = s->kernel_h,
                                              .kernel_w = s->kernel_w,
                                              .stride = s->stride,
                                              .dilation = s->dilation,
                                              .pad = {s->pad[0], s->pad[1], s->pad[2], s->pad[3]}});
    assert_non_null(t->q = cn_params_find(t->params, "op.weight"));
}

static void set_up(const shape *s, work *t)
{
    describe(s, t);
    declare(t);
    const cn_dnnl_conv_shape *c = &t->c;
    t->x = noise("x", 1, inputs_of(c));
    t->y = noise("y", 1, outputs_of(c));
    t->w = noise("w", 1 / sqrtf((float)(c->kernel_h * c->kernel_w * c->I)), weights_of(c));
    t->bias = noise("bias", 1, c->O);
    t->residual = noise("residual", 1, outputs_of(c));
    t->shift = noise("shift", 1, c->N * c->O);
    if (s->way == CN_CONV_PATCHES)
        cn_free(stored_as(CN_BF16, t->w, weights_of(c))); /* as they are multiplied */
    t->stored_x = stored_as(s->in, t->x, inputs_of(c));
    t->stored_y = stored_as(s->in, t->y, outputs_of(c));
    t->stored_residual = stored_as(s->out, t->residual, outputs_of(c));
    t->stored_shift = stored_as(s->out, t->shift, c->N * c->O);
}

static void tear_down(work *t)
{
    void *all[] = {t->x,           t->y,        t->w,
                   t->bias,        t->residual, t->shift,
                   t->stored_x,    t->stored_y, t->stored_residual,
                   t->stored_shift};
    for (size_t i = 0; i < CN_COUNT(all); i++) cn_free(all[i]);
    cn_graph_destroy(t->graph);
    cn_params_destroy(t->params);
}

/* Calls f for each input that an output pixel is made of: indices of pixels, and of the kernel's
 * position. */
typedef struct pair {
    int64_t x, y, k;
} pair;

static int64_t pairs_of(const cn_dnnl_conv_shape *c, pair *to)
{
    int64_t n = 0;
    for (int64_t p = 0; p < c->N * c->h * c->w; p++)
        for (int k = 0; k < c->kernel_h * c->kernel_w; k++) {
            const int64_t image = p / (c->h * c->w);
            const int64_t y =
                p / c->w % c->h * c->stride - c->pad[0] + k / c->kernel_w * c->dilation;
            const int64_t x = p % c->w * c->stride - c->pad[1] + k % c->kernel_w * c->dilation;
            if (y < 0 || y >= c->H || x < 0 || x >= c->W) continue;
            to[n++] = (pair){(image * c->H + y) * c->W + x, p, k};
        }
    return n;
}

static double activated(const shape *s, double v)
{
    if (s->act == CN_ACT_RELU) return v > 0 ? v : 0;
    if (s->act == CN_ACT_LEAKY_RELU) return v > 0 ? v : 0.2 * v;
    return v;
}

/* What a direction should give: y, dx of t->y, or dw (published order) of t->y. */
static double *naive(const work *t, int direction, int64_t *n)
{
    const cn_dnnl_conv_shape *c = &t->c;
    const int64_t taps = c->kernel_h * c->kernel_w;
    pair *pairs = room((size_t)(c->N * c->h * c->w * taps) * sizeof *pairs);
    const int64_t n_pairs = pairs_of(c, pairs);
    *n = direction == FORWARD ? outputs_of(c) : direction == DX ? inputs_of(c) : weights_of(c);
    double *sum = room((size_t)*n * sizeof *sum);
    for (const pair *p = pairs; p < pairs + n_pairs; p++)
        for (int64_t o = 0; o < c->O; o++)
            for (int64_t i = 0; i < c->I; i++) {
                const int64_t x = p->x * c->I + i, y = p->y * c->O + o,
                              w = (o * c->I + i) * taps + p->k;
                if (direction == FORWARD) sum[y] += (double)t->x[x] * (double)t->w[w];
                if (direction == DX) sum[x] += (double)t->y[y] * (double)t->w[w];
                if (direction == DW) sum[w] += (double)t->y[y] * (double)t->x[x];
            }
    for (int64_t y = 0; y < *n && direction == FORWARD; y++) {
        sum[y] += (double)t->bias[y % c->O];
        if (t->s->sums) {
            sum[y] += (double)t->residual[y];
            sum[y] += (double)t->shift[y / (c->h * c->w * c->O) * c->O + y % c->O];
        }
        sum[y] = activated(t->s, sum[y]);
    }
    cn_free(pairs);
    return sum;
}

/* Sums in f32: within 1e-5 of the largest; a result in bfloat16 is rounded once more, by 2^-8 of
 * itself at most. */
static void compare(const work *t, const float *got, const double *want, int64_t n, cn_dtype type,
                    const char *isa, int direction)
{
    double most = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - want[i]);
        if (type == CN_BF16) e -= fabs(want[i]) / 256;
        most = fmax(most, fabs(want[i]));
        if (!(e <= off)) off = e;
    }
    if (!(off <= 1e-5 * most))
        fail_msg("%s, direction %d, %lldx%lldx%lld to %lld: %g off, largest %g", isa, direction,
                 (long long)t->c.H, (long long)t->c.W, (long long)t->c.I, (long long)t->c.O, off,
                 most);
}

/* Such convolutions round their weights to it. */
static bool multiplies_bf16(const cpu_backend *b, const work *t)
{
    return t->s->way != CN_CONV_PATCHES && t->s->in == CN_BF16 && b->bf16 == CN_BF16_AVX512;
}

/* Runs a direction with as many threads; its result in floats, a gradient of weights in the
 * published order. */
static float *run(cpu_backend *b, work *t, int direction, int threads)
{
    const cn_dnnl_conv_kind kind = direction == FORWARD ? CN_DNNL_CONV
                                   : direction == DX    ? CN_DNNL_CONV_DX
                                                        : CN_DNNL_CONV_DW;
    cn_conv_algo *own = NULL;
    size_t scratch = 0;
    b->threads = threads;
    omp_set_num_threads(threads);
    cn_dnnl_conv_shape as_laid = t->c;
    as_laid.type = t->layout;
    as_laid.result = CN_F32;
    const cn_dnnl_product m = {
        .R = outputs_of(&t->c) / t->c.O, .I = t->c.I, .O = t->c.O, .result = CN_F32};
    if (t->plain) must(cn_dnnl_linear_claim(ctx, b->dnnl, &m, t->q));
    must(cn_dnnl_conv_claim(ctx, b->dnnl, &as_laid, t->q));
    must(cn_conv_algo_prepare(b, ctx, t->s->way, kind, &t->c, t->q, &own, &scratch));
    if (!t->q->loaded) {
        must(cn_param_set(&b->base, ctx, t->q, t->w));
        must(cn_param_get(&b->base, ctx, t->q, t->w)); /* as they are worth */
        if (multiplies_bf16(b, t)) cn_free(stored_as(CN_BF16, t->w, weights_of(&t->c)));
    }
    cn_node n = t->node;
    n.op = direction == FORWARD ? CN_OP_CONV2D
           : direction == DX    ? CN_OP_CONV2D_DX
                                : CN_OP_CONV2D_DW;
    const bool sums = direction == FORWARD && t->s->sums;
    const cn_dtype type = direction == DW ? CN_F32 : t->s->out;
    const int64_t elements = direction == FORWARD ? outputs_of(&t->c)
                             : direction == DX    ? inputs_of(&t->c)
                                                  : cn_param_physical(t->q);
    cn_step st = {.node = &n,
                  .in = {direction == DX ? t->stored_y : t->stored_x,
                         direction == DW ? t->stored_y : t->q->data, t->bias},
                  .residual_data = sums ? t->stored_residual : NULL,
                  .shift_data = sums ? t->stored_shift : NULL,
                  .act = direction == FORWARD ? t->s->act : CN_ACT_NONE,
                  .act_alpha = 0.2f,
                  .out_bytes = cn_dtype_size(type, elements)};
    st.out = room(st.out_bytes);
    void *scratch_data = room(scratch);
    memset(st.out, 0xff, st.out_bytes);
    memset(scratch_data, 0xff, scratch); /* NaN: nothing unwritten is read */
    cn_conv_algo_run(b, own, &st, t->q->data, scratch_data);
    float *got = room((size_t)elements * sizeof *got);
    if (direction == DW)
        must(b->base.to_plain(&b->base, ctx, t->q, CN_F32, st.out, got));
    else
        cn_to_f32(type, st.out, got, (size_t)elements);
    cn_free(st.out);
    cn_free(scratch_data);
    cn_conv_algo_destroy(own);
    return got;
}

static void check(cpu_backend *b, work *t, int direction)
{
    cn_free(run(b, t, direction, 1)); /* the weights are worth what is stored from here on */
    int64_t n;
    double *want = naive(t, direction, &n);
    for (int threads = 1; threads <= 3; threads++) {
        float *got = run(b, t, direction, threads), *again = run(b, t, direction, threads);
        compare(t, got, want, n, direction == DW ? CN_F32 : t->s->out, b->k->isa, direction);
        assert_memory_equal(got, again, (size_t)n * sizeof *got);
        cn_free(got);
        cn_free(again);
    }
    cn_free(want);
}

#define PATCHES CN_CONV_PATCHES
#define NARROW  CN_CONV_FEW_OUTPUTS
#define STREAM  CN_CONV_STREAM
#define ALL_F32 CN_F32, CN_F32, CN_F32
#define NO_ACT  false, CN_ACT_NONE
static const shape shapes[] = {
    {PATCHES, FORWARD | DX | DW, 1, 16, 16, 64, 64, 3, 3, 2, 1, {1, 1, 1, 1}, ALL_F32, NO_ACT},
    {PATCHES,
     FORWARD | DX | DW,
     2,
     7,
     9,
     21,
     37,
     3,
     3,
     2,
     1,
     {1, 1, 1, 1},
     ALL_F32,
     true,
     CN_ACT_RELU},
    {PATCHES,
     FORWARD | DX,
     2,
     8,
     5,
     80,
     70,
     3,
     3,
     2,
     1,
     {0, 0, 1, 1},
     CN_F16,
     CN_F32,
     CN_F32,
     true,
     CN_ACT_NONE},
    {PATCHES, FORWARD | DX | DW, 1, 23, 25, 35, 20, 3, 3, 1, 1, {1, 0, 2, 1}, ALL_F32, NO_ACT},
    {PATCHES, FORWARD | DX | DW, 1, 11, 14, 16, 18, 5, 2, 3, 2, {2, 1, 3, 0}, ALL_F32, NO_ACT},
    {PATCHES,
     FORWARD | DX | DW,
     1,
     9,
     7,
     33,
     17,
     1,
     1,
     2,
     1,
     {0, 0, 0, 0},
     ALL_F32,
     NO_ACT}, /* grids without a tap */
    {PATCHES, FORWARD | DX | DW, 1, 1, 3, 16, 16, 3, 3, 2, 1, {1, 1, 1, 1}, ALL_F32, NO_ACT},
    {PATCHES,
     FORWARD | DX | DW,
     2,
     8,
     9,
     48,
     64,
     3,
     3,
     2,
     1,
     {1, 1, 1, 1},
     CN_F32,
     CN_BF16,
     CN_BF16,
     true,
     CN_ACT_LEAKY_RELU},
    {PATCHES,
     FORWARD | DX,
     1,
     6,
     6,
     19,
     33,
     3,
     3,
     2,
     1,
     {1, 1, 1, 1},
     CN_BF16,
     CN_BF16,
     CN_F32,
     NO_ACT},
    {NARROW, FORWARD, 1, 40, 37, 128, 3, 3, 3, 1, 1, {1, 1, 1, 1}, ALL_F32, NO_ACT},
    {NARROW,
     FORWARD,
     2,
     7,
     9,
     37,
     4,
     3,
     3,
     1,
     1,
     {1, 1, 1, 1},
     CN_F16,
     CN_F32,
     CN_F32,
     true,
     CN_ACT_RELU},
    {NARROW, FORWARD, 1, 9, 5, 16, 1, 3, 5, 2, 2, {2, 1, 0, 3}, ALL_F32, true, CN_ACT_LEAKY_RELU},
    {NARROW, FORWARD, 1, 3, 33, 50, 2, 1, 1, 1, 1, {0, 0, 0, 0}, CN_BF16, CN_F32, CN_F32, NO_ACT},
    {NARROW,
     FORWARD,
     1,
     8,
     8,
     40,
     3,
     3,
     3,
     1,
     1,
     {1, 1, 1, 1},
     CN_BF16,
     CN_BF16,
     CN_BF16,
     true,
     CN_ACT_NONE},
    {NARROW, FORWARD, 1, 18, 8, 64, 4, 3, 3, 1, 1, {1, 1, 1, 1}, CN_F32, CN_BF16, CN_F32, NO_ACT},
    {NARROW,
     FORWARD,
     2,
     35,
     70,
     96,
     3,
     3,
     3,
     1,
     1,
     {1, 1, 1, 1},
     CN_BF16,
     CN_BF16,
     CN_BF16,
     NO_ACT},
    {NARROW, FORWARD, 1, 21, 60, 64, 1, 5, 2, 2, 1, {2, 1, 1, 0}, ALL_F32, true, CN_ACT_RELU},
    {NARROW,
     FORWARD,
     1,
     5,
     29,
     32,
     2,
     3,
     3,
     1,
     4,
     {4, 4, 4, 4},
     CN_F16,
     CN_BF16,
     CN_F32,
     true,
     CN_ACT_NONE},
    {NARROW, FORWARD, 1, 2, 2, 48, 3, 3, 3, 1, 1, {0, 2, 3, 0}, ALL_F32, NO_ACT},
    {STREAM, FORWARD, 1, 1, 47, 64, 128, 1, 1, 1, 1, {0, 0, 0, 0}, ALL_F32, NO_ACT},
    {STREAM,
     FORWARD,
     3,
     5,
     4,
     96,
     70,
     1,
     1,
     1,
     1,
     {0, 0, 0, 0},
     CN_F16,
     CN_F32,
     CN_F32,
     true,
     CN_ACT_RELU},
    {STREAM, FORWARD, 1, 1, 6, 32, 17, 1, 1, 1, 1, {0, 0, 0, 0}, ALL_F32, true, CN_ACT_NONE},
    {STREAM,
     FORWARD,
     2,
     3,
     7,
     64,
     130,
     1,
     1,
     1,
     1,
     {0, 0, 0, 0},
     CN_F32,
     CN_BF16,
     CN_BF16,
     true,
     CN_ACT_NONE},
    {STREAM,
     FORWARD,
     1,
     1,
     23,
     160,
     64,
     1,
     1,
     1,
     1,
     {0, 0, 0, 0},
     CN_BF16,
     CN_BF16,
     CN_F32,
     NO_ACT},
};

static void check_directions(cpu_backend *b, const shape *s, cn_dtype layout, bool plain)
{
    work t;
    set_up(s, &t);
    t.layout = layout;
    t.plain = plain;
    for (int direction = FORWARD; direction <= DW; direction *= 2)
        if (s->directions & direction) check(b, &t, direction);
    tear_down(&t);
}

/* All shapes by one variant's kernels. */
static void check_variant(cpu_backend *b, const cn_kernels *k, cn_bf16_level bf16)
{
    const cpu_backend own = *b;
    b->k = k;
    b->bf16 = bf16;
    for (size_t i = 0; i < CN_COUNT(shapes); i++) {
        if (shapes[i].in == CN_BF16 && own.bf16 == CN_BF16_NONE) continue;
        if (shapes[i].in == CN_BF16 && shapes[i].way == STREAM && bf16 == CN_BF16_NONE) continue;
        check_directions(b, &shapes[i], shapes[i].in, false);
    }
    *b = own;
    omp_set_num_threads(own.threads);
}

static void test_every_variant_against_naive_sums(void **state)
{
    (void)state;
    cpu_backend *b = (cpu_backend *)env.backend;
    for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++)
        check_variant(b, cn_cpu_kernels((cn_isa)isa), CN_BF16_NONE);
    if (b->bf16 != CN_BF16_NONE) check_variant(b, b->k, CN_BF16_AVX512);
}

/* All that goes over patches, and shapes of more channels than a product takes at a time. */
static void test_products_of_pairs_against_naive_sums(void **state)
{
    (void)state;
    static const shape more[] = {
        {PATCHES,
         FORWARD | DX | DW,
         1,
         5,
         7,
         420,
         80,
         1,
         1,
         1,
         1,
         {0, 0, 0, 0},
         CN_F32,
         CN_BF16,
         CN_F32,
         NO_ACT},
        {PATCHES,
         FORWARD | DX | DW,
         3,
         9,
         11,
         80,
         230,
         1,
         1,
         1,
         1,
         {0, 0, 0, 0},
         CN_BF16,
         CN_BF16,
         CN_F32,
         true,
         CN_ACT_RELU},
        {PATCHES,
         FORWARD | DX | DW,
         1,
         8,
         8,
         144,
         160,
         3,
         3,
         1,
         1,
         {1, 1, 1, 1},
         CN_BF16,
         CN_BF16,
         CN_BF16,
         true,
         CN_ACT_NONE},
        {PATCHES,
         FORWARD | DX,
         1,
         4,
         4,
         96,
         200,
         3,
         3,
         1,
         1,
         {1, 1, 1, 1},
         CN_F16,
         CN_BF16,
         CN_F32,
         NO_ACT},
    };
    cpu_backend *b = (cpu_backend *)env.backend;
    const int threads = b->threads;
    if (!env.backend->computes(env.backend, CN_BF16)) {
        print_message("skipped: this processor doesn't multiply bfloat16\n");
        skip();
    }
    for (size_t i = 0; i < CN_COUNT(shapes) + CN_COUNT(more); i++) {
        shape s = i < CN_COUNT(shapes) ? shapes[i] : more[i - CN_COUNT(shapes)];
        if (s.way != PATCHES) continue;
        s.in = CN_BF16;
        check_directions(b, &s, CN_F32, false);
        check_directions(b, &s, CN_BF16, false);
        if (s.kernel_h * s.kernel_w == 1) check_directions(b, &s, CN_F32, true);
    }
    b->threads = threads;
    omp_set_num_threads(threads);
}

static cn_conv_algo_kind way(cn_dnnl_conv_kind kind, int64_t side, int64_t I, int64_t O, int stride,
                             cn_dtype type)
{
    const int64_t out = (side - 1) / stride + 1;
    const cn_dnnl_conv_shape c = {.N = 1,
                                  .H = side,
                                  .W = side,
                                  .I = I,
                                  .O = O,
                                  .h = out,
                                  .w = out,
                                  .kernel_h = 3,
                                  .kernel_w = 3,
                                  .stride = stride,
                                  .dilation = 1,
                                  .groups = 1,
                                  .pad = {1, 1, 1, 1},
                                  .type = type,
                                  .result = CN_F32};
    return cn_conv_algo_choose(kind, &c, CN_BF16_AVX512, 2);
}

static cn_conv_algo_kind product_algo(int64_t rows, int64_t I, int64_t O, cn_dtype type)
{
    const cn_dnnl_conv_shape c = {.N = 1,
                                  .H = 1,
                                  .W = rows,
                                  .I = I,
                                  .O = O,
                                  .h = 1,
                                  .w = rows,
                                  .kernel_h = 1,
                                  .kernel_w = 1,
                                  .stride = 1,
                                  .dilation = 1,
                                  .groups = 1,
                                  .type = type,
                                  .result = CN_F32};
    return cn_conv_algo_choose(CN_DNNL_CONV, &c, CN_BF16_AVX512, 2);
}

static void test_which_convolutions(void **state)
{
    (void)state;
    /* SD 1.5's down-sampling: oneDNN's forward, patches for weights and where positions are few */
    assert_int_equal(way(CN_DNNL_CONV, 16, 1280, 1280, 2, CN_F32), CN_CONV_ONEDNN);
    assert_int_equal(way(CN_DNNL_CONV_DX, 16, 1280, 1280, 2, CN_F32), CN_CONV_PATCHES);
    assert_int_equal(way(CN_DNNL_CONV_DX, 64, 320, 320, 2, CN_F32), CN_CONV_ONEDNN);
    assert_int_equal(way(CN_DNNL_CONV_DW, 64, 320, 320, 2, CN_F32), CN_CONV_PATCHES);
    assert_int_equal(way(CN_DNNL_CONV_DW, 64, 320, 320, 2, CN_BF16), CN_CONV_PATCHES);
    /* the decoder's last convolution, the UNet's */
    assert_int_equal(way(CN_DNNL_CONV, 512, 128, 3, 1, CN_F32), CN_CONV_FEW_OUTPUTS);
    assert_int_equal(way(CN_DNNL_CONV, 512, 128, 3, 1, CN_BF16), CN_CONV_FEW_OUTPUTS);
    assert_int_equal(way(CN_DNNL_CONV, 64, 320, 4, 1, CN_F32), CN_CONV_FEW_OUTPUTS);
    assert_int_equal(way(CN_DNNL_CONV, 64, 320, 8, 1, CN_F32), CN_CONV_WINOGRAD);
    assert_int_equal(way(CN_DNNL_CONV_DX, 64, 320, 4, 1, CN_F32), CN_CONV_ONEDNN);
    assert_int_equal(way(CN_DNNL_CONV, 64, 4, 320, 1, CN_F32), CN_CONV_ONEDNN);
    /* the decoder's shortcut; rows that the caches hold, weights that they don't */
    assert_int_equal(product_algo(512 * 512, 256, 128, CN_F32), CN_CONV_STREAM);
    assert_int_equal(product_algo(512 * 512, 256, 128, CN_BF16), CN_CONV_STREAM);
    assert_int_equal(product_algo(64 * 64, 320, 128, CN_F32), CN_CONV_ONEDNN);
    assert_int_equal(product_algo(256 * 256, 512, 256, CN_F32), CN_CONV_ONEDNN);
}

/* A product by the graph, of more rows than caches hold: y = x w + bias + r. */
static void test_product_of_many_rows(void **state)
{
    (void)state;
    enum { R = 90001, I = 32, O = 70, EVERY = 113 };
    cn_params *params = NULL;
    cn_graph *g = NULL;
    cn_plan *p = NULL;
    must(cn_params_create(ctx, "net", &params));
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, params);
    cn_node *x = cn_input(g, "x", CN_F32, 2, (int64_t[]){R, I}, false);
    cn_node *r = cn_input(g, "r", CN_F32, 2, (int64_t[]){R, O}, false);
    cn_node *y = cn_add(g, cn_linear(g, "op", x, O, true), r);
    must(cn_plan_create(ctx, g, env.backend, &y, 1, false, &p));
    must(test_fill_params(&env, params, "w.", 0, 1));
    float *w = noise("w.op.weight", 1, O * I), *bias = noise("w.op.bias", 1, O);
    float *in = noise("x", 1, R * I), *sum = noise("r", 1, R * O), *got = room(R * O * sizeof *got);
    must(cn_plan_set(p, x, in));
    must(cn_plan_set(p, r, sum));
    must(cn_plan_run(p));
    assert_true(cn_plan_get(p, y, got));
    for (int64_t at = 0; at < R * O; at += EVERY) {
        double want = (double)bias[at % O] + (double)sum[at];
        for (int64_t i = 0; i < I; i++)
            want += (double)in[at / O * I + i] * (double)w[at % O * I + i];
        assert_true(fabs((double)got[at] - want) <= 1e-5 * I);
    }
    void *all[] = {w, bias, in, sum, got};
    for (size_t i = 0; i < CN_COUNT(all); i++) cn_free(all[i]);
    cn_plan_destroy(p);
    cn_graph_destroy(g);
    cn_params_destroy(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant_against_naive_sums),
        cmocka_unit_test(test_products_of_pairs_against_naive_sums),
        cmocka_unit_test(test_which_convolutions),
        cmocka_unit_test(test_product_of_many_rows),
    };
    return cmocka_run_group_tests(tests, unit_env_open, unit_env_close);
}
