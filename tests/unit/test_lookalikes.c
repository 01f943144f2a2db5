/* SPDX-License-Identifier: Apache-2.0 */
/* Perceptual hashes, and which pictures look like an earlier one: compared with every pair of
 * hashes. */
#include "data/lookalikes.h"
#include "image/phash.h"
#include "image/resize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static cn_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    return (ctx = cn_ctx_create(2)) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return 0;
}

/* Soft blobs of colour, another picture for each seed. */
static cn_image *blobs(int64_t width, int64_t height, unsigned seed)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, width, height, &image), CN_OK);
    for (int64_t i = 0; i < width * height; i++) {
        const double x = (double)(i % width) / (double)width,
                     y = (double)(i / width) / (double)height;
        for (int c = 0; c < 3; c++) {
            double v = 0;
            for (unsigned k = 0; k < 6; k++) {
                const unsigned h = (seed * 6 + k + 1) * 2654435761u;
                const double dx = x - (h >> 24) / 255.0, dy = y - (h >> 16 & 255) / 255.0;
                v += ((h >> (4 * c) & 255) - 100.0) / (1 + 40 * (dx * dx + dy * dy));
            }
            image->rgb[3 * i + c] = (uint8_t)CN_MAX(0, CN_MIN(255, 128 + v / 2));
        }
    }
    return image;
}

static uint64_t hash_of(const cn_image *image)
{
    uint64_t hash = 0;
    assert_int_equal(cn_image_phash(ctx, image, &hash), CN_OK);
    return hash;
}

/* The definition: a picture that is one cosine has that coefficient high. Grey 128 + 60 cos(pi k
 * (2x
 * + 1) / 64) of k = 3 along x: of the 64 only coefficient (0, 0) and (0, 3) lie above the median,
 * the others differ from 0 by rounding alone. */
static void a_cosine_has_its_bit(void **state)
{
    (void)state;
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, 32, 32, &image), CN_OK);
    for (int i = 0; i < 32 * 32; i++)
        memset(image->rgb + 3 * i,
               (int)(128.5 + 60 * __builtin_cos(3.14159265358979 * 3 * (2 * (i % 32) + 1) / 64)),
               3);
    const uint64_t hash = hash_of(image);
    assert_true(hash >> 63 & 1); /* row 0, column 0 */
    /* the transform is transposed twice, so column 3 of row 0 is the fourth bit */
    assert_true(hash >> (63 - 3) & 1);
    cn_image_destroy(image);
}

static void alike_and_not_alike(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 8; seed++) {
        cn_image *image = blobs(160, 120, seed), *small = NULL, *other = blobs(160, 120, seed + 50);
        assert_int_equal(cn_image_resize(ctx, image, 80, 60, CN_FILTER_AREA, &small), CN_OK);
        uint8_t *bytes = NULL;
        size_t n = 0;
        cn_image *jpeg = NULL;
        assert_int_equal(cn_jpeg_encode(ctx, image, 80, &bytes, &n), CN_OK);
        assert_int_equal(cn_image_load_memory(ctx, bytes, n, &jpeg), CN_OK);
        const uint64_t h = hash_of(image);
        assert_true(__builtin_popcountll(h ^ hash_of(small)) <= CN_LOOKALIKE_NEAR_BITS);
        assert_true(__builtin_popcountll(h ^ hash_of(jpeg)) <= CN_LOOKALIKE_NEAR_BITS);
        assert_true(__builtin_popcountll(h ^ hash_of(other)) > CN_LOOKALIKE_NEAR_BITS);
        cn_free(bytes);
        cn_image_destroy(image);
        cn_image_destroy(small);
        cn_image_destroy(jpeg);
        cn_image_destroy(other);
    }
}

enum { N = 3000 };

/* Every tenth hash is an earlier one with up to nine bits turned. */
static void fill(uint64_t *hashes, uint8_t *valid)
{
    cn_rng r;
    cn_rng_seed(&r, 7);
    for (int i = 0; i < N; i++) {
        hashes[i] = cn_rng_u64(&r);
        valid[i] = i % 17 != 3;
        if (i % 10 != 9) continue;
        hashes[i] = hashes[cn_rng_below(&r, i)];
        for (int64_t k = cn_rng_below(&r, 10); k > 0; k--)
            hashes[i] ^= UINT64_C(1) << cn_rng_below(&r, 64);
    }
}

static void as_every_pair_says(void **state)
{
    (void)state;
    uint64_t hashes[N];
    uint8_t valid[N];
    int32_t earlier[N];
    fill(hashes, valid);
    for (int bits = 0; bits <= CN_LOOKALIKE_MAX_BITS; bits++) {
        int found = 0;
        assert_int_equal(cn_lookalikes_find(ctx, hashes, valid, N, bits, earlier), CN_OK);
        for (int i = 0; i < N; i++) {
            int32_t want = -1;
            for (int j = 0; valid[i] && want < 0 && j < i; j++)
                if (valid[j] && __builtin_popcountll(hashes[i] ^ hashes[j]) <= bits) want = j;
            assert_int_equal(earlier[i], want);
            found += want >= 0;
        }
        assert_true(found > 20);
    }
    assert_int_equal(cn_lookalikes_find(ctx, hashes, valid, N, 8, earlier), CN_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cosine_has_its_bit),
        cmocka_unit_test(alike_and_not_alike),
        cmocka_unit_test(as_every_pair_says),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
