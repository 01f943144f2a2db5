/* SPDX-License-Identifier: Apache-2.0 */
/* eval.c - how good a base model is at scenes: the VAE's reconstruction of held-out ones, and
 * drawings.
 *
 * Models are opened as a user's are. All measures take what a user sees, 8-bit pictures.
 */
#include "base/option.h"
#include "device/device.h"
#include "pretrain/eval_internal.h"

enum { CLASSIFIER_CHECK = 2000 };

_Static_assert((int)CN_EVALUATE_COLOURS == (int)CN_COLOUR_COUNT, "the judge's colours");
_Static_assert((int)CN_SHAPE_COUNT <= (int)CN_EVALUATE_MAX_SHAPES, "the classifier's shapes");

#define FIELD(member) CN_FIELD(cn_pretrain_evaluate_options, member)

const cn_option cn_pretrain_evaluate_option_rows[] = {
    {.help = "Evaluation"},
    {"evaluate", 0, "measure this model in place of training", FIELD(model), .arg = "DIR"},
    {"held-out", 0, "scenes to reconstruct", FIELD(scenes), 0, 1e6, .preset = "500"},
    {"prompts", 0, "prompts of one object to draw", FIELD(prompts), 0, 1e6, .preset = "200"},
    {"pictures", 0, "pictures of the Frechet distance", FIELD(pictures), 0, 1e6, .preset = "2000"},
    {"pairs", 0, "scenes of two objects drawn with control", FIELD(pairs), 0, 1e6, .preset = "200"},
    {"control-scenes", 0, "scenes drawn with control and without, to measure how well they follow",
     FIELD(control_scenes), 0, 1e6, .preset = "200"},
    {"control-net", 0, "the ControlNet for these; without one none is drawn", FIELD(control_nets),
     .arg = "DIR"},
    {"condition", 0,
     "its condition, exact or an annotator's with settings, as `dataset scenes` has it",
     FIELD(conditions), .arg = "KIND", .unset = "segmentation"},
    {"annotator-model", 0, "of annotators with networks", FIELD(annotator_weights),
     .arg = "WEIGHTS"},
    {"reader", 0, "the network that reads exact conditions from drawings: made where it is missing",
     FIELD(reader), .arg = "FILE"},
    {"reader-steps", 0, "that it is trained", FIELD(reader_steps), 1, 1e6, .preset = "3000"},
    {"control-sheet", 0, "gets the first 8 scenes: conditions, drawing, without, truth",
     FIELD(control_sheet), .arg = "FILE.png"},
    {"simple-scenes", 0, "six solids of plain colours, in one wording", FIELD(simple_scenes)},
    {"classifier-steps", 0, "that the classifier of shapes is trained; 0: no shapes, no distance",
     FIELD(classifier_steps), 0, 1e6, .preset = "3000"},
    {"steps", 0, "of each drawing", FIELD(steps), 1, 1000, .preset = "20"},
    {"cfg-scale", 0, "of each drawing", FIELD(cfg_scale), -1000, 1000, .preset = "5"},
    {"sheet", 0, "gets the first 40 drawings", FIELD(sheet), .arg = "FILE.png"},
    {.help = "Both"},
    CN_DEVICE_ROW(cn_pretrain_evaluate_options, device),
    {"seed", 's', "of held-out scenes, prompts and noise", FIELD(seed), .preset = "1"},
    {0},
};

void cn_pretrain_evaluate_defaults(cn_pretrain_evaluate_options *o)
{
    *o = (cn_pretrain_evaluate_options){0};
    cn_options_preset(cn_pretrain_evaluate_option_rows, o);
}

bool cn_eval_wanted(const cn_eval *v, const cn_scene *scene)
{
    return !v->o->simple_scenes || cn_scene_is_simple(scene);
}

void cn_eval_make_scene(const cn_eval *v, int part, int64_t i, cn_scene *out)
{
    const uint64_t first = cn_eval_scene(part), at = (uint64_t)i;
    if (v->o->simple_scenes)
        cn_scene_generate_simple(v->o->seed, first + at * CN_SCENE_SIMPLE_TRIES, out);
    else
        cn_scene_generate(v->o->seed, first + at, out);
}

static cn_status check_counts(cn_ctx *ctx, const cn_pretrain_evaluate_options *o)
{
    if (!o->model) return cn_fail(ctx, CN_EINVAL, "no model was given");
    CN_TRY(cn_options_check(ctx, cn_pretrain_evaluate_option_rows, o));
    if (o->pictures == 1) return cn_fail(ctx, CN_EINVAL, "a distance needs two pictures or more");
    return CN_OK;
}

static cn_status check_size(cn_ctx *ctx, const cn_base *b, int64_t *size_px)
{
    int64_t factor = (int64_t)1 << (b->vae.levels - 1);
    if (b->vae.image_channels != 3 || b->unet.sample_size < 1 ||
        b->unet.sample_size > CN_SCENE_MAX_PX / factor ||
        b->unet.sample_size * factor < CN_SCENE_MIN_PX)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: scenes are RGB pictures of %d to %d px; this model's have %lld "
                       "channels and %lld times %lld px",
                       b->path, (int)CN_SCENE_MIN_PX, (int)CN_SCENE_MAX_PX,
                       (long long)b->vae.image_channels, (long long)b->unet.sample_size,
                       (long long)factor);
    *size_px = b->unet.sample_size * factor;
    return CN_OK;
}

static void classifier_progress(void *user, int64_t step, int64_t steps)
{
    cn_eval_report(user, "classifier", step, steps);
}

static cn_status make_classifier(cn_eval *v)
{
    const cn_small_net_options o = {.seed = v->o->seed,
                                    .steps = v->o->classifier_steps,
                                    .progress = classifier_progress,
                                    .user = v};
    CN_TRY(cn_classifier_train(v->ctx, v->be, &o, &v->classifier));
    v->e->n_shapes = CN_SHAPE_COUNT;
    for (int i = 0; i < CN_SHAPE_COUNT; i++) v->e->shapes[i] = cn_scene_shape_name(i);
    CN_TRY(cn_classifier_accuracy(v->classifier, cn_eval_scene(CN_PART_CLASSIFIER),
                                  CLASSIFIER_CHECK, v->e->size_px, &v->e->classifier_shape,
                                  &v->e->classifier_colour));
    v->e->classified = true;
    return CN_OK;
}

static cn_status measure_drawings(cn_eval *v)
{
    cn_pipeline *p = NULL;
    const cn_pipeline_options options = {
        .model = v->o->model, .device = v->o->device, .keep_loaded = true};
    cn_status s = cn_pipeline_create(v->ctx, &options, &p);
    if (s == CN_OK && v->o->prompts) s = cn_eval_prompts(v, p);
    if (s == CN_OK && v->o->pictures && v->classifier) s = cn_eval_distance(v, p);
    cn_pipeline_destroy(p);
    return s;
}

static int n_controls(const cn_pretrain_evaluate_options *o)
{
    int n = 0;
    while (o->control_nets && o->control_nets[n]) n++;
    return n;
}

/* Pairs want one ControlNet whose condition says where each object is, but not its colour. */
static bool fixes_colours(const cn_pretrain_evaluate_options *o)
{
    const char *name = o->conditions ? o->conditions[0] : "segmentation";
    return n_controls(o) == 1 && name && cn_scene_condition_find(name) >= 0 &&
           cn_scene_condition_find(name) != CN_CONDITION_TOON;
}

static cn_status measure(cn_eval *v, const cn_base *b)
{
    const cn_pretrain_evaluate_options *o = v->o;
    if (o->scenes) CN_TRY(cn_eval_reconstruction(v, b));
    if (o->classifier_steps && (o->prompts || o->pictures)) CN_TRY(make_classifier(v));
    if (o->prompts || (o->pictures && v->classifier)) CN_TRY(measure_drawings(v));
    if (o->pairs && fixes_colours(o)) CN_TRY(cn_eval_pairs(v));
    if (o->control_scenes && n_controls(o)) CN_TRY(cn_eval_control(v, b));
    return CN_OK;
}

cn_status cn_pretrain_evaluate(cn_ctx *ctx, const cn_pretrain_evaluate_options *o,
                               cn_pretrain_evaluation *out)
{
    cn_base *b = NULL;
    cn_pretrain_evaluation e = {0};
    cn_eval v = {.ctx = ctx, .o = o, .e = &e};
    CN_TRY(check_counts(ctx, o));
    CN_TRY(cn_base_open(ctx, o->model, &b));
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++) e.colours[i] = cn_scene_colour_name(i);
    cn_status s = check_size(ctx, b, &e.size_px);
    if (s == CN_OK) s = cn_backend_create(ctx, o->device, &v.be);
    if (s == CN_OK) s = measure(&v, b);
    cn_base_close(b);
    cn_classifier_destroy(v.classifier);
    cn_reader_destroy(v.reader);
    if (v.be) v.be->destroy(v.be);
    if (s == CN_OK) *out = e;
    return s;
}
