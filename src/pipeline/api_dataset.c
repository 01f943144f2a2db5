/* SPDX-License-Identifier: Apache-2.0 */
/* api_dataset.c - controlnet.h's calls that make training pairs. */
#include "base/option.h"
#include "pipeline/conditions_internal.h"
#include "scene/circles.h"
#include "scene/scene.h"

#include <string.h>

/* --- scenes ----------------------------------------------------------------------------------- */

static cn_status annotate_scene(void *user, cn_ctx *ctx, int64_t index, const cn_image *picture,
                                cn_image *condition)
{
    char name[32];
    cn_image *out = NULL;
    json_t *note = json_object();
    snprintf(name, sizeof name, "%lld", (long long)index);
    const cn_condition_input in = {.image = picture, .name = name};
    const cn_status s = cn_condition_make(user, ctx, &in, note, &out);
    json_decref(note);
    if (s != CN_OK) return s;
    const bool fits = out->width == condition->width && out->height == condition->height;
    if (fits) memcpy(condition->rgb, out->rgb, (size_t)(out->width * out->height * 3));
    cn_image_destroy(out);
    return fits ? CN_OK
                : cn_fail(ctx, CN_EINVAL,
                          "this annotator changes the picture's size; one that "
                          "keeps it is expected");
}

/* Every option is spelled out in the settings, so that whoever reads scenes.txt can make the same
 * condition. */
static cn_status open_condition(cn_ctx *ctx, const char *text, const cn_scenes_options *o,
                                cn_condition *out)
{
    const cn_annotate_folder_options many = {.annotate = {.weights = o->weights},
                                             .seed = o->seed,
                                             .random_thresholds = o->random_thresholds};
    char word[64];
    cn_status s = cn_condition_open(ctx, text, &many, out);
    if (s == CN_OK && o->weights && *o->weights && cn_condition_side_by_side(out)) {
        cn_condition_close(out);
        s = cn_fail(ctx, CN_EINVAL, "it has no network: it takes no weights (%s)", *o->weights);
    }
    if (s == CN_OK) return CN_OK;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(text, " ,|"), text);
    if (cn_kind_find(word)) return cn_fail_prefix(ctx, s, "condition \"%s\"", text);
    cn_str exact = {0};
    cn_scene_condition_list(&exact);
    s = cn_fail_prefix(ctx, s, "condition \"%s\" is none of the exact ones (%s)", text,
                       exact.data ? exact.data : "");
    cn_str_free(&exact);
    return s;
}

static cn_status fail_shape(cn_ctx *ctx, const char *name)
{
    cn_str list = {0};
    for (int i = 0; cn_scene_shape_name(i); i++)
        cn_str_addf(&list, "%s%s", i ? ", " : "", cn_scene_shape_name(i));
    const cn_status s = cn_fail(ctx, CN_EINVAL, "scenes with \"%s\": known are %s", name,
                                list.data ? list.data : "");
    cn_str_free(&list);
    return s;
}

#define FIELD(member) CN_FIELD(cn_scenes_options, member)

const cn_option cn_circles_option_rows[] = {
    {.help = "Options"},
    {"count", 'n', "pictures", FIELD(count), 1, 1e8, .preset = "1000"},
    {"seed", 0, "of the sequence of pictures", FIELD(seed), .preset = "0"},
    {"size", 0, "width and height", FIELD(size_px), CN_SCENE_MIN_PX, CN_SCENE_MAX_PX, .arg = "PX",
     .unset = "scenes 128, circles 512"},
    {"start", 0, "first picture of the sequence", FIELD(start), 0, 1e12, .preset = "0",
     .arg = "INDEX"},
    {0},
};

const cn_option cn_scenes_option_rows[] = {
    {.help = "Options"},
    {"condition", 0,
     "canny, \"canny low=50 high=100\", pidinet, ... (controlnet annotate --list); exact ones: "
     "edges, depth, normal, segmentation, lines, softedge, scribble, pose, cartoon, toon",
     FIELD(condition), .preset = "canny", .arg = "KIND"},
    {"random-thresholds", 0, "of canny, by seed and picture", FIELD(random_thresholds)},
    {"with", 0, "every scene has one: person, \"torus knot\", ...", FIELD(with), .arg = "SHAPE",
     .unset = "person for pose"},
    {"simple", 0, "six solids of plain colours, in one wording: what models/tiny-sd knows",
     FIELD(simple)},
    {"model", 'm', "of kinds with networks; may be given several times", FIELD(weights),
     .arg = "WEIGHTS"},
    {0},
};

cn_status cn_dataset_scenes(cn_ctx *ctx, const cn_scenes_options *o)
{
    cn_condition annotator = {0};
    cn_scene_dataset d = {.dir = o->output_dir,
                          .n = o->count,
                          .first_index = o->start,
                          .seed = o->seed,
                          .size_px = o->size_px ? o->size_px : 128,
                          .with = CN_SCENE_ANY,
                          .simple = o->simple,
                          .progress = o->progress,
                          .progress_user = o->user};
    const char *condition = o->condition ? o->condition : "canny";
    CN_TRY(cn_options_check(ctx, cn_circles_option_rows, o));
    const int exact = cn_scene_condition_find(condition);
    if (exact >= 0 && o->weights && *o->weights)
        return cn_fail(ctx, CN_EINVAL, "the scenes' exact %s takes no weights (%s)", condition,
                       *o->weights);
    const char *with = !o->with && exact == CN_CONDITION_POSE ? "person" : o->with;
    if (with && o->simple)
        return cn_fail(ctx, CN_EINVAL, "simple scenes are of every solid, not all with a %s", with);
    if (with && (d.with = cn_scene_shape_find(with)) < 0) return fail_shape(ctx, with);
    if (exact >= 0 && o->random_thresholds)
        return cn_fail(ctx, CN_EINVAL,
                       "the scenes' exact %s has no thresholds that are drawn at random; canny has",
                       condition);
    if (exact >= 0) {
        d.condition = (cn_scene_condition)exact;
        return cn_scene_write_dataset(ctx, &d);
    }
    CN_TRY(open_condition(ctx, condition, o, &annotator));
    d.compute = annotate_scene;
    d.compute_name = annotator.settings.data;
    d.compute_user = &annotator;
    d.alone = !cn_condition_side_by_side(&annotator);
    const cn_status s = cn_scene_write_dataset(ctx, &d);
    cn_condition_close(&annotator);
    return s;
}

cn_status cn_dataset_circles(cn_ctx *ctx, const cn_scenes_options *o)
{
    CN_TRY(cn_options_check(ctx, cn_circles_option_rows, o));
    return cn_circle_write_dataset(ctx,
                                   &(cn_circle_dataset){.dir = o->output_dir,
                                                        .n = o->count,
                                                        .first_index = o->start,
                                                        .seed = o->seed,
                                                        .size_px = o->size_px ? o->size_px : 512,
                                                        .progress = o->progress,
                                                        .progress_user = o->user});
}
