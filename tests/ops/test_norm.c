/* SPDX-License-Identifier: Apache-2.0 */
/* test_norm.c - group norm (with its activation) and layer norm. */
#include "../support/op_main.h"
#include "reference_act.h"

static op_operand shaped(op_role role, const op_case *c)
{
    float scale = c->spread != 0 ? (float)c->spread : 1;
    if (c->H)
        return (op_operand){role,  NULL, OP_DIMS(c->N, c->H, c->W, c->C), (float)c->offset,
                            scale, 0};
    if (c->L)
        return (op_operand){role, NULL, OP_DIMS(c->N, c->L, c->C), (float)c->offset, scale, 0};
    return (op_operand){role, NULL, OP_DIMS(c->N, c->C), (float)c->offset, scale, 0};
}

static int64_t positions(const op_case *c)
{
    return c->H ? c->H * c->W : c->L ? c->L : 1;
}

static void describe(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c);
    o[1] = (op_operand){OP_LAYER, "weight", OP_DIMS(c->C), .offset = 1, .scale = 0.5f};
    o[2] = (op_operand){OP_LAYER, "bias", OP_DIMS(c->C), .scale = 0.5f};
    *result = shaped(OP_END, c);
}

static cn_node *build_group(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_group_norm(g, "op", x[0], c->groups, (float)c->alpha, c->act);
}

/* y = act((x - mean) / sqrt(var + eps) * weight + bias) over one group: `rows` rows of `width`
 * channels, C apart. */
static void normalise(const op_case *c, double *const *p, const double *x, double *y, int64_t rows,
                      int64_t width, int64_t first)
{
    double mean = 0, var = 0, count = (double)(rows * width);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k++) mean += x[r * c->C + k] / count;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k++) {
            double d = x[r * c->C + k] - mean;
            var += d * d / count;
        }
    double scale = 1 / sqrt(var + (double)(float)c->alpha);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k++) {
            double z = (x[r * c->C + k] - mean) * scale;
            y[r * c->C + k] = reference_act(c->act, z * p[1][first + k] + p[2][first + k]);
        }
}

static void naive_group(const op_case *c, double *const *x, double *y)
{
    int64_t rows = positions(c), width = c->C / c->groups;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t k = 0; k < c->groups; k++) {
            int64_t at = n * rows * c->C + k * width;
            normalise(c, x, x[0] + at, y + at, rows, width, k * width);
        }
}

#define GN(...) .alpha = 1e-5, __VA_ARGS__
static const op_case GROUP_CASES[] = {
    {.N = 1, .H = 4, .W = 4, .C = 32, .groups = 32, GN()},
    {.N = 2, .H = 8, .W = 8, .C = 64, .groups = 32, .act = CN_ACT_SILU, GN()},
    {.N = 3, .H = 3, .W = 5, .C = 96, .groups = 32, .act = CN_ACT_SILU, .alpha = 1e-6},
    {.N = 1, .H = 1, .W = 1, .C = 64, .groups = 32, GN()},
    {.N = 2, .H = 2, .W = 2, .C = 40, .groups = 8, .act = CN_ACT_SILU, GN()},
    {.N = 1, .H = 7, .W = 3, .C = 15, .groups = 5, GN()},
    {.N = 1, .H = 5, .W = 5, .C = 6, .groups = 1, .act = CN_ACT_SILU, GN()},
    {.N = 1, .H = 33, .W = 17, .C = 64, .groups = 32, .act = CN_ACT_SILU, .alpha = 1e-6},
    {.N = 2, .L = 77, .C = 32, .groups = 8, GN()},
    {.N = 1, .L = 1, .C = 32, .groups = 4, .act = CN_ACT_SILU, GN()},
    {.N = 1, .H = 6, .W = 6, .C = 320, .groups = 32, .act = CN_ACT_SILU, GN()},
    {.N = 1, .H = 8, .W = 8, .C = 32, .groups = 16, .offset = 5, .spread = 0.5, GN()},
    {.N = 1, .H = 6, .W = 5, .C = 32, .groups = 16, .spread = 1e-3, GN()},
};
static const op_family GROUP = {"group_norm", describe,    build_group,
                                naive_group,  GROUP_CASES, CN_COUNT(GROUP_CASES)};

static cn_node *build_layer(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_layer_norm(g, "op", x[0], (float)c->alpha);
}

static void naive_layer(const op_case *c, double *const *x, double *y)
{
    for (int64_t r = 0; r < c->N * positions(c); r++)
        normalise(c, x, x[0] + r * c->C, y + r * c->C, 1, c->C, 0);
}

static const op_case LAYER_CASES[] = {
    {.N = 1, .L = 1, .C = 32, .alpha = 1e-5},
    {.N = 2, .L = 77, .C = 33, .alpha = 1e-5},
    {.N = 1, .L = 130, .C = 320, .alpha = 1e-5},
    {.N = 3, .L = 5, .C = 7, .alpha = 1e-5},
    {.N = 4, .C = 64, .alpha = 1e-6},
    {.N = 1, .H = 3, .W = 5, .C = 40, .alpha = 1e-5},
    {.N = 1, .L = 9, .C = 768, .offset = 2, .spread = 0.5, .alpha = 1e-5},
};
static const op_family LAYER = {"layer_norm", describe,    build_layer,
                                naive_layer,  LAYER_CASES, CN_COUNT(LAYER_CASES)};

OP_FAMILIES(&GROUP, &LAYER)
