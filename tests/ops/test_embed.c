/* SPDX-License-Identifier: Apache-2.0 */
/* test_embed.c - token, position and timestep embeddings. C is the width, O the table's rows. */
#include "../support/op_main.h"

#include <math.h>

static void describe_token(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->L), .scale = 1, .below = c->O};
    o[1] = (op_operand){OP_LAYER, "weight", OP_DIMS(c->O, c->C), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->L, c->C)};
}

static cn_node *build_token(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_embedding(g, "op", x[0], c->O, c->C);
}

static void naive_token(const op_case *c, double *const *x, double *y)
{
    for (int64_t r = 0; r < c->N * c->L; r++)
        for (int64_t k = 0; k < c->C; k++) *y++ = x[1][(int64_t)x[0][r] * c->C + k];
}

/* Few rows: the same token often, so that its gradients accumulate. */
static const op_case TOKEN_CASES[] = {
    {.N = 1, .L = 1, .C = 1, .O = 1},
    {.N = 2, .L = 77, .C = 32, .O = 11},
    {.N = 1, .L = 5, .C = 33, .O = 1000},
    {.N = 3, .L = 20, .C = 7, .O = 3},
};
static const op_family TOKEN = {"embedding", describe_token, build_token,
                                naive_token, TOKEN_CASES,    CN_COUNT(TOKEN_CASES)};

static void describe_position(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->L, c->C), .scale = 1};
    o[1] = (op_operand){OP_LAYER, "weight", OP_DIMS(c->O, c->C), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->L, c->C)};
}

static cn_node *build_position(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_position_embedding(g, "op.weight", x[0], c->O);
}

static void naive_position(const op_case *c, double *const *x, double *y)
{
    for (int64_t i = 0; i < c->N * c->L * c->C; i++) y[i] = x[0][i] + x[1][i % (c->L * c->C)];
}

static const op_case POSITION_CASES[] = {
    {.N = 1, .L = 1, .C = 1, .O = 1},
    {.N = 2, .L = 77, .C = 32, .O = 77},
    {.N = 3, .L = 5, .C = 7, .O = 9},
};
static const op_family POSITION = {"position_embedding", describe_position,
                                   build_position,       naive_position,
                                   POSITION_CASES,       CN_COUNT(POSITION_CASES)};

static void describe_time(const op_case *c, op_operand *o, op_operand *result)
{
    float half = (float)c->spread / 2;
    o[0] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N), .offset = half, .scale = half};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->C)};
}

static cn_node *build_time(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_timestep_embedding(g, x[0], c->C);
}

static void naive_time(const op_case *c, double *const *x, double *y)
{
    int64_t half = c->C / 2;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t k = 0; k < half; k++) {
            double angle = x[0][n] * exp(-log(10000.0) * (double)k / (double)half);
            y[n * c->C + k] = cos(angle);
            y[n * c->C + half + k] = sin(angle);
        }
}

/* Angles to 12 only: past that the rounding of a float angle itself exceeds the tolerance. The
 * networks' own references cover timesteps to 999. */
static const op_case TIME_CASES[] = {
    {.N = 1, .C = 32, .spread = 1},
    {.N = 3, .C = 320, .spread = 12},
    {.N = 2, .C = 2, .spread = 10},
};
static const op_family TIME = {"timestep_embedding", describe_time, build_time,
                               naive_time,           TIME_CASES,    CN_COUNT(TIME_CASES)};

OP_FAMILIES(&TOKEN, &POSITION, &TIME)
