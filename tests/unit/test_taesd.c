/* SPDX-License-Identifier: Apache-2.0 */
/* test_taesd.c - the tiny autoencoder in its published forms, against diffusers' AutoencoderTiny
 * (tools/make-file-fixtures.py).
 */
#include "../support/unit/unit.h"
#include "../support/values.h"
#include "cpu/cpu.h"
#include "diffuse/sampling.h"
#include "model/checkpoint/vae_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/golden/files/taesd"
enum { H = 16, W = 24, F = 8, C = 4, LATENTS = C * (H / F) * (W / F) };

static cn_backend *backend;
static cn_tensors *expected;

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0 || cn_backend_cpu_create(ctx, &backend) != CN_OK) return -1;
    must(cn_tensors_open(ctx, GOLDEN "/expected.safetensors", &expected));
    return 0;
}

static int tear_down(void **state)
{
    cn_tensors_close(expected);
    backend->destroy(backend);
    return unit_close(state);
}

static void read(const char *name, float *out)
{
    const cn_tensor_info *t = cn_tensors_find(expected, name);
    assert_non_null(t);
    must(cn_tensors_read(ctx, expected, t, out));
}

static cn_vae_spec spec_of(const cn_vae_file *v, cn_params *p)
{
    return (cn_vae_spec){
        .config = &v->config, .params = p, .latent_h = H / F, .latent_w = W / F, .tile = 0};
}

/* Bytes: within one of rounding. */
static void check_decoder(const cn_vae_file *v)
{
    float z[LATENTS], want[3 * H * W];
    uint8_t rgb[3 * H * W];
    cn_params *p = NULL;
    cn_decode *d = NULL;
    read("z", z);
    read("decoded", want);
    must(cn_net_params(ctx, CN_NET_VAE, &p));
    const cn_vae_spec spec = spec_of(v, p);
    must(cn_decode_create(ctx, backend, &spec, &d));
    must(cn_vae_file_load(ctx, v, backend, p));
    must(cn_decode_run(d, z, rgb));
    int inside = 0;
    for (int i = 0; i < H * W; i++)
        for (int c = 0; c < 3; c++) {
            const float x = (want[c * H * W + i] / 2 + 0.5f) * 255;
            inside += x > 0 && x < 255;
            if (fabsf((float)rgb[3 * i + c] - fminf(fmaxf(x, 0), 255)) > 0.51f)
                fail_msg("pixel %d.%d: %d, wanted %g", i, c, rgb[3 * i + c], (double)x);
        }
    assert_true(inside > H * W);
    cn_decode_destroy(d);
    cn_params_destroy(p);
}

/* Sums of some hundred products of F32 in another order. */
static void check_encoder(const cn_vae_file *v)
{
    float planes[3 * H * W], image[3 * H * W], noise[LATENTS], want[LATENTS], got[LATENTS];
    cn_params *p = NULL;
    cn_encode *e = NULL;
    read("image", planes);
    read("latents", want);
    for (int i = 0; i < H * W; i++)
        for (int c = 0; c < 3; c++) image[3 * i + c] = planes[c * H * W + i];
    for (int i = 0; i < LATENTS; i++) noise[i] = i % 2 ? 3 : -3;
    must(cn_net_params(ctx, CN_NET_VAE, &p));
    const cn_vae_spec spec = spec_of(v, p);
    must(cn_encode_create(ctx, backend, &spec, &e));
    must(cn_vae_file_load(ctx, v, backend, p));
    must(cn_encode_run(e, image, noise, got));
    for (int i = 0; i < LATENTS; i++)
        if (fabsf(got[i] - want[i]) > 1e-5f * (1 + fabsf(want[i])))
            fail_msg("latent %d: %g, wanted %g", i, (double)got[i], (double)want[i]);
    cn_encode_destroy(e);
    cn_params_destroy(p);
}

static void every_form_is_diffusers(void **state)
{
    (void)state;
    static const char *const forms[] = {GOLDEN, GOLDEN "/diffusion_pytorch_model.safetensors",
                                        GOLDEN "/taesd_decoder.safetensors",
                                        GOLDEN "/taesd_encoder.safetensors"};
    for (size_t i = 0; i < CN_COUNT(forms); i++) {
        cn_vae_file *v = NULL;
        must(cn_vae_file_open(ctx, forms[i], &v));
        assert_true(v->config.tiny && v->config.levels == 4 && v->config.channels[0] == 8);
        check_decoder(v);
        check_encoder(v);
        cn_vae_file_close(v);
    }
}

/* One half's file alone does its half; what the other lacks is named. */
static void a_half_alone_is_enough_for_its_half(void **state)
{
    (void)state;
    char path[256], *bytes = NULL;
    size_t n = 0;
    cn_vae_file *v = NULL;
    cn_params *p = NULL;
    cn_encode *e = NULL;
    path_in(path, "taesd_decoder.safetensors");
    must(cn_file_read(ctx, GOLDEN "/taesd_decoder.safetensors", 1 << 20, &bytes, &n));
    must(cn_file_write(ctx, path, bytes, n));
    cn_free(bytes);
    must(cn_vae_file_open(ctx, path, &v));
    check_decoder(v);
    must(cn_net_params(ctx, CN_NET_VAE, &p));
    const cn_vae_spec spec = spec_of(v, p);
    must(cn_encode_create(ctx, backend, &spec, &e));
    refused(cn_vae_file_load(ctx, v, backend, p), CN_EMISMATCH, "encoder.0.");
    cn_encode_destroy(e);
    cn_params_destroy(p);
    cn_vae_file_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_diffusers),
        cmocka_unit_test(a_half_alone_is_enough_for_its_half),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
