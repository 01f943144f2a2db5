/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer.c - AdamW: moments, global-norm clipping, sums over several backward passes and several
 * processes.
 *
 * With ranks, gradient i is summed into its owner, who alone has the moments; the owners' squares
 * add up to the norm, everyone's clipping is the same, and updated weights are copied from their
 * owners to all.
 */
#include "train/optimizer_internal.h"

#include <math.h>
#include <string.h>

/* Parameters with fewer elements keep F32 moments under use_8bit: bitsandbytes' min_8bit_size. */
enum { LEAST_8BIT = 4096 };

void cn_adamw_options_default(cn_adamw_options *o)
{
    *o = (cn_adamw_options){.beta1 = 0.9f,
                            .beta2 = 0.999f,
                            .eps = 1e-8f,
                            .weight_decay = 1e-2f,
                            .muon_momentum = CN_MUON_MOMENTUM};
}

bool cn_moment_in_bytes(const cn_adamw_options *o, const cn_param *q)
{
    return o->use_8bit && cn_param_elements(q) >= LEAST_8BIT && !cn_muon_learns(o, q);
}

/* The backend's memory, each byte of it `value`; NULL without. */
static void *filled(cn_ctx *ctx, cn_backend *be, size_t bytes, int value)
{
    void *out = be->alloc(be, ctx, bytes);
    if (!out || be->addressable) return out ? memset(out, value, bytes) : NULL;
    void *from = cn_alloc(ctx, bytes);
    const bool done = from && be->write(be, ctx, out, memset(from, value, bytes), bytes) == CN_OK;
    cn_free(from);
    if (done) return out;
    be->free(be, out, bytes);
    return NULL;
}

static cn_status moment_create(cn_ctx *ctx, cn_backend *be, const cn_quant8 *map, const cn_param *q,
                               cn_moment *out)
{
    if (!map) {
        out->f32 = filled(ctx, be, (size_t)cn_param_physical(q) * sizeof(float), 0);
        return out->f32 ? CN_OK : CN_ENOMEM;
    }
    out->map = map;
    out->codes = filled(ctx, be, cn_moment_code_bytes(q), map->zero);
    out->scales = filled(ctx, be, cn_moment_blocks(q) * sizeof(float), 0);
    return out->codes && out->scales ? CN_OK : CN_ENOMEM;
}

static void moment_free(cn_backend *be, const cn_param *q, cn_moment *m)
{
    if (m->f32) be->free(be, m->f32, (size_t)cn_param_physical(q) * sizeof(float));
    if (m->codes) be->free(be, m->codes, cn_moment_code_bytes(q));
    if (m->scales) be->free(be, m->scales, cn_moment_blocks(q) * sizeof(float));
}

static int owner_of(const cn_adamw_options *o, const cn_param *q)
{
    if (!o->ranks) return 0;
    const uint64_t hash = cn_hash64(q->diffusers_name, strlen(q->diffusers_name));
    return (int)((hash >> 17) % (uint64_t)cn_ranks_count(o->ranks));
}

/* Both moments of parameter i at zero, its mean at the weights. */
static cn_status begin_state(cn_adamw *a, int64_t i)
{
    const cn_param *q = a->params[i];
    const bool bytes = cn_moment_in_bytes(&a->o, q);
    CN_TRY(moment_create(a->ctx, a->be, bytes ? &a->map[0] : NULL, q, &a->m[i]));
    if (!cn_muon_learns(&a->o, q))
        CN_TRY(moment_create(a->ctx, a->be, bytes ? &a->map[1] : NULL, q, &a->v[i]));
    if (!a->ema) return CN_OK;
    CN_TRY(moment_create(a->ctx, a->be, NULL, q, &a->ema[i]));
    return a->be->copy(a->be, a->ctx, a->ema[i].f32, q->data, q->data_bytes);
}

static void moment_take(cn_moment *to, cn_moment *from, const cn_quant8 *map)
{
    *to = *from;
    if (to->map) to->map = map; /* stands in its own optimizer */
    *from = (cn_moment){0};
}

/* Takes over what `from` has of parameter i; false: nothing. */
static bool take_over_moments(cn_adamw *a, int64_t i, cn_adamw *from)
{
    int64_t k = 0;
    while (from && k < from->n && from->params[k] != a->params[i]) k++;
    if (!from || k == from->n) return false;
    a->steps_of[i] = from->steps_of[k];
    moment_take(&a->m[i], &from->m[k], &a->map[0]);
    moment_take(&a->v[i], &from->v[k], &a->map[1]);
    if (a->ema) moment_take(&a->ema[i], &from->ema[k], NULL);
    return true;
}

static cn_status create_arrays(cn_adamw *a, cn_ctx *ctx)
{
    const size_t count = (size_t)CN_MAX(a->n, 1);
    a->params = cn_alloc0(ctx, count * sizeof *a->params);
    a->steps_of = cn_alloc0(ctx, count * sizeof *a->steps_of);
    a->m = cn_alloc0(ctx, count * sizeof *a->m);
    a->v = cn_alloc0(ctx, count * sizeof *a->v);
    a->sum = cn_alloc0(ctx, count * sizeof *a->sum);
    a->has_sum = cn_alloc0(ctx, count * sizeof *a->has_sum);
    a->taken = cn_alloc0(ctx, count * sizeof *a->taken);
    a->owner = cn_alloc0(ctx, count * sizeof *a->owner);
    a->staged = cn_alloc0(ctx, count * sizeof *a->staged);
    a->squared = cn_alloc0(ctx, count * sizeof *a->squared);
    if (a->o.ema_decay > 0 && !(a->ema = cn_alloc0(ctx, count * sizeof *a->ema))) return CN_ENOMEM;
    return a->params && a->steps_of && a->m && a->v && a->sum && a->has_sum && a->taken &&
                   a->owner && a->staged && a->squared
               ? CN_OK
               : CN_ENOMEM;
}

cn_status cn_adamw_continue(cn_ctx *ctx, cn_backend *be, cn_param *const *params, int64_t n,
                            const cn_adamw_options *options, cn_adamw *from, cn_adamw **out)
{
    cn_adamw *a = cn_alloc0(ctx, sizeof *a);
    if (!a) return CN_ENOMEM;
    a->ctx = ctx;
    a->be = be;
    a->o = *options;
    a->loss_scale = 1;
    a->n = n;
    if (from) a->steps = from->steps;
    cn_status s = create_arrays(a, ctx);
    cn_quant8_init(&a->map[0], true);
    cn_quant8_init(&a->map[1], false);
    for (int64_t i = 0; i < n && s == CN_OK; i++) {
        a->params[i] = params[i];
        a->owner[i] = owner_of(options, params[i]);
        if (!take_over_moments(a, i, from) && cn_adamw_owns(a, i)) s = begin_state(a, i);
    }
    if (s == CN_OK) s = cn_muon_allocate(a);
    if (s != CN_OK) {
        cn_adamw_destroy(a);
        return s;
    }
    *out = a;
    return CN_OK;
}

cn_status cn_adamw_create(cn_ctx *ctx, cn_backend *be, cn_param *const *params, int64_t n,
                          const cn_adamw_options *options, cn_adamw **out)
{
    return cn_adamw_continue(ctx, be, params, n, options, NULL, out);
}

void cn_adamw_destroy(cn_adamw *a)
{
    if (!a) return;
    for (int64_t i = 0; i < a->n; i++) {
        const cn_param *q = a->params ? a->params[i] : NULL; /* no moments without */
        if (a->m) moment_free(a->be, q, &a->m[i]);
        if (a->v) moment_free(a->be, q, &a->v[i]);
        if (a->ema) moment_free(a->be, q, &a->ema[i]);
        if (a->sum && a->sum[i]) a->be->free(a->be, a->sum[i], q->data_bytes);
        if (a->staged) cn_free(a->staged[i]);
    }
    cn_muon_free(a);
    cn_free(a->params);
    cn_free(a->steps_of);
    cn_free(a->m);
    cn_free(a->v);
    cn_free(a->ema);
    cn_free(a->sum);
    cn_free(a->has_sum);
    cn_free(a->taken);
    cn_free(a->owner);
    cn_free(a->staged);
    cn_free(a->squared);
    cn_free(a);
}

int64_t cn_adamw_steps(const cn_adamw *a)
{
    return a->steps;
}

int64_t cn_adamw_passes(const cn_adamw *a)
{
    return a->summed;
}

/* --- what ranks exchange ---------------------------------------------------------------------- */

/* Where the host has parameter i's values x, which may be the backend's alone: x, or a copy that is
 * as yet empty. */
static cn_status stage(cn_adamw *a, int64_t i, float *x, float **out)
{
    *out = x;
    if (a->be->addressable) return CN_OK;
    if (!a->staged[i] && !(a->staged[i] = cn_alloc(a->ctx, a->params[i]->data_bytes)))
        return CN_ENOMEM;
    *out = a->staged[i];
    return CN_OK;
}

static cn_status to_host(cn_adamw *a, int64_t i, float *x, float **out)
{
    CN_TRY(stage(a, i, x, out));
    return *out == x ? CN_OK : a->be->read(a->be, a->ctx, *out, x, a->params[i]->data_bytes);
}

static cn_status from_host(cn_adamw *a, int64_t i, float *x)
{
    if (a->be->addressable || !a->o.ranks) return CN_OK;
    return a->be->write(a->be, a->ctx, x, a->staged[i], a->params[i]->data_bytes);
}

/* Everyone gets the owners' weights. */
static cn_status copy_weights(cn_adamw *a)
{
    if (!a->o.ranks) return CN_OK;
    for (int64_t i = 0; i < a->n; i++) {
        cn_param *q = a->params[i];
        float *x;
        CN_TRY(cn_adamw_owns(a, i) ? to_host(a, i, q->data, &x) : stage(a, i, q->data, &x));
        CN_TRY(cn_ranks_begin_copy(a->o.ranks, x, q->data_bytes, a->owner[i]));
    }
    CN_TRY(cn_ranks_finish(a->o.ranks));
    for (int64_t i = 0; i < a->n; i++)
        if (!cn_adamw_owns(a, i)) CN_TRY(from_host(a, i, a->params[i]->data));
    return CN_OK;
}

cn_status cn_adamw_swap_ema(cn_adamw *a)
{
    for (int64_t i = 0; a->ema && i < a->n; i++) {
        if (!cn_adamw_owns(a, i)) continue;
        CN_TRY(a->be->exchange(a->be, a->ctx, a->params[i]->data, a->ema[i].f32,
                               cn_param_physical(a->params[i])));
    }
    return a->ema ? copy_weights(a) : CN_OK;
}

size_t cn_adamw_bytes(cn_param *const *params, int64_t n, const cn_adamw_options *options)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        if (options->accumulates) bytes += params[i]->data_bytes;
        if (owner_of(options, params[i]) != cn_ranks_rank(options->ranks)) continue;
        const size_t elements = (size_t)cn_param_physical(params[i]);
        const size_t scales = cn_moment_blocks(params[i]) * sizeof(float);
        const size_t moments = cn_muon_learns(options, params[i]) ? 1 : 2;
        bytes += moments * (cn_moment_in_bytes(options, params[i]) ? elements + scales
                                                                   : elements * sizeof(float));
        if (options->ema_decay > 0) bytes += params[i]->data_bytes;
    }
    return bytes;
}

static cn_status add_gradient(cn_adamw *a, int64_t i, const float *grad)
{
    const cn_param *q = a->params[i];
    cn_backend *be = a->be;
    if (!grad) return CN_OK;
    if (!a->sum[i] && !(a->sum[i] = be->alloc(be, a->ctx, q->data_bytes))) return CN_ENOMEM;
    CN_TRY(a->has_sum[i] ? be->accumulate(be, a->ctx, a->sum[i], grad, cn_param_physical(q))
                         : be->copy(be, a->ctx, a->sum[i], grad, q->data_bytes));
    a->has_sum[i] = true;
    return CN_OK;
}

cn_status cn_adamw_accumulate(cn_adamw *a, const float *const *grads)
{
    for (int64_t i = 0; i < a->n; i++) CN_TRY(add_gradient(a, i, grads[i]));
    a->summed++;
    return CN_OK;
}

cn_status cn_adamw_take(cn_adamw *a, int64_t i, const float *grad)
{
    if (a->taken[i]) return CN_OK;
    if (a->summed) CN_TRY(add_gradient(a, i, grad));
    a->taken[i] = true;
    /* without earlier passes the ranks' sum goes where the step has left its part: nobody reads
     * that again */
    float *x = a->summed ? (a->has_sum[i] ? a->sum[i] : NULL) : (float *)(uintptr_t)grad;
    if (!x || !a->o.ranks) return CN_OK;
    CN_TRY(to_host(a, i, x, &x));
    return cn_ranks_begin_sum(a->o.ranks, x, cn_param_physical(a->params[i]), a->owner[i]);
}

/* The gradient that counts for parameter i, NULL for none. */
static const float *gradient(const cn_adamw *a, const float *const *grads, int64_t i)
{
    if (a->summed) return a->has_sum[i] ? a->sum[i] : NULL;
    return grads[i];
}

/* The ranks' sums are back where they came from. */
static cn_status finish_sums(cn_adamw *a, const float *const *grads)
{
    CN_TRY(cn_ranks_finish(a->o.ranks));
    for (int64_t i = 0; a->o.ranks && i < a->n; i++) {
        const float *x = cn_adamw_owns(a, i) ? gradient(a, grads, i) : NULL;
        if (x) CN_TRY(from_host(a, i, (float *)(uintptr_t)x));
    }
    return CN_OK;
}

static cn_status update(cn_adamw *a, int64_t i, const float *grad, double scale, double lr)
{
    const double t = (double)++a->steps_of[i];
    const char *slow = a->o.slow_network;
    if (slow && strcmp(a->params[i]->network, slow) == 0) lr *= a->o.slow_part;
    if (cn_muon_learns(&a->o, a->params[i])) return cn_muon_update(a, i, grad, lr);
    return a->be->adamw(a->be, a->ctx,
                        &(cn_adamw_step){
                            .weights = a->params[i]->data,
                            .m = a->m[i],
                            .v = a->v[i],
                            .grad = grad,
                            .n = cn_param_physical(a->params[i]),
                            .grad_scale = (float)scale,
                            .lr = (float)lr,
                            .beta1 = a->o.beta1,
                            .beta2 = a->o.beta2,
                            .eps = a->o.eps,
                            .decay = a->o.weight_decay,
                            .correct1 = (float)(1 - pow((double)a->o.beta1, t)),
                            .correct2 = (float)(1 - pow((double)a->o.beta2, t)),
                        });
}

/* From the first step on the mean is the weights', then follows them ever more slowly. */
static cn_status update_ema(cn_adamw *a)
{
    const double n = (double)(a->steps - 1);
    const float keep = n > 0 ? (float)fmin((1 + n) / (10 + n), (double)a->o.ema_decay) : 0;
    for (int64_t i = 0; a->ema && i < a->n; i++)
        if (cn_adamw_owns(a, i))
            CN_TRY(a->be->average(a->be, a->ctx, a->ema[i].f32, a->params[i]->data, keep,
                                  cn_param_physical(a->params[i])));
    return CN_OK;
}

/* Of all gradients together, before they are scaled. */
static cn_status sum_squares(cn_adamw *a, const float *const *grads, double *out)
{
    double squares = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const float *g = cn_adamw_owns(a, i) ? gradient(a, grads, i) : NULL;
        if (g) a->squared[n++] = (cn_floats){g, cn_param_physical(a->params[i])};
    }
    CN_TRY(a->be->sum_squares(a->be, a->ctx, a->squared, n, &squares));
    CN_TRY(cn_ranks_sum(a->o.ranks, &squares, 1));
    *out = squares;
    return CN_OK;
}

void cn_adamw_set_loss_scale(cn_adamw *a, double scale)
{
    a->loss_scale = scale;
}

void cn_adamw_skip(cn_adamw *a)
{
    for (int64_t i = 0; i < a->n; i++) a->has_sum[i] = a->taken[i] = false;
    a->summed = 0;
}

static cn_status update_all(cn_adamw *a, const float *const *grads, double scale, double lr)
{
    for (int64_t i = 0; i < a->n; i++) {
        const float *g = gradient(a, grads, i);
        if (g && cn_adamw_owns(a, i))
            CN_TRY(update(a, i, g, scale, lr));
        else if (g)
            a->steps_of[i]++;
        a->has_sum[i] = a->taken[i] = false;
    }
    a->summed = 0;
    a->steps++;
    CN_TRY(update_ema(a));
    return copy_weights(a);
}

cn_status cn_adamw_run(cn_adamw *a, const float *const *grads, double lr, double max_grad_norm,
                       double *norm)
{
    double squares = 0;
    double scale = 1 / ((double)((a->summed + 1) * cn_ranks_count(a->o.ranks)) * a->loss_scale);
    for (int64_t i = 0; i < a->n; i++) CN_TRY(cn_adamw_take(a, i, grads[i]));
    CN_TRY(finish_sums(a, grads));
    CN_TRY(sum_squares(a, grads, &squares));
    const double length = sqrt(squares) * scale;
    if (norm) *norm = length;
    if (!isfinite(length))
        return cn_fail(
            a->ctx, CN_EINVAL,
            "training diverged: the gradient's norm is not finite at step %lld; a smaller "
            "learning rate or --max-grad-norm may help",
            (long long)(a->steps + 1));
    /* 1e-6 as clip_grad_norm_ has it */
    if (max_grad_norm > 0 && length > max_grad_norm) scale *= max_grad_norm / (length + 1e-6);
    return update_all(a, grads, scale, lr);
}
