/* SPDX-License-Identifier: Apache-2.0 */
/* test_spatial.c - pooling, bilinear resizing, padding, gates, instance norm: forward only, but for
 * the mean over equal windows. L x M in a row is the result's height and width where the operation
 * is told them. */
#include "../support/op_main.h"

#include <math.h>

static void describe_to(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->L, c->M, c->C)};
}

/* Element (n,i,j,k) of the input. */
static double pixel(const op_case *c, const double *x, int64_t n, int64_t i, int64_t j, int64_t k)
{
    return x[((n * c->H + i) * c->W + j) * c->C + k];
}

typedef double (*point)(const op_case *c, const double *x, int64_t n, int64_t i, int64_t j,
                        int64_t k);

static void each_point(const op_case *c, const double *x, double *y, point f)
{
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t i = 0; i < c->L; i++)
            for (int64_t j = 0; j < c->M; j++)
                for (int64_t k = 0; k < c->C; k++) *y++ = f(c, x, n, i, j, k);
}

#define SPATIAL(id, text)                                                      \
    static void naive_##id(const op_case *c, double *const *x, double *y)      \
    {                                                                          \
        each_point(c, x[0], y, point_##id);                                    \
    }                                                                          \
    static const op_family FAMILY_##id = {text,       describe_to, build_##id, \
                                          naive_##id, id,          CN_COUNT(id)}

/* --- maximum ---------------------------------------------------------------------------------- */

static cn_node *build_MAX(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_max_pool(g, x[0], c->kernel, c->stride, c->pad);
}

static double point_MAX(const op_case *c, const double *x, int64_t n, int64_t i, int64_t j,
                        int64_t k)
{
    double most = -INFINITY;
    for (int64_t t = 0; t < c->kernel * c->kernel; t++) {
        const int64_t a = i * c->stride - c->pad[0] + t / c->kernel;
        const int64_t b = j * c->stride - c->pad[1] + t % c->kernel;
        if (a >= 0 && a < c->H && b >= 0 && b < c->W) most = fmax(most, pixel(c, x, n, a, b, k));
    }
    return most;
}

static const op_case MAX[] = {
    {.N = 1, .H = 4, .W = 6, .C = 16, .L = 2, .M = 3, .kernel = 2, .stride = 2},
    {.N = 2, .H = 5, .W = 7, .C = 3, .L = 2, .M = 3, .kernel = 2, .stride = 2},
    {.N = 1, .H = 8, .W = 8, .C = 7, .L = 4, .M = 4, .kernel = 3, .stride = 2, .pad = {0, 0, 1, 1}},
    {.N = 1, .H = 5, .W = 4, .C = 1, .L = 5, .M = 4, .kernel = 3, .stride = 1, .pad = {1, 1, 1, 1}},
};
SPATIAL(MAX, "max_pool");

/* --- mean ------------------------------------------------------------------------------------- */

static cn_node *build_MEAN(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_mean_pool_to(g, x[0], c->L, c->M);
}

static double point_MEAN(const op_case *c, const double *x, int64_t n, int64_t i, int64_t j,
                         int64_t k)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t a = i * c->H / c->L; a < ((i + 1) * c->H + c->L - 1) / c->L; a++)
        for (int64_t b = j * c->W / c->M; b < ((j + 1) * c->W + c->M - 1) / c->M; b++, count++)
            sum += pixel(c, x, n, a, b, k);
    return sum / (double)count;
}

static const op_case MEAN[] = {
    {.N = 1, .H = 16, .W = 12, .C = 300, .L = 1, .M = 1},
    {.N = 2, .H = 7, .W = 9, .C = 5, .L = 3, .M = 3},
    {.N = 1, .H = 5, .W = 5, .C = 16, .L = 6, .M = 6},
    {.N = 1, .H = 8, .W = 6, .C = 4, .L = 2, .M = 2},
};
SPATIAL(MEAN, "mean_pool_to");

/* The same of what learns. */
static void describe_learnt(const op_case *c, op_operand *o, op_operand *result)
{
    describe_to(c, o, result);
    o[0].role = OP_TENSOR;
}

static const op_case WINDOWS[] = {
    {.N = 2, .H = 4, .W = 6, .C = 16, .L = 2, .M = 3},
    {.N = 1, .H = 6, .W = 3, .C = 5, .L = 2, .M = 3},
    {.N = 3, .H = 8, .W = 5, .C = 7, .L = 1, .M = 1},
};
static const op_family FAMILY_WINDOWS = {"mean_pool with a gradient",
                                         describe_learnt,
                                         build_MEAN,
                                         naive_MEAN,
                                         WINDOWS,
                                         CN_COUNT(WINDOWS)};

/* --- bilinear; bias: align_corners ------------------------------------------------------------ */

static cn_node *build_BILINEAR(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_resize_to(g, x[0], c->L, c->M, c->bias);
}

static double position(int64_t i, int64_t n, int64_t to, bool corners)
{
    if (corners) return to > 1 ? (double)(i * (n - 1)) / (double)(to - 1) : 0;
    return fmin(fmax(((double)i + 0.5) * (double)n / (double)to - 0.5, 0), (double)(n - 1));
}

static double point_BILINEAR(const op_case *c, const double *x, int64_t n, int64_t i, int64_t j,
                             int64_t k)
{
    const double v = position(i, c->H, c->L, c->bias), u = position(j, c->W, c->M, c->bias);
    double sum = 0;
    for (int64_t a = 0; a < c->H; a++)
        for (int64_t b = 0; b < c->W; b++)
            sum += fmax(0, 1 - fabs(v - (double)a)) * fmax(0, 1 - fabs(u - (double)b)) *
                   pixel(c, x, n, a, b, k);
    return sum;
}

static const op_case BILINEAR[] = {
    {.N = 1, .H = 4, .W = 6, .C = 16, .L = 8, .M = 12},
    {.N = 1, .H = 4, .W = 6, .C = 16, .L = 8, .M = 12, .bias = 1},
    {.N = 2, .H = 5, .W = 3, .C = 1, .L = 17, .M = 8},
    {.N = 2, .H = 5, .W = 3, .C = 1, .L = 17, .M = 8, .bias = 1},
    {.N = 1, .H = 9, .W = 11, .C = 5, .L = 4, .M = 6},
    {.N = 1, .H = 9, .W = 11, .C = 5, .L = 4, .M = 6, .bias = 1},
    {.N = 1, .H = 1, .W = 1, .C = 3, .L = 5, .M = 4},
    {.N = 1, .H = 5, .W = 4, .C = 3, .L = 1, .M = 1, .bias = 1},
    {.N = 1, .H = 5, .W = 4, .C = 3, .L = 5, .M = 4, .bias = 1},
};
SPATIAL(BILINEAR, "resize_to");

/* --- padding; bias: reflected ----------------------------------------------------------------- */

static cn_node *build_PAD(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_pad(g, x[0], c->pad, c->bias);
}

static double point_PAD(const op_case *c, const double *x, int64_t n, int64_t i, int64_t j,
                        int64_t k)
{
    int64_t a = i - c->pad[0], b = j - c->pad[1];
    if (c->bias) {
        a = llabs(a) < c->H ? llabs(a) : 2 * c->H - 2 - a;
        b = llabs(b) < c->W ? llabs(b) : 2 * c->W - 2 - b;
    }
    return a < 0 || a >= c->H || b < 0 || b >= c->W ? 0 : pixel(c, x, n, a, b, k);
}

static const op_case PAD[] = {
    {.N = 1, .H = 4, .W = 5, .C = 3, .L = 10, .M = 11, .pad = {3, 3, 3, 3}, .bias = 1},
    {.N = 2, .H = 4, .W = 5, .C = 16, .L = 6, .M = 6, .pad = {1, 0, 1, 1}, .bias = 1},
    {.N = 2, .H = 4, .W = 5, .C = 16, .L = 6, .M = 7, .pad = {0, 2, 2, 0}},
    {.N = 1, .H = 6, .W = 5, .C = 2, .L = 3, .M = 4, .pad = {-1, -2, -2, 1}},
    {.N = 1, .H = 6, .W = 5, .C = 2, .L = 5, .M = 5, .pad = {-2, 2, 1, -2}, .bias = 1},
};
SPATIAL(PAD, "pad");

/* --- gate ------------------------------------------------------------------------------------- */

static void describe_GATE(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    o[1] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->H, c->W, 1), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->H, c->W, c->C)};
}

static cn_node *build_GATE(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_gate(g, x[0], x[1]);
}

static void naive_GATE(const op_case *c, double *const *x, double *y)
{
    for (int64_t i = 0; i < c->N * c->H * c->W * c->C; i++) y[i] = x[0][i] * x[1][i / c->C];
}

static const op_case GATE[] = {
    {.N = 2, .H = 3, .W = 5, .C = 24},
    {.N = 1, .H = 2, .W = 2, .C = 1},
};
static const op_family FAMILY_GATE = {"gate",     describe_GATE, build_GATE,
                                      naive_GATE, GATE,          CN_COUNT(GATE)};

/* --- instance norm ---------------------------------------------------------------------------- */

static void describe_INSTANCE(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .offset = (float)c->offset,
                        .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->H, c->W, c->C)};
}

static cn_node *build_INSTANCE(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_instance_norm(g, x[0], 1e-5f);
}

static void naive_INSTANCE(const op_case *c, double *const *x, double *y)
{
    const int64_t P = c->H * c->W, C = c->C;
    for (int64_t k = 0; k < c->N * C; k++) {
        const double *v = x[0] + k / C * P * C + k % C;
        double mean = 0, square = 0;
        for (int64_t p = 0; p < P; p++) mean += v[p * C] / (double)P;
        for (int64_t p = 0; p < P; p++) square += (v[p * C] - mean) * (v[p * C] - mean) / (double)P;
        for (int64_t p = 0; p < P; p++)
            y[k / C * P * C + p * C + k % C] = (v[p * C] - mean) / sqrt(square + 1e-5);
    }
}

static const op_case INSTANCE[] = {
    {.N = 1, .H = 8, .W = 8, .C = 64, .offset = 3},
    {.N = 2, .H = 5, .W = 7, .C = 3},
    {.N = 3, .H = 2, .W = 1, .C = 17},
};
static const op_family FAMILY_INSTANCE = {"instance_norm", describe_INSTANCE, build_INSTANCE,
                                          naive_INSTANCE,  INSTANCE,          CN_COUNT(INSTANCE)};

OP_FAMILIES(&FAMILY_MAX, &FAMILY_MEAN, &FAMILY_WINDOWS, &FAMILY_BILINEAR, &FAMILY_PAD, &FAMILY_GATE,
            &FAMILY_INSTANCE)
