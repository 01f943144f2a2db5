/* SPDX-License-Identifier: Apache-2.0 */
/* op_pointwise.c - activations, sums and products, element by element. */
#include "graph/ops.h"

cn_node *cn_cast(cn_graph *g, cn_node *x, cn_dtype dtype)
{
    if (cn_poisoned(g) || x->dtype == dtype) return x;
    bool possible =
        (x->dtype == CN_F32 || x->dtype == CN_BF16) && (dtype == CN_F32 || dtype == CN_BF16);
    if (!possible)
        return cn_poison(g, "no conversion from %s to %s", cn_dtype_name(x->dtype),
                         cn_dtype_name(dtype));
    return cn_emit(g, CN_OP_CAST, dtype, x->ndim, x->shape, 1, &x);
}

static void cast_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_grad_add(g, y->in[0], cn_cast(g, dy, y->in[0]->dtype));
}

const cn_op_def cn_op_cast = {.name = "cast", .grad = cast_grad};

cn_node *cn_activation(cn_graph *g, cn_node *x, cn_act act)
{
    if (act == CN_ACT_NONE) return x;
    cn_node *y = cn_emit_like(g, CN_OP_ACT, x, 1, &x);
    if (!cn_poisoned(g)) y->act = act;
    return y;
}

cn_node *cn_leaky_relu(cn_graph *g, cn_node *x, float slope)
{
    cn_node *y = cn_activation(g, x, CN_ACT_LEAKY_RELU);
    if (!cn_poisoned(g)) y->alpha = slope;
    return y;
}

cn_node *cn_silu(cn_graph *g, cn_node *x)
{
    return cn_activation(g, x, CN_ACT_SILU);
}

/* Needs x, not y. */
static void act_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0];
    cn_node *d = cn_emit_like(g, CN_OP_ACT_DX, x, 2, (cn_node *[]){x, dy});
    if (cn_poisoned(g)) return;
    d->act = y->act;
    d->alpha = y->alpha;
    cn_grad_add(g, x, d);
}

const cn_op_def cn_op_act = {.name = "act", .grad = act_grad, .in_place = 1};
const cn_op_def cn_op_act_dx = {.name = "act_dx", .in_place = 2};

cn_node *cn_geglu(cn_graph *g, cn_node *x)
{
    if (cn_poisoned(g)) return x;
    if (cn_channels(x) % 2) return cn_poison(g, "GEGLU of an odd number of channels");
    int64_t shape[CN_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] /= 2;
    return cn_emit(g, CN_OP_GEGLU, x->dtype, x->ndim, shape, 1, &x);
}

static void geglu_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0];
    cn_grad_add(g, x, cn_emit_like(g, CN_OP_GEGLU_DX, x, 2, (cn_node *[]){x, dy}));
}

const cn_op_def cn_op_geglu = {.name = "geglu", .grad = geglu_grad};
const cn_op_def cn_op_geglu_dx = {.name = "geglu_dx"};

static bool same_shape(const cn_node *a, const cn_node *b)
{
    if (a->ndim != b->ndim || a->dtype != b->dtype) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

cn_node *cn_add(cn_graph *g, cn_node *a, cn_node *b)
{
    if (cn_poisoned(g)) return a;
    if (!same_shape(a, b))
        return cn_poison(g, "sum of %lld and %lld elements in different shapes or types",
                         (long long)cn_node_elements(a), (long long)cn_node_elements(b));
    return cn_emit_like(g, CN_OP_ADD, a, 2, (cn_node *[]){a, b});
}

cn_node *cn_add_samples(cn_graph *g, cn_node *a, cn_node *b, int64_t first)
{
    if (cn_poisoned(g)) return a;
    if (first == 0 && a->shape[0] == b->shape[0]) return cn_add(g, a, b);
    bool fits = a->ndim == b->ndim && a->dtype == b->dtype && first >= 0 &&
                first + b->shape[0] <= a->shape[0];
    for (int i = 1; fits && i < a->ndim; i++) fits = a->shape[i] == b->shape[i];
    if (!fits)
        return cn_poison(g, "samples %lld to %lld of %lld, or of another shape, can't be added",
                         (long long)first, (long long)(first + b->shape[0]),
                         (long long)a->shape[0]);
    cn_node *y = cn_emit_like(g, CN_OP_ADD, a, 2, (cn_node *[]){a, b});
    if (!cn_poisoned(g)) y->offset = first;
    return y;
}

/* Samples are cut out as if they were channels of one position. */
static cn_node *cut_samples(cn_graph *g, cn_node *x, int64_t first, const cn_node *like)
{
    const int64_t all = cn_node_elements(x), n = cn_node_elements(like);
    if (all == n) return x;
    x = cn_view(g, x, 2, (int64_t[]){1, all});
    x = cn_slice(g, x, first * (n / like->shape[0]), n);
    return cn_view(g, x, like->ndim, like->shape);
}

static void add_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *a = y->in[0], *b = y->in[1];
    if (a->needs_grad) cn_grad_add(g, a, dy);
    if (b->needs_grad) cn_grad_add(g, b, cut_samples(g, dy, y->offset, b));
}

const cn_op_def cn_op_add = {.name = "add", .grad = add_grad, .in_place = 1};

cn_node *cn_scale(cn_graph *g, cn_node *x, float alpha)
{
    cn_node *y = cn_emit_like(g, CN_OP_SCALE, x, 1, &x);
    if (!cn_poisoned(g)) y->alpha = alpha;
    return y;
}

static void scale_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_grad_add(g, y->in[0], cn_scale(g, dy, y->alpha));
}

const cn_op_def cn_op_scale = {.name = "scale", .grad = scale_grad, .in_place = 1};

cn_node *cn_gate(cn_graph *g, cn_node *x, cn_node *m)
{
    if (cn_poisoned(g)) return x;
    if (cn_channels(m) != 1 || x->dtype != m->dtype ||
        cn_node_elements(m) != cn_node_elements(x) / cn_channels(x))
        return cn_poison(g, "a gate has one value for each position");
    return cn_emit_like(g, CN_OP_GATE, x, 2, (cn_node *[]){x, m});
}

static void gate_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    if (y->in[0]->needs_grad) cn_grad_add(g, y->in[0], cn_gate(g, dy, y->in[1]));
}

const cn_op_def cn_op_gate = {.name = "gate", .grad = gate_grad, .in_place = 1};

cn_node *cn_add_channel(cn_graph *g, cn_node *x, cn_node *e)
{
    if (cn_poisoned(g)) return x;
    if (e->ndim != 2 || e->dtype != x->dtype || e->shape[0] != x->shape[0] ||
        e->shape[1] != cn_channels(x))
        return cn_poison(g, "a value per channel: got [%lld,%lld] for %lld images of %lld channels",
                         (long long)e->shape[0], (long long)e->shape[1], (long long)x->shape[0],
                         (long long)cn_channels(x));
    return cn_emit_like(g, CN_OP_ADD_CHANNEL, x, 2, (cn_node *[]){x, e});
}

static void add_channel_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0], *e = y->in[1];
    if (e->needs_grad) {
        cn_node *sum = cn_emit(g, CN_OP_SUM_CHANNEL, CN_F32, 2, e->shape, 1, &dy);
        cn_grad_add(g, e, cn_cast(g, sum, e->dtype));
    }
    if (x->needs_grad) cn_grad_add(g, x, dy);
}

const cn_op_def cn_op_add_channel = {
    .name = "add_channel", .grad = add_channel_grad, .in_place = 1};

cn_node *cn_position_embedding(cn_graph *g, const char *table, cn_node *x, int64_t rows)
{
    if (cn_poisoned(g)) return x;
    if (x->ndim != 3 || x->shape[1] > rows)
        return cn_poison(g, "%s: %lld tokens, but only %lld positions", table,
                         (long long)x->shape[1], (long long)rows);
    cn_node *p = cn_param_node(g, table, 2, (int64_t[]){rows, x->shape[2]}, CN_INIT_NORMAL, rows);
    return cn_emit_like(g, CN_OP_ADD_ROWS, x, 2, (cn_node *[]){x, p});
}

cn_node *cn_add_parameter(cn_graph *g, const char *name, cn_node *x, int ndim, const int64_t *shape)
{
    int64_t n = 1;
    if (cn_poisoned(g)) return x;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    if (n != cn_node_elements(x) / x->shape[0])
        return cn_poison(g, "%s: %lld values for samples of %lld", name, (long long)n,
                         (long long)(cn_node_elements(x) / x->shape[0]));
    cn_node *p = cn_param_node(g, name, ndim, shape, CN_INIT_NORMAL, n);
    return cn_emit_like(g, CN_OP_ADD_ROWS, x, 2, (cn_node *[]){x, p});
}

static void add_rows_grad(cn_graph *g, cn_node *y, cn_node *dy)
{
    cn_node *x = y->in[0], *p = y->in[1];
    if (p->needs_grad) cn_grad_add(g, p, cn_emit_like(g, CN_OP_SUM_BATCH, p, 1, &dy));
    if (x->needs_grad) cn_grad_add(g, x, dy);
}

const cn_op_def cn_op_add_rows = {.name = "add_rows", .grad = add_rows_grad, .in_place = 1};
const cn_op_def cn_op_sum_batch = {.name = "sum_batch"};
