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
#include "train/mirror.h"
#include "train/objective.h"
#include "train/stepgraph.h"

typedef struct cn_sample {
    int64_t item;
    int timestep;
    bool empty_prompt, mirrored;
    uint64_t noise_seed;
} cn_sample;

/* The order of an epoch's items. */
typedef struct cn_shuffle {
    uint64_t seed;
    int64_t n, epoch; /* epoch < 0: nothing shuffled yet */
    int64_t *order;   /* [n] */
    bool flips;       /* every other sample, by chance, is mirrored */
} cn_shuffle;

cn_status cn_shuffle_create(cn_ctx *ctx, uint64_t seed, int64_t n, cn_shuffle **out) CN_CHECKED;
void cn_shuffle_destroy(cn_shuffle *s);
/* Sample k of the run. */
cn_sample cn_shuffle_sample(cn_shuffle *s, int64_t k, int timesteps, double empty_proportion);

/* What a pass is fed, ready to be copied into the step's inputs. */
typedef struct cn_pass {
    int64_t batch;
    float *x, *target;  /* [n,h,w,c] */
    float *t, *context; /* [n], [n,L,D] */
    float *per;         /* [n,2] how each counts */
    uint8_t *condition; /* [n,H,W,3] */
    char warning[512];  /* of pairs that were left out; "" */
} cn_pass;

cn_status cn_pass_create(cn_ctx *ctx, const cn_cache *cache, int64_t batch,
                         cn_pass *out) CN_CHECKED;
void cn_pass_free(cn_pass *p);
/* Sample `from` of the pass to place `to` of the step's inputs. */
void cn_pass_put(const cn_pass *p, int64_t from, cn_stepgraph *g, int64_t to);

typedef struct cn_batcher_options {
    const cn_cache *cache;
    const cn_dataset
        *data; /* that the cache is of: conditions are decoded whenever they are wanted */
    const cn_schedule *schedule;
    const cn_objective *objective; /* NULL: plain noise, all timesteps, every sample counts alike */
    float scaling_factor;
    /* A pair that can't be read is named and the next one of first..first+count takes its place; else it is
     * an error. */
    bool skip_bad;
    cn_mirror mirror; /* what a mirrored sample does to its condition */
    int64_t first, count;
} cn_batcher_options;

/* Room for the parts of one sample. */
typedef struct cn_batcher {
    cn_ctx *ctx;
    cn_batcher_options o;
    float *moments, *noise, *latent;
    cn_pass one;
} cn_batcher;

cn_status cn_batcher_create(cn_ctx *ctx, const cn_batcher_options *options,
                            cn_batcher **out) CN_CHECKED;
void cn_batcher_destroy(cn_batcher *b);
/* The item, or the next one where skip_bad left it out. */
int64_t cn_batcher_item(const cn_batcher_options *options, int64_t item);
/* Makes a sample ready at place i: noisy latent, timestep, context, condition, target. */
cn_status cn_batcher_make(cn_batcher *b, const cn_sample *sample, cn_pass *pass,
                          int64_t i) CN_CHECKED;
/* The same straight into place i of a graph's inputs. */
cn_status cn_batcher_fill(cn_batcher *b, cn_stepgraph *g, int64_t i,
                          const cn_sample *sample) CN_CHECKED;
/* Memory of a pass of one sample, and of a batcher. */
size_t cn_pass_bytes(int64_t latent_elements, int64_t context_elements, int64_t pixels);

#endif
