/* SPDX-License-Identifier: Apache-2.0 */
/* test_attention.c - softmax(q k^T * scale) v per head, self and cross, plain and causal.
 * Head widths are SD 1.5's (40, 80, 160), CLIP's (64), the VAE's (512) and odd ones. */
#include "../support/op_main.h"

#include <math.h>

static void describe(const op_case *c, op_operand *o, op_operand *result)
{
    int64_t width = c->heads * c->D;
    float spread = c->spread != 0 ? (float)c->spread : 1;
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->L, width), .scale = spread};
    o[1] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->M, width), .scale = spread};
    o[2] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->M, width), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->L, width)};
}

static cn_node *build(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_attention(g, x[0], x[1], x[2], c->heads, c->causal, (float)c->alpha);
}

/* One query of one head; k, v and y have `width` elements per token. */
static void query(const op_case *c, const double *q, const double *k, const double *v, double *y,
                  int64_t tokens, double *p)
{
    int64_t width = c->heads * c->D;
    double scale = c->alpha != 0 ? (double)(float)c->alpha : 1 / sqrt((double)c->D);
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < tokens; j++) {
        p[j] = 0;
        for (int64_t d = 0; d < c->D; d++) p[j] += q[d] * k[j * width + d] * scale;
        largest = fmax(largest, p[j]);
    }
    for (int64_t j = 0; j < tokens; j++) sum += p[j] = exp(p[j] - largest);
    for (int64_t d = 0; d < c->D; d++) y[d] = 0;
    for (int64_t j = 0; j < tokens; j++)
        for (int64_t d = 0; d < c->D; d++) y[d] += p[j] / sum * v[j * width + d];
}

static void naive(const op_case *c, double *const *x, double *y)
{
    int64_t width = c->heads * c->D;
    double *p = test_alloc((size_t)c->M * sizeof *p);
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t h = 0; h < c->heads; h++)
            for (int64_t i = 0; i < c->L; i++) {
                int64_t row = (n * c->L + i) * width + h * c->D;
                int64_t keys = n * c->M * width + h * c->D;
                query(c, x[0] + row, x[1] + keys, x[2] + keys, y + row, c->causal ? i + 1 : c->M,
                      p);
            }
    free(p);
}

static const op_case CASES[] = {
    {.N = 1, .L = 1, .M = 1, .heads = 1, .D = 8},
    {.N = 2, .L = 4, .M = 4, .heads = 8, .D = 4},
    {.N = 1, .L = 16, .M = 77, .heads = 8, .D = 8},
    {.N = 2, .L = 77, .M = 77, .heads = 4, .D = 8, .causal = 1},
    {.N = 1, .L = 130, .M = 130, .heads = 2, .D = 40},
    {.N = 3, .L = 64, .M = 77, .heads = 1, .D = 40},
    {.N = 1, .L = 130, .M = 77, .heads = 2, .D = 64},
    {.N = 1, .L = 77, .M = 77, .heads = 2, .D = 64, .causal = 1},
    {.N = 1, .L = 130, .M = 130, .heads = 1, .D = 64, .causal = 1},
    {.N = 1, .L = 65, .M = 65, .heads = 2, .D = 80},
    {.N = 1, .L = 33, .M = 77, .heads = 2, .D = 160},
    {.N = 1, .L = 4, .M = 1, .heads = 1, .D = 160},
    {.N = 1, .L = 70, .M = 70, .heads = 1, .D = 512},
    {.N = 1, .L = 1, .M = 130, .heads = 2, .D = 16},
    {.N = 2, .L = 5, .M = 3, .heads = 3, .D = 5},
    {.N = 1, .L = 257, .M = 257, .heads = 1, .D = 12},
    {.N = 1, .L = 9, .M = 9, .heads = 2, .D = 8, .alpha = 0.25},
    {.N = 1, .L = 40, .M = 40, .heads = 1, .D = 64, .spread = 6},
};
static const op_family ATTENTION = {"attention", describe, build, naive, CASES, CN_COUNT(CASES)};

/* The same node as query, key and value: three gradients meet in one. */
static void describe_self(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->L, c->heads * c->D), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->L, c->heads * c->D)};
}

static cn_node *build_self(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_attention(g, x[0], x[0], x[0], c->heads, c->causal, 0);
}

static void naive_self(const op_case *c, double *const *x, double *y)
{
    naive(c, (double *const[]){x[0], x[0], x[0]}, y);
}

static const op_case SELF_CASES[] = {
    {.N = 1, .L = 17, .M = 17, .heads = 2, .D = 8},
    {.N = 2, .L = 9, .M = 9, .heads = 1, .D = 40, .causal = 1},
};
static const op_family SELF = {
    "attention (one node thrice)", describe_self, build_self, naive_self, SELF_CASES,
    CN_COUNT(SELF_CASES)};

OP_FAMILIES(&ATTENTION, &SELF)
