/* SPDX-License-Identifier: Apache-2.0 */
/* source_drawn.c - scenes and circles as sources: "scenes:N?seed=S&size=128&start=0&with=SHAPE",
 * "circles:N?seed=S&size=512&start=0". Entry i is (seed, start + i) alone. */
#include "pipeline/sources_internal.h"

#include "scene/circles.h"
#include "scene/scene.h"

#include <string.h>

enum { VALUE_BYTES = 256 };

/* --- options behind the '?' ------------------------------------------------------------------- */

static const char *const settings[] = {"seed", "size", "start", "with", "simple", NULL};

static const cn_option *find_row(const char *name, bool circles)
{
    const cn_option *const tables[] = {cn_circles_option_rows, cn_scenes_option_rows};
    bool known = false;
    for (const char *const *s = settings; *s; s++) known |= strcmp(*s, name) == 0;
    for (int t = 0; known && t < (circles ? 1 : 2); t++)
        for (const cn_option *row = tables[t]; row->name || row->help; row++)
            if (row->name && strcmp(row->name, name) == 0) return row;
    return NULL;
}

/* "seed=3"; "simple" has no value. values: where texts stay. */
static cn_status read_setting(cn_ctx *ctx, const char *source, char *setting, bool circles,
                              cn_scenes_options *o)
{
    char *value = strchr(setting, '=');
    if (value) *value++ = 0;
    const cn_option *row = find_row(setting, circles);
    if (!row || (row->type == CN_FIELD_ON) != !value)
        return cn_fail(ctx, CN_EINVAL, "%s: \"%s\" isn't known here; %s are", source, setting,
                       circles ? "seed=S, size=PX and start=INDEX"
                               : "seed=S, size=PX, start=INDEX, with=SHAPE and simple");
    const cn_status s = cn_option_set(ctx, row, value, o);
    return s == CN_OK ? s : cn_fail_prefix(ctx, s, "%s", source);
}

/* values: a copy of what stands behind '?', cut in pieces that `o` points to. */
static cn_status read_options(cn_ctx *ctx, const char *source, bool circles,
                              char values[VALUE_BYTES], cn_scenes_options *o)
{
    const char *count = strchr(source, ':') + 1, *query = strchr(count, '?');
    char number[32];
    cn_options_preset(cn_circles_option_rows, o);
    CN_TRY(cn_format(ctx, number, sizeof number, "%.*s", (int)strcspn(count, "?"), count));
    const cn_status s = cn_option_set(ctx, &cn_circles_option_rows[1], number, o);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", source);
    CN_TRY(cn_format(ctx, values, VALUE_BYTES, "%s", query ? query + 1 : ""));
    for (char *at = values, *end = NULL; *at; at = end) {
        end = at + strcspn(at, "&");
        if (*end) *end++ = 0;
        CN_TRY(read_setting(ctx, source, at, circles, o));
    }
    return CN_OK;
}

static cn_status start_entry(cn_ctx *ctx, const cn_source *s, int64_t index, int64_t size_px,
                             const char *caption, cn_entry *out)
{
    char name[32], where[CN_PATH_BYTES];
    snprintf(name, sizeof name, "%lld", (long long)index);
    CN_TRY(cn_format(ctx, where, sizeof where, "%s: picture %s", s->text, name));
    out->name = cn_strdup(ctx, name);
    out->where = cn_strdup(ctx, where);
    out->caption = cn_strdup(ctx, caption);
    out->captioned = true;
    out->stem = strlen(name);
    if (!out->name || !out->where || !out->caption) return CN_ENOMEM;
    return cn_image_create(ctx, size_px, size_px, &out->image);
}

static void close_drawn(cn_source *s)
{
    cn_free(s->own);
    s->own = NULL;
}

/* --- scenes ----------------------------------------------------------------------------------- */

static bool is_scenes(const char *text)
{
    return strncmp(text, "scenes:", strlen("scenes:")) == 0;
}

static cn_status open_scenes(cn_ctx *ctx, const cn_prepare_options *o, cn_source *s)
{
    (void)o;
    char values[VALUE_BYTES];
    cn_scenes_options drawn = {0};
    CN_TRY(read_options(ctx, s->text, false, values, &drawn));
    cn_scene_dataset *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    s->own = d;
    s->n = drawn.count;
    *d = (cn_scene_dataset){.first_index = drawn.start,
                            .seed = drawn.seed,
                            .size_px = drawn.size_px ? drawn.size_px : 128,
                            .simple = drawn.simple,
                            .with = drawn.with ? cn_scene_shape_find(drawn.with) : CN_SCENE_ANY};
    if (drawn.with && d->with < 0)
        return cn_fail(ctx, CN_EINVAL, "%s: no shape is called \"%s\"", s->text, drawn.with);
    if (drawn.with && drawn.simple)
        return cn_fail(ctx, CN_EINVAL, "%s: simple scenes are of every solid, not all with a %s",
                       s->text, drawn.with);
    return CN_OK;
}

static cn_status get_scene(cn_ctx *ctx, const cn_source *s, int64_t i, cn_entry *out)
{
    const cn_scene_dataset *d = s->own;
    cn_scene scene;
    cn_scene_dataset_scene(d, d->first_index + i, &scene);
    CN_TRY(start_entry(ctx, s, d->first_index + i, d->size_px, scene.caption, out));
    return cn_scene_render(ctx, &scene, d->size_px, &(cn_scene_maps){.rgb = out->image->rgb});
}

static cn_status exact_maps(cn_ctx *ctx, const cn_source *s, int64_t i, int n, const int *which,
                            cn_image *const *out)
{
    const cn_scene_dataset *d = s->own;
    uint8_t *rgb[CN_CONDITION_COUNT];
    cn_scene scene;
    if (n > CN_CONDITION_COUNT) return cn_fail(ctx, CN_EINVAL, "a map is asked for twice");
    for (int k = 0; k < n; k++) rgb[k] = out[k]->rgb;
    cn_scene_dataset_scene(d, d->first_index + i, &scene);
    return cn_scene_conditions_render(ctx, &scene, d->size_px, n, which, rgb);
}

const cn_source_kind cn_source_scenes = {.name = "scenes",
                                         .detect = is_scenes,
                                         .open = open_scenes,
                                         .get = get_scene,
                                         .close = close_drawn,
                                         .find_exact = cn_scene_condition_find,
                                         .exact = exact_maps};

/* --- circles ---------------------------------------------------------------------------------- */

static bool is_circles(const char *text)
{
    return strncmp(text, "circles:", strlen("circles:")) == 0;
}

static cn_status open_circles(cn_ctx *ctx, const cn_prepare_options *o, cn_source *s)
{
    (void)o;
    char values[VALUE_BYTES];
    cn_scenes_options drawn = {0};
    CN_TRY(read_options(ctx, s->text, true, values, &drawn));
    cn_circle_dataset *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    s->own = d;
    s->n = drawn.count;
    *d = (cn_circle_dataset){.first_index = drawn.start,
                             .seed = drawn.seed,
                             .size_px = drawn.size_px ? drawn.size_px : 512};
    return CN_OK;
}

static cn_status get_circle(cn_ctx *ctx, const cn_source *s, int64_t i, cn_entry *out)
{
    const cn_circle_dataset *d = s->own;
    cn_circle circle;
    cn_image *outline = NULL;
    cn_circle_generate(d->seed, (uint64_t)(d->first_index + i), &circle);
    CN_TRY(start_entry(ctx, s, d->first_index + i, d->size_px, circle.caption, out));
    CN_TRY(cn_image_create(ctx, d->size_px, d->size_px, &outline));
    cn_circle_render(&circle, d->size_px, out->image->rgb, outline->rgb);
    cn_image_destroy(outline);
    return CN_OK;
}

const cn_source_kind cn_source_circles = {.name = "circles",
                                          .detect = is_circles,
                                          .open = open_circles,
                                          .get = get_circle,
                                          .close = close_drawn};
