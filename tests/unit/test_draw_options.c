/* SPDX-License-Identifier: Apache-2.0 */
/* test_draw_options.c - options of a drawing against the same drawing made another way: an initial
 * image brought to size, a control in one of two passes, a seed for each picture of a batch. */
#include "../support/unit/tiny_run.h"
#include "../support/values.h"

#include "image/resize.h"
#include "io/tensors.h"

#include <stdlib.h>
#include <string.h>

static char net[256];

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0) return -1;
    snprintf(net, sizeof net, "%s/net", root);
    cn_train_options o = tiny_options(net);
    o.max_train_steps = 2;
    o.learning_rate = 0.1;
    must(cn_train(ctx, &o, NULL, NULL));
    return 0;
}

static cn_generate_options options_of(void)
{
    cn_generate_options o;
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.steps = 4;
    o.seed = 5;
    return o;
}

static cn_generated *draw(const cn_generate_options *o, bool controlled)
{
    const char *const nets[] = {net};
    const cn_pipeline_options po = {.model = model, .controls = nets, .n_controls = controlled};
    cn_generated *g = NULL;
    cn_pipeline *p = NULL;
    must(cn_pipeline_create(ctx, &po, &p));
    must(cn_generate(p, o, &g));
    cn_pipeline_destroy(p);
    return g;
}

static bool same_picture(const cn_image *a, const cn_image *b)
{
    return a->width == b->width && a->height == b->height &&
           !memcmp(a->rgb, b->rgb, (size_t)(3 * a->width * a->height));
}

static bool draw_the_same(const cn_generate_options *a, bool a_controlled,
                          const cn_generate_options *b, bool b_controlled)
{
    cn_generated *x = draw(a, a_controlled), *y = draw(b, b_controlled);
    const bool same = same_picture(x->images[0], y->images[0]);
    cn_generated_destroy(x);
    cn_generated_destroy(y);
    return same;
}

static cn_image *picture(int64_t width, int64_t height)
{
    cn_image *image = NULL;
    must(cn_image_create(ctx, width, height, &image));
    for (int64_t i = 0; i < 3 * width * height; i++) image->rgb[i] = (uint8_t)(i * 37 % 251);
    return image;
}

/* --- the initial image ------------------------------------------------------------------------ */

/* A picture that was brought to size before is drawn over as one that the option brings there. */
static void test_init_resize(void **state)
{
    (void)state;
    static const struct {
        const char *how;
        cn_status (*resize)(cn_ctx *, const cn_image *, int64_t, int64_t, cn_image **);
    } cases[] = {{NULL, cn_image_resize_cover},
                 {"crop", cn_image_resize_cover},
                 {"stretch", cn_image_resize_stretch},
                 {"fill", cn_image_resize_extend}};
    cn_image *wide = picture(40, 16), *sized = NULL;
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_generate_options a = options_of(), b = options_of();
        must(cases[i].resize(ctx, wide, 24, 16, &sized));
        a.width = b.width = 24;
        a.height = b.height = 16;
        a.strength = b.strength = 0.5;
        a.init_image = wide;
        a.init_resize = cases[i].how;
        b.init_image = sized;
        assert_true(draw_the_same(&a, false, &b, false));
        b.init_resize = "latent"; /* of its own size there is nothing to stretch */
        assert_true(draw_the_same(&a, false, &b, false));
        cn_image_destroy(sized);
    }
    cn_image_destroy(wide);
}

/* The picture goes through the VAE at its own size. */
static void test_latent_resize(void **state)
{
    (void)state;
    cn_image *wide = picture(40, 16);
    cn_generate_options a = options_of(), b = options_of();
    a.width = b.width = 24;
    a.height = b.height = 16;
    a.strength = b.strength = 0.5;
    a.init_image = b.init_image = wide;
    a.init_resize = "latent";
    b.init_resize = "stretch";
    assert_false(draw_the_same(&a, false, &b, false));
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    const cn_pipeline_options po = {.model = model};
    must(cn_pipeline_create(ctx, &po, &p));
    a.mask = wide;
    assert_int_equal(cn_generate(p, &a, &g), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "the mask belongs to pixels"));
    cn_pipeline_destroy(p);
    cn_image_destroy(wide);
}

/* Rows and columns at the edges are repeated; what is inside is the picture as large as fits. */
static void test_extend(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{24, 40}, {50, 20}, {30, 20}};
    cn_image *in = picture(30, 20), *out = NULL;
    for (size_t i = 0; i < CN_COUNT(sizes); i++) {
        const int64_t W = sizes[i][0], H = sizes[i][1];
        must(cn_image_resize_extend(ctx, in, W, H, &out));
        const int64_t w = W * 20 <= H * 30 ? W : H * 30 / 20, h = w * 20 / 30;
        const int64_t left = (W - w) / 2, top = (H - h) / 2;
        cn_image *whole = NULL;
        must(cn_image_resize_stretch(ctx, in, w, h, &whole));
        for (int64_t y = 0; y < H; y++)
            for (int64_t x = 0; x < W; x++) {
                const int64_t v = CN_MIN(CN_MAX(y - top, 0), h - 1);
                const int64_t u = CN_MIN(CN_MAX(x - left, 0), w - 1);
                assert_memory_equal(out->rgb + 3 * (y * W + x), whole->rgb + 3 * (v * w + u), 3);
            }
        cn_image_destroy(whole);
        cn_image_destroy(out);
    }
    cn_image_destroy(in);
}

/* --- passes ----------------------------------------------------------------------------------- */

static void test_control_pass(void **state)
{
    (void)state;
    cn_image *condition = picture(TINY_PX, TINY_PX);
    cn_control_options both = {.image = condition, .strength = 1, .end = 1};
    cn_control_options first = both, second = both;
    first.pass = "first";
    second.pass = "second";
    cn_generate_options none = options_of(), a = options_of(), b = options_of(), c = options_of();
    a.controls = &both;
    b.controls = &first;
    c.controls = &second;
    /* one pass is the first */
    assert_true(draw_the_same(&a, true, &b, true));
    assert_true(draw_the_same(&none, false, &c, true));
    assert_false(draw_the_same(&none, false, &a, true));
    a.hires_scale = b.hires_scale = c.hires_scale = none.hires_scale = 1.5;
    assert_false(draw_the_same(&a, true, &b, true));
    assert_false(draw_the_same(&a, true, &c, true));
    assert_false(draw_the_same(&none, false, &b, true));
    assert_false(draw_the_same(&none, false, &c, true));
    cn_generated *g = draw(&c, true);
    assert_non_null(strstr(g->parameters[0], "Hr Option: High res only"));
    cn_generated_destroy(g);
    cn_image_destroy(condition);
}

/* --- seeds ------------------------------------------------------------------------------------ */

/* Each picture is the one that its seed gives alone, but for the last bits of sums that a larger
 * batch adds in another order: a step of 8 bits in F32. */
static void test_seeds(void **state)
{
    (void)state;
    static const char *const samplers[] = {"ddim", "euler_a", "dpm++2m_sde", "lcm"};
    static const uint64_t seeds[] = {5, 1234567, 9};
    for (size_t k = 0; k < CN_COUNT(samplers); k++) {
        cn_generate_options o = options_of();
        o.sampler = samplers[k];
        o.hires_scale = k == 1 ? 1.5 : 0;
        o.hires_pixels = true;
        o.batch = CN_COUNT(seeds);
        o.seeds = seeds;
        cn_generated *all = draw(&o, false);
        for (size_t i = 0; i < CN_COUNT(seeds); i++) {
            cn_generate_options alone = o;
            alone.batch = 1;
            alone.seeds = NULL;
            alone.seed = seeds[i];
            cn_generated *g = draw(&alone, false);
            assert_string_equal(all->parameters[i], g->parameters[0]);
            const cn_image *x = all->images[i], *y = g->images[0];
            for (int64_t v = 0; v < 3 * x->width * x->height; v++)
                assert_in_range(x->rgb[v] + 1 - y->rgb[v], 0, 2);
            cn_generated_destroy(g);
        }
        cn_generated_destroy(all);
    }
    cn_image *init = picture(TINY_PX, TINY_PX);
    cn_generate_options o = options_of();
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    const cn_pipeline_options po = {.model = model};
    o.seeds = seeds;
    o.init_image = init;
    must(cn_pipeline_create(ctx, &po, &p));
    assert_int_equal(cn_generate(p, &o, &g), CN_EINVAL);
    cn_pipeline_destroy(p);
    cn_image_destroy(init);
}

/* --- a reference ------------------------------------------------------------------------------ */

/* The largest difference of two drawings' latents, to the largest of them. Sums in another order
 * give 1e-6. */
static double differ(cn_generate_options a, cn_generate_options b, bool controlled)
{
    cn_generate_options *const both[] = {&a, &b};
    float *values[2];
    int64_t n = 0;
    for (int k = 0; k < 2; k++) {
        char path[256];
        cn_tensors *file = NULL;
        path_in(path, "latents.safetensors");
        both[k]->save_latents = path;
        cn_generated_destroy(draw(both[k], controlled));
        must(cn_tensors_open(ctx, path, &file));
        const cn_tensor_info *t = cn_tensors_find(file, "latents");
        n = t->elements / t->shape[0]; /* the last picture's */
        float *all = test_alloc((size_t)t->elements * sizeof *all);
        must(cn_tensors_read(ctx, file, t, all));
        values[k] = test_alloc((size_t)n * sizeof *all);
        memcpy(values[k], all + t->elements - n, (size_t)n * sizeof *all);
        free(all);
        cn_tensors_close(file);
    }
    const double most = test_relative(test_compare_f32(values[0], values[1], n));
    free(values[0]);
    free(values[1]);
    return most;
}

/* What it gives to the networks is tested in unit_reference. Seen nowhere it changes nothing, also
 * beside a control whose part is the drawing's samples alone. */
static void test_reference(void **state)
{
    (void)state;
    static const uint64_t seeds[] = {11, 12};
    cn_image *seen = picture(40, 16), *condition = picture(16, 16);
    const cn_control_options control = {.image = condition, .strength = 1, .end = 1};
    for (int k = 0; k < 3; k++) {
        cn_generate_options plain = options_of(), with;
        if (k == 1) plain.controls = &control;
        if (k == 2) plain.cfg_scale = 1;
        with = plain;
        with.reference = seen;
        with.reference_strength = 0;
        assert_true(differ(plain, with, k == 1) < 1e-5);
        with.reference_strength = 1;
        assert_true(differ(plain, with, k == 1) > 1e-4);
    }
    cn_generate_options both = options_of(), one = options_of(), large = options_of();
    both.reference = one.reference = large.reference = seen;
    both.batch = 2;
    both.seeds = seeds;
    one.seed = seeds[1];
    one.style_fidelity = both.style_fidelity = 1;
    assert_true(differ(both, one, false) < 1e-5);
    large.hires_scale = 2;
    one = large;
    one.reference_strength = 0;
    assert_true(differ(large, one, false) > 1e-4);
    cn_image_destroy(seen);
    cn_image_destroy(condition);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_resize), cmocka_unit_test(test_latent_resize),
        cmocka_unit_test(test_extend),      cmocka_unit_test(test_control_pass),
        cmocka_unit_test(test_seeds),       cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
