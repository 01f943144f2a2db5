/* batch.h - what a step is fed, as a function of (seed, place in the run) alone.
 *
 * Sample k of the run (k counts from 0 over all steps) has a generator of its own, seeded by (seed, k):
 * whether its prompt is emptied, its timestep, its latent's sample and its noise come from it, and its
 * item from a permutation seeded by (seed, epoch). So a run that resumes at step N, or whose batch is
 * split over machines, needs no generator's state to draw what the undivided run draws.
 */
#ifndef CN_TRAIN_BATCH_H
#define CN_TRAIN_BATCH_H

#include "diffuse/schedule.h"
#include "train/cache.h"
#include "train/stepgraph.h"

typedef struct cn_sample {
    int64_t item;
    int timestep;
    bool empty_prompt;
    uint64_t noise_seed;
} cn_sample;

/* The order of an epoch's items. */
typedef struct cn_shuffle {
    uint64_t seed;
    int64_t n, epoch; /* epoch < 0: nothing shuffled yet */
    int64_t *order;   /* [n] */
} cn_shuffle;

cn_status cn_shuffle_create(cn_ctx *ctx, uint64_t seed, int64_t n, cn_shuffle **out) CN_CHECKED;
void cn_shuffle_destroy(cn_shuffle *s);
/* Sample k of the run. */
cn_sample cn_shuffle_sample(cn_shuffle *s, int64_t k, int timesteps, double empty_proportion);

/* Room for the parts of one sample. */
typedef struct cn_batcher {
    const cn_cache *cache;
    const cn_schedule *schedule;
    float scaling_factor;
    float *moments, *noise, *latent;
    uint8_t *pixels;
} cn_batcher;

cn_status cn_batcher_create(cn_ctx *ctx, const cn_cache *cache, const cn_schedule *schedule,
                            float scaling_factor, cn_batcher **out) CN_CHECKED;
void cn_batcher_destroy(cn_batcher *b);
/* Puts a sample into place i of the graph's inputs: noisy latent, timestep, context, condition, target. */
cn_status cn_batcher_fill(cn_batcher *b, cn_stepgraph *g, int64_t i,
                          const cn_sample *sample) CN_CHECKED;

#endif
