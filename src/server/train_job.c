/* SPDX-License-Identifier: Apache-2.0 */
/* train_job.c - the job of training a ControlNet: from a folder under --data into the first folder
 * of ControlNets, where later drawings find it. */
#include "server/draw.h"

#include "io/json_text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* SAMPLES: pairs that a dry run shows, SAMPLE_PX: of their shorter side at most. */
enum { CURVE_POINTS = 400, NAME_BYTES = 64, SAMPLES = 4, SAMPLE_PX = 256 };

typedef struct train_work {
    char *model; /* path of the base model */
    cn_train_options o;
    char data[PATH_MAX], output[CN_PATH_BYTES];
} train_work;

static const options_extra train_members[] = {
    {"type", "{\"type\":\"string\",\"const\":\"train\"}"},
    {"model", DRAW_MODEL_SCHEMA},
    {"name",
     "{\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$\",\"description\":"
     "\"the new ControlNet's\"}"},
    {"data", "{\"type\":\"string\",\"description\":\"a data set of /v1/datasets\"}"},
    {"resume",
     "{\"type\":\"boolean\",\"default\":false,\"description\":\"goes on with the ControlNet "
     "of this name, from its last checkpoint\"}"},
    {0}};

/* What would touch other folders, or needs several processes. */
static const char *const not_taken[] = {
    "overwrite", "resume-from-checkpoint", "distributed", "report-to", "unlock", "device", NULL};

json_t *train_schema(void)
{
    const options_part part = {.rows = cn_train_option_rows, .not = not_taken};
    return options_schema(&part, train_members, "name");
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool is_name(const char *s)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t n = strlen(s);
    return n && n <= NAME_BYTES && strspn(s, letters) == n && !strchr("._-", s[0]);
}

/* Where links lead to counts too. */
static bool find_data(const char *root, const char *name, char out[PATH_MAX], char why[WHY_BYTES])
{
    char whole[PATH_MAX], path[PATH_MAX];
    const int length = snprintf(path, sizeof path, "%s/%s", root, name);
    const bool there =
        length > 0 && length < PATH_MAX && realpath(root, whole) && realpath(path, out);
    const size_t n = there ? strlen(whole) : 0;
    if (there && strncmp(out, whole, n) == 0 && (out[n] == '/' || !out[n])) return true;
    snprintf(why, WHY_BYTES, "data \"%.200s\": there is no such folder under --data", name);
    return false;
}

static bool read_places(const draw_reader *r, const json_t *request, train_work *w,
                        char why[WHY_BYTES])
{
    const server_options *o = r->options;
    const char *name, *data;
    if (!o->data_dir || !o->control_dirs || !o->control_dirs[0])
        return snprintf(why, WHY_BYTES,
                        "this server doesn't train: it wants --data DIR, and "
                        "--control-nets DIR for what comes of it"),
               false;
    if (!json_text(request, "name", "", &name, why) || !json_text(request, "data", "", &data, why))
        return false;
    if (!is_name(name))
        return snprintf(why, WHY_BYTES,
                        "name: 1 to %d letters, digits, '.', '_' and '-' are "
                        "expected",
                        NAME_BYTES),
               false;
    if (!*data) return snprintf(why, WHY_BYTES, "data: one of /v1/datasets is expected"), false;
    const int n = snprintf(w->output, sizeof w->output, "%s/%s", o->control_dirs[0], name);
    if (n < 0 || n >= (int)sizeof w->output)
        return snprintf(why, WHY_BYTES, "name: the path is too long"), false;
    return find_data(o->data_dir, data, w->data, why);
}

static bool read_train(const draw_reader *r, cn_ctx *ctx, json_t *request, train_work *w,
                       char why[WHY_BYTES])
{
    const options_part part = {.rows = cn_train_option_rows, .target = &w->o, .not = not_taken};
    const json_t *resume = json_object_get(request, "resume");
    if (!options_from_json(ctx, &part, train_members, request, why) ||
        !read_places(r, request, w, why) || !(w->model = draw_find_model(r, request, why)))
        return false;
    if (resume && !json_is_boolean(resume))
        return snprintf(why, WHY_BYTES, "resume: true or false is expected"), false;
    w->o.model = w->model;
    w->o.max_memory_bytes = r->options->pipeline.max_memory_bytes;
    w->o.tokenizer = r->options->pipeline.tokenizer;
    w->o.vae = r->options->pipeline.vae;
    w->o.device = r->options->pipeline.device;
    w->o.train_data_dir = w->data;
    w->o.output_dir = w->output;
    /* a job of --state that never began has nothing to go on from */
    if (json_is_true(resume) && access(w->output, F_OK) == 0)
        w->o.resume_from_checkpoint = "latest";
    return true;
}

static void free_train(void *work)
{
    train_work *w = work;
    if (!w) return;
    free(w->model);
    free(w);
}

void *train_read(const draw_reader *r, json_t *request, char why[WHY_BYTES])
{
    cn_ctx *ctx = cn_ctx_create(1);
    train_work *w = calloc(1, sizeof *w);
    bool good = false;
    if (ctx && w) {
        cn_train_options_default(&w->o);
        good = read_train(r, ctx, request, w, why);
    } else {
        snprintf(why, WHY_BYTES, "out of memory");
    }
    cn_ctx_destroy(ctx);
    if (good) return w;
    free_train(w);
    return NULL;
}

/* --- running ---------------------------------------------------------------------------------- */

typedef struct training {
    engine *e;
    json_t *info;
    int64_t pointed; /* step of the curve's last point */
    int64_t pairs;   /* that a dry run found */
} training;

static void on_progress(void *user, const cn_train_progress *p)
{
    training *t = user;
    job_progress(t->e->jobs, t->e->now, p->stage, (int)p->done, (int)p->total);
    if (strcmp(p->stage, "train") != 0) return;
    const int64_t apart = p->total / CURVE_POINTS + 1;
    if (p->done < t->pointed + apart && p->done != p->total) return;
    t->pointed = p->done;
    job_add_point(t->e->jobs, t->e->now,
                  json_pack("{s:I, s:f, s:f, s:f, s:f}", "step", (json_int_t)p->done, "loss",
                            p->loss, "loss_mean", p->loss_mean, "step_seconds", p->step_seconds,
                            "eta_seconds", p->eta_seconds));
}

/* Validation's sheet: condition, with control, without, target. */
static void show_sheet(engine *e, const char *path)
{
    cn_image *image = NULL;
    if (path && cn_image_load(e->ctx, path, &image) == CN_OK) engine_show(e, image);
    cn_image_destroy(image);
}

static void on_validated(void *user, const cn_train_validation *v)
{
    const training *t = user;
    json_t *point = json_pack("{s:I, s:f, s:f, s:b}", "step", (json_int_t)v->step, "loss_with",
                              v->loss_with, "loss_without", v->loss_without, "learned", v->learned);
    if (v->has_agreement)
        json_object_update_new(
            point,
            json_pack("{s:s, s:f, s:f}", "measure", v->agreement_with.measure, "agreement_with",
                      v->agreement_with.score, "agreement_without", v->agreement_without.score));
    if (v->advice) json_object_set_new(point, "advice", json_string(v->advice));
    job_add_point(t->e->jobs, t->e->now, point);
    show_sheet(t->e, v->sheet);
}

/* Of a dry run. */
static void on_checked(void *user, const cn_dataset_report *r)
{
    training *t = user;
    json_t *findings = json_array();
    t->pairs = r->pairs;
    for (int i = 0; i < CN_DATASET_FINDINGS; i++)
        if (r->findings[i].count)
            json_array_append_new(
                findings,
                json_pack("{s:s, s:s, s:I}", "name", r->findings[i].name, "advice",
                          r->findings[i].advice, "count", (json_int_t)r->findings[i].count));
    json_object_set_new(
        t->info, "data",
        json_pack("{s:s, s:I, s:I, s:I, s:o}", "found", r->found, "pairs", (json_int_t)r->pairs,
                  "problems", (json_int_t)r->problems, "prompts", (json_int_t)r->distinct_prompts,
                  "findings", findings));
}

static void on_planned(void *user, const cn_train_plan *p)
{
    const training *t = user;
    json_object_set_new(
        t->info, "plan",
        json_pack("{s:I, s:I, s:I, s:f, s:f}", "peak_bytes", (json_int_t)p->peak_bytes,
                  "training_bytes", (json_int_t)p->training_bytes, "steps", (json_int_t)p->steps,
                  "step_seconds", p->step_seconds, "run_seconds", p->run_seconds));
}

/* Condition and picture beside each other, by a file: that is how cn_dataset_show gives them. */
static cn_status add_sample(engine *e, const cn_dataset_options *data, int64_t i, const char *png,
                            json_t *samples)
{
    char *text = NULL;
    cn_image *image = NULL, *small = NULL;
    uint8_t *bytes = NULL;
    size_t n = 0;
    cn_status s = cn_dataset_show(e->ctx, data, i, png, true, &text);
    if (s == CN_OK) s = cn_image_load(e->ctx, png, &image);
    unlink(png);
    if (s == CN_OK && (cn_image_width(image) > 2 * SAMPLE_PX || cn_image_height(image) > SAMPLE_PX))
        s = engine_annotate(e, "none", SAMPLE_PX, 0, image, &small);
    if (s == CN_OK) s = cn_png_encode(e->ctx, small ? small : image, NULL, &bytes, &n);
    if (s == CN_OK) s = job_add_picture(e->jobs, e->now, bytes, n, NULL, true);
    if (s == CN_OK) {
        json_t *told = cn_json_parse_string(text, 0);
        json_object_del(told, "where"); /* a path of this machine's */
        json_object_set_new(told, "pair", json_integer(i));
        json_array_append_new(samples, told);
    }
    cn_free(text);
    cn_image_destroy(small);
    cn_image_destroy(image);
    return s;
}

/* Some of the pairs, evenly spread; one that can't be shown is left out. */
static void add_samples(const training *t, const cn_train_options *o)
{
    const cn_dataset_options data = {.dir = o->train_data_dir,
                                     .image_column = o->image_column,
                                     .conditioning_image_column = o->conditioning_image_column,
                                     .caption_column = o->caption_column,
                                     .caption_extension = o->caption_extension};
    const char *root = getenv("TMPDIR");
    char dir[CN_PATH_BYTES], png[CN_PATH_BYTES];
    json_t *samples = json_array();
    const int64_t n = t->pairs < SAMPLES ? t->pairs : SAMPLES;
    snprintf(dir, sizeof dir, "%s/controlnet-XXXXXX", root && *root ? root : "/tmp");
    if (mkdtemp(dir)) {
        const int length = snprintf(png, sizeof png, "%s/pair.png", dir);
        for (int64_t i = 0; i < n && length < (int)sizeof png; i++)
            (void)add_sample(t->e, &data, i * t->pairs / n, png, samples);
        rmdir(dir);
    }
    json_object_set_new(t->info, "samples", samples);
}

static cn_status run_train(engine *e, job *j)
{
    const train_work *w = j->work;
    training t = {.e = e, .info = json_object()};
    cn_train_result result = {0};
    const cn_train_callbacks callbacks = {.user = &t,
                                          .checked = on_checked,
                                          .progress = on_progress,
                                          .validated = on_validated,
                                          .planned = on_planned};
    engine_unload(e); /* the drawings' networks make room */
    const cn_status s = cn_train(e->ctx, &w->o, &callbacks, &result);
    if (s == CN_OK && !w->o.dry_run)
        json_object_update_new(
            t.info, json_pack("{s:I, s:f, s:f, s:I}", "steps", (json_int_t)result.steps, "seconds",
                              result.seconds, "final_loss", result.final_loss, "learned_at_step",
                              (json_int_t)result.learned_at_step));
    if (s == CN_OK && w->o.dry_run) add_samples(&t, &w->o);
    job_set_info(e->jobs, j, t.info);
    return s;
}

const job_kind train_job = {"train", run_train, free_train};
