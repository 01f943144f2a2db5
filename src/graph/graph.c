/* SPDX-License-Identifier: Apache-2.0 */
/* graph.c - nodes, scopes and names; the operations themselves stand in op_*.c beside it.
 *
 * Nodes live in one list in the order they were built, which is an order they can run in: a node's
 * inputs come before it. Errors stick to the graph (see graph.h).
 */
#include "graph/graph.h"
#include "graph/ops.h"
#include "graph/graph_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SCOPES = 32 };

typedef struct tap {
    cn_node *y;
    const cn_params *set;
    char *path;
} tap;

struct cn_graph {
    cn_ctx *ctx;
    cn_node **nodes;
    int n, cap;
    cn_node *poison;
    cn_status status;
    char message[512];
    cn_params *params;
    char ldm[CN_NAME_MAX], diffusers[CN_NAME_MAX];
    size_t ldm_len[MAX_SCOPES], diffusers_len[MAX_SCOPES];
    int depth;
    int part, precise, segment_depth, n_segments, cap_segments;
    bool *checkpointed; /* [cap_segments], segment s at s - 1 */
    tap *taps;
    int n_taps, cap_taps;
    bool shares_stats;
};

cn_status cn_graph_create(cn_ctx *ctx, cn_graph **out)
{
    cn_graph *g = cn_alloc0(ctx, sizeof *g);
    if (!g) return CN_ENOMEM;
    g->ctx = ctx;
    g->poison = cn_alloc0(ctx, sizeof *g->poison);
    if (!g->poison) {
        cn_free(g);
        return CN_ENOMEM;
    }
    g->poison->g = g;
    g->poison->ndim = 1;
    g->poison->shape[0] = 1;
    g->poison->name = g->poison->diffusers_name = "";
    *out = g;
    return CN_OK;
}

void cn_graph_destroy(cn_graph *g)
{
    if (!g) return;
    for (int i = 0; i < g->n; i++) {
        cn_free((char *)g->nodes[i]->name);
        cn_free(g->nodes[i]);
    }
    for (int i = 0; i < g->n_taps; i++) cn_free(g->taps[i].path);
    cn_free(g->taps);
    cn_free(g->checkpointed);
    cn_free(g->nodes);
    cn_free(g->poison);
    cn_free(g);
}

cn_status cn_graph_status(cn_graph *g)
{
    return g->status == CN_OK ? CN_OK : cn_fail(g->ctx, g->status, "%s", g->message);
}

cn_ctx *cn_graph_ctx(const cn_graph *g)
{
    return g->ctx;
}

int cn_graph_size(const cn_graph *g)
{
    return g->n;
}
cn_node *cn_graph_node(const cn_graph *g, int id)
{
    return g->nodes[id];
}
bool cn_poisoned(const cn_graph *g)
{
    return g->status != CN_OK;
}
bool cn_node_is(const cn_node *x, cn_op op)
{
    return x && x->op == op;
}
int64_t cn_channels(const cn_node *x)
{
    return x->shape[x->ndim - 1];
}

int64_t cn_node_elements(const cn_node *x)
{
    int64_t n = 1;
    for (int i = 0; i < x->ndim; i++) n *= x->shape[i];
    return n;
}

static cn_node *poison_with(cn_graph *g, cn_status status, const char *fmt, va_list ap)
{
    if (g->status == CN_OK) {
        g->status = status;
        int n = snprintf(g->message, sizeof g->message, "%s%s", g->ldm, g->ldm[0] ? ": " : "");
        if (n < 0 || (size_t)n >= sizeof g->message) n = 0;
        vsnprintf(g->message + n, sizeof g->message - (size_t)n, fmt, ap);
    }
    return g->poison;
}

cn_node *cn_poison(cn_graph *g, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cn_node *p = poison_with(g, CN_EMISMATCH, fmt, ap);
    va_end(ap);
    return p;
}

cn_node *cn_poison_memory(cn_graph *g, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cn_node *p = poison_with(g, CN_ENOMEM, fmt, ap);
    va_end(ap);
    return p;
}

/* --- nodes ------------------------------------------------------------------------------------ */

/* Both names are one block of memory. */
bool cn_node_rename(cn_ctx *ctx, cn_node *y, const char *ldm, const char *diffusers)
{
    const size_t n = strlen(ldm) + 1, m = strlen(diffusers) + 1;
    char *names = cn_alloc(ctx, n + m);
    if (!names) return false;
    memcpy(names, ldm, n);
    memcpy(names + n, diffusers, m);
    cn_free((char *)(uintptr_t)y->name);
    y->name = names;
    y->diffusers_name = names + n;
    return true;
}

cn_node *cn_emit(cn_graph *g, cn_op op, cn_dtype dtype, int ndim, const int64_t *shape, int n_in,
                 cn_node *const *in)
{
    if (cn_poisoned(g)) return g->poison;
    if (g->n == g->cap) {
        int cap = g->cap ? 2 * g->cap : 1024;
        cn_node **nodes =
            cn_regrow(g->ctx, g->nodes, (size_t)g->n * sizeof *nodes, (size_t)cap * sizeof *nodes);
        if (!nodes) return cn_poison_memory(g, "out of memory for the graph");
        g->nodes = nodes;
        g->cap = cap;
    }
    cn_node *y = cn_alloc0(g->ctx, sizeof *y);
    if (!y || !cn_node_rename(g->ctx, y, g->ldm, g->diffusers)) {
        cn_free(y);
        return cn_poison_memory(g, "out of memory for the graph");
    }
    y->g = g;
    y->set = g->params;
    y->part = g->part;
    y->id = g->n;
    y->op = op;
    y->dtype = dtype;
    y->ndim = ndim;
    for (int i = 0; i < ndim; i++) {
        y->shape[i] = shape[i];
        if (shape[i] < 1)
            cn_poison(g, "%s would have the size %lld", cn_op_name(op), (long long)shape[i]);
    }
    y->segment = g->segment_depth ? g->n_segments : 0;
    y->n_in = n_in;
    y->stable = n_in > 0 || op == CN_OP_FILL;
    for (int i = 0; i < n_in; i++) {
        y->in[i] = in[i];
        if (!in[i]) continue;
        if (in[i]->needs_grad) y->needs_grad = true;
        if (!in[i]->stable) y->stable = false;
    }
    g->nodes[g->n++] = y;
    return y;
}

cn_node *cn_emit_like(cn_graph *g, cn_op op, const cn_node *like, int n_in, cn_node *const *in)
{
    return cn_emit(g, op, like->dtype, like->ndim, like->shape, n_in, in);
}

cn_node *cn_emit_aux(cn_graph *g, cn_node *y, int i, cn_dtype dtype, int ndim, const int64_t *shape)
{
    if (cn_poisoned(g)) return g->poison;
    if (y->aux[i]) return y->aux[i];
    cn_node *a = cn_emit(g, CN_OP_AUX, dtype, ndim, shape, 1, &y);
    if (cn_poisoned(g)) return g->poison;
    a->needs_grad = false;
    y->aux[i] = a;
    return a;
}

cn_node *cn_emit_again(cn_graph *g, const cn_node *y, cn_node *const *in)
{
    cn_node *copy = cn_emit(g, y->op, y->dtype, y->ndim, y->shape, y->n_in, in);
    if (cn_poisoned(g)) return copy;
    cn_node made = *copy;
    *copy = *y;
    copy->id = made.id;
    copy->name = made.name;
    copy->diffusers_name = made.diffusers_name;
    copy->needs_grad = made.needs_grad;
    copy->stable = made.stable;
    copy->segment = 0;
    copy->grad = NULL;
    for (int i = 0; i < CN_MAX_INPUTS; i++) copy->in[i] = made.in[i];
    for (int i = 0; i < CN_MAX_AUX; i++) copy->aux[i] = NULL;
    return copy;
}

cn_node *cn_output_compute_type(cn_graph *g, cn_node *y)
{
    if (cn_poisoned(g)) return y;
    if (y->op == CN_OP_ADD) return cn_cast(g, y, cn_compute_type(g)); /* with a low-rank change */
    if (!cn_op_def_of(y->op)->product)
        return cn_poison(g, "%s can't choose its result's type", cn_op_name(y->op));
    y->dtype = cn_compute_type(g);
    return y;
}

void cn_segment_begin(cn_graph *g)
{
    if (g->segment_depth++ || cn_poisoned(g)) return;
    if (g->n_segments == g->cap_segments) {
        int cap = g->cap_segments ? 2 * g->cap_segments : 64;
        bool *all =
            cn_regrow(g->ctx, g->checkpointed, (size_t)g->n_segments * sizeof *all, (size_t)cap);
        if (!all) {
            cn_poison_memory(g, "out of memory for the graph");
            return;
        }
        g->checkpointed = all;
        g->cap_segments = cap;
    }
    g->checkpointed[g->n_segments++] = false;
}

void cn_segment_end(cn_graph *g)
{
    if (g->segment_depth) g->segment_depth--;
}

int cn_graph_segments(const cn_graph *g)
{
    return g->n_segments;
}

void cn_graph_checkpoint(cn_graph *g, int segment)
{
    if (segment >= 1 && segment <= g->n_segments) g->checkpointed[segment - 1] = true;
}

bool cn_graph_checkpointed(const cn_graph *g, int segment)
{
    return segment >= 1 && segment <= g->n_segments && g->checkpointed[segment - 1];
}

cn_node *cn_input(cn_graph *g, const char *name, cn_dtype dtype, int ndim, const int64_t *shape,
                  bool stable)
{
    cn_scope_push(g, name);
    cn_node *x = cn_emit(g, CN_OP_INPUT, dtype, ndim, shape, 0, NULL);
    cn_scope_pop(g);
    if (!cn_poisoned(g)) x->stable = stable;
    return x;
}

cn_node *cn_input4(cn_graph *g, const char *name, int64_t N, int64_t H, int64_t W, int64_t C)
{
    return cn_input(g, name, CN_F32, 4, (int64_t[]){N, H, W, C}, false);
}

void cn_precise_begin(cn_graph *g)
{
    g->precise++;
}

void cn_precise_end(cn_graph *g)
{
    g->precise--;
}

cn_dtype cn_compute_type(const cn_graph *g)
{
    return g->params && !g->precise ? cn_params_compute(g->params) : CN_F32;
}

cn_node *cn_compute(cn_graph *g, cn_node *x)
{
    return x ? cn_cast(g, x, cn_compute_type(g)) : NULL;
}

/* --- names ------------------------------------------------------------------------------------ */

void cn_graph_use(cn_graph *g, cn_params *p)
{
    g->params = p;
}

/* Appends ".part" (or "part" at the start) to path; false when it doesn't fit. */
static bool path_add(char *path, const char *part, size_t n)
{
    size_t len = strlen(path), dot = len && n ? 1 : 0;
    if (len + dot + n + 1 > CN_NAME_MAX) return false;
    if (dot) path[len] = '.';
    memcpy(path + len + dot, part, n);
    path[len + dot + n] = 0;
    return true;
}

static bool path_add_both(char *ldm, char *diffusers, const char *name)
{
    const char *bar = strchr(name, '|');
    size_t n = bar ? (size_t)(bar - name) : strlen(name);
    const char *second = bar ? bar + 1 : name;
    return path_add(ldm, name, n) && path_add(diffusers, second, strlen(second));
}

void cn_graph_share_stats(cn_graph *g)
{
    g->shares_stats = true;
}

bool cn_graph_shares_stats(const cn_graph *g)
{
    return g->shares_stats;
}

void cn_graph_part(cn_graph *g, int part)
{
    if (part < 0 || part > CN_MAX_PARTS)
        cn_poison(g, "part %d of a graph: 0 to %d are possible", part, (int)CN_MAX_PARTS);
    else
        g->part = part;
}

void cn_scope_push(cn_graph *g, const char *name)
{
    if (g->depth == MAX_SCOPES) {
        cn_poison(g, "scopes are nested more than %d deep", MAX_SCOPES);
        return;
    }
    g->ldm_len[g->depth] = strlen(g->ldm);
    g->diffusers_len[g->depth] = strlen(g->diffusers);
    g->depth++;
    if (!path_add_both(g->ldm, g->diffusers, name)) cn_poison(g, "%s: name too long", name);
}

void cn_scope_pop(cn_graph *g)
{
    if (g->depth == 0) return;
    g->depth--;
    g->ldm[g->ldm_len[g->depth]] = 0;
    g->diffusers[g->diffusers_len[g->depth]] = 0;
}

void cn_scope_suspend(cn_graph *g, cn_scope_saved *out)
{
    memcpy(out->ldm, g->ldm, sizeof out->ldm);
    memcpy(out->diffusers, g->diffusers, sizeof out->diffusers);
    out->params = g->params;
    g->ldm[0] = g->diffusers[0] = 0;
}

void cn_scope_resume(cn_graph *g, const cn_scope_saved *saved)
{
    memcpy(g->ldm, saved->ldm, sizeof g->ldm);
    memcpy(g->diffusers, saved->diffusers, sizeof g->diffusers);
    g->params = saved->params;
}

void cn_scope_name(const cn_graph *g, const char *name, char out[CN_NAME_MAX])
{
    char ldm[CN_NAME_MAX];
    memcpy(ldm, g->ldm, sizeof ldm);
    memcpy(out, g->diffusers, sizeof g->diffusers);
    if (!path_add_both(ldm, out, name)) out[0] = 0;
}

cn_node *cn_scope_return(cn_graph *g, cn_node *y)
{
    if (!cn_poisoned(g)) {
        if (g->n_taps == g->cap_taps) {
            int cap = g->cap_taps ? 2 * g->cap_taps : 64;
            tap *taps = cn_regrow(g->ctx, g->taps, (size_t)g->n_taps * sizeof *taps,
                                  (size_t)cap * sizeof *taps);
            if (!taps) return cn_poison_memory(g, "out of memory for the graph");
            g->taps = taps;
            g->cap_taps = cap;
        }
        char *path = cn_strdup(g->ctx, g->diffusers);
        if (!path) return cn_poison_memory(g, "out of memory for the graph");
        g->taps[g->n_taps++] = (tap){y, g->params, path};
    }
    cn_scope_pop(g);
    return y;
}

cn_node *cn_graph_tap(const cn_graph *g, const char *network, const char *diffusers_path)
{
    for (int i = 0; i < g->n_taps; i++)
        if (g->taps[i].set && strcmp(cn_params_network(g->taps[i].set), network) == 0 &&
            strcmp(g->taps[i].path, diffusers_path) == 0)
            return g->taps[i].y;
    return NULL;
}

cn_node *cn_param_node(cn_graph *g, const char *name, int ndim, const int64_t *shape, cn_init init,
                       int64_t fan_in)
{
    if (cn_poisoned(g)) return g->poison;
    if (!g->params) return cn_poison(g, "%s: no parameter set chosen (cn_graph_use)", name);
    char ldm[CN_NAME_MAX], diffusers[CN_NAME_MAX];
    memcpy(ldm, g->ldm, sizeof ldm);
    memcpy(diffusers, g->diffusers, sizeof diffusers);
    if (!path_add_both(ldm, diffusers, name)) return cn_poison(g, "%s: name too long", name);
    cn_param *q = cn_params_find(g->params, ldm);
    if (!q) {
        if (!(q = cn_params_declare(g->params, ldm, diffusers)))
            return cn_poison_memory(g, "out of memory for the graph");
        q->ndim = ndim;
        for (int i = 0; i < ndim; i++) q->shape[i] = shape[i];
        q->init = init;
        q->fan_in = fan_in;
        cn_param_choose_dtype(g->params, q);
    }
    if (q->ndim != ndim) return cn_poison(g, "%s: declared twice with other dimensions", ldm);
    for (int i = 0; i < ndim; i++)
        if (q->shape[i] != shape[i])
            return cn_poison(g, "%s: dimension %d is %lld, but was declared as %lld", ldm, i,
                             (long long)shape[i], (long long)q->shape[i]);
    for (int i = 0; i < g->n; i++) /* one node per parameter, so that its gradient is one sum */
        if (g->nodes[i]->param == q && g->nodes[i]->op == CN_OP_PARAM) return g->nodes[i];
    cn_node *w = cn_emit(g, CN_OP_PARAM, CN_F32, ndim, shape, 0, NULL);
    if (cn_poisoned(g)) return w;
    w->param = q;
    w->needs_grad = q->trainable;
    w->stable = !q->trainable;
    return w;
}

cn_node *cn_base_weight(cn_graph *g, int ndim, const int64_t *shape, int64_t fan_in)
{
    const cn_low_rank *low = g->params ? cn_params_low_rank(g->params) : NULL;
    cn_params *own = g->params;
    char name[CN_NAME_MAX];
    if (!low || cn_poisoned(g)) return NULL;
    cn_scope_name(g, "weight", name);
    if (!cn_params_find(low->base, name)) return NULL;
    g->params = low->base;
    cn_node *w = cn_param_node(g, "weight", ndim, shape, CN_INIT_FAN_IN, fan_in);
    g->params = own;
    return w;
}

int64_t cn_base_rank(const cn_graph *g, int64_t rows, int64_t columns)
{
    const cn_low_rank *low = cn_params_low_rank(g->params);
    const int64_t own = low->of ? low->of(low->user, g->ldm) : 0;
    return own ? own : CN_MAX(1, CN_MIN(low->rank, CN_MIN(rows, columns)));
}

const cn_op_def cn_op_input = {.name = "input"};
const cn_op_def cn_op_param = {.name = "param"};
const cn_op_def cn_op_aux = {.name = "aux"};
const cn_op_def cn_op_fill = {.name = "fill"};
