/* sampler.h - from the model's predictions to the next, less noisy latents.
 *
 *   cn_sampler_create     name, schedule and number of steps fix the timesteps
 *   for i in 0..steps-1   model input = scale_input(x), then step(prediction, x)
 *
 * A run that starts from a picture instead of noise makes only the last steps: cn_sampler_start says which is
 * the first, cn_sampler_add_noise brings the picture there.
 *
 * A kind is a row of the table in sampler.c with its own file: it fills in the timesteps and takes one
 * step. What multistep methods remember lies in `history`, which belongs to the sampler; a second-order
 * method lists a timestep for each of its calls of the model. Latents are flat arrays in the published
 * order (N,C,H,W), because the noise that stochastic kinds draw is one draw of that shape.
 */
#ifndef CN_DIFFUSE_SAMPLER_H
#define CN_DIFFUSE_SAMPLER_H

#include "diffuse/schedule.h"

typedef struct cn_sampler cn_sampler;

typedef struct cn_sampler_kind {
    const char *name, *title; /* "ddim", and as stable-diffusion-webui writes it: "DDIM" */
    /* Fills timesteps, n and init_noise_sigma for `steps` steps; allocates what it needs. */
    cn_status (*prepare)(cn_ctx *ctx, cn_sampler *s, int steps);
    /* Model input of step i; NULL: x itself. */
    void (*scale_input)(const cn_sampler *s, int i, const float *x, float *out, int64_t n);
    cn_status (*step)(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng);
    /* Clean x0 to timestep i's level of noise; NULL: the schedule's, at that timestep. */
    void (*add_noise)(const cn_sampler *s, int i, const float *x0, const float *noise, float *out,
                      int64_t n);
    int order; /* timesteps per step; 0 counts as 1 */
} cn_sampler_kind;

struct cn_sampler {
    cn_ctx *ctx;
    const cn_sampler_kind *kind;
    cn_schedule *schedule;
    int steps;         /* as asked for */
    int n;             /* calls of the model, the length of timesteps */
    int first;         /* the run's first timestep: nothing is remembered from before it */
    double *timesteps; /* owned */
    double init_noise_sigma;
    float *history; /* owned, NULL where the kind keeps none */
};

extern const cn_sampler_kind cn_sampler_ddim;

/* '-' and '_' are the same in names; an unknown one is CN_EINVAL with the list of those there are.
 * *out: cn_sampler_destroy it. */
cn_status cn_sampler_create(cn_ctx *ctx, const char *name, const cn_schedule_config *config,
                            int steps, cn_sampler **out) CN_CHECKED;
void cn_sampler_destroy(cn_sampler *s);
/* NULL for an unknown name. */
const cn_sampler_kind *cn_sampler_find(const char *name);
/* Names in the table's order, NULL behind the last. */
const char *cn_sampler_name(int i);

/* Number of timesteps, and timestep i, largest first. */
int cn_sampler_steps(const cn_sampler *s);
double cn_sampler_timestep(const cn_sampler *s, int i);
/* What the first noise of variance 1 is multiplied by. */
double cn_sampler_init_noise_sigma(const cn_sampler *s);
/* The run makes only the last `strength` (above 0, at most 1) of the steps, counted as diffusers' img2img
 * pipelines do; *first: its first timestep. CN_EINVAL when no step is left. */
cn_status cn_sampler_start(cn_sampler *s, double strength, int *first) CN_CHECKED;
/* Clean x0 with noise of variance 1 as step i expects it (unscaled); out may be x0. */
void cn_sampler_add_noise(const cn_sampler *s, int i, const float *x0, const float *noise,
                          float *out, int64_t n);
/* out may be x. */
void cn_sampler_scale_input(const cn_sampler *s, int i, const float *x, float *out, int64_t n);
/* x of timestep i to x of timestep i+1 (clean after the last one), in place. model_out is the model's
 * prediction, noise or v as the schedule says. rng may be NULL for kinds that draw nothing. */
cn_status cn_sampler_step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                          cn_rng *rng) CN_CHECKED;

#endif
