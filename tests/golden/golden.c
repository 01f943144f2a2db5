/* golden.c - checks a folder of reference data (reference/make_fixtures.py writes such): every network
 * against the published modules' values, training, the schedule, torch's generator.
 *
 * Usage: golden DIR [PART...]   PART: text_encoder vae controlnet unet train rng schedule; all by default.
 * Prints a line per check and "N passed, N failed"; exits 0 when none failed.
 */
#include "../support/fixture.h"
#include "../support/golden_nets.h"
#include "../support/golden_train.h"
#include "../support/noise.h"
#include "../support/values.h"

#include "model/config_io.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_status check_training(fixture *f)
{
    static const char *modes[] = {"seeded", "from_unet", "sd_unlocked", "only_mid"};
    for (size_t i = 0; i < CN_COUNT(modes); i++) CN_TRY(golden_train(f, modes[i]));
    return CN_OK;
}

/* --- torch's CPU generator ----------------------------------------------------------------------- */

/* The file keeps the first 40 and the last 8 values. Vector and scalar log, cos and sin differ in the
 * last bits of a float: 2e-6 of the largest, which is about 4. */
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

/* --- schedule ------------------------------------------------------------------------------------ */

/* torch accumulates the product in f32: 1000 roundings of 6e-8 each. */
static cn_status check_schedule(fixture *f)
{
    json_t *json = NULL;
    CN_TRY(fixture_json(f, "schedule.json", &json));
    cn_schedule_config c;
    cn_schedule_config_default(&c);
    const char *key;
    json_t *want;
    json_object_foreach(json_object_get(json, "alphas_cumprod"), key, want)
    {
        char name[64];
        snprintf(name, sizeof name, "alphas_cumprod %s", key);
        float got = (float)test_alphas_cumprod(&c, atoi(key)),
              expected = (float)json_number_value(want);
        report_close(&f->report, name, &got, &expected, 1, 2e-5);
    }
    json_decref(json);
    return CN_OK;
}

/* --- */

static const struct {
    const char *name;
    cn_status (*check)(fixture *f);
} PARTS[] = {
    {"text_encoder", golden_text_encoder},
    {"vae", golden_vae},
    {"controlnet", golden_controlnet},
    {"unet", golden_unet},
    {"train", check_training},
    {"schedule", check_schedule},
    {"rng", check_rng},
};

static bool asked(int argc, char **argv, const char *part)
{
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], part) == 0) return true;
    return argc <= 2;
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
        for (size_t i = 0; i < CN_COUNT(PARTS); i++)
            if (asked(argc, argv, PARTS[i].name))
                report_status(&f.report, PARTS[i].name, f.env.ctx, PARTS[i].check(&f));
    test_env_close(&f.env);
    return report_end(&f.report);
}
