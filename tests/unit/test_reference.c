/* SPDX-License-Identifier: Apache-2.0 */
/* test_reference.c - self-attentions that see a reference picture, against diffusers' UNet run
 * twice (tests/golden/reference.safetensors, made by tools/make-reference-fixtures.py). */
#include "../support/fixture.h"
#include "../support/unit/unit_env.h"
#include "../support/values.h"

#include "diffuse/denoise.h"
#include "diffuse/sampling.h"
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/network_kinds.h"

#include <stdlib.h>
#include <string.h>

#define FILE "tests/golden/reference.safetensors"
/* F32 against F32, sums in another order. */
static const double TOLERANCE = 2e-4;

static cn_tensors *golden;
static cn_unet_config config;
static json_t *manifest;
static fixture small;

static int set_up(void **state)
{
    if (unit_env_open(state) != 0) return -1;
    small = (fixture){.dir = "tests/golden/core", .env = env};
    must(cn_tensors_open(ctx, FILE, &golden));
    must(fixture_manifest(&small, "unet", &manifest));
    must(cn_unet_config_read(ctx, json_object_get(manifest, "config"), &config));
    return 0;
}

static int tear_down(void **state)
{
    cn_tensors_close(golden);
    json_decref(manifest);
    return unit_env_close(state);
}

/* A tensor as the file has it; where it has four dimensions, [N,C,h,w], as [N,h,w,C]. */
static float *read_rows(const char *name, int64_t shape[4])
{
    const cn_tensor_info *t = cn_tensors_find(golden, name);
    if (!t) fail_msg("no %s", name);
    float *v = test_alloc((size_t)t->elements * sizeof *v),
          *rows = test_alloc((size_t)t->elements * sizeof *v);
    must(cn_tensors_read(ctx, golden, t, v));
    for (int i = 0; i < 4; i++) shape[i] = i < t->ndim ? t->shape[i] : 1;
    if (t->ndim < 4) {
        free(rows);
        return v;
    }
    const int64_t C = shape[1], pixels = shape[2] * shape[3];
    for (int64_t n = 0; n < shape[0]; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t p = 0; p < pixels; p++)
                rows[(n * pixels + p) * C + c] = v[(n * C + c) * pixels + p];
    free(v);
    return rows;
}

/* One call of the networks for both of guidance's halves; the file's samples are the references of
 * both, then the halves. */
static void expect(const char *name, float fidelity, float weight)
{
    int64_t shape[4], text[4], times[4], wanted[4];
    float *x = read_rows("x", shape), *context = read_rows("context", text),
          *t = read_rows("t", times), *want = read_rows(name, wanted);
    const float *y = NULL;
    cn_params *params = NULL;
    cn_denoiser *d = NULL;
    must(cn_net_params(ctx, CN_NET_UNET, &params));
    const cn_draw_spec spec = {.unet = &config,
                               .unet_params = params,
                               .batch = 1,
                               .latent_h = shape[2],
                               .latent_w = shape[3],
                               .context_length = text[1],
                               .guidance = true,
                               .reference = weight > 0,
                               .reference_weight = weight,
                               .style_fidelity = fidelity};
    must(cn_denoiser_create(ctx, env.backend, &spec, 2, &d));
    must(fixture_fill(&small, manifest, params, NULL));
    const int64_t first = 2 - cn_draw_references(&spec), one = shape[1] * shape[2] * shape[3];
    const cn_denoise_input in = {.x = x + first * one,
                                 .latents = x + first * one,
                                 .times = t + first,
                                 .context = context + first * text[1] * text[2],
                                 .unconditional = 1};
    cn_denoiser_begin(d);
    must(cn_denoiser_run(d, 0, 0, NULL, &in, &y));
    const double error = test_relative(test_compare_f32(y, want, 2 * one));
    if (!(error <= TOLERANCE)) fail_msg("%s: %.2g from the wanted", name, error);
    cn_denoiser_destroy(d);
    cn_params_destroy(params);
    free(x);
    free(context);
    free(t);
    free(want);
}

static void seen_as_in_two_runs(void **state)
{
    (void)state;
    expect("plain", 0, 0);
    expect("prompt", 0, 1);
    expect("balanced", 0.5f, 1);
    expect("control", 1, 1);
    expect("part", 0.25f, 0.5f);
}

/* Their hints are for all samples of the UNet. */
static void not_beside_every_kind(void **state)
{
    (void)state;
    cn_draw *draw = NULL;
    const cn_draw_spec spec = {.unet = &config,
                               .batch = 1,
                               .latent_h = 8,
                               .latent_w = 8,
                               .controls = {{.kind = &cn_control_kind_lllite}},
                               .n_controls = 1,
                               .reference = true};
    refused(cn_draw_create(ctx, env.backend, &spec, &draw), CN_EINVAL,
            "a reference picture beside ControlNet-LLLite isn't possible");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(seen_as_in_two_runs),
                                       cmocka_unit_test(not_beside_every_kind)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
