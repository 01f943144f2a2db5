/* SPDX-License-Identifier: Apache-2.0 */
/* test_objective.c - what training options compute, against diffusers' and torch's values in
 * tests/golden/training.json (tools/make-training-fixtures.py writes it). */
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "io/json.h"
#include "model/checkpoint/config_io.h"
#include "train/lr.h"
#include "diffuse/objective.h"
#include "train/optimizer.h"

#include <math.h>
#include <string.h>

static json_t *golden;

static int set_up(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    return ctx && cn_json_load_file(ctx, "tests/golden/training.json", &golden) == CN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(golden);
    cn_ctx_destroy(ctx);
    return 0;
}

static double at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static void check(const char *what, size_t i, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fabs(want)))
        fail_msg("%s [%zu]: %.9g, expected %.9g", what, i, got, want);
}

/* diffusers computes in double. */
static void learning_rates_are_diffusers(void **state)
{
    (void)state;
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "learning_rates"), i, c)
    {
        const json_t *values = json_object_get(c, "values");
        cn_lr lr = {.base = cn_json_number(c, "base", 0),
                    .warmup_steps = cn_json_int(c, "warmup", 0),
                    .total_steps = cn_json_int(c, "total", 0),
                    .cycles = cn_json_number(c, "cycles", 0),
                    .power = cn_json_number(c, "power", 0)};
        must(cn_lr_kind_find(ctx, cn_json_str(c, "name", ""), &lr.kind));
        assert_true(json_array_size(values) > 0);
        for (size_t k = 0; k < json_array_size(values); k++)
            check(cn_json_str(c, "name", ""), k, cn_lr_at(&lr, (int64_t)k), at(values, k), 1e-9);
    }
    assert_int_equal(i, 9);
}

/* A weight set to step^2 before each step, which with learning rate 0 leaves it: the mean is
 * EMAModel's. */
static void the_mean_is_emamodels(void **state)
{
    (void)state;
    size_t i;
    json_t *c;
    cn_backend *be = NULL;
    must(cn_backend_cpu_create(ctx, &be));
    json_array_foreach(json_object_get(golden, "ema"), i, c)
    {
        const json_t *values = json_object_get(c, "values");
        char name[] = "w";
        float w = 0, zero = 0;
        cn_param q = {.ndim = 1, .shape = {1}, .loaded = true, .data = &w, .data_bytes = sizeof w};
        q.ldm_name = q.diffusers_name = name;
        q.network = "net";
        cn_adamw_options o;
        cn_adamw *adamw = NULL;
        cn_adamw_options_default(&o);
        o.ema_decay = (float)cn_json_number(c, "decay", 0);
        must(cn_adamw_create(ctx, be, (cn_param *[]){&q}, 1, &o, &adamw));
        for (size_t k = 0; k < json_array_size(values); k++) {
            w = (float)((k + 1) * (k + 1));
            must(cn_adamw_run(adamw, (const float *[]){&zero}, 0, 0, NULL));
            const float kept = w;
            must(cn_adamw_swap_ema(adamw));
            check("mean", k, (double)w, at(values, k), 1e-5); /* float32, step after step */
            must(cn_adamw_swap_ema(adamw));
            assert_true(w == kept);
        }
        cn_adamw_destroy(adamw);
    }
    assert_int_equal(i, 2);
    be->destroy(be);
}

static cn_schedule *schedule_of(const json_t *c)
{
    cn_schedule_config config;
    cn_schedule *s = NULL;
    cn_schedule_config_default(&config);
    config.v_prediction = strcmp(cn_json_str(c, "prediction", "epsilon"), "v") == 0;
    config.zero_snr = cn_json_bool(c, "rescale_betas_zero_snr", false);
    must(cn_schedule_create(ctx, &config, &s));
    return s;
}

/* torch computes in float32, where 1 - a loses digits at the first timesteps. */
static void samples_count_as_in_diffusers_and_kohya(void **state)
{
    (void)state;
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "objectives"), i, c)
    {
        const json_t *timesteps = json_object_get(c, "timesteps");
        cn_train_options o;
        cn_objective objective;
        cn_schedule *s = schedule_of(c);
        cn_train_options_default(&o);
        o.snr_gamma = cn_json_number(c, "snr_gamma", 0);
        o.loss_type = cn_json_str(c, "loss_type", NULL);
        o.huber_schedule = cn_json_str(c, "huber_schedule", NULL);
        o.huber_c = cn_json_number(c, "huber_c", 0.1);
        must(cn_objective_find(ctx, &o, s, &objective));
        assert_true(cn_objective_weighs(&objective));
        for (size_t k = 0; k < json_array_size(timesteps); k++) {
            float per[2];
            cn_objective_weigh(&objective, s, (int)at(timesteps, k), per);
            check("weight", k, (double)per[0], at(json_object_get(c, "weights"), k), 1e-4);
            check("c", k, (double)per[1], at(json_object_get(c, "c"), k), 1e-4);
        }
        cn_schedule_destroy(s);
    }
    assert_int_equal(i, 7);
}

static void the_last_timestep_can_be_noise_alone(void **state)
{
    (void)state;
    json_t *zero = json_pack("{s:b}", "rescale_betas_zero_snr", 1);
    const json_t *want = json_object_get(golden, "alphas_zero_snr");
    cn_schedule *s = schedule_of(zero);
    const size_t n = json_array_size(want);
    for (size_t k = 0; k + 1 < n; k++)
        check("alpha", k, (double)s->alphas_cumprod[37 * k], at(want, k), 1e-5);
    assert_true(at(want, n - 1) == 0 && s->alphas_cumprod[999] == 0);
    cn_schedule_destroy(s);
    json_decref(zero);
}

static void offset_noise_shifts_whole_channels(void **state)
{
    (void)state;
    enum { ROWS = 16, C = 4, SAMPLES = 4000 };
    float noise[ROWS * C];
    cn_rng r;
    double sum = 0, squares = 0;
    const cn_objective o = {.noise_offset = 0.25};
    cn_rng_seed(&r, 1);
    for (int k = 0; k < SAMPLES; k++) {
        memset(noise, 0, sizeof noise);
        cn_objective_shift(&o, &r, noise, ROWS, C);
        for (int i = C; i < ROWS * C; i++) assert_true(noise[i] == noise[i % C]);
        assert_true(noise[0] != noise[1]);
        for (int c = 0; c < C; c++) {
            sum += (double)noise[c];
            squares += (double)noise[c] * (double)noise[c];
        }
    }
    /* of 16,000 values: three deviations of the mean and of the variance */
    assert_true(fabs(sum / (SAMPLES * C)) < 3 * 0.25 / sqrt(SAMPLES * C));
    assert_true(fabs(sqrt(squares / (SAMPLES * C)) / 0.25 - 1) < 3 / sqrt(2.0 * SAMPLES * C));
}

static void wrong_words_and_ranges_are_refused(void **state)
{
    (void)state;
    cn_train_options o;
    cn_objective objective;
    json_t *zero = json_pack("{s:b}", "rescale_betas_zero_snr", 1), *plain = json_object();
    cn_schedule *noise_alone = schedule_of(zero), *s = schedule_of(plain);
    cn_train_options_default(&o);
    o.min_timestep = 200;
    o.max_timestep = 500;
    must(cn_objective_find(ctx, &o, s, &objective));
    assert_int_equal(objective.first_timestep, 200);
    assert_int_equal(objective.timesteps, 300);
    o.min_timestep = 500;
    assert_int_equal(cn_objective_find(ctx, &o, s, &objective), CN_EINVAL);
    o.max_timestep = 1001;
    assert_int_equal(cn_objective_find(ctx, &o, s, &objective), CN_EINVAL);
    cn_train_options_default(&o);
    o.loss_type = "l3";
    assert_int_equal(cn_objective_find(ctx, &o, s, &objective), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "smooth_l1"));
    cn_train_options_default(&o);
    o.snr_gamma = 5; /* 0 / 0 at the last timestep */
    assert_int_equal(cn_objective_find(ctx, &o, noise_alone, &objective), CN_EINVAL);
    cn_schedule_destroy(s);
    cn_schedule_destroy(noise_alone);
    json_decref(zero);
    json_decref(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learning_rates_are_diffusers),
        cmocka_unit_test(the_mean_is_emamodels),
        cmocka_unit_test(samples_count_as_in_diffusers_and_kohya),
        cmocka_unit_test(the_last_timestep_can_be_noise_alone),
        cmocka_unit_test(offset_noise_shifts_whole_channels),
        cmocka_unit_test(wrong_words_and_ranges_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
