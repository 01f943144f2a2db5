/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.h - jobs and their queue: what is waiting, what runs, what came of it.
 *
 * One engine thread runs one job after another (engine.c); any number of request threads add jobs,
 * look at them and cancel them. A job's fields are guarded by its queue's lock, but for `request`
 * and `work`, which stay as they were added. Finished jobs are kept until newer ones need their
 * place, the oldest first.
 */
#ifndef CN_SERVER_JOBS_H
#define CN_SERVER_JOBS_H

#include "controlnet.h"

#include <jansson.h>

typedef enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED } job_state;

const char *job_state_name(job_state state);

typedef struct job job;
typedef struct jobs jobs;
typedef struct engine engine;

/* A kind of job is a row: how a request is read, and how it is run. */
typedef struct job_kind {
    const char *name; /* "generate" */
    /* In the engine's thread: its results go to the job by job_* below. */
    cn_status (*run)(engine *e, job *j);
    void (*free_work)(void *work);
} job_kind;

typedef struct job_picture {
    uint8_t *png; /* cn_free */
    size_t bytes;
    char *parameters; /* NULL: none */
} job_picture;

enum { JOB_ID_BYTES = 17, JOB_MESSAGE_BYTES = 2048 };

struct job {
    char id[JOB_ID_BYTES];
    const job_kind *kind;
    json_t *request; /* as it was sent, for --state; may be NULL */
    void *work;      /* the kind's */
    job_state state;
    bool cancel_asked, timed_out, skip_asked;
    int refs;
    unsigned version;                  /* grows with every change */
    char stage[32];                    /* of a running job: "sampling" */
    int done, total;                   /* steps of the stage */
    double eta_s;                      /* of the stage; below 0: not known */
    double queued_s, began_s, ended_s; /* steady clock */
    double ready_s;                    /* from `began` to the first step; 0: none was made */
    job_picture preview;
    unsigned previews; /* how many there were */
    job_picture *pictures;
    int n_pictures, n_drawn; /* the drawings come first, conditions behind them */
    json_t *info;            /* of the result; NULL */
    json_t *notes;           /* warnings, an array; NULL */
    json_t *points;          /* of a curve: an array of objects, training's; NULL */
    char error[JOB_MESSAGE_BYTES];
    bool is_refused; /* failed because of what was asked for, not of the server */
    double stage_began_s;
    int order;     /* in which it came */
    bool was_shut; /* ended with the server: stays on disk */
    bool shares;   /* runs together with others, or ran so */
    job *with;     /* the next of those that run together, behind the running one; NULL */
    job *next;
};

/* keep, keep_bytes: finished jobs that stay, and what their pictures may take together; the last
 * one always does. NULL without memory. */
jobs *jobs_open(int queue, int keep, size_t keep_bytes, const char *state_dir);
void jobs_close(jobs *q);
/* A steady clock. */
double jobs_now_s(void);

/* A job of this kind waits in the queue, with a reference for the caller; request and work go to
 * the queue in every case. NULL: the queue is full or closed, *why says so. id: NULL for a new
 * one. */
job *jobs_add(jobs *q, const job_kind *kind, json_t *request, void *work, const char *id,
              const char **why);
/* With a reference; NULL: there is none. */
job *jobs_find(jobs *q, const char *id);
void jobs_release(jobs *q, job *j);
/* The job that runs, with a reference; NULL. */
job *jobs_running(jobs *q);
/* False where it had ended. A waiting job ends at once, a running one at its next step. */
bool jobs_cancel(jobs *q, job *j);
/* The running job leaves out what it is at and goes on with its next part; false: none runs. */
bool jobs_skip(jobs *q);
/* Waits until the job's version isn't `version`, `seconds` at most; its version then. */
unsigned jobs_wait(jobs *q, const job *j, unsigned version, double seconds);
void jobs_lock(jobs *q);
void jobs_unlock(jobs *q);
bool job_has_ended(const job *j); /* under the lock */
/* Calls `see` for every job, the oldest first, under the lock. */
void jobs_each(jobs *q, void (*see)(void *user, const job *j), void *user);
/* How many wait. Before j alone, where it isn't NULL. */
int jobs_waiting(jobs *q, const job *j);

/* Numbers since the start, for /metrics. */
typedef struct jobs_totals {
    uint64_t added, refused, done, failed, cancelled, pictures, steps;
    double wait_s, run_s; /* sums over those that ran */
    double ready_s;       /* of those that sampled */
    uint64_t sampled;
    int waiting, running;
} jobs_totals;
jobs_totals jobs_count(jobs *q);

/* --- for the engine --------------------------------------------------------------------------- */

/* The next job, RUNNING, with a reference; waits for one. NULL: the queue is closed. `ctx` is what
 * a cancel acts upon from now on. */
job *jobs_take(jobs *q, cn_ctx *ctx);
/* Up to `most` jobs that wait and are `equal` to j, the running one, run together with it from now
 * on, each with a reference: j->with. How many. What is told of j's progress is told of all; a
 * cancel stops them once all are cancelled. */
int jobs_take_equal(jobs *q, job *j, bool (*equal)(const job *a, const job *b), int most);
/* The running job has ended, and all that ran together with it; their references go. */
void jobs_finish(jobs *q, job *j, cn_status s, const char *message);
/* No more jobs are added. stop: waiting ones end too (those under --state stay on disk), and the
 * running one is cancelled. */
void jobs_shut(jobs *q, bool stop);
/* Whether the part that was just cancelled was to be left out alone; the next may be begun then. */
bool jobs_take_skip(jobs *q, job *j);
/* Cancels the running job if it has run longer; 0: never. */
void jobs_enforce(jobs *q, double seconds);

/* Results; they take the lock themselves. */
void job_progress(jobs *q, job *j, const char *stage, int done, int total);
/* Takes the PNG. */
void job_show(jobs *q, job *j, uint8_t *png, size_t bytes);
/* Takes the PNG; parameters are copied. */
cn_status job_add_picture(jobs *q, job *j, uint8_t *png, size_t bytes, const char *parameters,
                          bool drawn);
void job_set_info(jobs *q, job *j, json_t *info);
void job_note(jobs *q, job *j, const char *line);
void job_add_point(jobs *q, job *j, json_t *point);

/* --- in JSON ---------------------------------------------------------------------------------- */

/* State and progress; with_result: pictures in base64 too. Under the lock. */
json_t *job_json(jobs *q, const job *j, bool with_result);

/* --- state on disk (jobs_state.c) ------------------------------------------------------------- */

/* Makes this process the only one that keeps jobs in the folder, until the descriptor that is
 * returned is closed; -1 with the reason, one line. */
int jobs_state_lock(const char *dir, char *why, size_t cap);
bool jobs_state_save(const char *dir, const job *j);
void jobs_state_remove(const char *dir, const char *id);
/* A job that can't be done isn't tried again, and its request isn't lost: the file gets another
 * ending, which is returned. */
const char *jobs_state_put_away(const char *dir, const char *id);

typedef struct jobs_state_calls {
    /* A job that was left, whose request says its kind; request is the callee's. */
    void (*add)(void *user, const char *id, json_t *request);
    /* A job's file that can't be read, and why; it stays. */
    void (*left)(void *user, const char *file, const char *why);
    void *user;
} jobs_state_calls;

/* All jobs that were left, in the order in which they came; false with errno, and none of them
 * added, where the folder can't be read to its end. */
bool jobs_state_load(const char *dir, const jobs_state_calls *calls);

#endif
