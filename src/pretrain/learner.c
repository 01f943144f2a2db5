/* SPDX-License-Identifier: Apache-2.0 */
/* learner.c - see learner.h. */
#include "pretrain/learner.h"

#include "base/dtype.h"
#include "io/tensors.h"

#include <math.h>
#include <string.h>

enum { SLOTS = 2, PATH_BYTES = CN_PATH_BYTES + 204 };

static cn_status collect(cn_learner *l, cn_graph *g, cn_params *const *sets, int n_sets)
{
    int64_t cap = 0;
    for (int k = 0; k < n_sets; k++) cap += cn_params_count(sets[k]);
    const size_t n = (size_t)CN_MAX(cap, 1);
    l->params = cn_alloc_array(l->ctx, n, sizeof *l->params);
    l->grads = cn_alloc_array(l->ctx, n, sizeof *l->grads);
    if (!l->params || !l->grads) return CN_ENOMEM;
    for (int k = 0; k < n_sets; k++)
        for (int64_t i = 0; i < cn_params_count(sets[k]); i++) {
            cn_param *q = cn_params_at(sets[k], i);
            const cn_node *d = q->trainable ? cn_param_grad(g, q) : NULL;
            if (!d) continue;
            l->params[l->n] = q;
            l->grads[l->n++] = cn_plan_address(l->plan, d);
        }
    return CN_OK;
}

cn_status cn_learner_create(cn_ctx *ctx, cn_backend *be, cn_graph *g, cn_plan *plan,
                            cn_params *const *sets, int n_sets, const cn_learner_options *o,
                            cn_learner **out)
{
    cn_status s = CN_ENOMEM;
    cn_learner *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->ctx = ctx;
    l->be = be;
    l->plan = plan;
    l->o = *o;
    l->saved_s = cn_now_s();
    if (!(l->save_ctx = cn_ctx_create(cn_threads(ctx)))) goto fail;
    if ((s = collect(l, g, sets, n_sets)) != CN_OK) goto fail;
    cn_adamw_options a;
    cn_adamw_options_default(&a);
    a.weight_decay = (float)o->weight_decay;
    a.beta2 = o->beta2;
    a.muon = o->muon;
    a.ema_decay = (float)o->ema;
    a.accumulates = o->passes > 1;
    if ((s = cn_adamw_create(ctx, be, l->params, l->n, &a, &l->adamw)) != CN_OK) goto fail;
    *out = l;
    return CN_OK;
fail:
    cn_learner_destroy(l);
    return s;
}

void cn_learner_destroy(cn_learner *l)
{
    if (!l) return;
    cn_free(l->params);
    cn_free(l->grads);
    cn_adamw_destroy(l->adamw);
    cn_ctx_destroy(l->save_ctx);
    cn_free(l);
}

double cn_learner_rate(const cn_learner_options *o, int64_t step)
{
    const double pi = 3.14159265358979, least = 0.01;
    const double t = (double)step, warm = (double)CN_MAX(o->warmup_steps, 1);
    const double decay = CN_MAX(o->decay_part * (double)o->steps, 1.0);
    const double part = CN_MIN(1.0, CN_MAX(0.0, 1 - ((double)o->steps - t) / decay));
    return o->lr * CN_MIN((t + 1) / warm, 1.0) * (least + (1 - least) * 0.5 * (1 + cos(pi * part)));
}

int64_t cn_learner_passes(const cn_learner *l)
{
    return cn_adamw_passes(l->adamw);
}

cn_status cn_learner_add_pass(cn_learner *l)
{
    return cn_adamw_accumulate(l->adamw, l->grads);
}

cn_status cn_learner_step(cn_learner *l, double *grad_norm)
{
    CN_TRY(cn_adamw_run(l->adamw, l->grads, cn_learner_rate(&l->o, l->step), l->o.max_grad_norm,
                        grad_norm));
    l->step++;
    return CN_OK;
}

cn_status cn_learner_swap_ema(cn_learner *l)
{
    return cn_adamw_swap_ema(l->adamw);
}

/* --- state ------------------------------------------------------------------------------------ */

static cn_status slot_path(cn_ctx *ctx, const char *dir, const char *name, int slot,
                           const char *what, char out[PATH_BYTES])
{
    return cn_format(ctx, out, PATH_BYTES, "%s/%s.%d%s.safetensors", dir, name, slot, what);
}

static cn_status read_weight(void *user, int64_t i, float *out)
{
    cn_learner *l = user;
    const cn_param *q = l->params[i];
    return l->be->to_plain(l->be, l->save_ctx, q, CN_F32, q->data, out);
}

static cn_status save_weights(cn_learner *l, const char *path)
{
    const size_t n = (size_t)CN_MAX(l->n, 1);
    char step[32];
    cn_tensor_out *list = cn_alloc0(l->save_ctx, n * sizeof *list);
    char(*names)[CN_NAME_MAX + 64] = cn_alloc_array(l->save_ctx, n, sizeof *names);
    cn_status s = list && names ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < l->n; i++) {
        const cn_param *q = l->params[i];
        snprintf(names[i], sizeof names[i], "%s.%s", q->network, q->diffusers_name);
        list[i] = (cn_tensor_out){.name = names[i], .dtype = CN_F32, .ndim = q->ndim};
        for (int d = 0; d < q->ndim; d++) list[i].shape[d] = q->shape[d];
    }
    snprintf(step, sizeof step, "%lld", (long long)l->step);
    if (s == CN_OK)
        s = cn_safetensors_write(l->save_ctx, path, list, l->n, read_weight, l,
                                 (const char *const[]){"step", step, NULL});
    cn_free(list);
    cn_free(names);
    return s;
}

/* Moments first: the newest weights are those of a whole slot, wherever a kill comes. */
static cn_status save(cn_learner *l, const char *dir, const char *name)
{
    char path[PATH_BYTES];
    CN_TRY(slot_path(l->save_ctx, dir, name, l->slot, ".adamw", path));
    CN_TRY(cn_adamw_save_with(l->save_ctx, l->adamw, path, NULL));
    CN_TRY(slot_path(l->save_ctx, dir, name, l->slot, "", path));
    return save_weights(l, path);
}

cn_status cn_learner_save(cn_learner *l, const char *dir, const char *name)
{
    const cn_status s = save(l, dir, name);
    if (s != CN_OK) return cn_fail(l->ctx, s, "%s", cn_error(l->save_ctx));
    l->slot = (l->slot + 1) % SLOTS;
    l->saved_s = cn_now_s();
    return CN_OK;
}

double cn_learner_unsaved_s(const cn_learner *l)
{
    return cn_now_s() - l->saved_s;
}

cn_status cn_learner_stop(cn_learner *l, const char *dir, const char *name)
{
    CN_TRY(cn_learner_save(l, dir, name));
    return cn_fail(l->ctx, CN_ECANCELLED, "stopped after step %lld; the same command goes on",
                   (long long)l->step);
}

static cn_status load_weight(cn_learner *l, const cn_tensors *t, cn_param *q)
{
    char name[CN_NAME_MAX + 64];
    snprintf(name, sizeof name, "%s.%s", q->network, q->diffusers_name);
    const cn_tensor_info *info = cn_tensors_find(t, name);
    bool fits = info && info->ndim == q->ndim;
    for (int d = 0; fits && d < q->ndim; d++) fits = info->shape[d] == q->shape[d];
    if (!fits)
        return cn_fail(l->ctx, CN_EMISMATCH,
                       "the saved state has no fitting %s: the options that give sizes must be "
                       "those that it was begun with",
                       name);
    float *plain = cn_alloc_array(l->ctx, (size_t)cn_param_elements(q), sizeof *plain);
    if (!plain) return CN_ENOMEM;
    cn_status s = cn_tensors_read(l->ctx, t, info, plain);
    if (s == CN_OK) s = l->be->from_plain(l->be, l->ctx, q, CN_F32, plain, CN_F32, q->data);
    cn_free(plain);
    return s;
}

/* The step of a slot's weights; -1 where there are none. */
static cn_status step_of(cn_ctx *ctx, const char *path, int64_t *step)
{
    cn_tensors *t = NULL;
    long long at = -1;
    *step = -1;
    if (!cn_file_exists(path)) return CN_OK;
    CN_TRY(cn_tensors_open(ctx, path, &t));
    const char *text = cn_tensors_metadata(t, "step");
    const bool known = text && sscanf(text, "%lld", &at) == 1;
    cn_tensors_close(t);
    if (!known) return cn_fail(ctx, CN_EFORMAT, "%s: the step is missing", path);
    *step = at;
    return CN_OK;
}

static cn_status load_slot(cn_learner *l, const char *dir, const char *name, int slot)
{
    char path[PATH_BYTES];
    cn_tensors *t = NULL;
    CN_TRY(slot_path(l->ctx, dir, name, slot, "", path));
    CN_TRY(step_of(l->ctx, path, &l->step));
    CN_TRY(cn_tensors_open(l->ctx, path, &t));
    cn_status s = CN_OK;
    for (int64_t i = 0; s == CN_OK && i < l->n; i++) s = load_weight(l, t, l->params[i]);
    cn_tensors_close(t);
    if (s == CN_OK) s = slot_path(l->ctx, dir, name, slot, ".adamw", path);
    if (s == CN_OK) s = cn_adamw_load(l->adamw, path);
    return s;
}

cn_status cn_learner_load(cn_learner *l, const char *dir, const char *name, bool *found)
{
    int64_t step[SLOTS];
    *found = false;
    for (int k = 0; k < SLOTS; k++) {
        char path[PATH_BYTES];
        CN_TRY(slot_path(l->ctx, dir, name, k, "", path));
        CN_TRY(step_of(l->ctx, path, &step[k]));
    }
    const int newest = step[1] > step[0];
    if (step[newest] < 0) return CN_OK;
    CN_TRY(load_slot(l, dir, name, newest));
    if (cn_adamw_steps(l->adamw) != l->step)
        return cn_fail(l->ctx, CN_EFORMAT, "%s/%s.%d.*: weights of step %lld, moments of step %lld",
                       dir, name, newest, (long long)l->step, (long long)cn_adamw_steps(l->adamw));
    l->slot = (newest + 1) % SLOTS;
    *found = true;
    return CN_OK;
}
