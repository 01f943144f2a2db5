/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain.c - training a small Stable Diffusion from scenes: sizes, shared loop, stages in
 * turn. */
#include "pretrain/pretrain.h"

#include "base/dtype.h"
#include "cpu/cpu.h"
#include "image/image.h"
#include "model/checkpoint/config_io.h"

#include <math.h>
#include <string.h>
#include <time.h>

void cn_pretrain_options_default(cn_pretrain_options *o)
{
    *o = (cn_pretrain_options){.size_px = 128,
                               .vae_steps = 6000,
                               .unet_steps = 20000,
                               .vae_batch = 8,
                               .unet_batch = 32,
                               .scenes = 24000,
                               .vae_lr = 8e-4,
                               .unet_lr = 8e-4,
                               .seed = 1,
                               .save_steps = 500};
}

void cn_tiny_configs(cn_base *b)
{
    b->vae = (cn_vae_config){.image_channels = 3,
                             .latent_channels = 4,
                             .levels = 4,
                             .channels = {16, 32, 64, 96},
                             .layers_per_block = 1,
                             .norm_groups = 16,
                             .scaling_factor = 1.0f};
    b->clip = (cn_clip_config){.vocabulary = CN_TINY_VOCABULARY,
                               .hidden = 128,
                               .intermediate = 512,
                               .max_positions = 32,
                               .layers = 4,
                               .heads = 2,
                               .act = CN_ACT_QUICK_GELU,
                               .layer_norm_eps = 1e-5f};
    b->unet = (cn_unet_config){.in_channels = 4,
                               .out_channels = 4,
                               .levels = 3,
                               .channels = {96, 128, 160},
                               .attention = {true, true, false},
                               .heads = {4, 4, 4},
                               .layers_per_block = 1,
                               .context_dim = 128,
                               .norm_groups = 32,
                               .sample_size = 16};
    cn_schedule_config_default(&b->schedule);
}

/* --- learner ---------------------------------------------------------------------------------- */

static cn_status learner_arrays(cn_learner *l, cn_graph *g, cn_params *const *sets, int n_sets)
{
    int64_t cap = 0;
    for (int k = 0; k < n_sets; k++) cap += cn_params_count(sets[k]);
    size_t n = (size_t)CN_MAX(cap, 1);
    l->params = cn_alloc_array(l->ctx, n, sizeof *l->params);
    l->grad_nodes = cn_alloc_array(l->ctx, n, sizeof *l->grad_nodes);
    l->grads = cn_alloc_array(l->ctx, n, sizeof *l->grads);
    l->ema = cn_alloc0(l->ctx, n * sizeof *l->ema);
    if (!l->params || !l->grad_nodes || !l->grads || !l->ema) return CN_ENOMEM;
    for (int k = 0; k < n_sets; k++)
        for (int64_t i = 0; i < cn_params_count(sets[k]); i++) {
            cn_param *q = cn_params_at(sets[k], i);
            cn_node *d = q->trainable ? cn_param_grad(g, q) : NULL;
            if (!d) continue;
            l->params[l->n] = q;
            l->grad_nodes[l->n++] = d;
        }
    for (int64_t i = 0; l->o.ema > 0 && i < l->n; i++) {
        if (!(l->ema[i] = cn_alloc(l->ctx, l->params[i]->data_bytes))) return CN_ENOMEM;
        memcpy(l->ema[i], l->params[i]->data, l->params[i]->data_bytes);
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
    l->o = *o;
    if (!(l->save_ctx = cn_ctx_create(cn_threads(ctx)))) goto fail;
    if ((s = learner_arrays(l, g, sets, n_sets)) != CN_OK) goto fail;
    for (int64_t i = 0; i < l->n; i++) l->grads[i] = cn_plan_data(plan, l->grad_nodes[i]);
    cn_adamw_options a;
    cn_adamw_options_default(&a);
    a.weight_decay = (float)o->weight_decay;
    a.beta2 = o->beta2;
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
    for (int64_t i = 0; l->ema && i < l->n; i++) cn_free(l->ema[i]);
    cn_free(l->ema);
    cn_free(l->params);
    cn_free(l->grads);
    cn_free(l->grad_nodes);
    cn_adamw_destroy(l->adamw);
    cn_ctx_destroy(l->save_ctx);
    cn_free(l);
}

/* Linear warm-up, then half a cosine down to 1 % of the rate. */
static double learning_rate(const cn_learner *l)
{
    double t = (double)l->step, warm = (double)CN_MAX(l->o.warmup_steps, 1);
    if (t < warm) return l->o.lr * (t + 1) / warm;
    double part = (t - warm) / CN_MAX((double)l->o.steps - warm, 1.0);
    return l->o.lr * (0.01 + 0.99 * 0.5 * (1 + cos(3.14159265358979 * CN_MIN(part, 1.0))));
}

cn_status cn_learner_step(cn_learner *l, double *grad_norm)
{
    CN_TRY(cn_adamw_run(l->adamw, l->grads, learning_rate(l), 1.0, grad_norm));
    l->step++;
    double ema = CN_MIN(l->o.ema, (1.0 + (double)l->step) / (10.0 + (double)l->step));
    for (int64_t i = 0; l->o.ema > 0 && i < l->n; i++) {
        int64_t n = cn_param_physical(l->params[i]);
        float *e = l->ema[i], keep = (float)ema;
        const float *w = l->params[i]->data;
        for (int64_t k = 0; k < n; k++) e[k] = w[k] + keep * (e[k] - w[k]);
    }
    return CN_OK;
}

void cn_learner_swap_ema(cn_learner *l)
{
    for (int64_t i = 0; l->o.ema > 0 && i < l->n; i++) {
        float *w = l->params[i]->data;
        int64_t n = cn_param_physical(l->params[i]);
        for (int64_t k = 0; k < n; k++) {
            float t = w[k];
            w[k] = l->ema[i][k];
            l->ema[i][k] = t;
        }
    }
}

typedef struct state_reader {
    cn_learner *l;
    bool ema;
} state_reader;

static cn_status read_state(void *user, int64_t i, float *out)
{
    cn_learner *l = user;
    const cn_param *q = l->params[i % l->n];
    return l->be->to_plain(l->be, l->save_ctx, q, CN_F32, i < l->n ? q->data : l->ema[i % l->n],
                           out);
}

static cn_status save(cn_learner *l, const char *dir, const char *name)
{
    char path[4200], step[32];
    int64_t n = l->o.ema > 0 ? 2 * l->n : l->n;
    cn_tensor_out *list = cn_alloc0(l->save_ctx, (size_t)n * sizeof *list);
    char(*names)[CN_NAME_MAX + 16] = cn_alloc_array(l->save_ctx, (size_t)n, sizeof *names);
    cn_status s = list && names ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < n; i++) {
        const cn_param *q = l->params[i % l->n];
        snprintf(names[i], sizeof names[i], "%s.%lld.%s", i < l->n ? "w" : "ema",
                 (long long)(i % l->n), q->diffusers_name);
        list[i] = (cn_tensor_out){.name = names[i], .dtype = CN_F32, .ndim = q->ndim};
        for (int d = 0; d < q->ndim; d++) list[i].shape[d] = q->shape[d];
    }
    snprintf(step, sizeof step, "%lld", (long long)l->step);
    if (s == CN_OK)
        s = cn_format(l->save_ctx, path, sizeof path, "%s/%s.adamw.safetensors", dir, name);
    if (s == CN_OK) s = cn_adamw_save_with(l->save_ctx, l->adamw, path);
    if (s == CN_OK) s = cn_format(l->save_ctx, path, sizeof path, "%s/%s.safetensors", dir, name);
    if (s == CN_OK)
        s = cn_safetensors_write(l->save_ctx, path, list, n, read_state, l,
                                 (const char *const[]){"step", step, NULL});
    cn_free(list);
    cn_free(names);
    return s;
}

cn_status cn_learner_save(cn_learner *l, const char *dir, const char *name)
{
    cn_status s = save(l, dir, name);
    return s == CN_OK ? CN_OK : cn_fail(l->ctx, s, "%s", cn_error(l->save_ctx));
}

cn_status cn_learner_stop(cn_learner *l, const char *dir, const char *name)
{
    CN_TRY(cn_learner_save(l, dir, name));
    return cn_fail(l->ctx, CN_ECANCELLED, "stopped after step %lld; the same command goes on",
                   (long long)l->step);
}

static cn_status load_tensor(cn_learner *l, const cn_tensors *t, const char *kind, int64_t i,
                             float *plain)
{
    char name[CN_NAME_MAX + 16];
    const cn_param *q = l->params[i];
    snprintf(name, sizeof name, "%s.%lld.%s", kind, (long long)i, q->diffusers_name);
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!info || info->elements != cn_param_elements(q))
        return cn_fail(l->ctx, CN_EMISMATCH, "the saved state has no fitting %s", name);
    return cn_tensors_read(l->ctx, t, info, plain);
}

cn_status cn_learner_load(cn_learner *l, const char *dir, const char *name, bool *found)
{
    char path[4200];
    *found = false;
    CN_TRY(cn_format(l->ctx, path, sizeof path, "%s/%s.safetensors", dir, name));
    if (!cn_file_exists(path)) return CN_OK;
    cn_tensors *t = NULL;
    float *plain = NULL;
    cn_status s = cn_tensors_open(l->ctx, path, &t);
    int64_t largest = 1;
    for (int64_t i = 0; i < l->n; i++) largest = CN_MAX(largest, cn_param_elements(l->params[i]));
    if (s == CN_OK && !(plain = cn_alloc_array(l->ctx, (size_t)largest, sizeof *plain)))
        s = CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < l->n; i++) {
        cn_param *q = l->params[i];
        if ((s = load_tensor(l, t, "w", i, plain)) != CN_OK) break;
        if ((s = l->be->from_plain(l->be, l->ctx, q, CN_F32, plain, CN_F32, q->data)) != CN_OK)
            break;
        if (l->o.ema <= 0) continue;
        if ((s = load_tensor(l, t, "ema", i, plain)) != CN_OK) break;
        s = l->be->from_plain(l->be, l->ctx, q, CN_F32, plain, CN_F32, l->ema[i]);
    }
    const char *step = s == CN_OK ? cn_tensors_metadata(t, "step") : NULL;
    long long at = 0;
    if (s == CN_OK && (!step || sscanf(step, "%lld", &at) != 1))
        s = cn_fail(l->ctx, CN_EFORMAT, "%s: the step is missing", path);
    cn_tensors_close(t);
    cn_free(plain);
    if (s == CN_OK) s = cn_format(l->ctx, path, sizeof path, "%s/%s.adamw.safetensors", dir, name);
    if (s == CN_OK) s = cn_adamw_load(l->adamw, path);
    if (s != CN_OK) return s;
    l->step = at;
    *found = true;
    return CN_OK;
}

/* --- reports ---------------------------------------------------------------------------------- */

cn_status cn_pretrain_note(cn_pretrain_run *r, const char *fmt, ...)
{
    char path[4200], line[1024];
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/training.jsonl", r->o->output_dir));
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    FILE *f = fopen(path, "a");
    if (!f) return cn_fail(r->ctx, CN_EIO, "%s can't be written", path);
    bool ok = fprintf(f, "%s\n", line) > 0;
    ok = fclose(f) == 0 && ok;
    return ok ? CN_OK : cn_fail(r->ctx, CN_EIO, "%s can't be written", path);
}

void cn_pretrain_progress(cn_pretrain_run *r, const char *stage, int64_t step, int64_t steps,
                          double loss)
{
    if (r->o->progress)
        r->o->progress(r->o->user, stage, step, steps, loss, cn_now_s() - r->started_s);
}

static uint8_t to_byte(float x)
{
    float v = (x * 0.5f + 0.5f) * 255.0f;
    return (uint8_t)lrintf(v < 0 ? 0 : v > 255 ? 255 : v);
}

cn_status cn_pretrain_sheet(cn_pretrain_run *r, const char *path, const float *pictures, int n,
                            int columns, int64_t size_px)
{
    int rows = (n + columns - 1) / columns;
    cn_image *sheet = NULL;
    CN_TRY(cn_image_create(r->ctx, columns * size_px, rows * size_px, &sheet));
    for (int i = 0; i < n; i++)
        for (int64_t y = 0; y < size_px; y++)
            for (int64_t x = 0; x < size_px * 3; x++)
                sheet
                    ->rgb[((i / columns * size_px + y) * columns + i % columns) * size_px * 3 + x] =
                    to_byte(pictures[(i * size_px + y) * size_px * 3 + x]);
    cn_status s = cn_image_save_png(r->ctx, path, sheet, NULL);
    cn_image_destroy(sheet);
    return s;
}

/* --- stages ----------------------------------------------------------------------------------- */

static bool wants(const cn_pretrain_options *o, const char *stage)
{
    return o->stage && strcmp(o->stage, stage) == 0;
}

static cn_status check_options(cn_ctx *ctx, const cn_pretrain_options *o)
{
    if (!o->output_dir) return cn_fail(ctx, CN_EINVAL, "an output folder is needed");
    if (o->size_px < 64 || o->size_px % 32)
        return cn_fail(ctx, CN_EINVAL, "the picture size must be a multiple of 32, at least 64");
    if (o->vae_steps < 1 || o->unet_steps < 1 || o->vae_batch < 1 || o->unet_batch < 1 ||
        o->scenes < o->unet_batch || o->save_steps < 1)
        return cn_fail(ctx, CN_EINVAL,
                       "steps, batches and scenes must be positive, scenes at least a batch");
    if (o->stage && !wants(o, "vae") && !wants(o, "unet") && !wants(o, "decoder"))
        return cn_fail(ctx, CN_EINVAL, "stage %s: vae, unet or decoder", o->stage);
    return CN_OK;
}

cn_status cn_pretrain(cn_ctx *ctx, const cn_pretrain_options *o)
{
    CN_TRY(check_options(ctx, o));
    cn_pretrain_run r = {.ctx = ctx, .o = o, .started_s = cn_now_s()};
    cn_status s = cn_format(ctx, r.state_dir, sizeof r.state_dir, "%s/state", o->output_dir);
    if (s == CN_OK) s = cn_dir_make(ctx, r.state_dir);
    if (s == CN_OK) s = cn_backend_cpu_create(ctx, &r.be);
    if (s == CN_OK && !(r.base = cn_alloc0(ctx, sizeof *r.base))) s = CN_ENOMEM;
    if (s != CN_OK) goto done;
    cn_tiny_configs(r.base);
    r.base->unet.sample_size = o->size_px / 8;
    if ((s = cn_params_create(ctx, "vae", &r.vae)) != CN_OK) goto done;
    if ((s = cn_params_create(ctx, "unet", &r.unet)) != CN_OK) goto done;
    if ((s = cn_params_create(ctx, "text_encoder", &r.text)) != CN_OK) goto done;
    if (!o->stage || wants(o, "vae")) s = cn_pretrain_vae(&r);
    if (s == CN_OK && (!o->stage || wants(o, "unet"))) s = cn_pretrain_unet(&r);
    if (s == CN_OK && wants(o, "decoder")) s = cn_pretrain_decoder(&r);
done:
    cn_params_destroy(r.unet);
    cn_params_destroy(r.vae);
    cn_params_destroy(r.text);
    cn_free(r.base);
    if (r.be) r.be->destroy(r.be);
    return s;
}
