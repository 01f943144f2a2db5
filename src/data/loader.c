/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c - a ring of passes between worker threads and the step.
 *
 * Pass p lies in place p % DEPTH. A worker takes the next number under the lock, as soon as its
 * place is free, makes the pass without the lock and marks it ready; the step takes passes in
 * order.
 */
#include "data/loader.h"

#include <pthread.h>
#include <string.h>

typedef struct place {
    cn_pass pass;
    bool ready;
    cn_status status;
    char error[1024]; /* of a status that isn't CN_OK */
} place;

struct cn_loader {
    cn_ctx *ctx;
    cn_loader_options o;
    cn_shuffle *shuffle; /* under the lock */
    place places[CN_LOADER_DEPTH];
    int64_t next, taken; /* numbers of the next pass to be made, to be taken */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t freed, readied;
    pthread_t workers[CN_LOADER_MAX_WORKERS];
    int n_workers;       /* that run */
    cn_batcher *inline_; /* without workers */
};

int64_t cn_loader_passes(int workers)
{
    return workers ? CN_LOADER_DEPTH : 1;
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

static cn_status make_pass(cn_batcher *b, cn_pass *pass)
{
    pass->warning[0] = 0;
    for (int64_t i = 0; i < pass->batch; i++) CN_TRY(cn_batcher_make(b, pass, i));
    return CN_OK;
}

/* --- workers ---------------------------------------------------------------------------------- */

/* Waits for a free place and takes the next pass's number; -1: the end. */
static int64_t next_pass_number(cn_loader *l)
{
    int64_t p = -1;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->next >= l->taken + CN_LOADER_DEPTH)
        pthread_cond_wait(&l->freed, &l->lock);
    if (!l->stop) {
        p = l->next++;
        draw_samples(l, p, &l->places[p % CN_LOADER_DEPTH].pass);
    }
    pthread_mutex_unlock(&l->lock);
    return p;
}

static void hand_over(cn_loader *l, place *at, cn_status status, const char *error)
{
    pthread_mutex_lock(&l->lock);
    at->status = status;
    snprintf(at->error, sizeof at->error, "%s", error);
    at->ready = true;
    pthread_cond_broadcast(&l->readied);
    pthread_mutex_unlock(&l->lock);
}

/* A context of its own: messages don't mix, and what it calls stays on this thread. */
static void *work(void *user)
{
    cn_loader *l = user;
    cn_batcher *b = NULL;
    cn_ctx *own = cn_ctx_fork(l->ctx, false);
    const cn_status begun = own ? cn_batcher_create(own, &l->o.batcher, &b) : CN_ENOMEM;
    for (int64_t p; (p = next_pass_number(l)) >= 0;) {
        place *at = &l->places[p % CN_LOADER_DEPTH];
        const cn_status s = begun == CN_OK ? make_pass(b, &at->pass) : begun;
        hand_over(l, at, s, s == CN_OK ? "" : own ? cn_error(own) : "no memory");
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
    for (int64_t i = 0; i < cn_loader_passes(o->workers); i++)
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
    for (int i = 0; i < CN_LOADER_DEPTH; i++) cn_pass_free(&l->places[i].pass);
    cn_batcher_destroy(l->inline_);
    cn_shuffle_destroy(l->shuffle);
    pthread_cond_destroy(&l->readied);
    pthread_cond_destroy(&l->freed);
    pthread_mutex_destroy(&l->lock);
    cn_free(l);
}

static place *wait_for_next(cn_loader *l)
{
    place *at = &l->places[l->taken % CN_LOADER_DEPTH];
    pthread_mutex_lock(&l->lock);
    while (!at->ready) pthread_cond_wait(&l->readied, &l->lock);
    pthread_mutex_unlock(&l->lock);
    return at;
}

void cn_loader_done(cn_loader *l)
{
    place *at = &l->places[l->taken % CN_LOADER_DEPTH];
    pthread_mutex_lock(&l->lock);
    at->ready = false;
    l->taken++;
    pthread_cond_signal(&l->freed);
    pthread_mutex_unlock(&l->lock);
}

/* Without workers place 0 alone has room. */
static cn_status make_now(cn_loader *l, cn_pass **pass)
{
    *pass = &l->places[0].pass;
    draw_samples(l, l->taken, *pass);
    return make_pass(l->inline_, *pass);
}

cn_status cn_loader_next(cn_loader *l, cn_pass **pass, double *waited)
{
    const double start = cn_now_s();
    cn_status s;
    if (l->o.workers) {
        place *at = wait_for_next(l);
        *pass = &at->pass;
        s = at->status == CN_OK ? CN_OK : cn_fail(l->ctx, at->status, "%s", at->error);
    } else {
        s = make_now(l, pass);
    }
    *waited = cn_now_s() - start;
    if (s == CN_OK && (*pass)->warning[0]) cn_log(l->ctx, CN_LOG_WARN, "%s", (*pass)->warning);
    if (s != CN_OK) cn_loader_done(l);
    return s;
}
