/* SPDX-License-Identifier: Apache-2.0 */
/* test_conv.c - convolutions: forward, data gradient, weight and bias gradient. */
#include "../support/op_main.h"
#include "reference_act.h"

#include <math.h>

static int width_of(const op_case *c)
{
    return c->kernel_w ? c->kernel_w : c->kernel;
}

static int dilation_of(const op_case *c)
{
    return c->dilation ? c->dilation : 1;
}

/* Input channels of one output channel. */
static int64_t group_width(const op_case *c)
{
    return c->C / (c->groups ? c->groups : 1);
}

static int64_t out_size(int64_t in, int before, int after, int kernel, const op_case *c)
{
    return (in + before + after - dilation_of(c) * (kernel - 1) - 1) / c->stride + 1;
}

static int64_t out_h(const op_case *c)
{
    return out_size(c->H, c->pad[0], c->pad[2], c->kernel, c);
}

static int64_t out_w(const op_case *c)
{
    return out_size(c->W, c->pad[1], c->pad[3], width_of(c), c);
}

static void describe(const op_case *c, op_operand *o, op_operand *result)
{
    float scale = 1.7f / sqrtf((float)(group_width(c) * c->kernel * width_of(c)));
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    o[1] = (op_operand){OP_LAYER, "weight", OP_DIMS(c->O, group_width(c), c->kernel, width_of(c)),
                        .scale = scale};
    o[2] = (op_operand){OP_LAYER, "bias", OP_DIMS(c->O), .scale = 0.5f};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, out_h(c), out_w(c), c->O)};
}

static cn_node *build(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_conv2d_ex(g, "op", x[0], c->O, c->kernel, c->stride, c->pad, CN_INIT_FAN_IN);
}

/* x from the group's first channel on. */
static double at_point(const op_case *c, const double *x, const double *w, int64_t y0, int64_t x0)
{
    double sum = 0;
    for (int64_t i = 0; i < c->kernel; i++)
        for (int64_t j = 0; j < width_of(c); j++) {
            const int64_t row = y0 + i * dilation_of(c), column = x0 + j * dilation_of(c);
            if (row < 0 || row >= c->H || column < 0 || column >= c->W) continue;
            const double *pixel = x + (row * c->W + column) * c->C;
            for (int64_t k = 0; k < group_width(c); k++)
                sum += pixel[k] * w[(k * c->kernel + i) * width_of(c) + j];
        }
    return sum;
}

static void naive(const op_case *c, double *const *x, double *y)
{
    const int64_t H = out_h(c), W = out_w(c), image = c->H * c->W * c->C;
    const int64_t filter = group_width(c) * c->kernel * width_of(c);
    const int64_t group = c->O / (c->groups ? c->groups : 1); /* output channels of one */
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t i = 0; i < H; i++)
            for (int64_t j = 0; j < W; j++)
                for (int64_t o = 0; o < c->O; o++)
                    *y++ = x[2][o] + at_point(c, x[0] + n * image + o / group * group_width(c),
                                              x[1] + o * filter, i * c->stride - c->pad[0],
                                              j * c->stride - c->pad[1]);
}

#define K3(...) .kernel = 3, .stride = 1, .pad = {1, 1, 1, 1}, __VA_ARGS__
#define K1(...) .kernel = 1, .stride = 1, __VA_ARGS__
static const op_case CASES[] = {
    {.N = 1, .H = 8, .W = 8, .C = 16, .O = 16, K3()},
    {.N = 2, .H = 5, .W = 7, .C = 3, .O = 5, K3()},
    {.N = 3, .H = 1, .W = 1, .C = 32, .O = 16, K3()},
    {.N = 1, .H = 2, .W = 3, .C = 17, .O = 33, K3()},
    {.N = 2, .H = 16, .W = 16, .C = 4, .O = 32, K3()},
    {.N = 1, .H = 9, .W = 4, .C = 40, .O = 4, K3()},
    {.N = 2, .H = 12, .W = 12, .C = 64, .O = 48, K3()},
    {.N = 1, .H = 6, .W = 6, .C = 320, .O = 40, K3()},
    {.N = 1, .H = 1, .W = 9, .C = 8, .O = 1, K3()},
    {.N = 2, .H = 8, .W = 8, .C = 16, .O = 32, .kernel = 3, .stride = 2, .pad = {1, 1, 1, 1}},
    {.N = 1, .H = 7, .W = 9, .C = 5, .O = 6, .kernel = 3, .stride = 2, .pad = {1, 1, 1, 1}},
    {.N = 2, .H = 7, .W = 9, .C = 21, .O = 37, .kernel = 3, .stride = 2, .pad = {1, 1, 1, 1}},
    {.N = 2, .H = 19, .W = 37, .C = 37, .O = 3, K3()},
    {.N = 2, .H = 8, .W = 6, .C = 16, .O = 16, .kernel = 3, .stride = 2, .pad = {0, 0, 1, 1}},
    {.N = 1, .H = 5, .W = 5, .C = 3, .O = 7, .kernel = 3, .stride = 2, .pad = {0, 0, 1, 1}},
    {.N = 1, .H = 6, .W = 7, .C = 9, .O = 10, .kernel = 3, .stride = 1, .pad = {2, 0, 1, 1}},
    {.N = 1, .H = 5, .W = 6, .C = 4, .O = 8, .kernel = 3, .stride = 1},
    {.N = 2, .H = 9, .W = 9, .C = 6, .O = 8, .kernel = 5, .stride = 1, .pad = {2, 2, 2, 2}},
    {.N = 1, .H = 11, .W = 10, .C = 3, .O = 4, .kernel = 7, .stride = 2, .pad = {3, 3, 3, 3}},
    {.N = 1, .H = 8, .W = 8, .C = 4, .O = 6, .kernel = 2, .stride = 2},
    {.N = 2, .H = 4, .W = 4, .C = 32, .O = 32, K1()},
    {.N = 1, .H = 3, .W = 5, .C = 13, .O = 7, K1()},
    {.N = 3, .H = 1, .W = 1, .C = 20, .O = 36, K1()},
    {.N = 1, .H = 7, .W = 7, .C = 8, .O = 8, .kernel = 1, .stride = 2},
};
static const op_family CONV = {"conv2d", describe, build, naive, CASES, CN_COUNT(CASES)};

static cn_node *build_square(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_conv2d(g, "op", x[0], c->O, c->kernel, c->stride, c->pad[0]);
}

static const op_case SQUARE[] = {
    {.N = 1, .H = 5, .W = 4, .C = 6, .O = 18, K3()},
    {.N = 2, .H = 6, .W = 6, .C = 8, .O = 8, .kernel = 3, .stride = 2, .pad = {1, 1, 1, 1}},
};
static const op_family CONV_SQUARE = {"conv2d (square)", describe, build_square, naive, SQUARE,
                                      CN_COUNT(SQUARE)};

static cn_node *build_zero(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_zero_conv(g, "op", x[0], c->O);
}

static const op_case ZERO[] = {
    {.N = 2, .H = 4, .W = 3, .C = 32, .O = 32, K1()},
    {.N = 1, .H = 1, .W = 1, .C = 5, .O = 9, K1()},
};
static const op_family ZERO_CONV = {"zero_conv", describe, build_zero, naive, ZERO, CN_COUNT(ZERO)};

/* Groups, dilation, kernels that aren't square. */
static cn_node *build_general(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_convolution(g, "op", x[0],
                          &(cn_conv_spec){.O = c->O,
                                          .kernel_h = c->kernel,
                                          .kernel_w = width_of(c),
                                          .stride = c->stride,
                                          .dilation = c->dilation,
                                          .groups = c->groups,
                                          .pad = {c->pad[0], c->pad[1], c->pad[2], c->pad[3]}});
}

static const op_case GENERAL[] = {
    {.N = 1, .H = 9, .W = 8, .C = 60, .O = 60, .groups = 60, K3()},
    {.N = 2, .H = 7, .W = 5, .C = 16, .O = 16, .groups = 16, K3()},
    {.N = 1,
     .H = 9,
     .W = 9,
     .C = 24,
     .O = 24,
     .groups = 24,
     .kernel = 5,
     .stride = 1,
     .pad = {2, 2, 2, 2}},
    {.N = 1,
     .H = 9,
     .W = 8,
     .C = 24,
     .O = 24,
     .groups = 24,
     .kernel = 3,
     .stride = 2,
     .pad = {0, 0, 1, 1}},
    {.N = 1, .H = 6, .W = 6, .C = 12, .O = 20, .groups = 4, K3()},
    {.N = 2, .H = 4, .W = 5, .C = 8, .O = 16, .groups = 2, K1()},
    {.N = 1,
     .H = 17,
     .W = 15,
     .C = 24,
     .O = 24,
     .kernel = 3,
     .stride = 1,
     .dilation = 5,
     .pad = {5, 5, 5, 5}},
    {.N = 1,
     .H = 26,
     .W = 24,
     .C = 7,
     .O = 9,
     .kernel = 3,
     .stride = 1,
     .dilation = 11,
     .pad = {11, 11, 11, 11}},
    {.N = 1,
     .H = 9,
     .W = 9,
     .C = 6,
     .O = 6,
     .groups = 6,
     .kernel = 3,
     .stride = 2,
     .dilation = 2,
     .pad = {2, 2, 2, 2}},
    {.N = 1,
     .H = 6,
     .W = 9,
     .C = 5,
     .O = 8,
     .kernel = 1,
     .kernel_w = 5,
     .stride = 1,
     .pad = {0, 2, 0, 2}},
    {.N = 1,
     .H = 7,
     .W = 6,
     .C = 16,
     .O = 16,
     .kernel = 3,
     .kernel_w = 2,
     .stride = 1,
     .pad = {1, 0, 1, 1}},
};
static const op_family CONV_GENERAL = {"convolution", describe, build_general,
                                       naive,         GENERAL,  CN_COUNT(GENERAL)};

/* A ReLU behind a convolution, which the plan fuses, with and without a sum between them. */
static cn_node *build_relu(cn_graph *g, const op_case *c, cn_node *const *x)
{
    cn_node *y = build_general(g, c, x);
    if (c->bias) y = cn_add(g, y, x[0]);
    return c->act == CN_ACT_LEAKY_RELU ? cn_leaky_relu(g, y, 0.2f) : cn_activation(g, y, c->act);
}

static void naive_relu(const op_case *c, double *const *x, double *y)
{
    naive(c, x, y);
    for (int64_t i = 0; i < c->N * out_h(c) * out_w(c) * c->O; i++)
        y[i] = reference_act(c->act, y[i] + (c->bias ? x[0][i] : 0));
}

static void describe_relu(const op_case *c, op_operand *o, op_operand *result)
{
    describe(c, o, result);
    o[0].role = OP_INPUT;
    o[1].role = o[2].role = OP_LOCKED;
}

static const op_case FUSED[] = {
    {.N = 1, .H = 8, .W = 7, .C = 16, .O = 16, .act = CN_ACT_RELU, K3()},
    {.N = 2, .H = 8, .W = 7, .C = 16, .O = 16, .act = CN_ACT_RELU, .bias = 1, K3()},
    {.N = 1, .H = 5, .W = 5, .C = 3, .O = 8, .act = CN_ACT_RELU6, K3()},
    {.N = 1, .H = 5, .W = 5, .C = 24, .O = 24, .groups = 24, .act = CN_ACT_RELU6, K3()},
    {.N = 1, .H = 5, .W = 5, .C = 8, .O = 8, .act = CN_ACT_LEAKY_RELU, .bias = 1, K3()},
    {.N = 1, .H = 5, .W = 5, .C = 8, .O = 8, .act = CN_ACT_LEAKY_RELU, .bias = 1, K1()},
    {.N = 1, .H = 5, .W = 5, .C = 8, .O = 8, .act = CN_ACT_RELU, K1()},
    {.N = 1, .H = 1, .W = 1, .C = 32, .O = 32, .act = CN_ACT_RELU, .bias = 1, K3()},
    {.N = 1, .H = 1, .W = 1, .C = 8, .O = 8, .act = CN_ACT_RELU, .bias = 1, K1()},
    {.N = 1, .H = 1, .W = 1, .C = 32, .O = 32, .groups = 32, .act = CN_ACT_RELU, .bias = 1, K3()},
    {.N = 2,
     .H = 1,
     .W = 1,
     .C = 512,
     .O = 512,
     .groups = 512,
     .act = CN_ACT_RELU,
     .bias = 1,
     K3()},
    {.N = 1, .H = 1, .W = 3, .C = 32, .O = 32, .groups = 32, .act = CN_ACT_RELU, .bias = 1, K3()},
    {.N = 1, .H = 3, .W = 4, .C = 24, .O = 24, .groups = 4, .act = CN_ACT_RELU, .bias = 1, K3()},
    {.N = 1, .H = 1, .W = 1, .C = 24, .O = 24, .groups = 4, .act = CN_ACT_RELU, .bias = 1, K3()},
};
static const op_family CONV_RELU = {
    "convolution and ReLU", describe_relu, build_relu, naive_relu, FUSED, CN_COUNT(FUSED)};

static void describe_transpose(const op_case *c, op_operand *o, op_operand *result)
{
    const int64_t grow = c->kernel - 2 * c->pad[0] + (int64_t)c->offset;
    float scale = 1.7f / sqrtf((float)(c->C * c->kernel * c->kernel));
    o[0] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    o[1] = (op_operand){OP_LOCKED, "weight", OP_DIMS(c->C, c->O, c->kernel, c->kernel),
                        .scale = scale};
    o[2] = (op_operand){OP_LOCKED, "bias", OP_DIMS(c->O), .scale = 0.5f};
    *result = (op_operand){
        OP_END, NULL,
        OP_DIMS(c->N, (c->H - 1) * c->stride + grow, (c->W - 1) * c->stride + grow, c->O)};
}

static cn_node *build_transpose(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_conv_transpose2d(g, "op", x[0], c->O, c->kernel, c->stride, c->pad[0],
                               (int)c->offset);
}

/* Each input pixel puts its multiple of the kernel into the result. */
static void naive_transpose(const op_case *c, double *const *x, double *y)
{
    const int64_t grow = c->kernel - 2 * c->pad[0] + (int64_t)c->offset;
    const int64_t H = (c->H - 1) * c->stride + grow, W = (c->W - 1) * c->stride + grow;
    const int64_t k = c->kernel;
    for (int64_t i = 0; i < c->N * H * W * c->O; i++) y[i] = x[2][i % c->O];
    for (int64_t p = 0; p < c->N * c->H * c->W; p++)
        for (int64_t t = 0; t < k * k; t++) {
            const int64_t n = p / (c->H * c->W);
            const int64_t i = p / c->W % c->H * c->stride - c->pad[0] + t / k;
            const int64_t j = p % c->W * c->stride - c->pad[0] + t % k;
            if (i < 0 || i >= H || j < 0 || j >= W) continue;
            for (int64_t a = 0; a < c->C; a++)
                for (int64_t o = 0; o < c->O; o++)
                    y[((n * H + i) * W + j) * c->O + o] +=
                        x[0][p * c->C + a] * x[1][(a * c->O + o) * k * k + t];
        }
}

/* offset: the output padding */
static const op_case TRANSPOSE[] = {
    {.N = 1, .H = 5, .W = 4, .C = 16, .O = 8, .kernel = 3, .stride = 2, .pad = {1}, .offset = 1},
    {.N = 2, .H = 3, .W = 5, .C = 6, .O = 7, .kernel = 4, .stride = 2, .pad = {1}},
    {.N = 1, .H = 3, .W = 3, .C = 32, .O = 16, .kernel = 2, .stride = 2},
    {.N = 1, .H = 1, .W = 1, .C = 8, .O = 4, .kernel = 4, .stride = 2, .pad = {1}},
    {.N = 1, .H = 4, .W = 4, .C = 3, .O = 3, .kernel = 3, .stride = 1, .pad = {1}},
};
static const op_family CONV_TRANSPOSE = {"conv_transpose2d", describe_transpose,
                                         build_transpose,    naive_transpose,
                                         TRANSPOSE,          CN_COUNT(TRANSPOSE)};

/* By Winograd's algorithm, both ways, as tests/unit/test_winograd.c checks for these shapes: odd
 * sizes, any padding, batches, channels that aren't whole vectors, more tiles than one block. */
static const op_case WINOGRAD[] = {
    {.N = 2, .H = 13, .W = 11, .C = 50, .O = 70, K3()},
    {.N = 1, .H = 16, .W = 22, .C = 64, .O = 130, K3()},
    {.N = 3, .H = 12, .W = 9, .C = 100, .O = 33, .kernel = 3, .stride = 1, .pad = {2, 0, 1, 1}},
    {.N = 1, .H = 20, .W = 22, .C = 66, .O = 48, .kernel = 3, .stride = 1},
    {.N = 1, .H = 50, .W = 50, .C = 32, .O = 32, K3()},
};
static const op_family CONV_WINOGRAD = {"conv2d (Winograd)", describe, build, naive, WINOGRAD,
                                        CN_COUNT(WINOGRAD)};

OP_FAMILIES(&CONV, &CONV_SQUARE, &CONV_WINOGRAD, &ZERO_CONV, &CONV_GENERAL, &CONV_RELU,
            &CONV_TRANSPOSE)
