/* SPDX-License-Identifier: Apache-2.0 */
/* test_buckets.c - sizes and crops as kohya's scripts choose them, and an epoch's order of units of
 * one size. */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "data/shuffle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

static cn_bucket_rules rules_for(int64_t resolution, int64_t steps, bool no_upscale)
{
    cn_train_options o;
    cn_train_options_default(&o);
    o.resolution = resolution;
    o.bucket_reso_steps = steps;
    o.enable_bucket = true;
    o.bucket_no_upscale = no_upscale;
    return cn_bucket_rules_of(&o);
}

/* sd-scripts, make_bucket_resolutions((512, 512), 256, 1024, 64). */
static void sizes_are_those_of_kohyas_scripts(void **state)
{
    (void)state;
    static const int64_t want[][2] = {{256, 832}, {256, 896}, {256, 960}, {256, 1024}, {320, 704},
                                      {320, 768}, {384, 640}, {448, 576}, {512, 512},  {576, 448},
                                      {640, 384}, {704, 320}, {768, 320}, {832, 256},  {896, 256},
                                      {960, 256}, {1024, 256}};
    cn_train_bucket list[CN_MAX_BUCKETS];
    const cn_bucket_rules r = rules_for(512, 64, false);
    assert_int_equal(cn_bucket_sizes(&r, list), CN_COUNT(want));
    for (size_t i = 0; i < CN_COUNT(want); i++) {
        assert_int_equal(list[i].width, want[i][0]);
        assert_int_equal(list[i].height, want[i][1]);
    }
}

/* What select_bucket chooses there; resized: the picture's width before it is cropped, without
 * upscaling. */
static void pictures_go_where_kohyas_scripts_put_them(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, up[2], shrunk[2], resized;
    } cases[] = {
        {1920, 1080, {640, 384}, {640, 384}, 683}, {1080, 1920, {384, 640}, {384, 640}, 384},
        {512, 512, {512, 512}, {512, 512}, 512},   {640, 480, {576, 448}, {512, 384}, 512},
        {3000, 1000, {832, 256}, {768, 256}, 768}, {704, 320, {704, 320}, {704, 320}, 704},
        {500, 333, {640, 384}, {448, 320}, 500},   {1000, 200, {1024, 256}, {960, 192}, 1000},
    };
    const cn_bucket_rules up = rules_for(512, 64, false), shrunk = rules_for(512, 64, true);
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        const int64_t w = cases[i].width, h = cases[i].height;
        cn_train_bucket b;
        assert_true(cn_bucket_choose(&up, w, h, &b));
        assert_true(b.width == cases[i].up[0] && b.height == cases[i].up[1]);
        assert_true(cn_bucket_zoom(&up, &b, w, h) == 1);
        assert_true(cn_bucket_choose(&shrunk, w, h, &b));
        assert_true(b.width == cases[i].shrunk[0] && b.height == cases[i].shrunk[1]);
        /* the part that is shown, at the scale of `resized` */
        const double cover = CN_MAX((double)b.width / (double)w, (double)b.height / (double)h);
        const double scale = cover / cn_bucket_zoom(&shrunk, &b, w, h);
        assert_true(fabs(scale * (double)w - (double)cases[i].resized) < 1);
    }
    cn_train_bucket none;
    assert_false(cn_bucket_choose(&shrunk, 1000, 40, &none)); /* less than a step */
}

static void defaults_follow_the_resolution(void **state)
{
    (void)state;
    cn_bucket_rules r = rules_for(512, 64, false);
    assert_true(r.min_reso == 256 && r.max_reso == 1024);
    r = rules_for(128, 32, false);
    assert_true(r.min_reso == 64 && r.max_reso == 1024);
    r = rules_for(1024, 64, false);
    assert_true(r.min_reso == 256 && r.max_reso == 2048);
}

/* Three sizes of 5, 7 and 1 pictures and one that can't be read. */
static cn_buckets *make_buckets(void)
{
    static const uint16_t of[] = {0, 1, 1, 0, CN_NO_BUCKET, 1, 2, 0, 1, 1, 0, 1, 0, 1};
    cn_buckets *b = cn_alloc0(ctx, sizeof *b);
    b->rules.enabled = true;
    b->items = CN_COUNT(of);
    b->n = 3;
    b->of = cn_alloc_array(ctx, CN_COUNT(of), sizeof *b->of);
    b->place = cn_alloc_array(ctx, CN_COUNT(of), sizeof *b->place);
    for (size_t i = 0; i < CN_COUNT(of); i++) {
        b->of[i] = of[i];
        if (of[i] != CN_NO_BUCKET) b->place[i] = (uint32_t)b->list[of[i]].count++;
    }
    return b;
}

static void a_unit_holds_one_size(void **state)
{
    (void)state;
    enum { UNIT = 3, EPOCH = 6 + 9 + 3 };
    cn_buckets *b = make_buckets();
    cn_shuffle *s = NULL, *later = NULL;
    bool units_moved = false;
    const cn_shuffle_options o = {
        .seed = 4, .buckets = b, .unit = UNIT, .timesteps = 1000, .crops = true};
    must(cn_shuffle_create(ctx, &o, &s));
    must(cn_shuffle_create(ctx, &o, &later));
    assert_int_equal(cn_buckets_epoch(b, UNIT), EPOCH);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int seen[14] = {0}, last = -1;
        for (int64_t k = 0; k < EPOCH; k++) {
            const cn_sample x = cn_shuffle_sample(s, epoch * EPOCH + k);
            const int bucket = cn_buckets_of(b, x.item);
            seen[x.item]++;
            assert_true(x.off_x >= -0.5 && x.off_x < 0.5 && x.off_y >= -0.5 && x.off_y < 0.5);
            if (k % UNIT) assert_int_equal(bucket, last);
            units_moved |= k % UNIT == 0 && bucket < last;
            last = bucket;
        }
        for (int i = 0; i < 14; i++) /* all but the broken one, few of them twice, one thrice */
            assert_true(i == 4 ? seen[i] == 0 : seen[i] >= 1 && seen[i] <= (i == 6 ? 3 : 2));
    }
    assert_true(units_moved);
    const cn_sample x = cn_shuffle_sample(s, 41), y = cn_shuffle_sample(later, 41);
    assert_true(x.item == y.item && x.noise_seed == y.noise_seed && x.off_x == y.off_x);
    cn_shuffle_destroy(s);
    cn_shuffle_destroy(later);
    cn_buckets_destroy(b);
}

/* Sizes from headers, on two threads; one picture is broken. */
static void sizes_are_found_in_headers(void **state)
{
    (void)state;
    char dir[128], path[256];
    cn_dataset *d = NULL;
    cn_buckets *b = NULL;
    snprintf(dir, sizeof dir, "%s/mixed", root);
    must(tiny_mixed_write(ctx, dir, 12));
    must(cn_dataset_open(ctx, &(cn_dataset_options){.dir = dir}, &d));
    const cn_bucket_rules r = rules_for(TINY_PX, 8, false);
    must(cn_buckets_create(ctx, d, d->n, &r, false, NULL, NULL, &b));
    assert_int_equal(b->n, 3); /* 8 x 32, 16 x 16, 24 x 8 or so: see tiny_mixed_write */
    int64_t count = 0;
    for (int k = 0; k < b->n; k++) count += b->list[k].count;
    assert_int_equal(count, 12);
    for (int64_t i = 0; i < d->n; i++) {
        int64_t w = 0, h = 0;
        cn_train_bucket want;
        must(cn_dataset_size(ctx, d, i, &w, &h));
        assert_true(cn_bucket_choose(&r, w, h, &want));
        const cn_train_bucket *got = &b->list[cn_buckets_of(b, i)];
        assert_true(got->width == want.width && got->height == want.height);
    }
    cn_buckets_destroy(b);
    snprintf(path, sizeof path, "%s/target/5.png", dir);
    must(cn_file_write(ctx, path, "nothing", 7));
    assert_int_equal(cn_buckets_create(ctx, d, d->n, &r, false, NULL, NULL, &b), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "prompt.json:6"));
    must(cn_buckets_create(ctx, d, d->n, &r, true, NULL, NULL, &b));
    assert_int_equal(cn_buckets_of(b, 5), CN_NO_BUCKET);
    cn_buckets_destroy(b);
    cn_dataset_close(d);
}

/* A ramp whose pixels say where they were. */
static cn_image *ramp(int64_t width, int64_t height)
{
    cn_image *image = NULL;
    must(cn_image_create(ctx, width, height, &image));
    for (int64_t i = 0; i < width * height; i++) {
        image->rgb[3 * i] = (uint8_t)(i % width);
        image->rgb[3 * i + 1] = (uint8_t)(i / width);
    }
    return image;
}

static void a_crop_is_the_part_it_names(void **state)
{
    (void)state;
    static const struct {
        cn_crop crop;
        int64_t width, height;
        int x, y; /* of the first pixel */
    } cases[] = {
        {{0, 0, 1}, 40, 40, 0, 0},         {{1, 1, 1}, 40, 40, 60, 0},
        {{0.999999, 0, 1}, 40, 40, 60, 0}, {{0.5, 0.5, 1}, 40, 40, 30, 0},
        {{0, 1, 0.5}, 20, 20, 0, 20},      {{0.5, 0.5, 0.5}, 20, 20, 40, 10},
    };
    cn_image *in = ramp(100, 40);
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_image *out = NULL;
        must(cn_image_resize_crop(ctx, in, cases[i].width, cases[i].height, cases[i].crop, &out));
        assert_int_equal(out->rgb[0], cases[i].x);
        assert_int_equal(out->rgb[1], cases[i].y);
        assert_int_equal(out->rgb[3 * (out->width * out->height - 1)],
                         cases[i].x + cases[i].width - 1); /* nothing was scaled */
        cn_image_destroy(out);
    }
    cn_image_destroy(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_those_of_kohyas_scripts),
        cmocka_unit_test(pictures_go_where_kohyas_scripts_put_them),
        cmocka_unit_test(defaults_follow_the_resolution),
        cmocka_unit_test(a_unit_holds_one_size),
        cmocka_unit_test(sizes_are_found_in_headers),
        cmocka_unit_test(a_crop_is_the_part_it_names),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
