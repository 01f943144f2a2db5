/* SPDX-License-Identifier: Apache-2.0 */
/* golden.c - checks a folder of reference data (reference/make_fixtures.py writes such): every
 * network against the published modules' values, training, the schedule, torch's generator.
 *
 * Usage: golden DIR [PART...]   PART: text_encoder vae controlnet unet half train schedule samplers
 * rng; all by default. train_options, by its name alone: make-training-fixtures.py's part of a
 * folder. Of a folder that make_sdxl.py wrote: text unet controlnet union adapters lllite train
 * samplers. Prints a line per check and "N passed, N failed"; exits 0 when none failed.
 */
#include "../support/fixture.h"
#include "../support/golden_nets.h"
#include "../support/golden_sdxl.h"
#include "../support/golden_train.h"
#include "../support/values.h"

#include "diffuse/samplers/sampler.h"
#include "diffuse/schedule.h"
#include "model/checkpoint/config_io.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_status check_training(fixture *f)
{
    static const char *modes[] = {"seeded", "from_unet", "sd_unlocked", "only_mid"};
    for (size_t i = 0; i < CN_COUNT(modes); i++) CN_TRY(golden_train(f, modes[i]));
    return CN_OK;
}

/* make-training-fixtures.py's, which only the repository's folder has. */
static cn_status check_training_options(fixture *f)
{
    static const char *modes[] = {"batch3_min_snr", "batch1_joint_huber", "v_zero_snr_smooth_l1"};
    for (size_t i = 0; i < CN_COUNT(modes); i++) CN_TRY(golden_train(f, modes[i]));
    return CN_OK;
}

/* --- torch's CPU generator -------------------------------------------------------------------- */

/* The file keeps the first 40 and the last 8 values. Vector and scalar log, cos and sin differ in
 * the last bits of a float: 2e-6 of the largest, which is about 4. */
static void check_randn(fixture *f, const char *key, const json_t *want, uint64_t seed, int64_t n)
{
    float *all = test_alloc((size_t)n * sizeof *all);
    cn_rng r;
    cn_rng_seed(&r, seed);
    cn_rng_normal(&r, all, n);
    int64_t head = CN_MIN(n, 40), tail = CN_MIN(n, 8), count = head + tail;
    float got[48], expected[48];
    for (int64_t i = 0; i < count; i++) {
        got[i] = i < head ? all[i] : all[n - tail + i - head];
        expected[i] = (float)json_number_value(json_array_get(want, (size_t)i));
    }
    if ((int64_t)json_array_size(want) == count)
        report_close(&f->report, key, got, expected, count, 2e-6);
    else
        report_check(&f->report, false, "%s: %zu values", key, json_array_size(want));
    free(all);
}

static void check_randint(fixture *f, const char *key, const json_t *want, uint64_t seed)
{
    cn_rng r;
    cn_rng_seed(&r, seed);
    bool same = json_array_size(want) > 0;
    for (size_t i = 0; i < json_array_size(want); i++)
        same &= cn_rng_below(&r, 1000) == json_integer_value(json_array_get(want, i));
    report_check(&f->report, same, "%s", key);
}

static cn_status check_rng(fixture *f)
{
    json_t *json = NULL;
    CN_TRY(fixture_json(f, "torch_cpu_rng.json", &json));
    const char *key;
    json_t *want;
    json_object_foreach(json, key, want)
    {
        unsigned long long seed = 0;
        long long n = 0;
        if (sscanf(key, "randn seed=%llu n=%lld", &seed, &n) == 2 && n > 0)
            check_randn(f, key, want, seed, n);
        else if (sscanf(key, "randint1000 seed=%llu n=%lld", &seed, &n) == 2)
            check_randint(f, key, want, seed);
        else
            report_check(&f->report, false, "%s: not a draw that this program knows", key);
    }
    json_decref(json);
    return CN_OK;
}

/* --- schedule --------------------------------------------------------------------------------- */

/* The library's are computed in f32 as torch's are: two roundings apart at most. */
static cn_status check_alphas(fixture *f, const json_t *json)
{
    cn_schedule_config c;
    cn_schedule *schedule = NULL;
    cn_schedule_config_default(&c);
    CN_TRY(cn_schedule_create(f->env.ctx, &c, &schedule));
    const char *key;
    json_t *want;
    json_object_foreach(json_object_get(json, "alphas_cumprod"), key, want)
    {
        char name[64];
        int t = (int)strtol(key, NULL, 10);
        snprintf(name, sizeof name, "alphas_cumprod %s", key);
        float expected = (float)json_number_value(want);
        if (t >= 0 && t < schedule->n)
            report_close(&f->report, name, &schedule->alphas_cumprod[t], &expected, 1, 1.2e-7);
        else
            report_check(&f->report, false, "%s: the schedule has %d", name, schedule->n);
    }
    cn_schedule_destroy(schedule);
    return CN_OK;
}

static cn_status check_schedule(fixture *f)
{
    json_t *json = NULL;
    CN_TRY(fixture_json(f, "schedule.json", &json));
    cn_status s = check_alphas(f, json);
    json_decref(json);
    return s;
}

/* --- samplers --------------------------------------------------------------------------------- */

/* make_fixtures.py's analytic model and latent, [1,4,4,4]. */
enum { SAMPLER_LATENT = 64, SAMPLER_STEPS = 8, SAMPLER_SEED = 1234 };

/* Eight or so steps of f32 arithmetic whose terms nearly cancel near the end. */
static const double SAMPLER_TOLERANCE = 2e-5;

static cn_status run_sampler(fixture *f, const char *label, const json_t *want, cn_sampler *s)
{
    const json_t *path = json_object_get(want, "path"), *times = json_object_get(want, "timesteps");
    float x[SAMPLER_LATENT], z[SAMPLER_LATENT], expected[SAMPLER_LATENT];
    double worst = 0, sigma = cn_sampler_init_noise_sigma(s);
    double sigma_want = cn_json_number(want, "init_noise_sigma", 0);
    bool same = cn_sampler_steps(s) == (int)json_array_size(path) &&
                fabs(sigma - sigma_want) <= 1e-5 * sigma_want;
    fixture_normal(f, "sampler.x", SAMPLER_LATENT, x);
    for (int k = 0; k < SAMPLER_LATENT; k++) x[k] = (float)((double)x[k] * sigma);
    cn_rng rng;
    cn_rng_seed(&rng, SAMPLER_SEED);
    for (int i = 0; same && i < cn_sampler_steps(s); i++) {
        double t = cn_sampler_timestep(s, i);
        same = fabs(t - json_number_value(json_array_get(times, (size_t)i))) <= 1e-3;
        cn_sampler_scale_input(s, i, x, z, SAMPLER_LATENT);
        for (int k = 0; k < SAMPLER_LATENT; k++) z[k] = 0.5f * z[k] + 0.1f * sinf((float)(t / 100));
        CN_TRY(cn_sampler_step(s, i, z, x, SAMPLER_LATENT, &rng));
        const json_t *step = json_array_get(path, (size_t)i);
        for (size_t k = 0; k < SAMPLER_LATENT; k++)
            expected[k] = (float)json_number_value(json_array_get(step, k));
        worst = fmax(worst, test_relative(test_compare_f32(x, expected, SAMPLER_LATENT)));
    }
    report_check(&f->report, same && worst <= SAMPLER_TOLERANCE,
                 "%s: %d steps, max_err %.2g (allowed %.0g)%s", label, cn_sampler_steps(s), worst,
                 SAMPLER_TOLERANCE, same ? "" : ", other timesteps or initial sigma");
    return CN_OK;
}

static cn_status check_sampler(fixture *f, const char *file, const char *key, const json_t *want)
{
    char label[128];
    cn_schedule_config c;
    cn_sampler *s = NULL;
    snprintf(label, sizeof label, "%s %s", file, key);
    CN_TRY(cn_schedule_config_read(f->env.ctx, json_object_get(want, "config"), &c));
    CN_TRY(cn_sampler_create(f->env.ctx, key, &c, SAMPLER_STEPS, &s));
    cn_status status = run_sampler(f, label, want, s);
    cn_sampler_destroy(s);
    return status;
}

static cn_status check_sampler_file(fixture *f, const char *file)
{
    char path[64];
    json_t *json = NULL;
    CN_TRY(cn_format(f->env.ctx, path, sizeof path, "%s.json", file));
    CN_TRY(fixture_json(f, path, &json));
    const char *key;
    json_t *want;
    json_object_foreach(json, key, want)
        report_status(&f->report, key, f->env.ctx, check_sampler(f, file, key, want));
    json_decref(json);
    return CN_OK;
}

static cn_status check_samplers(fixture *f)
{
    CN_TRY(check_sampler_file(f, "samplers_epsilon"));
    return check_sampler_file(f, "samplers_v_prediction");
}

/* --- SDXL ------------------------------------------------------------------------------------- */

static cn_status check_sdxl_training(fixture *f)
{
    CN_TRY(golden_train(f, "seeded"));
    return golden_train(f, "from_unet");
}

static cn_status check_sdxl_samplers(fixture *f)
{
    return check_sampler_file(f, "samplers_sdxl");
}

/* --- */

typedef struct part {
    const char *name;
    cn_status (*check)(fixture *f);
    bool by_name; /* only when asked for */
} part;

static const part PARTS[] = {
    {"text_encoder", golden_text_encoder, false},
    {"vae", golden_vae, false},
    {"controlnet", golden_controlnet, false},
    {"unet", golden_unet, false},
    {"half", golden_half, false},
    {"train", check_training, false},
    {"train_options", check_training_options, true},
    {"schedule", check_schedule, false},
    {"samplers", check_samplers, false},
    {"rng", check_rng, false},
    {NULL, NULL, false},
};

static const part SDXL_PARTS[] = {
    {"text", golden_sdxl_text, false},
    {"unet", golden_sdxl_unet, false},
    {"controlnet", golden_sdxl_controlnet, false},
    {"union", golden_sdxl_union, false},
    {"adapters", golden_sdxl_adapters, false},
    {"lllite", golden_sdxl_lllite, false},
    {"train", check_sdxl_training, false},
    {"samplers", check_sdxl_samplers, false},
    {NULL, NULL, false},
};

/* make_sdxl.py's folders have one file of inputs for all networks. */
static const part *parts_of(const fixture *f)
{
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/inputs.safetensors", f->dir);
    return cn_file_exists(path) ? SDXL_PARTS : PARTS;
}

static bool asked(int argc, char **argv, const part *p)
{
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], p->name) == 0) return true;
    return argc <= 2 && !p->by_name;
}

static cn_status read_salt(fixture *f)
{
    json_t *json = NULL;
    CN_TRY(fixture_json(f, "versions.json", &json));
    cn_status s =
        cn_format(f->env.ctx, f->salt, sizeof f->salt, "%s", cn_json_str(json, "salt", ""));
    json_decref(json);
    return s;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: golden DIR [PART...]\n");
        return 2;
    }
    fixture f = {.dir = argv[1], .inputs = "input."};
    if (!test_env_open(&f.env, 0)) {
        fprintf(stderr, "no CPU backend\n");
        return 1;
    }
    if (report_status(&f.report, "versions.json", f.env.ctx, read_salt(&f)))
        for (const part *p = parts_of(&f); p->name; p++)
            if (asked(argc, argv, p)) report_status(&f.report, p->name, f.env.ctx, p->check(&f));
    test_env_close(&f.env);
    return report_end(&f.report);
}
