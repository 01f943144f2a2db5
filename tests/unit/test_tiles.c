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

enum { SIDE = 48, PX = 8 * SIDE, TILE = 24, SCENES = 6 }; /* latents, pixels, latents */

static const size_t PICTURE_BYTES = (size_t)PX * PX * 3;

static test_env env;
static cn_base *base;
static cn_params *vae;
static uint8_t *picture; /* scenes, [SCENES,PX,PX,3] */

static int open_all(void **state)
{
    (void)state;
    if (!test_env_open(&env, 0)) return 1;
    if (cn_base_open(env.ctx, "models/tiny-sd", &base) != CN_OK) return 1;
    if (cn_net_params(env.ctx, CN_NET_VAE, &vae) != CN_OK) return 1;
    picture = malloc(SCENES * PICTURE_BYTES);
    for (int k = 0; picture && k < SCENES; k++) {
        cn_scene scene;
        cn_scene_maps maps = {.rgb = picture + k * PICTURE_BYTES};
        cn_scene_generate_n(5, 3 + k, 3, &scene);
        if (cn_scene_render(env.ctx, &scene, PX, &maps) != CN_OK) return 1;
    }
    return !picture;
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

static size_t latents_count(void)
{
    return (size_t)(SIDE * SIDE * base->vae.latent_channels);
}

static void encode(const uint8_t *rgb, int64_t tile, float *latents)
{
    cn_encode *e = NULL;
    cn_vae_spec spec = spec_of(tile);
    float *image = malloc((size_t)PX * PX * 3 * sizeof *image);
    float *noise = calloc(latents_count(), sizeof *noise);
    assert_true(image && noise);
    for (int64_t i = 0; i < PX * PX * 3; i++) image[i] = (float)rgb[i] / 127.5f - 1;
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

/* Sums of jumps at the tiles' borders inside the pictures, and of those one latent beside them,
 * where a picture is much the same; columns, rows. */
typedef struct {
    double at[2], beside[2];
} seams;

static void add_seams(const uint8_t *a, const uint8_t *b, seams *s)
{
    cn_tiles t;
    assert_int_equal(cn_tiles_make(env.ctx, SIDE, TILE, 8, &t), CN_OK);
    for (int direction = 0; direction < 2; direction++) {
        for (int64_t i = 0; i < 2 * t.n; i++) {
            const int64_t border = t.start[i / 2] + (i % 2 ? t.tile : 0);
            const int64_t x = 8 * border - 1;
            if (border <= 0 || border >= SIDE) continue;
            s->at[direction] += jump(a, b, x, direction == 1);
            s->beside[direction] += jump(a, b, x - 8, direction == 1) / 2;
            s->beside[direction] += jump(a, b, x + 8, direction == 1) / 2;
        }
    }
    cn_tiles_free(&t);
}

/* The worse direction's mean jump over that beside the borders. */
static double worst_ratio(const seams *s)
{
    return fmax(s->at[0] / s->beside[0], s->at[1] / s->beside[1]);
}

static double psnr_db(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;
    for (int64_t i = 0; i < PX * PX * 3; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return 10 * log10(255.0 * 255.0 * PX * PX * 3 / sum);
}

/* With statistics of their own tiles of this size give 36.8 dB decoded; weighed alike where they
 * overlap, a jump of 9.5. Differences are a level of 255 at most, so that a border of one scene
 * alone says little. */
static void tiles_show_no_seam(void **state)
{
    (void)state;
    float *latents = malloc(latents_count() * sizeof *latents);
    uint8_t *whole = malloc(PICTURE_BYTES), *tiled = malloc(PICTURE_BYTES);
    double decoded_db = INFINITY, encoded_db = INFINITY;
    seams decoded = {0}, encoded = {0};
    assert_true(latents && whole && tiled);
    for (int k = 0; k < SCENES; k++) {
        const uint8_t *scene = picture + k * PICTURE_BYTES;
        encode(scene, 0, latents);
        decode(0, latents, whole);
        decode(TILE, latents, tiled);
        decoded_db = fmin(decoded_db, psnr_db(whole, tiled));
        add_seams(whole, tiled, &decoded);
        encode(scene, TILE, latents);
        decode(0, latents, tiled);
        encoded_db = fmin(encoded_db, psnr_db(whole, tiled));
        add_seams(whole, tiled, &encoded);
    }
    printf("decoded in tiles: %.1f dB of the whole, jump at borders %.2f of that beside them\n",
           decoded_db, worst_ratio(&decoded));
    printf("encoded in tiles: %.1f dB of the whole, jump at borders %.2f of that beside them\n",
           encoded_db, worst_ratio(&encoded));
    assert_true(decoded_db > 41 && worst_ratio(&decoded) < 1.3);
    assert_true(encoded_db > 45 && worst_ratio(&encoded) < 1.3);
    free(latents);
    free(whole);
    free(tiled);
}

static void one_tile_is_the_whole(void **state)
{
    (void)state;
    float *latents = malloc(latents_count() * sizeof *latents);
    uint8_t *whole = malloc(PICTURE_BYTES), *tiled = malloc(PICTURE_BYTES);
    assert_true(latents && whole && tiled);
    encode(picture, 0, latents);
    decode(0, latents, whole);
    decode(SIDE, latents, tiled);
    assert_memory_equal(whole, tiled, PICTURE_BYTES);
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
