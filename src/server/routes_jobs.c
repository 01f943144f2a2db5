/* SPDX-License-Identifier: Apache-2.0 */
/* routes_jobs.c - the server's own interface: jobs, their events, what there is to draw with. */
#include "server/server_internal.h"

#include "io/json_text.h"
#include "server/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- jobs for every interface ----------------------------------------------------------------- */

draw_reader server_reader(const server *s)
{
    return (draw_reader){.options = &s->o, .models = s->models};
}

/* A line of JSON like those of requests. */
static void log_prompts(const job *j)
{
    json_t *line = json_pack("{s:I, s:s, s:s}", "time", (json_int_t)time(NULL), "job", j->id,
                             "type", j->kind->name);
    static const char *const names[] = {"prompt", "negative_prompt", "prompt_2",
                                        "negative_prompt_2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *text = json_object_get(j->request, names[i]);
        if (json_is_string(text)) json_object_set(line, names[i], text);
    }
    char *text = cn_json_text(line, JSON_COMPACT);
    if (text) fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(line);
}

job *server_add_job(const http_request *r, json_t *request, http_reply *reply)
{
    const draw_reader reader = server_reader(r->server);
    const job_kind *kind = NULL;
    const char *full = NULL;
    char why[WHY_BYTES] = "out of memory";
    void *work = request ? job_read(&reader, request, &kind, why) : NULL;
    if (!work) {
        json_decref(request);
        http_reply_error(reply, 422, "%s", why);
        return NULL;
    }
    job *j = jobs_add(r->server->jobs, kind, request, work, NULL, &full);
    if (j && r->server->o.log_prompts) log_prompts(j);
    if (!j) http_reply_error(reply, r->server->ends ? 503 : 429, "%s", full);
    return j;
}

bool server_await_job(const http_request *r, const job *j)
{
    server *s = r->server;
    unsigned version = 0;
    bool ended = false, gone = false;
    while (!ended && !gone) {
        version = jobs_wait(s->jobs, j, version, 0.25);
        jobs_lock(s->jobs);
        ended = job_has_ended(j);
        jobs_unlock(s->jobs);
        gone = !ended && http_client_gone(r);
    }
    return ended;
}

bool server_wait_job(const http_request *r, job *j, http_reply *reply)
{
    const bool ended = server_await_job(r, j);
    if (!ended) jobs_cancel(r->server->jobs, j);
    if (ended && j->state == JOB_DONE) return true;
    if (!ended)
        http_reply_error(reply, 503, "the client went away");
    else if (j->state == JOB_CANCELLED)
        http_reply_error(reply, 503, "the job was cancelled");
    else
        http_reply_error(reply, j->is_refused ? 422 : 500, "%s", j->error);
    jobs_release(r->server->jobs, j);
    return false;
}

/* --- /v1/jobs --------------------------------------------------------------------------------- */

static void reply_job(const http_request *r, http_reply *reply, int status, const job *j,
                      bool whole)
{
    jobs_lock(r->server->jobs);
    json_t *value = job_json(r->server->jobs, j, whole);
    jobs_unlock(r->server->jobs);
    http_reply_json(reply, status, value);
}

static void post_job(const http_request *r, http_reply *reply)
{
    job *j = server_add_job(r, json_incref(r->json), reply);
    if (!j) return;
    reply_job(r, reply, 202, j, false);
    jobs_release(r->server->jobs, j);
}

typedef struct listing {
    jobs *jobs;
    json_t *list;
} listing;

static void list_one(void *user, const job *j)
{
    const listing *l = user;
    json_array_append_new(l->list, job_json(l->jobs, j, false));
}

static void get_jobs(const http_request *r, http_reply *reply)
{
    listing l = {r->server->jobs, json_array()};
    jobs_each(r->server->jobs, list_one, &l);
    http_reply_json(reply, 200, json_pack("{s:o}", "jobs", l.list));
}

static job *find_job(const http_request *r, http_reply *reply)
{
    job *j = jobs_find(r->server->jobs, r->words[0]);
    if (!j)
        http_reply_error(reply, 404, "there is no job %.64s: only the last ones are kept",
                         r->words[0]);
    return j;
}

static void get_job(const http_request *r, http_reply *reply)
{
    job *j = find_job(r, reply);
    if (!j) return;
    reply_job(r, reply, 200, j, true);
    jobs_release(r->server->jobs, j);
}

static void delete_job(const http_request *r, http_reply *reply)
{
    job *j = find_job(r, reply);
    if (!j) return;
    jobs_cancel(r->server->jobs, j);
    reply_job(r, reply, 200, j, false);
    jobs_release(r->server->jobs, j);
}

/* Picture i of a job that is done, as a PNG file. */
static void get_picture(const http_request *r, http_reply *reply)
{
    job *j = find_job(r, reply);
    char *end;
    if (!j) return;
    const long i = strtol(r->words[1], &end, 10);
    jobs_lock(r->server->jobs);
    const bool there =
        !*end && end != r->words[1] && j->state == JOB_DONE && i >= 0 && i < j->n_pictures;
    reply->body = there ? malloc(j->pictures[i].bytes) : NULL;
    if (reply->body) {
        reply->body_bytes = j->pictures[i].bytes;
        memcpy(reply->body, j->pictures[i].png, reply->body_bytes);
        reply->type = "image/png";
    }
    jobs_unlock(r->server->jobs);
    jobs_release(r->server->jobs, j);
    if (!reply->body)
        http_reply_error(reply, 404, "there is no picture %.20s of this job", r->words[1]);
}

/* --- events ----------------------------------------------------------------------------------- */

/* What a listener has seen of a job. */
typedef struct listener {
    server *server;
    job *job;
    unsigned version, previews;
    size_t points;
    bool ended;
    double spoke_s;
    char *text; /* what is still to be sent */
    size_t bytes, at;
} listener;

static void add_event(FILE *out, const char *name, json_t *data)
{
    char *text = cn_json_text(data, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) fprintf(out, "event: %s\ndata: %s\n\n", name, text);
    free(text);
    json_decref(data);
}

static json_t *preview_json(const job *j)
{
    char *text = base64_encode(j->preview.png, j->preview.bytes, NULL);
    json_t *data = text ? json_pack("{s:s, s:i}", "image", text, "number", (int)j->previews) : NULL;
    free(text);
    return data;
}

/* Under the lock: all that changed since the last look. */
static void write_events(listener *l, FILE *out)
{
    const job *j = l->job;
    const bool ended = job_has_ended(j);
    if (!ended || j->state != JOB_DONE)
        add_event(out, "state", job_json(l->server->jobs, j, false));
    if (j->previews != l->previews && j->preview.png) add_event(out, "preview", preview_json(j));
    for (; l->points < json_array_size(j->points); l->points++)
        add_event(out, "point", json_deep_copy(json_array_get(j->points, l->points)));
    if (ended && j->state == JOB_DONE) add_event(out, "result", job_json(l->server->jobs, j, true));
    l->previews = j->previews;
    l->version = j->version;
    l->ended = ended;
}

static bool look(listener *l)
{
    enum { QUIET_S = 15 };
    jobs_wait(l->server->jobs, l->job, l->version, 0.5);
    free(l->text);
    l->text = NULL;
    l->bytes = l->at = 0;
    FILE *out = open_memstream(&l->text, &l->bytes);
    if (!out) return false;
    jobs_lock(l->server->jobs);
    if (l->job->version != l->version) write_events(l, out);
    jobs_unlock(l->server->jobs);
    /* a line now and then finds out that the other side is gone */
    if (jobs_now_s() - l->spoke_s > QUIET_S) fputs(": still here\n\n", out);
    return fclose(out) == 0;
}

static long next_events(void *user, char *buffer, size_t cap)
{
    listener *l = user;
    while (l->at == l->bytes) {
        if (l->ended || l->server->ends || !look(l)) return -1;
        if (l->at == l->bytes) continue;
        l->spoke_s = jobs_now_s();
    }
    const size_t left = l->bytes - l->at, n = left < cap ? left : cap;
    memcpy(buffer, l->text + l->at, n);
    l->at += n;
    return (long)n;
}

static void close_listener(void *user)
{
    listener *l = user;
    jobs_release(l->server->jobs, l->job);
    free(l->text);
    free(l);
}

static void get_events(const http_request *r, http_reply *reply)
{
    job *j = find_job(r, reply);
    if (!j) return;
    listener *l = calloc(1, sizeof *l);
    if (!l) {
        jobs_release(r->server->jobs, j);
        http_reply_error(reply, 503, "out of memory");
        return;
    }
    *l = (listener){.server = r->server, .job = j, .version = UINT32_MAX, .spoke_s = jobs_now_s()};
    reply->type = "text/event-stream";
    reply->stream = (http_stream){next_events, close_listener, l};
}

/* --- what there is ---------------------------------------------------------------------------- */

static void get_control_nets(const http_request *r, http_reply *reply)
{
    json_t *list = models_list(r->server->models), *one;
    size_t i;
    json_array_foreach(list, i, one)
    {
        json_object_del(one, "path");
        json_object_del(one, "hash");
    }
    http_reply_json(reply, 200, json_pack("{s:o}", "control_nets", list));
}

static json_t *settings_of(const char *kind)
{
    json_t *list = json_array();
    cn_annotate_setting s;
    for (int i = 0; cn_annotate_setting_at(kind, i, &s); i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "name", s.name,
                                              "help", s.help, "type",
                                              s.is_switch ? "switch"
                                              : s.whole   ? "whole"
                                                          : "number",
                                              "min", s.min, "max", s.max, "default", s.otherwise));
    return list;
}

/* Those that make conditions of pictures and whose networks may be there. */
static void get_preprocessors(const http_request *r, http_reply *reply)
{
    json_t *list = json_array();
    const char *title, *kind, *pictures = cn_annotate_takes("none");
    for (int i = 0; (kind = cn_annotate_kind(i, &title)); i++) {
        const char *takes = cn_annotate_takes(kind);
        if (!takes || !pictures || strcmp(takes, pictures) != 0) continue;
        if (engine_needs_weights(kind) && !r->server->o.annotators_dir) continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", kind, "title", title,
                                              "settings", settings_of(kind)));
    }
    http_reply_json(reply, 200, json_pack("{s:o}", "preprocessors", list));
}

static json_t *names_of(const char *(*name)(int i))
{
    json_t *list = json_array();
    for (int i = 0; name(i); i++) json_array_append_new(list, json_string(name(i)));
    return list;
}

/* Without paths. */
static json_t *plain_entry(const json_t *one)
{
    return json_pack("{s:O, s:O}", "name", json_object_get(one, "name"), "title",
                     json_object_get(one, "title"));
}

static json_t *plain_models(const server *s)
{
    json_t *all = models_bases(s->models), *list = json_array(), *one;
    size_t i;
    json_array_foreach(all, i, one)
    {
        json_array_append_new(list, plain_entry(one));
    }
    json_decref(all);
    return list;
}

static void get_base_models(const http_request *r, http_reply *reply)
{
    http_reply_json(reply, 200, json_pack("{s:o}", "models", plain_models(r->server)));
}

/* What a model's own pictures measure; 0 with the reason in the context. */
static int64_t size_of(const server *s, cn_ctx *ctx, const char *path)
{
    cn_pipeline_options o = s->o.pipeline;
    cn_pipeline *p = NULL;
    o.model = path;
    const int64_t px = cn_pipeline_create(ctx, &o, &p) == CN_OK ? cn_pipeline_size_px(p) : 0;
    cn_pipeline_destroy(p);
    return px;
}

static void get_base_model(const http_request *r, http_reply *reply)
{
    json_t *one = models_base(r->server->models, r->words[0]);
    cn_ctx *ctx = one ? cn_ctx_create(1) : NULL;
    char list[2048];
    if (ctx) {
        const int64_t px = size_of(r->server, ctx, json_string_value(json_object_get(one, "path")));
        json_t *entry = plain_entry(one);
        json_object_set_new(entry, "size_px", json_integer(px));
        if (px)
            http_reply_json(reply, 200, entry);
        else
            http_reply_error(reply, 422, "%s", cn_error(ctx));
        if (!px) json_decref(entry);
    } else if (!one) {
        models_base_names(r->server->models, list, sizeof list);
        http_reply_error(reply, 404, "there is no base model %.100s; there are: %s", r->words[0],
                         list);
    } else {
        http_reply_error(reply, 503, "out of memory");
    }
    cn_ctx_destroy(ctx);
    json_decref(one);
}

static void get_info(const http_request *r, http_reply *reply)
{
    const server *s = r->server;
    json_t *model = models_base(s->models, NULL);
    http_reply_json(
        reply, 200,
        json_pack("{s:s, s:O?, s:o, s:o, s:o, s:o, s:o, s:{s:i, s:i, s:i, s:I}, s:b, s:b}",
                  "version", CN_VERSION, "model", json_object_get(model, "title"), "models",
                  plain_models(s), "samplers", names_of(cn_generate_sampler), "schedulers",
                  names_of(cn_generate_scheduler), "loras", models_files(s->o.pipeline.lora_dir),
                  "embeddings", models_files(s->o.pipeline.embeddings_dir), "limits", "steps",
                  s->o.max_steps, "batch", s->o.max_batch, "prompt_bytes", s->o.max_prompt,
                  "pixels", (json_int_t)s->o.max_pixels, "previews",
                  strcmp(s->o.preview, "none") != 0, "training",
                  s->o.data_dir && s->o.control_dirs));
    json_decref(model);
}

static void get_datasets(const http_request *r, http_reply *reply)
{
    http_reply_json(reply, 200,
                    json_pack("{s:o}", "datasets", models_folders(r->server->o.data_dir)));
}

static void get_health(const http_request *r, http_reply *reply)
{
    const jobs_totals t = jobs_count(r->server->jobs);
    http_reply_json(reply, 200,
                    json_pack("{s:s, s:i, s:i}", "status", r->server->ends ? "ending" : "ok",
                              "waiting", t.waiting, "running", t.running));
}

const http_route routes_jobs[] = {
    {"GET", "/healthz", get_health, ROUTE_OPEN | ROUTE_QUIET, "Whether the server works", NULL,
     NULL},
    {"GET", "/v1/info", get_info, 0, "Base models, samplers, LoRAs and limits", NULL, NULL},
    {"GET", "/v1/base-models", get_base_models, 0, "Base models", NULL, NULL},
    {"GET", "/v1/base-models/{model}", get_base_model, 0, "One of them, and its pictures' size",
     NULL, NULL},
    {"GET", "/v1/control-nets", get_control_nets, 0, "ControlNets in the server's folders", NULL,
     NULL},
    {"GET", "/v1/preprocessors", get_preprocessors, 0, "Kinds of condition pictures", NULL, NULL},
    {"GET", "/v1/datasets", get_datasets, 0, "Folders of training pairs under --data", NULL, NULL},
    {"POST", "/v1/jobs", post_job, ROUTE_JSON, "Adds a job to the queue", "Job", "JobState"},
    {"GET", "/v1/jobs", get_jobs, ROUTE_QUIET, "Jobs that wait, run, or ended lately", NULL, NULL},
    {"GET", "/v1/jobs/{id}", get_job, ROUTE_QUIET, "State and result of a job", NULL, "JobState"},
    {"DELETE", "/v1/jobs/{id}", delete_job, 0, "Cancels a job, at its next step if it runs", NULL,
     "JobState"},
    {"GET", "/v1/jobs/{id}/events", get_events, ROUTE_LONG,
     "A job's progress as server-sent events: state, preview, point, result", NULL, "events"},
    {"GET", "/v1/jobs/{id}/pictures/{number}", get_picture, ROUTE_QUIET, "A result as PNG", NULL,
     "png"},
    {0}};
