/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h - the passes of a run made ready by threads, in order, while the step computes.
 *
 * Samples follow from their numbers alone (batch.h), so what a pass holds doesn't depend on who
 * makes it or when. Workers share a pass's samples, and no more than cn_loader_passes are ready or
 * being made; their memory is the loader's.
 */
#ifndef CN_DATA_LOADER_H
#define CN_DATA_LOADER_H

#include "data/batch.h"

enum { CN_LOADER_MAX_WORKERS = 64 };

typedef struct cn_loader cn_loader;

typedef struct cn_loader_options {
    cn_batcher_options batcher;
    cn_shuffle_options shuffle;
    int workers; /* threads; 0: passes are made when they are asked for */
    int64_t batch;
    int64_t first_sample; /* of the first pass */
    int64_t stride;       /* samples from one pass to the next */
} cn_loader_options;

cn_status cn_loader_create(cn_ctx *ctx, const cn_loader_options *options,
                           cn_loader **out) CN_CHECKED;
void cn_loader_destroy(cn_loader *l);
/* The next pass, the caller's until cn_loader_done; *waited: seconds until it was ready. */
cn_status cn_loader_next(cn_loader *l, cn_pass **pass, double *waited) CN_CHECKED;
void cn_loader_done(cn_loader *l);
/* Passes that a loader holds: three, or as many as keep every worker busy while one is the step's.
 */
int64_t cn_loader_passes(int workers, int64_t batch);

#endif
