/* optimizer.c - AdamW: moments, global-norm clipping, sums over several backward passes. */
#include "train/optimizer.h"

#include "io/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cn_adamw {
    cn_ctx *ctx;
    cn_backend *be;
    cn_adamw_options o;
    int64_t n, steps, summed; /* summed: backward passes in `sum` */
    cn_param **params;
    int64_t *steps_of;     /* of each parameter: one without gradient waits, as in torch */
    float **m, **v, **sum; /* sum[i] NULL until something was accumulated */
    bool *has_sum;
};

void cn_adamw_options_default(cn_adamw_options *o)
{
    *o = (cn_adamw_options){.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 1e-2f};
}

cn_status cn_adamw_create(cn_ctx *ctx, cn_backend *be, cn_param *const *params, int64_t n,
                          const cn_adamw_options *options, cn_adamw **out)
{
    cn_adamw *a = cn_alloc0(ctx, sizeof *a);
    if (!a) return CN_ENOMEM;
    const size_t count = (size_t)CN_MAX(n, 1);
    a->ctx = ctx;
    a->be = be;
    a->o = *options;
    a->n = n;
    a->params = cn_alloc0(ctx, count * sizeof *a->params);
    a->steps_of = cn_alloc0(ctx, count * sizeof *a->steps_of);
    a->m = cn_alloc0(ctx, count * sizeof *a->m);
    a->v = cn_alloc0(ctx, count * sizeof *a->v);
    a->sum = cn_alloc0(ctx, count * sizeof *a->sum);
    a->has_sum = cn_alloc0(ctx, count * sizeof *a->has_sum);
    if (!a->params || !a->steps_of || !a->m || !a->v || !a->sum || !a->has_sum) goto fail;
    for (int64_t i = 0; i < n; i++) {
        a->params[i] = params[i];
        a->m[i] = cn_alloc0(ctx, params[i]->data_bytes);
        a->v[i] = cn_alloc0(ctx, params[i]->data_bytes);
        if (!a->m[i] || !a->v[i]) goto fail;
    }
    *out = a;
    return CN_OK;
fail:
    cn_adamw_destroy(a);
    return CN_ENOMEM;
}

void cn_adamw_destroy(cn_adamw *a)
{
    if (!a) return;
    for (int64_t i = 0; i < a->n; i++) {
        if (a->m) cn_free(a->m[i]);
        if (a->v) cn_free(a->v[i]);
        if (a->sum) cn_free(a->sum[i]);
    }
    cn_free(a->params);
    cn_free(a->steps_of);
    cn_free(a->m);
    cn_free(a->v);
    cn_free(a->sum);
    cn_free(a->has_sum);
    cn_free(a);
}

int64_t cn_adamw_steps(const cn_adamw *a)
{
    return a->steps;
}

size_t cn_adamw_bytes(const cn_adamw *a)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < a->n; i++) bytes += (a->sum[i] ? 3 : 2) * a->params[i]->data_bytes;
    return bytes;
}

static cn_status add_gradients(cn_adamw *a, const float *const *grads)
{
    for (int64_t i = 0; i < a->n; i++) {
        if (!grads[i]) continue;
        const cn_param *q = a->params[i];
        if (!a->sum[i] && !(a->sum[i] = cn_alloc(a->ctx, q->data_bytes))) return CN_ENOMEM;
        if (a->has_sum[i])
            a->be->accumulate(a->be, a->sum[i], grads[i], cn_param_physical(q));
        else
            memcpy(a->sum[i], grads[i], q->data_bytes);
        a->has_sum[i] = true;
    }
    return CN_OK;
}

cn_status cn_adamw_accumulate(cn_adamw *a, const float *const *grads)
{
    CN_TRY(add_gradients(a, grads));
    a->summed++;
    return CN_OK;
}

/* The gradient that counts for parameter i, NULL for none. */
static const float *gradient(const cn_adamw *a, const float *const *grads, int64_t i)
{
    if (a->summed) return a->has_sum[i] ? a->sum[i] : NULL;
    return grads[i];
}

static void update(cn_adamw *a, int64_t i, const float *grad, double scale, double lr)
{
    const double t = (double)++a->steps_of[i];
    a->be->adamw(a->be, &(cn_adamw_step){
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

cn_status cn_adamw_run(cn_adamw *a, const float *const *grads, double lr, double max_grad_norm,
                       double *norm)
{
    double scale = 1;
    if (a->summed) {
        CN_TRY(add_gradients(a, grads));
        scale = 1 / (double)(a->summed + 1);
    }
    double squares = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const float *g = gradient(a, grads, i);
        if (g) squares += a->be->sum_squares(a->be, g, cn_param_physical(a->params[i]));
    }
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
    for (int64_t i = 0; i < a->n; i++) {
        const float *g = gradient(a, grads, i);
        if (g) update(a, i, g, scale, lr);
        a->has_sum[i] = false;
    }
    a->summed = 0;
    a->steps++;
    return CN_OK;
}

/* --- the state on disk -------------------------------------------------------------------------- */

enum { STATE_NAME_BYTES = CN_NAME_MAX + 8 };

static cn_status fill_state(void *user, int64_t i, float *out)
{
    const cn_adamw *a = user;
    const float *from = i < a->n ? a->m[i] : a->v[i - a->n];
    return a->be->to_plain(a->be, a->ctx, a->params[i % a->n], CN_F32, from, out);
}

/* The steps that each parameter has taken, one number per parameter: they differ when parts join later. */
static char *steps_text(const cn_adamw *a)
{
    cn_str s = {0};
    cn_str_addf(&s, "%lld", (long long)a->steps);
    for (int64_t i = 0; i < a->n; i++) cn_str_addf(&s, " %lld", (long long)a->steps_of[i]);
    if (!s.failed) return s.data;
    cn_str_free(&s);
    return NULL;
}

cn_status cn_adamw_save_with(cn_ctx *ctx, const cn_adamw *a, const char *path)
{
    cn_status s = CN_ENOMEM;
    char(*names)[STATE_NAME_BYTES] = cn_alloc_array(ctx, 2 * (size_t)a->n + 1, sizeof *names);
    cn_tensor_out *list = cn_alloc_array(ctx, 2 * (size_t)a->n + 1, sizeof *list);
    char *steps = steps_text(a);
    if (!names || !list || !steps) goto fail;
    for (int64_t i = 0; i < 2 * a->n; i++) {
        const cn_param *q = a->params[i % a->n];
        s = cn_format(ctx, names[i], sizeof names[i], "%c.%s", i < a->n ? 'm' : 'v',
                      q->diffusers_name);
        if (s != CN_OK) goto fail;
        list[i] = (cn_tensor_out){.name = names[i], .dtype = CN_F32, .ndim = q->ndim};
        memcpy(list[i].shape, q->shape, (size_t)q->ndim * sizeof *q->shape);
    }
    s = cn_safetensors_write(ctx, path, list, 2 * a->n, fill_state, (void *)(uintptr_t)a,
                             (const char *const[]){"steps", steps, NULL});
fail:
    cn_free(names);
    cn_free(list);
    cn_free(steps);
    return s;
}

cn_status cn_adamw_save(const cn_adamw *a, const char *path)
{
    return cn_adamw_save_with(a->ctx, a, path);
}

static cn_status parse_steps(cn_adamw *a, const char *text)
{
    for (int64_t i = -1; i < a->n; i++) {
        char *end = NULL;
        const long long value = text ? strtoll(text, &end, 10) : 0;
        if (!text || end == text || value < 0)
            return cn_fail(a->ctx, CN_EFORMAT, "the optimizer's step counts are missing");
        *(i < 0 ? &a->steps : &a->steps_of[i]) = value;
        text = end;
    }
    return CN_OK;
}

static cn_status load_moment(cn_adamw *a, const cn_tensors *t, char kind, int64_t i, float *plain)
{
    const cn_param *q = a->params[i];
    char name[STATE_NAME_BYTES];
    CN_TRY(cn_format(a->ctx, name, sizeof name, "%c.%s", kind, q->diffusers_name));
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!info || info->elements != cn_param_elements(q))
        return cn_fail(a->ctx, CN_EMISMATCH, "%s %s; the checkpoint is of another network", name,
                       info ? "has another size" : "is missing");
    CN_TRY(cn_tensors_read(a->ctx, t, info, plain));
    return a->be->from_plain(a->be, a->ctx, q, plain, CN_F32, kind == 'm' ? a->m[i] : a->v[i]);
}

cn_status cn_adamw_load(cn_adamw *a, const char *path)
{
    cn_tensors *t = NULL;
    int64_t most = 1;
    for (int64_t i = 0; i < a->n; i++) most = CN_MAX(most, cn_param_elements(a->params[i]));
    float *plain = cn_alloc_array(a->ctx, (size_t)most, sizeof *plain);
    if (!plain) return CN_ENOMEM;
    cn_status s = cn_tensors_open(a->ctx, path, &t);
    if (s != CN_OK) goto fail;
    s = parse_steps(a, cn_tensors_metadata(t, "steps"));
    for (int64_t i = 0; i < a->n && s == CN_OK; i++) {
        s = load_moment(a, t, 'm', i, plain);
        if (s == CN_OK) s = load_moment(a, t, 'v', i, plain);
    }
    if (s != CN_OK) s = cn_fail_prefix(a->ctx, s, "%s", path);
fail:
    cn_tensors_close(t);
    cn_free(plain);
    return s;
}
