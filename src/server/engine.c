/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the one thread that draws, annotates and trains.
 *
 * It alone has the models' context. A model stays open with its weights, plans of the last size and
 * the last ControlNets until another one wants the memory; preprocessors stay beside it.
 */
#include "server/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_log(void *user, cn_log_level level, const char *line)
{
    engine *e = user;
    if (level == CN_LOG_WARN && e->now) job_note(e->jobs, e->now, line);
}

engine *engine_open(const server_options *options, const char *path, jobs *q, char *why, size_t cap)
{
    cn_pipeline *first = NULL;
    engine *e = calloc(1, sizeof *e);
    if (!e || !(e->ctx = cn_ctx_create(options->threads))) {
        snprintf(why, cap, "out of memory");
        free(e);
        return NULL;
    }
    e->options = options;
    e->jobs = q;
    cn_ctx_set_max_pixels(e->ctx, options->max_pixels);
    cn_ctx_set_log(e->ctx, on_log, e);
    if (engine_model_at(e, path, NULL, 0, &first) == CN_OK) return e;
    snprintf(why, cap, "%s", cn_error(e->ctx));
    engine_close(e);
    return NULL;
}

static void close_annotator(engine_annotator *a)
{
    cn_annotator_destroy(a->annotator);
    free(a->key);
    *a = (engine_annotator){0};
}

void engine_close(engine *e)
{
    if (!e) return;
    for (int i = 0; i < ENGINE_ANNOTATORS; i++) close_annotator(&e->annotators[i]);
    engine_unload(e);
    cn_ctx_destroy(e->ctx);
    free(e);
}

/* --- models ----------------------------------------------------------------------------------- */

static void close_model(engine_model *m)
{
    cn_pipeline_destroy(m->pipeline);
    free(m->path);
    *m = (engine_model){0};
}

void engine_unload(engine *e)
{
    for (int i = 0; i < ENGINE_MODELS; i++) close_model(&e->models[i]);
}

void engine_reopen(engine *e)
{
    e->asked_anew++;
}

static void read_anew(engine *e)
{
    const unsigned asked = e->asked_anew;
    if (asked == e->read_anew) return;
    e->read_anew = asked;
    engine_unload(e);
}

static cn_status open_model(engine *e, const char *path, engine_model *out)
{
    cn_pipeline_options o = e->options->pipeline;
    engine_model m = {.path = strdup(path)};
    if (!m.path) return CN_ENOMEM;
    o.model = m.path;
    o.keep_loaded = true;
    const cn_status s = cn_pipeline_create(e->ctx, &o, &m.pipeline);
    if (s == CN_OK)
        *out = m;
    else
        free(m.path);
    return s;
}

cn_status engine_model_at(engine *e, const char *path, const char *const *controls, int n_controls,
                          cn_pipeline **out)
{
    engine_model *list = e->models, found = {0};
    int i = 0;
    while (i < ENGINE_MODELS && list[i].path && strcmp(list[i].path, path) != 0) i++;
    if (i < ENGINE_MODELS && list[i].path) {
        found = list[i];
    } else {
        const cn_status s = open_model(e, path, &found);
        if (s != CN_OK) return s;
        if (i == ENGINE_MODELS) close_model(&list[--i]);
    }
    memmove(list + 1, list, (size_t)i * sizeof *list);
    list[0] = found;
    *out = found.pipeline;
    return cn_pipeline_set_controls(found.pipeline, controls, n_controls);
}

/* The last of the models behind the first. */
static engine_model *oldest(engine *e)
{
    int i = ENGINE_MODELS - 1;
    while (i > 0 && !e->models[i].path) i--;
    return i ? &e->models[i] : NULL;
}

/* Networks of models[i] and those behind it. */
static size_t bytes_from(const engine *e, int i)
{
    size_t bytes = 0;
    for (; i < ENGINE_MODELS && e->models[i].path; i++)
        bytes += cn_pipeline_loaded_bytes(e->models[i].pipeline);
    return bytes;
}

cn_status engine_make_room(engine *e, const cn_generate_options *o)
{
    cn_pipeline *p = e->models[0].pipeline;
    cn_generate_plan plan;
    for (engine_model *last; (last = oldest(e));) {
        const size_t others = bytes_from(e, 1);
        cn_pipeline_share_memory(p, others);
        if (e->options->pipeline.max_memory_bytes) {
            const cn_status s = others ? cn_generate_dry_run(p, o, &plan) : CN_OK;
            if (!others || (s == CN_OK && plan.keeps_loaded)) return CN_OK;
            if (s != CN_OK && s != CN_ENOMEM) return s;
        }
        close_model(last);
    }
    cn_pipeline_share_memory(p, 0);
    return CN_OK;
}

static void count_open(engine *e)
{
    int n = 0;
    while (n < ENGINE_MODELS && e->models[n].path) n++;
    e->n_open = n;
    e->loaded_bytes = n ? bytes_from(e, 0) : 0;
}

/* --- the thread ------------------------------------------------------------------------------- */

void *engine_run(void *user)
{
    engine *e = user;
    /* the number of threads is a thread's own setting */
    cn_ctx *first = cn_ctx_create(e->options->threads);
    cn_ctx_destroy(first);
    count_open(e);
    for (job *j; (j = jobs_take(e->jobs, e->ctx));) {
        e->now = j;
        read_anew(e);
        const cn_status s = j->kind->run(e, j);
        e->now = NULL;
        count_open(e);
        jobs_finish(e->jobs, j, s, s == CN_OK ? "" : cn_error(e->ctx));
    }
    return NULL;
}

/* --- preprocessors ---------------------------------------------------------------------------- */

bool engine_needs_weights(const char *kind)
{
    char name[128];
    cn_annotate_network network;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(kind, " "), kind);
    const char *known = cn_annotate_find(name);
    return known && cn_annotate_network_at(known, 0, &network);
}

cn_status engine_annotate(engine *e, const char *kind, int64_t resolution,
                          int64_t detect_resolution, const cn_image *in, cn_image **out)
{
    const char *const weights[] = {e->options->annotators_dir, NULL};
    const cn_annotate_options o = {.resolution = resolution,
                                   .detect_resolution = detect_resolution,
                                   .weights = engine_needs_weights(kind) ? weights : NULL};
    char key[1024];
    int i = 0;
    snprintf(key, sizeof key, "%lld %lld %s", (long long)resolution, (long long)detect_resolution,
             kind);
    while (i < ENGINE_ANNOTATORS && e->annotators[i].key && strcmp(e->annotators[i].key, key) != 0)
        i++;
    engine_annotator found = {0};
    if (i < ENGINE_ANNOTATORS && e->annotators[i].key) {
        found = e->annotators[i];
    } else {
        const cn_status s = cn_annotator_create(e->ctx, kind, &o, &found.annotator);
        if (s != CN_OK) return s;
        if (!(found.key = strdup(key))) {
            close_annotator(&found);
            return CN_ENOMEM;
        }
        if (i == ENGINE_ANNOTATORS) close_annotator(&e->annotators[--i]);
    }
    memmove(e->annotators + 1, e->annotators, (size_t)i * sizeof found);
    e->annotators[0] = found;
    const cn_status s = cn_annotator_run(found.annotator, in, out);
    /* under a limit nothing stays that a drawing's plan doesn't count */
    if (e->options->pipeline.max_memory_bytes) close_annotator(&e->annotators[0]);
    return s;
}

/* --- results ---------------------------------------------------------------------------------- */

/* Beside the answer: --save's copy, which mustn't fail the job. */
static void save_copy(engine *e, const uint8_t *png, size_t n, int i)
{
    char path[CN_PATH_BYTES];
    if (!e->options->save_dir) return;
    const int length =
        snprintf(path, sizeof path, "%s/%s_%d.png", e->options->save_dir, e->now->id, i);
    FILE *f = length > 0 && length < (int)sizeof path ? fopen(path, "wbe") : NULL;
    const bool good = f && fwrite(png, 1, n, f) == n;
    if ((f && fclose(f) != 0) || !good)
        job_note(e->jobs, e->now, "the picture could not be written under --save");
}

cn_status engine_add_picture(engine *e, const cn_image *image, const char *const *text,
                             const char *parameters, bool drawn)
{
    uint8_t *png = NULL;
    size_t n = 0;
    const cn_status s = cn_png_encode(e->ctx, image, text, &png, &n);
    if (s != CN_OK) return s;
    if (drawn) save_copy(e, png, n, e->now->n_drawn);
    return job_add_picture(e->jobs, e->now, png, n, parameters, drawn);
}

void engine_show(engine *e, const cn_image *image)
{
    uint8_t *png = NULL;
    size_t n = 0;
    if (cn_png_encode(e->ctx, image, NULL, &png, &n) == CN_OK) job_show(e->jobs, e->now, png, n);
}
