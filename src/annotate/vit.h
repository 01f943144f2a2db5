/* SPDX-License-Identifier: Apache-2.0 */
/* vit.h - the layers of vision transformers, named as timm names them. */
#ifndef CN_ANNOTATE_VIT_H
#define CN_ANNOTATE_VIT_H

#include "graph/graph.h"

/* x [1,L,C] -> its shape: x + attn(norm1(x)), then x + mlp(norm2(x)) of four times the width, with
 * the exact GELU, under the current scope. heads divide C. */
cn_node *cn_vit_block(cn_graph *g, cn_node *x, int heads, float eps);
/* fc2(GELU(fc1(x))) under the scope "mlp"; x [...,C]. */
cn_node *cn_vit_mlp(cn_graph *g, cn_node *x);

#endif
