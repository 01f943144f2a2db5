/* SPDX-License-Identifier: Apache-2.0 */
/* shuffle.h - which sample of the run is what, as a function of (seed, number) alone.
 *
 * Sample k of the run (k counts from 0 over all steps) has a generator of its own, seeded by (seed,
 * k): whether its prompt is emptied, its tags, its timestep, its latent's sample, its noise and its
 * crop come from it, and its item from a permutation seeded by (seed, epoch). So a run that resumes
 * at step N, or whose batch is split over machines, needs no generator's state to draw what the
 * undivided run draws.
 *
 * With several sizes (buckets.h) an epoch's order is: each size's items shuffled and cut into
 * units, then the units shuffled. It depends on the unit, which is a pass of all ranks: n ranks
 * with batch b have that of one with batch n b.
 */
#ifndef CN_DATA_SHUFFLE_H
#define CN_DATA_SHUFFLE_H

#include "data/buckets.h"

typedef struct cn_sample {
    int64_t item;
    int timestep;
    bool empty_prompt, mirrored;
    uint64_t noise_seed, tag_seed;
    double off_x,
        off_y; /* of the crop's place from the middle: -0.5 left or top, 0.5 right or bottom */
} cn_sample;

typedef struct cn_shuffle_options {
    uint64_t seed;
    const cn_buckets *buckets; /* of the items */
    int64_t unit;              /* samples of a pass of all ranks */
    int timesteps;             /* are drawn from 0 to below this */
    double empty_proportion;
    bool flips; /* every other sample, by chance, is mirrored */
    bool crops; /* each shows a part of its own; else the middle */
} cn_shuffle_options;

typedef struct cn_shuffle cn_shuffle;

cn_status cn_shuffle_create(cn_ctx *ctx, const cn_shuffle_options *options,
                            cn_shuffle **out) CN_CHECKED;
void cn_shuffle_destroy(cn_shuffle *s);
/* Sample k of the run. */
cn_sample cn_shuffle_sample(cn_shuffle *s, int64_t k);
/* Memory of one. */
size_t cn_shuffle_bytes(const cn_shuffle_options *options);

#endif
