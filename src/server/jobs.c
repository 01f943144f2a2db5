/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.c - the queue, and who holds a job. */
#include "server/jobs_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const char *const state_names[] = {[JOB_QUEUED] = "queued",
                                          [JOB_RUNNING] = "running",
                                          [JOB_DONE] = "done",
                                          [JOB_FAILED] = "failed",
                                          [JOB_CANCELLED] = "cancelled"};

const char *job_state_name(job_state state)
{
    return state_names[state];
}

double jobs_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- the queue -------------------------------------------------------------------------------- */

jobs *jobs_open(int queue, int keep, size_t keep_bytes, const char *state_dir)
{
    jobs *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->most = queue;
    q->keep = keep;
    q->keep_bytes = keep_bytes;
    q->state_dir = state_dir;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&q->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return q;
}

static void job_free(job *j)
{
    if (j->work) j->kind->free_work(j->work);
    json_decref(j->request);
    json_decref(j->info);
    json_decref(j->notes);
    json_decref(j->points);
    for (int i = 0; i < j->n_pictures; i++) {
        cn_free(j->pictures[i].png);
        free(j->pictures[i].parameters);
    }
    free(j->pictures);
    cn_free(j->preview.png);
    free(j);
}

static void drop_reference(job *j)
{
    if (--j->refs == 0) job_free(j);
}

void jobs_close(jobs *q)
{
    if (!q) return;
    while (q->first) {
        job *j = q->first;
        q->first = j->next;
        drop_reference(j);
    }
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

void jobs_lock(jobs *q)
{
    pthread_mutex_lock(&q->lock);
}

void jobs_unlock(jobs *q)
{
    pthread_mutex_unlock(&q->lock);
}

void jobs_touch(jobs *q, job *j)
{
    if (j) j->version++;
    pthread_cond_broadcast(&q->changed);
}

bool job_has_ended(const job *j)
{
    return j->state >= JOB_DONE;
}

/* Under the lock. */
static int count_waiting(const jobs *q, const job *before)
{
    int n = 0;
    for (const job *j = q->first; j && j != before; j = j->next) n += j->state == JOB_QUEUED;
    return n;
}

static size_t bytes_of(const job *j)
{
    size_t n = 0;
    for (int i = 0; i < j->n_pictures; i++) n += j->pictures[i].bytes;
    return n;
}

/* The oldest ended ones that are over the number kept, or over the bytes, leave the list. */
static void forget_old(jobs *q)
{
    int ended = 0;
    size_t bytes = 0;
    for (const job *j = q->first; j; j = j->next) {
        if (!job_has_ended(j)) continue;
        ended++;
        bytes += bytes_of(j);
    }
    for (job **at = &q->first; *at && (ended > q->keep || (bytes > q->keep_bytes && ended > 1));) {
        job *j = *at;
        if (!job_has_ended(j)) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        bytes -= bytes_of(j);
        ended--;
        drop_reference(j);
    }
}

static void append(jobs *q, job *j)
{
    job **at = &q->first;
    while (*at) at = &(*at)->next;
    *at = j;
}

static void new_id(char id[JOB_ID_BYTES])
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        bits = (uint64_t)(1e9 * jobs_now_s());
    snprintf(id, JOB_ID_BYTES, "%016llx", (unsigned long long)bits);
}

job *jobs_add(jobs *q, const job_kind *kind, json_t *request, void *work, const char *id,
              const char **why)
{
    job *j = calloc(1, sizeof *j);
    *why = NULL;
    if (!j) {
        kind->free_work(work);
        json_decref(request);
        *why = "out of memory";
        return NULL;
    }
    *j = (job){.kind = kind, .request = request, .work = work, .refs = 1, .eta_s = -1};
    if (id)
        snprintf(j->id, sizeof j->id, "%s", id);
    else
        new_id(j->id);
    j->queued_s = jobs_now_s();
    pthread_mutex_lock(&q->lock);
    j->order = q->next_order++;
    if (q->shut)
        *why = "the server is about to end";
    else if (count_waiting(q, NULL) >= q->most && !id)
        *why = "the queue is full (--queue)";
    else if (q->state_dir && !id && request && !jobs_state_save(q->state_dir, j))
        *why = "the job can't be kept under --state: is the disk full?";
    if (*why) {
        q->totals.refused++;
        j->refs--;
        job_free(j);
        j = NULL;
    } else {
        append(q, j);
        j->refs++;
        q->totals.added++;
        jobs_touch(q, j);
    }
    pthread_mutex_unlock(&q->lock);
    return j;
}

job *jobs_find(jobs *q, const char *id)
{
    pthread_mutex_lock(&q->lock);
    job *j = q->first;
    while (j && strcmp(j->id, id) != 0) j = j->next;
    if (j) j->refs++;
    pthread_mutex_unlock(&q->lock);
    return j;
}

job *jobs_running(jobs *q)
{
    pthread_mutex_lock(&q->lock);
    job *j = q->running;
    if (j) j->refs++;
    pthread_mutex_unlock(&q->lock);
    return j;
}

void jobs_release(jobs *q, job *j)
{
    if (!j) return;
    pthread_mutex_lock(&q->lock);
    drop_reference(j);
    pthread_mutex_unlock(&q->lock);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void end(jobs *q, job *j, job_state state)
{
    j->state = state;
    j->ended_s = jobs_now_s();
    cn_free(j->preview.png);
    j->preview = (job_picture){0};
    q->totals.done += state == JOB_DONE;
    q->totals.failed += state == JOB_FAILED;
    q->totals.cancelled += state == JOB_CANCELLED;
    if (q->state_dir && !(q->shut && j->was_shut)) jobs_state_remove(q->state_dir, j->id);
    jobs_touch(q, j);
}

/* A step that is computed for several goes on while one of them is wanted. */
static bool all_cancelled(const jobs *q)
{
    bool all = true;
    for (const job *j = q->running; j; j = j->with) all = all && j->cancel_asked;
    return all;
}

/* Under the lock. */
static bool cancel(jobs *q, job *j)
{
    if (job_has_ended(j)) return false;
    if (j->state == JOB_QUEUED) {
        end(q, j, JOB_CANCELLED);
        forget_old(q);
        return true;
    }
    j->cancel_asked = true;
    if (all_cancelled(q)) cn_cancel(q->ctx);
    return true;
}

bool jobs_cancel(jobs *q, job *j)
{
    pthread_mutex_lock(&q->lock);
    const bool cancelled = cancel(q, j);
    pthread_mutex_unlock(&q->lock);
    return cancelled;
}

bool jobs_skip(jobs *q)
{
    pthread_mutex_lock(&q->lock);
    const bool runs = q->running != NULL;
    if (runs) {
        q->running->skip_asked = true;
        cn_cancel(q->ctx);
    }
    pthread_mutex_unlock(&q->lock);
    return runs;
}

bool jobs_take_skip(jobs *q, job *j)
{
    pthread_mutex_lock(&q->lock);
    const bool skips = j->skip_asked && !j->cancel_asked;
    j->skip_asked = false;
    if (skips) cn_cancel_reset(q->ctx);
    pthread_mutex_unlock(&q->lock);
    return skips;
}

void jobs_shut(jobs *q, bool stop)
{
    pthread_mutex_lock(&q->lock);
    q->shut = true;
    for (job *j = q->first, *next; stop && j; j = next) {
        next = j->next; /* ended jobs may leave the list, this one's successor doesn't */
        if (job_has_ended(j)) continue;
        j->was_shut = true;
        if (j->state == JOB_QUEUED)
            end(q, j, JOB_CANCELLED);
        else
            cancel(q, j);
    }
    jobs_touch(q, NULL);
    pthread_mutex_unlock(&q->lock);
}

void jobs_enforce(jobs *q, double seconds)
{
    pthread_mutex_lock(&q->lock);
    job *j = q->running;
    if (seconds > 0 && j && jobs_now_s() - j->began_s > seconds)
        for (; j; j = j->with) {
            if (j->cancel_asked) continue;
            j->timed_out = true;
            cancel(q, j);
        }
    pthread_mutex_unlock(&q->lock);
}

/* --- the engine's side ------------------------------------------------------------------------ */

/* Under the lock. */
static void begin(jobs *q, job *j)
{
    j->refs++;
    j->state = JOB_RUNNING;
    j->began_s = jobs_now_s();
    q->totals.wait_s += j->began_s - j->queued_s;
    jobs_touch(q, j);
}

job *jobs_take(jobs *q, cn_ctx *ctx)
{
    pthread_mutex_lock(&q->lock);
    job *j = NULL;
    for (;;) {
        for (j = q->first; j && j->state != JOB_QUEUED;) j = j->next;
        if (j || q->shut) break;
        pthread_cond_wait(&q->changed, &q->lock);
    }
    if (j) {
        cn_cancel_reset(ctx);
        q->ctx = ctx;
        q->running = j;
        begin(q, j);
    }
    pthread_mutex_unlock(&q->lock);
    return j;
}

int jobs_take_equal(jobs *q, job *j, bool (*equal)(const job *a, const job *b), int most)
{
    int n = 0;
    job *last = j;
    pthread_mutex_lock(&q->lock);
    for (job *other = q->first; other && n < most; other = other->next) {
        if (other->state != JOB_QUEUED || !equal(j, other)) continue;
        begin(q, other);
        j->shares = other->shares = true;
        last = last->with = other;
        n++;
    }
    pthread_mutex_unlock(&q->lock);
    return n;
}

static void drop_pictures(job *j)
{
    for (int i = 0; i < j->n_pictures; i++) {
        cn_free(j->pictures[i].png);
        free(j->pictures[i].parameters);
    }
    free(j->pictures);
    j->pictures = NULL;
    j->n_pictures = j->n_drawn = 0;
}

/* Under the lock. One of several that wasn't wanted any more is cancelled, though it was drawn. */
static void finish(jobs *q, job *j, cn_status s, const char *message)
{
    const bool cancelled = j->cancel_asked && (s == CN_ECANCELLED || (s == CN_OK && j->shares));
    if (cancelled && s == CN_OK) {
        drop_pictures(j);
        s = CN_ECANCELLED;
    }
    q->totals.run_s += jobs_now_s() - j->began_s;
    if (s == CN_OK) q->totals.pictures += (uint64_t)j->n_drawn;
    /* what can't fit under a limit is so because of what was asked for, too */
    j->is_refused = s == CN_EINVAL || s == CN_EMISMATCH || s == CN_EFORMAT ||
                    (s == CN_ENOMEM && strncmp(message, "--max-memory", 12) == 0);
    if (cancelled && j->timed_out)
        snprintf(j->error, sizeof j->error,
                 "stopped: it took longer than a job may (--job-timeout)");
    else if (s != CN_OK && !cancelled)
        snprintf(j->error, sizeof j->error, "%s", *message ? message : cn_status_name(s));
    end(q, j, s == CN_OK ? JOB_DONE : cancelled && !j->timed_out ? JOB_CANCELLED : JOB_FAILED);
    /* pictures sent along aren't needed any more */
    j->kind->free_work(j->work);
    j->work = NULL;
    j->with = NULL;
    forget_old(q);
    drop_reference(j);
}

void jobs_finish(jobs *q, job *j, cn_status s, const char *message)
{
    pthread_mutex_lock(&q->lock);
    q->running = NULL;
    for (job *next; j; j = next) {
        next = j->with;
        finish(q, j, s, message);
    }
    pthread_mutex_unlock(&q->lock);
}

/* --- looking ---------------------------------------------------------------------------------- */

unsigned jobs_wait(jobs *q, const job *j, unsigned version, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)(1e9 * (seconds - (double)(time_t)seconds));
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&q->lock);
    while (j->version == version)
        if (pthread_cond_timedwait(&q->changed, &q->lock, &until) != 0) break;
    const unsigned now = j->version;
    pthread_mutex_unlock(&q->lock);
    return now;
}

void jobs_each(jobs *q, void (*see)(void *user, const job *j), void *user)
{
    pthread_mutex_lock(&q->lock);
    for (const job *j = q->first; j; j = j->next) see(user, j);
    pthread_mutex_unlock(&q->lock);
}

int jobs_waiting(jobs *q, const job *j)
{
    pthread_mutex_lock(&q->lock);
    const int n = count_waiting(q, j);
    pthread_mutex_unlock(&q->lock);
    return n;
}

jobs_totals jobs_count(jobs *q)
{
    pthread_mutex_lock(&q->lock);
    jobs_totals t = q->totals;
    t.waiting = count_waiting(q, NULL);
    t.running = q->running != NULL;
    pthread_mutex_unlock(&q->lock);
    return t;
}
