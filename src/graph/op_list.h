/* SPDX-License-Identifier: Apache-2.0 */
/* op_list.h - every operation, a row each: to add one, define `const cn_op_def cn_op_NAME` beside
 * its builder and gradient rule in a file of this folder, `const cn_cpu_op cn_cpu_NAME` in one of
 * src/cpu, and list it here. Nothing else lists operations. */
#ifndef CN_GRAPH_OP_LIST_H
#define CN_GRAPH_OP_LIST_H

/* What a graph consists of besides what is computed: these have no kernel. AUX is a second result
 * of in[0], written by its kernel; VIEW the same bytes in another shape. */
#define CN_OP_STRUCTURE_LIST(X) \
    X(CN_OP_INPUT, input)       \
    X(CN_OP_PARAM, param)       \
    X(CN_OP_AUX, aux)           \
    X(CN_OP_VIEW, view)

#define CN_OP_LIST(X)                         \
    X(CN_OP_FILL, fill)                       \
    X(CN_OP_CAST, cast)                       \
    X(CN_OP_CONV2D, conv2d)                   \
    X(CN_OP_CONV2D_DX, conv2d_dx)             \
    X(CN_OP_CONV2D_DW, conv2d_dw)             \
    X(CN_OP_LINEAR, linear)                   \
    X(CN_OP_LINEAR_DX, linear_dx)             \
    X(CN_OP_LINEAR_DW, linear_dw)             \
    X(CN_OP_GROUP_NORM, group_norm)           \
    X(CN_OP_GROUP_NORM_GRAD, group_norm_grad) \
    X(CN_OP_LAYER_NORM, layer_norm)           \
    X(CN_OP_LAYER_NORM_GRAD, layer_norm_grad) \
    X(CN_OP_ATTENTION, attention)             \
    X(CN_OP_ATTENTION_GRAD, attention_grad)   \
    X(CN_OP_ACT, act)                         \
    X(CN_OP_ACT_DX, act_dx)                   \
    X(CN_OP_GEGLU, geglu)                     \
    X(CN_OP_GEGLU_DX, geglu_dx)               \
    X(CN_OP_ADD, add)                         \
    X(CN_OP_SCALE, scale)                     \
    X(CN_OP_GATE, gate)                       \
    X(CN_OP_ADD_CHANNEL, add_channel)         \
    X(CN_OP_SUM_CHANNEL, sum_channel)         \
    X(CN_OP_ADD_ROWS, add_rows)               \
    X(CN_OP_SUM_BATCH, sum_batch)             \
    X(CN_OP_CONCAT, concat)                   \
    X(CN_OP_SLICE, slice)                     \
    X(CN_OP_UPSAMPLE, upsample)               \
    X(CN_OP_UPSAMPLE_DX, upsample_dx)         \
    X(CN_OP_MAX_POOL, max_pool)               \
    X(CN_OP_MEAN_POOL, mean_pool)             \
    X(CN_OP_RESIZE, resize)                   \
    X(CN_OP_PAD, pad)                         \
    X(CN_OP_EMBED, embed)                     \
    X(CN_OP_EMBED_DW, embed_dw)               \
    X(CN_OP_TIMESTEP, timestep)               \
    X(CN_OP_LOSS, loss)                       \
    X(CN_OP_LOSS_DX, loss_dx)                 \
    X(CN_OP_KL, kl)                           \
    X(CN_OP_KL_DX, kl_dx)                     \
    X(CN_OP_GAUSS, gauss)                     \
    X(CN_OP_GAUSS_DX, gauss_dx)

#endif
