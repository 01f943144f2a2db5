/* SPDX-License-Identifier: Apache-2.0 */
/* test_kind_gradients.c - a training step of each kind of control network against PyTorch's: its
 * loss and the gradient of every parameter, beside a UNet of Stable Diffusion 1.x's form and one of
 * SDXL's. tools/make-kind-fixtures.py wrote tests/golden/kinds with diffusers' modules.
 *
 * Each gradient is known by its sum, its norm and its product with the seeded tensor "probe.NAME".
 * F32: losses to 1e-4, norms to 1e-3 of the expected, sums and products to 1e-3 of norm *
 * sqrt(elements), their largest possible value. A gradient under 1e-6 of the whole norm is rounding
 * (a bias before a norm with one channel per group): it must stay below 1e-5 here too.
 */
#include "../support/unit/unit_env.h"
#include "../support/values.h"

#include "io/json.h"
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/control_parts.h"
#include "model/checkpoint/network_kinds.h"
#include "train/stepgraph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PX = 128, LATENT = 16, CHANNELS = 4, TOKENS = 7 };

static const double LOSS_TOLERANCE = 1e-4, TOLERANCE = 1e-3, ROUNDING = 1e-6;

typedef struct step {
    const char *kind; /* as the script spells it */
    json_t *want;
    cn_unet_config unet_config;
    cn_controlnet_config net;
    cn_adapter_config adapter;
    cn_lllite_config *lllite;
    cn_low_rank low;
    cn_draw_control control;
    cn_params *unet;
    cn_stepgraph *g;
} step;

/* The script's `values`: norms about 1, biases small, weights by their inputs. */
static void fill(cn_params *p, const char *kind)
{
    char key[2 * CN_NAME_MAX];
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        const int64_t n = cn_param_elements(q);
        const char *name = q->diffusers_name, *end = name + strlen(name);
        const bool norm = strstr(name, "norm") && end - name > 7 && !strcmp(end - 7, ".weight");
        const double scale = q->ndim > 1 ? 1 / sqrt((double)(n / q->shape[0])) : norm ? 0.1 : 0.05;
        float *plain = test_alloc((size_t)n * sizeof *plain);
        snprintf(key, sizeof key, "kinds.%s.%s", kind, name);
        cn_seed_tensor(key, q->ndim == 1 && norm ? 1 : 0, (float)scale, plain, n);
        must(cn_param_set(env.backend, ctx, q, plain));
        free(plain);
    }
}

/* --- the networks ----------------------------------------------------------------------------- */

static void make_control(step *s)
{
    const json_t *own = json_object_get(s->want, "control");
    cn_draw_control *c = &s->control;
    c->condition = (cn_condition_spec){.n = 1, .types = {(int)cn_json_int(s->want, "type", 0)}};
    if (!strcmp(s->kind, "t2i-adapter")) {
        must(cn_adapter_config_read(ctx, own, &s->adapter));
        c->kind = &cn_control_kind_adapter;
        c->config = &s->adapter;
    } else if (!strcmp(s->kind, "lllite")) {
        must(cn_lllite_config_make(ctx, &s->unet_config, cn_json_int(s->want, "emb", 0),
                                   cn_json_int(s->want, "hidden", 0), &s->lllite));
        c->kind = &cn_control_kind_lllite;
        c->config = s->lllite;
    } else {
        must(cn_controlnet_config_read(ctx, own, &s->net));
        c->kind = &cn_control_kind_net;
        c->config = &s->net;
    }
    must(cn_params_create(ctx, c->kind->network, &c->params));
    cn_params_set_trainable(c->params, true);
    if (strcmp(s->kind, "control-lora") != 0) return;
    must(cn_net_declare_into(ctx, CN_NET_UNET, &s->unet_config, s->unet));
    s->low = (cn_low_rank){.base = s->unet, .rank = cn_json_int(s->want, "rank", 0)};
    cn_params_set_low_rank(c->params, &s->low);
}

static void make_step(step *s)
{
    const cn_stepgraph_options o = {.batch = cn_json_int(s->want, "batch", 0),
                                    .width = PX,
                                    .height = PX,
                                    .latent_w = LATENT,
                                    .latent_h = LATENT,
                                    .tokens = TOKENS,
                                    .control = true,
                                    .gradients = true};
    must(cn_unet_config_read(ctx, json_object_get(s->want, "unet"), &s->unet_config));
    must(cn_net_params(ctx, CN_NET_UNET, &s->unet));
    make_control(s);
    must(cn_stepgraph_create(ctx, env.backend, &s->unet_config, s->unet, &s->control, &o, &s->g));
    fill(s->unet, "unet");
    fill(s->control.params, s->kind);
}

static void close_step(step *s)
{
    cn_stepgraph_destroy(s->g);
    cn_params_destroy(s->control.params);
    cn_params_destroy(s->unet);
    cn_free(s->lllite);
    json_decref(s->want);
}

/* --- a pass ----------------------------------------------------------------------------------- */

static float *seeded(const char *name, int64_t n)
{
    char key[64];
    float *x = test_alloc((size_t)n * sizeof *x);
    snprintf(key, sizeof key, "kinds.%s", name);
    cn_seed_tensor(key, 0, 1, x, n);
    return x;
}

/* [N,C,h,w] values in the pass's order. */
static float *latents(const char *name, int64_t N)
{
    const int64_t n = N * CHANNELS * LATENT * LATENT;
    float *nchw = seeded(name, n), *nhwc = test_alloc((size_t)n * sizeof *nhwc);
    test_nchw_to_nhwc(nchw, nhwc, N, CHANNELS, LATENT, LATENT);
    free(nchw);
    return nhwc;
}

/* Context and, behind each sample's, its pooled text. */
static float *texts(const step *s, int64_t N)
{
    const int64_t D = TOKENS * s->unet_config.context_dim;
    const int64_t P = s->unet_config.added_dim ? cn_json_int(s->want, "pooled", 0) : 0;
    float *context = seeded("context", N * D), *pooled = seeded("pooled", N * P + 1);
    float *all = test_alloc((size_t)(N * (D + P)) * sizeof *all);
    for (int64_t i = 0; i < N; i++) {
        memcpy(all + i * (D + P), context + i * D, (size_t)D * sizeof *all);
        memcpy(all + i * (D + P) + D, pooled + i * P, (size_t)P * sizeof *all);
    }
    free(context);
    free(pooled);
    return all;
}

static void run(step *s)
{
    const int64_t N = s->g->o.batch, pixels = N * PX * PX * 3;
    float t[] = {10, 500};
    float *unit = seeded("condition", pixels);
    cn_pass p = {.batch = N,
                 .x = latents("x", N),
                 .target = latents("target", N),
                 .t = t,
                 .context = texts(s, N),
                 .condition = test_alloc((size_t)pixels)};
    for (int64_t i = 0; i < pixels; i++)
        p.condition[i] = (uint8_t)fmin(floor(((double)unit[i] + 1) * 128), 255);
    cn_stepgraph_put_pass(s->g, &p);
    must(cn_plan_run(s->g->plan));
    free(unit);
    free(p.x);
    free(p.target);
    free(p.context);
    free(p.condition);
}

/* --- comparing -------------------------------------------------------------------------------- */

static void expect_gradient(const step *s, const cn_param *q, double all)
{
    const json_t *want = json_object_get(json_object_get(s->want, "grads"), q->diffusers_name);
    const int64_t n = cn_param_elements(q);
    char key[2 * CN_NAME_MAX];
    double got[3] = {0};
    float *g = test_gradient_of(&env, s->g->plan, s->g->g, q);
    float *probe = test_alloc((size_t)n * sizeof *probe);
    if (json_array_size(want) != 3) fail_msg("%s: nothing known of it", q->diffusers_name);
    if (!g) fail_msg("%s has no gradient", q->diffusers_name);
    snprintf(key, sizeof key, "probe.%s", q->diffusers_name);
    cn_seed_tensor(key, 0, 1, probe, n);
    for (int64_t i = 0; i < n; i++) {
        got[0] += (double)g[i];
        got[1] += (double)g[i] * (double)g[i];
        got[2] += (double)g[i] * (double)probe[i];
    }
    got[1] = sqrt(got[1]);
    const double norm = json_number_value(json_array_get(want, 1)), most = sqrt((double)n);
    for (int k = 0; k < 3; k++) {
        const double v = json_number_value(json_array_get(want, (size_t)k));
        const double slack = norm < ROUNDING * all ? 10 * ROUNDING * all : TOLERANCE * norm;
        if (!(fabs(got[k] - v) <= slack * (k == 1 ? 1 : most)))
            fail_msg("%s, number %d: %.7g, should be %.7g", q->diffusers_name, k, got[k], v);
    }
    free(g);
    free(probe);
}

static void as_in_pytorch(void **state)
{
    char path[256];
    step s = {.kind = strchr(*state, ' ') + 1};
    snprintf(path, sizeof path, "tests/golden/kinds/%s.json", (const char *)*state);
    for (char *p = path; *p; p++)
        if (*p == ' ' || *p == '-') *p = '_';
    must(cn_json_load_file(ctx, path, &s.want));
    make_step(&s);
    run(&s);
    const double loss = (double)*(const float *)cn_plan_data(s.g->plan, s.g->loss);
    const double want = cn_json_number(s.want, "loss", NAN);
    if (!(fabs(loss - want) <= LOSS_TOLERANCE * want))
        fail_msg("loss %.7g, should be %.7g", loss, want);
    const char *name;
    json_t *g;
    double all = 0;
    json_object_foreach(json_object_get(s.want, "grads"), name, g)
    {
        const double norm = json_number_value(json_array_get(g, 1));
        all += norm * norm;
    }
    assert_int_equal(cn_params_count(s.control.params),
                     json_object_size(json_object_get(s.want, "grads")));
    for (int64_t i = 0; i < cn_params_count(s.control.params); i++)
        expect_gradient(&s, cn_params_at(s.control.params, i), sqrt(all));
    close_step(&s);
}

int main(void)
{
    static const char *const names[] = {"sd t2i-adapter", "sd control-lora",  "sd union",
                                        "sd lllite",      "sdxl t2i-adapter", "sdxl control-lora",
                                        "sdxl union",     "sdxl lllite"};
    struct CMUnitTest tests[CN_COUNT(names)];
    for (size_t i = 0; i < CN_COUNT(names); i++)
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = as_in_pytorch,
                                       .initial_state = (void *)(uintptr_t)names[i]};
    return cmocka_run_group_tests(tests, unit_env_open, unit_env_close);
}
