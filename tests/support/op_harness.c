/* SPDX-License-Identifier: Apache-2.0 */
/* op_harness.c - see op_harness.h. Every row gets its own context, backend, graph and plan. On the
 * device that CN_DEVICE names; with CN_PRECISION=f16 products multiply F16 there. */
#include "op_harness.h"
#include "values.h"

#include "device/device.h"
#include "graph/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double FORWARD_TOLERANCE = 1e-5, GRADIENT_TOLERANCE = 1e-4;
/* Of operands that are rounded to F16: each by 2^-11 of itself at most, so a product by 2^-10; four
 * times that, for the largest sum is smaller than that of its terms' sizes. */
static const double HALVES_TOLERANCE = 4e-3;
enum { DIRECTIONS = 2 };

typedef struct op_run {
    const op_family *f;
    const op_case *c;
    cn_ctx *ctx;
    cn_backend *backend;
    bool halves;
    cn_params *params;
    cn_graph *g;
    cn_plan *plan;
    op_operand operands[OP_MAX_OPERANDS + 1], result;
    int n;
    cn_node *x[OP_MAX_OPERANDS];
    cn_param *param[OP_MAX_OPERANDS]; /* NULL at inputs */
    double *value[OP_MAX_OPERANDS];
    cn_node *y, *target, *loss;
    double *want, *goal, *work;
    int64_t elements; /* of the result */
    double slope;     /* norm of d loss / d result */
    char *message;
    size_t size;
} op_run;

static int64_t elements_of(const op_operand *o)
{
    int64_t n = 1;
    for (int i = 0; i < o->ndim; i++) n *= o->shape[i];
    return n;
}

static bool complain(op_run *r, const char *fmt, ...) CN_PRINTF(2, 3);
static bool complain(op_run *r, const char *fmt, ...)
{
    op_case_name(r->f, r->c, r->message, r->size);
    size_t n = strlen(r->message);
    snprintf(r->message + n, r->size - n, ": ");
    n += strlen(r->message + n);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->message + n, r->size - n, fmt, ap);
    va_end(ap);
    return false;
}

static bool checked(op_run *r, cn_status s)
{
    return s == CN_OK || complain(r, "%s: %s", cn_status_name(s), cn_error(r->ctx));
}

void op_case_name(const op_family *f, const op_case *c, char *out, size_t size)
{
    const struct {
        const char *name;
        double value;
    } parts[] = {
        {"N", (double)c->N},       {"H", (double)c->H},       {"W", (double)c->W},
        {"C", (double)c->C},       {"O", (double)c->O},       {"L", (double)c->L},
        {"M", (double)c->M},       {"D", (double)c->D},       {"kernel", c->kernel},
        {"kernel_w", c->kernel_w}, {"dilation", c->dilation}, {"stride", c->stride},
        {"top", c->pad[0]},        {"left", c->pad[1]},       {"bottom", c->pad[2]},
        {"right", c->pad[3]},      {"heads", c->heads},       {"groups", c->groups},
        {"causal", c->causal},     {"bias", c->bias},         {"ndim", c->ndim},
        {"act", c->act},           {"alpha", c->alpha},       {"offset", c->offset},
        {"spread", c->spread},
    };
    size_t n = 0;
    n += (size_t)snprintf(out, size, "%s", f->name);
    for (size_t i = 0; i < CN_COUNT(parts); i++)
        if (parts[i].value != 0 && n < size)
            n += (size_t)snprintf(out + n, size - n, " %s=%g", parts[i].name, parts[i].value);
}

/* --- the graph -------------------------------------------------------------------------------- */

static void operand_node(op_run *r, int i)
{
    const op_operand *o = &r->operands[i];
    char name[32];
    snprintf(name, sizeof name, "x%d", i);
    if (o->role == OP_INPUT)
        r->x[i] = cn_input(r->g, name, o->below ? CN_I32 : CN_F32, o->ndim, o->shape, false);
    else if (o->role == OP_TENSOR) {
        r->x[i] = cn_param_node(r->g, name, o->ndim, o->shape, CN_INIT_FAN_IN, 1);
        r->param[i] = cn_params_find(r->params, name);
    }
}

static void build_once(op_run *r)
{
    cn_graph_use(r->g, r->params);
    for (int i = 0; i < r->n; i++) operand_node(r, i);
    r->y = r->f->build(r->g, r->c, r->x);
    r->target = cn_input(r->g, "target", CN_F32, r->result.ndim, r->result.shape, false);
    r->loss = cn_loss_node(r->g, CN_LOSS_MSE, r->y, r->target);
}

static bool find_layers(op_run *r)
{
    for (int i = 0; i < r->n; i++) {
        const op_operand *o = &r->operands[i];
        if (o->role != OP_LAYER && o->role != OP_LOCKED) continue;
        char name[64];
        snprintf(name, sizeof name, "op.%s", o->name);
        if (!(r->param[i] = cn_params_find(r->params, name)))
            return complain(r, "the builder declared no parameter %s", name);
        if (cn_param_elements(r->param[i]) != elements_of(o))
            return complain(r, "%s has %lld elements, not %lld", name,
                            (long long)cn_param_elements(r->param[i]), (long long)elements_of(o));
    }
    return true;
}

/* Parameters exist once declared; built again they are trainable from the start. */
static bool build(op_run *r)
{
    if (!checked(r, cn_params_create(r->ctx, "op", &r->params))) return false;
    if (!checked(r, cn_graph_create(r->ctx, &r->g))) return false;
    build_once(r);
    if (!checked(r, cn_graph_status(r->g)) || !find_layers(r)) return false;
    cn_graph_destroy(r->g);
    r->g = NULL;
    cn_params_set_trainable(r->params, true);
    for (int i = 0; i < r->n; i++)
        if (r->operands[i].role == OP_LOCKED) r->param[i]->trainable = false;
    if (!checked(r, cn_graph_create(r->ctx, &r->g))) return false;
    build_once(r);
    if (!checked(r, cn_graph_status(r->g))) return false;
    bool same = r->y->ndim == r->result.ndim;
    for (int i = 0; same && i < r->y->ndim; i++) same = r->y->shape[i] == r->result.shape[i];
    if (!same) return complain(r, "the result's shape is wrong");
    r->elements = cn_node_elements(r->y);
    return r->loss->needs_grad ? checked(r, cn_graph_backward(r->g, r->loss)) : true;
}

/* --- values ----------------------------------------------------------------------------------- */

static void make_values(op_run *r)
{
    for (int i = 0; i < r->n; i++) {
        const op_operand *o = &r->operands[i];
        char key[32];
        snprintf(key, sizeof key, "operand.%d", i);
        int64_t n = elements_of(o);
        r->value[i] = test_values(key, o->offset, o->scale, n);
        for (int64_t k = 0; o->below && k < n; k++) /* scale is 1: (u + 1) / 2 in [0,1) */
            r->value[i][k] = floor((r->value[i][k] + 1) / 2 * (double)o->below);
    }
    r->goal = test_values("target", 0, 1, r->elements);
    r->want = test_alloc((size_t)r->elements * sizeof *r->want);
    r->work = test_alloc((size_t)r->elements * sizeof *r->work);
    r->f->naive(r->c, r->value, r->want);
    for (int64_t k = 0; k < r->elements; k++)
        r->slope += (r->want[k] - r->goal[k]) * (r->want[k] - r->goal[k]);
    r->slope = 2 * sqrt(r->slope) / (double)r->elements;
}

static bool put_operand(op_run *r, int i)
{
    int64_t n = elements_of(&r->operands[i]);
    float *f = test_alloc((size_t)n * sizeof *f);
    int32_t *ids = test_alloc((size_t)n * sizeof *ids);
    for (int64_t k = 0; k < n; k++) {
        f[k] = (float)r->value[i][k];
        ids[k] = r->operands[i].below ? (int32_t)r->value[i][k] : 0;
    }
    cn_status s = r->param[i]            ? cn_param_set(r->backend, r->ctx, r->param[i], f)
                  : r->operands[i].below ? cn_plan_set(r->plan, r->x[i], ids)
                                         : cn_plan_set(r->plan, r->x[i], f);
    free(f);
    free(ids);
    return checked(r, s);
}

static bool put_values(op_run *r)
{
    for (int i = 0; i < r->n; i++)
        if (!put_operand(r, i)) return false;
    float *f = test_alloc((size_t)r->elements * sizeof *f);
    for (int64_t k = 0; k < r->elements; k++) f[k] = (float)r->goal[k];
    cn_status s = cn_plan_set(r->plan, r->target, f);
    free(f);
    return checked(r, s);
}

/* --- checks ----------------------------------------------------------------------------------- */

static bool check_forward(op_run *r)
{
    test_error e = test_compare(cn_plan_data(r->plan, r->y), r->want, r->elements);
    if (test_relative(e) <= (r->halves ? HALVES_TOLERANCE : FORWARD_TOLERANCE)) return true;
    return complain(r, "forward: element %lld differs by %.3g, largest value %.3g (%.3g relative)",
                    (long long)e.at, e.max_err, e.max_want, test_relative(e));
}

static double naive_loss(op_run *r)
{
    r->f->naive(r->c, r->value, r->work);
    double sum = 0;
    for (int64_t k = 0; k < r->elements; k++)
        sum += (r->work[k] - r->goal[k]) * (r->work[k] - r->goal[k]);
    return sum / (double)r->elements;
}

/* d loss / d operand i along `direction`, by central difference. */
static double difference(op_run *r, int i, const double *direction)
{
    int64_t n = elements_of(&r->operands[i]);
    double *keep = r->value[i], *moved = test_alloc((size_t)n * sizeof *moved);
    double h = 1e-5, loss[2];
    r->value[i] = moved;
    for (int side = 0; side < 2; side++) {
        for (int64_t k = 0; k < n; k++) moved[k] = keep[k] + (side ? h : -h) * direction[k];
        loss[side] = naive_loss(r);
    }
    r->value[i] = keep;
    free(moved);
    return (loss[1] - loss[0]) / (2 * h);
}

static bool check_operand(op_run *r, int i, const float *gradient)
{
    int64_t n = elements_of(&r->operands[i]);
    double norm = 0;
    for (int64_t k = 0; k < n; k++) norm += (double)gradient[k] * (double)gradient[k];
    norm = sqrt(norm);
    for (int d = 0; d < DIRECTIONS; d++) {
        char key[32];
        snprintf(key, sizeof key, "direction.%d.%d", i, d);
        double *direction = test_values(key, 0, 1, n), along = 0;
        for (int64_t k = 0; k < n; k++) along += (double)gradient[k] * direction[k];
        double want = difference(r, i, direction);
        free(direction);
        /* a gradient that is zero by algebra still carries the rounding of what flows into it */
        double err = fabs(along - want), scale = fmax(fmax(fabs(want), norm), 1e-2 * r->slope);
        if (!(err <= (r->halves ? HALVES_TOLERANCE : GRADIENT_TOLERANCE) * scale))
            return complain(r,
                            "gradient of operand %d: %.9g along direction %d, should be %.9g "
                            "(gradient's norm %.3g)",
                            i, along, d, want, norm);
    }
    return true;
}

static bool check_gradients(op_run *r)
{
    for (int i = 0; i < r->n; i++) {
        if (!r->param[i] || !r->param[i]->trainable) continue;
        const cn_node *dx = cn_param_grad(r->g, r->param[i]);
        if (!dx) return complain(r, "operand %d has no gradient", i);
        const float *physical = cn_plan_address(r->plan, dx);
        if (!physical) return complain(r, "the plan keeps no gradient of operand %d", i);
        float *plain = test_alloc((size_t)elements_of(&r->operands[i]) * sizeof *plain);
        bool ok = checked(
            r, r->backend->to_plain(r->backend, r->ctx, r->param[i], CN_F32, physical, plain));
        ok = ok && check_operand(r, i, plain);
        free(plain);
        if (!ok) return false;
    }
    return true;
}

static bool set_precision(op_run *r)
{
    const char *p = getenv("CN_PRECISION");
    r->halves = p && strcmp(p, "f16") == 0;
    return !r->halves || r->backend->multiply_in(r->backend, CN_F16) ||
           complain(r, "the device doesn't multiply F16");
}

/* Runs twice: what a run leaves behind must not change the next one. */
static bool run_all(op_run *r)
{
    if (!build(r)) return false;
    make_values(r);
    cn_node *outputs[] = {r->y, r->loss};
    if (!checked(r, cn_plan_create(r->ctx, r->g, r->backend, outputs, 2, true, &r->plan)))
        return false;
    if (!put_values(r)) return false;
    for (int k = 0; k < 2; k++)
        if (!checked(r, cn_plan_run(r->plan)) || !check_forward(r) || !check_gradients(r))
            return false;
    return true;
}

bool op_case_run(const op_family *f, const op_case *c, char *message, size_t size)
{
    op_run r = {.f = f, .c = c, .message = message, .size = size};
    f->describe(c, r.operands, &r.result);
    while (r.n < OP_MAX_OPERANDS && r.operands[r.n].role != OP_END) r.n++;
    r.ctx = cn_ctx_create(2);
    bool ok = r.ctx != NULL &&
              checked(&r, cn_backend_create(r.ctx, getenv("CN_DEVICE"), &r.backend)) &&
              set_precision(&r) && run_all(&r);
    cn_plan_destroy(r.plan);
    cn_graph_destroy(r.g);
    cn_params_destroy(r.params);
    if (r.backend) r.backend->destroy(r.backend);
    cn_ctx_destroy(r.ctx);
    for (int i = 0; i < r.n; i++) free(r.value[i]);
    free(r.goal);
    free(r.want);
    free(r.work);
    return ok;
}
