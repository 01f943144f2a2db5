/* SPDX-License-Identifier: Apache-2.0 */
/* test_draw_runs.c - what a drawing computes at which step, counted by a backend that looks over
 * its own shoulder: a ControlNet outside its part of the run costs nothing, hint features and what
 * follows from the prompt alone are computed once. */
#include "../support/env.h"

#include "diffuse/sampling.h"
#include "model/checkpoint/network_kinds.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 5, LATENT = 8, TOKENS = 6, WIDTH = 16 };

static const cn_unet_config unet = {.in_channels = 4,
                                    .out_channels = 4,
                                    .levels = 2,
                                    .channels = {WIDTH, 2 * WIDTH},
                                    .attention = {true, false},
                                    .heads = {2, 2},
                                    .transformer_layers = {1, 1},
                                    .layers_per_block = 1,
                                    .context_dim = 12,
                                    .norm_groups = 4,
                                    .sample_size = LATENT};

/* What one step ran. */
typedef struct counts {
    int all, hint, zero_convs, cross_keys, cross_values, self_keys;
} counts;

static counts now;
static cn_status (*run_inside)(cn_backend *b, cn_ctx *ctx, const cn_step *st);

static bool names(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static cn_status run_counted(cn_backend *b, cn_ctx *ctx, const cn_step *st)
{
    const char *name = st->node->name;
    const bool product = st->node->op == CN_OP_LINEAR;
    now.all++;
    now.hint += names(name, "input_hint_block");
    now.zero_convs += product && (names(name, "zero_convs") || names(name, "middle_block_out"));
    now.cross_keys += product && names(name, "attn2.to_k");
    now.cross_values += product && names(name, "attn2.to_v");
    now.self_keys += product && names(name, "attn1.to_k");
    return run_inside(b, ctx, st);
}

typedef struct fixture {
    test_env env;
    cn_controlnet_config config;
    cn_params *unet, *control;
    cn_draw *draw;
    cn_draw_args args;
    float *image, *text, *x, *out;
} fixture;

static float *values(const char *key, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    cn_seed_tensor(key, 0, 1, v, n);
    return v;
}

static void open_halves(fixture *f, bool guidance, bool in_turn)
{
    memset(f, 0, sizeof *f);
    f->config = (cn_controlnet_config){
        .encoder = unet, .condition_channels = 3, .hint_levels = 2, .hint_channels = {4, 8}};
    assert_true(test_env_open(&f->env, 1));
    assert_int_equal(cn_net_params(f->env.ctx, CN_NET_UNET, &f->unet), CN_OK);
    assert_int_equal(cn_net_params(f->env.ctx, CN_NET_CONTROL, &f->control), CN_OK);
    const cn_draw_spec spec = {
        .unet = &unet,
        .unet_params = f->unet,
        .controls = {{.kind = &cn_control_kind_net, .config = &f->config, .params = f->control}},
        .n_controls = 1,
        .batch = 1,
        .latent_h = LATENT,
        .latent_w = LATENT,
        .context_length = TOKENS,
        .guidance = guidance,
        .sequential_guidance = in_turn};
    if (cn_draw_create(f->env.ctx, f->env.backend, &spec, &f->draw) != CN_OK)
        fail_msg("%s", cn_error(f->env.ctx));
    assert_int_equal(test_fill_params(&f->env, f->unet, "u.", 0, 0.1f), CN_OK);
    assert_int_equal(test_fill_params(&f->env, f->control, "c.", 0, 0.1f), CN_OK);
    run_inside = f->env.backend->run;
    f->env.backend->run = run_counted;
    f->image = values("image", 2 * LATENT * 2 * LATENT * 3);
    f->text = values("text", 2 * TOKENS * unet.context_dim);
    f->x = values("x", 4 * LATENT * LATENT);
    f->out = values("out", 4 * LATENT * LATENT);
    f->args = (cn_draw_args){.cond = f->text,
                             .uncond = f->text + TOKENS * unet.context_dim,
                             .cfg_scale = guidance ? 7.5 : 1};
    f->args.hints[0] = (cn_draw_hint){.image = f->image, .strength = 1, .end = 1};
}

static void open_drawing(fixture *f, bool guidance)
{
    open_halves(f, guidance, false);
}

static void close_drawing(fixture *f)
{
    cn_draw_destroy(f->draw);
    cn_params_destroy(f->unet);
    cn_params_destroy(f->control);
    f->env.backend->run = run_inside;
    test_env_close(&f->env);
    free(f->image);
    free(f->text);
    free(f->x);
    free(f->out);
}

/* A whole run; each step's counts. */
static void draw(fixture *f, counts *out)
{
    assert_int_equal(cn_draw_begin(f->draw, &f->args), CN_OK);
    for (int i = 0; i < STEPS; i++) {
        now = (counts){0};
        if (cn_draw_predict(f->draw, &f->args, i, STEPS, 900 - 100 * i, f->x, f->out) != CN_OK)
            fail_msg("%s", cn_error(f->env.ctx));
        out[i] = now;
    }
}

/* From 40 % to 80 % of five steps are the third and the fourth. */
static void a_control_outside_its_window_costs_nothing(void **state)
{
    (void)state;
    fixture f;
    counts in[STEPS], none[STEPS];
    open_drawing(&f, false);
    f.args.hints[0].start = 0.4;
    f.args.hints[0].end = 0.8;
    draw(&f, in);
    f.args.hints[0].strength = 0;
    draw(&f, none);
    for (int i = 0; i < STEPS; i++) {
        const bool acts = i == 2 || i == 3;
        assert_int_equal(in[i].zero_convs > 0, acts);
        assert_int_equal(in[i].hint > 0, i == 2);
        assert_int_equal(none[i].zero_convs, 0);
        if (!acts && i > 0) assert_int_equal(in[i].all, none[i].all);
        if (acts) assert_true(in[i].all > none[i].all);
    }
    close_drawing(&f);
}

/* Of five steps the third and the fourth are guided; the others run the conditional half alone and
 * give what a guidance scale of 1 does. */
static void a_step_without_guidance_costs_half(void **state)
{
    (void)state;
    fixture f;
    counts all[STEPS], in[STEPS];
    float last[4 * LATENT * LATENT];
    open_halves(&f, true, true);
    draw(&f, all);
    f.args.cfg_scale = 1;
    draw(&f, all);
    memcpy(last, f.out, sizeof last);
    f.args.cfg_scale = 7.5;
    f.args.guidance_start = 0.4;
    f.args.guidance_end = 0.8;
    draw(&f, in);
    for (int i = 1; i < STEPS; i++) {
        const bool guided = i == 2 || i == 3;
        assert_int_equal(in[i].self_keys, guided ? all[i].self_keys : all[i].self_keys / 2);
        assert_int_equal(in[i].zero_convs, guided ? all[i].zero_convs : all[i].zero_convs / 2);
    }
    for (size_t k = 0; k < CN_COUNT(last); k++)
        if (fabsf(f.out[k] - last[k]) > 1e-5f) fail_msg("%zu: %g, %g", k, f.out[k], last[k]);
    f.args.guidance_start = 0;
    f.args.guidance_end = 0.99; /* all but the last */
    draw(&f, in);
    assert_int_equal(in[0].self_keys, all[0].self_keys);
    assert_int_equal(in[STEPS - 1].self_keys, all[0].self_keys / 2);
    close_drawing(&f);
}

static void what_stays_is_computed_once(void **state)
{
    (void)state;
    for (int guidance = 0; guidance < 2; guidance++) {
        fixture f;
        counts c[STEPS];
        open_drawing(&f, guidance);
        draw(&f, c);
        assert_true(c[0].hint > 0 && c[0].cross_keys > 0 && c[0].self_keys > 0);
        assert_int_equal(c[0].cross_keys, c[0].cross_values);
        for (int i = 1; i < STEPS; i++) {
            assert_int_equal(c[i].hint, 0);
            assert_int_equal(c[i].cross_keys, 0);
            assert_int_equal(c[i].cross_values, 0);
            assert_int_equal(c[i].self_keys, c[0].self_keys);
            assert_int_equal(c[i].zero_convs, c[0].zero_convs);
        }
        const counts first = c[0];
        draw(&f, c); /* the same prompt; the picture may be another one */
        assert_int_equal(c[0].hint, first.hint);
        assert_int_equal(c[0].cross_keys, 0);
        for (int i = 0; i < TOKENS; i++) f.text[i] += 1;
        draw(&f, c);
        assert_int_equal(c[0].cross_keys, first.cross_keys);
        close_drawing(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_without_guidance_costs_half),
        cmocka_unit_test(a_control_outside_its_window_costs_nothing),
        cmocka_unit_test(what_stays_is_computed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
