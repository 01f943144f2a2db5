/* SPDX-License-Identifier: Apache-2.0 */
/* lr.c - learning-rate schedules as diffusers' and transformers' optimization.py have them. */
#include "train/lr.h"

#include <math.h>

const char *const cn_lr_words[CN_LR_COUNT + 1] = {
    "constant",   "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
    "polynomial", "warmup_stable_decay",  NULL};

cn_status cn_lr_kind_find(cn_ctx *ctx, const char *name, cn_lr_kind *out)
{
    int i;
    CN_TRY(cn_word_find(ctx, "lr-scheduler", name, cn_lr_words, &i));
    *out = (cn_lr_kind)i;
    return CN_OK;
}

static int64_t part_of_run(double asked, int64_t total_steps)
{
    return (int64_t)(asked < 1 ? asked * (double)total_steps : asked);
}

int64_t cn_lr_warmup(double asked, int64_t total_steps)
{
    if (asked < 0) return CN_MIN(500, total_steps / 10);
    return part_of_run(asked, total_steps);
}

int64_t cn_lr_decay(double asked, int64_t total_steps)
{
    return part_of_run(asked, total_steps);
}

static double polynomial(const cn_lr *lr, double progress)
{
    const double end = 1e-7;
    if (progress >= 1) return end;
    return (lr->base - end) * pow(1 - progress, lr->power) + end;
}

static double half_cosine(double progress)
{
    return fmax(0, 0.5 * (1 + cos(M_PI * progress)));
}

/* A warm-up and a decay that overlap leave nothing between them: the decay begins behind the
 * warm-up, as in get_wsd_schedule. */
static double stable_decay(const cn_lr *lr, int64_t step)
{
    const int64_t begin = CN_MAX(lr->total_steps - lr->decay_steps, lr->warmup_steps);
    if (step < begin) return lr->base;
    if (step >= begin + lr->decay_steps) return 0;
    return lr->base * half_cosine((double)(step - begin) / (double)lr->decay_steps);
}

double cn_lr_at(const cn_lr *lr, int64_t step)
{
    if (lr->kind == CN_LR_CONSTANT) return lr->base;
    if (step < lr->warmup_steps) return lr->base * (double)step / (double)lr->warmup_steps;
    if (lr->kind == CN_LR_CONSTANT_WITH_WARMUP) return lr->base;
    const double rest = (double)CN_MAX(1, lr->total_steps - lr->warmup_steps);
    const double progress = (double)(step - lr->warmup_steps) / rest;
    switch (lr->kind) {
    case CN_LR_LINEAR: return lr->base * fmax(0, 1 - progress);
    case CN_LR_COSINE: return lr->base * half_cosine(progress);
    case CN_LR_COSINE_WITH_RESTARTS:
        if (progress >= 1) return 0;
        return lr->base * half_cosine(fmod(lr->cycles * progress, 1));
    case CN_LR_WARMUP_STABLE_DECAY: return stable_decay(lr, step);
    default: return polynomial(lr, progress);
    }
}

/* Only a warm-up rises. */
double cn_lr_highest(const cn_lr *lr)
{
    if (lr->kind == CN_LR_CONSTANT || lr->total_steps > lr->warmup_steps) return lr->base;
    return cn_lr_at(lr, CN_MAX(lr->total_steps, 1) - 1);
}
