/* SPDX-License-Identifier: Apache-2.0 */
/* test_control_set.c - one pipeline for many drawings: other ControlNets, cancelled drawings and
 * other sizes between two leave no trace in the second. Further, how a condition comes to size. */
#include "../support/unit/tiny_run.h"

#include "image/image.h"

#include <string.h>

static char net_a[256], net_b[256];

static int set_up(void **state)
{
    (void)state;
    if (tiny_open(1) != 0) return -1;
    path_in(net_a, "a");
    path_in(net_b, "b");
    for (int i = 0; i < 2; i++) {
        cn_train_options o = tiny_options(i ? net_b : net_a);
        o.max_train_steps = 2 + i;
        o.learning_rate = 0.1; /* far enough from 0 to be seen */
        must(cn_train(ctx, &o, NULL, NULL));
    }
    return 0;
}

static cn_pipeline *open_pipeline(const char *const *nets, int n)
{
    cn_pipeline *p = NULL;
    const cn_pipeline_options o = {
        .model = model, .controls = nets, .n_controls = n, .keep_loaded = true};
    must(cn_pipeline_create(ctx, &o, &p));
    return p;
}

static cn_image *condition(int64_t width, int64_t height)
{
    cn_image *image = NULL;
    must(cn_image_create(ctx, width, height, &image));
    for (int64_t i = 0; i < 3 * width * height; i++) image->rgb[i] = (uint8_t)(i * 37);
    return image;
}

static int stop_at; /* a step's number at which the drawing is cancelled; 0: none */

static void on_progress(void *user, const char *stage, int done, int total)
{
    (void)user, (void)total;
    if (stop_at && strcmp(stage, "sampling") == 0 && done == stop_at) cn_cancel(ctx);
}

static cn_status draw(cn_pipeline *p, int n, int64_t size, const char *preprocessor,
                      cn_generated **out)
{
    cn_generate_options o;
    cn_control_options controls[2];
    cn_image *image = condition(24, 16);
    cn_generate_defaults(&o);
    for (int k = 0; k < n; k++) {
        memset(&controls[k], 0, sizeof controls[k]);
        cn_options_preset(cn_control_option_rows, &controls[k]);
        controls[k].image = image;
        controls[k].preprocessor = preprocessor;
    }
    o.controls = controls;
    o.prompt = "a red cube";
    o.steps = 3;
    o.width = o.height = size;
    o.progress = on_progress;
    const cn_status s = cn_generate(p, &o, out);
    cn_image_destroy(image);
    return s;
}

static void assert_same(const cn_generated *a, const cn_generated *b)
{
    assert_int_equal(a->width, b->width);
    assert_memory_equal(a->images[0]->rgb, b->images[0]->rgb, (size_t)(3 * a->width * a->height));
}

/* What a pipeline draws that was made for these ControlNets. */
static cn_generated *fresh(const char *const *nets, int n, int64_t size)
{
    cn_pipeline *p = open_pipeline(nets, n);
    cn_generated *g = NULL;
    must(draw(p, n, size, "none", &g));
    cn_pipeline_destroy(p);
    return g;
}

static void check_like_fresh(cn_pipeline *p, const char *const *nets, int n, int64_t size)
{
    cn_generated *got = NULL, *want = fresh(nets, n, size);
    must(cn_pipeline_set_controls(p, nets, n));
    must(draw(p, n, size, "none", &got));
    assert_same(got, want);
    assert_int_equal(got->n_conditions, n);
    cn_generated_destroy(got);
    cn_generated_destroy(want);
}

static void test_other_controls(void **state)
{
    (void)state;
    const char *const a[] = {net_a}, *const b[] = {net_b}, *const ab[] = {net_a, net_b},
                      *const ba[] = {net_b, net_a}, *const aa[] = {net_a, net_a};
    cn_pipeline *p = open_pipeline(NULL, 0);
    cn_generated *with = fresh(a, 1, 16), *without = fresh(NULL, 0, 16);
    /* a folder's file goes by the folder's name */
    assert_non_null(strstr(with->parameters[0], "Module: none, Model: a, Weight"));
    assert_memory_not_equal(with->images[0]->rgb, without->images[0]->rgb, 3 * 16 * 16);
    cn_generated_destroy(with);
    cn_generated_destroy(without);
    check_like_fresh(p, NULL, 0, 16);
    check_like_fresh(p, a, 1, 16);
    check_like_fresh(p, ab, 2, 16);
    check_like_fresh(p, b, 1, 32);
    check_like_fresh(p, ba, 2, 16);
    check_like_fresh(p, NULL, 0, 16);
    check_like_fresh(p, aa, 2, 16);
    check_like_fresh(p, a, 1, 16);
    cn_pipeline_destroy(p);
}

static void test_missing_control(void **state)
{
    (void)state;
    const char *const missing[] = {net_a, "no such file"};
    cn_pipeline *p = open_pipeline(NULL, 0);
    refused(cn_pipeline_set_controls(p, missing, 2), CN_EIO, "no such file");
    refused(cn_pipeline_set_controls(p, missing, 9), CN_EINVAL, "at most 8");
    check_like_fresh(p, NULL, 0, 16);
    check_like_fresh(p, missing, 1, 16);
    cn_pipeline_destroy(p);
}

static void test_cancelled(void **state)
{
    (void)state;
    const char *const a[] = {net_a};
    cn_pipeline *p = open_pipeline(a, 1);
    cn_generated *g = NULL;
    for (stop_at = 1; stop_at < 3; stop_at++) {
        assert_int_equal(draw(p, 1, 16, "none", &g), CN_ECANCELLED);
        assert_int_equal(draw(p, 1, 16, "none", &g), CN_ECANCELLED); /* until it is taken back */
        cn_cancel_reset(ctx);
    }
    stop_at = 0;
    check_like_fresh(p, a, 1, 16);
    cn_pipeline_destroy(p);
}

/* The same preprocessor again, another one, the first. */
static void test_preprocessors(void **state)
{
    (void)state;
    static const char *const kinds[] = {"canny", "canny",     "invert", "canny low=1 high=2",
                                        "none",  "threshold", "canny"};
    const char *const a[] = {net_a};
    cn_pipeline *p = open_pipeline(a, 1);
    for (size_t i = 0; i < CN_COUNT(kinds); i++) {
        cn_pipeline *once = open_pipeline(a, 1);
        cn_generated *got = NULL, *want = NULL;
        must(draw(p, 1, 16, kinds[i], &got));
        must(draw(once, 1, 16, kinds[i], &want));
        assert_same(got, want);
        assert_memory_equal(got->conditions[0]->rgb, want->conditions[0]->rgb, 3 * 16 * 16);
        cn_generated_destroy(got);
        cn_generated_destroy(want);
        cn_pipeline_destroy(once);
    }
    cn_pipeline_destroy(p);
}

/* side: 0: as the picture is. */
static void draw_resized(cn_pipeline *p, const cn_image *image, const char *resize, int64_t side,
                         cn_generated **out)
{
    cn_control_options c = {0};
    cn_generate_options o;
    cn_generate_defaults(&o);
    cn_options_preset(cn_control_option_rows, &c);
    c.image = image;
    c.resize = resize;
    o.controls = &c;
    o.prompt = "a cube";
    o.steps = 1;
    o.width = o.height = side;
    must(cn_generate(p, &o, out));
}

/* 16 x 8 px, red but for one green pixel at the edge and a blue one within: the median of the
 * border is red, and the picture lies in rows 4 to 11 of 16. */
static void test_resize(void **state)
{
    (void)state;
    const char *const a[] = {net_a};
    cn_pipeline *p = open_pipeline(a, 1);
    cn_image *image = condition(16, 8);
    cn_generated *fill = NULL, *stretch = NULL, *crop = NULL;
    memset(image->rgb, 0, 16 * 8 * 3);
    for (int i = 0; i < 16 * 8; i++) image->rgb[3 * i] = 250;
    memcpy(image->rgb + 3 * 5, (uint8_t[]){0, 200, 0}, 3);
    memcpy(image->rgb + 3 * (16 * 4 + 9), (uint8_t[]){0, 0, 200}, 3);
    draw_resized(p, image, "fill", 16, &fill);
    const uint8_t *rgb = fill->conditions[0]->rgb;
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 16; x++) {
            static const uint8_t red[] = {250, 0, 0};
            const bool inside = y >= 4 && y < 12;
            const uint8_t *want = inside ? image->rgb + 3 * (16 * (y - 4) + x) : red;
            assert_memory_equal(rgb + 3 * (16 * y + x), want, 3);
        }
    assert_non_null(strstr(fill->parameters[0], "Resize Mode: Resize and Fill"));
    draw_resized(p, image, "stretch", 16, &stretch);
    draw_resized(p, image, "crop", 16, &crop);
    assert_non_null(strstr(stretch->parameters[0], "Resize Mode: Just Resize"));
    assert_non_null(strstr(crop->parameters[0], "Resize Mode: Crop and Resize"));
    /* twice as high, the pixel of row 4 is about row 8, in column 9; cropped it is in column 10 */
    assert_true(stretch->conditions[0]->rgb[3 * (16 * 8 + 9) + 2] > 100);
    assert_true(crop->conditions[0]->rgb[3 * (16 * 8 + 10) + 2] > 100);
    cn_generated_destroy(fill);
    cn_generated_destroy(stretch);
    cn_generated_destroy(crop);
    cn_image_destroy(image);
    cn_pipeline_destroy(p);
}

static void test_size(void **state)
{
    (void)state;
    cn_pipeline *p = open_pipeline(NULL, 0);
    cn_generated *g = NULL;
    must(draw(p, 0, 0, "none", &g));
    assert_int_equal(g->width, cn_pipeline_size_px(p));
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
}

static char warned[300];
static int n_warned;

static void keep_warning(void *user, cn_log_level level, const char *line)
{
    (void)user;
    if (level != CN_LOG_WARN) return;
    snprintf(warned, sizeof warned, "%s", line);
    n_warned++;
}

/* Without a size the condition's picture gives it, and one line says when that is four times the
 * area that the base was trained on. */
static void test_size_of_a_condition(void **state)
{
    (void)state;
    static const struct {
        int64_t width, height, side;
        int warnings;
    } cases[] = {{24, 16, 0, 0}, {32, 30, 0, 0}, {40, 32, 0, 1}, {40, 32, 16, 0}};
    const char *const a[] = {net_a};
    cn_pipeline *p = open_pipeline(a, 1);
    assert_int_equal(cn_pipeline_size_px(p), 16);
    cn_ctx_set_log(ctx, keep_warning, NULL);
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_image *image = condition(cases[i].width, cases[i].height);
        cn_generated *g = NULL;
        n_warned = 0;
        draw_resized(p, image, "crop", cases[i].side, &g);
        assert_int_equal(g->width, cases[i].side ? cases[i].side : cases[i].width);
        assert_int_equal(n_warned, cases[i].warnings);
        cn_generated_destroy(g);
        cn_image_destroy(image);
    }
    assert_non_null(strstr(warned, "40 x 32"));
    assert_non_null(strstr(warned, "16 x 16"));
    cn_ctx_set_log(ctx, NULL, NULL);
    cn_pipeline_destroy(p);
}

static void test_text_in_memory(void **state)
{
    (void)state;
    static const char *const text[] = {"parameters", "a cube", NULL};
    cn_image *image = condition(3, 2);
    uint8_t *bytes = NULL;
    size_t n = 0;
    char *found = NULL;
    must(cn_png_encode(ctx, image, text, &bytes, &n));
    must(cn_png_text_memory(ctx, bytes, n, "parameters", &found));
    assert_string_equal(found, "a cube");
    cn_free(found);
    must(cn_png_text_memory(ctx, bytes, n, "other", &found));
    assert_null(found);
    refused(cn_png_text_memory(ctx, "GIF89a", 6, "parameters", &found), CN_EFORMAT, "");
    cn_free(bytes);
    cn_image_destroy(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_controls),
        cmocka_unit_test(test_missing_control),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_preprocessors),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_size_of_a_condition),
        cmocka_unit_test(test_text_in_memory),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
