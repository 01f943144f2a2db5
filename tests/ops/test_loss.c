/* SPDX-License-Identifier: Apache-2.0 */
/* test_loss.c - mean squared and absolute error, KL divergence, the VAE's reparametrised sample.
 * C is the latent's width: moments have 2C channels. */
#include "../support/op_main.h"

#include <math.h>

static int64_t positions(const op_case *c)
{
    return c->H * c->W;
}

static void describe_loss(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    o[1] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1};
    *result = (op_operand){OP_END, NULL, OP_DIMS(1)};
}

static cn_node *build_mse(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_loss_node(g, CN_LOSS_MSE, x[0], x[1]);
}

static void naive_mse(const op_case *c, double *const *x, double *y)
{
    int64_t n = c->N * positions(c) * c->C;
    *y = 0;
    for (int64_t i = 0; i < n; i++) *y += (x[0][i] - x[1][i]) * (x[0][i] - x[1][i]) / (double)n;
}

static cn_node *build_l1(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_loss_node(g, CN_LOSS_L1, x[0], x[1]);
}

static void naive_l1(const op_case *c, double *const *x, double *y)
{
    int64_t n = c->N * positions(c) * c->C;
    *y = 0;
    for (int64_t i = 0; i < n; i++) *y += fabs(x[0][i] - x[1][i]) / (double)n;
}

static const op_case LOSS_CASES[] = {
    {.N = 1, .H = 1, .W = 1, .C = 1},
    {.N = 2, .H = 3, .W = 5, .C = 7},
    {.N = 2, .H = 32, .W = 32, .C = 20},
};
static const op_family MSE = {"mse",     describe_loss, build_mse,
                              naive_mse, LOSS_CASES,    CN_COUNT(LOSS_CASES)};
static const op_family L1 = {"l1",     describe_loss, build_l1,
                             naive_l1, LOSS_CASES,    CN_COUNT(LOSS_CASES)};

/* Each sample with a weight and a c of its own. */
static void describe_weighted(const op_case *c, op_operand *o, op_operand *result)
{
    describe_loss(c, o, result);
    o[2] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, 2), .offset = 1, .scale = 0.5f};
}

static cn_node *build_huber(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_loss_weighted(g, CN_LOSS_HUBER, x[0], x[1], x[2]);
}

static cn_node *build_smooth_l1(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_loss_weighted(g, CN_LOSS_SMOOTH_L1, x[0], x[1], x[2]);
}

static cn_node *build_weighted_mse(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_loss_weighted(g, CN_LOSS_MSE, x[0], x[1], x[2]);
}

static void naive_weighted(const op_case *c, double *const *x, double *y, cn_loss kind)
{
    const int64_t each = positions(c) * c->C;
    *y = 0;
    for (int64_t i = 0; i < c->N * each; i++) {
        const double weight = x[2][2 * (i / each)], k = x[2][2 * (i / each) + 1];
        const double d = x[0][i] - x[1][i], soft = 2 * (sqrt(d * d + k * k) - k);
        const double loss = kind == CN_LOSS_MSE ? d * d : kind == CN_LOSS_HUBER ? k * soft : soft;
        *y += weight * loss / (double)(c->N * each);
    }
}

static void naive_huber(const op_case *c, double *const *x, double *y)
{
    naive_weighted(c, x, y, CN_LOSS_HUBER);
}

static void naive_smooth_l1(const op_case *c, double *const *x, double *y)
{
    naive_weighted(c, x, y, CN_LOSS_SMOOTH_L1);
}

static void naive_weighted_mse(const op_case *c, double *const *x, double *y)
{
    naive_weighted(c, x, y, CN_LOSS_MSE);
}

static const op_family HUBER = {"huber",     describe_weighted, build_huber,
                                naive_huber, LOSS_CASES,        CN_COUNT(LOSS_CASES)};
static const op_family SMOOTH_L1 = {"smooth_l1",     describe_weighted, build_smooth_l1,
                                    naive_smooth_l1, LOSS_CASES,        CN_COUNT(LOSS_CASES)};
static const op_family WEIGHTED = {"weighted mse",     describe_weighted, build_weighted_mse,
                                   naive_weighted_mse, LOSS_CASES,        CN_COUNT(LOSS_CASES)};

static void describe_kl(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = (op_operand){OP_TENSOR, NULL, OP_DIMS(c->N, c->H, c->W, 2 * c->C), .scale = 1.5f};
    *result = (op_operand){OP_END, NULL, OP_DIMS(1)};
}

static cn_node *build_kl(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_kl(g, x[0]);
}

static void naive_kl(const op_case *c, double *const *x, double *y)
{
    *y = 0;
    for (int64_t r = 0; r < c->N * positions(c); r++)
        for (int64_t k = 0; k < c->C; k++) {
            double mean = x[0][2 * r * c->C + k], logvar = x[0][(2 * r + 1) * c->C + k];
            *y += 0.5 * (mean * mean + exp(logvar) - 1 - logvar) / (double)c->N;
        }
}

static const op_case KL_CASES[] = {
    {.N = 1, .H = 1, .W = 1, .C = 1},
    {.N = 2, .H = 3, .W = 5, .C = 4},
    {.N = 3, .H = 4, .W = 4, .C = 7},
};
static const op_family KL = {"kl", describe_kl, build_kl, naive_kl, KL_CASES, CN_COUNT(KL_CASES)};

static void describe_gauss(const op_case *c, op_operand *o, op_operand *result)
{
    float spread = c->spread != 0 ? (float)c->spread : 1;
    o[0] = (op_operand){OP_TENSOR,        NULL,   OP_DIMS(c->N, c->H, c->W, 2 * c->C),
                        (float)c->offset, spread, 0};
    o[1] = (op_operand){OP_INPUT, NULL, OP_DIMS(c->N, c->H, c->W, c->C), .scale = 1.7f};
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->H, c->W, c->C)};
}

static cn_node *build_gauss(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_gauss_sample(g, x[0], x[1]);
}

static void naive_gauss(const op_case *c, double *const *x, double *y)
{
    for (int64_t r = 0; r < c->N * positions(c); r++)
        for (int64_t k = 0; k < c->C; k++) {
            double mean = x[0][2 * r * c->C + k], logvar = x[0][(2 * r + 1) * c->C + k];
            logvar = fmin(fmax(logvar, -30), 20);
            y[r * c->C + k] = mean + exp(0.5 * logvar) * x[1][r * c->C + k];
        }
}

/* The third row lies across the upper bound of the log variance, the last below the lower one. */
static const op_case GAUSS_CASES[] = {
    {.N = 1, .H = 1, .W = 1, .C = 1},
    {.N = 2, .H = 3, .W = 5, .C = 4},
    {.N = 1, .H = 4, .W = 4, .C = 4, .offset = 20, .spread = 3},
    {.N = 1, .H = 2, .W = 2, .C = 3, .offset = -40, .spread = 5},
};
static const op_family GAUSS = {"gauss_sample", describe_gauss, build_gauss,
                                naive_gauss,    GAUSS_CASES,    CN_COUNT(GAUSS_CASES)};

OP_FAMILIES(&MSE, &L1, &HUBER, &SMOOTH_L1, &WEIGHTED, &KL, &GAUSS)
