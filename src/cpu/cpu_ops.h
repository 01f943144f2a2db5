/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_ops.h - how the CPU runs each operation of graph/op_list.h: a row each, defined in a file of
 * steps. */
#ifndef CN_CPU_CPU_OPS_H
#define CN_CPU_CPU_OPS_H

#include "cpu/cpu_backend.h"

typedef struct cn_cpu_op {
    /* Asks for scratch, chooses kernels, counts operations (graph/backend.h); NULL: nothing of
     * this. */
    cn_status (*prepare)(cpu_backend *b, cn_ctx *ctx, cn_step *st);
    cn_status (*run)(cpu_backend *b, cn_ctx *ctx, const cn_step *st);
} cn_cpu_op;

#define CN_CPU_DECLARE(op, name) extern const cn_cpu_op cn_cpu_##name;
CN_OP_LIST(CN_CPU_DECLARE)
#undef CN_CPU_DECLARE

#endif
