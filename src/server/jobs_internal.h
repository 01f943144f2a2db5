/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_internal.h - the queue's members, for jobs*.c. */
#ifndef CN_SERVER_JOBS_INTERNAL_H
#define CN_SERVER_JOBS_INTERNAL_H

#include "server/jobs.h"

#include <pthread.h>

struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* any job, or the queue */
    job *first;             /* all of them, the oldest first; the list holds a reference to each */
    job *running;
    cn_ctx *ctx; /* of the running job */
    int most, keep, next_order;
    size_t keep_bytes;
    const char *state_dir; /* NULL: none */
    bool shut;
    jobs_totals totals;
};

/* A change that those who wait are told of; under the lock. j may be NULL. */
void jobs_touch(jobs *q, job *j);

#endif
