/* SPDX-License-Identifier: Apache-2.0 */
/* test_samplers.c - every sampler against diffusers' (tests/golden/samplers.json,
 * tools/make-sampler-fixtures.py), names, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../support/values.h"
#include "diffuse/samplers/sampler.h"
#include "io/json.h"
#include "model/checkpoint/config_io.h"

#include <math.h>

enum { LATENT = 16, SEED = 77 };

/* Of the largest value, for steps in F32; with zero terminal SNR some begin at a sigma of 4096, and
 * a step later only the difference of such numbers is left. */
static const double tolerance = 1e-5, tolerance_zero_snr = 1e-4;

static int setup(void **state)
{
    *state = cn_ctx_create(1);
    return *state == NULL;
}

static int teardown(void **state)
{
    cn_ctx_destroy(*state);
    return 0;
}

/* --- trajectories ----------------------------------------------------------------------------- */

static double number_at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static double distance(const float *x, const json_t *want)
{
    float expected[LATENT];
    assert_int_equal(json_array_size(want), LATENT);
    for (size_t k = 0; k < LATENT; k++) expected[k] = (float)number_at(want, k);
    return test_relative(test_compare_f32(x, expected, LATENT));
}

static void begin(const cn_sampler *s, int first, float *x)
{
    float picture[LATENT];
    cn_seed_tensor("samplers.x", 0, 1.7320508f, x, LATENT);
    cn_seed_tensor("samplers.picture", 0, 1, picture, LATENT);
    if (first)
        cn_sampler_add_noise(s, first, picture, x, x, LATENT);
    else
        for (int k = 0; k < LATENT; k++)
            x[k] = (float)((double)x[k] * cn_sampler_init_noise_sigma(s));
}

/* The fixture's model, and after each call the distance from what is wanted there. */
static double worst_distance(cn_sampler *s, const json_t *want, int first)
{
    float x[LATENT], m[LATENT];
    int n = cn_sampler_steps(s), middle = first + (n - first) / 2;
    double worst = 0, sum = 0;
    const json_t *times = json_object_get(want, "times");
    cn_rng rng;
    cn_rng_seed(&rng, SEED);
    begin(s, first, x);
    for (int i = first; i < n; i++) {
        double t = cn_sampler_timestep(s, i);
        sum += t;
        cn_sampler_scale_input(s, i, x, m, LATENT);
        for (int k = 0; k < LATENT; k++)
            m[k] = 0.4f * m[k] + 0.1f * sinf(3 * m[k]) + 0.1f * sinf((float)(t / 100));
        assert_int_equal(cn_sampler_step(s, i, m, x, LATENT, &rng), CN_OK);
        if (i == middle) worst = distance(x, json_object_get(want, "middle"));
    }
    worst = fmax(worst, distance(x, json_object_get(want, "end")));
    bool same = n - first == (int)number_at(times, 0) &&
                fabs(sum - number_at(times, 1)) <= 1e-3 * n &&
                fabs(cn_sampler_timestep(s, first) - number_at(times, 2)) <= 1e-3 &&
                fabs(cn_sampler_timestep(s, n - 1) - number_at(times, 3)) <= 1e-3;
    return same ? worst : INFINITY;
}

static bool check_case(cn_ctx *ctx, const json_t *want)
{
    cn_schedule_config config;
    cn_sampler *s = NULL;
    const char *name = cn_json_str(want, "name", "");
    int steps = (int)cn_json_int(want, "steps", 0), skipped = (int)cn_json_int(want, "first", 0);
    int first = 0;
    assert_int_equal(cn_schedule_config_read(ctx, json_object_get(want, "config"), &config), CN_OK);
    cn_status status = cn_sampler_create(ctx, name, &config, steps, &s);
    if (status == CN_OK)
        status = cn_sampler_start(s, (steps - skipped + 0.5) / (steps + 0.5), &first);
    double worst = status == CN_OK ? worst_distance(s, want, first) : INFINITY;
    cn_sampler_destroy(s);
    if (worst <= (config.zero_snr ? tolerance_zero_snr : tolerance)) return true;
    char *text = json_dumps(json_object_get(want, "config"), JSON_COMPACT);
    print_message("%s, %d steps, first %d, %s: %.2g %s\n", name, steps, skipped, text ? text : "",
                  worst, status == CN_OK ? "" : cn_error(ctx));
    free(text);
    return false;
}

static void every_trajectory_is_diffusers(void **state)
{
    json_t *file = NULL;
    const json_t *want;
    size_t i, bad = 0;
    assert_int_equal(cn_json_load_file(*state, "tests/golden/samplers.json", &file), CN_OK);
    json_t *common = json_object_get(file, "common"), *cases = json_object_get(file, "cases");
    assert_true(json_array_size(cases) > 400);
    json_array_foreach(cases, i, want)
    {
        json_object_update_missing(json_object_get(want, "config"), common);
        bad += !check_case(*state, want);
    }
    assert_int_equal(bad, 0);
    json_decref(file);
}

/* --- names ------------------------------------------------------------------------------------ */

static void other_programs_names_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *name, *own, *schedule;
    } names[] = {
        {"dpm++2m", "dpm++2m", NULL},
        {"DPM++ 2M Karras", "dpm++2m", "karras"},
        {"dpmpp_2m", "dpm++2m", NULL},
        {"DPM++ 2M SDE Karras", "dpm++2m_sde", "karras"},
        {"dpm++2m-sde", "dpm++2m_sde", NULL},
        {"DPMSolverMultistepScheduler", "dpm++2m", NULL},
        {"Euler a", "euler_a", NULL},
        {"euler-a", "euler_a", NULL},
        {"k_euler_a", "euler_a", NULL},
        {"euler_ancestral", "euler_a", NULL},
        {"EulerAncestralDiscreteScheduler", "euler_a", NULL},
        {"EulerDiscreteScheduler", "euler", NULL},
        {"Heun", "heun", NULL},
        {"PLMS", "pndm", NULL},
        {"LMS", "lms", NULL},
        {"LMS Karras", "lms", "karras"},
        {"k_lms", "lms", NULL},
        {"LMSDiscreteScheduler", "lms", NULL},
        {"PNDMScheduler", "pndm", NULL},
        {"uni_pc", "unipc", NULL},
        {"UniPCMultistepScheduler", "unipc", NULL},
        {"LCM", "lcm", NULL},
        {"TCD", "tcd", NULL},
        {"TCDScheduler", "tcd", NULL},
        {"DPM++ SDE Karras", "dpm++sde", "karras"},
        {"dpmpp_sde", "dpm++sde", NULL},
        {"DPM++ 3M SDE Exponential", "dpm++3m_sde", "exponential"},
        {"dpmpp_3m_sde", "dpm++3m_sde", NULL},
        {"heunpp2", "heun++", NULL},
        {"DPM++ 2M SGM Uniform", "dpm++2m", "sgm_uniform"},
        {"Euler Beta", "euler", "beta"},
        {"euler_simple", "euler", "simple"},
        {"DDIM", "ddim", NULL},
        {"DDPMScheduler", "ddpm", NULL},
    };
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        const cn_sigma_schedule *schedule = NULL;
        const cn_sampler_kind *kind = cn_sampler_find(names[i].name, &schedule);
        assert_non_null(kind);
        assert_string_equal(kind->name, names[i].own);
        assert_string_equal(schedule ? schedule->name : "",
                            names[i].schedule ? names[i].schedule : "");
    }
    static const char *const unknown[] = {"",        "karras",      "scheduler",
                                          "euler_b", "DDIM Karras", "dpm"};
    for (size_t i = 0; i < CN_COUNT(unknown); i++) assert_null(cn_sampler_find(unknown[i], NULL));
}

/* A class's own spacing in a model's file doesn't bind the other methods; each row says what its
 * class has, and the reader of the file knows the same. */
static void every_row_names_its_class_and_spacing(void **state)
{
    for (int i = 0; cn_sampler_kind_at(i); i++) {
        const cn_sampler_kind *kind = cn_sampler_kind_at(i);
        const cn_sigma_schedule *schedule = NULL;
        assert_ptr_equal(cn_sampler_find(kind->name, &schedule), kind);
        assert_null(schedule);
        assert_ptr_equal(cn_sampler_find(kind->title, NULL), kind);
        assert_string_equal(cn_sampler_find(kind->class, NULL)->class, kind->class);
        assert_int_not_equal(kind->spacing, CN_SPACING_OWN);
        for (int spacing = CN_SPACING_LEADING; spacing <= CN_SPACING_LINSPACE; spacing++) {
            static const char *const said[] = {"", "leading", "trailing", "linspace"};
            cn_schedule_config c;
            json_t *json = json_pack("{s:s, s:s}", "_class_name", kind->class, "timestep_spacing",
                                     said[spacing]);
            assert_int_equal(cn_schedule_config_read(*state, json, &c), CN_OK);
            const bool own = spacing == (int)kind->spacing;
            if ((int)c.spacing != (own ? CN_SPACING_OWN : spacing))
                fail_msg("%s: %s is read as %d", kind->class, said[spacing], (int)c.spacing);
            json_decref(json);
        }
    }
    for (int i = 0; cn_sigma_schedule_at(i); i++)
        assert_ptr_equal(cn_sigma_schedule_find(cn_sigma_schedule_at(i)->name),
                         cn_sigma_schedule_at(i));
    assert_null(cn_sigma_schedule_find("default"));
}

/* --- what is refused -------------------------------------------------------------------------- */

static void refuse(cn_ctx *ctx, const char *name, const cn_schedule_config *c, int steps,
                   const char *says)
{
    cn_sampler *s = NULL;
    assert_int_equal(cn_sampler_create(ctx, name, c, steps, &s), CN_EINVAL);
    if (!strstr(cn_error(ctx), says)) fail_msg("\"%s\" lacks \"%s\"", cn_error(ctx), says);
}

static void what_cannot_be_sampled_is_refused(void **state)
{
    cn_schedule_config c;
    cn_sampler *s = NULL;
    cn_schedule_config_default(&c);
    refuse(*state, "unheard", &c, 5, "dpm++3m_sde, unipc, lcm, tcd");
    refuse(*state, "lcm", &c, 51, "1 to 50");
    refuse(*state, "tcd", &c, 51, "of tcd: 1 to 50");
    refuse(*state, "unipc", &c, 1000, "1 to 999");
    refuse(*state, "euler", &c, 1001, "1 to 1000");
    refuse(*state, "euler", &c, 0, "1 to 1000");
    snprintf(c.sigma_schedule, sizeof c.sigma_schedule, "gamma");
    refuse(*state, "euler", &c, 5, "discrete, normal, karras");
    assert_int_equal(cn_sampler_create(*state, "ddim", &c, 5, &s), CN_OK); /* has none */
    cn_sampler_destroy(s);
    assert_int_equal(cn_sampler_create(*state, "Euler Karras", &c, 5, &s), CN_OK);
    cn_sampler_destroy(s);
    c.sigma_schedule[0] = 0;
    c.zero_snr = true;
    c.spacing = CN_SPACING_TRAILING;
    refuse(*state, "ddim", &c, 5, "predicts v");
    c.v_prediction = true;
    refuse(*state, "pndm", &c, 5, "noise alone");
    assert_int_equal(cn_sampler_create(*state, "ddim", &c, 5, &s), CN_OK);
    assert_true(s->levels[0].signal == 0);
    cn_sampler_destroy(s);
}

/* Every kind runs at the most and the least steps without leaving the numbers. */
static void all_step_counts_stay_finite(void **state)
{
    cn_schedule_config c;
    cn_schedule_config_default(&c);
    for (int kind = 0; cn_sampler_kind_at(kind); kind++) {
        const char *name = cn_sampler_kind_at(kind)->name;
        for (int steps = 1; steps <= 1000; steps += steps < 20 ? 1 : 49) {
            cn_sampler *s = NULL;
            float x[LATENT], m[LATENT];
            cn_rng rng;
            if (cn_sampler_create(*state, name, &c, steps, &s) != CN_OK) continue;
            cn_rng_seed(&rng, 1);
            begin(s, 0, x);
            for (int i = 0; i < cn_sampler_steps(s); i++) {
                cn_sampler_scale_input(s, i, x, m, LATENT);
                assert_int_equal(cn_sampler_step(s, i, m, x, LATENT, &rng), CN_OK);
            }
            for (int k = 0; k < LATENT; k++) assert_true(isfinite(x[k]));
            cn_sampler_destroy(s);
        }
    }
}

/* A step to a clean level ends in what the model takes x for without its noise. */
static void the_last_step_of_one_is_the_clean_picture(void **state)
{
    static const char *const names[] = {"euler",       "euler_a",     "heun",
                                        "heun++",      "dpm++sde",    "dpm++2m",
                                        "dpm++2m_sde", "dpm++3m_sde", "unipc"};
    cn_schedule_config c;
    cn_schedule_config_default(&c);
    for (size_t i = 0; i < CN_COUNT(names); i++)
        for (int v = 0; v < 2; v++) {
            cn_sampler *s = NULL;
            float x[LATENT], m[LATENT], clean[LATENT];
            cn_rng rng;
            c.v_prediction = v;
            assert_int_equal(cn_sampler_create(*state, names[i], &c, 1, &s), CN_OK);
            cn_rng_seed(&rng, 1);
            begin(s, 0, x);
            cn_seed_tensor("samplers.m", 0, 1, m, LATENT);
            cn_sampler_denoise(s, 0, m, x, clean, LATENT);
            assert_int_equal(cn_sampler_step(s, 0, m, x, LATENT, &rng), CN_OK);
            assert_true(test_relative(test_compare_f32(x, clean, LATENT)) <= 1e-6);
            cn_sampler_destroy(s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_trajectory_is_diffusers, setup, teardown),
        cmocka_unit_test(other_programs_names_are_known),
        cmocka_unit_test_setup_teardown(every_row_names_its_class_and_spacing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_sampled_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(all_step_counts_stay_finite, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_step_of_one_is_the_clean_picture, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
