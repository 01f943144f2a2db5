/* SPDX-License-Identifier: Apache-2.0 */
/* scene_conditions.c - a scene's exact maps as condition pictures, one row of a table each. */
#include "scene/canvas.h"

#include "annotate/labels.h"
#include "annotate/synthesis.h"

static void fill_grey(uint8_t *rgb, uint8_t v)
{
    rgb[0] = rgb[1] = rgb[2] = v;
}

static cn_status edges_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    (void)ctx;
    uint8_t *rgb = out->rgb;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++, rgb += 3)
            fill_grey(rgb, cn_canvas_edge(c, x, y, x + 1, y) || cn_canvas_edge(c, x, y, x, y + 1)
                               ? 255
                               : 0);
    return CN_OK;
}

/* Nearest = 255, and in proportion to 1 / depth from there to 0 for the sky. */
static cn_status depth_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    (void)ctx;
    float nearest = INFINITY;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++)
            nearest = least(nearest, c->samples[cn_canvas_index(c, x, y)].t);
    uint8_t *rgb = out->rgb;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++, rgb += 3) {
            const float t = c->samples[cn_canvas_index(c, x, y)].t;
            fill_grey(rgb, (uint8_t)((t < INFINITY ? 255 * nearest / t : 0) + 0.5f));
        }
    return CN_OK;
}

static cn_status normal_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    (void)ctx;
    const cn_camera *camera = &c->stage->camera;
    uint8_t *rgb = out->rgb;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++, rgb += 3) {
            const vec3 n = c->samples[cn_canvas_index(c, x, y)].normal;
            rgb[0] = (uint8_t)((vdot(n, camera->right) + 1) * 127.5f + 0.5f);
            rgb[1] = (uint8_t)((vdot(n, camera->up) + 1) * 127.5f + 0.5f);
            rgb[2] = (uint8_t)((-vdot(n, camera->forward) + 1) * 127.5f + 0.5f);
        }
    return CN_OK;
}

/* ADE20K has no solids; each takes a class that looks like it. */
void cn_scene_class_rgb(int class, uint8_t rgb[3])
{
    enum { SKY = 2, EARTH = 13 };
    enum { TREE = 4, PERSON = 12, TABLE = 15, HOUSE = 25, BOX = 41, STAIRS = 53, BRIDGE = 61 };
    enum { TOWER = 84, PLAYTHING = 108, BARREL = 111, TENT = 114, BALL = 119, SCULPTURE = 132 };
    static const uint8_t class_of[CN_SHAPE_COUNT] = {
        [CN_SHAPE_SPHERE] = BALL,          [CN_SHAPE_CUBE] = BOX,
        [CN_SHAPE_CYLINDER] = BARREL,      [CN_SHAPE_CONE] = TOWER,
        [CN_SHAPE_RING] = PLAYTHING,       [CN_SHAPE_PYRAMID] = TENT,
        [CN_SHAPE_TORUS_KNOT] = SCULPTURE, [CN_SHAPE_ARCH] = BRIDGE,
        [CN_SHAPE_STAIRS] = STAIRS,        [CN_SHAPE_TREE] = TREE,
        [CN_SHAPE_HOUSE] = HOUSE,          [CN_SHAPE_TABLE] = TABLE,
        [CN_SHAPE_PERSON] = PERSON,
    };
    const int row = class == CN_CLASS_SKY      ? SKY
                    : class == CN_CLASS_GROUND ? EARTH
                                               : class_of[class - CN_CLASS_SHAPES];
    memcpy(rgb, cn_ade20k_palette[row], 3);
}

int cn_scene_class(const cn_scene *scene, int segment)
{
    return segment < 2 ? segment : CN_CLASS_SHAPES + scene->objects[segment - 2].shape;
}

static cn_status segmentation_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    (void)ctx;
    uint8_t *rgb = out->rgb;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++, rgb += 3)
            cn_scene_class_rgb(cn_scene_class(c->scene, c->samples[cn_canvas_index(c, x, y)].id),
                               rgb);
    return CN_OK;
}

static cn_status lines_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    (void)ctx;
    cn_straight_picture(c, out);
    return CN_OK;
}

static cn_status softedge_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    return cn_outlines_picture(ctx, c, false, out);
}

static cn_status cartoon_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    return cn_outlines_picture(ctx, c, true, out);
}

/* White where a third of a pixel's block is. */
static void shrink_scribble(const uint8_t *in, int64_t fine, cn_image *out)
{
    const int64_t stride = out->width * fine;
    for (int64_t y = 0; y < out->height; y++)
        for (int64_t x = 0; x < out->width; x++) {
            const uint8_t *block = in + y * fine * stride + x * fine;
            int64_t white = 0;
            for (int64_t j = 0; j < fine; j++)
                for (int64_t i = 0; i < fine; i++) white += block[j * stride + i] != 0;
            fill_grey(out->rgb + 3 * (y * out->width + x), 3 * white >= fine * fine ? 255 : 0);
        }
}

/* The synthesis' ranges of widths are for pictures of some 512 pixels: that is where it works. */
static cn_status scribble_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    static const cn_synthesis_rules rules = {40, 160, 0.5, 0.35, 3};
    uint64_t seed = 0;
    for (int i = 0; i < c->scene->n_objects; i++)
        seed = seed * 0x9e3779b97f4a7c15u + c->scene->objects[i].variant;
    const int size = c->stage->size;
    uint8_t *edges = cn_alloc_array(ctx, (size_t)size, (size_t)size);
    uint8_t *made = cn_alloc_array(ctx, (size_t)size, (size_t)size);
    cn_status s = edges && made ? cn_outlines_map(ctx, c, false, size, edges) : CN_ENOMEM;
    if (s == CN_OK) s = cn_scribble_map(ctx, edges, size, size, &rules, seed, made);
    if (s == CN_OK) shrink_scribble(made, size / out->width, out);
    cn_free(edges);
    cn_free(made);
    return s;
}

enum { FINE = 1 };
static const struct {
    const char *name;
    cn_status (*draw)(cn_ctx *ctx, const cn_canvas *c, cn_image *out);
    int finer_to; /* on a canvas that is finer till it has so many pixels across, at least twice */
    int wanted;   /* of the canvas */
} conditions[CN_CONDITION_COUNT] = {
    [CN_CONDITION_EDGES] = {"edges", edges_picture, 0, 0},
    [CN_CONDITION_DEPTH] = {"depth", depth_picture, 0, 0},
    [CN_CONDITION_NORMAL] = {"normal", normal_picture, 0, 0},
    [CN_CONDITION_SEGMENTATION] = {"segmentation", segmentation_picture, 0, 0},
    [CN_CONDITION_LINES] = {"lines", lines_picture, 0, 0},
    [CN_CONDITION_SOFTEDGE] = {"softedge", softedge_picture, FINE, CN_CANVAS_LINES},
    [CN_CONDITION_SCRIBBLE] = {"scribble", scribble_picture, 384, CN_CANVAS_LINES},
    [CN_CONDITION_POSE] = {"pose", cn_key_points_picture, 0, 0},
    [CN_CONDITION_CARTOON] = {"cartoon", cartoon_picture, FINE, CN_CANVAS_LINES},
    [CN_CONDITION_TOON] = {"toon", cn_toon_picture, FINE, CN_CANVAS_LIGHT | CN_CANVAS_LINES},
};

const char *cn_scene_condition_name(int condition)
{
    return condition >= 0 && condition < CN_CONDITION_COUNT ? conditions[condition].name : NULL;
}

int cn_scene_condition_find(const char *name)
{
    for (int i = 0; i < CN_CONDITION_COUNT; i++)
        if (strcmp(name, conditions[i].name) == 0) return i;
    return -1;
}

void cn_scene_condition_list(cn_str *out)
{
    for (int i = 0; i < CN_CONDITION_COUNT; i++)
        cn_str_addf(out, "%s%s", i ? ", " : "", conditions[i].name);
}

/* Large pictures have rims that are fine enough. */
static int fineness(int size, int finer_to)
{
    if (finer_to == 0 || size > CN_SCENE_MAX_PX / 4) return 1;
    return CN_MAX(2, (finer_to + size - 1) / size);
}

static bool same_canvas(int a, int b)
{
    return conditions[a].finer_to == conditions[b].finer_to &&
           conditions[a].wanted == conditions[b].wanted;
}

/* Those of the n conditions that look at the same canvas as number `first`, traced once. */
static cn_status draw_alike(cn_ctx *ctx, const cn_scene *scene, int size, int n, const int *which,
                            int first, uint8_t *const *rgb)
{
    cn_canvas c;
    cn_image *out = NULL;
    const int kind = which[first], fine = fineness(size, conditions[kind].finer_to);
    cn_status s = cn_canvas_create(ctx, size * fine, conditions[kind].wanted, &c);
    if (s == CN_OK) s = cn_image_create(ctx, size, size, &out);
    if (s == CN_OK) cn_canvas_trace(&c, scene, size * fine);
    for (int i = first; s == CN_OK && i < n; i++) {
        if (!same_canvas(which[i], kind)) continue;
        s = conditions[which[i]].draw(ctx, &c, out);
        if (s == CN_OK) memcpy(rgb[i], out->rgb, (size_t)size * (size_t)size * 3);
    }
    cn_image_destroy(out);
    cn_canvas_destroy(&c);
    return s;
}

cn_status cn_scene_conditions_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px, int n,
                                     const int *which, uint8_t *const *rgb)
{
    for (int i = 0; i < n; i++)
        if (!cn_scene_condition_name(which[i]))
            return cn_fail(ctx, CN_EINVAL, "scene: condition %d is out of range, 0 to %d are known",
                           which[i], CN_CONDITION_COUNT - 1);
    CN_TRY(cn_scene_check(ctx, scene, size_px));
    for (int i = 0; i < n; i++) {
        bool drawn = false;
        for (int k = 0; k < i; k++) drawn |= same_canvas(which[k], which[i]);
        if (!drawn) CN_TRY(draw_alike(ctx, scene, (int)size_px, n, which, i, rgb));
    }
    return CN_OK;
}

cn_status cn_scene_condition_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                                    cn_scene_condition condition, uint8_t *rgb,
                                    uint8_t *condition_rgb)
{
    const int which = (int)condition;
    const cn_scene_maps maps = {.rgb = rgb};
    if (condition_rgb)
        CN_TRY(cn_scene_conditions_render(ctx, scene, size_px, 1, &which, &condition_rgb));
    return rgb ? cn_scene_render(ctx, scene, size_px, &maps) : CN_OK;
}
