/* SPDX-License-Identifier: Apache-2.0 */
/* test_strokes.c - the blur's weights on an impulse, thinning, label colours. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "annotate/annotate.h"
#include "image/blur.h"
#include "annotate/strokes.h"
#include "annotate/synthesis.h"
#include "annotate/xdog.h"

static int setup(void **state)
{
    *state = cn_ctx_create(1);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    cn_ctx_destroy(*state);
    return 0;
}

/* OpenCV's 8-bit weights for sigma 0.8 are 0 6 58 128 58 6 0, in 1/256. */
static void an_impulse_shows_the_weights(void **state)
{
    enum { N = 9 };
    static const int weights[N] = {0, 0, 6, 58, 128, 58, 6, 0, 0};
    uint8_t in[N * N] = {0}, out[N * N];
    in[4 * N + 4] = 255;
    assert_int_equal(cn_gaussian_blur_u8(*state, in, N, N, 1, 0.8, out), CN_OK);
    for (int y = 0; y < N; y++)
        for (int x = 0; x < N; x++)
            assert_int_equal(out[y * N + x],
                             (255 * weights[y] * weights[x] + (1 << 15)) / (1 << 16));
}

static void a_flat_picture_stays_flat(void **state)
{
    uint8_t in[5 * 3 * 3], out[5 * 3 * 3];
    memset(in, 77, sizeof in);
    assert_int_equal(cn_gaussian_blur_u8(*state, in, 5, 3, 3, 3, out), CN_OK);
    assert_memory_equal(in, out, sizeof in);
    float one = 0.25f, blurred = 0;
    assert_int_equal(cn_gaussian_blur_f32(*state, &one, 1, 1, 1, 3, &blurred), CN_OK);
    assert_true(fabsf(blurred - one) < 1e-6f);
    assert_int_equal(cn_gaussian_blur_f32(*state, &one, 1, 1, 1, 0, &blurred), CN_EINVAL);
    assert_int_equal(cn_gaussian_blur_f32(*state, &one, 1, 1, 1, NAN, &blurred), CN_EINVAL);
}

static void the_step_has_three_levels(void **state)
{
    (void)state;
    assert_true(cn_safe_step(0.0f) == 0.0f && cn_safe_step(0.3f) == 0.0f);
    assert_true(cn_safe_step(0.5f) == 0.5f && cn_safe_step(0.9f) == 1.0f);
    assert_true(cn_safe_step(1.0f) == 1.5f);
}

/* A wide soft bar leaves one stroke along its middle; an empty map leaves none. */
static void a_bar_becomes_a_stroke(void **state)
{
    enum { W = 64, H = 48 };
    cn_image *bar = NULL, *made = NULL;
    cn_annotate_args args;
    cn_annotate_defaults(cn_kind_find("strokes"), &args);
    assert_int_equal(cn_image_create(*state, W, H, &bar), CN_OK);
    assert_int_equal(cn_annotate(*state, &args, bar, &made), CN_OK);
    for (int i = 0; i < 3 * W * H; i++) assert_int_equal(made->rgb[i], 0);
    cn_image_destroy(made);
    for (int y = 0; y < H; y++) memset(bar->rgb + 3 * (y * W + 27), 255, 3 * 11);
    assert_int_equal(cn_annotate(*state, &args, bar, &made), CN_OK);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int value = made->rgb[3 * (y * W + x)];
            assert_true(value == 0 || value == 255);
            if (x == 32) assert_int_equal(value, 255);
            if (x < 10 || x > 54) assert_int_equal(value, 0);
        }
    cn_image_destroy(made);
    cn_image_destroy(bar);
}

static cn_image *golden(cn_ctx *ctx, const char *name)
{
    char path[256];
    cn_image *image = NULL;
    snprintf(path, sizeof path, "tests/golden/opencv/%s.png", name);
    if (cn_image_load(ctx, path, &image) != CN_OK) fail_msg("%s", cn_error(ctx));
    return image;
}

static void xdog_as_opencv_computes_it(void **state)
{
    static const struct {
        const char *name;
        double threshold;
    } cases[] = {{"xdog_32", 32}, {"xdog_8", 8}};
    cn_image *in = golden(*state, "photo"), *made = NULL;
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_image *wanted = golden(*state, cases[i].name);
        assert_int_equal(cn_scribble_xdog(*state, in, cases[i].threshold, &made), CN_OK);
        assert_memory_equal(made->rgb, wanted->rgb, (size_t)(3 * in->width * in->height));
        cn_image_destroy(made);
        cn_image_destroy(wanted);
    }
    cn_image_destroy(in);
}

static int64_t count_lit(const cn_image *image)
{
    int64_t n = 0;
    for (int64_t i = 0; i < image->width * image->height; i++) {
        assert_true(image->rgb[3 * i] == 0 || image->rgb[3 * i] == 255);
        n += image->rgb[3 * i] != 0;
    }
    return n;
}

/* Rings and bars of all strengths. */
static cn_image *soft_edges(cn_ctx *ctx)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, 200, 160, &image), CN_OK);
    for (int y = 0; y < 160; y++)
        for (int x = 0; x < 200; x++) {
            const double r = hypot(x - 100, y - 80);
            memset(image->rgb + 3 * (y * 200 + x), (int)(127.5 + 127.5 * cos(r / 4)), 3);
        }
    return image;
}

static void synthesis_follows_its_seed_and_rules(void **state)
{
    const cn_synthesis_rules plain = {100, 100, 0, 0, 0}, usual = {40, 160, 0.5, 0.6, 3},
                             none = {0, 254, 0.5, 1, 8};
    cn_image *edges = soft_edges(*state), *a = NULL, *b = NULL;
    bool shape[2] = {false, false};
    assert_int_equal(cn_scribble_synthesis(*state, edges, &plain, 1, &a), CN_OK);
    int64_t above = 0, all = 0;
    for (int i = 0; i < 200 * 160; i++) {
        above += edges->rgb[3 * i] > 100;
        all += (edges->rgb[3 * i] > 100) == (a->rgb[3 * i] != 0);
    }
    /* without chance a plain threshold, but for the lines that a third of the seeds break */
    assert_true(all == 200 * 160 || count_lit(a) < above);
    cn_image_destroy(a);
    for (uint64_t seed = 0; seed < 24; seed++) {
        assert_int_equal(cn_scribble_synthesis(*state, edges, &usual, seed, &a), CN_OK);
        assert_int_equal(cn_scribble_synthesis(*state, edges, &usual, seed, &b), CN_OK);
        assert_memory_equal(a->rgb, b->rgb, 3 * 200 * 160);
        cn_image_destroy(b);
        assert_int_equal(cn_scribble_synthesis(*state, edges, &usual, seed + 1000, &b), CN_OK);
        assert_true(memcmp(a->rgb, b->rgb, 3 * 200 * 160) != 0);
        shape[count_lit(a) > above / 2] = true;
        cn_image_destroy(a);
        cn_image_destroy(b);
        assert_int_equal(cn_scribble_synthesis(*state, edges, &none, seed, &a), CN_OK);
        cn_image_destroy(a);
    }
    assert_true(shape[0] && shape[1]); /* thin and thick ones */
    memset(edges->rgb, 0, 3 * 200 * 160);
    assert_int_equal(cn_scribble_synthesis(*state, edges, &usual, 3, &a), CN_OK);
    assert_int_equal(count_lit(a), 0);
    cn_image_destroy(a);
    cn_image_destroy(edges);
}

enum { LINES = 128, LINE_AT = 64 };

/* A line of two strong pixels with weak rims: upright, level, and at 27 degrees. */
static double beside_line(int direction, int x, int y)
{
    const double d = direction == 0   ? x - LINE_AT
                     : direction == 1 ? y - LINE_AT
                                      : (2 * (y - LINE_AT) - (x - LINE_AT)) / sqrt(5);
    return fabs(d + 0.5);
}

static cn_image *thin_line(cn_ctx *ctx, int direction)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, LINES, LINES, &image), CN_OK);
    for (int y = 0; y < LINES; y++)
        for (int x = 0; x < LINES; x++) {
            const double d = beside_line(direction, x, y);
            memset(image->rgb + 3 * (y * LINES + x), d < 1 ? 191 : d < 2 ? 64 : 0, 3);
        }
    return image;
}

/* The share of the line's strong pixels with a stroke at most two pixels away. */
static double line_left(const cn_image *edges, const cn_image *made)
{
    int strong = 0, left = 0;
    for (int y = 2; y < LINES - 2; y++)
        for (int x = 2; x < LINES - 2; x++) {
            if (edges->rgb[3 * (y * LINES + x)] != 191) continue;
            bool near = false;
            for (int v = y - 2; v <= y + 2; v++)
                for (int u = x - 2; u <= x + 2; u++) near |= made->rgb[3 * (v * LINES + u)] != 0;
            strong++;
            left += near;
        }
    assert_true(strong > LINES);
    return (double)left / strong;
}

/* What no piece is left out of has all its lines, whatever threshold, blur and shape are drawn. */
static void thin_lines_stay(void **state)
{
    static const cn_synthesis_rules whole = {40, 160, 0.5, 0, 3};
    for (int direction = 0; direction < 3; direction++) {
        cn_image *edges = thin_line(*state, direction), *made = NULL;
        for (uint64_t seed = 0; seed < 60; seed++) {
            assert_int_equal(cn_scribble_synthesis(*state, edges, &whole, seed, &made), CN_OK);
            const double left = line_left(edges, made);
            if (left < 0.9)
                fail_msg("direction %d, seed %d: %.2f left", direction, (int)seed, left);
            cn_image_destroy(made);
        }
        cn_image_destroy(edges);
    }
}

static void labels_become_colours(void **state)
{
    cn_image *labels = NULL, *made = NULL;
    cn_annotate_args args;
    cn_annotate_defaults(cn_kind_find("seg-ade"), &args);
    assert_int_equal(cn_image_create(*state, 3, 1, &labels), CN_OK);
    memset(labels->rgb + 3, 3, 3);   /* sky */
    memset(labels->rgb + 6, 151, 3); /* no such class */
    assert_int_equal(cn_annotate(*state, &args, labels, &made), CN_OK);
    static const uint8_t wanted[9] = {0, 0, 0, 6, 230, 230, 0, 0, 0};
    assert_memory_equal(made->rgb, wanted, sizeof wanted);
    cn_image_destroy(made);
    labels->rgb[0] = 1;
    assert_int_equal(cn_annotate(*state, &args, labels, &made), CN_EINVAL);
    cn_image_destroy(labels);
}

/* In float32 as OpenCV and numpy; a value next to a whole number may fall on either side of it. */
static void lineart_standard_as_opencv_computes_it(void **state)
{
    cn_image *in = NULL, *want = NULL, *made = NULL;
    cn_annotate_args args;
    assert_int_equal(cn_image_load(*state, "tests/golden/opencv/photo.png", &in), CN_OK);
    assert_int_equal(cn_image_load(*state, "tests/golden/opencv/lineart_standard.png", &want),
                     CN_OK);
    assert_int_equal(cn_annotate_read(*state, "lineart-standard", &args), CN_OK);
    assert_int_equal(cn_annotate(*state, &args, in, &made), CN_OK);
    const int64_t bytes = 3 * want->width * want->height;
    int64_t other = 0, lit = 0;
    for (int64_t i = 0; i < bytes; i++) {
        assert_true(abs(made->rgb[i] - want->rgb[i]) <= 1);
        other += made->rgb[i] != want->rgb[i];
        lit += want->rgb[i] > 127;
    }
    assert_true(lit > bytes / 100 && other <= bytes / 1000);
    cn_image_destroy(made);
    memset(in->rgb, 200, (size_t)bytes); /* no lines */
    assert_int_equal(cn_annotate(*state, &args, in, &made), CN_OK);
    for (int64_t i = 0; i < bytes; i++) assert_int_equal(made->rgb[i], 0);
    cn_image_destroy(made);
    cn_image_destroy(want);
    cn_image_destroy(in);
}

/* Kinds without a network, at sizes where neighbours are missing. */
static void every_kind_at_tiny_sizes(void **state)
{
    static const int64_t sizes[][2] = {{1, 1}, {1, 70}, {70, 1}, {2, 3}, {17, 5}};
    for (int i = 0; i < cn_kind_count(); i++) {
        const cn_kind *kind = cn_kind_at(i);
        if (kind->networks[0].net) continue;
        for (size_t k = 0; k < CN_COUNT(sizes); k++) {
            cn_annotate_args args;
            cn_image *in = NULL, *made = NULL;
            assert_int_equal(cn_image_create(*state, sizes[k][0], sizes[k][1], &in), CN_OK);
            cn_annotate_defaults(kind, &args);
            const cn_status s = cn_annotate(*state, &args, in, &made);
            if (kind->takes == CN_TAKES_PICTURE || kind->takes == CN_TAKES_LABELS) {
                if (s != CN_OK) fail_msg("%s: %s", kind->name, cn_error(*state));
                assert_int_equal(made->width, in->width);
                assert_int_equal(made->height, in->height);
            } else {
                assert_int_equal(s, CN_EINVAL);
            }
            cn_image_destroy(made);
            cn_image_destroy(in);
        }
    }
}

/* Dark on light and light on dark give the same strokes. */
static void drawings_of_either_sign(void **state)
{
    cn_image *in = NULL, *dark = NULL, *light = NULL, *made = NULL;
    cn_annotate_args args;
    cn_annotate_defaults(cn_kind_find("scribble"), &args);
    assert_int_equal(cn_image_create(*state, 40, 30, &in), CN_OK);
    memset(in->rgb, 240, 3 * 40 * 30);
    for (int i = 0; i < 30; i++) memset(in->rgb + 3 * (i * 40 + i), 20, 3);
    assert_int_equal(cn_annotate(*state, &args, in, &dark), CN_OK);
    assert_int_equal(count_lit(dark), 30);
    for (int i = 0; i < 3 * 40 * 30; i++) in->rgb[i] = (uint8_t)(255 - in->rgb[i]);
    assert_int_equal(cn_annotate(*state, &args, in, &light), CN_OK);
    assert_memory_equal(dark->rgb, light->rgb, 3 * 40 * 30);
    assert_int_equal(cn_annotate_set(*state, &args, "dark", "1"), CN_OK);
    assert_int_equal(cn_annotate(*state, &args, in, &made), CN_OK);
    assert_int_equal(count_lit(made), 40 * 30 - 30); /* taken at its word */
    cn_image_destroy(made);
    cn_image_destroy(light);
    cn_image_destroy(dark);
    cn_image_destroy(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_impulse_shows_the_weights),
        cmocka_unit_test(a_flat_picture_stays_flat),
        cmocka_unit_test(the_step_has_three_levels),
        cmocka_unit_test(a_bar_becomes_a_stroke),
        cmocka_unit_test(xdog_as_opencv_computes_it),
        cmocka_unit_test(lineart_standard_as_opencv_computes_it),
        cmocka_unit_test(thin_lines_stay),
        cmocka_unit_test(synthesis_follows_its_seed_and_rules),
        cmocka_unit_test(labels_become_colours),
        cmocka_unit_test(every_kind_at_tiny_sizes),
        cmocka_unit_test(drawings_of_either_sign),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
