/* pipeline_dataset.c - controlnet.h's calls that make training pairs. */
#include "annotate/annotate.h"
#include "scene/circles.h"
#include "scene/scene.h"

#include <string.h>

/* --- scenes -------------------------------------------------------------------------------------- */

/* Every option spelled out, so that whoever reads scenes.txt can make the same condition. */
static cn_status describe(cn_ctx *ctx, const cn_annotate_args *args, char *out, size_t cap)
{
    cn_str text = {0};
    cn_annotate_describe(args, &text);
    cn_status s = text.failed ? cn_fail(ctx, CN_ENOMEM, "out of memory for a condition's name")
                              : cn_format(ctx, out, cap, "%s", text.data);
    cn_str_free(&text);
    return s;
}

static cn_status annotate_scene(void *user, cn_ctx *ctx, const cn_image *picture,
                                cn_image *condition)
{
    cn_image *out = NULL;
    CN_TRY(cn_annotate(ctx, user, picture, &out));
    const bool fits = out->width == condition->width && out->height == condition->height;
    if (fits) memcpy(condition->rgb, out->rgb, (size_t)(out->width * out->height * 3));
    cn_image_destroy(out);
    return fits ? CN_OK
                : cn_fail(ctx, CN_EINVAL,
                          "this annotator changes the picture's size; one that "
                          "keeps it is expected");
}

cn_status cn_dataset_scenes(cn_ctx *ctx, const cn_scenes_options *o)
{
    char name[256];
    cn_annotate_args args = {0};
    cn_scene_dataset d = {.dir = o->output_dir,
                          .n = o->count,
                          .first_index = o->start,
                          .seed = o->seed,
                          .size_px = o->size_px,
                          .progress = o->progress,
                          .progress_user = o->user};
    const char *condition = o->condition ? o->condition : "canny";
    const int exact = cn_scene_condition_find(condition);
    if (exact >= 0) {
        d.condition = (cn_scene_condition)exact;
    } else {
        cn_status s = cn_annotate_read(ctx, condition, &args);
        if (s != CN_OK)
            return cn_fail_prefix(ctx, s,
                                  "condition \"%s\" is none of edges, depth, normal, segmentation",
                                  condition);
        CN_TRY(describe(ctx, &args, name, sizeof name));
        d.compute = annotate_scene;
        d.compute_name = name;
        d.compute_user = &args;
    }
    return cn_scene_write_dataset(ctx, &d);
}

cn_status cn_dataset_circles(cn_ctx *ctx, const cn_scenes_options *o)
{
    return cn_circle_write_dataset(ctx, &(cn_circle_dataset){.dir = o->output_dir,
                                                             .n = o->count,
                                                             .first_index = o->start,
                                                             .seed = o->seed,
                                                             .size_px = o->size_px,
                                                             .progress = o->progress,
                                                             .progress_user = o->user});
}
