/* SPDX-License-Identifier: Apache-2.0 */
/* sampler.h - from the model's predictions to the next, less noisy latents.
 *
 *   cn_sampler_create     name, schedule and number of steps fix the timesteps
 *   for i in 0..steps-1   model input = scale_input(x), then step(prediction, x)
 *
 * A run that starts from a picture instead of noise makes only the last steps: cn_sampler_start
 * says which is the first, cn_sampler_add_noise brings the picture there.
 *
 * A kind is a row of samplers.h with its own file: it fills in the timesteps with the level of
 * noise at each, and takes one step. Everything else follows from the levels. All kinds and their
 * defaults are those of diffusers' classes. What multistep methods remember lies in
 * `history`, which belongs to the sampler; a second-order method lists a timestep for each of its
 * calls of the model. Latents are flat arrays in the published order (N,C,H,W), because the noise
 * that stochastic kinds draw is one draw of that shape.
 */
#ifndef CN_DIFFUSE_SAMPLERS_SAMPLER_H
#define CN_DIFFUSE_SAMPLERS_SAMPLER_H

#include "diffuse/schedule.h"

typedef struct cn_sampler cn_sampler;

/* x = signal x0 + noise e, e of variance 1. Either signal^2 + noise^2 = 1, as the networks were
 * trained, or signal = 1 and the networks' input is x over sqrt(1 + noise^2). */
typedef struct cn_level {
    double signal, noise;
} cn_level;

/* How the noise levels of the samplers that count in sigma = noise / signal are spread over a
 * run. */
typedef struct cn_sigma_schedule {
    const char *name;  /* "karras", as in diffusers' use_karras_sigmas */
    const char *title; /* as stable-diffusion-webui writes it */
    /* The sigmas of n calls, the largest first, of a run that goes from `most` to `least`. NULL:
     * those of the timesteps that the spacing gives. */
    void (*fill)(const cn_schedule *schedule, double most, double least, int n, double *sigmas);
} cn_sigma_schedule;

typedef struct cn_sampler_kind {
    const char *name, *title; /* "ddim", and as stable-diffusion-webui writes it: "DDIM" */
    /* In diffusers: "DDIMScheduler"; the function of k-diffusion or ComfyUI where it has none. */
    const char *class;
    /* Other programs' names in small letters without separators, '+' as 'p'; NULL at the end. */
    const char *aliases[6];
    cn_spacing spacing; /* of the class, where neither model nor user choose another */
    /* Fills timesteps, levels, n and init_noise_sigma; allocates what it needs. */
    cn_status (*prepare)(cn_ctx *ctx, cn_sampler *s);
    cn_status (*step)(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng);
    int order;           /* timesteps per step, in the last ones perhaps less; 0 counts as 1 */
    bool sigma_schedule; /* counts in sigma, whose schedule may be chosen */
} cn_sampler_kind;

enum { CN_SAMPLER_SLOTS = 6 };

struct cn_sampler {
    cn_ctx *ctx;
    const cn_sampler_kind *kind;
    cn_schedule *schedule;
    cn_spacing spacing;                      /* never CN_SPACING_OWN */
    const cn_sigma_schedule *sigma_schedule; /* NULL where the kind has none */
    int steps;                               /* as asked for */
    int n;                                   /* calls of the model, the length of timesteps */
    int first; /* the run's first timestep: nothing is remembered from before it */
    int rngs;  /* generators that draw its noise, each that of its part of the batch; 0 counts as 1
                */
    double *timesteps; /* owned */
    cn_level *levels;  /* owned; of timestep i, and one more: where the last step ends */
    double init_noise_sigma;
    float *history; /* owned, NULL where the kind keeps none: cn_sampler_remember */
    float *slots[CN_SAMPLER_SLOTS];
};

/* name: as cn_sampler_find takes it; an unknown one is CN_EINVAL with the list of those there are,
 * as is a schedule of sigmas that the config asks for and isn't known. CN_EINVAL too where the
 * model predicts noise and the run visits a timestep that is noise alone. *out: cn_sampler_destroy
 * it. */
cn_status cn_sampler_create(cn_ctx *ctx, const char *name, const cn_schedule_config *config,
                            int steps, cn_sampler **out) CN_CHECKED;
void cn_sampler_destroy(cn_sampler *s);
/* By any program's name for it, separators and case passed over; the name of a schedule behind it
 * ("DPM++ 2M Karras") goes to *schedule (may be NULL), which is NULL without one. NULL for an
 * unknown name, and for one whose kind takes no schedule. */
const cn_sampler_kind *cn_sampler_find(const char *name, const cn_sigma_schedule **schedule);
/* In the table's order, NULL behind the last. */
const cn_sampler_kind *cn_sampler_kind_at(int i);
const cn_sigma_schedule *cn_sigma_schedule_at(int i);
/* NULL for an unknown name. */
const cn_sigma_schedule *cn_sigma_schedule_find(const char *name);
/* The names there are, for messages; a sampler's only where it takes a schedule of sigmas. */
void cn_sampler_names(bool with_sigmas, cn_str *out);
void cn_sigma_schedule_names(cn_str *out);

/* Number of timesteps, and timestep i, largest first. */
int cn_sampler_steps(const cn_sampler *s);
double cn_sampler_timestep(const cn_sampler *s, int i);
/* What the first noise of variance 1 is multiplied by. */
double cn_sampler_init_noise_sigma(const cn_sampler *s);
/* The run makes only the last `strength` (above 0, at most 1) of the steps, counted as diffusers'
 * img2img pipelines do; *first: its first timestep. CN_EINVAL when no step is left. */
cn_status cn_sampler_start(cn_sampler *s, double strength, int *first) CN_CHECKED;
/* How many timesteps come before `part` of the training's are behind: those from (1 - part) of them
 * on, as diffusers' denoising_end counts. */
int cn_sampler_before(const cn_sampler *s, double part);
/* The run makes the timesteps behind these alone, as diffusers' denoising_start counts; *first: the
 * first of them. CN_EINVAL when there is none. */
cn_status cn_sampler_start_behind(cn_sampler *s, double part, int *first) CN_CHECKED;
/* Clean x0 with noise of variance 1 as step i expects it (unscaled); out may be x0. */
void cn_sampler_add_noise(const cn_sampler *s, int i, const float *x0, const float *noise,
                          float *out, int64_t n);
/* out may be x. */
void cn_sampler_scale_input(const cn_sampler *s, int i, const float *x, float *out, int64_t n);
/* What the model takes step i's x for without its noise; out may be x or model_out. */
void cn_sampler_denoise(const cn_sampler *s, int i, const float *model_out, const float *x,
                        float *out, int64_t n);
/* x of timestep i to x of timestep i+1 (clean after the last one), in place. model_out is the
 * model's prediction, noise or v as the schedule says. rng: s->rngs of them, may be NULL for kinds
 * that draw nothing. */
cn_status cn_sampler_step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                          cn_rng *rng) CN_CHECKED;

/* n values of noise of variance 1, by s->rngs generators an equal part each. */
void cn_sampler_noise(const cn_sampler *s, cn_rng *rng, float *out, int64_t n);

/* --- for the kinds ---------------------------------------------------------------------------- */

/* timesteps for n calls, and n + 1 levels. */
cn_status cn_sampler_allocate(cn_ctx *ctx, cn_sampler *s, int n) CN_CHECKED;
/* `steps` whole timesteps with the schedule's levels, `last` behind them. */
cn_status cn_sampler_prepare_discrete(cn_ctx *ctx, cn_sampler *s, cn_level last) CN_CHECKED;
/* The same for models distilled to few steps: the timesteps are taken from the lcm_steps (50) of
 * the distillation, evenly and from the last on. CN_EINVAL for more steps than these. */
cn_status cn_sampler_prepare_distilled(cn_ctx *ctx, cn_sampler *s, cn_level last) CN_CHECKED;
/* The schedule's level at timestep t. */
cn_level cn_sampler_level_at(const cn_sampler *s, int t);
/* Where DDIM and its relatives end: clean if set_alpha_to_one, else timestep 0. */
cn_level cn_sampler_last_level(const cn_sampler *s);

/* x0 = x0_x x + x0_m m and e = e_x x + e_m m from the model's prediction m at a level. */
typedef struct cn_estimate {
    double x0_x, x0_m, e_x, e_m;
} cn_estimate;
cn_estimate cn_sampler_estimate(const cn_sampler *s, cn_level level);
/* x0 as clip_sample has it. */
double cn_sampler_clip(const cn_sampler *s, double x0);

/* Makes slots[0..n_slots) of n values each, unless they are there. */
cn_status cn_sampler_remember(cn_sampler *s, int n_slots, int64_t n) CN_CHECKED;
/* slots[0..n) move up by one, the last becomes the first. */
void cn_sampler_rotate(cn_sampler *s, int n);

/* A step as a sum of arrays: out = sum of weight x values, one element after the other, so that out
 * may be one of them. */
typedef struct cn_term {
    double weight;
    const float *values;
} cn_term;
void cn_sampler_sum(const cn_term *terms, int n_terms, float *out, int64_t n);

#endif
