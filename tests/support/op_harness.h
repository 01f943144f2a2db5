/* SPDX-License-Identifier: Apache-2.0 */
/* op_harness.h - one operation checked against a naive double-precision reference.
 *
 * A family says, for a row of its table, what goes in and comes out (describe), how the graph is
 * built (build), and what the result should be (naive). The harness checks
 *   forward   |kernel - naive| <= 1e-5 of the largest naive value. Both start from the same floats;
 *             the
 *             kernel accumulates in f32, whose rounding over the longest sums here stays below
 *             that.
 *   gradient  with loss = mean((y - target)^2): for every operand and two random directions, the
 *             kernels' gradient along the direction against the central difference of the naive
 *             loss.
 *             Within 1e-4 of the derivative or of the gradient's norm, or 1e-6 of the norm of d
 *             loss / d y,
 *             whichever is largest: the difference in double is good to about 1e-7, the rest is f32
 *             rounding through two operations.
 */
#ifndef TEST_OP_HARNESS_H
#define TEST_OP_HARNESS_H

#include "graph/graph.h"

enum { OP_MAX_OPERANDS = 6 };

typedef enum op_role {
    OP_END,
    OP_INPUT,  /* given from outside, gets no gradient */
    OP_TENSOR, /* a trainable parameter used as a plain operand */
    OP_LAYER,  /* declared by the builder itself, found as "op.<name>" */
    OP_LOCKED  /* the same, not trainable */
} op_role;

typedef struct op_operand {
    op_role role;
    const char *name; /* of a layer's parameter: "weight" */
    int ndim;
    int64_t shape[CN_MAX_DIMS];
    float offset, scale; /* values offset + scale * u, u in [-1,1) */
    int64_t below;       /* > 0: whole numbers in [0, below) as I32 instead */
} op_operand;

/* One row. Each family reads the members it needs; those that are 0 are left out of the row's
 * name. */
typedef struct op_case {
    int64_t N, H, W, C, O, L, M, D;
    int kernel, kernel_w, stride, dilation,
        pad[4]; /* top, left, bottom, right; kernel_w 0: kernel */
    int heads, groups, causal, bias, ndim;
    cn_act act;
    double alpha, offset, spread; /* factors; centre and width of the operand's values */
} op_case;

typedef struct op_family {
    const char *name;
    /* Fills operands (role OP_END behind the last) and the result's shape. */
    void (*describe)(const op_case *c, op_operand *operands, op_operand *result);
    /* x: nodes of the operands that are inputs or tensors, NULL at layers. */
    cn_node *(*build)(cn_graph *g, const op_case *c, cn_node *const *x);
    void (*naive)(const op_case *c, double *const *x, double *y);
    const op_case *cases;
    size_t n_cases;
} op_family;

/* True when the row holds; else `message` says what differed. */
bool op_case_run(const op_family *f, const op_case *c, char *message, size_t size);
/* "conv2d N1 H5 W7 ..." */
void op_case_name(const op_family *f, const op_case *c, char *out, size_t size);

#define OP_DIMS(...) \
    .ndim = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .shape = {__VA_ARGS__}

#endif
