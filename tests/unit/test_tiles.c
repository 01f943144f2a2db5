/* SPDX-License-Identifier: Apache-2.0 */
/* test_tiles.c - a picture through the VAE in tiles against the same in one piece, with the trained
 * weights of models/tiny-sd; and the tiles' weights by themselves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/env.h"

#include "diffuse/sampling.h"
#include "diffuse/tiles.h"
#include "model/checkpoint/weights.h"
#include "scene/scene.h"

enum { SIDE = 48, PX = 8 * SIDE, TILE = 24, C = 4 }; /* latents, pixels */

static test_env env;
static cn_base *base;
static cn_params *vae;
static uint8_t *picture; /* a scene, [PX,PX,3] */

static int open_all(void **state)
{
    (void)state;
    cn_scene scene;
    if (!test_env_open(&env, 0)) return 1;
    if (cn_base_open(env.ctx, "models/tiny-sd", &base) != CN_OK) return 1;
    if (cn_net_params(env.ctx, CN_NET_VAE, &vae) != CN_OK) return 1;
    cn_scene_generate_n(5, 3, 3, &scene);
    picture = malloc((size_t)PX * PX * 3);
    cn_scene_maps maps = {.rgb = picture};
    return !picture || cn_scene_render(env.ctx, &scene, PX, &maps) != CN_OK;
}

static int close_all(void **state)
{
    (void)state;
    free(picture);
    cn_params_destroy(vae);
    cn_base_close(base);
    test_env_close(&env);
    return 0;
}

static void weights_add_up_to_one(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{48, 16, 8}, {17, 16, 1}, {16, 16, 8}, {5, 64, 8},
                                       {100, 7, 2}, {3, 1, 1},   {9, 0, 4},   {64, 48, 8}};
    for (size_t k = 0; k < CN_COUNT(cases); k++) {
        int64_t size = cases[k][0], tile = cases[k][1], scale = cases[k][2];
        cn_tiles t;
        assert_int_equal(cn_tiles_make(env.ctx, size, tile, scale, &t), CN_OK);
        assert_true(t.start[0] == 0 && t.start[t.n - 1] + t.tile == size);
        for (int64_t at = 0; at < size * scale; at++) {
            double sum = 0;
            for (int64_t i = 0; i < t.n; i++) {
                int64_t x = at - t.start[i] * scale;
                if (x >= 0 && x < t.tile * scale) sum += (double)t.weight[i * t.tile * scale + x];
            }
            assert_true(fabs(sum - 1) < 1e-6);
        }
        for (int64_t i = 1; tile > 3 && i < t.n; i++)
            assert_true(4 * (t.start[i - 1] + t.tile - t.start[i]) >= t.tile);
        cn_tiles_free(&t);
    }
}

static cn_vae_spec spec_of(int64_t tile)
{
    return (cn_vae_spec){
        .config = &base->vae, .params = vae, .latent_h = SIDE, .latent_w = SIDE, .tile = tile};
}

static void encode(int64_t tile, float *latents)
{
    cn_encode *e = NULL;
    cn_vae_spec spec = spec_of(tile);
    float *image = malloc((size_t)PX * PX * 3 * sizeof *image);
    float *noise = calloc((size_t)SIDE * SIDE * C, sizeof *noise);
    assert_true(image && noise);
    for (int64_t i = 0; i < PX * PX * 3; i++) image[i] = (float)picture[i] / 127.5f - 1;
    assert_int_equal(cn_encode_create(env.ctx, env.backend, &spec, &e), CN_OK);
    assert_int_equal(cn_base_load(env.ctx, base, env.backend, vae), CN_OK);
    assert_int_equal(cn_encode_run(e, image, noise, latents), CN_OK);
    cn_encode_destroy(e);
    free(image);
    free(noise);
}

static void decode(int64_t tile, const float *latents, uint8_t *rgb)
{
    cn_decode *d = NULL;
    cn_vae_spec spec = spec_of(tile);
    assert_int_equal(cn_decode_create(env.ctx, env.backend, &spec, &d), CN_OK);
    assert_int_equal(cn_base_load(env.ctx, base, env.backend, vae), CN_OK);
    assert_int_equal(cn_decode_run(d, latents, rgb), CN_OK);
    cn_decode_destroy(d);
}

/* How much the difference of two pictures changes from column x to x + 1, mean over rows and
 * channels. */
static double jump(const uint8_t *a, const uint8_t *b, int64_t x, bool rows)
{
    double sum = 0;
    for (int64_t y = 0; y < PX; y++)
        for (int64_t c = 0; c < 3; c++) {
            int64_t i = rows ? (x * PX + y) * 3 + c : (y * PX + x) * 3 + c;
            int64_t k = rows ? i + (int64_t)PX * 3 : i + 3;
            sum += abs((a[i] - b[i]) - (a[k] - b[k]));
        }
    return sum / (3.0 * PX);
}

/* The mean jump at the tiles' borders inside the picture over that one latent beside them, where
 * the picture is much the same; the worse of both directions. */
static double seam(const uint8_t *a, const uint8_t *b)
{
    cn_tiles t;
    double worst = 0;
    assert_int_equal(cn_tiles_make(env.ctx, SIDE, TILE, 8, &t), CN_OK);
    for (int direction = 0; direction < 2; direction++) {
        double at = 0, beside = 0;
        for (int64_t i = 0; i < 2 * t.n; i++) {
            const int64_t border = t.start[i / 2] + (i % 2 ? t.tile : 0);
            const int64_t x = 8 * border - 1;
            if (border <= 0 || border >= SIDE) continue;
            at += jump(a, b, x, direction == 1);
            beside += jump(a, b, x - 8, direction == 1) / 2;
            beside += jump(a, b, x + 8, direction == 1) / 2;
        }
        worst = fmax(worst, at / beside);
    }
    cn_tiles_free(&t);
    return worst;
}

static double psnr_db(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;
    for (int64_t i = 0; i < PX * PX * 3; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return 10 * log10(255.0 * 255.0 * PX * PX * 3 / sum);
}

/* With statistics of their own tiles of this size give 28.3 dB decoded; weighed alike where they
 * overlap, a jump of 7.0. */
static void tiles_show_no_seam(void **state)
{
    (void)state;
    float *latents = malloc((size_t)SIDE * SIDE * C * sizeof *latents);
    uint8_t *whole = malloc((size_t)PX * PX * 3), *tiled = malloc((size_t)PX * PX * 3);
    assert_true(latents && whole && tiled);
    encode(0, latents);
    decode(0, latents, whole);
    decode(TILE, latents, tiled);
    double db = psnr_db(whole, tiled), ratio = seam(whole, tiled);
    printf("decoded in tiles: %.1f dB of the whole, jump at borders %.2f of that beside "
           "them\n",
           db, ratio);
    assert_true(db > 33 && ratio < 1.3);
    encode(TILE, latents);
    decode(0, latents, tiled);
    db = psnr_db(whole, tiled);
    ratio = seam(whole, tiled);
    printf("encoded in tiles: %.1f dB of the whole, jump at borders %.2f of that beside "
           "them\n",
           db, ratio);
    assert_true(db > 45 && ratio < 1.3);
    free(latents);
    free(whole);
    free(tiled);
}

static void one_tile_is_the_whole(void **state)
{
    (void)state;
    float *latents = malloc((size_t)SIDE * SIDE * C * sizeof *latents);
    uint8_t *whole = malloc((size_t)PX * PX * 3), *tiled = malloc((size_t)PX * PX * 3);
    assert_true(latents && whole && tiled);
    encode(0, latents);
    decode(0, latents, whole);
    decode(SIDE, latents, tiled);
    assert_memory_equal(whole, tiled, (size_t)PX * PX * 3);
    free(latents);
    free(whole);
    free(tiled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_add_up_to_one),
        cmocka_unit_test(tiles_show_no_seam),
        cmocka_unit_test(one_tile_is_the_whole),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
