/* SPDX-License-Identifier: Apache-2.0 */
/* draw_run.c - drawings and condition pictures in the engine. */
#include "server/draw.h"
#include "server/picture.h"
#include "io/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beside "parameters", in the PNG where it is asked for: the request, for whoever drops the file on
 * the page. Without it the file is that of `controlnet generate --no-recipe`. */
static const char recipe_key[] = "controlnet.c request";

static void free_draw(void *work)
{
    draw_work *w = work;
    if (!w) return;
    for (int k = 0; k < w->n_controls; k++) {
        free(w->own[k].path);
        cn_image_destroy(w->own[k].image);
        cn_image_destroy(w->own[k].mask);
    }
    cn_image_destroy(w->init);
    cn_image_destroy(w->mask);
    cn_image_destroy(w->reference);
    free(w->model);
    free(w->recipe);
    free(w);
}

/* --- drawing ---------------------------------------------------------------------------------- */

/* What callbacks know. */
typedef struct drawing {
    engine *e;
    const draw_work *w;
    int iteration;
} drawing;

static void on_progress(void *user, const char *stage, int done, int total)
{
    const drawing *d = user;
    job_progress(d->e->jobs, d->e->now, stage, d->iteration * total + done,
                 d->w->iterations * total);
}

/* Of jobs that are drawn together to each its own. */
static void on_preview(void *user, int done, int total, cn_image *const *images, int count)
{
    const drawing *d = user;
    job *first = d->e->now;
    (void)done, (void)total;
    for (int i = 0; i < count && d->e->now; i++, d->e->now = d->e->now->with)
        engine_show(d->e, images[i]);
    d->e->now = first;
}

static void set_preview(const engine *e, cn_generate_options *o)
{
    const char *by = e->options->preview;
    if (!o->preview_interval || !strcmp(by, "none")) return;
    o->preview = on_preview;
    o->preview_by = by;
}

/* Preprocessors that work at a resolution of their own run before the drawing. */
static cn_status annotate_first(engine *e, draw_work *w)
{
    for (int k = 0; k < w->n_controls; k++) {
        draw_control *own = &w->own[k];
        cn_control_options *c = &w->controls[k];
        cn_image *made = NULL;
        if (!own->resolution || !own->image || !strcmp(c->preprocessor, "none") ||
            !strcmp(c->preprocessor, "inpaint") || !strcmp(c->preprocessor, "auto"))
            continue;
        job_progress(e->jobs, e->now, "preprocessing", k, w->n_controls);
        const cn_status s =
            engine_annotate(e, c->preprocessor, own->resolution, 0, own->image, &made);
        if (s != CN_OK) return s;
        cn_image_destroy(own->image);
        c->image = own->image = made;
        c->preprocessor = "none";
    }
    return CN_OK;
}

static cn_status add_results(engine *e, const draw_work *w, const cn_generated *g)
{
    const char *text[] = {"parameters", NULL, w->recipe ? recipe_key : NULL, w->recipe, NULL};
    cn_status s = CN_OK;
    for (int i = 0; s == CN_OK && i < g->count; i++) {
        text[1] = g->parameters[i];
        s = engine_add_picture(e, g->images[i], text, g->parameters[i], true);
    }
    return s;
}

static json_t *usage_json(const cn_prompt_usage *u)
{
    return json_pack("{s:I, s:i, s:i, s:I}", "tokens", (json_int_t)u->tokens, "chunks", u->chunks,
                     "stages", u->stages, "left_out", (json_int_t)u->cut);
}

/* together: jobs that were drawn at once. */
static void set_info(engine *e, const draw_work *w, const cn_generated *g, int together)
{
    json_t *seeds = json_array();
    const int batch = together > 1 ? 1 : w->o.batch;
    const int64_t first = (int64_t)w->o.seed - (int64_t)(w->iterations - 1) * batch;
    for (int i = 0; i < w->iterations * batch; i++)
        json_array_append_new(seeds, json_integer(first + i / batch * batch));
    json_t *info = json_pack(
        "{s:I, s:o, s:I, s:I, s:f, s:f, s:f, s:f, s:o}", "seed", (json_int_t)first, "seeds", seeds,
        "width", (json_int_t)g->width, "height", (json_int_t)g->height, "text_seconds", g->text_s,
        "encoding_seconds", g->encoding_s, "sampling_seconds", g->sampling_s, "decoding_seconds",
        g->decoding_s, "prompt_tokens", usage_json(&g->prompt));
    if (together > 1) json_object_set_new(info, "together", json_integer(together));
    job_set_info(e->jobs, e->now, info);
}

/* --- several at once -------------------------------------------------------------------------- */

static bool is_equal(const job *a, const job *b)
{
    if (a->kind != &draw_job || b->kind != &draw_job) return false;
    const draw_work *x = a->work, *y = b->work;
    return x->can_share && y->can_share && memcmp(x->key, y->key, sizeof x->key) == 0;
}

/* Equal jobs that wait join the running one, as many as memory allows; their seeds. */
static void gather(engine *e, job *j, cn_pipeline *p, uint64_t seeds[DRAW_TOGETHER])
{
    draw_work *w = j->work;
    int most = e->options->batch_jobs, n = 0;
    cn_generate_plan plan;
    if (most < 2 || !w->can_share) return;
    for (int i = 0; i < DRAW_TOGETHER; i++) seeds[i] = w->o.seed;
    w->o.seeds = seeds;
    for (w->o.batch = most; e->options->pipeline.max_memory_bytes && w->o.batch > 1;
         w->o.batch /= 2)
        if (cn_generate_dry_run(p, &w->o, &plan) == CN_OK && plan.keeps_loaded) break;
    if (w->o.batch > 1) jobs_take_equal(e->jobs, j, is_equal, w->o.batch - 1);
    for (const job *one = j; one; one = one->with)
        seeds[n++] = ((const draw_work *)one->work)->o.seed;
    w->o.batch = n;
    if (n == 1) w->o.seeds = NULL;
}

/* Picture i is job i's. */
static cn_status share_results(engine *e, const cn_generated *g, int count)
{
    job *first = e->now;
    cn_status s = CN_OK;
    for (int i = 0; s == CN_OK && i < count; i++, e->now = e->now->with) {
        const draw_work *w = e->now->work;
        cn_generated one = *g;
        one.count = 1;
        one.images = &g->images[i];
        one.parameters = &g->parameters[i];
        s = add_results(e, w, &one);
        for (int k = 0; s == CN_OK && k < g->n_conditions; k++)
            s = engine_add_picture(e, g->conditions[k], NULL, NULL, false);
        if (s == CN_OK) set_info(e, w, g, count);
    }
    e->now = first;
    return s;
}

static cn_status run_draw(engine *e, job *j)
{
    draw_work *w = j->work;
    const char *paths[DRAW_CONTROLS];
    uint64_t seeds[DRAW_TOGETHER];
    drawing d = {.e = e, .w = w};
    cn_generated *g = NULL;
    for (int k = 0; k < w->n_controls; k++) paths[k] = w->own[k].path;
    cn_pipeline *p = NULL;
    cn_status s = engine_model_at(e, w->model, paths, w->n_controls, &p);
    if (s == CN_OK) s = annotate_first(e, w);
    if (s == CN_OK) gather(e, j, p, seeds);
    if (s == CN_OK) s = engine_make_room(e, &w->o);
    set_preview(e, &w->o);
    w->o.progress = on_progress;
    w->o.user = &d;
    for (; s == CN_OK && d.iteration < w->iterations; d.iteration++) {
        cn_generated_destroy(g);
        g = NULL;
        if (d.iteration) w->o.seed += (uint64_t)w->o.batch;
        s = cn_generate(p, &w->o, &g);
        if (s == CN_OK && !j->with) s = add_results(e, w, g);
        if (s == CN_ECANCELLED && jobs_take_skip(e->jobs, j)) s = CN_OK;
    }
    if (s == CN_OK && g && j->with) {
        s = share_results(e, g, w->o.batch);
    } else if (s == CN_OK && g) {
        for (int k = 0; s == CN_OK && k < g->n_conditions; k++)
            s = engine_add_picture(e, g->conditions[k], NULL, NULL, false);
        if (s == CN_OK) set_info(e, w, g, 1);
    }
    cn_generated_destroy(g);
    return s;
}

const job_kind draw_job = {"generate", run_draw, free_draw};

/* --- condition pictures ----------------------------------------------------------------------- */

typedef struct annotate_work {
    const char *kind;
    int64_t resolution, detect_resolution;
    cn_image *image;
} annotate_work;

static void free_annotate(void *work)
{
    annotate_work *w = work;
    if (!w) return;
    cn_image_destroy(w->image);
    free(w);
}

static cn_status run_annotate(engine *e, job *j)
{
    const annotate_work *w = j->work;
    cn_image *made = NULL;
    job_progress(e->jobs, j, "annotating", 0, 1);
    cn_status s = engine_annotate(e, w->kind, w->resolution, w->detect_resolution, w->image, &made);
    if (s == CN_OK) s = engine_add_picture(e, made, NULL, NULL, true);
    cn_image_destroy(made);
    if (s == CN_OK) job_progress(e->jobs, j, "annotating", 1, 1);
    return s;
}

const job_kind annotate_job = {"annotate", run_annotate, free_annotate};

static const char annotate_text[] =
    "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"type\",\"kind\",\"image\"]"
    ","
    "\"properties\":{\"type\":{\"type\":\"string\",\"const\":\"annotate\"},\"kind\":{\"type\":"
    "\"string\",\"description\":\"a preprocessor of /v1/preprocessors, settings may follow: canny "
    "low=50\"},\"image\":{\"type\":\"string\",\"contentEncoding\":\"base64\"},\"resolution\":{"
    "\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":4096,\"default\":0,\"description\":"
    "\"the "
    "shorter side first goes to this; 0: as it "
    "is\"},\"detect_resolution\":{\"type\":[\"integer\",\"null\"],"
    "\"minimum\":-1,\"maximum\":4096,\"default\":0,\"description\":\"at which the preprocessor "
    "sees the picture; 0: what it prefers, -1: its own size\"}}}";

json_t *annotate_schema(void)
{
    return cn_json_parse_string(annotate_text, 0);
}

static bool check_members(const json_t *request, char why[WHY_BYTES])
{
    json_t *schema = annotate_schema();
    const json_t *properties = json_object_get(schema, "properties");
    const char *member;
    json_t *value;
    bool good = true;
    json_object_foreach((json_t *)(uintptr_t)request, member, value)
    {
        if (!good || json_object_get(properties, member)) continue;
        snprintf(why, WHY_BYTES, "%.200s: there is no such member; /docs lists them", member);
        good = false;
    }
    json_decref(schema);
    return good;
}

static bool read_annotate(const draw_reader *r, cn_ctx *ctx, const json_t *request,
                          annotate_work *w, char why[WHY_BYTES])
{
    if (!check_members(request, why) || !json_text(request, "kind", NULL, &w->kind, why) ||
        !json_whole(request, "resolution", 0, 4096, 0, &w->resolution, why) ||
        !json_whole(request, "detect_resolution", -1, 4096, 0, &w->detect_resolution, why))
        return false;
    if (!w->kind) return snprintf(why, WHY_BYTES, "kind is missing"), false;
    if (!draw_check_preprocessor(r, w->kind, why) ||
        !picture_from_json(ctx, request, "image", false, &w->image, why))
        return false;
    if (!w->image) return snprintf(why, WHY_BYTES, "image is missing"), false;
    return true;
}

void *annotate_read(const draw_reader *r, json_t *request, char why[WHY_BYTES])
{
    cn_ctx *ctx = cn_ctx_create(1);
    annotate_work *w = calloc(1, sizeof *w);
    snprintf(why, WHY_BYTES, "out of memory");
    cn_ctx_set_max_pixels(ctx, r->options->max_pixels);
    const bool good = ctx && w && read_annotate(r, ctx, request, w, why);
    cn_ctx_destroy(ctx);
    if (good) return w;
    free_annotate(w);
    return NULL;
}

/* --- kinds ------------------------------------------------------------------------------------ */

static const struct {
    const job_kind *kind;
    void *(*read)(const draw_reader *r, json_t *request, char why[WHY_BYTES]);
} job_kinds[] = {{&draw_job, draw_read}, {&annotate_job, annotate_read}, {&train_job, train_read}};

enum { N_KINDS = sizeof job_kinds / sizeof *job_kinds };

void *job_read(const draw_reader *r, json_t *request, const job_kind **kind, char why[WHY_BYTES])
{
    const char *type;
    if (!json_text(request, "type", "generate", &type, why)) return NULL;
    for (int i = 0; i < N_KINDS; i++) {
        if (strcmp(job_kinds[i].kind->name, type) != 0) continue;
        *kind = job_kinds[i].kind;
        return job_kinds[i].read(r, request, why);
    }
    snprintf(why, WHY_BYTES, "type \"%.100s\": there are generate, annotate and train", type);
    return NULL;
}
