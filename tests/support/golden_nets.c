/* SPDX-License-Identifier: Apache-2.0 */
/* golden_nets.c - see golden_nets.h.
 *
 * Tolerances, as a share of the largest expected value: 2e-4 for outputs kept in f32 (two f32
 * implementations that sum in different orders through up to 60 layers); 1e-3 for values kept in
 * f16, whose own rounding is 5e-4. Each network runs twice: with its outputs alone, when the plan
 * may fuse and share most, and with the value after every block kept.
 */
#include "golden_nets.h"
#include "values.h"

#include "model/checkpoint/config_io.h"
#include "model/nets/nets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void golden_net_close(golden_net *n)
{
    cn_plan_destroy(n->plan);
    cn_graph_destroy(n->g);
    cn_params_destroy(n->params);
    cn_tensors_close(n->file);
    json_decref(n->manifest);
}

cn_status golden_net_open(fixture *f, const char *name, golden_net *n)
{
    *n = (golden_net){.name = name};
    CN_TRY(fixture_manifest(f, name, &n->manifest));
    n->config = json_object_get(n->manifest, "config");
    CN_TRY(fixture_tensors(f, name, &n->file));
    CN_TRY(cn_params_create(f->env.ctx, name, &n->params));
    CN_TRY(cn_graph_create(f->env.ctx, &n->g));
    const cn_dtype kept = f->compute == CN_BF16 ? CN_BF16 : CN_F32;
    cn_params_set_compute(n->params, kept);
    cn_graph_use(n->g, n->params);
    cn_params_set_storage(n->params, kept);
    return CN_OK;
}

cn_status golden_net_plan(fixture *f, golden_net *n)
{
    cn_plan_destroy(n->plan);
    n->plan = NULL;
    return cn_plan_create(f->env.ctx, n->g, f->env.backend, n->outputs, n->n, false, &n->plan);
}

static cn_node *input_like(golden_net *n, const char *key, cn_dtype dtype)
{
    const cn_tensor_info *t = cn_tensors_find(n->file, key);
    if (!t) return cn_poison(n->g, "%s: not in the file", key);
    const int64_t *s = t->shape;
    if (t->ndim == 4) return cn_input4(n->g, key, s[0], s[2], s[3], s[1]);
    return cn_input(n->g, key, dtype, t->ndim, s, false);
}

/* Every tensor called "NETWORK.PATH" is the value after the block PATH. */
void golden_add_taps(fixture *f, golden_net *n, cn_node **taps)
{
    size_t len = strlen(n->name);
    for (int64_t i = 0; i < cn_tensors_count(n->file); i++) {
        const char *key = cn_tensors_at(n->file, i)->name;
        taps[i] = NULL;
        if (strncmp(key, n->name, len) != 0 || key[len] != '.') continue;
        taps[i] = cn_graph_tap(n->g, n->name, key + len + 1);
        if (!taps[i])
            report_check(&f->report, false, "%s: the graph remembers no such block", key);
        else if (n->n < GOLDEN_MAX_OUTPUTS)
            n->outputs[n->n++] = taps[i];
    }
}

void golden_expect_taps(fixture *f, golden_net *n, cn_node *const *taps)
{
    for (int64_t i = 0; i < cn_tensors_count(n->file); i++) {
        const cn_tensor_info *t = cn_tensors_at(n->file, i);
        if (taps[i])
            fixture_expect(f, n->plan, taps[i], n->file, t->name,
                           t->dtype == CN_F16 ? GOLDEN_F16_TOLERANCE : GOLDEN_F32_TOLERANCE);
    }
}

/* --- text encoder ----------------------------------------------------------------------------- */

static cn_status text_encoder(fixture *f, golden_net *n)
{
    cn_clip_config c;
    CN_TRY(cn_clip_config_read(f->env.ctx, n->config, &c));
    cn_node *ids = input_like(n, "ids", CN_I32);
    cn_node *last = cn_clip_build(n->g, &c, ids, 0), *skip = cn_clip_build(n->g, &c, ids, 1);
    n->outputs[n->n++] = last;
    n->outputs[n->n++] = skip;
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(fixture_set(f, n->plan, ids, n->file, "ids"));
    CN_TRY(cn_plan_run(n->plan));
    fixture_expect(f, n->plan, last, n->file, "last_hidden_state", GOLDEN_F32_TOLERANCE);
    fixture_expect(f, n->plan, skip, n->file, "clip_skip_2", GOLDEN_F32_TOLERANCE);
    return CN_OK;
}

/* --- autoencoder ------------------------------------------------------------------------------ */

/* The published moments' log variance is held to [-30,20]; the graph's is not. */
static void hold_log_variance(float *moments, const cn_node *y)
{
    int64_t C = cn_channels(y);
    for (int64_t i = 0; i < cn_node_elements(y); i++)
        if (i % C >= C / 2) moments[i] = fminf(fmaxf(moments[i], -30), 20);
}

static cn_status vae(fixture *f, golden_net *n)
{
    cn_vae_config c;
    CN_TRY(cn_vae_config_read(f->env.ctx, n->config, &c));
    cn_node *image = input_like(n, "image", CN_F32), *latent = input_like(n, "latent", CN_F32);
    cn_node *moments = cn_vae_encode_build(n->g, &c, image);
    cn_node *decoded = cn_vae_decode_build(n->g, &c, latent);
    n->outputs[n->n++] = moments;
    n->outputs[n->n++] = decoded;
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(fixture_set(f, n->plan, image, n->file, "image"));
    CN_TRY(fixture_set(f, n->plan, latent, n->file, "latent"));
    CN_TRY(cn_plan_run(n->plan));
    hold_log_variance(cn_plan_data(n->plan, moments), moments);
    fixture_expect(f, n->plan, moments, n->file, "moments", GOLDEN_F32_TOLERANCE);
    fixture_expect(f, n->plan, decoded, n->file, "decoded", GOLDEN_F32_TOLERANCE);
    return CN_OK;
}

/* --- ControlNet and UNet ---------------------------------------------------------------------- */

typedef struct denoiser_inputs {
    cn_node *x, *t, *context, *condition;
} denoiser_inputs;

static denoiser_inputs denoiser_inputs_make(golden_net *n)
{
    denoiser_inputs in;
    in.x = input_like(n, "x", CN_F32);
    in.t = input_like(n, "t", CN_F32);
    in.context = input_like(n, "ctx", CN_F32);
    in.condition = cn_tensors_find(n->file, "cond") ? input_like(n, "cond", CN_F32) : NULL;
    return in;
}

static cn_status denoiser_inputs_set(fixture *f, golden_net *n, const denoiser_inputs *in)
{
    CN_TRY(fixture_set(f, n->plan, in->x, n->file, "x"));
    CN_TRY(fixture_set(f, n->plan, in->t, n->file, "t"));
    CN_TRY(fixture_set(f, n->plan, in->context, n->file, "ctx"));
    if (in->condition) CN_TRY(fixture_set(f, n->plan, in->condition, n->file, "cond"));
    return CN_OK;
}

void golden_expect_residuals(fixture *f, golden_net *n, const cn_residuals *r,
                             const cn_tensors *file, const char *prefix)
{
    char key[64];
    for (int i = 0; i < r->n; i++) {
        snprintf(key, sizeof key, "%sdown.%d", prefix, i);
        fixture_expect(f, n->plan, r->down[i], file, key, GOLDEN_F32_TOLERANCE);
    }
    snprintf(key, sizeof key, "%smid", prefix);
    fixture_expect(f, n->plan, r->mid, file, key, GOLDEN_F32_TOLERANCE);
}

void golden_add_residuals(golden_net *n, const cn_residuals *r)
{
    for (int i = 0; i < r->n; i++) n->outputs[n->n++] = r->down[i];
    n->outputs[n->n++] = r->mid;
}

/* diffusers' guess mode: logspace(-1, 0, n + 1) over the residuals, the middle one last. */
cn_residuals golden_guess_residuals(cn_graph *g, const cn_residuals *r)
{
    cn_residuals out = {.n = r->n};
    for (int i = 0; i < r->n; i++)
        out.down[i] = cn_scale(g, r->down[i], (float)pow(10, -1 + (double)i / r->n));
    out.mid = cn_scale(g, r->mid, 1);
    return out;
}

static cn_status controlnet(fixture *f, golden_net *n)
{
    cn_controlnet_config c;
    CN_TRY(cn_controlnet_config_read(f->env.ctx, n->config, &c));
    denoiser_inputs in = denoiser_inputs_make(n);
    cn_residuals r;
    cn_node *hint = cn_controlnet_hint_build(n->g, &c, in.condition);
    const cn_unet_inputs given = {.x = in.x, .t = in.t, .context = in.context};
    cn_controlnet_build(n->g, &c, &given, hint, &r);
    cn_residuals guess = golden_guess_residuals(n->g, &r);
    CN_TRY(cn_graph_status(n->g));
    golden_add_residuals(n, &r);
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(denoiser_inputs_set(f, n, &in));
    CN_TRY(cn_plan_run(n->plan));
    golden_expect_residuals(f, n, &r, n->file, "");
    golden_add_residuals(n, &guess);
    cn_node **taps = test_alloc((size_t)cn_tensors_count(n->file) * sizeof(cn_node *));
    golden_add_taps(f, n, taps);
    cn_status s = golden_net_plan(f, n);
    if (s == CN_OK) s = denoiser_inputs_set(f, n, &in);
    if (s == CN_OK) s = cn_plan_run(n->plan);
    cn_tensors *expected = NULL;
    if (s == CN_OK) s = fixture_tensors(f, "unet", &expected);
    if (s == CN_OK) {
        golden_expect_taps(f, n, taps);
        golden_expect_residuals(f, n, &guess, expected, "guess.");
    }
    cn_tensors_close(expected);
    free(taps);
    return s;
}

static cn_status unet_alone(fixture *f, golden_net *n)
{
    cn_unet_config c;
    CN_TRY(cn_unet_config_read(f->env.ctx, n->config, &c));
    denoiser_inputs in = denoiser_inputs_make(n);
    const cn_unet_inputs given = {.x = in.x, .t = in.t, .context = in.context};
    cn_node *y = cn_unet_build(n->g, &c, &given);
    CN_TRY(cn_graph_status(n->g));
    n->outputs[n->n++] = y;
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(denoiser_inputs_set(f, n, &in));
    CN_TRY(cn_plan_run(n->plan));
    fixture_expect(f, n->plan, y, n->file, "out", GOLDEN_F32_TOLERANCE);
    cn_node **taps = test_alloc((size_t)cn_tensors_count(n->file) * sizeof(cn_node *));
    golden_add_taps(f, n, taps);
    cn_status s = golden_net_plan(f, n);
    if (s == CN_OK) s = denoiser_inputs_set(f, n, &in);
    if (s == CN_OK) s = cn_plan_run(n->plan);
    if (s == CN_OK) golden_expect_taps(f, n, taps);
    free(taps);
    return s;
}

/* Both networks in one graph, as generation runs them; the strength is in the gates. `n` is the
 * ControlNet's (its file has every input); `u` the UNet's. */
static cn_status controlled(fixture *f, golden_net *n, golden_net *u)
{
    cn_unet_config uc;
    cn_controlnet_config cc;
    CN_TRY(cn_unet_config_read(f->env.ctx, u->config, &uc));
    CN_TRY(cn_controlnet_config_read(f->env.ctx, n->config, &cc));
    denoiser_inputs in = denoiser_inputs_make(n);
    const cn_unet_inputs given = {.x = in.x, .t = in.t, .context = in.context};
    cn_node *hint = cn_controlnet_hint_build(n->g, &cc, in.condition);
    cn_control_unit unit = {.kind = &cn_control_kind_net,
                            .config = &cc,
                            .params = n->params,
                            .in = given,
                            .hints = &hint,
                            .gated = true};
    cn_node *y = cn_controlled_unet_build(n->g, &uc, u->params, &given, &unit, 1);
    CN_TRY(cn_graph_status(n->g));
    n->outputs[n->n++] = y;
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(fixture_fill(f, u->manifest, u->params, NULL));
    CN_TRY(denoiser_inputs_set(f, n, &in));
    const float strengths[] = {0.1f, 0};
    const char *keys[] = {"out_controlled_0.1", "out"};
    for (int k = 0; k < 2; k++) { /* at strength 0 the UNet's own output */
        for (int i = 0; i < unit.n_gates; i++) {
            float *to = cn_plan_data(n->plan, unit.gate[i]);
            for (int64_t e = 0; e < cn_node_elements(unit.gate[i]); e++) to[e] = strengths[k];
        }
        CN_TRY(cn_plan_run(n->plan));
        fixture_expect(f, n->plan, y, u->file, keys[k], GOLDEN_F32_TOLERANCE);
    }
    return CN_OK;
}

/* --- */

static cn_status with_net(fixture *f, const char *name, cn_status (*check)(fixture *, golden_net *))
{
    golden_net n;
    cn_status s = golden_net_open(f, name, &n);
    if (s == CN_OK) s = check(f, &n);
    golden_net_close(&n);
    return s;
}

cn_status golden_text_encoder(fixture *f)
{
    return with_net(f, "text_encoder", text_encoder);
}
cn_status golden_vae(fixture *f)
{
    return with_net(f, "vae", vae);
}
cn_status golden_controlnet(fixture *f)
{
    return with_net(f, "controlnet", controlnet);
}

cn_status golden_unet(fixture *f)
{
    CN_TRY(with_net(f, "unet", unet_alone));
    golden_net n, u = {0};
    cn_status s = golden_net_open(f, "controlnet", &n);
    if (s == CN_OK) s = golden_net_open(f, "unet", &u);
    if (s == CN_OK) s = controlled(f, &n, &u);
    golden_net_close(&n);
    golden_net_close(&u);
    return s;
}

cn_status golden_half(fixture *f)
{
    cn_backend *b = f->env.backend;
    if (b->computes(b, CN_BF16))
        f->compute = CN_BF16;
    else if (b->multiply_in(b, CN_F16))
        f->compute = CN_F16;
    else {
        report_skip(&f->report, "half: %s has neither BF16 nor F16 here", b->name);
        return CN_OK;
    }
    cn_status s = golden_vae(f);
    if (s == CN_OK) s = golden_controlnet(f);
    if (s == CN_OK) s = golden_unet(f);
    if (f->compute == CN_F16 && !b->multiply_in(b, CN_F32))
        s = cn_fail(f->env.ctx, CN_EINTERNAL, "no F32 any more");
    f->compute = CN_F32;
    return s;
}
