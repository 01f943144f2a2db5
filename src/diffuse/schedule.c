/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c - see schedule.h. Source: diffusers' schedulers (betas, set_timesteps), torch's
 * linspace. */
#include "diffuse/schedule.h"

#include <math.h>

enum { MAX_TIMESTEPS = 100000 };

/* torch.linspace in float32: counted from the nearer end. */
static float linspace(float first, float last, int n, int i)
{
    if (n == 1) return first;
    float step = (last - first) / (float)(n - 1);
    return i < n / 2 ? first + step * (float)i : last - step * (float)(n - 1 - i);
}

/* The roots of a_t shifted so that the last is 0 and scaled so that the first stays; then through
 * betas and their product again, because diffusers rounds on that way. */
static void end_in_noise(cn_schedule *s)
{
    float *a = s->alphas_cumprod;
    float first = sqrtf(a[0]), last = sqrtf(a[s->n - 1]), before = 1;
    float scale = first / (first - last);
    double product = 1;
    for (int i = 0; i < s->n; i++) {
        float root = (sqrtf(a[i]) - last) * scale, squared = root * root;
        float beta = 1 - squared / before;
        before = squared;
        product *= (double)(1 - beta);
        a[i] = (float)product;
    }
}

cn_status cn_schedule_create(cn_ctx *ctx, const cn_schedule_config *c, cn_schedule **out)
{
    if (c->train_timesteps < 1 || c->train_timesteps > MAX_TIMESTEPS)
        return cn_fail(ctx, CN_EINVAL, "noise schedule: %d timesteps; 1 to %d are possible",
                       c->train_timesteps, MAX_TIMESTEPS);
    if (!(c->beta_start > 0 && c->beta_start < 1 && c->beta_end > 0 && c->beta_end < 1))
        return cn_fail(ctx, CN_EINVAL,
                       "noise schedule: beta from %g to %g; both must be between 0 and 1",
                       c->beta_start, c->beta_end);
    int n = c->train_timesteps;
    cn_schedule *s = cn_alloc(ctx, sizeof *s + (size_t)n * sizeof s->alphas_cumprod[0]);
    if (!s) return CN_ENOMEM;
    s->config = *c;
    s->n = n;
    bool scaled = c->scaled_linear;
    float first = (float)(scaled ? sqrt(c->beta_start) : c->beta_start);
    float last = (float)(scaled ? sqrt(c->beta_end) : c->beta_end);
    /* torch's cumprod accumulates floats in double and rounds each result. */
    double product = 1;
    for (int i = 0; i < n; i++) {
        float beta = linspace(first, last, n, i);
        if (scaled) beta *= beta;
        product *= (double)(1.0f - beta);
        s->alphas_cumprod[i] = (float)product;
    }
    if (c->zero_snr && n > 1) end_in_noise(s);
    *out = s;
    return CN_OK;
}

void cn_schedule_destroy(cn_schedule *s)
{
    cn_free(s);
}

void cn_schedule_add_noise(const cn_schedule *s, int t, const float *x0, const float *noise,
                           float *out, int64_t n)
{
    float a = sqrtf(s->alphas_cumprod[t]), b = sqrtf(1 - s->alphas_cumprod[t]);
    for (int64_t i = 0; i < n; i++) out[i] = a * x0[i] + b * noise[i];
}

void cn_schedule_velocity(const cn_schedule *s, int t, const float *x0, const float *noise,
                          float *out, int64_t n)
{
    float a = sqrtf(s->alphas_cumprod[t]), b = sqrtf(1 - s->alphas_cumprod[t]);
    for (int64_t i = 0; i < n; i++) out[i] = a * noise[i] - b * x0[i];
}

cn_status cn_schedule_check_steps(cn_ctx *ctx, const cn_schedule *s, int steps)
{
    if (steps >= 1 && steps <= s->n) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "%d steps: 1 to %d are possible with this model's schedule",
                   steps, s->n);
}

void cn_schedule_timesteps(const cn_schedule *s, cn_spacing spacing, int steps, bool without_last,
                           double *out)
{
    int points = without_last ? steps + 1 : steps;
    for (int i = 0; i < steps; i++) {
        int from_low = points - 1 - i;
        double t = 0;
        switch (spacing) {
        case CN_SPACING_OWN: /* samplers name theirs */
        case CN_SPACING_LEADING:
            t = (double)((int64_t)from_low * (s->n / points)) + s->config.steps_offset;
            break;
        case CN_SPACING_TRAILING:
            t = rint((double)s->n - (double)i * ((double)s->n / steps)) - 1;
            break;
        case CN_SPACING_LINSPACE:
            t = points == 1 ? 0 : (double)(s->n - 1) * from_low / (points - 1);
            break;
        }
        /* The offset would point behind the table when every timestep is visited. */
        out[i] = CN_MAX(0, CN_MIN(t, (double)(s->n - 1)));
    }
}
