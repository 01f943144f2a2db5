/* SPDX-License-Identifier: Apache-2.0 */
/* eval_draw.c - how well a base model draws what it is asked for: colours, shapes, the spread of
 * its drawings, and colours of two objects whose places a ControlNet fixes.
 *
 * Pictures are drawn as a user draws them. Colours are judged by hue (scene/judge.c), shapes by the
 * classifier.
 */
#include "pretrain/eval_internal.h"
#include "pretrain/frechet.h"

#include <string.h>

enum { SHEET_COLUMNS = 8, SHEET_DRAWINGS = 40, REAL_BATCH = 16, REAL_PER_PICTURE = 4 };

cn_status cn_eval_draw(cn_eval *v, cn_pipeline *p, const char *prompt, uint64_t seed,
                       const cn_control_options *control, cn_generated **out)
{
    cn_generate_options o;
    if (cn_cancelled(v->ctx)) return cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
    cn_generate_defaults(&o);
    o.prompt = prompt;
    o.sampler = "ddim";
    o.steps = v->o->steps;
    o.cfg_scale = v->o->cfg_scale;
    o.width = o.height = v->e->size_px;
    o.seed = seed;
    o.controls = control;
    return cn_generate(p, &o, out);
}

/* --- prompts of one object -------------------------------------------------------------------- */

uint64_t cn_eval_seed(const cn_eval *v, int64_t i)
{
    return (v->o->seed - 1) * 1000003u + (uint64_t)i;
}

/* How many shapes prompts ask for: those before people, who have two colours. */
static int shapes_asked(const cn_eval *v)
{
    return v->o->simple_scenes ? (int)CN_SCENE_SIMPLE_SHAPES : (int)CN_SHAPE_PERSON;
}

/* Colours take turns, then shapes; the rest is drawn. */
static cn_status make_prompt(cn_eval *v, int64_t i, cn_scene *scene)
{
    cn_rng rng;
    const int colour = (int)(i % CN_COLOUR_COUNT);
    const int shape = (int)(i / CN_COLOUR_COUNT % shapes_asked(v));
    cn_rng_seed(&rng, cn_eval_seed(v, i));
    do {
        int ground, sky;
        do {
            ground = (int)cn_rng_below(&rng, CN_GROUND_COUNT);
            sky = (int)cn_rng_below(&rng, CN_SKY_COUNT);
        } while (!cn_scene_allowed(colour, ground, sky));
        CN_TRY(cn_scene_prompt(v->ctx, shape, colour, CN_SCENE_ANY, ground, sky, cn_rng_u64(&rng),
                               scene));
    } while (!cn_eval_wanted(v, scene));
    return CN_OK;
}

void cn_eval_put(cn_image *sheet, int64_t left, int64_t top, const cn_image *picture)
{
    for (int64_t y = 0; y < picture->height; y++)
        memcpy(sheet->rgb + ((top + y) * sheet->width + left) * 3,
               picture->rgb + y * picture->width * 3, (size_t)picture->width * 3);
}

static cn_status judge(cn_eval *v, const cn_scene *scene, const cn_image *picture)
{
    cn_pretrain_evaluation *e = v->e;
    cn_classified told;
    const int asked = scene->objects[0].colour, shape = scene->objects[0].shape;
    const int seen = cn_scene_judge_colour(picture->rgb, e->size_px, e->size_px, NULL);
    e->seen[asked][seen < 0 ? CN_EVALUATE_COLOURS : seen]++;
    e->right += seen == asked;
    e->undecided += seen < 0;
    if (!v->classifier) return CN_OK;
    CN_TRY(cn_classifier_run(v->classifier, picture->rgb, 1, e->size_px, &told));
    e->shape_seen[shape][told.shape]++;
    e->shape_right += told.shape == shape;
    return CN_OK;
}

static cn_status one_prompt(cn_eval *v, cn_pipeline *p, int64_t i, cn_image *sheet)
{
    cn_scene scene;
    cn_generated *g = NULL;
    CN_TRY(make_prompt(v, i, &scene));
    CN_TRY(cn_eval_draw(v, p, scene.caption, cn_eval_seed(v, i), NULL, &g));
    const cn_status s = judge(v, &scene, g->images[0]);
    const int64_t px = v->e->size_px;
    if (sheet && i < SHEET_DRAWINGS)
        cn_eval_put(sheet, i % SHEET_COLUMNS * px, i / SHEET_COLUMNS * px, g->images[0]);
    cn_generated_destroy(g);
    return s;
}

cn_status cn_eval_prompts(cn_eval *v, cn_pipeline *p)
{
    const int64_t prompts = v->o->prompts, shown = CN_MIN(prompts, SHEET_DRAWINGS);
    const int64_t rows = (shown + SHEET_COLUMNS - 1) / SHEET_COLUMNS, px = v->e->size_px;
    cn_image *sheet = NULL;
    cn_status s = CN_OK;
    if (v->o->sheet) s = cn_image_create(v->ctx, SHEET_COLUMNS * px, rows * px, &sheet);
    for (int64_t i = 0; s == CN_OK && i < prompts; i++)
        if ((s = one_prompt(v, p, i, sheet)) == CN_OK) cn_eval_report(v, "drawing", i + 1, prompts);
    if (s == CN_OK && sheet) s = cn_image_save_png(v->ctx, v->o->sheet, sheet, NULL);
    cn_image_destroy(sheet);
    if (s == CN_OK) v->e->prompts = prompts;
    return s;
}

/* --- the distance ----------------------------------------------------------------------------- */

static cn_status add_features(cn_eval *v, const uint8_t *rgb, int64_t n, cn_moments *m)
{
    cn_classified told[REAL_BATCH];
    CN_TRY(cn_classifier_run(v->classifier, rgb, n, v->e->size_px, told));
    for (int64_t i = 0; i < n; i++) cn_moments_add(m, told[i].features);
    return CN_OK;
}

/* n scenes of a part, as they are. */
static cn_status add_scenes(cn_eval *v, int part, int64_t n, cn_moments *m)
{
    const int64_t px = v->e->size_px;
    cn_scene scenes[REAL_BATCH];
    uint8_t *rgb = cn_alloc(v->ctx, (size_t)(REAL_BATCH * px * px * 3));
    cn_status s = rgb ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < n; i += REAL_BATCH) {
        const int64_t here = CN_MIN(REAL_BATCH, n - i);
        for (int64_t k = 0; k < here; k++) cn_eval_make_scene(v, part, i + k, &scenes[k]);
        const cn_scene_maps maps = {.rgb = rgb};
        if (cn_cancelled(v->ctx)) s = cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
        if (s == CN_OK) s = cn_scene_render_batch(v->ctx, scenes, here, px, &maps);
        if (s == CN_OK) s = add_features(v, rgb, here, m);
    }
    cn_free(rgb);
    return s;
}

static cn_status add_drawings(cn_eval *v, cn_pipeline *p, int64_t n, cn_moments *m)
{
    cn_status s = CN_OK;
    for (int64_t i = 0; s == CN_OK && i < n; i++) {
        cn_scene scene;
        cn_generated *g = NULL;
        cn_eval_make_scene(v, CN_PART_CAPTIONS, i, &scene);
        s = cn_eval_draw(v, p, scene.caption, cn_eval_seed(v, i), NULL, &g);
        if (s == CN_OK) s = add_features(v, g->images[0]->rgb, 1, m);
        cn_generated_destroy(g);
        if (s == CN_OK) cn_eval_report(v, "distance", i + 1, n);
    }
    return s;
}

cn_status cn_eval_distance(cn_eval *v, cn_pipeline *p)
{
    enum { DRAWN, REAL, OTHER, SETS };
    const int64_t n = v->o->pictures;
    cn_moments m[SETS] = {{0}};
    cn_status s = CN_OK;
    for (int k = 0; s == CN_OK && k < SETS; k++)
        s = cn_moments_create(v->ctx, CN_CLASSIFIER_FEATURES, &m[k]);
    if (s == CN_OK) s = add_scenes(v, CN_PART_REAL, REAL_PER_PICTURE * n, &m[REAL]);
    if (s == CN_OK) s = add_scenes(v, CN_PART_OTHER, n, &m[OTHER]);
    if (s == CN_OK) s = add_drawings(v, p, n, &m[DRAWN]);
    if (s == CN_OK) s = cn_frechet_distance(v->ctx, &m[DRAWN], &m[REAL], &v->e->frechet);
    if (s == CN_OK) s = cn_frechet_distance(v->ctx, &m[OTHER], &m[REAL], &v->e->frechet_floor);
    for (int k = 0; k < SETS; k++) cn_moments_destroy(&m[k]);
    if (s == CN_OK) v->e->pictures = n;
    return s;
}

/* --- two objects under control ---------------------------------------------------------------- */

typedef struct pair {
    cn_scene scene;
    uint8_t *segments, *one; /* of the scene; of one object alone */
    cn_image *condition;
} pair;

/* Two objects of one colour each, other colours than one another's. */
static cn_status compose_pair(cn_eval *v, int64_t i, cn_scene *scene)
{
    cn_scene_request request;
    cn_rng rng;
    cn_rng_seed(&rng, cn_eval_seed(v, i));
    do {
        cn_scene_request_init(2, &request);
        for (int k = 0; k < 2; k++)
            request.objects[k].shape = (int)cn_rng_below(&rng, shapes_asked(v));
        if (v->o->simple_scenes) request.relation = CN_RELATION_NONE;
        CN_TRY(cn_scene_compose(v->ctx, &request, cn_rng_u64(&rng), scene));
    } while (!cn_eval_wanted(v, scene));
    return CN_OK;
}

static cn_status make_pair(cn_eval *v, int64_t i, int condition, pair *p)
{
    const int64_t px = v->e->size_px;
    const cn_scene_maps maps = {.segmentation = p->segments};
    CN_TRY(compose_pair(v, i, &p->scene));
    CN_TRY(cn_scene_render(v->ctx, &p->scene, px, &maps));
    return cn_scene_condition_render(v->ctx, &p->scene, px, (cn_scene_condition)condition, NULL,
                                     p->condition->rgb);
}

/* Each object's colour, looked for where the condition has it. */
static void judge_pair(cn_eval *v, pair *p, const cn_image *picture)
{
    const int64_t px = v->e->size_px;
    int right = 0;
    for (int k = 0; k < 2; k++) {
        for (int64_t j = 0; j < px * px; j++)
            p->one[j] = p->segments[j] == 2 + k ? p->segments[j] : 0;
        right += cn_scene_judge_colour(picture->rgb, px, px, p->one) == p->scene.objects[k].colour;
    }
    v->e->pair_colours_right += right;
    v->e->pairs_right += right == 2;
}

static cn_status draw_pairs(cn_eval *v, cn_pipeline *pipeline, int condition, pair *p)
{
    for (int64_t i = 0; i < v->o->pairs; i++) {
        cn_generated *g = NULL;
        CN_TRY(make_pair(v, i, condition, p));
        const cn_control_options control = {.image = p->condition, .strength = 1, .end = 1};
        CN_TRY(cn_eval_draw(v, pipeline, p->scene.caption, cn_eval_seed(v, i), &control, &g));
        judge_pair(v, p, g->images[0]);
        cn_generated_destroy(g);
        cn_eval_report(v, "pairs", i + 1, v->o->pairs);
    }
    v->e->pairs = v->o->pairs;
    return CN_OK;
}

cn_status cn_eval_pairs(cn_eval *v)
{
    const int64_t px = v->e->size_px;
    const char *const *names = v->o->conditions;
    const char *name = names && names[0] ? names[0] : "segmentation";
    const int condition = cn_scene_condition_find(name);
    cn_pipeline *pipeline = NULL;
    pair p = {.segments = cn_alloc(v->ctx, (size_t)(px * px)),
              .one = cn_alloc(v->ctx, (size_t)(px * px))};
    const cn_pipeline_options o = {.model = v->o->model,
                                   .device = v->o->device,
                                   .controls = v->o->control_nets,
                                   .n_controls = 1,
                                   .keep_loaded = true};
    cn_status s = p.segments && p.one ? CN_OK : CN_ENOMEM;
    if (s == CN_OK && condition < 0)
        s = cn_fail(v->ctx, CN_EINVAL,
                    "condition %s: edges, depth, normal or segmentation is expected", name);
    if (s == CN_OK) s = cn_image_create(v->ctx, px, px, &p.condition);
    if (s == CN_OK) s = cn_pipeline_create(v->ctx, &o, &pipeline);
    if (s == CN_OK) s = draw_pairs(v, pipeline, condition, &p);
    cn_pipeline_destroy(pipeline);
    cn_image_destroy(p.condition);
    cn_free(p.segments);
    cn_free(p.one);
    return s;
}
