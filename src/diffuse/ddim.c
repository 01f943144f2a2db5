/* ddim.c - Song, Meng and Ermon, "Denoising Diffusion Implicit Models", with eta 0: no noise is drawn.
 *
 * Timesteps and the last step's alpha as diffusers' DDIMScheduler with the model's scheduler_config.json:
 * behind the last step stands alphas_cumprod[0] unless set_alpha_to_one.
 */
#include "diffuse/sampler.h"

#include <math.h>

static cn_status prepare(cn_ctx *ctx, cn_sampler *s, int steps)
{
    s->n = steps;
    s->timesteps = cn_alloc_array(ctx, (size_t)s->n, sizeof *s->timesteps);
    if (!s->timesteps) return CN_ENOMEM;
    cn_schedule_timesteps(s->schedule, CN_SPACING_LEADING, steps, s->timesteps);
    return CN_OK;
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    const cn_schedule *sc = s->schedule;
    int t = (int)s->timesteps[i], before = t - sc->n / s->steps;
    double a = (double)sc->alphas_cumprod[t];
    double a_before = before >= 0                   ? (double)sc->alphas_cumprod[before]
                      : sc->config.set_alpha_to_one ? 1
                                                    : (double)sc->alphas_cumprod[0];
    double ra = sqrt(a), rb = sqrt(1 - a);
    double to_x0 = sqrt(a_before), to_noise = sqrt(1 - a_before);
    bool clip = sc->config.clip_sample;
    for (int64_t k = 0; k < n; k++) {
        double m = (double)model_out[k], v = (double)x[k];
        double x0 = sc->config.v_prediction ? ra * v - rb * m : (v - rb * m) / ra;
        double noise = sc->config.v_prediction ? ra * m + rb * v : m;
        if (clip) x0 = CN_MAX(-1, CN_MIN(1, x0));
        x[k] = (float)(to_x0 * x0 + to_noise * noise);
    }
    return CN_OK;
}

const cn_sampler_kind cn_sampler_ddim = {
    .name = "ddim", .title = "DDIM", .prepare = prepare, .step = step};
