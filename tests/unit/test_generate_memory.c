/* SPDX-License-Identifier: Apache-2.0 */
/* test_generate_memory.c - what a drawing takes is known before, fits a limit, and still draws the
 * same.
 *
 * The measured peak is that of a process of its own: the program runs itself with "child".
 */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "../support/child.h"

#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PX = 32 };

/* slim: far more activations than weights; wide: the other way round. Both in F32. */
static char slim[256], wide[256];

static int set_up(void **state)
{
    (void)state;
    /* as the program has it: what one drawing frees doesn't count in the next one's plan */
    mallopt(M_MMAP_THRESHOLD, 1 << 18);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    if (unit_open(2) != 0) return -1;
    snprintf(slim, sizeof slim, "%s/slim", root);
    snprintf(wide, sizeof wide, "%s/wide", root);
    must(tiny_base_write(ctx, slim, 8));
    must(tiny_base_write(ctx, wide, 128));
    return 0;
}

static cn_generate_options options_of(int64_t px, int batch)
{
    cn_generate_options o;
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.width = o.height = px;
    o.batch = batch;
    o.steps = 2;
    return o;
}

static cn_pipeline *open_pipeline(const cn_pipeline_options *o)
{
    cn_pipeline *p = NULL;
    must(cn_pipeline_create(ctx, o, &p));
    return p;
}

static cn_generate_plan plan_of(const cn_pipeline_options *po, const cn_generate_options *o)
{
    cn_generate_plan plan;
    cn_pipeline *p = open_pipeline(po);
    must(cn_generate_dry_run(p, o, &plan));
    cn_pipeline_destroy(p);
    return plan;
}

static const cn_generate_stage *stage_of(const cn_generate_plan *p, const char *name)
{
    for (int i = 0; i < p->n_stages; i++)
        if (strcmp(p->stages[i].name, name) == 0) return &p->stages[i];
    fail_msg("no stage %s", name);
    return NULL;
}

static cn_generated *draw(const cn_pipeline_options *po, const cn_generate_options *o)
{
    cn_generated *g = NULL;
    cn_pipeline *p = open_pipeline(po);
    must(cn_generate(p, o, &g));
    cn_pipeline_destroy(p);
    return g;
}

static double psnr_db(cn_generated *a, cn_generated *b)
{
    double sum = 0;
    const int64_t n = a->width * a->height * 3;
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++)
        for (int64_t k = 0; k < n; k++) {
            const double d =
                (double)cn_image_rgb(a->images[i])[k] - (double)cn_image_rgb(b->images[i])[k];
            sum += d * d;
        }
    return 10 * log10(255.0 * 255.0 / (sum / (double)(n * a->count) + 1e-9));
}

/* --- plans ------------------------------------------------------------------------------------ */

static void stages_add_up(void **state)
{
    (void)state;
    const cn_pipeline_options po = {.model = slim};
    cn_generate_options o = options_of(PX, 4);
    const cn_generate_plan p = plan_of(&po, &o);
    size_t most = 0;
    assert_int_equal(p.n_stages, 3);
    for (int i = 0; i < p.n_stages; i++) {
        const cn_generate_stage *s = &p.stages[i];
        assert_true(s->weight_bytes > 0 && s->activation_bytes > 0);
        assert_true(s->total_bytes >
                    p.process_bytes + s->weight_bytes + s->activation_bytes + s->scratch_bytes);
        most = CN_MAX(most, s->total_bytes);
    }
    assert_int_equal(p.peak_bytes, most);
    assert_string_equal(p.compute_type, "f32");
    assert_string_equal(p.unet_type, "f32");
    assert_false(p.sequential_guidance);
    assert_int_equal(p.vae_tile, 0);
    o.batch = 8;
    const cn_generate_plan twice = plan_of(&po, &o);
    assert_true(stage_of(&twice, "sampling")->activation_bytes >
                stage_of(&p, "sampling")->activation_bytes * 9 / 5);
    o.batch = 4;
    o.hires_scale = 2;
    o.hires_pixels = true;
    const cn_generate_plan hires = plan_of(&po, &o);
    assert_true(stage_of(&hires, "second pass")->total_bytes >
                stage_of(&hires, "sampling")->total_bytes);
    assert_true(stage_of(&hires, "encoding")->total_bytes > 0);
}

static void kept_weights_are_counted(void **state)
{
    (void)state;
    const cn_generate_options o = options_of(PX, 1);
    cn_pipeline_options po = {.model = wide};
    const cn_generate_plan each = plan_of(&po, &o);
    po.keep_loaded = true;
    const cn_generate_plan kept = plan_of(&po, &o);
    assert_true(kept.keeps_loaded);
    size_t all = 0;
    for (int i = 0; i < each.n_stages; i++) all += each.stages[i].weight_bytes;
    for (int i = 0; i < kept.n_stages; i++) assert_int_equal(kept.stages[i].weight_bytes, all);
    po.max_memory_bytes = (each.peak_bytes + kept.peak_bytes) / 2;
    assert_false(plan_of(&po, &o).keeps_loaded);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void halves_take_turns(void **state)
{
    (void)state;
    const cn_generate_options o = options_of(PX, 32);
    cn_pipeline_options po = {.model = slim};
    cn_generated *a = draw(&po, &o);
    const cn_generate_plan whole = plan_of(&po, &o);
    po.max_memory_bytes = whole.peak_bytes - stage_of(&whole, "sampling")->activation_bytes / 4;
    const cn_generate_plan less = plan_of(&po, &o);
    assert_true(less.sequential_guidance);
    assert_string_equal(less.unet_type, "f32");
    assert_true(less.peak_bytes <= po.max_memory_bytes);
    cn_generated *b = draw(&po, &o);
    assert_true(b->planned_bytes <= po.max_memory_bytes && b->planned_bytes > 0);
    assert_true(psnr_db(a, b) > 60);
    cn_generated_destroy(a);
    cn_generated_destroy(b);
}

static void weights_take_fewer_bits(void **state)
{
    (void)state;
    cn_generate_options o = options_of(PX, 8);
    o.cfg_scale = 1;
    cn_pipeline_options po = {.model = wide};
    cn_generated *a = draw(&po, &o);
    const cn_generate_plan whole = plan_of(&po, &o);
    po.max_memory_bytes = whole.peak_bytes - stage_of(&whole, "sampling")->weight_bytes * 2 / 5;
    const cn_generate_plan less = plan_of(&po, &o);
    assert_string_equal(less.unet_type, "f16");
    assert_string_equal(less.text_type, "f32");
    assert_true(less.peak_bytes <= po.max_memory_bytes);
    cn_generated *b = draw(&po, &o);
    assert_true(psnr_db(a, b) > 45);
    cn_generated_destroy(b);
    po.max_memory_bytes = whole.peak_bytes - stage_of(&whole, "sampling")->weight_bytes * 2 / 3;
    const cn_generate_plan least = plan_of(&po, &o);
    assert_string_equal(least.unet_type, "q8");
    assert_true(least.peak_bytes <= po.max_memory_bytes);
    assert_true(stage_of(&least, "sampling")->weight_bytes <
                stage_of(&whole, "sampling")->weight_bytes * 28 / 100);
    b = draw(&po, &o);
    assert_true(psnr_db(a, b) > 30);
    cn_generated_destroy(a);
    cn_generated_destroy(b);
    po.weight_type = "f32";
    cn_generate_plan plan;
    cn_pipeline *p = open_pipeline(&po);
    assert_int_equal(cn_generate_dry_run(p, &o, &plan), CN_ENOMEM);
    assert_non_null(strstr(cn_error(ctx), "--weight-type auto ("));
    cn_pipeline_destroy(p);
}

static void the_vae_goes_in_tiles(void **state)
{
    (void)state;
    cn_generate_options o = options_of(384, 1);
    o.cfg_scale = 1;
    o.steps = 1;
    cn_pipeline_options po = {.model = "models/tiny-sd"};
    cn_generated *a = draw(&po, &o);
    const cn_generate_plan whole = plan_of(&po, &o);
    const cn_generate_stage *decoding = stage_of(&whole, "decoding");
    assert_int_equal(decoding->total_bytes, whole.peak_bytes);
    po.max_memory_bytes = decoding->total_bytes - decoding->activation_bytes / 4;
    const cn_generate_plan tiled = plan_of(&po, &o);
    assert_true(tiled.vae_tile > 0 && tiled.vae_tile < 384);
    assert_true(tiled.peak_bytes <= po.max_memory_bytes);
    cn_generated *b = draw(&po, &o);
    assert_true(psnr_db(a, b) > 25);
    cn_generated_destroy(a);
    cn_generated_destroy(b);
    o.vae_tiling = true;
    o.vae_tile_size = 512;
    cn_generate_plan plan;
    cn_pipeline *p = open_pipeline(&po);
    assert_int_equal(cn_generate_dry_run(p, &o, &plan), CN_ENOMEM);
    assert_non_null(strstr(cn_error(ctx), "no --vae-tile-size ("));
    cn_pipeline_destroy(p);
}

static void what_would_fit_is_said(void **state)
{
    (void)state;
    const cn_generate_options o = options_of(2 * PX, 256);
    cn_pipeline_options po = {.model = slim};
    const cn_generate_options one = options_of(2 * PX, 1);
    cn_generate_plan plan;
    cn_generated *g = NULL;
    /* the process itself may have grown by then */
    po.max_memory_bytes = plan_of(&po, &one).peak_bytes + (24 << 20);
    cn_pipeline *p = open_pipeline(&po);
    assert_int_equal(cn_generate(p, &o, &g), CN_ENOMEM);
    assert_non_null(strstr(cn_error(ctx), "This would fit: "));
    assert_non_null(strstr(cn_error(ctx), "--batch-count 1 ("));
    assert_int_equal(cn_generate_dry_run(p, &o, &plan), CN_ENOMEM);
    cn_pipeline_destroy(p);
    po.max_memory_bytes = 1000;
    p = open_pipeline(&po);
    assert_int_equal(cn_generate(p, &o, &g), CN_ENOMEM);
    assert_non_null(strstr(cn_error(ctx), "No other option suffices"));
    cn_pipeline_destroy(p);
}

/* --- the peak --------------------------------------------------------------------------------- */

/* a: model, precision, pictures at once, whether limited, file for the numbers */
static int run_child(char **a)
{
    cn_ctx *c = cn_ctx_create(2);
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_plan plan = {0};
    cn_generate_options o = options_of(64, (int)strtol(a[2], NULL, 10));
    cn_pipeline_options po = {.model = a[0], .precision = a[1]};
    o.steps = 1;
    cn_status s = cn_pipeline_create(c, &po, &p);
    if (s == CN_OK) s = cn_generate_dry_run(p, &o, &plan);
    if (s == CN_OK && a[3][0] == '1') {
        cn_pipeline_destroy(p);
        p = NULL;
        po.max_memory_bytes = plan.peak_bytes * 9 / 10;
        s = cn_pipeline_create(c, &po, &p);
        if (s == CN_OK) s = cn_generate_dry_run(p, &o, &plan);
    }
    if (s == CN_OK) s = cn_generate(p, &o, &g);
    if (s != CN_OK) fprintf(stderr, "%s\n", cn_error(c));
    const int status =
        s == CN_OK ? test_write_plan(a[4], plan.peak_bytes, g->peak_resident_bytes) : 1;
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
    cn_ctx_destroy(c);
    return status;
}

static void the_peak_is_the_planned_one(void **state)
{
    (void)state;
    char numbers[256];
    snprintf(numbers, sizeof numbers, "%s/numbers", root);
    char *const runs[][4] = {
        {slim, "f32", "128", "0"}, {slim, "auto", "128", "0"}, {slim, "f32", "192", "1"}};
    for (size_t i = 0; i < CN_COUNT(runs); i++) {
        char *const *r = runs[i];
        assert_true(
            test_run_self((char *[]){"test", "child", r[0], r[1], r[2], r[3], numbers, NULL}));
        assert_true(test_near_plan(r[1], numbers));
    }
}

/* --- devices ---------------------------------------------------------------------------------- */

/* What was asked of the driver, to 3 % of the plan; the process' memory is told apart. */
static void a_devices_memory_is_planned(void **state)
{
    (void)state;
    cn_generate_options o = options_of(PX, 1);
    cn_pipeline_options po = {.model = wide, .device = "vulkan"};
    cn_pipeline *p = NULL;
    char *text = NULL;
    if (cn_devices(ctx, false, &text) != CN_OK) {
        print_message("SKIP %s\n", cn_error(ctx));
        skip();
    }
    cn_free(text);
    o.cfg_scale = 1;
    o.steps = 1;
    const cn_generate_plan plan = plan_of(&po, &o);
    assert_true(plan.host_bytes > plan.process_bytes);
    cn_generated *g = draw(&po, &o);
    print_message("planned %zu, taken %zu of the device's bytes\n", plan.peak_bytes,
                  g->peak_device_bytes);
    assert_int_equal(g->planned_bytes, plan.peak_bytes);
    assert_true(fabs((double)g->peak_device_bytes - (double)plan.peak_bytes) <=
                0.03 * (double)plan.peak_bytes);
    cn_generated_destroy(g);
    po.max_memory_bytes = plan.peak_bytes - stage_of(&plan, "sampling")->weight_bytes * 2 / 5;
    const cn_generate_plan less = plan_of(&po, &o);
    assert_true(less.peak_bytes <= po.max_memory_bytes);
    po.max_memory_bytes = 1 << 20;
    must(cn_pipeline_create(ctx, &po, &p));
    refused(cn_generate(p, &o, &g), CN_ENOMEM, "--max-memory allows 0.00 GiB");
    cn_pipeline_destroy(p);
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "child") == 0) return run_child(argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_add_up),
        cmocka_unit_test(kept_weights_are_counted),
        cmocka_unit_test(halves_take_turns),
        cmocka_unit_test(weights_take_fewer_bits),
        cmocka_unit_test(the_vae_goes_in_tiles),
        cmocka_unit_test(what_would_fit_is_said),
        cmocka_unit_test(the_peak_is_the_planned_one),
        cmocka_unit_test(a_devices_memory_is_planned),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
