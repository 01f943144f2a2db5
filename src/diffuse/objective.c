/* SPDX-License-Identifier: Apache-2.0 */
/* objective.c - see objective.h. */
#include "diffuse/objective.h"

#include <math.h>

const char *const cn_objective_losses[] = {"l2", "l1", "huber", "smooth_l1", NULL};
const char *const cn_objective_huber_schedules[] = {"snr", "exponential", "constant", NULL};

static cn_status check(cn_ctx *ctx, const cn_train_options *o, const cn_schedule *schedule)
{
    if (o->max_timestep && (o->max_timestep > schedule->n || o->min_timestep >= o->max_timestep))
        return cn_fail(ctx, CN_EINVAL,
                       "--min-timestep %lld --max-timestep %lld: 0 <= min < max <= %d is expected",
                       (long long)o->min_timestep, (long long)o->max_timestep, schedule->n);
    if (!o->max_timestep && o->min_timestep >= schedule->n)
        return cn_fail(ctx, CN_EINVAL, "--min-timestep %lld: the schedule has %d timesteps",
                       (long long)o->min_timestep, schedule->n);
    if (!schedule->config.zero_snr || schedule->config.v_prediction) return CN_OK;
    if (o->snr_gamma > 0)
        return cn_fail(ctx, CN_EINVAL,
                       "--snr-gamma divides by the last timestep's signal, which "
                       "--rescale-betas-zero-snr makes 0; a base that predicts v has both");
    cn_log(ctx, CN_LOG_WARN,
           "--rescale-betas-zero-snr with a base that predicts the noise: at the last timestep it "
           "learns nothing; a base that predicts v is expected (--prediction-type)");
    return CN_OK;
}

cn_status cn_objective_find(cn_ctx *ctx, const cn_train_options *o, const cn_schedule *schedule,
                            cn_objective *out)
{
    static const cn_loss kinds[] = {CN_LOSS_MSE, CN_LOSS_L1, CN_LOSS_HUBER, CN_LOSS_SMOOTH_L1};
    int loss = 0, huber = 0;
    CN_TRY(cn_word_find(ctx, "loss-type", o->loss_type, cn_objective_losses, &loss));
    CN_TRY(cn_word_find(ctx, "huber-schedule", o->huber_schedule, cn_objective_huber_schedules,
                        &huber));
    CN_TRY(check(ctx, o, schedule));
    const int64_t end = o->max_timestep ? o->max_timestep : schedule->n;
    *out = (cn_objective){.loss = kinds[loss],
                          .huber_schedule = (cn_huber_schedule)huber,
                          .huber_c = o->huber_c,
                          .snr_gamma = o->snr_gamma,
                          .noise_offset = o->noise_offset,
                          .first_timestep = (int)o->min_timestep,
                          .timesteps = (int)(end - o->min_timestep)};
    return CN_OK;
}

static bool is_huber(const cn_objective *o)
{
    return o->loss == CN_LOSS_HUBER || o->loss == CN_LOSS_SMOOTH_L1;
}

bool cn_objective_weighs(const cn_objective *o)
{
    return o->snr_gamma > 0 || is_huber(o);
}

/* Hang and others, "Efficient Diffusion Training via Min-SNR Weighting Strategy", as diffusers'
 * examples: min(snr, gamma) / snr for the noise, / (snr + 1) for v. */
static double snr_weight(const cn_objective *o, const cn_schedule *schedule, double a)
{
    const double snr = a / (1 - a), least = fmin(snr, o->snr_gamma);
    return schedule->config.v_prediction ? least / (snr + 1) : least / snr;
}

/* kohya's get_huber_threshold_if_needed: 1 at little noise, huber_c at much. */
static double huber_c(const cn_objective *o, const cn_schedule *schedule, double a, int timestep)
{
    const double sigma = sqrt((1 - a) / a); /* infinite where a is 0 */
    switch (o->huber_schedule) {
    case CN_HUBER_SNR: return (1 - o->huber_c) / ((1 + sigma) * (1 + sigma)) + o->huber_c;
    case CN_HUBER_EXPONENTIAL: return pow(o->huber_c, (double)timestep / schedule->n);
    default: return o->huber_c;
    }
}

void cn_objective_weigh(const cn_objective *o, const cn_schedule *schedule, int timestep,
                        float per[2])
{
    const double a = (double)schedule->alphas_cumprod[timestep];
    per[0] = o->snr_gamma > 0 ? (float)snr_weight(o, schedule, a) : 1;
    per[1] = is_huber(o) ? (float)huber_c(o, schedule, a, timestep) : 0;
}

/* Guttenberg, "Diffusion with Offset Noise". */
void cn_objective_shift(const cn_objective *o, cn_rng *rng, float *noise, int64_t rows, int64_t C)
{
    if (!(o->noise_offset > 0)) return;
    for (int64_t c = 0; c < C; c++) {
        float shift;
        cn_rng_normal(rng, &shift, 1);
        for (int64_t p = 0; p < rows; p++) noise[p * C + c] += (float)o->noise_offset * shift;
    }
}
