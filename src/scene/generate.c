/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - draws a scene's description.
 *
 * Everything follows from (seed, index) through one 64-bit counter generator, so any scene can be
 * made without those before it. Objects of a scene have different colours, so that a caption binds
 * each colour to one thing; they are kept inside the picture and nearly clear of each other, or
 * stand behind or on one another where that is the relation.
 */
#include "scene/parts.h"

#include <string.h>

/* --- the generator: splitmix64 --------------------------------------------------------------- */

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

/* --- what there is --------------------------------------------------------------------------- */

static bool is_any(int value)
{
    return value == CN_SCENE_ANY;
}

static bool carries(int shape)
{
    return shape == CN_SHAPE_CUBE || shape == CN_SHAPE_CYLINDER || shape == CN_SHAPE_TABLE;
}

static bool is_carried(int shape)
{
    return shape <= CN_SHAPE_TORUS_KNOT;
}

static int draw_shape(draw *r, bool person)
{
    static const int weight[CN_SHAPE_COUNT] = {9, 9, 9, 9, 9, 9, 8, 6, 6, 7, 7, 6, 22};
    int all = 0, shape = 0;
    const int n = person ? CN_SHAPE_COUNT : CN_SHAPE_PERSON;
    for (int i = 0; i < n; i++) all += weight[i];
    int d = draw_below(r, all);
    while (d >= weight[shape]) d -= weight[shape++];
    return shape;
}

static int draw_relation(draw *r, const cn_scene_request *q)
{
    if (!is_any(q->relation)) return q->relation;
    if (q->n_objects < 2) return CN_RELATION_NONE;
    const int d = draw_below(r, 100), a = q->objects[0].shape, b = q->objects[1].shape;
    const bool can_carry = (is_any(a) || is_carried(a)) && (is_any(b) || carries(b));
    if (d < 28 && can_carry) return CN_RELATION_ON;
    if (q->n_objects > 2) return CN_RELATION_NONE;
    return d < 54 ? CN_RELATION_IN_FRONT_OF + draw_below(r, 2)
                  : CN_RELATION_LEFT_OF + draw_below(r, 2);
}

static void draw_shapes(draw *r, const cn_scene_request *q, cn_scene *s)
{
    static const int carriers[] = {CN_SHAPE_CUBE, CN_SHAPE_CUBE, CN_SHAPE_CYLINDER, CN_SHAPE_TABLE,
                                   CN_SHAPE_TABLE};
    int people = 0;
    for (int i = 0; i < s->n_objects; i++) {
        cn_scene_object *o = &s->objects[i];
        o->shape = q->objects[i].shape;
        if (is_any(o->shape)) {
            if (s->relation == CN_RELATION_ON && i == 0)
                o->shape = draw_below(r, CN_SHAPE_TORUS_KNOT + 1);
            else if (s->relation == CN_RELATION_ON && i == 1)
                o->shape = carriers[draw_below(r, (int)CN_COUNT(carriers))];
            else
                o->shape = draw_shape(r, people < (s->n_objects == 2 ? 2 : 1));
        }
        people += o->shape == CN_SHAPE_PERSON;
    }
}

static int draw_material(draw *r, const cn_scene_object *o)
{
    static const int table[] = {CN_MATERIAL_MATTE,     CN_MATERIAL_MATTE,    CN_MATERIAL_MATTE,
                                CN_MATERIAL_MATTE,     CN_MATERIAL_SHINY,    CN_MATERIAL_SHINY,
                                CN_MATERIAL_SHINY,     CN_MATERIAL_METALLIC, CN_MATERIAL_METALLIC,
                                CN_MATERIAL_STRIPED,   CN_MATERIAL_STRIPED,  CN_MATERIAL_CHECKERED,
                                CN_MATERIAL_CHECKERED, CN_MATERIAL_DOTTED,   CN_MATERIAL_DOTTED};
    const int m = table[draw_below(r, (int)CN_COUNT(table))];
    if (o->shape >= CN_SHAPE_TREE && o->shape != CN_SHAPE_TABLE) return CN_MATERIAL_MATTE;
    /* Too slender for a pattern. */
    if (o->shape == CN_SHAPE_TABLE && m > CN_MATERIAL_METALLIC) return CN_MATERIAL_MATTE;
    /* White and black metal would be silver and gunmetal, other names altogether. */
    const bool plain = o->colour == CN_COLOUR_WHITE || o->colour == CN_COLOUR_BLACK;
    return plain && m == CN_MATERIAL_METALLIC ? CN_MATERIAL_SHINY : m;
}

/* A colour that nothing else has, here or in what is still asked for. */
static int draw_colour(draw *r, const cn_scene *s, const bool *taken)
{
    int colour;
    do colour = draw_below(r, CN_COLOUR_COUNT);
    while (taken[colour] || !cn_scene_allowed(colour, s->ground, s->sky));
    return colour;
}

static void draw_colours(draw *r, const cn_scene_request *q, cn_scene *s)
{
    bool taken[CN_COLOUR_COUNT] = {false};
    for (int i = 0; i < s->n_objects; i++) {
        if (!is_any(q->objects[i].colour)) taken[q->objects[i].colour] = true;
        if (!is_any(q->objects[i].trousers)) taken[q->objects[i].trousers] = true;
    }
    for (int i = 0; i < s->n_objects; i++) {
        cn_scene_object *o = &s->objects[i];
        o->colour = q->objects[i].colour;
        if (is_any(o->colour)) o->colour = draw_colour(r, s, taken);
        taken[o->colour] = true;
        o->material = q->objects[i].material;
        if (is_any(o->material)) o->material = draw_material(r, o);
        if (o->shape != CN_SHAPE_PERSON) continue;
        o->trousers = q->objects[i].trousers;
        if (is_any(o->trousers)) o->trousers = draw_colour(r, s, taken);
        taken[o->trousers] = true;
        o->posture = q->objects[i].posture;
        if (is_any(o->posture)) o->posture = draw_below(r, CN_POSTURE_COUNT);
    }
}

/* --- where it stands ------------------------------------------------------------------------- */

/* Objects as they are placed: the subject of the relation first, its target second. */
typedef struct layout {
    cn_scene *scene;
    cn_camera camera;
    float shrink;
    float boxes[CN_SCENE_MAX_OBJECTS][4];
    cn_object objects[CN_SCENE_MAX_OBJECTS];
} layout;

static void draw_camera(draw *r, cn_scene *s)
{
    s->tan_half_fov = draw_range(r, 0.36f, 0.46f);
    s->camera_height = draw_range(r, 1.9f, 3.1f);
    /* Where the horizon lies, from the top of the picture. */
    const float horizon = draw_range(r, 0.20f, 0.38f);
    s->camera_pitch = cn_angle(s->tan_half_fov * (1 - 2 * horizon), 1);
    const float side = draw_below(r, 2) ? 1.0f : -1.0f;
    s->light_azimuth = side * draw_range(r, 0.45f, 1.15f);
    s->light_elevation = draw_range(r, 0.75f, 1.05f);
}

static float draw_yaw(draw *r, int shape)
{
    switch (shape) {
    /* A ring or knot seen from its edge is none, an arch neither. */
    case CN_SHAPE_RING:
    case CN_SHAPE_TORUS_KNOT:
    case CN_SHAPE_ARCH: return draw_range(r, -0.75f, 0.75f);
    case CN_SHAPE_STAIRS: {
        const float side = draw_below(r, 2) ? 1.0f : -1.0f;
        return side * draw_range(r, 0.3f, 1.45f);
    }
    /* Most people face the viewer, one in eight shows the back. */
    case CN_SHAPE_PERSON: {
        const float turn = draw_range(r, -0.85f, 0.85f);
        return draw_below(r, 8) ? turn : turn + 3.14159265f;
    }
    default: return draw_range(r, -1.57f, 1.57f);
    }
}

static void draw_object(draw *r, const layout *l, int i)
{
    /* Share of the picture's width, by how many stand in it. */
    static const float lo[] = {0, 0.42f, 0.31f, 0.26f}, hi[] = {0, 0.62f, 0.45f, 0.35f};
    static const float reach[] = {0, 0.35f, 0.72f, 0.78f};
    const cn_scene *s = l->scene;
    cn_scene_object *o = &l->scene->objects[i];
    const int n = s->n_objects;
    float share = l->shrink * draw_range(r, lo[n], hi[n]);
    o->z = draw_range(r, 4.2f, n == 1 ? 6.0f : 7.5f);
    float wide = reach[n];
    if (s->relation == CN_RELATION_IN_FRONT_OF || s->relation == CN_RELATION_BEHIND) {
        const bool front = (i == 0) == (s->relation == CN_RELATION_IN_FRONT_OF);
        o->z = front ? draw_range(r, 4.0f, 5.0f) : draw_range(r, 6.0f, 8.5f);
        if (front) share *= 0.8f;
        wide = 0.55f;
    }
    /* What stands on another needs room above. */
    if (s->relation == CN_RELATION_ON && i == 1) {
        share *= o->shape == CN_SHAPE_TABLE ? 1.2f : 0.95f;
        wide = n == 2 ? 0.4f : wide;
    }
    const float view = s->tan_half_fov * o->z;
    o->size = share * view;
    o->x = view * draw_range(r, -wide, wide);
    o->y = 0;
    o->aspect = draw_range(r, 0.85f, 1.15f);
    if (s->relation == CN_RELATION_ON && i == 1) o->aspect = draw_range(r, 0.55f, 0.85f);
    o->yaw = draw_yaw(r, o->shape);
    o->variant = (uint32_t)draw_u64(r);
}

/* Upon the target, which is placed already. */
static void draw_upon(draw *r, layout *l)
{
    const cn_object *base = &l->objects[1];
    cn_scene_object *o = &l->scene->objects[0];
    const cn_scene_object *under = &l->scene->objects[1];
    cn_object unit;
    o->size = 1;
    o->aspect = draw_range(r, 0.85f, 1.15f);
    o->x = o->y = o->z = 0;
    o->yaw = draw_yaw(r, o->shape);
    o->variant = (uint32_t)draw_u64(r);
    cn_object_build(o, &unit);
    const float flat = least(base->flat_x, base->flat_z), share = draw_range(r, 0.70f, 0.96f);
    o->size = share * flat / unit.radius;
    const float room = 0.7f * (1 - share) * flat;
    o->x = under->x + room * draw_range(r, -1, 1);
    o->z = under->z + room * draw_range(r, -1, 1);
    o->y = under->y + base->top;
}

static bool inside_picture(const float b[4])
{
    return b[0] > -0.93f && b[2] < 0.93f && b[1] > -0.93f && b[3] < 0.93f;
}

/* How much of b's width lies behind or before a's. */
static float overlap(const float a[4], const float b[4], int axis)
{
    return most(0, least(a[axis + 2], b[axis + 2]) - most(a[axis], b[axis]));
}

static bool boxes_clear(const float a[4], const float b[4])
{
    return overlap(a, b, 0) < 0.12f * least(a[2] - a[0], b[2] - b[0]);
}

/* The one behind is seen mostly, but the one in front hides some of it or stands plainly before it.
 */
static bool one_before_other(const float front[4], const float back[4])
{
    const float w = overlap(front, back, 0), h = overlap(front, back, 1);
    const float narrow = least(front[2] - front[0], back[2] - back[0]);
    const float area = (back[2] - back[0]) * (back[3] - back[1]);
    return w > 0.25f * narrow && w * h < 0.34f * area && w * h > 0.03f * area;
}

static bool related(const layout *l)
{
    const float *a = l->boxes[0], *b = l->boxes[1];
    switch (l->scene->relation) {
    case CN_RELATION_LEFT_OF: return boxes_clear(a, b) && a[0] + a[2] < b[0] + b[2];
    case CN_RELATION_RIGHT_OF: return boxes_clear(a, b) && a[0] + a[2] > b[0] + b[2];
    case CN_RELATION_IN_FRONT_OF: return one_before_other(a, b);
    case CN_RELATION_BEHIND: return one_before_other(b, a);
    default: return true;
    }
}

/* Inside the picture, wholly, and clear of what is placed already. */
static bool fits(layout *l, int i, const bool *placed)
{
    const cn_scene *s = l->scene;
    cn_object_build(&s->objects[i], &l->objects[i]);
    if (!cn_object_bounds(&l->objects[i], &l->camera, l->boxes[i])) return false;
    if (!inside_picture(l->boxes[i])) return false;
    for (int k = 0; k < s->n_objects; k++) {
        if (!placed[k]) continue;
        const bool pair = i + k == 1 && s->relation != CN_RELATION_NONE;
        if (pair && s->relation == CN_RELATION_ON) continue;
        const float dx = s->objects[i].x - s->objects[k].x, dz = s->objects[i].z - s->objects[k].z;
        const float apart = l->objects[i].radius + l->objects[k].radius;
        if (dx * dx + dz * dz < apart * apart) return false;
        if (pair ? !related(l) : !boxes_clear(l->boxes[i], l->boxes[k])) return false;
    }
    return true;
}

static bool try_layout(draw *r, layout *l)
{
    static const int order[] = {1, 0, 2};
    const int n = l->scene->n_objects;
    bool placed[CN_SCENE_MAX_OBJECTS] = {false};
    int done = 0;
    draw_camera(r, l->scene);
    cn_camera_init(l->scene, &l->camera);
    for (int tries = 0; done < n && tries < 24; tries++) {
        const int i = n == 1 ? 0 : order[done];
        if (l->scene->relation == CN_RELATION_ON && i == 0)
            draw_upon(r, l);
        else
            draw_object(r, l, i);
        if (!fits(l, i, placed)) continue;
        placed[i] = true;
        done++;
    }
    return done == n;
}

static void swap_objects(cn_scene *s, int a, int b)
{
    const cn_scene_object swap = s->objects[a];
    s->objects[a] = s->objects[b];
    s->objects[b] = swap;
    s->subject = s->subject == a ? b : s->subject == b ? a : s->subject;
    s->target = s->target == a ? b : s->target == b ? a : s->target;
}

static float screen_x(const cn_scene_object *o)
{
    return o->x / o->z;
}

/* Tries camera and places anew until all fit, a little smaller each time. What is to stand before
 * something else must hide some of it, which small objects don't: below half the size it starts
 * over. Of 200,000 scenes none took 24 tries. */
static void draw_layout(draw *r, cn_scene *s)
{
    layout l = {.scene = s, .shrink = 1};
    while (!try_layout(r, &l)) l.shrink = l.shrink < 0.5f ? 1 : l.shrink * 0.985f;
    s->subject = 0;
    s->target = s->n_objects > 1 ? 1 : 0;
    for (int i = 1; i < s->n_objects; i++)
        for (int k = i; k > 0 && screen_x(&s->objects[k]) < screen_x(&s->objects[k - 1]); k--)
            swap_objects(s, k, k - 1);
}

/* --- scenes ---------------------------------------------------------------------------------- */

static void generate(draw *r, const cn_scene_request *q, cn_scene *s)
{
    memset(s, 0, sizeof *s);
    s->n_objects = q->n_objects;
    s->ground = is_any(q->ground) ? draw_below(r, CN_GROUND_COUNT) : q->ground;
    s->sky = is_any(q->sky) ? draw_below(r, CN_SKY_COUNT) : q->sky;
    s->relation = draw_relation(r, q);
    draw_shapes(r, q, s);
    draw_colours(r, q, s);
    draw_layout(r, s);
}

void cn_scene_request_init(int n_objects, cn_scene_request *out)
{
    *out = (cn_scene_request){.n_objects = n_objects,
                              .ground = CN_SCENE_ANY,
                              .sky = CN_SCENE_ANY,
                              .relation = CN_SCENE_ANY};
    for (int i = 0; i < CN_SCENE_MAX_OBJECTS; i++) {
        out->objects[i].shape = out->objects[i].colour = out->objects[i].material = CN_SCENE_ANY;
        out->objects[i].trousers = out->objects[i].posture = CN_SCENE_ANY;
    }
}

/* shape: the first object's, or any. */
static void generate_any(draw *r, int n_objects, int shape, cn_scene *out)
{
    cn_scene_request any;
    cn_scene_request_init(n_objects, &any);
    any.objects[0].shape = shape;
    const int form = draw_below(r, cn_scene_caption_count());
    generate(r, &any, out);
    cn_scene_caption(out, form, out->caption, sizeof out->caption);
}

void cn_scene_generate(uint64_t seed, uint64_t index, cn_scene *out)
{
    cn_scene_generate_with(seed, index, CN_SCENE_ANY, out);
}

bool cn_scene_is_simple(const cn_scene *scene)
{
    for (int i = 0; i < scene->n_objects; i++)
        if (scene->objects[i].shape >= CN_SCENE_SIMPLE_SHAPES ||
            scene->objects[i].material > CN_MATERIAL_METALLIC)
            return false;
    return scene->relation == CN_RELATION_NONE;
}

void cn_scene_generate_simple(uint64_t seed, uint64_t index, cn_scene *out)
{
    for (uint64_t k = 0; k < CN_SCENE_SIMPLE_TRIES; k++) {
        cn_scene_generate(seed, index + k, out);
        if (cn_scene_is_simple(out)) break;
    }
    cn_scene_caption(out, 0, out->caption, sizeof out->caption);
}

void cn_scene_generate_with(uint64_t seed, uint64_t index, int shape, cn_scene *out)
{
    draw r = draw_start(seed, index);
    const int d = draw_below(&r, 100), any = cn_scene_shape_name(shape) ? shape : CN_SCENE_ANY;
    generate_any(&r, d < 50 ? 1 : d < 85 ? 2 : 3, any, out);
}

void cn_scene_generate_n(uint64_t seed, uint64_t index, int n_objects, cn_scene *out)
{
    draw r = draw_start(seed, index);
    generate_any(&r, CN_MAX(1, CN_MIN(n_objects, CN_SCENE_MAX_OBJECTS)), CN_SCENE_ANY, out);
}

static cn_status check_choice(cn_ctx *ctx, const char *what, int value, int count)
{
    if (value >= CN_SCENE_ANY && value < count) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "scene: %s %d is out of range, 0 to %d are known", what, value,
                   count - 1);
}

static cn_status check_request(cn_ctx *ctx, const cn_scene_request *q)
{
    if (q->n_objects < 1 || q->n_objects > CN_SCENE_MAX_OBJECTS)
        return cn_fail(ctx, CN_EINVAL, "scene: %d objects, expected 1 to %d", q->n_objects,
                       CN_SCENE_MAX_OBJECTS);
    CN_TRY(check_choice(ctx, "ground", q->ground, CN_GROUND_COUNT));
    CN_TRY(check_choice(ctx, "sky", q->sky, CN_SKY_COUNT));
    CN_TRY(check_choice(ctx, "relation", q->relation, CN_RELATION_COUNT));
    for (int i = 0; i < q->n_objects; i++) {
        CN_TRY(check_choice(ctx, "shape", q->objects[i].shape, CN_SHAPE_COUNT));
        CN_TRY(check_choice(ctx, "colour", q->objects[i].colour, CN_COLOUR_COUNT));
        CN_TRY(check_choice(ctx, "material", q->objects[i].material, CN_MATERIAL_COUNT));
        CN_TRY(check_choice(ctx, "trousers' colour", q->objects[i].trousers, CN_COLOUR_COUNT));
        CN_TRY(check_choice(ctx, "posture", q->objects[i].posture, CN_POSTURE_COUNT));
    }
    if (q->relation <= CN_RELATION_NONE) return CN_OK;
    if (q->n_objects == 1 || (q->n_objects == 3 && q->relation != CN_RELATION_ON))
        return cn_fail(ctx, CN_EINVAL, "scene: \"%s\" relates two objects; there are %d",
                       cn_scene_relation_name(q->relation), q->n_objects);
    const int a = q->objects[0].shape, b = q->objects[1].shape;
    if (q->relation != CN_RELATION_ON ||
        ((is_any(a) || is_carried(a)) && (is_any(b) || carries(b))))
        return CN_OK;
    return cn_fail(
        ctx, CN_EINVAL, "scene: a %s can't stand on a %s; solids can, on a cube, cylinder or table",
        is_any(a) ? "shape" : cn_scene_shape_name(a), is_any(b) ? "shape" : cn_scene_shape_name(b));
}

cn_status cn_scene_compose(cn_ctx *ctx, const cn_scene_request *request, uint64_t seed,
                           cn_scene *out)
{
    CN_TRY(check_request(ctx, request));
    draw r = draw_start(seed, 0);
    generate(&r, request, out);
    cn_scene_caption(out, 0, out->caption, sizeof out->caption);
    return CN_OK;
}

cn_status cn_scene_prompt(cn_ctx *ctx, int shape, int colour, int material, int ground, int sky,
                          uint64_t seed, cn_scene *out)
{
    cn_scene_request q;
    cn_scene_request_init(1, &q);
    q.objects[0].shape = shape;
    q.objects[0].colour = colour;
    q.objects[0].material = material;
    q.ground = ground;
    q.sky = sky;
    return cn_scene_compose(ctx, &q, seed, out);
}
