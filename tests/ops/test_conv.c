/* test_conv.c - convolutions: forward, data gradient, weight and bias gradient. */
#include "../support/op_main.h"

#include <math.h>

static int64_t out_size(int64_t in, int before, int after, const op_case *c)
{
    return (in + before + after - c->kernel) / c->stride + 1;
}

static void describe(const op_case *c, op_operand *o, op_operand *result)
{
    float scale = 1.7f / sqrtf((float)(c->C * c->kernel * c->kernel));
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    o[1] =
        (op_operand){OP_LAYER, "weight", OP_DIMS(c->O, c->C, c->kernel, c->kernel), .scale = scale};
    o[2] = (op_operand){OP_LAYER, "bias", OP_DIMS(c->O), .scale = 0.5f};
    *result = (op_operand){OP_END, NULL,
                           OP_DIMS(c->N, out_size(c->H, c->pad[0], c->pad[2], c),
                                   out_size(c->W, c->pad[1], c->pad[3], c), c->O)};
}

static cn_node *build(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_conv2d_ex(g, "op", x[0], c->O, c->kernel, c->stride, c->pad, CN_INIT_FAN_IN);
}

static double at_point(const op_case *c, const double *x, const double *w, int64_t y0, int64_t x0)
{
    double sum = 0;
    for (int64_t i = 0; i < c->kernel; i++)
        for (int64_t j = 0; j < c->kernel; j++) {
            if (y0 + i < 0 || y0 + i >= c->H || x0 + j < 0 || x0 + j >= c->W) continue;
            const double *pixel = x + ((y0 + i) * c->W + x0 + j) * c->C;
            for (int64_t k = 0; k < c->C; k++)
                sum += pixel[k] * w[(k * c->kernel + i) * c->kernel + j];
        }
    return sum;
}

static void naive(const op_case *c, double *const *x, double *y)
{
    int64_t H = out_size(c->H, c->pad[0], c->pad[2], c),
            W = out_size(c->W, c->pad[1], c->pad[3], c);
    int64_t image = c->H * c->W * c->C, filter = c->C * c->kernel * c->kernel;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t i = 0; i < H; i++)
            for (int64_t j = 0; j < W; j++)
                for (int64_t o = 0; o < c->O; o++)
                    *y++ = x[2][o] + at_point(c, x[0] + n * image, x[1] + o * filter,
                                              i * c->stride - c->pad[0], j * c->stride - c->pad[1]);
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

OP_FAMILIES(&CONV, &CONV_SQUARE, &ZERO_CONV)
