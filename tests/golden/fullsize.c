/* SPDX-License-Identifier: Apache-2.0 */
/* fullsize.c - Stable Diffusion 1.5 and its ControlNet at their real size, with seeded weights,
 * against the published modules' outputs (reference/make_fullsize.py writes such a folder).
 *
 * Usage: fullsize DIR. One network is in memory at a time; the largest needs about 5 GB. Everything
 * is allowed 1e-3 of the largest expected value (f32 through the whole depth; some values are kept
 * in f16).
 */
#include "../support/fixture.h"
#include "../support/values.h"

#include "model/checkpoint/config_io.h"
#include "model/nets/nets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double TOLERANCE = 1e-3;

typedef struct net {
    json_t *manifest;
    const json_t *config;
    cn_params *params;
    cn_graph *g;
    cn_plan *plan;
} net;

/* What outlives a network: the reference, and the ControlNet's residuals for the UNet. */
typedef struct full {
    fixture f;
    cn_tensors *file;
    float *residual[CN_MAX_RESIDUALS + 1]; /* the middle one last */
    int64_t shape[CN_MAX_RESIDUALS + 1][CN_MAX_DIMS];
    int n;
} full;

static void net_close(net *n)
{
    cn_plan_destroy(n->plan);
    cn_graph_destroy(n->g);
    cn_params_destroy(n->params);
    json_decref(n->manifest);
}

/* The salt is what the first tensor's key has before "full.NETWORK.NAME". */
static cn_status take_salt(full *u, const char *name, const json_t *manifest)
{
    const json_t *first = json_array_get(json_object_get(manifest, "tensors"), 0);
    const char *key = cn_json_str(first, "key", "");
    char tail[256];
    CN_TRY(cn_format(u->f.env.ctx, tail, sizeof tail, "full.%s.%s", name,
                     cn_json_str(first, "name", "")));
    if (strlen(key) < strlen(tail) || strcmp(key + strlen(key) - strlen(tail), tail) != 0)
        return cn_fail(u->f.env.ctx, CN_EFORMAT, "key %s should end in %s", key, tail);
    return cn_format(u->f.env.ctx, u->f.salt, sizeof u->f.salt, "%.*s",
                     (int)(strlen(key) - strlen(tail)), key);
}

static cn_status net_open(full *u, const char *name, net *n)
{
    cn_ctx *ctx = u->f.env.ctx;
    CN_TRY(fixture_manifest(&u->f, name, &n->manifest));
    n->config = json_object_get(n->manifest, "config");
    CN_TRY(take_salt(u, name, n->manifest));
    CN_TRY(cn_params_create(ctx, name, &n->params));
    CN_TRY(cn_graph_create(ctx, &n->g));
    cn_graph_use(n->g, n->params);
    return CN_OK;
}

static cn_status net_plan(full *u, net *n, cn_node *const *outputs, int n_outputs)
{
    cn_ctx *ctx = u->f.env.ctx;
    CN_TRY(cn_plan_create(ctx, n->g, u->f.env.backend, outputs, n_outputs, false, &n->plan));
    CN_TRY(fixture_fill(&u->f, n->manifest, n->params, NULL));
    cn_plan_info info;
    cn_plan_info_get(n->plan, &info);
    printf("     %s: %lld steps, %.0f MB beside the weights, %.0f GFLOP\n",
           cn_params_network(n->params), (long long)info.steps, (double)info.arena_bytes / 1e6,
           info.flops / 1e9);
    fflush(stdout);
    return CN_OK;
}

static cn_node *input_like(full *u, net *n, const char *key, cn_dtype dtype)
{
    const cn_tensor_info *t = cn_tensors_find(u->file, key);
    if (!t) return cn_poison(n->g, "%s: not in the file", key);
    const int64_t *s = t->shape;
    if (t->ndim == 4) return cn_input4(n->g, key, s[0], s[2], s[3], s[1]);
    return cn_input(n->g, key, dtype, t->ndim, s, false);
}

static cn_status set(full *u, net *n, const cn_node *x, const char *key)
{
    return fixture_set(&u->f, n->plan, x, u->file, key);
}

/* A picture eight times the latent's size with values scale * uniform + offset. */
static cn_status set_picture(full *u, net *n, const cn_node *x, const char *name, float scale,
                             float offset)
{
    int64_t elements = cn_node_elements(x);
    float *p = test_alloc((size_t)elements * sizeof *p);
    fixture_uniform(&u->f, name, elements, p);
    for (int64_t i = 0; i < elements; i++) p[i] = p[i] * scale + offset;
    cn_status s = fixture_set_nchw(&u->f, n->plan, x, p);
    free(p);
    return s;
}

static cn_node *picture_like(net *n, const char *name, const cn_node *latent)
{
    return cn_input4(n->g, name, latent->shape[0], 8 * latent->shape[1], 8 * latent->shape[2], 3);
}

/* --- the networks ----------------------------------------------------------------------------- */

static cn_status text_encoder(full *u, net *n)
{
    cn_clip_config c;
    CN_TRY(cn_clip_config_read(u->f.env.ctx, n->config, &c));
    cn_node *ids = input_like(u, n, "ids", CN_I32), *y = cn_clip_build(n->g, &c, ids, 0);
    CN_TRY(net_plan(u, n, &y, 1));
    CN_TRY(set(u, n, ids, "ids"));
    CN_TRY(cn_plan_run(n->plan));
    fixture_expect(&u->f, n->plan, y, u->file, "ctx", TOLERANCE);
    return CN_OK;
}

static void keep_residual(full *u, cn_plan *plan, const cn_node *r)
{
    size_t bytes = (size_t)cn_node_elements(r) * sizeof(float);
    u->residual[u->n] = test_alloc(bytes);
    memcpy(u->residual[u->n], cn_plan_data(plan, r), bytes);
    memcpy(u->shape[u->n], r->shape, sizeof r->shape);
    u->n++;
}

static cn_status controlnet(full *u, net *n)
{
    cn_controlnet_config c;
    CN_TRY(cn_controlnet_config_read(u->f.env.ctx, n->config, &c));
    cn_node *x = input_like(u, n, "x", CN_F32), *t = input_like(u, n, "t", CN_F32);
    cn_node *context = input_like(u, n, "ctx", CN_F32);
    CN_TRY(cn_graph_status(n->g));
    cn_node *condition = picture_like(n, "cond", x);
    cn_residuals r;
    const cn_unet_inputs in = {.x = x, .t = t, .context = context};
    cn_controlnet_build(n->g, &c, &in, cn_controlnet_hint_build(n->g, &c, condition), &r);
    CN_TRY(cn_graph_status(n->g));
    cn_node *outputs[CN_MAX_RESIDUALS + 1];
    for (int i = 0; i < r.n; i++) outputs[i] = r.down[i];
    outputs[r.n] = r.mid;
    CN_TRY(net_plan(u, n, outputs, r.n + 1));
    CN_TRY(set(u, n, x, "x"));
    CN_TRY(set(u, n, t, "t"));
    CN_TRY(set(u, n, context, "ctx"));
    CN_TRY(set_picture(u, n, condition, "cond", 1, 0));
    CN_TRY(cn_plan_run(n->plan));
    for (int i = 0; i <= r.n; i++) {
        char key[32];
        snprintf(key, sizeof key, i < r.n ? "down.%d" : "mid", i);
        if (cn_tensors_find(u->file, key))
            fixture_expect(&u->f, n->plan, outputs[i], u->file, key, TOLERANCE);
        keep_residual(u, n->plan, outputs[i]);
    }
    return CN_OK;
}

static cn_status unet(full *u, net *n)
{
    cn_unet_config c;
    CN_TRY(cn_unet_config_read(u->f.env.ctx, n->config, &c));
    cn_node *x = input_like(u, n, "x", CN_F32), *t = input_like(u, n, "t", CN_F32);
    cn_node *context = input_like(u, n, "ctx", CN_F32);
    cn_node *given[CN_MAX_RESIDUALS + 1];
    cn_residuals r = {.n = u->n - 1};
    for (int i = 0; i < u->n; i++) {
        char name[32];
        snprintf(name, sizeof name, "residual.%d", i);
        given[i] = cn_input(n->g, name, CN_F32, 4, u->shape[i], false);
        *(i < r.n ? &r.down[i] : &r.mid) = given[i];
    }
    const cn_unet_inputs in = {.x = x, .t = t, .context = context, .residuals = &r};
    cn_node *y = cn_unet_build(n->g, &c, &in);
    CN_TRY(net_plan(u, n, &y, 1));
    CN_TRY(set(u, n, x, "x"));
    CN_TRY(set(u, n, t, "t"));
    CN_TRY(set(u, n, context, "ctx"));
    const float strengths[] = {0, 0.1f};
    const char *keys[] = {"eps", "eps_controlled"};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < u->n; i++) {
            float *to = cn_plan_data(n->plan, given[i]);
            for (int64_t e = 0; e < cn_node_elements(given[i]); e++)
                to[e] = strengths[k] * u->residual[i][e];
        }
        CN_TRY(cn_plan_run(n->plan));
        fixture_expect(&u->f, n->plan, y, u->file, keys[k], TOLERANCE);
    }
    return CN_OK;
}

/* The reference keeps the decoded picture in 8 bits: a value beside a rounding boundary may fall to
 * either side, none further; and its standard deviation before clamping. */
static void check_picture(full *u, const float *y, const cn_node *node)
{
    int64_t n = cn_node_elements(node), off = 0, far = 0;
    float *want = fixture_want(&u->f, u->file, "decoded_u8", node), wanted = 0;
    const cn_tensor_info *info = cn_tensors_find(u->file, "decoded_std");
    if (!want || !info || cn_tensors_read(u->f.env.ctx, u->file, info, &wanted) != CN_OK) {
        report_check(&u->f.report, false, "decoded_u8 and decoded_std are not in the file");
        free(want);
        return;
    }
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = rint((fmin(fmax((double)y[i], -1), 1) + 1) * 127.5);
        off += fabs(v - (double)want[i]) >= 0.5;
        far += !(fabs(v - (double)want[i]) < 1.5);
        mean += (double)y[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) var += ((double)y[i] - mean) * ((double)y[i] - mean);
    free(want);
    report_check(&u->f.report, far == 0 && off <= n / 50,
                 "decoded_u8: of %lld values %lld differ by 1 (allowed 2%%), %lld by more",
                 (long long)n, (long long)(off - far), (long long)far);
    float std = (float)sqrt(var / (double)(n - 1));
    report_close(&u->f.report, "decoded_std", &std, &wanted, 1, TOLERANCE);
}

static cn_status vae_decode(full *u, net *n)
{
    cn_vae_config c;
    CN_TRY(cn_vae_config_read(u->f.env.ctx, n->config, &c));
    cn_node *z = input_like(u, n, "z", CN_F32), *y = cn_vae_decode_build(n->g, &c, z);
    /* the encoder is declared too, so that the whole manifest has its place */
    CN_TRY(cn_graph_status(n->g));
    cn_vae_encode_build(n->g, &c, picture_like(n, "image", z));
    CN_TRY(net_plan(u, n, &y, 1));
    CN_TRY(set(u, n, z, "z"));
    CN_TRY(cn_plan_run(n->plan));
    check_picture(u, cn_plan_data(n->plan, y), y);
    return CN_OK;
}

static cn_status vae_encode(full *u, net *n)
{
    cn_vae_config c;
    CN_TRY(cn_vae_config_read(u->f.env.ctx, n->config, &c));
    cn_node *z = input_like(u, n, "z", CN_F32);
    CN_TRY(cn_graph_status(n->g));
    cn_vae_decode_build(n->g, &c, z);
    cn_node *image = picture_like(n, "image", z), *y = cn_vae_encode_build(n->g, &c, image);
    CN_TRY(net_plan(u, n, &y, 1));
    CN_TRY(set_picture(u, n, image, "image", 2, -1));
    CN_TRY(cn_plan_run(n->plan));
    fixture_expect(&u->f, n->plan, y, u->file, "moments", TOLERANCE);
    return CN_OK;
}

static const struct {
    const char *label, *network;
    cn_status (*check)(full *u, net *n);
} PARTS[] = {
    {"text encoder", "text_encoder", text_encoder},
    {"ControlNet", "controlnet", controlnet},
    {"UNet", "unet", unet},
    {"VAE decoder", "vae", vae_decode},
    {"VAE encoder", "vae", vae_encode},
};

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fullsize DIR\n");
        return 2;
    }
    full u = {.f = {.dir = argv[1], .inputs = "full."}};
    if (!test_env_open(&u.f.env, 0)) {
        fprintf(stderr, "no CPU backend\n");
        return 1;
    }
    cn_ctx *ctx = u.f.env.ctx;
    bool ok = report_status(&u.f.report, "outputs", ctx, fixture_tensors(&u.f, "outputs", &u.file));
    for (size_t i = 0; ok && i < CN_COUNT(PARTS); i++) {
        net n = {0};
        cn_status s = net_open(&u, PARTS[i].network, &n);
        if (s == CN_OK) s = PARTS[i].check(&u, &n);
        report_status(&u.f.report, PARTS[i].label, ctx, s);
        net_close(&n);
    }
    for (int i = 0; i < u.n; i++) free(u.residual[i]);
    cn_tensors_close(u.file);
    test_env_close(&u.f.env);
    return report_end(&u.f.report);
}
