/* SPDX-License-Identifier: Apache-2.0 */
/* surface.c - plain colours, patterns, doors and windows, faces.
 *
 * Patterns count cells (u, v) on a surface: of chains along and around the curve, of balls by
 * longitude and latitude, of frusta around and up, else on the plane the surface faces. A pattern's
 * second colour is paler and takes at most half of the surface, so that the named one prevails.
 */
#include "scene/surface.h"

static const float TURN = 6.28318531f;

vec3 cn_display_light(const uint8_t rgb[3])
{
    const float k = 1.0f / 255, r = rgb[0] * k, g = rgb[1] * k, b = rgb[2] * k;
    return v3(r * r, g * g, b * b);
}

static vec3 named(int colour)
{
    uint8_t rgb[3];
    cn_scene_colour_rgb(colour, rgb);
    return cn_display_light(rgb);
}

void cn_paints_init(const cn_scene_object *object, cn_paints *out)
{
    static const uint8_t pale[3] = {246, 246, 244}, grey[3] = {158, 160, 164},
                         dark[3] = {98, 99, 104};
    out->material = object->material;
    out->colour = named(object->colour);
    out->trousers = named(object->trousers);
    out->second = cn_display_light(object->colour == CN_COLOUR_WHITE   ? grey
                                   : object->colour == CN_COLOUR_BLACK ? dark
                                                                       : pale);
    out->roof = vscale(out->colour, 0.36f);
    if (object->colour == CN_COLOUR_BLACK) out->roof = v3(0.055f, 0.055f, 0.06f);
}

/* --- patterns -------------------------------------------------------------------------------- */

typedef struct cells {
    float u, v;
    float across; /* cells in the row, where they close to a circle; else 0 */
} cells;

static cells chain_cells(const cn_object *o, const cn_part *part, vec3 p, vec3 n)
{
    const vec3 axis = vsub(part->b, part->a);
    const float share = clamp01(vdot(vsub(p, part->a), axis) / vdot(axis, axis));
    const float along = mixed(part->along_a, part->along_b, share);
    const vec3 flat = v3(o->sin_yaw, 0, o->cos_yaw);
    const vec3 tangent = vmix(part->tangent_a, part->tangent_b, share);
    const vec3 side = vcross(tangent, flat);
    /* A knot is about twice as long as a ring for its thickness. */
    const float per_curve = part->radius < 0.2f * o->size ? 28 : 14;
    return (cells){along * per_curve, (cn_angle(vdot(n, flat), vdot(n, side)) / TURN + 0.5f) * 4,
                   0};
}

static cells ball_cells(const cn_object *o, vec3 n)
{
    enum { ROWS = 6 };
    const vec3 m = cn_object_turn_local(o, n);
    const float flat = sqrtf(m.x * m.x + m.z * m.z);
    const float v = (cn_angle(m.y, flat) / TURN + 0.25f) * (2 * ROWS);
    return (cells){cn_angle(m.z, m.x) / TURN + 0.5f, v, 2 * ROWS};
}

static cells frustum_cells(const cn_object *o, vec3 local, vec3 n)
{
    if (n.y > 0.99f || n.y < -0.99f)
        return (cells){local.x * 2.2f + 20.5f, local.z * 2.2f + 20.5f, 0};
    const float u = cn_angle(local.z, local.x) / TURN + 0.5f;
    (void)o;
    return (cells){u, local.y * 2.2f, 10};
}

static cells plane_cells(const cn_object *o, vec3 local, vec3 n)
{
    const vec3 m = cn_object_turn_local(o, n);
    const float ax = fabsf(m.x), ay = fabsf(m.y), az = fabsf(m.z), scale = 2.4f;
    float u = local.x, v = local.y;
    if (ay > ax && ay > az)
        v = local.z;
    else if (ax > az)
        u = local.z;
    return (cells){u * scale + 20.5f, v * scale + 20.02f, 0};
}

static cells count_cells(const cn_object *o, const cn_part *part, vec3 p, vec3 n)
{
    if (vdot(part->tangent_a, part->tangent_a) > 0) return chain_cells(o, part, p, n);
    if (part->kind == CN_PART_CAPSULE) return ball_cells(o, n);
    const vec3 local = cn_object_to_local(o, p);
    if (part->kind == CN_PART_FRUSTUM) return frustum_cells(o, local, n);
    return plane_cells(o, local, n);
}

static bool second_in_stripes(const cn_object *o, const cn_part *part, vec3 p, vec3 n)
{
    /* Chains are ringed; all else has level stripes, and level faces go with the stripe below them.
     */
    if (vdot(part->tangent_a, part->tangent_a) > 0)
        return fraction(chain_cells(o, part, p, n).u) < 0.42f;
    const float y = cn_object_to_local(o, p).y;
    return fraction((y - 0.012f) * 2.1f + 0.35f) < 0.42f;
}

static bool second_in_checks(cells c)
{
    const float u = round_down(c.across > 0 ? c.u * c.across : c.u), v = round_down(c.v);
    return fraction(0.5f * (u + v)) > 0.25f;
}

static bool second_in_dots(const cn_part *part, cells c)
{
    const float row = round_down(c.v), v = c.v - row - 0.5f;
    float n = c.across, wide = 1;
    if (n > 0 && part->kind == CN_PART_CAPSULE) {
        /* Fewer dots towards a ball's poles, all equally large. */
        const float latitude = ((row + 0.5f) / n - 0.25f) * TURN, around = n * cn_cosine(latitude);
        n = most(round_down(around + 0.5f), 1);
        const float here = (c.v / c.across - 0.25f) * TURN;
        wide = c.across * cn_cosine(here) / n;
    }
    const float u = (n > 0 ? c.u * n : c.u) + 0.5f * fraction(0.5f * row);
    const float x = (fraction(u) - 0.5f) * wide;
    return x * x + v * v < 0.31f * 0.31f;
}

static bool is_second(const cn_paints *paints, const cn_object *o, const cn_part *part, vec3 p,
                      vec3 n)
{
    switch (paints->material) {
    case CN_MATERIAL_STRIPED: return second_in_stripes(o, part, p, n);
    case CN_MATERIAL_CHECKERED: return second_in_checks(count_cells(o, part, p, n));
    case CN_MATERIAL_DOTTED: return second_in_dots(part, count_cells(o, part, p, n));
    default: return false;
    }
}

/* --- houses and heads ------------------------------------------------------------------------ */

static bool within(float x, float y, float x0, float y0, float x1, float y1)
{
    return x > x0 && x < x1 && y > y0 && y < y1;
}

/* A door and two windows in front and behind, a window at each side. */
static cn_look wall_look(const cn_paints *paints, const cn_object *o, vec3 p, vec3 n)
{
    static const vec3 door = {0.13f, 0.062f, 0.03f}, glass = {0.60f, 0.70f, 0.78f};
    static const vec3 frame = {0.86f, 0.86f, 0.85f};
    const vec3 local = cn_object_to_local(o, p), m = cn_object_turn_local(o, n);
    cn_look look = {paints->colour, CN_MATERIAL_MATTE};
    const bool front = fabsf(m.z) > 0.5f;
    const float x = fabsf(front ? local.x : local.z), y = local.y;
    const float from = front ? 0.36f : -0.2f, to = front ? 0.64f : 0.2f;
    if (front && within(x, y, -1, -1, 0.17f, 0.62f)) return (cn_look){door, CN_MATERIAL_MATTE};
    if (within(x, y, from + 0.045f, 0.425f, to - 0.045f, 0.695f)) {
        look = (cn_look){glass, CN_MATERIAL_MATTE};
    } else if (within(x, y, from, 0.38f, to, 0.74f)) {
        look = (cn_look){frame, CN_MATERIAL_MATTE};
    }
    return look;
}

static cn_look head_look(const cn_part *part, vec3 p)
{
    const vec3 d = vscale(vsub(p, part->centre), 1 / part->radius);
    const float ahead = vdot(d, part->axis), up = vdot(d, part->axis_point);
    const float side = fabsf(vdot(d, vcross(part->axis, part->axis_point)));
    /* Hair above the forehead and down the back of the head. */
    if (up > 0.52f + 0.25f * ahead || ahead < -0.15f - 0.3f * most(-0.2f - up, 0))
        return (cn_look){part->second, CN_MATERIAL_MATTE};
    const float x = side - 0.38f, y = up - 0.10f;
    if (ahead > 0 && x * x + y * y < 0.135f * 0.135f)
        return (cn_look){{0.012f, 0.01f, 0.01f}, CN_MATERIAL_MATTE};
    return (cn_look){part->colour, CN_MATERIAL_MATTE};
}

cn_look cn_surface_look(const cn_paints *paints, const cn_object *object, const cn_part *part,
                        vec3 p, vec3 n)
{
    switch (part->paint) {
    case CN_PAINT_PLAIN: return (cn_look){part->colour, CN_MATERIAL_MATTE};
    case CN_PAINT_WALL: return wall_look(paints, object, p, n);
    case CN_PAINT_ROOF: return (cn_look){paints->roof, CN_MATERIAL_MATTE};
    case CN_PAINT_TROUSERS: return (cn_look){paints->trousers, CN_MATERIAL_MATTE};
    case CN_PAINT_HEAD: return head_look(part, p);
    default: break;
    }
    if (paints->material <= CN_MATERIAL_METALLIC)
        return (cn_look){paints->colour, paints->material};
    const bool second = is_second(paints, object, part, p, n);
    return (cn_look){second ? paints->second : paints->colour, CN_MATERIAL_MATTE};
}
