/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_result.c - what comes of a job while it runs and at its end, and all that as JSON. */
#include "server/base64.h"
#include "server/jobs_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NOTES = 20, MOST_POINTS = 4000 };

static void progress(jobs *q, job *j, const char *stage, int done, int total)
{
    const double now = jobs_now_s();
    if (strcmp(j->stage, stage) != 0 || done == 0) j->stage_began_s = now;
    if (done > j->done && strcmp(j->stage, stage) == 0 && strcmp(stage, "sampling") == 0)
        q->totals.steps += (uint64_t)(done - j->done);
    if (strcmp(stage, "sampling") == 0 && j->ready_s <= 0) {
        j->ready_s = now - j->began_s;
        q->totals.ready_s += j->ready_s;
        q->totals.sampled++;
    }
    snprintf(j->stage, sizeof j->stage, "%s", stage);
    j->done = done;
    j->total = total;
    j->eta_s = done > 0 ? (now - j->stage_began_s) / done * (total - done) : -1;
    jobs_touch(q, j);
}

void job_progress(jobs *q, job *j, const char *stage, int done, int total)
{
    pthread_mutex_lock(&q->lock);
    for (; j; j = j->with) progress(q, j, stage, done, total);
    pthread_mutex_unlock(&q->lock);
}

void job_show(jobs *q, job *j, uint8_t *png, size_t bytes)
{
    pthread_mutex_lock(&q->lock);
    cn_free(j->preview.png);
    j->preview = (job_picture){.png = png, .bytes = bytes};
    j->previews++;
    jobs_touch(q, j);
    pthread_mutex_unlock(&q->lock);
}

cn_status job_add_picture(jobs *q, job *j, uint8_t *png, size_t bytes, const char *parameters,
                          bool drawn)
{
    job_picture p = {.png = png, .bytes = bytes};
    if (parameters) p.parameters = strdup(parameters);
    pthread_mutex_lock(&q->lock);
    job_picture *list = realloc(j->pictures, ((size_t)j->n_pictures + 1) * sizeof *list);
    if (list) {
        j->pictures = list;
        list[j->n_pictures++] = p;
        j->n_drawn += drawn;
    }
    pthread_mutex_unlock(&q->lock);
    if (list) return CN_OK;
    cn_free(png);
    free(p.parameters);
    return CN_ENOMEM;
}

void job_set_info(jobs *q, job *j, json_t *info)
{
    pthread_mutex_lock(&q->lock);
    json_decref(j->info);
    j->info = info;
    pthread_mutex_unlock(&q->lock);
}

void job_note(jobs *q, job *j, const char *line)
{
    pthread_mutex_lock(&q->lock);
    for (; j; j = j->with) {
        if (!j->notes) j->notes = json_array();
        if (json_array_size(j->notes) < MOST_NOTES)
            json_array_append_new(j->notes, json_string(line));
    }
    pthread_mutex_unlock(&q->lock);
}

void job_add_point(jobs *q, job *j, json_t *point)
{
    pthread_mutex_lock(&q->lock);
    if (!j->points) j->points = json_array();
    if (json_array_size(j->points) < MOST_POINTS)
        json_array_append_new(j->points, point);
    else
        json_decref(point);
    jobs_touch(q, j);
    pthread_mutex_unlock(&q->lock);
}

/* --- in JSON ---------------------------------------------------------------------------------- */

static json_t *picture_json(const job_picture *p)
{
    char *text = base64_encode(p->png, p->bytes, NULL);
    json_t *value = text ? json_string(text) : NULL;
    free(text);
    return value;
}

static json_t *result_json(const job *j)
{
    json_t *pictures = json_array(), *conditions = json_array(), *parameters = json_array();
    for (int i = 0; i < j->n_pictures; i++) {
        const job_picture *p = &j->pictures[i];
        const bool drawn = i < j->n_drawn;
        json_array_append_new(drawn ? pictures : conditions, picture_json(p));
        if (drawn && p->parameters) json_array_append_new(parameters, json_string(p->parameters));
    }
    json_t *result = json_pack("{s:o, s:o, s:o}", "images", pictures, "parameters", parameters,
                               "conditions", conditions);
    if (j->info) json_object_update(result, j->info);
    return result;
}

/* Waiting jobs before this one, and it; 0: it doesn't wait. */
static int position(const jobs *q, const job *j)
{
    int n = 1;
    if (j->state != JOB_QUEUED) return 0;
    for (const job *other = q->first; other && other != j; other = other->next)
        n += other->state == JOB_QUEUED;
    return n;
}

json_t *job_json(jobs *q, const job *j, bool with_result)
{
    const double end = job_has_ended(j) ? j->ended_s : jobs_now_s();
    const double began = j->began_s > 0 ? j->began_s : end;
    json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:s, s:i, s:i, s:f, s:f}", "id", j->id, "type",
                          j->kind->name, "state", job_state_name(j->state), "position",
                          position(q, j), "stage", j->stage, "step", j->done, "steps", j->total,
                          "waited_seconds", began - j->queued_s, "run_seconds", end - began);
    if (!o) return NULL;
    if (j->state == JOB_RUNNING && j->eta_s >= 0)
        json_object_set_new(o, "eta_seconds", json_real(j->eta_s));
    if (j->ready_s > 0) json_object_set_new(o, "ready_seconds", json_real(j->ready_s));
    if (j->error[0]) json_object_set_new(o, "error", json_string(j->error));
    if (j->notes) json_object_set_new(o, "notes", json_deep_copy(j->notes));
    if (!with_result) return o;
    if (j->points) json_object_set_new(o, "curve", json_deep_copy(j->points));
    if (j->state == JOB_DONE) json_object_set_new(o, "result", result_json(j));
    return o;
}
