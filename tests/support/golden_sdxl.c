/* SPDX-License-Identifier: Apache-2.0 */
/* golden_sdxl.c - see golden_sdxl.h. Tolerances as in golden_nets.c. */
#include "golden_sdxl.h"
#include "golden_nets.h"
#include "values.h"

#include "diffuse/added.h"
#include "model/checkpoint/config_io.h"

#include <stdlib.h>
#include <string.h>

/* --- text encoders ---------------------------------------------------------------------------- */

/* 1 at the highest id, the end token. */
static cn_status set_end(fixture *f, golden_net *n, const cn_node *end)
{
    const int64_t N = end->shape[0], L = end->shape[1];
    const cn_tensor_info *info = cn_tensors_find(n->file, "ids");
    float *ids = test_alloc((size_t)(N * L) * sizeof *ids);
    float *values = test_alloc((size_t)(N * L) * sizeof *values);
    cn_status s = cn_tensors_read(f->env.ctx, n->file, info, ids);
    memset(values, 0, (size_t)(N * L) * sizeof *values);
    for (int64_t i = 0; i < N; i++) {
        int64_t at = 0;
        for (int64_t k = 1; k < L; k++)
            if (ids[i * L + k] > ids[i * L + at]) at = k;
        values[i * L + at] = 1;
    }
    if (s == CN_OK) s = cn_plan_set(n->plan, end, values);
    free(ids);
    free(values);
    return s;
}

static cn_status text(fixture *f, const char *name, bool pools)
{
    golden_net n;
    cn_clip_config c;
    cn_node *end, *pooled = NULL;
    CN_TRY(golden_net_open(f, name, &n));
    cn_status s = cn_clip_config_read(f->env.ctx, n.config, &c);
    const cn_tensor_info *t = cn_tensors_find(n.file, "ids");
    if (s == CN_OK && !t) s = cn_fail(f->env.ctx, CN_EMISMATCH, "%s: no ids", name);
    if (s != CN_OK) goto done;
    cn_node *ids = cn_input(n.g, "ids", CN_I32, 2, t->shape, false);
    end = cn_input(n.g, "end", CN_F32, 3, (int64_t[]){t->shape[0], t->shape[1], 1}, false);
    cn_clip_build(n.g, &c, ids, 0); /* declares what features don't come from */
    c.penultimate = true;
    cn_node *rows = cn_clip_embed_build(n.g, &c, ids);
    cn_node *context = cn_clip_pooled_build(n.g, &c, rows, 0, pools ? end : NULL, &pooled);
    cn_node *skip = cn_clip_layers_build(n.g, &c, rows, 1);
    n.outputs[n.n++] = context;
    n.outputs[n.n++] = skip;
    if (pools) n.outputs[n.n++] = pooled;
    s = cn_graph_status(n.g);
    if (s == CN_OK) s = golden_net_plan(f, &n);
    if (s == CN_OK) s = fixture_fill(f, n.manifest, n.params, NULL);
    if (s == CN_OK) s = fixture_set(f, n.plan, ids, n.file, "ids");
    if (s == CN_OK && pools) s = set_end(f, &n, end);
    if (s == CN_OK) s = cn_plan_run(n.plan);
    if (s != CN_OK) goto done;
    fixture_expect(f, n.plan, context, n.file, "context", GOLDEN_F32_TOLERANCE);
    fixture_expect(f, n.plan, skip, n.file, "context_skip_1", GOLDEN_F32_TOLERANCE);
    if (pools) fixture_expect(f, n.plan, pooled, n.file, "pooled", GOLDEN_F32_TOLERANCE);
done:
    golden_net_close(&n);
    return s;
}

cn_status golden_sdxl_text(fixture *f)
{
    CN_TRY(text(f, "text_encoder", false));
    return text(f, "text_encoder_2", true);
}

/* --- UNet and ControlNets --------------------------------------------------------------------- */

cn_status golden_sdxl_inputs(fixture *f, golden_net *n, const cn_unet_config *c, golden_inputs *s)
{
    *s = (golden_inputs){.number_dim = c->added_number_dim};
    CN_TRY(fixture_tensors(f, "inputs", &s->file));
    const cn_tensor_info *x = cn_tensors_find(s->file, "x");
    const cn_tensor_info *context = cn_tensors_find(s->file, "context");
    if (!x || x->ndim != 4 || !context || context->ndim != 3)
        return cn_fail(f->env.ctx, CN_EMISMATCH, "inputs.safetensors: x and context are expected");
    const int64_t *d = x->shape, added[] = {d[0], c->added_dim};
    s->in = (cn_unet_inputs){.x = cn_input4(n->g, "x", d[0], d[2], d[3], d[1]),
                             .t = cn_input(n->g, "t", CN_F32, 1, d, false),
                             .context = cn_input(n->g, "context", CN_F32, 3, context->shape, false),
                             .added = cn_input(n->g, "added", CN_F32, 2, added, false)};
    s->condition = cn_input4(n->g, "cond", d[0], 8 * d[2], 8 * d[3], 3);
    return CN_OK;
}

cn_status golden_sdxl_set_added(fixture *f, cn_plan *plan, const cn_node *added,
                                const cn_tensors *inputs, int64_t number_dim)
{
    const cn_tensor_info *pooled = cn_tensors_find(inputs, "text_embeds");
    const cn_tensor_info *sizes = cn_tensors_find(inputs, "time_ids");
    if (!pooled || !sizes || pooled->ndim != 2 || sizes->ndim != 2)
        return cn_fail(f->env.ctx, CN_EMISMATCH, "text_embeds and time_ids are expected");
    const int64_t N = added->shape[0], D = added->shape[1], P = pooled->shape[1];
    const int64_t k = sizes->shape[1];
    if (pooled->shape[0] < N || P + k * number_dim != D)
        return cn_fail(f->env.ctx, CN_EMISMATCH, "an added embedding of %lld values is expected",
                       (long long)D);
    float *text = test_alloc((size_t)pooled->elements * sizeof *text);
    float *numbers = test_alloc((size_t)sizes->elements * sizeof *numbers);
    float *values = test_alloc((size_t)(N * D) * sizeof *values);
    cn_status s = cn_tensors_read(f->env.ctx, inputs, pooled, text);
    if (s == CN_OK) s = cn_tensors_read(f->env.ctx, inputs, sizes, numbers);
    for (int64_t i = 0; s == CN_OK && i < N; i++)
        cn_added_embed(text + i * P, P, numbers + i * k, (int)k, number_dim, values + i * D);
    if (s == CN_OK) s = cn_plan_set(plan, added, values);
    free(text);
    free(numbers);
    free(values);
    return s;
}

cn_status golden_sdxl_condition(fixture *f, cn_plan *plan, const char *name, const cn_node *x)
{
    float *values = test_alloc((size_t)cn_node_elements(x) * sizeof *values);
    fixture_uniform(f, name, cn_node_elements(x), values);
    const cn_status s = fixture_set_nchw(f, plan, x, values);
    free(values);
    return s;
}

cn_status golden_sdxl_set(fixture *f, golden_net *n, const golden_inputs *s)
{
    CN_TRY(fixture_set(f, n->plan, s->in.x, s->file, "x"));
    CN_TRY(fixture_set(f, n->plan, s->in.t, s->file, "t"));
    CN_TRY(fixture_set(f, n->plan, s->in.context, s->file, "context"));
    CN_TRY(golden_sdxl_set_added(f, n->plan, s->in.added, s->file, s->number_dim));
    return golden_sdxl_condition(f, n->plan, "cond", s->condition);
}

/* Plans, gives every value, runs. */
static cn_status run(fixture *f, golden_net *n, const golden_inputs *s)
{
    CN_TRY(cn_graph_status(n->g));
    CN_TRY(golden_net_plan(f, n));
    for (int64_t i = 0; i < cn_params_count(n->params); i++)
        if (!cn_params_at(n->params, i)->loaded) {
            CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
            break;
        }
    CN_TRY(golden_sdxl_set(f, n, s));
    return cn_plan_run(n->plan);
}

/* Once more with the value after every block. */
static cn_status run_tapped(fixture *f, golden_net *n, const golden_inputs *s)
{
    cn_node **taps = test_alloc((size_t)cn_tensors_count(n->file) * sizeof(cn_node *));
    golden_add_taps(f, n, taps);
    const cn_status status = run(f, n, s);
    if (status == CN_OK) golden_expect_taps(f, n, taps);
    free(taps);
    return status;
}

static cn_status controlnet(fixture *f, golden_net *n, golden_inputs *s)
{
    cn_controlnet_config c;
    cn_residuals r;
    CN_TRY(cn_controlnet_config_read(f->env.ctx, n->config, &c));
    CN_TRY(golden_sdxl_inputs(f, n, &c.encoder, s));
    cn_node *hint = cn_controlnet_hint_build(n->g, &c, s->condition);
    cn_controlnet_build(n->g, &c, &s->in, hint, &r);
    const bool guesses = cn_tensors_find(n->file, "guess.mid") != NULL;
    cn_residuals guess = golden_guess_residuals(n->g, &r);
    golden_add_residuals(n, &r);
    CN_TRY(run(f, n, s));
    golden_expect_residuals(f, n, &r, n->file, "");
    if (!guesses) return CN_OK;
    golden_add_residuals(n, &guess);
    CN_TRY(run_tapped(f, n, s));
    fixture_expect(f, n->plan, guess.down[0], n->file, "guess.down.0", GOLDEN_F32_TOLERANCE);
    fixture_expect(f, n->plan, guess.down[8], n->file, "guess.down.8", GOLDEN_F32_TOLERANCE);
    fixture_expect(f, n->plan, guess.mid, n->file, "guess.mid", GOLDEN_F32_TOLERANCE);
    return CN_OK;
}

static cn_status unet(fixture *f, golden_net *n, golden_inputs *s)
{
    cn_unet_config c;
    CN_TRY(cn_unet_config_read(f->env.ctx, n->config, &c));
    CN_TRY(golden_sdxl_inputs(f, n, &c, s));
    cn_node *y = n->outputs[n->n++] = cn_unet_build(n->g, &c, &s->in);
    CN_TRY(run(f, n, s));
    fixture_expect(f, n->plan, y, n->file, "out", GOLDEN_F32_TOLERANCE);
    return run_tapped(f, n, s);
}

static cn_status unet_lcm(fixture *f, golden_net *n, golden_inputs *s)
{
    cn_unet_config c;
    CN_TRY(cn_unet_config_read(f->env.ctx, n->config, &c));
    CN_TRY(golden_sdxl_inputs(f, n, &c, s));
    cn_node *y = n->outputs[n->n++] = cn_unet_build(n->g, &c, &s->in);
    cn_node *scale = cn_graph_tap(n->g, n->name, "time_embedding.guidance");
    CN_TRY(cn_graph_status(n->g));
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(golden_sdxl_set(f, n, s));
    CN_TRY(fixture_set(f, n->plan, scale, n->file, "timestep_cond"));
    CN_TRY(cn_plan_run(n->plan));
    fixture_expect(f, n->plan, y, n->file, "out", GOLDEN_F32_TOLERANCE);
    return CN_OK;
}

static cn_status with_net(fixture *f, const char *name,
                          cn_status (*check)(fixture *, golden_net *, golden_inputs *))
{
    golden_net n;
    golden_inputs s = {0};
    cn_status status = golden_net_open(f, name, &n);
    if (status == CN_OK) status = check(f, &n, &s);
    golden_net_close(&n);
    cn_tensors_close(s.file);
    return report_status(&f->report, name, f->env.ctx, status) ? CN_OK : status;
}

cn_status golden_sdxl_controlnet(fixture *f)
{
    CN_TRY(with_net(f, "controlnet", controlnet));
    CN_TRY(with_net(f, "controlnet_small", controlnet));
    return with_net(f, "controlnet_mid", controlnet);
}

/* UNet and ControlNet in one graph; the strength is in the gates. */
static cn_status controlled(fixture *f, golden_net *n, golden_net *u, golden_inputs *s)
{
    cn_unet_config uc;
    cn_controlnet_config cc;
    CN_TRY(cn_unet_config_read(f->env.ctx, u->config, &uc));
    CN_TRY(cn_controlnet_config_read(f->env.ctx, n->config, &cc));
    CN_TRY(golden_sdxl_inputs(f, n, &uc, s));
    cn_node *hint = cn_controlnet_hint_build(n->g, &cc, s->condition);
    cn_control_unit unit = {.kind = &cn_control_kind_net,
                            .config = &cc,
                            .params = n->params,
                            .in = s->in,
                            .hints = &hint,
                            .gated = true};
    cn_node *y = cn_controlled_unet_build(n->g, &uc, u->params, &s->in, &unit, 1);
    CN_TRY(cn_graph_status(n->g));
    n->outputs[n->n++] = y;
    CN_TRY(golden_net_plan(f, n));
    CN_TRY(fixture_fill(f, n->manifest, n->params, NULL));
    CN_TRY(fixture_fill(f, u->manifest, u->params, NULL));
    CN_TRY(golden_sdxl_set(f, n, s));
    for (int i = 0; i < unit.n_gates; i++) {
        float *to = cn_plan_data(n->plan, unit.gate[i]);
        for (int64_t e = 0; e < cn_node_elements(unit.gate[i]); e++) to[e] = 0.1f;
    }
    CN_TRY(cn_plan_run(n->plan));
    fixture_expect(f, n->plan, y, u->file, "out_controlled_0.1", GOLDEN_F32_TOLERANCE);
    return CN_OK;
}

cn_status golden_sdxl_unet(fixture *f)
{
    golden_net n, u = {0};
    golden_inputs in = {0};
    CN_TRY(with_net(f, "unet", unet));
    CN_TRY(with_net(f, "unet_lcm", unet_lcm));
    cn_status s = golden_net_open(f, "controlnet", &n);
    if (s == CN_OK) s = golden_net_open(f, "unet", &u);
    if (s == CN_OK) s = controlled(f, &n, &u, &in);
    golden_net_close(&n);
    golden_net_close(&u);
    cn_tensors_close(in.file);
    return s;
}
