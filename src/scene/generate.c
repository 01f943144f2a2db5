/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - draws a scene's description and tells it in plain English.
 *
 * Everything follows from (seed, index) through one 64-bit counter generator, so any scene can be
 * made without those before it. Objects of a scene have different colours, so that a caption binds
 * each colour to one shape; they are kept inside the picture and nearly clear of each other.
 */
#include "scene/solids.h"

#include <string.h>

static const char *const shape_names[] = {"sphere", "cube", "cylinder", "cone", "ring", "pyramid"};
static const char *const colour_names[] = {"red",  "orange", "yellow", "green", "cyan",
                                           "blue", "purple", "pink",   "white", "black"};
static const char *const material_names[] = {"matte", "shiny", "metallic"};
static const char *const ground_names[] = {"green",  "brown", "grey", "white",
                                           "yellow", "blue",  "pink"};
static const char *const sky_names[] = {"blue", "sunset", "night", "grey"};

static const uint8_t colour_rgb[CN_COLOUR_COUNT][3] = {
    {222, 28, 32}, {250, 122, 10}, {252, 218, 30},  {36, 168, 54},   {20, 205, 215},
    {30, 76, 222}, {128, 42, 190}, {250, 112, 186}, {243, 243, 243}, {26, 26, 28},
};

static const char *name_of(const char *const *names, int count, int i)
{
    return i >= 0 && i < count ? names[i] : NULL;
}

const char *cn_scene_shape_name(int i)
{
    return name_of(shape_names, CN_SHAPE_COUNT, i);
}
const char *cn_scene_colour_name(int i)
{
    return name_of(colour_names, CN_COLOUR_COUNT, i);
}
const char *cn_scene_material_name(int i)
{
    return name_of(material_names, CN_MATERIAL_COUNT, i);
}
const char *cn_scene_ground_name(int i)
{
    return name_of(ground_names, CN_GROUND_COUNT, i);
}
const char *cn_scene_sky_name(int i)
{
    return name_of(sky_names, CN_SKY_COUNT, i);
}

void cn_scene_colour_rgb(int colour, uint8_t rgb[3])
{
    memcpy(rgb, colour_rgb[colour >= 0 && colour < CN_COLOUR_COUNT ? colour : 0], 3);
}

bool cn_scene_allowed(int colour, int ground, int sky)
{
    if (colour == CN_COLOUR_BLACK && sky == CN_SKY_NIGHT) return false;
    return strcmp(colour_names[colour], ground_names[ground]) != 0;
}

/* --- the generator: splitmix64 ---------------------------------------------------------------- */

typedef struct draw {
    uint64_t state;
} draw;

static uint64_t draw_u64(draw *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static draw draw_start(uint64_t seed, uint64_t index)
{
    draw r = {seed};
    r.state = draw_u64(&r) ^ (index * 0xd1342543de82ef95u);
    r.state = draw_u64(&r);
    return r;
}

static int draw_below(draw *r, int n)
{
    return (int)((draw_u64(r) >> 32) * (uint64_t)n >> 32);
}

static float draw_range(draw *r, float lo, float hi)
{
    return lo + (hi - lo) * ((float)(draw_u64(r) >> 40) * 0x1p-24f);
}

/* --- geometry --------------------------------------------------------------------------------- */

static void draw_camera(draw *r, cn_scene *s)
{
    s->tan_half_fov = draw_range(r, 0.36f, 0.46f);
    s->camera_height = draw_range(r, 1.9f, 3.1f);
    /* Where the horizon lies, from the top of the picture. */
    const float horizon = draw_range(r, 0.20f, 0.38f);
    s->camera_pitch = atanf(s->tan_half_fov * (1 - 2 * horizon));
    const float side = draw_below(r, 2) ? 1.0f : -1.0f;
    s->light_azimuth = side * draw_range(r, 0.45f, 1.15f);
    s->light_elevation = draw_range(r, 0.75f, 1.05f);
}

static void draw_object(draw *r, cn_scene *s, cn_scene_object *o, float shrink)
{
    /* Share of the picture's width, by how many stand in it. */
    static const float lo[] = {0, 0.34f, 0.28f, 0.24f}, hi[] = {0, 0.60f, 0.42f, 0.32f};
    static const float reach[] = {0, 0.35f, 0.72f, 0.78f};
    o->z = draw_range(r, 4.2f, s->n_objects == 1 ? 6.0f : 7.5f);
    const float share = shrink * draw_range(r, lo[s->n_objects], hi[s->n_objects]);
    const float view = s->tan_half_fov * o->z;
    o->size = share * view;
    o->x = view * draw_range(r, -reach[s->n_objects], reach[s->n_objects]);
    o->aspect = draw_range(r, 0.85f, 1.15f);
    /* A ring seen from its edge is no ring; other solids turn freely. */
    o->yaw =
        o->shape == CN_SHAPE_RING ? draw_range(r, -0.75f, 0.75f) : draw_range(r, -1.57f, 1.57f);
}

static bool boxes_clear(const float a[4], const float b[4])
{
    const float w = least(a[2], b[2]) - most(a[0], b[0]);
    const float narrow = least(a[2] - a[0], b[2] - b[0]);
    return w < 0.12f * narrow;
}

/* Inside the picture, wholly, and clear of the objects before it. */
static bool fits(const cn_scene *s, int i, float boxes[][4])
{
    cn_camera camera;
    cn_solid solid, other;
    cn_camera_init(s, &camera);
    cn_solid_init(&s->objects[i], &solid);
    float *b = boxes[i];
    if (!cn_solid_bounds(&solid, &camera, b)) return false;
    if (b[0] < -0.93f || b[2] > 0.93f || b[1] < -0.93f || b[3] > 0.93f) return false;
    for (int k = 0; k < i; k++) {
        cn_solid_init(&s->objects[k], &other);
        const float dx = solid.centre.x - other.centre.x, dz = solid.centre.z - other.centre.z;
        const float apart = hypotf(solid.half.x, solid.half.z) + hypotf(other.half.x, other.half.z);
        if (dx * dx + dz * dz < apart * apart || !boxes_clear(b, boxes[k])) return false;
    }
    return true;
}

static float screen_x(const cn_scene_object *o)
{
    return o->x / o->z;
}

/* Tries camera and places anew until all fit, a little smaller each time; small enough always
 * fits. */
static void draw_layout(draw *r, cn_scene *s)
{
    float boxes[CN_SCENE_MAX_OBJECTS][4];
    for (float shrink = 1;; shrink *= 0.985f) {
        draw_camera(r, s);
        int placed = 0;
        for (int tries = 0; placed < s->n_objects && tries < 24; tries++) {
            draw_object(r, s, &s->objects[placed], shrink);
            if (fits(s, placed, boxes)) placed++;
        }
        if (placed == s->n_objects) break;
    }
    for (int i = 1; i < s->n_objects; i++)
        for (int k = i; k > 0 && screen_x(&s->objects[k]) < screen_x(&s->objects[k - 1]); k--) {
            const cn_scene_object swap = s->objects[k];
            s->objects[k] = s->objects[k - 1];
            s->objects[k - 1] = swap;
        }
}

static bool colour_taken(const cn_scene *s, int i)
{
    for (int k = 0; k < i; k++)
        if (s->objects[k].colour == s->objects[i].colour) return true;
    return !cn_scene_allowed(s->objects[i].colour, s->ground, s->sky);
}

static int draw_material(draw *r, int colour)
{
    static const int table[] = {CN_MATERIAL_MATTE,    CN_MATERIAL_MATTE,   CN_MATERIAL_MATTE,
                                CN_MATERIAL_SHINY,    CN_MATERIAL_SHINY,   CN_MATERIAL_SHINY,
                                CN_MATERIAL_METALLIC, CN_MATERIAL_METALLIC};
    const int m = table[draw_below(r, (int)CN_COUNT(table))];
    /* White and black metal would be silver and gunmetal, other names altogether. */
    const bool plain = colour == CN_COLOUR_WHITE || colour == CN_COLOUR_BLACK;
    return plain && m == CN_MATERIAL_METALLIC ? CN_MATERIAL_SHINY : m;
}

static void generate(draw *r, int n_objects, cn_scene *s)
{
    s->n_objects = n_objects;
    s->ground = draw_below(r, CN_GROUND_COUNT);
    s->sky = draw_below(r, CN_SKY_COUNT);
    for (int i = 0; i < n_objects; i++) {
        cn_scene_object *o = &s->objects[i];
        o->shape = draw_below(r, CN_SHAPE_COUNT);
        do o->colour = draw_below(r, CN_COLOUR_COUNT);
        while (colour_taken(s, i));
        o->material = draw_material(r, o->colour);
    }
    const int form = draw_below(r, cn_scene_caption_count());
    draw_layout(r, s);
    cn_scene_caption(s, form, s->caption, sizeof s->caption);
}

void cn_scene_generate(uint64_t seed, uint64_t index, cn_scene *out)
{
    draw r = draw_start(seed, index);
    const int d = draw_below(&r, 100);
    memset(out, 0, sizeof *out);
    generate(&r, d < 55 ? 1 : d < 85 ? 2 : 3, out);
}

void cn_scene_generate_n(uint64_t seed, uint64_t index, int n_objects, cn_scene *out)
{
    draw r = draw_start(seed, index);
    memset(out, 0, sizeof *out);
    generate(&r, CN_MAX(1, CN_MIN(n_objects, CN_SCENE_MAX_OBJECTS)), out);
}

cn_status cn_scene_prompt(cn_ctx *ctx, int shape, int colour, int material, int ground, int sky,
                          uint64_t seed, cn_scene *out)
{
    const struct {
        const char *what;
        int value, count;
    } choice[] = {{"shape", shape, CN_SHAPE_COUNT},
                  {"colour", colour, CN_COLOUR_COUNT},
                  {"material", material, CN_MATERIAL_COUNT},
                  {"ground", ground, CN_GROUND_COUNT},
                  {"sky", sky, CN_SKY_COUNT}};
    for (size_t i = 0; i < CN_COUNT(choice); i++)
        if (choice[i].value < 0 || choice[i].value >= choice[i].count)
            return cn_fail(ctx, CN_EINVAL, "scene: %s %d is out of range, 0 to %d are known",
                           choice[i].what, choice[i].value, choice[i].count - 1);
    draw r = draw_start(seed, 0);
    memset(out, 0, sizeof *out);
    out->n_objects = 1;
    out->ground = ground;
    out->sky = sky;
    out->objects[0].shape = shape;
    out->objects[0].colour = colour;
    out->objects[0].material = material;
    draw_layout(&r, out);
    cn_scene_caption(out, 0, out->caption, sizeof out->caption);
    return CN_OK;
}

/* --- captions --------------------------------------------------------------------------------- */

/* %O the objects, %G the ground, %S the sky. */
static const struct {
    const char *text;
    bool say_matte; /* plain otherwise */
} forms[] = {
    {"%O on %G ground under a %S sky", false},
    {"a photo of %O on %G ground under a %S sky", true},
    {"a picture of %O on %G ground, %S sky", false},
    {"%O on %G ground, %S sky", true},
    {"under a %S sky, %O on %G ground", false},
    {"%G ground and a %S sky with %O", false},
    {"an image of %O", true},
    {"%O", false},
};

int cn_scene_caption_count(void)
{
    return (int)CN_COUNT(forms);
}

static void append(char *out, size_t cap, const char *text)
{
    const size_t used = strlen(out), n = strlen(text), room = cap - used - 1;
    memcpy(out + used, text, n < room ? n : room);
    out[used + (n < room ? n : room)] = 0;
}

static void append_objects(const cn_scene *s, bool say_matte, char *out, size_t cap)
{
    for (int i = 0; i < s->n_objects; i++) {
        const cn_scene_object *o = &s->objects[i];
        const bool material = o->material != CN_MATERIAL_MATTE || say_matte;
        if (i > 0) append(out, cap, i + 1 == s->n_objects ? " and " : ", ");
        append(out, cap, !material && o->colour == CN_COLOUR_ORANGE ? "an " : "a ");
        if (material) {
            append(out, cap, material_names[o->material]);
            append(out, cap, " ");
        }
        append(out, cap, colour_names[o->colour]);
        append(out, cap, " ");
        append(out, cap, shape_names[o->shape]);
    }
}

void cn_scene_caption(const cn_scene *scene, int form, char *out, size_t cap)
{
    if (cap == 0) return;
    out[0] = 0;
    const int count = cn_scene_caption_count();
    const int f = (form % count + count) % count;
    for (const char *p = forms[f].text; *p; p++) {
        if (p[0] != '%') {
            append(out, cap, (char[]){*p, 0});
            continue;
        }
        p++;
        if (*p == 'O') append_objects(scene, forms[f].say_matte, out, cap);
        if (*p == 'G') append(out, cap, ground_names[scene->ground]);
        if (*p == 'S') append(out, cap, sky_names[scene->sky]);
    }
}
