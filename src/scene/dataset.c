/* dataset.c - scenes as training folders in Fill50K's layout, and the maps as condition pictures.
 *
 * Every PNG is written atomically, so a file that exists is whole; what a folder was made with is kept in
 * scenes.txt, and a run with other settings is refused before it mixes two data sets.
 */
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

/* --- maps as pictures ------------------------------------------------------------------------ */

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

/* --- the folder ------------------------------------------------------------------------------ */

enum { PATH_BYTES = 4096 };

static const char *condition_label(const cn_scene_dataset *o)
{
    if (!o->compute) return cn_scene_condition_name((int)o->condition);
    return o->compute_name ? o->compute_name : "custom";
}

static cn_status check_options(cn_ctx *ctx, const cn_scene_dataset *o)
{
    if (!o->dir || !*o->dir) return cn_fail(ctx, CN_EINVAL, "scenes: no folder given");
    if (o->n < 1 || o->first_index < 0 || o->n > INT64_MAX - o->first_index)
        return cn_fail(ctx, CN_EINVAL,
                       "scenes: %lld pictures from index %lld, expected at least 1 from 0 on",
                       (long long)o->n, (long long)o->first_index);
    if (o->size_px < CN_SCENE_MIN_PX || o->size_px > CN_SCENE_MAX_PX)
        return cn_fail(ctx, CN_EINVAL, "scenes: size %lld px, expected %d to %d",
                       (long long)o->size_px, CN_SCENE_MIN_PX, CN_SCENE_MAX_PX);
    if (!condition_label(o))
        return cn_fail(ctx, CN_EINVAL, "scenes: condition %d is out of range, 0 to %d are known",
                       (int)o->condition, CN_CONDITION_COUNT - 1);
    return CN_OK;
}

/* Makes the folders; scenes.txt is written, or must say the same. */
static cn_status open_folder(cn_ctx *ctx, const cn_scene_dataset *o)
{
    char path[PATH_BYTES], want[512];
    for (int i = 0; i < 2; i++) {
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", o->dir, i ? "target" : "source"));
        CN_TRY(cn_dir_make(ctx, path));
    }
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/scenes.txt", o->dir));
    CN_TRY(cn_format(ctx, want, sizeof want, "scenes 1, seed %llu, %lld px, condition %s\n",
                     (unsigned long long)o->seed, (long long)o->size_px, condition_label(o)));
    if (!cn_file_exists(path)) return cn_file_write(ctx, path, want, strlen(want));
    char *have = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, sizeof want, &have, &n));
    const bool same = strcmp(have, want) == 0;
    have[strcspn(have, "\n")] = 0;
    want[strcspn(want, "\n")] = 0;
    cn_status s = CN_OK;
    if (!same)
        s = cn_fail(ctx, CN_EMISMATCH,
                    "%s: the folder holds \"%s\", not \"%s\"; take another folder", path, have,
                    want);
    cn_free(have);
    return s;
}

static cn_status write_pictures(cn_ctx *ctx, const cn_scene_dataset *o, const cn_scene *scene,
                                const char *source_path, const char *target_path)
{
    cn_image *picture = NULL, *condition = NULL;
    cn_status s;
    if ((s = cn_image_create(ctx, o->size_px, o->size_px, &picture)) != CN_OK) goto fail;
    if ((s = cn_image_create(ctx, o->size_px, o->size_px, &condition)) != CN_OK) goto fail;
    if (o->compute) {
        const cn_scene_maps maps = {.rgb = picture->rgb};
        if ((s = cn_scene_render(ctx, scene, o->size_px, &maps)) != CN_OK) goto fail;
        s = o->compute(o->compute_user, ctx, picture, condition);
    } else {
        s = cn_scene_condition_render(ctx, scene, o->size_px, o->condition, picture->rgb,
                                      condition->rgb);
    }
    if (s != CN_OK) goto fail;
    if ((s = cn_image_save_png(ctx, source_path, condition, NULL)) != CN_OK) goto fail;
    s = cn_image_save_png(ctx, target_path, picture, NULL);
fail:
    cn_image_destroy(picture);
    cn_image_destroy(condition);
    return s;
}

static cn_status write_one(cn_ctx *ctx, const cn_scene_dataset *o, int64_t index)
{
    char source[PATH_BYTES], target[PATH_BYTES];
    if (cn_cancelled(ctx))
        return cn_fail(ctx, CN_ECANCELLED, "scenes: stopped, the same call goes on");
    CN_TRY(cn_format(ctx, source, sizeof source, "%s/source/%lld.png", o->dir, (long long)index));
    CN_TRY(cn_format(ctx, target, sizeof target, "%s/target/%lld.png", o->dir, (long long)index));
    if (cn_file_exists(source) && cn_file_exists(target)) return CN_OK;
    cn_scene scene;
    cn_scene_generate(o->seed, (uint64_t)index, &scene);
    return write_pictures(ctx, o, &scene, source, target);
}

/* Captions are plain letters, commas and blanks: nothing in them needs JSON's escapes. */
static cn_status write_prompts(cn_ctx *ctx, const cn_scene_dataset *o)
{
    cn_file_writer w;
    char path[PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/prompt.json", o->dir));
    CN_TRY(cn_writer_open(ctx, path, &w));
    for (int64_t i = o->first_index; i < o->first_index + o->n; i++) {
        cn_scene scene;
        cn_scene_generate(o->seed, (uint64_t)i, &scene);
        const int r = fprintf(w.f,
                              "{\"source\": \"source/%lld.png\", \"target\": \"target/%lld.png\", "
                              "\"prompt\": \"%s\"}\n",
                              (long long)i, (long long)i, scene.caption);
        if (r < 0) {
            cn_writer_abort(&w);
            return cn_fail(ctx, CN_EIO, "%s: writing failed, is the disk full?", path);
        }
    }
    return cn_writer_commit(ctx, &w);
}

cn_status cn_scene_write_dataset(cn_ctx *ctx, const cn_scene_dataset *o)
{
    CN_TRY(check_options(ctx, o));
    CN_TRY(open_folder(ctx, o));
    cn_status first = CN_OK;
    int64_t done = 0;
#pragma omp parallel for schedule(dynamic, 4) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < o->n; i++) {
        cn_status s;
#pragma omp atomic read
        s = first;
        if (s != CN_OK) continue;
        s = write_one(ctx, o, o->first_index + i);
#pragma omp critical(cn_scene_dataset_progress)
        {
            done++;
            if (s == CN_OK && o->progress) o->progress(o->progress_user, done, o->n);
            if (s != CN_OK && first == CN_OK) {
#pragma omp atomic write
                first = s;
            }
        }
    }
    return first != CN_OK ? first : write_prompts(ctx, o);
}
