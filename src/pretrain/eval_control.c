/* SPDX-License-Identifier: Apache-2.0 */
/* eval_control.c - held-out scenes drawn with ControlNets and without, and how well the drawings
 * follow each condition by its own measure.
 *
 * Exact maps are read from drawings by the reader; an annotator's condition is what the annotator
 * finds in the scene's picture and in the drawing.
 */
#include "eval/agreement.h"
#include "pretrain/eval_internal.h"

#include <string.h>

enum { SHEET_ROWS = 8, MOST = CN_EVALUATE_MAX_CONTROLS };

typedef struct control {
    const char *name;
    int exact;             /* a cn_scene_condition; -1: an annotator's */
    cn_annotate_args args; /* of the annotator */
    cn_session *session;
    cn_image *condition;
    int64_t n;                                /* scenes that have anything of the kind */
    double with, without, autoencoder, truth; /* sums */
} control;

typedef struct follow {
    cn_eval *v;
    int64_t px;
    control list[MOST];
    int n;
    cn_eval_vae vae;
    cn_pipeline *with, *without;
    cn_scene scene;
    cn_image *truth, *back, *sheet;
} follow;

/* --- conditions ------------------------------------------------------------------------------- */

static cn_status open_control(follow *f, const char *name, control *c)
{
    cn_eval *v = f->v;
    c->name = name;
    c->exact = cn_scene_condition_find(name);
    CN_TRY(cn_image_create(v->ctx, f->px, f->px, &c->condition));
    if (c->exact >= 0) return CN_OK;
    CN_TRY(cn_annotate_read(v->ctx, name, &c->args));
    if (c->args.kind->takes != CN_TAKES_PICTURE || c->args.kind->measure == CN_MEASURE_NONE)
        return cn_fail(v->ctx, CN_EINVAL, "condition %s: drawings can't be compared with it",
                       c->args.kind->name);
    c->args.weights = v->o->annotator_weights;
    return cn_session_open(v->ctx, &c->args, v->be, &c->session);
}

static cn_status open_controls(follow *f)
{
    const cn_pretrain_evaluate_options *o = f->v->o;
    int n_conditions = 0;
    while (o->control_nets[f->n]) f->n++;
    while (o->conditions && o->conditions[n_conditions]) n_conditions++;
    if (f->n > MOST)
        return cn_fail(f->v->ctx, CN_EINVAL, "%d ControlNets at once, at most %d are measured",
                       f->n, MOST);
    if (n_conditions != f->n && (f->n != 1 || n_conditions))
        return cn_fail(f->v->ctx, CN_EINVAL, "%d ControlNets and %d conditions: each has one", f->n,
                       n_conditions);
    for (int i = 0; i < f->n; i++)
        CN_TRY(open_control(f, n_conditions ? o->conditions[i] : "segmentation", &f->list[i]));
    return CN_OK;
}

static bool has_exact(const follow *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->list[i].exact >= 0) return true;
    return false;
}

static void reader_progress(void *user, int64_t step, int64_t steps)
{
    cn_eval_report(user, "reader", step, steps);
}

static cn_status find_reader(cn_eval *v)
{
    const cn_small_net_options o = {
        .seed = v->o->seed, .steps = v->o->reader_steps, .progress = reader_progress, .user = v};
    if (v->o->reader && cn_file_exists(v->o->reader))
        return cn_reader_load(v->ctx, v->be, v->o->reader, &v->reader);
    CN_TRY(cn_reader_train(v->ctx, v->be, &o, &v->reader));
    return v->o->reader ? cn_reader_save(v->reader, v->o->reader) : CN_OK;
}

/* --- scenes ----------------------------------------------------------------------------------- */

/* Key points want somebody. */
static bool wants_person(const follow *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->list[i].exact == CN_CONDITION_POSE ||
            (f->list[i].exact < 0 && f->list[i].args.kind->measure == CN_MEASURE_POSE))
            return true;
    return false;
}

static cn_status condition_of(follow *f, control *c)
{
    cn_image *found = NULL;
    if (c->exact >= 0)
        return cn_scene_condition_render(f->v->ctx, &f->scene, f->px, (cn_scene_condition)c->exact,
                                         NULL, c->condition->rgb);
    CN_TRY(cn_session_annotate(c->session, f->truth, &found));
    cn_image_destroy(c->condition);
    c->condition = found;
    return CN_OK;
}

static cn_status make_scene(follow *f, int64_t i)
{
    const cn_scene_maps maps = {.rgb = f->truth->rgb};
    if (wants_person(f))
        cn_scene_generate_with(f->v->o->seed, cn_eval_scene(CN_PART_CONTROL) + (uint64_t)i,
                               CN_SHAPE_PERSON, &f->scene);
    else
        cn_eval_make_scene(f->v, CN_PART_CONTROL, i, &f->scene);
    CN_TRY(cn_scene_render(f->v->ctx, &f->scene, f->px, &maps));
    for (int k = 0; k < f->n; k++) CN_TRY(condition_of(f, &f->list[k]));
    return cn_eval_vae_run(&f->vae, f->truth->rgb, f->back->rgb);
}

static cn_status agreement(follow *f, control *c, const cn_image *picture, bool *applies,
                           double *score)
{
    cn_image *found = NULL;
    cn_agreement a;
    *applies = true;
    if (c->exact >= 0)
        return cn_reader_agreement(f->v->reader, picture->rgb, f->px, &f->scene,
                                   (cn_scene_condition)c->exact, applies, score);
    CN_TRY(cn_session_annotate(c->session, picture, &found));
    const cn_status s = cn_measure_run(f->v->ctx, c->args.kind->measure, found, c->condition, &a);
    cn_image_destroy(found);
    if (s == CN_OK) *score = a.score;
    return s;
}

static cn_status compare(follow *f, const cn_image *with, const cn_image *without)
{
    for (int k = 0; k < f->n; k++) {
        control *c = &f->list[k];
        bool applies = true;
        const cn_image *pictures[] = {with, without, f->back, f->truth};
        double *sums[] = {&c->with, &c->without, &c->autoencoder, &c->truth};
        for (int i = 0; applies && i < (int)CN_COUNT(sums); i++) {
            double score;
            CN_TRY(agreement(f, c, pictures[i], &applies, &score));
            if (applies) *sums[i] += score;
        }
        c->n += applies;
    }
    return CN_OK;
}

/* A row: the conditions, the drawing, the one without control, the scene. */
static void put_row(follow *f, int64_t row, const cn_image *with, const cn_image *without)
{
    const int64_t px = f->px, top = row * px;
    if (!f->sheet || row >= SHEET_ROWS) return;
    for (int k = 0; k < f->n; k++) cn_eval_put(f->sheet, k * px, top, f->list[k].condition);
    cn_eval_put(f->sheet, f->n * px, top, with);
    cn_eval_put(f->sheet, (f->n + 1) * px, top, without);
    cn_eval_put(f->sheet, (f->n + 2) * px, top, f->truth);
}

static cn_status one_scene(follow *f, int64_t i)
{
    cn_control_options controls[MOST];
    cn_generated *with = NULL, *without = NULL;
    CN_TRY(make_scene(f, i));
    for (int k = 0; k < f->n; k++)
        controls[k] = (cn_control_options){.image = f->list[k].condition, .strength = 1, .end = 1};
    const uint64_t seed = cn_eval_seed(f->v, i);
    cn_status s = cn_eval_draw(f->v, f->with, f->scene.caption, seed, controls, &with);
    if (s == CN_OK) s = cn_eval_draw(f->v, f->without, f->scene.caption, seed, NULL, &without);
    if (s == CN_OK) s = compare(f, with->images[0], without->images[0]);
    if (s == CN_OK) put_row(f, i, with->images[0], without->images[0]);
    cn_generated_destroy(with);
    cn_generated_destroy(without);
    return s;
}

/* --- all of it -------------------------------------------------------------------------------- */

static cn_status prepare(follow *f, const cn_base *b)
{
    cn_eval *v = f->v;
    const int64_t rows = CN_MIN(v->o->control_scenes, SHEET_ROWS);
    const cn_pipeline_options without = {
        .model = v->o->model, .device = v->o->device, .keep_loaded = true};
    cn_pipeline_options with = without;
    CN_TRY(open_controls(f));
    with.controls = v->o->control_nets;
    with.n_controls = f->n;
    CN_TRY(cn_image_create(v->ctx, f->px, f->px, &f->truth));
    CN_TRY(cn_image_create(v->ctx, f->px, f->px, &f->back));
    if (v->o->control_sheet)
        CN_TRY(cn_image_create(v->ctx, (f->n + 3) * f->px, rows * f->px, &f->sheet));
    CN_TRY(cn_pipeline_create(v->ctx, &with, &f->with));
    CN_TRY(cn_pipeline_create(v->ctx, &without, &f->without));
    CN_TRY(cn_eval_vae_create(v, b, 1, &f->vae));
    return has_exact(f) ? find_reader(v) : CN_OK;
}

static void destroy(follow *f)
{
    for (int k = 0; k < CN_MIN(f->n, MOST); k++) {
        cn_session_close(f->list[k].session);
        cn_image_destroy(f->list[k].condition);
    }
    cn_eval_vae_destroy(&f->vae);
    cn_pipeline_destroy(f->with);
    cn_pipeline_destroy(f->without);
    cn_image_destroy(f->truth);
    cn_image_destroy(f->back);
    cn_image_destroy(f->sheet);
}

static void conclude(const follow *f, cn_pretrain_evaluation *e)
{
    e->control_scenes = f->v->o->control_scenes;
    e->n_follow = f->n;
    for (int k = 0; k < f->n; k++) {
        const control *c = &f->list[k];
        const double n = (double)CN_MAX(c->n, 1);
        e->follow[k] = (cn_pretrain_follow){
            .condition = c->name,
            .measure = c->exact >= 0 ? cn_reader_measure((cn_scene_condition)c->exact)
                                     : cn_measure_name(c->args.kind->measure),
            .scenes = c->n,
            .with = c->with / n,
            .without = c->without / n,
            .autoencoder = c->autoencoder / n,
            .truth = c->truth / n,
        };
    }
}

cn_status cn_eval_control(cn_eval *v, const cn_base *b)
{
    follow f = {.v = v, .px = v->e->size_px};
    const int64_t n = v->o->control_scenes;
    cn_status s = prepare(&f, b);
    for (int64_t i = 0; s == CN_OK && i < n; i++)
        if ((s = one_scene(&f, i)) == CN_OK) cn_eval_report(v, "control", i + 1, n);
    if (s == CN_OK && f.sheet) s = cn_image_save_png(v->ctx, v->o->control_sheet, f.sheet, NULL);
    if (s == CN_OK) conclude(&f, v->e);
    destroy(&f);
    return s;
}
