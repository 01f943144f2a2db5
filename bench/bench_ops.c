/* SPDX-License-Identifier: Apache-2.0 */
/* bench_ops.c - every large convolution, matrix product and attention of the networks, one by one.
 *
 * The steps are those of the networks' own plans (drawing, decoding, training), so what is timed is
 * what the backend prepared for them, fused sums included. Equal steps are timed once and counted
 * per network. A shared machine's speed changes from second to second, so a large square product
 * and a pass over memory run in turn with each step, the fastest of all count. A step's share is
 * its rate by the square's; its roof is the longer of two times, of its arithmetic at the square's
 * rate and of reading what it reads and writing what it writes once at the pass's. Memory is taken
 * for one step at a time; values are seeded noise.
 */
#include "bench.h"

#include "diffuse/sampling.h"
#include "graph/plan_run.h"
#include "model/checkpoint/network_kinds.h"
#include "train/stepgraph.h"

#include <string.h>
#include <unistd.h>

enum { NETWORKS = 3, MAX_OPS = 1024, NAME_BYTES = 128, SQUARE = 1536, ROUNDS = 4 };
enum { MEMORY = 1 << 25 /* floats, beyond the caches */ };

static const char *const networks[NETWORKS] = {"draw", "decode", "train"};
static const double least_flops = 1e9, round_seconds = 0.04;

typedef struct op_row {
    const char *kind, *direction;
    char shape[NAME_BYTES];
    const char *type;
    bool sums;        /* the step adds a residual or a value per channel */
    const char *kept; /* what its weights are kept in, where that isn't `type`; else NULL */
    int64_t count[NETWORKS];
    double flops, bytes, seconds;
    double square, memory; /* the square product's FLOP/s beside it, and memory's bytes/s */
} op_row;

typedef struct ops_work {
    bench *b;
    op_row *rows;
    int n;
    cn_params *params;
    cn_graph *graph;
    cn_plan *plan;
    cn_step square; /* with its memory */
    float *memory;
} ops_work;

/* --- what a step is called -------------------------------------------------------------------- */

static const char *type_name(const cn_node *x)
{
    return x->dtype == CN_BF16 ? "bf16" : "f32";
}

static void name_conv(const cn_node *n, op_row *r)
{
    const bool dx = n->op == CN_OP_CONV2D_DX;
    const cn_node *x = dx ? n : n->in[0], *y = n->op == CN_OP_CONV2D ? n : n->in[dx ? 0 : 1];
    r->kind = "convolution";
    r->direction = dx ? "data gradient" : y == n ? "forward" : "weight gradient";
    r->type = type_name(y);
    snprintf(r->shape, sizeof r->shape, "%dx%d%s %lldx%lld of %lldx%lldx%lld", n->kernel_h,
             n->kernel_w, n->stride > 1 ? " /2" : "", (long long)cn_channels(x),
             (long long)cn_channels(y), (long long)y->shape[0], (long long)y->shape[1],
             (long long)y->shape[2]);
}

static void name_linear(const cn_node *n, op_row *r)
{
    const bool dx = n->op == CN_OP_LINEAR_DX;
    const cn_node *x = dx ? n : n->in[0], *y = n->op == CN_OP_LINEAR ? n : n->in[dx ? 0 : 1];
    r->kind = "product";
    r->direction = dx ? "data gradient" : y == n ? "forward" : "weight gradient";
    r->type = type_name(y);
    snprintf(r->shape, sizeof r->shape, "%lldx%lld of %lld", (long long)cn_channels(x),
             (long long)cn_channels(y), (long long)(cn_node_elements(x) / cn_channels(x)));
}

static void name_attention(const cn_node *n, op_row *r)
{
    const bool grad = n->op == CN_OP_ATTENTION_GRAD;
    const cn_node *q = n->in[grad ? 1 : 0], *k = n->in[grad ? 2 : 1];
    r->kind = "attention";
    r->direction = !grad ? "forward" : n->aux[0] ? "gradient" : "queries' grad.";
    r->type = type_name(q);
    snprintf(r->shape, sizeof r->shape, "%lldx%lld by %lld, %d heads of %lld",
             (long long)q->shape[0], (long long)q->shape[1], (long long)k->shape[1], n->heads,
             (long long)(cn_channels(q) / n->heads));
}

static size_t bytes_of(const cn_node *x)
{
    if (!x) return 0;
    return cn_dtype_size(x->op == CN_OP_PARAM ? x->param->dtype : x->dtype, cn_node_elements(x));
}

/* What a step reads and writes, each once. */
static double traffic_of(const cn_step *st)
{
    const cn_node *n = st->node;
    size_t bytes = st->out_bytes + bytes_of(st->residual) + bytes_of(st->shift);
    for (int i = 0; i < n->n_in; i++) bytes += bytes_of(n->in[i]);
    for (int i = 0; i < CN_MAX_AUX; i++) bytes += bytes_of(n->aux[i]);
    return (double)bytes;
}

static const char *kept_in(const cn_node *n)
{
    const cn_node *w = n->n_in > 1 ? n->in[1] : NULL;
    if (!w || w->op != CN_OP_PARAM || w->param->dtype == n->in[0]->dtype) return NULL;
    return cn_dtype_name(w->param->dtype);
}

/* False for a step that this table leaves out. */
static bool name_step(const cn_step *st, op_row *r)
{
    *r = (op_row){.flops = st->flops,
                  .bytes = traffic_of(st),
                  .sums = st->residual || st->shift,
                  .kept = kept_in(st->node)};
    switch (st->node->op) {
    case CN_OP_CONV2D:
    case CN_OP_CONV2D_DX:
    case CN_OP_CONV2D_DW: name_conv(st->node, r); break;
    case CN_OP_LINEAR:
    case CN_OP_LINEAR_DX:
    case CN_OP_LINEAR_DW: name_linear(st->node, r); break;
    case CN_OP_ATTENTION:
    case CN_OP_ATTENTION_GRAD: name_attention(st->node, r); return true;
    default: return false;
    }
    return st->flops >= least_flops;
}

static bool same_row(const op_row *a, const op_row *b)
{
    return !strcmp(a->kind, b->kind) && !strcmp(a->direction, b->direction) &&
           !strcmp(a->shape, b->shape) && !strcmp(a->type, b->type) && a->sums == b->sums &&
           !strcmp(a->kept ? a->kept : "", b->kept ? b->kept : "");
}

/* --- one step's time -------------------------------------------------------------------------- */

/* Memory for node x, filled; NULL node: none. *s keeps the first failure. */
static void *operand(bench *b, const cn_node *x, cn_status *s)
{
    if (!x || *s != CN_OK) return NULL;
    const cn_dtype type = x->op == CN_OP_PARAM ? x->param->dtype : x->dtype;
    const size_t each = cn_dtype_bytes(type);
    int64_t n = cn_node_elements(x);
    if (x->op == CN_OP_PARAM && x->param->data_bytes) n = cn_param_physical(x->param);
    float *noise = cn_alloc_array(b->ctx, (size_t)n, sizeof *noise);
    void *out = each == sizeof(float) ? noise : cn_alloc_array(b->ctx, (size_t)n, each);
    if (!noise || !out) {
        *s = CN_ENOMEM;
        cn_free(noise == out ? NULL : out);
        cn_free(noise);
        return NULL;
    }
    cn_seed_tensor(x->name, 0, 0.1f, noise, n);
    if (out != noise) {
        cn_from_f32(type, noise, out, (size_t)n);
        cn_free(noise);
    }
    return out;
}

static void *room(bench *b, size_t bytes, cn_status *s)
{
    void *p = *s == CN_OK ? cn_alloc0(b->ctx, CN_MAX(bytes, (size_t)64)) : NULL;
    if (!p) *s = CN_ENOMEM;
    return p;
}

/* The step with memory of its own, which drop_memory() frees, whatever this returns. */
static cn_status take_memory(bench *b, const cn_step *prepared, cn_step *st)
{
    const cn_node *n = prepared->node;
    cn_status s = CN_OK;
    *st = *prepared;
    for (int i = 0; i < CN_MAX_INPUTS; i++)
        st->in[i] = i < n->n_in ? operand(b, n->in[i], &s) : NULL;
    st->residual_data = operand(b, st->residual, &s);
    st->shift_data = operand(b, st->shift, &s);
    st->out = room(b, st->out_bytes, &s);
    st->scratch = room(b, st->scratch_bytes, &s);
    for (int i = 0; i < CN_MAX_AUX; i++)
        st->aux[i] =
            n->aux[i] ? room(b, (size_t)cn_node_elements(n->aux[i]) * sizeof(float), &s) : NULL;
    return s;
}

static void drop_memory(cn_step *st)
{
    for (int i = 0; i < CN_MAX_INPUTS; i++) cn_free((void *)(uintptr_t)st->in[i]);
    for (int i = 0; i < CN_MAX_AUX; i++) cn_free(st->aux[i]);
    cn_free((void *)(uintptr_t)st->residual_data);
    cn_free((void *)(uintptr_t)st->shift_data);
    cn_free(st->out);
    cn_free(st->scratch);
}

/* Runs st until `least` seconds have passed, at least once; *best keeps the fastest run of all
 * calls. */
static cn_status run_for(bench *b, const cn_step *st, double least, double *best)
{
    for (double all = 0; all == 0 || all < least;) {
        const double begun = cn_now_s();
        CN_TRY(b->backend->run(b->backend, b->ctx, st));
        const double took = cn_now_s() - begun;
        if (!(*best > 0) || took < *best) *best = took;
        all += took;
    }
    return CN_OK;
}

/* Seconds of a pass over w->memory, where it is the fastest yet. */
static void pass_memory(const ops_work *w, double *best)
{
    const double begun = cn_now_s();
    double squares;
    (void)w->b->backend->sum_squares(w->b->backend, w->b->ctx, &(cn_floats){w->memory, MEMORY}, 1,
                                     &squares);
    const double took = cn_now_s() - begun;
    if (!(*best > 0) || took < *best) *best = took;
}

/* In turn with the square product and memory; one run is done before and not counted. */
static cn_status time_step(ops_work *w, const cn_step *prepared, op_row *r)
{
    cn_step st;
    double square = 0, memory = 0;
    cn_status s = take_memory(w->b, prepared, &st);
    if (s == CN_OK) s = w->b->backend->run(w->b->backend, w->b->ctx, &st);
    for (int i = 0; s == CN_OK && i < CN_MAX(ROUNDS, w->b->runs); i++) {
        s = run_for(w->b, &w->square, 0, &square);
        pass_memory(w, &memory);
        if (s == CN_OK) s = run_for(w->b, &st, round_seconds, &r->seconds);
    }
    if (s == CN_OK) r->square = w->square.flops / square;
    if (s == CN_OK) r->memory = MEMORY * sizeof *w->memory / memory;
    drop_memory(&st);
    return s;
}

/* Whether --only's text is in the row's words. */
static bool wanted(const bench *b, const op_row *r)
{
    char words[3 * NAME_BYTES];
    snprintf(words, sizeof words, "%s %s %s", r->kind, r->direction, r->shape);
    return !b->only || strstr(words, b->only);
}

static cn_status add_step(ops_work *w, const cn_step *st, int network)
{
    op_row r;
    if (!name_step(st, &r) || !wanted(w->b, &r)) return CN_OK;
    int at = 0;
    while (at < w->n && !same_row(&w->rows[at], &r)) at++;
    if (at == w->n) {
        if (w->n == MAX_OPS) return CN_OK;
        CN_TRY(time_step(w, st, &r));
        w->rows[w->n++] = r;
    }
    w->rows[at].count[network]++;
    return CN_OK;
}

static cn_status add_plan(ops_work *w, const cn_plan *p, int network)
{
    for (int i = 0; i < p->n_steps; i++) CN_TRY(add_step(w, &p->steps[i], network));
    return CN_OK;
}

/* --- the networks ----------------------------------------------------------------------------- */

static cn_status add_steps_of(ops_work *w, bool gradients, int network)
{
    bench *b = w->b;
    cn_params *unet = NULL, *control = NULL;
    cn_stepgraph *g = NULL;
    cn_status s = cn_net_params(b->ctx, CN_NET_UNET, &unet);
    if (s == CN_OK) s = cn_net_params(b->ctx, CN_NET_CONTROL, &control);
    if (s == CN_OK) {
        cn_params_set_trainable(control, gradients);
        bench_types(b, unet);
        bench_types(b, control);
        const cn_stepgraph_options o = {.batch = b->batch,
                                        .width = b->px,
                                        .height = b->px,
                                        .latent_w = b->px / 8,
                                        .latent_h = b->px / 8,
                                        .tokens = 77,
                                        .control = true,
                                        .gradients = gradients};
        const cn_draw_control net = {
            .kind = &cn_control_kind_net, .config = &b->control, .params = control};
        s = cn_stepgraph_create(b->ctx, b->backend, &b->base.unet, unet, &net, &o, &g);
    }
    if (s == CN_OK) s = add_plan(w, g->plan, network);
    cn_stepgraph_destroy(g);
    cn_params_destroy(unet);
    cn_params_destroy(control);
    return s;
}

static cn_status add_decoder(ops_work *w)
{
    bench *b = w->b;
    cn_params *vae = NULL;
    cn_graph *g = NULL;
    cn_plan *p = NULL;
    cn_status s = cn_net_params(b->ctx, CN_NET_VAE, &vae);
    if (s == CN_OK) s = cn_graph_create(b->ctx, &g);
    if (s == CN_OK) {
        bench_types(b, vae);
        cn_node *z = cn_input4(g, "z", 1, b->px / 8, b->px / 8, b->base.vae.latent_channels);
        cn_graph_use(g, vae);
        cn_node *y = cn_vae_decode_build(g, &b->base.vae, z);
        s = cn_plan_create(b->ctx, g, b->backend, &y, 1, false, &p);
    }
    if (s == CN_OK) s = add_plan(w, p, 1);
    cn_plan_destroy(p);
    cn_graph_destroy(g);
    cn_params_destroy(vae);
    return s;
}

/* What runs beside the steps: a large product in the type of the run, weights stored in it, and
 * memory. */
static cn_status make_measures(ops_work *w)
{
    const bench *b = w->b;
    CN_TRY(cn_params_create(b->ctx, "square", &w->params));
    CN_TRY(cn_graph_create(b->ctx, &w->graph));
    cn_params_set_compute(w->params, b->dtype);
    cn_params_set_storage(w->params, b->dtype);
    cn_graph_use(w->graph, w->params);
    cn_node *x = cn_input(w->graph, "x", CN_F32, 2, (int64_t[]){SQUARE, SQUARE}, false);
    cn_node *y = cn_linear(w->graph, "w", cn_compute(w->graph, x), SQUARE, false);
    CN_TRY(cn_plan_create(b->ctx, w->graph, b->backend, &y, 1, false, &w->plan));
    int at = 0;
    while (w->plan->steps[at].node->op != CN_OP_LINEAR) at++;
    if (!(w->memory = cn_alloc0(w->b->ctx, MEMORY * sizeof *w->memory))) return CN_ENOMEM;
    return take_memory(w->b, &w->plan->steps[at], &w->square);
}

/* --- the table -------------------------------------------------------------------------------- */

static double share_of(const op_row *r)
{
    return r->flops / r->seconds / r->square;
}

static double share_of_roof(const op_row *r)
{
    return CN_MAX(r->flops / r->square, r->bytes / r->memory) / r->seconds;
}

static void print_json(const ops_work *w, const op_row *r)
{
    const bench *b = w->b;
    printf("{\"work\": \"ops\", \"op\": \"%s\", \"direction\": \"%s\", \"shape\": \"%s\", "
           "\"sums\": %s, \"dtype\": \"%s\", \"weights\": \"%s\", \"px\": %lld, \"batch\": %lld, "
           "\"threads\": %d",
           r->kind, r->direction, r->shape, r->sums ? "true" : "false", r->type,
           r->kept ? r->kept : r->type, (long long)b->px, (long long)b->batch, cn_threads(b->ctx));
    for (int i = 0; i < NETWORKS; i++)
        printf(", \"count_%s\": %lld", networks[i], (long long)r->count[i]);
    printf(", \"seconds_min\": %.6f, \"gflops\": %.1f, \"square_gflops\": %.1f, "
           "\"share\": %.3f, \"bytes\": %.0f, \"memory_gbytes\": %.1f, \"share_of_roof\": %.3f}\n",
           r->seconds, r->flops / r->seconds / 1e9, r->square / 1e9, share_of(r), r->bytes,
           r->memory / 1e9, share_of_roof(r));
}

static void print_row(const op_row *r)
{
    printf("%-11s %-15s %-34s %-4s %-4s %4lld %6lld %5lld %9.2f %9.1f %6.2f %6.2f\n", r->kind,
           r->direction, r->shape, r->sums ? "+sum" : "", r->kept ? r->kept : "",
           (long long)r->count[0], (long long)r->count[1], (long long)r->count[2], r->seconds * 1e3,
           r->flops / r->seconds / 1e9, share_of(r), share_of_roof(r));
}

/* Per network: time in these steps, their rate, and the part of the work at 0.8 of the square
 * product or more. */
static void print_sum(const ops_work *w, int network, bool table)
{
    double seconds = 0, flops = 0, fast = 0, at_square = 0;
    for (int i = 0; i < w->n; i++) {
        const op_row *r = &w->rows[i];
        const double n = (double)r->count[network];
        if (strcmp(r->kind, "attention") == 0) continue;
        seconds += n * r->seconds;
        flops += n * r->flops;
        at_square += n * r->flops / r->square;
        if (share_of(r) >= 0.8) fast += n * r->flops;
    }
    if (!(seconds > 0)) return;
    const char *format =
        table ? "%-7s convolutions and products: %.3f s, %.1f GFLOP/s, %.2f of the square product; "
                "%.0f%% of the work at 0.8 or more\n"
              : "{\"work\": \"ops sum\", \"network\": \"%s\", \"seconds\": %.4f, \"gflops\": %.1f, "
                "\"share\": %.3f, \"percent_at_0.8\": %.0f}\n";
    printf(format, networks[network], seconds, flops / seconds / 1e9, at_square / seconds,
           100 * fast / flops);
}

static void print_all(const ops_work *w)
{
    const bool table = w->b->table || isatty(STDOUT_FILENO);
    double square = 0, memory = 0;
    for (int i = 0; i < w->n; i++) {
        square = CN_MAX(square, w->rows[i].square);
        memory = CN_MAX(memory, w->rows[i].memory);
    }
    if (table)
        printf("%s, %lld px, batch %lld, %d threads; at best: a square product of %d %.1f GFLOP/s, "
               "reading "
               "memory %.1f GB/s\n"
               "%-11s %-15s %-34s %-4s %-4s %4s %6s %5s %9s %9s %6s %6s\n",
               w->b->dtype == CN_BF16 ? "bf16" : "f32", (long long)w->b->px, (long long)w->b->batch,
               cn_threads(w->b->ctx), SQUARE, square / 1e9, memory / 1e9, "operation", "direction",
               "inputs x outputs of positions", "", "kept", "draw", "decode", "train", "ms",
               "GFLOP/s", "share", "roof");
    for (int i = 0; i < w->n; i++) {
        if (table)
            print_row(&w->rows[i]);
        else
            print_json(w, &w->rows[i]);
    }
    for (int i = 0; i < NETWORKS; i++) print_sum(w, i, table);
}

cn_status bench_ops(bench *b)
{
    ops_work w = {.b = b, .rows = cn_alloc_array(b->ctx, MAX_OPS, sizeof(op_row))};
    cn_status s = w.rows ? make_measures(&w) : CN_ENOMEM;
    if (s == CN_OK) s = add_steps_of(&w, false, 0);
    if (s == CN_OK) s = add_decoder(&w);
    if (s == CN_OK) s = add_steps_of(&w, true, 2);
    if (s == CN_OK) print_all(&w);
    if (w.square.node) drop_memory(&w.square);
    cn_plan_destroy(w.plan);
    cn_graph_destroy(w.graph);
    cn_params_destroy(w.params);
    cn_free(w.memory);
    cn_free(w.rows);
    return s;
}
