/* SPDX-License-Identifier: Apache-2.0 */
/* op_embed.c - token and timestep embeddings. */
#include "graph/ops.h"

cn_node *cn_embedding(cn_graph *g, const char *name, cn_node *ids, int64_t V, int64_t C)
{
    if (cn_poisoned(g)) return ids;
    if (ids->ndim != 2 || ids->dtype != CN_I32)
        return cn_poison(g, "%s: token ids are [N,L] in 32-bit integers", name);
    cn_scope_push(g, name);
    cn_node *table = cn_param_node(g, "weight", 2, (int64_t[]){V, C}, CN_INIT_NORMAL, C);
    cn_node *y = cn_emit(g, CN_OP_EMBED, CN_F32, 3, (int64_t[]){ids->shape[0], ids->shape[1], C}, 2,
                         (cn_node *[]){table, ids});
    cn_scope_pop(g);
    return y;
}

static void embed_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *table = y->in[0], *ids = y->in[1];
    if (table->needs_grad)
        cn_grad_add(g, table, cn_emit_like(g, CN_OP_EMBED_DW, table, 2, (cn_node *[]){ids, dy}));
}

const cn_op_def cn_op_embed = {.name = "embed", .grad = embed_grad};
const cn_op_def cn_op_embed_dw = {.name = "embed_dw"};

cn_node *cn_timestep_embedding(cn_graph *g, cn_node *t, int64_t dim)
{
    if (cn_poisoned(g)) return t;
    if (t->ndim != 1 || dim % 2) return cn_poison(g, "timesteps are [N], their embedding even");
    return cn_emit(g, CN_OP_TIMESTEP, CN_F32, 2, (int64_t[]){t->shape[0], dim}, 1, &t);
}

const cn_op_def cn_op_timestep = {.name = "timestep"};
