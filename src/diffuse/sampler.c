/* sampler.c - the table of samplers and what they have in common. */
#include "diffuse/sampler.h"

#include <string.h>

static const cn_sampler_kind *const kinds[] = {&cn_sampler_ddim};

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) return false;
    return *a == *b;
}

const cn_sampler_kind *cn_sampler_find(const char *name)
{
    for (size_t i = 0; i < CN_COUNT(kinds); i++)
        if (same_name(kinds[i]->name, name)) return kinds[i];
    return NULL;
}

const char *cn_sampler_name(int i)
{
    return i >= 0 && (size_t)i < CN_COUNT(kinds) ? kinds[i]->name : NULL;
}

static cn_status fail_unknown(cn_ctx *ctx, const char *name)
{
    cn_str list = {0};
    for (size_t i = 0; i < CN_COUNT(kinds); i++)
        cn_str_addf(&list, "%s%s", i ? ", " : "", kinds[i]->name);
    cn_status s = cn_fail(ctx, CN_EINVAL, "unknown sampling method \"%.64s\": there is %s", name,
                          list.data ? list.data : "none");
    cn_str_free(&list);
    return s;
}

cn_status cn_sampler_create(cn_ctx *ctx, const char *name, const cn_schedule_config *config,
                            int steps, cn_sampler **out)
{
    const cn_sampler_kind *kind = cn_sampler_find(name);
    if (!kind) return fail_unknown(ctx, name);
    cn_sampler *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    s->ctx = ctx;
    s->kind = kind;
    s->steps = steps;
    s->init_noise_sigma = 1;
    cn_status status = cn_schedule_create(ctx, config, &s->schedule);
    if (status == CN_OK) status = cn_schedule_check_steps(ctx, s->schedule, steps);
    if (status == CN_OK) status = kind->prepare(ctx, s, steps);
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
    cn_free(s->history);
    cn_free(s);
}

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
    s->first = (s->steps - kept) * order;
    *first = s->first;
    return CN_OK;
}

void cn_sampler_add_noise(const cn_sampler *s, int i, const float *x0, const float *noise,
                          float *out, int64_t n)
{
    if (s->kind->add_noise)
        s->kind->add_noise(s, i, x0, noise, out, n);
    else
        cn_schedule_add_noise(s->schedule, (int)s->timesteps[i], x0, noise, out, n);
}

void cn_sampler_scale_input(const cn_sampler *s, int i, const float *x, float *out, int64_t n)
{
    if (s->kind->scale_input)
        s->kind->scale_input(s, i, x, out, n);
    else if (out != x)
        memcpy(out, x, (size_t)n * sizeof *x);
}

cn_status cn_sampler_step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                          cn_rng *rng)
{
    if (i < 0 || i >= s->n)
        return cn_fail(s->ctx, CN_EINTERNAL, "step %d of a sampler with %d steps", i, s->n);
    return s->kind->step(s, i, model_out, x, n, rng);
}
