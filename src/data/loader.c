/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c - a ring of passes between worker threads and the step.
 *
 * Pass p lies in place p % depth. A worker takes the next sample under the lock, as soon as its
 * pass's place is free, makes it without the lock and marks it made; the step takes passes in
 * order, each when all of it is made. So a slow disk is waited for by all workers at once, whatever
 * a pass holds.
 */
#include "data/loader.h"

#include <pthread.h>
#include <string.h>

typedef struct place {
    cn_pass pass;
    int64_t made;     /* samples */
    cn_status status; /* the first that isn't CN_OK, by the samples' order */
    int64_t failed;   /* its sample */
    char error[1024]; /* of it */
} place;

struct cn_loader {
    cn_ctx *ctx;
    cn_loader_options o;
    cn_shuffle *shuffle; /* under the lock, as all below */
    place *places;       /* [depth] */
    int64_t depth;
    int64_t next, taken; /* numbers of the next sample to be made, of the next pass to be taken */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t freed, readied;
    pthread_t workers[CN_LOADER_MAX_WORKERS];
    int n_workers;       /* that run */
    cn_batcher *inline_; /* without workers */
};

int64_t cn_loader_passes(int workers, int64_t batch)
{
    return workers ? CN_MAX(3, 1 + (workers + batch - 1) / batch) : 1;
}

/* The samples of pass p. Under the lock: the epoch's order is shared. */
static void draw_samples(cn_loader *l, int64_t p, cn_pass *out)
{
    const cn_loader_options *o = &l->o;
    for (int64_t i = 0; i < o->batch; i++) {
        out->samples[i] = cn_shuffle_sample(l->shuffle, o->first_sample + p * o->stride + i);
        if (o->batcher.objective) out->samples[i].timestep += o->batcher.objective->first_timestep;
    }
    out->bucket = cn_buckets_of(o->shuffle.buckets, out->samples[0].item);
}

/* A place's pass before its samples are made. Under the lock. */
static void begin_pass(cn_loader *l, int64_t p, place *at)
{
    at->made = 0;
    at->status = CN_OK;
    at->pass.warning[0] = 0;
    draw_samples(l, p, &at->pass);
}

/* Sample i of the pass is made, or failed as b's context says. Under the lock. */
static void end_sample(place *at, int64_t i, cn_status status, const char *error,
                       const char *warning)
{
    at->made++;
    if (warning[0]) snprintf(at->pass.warning, sizeof at->pass.warning, "%s", warning);
    if (status == CN_OK || (at->status != CN_OK && at->failed < i)) return;
    at->status = status;
    at->failed = i;
    snprintf(at->error, sizeof at->error, "%s", error);
}

/* --- workers ---------------------------------------------------------------------------------- */

/* Waits for a free place and takes the next sample's number; -1: the end. */
static int64_t next_sample(cn_loader *l)
{
    int64_t n = -1;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->next / l->o.batch >= l->taken + l->depth)
        pthread_cond_wait(&l->freed, &l->lock);
    if (!l->stop) {
        n = l->next++;
        const int64_t p = n / l->o.batch;
        if (n % l->o.batch == 0) begin_pass(l, p, &l->places[p % l->depth]);
    }
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* A context of its own: messages don't mix, and what it calls stays on this thread. */
static void *work(void *user)
{
    cn_loader *l = user;
    cn_batcher *b = NULL;
    cn_ctx *own = cn_ctx_fork(l->ctx, false);
    const cn_status begun = own ? cn_batcher_create(own, &l->o.batcher, &b) : CN_ENOMEM;
    for (int64_t n; (n = next_sample(l)) >= 0;) {
        const int64_t i = n % l->o.batch;
        place *at = &l->places[n / l->o.batch % l->depth];
        const cn_status s = begun == CN_OK ? cn_batcher_make(b, &at->pass, i) : begun;
        pthread_mutex_lock(&l->lock);
        end_sample(at, i, s,
                   s == CN_OK ? ""
                   : own      ? cn_error(own)
                              : "no memory",
                   b ? b->warning : "");
        if (at->made == l->o.batch) pthread_cond_broadcast(&l->readied);
        pthread_mutex_unlock(&l->lock);
    }
    cn_batcher_destroy(b);
    cn_ctx_destroy(own);
    return NULL;
}

/* --- the step's side -------------------------------------------------------------------------- */

static cn_status begin(cn_loader *l)
{
    const cn_loader_options *o = &l->o;
    CN_TRY(cn_shuffle_create(l->ctx, &o->shuffle, &l->shuffle));
    l->places = cn_alloc_array(l->ctx, (size_t)l->depth, sizeof *l->places);
    if (!l->places) return CN_ENOMEM;
    memset(l->places, 0, (size_t)l->depth * sizeof *l->places);
    for (int64_t i = 0; i < l->depth; i++)
        CN_TRY(cn_pass_create(l->ctx, o->batcher.cache, o->batch, &l->places[i].pass));
    if (!o->workers) return cn_batcher_create(l->ctx, &o->batcher, &l->inline_);
    while (l->n_workers < o->workers) {
        if (pthread_create(&l->workers[l->n_workers], NULL, work, l) != 0)
            return cn_fail(l->ctx, CN_ENOMEM, "no thread for reading the data");
        l->n_workers++;
    }
    return CN_OK;
}

cn_status cn_loader_create(cn_ctx *ctx, const cn_loader_options *options, cn_loader **out)
{
    cn_loader *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->ctx = ctx;
    l->o = *options;
    l->o.workers = CN_MIN(l->o.workers, CN_LOADER_MAX_WORKERS);
    l->depth = cn_loader_passes(l->o.workers, l->o.batch);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->freed, NULL);
    pthread_cond_init(&l->readied, NULL);
    const cn_status s = begin(l);
    if (s != CN_OK) {
        cn_loader_destroy(l);
        return s;
    }
    *out = l;
    return CN_OK;
}

void cn_loader_destroy(cn_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->freed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_workers; i++) pthread_join(l->workers[i], NULL);
    for (int64_t i = 0; l->places && i < l->depth; i++) cn_pass_free(&l->places[i].pass);
    cn_free(l->places);
    cn_batcher_destroy(l->inline_);
    cn_shuffle_destroy(l->shuffle);
    pthread_cond_destroy(&l->readied);
    pthread_cond_destroy(&l->freed);
    pthread_mutex_destroy(&l->lock);
    cn_free(l);
}

static place *wait_for_next(cn_loader *l)
{
    place *at = &l->places[l->taken % l->depth];
    pthread_mutex_lock(&l->lock);
    while (l->next < (l->taken + 1) * l->o.batch || at->made < l->o.batch)
        pthread_cond_wait(&l->readied, &l->lock);
    pthread_mutex_unlock(&l->lock);
    return at;
}

void cn_loader_done(cn_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->taken++;
    pthread_cond_broadcast(&l->freed);
    pthread_mutex_unlock(&l->lock);
}

/* Without workers: the one place has it. */
static place *make_now(cn_loader *l)
{
    place *at = l->places;
    begin_pass(l, l->taken, at);
    for (int64_t i = 0; i < l->o.batch && at->status == CN_OK; i++) {
        const cn_status s = cn_batcher_make(l->inline_, &at->pass, i);
        end_sample(at, i, s, s == CN_OK ? "" : cn_error(l->ctx), l->inline_->warning);
    }
    return at;
}

cn_status cn_loader_next(cn_loader *l, cn_pass **pass, double *waited)
{
    const double start = cn_now_s();
    place *at = l->o.workers ? wait_for_next(l) : make_now(l);
    *pass = &at->pass;
    *waited = cn_now_s() - start;
    if (at->pass.warning[0]) cn_log(l->ctx, CN_LOG_WARN, "%s", at->pass.warning);
    if (at->status == CN_OK) return CN_OK;
    const cn_status s = cn_fail(l->ctx, at->status, "%s", at->error);
    cn_loader_done(l);
    return s;
}
