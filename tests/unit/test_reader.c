/* SPDX-License-Identifier: Apache-2.0 */
/* test_reader.c - exact answers agree with their scene in every condition, spoilt ones don't; what
 * a reader has learned survives its file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "pretrain/reader.h"
#include "pretrain/reader_truth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PX = CN_READER_PX, PIXELS = PX * PX, CHANNELS = CN_READER_CHANNELS };

static cn_ctx *ctx;
static float answer[PIXELS * CHANNELS], spoilt[PIXELS * CHANNELS];

static void must(cn_status s)
{
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
}

static double score_of(cn_reader_truth *t, const float *maps, int condition, bool *applies)
{
    double score = -1;
    must(cn_reader_truth_agreement(t, maps, (cn_scene_condition)condition, applies, &score));
    return score;
}

/* Everything three pixels further right, and the left columns again. */
static void shift(const float *in, float *out)
{
    for (int y = 0; y < PX; y++)
        for (int x = 0; x < PX; x++)
            memcpy(out + ((int64_t)y * PX + x) * CHANNELS,
                   in + ((int64_t)y * PX + (x > 3 ? x - 3 : 0)) * CHANNELS, CHANNELS * sizeof *out);
}

static void exact_answers_agree_and_shifted_ones_less(void **state)
{
    (void)state;
    cn_reader_truth *t = NULL;
    int applied[CN_CONDITION_COUNT] = {0};
    must(cn_reader_truth_create(ctx, &t));
    for (uint64_t i = 0; i < 6; i++) {
        cn_scene scene;
        cn_scene_generate_with(5, i, i % 2 ? CN_SHAPE_PERSON : CN_SHAPE_CUBE, &scene);
        must(cn_reader_truth_find(t, &scene));
        cn_reader_truth_maps(t, answer);
        shift(answer, spoilt);
        for (int c = 0; c < CN_CONDITION_COUNT; c++) {
            bool applies;
            const double exact = score_of(t, answer, c, &applies);
            if (!applies) continue;
            const double less = score_of(t, spoilt, c, &applies);
            /* Points are found to a pixel; bytes round directions. */
            const double most = c == CN_CONDITION_POSE ? 0.85 : 0.99;
            if (exact < most || exact > 1 + 1e-9 || less > exact - 0.01)
                fail_msg("%s of scene %d: %.4f, shifted %.4f", cn_scene_condition_name(c), (int)i,
                         exact, less);
            applied[c]++;
        }
    }
    for (int c = 0; c < CN_CONDITION_COUNT; c++) assert_true(applied[c] >= 3);
    cn_reader_truth_destroy(t);
}

static void nobody_in_a_scene_is_no_measure_of_poses(void **state)
{
    (void)state;
    cn_reader_truth *t = NULL;
    cn_scene scene;
    bool applies = true;
    must(cn_scene_prompt(ctx, CN_SHAPE_SPHERE, CN_COLOUR_RED, CN_MATERIAL_MATTE, CN_GROUND_GREEN,
                         CN_SKY_BLUE, 1, &scene));
    must(cn_reader_truth_create(ctx, &t));
    must(cn_reader_truth_find(t, &scene));
    cn_reader_truth_maps(t, answer);
    (void)score_of(t, answer, CN_CONDITION_POSE, &applies);
    assert_false(applies);
    cn_reader_truth_destroy(t);
}

static double depth_read_by(cn_reader *r, const cn_scene *scene, const uint8_t *rgb)
{
    bool applies;
    double score = 0;
    must(cn_reader_agreement(r, rgb, PX, scene, CN_CONDITION_DEPTH, &applies, &score));
    return score;
}

/* Sky and ground alone give a depth that a few steps find. */
static void a_reader_learns_and_is_read_back(void **state)
{
    (void)state;
    cn_backend *be = NULL;
    cn_reader *trained = NULL, *read = NULL, *none = NULL;
    cn_scene scene;
    char path[] = "/tmp/test_reader_XXXXXX";
    static uint8_t rgb[PIXELS * 3];
    const cn_scene_maps maps = {.rgb = rgb};
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    must(cn_backend_cpu_create(ctx, &be));
    must(cn_reader_train(ctx, be, &(cn_small_net_options){.seed = 3, .steps = 8}, &trained));
    must(cn_reader_save(trained, path));
    must(cn_reader_load(ctx, be, path, &read));
    cn_scene_generate(4, 1000, &scene);
    must(cn_scene_render(ctx, &scene, PX, &maps));
    const double score = depth_read_by(trained, &scene, rgb);
    assert_true(score > 0.2);
    assert_true(score == depth_read_by(read, &scene, rgb));
    bool applies;
    double unused;
    assert_int_equal(
        cn_reader_agreement(read, rgb, PX - 1, &scene, CN_CONDITION_DEPTH, &applies, &unused),
        CN_EINVAL);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs("no network", f);
    fclose(f);
    assert_int_not_equal(cn_reader_load(ctx, be, path, &none), CN_OK);
    assert_null(none);
    unlink(path);
    cn_reader_destroy(trained);
    cn_reader_destroy(read);
    be->destroy(be);
}

static int start(void **state)
{
    (void)state;
    return !(ctx = cn_ctx_create(2));
}

static int end(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_answers_agree_and_shifted_ones_less),
        cmocka_unit_test(nobody_in_a_scene_is_no_measure_of_poses),
        cmocka_unit_test(a_reader_learns_and_is_read_back),
    };
    return cmocka_run_group_tests(tests, start, end);
}
