/* SPDX-License-Identifier: Apache-2.0 */
/* test_linear.c - linear layers over any leading shape, with and without bias. */
#include "../support/op_main.h"

#include <math.h>

static int64_t rows_of(const op_case *c)
{
    return c->N * (c->L ? c->L : 1) * (c->H ? c->H * c->W : 1);
}

static op_operand shaped(op_role role, const op_case *c, int64_t channels)
{
    if (c->H) return (op_operand){role, NULL, OP_DIMS(c->N, c->H, c->W, channels), .scale = 1};
    if (c->L) return (op_operand){role, NULL, OP_DIMS(c->N, c->L, channels), .scale = 1};
    return (op_operand){role, NULL, OP_DIMS(c->N, channels), .scale = 1};
}

static void describe(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    o[1] =
        (op_operand){OP_LAYER, "weight", OP_DIMS(c->O, c->C), .scale = 1.7f / sqrtf((float)c->C)};
    if (c->bias) o[2] = (op_operand){OP_LAYER, "bias", OP_DIMS(c->O), .scale = 0.5f};
    *result = shaped(OP_END, c, c->O);
}

static cn_node *build(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_linear(g, "op", x[0], c->O, c->bias);
}

static void naive(const op_case *c, double *const *x, double *y)
{
    for (int64_t r = 0; r < rows_of(c); r++)
        for (int64_t o = 0; o < c->O; o++) {
            double sum = c->bias ? x[2][o] : 0;
            for (int64_t k = 0; k < c->C; k++) sum += x[0][r * c->C + k] * x[1][o * c->C + k];
            *y++ = sum;
        }
}

static const op_case CASES[] = {
    {.N = 1, .C = 1, .O = 1, .bias = 1},
    {.N = 1, .C = 32, .O = 128, .bias = 1},
    {.N = 2, .C = 320, .O = 24, .bias = 1},
    {.N = 3, .C = 7, .O = 5},
    {.N = 2, .L = 1, .C = 64, .O = 64},
    {.N = 1, .L = 77, .C = 32, .O = 40},
    {.N = 2, .L = 77, .C = 33, .O = 17, .bias = 1},
    {.N = 3, .L = 130, .C = 16, .O = 48, .bias = 1},
    {.N = 1, .L = 5, .C = 768, .O = 20},
    {.N = 1, .L = 64, .C = 40, .O = 320, .bias = 1},
    {.N = 2, .H = 3, .W = 5, .C = 18, .O = 6, .bias = 1},
    {.N = 1, .H = 4, .W = 4, .C = 64, .O = 32},
};
static const op_family LINEAR = {"linear", describe, build, naive, CASES, CN_COUNT(CASES)};

static cn_node *build_conv(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_linear_ldm_conv(g, "op", x[0], c->O);
}

static const op_case CONV_CASES[] = {
    {.N = 1, .L = 16, .C = 32, .O = 32, .bias = 1},
    {.N = 2, .L = 9, .C = 10, .O = 12, .bias = 1},
};
static const op_family LDM_CONV = {"linear_ldm_conv",   describe, build_conv, naive, CONV_CASES,
                                   CN_COUNT(CONV_CASES)};

OP_FAMILIES(&LINEAR, &LDM_CONV)
