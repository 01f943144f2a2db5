/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - the rows of the operations, each defined beside its builder and gradient rule. */
#ifndef CN_OPS_H
#define CN_OPS_H

#include "graph/graph.h"

#define CN_OP_DECLARE(op, name) extern const cn_op_def cn_op_##name;
CN_OP_STRUCTURE_LIST(CN_OP_DECLARE)
CN_OP_LIST(CN_OP_DECLARE)
#undef CN_OP_DECLARE

/* --- layers of a set with a low-rank change (cn_params_set_low_rank) ---------------------------
 */

/* The base's weight of the layer whose scope is open, of this shape; NULL: the layer's is its
 * own. */
cn_node *cn_base_weight(cn_graph *g, int ndim, const int64_t *shape, int64_t fan_in);
/* The rank of that layer's change, whose matrix has so many rows and columns. */
int64_t cn_base_rank(const cn_graph *g, int64_t rows, int64_t columns);
/* y, a convolution or linear layer of x with the base's weight, and x times the change. */
cn_node *cn_low_rank_sum(cn_graph *g, cn_node *y);

/* Sum of dy [...,O] over all positions, [O]: the gradient of a bias. */
cn_node *cn_bias_grad(cn_graph *g, const cn_node *b, cn_node *dy);

#endif
