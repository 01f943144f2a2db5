/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - passes: what a step is fed, made from samples (shuffle.h) of one size.
 *
 * Pictures whose latents aren't cached come as pictures, texts that aren't as tokens: whoever runs
 * the step encodes them and has the batcher mix latents and noise then. What is drawn at random is
 * the same either way.
 */
#ifndef CN_DATA_BATCH_H
#define CN_DATA_BATCH_H

#include "diffuse/schedule.h"
#include "data/cache.h"
#include "data/mirror.h"
#include "diffuse/objective.h"
#include "data/shuffle.h"

/* What a pass is fed, ready to be copied into the step's inputs. Room is for the largest size. */
typedef struct cn_pass {
    int64_t batch;
    int bucket;         /* the size h x w, H x W of all samples */
    cn_sample *samples; /* [n] */
    float *x, *target;  /* [n,h,w,c] */
    float *t, *context; /* [n], [n,L,D], of SDXL each with its pooled text behind it */
    int32_t *ids;       /* [n,L] to be encoded; NULL: the context is there already */
    float *per;         /* [n,2] how each counts */
    uint8_t *condition; /* [n,H,W,3] */
    uint8_t *picture;   /* [n,H,W,3] to be encoded; NULL: x and target are mixed already */
    char warning[512];  /* of pairs that were left out; "" */
} cn_pass;

cn_status cn_pass_create(cn_ctx *ctx, const cn_cache *cache, int64_t batch,
                         cn_pass *out) CN_CHECKED;
void cn_pass_free(cn_pass *p);

typedef struct cn_batcher_options {
    const cn_cache *cache;
    const cn_dataset
        *data; /* that the cache is of: conditions are decoded whenever they are wanted */
    const cn_prompter *prompter; /* of texts that aren't cached */
    const cn_schedule *schedule;
    const cn_objective *objective; /* NULL: plain noise, all timesteps, every sample counts alike */
    float scaling_factor;
    /* A pair that can't be read is named and the next one of first..first+count with its size takes
     * its place; else it is an error. */
    bool skip_bad;
    cn_mirror mirror; /* what a mirrored sample does to its condition */
    int64_t first, count;
} cn_batcher_options;

/* Room for the parts of one sample. */
typedef struct cn_batcher {
    cn_ctx *ctx;
    cn_batcher_options o;
    float *moments, *noise, *latent;
    char warning[512]; /* of the sample made last: pairs that it left out; "" */
    cn_pass one;
} cn_batcher;

cn_status cn_batcher_create(cn_ctx *ctx, const cn_batcher_options *options,
                            cn_batcher **out) CN_CHECKED;
void cn_batcher_destroy(cn_batcher *b);
/* The item, or the next one of its size where skip_bad left it out. */
int64_t cn_batcher_item(const cn_batcher_options *options, int64_t item);
/* Makes sample i of the pass ready: context, timestep, condition, and noisy latent and target or
 * the picture. */
cn_status cn_batcher_make(cn_batcher *b, cn_pass *pass, int64_t i) CN_CHECKED;
/* Noisy latent and target of sample i from its picture's moments [h,w,2c]. */
void cn_batcher_mix(cn_batcher *b, cn_pass *pass, int64_t i, const float *moments);
/* A pass of this sample alone, the batcher's until it is asked again. */
cn_status cn_batcher_one(cn_batcher *b, const cn_sample *sample, const cn_pass **out) CN_CHECKED;
/* Memory of a pass of one sample, and of a batcher. tokens: 0 where texts are cached. */
size_t cn_pass_bytes(int64_t latent_elements, int64_t context_elements, int64_t tokens,
                     int64_t pixels, bool pictures);

#endif
