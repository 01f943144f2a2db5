/* SPDX-License-Identifier: Apache-2.0 */
/* scene_pairs.c - scenes as training pairs, and the maps as condition pictures. */
#include "scene/pairs.h"
#include "scene/scene.h"

#include <math.h>
#include <string.h>

static const char *const condition_names[] = {"edges", "depth", "normal", "segmentation"};

const char *cn_scene_condition_name(int condition)
{
    return condition >= 0 && condition < CN_CONDITION_COUNT ? condition_names[condition] : NULL;
}

int cn_scene_condition_find(const char *name)
{
    for (int i = 0; i < CN_CONDITION_COUNT; i++)
        if (strcmp(name, condition_names[i]) == 0) return i;
    return -1;
}

/* --- maps as pictures ------------------------------------------------------------------------- */

/* Nearest = 255, and in proportion to 1 / depth from there to 0 for the sky. */
static void depth_picture(const float *depth, int64_t n, uint8_t *out)
{
    float nearest = INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (depth[i] < nearest) nearest = depth[i];
    for (int64_t i = 0; i < n; i++) {
        const float v = isinf(depth[i]) ? 0 : 255 * nearest / depth[i];
        memset(out + 3 * i, (int)(v + 0.5f), 3);
    }
}

static void normal_picture(const float *normal, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < 3 * n; i++) out[i] = (uint8_t)((normal[i] + 1) * 127.5f + 0.5f);
}

static void segment_picture(const cn_scene *scene, const uint8_t *segment, int64_t n, uint8_t *out)
{
    static const uint8_t sky[3] = {6, 230, 230}, ground[3] = {120, 120, 80};
    static const uint8_t shape[CN_SHAPE_COUNT][3] = {{204, 5, 255}, {255, 163, 0}, {0, 255, 20},
                                                     {255, 31, 0},  {0, 82, 255},  {255, 245, 0}};
    for (int64_t i = 0; i < n; i++) {
        const int s = segment[i];
        const uint8_t *c = s == 0 ? sky : s == 1 ? ground : shape[scene->objects[s - 2].shape];
        memcpy(out + 3 * i, c, 3);
    }
}

/* The map's own memory: [pixels] of `width` bytes in *map, entered in `maps`. */
static cn_status take_map(cn_ctx *ctx, cn_scene_condition condition, size_t pixels,
                          cn_scene_maps *maps, void **map)
{
    static const size_t width[] = {1, sizeof(float), 3 * sizeof(float), 1};
    if (!(*map = cn_alloc_array(ctx, pixels, width[condition]))) return CN_ENOMEM;
    switch (condition) {
    case CN_CONDITION_EDGES: maps->edges = *map; break;
    case CN_CONDITION_DEPTH: maps->depth = *map; break;
    case CN_CONDITION_NORMAL: maps->normal = *map; break;
    default: maps->segmentation = *map; break;
    }
    return CN_OK;
}

cn_status cn_scene_condition_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                                    cn_scene_condition condition, uint8_t *rgb,
                                    uint8_t *condition_rgb)
{
    if (!cn_scene_condition_name((int)condition))
        return cn_fail(ctx, CN_EINVAL, "scene: condition %d is out of range, 0 to %d are known",
                       (int)condition, CN_CONDITION_COUNT - 1);
    if (size_px < CN_SCENE_MIN_PX || size_px > CN_SCENE_MAX_PX)
        return cn_fail(ctx, CN_EINVAL, "scene: size %lld px, expected %d to %d", (long long)size_px,
                       CN_SCENE_MIN_PX, CN_SCENE_MAX_PX);
    const int64_t n = size_px * size_px;
    cn_scene_maps maps = {.rgb = rgb};
    void *map = NULL;
    if (condition_rgb) CN_TRY(take_map(ctx, condition, (size_t)n, &maps, &map));
    const cn_status s = cn_scene_render(ctx, scene, size_px, &maps);
    if (s == CN_OK && condition_rgb) switch (condition) {
        case CN_CONDITION_EDGES:
            for (int64_t i = 0; i < n; i++) memset(condition_rgb + 3 * i, maps.edges[i], 3);
            break;
        case CN_CONDITION_DEPTH: depth_picture(maps.depth, n, condition_rgb); break;
        case CN_CONDITION_NORMAL: normal_picture(maps.normal, n, condition_rgb); break;
        default: segment_picture(scene, maps.segmentation, n, condition_rgb); break;
        }
    cn_free(map);
    return s;
}

/* --- the folder ------------------------------------------------------------------------------- */

static const char *condition_label(const cn_scene_dataset *o)
{
    if (!o->compute) return cn_scene_condition_name((int)o->condition);
    return o->compute_name ? o->compute_name : "custom";
}

static cn_status draw_scene(const void *user, cn_ctx *ctx, int64_t index, cn_image *picture,
                            cn_image *condition)
{
    const cn_scene_dataset *o = user;
    cn_scene scene;
    cn_scene_generate(o->seed, (uint64_t)index, &scene);
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
    cn_scene_generate(o->seed, (uint64_t)index, &scene);
    snprintf(out, cap, "%s", scene.caption);
}

cn_status cn_scene_write_dataset(cn_ctx *ctx, const cn_scene_dataset *o)
{
    if (!condition_label(o))
        return cn_fail(ctx, CN_EINVAL, "scenes: condition %d is out of range, 0 to %d are known",
                       (int)o->condition, CN_CONDITION_COUNT - 1);
    return cn_pairs_write(ctx, &(cn_pairs){.what = "scenes",
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
