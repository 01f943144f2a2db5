/* SPDX-License-Identifier: Apache-2.0 */
/* plan_debug.c - looking into a running plan: traces, dumps, and the search for the first value
 * that isn't finite. docs/debugging.md is for whoever uses it.
 *
 * A node is called NETWORK.NAME: the label of its parameter set, then its scope in either published
 * layout.
 */
#include "graph/graph_internal.h"
#include "graph/plan_run.h"

#include <fnmatch.h>
#include <math.h>
#include <string.h>

enum { FULL_NAME_BYTES = 64 + CN_NAME_MAX + 2 };

static const char *network_of(const cn_node *y)
{
    return y->set ? cn_params_label(y->set) : "";
}

/* "unet.input_blocks.0.0"; either part may be empty. */
static void full_name(const cn_node *y, const char *name, char out[FULL_NAME_BYTES])
{
    const char *network = network_of(y);
    snprintf(out, FULL_NAME_BYTES, "%s%s%s", network, *network && *name ? "." : "", name);
}

/* --- traces ----------------------------------------------------------------------------------- */

static void add_shape(cn_str *s, const cn_node *y)
{
    for (int i = 0; i < y->ndim; i++)
        cn_str_addf(s, "%s%lld", i ? "x" : "", (long long)y->shape[i]);
}

void cn_plan_trace(const cn_plan *p, const cn_step *st, double seconds)
{
    const cn_node *y = st->node;
    char name[FULL_NAME_BYTES];
    cn_str shape = {0};
    add_shape(&shape, y);
    full_name(y, y->name, name);
    cn_log(p->ctx, CN_LOG_INFO, "%5d %-16s %-18s %8.3f ms  %s", (int)(st - p->steps),
           cn_op_name(y->op), shape.data ? shape.data : "", seconds * 1e3, name);
    cn_str_free(&shape);
}

/* --- dumps ------------------------------------------------------------------------------------ */

/* With or without the network, in either layout: the name that the pattern matches; NULL: none. */
static const char *matching_name(const char *pattern, const cn_node *y)
{
    const char *const names[] = {y->name, y->diffusers_name};
    char full[FULL_NAME_BYTES];
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        full_name(y, names[i], full);
        if (!fnmatch(pattern, full, 0) || (*names[i] && !fnmatch(pattern, names[i], 0)))
            return names[i];
    }
    return NULL;
}

bool cn_plan_dumps(const cn_plan *p, const cn_node *y)
{
    return matching_name(p->debug.dump, y) != NULL;
}

/* How many steps before this one have results of the same name and operation. */
static int earlier_namesakes(const cn_plan *p, const cn_step *st)
{
    const cn_node *y = st->result;
    int n = 0;
    for (const cn_step *o = p->steps; o < st; o++)
        n +=
            o->result->op == y->op && o->result->set == y->set && !strcmp(o->result->name, y->name);
    return n;
}

/* Letters that don't belong into a file's name become '_': annotators' networks have titles. */
static void make_file_name(char *name)
{
    for (; *name; name++)
        if (strchr("/ ()", *name)) *name = '_';
}

static cn_status dump_path(const cn_plan *p, const cn_step *st, char *out, size_t cap)
{
    const cn_node *y = st->result;
    const int before = earlier_namesakes(p, st);
    char name[FULL_NAME_BYTES], number[16] = "";
    full_name(y, matching_name(p->debug.dump, y), name);
    if (before) snprintf(number, sizeof number, "-%d", before + 1);
    CN_TRY(cn_format(p->ctx, out, cap, "%s%s%s%s.%lld.npy", name, *name ? "." : "",
                     cn_op_name(y->op), number, (long long)p->runs));
    make_file_name(out);
    return CN_OK;
}

/* An .npy header of version 1: padded with blanks so that the values begin at a multiple of 64. */
static void add_npy_header(cn_str *s, const cn_node *y)
{
    cn_str head = {0};
    cn_str_adds(&head, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < y->ndim; i++) cn_str_addf(&head, "%lld,", (long long)y->shape[i]);
    cn_str_adds(&head, "), }");
    const size_t padded = (10 + head.len + 1 + 63) / 64 * 64;
    const uint16_t bytes = (uint16_t)(padded - 10);
    cn_str_add(s, "\x93NUMPY\x01\x00", 8);
    cn_str_add(s, (const char *)&bytes, 2);
    cn_str_add(s, head.data ? head.data : "", head.len);
    while (!s->failed && s->len < padded - 1) cn_str_add(s, " ", 1);
    cn_str_add(s, "\n", 1);
    s->failed = s->failed || head.failed;
    cn_str_free(&head);
}

cn_status cn_plan_dump(const cn_plan *p, const cn_step *st)
{
    const cn_node *y = st->result;
    char path[512];
    cn_str s = {0};
    CN_TRY(dump_path(p, st, path, sizeof path));
    float values[256];
    const size_t all = (size_t)cn_node_elements(y), bytes = cn_dtype_bytes(y->dtype);
    void *held;
    const void *from;
    CN_TRY(cn_plan_host_look(p, y, st->out, &held, &from));
    add_npy_header(&s, y);
    for (size_t at = 0; at < all && !s.failed; at += CN_COUNT(values)) {
        const size_t count = CN_MIN(CN_COUNT(values), all - at);
        cn_to_f32(y->dtype, (const char *)from + at * bytes, values, count);
        cn_str_add(&s, (const char *)values, count * sizeof *values);
    }
    cn_free(held);
    const cn_status status = s.failed ? cn_fail(p->ctx, CN_ENOMEM, "out of memory for the dump")
                                      : cn_file_write(p->ctx, path, s.data, s.len);
    cn_str_free(&s);
    return status;
}

/* --- values that aren't finite ---------------------------------------------------------------- */

/* "NaN at [0,3,5,1] of 1x8x8x4": element `at` of y, whose values are at `data`. */
static void describe_value(cn_str *s, const cn_node *y, const void *data, int64_t at)
{
    float v;
    int64_t index[CN_MAX_DIMS], rest = at;
    cn_to_f32(y->dtype, (const char *)data + at * (int64_t)cn_dtype_bytes(y->dtype), &v, 1);
    cn_str_adds(s, isnan(v) ? "NaN at [" : v > 0 ? "Inf at [" : "-Inf at [");
    for (int i = y->ndim - 1; i >= 0; rest /= y->shape[i--]) index[i] = rest % y->shape[i];
    for (int i = 0; i < y->ndim; i++) cn_str_addf(s, "%s%lld", i ? "," : "", (long long)index[i]);
    cn_str_adds(s, "] of ");
    add_shape(s, y);
}

/* "FILE: network: ", as far as there are such. */
static void add_network(cn_str *s, const cn_node *y)
{
    const char *path = y->set ? cn_params_path(y->set) : NULL;
    if (path) cn_str_addf(s, "%s: ", path);
    if (y->set) cn_str_addf(s, "%s: ", cn_params_label(y->set));
}

/* As the network's file spells it. */
static const char *name_of(const cn_node *y)
{
    return y->set && cn_params_diffusers_names(y->set) ? y->diffusers_name : y->name;
}

static cn_status fail_with(const cn_plan *p, cn_str *s)
{
    const cn_status status = s->failed ? CN_ENOMEM : CN_EFORMAT;
    cn_fail(p->ctx, status, "%s", s->failed ? "out of memory" : s->data);
    cn_str_free(s);
    return status;
}

/* Of the values at address `from`; what: "gave", of a result; "is given", of an input. */
static cn_status check(const cn_plan *p, const cn_node *y, const void *from, const char *what)
{
    cn_str s = {0};
    void *held;
    const void *data;
    CN_TRY(cn_plan_host_look(p, y, from, &held, &data));
    const int64_t at = cn_first_nonfinite(y->dtype, data, (size_t)cn_node_elements(y));
    if (at < 0) {
        cn_free(held);
        return CN_OK;
    }
    add_network(&s, y);
    cn_str_addf(&s, "node %s (%s) %s ", name_of(y), cn_op_name(y->op), what);
    describe_value(&s, y, data, at);
    cn_free(held);
    cn_str_addf(&s, " at step %lld", (long long)p->runs);
    return fail_with(p, &s);
}

cn_status cn_plan_check_step(const cn_plan *p, const cn_step *st)
{
    return check(p, st->result, st->out, "gave");
}

cn_status cn_plan_check_inputs(const cn_plan *p)
{
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *x = cn_graph_node(p->g, id);
        if (p->needed[id] && x->op == CN_OP_INPUT)
            CN_TRY(check(p, x, p->arena + p->buffers[cn_plan_buffer(p, x)].offset, "is given"));
    }
    return CN_OK;
}

static cn_status check_param(const cn_plan *p, const cn_node *w)
{
    char name[CN_NAME_MAX];
    const cn_param *q = w->param;
    const size_t n = (size_t)cn_param_elements(q);
    float *values = cn_alloc_array(p->ctx, n, sizeof *values);
    cn_status status = values ? cn_param_get(p->backend, p->ctx, q, values) : CN_ENOMEM;
    const int64_t at = status == CN_OK ? cn_first_nonfinite(CN_F32, values, n) : -1;
    if (at >= 0) {
        cn_str s = {0};
        cn_params_name_in_file(w->set, q, name);
        add_network(&s, w);
        cn_str_addf(&s, "the weight %s has ", name);
        describe_value(&s, w, values, at);
        if (cn_params_path(w->set))
            cn_str_adds(&s, "; the file is damaged, or its training diverged");
        status = fail_with(p, &s);
    }
    cn_free(values);
    return status;
}

cn_status cn_plan_check_params(const cn_plan *p, bool only_locked)
{
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *w = cn_graph_node(p->g, id);
        if (p->needed[id] && w->op == CN_OP_PARAM && !(only_locked && w->param->trainable))
            CN_TRY(check_param(p, w));
    }
    return CN_OK;
}

/* Inputs keep their values from run to run, so the same values come again. */
static cn_status run_checked(cn_plan *p)
{
    const cn_plan kept = *p;
    p->debug = (cn_debug){.check = true};
    p->watch = NULL;
    p->dirty = true;
    p->runs = CN_MAX(kept.runs - 1, 0);
    const cn_status s = cn_plan_run(p);
    p->debug = kept.debug;
    p->watch = kept.watch;
    p->runs = kept.runs;
    if (s != CN_EFORMAT) return s;
    return cn_fail(p->ctx, s, "%s, though all weights are finite", cn_error(p->ctx));
}

cn_status cn_plan_blame(cn_plan *p, bool only_locked)
{
    CN_TRY(cn_plan_check_params(p, only_locked));
    return only_locked ? CN_OK : run_checked(p);
}

cn_status cn_plan_expect_finite(cn_plan *p, const cn_node *y)
{
    const void *data = cn_plan_data(p, y);
    if (!data || cn_first_nonfinite(y->dtype, data, (size_t)cn_node_elements(y)) < 0) return CN_OK;
    CN_TRY(cn_plan_blame(p, false));
    return cn_fail(p->ctx, CN_EFORMAT, "%s: node %s (%s) gave a value that isn't finite",
                   network_of(y), y->name, cn_op_name(y->op));
}
