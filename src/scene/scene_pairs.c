/* SPDX-License-Identifier: Apache-2.0 */
/* scene_pairs.c - scenes as training pairs. */
#include "scene/pairs.h"
#include "scene/scene.h"

static const char *condition_label(const cn_scene_dataset *o)
{
    if (!o->compute) return cn_scene_condition_name((int)o->condition);
    return o->compute_name ? o->compute_name : "custom";
}

void cn_scene_dataset_scene(const cn_scene_dataset *o, int64_t index, cn_scene *out)
{
    if (o->simple)
        cn_scene_generate_simple(o->seed, (uint64_t)index * CN_SCENE_SIMPLE_TRIES, out);
    else
        cn_scene_generate_with(o->seed, (uint64_t)index, o->with, out);
}

static cn_status draw_scene(const void *user, cn_ctx *ctx, int64_t index, cn_image *picture,
                            cn_image *condition)
{
    const cn_scene_dataset *o = user;
    cn_scene scene;
    cn_scene_dataset_scene(o, index, &scene);
    if (!o->compute)
        return cn_scene_condition_render(ctx, &scene, o->size_px, o->condition, picture->rgb,
                                         condition->rgb);
    const cn_scene_maps maps = {.rgb = picture->rgb};
    CN_TRY(cn_scene_render(ctx, &scene, o->size_px, &maps));
    return o->compute(o->compute_user, ctx, index, picture, condition);
}

static void tell_scene(const void *user, int64_t index, char *out, size_t cap)
{
    const cn_scene_dataset *o = user;
    cn_scene scene;
    cn_scene_dataset_scene(o, index, &scene);
    snprintf(out, cap, "%s", scene.caption);
}

cn_status cn_scene_write_dataset(cn_ctx *ctx, const cn_scene_dataset *o)
{
    if (!condition_label(o))
        return cn_fail(ctx, CN_EINVAL, "scenes: condition %d is out of range, 0 to %d are known",
                       (int)o->condition, CN_CONDITION_COUNT - 1);
    const char *shape = cn_scene_shape_name(o->with);
    char what[32];
    snprintf(what, sizeof what, "%sscenes%s%s", o->simple ? "simple " : "", shape ? " with " : "",
             shape ? shape : "");
    return cn_pairs_write(ctx, &(cn_pairs){.what = what,
                                           .version = 2,
                                           .dir = o->dir,
                                           .n = o->n,
                                           .first_index = o->first_index,
                                           .seed = o->seed,
                                           .size_px = o->size_px,
                                           .condition = condition_label(o),
                                           .alone = o->alone,
                                           .draw = draw_scene,
                                           .caption = tell_scene,
                                           .user = o,
                                           .progress = o->progress,
                                           .progress_user = o->progress_user});
}
