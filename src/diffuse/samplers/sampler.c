/* SPDX-License-Identifier: Apache-2.0 */
/* sampler.c - the table of samplers and what they have in common. */
#include "diffuse/samplers/samplers.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define SAMPLER(name)  &cn_sampler_##name,
#define SCHEDULE(name) &cn_sigmas_##name,
static const cn_sampler_kind *const kinds[] = {CN_SAMPLER_LIST(SAMPLER)};
static const cn_sigma_schedule *const schedules[] = {CN_SIGMA_SCHEDULE_LIST(SCHEDULE)};

/* --- names ------------------------------------------------------------------------------------ */

/* "DPM++ 2M Karras" to "dpmpp2mkarras"; longer names than any are cut. */
static void normalise_name(const char *name, char *out, size_t cap)
{
    size_t n = 0;
    for (; *name && n + 1 < cap; name++) {
        if (strchr(" -_", *name)) continue;
        out[n++] = *name == '+' ? 'p' : (char)tolower((unsigned char)*name);
    }
    out[n] = 0;
}

static bool drop_ending(char *name, const char *ending)
{
    size_t n = strlen(name), e = strlen(ending);
    if (n <= e || strcmp(name + n - e, ending) != 0) return false;
    name[n - e] = 0;
    return true;
}

/* Whether `normal` is one of kind's names; a class's "Scheduler" isn't in it. */
static bool has_name(const cn_sampler_kind *kind, const char *normal)
{
    char own[64], class[64];
    normalise_name(kind->name, own, sizeof own);
    normalise_name(kind->class, class, sizeof class);
    drop_ending(class, "scheduler");
    bool same = !strcmp(own, normal) || !strcmp(class, normal);
    for (int i = 0; !same && kind->aliases[i]; i++) same = !strcmp(kind->aliases[i], normal);
    return same;
}

static const cn_sampler_kind *find_kind(const char *normal)
{
    for (size_t i = 0; i < CN_COUNT(kinds); i++)
        if (has_name(kinds[i], normal)) return kinds[i];
    return NULL;
}

const cn_sampler_kind *cn_sampler_find(const char *name, const cn_sigma_schedule **schedule)
{
    char normal[64], rest[64], ending[64];
    normalise_name(name, normal, sizeof normal);
    drop_ending(normal, "scheduler");
    const cn_sampler_kind *kind = find_kind(normal);
    const cn_sigma_schedule *said = NULL;
    for (size_t i = 0; !kind && i < CN_COUNT(schedules); i++) {
        memcpy(rest, normal, sizeof rest);
        normalise_name(schedules[i]->name, ending, sizeof ending);
        if (!drop_ending(rest, ending)) continue;
        said = schedules[i];
        kind = find_kind(rest);
        if (kind && !kind->sigma_schedule) return NULL;
    }
    if (schedule) *schedule = kind ? said : NULL;
    return kind;
}

const cn_sampler_kind *cn_sampler_kind_at(int i)
{
    return i >= 0 && (size_t)i < CN_COUNT(kinds) ? kinds[i] : NULL;
}

const cn_sigma_schedule *cn_sigma_schedule_at(int i)
{
    return i >= 0 && (size_t)i < CN_COUNT(schedules) ? schedules[i] : NULL;
}

const cn_sigma_schedule *cn_sigma_schedule_find(const char *name)
{
    for (size_t i = 0; i < CN_COUNT(schedules); i++)
        if (!strcmp(schedules[i]->name, name)) return schedules[i];
    return NULL;
}

void cn_sampler_names(bool with_sigmas, cn_str *out)
{
    const size_t before = out->len;
    for (size_t i = 0; i < CN_COUNT(kinds); i++)
        if (!with_sigmas || kinds[i]->sigma_schedule)
            cn_str_addf(out, "%s%s", out->len > before ? ", " : "", kinds[i]->name);
}

void cn_sigma_schedule_names(cn_str *out)
{
    for (size_t i = 0; i < CN_COUNT(schedules); i++)
        cn_str_addf(out, "%s%s", i ? ", " : "", schedules[i]->name);
}

static cn_status fail_unknown(cn_ctx *ctx, const char *name)
{
    cn_str list = {0};
    cn_sampler_names(false, &list);
    cn_status s = cn_fail(ctx, CN_EINVAL, "unknown sampling method \"%.64s\": there is %s", name,
                          list.data ? list.data : "none");
    cn_str_free(&list);
    return s;
}

/* --- creating --------------------------------------------------------------------------------- */

/* From noise alone a prediction of the noise says nothing about the picture. */
static cn_status check_levels(cn_ctx *ctx, const cn_sampler *s)
{
    if (s->schedule->config.v_prediction) return CN_OK;
    for (int i = 0; i < s->n; i++)
        if (s->levels[i].signal == 0)
            return cn_fail(ctx, CN_EINVAL,
                           "timestep %g is noise alone (zero terminal SNR), where %s needs a model "
                           "that predicts v; this one predicts the noise",
                           s->timesteps[i], s->kind->name);
    return CN_OK;
}

/* Which schedule of sigmas the run has: as its sampler's name said, else as the model's config
 * does, else the plain one. */
static cn_status choose_sigmas(cn_ctx *ctx, cn_sampler *s, const cn_sigma_schedule *said)
{
    const char *asked = s->schedule->config.sigma_schedule;
    if (!s->kind->sigma_schedule) return CN_OK;
    s->sigma_schedule = said ? said : asked[0] ? cn_sigma_schedule_find(asked) : schedules[0];
    if (s->sigma_schedule) return CN_OK;
    cn_str list = {0};
    cn_sigma_schedule_names(&list);
    cn_status status =
        cn_fail(ctx, CN_EINVAL,
                "the noise levels \"%s\", which the model's scheduler_config.json asks for, aren't "
                "known: there are %s (--scheduler)",
                asked, list.data ? list.data : "none");
    cn_str_free(&list);
    return status;
}

static cn_status prepare(cn_ctx *ctx, cn_sampler *s, const cn_schedule_config *config,
                         const cn_sigma_schedule *said)
{
    CN_TRY(cn_schedule_create(ctx, config, &s->schedule));
    CN_TRY(cn_schedule_check_steps(ctx, s->schedule, s->steps));
    CN_TRY(choose_sigmas(ctx, s, said));
    CN_TRY(s->kind->prepare(ctx, s));
    return check_levels(ctx, s);
}

cn_status cn_sampler_create(cn_ctx *ctx, const char *name, const cn_schedule_config *config,
                            int steps, cn_sampler **out)
{
    const cn_sigma_schedule *said = NULL;
    const cn_sampler_kind *kind = cn_sampler_find(name, &said);
    if (!kind) return fail_unknown(ctx, name);
    cn_sampler *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    s->ctx = ctx;
    s->kind = kind;
    s->spacing = config->spacing ? config->spacing : kind->spacing;
    s->steps = steps;
    s->init_noise_sigma = 1;
    const cn_status status = prepare(ctx, s, config, said);
    if (status != CN_OK) {
        cn_sampler_destroy(s);
        return status;
    }
    *out = s;
    return CN_OK;
}

void cn_sampler_destroy(cn_sampler *s)
{
    if (!s) return;
    cn_schedule_destroy(s->schedule);
    cn_free(s->timesteps);
    cn_free(s->levels);
    cn_free(s->history);
    cn_free(s);
}

cn_status cn_sampler_allocate(cn_ctx *ctx, cn_sampler *s, int n)
{
    s->n = n;
    s->timesteps = cn_alloc_array(ctx, (size_t)n, sizeof *s->timesteps);
    s->levels = cn_alloc_array(ctx, (size_t)n + 1, sizeof *s->levels);
    return s->timesteps && s->levels ? CN_OK : CN_ENOMEM;
}

cn_level cn_sampler_level_at(const cn_sampler *s, int t)
{
    double a = (double)s->schedule->alphas_cumprod[t];
    return (cn_level){sqrt(a), sqrt(1 - a)};
}

cn_level cn_sampler_last_level(const cn_sampler *s)
{
    return s->schedule->config.set_alpha_to_one ? (cn_level){1, 0} : cn_sampler_level_at(s, 0);
}

cn_status cn_sampler_prepare_discrete(cn_ctx *ctx, cn_sampler *s, cn_level last)
{
    CN_TRY(cn_sampler_allocate(ctx, s, s->steps));
    cn_schedule_timesteps(s->schedule, s->spacing, s->steps, false, s->timesteps);
    for (int i = 0; i < s->n; i++) {
        s->timesteps[i] = rint(s->timesteps[i]);
        s->levels[i] = cn_sampler_level_at(s, (int)s->timesteps[i]);
    }
    s->levels[s->n] = last;
    return CN_OK;
}

cn_status cn_sampler_prepare_distilled(cn_ctx *ctx, cn_sampler *s, cn_level last)
{
    const int of = s->schedule->config.lcm_steps, apart = s->schedule->n / of;
    if (s->steps > of)
        return cn_fail(ctx, CN_EINVAL,
                       "%d steps of %s: 1 to %d are possible, as many as it was distilled with",
                       s->steps, s->kind->name, of);
    CN_TRY(cn_sampler_allocate(ctx, s, s->steps));
    for (int i = 0; i < s->n; i++) {
        const int index = (int)floor((double)i * ((double)of / s->steps));
        s->timesteps[i] = (of - index) * apart - 1;
        s->levels[i] = cn_sampler_level_at(s, (int)s->timesteps[i]);
    }
    s->levels[s->n] = last;
    return CN_OK;
}

/* --- a run ------------------------------------------------------------------------------------ */

int cn_sampler_steps(const cn_sampler *s)
{
    return s->n;
}
double cn_sampler_timestep(const cn_sampler *s, int i)
{
    return s->timesteps[i];
}
double cn_sampler_init_noise_sigma(const cn_sampler *s)
{
    return s->init_noise_sigma;
}

cn_status cn_sampler_start(cn_sampler *s, double strength, int *first)
{
    if (!(strength > 0 && strength <= 1))
        return cn_fail(s->ctx, CN_EINVAL, "strength %g: above 0 and at most 1 is expected",
                       strength);
    int order = CN_MAX(1, s->kind->order), kept = (int)((double)s->steps * strength);
    if (kept < 1)
        return cn_fail(s->ctx, CN_EINVAL,
                       "strength %g of %d steps leaves no step: at least %.3g is expected",
                       strength, s->steps, 1.0 / s->steps);
    s->first = CN_MIN((s->steps - kept) * order, s->n - 1);
    *first = s->first;
    return CN_OK;
}

int cn_sampler_before(const cn_sampler *s, double part)
{
    const double all = s->schedule->n, least = rint(all - part * all);
    int n = 0;
    for (int i = 0; i < s->n; i++) n += s->timesteps[i] >= least;
    return n;
}

cn_status cn_sampler_start_behind(cn_sampler *s, double part, int *first)
{
    int left = s->n - cn_sampler_before(s, part);
    if (s->kind->order == 2 && left % 2 == 0) left++; /* a step's second call has no start */
    if (left < 1 || left > s->n)
        return cn_fail(s->ctx, CN_EINVAL,
                       "--refiner-start %g of %d steps leaves the refiner no step", part, s->steps);
    *first = s->first = s->n - left;
    return CN_OK;
}

void cn_sampler_add_noise(const cn_sampler *s, int i, const float *x0, const float *noise,
                          float *out, int64_t n)
{
    const cn_level l = s->levels[i];
    cn_sampler_sum((const cn_term[]){{l.signal, x0}, {l.noise, noise}}, 2, out, n);
}

/* sqrt(signal^2 + noise^2), exactly 1 where it is meant to be. */
static double scale_of(cn_level l)
{
    return l.signal == 1 ? sqrt(1 + l.noise * l.noise) : 1;
}

void cn_sampler_scale_input(const cn_sampler *s, int i, const float *x, float *out, int64_t n)
{
    cn_sampler_sum(&(const cn_term){1 / scale_of(s->levels[i]), x}, 1, out, n);
}

cn_estimate cn_sampler_estimate(const cn_sampler *s, cn_level l)
{
    if (!s->schedule->config.v_prediction)
        return (cn_estimate){1 / l.signal, -l.noise / l.signal, 0, 1};
    double scale = scale_of(l), square = scale * scale;
    return (cn_estimate){l.signal / square, -l.noise / scale, l.noise / square, l.signal / scale};
}

void cn_sampler_denoise(const cn_sampler *s, int i, const float *model_out, const float *x,
                        float *out, int64_t n)
{
    const cn_estimate e = cn_sampler_estimate(s, s->levels[i]);
    cn_sampler_sum((const cn_term[]){{e.x0_x, x}, {e.x0_m, model_out}}, 2, out, n);
}

double cn_sampler_clip(const cn_sampler *s, double x0)
{
    const cn_schedule_config *c = &s->schedule->config;
    return c->clip_sample ? CN_MAX(-c->clip_range, CN_MIN(c->clip_range, x0)) : x0;
}

void cn_sampler_noise(const cn_sampler *s, cn_rng *rng, float *out, int64_t n)
{
    const int parts = CN_MAX(1, s->rngs);
    for (int i = 0; i < parts; i++) cn_rng_normal(&rng[i], out + i * (n / parts), n / parts);
}

cn_status cn_sampler_step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                          cn_rng *rng)
{
    if (i < 0 || i >= s->n)
        return cn_fail(s->ctx, CN_EINTERNAL, "step %d of a sampler with %d steps", i, s->n);
    return s->kind->step(s, i, model_out, x, n, rng);
}

/* --- for the kinds ---------------------------------------------------------------------------- */

cn_status cn_sampler_remember(cn_sampler *s, int n_slots, int64_t n)
{
    if (s->history) return CN_OK;
    s->history = cn_alloc_array(s->ctx, (size_t)n_slots * (size_t)n, sizeof *s->history);
    if (!s->history) return CN_ENOMEM;
    for (int k = 0; k < n_slots; k++) s->slots[k] = s->history + k * n;
    return CN_OK;
}

void cn_sampler_rotate(cn_sampler *s, int n)
{
    float *last = s->slots[n - 1];
    for (int k = n - 1; k > 0; k--) s->slots[k] = s->slots[k - 1];
    s->slots[0] = last;
}

void cn_sampler_sum(const cn_term *terms, int n_terms, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < n_terms; k++) sum += terms[k].weight * (double)terms[k].values[i];
        out[i] = (float)sum;
    }
}
