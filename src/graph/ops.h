/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - the gradient rules of the op families, gathered by the table in grad.c. */
#ifndef CN_OPS_H
#define CN_OPS_H

#include "graph/graph.h"

void cn_conv2d_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_linear_grad(cn_graph *g, cn_node *y, cn_node *dy);
/* Sum of dy [...,O] over all positions, [O]: the gradient of a bias. */
cn_node *cn_bias_grad(cn_graph *g, const cn_node *b, cn_node *dy);
void cn_group_norm_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_layer_norm_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_attention_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_cast_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_act_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_geglu_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_add_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_scale_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_gate_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_scale_by_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_add_channel_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_add_rows_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_concat_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_slice_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_view_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_upsample_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_embed_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_loss_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_kl_grad(cn_graph *g, cn_node *y, cn_node *dy);
void cn_gauss_grad(cn_graph *g, cn_node *y, cn_node *dy);

#endif
