/* SPDX-License-Identifier: Apache-2.0 */
/* test_shape.c - concat, slice, view and nearest upsampling. C and O are the two widths of a
 * concat; a slice takes O channels from `offset`. */
#include "../support/op_main.h"

static op_operand shaped(op_role role, const op_case *c, int64_t channels)
{
    if (c->H) return (op_operand){role, NULL, OP_DIMS(c->N, c->H, c->W, channels), .scale = 1};
    if (c->L) return (op_operand){role, NULL, OP_DIMS(c->N, c->L, channels), .scale = 1};
    return (op_operand){role, NULL, OP_DIMS(c->N, channels), .scale = 1};
}

static int64_t rows_of(const op_case *c)
{
    return c->N * (c->H ? c->H * c->W : c->L ? c->L : 1);
}

static void copy_rows(double *y, int64_t y_width, const double *x, int64_t x_width, int64_t n,
                      int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < n; k++) y[r * y_width + k] = x[r * x_width + k];
}

static void describe_concat(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    o[1] = shaped(OP_TENSOR, c, c->O);
    *result = shaped(OP_END, c, c->C + c->O);
}

static cn_node *build_concat(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_concat(g, x[0], x[1]);
}

static void naive_concat(const op_case *c, double *const *x, double *y)
{
    copy_rows(y, c->C + c->O, x[0], c->C, c->C, rows_of(c));
    copy_rows(y + c->C, c->C + c->O, x[1], c->O, c->O, rows_of(c));
}

static const op_case CONCAT_CASES[] = {
    {.N = 1, .C = 1, .O = 1},
    {.N = 2, .H = 3, .W = 5, .C = 7, .O = 4},
    {.N = 1, .L = 9, .C = 16, .O = 32},
    {.N = 3, .H = 1, .W = 1, .C = 64, .O = 32},
};
static const op_family CONCAT = {"concat",     describe_concat, build_concat,
                                 naive_concat, CONCAT_CASES,    CN_COUNT(CONCAT_CASES)};

static void describe_slice(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    *result = shaped(OP_END, c, c->O);
}

static cn_node *build_slice(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_slice(g, x[0], (int64_t)c->offset, c->O);
}

static void naive_slice(const op_case *c, double *const *x, double *y)
{
    copy_rows(y, c->O, x[0] + (int64_t)c->offset, c->C, c->O, rows_of(c));
}

static const op_case SLICE_CASES[] = {
    {.N = 2, .H = 3, .W = 5, .C = 8, .O = 4},
    {.N = 2, .H = 3, .W = 5, .C = 8, .O = 4, .offset = 4},
    {.N = 1, .L = 7, .C = 17, .O = 5, .offset = 6},
    {.N = 1, .L = 7, .C = 5, .O = 5},
};
static const op_family SLICE = {"slice",     describe_slice, build_slice,
                                naive_slice, SLICE_CASES,    CN_COUNT(SLICE_CASES)};

/* Both halves of x, exchanged: gradients of two slices meet in one buffer. */
static void describe_swap(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, 2 * c->C);
    *result = shaped(OP_END, c, 2 * c->C);
}

static cn_node *build_swap(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_concat(g, cn_slice(g, x[0], c->C, c->C), cn_slice(g, x[0], 0, c->C));
}

static void naive_swap(const op_case *c, double *const *x, double *y)
{
    copy_rows(y, 2 * c->C, x[0] + c->C, 2 * c->C, c->C, rows_of(c));
    copy_rows(y + c->C, 2 * c->C, x[0], 2 * c->C, c->C, rows_of(c));
}

static const op_case SWAP_CASES[] = {
    {.N = 2, .H = 3, .W = 2, .C = 5},
};
static const op_family SWAP = {"concat of slices", describe_swap, build_swap,
                               naive_swap,         SWAP_CASES,    CN_COUNT(SWAP_CASES)};

/* [N,H,W,C] seen as [N,HW,C]. */
static void describe_view(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->H * c->W, c->C)};
}

static cn_node *build_view(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_view(g, x[0], 3, (int64_t[]){c->N, c->H * c->W, c->C});
}

static void naive_view(const op_case *c, double *const *x, double *y)
{
    copy_rows(y, c->C, x[0], c->C, c->C, rows_of(c));
}

static const op_case VIEW_CASES[] = {
    {.N = 2, .H = 3, .W = 5, .C = 7},
    {.N = 1, .H = 1, .W = 1, .C = 1},
};
static const op_family VIEW = {"view",     describe_view, build_view,
                               naive_view, VIEW_CASES,    CN_COUNT(VIEW_CASES)};

static void describe_up(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, 2 * c->H, 2 * c->W, c->C)};
}

static cn_node *build_up(cn_graph *g, const op_case *c, cn_node *const *x)
{
    (void)c;
    return cn_upsample2(g, x[0]);
}

static void naive_up(const op_case *c, double *const *x, double *y)
{
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t i = 0; i < 2 * c->H; i++)
            for (int64_t j = 0; j < 2 * c->W; j++)
                for (int64_t k = 0; k < c->C; k++)
                    *y++ = x[0][((n * c->H + i / 2) * c->W + j / 2) * c->C + k];
}

static const op_case UP_CASES[] = {
    {.N = 1, .H = 1, .W = 1, .C = 1},
    {.N = 2, .H = 3, .W = 5, .C = 7},
    {.N = 1, .H = 8, .W = 8, .C = 32},
};
static const op_family UP = {"upsample2", describe_up, build_up,
                             naive_up,    UP_CASES,    CN_COUNT(UP_CASES)};

/* Nearest to any larger size: L x M in a row is the result's height and width. */
static void describe_to(const op_case *c, op_operand *o, op_operand *result)
{
    o[0] = shaped(OP_TENSOR, c, c->C);
    *result = (op_operand){OP_END, NULL, OP_DIMS(c->N, c->L, c->M, c->C)};
}

static cn_node *build_to(cn_graph *g, const op_case *c, cn_node *const *x)
{
    return cn_upsample_to(g, x[0], c->L, c->M);
}

static void naive_to(const op_case *c, double *const *x, double *y)
{
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t i = 0; i < c->L; i++)
            for (int64_t j = 0; j < c->M; j++)
                for (int64_t k = 0; k < c->C; k++)
                    *y++ = x[0][((n * c->H + i * c->H / c->L) * c->W + j * c->W / c->M) * c->C + k];
}

static const op_case TO_CASES[] = {
    {.N = 1, .H = 2, .W = 3, .C = 5, .L = 3, .M = 7},
    {.N = 2, .H = 5, .W = 4, .C = 16, .L = 9, .M = 8},
    {.N = 1, .H = 3, .W = 3, .C = 2, .L = 3, .M = 3},
    {.N = 1, .H = 1, .W = 1, .C = 3, .L = 4, .M = 5},
};
static const op_family UP_TO = {"upsample_to", describe_to, build_to,
                                naive_to,      TO_CASES,    CN_COUNT(TO_CASES)};

OP_FAMILIES(&CONCAT, &SLICE, &SWAP, &VIEW, &UP, &UP_TO)
