/* SPDX-License-Identifier: Apache-2.0 */
/* test_pointwise.c - activations, GEGLU, sums, scalings, broadcasts over positions. */
#include "../support/op_main.h"
#include "reference_act.h"

static op_operand shaped(op_role role, const op_case *c, int64_t channels)
{
    float scale = c->spread != 0 ? (float)c->spread : 1;
    if (c->H) return (op_operand){role, NULL, OP_DIMS(c->N, c->H, c->W, channels), .scale = scale};
    if (c->L) return (op_operand){role, NULL, OP_DIMS(c->N, c->L, channels), .scale = scale};
    return (op_operand){role, NULL, OP_DIMS(c->N, channels), .scale = scale};
}

static int64_t positions(const op_case *c)
{
    return c->H ? c->H * c->W : c->L ? c->L : 1;
}

static int64_t count(const op_case *c)
{
    return c->N * positions(c) * c->C;
}

#define FAMILY(id, text, cases)                                                         \
    static const op_family id = {text,  describe_##cases, build_##cases, naive_##cases, \
                                 cases, CN_COUNT(cases)}

/* --- activations ------------------------------------------------------------------------------ */

static void describe_ACT(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    *result = shaped(OP_END, c, c->C);
}

static cn_node *build_ACT(cn_graph *g, const op_case *c, cn_node *const *x)
{
    if (c->act == CN_ACT_LEAKY_RELU) return cn_leaky_relu(g, x[0], 0.2f);
    return c->act == CN_ACT_SILU ? cn_silu(g, x[0]) : cn_activation(g, x[0], c->act);
}

static void naive_ACT(const op_case *c, double *const *x, double *y)
{
    for (int64_t i = 0; i < count(c); i++) y[i] = reference_act(c->act, x[0][i]);
}

static const op_case ACT[] = {
    {.N = 1, .C = 1, .act = CN_ACT_SILU, .spread = 3},
    {.N = 2, .H = 3, .W = 5, .C = 17, .act = CN_ACT_SILU, .spread = 6},
    {.N = 2, .L = 77, .C = 64, .act = CN_ACT_QUICK_GELU, .spread = 6},
    {.N = 1, .L = 5, .C = 33, .act = CN_ACT_GELU, .spread = 6},
    {.N = 1, .H = 9, .W = 7, .C = 16, .act = CN_ACT_RELU},
    {.N = 1, .L = 3, .C = 40, .act = CN_ACT_SILU, .spread = 100},
    {.N = 1, .L = 3, .C = 40, .act = CN_ACT_QUICK_GELU, .spread = 100},
    {.N = 1, .L = 3, .C = 40, .act = CN_ACT_GELU, .spread = 30},
    {.N = 2, .H = 32, .W = 32, .C = 40, .act = CN_ACT_SILU, .spread = 3},
    {.N = 1, .H = 9, .W = 7, .C = 16, .act = CN_ACT_RELU6, .spread = 9},
    {.N = 1, .H = 9, .W = 7, .C = 16, .act = CN_ACT_LEAKY_RELU, .spread = 3},
    {.N = 1, .L = 13, .C = 21, .act = CN_ACT_SIGMOID, .spread = 6},
    {.N = 1, .L = 13, .C = 21, .act = CN_ACT_TANH, .spread = 4},
};
FAMILY(ACTIVATION, "activation", ACT);

/* --- GEGLU: C is the result's width ----------------------------------------------------------- */

static void describe_GEGLU(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, 2 * c->C);
    *result = shaped(OP_END, c, c->C);
}

static cn_node *build_GEGLU(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_geglu(g, x[0]);
}

static void naive_GEGLU(const op_case *c, double *const *x, double *y)
{
    for (int64_t r = 0; r < c->N * positions(c); r++)
        for (int64_t k = 0; k < c->C; k++) {
            const double *row = x[0] + 2 * r * c->C;
            *y++ = row[k] * reference_act(CN_ACT_GELU, row[c->C + k]);
        }
}

static const op_case GEGLU[] = {
    {.N = 1, .L = 1, .C = 1},
    {.N = 2, .L = 16, .C = 128, .spread = 3},
    {.N = 1, .L = 77, .C = 37, .spread = 3},
    {.N = 3, .C = 20},
};
FAMILY(GEGLU_ROWS, "geglu", GEGLU);

/* --- sums of equal shapes --------------------------------------------------------------------- */

static void describe_ADD(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    o[1] = shaped(OP_TENSOR, c, c->C);
    *result = shaped(OP_END, c, c->C);
}

static cn_node *build_ADD(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_add(g, x[0], x[1]);
}

static void naive_ADD(const op_case *c, double *const *x, double *y)
{
    for (int64_t i = 0; i < count(c); i++) y[i] = x[0][i] + x[1][i];
}

static const op_case ADD[] = {
    {.N = 1, .C = 1},
    {.N = 2, .H = 5, .W = 3, .C = 7},
    {.N = 1, .L = 77, .C = 32},
    {.N = 2, .H = 32, .W = 32, .C = 20},
};
FAMILY(ADD_ROWS, "add", ADD);

/* --- O samples' worth added from sample M on -------------------------------------------------- */

static void describe_SOME(const op_case *c, op_operand *o, op_operand *result)
{
    op_case some = *c;
    some.N = c->O;
    o[0] = shaped(OP_TENSOR, c, c->C);
    o[1] = shaped(OP_TENSOR, &some, c->C);
    *result = shaped(OP_END, c, c->C);
}

static cn_node *build_SOME(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_add_samples(g, x[0], x[1], c->M);
}

static void naive_SOME(const op_case *c, double *const *x, double *y)
{
    const int64_t each = count(c) / c->N, from = c->M * each, n = c->O * each;
    for (int64_t i = 0; i < count(c); i++)
        y[i] = x[0][i] + (i >= from && i < from + n ? x[1][i - from] : 0);
}

static const op_case SOME[] = {
    {.N = 2, .H = 5, .W = 3, .C = 7, .O = 1, .M = 1},
    {.N = 5, .H = 8, .W = 8, .C = 32, .O = 2, .M = 1},
    {.N = 3, .L = 77, .C = 32, .O = 1, .M = 0},
    {.N = 2, .H = 2, .W = 3, .C = 5, .O = 2, .M = 0},
};
FAMILY(SOME_ROWS, "add_samples", SOME);

/* --- x + x: one node used twice, both gradients accumulate ------------------------------------ */

static cn_node *build_TWICE(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_add(g, cn_silu(g, x[0]), cn_add(g, x[0], x[0]));
}

static void naive_TWICE(const op_case *c, double *const *x, double *y)
{
    for (int64_t i = 0; i < count(c); i++) y[i] = reference_act(CN_ACT_SILU, x[0][i]) + 2 * x[0][i];
}

static const op_case TWICE[] = {{.N = 1, .L = 5, .C = 9}};
#define describe_TWICE describe_ACT
FAMILY(TWICE_ROWS, "silu(x) + (x + x)", TWICE);

/* --- x * alpha, alpha fixed ------------------------------------------------------------------- */

static cn_node *build_SCALE(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_scale(g, x[0], (float)c->alpha);
}

static void naive_SCALE(const op_case *c, double *const *x, double *y)
{
    for (int64_t i = 0; i < count(c); i++) y[i] = x[0][i] * (double)(float)c->alpha;
}

static const op_case SCALE[] = {
    {.N = 1, .C = 1, .alpha = 0.825},
    {.N = 2, .H = 5, .W = 3, .C = 7, .alpha = -2},
    {.N = 1, .L = 3, .C = 16, .alpha = 5.5},
};
#define describe_SCALE describe_ACT
FAMILY(SCALE_ROWS, "scale", SCALE);

/* --- x [N,...,C] + e [N,C] -------------------------------------------------------------------- */

static void describe_CHANNEL(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    o[1] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->C), .scale = 1};
    *result = shaped(OP_END, c, c->C);
}

static cn_node *build_CHANNEL(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_add_channel(g, x[0], x[1]);
}

static void naive_CHANNEL(const op_case *c, double *const *x, double *y)
{
    int64_t P = positions(c);
    for (int64_t i = 0; i < count(c); i++) y[i] = x[0][i] + x[1][i / (P * c->C) * c->C + i % c->C];
}

static const op_case CHANNEL[] = {
    {.N = 1, .H = 1, .W = 1, .C = 1},
    {.N = 3, .H = 5, .W = 3, .C = 7},
    {.N = 2, .L = 16, .C = 32},
    {.N = 2, .H = 17, .W = 16, .C = 40},
};
FAMILY(CHANNEL_ROWS, "add_channel", CHANNEL);

OP_FAMILIES(&ACTIVATION, &GEGLU_ROWS, &ADD_ROWS, &SOME_ROWS, &TWICE_ROWS, &SCALE_ROWS,
            &CHANNEL_ROWS)
