/* SPDX-License-Identifier: Apache-2.0 */
/* shapes.c - the parts of each shape, standing on its base.
 *
 * Lengths are in units of the object's size; `tall` stretches what has a height of its own.
 */
#include "scene/parts.h"

static const float PI = 3.14159265f;

vec3 cn_object_to_world(const cn_object *o, vec3 p)
{
    const vec3 q =
        v3(o->cos_yaw * p.x + o->sin_yaw * p.z, p.y, -o->sin_yaw * p.x + o->cos_yaw * p.z);
    return vmad(o->base, q, o->size);
}

vec3 cn_object_turn_local(const cn_object *o, vec3 d)
{
    return v3(o->cos_yaw * d.x - o->sin_yaw * d.z, d.y, o->sin_yaw * d.x + o->cos_yaw * d.z);
}

vec3 cn_object_to_local(const cn_object *o, vec3 p)
{
    return vscale(cn_object_turn_local(o, vsub(p, o->base)), 1 / o->size);
}

static vec3 rotated(const cn_object *o, vec3 d)
{
    return v3(o->cos_yaw * d.x + o->sin_yaw * d.z, d.y, -o->sin_yaw * d.x + o->cos_yaw * d.z);
}

/* --- pieces ---------------------------------------------------------------------------------- */

static cn_part *ball(cn_object *o, vec3 c, float r)
{
    const vec3 w = cn_object_to_world(o, c);
    return cn_add_capsule(o, w, w, r * o->size);
}

static cn_part *frustum(cn_object *o, vec3 bottom, float height, float r0, float r1)
{
    return cn_add_frustum(o, cn_object_to_world(o, bottom), height * o->size, r0 * o->size,
                          r1 * o->size);
}

/* Corners are numbered by bits: 1 right, 2 up, 4 back. */
static const unsigned char box_faces[6][3] = {{1, 3, 5}, {0, 4, 2}, {2, 6, 3},
                                              {0, 1, 4}, {4, 5, 6}, {0, 2, 1}};

static cn_part *hexahedron(cn_object *o, const vec3 local[8])
{
    vec3 corner[8];
    for (int i = 0; i < 8; i++) corner[i] = cn_object_to_world(o, local[i]);
    return cn_add_polyhedron(o, corner, 8, box_faces, 6);
}

static cn_part *box(cn_object *o, vec3 lo, vec3 hi)
{
    vec3 c[8];
    for (int i = 0; i < 8; i++)
        c[i] = v3(i & 1 ? hi.x : lo.x, i & 2 ? hi.y : lo.y, i & 4 ? hi.z : lo.z);
    return hexahedron(o, c);
}

static void blob(cn_object *o, vec3 c, float r)
{
    o->blobs[o->n_blobs++] = (cn_blob){cn_object_to_world(o, c), r * o->size};
}

/* --- chains ---------------------------------------------------------------------------------- */

typedef void (*curve_fn)(float angle, vec3 *point, vec3 *tangent);

static const float RING_TUBE = 0.27f, KNOT_TUBE = 0.155f;

static void ring_curve(float angle, vec3 *point, vec3 *tangent)
{
    const float major = 1 - RING_TUBE, c = cn_cosine(angle), s = cn_sine(angle);
    *point = v3(major * c, 1 + major * s, 0);
    *tangent = v3(-s, c, 0);
}

/* A trefoil: twice around while three times through. */
static void knot_curve(float angle, vec3 *point, vec3 *tangent)
{
    const float thick = 0.28f, major = 1 - thick - KNOT_TUBE;
    const float c2 = cn_cosine(2 * angle), s2 = cn_sine(2 * angle);
    const float c3 = cn_cosine(3 * angle + PI / 2), s3 = cn_sine(3 * angle + PI / 2);
    const float r = major + thick * c3;
    *point = v3(r * c2, 1 + r * s2, thick * s3);
    *tangent = vunit(
        v3(-3 * thick * s3 * c2 - 2 * r * s2, -3 * thick * s3 * s2 + 2 * r * c2, 3 * thick * c3));
}

static void chain(cn_object *o, curve_fn curve, int links, float tube)
{
    vec3 point, tangent, next, next_tangent;
    curve(0, &point, &tangent);
    for (int i = 0; i < links; i++) {
        curve((float)(i + 1) * 2 * PI / (float)links, &next, &next_tangent);
        cn_part *p = cn_add_capsule(o, cn_object_to_world(o, point), cn_object_to_world(o, next),
                                    tube * o->size);
        if (!p) return;
        p->tangent_a = rotated(o, tangent);
        p->tangent_b = rotated(o, next_tangent);
        p->along_a = (float)i / (float)links;
        p->along_b = (float)(i + 1) / (float)links;
        point = next;
        tangent = next_tangent;
    }
}

/* --- shapes ---------------------------------------------------------------------------------- */

static void build_pyramid(cn_object *o, float tall)
{
    static const unsigned char faces[5][3] = {
        {1, 0, 4}, {2, 1, 4}, {3, 2, 4}, {0, 3, 4}, {0, 1, 2}};
    const float h = 0.88f;
    const vec3 local[5] = {{-h, 0, -h}, {h, 0, -h}, {h, 0, h}, {-h, 0, h}, {0, 2 * h * tall, 0}};
    vec3 corner[5];
    for (int i = 0; i < 5; i++) corner[i] = cn_object_to_world(o, local[i]);
    cn_add_polyhedron(o, corner, 5, faces, 5);
}

/* Two pillars, and wedges of a half ring on them. */
static void build_arch(cn_object *o, float tall)
{
    enum { WEDGES = 20 };
    const float out = 0.95f, in = 0.56f, deep = 0.34f, high = 0.85f * tall;
    box(o, v3(-out, 0, -deep), v3(-in, high, deep));
    box(o, v3(in, 0, -deep), v3(out, high, deep));
    for (int i = 0; i < WEDGES; i++) {
        vec3 c[8];
        /* Its local right is outwards, and up along the ring, so that faces 0 and 1 are the round
         * ones. */
        for (int k = 0; k < 8; k++) {
            const float angle = (float)(i + (k & 2 ? 1 : 0)) * PI / WEDGES, r = k & 1 ? out : in;
            c[k] = v3(r * cn_cosine(angle), high + r * cn_sine(angle), k & 4 ? deep : -deep);
        }
        cn_part *p = hexahedron(o, c);
        if (!p) return;
        p->round = true;
        p->axis_point = cn_object_to_world(o, v3(0, high, 0));
        p->axis = rotated(o, v3(0, 0, 1));
    }
    blob(o, v3(-0.75f, 0.4f, 0), 0.42f);
    blob(o, v3(0.75f, 0.4f, 0), 0.42f);
}

/* Rises away from the viewer at yaw 0. */
static void build_stairs(cn_object *o, float tall)
{
    enum { STEPS = 4 };
    for (int i = 0; i < STEPS; i++) {
        const float front = -0.85f + 1.7f * (float)i / STEPS;
        box(o, v3(-0.75f, 0, front),
            v3(0.75f, 1.4f * tall * (float)(i + 1) / STEPS,
               i + 1 < STEPS ? front + 1.7f / STEPS : 0.85f));
    }
    blob(o, v3(0, 0.45f, 0.2f), 0.75f);
}

static void paint_plain(cn_part *p, vec3 colour)
{
    if (!p) return;
    p->paint = CN_PAINT_PLAIN;
    p->colour = colour;
}

static void build_tree(cn_object *o, float tall, uint32_t variant)
{
    paint_plain(frustum(o, v3(0, 0, 0), 0.95f * tall, 0.15f, 0.11f), v3(0.165f, 0.085f, 0.04f));
    if (variant % 2) {
        frustum(o, v3(0, 0.50f * tall, 0), 0.95f * tall, 0.82f, 0.0f);
        frustum(o, v3(0, 1.02f * tall, 0), 0.85f * tall, 0.66f, 0.0f);
        frustum(o, v3(0, 1.50f * tall, 0), 0.80f * tall, 0.48f, 0.0f);
    } else {
        const float lean = (float)(variant / 2 % 64) * (2 * PI / 64);
        for (int i = 0; i < 3; i++) {
            const float a = lean + (float)i * 2 * PI / 3;
            ball(o, v3(0.36f * cn_cosine(a), 1.22f * tall, 0.36f * cn_sine(a)), 0.46f);
        }
        ball(o, v3(0, 1.62f * tall, 0), 0.52f);
    }
    blob(o, v3(0, 1.3f * tall, 0), 0.7f);
}

static void build_house(cn_object *o, float tall)
{
    static const unsigned char roof_faces[5][3] = {
        {2, 3, 5}, {0, 4, 1}, {0, 2, 4}, {1, 5, 3}, {0, 1, 2}};
    const float wide = 0.82f, deep = 0.66f, wall = 1.02f * tall, ridge = 1.66f * tall, eave = 0.12f;
    cn_part *walls = box(o, v3(-wide, 0, -deep), v3(wide, wall, deep));
    if (walls) walls->paint = CN_PAINT_WALL;
    const float w = wide + eave, d = deep + eave, low = wall - eave * (ridge - wall) / deep;
    const vec3 local[6] = {{-w, low, -d}, {w, low, -d},   {-w, low, d},
                           {w, low, d},   {-w, ridge, 0}, {w, ridge, 0}};
    vec3 corner[6];
    for (int i = 0; i < 6; i++) corner[i] = cn_object_to_world(o, local[i]);
    cn_part *roof = cn_add_polyhedron(o, corner, 6, roof_faces, 5);
    if (roof) roof->paint = CN_PAINT_ROOF;
    cn_part *chimney = box(o, v3(0.36f, wall, 0.10f), v3(0.56f, ridge + 0.12f, 0.30f));
    if (chimney) chimney->paint = CN_PAINT_ROOF;
    blob(o, v3(0, 0.5f, 0), 0.72f);
}

static void build_table(cn_object *o, float tall)
{
    const float wide = 0.95f, deep = 0.66f, leg = 0.13f, high = 1.05f * tall, thick = 0.14f;
    box(o, v3(-wide, high - thick, -deep), v3(wide, high, deep));
    for (int i = 0; i < 4; i++) {
        const float x = i & 1 ? wide - leg - 0.07f : -wide + 0.07f;
        const float z = i & 2 ? deep - leg - 0.07f : -deep + 0.07f;
        box(o, v3(x, 0, z), v3(x + leg, high - thick, z + leg));
    }
    blob(o, v3(0, 0.75f * high, 0), 0.62f);
    o->flat_x = wide * o->size;
    o->flat_z = deep * o->size;
}

static void build_parts(const cn_scene_object *object, cn_object *o)
{
    const float tall = object->aspect;
    switch (object->shape) {
    case CN_SHAPE_SPHERE:
        ball(o, v3(0, 1, 0), 1);
        blob(o, v3(0, 1, 0), 0.9f);
        break;
    case CN_SHAPE_CUBE:
        box(o, v3(-0.78f, 0, -0.78f), v3(0.78f, 1.56f, 0.78f));
        blob(o, v3(0, 0.7f, 0), 0.8f);
        o->flat_x = o->flat_z = 0.78f * o->size;
        break;
    case CN_SHAPE_CYLINDER:
        frustum(o, v3(0, 0, 0), 1.84f * tall, 0.78f, 0.78f);
        blob(o, v3(0, 0.7f * tall, 0), 0.8f);
        o->flat_x = o->flat_z = 0.78f * o->size;
        break;
    case CN_SHAPE_CONE:
        frustum(o, v3(0, 0, 0), 2.1f * tall, 0.92f, 0);
        blob(o, v3(0, 0.6f * tall, 0), 0.75f);
        break;
    case CN_SHAPE_RING:
        chain(o, ring_curve, 48, RING_TUBE);
        blob(o, v3(0, 0.3f, 0), 0.35f);
        blob(o, v3(0, 1, 0), 0.5f);
        break;
    case CN_SHAPE_PYRAMID:
        build_pyramid(o, tall);
        blob(o, v3(0, 0.5f * tall, 0), 0.72f);
        break;
    case CN_SHAPE_TORUS_KNOT:
        chain(o, knot_curve, 84, KNOT_TUBE);
        blob(o, v3(0, 0.8f, 0), 0.62f);
        break;
    case CN_SHAPE_ARCH: build_arch(o, tall); break;
    case CN_SHAPE_STAIRS: build_stairs(o, tall); break;
    case CN_SHAPE_TREE: build_tree(o, tall, object->variant); break;
    case CN_SHAPE_HOUSE: build_house(o, tall); break;
    case CN_SHAPE_TABLE: build_table(o, tall); break;
    default: cn_mannequin_build(object, o); break;
    }
}

/* How high and how far from the base's axis the part reaches. */
static void measure(cn_object *o, const cn_part *p)
{
    vec3 point[CN_PART_CORNERS] = {p->a, p->b};
    const int n = p->kind == CN_PART_POLYHEDRON ? p->n_corners : 2;
    for (int i = 0; i < n; i++) {
        const float r = p->kind == CN_PART_POLYHEDRON ? 0 : i ? p->top_radius : p->radius;
        const vec3 q = vsub(p->kind == CN_PART_POLYHEDRON ? p->corner[i] : point[i], o->base);
        o->top = most(o->top, p->kind == CN_PART_CAPSULE ? q.y + r : q.y);
        o->radius = most(o->radius, sqrtf(q.x * q.x + q.z * q.z) + r);
    }
}

void cn_object_build(const cn_scene_object *object, cn_object *out)
{
    out->n_parts = out->n_blobs = 0;
    out->flat_x = out->flat_z = out->top = out->radius = 0;
    out->base = v3(object->x, object->y, object->z);
    out->cos_yaw = cn_cosine(object->yaw);
    out->sin_yaw = cn_sine(object->yaw);
    out->size = object->size;
    build_parts(object, out);
    for (int i = 0; i < out->n_parts; i++) measure(out, &out->parts[i]);
}
