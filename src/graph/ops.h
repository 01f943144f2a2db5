/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - the rows of the operations, each defined beside its builder and gradient rule. */
#ifndef CN_OPS_H
#define CN_OPS_H

#include "graph/graph.h"

#define CN_OP_DECLARE(op, name) extern const cn_op_def cn_op_##name;
CN_OP_STRUCTURE_LIST(CN_OP_DECLARE)
CN_OP_LIST(CN_OP_DECLARE)
#undef CN_OP_DECLARE

/* Sum of dy [...,O] over all positions, [O]: the gradient of a bias. */
cn_node *cn_bias_grad(cn_graph *g, const cn_node *b, cn_node *dy);

#endif
